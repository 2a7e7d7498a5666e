//! One account at the API: its client, its pacer and its circuit breaker.
//!
//! Shared by all jobs of the drops that use it. Decisions live in [`crate::pacer`] and `breaker`; this module holds the
//! locks and does the waiting. A call first reserves its place with the pacer, then takes a slot, so that a kind of call
//! that has to wait does not block the other kinds.

mod breaker;
mod slots;
mod witness;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

pub(crate) use self::slots::kept_for_each;
pub use self::slots::{SlotPool, Slots};
use self::{
    breaker::{Admits, Breaker},
    slots::Permit,
    witness::Witness,
};
use crate::{
    api::Client,
    clock::Timestamp,
    entry::ProfileId,
    estimate::{AccountPace, Constraint, Counted, SpeedMeter},
    exchange::{Exchange, Fault},
    operation::Operation,
    outcome::{Outcome, PauseCause},
    pacer::{LimitReport, Pacer, Reservation, Room, Ticket, concurrency::LoadSignal},
    queue::control::Cause,
};

/// While a trial call is in flight, other calls ask again at least this often.
const TRIAL_POLL_INTERVAL: Duration = Duration::from_millis(200);

/// An account at the API.
pub struct Account {
    /// Under which it is paused: `account:` and its address, with the drop's name where that has its own key.
    pub scope: String,
    /// The API's address, without a password that may be part of it.
    pub base_url: String,
    /// The digest of its key.
    pub key: [u8; 32],
    /// How it is reached.
    pub client: Client,
    slots: Arc<Slots>,
    state: Mutex<AccountState>,
    /// Wakes the calls that wait to ask again.
    answered: Notify,
    /// Held while one call asks whether the key works.
    asking: tokio::sync::Mutex<()>,
    started: Instant,
}

struct AccountState {
    pacer: Pacer,
    meter: SpeedMeter,
    /// Since when limits leave no room, as it was recorded last.
    reached: Vec<(Constraint, Counted, i64)>,
    /// How fast it could send when an earlier process recorded that, and when that was, in milliseconds since 1970.
    earlier: (AccountPace, i64),
    breaker: Breaker,
    witness: Witness,
    last_success: Instant,
    /// When the latest call began for which the key worked.
    key_worked: Option<Instant>,
    /// When the API answered last, whatever it said.
    last_answer: Option<Instant>,
    /// Calls that hold a reservation.
    in_flight: usize,
    /// Refusals of the key that are being checked; no call goes out meanwhile.
    key_doubts: usize,
}

/// A call's reservation with the pacer; cancelled on drop unless the call was sent.
struct ReservedTurn<'a> {
    account: &'a Account,
    operation: Operation,
    bytes: u64,
    ticket: Option<Ticket>,
    /// Whether the meter counts it as under way.
    is_metered: bool,
}

impl Drop for ReservedTurn<'_> {
    fn drop(&mut self) {
        {
            let mut state = self.account.state();
            if self.is_metered {
                state.meter.on_ended(self.account.started.elapsed(), None);
            }
            state.in_flight = state.in_flight.saturating_sub(1);
            if let Some(ticket) = self.ticket.take() {
                state.pacer.cancel(self.operation, ticket, self.bytes, self.account.started.elapsed());
            }
        }
        self.account.answered.notify_waiters();
    }
}

/// A doubt about the key: no call goes out while this lives.
#[must_use]
pub struct Doubt<'a>(&'a Account);

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        {
            let mut state = self.0.state();
            state.key_doubts = state.key_doubts.saturating_sub(1);
        }
        self.0.answered.notify_waiters();
    }
}

/// Permission for one call. Its slot is freed when this is dropped, or when [`Account::learn`] takes it.
#[must_use]
pub struct CallSlot<'a> {
    turn: ReservedTurn<'a>,
    _permit: Permit,
}

/// Why a call may not go out now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendBlocked {
    /// A limit leaves no room before this time has passed.
    Later(Duration),
    /// The account is stopped.
    Paused(Cause),
}

