//! What health is judged by, and sums of it.

use crate::{
    clock::Timestamp,
    finish::Finish,
    job::JobState,
    queue::{
        announced::{ExpectedDrops, ReceiverState},
        lock::Holder,
        views::{
            causes::CauseRow,
            overview::{ArrivalRow, Overview, Tally},
        },
    },
    waits::SendingWaits,
};

/// What it is judged by.
#[derive(Debug, Clone, Copy)]
pub struct HealthFacts<'a> {
    pub now: Timestamp,
    /// The folder of the database.
    pub folder: &'a str,
    pub worker: Option<&'a Holder>,
    /// Why the last start refused to work on the queue.
    pub refused: Option<&'a str>,
    pub queue: &'a Overview,
    /// The first of the manifests that are not admitted.
    pub arrivals: &'a [ArrivalRow],
    pub sending: &'a SendingWaits,
    /// The first causes of open failures.
    pub causes: &'a [CauseRow],
    /// How drops are doing against what is expected of them.
    pub expected: &'a ExpectedDrops,
    /// Receivers of alerts that take nothing.
    pub receivers: &'a [ReceiverState],
    pub finish: Option<Finish>,
    /// When the worker last recorded anything.
    pub worked_at: Option<Timestamp>,
}

impl HealthFacts<'_> {
    /// Jobs of all drops in a state.
    pub(super) fn jobs(&self, state: JobState) -> u64 {
        self.queue.drops.iter().map(|drop| drop.jobs_in(state)).sum()
    }

    /// Jobs that have not ended and that nobody holds.
    pub(super) fn open(&self) -> u64 {
        self.queue.drops.iter().map(Tally::open_jobs).sum()
    }

    /// The same of the drops of a pause's scope; `None` where it is not known which those are.
    pub(super) fn open_in(&self, scope: &str) -> Option<u64> {
        if scope.is_empty() {
            return Some(self.open());
        }
        let of = |names: &[String]| {
            self.queue.drops.iter().filter(|drop| names.contains(&drop.drop)).map(Tally::open_jobs).sum::<u64>()
        };
        match scope.strip_prefix("drop:") {
            Some(drop) => Some(of(&[drop.to_owned()])),
            None => {
                self.sending.accounts.iter().find(|account| account.scope == scope).map(|account| of(&account.drops))
            }
        }
    }

    /// Whether anything that is left can move now.
    pub(super) fn moves(&self) -> bool {
        let can = |drop: &Tally| {
            drop.jobs_in(JobState::Running) > 0
                || (drop.jobs_in(JobState::Queued) > 0
                    && !self.sending.blocks(&drop.drop)
                    && self.sending.limit_of(&drop.drop).is_none())
        };
        self.queue.drops.iter().any(can)
    }

    /// Manifests in drops that are not taken in.
    pub(super) fn waiting_manifests(&self) -> u64 {
        self.queue.drops.iter().map(|drop| drop.waiting_manifests.unsigned_abs()).sum()
    }

    /// Manifests that are in drops or not settled.
    pub(super) fn manifests(&self) -> u64 {
        let sum: i64 = self.queue.drops.iter().map(|drop| drop.open_batches + drop.waiting_manifests).sum();
        sum.unsigned_abs()
    }
}
