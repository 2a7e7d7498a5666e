//! What was taken is what is sent, and to whom it was meant: whoever puts what under the same name later.
//!
//! A partner's scanner knows three names, and uses them for one customer after the other.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
};

use serde_json::{Value, json};

use crate::support::{Builder, Daemon, Format, Site, entry, image, profile, rename, sha256};

mod along;
mod ground;
mod names;
mod owners;
mod steps;
mod whole;

/// The customers.
const X: u32 = 1;
const Y: u32 = 2;
const Z: u32 = 3;

/// The name that the scanner gives.
const FRONT: &str = "front.png";

/// How a sender puts another picture where one may lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Replace {
    InPlace,
    RenameOver,
    DeleteBefore,
}

const WAYS: [Replace; 3] = [Replace::InPlace, Replace::RenameOver, Replace::DeleteBefore];

/// Why nothing is sent for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    Paused,
    Outage,
    Killed,
}

/// A picture; `number` makes it unlike any other.
fn picture(number: u32) -> Vec<u8> {
    image(Format::Png, number)
}

fn replace(site: &Site, path: &str, number: u32, how: Replace) {
    let place = site.in_drop(path);
    match how {
        Replace::InPlace => File::create(&place).unwrap().write_all(&picture(number)).unwrap(),
        Replace::RenameOver => {
            site.put(&format!("{path}.tmp"), picture(number));
            rename(&site.in_drop(&format!("{path}.tmp")), &place);
        }
        Replace::DeleteBefore => {
            fs::remove_file(&place).ok();
            site.put(path, picture(number));
        }
    }
}

/// A document of these images.
fn of(reference: &str, profile_number: u32, paths: &[&str]) -> Value {
    let mut document = entry(reference, profile_number, "");
    document["images"] = paths.iter().map(|path| json!({ "path": path })).collect();
    document
}

fn site_with(drop: &str) -> Site {
    Builder { drop: drop.to_owned(), retry: "max = '300ms'".to_owned(), ..Builder::default() }.build()
}

/// One in which nothing is sent until `resume`.
fn paused(drop: &str) -> Site {
    let site = site_with(drop);
    site.run_once().expect(0);
    site.run(&["pause"]).expect(0);
    site
}

/// Waits until the manifest and its files are in the worker's hands, as a sender sees it.
#[track_caller]
fn wait_until_taken(site: &Site, daemon: &mut Daemon, manifest: &str) {
    daemon.wait_until("the manifest is taken", || !site.in_drop(manifest).exists());
    daemon.wait_until("its jobs are queued", || site.run(&["jobs"]).stdout.contains(manifest));
}

/// The digests of the images that each profile has.
fn standing(site: &Site) -> BTreeMap<String, Vec<String>> {
    let mut standing: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for document in site.documents() {
        let images = document.images.into_iter().map(|image| image.sha256);
        standing.entry(document.profile).or_default().extend(images);
    }
    standing
}

/// Fails where the customers have other pictures than these, by number.
#[track_caller]
fn assert_standing(site: &Site, expected: &[(u32, &[u32])]) {
    let of = |numbers: &[u32]| numbers.iter().map(|number| sha256(&picture(*number))).collect();
    let expected: BTreeMap<String, Vec<String>> =
        expected.iter().map(|(customer, numbers)| (profile(*customer), of(numbers))).collect();
    assert_eq!(standing(site), expected, "each has its own pictures and nobody else's");
}

fn x_waits_and_y_comes(after_success: &str, how: Replace, hold: Hold) {
    eprintln!("{after_success}, {how:?}, {hold:?}");
    let site = paused(&format!("after_success = '{after_success}'"));
    if hold == Hold::Outage {
        site.faults(&["any=status-before:503"]);
        site.run(&["resume"]).expect(0);
    }
    site.put(FRONT, picture(1));
    site.put_documents("x.manifest.json", &[of("x", X, &[FRONT])]);
    let mut daemon = site.daemon();
    wait_until_taken(&site, &mut daemon, "x.manifest.json");
    if hold == Hold::Killed {
        daemon.kill();
        daemon = site.daemon();
    }
    replace(&site, FRONT, 2, how);
    site.put_documents("y.manifest.json", &[of("y", Y, &[FRONT])]);
    wait_until_taken(&site, &mut daemon, "y.manifest.json");
    site.faults(&[]);
    site.run(&["resume"]).expect(0);
    daemon.wait_until("both are settled", || site.is_settled("x.manifest.json") && site.is_settled("y.manifest.json"));
    daemon.wait_until("all is put away", || site.left().is_empty());
    daemon.terminate().expect(0);
    assert_standing(&site, &[(X, &[1]), (Y, &[2])]);
    for (manifest, number) in [("x.manifest.json", 1), ("y.manifest.json", 2)] {
        let entry = &site.receipt(manifest)["entries"][0];
        assert_eq!(
            (&entry["images"][0]["path"], &entry["images"][0]["sha256"]),
            (&json!(FRONT), &json!(sha256(&picture(number)))),
            "{entry}"
        );
    }
    let done = if after_success == "delete" { 0 } else { 4 };
    assert_eq!(site.moved_to("done").len(), done, "{:?}", site.files());
}

