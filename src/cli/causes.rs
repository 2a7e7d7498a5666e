//! `causes` and `seen`: what is refused and not mended, by cause; and that a person knows.

use std::{borrow::Cow, io};

use super::{
    caller::caller,
    output::{self, Csv, Exit, Output, QueueContext, cell, wrapped},
};
use crate::{
    clock::Timestamp,
    queue::{
        Queue, QueueError, Reader, WhenStuck,
        views::{
            Filter,
            causes::{CauseExample, CauseRow},
        },
    },
    reason::in_words,
};

/// The arguments of `causes`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A failure is open until its entry is created, by `retry` or by a later manifest. E.g. what one \
                        cause is about, and to send it again once it is mended; five are sent first:\n  \
                        passfort-ingest jobs --cause 3\n  passfort-ingest retry --cause 3"
)]
pub struct CausesArgs {
    /// Write one JSON array
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,

    /// Write CSV with a header, for spreadsheets
    #[arg(long)]
    pub csv: bool,
}

/// The arguments of `seen`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Your name and the time are kept. It asks again when twice as many have failed, or when it comes \
                        back after all was mended. E.g.:\n  passfort-ingest seen 3"
)]
pub struct SeenArgs {
    /// The causes' numbers, as `causes` lists them
    #[arg(value_name = "NUMBER", required = true)]
    pub causes: Vec<i64>,
}

/// Lists the causes of open failures on standard output.
///
/// # Errors
///
/// Those of the database and of writing.
pub fn run(args: &CausesArgs, context: &QueueContext) -> anyhow::Result<Exit> {
    output::on_streams(|output| list(args, context, Timestamp::now(), output))
}

/// Records that a person knows of causes.
///
/// # Errors
///
/// Those of the database and of writing.
pub fn seen(args: &SeenArgs, context: &QueueContext) -> anyhow::Result<Exit> {
    output::on_streams(|output| mark(args, context, Timestamp::now(), output))
}

fn list(args: &CausesArgs, context: &QueueContext, now: Timestamp, output: &mut Output<'_>) -> anyhow::Result<Exit> {
    let reader = match Reader::open(&context.database) {
        Err(error @ QueueError::Absent { .. }) => return Ok(output.refuse_usage(&error.to_string())),
        reader => reader?,
    };
    let causes = reader.causes(u32::MAX)?;
    if args.json {
        output.json(&causes)?;
    } else if args.csv {
        let mut csv = Csv::new(output.out, &COLUMNS)?;
        causes.iter().try_for_each(|cause| csv.row(cells(cause)))?;
        csv.end()?;
    } else if causes.is_empty() {
        output.remark("nothing that was refused is open");
    } else {
        for (at, cause) in causes.iter().enumerate() {
            if at > 0 {
                writeln!(output.out)?;
            }
            paragraph(cause, now, output)?;
        }
    }
    Ok(Exit::Well)
}

fn mark(args: &SeenArgs, context: &QueueContext, now: Timestamp, output: &mut Output<'_>) -> anyhow::Result<Exit> {
    let reader = match Reader::open(&context.database) {
        Err(error @ QueueError::Absent { .. }) => return Ok(output.refuse_usage(&error.to_string())),
        reader => reader?,
    };
    for cause in &args.causes {
        if let Some(unknown) = unknown(&reader, *cause)? {
            return Ok(output.refuse_usage(&unknown));
        }
    }
    let queue = Queue::open_beside(&context.database, WhenStuck::Fail)?;
    let caller = caller();
    let who = caller.who.clone();
    let seen = queue.mark_seen(args.causes.clone(), caller, now)?;
    for (cause, is_open) in args.causes.iter().zip(&seen) {
        match is_open {
            true => writeln!(output.out, "cause {cause}: seen by {}", output::escape(&who))?,
            false => writeln!(output.out, "cause {cause} has no open failure")?,
        }
    }
    Ok(if seen.iter().all(|is_open| *is_open) { Exit::Well } else { Exit::Refused })
}

