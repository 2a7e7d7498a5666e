//! What can be the matter, how bad that is, and what it is called.

use serde::Serialize;

use crate::clock::{Timestamp, optional_moment};

/// What is asked of a person, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthLevel {
    /// Nothing.
    #[default]
    Well,
    /// Nothing: it is deliberate, or known to end.
    Wait,
    /// A decision or a look; the rest continues.
    Person,
    /// Something has stopped, and nobody meant it.
    Stopped,
}

impl HealthLevel {
    /// The word in JSON and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Wait => "wait",
            Self::Person => "person",
            Self::Stopped => "stopped",
        }
    }

    /// The sign on a terminal.
    #[must_use]
    pub const fn sign(self) -> char {
        match self {
            Self::Well => '✓',
            Self::Wait => '‖',
            Self::Person => '!',
            Self::Stopped => '✗',
        }
    }
}

/// What can be the matter, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentKind {
    Stuck,
    Refused,
    NoWorker,
    KeyRefused,
    Outage,
    BadGround,
    Unreadable,
    Unsettled,
    Held,
    Failed,
    LateAnswers,
    LateDelivery,
    AlertsFail,
    Doubled,
    Amiss,
    FileGone,
    Unclaimed,
    Paused,
    QuotaSpent,
    WindowClosed,
    LimitReached,
    ApiQuota,
    HeldBack,
    ReadBack,
    Retry,
    Twin,
    NotTaken,
    Expected,
}

impl IncidentKind {
    pub const ALL: [Self; 28] = [
        Self::Stuck,
        Self::Refused,
        Self::NoWorker,
        Self::KeyRefused,
        Self::Outage,
        Self::BadGround,
        Self::Unreadable,
        Self::Unsettled,
        Self::Held,
        Self::Failed,
        Self::LateAnswers,
        Self::LateDelivery,
        Self::AlertsFail,
        Self::Doubled,
        Self::Amiss,
        Self::FileGone,
        Self::Unclaimed,
        Self::Paused,
        Self::QuotaSpent,
        Self::WindowClosed,
        Self::LimitReached,
        Self::ApiQuota,
        Self::HeldBack,
        Self::ReadBack,
        Self::Retry,
        Self::Twin,
        Self::NotTaken,
        Self::Expected,
    ];

    /// The word in JSON and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stuck => "stuck",
            Self::Refused => "refused",
            Self::NoWorker => "no_worker",
            Self::KeyRefused => "key_refused",
            Self::Outage => "outage",
            Self::BadGround => "bad_ground",
            Self::Unreadable => "unreadable",
            Self::Unsettled => "unsettled",
            Self::Held => "held",
            Self::Failed => "failed",
            Self::LateAnswers => "late_answers",
            Self::LateDelivery => "late_delivery",
            Self::AlertsFail => "alerts_fail",
            Self::Doubled => "doubled",
            Self::Amiss => "amiss",
            Self::FileGone => "file_gone",
            Self::Unclaimed => "unclaimed",
            Self::Paused => "paused",
            Self::QuotaSpent => "quota_spent",
            Self::WindowClosed => "window_closed",
            Self::LimitReached => "limit_reached",
            Self::ApiQuota => "api_quota",
            Self::HeldBack => "held_back",
            Self::ReadBack => "read_back",
            Self::Retry => "retry",
            Self::Twin => "twin",
            Self::NotTaken => "not_taken",
            Self::Expected => "expected",
        }
    }

    /// The heading on a terminal, which people search the README for.
    #[must_use]
    pub const fn heading(self) -> &'static str {
        match self {
            Self::Stuck => "STUCK",
            Self::Refused => "REFUSED",
            Self::NoWorker => "NO WORKER",
            Self::KeyRefused => "KEY REFUSED",
            Self::Outage => "OUTAGE",
            Self::BadGround => "BAD GROUND",
            Self::Unreadable => "UNREADABLE",
            Self::Unsettled => "CANNOT BE SETTLED",
            Self::Held => "HELD",
            Self::Failed => "FAILED",
            Self::LateAnswers => "LATE ANSWERS",
            Self::LateDelivery => "LATE",
            Self::AlertsFail => "ALERTS",
            Self::Doubled => "DOUBLED",
            Self::Amiss => "AMISS",
            Self::FileGone => "FILE GONE",
            Self::Unclaimed => "UNCLAIMED",
            Self::Paused => "PAUSED",
            Self::QuotaSpent => "QUOTA SPENT",
            Self::WindowClosed => "WINDOW",
            Self::LimitReached => "LIMIT",
            Self::ApiQuota => "API LIMIT",
            Self::HeldBack => "HELD BACK",
            Self::ReadBack => "READ-BACK",
            Self::Retry => "RETRY",
            Self::Twin => "TWIN",
            Self::NotTaken => "NOT TAKEN YET",
            Self::Expected => "EXPECTED",
        }
    }

    #[must_use]
    pub const fn level(self) -> HealthLevel {
        match self {
            Self::Stuck
            | Self::Refused
            | Self::NoWorker
            | Self::KeyRefused
            | Self::Outage
            | Self::BadGround
            | Self::Unreadable
            | Self::Unsettled => HealthLevel::Stopped,
            Self::Held
            | Self::Failed
            | Self::LateAnswers
            | Self::LateDelivery
            | Self::AlertsFail
            | Self::Doubled
            | Self::Amiss
            | Self::FileGone
            | Self::Unclaimed => HealthLevel::Person,
            Self::Paused
            | Self::QuotaSpent
            | Self::WindowClosed
            | Self::LimitReached
            | Self::ApiQuota
            | Self::HeldBack
            | Self::ReadBack
            | Self::Retry
            | Self::Twin
            | Self::NotTaken
            | Self::Expected => HealthLevel::Wait,
        }
    }

    /// Whether work stands still that does not continue by itself at a known time: what `status --check` ends with 3 for.
    #[must_use]
    pub const fn stands_still(self) -> bool {
        matches!(self.level(), HealthLevel::Stopped) || matches!(self, Self::Paused | Self::QuotaSpent)
    }
}

/// One thing that is the matter.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Incident {
    pub kind: IncidentKind,
    pub level: HealthLevel,
    /// What, without a full stop.
    pub title: String,
    /// Where: `everything`, a drop, an account, a manifest.
    pub scope: String,
    /// Since when, where that is known.
    #[serde(serialize_with = "optional_moment")]
    pub since: Option<Timestamp>,
    /// Until when, or when something happens by itself, where that is known.
    #[serde(serialize_with = "optional_moment")]
    pub until: Option<Timestamp>,
    /// How many jobs, or manifests, wait for it.
    pub waiting: Option<u64>,
    /// In the words of the API, the system, or whoever stopped it.
    pub says: Vec<String>,
    /// What a person can do.
    pub cure: String,
    /// The commands for that.
    pub commands: Vec<String>,
    /// What happens without a person.
    pub by_itself: Option<String>,
    /// Jobs that it is about.
    pub jobs: Vec<i64>,
}
