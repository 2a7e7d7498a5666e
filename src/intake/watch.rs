//! Scans one drop: finds the manifests that are complete, and admits them.
//!
//! Events only say where to look; the folder itself is the truth. After one, only what it is about is looked at, and the
//! manifests whose time has come, so that what an event costs does not depend on the drop. A [`DropScanner`] runs on a
//! thread of its own, so that one folder that is slow, broken or unmounted delays no other.

mod manifest;
mod outcome;
mod reading;
mod take_up;
mod takings;
mod tracked;

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    io,
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, Instant},
};

use tracked::TrackedManifests;

use crate::{
    clock::{Clock, Timestamp},
    config::DropConfig,
    file_identity::FileIdentity,
    inbox::{
        beneath::Root,
        ground::{self, GroundFault},
        hints::Hints,
        known_folders::KnownFolders,
        scan::{FoundManifest, scan_all},
        scan_rules::{ScanRules, globs},
        watch::Watcher,
        writers::Writers,
    },
    intake::{
        examine::ManifestRules,
        ground::DropGround,
        lists::ListReader,
        scan_line::ScanLine,
        step::{EarlierLook, TrackedManifest},
        take::work_location,
        unclaimed::{UnclaimedSearch, UnclaimedWatch},
        unnameable::UnnameableManifest,
    },
    problem::Problem,
    queue::{
        Queue, QueueError, Reader,
        arrivals::NotedArrival,
        awaited::{FileSight, FirstSeen},
    },
};

/// Where something happens, the whole drop is scanned this often although `rescan_every` is longer: files that belong to
/// nothing are found by that alone.
const WHOLE_EVERY: Duration = Duration::from_secs(60);

/// A scan of the whole drop takes at most such a part of the time, except where `rescan_every` says more.
const WHOLE_SHARE: u32 = 20;

