//! Ends the program at each of its durable steps, before and after, once and twice: its guarantees hold all the same.
//!
//! A scenario is a drop, and what people and the API do about it. It runs once completely, to learn which places it
//! reaches; then, for each place that the plain one does not reach, from the start with the process ended there. The
//! verdict is by what the stand-in saw and what is in the folders. The queue is read only for what was on disk at the
//! end of a life, in a copy, so that the next one finds everything as it was left.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Mutex,
    thread,
};

use passfort_ingest::{
    killpoint::{PLACES, VARIABLE},
    queue::Reader,
    sandbox::{ApiCall, LedgerEntry},
};
use serde_json::{Value, json};

use crate::support::{
    Builder, Daemon, Finished, Format, Site, counted_leftovers, entry, image, is_receipt, leftovers, profile,
    read_receipt,
};

const MANIFEST: &str = "all.manifest.json";

/// Cases that a test tries at the same time.
const AT_ONCE: usize = 6;

struct Scenario {
    build: fn() -> Site,
    /// Does everything that is left to do, with the program under this environment; may be called any number of times.
    /// Returns what the process left that did not end by itself, or the last one.
    act: fn(&Site, &str) -> Finished,
    /// A place at which the process ends before the scenario begins.
    prelude: Option<&'static str>,
    check: fn(&Site),
}

/// Starts the program with the variable set.
fn start(site: &Site, arguments: &[&str], at: &str) -> Daemon {
    let mut command = site.command(arguments);
    command.env(VARIABLE, at);
    Daemon::start(command, &site.at("log"))
}

fn once(site: &Site, at: &str) -> Finished {
    site.wait_until_settled();
    start(site, &["run", "--once"], at).finish()
}

/// Two documents of two images on one profile, and a file.
fn drop_all(site: &Site) {
    let documents: Vec<Value> = (0..2)
        .map(|number| {
            let (front, back) = (format!("{number}-front.png"), format!("{number}-back.gif"));
            site.put(&front, image(Format::Png, number));
            site.put(&back, image(Format::Gif, number));
            let mut document = entry(&format!("document-{number}"), 1, &front);
            document["images"] = json!([{ "path": front, "image_type": "FRONT" }, { "path": back }]);
            document
        })
        .collect();
    site.put("a.pdf", image(Format::Pdf, 9));
    let files = json!([{ "reference": "file", "profile_id": profile(2), "path": "a.pdf" }]);
    site.put(MANIFEST, json!({ "version": 1, "documents": documents, "files": files }).to_string());
}

const FILES: [&str; 6] = ["0-back.gif", "0-front.png", "1-back.gif", "1-front.png", "a.pdf", MANIFEST];

fn site(faults: &[&str], builder: Builder) -> Site {
    let site = builder.build();
    // The first job: a list of its profile shows that lists are complete, for those whose own profile has no document.
    site.put_folder("before", WITNESS);
    site.run(&["import", "before", "--receipts-to", "before-receipts"]).expect(0);
    // While one document is being created, the images of the other all arrive.
    site.faults(&[faults, &["create_document=slow:60ms"]].concat());
    drop_all(&site);
    site
}

/// The customer of a document that is there from the start.
const WITNESS: u32 = 90;

const PLAIN: Scenario =
    Scenario { build: || site(&[], Builder::default()), act: once, prelude: None, check: assert_all_created };

