//! The state of a queue at a moment: what `status --json` writes and the page shows, so that the two cannot differ.
//!
//! Values only, and their arithmetic; their wording is up to the caller. Costs the same however many jobs there are.

use std::{collections::BTreeMap, path::Path, time::Duration};

use serde::Serialize;

use crate::{
    clock::Timestamp,
    job::JobState,
    queue::{
        QueueError, Reader,
        lock::Lock,
        views::overview::{ArrivalRow, Overview},
    },
};

/// Waiting manifests that are named one by one.
const NAMED: u32 = 5;

/// A rate over less than this says more about chance than about speed.
const SHORTEST_SPAN: Duration = Duration::from_secs(10);

/// The state of a queue and of the process that works on it, at a moment.
#[derive(Debug, Serialize)]
pub struct QueueStatus {
    /// The queue's file.
    pub database: String,
    /// The moment, as RFC 3339.
    pub now: String,
    /// The process that works on it, if any.
    pub daemon: Option<Daemon>,
    /// Why the last start refused to work on the queue, if it did.
    pub refused: Option<String>,
    /// Whether anything is stopped.
    pub paused: bool,
    /// Documents and files a minute, over the last ten minutes.
    pub rate_per_minute: Option<f64>,
    /// Until everything that can continue has ended, at this rate.
    pub eta_seconds: Option<u64>,
    /// Jobs by state, of all drops.
    pub totals: BTreeMap<String, i64>,
    /// The rest, as read from the queue.
    pub queue: Overview,
    /// The first of the manifests that are not admitted.
    pub waiting_manifests: Vec<ArrivalRow>,
    #[serde(skip)]
    pub at: Timestamp,
}

/// A process that works on a queue.
#[derive(Debug, Serialize)]
pub struct Daemon {
    pub pid: Option<u32>,
    /// Its command, for example `run`.
    pub command: String,
    /// Why it cannot write to the database at present, if it cannot.
    pub trouble: Option<String>,
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
    let left = [JobState::Queued, JobState::Running, JobState::Waiting]
        .iter()
        .filter_map(|state| totals.get(state.as_str()))
        .sum();
    Ok(Some(QueueStatus {
        database: database.display().to_string(),
        now: now.to_string(),
        daemon: Lock::holder(database).map(|holder| Daemon {
            pid: holder.pid,
            command: holder.command,
            trouble: holder.trouble,
        }),
        refused: reader.refused()?,
        paused: !queue.pauses.is_empty(),
        rate_per_minute: rate,
        eta_seconds: eta(left, rate),
        totals,
        waiting_manifests: reader.arrivals(NAMED)?,
        queue,
        at: now,
    }))
}

/// Documents and files a minute, where there were any lately.
fn rate(ended: i64, since: Option<Timestamp>, now: Timestamp) -> Option<f64> {
    let ended = u32::try_from(ended).ok().filter(|ended| *ended > 0)?;
    let span = now.since(since?).max(SHORTEST_SPAN);
    Some(f64::from(ended) * 60.0 / span.as_secs_f64())
}

/// Seconds until `left` jobs have ended.
fn eta(left: i64, rate: Option<f64>) -> Option<u64> {
    let left = u32::try_from(left).ok().filter(|left| *left > 0)?;
    let seconds = f64::from(left) / rate? * 60.0;
    Duration::try_from_secs_f64(seconds.ceil()).ok().map(|eta| eta.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::test_support::NOW;

    #[test]
    fn rates_and_etas_are_of_the_time_that_was_worked() {
        let ago = |seconds: i64| Some(Timestamp(NOW.0 - seconds * 1000));
        assert_eq!(rate(0, None, NOW), None);
        assert_eq!(rate(60, ago(600), NOW), Some(6.0));
        assert_eq!(rate(60, ago(60), NOW), Some(60.0));
        assert_eq!(rate(1, ago(0), NOW), Some(6.0));
        assert_eq!(eta(10, None), None);
        assert_eq!(eta(0, Some(6.0)), None);
        assert_eq!(eta(10, Some(60.0)), Some(10));
    }
}
