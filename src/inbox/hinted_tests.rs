//! Tests of following a drop by its events, on real folders.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Duration,
};

use tempfile::TempDir;

use super::*;
use crate::{
    clock::Timestamp,
    inbox::{hints::FolderEvent, scan_rules::globs, watch::Watcher},
};

/// Generous, because it only ever passes in full when the test fails.
const LONG: Duration = Duration::from_secs(60);

fn rules() -> ScanRules {
    ScanRules {
        recursive: true,
        manifests: globs(["*.manifest.json"]).unwrap(),
        ignore: globs(["*.part"]).unwrap(),
        skip_dirs: Vec::new(),
        max_depth: 64,
        max_path_bytes: 1024,
    }
}

/// Who knows by events alone which manifests are in a drop.
struct Follower {
    place: TempDir,
    root: Root,
    rules: ScanRules,
    watcher: Arc<Watcher>,
    known: KnownFolders,
    hints: Arc<(Mutex<Hints>, Condvar)>,
    found: BTreeSet<String>,
    reader: Option<thread::JoinHandle<()>>,
    ends: u32,
}

impl Follower {
    fn new(rules: ScanRules) -> Self {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("drop")).unwrap();
        fs::create_dir(place.path().join("outside")).unwrap();
        let root = Root::open(&place.path().join("drop")).unwrap();
        let watcher = Arc::new(Watcher::start(&root).unwrap());
        let hints = Arc::<(Mutex<Hints>, Condvar)>::default();
        let (reading, theirs, their_rules) = (Arc::clone(&watcher), Arc::clone(&hints), rules.clone());
        let reader = thread::spawn(move || {
            let mut add = |event: &FolderEvent<'_>| {
                theirs.0.lock().unwrap().add(event, &their_rules);
                theirs.1.notify_one();
            };
            reading.read(&mut add).unwrap();
        });
        let mut known = KnownFolders::default();
        known.watch_by(Some(Arc::clone(&watcher)));
        let (found, reader) = (BTreeSet::new(), Some(reader));
        let mut follower = Self { place, root, rules, watcher, known, hints, found, reader, ends: 0 };
        follower.read_whole();
        follower
    }

    fn at(&self, path: &str) -> PathBuf {
        self.place.path().join("drop").join(path)
    }

    fn put(&self, path: &str) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), "{}").unwrap();
    }

    fn read_whole(&mut self) -> ScanReport {
        let mut found = BTreeSet::new();
        let mut each = |manifest: FoundManifest| {
            found.insert(manifest.path);
            ControlFlow::Continue(())
        };
        // Far ahead, so that no time step counts.
        self.known.begin(Timestamp::now().after(LONG), true);
        let report = scan_whole(&self.root, &self.rules, &mut self.known, &mut each, &mut |_| {}).unwrap();
        self.known.end();
        self.found = found;
        report
    }

    /// Looks at what the events were about so far.
    fn look(&mut self) -> ScanReport {
        let hints = std::mem::take(&mut *self.hints.0.lock().unwrap());
        if hints.is_whole() {
            return self.read_whole();
        }
        let mut found = BTreeSet::new();
        let mut each = |manifest: FoundManifest| {
            found.insert(manifest.path);
            ControlFlow::Continue(())
        };
        let Self { root, rules, known, .. } = self;
        let report = scan_hinted(root, rules, known, &hints, &mut each, &mut |_| {}).unwrap();
        self.found.retain(|path| !hints.cover(path) || matches!(root.identity_of(path), Ok(Some(_))));
        self.found.extend(found);
        report
    }

    /// Waits until all events so far have arrived, and looks at what they were about.
    fn catch_up(&mut self) -> ScanReport {
        self.ends += 1;
        let last = format!("end-{}.manifest.json", self.ends);
        fs::write(self.at(&last), "{}").unwrap();
        let (hints, came) = &*self.hints;
        let waiting = hints.lock().unwrap();
        let (arrived, timeout) = came.wait_timeout_while(waiting, LONG, |hints| !hints.cover(&last)).unwrap();
        assert!(!timeout.timed_out(), "the last event never arrives");
        drop(arrived);
        let report = self.look();
        fs::remove_file(self.at(&last)).unwrap();
        self.found.remove(&last);
        report
    }

    /// What a scan that knows nothing finds.
    fn truth(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        scan(&self.root, &self.rules, &mut |manifest| {
            found.insert(manifest.path);
            ControlFlow::Continue(())
        })
        .unwrap();
        found
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.watcher.end();
        if let Some(Err(failed)) = self.reader.take().map(thread::JoinHandle::join)
            && !thread::panicking()
        {
            std::panic::resume_unwind(failed);
        }
    }
}

