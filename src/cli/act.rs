//! `retry`, `cancel`, `release`, `pause`, `resume`: what a person does to the queue.
//!
//! Nothing is done by accident: without a job number or a filter the commands refuse. All is done before the first line
//! is written, so that a reader who goes away does not stop it half-way. A daemon on the same database hears of it at once.

use std::{collections::BTreeMap, path::Path};

use clap::ArgGroup;

use super::{
    caller::caller,
    causes,
    filter::FilterArgs,
    output::{self, Exit, Output, QueueContext, escape},
    take_changed,
};
use crate::{
    clock::Timestamp,
    job::{JobState, WaitReason},
    queue::{
        Queue, QueueError, Reader, WhenStuck,
        control::{Cause, CommandOutcome, JobCommand, Pause, Release},
        trial_steps::TrialStart,
        trials,
        views::Filter,
        wake,
    },
};

/// Which jobs `retry` and `cancel` are about.
#[derive(Debug, clap::Args)]
pub struct Targets {
    /// Job numbers, as `jobs` lists them
    #[arg(value_name = "JOB")]
    pub jobs: Vec<i64>,

    /// Or all that fit.
    #[command(flatten)]
    pub filter: FilterArgs,
}

/// The arguments of `retry`.
#[derive(Debug, clap::Args)]
#[command(after_help = "E.g. everything that the API refused since this morning:\n  \
                        passfort-ingest retry --state failed --since 2026-11-22 --error 'HTTP 403'")]
pub struct RetryArgs {
    /// Which ones; a filter without --state means those that failed or wait.
    #[command(flatten)]
    pub targets: Targets,

    /// Every job that failed or waits
    #[arg(long)]
    pub all: bool,

    /// Documents that the last `verify` found missing, of all jobs or of those that are named: each is read back, and sent
    /// again if it is not there
    #[arg(long, conflicts_with = "take_changed")]
    pub missing: bool,

    /// Send all at once: without it, five of many that failed for one cause are sent first, and the others once these have
    /// ended well
    #[arg(long)]
    pub at_once: bool,

    /// Of jobs that failed because a file has changed: examine it anew, show what it was and is, and send what it is
    #[arg(long)]
    pub take_changed: bool,
}

/// The arguments of `cancel`.
#[derive(Debug, clap::Args)]
#[command(after_help = "E.g. whatever is left of one manifest:\n  \
                        passfort-ingest cancel --manifest batch-7.manifest.json")]
pub struct CancelArgs {
    /// Which ones; a filter without --state means those that have not ended.
    #[command(flatten)]
    pub targets: Targets,

    /// Every job that has not ended
    #[arg(long)]
    pub all: bool,
}

/// The arguments of `release`.
#[derive(Debug, clap::Args)]
#[command(
    group = ArgGroup::new("settled").required(true).args(["as_created", "send_again"]),
    after_help = "E.g. where the portal shows the document:\n  \
                  passfort-ingest release 17 --as-created 9a92b3c5-29f3-4f20-a6a1-4b9d1f4e1f4b\n\
                  or where it does not:\n  passfort-ingest release 17 --send-again"
)]
pub struct ReleaseArgs {
    /// Which held ones.
    #[command(flatten)]
    pub targets: Targets,

    /// It was created, under this ID: nothing is sent; for one job only
    #[arg(long, value_name = "ID", value_parser = parse_id)]
    pub as_created: Option<String>,

    /// It was not created: send it again
    #[arg(long)]
    pub send_again: bool,
}

/// The arguments of `pause`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Nothing new is sent until `resume`, also after a restart. E.g. for one drop only:\n  \
                        passfort-ingest pause --drop partner-a --note 'the scanner is being serviced'")]
pub struct PauseArgs {
    /// Only this drop
    #[arg(long, value_name = "NAME")]
    pub drop: Option<String>,

    /// Why, for those who find it paused; shown with your name and the time
    #[arg(long, value_name = "TEXT", value_parser = parse_note)]
    pub note: Option<String>,
}

