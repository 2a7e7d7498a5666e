//! One account at the API: its client, its pace, and whether it may send at all.
//!
//! Shared by all jobs of the drops that use it. What it decides lives in [`crate::pacer`]; here are only the locks and
//! the waiting. A call first gets its turn from the pace, then a slot, so that a kind of call that has to wait keeps no
//! other kind from going on.

mod slots;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use self::slots::Permit;
pub use self::slots::Slots;
use crate::{
    api::Client,
    exchange::{Exchange, Fault},
    operation::Operation,
    outcome::{Outcome, PauseCause},
    pacer::{LimitReport, Pacer, Reservation, Room, Ticket, concurrency::LoadSignal},
    queue::control::Cause,
};

/// After so many calls in a row that failed for want of a working API, one call at a time finds out whether it works
/// again.
const FAILURES_TO_OUTAGE: u32 = 10;

/// How long an account whose trial call failed is left alone, first and at most.
const REST_FIRST: Duration = Duration::from_secs(2);
const REST_MAX: Duration = Duration::from_secs(60);

/// While one call is on trial, the others ask again so often at least.
const ON_TRIAL_LOOK: Duration = Duration::from_millis(200);

/// An account at the API.
pub struct Account {
    /// Under which it is paused: `account:` and its address, with the drop's name where that has its own key.
    pub scope: String,
    /// How it is reached.
    pub client: Client,
    slots: Arc<Slots>,
    state: Mutex<State>,
    /// An answer came that may let those go who had to ask again.
    answered: Notify,
    /// Held by whoever asks whether the key works.
    asking: tokio::sync::Mutex<()>,
    started: Instant,
}

struct State {
    pacer: Pacer,
    paused: Option<Cause>,
    failures: u32,
    last_success: Instant,
    /// When the last call began for which the key worked.
    key_worked: Option<Instant>,
    /// Calls that have their turn.
    under_way: usize,
    /// It was stopped, and no call has worked since: one goes out at a time.
    on_trial: bool,
    /// Calls were refused for the key, and whether the key works at all is not known yet: so many ask.
    doubts: usize,
    /// How long to leave it alone after its trial failed.
    rest: Duration,
}

/// A call's turn in the pace; where it is not used, it is given back.
struct Turn<'a> {
    account: &'a Account,
    operation: Operation,
    bytes: u64,
    ticket: Option<Ticket>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        {
            let mut state = self.account.state();
            state.under_way = state.under_way.saturating_sub(1);
            if let Some(ticket) = self.ticket.take() {
                state.pacer.cancel(self.operation, ticket, self.bytes, self.account.started.elapsed());
            }
        }
        self.account.answered.notify_waiters();
    }
}

/// Nothing goes out while this lives.
#[must_use]
pub struct Doubt<'a>(&'a Account);

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        {
            let mut state = self.0.state();
            state.doubts = state.doubts.saturating_sub(1);
        }
        self.0.answered.notify_waiters();
    }
}

/// A call may go out. Its slot is free again when this is dropped, or when [`Account::learn`] takes it.
#[must_use]
pub struct Slot<'a> {
    turn: Turn<'a>,
    _permit: Permit,
}

/// Why a call may not go out now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotNow {
    /// A limit leaves no room before so long.
    Later(Duration),
    /// The account is stopped.
    Paused(Cause),
}

impl Account {
    /// An account whose calls share `slots` with all others.
    #[must_use]
    pub fn new(scope: String, client: Client, slots: Arc<Slots>, pacer: Pacer) -> Self {
        let started = Instant::now();
        let state = State {
            pacer,
            paused: None,
            failures: 0,
            last_success: started,
            key_worked: None,
            under_way: 0,
            on_trial: false,
            doubts: 0,
            rest: Duration::ZERO,
        };
        let state = Mutex::new(state);
        Self { scope, client, slots, state, answered: Notify::new(), asking: tokio::sync::Mutex::default(), started }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held cannot leave the state half changed: every change is one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a short while for the pace, and for a slot. Safe to drop.
    ///
    /// # Errors
    ///
    /// [`NotNow`] where the job is better put off.
    pub async fn slot(&self, operation: Operation, bytes: u64) -> Result<Slot<'_>, NotNow> {
        loop {
            let answered = self.answered.notified();
            let reservation = {
                let mut state = self.state();
                if let Some(cause) = state.paused {
                    return Err(NotNow::Paused(cause));
                }
                let reservation = if state.doubts > 0 || (state.on_trial && state.under_way > 0) {
                    Reservation::AskAgain(ON_TRIAL_LOOK)
                } else {
                    state.pacer.reserve(operation, bytes, self.started.elapsed())
                };
                state.under_way += usize::from(matches!(reservation, Reservation::Granted(..)));
                reservation
            };
            let (wait, ticket) = match reservation {
                Reservation::Later(wait) => return Err(NotNow::Later(wait)),
                Reservation::AskAgain(wait) => {
                    // Whether an answer came or the time is over: it asks again.
                    drop(tokio::time::timeout(wait, answered).await);
                    continue;
                }
                Reservation::Granted(wait, ticket) => (wait, ticket),
            };
            let turn = Turn { account: self, operation, bytes, ticket: Some(ticket) };
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            // The line for slots is closed by nothing but a defect.
            let permit = self.slots.acquire(bytes).await.ok_or(NotNow::Paused(Cause::Operator))?;
            let still = {
                let mut state = self.state();
                if let Some(cause) = state.paused {
                    drop(state);
                    return Err(NotNow::Paused(cause));
                }
                // A doubt may have come up while it was in line.
                state.doubts == 0
                    && turn.ticket.is_some_and(|ticket| state.pacer.is_valid(operation, ticket, self.started.elapsed()))
            };
            if still {
                return Ok(Slot { turn, _permit: permit });
            }
        }
    }

