//! Whose a file is that manifests for several profiles name: no picture goes to a profile that its sender did not mean.
//!
//! A scanner reused `front.png`: one customer's picture was overwritten while its manifest waited, and the next
//! customer's was sent in its place, with two receipts that said `done`.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Builder, Format, Site, entry, image, profile, sha256, wait_until};

/// A document of these images.
fn of(reference: &str, profile_number: u32, paths: &[&str]) -> Value {
    let mut document = entry(reference, profile_number, "");
    document["images"] = paths.iter().map(|path| json!({ "path": path })).collect();
    document
}

/// The same with the digest of each image.
fn declared(reference: &str, profile_number: u32, images: &[(&str, u32)]) -> Value {
    let mut document = entry(reference, profile_number, "");
    document["images"] = images
        .iter()
        .map(|(path, number)| json!({ "path": path, "sha256": sha256(&image(Format::Png, *number)) }))
        .collect();
    document
}

/// The numbers of the images that a profile has, in the order of its documents.
fn images_of(site: &Site, profile_number: u32) -> Vec<u32> {
    let documents = site.documents().into_iter().filter(|document| document.profile == profile(profile_number));
    let number = |digest: &String| (0..100).find(|number| sha256(&image(Format::Png, *number)) == *digest).unwrap();
    documents.flat_map(|document| document.images).map(|image| number(&image.sha256)).collect()
}

/// What `status` says of a waiting manifest, once it says anything of it.
fn waits(site: &Site, manifest: &str) -> Option<Value> {
    let status = site.status();
    let waiting = status["waiting_manifests"].as_array().cloned().unwrap_or_default();
    waiting.into_iter().find(|arrival| arrival["manifest"] == manifest)
}

