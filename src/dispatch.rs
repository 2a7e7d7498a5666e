//! Hands jobs to workers: claims what is ready, drop by drop, and keeps a fixed number of jobs in flight.
//!
//! # Stopping
//!
//! After the stop no job is claimed; those in flight end their calls and are given back. What has not ended within
//! [`DRAIN`] is left, and the next start recovers it as after a crash.

mod pauses;
mod probe;
mod shares;
mod window;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, oneshot},
    task::{self, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

pub use self::window::{changes_after, is_open};
use self::{
    pauses::AccountChange,
    probe::{Probe, ProbeAnswer, ProbeStep},
    shares::{LaneState, Shares},
};
use crate::{
    account::Account,
    clock::{Clock, Timestamp},
    config::Window,
    delivery::{Delivery, profiles::Profiles},
    estimate::Pace,
    operation::Operation,
    outcome::{Outcome, outcome},
    queue::{
        Queue, QueueError,
        claim::Ready,
        control::{Cause, Pause},
        trial_steps::TrialTurn,
    },
    telemetry::Telemetry,
};

/// How long calls that are in flight may take after the stop.
pub const DRAIN: Duration = Duration::from_secs(20);

/// Without any event, the queue is polled this often: a wake-up from another process may have been missed.
const POLL_INTERVAL: Duration = Duration::from_secs(30);

/// How soon an account is asked for room again once all of it was used.
const FULL_ACCOUNT_INTERVAL: Duration = Duration::from_millis(200);

/// A drop, with the account that its jobs go to.
pub struct Lane {
    pub drop: String,
    pub account: Arc<Account>,
    /// Higher goes first.
    pub priority: i64,
    /// How long its jobs may wait for a missing file.
    pub file_patience: Duration,
}

/// A step of the clock is a warning beyond this; virtual machines correct their clocks by less all the time.
const WORTH_SAYING_MS: u64 = 2000;

/// How often the pace is recorded while jobs are claimed.
const PACE_INTERVAL: Duration = Duration::from_secs(5);

/// Without a setting.
const DEFAULT_RECHECK: Duration = Duration::from_secs(15 * 60);

/// How often the queue is asked for readings that are due, and how many documents are looked at once more at a time.
const RECHECK_INTERVAL: Duration = Duration::from_secs(1);
const RECHECKS_AT_ONCE: u32 = 16;

/// Notifications between the stages.
#[derive(Debug, Default)]
pub struct Signals {
    /// There may be something new to claim.
    pub work: Notify,
    /// A job has ended, so a batch may have.
    pub ended: Notify,
    /// How often the dispatcher has handed out jobs, each time after an answer of the queue's writer.
    pub turns: AtomicU64,
}

/// Hands out jobs until it is stopped.
pub struct Dispatcher {
    queue: Queue,
    delivery: Arc<Delivery>,
    /// Each with the index of its account, highest priority first.
    lanes: Vec<(Lane, usize)>,
    accounts: Vec<Arc<Account>>,
    /// Jobs in flight at most: more than calls, so that a call's place is taken while another's result is written.
    width: usize,
    signals: Arc<Signals>,
    stop: CancellationToken,
    windows: Vec<Window>,
    clock: Clock,
    paused_drops: Vec<String>,
    /// Whose turn it is among drops of the same priority.
    turn: usize,
    /// Which job each task has, to give it back should the task die, and the index of its account.
    tasks: HashMap<task::Id, (i64, usize)>,
    /// How long after its end a job whose document was sent a second time is looked at once more, when that is next
    /// asked for, and the readings in flight.
    recheck_after: Duration,
    next_recheck: Instant,
    rechecks: JoinSet<Result<(), QueueError>>,
    /// When the pace is recorded next; nothing before the first time.
    next_pace: Option<Instant>,
    /// Of accounts that are stopped, by scope: when they are tried again, and the answer to the call in flight.
    probes: HashMap<String, (Probe, Option<oneshot::Receiver<bool>>)>,
}

/// Jobs that hold a place: those in line for their profile hold none.
fn in_flight(running: &JoinSet<Result<(), QueueError>>, profiles: &Profiles) -> usize {
    running.len().saturating_sub(profiles.in_line())
}

impl Dispatcher {
    /// A dispatcher for these lanes; jobs of other drops are left alone.
    #[must_use]
    pub fn new(
        queue: Queue,
        delivery: Arc<Delivery>,
        mut lanes: Vec<Lane>,
        width: usize,
        signals: Arc<Signals>,
        stop: CancellationToken,
        windows: Vec<Window>,
    ) -> Self {
        let clock = delivery.clock.clone();
        lanes.sort_by_key(|lane| std::cmp::Reverse(lane.priority));
        let mut accounts: Vec<Arc<Account>> = Vec::new();
        let index = |lane: Lane| {
            let known = accounts.iter().position(|known| Arc::ptr_eq(known, &lane.account));
            let account = known.unwrap_or(accounts.len());
            if known.is_none() {
                accounts.push(Arc::clone(&lane.account));
            }
            (lane, account)
        };
        let lanes = lanes.into_iter().map(index).collect();
        Self {
            queue,
            delivery,
            lanes,
            accounts,
            width: width.max(1),
            signals,
            stop,
            windows,
            clock,
            paused_drops: Vec::new(),
            turn: 0,
            tasks: HashMap::new(),
            recheck_after: DEFAULT_RECHECK,
            next_recheck: Instant::now(),
            rechecks: JoinSet::new(),
            next_pace: None,
            probes: HashMap::new(),
        }
    }

    /// The same, with this time after which what was sent a second time is looked at once more.
    #[must_use]
    pub const fn recheck_after(mut self, recheck_after: Duration) -> Self {
        self.recheck_after = recheck_after;
        self
    }

    /// Works until stopped.
    ///
    /// # Errors
    ///
    /// Those of the queue that waiting does not cure.
    pub async fn run(mut self) -> Result<(), QueueError> {
        let mut running: JoinSet<Result<(), QueueError>> = JoinSet::new();
        let mut failure = None;
        while !self.stop.is_cancelled() && failure.is_none() {
            let wake = match self.hand_out(&mut running).await {
                Ok(wake) => wake,
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            };
            self.signals.turns.fetch_add(1, Ordering::Relaxed);
            let low_water = self.width.div_ceil(2);
            let delivery = Arc::clone(&self.delivery);
            let profiles = &delivery.profiles;
            let mut settles = false;
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = self.signals.work.notified() => {}
                () = tokio::time::sleep_until(wake) => {}
                () = profiles.stepped_aside.notified() => settles = true,
                Some(ended) = running.join_next_with_id() => {
                    failure = self.ended(ended).await;
                    settles = true;
                }
            }
            // Claims are cheaper in batches: wait for more jobs to end until half of the places are free.
            while settles
                && failure.is_none()
                && let Some(ended) = running.try_join_next_with_id()
            {
                failure = self.ended(ended).await;
            }
            while settles && failure.is_none() && in_flight(&running, profiles) > low_water && !self.stop.is_cancelled()
            {
                tokio::select! {
                    Some(ended) = running.join_next_with_id() => failure = self.ended(ended).await,
                    () = self.stop.cancelled() => {}
                    () = self.signals.work.notified() => break,
                    () = tokio::time::sleep_until(wake) => break,
                    () = profiles.stepped_aside.notified() => {}
                }
            }
        }
        self.stop.cancel();
        let drained = tokio::time::timeout(DRAIN, async {
            while let Some(ended) = running.join_next_with_id().await {
                let ended = self.ended(ended).await;
                failure = failure.take().or(ended);
            }
            while self.rechecks.join_next().await.is_some() {}
        });
        if drained.await.is_err() {
            tracing::warn!(jobs = running.len(), "calls did not end in time; the next start asks what became of them");
            running.shutdown().await;
        }
        self.next_pace = None;
        if failure.is_none() {
            failure = self.note_pace().await.err();
        }
        if failure.is_none() {
            // A jump that is not recorded now is lost to the next process.
            failure = self.follow_clock().await.err();
        }
        failure.map_or(Ok(()), Err)
    }

    async fn ended(
        &mut self,
        ended: Result<(task::Id, Result<(), QueueError>), task::JoinError>,
    ) -> Option<QueueError> {
        self.signals.ended.notify_one();
        let id = ended.as_ref().map_or_else(task::JoinError::id, |(id, _)| *id);
        let job = self.tasks.remove(&id).map(|(job, _)| job);
        match ended {
            Ok((_, Ok(()))) => None,
            // An operator's command was faster with this one job.
            Ok((_, Err(QueueError::Gone { what, id }))) => {
                tracing::warn!(what, id, "changed while it was worked on");
                None
            }
            Ok((_, Err(error))) => Some(error),
            Err(panic) => {
                tracing::error!(%panic, job, "a worker died of a defect");
                match job {
                    Some(job) => self.queue.abandoned(job, self.clock.now()).await.err(),
                    None => None,
                }
            }
        }
    }

    /// Claims what may be claimed; returns when to do so again without an event.
    async fn hand_out(&mut self, running: &mut JoinSet<Result<(), QueueError>>) -> Result<Instant, QueueError> {
        self.follow_clock().await?;
        // An idle worker writes nothing, but the windows and limits that it began with.
        if !running.is_empty() || self.next_pace.is_none() {
            self.note_pace().await?;
        }
        let now = Instant::now();
        let mut wake = now + POLL_INTERVAL;
        let pauses = self.queue.pauses().await?;
        self.apply(&pauses);
        if let Some(wait) = window::opens_in(&self.windows, self.clock.now()) {
            return Ok(now + wait.min(POLL_INTERVAL));
        }
        if let Some(at) = self.probe_stopped(&pauses).await? {
            wake = wake.min(at);
        }
        let Ready { drops, next_due, trials } = self.queue.ready(self.clock.now()).await?;
        match trials {
            TrialTurn::Idle => {}
            TrialTurn::More => wake = now,
            TrialTurn::Later => wake = wake.min(now + FULL_ACCOUNT_INTERVAL),
        }
        if let Some(due) = next_due {
            // A wait is at least some milliseconds, so that a due time that the clock says has passed cannot spin.
            wake = wake.min(now + due.since(self.clock.now()).max(Duration::from_millis(5)));
        }
        let paused = drops.iter().filter(|(_, name, _)| self.paused_drops.contains(name));
        self.delivery.pause_drops(paused.map(|(id, ..)| *id).collect());
        if !self.delivery.paused.load(Ordering::Relaxed)
            && let Some(wait) = self.claim(&drops, running).await?
        {
            wake = wake.min(now + wait);
        }
        self.recheck().await?;
        Ok(wake.min(self.next_recheck))
    }

    /// Records how fast each account may send and does, for whoever estimates the end.
    async fn note_pace(&mut self) -> Result<(), QueueError> {
        let now = Instant::now();
        if self.next_pace.is_some_and(|next| now < next) {
            return Ok(());
        }
        self.next_pace = Some(now + PACE_INTERVAL);
        let at = self.clock.now();
        let of_account = |(index, account): (usize, &Arc<Account>)| {
            let lanes = self.lanes.iter().filter(|(_, own)| *own == index);
            account.pace(lanes.map(|(lane, _)| lane.drop.clone()).collect(), at)
        };
        let accounts = self.accounts.iter().enumerate().map(of_account).collect();
        let windows = self.windows.iter().map(ToString::to_string).collect();
        self.queue.note_pace(&Pace { at: at.0, windows, accounts }).await
    }

    /// Starts what is due of the readings of profiles whose documents were sent a second time.
    async fn recheck(&mut self) -> Result<(), QueueError> {
        while let Some(ended) = self.rechecks.try_join_next() {
            match ended {
                Ok(ended) => ended?,
                Err(defect) => tracing::error!(%defect, "a reading died of a defect"),
            }
        }
        let paused = self.delivery.paused.load(Ordering::Relaxed);
        if !self.rechecks.is_empty() || paused || Instant::now() < self.next_recheck {
            return Ok(());
        }
        let due = self.queue.due_rechecks(self.recheck_after, self.clock.now(), RECHECKS_AT_ONCE).await?;
        self.next_recheck = Instant::now() + if due.is_empty() { RECHECK_INTERVAL } else { FULL_ACCOUNT_INTERVAL };
        for of_profile in due.chunk_by(|one, other| one.profile == other.profile && one.drop == other.drop) {
            let lane = of_profile.first().and_then(|first| self.lanes.iter().find(|(lane, _)| lane.drop == first.drop));
            let Some((lane, _)) = lane.filter(|(lane, _)| !self.paused_drops.contains(&lane.drop)) else { continue };
            let (delivery, account) = (Arc::clone(&self.delivery), Arc::clone(&lane.account));
            let (of_profile, signals) = (of_profile.to_vec(), Arc::clone(&self.signals));
            self.rechecks.spawn(async move {
                let read = delivery.recheck(&account, &of_profile).await;
                signals.ended.notify_one();
                read
            });
        }
        Ok(())
    }

    /// Claims for each drop its share of the free places; returns how soon an account may have room again.
    async fn claim(
        &mut self,
        drops: &[(i64, String, bool)],
        running: &mut JoinSet<Result<(), QueueError>>,
    ) -> Result<Option<Duration>, QueueError> {
        self.turn = self.turn.wrapping_add(1);
        let mut shares = Shares::new(self.ready_lanes(drops), self.turn);
        loop {
            let free = self.width.saturating_sub(in_flight(running, &self.delivery.profiles));
            let of_jobs = self.tasks.values().map(|(_, account)| *account);
            let room = |index: usize| {
                let room = self.accounts.get(index).map_or(0, |account| account.room().jobs);
                room.min(shares::places(self.width, self.accounts.len(), of_jobs.clone(), index))
            };
            let Some(claim) = shares.next_claim(free, room) else { break };
            let jobs = self.queue.claim(claim.lane.drop_id, claim.jobs).await?;
            shares.claimed(claim, jobs.len());
            let Some((lane, _)) = self.lanes.get(claim.lane.lane) else { continue };
            for mut job in jobs {
                job.file_patience = lane.file_patience;
                let (delivery, account) = (Arc::clone(&self.delivery), Arc::clone(&lane.account));
                let id = job.id;
                let task = running.spawn(async move { delivery.deliver(&account, job).await });
                self.tasks.insert(task.id(), (id, claim.lane.account));
            }
        }
        Ok(shares.again_in(FULL_ACCOUNT_INTERVAL))
    }

    /// The lanes that have jobs ready.
    fn ready_lanes(&self, drops: &[(i64, String, bool)]) -> Vec<LaneState> {
        let state = |(index, (lane, account)): (usize, &(Lane, usize))| {
            let (drop_id, ..) = drops.iter().find(|(_, name, ready)| *ready && *name == lane.drop)?;
            Some(LaneState {
                lane: index,
                drop_id: *drop_id,
                priority: lane.priority,
                account: *account,
                paused: lane.account.paused().is_some() || self.paused_drops.contains(&lane.drop),
                room: lane.account.room(),
            })
        };
        self.lanes.iter().enumerate().filter_map(state).collect()
    }

    /// Shifts due times where the wall clock has jumped since the last call.
    async fn follow_clock(&self) -> Result<(), QueueError> {
        if let Some(jump_ms) = self.clock.jumped() {
            let in_all = self.clock.moved_ms().saturating_add(jump_ms);
            let clock = self.clock.clone();
            let moved = self.queue.clock_jumped(jump_ms, move || clock.accept(in_all)).await?;
            if jump_ms.unsigned_abs() > WORTH_SAYING_MS {
                tracing::warn!(jump_ms, jobs = moved, "the clock jumped; what waits was moved along with it");
            } else {
                tracing::debug!(jump_ms, jobs = moved, "the clock was corrected; what waits was moved along with it");
            }
        }
        Ok(())
    }

    /// Makes drops and accounts agree with the pauses that the queue keeps.
    fn apply(&mut self, pauses: &[Pause]) {
        self.delivery.paused.store(pauses::by_operator(pauses, ""), Ordering::Relaxed);
        let drops = self.lanes.iter().map(|(lane, _)| lane.drop.clone());
        self.paused_drops = drops.filter(|drop| pauses::by_operator(pauses, &format!("drop:{drop}"))).collect();
        for account in &self.accounts {
            match pauses::change(pauses, &account.scope, account.paused()) {
                AccountChange::Stop(cause) => {
                    account.stop(cause);
                }
                AccountChange::Start => account.start(),
                AccountChange::Nothing => {}
            }
        }
    }

    /// Finds out which of the stopped accounts work again; returns when to do so next.
    async fn probe_stopped(&mut self, pauses: &[Pause]) -> Result<Option<Instant>, QueueError> {
        let mut next: Option<Instant> = None;
        for account in self.accounts.clone() {
            let Some(cause) = account.paused() else {
                self.probes.remove(&account.scope);
                continue;
            };
            let kept = pauses.iter().find(|pause| pause.scope == account.scope && pause.cause == cause);
            let at = self.probe(&account, cause, kept.map(|pause| pause.since)).await?;
            next = next.into_iter().chain([at]).min();
        }
        Ok(next)
    }

    async fn probe(
        &mut self,
        account: &Arc<Account>,
        cause: Cause,
        since: Option<Timestamp>,
    ) -> Result<Instant, QueueError> {
        let now = Instant::now();
        let begin = || {
            let stopped_for = since.map_or(Duration::ZERO, |since| self.clock.now().since(since));
            (Probe::new(cause, account.rest(), stopped_for, now), None)
        };
        let (probe, asked) = self.probes.entry(account.scope.clone()).or_insert_with(begin);
        if probe.cause() != cause {
            (*probe, *asked) = begin();
        }
        let answer = match asked.as_mut().map(oneshot::Receiver::try_recv) {
            None | Some(Err(oneshot::error::TryRecvError::Empty)) => ProbeAnswer::Pending,
            Some(Ok(true)) => ProbeAnswer::Works,
            Some(Ok(false) | Err(oneshot::error::TryRecvError::Closed)) => ProbeAnswer::Fails,
        };
        match probe.next(answer, now) {
            ProbeStep::WaitUntil(at) => {
                *asked = None;
                Ok(at)
            }
            ProbeStep::WaitForAnswer => Ok(now + POLL_INTERVAL),
            ProbeStep::Ask => {
                // In a task: an API that is silent for long holds up neither other accounts nor the stop.
                let (account, signals) = (Arc::clone(account), Arc::clone(&self.signals));
                let (telemetry, clock) = (Arc::clone(&self.delivery.telemetry), self.clock.clone());
                let (sender, receiver) = oneshot::channel();
                *asked = Some(receiver);
                tokio::spawn(async move {
                    // The receiver is gone where a person resumed the account in the meantime.
                    sender.send(ask(&account, cause, &telemetry, &clock).await).ok();
                    signals.work.notify_one();
                });
                Ok(now + POLL_INTERVAL)
            }
            ProbeStep::Resume => {
                tracing::info!(account = account.scope, cause = cause.as_str(), "sending continues");
                self.queue.resume_account(account.scope.clone(), cause).await?;
                account.start();
                self.probes.remove(&account.scope);
                Ok(now)
            }
        }
    }
}

/// Asks a stopped account whose key it has; returns whether sending may continue.
async fn ask(account: &Account, cause: Cause, telemetry: &Telemetry, clock: &Clock) -> bool {
    let exchange = account.client.whoami().await;
    let answer = outcome(&exchange, clock.now());
    telemetry.called(&exchange, &answer);
    tracing::debug!(account = account.scope, ?answer, operation = Operation::Whoami.as_str(), "probed");
    // Any answer is one: an API without this call does not refuse the key by that, and where a gateway answers in its
    // place, the trial call finds out.
    let speaks =
        matches!(answer, Outcome::Done(_) | Outcome::Refused(_) | Outcome::Unattributed(_) | Outcome::Throttled { .. });
    speaks || (cause == Cause::Outage && matches!(answer, Outcome::Paused { .. }))
}
