-- What is known of documents whose answer was lost.

-- The ID that an answer had, also beside an error.
ALTER TABLE attempt ADD COLUMN remote_id TEXT;
-- The same of the answer that was lost, until the document is found.
ALTER TABLE job ADD COLUMN answered_id TEXT;
-- Lists beyond the bound that proved nothing.
ALTER TABLE job ADD COLUMN doubts INTEGER NOT NULL DEFAULT 0;
-- When the last list was asked for that did not show the job's document.
ALTER TABLE job ADD COLUMN unseen_at INTEGER;
-- A person said that the document was created, so no list need show it.
ALTER TABLE job ADD COLUMN released INTEGER NOT NULL DEFAULT 0 CHECK (released IN (0, 1));

-- `job.sent_at` is from now on since when a document can have been created at the latest: the end of its call.
CREATE INDEX job_in_doubt ON job (profile_id) WHERE creation = 'unknown';
CREATE INDEX job_created ON job (drop_id, ended_at) WHERE state = 'done' AND kind = 'document';

-- The longest times that were measured, in milliseconds; see absence.rs.
CREATE TABLE observed (
    account TEXT PRIMARY KEY,
    late_ms INTEGER NOT NULL,
    lag_ms  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
