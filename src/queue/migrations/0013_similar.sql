-- Which images were taken for which profiles: the first 8 bytes of the image's digest and 6 of the profile's hash, and a job
-- that says the rest. At most 40 bytes an image; see similar.rs.
CREATE TABLE image_of_profile (
    key    BLOB PRIMARY KEY,
    job_id INTEGER NOT NULL REFERENCES job (id)
) STRICT, WITHOUT ROWID;

-- References that are not in the form in which lookalikes are equal; those that are, `identity` finds.
CREATE TABLE folded_reference (
    drop_id   INTEGER NOT NULL REFERENCES drop_folder (id),
    fold      INTEGER NOT NULL,                  -- hash of that form
    reference INTEGER NOT NULL,                  -- hash of the reference
    job_id    INTEGER NOT NULL REFERENCES job (id),
    PRIMARY KEY (drop_id, fold, reference)
) STRICT, WITHOUT ROWID;
