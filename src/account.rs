//! One account at the API: its client, its pace, and whether it may send at all.
//!
//! Shared by all jobs of the drops that use it. What it decides lives in [`crate::pacer`]; here are only the locks, the
//! waiting, and the slots that bound how many calls are under way.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::{
    api::Client,
    outcome::{Operation, Outcome},
    pacer::{Pacer, Place},
    queue::control::Cause,
};

/// After so many calls in a row that failed for want of a working API, one call at a time finds out whether it works
/// again.
const FAILURES_TO_OUTAGE: u32 = 10;

/// An account at the API.
pub struct Account {
    /// Under which it is paused: `account:` and its address, with the drop's name where that has its own key.
    pub scope: String,
    /// How it is reached.
    pub client: Client,
    slots: Arc<Semaphore>,
    state: Mutex<State>,
    started: Instant,
}

struct State {
    pacer: Pacer,
    paused: Option<Cause>,
    failures: u32,
    last_success: Instant,
}

/// A call may go out; its slot is free again when this is dropped.
#[derive(Debug)]
pub struct Slot {
    _permit: OwnedSemaphorePermit,
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
    pub fn new(scope: String, client: Client, slots: Arc<Semaphore>, pacer: Pacer) -> Self {
        let started = Instant::now();
        let state = State { pacer, paused: None, failures: 0, last_success: started };
        Self { scope, client, slots, state: Mutex::new(state), started }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held cannot leave the state half changed: every change is one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a slot, and for a short while for the pace. Safe to drop.
    ///
    /// # Errors
    ///
    /// [`NotNow`] where the job is better put off.
    pub async fn slot(&self, operation: Operation, bytes: u64) -> Result<Slot, NotNow> {
        let permit = Arc::clone(&self.slots).acquire_owned().await.map_err(|_| NotNow::Paused(Cause::Operator))?;
        let place = {
            let mut state = self.state();
            if let Some(cause) = state.paused {
                return Err(NotNow::Paused(cause));
            }
            state.pacer.place(operation, bytes, self.started.elapsed())
        };
        match place {
            Place::Later(wait) => Err(NotNow::Later(wait)),
            Place::After(wait) => {
                if !wait.is_zero() {
                    tokio::time::sleep(wait).await;
                    if let Some(cause) = self.paused() {
                        return Err(NotNow::Paused(cause));
                    }
                }
                Ok(Slot { _permit: permit })
            }
        }
    }

    /// Learns from the outcome of a call; returns the cause where the account should now be stopped.
    pub fn learn(&self, operation: Operation, outcome: &Outcome) -> Option<Cause> {
        let mut state = self.state();
        match outcome {
            Outcome::Throttled { wait, .. } => {
                let wait = wait.unwrap_or(Duration::from_secs(1));
                state.pacer.asked_to_wait(operation, wait, self.started.elapsed());
                None
            }
            Outcome::Done(_) | Outcome::Refused(_) => {
                state.failures = 0;
                state.last_success = Instant::now();
                None
            }
            Outcome::TryAgain(_) | Outcome::Lost(_) => {
                state.failures = state.failures.saturating_add(1);
                (state.failures >= FAILURES_TO_OUTAGE && state.paused.is_none()).then_some(Cause::Outage)
            }
            Outcome::Paused { .. } | Outcome::SourceChanged(_) | Outcome::SourceUnreadable(_) => None,
        }
    }

    /// Why it is stopped, if it is.
    #[must_use]
    pub fn paused(&self) -> Option<Cause> {
        self.state().paused
    }

    /// Stops it; returns whether it was not stopped before.
    pub fn stop(&self, cause: Cause) -> bool {
        self.state().paused.replace(cause).is_none()
    }

    /// Lets it send again.
    pub fn start(&self) {
        let mut state = self.state();
        state.paused = None;
        state.failures = 0;
    }

    /// How long no job of it can get far, so that none need be taken.
    #[must_use]
    pub fn blocked_for(&self) -> Duration {
        self.state().pacer.blocked_for(self.started.elapsed())
    }

    /// How long no call has worked.
    #[must_use]
    pub fn without_success_for(&self) -> Duration {
        self.state().last_success.elapsed()
    }
}
