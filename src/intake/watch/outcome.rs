//! What becomes of a manifest that is observed: it is admitted, put off, or waits, and the queue notes that.

use std::time::{Duration, Instant};

use super::{
    DropScanner,
    takings::{TAKE_AGAIN_MAX, take_again_in},
};
use crate::{
    entry::Sha256,
    file_identity::{self, FileIdentity},
    inbox::beneath::Root,
    intake::{
        admit::{AdmitError, Admitted, BetweenParts, Policy, admit, take_and_admit},
        context::NAME_IN_USE,
        examine::OpenedManifest,
        step::{ManifestPhase, RETRY_MAX, TrackedManifest, Wait},
        take::CHANGED_MEANWHILE,
    },
    manifest_wait::{ManifestWait, SenderAdvice},
    policy::AfterSuccess,
    problem::Problem,
    queue::{
        QueueError,
        arrivals::Arrival,
        batch::{BatchPolicy, Plan},
    },
    relative_path,
};

impl DropScanner {
    pub(super) fn admit(
        &self,
        root: &Root,
        path: &str,
        tracked: &TrackedManifest,
        opened: &mut OpenedManifest,
        wait_for_files: bool,
    ) -> Result<Admitted, AdmitError> {
        if let Some(known) = self.reader.known_manifest(&self.config.name, path)?
            && known.admitting
            && !known.taken
            && (known.sha256 != opened.sha256.0
                || opened.layout.as_ref().is_some_and(|layout| {
                    // What a lookup says may have changed since.
                    self.queue.has_other_entries(known.batch_id, layout).unwrap_or(true)
                }))
        {
            // Another manifest replaced the one whose admission a crash interrupted.
            self.queue.end_half_taken(known.batch_id, self.clock.now())?;
        }
        let plan = self.plan(path, opened);
        let policy = Policy { on_invalid: self.config.on_invalid, wait_for_files };
        let context = self.context(path, tracked);
        // What an earlier release began to admit in place goes on there.
        let in_place =
            self.config.after_success == AfterSuccess::Keep || self.queue.admission(plan.clone())?.batch_id().is_some();
        let admitted = if in_place {
            let between = BetweenParts::stops(&*self.stopped);
            admit(&self.queue, plan, opened, root, (&self.rules, &context), policy, between)?
        } else {
            take_and_admit(&self.taker(root), plan, opened, (&self.rules, &context), policy)?
        };
        let Admitted { batch_id: batch, entries, invalid, warnings, ref unusable } = admitted;
        let (drop, manifest) = (&self.config.name, path);
        match unusable.is_some() || invalid > 0 {
            false => tracing::info!(drop, manifest, batch, entries, invalid, warnings, unusable = false, "taken in"),
            true => {
                let unusable = unusable.is_some();
                let (cause, code) = self.reader.cause_of_batch(batch)?.unzip();
                let code = code.flatten();
                tracing::warn!(
                    drop,
                    manifest,
                    batch,
                    entries,
                    invalid,
                    warnings,
                    unusable,
                    cause,
                    code,
                    "taken in, except for what `causes` names"
                );
            }
        }
        Ok(admitted)
    }

    /// Puts a manifest off whose files cannot be moved, for longer each time: on a share, an open file must not move all
    /// the others to and fro.
    pub(super) fn not_taken(
        &mut self,
        path: &str,
        seen: &mut TrackedManifest,
        problem: &Problem,
    ) -> Result<(), QueueError> {
        let senders = matches!(problem.code.as_deref(), Some(CHANGED_MEANWHILE | NAME_IN_USE));
        let cause = ManifestWait::NotTaken { problem: problem.clone(), senders };
        let reason = cause.reason();
        tracing::warn!(
            drop = self.config.name,
            arrival = self.number(path),
            manifest = path,
            reason,
            "a manifest cannot be taken, and is put back: see `status`"
        );
        let files = problem.path.iter().cloned().collect();
        self.ground.suspect();
        self.queue.awaited().put_back(&self.config.name, path);
        let tries = seen.refused_takings;
        self.wait(path, seen, Wait { files, phase: ManifestPhase::Blocked, ..Wait::for_ground(cause) })?;
        seen.refused_takings = tries.saturating_add(1);
        // A sender that goes on writing is done soon; what the system refuses may last.
        let most = if problem.code.as_deref() == Some(CHANGED_MEANWHILE) { RETRY_MAX } else { TAKE_AGAIN_MAX };
        seen.not_before = Instant::now() + take_again_in(tries).min(most);
        if !self.reader.takings(&self.config.name)?.is_empty() {
            self.unended_takings = Some((0, Instant::now() + take_again_in(0)));
        }
        Ok(())
    }

    /// The number of a manifest that is not taken in yet, for the log.
    pub(super) fn number(&self, path: &str) -> u64 {
        self.queue.arrival_number(&self.config.name, path)
    }

    /// Records what a manifest waits for; returns for how long it has been there.
    pub(super) fn wait(&self, path: &str, seen: &mut TrackedManifest, wait: Wait) -> Result<Duration, QueueError> {
        let Wait { phase, cause, files, in_use, replaced, forever } = wait;
        let reason = cause.reason();
        if phase == ManifestPhase::Unreadable && seen.phase != ManifestPhase::Unreadable {
            tracing::warn!(
                drop = self.config.name,
                arrival = self.number(path),
                manifest = path,
                reason,
                "waits until it can be read"
            );
        }
        let (drop, manifest) = (self.config.name.clone(), path.to_owned());
        let now = self.clock.now();
        let arrival = Arrival {
            drop,
            manifest,
            file: seen.file,
            reason,
            advice: SenderAdvice {
                gives_up_at: (!forever).then(|| seen.seen.at.after(self.config.incomplete_after).0),
                ..cause.for_sender()
            },
            seen: seen.seen.at,
            looked: self.looked,
            missing: files,
            in_use,
            replaced,
            patience: (!forever).then_some(self.config.incomplete_after),
        };
        let first_seen = self.queue.note_arrival(arrival, now)?;
        seen.put_off(phase, Instant::now());
        Ok(now.since(first_seen))
    }

    pub(in crate::intake) fn plan(&self, path: &str, opened: &OpenedManifest) -> Plan {
        Plan { layout: opened.layout.clone(), ..self.plan_for(path, opened.sha256, &opened.identity) }
    }

    pub(super) fn plan_for(&self, path: &str, manifest_sha256: Sha256, identity: &FileIdentity) -> Plan {
        Plan {
            drop: self.config.name.clone(),
            manifest: path.to_owned(),
            manifest_sha256,
            manifest_file: file_identity::write(identity),
            taken: None,
            layout: None,
            held_back: false,
            policy: BatchPolicy {
                root: self.config.path.clone(),
                image_root: self.config.path.clone(),
                image_folder: relative_path::parent(path).to_owned(),
                receipts_dir: self.config.receipts_folder(),
                receipt_mode: self.config.receipt_mode,
                receipt_group: self.config.receipt_group.clone(),
                done_dir: Some(self.config.done_folder()),
                failed_dir: Some(self.config.failed_folder()),
                after_success: self.config.after_success,
                marker: self.config.done_marker.clone(),
                texts: true,
            },
        }
    }
}
