-- The account that a drop was last worked on with, as the worker names it: image IDs of one account are used by no other.
ALTER TABLE drop_folder ADD COLUMN account TEXT;

-- Jobs that ended without what they were for: their images are used for later documents of their profile.
CREATE INDEX job_ended_without ON job (profile_id) WHERE state IN ('failed', 'cancelled');
