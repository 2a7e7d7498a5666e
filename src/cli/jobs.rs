//! `jobs`: lists jobs. Streams, so that a list of millions takes no more memory than one of ten.

use std::borrow::Cow;

use super::{
    causes,
    filter::{self, FilterArgs},
    output::{self, Csv, Exit, JsonArray, Output, PagedTable, QueueContext, cell},
};
use crate::{
    clock::Timestamp,
    queue::{
        QueueError, Reader,
        views::{Filter, jobs::JobRow, trace::InvalidRow},
    },
    waits::{ExplainedJob, SendingWaits},
};

/// The arguments of `jobs`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "E.g. what failed in the last day, with the reason:\n  passfort-ingest jobs --state failed --since 1d"
)]
pub struct JobsArgs {
    /// Which ones.
    #[command(flatten)]
    pub filter: FilterArgs,

    /// List the manifests that were rejected as a whole and the entries that were not good enough to become jobs, with what
    /// is wrong
    #[arg(long, conflicts_with = "states")]
    pub invalid: bool,

    /// At most this many, the newest; 0 for all
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    pub limit: u32,

    /// Write one JSON array, a job a line
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,

    /// Write CSV with a header, for spreadsheets
    #[arg(long)]
    pub csv: bool,
}

const COLUMNS: [&str; 18] = [
    "job",
    "drop",
    "manifest",
    "index",
    "kind",
    "profile_id",
    "reference",
    "category",
    "document_type",
    "name",
    "state",
    "waits",
    "why",
    "due_at",
    "attempts",
    "remote_id",
    "created_at",
    "ended_at",
];

/// Lists jobs on standard output.
///
/// # Errors
///
/// Those of the database and of writing.
pub fn run(args: &JobsArgs, context: &QueueContext) -> anyhow::Result<Exit> {
    output::on_streams(|output| list(args, context, Timestamp::now(), output))
}

pub(super) fn list(
    args: &JobsArgs,
    context: &QueueContext,
    now: Timestamp,
    output: &mut Output<'_>,
) -> anyhow::Result<Exit> {
    let reader = match Reader::open(&context.database) {
        Err(error @ QueueError::Absent { .. }) => return Ok(output.refuse_usage(&error.to_string())),
        reader => reader?,
    };
    let filter = Filter { limit: filter::limit(args.limit), ..args.filter.filter(now) };
    if let Some(unknown) = causes::unknown_of(&reader, &filter)? {
        return Ok(output.refuse_usage(&unknown));
    }
    let waits = SendingWaits::read(&reader, now)?;
    if args.invalid {
        invalid(args, &reader, &filter, output)?;
    } else if args.json {
        let mut array = JsonArray::new(output.out);
        reader.jobs(&filter, |job| {
            let why = waits.why(&job, now);
            array.add(&ExplainedJob { job: &job, why }).map_err(anyhow::Error::from)
        })?;
        array.end()?;
    } else if args.csv {
        let mut csv = Csv::new(output.out, &COLUMNS)?;
        reader.jobs(&filter, |job| csv.row(cells(&job, waits.why(&job, now))).map_err(anyhow::Error::from))?;
        csv.end()?;
    } else {
        table(&reader, &filter, &waits, now, output)?;
    }
    Ok(Exit::Well)
}

fn table(
    reader: &Reader,
    filter: &Filter,
    waits: &SendingWaits,
    now: Timestamp,
    output: &mut Output<'_>,
) -> anyhow::Result<()> {
    let header = ["JOB", "STATE", "DROP", "KIND", "REFERENCE", "PROFILE", "MANIFEST", "WHY"];
    let mut listing = PagedTable::new(&header, &["JOB"], output.terminal);
    reader.jobs(filter, |job| {
        let why = waits.why(&job, now);
        let row = [
            job.id.to_string(),
            job.state.to_string(),
            job.drop,
            job.kind,
            job.reference.unwrap_or_else(|| "-".into()),
            job.profile_id,
            job.manifest,
            why,
        ];
        listing.add([row], output.out).map_err(anyhow::Error::from)
    })?;
    Ok(listing.end(filter.limit, "no job fits", output)?)
}

const INVALID_COLUMNS: [&str; 10] =
    ["batch", "drop", "manifest", "index", "kind", "profile_id", "reference", "place", "reason", "cure"];

