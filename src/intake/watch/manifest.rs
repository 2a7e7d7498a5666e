//! Takes one manifest of a drop as far as possible: its names noted, its files observed, each step carried out.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::{DropScanner, DropStatus};
use crate::{
    clock::Timestamp,
    config::DropLayout,
    file_identity::Present,
    inbox::{
        beneath::{Refusal, Root},
        ground::{FolderRights, GroundFault},
    },
    intake::{
        admit::AdmitError,
        context::DropContext,
        examine::{self, OpenedManifest, Unready},
        step::{EarlierLook, Inspection, ManifestPhase, SettleSettings, Step, TrackedManifest, Wait, unchanged_for},
        stillness::{NameNotes, stillness},
    },
    manifest_wait::ManifestWait,
    policy::AfterSuccess,
    queue::{
        QueueError,
        awaited::{Before, FirstSeen},
    },
    relative_path,
};

impl DropScanner {
    /// Observes a manifest whose turn it is, or that was not read before. Afterwards its names are noted.
    pub(super) fn read_names(
        &mut self,
        root: &Root,
        path: &str,
        observed: &mut HashMap<String, ManifestObservation>,
    ) -> Result<(), QueueError> {
        let now = Instant::now();
        let Some(mut tracked) = self.seen.remove(path) else { return Ok(()) };
        if matches!(tracked.phase, ManifestPhase::Queued | ManifestPhase::Behind) {
            // A manifest that was overwritten while its batch was in progress is examined again when that is closed.
            if !self.is_open(path)? {
                tracked.phase = self.phase_in_queue(root, path, &tracked.file)?;
            }
        }
        let is_due = tracked.phase != ManifestPhase::Behind && now >= tracked.not_before;
        if !tracked.is_known() && (is_due || !tracked.is_read) {
            self.look_for_marker(root, path, &mut tracked)?;
            let mut observation = self.observe(root, path, &tracked);
            if let Inspection::Unready(Unready::Queue(error)) = observation.inspection {
                self.seen.insert(path.to_owned(), tracked);
                return Err(error);
            }
            match observation.inspection {
                Inspection::Files { .. } => (tracked.is_read, tracked.before) = (true, None),
                Inspection::Unready(Unready::Refused(Refusal::Missing)) => {
                    self.queue.awaited().forget(&self.config.name, path);
                }
                _ => {}
            }
            if is_due {
                observation.opened.take_if(|_| observed.len() >= KEPT_OPEN);
                observed.insert(path.to_owned(), observation);
            }
        }
        self.seen.insert(path.to_owned(), tracked);
        Ok(())
    }

    /// A manifest counts only once its done marker is there, so it was first seen when that was: it has no part in names
    /// before, and has not waited for files.
    fn look_for_marker(&self, root: &Root, path: &str, tracked: &mut TrackedManifest) -> Result<(), QueueError> {
        let Some(marker) = &self.config.done_marker else { return Ok(()) };
        let came_ns = match root.open_file(&format!("{path}{marker}")) {
            Ok(marker) => marker.identity.ctime_ns,
            Err(Refusal::Missing) => {
                (tracked.lacks_marker, tracked.is_read) = (true, false);
                self.queue.awaited().forget(&self.config.name, path);
                return Ok(());
            }
            Err(_) => return Ok(()),
        };
        tracked.seen.put_ns = tracked.seen.put_ns.max(came_ns);
        let is_later = |before: &EarlierLook| self.own_clock && came_ns.div_euclid(1_000_000) > before.at.0;
        if std::mem::take(&mut tracked.lacks_marker) || tracked.before.as_ref().is_some_and(is_later) {
            (tracked.seen.at, tracked.seen.scan, tracked.before) = (self.clock.now(), self.scans, None);
            self.queue.forget_arrivals(&self.config.name, |manifest| manifest != path)?;
        }
        Ok(())
    }

    pub(super) fn consider(
        &mut self,
        root: &Root,
        path: String,
        observation: Option<ManifestObservation>,
        looked: &mut DropStatus,
    ) -> Result<(), QueueError> {
        let Some(mut tracked) = self.seen.remove(&path) else { return Ok(()) };
        if let Some(observation) = observation {
            let (now, took) = (Instant::now(), observation.took);
            self.advance(root, &path, &mut tracked, observation, looked)?;
            // A large manifest that waits must not keep us reading it.
            tracked.not_before = tracked.not_before.max(Instant::now() + (now.elapsed() + took) * 10);
        }
        let is_behind = tracked.phase == ManifestPhase::Behind;
        self.line.checked(&path, is_behind.then_some(tracked.seen.at), Instant::now());
        if tracked.is_known() {
            self.queue.awaited().forget(&self.config.name, &path);
            tracked.again_at = None;
        } else {
            let least = if is_behind { BEHIND_INTERVAL } else { Duration::from_millis(10) };
            tracked.again_at = Some(tracked.not_before.max(Instant::now() + least));
        }
        self.seen.insert(path, tracked);
        Ok(())
    }

