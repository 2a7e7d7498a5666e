//! The texts for people beside the receipts: a partner finds what a manifest waits for, that it is taken, and what came of it.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use serde_json::json;

use crate::support::{Builder, Format, Site, entry, image, is_text, profile, wait_until};

fn with_drop(lines: &str) -> Site {
    Builder { drop: lines.to_owned(), ..Builder::default() }.build()
}

/// The texts in the receipts folder, and what a kill left of them, relative to it, sorted.
fn texts(site: &Site) -> Vec<String> {
    fn walk(root: &Path, folder: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                walk(root, &path, found);
            } else if is_text(&path) || path.extension().is_some_and(|ending| ending == "tmp") {
                found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    let (root, mut found) = (site.in_drop("receipts"), Vec::new());
    walk(&root, &root, &mut found);
    found.sort();
    found
}

#[track_caller]
fn text(site: &Site, name: &str) -> String {
    let path = site.in_drop("receipts").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}: {:?}", texts(site)))
}

/// One document, whose image is not there.
fn put_incomplete(site: &Site, manifest: &str) {
    site.put_documents(manifest, &[entry("one", 1, "1.png")]);
}

#[test]
fn a_partner_follows_a_manifest_from_a_missing_file_to_its_receipt() {
    let site = with_drop("receipt_mode = '0604'");
    site.run_once().expect(0);
    site.run(&["pause"]).expect(0);
    put_incomplete(&site, "in/a.manifest.json");
    let mut daemon = site.daemon();
    daemon.wait_until("it is said what is missing", || texts(&site) == ["in/a.manifest.json.waiting.txt"]);
    let waiting = text(&site, "in/a.manifest.json.waiting.txt");
    for part in
        ["Waits for:  1.png, which has not arrived.", "What to do: send 1.png.", "Since:      20", "Until:      20"]
    {
        assert!(waiting.contains(part), "{part} in {waiting}");
    }
    let mode = fs::metadata(site.in_drop("receipts/in/a.manifest.json.waiting.txt")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o604, "as receipts");

    site.put("in/1.png", image(Format::Png, 1));
    daemon.wait_until("it is said that it is taken", || texts(&site) == ["in/a.manifest.json.taken.txt"]);
    let taken = text(&site, "in/a.manifest.json.taken.txt");
    assert!(taken.starts_with("a.manifest.json was taken and is being processed. It has 1 entry.\n"), "{taken}");

    site.run(&["resume"]).expect(0);
    daemon.wait_until("there is the receipt alone", || texts(&site) == ["in/a.manifest.json.receipt.txt"]);
    let receipt = text(&site, "in/a.manifest.json.receipt.txt");
    assert!(receipt.starts_with("a.manifest.json: all is well, its one entry exists.\n"), "{receipt}");
    assert!(receipt.contains("The files: moved to done/20"), "{receipt}");
    let mode = fs::metadata(site.in_drop("receipts/in/a.manifest.json.receipt.txt")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o604, "as receipts");
    daemon.terminate().expect(0);
}

#[test]
fn what_is_taken_back_has_no_text_and_what_changes_has_another() {
    let site = Site::new();
    site.put_documents("a.manifest.json", &[entry("one", 1, "1.png"), entry("two", 2, "2.png")]);
    let mut daemon = site.daemon();
    let waiting = || fs::read_to_string(site.in_drop("receipts/a.manifest.json.waiting.txt")).unwrap_or_default();
    daemon.wait_until("two are missing", || waiting().contains("2 files that have not arrived: 1.png, 2.png"));
    site.put("1.png", image(Format::Png, 1));
    daemon.wait_until("one is missing", || waiting().contains("2.png, which has not arrived"));
    fs::remove_file(site.in_drop("a.manifest.json")).unwrap();
    daemon.wait_until("nothing is said", || texts(&site).is_empty());
    daemon.terminate().expect(0);
}