/// A line for each problem of an entry that never became a job.
fn invalid(args: &JobsArgs, reader: &Reader, filter: &Filter, output: &mut Output<'_>) -> anyhow::Result<()> {
    if args.json {
        let mut array = JsonArray::new(output.out);
        reader.invalid_entries(filter, |entry| array.add(&entry).map_err(anyhow::Error::from))?;
        return Ok(array.end()?);
    }
    if args.csv {
        let mut csv = Csv::new(output.out, &INVALID_COLUMNS)?;
        reader.invalid_entries(filter, |entry| {
            problems(&entry).try_for_each(|cells| csv.row(cells.map(Cow::Owned)).map_err(anyhow::Error::from))
        })?;
        return Ok(csv.end()?);
    }
    let header = ["BATCH", "DROP", "MANIFEST", "ENTRY", "REFERENCE", "PLACE", "WHAT IS WRONG"];
    let mut listing = PagedTable::new(&header, &["BATCH", "ENTRY"], output.terminal);
    reader.invalid_entries(filter, |entry| {
        let rows = problems(&entry).map(|[batch, drop, manifest, index, _, _, reference, place, reason, cure]| {
            [batch, drop, manifest, index, reference, place, format!("{reason}; {cure}")]
        });
        listing.add(rows, output.out).map_err(anyhow::Error::from)
    })?;
    Ok(listing.end(filter.limit, "no entry fits", output)?)
}

fn problems(entry: &InvalidRow) -> impl Iterator<Item = [String; INVALID_COLUMNS.len()]> {
    entry.problems.iter().map(|problem| {
        [
            entry.batch_id.to_string(),
            entry.drop.clone(),
            entry.manifest.clone(),
            cell(entry.index),
            entry.kind.clone(),
            cell(entry.profile_id.as_ref()),
            cell(entry.reference.as_ref()),
            cell(problem.path.as_ref().or(problem.field.as_ref())),
            problem.reason.clone(),
            problem.cure.clone(),
        ]
    })
}

