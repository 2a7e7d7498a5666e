//! Builds the stages, starts them and stops them. The only file that spawns what lives as long as the process.
//!
//! ```text
//! drops ──▶ intake ──▶ queue ──▶ dispatch ──▶ delivery ──▶ queue ──▶ closing ──▶ receipts and folders
//! ```
//!
//! # Stopping
//!
//! One token stops everything: intake between two entries, dispatch between two calls of a job, closing between two
//! batches. The queue is closed last, by being dropped.

mod accounts;
mod alerts;
mod events;
mod identify;
mod inboxes;
mod lineage;
mod partner_notes;
mod samples;
mod settling;
mod vitals;

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

pub use self::{
    accounts::{Accounts, account_of, key_digests},
    alerts::expecting,
    identify::Identity,
    lineage::marked_folders,
    vitals::Vitals,
};
use self::{
    accounts::{lanes, spent},
    identify::Identities,
    inboxes::{InboxShared, InboxThread},
    partner_notes::{NotedDrops, keep_notes},
    settling::close_batches,
};
use crate::{
    account::Account,
    api,
    clock::{Clock, Timestamp},
    closing::{self, Settled, purge},
    config::{self, Config, DropConfig},
    delivery::Delivery,
    dispatch::{DRAIN, Dispatcher, Signals},
    intake::{
        orphans,
        watch::{DropScanner, DropStatus},
    },
    operation::Operation,
    policy::LostFile,
    queue::{
        Queue, QueueError, Reader,
        claim::RecoveredJobs,
        control::Cause,
        in_doubt::{self, InDoubtLog},
        wake::WakeSocket,
    },
    retry::RetryPolicy,
    telemetry::Telemetry,
    verdict::RetryBounds,
};

/// The drop that `import` puts its manifests under by default.
pub const IMPORT: &str = "import";

/// Memory that one upload needs: buffers of the body, of TLS and of HTTP.
const BYTES_OF_AN_UPLOAD: u64 = 1 << 20;

/// How long the jobs of an import may wait for a file that went away while it ran.
const FILE_PATIENCE: Duration = Duration::from_secs(60);

/// The least cap on due times after a restart: a busy API may have asked for a wait this long, beyond `[retry] max`.
const SHORTEST_CAP: Duration = Duration::from_secs(900);

/// How long a start waits until what was half taken of drops that are not configured any more is put back; a mount that
/// does not answer delays nobody for longer.
const ORPHANS_FIRST: Duration = Duration::from_secs(2);

/// The interval between two purges.
const PURGE_EVERY: Duration = Duration::from_secs(600);

/// The interval between two looks for doubled documents that no addendum names.
const AMEND_EVERY: Duration = Duration::from_secs(10);

/// Why the service could not be started, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The configuration does not allow it.
    #[error(transparent)]
    Config(#[from] config::ConfigError),
    /// The client of the API could not be made.
    #[error(transparent)]
    Client(#[from] api::ClientError),
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// A key is new, and the API does not say whose it is.
    #[error(
        "the key of drop {drop} is new, and the API does not say whether its account is the same ({why}); what was created \
         before counts only for the same account, so nothing is done until it answers"
    )]
    AccountUnknown { drop: String, why: String },
    /// Nothing may be sent before what is doubtful is held.
    #[error("an adoption was interrupted: run `passfort-ingest adopt` again; until then nothing is sent")]
    AdoptionUnfinished,
    /// A thread could not be started, or a pattern is none.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// Called when a batch is settled.
pub type OnSettled = Arc<dyn Fn(&Settled) + Send + Sync>;

/// The stages at work.
pub struct Service {
    /// The queue that they share.
    pub queue: Queue,
    /// What wakes them.
    pub signals: Arc<Signals>,
    pub stop: CancellationToken,
    accounts: Vec<Arc<Account>>,
    telemetry: Arc<Telemetry>,
    dispatcher: JoinHandle<Result<(), QueueError>>,
    closer: JoinHandle<Result<(), QueueError>>,
    bell: JoinHandle<()>,
    amender: JoinHandle<()>,
    /// What puts back what was half taken of drops that are not configured any more, while that is not over.
    orphans: Option<JoinHandle<()>>,
    inboxes: Vec<InboxThread>,
    /// What keeps the texts for senders, and what tells it that all else has ended.
    notes: Option<(JoinHandle<()>, CancellationToken)>,
    /// Drops whose receipts another queue writes.
    foreign: Vec<String>,
    /// What looks and counts beside the work: each ends at the stop, between two steps.
    beside: Vec<JoinHandle<()>>,
}