/// The arguments of `resume`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Takes back what `pause` did; pauses of single drops stay. E.g.:\n  \
                        passfort-ingest resume --drop partner-a")]
pub struct ResumeArgs {
    /// Only this drop
    #[arg(long, value_name = "NAME")]
    pub drop: Option<String>,
}

fn parse_note(text: &str) -> Result<String, &'static str> {
    let fits = !text.trim().is_empty() && text.chars().count() <= 200;
    fits.then(|| text.trim().to_owned()).ok_or("a note has one to 200 characters")
}

fn parse_id(text: &str) -> Result<String, &'static str> {
    let plain = !text.is_empty() && text.len() <= 200 && text.chars().all(|letter| letter.is_ascii_graphic());
    plain.then(|| text.to_owned()).ok_or("an ID has no spaces and is not empty; copy it from the portal or the API")
}

/// Sends jobs on again.
///
/// # Errors
///
/// Those of the database and of writing.
pub fn retry(args: &RetryArgs, context: &QueueContext) -> anyhow::Result<Exit> {
    output::on_streams(|output| retry_on(args, context, Timestamp::now(), output))
}

fn retry_on(args: &RetryArgs, context: &QueueContext, now: Timestamp, output: &mut Output<'_>) -> anyhow::Result<Exit> {
    if args.take_changed {
        let Targets { jobs, filter } = &args.targets;
        if args.all || jobs.is_empty() || !filter.filter(now).is_empty() {
            return Ok(output.refuse_usage("--take-changed is about single jobs: give their numbers, and no filter"));
        }
        return take_changed::retry(jobs, context, now, output);
    }
    if args.missing {
        return send_missing(args, context, now, output);
    }
    let states = &[JobState::Waiting, JobState::Failed];
    let asked = TargetedJobs { targets: &args.targets, all: args.all, by_trial: !args.at_once, states };
    act(&asked, &JobCommand::Retry, context, now, output)
}

/// Sends documents again that the last `verify` found missing.
fn send_missing(
    args: &RetryArgs,
    context: &QueueContext,
    now: Timestamp,
    output: &mut Output<'_>,
) -> anyhow::Result<Exit> {
    let Targets { jobs, filter } = &args.targets;
    let filter = filter.filter(now);
    let ids = if !jobs.is_empty() && filter.is_empty() {
        jobs.clone()
    } else {
        match Reader::open(&context.database) {
            Err(error @ QueueError::Absent { .. }) => return Ok(output.refuse_usage(&error.to_string())),
            reader => reader?.missing(&Filter { ids: jobs.clone(), ..filter })?,
        }
    };
    if ids.is_empty() {
        output.remark("the last `verify` found nothing missing that fits: nothing was done");
        return Ok(Exit::Well);
    }
    command(&context.database, &ids, &JobCommand::SendMissing, now, output)
}

/// Stops jobs.
///
/// # Errors
///
/// Those of the database and of writing.
pub fn cancel(args: &CancelArgs, context: &QueueContext) -> anyhow::Result<Exit> {
    output::on_streams(|output| cancel_on(args, context, Timestamp::now(), output))
}

fn cancel_on(
    args: &CancelArgs,
    context: &QueueContext,
    now: Timestamp,
    output: &mut Output<'_>,
) -> anyhow::Result<Exit> {
    let states = [JobState::Queued, JobState::Running, JobState::Waiting, JobState::Held];
    let asked = TargetedJobs { targets: &args.targets, all: args.all, by_trial: false, states: &states };
    act(&asked, &JobCommand::Cancel, context, now, output)
}

/// Settles held jobs.
///
/// # Errors
///
/// Those of the database and of writing.
pub fn release(args: &ReleaseArgs, context: &QueueContext) -> anyhow::Result<Exit> {
    output::on_streams(|output| release_on(args, context, Timestamp::now(), output))
}

