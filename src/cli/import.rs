//! `import`: queue manifests of an archive and work until they are settled, or follow a daemon that does.

use std::{
    cell::Cell,
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    Context, Exit, run,
    start::{self, Usage},
};
use crate::{
    clock::Timestamp,
    config::{AfterSuccess, Config, DropConfig, OnInvalid, parse_duration},
    dispatch::is_open,
    inbox::{
        beneath::Root,
        kept,
        scan::{Rules as ScanRules, globs, scan},
    },
    intake::{
        admit::{AdmitError, Policy, admit},
        examine::{self, Rules, folder_of},
    },
    queue::{Queue, Reader, WhenStuck, admit::Plan, doorbell, lock::Lock},
    receipt::Counts,
    service::{IMPORT, OnSettled, Service},
};

/// Queue the manifests at these paths and work until they are settled.
///
/// Run again after any interruption, it goes on where it stopped: nothing that was created is created twice. If a daemon
/// already works on the database, its worker does the work and this command follows.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  passfort-ingest import batch.manifest.csv --root /archive/scans\n  \
                        passfort-ingest import /archive/manifests --receipts-to /var/tmp/receipts")]
pub struct ImportArgs {
    /// Manifests, or folders that are searched for *.manifest.json, *.manifest.jsonl and *.manifest.csv.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// The folder that paths in the manifests start from; else each manifest's own folder.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,

    /// The name under which identities are kept: one reference is created once within it.
    #[arg(long, value_name = "NAME", default_value = IMPORT)]
    drop: String,

    /// Where receipts are written; else in a folder `receipts` beside each manifest, or in the folder that is imported.
    #[arg(long, value_name = "DIR")]
    receipts_to: Option<PathBuf>,

    /// Move settled manifests and their files to DIR/done and DIR/failed; else nothing is moved.
    #[arg(long, value_name = "DIR")]
    archive_to: Option<PathBuf>,

    /// Exit with 4 after so long in which no call worked and nothing else was to be done.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = parse_duration)]
    give_up_after: Duration,
}

/// A manifest that is to be imported: the folder that it is known by, and its path in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) root: PathBuf,
    pub(super) manifest: String,
}

/// What the taking in has come to.
#[derive(Default)]
struct Intake {
    batches: Mutex<Vec<i64>>,
    trouble: AtomicU64,
    finished: AtomicBool,
    /// The taking in is over, or a batch of this process is settled.
    news: Notify,
}

