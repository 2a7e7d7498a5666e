-- Images that the API refused for their bytes: jobs up to the number `up_to` that name one of them are not sent.
CREATE TABLE refused_image (
    drop_id INTEGER NOT NULL REFERENCES drop_folder (id),
    kind    TEXT NOT NULL CHECK (kind IN ('document', 'file')),
    sha256  BLOB NOT NULL CHECK (length(sha256) = 32),
    job_id  INTEGER NOT NULL REFERENCES job (id), -- the one that was refused
    up_to   INTEGER NOT NULL,
    PRIMARY KEY (drop_id, kind, sha256)
) STRICT, WITHOUT ROWID;
