//! Reads the drop, or what hints are about, and compares it with what is known: what is there, what is due, what is gone.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    io, mem,
    ops::ControlFlow,
    time::Instant,
};

use super::{DropScanner, DropStatus};
use crate::{
    clock::Timestamp,
    inbox::{
        beneath::Root,
        hints::Hints,
        scan::{FoundManifest, MAX_PROBLEMS, OtherFile, ScanReport, scan_hinted, scan_whole},
        watch::{EventSupport, delivers_events},
    },
    intake::{
        step::RETRY_MAX,
        unclaimed::UnclaimedSearch,
        unnameable::{UnnameableManifest, is_settled},
    },
    queue::{QueueError, drop_state::UnclaimedFiles},
    relative_path::join,
};

/// What was read of the folder.
struct FolderReading {
    found: Vec<FoundManifest>,
    unnameable: Vec<UnnameableManifest>,
    /// Unnameable manifests that may still change.
    unsettled: u64,
    /// What belongs to nothing, where all of the folder was searched for that.
    search: Option<Result<UnclaimedFiles, QueueError>>,
    report: ScanReport,
}

impl DropScanner {
    pub(super) fn scan_folder(&mut self, hints: &Hints) -> Result<DropStatus, QueueError> {
        self.try_ground()?;
        self.own_clock = matches!(delivers_events(&self.config.path), Ok(EventSupport::Yes));
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
        let read = root.and_then(|root| Ok((self.read_folder(&root, hints)?, root)));
        let (read, root) = match read {
            Ok(read) => read,
            Err(error) => {
                self.trouble(Some(format!("{}: {error}", self.config.path.display())))?;
                self.ground.suspect();
                let again_in = self.config.rescan_every.min(RETRY_MAX);
                self.whole_at = Some(began + again_in);
                return Ok(DropStatus { waiting: 1, again_in: Some(again_in), ..DropStatus::default() });
            }
        };
        let FolderReading { found, unnameable, unsettled, search, report } = read;
        if let Some(found) = search {
            self.unclaimed.end(found?, &self.config, &self.queue, began)?;
        }
        let found_all = hints.is_whole() && report.complete;
        self.note_problems(hints, report);
        self.trouble(unended.or_else(|| self.first_problem()))?;
        // A receipt cannot be written on bad ground.
        for manifest in unnameable.into_iter().filter(|_| self.ground.fault().is_none()) {
            self.refuse(&manifest)?;
            looked.taken += 1;
        }
        self.unsettled = if hints.is_whole() { unsettled } else { self.unsettled + unsettled };
        if hints.is_whole() || unsettled > 0 {
            self.whole_at = (unsettled > 0).then(|| began + self.config.settle);
        }
        let (found, gone) = if hints.is_whole() { (found, Vec::new()) } else { self.with_due(&root, found) };
        let turns = self.turns(&root, found)?;
        self.forget_gone(&root, hints, found_all, gone)?;
        self.look_at_contested(&root);
        // No manifest is taken before the names of all are known: a later one may need the same file, or have the right to
        // it.
        self.line.checks(self.in_line(&turns), Instant::now());
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
        if found_all {
            self.queue.forget_arrivals(&self.config.name, |manifest| self.seen.contains(manifest))?;
            if !self.orphans_ended {
                self.end_orphans()?;
                self.orphans_ended = true;
            }
        }
        if hints.is_whole() {
            self.whole = Some((Instant::now(), began.elapsed()));
        }
        self.add_what_waits(&mut looked);
        Ok(looked)
    }

    /// Those whose turn it is, and when they were first seen.
    fn in_line(&self, turns: &[String]) -> impl Iterator<Item = (String, Timestamp)> {
        let now = Instant::now();
        turns.iter().filter_map(move |path| {
            let tracked = self.seen.get(path).filter(|tracked| !tracked.is_known() && now >= tracked.not_before)?;
            Some((path.clone(), tracked.seen.at))
        })
    }

    /// What waits, and when it is looked at again.
    fn add_what_waits(&self, looked: &mut DropStatus) {
        let counts = self.seen.counts();
        looked.settling += counts.settling + self.unsettled;
        looked.waiting += counts.waiting + u64::from(self.is_incomplete);
        looked.behind += counts.behind;
        let now = Instant::now();
        let moments = self.seen.next_due().into_iter().chain(self.whole_at);
        let waits = moments.map(|at| at.saturating_duration_since(now)).chain(self.ground.again_in(now));
        looked.again_in = looked.again_in.into_iter().chain(waits).min();
    }

