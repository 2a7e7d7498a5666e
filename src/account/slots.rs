//! The slots for in-flight calls.
//!
//! First come, first served, except that small calls keep a share of an account's slots: large bodies use it only while no
//! small call waits. [`ConcurrencyLimit`] decides how many slots an account has, since each may be behind a gateway of its
//! own.
//!
//! The places of the process are shared, but each account keeps some that no other can take: an API that was silent, or
//! flooded its connections, once held all of them until every call had timed out, and the other accounts waited for that.
//!
//! Dropping the future of [`Slots::acquire`] gives up its place in the line, or the slot that it was just given.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::Instant,
};

use crate::pacer::concurrency::{ConcurrencyLimit, LoadSignal, Sample};

/// Bodies of this size and more are large.
const LARGE_BYTES: u64 = 1 << 20;

/// With fewer slots than this, none are kept for small calls.
const WORTH_SHARING: usize = 4;

/// How `total` places are shared out among accounts: how many each keeps for itself. An account alone has all of them.
pub(crate) const fn kept_for_each(total: usize, accounts: usize) -> usize {
    if accounts < 2 || total < 2 * accounts {
        return 0;
    }
    let share = total / (4 * accounts);
    if share == 0 { 1 } else { share }
}

/// The places of a process, which its accounts share.
pub struct SlotPool {
    calls: usize,
    kept: usize,
    common: Arc<Semaphore>,
    /// The sum of what the accounts may have in flight.
    limits: AtomicUsize,
}

impl SlotPool {
    /// For this many calls at once and this many accounts.
    #[must_use]
    pub fn new(calls: usize, accounts: usize) -> Arc<Self> {
        let kept = kept_for_each(calls, accounts);
        let common = Arc::new(Semaphore::new(calls - kept * accounts));
        Arc::new(Self { calls, kept, common, limits: AtomicUsize::new(0) })
    }

    /// The slots of one of the accounts.
    #[must_use]
    pub fn slots(self: &Arc<Self>) -> Arc<Slots> {
        let limit = ConcurrencyLimit::new(self.calls);
        self.limits.fetch_add(limit.limit(), Ordering::Relaxed);
        Arc::new(Slots {
            state: Mutex::new(SlotState {
                limit,
                in_flight: 0,
                large: 0,
                small_line: VecDeque::new(),
                large_line: VecDeque::new(),
            }),
            started: Instant::now(),
            own: Arc::new(Semaphore::new(self.kept)),
            pool: Arc::clone(self),
        })
    }
}

/// The slots of an account.
pub struct Slots {
    state: Mutex<SlotState>,
    started: Instant,
    /// The places that no other account can take.
    own: Arc<Semaphore>,
    pool: Arc<SlotPool>,
}

struct SlotState {
    limit: ConcurrencyLimit,
    in_flight: usize,
    large: usize,
    small_line: VecDeque<oneshot::Sender<Permit>>,
    large_line: VecDeque<oneshot::Sender<Permit>>,
}

/// A slot with its place; dropping it frees both.
pub(super) struct Permit {
    slots: Arc<Slots>,
    large: bool,
    place: Option<OwnedSemaphorePermit>,
}

impl std::fmt::Debug for Permit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Permit").field("large", &self.large).finish_non_exhaustive()
    }
}

impl SlotState {
    /// How many slots small calls keep: a quarter.
    const fn kept(limit: usize) -> usize {
        if limit >= WORTH_SHARING { limit / 4 } else { 0 }
    }

    /// Whether a large call may take a slot now.
    fn large_fits(&self) -> bool {
        let limit = self.limit.limit();
        self.in_flight < limit && (self.small_line.is_empty() || self.large < limit - Self::kept(limit))
    }

    fn take(&mut self, large: bool) {
        self.in_flight += 1;
        self.large += usize::from(large);
    }

