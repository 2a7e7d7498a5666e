//! Scans one drop: finds the manifests that are complete, and admits them.
//!
//! Events only trigger a scan; the folder itself is the truth. A [`DropScanner`] runs on a thread of its own, so that
//! one folder that is slow, broken or unmounted delays no other.

use std::{
    collections::HashMap,
    io,
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    clock::{Clock, Timestamp},
    config::DropConfig,
    file_identity::{self, Present},
    inbox::{
        beneath::{Refusal, Root},
        scan::{FoundManifest, ScanRules, globs, scan},
        watch::{EventSupport, delivers_events},
        writers::Writers,
    },
    intake::{
        admit::{AdmitError, Policy, admit},
        examine::{self, ManifestRules, OpenedManifest},
        step::{Inspection, ManifestPhase, RETRY_MAX, SettleSettings, Step, TrackedManifest, Wait, unchanged_for},
    },
    policy::AfterSuccess,
    queue::{
        Queue, QueueError, Reader,
        arrivals::Arrival,
        batch::{BatchPolicy, Plan},
    },
    relative_path::{self, path_key},
};

/// Scans one drop.
pub struct DropScanner {
    config: DropConfig,
    queue: Queue,
    rules: ManifestRules,
    scan_rules: ScanRules,
    seen: HashMap<String, TrackedManifest>,
    stopped: Arc<dyn Fn() -> bool + Send + Sync>,
    clock: Clock,
    /// What `status` says of the folder: at first, what an earlier process left there.
    trouble: Option<String>,
    /// For reading only: looking up a manifest costs no commit then.
    reader: Reader,
    /// Who writes to files.
    writers: Writers,
    /// Whether the file system's clock is this machine's.
    own_clock: bool,
    /// Whether a scan has seen all of the folder, and the admissions that an earlier process left unfinished were
    /// ended.
    orphans_ended: bool,
}

/// What a scan found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DropStatus {
    /// Manifests that were admitted.
    pub taken: u64,
    /// Manifests that are not settled yet.
    pub settling: u64,
    /// Manifests that wait for files or cannot be read, and one more where the folder cannot be read in full.
    pub waiting: u64,
    /// Manifests that wait until the one that they replaced is settled.
    pub behind: u64,
    /// When to scan again without an event.
    pub again_in: Option<Duration>,
}

impl DropScanner {
    /// A scanner that has not scanned yet.
    ///
    /// # Errors
    ///
    /// Where a pattern of the configuration is invalid, or the queue cannot be read.
    pub fn new(
        config: DropConfig,
        queue: Queue,
        max_image_bytes: u64,
        clock: Clock,
        stopped: Arc<dyn Fn() -> bool + Send + Sync>,
    ) -> io::Result<Self> {
        let compile = |texts: &[String]| globs(texts.iter().map(String::as_str)).map_err(io::Error::other);
        let scan_rules = ScanRules {
            recursive: config.recursive,
            manifests: compile(config.manifests.texts())?,
            ignore: compile(config.ignore.texts())?,
            skip_dirs: vec![config.done_folder(), config.failed_folder(), config.receipts_folder()],
            max_depth: config.max_depth,
            max_path_bytes: config.max_path_bytes,
        };
        let rules = ManifestRules::of(Some(&config), max_image_bytes, queue.seed());
        let reader = Reader::open(queue.path()).map_err(io::Error::other)?;
        let writers = Writers::new(config.settle.clamp(Duration::from_millis(100), Duration::from_secs(1)));
        let trouble = reader.drop_trouble(&config.name).map_err(io::Error::other)?;
        Ok(Self {
            config,
            queue,
            rules,
            scan_rules,
            seen: HashMap::new(),
            stopped,
            clock,
            trouble,
            reader,
            writers,
            own_clock: false,
            orphans_ended: false,
        })
    }

    #[must_use]
    pub const fn config(&self) -> &DropConfig {
        &self.config
    }

