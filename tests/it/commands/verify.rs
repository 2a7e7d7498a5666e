//! `verify`: what exists at the API, against what the queue recorded as created.

use passfort_ingest::sandbox::{ApiCall, Options};
use rusqlite::Connection;
use serde_json::Value;

use crate::support::{Builder, Finished, Format, Site, entry, image, profile};

/// The findings, and the sum.
fn read(finished: &Finished) -> (Vec<Value>, Value) {
    let mut lines: Vec<Value> = finished.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let sum = lines.pop().expect("the sum comes last");
    (lines, sum)
}

#[test]
fn leftovers_are_counted_exactly_whatever_the_answers_hid() {
    let site = Site::with_faults(&[
        // These were carried out, and these were not: no answer shows which.
        "upload_image=lost,every=3",
        "upload_image=status-before:502,every=4",
        "create_document=lost,every=3",
    ]);
    site.put_batch("batch.manifest.json", 12);
    site.run_once().expect(0);
    let there = site.summary().orphans;
    let possible = site.status()["queue"]["possible_leftovers"].as_u64().unwrap();
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

    assert_eq!(site.status()["queue"]["verified"]["leftover_images"], there);
    let said = site.run(&["status"]).expect(0).stdout;
    assert!(said.contains(&format!("{there} were there at the `verify` of")), "{said}");
    assert!(site.calls(ApiCall::ForbiddenReplace).is_empty());
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
    assert!(
        said.contains("3 documents were missing, changed or doubled"),
        "what was asked of some only changes nothing there: {said}"
    );
}

/// Each document was called missing, and its images leftovers, where a gateway wrote the IDs in another way.
#[test]
fn an_id_is_the_same_however_a_list_writes_it() {
    let site = Site::new();
    site.put_batch("batch.manifest.json", 2);
    site.run_once().expect(0);
    for shape in ["urn", "no-dashes", "upper-case"] {
        site.faults(&[&format!("read_documents=list:{shape}")]);
        let (findings, sum) = read(&site.run(&["verify", "--json"]).expect(0));
        assert_eq!((findings, &sum["sum"]["standing"]), (Vec::new(), &2.into()), "{shape}: {sum}");
    }
}

#[test]
fn images_of_a_job_that_failed_are_distinguished_from_leftovers() {
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

/// How many images are known to the queue.
fn recorded(site: &Site) -> i64 {
    let database = Connection::open(site.at("state/queue.db")).unwrap();
    database.query_row("SELECT count(*) FROM upload WHERE remote_id IS NOT NULL", [], |row| row.get(0)).unwrap()
}

#[test]
fn what_a_worker_uploads_after_verify_began_is_known_to_be_its_own() {
    let site = Site::new();
    site.put_batch("batch.manifest.json", 2);
    site.run_once().expect(0);
    // No document is made of the new images, and none is listed before they are there.
    site.faults(&["create_document=status-before:503", "list_images=status-before:503"]);
    let mut verify = site.start(&["verify", "--json"]);
    verify.wait_until("it asks", || !site.calls(ApiCall::ListImages).is_empty());
    site.put("new.png", image(Format::Png, 100));
    site.put_documents("new.manifest.json", &[entry("new", 1, "new.png")]);
    let mut daemon = site.daemon();
    daemon.wait_until("the new image is there", || recorded(&site) == 3);
    site.faults(&["create_document=status-before:503"]);
    let (findings, sum) = read(&verify.finish().expect(0));
    let sum = &sum["sum"];
    assert_eq!((&sum["leftover_images"], &sum["foreign_images"]), (&0.into(), &0.into()), "{findings:#?}");
    assert_eq!((&sum["images_under_way"], &sum["standing"]), (&1.into(), &2.into()), "{findings:#?}");
    assert_eq!(findings[0]["reference"], "new", "{findings:#?}");
    daemon.terminate().expect(0);
}

#[test]
fn an_image_whose_answer_is_still_awaited_is_no_leftover() {
    let site = Site::new();
    site.put_batch("batch.manifest.json", 2);
    site.run_once().expect(0);
    site.faults(&["upload_image=slow:3s", "create_document=status-before:503"]);
    site.put("new.png", image(Format::Png, 100));
    site.put_documents("new.manifest.json", &[entry("new", 1, "new.png")]);
    let mut daemon = site.daemon();
    daemon.wait_until("the new image is there", || site.summary().images == 3);
    let (findings, sum) = read(&site.run(&["verify", "--json"]).expect(0));
    let sum = &sum["sum"];
    assert_eq!((&sum["leftover_images"], &sum["foreign_images"]), (&0.into(), &0.into()), "{findings:#?}");
    assert_eq!(sum["images_under_way"], 1, "{findings:#?}");
    daemon.terminate().expect(0);
}

#[test]
fn documents_that_are_made_meanwhile_are_not_missed() {
    let site = Site::new();
    site.put_batch("batch.manifest.json", 1);
    site.run_once().expect(0);
    // The list is stale: as it was before the new document was created.
    site.faults(&["read_documents=slow:2s,first=1"]);
    let mut verify = site.start(&["verify", "--json"]);
    verify.wait_until("it has asked", || !site.calls(ApiCall::ReadDocuments).is_empty());
    site.put("new.png", image(Format::Png, 100));
    site.put_documents("new.manifest.json", &[entry("new", 0, "new.png")]);
    site.run_once().expect(0);
    let (findings, sum) = read(&verify.finish().expect(0));
    assert_eq!((findings, &sum["sum"]["standing"]), (vec![], &1.into()), "{sum}");
}

#[test]
fn the_log_of_the_database_is_cut_back_while_verify_waits() {
    let site = Site::new();
    site.put_batch("batch.manifest.json", 120);
    site.run_once().expect(0);
    site.faults(&["list_images=status-before:503"]);
    let mut verify = site.start(&["verify", "--json"]);
    verify.wait_until("it asks", || site.calls(ApiCall::ListImages).len() > 20);
    let database = Connection::open(site.at("state/queue.db")).unwrap();
    database.execute("UPDATE job SET reason = 'changed' WHERE id = 1", []).unwrap();
    verify.wait_until("nobody reads an old state", || {
        let checkpoint = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
        database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], checkpoint).unwrap() == 0
    });
    site.faults(&[]);
    let (_, sum) = read(&verify.finish().expect(0));
    assert_eq!(sum["sum"]["standing"], 120, "{sum}");
}

#[test]
fn a_limit_that_lasts_ends_it_with_3_and_is_reported() {
    let site = Site::new();
    site.put_batch("batch.manifest.json", 2);
    site.run_once().expect(0);
    for (fault, said) in [
        // Asked again and again, asked to come back tomorrow, and the account's own limit.
        ("list_images=throttle:1", "HTTP 429"),
        ("list_images=throttle:86400", "HTTP 429"),
        ("list_images=errors200:104", "HTTP 200"),
    ] {
        site.faults(&[fault]);
        let finished = site.run(&["verify", "--give-up-after", "2s"]).expect(3);
        let (waits, error): (Vec<_>, Vec<_>) = finished.stderr.lines().partition(|line| line.starts_with("waits"));
        assert_eq!(waits.len(), 1, "once, what it waits for: {}", finished.stderr);
        assert!(error.iter().any(|line| line.contains("a limit of the account")), "{}", finished.stderr);
        assert!(finished.stderr.contains(said), "{}", finished.stderr);
    }
}
