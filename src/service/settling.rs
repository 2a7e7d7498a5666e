//! Settles batches whose jobs have all ended: one after the other of each drop, several drops at the same time, on threads
//! that may block. A heap of one partner, a receipt of gigabytes, or a disk that does not answer keeps no other waiting.

mod turns;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::turns::Turns;
use super::{OnSettled, identify::Identities};
use crate::{
    closing::{self, ClosingError, Settled},
    dispatch::Signals,
    log_throttle::LogThrottle,
    queue::{Queue, QueueError, Reader, awaited::NotNow, batch::EndedBatch},
};

/// The interval between two tries to settle a batch whose folder or receipt cannot be used.
const SETTLE_AGAIN: Duration = Duration::from_secs(5);

/// Drops that are settled at the same time.
const DROPS_AT_ONCE: usize = 32;

/// After this time a drop goes to the end of the line, where others wait.
const SLICE: Duration = Duration::from_millis(500);

/// Settles one batch. Blocks.
type Settle = dyn Fn(&Queue, &Reader, &EndedBatch) -> Result<Settled, ClosingError> + Send + Sync;

/// Settles batches whose jobs have all ended, whenever there may be one.
pub(super) async fn close_batches(
    queue: Queue,
    identities: Identities,
    signals: Arc<Signals>,
    stop: CancellationToken,
    on_settled: OnSettled,
) -> Result<(), QueueError> {
    settle_by(queue, Some(identities), signals, stop, on_settled, Arc::new(closing::settle)).await
}

async fn settle_by(
    queue: Queue,
    mut identities: Option<Identities>,
    signals: Arc<Signals>,
    stop: CancellationToken,
    on_settled: OnSettled,
    settle: Arc<Settle>,
) -> Result<(), QueueError> {
    let mut turns = Turns::new(DROPS_AT_ONCE);
    let mut idle: HashMap<i64, Closer> = HashMap::new();
    let mut running: JoinSet<Result<(Closer, Pass), QueueError>> = JoinSet::new();
    let (mut look, mut again) = (true, None);
    let may_lack_name = Arc::new(AtomicBool::new(identities.is_none()));
    loop {
        if look && !stop.is_cancelled() {
            if let Some(identities) = &mut identities {
                identities.before_receipts().await?;
                may_lack_name.store(identities.were_asked(), Ordering::Release);
            }
            let queue = queue.clone();
            let found = tokio::task::spawn_blocking(move || queue.drops_to_settle()).await;
            found.unwrap_or(Err(QueueError::Closed))?.into_iter().for_each(|drop| turns.is_due(drop));
        }
        look = false;
        while !stop.is_cancelled()
            && let Some(drop) = turns.begin()
        {
            let closer = match idle.remove(&drop) {
                Some(closer) => closer,
                None => Closer {
                    drop,
                    after: 0,
                    troubled: false,
                    reader: Reader::open(queue.path())?,
                    queue: queue.clone(),
                    log_throttle: LogThrottle::default(),
                    on_settled: Arc::clone(&on_settled),
                    settle: Arc::clone(&settle),
                    may_lack_name: Arc::clone(&may_lack_name),
                },
            };
            let stopping = stop.clone();
            running.spawn_blocking(move || closer.pass(&stopping));
        }
        if stop.is_cancelled() && turns.are_over() {
            return Ok(());
        }
        let due = async {
            match again {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(passed) = running.join_next() => match passed {
                Ok(passed) => {
                    let (closer, pass) = passed?;
                    turns.end(closer.drop, pass != Pass::Unfinished);
                    if pass == Pass::Troubled {
                        again.get_or_insert_with(|| tokio::time::Instant::now() + SETTLE_AGAIN);
                    }
                    idle.insert(closer.drop, closer);
                }
                Err(defect) => {
                    tracing::error!(%defect, "settling died of a defect");
                    return Ok(());
                }
            },
            () = stop.cancelled(), if !stop.is_cancelled() => {}
            () = signals.ended.notified() => look = true,
            () = due => (look, again) = (true, None),
        }
    }
}

/// How far a drop's thread has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// All that had ended is settled.
    Done,
    /// One could not be settled.
    Troubled,
    /// Its time was over.
    Unfinished,
}

/// One drop, with what is kept from pass to pass.
struct Closer {
    drop: i64,
    /// Up to which batch the present pass has come, and whether one could not be settled.
    after: i64,
    troubled: bool,
    queue: Queue,
    reader: Reader,
    /// By batch.
    log_throttle: LogThrottle<i64>,
    on_settled: OnSettled,
    settle: Arc<Settle>,
    /// Whether the API was asked whose accounts these are, so that a receipt need not wait for the answer.
    may_lack_name: Arc<AtomicBool>,
}

