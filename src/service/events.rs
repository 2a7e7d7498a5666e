//! Decides how changes in a drop are noticed, by a trial, and reports it.
//!
//! Whether a file system reports changes cannot be asked. What can be known is its type, since network file systems do
//! not report what other machines do; and whether any event arrives at all, which is tried by opening the folder: the
//! kernel reports that like any other access, and it takes only the right to read, so nothing is ever written into a
//! partner's folder for it. Until the trial has succeeded, and wherever it does not, the folder is polled.

use std::{
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use crate::{
    config::{DropConfig, Watch},
    inbox::{
        beneath::Root,
        watch::{EventSupport, WatchError, Watcher, delivers_events},
    },
    queue::Queue,
};

/// Polling interval of folders that report no events.
const POLL: Duration = Duration::from_secs(2);

/// How long a trial may take. The kernel needs microseconds; an overloaded machine is polled for a while.
const TRIAL: Duration = Duration::from_secs(2);

/// Starting a watch takes at most this long where no other events are pending. Where somebody renames folders as fast
/// as possible it may never end, and the drop is polled meanwhile.
const WATCHED_WITHIN: Duration = Duration::from_secs(1);

/// After events were lost, folders that came meanwhile are searched this soon, and less often each time that more are
/// lost, as where the search itself fills the kernel's queue.
const MEND: Duration = Duration::from_secs(2);

/// How changes are noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Noticed {
    /// By events, and by a full scan now and then.
    ByEvents,
    /// By polling until the trial shows whether there are events.
    OnTrial,
    /// By polling, for this reason.
    ByReading(String),
    /// By polling, although the configuration insists on events.
    Lacking(String),
}

impl Noticed {
    /// For `status`.
    fn text(&self, poll: Duration) -> Option<String> {
        let every = crate::config::duration_text(poll);
        match self {
            Self::OnTrial => None,
            Self::ByEvents => Some("events".to_owned()),
            Self::ByReading(why) => Some(format!("read every {every}: {why}")),
            Self::Lacking(why) => {
                Some(format!("read every {every}, although watch = \"events\" asks for events: {why}"))
            }
        }
    }
}

/// What is known of the events of a folder.
#[derive(Debug, Clone, Default)]
struct EventKnowledge {
    /// What failed at the watching, if something did.
    failed: Option<String>,
    /// A file system that does not report changes of other machines.
    silent: Option<&'static str>,
    /// Whether an event arrived.
    heard: bool,
    /// Whether the trial is over.
    tried: bool,
}

/// How changes are noticed, by what is asked for and what is known.
fn noticed(asked: Watch, known: &EventKnowledge) -> Noticed {
    let otherwise = |why: String| match asked {
        Watch::Events => Noticed::Lacking(why),
        Watch::Auto | Watch::Poll => Noticed::ByReading(why),
    };
    match (asked, known.silent, &known.failed) {
        (Watch::Poll, ..) => Noticed::ByReading("watch = \"poll\"".to_owned()),
        // An operator who configures events may know that only this machine writes there.
        (Watch::Auto, Some(kind), _) => {
            Noticed::ByReading(format!("{kind} tells nothing of what other machines change"))
        }
        (_, _, Some(why)) => otherwise(why.clone()),
        _ if known.heard => Noticed::ByEvents,
        _ if known.tried => otherwise("the system tells nothing of what happens in this folder".to_owned()),
        _ => Noticed::OnTrial,
    }
}

/// Receives the error of an attempt to watch, if any, once that has ended.
type WatchFailure = mpsc::Receiver<Option<String>>;

/// A drop's events, where its file system has them.
pub(super) struct Events {
    watcher: Option<Arc<Mutex<Watcher>>>,
    /// The result of an attempt to watch that takes long, with its folder.
    busy: Option<(WatchFailure, (u64, u64))>,
    /// Which folder is watched: another one may come into its place.
    armed: Option<(u64, u64)>,
    trial: Option<Instant>,
    known: EventKnowledge,
    mend: Mend,
    said: Option<Noticed>,
    queue: Queue,
}