fn wait_for(site: &Site, manifest: &str, code: Option<&str>) -> Value {
    let mut found = None;
    wait_until(&format!("{manifest} waits with {code:?}"), || {
        found = waits(site, manifest).filter(|arrival| arrival["code"].as_str() == code);
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn a_file_that_is_overwritten_while_a_manifest_waits_is_not_sent_for_it() {
    let site = Site::new();
    let mut daemon = site.daemon();
    site.put_documents("x.manifest.json", &[of("x", 1, &["front.png", "back.png"])]);
    wait_for(&site, "x.manifest.json", None);
    site.put("front.png", image(Format::Png, 1));
    wait_until("front.png is there", || {
        waits(&site, "x.manifest.json").is_some_and(|arrival| arrival["missing"] == json!(["back.png"]))
    });
    // The scanner's next customer, in the same names.
    site.put("front.png", image(Format::Png, 2));
    site.put_documents("y.manifest.json", &[of("y", 2, &["front.png"])]);
    daemon.wait_until("y is settled", || site.is_settled("y.manifest.json"));
    assert_eq!(images_of(&site, 2), [2]);
    site.put("back.png", image(Format::Png, 11));
    wait_until("all that it waits for is what y took", || {
        let arrival = wait_for(&site, "x.manifest.json", Some("name-in-use"));
        arrival["missing"] == json!(["front.png"])
    });
    assert_eq!(images_of(&site, 1), Vec::<u32>::new());
    // What is put there after that taking is for x again.
    site.put("front.png", image(Format::Png, 10));
    daemon.wait_until("x is settled", || site.is_settled("x.manifest.json"));
    daemon.terminate().expect(0);
    assert_eq!((images_of(&site, 1), images_of(&site, 2)), (vec![10, 11], vec![2]));
    assert_eq!(site.left(), Vec::<String>::new());
}

#[test]
fn a_manifest_that_comes_before_its_own_file_does_not_get_another_ones() {
    let site = Site::new();
    let mut daemon = site.daemon();
    site.put("front.png", image(Format::Png, 1));
    site.put_documents("x.manifest.json", &[of("x", 1, &["front.png", "back.png"])]);
    wait_for(&site, "x.manifest.json", None);
    site.put_documents("y.manifest.json", &[of("y", 2, &["front.png"])]);
    let arrival = wait_for(&site, "y.manifest.json", Some("name-in-use"));
    let reason = arrival["reason"].as_str().unwrap();
    assert!(reason.starts_with("front.png is in use by another manifest: x.manifest.json"), "{reason}");
    assert!(reason.contains("sha256"), "the cure: {reason}");
    let why = site.run(&["why", "front.png"]).expect(0).stdout;
    assert!(why.contains("y.manifest.json") && why.contains("is in use by another manifest"), "{why}");
    site.put("back.png", image(Format::Png, 2));
    daemon.wait_until("x is settled", || site.is_settled("x.manifest.json"));
    site.put("front.png", image(Format::Png, 3));
    daemon.wait_until("y is settled", || site.is_settled("y.manifest.json"));
    daemon.terminate().expect(0);
    assert_eq!((images_of(&site, 1), images_of(&site, 2)), (vec![1, 2], vec![3]));
}

#[test]
fn a_file_that_is_replaced_while_two_wait_serves_whoever_declares_it() {
    let site = Site::new();
    let mut daemon = site.daemon();
    site.put("front.png", image(Format::Png, 1));
    site.put_documents("x.manifest.json", &[of("x", 1, &["front.png", "back.png"])]);
    wait_for(&site, "x.manifest.json", None);
    site.put_documents("y.manifest.json", &[of("y", 2, &["front.png"])]);
    wait_for(&site, "y.manifest.json", Some("name-in-use"));
    site.put("front.png", image(Format::Png, 2));
    site.put("back.png", image(Format::Png, 3));
    wait_for(&site, "x.manifest.json", Some("name-in-use"));
    wait_for(&site, "y.manifest.json", Some("name-in-use"));
    assert_eq!(site.documents().len(), 0, "nothing says whose it is");
    // The cure that `status` names.
    site.put_documents("y.manifest.json", &[declared("y", 2, &[("front.png", 2)])]);
    daemon.wait_until("y is settled", || site.is_settled("y.manifest.json"));
    assert_eq!((images_of(&site, 1), images_of(&site, 2)), (vec![], vec![2]));
    daemon.terminate().expect(0);
}

#[test]
fn what_was_overwritten_while_no_worker_ran_is_the_new_manifests() {
    let site = Site::new();
    site.put("front.png", image(Format::Png, 1));
    site.put_documents("x.manifest.json", &[of("x", 1, &["front.png", "back.png"])]);
    site.run_once().expect(3);
    site.put("front.png", image(Format::Png, 2));
    site.put_documents("y.manifest.json", &[of("y", 2, &["front.png"])]);
    site.put("back.png", image(Format::Png, 3));
    site.run_once().expect(3);
    assert_eq!((images_of(&site, 1), images_of(&site, 2)), (vec![], vec![2]));
    site.put("front.png", image(Format::Png, 4));
    site.run_once().expect(0);
    assert_eq!(images_of(&site, 1), [4, 3]);
}

/// A random day sent one file to two customers: a kill had forgotten in whose name it was copied.
#[test]
fn a_file_that_was_copied_for_one_profile_does_not_serve_another_after_a_restart() {
    for killed_at in [None, Some("after.take.sync")] {
        let site = Site::new();
        site.put_documents("x.manifest.json", &[of("x", 1, &["front.png", "back.png"])]);
        site.put_documents("z.manifest.json", &[declared("z", 3, &[("front.png", 1), ("other.png", 2)])]);
        site.put_documents("y.manifest.json", &[declared("y", 2, &[("front.png", 1)])]);
        site.put("front.png", image(Format::Png, 1));
        if let Some(place) = killed_at {
            site.run_once_killed_at(place);
        }
        site.run_once().expect(3);
        assert_eq!((images_of(&site, 2), site.at("drop/front.png").exists()), (vec![1], true), "z needs it there");
        fs::remove_file(site.at("drop/z.manifest.json")).unwrap();
        site.put("back.png", image(Format::Png, 3));
        site.run_once().expect(3);
        assert_eq!(images_of(&site, 1), Vec::<u32>::new(), "killed at {killed_at:?}");
        site.put("front.png", image(Format::Png, 4));
        site.run_once().expect(0);
        assert_eq!(images_of(&site, 1), [4, 3]);
    }
}

#[test]
fn a_manifest_that_waited_too_long_is_taken_without_what_is_in_use() {
    let site = Builder { drop: "incomplete_after = '2s'".to_owned(), ..Builder::default() }.build();
    let mut daemon = site.daemon();
    site.put("front.png", image(Format::Png, 1));
    // What is open for writing is waited for however long that takes.
    let writer = fs::File::create(site.in_drop("back.png")).unwrap();
    site.put_documents("x.manifest.json", &[of("x", 1, &["front.png", "back.png"])]);
    wait_for(&site, "x.manifest.json", None);
    site.put("own.png", image(Format::Png, 2));
    site.put_documents("y.manifest.json", &[of("y0", 2, &["front.png"]), of("y1", 2, &["own.png"])]);
    daemon.wait_until("y is settled", || site.is_settled("y.manifest.json"));
    daemon.terminate().expect(0);
    drop(writer);
    let receipt = site.receipt("y.manifest.json");
    assert_eq!(receipt["status"], "partial", "{receipt}");
    assert_eq!(receipt["entries"][0]["status"], "invalid");
    assert_eq!(receipt["entries"][0]["errors"][0]["code"], "name-in-use", "{receipt}");
    assert_eq!(images_of(&site, 2), [2]);
    assert!(site.in_drop("front.png").exists(), "it is not put away with whom it does not serve");
}

#[test]
fn one_profile_one_manifest_and_declared_files_share_a_name() {
    let site = Site::new();
    site.put("shared.png", image(Format::Png, 1));
    site.put("both.png", image(Format::Png, 2));
    site.put("logo.png", image(Format::Png, 3));
    site.put_documents("a.manifest.json", &[of("a0", 1, &["shared.png"]), of("a1", 1, &["both.png"])]);
    site.put_documents("b.manifest.json", &[of("b", 1, &["shared.png"])]);
    site.put_documents("c.manifest.json", &[declared("c0", 3, &[("logo.png", 3)])]);
    site.put_documents("d.manifest.json", &[declared("d0", 4, &[("logo.png", 3)])]);
    site.run_once().expect(0);
    let mut shared = images_of(&site, 1);
    shared.sort_unstable();
    assert_eq!(shared, [1, 1, 2]);
    assert_eq!((images_of(&site, 3), images_of(&site, 4)), (vec![3], vec![3]));
    assert_eq!(site.left(), Vec::<String>::new());
    site.put("twice.png", image(Format::Png, 5));
    site.put_documents("e.manifest.json", &[of("e0", 5, &["twice.png"]), of("e1", 6, &["twice.png"])]);
    site.run_once().expect(0);
    assert_eq!((images_of(&site, 5), images_of(&site, 6)), (vec![5], vec![5]));
}

#[test]
fn a_file_that_stays_in_its_place_serves_the_next_profile_once_it_is_replaced() {
    let site = Builder { drop: "after_success = 'keep'".to_owned(), ..Builder::default() }.build();
    site.put("front.png", image(Format::Png, 1));
    site.put_documents("x.manifest.json", &[of("x", 1, &["front.png"])]);
    site.run_once().expect(0);
    site.put_documents("z.manifest.json", &[of("z", 1, &["front.png"])]);
    site.run_once().expect(0);
    site.put_documents("y.manifest.json", &[of("y", 2, &["front.png"])]);
    site.run_once().expect(3);
    assert_eq!((images_of(&site, 1), images_of(&site, 2)), (vec![1, 1], vec![]));
    let arrival = waits(&site, "y.manifest.json").unwrap();
    assert_eq!(arrival["code"], "name-in-use", "{arrival}");
    fs::remove_file(site.in_drop("front.png")).unwrap();
    site.put("front.png", image(Format::Png, 2));
    site.run_once().expect(0);
    assert_eq!(images_of(&site, 2), [2]);
}

#[test]
fn a_file_serves_two_profiles_only_where_both_manifests_declare_it() {
    for (first, second) in [
        (of("x", 1, &["front.png"]), declared("y", 2, &[("front.png", 1)])),
        (declared("x", 1, &[("front.png", 1)]), of("y", 2, &["front.png"])),
    ] {
        let site = Builder { drop: "after_success = 'keep'".to_owned(), ..Builder::default() }.build();
        site.put("front.png", image(Format::Png, 1));
        site.put_documents("x.manifest.json", &[first]);
        site.run_once().expect(0);
        site.put_documents("y.manifest.json", &[second]);
        site.run_once().expect(3);
        assert_eq!(waits(&site, "y.manifest.json").unwrap()["code"], "name-in-use");
        assert_eq!(images_of(&site, 2), Vec::<u32>::new());
        site.put_documents("y.manifest.json", &[declared("y", 2, &[("front.png", 2)])]);
        site.put("front.png", image(Format::Png, 2));
        site.run_once().expect(0);
        assert_eq!(images_of(&site, 2), [2]);
    }
}

/// The codes of an import's or a check's errors, by entry.
fn codes(errors: impl Iterator<Item = (u64, Value)>) -> Vec<(u64, String)> {
    errors.map(|(index, error)| (index, error["code"].as_str().unwrap_or_default().to_owned())).collect()
}

/// What `check` says of the entries of each manifest of a folder.
fn checked(site: &Site, arguments: &[&str], code: i32) -> Vec<Vec<(u64, String)>> {
    let finished = site.run(&[&["check", "--json"], arguments].concat()).expect(code);
    let objects = finished.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    objects
        .map(|object| {
            let problems = object["problems"].as_array().cloned().unwrap_or_default();
            let errors = problems.into_iter().filter(|problem| problem["severity"] == "error");
            codes(errors.map(|problem| (problem["index"].as_u64().unwrap(), problem)))
        })
        .collect()
}

/// The same of an import's receipt.
fn refused(site: &Site, manifest: &str) -> Vec<(u64, String)> {
    let receipt = crate::support::read_receipt(&site.at(&format!("in/receipts/{manifest}.receipt.json")));
    let entries = receipt["entries"].as_array().cloned().unwrap_or_default();
    codes(entries.into_iter().flat_map(|entry| {
        let errors = entry["errors"].as_array().cloned().unwrap_or_default();
        errors.into_iter().map(move |error| (entry["index"].as_u64().unwrap(), error))
    }))
}

fn write_documents(site: &Site, path: &str, documents: &[Value]) {
    site.write(path, json!({ "version": 1, "documents": documents }).to_string());
}

#[test]
fn an_import_serves_a_name_to_the_manifest_that_comes_first_and_check_says_so() {
    let site = Site::new();
    for (name, number) in [("front.png", 1), ("own.png", 2), ("logo.png", 3)] {
        site.write(&format!("in/{name}"), image(Format::Png, number));
    }
    write_documents(&site, "in/1.manifest.json", &[of("x", 1, &["front.png"]), declared("l", 1, &[("logo.png", 3)])]);
    let second = [of("y", 2, &["front.png"]), of("z", 2, &["own.png"]), declared("d", 2, &[("logo.png", 3)])];
    write_documents(&site, "in/2.manifest.json", &second);
    write_documents(&site, "in/3.manifest.json", &[of("w", 1, &["front.png"])]);
    let name_in_use = vec![(0, "name-in-use".to_owned())];
    let expected = vec![vec![], name_in_use.clone(), vec![]];
    assert_eq!(checked(&site, &["in"], 1), expected);
    site.run(&["import", "in"]).expect(1);
    let found: Vec<_> = (1..=3).map(|number| refused(&site, &format!("{number}.manifest.json"))).collect();
    assert_eq!(found, expected);
    let receipt = crate::support::read_receipt(&site.at("in/receipts/2.manifest.json.receipt.json"));
    let error = &receipt["entries"][0]["errors"][0];
    assert!(error["reason"].as_str().unwrap().contains("1.manifest.json, which was there first"), "{error}");
    assert!(error["cure"].as_str().unwrap().contains("sha256"), "{error}");
    let sent = (images_of(&site, 1), images_of(&site, 2));
    let mut first = sent.0;
    first.sort_unstable();
    let mut second = sent.1;
    second.sort_unstable();
    assert_eq!((first, second), (vec![1, 1, 3], vec![2, 3]));
    // Again, with nothing left to create of the first.
    site.run(&["import", "in"]).expect(1);
    assert_eq!(images_of(&site, 2).len(), 2);
}

#[test]
fn a_manifest_that_is_refused_as_a_whole_leaves_its_files_to_the_others_of_an_import() {
    let site = Site::new();
    site.write("in/front.png", image(Format::Png, 1));
    let cut = json!({ "version": 1, "documents": [of("x", 1, &["front.png"])] }).to_string();
    site.write("in/1.manifest.json", cut.trim_end_matches('}'));
    write_documents(&site, "in/2.manifest.json", &[of("y", 2, &["front.png"])]);
    let finished = site.run(&["check", "--json", "in"]).expect(1);
    let objects: Vec<Value> = finished.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&objects[0]["status"], &objects[1]["status"]), (&"unusable".into(), &"ok".into()), "{objects:?}");
    site.run(&["import", "in"]).expect(1);
    assert_eq!(refused(&site, "2.manifest.json"), []);
    assert_eq!((images_of(&site, 1), images_of(&site, 2)), (vec![], vec![1]));
}

#[test]
fn an_import_leaves_what_an_open_one_took_alone() {
    let mut site = Site::new();
    site.write("in/front.png", image(Format::Png, 1));
    write_documents(&site, "in/1.manifest.json", &[of("x", 1, &["front.png"])]);
    write_documents(&site, "in/2.manifest.json", &[of("y", 2, &["front.png"])]);
    site.stop_api();
    site.run(&["import", "in/1.manifest.json", "--give-up-after", "1s"]).expect(4);
    site.start_api();
    site.run(&["import", "in/2.manifest.json"]).expect(1);
    assert_eq!(refused(&site, "2.manifest.json"), [(0, "name-in-use".to_owned())]);
    site.run(&["import", "in/1.manifest.json"]).expect(0);
    assert_eq!((images_of(&site, 1), images_of(&site, 2)), (vec![1], vec![]));
    // Another file under the name is for whoever asks next.
    site.write("in/front.png", image(Format::Png, 2));
    site.run(&["import", "in/2.manifest.json"]).expect(0);
    assert_eq!(images_of(&site, 2), [2]);
}
