//! Collects what is wrong with one entry, or with a complete manifest, while it is read.
//!
//! Not for deciding what is wrong: the rules are in `fields`. Invariant: however much is wrong, a bounded number of
//! problems is kept, and each quotes a bounded part of the input with nothing in it that a terminal would interpret.

use crate::{
    entry::{Content, Entry, EntryKind, ProfileId, RelativePath},
    problem::{Problem, Severity},
    warning_kind::WarningKind,
};

use super::Reading;

/// How many errors, and how many warnings, one entry keeps: more would not be read, and a manifest of nothing but
/// mistakes must not fill the queue.
const MOST: usize = 50;

/// How many characters of the input a reason quotes.
const QUOTED: usize = 60;

/// The problems of one entry or manifest, with a bound.
#[derive(Debug, Default)]
pub(super) struct Findings {
    errors: Vec<Problem>,
    warnings: Vec<Problem>,
    errors_left_out: u64,
    warnings_left_out: u64,
    paths: Vec<String>,
}

/// What an entry is known by where it cannot be made into an [`Entry`], as far as it could be read.
#[derive(Debug)]
pub(super) struct Label {
    pub(super) index: u64,
    pub(super) line: Option<u64>,
    pub(super) kind: EntryKind,
    pub(super) reference: Option<String>,
    pub(super) profile_id: Option<ProfileId>,
    pub(super) replace: bool,
    /// Whether any entry of the manifest has a reference.
    pub(super) others_have_references: bool,
}

impl Findings {
    /// Notes a problem.
    pub(super) fn add(&mut self, problem: Problem) {
        let (kept, left_out) = match problem.severity {
            Severity::Error => (&mut self.errors, &mut self.errors_left_out),
            Severity::Warning => (&mut self.warnings, &mut self.warnings_left_out),
        };
        if kept.len() < MOST {
            kept.push(problem);
        } else {
            *left_out = left_out.saturating_add(1);
        }
    }

    /// Records a file that the entry names, even if the entry is invalid.
    pub(super) fn name_path(&mut self, path: &RelativePath) {
        self.paths.push(path.as_str().to_owned());
    }

    /// Takes over the files that a part of the entry names.
    pub(super) fn name_paths_of(&mut self, part: &mut Self) {
        self.paths.append(&mut part.paths);
    }

    /// The value, or a note of why there is none.
    pub(super) fn take<T>(&mut self, checked: Result<T, Problem>) -> Option<T> {
        checked.map_err(|problem| self.add(problem)).ok()
    }

    /// Whether anything was found that stops the entry or the manifest.
    pub(super) fn is_fatal(&self) -> bool {
        !self.errors.is_empty()
    }

    /// Whether an error about this field was kept, so that it is not called missing too.
    pub(super) fn names(&self, field: &str) -> bool {
        self.errors.iter().any(|problem| problem.field.as_deref() == Some(field))
    }

    /// Every problem that was kept, errors first, and how many were not.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let Self { mut errors, warnings, errors_left_out, warnings_left_out, .. } = self;
        if errors_left_out > 0 {
            let reason = format!("there are {errors_left_out} more problems of this kind");
            errors.push(Problem::error(reason, "mend those that are named, then check again"));
        }
        errors.extend(warnings);
        if warnings_left_out > 0 {
            let reason = format!("there are {warnings_left_out} more warnings");
            errors.push(Problem::warning(reason, "mend those that are named, then check again"));
        }
        errors
    }

    /// The entry, if there is content and nothing stops it; otherwise what is wrong with it.
    pub(super) fn conclude(mut self, label: Label, content: Option<Content>) -> Reading {
        let Label { index, line, kind, reference, profile_id, replace, others_have_references } = label;
        if others_have_references && reference.is_none() && !self.names("reference") {
            let reason = "the entry has no reference, but others of the manifest have one";
            let cure = "give it the sender's own key, by which a later delivery of it is known";
            self.add(Problem::warning_of(WarningKind::MissingReference, reason, cure).field("reference"));
        }
        if replace && reference.is_none() && !self.names("reference") {
            let cure = "give the entry the reference of the one that it replaces, or leave replace out";
            self.add(Problem::error("replace is true, but the entry has no reference", cure).field("replace"));
        }
        match (content, profile_id) {
            (Some(content), Some(profile_id)) if !self.is_fatal() => Reading::Entry {
                entry: Entry { index, profile_id, reference, replace, content },
                warnings: self.into_problems(),
                line,
                source: None,
            },
            (_, profile_id) => Reading::Invalid {
                index,
                line,
                kind,
                reference,
                profile_id: profile_id.map(|id| id.as_str().to_owned()),
                paths: std::mem::take(&mut self.paths),
                problems: self.into_problems(),
                source: None,
            },
        }
    }
}

/// The beginning of a text from the manifest in quotes, with control characters and the like escaped.
pub(super) fn quote(text: &str) -> String {
    let mut quoted: String = text.chars().take(QUOTED).flat_map(char::escape_debug).collect();
    if text.chars().nth(QUOTED).is_some() {
        quoted.push('…');
    }
    format!("\"{quoted}\"")
}

/// The beginning of a text from the manifest, escaped, to be used as a field's name.
pub(super) fn name(text: &str) -> String {
    quote(text).trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_short_and_harmless() {
        assert_eq!(quote("a\u{1b}[31m\n\0b\u{202e}"), r#""a\u{1b}[31m\n\0b\u{202e}""#);
        let long = quote(&"x".repeat(1_000_000));
        assert!(long.len() < 100 && long.ends_with("…\""), "{long}");
    }

    #[test]
    fn a_flood_of_problems_is_counted_but_not_kept() {
        let mut findings = Findings::default();
        for _ in 0..1_000 {
            findings.add(Problem::error("bad", "mend it"));
            findings.add(Problem::warning("odd", "look at it"));
        }
        assert!(findings.is_fatal());
        let problems = findings.into_problems();
        assert_eq!(problems.len(), 2 * MOST + 2);
        assert!(problems.iter().any(|problem| problem.reason == "there are 950 more problems of this kind"));
        assert!(problems.iter().any(|problem| problem.reason == "there are 950 more warnings"));
    }
}
