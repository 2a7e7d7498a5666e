-- The database of revision 3bb4540 after `import a.manifest.json`, dumped; paths are shortened.
PRAGMA foreign_keys = OFF; -- the tables come by name
PRAGMA user_version = 4;
PRAGMA application_id = 1346783569;
BEGIN TRANSACTION;
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
INSERT INTO "attempt" VALUES(1,4,1795934780788,'upload_file',0,'done',NULL,4,1407);
INSERT INTO "attempt" VALUES(2,1,1795934780789,'upload_image',0,'done',NULL,9,420);
INSERT INTO "attempt" VALUES(3,1,1795934780790,'upload_image',1,'done',NULL,10,239);
INSERT INTO "attempt" VALUES(4,3,1795934780791,'upload_file',0,'done',NULL,12,1407);
INSERT INTO "attempt" VALUES(5,5,1795934780794,'upload_file',0,'done',NULL,9,1424);
INSERT INTO "attempt" VALUES(6,2,1795934780799,'upload_image',0,'done',NULL,6,420);
INSERT INTO "attempt" VALUES(7,1,1795934780804,'create_document',NULL,'done',NULL,2,226);
INSERT INTO "attempt" VALUES(8,2,1795934780800,'upload_image',1,'done',NULL,6,219);
INSERT INTO "attempt" VALUES(9,2,1795934780807,'create_document',NULL,'done',NULL,1,197);
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
    trouble         TEXT, lies_root TEXT, lies_path TEXT, receipt_group TEXT, purged_at INTEGER,                        -- what keeps it from being settled
    CHECK (state <> 'ended' OR open_jobs = 0),
    CHECK ((state IN ('ended', 'published', 'closed')) = (finished_at IS NOT NULL))
) STRICT;
INSERT INTO "batch" VALUES(1,1,'a.manifest.json',X'F24AA3377303BE07DDF547319536567AC74551DCDB6C2E1ED2AC9D8242FA4F73','65024:10010789:782:1795934779714932512','/old/in','','/old/in','/old/in/receipts',416,NULL,NULL,NULL,'keep','closed',5,0,NULL,1795934780777,1795934780808,'a.manifest.json.receipt.json',NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE drop_folder (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE CHECK (name <> ''),
    trouble TEXT                                 -- what keeps its folder from being read
, watching TEXT) STRICT;
INSERT INTO "drop_folder" VALUES(1,'import',NULL,NULL);
CREATE TABLE identity (
    drop_id INTEGER NOT NULL REFERENCES drop_folder (id),
    key     BLOB NOT NULL,
    job_id  INTEGER NOT NULL REFERENCES job (id),
    PRIMARY KEY (drop_id, key)
) STRICT, WITHOUT ROWID;
INSERT INTO "identity" VALUES(1,X'38690372492B1841EE43AD08CF623A870818B3582AC2FA62FA0FFC31EFC4976C',4);
INSERT INTO "identity" VALUES(1,X'5064343EFF10E374A6D071BFA626283383935A21EB472207000321D7503318AF',1);
INSERT INTO "identity" VALUES(1,X'C414D4C05F2E90C6F6BB962A9C7A7F59B965866D7B3F3957DA09AA209755CD68',5);
INSERT INTO "identity" VALUES(1,X'C5256BC0A672D7C34DE5C74209C6D7BD413A53F5AF99C3BA7836D49D2518E775',2);
INSERT INTO "identity" VALUES(1,X'E269C2FE641D7BDFBF249886E604DA0DC2F2710C94ED877D6F0C4D2E9D50BB2E',3);
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
CREATE TABLE invalid_path (
    path_key INTEGER NOT NULL,
    batch_id INTEGER NOT NULL REFERENCES batch (id),
    PRIMARY KEY (path_key, batch_id)
) STRICT, WITHOUT ROWID;
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
    ended_at       INTEGER, file_ms INTEGER NOT NULL DEFAULT 0,
    CHECK ((state = 'waiting') = (waits IS NOT NULL)),
    CHECK (state NOT IN ('done', 'duplicate') OR remote_id IS NOT NULL),
    CHECK ((state IN ('done', 'duplicate', 'failed', 'cancelled')) = (ended_at IS NOT NULL))
) STRICT;
INSERT INTO "job" VALUES(1,1,1,0,'document','a2c4393a-e219-67a4-5ab4-2186952e9038','with','PROOF_OF_IDENTITY','PASSPORT','{"amount":1.1,"number":1.2345678901234567e+23}',NULL,X'5064343EFF10E374A6D071BFA626283383935A21EB472207000321D7503318AF',X'B4E27D836CB79D7564C4B60B8CB0BD1046F7B5107FE023C0885F272E253F7BA5','done',NULL,NULL,NULL,0,0,'none',1795934780800,0,'97653a07-a661-478a-bc79-adb43b66c31e',NULL,NULL,0,1795934780777,1795934780806,0);
INSERT INTO "job" VALUES(2,1,1,1,'document','a2c4393a-e219-67a4-5ab4-2186952e9038',NULL,'PROOF_OF_ADDRESS','UTILITY_BILL','{"amount":1.1}',NULL,X'C5256BC0A672D7C34DE5C74209C6D7BD413A53F5AF99C3BA7836D49D2518E775',X'3B8428AFD96D0847F4C1FDF57AF02D27977EDCB5B4C8C90DD92A25455589FD52','done',NULL,NULL,NULL,0,0,'none',1795934780807,0,'293abac4-28dc-4454-9992-a96994194733',NULL,NULL,0,1795934780777,1795934780808,0);
INSERT INTO "job" VALUES(3,1,1,2,'file','a2c4393a-e219-67a4-5ab4-2186952e9038',NULL,'','',NULL,NULL,X'E269C2FE641D7BDFBF249886E604DA0DC2F2710C94ED877D6F0C4D2E9D50BB2E',X'6371C720513649AADB68DFA1C94FD1E892D36D45A19A93307D3CFEA7D734310F','done',NULL,NULL,NULL,0,0,'none',NULL,0,'17f29b50-4cbb-4b11-a03d-a65bb2c4c2e8',NULL,NULL,0,1795934780777,1795934780803,0);
INSERT INTO "job" VALUES(4,1,1,3,'file','a2c4393a-e219-67a4-5ab4-2186952e9038','pep','','',NULL,NULL,X'38690372492B1841EE43AD08CF623A870818B3582AC2FA62FA0FFC31EFC4976C',X'6371C720513649AADB68DFA1C94FD1E892D36D45A19A93307D3CFEA7D734310F','done',NULL,NULL,NULL,0,0,'none',NULL,0,'1b9568b6-63bd-4535-af77-77cfbc76f1dc',NULL,NULL,0,1795934780777,1795934780792,0);
INSERT INTO "job" VALUES(5,1,1,4,'file','a2c4393a-e219-67a4-5ab4-2186952e9038',NULL,'','',NULL,'PEP.pdf',X'C414D4C05F2E90C6F6BB962A9C7A7F59B965866D7B3F3957DA09AA209755CD68',X'44646002BC56FEBE69048E0EED6596DAC13E5519E5A5206A83D0268BFFC80E93','done',NULL,NULL,NULL,0,0,'none',NULL,0,'4d419b6c-436d-44c1-a17b-1772a191b127',NULL,NULL,0,1795934780777,1795934780803,0);
CREATE TABLE pause (
    scope  TEXT NOT NULL,
    cause  TEXT NOT NULL CHECK (cause IN ('operator', 'key_refused', 'quota_spent', 'outage')),
    detail TEXT,
    since  INTEGER NOT NULL,
    PRIMARY KEY (scope, cause)
) STRICT, WITHOUT ROWID;
CREATE TABLE setting (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "setting" VALUES('checksum_seed','39369707568493273');
CREATE TABLE tally (
    drop_id INTEGER NOT NULL,
    state   TEXT NOT NULL,
    jobs    INTEGER NOT NULL,
    PRIMARY KEY (drop_id, state)
) STRICT, WITHOUT ROWID;
INSERT INTO "tally" VALUES(1,'done',5);
INSERT INTO "tally" VALUES(1,'queued',0);
INSERT INTO "tally" VALUES(1,'running',0);
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
    lost       INTEGER NOT NULL DEFAULT 0, lies_root TEXT, lies_path TEXT, seen TEXT, declared INTEGER NOT NULL DEFAULT 3 CHECK (declared BETWEEN 0 AND 3),       -- how often its answer was lost: possible leftovers at the API
    PRIMARY KEY (job_id, position)
) STRICT, WITHOUT ROWID;
INSERT INTO "upload" VALUES(1,0,'front.png',-5353543453303553922,'FRONT',290,X'0D3483335F6673F1002848F76B85853195380E1E2BE1ADEB5DD7ACDB5B9B71FD',8417412770934299368,'ea2e8bb7-9765-4a69-a96e-dfc586d83cfa',0,NULL,NULL,'65024:10010738:290:1795934779703652183:1795934779716744806',0);
INSERT INTO "upload" VALUES(1,1,'back.png',540173416872495700,'BACK',155,X'75E197003E79EC49B31AF059A9D516084FDB715047FCBFFF7ED2033B395263A8',-8845144833522813257,'fb190798-e196-4a7d-8065-c4c5fa79e802',0,NULL,NULL,'65024:10010756:155:1795934779705353360:1795934779716744806',0);
INSERT INTO "upload" VALUES(2,0,'front.png',-5353543453303553922,'FRONT',290,X'0D3483335F6673F1002848F76B85853195380E1E2BE1ADEB5DD7ACDB5B9B71FD',8417412770934299368,'eb38d40d-66c4-4ef0-8f53-598dd962e308',0,NULL,NULL,'65024:10010738:290:1795934779703652183:1795934779716744806',0);
INSERT INTO "upload" VALUES(2,1,'back.png',540173416872495700,NULL,155,X'75E197003E79EC49B31AF059A9D516084FDB715047FCBFFF7ED2033B395263A8',-8845144833522813257,'92d0da7b-3f1c-4882-997e-65d60af7c212',0,NULL,NULL,'65024:10010756:155:1795934779705353360:1795934779716744806',0);
INSERT INTO "upload" VALUES(3,0,'17/PEP Declaration.pdf',788866909159478073,NULL,1046,X'ACBE5D8B84B451E91DD2D54BB6C71C17440275DC6EFB5D3975EA362E18E7816D',-546202958947524883,'17f29b50-4cbb-4b11-a03d-a65bb2c4c2e8',0,NULL,NULL,'65024:10010772:1046:1795934779710013090:1795934779716744806',0);
INSERT INTO "upload" VALUES(4,0,'17/PEP Declaration.pdf',788866909159478073,NULL,1046,X'ACBE5D8B84B451E91DD2D54BB6C71C17440275DC6EFB5D3975EA362E18E7816D',-546202958947524883,'1b9568b6-63bd-4535-af77-77cfbc76f1dc',0,NULL,NULL,'65024:10010772:1046:1795934779710013090:1795934779716744806',0);
INSERT INTO "upload" VALUES(5,0,'17/PEP Declaration.pdf',788866909159478073,NULL,1046,X'ACBE5D8B84B451E91DD2D54BB6C71C17440275DC6EFB5D3975EA362E18E7816D',-546202958947524883,'4d419b6c-436d-44c1-a17b-1772a191b127',0,NULL,NULL,'65024:10010772:1046:1795934779710013090:1795934779716744806',0);
CREATE INDEX batch_unsettled ON batch (state, id) WHERE state <> 'closed';
CREATE INDEX batch_by_manifest ON batch (drop_id, manifest);
CREATE INDEX job_ready ON job (drop_id, id) WHERE state = 'queued';
CREATE INDEX job_due ON job (due_at) WHERE state = 'waiting' AND due_at IS NOT NULL;
CREATE INDEX job_twins ON job (twin_of) WHERE state = 'waiting' AND waits = 'twin';
CREATE INDEX job_under_way ON job (id) WHERE state IN ('running', 'held');
CREATE INDEX job_of_batch ON job (batch_id, entry_index);
CREATE INDEX upload_by_path ON upload (path_key);
CREATE INDEX upload_lost ON upload (job_id) WHERE lost > 0;
CREATE INDEX attempt_of_job ON attempt (job_id);
CREATE TRIGGER job_added AFTER INSERT ON job BEGIN
    INSERT INTO tally VALUES (new.drop_id, new.state, 1)
        ON CONFLICT (drop_id, state) DO UPDATE SET jobs = jobs + 1;
END;
CREATE TRIGGER job_moved AFTER UPDATE OF state ON job WHEN old.state <> new.state BEGIN
    UPDATE tally SET jobs = jobs - 1 WHERE drop_id = old.drop_id AND state = old.state;
    INSERT INTO tally VALUES (new.drop_id, new.state, 1)
        ON CONFLICT (drop_id, state) DO UPDATE SET jobs = jobs + 1;
END;
CREATE INDEX batch_unpurged ON batch (drop_id, finished_at)
    WHERE state = 'closed' AND shelf IS NOT NULL AND purged_at IS NULL;
CREATE INDEX job_of_profile ON job (profile_id);
COMMIT;
