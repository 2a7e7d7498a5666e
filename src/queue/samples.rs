//! What happened in each minute of the last day, for small charts.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::{Queue, QueueError, Reader};
use crate::clock::Timestamp;

/// Minutes that are kept.
const KEPT: i64 = 1_440;

const MINUTE_MS: i64 = 60_000;

/// What happened in a minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MinuteSample {
    pub created: i64,
    pub duplicate: i64,
    pub failed: i64,
    /// Calls that are tried again.
    pub retries: i64,
    /// Answers that were lost.
    pub lost: i64,
    /// The most calls in flight that were noticed.
    pub in_flight: i64,
    pub sent_bytes: i64,
    /// Whether everything was paused, or outside all sending windows.
    pub stopped: bool,
}

/// The jobs of each drop when a day began.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayStart {
    /// The day in the machine's zone.
    pub date: String,
    /// By drop, how many were created before.
    pub created: BTreeMap<String, i64>,
}

/// A span of time in equal steps; `None` where no process ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SeriesPoints {
    /// When the first step begins, as RFC 3339.
    pub start: String,
    pub step_seconds: i64,
    pub created: Vec<Option<i64>>,
    pub duplicate: Vec<Option<i64>>,
    pub failed: Vec<Option<i64>>,
    pub retries: Vec<Option<i64>>,
    pub lost: Vec<Option<i64>>,
    /// The most of each step.
    pub in_flight: Vec<Option<i64>>,
    pub sent_bytes: Vec<Option<i64>>,
    pub stopped: Vec<bool>,
}

/// The last hour by the minute, and the last day by the quarter of an hour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Series {
    pub hour: SeriesPoints,
    pub day: SeriesPoints,
}

impl Queue {
    /// Records what happened in the minute that ends at a moment, and the day's beginning where it is a new day.
    pub(crate) async fn note_sample(
        &self,
        sample: MinuteSample,
        day: DayStart,
        now: Timestamp,
    ) -> Result<(), QueueError> {
        self.run("note_sample", move |connection| note(connection, &sample, &day, now)).await
    }
}

fn note(connection: &Connection, sample: &MinuteSample, day: &DayStart, now: Timestamp) -> Result<(), QueueError> {
    // The minute that is over.
    let minute = now.0.div_euclid(MINUTE_MS) - 1;
    connection
        .prepare_cached("INSERT OR REPLACE INTO sample VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")?
        .execute(params![
            minute.rem_euclid(KEPT),
            minute,
            sample.created,
            sample.duplicate,
            sample.failed,
            sample.retries,
            sample.lost,
            sample.in_flight,
            sample.sent_bytes,
            sample.stopped
        ])?;
    if day_start(connection)?.is_none_or(|before| before.date != day.date) {
        let text = serde_json::to_string(day).unwrap_or_default();
        connection
            .prepare_cached("INSERT OR REPLACE INTO setting (name, value) VALUES ('day_start', ?1)")?
            .execute([text])?;
    }
    Ok(())
}

