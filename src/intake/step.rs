//! Decides the next step of a manifest in a drop, from what is remembered of it and what was observed now.
//!
//! Time is an argument, and nothing here reads a file or the queue. [`DropScanner`](super::watch::DropScanner) makes the
//! observations and carries out the steps.

use std::time::{Duration, Instant};

use crate::{
    clock::Timestamp,
    file_identity::Present,
    inbox::beneath::Refusal,
    intake::{
        context::NAME_IN_USE,
        examine::{HoldReason, Unready},
        stillness::{NAMED, Stillness},
    },
    manifest_wait::{ManifestWait, MissingFiles},
    problem::Problem,
    queue::awaited::{Before, FirstSeen},
};

/// The backoff before something that failed is tried again, at most.
pub(super) const RETRY_MAX: Duration = Duration::from_secs(10);

/// The backoff after the first failure, which doubles with each.
const RETRY_FIRST: Duration = Duration::from_millis(250);

/// The phase of a manifest before it is admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ManifestPhase {
    /// It is new, or still changing: within its quiet period.
    Settling,
    /// Files that it names are not there, or not in full.
    Incomplete,
    /// It, or a file that it names, cannot be read now.
    Unreadable,
    /// Its files cannot be moved into the work folder.
    Blocked,
    /// It is in the queue.
    Queued,
    /// It was settled and stays where it is; as long as it does not change, it is left alone.
    Settled,
    /// It replaced a manifest that is not settled yet, and is admitted after that.
    Behind,
}

/// What is remembered of a manifest between two scans.
#[derive(Debug, Clone)]
pub(super) struct TrackedManifest {
    pub(super) file: Present,
    pub(super) phase: ManifestPhase,
    /// It is not examined before this.
    pub(super) not_before: Instant,
    /// When it is looked at again without an event; `None` for one that the queue has.
    pub(super) again_at: Option<Instant>,
    /// When it was first seen, which decides whose a file is that others name too.
    pub(super) seen: FirstSeen,
    /// Whether its names are noted.
    pub(super) is_read: bool,
    /// Whether its done marker was missing when it was last looked for.
    pub(super) lacks_marker: bool,
    /// What an earlier process noted of it, until it is read.
    pub(super) before: Option<EarlierLook>,
    /// In which scan it was last there.
    pub(super) scan: u64,
    /// A digest of the identities of everything that it names; changes as long as somebody writes.
    files: u64,
    /// Since when nothing has changed.
    unchanged_since: Instant,
    /// How often it was examined without success.
    tries: u32,
    /// How often its files could not be moved into the work folder.
    pub(super) refused_takings: u32,
    /// What is incomplete, and the [`TrackedManifest::files`] for which that was found: reading it again is of use once
    /// they change.
    truncated: Option<(u64, Problem)>,
}

/// By how much a change time may be earlier than the change: the kernel dates changes by its ticks.
const CTIME_LAG_MS: i64 = 20;

/// What an earlier process knew of the files of a manifest that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EarlierLook {
    pub(super) at: Timestamp,
    /// The files that were not there.
    pub(super) missing: Vec<String>,
    /// The first of those that served other manifests, or nobody.
    pub(super) in_use: Vec<String>,
    /// The first of those that were replaced while several manifests waited for them.
    pub(super) replaced: Vec<String>,
}

impl EarlierLook {
    /// What it says of a file. `own_clock`: whether the file system's clock is this machine's.
    pub(super) fn of(&self, file: &str, own_clock: bool) -> Before {
        if self.missing.iter().any(|missing| missing == file) {
            return Before::Absent;
        }
        // A process forgot that a file had been replaced, and the next one sent it to the first who had waited.
        if self.replaced.iter().any(|replaced| replaced == file) {
            return Before::Replaced { looked_ns: own_clock.then(|| self.at.0.saturating_mul(1_000_000)) };
        }
        let was_in_doubt = self.in_use.len() >= NAMED || self.in_use.iter().any(|in_use| in_use == file);
        // Of many that were missing not all are known; that one of the others was replaced cannot be ruled out.
        let certain = self.at.0.saturating_sub(CTIME_LAG_MS).saturating_mul(1_000_000);
        let looked_ns = (own_clock && !was_in_doubt).then_some(certain);
        Before::There { looked_ns }
    }
}

/// The drop's settings that decide.
#[derive(Debug, Clone, Copy)]
pub(super) struct SettleSettings {
    /// The settle time (debounce): how long a manifest and its files must be unchanged.
    pub(super) settle: Duration,
    /// Whether a done marker says that all is there, so that no time has to pass.
    pub(super) has_marker: bool,
}

