//! How `check` prints what it finds: for people, as JSON, or as CSV, each thing at once.
//!
//! Untrusted text is never printed with its control characters, so that no name can control a terminal.

use std::{
    borrow::Cow,
    fmt,
    io::{self, Write},
    path::Path,
};

use indicatif::{HumanBytes, HumanCount, ProgressBar};
use serde::Serialize;

use super::causes::{ProblemCause, ProblemCauses};
use crate::{
    cli::output::{Csv, escape, plural},
    intake::examine::{NEAR_NAME, NO_SUCH_FILE},
    problem::{Problem, Severity},
    warning_kind::WarningKind,
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

/// For whom it is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// By cause.
    Text,
    /// One by one.
    All,
    Json,
    Csv,
}

/// The columns of CSV.
const COLUMNS: [&str; 11] =
    ["manifest", "index", "line", "reference", "severity", "kind", "code", "field", "path", "reason", "cure"];

/// Prints in one form.
pub(super) struct Printer<W: Write> {
    out: W,
    form: Form,
    bar: ProgressBar,
    /// The manifest.
    manifest: String,
    /// Whether the manifest has had a problem yet.
    any: bool,
    /// Of all manifests, as lines for people.
    causes: ProblemCauses<String>,
    /// Of this manifest, for programs.
    own: ProblemCauses<serde_json::Value>,
}

impl<W: Write> Printer<W> {
    pub(super) fn new(out: W, form: Form, bar: ProgressBar) -> Self {
        let (causes, own) = (ProblemCauses::default(), ProblemCauses::default());
        Self { out, form, bar, manifest: String::new(), any: false, causes, own }
    }

    /// What comes before all manifests.
    pub(super) fn head(&mut self) -> io::Result<()> {
        if self.form == Form::Csv { self.put(&format!("{}\n", COLUMNS.join(","))) } else { Ok(()) }
    }

    /// A manifest begins.
    pub(super) fn begin(&mut self, path: &Path) -> io::Result<()> {
        self.any = false;
        self.manifest = path.to_string_lossy().into_owned();
        match self.form {
            Form::Text | Form::All => self.put(&format!("{}\n", escape(&self.manifest))),
            Form::Json => {
                self.put(&format!("{{\"manifest\":{},\"problems\":[", serde_json::to_string(&self.manifest)?))
            }
            Form::Csv => Ok(()),
        }
    }

    /// One thing that is wrong with it.
    pub(super) fn problem(&mut self, subject: &Subject, problem: &Problem) -> io::Result<()> {
        let comma = if std::mem::replace(&mut self.any, true) { "," } else { "" };
        match self.form {
            Form::All => {
                let (line, cure) = human(subject, problem);
                self.put(&format!("  {line}\n    {cure}\n"))
            }
            Form::Text => {
                let manifest = &self.manifest;
                self.causes.add(problem, || format!("{}\n{}", human(subject, problem).0, escape(manifest)));
                Ok(())
            }
            Form::Csv => {
                let row = csv_row(&self.manifest, subject, problem)?;
                self.put(&row)
            }
            Form::Json => {
                let row = ReportRow {
                    index: subject.index,
                    line: subject.line,
                    reference: subject.reference.as_deref(),
                    severity: problem.severity,
                    kind: problem.kind,
                    code: problem.code.as_deref(),
                    field: problem.field.as_deref(),
                    path: problem.path.as_deref(),
                    reason: &problem.reason,
                    cure: &problem.cure,
                };
                self.own.add(problem, || serde_json::to_value(&row).unwrap_or_default());
                self.put(&format!("{comma}{}", serde_json::to_string(&row)?))
            }
        }
    }

    /// The manifest ends.
    pub(super) fn end(&mut self, status: Status, sum: &CheckTotals) -> io::Result<()> {
        let text = match (self.form, status) {
            (Form::Csv, _) => String::new(),
            (Form::Json, _) => {
                let CheckTotals { entries, invalid, images, files, bytes, warnings, .. } = *sum;
                let causes = std::mem::take(&mut self.own).into_sorted();
                let tail = Tail { causes, status, entries, invalid, images, files, bytes, warnings };
                let tail = serde_json::to_string(&tail)?;
                format!("],{}\n", tail.strip_prefix('{').unwrap_or(&tail))
            }
            (Form::Text | Form::All, Status::Unusable) => "  unusable: no entry of it would be taken\n".to_owned(),
            (Form::Text | Form::All, Status::Ok) => format!("  ok: {}\n", sum.inside()),
            (Form::Text | Form::All, Status::Problems) => format!("  {}\n", sum.inside()),
        };
        self.put(&text)?;
        self.out.flush()
    }

