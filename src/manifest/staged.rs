//! The lines in which a layout hands on what it made of an archive: an entry, or why there is none, each with its source.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    entry::{EntryKind, EntrySource},
    problem::Problem,
};

/// An entry that was not made, as far as it is known.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StagedInvalid {
    /// What it was to be.
    pub kind: EntryKind,
    /// The sender's key.
    pub reference: Option<String>,
    /// The profile that it is for, in lower case.
    pub profile_id: Option<String>,
    /// The files that it names.
    pub paths: Vec<String>,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StagedLine<'a> {
    pub(super) source: EntrySource,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) entry: Option<&'a RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) invalid: Option<StagedInvalid>,
    /// About the entry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<Problem>,
}

/// The line of an entry, which is given in the form of a JSON Lines manifest, with warnings about it.
#[must_use]
pub fn entry_line(source: &EntrySource, entry: &str, warnings: &[Problem]) -> String {
    // Its numbers keep their digits, so it is not read here.
    let source = serde_json::to_string(source).unwrap_or_default();
    let warnings = match warnings {
        [] => String::new(),
        warnings => format!(",\"warnings\":{}", serde_json::to_string(warnings).unwrap_or_default()),
    };
    format!("{{\"source\":{source},\"entry\":{entry}{warnings}}}\n")
}

/// The line of an entry that was not made.
#[must_use]
pub fn invalid_line(source: &EntrySource, invalid: StagedInvalid) -> String {
    let line = StagedLine { source: source.clone(), entry: None, invalid: Some(invalid), warnings: Vec::new() };
    format!("{}\n", serde_json::to_string(&line).unwrap_or_default())
}
