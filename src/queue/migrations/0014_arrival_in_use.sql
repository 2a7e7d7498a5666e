-- The first of the files that a waiting manifest names and that serve other manifests, as a JSON array.
ALTER TABLE arrival ADD COLUMN in_use TEXT;
-- Those of them that were replaced while several manifests waited for them, so that it is not known whose they are.
ALTER TABLE arrival ADD COLUMN replaced TEXT;
