//! Whose a file is, where manifests for several customers name one path.

use super::*;

/// A document of one image whose digest its sender declares.
fn declared(reference: &str, profile_number: u32, path: &str, number: u32) -> Value {
    let mut document = entry(reference, profile_number, path);
    document["images"][0]["sha256"] = sha256(&picture(number)).into();
    document
}

/// Takes what can be taken, and says that the rest waits.
#[track_caller]
fn assert_waiting(site: &Site, manifests: &[&str]) {
    let waiting = site.status()["waiting_manifests"].clone();
    let mut waiting: Vec<&str> =
        waiting.as_array().unwrap().iter().map(|arrival| arrival["manifest"].as_str().unwrap()).collect();
    waiting.sort_unstable();
    assert_eq!(waiting, manifests, "these wait");
}

/// Both are seen, the first before the second; each waits for one more file.
fn two_wait(drop: &str, second: &Value) -> Site {
    let site = site_with(drop);
    site.put(FRONT, picture(1));
    site.put_documents("x.manifest.json", &[of("x", X, &[FRONT, "x-late.png"])]);
    site.run_once().expect(3);
    assert_waiting(&site, &["x.manifest.json"]);
    site.put_documents("y.manifest.json", std::slice::from_ref(second));
    site.run_once().expect(3);
    assert_waiting(&site, &["x.manifest.json", "y.manifest.json"]);
    site
}

#[test]
fn a_file_serves_the_manifest_that_was_seen_first_and_the_other_waits_for_its_own() {
    for after_success in ["archive", "delete", "keep"] {
        let drop = format!("after_success = '{after_success}'");
        let site = two_wait(&drop, &of("y", Y, &[FRONT, "y-late.png"]));
        site.put("y-late.png", picture(12));
        site.run_once().expect(3);
        assert_waiting(&site, &["x.manifest.json", "y.manifest.json"]);
        assert!(site.ledger().is_empty(), "{after_success}: the second does not take what the first still waits with");
        let said = site.run(&["why", "y.manifest.json"]).stdout;
        assert!(said.contains(FRONT) && said.contains("sha256"), "{after_success}: what, and the cure: {said}");

        site.put("x-late.png", picture(11));
        site.run_once().expect(3);
        assert_waiting(&site, &["y.manifest.json"]);
        assert_standing(&site, &[(X, &[1, 11])]);

        replace(&site, FRONT, 2, Replace::RenameOver);
        site.run_once().expect(0);
        assert_standing(&site, &[(X, &[1, 11]), (Y, &[2, 12])]);
        if after_success != "keep" {
            assert_eq!(site.left(), Vec::<String>::new(), "{after_success}");
        }
    }
}

#[test]
fn whoever_gets_no_file_of_his_own_in_time_is_told_that_the_name_is_in_use() {
    let site = site_with("after_success = 'keep'\nincomplete_after = '1s'");
    site.put(FRONT, picture(1));
    site.put_documents("x.manifest.json", &[of("x", X, &[FRONT])]);
    site.run_once().expect(0);
    site.put_documents("y.manifest.json", &[of("y", Y, &[FRONT])]);
    site.run_until_given_up().expect(1);
    assert_standing(&site, &[(X, &[1])]);
    let receipt = site.receipt("y.manifest.json");
    let error = &receipt["entries"][0]["errors"][0];
    assert_eq!((&error["code"], &error["path"]), (&json!("name-in-use"), &json!(FRONT)), "{receipt}");
    assert!(error["cure"].as_str().unwrap().contains("sha256"), "{receipt}");
}

#[test]
fn a_file_that_is_replaced_while_two_wait_serves_only_a_manifest_seen_after_that() {
    WAYS.into_iter().for_each(replaced_while_two_wait);
}

fn replaced_while_two_wait(how: Replace) {
    eprintln!("{how:?}");
    let site = two_wait("", &of("y", Y, &[FRONT, "y-late.png"]));
    replace(&site, FRONT, 2, how);
    site.put("x-late.png", picture(11));
    site.put("y-late.png", picture(12));
    // What was noticed by one process is known to the next.
    for _ in 0..2 {
        site.run_once().expect(3);
        assert_waiting(&site, &["x.manifest.json", "y.manifest.json"]);
        assert!(site.ledger().is_empty(), "nobody knows whose picture it is");
    }
    site.put_documents("z.manifest.json", &[of("z", Z, &[FRONT])]);
    site.run_once().expect(3);
    assert_waiting(&site, &["x.manifest.json", "y.manifest.json"]);
    assert_standing(&site, &[(Z, &[2])]);

    // One takes his manifest back, and then it is clear whose the next one is.
    fs::remove_file(site.in_drop("y.manifest.json")).unwrap();
    replace(&site, FRONT, 3, Replace::RenameOver);
    site.run_once().expect(0);
    assert_standing(&site, &[(X, &[3, 11]), (Z, &[2])]);
    assert_eq!(site.left(), ["y-late.png"]);
}

#[test]
fn a_file_that_is_replaced_while_two_wait_serves_the_one_that_declares_it() {
    let mut second = of("y", Y, &[FRONT, "y-late.png"]);
    second["images"][0]["sha256"] = sha256(&picture(2)).into();
    let site = two_wait("", &second);
    replace(&site, FRONT, 2, Replace::RenameOver);
    site.put("x-late.png", picture(11));
    site.put("y-late.png", picture(12));
    site.run_once().expect(3);
    assert_waiting(&site, &["x.manifest.json"]);
    assert_standing(&site, &[(Y, &[2, 12])]);
}

