//! What is wrong with a record of an archive, or with the layout itself.

use serde::{Deserialize, Serialize};

use super::text::quoted;
use crate::{entry::EntrySource, problem::Problem, warning_kind::WarningKind};

/// Why a layout makes no entry of something. The words are an interface for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    MissingFile,
    NoImages,
    PageCount,
    TooManyImages,
    UnknownKey,
    AmbiguousKey,
    UnknownValue,
    MissingValue,
    InvalidValue,
    Conflict,
    DuplicateRecord,
    RowLimit,
    SameSideTwice,
    PathOutside,
    AmbiguousFile,
    BadRecord,
    UnlistedFile,
    Filtered,
}

/// The word of [`FindingKind::PathOutside`].
pub const PATH_OUTSIDE: &str = "path_outside";

impl FindingKind {
    /// The word for programs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MissingFile => "missing_file",
            Self::NoImages => "no_images",
            Self::PageCount => "page_count",
            Self::TooManyImages => "too_many_images",
            Self::UnknownKey => "unknown_key",
            Self::AmbiguousKey => "ambiguous_key",
            Self::UnknownValue => "unknown_value",
            Self::MissingValue => "missing_value",
            Self::InvalidValue => "invalid_value",
            Self::Conflict => "conflict",
            Self::DuplicateRecord => "duplicate_record",
            Self::RowLimit => "row_limit",
            Self::SameSideTwice => "same_side_twice",
            Self::PathOutside => PATH_OUTSIDE,
            Self::AmbiguousFile => "ambiguous_file",
            Self::BadRecord => "bad_record",
            Self::UnlistedFile => "unlisted_file",
            Self::Filtered => "filtered",
        }
    }
}

impl FindingKind {
    /// The kind of warning that it is of an entry, or of a list, where it is one.
    #[must_use]
    pub const fn warning(self) -> Option<WarningKind> {
        match self {
            Self::DuplicateRecord => Some(WarningKind::DuplicateRecord),
            Self::RowLimit => Some(WarningKind::RowLimit),
            _ => None,
        }
    }
}

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// No entry is made of it.
    Error,
    /// Somebody should look at it.
    Warning,
    /// Only counted.
    Note,
}

/// One thing that is wrong, by the row or the file that it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordFinding {
    pub kind: FindingKind,
    pub severity: Weight,
    /// The list, or the sidecar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The line of the file or row of the sheet, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The file or folder that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    pub reason: String,
    pub cure: String,
}

impl RecordFinding {
    /// An error.
    pub(super) fn error(kind: FindingKind, reason: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            kind,
            severity: Weight::Error,
            source: None,
            row: None,
            field: None,
            value: None,
            path: None,
            reference: None,
            reason: reason.into(),
            cure: cure.into(),
        }
    }

    pub(super) fn warning(kind: FindingKind, reason: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { severity: Weight::Warning, ..Self::error(kind, reason, cure) }
    }

    pub(super) fn note(kind: FindingKind, reason: impl Into<String>) -> Self {
        Self { severity: Weight::Note, ..Self::error(kind, reason, "nothing need be done") }
    }

    pub(super) fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    pub(super) fn value(mut self, value: impl Into<String>) -> Self {
        self.value = Some(value.into());
        self
    }

    pub(super) fn path(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// The same, about this record.
    pub(super) fn at(mut self, source: &EntrySource) -> Self {
        if source.is_file {
            self.path.get_or_insert_with(|| source.file.clone());
        } else {
            self.source = Some(source.file.clone());
            self.row = source.row;
        }
        self
    }

    /// What is wrong with an entry that was made of this record.
    #[must_use]
    pub fn of_problem(source: Option<&EntrySource>, problem: &Problem) -> Self {
        let mut finding = Self::error(FindingKind::InvalidValue, problem.reason.clone(), problem.cure.clone());
        finding.field.clone_from(&problem.field);
        finding.path.clone_from(&problem.path);
        source.map_or(finding.clone(), |source| finding.at(source))
    }

    /// Where it is, for people.
    #[must_use]
    pub fn place(&self) -> String {
        match (&self.source, self.row, &self.path) {
            (Some(source), Some(row), _) => format!("{source}, row {row}"),
            (Some(source), None, _) => source.clone(),
            (None, _, Some(path)) => path.clone(),
            (None, _, None) => String::new(),
        }
    }

    /// As receipts write it.
    #[must_use]
    pub fn problem(&self) -> Problem {
        let place = self.row.map_or_else(String::new, |row| format!("line {row}: "));
        let value = self.value.as_deref().map_or_else(String::new, |value| format!(" (value {})", quoted(value)));
        let mut problem = Problem::error(format!("{place}{}{value}", self.reason), self.cure.clone());
        problem.field.clone_from(&self.field);
        problem.path.clone_from(&self.path);
        problem.code(self.kind.as_str())
    }
}

/// Why a layout, or its list, cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The layout, or what it reads, is wrong: a person must change it.
    #[error("{what}: {reason}; {cure}")]
    Wrong { what: String, reason: String, cure: String },
    /// A file cannot be read.
    #[error("{what} cannot be read: {error}")]
    Io {
        what: String,
        #[source]
        error: std::io::Error,
    },
    /// The one who takes the entries wants no more.
    #[error("the reading was stopped")]
    Stopped,
}

impl LayoutError {
    pub(super) fn wrong(what: impl Into<String>, reason: impl Into<String>, cure: impl Into<String>) -> Self {
        Self::Wrong { what: what.into(), reason: reason.into(), cure: cure.into() }
    }

    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |error| Self::Io { what, error }
    }
}

impl From<std::io::Error> for LayoutError {
    fn from(error: std::io::Error) -> Self {
        Self::Io { what: "the temporary file".into(), error }
    }
}
