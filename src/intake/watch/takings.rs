//! Takings and admissions that an earlier process left, or that could not be ended so far.

use std::time::{Duration, Instant};

use super::{DropScanner, DropStatus};
use crate::{
    inbox::{beneath::Root, take::remove_empty_folders},
    intake::{
        admit::{AdmitError, Admitted, resume_taking},
        take::Taker,
    },
    queue::{QueueError, awaited::FirstSeen, taking::Taking},
    relative_path,
};

impl DropScanner {
    /// Finishes or undoes the takings that an earlier process left, or that could not be undone so far. Returns what keeps
    /// one from that.
    pub(super) fn end_takings(&mut self, root: &Root, looked: &mut DropStatus) -> Result<Option<String>, QueueError> {
        let Some((tries, not_before)) = self.unended_takings else { return Ok(None) };
        if tries == 0 {
            self.remove_empty_work_folders(root)?;
        }
        let takings = self.reader.takings(&self.config.name)?;
        if takings.is_empty() {
            self.unended_takings = None;
            return Ok(None);
        }
        let rest = not_before.saturating_duration_since(Instant::now());
        if !rest.is_zero() {
            looked.waiting += takings.len() as u64;
            looked.again_in = Some(rest);
            return Ok(self.trouble.clone());
        }
        let mut trouble = None;
        for taking in &takings {
            match self.end_taking(root, taking) {
                Ok(_) => looked.taken += 1,
                Err(AdmitError::Queue(error)) => return Err(error),
                Err(AdmitError::Stopped) => return Ok(None),
                Err(error) => {
                    // What was put back is in the drop, and found by the next scan.
                    tracing::info!(drop = self.config.name, batch = taking.batch_id, reason = %error, "not taken");
                    trouble.get_or_insert_with(|| error.to_string());
                }
            }
        }
        let left = self.reader.takings(&self.config.name)?.len();
        if left == 0 {
            self.unended_takings = None;
            return Ok(None);
        }
        let wait = take_again_in(tries);
        self.unended_takings = Some((tries.saturating_add(1), Instant::now() + wait));
        looked.waiting += left as u64;
        looked.again_in = Some(wait);
        Ok(trouble)
    }

    /// Removes the empty folders of batches that were closed when an earlier process ended.
    fn remove_empty_work_folders(&self, drop: &Root) -> Result<(), QueueError> {
        let work_dir = self.config.work_folder();
        let (work, below) = match work_dir.strip_prefix(&self.config.path) {
            Ok(below) => (None, below.to_str().unwrap_or_default().to_owned()),
            Err(_) => match Root::open(&work_dir) {
                Ok(root) => (Some(root), String::new()),
                Err(_) => return Ok(()),
            },
        };
        let root = work.as_ref().unwrap_or(drop);
        let in_use = self.reader.work_folders(&root.path().to_string_lossy())?;
        let ours = format!("{}-", self.queue.start_number());
        let Ok(entries) = std::fs::read_dir(&work_dir) else { return Ok(()) };
        for name in entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
            let path = relative_path::join(&below, &name);
            if name.starts_with(&ours)
                && !in_use.contains(&path)
                && let Err(error) = remove_empty_folders(root, &path)
            {
                tracing::warn!(drop = self.config.name, reason = %error, "left in work_dir");
            }
        }
        Ok(())
    }

    pub(super) fn end_taking(&self, root: &Root, taking: &Taking) -> Result<Admitted, AdmitError> {
        let plan = self.plan_for(&taking.manifest.path, taking.manifest_sha256, &taking.manifest.identity);
        let context = self.context_of(&taking.manifest.path, FirstSeen::default());
        resume_taking(&self.taker(root), taking, plan, (&self.rules, &context))
    }

    pub(super) fn taker<'a>(&'a self, root: &'a Root) -> Taker<'a> {
        let Self { queue, reader, config, stopped, lists, .. } = self;
        Taker { queue, reader, config, root, stopped: &**stopped, lists: lists.as_ref() }
    }

    /// Ends the admissions that a crash interrupted and whose manifests are no longer there.
    pub(super) fn end_orphans(&self) -> Result<(), QueueError> {
        for (batch_id, manifest) in self.queue.half_taken(&self.config.name)? {
            if !self.seen.contains(&manifest) {
                tracing::warn!(
                    drop = self.config.name,
                    batch = batch_id,
                    manifest,
                    "gone before it was taken in whole"
                );
                self.queue.end_half_taken(batch_id, self.clock.now())?;
            }
        }
        Ok(())
    }
}

/// The backoff before a taking is tried again that has failed this often before.
pub(super) fn take_again_in(tries: u32) -> Duration {
    TAKE_AGAIN_MAX.min(Duration::from_secs(1 << tries.min(16)))
}

/// The longest of them.
pub(super) const TAKE_AGAIN_MAX: Duration = Duration::from_secs(300);
