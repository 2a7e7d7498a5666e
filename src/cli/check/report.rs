//! How `check` prints what it finds: for people, or as JSON, each thing at once.
//!
//! Untrusted text is never printed with its control characters, so that no name can control a terminal.

use std::{
    fmt,
    io::{self, Write},
    path::Path,
};

use indicatif::{HumanBytes, ProgressBar};
use serde::Serialize;

use crate::{
    cli::output::escape,
    problem::{Problem, Severity},
};

/// What a problem is about; all `None` for the manifest itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Subject {
    /// The entry's place in the manifest, from 0, as in receipts.
    pub(super) index: Option<u64>,
    /// The line on which it begins, from 1.
    pub(super) line: Option<u64>,
    pub(super) reference: Option<String>,
}

/// How a manifest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// Every entry would be taken.
    Ok,
    /// Some would not.
    Problems,
    /// It cannot be read, or is no manifest.
    Unusable,
}

/// What was seen, in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CheckTotals {
    pub(super) manifests: u64,
    pub(super) unusable: u64,
    pub(super) entries: u64,
    pub(super) invalid: u64,
    /// Of good entries.
    pub(super) images: u64,
    /// Of good entries.
    pub(super) files: u64,
    /// Of these images and files.
    pub(super) bytes: u64,
    pub(super) warnings: u64,
}

impl CheckTotals {
    pub(super) const fn add(&mut self, other: &Self) {
        self.manifests += other.manifests;
        self.unusable += other.unusable;
        self.entries += other.entries;
        self.invalid += other.invalid;
        self.images += other.images;
        self.files += other.files;
        self.bytes += other.bytes;
        self.warnings += other.warnings;
    }

    pub(super) const fn is_well(&self) -> bool {
        self.unusable == 0 && self.invalid == 0
    }

    /// Everything but the manifests.
    fn inside(&self) -> String {
        format!(
            "{}: {} good, {} bad; the good ones have {}, {}, {}; {}",
            plural(self.entries, "entry", "entries"),
            self.entries - self.invalid,
            self.invalid,
            plural(self.images, "image", "images"),
            plural(self.files, "file", "files"),
            HumanBytes(self.bytes),
            plural(self.warnings, "warning", "warnings"),
        )
    }
}

impl fmt::Display for CheckTotals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unusable = if self.unusable > 0 { format!(" ({} unusable)", self.unusable) } else { String::new() };
        write!(f, "{}{unusable}, {}", plural(self.manifests, "manifest", "manifests"), self.inside())
    }
}

fn plural(number: u64, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}

/// Prints for people, or as JSON.
pub(super) struct Printer<W: Write> {
    out: W,
    json: bool,
    bar: ProgressBar,
    /// Whether the manifest has had a problem yet.
    any: bool,
}

impl<W: Write> Printer<W> {
    pub(super) const fn new(out: W, json: bool, bar: ProgressBar) -> Self {
        Self { out, json, bar, any: false }
    }

    /// A manifest begins.
    pub(super) fn begin(&mut self, path: &Path) -> io::Result<()> {
        self.any = false;
        let path = path.to_string_lossy();
        if self.json {
            self.put(&format!("{{\"manifest\":{},\"problems\":[", serde_json::to_string(&path)?))
        } else {
            self.put(&format!("{}\n", escape(&path)))
        }
    }

    /// One thing that is wrong with it.
    pub(super) fn problem(&mut self, subject: &Subject, problem: &Problem) -> io::Result<()> {
        let comma = if std::mem::replace(&mut self.any, true) { "," } else { "" };
        if self.json {
            let row = ReportRow {
                index: subject.index,
                line: subject.line,
                reference: subject.reference.as_deref(),
                severity: problem.severity,
                field: problem.field.as_deref(),
                path: problem.path.as_deref(),
                reason: &problem.reason,
                cure: &problem.cure,
            };
            self.put(&format!("{comma}{}", serde_json::to_string(&row)?))
        } else {
            self.put(&human(subject, problem))
        }
    }

    /// The manifest ends.
    pub(super) fn end(&mut self, status: Status, sum: &CheckTotals) -> io::Result<()> {
        let text = match (self.json, status) {
            (true, _) => {
                let CheckTotals { entries, invalid, images, files, bytes, warnings, .. } = *sum;
                let tail = Tail { status, entries, invalid, images, files, bytes, warnings };
                let tail = serde_json::to_string(&tail)?;
                format!("],{}\n", tail.strip_prefix('{').unwrap_or(&tail))
            }
            (false, Status::Unusable) => "  unusable: no entry of it would be taken\n".to_owned(),
            (false, Status::Ok) => format!("  ok: {}\n", sum.inside()),
            (false, Status::Problems) => format!("  {}\n", sum.inside()),
        };
        self.put(&text)?;
        self.out.flush()
    }

