//! `import`: queue manifests of an archive and work until they are settled, or follow a daemon that does.

mod admission;
mod pace;
mod progress;
mod stages;
mod summary;
mod targets;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use clap::Args;
use tokio_util::sync::CancellationToken;

pub(super) use self::targets::{Target, search_rules, targets};
use self::{
    admission::{Importer, Intake},
    progress::{OwnBatches, ProgressDisplay},
    stages::{StageEnd, StageRun, StageStep, Stages, StopRule},
    summary::ImportSummary,
};
use super::{
    Context, Exit,
    check::refused_warnings,
    drive::{OwnWork, RunStep, StopCondition, WorkSnapshot, conclude, say_rechecks, usable},
    layout::InputPaths,
    output::on_streams,
    run::{refuse_root, try_lock},
    start::{self, SignalInbox, Usage},
};
use crate::{
    clock::Timestamp,
    config::{Config, parse_duration},
    dispatch::is_open,
    inbox::beneath::Root,
    layout::{ArchiveLayout, ArchiveTarget},
    queue::{
        Queue, QueueError, Reader, WhenStuck,
        lock::{Lock, OpenImport},
        wake,
    },
    service::{IMPORT, OnSettled, Service, ServiceError, account_of},
    warning::RefusedWarnings,
};

/// Queue the manifests at these paths and work until they are settled.
///
/// Run again after any interruption, it continues where it stopped: nothing that was created is created twice. If a daemon
/// already works on the database, its worker does the work and this command follows.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  passfort-ingest import batch.manifest.csv --root /archive/scans\n  \
                        passfort-ingest import /archive/manifests --receipts-to /var/tmp/receipts")]
pub struct ImportArgs {
    #[command(flatten)]
    pub(super) input: InputPaths,

    /// With --layout: take the list although its references were made by another template before. What was created by
    /// that is created a second time.
    #[arg(long, requires = "layout")]
    pub(super) new_references: bool,

    /// The name under which identities are kept: one reference is created once within it.
    #[arg(long, value_name = "NAME", default_value = IMPORT)]
    pub(super) drop: String,

    /// Where receipts are written; else in a folder `receipts` beside each manifest, or in the folder that is imported.
    #[arg(long, value_name = "DIR")]
    pub(super) receipts_to: Option<PathBuf>,

    /// Move settled manifests and their files to DIR/done and DIR/failed; else nothing is moved.
    #[arg(long, value_name = "DIR")]
    pub(super) archive_to: Option<PathBuf>,

    /// Send so many entries first, or such a share of all, taken across types, folders and profiles; then look what came
    /// of them, as `verify` does, before the next stage begins. Each is counted from the first entry, e.g. 20,1%,100%.
    #[arg(long, value_name = "ENTRIES|SHARE%", value_delimiter = ',')]
    pub(super) stages: Vec<StageEnd>,

    /// End after a stage by which more than this was refused, held or missing; the rest is not touched. What is not named
    /// keeps its own bound: refused>2%,held>0,missing>0.
    #[arg(long, value_name = "WHAT>BOUND", value_delimiter = ',', requires = "stages")]
    pub(super) stop_if: Vec<StopRule>,

    /// Print the summary at the end as one JSON object, with names, references and the API's words.
    #[arg(long)]
    pub(super) json: bool,

    /// Kinds of warnings that are errors, e.g. shared-image,unknown-type; `all` for every kind.
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = refused_warnings)]
    pub(super) refuse_warnings: Vec<RefusedWarnings>,

    /// Exit with 4 after this long without a call that worked while nothing else was to be done, and with 3
    /// after this long without a usable database.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = parse_duration)]
    pub(super) give_up_after: Duration,
}

impl ImportArgs {
    /// The folders that this import puts receipts and files into.
    fn put_aside(&self) -> Vec<PathBuf> {
        let archive = self.archive_to.iter().flat_map(|folder| [folder.join("done"), folder.join("failed")]);
        archive.chain(self.receipts_to.clone()).filter_map(|folder| std::path::absolute(folder).ok()).collect()
    }
}

