//! Words that archives use for kinds and sides, for a first layout.

use super::text::fold;
use crate::nearest::{likeness, nearest};

/// Words of many archives for the kinds that the API knows.
const KINDS: [(&str, &str); 30] = [
    ("passport", "PROOF_OF_IDENTITY/PASSPORT"),
    ("reisepass", "PROOF_OF_IDENTITY/PASSPORT"),
    ("pass", "PROOF_OF_IDENTITY/PASSPORT"),
    ("passeport", "PROOF_OF_IDENTITY/PASSPORT"),
    ("driving licence", "PROOF_OF_IDENTITY/DRIVING_LICENCE"),
    ("driving license", "PROOF_OF_IDENTITY/DRIVING_LICENCE"),
    ("drivers license", "PROOF_OF_IDENTITY/DRIVING_LICENCE"),
    ("driver's license", "PROOF_OF_IDENTITY/DRIVING_LICENCE"),
    ("drvlic", "PROOF_OF_IDENTITY/DRIVING_LICENCE"),
    ("führerschein", "PROOF_OF_IDENTITY/DRIVING_LICENCE"),
    ("id card", "PROOF_OF_IDENTITY/STATE_ID"),
    ("national id", "PROOF_OF_IDENTITY/STATE_ID"),
    ("national id card", "PROOF_OF_IDENTITY/STATE_ID"),
    ("identity card", "PROOF_OF_IDENTITY/STATE_ID"),
    ("personalausweis", "PROOF_OF_IDENTITY/STATE_ID"),
    ("selfie", "PROOF_OF_IDENTITY/FACE_IMAGE"),
    ("face", "PROOF_OF_IDENTITY/FACE_IMAGE"),
    ("utility bill", "PROOF_OF_ADDRESS/UTILITY_BILL"),
    ("utilbill", "PROOF_OF_ADDRESS/UTILITY_BILL"),
    ("stromrechnung", "PROOF_OF_ADDRESS/UTILITY_BILL"),
    ("rechnung", "PROOF_OF_ADDRESS/UTILITY_BILL"),
    ("bank statement", "PROOF_OF_BANK_ACCOUNT/BANK_STATEMENT"),
    ("bankstmt", "PROOF_OF_BANK_ACCOUNT/BANK_STATEMENT"),
    ("kontoauszug", "PROOF_OF_BANK_ACCOUNT/BANK_STATEMENT"),
    ("mortgage deed", "SUPPORTING/MORTGAGE"),
    ("mortgage", "SUPPORTING/MORTGAGE"),
    ("tax return", "PROOF_OF_ADDRESS/TAX_RETURN"),
    ("pep declaration", "file"),
    ("pep form", "file"),
    ("selbstauskunft", "file"),
];

/// Words for sides.
const SIDES: [(&str, &str); 15] = [
    ("f", "FRONT"),
    ("front", "FRONT"),
    ("vorderseite", "FRONT"),
    ("vorne", "FRONT"),
    ("v", "FRONT"),
    ("recto", "FRONT"),
    ("b", "BACK"),
    ("back", "BACK"),
    ("rear", "BACK"),
    ("reverse", "BACK"),
    ("rückseite", "BACK"),
    ("verso", "BACK"),
    ("hinten", "BACK"),
    ("face", "FACE"),
    ("selfie", "FACE"),
];

/// What a value is as a kind, where that is known.
pub(super) fn known_kind(value: &str) -> &'static str {
    let plain = fold(value).replace(['_', '-'], " ");
    let exact = KINDS.iter().find(|(word, _)| *word == plain);
    let near = || {
        let word = nearest(&plain, KINDS.iter().map(|(word, _)| *word))?;
        likeness(word, &plain, 0.85)?;
        KINDS.iter().find(|(own, _)| *own == word)
    };
    exact.or_else(near).map_or("", |(_, kind)| kind)
}

/// What a value is as a side, where that is known.
pub(super) fn known_side(value: &str) -> Option<&'static str> {
    let plain = fold(value);
    SIDES.iter().find(|(word, _)| *word == plain).map(|(_, side)| *side)
}

/// A text as TOML writes it.
pub(super) fn toml(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