impl Intake {
    fn batches(&self) -> Vec<i64> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Between two looks at how far the work is.
const LOOK: Duration = Duration::from_millis(50);

/// With so few manifests open, their settling is looked at as soon as it happens.
const FEW: usize = 8;

/// While a manifest is taken in, workers are told so often that there may be more of it.
const TELL_EVERY: Duration = Duration::from_millis(20);

/// Between two lines of progress where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Runs the command.
///
/// # Errors
///
/// Where a path, the configuration, the key or the database cannot be used, or the queue fails for good.
pub fn run(args: &ImportArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.load()?;
    if args.drop.is_empty() || args.drop.chars().any(char::is_control) {
        return Err(Usage("--drop must be a name".into()).into());
    }
    let targets = targets(&args.paths, config.drop_named(&args.drop))?;
    if let Some(root) = &args.root {
        Root::open(root).map_err(|error| Usage(format!("--root {}: {error}", root.display())))?;
    }
    // A worker of another process does the work; should it end before, this one takes over.
    let lock = Lock::take(&config.queue.database, "import")?;
    start::block_on(work(args, &config, context, targets, lock.ok()))
}

/// Every manifest that the paths name; folders are searched within the bounds of the drop, without one those of any.
pub(super) fn targets(paths: &[PathBuf], drop: Option<&DropConfig>) -> anyhow::Result<Vec<Target>> {
    let default = DropConfig::new(IMPORT, "/");
    let bounds = drop.unwrap_or(&default);
    let mut targets = Vec::new();
    for path in paths {
        let place = |error: io::Error| Usage(format!("{}: {error}", path.display()));
        let real = path.canonicalize().map_err(place)?;
        if real.is_dir() {
            let before = targets.len();
            let rules = ScanRules {
                recursive: true,
                manifests: globs(DropConfig::DEFAULT_MANIFESTS)?,
                ignore: globs(DropConfig::DEFAULT_IGNORE)?,
                skip_dirs: vec![real.join("receipts")],
                max_depth: bounds.max_depth,
                max_path_bytes: bounds.max_path_bytes,
            };
            let root = Root::open(&real).map_err(place)?;
            let report = scan(&root, &rules, &mut |found| {
                targets.push(Target { root: real.clone(), manifest: found.path });
                std::ops::ControlFlow::Continue(())
            })
            .map_err(place)?;
            for problem in report.problems {
                let path = problem.path.unwrap_or_default();
                tracing::warn!(path, reason = problem.reason, cure = problem.cure, "passed over");
            }
            if targets.len() == before {
                let names = DropConfig::DEFAULT_MANIFESTS.join(", ");
                return Err(Usage(format!("{}: no manifest ({names}) in this folder", path.display())).into());
            }
        } else {
            let (folder, name) = examine::split(&real).map_err(place)?;
            targets.push(Target { root: folder.to_owned(), manifest: name.to_owned() });
        }
    }
    targets.sort_by(|one, other| (&one.root, &one.manifest).cmp(&(&other.root, &other.manifest)));
    targets.dedup();
    Ok(targets)
}

async fn work(
    args: &ImportArgs,
    config: &Config,
    context: &Context,
    targets: Vec<Target>,
    lock: Option<Lock>,
) -> anyhow::Result<Exit> {
    let stopped = start::signalled();
    let queue = Queue::open(&config.queue.database, WhenStuck::Wait)?;
    let stop = CancellationToken::new();
    let intake = Arc::new(Intake::default());
    let on_settled: OnSettled = {
        let intake = Arc::clone(&intake);
        Arc::new(move |_| intake.news.notify_one())
    };
    let mut worker = Worker { lock, service: None, on_settled };
    worker.start(args, config, &queue, &stop).await?;

    let taking_in = {
        let (intake, queue, token) = (Arc::clone(&intake), queue.clone(), stop.clone());
        let orders = Orders::new(args, config, &queue);
        let work = worker.service.as_ref().map(|service| Arc::clone(&service.signals));
        tokio::task::spawn_blocking(move || {
            let told = || match &work {
                Some(signals) => {
                    signals.work.notify_one();
                    signals.ended.notify_one();
                }
                None => doorbell::ring(queue.path()),
            };
            orders.take_in(&targets, &queue, &intake, &|| token.is_cancelled(), &told);
            intake.finished.store(true, Ordering::Release);
            intake.news.notify_one();
        })
    };
    let mut progress = Progress::new(context.progress);
    let mut failure = None;
    let exit = tokio::select! {
        () = stopped => {
            tracing::info!("stopping: calls under way are finished; run the same command again to go on");
            Exit::WorkLeft
        }
        ended = follow(args, config, &queue, &intake, &mut worker, &stop, &mut progress) => match ended {
            Ok(ended) => ended,
            Err(error) => {
                failure = Some(error);
                Exit::WorkLeft
            }
        },
    };
    stop.cancel();
    // Else a full disk would keep the taking in, and with it the end of this command, waiting.
    queue.give_up_when_stuck();
    if let Err(defect) = taking_in.await {
        tracing::error!(%defect, "the taking in died of a defect");
    }
    let following = worker.service.is_none();
    let finished = worker.finish().await;
    progress.end();
    if let Some(error) = failure.or(finished.err()) {
        // How the command was called is not what stopped it.
        return Err(if error.is::<Usage>() { error } else { start::Interrupted::by(error).into() });
    }
    sum_up(&queue, &intake, exit, following)
}

/// The worker's part, which this process plays only while it holds the lock.
struct Worker {
    lock: Option<Lock>,
    service: Option<Service>,
    on_settled: OnSettled,
}

impl Worker {
    async fn start(
        &mut self,
        args: &ImportArgs,
        config: &Config,
        queue: &Queue,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        if self.lock.is_none() {
            let holder = Lock::holder(&config.queue.database);
            let known = args.drop == IMPORT || config.drop_named(&args.drop).is_some();
            if !known && holder.as_ref().is_some_and(|holder| holder.command == "run") {
                return Err(Usage(format!(
                    "the daemon that works on this database knows no drop '{}', so nobody would do the work: leave --drop \
                     out, name a configured drop, or stop the daemon first",
                    args.drop
                ))
                .into());
            }
            let pid = holder.and_then(|holder| holder.pid);
            tracing::info!(?pid, "another process works on this database: it does the work, this one follows");
            return Ok(());
        }
        let on_settled = Arc::clone(&self.on_settled);
        let mut only = config.clone();
        // Only what was asked for is worked on; what drops left in the queue is the daemon's.
        only.drops.retain(|drop| drop.name == args.drop);
        self.service = Some(Service::start(&only, queue.clone(), Some(&args.drop), on_settled, stop.clone()).await?);
        Ok(())
    }

