//! `run --once`, for timers, and what the daemon has in common with it.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Args;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    Context, Exit, daemon,
    drive::{
        OwnWork, Remaining, RunStep, StopCondition, StopReason, WorkSnapshot, conclude, say_rechecks, usable,
        with_due_rechecks,
    },
    start::{self, SignalInbox, Usage},
    worker::{begin, usable_as_service},
};
use crate::{
    clock::Timestamp,
    closing::purge,
    config::{Config, parse_duration},
    dispatch::is_open,
    intake::watch::DropStatus,
    queue::{
        QueueError, Reader,
        lock::{Holder, Lock},
        refuse_network_file_system,
        views::progress::Left,
    },
    receipt::BatchStatus,
    service::{IMPORT, OnSettled, Service},
};

/// Watch the configured drops and deliver what comes, until SIGTERM or SIGINT.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  passfort-ingest run\n  passfort-ingest run --once    # for a timer: take what is \
                        there, work until it is settled, exit"
)]
pub struct RunArgs {
    /// Take what is in the drops now, work until every job has ended or is held, and exit.
    #[arg(long)]
    once: bool,

    /// With --once: exit with 4 after this long without a call that worked while nothing else was to be done, and with 3
    /// after this long without a usable database.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = parse_duration)]
    give_up_after: Duration,
}

/// How often `--once` checks whether everything is done. Only the end of the command waits for it.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// With so few jobs and batches left, `--once` also checks as soon as a batch is settled.
const FEW_LEFT: i64 = 32;

/// Runs the command.
///
/// # Errors
///
/// Where configuration, key or database cannot be used, or the queue fails for good.
pub fn run(args: &RunArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.load()?;
    usable_as_service(&config)?;
    let lock = lock(&config, "run")?;
    start::block_on(async {
        if args.once { once(args, &config, &lock).await } else { daemon::work(context, config, &lock).await }
    })
}

/// Takes the database's lock.
pub(super) fn lock(config: &Config, command: &str) -> anyhow::Result<Lock> {
    refuse_root(&config.queue.database)?;
    match try_lock(config, command)? {
        Ok(lock) => Ok(lock),
        Err(holder) => {
            let pid = holder.pid.map_or_else(String::new, |pid| format!(" (process {pid})"));
            Err(Usage(format!(
                "`{}`{pid} already works on {}: one process works on a database at a time; use `import` to add to its \
                 work, `status` to see it",
                holder.command,
                config.queue.database.display()
            ))
            .into())
        }
    }
}

/// Refuses root where the database belongs to another user, or would be made in that user's folder: the service of that
/// user could not use what root makes there. Nothing happens where the owner has no name, as in a container.
pub(super) fn refuse_root(database: &Path) -> Result<(), Usage> {
    let owner = |path: &Path| rustix::fs::stat(path).ok().map(|stat| stat.st_uid);
    let owners = [owner(database), database.parent().and_then(owner)];
    let Some(user) = other_owner(rustix::process::geteuid().as_raw(), owners)
        .and_then(|owner| nix::unistd::User::from_uid(owner.into()).ok().flatten())
    else {
        return Ok(());
    };
    let (shown, name) = (database.display(), user.name);
    Err(Usage(format!(
        "{shown} belongs to the user {name}, whose service could not use what root makes there: run this as that user, \
         with `sudo -u {name}`"
    )))
}

/// Whose the database is, where that is neither this user's nor for this user to say; the owner of its file decides, and
/// that of its folder where there is no file.
fn other_owner(us: u32, [file, folder]: [Option<u32>; 2]) -> Option<u32> {
    file.or(folder).filter(|owner| us == 0 && *owner != 0)
}

/// Takes the lock, or says who has it, where the configuration allows to work on the database's file system.
pub(super) fn try_lock(config: &Config, command: &str) -> Result<Result<Lock, Holder>, QueueError> {
    if !config.queue.network_file_system {
        refuse_network_file_system(&config.queue.database)?;
    }
    let taken = Lock::take(&config.queue.database, command)?;
    if let Ok(lock) = &taken {
        lock.refuse_new_name()?;
    }
    Ok(taken)
}

