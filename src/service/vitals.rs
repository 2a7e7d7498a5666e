//! Whether the service is well and may send: what health checks and monitoring ask.
//!
//! Read-only: nothing in here changes or stops anything, and nothing waits but [`Vitals::numbers`], which reads the
//! database.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::task::AbortHandle;

use super::inboxes::InboxShared;
use crate::{
    account::Account,
    clock::Timestamp,
    finish,
    health::{self, Incident, IncidentKind},
    queue::{Queue, QueueError, Reader, control::Cause},
    status,
    telemetry::{GaugeValues, IncidentCount, Telemetry},
};

/// The health of the service. Cheap to clone; it may outlive the service and then reports that it has ended.
#[derive(Clone)]
pub struct Vitals {
    pub(super) queue: Queue,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) accounts: Vec<Arc<Account>>,
    pub(super) stages: [(&'static str, AbortHandle); 2],
    pub(super) inboxes: Vec<Arc<InboxShared>>,
    pub(super) started: Instant,
}

/// Every kind, so that what ends is zero and does not vanish.
fn incidents(found: &[Incident]) -> Vec<IncidentCount> {
    let by_kind = health::by_kind(found);
    let of = |kind: IncidentKind| {
        let (count, since, until) = by_kind.get(&kind).copied().unwrap_or_default();
        IncidentCount { kind: kind.as_str(), level: kind.level().as_str(), count, since, until }
    };
    IncidentKind::ALL.map(of).to_vec()
}

impl Vitals {
    /// The queue's file.
    #[must_use]
    pub fn database(&self) -> &Path {
        self.queue.path()
    }

    /// What keeps the service from working, for a person; `None` where it is well.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        if let Some((stage, _)) = self.stages.iter().find(|(_, task)| task.is_finished()) {
            return Some(format!("{stage} has ended by itself: see the log"));
        }
        if let Some(inbox) = self.inboxes.iter().find(|inbox| inbox.ended.load(Ordering::Relaxed)) {
            return Some(format!("looking into the drop {} has ended by itself: see the log", inbox.drop));
        }
        self.queue.trouble().map(|why| format!("the database cannot be written, so all work waits: {why}"))
    }

    /// Why nothing can be sent, or not to every account, for a person: the key is refused, or the API does not work.
    /// A pause that a person asked for, or a spent quota, is not meant: those are as they should be.
    #[must_use]
    pub fn blocked(&self) -> Option<String> {
        self.accounts.iter().find_map(|account| match account.paused()? {
            Cause::KeyRefused => Some(format!("{}: the API refuses the key", account.scope)),
            Cause::Outage => Some(format!("{}: the API does not work, or cannot be reached", account.scope)),
            Cause::Operator | Cause::QuotaSpent => None,
        })
    }

    /// The drops that cannot be worked on, for a person, each with the reason.
    #[must_use]
    pub fn bad_ground(&self) -> Option<String> {
        let bad = self.inboxes.iter().filter_map(|inbox| {
            let fault = inbox.state().bad_ground.clone()?;
            Some(format!("bad ground of drop {}: {fault}", inbox.drop))
        });
        Some(bad.collect::<Vec<_>>().join("\n")).filter(|text| !text.is_empty())
    }

    /// Why not everything can be worked on and sent, for a person; `None` where it can.
    #[must_use]
    pub fn unready(&self) -> Option<String> {
        self.trouble().or_else(|| self.blocked()).or_else(|| self.bad_ground())
    }

    /// All numbers, in the text form that Prometheus reads. Blocks; one caller at a time.
    ///
    /// # Errors
    ///
    /// Where the database cannot be read.
    pub fn numbers(&self, at: Timestamp) -> Result<String, QueueError> {
        let reader = Reader::open(self.database())?;
        let numbers = reader.numbers()?;
        let status = status::read(self.database(), at)?;
        let status = status.as_ref();
        let states = || self.inboxes.iter().map(|inbox| inbox.state());
        let now = GaugeValues {
            at,
            scan: states().map(|state| state.took).max().unwrap_or_default(),
            last_drop_event: self.since_event(states().filter_map(|state| state.event).max()),
            done: finish::of_queue(&reader, None, at)?.map(|finish| finish.done),
            expected: status
                .iter()
                .flat_map(|status| &status.expected)
                .map(|one| (one.drop.clone(), one.state))
                .collect(),
            window_open: status.is_none_or(|status| status.closed_window.is_none()),
            hourly_limit_remaining: reader.pace()?.and_then(|pace| pace.hourly_limit_remaining(at.0)),
            incidents: status.map(|status| incidents(&status.health.incidents)).unwrap_or_default(),
            ready: self.inboxes.iter().map(|inbox| (inbox.drop.clone(), inbox.is_ready())).collect(),
        };
        self.telemetry.text(&numbers, &now).map_err(|error| QueueError::Refused(error.to_string()))
    }

    fn since_event(&self, event: Option<Instant>) -> Duration {
        event.unwrap_or(self.started).elapsed()
    }
}
