//! Decides how changes in a drop are noticed, by a trial, and reports it.
//!
//! Whether a file system reports changes cannot be asked. What can be known is its type, since network file systems do
//! not report what other machines do; and whether any event arrives at all, which is tried by opening the folder: the
//! kernel reports that like any other access, and it takes only the right to read, so nothing is ever written into a
//! partner's folder for it. Until the trial has succeeded, and wherever it does not, the folder is polled.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crate::{
    config::{DropConfig, Watch},
    inbox::{
        beneath::Root,
        hints::FolderEvent,
        watch::{EventSupport, Watcher, delivers_events},
    },
    queue::Queue,
};

/// Polling interval of folders that report no events.
const POLL: Duration = Duration::from_secs(2);

/// How long a trial may take. The kernel needs microseconds; an overloaded machine is polled for a while.
const TRIAL: Duration = Duration::from_secs(2);

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

/// Called with each event, on the thread that reads them.
pub(super) type OnEvent = Arc<dyn Fn(&FolderEvent<'_>) + Send + Sync>;

/// A drop's events, where its file system has them.
pub(super) struct Events {
    /// What watches the folder, as long as that is under its path.
    watcher: Option<Arc<Watcher>>,
    on_event: OnEvent,
    trial: Option<Instant>,
    known: EventKnowledge,
    said: Option<Noticed>,
    queue: Queue,
}

/// When the whole drop is to be scanned.
pub(super) struct RescanPlan {
    /// After what time the whole drop is scanned again.
    pub(super) rescan_after: Duration,
    /// Whether another folder is watched than before.
    pub(super) is_new: bool,
}

impl Events {
    pub(super) fn new(on_event: OnEvent, queue: Queue) -> Self {
        Self { watcher: None, on_event, trial: None, known: EventKnowledge::default(), said: None, queue }
    }

    /// Watches the folder, again where another one is in its place. `scanned_whole`: whether all of it was scanned since the
    /// last time, so that each folder is watched where none failed.
    pub(super) fn arm(&mut self, config: &DropConfig, scanned_whole: bool) -> RescanPlan {
        let poll = config.rescan_every.min(POLL);
        let Ok(root) = Root::open(&config.path) else {
            // Reported by the scan.
            self.end();
            return RescanPlan { rescan_after: poll, is_new: false };
        };
        let is_new = config.watch != Watch::Poll && !self.watcher.as_ref().is_some_and(|watcher| watcher.is_of(&root));
        if is_new {
            self.start(config, &root);
        }
        if let Some(watcher) = &self.watcher {
            match watcher.take_failure() {
                Some(failure) => self.known.failed = Some(failure.to_string()),
                None if scanned_whole => self.known.failed = None,
                None => {}
            }
            self.known.heard = watcher.has_heard();
            self.known.tried = self.trial.is_some_and(|trial| trial.elapsed() >= TRIAL);
        }
        let noticed = noticed(config.watch, &self.known);
        self.say(config, &noticed, poll);
        let rescan_after = if noticed == Noticed::ByEvents { config.rescan_every } else { poll };
        RescanPlan { rescan_after, is_new: is_new && self.watcher.is_some() }
    }

    /// What watches the folders, and whether its events are known to arrive.
    pub(super) fn watcher(&self) -> (Option<Arc<Watcher>>, bool) {
        (self.watcher.clone(), self.said == Some(Noticed::ByEvents))
    }

    fn start(&mut self, config: &DropConfig, root: &Root) {
        self.end();
        self.known = EventKnowledge::default();
        if let Ok(EventSupport::No(kind)) = delivers_events(&config.path) {
            self.known.silent = Some(kind);
        }
        let started = Watcher::start(root).map_err(|error| error.to_string()).and_then(|watcher| {
            let watcher = Arc::new(watcher);
            let (theirs, on_event) = (Arc::clone(&watcher), Arc::clone(&self.on_event));
            let reading = move || {
                if let Err(error) = theirs.read(&mut |event| on_event(event)) {
                    tracing::error!(reason = %error, "the events of a folder cannot be read any more");
                }
            };
            let thread = thread::Builder::new().name("events".to_owned()).spawn(reading);
            thread.map(|_| watcher).map_err(|error| error.to_string())
        });
        match started {
            Ok(watcher) => self.watcher = Some(watcher),
            Err(error) => self.known.failed = Some(error),
        }
        self.trial = Some(Instant::now());
    }

    fn end(&mut self) {
        if let Some(watcher) = self.watcher.take() {
            watcher.end();
        }
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

impl Drop for Events {
    fn drop(&mut self) {
        self.end();
    }
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