fn release_on(
    args: &ReleaseArgs,
    context: &QueueContext,
    now: Timestamp,
    output: &mut Output<'_>,
) -> anyhow::Result<Exit> {
    let wish = match &args.as_created {
        Some(_) if args.targets.jobs.len() != 1 => {
            return Ok(output
                .refuse_usage("--as-created is about one job: name its number, e.g. `release 17 --as-created ID`"));
        }
        Some(id) => Release::AsCreated(id.clone()),
        None => Release::SendAgain,
    };
    let asked = TargetedJobs { targets: &args.targets, all: false, by_trial: false, states: &[JobState::Held] };
    act(&asked, &JobCommand::Release(wish), context, now, output)
}

struct TargetedJobs<'a> {
    targets: &'a Targets,
    all: bool,
    /// Whether many jobs of one cause are tried with a few first.
    by_trial: bool,
    /// What a filter means that names no state.
    states: &'a [JobState],
}

/// Jobs in one commit: enough that its sync costs little, few enough that a worker does not wait for it.
const AT_ONCE: usize = 200;

fn act(
    asked: &TargetedJobs<'_>,
    wish: &JobCommand,
    context: &QueueContext,
    now: Timestamp,
    output: &mut Output<'_>,
) -> anyhow::Result<Exit> {
    let mut filter = asked.targets.filter.filter(now);
    if asked.all && !asked.targets.jobs.is_empty() {
        return Ok(output.refuse_usage("--all and job numbers contradict each other: give one of them"));
    }
    if !asked.all && filter.is_empty() && asked.targets.jobs.is_empty() {
        return Ok(
            output.refuse_usage("which jobs? give their numbers, or a filter such as --state failed or --drop NAME")
        );
    }
    let reader = match Reader::open(&context.database) {
        Err(error @ QueueError::Absent { .. }) => return Ok(output.refuse_usage(&error.to_string())),
        reader => reader?,
    };
    if let Some(unknown) = causes::unknown_of(&reader, &filter)? {
        return Ok(output.refuse_usage(&unknown));
    }
    let mut jobs = CommandTargets::default();
    if asked.targets.jobs.is_empty() || !filter.is_empty() {
        filter.ids.clone_from(&asked.targets.jobs);
        let every_state = filter.states.is_empty();
        if every_state {
            filter.states = asked.states.to_vec();
        }
        jobs = selected(&reader, &filter, wish, asked.by_trial)?;
        if let Some(cause) = filter.cause.filter(|_| every_state && *wish == JobCommand::Cancel) {
            // Before those that are sent first: with the end of these the trial is over.
            jobs.at_once.splice(0..0, reader.waiting_for_trial(cause)?);
        }
    } else {
        jobs.at_once.clone_from(&asked.targets.jobs);
    }
    drop(reader);
    if jobs.is_empty() {
        output.remark("no job fits: nothing was done");
        return Ok(Exit::Well);
    }
    carry_out(&context.database, &jobs, wish, now, output)
}

/// The jobs that a command is for.
#[derive(Debug, Default)]
struct CommandTargets {
    at_once: Vec<i64>,
    /// Those of which a few are sent first, by cause.
    by_trial: BTreeMap<i64, Vec<i64>>,
}

impl CommandTargets {
    fn is_empty(&self) -> bool {
        self.at_once.is_empty() && self.by_trial.is_empty()
    }
}

/// Carries a command out for these jobs, and prints each answer.
pub(super) fn command(
    database: &Path,
    ids: &[i64],
    wish: &JobCommand,
    now: Timestamp,
    output: &mut Output<'_>,
) -> anyhow::Result<Exit> {
    let jobs = CommandTargets { at_once: ids.to_vec(), ..CommandTargets::default() };
    carry_out(database, &jobs, wish, now, output)
}

/// Jobs that are added to a trial in one commit: one row each.
const GATHERED_AT_ONCE: usize = 5_000;

