//! `check --layout`: everything that is wrong with an archive, by the rows of its own list.

use std::{
    borrow::Cow,
    io::{self, Write},
    ops::ControlFlow,
};

use serde::Serialize;

use super::{
    CheckArgs, compare, judge,
    online::{OnlineEnd, OnlineQuestions, in_words},
    references::References,
    report::{CheckTotals, Form, Status},
    unready,
};
use crate::{
    cli::{
        layout::{causes::RecordCauses, failure, headline},
        output::{Csv, Exit, escape},
    },
    config::Config,
    entry::{EntrySource, Sha256},
    inbox::beneath::Root,
    intake::{cross_check::CrossCheck, examine, examine::ManifestRules, named_files::NamedFiles},
    layout::{ArchiveLayout, ArchiveTarget, ArchiveWarnings, LayoutError, RecordFinding, Weight, stage},
    problem::Problem,
    queue::admission::Admission,
    service::IMPORT,
};

/// The columns of CSV.
const COLUMNS: [&str; 10] =
    ["source", "row", "reference", "severity", "kind", "field", "value", "path", "reason", "cure"];

/// Checks archives by a layout.
///
/// # Errors
///
/// Where the layout or an archive cannot be used, and those of writing.
pub(super) fn run(
    args: &CheckArgs,
    layout: &ArchiveLayout,
    (config, rules): (&Config, &ManifestRules),
    form: Form,
) -> anyhow::Result<Exit> {
    let archives = args.input.archives(layout).collect::<anyhow::Result<Vec<_>>>()?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    if form == Form::Csv {
        writeln!(out, "{}", COLUMNS.join(","))?;
    }
    let mut check = ArchiveCheck {
        layout,
        rules,
        form,
        names: NamedFiles::of(archives.len()),
        references: References::default(),
        cross: CrossCheck::without_queue(),
        questions: args.online.then(OnlineQuestions::default),
    };
    let mut is_well = true;
    for (number, (target, root)) in archives.iter().enumerate() {
        is_well &= check.archive(number, target, root, &mut out)?;
    }
    out.flush()?;
    let online = match &check.questions {
        Some(questions) => {
            let (all_good, end) = ask(questions, config, args.drop.as_deref().unwrap_or(IMPORT), form, &mut out)?;
            is_well &= all_good;
            end.exit()
        }
        None => Exit::Well,
    };
    out.flush()?;
    Ok(if is_well { Exit::Well } else { Exit::Refused }.max(online))
}

/// Asks the API about the good entries, and prints what it says; says whether nothing is wrong.
fn ask(
    questions: &OnlineQuestions,
    config: &Config,
    drop: &str,
    form: Form,
    out: &mut dyn Write,
) -> anyhow::Result<(bool, OnlineEnd)> {
    if form == Form::Json {
        write!(out, "{{\"online\":true,\"problems\":[")?;
    }
    let mut report = Report { out, form, causes: RecordCauses::default(), any: false };
    let mut is_well = true;
    let end = questions.ask(config, drop, &mut |_, (subject, source), problem| {
        is_well &= !problem.is_error();
        report.problem(source.as_ref(), subject.reference.as_deref(), &problem)
    })?;
    let Report { out, causes, .. } = report;
    match form {
        Form::Csv => {}
        Form::Json => {
            let ended = end.ended.as_ref().map(ToString::to_string);
            let tail = serde_json::json!({ "profiles": end.profiles, "ended": ended }).to_string();
            writeln!(out, "],{}", tail.strip_prefix('{').unwrap_or(&tail))?;
        }
        Form::Text | Form::All => {
            let causes = if form == Form::Text { causes.to_string() } else { String::new() };
            write!(out, "\n{causes}{}", in_words(&end))?;
        }
    }
    Ok((is_well, end))
}

struct ArchiveCheck<'a> {
    layout: &'a ArchiveLayout,
    rules: &'a ManifestRules,
    form: Form,
    names: NamedFiles,
    references: References,
    cross: CrossCheck,
    /// With `--online`.
    questions: Option<OnlineQuestions>,
}

