//! `import`: manifests from anywhere, in place, to their end; run again, it continues or finds duplicates.

use std::{fs, path::Path, time::Duration};

use passfort_ingest::sandbox::Options;
use serde_json::{Value, json};

use crate::support::{
    Builder, Finished, Format, Site, entry, image, is_mark, is_receipt, profile, promise, read_receipt,
};

fn manifest(documents: &[Value]) -> String {
    json!({ "version": 1, "documents": documents }).to_string()
}

/// The receipt of a manifest that was imported in place.
#[track_caller]
fn receipt(site: &Site, path: &str) -> Value {
    let path = Path::new(path);
    let name = format!("{}.receipt.json", path.file_name().unwrap().to_string_lossy());
    read_receipt(&site.at(path.parent().unwrap().to_str().unwrap()).join("receipts").join(name))
}

/// Every receipt under a folder.
fn receipts(site: &Site, folder: &str) -> Vec<Value> {
    let Ok(listing) = fs::read_dir(site.at(folder)) else { return Vec::new() };
    let mut paths: Vec<_> = listing.map(|entry| entry.unwrap().path()).filter(|path| is_receipt(path)).collect();
    paths.sort();
    paths.iter().map(|path| read_receipt(path)).collect()
}

#[test]
fn files_and_folders_in_every_format_and_nothing_is_moved() {
    let site = Site::new();
    for (number, path) in (1..).zip(["one/a.png", "two/b.png", "two/deep/c.png"]) {
        site.write(path, image(Format::Png, number));
    }
    site.write("one/a.manifest.json", manifest(&[entry("a", 1, "a.png")]));
    site.write("two/b.manifest.jsonl", entry("b", 2, "b.png").to_string());
    let csv = format!("profile_id,path,reference,category,document_type\n{},c.png,c,SUPPORTING,TAX\n", profile(3));
    site.write("two/deep/c.manifest.csv", csv);

    site.run(&["import", "one/a.manifest.json", "two"]).expect(0);

    for path in ["one/a.manifest.json", "two/b.manifest.jsonl", "two/deep/c.manifest.csv"] {
        assert!(site.at(path).exists(), "nothing is moved unasked");
    }
    for path in ["one/receipts/a.manifest.json", "two/receipts/b.manifest.jsonl", "two/receipts/deep/c.manifest.csv"] {
        assert_eq!(read_receipt(&site.at(&format!("{path}.receipt.json")))["status"], "done", "{path}");
    }
    assert!(site.at("two/deep/c.png").exists());
    assert_eq!(site.summary().documents, 3);
}

#[test]
fn images_are_found_under_the_root_that_is_given() {
    let site = Site::new();
    site.write("archive/scans/a.png", image(Format::Png, 1));
    site.write("lists/a.manifest.json", manifest(&[entry("a", 1, "scans/a.png")]));
    site.run(&["import", "lists", "--root", "archive"]).expect(0);
    assert_eq!(site.summary().documents, 1);

    site.write("outside.png", image(Format::Png, 2));
    site.write("lists/b.manifest.json", manifest(&[entry("b", 1, "../outside.png")]));
    site.run(&["import", "lists/b.manifest.json", "--root", "archive"]).expect(1);
    assert_eq!(site.summary().documents, 1, "the root is not left either");
}

#[test]
fn settled_files_are_archived_where_asked() {
    let site = Site::new();
    site.write("in/a.png", image(Format::Png, 1));
    site.write("in/a.manifest.json", manifest(&[entry("a", 1, "a.png")]));
    site.write("in/b.png", "no image at all");
    site.write("in/b.manifest.json", manifest(&[entry("b", 1, "b.png")]));
    fs::create_dir(site.at("archive")).unwrap();

    site.run(&["import", "in", "--archive-to", "archive"]).expect(1);

    assert!(!site.at("in/a.manifest.json").exists() && !site.at("in/a.png").exists());
    let found = |folder: &str, name: &str| {
        let dates = fs::read_dir(site.at("archive").join(folder)).unwrap();
        dates.map(Result::unwrap).any(|date| walk(&date.path()).iter().any(|path| path.ends_with(name)))
    };
    assert!(found("done", "a.manifest.json") && found("done", "a.png"));
    assert!(found("failed", "b.manifest.json") && found("failed", "b.png"));
}

/// A document of the picture that two manifests share, the second of which is read long after the first was sent.
fn write_shared(site: &Site) {
    site.write("in/shared.png", image(Format::Png, 1));
    site.write("in/a.manifest.json", manifest(&[entry("a", 1, "shared.png")]));
    let bad: String = (0..8000).map(|number| format!("{{\"reference\": \"{number}\"}}\n")).collect();
    site.write("in/b.manifest.jsonl", bad);
    let mut document = entry("c", 1, "shared.png");
    document["category"] = json!("PROOF_OF_ADDRESS");
    site.write("in/c.manifest.json", manifest(&[document]));
}