fn scenarios() -> Vec<(&'static str, Scenario)> {
    vec![
        ("plain", PLAIN),
        ("deleted", Scenario { build: || with_drop("after_success = 'delete'"), check: assert_all_deleted, ..PLAIN }),
        (
            "answers are lost",
            Scenario {
                build: || site(&["create_document=lost,nth=1", "upload_image=lost,nth=1"], Builder::default()),
                ..PLAIN
            },
        ),
        (
            "nothing came of a document",
            Scenario { build: || site(&["create_document=status-before:502,nth=1"], Builder::default()), ..PLAIN },
        ),
        (
            "refused",
            Scenario {
                build: || site(&["upload_file=status-before:422"], Builder::default()),
                check: assert_file_refused,
                ..PLAIN
            },
        ),
        ("the key is refused", Scenario { build: build_refused_key, ..PLAIN }),
        ("held", Scenario { build: build_held, act: release_what_is_held, ..PLAIN }),
        (
            "held after a kill",
            Scenario {
                build: || build_held_if_lost(&[]),
                act: release_what_is_held,
                prelude: Some("after.call.upload_file"),
                ..PLAIN
            },
        ),
        ("cancelled", Scenario { build: build_slow, act: cancel_one, check: assert_one_cancelled, ..PLAIN }),
        ("files come late", Scenario { build: build_incomplete, act: complete, ..PLAIN }),
        ("the folder comes late", Scenario { build: build_away, act: bring_back, ..PLAIN }),
        ("no place for receipts", Scenario { build: build_obstructed, act: unobstruct, ..PLAIN }),
        (
            "the place for receipts goes away",
            Scenario {
                build: || with_drop("receipts_dir = 'in-the-way'"),
                act: obstruct_then_unobstruct,
                prelude: Some("before.commit.name_receipt"),
                ..PLAIN
            },
        ),
        ("imported", Scenario { build: build_import, act: import, check: assert_imported, ..PLAIN }),
        ("a file has changed", Scenario { build: build_changed, check: assert_changed, ..PLAIN }),
        ("taken up again", Scenario { prelude: Some("after.commit.intend"), ..PLAIN }),
        ("large", Scenario { build: || build_large(""), check: assert_large_refused, ..PLAIN }),
        ("many files", Scenario { build: || build_many_files(""), check: assert_many_files, ..PLAIN }),
        (
            "many files of a rejected manifest",
            Scenario { build: || build_many_files("on_invalid = 'reject'"), check: assert_rejected, ..PLAIN },
        ),
        (
            "a file changes while it is taken",
            Scenario { prelude: Some(TWO_TAKEN), act: change_then_go_on, check: assert_taken_anew, ..PLAIN },
        ),
        (
            "a name is in use again",
            Scenario { prelude: Some(TWO_TAKEN), act: drop_again_then_go_on, check: assert_displaced, ..PLAIN },
        ),
        (
            "another one needs a file",
            Scenario { build: build_shared, act: complete_shared, check: assert_shared, ..PLAIN },
        ),
        (
            "another one in its place",
            Scenario {
                build: || build_large("after_success = 'keep'"),
                act: replace_half_taken,
                prelude: Some("after.commit.admit_part:3"),
                check: assert_replaced,
            },
        ),
    ]
}

fn with_drop(lines: &str) -> Site {
    site(&[], Builder { drop: lines.to_owned(), ..Builder::default() })
}

fn build_held() -> Site {
    build_held_if_lost(&["upload_file=lost,nth=1"])
}

fn build_held_if_lost(faults: &[&str]) -> Site {
    site(faults, Builder { retry: "lost_file = 'hold'".to_owned(), ..Builder::default() })
}

/// The file's job is the fourth.
fn release_what_is_held(site: &Site, at: &str) -> Finished {
    let mut finished = once(site, at);
    // Where it is killed while the file is under way again, it is held again.
    while finished.code == Some(3) {
        site.run(&["release", "4", "--send-again"]).expect(0);
        finished = once(site, at);
    }
    finished
}

/// Slow enough for a person to cancel what is being sent, on a busy machine too.
fn build_slow() -> Site {
    site(&["upload_image=slow:600ms"], Builder::default())
}

fn cancel_one(site: &Site, at: &str) -> Finished {
    site.wait_until_settled();
    let mut daemon = start(site, &["run", "--once"], at);
    let is_asked = || site.ledger().iter().any(|call| call.profile == Some(profile(1)));
    while daemon.is_alive() && !is_asked() {
        thread::yield_now();
    }
    if is_asked() && !site.at("asked").exists() {
        site.run(&["cancel", "2"]).expect(0);
        site.write("asked", "");
    }
    daemon.finish()
}

/// One image is missing, and another manifest waits in vain and is taken back.
fn build_incomplete() -> Site {
    let site = with_drop("");
    fs::remove_file(site.in_drop("1-back.gif")).unwrap();
    site.put_documents("gone.manifest.json", &[entry("gone", 1, "gone.png")]);
    site
}

fn complete(site: &Site, at: &str) -> Finished {
    if !site.at("completed").exists() {
        let finished = once(site, at);
        if finished.code != Some(3) {
            return finished;
        }
        fs::remove_file(site.in_drop("gone.manifest.json")).unwrap();
        site.put("1-back.gif", image(Format::Gif, 1));
        site.write("completed", "");
    }
    once(site, at)
}

