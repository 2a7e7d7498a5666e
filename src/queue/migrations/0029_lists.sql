-- Pages of jobs, and where something is, by indexes only.
CREATE INDEX job_reference ON job (reference) WHERE reference IS NOT NULL;
CREATE INDEX job_created_as ON job (remote_id) WHERE remote_id IS NOT NULL;
CREATE INDEX job_unwell ON job (state, id) WHERE state NOT IN ('queued', 'running', 'done');
CREATE INDEX job_unwell_of_batch ON job (batch_id, state, entry_index) WHERE state NOT IN ('queued', 'running', 'done');
