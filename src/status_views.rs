//! Each drop, each account and the end of the work, as the page and `status --json` have them.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    clock::{Timestamp, optional_moment},
    estimate::{AccountPace, Constraint, Counted},
    finish::Finish,
    health::HealthLevel,
    job::JobState,
    queue::{
        control::{Cause, Pause},
        samples::DayStart,
        views::{
            overview::{Overview, Tally},
            waiting::{DropDetail, LastBatch},
        },
    },
    waits::SendingWaits,
    zone,
};

/// Calls in flight that were recorded longer ago than this, in milliseconds, have ended.
const RECORDED_LATELY_MS: i64 = 30_000;

/// One drop.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DropView {
    pub name: String,
    pub level: HealthLevel,
    /// In a word or two.
    pub state: &'static str,
    /// Since when that is so, where it is known.
    #[serde(serialize_with = "optional_moment")]
    pub since: Option<Timestamp>,
    #[serde(serialize_with = "optional_moment")]
    pub until: Option<Timestamp>,
    pub to_send: i64,
    pub held: i64,
    pub failed: i64,
    /// Since midnight in the machine's zone, or since a worker was first there today.
    pub created_today: i64,
    #[serde(serialize_with = "optional_moment")]
    pub oldest: Option<Timestamp>,
    pub last: Option<LastBatch>,
    pub waiting_manifests: i64,
}

/// One account.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AccountView {
    pub name: String,
    pub level: HealthLevel,
    pub state: &'static str,
    #[serde(serialize_with = "optional_moment")]
    pub since: Option<Timestamp>,
    pub drops: Vec<String>,
    pub limits: Vec<LimitView>,
    pub in_flight: usize,
    pub in_flight_limit: usize,
    /// When the API answered last.
    #[serde(serialize_with = "optional_moment")]
    pub answered_at: Option<Timestamp>,
}

/// A limit of an account, its own or the API's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LimitView {
    pub limit: Constraint,
    pub counted: Counted,
    pub per_hour: f64,
    /// What may pass at once now.
    pub room: f64,
}

/// When the work will be done.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FinishView {
    #[serde(serialize_with = "optional_moment")]
    pub at: Option<Timestamp>,
    pub limited_by: Option<Constraint>,
    /// Why it is not known.
    pub why: Option<&'static str>,
    pub per_minute: Option<f64>,
    pub windows: Vec<String>,
}

fn jobs(drop: &Tally, state: JobState) -> i64 {
    drop.jobs_in(state).cast_signed()
}

fn open(drop: &Tally) -> i64 {
    drop.open_jobs().cast_signed()
}

pub fn drops(
    queue: &Overview,
    sending: &SendingWaits,
    details: Vec<DropDetail>,
    day: Option<&DayStart>,
    now: Timestamp,
) -> Vec<DropView> {
    let mut details: BTreeMap<_, _> = details.into_iter().map(|detail| (detail.drop.clone(), detail)).collect();
    let today = day.filter(|day| day.date == zone::date(now));
    let one = |drop: &Tally| {
        let detail = details.remove(&drop.drop).unwrap_or_default();
        let (level, state, since, until) = state_of(drop, queue, sending);
        let done = jobs(drop, JobState::Done);
        let before = today.map_or(done, |day| day.created.get(&drop.drop).copied().unwrap_or(0));
        DropView {
            name: drop.drop.clone(),
            level,
            state,
            since,
            until,
            to_send: open(drop),
            held: jobs(drop, JobState::Held),
            failed: jobs(drop, JobState::Failed),
            created_today: (done - before).max(0),
            oldest: detail.oldest,
            last: detail.last,
            waiting_manifests: drop.waiting_manifests,
        }
    };
    queue.drops.iter().map(one).collect()
}