fn carry_out(
    database: &Path,
    jobs: &CommandTargets,
    wish: &JobCommand,
    now: Timestamp,
    output: &mut Output<'_>,
) -> anyhow::Result<Exit> {
    let queue = Queue::open_beside(database, WhenStuck::Fail)?;
    let act = queue.begin_act(wish.as_str(), caller(), now)?;
    let mut answers = Vec::with_capacity(jobs.at_once.len());
    let mut trials = Vec::new();
    let mut all_of_them = || -> Result<(), QueueError> {
        for some in jobs.at_once.chunks(AT_ONCE) {
            answers.extend(queue.command_by(Some(act), some.to_vec(), wish.clone(), now)?);
        }
        for (cause, of_cause) in &jobs.by_trial {
            let mut trial = None;
            for some in of_cause.chunks(GATHERED_AT_ONCE) {
                trial = Some(queue.gather_for_trial(*cause, act, some.to_vec(), now)?);
            }
            let Some(trial) = trial else { continue };
            let start = queue.start_trial(trial, now)?;
            trials.push((*cause, start.clone()));
            answers.extend(start.answers);
        }
        Ok(())
    };
    let broke = all_of_them().err();
    wake::notify(database);
    print_answers(&answers, output)?;
    for (cause, TrialStart { sent, others, joined, .. }) in &trials {
        let said = match (joined, sent) {
            (true, _) => format!("{others} wait for those that are sent first already: see `causes`"),
            (false, 0) => format!("none could be sent first, so {others} others stay failed"),
            (false, _) => {
                format!("{others} others follow once these {sent} have ended well, and else stay failed: see `causes`")
            }
        };
        writeln!(output.out, "cause {cause}: {said}")?;
    }
    output.out.flush()?;
    match broke {
        Some(error) => Err(anyhow::Error::from(error).context(format!(
            "stopped after {} of {} jobs; what is listed was done, run it again for the others",
            answers.len(),
            jobs.at_once.len() + jobs.by_trial.values().map(Vec::len).sum::<usize>()
        ))),
        None if answers.iter().all(|answer| answer.done) => Ok(Exit::Well),
        None => Ok(Exit::Refused),
    }
}

fn selected(reader: &Reader, filter: &Filter, wish: &JobCommand, by_trial: bool) -> Result<CommandTargets, QueueError> {
    let mut jobs = CommandTargets::default();
    reader.jobs(filter, |job| {
        // One that waits for another job has nothing to retry; asked for by its number, it says so.
        let twin = job.waits.as_deref() == Some(WaitReason::Twin.as_str());
        match job.cause.filter(|_| by_trial && job.state == JobState::Failed) {
            Some(cause) => jobs.by_trial.entry(cause).or_default().push(job.id),
            None if twin && *wish == JobCommand::Retry => {}
            None => jobs.at_once.push(job.id),
        }
        Ok::<_, QueueError>(())
    })?;
    // A few are sent as they are.
    let few = jobs.by_trial.extract_if(.., |_, of_cause| of_cause.len() <= trials::FIRST);
    jobs.at_once.extend(few.flat_map(|(_, of_cause)| of_cause));
    Ok(jobs)
}

fn print_answers(answers: &[CommandOutcome], output: &mut Output<'_>) -> anyhow::Result<()> {
    for answer in answers {
        writeln!(output.out, "job {} {}", answer.job, escape(&answer.message))?;
    }
    let done = answers.iter().filter(|answer| answer.done).count();
    output.out.flush()?;
    output.remark(&format!("{done} of {} done", answers.len()));
    Ok(())
}

/// Stops sending.
///
/// # Errors
///
/// Those of the database and of writing.
pub fn pause(args: &PauseArgs, context: &QueueContext) -> anyhow::Result<Exit> {
    let to = Switch::Pause { note: args.note.clone() };
    output::on_streams(|output| switch(to, args.drop.as_deref(), context, Timestamp::now(), output))
}

/// Resumes sending.
///
/// # Errors
///
/// Those of the database and of writing.
pub fn resume(args: &ResumeArgs, context: &QueueContext) -> anyhow::Result<Exit> {
    output::on_streams(|output| switch(Switch::Resume, args.drop.as_deref(), context, Timestamp::now(), output))
}

