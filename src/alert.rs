//! What is announced to people who do not look: conditions, and which of them a receiver does not know yet.
//!
//! Pure. An alert follows the condition, not an event: each receiver is sent the difference between what is and what it
//! was last sent, so that a receiver that was away learns what is true when it is back, and a restart repeats nothing.
//! Nothing in here names a file, a reference or a profile, but for [`AlertCondition::details`], which only receivers with
//! `details = true` get.

use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// What can be announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AlertKind {
    /// The database was restored, or is another one: nothing is sent before `adopt`.
    Restored,
    /// Files cannot be taken, put away or recorded: folders, disks, the database.
    Ground,
    /// Sending is stopped.
    Paused,
    /// A document exists more than once.
    Doubled,
    /// Something that was expected did not come, or is not delivered.
    Late,
    /// Something will not be delivered in time.
    WillBeLate,
    /// Jobs wait for a decision.
    Held,
    /// Entries failed.
    Failed,
    /// Manifests were refused as a whole.
    Rejected,
    /// What was announced before is over.
    Recovered,
}

impl AlertKind {
    /// Every word that the configuration knows, the most urgent first.
    pub const WORDS: [(&'static str, Self); 10] = [
        ("restored", Self::Restored),
        ("ground", Self::Ground),
        ("paused", Self::Paused),
        ("doubled", Self::Doubled),
        ("late", Self::Late),
        ("will-be-late", Self::WillBeLate),
        ("held", Self::Held),
        ("failed", Self::Failed),
        ("rejected", Self::Rejected),
        ("recovered", Self::Recovered),
    ];

    /// The word in the configuration and in alerts.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|(_, kind)| *kind == self).map_or("", |(word, _)| word)
    }
}

/// Something that is the case and that somebody may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertCondition {
    pub kind: AlertKind,
    /// The drop or the account that it is about; empty for everything.
    pub scope: String,
    /// The stable name of the reason.
    pub code: &'static str,
    pub since: Timestamp,
    /// How many jobs, manifests or documents it is about.
    pub count: u64,
    /// What is the case, in one sentence without names.
    pub summary: String,
    /// What to do.
    pub cure: String,
    /// Names and words.
    pub details: Vec<String>,
}

impl AlertCondition {
    /// What makes it the same condition later.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}/{}", self.kind.as_str(), self.code, self.scope)
    }
}

/// What a receiver was last sent of a condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentAlert {
    kind: AlertKind,
    scope: String,
    code: String,
    since: Timestamp,
    /// The count that it was sent with.
    count: u64,
    /// When it was sent.
    at: Timestamp,
}

/// What a receiver was sent, by the conditions' keys.
pub type SentAlerts = BTreeMap<String, SentAlert>;

/// Why something is announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AlertEvent {
    /// It is the case, and the receiver does not know.
    Raised,
    /// Far more than the receiver knows of.
    Grown,
    /// It is still the case, after `repeat_every`.
    Repeated,
    /// It is over.
    Recovered,
}

/// What is sent: one JSON object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Notice {
    pub version: u32,
    /// The same whenever this notice is sent again, so that a receiver can leave out what it has.
    pub id: String,
    pub event: AlertEvent,
    pub kind: AlertKind,
    /// For `recovered`: the kind that is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovered: Option<AlertKind>,
    /// The drop, the account, or nothing.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub scope: String,
    /// The stable name of the reason.
    pub code: String,
    /// Since when it is the case, as RFC 3339.
    pub since: String,
    /// When this was made, as RFC 3339.
    pub at: String,
    /// How many jobs, manifests or documents it is about.
    pub count: u64,
    /// What is the case, in one sentence without names of files or people.
    pub summary: String,
    /// What to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cure: String,
    /// Names and words; only with `details = true`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
    /// The machine.
    pub host: String,
    #[serde(skip)]
    key: String,
    #[serde(skip)]
    sent: Option<SentAlert>,
}

impl Notice {
    /// Records that it was sent.
    pub fn record(self, sent: &mut SentAlerts) {
        match self.sent {
            Some(alert) => sent.insert(self.key, alert),
            None => sent.remove(&self.key),
        };
    }
}

/// What a receiver wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wishes {
    pub on: Vec<AlertKind>,
    /// Whether names and words are sent.
    pub details: bool,
    /// After what time a condition that lasts is announced again; absent: never.
    pub repeat_every: Option<Duration>,
}

/// A count that grows by less than to its double is announced again after this time.
const GROWN_AFTER: Duration = Duration::from_secs(600);

/// What is to be sent to a receiver that was sent `sent`, the most urgent first.
#[must_use]
pub fn due(
    conditions: &[AlertCondition],
    sent: &SentAlerts,
    wishes: &Wishes,
    host: &str,
    now: Timestamp,
) -> Vec<Notice> {
    let wanted = |kind: AlertKind| wishes.on.contains(&kind);
    let mut notices = Vec::new();
    for condition in conditions.iter().filter(|condition| wanted(condition.kind)) {
        let event = match sent.get(&condition.key()) {
            None => AlertEvent::Raised,
            Some(known) if has_grown(condition.count, known, now) => AlertEvent::Grown,
            Some(known) if wishes.repeat_every.is_some_and(|every| now.since(known.at) >= every) => {
                AlertEvent::Repeated
            }
            Some(_) => continue,
        };
        notices.push(raised(condition, event, wishes.details, host, now));
    }
    notices.sort_by_key(|notice| notice.kind);
    for (key, alert) in sent.iter().filter(|(key, _)| !conditions.iter().any(|condition| condition.key() == **key)) {
        notices.push(recovered(key, alert, host, now));
    }
    notices
}