/// When to repair a watch that has missed something.
#[derive(Debug, Default)]
struct Mend {
    /// When it was last done, and how long to wait after that.
    last: Option<(Instant, Duration)>,
}

impl Mend {
    /// How long to wait from now on, where something was missed.
    fn due_in(&self, now: Instant) -> Duration {
        self.last.map_or(Duration::ZERO, |(at, pause)| pause.saturating_sub(now.duration_since(at)))
    }

    /// Notes that it is done now.
    fn done(&mut self, now: Instant, longest: Duration) {
        let pause = match self.last {
            // No event was missed for a long time.
            Some((at, pause)) if now.duration_since(at) < pause * 2 => pause * 2,
            _ => MEND,
        };
        self.last = Some((now, pause.min(longest.max(MEND))));
    }
}

impl Events {
    pub(super) fn new(config: &DropConfig, on_event: Arc<dyn Fn() + Send + Sync>, queue: Queue) -> Self {
        let mut events = Self {
            watcher: None,
            busy: None,
            armed: None,
            trial: None,
            known: EventKnowledge::default(),
            mend: Mend::default(),
            said: None,
            queue,
        };
        if config.watch != Watch::Poll {
            match Watcher::start(on_event) {
                Ok(watcher) => events.watcher = Some(Arc::new(Mutex::new(watcher))),
                Err(error) => events.known.failed = Some(error.to_string()),
            }
        }
        events
    }

    /// Watches the folder, again where another one is in its place; returns the polling interval.
    pub(super) fn arm(&mut self, config: &DropConfig) -> Duration {
        let poll = config.rescan_every.min(POLL);
        let Ok(root) = Root::open(&config.path) else {
            // Reported by the scan.
            self.armed = None;
            return poll;
        };
        let place = (root.identity().dev, root.identity().ino);
        let mut rest = config.rescan_every;
        if let Some(watcher) = self.watcher.clone() {
            if let Some((done, place)) = self.busy.take() {
                self.wait_for(done, place, Duration::ZERO);
            } else if self.armed != Some(place) {
                self.known = EventKnowledge::default();
                if let Ok(EventSupport::No(kind)) = delivers_events(&config.path) {
                    self.known.silent = Some(kind);
                }
                self.watch(&watcher, config, place, |watcher, config| {
                    let watched = watcher.watch(&config.path, config.recursive);
                    watcher.try_out(&config.path);
                    watched
                });
                self.trial = Some(Instant::now());
            } else if lock(&watcher).has_missed() {
                let now = Instant::now();
                let due = self.mend.due_in(now);
                if due.is_zero() {
                    self.watch(&watcher, config, place, |watcher, config| {
                        watcher.watch_the_rest(&config.path, config.recursive)
                    });
                    self.mend.done(now, config.rescan_every);
                } else {
                    rest = rest.min(due);
                }
            }
            if self.busy.is_none() {
                self.known.heard = lock(&watcher).has_heard();
            }
            self.known.tried = self.trial.is_some_and(|trial| trial.elapsed() >= TRIAL);
        }
        let noticed = noticed(config.watch, &self.known);
        self.say(config, &noticed, poll);
        if noticed == Noticed::ByEvents { rest } else { poll.min(rest) }
    }

    /// Starts the watch on a thread of its own, since the call waits behind all pending events.
    fn watch(
        &mut self,
        watcher: &Arc<Mutex<Watcher>>,
        config: &DropConfig,
        place: (u64, u64),
        how: impl FnOnce(&mut Watcher, &DropConfig) -> Result<(), WatchError> + Send + 'static,
    ) {
        let (tell, done) = mpsc::channel();
        let (watcher, config) = (Arc::clone(watcher), config.clone());
        let watching = move || {
            let watched = how(&mut lock(&watcher), &config);
            // Nobody receives it where the drop is no longer scanned.
            tell.send(watched.err().map(|error| error.to_string())).ok();
        };
        match thread::Builder::new().name("watching".to_owned()).spawn(watching) {
            Ok(_) => self.wait_for(done, place, WATCHED_WITHIN),
            Err(error) => self.known.failed = Some(error.to_string()),
        }
    }

