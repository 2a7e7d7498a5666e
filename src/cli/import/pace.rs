//! How fast an import takes entries in beside the sending of those that are in.
//!
//! Both need the processor and the database. Taking in at full speed left a sixth of its rate to sending, for a third of
//! the import's time; so it rests while there is plenty to send. [`may_continue`] decides, from counts and times alone.

use std::{
    cell::Cell,
    thread,
    time::{Duration, Instant},
};

use crate::queue::{Reader, views::progress::SendingState};

/// Jobs that keep all workers busy until the next look.
const PLENTY: u64 = 256;

/// A rest is so many times as long as the work before it.
const REST: u32 = 2;

/// Between two looks during a rest.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Of a list of at least so many entries, a twentieth is taken in before the first document is created: what is wrong with
/// all of them shows while little has been done. Where nothing is being sent, that is waited for only so long.
const LONG: u64 = 200;
const FIRST_DOCUMENT: Duration = Duration::from_secs(10);

/// Paces the admission of one import.
pub(super) struct AdmissionPace<'a> {
    /// Where nothing can be read, nothing is waited for.
    reader: Option<Reader>,
    drop: &'a str,
    stopped: &'a dyn Fn() -> bool,
    /// What had been created before; `None` once the first document of this import has been, or was waited for.
    created_before: Cell<Option<u64>>,
    /// When the last rest ended.
    since: Cell<Instant>,
}

impl<'a> AdmissionPace<'a> {
    pub(super) fn new(reader: Option<Reader>, drop: &'a str, stopped: &'a dyn Fn() -> bool) -> Self {
        let pace = Self { reader, drop, stopped, created_before: Cell::new(None), since: Cell::new(Instant::now()) };
        pace.created_before.set(pace.state().map(|state| state.created));
        pace
    }

    fn state(&self) -> Option<SendingState> {
        self.reader.as_ref()?.sending_state(self.drop).ok()
    }

    /// Rests after a part, where so many of all are in.
    pub(super) fn rest(&self, admitted: u64, total: u64) {
        let worked = self.since.get().elapsed();
        let began = Instant::now();
        let mut sent = began;
        while !(self.stopped)()
            && let Some(state) = self.state()
        {
            if self.created_before.get().is_some_and(|before| state.created != before) {
                self.created_before.set(None);
            }
            if state.running > 0 {
                sent = Instant::now();
            }
            let is_first = self.created_before.get().is_some() && is_first_part(admitted, total);
            let rested = if is_first { sent.elapsed() } else { began.elapsed() };
            if may_continue(state, is_first, worked, rested) {
                if is_first {
                    self.created_before.set(None);
                }
                break;
            }
            thread::sleep(LOOK_INTERVAL);
        }
        self.since.set(Instant::now());
    }
}

/// Whether as much of a long list is in as may be before the first document is created.
const fn is_first_part(admitted: u64, total: u64) -> bool {
    total >= LONG && admitted >= total / 20
}

/// Whether more is taken in now. `is_first`: only the first part is in, and no document was created yet; then `rested` is
/// for how long nothing is being sent.
fn may_continue(state: SendingState, is_first: bool, worked: Duration, rested: Duration) -> bool {
    if is_first {
        // What is held back, or waits for something else than a worker, creates nothing.
        return state.queued + state.running == 0 || rested >= FIRST_DOCUMENT;
    }
    state.queued < PLENTY || rested >= worked * REST
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(queued: u64, running: u64) -> SendingState {
        SendingState { queued, running, created: 0 }
    }

    #[test]
    fn taking_in_rests_only_while_there_is_plenty_to_send() {
        let ms = Duration::from_millis;
        for (queued, worked, rested, expected) in [
            (0, 10, 0, true),
            (PLENTY - 1, 10, 0, true),
            (PLENTY, 10, 0, false),
            (PLENTY, 10, 19, false),
            (PLENTY, 10, 20, true),
            (1_000_000, 10, 20, true),
        ] {
            assert_eq!(
                may_continue(state(queued, 16), false, ms(worked), ms(rested)),
                expected,
                "{queued} after {rested}"
            );
        }
    }

    #[test]
    fn the_first_part_waits_for_the_first_document_as_long_as_one_may_come() {
        assert!(!may_continue(state(10, 0), true, Duration::ZERO, Duration::from_secs(9)));
        assert!(!may_continue(state(0, 1), true, Duration::ZERO, Duration::from_secs(9)));
        assert!(may_continue(state(0, 0), true, Duration::ZERO, Duration::ZERO));
        assert!(may_continue(state(10, 0), true, Duration::ZERO, FIRST_DOCUMENT));
        let parts = [(49, 1000), (50, 1000), (19, 199)];
        assert_eq!(parts.map(|(admitted, total)| is_first_part(admitted, total)), [false, true, false]);
    }
}