async fn once(args: &RunArgs, config: &Config, lock: &Lock) -> anyhow::Result<Exit> {
    // A process that reads that it is at work may stop it in the same instant.
    let mut signals = SignalInbox::open();
    let unwell = Arc::new(AtomicBool::new(false));
    let settled = Arc::new(Notify::new());
    let (flag, news) = (Arc::clone(&unwell), Arc::clone(&settled));
    let on_settled: OnSettled = Arc::new(move |settled| {
        if settled.status != BatchStatus::Done {
            flag.store(true, Ordering::Relaxed);
        }
        news.notify_one();
    });
    let service = begin(config, on_settled, CancellationToken::new()).await?;
    let ours = service.queue.clone();
    tracing::info!(drops = config.drops.len(), database = %config.queue.database.display(), "at work");
    let mut signalled = false;
    let mut failure = None;
    let mut exit = tokio::select! {
        _ = signals.next() => {
            signalled = true;
            tracing::info!("stopping: calls under way are finished, nothing new is begun");
            Exit::WorkLeft
        }
        ended = until_done(args, config, &service, lock, &settled) => ended.unwrap_or_else(|error| {
            failure = Some(error);
            Exit::WorkLeft
        }),
    };
    if !signalled && let Err(why) = service.send_last_alerts(config).await {
        tracing::error!(why, "no alerts are sent");
    }
    match signals.unless_again(service.finish()).await {
        None => return Ok(Exit::WorkLeft),
        Some(Ok(_)) => {}
        // It was asked to stop, and does; the next start continues.
        Some(Err(error)) if signalled => tracing::error!(%error, "stopped with work left"),
        Some(Err(error)) => failure = Some(error.into()),
    }
    if let Some(error) = failure {
        return Err(start::Interrupted::by(error).into());
    }
    let names: Vec<&str> = config.drops.iter().map(|drop| drop.name.as_str()).chain([IMPORT]).collect();
    if let Err(error) = Reader::open(&config.queue.database).and_then(|reader| say_rechecks(&reader, &names, config)) {
        tracing::warn!(%error, "the queue cannot be read for what is to be looked at once more");
    }
    let drops = config.drops.clone();
    let pass = move || purge::pass(&ours, &drops, Timestamp::now(), &|| false);
    if let Err(error) = tokio::task::spawn_blocking(pass).await? {
        tracing::warn!(reason = %error, "the done folders cannot be purged");
    }
    if unwell.load(Ordering::Relaxed) {
        exit = exit.max(Exit::Refused);
    }
    Ok(exit)
}

/// Returns when there is nothing more to do.
async fn until_done(
    args: &RunArgs,
    config: &Config,
    service: &Service,
    lock: &Lock,
    settled: &Notify,
) -> anyhow::Result<Exit> {
    let reader = Reader::open(&config.queue.database)?;
    let drops: Vec<&str> = config.drops.iter().map(|drop| drop.name.as_str()).chain([IMPORT]).collect();
    let mut ending = StopCondition::new(args.give_up_after, Instant::now());
    let mut few_left = false;
    loop {
        tokio::select! {
            () = tokio::time::sleep(POLL_INTERVAL) => {}
            () = settled.notified(), if few_left => {}
            // A stage that cannot continue stops the others.
            () = service.stop.cancelled() => return Ok(Exit::WorkLeft),
        }
        lock.note("run", service.queue.trouble());
        if service.has_failed() {
            return Ok(Exit::WorkLeft);
        }
        // In this order: what a drop admitted before the first is counted by the second.
        let looked = service.looked();
        let left = reader.left(&drops);
        let left = left.and_then(|left| with_due_rechecks(left, &reader, &drops, config, Timestamp::now()));
        let left = usable(left, service.queue.trouble())?;
        few_left = left.as_ref().is_ok_and(|left| left.to_do + left.to_settle <= FEW_LEFT);
        let observed = left.as_ref().ok().map(|left| WorkSnapshot {
            own: Some(OwnWork {
                left: *left,
                window_open: is_open(&config.limits.windows, Timestamp::now()),
                without_success_for: service.without_success_for(),
            }),
            ..observe(left, &looked)
        });
        match (ending.next(observed.as_ref(), Instant::now()), left) {
            (RunStep::Wait, _) => {}
            (RunStep::End(StopReason::Complete), Ok(left)) => return say_what_is_kept(&reader, &left, &looked),
            (RunStep::End(end), left) => return conclude(end, left.err(), &reader, &drops),
        }
    }
}