    fn read_folder(&mut self, root: &Root, hints: &Hints) -> io::Result<FolderReading> {
        let (began, now) = (Instant::now(), self.clock.now());
        let mut folders = mem::take(&mut self.folders);
        // Only once a scan has shown what manifests are there can be known what belongs to none.
        let search = hints.is_whole() && self.orphans_ended && self.unclaimed.is_due(began);
        let mut search = search.then(|| UnclaimedSearch::new(&self.config, &self.reader, &self.queue, now));
        let (mut found, mut unnameable, mut unsettled) = (Vec::new(), Vec::new(), 0);
        let mut each = |manifest: FoundManifest| {
            found.push(manifest);
            if (self.stopped)() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let mut other = |file: OtherFile<'_>| {
            if let Some(identity) = file.unnameable.and_then(|_| file.identity()) {
                if !is_settled(&identity, self.config.settle, now) {
                    unsettled += 1;
                } else if !self.has_receipt(root, file.path, identity) {
                    unnameable.extend(UnnameableManifest::read(&file));
                }
            }
            if let Some(search) = &mut search {
                search.see(&file, |manifest| self.seen.contains(manifest));
            }
        };
        let report = if hints.is_whole() {
            folders.begin(self.clock.system_now(), self.trusts_events && self.own_clock);
            let report = scan_whole(root, &self.scan_rules, &mut folders, &mut each, &mut other);
            folders.end();
            report
        } else {
            scan_hinted(root, &self.scan_rules, &mut folders, hints, &mut each, &mut other)
        };
        let report = report.map(|report| {
            let search = search.filter(|_| report.complete).map(UnclaimedSearch::end);
            FolderReading { found, unnameable, unsettled, search, report }
        });
        self.folders = folders;
        report
    }

    fn note_problems(&mut self, hints: &Hints, report: ScanReport) {
        if hints.is_whole() {
            self.is_incomplete = false;
            self.problems.clear();
        } else {
            self.problems.retain(|path, _| !hints.cover(path));
        }
        self.is_incomplete |= !report.complete;
        for problem in report.problems.into_iter().take(MAX_PROBLEMS.saturating_sub(self.problems.len())) {
            self.problems.insert(problem.path.clone().unwrap_or_default(), problem);
        }
    }

    fn first_problem(&self) -> Option<String> {
        let (path, problem) = self.problems.first_key_value()?;
        Some(format!("{path}: {} ({}); {} such", problem.reason, problem.cure, self.problems.len()))
    }

    /// Adds the manifests whose time has come to those that were found; gives those of them that are gone too.
    fn with_due(&mut self, root: &Root, mut found: Vec<FoundManifest>) -> (Vec<FoundManifest>, Vec<String>) {
        let (now, mut gone) = (Instant::now(), Vec::new());
        let is_found: HashSet<String> = found.iter().map(|found| found.path.clone()).collect();
        for path in self.seen.due(now).into_iter().filter(|path| !is_found.contains(path)) {
            match root.identity_of(&path) {
                Ok(Some(identity)) => found.push(FoundManifest { path, identity }),
                Ok(None) => gone.push(path),
                // Its folder cannot be entered now.
                Err(_) => {
                    if let Some(mut tracked) = self.seen.remove(&path) {
                        tracked.again_at = Some(now + RETRY_MAX);
                        self.seen.insert(path, tracked);
                    }
                }
            }
        }
        (found, gone)
    }

    /// Forgets the manifests that are gone, before any other is taken: one that was renamed had a file copied for its
    /// old name, and the copy stayed in the drop.
    fn forget_gone(
        &mut self,
        root: &Root,
        hints: &Hints,
        found_all: bool,
        gone: Vec<String>,
    ) -> Result<(), QueueError> {
        let is_unseen = |path: &&str| self.seen.get(path).is_some_and(|tracked| tracked.scan != self.scans);
        let is_gone = |path: &&str| found_all || matches!(root.identity_of(path), Ok(None));
        let mut gone: BTreeSet<String> = gone.into_iter().collect();
        let mut look_for = |path: &str| gone.extend(Some(path).filter(is_unseen).filter(is_gone).map(str::to_owned));
        if hints.is_whole() {
            self.seen.paths().for_each(&mut look_for);
        }
        for (folder, hinted) in hints.folders() {
            hinted.files.iter().for_each(|name| look_for(&join(folder, name)));
            for name in &hinted.folders {
                self.seen.below(&join(folder, name)).for_each(&mut look_for);
            }
            if hinted.all_files {
                self.seen.within(folder).for_each(&mut look_for);
            }
        }
        let mut waited = Vec::new();
        for path in gone {
            self.queue.awaited().forget(&self.config.name, &path);
            self.line.checked(&path, None, Instant::now());
            if self.seen.remove(&path).is_some_and(|tracked| !tracked.is_known()) {
                waited.push(path);
            }
        }
        // After a scan of the whole drop, that is done for all.
        if !hints.is_whole() && !waited.is_empty() {
            self.queue.forget_arrivals_of(&self.config.name, waited)?;
        }
        Ok(())
    }
}