impl Account {
    /// An account with these slots; `of_key` is the API's address and the digest of the key.
    #[must_use]
    pub fn new(scope: String, of_key: (String, [u8; 32]), client: Client, slots: Arc<Slots>, pacer: Pacer) -> Self {
        let started = Instant::now();
        let state = AccountState {
            pacer,
            meter: SpeedMeter::default(),
            earlier: (AccountPace::default(), 0),
            reached: Vec::new(),
            breaker: Breaker::new(),
            witness: Witness::default(),
            last_success: started,
            key_worked: None,
            last_answer: None,
            in_flight: 0,
            key_doubts: 0,
        };
        let state = Mutex::new(state);
        let (base_url, key) = of_key;
        Self {
            scope,
            base_url,
            key,
            client,
            slots,
            state,
            answered: Notify::new(),
            asking: tokio::sync::Mutex::default(),
            started,
        }
    }

    fn state(&self) -> MutexGuard<'_, AccountState> {
        // A panic while the lock was held cannot leave the state half changed: every change is one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits briefly for the pacer, then for a slot. Cancel safe.
    ///
    /// # Errors
    ///
    /// [`SendBlocked`] where the job is better postponed.
    pub async fn slot(&self, operation: Operation, bytes: u64) -> Result<CallSlot<'_>, SendBlocked> {
        loop {
            let answered = self.answered.notified();
            let reservation = {
                let mut state = self.state();
                let reservation = match state.breaker.admits(state.in_flight) {
                    Admits::No(cause) => return Err(SendBlocked::Paused(cause)),
                    Admits::Yes if state.key_doubts == 0 => {
                        state.pacer.reserve(operation, bytes, self.started.elapsed())
                    }
                    Admits::Yes | Admits::AfterTrial => Reservation::AskAgain(TRIAL_POLL_INTERVAL),
                };
                state.in_flight += usize::from(matches!(reservation, Reservation::Granted(..)));
                reservation
            };
            let (wait, ticket) = match reservation {
                Reservation::Later(wait) => return Err(SendBlocked::Later(wait)),
                Reservation::AskAgain(wait) => {
                    // Woken by an answer or by the timeout: either way it asks again.
                    drop(tokio::time::timeout(wait, answered).await);
                    continue;
                }
                Reservation::Granted(wait, ticket) => (wait, ticket),
            };
            let mut turn = ReservedTurn { account: self, operation, bytes, ticket: Some(ticket), is_metered: false };
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            // Only a defect closes the line for slots.
            let permit = self.slots.acquire(bytes).await.ok_or(SendBlocked::Paused(Cause::Operator))?;
            let still = {
                let mut state = self.state();
                if let Some(cause) = state.breaker.open_cause() {
                    drop(state);
                    return Err(SendBlocked::Paused(cause));
                }
                // A doubt may have come up while it waited for a slot.
                state.key_doubts == 0
                    && turn.ticket.is_some_and(|ticket| state.pacer.is_valid(operation, ticket, self.started.elapsed()))
            };
            if still {
                self.state().meter.on_sent(self.started.elapsed(), !wait.is_zero());
                turn.is_metered = true;
                return Ok(CallSlot { turn, _permit: permit });
            }
        }
    }

    /// Learns from a call; returns the cause where it trips the breaker and the account is to be paused.
    pub fn learn(&self, slot: CallSlot<'_>, exchange: &Exchange, outcome: &Outcome) -> Option<Cause> {
        let CallSlot { mut turn, _permit: permit } = slot;
        let (operation, bytes) = (turn.operation, turn.bytes);
        let limits = exchange.limits();
        let report = LimitReport {
            remaining: limits.and_then(|limits| limits.remaining),
            reset: limits.and_then(|limits| limits.full_in(exchange.started.after(exchange.took))),
        };
        // The API may have counted a call that it answered, and one that got no answer after its complete request was
        // sent.
        let counted = exchange.result.is_ok() || exchange.handed_over;
        let now = self.started.elapsed();
        let cause = {
            let mut state = self.state();
            let does_work = matches!(outcome, Outcome::Done(_))
                && matches!(operation, Operation::UploadImage | Operation::UploadFile | Operation::CreateDocument);
            state.meter.on_ended(now, does_work.then_some((exchange.took, bytes)));
            if exchange.result.is_ok() {
                state.last_answer = Some(Instant::now());
            }
            turn.is_metered = false;
            if let Some(ticket) = turn.ticket.take() {
                match outcome {
                    Outcome::Throttled { wait, .. } => state.pacer.on_refused(operation, ticket, report, *wait, now),
                    _ => state.pacer.on_answer(operation, ticket, report, counted, now),
                }
            }
            match outcome {
                Outcome::Done(_) | Outcome::Refused(_) => state.pacer.on_worked(operation),
                Outcome::TryAgain(_) | Outcome::Unattributed(_) | Outcome::Lost(_) => {
                    let ended = exchange.started.after(exchange.took);
                    if let Some(asked) = limits.and_then(|limits| limits.wait_after_failure(ended)) {
                        state.pacer.on_failed(operation, asked, now);
                    }
                }
                _ => {}
            }
            match outcome {
                // A gateway may have said this one of the body's size or type.
                Outcome::Refused(reason) if reason.code.is_none() && matches!(reason.status, Some(413..=415)) => None,
                Outcome::Done(_) | Outcome::Refused(_) => {
                    state.last_success = Instant::now();
                    state.key_worked = state.last_success.checked_sub(exchange.took).max(state.key_worked);
                    state.breaker = state.breaker.on_success();
                    None
                }
                Outcome::TryAgain(_) | Outcome::Unattributed(_) | Outcome::Lost(_) => {
                    let (breaker, trip) = state.breaker.on_failure();
                    state.breaker = breaker;
                    trip
                }
                Outcome::Paused { cause: PauseCause::QuotaSpent, .. } => {
                    let (breaker, trip) = state.breaker.on_quota_spent();
                    state.breaker = breaker;
                    trip
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

    /// Notes what a call showed of its profile.
    pub fn note_profile(&self, profile: &ProfileId, outcome: &Outcome) {
        let now = Instant::now();
        match outcome {
            Outcome::Done(_) => self.state().witness.worked(profile, now),
            Outcome::Unattributed(_) => self.state().witness.refused(profile, now),
            _ => {}
        }
    }

    /// Whether, for as long as this, calls of other profiles have worked and none was refused by what may be a gateway;
    /// no where this process has not watched for as long.
    #[must_use]
    pub fn others_work(&self, profile: &ProfileId, lasting: Duration) -> bool {
        let since = Instant::now().checked_sub(lasting).filter(|since| *since >= self.started);
        since.is_some_and(|since| self.state().witness.only_this(profile, since))
    }

    /// Why it is paused, if it is.
    #[must_use]
    pub fn paused(&self) -> Option<Cause> {
        self.state().breaker.open_cause()
    }

    /// Pauses it (opens the breaker); returns whether it was not paused for this cause before.
    pub fn stop(&self, cause: Cause) -> bool {
        let before = {
            let mut state = self.state();
            let before = state.breaker.open_cause();
            state.breaker = state.breaker.on_pause(cause);
            before
        };
        self.answered.notify_waiters();
        before != Some(cause)
    }

    /// Resumes it (makes the breaker half-open): one trial call at a time, and all calls once one has worked.
    pub fn start(&self) {
        let mut state = self.state();
        state.breaker = state.breaker.on_resume();
    }

    /// How long to leave the API alone before anything is tried.
    #[must_use]
    pub fn rest(&self) -> Duration {
        self.state().breaker.rest()
    }

    /// Holds back every further call until it is known whether a refusal means the key or only one profile.
    pub fn doubt(&self) -> Doubt<'_> {
        self.state().key_doubts += 1;
        Doubt(self)
    }

    /// Asks whether the key works, after a call was refused for it at `refused`. One caller asks at a time, and none where
    /// a call that began later worked; one that began before may have been accepted while the key was still good.
    pub async fn key_works_since<F>(&self, refused: Instant, ask: impl FnOnce() -> F + Send) -> bool
    where
        F: Future<Output = bool> + Send,
    {
        let _asking = self.asking.lock().await;
        {
            let state = self.state();
            if state.breaker.open_cause().is_some() {
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

    /// How many more of its jobs are worth claiming.
    #[must_use]
    pub fn room(&self) -> Room {
        let mut state = self.state();
        let room = state.pacer.room(self.started.elapsed());
        if !state.breaker.is_half_open() {
            return room;
        }
        let jobs = room.jobs.min(usize::from(state.in_flight == 0));
        Room { jobs, again_in: room.again_in.max(TRIAL_POLL_INTERVAL) }
    }

    /// Goes on from how fast an earlier process could send, and did.
    pub fn continue_from(&self, earlier: AccountPace, at: Timestamp) {
        let mut state = self.state();
        state.meter = SpeedMeter::continuing(earlier.measured);
        state.reached.clone_from(&earlier.reached);
        state.earlier = (earlier, at.0);
    }

    /// How fast it may send now, and does; for these drops.
    #[must_use]
    pub fn pace(&self, drops: Vec<String>, now: Timestamp) -> AccountPace {
        let mut state = self.state();
        let (earlier, at) = &state.earlier;
        let limits = state.pacer.limits(self.started.elapsed(), &earlier.limits_after(now.0 - at));
        let before = std::mem::take(&mut state.reached);
        let reached = limits.iter().filter(|limit| limit.level < 1.0).map(|limit| {
            let known = before.iter().find(|(of, what, _)| *of == limit.constraint && *what == limit.counted);
            (limit.constraint, limit.counted, known.map_or(now.0, |(.., since)| *since))
        });
        let reached: Vec<_> = reached.collect();
        state.reached.clone_from(&reached);
        let answered_at = state.last_answer.map(|at| now.0 - i64::try_from(at.elapsed().as_millis()).unwrap_or(0));
        AccountPace {
            scope: self.scope.clone(),
            drops,
            limits,
            measured: state.meter.measured(),
            reached,
            in_flight: (state.in_flight, self.slots.limit()),
            answered_at: answered_at.or(state.earlier.0.answered_at),
        }
    }

    /// How many calls may be in flight now, of all accounts that share its places.
    #[must_use]
    pub fn in_flight_limit(&self) -> usize {
        self.slots.limit()
    }

    /// Time since a call last worked.
    #[must_use]
    pub fn without_success_for(&self) -> Duration {
        self.state().last_success.elapsed()
    }
}

/// What a call says about the load of the API.
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

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;
    use crate::{api::ClientSettings, pacer::ConfiguredLimits};

    #[tokio::test]
    async fn each_cause_of_a_stop_is_news_once() {
        let second = Duration::from_secs(1);
        let client = Client::new(&ClientSettings {
            base_url: "http://127.0.0.1:9".to_owned(),
            key: SecretString::from("key"),
            connect_timeout: second,
            stall_timeout: second,
            response_timeout: second,
            ca_file: None,
            proxy: None,
            data_uri: false,
            max_connections_hint: 1,
        })
        .unwrap();
        let limits = ConfiguredLimits { documents_per_hour: None, requests_per_second: None, bytes_per_second: None };
        let account = Account::new(
            "account:a".to_owned(),
            ("a".to_owned(), [0; 32]),
            client,
            SlotPool::new(1, 1).slots(),
            Pacer::new(&limits, &[]),
        );
        let causes = [Cause::Outage, Cause::Outage, Cause::QuotaSpent, Cause::QuotaSpent, Cause::Outage];
        assert_eq!(causes.map(|cause| account.stop(cause)), [true, false, true, false, true]);
        assert_eq!(account.paused(), Some(Cause::Outage));
        account.start();
        assert_eq!(account.paused(), None);
    }
}