    /// The queue that manifests are admitted to.
    #[must_use]
    pub const fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Scans the folder once, and admits what is complete.
    ///
    /// # Errors
    ///
    /// Those of the queue. A folder that cannot be read is recorded there and in the returned status.
    pub fn scan(&mut self, number: u64) -> Result<DropStatus, QueueError> {
        let looked = self.scan_folder(number);
        let waits = |manifest: &str| self.seen.get(manifest).is_some_and(|seen| !seen.is_known());
        self.queue.awaited().looked(&self.config.name, waits);
        looked
    }

    fn scan_folder(&mut self, number: u64) -> Result<DropStatus, QueueError> {
        self.own_clock = matches!(delivers_events(&self.config.path), Ok(EventSupport::Yes));
        let mut found = Vec::new();
        let read = Root::open(&self.config.path).and_then(|root| {
            let report = scan(&root, &self.scan_rules, &mut |manifest: FoundManifest| {
                found.push(manifest);
                if (self.stopped)() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            Ok((root, report))
        });
        let (root, report) = match read {
            Ok(read) => read,
            Err(error) => {
                self.trouble(Some(format!("{}: {error}", self.config.path.display())))?;
                let again_in = Some(self.config.rescan_every.min(RETRY_MAX));
                return Ok(DropStatus { waiting: 1, again_in, ..DropStatus::default() });
            }
        };
        let unreadable = report.problems.first().map(|problem| {
            format!(
                "{}: {} ({}); {} such",
                problem.path.as_deref().unwrap_or_default(),
                problem.reason,
                problem.cure,
                report.problems.len()
            )
        });
        let mut looked = DropStatus { waiting: u64::from(!report.complete), ..DropStatus::default() };
        self.trouble(unreadable)?;

        // Oldest first, so that a partner's corrections come after what they correct.
        found.sort_by(|one, other| (one.identity.mtime_ns, &one.path).cmp(&(other.identity.mtime_ns, &other.path)));
        for manifest in found {
            if (self.stopped)() {
                return Ok(looked);
            }
            self.consider(&root, manifest, number, &mut looked)?;
        }
        if report.complete {
            self.seen.retain(|_, seen| seen.scan == number);
            self.queue.forget_arrivals(&self.config.name, |manifest| self.seen.contains_key(manifest))?;
            if !self.orphans_ended {
                self.end_orphans()?;
                self.orphans_ended = true;
            }
        }
        Ok(looked)
    }

    fn trouble(&mut self, trouble: Option<String>) -> Result<(), QueueError> {
        if self.trouble != trouble {
            match &trouble {
                Some(why) => tracing::error!(drop = self.config.name, why, "the drop cannot be read in full"),
                None => tracing::info!(drop = self.config.name, "the drop can be read again"),
            }
            self.queue.drop_trouble(&self.config.name, trouble.clone())?;
            self.trouble = trouble;
        }
        Ok(())
    }

    fn consider(
        &mut self,
        root: &Root,
        found: FoundManifest,
        number: u64,
        looked: &mut DropStatus,
    ) -> Result<(), QueueError> {
        let now = Instant::now();
        let FoundManifest { path, identity } = found;
        let file = root.present(identity);
        let known = self.seen.get(&path).filter(|seen| seen.file == file).cloned();
        let mut seen = match known {
            Some(seen) => seen,
            None => {
                let phase = self.phase_in_queue(root, &path, &file)?;
                TrackedManifest::new(file, phase, number, now)
            }
        };
        seen.scan = number;
        if matches!(seen.phase, ManifestPhase::Queued | ManifestPhase::Behind) {
            // A manifest that was overwritten while its batch was in progress is examined again when that is closed.
            if !self.is_open(&path)? {
                seen.phase = self.phase_in_queue(root, &path, &file)?;
            }
        }
        if !seen.is_known() && seen.phase != ManifestPhase::Behind && now >= seen.not_before {
            self.advance(root, &path, &mut seen, looked)?;
            // A large manifest that waits must not keep us reading it.
            seen.not_before = seen.not_before.max(Instant::now() + now.elapsed() * 10);
        }
        match seen.phase {
            ManifestPhase::Queued | ManifestPhase::Settled => {}
            ManifestPhase::Settling => looked.settling += 1,
            ManifestPhase::Behind => looked.behind += 1,
            ManifestPhase::Incomplete | ManifestPhase::Unreadable => looked.waiting += 1,
        }
        if seen.is_known() {
            self.queue.awaited().forget(&self.config.name, &path);
        } else {
            let least = if seen.phase == ManifestPhase::Behind { BEHIND_INTERVAL } else { Duration::from_millis(10) };
            let wait = seen.not_before.saturating_duration_since(Instant::now()).max(least);
            looked.again_in = Some(looked.again_in.map_or(wait, |other| other.min(wait)));
        }
        self.seen.insert(path, seen);
        Ok(())
    }

    fn is_open(&self, path: &str) -> Result<bool, QueueError> {
        let known = self.reader.known_manifest(&self.config.name, path)?;
        Ok(known.is_some_and(|known| !known.closed && !known.admitting))
    }

    /// Whether the queue knows this manifest already.
    fn phase_in_queue(&self, root: &Root, path: &str, file: &Present) -> Result<ManifestPhase, QueueError> {
        let known = self.reader.known_manifest(&self.config.name, path)?;
        let Some(known) = known else { return Ok(ManifestPhase::Settling) };
        if known.admitting {
            return Ok(ManifestPhase::Settling);
        }
        if !known.closed {
            return Ok(if file.is_kept_as(&known.file) { ManifestPhase::Queued } else { ManifestPhase::Behind });
        }
        // A settled manifest that stays in the drop is the same as long as its content is; in other drops it was moved
        // away, so whatever is here now is new.
        if known.moved || self.config.after_success != AfterSuccess::Keep {
            return Ok(ManifestPhase::Settling);
        }
        if file.is_surely_kept_as(&known.file) {
            return Ok(ManifestPhase::Settled);
        }
        let same = examine::open(root, path, self.rules.limits.max_bytes)
            .is_ok_and(|opened| opened.sha256.0.as_slice() == known.sha256);
        Ok(if same { ManifestPhase::Settled } else { ManifestPhase::Settling })
    }

    /// Takes a manifest as far as possible: unchanged for the settle time (debounce), complete, admitted.
    fn advance(
        &mut self,
        root: &Root,
        path: &str,
        seen: &mut TrackedManifest,
        looked: &mut DropStatus,
    ) -> Result<(), QueueError> {
        let settings = SettleSettings { settle: self.config.settle, has_marker: self.config.done_marker.is_some() };
        // What is found is as old as the beginning of the scan.
        let mut now = Instant::now();
        let (mut observed, mut opened) = self.observe(root, path);
        let mut given_up = false;
        loop {
            match seen.next(&observed, given_up, settings, now) {
                Step::Settle => return Ok(()),
                Step::Wait(wait) => {
                    let forever = wait.forever;
                    let waited = self.wait(path, seen, wait)?;
                    if forever || waited < self.config.incomplete_after {
                        return Ok(());
                    }
                    tracing::warn!(drop = self.config.name, manifest = path, "waited for too long, taken in as it is");
                    given_up = true;
                }
                Step::Admit => {
                    let Some(opened) = &mut opened else { return Ok(()) };
                    observed = match self.admit(root, path, opened, !given_up) {
                        Ok(()) => {
                            seen.phase = ManifestPhase::Queued;
                            looked.taken += 1;
                            return Ok(());
                        }
                        Err(AdmitError::Later(_)) if given_up => return Ok(()),
                        Err(AdmitError::Later(held)) => Inspection::Held { held, files: observed.files() },
                        Err(AdmitError::Unready(error)) => Inspection::Unready(error),
                        Err(AdmitError::Queue(error)) => return Err(error),
                        Err(AdmitError::Stopped) => return Ok(()),
                    };
                    now = Instant::now();
                }
            }
        }
    }

    /// Observes the marker, the manifest and the files that it names, without reading those.
    fn observe(&mut self, root: &Root, path: &str) -> (Inspection, Option<OpenedManifest>) {
        if let Some(marker) = &self.config.done_marker {
            let marker = format!("{path}{marker}");
            if let Err(Refusal::Missing) = root.open_file(&marker) {
                return (Inspection::NoMarker(marker), None);
            }
        }
        let opened = match examine::open(root, path, self.rules.limits.max_bytes) {
            Ok(opened) => opened,
            Err(error) => return (Inspection::Unready(error), None),
        };
        let (drop, awaited) = (self.config.name.as_str(), self.queue.awaited());
        let mut name = |file: &str| awaited.name(drop, path, path_key(&self.config.path, "", file));
        let place = (relative_path::parent(path), path);
        match examine::stillness(&opened, root, place, &self.rules, Some(&mut self.writers), &mut name) {
            Ok(stillness) => {
                let last_change = Timestamp(stillness.last_change_ns.div_euclid(1_000_000));
                let (now, system_now) = (self.clock.now(), self.clock.system_now());
                let unchanged_for = unchanged_for(last_change, self.own_clock, self.clock.moved_to(), now, system_now);
                (Inspection::Files { stillness, unchanged_for }, Some(opened))
            }
            Err(error) => (Inspection::Unready(error), None),
        }
    }

    fn admit(
        &self,
        root: &Root,
        path: &str,
        opened: &mut OpenedManifest,
        wait_for_files: bool,
    ) -> Result<(), AdmitError> {
        if let Some(known) = self.reader.known_manifest(&self.config.name, path)?
            && known.admitting
            && known.sha256 != opened.sha256.0
        {
            // Another manifest replaced the one whose admission a crash interrupted.
            self.queue.end_half_taken(known.batch_id, self.clock.now())?;
        }
        let plan = self.plan(path, opened);
        let policy = Policy { on_invalid: self.config.on_invalid, wait_for_files };
        let admitted = admit(&self.queue, plan, opened, root, &self.rules, policy, &*self.stopped)?;
        tracing::info!(
            drop = self.config.name,
            manifest = path,
            batch = admitted.batch_id,
            entries = admitted.entries,
            invalid = admitted.invalid,
            unusable = admitted.unusable.is_some(),
            "taken in"
        );
        Ok(())
    }

    /// Records what a manifest waits for; returns for how long it has been there.
    fn wait(&self, path: &str, seen: &mut TrackedManifest, wait: Wait) -> Result<Duration, QueueError> {
        let Wait { phase, reason, files, .. } = wait;
        if phase == ManifestPhase::Unreadable && seen.phase != ManifestPhase::Unreadable {
            tracing::warn!(drop = self.config.name, manifest = path, reason, "waits until it can be read");
        }
        let (drop, manifest) = (self.config.name.clone(), path.to_owned());
        let now = self.clock.now();
        let arrival = Arrival { drop, manifest, file: seen.file, reason, missing: files };
        let first_seen = self.queue.note_arrival(arrival, now)?;
        seen.put_off(phase, Instant::now());
        Ok(now.since(first_seen))
    }

    pub(super) fn plan(&self, path: &str, opened: &OpenedManifest) -> Plan {
        Plan {
            drop: self.config.name.clone(),
            manifest: path.to_owned(),
            manifest_sha256: opened.sha256,
            manifest_file: file_identity::write(&opened.identity),
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
            },
        }
    }

    /// Ends the admissions that a crash interrupted and whose manifests are no longer there.
    fn end_orphans(&self) -> Result<(), QueueError> {
        for (batch_id, manifest) in self.queue.half_taken(&self.config.name)? {
            if !self.seen.contains_key(&manifest) {
                tracing::warn!(drop = self.config.name, manifest, "gone before it was taken in whole");
                self.queue.end_half_taken(batch_id, self.clock.now())?;
            }
        }
        Ok(())
    }
}

/// How often a manifest is checked that is admitted once another is settled.
const BEHIND_INTERVAL: Duration = Duration::from_secs(1);
