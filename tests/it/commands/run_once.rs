//! `run --once`, for timers: its exit code says what to do next.

use std::fs;

use crate::support::{Format, Site, entry, image};

#[test]
fn nothing_to_do_is_well() {
    let site = Site::new();
    site.run_once().expect(0);
    assert_eq!(site.files(), Vec::<String>::new());
}

#[test]
fn one_that_is_refused_makes_it_1() {
    let site = Site::new();
    site.put("a.png", image(Format::Png, 1));
    site.put("b.png", "no image at all");
    site.put_documents("a.manifest.json", &[entry("a", 1, "a.png"), entry("b", 1, "b.png")]);
    site.run_once().expect(1);
    assert_eq!(site.receipt("a.manifest.json")["status"], "partial");
}

#[test]
fn a_manifest_that_waits_for_a_file_stays_and_makes_it_3() {
    let site = Site::new();
    site.put("a.png", image(Format::Png, 1));
    site.put_documents("a.manifest.json", &[entry("a", 1, "a.png"), entry("b", 1, "b.png")]);
    site.run_once().expect(3);
    assert_eq!(site.left(), ["a.manifest.json", "a.png"], "nothing is moved while it waits");
    assert!(!site.is_settled("a.manifest.json"));

    site.put("b.png", image(Format::Png, 2));
    site.run_once().expect(0);
    assert_eq!(site.receipt("a.manifest.json")["counts"]["created"], 2);
    assert_eq!(site.summary().documents, 2);
    assert_eq!(site.summary().images, 2);
}

#[test]
fn the_largest_code_wins_where_several_apply() {
    let site = Site::new();
    site.put("bad.png", "no image at all");
    site.put_documents("bad.manifest.json", &[entry("bad", 1, "bad.png")]);
    site.put_documents("waits.manifest.json", &[entry("waits", 1, "missing.png")]);
    site.run_once().expect(3);
    assert!(site.is_settled("bad.manifest.json"), "the refused one does not wait for the other");
    assert_eq!(site.left(), ["waits.manifest.json"]);
}

#[test]
fn a_wrong_configuration_makes_it_2_and_nothing_is_done() {
    let site = Site::new();
    site.put("a.png", image(Format::Png, 1));
    site.put_documents("a.manifest.json", &[entry("a", 1, "a.png")]);
    let good = fs::read_to_string(site.at("config.toml")).unwrap();

    let misspelt = good.replace("settle =", "setle =");
    for (config, said) in [
        (misspelt, "settle"),
        (good.replace("http://127.0.0.1", "http://192.0.2.1"), "https"),
        (good.replace("settle = '50ms'", "settle = 'soon'"), "settle"),
        (format!("{good}\n[["), "config.toml"),
    ] {
        site.write("config.toml", config);
        site.run_once().expect(2).says(said);
    }
    site.write("config.toml", &good);
    site.run(&["run", "--onse"]).expect(2).says("--once");
    site.run(&["--config", "nowhere.toml", "run", "--once"]).expect(2);

    assert_eq!(site.left(), ["a.manifest.json", "a.png"]);
    assert!(!site.at("state/queue.db").exists(), "not even the queue is made");
    assert!(site.ledger().is_empty());
    site.run_once().expect(0);
}

#[test]
fn an_api_that_cannot_be_reached_makes_it_4_and_nothing_is_lost() {
    let mut site = Site::new();
    site.put("a.png", image(Format::Png, 1));
    site.put_documents("a.manifest.json", &[entry("a", 1, "a.png")]);
    site.stop_api();
    site.run(&["run", "--once", "--give-up-after", "2s"]).expect(4);
    let left = site.left();
    assert!(left.len() == 2 && left.iter().all(|path| path.starts_with(".passfort-ingest/")), "taken: {left:?}");
    assert!(!site.is_settled("a.manifest.json"), "nobody refused it");

    site.start_api();
    site.run_once().expect(0);
    assert_eq!(site.summary().documents, 1);
}

#[test]
fn a_key_that_is_refused_makes_it_4_and_no_entry_fails_for_it() {
    let mut site = Site::new();
    for number in 0..3 {
        let name = format!("{number}.png");
        site.put(&name, image(Format::Png, number));
        site.put_documents(&format!("{number}.manifest.json"), &[entry(&name, number, &name)]);
    }
    site.use_key("wrong-key-7f3a");
    let finished = site.run(&["run", "--once", "--give-up-after", "2s"]).expect(4);
    assert!(!finished.said().contains("wrong-key-7f3a"), "a key is never written down: {}", finished.said());
    assert!(site.moved_to("failed").is_empty());
    assert_eq!(site.left().len(), 6);

    site.use_key("test");
    site.run_once().expect(0);
    assert_eq!(site.summary().documents, 3);
    assert_eq!(site.left(), Vec::<String>::new());
}

#[test]
fn work_of_a_drop_that_is_configured_no_more_is_not_what_is_waited_for() {
    let mut site = Site::new();
    let own = fs::read_to_string(site.at("config.toml")).unwrap();
    site.another_drop("gone", "");
    for (drop, name) in [("drop", "a"), ("gone", "b")] {
        site.write(&format!("{drop}/{name}.png"), image(Format::Png, 1));
        let manifest = serde_json::json!({"version": 1, "documents": [entry(name, 1, &format!("{name}.png"))]});
        site.write(&format!("{drop}/{name}.manifest.json"), manifest.to_string());
    }
    site.stop_api();
    site.run(&["run", "--once", "--give-up-after", "1s"]).expect(4);
    site.start_api();

    site.write("config.toml", own);
    let database = rusqlite::Connection::open(site.at("state/queue.db")).unwrap();
    database
        .execute_batch(
            "DELETE FROM pause; DROP TRIGGER job_transition;
             UPDATE job SET state = 'waiting', waits = 'file', due_at = 9000000000000 WHERE reference = 'a'",
        )
        .unwrap();
    // Of the other drop, one that could be sent at once, and one that waits for a limit, for as long as nobody asks.
    for left in
        ["state = 'queued', waits = NULL, due_at = NULL", "state = 'waiting', waits = 'quota', due_at = 9000000000000"]
    {
        // Every opening of the queue brings the trigger back that refuses such a leap.
        let leap = format!("DROP TRIGGER IF EXISTS job_transition; UPDATE job SET {left} WHERE reference = 'b'");
        database.execute_batch(&leap).unwrap();
        let finished = site.run(&["run", "--once", "--give-up-after", "1s"]).expect(3).says("only files");
        assert!(!finished.said().contains("cannot be reached"), "{}", finished.said());
    }
    assert!(site.ledger().is_empty(), "nothing was sent: {:?}", site.ledger());
}

/// It ended with 3 and did not say which file was missing.
#[test]
fn work_that_is_left_is_explained() {
    for (name, content) in [("missing.png", None), ("cut.pdf", Some(b"%PDF-1.4\n% cut in the middle".to_vec()))] {
        let site = Site::new();
        if let Some(content) = content {
            site.put(name, content);
        }
        site.put_documents("a.manifest.json", &[entry("a", 1, name)]);
        site.run_once().expect(3).says("stays where it is, for the next time");
        let said = site.run(&["-v", "run", "--once"]).expect(3).says(name).stderr;
        let (_, number) = said.split_once("arrival=").unwrap();
        let number: String = number.chars().take_while(char::is_ascii_digit).collect();
        site.run(&["why", &number]).expect(0).says(name);
    }
}