fn build_away() -> Site {
    let site = with_drop("");
    rustix::fs::rename(site.at("drop"), site.at("away")).unwrap();
    site
}

fn bring_back(site: &Site, at: &str) -> Finished {
    if site.at("away").exists() {
        let finished = once(site, at);
        if finished.code.is_none() {
            return finished;
        }
        rustix::fs::rename(site.at("away"), site.at("drop")).unwrap();
    }
    once(site, at)
}

/// There is a file where the folder of the receipts should be.
fn build_obstructed() -> Site {
    let site = with_drop("receipts_dir = 'in-the-way'");
    site.put("in-the-way", "");
    site
}

fn unobstruct(site: &Site, at: &str) -> Finished {
    let in_the_way = site.in_drop("in-the-way");
    if in_the_way.is_file() {
        let finished = once(site, at);
        if finished.code.is_none() {
            return finished;
        }
        assert_eq!(site.left().len(), FILES.len() + 1, "nothing of it is taken: {:?}", site.left());
        fs::remove_file(&in_the_way).unwrap();
    }
    once(site, at)
}

/// All is created, and then something is in the way of the receipt.
fn obstruct_then_unobstruct(site: &Site, at: &str) -> Finished {
    let in_the_way = site.in_drop("in-the-way");
    if !site.at("obstructed").exists() {
        let _ = fs::remove_dir_all(&in_the_way);
        site.put("in-the-way", "");
        site.write("obstructed", "");
    }
    if in_the_way.is_file() {
        let finished = once(site, at);
        if finished.code.is_none() {
            return finished;
        }
        fs::remove_file(&in_the_way).unwrap();
    }
    once(site, at)
}

/// Everything is taken in, in place, and then one image is another one.
fn build_changed() -> Site {
    let site = with_drop("after_success = 'keep'");
    rustix::fs::rename(site.at("drop"), site.at("full")).unwrap();
    fs::create_dir(site.at("drop")).unwrap();
    site.run(&["run", "--once"]).expect(0);
    site.run(&["pause"]).expect(0);
    fs::remove_dir_all(site.at("drop")).unwrap();
    rustix::fs::rename(site.at("full"), site.at("drop")).unwrap();
    let mut daemon = site.daemon();
    daemon
        .wait_until("all is taken in", || site.run(&["jobs", "--json"]).stdout.matches("\"profile_id\"").count() == 4);
    daemon.terminate().expect(0);
    site.put("0-front.png", image(Format::Png, 77));
    site.run(&["resume"]).expect(0);
    site
}

fn assert_changed(site: &Site) {
    let receipt = site.receipt(MANIFEST);
    assert_eq!((&receipt["status"], &receipt["counts"]["created"]), (&json!("partial"), &json!(2)), "{receipt}");
    assert_eq!(receipt["entries"][0]["errors"][0]["code"], "file-changed", "{receipt}");
    assert_receipt_is_true(site, &receipt, 1);
    assert_eq!(site.left(), ["0-front.png"], "it may be another entry's");
}

/// Two files are in the work folder; the others and the manifest are in the drop.
const TWO_TAKEN: &str = "before.take.file:3";

fn change_then_go_on(site: &Site, at: &str) -> Finished {
    if !site.at("changed").exists() {
        site.put("1-front.png", image(Format::Png, 77));
        site.write("changed", "");
    }
    once(site, at)
}

fn assert_taken_anew(site: &Site) {
    assert_all_created(site);
    let front = &site.receipt(MANIFEST)["entries"][1]["images"][0]["sha256"];
    assert_eq!(*front, crate::support::sha256(&image(Format::Png, 77)));
}

/// The sender drops all of it once more, while the first manifest is half taken.
fn drop_again_then_go_on(site: &Site, at: &str) -> Finished {
    if !site.at("changed").exists() {
        drop_all(site);
        site.write("changed", "");
    }
    once(site, at)
}

