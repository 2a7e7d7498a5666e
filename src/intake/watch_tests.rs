//! One drop with real files and a real queue: what is admitted, what waits, and what is archived afterwards.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{
    admit::{AdmitError, BetweenParts, Policy, admit},
    context::NoContext,
    examine::{self, HoldReason, ManifestRules},
    watch::DropScanner,
};
use crate::{
    clock::{Clock, Timestamp},
    closing,
    config::DropConfig,
    file_format::samples,
    inbox::{
        beneath::Root,
        hints::{FolderChange, FolderEvent, Hints},
    },
    policy::{AfterSuccess, OnInvalid},
    queue::{
        Queue, Reader, WhenStuck,
        attempt::{Attempt, End, Evidence},
        test_support,
    },
};

const PROFILE: &str = "a2c4393a-e219-67a4-5ab4-2186952e9038";

struct Place {
    folder: tempfile::TempDir,
    queue: Queue,
    config: DropConfig,
}

impl Place {
    fn new(change: impl FnOnce(&mut DropConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let queue = Queue::open(&folder.path().join("queue.db"), WhenStuck::Fail).unwrap();
        let path = folder.path().join("drop");
        fs::create_dir(&path).unwrap();
        let mut config = DropConfig::new("partner", path);
        config.settle = Duration::ZERO;
        change(&mut config);
        Self { folder, queue, config }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join("drop").join(name)
    }

    fn drop(&self) -> DropScanner {
        DropScanner::new(self.config.clone(), self.queue.clone(), 1 << 20, Clock::system(), Arc::new(|| false)).unwrap()
    }

    fn put_manifest(&self, name: &str, image: &str) {
        self.put_manifest_for(PROFILE, name, image);
    }

    fn put_manifest_for(&self, profile: &str, name: &str, image: &str) {
        let manifest = serde_json::json!({
            "version": 1,
            "profile_id": profile,
            "documents": [{
                "category": "PROOF_OF_IDENTITY", "document_type": "PASSPORT", "images": [{ "path": image }],
            }],
        });
        fs::write(self.at(name), manifest.to_string()).unwrap();
    }

    fn value(&self, sql: &str) -> Option<i64> {
        test_support::number(&self.queue, sql)
    }

    /// Changes what is kept, as time or a mount would have.
    fn change(&self, sql: &str) {
        assert_eq!(test_support::execute(&self.queue, sql), 1, "{sql}");
    }

    /// Creates whatever is queued.
    fn create_all(&self) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let attempt = Attempt {
            at: Timestamp(0),
            operation: "upload_image",
            position: Some(0),
            outcome: "done",
            detail: None,
            took_ms: 1,
            sent_bytes: 1,
            remote_id: None,
            proof: None,
        };
        runtime.block_on(async {
            for job in self.queue.claim(1, 100).await.unwrap() {
                let image = format!("image-{}", job.id);
                self.queue.upload_stored(job.id, 0, image, true, attempt.clone(), Timestamp(1)).await.unwrap();
                let created = End::Created { remote_id: format!("doc-{}", job.id) };
                self.queue.end_try(job.id, created, Evidence::default(), Timestamp(1)).await.unwrap();
            }
        });
    }

    /// Settles whatever has ended; returns how many manifests that were.
    fn settle_all(&self) -> usize {
        let reader = Reader::open(self.queue.path()).unwrap();
        let ended = self.queue.to_settle(1, 0, 100).unwrap();
        ended.iter().for_each(|batch| drop(closing::settle(&self.queue, &reader, batch).unwrap()));
        ended.len()
    }
}

#[test]
fn how_long_a_manifest_has_waited_is_not_forgotten_by_looks_in_between() {
    let place = Place::new(|_| {});
    place.put_manifest("a.manifest.json", "missing.png");
    let mut inbox = place.drop();
    assert_eq!(inbox.scan(0).unwrap().waiting, 1);
    let first_seen = || place.value("SELECT max(first_seen) FROM arrival");
    let since = first_seen();
    assert!(since.is_some());
    // Something else happens in the folder before it is this manifest's turn again.
    while Timestamp::now().0 <= since.unwrap() {}
    assert_eq!(inbox.scan(1).unwrap().waiting, 1);
    assert_eq!(first_seen(), since);
    fs::remove_file(place.at("a.manifest.json")).unwrap();
    assert_eq!(inbox.scan(2).unwrap().waiting, 0);
    assert_eq!(first_seen(), None, "what its sender took back is forgotten");
}

