//! Whether the database is the one that was worked with last: checked before anything is recovered or sent.

use std::{collections::HashSet, time::Duration};

use tokio::time::timeout;

use super::{ServiceError, accounts::account_of};
use crate::{
    config::Config,
    queue::{
        Queue,
        lineage::{MarkedFolder, decide::SeenMark},
    },
};

/// How long a start waits for a folder that does not answer. Its mark is looked at again when the drop's ground is tried.
const PATIENCE: Duration = Duration::from_secs(5);

/// The receipts folders of the configured drops, each with the drop's name.
#[must_use]
pub fn marked_folders(config: &Config) -> Vec<(String, MarkedFolder)> {
    let folder = |drop: &crate::config::DropConfig| MarkedFolder {
        path: drop.receipts_folder(),
        account: account_of(config, &drop.name),
    };
    config.drops.iter().map(|drop| (drop.name.clone(), folder(drop))).collect()
}

/// Refuses a database that is not the one that was worked with last; returns the drops for which another one was.
pub(super) async fn check(config: &Config, queue: &Queue) -> Result<HashSet<String>, ServiceError> {
    let (mut drops, mut seen) = (Vec::new(), Vec::new());
    for (drop, folder) in marked_folders(config) {
        let asked = folder.clone();
        // A folder that is not there yet, or does not answer, has no mark to go by.
        if let Ok(Ok(Ok(mark))) = timeout(PATIENCE, tokio::task::spawn_blocking(move || asked.read())).await {
            if let SeenMark::Untrusted(reason) = &mark {
                tracing::warn!(drop, why = reason, "a mark in the receipts folder does not count");
            }
            drops.push((drop, folder.clone()));
            seen.push((folder, mark));
        }
    }
    let ours = queue.clone();
    let checked = tokio::task::spawn_blocking(move || ours.check_lineage(&seen)).await;
    let foreign = checked.map_err(std::io::Error::other)??;
    let stopped = drops.into_iter().filter(|(_, folder)| foreign.contains(folder)).map(|(drop, _)| drop);
    let stopped: HashSet<String> = stopped.collect();
    for drop in &stopped {
        tracing::error!(drop, "another queue writes its receipts into this drop's folder: nothing of the drop is sent");
    }
    Ok(stopped)
}
