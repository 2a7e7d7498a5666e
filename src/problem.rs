//! What is wrong with an entry, a manifest or a file, with what its sender can do about it.
//!
//! A [`Problem`] is a value, not an error type: reading continues after one, so that a report names all of them. The
//! output of `check`, the queue and receipts contain it unchanged. It never quotes the content of a file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::warning_kind::WarningKind;

/// Whether a problem stops its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// A warning; the entry continues.
    Warning,
    /// The entry, or the manifest, is not taken.
    #[default]
    Error,
}

impl Severity {
    fn is_error(&self) -> bool {
        *self == Self::Error
    }
}

/// One thing that is wrong, where it is, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// Whether it stops the entry; left out of JSON where it is an error.
    #[serde(default, skip_serializing_if = "Severity::is_error")]
    pub severity: Severity,
    /// The manifest's field it is about, e.g. `profile_id` or `images[0].path`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub field: Option<String>,
    /// The file it is about, as the manifest writes its path.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<String>,
    /// What is wrong: a lower-case fragment without a full stop.
    pub reason: String,
    /// What its reader can do about it.
    pub cure: String,
    /// A stable name of the reason, for programs.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schemars(with = "Option<String>", transform = name_codes)]
    pub code: Option<Box<str>>,
    /// Of a warning: what it is about. An error has one where that is refused.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub kind: Option<WarningKind>,
}

/// The stable names of reasons, and what each means. A reason without a name is for people alone.
pub const CODES: [(&str, &str); 15] = [
    ("absolute-path", "the path begins at the root of a file system; paths start from the manifest's folder"),
    ("all-or-nothing", "another entry of the manifest is bad, and the drop takes all or nothing"),
    ("changed-while-taken", "the file changed while it was taken"),
    ("document-exists", "the profile has a document of this category and type already"),
    ("equal-refused", "the API refused an equal entry for good"),
    ("file-changed", "the file has changed in its place since it was taken in"),
    ("name-in-use", "another manifest names this path for another profile"),
    ("near-name", "there is no such file, and one whose name is nearly the same"),
    ("no-such-file", "there is no such file"),
    ("not-sent-with-others", "another entry of the manifest is bad, so this one is not sent"),
    ("other-content", "the reference was used before for other content"),
    ("profile-not-given", "the key may not read or write this profile"),
    ("refused-without-reason", "the API refuses all requests about the profile, without its own words"),
    ("taken-file-changed", "the file has changed in, or is gone from, the folder of taken files"),
    ("too-many-invalid", "the manifest has too many bad entries"),
];

/// Lists [`CODES`] in the schema of a code.
fn name_codes(schema: &mut schemars::Schema) {
    let codes = CODES.map(|(code, meaning)| serde_json::json!({ "const": code, "description": meaning }));
    schema.insert("anyOf".into(), codes.into_iter().chain([serde_json::json!({ "type": "string" })]).collect());
}

impl Problem {
    /// A problem that stops its entry.
    pub fn error(reason: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            field: None,
            path: None,
            reason: reason.into(),
            cure: cure.into(),
            code: None,
            kind: None,
        }
    }

    /// A problem that is only a warning.
    pub fn warning(reason: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(reason, cure) }
    }

    /// A warning of a kind that programs and configurations can name.
    pub fn warning_of(kind: WarningKind, reason: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { kind: Some(kind), ..Self::warning(reason, cure) }
    }

    /// The error that a warning becomes where its kind is refused.
    #[must_use]
    pub(crate) fn refused(mut self) -> Self {
        self.severity = Severity::Error;
        self.cure.push_str("; such entries are not sent here (refuse_warnings)");
        self
    }

    /// The same problem, about this field.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// The same problem, about this file.
    #[must_use]
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// The same problem, by this stable name.
    #[must_use]
    pub fn code(mut self, code: impl Into<Box<str>>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// Whether it stops its entry.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity.is_error()
    }
}
