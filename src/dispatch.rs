//! Hands jobs to workers: claims what is ready, drop by drop, and keeps so many under way.
//!
//! # Stopping
//!
//! After the stop no job is claimed; those under way end their calls and are given back. Whatever has not ended within
//! [`DRAIN`] is left, and the next start treats it as a crash would be.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    sync::{Notify, oneshot},
    task::{self, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    account::Account,
    clock::{self, Timestamp},
    delivery::{Delivery, profiles::Profiles},
    operation::Operation,
    outcome::{Outcome, outcome},
    queue::{
        Queue, QueueError,
        control::{Cause, Pause},
        work::Ready,
    },
    telemetry::Telemetry,
};

/// How long calls that are under way may take after the stop.
pub const DRAIN: Duration = Duration::from_secs(20);

/// Without any event, the queue is looked at so often: a doorbell may have been missed.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Where an account has room for no more jobs, it is asked again so soon.
const NO_ROOM: Duration = Duration::from_millis(200);

/// Between two probes of an account that is stopped, first and at most.
const PROBE_FIRST: Duration = Duration::from_secs(2);
const PROBE_MAX: Duration = Duration::from_secs(60);

/// A spent quota cannot be probed by asking whose key it is, so after this long one job tries.
const QUOTA_REST: Duration = Duration::from_secs(600);

/// Which account a drop's jobs go to, and how soon.
pub struct Lane {
    /// The drop's name.
    pub drop: String,
    /// Its account.
    pub account: Arc<Account>,
    /// Higher goes first.
    pub priority: i64,
    /// How long its jobs may wait for a file that is away.
    pub file_patience: Duration,
    /// How long a file must lie still to count as complete.
    pub settle: Duration,
}

/// What wakes what.
#[derive(Debug, Default)]
pub struct Signals {
    /// There may be something new to claim.
    pub work: Notify,
    /// A job has ended, so a batch may have.
    pub ended: Notify,
}

/// Hands out jobs until it is stopped.
pub struct Dispatcher {
    queue: Queue,
    delivery: Arc<Delivery>,
    lanes: Vec<Lane>,
    accounts: Vec<Arc<Account>>,
    /// Jobs under way at most: more than calls, so that a call's place is taken while another's result is written.
    width: usize,
    signals: Arc<Signals>,
    stop: CancellationToken,
    windows: Vec<crate::config::Window>,
    paused_drops: Vec<String>,
    /// Whose turn it is among drops of the same priority.
    turn: usize,
    /// Which job each task has, to give it back should the task die.
    tasks: HashMap<task::Id, i64>,
}

/// How many jobs hold a place: those that wait for the turn of their profile hold none.
fn at_work(running: &JoinSet<Result<(), QueueError>>, profiles: &Profiles) -> usize {
    running.len().saturating_sub(profiles.in_line())
}

/// Whether sending is allowed now, by the machine's own clock and time zone.
#[must_use]
pub fn is_open(windows: &[crate::config::Window]) -> bool {
    // Without windows nobody needs the time zones, whose reading takes longer than all else at the start.
    windows.is_empty() || crate::config::Window::contains(windows, local_now().datetime())
}

fn local_now() -> jiff::Zoned {
    jiff::Zoned::new(
        jiff::Timestamp::from_millisecond(Timestamp::now().0).unwrap_or_default(),
        jiff::tz::TimeZone::system(),
    )
}