type DropState = (HealthLevel, &'static str, Option<Timestamp>, Option<Timestamp>);

fn state_of(drop: &Tally, queue: &Overview, sending: &SendingWaits) -> DropState {
    if drop.ground.is_some() {
        return (HealthLevel::Stopped, "bad ground", drop.ground_since, None);
    }
    if let Some(unreadable) = queue.unreadable.iter().find(|one| one.drop == drop.drop) {
        return (HealthLevel::Stopped, "cannot be read", unreadable.since, None);
    }
    if let Some(pause) = sending.pause_of(&drop.drop) {
        let (level, state) = paused(pause);
        return (level, state, Some(pause.since), None);
    }
    if jobs(drop, JobState::Held) > 0 {
        let since = queue.held.iter().filter(|job| job.drop == drop.drop).filter_map(|job| job.since).min();
        return (HealthLevel::Person, "needs a decision", since, None);
    }
    if open(drop) > 0 {
        if let Some(closed) = &sending.closed {
            return (HealthLevel::Wait, "outside its window", closed.since, closed.until);
        }
        if jobs(drop, JobState::Running) > 0 {
            return (HealthLevel::Well, "sending", None, None);
        }
        if let Some(limit) = sending.limit_of(&drop.drop) {
            return (HealthLevel::Wait, "at its limit", limit.since, limit.until);
        }
        return (HealthLevel::Well, "waiting", None, None);
    }
    if drop.waiting_manifests > 0 {
        return (HealthLevel::Well, "waits for files", None, None);
    }
    (HealthLevel::Well, "idle", None, None)
}

const fn paused(pause: &Pause) -> (HealthLevel, &'static str) {
    match pause.cause {
        Cause::Operator => (HealthLevel::Wait, "paused"),
        Cause::KeyRefused => (HealthLevel::Stopped, "key refused"),
        Cause::QuotaSpent => (HealthLevel::Wait, "limit spent"),
        Cause::Outage => (HealthLevel::Stopped, "outage"),
    }
}

pub fn accounts(sending: &SendingWaits, recorded: Option<Timestamp>, now: Timestamp) -> Vec<AccountView> {
    let is_new = recorded.is_some_and(|at| now.0 - at.0 < RECORDED_LATELY_MS);
    let later = recorded.map_or(0, |at| now.0 - at.0);
    let one = |account: &AccountPace| {
        let pause = sending.pauses.iter().find(|pause| pause.scope.is_empty() || pause.scope == account.scope);
        let (level, state) = pause.map_or((HealthLevel::Well, "in order"), paused);
        let limits = account.limits_after(later).into_iter().map(|limit| LimitView {
            limit: limit.constraint,
            counted: limit.counted,
            per_hour: limit.rate * 3600.0,
            room: limit.level.max(0.0),
        });
        let (in_flight, in_flight_limit) = account.in_flight;
        AccountView {
            name: account.scope.strip_prefix("account:").unwrap_or(&account.scope).to_owned(),
            level,
            state,
            since: pause.map(|pause| pause.since),
            drops: account.drops.clone(),
            limits: limits.collect(),
            in_flight: if is_new { in_flight } else { 0 },
            in_flight_limit,
            answered_at: account.answered_at.map(Timestamp),
        }
    };
    sending.accounts.iter().map(one).collect()
}

pub fn finish(
    queue: &Overview,
    sending: &SendingWaits,
    estimate: Option<Finish>,
    per_minute: Option<f64>,
    has_worker: bool,
) -> Option<FinishView> {
    if queue.drops.iter().map(open).sum::<i64>() == 0 {
        return None;
    }
    let movable = queue.drops.iter().filter(|drop| open(drop) > 0).any(|drop| sending.pause_of(&drop.drop).is_none());
    let why = match estimate {
        Some(_) => None,
        None if !has_worker => Some("nobody works on it"),
        None if !movable => Some("all that is left is paused"),
        None => Some("nothing is measured yet"),
    };
    Some(FinishView {
        at: estimate.map(|finish| finish.done),
        limited_by: estimate.map(|finish| finish.limited_by),
        why,
        per_minute,
        windows: sending.windows.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        queue::test_support::{DROP, NOW, Site},
        waits::ClosedWindow,
    };

    fn pause(cause: Cause) -> Pause {
        Pause { scope: format!("drop:{DROP}"), cause, detail: None, by: None, since: NOW }
    }

    #[test]
    fn the_state_of_a_drop_is_what_is_most_in_its_way() {
        let site = Site::new();
        site.admit("a.manifest.json", &["one", "two"]);
        let view = |sending: &SendingWaits, change: &dyn Fn(&mut Tally)| {
            let mut queue = site.reader().overview(NOW).unwrap();
            change(&mut queue.drops[0]);
            let details = site.reader().drop_details().unwrap();
            drops(&queue, sending, details, None, NOW).remove(0)
        };
        let open = SendingWaits::default();
        let paused = SendingWaits { pauses: vec![pause(Cause::Operator)], ..SendingWaits::default() };
        let closed = SendingWaits { closed: Some(ClosedWindow::default()), ..SendingWaits::default() };
        let waiting = view(&open, &|_| ());
        assert_eq!((waiting.state, waiting.to_send, waiting.level), ("waiting", 2, HealthLevel::Well));
        assert_eq!(waiting.last.unwrap().manifest, "a.manifest.json");
        assert_eq!((waiting.oldest, waiting.created_today), (Some(NOW), 0));
        assert_eq!(view(&paused, &|_| ()).state, "paused");
        assert_eq!(view(&closed, &|_| ()).state, "outside its window");
        assert_eq!(view(&paused, &|drop| drop.ground = Some("gone".to_owned())).state, "bad ground");
        assert_eq!(view(&open, &|drop| drop.jobs.clear()).state, "idle");
    }

    #[test]
    fn today_counts_from_the_first_minute_of_the_day() {
        let site = Site::new();
        site.admit("a.manifest.json", &["one", "two"]);
        site.create(1, "doc");
        let today = |date: String, before: i64| {
            let day = DayStart { date, created: BTreeMap::from([(DROP.to_owned(), before)]) };
            let queue = site.reader().overview(NOW).unwrap();
            drops(&queue, &SendingWaits::default(), Vec::new(), Some(&day), NOW).remove(0).created_today
        };
        assert_eq!(today(zone::date(NOW), 0), 1);
        assert_eq!(today("2020-01-01".to_owned(), 0), 0);
    }

    #[test]
    fn an_end_that_is_not_known_says_why() {
        let site = Site::new();
        site.admit("a.manifest.json", &["one"]);
        let queue = site.reader().overview(NOW).unwrap();
        let paused = SendingWaits { pauses: vec![pause(Cause::Operator)], ..SendingWaits::default() };
        let why = |sending: &SendingWaits, worker| finish(&queue, sending, None, None, worker).unwrap().why;
        assert_eq!(why(&SendingWaits::default(), false), Some("nobody works on it"));
        assert_eq!(why(&paused, true), Some("all that is left is paused"));
        assert_eq!(why(&SendingWaits::default(), true), Some("nothing is measured yet"));
    }
}
