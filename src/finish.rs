//! When the work of a queue will be done: what the worker records of its pace, and what is left, by the one estimator.
//!
//! For `status`, the page, the metrics and the progress of an import, so that they cannot differ.

use serde::Serialize;

use crate::{
    clock::{Timestamp, moment},
    config::Window,
    dispatch::{changes_after, is_open},
    estimate::{AccountPace, Constraint, OpenHours, Pace, Throttle, WorkLeft, estimate},
    queue::{QueueError, Reader, control::Pause, views::work_left::DropWork},
};

/// When everything that can go on by itself will be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Finish {
    #[serde(serialize_with = "moment")]
    pub done: Timestamp,
    /// What decides it.
    pub limited_by: Constraint,
}

/// The end of all work that is not paused; `None` where nothing is left, or how fast it goes is not known. Blocks.
///
/// `per_minute` is how many jobs ended in a minute lately: it counts where no worker has recorded its pace.
pub fn of_queue(reader: &Reader, per_minute: Option<f64>, now: Timestamp) -> Result<Option<Finish>, QueueError> {
    let drops = reader.tallies()?.into_iter().map(|tally| (tally.drop, None)).collect();
    of_drops(reader, drops, per_minute, now)
}

/// The same of so many jobs of one drop, which are like the others that are left of it.
pub fn of_jobs(reader: &Reader, drop: &str, jobs: u64, now: Timestamp) -> Result<Option<Finish>, QueueError> {
    of_drops(reader, vec![(drop.to_owned(), Some(jobs))], None, now)
}

fn of_drops(
    reader: &Reader,
    drops: Vec<(String, Option<u64>)>,
    per_minute: Option<f64>,
    now: Timestamp,
) -> Result<Option<Finish>, QueueError> {
    let pauses = reader.pauses()?;
    let mut left = Vec::new();
    for (drop, jobs) in drops.into_iter().filter(|(drop, _)| !is_paused(&pauses, &format!("drop:{drop}"))) {
        let mut work = reader.work_left(&drop)?;
        if let Some(jobs) = jobs.filter(|jobs| *jobs < work.jobs) {
            work = share(&work, jobs);
        }
        if work.jobs > 0 {
            left.push((drop, work));
        }
    }
    let pace = reader.pace()?.unwrap_or_else(|| Pace { at: now.0, ..Pace::default() });
    Ok(by(&pace, &pauses, &left, per_minute, now))
}

/// Sending windows, as the worker recorded them.
#[must_use]
pub fn parsed(windows: &[String]) -> Vec<Window> {
    windows.iter().filter_map(|text| Window::parse(text).ok()).collect()
}

#[expect(clippy::cast_precision_loss, reason = "counts of jobs are far below 2^52")]
fn share(all: &DropWork, jobs: u64) -> DropWork {
    DropWork { jobs, work: WorkLeft::default().plus(&all.work, jobs as f64 / all.jobs as f64), ..*all }
}

/// Everything, or this scope, is paused.
fn is_paused(pauses: &[Pause], scope: &str) -> bool {
    pauses.iter().any(|pause| pause.scope.is_empty() || pause.scope == scope)
}

#[expect(clippy::cast_precision_loss, reason = "counts of jobs are far below 2^52")]
fn by(
    pace: &Pace,
    pauses: &[Pause],
    left: &[(String, DropWork)],
    per_minute: Option<f64>,
    now: Timestamp,
) -> Option<Finish> {
    let windows = parsed(&pace.windows);
    let at = |moment: i64| {
        let moment = Timestamp(moment);
        (is_open(&windows, moment), changes_after(&windows, moment).map(|change| change.0))
    };
    let hours = OpenHours::from(now.0, &at);
    let of_account = |account: &&AccountPace| left.iter().any(|(drop, _)| account.drops.contains(drop));
    let mut ends = Vec::new();
    for account in pace.accounts.iter().filter(of_account).filter(|account| !is_paused(pauses, &account.scope)) {
        let own: Vec<_> = left.iter().filter(|(drop, _)| account.drops.contains(drop)).collect();
        let work = own.iter().fold(WorkLeft::default(), |sum, (_, left)| sum.plus(&left.work, 1.0));
        let throttles = account.throttles(&work, now.0 - pace.at);
        if throttles.iter().any(|throttle| throttle.amount > 0.0) {
            let said = estimate(&throttles, &hours, now.0, Constraint::MeasuredRate)?;
            ends.push((said.done, said.binds));
        }
    }
    if ends.is_empty()
        && let Some(rate) = per_minute.filter(|_| pace.accounts.is_empty())
    {
        let jobs = left.iter().map(|(_, left)| left.jobs).sum::<u64>() as f64;
        if jobs > 0.0 {
            let throttle = Throttle::speed(Constraint::MeasuredRate, jobs, rate / 60.0);
            let said = estimate(&[throttle], &hours, now.0, Constraint::MeasuredRate)?;
            ends.push((said.done, said.binds));
        }
    }
    if ends.is_empty() {
        return None;
    }
    ends.extend(left.iter().filter_map(|(_, left)| Some((left.last_due?.0, Constraint::Retry))));
    let (done, limited_by) = ends.into_iter().max_by_key(|(done, _)| *done)?;
    Some(Finish { done: Timestamp(done), limited_by })
}

