-- What was measured beyond the bound on lost answers, and since when; see absence.rs.
ALTER TABLE observed ADD COLUMN broken TEXT;
ALTER TABLE observed ADD COLUMN broken_since INTEGER;

-- Nothing reads it.
ALTER TABLE job DROP COLUMN loss_answered;