    async fn finish(self) -> anyhow::Result<()> {
        if let Some(service) = self.service {
            service.finish().await?;
        }
        Ok(())
    }
}

/// Waits until everything that was taken in is settled.
async fn follow(
    args: &ImportArgs,
    config: &Config,
    queue: &Queue,
    intake: &Intake,
    worker: &mut Worker,
    stop: &CancellationToken,
    progress: &mut Progress,
) -> anyhow::Result<Exit> {
    let reader = Reader::open(&config.queue.database)?;
    let mut idle_since = Instant::now();
    let mut troubled_since = None;
    let mut ours = Ours::default();
    let mut pause = LOOK;
    loop {
        // The end of a short import is seen at once; while much is open, a look at each news would cost too much.
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = intake.news.notified(), if ours.open.len() <= FEW => {}
        }
        let began = Instant::now();
        // In this order: what is taken in after the first question is waited for by the next round.
        let finished = intake.finished.load(Ordering::Acquire);
        ours.look(&reader, &intake.batches())?;
        progress.show(&ours, finished);
        // Calls and looks share a thread: of its time, looking at very many manifests may take a twentieth.
        pause = LOOK.max(began.elapsed() * 20);
        if finished && ours.open.is_empty() {
            return Ok(Exit::Well);
        }
        if finished && ours.under_way > 0 && ours.held(&reader)? >= ours.under_way {
            tracing::warn!("what is left is held until a person decides: see `jobs --state held` and `release`");
            return Ok(Exit::WorkLeft);
        }
        if let Some(lock) = &worker.lock {
            lock.note("import", queue.trouble());
        }
        match &worker.service {
            None => {
                if let Ok(lock) = Lock::take(&config.queue.database, "import")? {
                    tracing::info!("the other process has ended: this one goes on with the work");
                    worker.lock = Some(lock);
                    worker.start(args, config, queue, stop).await?;
                    idle_since = Instant::now();
                }
                continue;
            }
            Some(service) if service.has_failed() => return Ok(Exit::WorkLeft),
            Some(service) => {
                let left = reader.left(&[args.drop.as_str()])?;
                if left.paused && left.under_way == 0 && finished {
                    tracing::warn!("sending is paused by a person: run again after `resume`");
                    return Ok(Exit::WorkLeft);
                }
                let may_come = left.under_way > 0
                    || left.waits_for_quota > 0
                    || !is_open(&config.limits.windows, Timestamp::now());
                // Only what is still to be sent can be kept from it by the API.
                if !finished || may_come || left.to_do == 0 {
                    idle_since = Instant::now();
                }
                let stuck = finished && left.to_do == 0 && left.to_settle > 0 && left.troubled == left.to_settle;
                let since = troubled_since.get_or_insert_with(Instant::now);
                if !stuck {
                    troubled_since = None;
                } else if since.elapsed() >= run::SETTLE {
                    tracing::error!("receipts or files cannot be written: see `status`; run again when they can");
                    return Ok(Exit::WorkLeft);
                }
                if idle_since.elapsed().min(service.without_success_for()) >= args.give_up_after {
                    return run::given_up(&reader, &[args.drop.as_str()]);
                }
            }
        }
    }
}

/// How far the batches of this command are.
#[derive(Debug, Default)]
struct Ours {
    /// How many have been looked at at all.
    known: usize,
    open: Vec<i64>,
    /// Entries of closed batches.
    closed_entries: u64,
    entries: u64,
    under_way: u64,
}