/// What was taken of the first manifest is with what failed, and the second one is done.
fn assert_displaced(site: &Site) {
    let receipts: Vec<Value> = site.receipt_paths(MANIFEST).iter().map(|path| read_receipt(path)).collect();
    let with = |status: &str| receipts.iter().filter(|receipt| receipt["status"] == status).collect::<Vec<_>>();
    let (rejected, done) = (with("rejected"), with("done"));
    assert_eq!((receipts.len(), rejected.len(), done.len()), (2, 1, 1), "{receipts:#?}");
    assert_eq!(rejected[0]["errors"][0]["code"], "name-in-use", "{receipts:#?}");
    assert_receipt_is_true(site, done[0], 2);
    assert_eq!(site.left(), Vec::<String>::new());
    assert_eq!(site.moved_to("failed"), ["0-back.gif", "0-front.png"]);
    assert_eq!(site.moved_to("done"), FILES);
}

/// A file of the manifest is named by another one too, which waits.
fn build_shared() -> Site {
    let site = with_drop("");
    let mut also = entry("also", 1, "0-front.png");
    also["images"] = json!([{ "path": "0-front.png" }, { "path": "late.png" }]);
    site.put_documents("also.manifest.json", &[also]);
    site
}

fn complete_shared(site: &Site, at: &str) -> Finished {
    if !site.in_drop("late.png").exists() && !site.is_settled("also.manifest.json") {
        let finished = once(site, at);
        if finished.code != Some(3) {
            return finished;
        }
        site.put("late.png", image(Format::Png, 55));
    }
    once(site, at)
}

fn assert_shared(site: &Site) {
    assert_eq!(site.left(), Vec::<String>::new());
    let mut done: Vec<String> = FILES.map(str::to_owned).into();
    done.extend(["0-front.1.png", "also.manifest.json", "late.png"].map(str::to_owned));
    done.sort();
    assert_eq!(site.moved_to("done"), done);
    let created = |manifest: &str| site.receipt(manifest)["counts"]["created"].clone();
    assert_eq!((created(MANIFEST), created("also.manifest.json")), (json!(3), json!(1)));
    let ours = site.documents().iter().filter(|document| document.profile != profile(WITNESS)).count();
    assert_eq!((ours, site.summary().doubled), (3, 0));
}

fn build_import() -> Site {
    let site = with_drop("");
    rustix::fs::rename(site.at("drop"), site.at("in")).unwrap();
    fs::create_dir(site.at("drop")).unwrap();
    site
}

fn import(site: &Site, at: &str) -> Finished {
    start(site, &["import", "in"], at).finish()
}

/// More entries than are taken in at once; none is good, so that it is done fast.
fn build_large(drop: &str) -> Site {
    let site = Builder { drop: drop.to_owned(), ..Builder::default() }.build();
    let lines: String = (0..4200).map(|number| format!("{{\"reference\": \"{number}\"}}\n")).collect();
    site.put("large.manifest.jsonl", lines);
    site
}

fn assert_large_refused(site: &Site) {
    assert_eq!(site.receipt_paths("large.manifest.jsonl").len(), 1);
    assert_eq!(failed_entries(site, "receipts/large.failed.manifest.jsonl").len(), 4200);
    assert_eq!(site.moved_to("failed"), ["large.manifest.jsonl"]);
    assert_eq!(site.left(), Vec::<String>::new());
}

/// More files than are listed in memory; each is refused, so that it is done fast.
const MANY_FILES: usize = 1100;

fn build_many_files(drop: &str) -> Site {
    let site = Builder { drop: drop.to_owned(), ..Builder::default() }.build();
    let mut lines = String::new();
    for number in 0..MANY_FILES {
        let path = format!("{}/{number}.png", number % 3);
        site.put(&path, "no image");
        lines.push_str(&format!("{}\n", entry(&number.to_string(), 1, &path)));
    }
    site.put("many.manifest.jsonl", lines);
    site
}

fn assert_many_files(site: &Site) {
    assert_eq!(site.receipt_paths("many.manifest.jsonl").len(), 1);
    assert_eq!(failed_entries(site, "receipts/many.failed.manifest.jsonl").len(), MANY_FILES);
    assert_eq!(site.moved_to("failed").len(), MANY_FILES + 1);
    assert_eq!(site.left(), Vec::<String>::new());
}