impl Service {
    /// Starts delivery and closing for these drops; with `import` also for that name, on the main account. The caller
    /// holds the database's lock.
    ///
    /// # Errors
    ///
    /// Where the key, the client or the queue is not usable, or not the one that was worked with last
    /// ([`QueueError::Lineage`]). Nothing has been sent by then.
    pub async fn start(
        config: &Config,
        queue: Queue,
        import: Option<&str>,
        on_settled: OnSettled,
        stop: CancellationToken,
    ) -> Result<Self, ServiceError> {
        if queue.is_adoption_unfinished().await? {
            return Err(ServiceError::AdoptionUnfinished);
        }
        let telemetry = Arc::new(Telemetry::new());
        let stopped = match lineage::check(config, &queue).await {
            Err(ServiceError::Queue(error @ QueueError::Lineage { .. })) => {
                alerts::announce_refusal(config, &queue, &error, &telemetry).await;
                return Err(error.into());
            }
            checked => checked?,
        };
        let signals = Arc::new(Signals::default());
        let mut lanes = lanes(config, import, &spent(config, &queue, import).await?)?;
        lanes.retain(|lane| !stopped.contains(&lane.drop));
        let accounts: Vec<_> = lanes.iter().map(|lane| Arc::clone(&lane.account)).collect();
        let absence = config.absence_bounds();
        let bounds = RetryBounds {
            retry: RetryPolicy {
                initial: config.retry.initial,
                max: config.retry.max,
                give_up_after: config.retry.give_up_after,
            },
            absence,
            lost_file: config.retry.lost_file,
            file: FILE_PATIENCE,
        };
        go_on_at_the_same_pace(queue.path(), &accounts)?;
        telemetry.limit_in_flight(calls_at_once(config));
        let observed = queue.observed().await?;
        telemetry.observed(&observed, &absence);
        queue.note_bounds(absence, Timestamp::now()).await?;
        tracing::info!("{}", absence.sentence());
        if let Some(broken) = absence.broken_by(&observed) {
            tracing::error!(
                "{broken}: documents whose answer is lost are held until api.request_lives or api.list_lag is above it"
            );
        }
        let identities = Identities::begin(&queue, &lanes, &telemetry, &stop).await?;
        let in_doubt = recover(&config.retry, &queue, &telemetry).await?;
        let delivery = Arc::new(Delivery::new(
            queue.clone(),
            in_doubt,
            bounds,
            stop.clone(),
            Arc::clone(&telemetry),
            Clock::system(),
        ));
        let dispatcher = Dispatcher::new(
            queue.clone(),
            delivery,
            lanes,
            calls_at_once(config) * 2,
            Arc::clone(&signals),
            stop.clone(),
            config.limits.windows.clone(),
        )
        .recheck_after(config.retry.recheck_after);
        let dispatcher = tokio::spawn(dispatcher.run());
        let closer =
            tokio::spawn(close_batches(queue.clone(), identities, Arc::clone(&signals), stop.clone(), on_settled));
        let amender = tokio::spawn(amend_receipts(queue.clone(), stop.clone()));
        let bell = tokio::spawn(listen(queue.path().to_owned(), Arc::clone(&signals), stop.clone()));
        let (orphans, inboxes, notes) = (None, Vec::new(), None);
        let foreign = stopped.into_iter().collect();
        let samples = samples::sample(queue.clone(), Arc::clone(&telemetry), accounts.clone(), stop.clone());
        let beside = vec![tokio::spawn(samples)];
        Ok(Self {
            queue,
            signals,
            stop,
            accounts,
            telemetry,
            dispatcher,
            closer,
            bell,
            amender,
            orphans,
            inboxes,
            notes,
            foreign,
            beside,
        })
    }

    /// Starts scanning the configured drops. What was half taken of others is put back before, as far as it is quick.
    ///
    /// # Errors
    ///
    /// Where a thread cannot be started.
    pub async fn watch(&mut self, config: &Config) -> Result<(), ServiceError> {
        // One of the drops may have had another name when it was half taken.
        let mut orphans = tokio::task::spawn_blocking(put_back_orphans(config, &self.queue, &self.stop));
        self.orphans = timeout(ORPHANS_FIRST, &mut orphans).await.is_err().then_some(orphans);
        let mut lines = HashMap::new();
        for drop in &config.drops {
            let token = self.stop.clone();
            let stopped: Arc<dyn Fn() -> bool + Send + Sync> = Arc::new(move || token.is_cancelled());
            let inbox = DropScanner::new(
                drop.clone(),
                self.queue.clone(),
                config.api.max_image_bytes,
                Clock::system(),
                Arc::clone(&stopped),
            )?
            .on_account(account_of(config, &drop.name));
            lines.insert(drop.name.clone(), inbox.line());
            self.inboxes.push(InboxThread::start(inbox, stopped, Arc::clone(&self.signals), self.stop.clone())?);
        }
        let (noted, ended) =
            (NotedDrops { queue: self.queue.clone(), drops: config.drops.clone(), lines }, CancellationToken::new());
        self.notes = Some((tokio::spawn(keep_notes(noted, self.stop.clone(), ended.clone())), ended));
        Ok(())
    }