#[derive(Clone, PartialEq, Eq)]
enum Switch {
    Pause { note: Option<String> },
    Resume,
}

fn switch(
    to: Switch,
    drop_name: Option<&str>,
    context: &QueueContext,
    now: Timestamp,
    output: &mut Output<'_>,
) -> anyhow::Result<Exit> {
    let reader = match Reader::open(&context.database) {
        // Making it here could leave it to the wrong user, so that the daemon cannot open it.
        Err(error @ QueueError::Absent { .. }) => return Ok(output.refuse_usage(&error.to_string())),
        reader => reader?,
    };
    if let Some(name) = drop_name
        && let Some(complaint) = unknown_drop(name, &reader, context)?
    {
        return Ok(output.refuse_usage(&complaint));
    }
    let queue = Queue::open_beside(&context.database, WhenStuck::Fail)?;
    let scope = drop_name.map(|name| format!("drop:{name}")).unwrap_or_default();
    match to {
        Switch::Pause { note } => queue.pause_by(&scope, note, caller(), now)?,
        Switch::Resume => {
            let mut pauses = vec![(scope, Cause::Operator)];
            // A person may know that the limit was raised, or that the API works again. A key that is refused stays so.
            let by_itself = |pause: &Pause| matches!(pause.cause, Cause::QuotaSpent | Cause::Outage);
            let of_accounts = reader.pauses()?.into_iter().filter(by_itself).filter(|_| drop_name.is_none());
            pauses.extend(of_accounts.map(|pause| (pause.scope, pause.cause)));
            if !queue.resume_by(pauses, caller(), now)? {
                output.remark("there was no such pause");
            }
        }
    }
    wake::notify(&context.database);
    let pauses = reader.pauses()?;
    if pauses.is_empty() {
        writeln!(output.out, "nothing is paused")?;
    }
    for pause in &pauses {
        writeln!(output.out, "{}", escape(&describe(pause)))?;
    }
    Ok(Exit::Well)
}

/// What is wrong with a drop's name that neither the queue nor the configuration knows.
fn unknown_drop(name: &str, reader: &Reader, context: &QueueContext) -> Result<Option<String>, QueueError> {
    let mut known: Vec<String> = reader.tallies()?.into_iter().map(|tally| tally.drop).collect();
    let configured = context.config.iter().flat_map(|config| &config.drops);
    known.extend(configured.map(|drop| drop.name.clone()));
    if known.iter().any(|known| known == name) {
        return Ok(None);
    }
    known.sort();
    known.dedup();
    Ok(Some(match crate::nearest::nearest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("there is no drop '{}'; did you mean '{near}'?", escape(name)),
        None => format!("there is no drop '{}'; known are: {}", escape(name), known.join(", ")),
    }))
}

/// One line about what is stopped, why, and what lifts it.
pub(super) fn describe(pause: &Pause) -> String {
    let what = match pause.scope.split_once(':') {
        Some(("drop", name)) => format!("drop {name}"),
        Some(("account", address)) => format!("the account at {address}"),
        _ => "everything".to_owned(),
    };
    let (why, cure) = match pause.cause {
        Cause::Operator => (
            "by a person",
            match pause.scope.strip_prefix("drop:") {
                Some(name) => format!("`resume --drop {name}` lifts it"),
                None => "`resume` lifts it".to_owned(),
            },
        ),
        Cause::KeyRefused => {
            ("because the API refuses the key", "give it a good key and restart the daemon".to_owned())
        }
        Cause::QuotaSpent => (
            "because a limit of the account is spent",
            "it is tried again by itself every ten minutes, and at once after `resume`".to_owned(),
        ),
        Cause::Outage => (
            "because nothing but failures came back",
            "it is tried again by itself, and at once after `resume`".to_owned(),
        ),
    };
    let words: Vec<&str> = [&pause.by, &pause.detail].into_iter().filter_map(Option::as_deref).collect();
    let detail = if words.is_empty() { String::new() } else { format!(" ({})", words.join(": ")) };
    format!("{what} is paused {why}{detail} since {}; {cure}", pause.since)
}

