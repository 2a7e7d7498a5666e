//! Each way in which a call can go wrong: in the end every entry has exactly one document, whatever was answered.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use passfort_ingest::sandbox::{ApiCall, IdOrder, ListShape, Options};
use serde_json::{Value, json};

use crate::support::{Builder, Format, Site, assert_sent_once_or_lost, entry, image, profile, promise};

/// Documents in a test.
const DOCUMENTS: u32 = 8;
/// Files in a test.
const FILES: u32 = 4;

/// Drops documents of two images each, and files.
fn drop_everything(site: &Site) {
    let documents: Vec<Value> = (0..DOCUMENTS)
        .map(|number| {
            let (front, back) = (format!("{number}-front.png"), format!("{number}-back.jpg"));
            site.put(&front, image(Format::Png, number));
            site.put(&back, image(Format::Jpeg, number));
            let mut document = entry(&format!("document-{number}"), number / 2, &front);
            document["images"] = json!([{ "path": front, "image_type": "FRONT" }, { "path": back }]);
            document
        })
        .collect();
    let files: Vec<Value> = (0..FILES)
        .map(|number| {
            let path = format!("{number}.pdf");
            site.put(&path, image(Format::Pdf, number));
            json!({ "reference": format!("file-{number}"), "profile_id": profile(number), "path": path })
        })
        .collect();
    let manifest = json!({ "version": 1, "documents": documents, "files": files });
    site.put("all.manifest.json", manifest.to_string());
}

/// Everything was created, each document once, and the receipt names what exists there.
#[track_caller]
fn assert_all_created_once(site: &Site) {
    let receipt = site.receipt("all.manifest.json");
    assert_eq!(receipt["status"], "done", "{receipt}");
    assert_eq!(receipt["counts"]["created"], DOCUMENTS + FILES);
    let summary = site.summary();
    assert_eq!((summary.documents, summary.doubled_ids, summary.doubled), (u64::from(DOCUMENTS), 0, 0), "{summary}");

    let documents = site.documents();
    for entry in receipt["entries"].as_array().unwrap() {
        if entry["kind"] != "document" {
            continue;
        }
        let document = documents.iter().find(|document| entry["document_id"] == document.id.as_str());
        let document = document.unwrap_or_else(|| panic!("no such document at the API: {entry}"));
        let ids: Vec<Value> = document.images.iter().map(|image| json!(image.id)).collect();
        let named: Vec<Value> =
            entry["images"].as_array().unwrap().iter().map(|image| image["image_id"].clone()).collect();
        assert_eq!(named, ids, "{entry}");
    }
    let taken: BTreeSet<String> =
        site.calls(ApiCall::UploadFile).into_iter().filter(|call| call.committed).filter_map(|call| call.id).collect();
    let files = receipt["entries"].as_array().unwrap().iter().filter(|entry| entry["kind"] == "file");
    assert!(files.into_iter().all(|file| taken.contains(file["file_id"].as_str().unwrap())));
    assert_sent_once_or_lost(&site.ledger());
    assert_eq!(site.left(), Vec::<String>::new());
}

fn survives(rules: &[&str], builder: Builder) {
    let site = builder.build();
    site.faults(rules);
    drop_everything(&site);
    site.run_once().expect(0);
    assert_all_created_once(&site);
    for rule in rules {
        let operation = rule.split_once('=').unwrap().0;
        let fired = site.ledger().into_iter().any(|call| call.fault.is_some() && call.operation.as_str() == operation);
        assert!(fired, "the fault never happened: {rule}");
    }
}

/// The fault hits uploads of images and files, and the creation of documents, here and there.
fn survives_everywhere(kind: &str) {
    let rules = [
        format!("upload_image={kind},every=5"),
        format!("create_document={kind},every=3"),
        format!("upload_file={kind},nth=2"),
    ];
    survives(&rules.each_ref().map(String::as_str), Builder::default());
}

#[test]
fn answers_that_never_come() {
    survives_everywhere("lost");
}

#[test]
fn answers_that_are_cut() {
    survives_everywhere("cut");
}

