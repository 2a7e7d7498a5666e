-- Whose key it is, as the API said: asked once for each key at each address. A key is kept as a digest with a secret of this
-- database, so that a renewed one is noticed.
CREATE TABLE account_of_key (
    base_url TEXT NOT NULL,
    key      BLOB NOT NULL,
    account  TEXT NOT NULL,
    PRIMARY KEY (base_url, key)
) STRICT, WITHOUT ROWID;

-- The account of a job that had ended when its drop changed to another one. NULL: that of the drop.
ALTER TABLE job ADD COLUMN account TEXT;

-- What was created with an account that its drop does not use now: moved from `identity` and back with the account.
CREATE TABLE identity_elsewhere (
    drop_id INTEGER NOT NULL REFERENCES drop_folder (id),
    account TEXT NOT NULL,
    key     BLOB NOT NULL,
    job_id  INTEGER NOT NULL REFERENCES job (id),
    PRIMARY KEY (drop_id, account, key)
) STRICT, WITHOUT ROWID;
