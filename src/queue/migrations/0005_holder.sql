-- Which process holds a running job; a trigger that is generated from job.rs sees to it that no other job has a holder.
ALTER TABLE job ADD COLUMN holder TEXT;
UPDATE job SET holder = 'an earlier release' WHERE state = 'running';
