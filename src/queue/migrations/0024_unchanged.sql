-- Entries of a list that were created before and are still the same have no jobs of their own: a list that grows by the
-- night would make a million of them each night. A row is a run of entries whose jobs have consecutive numbers.
CREATE TABLE unchanged_entry (
    batch_id    INTEGER NOT NULL REFERENCES batch (id),
    entry_index INTEGER NOT NULL,                -- of the first entry
    job_id      INTEGER NOT NULL REFERENCES job (id), -- that created the first
    entries     INTEGER NOT NULL CHECK (entries > 0),
    PRIMARY KEY (batch_id, entry_index)
) STRICT, WITHOUT ROWID;

ALTER TABLE batch ADD COLUMN entries INTEGER;    -- how many it will have, where that is known before
ALTER TABLE batch ADD COLUMN unchanged INTEGER NOT NULL DEFAULT 0; -- how many there are
ALTER TABLE batch ADD COLUMN gone INTEGER;       -- entries of the list when it was last taken in that are not in it now
ALTER TABLE batch ADD COLUMN gone_jobs TEXT;     -- the jobs of the first of them, as a JSON array