    /// Sends alerts from now on, and judges what is expected of the drops.
    ///
    /// # Errors
    ///
    /// Why a receiver or a file of holidays cannot be used.
    pub async fn send_alerts(&mut self, config: &Config) -> Result<(), String> {
        let (inboxes, foreign) = (self.shared_inboxes(), self.foreign.clone());
        self.beside.extend(alerts::start(config, &self.queue, inboxes, foreign, &self.telemetry, &self.stop).await?);
        Ok(())
    }

    /// Sends the alerts that are due now, for a command that ends.
    ///
    /// # Errors
    ///
    /// Why a file of holidays cannot be used.
    pub async fn send_last_alerts(&self, config: &Config) -> Result<(), String> {
        alerts::announce_once(config, &self.queue, self.shared_inboxes(), self.foreign.clone(), &self.telemetry).await
    }

    fn shared_inboxes(&self) -> Vec<Arc<InboxShared>> {
        self.inboxes.iter().map(|inbox| Arc::clone(&inbox.shared)).collect()
    }

    /// Purges done folders from now on.
    pub fn purge(&self, config: &Config) {
        if config.drops.iter().all(|drop| drop.keep_done_for.is_none()) {
            return;
        }
        tokio::spawn(purge_again_and_again(self.queue.clone(), config.drops.clone(), self.stop.clone()));
    }

    /// What each drop's last scan found; `None` for one whose first scan is not over.
    #[must_use]
    pub fn looked(&self) -> Vec<Option<DropStatus>> {
        self.inboxes.iter().map(|inbox| inbox.shared.state().looked).collect()
    }

    /// The longest time that no call of any account has worked.
    #[must_use]
    pub fn without_success_for(&self) -> Duration {
        self.accounts.iter().map(|account| account.without_success_for()).max().unwrap_or_default()
    }

    /// The health of the service; the value may outlive it.
    #[must_use]
    pub fn vitals(&self) -> Vitals {
        Vitals {
            queue: self.queue.clone(),
            telemetry: Arc::clone(&self.telemetry),
            accounts: self.accounts.clone(),
            stages: [("sending", self.dispatcher.abort_handle()), ("settling", self.closer.abort_handle())],
            inboxes: self.shared_inboxes(),
            started: Instant::now(),
        }
    }

    /// Whether the API refuses a key.
    #[must_use]
    pub fn is_key_refused(&self) -> bool {
        self.accounts.iter().any(|account| account.paused() == Some(Cause::KeyRefused))
    }

    /// Whether a stage has ended by itself, which it does only when it cannot continue.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.dispatcher.is_finished() || self.closer.is_finished()
    }

    /// Stops everything and waits until it has; returns whether all of it has ended. What waits for a folder that does not
    /// answer is left behind, and ends when it does.
    ///
    /// # Errors
    ///
    /// What made a stage end by itself.
    pub async fn finish(self) -> Result<bool, ServiceError> {
        let mut all = true;
        self.stop.cancel();
        self.queue.give_up_when_stuck();
        self.inboxes.iter().for_each(|inbox| inbox.shared.hint());
        let dispatcher = self.dispatcher.await;
        let mut ended = vec![dispatcher];
        // What waits for a mount that does not answer is left behind: the next start continues there.
        match timeout(DRAIN, self.closer).await {
            Ok(closer) => ended.push(closer),
            Err(_) => {
                all = false;
                tracing::warn!("a folder for receipts or settled files does not answer; left for the next start");
            }
        }
        self.bell.abort();
        for task in self.beside {
            all &= timeout(DRAIN, task).await.is_ok();
        }
        if timeout(DRAIN, self.amender).await.is_err() {
            all = false;
            tracing::warn!("a folder of receipts does not answer; what is doubled is named there by the next start");
        }
        if let Some(orphans) = self.orphans
            && timeout(DRAIN, orphans).await.is_err()
        {
            all = false;
            tracing::warn!("the folder of a drop that was configured once does not answer; left for the next start");
        }
        for inbox in self.inboxes {
            let joined = tokio::task::spawn_blocking(move || inbox.thread.join());
            if timeout(DRAIN, joined).await.is_err() {
                all = false;
                tracing::warn!(drop = inbox.shared.drop, "the drop's folder does not answer; left as it is");
            }
            if let Some(failure) = inbox.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
                ended.push(Ok(Err(failure)));
            }
        }
        if let Some((notes, all_ended)) = self.notes {
            all_ended.cancel();
            if timeout(DRAIN, notes).await.is_err() {
                all = false;
                tracing::warn!("a folder of receipts does not answer; texts for senders are left for the next start");
            }
        }
        for stage in ended {
            match stage {
                Ok(done) => done?,
                Err(defect) => tracing::error!(%defect, "a stage died of a defect"),
            }
        }
        Ok(all)
    }
}