/// A manifest's old name counted as another one that needs its files: they were copied, and stayed in the drop.
#[test]
fn a_manifest_that_was_renamed_takes_its_files_with_it() {
    let place = Place::new(|_| {});
    place.put_manifest("a.manifest.json", "a.png");
    let mut inbox = place.drop();
    assert_eq!(inbox.scan(0).unwrap().waiting, 1);
    fs::remove_file(place.at("a.manifest.json")).unwrap();
    place.put_manifest("b.manifest.json", "a.png");
    fs::write(place.at("a.png"), samples::PNG).unwrap();
    assert_eq!(inbox.scan(1).unwrap().taken, 1);
    assert!(!place.at("a.png").exists(), "it was taken with its manifest");
}

/// The time without its marker counted as waiting for files, so that what came a day later was refused at once.
#[test]
fn a_manifest_waits_for_files_from_when_its_marker_is_there() {
    let place = Place::new(|config| config.done_marker = Some(".done".into()));
    place.put_manifest("a.manifest.json", "missing.png");
    for is_restarted in [false, true] {
        let mut inbox = place.drop();
        assert_eq!(inbox.scan(0).unwrap().waiting, 1);
        place.change("UPDATE arrival SET first_seen = 1, checked_at = 1");
        fs::write(place.at("a.manifest.json.done"), "").unwrap();
        let looked = if is_restarted { place.drop().scan(0) } else { inbox.scan(1) };
        assert_eq!(looked.map(|looked| (looked.waiting, looked.taken)).unwrap(), (1, 0), "{is_restarted}");
        fs::remove_file(place.at("a.manifest.json.done")).unwrap();
    }
}

/// What a restart of the machine, or a new mount, makes of a kept identity: the device has another number.
const OTHER_DEVICE: &str = "'987654321' || substr(FILE, instr(FILE, ':'))";

#[test]
fn how_long_a_manifest_has_waited_is_not_forgotten_when_its_device_has_another_number() {
    let place = Place::new(|config| config.incomplete_after = Duration::from_secs(48 * 3600));
    place.put_manifest("a.manifest.json", "missing.png");
    assert_eq!(place.drop().scan(0).unwrap().waiting, 1);
    let file = OTHER_DEVICE.replace("FILE", "file");
    // The machine is restarted every day.
    let day = format!("UPDATE arrival SET first_seen = first_seen - 86400000, file = {file}");
    place.change(&day);
    let since = place.value("SELECT first_seen FROM arrival");
    let looked = place.drop().scan(0).unwrap();
    assert_eq!((looked.waiting, looked.taken), (1, 0), "{looked:?}");
    assert_eq!(place.value("SELECT first_seen FROM arrival"), since);
    place.change(&day);
    let looked = place.drop().scan(0).unwrap();
    assert_eq!((looked.waiting, looked.taken), (0, 1), "it has waited for long enough: {looked:?}");
}

#[test]
fn another_manifest_under_the_same_name_has_not_waited_yet() {
    let place = Place::new(|_| {});
    place.put_manifest("a.manifest.json", "missing.png");
    assert_eq!(place.drop().scan(0).unwrap().waiting, 1);
    place.change("UPDATE arrival SET first_seen = 1");
    place.put_manifest("a.manifest.json", "missing-too.png");
    assert_eq!(place.drop().scan(0).unwrap().waiting, 1);
    assert!(place.value("SELECT first_seen FROM arrival") > Some(1));
}

#[test]
fn a_manifest_that_came_while_the_clock_was_ahead_does_not_wait_for_that_time() {
    let place = Place::new(|_| {});
    place.put_manifest("a.manifest.json", "missing.png");
    assert_eq!(place.drop().scan(0).unwrap().waiting, 1);
    place.change("UPDATE arrival SET first_seen = first_seen + 315360000000");
    assert_eq!(place.drop().scan(0).unwrap().waiting, 1);
    assert!(place.value("SELECT first_seen FROM arrival") <= Some(Timestamp::now().0));
}

#[test]
fn a_queued_manifest_is_known_when_its_device_has_another_number() {
    let place = Place::new(|_| {});
    fs::write(place.at("a.png"), samples::PNG).unwrap();
    place.put_manifest("a.manifest.json", "a.png");
    assert_eq!(place.drop().scan(0).unwrap().taken, 1);
    place.change(&format!("UPDATE batch SET manifest_file = {}", OTHER_DEVICE.replace("FILE", "manifest_file")));
    let looked = place.drop().scan(0).unwrap();
    assert_eq!((looked.behind, looked.taken), (0, 0), "{looked:?}");
}