impl Ours {
    fn look(&mut self, reader: &Reader, batches: &[i64]) -> anyhow::Result<()> {
        self.open.extend(batches.iter().skip(self.known));
        self.known = batches.len();
        (self.entries, self.under_way) = (self.closed_entries, 0);
        let mut open = Vec::new();
        for id in self.open.drain(..) {
            let progress = reader.batch_progress(id)?;
            self.entries += progress.admitted;
            if progress.closed {
                self.closed_entries += progress.admitted;
            } else {
                self.under_way += progress.under_way;
                open.push(id);
            }
        }
        self.open = open;
        Ok(())
    }

    /// How many of the entries under way only a person can bring on.
    fn held(&self, reader: &Reader) -> anyhow::Result<u64> {
        let held = reader.held_by_batch()?;
        Ok(held.iter().filter(|(batch, _)| self.open.contains(batch)).map(|(_, count)| count).sum())
    }
}

/// How manifests are taken in.
struct Orders {
    rules: Rules,
    drop: String,
    image_root: Option<PathBuf>,
    receipts_to: Option<PathBuf>,
    archive_to: Option<PathBuf>,
    receipt_mode: u32,
    receipt_group: Option<String>,
    on_invalid: OnInvalid,
}

impl Orders {
    fn new(args: &ImportArgs, config: &Config, queue: &Queue) -> Self {
        let drop = config.drop_named(&args.drop);
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        Self {
            rules: Rules::of(drop, config.api.max_image_bytes, queue.seed()),
            drop: args.drop.clone(),
            image_root: args.root.as_ref().map(absolute),
            receipts_to: args.receipts_to.as_ref().map(absolute),
            archive_to: args.archive_to.as_ref().map(absolute),
            receipt_mode: drop.map_or(0o640, |drop| drop.receipt_mode),
            receipt_group: drop.and_then(|drop| drop.receipt_group.clone()),
            on_invalid: drop.map_or(OnInvalid::Skip, |drop| drop.on_invalid),
        }
    }

    /// Takes in one manifest after the other.
    fn take_in(&self, targets: &[Target], queue: &Queue, intake: &Intake, stopped: &dyn Fn() -> bool, told: &dyn Fn()) {
        for target in targets {
            if stopped() {
                return;
            }
            match self.take_in_one(target, queue, stopped, told) {
                Ok(Some(batch)) => intake.batches.lock().unwrap_or_else(PoisonError::into_inner).push(batch),
                Ok(None) => {}
                Err(error) => {
                    let path = target.root.join(&target.manifest);
                    tracing::error!(manifest = %path.display(), error = format!("{error:#}"), "cannot be taken in");
                    intake.trouble.fetch_add(1, Ordering::Relaxed);
                }
            }
            told();
        }
    }