#[test]
fn what_is_not_well_is_explained_to_its_sender() {
    let site = Site::impatient();
    site.faults(&[&format!("create_document=status-before:400/201,profile={}", profile(3))]);
    for number in [1, 3] {
        site.put(&format!("{number}.png"), image(Format::Png, number));
    }
    let entries = [entry("good", 1, "1.png"), entry("lost", 2, "2.png"), entry("refused", 3, "3.png")];
    site.put_documents("a.manifest.json", &entries);
    site.run_until_given_up().expect(1);
    let receipt = text(&site, "a.manifest.json.receipt.txt");
    for part in [
        "a.manifest.json: 1 of its 3 entries exist, 2 do not.\n",
        "Created:           1\n",
        "  Entry 2, reference lost, profile ",
        "2.png: ",
        "  Entry 3, reference refused, profile ",
        "mend what the API names, then drop the entry again\n",
        "The files: moved to failed/20",
        "What to do: correct a.failed.manifest.jsonl and drop it as a manifest",
        "a.manifest.json.receipt.json\n",
    ] {
        assert!(receipt.contains(part), "{part} in {receipt}");
    }
    assert!(!receipt.contains("`retry`") && !receipt.contains("good"), "{receipt}");
    assert!(site.in_drop("receipts/a.failed.manifest.jsonl").exists());
}

#[test]
fn a_manifest_that_is_unusable_says_so_in_its_first_line() {
    let site = Site::new();
    site.put("a.manifest.json", "{\"version\": 1, \"documents\": 7}");
    site.run_once().expect(1);
    let receipt = text(&site, "a.manifest.json.receipt.txt");
    assert!(receipt.starts_with("a.manifest.json: the manifest cannot be used"), "{receipt}");
    assert!(receipt.contains("\nReason:   ") && receipt.contains("\nTo do:    "), "{receipt}");
    assert!(receipt.contains("The manifest: moved to failed/20"), "{receipt}");
}

/// A timer's `run --once` is over before a text would be due.
#[test]
fn a_run_that_ends_leaves_a_text_about_what_it_leaves() {
    let site = with_drop("done_marker = '.done'");
    put_incomplete(&site, "a.manifest.json");
    site.run_once().expect(3);
    let waiting = text(&site, "a.manifest.json.waiting.txt");
    assert!(waiting.contains("the done marker a.manifest.json.done, which is missing"), "{waiting}");
    assert!(!waiting.contains("Until"), "a marker is waited for as long as it takes: {waiting}");
    site.put("a.manifest.json.done", "");
    site.run_once().expect(3);
    assert!(text(&site, "a.manifest.json.waiting.txt").contains("send 1.png"));
    site.put("1.png", image(Format::Png, 1));
    site.run_once().expect(0);
    assert_eq!(texts(&site), ["a.manifest.json.receipt.txt"]);
}

/// What is said is put right by the next start, wherever the process was killed, and also where nothing is left to say.
#[test]
fn a_kill_leaves_no_text_that_is_not_so() {
    for place in
        ["before.commit.plan_notes", "after.commit.plan_notes", "before.commit.notes_done", "after.commit.notes_done"]
    {
        for is_sent in [false, true] {
            let site = Site::new();
            put_incomplete(&site, "a.manifest.json");
            site.run_once_killed_at(place);
            if is_sent {
                site.put("1.png", image(Format::Png, 1));
            } else {
                fs::remove_file(site.in_drop("a.manifest.json")).unwrap();
            }
            site.run_once().expect(0);
            let expected: &[&str] = if is_sent { &["a.manifest.json.receipt.txt"] } else { &[] };
            assert_eq!(texts(&site), expected, "{place}");
        }
    }
}

#[test]
fn a_text_of_a_killed_daemon_is_removed_by_the_next_one() {
    let (site, mut daemon) = Site::taken_in();
    daemon.wait_until("it is said that it is taken", || texts(&site) == ["a.manifest.json.taken.txt"]);
    daemon.kill();
    site.run(&["resume"]).expect(0);
    site.run_once().expect(0);
    assert_eq!(texts(&site), ["a.manifest.json.receipt.txt"]);
}

