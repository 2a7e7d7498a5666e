//! `batches`: lists manifests and imports, the newest first. Streams, as `jobs` does.

use std::borrow::Cow;

use super::{
    filter::{self, Since, parse_since},
    output::{self, Csv, Exit, JsonArray, Output, PagedTable, QueueContext, cell},
};
use crate::{
    clock::Timestamp,
    job::JobState,
    queue::{
        QueueError, Reader,
        views::trace::{BatchFilter, BatchRow},
    },
    receipt::{Counts, EntryStatus},
};

/// The arguments of `batches`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "E.g. what is not settled, and all about one of them:\n  passfort-ingest batches --unsettled\n  \
                        passfort-ingest show batch 3"
)]
pub struct BatchesArgs {
    /// Of the drop of this name; what `import` took is in the drop `import`, unless it had another name
    #[arg(long, value_name = "NAME")]
    pub drop: Option<String>,

    /// Taken in or finished since then: a duration ago (2h, 7d), a date in UTC, or a moment
    #[arg(long, value_name = "WHEN", value_parser = parse_since)]
    pub since: Option<Since>,

    /// Only those that are not settled: entries are left to do, or the receipt, or files to be moved
    #[arg(long)]
    pub unsettled: bool,

    /// At most this many, the newest; 0 for all
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    pub limit: u32,

    /// Write one JSON array, a manifest a line
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,

    /// Write CSV with a header, for spreadsheets
    #[arg(long)]
    pub csv: bool,
}

const COLUMNS: [&str; 15] = [
    "batch",
    "drop",
    "manifest",
    "state",
    "entries",
    "created",
    "duplicate",
    "failed",
    "cancelled",
    "invalid",
    "open",
    "received_at",
    "finished_at",
    "receipt",
    "trouble",
];

/// Lists manifests on standard output.
///
/// # Errors
///
/// Those of the database and of writing.
pub fn run(args: &BatchesArgs, context: &QueueContext) -> anyhow::Result<Exit> {
    output::on_streams(|output| list(args, context, Timestamp::now(), output))
}

fn list(args: &BatchesArgs, context: &QueueContext, now: Timestamp, output: &mut Output<'_>) -> anyhow::Result<Exit> {
    let reader = match Reader::open(&context.database) {
        Err(error @ QueueError::Absent { .. }) => return Ok(output.refuse_usage(&error.to_string())),
        reader => reader?,
    };
    let filter = BatchFilter {
        drop: args.drop.clone(),
        since: args.since.map(|since| since.moment(now)),
        unsettled: args.unsettled,
        limit: filter::limit(args.limit),
    };
    if args.json {
        let mut array = JsonArray::new(output.out);
        reader.batches(&filter, |batch| array.add(&BatchLine::of(batch)).map_err(anyhow::Error::from))?;
        array.end()?;
    } else if args.csv {
        let mut csv = Csv::new(output.out, &COLUMNS)?;
        reader.batches(&filter, |batch| csv.row(cells(&BatchLine::of(batch))).map_err(anyhow::Error::from))?;
        csv.end()?;
    } else {
        table(&reader, &filter, output)?;
    }
    Ok(Exit::Well)
}

/// A manifest as it is listed.
#[derive(serde::Serialize)]
struct BatchLine {
    #[serde(flatten)]
    batch: BatchRow,
    /// What the receipt says of it, or how far it is.
    status: &'static str,
    counts: Counts,
    /// Jobs that have not ended.
    open: u64,
}

impl BatchLine {
    fn of(batch: BatchRow) -> Self {
        let (mut counts, mut open) = (Counts::default(), 0);
        for (state, jobs) in &batch.jobs {
            let jobs = u64::try_from(*jobs).unwrap_or(0);
            match JobState::parse(state).filter(|state| state.has_ended()) {
                Some(state) => counts.add(EntryStatus::of(Some(state)), jobs),
                None => {
                    counts.entries += jobs;
                    open += jobs;
                }
            }
        }
        counts.add(EntryStatus::Invalid, u64::try_from(batch.invalid).unwrap_or(0));
        counts.add(EntryStatus::Duplicate, u64::try_from(batch.unchanged).unwrap_or(0));
        let status = match batch.state.as_str() {
            "admitting" => "admitting",
            "open" => "open",
            _ => counts.status(!batch.problems.is_empty()).as_str(),
        };
        Self { status, counts, open, batch }
    }

    /// How far a finished manifest is with its receipt and its files.
    fn rest(&self) -> String {
        match (&self.batch.trouble, self.batch.state.as_str()) {
            (Some(trouble), _) => format!("cannot be settled: {trouble}"),
            (None, "ended") => "its receipt is written next".into(),
            (None, "published") => "its files are moved next".into(),
            (None, _) => String::new(),
        }
    }
}

