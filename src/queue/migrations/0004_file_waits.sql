-- For how long a job has waited for a file, without anything else in between, in milliseconds: apart from its tries with the
-- API, so that neither uses up the patience of the other.
ALTER TABLE job ADD COLUMN file_ms INTEGER NOT NULL DEFAULT 0;
