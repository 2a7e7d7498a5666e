//! The threads that scan the drops, one each, so that a folder that is slow, broken or unmounted, or a defect that one
//! drop's files bring to light, delays no other.

use std::{
    io,
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::events::{Events, RescanPlan};
use crate::{
    dispatch::Signals,
    inbox::{
        hints::{FolderEvent, Hints},
        scan_rules::ScanRules,
    },
    intake::watch::{DropScanner as Inbox, DropStatus},
    log_throttle::LogThrottle,
    queue::{Queue, QueueError},
};

/// The longest pause after a scan, where something happens all the time.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Scans that follow one another within so short a time are in a row.
const ROW: Duration = Duration::from_millis(50);

/// The longest pause after one of many in a row that each take less than that.
const ROW_PAUSE: Duration = Duration::from_millis(10);

/// A drop's thread, and what it shares.
pub(super) struct InboxThread {
    pub(super) shared: Arc<InboxShared>,
    pub(super) thread: thread::JoinHandle<()>,
}

pub(super) struct InboxShared {
    pub(super) drop: String,
    state: Mutex<InboxState>,
    changed: Condvar,
    /// Its thread has ended.
    pub(super) ended: AtomicBool,
    /// Why it ended by itself, where the queue is the cause.
    pub(super) failure: Mutex<Option<QueueError>>,
}

#[derive(Default)]
pub(super) struct InboxState {
    hinted: bool,
    /// What is to be looked at since the last scan.
    hints: Hints,
    pub(super) looked: Option<DropStatus>,
    /// How long the last scan of the whole drop took.
    pub(super) took: Duration,
    /// When an event last arrived.
    pub(super) event: Option<Instant>,
    /// What keeps the drop's files from being taken or put away; the drop is ready where nothing does.
    pub(super) bad_ground: Option<String>,
}

impl InboxState {
    fn is_roused(&self) -> bool {
        let concerned = self.hints.concern_waiting() && self.looked.is_some_and(|looked| looked.waits());
        self.hinted || self.hints.has_names() || concerned
    }
}

impl InboxShared {
    pub(super) fn state(&self) -> std::sync::MutexGuard<'_, InboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn looked(&self, looked: DropStatus, whole_took: Option<Duration>) {
        let mut state = self.state();
        state.looked = Some(looked);
        state.took = whole_took.unwrap_or(state.took);
        if looked.taken > 0 {
            // A folder that is polled has no other events.
            state.event = Some(Instant::now());
        }
    }

    /// Whether the drop is scanned and its ground is good.
    pub(super) fn is_ready(&self) -> bool {
        let state = self.state();
        state.looked.is_some() && state.bad_ground.is_none() && !self.ended.load(Ordering::Relaxed)
    }

    pub(super) fn hint(&self) {
        self.state().hinted = true;
        self.changed.notify_one();
    }

    /// Records an event in the folder.
    fn event(&self, event: &FolderEvent<'_>, rules: &ScanRules) {
        let mut state = self.state();
        state.event = Some(Instant::now());
        state.hints.add(event, rules);
        if state.is_roused() {
            self.changed.notify_one();
        }
    }

    /// Rests for this long, or until the stop: [`InboxShared::hint`] follows it.
    fn rest(&self, rest: Duration, stopped: &dyn Fn() -> bool) {
        let mut state = self.state();
        let until = Instant::now() + rest;
        while let Some(left) = until.checked_duration_since(Instant::now())
            && !stopped()
        {
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for a hint, at most this long; returns all that came.
    fn wait(&self, at_most: Duration) -> Hints {
        let mut state = self.state();
        let until = Instant::now() + at_most;
        while !state.is_roused() {
            let Some(left) = until.checked_duration_since(Instant::now()) else { break };
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.hinted = false;
        std::mem::take(&mut state.hints)
    }
}

impl InboxThread {
    pub(super) fn start(
        inbox: Inbox,
        stopped: Arc<dyn Fn() -> bool + Send + Sync>,
        signals: Arc<Signals>,
        stop: CancellationToken,
    ) -> io::Result<Self> {
        let shared = Arc::new(InboxShared {
            drop: inbox.config().name.clone(),
            state: Mutex::default(),
            changed: Condvar::new(),
            ended: AtomicBool::new(false),
            failure: Mutex::new(None),
        });
        let (theirs, work) = (Arc::clone(&shared), Arc::clone(&signals));
        let inbox = inbox.on_taken(Arc::new(move || work.work.notify_one()));
        let thread = thread::Builder::new()
            .name(format!("drop-{}", inbox.config().name.chars().take(10).collect::<String>()))
            .spawn(move || {
                let queue = inbox.queue().clone();
                // Nothing of what a panic leaves half done is used again: the drop's own state is gone with it.
                let looking = AssertUnwindSafe(|| look_on(inbox, &theirs, &*stopped, &signals));
                match panic::catch_unwind(looking) {
                    Ok(Ok(())) => {}
                    // Nobody else can use the queue either: everything stops, and says so.
                    Ok(Err(failure)) => {
                        *theirs.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
                        stop.cancel();
                    }
                    Err(_) => died(&theirs, &queue),
                }
                theirs.ended.store(true, Ordering::Relaxed);
            })?;
        Ok(Self { shared, thread })
    }
}

/// Reports a drop whose thread died of a defect and which is no longer scanned. The others continue.
fn died(shared: &InboxShared, queue: &Queue) {
    const WHY: &str = "the thread that scans it died of a defect; nothing of it is taken until a restart";
    tracing::error!(drop = shared.drop, "{WHY}; the other drops continue");
    // Before the database is written, which may have to wait for room on its disk.
    shared.looked(DropStatus { waiting: 1, ..DropStatus::default() }, Some(Duration::ZERO));
    if let Err(error) = queue.drop_trouble(&shared.drop, Some(WHY.to_owned()), crate::clock::Timestamp::now()) {
        tracing::warn!(drop = shared.drop, %error, "`status` cannot tell of it");
    }
}

/// Scans a drop whenever something may have happened there, until it is stopped, or the queue fails for good.
fn look_on(
    mut inbox: Inbox,
    shared: &Arc<InboxShared>,
    stopped: &dyn Fn() -> bool,
    signals: &Signals,
) -> Result<(), QueueError> {
    let mut log_throttle = LogThrottle::default();
    let config = inbox.config().clone();
    let (theirs, rules) = (Arc::clone(shared), inbox.scan_rules().clone());
    let mut events = Events::new(Arc::new(move |event| theirs.event(event, &rules)), inbox.queue().clone());
    let (mut number, mut hints, mut last_whole, mut row) = (0, Hints::whole(), None::<Instant>, 0);
    let mut scanned_whole = false;
    while !stopped() {
        // Watched before it is scanned, so that no change is missed in between.
        let RescanPlan { rescan_after, is_new } = events.arm(&config, scanned_whole);
        let (watcher, events_arrive) = events.watcher();
        inbox.watch_by(watcher, events_arrive);
        if is_new || last_whole.is_none_or(|at| at.elapsed() >= rescan_after) {
            hints.add_whole();
        }
        let began = Instant::now();
        let looked = match inbox.look(number, &mut hints) {
            Ok(looked) => {
                log_throttle.clear(&());
                looked
            }
            Err(error) if error.is_final() => return Err(error),
            Err(error) => {
                if log_throttle.is_due((), &error.to_string(), Instant::now()) {
                    tracing::error!(drop = config.name, reason = %error, "the drop cannot be looked into: see `status`");
                }
                DropStatus { waiting: 1, again_in: Some(Duration::from_secs(1)), ..DropStatus::default() }
            }
        };
        if looked.taken > 0 {
            signals.work.notify_one();
        }
        if looked.taken > 0 || number == 0 {
            signals.ended.notify_one();
        }
        number += 1;
        let took = began.elapsed();
        if hints.is_whole() {
            last_whole = Some(Instant::now());
        }
        shared.looked(looked, hints.is_whole().then_some(took));
        shared.state().bad_ground = inbox.bad_ground();
        shared.rest(pause_after(took, row), stopped);
        let rest = last_whole.map_or(Duration::ZERO, |at| rescan_after.saturating_sub(at.elapsed()));
        scanned_whole = hints.is_whole();
        let waits = Instant::now();
        hints = shared.wait(looked.again_in.map_or(rest, |again| again.min(rest)));
        row = if waits.elapsed() < ROW { row.saturating_add(1) } else { 0 };
    }
    Ok(())
}

/// The pause after a scan that took so long, and was the last of so many in a row: not more than half of the time is spent
/// scanning, however much happens, and what comes in quick succession is looked at together.
fn pause_after(took: Duration, row: u32) -> Duration {
    took.max(ROW_PAUSE.min(Duration::from_millis(row.into()))).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;
    use crate::{
        config::DropConfig,
        queue::{Reader, WhenStuck},
    };

    /// A command that had nothing left to do waited for as long as its last scan had taken.
    #[test]
    fn a_stop_ends_the_rest_after_a_scan() {
        let shared = Arc::new(InboxShared {
            drop: "partner".into(),
            state: Mutex::default(),
            changed: Condvar::new(),
            ended: AtomicBool::new(false),
            failure: Mutex::new(None),
        });
        let (theirs, stop) = (Arc::clone(&shared), CancellationToken::new());
        let token = stop.clone();
        let resting = thread::spawn(move || theirs.rest(Duration::from_secs(3600), &|| token.is_cancelled()));
        stop.cancel();
        shared.hint();
        resting.join().unwrap();
    }

    #[test]
    fn the_first_scans_follow_at_once_and_many_in_a_row_with_pauses() {
        let ms = Duration::from_millis;
        for (took, row, expected) in [
            (ms(0), 0, ms(0)),
            (ms(1), 0, ms(1)),
            (ms(1), 5, ms(5)),
            (ms(1), 1000, ms(10)),
            (ms(70), 1000, ms(70)),
            (ms(9000), 0, ms(500)),
        ] {
            assert_eq!(pause_after(took, row), expected, "{took:?} {row}");
        }
    }

    #[test]
    fn a_drop_whose_thread_dies_is_reported_and_waits() {
        let folder = tempfile::tempdir().unwrap();
        let queue = Queue::open(&folder.path().join("queue.db"), WhenStuck::Fail).unwrap();
        let config = DropConfig::new("partner", folder.path().join("drop"));
        let asked = AtomicU32::new(0);
        let stopped: Arc<dyn Fn() -> bool + Send + Sync> = Arc::new(move || {
            assert!(asked.fetch_add(1, Ordering::Relaxed) < 1, "a defect, as this test wants it");
            false
        });
        let inbox = Inbox::new(config, queue.clone(), 1, crate::clock::Clock::system(), Arc::clone(&stopped)).unwrap();
        let InboxThread { shared, thread } =
            InboxThread::start(inbox, stopped, Arc::default(), CancellationToken::new()).unwrap();
        shared.hint();
        thread.join().expect("the thread itself ends well");
        assert!(shared.ended.load(Ordering::Relaxed));
        let looked = shared.state().looked.unwrap();
        assert_eq!((looked.settling, looked.waiting), (0, 1), "nobody waits for it for ever");
        let trouble = Reader::open(queue.path()).unwrap().drop_trouble("partner").unwrap().unwrap();
        assert!(trouble.contains("defect"), "{trouble}");
    }
}
