-- By what a list proved that a document was absent: how long after the end of the call it was asked for at least, in
-- milliseconds, and the document that had to be in it, or in the list of another profile.
ALTER TABLE attempt ADD COLUMN bound_ms INTEGER;
ALTER TABLE attempt ADD COLUMN witness TEXT;
