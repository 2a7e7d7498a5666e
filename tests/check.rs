//! The command `check`, on good and bad manifests of each format.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly, like tests")]

use std::{fs, path::Path};

use assert_cmd::Command;
use serde_json::Value;
use tempfile::TempDir;

const PROFILE: &str = "a2c4393a-e219-67a4-5ab4-2186952e9038";
const PDF: &[u8] = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n\
    2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n";

struct Ran {
    code: i32,
    out: String,
    err: String,
}

fn check(folder: &Path, args: &[&str]) -> Ran {
    let ran = Command::cargo_bin("passfort-ingest")
        .unwrap()
        .env_clear()
        .timeout(std::time::Duration::from_secs(60))
        .current_dir(folder)
        .arg("check")
        .args(args)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: ran.status.code().unwrap(), out: text(ran.stdout), err: text(ran.stderr) }
}

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("17")).unwrap();
    fs::write(folder.path().join("17/a.pdf"), PDF).unwrap();
    fs::write(folder.path().join("17/b.pdf"), [PDF, b"\n"].concat()).unwrap();
    fs::write(folder.path().join("17/note.jpg"), "not a picture\n").unwrap();
    for (name, content) in files {
        fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

/// A line of JSON Lines for a document of one image.
fn line(reference: &str, path: &str, more: &str) -> String {
    format!(
        "{{\"profile_id\":\"{PROFILE}\",\"reference\":\"{reference}\",\"category\":\"SUPPORTING\",\
         \"document_type\":\"UNKNOWN\",\"images\":[{{\"path\":\"{path}\"}}]{more}}}\n"
    )
}

/// A manifest of each format, with this path for its second entry.
fn each_format(path: &str) -> [(&'static str, String); 3] {
    let (first, second) = (line("a", "17/a.pdf", ""), line("b", path, ""));
    let json = format!("{{\"version\":1,\"documents\":[\n{first},{second}]}}");
    let csv = format!(
        "profile_id;reference;category;document_type;path\n{PROFILE};a;SUPPORTING;UNKNOWN;17/a.pdf\n\
         {PROFILE};b;SUPPORTING;UNKNOWN;{path}\n"
    );
    [("x.manifest.json", json), ("x.manifest.jsonl", first + &second), ("x.manifest.csv", csv)]
}

#[test]
fn a_good_manifest_of_each_format_is_good() {
    for (name, content) in each_format("17/b.pdf") {
        let folder = folder(&[(name, &content)]);
        let ran = check(folder.path(), &[name]);
        assert_eq!(ran.code, 0, "{name}: {}{}", ran.out, ran.err);
        assert!(ran.out.contains("ok: 2 entries: 2 good, 0 bad; the good ones have 2 images"), "{}", ran.out);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is made or moved");
    }
}

#[test]
fn what_is_wrong_is_said_with_place_reason_and_cure_in_each_format() {
    for (name, content) in each_format("17/note.jpg") {
        let folder = folder(&[(name, &content)]);
        let ran = check(folder.path(), &[name]);
        assert_eq!(ran.code, 1, "{name}: {}{}", ran.out, ran.err);
        let at = if name.ends_with(".jsonl") { 2 } else { 3 };
        let wanted = format!("error: index 1, line {at}, b: images[0].path: 17/note.jpg: ");
        assert!(ran.out.contains(&wanted), "{wanted} is not in\n{}", ran.out);
        assert!(ran.out.contains("plain text\n    cure: convert it"), "{}", ran.out);
        assert!(ran.out.contains("1 manifest, 2 entries: 1 good, 1 bad"), "{}", ran.out);
    }
}

#[test]
fn all_of_several_manifests_are_checked_and_machines_read_each() {
    let [json, _, csv] = each_format("17/missing.pdf");
    let folder = folder(&[
        ("1.manifest.json", "{\"version\": 1, "),
        ("2.manifest.json", &json.1.replace("\"a\"", "\"c\"")),
        ("3.manifest.csv", &csv.1.replace("17/missing.pdf", "17/b.pdf")),
    ]);
    let ran = check(folder.path(), &["--json", "."]);
    assert_eq!(ran.code, 1);
    let objects: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let statuses: Vec<_> = objects.iter().map(|object| object["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["unusable", "problems", "ok"]);
    assert!(objects[0]["problems"][0]["reason"].is_string());
    let problem = &objects[1]["problems"][0];
    assert_eq!((&problem["index"], &problem["reference"]), (&1.into(), &"b".into()));
    assert_eq!((&problem["severity"], &problem["path"]), (&"error".into(), &"17/missing.pdf".into()));
    assert_eq!((&objects[1]["entries"], &objects[1]["invalid"]), (&2.into(), &1.into()));
    assert!(ran.err.contains("3 manifests (1 unusable), 4 entries: 3 good, 1 bad"), "{}", ran.err);
}

#[test]
fn a_reference_that_is_used_twice_is_found_across_manifests() {
    let folder = folder(&[
        ("1.manifest.jsonl", &line("a", "17/a.pdf", "")),
        ("2.manifest.jsonl", &line("a", "17/b.pdf", "")),
        ("3.manifest.jsonl", &line("a", "17/b.pdf", ",\"replace\":true")),
        ("4.manifest.jsonl", &line("a", "17/b.pdf", "")),
    ]);
    let ran = check(folder.path(), &["--json", "."]);
    assert_eq!(ran.code, 1, "{}", ran.out);
    let objects: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let reason = |at: usize| objects[at]["problems"][0]["reason"].as_str().unwrap_or_default().to_owned();
    assert_eq!(reason(0), "");
    assert!(reason(1).contains("1.manifest.jsonl has the same reference with other content"), "{}", reason(1));
    assert_eq!(reason(2), "");
    assert!(reason(3).contains("3.manifest.jsonl has the same reference and the same content"), "{}", reason(3));
    assert_eq!((&objects[3]["status"], &objects[3]["warnings"]), (&"ok".into(), &1.into()));
}

#[test]
fn images_may_start_from_another_folder() {
    let images = folder(&[]);
    let manifests = tempfile::tempdir().unwrap();
    fs::write(manifests.path().join("x.manifest.jsonl"), line("a", "17/a.pdf", "")).unwrap();
    assert_eq!(check(manifests.path(), &["x.manifest.jsonl"]).code, 1);
    let root = images.path().to_str().unwrap();
    assert_eq!(check(manifests.path(), &["x.manifest.jsonl", "--root", root]).code, 0);
}

#[test]
fn a_drop_brings_its_rules() {
    let folder = folder(&[("x.manifest.jsonl", &line("a", "17/a.pdf", ""))]);
    let config = format!(
        "[[drop]]\nname = \"partner-a\"\npath = \"{}\"\nprofiles = [\"00000000-0000-4000-8000-000000000000\"]\n",
        folder.path().display()
    );
    fs::write(folder.path().join("config.toml"), config).unwrap();
    assert_eq!(check(folder.path(), &["--config=config.toml", "x.manifest.jsonl"]).code, 0);
    let ran = check(folder.path(), &["--config=config.toml", "x.manifest.jsonl", "--drop=partner-a"]);
    assert_eq!(ran.code, 1);
    assert!(ran.out.contains("profile_id: this drop may not write to this profile"), "{}", ran.out);
    let ran = check(folder.path(), &["--config=config.toml", "x.manifest.jsonl", "--drop=partner-b"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("did you mean \"partner-a\"?"), "{}", ran.err);
}

#[test]
fn what_cannot_be_meant_is_told_before_anything_is_checked() {
    let folder = folder(&[("x.manifest.jsonl", &line("a", "17/a.pdf", ""))]);
    for args in [
        &["nowhere.manifest.json"][..],
        &["17"],
        &["x.manifest.jsonl", "--root=nowhere"],
        &["x.manifest.jsonl", "--config=nowhere.toml"],
        &["x.manifest.jsonl", "--drop=partner-a"],
        &[],
    ] {
        let ran = check(folder.path(), args);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{args:?}: {}", ran.err);
    }
}

#[test]
fn a_reader_that_has_gone_away_is_not_told_that_all_is_good() {
    let [(name, content), ..] = each_format("17/note.jpg");
    let folder = folder(&[(name, &content)]);
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin("passfort-ingest"))
        .args(["check", name])
        .env_clear()
        .current_dir(folder.path())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(1));
}