impl ArchiveCheck<'_> {
    /// Checks one archive; says whether all of it is good.
    fn archive(
        &mut self,
        number: usize,
        target: &ArchiveTarget,
        root: &Root,
        out: &mut dyn Write,
    ) -> anyhow::Result<bool> {
        let name = self.layout.list_of(target).map_or_else(|| target.root.clone(), |list| target.root.join(list));
        let name = name.display().to_string();
        if self.form == Form::Json {
            write!(out, "{{\"manifest\":{},\"problems\":[", serde_json::to_string(&name)?)?;
        }
        let mut report = Report { out, form: self.form, causes: RecordCauses::default(), any: false };
        let mut sum = CheckTotals { manifests: 1, ..CheckTotals::default() };
        let staged = stage(self.layout, target, root, false, &mut |finding| {
            let kind = finding.kind.warning().filter(|_| finding.severity == Weight::Warning);
            let mut finding = Cow::Borrowed(finding);
            if kind.is_some_and(|kind| self.rules.refused.contain(kind)) {
                sum.invalid += 1;
                finding.to_mut().severity = Weight::Error;
            }
            report.finding(&finding).map_err(|error| LayoutError::Io { what: "standard output".into(), error })
        });
        let mut staged = staged.map_err(failure)?;
        staged.counts.warnings -= sum.invalid;
        self.names.begin(name.clone());
        self.cross.next_manifest(name);
        if staged.counts.documents + staged.counts.files > 0 {
            let file = staged.file.try_clone()?;
            self.entries(number, (target, root), file, &mut sum, &mut report)?;
        }
        staged.counts.invalid += sum.invalid;
        staged.counts.warnings += sum.warnings;
        let counts = &staged.counts;
        let status = if counts.invalid == 0 { Status::Ok } else { Status::Problems };
        let Report { out, causes, .. } = report;
        match self.form {
            Form::Csv => {}
            Form::Json => {
                let tail = serde_json::json!({
                    "status": status,
                    "records": counts.records,
                    "left_out": counts.left_out,
                    "entries": sum.entries + counts.invalid - sum.invalid,
                    "invalid": counts.invalid,
                    "images": sum.images,
                    "files": sum.files,
                    "bytes": sum.bytes,
                    "warnings": counts.warnings,
                });
                let tail = tail.to_string();
                writeln!(out, "],{}", tail.strip_prefix('{').unwrap_or(&tail))?;
            }
            Form::Text | Form::All => {
                writeln!(out, "{}", headline(self.layout, target, counts))?;
                let causes = causes.to_string();
                if !causes.is_empty() && self.form == Form::Text {
                    write!(out, "\n{causes}")?;
                }
            }
        }
        Ok(counts.invalid == 0)
    }

    /// Examines the files of the entries that the layout made.
    fn entries(
        &mut self,
        number: usize,
        (target, root): (&ArchiveTarget, &Root),
        file: std::fs::File,
        sum: &mut CheckTotals,
        report: &mut Report<'_>,
    ) -> anyhow::Result<()> {
        let opened = examine::staged(file, Sha256([0; 32]), ArchiveWarnings::default())?;
        let Self { rules, names, references, cross, questions, .. } = self;
        let mut failure = None;
        let examined = examine::examine_all(&opened, root, "", rules, &*names, &mut |mut found| {
            let source = found.source.clone();
            let mut one = || -> anyhow::Result<()> {
                let earlier = compare(&mut found, cross, rules, sum)?;
                if let (Some(questions), Admission::Take { entry, .. }) = (&mut *questions, &found.admission) {
                    questions.add(entry, number, None, source.clone())?;
                }
                let (subject, problems) = judge(found.clone(), number, &[], references, sum)?;
                for (_, problem) in &earlier {
                    report.problem(None, None, problem)?;
                }
                for problem in &problems {
                    report.problem(source.as_ref(), subject.reference.as_deref(), problem)?;
                }
                Ok(())
            };
            match one() {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failure = Some(error);
                    ControlFlow::Break(())
                }
            }
        });
        if let Some(error) = failure {
            return Err(error);
        }
        let name = target.root.display().to_string();
        let unusable = match examined {
            Ok(examined) => examined.unusable.unwrap_or_default(),
            Err(error) => vec![unready(&error, &name)],
        };
        for problem in &unusable {
            sum.invalid += 1;
            report.problem(None, None, problem)?;
        }
        Ok(())
    }
}

