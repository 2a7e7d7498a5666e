//! Admits the manifests of an import to the queue, one after the other.

use std::{
    cell::Cell,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::{ImportArgs, Target};
use crate::{
    config::Config,
    file_identity,
    inbox::beneath::Root,
    intake::{
        admit::{AdmitError, Policy, admit},
        examine::{self, ManifestRules},
    },
    policy::{AfterSuccess, OnInvalid},
    queue::{
        Queue,
        batch::{BatchPolicy, Plan},
    },
    relative_path,
};

/// While a large manifest is admitted, how often workers are notified that there may be more of it.
const NOTIFY_INTERVAL: Duration = Duration::from_millis(20);

/// What has been admitted so far.
#[derive(Default)]
pub(super) struct Intake {
    batches: Mutex<Vec<i64>>,
    /// Manifests that cannot be admitted.
    pub(super) trouble: AtomicU64,
    pub(super) finished: AtomicBool,
    /// Everything is admitted, or this process settled a batch.
    pub(super) news: Notify,
}

impl Intake {
    pub(super) fn batches(&self) -> Vec<i64> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Admits manifests, all with the same settings.
pub(super) struct Importer {
    rules: ManifestRules,
    drop: String,
    image_root: Option<PathBuf>,
    receipts_to: Option<PathBuf>,
    archive_to: Option<PathBuf>,
    receipt_mode: u32,
    receipt_group: Option<String>,
    on_invalid: OnInvalid,
}

impl Importer {
    pub(super) fn new(args: &ImportArgs, config: &Config, queue: &Queue) -> Self {
        let drop = config.drop_named(&args.drop);
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        Self {
            rules: ManifestRules::of(drop, config.api.max_image_bytes, queue.seed()),
            drop: args.drop.clone(),
            image_root: args.root.as_ref().map(absolute),
            receipts_to: args.receipts_to.as_ref().map(absolute),
            archive_to: args.archive_to.as_ref().map(absolute),
            receipt_mode: drop.map_or(0o640, |drop| drop.receipt_mode),
            receipt_group: drop.and_then(|drop| drop.receipt_group.clone()),
            on_invalid: drop.map_or(OnInvalid::Skip, |drop| drop.on_invalid),
        }
    }

    /// Admits one manifest after the other.
    pub(super) fn import(
        &self,
        targets: &[Target],
        queue: &Queue,
        intake: &Intake,
        stopped: &dyn Fn() -> bool,
        notify: &dyn Fn(),
    ) {
        for target in targets {
            if stopped() {
                return;
            }
            match self.import_one(target, queue, stopped, notify) {
                Ok(Some(batch)) => intake.batches.lock().unwrap_or_else(PoisonError::into_inner).push(batch),
                Ok(None) => {}
                Err(error) => {
                    let path = target.root.join(&target.manifest);
                    tracing::error!(manifest = %path.display(), error = format!("{error:#}"), "cannot be taken in");
                    intake.trouble.fetch_add(1, Ordering::Relaxed);
                }
            }
            notify();
        }
    }

    fn import_one(
        &self,
        target: &Target,
        queue: &Queue,
        stopped: &dyn Fn() -> bool,
        notify: &dyn Fn(),
    ) -> anyhow::Result<Option<i64>> {
        let root = Root::open(&target.root)?;
        let mut opened = examine::open(&root, &target.manifest, self.rules.limits.max_bytes)?;
        let folder = relative_path::parent(&target.manifest);
        let (image_root, image_folder) = match &self.image_root {
            Some(own) => (own.clone(), String::new()),
            None => (target.root.clone(), folder.to_owned()),
        };
        // A manifest that an earlier call left unsettled is continued, not admitted again. A copy of it in another
        // folder is another manifest, since its images are beside it.
        if let Some(known) = queue.known_manifest(&self.drop, &target.root, &target.manifest)?
            && !known.closed
            && !known.admitting
            && known.sha256 == opened.sha256.0
            && root.present(opened.identity).is_kept_as(&known.file)
        {
            tracing::info!(manifest = target.manifest, batch = known.batch_id, "continues where it stopped");
            return Ok(Some(known.batch_id));
        }
        let receipts_dir = self.receipts_to.clone().unwrap_or_else(|| target.root.join("receipts"));
        let plan = Plan {
            drop: self.drop.clone(),
            manifest: target.manifest.clone(),
            manifest_sha256: opened.sha256,
            manifest_file: file_identity::write(&opened.identity),
            policy: BatchPolicy {
                root: target.root.clone(),
                image_root: image_root.clone(),
                image_folder,
                receipts_dir,
                receipt_mode: self.receipt_mode,
                receipt_group: self.receipt_group.clone(),
                done_dir: self.archive_to.as_ref().map(|folder| folder.join("done")),
                failed_dir: self.archive_to.as_ref().map(|folder| folder.join("failed")),
                marker: None,
                after_success: if self.archive_to.is_some() { AfterSuccess::Archive } else { AfterSuccess::Keep },
            },
        };
        let images = Root::open(&image_root)?;
        let policy = Policy { on_invalid: self.on_invalid, wait_for_files: false };
        let last_notified = Cell::new(Instant::now());
        let nudge = || {
            // Workers begin with the first part of a large manifest while the rest is still read.
            if last_notified.get().elapsed() >= NOTIFY_INTERVAL {
                last_notified.set(Instant::now());
                notify();
            }
            stopped()
        };
        match admit(queue, plan, &mut opened, &images, &self.rules, policy, &nudge) {
            Ok(admitted) => {
                tracing::info!(
                    manifest = target.manifest,
                    batch = admitted.batch_id,
                    entries = admitted.entries,
                    invalid = admitted.invalid,
                    "taken in"
                );
                Ok(Some(admitted.batch_id))
            }
            Err(AdmitError::Stopped) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
