//! Keeps the texts that tell senders what their manifests wait for, and that they are taken. A folder that does not answer
//! holds up those of its own drop only.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::{Clock, Timestamp},
    config::DropConfig,
    dispatch::DRAIN,
    intake::scan_line::ScanLine,
    log_throttle::LogThrottle,
    notes::{self, DropNotes},
    queue::{Queue, QueueError, Reader},
};

/// The interval between two passes; what they cost is a small part of the time.
const EVERY: Duration = Duration::from_secs(1);
const SHARE: u32 = 20;

/// What is over sooner has no text: most manifests have their receipt by then, and what is missing may be on its way.
const NOT_BEFORE: Duration = Duration::from_secs(1);

/// The interval after something could not be written.
const AGAIN: Duration = Duration::from_secs(10);

/// Passes at the end, so that what many manifests wait for does not hold up a stop.
const LAST_PASSES: usize = 4;

/// Which drops have texts, and what only their scans know.
pub(super) struct NotedDrops {
    pub(super) queue: Queue,
    pub(super) drops: Vec<DropConfig>,
    pub(super) lines: HashMap<String, Arc<ScanLine>>,
}

type Passed = (String, Result<std::io::Result<()>, QueueError>);

/// Writes and removes texts until the stop, and a last time once everything else has `ended`.
pub(super) async fn keep_notes(noted: NotedDrops, stop: CancellationToken, ended: CancellationToken) {
    let (noted, clock) = (Arc::new(noted), Clock::system());
    let mut busy: HashSet<String> = HashSet::new();
    let mut resting: HashMap<String, Instant> = HashMap::new();
    let mut running: JoinSet<Passed> = JoinSet::new();
    let mut log_throttle = LogThrottle::default();
    let mut reader = None;
    let mut pause = EVERY;
    while !stop.is_cancelled() {
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(pause) => {
                let (ours, before) = (Arc::clone(&noted), Timestamp(clock.now().0.saturating_sub(1_000)));
                let known = reader.take();
                let began = Instant::now();
                let found = tokio::task::spawn_blocking(move || find(&ours, known, before, NOT_BEFORE)).await;
                pause = EVERY.max(began.elapsed() * SHARE);
                let (used, due) = match found.unwrap_or(Err(QueueError::Closed)) {
                    Ok(found) => found,
                    Err(error) => {
                        if log_throttle.is_due(String::new(), &error.to_string(), Instant::now()) {
                            tracing::warn!(%error, "it cannot be found out which texts senders are to have");
                        }
                        continue;
                    }
                };
                log_throttle.clear(&String::new());
                reader = Some(used);
                resting.retain(|_, until| Instant::now() < *until);
                for (drop, due) in due {
                    if !resting.contains_key(&drop) && busy.insert(drop.clone()) {
                        let queue = noted.queue.clone();
                        running.spawn_blocking(move || (drop, notes::put_right(&queue, due)));
                    }
                }
            }
            Some(passed) = running.join_next() => {
                let Ok((drop, passed)) = passed else { continue };
                busy.remove(&drop);
                let why = match passed {
                    Ok(Ok(())) => {
                        log_throttle.clear(&drop);
                        continue;
                    }
                    Ok(Err(error)) => error.to_string(),
                    Err(error) => error.to_string(),
                };
                if log_throttle.is_due(drop.clone(), &why, Instant::now()) {
                    tracing::warn!(drop, reason = why, "texts for senders cannot be written now; work continues without them");
                }
                resting.insert(drop, Instant::now() + AGAIN);
            }
        }
    }
    let over = async { while running.join_next().await.is_some() {} };
    if timeout(DRAIN, over).await.is_ok() {
        ended.cancelled().await;
        tokio::task::spawn_blocking(move || last_passes(&noted)).await.ok();
    }
}

/// What is due; nothing where the database is as it was at the last pass that found nothing.
fn find(
    noted: &NotedDrops,
    reader: Option<UsedReader>,
    before: Timestamp,
    for_at_least: Duration,
) -> Result<(UsedReader, HashMap<String, DropNotes>), QueueError> {
    let mut used = match reader {
        Some(used) => used,
        None => UsedReader { reader: Reader::open(noted.queue.path())?, quiet: None },
    };
    let now = Instant::now();
    let waits: HashMap<&str, _> =
        noted.lines.iter().map(|(drop, line)| (drop.as_str(), line.waits(for_at_least, now))).collect();
    let version = used.reader.version()?;
    let in_line: usize = waits.values().map(Vec::len).sum();
    // What was too young at the last pass is due at this one.
    if used.quiet.is_some_and(|(quiet, in_line_then, passes)| quiet == version && in_line == in_line_then && passes > 1)
    {
        return Ok((used, HashMap::new()));
    }
    let due = notes::due(&used.reader, &noted.drops, before, &|drop| waits.get(drop).cloned().unwrap_or_default())?;
    used.quiet = due.is_empty().then(|| match used.quiet {
        Some((quiet, in_line_then, passes)) if quiet == version && in_line == in_line_then => {
            (version, in_line, passes.saturating_add(1))
        }
        _ => (version, in_line, 1),
    });
    Ok((used, due))
}

/// A reader, and at which version of the database it found nothing, with how many in line, how often.
struct UsedReader {
    reader: Reader,
    quiet: Option<(i64, usize, u32)>,
}

/// `run --once` leaves texts about what it leaves.
fn last_passes(noted: &NotedDrops) {
    for _ in 0..LAST_PASSES {
        let Ok((_, due)) = find(noted, None, Timestamp(i64::MAX), Duration::ZERO) else { return };
        if due.is_empty() {
            return;
        }
        for (drop, due) in due {
            if let Ok(Err(error)) = notes::put_right(&noted.queue, due) {
                tracing::debug!(drop, reason = %error, "texts for senders cannot be written");
            }
        }
    }
}
