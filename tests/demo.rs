//! The command `demo`, as a user without any configuration runs it.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly, like tests")]

use std::{fs, path::Path};

use assert_cmd::Command;

fn command() -> Command {
    let mut command = Command::cargo_bin("passfort-ingest").unwrap();
    command.env_clear().timeout(std::time::Duration::from_secs(120));
    command
}

/// Every ID of something that was created, anywhere in a receipt.
fn ids(value: &serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(map) => {
            for (key, value) in map {
                if ["document_id", "file_id", "image_id"].contains(&key.as_str()) {
                    found.push(value.as_str().unwrap().to_owned());
                }
                ids(value, found);
            }
        }
        serde_json::Value::Array(list) => list.iter().for_each(|value| ids(value, found)),
        _ => {}
    }
}

fn receipts(home: &Path) -> Vec<serde_json::Value> {
    let folder = fs::read_dir(home.join("drop/receipts")).unwrap();
    folder.map(|file| serde_json::from_slice(&fs::read(file.unwrap().path()).unwrap()).unwrap()).collect()
}

#[test]
fn it_shows_every_id_that_the_receipts_name_and_ends_well() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("new/demo");
    // Whoever has a proxy and a key of their own is shown the same.
    let ran = command()
        .args(["demo", "--keep"])
        .arg(&home)
        .envs([("http_proxy", "http://192.0.2.1:3128"), ("PASSFORT_API_KEY", "not this one")])
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8(ran.stdout).unwrap(), String::from_utf8(ran.stderr).unwrap());
    assert_eq!(ran.status.code(), Some(0), "{out}\n{err}");
    let receipts = receipts(&home);
    assert_eq!(receipts.len(), 3);
    let mut found = Vec::new();
    receipts.iter().for_each(|receipt| ids(receipt, &mut found));
    // Five documents, eight images, a file.
    assert_eq!(found.len(), 14);
    for id in found {
        assert!(out.contains(&id), "{id} is not in\n{out}");
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
    assert!(home.join("drop/failed").is_dir() && home.join("drop/done").is_dir());
}

#[test]
fn a_folder_that_is_in_use_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("mine.txt"), "mine").unwrap();
    let ran = command().args(["demo", "--keep"]).arg(folder.path()).output().unwrap();
    assert_eq!(ran.status.code(), Some(2));
    assert!(String::from_utf8(ran.stderr).unwrap().contains("the folder is not empty"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
