-- Where files lie once they were put away, and what is needed to purge them. NULL: where the manifest says.
ALTER TABLE upload ADD COLUMN lies_root TEXT;    -- an absolute folder
ALTER TABLE upload ADD COLUMN lies_path TEXT;    -- beneath it
ALTER TABLE upload ADD COLUMN seen TEXT;         -- the file's identity when it was checked, where that can be relied on
ALTER TABLE batch ADD COLUMN lies_root TEXT;     -- the same of the manifest
ALTER TABLE batch ADD COLUMN lies_path TEXT;
ALTER TABLE batch ADD COLUMN receipt_group TEXT; -- who may read its receipt
ALTER TABLE batch ADD COLUMN purged_at INTEGER;  -- when its files were removed from the done folder
ALTER TABLE drop_folder ADD COLUMN watching TEXT; -- how changes in its folder are noticed, for people

CREATE INDEX batch_unpurged ON batch (drop_id, finished_at)
    WHERE state = 'closed' AND shelf IS NOT NULL AND purged_at IS NULL;

-- The files that refused entries name, so that a manifest does not take them from one that is not settled.
CREATE TABLE invalid_path (
    path_key INTEGER NOT NULL,
    batch_id INTEGER NOT NULL REFERENCES batch (id),
    PRIMARY KEY (path_key, batch_id)
) STRICT, WITHOUT ROWID;
