-- Which of bytes (1) and sha256 (2) the manifest declares of a file. Where that is not known any more it counts as both,
-- so that nothing takes the place of what was checked.
ALTER TABLE upload ADD COLUMN declared INTEGER NOT NULL DEFAULT 3 CHECK (declared BETWEEN 0 AND 3);
