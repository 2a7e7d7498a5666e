//! `run`: the daemon, and `run --once` for timers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::{
    Context, Exit, act,
    start::{self, Usage},
};
use crate::{
    clock::Timestamp,
    closing::purge,
    config::{Config, DropConfig, parse_duration},
    dispatch::is_open,
    durable, http,
    queue::{Queue, Reader, WhenStuck, control::Cause, lock::Lock},
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
    /// Take what lies in the drops now, work until every job has ended or is held, and exit.
    #[arg(long)]
    once: bool,

    /// With --once: exit with 4 after so long in which no call worked and nothing else was to be done, and with 3 after so
    /// long in which the database could not be used.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = parse_duration)]
    give_up_after: Duration,
}

/// Between two looks at whether everything is done. Nothing waits for it but the end of the command.
const LOOK: Duration = Duration::from_millis(100);

/// For so long a receipt or a move that fails is tried again before `--once` leaves it for the next time.
pub(super) const SETTLE: Duration = Duration::from_secs(15);

/// Runs the command.
///
/// # Errors
///
/// Where configuration, key or database cannot be used, or the queue fails for good.
pub fn run(args: &RunArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.load()?;
    if config.drops.is_empty() {
        return Err(
            Usage("no [[drop]] is configured, so there is nothing to watch: add one, or use `import`".into()).into()
        );
    }
    let lock = lock(&config, "run")?;
    start::block_on(work(args, &config, &lock))
}

/// Takes the database's lock.
pub(super) fn lock(config: &Config, command: &str) -> anyhow::Result<Lock> {
    match Lock::take(&config.queue.database, command)? {
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

async fn work(args: &RunArgs, config: &Config, lock: &Lock) -> anyhow::Result<Exit> {
    // Whoever reads that it is at work may stop it in the same instant.
    let stopped = start::signalled();
    let page = match config.http.as_ref().filter(|_| !args.once) {
        Some(http) => Some(http::Bound::bind(http).await.map_err(Usage)?),
        None => None,
    };
    config.drops.iter().try_for_each(receipts_can_be_given)?;
    let queue = Queue::open(&config.queue.database, WhenStuck::Wait)?;
    config.drops.iter().for_each(|drop| queue.awaited().expect(&drop.name));
    let ours = queue.clone();
    let stop = CancellationToken::new();
    let unwell = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&unwell);
    let on_settled: OnSettled = Arc::new(move |settled| {
        if settled.status != BatchStatus::Done {
            told.store(true, Ordering::Relaxed);
        }
    });
    // What an import left or handed over is worked on as well.
    let mut service = Service::start(config, queue, Some(IMPORT), on_settled, stop.clone()).await?;
    service.watch(config)?;
    if !args.once {
        service.purge(config);
    }
    let page = page.map(|page| page.serve(service.vitals()));
    tracing::info!(drops = config.drops.len(), database = %config.queue.database.display(), "at work");
    notify_systemd(sd_notify::NotifyState::Ready);
    let mut exit = Exit::Well;
    let mut signalled = false;
    let mut failure = None;
    tokio::select! {
        () = stopped => {
            signalled = true;
            tracing::info!("stopping: calls under way are finished, nothing new is begun");
            if args.once {
                exit = Exit::WorkLeft;
            }
        }
        ended = until_done(args, config, &service, lock) => match ended {
            Ok(ended) => exit = ended,
            Err(error) => failure = Some(error),
        },
    }
    notify_systemd(sd_notify::NotifyState::Stopping);
    if let Some(page) = &page {
        page.stopping();
    }
    match service.finish().await {
        Ok(()) => {}
        // It was told to stop, and does; the next start goes on.
        Err(error) if signalled => tracing::error!(%error, "stopped with work left"),
        Err(error) => failure = Some(error.into()),
    }
    if let Some(error) = failure {
        return Err(start::Interrupted::by(error).into());
    }
    if args.once {
        let drops = config.drops.clone();
        let pass = move || purge::pass(&ours, &drops, Timestamp::now(), &|| false);
        if let Err(error) = tokio::task::spawn_blocking(pass).await? {
            tracing::warn!(%error, "the done folders cannot be purged");
        }
    }
    if args.once && unwell.load(Ordering::Relaxed) {
        exit = exit.max(Exit::Refused);
    }
    Ok(exit)
}

/// Refuses to begin where the receipts of a drop could not be given to the group that is to read them.
fn receipts_can_be_given(drop: &DropConfig) -> anyhow::Result<()> {
    let Some(name) = &drop.receipt_group else { return Ok(()) };
    let group = durable::group_of(name).map_err(|error| Usage(format!("drop {:?}: {error}", drop.name)))?;
    if durable::may_give_to(group) {
        return Ok(());
    }
    let why = format!("receipts cannot be given to the group {name:?}: let the service's user be a member of it");
    Err(Usage(format!("drop {:?}: {why}", drop.name)).into())
}

fn notify_systemd(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "systemd was not told");
    }
}

