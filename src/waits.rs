//! What keeps queued jobs from being sent: a pause, a closed sending window, or a limit; with since when and until when.
//!
//! For `jobs`, `show`, `why`, `status`, monitoring and the page. A queued job itself waits for nothing: what is in its way is in
//! the way of its drop, its account, or everything.

use std::borrow::Cow;

use serde::Serialize;

use crate::{
    clock::{Timestamp, optional_moment},
    config::Window,
    dispatch::{changes_after, is_open},
    estimate::{AccountPace, Constraint, Counted, Pace, PacedLimit},
    finish::{limit_in_words, parsed},
    job::JobState,
    queue::{
        QueueError, Reader,
        control::{Cause, Pause},
        views::jobs::JobRow,
    },
    reason::{in_words, reason},
};

/// How far back the last end of a sending window is searched, in milliseconds: first a day, then the two weeks that windows
/// repeat in at the latest.
const LOOK_BACK_MS: [i64; 2] = [25 * 3_600_000, 15 * 24 * 3_600_000];

/// A wait that is shorter than this is no wait, but pacing.
const SHORTEST_MS: i64 = 1_000;

/// What is in the way of queued jobs at a moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SendingWaits {
    pub pauses: Vec<Pause>,
    /// Sending is not allowed at this hour.
    pub closed: Option<ClosedWindow>,
    pub limits: Vec<ReachedLimit>,
    /// The accounts, as the worker recorded them last.
    pub accounts: Vec<AccountPace>,
    /// `limits.windows`, as the worker has them.
    pub windows: Vec<String>,
}

/// A time outside all sending windows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ClosedWindow {
    #[serde(serialize_with = "optional_moment")]
    pub since: Option<Timestamp>,
    #[serde(serialize_with = "optional_moment")]
    pub until: Option<Timestamp>,
}

/// A limit that leaves no room for the next document or file now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReachedLimit {
    /// The account.
    pub scope: String,
    pub drops: Vec<String>,
    pub limit: Constraint,
    pub counted: Counted,
    /// What passes in an hour.
    pub per_hour: f64,
    #[serde(serialize_with = "optional_moment")]
    pub since: Option<Timestamp>,
    /// When there is room again.
    #[serde(serialize_with = "optional_moment")]
    pub until: Option<Timestamp>,
}

impl SendingWaits {
    /// Reads what is in the way now.
    pub fn read(reader: &Reader, now: Timestamp) -> Result<Self, QueueError> {
        Ok(Self::of(reader.pauses()?, reader.pace()?.unwrap_or_default(), now))
    }

    /// The same of what was read.
    #[must_use]
    pub fn of(pauses: Vec<Pause>, pace: Pace, now: Timestamp) -> Self {
        let windows = parsed(&pace.windows);
        let closed = (!is_open(&windows, now))
            .then(|| ClosedWindow { since: last_change(&windows, now), until: changes_after(&windows, now) });
        let limits = pace.accounts.iter().flat_map(|account| {
            let limits = account.limits_after(now.0 - pace.at);
            limits.into_iter().filter_map(|limit| reached(account, &limit, pace.at, now)).collect::<Vec<_>>()
        });
        Self { pauses, closed, limits: limits.collect(), accounts: pace.accounts.clone(), windows: pace.windows }
    }

    /// The account of a drop, as it is paused.
    #[must_use]
    pub fn account_of(&self, drop: &str) -> Option<&AccountPace> {
        self.accounts.iter().find(|account| account.drops.iter().any(|name| name == drop))
    }

    /// The pause that keeps a drop from being sent.
    #[must_use]
    pub fn pause_of(&self, drop: &str) -> Option<&Pause> {
        let account = self.account_of(drop).map(|account| account.scope.as_str());
        self.pauses.iter().find(|pause| {
            pause.scope.is_empty()
                || pause.scope.strip_prefix("drop:") == Some(drop)
                || account == Some(pause.scope.as_str())
        })
    }

    /// Whether nothing of a drop is sent now.
    #[must_use]
    pub fn blocks(&self, drop: &str) -> bool {
        self.closed.is_some() || self.pause_of(drop).is_some()
    }

