//! What the API or a check refuses for good: the receipt names it, its files go to `failed`, and other entries do not wait.

use serde_json::{Value, json};

use crate::support::{Builder, Format, Site, entry, image, profile};

/// How many calls are made before the first refusal depends on nothing else then.
fn one_call_at_a_time() -> Site {
    Builder { more: "[workers]\nmax_in_flight = 1".to_owned(), ..Builder::default() }.build()
}

/// Drops three documents, of profiles 0 to 2, and takes them in while the API goes wrong for profile 1.
fn one_of_three(fault: &str) -> (Site, Value) {
    let site = Site::with_faults(&[&format!("{fault},profile={}", profile(1))]);
    site.put_batch("three.manifest.json", 3);
    site.run_once().expect(1);
    let receipt = site.receipt("three.manifest.json");
    (site, receipt)
}

/// The middle one is refused with a reason and a cure; the others are created.
#[track_caller]
fn assert_only_the_middle_failed(site: &Site, receipt: &Value) {
    assert_eq!(receipt["status"], "partial", "{receipt}");
    assert_eq!(
        receipt["counts"],
        json!({ "entries": 3, "created": 2, "duplicate": 0, "failed": 1, "cancelled": 0, "invalid": 0 })
    );
    let middle = &receipt["entries"][1];
    assert_eq!(middle["status"], "failed");
    let error = &middle["errors"][0];
    for field in ["reason", "cure"] {
        assert!(error[field].as_str().is_some_and(|text| text.len() > 5), "{field} in {receipt}");
    }
    assert_eq!(site.summary().documents, 2);
    assert!(site.moved_to("failed").contains(&"three.manifest.json".to_owned()), "{:?}", site.files());
    assert!(site.moved_to("failed").contains(&"1.png".to_owned()), "{:?}", site.files());
    assert_eq!(site.left(), Vec::<String>::new());
}

#[test]
fn a_200_with_errors_is_a_refusal() {
    for operation in ["upload_image", "create_document"] {
        let (site, receipt) = one_of_three(&format!("{operation}=errors200:201"));
        assert_only_the_middle_failed(&site, &receipt);
        assert!(receipt["entries"][1]["errors"].to_string().contains("201"), "the API's code is quoted: {receipt}");
    }
}

#[test]
fn a_200_with_errors_that_are_an_object_is_a_refusal_too() {
    let site = Site::new();
    let elsewhere = site.answer_everything(&json!({ "errors": { "code": 201, "message": "so not" }, "id": null }));
    site.use_api_at(elsewhere);
    site.put("a.png", image(Format::Png, 1));
    site.put_documents("a.manifest.json", &[entry("a", 1, "a.png")]);
    site.run_once().expect(1);
    let receipt = site.receipt("a.manifest.json");
    assert_eq!(receipt["entries"][0]["status"], "failed", "{receipt}");
    assert!(receipt["entries"][0]["errors"].to_string().contains("so not"), "the API's words are quoted: {receipt}");
}

#[test]
fn an_approved_profile_is_refused() {
    let (site, receipt) = one_of_three("create_document=errors200:102");
    assert_only_the_middle_failed(&site, &receipt);
}

#[test]
fn statuses_that_say_no_are_refusals() {
    for fault in [
        "upload_image=status-before:400/201",
        "create_document=status-before:400",
        "create_document=status-before:404",
        "create_document=status-before:409",
        "create_document=status-before:422",
        "upload_image=status-before:413",
        "upload_image=early:413",
        "upload_image=status-before:415",
    ] {
        let (site, receipt) = one_of_three(fault);
        assert_only_the_middle_failed(&site, &receipt);
        assert!(site.ledger().len() < 20, "{fault}: what is refused for good is not tried on and on");
    }
}

