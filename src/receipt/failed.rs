//! The list of failed entries beside a receipt: its name, and what it says of an entry.

use std::borrow::Cow;

use super::{EntryResult, EntryStatus};
use crate::{
    manifest::{EntryFailure, Format},
    problem::Problem,
};

/// Further errors of an entry are only counted.
const NAMED: usize = 3;

const ENDINGS: [&str; 5] = [".csv", ".tsv", ".json", ".jsonl", ".ndjson"];

/// How the name of a manifest's list begins.
#[must_use]
pub fn stem(manifest: &str) -> &str {
    let stem = ENDINGS.iter().find_map(|ending| before(manifest, ending)).unwrap_or(manifest);
    before(stem, ".manifest").unwrap_or(stem)
}

/// How it ends. It has the number of its receipt where the list is still taken for a manifest when it is dropped.
#[must_use]
pub fn ending(format: Format, number: u32) -> String {
    let number = if number == 0 { String::new() } else { format!(".{number}") };
    let ending = if format == Format::Csv { "csv" } else { "jsonl" };
    format!(".failed{number}.manifest.{ending}")
}

/// What is before this ending, in any letter case.
fn before<'a>(text: &'a str, ending: &str) -> Option<&'a str> {
    let (stem, end) = text.split_at_checked(text.len().checked_sub(ending.len())?)?;
    (end.eq_ignore_ascii_case(ending) && !stem.is_empty()).then_some(stem)
}

/// Whether a file is named as such a list.
#[must_use]
pub fn is_named_so(name: &str) -> bool {
    let Some(stem) = name.strip_suffix(".manifest.csv").or_else(|| name.strip_suffix(".manifest.jsonl")) else {
        return false;
    };
    let before_number = stem.trim_end_matches(|character: char| character.is_ascii_digit()).strip_suffix('.');
    stem.ends_with(".failed") || before_number.is_some_and(|stem| stem.ends_with(".failed"))
}

/// Why an entry did not make it; nothing of one that did.
#[must_use]
pub fn failure(entry: &EntryResult) -> Option<EntryFailure> {
    let status = EntryStatus::of(entry.state);
    if status.is_well() {
        return None;
    }
    let why = of_problems(status.as_str(), &problems_of(entry));
    Some(EntryFailure { sha256: entry.uploads.iter().map(|upload| upload.sha256.to_string()).collect(), ..why })
}

/// What is wrong with an entry that did not make it.
#[must_use]
pub fn problems_of(entry: &EntryResult) -> Cow<'_, [Problem]> {
    match (EntryStatus::of(entry.state), &entry.reason) {
        (EntryStatus::Cancelled, _) => {
            vec![Problem::error("cancelled by a person", "drop it again if it is to be created after all")].into()
        }
        (_, Some(reason)) if entry.problems.is_empty() => vec![Problem::error(reason, "see its receipt")].into(),
        _ => Cow::Borrowed(&entry.problems),
    }
}

/// What several problems come to; the code is that of the first that has one, or else `code`.
#[must_use]
pub fn of_problems(code: &str, problems: &[Problem]) -> EntryFailure {
    let errors: Vec<&Problem> = problems.iter().filter(|problem| problem.is_error()).collect();
    let named = errors.get(..NAMED).unwrap_or(&errors);
    let mut reasons: Vec<String> = named
        .iter()
        .map(|error| match error.path.as_ref().or(error.field.as_ref()) {
            Some(place) if !error.reason.starts_with(place.as_str()) => format!("{place}: {}", error.reason),
            _ => error.reason.clone(),
        })
        .collect();
    if errors.len() > NAMED {
        reasons.push(format!("and {} more, see its receipt", errors.len() - NAMED));
    }
    let mut cures: Vec<&str> = named.iter().map(|error| error.cure.as_str()).collect();
    cures.dedup();
    EntryFailure {
        code: errors.iter().find_map(|error| error.code.as_deref()).unwrap_or(code).to_owned(),
        reason: reasons.join("; "),
        cure: cures.join("; "),
        sha256: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_named_as_the_manifest_that_it_becomes() {
        for (manifest, format, number, expected) in [
            ("b.manifest.csv", Format::Csv, 0, "b.failed.manifest.csv"),
            ("b.Manifest.CSV", Format::Csv, 2, "b.failed.2.manifest.csv"),
            ("b.manifest.json", Format::Json, 0, "b.failed.manifest.jsonl"),
            ("b.ndjson", Format::JsonLines, 12, "b.failed.12.manifest.jsonl"),
            ("b.failed.manifest.csv", Format::Csv, 0, "b.failed.failed.manifest.csv"),
            (".manifest.csv", Format::Csv, 0, ".manifest.failed.manifest.csv"),
            ("list", Format::Csv, 0, "list.failed.manifest.csv"),
        ] {
            let name = stem(manifest).to_owned() + &ending(format, number);
            assert_eq!(name, expected);
            assert!(is_named_so(&name), "{name}");
        }
        for other in
            ["b.manifest.csv", "failed.manifest.csv", "b.failed.csv", "b.failed.x.manifest.csv", "b.7.manifest.csv"]
        {
            assert!(!is_named_so(other), "{other}");
        }
    }

    #[test]
    fn several_errors_become_one_cell() {
        let errors = [
            Problem::warning("odd", "look"),
            Problem::error("is empty", "fill it in").field("bytes"),
            Problem::error("a.png: truncated", "send it again").path("a.png").code("truncated"),
            Problem::error("no image", "send it again").path("b.png"),
            Problem::error("x", "y"),
        ];
        let failure = of_problems("invalid", &errors);
        assert_eq!(failure.code, "truncated");
        assert_eq!(failure.reason, "bytes: is empty; a.png: truncated; b.png: no image; and 1 more, see its receipt");
        assert_eq!(failure.cure, "fill it in; send it again");
        assert_eq!(of_problems("invalid", &[]).code, "invalid");
    }
}