#[derive(Debug)]
pub(super) enum Inspection {
    /// The marker, by this name, is not there.
    NoMarker(String),
    /// The manifest cannot be opened or examined.
    Unready(Unready),
    /// The manifest and the files that it names.
    Files {
        stillness: Stillness,
        /// How long ago the last change was by the file system's clock, where that can be relied on.
        unchanged_for: Option<Duration>,
    },
    /// It was read in full, with these files, and something of it is not ready.
    Held { held: HoldReason, files: u64 },
}

impl Inspection {
    /// The state of the files that it is about.
    pub(super) const fn files(&self) -> u64 {
        match self {
            Self::Files { stillness, .. } => stillness.signature,
            Self::Held { files, .. } => *files,
            Self::NoMarker(_) | Self::Unready(_) => 0,
        }
    }
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub(super) enum Step {
    /// Nothing before [`TrackedManifest::not_before`].
    Settle,
    /// Note what it waits for, and try again later; where it has waited for too long, continue with `given_up`.
    Wait(Box<Wait>),
    /// Admit it.
    Admit,
}

/// What a manifest waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) phase: ManifestPhase,
    pub(super) cause: ManifestWait,
    /// The files that it is about.
    pub(super) files: Vec<String>,
    /// Those that serve other manifests.
    pub(super) in_use: Vec<String>,
    /// Those that were replaced while several manifests waited for them.
    pub(super) replaced: Vec<String>,
    /// However long that takes.
    pub(super) forever: bool,
}

impl Wait {
    /// A wait, however long, until files can be put away.
    pub(super) const fn for_ground(cause: ManifestWait) -> Self {
        Self {
            phase: ManifestPhase::Incomplete,
            cause,
            files: Vec::new(),
            in_use: Vec::new(),
            replaced: Vec::new(),
            forever: true,
        }
    }
}

impl TrackedManifest {
    /// A manifest that is new or has changed: its quiet period starts now.
    pub(super) const fn new(file: Present, phase: ManifestPhase, seen: FirstSeen, now: Instant) -> Self {
        Self {
            file,
            phase,
            not_before: now,
            again_at: Some(now),
            seen,
            is_read: false,
            lacks_marker: false,
            before: None,
            scan: seen.scan,
            files: 0,
            unchanged_since: now,
            tries: 0,
            refused_takings: 0,
            truncated: None,
        }
    }

    /// Whether the queue has it, so that nothing is to be done here.
    pub(super) const fn is_known(&self) -> bool {
        matches!(self.phase, ManifestPhase::Queued | ManifestPhase::Settled)
    }

    /// The next step. `given_up`: it has waited for as long as a manifest may, and is admitted as it is.
    pub(super) fn next(
        &mut self,
        observed: &Inspection,
        given_up: bool,
        settings: SettleSettings,
        now: Instant,
    ) -> Step {
        match observed {
            Inspection::NoMarker(marker) => {
                forever(ManifestPhase::Incomplete, ManifestWait::NoMarker(marker.clone()), &[])
            }
            // Gone since the folder was read: it was archived or taken back, and the next scan does not find it.
            Inspection::Unready(Unready::Changed | Unready::Refused(Refusal::Missing)) => {
                self.unchanged_since = now;
                self.settle_for(settings.settle, now)
            }
            Inspection::Unready(Unready::Layout(why)) => {
                forever(ManifestPhase::Unreadable, ManifestWait::Layout(why.clone()), &[])
            }
            Inspection::Unready(error) => {
                let (cure, senders) = match error {
                    Unready::Refused(refusal) => {
                        (Some(refusal.problem("").cure), matches!(refusal, Refusal::Unsafe(_)))
                    }
                    _ => (None, false),
                };
                let cause = ManifestWait::Unreadable { why: error.to_string(), cure, senders };
                forever(ManifestPhase::Unreadable, cause, &[])
            }
            Inspection::Files { stillness, unchanged_for } => {
                self.next_of_files(stillness, *unchanged_for, given_up, settings, now)
            }
            Inspection::Held { held, files } => {
                // Where the system is to blame, reading it again may help although nothing has changed.
                self.truncated = match held {
                    HoldReason::NotWhole(problem) => Some((*files, problem.clone())),
                    HoldReason::BeingWritten(_) | HoldReason::Unreadable(_) | HoldReason::InUse(_) => None,
                };
                if given_up { Step::Admit } else { hold(held) }
            }
        }
    }