fn assert_rejected(site: &Site) {
    assert_eq!(site.receipt_paths("many.manifest.jsonl").len(), 1);
    assert_eq!(failed_entries(site, "receipts/many.failed.manifest.jsonl").len(), MANY_FILES);
    assert_eq!(site.moved_to("failed"), ["many.manifest.jsonl"]);
    assert_eq!(site.left().len(), MANY_FILES, "they stay for the manifest's correction");
}

fn replace_half_taken(site: &Site, at: &str) -> Finished {
    if !site.at("replaced").exists() {
        site.put("good.png", image(Format::Png, 1));
        site.put("large.manifest.jsonl", entry("good", 1, "good.png").to_string());
        site.write("replaced", "");
    }
    once(site, at)
}

/// What was on disk when a process ended: the digests of the images whose IDs it had written down, and how far the
/// ledger had come.
struct EndOfLife {
    known: BTreeSet<String>,
    seq: u64,
}

impl EndOfLife {
    fn of(site: &Site) -> Self {
        let ledger = site.ledger();
        let seq = ledger.last().map_or(0, |call| call.seq);
        let copy = tempfile::tempdir().unwrap();
        for file in ["queue.db", "queue.db-wal"] {
            // One that was killed early has none, and knows nothing.
            fs::copy(site.at("state").join(file), copy.path().join(file)).ok();
        }
        Self { known: known(&copy.path().join("queue.db")), seq }
    }
}

