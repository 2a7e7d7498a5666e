//! `demo`: what a newcomer runs first, with no configuration, no key, and no network.

use serde_json::Value;

use crate::support::{Site, is_receipt, read_receipt};

/// Every ID of something that was created, anywhere in a receipt.
fn ids(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if ["document_id", "file_id", "image_id"].contains(&key.as_str()) {
                    found.push(value.as_str().unwrap().to_owned());
                }
                ids(value, found);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| ids(value, found)),
        _ => {}
    }
}

#[test]
fn it_shows_every_id_of_its_receipts_and_keeps_the_folder_where_asked() {
    let site = Site::new();
    let mut command = site.bare_command("state", &["demo", "--keep", "new/demo"]);
    // A proxy and a key of the newcomer's own change nothing.
    command.envs([("http_proxy", "http://192.0.2.1:3128"), ("PASSFORT_API_KEY", "not this one")]);
    let out = site.finish(command).expect(0).stdout;

    let kept = site.at("state/new/demo");
    let receipts: Vec<Value> = std::fs::read_dir(kept.join("drop/receipts"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| is_receipt(path))
        .map(|path| read_receipt(&path))
        .collect();
    assert_eq!(receipts.len(), 3);
    for entry in receipts.iter().flat_map(|receipt| receipt["entries"].as_array().unwrap()) {
        let has_id = entry["document_id"].is_string() || entry["file_id"].is_string();
        assert_eq!(entry["status"] == "created", has_id, "{entry}");
    }
    let mut found = Vec::new();
    receipts.iter().for_each(|receipt| ids(receipt, &mut found));
    // Five documents, eight images, a file.
    assert_eq!(found.len(), 14);
    for id in found {
        assert!(out.contains(&id), "{id} is not in\n{out}");
    }
    assert!(receipts.iter().any(|receipt| receipt["status"] == "partial"), "one is wrong on purpose");
    let config = kept.join("config.toml").display().to_string();
    for (arguments, said) in [
        (&["status"][..], "demo"),
        (&["show", "1"], "alice"),
        (&["why", &kept.join("drop/bruno.manifest.jsonl").display().to_string()], "bank-statement"),
        (&["config", "show"], "127.0.0.1:9480"),
    ] {
        let mut command = site.bare_command("state", &["--config", &config]);
        command.args(arguments);
        site.finish(command).expect(0).says(said);
        assert!(out.contains(arguments[0]) || arguments[0] == "config", "{out}");
    }
    for said in [
        "bruno/bank-statement.jpg: line 2: the content is none of",
        "cure: convert it",
        "so it was not created again",
        "so it was sent again",
        "5 documents, 0 doubled; 8 images, 0 that no document uses; 1 file",
        "alice.manifest.json.receipt.json",
    ] {
        assert!(out.contains(said), "{said:?} is not in\n{out}");
    }
    assert!(kept.join("drop/failed").is_dir() && kept.join("drop/done").is_dir());
}

#[test]
fn it_needs_nothing_and_writes_nowhere_else() {
    let site = Site::new();
    site.finish(site.bare_command("state", &["demo"])).expect(0);
    assert_eq!(std::fs::read_dir(site.at("state")).unwrap().count(), 0, "the current folder is left as it was");
    assert!(site.ledger().is_empty());
}

#[test]
fn it_does_not_write_into_a_folder_that_is_in_use() {
    let site = Site::new();
    site.write("mine/precious.txt", "mine");
    site.finish(site.bare_command("mine", &["demo", "--keep", "."])).expect(2).says("the folder is not empty");
    assert_eq!(std::fs::read_dir(site.at("mine")).unwrap().count(), 1);
}
