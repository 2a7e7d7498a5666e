-- The starts of workers on this database, by random numbers: marks outside of the database name the latest one, and a
-- number that is not here belongs to another database, or to what was done after this copy was made.
CREATE TABLE start (
    ordinal INTEGER PRIMARY KEY,
    number INTEGER NOT NULL UNIQUE
) STRICT;

-- How many commits workers have made. The mark beside the database has the same number, or one that is older.
CREATE TABLE commits (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    count INTEGER NOT NULL
) STRICT;
INSERT INTO commits VALUES (1, 0);