    /// The limit that the jobs of a drop wait for.
    #[must_use]
    pub fn limit_of(&self, drop: &str) -> Option<&ReachedLimit> {
        self.limits.iter().find(|limit| limit.drops.iter().any(|name| name == drop))
    }

    /// What is in the way of a drop's queued jobs, as a fragment for people.
    #[must_use]
    pub fn of_drop(&self, drop: &str, now: Timestamp) -> Option<String> {
        if let Some(pause) = self.pause_of(drop) {
            return Some(format!(
                "{} {}, {}",
                scope_in_words(&pause.scope),
                cause_in_words(pause.cause),
                since(pause.since, now)
            ));
        }
        if let Some(closed) = &self.closed {
            let from = closed.since.map(|at| format!(", {}", since(at, now))).unwrap_or_default();
            return Some(format!("outside limits.windows{from}{}", until(closed.until, now)));
        }
        let limit = self.limit_of(drop)?;
        let from = limit.since.map(|at| format!(", {}", since(at, now))).unwrap_or_default();
        Some(format!("{} is used up{from}{}", limit_in_words(limit.limit), until(limit.until, now)))
    }

    /// One sentence about a job: why it is in its state, what is in its way, and since when.
    #[must_use]
    pub fn why(&self, job: &JobRow, now: Timestamp) -> String {
        let explained = reason(&job.explanation(), now);
        match job.state {
            JobState::Queued => match self.of_drop(&job.drop, now) {
                Some(blocked) => format!("{explained}; {blocked}"),
                None => explained,
            },
            JobState::Waiting | JobState::Held => match job.waits_since {
                Some(at) => format!("{explained}; {}", since(at, now)),
                None => explained,
            },
            _ => explained,
        }
    }
}

/// A job as lists of jobs in JSON have it.
#[derive(Debug, Serialize)]
pub struct ExplainedJob<'a> {
    #[serde(flatten)]
    pub job: &'a JobRow,
    /// Why it is in its state, and what is in its way.
    pub why: String,
}

/// When it changed last whether sending is allowed.
fn last_change(windows: &[Window], now: Timestamp) -> Option<Timestamp> {
    LOOK_BACK_MS.into_iter().find_map(|back| {
        let mut last = None;
        let mut at = Timestamp(now.0 - back);
        while let Some(change) = changes_after(windows, at).filter(|change| *change <= now) {
            (last, at) = (Some(change), change);
        }
        last
    })
}

fn reached(account: &AccountPace, limit: &PacedLimit, recorded: i64, now: Timestamp) -> Option<ReachedLimit> {
    let PacedLimit { constraint, counted, rate, level, window, .. } = *limit;
    if !matches!(constraint, Constraint::DocumentsPerHour | Constraint::ApiQuota) || level >= 1.0 {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "saturates, years ahead")]
    let filled = || (rate > 0.0).then(|| ((1.0 - level) / rate * 1000.0).ceil().min(1e13) as i64);
    let wait = window.map_or_else(filled, |window| Some(window.ends_in));
    if wait.is_some_and(|wait| wait < SHORTEST_MS) {
        return None;
    }
    let noted = account.reached.iter().find(|(of, what, _)| *of == constraint && *what == counted);
    Some(ReachedLimit {
        scope: account.scope.clone(),
        drops: account.drops.clone(),
        limit: constraint,
        counted,
        per_hour: rate * 3600.0,
        since: Some(Timestamp(noted.map_or(recorded, |(.., since)| *since))),
        until: wait.map(|wait| Timestamp(now.0.saturating_add(wait))),
    })
}

fn since(at: Timestamp, now: Timestamp) -> String {
    format!("for {}, since {at}", in_words(now.since(at)))
}

fn until(at: Option<Timestamp>, now: Timestamp) -> String {
    at.map(|at| format!(", until {at}, in {}", in_words(at.since(now)))).unwrap_or_default()
}

/// What a pause is of, for people.
#[must_use]
pub fn scope_in_words(scope: &str) -> Cow<'_, str> {
    match scope.split_once(':') {
        Some(("drop", name)) => format!("drop {name}").into(),
        Some(("account", address)) => format!("the account at {address}").into(),
        _ => "everything".into(),
    }
}

