//! `import` as a run: what is taken in before anything is sent, and what is said of it however it ends.

use std::{collections::BTreeMap, fs, time::Duration};

use passfort_ingest::{entry::ProfileId, sandbox::Options};
use serde_json::Value;

use crate::support::{Builder, Format, Site, image, profile, read_receipt, wait_until};

/// A list of so many documents, each of its own picture, ten of a profile. Pictures that are there stay as they are.
fn write_list(site: &Site, documents: u32) {
    let mut list = String::from("profile_id,reference,category,document_type,path\n");
    for number in 0..documents {
        if !site.at(&format!("in/{number}.png")).exists() {
            site.write(&format!("in/{number}.png"), image(Format::Png, number));
        }
        list.push_str(&format!("{},r{number},PROOF_OF_IDENTITY,PASSPORT,{number}.png\n", profile(number / 10)));
    }
    site.write("in/all.manifest.csv", list);
}

fn number(value: &Value, field: &str) -> u64 {
    value[field].as_u64().unwrap_or_else(|| panic!("no {field} in {value}"))
}

/// 300,000 entries were taken in for 20 seconds before much was sent.
#[test]
fn a_tenth_of_the_entries_at_most_is_taken_in_before_the_first_document_is_created() {
    const ENTRIES: u32 = 2000;
    let site = Site::with_faults(&["create_document=slow:2s,for=1s"]);
    write_list(&site, ENTRIES);
    let mut import = site.start(&["import", "in"]);
    let mut before_the_first = 0;
    import.wait_until("a document is created", || {
        let listed = site.run(&["batches", "--json"]);
        let Ok(Value::Array(batches)) = serde_json::from_str(&listed.stdout) else { return false };
        let Some(counts) = batches.first().map(|batch| &batch["counts"]) else { return false };
        let is_created = number(counts, "created") > 0;
        if !is_created {
            before_the_first = number(counts, "entries");
        }
        is_created
    });
    assert!(before_the_first > 0, "none was seen before the first document");
    assert!(before_the_first <= u64::from(ENTRIES / 10), "{before_the_first} entries were taken in");
    import.finish().expect(0).says("2000 entries: 2000 created");
}

#[test]
fn an_import_ends_with_what_did_not_make_it_by_cause_and_the_commands_that_go_on() {
    let profiles = vec![ProfileId::parse(&profile(0)).unwrap()];
    let site = Builder { sandbox: Options { profiles, ..Options::default() }, ..Builder::default() }.build();
    // Ten of a profile that exists, and three of one that does not; two rows name no file, and one no category.
    write_list(&site, 13);
    for gone in ["in/3.png", "in/4.png"] {
        fs::remove_file(site.at(gone)).unwrap();
    }
    let list = fs::read_to_string(site.at("in/all.manifest.csv")).unwrap();
    site.write("in/all.manifest.csv", list.replacen("r5,PROOF_OF_IDENTITY,", "r5,proof of identity,", 1));

    let ended = site.run(&["import", "in"]).expect(1);
    for part in [
        "13 entries: 7 created, 0 there already, 3 failed, 3 invalid\n",
        "\n2 invalid: no-such-file; e.g. index 3 of batch 1\n",
        "  passfort-ingest jobs --invalid --error 'no-such-file'\n",
        "\n1 invalid: ",
        "\n3 failed: HTTP 4",
        "  passfort-ingest retry --state failed --error 'HTTP 4",
        "in/receipts/all.failed.manifest.csv\n",
    ] {
        assert!(ended.stdout.contains(part), "{part:?} is not in\n{}", ended.stdout);
    }
    for name in ["r11", &profile(1), "11.png"] {
        assert!(!ended.said().contains(name), "{name} is in\n{}", ended.said());
    }

    // The commands mean the same entries.
    let code = ended.stdout.split("3 failed: ").nth(1).unwrap().split(';').next().unwrap().to_owned();
    let refused = site.json(&["jobs", "--state", "failed", "--error", &code, "--json"]);
    assert_eq!(refused.as_array().unwrap().len(), 3, "{refused}");
    let invalid = site.json(&["jobs", "--invalid", "--error", "no-such-file", "--json"]);
    assert_eq!(invalid.as_array().unwrap().len(), 2, "{invalid}");
}

