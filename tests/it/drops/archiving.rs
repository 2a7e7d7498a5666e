//! Where files end up: no file is taken from a manifest that still needs it, each is found again, and only archived files are
//! purged.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    process::Command,
};

use serde_json::{Value, json};

use crate::support::{Builder, Format, Site, entry, image};

fn site_with(drop: &str) -> Site {
    Builder { drop: drop.to_owned(), ..Builder::default() }.build()
}

/// A document of these images.
fn of(reference: &str, profile_number: u32, paths: &[&str]) -> Value {
    let mut document = entry(reference, profile_number, "");
    document["images"] = paths.iter().map(|path| json!({ "path": path })).collect();
    document
}

#[test]
fn a_file_that_a_waiting_manifest_names_stays_until_that_one_is_settled() {
    let site = Site::new();
    site.put("shared.png", image(Format::Png, 1));
    site.put("own.png", image(Format::Png, 2));
    site.put_documents("b.manifest.json", &[of("b", 1, &["shared.png", "late.png"])]);
    site.put_documents("a.manifest.json", &[of("a", 1, &["shared.png", "own.png"])]);
    let mut daemon = site.daemon();
    daemon.wait_until("the first is put away", || site.left() == ["b.manifest.json", "shared.png"]);
    assert_eq!(site.receipt("a.manifest.json")["status"], "done");
    site.put("late.png", image(Format::Png, 3));
    daemon.wait_until("the second is put away", || site.left().is_empty());
    daemon.terminate().expect(0);
    assert_eq!(site.receipt("b.manifest.json")["status"], "done");
    assert_eq!(site.summary().documents, 2);
}

/// A name is free once its file is taken: what a later manifest means by it is the next file.
#[test]
fn a_later_manifest_waits_for_a_file_of_its_own() {
    let site = Site::new();
    site.put("shared.png", image(Format::Png, 1));
    site.put_documents("a.manifest.json", &[of("a", 1, &["shared.png"])]);
    // Ends with the receipt on disk and nothing moved.
    site.run_once_killed_at("after.publish.sync");
    site.put_documents("b.manifest.json", &[of("b", 1, &["shared.png", "late.png"])]);
    site.run_once().expect(3);
    assert_eq!(site.left(), ["b.manifest.json"]);
    assert_eq!(site.moved_to("done"), ["a.manifest.json", "shared.png"]);
    site.put("shared.png", image(Format::Png, 2));
    site.put("late.png", image(Format::Png, 3));
    site.run_once().expect(0);
    assert_eq!(site.summary().documents, 2);
}

#[test]
fn a_file_that_was_moved_under_a_number_or_left_for_another_is_found_when_it_is_retried() {
    let site = Site::with_faults(&["create_document=status-before:400/201"]);
    for round in 0..2 {
        // The second time, its name is taken in the folder of what failed.
        site.put("x.png", image(Format::Png, round));
        site.put("shared.png", image(Format::Png, 7));
        site.put_documents("a.manifest.json", &[of(&format!("a{round}"), 1, &["x.png", "shared.png"])]);
        if round == 1 {
            site.put_documents("b.manifest.json", &[of("b", 1, &["shared.png", "late.png"])]);
        }
        site.run_once();
    }
    assert!(site.moved_to("failed").contains(&"x.1.png".to_owned()), "{:?}", site.files());
    assert_eq!(site.left(), ["b.manifest.json", "shared.png"]);
    site.faults(&[]);
    for reference in ["a0", "a1"] {
        site.run(&["retry", "--reference", reference]).expect(0);
    }
    site.run_once().expect(3);
    assert_eq!(site.summary().documents, 2, "{:?}", site.files());
    let done = site.moved_to("done");
    assert!(
        ["x.png", "x.1.png", "a.manifest.json"].iter().all(|name| done.iter().any(|file| file == name)),
        "{done:?}"
    );
    assert_eq!(site.left(), ["b.manifest.json", "shared.png"], "the other still needs it");

    site.put("late.png", image(Format::Png, 8));
    site.run_once().expect(0);
    assert_eq!(site.left(), Vec::<String>::new());
}

#[test]
fn a_file_that_the_other_manifest_took_along_is_found_when_it_is_retried() {
    let site = Site::with_faults(&["create_document=status-before:400/201"]);
    site.put("shared.png", image(Format::Png, 7));
    site.put_documents("a.manifest.json", &[of("a", 1, &["shared.png"])]);
    site.put_documents("b.manifest.json", &[of("b", 1, &["shared.png", "late.png"])]);
    site.run_once();
    site.faults(&[]);
    site.put("late.png", image(Format::Png, 8));
    site.run_once().expect(0);
    assert!(site.moved_to("done").contains(&"shared.png".to_owned()), "{:?}", site.files());
    site.run(&["retry", "--reference", "a"]).expect(0);
    site.run_once().expect(0);
    assert_eq!(site.summary().documents, 2);
    assert_eq!(site.moved_to("failed"), Vec::<String>::new(), "its manifest is put with what is done");
}

