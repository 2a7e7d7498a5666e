//! Scans one drop: finds the manifests that are complete, and admits them.
//!
//! Events only trigger a scan; the folder itself is the truth. A [`DropScanner`] runs on a thread of its own, so that
//! one folder that is slow, broken or unmounted delays no other.

mod take_up;

use std::{
    cell::RefCell,
    collections::HashMap,
    io,
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    clock::{Clock, Timestamp},
    config::{DropConfig, DropLayout},
    entry::Sha256,
    file_identity::{self, FileIdentity, Present},
    inbox::{
        beneath::{Refusal, Root},
        ground::{FolderRights, GroundFault},
        scan::{FoundManifest, ScanRules, globs, scan_all},
        take::remove_empty_folders,
        watch::{EventSupport, delivers_events},
        writers::Writers,
    },
    intake::{
        admit::{AdmitError, Admitted, Policy, admit, resume_taking, take_and_admit},
        context::DropContext,
        examine::{self, ManifestRules, OpenedManifest, Unready},
        ground::DropGround,
        lists::ListReader,
        step::{
            EarlierLook, Inspection, ManifestPhase, RETRY_MAX, SettleSettings, Step, TrackedManifest, Wait,
            unchanged_for,
        },
        stillness::{NameNotes, stillness},
        take::{CHANGED_MEANWHILE, Taker, in_words},
        unclaimed::{UnclaimedSearch, UnclaimedWatch},
        unnameable::{UnnameableManifest, is_settled},
    },
    policy::AfterSuccess,
    problem::Problem,
    queue::{
        Queue, QueueError, Reader,
        arrivals::{Arrival, NotedArrival},
        awaited::{Before, FirstSeen},
        batch::{BatchPolicy, Plan},
        taking::Taking,
    },
    relative_path,
};

/// Scans one drop.
pub struct DropScanner {
    config: DropConfig,
    queue: Queue,
    /// By which the partner's own lists are read.
    lists: Option<RefCell<ListReader>>,
    rules: ManifestRules,
    scan_rules: ScanRules,
    seen: HashMap<String, TrackedManifest>,
    /// The number of this scan, from 1.
    scans: u64,
    /// When the latest one began.
    looked: Timestamp,
    stopped: Arc<dyn Fn() -> bool + Send + Sync>,
    clock: Clock,
    /// What `status` says of the folder: at first, what an earlier process left there.
    trouble: Option<String>,
    /// Whether what is taken can be put away.
    ground: DropGround,
    /// What belongs to nothing.
    unclaimed: UnclaimedWatch,
    /// What the queue's note of the ground says: at first, what an earlier process left there.
    noted_ground: Option<String>,
    /// For reading only: looking up a manifest costs no commit then.
    reader: Reader,
    /// Who writes to files.
    writers: Writers,
    /// Whether the file system's clock is this machine's.
    own_clock: bool,
    /// How often the takings that are under way could not be ended, and when that is tried again; `None` where there are
    /// none.
    unended_takings: Option<(u32, Instant)>,
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
    /// Where a pattern of the configuration or the drop's layout is invalid, or the queue cannot be read.
    pub fn new(
        config: DropConfig,
        queue: Queue,
        max_image_bytes: u64,
        clock: Clock,
        stopped: Arc<dyn Fn() -> bool + Send + Sync>,
    ) -> io::Result<Self> {
        let compile = |texts: &[String]| globs(texts.iter().map(String::as_str)).map_err(io::Error::other);
        let lists = ListReader::of(&config).map_err(io::Error::other)?;
        let scan_rules = ScanRules {
            recursive: config.recursive,
            manifests: globs(config.manifest_patterns()).map_err(io::Error::other)?,
            ignore: compile(config.ignore.texts())?,
            skip_dirs: config.own_folders().to_vec(),
            max_depth: config.max_depth,
            max_path_bytes: config.max_path_bytes,
        };
        let rules = ManifestRules::of(Some(&config), max_image_bytes, queue.seed());
        let reader = Reader::open(queue.path()).map_err(io::Error::other)?;
        let writers = Writers::new(config.settle.clamp(Duration::from_millis(100), Duration::from_secs(1)));
        let trouble = reader.drop_trouble(&config.name).map_err(io::Error::other)?;
        Ok(Self {
            ground: DropGround::new(&config, Instant::now()),
            unclaimed: UnclaimedWatch::new(reader.unclaimed(&config.name).map_err(io::Error::other)?, Instant::now()),
            noted_ground: reader.ground(&config.name).map_err(io::Error::other)?,
            config,
            queue,
            lists,
            rules,
            scan_rules,
            seen: HashMap::new(),
            scans: 0,
            looked: Timestamp(0),
            stopped,
            clock,
            trouble,
            reader,
            writers,
            own_clock: false,
            unended_takings: Some((0, Instant::now())),
            orphans_ended: false,
        })
    }