#[test]
fn the_summary_in_json_has_the_same_with_names() {
    let profiles = vec![ProfileId::parse(&profile(0)).unwrap()];
    let site = Builder { sandbox: Options { profiles, ..Options::default() }, ..Builder::default() }.build();
    write_list(&site, 12);
    let ended = site.run(&["import", "in", "--json"]).expect(1);
    let summary: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!([number(&summary, "entries"), number(&summary, "created"), number(&summary, "failed")], [12, 10, 2]);
    assert_eq!((number(&summary, "exit"), number(&summary, "left")), (1, 0));
    let cause = &summary["causes"][0];
    assert_eq!((&cause["status"], number(cause, "count")), (&"failed".into(), 2), "{summary}");
    let references: Vec<_> =
        cause["examples"].as_array().unwrap().iter().map(|example| &example["reference"]).collect();
    assert_eq!(references, ["r10", "r11"]);
    let manifest = &summary["manifests"][0];
    assert_eq!((&manifest["status"], number(manifest, "batch")), (&"partial".into(), 1));
    assert!(manifest["failed_entries"].as_str().unwrap().ends_with("all.failed.manifest.csv"), "{manifest}");
}

#[test]
fn the_numbers_are_right_after_any_interruption() {
    const ENTRIES: u64 = 600;
    let sandbox = Options { latency: Duration::from_millis(5), ..Options::default() };
    let site = Builder { sandbox, ..Builder::default() }.build();
    write_list(&site, 600);
    for round in 1..=4_u64 {
        let mut import = site.start(&["import", "in", "--json"]);
        let wanted = site.summary().documents + 40;
        import.wait_until("more documents", || site.summary().documents >= wanted);
        if round % 2 == 0 {
            import.kill();
            continue;
        }
        let ended = import.terminate().expect(3);
        let summary: Value = serde_json::from_str(&ended.stdout).unwrap();
        let [entries, created, left, unread] =
            ["entries", "created", "left", "unread"].map(|field| number(&summary, field));
        // After a kill, what was under way may exist and is read back first.
        let documents = site.summary().documents;
        assert!((created..=created + left).contains(&documents), "{documents} documents: {summary}");
        assert!(round > 1 || created == documents, "{documents} documents: {summary}");
        assert_eq!((entries + unread, created + left), (ENTRIES, entries), "{summary}");
    }
    site.run(&["import", "in"]).expect(0).says("600 entries: 600 created, 0 there already\n");
    let summary = site.summary();
    assert_eq!((summary.documents, summary.doubled), (ENTRIES, 0), "{summary}");
}

/// The counts of a receipt, and of its entries by status.
fn receipted(site: &Site, name: &str) -> (Value, BTreeMap<String, usize>) {
    let receipt = read_receipt(&site.at("in/receipts").join(name));
    let mut statuses = BTreeMap::new();
    for entry in receipt["entries"].as_array().unwrap() {
        *statuses.entry(entry["status"].as_str().unwrap().to_owned()).or_insert(0) += 1;
    }
    (receipt, statuses)
}

