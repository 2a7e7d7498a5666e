-- What failed, by cause; what people did; and retries that are tried with a few jobs first. Counts are kept by triggers, as
-- in tally. A failure is open from its end until what it asked for is created, or it is sent again.

CREATE TABLE cause (
    id        INTEGER PRIMARY KEY AUTOINCREMENT, -- a number that a person was shown is never that of another cause
    key       TEXT NOT NULL UNIQUE,
    status    TEXT NOT NULL CHECK (status IN ('failed', 'invalid', 'rejected')),
    code      TEXT,                              -- nothing that a sender or the API worded
    title     TEXT NOT NULL,                     -- may quote them
    cure      TEXT NOT NULL,
    open      INTEGER NOT NULL DEFAULT 0,
    first_at  INTEGER NOT NULL DEFAULT 0,        -- of those since it was last without an open one
    last_at   INTEGER NOT NULL DEFAULT 0,
    seen_by   TEXT,
    seen_at   INTEGER,
    seen_open INTEGER                            -- how many were open then
) STRICT;

CREATE TABLE cause_in_drop (
    cause_id INTEGER NOT NULL,
    drop_id  INTEGER NOT NULL,
    open     INTEGER NOT NULL,
    last_at  INTEGER NOT NULL,
    PRIMARY KEY (cause_id, drop_id)
) STRICT, WITHOUT ROWID;

-- Kept while the job is sent again, until it is created. Those that are created since have none.
ALTER TABLE job ADD COLUMN cause INTEGER;
CREATE INDEX job_of_cause ON job (cause, id) WHERE cause IS NOT NULL;
CREATE INDEX job_unmended ON job (drop_id, identity) WHERE cause IS NOT NULL;

ALTER TABLE invalid_entry ADD COLUMN identity BLOB;  -- of the reference, where it has one
ALTER TABLE invalid_entry ADD COLUMN cause INTEGER;
CREATE INDEX invalid_of_cause ON invalid_entry (cause, batch_id, entry_index) WHERE cause IS NOT NULL;
CREATE INDEX invalid_unmended ON invalid_entry (identity) WHERE cause IS NOT NULL;

ALTER TABLE batch ADD COLUMN cause INTEGER;
CREATE INDEX batch_of_cause ON batch (cause, id) WHERE cause IS NOT NULL;
CREATE INDEX batch_unmended ON batch (drop_id, manifest) WHERE cause IS NOT NULL;

CREATE TRIGGER job_failed AFTER UPDATE OF state, cause ON job
WHEN new.cause IS NOT NULL AND new.state = 'failed' AND (old.state <> 'failed' OR old.cause IS NOT new.cause) BEGIN
    UPDATE cause SET open = open + 1, last_at = max(last_at, new.ended_at),
                     first_at = CASE open WHEN 0 THEN new.ended_at ELSE min(first_at, new.ended_at) END
     WHERE id = new.cause;
    INSERT INTO cause_in_drop VALUES (new.cause, new.drop_id, 1, new.ended_at)
        ON CONFLICT (cause_id, drop_id) DO UPDATE SET open = open + 1, last_at = max(last_at, excluded.last_at);
END;

CREATE TRIGGER job_added_failed AFTER INSERT ON job WHEN new.cause IS NOT NULL AND new.state = 'failed' BEGIN
    UPDATE cause SET open = open + 1, last_at = max(last_at, new.ended_at),
                     first_at = CASE open WHEN 0 THEN new.ended_at ELSE min(first_at, new.ended_at) END
     WHERE id = new.cause;
    INSERT INTO cause_in_drop VALUES (new.cause, new.drop_id, 1, new.ended_at)
        ON CONFLICT (cause_id, drop_id) DO UPDATE SET open = open + 1, last_at = max(last_at, excluded.last_at);
END;

-- What was seen counts for as long as it lasts: a cause that comes again asks again.
CREATE TRIGGER job_no_longer_failed AFTER UPDATE OF state, cause ON job
WHEN old.cause IS NOT NULL AND old.state = 'failed' AND (new.state <> 'failed' OR old.cause IS NOT new.cause) BEGIN
    UPDATE cause SET open = open - 1, seen_by = CASE open WHEN 1 THEN NULL ELSE seen_by END WHERE id = old.cause;
    UPDATE cause_in_drop SET open = open - 1 WHERE cause_id = old.cause AND drop_id = old.drop_id;
END;

CREATE TRIGGER invalid_added AFTER INSERT ON invalid_entry WHEN new.cause IS NOT NULL BEGIN
    UPDATE cause SET open = open + 1, last_at = max(last_at, received_at),
                     first_at = CASE open WHEN 0 THEN received_at ELSE min(first_at, received_at) END
      FROM (SELECT received_at FROM batch WHERE id = new.batch_id) WHERE id = new.cause;
    INSERT INTO cause_in_drop SELECT new.cause, drop_id, 1, received_at FROM batch WHERE id = new.batch_id
        ON CONFLICT (cause_id, drop_id) DO UPDATE SET open = open + 1, last_at = max(last_at, excluded.last_at);
END;