/// Prints what is wrong, and counts it by cause.
struct Report<'a> {
    out: &'a mut dyn Write,
    form: Form,
    causes: RecordCauses,
    any: bool,
}

/// One problem, as programs read it.
#[derive(Serialize)]
struct ArchiveRow<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    row: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<&'a str>,
    severity: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    reason: &'a str,
    cure: &'a str,
}

impl Report<'_> {
    fn finding(&mut self, finding: &RecordFinding) -> io::Result<()> {
        let severity = match finding.severity {
            Weight::Error => "error",
            Weight::Warning => "warning",
            // Only counted.
            Weight::Note => return Ok(()),
        };
        self.causes.add(finding);
        self.row(&ArchiveRow {
            source: finding.source.as_deref(),
            row: finding.row,
            reference: finding.reference.as_deref(),
            severity,
            kind: Some(finding.kind.as_str()),
            field: finding.field.as_deref(),
            value: finding.value.as_deref(),
            path: finding.path.as_deref(),
            reason: &finding.reason,
            cure: &finding.cure,
        })
    }

    fn problem(&mut self, source: Option<&EntrySource>, reference: Option<&str>, problem: &Problem) -> io::Result<()> {
        self.causes.add_problem(source, problem);
        self.row(&ArchiveRow {
            source: source.map(|source| source.file.as_str()),
            row: source.and_then(|source| source.row),
            reference,
            severity: if problem.is_error() { "error" } else { "warning" },
            kind: problem.kind.map(|kind| kind.as_str()).or(problem.code.as_deref()),
            field: problem.field.as_deref(),
            value: None,
            path: problem.path.as_deref(),
            reason: &problem.reason,
            cure: &problem.cure,
        })
    }

    fn row(&mut self, row: &ArchiveRow<'_>) -> io::Result<()> {
        let comma = if std::mem::replace(&mut self.any, true) { "," } else { "" };
        match self.form {
            Form::Json => write!(self.out, "{comma}{}", serde_json::to_string(row)?),
            Form::Csv => {
                let text = |text: Option<&str>| Cow::Owned(escape(text.unwrap_or_default()).into_owned());
                let mut csv = Csv::without_header(&mut *self.out);
                csv.row([
                    text(row.source),
                    Cow::Owned(row.row.map(|row| row.to_string()).unwrap_or_default()),
                    text(row.reference),
                    text(Some(row.severity)),
                    text(row.kind),
                    text(row.field),
                    text(row.value),
                    text(row.path),
                    text(Some(row.reason)),
                    text(Some(row.cure)),
                ])?;
                csv.end()
            }
            Form::All => {
                let place = match (row.source, row.row) {
                    (Some(source), Some(row)) => format!("{source}, row {row}"),
                    (Some(source), None) => source.to_owned(),
                    (None, _) => row.path.unwrap_or_default().to_owned(),
                };
                let kind = row.kind.map_or_else(String::new, |kind| format!(" ({kind})"));
                let value = row.value.map_or_else(String::new, |value| format!(" (value \"{value}\")"));
                let line = format!("  {}{kind}: {place}: {}{value}", row.severity, row.reason);
                writeln!(self.out, "{}\n    cure: {}", escape(&line), escape(row.cure))
            }
            Form::Text => Ok(()),
        }
    }
}
