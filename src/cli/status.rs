//! `status`: the queue at a glance. Costs the same however many jobs there are, so it may be watched.

use std::{collections::BTreeMap, path::Path, thread, time::Duration};

use super::{
    act::describe,
    causes::counted,
    output::{self, Exit, Output, QueueContext, Rows, escape},
};
use crate::{
    clock::Timestamp,
    job::JobState,
    queue::{control::Cause, drop_state::UnclaimedFiles, trials::TrialState, views::causes::CauseRow},
    reason::in_words,
    status::{self, Daemon, Expectation, FailingReceiver, QueueStatus},
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
    /// still, with 0 otherwise. A person is needed, among others, where something was refused and nobody has said `seen`
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
            if args.watch && output.terminal && !args.json {
                // Home, then clear: the earlier text goes without a flicker.
                output.out.write_all(b"\x1b[H\x1b[2J")?;
            }
            if args.check {
                return check(args, seen.as_ref(), output);
            }
            write(args, &context.database, seen.as_ref(), output)?;
            if !args.watch {
                return Ok(Exit::Well);
            }
            output.out.flush()?;
            thread::sleep(WATCH_EVERY);
        }
    })
}

fn write(
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
            page(seen, output)?;
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

/// Something that needs somebody.
#[derive(Debug, serde::Serialize)]
struct Concern {
    /// `person`, or `standstill` where no work is done meanwhile.
    kind: &'static str,
    what: String,
    cure: String,
}

fn check(args: &StatusArgs, seen: Option<&QueueStatus>, output: &mut Output<'_>) -> anyhow::Result<Exit> {
    let concerns = seen.map(concerns).unwrap_or_default();
    if args.json {
        output.json(&concerns)?;
    }
    for Concern { kind, what, cure } in concerns.iter().filter(|_| !args.json) {
        writeln!(output.out, "{kind}: {} ({})", escape(what), escape(cure))?;
    }
    if concerns.is_empty() && !args.json {
        writeln!(output.out, "all is well")?;
    }
    let exits =
        concerns.iter().map(|concern| if concern.kind == "standstill" { Exit::WorkLeft } else { Exit::Refused });
    Ok(exits.max().unwrap_or(Exit::Well))
}

/// What needs somebody, what stands still first.
fn concerns(seen: &QueueStatus) -> Vec<Concern> {
    let queue = &seen.queue;
    let mut concerns = Vec::new();
    let mut stands =
        |what: String, cure: &str| concerns.push(Concern { kind: "standstill", what, cure: cure.to_owned() });
    if let Some(refused) = &seen.refused {
        stands(format!("nothing is sent, {refused}"), "passfort-ingest adopt");
    }
    match &seen.daemon {
        Some(Daemon { trouble: Some(trouble), .. }) => {
            stands(format!("the database cannot be written: {trouble}"), "make room on its disk, or mend it")
        }
        Some(_) => {}
        None => {
            let open = [JobState::Queued, JobState::Running, JobState::Waiting]
                .map(|state| seen.totals.get(state.as_str()).copied().unwrap_or(0));
            let manifests: i64 = queue.drops.iter().map(|drop| drop.open_batches + drop.waiting_manifests).sum();
            if open.iter().sum::<i64>() + manifests > 0 {
                stands("nobody works on the queue, and work is left".to_owned(), "start it with `run`");
            }
        }
    }
    for pause in &queue.pauses {
        let cure = match pause.cause {
            Cause::Operator => "passfort-ingest resume",
            Cause::KeyRefused => "replace the key",
            Cause::QuotaSpent => "wait until it is renewed, or have it raised",
            Cause::Outage => "see whether the API works",
        };
        stands(describe(pause), cure);
    }
    for drop in &queue.drops {
        if let Some(fault) = &drop.ground {
            stands(format!("nothing of drop {} is taken in: {fault}", drop.drop), "passfort-ingest doctor");
        }
    }
    let mut person = |what: String, cure: &str| concerns.push(Concern { kind: "person", what, cure: cure.to_owned() });
    let held = seen.totals.get(JobState::Held.as_str()).copied().unwrap_or(0);
    if held > 0 {
        person(format!("{held} jobs are held"), "jobs --state held, then release");
    }
    for cause in seen.causes.iter().filter(|cause| cause.is_unseen) {
        person(unseen(cause), "passfort-ingest causes");
    }
    for bound in &queue.broken_bounds {
        person(format!("since {}, {}", bound.since, bound.what), bound.cure);
    }
    for doubled in &queue.doubled {
        let ids = doubled.document_ids.join(", ");
        person(
            format!("the document of job {} is doubled: {ids}", doubled.job),
            "remove all but one in the portal, then run verify",
        );
    }
    if let Some(verified) = queue.verified.as_ref().filter(|verified| verified.amiss > 0) {
        person(
            format!("{} documents were amiss at the verify of {}", verified.amiss, verified.at),
            "passfort-ingest verify",
        );
    }
    for late in seen.expected.iter().filter(|expected| expected.state.is_late()) {
        person(expected_in_words(late), "ask the sender, where nothing waits here");
    }
    for failing in &seen.failing_receivers {
        person(undelivered(failing), "mend the command or the address");
    }
    for (manifest, trouble) in &queue.troubled {
        person(
            format!("{manifest} cannot be settled: {trouble}"),
            "mend its folders; the worker tries again by itself",
        );
    }
    for drop in &queue.drops {
        if let Some(unclaimed) = drop.unclaimed.as_ref().filter(|unclaimed| unclaimed.files > 0) {
            person(format!("drop {} has {}", drop.drop, in_sentence(unclaimed)), "ask the partner");
        }
    }
    concerns
}

/// How a drop is doing against what is expected of it.
fn expected_in_words(expected: &Expectation) -> String {
    let due = expected.due.as_ref().map(|due| format!(", due {due}")).unwrap_or_default();
    let done = expected.estimate.as_ref().map(|done| format!(", done about {done}")).unwrap_or_default();
    format!("drop {} is {} since {}{due}{done}", expected.drop, expected.state.in_words(), expected.since)
}

fn undelivered(failing: &FailingReceiver) -> String {
    format!("{} takes none since {}: {}", failing.receiver, failing.since, failing.reason)
}

fn page(seen: &QueueStatus, output: &mut Output<'_>) -> anyhow::Result<()> {
    let queue = &seen.queue;
    match &seen.daemon {
        Some(Daemon { pid, command, trouble }) => {
            let pid = pid.map(|pid| format!(" (process {pid})")).unwrap_or_default();
            writeln!(output.out, "`{}`{pid} works on {}", escape(command), escape(&seen.database))?;
            if let Some(trouble) = trouble {
                writeln!(output.out, "STUCK: the database cannot be written, so all work waits: {}", escape(trouble))?;
            }
        }
        None => writeln!(output.out, "nobody works on {}: start it with `run`", escape(&seen.database))?,
    }
    if let Some(refused) = &seen.refused {
        writeln!(output.out, "REFUSED: nothing is sent, {}: see `adopt`", escape(refused))?;
    }
    for pause in &queue.pauses {
        writeln!(output.out, "PAUSED: {}", escape(&describe(pause)))?;
    }
    for bound in &queue.broken_bounds {
        writeln!(output.out, "LATE: since {}, {}; {}", bound.since, escape(&bound.what), bound.cure)?;
    }
    for drop in &queue.drops {
        let Some(fault) = &drop.ground else { continue };
        let since =
            drop.ground_since.map(|since| format!(", for {}", in_words(seen.at.since(since)))).unwrap_or_default();
        let name = escape(&drop.drop);
        writeln!(output.out, "BAD GROUND: nothing of drop {name} is taken in{since}: {}", escape(fault))?;
    }
    for late in &seen.expected {
        let label = if late.state.is_late() { "LATE" } else { "EXPECTED" };
        writeln!(output.out, "{label}: {}", escape(&expected_in_words(late)))?;
    }
    for failing in &seen.failing_receivers {
        writeln!(output.out, "ALERTS: {}", escape(&undelivered(failing)))?;
    }
    writeln!(output.out)?;
    table(seen, output)?;
    writeln!(output.out)?;
    let ago = |moment: Timestamp| in_words(seen.at.since(moment));
    let mut line = |name: &str, text: &str| writeln!(output.out, "{name:<18}{}", escape(text));
    let rate = seen.rate_per_minute.map_or_else(
        || "nothing created in the last 10 minutes".to_owned(),
        |rate| format!("{rate:.1} a minute over the last 10 minutes"),
    );
    line("rate", &rate)?;
    let open = |state: JobState| seen.totals.get(state.as_str()).copied().unwrap_or(0);
    if open(JobState::Queued) + open(JobState::Running) + open(JobState::Waiting) > 0 {
        let eta = match seen.eta_seconds {
            _ if seen.daemon.is_none() => "unknown: nobody works on it".to_owned(),
            _ if queue.pauses.iter().any(|pause| pause.scope.is_empty()) => "unknown: it is paused".to_owned(),
            Some(seconds) => {
                let limit = seen.estimate.map(|finish| format!(", limited by {}", finish.limit_in_words()));
                format!("about {}{}", in_words(Duration::from_secs(seconds)), limit.unwrap_or_default())
            }
            None => "unknown: there is no rate yet, or all that is left is paused".to_owned(),
        };
        line("done in", &eta)?;
    }
    if let Some(oldest) = queue.oldest_waiting {
        line("oldest waiting", &format!("since {oldest}, {}", ago(oldest)))?;
    }
    if let Some(due) = queue.next_due {
        let when = if due > seen.at { format!("in {}", in_words(due.since(seen.at))) } else { "now".to_owned() };
        line("next retry", &when)?;
    }
    if let Some((job, text)) = &queue.last_error {
        let when = queue.last_error_at.map(|at| format!(", {} ago", ago(at))).unwrap_or_default();
        line("last error", &format!("job {job}{when}: {text}"))?;
    }
    for cause in seen.causes.iter().filter(|cause| cause.is_unseen).take(NAMED_CAUSES) {
        line("refused", &unseen(cause))?;
    }
    for cause in &seen.causes {
        if let Some(trial) = cause.trial.as_ref().filter(|trial| trial.state != TrialState::Failed) {
            line("retry", &format!("cause {}: {}", cause.cause, trial.sentence()))?;
        }
    }
    if !seen.causes.is_empty() {
        let seen_ones = seen.causes.iter().filter(|cause| !cause.is_unseen).count();
        let seen_ones = if seen_ones > 0 { format!(" ({seen_ones} seen)") } else { String::new() };
        line("", &format!("passfort-ingest causes{seen_ones}"))?;
    }
    if open(JobState::Held) > 0 {
        line("held", &format!("{} wait for a person: `jobs --state held`, then `release`", open(JobState::Held)))?;
    }
    for doubled in queue.doubled.iter().take(NAMED_DOUBLES) {
        let (job, ids) = (doubled.job, doubled.document_ids.join(", "));
        line("doubled", &format!("job {job}: {ids}; remove all but one in the portal, then run `verify`"))?;
    }
    if queue.doubled.len() > NAMED_DOUBLES {
        line("", &format!("and {} more documents", queue.doubled.len() - NAMED_DOUBLES))?;
    }
    if let Some(since) = queue.to_recheck_since {
        let documents = queue.to_recheck;
        line(
            "sent twice",
            &format!("{documents} documents since {since}: each profile is read again `[retry] recheck_after` later"),
        )?;
    }
    if queue.possible_leftovers > 0 {
        let count = queue.possible_leftovers;
        let seen = queue.verified.as_ref().map_or_else(
            || "`verify` finds out which are there".to_owned(),
            |verified| format!("{} were there at the `verify` of {}", verified.leftover_images, verified.at),
        );
        line(
            "leftovers",
            &format!("possibly {count} images whose answers were lost, and that no document uses; {seen}"),
        )?;
    }
    if let Some(verified) = queue.verified.as_ref().filter(|verified| verified.amiss > 0) {
        let (amiss, at) = (verified.amiss, &verified.at);
        line("verify", &format!("{amiss} documents were missing, changed or doubled at the `verify` of {at}"))?;
    }
    if queue.possible_extra_files > 0 {
        line(
            "extra files",
            &format!("possibly {}: the answers to their uploads were lost", queue.possible_extra_files),
        )?;
    }
    for drop in &queue.drops {
        if let Some(watching) = drop.watching.as_ref().filter(|watching| *watching != "events") {
            line("watching", &format!("{}: {watching}", drop.drop))?;
        }
    }
    for drop in &queue.drops {
        let Some(unclaimed) = &drop.unclaimed else { continue };
        line("unclaimed", &format!("{}: {}", drop.drop, in_sentence(unclaimed)))?;
    }
    troubles(seen, output)
}

/// Causes that are named.
const NAMED_CAUSES: usize = 3;

/// A cause that asks for a person, without the API's words: monitoring may keep it.
fn unseen(cause: &CauseRow) -> String {
    let code = cause.code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default();
    format!("{}, cause {}{code}, since {}", counted(cause), cause.cause, cause.first)
}

/// Doubled documents that are named.
const NAMED_DOUBLES: usize = 3;

/// Files that belong to nothing, in a sentence.
fn in_sentence(unclaimed: &UnclaimedFiles) -> String {
    const SHOWN: usize = 3;
    let shown = |paths: &[String]| paths.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    let UnclaimedFiles { files, oldest, examples, like_manifests, manifest_examples } = unclaimed;
    let mut text =
        format!("{files} files that no manifest names, the oldest since {}", oldest.as_deref().unwrap_or("?"));
    if *like_manifests > 0 {
        text.push_str(&format!("; {like_manifests} look like manifests, rename them: {}", shown(manifest_examples)));
    }
    if !examples.is_empty() {
        text.push_str(&format!("; e.g. {}", shown(examples)));
    }
    text
}

fn table(seen: &QueueStatus, output: &mut Output<'_>) -> anyhow::Result<()> {
    if seen.queue.drops.is_empty() {
        writeln!(output.out, "no job yet")?;
        return Ok(());
    }
    let mut header = vec!["DROP".to_owned()];
    header.extend(JobState::ALL.map(|state| state.as_str().to_uppercase()));
    header.push("MANIFESTS".to_owned());
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let mut rows = Rows::new(&header, header.get(1..).unwrap_or_default(), output.terminal);
    let cells = |name: &str, jobs: &BTreeMap<String, i64>, manifests: i64| {
        let count = |state: JobState| jobs.get(state.as_str()).copied().unwrap_or(0).to_string();
        let mut cells = vec![name.to_owned()];
        cells.extend(JobState::ALL.map(count));
        cells.push(manifests.to_string());
        cells
    };
    for drop in &seen.queue.drops {
        rows.add(cells(&drop.drop, &drop.jobs, drop.open_batches + drop.waiting_manifests));
    }
    if seen.queue.drops.len() > 1 {
        let manifests = seen.queue.drops.iter().map(|drop| drop.open_batches + drop.waiting_manifests).sum();
        rows.add(cells("all", &seen.totals, manifests));
    }
    rows.write(output.out)?;
    Ok(())
}

fn troubles(seen: &QueueStatus, output: &mut Output<'_>) -> anyhow::Result<()> {
    if !seen.queue.troubled.is_empty() {
        writeln!(output.out, "\ncannot be settled:")?;
        for (manifest, trouble) in &seen.queue.troubled {
            writeln!(output.out, "  {}: {}", escape(manifest), escape(trouble))?;
        }
    }
    if !seen.waiting_manifests.is_empty() {
        let all: i64 = seen.queue.drops.iter().map(|drop| drop.waiting_manifests).sum();
        writeln!(output.out, "\nnot taken in yet ({all}):")?;
        for manifest in &seen.waiting_manifests {
            let since = manifest.first_seen.map(|seen_at| in_words(seen.at.since(seen_at))).unwrap_or_default();
            let (drop, path) = (escape(&manifest.drop), escape(&manifest.manifest));
            writeln!(output.out, "  {drop}: {path}: {} (for {since})", escape(&manifest.reason))?;
        }
        if usize::try_from(all).is_ok_and(|all| all > seen.waiting_manifests.len()) {
            writeln!(output.out, "  … and more; `why PATH` tells about each")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::output::tests::capture,
        job::{Creation, WaitReason},
        queue::{
            arrivals::Arrival,
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
        for said in [
            "nobody works on",
            "PAUSED: drop partner-a is paused by a person",
            "BAD GROUND: nothing of drop partner-a is taken in, for ",
            ": /srv/a/done: read-only (mount it writable)",
            "partner-a: 12 files that no manifest names, the oldest since 2026-11-20T08:00:00Z; \
             1 look like manifests, rename them: batch_manifest.json; e.g. 17/front\\u{1b}.png",
            "6.0 a minute",
            "unknown: nobody works on it",
            "next retry        in 14 s",
            "last error        job 3",
            "1 wait for a person",
            "1 images whose answers were lost",
            "empty.manifest.json: the folder of receipts is read-only",
            "late\\u{1b}.manifest.json: 2 files are missing",
        ] {
            assert!(out.contains(said), "{said:?} is not in\n{out}");
        }
        let row: Vec<&str> = out.lines().find(|line| line.starts_with(DROP)).unwrap().split_whitespace().collect();
        assert_eq!(row, [DROP, "1", "0", "1", "1", "1", "0", "1", "0", "3"]);
    }

    #[test]
    fn a_worker_and_its_eta_are_named() {
        let site = site();
        let lock = Lock::take(site.queue.path(), "run").unwrap().unwrap();
        let out = status(site.queue.path(), false);
        assert!(out.contains(&format!("`run` (process {}) works on", std::process::id())), "{out}");
        assert!(out.contains("done in           about 20 s"), "{out}");
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
            (Exit::Refused, "person: 1 jobs are held (jobs --state held, then release)\n".to_owned())
        );
        site.queue.pause("drop:partner-a", Cause::Operator, None, NOW).unwrap();
        drop(lock);
        let (exit, out) = checked(&site);
        assert_eq!(exit, Exit::WorkLeft);
        assert!(out.starts_with("standstill: nobody works on the queue, and work is left"), "{out}");
        assert!(
            out.contains("standstill: drop partner-a is paused by a person") && out.contains("person: 1 jobs"),
            "{out}"
        );
    }
}