/// Combines the queue's state with the last scan of each drop, `None` before the first.
fn observe(left: &Left, looked: &[Option<DropStatus>]) -> WorkSnapshot {
    let settling = looked.iter().any(|looked| looked.is_none_or(|looked| looked.settling > 0));
    // A manifest that replaced another one is admitted after it without help, unless that one is stuck.
    let stuck = left.held > 0 || left.troubled > 0 || left.paused;
    let behind = looked.iter().flatten().any(|looked| looked.behind > 0) && !stuck;
    let nothing = left.to_do == 0 && left.to_settle == 0;
    let remaining = if nothing { Remaining::Nothing } else { Remaining::Work };
    WorkSnapshot { remaining, arriving: settling || behind, own: None }
}

/// Names what stays for the next run.
fn say_what_is_kept(reader: &Reader, left: &Left, looked: &[Option<DropStatus>]) -> anyhow::Result<Exit> {
    for arrival in reader.arrivals(20)? {
        let (drop, manifest, number) = (arrival.drop, arrival.manifest, arrival.arrival);
        tracing::warn!(
            drop,
            arrival = number,
            manifest,
            reason = arrival.reason,
            "stays where it is, for the next time"
        );
    }
    if left.held > 0 {
        tracing::warn!(jobs = left.held, "held until a person decides: see `jobs --state held` and `release`");
    }
    let waiting = looked.iter().flatten().any(|looked| looked.waiting > 0 || looked.behind > 0);
    let kept = waiting || left.held > 0 || left.half_taken > 0;
    Ok(if kept { Exit::WorkLeft } else { Exit::Well })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drop_that_is_not_scanned_yet_or_still_settles_is_waited_for() {
        let left = Left::default();
        let settling = DropStatus { settling: 1, ..DropStatus::default() };
        let waiting = DropStatus { waiting: 1, ..DropStatus::default() };
        for (looked, arriving) in
            [(Some(DropStatus::default()), false), (None, true), (Some(settling), true), (Some(waiting), false)]
        {
            let observed = observe(&left, &[Some(DropStatus::default()), looked]);
            assert_eq!((observed.remaining, observed.arriving), (Remaining::Nothing, arriving), "{looked:?}");
        }
    }

    #[test]
    fn only_root_is_refused_a_database_of_another_user_or_in_anothers_folder() {
        for (us, file, folder, other) in [
            (0, None, Some(998), Some(998)),
            (0, Some(998), Some(998), Some(998)),
            (0, Some(998), Some(0), Some(998)),
            // Root has worked on it all along.
            (0, Some(0), Some(998), None),
            (0, None, Some(0), None),
            // The start makes the folder.
            (0, None, None, None),
            (998, Some(0), Some(0), None),
        ] {
            assert_eq!(other_owner(us, [file, folder]), other, "{us} {file:?} {folder:?}");
        }
    }

    #[test]
    fn what_took_anothers_place_is_waited_for_unless_that_is_stuck() {
        let behind = [Some(DropStatus { behind: 1, ..DropStatus::default() })];
        for (left, arriving) in [
            (Left { to_do: 1, ..Left::default() }, true),
            (Left { held: 1, ..Left::default() }, false),
            (Left { to_settle: 1, troubled: 1, ..Left::default() }, false),
            (Left { to_do: 1, paused: true, ..Left::default() }, false),
        ] {
            assert_eq!(observe(&left, &behind).arriving, arriving, "{left:?}");
        }
    }
}
