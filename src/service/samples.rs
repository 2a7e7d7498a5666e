//! Records once a minute what happened in it, for the charts of the page.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    account::Account,
    clock::{Clock, Timestamp},
    job::JobState,
    queue::{
        Queue, QueueError, Reader,
        samples::{DayStart, MinuteSample},
        views::overview::Tally,
    },
    telemetry::{CallSums, Telemetry},
    waits::SendingWaits,
    zone,
};

/// The interval between two looks at how many calls are in flight.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What was counted at the beginning of a minute.
struct MinuteStart {
    minute: i64,
    drops: Vec<Tally>,
    calls: CallSums,
    /// The most calls in flight since then.
    in_flight: i64,
}

/// Records until it is stopped. A minute that cannot be recorded is a gap.
pub(super) async fn sample(
    queue: Queue,
    telemetry: Arc<Telemetry>,
    accounts: Vec<Arc<Account>>,
    stop: CancellationToken,
) {
    let clock = Clock::system();
    let mut before: Option<MinuteStart> = None;
    loop {
        let now = clock.now();
        let minute = now.0.div_euclid(60_000);
        let in_flight = telemetry.in_flight();
        match &mut before {
            Some(counted) if counted.minute == minute => counted.in_flight = counted.in_flight.max(in_flight),
            _ => match next(&queue, &telemetry, &accounts, before.take(), now).await {
                Ok(counted) => before = Some(MinuteStart { in_flight, ..counted }),
                Err(error) => tracing::debug!(%error, "what happened in the last minute cannot be recorded"),
            },
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// Records the minute that is over, and counts for the next one.
async fn next(
    queue: &Queue,
    telemetry: &Telemetry,
    accounts: &[Arc<Account>],
    before: Option<MinuteStart>,
    now: Timestamp,
) -> Result<MinuteStart, QueueError> {
    let path = queue.path().to_owned();
    let read = tokio::task::spawn_blocking(move || {
        let reader = Reader::open(&path)?;
        Ok::<_, QueueError>((reader.tallies()?, SendingWaits::read(&reader, now)?))
    });
    let (drops, waits) = read.await.unwrap_or(Err(QueueError::Closed))?;
    let counted = MinuteStart { minute: now.0.div_euclid(60_000), drops, calls: telemetry.call_sums(), in_flight: 0 };
    let Some(before) = before else { return Ok(counted) };
    let is_paused = waits.pauses.iter().any(|pause| pause.scope.is_empty());
    let all_stopped = !accounts.is_empty() && accounts.iter().all(|account| account.paused().is_some());
    let sample = MinuteSample {
        stopped: waits.closed.is_some() || is_paused || all_stopped,
        in_flight: before.in_flight,
        ..difference(&before.drops, &counted.drops, before.calls, counted.calls)
    };
    let created = counted.drops.iter().map(|drop| (drop.drop.clone(), drop.jobs_in(JobState::Done).cast_signed()));
    let day = DayStart { date: zone::date(now), created: created.collect() };
    queue.note_sample(sample, day, now).await?;
    Ok(counted)
}

/// What came since; where a person had something sent again, less than before is nothing.
fn difference(before: &[Tally], after: &[Tally], calls_before: CallSums, calls: CallSums) -> MinuteSample {
    let all = |drops: &[Tally], state| drops.iter().map(|drop| drop.jobs_in(state).cast_signed()).sum::<i64>();
    let came = |state| (all(after, state) - all(before, state)).max(0);
    let since = |before: u64, after: u64| i64::try_from(after.saturating_sub(before)).unwrap_or(i64::MAX);
    MinuteSample {
        created: came(JobState::Done),
        duplicate: came(JobState::Duplicate),
        failed: came(JobState::Failed),
        retries: since(calls_before.retries, calls.retries),
        lost: since(calls_before.lost, calls.lost),
        sent_bytes: since(calls_before.sent_bytes, calls.sent_bytes),
        ..MinuteSample::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_minute_is_what_came_in_it() {
        let tally = |done, failed| {
            let jobs = BTreeMap::from([("done".to_owned(), done), ("failed".to_owned(), failed)]);
            vec![Tally { drop: "a".into(), jobs, ..Tally::default() }]
        };
        let sums = |retries, lost, sent_bytes| CallSums { retries, lost, sent_bytes };
        let sample = difference(&tally(10, 5), &tally(17, 2), sums(1, 0, 100), sums(3, 1, 400));
        let wanted = MinuteSample { created: 7, retries: 2, lost: 1, sent_bytes: 300, ..MinuteSample::default() };
        assert_eq!(sample, wanted, "three that failed were sent again");
    }
}
