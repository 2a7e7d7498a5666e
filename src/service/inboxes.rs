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

use super::events::Events;
use crate::{
    dispatch::Signals,
    intake::watch::{DropScanner as Inbox, DropStatus},
    log_throttle::LogThrottle,
    queue::{Queue, QueueError},
};

/// How long after a change a drop is scanned a second time.
const SECOND_LOOK: Duration = Duration::from_secs(2);

/// The longest pause after a scan, where something happens all the time.
const LONGEST_BREATH: Duration = Duration::from_millis(500);

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
    pub(super) looked: Option<DropStatus>,
    /// How long the last scan took.
    pub(super) took: Duration,
    /// When an event last arrived.
    pub(super) event: Option<Instant>,
    /// What keeps the drop's files from being taken or put away; the drop is ready where nothing does.
    pub(super) bad_ground: Option<String>,
}

impl InboxShared {
    pub(super) fn state(&self) -> std::sync::MutexGuard<'_, InboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn looked(&self, looked: DropStatus, took: Duration) {
        let mut state = self.state();
        state.looked = Some(looked);
        state.took = took;
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
    pub(super) fn event(&self) {
        self.state().event = Some(Instant::now());
        self.hint();
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

    /// Waits for a hint, at most this long; returns whether there was one.
    fn wait(&self, at_most: Duration) -> bool {
        let mut state = self.state();
        let until = Instant::now() + at_most;
        while !state.hinted {
            let Some(left) = until.checked_duration_since(Instant::now()) else { break };
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        std::mem::replace(&mut state.hinted, false)
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
    shared.looked(DropStatus { waiting: 1, ..DropStatus::default() }, Duration::ZERO);
    if let Err(error) = queue.drop_trouble(&shared.drop, Some(WHY.to_owned())) {
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
    let hint = Arc::clone(shared);
    let mut events = Events::new(&config, Arc::new(move || hint.event()), inbox.queue().clone());
    let (mut number, mut news) = (0, false);
    while !stopped() {
        // Watched before it is scanned, so that no change is missed in between.
        let rest = events.arm(&config);
        let began = Instant::now();
        let looked = match inbox.scan(number) {
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
        shared.looked(looked, took);
        shared.state().bad_ground = inbox.bad_ground();
        // Scanned again after an event, since a file may come into a new folder before that is watched.
        let rest = if news { rest.min(SECOND_LOOK) } else { rest };
        // Not more than half of the time is spent scanning, however much happens.
        shared.rest(took.min(LONGEST_BREATH), stopped);
        news = shared.wait(looked.again_in.map_or(rest, |again| again.min(rest)));
    }
    Ok(())
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