fn known(database: &Path) -> BTreeSet<String> {
    // It may have ended before there was a table to read.
    if Reader::open(database).is_err() {
        return BTreeSet::new();
    }
    let connection = rusqlite::Connection::open(database).unwrap();
    let mut rows = connection.prepare("SELECT lower(hex(sha256)) FROM upload WHERE remote_id IS NOT NULL").unwrap();
    rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[track_caller]
fn assert_not_sent_again(ledger: &[LedgerEntry], life: &EndOfLife) {
    let again: Vec<_> = ledger
        .iter()
        .filter(|call| call.seq > life.seq && call.operation == ApiCall::UploadImage)
        .filter(|call| call.sha256.as_ref().is_some_and(|sha256| life.known.contains(sha256)))
        .collect();
    assert!(again.is_empty(), "an image whose ID was on disk was sent again: {again:#?}");
}

/// What the receipt reports as created exists at the API, made of what the manifest asked for, and nothing else does.
#[track_caller]
fn assert_receipt_is_true(site: &Site, receipt: &Value, documents: usize) {
    let summary = site.summary();
    let ours = site.documents().iter().filter(|document| document.profile != profile(WITNESS)).count();
    assert_eq!((ours, summary.doubled, summary.doubled_ids), (documents, 0, 0), "{summary}");
    let ledger = site.ledger();
    let sha256_of: BTreeMap<&str, &str> =
        ledger.iter().filter_map(|call| Some((call.id.as_deref()?, call.sha256.as_deref()?))).collect();
    let standing = site.documents();
    let created = receipt["entries"].as_array().unwrap().iter().filter(|entry| entry["status"] == "created");
    let mut named = 0;
    for entry in created {
        if entry["kind"] == "file" {
            let id = entry["file_id"].as_str().unwrap();
            assert_eq!(sha256_of.get(id).copied(), entry["sha256"].as_str(), "{entry}");
            continue;
        }
        named += 1;
        let document = standing.iter().find(|document| entry["document_id"] == document.id.as_str());
        let document = document.unwrap_or_else(|| panic!("no such document at the API: {entry}"));
        let images = entry["images"].as_array().unwrap();
        assert_eq!(document.images.len(), images.len(), "{entry}");
        for (image, standing) in images.iter().zip(&document.images) {
            assert_eq!(image["image_id"], standing.id.as_str(), "{entry}");
            assert_eq!(sha256_of.get(standing.id.as_str()).copied(), image["sha256"].as_str(), "{entry}");
        }
    }
    assert_eq!(named, documents, "{receipt}");
}

/// The entries of the one list of failed entries in the drop.
#[track_caller]
fn failed_entries(site: &Site, path: &str) -> Vec<Value> {
    let lists: Vec<String> = site.files().into_iter().filter(|file| file.contains(".failed.")).collect();
    assert_eq!(lists, [path]);
    let text = fs::read_to_string(site.in_drop(path)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Nothing is in the drop but receipts and the archive; no temporary file is either.
#[track_caller]
fn assert_files(site: &Site, folder: &str, receipts: &str) {
    let mut expected: Vec<String> = FILES.map(str::to_owned).into();
    if folder == "failed" {
        expected.push("all.failed.manifest.jsonl".to_owned());
    }
    expected.push(format!("{MANIFEST}.receipt.json"));
    let mut found = site.moved_to(folder);
    let prefix = format!("{receipts}/");
    let all = site.files();
    found.extend(all.iter().filter_map(|file| file.strip_prefix(&prefix)).map(str::to_owned));
    assert_eq!(found, expected);
    assert_eq!(all.len(), expected.len(), "{all:#?}");
}

fn receipts_folder(site: &Site) -> &'static str {
    if site.in_drop("in-the-way").exists() { "in-the-way" } else { "receipts" }
}

fn the_receipt(site: &Site) -> Value {
    read_receipt(&site.in_drop(receipts_folder(site)).join(format!("{MANIFEST}.receipt.json")))
}

fn assert_all_created(site: &Site) {
    assert_files(site, "done", receipts_folder(site));
    let receipt = the_receipt(site);
    assert_eq!((&receipt["status"], &receipt["counts"]["created"]), (&json!("done"), &json!(3)), "{receipt}");
    assert_receipt_is_true(site, &receipt, 2);
}

fn assert_all_deleted(site: &Site) {
    assert_eq!(site.files(), [format!("receipts/{MANIFEST}.receipt.json")]);
    assert_receipt_is_true(site, &the_receipt(site), 2);
}

fn assert_file_refused(site: &Site) {
    assert_files(site, "failed", "receipts");
    let receipt = the_receipt(site);
    assert_eq!((&receipt["status"], &receipt["counts"]["failed"]), (&json!("partial"), &json!(1)), "{receipt}");
    assert_receipt_is_true(site, &receipt, 2);
    let listed = failed_entries(site, "receipts/all.failed.manifest.jsonl");
    assert_eq!((listed.len(), &listed[0]["path"]), (1, &json!("a.pdf")), "{listed:#?}");
}

/// Whether the command came in time is open; that the receipt is true about it is not.
fn assert_one_cancelled(site: &Site) {
    let receipt = the_receipt(site);
    let cancelled = receipt["counts"]["cancelled"].as_u64().unwrap();
    assert!(cancelled <= 1, "{receipt}");
    assert_files(site, if cancelled == 0 { "done" } else { "failed" }, "receipts");
    assert_receipt_is_true(site, &receipt, if cancelled == 0 { 2 } else { 1 });
}

fn assert_imported(site: &Site) {
    for file in FILES {
        assert!(site.at("in").join(file).exists(), "{file} was moved unasked");
    }
    let receipts: Vec<_> = fs::read_dir(site.at("in/receipts"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| is_receipt(path))
        .collect();
    assert_eq!(receipts.len(), 1, "{receipts:#?}");
    let receipt = read_receipt(&receipts[0]);
    assert_eq!(receipt["counts"]["created"], 3, "{receipt}");
    assert_receipt_is_true(site, &receipt, 2);
}

/// The interrupted admission is reported, and the manifest that replaced it is done.
fn assert_replaced(site: &Site) {
    let receipts: Vec<Value> =
        site.receipt_paths("large.manifest.jsonl").iter().map(|path| read_receipt(path)).collect();
    assert_eq!(receipts.len(), 2, "{:#?}", site.files());
    let created: Vec<&Value> = receipts.iter().filter(|receipt| receipt["counts"]["created"] == 1).collect();
    assert_eq!(created.len(), 1);
    assert_receipt_is_true(site, created[0], 1);
    assert_eq!(site.left(), ["good.png", "large.manifest.jsonl"]);
}

/// A key that is refused whatever it is used for, and then works again.
fn build_refused_key() -> Site {
    let refused = ["upload_image", "upload_file", "whoami"];
    // So many that some are refused after the key is known to work again: then it is the profile that is to blame.
    let first = [12, 1, 1];
    let rules: Vec<String> =
        refused.iter().zip(first).map(|(call, first)| format!("{call}=status-before:401,first={first}")).collect();
    site(&rules.iter().map(String::as_str).collect::<Vec<_>>(), Builder::default())
}

fn begin(scenario: &Scenario) -> Site {
    let site = (scenario.build)();
    if let Some(place) = scenario.prelude {
        assert_eq!(once(&site, place).code, None, "the process did not come to {place}");
    }
    site
}

/// The places that a scenario comes to, in order.
fn trace(scenario: &Scenario) -> Vec<String> {
    let site = begin(scenario);
    let file = site.at("trace");
    (scenario.act)(&site, &format!("trace:{}", file.display()));
    (scenario.check)(&site);
    let mut seen = BTreeSet::new();
    let text = fs::read_to_string(file).unwrap();
    text.lines().filter(|place| seen.insert((*place).to_owned())).map(str::to_owned).collect()
}

/// Who is faster decides at some places whether a run comes there; one that does is tried again so often.
const TRIES: usize = 20;

/// Ends the process at a place for `lives` lives, then lets it do its work.
fn kill_at(name: &str, scenario: &Scenario, place: &str, lives: usize) {
    let mut tries = 0;
    let (site, mut last) = loop {
        let site = begin(scenario);
        let first = (scenario.act)(&site, place);
        if first.code.is_none() {
            break (site, first);
        }
        // That was a run without a kill, which has to end as well.
        (scenario.check)(&site);
        tries += 1;
        assert!(tries < TRIES, "{name}: it was not killed at {place}: {}", first.said());
    };
    let mut ends = Vec::new();
    for life in 1..=lives {
        ends.push(EndOfLife::of(&site));
        last = (scenario.act)(&site, if life < lives { place } else { "" });
        if last.code.is_some() {
            // What an earlier life has done for good, this one need not do again.
            break;
        }
    }
    eprintln!("{name}: killed {} times at {place}; then exit code {:?}\n{}", ends.len(), last.code, last.stderr);
    (scenario.check)(&site);
    let (counted, found) = (counted_leftovers(&site), leftovers(&site));
    assert!(counted >= found, "{name}: at {place}: {found} leftovers, of which {counted} are counted");
    ends.iter().for_each(|life| assert_not_sent_again(&site.ledger(), life));
}

fn kill_everywhere(name: &str, among: impl Fn(&str) -> bool) {
    let scenarios = scenarios();
    let (_, scenario) = scenarios.iter().find(|(known, _)| *known == name).unwrap();
    let plain: BTreeSet<String> = if name == "plain" { BTreeSet::new() } else { trace(&PLAIN).into_iter().collect() };
    // What only one of two runs comes to is a matter of chance, so that a kill there cannot be asked for.
    let again: BTreeSet<String> = trace(scenario).into_iter().collect();
    let places: Vec<String> = trace(scenario)
        .into_iter()
        .filter(|place| again.contains(place) && !plain.contains(place) && among(place))
        .collect();
    assert!(!places.is_empty());
    let cases: Vec<(&str, usize)> =
        places.iter().flat_map(|place| [1, 2].map(|lives| (place.as_str(), lives))).collect();
    let cases = Mutex::new(cases.into_iter());
    // A case mostly waits: for the settle time, for a disk, for the API.
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = cases.lock().unwrap().next();
                    let Some((place, lives)) = next else { break };
                    kill_at(name, scenario, place, lives);
                }
            });
        }
    });
}