    fn next_of_files(
        &mut self,
        stillness: &Stillness,
        unchanged_for: Option<Duration>,
        given_up: bool,
        settings: SettleSettings,
        now: Instant,
    ) -> Step {
        if (stillness.missing > 0 || stillness.in_use > 0) && !given_up {
            return Step::Wait(Box::new(Wait {
                phase: ManifestPhase::Incomplete,
                cause: ManifestWait::Files(MissingFiles {
                    missing: stillness.missing,
                    first: stillness.first_missing.clone(),
                    taken_by: stillness.first_taken_by.clone(),
                    near: stillness.near.clone(),
                    in_use: stillness.in_use,
                    first_in_use: stillness.first_in_use.first().cloned(),
                }),
                files: stillness.first_missing.clone(),
                in_use: stillness.first_in_use.iter().filter_map(|problem| problem.path.clone()).collect(),
                replaced: stillness.first_replaced.clone(),
                forever: false,
            }));
        }
        if let Some(rest) = self.rest(stillness, unchanged_for, settings, now)
            && !given_up
        {
            return self.settle_for(rest, now);
        }
        if let Some((file, who)) = &stillness.being_written {
            // A file that is taken while somebody still writes to it is of no use to either side.
            let cause = ManifestWait::OpenForWriting { file: file.clone(), who: who.clone() };
            return forever(ManifestPhase::Incomplete, cause, std::slice::from_ref(file));
        }
        match &self.truncated {
            Some((files, problem)) if *files == stillness.signature && !given_up => {
                hold(&HoldReason::NotWhole(problem.clone()))
            }
            _ => Step::Admit,
        }
    }

    fn settle_for(&mut self, wait: Duration, now: Instant) -> Step {
        self.phase = ManifestPhase::Settling;
        self.not_before = now + wait;
        Step::Settle
    }

    /// What is left of the settle time (debounce), in which everything must be unchanged; `None` where it has been for
    /// long enough.
    fn rest(
        &mut self,
        stillness: &Stillness,
        unchanged_for: Option<Duration>,
        settings: SettleSettings,
        now: Instant,
    ) -> Option<Duration> {
        if settings.has_marker {
            return None;
        }
        if stillness.signature != self.files {
            self.files = stillness.signature;
            self.unchanged_since = now;
        }
        let seen_for = now.saturating_duration_since(self.unchanged_since);
        let quiet = unchanged_for.map_or(seen_for, |unchanged_for| unchanged_for.max(seen_for));
        settings.settle.checked_sub(quiet).filter(|rest| !rest.is_zero())
    }

    /// Puts it off after a [`Step::Wait`]. Events trigger a scan sooner; without them the intervals grow (backoff).
    pub(super) fn put_off(&mut self, phase: ManifestPhase, now: Instant) {
        self.phase = phase;
        self.tries = self.tries.saturating_add(1);
        self.not_before = now + RETRY_MAX.min(RETRY_FIRST * (1 << self.tries.min(6)));
    }
}

fn forever(phase: ManifestPhase, cause: ManifestWait, files: &[String]) -> Step {
    let (in_use, replaced) = (Vec::new(), Vec::new());
    Step::Wait(Box::new(Wait { phase, cause, files: files.to_vec(), in_use, replaced, forever: true }))
}

fn hold(held: &HoldReason) -> Step {
    let problem = held.problem();
    let is_in_use = problem.code.as_deref() == Some(NAME_IN_USE);
    let (phase, cause) = match held {
        HoldReason::Unreadable(problem) => (ManifestPhase::Unreadable, ManifestWait::FileUnreadable(problem.clone())),
        HoldReason::InUse(problem) => (ManifestPhase::Incomplete, ManifestWait::InUse(problem.clone())),
        _ if is_in_use => (ManifestPhase::Incomplete, ManifestWait::InUse(problem.clone())),
        HoldReason::NotWhole(problem) => (ManifestPhase::Incomplete, ManifestWait::NotWhole(problem.clone())),
        HoldReason::BeingWritten(problem) => (ManifestPhase::Incomplete, ManifestWait::WrittenSince(problem.clone())),
    };
    // A file that is taken while somebody still writes to it is of no use to either side.
    let forever = matches!(held, HoldReason::BeingWritten(_));
    let (in_use, files) = problem.path.iter().cloned().partition(|_| is_in_use);
    Step::Wait(Box::new(Wait { phase, cause, files, in_use, replaced: Vec::new(), forever }))
}

/// How long ago a file changed by its change time (ctime), where that counts: its clock must be this machine's, and the
/// clock must not have been moved since. The modification time is not used, since senders can set it.
pub(super) fn unchanged_for(
    last_change: Timestamp,
    own_clock: bool,
    moved_to: Option<Timestamp>,
    now: Timestamp,
    system_now: Timestamp,
) -> Option<Duration> {
    // A file that was changed before the clock was moved may look older than it is.
    let reliable = own_clock && moved_to.is_none_or(|moved| last_change > moved);
    // The kernel dates files by the system's clock, which may have been set back and not be trusted yet.
    reliable.then(|| now.since(last_change).min(system_now.since(last_change)))
}
