-- Which of bytes (1) and sha256 (2) the manifest declares of a file. Where that is not known any more it counts as both,
-- so that nothing takes the place of what was checked.
ALTER TABLE upload ADD COLUMN declared INTEGER NOT NULL DEFAULT 3 CHECK (declared BETWEEN 0 AND 3);

-- What was put onto a profile, for `verify`, and for every question about one customer. Intake writes some 45 bytes a job
-- more, as random as identities are; no later step touches it.
CREATE INDEX job_of_profile ON job (profile_id);