#[test]
fn a_kill_beside_the_text_leaves_one_text_and_one_receipt() {
    for place in ["after.publish_text.write", "after.publish_text.rename", "after.publish.rename"] {
        let site = Site::new();
        site.put_batch("a.manifest.json", 1);
        site.run_once_killed_at(place);
        site.run_once().expect(0);
        assert_eq!(texts(&site), ["a.manifest.json.receipt.txt"], "{place}");
        assert_eq!(site.receipt("a.manifest.json")["status"], "done", "{place}");
    }
}

#[test]
fn a_partners_own_file_keeps_its_name_and_a_text_gets_another() {
    let site = Site::new();
    for name in ["waiting", "receipt"] {
        site.put(&format!("receipts/a.manifest.json.{name}.txt"), "a partner's notes");
    }
    put_incomplete(&site, "a.manifest.json");
    site.run_once().expect(3);
    assert!(text(&site, "a.manifest.json.waiting.1.txt").contains("send 1.png"));
    site.put("1.png", image(Format::Png, 1));
    site.run_once().expect(0);
    assert!(text(&site, "a.manifest.json.receipt.1.txt").contains("all is well"));
    assert!(site.in_drop("receipts/a.manifest.json.receipt.1.json").exists(), "both have the same number");
    assert_eq!(
        texts(&site),
        ["a.manifest.json.receipt.1.txt", "a.manifest.json.receipt.txt", "a.manifest.json.waiting.txt"]
    );
    for name in ["waiting", "receipt"] {
        assert_eq!(text(&site, &format!("a.manifest.json.{name}.txt")), "a partner's notes");
    }
}

/// Who may write to the receipts folder must not make us write, or remove, elsewhere.
#[test]
fn no_text_leaves_the_receipts_folder() {
    let site = Site::new();
    fs::create_dir_all(site.at("outside/in")).unwrap();
    let theirs = "This file was written by passfort-ingest. It changes and goes away by itself.\n";
    site.write("outside/theirs.txt", theirs);
    fs::create_dir(site.in_drop("receipts")).unwrap();
    symlink(site.at("outside/in"), site.in_drop("receipts/in")).unwrap();
    symlink(site.at("outside/theirs.txt"), site.in_drop("receipts/b.manifest.json.waiting.txt")).unwrap();
    put_incomplete(&site, "in/a.manifest.json");
    put_incomplete(&site, "b.manifest.json");
    site.run_once().expect(3);
    assert_eq!(fs::read_dir(site.at("outside/in")).unwrap().count(), 0);
    assert!(text(&site, "b.manifest.json.waiting.1.txt").contains("send 1.png"));
    for manifest in ["in/a.manifest.json", "b.manifest.json"] {
        fs::remove_file(site.in_drop(manifest)).unwrap();
    }
    site.run_once().expect(0);
    assert_eq!(fs::read_to_string(site.at("outside/theirs.txt")).unwrap(), theirs);
    assert_eq!(texts(&site), ["b.manifest.json.waiting.txt"], "their link");

    let linked = Site::new();
    fs::create_dir(linked.at("outside")).unwrap();
    symlink(linked.at("outside"), linked.in_drop("receipts")).unwrap();
    put_incomplete(&linked, "a.manifest.json");
    linked.run_once().expect(3);
    assert_eq!(fs::read_dir(linked.at("outside")).unwrap().count(), 0);
}

/// Where no text can be put, work continues without it.
#[test]
fn what_is_in_the_way_of_texts_stops_nothing() {
    let site = Site::new();
    for number in 0..9 {
        let number = if number == 0 { String::new() } else { format!("{number}.") };
        fs::create_dir_all(site.in_drop(&format!("receipts/a.manifest.json.waiting.{number}txt"))).unwrap();
    }
    put_incomplete(&site, "a.manifest.json");
    site.put_documents("b.manifest.json", &[entry("two", 2, "2.png")]);
    site.run_once().expect(3);
    assert_eq!(texts(&site), ["b.manifest.json.waiting.txt"]);
    site.put("1.png", image(Format::Png, 1));
    site.put("2.png", image(Format::Png, 2));
    site.run_once().expect(0);
    assert_eq!(texts(&site), ["a.manifest.json.receipt.txt", "b.manifest.json.receipt.txt"]);
}