impl Finish {
    /// What decides it, for people.
    #[must_use]
    pub const fn limit_in_words(&self) -> &'static str {
        limit_in_words(self.limited_by)
    }
}

/// A limit, for people.
#[must_use]
pub const fn limit_in_words(limit: Constraint) -> &'static str {
    match limit {
        Constraint::DocumentsPerHour => "limits.documents_per_hour",
        Constraint::RequestsPerSecond => "limits.requests_per_second",
        Constraint::BytesPerSecond => "limits.bytes_per_second",
        Constraint::Windows => "limits.windows",
        Constraint::ApiQuota => "the API's own limit",
        Constraint::Retry => "the last retry",
        Constraint::Link | Constraint::CallTime | Constraint::MeasuredRate => "the speed of this run",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        estimate::{Counted, PacedLimit},
        queue::{
            control::Cause,
            test_support::{DROP, NOW, Site},
        },
    };

    const HOUR: Duration = Duration::from_secs(3600);

    /// Twenty documents, at twenty an hour.
    fn site() -> Site {
        let site = Site::new();
        let references: Vec<_> = (0..20).map(|number| format!("r{number}")).collect();
        site.admit("a.manifest.json", &references.iter().map(String::as_str).collect::<Vec<_>>());
        let limit = PacedLimit {
            constraint: Constraint::DocumentsPerHour,
            counted: Counted::Documents,
            rate: 20.0 / 3600.0,
            burst: 2.0,
            level: 0.0,
            window: None,
        };
        let account = AccountPace {
            scope: "account:a".to_owned(),
            drops: vec![DROP.to_owned()],
            limits: vec![limit],
            ..AccountPace::default()
        };
        let pace = Pace { at: NOW.0, windows: Vec::new(), accounts: vec![account] };
        site.wait(site.queue.note_pace(&pace)).unwrap();
        site
    }

    fn done(site: &Site, now: Timestamp) -> Option<Duration> {
        of_queue(&site.reader(), None, now).unwrap().map(|finish| finish.done.since(now))
    }

    #[test]
    fn a_limit_decides_and_a_pause_leaves_the_end_open_until_it_is_over() {
        let site = site();
        let finish = of_queue(&site.reader(), None, NOW).unwrap().unwrap();
        assert_eq!((finish.done, finish.limited_by), (NOW.after(HOUR), Constraint::DocumentsPerHour));
        for scope in ["", "account:a", &format!("drop:{DROP}")] {
            site.queue.pause(scope, Cause::Operator, None, NOW).unwrap();
            assert_eq!(done(&site, NOW), None, "{scope:?}");
            site.queue.resume(scope, Cause::Operator).unwrap();
            // Two could be created at once by then.
            assert_eq!(done(&site, NOW.after(HOUR)), Some(HOUR * 18 / 20), "{scope:?}");
        }
    }

    #[test]
    fn a_part_of_the_jobs_is_done_earlier() {
        let site = site();
        let finish = of_jobs(&site.reader(), DROP, 5, NOW).unwrap().unwrap();
        assert_eq!(finish.done, NOW.after(HOUR / 4));
    }

    #[test]
    fn without_a_recorded_pace_only_the_rate_is_known() {
        let site = Site::new();
        site.admit("a.manifest.json", &["one", "two"]);
        assert_eq!(done(&site, NOW), None);
        let finish = of_queue(&site.reader(), Some(1.0), NOW).unwrap().unwrap();
        assert_eq!((finish.done, finish.limited_by), (NOW.after(HOUR / 30), Constraint::MeasuredRate));
    }
}