/// The shortest interval between two reads of the progress.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// With this few manifests open, the progress is also read as soon as one is settled.
const FEW_OPEN: usize = 8;

/// Runs the command.
///
/// # Errors
///
/// Where a path, the configuration, the key or the database cannot be used, or the queue fails for good.
pub fn run(args: &ImportArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.load()?;
    if Lock::holder(&config.queue.database).is_none() {
        refuse_root(&config.queue.database)?;
    }
    let targets = chosen(args, &config)?;
    // A worker of another process does the work; should it end before, this one takes over.
    let lock = try_lock(&config, "import")?;
    let worked = start::block_on(work(args, &config, context, targets, lock.ok()))?;
    // What was done is on disk, so a database that cannot be read now leaves work for the next start.
    sum_up(&config.queue.database, &worked, args.json).map_err(|error| start::Interrupted::by(error).into())
}

/// The manifests that the arguments name; or the archives, with the layout that they are read by.
///
/// # Errors
///
/// Where an argument cannot be used.
pub(super) fn chosen(args: &ImportArgs, config: &Config) -> anyhow::Result<(Vec<Target>, Option<ArchiveLayout>)> {
    if args.drop.is_empty() || args.drop.chars().any(char::is_control) {
        return Err(Usage("--drop must be a name".into()).into());
    }
    let layout = args.input.layout()?;
    let targets = match &layout {
        Some(layout) => archives(args, layout)?,
        None => targets(&args.input.paths, config, config.drop_named(&args.drop), &args.put_aside())?,
    };
    if let (Some(root), None) = (&args.input.root, &layout) {
        Root::open(root).map_err(|error| Usage(format!("--root {}: {error}", root.display())))?;
    }
    Ok((targets, layout))
}

/// The archives that the paths name, each tried by its first record.
fn archives(args: &ImportArgs, layout: &ArchiveLayout) -> anyhow::Result<Vec<Target>> {
    if args.archive_to.is_some() {
        let why = "--archive-to moves manifests, and an archive that is read by a layout has none: leave it out";
        return Err(Usage(why.into()).into());
    }
    let archive = |archive: anyhow::Result<(ArchiveTarget, Root)>| {
        let (target, _) = archive?;
        let name = target.root.file_name().map_or_else(|| "archive".into(), |name| name.to_string_lossy().into_owned());
        let manifest = layout.list_of(&target).unwrap_or(name);
        Ok(Target { root: target.root, manifest })
    };
    args.input.archives(layout).map(archive).collect()
}

/// What came of an import.
pub(super) struct ImportEnd {
    /// The batches, with their manifests.
    pub(super) batches: Vec<(i64, PathBuf)>,
    /// Manifests that could not be taken in.
    pub(super) trouble: u64,
    /// Entries of a manifest whose admission was cut short.
    unread: u64,
    /// Whether another process did the work.
    followed: bool,
    pub(super) exit: Exit,
}

