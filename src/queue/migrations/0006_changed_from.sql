-- The digest with which a file was taken in, where a person had another content of it accepted since.
ALTER TABLE upload ADD COLUMN changed_from BLOB CHECK (length(changed_from) = 32);
