//! Takings of drops that are not configured any more: what was half taken is put back, so that each file is in one place.

use std::{io, path::Path};

use super::take::{TakeError, Taker};
use crate::{
    config::DropConfig,
    inbox::beneath::Root,
    queue::{Queue, QueueError, Reader, taking::TakingState},
};

/// Puts back what earlier processes half took of drops that are not configured. What was taken in whole stays in its work
/// folder, for when the drop is configured again.
///
/// # Errors
///
/// Those of the queue. What a folder refuses is logged, and tried again at the next start.
pub fn put_back(
    queue: &Queue,
    is_configured: &dyn Fn(&str) -> bool,
    stopped: &dyn Fn() -> bool,
) -> Result<(), QueueError> {
    let reader = Reader::open(queue.path())?;
    for drop in reader.drops_with_takings()?.into_iter().filter(|drop| !is_configured(drop)) {
        for taking in reader.takings(&drop)? {
            let batch = taking.batch_id;
            if taking.state == TakingState::Taken {
                tracing::warn!(drop, batch, "its files wait in work_dir until the drop is configured again");
                continue;
            }
            let config = DropConfig::new(&drop, &taking.root);
            let undone = match Root::open(Path::new(&taking.root)) {
                Ok(root) => {
                    Taker { queue, reader: &reader, config: &config, root: &root, stopped, lists: None }.undo(&taking)
                }
                Err(error) => Err(TakeError::Stuck(io::Error::new(error.kind(), format!("{}: {error}", taking.root)))),
            };
            match undone {
                Err(TakeError::Queue(error)) => return Err(error),
                Err(TakeError::Stopped) => return Ok(()),
                Ok(()) | Err(TakeError::Refused(_)) => {
                    tracing::info!(drop, batch, "the drop is not configured any more: what was half taken is put back");
                }
                Err(error) => tracing::warn!(drop, batch, %error, "what was half taken is not put back"),
            }
        }
    }
    Ok(())
}