#[test]
fn what_an_event_costs_does_not_depend_on_the_drop() {
    let mut follower = Follower::new(rules());
    for folder in 0..500 {
        follower.put(&format!("{folder}/deep/{folder}.manifest.json"));
    }
    follower.catch_up();
    assert_eq!(follower.found.len(), 500);
    follower.put("77/deep/more.manifest.json");
    fs::write(follower.at("78/deep/front.png"), "no manifest").unwrap();
    let report = follower.catch_up();
    assert!(report.entries < 10, "{report:?}");
    assert_eq!((follower.found.len(), report.complete), (501, true));
}

#[test]
fn folders_are_followed_wherever_they_are_moved() {
    let mut follower = Follower::new(rules());
    let outside = follower.place.path().join("outside/x");
    follower.put("a/b/c/1.manifest.json");
    follower.catch_up();
    rename(follower.at("a"), follower.at("z")).unwrap();
    follower.put("z/b/c/2.manifest.json");
    follower.catch_up();
    assert_eq!(follower.found, follower.truth());
    // Once it is known under its new path.
    follower.put("z/b/c/3.manifest.json");
    follower.catch_up();
    assert_eq!(follower.found, follower.truth());
    rename(follower.at("z/b"), &outside).unwrap();
    follower.catch_up();
    assert_eq!(follower.found, BTreeSet::new());
    assert!(!follower.watcher.knows("z/b/c"), "what is outside is none of the drop's");
    fs::write(outside.join("c/4.manifest.json"), "{}").unwrap();
    rename(&outside, follower.at("back")).unwrap();
    follower.catch_up();
    assert_eq!(follower.found, follower.truth());
    assert_eq!(follower.found.len(), 4);
    fs::remove_dir_all(follower.at("back")).unwrap();
    follower.catch_up();
    assert_eq!(follower.found, BTreeSet::new());
}

#[test]
fn hints_lead_into_no_folder_that_a_scan_stays_out_of() {
    let place = tempfile::tempdir().unwrap();
    let strangers = place.path().join("strangers");
    fs::create_dir(&strangers).unwrap();
    fs::write(strangers.join("a.manifest.json"), "{}").unwrap();
    let mut follower = Follower::new(rules());
    follower.rules.skip_dirs = vec![follower.at("done")];
    follower.put("done/deep/a.manifest.json");
    follower.put("x.part/a.manifest.json");
    symlink(&strangers, follower.at("link")).unwrap();
    for path in ["done/deep/a.manifest.json", "x.part/a.manifest.json", "link/a.manifest.json", "none/a.manifest.json"]
    {
        let (folder, name) = relative_path::split(path);
        let event = FolderEvent {
            folder,
            name: Some(name.as_bytes()),
            is_folder: false,
            change: crate::inbox::hints::FolderChange::Came,
        };
        follower.hints.0.lock().unwrap().add(&event, &rules());
    }
    follower.catch_up();
    assert_eq!(follower.found, BTreeSet::new());
}

#[test]
fn a_manifest_that_becomes_a_link_or_a_folder_is_none_any_more_and_what_is_wrong_is_reported() {
    let mut follower = Follower::new(rules());
    follower.put("in/a.manifest.json");
    follower.catch_up();
    assert_eq!(follower.found.len(), 1);
    fs::remove_file(follower.at("in/a.manifest.json")).unwrap();
    symlink("nowhere", follower.at("in/a.manifest.json")).unwrap();
    let report = follower.catch_up();
    assert_eq!((follower.found.len(), report.problems.len()), (0, 1), "{report:?}");
}

