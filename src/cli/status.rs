//! `status`: the queue at a glance. Costs the same however many jobs there are, so it may be watched.

mod text;

use std::{path::Path, thread, time::Duration};

use super::output::{self, Exit, Output, QueueContext, escape};
use crate::{
    clock::Timestamp,
    health::{HealthLevel, Incident, IncidentKind},
    status::{self, QueueStatus},
};

/// The arguments of `status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "E.g. every second until Ctrl-C:\n  passfort-ingest status --watch")]
pub struct StatusArgs {
    /// Look again every second, until Ctrl-C
    #[arg(long)]
    pub watch: bool,

    /// Write JSON; with --watch, an object a line
    #[arg(long)]
    pub json: bool,

    /// For monitoring: print only what needs somebody, and end with 1 where a person is needed, with 3 where work stands
    /// still, with 0 otherwise. A person is needed, among others, where something was refused and nobody has said `seen`.
    /// What waits for a window or a limit is as it should be
    #[arg(long, conflicts_with = "watch")]
    pub check: bool,
}

/// The refresh interval.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Prints the state of the queue.
///
/// # Errors
///
/// Those of the database and of writing.
pub fn run(args: &StatusArgs, context: &QueueContext) -> anyhow::Result<Exit> {
    output::on_streams(|output| {
        loop {
            let seen = status::read(&context.database, Timestamp::now())?;
            if args.check {
                return check(args, seen.as_ref(), output);
            }
            if args.watch && output.terminal && !args.json {
                in_place(args, &context.database, seen.as_ref(), output)?;
            } else {
                write(args, &context.database, seen.as_ref(), output)?;
            }
            if !args.watch {
                return Ok(Exit::Well);
            }
            output.out.flush()?;
            thread::sleep(WATCH_EVERY);
        }
    })
}

/// Writes over what was written before, line by line, so that nothing flickers.
fn in_place(
    args: &StatusArgs,
    database: &Path,
    seen: Option<&QueueStatus>,
    output: &mut Output<'_>,
) -> anyhow::Result<()> {
    let mut text = Vec::new();
    write(args, database, seen, &mut Output { out: &mut text, err: output.err, terminal: true })?;
    output.out.write_all(b"\x1b[H")?;
    for line in String::from_utf8_lossy(&text).lines() {
        writeln!(output.out, "{line}\x1b[K")?;
    }
    output.out.write_all(b"\x1b[J")?;
    Ok(())
}

pub(super) fn write(
    args: &StatusArgs,
    database: &Path,
    seen: Option<&QueueStatus>,
    output: &mut Output<'_>,
) -> anyhow::Result<()> {
    match seen {
        Some(seen) if args.json && args.watch => {
            serde_json::to_writer(&mut *output.out, seen).map_err(std::io::Error::from)?;
            writeln!(output.out)?;
        }
        Some(seen) if args.json => output.json(seen)?,
        Some(seen) => {
            text::write(seen, output)?;
            if args.watch && !output.terminal {
                writeln!(output.out)?;
            }
        }
        None if args.json => writeln!(output.out, "null")?,
        None => {
            let path = database.display().to_string();
            writeln!(output.out, "nothing yet: there is no queue at {}; `run` or `import` makes it", escape(&path))?;
        }
    }
    Ok(())
}

/// What needs somebody, or stands still.
#[derive(Debug, serde::Serialize)]
struct Concern<'a> {
    /// `person`, or `standstill` where no work is done meanwhile.
    kind: &'static str,
    what: String,
    cure: &'a str,
    incident: &'a Incident,
}

fn check(args: &StatusArgs, seen: Option<&QueueStatus>, output: &mut Output<'_>) -> anyhow::Result<Exit> {
    let concerns: Vec<_> = seen.iter().flat_map(|seen| &seen.health.incidents).filter_map(concern).collect();
    if args.json {
        output.json(&concerns)?;
    }
    for Concern { kind, what, cure, .. } in concerns.iter().filter(|_| !args.json) {
        writeln!(output.out, "{kind}: {} ({})", escape(what), escape(cure))?;
    }
    if concerns.is_empty() && !args.json {
        writeln!(output.out, "all is well")?;
    }
    let exits = concerns.iter().map(
        |concern| {
            if concern.incident.kind.stands_still() { Exit::WorkLeft } else { Exit::Refused }
        },
    );
    Ok(exits.max().unwrap_or(Exit::Well))
}