#[test]
fn one_file_serves_two_customers_where_each_manifest_declares_it() {
    for after_success in ["archive", "delete", "keep"] {
        let site = site_with(&format!("after_success = '{after_success}'"));
        site.put(FRONT, picture(1));
        site.put_documents("x.manifest.json", &[declared("x", X, FRONT, 1)]);
        site.put_documents("y.manifest.json", &[declared("y", Y, FRONT, 1)]);
        site.run_once().expect(0);
        assert_standing(&site, &[(X, &[1]), (Y, &[1])]);
        if after_success != "keep" {
            assert_eq!(site.left(), Vec::<String>::new(), "{after_success}");
        }
    }
}

#[test]
fn a_declaration_of_one_of_two_shares_nothing() {
    let site = site_with("");
    site.put(FRONT, picture(1));
    site.put_documents("x.manifest.json", &[declared("x", X, FRONT, 1)]);
    site.put_documents("y.manifest.json", &[of("y", Y, &[FRONT])]);
    site.run_once().expect(3);
    let standing = standing(&site);
    assert_eq!(standing.len(), 1, "it goes to one of them, whichever was seen first: {standing:?}");
}

#[test]
fn one_file_serves_several_manifests_of_one_customer() {
    for after_success in ["archive", "delete", "keep"] {
        let site = site_with(&format!("after_success = '{after_success}'"));
        site.put(FRONT, picture(1));
        site.put("own.png", picture(2));
        site.put_documents("a.manifest.json", &[of("a", X, &[FRONT])]);
        site.put_documents("b.manifest.json", &[of("b", X, &[FRONT, "own.png"])]);
        site.run_once().expect(0);
        let mut standing = standing(&site);
        standing.values_mut().for_each(|images| images.sort());
        let mut expected = [1, 1, 2].map(|number| sha256(&picture(number)));
        expected.sort();
        assert_eq!(standing, BTreeMap::from([(profile(X), expected.to_vec())]), "{after_success}");
        if after_success != "keep" {
            assert_eq!(site.left(), Vec::<String>::new(), "{after_success}");
        }
    }
}

/// A scanner that uses a name for one picture of a customer after the other: what comes later is another picture.
#[test]
fn what_was_taken_serves_no_later_manifest_of_the_same_customer_which_is_told_so() {
    let site = paused("");
    site.put(FRONT, picture(1));
    site.put_documents("a.manifest.json", &[of("a", X, &[FRONT])]);
    let mut daemon = site.daemon();
    wait_until_taken(&site, &mut daemon, "a.manifest.json");
    site.put_documents("b.manifest.json", &[of("b", X, &[FRONT])]);
    daemon.wait_until("it waits, and why is said", || {
        let said = site.run(&["why", "b.manifest.json"]).said();
        said.contains("it waits for front.png, which went with a.manifest.json: send it again")
    });
    site.put(FRONT, picture(2));
    wait_until_taken(&site, &mut daemon, "b.manifest.json");
    site.run(&["resume"]).expect(0);
    daemon.wait_until("all is put away", || site.is_settled("b.manifest.json") && site.left().is_empty());
    daemon.terminate().expect(0);
    for (manifest, number) in [("a.manifest.json", 1), ("b.manifest.json", 2)] {
        let image = &site.receipt(manifest)["entries"][0]["images"][0];
        assert_eq!(image["sha256"], sha256(&picture(number)), "{manifest}");
    }
}

/// A manifest counts only once its marker is there: before, it claims no file, and it was not seen first.
#[test]
fn a_manifest_without_its_marker_has_no_right_to_a_name() {
    for is_alive in [false, true] {
        let site = site_with("done_marker = '.done'");
        let mut daemon = is_alive.then(|| site.daemon());
        let mut look = |waiting: &[&str]| match &mut daemon {
            Some(daemon) => {
                let says = || site.status()["waiting_manifests"].to_string();
                daemon.wait_until("it is seen", || waiting.iter().all(|word| says().contains(word)));
            }
            None => {
                site.run_once().expect(3);
            }
        };
        site.put_documents("x.manifest.json", &[of("x", X, &[FRONT])]);
        look(&["x.manifest.json.done"]);
        site.put_documents("y.manifest.json", &[of("y", Y, &[FRONT, "late.png"])]);
        site.put("y.manifest.json.done", "");
        look(&["y.manifest.json", "2 files"]);
        site.put(FRONT, picture(1));
        look(&["it waits for late.png"]);
        site.put("x.manifest.json.done", "");
        look(&["y.manifest.json, which was there first"]);
        site.put("late.png", picture(2));
        look(&["x.manifest.json", "y.manifest.json took it"]);
        site.put(FRONT, picture(3));
        match daemon {
            Some(mut daemon) => {
                daemon.wait_until("all is put away", || site.left().is_empty());
                daemon.terminate().expect(0);
            }
            None => {
                site.run_once().expect(0);
            }
        }
        assert_standing(&site, &[(X, &[3]), (Y, &[1, 2])]);
    }
}

#[test]
fn one_file_serves_several_customers_of_one_manifest() {
    let site = site_with("");
    site.put(FRONT, picture(1));
    site.put_documents("a.manifest.json", &[of("x", X, &[FRONT]), of("y", Y, &[FRONT])]);
    site.run_once().expect(0);
    assert_standing(&site, &[(X, &[1]), (Y, &[1])]);
    assert_eq!(site.left(), Vec::<String>::new());
}
