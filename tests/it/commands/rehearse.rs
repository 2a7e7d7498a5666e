//! `rehearse`: what the import would come to, with nothing sent and nothing left behind.

use std::{collections::BTreeMap, fs, path::Path, time::SystemTime};

use serde_json::{Value, json};

use crate::support::{Format, Site, entry, image, profile};

/// Everything below a folder, with when it changed.
fn tree(folder: &Path) -> BTreeMap<String, (u64, SystemTime)> {
    let mut found = BTreeMap::new();
    for file in fs::read_dir(folder).unwrap() {
        let file = file.unwrap();
        let about = file.metadata().unwrap();
        found.insert(file.path().display().to_string(), (about.len(), about.modified().unwrap()));
        if about.is_dir() {
            found.extend(tree(&file.path()));
        }
    }
    found
}

/// Good and bad entries of every kind, in manifests of two formats, and one that is unusable.
fn mixed() -> Site {
    let site = Site::new();
    for (name, number) in [("a.png", 1), ("b.png", 2), ("c.png", 3)] {
        site.write(&format!("in/{name}"), image(Format::Png, number));
    }
    site.write("in/text.png", "no image");
    site.write("in/cut.png", &image(Format::Png, 9)[..60]);
    let mut other = entry("a", 1, "b.png");
    other["images"][0]["image_type"] = json!("FRONT");
    let documents = [
        entry("a", 1, "a.png"),
        entry("a", 1, "a.png"),
        other,
        entry("text", 1, "text.png"),
        entry("cut", 1, "cut.png"),
        entry("gone", 1, "gone.png"),
        entry("shared", 2, "b.png"),
        entry("shared too", 3, "b.png"),
    ];
    let manifest =
        json!({ "version": 1, "documents": documents, "files": [{ "profile_id": profile(4), "path": "c.png" }] });
    site.write("in/1.manifest.json", manifest.to_string());
    site.write(
        "in/sub/2.manifest.csv",
        format!("profile_id,reference,path\n{},a,../a.png\n{},d,d.pdf\nx,e,d.pdf\n", profile(5), profile(5)),
    );
    site.write("in/sub/d.pdf", image(Format::Pdf, 4));
    site.write("in/3.manifest.json", "{");
    site
}

fn verdict(manifest: &str, entry: &Value) -> (String, Option<u64>, Value, Vec<Value>) {
    let errors = entry["errors"].as_array().into_iter().flatten().map(|error| error["reason"].clone());
    (manifest.to_owned(), entry["index"].as_u64(), entry["status"].clone(), errors.collect())
}

#[test]
fn each_entry_comes_to_the_same_as_in_the_import_and_nothing_is_written_or_sent() {
    let site = mixed();
    let before = tree(&site.at("in"));
    let rehearsed = site.run(&["rehearse", "in", "--json"]).expect(1);
    assert_eq!(tree(&site.at("in")), before);
    assert!(site.ledger().is_empty() && !site.at("state/queue.db").exists());
    assert!(rehearsed.stderr.contains("Nothing was sent"), "{}", rehearsed.stderr);
    let name = |path: &str| Path::new(path).file_name().unwrap().to_str().unwrap().to_owned();
    let mut expected_by_rehearsal: Vec<_> = rehearsed
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|line| verdict(&name(line["manifest"].as_str().unwrap()), &line))
        .collect();
    assert!(!rehearsed.stdout.contains("_id\":\"") || !rehearsed.stdout.contains("document_id"), "IDs of the sandbox");

    site.run(&["import", "in", "--receipts-to", "said"]).expect(1);
    let mut came = Vec::new();
    for path in tree(&site.at("said")).keys().filter(|path| path.ends_with(".receipt.json")) {
        let receipt: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let manifest = name(receipt["manifest"].as_str().unwrap());
        if receipt["status"] == "rejected" {
            came.push(verdict(&manifest, &receipt));
        }
        came.extend(receipt["entries"].as_array().unwrap().iter().map(|entry| verdict(&manifest, entry)));
    }
    let order = |verdicts: &mut Vec<(String, Option<u64>, Value, Vec<Value>)>| {
        verdicts.sort_by(|one, other| (&one.0, one.1).cmp(&(&other.0, other.1)));
    };
    order(&mut came);
    order(&mut expected_by_rehearsal);
    assert_eq!(expected_by_rehearsal, came);
    assert_eq!(came.len(), 13);
}

#[test]
fn people_read_what_would_not_be_created() {
    let site = mixed();
    let said = site.run(&["rehearse", "in"]).expect(1).stdout;
    for part in
        ["would be created", "gone: images[0].path: gone.png: line 1: there is no such file", "warning: ", "unusable"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    // An archive that nobody may write to, and no configuration.
    site.write("good/a.png", image(Format::Png, 1));
    site.write("good/a.manifest.json", json!({ "version": 1, "documents": [entry("a", 1, "a.png")] }).to_string());
    let command = site.bare_command(".", &["rehearse", "good"]);
    let said = site.finish(command).expect(0).stdout;
    assert!(said.contains("1 entries: 1 would be created"), "{said}");
    assert_eq!(tree(&site.at("good")).len(), 2);
}

#[test]
fn the_rules_of_a_drop_and_refused_warnings_hold() {
    let site = mixed();
    let said = site.run(&["rehearse", "in", "--refuse-warnings", "shared-image"]).expect(1).stdout;
    assert!(said.contains("invalid: ") && said.contains("refuse_warnings"), "{said}");
    site.run(&["rehearse", "nowhere"]).expect(2);
    site.run(&["rehearse", "in", "--scratch", "nowhere"]).expect(2);
}