/// Takes the manifests in, and works until they are settled, or waits for the process that does.
///
/// # Errors
///
/// Where the key or the database cannot be used, or the queue fails for good.
pub(super) async fn work(
    args: &ImportArgs,
    config: &Config,
    context: &Context,
    (targets, layout): (Vec<Target>, Option<ArchiveLayout>),
    lock: Option<Lock>,
) -> anyhow::Result<ImportEnd> {
    let mut signals = SignalInbox::open();
    let open = if lock.is_some() { Queue::open } else { Queue::open_beside };
    let queue = open(&config.queue.database, WhenStuck::Wait)?;
    let importer = Importer::new(args, config, queue.seed(), layout);
    importer.try_ground(&targets)?;
    let (ours, account, works) = (queue.clone(), account_of(config, &args.drop), lock.is_some());
    let marked = tokio::task::spawn_blocking(move || {
        importer.check_references(&targets, &ours)?;
        importer.mark_receipts(&targets, &ours, &account, works).map(|()| (importer, targets))
    });
    let (importer, targets) = marked.await??;
    // Before anything of it, or of an earlier call, can be settled.
    let reading = args.archive_to.is_some().then(|| OpenImport::begin(queue.path())).transpose()?;
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
        let work = worker.service.as_ref().map(|service| Arc::clone(&service.signals));
        tokio::task::spawn_blocking(move || {
            let notify = || match &work {
                Some(signals) => {
                    signals.work.notify_one();
                    signals.ended.notify_one();
                }
                None => wake::notify(queue.path()),
            };
            importer.import(&targets, &queue, &intake, &|| token.is_cancelled(), &notify);
            // Where it was stopped, the next call reads the rest, which may name files of what was read.
            let reading = reading.filter(|_| token.is_cancelled());
            notify();
            intake.finished.store(true, Ordering::Release);
            intake.news.notify_one();
            reading
        })
    };
    let mut progress = ProgressDisplay::new(context.progress);
    let mut failure = None;
    let exit = tokio::select! {
        _ = signals.next() => {
            tracing::info!("stopping: calls under way are finished; run the same command again to continue");
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
    // Else a full disk would block the admission, and with it the end of this command.
    queue.give_up_when_stuck();
    let following = worker.service.is_none();
    let ending = async {
        let taken_in = taking_in.await;
        if let Err(defect) = &taken_in {
            tracing::error!(%defect, "the taking in died of a defect");
        }
        let finished = worker.finish().await;
        drop(taken_in);
        finished
    };
    let finished = signals.unless_again(ending).await;
    progress.end();
    let Some(finished) = finished else { return Err(start::Interrupted::by(start::SecondSignal).into()) };
    if let Some(error) = failure.or(finished.err()) {
        // Any error but one of usage has interrupted the work.
        return Err(if error.is::<Usage>() { error } else { start::Interrupted::by(error).into() });
    }
    if let Err(error) =
        Reader::open(&config.queue.database).and_then(|reader| say_rechecks(&reader, &[args.drop.as_str()], config))
    {
        tracing::warn!(%error, "the queue cannot be read for what is to be looked at once more");
    }
    let trouble = intake.trouble.load(Ordering::Relaxed);
    let (batches, unread) = intake.all_taken_in();
    Ok(ImportEnd { batches, trouble, unread, followed: following, exit })
}

/// The worker, which this process runs only while it holds the lock.
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
            let pid = holder.and_then(|holder| holder.pid).unwrap_or_default();
            tracing::info!(pid, "another process works on this database: it does the work, this one follows");
            return Ok(());
        }
        let on_settled = Arc::clone(&self.on_settled);
        let mut only = config.clone();
        // Only what was asked for is worked on; what drops left in the queue is the daemon's.
        only.drops.retain(|drop| drop.name == args.drop);
        let started = Service::start(&only, queue.clone(), Some(&args.drop), on_settled, stop.clone()).await;
        self.service = Some(started.map_err(|error| match error {
            // Also where it takes over and work had begun.
            refused @ (ServiceError::Queue(QueueError::Lineage { .. }) | ServiceError::AdoptionUnfinished) => {
                Usage(refused.to_string()).into()
            }
            error => anyhow::Error::from(error),
        })?);
        Ok(())
    }

    /// There is something to send.
    fn notify(&self, queue: &Queue) {
        match &self.service {
            Some(service) => service.signals.work.notify_one(),
            None => wake::notify(queue.path()),
        }
    }

    /// Takes over the work where the process that did it has ended.
    async fn follow_lock(
        &mut self,
        args: &ImportArgs,
        config: &Config,
        queue: &Queue,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        if let Some(lock) = &self.lock {
            lock.note("import", queue.trouble());
        } else if refuse_root(&config.queue.database).is_ok()
            && let Ok(lock) = try_lock(config, "import")?
        {
            tracing::info!("the other process has ended: this one continues the work");
            self.lock = Some(lock);
            self.start(args, config, queue, stop).await?;
        }
        Ok(())
    }

    fn observe(
        &self,
        reader: &Reader,
        args: &ImportArgs,
        config: &Config,
        ours: &OwnBatches,
        finished: bool,
    ) -> Result<WorkSnapshot, QueueError> {
        let own = match &self.service {
            None => None,
            Some(service) => Some(OwnWork {
                left: reader.left(&[args.drop.as_str()])?,
                window_open: is_open(&config.limits.windows, Timestamp::now()),
                without_success_for: service.without_success_for(),
            }),
        };
        Ok(WorkSnapshot { remaining: ours.remaining(reader, finished)?, arriving: !finished, own })
    }

    async fn finish(self) -> anyhow::Result<()> {
        if let Some(service) = self.service {
            service.finish().await?;
        }
        Ok(())
    }
}