fn concern(incident: &Incident) -> Option<Concern<'_>> {
    let stands = incident.kind.stands_still();
    if !stands && incident.level < HealthLevel::Person {
        return None;
    }
    let since = incident.since.map(|since| format!(", since {since}")).unwrap_or_default();
    // Monitoring may keep it, and the API's words may name people.
    let is_theirs = matches!(incident.kind, IncidentKind::Failed | IncidentKind::Held);
    let says = incident.says.first().filter(|_| !is_theirs).map(|says| format!(": {says}")).unwrap_or_default();
    Some(Concern {
        kind: if stands { "standstill" } else { "person" },
        what: format!("{}{since}{says}", incident.title),
        cure: &incident.cure,
        incident,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::output::tests::capture,
        job::{Creation, WaitReason},
        queue::{
            arrivals::Arrival,
            control::Cause,
            drop_state::UnclaimedFiles,
            lock::Lock,
            test_support::{self, DROP, NOW, Site},
        },
    };

    fn status(database: &Path, json: bool) -> String {
        let args = StatusArgs { watch: false, json, check: false };
        let seen = status::read(database, NOW).unwrap();
        let (_, out, _) = capture(|output| {
            write(&args, database, seen.as_ref(), output)?;
            Ok(Exit::Well)
        });
        out
    }

    fn site() -> Site {
        let site = Site::new();
        site.admit("a.manifest.json", &["done", "failed", "waits", "held", "queued"]);
        site.create(site.job("done"), "doc");
        site.fail(site.job("failed"), "HTTP 403: no");
        site.put_off(site.job("waits"), WaitReason::Retry, Creation::None, NOW.after(Duration::from_secs(14)));
        site.hold(site.job("held"), Creation::Unknown);
        site
    }

    #[test]
    fn a_page_names_everything_that_a_person_must_know() {
        let site = site();
        let arrival = Arrival {
            advice: crate::manifest_wait::ManifestWait::Behind.for_sender(),
            drop: DROP.into(),
            manifest: "late\u{1b}.manifest.json".into(),
            file: test_support::a_file(),
            reason: "2 files are missing".into(),
            seen: NOW,
            missing: vec!["x.png".into()],
            looked: NOW,
            in_use: Vec::new(),
            replaced: Vec::new(),
            patience: None,
        };
        site.queue.note_arrival(arrival, NOW).unwrap();
        site.queue.pause("drop:partner-a", Cause::Operator, None, NOW).unwrap();
        let unclaimed = UnclaimedFiles {
            files: 12,
            oldest: Some("2026-11-20T08:00:00Z".into()),
            examples: vec!["17/front\u{1b}.png".into()],
            like_manifests: 1,
            manifest_examples: vec!["batch_manifest.json".into()],
        };
        site.queue.note_unclaimed(DROP, &unclaimed).unwrap();
        site.queue.note_ground(DROP, Some("/srv/a/done: read-only (mount it writable)".into()), NOW).unwrap();
        let batch = site.admit("empty.manifest.json", &[]);
        site.queue.batch_trouble(batch, "the folder of receipts is read-only".into()).unwrap();
        let out = status(site.queue.path(), false);
        let flat = out.split_whitespace().collect::<Vec<_>>().join(" ");
        for said in [
            "✗ Nobody works on the queue, and work is left. 2 more below. 2 wait, none is lost.",
            "✗ NO WORKER: nobody works on the queue, and work is left → start it with `run` systemctl start passfort-ingest",
            "‖ PAUSED: drop partner-a is paused by a person, since",
            "passfort-ingest resume --drop partner-a",
            "✗ BAD GROUND: nothing of drop partner-a is taken in, since",
            "/srv/a/done: read-only (mount it writable)",
            "! UNCLAIMED: drop partner-a has 12 files that no manifest names, since",
            "1 look like manifests, rename them: batch_manifest.json",
            "e.g. 17/front\\u{1b}.png",
            "6.0 a minute",
            "unknown: nobody works on it",
            "next retry in 14 s",
            "last error job 3",
            "! HELD: 1 job is held, and waits for a person, since",
            "passfort-ingest release 4 --as-created ID",
            "1 images whose answers were lost",
            "empty.manifest.json: the folder of receipts is read-only",
            "‖ NOT TAKEN YET: 1 manifest is not taken in yet, since",
            "late\\u{1b}.manifest.json: 2 files are missing",
            "‖ RETRY: 1 job waits for the next try, since",
        ] {
            assert!(flat.contains(said), "{said:?} is not in\n{out}");
        }
        let row: Vec<&str> = out.lines().find(|line| line.starts_with(DROP)).unwrap().split_whitespace().collect();
        assert_eq!(row, [DROP, "1", "1", "1", "1", "1", "3"]);
        let heading = |line: &&str| line.starts_with(['✗', '!', '‖']);
        let signs: Vec<char> = out.lines().filter(heading).skip(1).filter_map(|line| line.chars().next()).collect();
        let mut worst_first = signs.clone();
        worst_first.sort_by_key(|sign| ['✗', '!', '‖'].iter().position(|one| one == sign));
        assert_eq!(signs, worst_first);
    }

    #[test]
    fn a_terminal_of_80_columns_is_enough() {
        let site = site();
        site.queue.pause("", Cause::KeyRefused, Some("a long answer of the API ".repeat(9)), NOW).unwrap();
        site.queue.note_ground(DROP, Some("a folder is gone ".repeat(9)), NOW).unwrap();
        let args = StatusArgs { watch: false, json: false, check: false };
        let seen = status::read(site.queue.path(), NOW).unwrap();
        let mut out = Vec::new();
        let mut output = Output { out: &mut out, err: &mut Vec::new(), terminal: true };
        write(&args, site.queue.path(), seen.as_ref(), &mut output).unwrap();
        let text = String::from_utf8(out).unwrap();
        let plain = text.replace("\u{1b}[1;31m", "").replace("\u{1b}[1;33m", "").replace("\u{1b}[0m", "");
        for line in plain.lines() {
            let is_one_word = line.split_whitespace().count() <= 1;
            let is_command = line.trim_start().starts_with("passfort-ingest ");
            assert!(line.chars().count() <= 80 || is_one_word || is_command, "{line}");
        }
    }

    #[test]
    fn a_worker_and_its_eta_are_named() {
        let site = site();
        let lock = Lock::take(site.queue.path(), "run").unwrap().unwrap();
        let out = status(site.queue.path(), false);
        assert!(out.contains(&format!("`run` (process {}) works on", std::process::id())), "{out}");
        assert!(out.contains("done in           about 20 s, "), "{out}");
        drop(lock);
    }

    #[test]
    fn json_has_the_same_numbers() {
        let site = site();
        let seen: serde_json::Value = serde_json::from_str(&status(site.queue.path(), true)).unwrap();
        assert_eq!(seen["totals"]["failed"], 1);
        // Nobody works on it.
        assert!(seen["eta_seconds"].is_null());
        assert_eq!(seen["queue"]["next_due"], "2026-11-22T20:15:18Z");
        assert!(seen["daemon"].is_null());
    }

    #[test]
    fn no_queue_is_no_fault() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("none.db");
        assert!(status(&database, false).starts_with("nothing yet: there is no queue at "));
        assert_eq!(status(&database, true), "null\n");
        assert!(!database.exists());
    }

    #[test]
    fn a_check_says_what_needs_somebody_and_whether_work_stands_still() {
        let checked = |site: &Site| {
            let args = StatusArgs { watch: false, json: false, check: true };
            let seen = status::read(site.queue.path(), NOW).unwrap();
            let (exit, out, _) = capture(|output| check(&args, seen.as_ref(), output));
            (exit, out)
        };
        let site = Site::new();
        let lock = Lock::take(site.queue.path(), "run").unwrap().unwrap();
        assert_eq!(checked(&site), (Exit::Well, "all is well\n".to_owned()));
        site.admit("a.manifest.json", &["held", "queued"]);
        site.hold(site.job("held"), Creation::Unknown);
        assert_eq!(
            checked(&site),
            (
                Exit::Refused,
                "person: 1 job is held, and waits for a person, since 2026-11-22T20:15:04Z \
                 (look at the profile: was it created? then release the job)\n"
                    .to_owned()
            )
        );
        site.queue.pause("drop:partner-a", Cause::Operator, None, NOW).unwrap();
        drop(lock);
        let (exit, out) = checked(&site);
        assert_eq!(exit, Exit::WorkLeft);
        assert!(out.starts_with("standstill: nobody works on the queue, and work is left"), "{out}");
        assert!(
            out.contains("standstill: drop partner-a is paused by a person") && out.contains("person: 1 job is held"),
            "{out}"
        );
    }
}
