//! `layout init` and `layout try`: a first layout for an archive, and single records beside their entries.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};

use super::{LayoutChoice, failure, many, open_archive};
use crate::{
    cli::{
        output::{Exit, Output, escape, on_streams},
        start::Usage,
    },
    inbox::beneath::Root,
    layout::{ArchiveLayout, ArchiveTarget, LayoutError, RecordTrial, TrialOutcome, WhichRecords, guess, try_records},
};

/// Commands about layouts.
#[derive(Debug, Subcommand)]
pub enum LayoutCommand {
    /// Propose a layout for an archive, and show what it makes of it; sends nothing.
    Init(InitArgs),
    /// Show single records of an archive beside what a layout makes of them; sends nothing.
    Try(TryArgs),
}

/// The arguments of `layout init`.
#[derive(Debug, Args)]
#[command(
    after_help = "The layout goes to standard output, or to the file of -o; what was taken for what, and why, goes to \
                  standard error. Fill in each \"\" in its tables, then `check --layout`.\n\nE.g.:\n  passfort-ingest \
                  layout init /archive -o archive.layout.toml"
)]
pub struct InitArgs {
    /// The archive's folder, or its list.
    #[arg(value_name = "PATH")]
    path: PathBuf,

    /// Write the layout to this file, which must not exist yet. Lookups are named from its folder.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// The folder that paths in the list start from; else the list's own folder.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

/// The arguments of `layout try`.
#[derive(Debug, Args)]
#[command(
    after_help = "A record that is one of several of its document is shown alone.\n\nE.g.:\n  passfort-ingest layout try \
                  /archive --layout archive.layout.toml --row 12\n  passfort-ingest layout try /archive --layout \
                  archive.layout.toml CUST-00017/passport_front.jpg"
)]
pub struct TryArgs {
    /// The archive's folder, or its list.
    #[arg(value_name = "PATH")]
    path: PathBuf,

    /// Only the record of this sidecar or file, from the archive's folder.
    #[arg(value_name = "RECORD", conflicts_with_all = ["rows", "row"])]
    record: Option<String>,

    #[command(flatten)]
    choice: LayoutChoice,

    /// The folder that paths in the list start from; else the list's own folder.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,

    /// So many records.
    #[arg(long, value_name = "N", default_value_t = 5)]
    rows: u64,

    /// Only the record of this row.
    #[arg(long, value_name = "N", conflicts_with = "rows")]
    row: Option<u64>,
}

/// Shows records.
///
/// # Errors
///
/// Where the layout or the archive cannot be used.
pub fn try_layout(args: &TryArgs) -> anyhow::Result<Exit> {
    let usage = |error: LayoutError| Usage(error.to_string());
    let layout = ArchiveLayout::read(&args.choice.layout, &args.choice.set).map_err(usage)?;
    let (target, root) = open_archive(&args.path, &layout, args.root.as_deref())?;
    let which = match (&args.record, args.row) {
        (Some(record), _) => WhichRecords::File(record.clone()),
        (None, Some(row)) => WhichRecords::Row(row),
        (None, None) => WhichRecords::First(args.rows),
    };
    on_streams(|output| {
        let mut wrong = 0_u64;
        let count = try_records(&layout, &target, &root, &which, &mut |trial| {
            wrong += u64::from(matches!(trial.outcome, TrialOutcome::Wrong(_)));
            show(&trial, output).map_err(|error| LayoutError::Io { what: "standard output".into(), error })
        })
        .map_err(failure)?;
        if count == 0 {
            return Ok(output.refuse_usage("there is no such record"));
        }
        Ok(if wrong > 0 { Exit::Refused } else { Exit::Well })
    })
}

fn show(trial: &RecordTrial, output: &mut Output<'_>) -> std::io::Result<()> {
    writeln!(output.out, "{}", escape(&trial.place))?;
    let width = trial.values.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).min(40);
    for (name, value) in &trial.values {
        writeln!(output.out, "  {:<width$}  {}", escape(name), escape(value))?;
    }
    match &trial.outcome {
        TrialOutcome::Entry(line) => writeln!(output.out, "  -> {line}")?,
        TrialOutcome::LeftOut => writeln!(output.out, "  -> left out by the layout")?,
        TrialOutcome::Wrong(findings) => {
            for finding in findings {
                let value = finding.value.as_ref().map_or_else(String::new, |value| format!(" \"{value}\""));
                let text = format!("{}: {}{value}", finding.kind.as_str(), finding.reason);
                writeln!(output.out, "  -> {}\n     cure: {}", escape(&text), escape(&finding.cure))?;
            }
        }
    }
    writeln!(output.out)
}

/// Proposes a layout.
///
/// # Errors
///
/// Where the archive cannot be read, or the file cannot be written.
pub fn init(args: &InitArgs) -> anyhow::Result<Exit> {
    let usage = |error: LayoutError| Usage(error.to_string());
    let target = ArchiveTarget::find(&args.path, args.root.as_deref()).map_err(usage)?;
    let root = Root::open(&target.root).map_err(|error| Usage(format!("{}: {error}", target.root.display())))?;
    let file = args.output.clone().unwrap_or_else(|| PathBuf::from("archive.layout.toml"));
    let folder =
        std::path::absolute(file.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new(".")))?;
    let folder = folder.canonicalize().unwrap_or(folder);
    let proposal = guess(&target, &root, &folder).map_err(failure)?;
    if let Some(output) = &args.output {
        let mut options = fs::File::options();
        let written = options.write(true).create_new(true).open(output);
        let written = written.and_then(|mut file| file.write_all(proposal.layout.as_bytes()));
        written.map_err(|error| Usage(format!("{}: {error}", output.display())))?;
    }
    on_streams(|output| {
        if args.output.is_none() {
            output.out.write_all(proposal.layout.as_bytes())?;
        }
        for reason in &proposal.reasons {
            output.remark(&escape(reason));
        }
        preview(&proposal.layout, &folder.join(file.file_name().unwrap_or_default()), (&target, &root), output);
        Ok(Exit::Well)
    })
}

/// What the proposal makes of the archive, as far as it is complete.
fn preview(text: &str, file: &Path, (target, root): (&ArchiveTarget, &Root), output: &mut Output<'_>) {
    let (mut entries, mut shown) = (0_u64, Vec::new());
    let tried = ArchiveLayout::incomplete(text, file).and_then(|layout| {
        try_records(&layout, target, root, &WhichRecords::First(1000), &mut |trial| {
            if let TrialOutcome::Entry(line) = trial.outcome {
                entries += 1;
                if shown.len() < 3 {
                    shown.push(line);
                }
            }
            Ok(())
        })
    });
    match tried {
        Ok(records) => {
            output.remark("");
            for line in shown {
                output.remark(&format!("-> {}", escape(&line)));
            }
            output.remark(&format!("{entries} of {} become entries, or parts of one", many(records, "record")));
        }
        Err(error) => output.remark(&format!("it cannot be tried yet: {error}")),
    }
}
