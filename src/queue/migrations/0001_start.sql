-- The queue as of the first release. Times are milliseconds since 1970; digests are raw bytes.
-- CHECKs repeat what the types in job.rs already promise, for whoever writes with another program.

CREATE TABLE setting (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE drop_folder (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE CHECK (name <> ''),
    trouble TEXT                                 -- what keeps its folder from being read
) STRICT;

-- One manifest that was taken in. Everything needed to settle it stands here, so that it can be settled by a process
-- that was started with another configuration.
CREATE TABLE batch (
    id              INTEGER PRIMARY KEY,
    drop_id         INTEGER NOT NULL REFERENCES drop_folder (id),
    manifest        TEXT NOT NULL,               -- relative to root
    manifest_sha256 BLOB NOT NULL CHECK (length(manifest_sha256) = 32),
    manifest_file   TEXT NOT NULL,               -- its identity: device, inode, size, times
    root            TEXT NOT NULL,               -- the drop's folder
    image_folder    TEXT NOT NULL,               -- that paths in the manifest start from, relative to image_root
    image_root      TEXT NOT NULL,               -- beneath which images are opened
    receipts_dir    TEXT NOT NULL,
    receipt_mode    INTEGER NOT NULL DEFAULT 416, -- 0640
    done_dir        TEXT,
    failed_dir      TEXT,
    marker          TEXT,                        -- what is added to the manifest's name to name its done marker
    after_success   TEXT NOT NULL CHECK (after_success IN ('archive', 'delete', 'keep')),
    state           TEXT NOT NULL CHECK (state IN ('admitting', 'open', 'ended', 'published', 'closed')),
    admitted        INTEGER NOT NULL DEFAULT 0,  -- entries taken in so far; where to go on after a crash
    open_jobs       INTEGER NOT NULL DEFAULT 0 CHECK (open_jobs >= 0),
    problems        TEXT,                        -- why the manifest itself is unusable, as JSON
    received_at     INTEGER NOT NULL,
    finished_at     INTEGER,
    receipt         TEXT,                        -- its file's name; chosen before it is written
    shelf           TEXT,                        -- the dated folder that its files were moved into
    trouble         TEXT,                        -- what keeps it from being settled
    CHECK (state <> 'ended' OR open_jobs = 0),
    CHECK ((state IN ('ended', 'published', 'closed')) = (finished_at IS NOT NULL))
) STRICT;

CREATE INDEX batch_unsettled ON batch (state, id) WHERE state <> 'closed';
CREATE INDEX batch_by_manifest ON batch (drop_id, manifest);

CREATE TABLE job (
    id             INTEGER PRIMARY KEY,
    batch_id       INTEGER NOT NULL REFERENCES batch (id),
    drop_id        INTEGER NOT NULL REFERENCES drop_folder (id),
    entry_index    INTEGER NOT NULL,
    kind           TEXT NOT NULL CHECK (kind IN ('document', 'file')),
    profile_id     TEXT NOT NULL CHECK (length(profile_id) = 36),
    reference      TEXT,
    category       TEXT NOT NULL DEFAULT '',
    document_type  TEXT NOT NULL DEFAULT '',
    extracted_data TEXT,
    name           TEXT,
    identity       BLOB NOT NULL,                -- of the reference, or of the content
    content        BLOB NOT NULL,                -- of profile, category, type and the images' digests
    state          TEXT NOT NULL CHECK (state IN
                       ('queued', 'running', 'waiting', 'held', 'done', 'duplicate', 'failed', 'cancelled')),
    waits          TEXT CHECK (waits IN ('retry', 'quota', 'file', 'read_back', 'twin')),
    reason         TEXT,
    due_at         INTEGER,
    attempts       INTEGER NOT NULL DEFAULT 0,
    tried_ms       INTEGER NOT NULL DEFAULT 0,   -- in tries and in the waits between them
    creation       TEXT NOT NULL DEFAULT 'none' CHECK (creation IN ('none', 'intended', 'unknown')),
    sent_at        INTEGER,
    loss_answered  INTEGER NOT NULL DEFAULT 0 CHECK (loss_answered IN (0, 1)),
    remote_id      TEXT,                         -- of the document or file
    twin_of        INTEGER REFERENCES job (id),  -- the job that has, or had, this identity before
    problems       TEXT,                         -- why it failed, as JSON
    cancel_asked   INTEGER NOT NULL DEFAULT 0 CHECK (cancel_asked IN (0, 1)),
    created_at     INTEGER NOT NULL,
    ended_at       INTEGER,
    CHECK ((state = 'waiting') = (waits IS NOT NULL)),
    CHECK (state NOT IN ('done', 'duplicate') OR remote_id IS NOT NULL),
    CHECK ((state IN ('done', 'duplicate', 'failed', 'cancelled')) = (ended_at IS NOT NULL))
) STRICT;

-- Claims walk this one; nothing that is not ready is in it, so its size is the number of ready jobs.
CREATE INDEX job_ready ON job (drop_id, id) WHERE state = 'queued';
CREATE INDEX job_due ON job (due_at) WHERE state = 'waiting' AND due_at IS NOT NULL;
CREATE INDEX job_twins ON job (twin_of) WHERE state = 'waiting' AND waits = 'twin';
CREATE INDEX job_under_way ON job (id) WHERE state IN ('running', 'held');
CREATE INDEX job_of_batch ON job (batch_id, entry_index);

CREATE TABLE upload (
    job_id     INTEGER NOT NULL REFERENCES job (id),
    position   INTEGER NOT NULL,
    path       TEXT NOT NULL,
    path_key   INTEGER NOT NULL,                 -- hash of the file's place, to find other batches that name it
    image_type TEXT CHECK (image_type IN ('FRONT', 'BACK', 'FACE')),
    bytes      INTEGER NOT NULL CHECK (bytes >= 0),
    sha256     BLOB NOT NULL CHECK (length(sha256) = 32),
    checksum   INTEGER NOT NULL,
    remote_id  TEXT,
    lost       INTEGER NOT NULL DEFAULT 0,       -- how often its answer was lost: possible leftovers at the API
    PRIMARY KEY (job_id, position)
) STRICT, WITHOUT ROWID;

CREATE INDEX upload_by_path ON upload (path_key);
CREATE INDEX upload_lost ON upload (job_id) WHERE lost > 0;

CREATE TABLE attempt (
    id         INTEGER PRIMARY KEY,
    job_id     INTEGER NOT NULL REFERENCES job (id),
    at         INTEGER NOT NULL,
    operation  TEXT NOT NULL,
    position   INTEGER,
    outcome    TEXT NOT NULL,
    detail     TEXT,
    took_ms    INTEGER NOT NULL,
    sent_bytes INTEGER NOT NULL
) STRICT;

CREATE INDEX attempt_of_job ON attempt (job_id);

-- Entries that were not good enough to become jobs; receipts list them.
CREATE TABLE invalid_entry (
    batch_id    INTEGER NOT NULL REFERENCES batch (id),
    entry_index INTEGER NOT NULL,
    kind        TEXT NOT NULL CHECK (kind IN ('document', 'file')),
    reference   TEXT,
    profile_id  TEXT,
    problems    TEXT NOT NULL,
    paths       TEXT NOT NULL DEFAULT '[]',      -- the files that it names, as a JSON array
    PRIMARY KEY (batch_id, entry_index)
) STRICT, WITHOUT ROWID;

-- Which job stands for an identity within its drop. One row is what makes a second document impossible.
CREATE TABLE identity (
    drop_id INTEGER NOT NULL REFERENCES drop_folder (id),
    key     BLOB NOT NULL,
    job_id  INTEGER NOT NULL REFERENCES job (id),
    PRIMARY KEY (drop_id, key)
) STRICT, WITHOUT ROWID;

-- Manifests that lie in a drop and are not taken in yet, and why not.
CREATE TABLE arrival (
    drop_id    INTEGER NOT NULL REFERENCES drop_folder (id),
    manifest   TEXT NOT NULL,
    file       TEXT NOT NULL,                    -- identity of the file that this is about
    first_seen INTEGER NOT NULL,
    checked_at INTEGER NOT NULL,
    reason     TEXT NOT NULL,
    missing    TEXT,                             -- the first of the files that it waits for, as a JSON array
    PRIMARY KEY (drop_id, manifest)
) STRICT, WITHOUT ROWID;

-- What is stopped, by whom, and since when. The scope is '' for everything, 'drop:NAME' or 'account:URL'.
CREATE TABLE pause (
    scope  TEXT NOT NULL,
    cause  TEXT NOT NULL CHECK (cause IN ('operator', 'key_refused', 'quota_spent', 'outage')),
    detail TEXT,
    since  INTEGER NOT NULL,
    PRIMARY KEY (scope, cause)
) STRICT, WITHOUT ROWID;

-- How many jobs each drop has in each state, kept by the triggers below: counting a million rows takes too long for
-- a status that people watch.
CREATE TABLE tally (
    drop_id INTEGER NOT NULL,
    state   TEXT NOT NULL,
    jobs    INTEGER NOT NULL,
    PRIMARY KEY (drop_id, state)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER job_added AFTER INSERT ON job BEGIN
    INSERT INTO tally VALUES (new.drop_id, new.state, 1)
        ON CONFLICT (drop_id, state) DO UPDATE SET jobs = jobs + 1;
END;

CREATE TRIGGER job_moved AFTER UPDATE OF state ON job WHEN old.state <> new.state BEGIN
    UPDATE tally SET jobs = jobs - 1 WHERE drop_id = old.drop_id AND state = old.state;
    INSERT INTO tally VALUES (new.drop_id, new.state, 1)
        ON CONFLICT (drop_id, state) DO UPDATE SET jobs = jobs + 1;
END;