#[test]
fn answers_that_are_garbled() {
    survives_everywhere("garbled");
}

#[test]
fn pages_of_html_with_200() {
    survives_everywhere("html200");
}

#[test]
fn pages_of_html_with_502() {
    survives_everywhere("html");
}

#[test]
fn a_500_after_the_deed() {
    survives_everywhere("status-after:500");
}

#[test]
fn a_503_before_the_deed() {
    survives_everywhere("status-before:503");
}

#[test]
fn bodies_that_are_reset() {
    survives_everywhere("reset-body:20");
}

#[test]
fn throttling_in_the_own_headers() {
    survives_everywhere("throttle:1");
}

#[test]
fn throttling_in_the_usual_header() {
    survives_everywhere("throttle-retry-after:1");
}

#[test]
fn transient_errors_in_a_200() {
    survives_everywhere("errors200:501");
}

#[test]
fn silence_after_the_deed() {
    let api = "response_timeout = '500ms'".to_owned();
    survives(
        &["upload_image=hang-after,nth=3", "create_document=hang-after,nth=2", "upload_file=hang-after,nth=1"],
        Builder { api, ..Builder::default() },
    );
}

#[test]
fn everything_at_random() {
    promise!(
        "A document is created once, however often it is dropped and whatever fails: the process, the machine, the network or the API."
    );
    let rules = ["lost", "cut", "garbled", "status-after:502", "status-before:503", "reset-body:5"]
        .map(|kind| format!("any={kind},p=0.05"));
    let site = Builder { sandbox: Options { seed: 11, ..Options::default() }, ..Builder::default() }.build();
    site.faults(&rules.each_ref().map(String::as_str));
    drop_everything(&site);
    site.run_once().expect(0);
    assert_all_created_once(&site);
    assert!(site.ledger().iter().any(|call| call.fault.is_some()));
}

#[test]
fn the_read_back_itself_fails() {
    survives(&["create_document=lost,every=2", "read_documents=status-before:503,first=2"], Builder::default());
}

#[test]
fn a_document_that_appears_late_is_found_and_not_created_again() {
    let sandbox = Options { visible_after: Duration::from_millis(700), ..Options::default() };
    survives(&["create_document=lost,every=2"], Builder { sandbox, ..Builder::default() });
}

#[test]
fn a_document_that_waited_long_for_its_turn_is_not_taken_for_absent_too_early() {
    // Its intent is recorded with its last image; then another upload takes the only place, for longer than a lost
    // document may take to appear.
    let sandbox = Options { visible_after: Duration::from_millis(1500), ..Options::default() };
    let site = Builder {
        sandbox,
        retry: "max = '300ms'".to_owned(),
        more: "[workers]\nmax_in_flight = 1".to_owned(),
        ..Builder::default()
    }
    .build();
    site.faults(&[&format!("upload_image=slow:4s,profile={}", profile(1)), "create_document=lost,first=1"]);
    site.put("0.png", image(Format::Png, 0));
    site.put("1.png", image(Format::Png, 1));
    site.put_documents("a.manifest.json", &[entry("0", 0, "0.png"), entry("1", 1, "1.png")]);
    site.run_once().expect(0);
    let summary = site.summary();
    assert_eq!((summary.documents, summary.doubled), (2, 0), "{summary}");
}

#[test]
fn a_document_that_never_came_to_be_is_created() {
    // The connection ends without an answer, and nothing was done: only the read-back can find out.
    survives(
        &["create_document=hang,nth=1"],
        Builder { api: "response_timeout = '500ms'".to_owned(), ..Builder::default() },
    );
}

#[test]
fn answers_in_other_shapes() {
    let shapes = [(ListShape::Bare, IdOrder::Last), (ListShape::Wrapped, IdOrder::First)];
    for (list_shape, id_order) in shapes {
        let sandbox = Options { list_shape, id_order, created_status: 201, ..Options::default() };
        survives(&["create_document=lost,every=2"], Builder { sandbox, ..Builder::default() });
    }
}

