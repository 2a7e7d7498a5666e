-- Batches whose entries a layout made of an archive's own list or files, and which record each entry was made of.
CREATE TABLE batch_layout (
    batch_id            INTEGER PRIMARY KEY REFERENCES batch (id),
    file                TEXT NOT NULL,
    sha256              BLOB NOT NULL CHECK (length(sha256) = 32),
    reference_templates TEXT NOT NULL,
    entries_sha256      BLOB NOT NULL CHECK (length(entries_sha256) = 32)
) STRICT;

CREATE TABLE entry_source (
    batch_id    INTEGER NOT NULL REFERENCES batch (id),
    entry_index INTEGER NOT NULL,
    file        TEXT NOT NULL,                   -- the list, the sidecar, or the first file
    row         INTEGER,
    PRIMARY KEY (batch_id, entry_index)
) STRICT, WITHOUT ROWID;