/// Scans one drop.
pub struct DropScanner {
    config: DropConfig,
    queue: Queue,
    /// By which the partner's own lists are read.
    lists: Option<RefCell<ListReader>>,
    rules: ManifestRules,
    scan_rules: ScanRules,
    seen: TrackedManifests,
    folders: KnownFolders,
    /// Whether changes are reported, and by this machine's own file system.
    trusts_events: bool,
    /// When the next scan is to be one of the whole drop, whatever its hints are.
    whole_at: Option<Instant>,
    /// When the last one of the whole drop ended, and how long it took.
    whole: Option<(Instant, Duration)>,
    /// What is wrong with names and folders, by their paths.
    problems: BTreeMap<String, Problem>,
    /// Whether a folder could not be read.
    is_incomplete: bool,
    /// Manifests that are refused because of their names once they have settled.
    unsettled: u64,
    /// The number of this scan, from 1.
    scans: u64,
    /// When the latest one began.
    looked: Timestamp,
    stopped: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Called for each manifest that is admitted: what is sent need not wait until the others of the scan were read.
    on_taken: Arc<dyn Fn() + Send + Sync>,
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
    /// When files that several manifests want are looked at again.
    contested_due: Instant,
    /// Whether the file system's clock is this machine's.
    own_clock: bool,
    /// How often the takings that are under way could not be ended, and when that is tried again; `None` where there are
    /// none.
    unended_takings: Option<(u32, Instant)>,
    /// Whether a scan has seen all of the folder, and the admissions that an earlier process left unfinished were
    /// ended.
    orphans_ended: bool,
    /// What is about to be checked.
    line: Arc<ScanLine>,
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

impl DropStatus {
    /// Whether any manifest is not taken in yet.
    #[must_use]
    pub const fn waits(&self) -> bool {
        self.settling > 0 || self.waiting > 0 || self.behind > 0
    }
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
            seen: TrackedManifests::default(),
            folders: KnownFolders::default(),
            trusts_events: false,
            whole_at: None,
            whole: None,
            problems: BTreeMap::new(),
            is_incomplete: false,
            unsettled: 0,
            scans: 0,
            looked: Timestamp(0),
            stopped,
            on_taken: Arc::new(|| ()),
            clock,
            trouble,
            reader,
            writers,
            contested_due: Instant::now(),
            own_clock: false,
            unended_takings: Some((0, Instant::now())),
            orphans_ended: false,
            line: Arc::default(),
        })
    }

    /// Lets the mark of the account that the drop's jobs go to be kept in its receipts folder.
    #[must_use]
    pub fn on_account(mut self, account: String) -> Self {
        self.ground.mark_for(account);
        self
    }

    /// Has this called for each manifest that is admitted.
    #[must_use]
    pub fn on_taken(mut self, on_taken: Arc<dyn Fn() + Send + Sync>) -> Self {
        self.on_taken = on_taken;
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

    /// The manifests of which only the scans know.
    #[must_use]
    pub fn line(&self) -> Arc<ScanLine> {
        Arc::clone(&self.line)
    }

    /// What keeps the drop's files from being taken or put away, with the cure.
    #[must_use]
    pub fn bad_ground(&self) -> Option<String> {
        self.ground.fault()
    }

    /// What watches the folders from now on, and whether its events are known to arrive.
    pub fn watch_by(&mut self, watcher: Option<Arc<Watcher>>, events_arrive: bool) {
        self.folders.watch_by(watcher);
        self.trusts_events = events_arrive;
    }

    /// Which files are manifests, and which folders are scanned.
    #[must_use]
    pub const fn scan_rules(&self) -> &ScanRules {
        &self.scan_rules
    }

    /// Scans the whole folder once, and admits what is complete.
    ///
    /// # Errors
    ///
    /// Those of the queue. A folder that cannot be read is recorded there and in the returned status.
    pub fn scan(&mut self, number: u64) -> Result<DropStatus, QueueError> {
        self.look(number, &mut Hints::whole())
    }

    /// Looks at what hints are about and at the manifests whose time has come, and admits what is complete. Where the whole
    /// drop has to be scanned all the same, `hints` say so afterwards.
    ///
    /// # Errors
    ///
    /// As [`Self::scan`].
    pub fn look(&mut self, number: u64, hints: &mut Hints) -> Result<DropStatus, QueueError> {
        let began = Instant::now();
        self.scans = number.saturating_add(1);
        self.looked = self.clock.now();
        let knew_all = self.orphans_ended;
        if self.owes_whole(hints, began) {
            hints.add_whole();
        }
        let looked = self.scan_folder(hints);
        if hints.is_whole() {
            let waits = |manifest: &str| self.seen.get(manifest).is_some_and(|seen| !seen.is_known());
            self.queue.awaited().looked(&self.config.name, waits);
        }
        if looked.is_err() {
            // What the hints were about may not have been seen.
            self.whole_at = Some(began);
        }
        if !knew_all && self.orphans_ended && looked.is_ok() {
            self.search_unclaimed()?;
        }
        looked
    }

    fn owes_whole(&self, hints: &Hints, now: Instant) -> bool {
        let Some((ended, took)) = self.whole else { return true };
        let is_old = now >= ended + WHOLE_EVERY.max(took * WHOLE_SHARE);
        self.whole_at.is_some_and(|at| now >= at)
            || is_old && hints.has_names()
            || self.is_incomplete && self.problems.keys().any(|path| hints.cover(path))
    }

    /// Searches for what belongs to nothing as soon as all manifests are known: `run --once` may not scan again.
    fn search_unclaimed(&mut self) -> Result<(), QueueError> {
        let began = Instant::now();
        let Ok(root) = Root::open(&self.config.path) else { return Ok(()) };
        let mut search = UnclaimedSearch::new(&self.config, &self.reader, &self.queue, self.clock.now());
        let report = scan_all(&root, &self.scan_rules, &mut |_| ControlFlow::Continue(()), &mut |file| {
            search.see(&file, |manifest| self.seen.contains(manifest));
        });
        if report.is_ok_and(|report| report.complete) {
            self.unclaimed.end(search.end()?, &self.config, &self.queue, began)?;
        }
        Ok(())
    }

    /// Looks at the files that manifests for several profiles want, although none of these is due: of two that follow one
    /// another between two looks at a manifest, the second would pass for the first.
    fn look_at_contested(&mut self, root: &Root) {
        let began = Instant::now();
        if began < self.contested_due {
            return;
        }
        for (key, path) in self.queue.awaited().contested(&self.config.name) {
            let Ok(found) = root.open_file(&path) else { continue };
            let mut sight = FileSight::of(&found.identity, root.keeps_numbers());
            sight.open = self.writers.of(&found.file, &found.identity).is_some();
            self.queue.awaited().saw(&self.config.name, key, sight, self.scans);
        }
        self.contested_due = Instant::now() + began.elapsed() * 10;
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
        let lost = self.lost_work()?;
        if !self.ground.look(&self.queue, lost, Instant::now()) {
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

    /// The fault of a work folder that is gone as a whole, with what was taken.
    fn lost_work(&self) -> Result<Option<GroundFault>, QueueError> {
        let folder = self.config.work_folder();
        if !ground::is_void(&folder) || !self.reader.has_taken_into(&work_location(&self.config.path, &folder))? {
            return Ok(None);
        }
        Ok(Some(ground::lost_work(&folder)))
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
        // A folder can be hinted at with one above it.
        turns.dedup();
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
            self.queue.drop_trouble(&self.config.name, trouble.clone(), self.clock.now())?;
            self.trouble = trouble;
        }
        Ok(())
    }
}