#[test]
fn every_place_is_known_and_reached() {
    let mut reached = BTreeSet::new();
    for (name, scenario) in scenarios() {
        eprintln!("{name}");
        reached.extend(trace(&scenario));
    }
    let unknown: Vec<_> = reached.iter().filter(|place| !PLACES.contains(&place.as_str())).collect();
    assert!(unknown.is_empty(), "killpoint::PLACES lacks {unknown:#?}");
    let missed: Vec<_> = PLACES.iter().filter(|place| !reached.contains(**place)).collect();
    assert!(missed.is_empty(), "no scenario comes to {missed:?}");
}

#[test]
fn a_file_that_was_under_way_is_held_where_a_lost_one_is() {
    let site = build_held_if_lost(&[]);
    assert_eq!(once(&site, "after.call.upload_file").code, None);
    let sent = || site.calls(ApiCall::UploadFile).len();
    once(&site, "").expect(3);
    assert_eq!(sent(), 1, "it is not sent again unasked");
    site.run(&["release", "4", "--send-again"]).expect(0);
    once(&site, "").expect(0);
    assert_eq!(sent(), 2);
    assert_all_created(&site);
}

/// A document of one image, so that nothing else is under way at the kill.
#[test]
fn an_upload_is_counted_as_lost_where_it_was_handed_over_and_nowhere_else() {
    for (place, lost) in [
        ("after.commit.claim", 0),
        ("before.call.upload_image", 0),
        ("before.note.in_doubt", 0),
        // Whether the last piece left this process cannot be known.
        ("after.note.in_doubt", 1),
        ("after.call.upload_image", 1),
        ("before.commit.upload_stored", 1),
        ("after.commit.upload_stored", 0),
        ("before.commit.created", 0),
    ] {
        let site = Site::new();
        site.put_folder("before", WITNESS);
        site.run(&["import", "before", "--receipts-to", "before-receipts"]).expect(0);
        site.put("one.png", image(Format::Png, 1));
        site.put_documents("one.manifest.json", &[entry("one", 1, "one.png")]);
        assert_eq!(once(&site, place).code, None, "it was not killed at {place}");
        once(&site, "").expect(0);
        let (counted, found) = (counted_leftovers(&site), leftovers(&site));
        assert_eq!(counted, lost, "{place}");
        assert!(found == counted || place == "after.note.in_doubt", "{place}: {counted} counted, {found} found");
    }
}