/// X's job found that "the file has changed", checked it anew, and sent Y's picture as X's; X's own was never sent.
#[test]
fn a_file_that_is_replaced_while_its_manifest_waits_in_a_pause_goes_to_whom_it_was_meant() {
    WAYS.into_iter().for_each(|how| x_waits_and_y_comes("archive", how, Hold::Paused));
    x_waits_and_y_comes("delete", Replace::InPlace, Hold::Paused);
}

#[test]
fn a_file_that_is_replaced_while_its_manifest_waits_in_an_outage_goes_to_whom_it_was_meant() {
    WAYS.into_iter().for_each(|how| x_waits_and_y_comes("archive", how, Hold::Outage));
    x_waits_and_y_comes("delete", Replace::RenameOver, Hold::Outage);
}

#[test]
fn a_file_that_is_replaced_after_a_kill_goes_to_whom_it_was_meant() {
    WAYS.into_iter().for_each(|how| x_waits_and_y_comes("archive", how, Hold::Killed));
}

/// X's picture lay there until X was sent, and Y's manifest found it.
#[test]
fn a_manifest_that_comes_before_its_own_file_never_finds_the_file_of_the_one_before() {
    let site = paused("");
    site.put(FRONT, picture(1));
    site.put_documents("x.manifest.json", &[of("x", X, &[FRONT])]);
    let mut daemon = site.daemon();
    wait_until_taken(&site, &mut daemon, "x.manifest.json");
    site.put_documents("y.manifest.json", &[of("y", Y, &[FRONT])]);
    let waiting = || site.status()["waiting_manifests"].to_string();
    daemon.wait_until("it waits for its file", || waiting().contains("y.manifest.json"));
    assert!(waiting().contains(FRONT), "{}", waiting());
    site.run(&["resume"]).expect(0);
    daemon.wait_until("the first is settled", || site.is_settled("x.manifest.json"));
    assert!(waiting().contains("y.manifest.json"), "{}", waiting());
    site.put(FRONT, picture(2));
    daemon.wait_until("the second is settled", || site.is_settled("y.manifest.json") && site.left().is_empty());
    daemon.terminate().expect(0);
    assert_standing(&site, &[(X, &[1]), (Y, &[2])]);
}

/// The sender takes back what lay there and sends nothing: what was taken is sent all the same.
#[test]
fn a_file_that_was_taken_does_not_lie_there_to_be_deleted() {
    let site = paused("");
    site.put(FRONT, picture(1));
    site.put_documents("x.manifest.json", &[of("x", X, &[FRONT])]);
    let mut daemon = site.daemon();
    wait_until_taken(&site, &mut daemon, "x.manifest.json");
    assert_eq!(fs::remove_file(site.in_drop(FRONT)).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    site.run(&["resume"]).expect(0);
    daemon.wait_until("it is settled", || site.is_settled("x.manifest.json"));
    daemon.terminate().expect(0);
    assert_standing(&site, &[(X, &[1])]);
}

/// The done marker is a part of the manifest: the next one of the name needs its own.
#[test]
fn a_marker_is_taken_with_its_manifest() {
    let site = paused("done_marker = '.done'");
    let drop_one = |customer: u32| {
        site.put(FRONT, picture(customer));
        site.put_documents("a.manifest.json", &[of(&customer.to_string(), customer, &[FRONT])]);
        site.put("a.manifest.json.done", "");
    };
    drop_one(X);
    let mut daemon = site.daemon();
    wait_until_taken(&site, &mut daemon, "a.manifest.json");
    assert!(!site.in_drop("a.manifest.json.done").exists(), "{:?}", site.files());
    drop_one(Y);
    wait_until_taken(&site, &mut daemon, "a.manifest.json");
    site.run(&["resume"]).expect(0);
    daemon.wait_until("both are settled", || site.receipt_paths("a.manifest.json").len() == 2);
    daemon.terminate().expect(0);
    assert_standing(&site, &[(X, &[X]), (Y, &[Y])]);
}

/// In place nothing is moved, so that a change is the end of the entry, and never another customer's picture.
#[test]
fn in_place_a_file_that_is_replaced_is_not_sent_for_the_manifest_before() {
    for how in WAYS {
        let site = paused("after_success = 'keep'");
        site.put(FRONT, picture(1));
        site.put_documents("x.manifest.json", &[of("x", X, &[FRONT])]);
        let mut daemon = site.daemon();
        let is_taken = |manifest: &str| site.run(&["jobs"]).stdout.contains(manifest);
        daemon.wait_until("the first is taken", || is_taken("x.manifest.json"));
        replace(&site, FRONT, 2, how);
        site.put_documents("y.manifest.json", &[of("y", Y, &[FRONT])]);
        daemon.wait_until("the second is taken", || is_taken("y.manifest.json"));
        site.run(&["resume"]).expect(0);
        daemon.wait_until("both are settled", || {
            site.is_settled("x.manifest.json") && site.is_settled("y.manifest.json")
        });
        daemon.terminate().expect(0);
        assert_standing(&site, &[(Y, &[2])]);
        let receipt = site.receipt("x.manifest.json");
        assert_eq!(receipt["entries"][0]["errors"][0]["code"], "file-changed", "{how:?}: {receipt}");
    }
}