/// Permissions and folders are the operator's.
#[test]
fn what_only_the_operator_can_do_is_not_asked_of_the_sender() {
    let site = with_drop("done_dir = 'in-the-way'");
    site.put("in-the-way", "");
    site.put("1.png", image(Format::Png, 1));
    put_incomplete(&site, "a.manifest.json");
    site.run_once().expect(3);
    let waiting = text(&site, "a.manifest.json.waiting.txt");
    assert!(waiting.contains("nothing to do on your side; the receiver is informed"), "{waiting}");
    assert!(!waiting.contains(site.at("drop").to_str().unwrap()), "{waiting}");
}

/// Nobody looks for a text in the folder of before.
#[test]
fn a_text_follows_the_receipts_to_another_folder() {
    let site = with_drop("receipts_dir = 'before'");
    put_incomplete(&site, "in/a.manifest.json");
    site.run_once().expect(3);
    let name = "in/a.manifest.json.waiting.txt";
    assert!(site.in_drop("before").join(name).exists());
    site.edit_config("receipts_dir = 'before'", "receipts_dir = 'receipts'");
    site.run_once().expect(3);
    assert!(text(&site, name).contains("send 1.png"));
    assert!(!site.in_drop("before").join(name).exists());
}

#[test]
fn a_manifest_that_is_rejected_leaves_its_files_and_says_so() {
    let site = with_drop("on_invalid = 'reject'");
    site.put_batch("a.manifest.json", 1);
    let mut bad = entry("bad", 7, "0.png");
    bad["profile_id"] = json!("nobody");
    site.put_documents("a.manifest.json", &[entry("document-0", 0, "0.png"), bad]);
    site.run_once().expect(1);
    let receipt = text(&site, "a.manifest.json.receipt.txt");
    assert!(receipt.contains("The files that it names stay where they are."), "{receipt}");
    assert!(!receipt.contains("on_invalid"), "that is the operator's: {receipt}");
    assert_eq!(site.left(), ["0.png"]);
}

/// The second manifest of a name waits for the first in a drop whose files stay.
#[test]
fn a_manifest_behind_another_of_its_name_has_a_text_too() {
    let (site, mut daemon) = Site::taken_in_by("after_success = 'keep'", &[entry("0", 0, "0.png")]);
    site.put("3.png", image(Format::Png, 3));
    site.put_documents("a.manifest.json", &[entry("3", 3, "3.png")]);
    daemon
        .wait_until("both are named", || texts(&site) == ["a.manifest.json.taken.txt", "a.manifest.json.waiting.txt"]);
    assert!(text(&site, "a.manifest.json.waiting.txt").contains("the earlier manifest of this name"));
    site.run(&["resume"]).expect(0);
    daemon.wait_until("both have receipts alone", || {
        texts(&site) == ["a.manifest.json.receipt.1.txt", "a.manifest.json.receipt.txt"]
    });
    daemon.terminate().expect(0);
}

/// An archive of a million manifests has nobody who reads a million texts.
#[test]
fn an_import_has_receipts_and_no_texts() {
    let site = Site::new();
    site.put_folder("drop", 1);
    site.run(&["import", "drop", "--receipts-to", "drop/receipts"]).expect(0);
    wait_until("the receipt is there", || site.in_drop("receipts/1.manifest.json.receipt.json").exists());
    assert_eq!(texts(&site), Vec::<String>::new());
    let listed: Vec<_> =
        fs::read_dir(site.in_drop("receipts")).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert!(listed.iter().all(|name| !name.to_string_lossy().ends_with(".txt")), "{}", json!(format!("{listed:?}")));
}
