-- Texts for people beside the receipts of a drop: <manifest>.waiting.txt, <manifest>.taken.txt and <manifest>.receipt.txt.
ALTER TABLE arrival ADD COLUMN advice TEXT;          -- what its sender is told, as JSON
ALTER TABLE arrival ADD COLUMN advice_key INTEGER;   -- a hash of that and of the file

ALTER TABLE batch ADD COLUMN texts INTEGER NOT NULL DEFAULT 0 CHECK (texts IN (0, 1)); -- whether it has such texts
UPDATE batch SET texts = 1
 WHERE state <> 'closed' AND done_dir IS NOT NULL AND (after_success <> 'archive' OR work_root IS NOT NULL);

-- Which of those that go away again are there. Noted before one is written, so that a start after a kill removes it.
CREATE TABLE partner_note (
    drop_id  INTEGER NOT NULL REFERENCES drop_folder (id),
    manifest TEXT NOT NULL,
    kind     TEXT NOT NULL CHECK (kind IN ('waiting', 'taken')),
    about    INTEGER,                                -- the batch, or a hash of the advice; NULL: it is being written
    root     TEXT NOT NULL,                          -- the drop's folder
    folder   TEXT NOT NULL,                          -- the folder of receipts
    name     TEXT NOT NULL,                          -- the file's name, in the manifest's folder below that
    PRIMARY KEY (drop_id, manifest, kind)
) STRICT, WITHOUT ROWID;