/// What is wrong with the number of a cause that there is not.
pub(super) fn unknown(reader: &Reader, cause: i64) -> Result<Option<String>, QueueError> {
    let is_known = reader.has_cause(cause)?;
    Ok((!is_known).then(|| format!("there is no cause {cause}; `causes` lists those that there are")))
}

/// The same of the cause that a filter names.
pub(super) fn unknown_of(reader: &Reader, filter: &Filter) -> Result<Option<String>, QueueError> {
    filter.cause.map_or(Ok(None), |cause| unknown(reader, cause))
}

fn paragraph(cause: &CauseRow, now: Timestamp, output: &mut Output<'_>) -> io::Result<()> {
    let ago = |moment: Timestamp| format!("{} ago", in_words(now.since(moment)));
    let last = if cause.open > 1 { format!(", the last {}", ago(cause.last)) } else { String::new() };
    let code = cause.code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default();
    wrapped(output.out, "", &format!("cause {}: {}{code}", cause.cause, cause.counted()))?;
    wrapped(output.out, "  since   ", &format!("{}, {}{last}", cause.first, ago(cause.first)))?;
    wrapped(output.out, "  what    ", &cause.title)?;
    if !cause.cure.is_empty() {
        wrapped(output.out, "  cure    ", &cause.cure)?;
    }
    wrapped(output.out, "  drops   ", &drops(cause))?;
    let examples: Vec<String> = cause.examples.iter().map(example).collect();
    wrapped(output.out, "  e.g.    ", &examples.join(", "))?;
    if let (Some(by), Some(at)) = (&cause.seen_by, cause.seen_at) {
        let again = if cause.is_unseen { "; twice as many since" } else { "" };
        wrapped(output.out, "  seen    ", &format!("by {by}, {}{again}", ago(at)))?;
    }
    if let Some(trial) = &cause.trial {
        let by = trial.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
        wrapped(output.out, "  retry   ", &format!("{}{by}: {}", ago(trial.at), trial.sentence()))?;
    }
    cause.commands.iter().try_for_each(|command| writeln!(output.out, "          {command}"))
}

fn drops(cause: &CauseRow) -> String {
    const NAMED: usize = 5;
    let mut named: Vec<String> =
        cause.drops.iter().take(NAMED).map(|drop| format!("{} {}", drop.drop, drop.open)).collect();
    if cause.drops.len() > NAMED {
        named.push(format!("and {} more", cause.drops.len() - NAMED));
    }
    named.join(", ")
}

fn example(example: &CauseExample) -> String {
    let CauseExample { job, batch, index, manifest, reference } = example;
    let named = reference.as_ref().map(|reference| format!(" ({reference})")).unwrap_or_default();
    match (job, index) {
        (Some(job), _) => format!("job {job}{named}"),
        (None, Some(index)) => format!("index {index} of batch {batch}{named}"),
        (None, None) => format!("batch {batch} ({manifest})"),
    }
}

const COLUMNS: [&str; 12] =
    ["cause", "status", "code", "open", "first", "last", "drops", "title", "cure", "seen_by", "seen_at", "unseen"];

