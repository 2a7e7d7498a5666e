//! The categories and document types that are known today.
//!
//! For warnings only: the API's lists grow without notice, so a value that is missing here is never refused. Both lists
//! are what the vendor's guide and its OpenAPI file of 2019 name.

/// Known values of `category` (guide and OpenAPI file of 2019).
pub const CATEGORIES: [&str; 9] = [
    "PROOF_OF_IDENTITY",
    "PROOF_OF_ADDRESS",
    "PROOF_OF_SOURCE_OF_WEALTH",
    "PROOF_OF_SOURCE_OF_FUNDS",
    "PROOF_OF_BANK_ACCOUNT",
    "PROOF_OF_TAX_STATUS",
    "SUPPORTING",
    "COMPANY_FILING",
    "DATA_SUMMARY",
];

/// Known values of `document_type` (guide and OpenAPI file of 2019); `DRIVING_LICENCE` is spelt so.
pub const DOCUMENT_TYPES: [&str; 36] = [
    "PASSPORT",
    "PASSPORT_CARD",
    "DRIVING_LICENCE",
    "STATE_ID",
    "BIOMETRIC_STATE_ID",
    "VOTER_ID",
    "BIRTH_CERTIFICATE",
    "BANK_STATEMENT",
    "UTILITY_BILL",
    "FACE_IMAGE",
    "HEALTHCARE_ID",
    "TAX_ID",
    "VISARD",
    "RESIDENCE_ID",
    "RESIDENCE_OTHER",
    "UNKNOWN",
    "COMPANY_ACCOUNTS",
    "COMPANY_CHANGE_OF_ADDRESS",
    "ANNUAL_RETURN",
    "CONFIRMATION_STATEMENT",
    "STATEMENT_OF_CAPITAL",
    "CHANGE_OF_NAME",
    "INCORPORATION",
    "LIQUIDATION",
    "MISCELLANEOUS",
    "MORTGAGE",
    "CHANGE_OF_OFFICERS",
    "CHANGE_OF_PSC",
    "RESOLUTION",
    "CREDIT_REPORT",
    "CREDIT_CHECK",
    "REGISTER_REPORT",
    "REGISTER_CHECK",
    "DATA_SUMMARY",
    "ADVERSE_MEDIA",
    "TAX",
];

/// The value of `known` that `word` was probably meant to be, if any is near enough to be worth naming.
#[must_use]
pub fn nearest(word: &str, known: &[&'static str]) -> Option<&'static str> {
    crate::nearest::nearest(word, known.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_apis_own_spelling() {
        assert_eq!(nearest("DRIVING_LICENSE", &DOCUMENT_TYPES), Some("DRIVING_LICENCE"));
        assert_eq!(nearest("PROOF_OF_ADRESS", &CATEGORIES), Some("PROOF_OF_ADDRESS"));
    }

    #[test]
    fn no_value_is_listed_twice() {
        for list in [&CATEGORIES[..], &DOCUMENT_TYPES[..]] {
            let distinct: std::collections::BTreeSet<_> = list.iter().collect();
            assert_eq!(distinct.len(), list.len());
        }
    }
}