impl Closer {
    /// A part of a pass over the drop's batches that have ended.
    fn pass(mut self, stop: &CancellationToken) -> Result<(Self, Pass), QueueError> {
        let began = Instant::now();
        loop {
            // Read first: what is read of a batch after the question has the answer.
            let may_lack_name = self.may_lack_name.load(Ordering::Acquire);
            let batches = self.queue.to_settle(self.drop, self.after, 64)?;
            if batches.is_empty() || stop.is_cancelled() {
                let is_troubled = std::mem::take(&mut self.troubled) || self.queue.is_importing();
                let pass = if is_troubled { Pass::Troubled } else { Pass::Done };
                self.after = 0;
                return Ok((self, pass));
            }
            for batch in &batches {
                if stop.is_cancelled() {
                    break;
                }
                // One that ended after the last look, before which nothing had been created: its end causes another look.
                let lacks_name = batch.account.is_none() && !batch.published;
                let waits = !may_lack_name && lacks_name && self.queue.has_created(batch.id)?;
                self.troubled |= waits || !self.close(batch)?;
                self.after = batch.id;
                if began.elapsed() >= SLICE {
                    return Ok((self, Pass::Unfinished));
                }
            }
        }
    }

    fn close(&mut self, batch: &EndedBatch) -> Result<bool, QueueError> {
        match (self.settle)(&self.queue, &self.reader, batch) {
            Ok(settled) => {
                tracing::info!(
                    drop = batch.drop,
                    manifest = batch.manifest,
                    batch = batch.id,
                    status = settled.status.as_str(),
                    receipt = %settled.receipt.display(),
                    "settled"
                );
                self.log_throttle.clear(&batch.id);
                (self.on_settled)(&settled);
                Ok(true)
            }
            // The first scan of its drop, or the import, notifies when it is over.
            Err(ClosingError::NotNow(NotNow::Unknown | NotNow::Importing)) => Ok(false),
            // Trying again cures what is the disk's; a defect or damage would only be met again.
            Err(ClosingError::Queue(error)) if error.is_final() => Err(error),
            Err(error) => {
                let text = error.to_string();
                if self.log_throttle.is_due(batch.id, &text, Instant::now()) {
                    tracing::error!(drop = batch.drop, batch = batch.id, manifest = batch.manifest, reason = %error, "cannot be settled yet");
                    self.queue.batch_trouble(batch.id, text)?;
                }
                Ok(false)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use super::*;
    use crate::{
        queue::{
            admission::Admission,
            test_support::{NOW, Site},
        },
        receipt::{BatchStatus, Counts},
    };

    /// One drop's disk does not answer; whatever has ended of another is settled meanwhile.
    #[test]
    fn a_drop_that_does_not_come_to_an_end_keeps_no_other_waiting() {
        let site = Site::new();
        let batches: Vec<i64> = ["hung", "well", "well"]
            .into_iter()
            .zip(0..)
            .map(|(drop, number)| {
                let plan =
                    crate::queue::batch::Plan { drop: drop.into(), ..site.plan(&format!("{number}.manifest.json")) };
                site.queue.admission(plan).unwrap().admit_whole(Vec::<Admission>::new(), None, NOW).unwrap()
            })
            .collect();
        let (answer, answered) = mpsc::channel::<()>();
        let answered = Mutex::new(answered);
        let settle = move |queue: &Queue, _: &Reader, batch: &EndedBatch| {
            if batch.drop == "hung" {
                answered.lock().unwrap().recv().ok();
            }
            queue.name_receipt(batch.id, "r".into())?;
            queue.receipt_published(batch.id, BatchStatus::Done)?;
            queue.batch_closed(batch.id, None, None, Vec::new())?;
            let (status, counts, receipt) = (BatchStatus::Done, Counts::default(), "r".into());
            Ok(Settled { batch_id: batch.id, manifest: batch.manifest.clone(), status, counts, receipt })
        };
        let (say, said) = mpsc::channel();
        let on_settled: OnSettled = Arc::new(move |settled: &Settled| say.send(settled.batch_id).unwrap());
        let stop = CancellationToken::new();
        let settling = settle_by(site.queue.clone(), None, Arc::default(), stop.clone(), on_settled, Arc::new(settle));
        let test = std::thread::spawn(move || {
            let within = Duration::from_secs(60);
            let well = [said.recv_timeout(within).unwrap(), said.recv_timeout(within).unwrap()];
            answer.send(()).unwrap();
            let hung = said.recv_timeout(within).unwrap();
            stop.cancel();
            [hung, well[0], well[1]]
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(settling).unwrap();
        assert_eq!(test.join().unwrap().to_vec(), batches);
    }

    /// The first batch of a new queue ended between the look for what is created and the pass: its receipt named no
    /// account, and `adopt` did not count it.
    #[test]
    fn a_receipt_of_something_created_waits_until_its_account_was_asked_for() {
        let site = Site::new();
        site.admit("a.manifest.json", &["one"]);
        site.create(site.job("one"), "9a92b3c5-0000-4000-8000-000000000000");
        let settled = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&settled);
        let asked = Arc::new(AtomicBool::new(false));
        let closer = Closer {
            drop: 1,
            after: 0,
            troubled: false,
            queue: site.queue.clone(),
            reader: site.reader(),
            log_throttle: LogThrottle::default(),
            on_settled: Arc::new(|_| {}),
            settle: Arc::new(move |_, _, _| {
                seen.store(true, Ordering::Release);
                Err(ClosingError::NotNow(NotNow::Unknown))
            }),
            may_lack_name: Arc::clone(&asked),
        };
        let stop = CancellationToken::new();
        let (closer, _) = closer.pass(&stop).unwrap();
        assert!(!settled.load(Ordering::Acquire), "nobody was asked yet");
        asked.store(true, Ordering::Release);
        closer.pass(&stop).unwrap();
        assert!(settled.load(Ordering::Acquire));
    }
}