/// A list of 300,000 entries for a profile that did not exist wrote as many lines.
#[test]
fn refusals_of_one_cause_have_one_line_in_the_log() {
    for (arguments, lines) in [(&["import", "in"][..], 1), (&["-v", "import", "in"], 40)] {
        let known = passfort_ingest::entry::ProfileId::parse(&profile(900)).unwrap();
        let sandbox = passfort_ingest::sandbox::Options { profiles: vec![known], ..Default::default() };
        let site = Builder { sandbox, ..Builder::default() }.build();
        let documents: Vec<Value> = (0..40)
            .map(|number| {
                site.write(&format!("in/{number}.png"), image(Format::Png, number));
                entry(&number.to_string(), number, &format!("{number}.png"))
            })
            .collect();
        site.write("in/a.manifest.json", json!({ "version": 1, "documents": documents }).to_string());
        let said = site.run(arguments).expect(1).said();
        assert_eq!(said.matches("refused: see `show`").count(), lines, "{said}");
        assert!(said.contains("failed=40"), "{said}");
    }
}

#[test]
fn a_profile_that_does_not_exist_is_refused() {
    let known = [profile(0), profile(2)].map(|id| passfort_ingest::entry::ProfileId::parse(&id).unwrap());
    let sandbox = passfort_ingest::sandbox::Options { profiles: known.into(), ..Default::default() };
    let site = Builder { sandbox, ..Builder::default() }.build();
    let documents = [0, 1, 2].map(|number| {
        let name = format!("{number}.png");
        site.put(&name, image(Format::Png, number));
        entry(&name, number, &name)
    });
    site.put_documents("three.manifest.json", &documents);
    site.run_once().expect(1);
    assert_only_the_middle_failed(&site, &site.receipt("three.manifest.json"));
}

#[test]
fn none_that_made_it_is_failed_and_none_that_can_be_read_is_rejected() {
    let site = Site::with_faults(&["upload_image=status-before:400/201"]);
    site.put("a.png", image(Format::Png, 1));
    site.put_documents("a.manifest.json", &[entry("a", 1, "a.png")]);
    site.put("broken.manifest.json", "{ \"version\": 1, \"documents\": ]");
    site.run_once().expect(1);
    assert_eq!(site.receipt("a.manifest.json")["status"], "failed");
    let rejected = site.receipt("broken.manifest.json");
    assert_eq!(rejected["status"], "rejected");
    assert!(rejected["errors"][0]["reason"].is_string(), "{rejected}");
    assert_eq!(site.moved_to("failed"), ["a.manifest.json", "a.png", "broken.manifest.json"]);
}

#[test]
fn a_manifest_with_one_bad_entry_is_rejected_where_configured() {
    let site = Builder { drop: "on_invalid = 'reject'".to_owned(), ..Builder::default() }.build();
    site.put("a.png", image(Format::Png, 1));
    site.put("b.png", "no image at all");
    site.put_documents("a.manifest.json", &[entry("a", 1, "a.png"), entry("b", 2, "b.png")]);
    site.run_once().expect(1);
    let receipt = site.receipt("a.manifest.json");
    assert_eq!(receipt["counts"]["created"], 0);
    assert!(site.ledger().is_empty(), "nothing of it is sent");
    assert_eq!(receipt["status"], "rejected", "{receipt}");
    assert_eq!(receipt["counts"]["entries"], 2, "the good one is named too: {receipt}");
    let said = |at: usize| receipt["entries"][at]["errors"][0]["reason"].as_str().unwrap().to_owned();
    assert!(said(0).contains("other entries") && !said(1).contains("other entries"), "{receipt}");
    assert_eq!(site.moved_to("failed"), ["a.manifest.json"]);
    assert_eq!(site.left(), ["a.png", "b.png"], "they stay for its correction");

    // Mended, both go.
    site.put("b.png", image(Format::Png, 2));
    site.put_documents("b.manifest.json", &[entry("a", 1, "a.png"), entry("b", 2, "b.png")]);
    site.run_once().expect(0);
    assert_eq!(site.receipt("b.manifest.json")["counts"]["created"], 2);
}

#[test]
fn a_large_manifest_is_rejected_too_and_across_a_kill() {
    let site = Builder { drop: "on_invalid = 'reject'".to_owned(), ..Builder::default() }.build();
    site.put("a.png", image(Format::Png, 1));
    let mut lines: Vec<String> =
        (0..4200).map(|number| entry(&number.to_string(), number, "a.png").to_string()).collect();
    lines.push("{\"reference\": \"bad\"}\n".to_owned());
    site.put("a.manifest.jsonl", lines.join("\n"));
    site.run_once_killed_at("after.commit.admit_part:3");
    site.run_once().expect(1);
    let receipt = site.receipt("a.manifest.jsonl");
    assert_eq!((&receipt["status"], &receipt["counts"]["invalid"]), (&json!("rejected"), &json!(4201)));
    assert!(site.ledger().is_empty(), "nothing of it is sent");
}