#[test]
fn limits_of_the_api_are_kept_to_and_fail_nothing() {
    let site = Site::new();
    site.sandbox().set_limits(vec!["create_document=4/1,burst=2".parse().unwrap()]);
    drop_everything(&site);
    site.run_once().expect(0);
    assert_all_created_once(&site);
}

/// How many bytes of interim answers come in the place of an answer: far more than any buffer.
const FLOOD_BYTES: usize = 24 * 1024 * 1024;

/// An API that answers every call with a flood of interim answers, and then with nothing. Counts the calls of which the
/// whole flood was taken.
fn flooding_api() -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/4.0", listener.local_addr().unwrap());
    let flooded = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&flooded);
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let count = Arc::clone(&count);
            thread::spawn(move || {
                let flood = b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n".repeat(1000);
                let came = stream.read(&mut [0; 4096]).is_ok_and(|length| length > 0);
                if came && (0..FLOOD_BYTES / flood.len()).all(|_| stream.write_all(&flood).is_ok()) {
                    count.fetch_add(1, Ordering::Relaxed);
                    stream.read_to_end(&mut Vec::new()).ok();
                }
            });
        }
    });
    (address, flooded)
}

#[test]
fn a_flood_of_interim_answers_takes_no_memory_and_stops_no_other_account() {
    let (address, flooded) = flooding_api();
    let site = Builder { api: "response_timeout = '2s'".to_owned(), ..Builder::default() }.build();
    site.another_drop("other", &format!("base_url = '{address}'"));
    site.write("other/0.png", image(Format::Png, 70));
    let manifest = json!({"version": 1, "documents": [entry("a", 70, "0.png")]});
    site.write("other/a.manifest.json", manifest.to_string());
    site.put_batch("batch.manifest.json", 20);
    let mut daemon = site.daemon();
    daemon.wait_until("each flooded call ends, and is tried again", || flooded.load(Ordering::Relaxed) >= 3);
    daemon.wait_until("the other account's work is done", || site.is_settled("batch.manifest.json"));
    assert_eq!(site.receipt("batch.manifest.json")["counts"]["created"], 20);
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: usize = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak * 1024 < 3 * FLOOD_BYTES, "{peak} KiB at most");
    daemon.kill();
}

/// An API that reads every call and never answers. Counts the uploads.
fn silent_api() -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/4.0", listener.local_addr().unwrap());
    let called = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&called);
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let count = Arc::clone(&count);
            thread::spawn(move || {
                let mut method = [0; 4];
                if stream.read_exact(&mut method).is_ok() {
                    count.fetch_add(u64::from(method == *b"POST"), Ordering::Relaxed);
                    stream.read_to_end(&mut Vec::new()).ok();
                }
            });
        }
    });
    (address, called)
}

/// Sixteen silent calls once held every place, and the other accounts waited until they had timed out.
#[test]
fn calls_that_are_never_answered_take_no_place_that_another_account_needs() {
    let (address, called) = silent_api();
    let site = Builder { api: "response_timeout = '10m'".to_owned(), ..Builder::default() }.build();
    site.another_drop("other", &format!("base_url = '{address}'"));
    let names: Vec<String> = (100..150).map(|number| format!("{number}.png")).collect();
    for (number, name) in (100..).zip(&names) {
        site.write(&format!("other/{name}"), image(Format::Png, number));
    }
    let documents: Vec<_> = (100..).zip(&names).map(|(number, name)| entry(name, number, name)).collect();
    site.write("other/a.manifest.json", json!({"version": 1, "documents": documents}).to_string());
    let mut daemon = site.daemon();
    daemon.wait_until("all calls are made that it may make", || called.load(Ordering::Relaxed) >= 14);
    site.put_batch("batch.manifest.json", 20);
    daemon.wait_until("the other account's work is done", || site.is_settled("batch.manifest.json"));
    assert_eq!(site.receipt("batch.manifest.json")["counts"]["created"], 20);
    assert_eq!(called.load(Ordering::Relaxed), 14, "two of sixteen places are kept for the other account");
    daemon.kill();
}