#[cfg(test)]
mod tests {
    use clap::{Args, FromArgMatches};

    use super::*;
    use crate::{
        cli::output::tests::capture,
        job::Creation,
        queue::test_support::{NOW, Site},
    };

    fn parse<T: Args + FromArgMatches>(args: &[&str]) -> Result<T, clap::Error> {
        let command = T::augment_args(clap::Command::new("x"));
        T::from_arg_matches(&command.try_get_matches_from([&["x"], args].concat())?)
    }

    fn run_retry(site: &Site, args: &[&str]) -> (Exit, String, String) {
        let args = parse(args).unwrap();
        capture(|output| retry_on(&args, &site.context(), NOW, output))
    }

    fn run_cancel(site: &Site, args: &[&str]) -> (Exit, String, String) {
        let args = parse(args).unwrap();
        capture(|output| cancel_on(&args, &site.context(), NOW, output))
    }

    fn run_release(site: &Site, args: &[&str]) -> (Exit, String, String) {
        let args = parse(args).unwrap();
        capture(|output| release_on(&args, &site.context(), NOW, output))
    }

    const PAUSE: Switch = Switch::Pause { note: None };

    fn run_switch(site: &Site, to: Switch, drop: Option<&str>) -> (Exit, String, String) {
        capture(|output| switch(to, drop, &site.context(), NOW, output))
    }

    #[test]
    fn nothing_is_done_by_accident() {
        let site = Site::new();
        site.admit("a.manifest.json", &["one"]);
        for (exit, _, err) in [run_retry(&site, &[]), run_cancel(&site, &[]), run_release(&site, &["--send-again"])] {
            assert_eq!(exit, Exit::Usage);
            assert!(err.contains("which jobs?"), "{err}");
        }
        assert_eq!(run_cancel(&site, &["--all", "1"]).0, Exit::Usage);
        assert_eq!(site.state(site.job("one")), JobState::Queued);
    }

    #[test]
    fn retry_of_a_filter_means_what_failed_or_waits_and_nothing_else() {
        let site = Site::new();
        site.admit("a.manifest.json", &["failed", "waits", "done", "held", "bystander"]);
        site.fail(site.job("failed"), "HTTP 403");
        site.put_off(
            site.job("waits"),
            WaitReason::Retry,
            Creation::None,
            NOW.after(std::time::Duration::from_secs(60)),
        );
        site.create(site.job("done"), "doc");
        site.hold(site.job("held"), Creation::Unknown);
        let bystander = site.everything(site.job("bystander"));
        let (exit, out, err) = run_retry(&site, &["--drop", "partner-a"]);
        assert_eq!((exit, out.lines().count(), err.as_str()), (Exit::Well, 2, "2 of 2 done\n"));
        for (reference, state) in [
            ("failed", JobState::Queued),
            ("waits", JobState::Queued),
            ("done", JobState::Done),
            ("held", JobState::Held),
        ] {
            assert_eq!(site.state(site.job(reference)), state, "{reference}");
        }
        assert_eq!(site.everything(bystander.job.id), bystander);
    }

    #[test]
    fn what_cannot_be_done_is_reported_and_counts() {
        let site = Site::new();
        site.admit("a.manifest.json", &["done", "failed"]);
        site.create(site.job("done"), "doc");
        site.fail(site.job("failed"), "no");
        let (exit, out, err) = run_retry(&site, &["1", "2", "99"]);
        assert_eq!(exit, Exit::Refused);
        assert!(out.contains("job 1 is done: nothing to retry"), "{out}");
        assert!(out.contains("job 2 queued again"), "{out}");
        assert!(out.contains("job 99 there is no such job"), "{out}");
        assert_eq!(err, "1 of 3 done\n");
    }

