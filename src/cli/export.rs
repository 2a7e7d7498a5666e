//! `export`: the crosswalk from what was asked to what was created, one row an image or file. Streams.

use std::borrow::Cow;

use super::{
    causes,
    filter::{self, FilterArgs},
    output::{self, Csv, Exit, Output, QueueContext, cell},
};
use crate::{
    clock::Timestamp,
    queue::{
        QueueError, Reader,
        views::{Filter, crosswalk::Crossing},
    },
};

/// The arguments of `export`.
#[derive(Debug, clap::Args)]
#[command(after_help = "E.g. the IDs of everything that one partner sent:\n  \
                        passfort-ingest export --drop partner-a --state done,duplicate > partner-a.csv")]
pub struct ExportArgs {
    /// CSV with a header, or JSON Lines
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: ExportFormat,

    /// Of which jobs.
    #[command(flatten)]
    pub filter: FilterArgs,

    /// The newest jobs, at most this many; 0 for all
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub limit: u32,
}

/// How `export` writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ExportFormat {
    /// CSV, with a header, guarded against formulas.
    #[default]
    Csv,
    /// One JSON object a line.
    Jsonl,
}

const COLUMNS: [&str; 22] = [
    "drop",
    "manifest",
    "index",
    "job",
    "kind",
    "reference",
    "profile_id",
    "category",
    "document_type",
    "status",
    "document_id",
    "file_id",
    "image",
    "path",
    "image_type",
    "image_id",
    "sha256",
    "bytes",
    "ended_at",
    "error",
    "source_file",
    "source_row",
];

/// Writes the crosswalk to standard output.
///
/// # Errors
///
/// Those of the database and of writing.
pub fn run(args: &ExportArgs, context: &QueueContext) -> anyhow::Result<Exit> {
    output::on_streams(|output| export(args, context, Timestamp::now(), output))
}

fn export(args: &ExportArgs, context: &QueueContext, now: Timestamp, output: &mut Output<'_>) -> anyhow::Result<Exit> {
    let reader = match Reader::open(&context.database) {
        Err(error @ QueueError::Absent { .. }) => return Ok(output.refuse_usage(&error.to_string())),
        reader => reader?,
    };
    let filter = Filter { limit: filter::limit(args.limit), ..args.filter.filter(now) };
    if let Some(unknown) = causes::unknown_of(&reader, &filter)? {
        return Ok(output.refuse_usage(&unknown));
    }
    match args.format {
        ExportFormat::Csv => {
            let mut csv = Csv::new(output.out, &COLUMNS)?;
            reader.crosswalk(&filter, |row| csv.row(cells(row)).map_err(anyhow::Error::from))?;
            csv.end()?;
        }
        ExportFormat::Jsonl => reader.crosswalk(&filter, |row| {
            serde_json::to_writer(&mut *output.out, &row).map_err(std::io::Error::from)?;
            output.out.write_all(b"\n").map_err(anyhow::Error::from)
        })?,
    }
    Ok(Exit::Well)
}

fn cells(row: Crossing) -> [Cow<'static, str>; COLUMNS.len()] {
    [
        row.drop,
        row.manifest,
        row.index.to_string(),
        cell(row.job),
        row.kind,
        cell(row.reference),
        cell(row.profile_id),
        cell(row.category),
        cell(row.document_type),
        row.status.to_owned(),
        cell(row.document_id),
        cell(row.file_id),
        cell(row.image),
        cell(row.path),
        cell(row.image_type),
        cell(row.image_id),
        cell(row.sha256),
        cell(row.bytes),
        cell(row.ended_at),
        cell(row.error),
        cell(row.source_file),
        cell(row.source_row),
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
            test_support::{NOW, Site, document, take},
        },
    };

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: ExportArgs,
    }

    fn rows(site: &Site, args: &[&str]) -> Vec<serde_json::Value> {
        let args = Cli::parse_from([&["export", "--format=jsonl"], args].concat()).args;
        let (exit, out, _) = capture(|output| export(&args, &site.context(), NOW, output));
        assert_eq!(exit, Exit::Well);
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn site() -> Site {
        let site = Site::new();
        let invalid = Admission::Invalid {
            paths: Vec::new(),
            index: 2,
            kind: EntryKind::Document,
            reference: Some("bad".into()),
            profile_id: None,
            problems: vec![Problem::error("the file is missing", "drop it").path("img/bad.png")],
        };
        site.admit_entries("a.manifest.json", vec![take(document(0, "one"), 1), take(document(1, "two"), 2), invalid]);
        site.create(site.job("one"), "doc-1");
        site.fail(site.job("two"), "HTTP 403");
        site.admit_entries("b.manifest.json", vec![take(document(0, "one"), 1)]);
        site
    }

    #[test]
    fn every_entry_has_its_ids_or_its_reason() {
        let site = site();
        let all = rows(&site, &[]);
        let statuses: Vec<_> = all.iter().map(|row| row["status"].as_str().unwrap()).collect();
        assert_eq!(statuses, ["created", "failed", "duplicate", "invalid"]);
        for created in [&all[0], &all[2]] {
            assert_eq!(created["document_id"], "doc-1");
            assert_eq!(created["image_id"], "image-of-doc-1");
            assert_eq!(created["path"], "img/one.png");
            assert_eq!(created["sha256"], "01".repeat(32));
            assert!(created["error"].is_null());
        }
        assert_eq!(all[1]["error"], "HTTP 403");
        assert!(all[1]["document_id"].is_null());
        assert_eq!(
            (&all[3]["reference"], &all[3]["error"]),
            (&"bad".into(), &"img/bad.png: the file is missing".into())
        );
    }

    #[test]
    fn a_filter_by_state_leaves_out_what_never_was_a_job() {
        let site = site();
        assert_eq!(rows(&site, &["--state=failed"]).len(), 1);
        assert_eq!(rows(&site, &["--reference=bad"]).len(), 1);
        assert_eq!(rows(&site, &["--manifest=b.manifest.json"]).len(), 1);
        assert_eq!(rows(&site, &["--limit=1"]).len(), 1);
    }

    #[test]
    fn csv_has_the_same_columns_as_json() {
        let site = site();
        let args = Cli::parse_from(["export"]).args;
        let (_, out, _) = capture(|output| export(&args, &site.context(), NOW, output));
        let mut reader = csv::Reader::from_reader(out.as_bytes());
        let header: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
        let json = rows(&site, &[]);
        let mut sorted = header.clone();
        sorted.sort();
        assert_eq!(sorted, json[0].as_object().unwrap().keys().cloned().collect::<Vec<_>>());
        assert_eq!(reader.records().count(), json.len());
    }
}