fn cells(job: &JobRow, why: String) -> [Cow<'static, str>; COLUMNS.len()] {
    [
        job.id.to_string(),
        job.drop.clone(),
        job.manifest.clone(),
        job.index.to_string(),
        job.kind.clone(),
        job.profile_id.clone(),
        cell(job.reference.as_ref()),
        job.category.clone(),
        job.document_type.clone(),
        cell(job.name.as_ref()),
        job.state.to_string(),
        cell(job.waits.as_ref()),
        why,
        cell(job.due_at),
        job.attempts.to_string(),
        cell(job.remote_id.as_ref()),
        cell(job.created_at),
        cell(job.ended_at),
    ]
    .map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::{
        cli::output::tests::capture,
        entry::EntryKind,
        problem::Problem,
        queue::{
            admission::Admission,
            test_support::{NOW, Site},
        },
    };

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: JobsArgs,
    }

    fn jobs(site: &Site, args: &[&str]) -> (Exit, String, String) {
        let args = Cli::parse_from([&["jobs"], args].concat()).args;
        capture(|output| list(&args, &site.context(), NOW, output))
    }

    fn site() -> Site {
        let site = Site::new();
        site.admit("a.manifest.json", &["one", "two", "\u{1b}[31mthree"]);
        site.admit("sub/b.manifest.json", &["=four"]);
        site.fail(site.job("two"), "HTTP 403: not allowed");
        site
    }

    #[test]
    fn the_table_has_a_line_a_job_and_hides_control_characters() {
        let (exit, out, _) = jobs(&site(), &[]);
        assert_eq!((exit, out.lines().count()), (Exit::Well, 5));
        assert!(out.contains("\\u{1b}[31mthree") && !out.contains('\u{1b}'), "{out}");
        assert!(out.contains("failed: HTTP 403: not allowed"), "{out}");
    }

    #[test]
    fn filters_find_what_they_name_and_nothing_else() {
        let site = site();
        let references = |args: &[&str]| -> Vec<String> {
            let (_, out, _) = jobs(&site, &[args, &["--json"]].concat());
            let jobs: Vec<serde_json::Value> = serde_json::from_str(&out).unwrap();
            jobs.iter().map(|job| job["reference"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(references(&["--state=failed"]), ["two"]);
        assert_eq!(references(&["--state=failed,done"]), ["two"]);
        assert_eq!(references(&["--error=http 403"]), ["two"]);
        assert_eq!(references(&["--reference=one"]), ["one"]);
        assert_eq!(references(&["--manifest=b.manifest.json"]), ["=four"]);
        assert_eq!(references(&["--manifest=sub/b.manifest.json"]), ["=four"]);
        let whole = site.drop_path().join("sub/b.manifest.json");
        assert_eq!(references(&[&format!("--manifest={}", whole.display())]), ["=four"]);
        assert_eq!(references(&["--manifest=manifest.json"]), Vec::<String>::new());
        assert_eq!(references(&["--drop=other"]), Vec::<String>::new());
        assert_eq!(references(&["--since=2100-01-01"]), Vec::<String>::new());
        assert_eq!(references(&["--since=1970-01-01"]).len(), 4);
        assert_eq!(references(&["--limit=2"]), ["\u{1b}[31mthree", "=four"]);
    }

    #[test]
    fn csv_is_guarded_and_has_every_column() {
        let (_, out, _) = jobs(&site(), &["--csv"]);
        let mut reader = csv::Reader::from_reader(out.as_bytes());
        assert_eq!(reader.headers().unwrap().iter().collect::<Vec<_>>(), COLUMNS);
        let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        assert_eq!(rows.len(), 4);
        assert_eq!(&rows[3][6], "'=four");
    }

    #[test]
    fn entries_that_never_became_jobs_are_listed_with_what_is_wrong() {
        let site = site();
        let bad = |index, reference: &str| Admission::Invalid {
            index,
            kind: EntryKind::Document,
            reference: Some(reference.into()),
            profile_id: None,
            problems: vec![Problem::error("it is no UUID", "give the profile's UUID").field("profile_id")],
            paths: Vec::new(),
        };
        site.admit_entries("c.manifest.json", vec![bad(0, "bad one"), bad(1, "bad two")]);
        let (exit, out, _) = jobs(&site, &["--invalid"]);
        assert_eq!((exit, out.lines().count()), (Exit::Well, 3), "{out}");
        assert!(out.contains("c.manifest.json") && out.contains("bad two"), "{out}");
        let (_, out, err) = jobs(&site, &["--invalid", "--limit=1", "--json"]);
        let listed: Vec<serde_json::Value> = serde_json::from_str(&out).unwrap();
        assert_eq!((listed.len(), listed[0]["index"].as_i64()), (1, Some(1)), "{out}{err}");
        let (_, out, _) = jobs(&site, &["--invalid", "--csv", "--reference=bad one"]);
        let mut reader = csv::Reader::from_reader(out.as_bytes());
        assert_eq!(reader.headers().unwrap().iter().collect::<Vec<_>>(), INVALID_COLUMNS);
        assert_eq!(reader.records().count(), 1);
        assert!(jobs(&site, &["--invalid", "--drop=other"]).2.contains("no entry fits"));
    }

    #[test]
    fn without_a_queue_it_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let context = QueueContext { database: folder.path().join("none.db"), config: None };
        let args = Cli::parse_from(["jobs"]).args;
        let (exit, out, err) = capture(|output| list(&args, &context, NOW, output));
        assert_eq!((exit, out.as_str()), (Exit::Usage, ""));
        assert!(err.contains("there is no queue"), "{err}");
        assert!(!context.database.exists());
    }

    #[test]
    fn a_list_longer_than_a_page_is_complete_and_in_order() {
        let site = Site::new();
        let references: Vec<String> = (0..2_345).map(|number| format!("r{number}")).collect();
        site.admit("big.manifest.jsonl", &references.iter().map(String::as_str).collect::<Vec<_>>());
        for (limit, first, count) in [("0", 0, 2_345), ("1001", 1_344, 1_001), ("1000", 1_345, 1_000)] {
            let (_, out, _) = jobs(&site, &["--json", "--limit", limit]);
            let listed: Vec<serde_json::Value> = serde_json::from_str(&out).unwrap();
            assert_eq!(listed.len(), count);
            assert_eq!(listed[0]["reference"], format!("r{first}"));
            assert!(listed.is_sorted_by_key(|job| job["id"].as_i64().unwrap()));
        }
    }
}