    #[test]
    fn cancel_all_spares_what_has_ended() {
        let site = Site::new();
        let batch = site.admit("a.manifest.json", &["done", "queued", "held"]);
        site.create(site.job("done"), "doc");
        site.hold(site.job("held"), Creation::Unknown);
        assert_eq!(run_cancel(&site, &["--all"]).0, Exit::Well);
        assert_eq!(site.state(site.job("done")), JobState::Done);
        assert_eq!(site.state(site.job("queued")), JobState::Cancelled);
        assert_eq!(site.state(site.job("held")), JobState::Cancelled);
        assert_eq!(site.batch_state(batch), "ended");
    }

    #[test]
    fn a_held_job_is_settled_as_a_person_says() {
        let site = Site::new();
        site.admit("a.manifest.json", &["stands", "lost", "bystander"]);
        let (stands, lost) = (site.job("stands"), site.job("lost"));
        site.hold(stands, Creation::Unknown);
        site.hold(lost, Creation::Unknown);
        let bystander = site.everything(site.job("bystander"));
        assert_eq!(run_release(&site, &["--state=held", "--as-created=x"]).0, Exit::Usage);
        assert_eq!(run_release(&site, &[&stands.to_string(), "--as-created=9a92"]).0, Exit::Well);
        assert_eq!(site.detail(stands).job.remote_id.as_deref(), Some("9a92"));
        assert_eq!(site.state(stands), JobState::Done);
        assert_eq!(run_release(&site, &[&lost.to_string(), "--send-again"]).0, Exit::Well);
        assert_eq!(site.detail(lost).job.creation, Creation::None);
        assert_eq!(site.state(lost), JobState::Queued);
        assert_eq!(run_release(&site, &[&bystander.job.id.to_string(), "--send-again"]).0, Exit::Refused);
        assert_eq!(site.everything(bystander.job.id), bystander);
        assert!(parse::<ReleaseArgs>(&["1"]).is_err());
        assert!(parse::<ReleaseArgs>(&["1", "--send-again", "--as-created=x"]).is_err());
        assert!(parse::<ReleaseArgs>(&["1", "--as-created="]).is_err());
    }

    #[test]
    fn resume_lifts_its_own_pause_and_names_what_stays() {
        let site = Site::new();
        site.admit("a.manifest.json", &["one"]);
        let (_, out, _) = run_switch(&site, PAUSE, None);
        assert!(out.contains("everything is paused by a person (") && out.contains(") since 2026-11-22T"), "{out}");
        run_switch(&site, PAUSE, Some("partner-a"));
        let (exit, out, _) = run_switch(&site, Switch::Resume, None);
        assert_eq!((exit, out.lines().count()), (Exit::Well, 1));
        assert!(out.contains("drop partner-a is paused") && out.contains("resume --drop partner-a"), "{out}");
        let (_, out, _) = run_switch(&site, Switch::Resume, Some("partner-a"));
        assert_eq!(out, "nothing is paused\n");
        let (_, _, err) = run_switch(&site, Switch::Resume, None);
        assert!(err.contains("no such pause"), "{err}");
    }

    #[test]
    fn a_mistyped_drop_is_not_paused_in_silence() {
        let site = Site::new();
        let (exit, out, err) = run_switch(&site, PAUSE, Some("partnera"));
        assert_eq!((exit, out.as_str()), (Exit::Usage, ""));
        assert!(err.contains("did you mean 'partner-a'"), "{err}");
    }

    #[test]
    fn no_database_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let context = QueueContext { database: folder.path().join("none.db"), config: None };
        let (exit, ..) = capture(|output| switch(PAUSE, None, &context, NOW, output));
        assert_eq!(exit, Exit::Usage);
        let args = parse(&["1"]).unwrap();
        assert_eq!(capture(|output| retry_on(&args, &context, NOW, output)).0, Exit::Usage);
        assert!(!context.database.exists());
    }
}