#[track_caller]
fn assert_shared_by_both(site: &Site) {
    for name in ["a.manifest.json", "c.manifest.json"] {
        assert_eq!(receipt(site, &format!("in/{name}"))["status"], "done", "{name}");
    }
    assert!(!site.at("in/shared.png").exists() && !site.at("in/c.manifest.json").exists());
    let kept = walk(&site.at("kept"));
    assert_eq!(kept.iter().filter(|path| path.ends_with("shared.png")).count(), 1, "{kept:?}");
}

/// It was put away with the first manifest, and the second one found nothing.
#[test]
fn a_file_that_a_manifest_names_which_is_not_read_yet_stays() {
    let site = Site::new();
    write_shared(&site);
    site.run(&["import", "in", "--archive-to", "kept"]).expect(1);
    assert_shared_by_both(&site);
}

/// The daemon, which puts the files away, cannot know what the import has still to read.
#[test]
fn a_file_that_a_manifest_names_which_is_not_read_yet_stays_beside_a_daemon() {
    let site = Site::new();
    let mut daemon = site.daemon();
    daemon.wait_until("it is at work", || site.run(&["status"]).code == Some(0));
    write_shared(&site);
    site.run(&["import", "in", "--archive-to", "kept"]).expect(1);
    daemon.terminate().expect(0);
    assert_shared_by_both(&site);
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| !is_mark(path));
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn receipts_go_where_asked() {
    let site = Site::new();
    site.write("in/a.png", image(Format::Png, 1));
    site.write("in/a.manifest.json", manifest(&[entry("a", 1, "a.png")]));
    site.run(&["import", "in", "--receipts-to", "out"]).expect(0);
    assert!(!site.at("in/receipts").exists());
    assert_eq!(walk(&site.at("out")).len(), 1);
}

#[test]
fn run_again_after_success_it_finds_duplicates_and_is_well() {
    let site = Site::new();
    site.write("in/a.png", image(Format::Png, 1));
    site.write("in/a.manifest.json", manifest(&[entry("a", 1, "a.png")]));
    site.run(&["import", "in"]).expect(0);
    let calls = site.ledger().len();
    site.run(&["import", "in"]).expect(0);
    assert_eq!(site.ledger().len(), calls);
    let mut statuses: Vec<String> = receipts(&site, "in/receipts")
        .iter()
        .map(|receipt| receipt["entries"][0]["status"].as_str().unwrap().to_owned())
        .collect();
    statuses.sort();
    assert_eq!(statuses, ["created", "duplicate"]);
}

#[test]
fn run_again_after_a_kill_it_continues() {
    let sandbox = Options { latency: Duration::from_millis(5), ..Options::default() };
    let site = Builder { sandbox, ..Builder::default() }.build();
    let documents: Vec<Value> = (0..40)
        .map(|number| {
            let name = format!("{number}.png");
            site.write(&format!("in/{name}"), image(Format::Png, number));
            entry(&name, number % 10, &name)
        })
        .collect();
    site.write("in/a.manifest.json", manifest(&documents));
    for calls in [1, 10, 30] {
        let mut import = site.start(&["import", "in"]);
        let before = site.ledger().len();
        import.wait_until("some calls", || site.ledger().len() >= before + calls);
        import.kill();
    }
    site.run(&["import", "in"]).expect(0);

    let summary = site.summary();
    assert_eq!((summary.documents, summary.doubled, summary.doubled_ids), (40, 0, 0), "{summary}");
    assert_eq!(receipts(&site, "in/receipts").len(), 1, "it went on with the one that it had begun");
    assert_eq!(receipt(&site, "in/a.manifest.json")["counts"]["created"], 40);
}

#[test]
fn run_again_after_a_restart_of_the_machine_it_continues() {
    promise!(
        "A document is created once, however often it is dropped and whatever fails: the process, the machine, the network or the API."
    );
    let mut site = Site::new();
    for folder in ["jan", "feb"] {
        site.write(&format!("{folder}/a.png"), image(Format::Png, 1));
        site.write(&format!("{folder}/a.manifest.json"), manifest(&[entry(folder, 1, "a.png")]));
    }
    site.stop_api();
    site.run(&["import", "jan", "feb", "--give-up-after", "1s"]).expect(4);
    // The same disk has another number.
    let database = rusqlite::Connection::open(site.at("state/queue.db")).unwrap();
    let other = "UPDATE batch SET manifest_file = '987654321' || substr(manifest_file, instr(manifest_file, ':'))";
    assert_eq!(database.execute(other, []).unwrap(), 2);
    drop(database);
    site.start_api();
    site.run(&["import", "jan", "feb"]).expect(0);
    for folder in ["jan", "feb"] {
        let receipts = receipts(&site, &format!("{folder}/receipts"));
        assert_eq!(receipts.len(), 1, "{folder}: it went on with the one that it had begun");
        assert_eq!(receipts[0]["counts"]["created"], 1, "{folder}");
    }
    assert_eq!(site.summary().documents, 2);
}