#[test]
fn the_files_of_an_entry_that_makes_no_sense_go_with_it() {
    let site = Site::new();
    for (number, name) in (1..).zip(["a.png", "b.png", "c.png", "d.png"]) {
        site.put(name, image(Format::Png, number));
    }
    let mut bad = entry("bad", 1, "a.png");
    bad["category"] = json!("no such word");
    bad["images"] = json!([{ "path": "a.png", "image_type": "SIDE" }, { "path": "b.png" }, { "path": "../x.png" }]);
    site.put_documents("a.manifest.json", &[bad]);
    let rows = format!("profile_id,reference,path,category\n{},r,c.png,\nnot-a-profile,s,d.png,\n", profile(1));
    site.put("b.manifest.csv", rows);
    site.run_once().expect(1);
    assert_eq!(site.left(), Vec::<String>::new());
    let failed = site.moved_to("failed");
    assert_eq!(failed, ["a.manifest.json", "a.png", "b.manifest.csv", "b.png", "c.png", "d.png"]);
}

#[test]
fn what_was_refused_can_be_dropped_again_once_it_is_cured() {
    let (site, _) = one_of_three("upload_image=status-before:400/201");
    site.faults(&[]);
    site.put("1.png", image(Format::Png, 1));
    site.put_documents("again.manifest.json", &[entry("1.png", 1, "1.png")]);
    site.run_once().expect(0);
    assert_eq!(site.receipt("again.manifest.json")["entries"][0]["status"], "created");
    assert_eq!(site.summary().documents, 3);
}

#[test]
fn a_drop_writes_only_to_the_profiles_it_may() {
    let site = Builder { drop: format!("profiles = ['{}']", profile(1)), ..Builder::default() }.build();
    site.put("a.png", image(Format::Png, 1));
    site.put("b.png", image(Format::Png, 2));
    site.put_documents("a.manifest.json", &[entry("a", 1, "a.png"), entry("b", 2, "b.png")]);
    site.run_once().expect(1);
    let receipt = site.receipt("a.manifest.json");
    assert_eq!(receipt["entries"][0]["status"], "created");
    assert_eq!(receipt["entries"][1]["errors"][0]["field"], "profile_id", "{receipt}");
    let ledger = site.ledger();
    assert!(ledger.iter().filter_map(|call| call.profile.as_ref()).all(|called| *called == profile(1)), "{ledger:?}");
}

/// Two thousand entries of one document left two thousand copies of its image: each was uploaded before its document was
/// refused.
#[test]
fn equal_entries_end_with_the_one_that_the_api_refused() {
    const EQUALS: u32 = 300;
    let site = one_call_at_a_time();
    site.faults(&["create_document=status-before:422/201"]);
    site.run_once().expect(0);
    site.put("a.png", image(Format::Png, 1));
    let mut entries: Vec<Value> = (0..EQUALS).map(|number| entry(&number.to_string(), 1, "a.png")).collect();
    // Of one reference, of references of their own, and of none.
    for (number, entry) in entries.iter_mut().enumerate() {
        match number % 3 {
            0 => entry["reference"] = "same".into(),
            1 => drop(entry.as_object_mut().unwrap().remove("reference")),
            _ => {}
        }
    }
    site.put_documents("a.manifest.json", &entries);
    site.run_once().expect(1);
    let receipt = site.receipt("a.manifest.json");
    assert_eq!(receipt["counts"]["failed"], EQUALS, "{}", receipt["counts"]);
    let equal = &receipt["entries"][EQUALS as usize - 1]["errors"][0];
    assert_eq!(equal["code"], "equal-refused", "{equal}");
    let reason = equal["reason"].as_str().unwrap();
    assert!(reason.contains("refused as job") && reason.contains("201"), "{reason}");
    // Those that were under way by then.
    assert!(site.summary().images < 10, "{} images were left", site.summary().images);
    // What is dropped later is tried.
    site.faults(&[]);
    site.put("b.png", image(Format::Png, 1));
    site.put_documents("b.manifest.json", &[entry("b", 1, "b.png")]);
    site.run_once().expect(0);
    assert_eq!(site.summary().documents, 1);
}