/// Waits until everything that was admitted is settled.
async fn follow(
    args: &ImportArgs,
    config: &Config,
    queue: &Queue,
    intake: &Intake,
    worker: &mut Worker,
    stop: &CancellationToken,
    progress: &mut ProgressDisplay,
) -> anyhow::Result<Exit> {
    let reader = Reader::open(&config.queue.database)?;
    let mut ending = StopCondition::new(args.give_up_after, Instant::now());
    let mut ours = OwnBatches::default();
    let mut pause = POLL_INTERVAL;
    let mut stages = Stages::new(&args.stages, &args.stop_if).map(StageRun::new);
    loop {
        // The end of a short import is seen at once; while much is open, a read after each change would cost too much.
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = intake.news.notified(), if ours.open.len() <= FEW_OPEN => {}
        }
        let began = Instant::now();
        // In this order: what is admitted after the first query is waited for by the next round.
        let finished = intake.finished.load(Ordering::Acquire);
        let arriving = intake.under_way();
        let looked = ours.look(&reader, &intake.batches(), arriving.as_ref());
        progress.show(&ours, finished, &reader, &args.drop);
        if finished && looked.is_ok() {
            let step = match &mut stages {
                Some(stages) => stages.step(args, config, queue, intake, &ours, stop).await?,
                None => stages::begin_all(queue, intake).await?,
            };
            match step {
                StageStep::Wait => {}
                StageStep::Begun => worker.notify(queue),
                StageStep::End(exit) => return Ok(exit),
            }
        }
        let observed = looked.and_then(|()| worker.observe(&reader, args, config, &ours, finished));
        // Calls and queries share a thread: reading very many manifests may take a twentieth of its time.
        pause = POLL_INTERVAL.max(began.elapsed() * 20);
        let observed = usable(observed, queue.trouble())?;
        if let RunStep::End(end) = ending.next(observed.as_ref().ok(), Instant::now()) {
            return conclude(end, observed.err(), &reader, &[args.drop.as_str()]);
        }
        worker.follow_lock(args, config, queue, stop).await?;
        if worker.service.as_ref().is_some_and(Service::has_failed) {
            return Ok(Exit::WorkLeft);
        }
    }
}

/// Reports the result: a line on standard error, and the summary on standard output. Returns the exit code.
fn sum_up(database: &Path, ended: &ImportEnd, json: bool) -> anyhow::Result<Exit> {
    let summary = ImportSummary::of(&Reader::open(database)?, ended)?;
    let ImportSummary { counts, left, unusable_manifests, unread, manifests, .. } = &summary;
    tracing::info!(
        entries = counts.entries,
        created = counts.created,
        duplicate = counts.duplicate,
        failed = counts.failed,
        invalid = counts.invalid,
        cancelled = counts.cancelled,
        unusable_manifests,
        left,
        unread,
        receipts = folders(manifests.iter().filter_map(|manifest| manifest.receipt.as_deref())),
        followed = ended.followed,
        "import ended"
    );
    on_streams(|output| {
        if json {
            output.json(&summary)?
        } else {
            summary.write(output)?
        }
        Ok(summary.exit(ended.exit))
    })
}

/// The folders that receipts were written to.
fn folders<'a>(receipts: impl Iterator<Item = &'a Path>) -> String {
    let mut folders: BTreeMap<&Path, usize> = BTreeMap::new();
    for receipt in receipts {
        *folders.entry(receipt.parent().unwrap_or(receipt)).or_default() += 1;
    }
    folders.iter().map(|(folder, count)| format!("{count} in {}", folder.display())).collect::<Vec<_>>().join(", ")
}