#[test]
fn receipts_are_given_to_the_group_that_is_to_read_them() {
    let own = rustix::process::getegid().as_raw();
    let text = fs::read_to_string("/etc/group").unwrap();
    let groups: Vec<(String, u32)> = text
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            Some((fields.next()?.to_owned(), fields.nth(1)?.parse().ok()?))
        })
        .collect();
    // Only root may give files to a group that it is no member of.
    let other = rustix::process::geteuid().is_root();
    let Some((name, gid)) = groups.iter().find(|(_, gid)| (*gid != own) == other) else {
        panic!("there is no group to try: {text}")
    };
    let site = site_with(&format!("receipt_group = '{name}'\nreceipt_mode = '0664'"));
    site.put("in/a.png", image(Format::Png, 1));
    site.put_documents("in/a.manifest.json", &[entry("a", 1, "a.png")]);
    site.run_once().expect(0);
    let receipt = fs::metadata(&site.receipt_paths("in/a.manifest.json")[0]).unwrap();
    assert_eq!((receipt.gid(), receipt.permissions().mode() & 0o777), (*gid, 0o664), "whatever the umask is");
    for folder in ["receipts", "receipts/in"] {
        assert_eq!(fs::metadata(site.in_drop(folder)).unwrap().gid(), *gid, "the group can enter {folder}");
    }
}

#[test]
fn an_unknown_group_is_reported_before_anything_is_done() {
    let site = site_with("receipt_group = 'no-such-group'");
    site.put("a.png", image(Format::Png, 1));
    site.put_documents("a.manifest.json", &[entry("a", 1, "a.png")]);
    site.run_once().expect(2).says("no-such-group");
    assert!(site.ledger().is_empty());
}

/// Lets this many days pass since everything that was settled.
fn days_pass(site: &Site, days: i64) {
    let database = rusqlite::Connection::open(site.at("state/queue.db")).unwrap();
    database.execute("UPDATE batch SET finished_at = finished_at - ?1 * 86400000", [days]).unwrap();
}

fn archive_three(site: &Site) {
    for (number, name) in (1..).zip(["a", "b", "c"]) {
        site.put(&format!("in/{name}.png"), image(Format::Png, number));
        site.put_documents(&format!("in/{name}.manifest.json"), &[entry(name, number, &format!("{name}.png"))]);
    }
    site.run_once().expect(0);
    assert_eq!(site.moved_to("done").len(), 6);
}

#[test]
fn what_is_done_is_purged_in_time_and_what_failed_and_the_receipts_stay() {
    let site = site_with("keep_done_for = '30d'");
    archive_three(&site);
    site.faults(&["create_document=status-before:400/201"]);
    site.put("failed.png", image(Format::Png, 9));
    site.put_documents("failed.manifest.json", &[entry("failed", 4, "failed.png")]);
    site.run_once().expect(1);
    days_pass(&site, 29);
    site.run_once().expect(0);
    assert_eq!(site.moved_to("done").len(), 6, "not yet");
    days_pass(&site, 2);
    let mut daemon = site.daemon();
    daemon.wait_until("it is purged", || site.moved_to("done").is_empty());
    daemon.terminate().expect(0);
    assert_eq!(site.moved_to("failed"), ["failed.manifest.json", "failed.png"]);
    assert_eq!(fs::read_dir(site.in_drop("done")).unwrap().count(), 0, "its empty folders are gone, itself is not");
    assert_eq!(site.files().iter().filter(|file| file.starts_with("receipts/")).count(), 5);

    // What was created is still known.
    site.put("in/a.png", image(Format::Png, 1));
    site.put_documents("in/again.manifest.json", &[entry("a", 1, "a.png")]);
    site.faults(&[]);
    site.run_once().expect(0);
    assert_eq!(site.receipt("in/again.manifest.json")["counts"]["duplicate"], 1);
}

