//! The kinds of warnings, which programs and configurations name.
//!
//! To add one: a variant with its row in `TABLE`, a row of the table in README.md, and its name in the list in
//! `config/passfort-ingest.toml` (a test of `warning` compares them).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a warning is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WarningKind {
    /// A `category` that is not among the known ones.
    UnknownCategory,
    /// A `document_type` that is not among the known ones.
    UnknownType,
    /// The same bytes for two profiles.
    SharedImage,
    /// A document with a back and no front.
    BackWithoutFront,
    /// No reference, where other entries of the manifest have one.
    MissingReference,
    /// A reference that looks like another one.
    LookalikeReference,
    /// A reference that a spreadsheet has changed.
    SpreadsheetReference,
    /// A list that ends exactly where a spreadsheet does.
    RowLimit,
    /// A column of a list that is not known or has no name.
    UnknownColumn,
    /// A list that ends with bytes that are no text.
    ListPadding,
    /// A file that was taken by a name that differs from the given one in letter case or Unicode normal form.
    NearPath,
    /// A record that an archive's own list has again.
    DuplicateRecord,
    /// A picture or PDF with certain damage inside.
    DamagedImage,
    /// A PDF that asks for a password.
    ProtectedPdf,
}

impl WarningKind {
    const TABLE: [(&'static str, Self); 14] = [
        ("unknown-category", Self::UnknownCategory),
        ("unknown-type", Self::UnknownType),
        ("shared-image", Self::SharedImage),
        ("back-without-front", Self::BackWithoutFront),
        ("missing-reference", Self::MissingReference),
        ("lookalike-reference", Self::LookalikeReference),
        ("spreadsheet-reference", Self::SpreadsheetReference),
        ("row-limit", Self::RowLimit),
        ("unknown-column", Self::UnknownColumn),
        ("list-padding", Self::ListPadding),
        ("near-path", Self::NearPath),
        ("duplicate-record", Self::DuplicateRecord),
        ("damaged-image", Self::DamagedImage),
        ("protected-pdf", Self::ProtectedPdf),
    ];

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::TABLE.into_iter().map(|(_, kind)| kind)
    }

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::TABLE.into_iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    /// The kind of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::TABLE.into_iter().find(|(known, _)| *known == name).map(|(_, kind)| kind)
    }
}
