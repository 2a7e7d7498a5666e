//! How a worker on drops begins: what it needs beyond a configuration that can be read, and its stages.

use std::path::Path;

use tokio_util::sync::CancellationToken;

use super::start::Usage;
use crate::{
    config::{Config, DropConfig},
    durable,
    inbox::ground,
    intake::lists,
    queue::{Queue, WhenStuck},
    service::{IMPORT, OnSettled, Service, expecting},
};

/// What a worker on these drops needs beyond a configuration that can be read.
///
/// # Errors
///
/// What is missing.
pub(super) fn usable_as_service(config: &Config) -> anyhow::Result<()> {
    if config.drops.is_empty() {
        return Err(
            Usage("no [[drop]] is configured, so there is nothing to watch: add one, or use `import`".into()).into()
        );
    }
    lists::check(config).map_err(Usage)?;
    expecting(config).map_err(Usage)?;
    config.drops.iter().try_for_each(receipts_can_be_given)?;
    Ok(each_its_folder(&config.drops)?)
}

/// Opens the queue and starts all stages. Warns of drops whose folder others can replace. Jobs that an import left or handed over are worked on as well.
///
/// # Errors
///
/// As [`Service::start`].
pub(super) async fn begin(config: &Config, on_settled: OnSettled, stop: CancellationToken) -> anyhow::Result<Service> {
    for drop in &config.drops {
        if let Some(exposed) = ground::exposed_parent(&drop.path) {
            tracing::warn!(drop = drop.name, "{exposed}");
        }
    }
    let queue = Queue::open(&config.queue.database, WhenStuck::Wait)?;
    config.drops.iter().for_each(|drop| queue.awaited().expect(&drop.name));
    let mut service = Service::start(config, queue, Some(IMPORT), on_settled, stop).await?;
    service.watch(config).await?;
    Ok(service)
}

/// Refuses to begin where two drops are one folder, by a link or a bind mount: each would take the other's files.
fn each_its_folder(drops: &[DropConfig]) -> Result<(), Usage> {
    let paths: Vec<&Path> = drops.iter().map(|drop| drop.path.as_path()).collect();
    if let Some((one, other)) = ground::same_folder(&paths) {
        return Err(Usage(format!(
            "two drops watch one folder, which {} and {} lead to, by a link or a bind mount: give each drop a folder of its own",
            one.display(),
            other.display()
        )));
    }
    Ok(())
}

/// Refuses to begin where the receipts of a drop could not be given to the group that is to read them.
fn receipts_can_be_given(drop: &DropConfig) -> anyhow::Result<()> {
    let Some(name) = &drop.receipt_group else { return Ok(()) };
    let group = durable::group_of(name).map_err(|error| Usage(format!("drop {:?}: {error}", drop.name)))?;
    if durable::may_give_to(group) {
        return Ok(());
    }
    let why = format!("receipts cannot be given to the group {name:?}: let the service's user be a member of it");
    Err(Usage(format!("drop {:?}: {why}", drop.name)).into())
}