/// Why sending is stopped, for people.
#[must_use]
pub const fn cause_in_words(cause: Cause) -> &'static str {
    match cause {
        Cause::Operator => "is paused by a person",
        Cause::KeyRefused => "is stopped: the API refuses the key",
        Cause::QuotaSpent => "is stopped: a limit of the account is spent",
        Cause::Outage => "is stopped: nothing but failures came back",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-22T20:15:04Z, a Sunday.
    const NOW: Timestamp = Timestamp(1_795_378_504_000);

    fn pace(windows: &[&str], limits: Vec<PacedLimit>) -> Pace {
        let account = AccountPace {
            scope: "account:https://api".to_owned(),
            drops: vec!["a".to_owned(), "b".to_owned()],
            limits,
            reached: vec![(Constraint::DocumentsPerHour, Counted::Documents, NOW.0 - 60_000)],
            ..AccountPace::default()
        };
        Pace { at: NOW.0, windows: windows.iter().map(ToString::to_string).collect(), accounts: vec![account] }
    }

    fn limit(constraint: Constraint, level: f64) -> PacedLimit {
        PacedLimit { constraint, counted: Counted::Documents, rate: 0.01, burst: 10.0, level, window: None }
    }

    #[test]
    fn each_thing_in_the_way_of_a_drop_is_named_with_since_and_until() {
        use Constraint::{ApiQuota, DocumentsPerHour, RequestsPerSecond};
        let pause = |scope: &str, cause| Pause {
            scope: scope.to_owned(),
            cause,
            detail: None,
            by: None,
            since: Timestamp(NOW.0 - 3_600_000),
        };
        let table: [(Vec<Pause>, Pace, Option<&str>); 9] = [
            (vec![], pace(&[], vec![]), None),
            (
                vec![pause("", Cause::Operator)],
                pace(&[], vec![]),
                Some("everything is paused by a person, for 1 h, since 2026-11-22T19:15:04Z"),
            ),
            (vec![pause("drop:a", Cause::Operator)], pace(&[], vec![]), Some("drop a is paused by a person")),
            (vec![pause("drop:b", Cause::Operator)], pace(&[], vec![]), None),
            (
                vec![pause("account:https://api", Cause::KeyRefused)],
                pace(&[], vec![]),
                Some("the account at https://api is stopped: the API refuses the key"),
            ),
            (vec![pause("account:other", Cause::Outage)], pace(&[], vec![]), None),
            (
                vec![],
                pace(&[], vec![limit(DocumentsPerHour, 0.5)]),
                Some(
                    "limits.documents_per_hour is used up, for 1 min, since 2026-11-22T20:14:04Z, until 2026-11-22T20:15:54Z, in 50 s",
                ),
            ),
            (vec![], pace(&[], vec![limit(DocumentsPerHour, 1.5), limit(RequestsPerSecond, 0.0)]), None),
            (vec![], pace(&[], vec![limit(ApiQuota, 0.0)]), Some("the API's own limit is used up")),
        ];
        for (pauses, pace, wanted) in table {
            let found = SendingWaits::of(pauses.clone(), pace, NOW).of_drop("a", NOW);
            match wanted {
                Some(wanted) => {
                    assert!(found.as_ref().is_some_and(|found| found.starts_with(wanted)), "{found:?}, not {wanted}")
                }
                None => assert_eq!(found, None, "{pauses:?}"),
            }
        }
    }

    #[test]
    fn a_closed_window_says_when_it_closed_and_when_the_next_opens() {
        // In whatever zone this machine is: a window of one day a week, which is another one.
        let open = |window: &str| SendingWaits::of(Vec::new(), pace(&[window], Vec::new()), NOW).closed;
        let days = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
        assert_eq!(days.iter().filter(|day| open(day).is_none()).count(), 1);
        for closed in days.iter().filter_map(|day| open(day)) {
            let (since, until) = (closed.since.unwrap(), closed.until.unwrap());
            assert!(since <= NOW && NOW < until);
            // Six days, but for an hour where the clocks change.
            assert!((6 * 86_400_000 - (until.0 - since.0)).abs() <= 3_600_000, "{since} {until}");
        }
    }
}
