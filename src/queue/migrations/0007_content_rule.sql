-- By which version of its rule `content` is a digest of what the job asks for; see content.rs. Rows of earlier releases have
-- the first.
ALTER TABLE job ADD COLUMN content_rule INTEGER NOT NULL DEFAULT 1;