#[test]
fn a_folder_that_was_empty_and_did_not_change_is_not_read_again() {
    let mut follower = Follower::new(rules());
    for folder in 0..50 {
        fs::create_dir_all(follower.at(&format!("{folder}/deep"))).unwrap();
    }
    follower.catch_up();
    let first = follower.read_whole();
    let later = follower.read_whole();
    assert_eq!((first.folders, later.folders), (101, 101));
    assert_eq!(follower.known.empty_folders(), 50, "those with a folder in them are read");
    // Without its event, which nobody looks at here.
    follower.put("7/deep/a.manifest.json");
    follower.read_whole();
    assert_eq!((follower.found.len(), follower.known.empty_folders()), (1, 49));
    // Another folder under the path of one that was empty.
    fs::create_dir(follower.at("new")).unwrap();
    fs::write(follower.at("new/b.manifest.json"), "{}").unwrap();
    fs::remove_dir(follower.at("8/deep")).unwrap();
    rename(follower.at("new"), follower.at("8/deep")).unwrap();
    follower.read_whole();
    assert_eq!((follower.found.len(), follower.known.empty_folders()), (2, 48));
    // One that was moved is read under its new path, so that it is watched there.
    rename(follower.at("9"), follower.at("moved")).unwrap();
    follower.read_whole();
    assert!(follower.watcher.knows("moved/deep") && !follower.watcher.knows("9/deep"));
    assert_eq!(follower.known.empty_folders(), 48);
}

#[test]
fn a_folder_that_changed_just_now_is_read_again_although_it_was_empty() {
    let mut follower = Follower::new(rules());
    fs::create_dir(follower.at("just-made")).unwrap();
    follower.known.begin(Timestamp::now(), true);
    let mut each = |_| ControlFlow::Continue(());
    scan_whole(&follower.root, &follower.rules, &mut follower.known, &mut each, &mut |_| {}).unwrap();
    follower.known.end();
    assert_eq!(follower.known.empty_folders(), 0, "a file may come within the same step of its clock");
}

#[expect(clippy::disallowed_methods, reason = "a partner's rename")]
fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    fs::rename(from, to)
}

/// Numbers that depend on a seed alone.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }

    fn folder(&mut self) -> String {
        let depth = 1 + self.below(3);
        let names: Vec<_> = (0..depth).map(|_| ["a", "b", "c"][usize::try_from(self.below(3)).unwrap()]).collect();
        names.join("/")
    }

    fn manifest(&mut self) -> String {
        join(&self.folder(), &format!("{}.manifest.json", self.below(3)))
    }
}

/// Does something to the drop that anybody may do. Most fails, where nothing is under the path.
fn anything(dice: &mut Dice, drop: &Path, outside: &Path) {
    let (folder, other, manifest) = (drop.join(dice.folder()), drop.join(dice.folder()), drop.join(dice.manifest()));
    let away = outside.join(dice.below(2).to_string());
    let done = match dice.below(10) {
        0 => fs::create_dir_all(&folder),
        1..=3 => fs::write(&manifest, "{}"),
        4 => fs::remove_file(&manifest),
        5 => rename(&manifest, drop.join(dice.manifest())),
        6 => rename(&folder, &other),
        7 => rename(&folder, &away),
        8 => rename(&away, &folder),
        _ => fs::remove_dir_all(&folder),
    };
    done.ok();
}

#[test]
fn whatever_happens_nothing_is_missed() {
    for seed in 1..=300 {
        let mut dice = Dice(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(seed));
        let mut follower = Follower::new(rules());
        let (drop, outside) = (follower.at(""), follower.place.path().join("outside"));
        for _ in 0..30 {
            match dice.below(8) {
                0 => {
                    follower.look();
                }
                1 => {
                    follower.catch_up();
                }
                _ => anything(&mut dice, &drop, &outside),
            }
        }
        follower.catch_up();
        assert_eq!(follower.found, follower.truth(), "seed {seed}");
        // And each folder that is there is watched under its path.
        let folders = ["a", "b", "c"].map(|name| (name.to_owned(), drop.join(name)));
        for (path, _) in folders.iter().filter(|(_, folder)| folder.is_dir()) {
            follower.put(&format!("{path}/last.manifest.json"));
        }
        follower.catch_up();
        assert_eq!(follower.found, follower.truth(), "seed {seed}, afterwards");
    }
}
