-- What happened in each minute of the last day: a ring of 1,440 rows, written once a minute by the worker. A minute without a row
-- is one in which none ran.
CREATE TABLE sample (
    slot       INTEGER PRIMARY KEY,              -- the minute since 1970 modulo 1,440
    minute     INTEGER NOT NULL,
    created    INTEGER NOT NULL,
    duplicate  INTEGER NOT NULL,
    failed     INTEGER NOT NULL,
    retries    INTEGER NOT NULL,
    lost       INTEGER NOT NULL,                 -- answers
    in_flight  INTEGER NOT NULL,                 -- the most that were noticed
    sent_bytes INTEGER NOT NULL,
    stopped    INTEGER NOT NULL                  -- paused, or outside all sending windows
) STRICT;

CREATE INDEX batch_of_drop ON batch (drop_id);