fn cells(cause: &CauseRow) -> [Cow<'static, str>; COLUMNS.len()] {
    [
        cause.cause.to_string(),
        cause.status.as_str().to_owned(),
        cell(cause.code.as_ref()),
        cause.open.to_string(),
        cause.first.to_string(),
        cause.last.to_string(),
        cause.drops.iter().map(|drop| drop.drop.as_str()).collect::<Vec<_>>().join(" "),
        cause.title.clone(),
        cause.cure.clone(),
        cell(cause.seen_by.as_ref()),
        cell(cause.seen_at),
        cause.is_unseen.to_string(),
    ]
    .map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::output::tests::capture,
        queue::test_support::{NOW, Site},
    };

    fn listed(site: &Site, args: &CausesArgs) -> (Exit, String, String) {
        capture(|output| list(args, &site.context(), Timestamp(NOW.0 + 7_000), output))
    }

    const TEXT: CausesArgs = CausesArgs { json: false, csv: false };

    fn site() -> Site {
        let site = Site::new();
        site.admit("a.manifest.json", &["one", "two", "evil\u{1b}"]);
        let words = "the API refused it (code 201): create_document: HTTP 404: there is no such profile ";
        site.fail(site.job("one"), &format!("{words}'Anna' {}", "and so on ".repeat(10)));
        site.fail(site.job("two"), &format!("{words}'Bob' {}", "and so on ".repeat(10)));
        site.fail(site.job("evil\u{1b}"), "=HTTP 403\u{1b}");
        site
    }

    #[test]
    fn each_cause_has_its_words_its_cure_and_its_commands_in_eighty_columns() {
        let (exit, out, _) = listed(&site(), &TEXT);
        assert_eq!(exit, Exit::Well);
        assert!(out.lines().all(|line| line.chars().count() <= 80), "{out}");
        assert!(!out.contains('\u{1b}') && out.contains("evil\\u{1b}"), "{out}");
        let expected = "\
cause 1: 2 entries failed (HTTP 404, code 201)
  since   2026-11-22T20:15:04Z, 7 s ago, the last 7 s ago
  what    create_document: HTTP 404, code 201: there is no such profile 'Anna'
          and so on and so on and so on and so on and so on and so on and so on
          and so on and so on and so on
  cure    ask the sender
  drops   partner-a 2
  e.g.    job 2 (two), job 1 (one)
          passfort-ingest jobs --cause 1
          passfort-ingest retry --cause 1
          passfort-ingest seen 1

cause 2: 1 entry failed
";
        assert!(out.starts_with(expected), "{out}");
        assert!(listed(&Site::new(), &TEXT).2.contains("nothing that was refused is open"));
    }

    #[test]
    fn json_and_csv_have_the_same() {
        let site = site();
        let (_, out, _) = listed(&site, &CausesArgs { json: true, csv: false });
        let json: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!((&json[0]["cause"], &json[0]["open"], &json[0]["status"]), (&1.into(), &2.into(), &"failed".into()));
        assert_eq!((&json[0]["examples"][1]["reference"], &json[0]["unseen"]), (&"one".into(), &true.into()));
        assert_eq!(json[0]["drops"][0]["drop"], "partner-a");
        let (_, out, _) = listed(&site, &CausesArgs { json: false, csv: true });
        let mut reader = csv::Reader::from_reader(out.as_bytes());
        assert_eq!(reader.headers().unwrap().iter().collect::<Vec<_>>(), COLUMNS);
        let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        assert_eq!((rows.len(), &rows[1][7]), (2, "'=HTTP 403\u{1b}"));
    }

    #[test]
    fn seen_is_said_by_somebody_and_of_causes_that_there_are() {
        let site = site();
        let said = |causes: &[i64]| {
            capture(|output| mark(&SeenArgs { causes: causes.to_vec() }, &site.context(), NOW, output))
        };
        let (exit, out, err) = said(&[1, 99]);
        assert_eq!((exit, out.as_str()), (Exit::Usage, ""));
        assert!(err.contains("there is no cause 99"), "{err}");
        assert!(site.reader().causes(9).unwrap()[0].is_unseen, "nothing was done");
        let (exit, out, _) = said(&[1]);
        assert!(exit == Exit::Well && out.starts_with("cause 1: seen by "), "{out}");
        let (_, out, _) = listed(&site, &TEXT);
        assert!(
            out.contains("  seen    by ") && out.starts_with("cause 2: "),
            "what nobody knows of comes first: {out}"
        );
        assert_eq!(site.reader().acts(None, None).unwrap()[0].what, "seen");
        site.queue.retry(site.job("evil\u{1b}"), NOW).unwrap();
        assert_eq!(said(&[2]).0, Exit::Refused);
    }
}