    fn take_in_one(
        &self,
        target: &Target,
        queue: &Queue,
        stopped: &dyn Fn() -> bool,
        told: &dyn Fn(),
    ) -> anyhow::Result<Option<i64>> {
        let root = Root::open(&target.root)?;
        let mut opened = examine::open(&root, &target.manifest, self.rules.limits.max_bytes)?;
        let folder = folder_of(&target.manifest);
        let (image_root, image_folder) = match &self.image_root {
            Some(own) => (own.clone(), String::new()),
            None => (target.root.clone(), folder.to_owned()),
        };
        // The same manifest that an earlier call left unsettled is gone on with, not taken in again.
        // One that is like it in another folder is another one, since the images lie beside it.
        if let Some(known) = queue.known_manifest(&self.drop, &target.root, &target.manifest)?
            && !known.closed
            && !known.admitting
            && known.sha256 == opened.sha256.0
            && root.present(opened.identity).is_kept_as(&known.file)
        {
            tracing::info!(manifest = target.manifest, batch = known.batch_id, "goes on where it stopped");
            return Ok(Some(known.batch_id));
        }
        let receipts_dir = self.receipts_to.clone().unwrap_or_else(|| target.root.join("receipts"));
        let plan = Plan {
            drop: self.drop.clone(),
            manifest: target.manifest.clone(),
            manifest_sha256: opened.sha256,
            manifest_file: kept::write(&opened.identity),
            root: target.root.clone(),
            image_root: image_root.clone(),
            image_folder,
            receipts_dir,
            receipt_mode: self.receipt_mode,
            receipt_group: self.receipt_group.clone(),
            done_dir: self.archive_to.as_ref().map(|folder| folder.join("done")),
            failed_dir: self.archive_to.as_ref().map(|folder| folder.join("failed")),
            marker: None,
            after_success: if self.archive_to.is_some() { AfterSuccess::Archive } else { AfterSuccess::Keep },
        };
        let images = Root::open(&image_root)?;
        let policy = Policy { on_invalid: self.on_invalid, wait_for_files: false };
        let last_told = Cell::new(Instant::now());
        let nudge = || {
            // Workers begin with the first part of a large manifest while the rest is still read.
            if last_told.get().elapsed() >= TELL_EVERY {
                last_told.set(Instant::now());
                told();
            }
            stopped()
        };
        match admit(queue, &plan, &mut opened, &images, &self.rules, policy, &nudge) {
            Ok(admitted) => {
                tracing::info!(
                    manifest = target.manifest,
                    batch = admitted.batch_id,
                    entries = admitted.entries,
                    invalid = admitted.invalid,
                    "taken in"
                );
                Ok(Some(admitted.batch_id))
            }
            Err(AdmitError::Stopped) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Progress for people: a bar on a terminal, else a line now and then.
struct Progress {
    bar: Option<ProgressBar>,
    last_line: Instant,
    started: Instant,
}

impl Progress {
    fn new(terminal: bool) -> Self {
        let bar = terminal.then(|| {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(0).with_style(style)
        });
        Self { bar, last_line: Instant::now(), started: Instant::now() }
    }

    fn show(&mut self, ours: &Ours, finished: bool) {
        let ended = ours.entries.saturating_sub(ours.under_way);
        let rate = self.rate(ended, ours.entries, finished);
        if let Some(bar) = &self.bar {
            bar.set_length(ours.entries);
            bar.set_position(ended);
            bar.set_message(format!("entries{}{rate}", if finished { "" } else { ", still reading" }));
        } else if self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            tracing::info!(ended, entries = ours.entries, reading = !finished, "under way{rate}");
        }
    }

    fn rate(&self, ended: u64, entries: u64, finished: bool) -> String {
        let seconds = self.started.elapsed().as_secs();
        if ended == 0 || seconds < 5 {
            return String::new();
        }
        let left = entries.saturating_sub(ended).saturating_mul(seconds) / ended;
        let rate = ended * 60 / seconds;
        let more = if finished { "" } else { " at least" };
        format!(", {rate} a minute, {} left{more}", crate::config::duration_text(Duration::from_secs(left)))
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Says what came of it, on standard error, and with which code to end.
fn sum_up(queue: &Queue, intake: &Intake, exit: Exit, following: bool) -> anyhow::Result<Exit> {
    let reader = Reader::open(queue.path())?;
    let (mut counts, mut receipts, mut rejected, mut left) = (Counts::default(), Vec::new(), 0_u64, 0);
    for id in intake.batches() {
        let end = reader.batch_end(id)?;
        counts.sum(&end.counts);
        receipts.extend(end.receipt);
        rejected += u64::from(end.rejected);
        left += reader.batch_progress(id)?.under_way;
    }
    // Jobs that have not ended are counted as failed until they have.
    counts.failed = counts.failed.saturating_sub(left);
    tracing::info!(
        entries = counts.entries,
        created = counts.created,
        duplicate = counts.duplicate,
        failed = counts.failed,
        invalid = counts.invalid,
        cancelled = counts.cancelled,
        unusable_manifests = rejected,
        left,
        receipts = folders(&receipts),
        followed = following,
        "import ended"
    );
    let trouble = intake.trouble.load(Ordering::Relaxed);
    let bad = counts.failed + counts.invalid + counts.cancelled + rejected + trouble > 0;
    Ok(if bad { exit.max(Exit::Refused) } else { exit })
}

/// The folders that receipts were written to.
fn folders(receipts: &[PathBuf]) -> String {
    let mut folders: BTreeMap<&Path, usize> = BTreeMap::new();
    for receipt in receipts {
        *folders.entry(receipt.parent().unwrap_or(receipt)).or_default() += 1;
    }
    folders.iter().map(|(folder, count)| format!("{count} in {}", folder.display())).collect::<Vec<_>>().join(", ")
}