/// Returns when there is nothing more to do; a daemon's only end is a stage that cannot go on.
async fn until_done(args: &RunArgs, config: &Config, service: &Service, lock: &Lock) -> anyhow::Result<Exit> {
    let reader = Reader::open(&config.queue.database)?;
    let drops: Vec<&str> = config.drops.iter().map(|drop| drop.name.as_str()).chain([IMPORT]).collect();
    let mut idle_since = Instant::now();
    let mut troubled_since = None;
    let mut stuck_since = None;
    loop {
        tokio::select! {
            () = tokio::time::sleep(if args.once { LOOK } else { Duration::from_secs(5) }) => {}
            // A stage that cannot go on stops the others.
            () = service.stop.cancelled() => return Ok(Exit::WorkLeft),
        }
        let trouble = service.queue.trouble();
        lock.note("run", trouble.clone());
        if service.has_failed() {
            return Ok(Exit::WorkLeft);
        }
        if !args.once {
            continue;
        }
        let looked = service.looked();
        let (trouble, left) = match (trouble, reader.left(&drops)) {
            (None, Ok(left)) => (None, Some(left)),
            (Some(trouble), _) => (Some(trouble), None),
            (None, Err(error)) if error.is_disk_trouble() => (Some(error.to_string()), None),
            (None, Err(error)) => return Err(error.into()),
        };
        let Some(left) = left else {
            if stuck_since.get_or_insert_with(Instant::now).elapsed() >= args.give_up_after {
                let why = trouble.unwrap_or_default();
                tracing::error!(why, "the database cannot be used for too long: run again when it can");
                return Ok(Exit::WorkLeft);
            }
            continue;
        };
        stuck_since = None;
        let behind = looked.iter().flatten().any(|looked| looked.behind > 0);
        // The turn of what took another's place comes by itself, unless that other one is stuck.
        let stuck = left.held > 0 || left.troubled > 0;
        let settling =
            looked.iter().any(|looked| looked.is_none_or(|looked| looked.settling > 0)) || (behind && !stuck);
        let waiting = behind || looked.iter().flatten().any(|looked| looked.waiting > 0);
        if !settling && left.to_do == 0 && left.to_settle == 0 {
            let kept = waiting || left.held > 0 || left.half_taken > 0;
            for arrival in reader.arrivals(20)? {
                let (drop, manifest) = (arrival.drop, arrival.manifest);
                tracing::warn!(drop, manifest, reason = arrival.reason, "stays where it is, for the next time");
            }
            if left.held > 0 {
                tracing::warn!(jobs = left.held, "held until a person decides: see `jobs --state held` and `release`");
            }
            return Ok(if kept { Exit::WorkLeft } else { Exit::Well });
        }
        if !settling && left.to_do == 0 && left.troubled == left.to_settle {
            let since = troubled_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= SETTLE {
                tracing::error!("receipts or files cannot be written: see `status`; run again when they can");
                return Ok(Exit::WorkLeft);
            }
        } else {
            troubled_since = None;
        }
        if left.paused {
            tracing::warn!("sending is paused by a person: the rest is left for after `resume`");
            return Ok(Exit::WorkLeft);
        }
        // Only what is still to be sent can be kept from it by the API.
        if settling
            || left.to_do == 0
            || left.under_way > 0
            || left.waits_for_quota > 0
            || !is_open(&config.limits.windows, Timestamp::now())
        {
            idle_since = Instant::now();
        }
        if idle_since.elapsed().min(service.without_success_for()) >= args.give_up_after {
            return given_up(&reader, &drops);
        }
    }
}

/// Says why nothing has been done for these drops for so long, and what that makes of a command that ends by itself.
pub(super) fn given_up(reader: &Reader, drops: &[&str]) -> anyhow::Result<Exit> {
    let pauses = reader.pauses()?;
    let of_accounts = || pauses.iter().filter(|pause| pause.cause != Cause::Operator);
    for pause in of_accounts() {
        tracing::error!("{}", act::describe(pause));
    }
    if of_accounts().any(|pause| pause.cause == Cause::QuotaSpent)
        && of_accounts().all(|pause| pause.cause == Cause::QuotaSpent)
    {
        tracing::error!(
            "a limit of the account is spent, and nothing else is to be done: run again when it is renewed"
        );
        return Ok(Exit::WorkLeft);
    }
    if of_accounts().next().is_none() && reader.only_files_are_awaited(drops)? {
        tracing::error!(
            "only files that are away, or still change, are waited for: see `jobs --state waiting`, and run again"
        );
        return Ok(Exit::WorkLeft);
    }
    tracing::error!("the API refuses the key, or cannot be reached, and nothing else is to be done");
    Ok(Exit::Unreachable)
}