fn table(reader: &Reader, filter: &BatchFilter, output: &mut Output<'_>) -> anyhow::Result<()> {
    let header = [
        "BATCH", "STATE", "ENTRIES", "CREATED", "SAME", "FAILED", "OPEN", "RECEIVED", "FINISHED", "DROP", "MANIFEST",
        "",
    ];
    let right = ["BATCH", "ENTRIES", "CREATED", "SAME", "FAILED", "OPEN"];
    let mut listing = PagedTable::new(&header, &right, output.terminal);
    reader.batches(filter, |batch| {
        let line = BatchLine::of(batch);
        let Counts { entries, created, duplicate, failed, cancelled, invalid } = line.counts;
        let row = [
            line.batch.batch.to_string(),
            line.status.into(),
            entries.to_string(),
            created.to_string(),
            duplicate.to_string(),
            (failed + cancelled + invalid).to_string(),
            line.open.to_string(),
            cell(line.batch.received_at),
            cell(line.batch.finished_at),
            line.batch.drop.clone(),
            line.batch.manifest.clone(),
            line.rest(),
        ];
        listing.add([row], output.out).map_err(anyhow::Error::from)
    })?;
    Ok(listing.end(filter.limit, "no manifest fits", output)?)
}

fn cells(line: &BatchLine) -> [Cow<'static, str>; COLUMNS.len()] {
    let BatchLine { batch, status, counts, open } = line;
    [
        batch.batch.to_string(),
        batch.drop.clone(),
        batch.manifest.clone(),
        (*status).to_owned(),
        counts.entries.to_string(),
        counts.created.to_string(),
        counts.duplicate.to_string(),
        counts.failed.to_string(),
        counts.cancelled.to_string(),
        counts.invalid.to_string(),
        open.to_string(),
        cell(batch.received_at),
        cell(batch.finished_at),
        cell(batch.receipt.as_ref()),
        cell(batch.trouble.as_ref()),
    ]
    .map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::{
        cli::output::tests::capture,
        queue::test_support::{NOW, Site},
    };

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: BatchesArgs,
    }

    fn batches(site: &Site, args: &[&str]) -> (Exit, String, String) {
        let args = Cli::parse_from([&["batches"], args].concat()).args;
        capture(|output| list(&args, &site.context(), NOW, output))
    }

    fn site() -> Site {
        let site = Site::new();
        site.admit("a.manifest.json", &["one", "two"]);
        site.admit("\u{1b}[31mb.manifest.json", &["three"]);
        site.create(site.job("one"), "doc");
        site.fail(site.job("two"), "HTTP 403: not allowed");
        site
    }

    #[test]
    fn each_manifest_has_a_line_with_its_counts_the_newest_first() {
        let (exit, out, _) = batches(&site(), &[]);
        assert_eq!(exit, Exit::Well);
        let lines: Vec<Vec<&str>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines.len(), 3, "{out}");
        assert_eq!(lines[1][..7], ["2", "open", "1", "0", "0", "0", "1"], "{out}");
        assert_eq!(lines[2][..7], ["1", "partial", "2", "1", "0", "1", "0"], "{out}");
        assert!(out.contains("its receipt is written next") && !out.contains('\u{1b}'), "{out}");
    }

    #[test]
    fn json_and_csv_have_the_same_counts() {
        let (_, out, _) = batches(&site(), &["--json"]);
        let listed: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!((&listed[1]["batch"], &listed[1]["status"]), (&1.into(), &"partial".into()));
        assert_eq!((&listed[1]["counts"]["created"], &listed[0]["open"]), (&1.into(), &1.into()));
        let (_, out, _) = batches(&site(), &["--csv"]);
        let mut reader = csv::Reader::from_reader(out.as_bytes());
        assert_eq!(reader.headers().unwrap().iter().collect::<Vec<_>>(), COLUMNS);
        let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        assert_eq!(rows[1].iter().skip(3).take(8).collect::<Vec<_>>(), ["partial", "2", "1", "0", "1", "0", "0", "0"]);
    }

    #[test]
    fn filters_find_what_they_name_and_nothing_else() {
        let site = site();
        let listed = |args: &[&str]| {
            let (_, out, _) = batches(&site, &[args, &["--json"]].concat());
            let listed: Vec<serde_json::Value> = serde_json::from_str(&out).unwrap();
            listed.iter().map(|batch| batch["batch"].as_i64().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(listed(&["--unsettled"]), [2, 1]);
        assert_eq!(listed(&["--limit=1"]), [2]);
        assert_eq!(listed(&["--since=2100-01-01"]), [0; 0]);
        assert_eq!(listed(&["--drop=other"]), [0; 0]);
        assert_eq!(listed(&["--since=1970-01-01", "--limit=0"]), [2, 1]);
        assert!(batches(&site, &["--drop=other"]).2.contains("no manifest fits"));
    }

    #[test]
    fn without_a_queue_it_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let context = QueueContext { database: folder.path().join("none.db"), config: None };
        let (exit, out, err) = capture(|output| list(&Cli::parse_from(["batches"]).args, &context, NOW, output));
        assert_eq!((exit, out.as_str()), (Exit::Usage, ""));
        assert!(err.contains("there is no queue"), "{err}");
    }
}
