-- What `status` and monitoring know of a drop's folder besides its jobs.
ALTER TABLE drop_folder ADD COLUMN ground TEXT;          -- what keeps files from being taken or put away
ALTER TABLE drop_folder ADD COLUMN ground_since INTEGER;
ALTER TABLE drop_folder ADD COLUMN unclaimed TEXT;       -- files that belong to nothing, as JSON
