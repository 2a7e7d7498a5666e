-- Documents that were sent a second time: their profiles are read once more after a while.
CREATE TABLE recheck (
    job_id     INTEGER PRIMARY KEY REFERENCES job (id),
    ended_at   INTEGER,                          -- when the job ended after that; none: it has not
    not_before INTEGER NOT NULL DEFAULT 0,       -- after a reading that failed
    failed     INTEGER NOT NULL DEFAULT 0        -- readings that failed
) STRICT;

-- By triggers, so that no way that leads to a second sending is forgotten: a read-back that proved the absence, a
-- person's `release --send-again`, a retry.
CREATE TRIGGER sent_again AFTER UPDATE OF creation ON job
WHEN old.creation = 'unknown' AND new.creation = 'none' AND new.state IN ('queued', 'running') AND new.kind = 'document'
BEGIN
    INSERT OR IGNORE INTO recheck (job_id) VALUES (new.id);
    UPDATE recheck SET ended_at = NULL, not_before = 0, failed = 0 WHERE job_id = new.id;
END;

CREATE TRIGGER sent_again_ended AFTER UPDATE OF state ON job
WHEN new.state IN ('done', 'failed', 'cancelled') AND old.state <> new.state
BEGIN
    UPDATE recheck SET ended_at = new.ended_at WHERE job_id = new.id;
END;