/// Takes back the jobs of an earlier process, for a command that works on the queue alone.
///
/// # Errors
///
/// Those of the queue.
pub async fn take_back_jobs(config: &Config, queue: &Queue) -> Result<(), ServiceError> {
    recover(&config.retry, queue, &Telemetry::new()).await.map(drop)
}

/// Puts back what earlier processes half took of drops that are not configured any more.
fn put_back_orphans(config: &Config, queue: &Queue, stop: &CancellationToken) -> impl FnOnce() + Send + use<> {
    let names: HashSet<String> = config.drops.iter().map(|drop| drop.name.clone()).collect();
    let (queue, stop) = (queue.clone(), stop.clone());
    move || {
        if let Err(error) = orphans::put_back(&queue, &|drop| names.contains(drop), &|| stop.is_cancelled()) {
            tracing::warn!(%error, "what was half taken of drops that are not configured any more is not put back");
        }
    }
}

/// Recovers the jobs of an earlier process; returns the log for the uploads in doubt from now on.
async fn recover(
    retry: &config::RetrySettings,
    queue: &Queue,
    telemetry: &Telemetry,
) -> Result<InDoubtLog, ServiceError> {
    let left = Arc::new(in_doubt::read(queue.path()));
    if retry.lost_file == LostFile::Hold {
        let held = queue.hold_files(Arc::clone(&left)).await?;
        if held > 0 {
            tracing::error!(
                jobs = held,
                "files were under way when an earlier process was killed: see `jobs --state held`"
            );
            telemetry.killed(Operation::UploadFile, held, true);
        }
    }
    let recovered = queue.recover(left, Timestamp::now()).await?;
    if recovered.jobs > 0 {
        let RecoveredJobs { jobs, images, files } = recovered;
        tracing::info!(jobs, images, files, "taken up again where an earlier process left off");
        telemetry.killed(Operation::UploadImage, images, false);
        telemetry.killed(Operation::UploadFile, files, false);
    }
    let capped = queue.cap_due(Timestamp::now(), retry.max.max(SHORTEST_CAP)).await?;
    if capped > 0 {
        tracing::warn!(
            jobs = capped,
            "waited for a moment further ahead than any wait lasts, so the clock was wrong; they wait no longer than that"
        );
    }
    Ok(InDoubtLog::create(queue.path()))
}

/// The number of calls at once: the configured one, or what the memory allows.
fn calls_at_once(config: &Config) -> usize {
    let by_memory = usize::try_from(config.workers.memory_limit / BYTES_OF_AN_UPLOAD).unwrap_or(usize::MAX);
    config.workers.max_in_flight.min(by_memory).max(1)
}

async fn listen(database: PathBuf, signals: Arc<Signals>, stop: CancellationToken) {
    match WakeSocket::bind(&database) {
        Ok(socket) => loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = socket.notified() => {
                    signals.work.notify_one();
                    signals.ended.notify_one();
                }
            }
        },
        Err(error) => tracing::warn!(%error, "commands of other processes are noticed after half a minute only"),
    }
}

/// Writes what was found doubled beside the receipts, until the stop, and once more after it.
async fn amend_receipts(queue: Queue, stop: CancellationToken) {
    loop {
        let last = stop.is_cancelled();
        let ours = queue.clone();
        let pass = move || closing::publish_addenda(&ours, &Reader::open(ours.path())?);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(pass).await {
            tracing::warn!(%error, "doubled documents cannot be named beside their receipts");
        }
        if last {
            return;
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(AMEND_EVERY) => {}
        }
    }
}

async fn purge_again_and_again(queue: Queue, drops: Vec<DropConfig>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let (ours, theirs, stopping) = (queue.clone(), drops.clone(), stop.clone());
        let pass = move || purge::pass(&ours, &theirs, Timestamp::now(), &|| stopping.is_cancelled());
        if let Ok(Err(error)) = tokio::task::spawn_blocking(pass).await {
            tracing::warn!(%error, "the done folders cannot be purged");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PURGE_EVERY) => {}
        }
    }
}

/// Lets accounts go on from what the last process recorded of their pace, so that the end is known at once.
fn go_on_at_the_same_pace(database: &Path, accounts: &[Arc<Account>]) -> Result<(), QueueError> {
    let Some(pace) = Reader::open(database)?.pace()? else { return Ok(()) };
    for earlier in pace.accounts {
        if let Some(account) = accounts.iter().find(|account| account.scope == earlier.scope) {
            account.continue_from(earlier, Timestamp(pace.at));
        }
    }
    Ok(())
}
