-- Documents that the last `verify` of their profile did not find there: what `retry --missing` sends again.
CREATE TABLE missing_document (
    job_id      INTEGER PRIMARY KEY REFERENCES job (id),
    document_id TEXT NOT NULL,
    found_at    INTEGER NOT NULL                 -- when its absence was found
) STRICT;

-- Documents of which the profile has more than one with the same images.
CREATE TABLE doubled_document (
    job_id       INTEGER PRIMARY KEY REFERENCES job (id),
    document_ids TEXT NOT NULL,                  -- all that were listed, as a JSON array, the job's own first
    found_at     INTEGER NOT NULL,
    resolved_at  INTEGER,                        -- since when only one is listed
    addendum     TEXT                            -- the file beside the receipt that names them
) STRICT;

-- When a person said that the document was removed on purpose: it is no longer expected in any list.
ALTER TABLE job ADD COLUMN removed_at INTEGER;