    /// What is wrong by cause, and the sums of all, for people.
    pub(super) fn total(&mut self, sum: &CheckTotals, folders: &str) -> io::Result<()> {
        let mut left_out = false;
        for cause in std::mem::take(&mut self.causes).into_sorted() {
            let mut text = String::from("\n");
            if cause.count > 1 {
                let what = if cause.severity == Severity::Error { "errors" } else { "warnings" };
                let reason = escape(&cause.reason);
                text.push_str(&format!("{} {what} of this cause: {reason}\n", HumanCount(cause.count)));
            }
            let mut last = None;
            for (line, manifest) in cause.examples.iter().filter_map(|example| example.rsplit_once('\n')) {
                if last != Some(manifest) && sum.manifests > 1 {
                    text.push_str(&format!(" in {manifest}\n"));
                }
                last = Some(manifest);
                text.push_str(&format!("  {line}\n"));
            }
            left_out |= cause.count > cause.examples.len() as u64;
            self.put(&format!("{text}    cure: {}\n", escape(&cause.cure)))?;
        }
        if left_out {
            self.put("\nAll of them, one by one: check --all, --csv or --json\n")?;
        }
        self.put(&format!("\n{sum}\n{folders}"))?;
        self.out.flush()
    }

    /// What the API says begins: for programs an object of its own, the last line.
    pub(super) fn begin_online(&mut self) -> io::Result<()> {
        self.any = false;
        if self.form == Form::Json { self.put("{\"online\":true,\"problems\":[") } else { Ok(()) }
    }

    /// What the API says of an entry of this manifest.
    pub(super) fn online(&mut self, manifest: &Path, subject: &Subject, problem: &Problem) -> io::Result<()> {
        let manifest = manifest.to_string_lossy().into_owned();
        let is_new = std::mem::replace(&mut self.manifest, manifest.clone()) != manifest;
        match self.form {
            Form::Json => {
                let comma = if std::mem::replace(&mut self.any, true) { "," } else { "" };
                let row = serde_json::json!({
                    "manifest": manifest, "index": subject.index, "line": subject.line, "reference": subject.reference,
                    "severity": problem.severity, "code": problem.code, "field": problem.field,
                    "reason": problem.reason, "cure": problem.cure,
                });
                self.put(&format!("{comma}{row}"))
            }
            Form::All if is_new => {
                self.put(&format!("{}\n", escape(&manifest)))?;
                self.problem(subject, problem)
            }
            Form::All | Form::Text | Form::Csv => self.problem(subject, problem),
        }
    }

