-- What can be sent and is probably not meant: warnings about entries, in the order in which they were found.
CREATE TABLE entry_warning (
    batch_id    INTEGER NOT NULL REFERENCES batch (id),
    entry_index INTEGER NOT NULL,
    position    INTEGER NOT NULL,
    kind        TEXT NOT NULL,
    field       TEXT,
    path        TEXT,
    reason      TEXT NOT NULL,
    cure        TEXT NOT NULL,
    PRIMARY KEY (batch_id, entry_index, position)
) STRICT, WITHOUT ROWID;

-- How many there were, since counting them takes too long for numbers that are asked for every few seconds.
CREATE TABLE warning_tally (
    drop_id  INTEGER NOT NULL REFERENCES drop_folder (id),
    kind     TEXT NOT NULL,
    warnings INTEGER NOT NULL,
    PRIMARY KEY (drop_id, kind)
) STRICT, WITHOUT ROWID;