    fn is_open(&self, path: &str) -> Result<bool, QueueError> {
        let known = self.reader.known_manifest(&self.config.name, path)?;
        Ok(known.is_some_and(|known| !known.closed && !known.admitting && !known.taken))
    }

    /// Whether the queue knows this manifest already.
    pub(super) fn phase_in_queue(&self, root: &Root, path: &str, file: &Present) -> Result<ManifestPhase, QueueError> {
        let known = self.reader.known_manifest(&self.config.name, path)?;
        let Some(known) = known else { return Ok(ManifestPhase::Settling) };
        // What was taken is no longer in the drop, so this is another one.
        if known.admitting || known.taken {
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
        observation: ManifestObservation,
        looked: &mut DropStatus,
    ) -> Result<(), QueueError> {
        let settings = SettleSettings { settle: self.config.settle, has_marker: self.config.done_marker.is_some() };
        let ManifestObservation { inspection: mut observed, mut opened, mut stays, at: mut now, .. } = observation;
        if let Inspection::Files { stillness, .. } = &mut observed {
            stillness.add_in_use(&self.context(path, seen));
        }
        let mut given_up = false;
        loop {
            match seen.next(&observed, given_up, settings, now) {
                Step::Settle => return Ok(()),
                Step::Wait(wait) => {
                    let forever = wait.forever;
                    let waited = self.wait(path, seen, *wait)?;
                    if forever || waited < self.config.incomplete_after {
                        return Ok(());
                    }
                    tracing::warn!(
                        drop = self.config.name,
                        arrival = self.number(path),
                        manifest = path,
                        "waited for too long, taken in as it is"
                    );
                    given_up = true;
                }
                Step::Admit => {
                    // Before anything is sent that could not be put away afterwards.
                    if let Some(why) = self.ground.fault() {
                        self.wait(path, seen, Wait::for_ground(ManifestWait::BadGround(why)))?;
                        return Ok(());
                    }
                    if let Some(stays) = stays.take() {
                        tracing::warn!(
                            drop = self.config.name,
                            "a manifest's folders do not let its files go: see `status`"
                        );
                        self.wait(path, seen, Wait::for_ground(ManifestWait::FilesStay(stays.to_string())))?;
                        return Ok(());
                    }
                    let mut opened = match opened.take().map_or_else(|| self.open_again(root, path, seen), Ok) {
                        Ok(opened) => opened,
                        Err(error) => {
                            observed = Inspection::Unready(error);
                            continue;
                        }
                    };
                    observed = match self.admit(root, path, seen, &mut opened, !given_up) {
                        Ok(admitted) => {
                            seen.phase = ManifestPhase::Queued;
                            // What is refused as a whole takes no files.
                            if admitted.unusable.is_none() {
                                self.queue.awaited().taken(&self.config.name, path);
                            }
                            looked.taken += 1;
                            (self.on_taken)();
                            return Ok(());
                        }
                        Err(AdmitError::Later(_)) if given_up => return Ok(()),
                        Err(AdmitError::Later(held)) => Inspection::Held { held, files: observed.files() },
                        Err(AdmitError::Unready(Unready::Queue(error))) => return Err(error),
                        Err(AdmitError::Unready(error)) => Inspection::Unready(error),
                        Err(AdmitError::NotTaken(problem)) => return self.not_taken(path, seen, &problem),
                        Err(AdmitError::Queue(error)) => return Err(error),
                        Err(AdmitError::Stopped) => return Ok(()),
                    };
                    now = Instant::now();
                }
            }
        }
    }

    /// What decides about a manifest's entries and files besides these.
    pub(super) fn context<'a>(&'a self, manifest: &'a str, tracked: &TrackedManifest) -> DropContext<'a> {
        self.context_of(manifest, tracked.seen)
    }

    pub(super) fn context_of<'a>(&'a self, manifest: &'a str, seen: FirstSeen) -> DropContext<'a> {
        DropContext {
            queue: &self.queue,
            reader: &self.reader,
            config: &self.config,
            manifest,
            seen,
            own_clock: self.own_clock,
        }
    }

    /// Opens a manifest, or a list by the drop's layout.
    fn open(&self, root: &Root, path: &str) -> Result<OpenedManifest, Unready> {
        let max_bytes = self.rules.limits.max_bytes;
        let Some(lists) = self.lists.as_ref().filter(|_| self.config.is_list(path)) else {
            return examine::open(root, path, max_bytes);
        };
        let opened = lists.borrow_mut().open(root, (path, path), max_bytes)?;
        if let (Some(layout), Some(DropLayout { new_references: false, .. })) = (&opened.layout, &self.config.layout)
            && let Some(before) = self.reader.other_references(
                &self.config.name,
                (&self.config.path, path),
                opened.sha256,
                &layout.references,
            )?
        {
            return Err(Unready::Layout(format!(
                "its references were made by {before:?} before, and everything would be created a second time: put that \
                 back, or set new_references = true under [drop.layout]"
            )));
        }
        Ok(opened)
    }

    /// Opens a manifest that was observed and not kept open, if it is still the one that was seen.
    pub(super) fn open_again(
        &self,
        root: &Root,
        path: &str,
        tracked: &TrackedManifest,
    ) -> Result<OpenedManifest, Unready> {
        let opened = self.open(root, path)?;
        if root.present(opened.identity) == tracked.file { Ok(opened) } else { Err(Unready::Changed) }
    }

    /// Observes the marker, the manifest and the files that it names, without reading those.
    fn observe(&mut self, root: &Root, path: &str, tracked: &TrackedManifest) -> ManifestObservation {
        let mut observation = ManifestObservation::new(Instant::now());
        observation.inspection = self.inspect(root, path, tracked, &mut observation);
        observation.took = observation.at.elapsed();
        observation
    }

    fn inspect(
        &mut self,
        root: &Root,
        path: &str,
        tracked: &TrackedManifest,
        observation: &mut ManifestObservation,
    ) -> Inspection {
        if let Some(marker) = &self.config.done_marker {
            let marker = format!("{path}{marker}");
            if let Err(Refusal::Missing) = root.open_file(&marker) {
                return Inspection::NoMarker(marker);
            }
        }
        let opened = match self.open(root, path) {
            Ok(opened) => opened,
            Err(error) => return Inspection::Unready(error),
        };
        let moves = self.config.after_success != AfterSuccess::Keep;
        let mut rights = FolderRights::new(root);
        let mut stays = moves.then(|| rights.let_go(path).err()).flatten();
        let mut name = |file: &str| {
            if moves && stays.is_none() {
                stays = rights.let_go(file).err();
            }
        };
        let settled =
            self.clock.system_now().0.saturating_sub(i64::try_from(self.config.settle.as_millis()).unwrap_or(i64::MAX));
        let own_clock = self.own_clock;
        let context = DropContext {
            queue: &self.queue,
            reader: &self.reader,
            config: &self.config,
            manifest: path,
            seen: tracked.seen,
            own_clock,
        };
        let notes = NameNotes {
            reading: self.queue.awaited().read(&self.config.name, path, tracked.seen),
            context,
            scan: self.scans,
            quiet_before_ns: own_clock.then(|| settled.saturating_mul(1_000_000)),
            before: &|file| tracked.before.as_ref().map_or(Before::Absent, |before| before.of(file, own_clock)),
        };
        let place = (relative_path::parent(path), path);
        let still = stillness(&opened, root, place, &self.rules, Some(&mut self.writers), Some(&notes), &mut name);
        observation.stays = stays;
        match still {
            Ok(stillness) => {
                let last_change = Timestamp(stillness.last_change_ns.div_euclid(1_000_000));
                let (now, system_now) = (self.clock.now(), self.clock.system_now());
                let unchanged_for = unchanged_for(last_change, self.own_clock, self.clock.moved_to(), now, system_now);
                observation.opened = Some(opened);
                Inspection::Files { stillness, unchanged_for }
            }
            Err(error) => Inspection::Unready(error),
        }
    }
}

/// A manifest that was observed, and waits until all others are.
pub(super) struct ManifestObservation {
    inspection: Inspection,
    /// Where few are open.
    opened: Option<OpenedManifest>,
    /// Why its folders do not let its files go.
    stays: Option<GroundFault>,
    /// What was found is as old as this.
    at: Instant,
    took: Duration,
}

impl ManifestObservation {
    const fn new(at: Instant) -> Self {
        let inspection = Inspection::Unready(Unready::Changed);
        Self { inspection, opened: None, stays: None, at, took: Duration::ZERO }
    }
}

/// Manifests that are kept open between being observed and being admitted.
const KEPT_OPEN: usize = 128;

/// How often a manifest is checked that is admitted once another is settled.
const BEHIND_INTERVAL: Duration = Duration::from_secs(1);