#[test]
fn a_file_that_goes_while_its_manifest_is_taken_in_is_waited_for() {
    let place = Place::new(|_| {});
    // Another manifest that named it too was settled just after this one was found to be complete.
    place.put_manifest("a.manifest.json", "gone.png");
    let (inbox, root) = (place.drop(), Root::open(&place.config.path).unwrap());
    let rules = ManifestRules::of(Some(&place.config), 1 << 20, place.queue.seed());
    let take = |wait_for_files| {
        let mut opened = examine::open(&root, "a.manifest.json", 1 << 20).unwrap();
        let plan = inbox.plan("a.manifest.json", &opened);
        let policy = Policy { on_invalid: OnInvalid::Skip, wait_for_files };
        admit(&place.queue, plan, &mut opened, &root, (&rules, &NoContext), policy, BetweenParts::stops(&|| false))
    };
    assert!(matches!(take(true), Err(AdmitError::Later(held)) if held.problem().path.as_deref() == Some("gone.png")));
    assert_eq!(place.value("SELECT max(id) FROM batch"), None);
    assert_eq!(take(false).unwrap().invalid, 1, "once it has waited long enough");
}

#[test]
fn an_image_that_is_opened_for_writing_after_it_was_found_complete_is_waited_for() {
    let place = Place::new(|_| {});
    fs::write(place.at("a.png"), samples::PNG).unwrap();
    place.put_manifest("a.manifest.json", "a.png");
    let root = Root::open(&place.config.path).unwrap();
    let rules = ManifestRules::of(Some(&place.config), 1 << 20, place.queue.seed());
    let take = |wait_for_files| {
        let mut opened = examine::open(&root, "a.manifest.json", 1 << 20).unwrap();
        let plan = place.drop().plan("a.manifest.json", &opened);
        let policy = Policy { on_invalid: OnInvalid::Skip, wait_for_files };
        admit(&place.queue, plan, &mut opened, &root, (&rules, &NoContext), policy, BetweenParts::stops(&|| false))
    };
    let writer = fs::File::options().append(true).open(place.at("a.png")).unwrap();
    match take(true) {
        Err(AdmitError::Later(held @ HoldReason::BeingWritten(_))) => {
            assert_eq!(held.problem().path.as_deref(), Some("a.png"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(place.value("SELECT max(id) FROM batch"), None);
    drop(writer);
    assert_eq!(take(false).unwrap().invalid, 0);
}

#[test]
fn a_folder_that_cannot_be_read_is_not_one_with_nothing_in_it() {
    let place = Place::new(|_| {});
    fs::remove_dir(&place.config.path).unwrap();
    assert_eq!(place.drop().scan(0).unwrap().waiting, 1);
}

#[test]
fn a_folders_trouble_of_an_earlier_process_is_cleared_once_it_is_mended() {
    let place = Place::new(|_| {});
    let troubled = || place.value("SELECT count(*) FROM drop_folder WHERE trouble IS NOT NULL");
    fs::remove_dir(&place.config.path).unwrap();
    place.drop().scan(0).unwrap();
    assert_eq!(troubled(), Some(1));
    fs::create_dir(&place.config.path).unwrap();
    place.drop().scan(0).unwrap();
    assert_eq!(troubled(), Some(0));
}

#[test]
fn a_manifest_that_failed_may_come_again_where_good_ones_stay() {
    let place = Place::new(|config| config.after_success = AfterSuccess::Keep);
    let mut inbox = place.drop();
    for number in 0..2 {
        fs::write(place.at("a.png"), "no image").unwrap();
        place.put_manifest("a.manifest.json", "a.png");
        assert_eq!(inbox.scan(number).unwrap().taken, 1, "round {number}");
        assert_eq!(place.settle_all(), 1);
        assert!(!place.at("a.manifest.json").exists());
    }
}

#[test]
fn a_file_that_came_after_the_check_is_neither_deleted_nor_moved() {
    for after in [AfterSuccess::Delete, AfterSuccess::Archive] {
        let place = Place::new(|config| config.after_success = after);
        for name in ["a.png", "b.png"] {
            fs::write(place.at(name), samples::PNG).unwrap();
            place.put_manifest(&name.replace("png", "manifest.json"), name);
        }
        assert_eq!(place.drop().scan(0).unwrap().taken, 2);
        place.create_all();
        // The next scan comes under the same name while the first one's manifest is not settled yet.
        let next = [samples::PNG, b"next"].concat();
        assert!(!place.at("a.png").exists(), "it was taken");
        fs::write(place.at("a.png"), &next).unwrap();
        assert_eq!(place.settle_all(), 2);
        assert_eq!(fs::read(place.at("a.png")).unwrap(), next, "{after:?}");
        assert!(!place.at("b.png").exists(), "{after:?}");
    }
}

#[test]
fn a_manifest_that_goes_between_a_scan_and_its_turn_is_waited_for_by_nobody() {
    let place = Place::new(|_| {});
    fs::write(place.at("a.png"), samples::PNG).unwrap();
    place.put_manifest("a.manifest.json", "a.png");
    // Asked once while the folder is read, and again before each manifest: there it is moved away.
    let (asked, gone) = (std::sync::atomic::AtomicU32::new(0), place.at("a.manifest.json"));
    let stopped = move || {
        if asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 1 {
            fs::remove_file(&gone).unwrap();
        }
        false
    };
    let mut drop =
        DropScanner::new(place.config.clone(), place.queue.clone(), 1 << 20, Clock::system(), Arc::new(stopped))
            .unwrap();
    let looked = drop.scan(0).unwrap();
    assert_eq!((looked.taken, looked.waiting), (0, 0), "{looked:?}");
    assert_eq!(place.value("SELECT count(*) FROM arrival"), Some(0));
    let looked = drop.scan(1).unwrap();
    assert_eq!((looked.settling, looked.waiting), (0, 0), "{looked:?}");
}

/// Two manifests had waited for a while, so that they were looked at every ten seconds. The scanner put the picture of one
/// customer there, and a second later that of the next, which was sent for the first.
#[test]
fn a_file_that_comes_and_is_replaced_between_two_looks_at_its_manifests_serves_neither() {
    let place = Place::new(|_| {});
    place.put_manifest("x.manifest.json", "front.png");
    place.put_manifest_for("b2c4393a-e219-67a4-5ab4-2186952e9038", "y.manifest.json", "front.png");
    let mut inbox = place.drop();
    assert_eq!(inbox.scan(0).unwrap().waiting, 2);
    let mut number = 1;
    for picture in [samples::PNG, samples::JPEG] {
        fs::write(place.at("front.png"), picture).unwrap();
        // It is not their turn yet, but events make it look.
        for _ in 0..100 {
            assert_eq!(inbox.scan(number).unwrap().taken, 0);
            number += 1;
        }
    }
    let waits = "SELECT count(*) FROM arrival WHERE reason LIKE '%it is not known for which%'";
    while place.value(waits) != Some(2) {
        assert_eq!(inbox.scan(number).unwrap().taken, 0, "it is sent to one of the two");
        number += 1;
    }
}

/// The first of eight large files was sent only when the last had been hashed.
#[test]
fn a_manifest_that_is_admitted_is_announced_before_the_next_is_read() {
    let place = Place::new(|_| {});
    for name in ["one", "two", "three"] {
        fs::write(place.at(&format!("{name}.png")), samples::PNG).unwrap();
        place.put_manifest(&format!("{name}.manifest.json"), &format!("{name}.png"));
    }
    let (queue, seen) = (place.queue.clone(), Arc::new(Mutex::new(Vec::new())));
    let theirs = Arc::clone(&seen);
    let on_taken = move || theirs.lock().unwrap().push(test_support::number(&queue, "SELECT count(*) FROM job"));
    let mut drop = place.drop().on_taken(Arc::new(on_taken));
    assert_eq!(drop.scan(0).unwrap().taken, 3);
    assert_eq!(*seen.lock().unwrap(), [Some(1), Some(2), Some(3)]);
}

/// What an event of this name asks for.
fn hint(inbox: &DropScanner, path: &str, is_folder: bool) -> Hints {
    let (folder, name) = crate::relative_path::split(path);
    let event = FolderEvent { folder, name: Some(name.as_bytes()), is_folder, change: FolderChange::Came };
    let mut hints = Hints::default();
    hints.add(&event, inbox.scan_rules());
    hints
}

#[test]
fn after_an_event_only_what_it_is_about_is_looked_at() {
    let place = Place::new(|_| {});
    let mut inbox = place.drop();
    inbox.scan(0).unwrap();
    for name in ["a", "b", "c"] {
        fs::create_dir(place.at(name)).unwrap();
        fs::write(place.at(&format!("{name}/a.png")), samples::PNG).unwrap();
        place.put_manifest(&format!("{name}/1.manifest.json"), "a.png");
    }
    let mut of_file = hint(&inbox, "a/1.manifest.json", false);
    assert_eq!(inbox.look(1, &mut of_file).unwrap().taken, 1);
    assert!(!of_file.is_whole() && !place.at("a/1.manifest.json").exists());
    assert_eq!(inbox.look(2, &mut Hints::default()).unwrap().taken, 0);
    let mut of_folder = hint(&inbox, "b", true);
    assert_eq!(inbox.look(3, &mut of_folder).unwrap().taken, 1);
    assert_eq!(inbox.scan(4).unwrap().taken, 1, "the third is found by a scan of all");
}

#[test]
fn a_manifest_whose_time_has_come_is_taken_without_an_event() {
    let place = Place::new(|config| config.settle = Duration::from_millis(20));
    let mut inbox = place.drop();
    inbox.scan(0).unwrap();
    fs::write(place.at("a.png"), samples::PNG).unwrap();
    place.put_manifest("a.manifest.json", "a.png");
    let mut hints = hint(&inbox, "a.manifest.json", false);
    let (mut number, mut taken) = (1, 0);
    while taken == 0 {
        let looked = inbox.look(number, &mut hints).unwrap();
        taken = looked.taken;
        assert!(taken == 1 || looked.settling == 1 && looked.again_in.is_some(), "{looked:?}");
        (number, hints) = (number + 1, Hints::default());
    }
    assert_eq!(inbox.look(number, &mut hints).unwrap().again_in, None, "nothing is left to look at");
}

#[test]
fn what_its_sender_takes_back_is_forgotten_by_its_own_event() {
    let place = Place::new(|_| {});
    let mut inbox = place.drop();
    inbox.scan(0).unwrap();
    fs::create_dir_all(place.at("in/deep")).unwrap();
    let paths = ["a.manifest.json", "in/b.manifest.json", "in/deep/c.manifest.json"];
    for (number, path) in (1..).zip(paths) {
        place.put_manifest(path, "missing.png");
        let mut hints = hint(&inbox, path, false);
        assert_eq!(inbox.look(number, &mut hints).unwrap().waiting, number);
    }
    fs::remove_file(place.at("a.manifest.json")).unwrap();
    let mut of_file = hint(&inbox, "a.manifest.json", false);
    assert_eq!(inbox.look(4, &mut of_file).unwrap().waiting, 2);
    assert_eq!(place.value("SELECT count(*) FROM arrival"), Some(2));
    fs::remove_dir_all(place.at("in")).unwrap();
    let mut of_folder = hint(&inbox, "in", true);
    assert_eq!(inbox.look(5, &mut of_folder).unwrap().waiting, 0);
    assert_eq!(place.value("SELECT count(*) FROM arrival"), Some(0));
}

#[test]
fn a_folder_that_can_be_read_again_is_no_trouble_any_more() {
    let place = Place::new(|config| config.max_depth = 1);
    let mut inbox = place.drop();
    let troubled = || place.value("SELECT count(*) FROM drop_folder WHERE trouble IS NOT NULL");
    fs::create_dir_all(place.at("in/too-deep")).unwrap();
    assert_eq!(inbox.scan(0).unwrap().waiting, 1);
    let mut elsewhere = hint(&inbox, "other", true);
    assert_eq!(inbox.look(1, &mut elsewhere).unwrap().waiting, 1);
    assert_eq!((troubled(), elsewhere.is_whole()), (Some(1), false));
    fs::remove_dir(place.at("in/too-deep")).unwrap();
    let mut of_folder = hint(&inbox, "in/too-deep", true);
    assert_eq!(inbox.look(2, &mut of_folder).unwrap().waiting, 0);
    assert_eq!(troubled(), Some(0));
}

#[test]
fn a_queue_that_fails_lets_nothing_be_missed() {
    let place = Place::new(|_| {});
    let mut inbox = place.drop();
    inbox.scan(0).unwrap();
    place.put_manifest("a.manifest.json", "missing.png");
    let mut hints = hint(&inbox, "a.manifest.json", false);
    test_support::execute(&place.queue, "ALTER TABLE arrival RENAME TO elsewhere");
    assert!(inbox.look(1, &mut hints).is_err());
    test_support::execute(&place.queue, "ALTER TABLE elsewhere RENAME TO arrival");
    let mut nothing = Hints::default();
    assert_eq!(inbox.look(2, &mut nothing).unwrap().waiting, 1);
    assert!(nothing.is_whole());
}