#[test]
fn an_image_that_the_api_refused_is_not_sent_for_other_profiles() {
    const EQUALS: u32 = 300;
    for (status, about_the_image) in [("415", true), ("404", false)] {
        let site = one_call_at_a_time();
        site.faults(&[&format!("upload_image=status-before:{status}")]);
        site.put("a.png", image(Format::Png, 1));
        let entries: Vec<Value> = (0..EQUALS).map(|number| entry(&number.to_string(), number, "a.png")).collect();
        site.put_documents("a.manifest.json", &entries);
        site.run_once().expect(1);
        let receipt = site.receipt("a.manifest.json");
        assert_eq!(receipt["counts"]["failed"], EQUALS, "{}", receipt["counts"]);
        let calls = site.ledger().len();
        assert_eq!(calls < 100, about_the_image, "{calls} calls after {status}");
        if about_the_image {
            let error = &receipt["entries"][EQUALS as usize - 1]["errors"][0];
            assert_eq!((&error["code"], &error["path"]), (&"equal-refused".into(), &"a.png".into()), "{error}");
            // A person asks again, and the others with it.
            site.faults(&[]);
            site.run(&["retry", "--all"]).expect(0);
            site.run_once().expect(0);
            assert_eq!(site.summary().documents, u64::from(EQUALS));
        }
    }
}

/// A gateway's 404 page during a deploy once failed 300 of 300 entries for good.
#[test]
fn a_gateways_page_fails_no_entry_and_everything_goes_on_after_it() {
    let site = Builder { retry: "max = '2s'".to_owned(), ..Builder::default() }.build();
    let page = ["upload_image", "create_document", "read_documents", "whoami"].map(|call| format!("{call}=bare:404"));
    site.faults(&page.iter().map(String::as_str).collect::<Vec<_>>());
    site.put_batch("batch.manifest.json", 300);
    let mut daemon = site.daemon();
    let stopped = || site.status()["queue"]["pauses"].to_string().contains("outage");
    daemon.wait_until("the account is stopped", stopped);
    let before = site.ledger().len();
    daemon.wait_until("it is tried again", || site.ledger().len() >= before + 4);
    assert!(site.ledger().len() < 100, "{} calls to an API that does not work", site.ledger().len());
    assert_eq!(site.jobs("failed,held"), Vec::<Value>::new());
    site.faults(&[]);
    daemon.wait_until("it goes on by itself", || site.is_settled("batch.manifest.json"));
    daemon.terminate().expect(0);
    assert_eq!(site.receipt("batch.manifest.json")["counts"]["created"], 300);
    assert_eq!((site.summary().documents, site.summary().doubled), (300, 0));
}

/// An API may refuse a profile without a word. That is believed once it has lasted, while the account works.
#[test]
fn a_profile_that_is_refused_without_a_word_ends_refused_after_a_while() {
    let site = Builder { retry: "max = '1s'".to_owned(), ..Builder::default() }.build();
    site.faults(&[&format!("upload_image=bare:404,profile={}", profile(1))]);
    site.put_batch("three.manifest.json", 3);
    let mut daemon = site.daemon();
    let tries = || site.ledger().iter().filter(|call| call.status == Some(404)).count();
    daemon.wait_until("it is tried again", || tries() >= 6);
    assert_eq!(site.summary().documents, 2, "the others do not wait for it");
    assert!(!site.is_settled("three.manifest.json"), "a few refusals in some seconds may be a deploy's");
    daemon.terminate().expect(0);
    // Another process has not seen that the others work, so that `whoami` and ten minutes decide.
    let database = rusqlite::Connection::open(site.at("state/queue.db")).unwrap();
    database.execute("UPDATE attempt SET at = at - 600000", []).unwrap();
    drop(database);
    site.run_once().expect(1);
    let receipt = site.receipt("three.manifest.json");
    assert_only_the_middle_failed(&site, &receipt);
    let error = &receipt["entries"][1]["errors"][0];
    assert_eq!((&error["code"], &error["path"]), (&json!("refused-without-reason"), &json!("1.png")), "{error}");
    assert!(error["reason"].as_str().unwrap().contains("404"), "{error}");
}