/// A paused account's next probe.
struct Probe {
    at: Instant,
    wait: Duration,
    /// The probe that is under way: an API that is silent for long holds up neither other accounts nor the stop.
    asking: Option<oneshot::Receiver<bool>>,
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
        windows: Vec<crate::config::Window>,
    ) -> Self {
        lanes.sort_by_key(|lane| std::cmp::Reverse(lane.priority));
        let mut accounts: Vec<Arc<Account>> = Vec::new();
        for lane in &lanes {
            if !accounts.iter().any(|known| Arc::ptr_eq(known, &lane.account)) {
                accounts.push(Arc::clone(&lane.account));
            }
        }
        Self {
            queue,
            delivery,
            lanes,
            accounts,
            width: width.max(1),
            signals,
            stop,
            windows,
            paused_drops: Vec::new(),
            turn: 0,
            tasks: HashMap::new(),
        }
    }

    /// Works until stopped.
    ///
    /// # Errors
    ///
    /// Those of the queue that waiting does not cure.
    pub async fn run(mut self) -> Result<(), QueueError> {
        let mut running: JoinSet<Result<(), QueueError>> = JoinSet::new();
        let mut probes: HashMap<String, Probe> = HashMap::new();
        let mut failure = None;
        while !self.stop.is_cancelled() && failure.is_none() {
            let wake = match self.hand_out(&mut running, &mut probes).await {
                Ok(wake) => wake,
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            };
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
            // Claims are cheaper in batches: go on with the others until half of the places are free.
            while settles
                && failure.is_none()
                && let Some(ended) = running.try_join_next_with_id()
            {
                failure = self.ended(ended).await;
            }
            while settles && failure.is_none() && at_work(&running, profiles) > low_water && !self.stop.is_cancelled() {
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
        });
        if drained.await.is_err() {
            tracing::warn!(jobs = running.len(), "calls did not end in time; the next start asks what became of them");
            running.shutdown().await;
        }
        if failure.is_none() {
            // What jumps now is not known to the next process.
            failure = self.mind_the_clock().await.err();
        }
        failure.map_or(Ok(()), Err)
    }

    async fn ended(
        &mut self,
        ended: Result<(task::Id, Result<(), QueueError>), task::JoinError>,
    ) -> Option<QueueError> {
        self.signals.ended.notify_one();
        let id = ended.as_ref().map_or_else(task::JoinError::id, |(id, _)| *id);
        let job = self.tasks.remove(&id);
        match ended {
            Ok((_, Ok(()))) => None,
            // Somebody else, a person's command, was faster with this one job.
            Ok((_, Err(QueueError::Gone { what, id }))) => {
                tracing::warn!(what, id, "changed while it was worked on");
                None
            }
            Ok((_, Err(error))) => Some(error),
            Err(panic) => {
                tracing::error!(%panic, job, "a worker died of a defect");
                match job {
                    Some(job) => self.queue.abandoned(job, Timestamp::now()).await.err(),
                    None => None,
                }
            }
        }
    }

    /// Claims what may be claimed; returns when to look again.
    async fn hand_out(
        &mut self,
        running: &mut JoinSet<Result<(), QueueError>>,
        probes: &mut HashMap<String, Probe>,
    ) -> Result<Instant, QueueError> {
        self.mind_the_clock().await?;
        let now = Instant::now();
        let mut wake = now + LOOK_AGAIN;
        let mut sooner = |at: Instant| wake = wake.min(at);

        let pauses = self.queue.pauses().await?;
        self.take_note(&pauses);
        if let Some(opens) = self.closed_until() {
            sooner(now + opens);
            return Ok(wake);
        }
        for account in &self.accounts {
            if let Some(cause) = account.paused() {
                let stands = pauses.iter().find(|pause| pause.scope == account.scope && pause.cause == cause);
                sooner(self.probe(account, cause, stands.map(|pause| pause.since), probes).await?);
            } else {
                probes.remove(&account.scope);
            }
        }
        let Ready { drops, next_due } = self.queue.ready(Timestamp::now()).await?;
        if let Some(due) = next_due {
            // A wait is at least some milliseconds, so that a due time that the clock says has passed cannot spin.
            sooner(now + due.since(Timestamp::now()).max(Duration::from_millis(5)));
        }
        let paused = drops.iter().filter(|(_, name, _)| self.paused_drops.contains(name));
        self.delivery.pause_drops(paused.map(|(id, ..)| *id).collect());
        if self.delivery.paused.load(Ordering::Relaxed) {
            return Ok(wake);
        }
        let mut open: Vec<(i64, &Lane)> = Vec::new();
        for lane in &self.lanes {
            let Some((drop_id, ..)) = drops.iter().find(|(_, name, ready)| *ready && *name == lane.drop) else {
                continue;
            };
            let room = lane.account.room();
            if room.jobs == 0 {
                sooner(now + room.again_in);
            } else if lane.account.paused().is_none() && !self.paused_drops.contains(&lane.drop) {
                open.push((*drop_id, lane));
            }
        }
        // Whoever comes first gets what cannot be shared, e.g. the only place that a limit leaves.
        self.turn = self.turn.wrapping_add(1);
        for peers in open.chunk_by_mut(|(_, one), (_, other)| one.priority == other.priority) {
            let turn = self.turn % peers.len();
            peers.rotate_left(turn);
        }
        let mut taken_up: HashMap<&str, usize> = HashMap::new();
        while let Some((drop_id, lane)) = open.first() {
            let free = self.width.saturating_sub(at_work(running, &self.delivery.profiles));
            if free == 0 {
                break;
            }
            // Drops of the same priority share what is free; the last of them takes what the others leave.
            let peers = open.iter().take_while(|(_, other)| other.priority == lane.priority).count();
            // Drops may share an account, and what was just taken up has not come to its place in the pace yet.
            let taken = taken_up.entry(lane.account.scope.as_str()).or_insert(0);
            let room = lane.account.room().jobs.saturating_sub(*taken);
            let sharers = open.iter().take(peers).filter(|(_, other)| Arc::ptr_eq(&other.account, &lane.account));
            let room = room.div_ceil(sharers.count().max(1));
            let share = free.div_ceil(peers).min(room);
            let claimed = if share > 0 { self.queue.claim(*drop_id, share).await? } else { Vec::new() };
            *taken += claimed.len();
            if claimed.len() == room {
                sooner(now + NO_ROOM);
            }
            for mut job in claimed {
                job.file_patience = lane.file_patience;
                job.settle = lane.settle;
                let (delivery, account) = (Arc::clone(&self.delivery), Arc::clone(&lane.account));
                let id = job.id;
                let task = running.spawn(async move { delivery.deliver(&account, job).await });
                self.tasks.insert(task.id(), id);
            }
            open.remove(0);
        }
        Ok(wake)
    }

    /// Moves due times along where the wall clock has jumped since it was last looked at.
    async fn mind_the_clock(&self) -> Result<(), QueueError> {
        if let Some(jump_ms) = clock::jumped() {
            let in_all = clock::moved_ms().saturating_add(jump_ms);
            let moved = self.queue.clock_jumped(jump_ms, move || clock::moved(in_all)).await?;
            tracing::warn!(jump_ms, jobs = moved, "the clock jumped; what waits was moved along with it");
        }
        Ok(())
    }

    fn take_note(&mut self, pauses: &[Pause]) {
        let by_operator =
            |scope: &str| pauses.iter().any(|pause| pause.cause == Cause::Operator && pause.scope == scope);
        self.delivery.paused.store(by_operator(""), Ordering::Relaxed);
        self.paused_drops = self
            .lanes
            .iter()
            .map(|lane| lane.drop.clone())
            .filter(|drop| by_operator(&format!("drop:{drop}")))
            .collect();
        for account in &self.accounts {
            let stands = pauses.iter().find(|pause| pause.scope == account.scope && pause.cause != Cause::Operator);
            match (stands, account.paused()) {
                (Some(pause), None) => {
                    account.stop(pause.cause);
                }
                // A person resumed it.
                (None, Some(_)) => account.start(),
                _ => {}
            }
        }
    }

    /// How long until sending is allowed, if it is not allowed now.
    fn closed_until(&self) -> Option<Duration> {
        let now = local_now();
        if crate::config::Window::contains(&self.windows, now.datetime()) {
            return None;
        }
        let opens = crate::config::Window::next_change(&self.windows, &now);
        let wait = opens.map(|opens| opens.timestamp().as_millisecond() - now.timestamp().as_millisecond());
        Some(wait.and_then(|wait| u64::try_from(wait).ok()).map_or(LOOK_AGAIN, Duration::from_millis).min(LOOK_AGAIN))
    }

    /// Finds out whether a stopped account works again; returns when to ask next.
    async fn probe(
        &self,
        account: &Arc<Account>,
        cause: Cause,
        since: Option<Timestamp>,
        probes: &mut HashMap<String, Probe>,
    ) -> Result<Instant, QueueError> {
        let now = Instant::now();
        let first = if cause == Cause::QuotaSpent { QUOTA_REST } else { PROBE_FIRST.max(account.rest()) };
        // What an earlier process waited counts, so that a nightly run does not always end before the first try.
        let waited = since.map_or(Duration::ZERO, |since| Timestamp::now().since(since));
        let probe = probes.entry(account.scope.clone()).or_insert(Probe {
            at: now + first.saturating_sub(waited),
            wait: first,
            asking: None,
        });
        let works = match probe.asking.take() {
            None if now < probe.at => return Ok(probe.at),
            None if cause == Cause::QuotaSpent => true,
            None => {
                let (account, signals) = (Arc::clone(account), Arc::clone(&self.signals));
                let telemetry = Arc::clone(&self.delivery.telemetry);
                let (tell, told) = oneshot::channel();
                tokio::spawn(async move {
                    // Nobody listens any more where a person resumed the account meanwhile.
                    tell.send(ask(&account, cause, &telemetry).await).ok();
                    signals.work.notify_one();
                });
                probe.asking = Some(told);
                return Ok(now + LOOK_AGAIN);
            }
            Some(mut told) => match told.try_recv() {
                Ok(works) => works,
                Err(oneshot::error::TryRecvError::Empty) => {
                    probe.asking = Some(told);
                    return Ok(now + LOOK_AGAIN);
                }
                Err(oneshot::error::TryRecvError::Closed) => false,
            },
        };
        if works {
            tracing::info!(account = account.scope, cause = cause.as_str(), "sending goes on");
            self.queue.resume_account(account.scope.clone(), cause).await?;
            account.start();
            probes.remove(&account.scope);
            return Ok(now);
        }
        probe.wait = (probe.wait * 2).min(PROBE_MAX.max(first));
        probe.at = Instant::now() + probe.wait;
        Ok(probe.at)
    }
}

/// Asks a stopped account whose key it has; returns whether sending may go on.
async fn ask(account: &Account, cause: Cause, telemetry: &Telemetry) -> bool {
    let exchange = account.client.whoami().await;
    let answer = outcome(&exchange, Timestamp::now());
    telemetry.called(&exchange, &answer);
    tracing::debug!(account = account.scope, ?answer, operation = Operation::Whoami.as_str(), "probed");
    // Whatever it says, it says something; an API without this call does not refuse the key by that.
    let speaks = matches!(answer, Outcome::Done(_) | Outcome::Refused(_) | Outcome::Throttled { .. });
    speaks || (cause == Cause::Outage && matches!(answer, Outcome::Paused { .. }))
}
