//! Settles batches whose jobs have all ended, one after the other, on a thread that may block.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::OnSettled;
use crate::{
    closing::{self, ClosingError},
    dispatch::Signals,
    log_throttle::LogThrottle,
    queue::{Queue, QueueError, Reader, awaited::NotNow, batch::EndedBatch},
};

/// The interval between two tries to settle a batch whose folder or receipt cannot be used.
const SETTLE_AGAIN: Duration = Duration::from_secs(5);

/// Settles batches whose jobs have all ended, whenever there may be one.
pub(super) async fn close_batches(
    queue: Queue,
    signals: Arc<Signals>,
    stop: CancellationToken,
    on_settled: OnSettled,
) -> Result<(), QueueError> {
    let mut closer =
        Closer { reader: Reader::open(queue.path())?, queue, log_throttle: LogThrottle::default(), on_settled };
    loop {
        let stopping = stop.clone();
        let pass = tokio::task::spawn_blocking(move || {
            let troubled = closer.close_all(&stopping);
            (closer, troubled)
        });
        let troubled;
        (closer, troubled) = match pass.await {
            Ok(passed) => passed,
            Err(defect) => {
                tracing::error!(%defect, "settling died of a defect");
                return Ok(());
            }
        };
        let troubled = troubled?;
        let again =
            async { if troubled { tokio::time::sleep(SETTLE_AGAIN).await } else { std::future::pending().await } };
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = signals.ended.notified() => {}
            () = again => {}
        }
    }
}

/// State that is kept from pass to pass.
struct Closer {
    queue: Queue,
    reader: Reader,
    /// By batch.
    log_throttle: LogThrottle<i64>,
    on_settled: OnSettled,
}

impl Closer {
    /// One pass over the batches that have ended; returns whether one of them could not be settled.
    fn close_all(&mut self, stop: &CancellationToken) -> Result<bool, QueueError> {
        let (mut after, mut troubled) = (0, false);
        loop {
            let batches = self.queue.to_settle(after, 64)?;
            let Some(last) = batches.last() else { return Ok(troubled) };
            after = last.id;
            for batch in &batches {
                if stop.is_cancelled() {
                    return Ok(troubled);
                }
                troubled |= !self.close(batch)?;
            }
        }
    }

    fn close(&mut self, batch: &EndedBatch) -> Result<bool, QueueError> {
        match closing::settle(&self.queue, &self.reader, batch) {
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
            // The first scan of its drop notifies when it is over.
            Err(ClosingError::NotNow(NotNow::Unknown)) => Ok(false),
            // Trying again cures what is the disk's; a defect or damage would only be met again.
            Err(ClosingError::Queue(error)) if error.is_final() => Err(error),
            Err(error) => {
                let text = error.to_string();
                if self.log_throttle.is_due(batch.id, &text, Instant::now()) {
                    tracing::error!(drop = batch.drop, manifest = batch.manifest, %error, "cannot be settled yet");
                    self.queue.batch_trouble(batch.id, text)?;
                }
                Ok(false)
            }
        }
    }
}