    /// The sum of all, for people.
    pub(super) fn total(&mut self, sum: &CheckTotals) -> io::Result<()> {
        self.put(&format!("\n{sum}\n"))?;
        self.out.flush()
    }

    fn put(&mut self, text: &str) -> io::Result<()> {
        if self.bar.is_hidden() {
            return self.out.write_all(text.as_bytes());
        }
        // Both may be the same terminal.
        let out = &mut self.out;
        self.bar.suspend(|| out.write_all(text.as_bytes()).and_then(|()| out.flush()))
    }
}

#[derive(Serialize)]
struct ReportRow<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<&'a str>,
    severity: Severity,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    reason: &'a str,
    cure: &'a str,
}

#[derive(Serialize)]
struct Tail {
    status: Status,
    entries: u64,
    invalid: u64,
    images: u64,
    files: u64,
    bytes: u64,
    warnings: u64,
}

fn human(subject: &Subject, problem: &Problem) -> String {
    let mut place = Vec::new();
    place.extend(subject.index.map(|index| format!("index {index}")));
    place.extend(subject.line.map(|line| format!("line {line}")));
    place.extend(subject.reference.clone());
    let mut parts = vec![place.join(", ")];
    parts.extend(problem.field.clone());
    parts.extend(problem.path.clone());
    parts.push(problem.reason.clone());
    parts.retain(|part| !part.is_empty());
    let mark = if problem.is_error() { "error" } else { "warning" };
    format!("  {mark}: {}\n    cure: {}\n", escape(&parts.join(": ")), escape(&problem.cure))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(json: bool, reference: &str, problems: &[Problem]) -> String {
        let mut printer = Printer::new(Vec::new(), json, ProgressBar::hidden());
        printer.begin(Path::new("/in/a\u{1b}[2J.manifest.json")).unwrap();
        let subject = Subject { index: Some(3), line: Some(5), reference: Some(reference.into()) };
        problems.iter().for_each(|problem| printer.problem(&subject, problem).unwrap());
        let sum =
            CheckTotals { manifests: 1, entries: 4, invalid: 1, images: 3, bytes: 2048, ..CheckTotals::default() };
        printer.end(Status::Problems, &sum).unwrap();
        String::from_utf8(printer.out).unwrap()
    }

    fn problem() -> Problem {
        Problem::error("the file is not there", "send it").field("images[0].path").path("17/front.jpg")
    }

    #[test]
    fn people_read_place_reason_and_cure() {
        let text = printed(false, "c/passport", &[problem(), Problem::warning("odd", "look")]);
        let wanted = "  error: index 3, line 5, c/passport: images[0].path: 17/front.jpg: the file is not there\n    cure: \
                      send it\n  warning: index 3, line 5, c/passport: odd\n";
        assert!(text.contains(wanted), "{text}");
        assert!(text.contains("4 entries: 3 good, 1 bad; the good ones have 3 images, 0 files, 2.00 KiB"), "{text}");
    }

    #[test]
    fn no_name_reaches_the_terminal_raw() {
        let text = printed(false, "a\u{1b}]0;owned\u{7}\u{202E}b\nc", &[problem()]);
        assert!(!text.contains(['\u{1b}', '\u{7}', '\u{202E}']), "{text}");
        assert!(text.contains("a\\u{1b}]0;owned\\u{7}\\u{202e}b\\nc"), "{text}");
    }

    #[test]
    fn machines_read_one_object_a_manifest() {
        for problems in [&[][..], &[problem(), problem()]] {
            let text = printed(true, "a\"\u{1b}", problems);
            assert_eq!(text.lines().count(), 1);
            let object: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(object["problems"].as_array().unwrap().len(), problems.len());
            assert_eq!((&object["status"], &object["entries"]), (&"problems".into(), &4.into()));
            if let Some(first) = object["problems"].get(0) {
                let wanted = serde_json::json!({
                    "index": 3, "line": 5, "reference": "a\"\u{1b}", "severity": "error", "field": "images[0].path",
                    "path": "17/front.jpg", "reason": "the file is not there", "cure": "send it",
                });
                assert_eq!(first, &wanted);
            }
        }
    }
}
