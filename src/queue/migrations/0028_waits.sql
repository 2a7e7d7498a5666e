-- What waits, since when and until when, by small indexes, so that a status that people watch costs the same however many
-- jobs there are.
CREATE INDEX job_waiting ON job (waits, due_at) WHERE state = 'waiting';

ALTER TABLE drop_folder ADD COLUMN trouble_since INTEGER;
-- How long the manifest may wait before it is taken in without the files that are missing, in milliseconds; NULL: for ever.
ALTER TABLE arrival ADD COLUMN patience_ms INTEGER;
