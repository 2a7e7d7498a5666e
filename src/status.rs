//! The state of a queue at a moment: what `status --json` writes and the page shows, so that the two cannot differ.
//!
//! Values only, and their arithmetic; their wording is up to the caller. Costs the same however many jobs there are.

use std::{collections::BTreeMap, path::Path, time::Duration};

use serde::Serialize;

use crate::{
    clock::{Timestamp, optional_moment},
    expected::{DeliveryReport, DeliveryState},
    finish::{self, Finish},
    health::{self, Health, HealthFacts},
    queue::{
        QueueError, Reader,
        announced::{ExpectedDrop, ReceiverState},
        lock::Lock,
        views::{
            causes::CauseRow,
            overview::{ArrivalRow, Overview},
        },
    },
    status_views::{self, AccountView, DropView, FinishView},
    waits::{ClosedWindow, ReachedLimit, SendingWaits},
    zone,
};

/// Waiting manifests that are named one by one.
const NAMED: u32 = 5;

/// Causes that are named one by one.
const NAMED_CAUSES: u32 = 20;

/// A rate over less than this says more about chance than about speed.
const SHORTEST_SPAN: Duration = Duration::from_secs(10);

/// The state of a queue and of the process that works on it, at a moment.
#[derive(Debug, Serialize)]
pub struct QueueStatus {
    /// The queue's file.
    pub database: String,
    /// The moment, as RFC 3339.
    pub now: String,
    /// The release.
    pub version: &'static str,
    /// The machine's time zone, in which sending windows are.
    pub zone: String,
    /// Whether all is well, and what is not.
    #[serde(flatten)]
    pub health: Health,
    /// The process that works on it, if any.
    pub daemon: Option<Daemon>,
    /// Why the last start refused to work on the queue, if it did.
    pub refused: Option<String>,
    /// Whether anything is stopped.
    pub paused: bool,
    /// Documents and files a minute, over the last ten minutes.
    pub rate_per_minute: Option<f64>,
    /// Until everything that can continue has ended; left out where work is stopped.
    pub eta_seconds: Option<u64>,
    /// When that is, and what decides it.
    pub estimate: Option<Finish>,
    /// Jobs by state, of all drops.
    pub totals: BTreeMap<String, i64>,
    /// The rest, as read from the queue.
    pub queue: Overview,
    /// The causes of open failures, those that nobody knows of first; the first of them.
    pub causes: Vec<CauseRow>,
    /// The first of the manifests that are not admitted.
    pub waiting_manifests: Vec<ArrivalRow>,
    /// How drops are doing against what is expected of them.
    pub expected: Vec<Expectation>,
    /// Receivers of alerts that take nothing at present.
    pub failing_receivers: Vec<FailingReceiver>,
    /// When the work will be done, and what limits it; `None` where nothing is left.
    pub finish: Option<FinishView>,
    /// Each drop: its state, and what there is to do.
    pub drops: Vec<DropView>,
    /// Each account: its state, its limits, and its calls.
    pub accounts: Vec<AccountView>,
    /// Outside all sending windows: since when, and until when.
    pub closed_window: Option<ClosedWindow>,
    /// Limits that leave no room for the next call now.
    pub reached_limits: Vec<ReachedLimit>,
    #[serde(skip)]
    pub at: Timestamp,
}

/// How a drop is doing against what is expected of it.
#[derive(Debug, Serialize)]
pub struct Expectation {
    pub drop: String,
    pub state: DeliveryState,
    pub since: String,
    /// The moment that decides it.
    pub due: Option<String>,
    /// When the drop's work will be done, where that is known.
    pub estimate: Option<String>,
}

/// A receiver of alerts that takes nothing at present.
#[derive(Debug, Serialize)]
pub struct FailingReceiver {
    /// Without arguments and paths, which may hold secrets.
    pub receiver: String,
    pub since: String,
    pub reason: String,
}

/// A process that works on a queue.
#[derive(Debug, Serialize)]
pub struct Daemon {
    pub pid: Option<u32>,
    /// Its command, for example `run`.
    pub command: String,
    /// Why it cannot write to the database at present, if it cannot.
    pub trouble: Option<String>,
    /// Since when it cannot, or works.
    #[serde(serialize_with = "optional_moment")]
    pub since: Option<Timestamp>,
}