    /// Lets the mark of the account that the drop's jobs go to be kept in its receipts folder.
    #[must_use]
    pub fn on_account(mut self, account: String) -> Self {
        self.ground.mark_for(account);
        self
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

    /// What keeps the drop's files from being taken or put away, with the cure.
    #[must_use]
    pub fn bad_ground(&self) -> Option<String> {
        self.ground.fault()
    }

    /// Scans the folder once, and admits what is complete.
    ///
    /// # Errors
    ///
    /// Those of the queue. A folder that cannot be read is recorded there and in the returned status.
    pub fn scan(&mut self, number: u64) -> Result<DropStatus, QueueError> {
        self.scans = number.saturating_add(1);
        self.looked = self.clock.now();
        let knew_all = self.orphans_ended;
        let looked = self.scan_folder();
        let waits = |manifest: &str| self.seen.get(manifest).is_some_and(|seen| !seen.is_known());
        self.queue.awaited().looked(&self.config.name, waits);
        if !knew_all && self.orphans_ended && looked.is_ok() {
            self.search_unclaimed()?;
        }
        looked
    }

    /// Searches for what belongs to nothing as soon as all manifests are known: `run --once` may not scan again.
    fn search_unclaimed(&mut self) -> Result<(), QueueError> {
        let began = Instant::now();
        let Ok(root) = Root::open(&self.config.path) else { return Ok(()) };
        let mut search = UnclaimedSearch::new(&self.config, &self.reader, &self.queue, self.clock.now());
        let report = scan_all(&root, &self.scan_rules, &mut |_| ControlFlow::Continue(()), &mut |file| {
            search.see(&file, |manifest| self.seen.contains_key(manifest));
        });
        if report.is_ok_and(|report| report.complete) {
            self.unclaimed.end(search, &self.queue, began)?;
        }
        Ok(())
    }

    fn scan_folder(&mut self) -> Result<DropStatus, QueueError> {
        self.try_ground()?;
        self.own_clock = matches!(delivers_events(&self.config.path), Ok(EventSupport::Yes));
        let mut found = Vec::new();
        let mut looked = DropStatus::default();
        let root = Root::open(&self.config.path);
        // What is put back is found by this scan.
        let unended = match &root {
            Ok(root) => self.end_takings(root, &mut looked)?,
            Err(_) => None,
        };
        if (self.stopped)() {
            return Ok(looked);
        }
        let began = Instant::now();
        // Only once a scan has shown what manifests are there can be known what belongs to none.
        let search = self.orphans_ended && self.unclaimed.is_due(began);
        let (now, reader, queue) = (self.clock.now(), &self.reader, &self.queue);
        let mut search = search.then(|| UnclaimedSearch::new(&self.config, reader, queue, now));
        let mut unnameable = Vec::new();
        let mut unsettled = 0;
        let read = root.and_then(|root| {
            let mut each = |manifest: FoundManifest| {
                found.push(manifest);
                if (self.stopped)() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            let report = scan_all(&root, &self.scan_rules, &mut each, &mut |file| {
                match file.identity().filter(|_| file.unnameable.is_some()) {
                    Some(identity) if !is_settled(&identity, self.config.settle, now) => unsettled += 1,
                    Some(identity) if !self.has_receipt(&root, file.path, identity) => {
                        unnameable.extend(UnnameableManifest::read(&file));
                    }
                    _ => {}
                }
                if let Some(search) = &mut search {
                    search.see(&file, |manifest| self.seen.contains_key(manifest));
                }
            })?;
            Ok((root, report))
        });
        let (root, report) = match read {
            Ok(read) => read,
            Err(error) => {
                self.trouble(Some(format!("{}: {error}", self.config.path.display())))?;
                self.ground.suspect();
                let again_in = Some(self.config.rescan_every.min(RETRY_MAX));
                return Ok(DropStatus { waiting: 1, again_in, ..DropStatus::default() });
            }
        };
        if let Some(search) = search.filter(|_| report.complete) {
            self.unclaimed.end(search, &self.queue, began)?;
        }
        let unreadable = report.problems.first().map(|problem| {
            format!(
                "{}: {} ({}); {} such",
                problem.path.as_deref().unwrap_or_default(),
                problem.reason,
                problem.cure,
                report.problems.len()
            )
        });
        looked.waiting += u64::from(!report.complete);
        self.trouble(unended.or(unreadable))?;

        looked.again_in = looked.again_in.into_iter().chain(self.ground.again_in(Instant::now())).min();
        if unsettled > 0 {
            looked.settling += unsettled;
            looked.again_in = Some(looked.again_in.map_or(self.config.settle, |wait| wait.min(self.config.settle)));
        }
        // A receipt cannot be written on bad ground.
        for manifest in unnameable.into_iter().filter(|_| self.ground.fault().is_none()) {
            self.refuse(&manifest)?;
            looked.taken += 1;
        }
        let turns = self.turns(&root, found)?;
        self.forget_gone(&root, report.complete);
        // No manifest is taken before the names of all are known: a later one may need the same file, or have the right to
        // it.
        let mut observed = HashMap::new();
        for path in &turns {
            if (self.stopped)() {
                return Ok(looked);
            }
            self.read_names(&root, path, &mut observed)?;
        }
        for path in turns {
            if (self.stopped)() {
                return Ok(looked);
            }
            let observation = observed.remove(&path);
            self.consider(&root, path, observation, &mut looked)?;
        }
        if report.complete {
            self.queue.forget_arrivals(&self.config.name, |manifest| self.seen.contains_key(manifest))?;
            if !self.orphans_ended {
                self.end_orphans()?;
                self.orphans_ended = true;
            }
        }
        Ok(looked)
    }

    /// Forgets the manifests that are gone, before any other is taken: one that was renamed had a file copied for its
    /// old name, and the copy stayed in the drop.
    fn forget_gone(&mut self, root: &Root, found_all: bool) {
        let Self { seen, scans, queue, config, .. } = self;
        let is_gone = |path: &str| found_all || matches!(root.open_file(path), Err(Refusal::Missing));
        seen.retain(|path, tracked| {
            let stays = tracked.scan == *scans || !is_gone(path);
            if !stays {
                queue.awaited().forget(&config.name, path);
            }
            stays
        });
    }

    /// Whether an unnameable manifest was refused already, by the path that its receipt has.
    fn has_receipt(&self, root: &Root, path: &str, identity: FileIdentity) -> bool {
        let known = self.reader.known_manifest(&self.config.name, path);
        known.is_ok_and(|known| known.is_some_and(|known| root.present(identity).is_kept_as(&known.file)))
    }

    /// Gives a manifest that cannot be read because of its name a receipt that says so.
    fn refuse(&self, manifest: &UnnameableManifest) -> Result<(), QueueError> {
        let plan = self.plan_for(&manifest.path, manifest.sha256, &manifest.identity);
        let problems = Some(vec![manifest.problem()]);
        let batch = self.queue.admission(plan)?.admit_whole(Vec::new(), problems, self.clock.now())?;
        tracing::warn!(drop = self.config.name, batch, "a manifest is refused because of its name");
        Ok(())
    }

    /// Tries the ground where that is due, and reports where it has become another.
    fn try_ground(&mut self) -> Result<(), QueueError> {
        if self.reader.has_troubled_batch(&self.config.name)? {
            self.ground.suspect();
        }
        if !self.ground.look(&self.queue, Instant::now()) {
            return Ok(());
        }
        let fault = self.ground.fault();
        if self.noted_ground != fault {
            match &fault {
                Some(why) => {
                    tracing::error!(drop = self.config.name, why, "bad ground: nothing of the drop is taken in")
                }
                None => tracing::info!(drop = self.config.name, "the drop's ground is good again"),
            }
            self.queue.note_ground(&self.config.name, fault.clone(), self.clock.now())?;
            self.noted_ground = fault;
        }
        Ok(())
    }

    /// Finishes or undoes the takings that an earlier process left, or that could not be undone so far. Returns what keeps
    /// one from that.
    fn end_takings(&mut self, root: &Root, looked: &mut DropStatus) -> Result<Option<String>, QueueError> {
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

    fn end_taking(&self, root: &Root, taking: &Taking) -> Result<Admitted, AdmitError> {
        let plan = self.plan_for(&taking.manifest.path, taking.manifest_sha256, &taking.manifest.identity);
        let context = self.context_of(&taking.manifest.path, FirstSeen::default());
        resume_taking(&self.taker(root), taking, plan, (&self.rules, &context))
    }

    fn taker<'a>(&'a self, root: &'a Root) -> Taker<'a> {
        let Self { queue, reader, config, stopped, lists, .. } = self;
        Taker { queue, reader, config, root, stopped: &**stopped, lists: lists.as_ref() }
    }

    /// What was found, in the order in which it was first seen; of what was seen at once the oldest first, so that a
    /// partner's corrections come after what they correct.
    fn turns(&mut self, root: &Root, found: Vec<FoundManifest>) -> Result<Vec<String>, QueueError> {
        let now = self.clock.now();
        let mut noted = match self.scans {
            1 => self.reader.noted_arrivals(&self.config.name)?,
            _ => HashMap::new(),
        };
        let mut turns = Vec::with_capacity(found.len());
        for FoundManifest { path, identity } in found {
            let file = root.present(identity);
            let mut tracked = match self.seen.remove(&path).filter(|tracked| tracked.file == file) {
                Some(tracked) => tracked,
                None => {
                    self.queue.awaited().forget(&self.config.name, &path);
                    let noted = noted.remove(&path).filter(|noted| file.is_kept_as(&noted.file));
                    let phase = self.phase_in_queue(root, &path, &file)?;
                    let mut seen =
                        FirstSeen { at: now, scan: self.scans, mtime_ns: identity.mtime_ns, put_ns: identity.ctime_ns };
                    if let Some(noted) = &noted {
                        (seen.at, seen.scan) = (noted.first_seen.min(now), 0);
                    }
                    let mut tracked = TrackedManifest::new(file, phase, seen, Instant::now());
                    tracked.before = noted.map(|NotedArrival { checked_at: at, missing, in_use, replaced, .. }| {
                        EarlierLook { at, missing, in_use, replaced }
                    });
                    tracked
                }
            };
            tracked.scan = self.scans;
            turns.push((tracked.seen, path.clone()));
            self.seen.insert(path, tracked);
        }
        turns.sort();
        Ok(turns.into_iter().map(|(_, path)| path).collect())
    }

    fn trouble(&mut self, trouble: Option<String>) -> Result<(), QueueError> {
        if self.trouble != trouble {
            match &trouble {
                Some(why) => tracing::error!(
                    drop = self.config.name,
                    reason = why,
                    "the drop cannot be read in full: see `status`"
                ),
                None => tracing::info!(drop = self.config.name, "the drop can be read again"),
            }
            self.queue.drop_trouble(&self.config.name, trouble.clone())?;
            self.trouble = trouble;
        }
        Ok(())
    }

    /// Observes a manifest whose turn it is, or that was not read before. Afterwards its names are noted.
    fn read_names(
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

    fn consider(
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
        match tracked.phase {
            ManifestPhase::Queued | ManifestPhase::Settled => {}
            ManifestPhase::Settling => looked.settling += 1,
            ManifestPhase::Behind => looked.behind += 1,
            ManifestPhase::Incomplete | ManifestPhase::Unreadable | ManifestPhase::Blocked => looked.waiting += 1,
        }
        if tracked.is_known() {
            self.queue.awaited().forget(&self.config.name, &path);
        } else {
            let least =
                if tracked.phase == ManifestPhase::Behind { BEHIND_INTERVAL } else { Duration::from_millis(10) };
            let wait = tracked.not_before.saturating_duration_since(Instant::now()).max(least);
            looked.again_in = Some(looked.again_in.map_or(wait, |other| other.min(wait)));
        }
        self.seen.insert(path, tracked);
        Ok(())
    }

    fn is_open(&self, path: &str) -> Result<bool, QueueError> {
        let known = self.reader.known_manifest(&self.config.name, path)?;
        Ok(known.is_some_and(|known| !known.closed && !known.admitting && !known.taken))
    }

    /// Whether the queue knows this manifest already.
    fn phase_in_queue(&self, root: &Root, path: &str, file: &Present) -> Result<ManifestPhase, QueueError> {
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
                    let waited = self.wait(path, seen, wait)?;
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
                        self.wait(path, seen, Wait::for_ground(&format!("the drop's ground is bad: {why}")))?;
                        return Ok(());
                    }
                    if let Some(stays) = stays.take() {
                        tracing::warn!(
                            drop = self.config.name,
                            "a manifest's folders do not let its files go: see `status`"
                        );
                        self.wait(path, seen, Wait::for_ground(&stays.to_string()))?;
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
    fn context<'a>(&'a self, manifest: &'a str, tracked: &TrackedManifest) -> DropContext<'a> {
        self.context_of(manifest, tracked.seen)
    }

    fn context_of<'a>(&'a self, manifest: &'a str, seen: FirstSeen) -> DropContext<'a> {
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
    fn open_again(&self, root: &Root, path: &str, tracked: &TrackedManifest) -> Result<OpenedManifest, Unready> {
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

    fn admit(
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
            admit(&self.queue, plan, opened, root, (&self.rules, &context), policy, &*self.stopped)?
        } else {
            take_and_admit(&self.taker(root), plan, opened, (&self.rules, &context), policy)?
        };
        tracing::info!(
            drop = self.config.name,
            manifest = path,
            batch = admitted.batch_id,
            entries = admitted.entries,
            invalid = admitted.invalid,
            unusable = admitted.unusable.is_some(),
            "taken in"
        );
        Ok(admitted)
    }

    /// Puts a manifest off whose files cannot be moved, for longer each time: on a share, an open file must not move all
    /// the others to and fro.
    fn not_taken(&mut self, path: &str, seen: &mut TrackedManifest, problem: &Problem) -> Result<(), QueueError> {
        let reason = format!("it cannot be taken: {}; {}", in_words(problem), problem.cure);
        tracing::warn!(drop = self.config.name, arrival = self.number(path), manifest = path, reason, "put off");
        let files = problem.path.iter().cloned().collect();
        self.ground.suspect();
        self.queue.awaited().put_back(&self.config.name, path);
        let tries = seen.refused_takings;
        self.wait(path, seen, Wait { files, phase: ManifestPhase::Blocked, ..Wait::for_ground(&reason) })?;
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
    fn number(&self, path: &str) -> u64 {
        self.queue.arrival_number(&self.config.name, path)
    }

    /// Records what a manifest waits for; returns for how long it has been there.
    fn wait(&self, path: &str, seen: &mut TrackedManifest, wait: Wait) -> Result<Duration, QueueError> {
        let Wait { phase, reason, files, in_use, replaced, .. } = wait;
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
            seen: seen.seen.at,
            looked: self.looked,
            missing: files,
            in_use,
            replaced,
        };
        let first_seen = self.queue.note_arrival(arrival, now)?;
        seen.put_off(phase, Instant::now());
        Ok(now.since(first_seen))
    }

    pub(super) fn plan(&self, path: &str, opened: &OpenedManifest) -> Plan {
        Plan { layout: opened.layout.clone(), ..self.plan_for(path, opened.sha256, &opened.identity) }
    }

    fn plan_for(&self, path: &str, manifest_sha256: Sha256, identity: &FileIdentity) -> Plan {
        Plan {
            drop: self.config.name.clone(),
            manifest: path.to_owned(),
            manifest_sha256,
            manifest_file: file_identity::write(identity),
            taken: None,
            layout: None,
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

/// A manifest that was observed, and waits until all others are.
struct ManifestObservation {
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

/// The backoff before a taking is tried again that has failed this often before.
fn take_again_in(tries: u32) -> Duration {
    TAKE_AGAIN_MAX.min(Duration::from_secs(1 << tries.min(16)))
}

/// The longest of them.
const TAKE_AGAIN_MAX: Duration = Duration::from_secs(300);

/// How often a manifest is checked that is admitted once another is settled.
const BEHIND_INTERVAL: Duration = Duration::from_secs(1);