/// A list of 10⁶ rows with a hundred new ones made 10⁶ jobs each night, and read every picture.
#[test]
fn the_same_growing_list_makes_jobs_of_what_is_new_alone() {
    let site = Site::new();
    write_list(&site, 30);
    wait_until_old(&site, "in/29.png");
    site.run(&["import", "in"]).expect(0).says("30 entries: 30 created, 0 there already\n");
    let first = receipted(&site, "all.manifest.csv.receipt.json").0;
    let calls = site.ledger().len();

    // Row 4 is another picture now, row 7 is gone, and three are new, one of them in between.
    write_list(&site, 32);
    site.write("in/4.png", image(Format::Png, 400));
    site.write("in/new.png", image(Format::Png, 500));
    let list = fs::read_to_string(site.at("in/all.manifest.csv")).unwrap();
    let mut lines: Vec<String> = list.lines().map(str::to_owned).filter(|line| !line.contains(",r7,")).collect();
    lines.insert(10, format!("{},new,PROOF_OF_IDENTITY,PASSPORT,new.png", profile(99)));
    site.write("in/all.manifest.csv", lines.join("\n") + "\n");

    let ended = site.run(&["import", "in"]).expect(1);
    for part in [
        "32 entries: 3 created, 28 there already, 1 failed\n",
        "since the list was last taken in: 3 new, 1 changed, 28 unchanged, 1 gone (e.g. that of job 8)\n",
        "\n1 failed: other-content; ",
    ] {
        assert!(ended.stdout.contains(part), "{part:?} is not in\n{}", ended.stdout);
    }
    let sent = site.ledger().len() - calls;
    assert_eq!(sent, 6, "the images and documents of three");
    assert_eq!(site.json(&["jobs", "--json", "--limit", "0"]).as_array().unwrap().len(), 30 + 4);

    // The receipt has all of them all the same, with what they were created as.
    let (second, statuses) = receipted(&site, "all.manifest.csv.receipt.1.json");
    assert_eq!(statuses, BTreeMap::from([("created".into(), 3), ("duplicate".into(), 28), ("failed".into(), 1)]));
    let entry = |receipt: &Value, reference: &str| -> Value {
        let entries = receipt["entries"].as_array().unwrap();
        entries.iter().find(|entry| entry["reference"] == reference).unwrap().clone()
    };
    for reference in ["r0", "r3", "r29"] {
        assert_eq!(entry(&second, reference)["document_id"], entry(&first, reference)["document_id"], "{reference}");
        assert_eq!(entry(&second, reference)["status"], "duplicate");
    }
    let indexes: Vec<u64> = second["entries"].as_array().unwrap().iter().map(|entry| number(entry, "index")).collect();
    assert_eq!(indexes, (0..32).collect::<Vec<_>>());
    let failed = fs::read_to_string(site.at("in/receipts/all.failed.1.manifest.csv")).unwrap();
    assert_eq!((failed.lines().count(), failed.contains(",r4,")), (2, true), "{failed}");
    let listed = &site.json(&["batches", "--json"])[0];
    assert_eq!((number(&listed["counts"], "duplicate"), number(listed, "gone")), (28, 1), "{listed}");
    site.run(&["show", "batch", "2"]).expect(0).says("28 unchanged since they were created; 1 are gone");

    // What is gone is said once.
    site.run(&["import", "in"])
        .expect(1)
        .says("since the list was last taken in: 0 new, 1 changed, 31 unchanged, 0 gone\n");
}

#[test]
fn a_growing_list_is_gone_on_with_after_a_kill_and_misses_nothing() {
    let sandbox = Options { latency: Duration::from_millis(5), ..Options::default() };
    let site = Builder { sandbox, ..Builder::default() }.build();
    write_list(&site, 200);
    wait_until_old(&site, "in/199.png");
    site.run(&["import", "in"]).expect(0);
    write_list(&site, 400);
    for _ in 0..2 {
        let mut import = site.start(&["import", "in"]);
        let wanted = site.summary().documents + 20;
        import.wait_until("more documents", || site.summary().documents >= wanted);
        import.kill();
    }
    site.run(&["import", "in"])
        .expect(0)
        .says("400 entries: 200 created, 200 there already\n")
        .says("since the list was last taken in: 200 new, 0 changed, 200 unchanged, 0 gone\n");
    let summary = site.summary();
    assert_eq!((summary.documents, summary.doubled), (400, 0), "{summary}");
}

/// Waits until the file system's clock would give a change of this file another time.
fn wait_until_old(site: &Site, path: &str) {
    let written = fs::metadata(site.at(path)).unwrap().modified().unwrap();
    let is_old = || written.elapsed().is_ok_and(|age| age > Duration::from_millis(1100));
    wait_until("the files are old enough to be known by their times", is_old);
}
