//! What is wrong with an archive, by cause: the most frequent first, with a count, examples and the cure.

use std::{collections::BTreeMap, fmt};

use super::super::output::escape;
use crate::{
    entry::EntrySource,
    layout::{FindingKind, RecordFinding, Weight},
    problem::Problem,
};

/// So many examples, and values, are kept of each cause.
const EXAMPLES: usize = 3;
const VALUES: usize = 5;

/// So many causes are kept apart.
const CAUSES: usize = 500;

/// Findings by cause, in bounded memory.
#[derive(Debug, Default)]
pub(in crate::cli) struct RecordCauses {
    /// By weight, kind, field and reason.
    causes: BTreeMap<(Weight, String, Option<String>, String), CauseCount>,
}

#[derive(Debug, Default)]
struct CauseCount {
    count: u64,
    values: Vec<(String, u64)>,
    more_values: bool,
    examples: Vec<String>,
    cures: Vec<String>,
}

impl RecordCauses {
    /// Counts a finding.
    pub(in crate::cli) fn add(&mut self, finding: &RecordFinding) {
        // Names of files and numbers in a reason do not make another cause.
        let reason = match finding.kind {
            FindingKind::UnknownKey
            | FindingKind::AmbiguousKey
            | FindingKind::UnknownValue
            | FindingKind::MissingValue => finding.reason.clone(),
            kind => words(kind).to_owned(),
        };
        let key = (finding.severity, finding.kind.as_str().to_owned(), finding.field.clone(), reason);
        self.count(key, finding);
    }

    /// Counts what is wrong with an entry that was made.
    pub(in crate::cli) fn add_problem(&mut self, source: Option<&EntrySource>, problem: &Problem) {
        let weight = if problem.is_error() { Weight::Error } else { Weight::Warning };
        let kind = problem.kind.map(|kind| kind.as_str()).or(problem.code.as_deref()).unwrap_or("file");
        // What is quoted in a reason differs from entry to entry.
        let reason = problem.reason.split(['"', ':']).next().unwrap_or_default().trim().to_owned();
        let reason =
            if problem.reason.starts_with("line ") || reason.is_empty() { problem.reason.clone() } else { reason };
        let key = (weight, kind.to_owned(), problem.field.clone(), reason);
        self.count(key, &RecordFinding::of_problem(source, problem));
    }

    fn count(&mut self, key: (Weight, String, Option<String>, String), finding: &RecordFinding) {
        if self.causes.len() >= CAUSES && !self.causes.contains_key(&key) {
            return;
        }
        let cause = self.causes.entry(key).or_default();
        cause.count += 1;
        if let Some(value) = &finding.value {
            let is_full = cause.values.len() >= VALUES;
            match cause.values.iter_mut().find(|(own, _)| own == value) {
                Some((_, count)) => *count += 1,
                None if is_full => cause.more_values = true,
                None => cause.values.push((value.clone(), 1)),
            }
        }
        if cause.examples.len() < EXAMPLES {
            cause.examples.push(example(finding));
        }
        if cause.cures.len() < EXAMPLES && !cause.cures.contains(&finding.cure) {
            cause.cures.push(finding.cure.clone());
        }
    }
}

fn example(finding: &RecordFinding) -> String {
    let place = match (&finding.source, finding.row) {
        (Some(_), Some(row)) => format!("row {row}"),
        _ => finding.place(),
    };
    match &finding.path {
        Some(path) if *path != place => format!("{place} ({path})"),
        _ => place,
    }
}

impl fmt::Display for RecordCauses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut causes: Vec<_> = self.causes.iter().filter(|((weight, ..), _)| *weight != Weight::Note).collect();
        causes.sort_by_key(|((weight, ..), cause)| (*weight, std::cmp::Reverse(cause.count)));
        for ((weight, kind, field, reason), cause) in causes {
            let mark = if *weight == Weight::Warning { "warning, " } else { "" };
            let field = field.as_ref().filter(|field| !reason.starts_with(field.as_str()));
            let field = field.map_or_else(String::new, |field| format!("{field}: "));
            writeln!(f, "  {:<6} {mark}{kind}: {field}{}", format!("{}×", cause.count), escape(reason))?;
            if !cause.values.is_empty() {
                let mut values: Vec<String> =
                    cause.values.iter().map(|(value, count)| format!("\"{}\" {count}×", escape(value))).collect();
                values.extend(cause.more_values.then(|| "…".to_owned()));
                writeln!(f, "         values: {}", values.join(", "))?;
            }
            writeln!(f, "         e.g. {}", escape(&cause.examples.join("; ")))?;
            for cure in &cause.cures {
                writeln!(f, "         cure: {}", escape(cure))?;
            }
        }
        Ok(())
    }
}

/// What a kind means.
const fn words(kind: FindingKind) -> &'static str {
    match kind {
        FindingKind::MissingFile => "a file or folder that is named is not there",
        FindingKind::NoImages => "there is no image",
        FindingKind::PageCount => "the number of pages differs from the images found",
        FindingKind::TooManyImages => "there are more images than there may be",
        FindingKind::UnknownKey => "a key is in no lookup",
        FindingKind::AmbiguousKey => "a key has two different values",
        FindingKind::UnknownValue => "a value is in no table",
        FindingKind::MissingValue => "a cell is empty",
        FindingKind::InvalidValue => "a value is not what it should be",
        FindingKind::Conflict => "records of one reference contradict one another",
        FindingKind::DuplicateRecord => "the same record was there before; it makes nothing new",
        FindingKind::RowLimit => "the list ends exactly where a spreadsheet does",
        FindingKind::SameSideTwice => "two images show the same side of one document",
        FindingKind::PathOutside => "a path leads out of the archive",
        FindingKind::AmbiguousFile => "several files fit",
        FindingKind::BadRecord => "a record cannot be read",
        FindingKind::UnlistedFile => "no record takes the picture, and it is not sent",
        FindingKind::Filtered => "left out by the layout",
    }
}