#[test]
fn a_purge_removes_only_what_was_archived_and_follows_no_link() {
    let site = site_with("keep_done_for = '30d'");
    archive_three(&site);
    let dated = fs::read_dir(site.in_drop("done")).unwrap().next().unwrap().unwrap().path().join("in");
    // Somebody works in the archive: another content of the same length, a file of his own, a link in a file's place.
    let mut other = image(Format::Png, 1);
    let last = other.len() - 20;
    other[last] ^= 1;
    fs::write(dated.join("a.png"), &other).unwrap();
    fs::write(dated.join("notes.txt"), "mine").unwrap();
    site.write("outside/b.png", image(Format::Png, 2));
    fs::remove_file(dated.join("b.png")).unwrap();
    symlink(site.at("outside/b.png"), dated.join("b.png")).unwrap();
    days_pass(&site, 31);
    site.run_once().expect(0);
    let mut left: Vec<String> =
        fs::read_dir(&dated).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, ["a.png", "b.png", "notes.txt"]);
    assert!(site.at("outside/b.png").exists());

    // The folder itself becomes a link to one with the same files.
    let site = site_with("keep_done_for = '30d'");
    archive_three(&site);
    let dated = fs::read_dir(site.in_drop("done")).unwrap().next().unwrap().unwrap().path();
    let copied = Command::new("cp").arg("-a").arg(&dated).arg(site.at("elsewhere")).status().unwrap();
    assert!(copied.success());
    fs::remove_dir_all(&dated).unwrap();
    symlink(site.at("elsewhere"), &dated).unwrap();
    days_pass(&site, 31);
    site.run_once();
    assert_eq!(fs::read_dir(site.at("elsewhere/in")).unwrap().count(), 6, "nothing behind the link is touched");
}

#[test]
fn a_purge_that_is_killed_continues_at_the_next_start() {
    let site = site_with("keep_done_for = '30d'");
    archive_three(&site);
    days_pass(&site, 31);
    for at in ["before.purge.file:2", "after.purge.file:2", "before.commit.purged", "after.commit.purged"] {
        site.run_once_killed_at(at);
    }
    site.run_once().expect(0);
    assert_eq!(fs::read_dir(site.in_drop("done")).unwrap().count(), 0);
}

#[test]
fn a_file_that_two_manifests_brought_is_purged_with_the_later_one() {
    let site = site_with("keep_done_for = '30d'");
    site.put("shared.png", image(Format::Png, 1));
    site.put_documents("a.manifest.json", &[of("a", 1, &["shared.png"])]);
    site.put_documents("b.manifest.json", &[of("b", 1, &["shared.png", "late.png"])]);
    site.run_once().expect(3);
    days_pass(&site, 31);
    site.put("late.png", image(Format::Png, 8));
    site.run_once().expect(0);
    // Each has its own, and that of the first manifest may be purged before or after the second one's comes.
    let done = site.moved_to("done");
    assert!(done.len() == 3 && done[2].starts_with("shared."), "{done:?}");
    days_pass(&site, 31);
    site.run_once().expect(0);
    assert_eq!(site.moved_to("done"), Vec::<String>::new());
}

/// The marker stayed behind, and the next manifest of the same name counted before its sender said so.
#[test]
fn a_marker_is_archived_with_its_manifest() {
    let site = Builder { drop: "done_marker = '.done'".to_owned(), ..Builder::default() }.build();
    site.put("a.png", image(Format::Png, 1));
    site.put_documents("a.manifest.json", &[entry("a", 1, "a.png")]);
    site.put("a.manifest.json.done", "");
    site.run_once().expect(0);
    assert_eq!(site.left(), Vec::<String>::new());

    site.put("a.png", image(Format::Png, 2));
    site.put_documents("a.manifest.json", &[entry("b", 1, "a.png")]);
    site.run_once();
    assert_eq!(site.summary().documents, 1, "it has no marker of its own");
}

/// The first manifest took the marker of the second along, which then waited for a marker that its sender had set.
#[test]
fn a_marker_that_came_with_the_next_manifest_of_the_name_stays_with_it() {
    let site = Builder { drop: "done_marker = '.done'".to_owned(), ..Builder::default() }.build();
    let drop_one = |reference: &str, number| {
        let file = format!("{reference}.png");
        site.put(&file, image(Format::Png, number));
        site.put_documents("a.manifest.json", &[entry(reference, 1, &file)]);
        site.put("a.manifest.json.done", "");
    };
    site.run_once().expect(0);
    site.run(&["pause"]).expect(0);
    drop_one("first", 1);
    let mut daemon = site.daemon();
    daemon.wait_until("it is taken in", || site.run(&["jobs"]).stdout.contains("first"));
    assert!(!site.in_drop("a.manifest.json.done").exists(), "it is taken with its manifest");
    drop_one("second", 2);
    site.run(&["resume"]).expect(0);
    daemon.wait_until("the first is settled", || site.is_settled("a.manifest.json"));
    daemon.wait_until("both are settled", || site.receipt_paths("a.manifest.json").len() == 2);
    daemon.terminate().expect(0);
    assert_eq!(site.summary().documents, 2);
}
