//! `acts`: what people did to the queue, the newest first.

use std::borrow::Cow;

use super::{
    filter::{self, Since, parse_since},
    output::{self, Csv, Exit, Output, PagedTable, QueueContext},
};
use crate::{
    clock::Timestamp,
    queue::{QueueError, Reader, acts::ActRow},
};

/// The arguments of `acts`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Kept of retry, cancel, release, pause, resume, seen and verify --accept-missing. E.g. what was \
                        done today:\n  passfort-ingest acts --since 24h"
)]
pub struct ActsArgs {
    /// Since then: a duration ago (2h, 7d), a date in UTC, or a moment
    #[arg(long, value_name = "WHEN", value_parser = parse_since)]
    pub since: Option<Since>,

    /// At most this many, the newest; 0 for all
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    pub limit: u32,

    /// Write one JSON array
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,

    /// Write CSV with a header, for spreadsheets
    #[arg(long)]
    pub csv: bool,
}

/// Lists what people did on standard output.
///
/// # Errors
///
/// Those of the database and of writing.
pub fn run(args: &ActsArgs, context: &QueueContext) -> anyhow::Result<Exit> {
    output::on_streams(|output| list(args, context, Timestamp::now(), output))
}

const COLUMNS: [&str; 6] = ["act", "at", "who", "what", "jobs", "words"];

fn list(args: &ActsArgs, context: &QueueContext, now: Timestamp, output: &mut Output<'_>) -> anyhow::Result<Exit> {
    let reader = match Reader::open(&context.database) {
        Err(error @ QueueError::Absent { .. }) => return Ok(output.refuse_usage(&error.to_string())),
        reader => reader?,
    };
    let limit = filter::limit(args.limit);
    let acts = reader.acts(args.since.map(|since| since.moment(now)), limit)?;
    if args.json {
        output.json(&acts)?;
    } else if args.csv {
        let mut csv = Csv::new(output.out, &COLUMNS)?;
        acts.iter().try_for_each(|act| csv.row(cells(act).map(Cow::Owned)))?;
        csv.end()?;
    } else {
        let header = ["ACT", "AT", "WHO", "WHAT", "JOBS", "WORDS"];
        let mut listing = PagedTable::new(&header, &["ACT", "JOBS"], output.terminal);
        acts.iter().try_for_each(|act| listing.add([cells(act)], output.out))?;
        listing.end(limit, "nobody has done anything yet", output)?;
    }
    Ok(Exit::Well)
}

fn cells(act: &ActRow) -> [String; COLUMNS.len()] {
    let ActRow { act, at, who, what, words, jobs } = act;
    [act.to_string(), at.to_string(), who.clone(), what.clone(), jobs.to_string(), words.clone()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::output::tests::capture,
        queue::{
            acts::Caller,
            test_support::{NOW, Site},
        },
    };

    #[test]
    fn each_act_has_a_line_the_newest_first() {
        let site = Site::new();
        let listed = |json, csv| {
            let args = ActsArgs { since: None, limit: 100, json, csv };
            capture(|output| list(&args, &site.context(), NOW, output))
        };
        assert!(listed(false, false).2.contains("nobody"));
        for who in ["ops1", "ops2\u{1b}"] {
            let caller = Caller { who: who.into(), words: "cancel --all".into() };
            site.queue.begin_act("cancel", caller, NOW).unwrap();
        }
        let (exit, out, _) = listed(false, false);
        assert_eq!((exit, out.lines().count()), (Exit::Well, 3));
        assert!(out.contains("ops2\\u{1b}") && out.lines().nth(2).unwrap().contains("ops1"), "{out}");
        let json: serde_json::Value = serde_json::from_str(&listed(true, false).1).unwrap();
        assert_eq!((&json[1]["who"], &json[1]["at"]), (&"ops1".into(), &"2026-11-22T20:15:04Z".into()));
        assert!(listed(false, true).1.starts_with("act,at,who,what,jobs,words\n2,"));
    }
}