    /// Learns from a call; returns the cause where the account should now be stopped.
    pub fn learn(&self, slot: Slot<'_>, exchange: &Exchange, outcome: &Outcome) -> Option<Cause> {
        let Slot { mut turn, _permit: permit } = slot;
        let (operation, bytes) = (turn.operation, turn.bytes);
        let limits = exchange.limits();
        let report = LimitReport {
            remaining: limits.and_then(|limits| limits.remaining),
            reset: limits.and_then(|limits| limits.full_in(exchange.started.after(exchange.took))),
        };
        // Every other answer, and silence after the whole request, may have been counted.
        let counted = exchange.result.is_ok() || exchange.handed_over;
        let now = self.started.elapsed();
        let cause = {
            let mut state = self.state();
            if let Some(ticket) = turn.ticket.take() {
                match outcome {
                    Outcome::Throttled { wait, .. } => state.pacer.on_refused(operation, ticket, report, *wait, now),
                    _ => state.pacer.on_answer(operation, ticket, report, counted, now),
                }
            }
            match outcome {
                Outcome::Done(_) | Outcome::Refused(_) => {
                    state.failures = 0;
                    state.last_success = Instant::now();
                    state.key_worked = state.last_success.checked_sub(exchange.took).max(state.key_worked);
                    state.on_trial = false;
                    state.rest = Duration::ZERO;
                    None
                }
                Outcome::TryAgain(_) | Outcome::Lost(_) => {
                    state.failures = state.failures.saturating_add(1);
                    let stops = state.on_trial || state.failures >= FAILURES_TO_OUTAGE;
                    let stops = stops && state.paused.is_none();
                    if stops && state.on_trial {
                        state.rest = (state.rest * 2).clamp(REST_FIRST, REST_MAX);
                    }
                    stops.then_some(Cause::Outage)
                }
                // At once: whoever else is in line would spend a call on the same answer.
                Outcome::Paused { cause: PauseCause::QuotaSpent, .. } => {
                    state.paused.is_none().then_some(Cause::QuotaSpent)
                }
                Outcome::Throttled { .. }
                | Outcome::Paused { cause: PauseCause::KeyRefused, .. }
                | Outcome::SourceChanged(_)
                | Outcome::SourceUnreadable(_) => None,
            }
        };
        self.slots.on_sample(load_signal(exchange, outcome), exchange.took, bytes);
        drop(permit);
        self.answered.notify_waiters();
        cause
    }

    /// Why it is stopped, if it is.
    #[must_use]
    pub fn paused(&self) -> Option<Cause> {
        self.state().paused
    }

    /// Stops it; returns whether it was not stopped before.
    pub fn stop(&self, cause: Cause) -> bool {
        let before = self.state().paused.replace(cause);
        self.answered.notify_waiters();
        before.is_none()
    }

    /// Lets it send again: one call at first, all once that has worked.
    pub fn start(&self) {
        let mut state = self.state();
        state.paused = None;
        state.failures = 0;
        state.on_trial = true;
    }

    /// How long to leave it alone after it was stopped, before anything is tried.
    #[must_use]
    pub fn rest(&self) -> Duration {
        self.state().rest
    }

    /// Holds back every further call until it is known whose refusal one was.
    pub fn doubt(&self) -> Doubt<'_> {
        self.state().doubts += 1;
        Doubt(self)
    }

    /// Finds out, after a call was refused for the key, whether the key works all the same: `refused` is when its answer
    /// came. One asks at a time, and nobody where a call that began later worked; one that began before may have been let in
    /// while the key was still good.
    pub async fn key_works_since<F>(&self, refused: Instant, ask: impl FnOnce() -> F + Send) -> bool
    where
        F: Future<Output = bool> + Send,
    {
        let _asking = self.asking.lock().await;
        {
            let state = self.state();
            if state.paused.is_some() {
                return false;
            }
            if state.key_worked.is_some_and(|began| began >= refused) {
                return true;
            }
        }
        let began = Instant::now();
        let works = ask().await;
        if works {
            self.state().key_worked = Some(began);
        }
        works
    }

    /// How many more jobs of it are worth taking up.
    #[must_use]
    pub fn room(&self) -> Room {
        let mut state = self.state();
        let room = state.pacer.room(self.started.elapsed());
        if !state.on_trial {
            return room;
        }
        let jobs = room.jobs.min(usize::from(state.under_way == 0));
        Room { jobs, again_in: room.again_in.max(ON_TRIAL_LOOK) }
    }

    /// How many calls may be under way now, of all accounts that share its slots.
    #[must_use]
    pub fn in_flight_limit(&self) -> usize {
        self.slots.limit()
    }

    /// How many calls are under way now, of all accounts that share its slots.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.slots.under_way()
    }

    /// How long no call has worked.
    #[must_use]
    pub fn without_success_for(&self) -> Duration {
        self.state().last_success.elapsed()
    }
}

/// What a call says about how loaded the API is.
fn load_signal(exchange: &Exchange, outcome: &Outcome) -> LoadSignal {
    if matches!(outcome, Outcome::Throttled { .. }) {
        return LoadSignal::Refused;
    }
    match &exchange.result {
        Ok(answer) if answer.status >= 500 => LoadSignal::Overloaded,
        Ok(_) => LoadSignal::Ok,
        Err(Fault::Reset(_) | Fault::Stalled(_) | Fault::NoAnswer(_) | Fault::Connect(_)) => LoadSignal::Overloaded,
        Err(
            Fault::Resolve(_) | Fault::Tls(_) | Fault::SourceChanged | Fault::SourceUnreadable(_) | Fault::Local(_),
        ) => LoadSignal::None,
    }
}
