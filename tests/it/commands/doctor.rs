//! `doctor`: each thing that would stop the work is found, with its cure.

use std::fs;

use rustix::fs::rename;
use serde_json::Value;

use crate::support::Site;

/// What is wrong, as `area: what (cure)`.
fn findings(site: &Site, code: i32) -> Vec<String> {
    let said = site.run(&["doctor", "--as-worker", "--json"]);
    let mut found: Vec<Value> = serde_json::from_str(&said.expect(code).stdout).unwrap();
    found.retain(|finding| finding["severity"] == "fault");
    let text = |finding: &Value, name: &str| finding[name].as_str().unwrap_or_default().to_owned();
    found.iter().map(|it| format!("{}: {} ({})", text(it, "area"), text(it, "what"), text(it, "cure"))).collect()
}

#[test]
fn a_good_ground_is_well_and_the_key_is_asked_about_by_whoami_alone() {
    let site = Site::new();
    let said = site.run(&["doctor"]);
    for text in ["the key is read from $PASSFORT_API_KEY", "accepts it", "files can be taken, put away and answered"] {
        assert!(said.stdout.contains(text), "{text}: {}", said.stdout);
    }
    let calls: Vec<_> = site.ledger().iter().map(|call| call.operation.as_str().to_owned()).collect();
    assert_eq!(calls, ["whoami"]);
    assert!(!site.at("state/queue.db").exists(), "it makes no queue");
}

#[test]
fn a_key_that_is_refused_and_an_api_that_is_not_there_are_faults() {
    let mut site = Site::new();
    site.use_key("wrong");
    site.run(&["doctor"]).expect(1).says("refuses it");
    site.run(&["doctor", "--offline"]);
    site.edit_config("http://127.0.0.1", "http://127.0.0.1:9/no");
    site.run(&["doctor"]).expect(1);
}

#[test]
fn what_would_stop_a_drop_or_the_database_is_found_with_its_cure() {
    let site = Site::new();
    assert_eq!(findings(&site, 0), Vec::<String>::new());
    fs::remove_dir_all(site.in_drop("done")).ok();
    fs::write(site.in_drop("done"), "a file in the folder's place").unwrap();
    let found = findings(&site, 1);
    assert!(
        found.len() == 1 && found[0].starts_with("drop partner: ") && found[0].contains("put no file"),
        "{found:?}"
    );
    fs::remove_file(site.in_drop("done")).unwrap();

    site.write("state/queue.db", "this is no database");
    let found = findings(&site, 1);
    assert!(found.len() == 1 && found[0].starts_with("database: "), "{found:?}");
    fs::remove_file(site.at("state/queue.db")).unwrap();

    rename(site.at("drop"), site.at("elsewhere")).unwrap();
    let found = findings(&site, 1);
    assert!(found.len() == 1 && found[0].contains("make the folder"), "{found:?}");
    std::os::unix::fs::symlink(site.at("elsewhere"), site.at("drop")).unwrap();
    let found = findings(&site, 1);
    assert!(found.len() == 1 && found[0].contains("symbolic link"), "{found:?}");
}

#[test]
fn a_configuration_that_is_wrong_is_a_finding_for_each_key() {
    let site = Site::new();
    site.edit_config("settle = '50ms'", "setle = '50ms'");
    site.edit_config("rescan_every = '1s'", "rescan_every = 'soon'");
    let found = findings(&site, 2);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.iter().all(|found| found.contains("config.toml:")), "{found:?}");
    assert!(found.iter().any(|found| found.contains("rescan_every")), "{found:?}");
    assert!(found.iter().any(|found| found.contains("the nearest known key is settle")), "{found:?}");
}