fn day_start(connection: &Connection) -> Result<Option<DayStart>, QueueError> {
    let text: Option<String> = connection
        .prepare_cached("SELECT value FROM setting WHERE name = 'day_start'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

impl Reader {
    /// The jobs of each drop when the last day began that a worker saw.
    pub(crate) fn day_start(&self) -> Result<Option<DayStart>, QueueError> {
        day_start(&self.connection)
    }

    /// What happened in the last hour and in the last day.
    pub(crate) fn series(&self, now: Timestamp) -> Result<Series, QueueError> {
        let end = now.0.div_euclid(MINUTE_MS);
        let mut minutes = vec![None; usize::try_from(KEPT).unwrap_or(0)];
        let mut select = self.connection.prepare_cached(
            "SELECT minute, created, duplicate, failed, retries, lost, in_flight, sent_bytes, stopped FROM sample",
        )?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            // What a clock that was set back left in the future is none of these.
            let at = usize::try_from(row.get::<_, i64>(0)? - (end - KEPT)).ok();
            if let Some(place) = at.and_then(|at| minutes.get_mut(at)) {
                *place = Some(MinuteSample {
                    created: row.get(1)?,
                    duplicate: row.get(2)?,
                    failed: row.get(3)?,
                    retries: row.get(4)?,
                    lost: row.get(5)?,
                    in_flight: row.get(6)?,
                    sent_bytes: row.get(7)?,
                    stopped: row.get(8)?,
                });
            }
        }
        let hour = minutes.get(minutes.len().saturating_sub(60)..).unwrap_or_default();
        Ok(Series { hour: points(hour, 1, end), day: points(&minutes, 15, end) })
    }
}

/// So many minutes a step; the last ends with the minute before `end`.
fn points(minutes: &[Option<MinuteSample>], step: usize, end: i64) -> SeriesPoints {
    let steps: Vec<Option<MinuteSample>> = minutes
        .chunks(step)
        .map(|of_step| {
            of_step.iter().flatten().copied().reduce(|sum, next| MinuteSample {
                created: sum.created + next.created,
                duplicate: sum.duplicate + next.duplicate,
                failed: sum.failed + next.failed,
                retries: sum.retries + next.retries,
                lost: sum.lost + next.lost,
                in_flight: sum.in_flight.max(next.in_flight),
                sent_bytes: sum.sent_bytes + next.sent_bytes,
                stopped: sum.stopped && next.stopped,
            })
        })
        .collect();
    let of = |value: fn(&MinuteSample) -> i64| steps.iter().map(|sample| sample.as_ref().map(value)).collect();
    let length = i64::try_from(minutes.len()).unwrap_or(0);
    SeriesPoints {
        start: Timestamp((end - length) * MINUTE_MS).to_string(),
        step_seconds: i64::try_from(step).unwrap_or(0) * 60,
        created: of(|sample| sample.created),
        duplicate: of(|sample| sample.duplicate),
        failed: of(|sample| sample.failed),
        retries: of(|sample| sample.retries),
        lost: of(|sample| sample.lost),
        in_flight: of(|sample| sample.in_flight),
        sent_bytes: of(|sample| sample.sent_bytes),
        stopped: steps.iter().map(|sample| sample.is_some_and(|sample| sample.stopped)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::queue::test_support::{NOW, Site, number};

    fn note(site: &Site, minutes: u64, created: i64) {
        let sample = MinuteSample { created, in_flight: created, ..MinuteSample::default() };
        let day = DayStart { date: "2026-11-22".to_owned(), created: BTreeMap::from([("a".to_owned(), created)]) };
        site.wait(site.queue.note_sample(sample, day, NOW.after(Duration::from_secs(minutes * 60)))).unwrap();
    }

    #[test]
    fn a_minute_without_a_process_is_a_gap_and_not_zero() {
        let site = Site::new();
        note(&site, 0, 7);
        note(&site, 2, 0);
        let series = site.reader().series(NOW.after(Duration::from_secs(180))).unwrap();
        assert_eq!(series.hour.created[56..], [Some(7), None, Some(0), None]);
        assert_eq!(series.hour.created.len(), 60);
        assert_eq!((series.day.created.len(), series.day.step_seconds), (96, 900));
        assert_eq!(series.day.created.iter().flatten().sum::<i64>(), 7);
    }

    #[test]
    fn a_day_is_kept_and_no_more() {
        let site = Site::new();
        for minute in 0..3_000 {
            note(&site, minute, 1);
        }
        assert_eq!(number(&site.queue, "SELECT count(*) FROM sample"), Some(1_440));
        let series = site.reader().series(NOW.after(Duration::from_secs(3_000 * 60))).unwrap();
        assert_eq!(series.day.created[0], Some(15));
        assert_eq!(series.day.created[95], Some(14));
        // The first of the day counts.
        assert_eq!(site.reader().day_start().unwrap().unwrap().created["a"], 1);
    }
}