    /// What the API says ends.
    pub(super) fn end_online(&mut self, profiles: u64, ended: Option<String>) -> io::Result<()> {
        if self.form == Form::Json {
            let tail = serde_json::json!({ "profiles": profiles, "ended": ended }).to_string();
            self.put(&format!("],{}\n", tail.strip_prefix('{').unwrap_or(&tail)))?;
        }
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
    kind: Option<WarningKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    reason: &'a str,
    cure: &'a str,
}

#[derive(Serialize)]
struct Tail {
    causes: Vec<ProblemCause<serde_json::Value>>,
    status: Status,
    entries: u64,
    invalid: u64,
    images: u64,
    files: u64,
    bytes: u64,
    warnings: u64,
}

/// A row of CSV, guarded and escaped as those of other commands.
fn csv_row(manifest: &str, subject: &Subject, problem: &Problem) -> io::Result<String> {
    let number = |number: Option<u64>| number.map_or_else(String::new, |number| number.to_string());
    let text = |text: Option<&str>| escape(text.unwrap_or_default()).into_owned();
    let cells = [
        text(Some(manifest)),
        number(subject.index),
        number(subject.line),
        text(subject.reference.as_deref()),
        if problem.is_error() { "error" } else { "warning" }.to_owned(),
        problem.kind.map_or_else(String::new, |kind| kind.as_str().to_owned()),
        text(problem.code.as_deref()),
        text(problem.field.as_deref()),
        text(problem.path.as_deref()),
        text(Some(&problem.reason)),
        text(Some(&problem.cure)),
    ];
    let mut row = Vec::new();
    let mut csv = Csv::without_header(&mut row);
    csv.row(cells.into_iter().map(Cow::Owned))?;
    csv.end()?;
    String::from_utf8(row).map_err(io::Error::other)
}

/// What is wrong, and the cure, as two lines for people.
fn human(subject: &Subject, problem: &Problem) -> (String, String) {
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
    // That a file is not there needs no name for it.
    let code = problem.code.as_deref().filter(|code| !matches!(*code, NO_SUCH_FILE | NEAR_NAME));
    let name = problem.kind.map(WarningKind::as_str).or(code);
    let mark = name.map_or_else(|| mark.to_owned(), |name| format!("{mark} ({name})"));
    (format!("{mark}: {}", escape(&parts.join(": "))), format!("cure: {}", escape(&problem.cure)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(form: Form, reference: &str, problems: &[Problem]) -> String {
        let mut printer = Printer::new(Vec::new(), form, ProgressBar::hidden());
        printer.head().unwrap();
        printer.begin(Path::new("/in/a\u{1b}[2J.manifest.json")).unwrap();
        let subject = Subject { index: Some(3), line: Some(5), reference: Some(reference.into()) };
        problems.iter().for_each(|problem| printer.problem(&subject, problem).unwrap());
        let sum =
            CheckTotals { manifests: 1, entries: 4, invalid: 1, images: 3, bytes: 2048, ..CheckTotals::default() };
        printer.end(Status::Problems, &sum).unwrap();
        if form == Form::Text {
            printer.total(&sum, "").unwrap();
        }
        String::from_utf8(printer.out).unwrap()
    }

    fn problem() -> Problem {
        Problem::error("the file is not there", "send it").field("images[0].path").path("17/front.jpg")
    }

    #[test]
    fn people_read_place_reason_and_cure() {
        let text = printed(Form::All, "c/passport", &[problem(), Problem::warning("odd", "look")]);
        let wanted = "  error: index 3, line 5, c/passport: images[0].path: 17/front.jpg: the file is not there\n    cure: \
                      send it\n  warning: index 3, line 5, c/passport: odd\n";
        assert!(text.contains(wanted), "{text}");
        assert!(text.contains("4 entries: 3 good, 1 bad; the good ones have 3 images, 0 files, 2.00 KiB"), "{text}");
    }

    #[test]
    fn people_read_each_cause_once_with_the_first_of_many() {
        let mut problems = vec![problem(); 2000];
        problems.push(Problem::warning("odd", "look"));
        let text = printed(Form::Text, "c", &problems);
        let one = "  error: index 3, line 5, c: images[0].path: 17/front.jpg: the file is not there\n";
        let many = format!("\n2,000 errors of this cause: the file is not there\n{}    cure: send it\n", one.repeat(3));
        assert!(text.contains(&many), "{text}");
        assert!(text.contains("\n  warning: index 3, line 5, c: odd\n    cure: look\n"), "{text}");
        assert!(text.contains("check --all"), "{text}");
    }

    #[test]
    fn no_name_reaches_the_terminal_raw() {
        let text = printed(Form::Text, "a\u{1b}]0;owned\u{7}\u{202E}b\nc", &[problem()]);
        assert!(!text.contains(['\u{1b}', '\u{7}', '\u{202E}']), "{text}");
        assert!(text.contains("a\\u{1b}]0;owned\\u{7}\\u{202e}b\\nc"), "{text}");
    }

    #[test]
    fn spreadsheets_read_a_row_for_each_problem() {
        assert_eq!(printed(Form::Csv, "a", &[]), format!("{}\n", COLUMNS.join(",")));
        let named = Problem::warning_of(WarningKind::UnknownType, "odd", "look");
        let text = printed(Form::Csv, "=1+1\u{1b}", &[problem().code("name-in-use"), named]);
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        assert_eq!(reader.headers().unwrap(), &csv::StringRecord::from(COLUMNS.to_vec()));
        let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        let (manifest, reference) = ("/in/a\\u{1b}[2J.manifest.json", "'=1+1\\u{1b}");
        let first = [manifest, "3", "5", reference, "error", "", "name-in-use", "images[0].path", "17/front.jpg"];
        assert_eq!(rows[0].iter().take(9).collect::<Vec<_>>(), first);
        assert_eq!(rows[0].iter().skip(9).collect::<Vec<_>>(), ["the file is not there", "send it"]);
        assert_eq!(rows[1].iter().skip(4).take(3).collect::<Vec<_>>(), ["warning", "unknown-type", ""]);
        assert_eq!(rows.len(), 2);
    }

    #[test]
    fn machines_read_one_object_a_manifest() {
        for problems in [&[][..], &[problem(), problem()]] {
            let text = printed(Form::Json, "a\"\u{1b}", problems);
            assert_eq!(text.lines().count(), 1);
            let object: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(object["problems"].as_array().unwrap().len(), problems.len());
            assert_eq!((&object["status"], &object["entries"]), (&"problems".into(), &4.into()));
            let counts: u64 =
                object["causes"].as_array().unwrap().iter().map(|cause| cause["count"].as_u64().unwrap()).sum();
            assert_eq!(counts, problems.len() as u64);
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