CREATE TRIGGER invalid_changed AFTER UPDATE OF cause ON invalid_entry WHEN old.cause IS NOT new.cause BEGIN
    UPDATE cause SET open = open - 1, seen_by = CASE open WHEN 1 THEN NULL ELSE seen_by END WHERE id = old.cause;
    UPDATE cause_in_drop SET open = open - 1
     WHERE cause_id = old.cause AND drop_id = (SELECT drop_id FROM batch WHERE id = old.batch_id);
    UPDATE cause SET open = open + 1, last_at = max(last_at, received_at),
                     first_at = CASE open WHEN 0 THEN received_at ELSE min(first_at, received_at) END
      FROM (SELECT received_at FROM batch WHERE id = new.batch_id) WHERE id = new.cause;
    INSERT INTO cause_in_drop SELECT new.cause, drop_id, 1, received_at FROM batch
                               WHERE id = new.batch_id AND new.cause IS NOT NULL
        ON CONFLICT (cause_id, drop_id) DO UPDATE SET open = open + 1, last_at = max(last_at, excluded.last_at);
END;

CREATE TRIGGER batch_cause AFTER UPDATE OF cause ON batch WHEN old.cause IS NOT new.cause BEGIN
    UPDATE cause SET open = open - 1, seen_by = CASE open WHEN 1 THEN NULL ELSE seen_by END WHERE id = old.cause;
    UPDATE cause_in_drop SET open = open - 1 WHERE cause_id = old.cause AND drop_id = old.drop_id;
    UPDATE cause SET open = open + 1, last_at = max(last_at, new.received_at),
                     first_at = CASE open WHEN 0 THEN new.received_at ELSE min(first_at, new.received_at) END
     WHERE id = new.cause;
    INSERT INTO cause_in_drop SELECT new.cause, new.drop_id, 1, new.received_at WHERE new.cause IS NOT NULL
        ON CONFLICT (cause_id, drop_id) DO UPDATE SET open = open + 1, last_at = max(last_at, excluded.last_at);
END;

-- What an entry asks for is there now: earlier failures of the same identity are mended. A later one is not: it was refused
-- because it asks for something else.
CREATE TRIGGER job_mends AFTER UPDATE OF state ON job
WHEN new.state IN ('done', 'duplicate') AND old.state <> new.state BEGIN
    UPDATE job SET cause = NULL
     WHERE drop_id = new.drop_id AND identity = new.identity AND cause IS NOT NULL AND id <= new.id;
    UPDATE invalid_entry SET cause = NULL
     WHERE identity = new.identity AND cause IS NOT NULL AND batch_id < new.batch_id
       AND (SELECT drop_id FROM batch WHERE id = batch_id) = new.drop_id;
END;

CREATE TRIGGER job_added_mends AFTER INSERT ON job WHEN new.state IN ('done', 'duplicate') BEGIN
    UPDATE job SET cause = NULL
     WHERE drop_id = new.drop_id AND identity = new.identity AND cause IS NOT NULL AND id <= new.id;
    UPDATE invalid_entry SET cause = NULL
     WHERE identity = new.identity AND cause IS NOT NULL AND batch_id < new.batch_id
       AND (SELECT drop_id FROM batch WHERE id = batch_id) = new.drop_id;
END;

-- What people did: who, when, and the command's words.
CREATE TABLE act (
    id    INTEGER PRIMARY KEY AUTOINCREMENT,
    at    INTEGER NOT NULL,
    who   TEXT NOT NULL,
    what  TEXT NOT NULL,
    words TEXT NOT NULL,
    jobs  INTEGER NOT NULL DEFAULT 0             -- for how many it was carried out
) STRICT;

CREATE TABLE act_of_job (
    job_id INTEGER NOT NULL,
    act_id INTEGER NOT NULL,
    PRIMARY KEY (job_id, act_id)
) STRICT, WITHOUT ROWID;

ALTER TABLE pause ADD COLUMN by_whom TEXT;

-- A retry of many jobs of one cause, which is tried with the first few.
CREATE TABLE trial (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    cause_id INTEGER NOT NULL,
    act_id   INTEGER,
    state    TEXT NOT NULL CHECK (state IN ('gathering', 'running', 'ending', 'ended')),
    at       INTEGER NOT NULL,
    ended_at INTEGER,
    sent     INTEGER NOT NULL DEFAULT 0,         -- jobs that are sent first
    worked   INTEGER NOT NULL DEFAULT 0,
    failed   INTEGER NOT NULL DEFAULT 0,
    is_good  INTEGER NOT NULL DEFAULT 0 CHECK (is_good IN (0, 1)), -- so that the others follow
    others   INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX trial_of_cause ON trial (cause_id, id);
CREATE INDEX trial_open ON trial (state) WHERE state <> 'ended';

CREATE TABLE trial_job (
    job_id   INTEGER PRIMARY KEY,
    trial_id INTEGER NOT NULL,
    is_first INTEGER NOT NULL CHECK (is_first IN (0, 1))
) STRICT;

CREATE INDEX trial_members ON trial_job (trial_id, is_first, job_id);

-- Numbers that only rise, for monitoring.
CREATE TABLE counter (
    drop_id INTEGER NOT NULL,
    name    TEXT NOT NULL,
    value   INTEGER NOT NULL,
    PRIMARY KEY (drop_id, name)
) STRICT, WITHOUT ROWID;