    fn wait_for(&mut self, done: WatchFailure, place: (u64, u64), patience: Duration) {
        self.known.failed = match done.recv_timeout(patience) {
            Ok(failed) => failed,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                self.busy = Some((done, place));
                Some("more happens in this folder than the system can tell of".to_owned())
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => Some("the watching ended by a defect".to_owned()),
        };
        self.armed = self.known.failed.is_none().then_some(place);
    }

    fn say(&mut self, config: &DropConfig, noticed: &Noticed, poll: Duration) {
        let Some(text) = noticed.text(poll).filter(|_| self.said.as_ref() != Some(noticed)) else { return };
        match noticed {
            Noticed::Lacking(_) => tracing::error!(drop = config.name, watching = text, "not all changes are noticed"),
            Noticed::ByReading(_) if config.watch == Watch::Auto => {
                tracing::warn!(drop = config.name, watching = text, "changes are noticed with a delay");
            }
            _ => tracing::debug!(drop = config.name, watching = text, "how changes are noticed"),
        }
        if let Err(error) = self.queue.drop_watching(&config.name, text) {
            tracing::debug!(%error, "how changes are noticed is not noted");
        }
        self.said = Some(noticed.clone());
    }
}

fn lock(watcher: &Mutex<Watcher>) -> std::sync::MutexGuard<'_, Watcher> {
    watcher.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_count_once_one_was_heard() {
        let mut known = EventKnowledge::default();
        for asked in [Watch::Auto, Watch::Events] {
            assert_eq!(noticed(asked, &known), Noticed::OnTrial);
        }
        known.heard = true;
        for asked in [Watch::Auto, Watch::Events] {
            assert_eq!(noticed(asked, &known), Noticed::ByEvents);
        }
        assert!(matches!(noticed(Watch::Poll, &known), Noticed::ByReading(_)));
    }

    #[test]
    fn what_was_missed_is_mended_soon_and_seldom_where_the_mending_misses_more() {
        let (mut mend, began) = (Mend::default(), Instant::now());
        let hour = Duration::from_secs(3600);
        let mut now = began;
        for pause in [2, 4, 8, 16].map(Duration::from_secs) {
            assert_eq!(mend.due_in(now), Duration::ZERO);
            mend.done(now, hour);
            assert_eq!(mend.due_in(now), pause);
            now += pause;
        }
        mend.done(now, Duration::from_secs(10));
        assert_eq!(mend.due_in(now), Duration::from_secs(10), "never later than a reading in full");
        now += hour;
        mend.done(now, hour);
        assert_eq!(mend.due_in(now), MEND, "it was quiet for long");
    }

    #[test]
    fn without_events_the_folder_is_polled_and_a_drop_that_is_set_to_events_reports_it() {
        let deaf = EventKnowledge { tried: true, ..EventKnowledge::default() };
        let failed = EventKnowledge { failed: Some("no more watches".to_owned()), ..EventKnowledge::default() };
        for known in [deaf, failed] {
            assert!(matches!(noticed(Watch::Auto, &known), Noticed::ByReading(_)));
            assert!(matches!(noticed(Watch::Events, &known), Noticed::Lacking(_)));
        }
    }

    #[test]
    fn a_network_share_is_polled_although_it_reports_what_this_machine_does() {
        let share = EventKnowledge { silent: Some("NFS"), heard: true, ..EventKnowledge::default() };
        assert!(matches!(noticed(Watch::Auto, &share), Noticed::ByReading(why) if why.contains("NFS")));
        assert_eq!(noticed(Watch::Events, &share), Noticed::ByEvents);
    }
}
