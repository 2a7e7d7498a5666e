//! The process ends at any moment, by `kill -9` or by SIGTERM: nothing is lost, nothing is created twice, and the next
//! start continues.

use std::{collections::BTreeMap, time::Duration};

use passfort_ingest::sandbox::{ApiCall, LedgerEntry, Options};
use serde_json::{Value, json};

use crate::support::{Builder, Daemon, Format, Site, entry, image, promise, wait_until};

const MANIFESTS: u32 = 6;
const DOCUMENTS_EACH: u32 = 10;
const DOCUMENTS: u32 = MANIFESTS * DOCUMENTS_EACH;

/// How often the daemon is killed, at most; fewer where it is done before.
const KILLS: usize = 25;

fn site(latency_ms: u64) -> Site {
    let sandbox = Options { latency: Duration::from_millis(latency_ms), ..Options::default() };
    Builder { sandbox, more: "[workers]\nmax_in_flight = 6".to_owned(), ..Builder::default() }.build()
}

/// Drops manifests of documents with two images each; no two images are alike.
fn drop_manifests(site: &Site) {
    for manifest in 0..MANIFESTS {
        let documents: Vec<Value> = (0..DOCUMENTS_EACH)
            .map(|at| {
                let number = manifest * DOCUMENTS_EACH + at;
                let (front, back) = (format!("{number}-front.png"), format!("{number}-back.gif"));
                site.put(&front, image(Format::Png, number));
                site.put(&back, image(Format::Gif, number));
                let mut document = entry(&format!("document-{number}"), number % 20, &front);
                document["images"] = json!([{ "path": front, "image_type": "FRONT" }, { "path": back }]);
                document
            })
            .collect();
        site.put_documents(&name(manifest), &documents);
    }
}

fn name(manifest: u32) -> String {
    format!("{manifest}.manifest.json")
}

fn all_settled(site: &Site) -> bool {
    (0..MANIFESTS).all(|manifest| site.is_settled(&name(manifest))) && site.left().is_empty()
}

/// Waits until what the killed process had handed over has reached the ledger, and says how far that goes.
fn end_of_life(site: &Site) -> u64 {
    let mut seen = (site.ledger().len(), 0);
    wait_until("the ledger is quiet", || {
        let now = site.ledger().len();
        seen = if now == seen.0 { (now, seen.1 + 1) } else { (now, 0) };
        seen.1 >= 5
    });
    site.ledger().last().map_or(0, |call| call.seq)
}

#[track_caller]
fn assert_each_exactly_once(site: &Site) {
    let summary = site.summary();
    assert_eq!(
        (summary.documents, summary.doubled, summary.doubled_ids),
        (u64::from(DOCUMENTS), 0, 0),
        "each document exactly once: {summary}"
    );
    let created: BTreeMap<String, usize> =
        site.documents().into_iter().map(|document| (document.id, document.images.len())).collect();
    let mut named = 0;
    for manifest in 0..MANIFESTS {
        let receipt = site.receipt(&name(manifest));
        assert_eq!(receipt["status"], "done", "{receipt}");
        let entries = receipt["entries"].as_array().unwrap();
        assert_eq!(entries.len(), DOCUMENTS_EACH as usize);
        for entry in entries {
            assert_eq!(entry["status"], "created", "{entry}");
            assert_eq!(created.get(entry["document_id"].as_str().unwrap()), Some(&2), "{entry}");
            named += 1;
        }
    }
    assert_eq!(named, created.len());
    assert_eq!(site.moved_to("done").len(), (MANIFESTS + 2 * DOCUMENTS) as usize);
    assert_eq!(site.left(), Vec::<String>::new());
}

/// In the life of one process, no content is taken twice; and none ever again once a document was sent with its ID.
fn assert_known_images_are_not_sent_again(ledger: &[LedgerEntry], ends: &[u64]) {
    let life = |call: &LedgerEntry| ends.partition_point(|end| *end < call.seq);
    let mut last_upload: BTreeMap<&str, &LedgerEntry> = BTreeMap::new();
    let mut sha256_of: BTreeMap<&str, &str> = BTreeMap::new();
    let mut known: BTreeMap<&str, u64> = BTreeMap::new();
    for call in ledger {
        if call.operation == ApiCall::CreateDocument {
            // An ID that was sent had been written down before.
            for id in &call.image_ids {
                known.insert(sha256_of[id.as_str()], call.seq);
            }
        }
        let (ApiCall::UploadImage, true, Some(sha256), Some(id)) =
            (call.operation, call.committed, call.sha256.as_deref(), call.id.as_deref())
        else {
            continue;
        };
        assert!(!known.contains_key(sha256), "an image is sent again after its document was: {call:?}");
        sha256_of.insert(id, sha256);
        if let Some(before) = last_upload.insert(sha256, call) {
            assert!(life(before) < life(call), "sent twice by one process: {before:?} {call:?}");
        }
    }
}

