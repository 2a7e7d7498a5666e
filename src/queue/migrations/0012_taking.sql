-- Where the files of a batch are from its taking until it is closed: beneath work_root, at work_path and then the path that
-- each had in the drop. NULL: where the manifest says.
ALTER TABLE batch ADD COLUMN work_root TEXT;
ALTER TABLE batch ADD COLUMN work_path TEXT;

-- Manifests that are being moved into the work folder. A row is written before the first rename, and goes when all of the
-- manifest's entries are in the queue, or when everything is back in the drop.
CREATE TABLE taking (
    batch_id        INTEGER PRIMARY KEY,         -- the number of the batch that is to become of it
    drop_id         INTEGER NOT NULL REFERENCES drop_folder (id),
    manifest        TEXT NOT NULL,               -- relative to root
    manifest_file   TEXT NOT NULL,               -- its identity: device, inode, size, times
    manifest_sha256 BLOB NOT NULL CHECK (length(manifest_sha256) = 32),
    marker          TEXT,                        -- its done marker, relative to root, where one was there
    marker_file     TEXT,
    root            TEXT NOT NULL,               -- the drop's folder
    work_root       TEXT NOT NULL,
    work_path       TEXT NOT NULL,
    problems        TEXT,                        -- why the manifest is refused as a whole, as JSON
    state           TEXT NOT NULL CHECK (state IN ('planned', 'moving', 'undoing', 'taken'))
) STRICT;

-- Its files, with what each was when it was checked.
CREATE TABLE taking_file (
    batch_id INTEGER NOT NULL REFERENCES taking (batch_id) ON DELETE CASCADE,
    path     TEXT NOT NULL,                      -- relative to root
    file     TEXT NOT NULL,                      -- its identity
    checksum INTEGER,                            -- of its content; NULL of a file that is refused
    copied   INTEGER NOT NULL CHECK (copied IN (0, 1)), -- whether the drop keeps it, for another manifest
    PRIMARY KEY (batch_id, path)
) STRICT, WITHOUT ROWID;