    /// The next call in line and whether it is large, where there is a slot for it.
    fn next(&mut self) -> Option<(oneshot::Sender<Permit>, bool)> {
        let limit = self.limit.limit();
        if self.in_flight >= limit {
            return None;
        }
        // Large calls go first as long as they stay out of the share, so that neither kind starves the other.
        let large_first = self.large < limit - Self::kept(limit) && self.large * 4 <= self.in_flight * 3;
        let large = if large_first && !self.large_line.is_empty() { true } else { self.small_line.is_empty() };
        let line = if large { &mut self.large_line } else { &mut self.small_line };
        let next = line.pop_front()?;
        self.take(large);
        Some((next, large))
    }
}

impl Slots {
    /// How many calls of all accounts may be in flight now.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.pool.limits.load(Ordering::Relaxed).min(self.pool.calls)
    }

    #[cfg(test)]
    fn in_flight(&self) -> usize {
        self.state().in_flight
    }

    /// Waits for a slot for a body of `bytes`, then for a place.
    pub(super) async fn acquire(self: &Arc<Self>, bytes: u64) -> Option<Permit> {
        let mut permit = self.slot(bytes).await?;
        let (own, common) = (Arc::clone(&self.own), Arc::clone(&self.pool.common));
        permit.place = tokio::select! {
            biased;
            own = own.acquire_owned() => own.ok(),
            common = common.acquire_owned() => common.ok(),
        };
        Some(permit)
    }

    async fn slot(self: &Arc<Self>, bytes: u64) -> Option<Permit> {
        let large = bytes >= LARGE_BYTES;
        let turn = {
            let mut state = self.state();
            let limit = state.limit.limit();
            let fits = if large {
                state.large_line.is_empty() && state.large_fits()
            } else {
                state.small_line.is_empty() && state.in_flight < limit
            };
            if fits {
                state.take(large);
                drop(state);
                return Some(Permit { slots: Arc::clone(self), large, place: None });
            }
            let (give, turn) = oneshot::channel();
            if large { &mut state.large_line } else { &mut state.small_line }.push_back(give);
            turn
        };
        turn.await.ok()
    }

    /// Learns from a call that took `took` and has just ended.
    pub(super) fn on_sample(self: &Arc<Self>, signal: LoadSignal, took: Duration, bytes: u64) {
        let now = self.started.elapsed();
        let sample = Sample { signal, began: now.saturating_sub(took), took, bytes };
        let (before, after) = {
            let mut state = self.state();
            let before = state.limit.limit();
            state.limit.on_sample(&sample, now);
            let after = state.limit.limit();
            self.pool.limits.fetch_add(after, Ordering::Relaxed);
            self.pool.limits.fetch_sub(before, Ordering::Relaxed);
            (before, after)
        };
        if after < before {
            tracing::debug!(limit = after, ?signal, "fewer calls at once");
        } else if after > before {
            self.hand_on();
        }
    }

    /// Gives free slots to the calls in line.
    fn hand_on(self: &Arc<Self>) {
        loop {
            let next = self.state().next();
            let Some((give, large)) = next else { return };
            // If the waiting call is gone, dropping the permit hands the slot on.
            drop(give.send(Permit { slots: Arc::clone(self), large, place: None }));
        }
    }

    fn state(&self) -> MutexGuard<'_, SlotState> {
        // A panic while the lock was held cannot leave the counts half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        {
            let mut state = self.slots.state();
            state.in_flight = state.in_flight.saturating_sub(1);
            state.large = state.large.saturating_sub(usize::from(self.large));
        }
        // Whoever gets the slot looks for a place.
        self.place = None;
        self.slots.hand_on();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const LARGE: u64 = 50_000_000;

    fn alone(calls: usize) -> Arc<Slots> {
        SlotPool::new(calls, 1).slots()
    }

    fn acquire(slots: &Arc<Slots>, bytes: u64) -> std::pin::Pin<Box<dyn Future<Output = Option<Permit>>>> {
        let slots = Arc::clone(slots);
        let mut waiting = Box::pin(async move { slots.acquire(bytes).await });
        assert!((&mut waiting).now_or_never().is_none(), "it had to wait");
        waiting
    }

    fn at_once(slots: &Arc<Slots>, bytes: u64) -> Permit {
        slots.acquire(bytes).now_or_never().flatten().expect("a free slot")
    }

    #[test]
    fn large_bodies_use_every_slot_while_nobody_small_waits() {
        let slots = alone(8);
        let held: Vec<_> = (0..8).map(|_| at_once(&slots, LARGE)).collect();
        assert_eq!(slots.in_flight(), 8);
        drop(held);
        assert_eq!(slots.in_flight(), 0);
    }

    #[test]
    fn small_bodies_get_their_share_back_as_soon_as_large_ones_end() {
        let slots = alone(8);
        let mut held: Vec<_> = (0..8).map(|_| at_once(&slots, LARGE)).collect();
        let mut large: Vec<_> = (0..20).map(|_| acquire(&slots, LARGE)).collect();
        let mut small: Vec<_> = (0..3).map(|_| acquire(&slots, 1000)).collect();
        // The first two slots that are free go to the small ones, although the large ones came first.
        held.truncate(6);
        let got = |waiting: &mut Vec<std::pin::Pin<Box<dyn Future<Output = Option<Permit>>>>>| {
            let mut got = Vec::new();
            waiting.retain_mut(|one| match one.now_or_never().flatten() {
                Some(permit) => {
                    got.push(permit);
                    false
                }
                None => true,
            });
            got
        };
        let served = got(&mut small);
        assert_eq!(served.len(), 2);
        assert!(got(&mut large).is_empty());
        // Beyond their share small ones do not keep large ones out.
        held.truncate(4);
        assert_eq!(got(&mut large).len() + got(&mut small).len(), 2);
    }

    #[test]
    fn a_dropped_holder_leaves_its_slot_to_the_next() {
        let slots = alone(1);
        let held = at_once(&slots, 1);
        let gone = acquire(&slots, 1);
        let given = acquire(&slots, 1);
        let mut last = acquire(&slots, 1);
        drop(gone);
        drop(held);
        // This one was given the slot and never polled.
        drop(given);
        let permit = (&mut last).now_or_never().flatten().expect("the slot comes to the last");
        assert_eq!(slots.in_flight(), 1);
        drop(permit);
        assert_eq!(slots.in_flight(), 0);
    }

    #[test]
    fn an_overload_leaves_fewer_slots() {
        let slots = alone(8);
        slots.on_sample(LoadSignal::Overloaded, Duration::ZERO, 1);
        assert_eq!(slots.limit(), 7);
        let _held: Vec<_> = (0..7).map(|_| at_once(&slots, 1)).collect();
        assert!(slots.acquire(1).now_or_never().is_none());
    }

    #[test]
    fn places_are_kept_for_each_account_where_there_are_enough() {
        let cases = [(16, 1, 0), (16, 2, 2), (16, 4, 1), (16, 8, 1), (16, 9, 0), (3, 2, 0), (1, 2, 0), (64, 2, 8)];
        assert_eq!(cases.map(|(calls, accounts, _)| kept_for_each(calls, accounts)), cases.map(|(.., kept)| kept));
    }

    #[test]
    fn an_account_whose_calls_never_end_leaves_the_others_their_places() {
        let pool = SlotPool::new(16, 3);
        let [silent, slow, quick] = [(); 3].map(|()| pool.slots());
        let held: Vec<_> = (0..14).map(|_| at_once(&silent, 1)).collect();
        let _waits = acquire(&silent, 1);
        let own = at_once(&slow, 1);
        let waits = acquire(&slow, 1);
        for _ in 0..3 {
            at_once(&quick, 1);
        }
        assert_eq!(silent.limit(), 16);
        // What one gives back, whoever has waited longest gets.
        drop((held, waits, own));
        at_once(&slow, 1);
    }
}
