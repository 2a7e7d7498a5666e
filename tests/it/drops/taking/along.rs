//! What goes along with a manifest that is taken, what stays, and what becomes of files in the worker's own hands.

use std::path::PathBuf;

use super::*;

/// A manifest with three images, which lie in the worker's folder while nothing is sent.
fn three_taken() -> (Site, Daemon) {
    let site = paused("");
    for (name, number) in [("a.png", 1), ("b.png", 2), ("c.png", 3)] {
        site.put(name, picture(number));
    }
    let documents = [of("a", X, &["a.png"]), of("b", Y, &["b.png"]), of("c", Z, &["c.png"])];
    site.put_documents("all.manifest.json", &documents);
    let mut daemon = site.daemon();
    wait_until_taken(&site, &mut daemon, "all.manifest.json");
    (site, daemon)
}

/// Where a picture lies in the worker's folder.
#[track_caller]
fn in_hand(site: &Site, number: u32) -> PathBuf {
    let files = site.files().into_iter().filter(|file| file.starts_with(".passfort-ingest/"));
    let paths: Vec<PathBuf> = files.map(|file| site.in_drop(&file)).collect();
    let found = paths.iter().find(|path| fs::read(path).unwrap() == picture(number));
    found.unwrap_or_else(|| panic!("picture {number} is not among {paths:?}")).clone()
}

#[test]
fn a_taken_file_that_is_changed_or_missing_ends_its_entry_and_no_other() {
    let (site, mut daemon) = three_taken();
    fs::write(in_hand(&site, 1), picture(77)).unwrap();
    fs::remove_file(in_hand(&site, 2)).unwrap();
    site.run(&["resume"]).expect(0);
    daemon.wait_until("it is settled", || site.is_settled("all.manifest.json"));
    daemon.terminate().expect(0);
    assert_standing(&site, &[(Z, &[3])]);
    let receipt = site.receipt("all.manifest.json");
    assert_eq!(receipt["status"], "partial", "{receipt}");
    for entry in &receipt["entries"].as_array().unwrap()[..2] {
        assert_eq!((&entry["status"], &entry["errors"][0]["code"]), (&json!("failed"), &json!("taken-file-changed")));
    }
    assert_eq!(site.left(), Vec::<String>::new(), "all that there is is put away");
}

#[test]
fn the_jobs_of_a_work_folder_that_is_gone_as_a_whole_wait_for_it() {
    let (site, mut daemon) = three_taken();
    // An empty drop would look as if its mount were gone.
    site.put("nobodys.png", picture(4));
    rename(&site.in_drop(".passfort-ingest"), &site.at("away"));
    site.run(&["resume"]).expect(0);
    let said = |arguments: &[&str]| site.run(arguments).said();
    daemon.wait_until("it is said", || {
        said(&["status"]).contains(".passfort-ingest")
            || said(&["jobs", "--state", "waiting"]).contains(".passfort-ingest")
    });
    assert!(!site.is_settled("all.manifest.json"));
    assert_standing(&site, &[]);
    // The worker may have tried to make another one.
    fs::remove_dir_all(site.in_drop(".passfort-ingest")).ok();
    rename(&site.at("away"), &site.in_drop(".passfort-ingest"));
    daemon.wait_until("it is settled", || site.is_settled("all.manifest.json") && site.left() == ["nobodys.png"]);
    daemon.terminate().expect(0);
    assert_standing(&site, &[(X, &[1]), (Y, &[2]), (Z, &[3])]);
}

#[test]
fn what_is_refused_goes_with_its_manifest_and_what_never_came_in_full_stays() {
    let site = site_with("incomplete_after = '1s'");
    site.put("good.png", picture(1));
    site.put("letter.png", "this is no image, and long enough to be complete");
    let whole = image(Format::Jpeg, 3);
    site.put("cut.jpg", &whole[..whole.len() - 2]);
    site.put("nobodys.png", picture(4));
    let documents = [of("a", X, &["good.png"]), of("b", Y, &["letter.png"]), of("c", Z, &["cut.jpg"])];
    site.put_documents("all.manifest.json", &documents);
    site.run_until_given_up().expect(1);
    assert_standing(&site, &[(X, &[1])]);
    assert_eq!(site.receipt("all.manifest.json")["counts"]["invalid"], 2);
    assert_eq!(site.moved_to("failed"), ["all.manifest.json", "good.png", "letter.png"]);
    assert_eq!(site.left(), ["cut.jpg", "nobodys.png"]);
}

#[test]
fn a_manifest_that_is_rejected_as_a_whole_leaves_its_files_for_its_correction() {
    let site = site_with("on_invalid = 'reject'");
    site.put("a.png", picture(1));
    site.put("b.png", picture(2));
    let mut wrong = of("b", Y, &["b.png"]);
    wrong["profile_id"] = "customer 17".into();
    site.put_documents("all.manifest.json", &[of("a", X, &["a.png"]), wrong]);
    site.run_once().expect(1);
    assert!(site.ledger().is_empty());
    assert_eq!(site.receipt("all.manifest.json")["status"], "rejected");
    assert_eq!(
        (site.moved_to("failed"), site.left()),
        (vec!["all.manifest.json".to_owned()], vec!["a.png".to_owned(), "b.png".to_owned()])
    );
    site.put_documents("corrected.manifest.json", &[of("a", X, &["a.png"]), of("b", Y, &["b.png"])]);
    site.run_once().expect(0);
    assert_standing(&site, &[(X, &[1]), (Y, &[2])]);
    assert_eq!(site.left(), Vec::<String>::new());
}

/// A list of everything so far, of which only the last row's file comes along: it waited a day for the others.
#[test]
fn a_cumulative_list_waits_for_nothing_that_was_created_before() {
    let site = site_with("");
    site.put("day1.png", picture(1));
    site.put_documents("all.manifest.json", &[of("day1", X, &["day1.png"])]);
    site.run_once().expect(0);
    site.put("day2.png", picture(2));
    site.put_documents("all.manifest.json", &[of("day1", X, &["day1.png"]), of("day2", Y, &["day2.png"])]);
    let known = site.receipt_paths("all.manifest.json");
    site.run_once().expect(0);
    let receipt = site.newer_receipt("all.manifest.json", &known);
    let counts = &receipt["counts"];
    assert_eq!((&counts["duplicate"], &counts["created"]), (&json!(1), &json!(1)), "{receipt}");
    assert_standing(&site, &[(X, &[1]), (Y, &[2])]);
    assert_eq!(site.left(), Vec::<String>::new());
}

/// Another customer's picture lies under the name that the old row gives.
#[test]
fn a_row_that_was_created_before_never_takes_what_lies_under_its_name_for_its_own() {
    let site = site_with("");
    site.put(FRONT, picture(1));
    site.put_documents("all.manifest.json", &[of("x", X, &[FRONT])]);
    site.run_once().expect(0);
    site.put(FRONT, picture(2));
    site.put_documents("all.manifest.json", &[of("x", X, &[FRONT])]);
    site.run_once().expect(1);
    assert_standing(&site, &[(X, &[1])]);
    assert!(site.receipt_paths("all.manifest.json").len() == 2, "it is refused as a conflict");
}