#[test]
fn manifests_that_differ_by_their_folder_alone_are_each_taken_in() {
    let mut site = Site::new();
    let modified = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for (number, folder) in (1..).zip(["jan", "feb"]) {
        site.write(&format!("{folder}/a.png"), image(Format::Png, number));
        // Without a reference, so that each image makes a document of its own.
        let mut document = entry("a", 1, "a.png");
        document.as_object_mut().unwrap().remove("reference");
        site.write(&format!("{folder}/a.manifest.json"), manifest(&[document]));
        let file = fs::File::options().append(true).open(site.at(&format!("{folder}/a.manifest.json"))).unwrap();
        file.set_modified(modified).unwrap();
    }
    site.stop_api();
    site.run(&["import", "jan", "--give-up-after", "1s"]).expect(4);
    // As where files have no numbers that last: what is kept of the one could be the other's.
    let number = std::os::unix::fs::MetadataExt::ino(&fs::metadata(site.at("feb/a.manifest.json")).unwrap());
    let database = rusqlite::Connection::open(site.at("state/queue.db")).unwrap();
    let parts: String = database.query_row("SELECT manifest_file FROM batch", [], |row| row.get(0)).unwrap();
    let [device, _, bytes, time] = parts.split(':').collect::<Vec<_>>()[..] else { panic!("{parts}") };
    database.execute("UPDATE batch SET manifest_file = ?1", [format!("{device}:{number}:{bytes}:{time}")]).unwrap();
    drop(database);
    site.start_api();
    site.run(&["import", "feb"]).expect(0);
    assert_eq!(receipts(&site, "feb/receipts").len(), 1);
}

#[test]
fn two_thousand_rows_of_csv() {
    let site = Site::new();
    let mut csv = "profile_id,reference,category,document_type,path,image_type\n".to_owned();
    for number in 0..2000 {
        let path = format!("{}/{number}.png", number % 20);
        site.write(&format!("in/{path}"), image(Format::Png, number));
        // Two rows make one document.
        let side = if number % 2 == 0 { "FRONT" } else { "BACK" };
        let document = number / 2;
        csv += &format!("{},d-{document},PROOF_OF_IDENTITY,STATE_ID,{path},{side}\n", profile(document % 200));
    }
    site.write("in/rows.manifest.csv", csv);

    site.run(&["import", "in/rows.manifest.csv"]).expect(0);

    let summary = site.summary();
    assert_eq!((summary.documents, summary.images, summary.doubled), (1000, 2000, 0));
    let receipts = receipts(&site, "in/receipts");
    assert_eq!(receipts.len(), 1);
    assert_eq!(receipts[0]["counts"]["created"], 1000);
    assert_eq!(receipts[0]["entries"].as_array().unwrap().len(), 1000);
}

#[test]
fn what_is_refused_or_missing_makes_its_code() {
    let site = Site::new();
    site.write("in/a.png", "no image at all");
    site.write("in/a.manifest.json", manifest(&[entry("a", 1, "a.png")]));
    let refused = site.run(&["import", "in"]).expect(1);
    assert!(!refused.said().is_empty(), "it says what was wrong");

    let nowhere: Finished = site.run(&["import", "nowhere"]).expect(2);
    assert!(nowhere.said().contains("nowhere"), "{}", nowhere.said());
    site.run(&["import"]).expect(2);
    assert!(site.ledger().is_empty());
}

#[test]
fn an_api_that_cannot_be_reached_makes_it_exit_with_4_and_it_continues_later() {
    let mut site = Site::new();
    site.write("in/a.png", image(Format::Png, 1));
    site.write("in/a.manifest.json", manifest(&[entry("a", 1, "a.png")]));
    site.stop_api();
    site.run(&["import", "in", "--give-up-after", "1s"]).expect(4);
    site.start_api();
    site.run(&["import", "in"]).expect(0);
    assert_eq!(site.summary().documents, 1);
}

#[test]
fn a_database_that_cannot_be_used_makes_it_exit_with_3_and_it_continues_later() {
    let sandbox = Options { latency: Duration::from_millis(100), ..Options::default() };
    let site = Builder { sandbox, ..Builder::default() }.build();
    site.write("in/a.png", image(Format::Png, 1));
    let documents: Vec<_> = (1..=100).map(|number| entry(&number.to_string(), number, "a.png")).collect();
    site.write("in/a.manifest.json", manifest(&documents));

    let mut import = site.start(&["import", "in", "--give-up-after", "1s"]);
    import.wait_until("it is in the middle of it", || site.ledger().len() > 20);
    let backup = rusqlite::Connection::open(site.at("state/queue.db")).unwrap();
    backup.busy_timeout(Duration::from_secs(10)).unwrap();
    backup.execute_batch("BEGIN IMMEDIATE").unwrap();
    import.finish().expect(3).says("the database could not be used for too long");
    drop(backup);

    site.run(&["import", "in"]).expect(0);
    let summary = site.summary();
    assert_eq!((summary.documents, summary.doubled), (100, 0), "{summary}");
}