#[test]
fn killed_at_each_commit() {
    kill_everywhere("plain", |place| place.contains(".commit."));
}

#[test]
fn killed_at_each_call_and_each_step_of_settling() {
    kill_everywhere("plain", |place| !place.contains(".commit."));
}

#[test]
fn killed_while_it_deletes() {
    kill_everywhere("deleted", |_| true);
}

#[test]
fn killed_while_answers_are_lost() {
    kill_everywhere("answers are lost", |_| true);
}

#[test]
fn killed_while_it_finds_out_that_nothing_came() {
    kill_everywhere("nothing came of a document", |_| true);
}

#[test]
fn killed_while_it_is_refused() {
    kill_everywhere("refused", |_| true);
}

#[test]
fn killed_while_the_key_is_refused() {
    kill_everywhere("the key is refused", |_| true);
}

#[test]
fn killed_while_it_is_held() {
    kill_everywhere("held", |_| true);
}

#[test]
fn killed_while_it_holds_what_a_kill_left() {
    kill_everywhere("held after a kill", |_| true);
}

#[test]
fn killed_while_it_is_cancelled() {
    kill_everywhere("cancelled", |_| true);
}

#[test]
fn killed_while_files_are_missing() {
    kill_everywhere("files come late", |_| true);
}

#[test]
fn killed_while_the_folder_is_away() {
    kill_everywhere("the folder comes late", |_| true);
}

#[test]
fn killed_while_there_is_no_place_for_receipts() {
    kill_everywhere("no place for receipts", |_| true);
}

#[test]
fn killed_while_the_place_for_receipts_is_gone() {
    kill_everywhere("the place for receipts goes away", |_| true);
}

#[test]
fn killed_while_it_imports() {
    kill_everywhere("imported", |_| true);
}

#[test]
fn killed_while_a_file_has_changed() {
    kill_everywhere("a file has changed", |_| true);
}

#[test]
fn killed_while_it_takes_a_large_manifest() {
    kill_everywhere("large", |_| true);
}

#[test]
fn killed_while_it_takes_many_files() {
    kill_everywhere("many files", |_| true);
}

#[test]
fn killed_while_it_rejects_a_manifest_of_many_files() {
    kill_everywhere("many files of a rejected manifest", |_| true);
}

#[test]
fn killed_while_it_puts_back_what_it_took() {
    kill_everywhere("a file changes while it is taken", |_| true);
}

#[test]
fn killed_while_it_cannot_put_back_what_it_took() {
    kill_everywhere("a name is in use again", |_| true);
}

#[test]
fn killed_while_it_copies_what_another_one_needs() {
    kill_everywhere("another one needs a file", |place| place.contains(".take."));
}

#[test]
fn killed_while_it_takes_up_what_a_kill_left() {
    kill_everywhere("taken up again", |_| true);
}

#[test]
fn killed_while_it_ends_what_was_half_taken() {
    kill_everywhere("another one in its place", |_| true);
}
