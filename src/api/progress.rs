//! How far a request's body has come, shared by the body, which the HTTP layer owns, and the call that watches it.
//!
//! This is not a progress bar: it exists to know whether a server can have the complete body. Invariant: the phase
//! changes under one lock, so a body that was stopped never becomes complete, and a complete one is never taken back.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Waker},
};

use tokio::{sync::Notify, time::Instant};

/// The phase of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyPhase {
    /// The HTTP layer has not asked for it yet: the connection is not up.
    Idle,
    /// It is being pulled.
    Sending,
    /// An answer came early: nothing more is given, but the connection stays up so that the answer can be read.
    Held,
    /// Its last frame was handed over.
    Complete,
    /// It was stopped before its last frame.
    Cancelled,
}

/// Why a body could not be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The file is not the one that was checked.
    Changed,
    /// The file cannot be read; the system's own words.
    Unreadable(String),
}

/// What a body may do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// Give the next frame.
    Open,
    /// Give nothing; the waker is kept.
    Shut,
    /// End with an error.
    Cancelled,
}

/// What a watcher sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// Not asked for yet.
    Idle,
    /// Last pulled at this moment.
    Sending { pulled_at: Instant, waits_for_disk: bool },
    /// Handed over at this moment, or stopped then.
    Over { at: Instant },
}

#[derive(Debug)]
struct State {
    phase: BodyPhase,
    bytes: u64,
    moved_at: Instant,
    waits_for_disk: bool,
    failure: Option<Failure>,
    waker: Option<Waker>,
}

/// A shared view of one body's progress; clones are the same view.
#[derive(Debug, Clone)]
pub struct BodyProgress {
    state: Arc<Mutex<State>>,
    turned: Arc<Notify>,
}

impl Default for BodyProgress {
    fn default() -> Self {
        Self::new()
    }
}

impl BodyProgress {
    /// The progress of a body that nobody has asked for yet.
    #[must_use]
    pub fn new() -> Self {
        let state = State {
            phase: BodyPhase::Idle,
            bytes: 0,
            moved_at: Instant::now(),
            waits_for_disk: false,
            failure: None,
            waker: None,
        };
        Self { state: Arc::new(Mutex::new(state)), turned: Arc::new(Notify::new()) }
    }

    /// How many bytes of the body, as encoded, the HTTP layer has taken.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    /// Whether the last frame was taken by the HTTP layer.
    ///
    /// Whether it reached the socket cannot be known, so from here on the server may have the complete body.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.lock().phase == BodyPhase::Complete
    }

    /// Why the body could not be made, if so.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        self.lock().failure.clone()
    }

    /// Ends the body with an error at its next poll, unless it is complete.
    ///
    /// Needed because the HTTP layer keeps polling a body after its answer was read and dropped, for as long as the
    /// server reads.
    pub fn cancel(&self) {
        self.shut(BodyPhase::Cancelled);
    }

    /// Lets the body give nothing more until it is cancelled, unless it is complete.
    ///
    /// An error would close the connection, and with it lose the answer that is being read.
    pub(super) fn hold(&self) {
        self.shut(BodyPhase::Held);
    }

    fn shut(&self, phase: BodyPhase) {
        let waker = {
            let mut state = self.lock();
            if matches!(state.phase, BodyPhase::Complete | BodyPhase::Cancelled) {
                return;
            }
            state.phase = phase;
            state.moved_at = Instant::now();
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Notes that the HTTP layer asks for a frame.
    pub(super) fn enter(&self, context: &Context<'_>) -> Gate {
        let mut state = self.lock();
        match state.phase {
            BodyPhase::Idle | BodyPhase::Sending => {
                if state.phase == BodyPhase::Idle {
                    state.phase = BodyPhase::Sending;
                    self.turned.notify_one();
                }
                state.moved_at = Instant::now();
                state.waker = Some(context.waker().clone());
                Gate::Open
            }
            BodyPhase::Held => {
                state.waker = Some(context.waker().clone());
                Gate::Shut
            }
            BodyPhase::Complete => Gate::Open,
            BodyPhase::Cancelled => Gate::Cancelled,
        }
    }

    /// Notes whether the body waits for its file rather than for the network.
    pub(super) fn set_waits_for_disk(&self, waits: bool) {
        self.lock().waits_for_disk = waits;
    }

    /// Asks to hand over `bytes` bytes; `false` where the body was stopped meanwhile.
    pub(super) fn hand_over(&self, bytes: usize, last: bool) -> bool {
        let mut state = self.lock();
        if state.phase != BodyPhase::Sending {
            return false;
        }
        state.bytes = state.bytes.saturating_add(bytes as u64);
        if last {
            state.phase = BodyPhase::Complete;
            state.moved_at = Instant::now();
            state.waker = None;
            self.turned.notify_one();
        }
        true
    }

    /// Notes why the body ends with an error.
    pub(super) fn fail(&self, failure: Failure) {
        let mut state = self.lock();
        state.failure.get_or_insert(failure);
    }

    /// Waits until the body is first asked for, or its last frame is handed over; says nothing of frames between.
    ///
    /// Dropping the future is safe; one task may wait at a time.
    pub(super) async fn turned(&self) {
        self.turned.notified().await;
    }

    /// What a watcher needs to know.
    pub(super) fn sight(&self) -> Sight {
        let state = self.lock();
        match state.phase {
            BodyPhase::Idle => Sight::Idle,
            BodyPhase::Sending => Sight::Sending { pulled_at: state.moved_at, waits_for_disk: state.waits_for_disk },
            BodyPhase::Held | BodyPhase::Complete | BodyPhase::Cancelled => Sight::Over { at: state.moved_at },
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics under this lock, and each field is consistent by itself.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_body_never_becomes_complete() {
        for stop in [BodyProgress::hold, BodyProgress::cancel] {
            let progress = BodyProgress::new();
            let context = Context::from_waker(Waker::noop());
            assert_eq!(progress.enter(&context), Gate::Open);
            assert!(progress.hand_over(10, false));
            stop(&progress);
            assert!(!progress.hand_over(5, true));
            assert!(!progress.is_complete());
            assert_eq!(progress.bytes(), 10);
        }
    }

    #[test]
    fn a_complete_body_stays_complete() {
        let progress = BodyProgress::new();
        assert_eq!(progress.enter(&Context::from_waker(Waker::noop())), Gate::Open);
        assert!(progress.hand_over(10, true));
        progress.hold();
        progress.cancel();
        assert!(progress.is_complete());
    }

    #[test]
    fn a_held_body_can_still_be_cancelled() {
        let progress = BodyProgress::new();
        progress.hold();
        let context = Context::from_waker(Waker::noop());
        assert_eq!(progress.enter(&context), Gate::Shut);
        progress.cancel();
        assert_eq!(progress.enter(&context), Gate::Cancelled);
    }
}