/// Whether a receiver wants this notice; what it does not want is recorded all the same.
#[must_use]
pub fn is_wanted(notice: &Notice, wishes: &Wishes) -> bool {
    wishes.on.contains(&notice.kind)
}

fn has_grown(count: u64, known: &SentAlert, now: Timestamp) -> bool {
    count >= known.count.saturating_mul(2).max(2) || count > known.count && now.since(known.at) >= GROWN_AFTER
}

fn raised(condition: &AlertCondition, event: AlertEvent, details: bool, host: &str, now: Timestamp) -> Notice {
    let key = condition.key();
    let AlertCondition { kind, scope, code, since, count, summary, cure, .. } = condition.clone();
    let sent = SentAlert { kind, scope: scope.clone(), code: code.to_owned(), since, count, at: now };
    // A repetition is another notice; the same notice after a failure is not.
    let occasion = if event == AlertEvent::Repeated { now.0 } else { 0 };
    Notice {
        version: 1,
        id: format!("{host}/{key}/{}/{count}/{occasion}", since.0),
        event,
        kind,
        recovered: None,
        scope,
        code: code.to_owned(),
        since: since.to_string(),
        at: now.to_string(),
        count,
        summary,
        cure,
        details: if details { condition.details.clone() } else { Vec::new() },
        host: host.to_owned(),
        key,
        sent: Some(sent),
    }
}

fn recovered(key: &str, alert: &SentAlert, host: &str, now: Timestamp) -> Notice {
    let about = if alert.scope.is_empty() { String::new() } else { format!("{}: ", alert.scope) };
    Notice {
        version: 1,
        id: format!("{host}/{key}/{}/over", alert.since.0),
        event: AlertEvent::Recovered,
        kind: AlertKind::Recovered,
        recovered: Some(alert.kind),
        scope: alert.scope.clone(),
        code: alert.code.clone(),
        since: alert.since.to_string(),
        at: now.to_string(),
        count: alert.count,
        summary: format!("{about}{} is over", alert.code),
        cure: String::new(),
        details: Vec::new(),
        host: host.to_owned(),
        key: key.to_owned(),
        sent: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(kind: AlertKind, count: u64) -> AlertCondition {
        AlertCondition {
            kind,
            scope: "partner".into(),
            code: "held",
            since: Timestamp(1000),
            count,
            summary: format!("drop partner: {count} jobs are held"),
            cure: "decide".into(),
            details: vec!["customer-17/passport".into()],
        }
    }

    fn wishes(on: &[AlertKind]) -> Wishes {
        Wishes { on: on.to_vec(), details: false, repeat_every: Some(Duration::from_secs(3600)) }
    }

    /// Sends everything that is due at this second; returns what happened.
    fn send(conditions: &[AlertCondition], sent: &mut SentAlerts, seconds: i64) -> Vec<AlertEvent> {
        let notices = due(conditions, sent, &wishes(&[AlertKind::Held]), "host", Timestamp(seconds * 1000));
        notices
            .into_iter()
            .map(|notice| {
                let event = notice.event;
                notice.record(sent);
                event
            })
            .collect()
    }

    #[test]
    fn a_condition_is_announced_once_until_it_grows_lasts_or_is_over() {
        let mut sent = SentAlerts::new();
        let held = |count| [condition(AlertKind::Held, count)];
        assert_eq!(send(&held(1), &mut sent, 0), [AlertEvent::Raised]);
        assert_eq!(send(&held(1), &mut sent, 10), []);
        assert_eq!(send(&held(2), &mut sent, 20), [AlertEvent::Grown]);
        assert_eq!(send(&held(3), &mut sent, 30), []);
        assert_eq!(send(&held(3), &mut sent, 620), [AlertEvent::Grown]);
        assert_eq!(send(&held(2), &mut sent, 4219), []);
        assert_eq!(send(&held(2), &mut sent, 4220), [AlertEvent::Repeated]);
        assert_eq!(send(&[], &mut sent, 4230), [AlertEvent::Recovered]);
        assert_eq!(send(&[], &mut sent, 4240), []);
        assert!(sent.is_empty());
    }

    #[test]
    fn what_was_not_sent_is_due_again_with_the_same_id() {
        let sent = SentAlerts::new();
        let ids = [0, 60_000].map(|at| {
            let notices = due(&[condition(AlertKind::Held, 1)], &sent, &wishes(&[AlertKind::Held]), "h", Timestamp(at));
            notices[0].id.clone()
        });
        assert_eq!(ids[0], ids[1]);
    }

    #[test]
    fn only_what_is_wished_is_announced_the_most_urgent_first_and_without_names() {
        let both = [condition(AlertKind::Failed, 1), condition(AlertKind::Ground, 1), condition(AlertKind::Late, 1)];
        let wishes = Wishes { on: vec![AlertKind::Failed, AlertKind::Ground], details: false, repeat_every: None };
        let notices = due(&both, &SentAlerts::new(), &wishes, "host", Timestamp(0));
        let kinds: Vec<_> = notices.iter().map(|notice| notice.kind).collect();
        assert_eq!(kinds, [AlertKind::Ground, AlertKind::Failed]);
        let text = serde_json::to_string(&notices).unwrap();
        assert!(!text.contains("customer-17"), "{text}");
        let detailed = Wishes { details: true, ..wishes };
        let text = serde_json::to_string(&due(&both, &SentAlerts::new(), &detailed, "host", Timestamp(0))).unwrap();
        assert!(text.contains("customer-17"), "{text}");
    }

    #[test]
    fn sent_alerts_read_back_as_they_were_written() {
        let mut sent = SentAlerts::new();
        send(&[condition(AlertKind::Held, 3)], &mut sent, 5);
        let text = serde_json::to_string(&sent).unwrap();
        assert_eq!(serde_json::from_str::<SentAlerts>(&text).unwrap(), sent);
    }
}