/// `None` where there is no queue yet. Blocks.
pub fn read(database: &Path, now: Timestamp) -> Result<Option<QueueStatus>, QueueError> {
    let reader = match Reader::open(database) {
        Err(QueueError::Absent { .. }) => return Ok(None),
        reader => reader?,
    };
    let queue = reader.overview(now)?;
    let mut totals: BTreeMap<String, i64> = BTreeMap::new();
    for (state, jobs) in queue.drops.iter().flat_map(|drop| &drop.jobs) {
        *totals.entry(state.clone()).or_default() += jobs;
    }
    let rate = rate(queue.ended_lately, queue.lately_since, now);
    let holder = Lock::holder(database);
    let estimate = match &holder {
        Some(holder) if holder.trouble.is_none() => finish::of_queue(&reader, rate, now)?,
        _ => None,
    };
    let (refused, waiting_manifests) = (reader.refused()?, reader.arrivals(NAMED)?);
    let causes = reader.causes(NAMED_CAUSES)?;
    let (expected, receivers) = (reader.expected()?, reader.failing_receivers()?);
    let pace = reader.pace()?;
    let worked_at = pace.as_ref().map(|pace| Timestamp(pace.at));
    let sending = SendingWaits::of(queue.pauses.clone(), pace.unwrap_or_default(), now);
    let health = health::assess(&HealthFacts {
        now,
        folder: &database.parent().unwrap_or(database).display().to_string(),
        worker: holder.as_ref(),
        refused: refused.as_deref(),
        queue: &queue,
        arrivals: &waiting_manifests,
        sending: &sending,
        causes: &causes,
        expected: &expected,
        receivers: &receivers,
        finish: estimate,
        worked_at,
    });
    let day = reader.day_start()?;
    let drops = status_views::drops(&queue, &sending, reader.drop_details()?, day.as_ref(), now);
    let accounts = status_views::accounts(&sending, worked_at, now);
    let finish = status_views::finish(&queue, &sending, estimate, rate, holder.is_some());
    let daemon = holder.map(|holder| Daemon {
        pid: holder.pid,
        command: holder.command,
        trouble: holder.trouble,
        since: holder.since,
    });
    Ok(Some(QueueStatus {
        version: env!("CARGO_PKG_VERSION"),
        zone: zone::name(),
        health,
        finish,
        drops,
        accounts,
        closed_window: sending.closed,
        reached_limits: sending.limits,
        database: database.display().to_string(),
        now: now.to_string(),
        daemon,
        refused,
        paused: !queue.pauses.is_empty(),
        rate_per_minute: rate,
        eta_seconds: estimate
            .map(|finish| finish.done.since(now).as_millis().div_ceil(1000))
            .and_then(|seconds| u64::try_from(seconds).ok()),
        estimate,
        totals,
        causes,
        waiting_manifests,
        expected: expected.into_iter().map(expectation).collect(),
        failing_receivers: receivers.into_iter().filter_map(failing).collect(),
        queue,
        at: now,
    }))
}

fn expectation((drop, expected): (String, ExpectedDrop)) -> Expectation {
    let DeliveryReport { state, since, due, done } = expected.report;
    let text = |moment: Timestamp| moment.to_string();
    Expectation { drop, state, since: text(since), due: due.map(text), estimate: done.map(text) }
}

fn failing(state: ReceiverState) -> Option<FailingReceiver> {
    let (since, reason) = state.failing?;
    Some(FailingReceiver { receiver: state.receiver, since: since.to_string(), reason })
}

/// Documents and files a minute, where there were any lately.
fn rate(ended: i64, since: Option<Timestamp>, now: Timestamp) -> Option<f64> {
    let ended = u32::try_from(ended).ok().filter(|ended| *ended > 0)?;
    let span = now.since(since?).max(SHORTEST_SPAN);
    Some(f64::from(ended) * 60.0 / span.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::test_support::NOW;

    #[test]
    fn rates_are_of_the_time_that_was_worked() {
        let ago = |seconds: i64| Some(Timestamp(NOW.0 - seconds * 1000));
        assert_eq!(rate(0, None, NOW), None);
        assert_eq!(rate(60, ago(600), NOW), Some(6.0));
        assert_eq!(rate(60, ago(60), NOW), Some(60.0));
        assert_eq!(rate(1, ago(0), NOW), Some(6.0));
    }
}
