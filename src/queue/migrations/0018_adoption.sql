-- Jobs of which it is not known whether they were created, since the database was lost or restored: held until their profile
-- was read.
CREATE TABLE doubtful_job (job_id INTEGER PRIMARY KEY REFERENCES job (id)) STRICT;