#[test]
fn killed_again_and_again() {
    promise!(
        "A document is created once, however often it is dropped and whatever fails: the process, the machine, the network or the API."
    );
    let site = site(8);
    drop_manifests(&site);
    let mut ends = Vec::new();
    for round in 0..KILLS {
        let mut daemon = site.daemon();
        // After the first call of a life, after the second, and so on: some in the middle of everything.
        let calls = [1, 4, 2, 9, 3, 14, 6, 1, 20, 5][round % 10];
        let before = site.ledger().len();
        daemon.wait_until("some calls or the end", || site.ledger().len() >= before + calls || all_settled(&site));
        daemon.kill();
        ends.push(end_of_life(&site));
        if all_settled(&site) {
            break;
        }
    }
    assert!(ends.len() >= 10, "it was done after {} kills: too early to tell anything", ends.len());

    let mut daemon = site.daemon();
    daemon.wait_until("everything is settled", || all_settled(&site));
    daemon.terminate().expect(0);
    assert_each_exactly_once(&site);
    assert_known_images_are_not_sent_again(&site.ledger(), &ends);
    let again = site.summary().images - u64::from(2 * DOCUMENTS);
    assert!(again <= (6 * ends.len()) as u64, "{again} images again in {} kills of 6 calls at most", ends.len());
}

#[test]
fn killed_before_a_call_and_while_it_settles() {
    let site = site(0);
    drop_manifests(&site);
    let mut ends = Vec::new();
    let kill = |mut daemon: Daemon, what: &str, ends: &mut Vec<u64>, holds: &dyn Fn() -> bool| {
        daemon.wait_until(what, || holds() || all_settled(&site));
        daemon.kill();
        ends.push(end_of_life(&site));
    };
    kill(site.daemon(), "nothing", &mut ends, &|| true);
    kill(site.daemon(), "the database", &mut ends, &|| site.at("state/queue.db").exists());
    kill(site.daemon(), "the first call", &mut ends, &|| !site.ledger().is_empty());
    for count in [1, 2, 4] {
        kill(site.daemon(), "a receipt", &mut ends, &|| {
            (0..MANIFESTS).filter(|manifest| site.is_settled(&name(*manifest))).count() >= count
        });
    }
    kill(site.daemon(), "the last receipt", &mut ends, &|| {
        (0..MANIFESTS).all(|manifest| site.is_settled(&name(manifest)))
    });
    site.run_once().expect(0);
    assert_each_exactly_once(&site);
    assert_known_images_are_not_sent_again(&site.ledger(), &ends);
}

#[test]
fn killed_while_answers_are_lost() {
    let site = site(4);
    site.faults(&["create_document=lost,p=0.2", "upload_image=lost,p=0.1", "create_document=status-before:503,p=0.1"]);
    drop_manifests(&site);
    for calls in [5, 30, 12, 40, 25] {
        let mut daemon = site.daemon();
        let before = site.ledger().len();
        daemon.wait_until("some calls or the end", || site.ledger().len() >= before + calls || all_settled(&site));
        daemon.kill();
        end_of_life(&site);
    }
    site.run_once().expect(0);
    assert_each_exactly_once(&site);
}

#[test]
fn asked_to_stop_it_ends_well_and_loses_nothing() {
    let site = site(20);
    drop_manifests(&site);
    for calls in [10, 40] {
        let mut daemon = site.daemon();
        let before = site.ledger().len();
        daemon.wait_until("some calls", || site.ledger().len() >= before + calls);
        let finished = daemon.terminate().expect(0);
        assert!(finished.took < Duration::from_secs(15), "it took {:?} to stop", finished.took);
        let unanswered = site.ledger().into_iter().filter(|call| !call.answered).count();
        assert_eq!(unanswered, 0, "it waited for the answers of what was under way");
    }
    assert!(!all_settled(&site), "it was stopped in the middle");
    site.run_once().expect(0);
    assert_each_exactly_once(&site);
    assert_eq!(site.summary().images, u64::from(2 * DOCUMENTS), "no image was sent again");
}

#[test]
fn run_once_that_is_killed_continues() {
    let site = site(8);
    drop_manifests(&site);
    for calls in [3, 30, 60] {
        let mut once = site.start(&["run", "--once"]);
        let before = site.ledger().len();
        once.wait_until("some calls", || site.ledger().len() >= before + calls);
        once.kill();
        end_of_life(&site);
    }
    site.run_once().expect(0);
    assert_each_exactly_once(&site);
}

/// A person's retry opened the manifest again between the kill and the next start, which then did not know the name.
/// Found by random days.
#[test]
fn a_receipt_that_a_kill_left_unfinished_goes_away_though_its_manifest_was_opened_again() {
    let site = Site::with_faults(&["upload_image=status-before:422"]);
    site.put("a.png", image(Format::Png, 1));
    site.put_documents("a.manifest.json", &[entry("a", 1, "a.png")]);
    site.run_once_killed_at("after.publish.write");
    let unfinished = || site.files().into_iter().filter(|file| file.ends_with(".tmp")).count();
    assert_eq!(unfinished(), 1);
    site.faults(&[]);
    site.run(&["retry", "--all"]).expect(0);
    site.run_once().expect(0);
    assert_eq!(site.receipt("a.manifest.json")["status"], "done");
    assert_eq!(unfinished(), 0, "{:?}", site.files());
}
