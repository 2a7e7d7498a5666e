//! `verify`: what stands at the API, against what the queue says was put there.

use passfort_ingest::sandbox::{Operation, Options};
use serde_json::Value;

use crate::support::{Builder, Finished, Format, Site, entry, image, profile};

/// The findings, and the sum.
fn read(finished: &Finished) -> (Vec<Value>, Value) {
    let mut lines: Vec<Value> = finished.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let sum = lines.pop().expect("the sum comes last");
    (lines, sum)
}

fn status(site: &Site) -> Value {
    serde_json::from_str(&site.run(&["status", "--json"]).expect(0).stdout).unwrap()
}

#[test]
fn leftovers_are_counted_exactly_whatever_the_answers_hid() {
    let site = Site::with_faults(&[
        // These were carried out, and these were not: no answer tells which.
        "upload_image=lost,every=3",
        "upload_image=status-before:502,every=4",
        "create_document=lost,every=3",
    ]);
    site.put_batch("batch.manifest.json", 12);
    site.run_once().expect(0);
    let there = site.summary().orphans;
    let possible = status(&site)["queue"]["possible_leftovers"].as_u64().unwrap();
    assert!(there > 0 && possible > there, "{possible} possible, {there} there");

    let (findings, sum) = read(&site.run(&["verify", "--json"]).expect(0));
    assert_eq!(sum["complete"], true, "{sum}");
    assert_eq!(sum["sum"]["leftover_images"], there, "{sum}");
    assert_eq!((&sum["sum"]["documents"], &sum["sum"]["standing"]), (&12.into(), &12.into()), "{sum}");
    let unused = findings.iter().filter(|finding| finding["finding"] == "unused_image").count();
    assert_eq!(unused as u64, there, "each is listed: {findings:#?}");
    let used: Vec<String> = site.documents().into_iter().flat_map(|d| d.images).map(|image| image.id).collect();
    for finding in &findings {
        let id = finding["id"].as_str().unwrap();
        assert!(!used.iter().any(|used| used == id), "{finding}");
    }

    assert_eq!(status(&site)["queue"]["verified"]["leftover_images"], there);
    let said = site.run(&["status"]).expect(0).stdout;
    assert!(said.contains(&format!("{there} were there at the `verify` of")), "{said}");
    assert!(site.calls(Operation::ForbiddenReplace).is_empty());
}

#[test]
fn a_document_that_is_gone_is_found() {
    let mut site = Site::new();
    site.put_batch("batch.manifest.json", 3);
    site.run_once().expect(0);
    site.run(&["verify"]).expect(0);
    // Another API in its place, which has none of them.
    site.stop_api();
    site.start_api();
    let finished = site.run(&["verify"]).expect(1);
    assert_eq!(finished.stdout.lines().filter(|line| line.starts_with("missing")).count(), 3, "{}", finished.stdout);
    assert!(finished.stdout.contains(&profile(2)), "{}", finished.stdout);
    let (findings, sum) = read(&site.run(&["verify", "--json", "--reference", "document-1"]).expect(1));
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert_eq!((&findings[0]["finding"], &findings[0]["reference"]), (&"missing".into(), &"document-1".into()));
    assert_eq!(sum["sum"]["profiles"], 1, "{sum}");
    let said = site.run(&["status"]).expect(0).stdout;
    assert!(said.contains("3 documents did not stand"), "what was asked of some only changes nothing there: {said}");
}

#[test]
fn images_of_a_job_that_failed_are_told_apart_from_leftovers() {
    let site = Site::with_faults(&["create_document=status-before:422"]);
    site.put("a.png", image(Format::Png, 1));
    site.put_documents("a.manifest.json", &[entry("a", 1, "a.png")]);
    site.run_once().expect(1);
    let (findings, sum) = read(&site.run(&["verify", "--json"]).expect(0));
    assert_eq!((&sum["sum"]["images_of_failed_jobs"], &sum["sum"]["leftover_images"]), (&1.into(), &0.into()), "{sum}");
    assert_eq!(findings[0]["job"], 1, "{findings:#?}");
    assert!(findings[0]["detail"].as_str().unwrap().contains("failed"), "{findings:#?}");
    let (findings, _) = read(&site.run(&["verify", "--json", "--no-unused"]).expect(0));
    assert_eq!(findings, Vec::<Value>::new());
}

#[test]
fn trouble_on_the_way_is_waited_out_and_one_profile_keeps_no_other_from_being_checked() {
    let site = Site::new();
    site.put_batch("batch.manifest.json", 5);
    site.run_once().expect(0);
    site.faults(&[
        "list_images=status-before:503,first=2",
        "read_documents=throttle:1,nth=2",
        "read_documents=cut,nth=3",
        &format!("list_images=status-before:404,profile={}", profile(3)),
    ]);
    let (findings, sum) = read(&site.run(&["verify", "--json"]).expect(1));
    let sum = &sum["sum"];
    assert_eq!((&sum["standing"], &sum["unreadable_profiles"]), (&4.into(), &1.into()), "{sum}");
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert_eq!((&findings[0]["finding"], &findings[0]["profile_id"]), (&"unreadable".into(), &profile(3).into()));
}

#[test]
fn a_refused_key_and_an_api_that_is_not_there_end_it_with_4() {
    let mut site = Builder { sandbox: Options::default(), ..Builder::default() }.build();
    site.put_batch("batch.manifest.json", 2);
    site.run_once().expect(0);
    site.use_key("another");
    let said = site.run(&["verify"]).expect(4).stderr;
    assert!(said.contains("refuses the key"), "{said}");
    assert!(!said.contains("another"), "the key itself is never shown: {said}");
    site.use_key("test");
    site.stop_api();
    let said = site.run(&["verify", "--give-up-after", "1s"]).expect(4).stderr;
    assert!(said.contains("cannot be reached"), "{said}");
}

#[test]
fn without_a_database_there_is_nothing_to_verify() {
    let site = Site::new();
    let said = site.run(&["verify"]).expect(2).stderr;
    assert!(said.contains("queue.db"), "{said}");
}
