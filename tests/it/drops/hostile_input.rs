//! Input that nobody should send: each gets a clear receipt, nothing outside the drop is read, and other entries go on.

use std::{fs, os::unix::fs::symlink, process::Command};

use serde_json::{Value, json};

use crate::support::{Finished, Format, Site, entry, image, profile, promise, sha256};

/// Drops a manifest whose middle entry is this one, between two good ones, and takes it in.
///
/// The middle one is refused with a field or path, a reason, and a cure; the good ones are created.
#[track_caller]
fn refuses_only(site: &Site, bad: Value) -> Value {
    put_between_good_ones(site, bad);
    site.run_once().expect(1);
    refused_alone(site)
}

/// The same for what may only be under way: it is waited for, and then refused.
#[track_caller]
fn refuses_only_in_the_end(site: &Site, bad: Value) -> Value {
    put_between_good_ones(site, bad);
    site.run_until_given_up().expect(1);
    refused_alone(site)
}

fn put_between_good_ones(site: &Site, bad: Value) {
    site.put("good-1.png", image(Format::Png, 1));
    site.put("good-2.png", image(Format::Png, 2));
    site.put_documents("a.manifest.json", &[entry("1", 1, "good-1.png"), bad, entry("2", 2, "good-2.png")]);
}

#[track_caller]
fn refused_alone(site: &Site) -> Value {
    let receipt = site.receipt("a.manifest.json");
    assert_eq!(receipt["status"], "partial", "{receipt}");
    assert_eq!(receipt["counts"]["created"], 2, "{receipt}");
    let entry = &receipt["entries"][1];
    assert!(entry["status"] == "invalid" || entry["status"] == "failed", "{entry}");
    let error = &entry["errors"][0];
    assert!(error["field"].is_string() || error["path"].is_string(), "where: {entry}");
    assert!(error["reason"].as_str().is_some_and(|text| text.len() > 5), "what: {entry}");
    assert!(error["cure"].as_str().is_some_and(|text| text.len() > 5), "and how to cure it: {entry}");
    assert_eq!(site.summary().documents, 2);
    assert_eq!(site.summary().images, 2, "nothing of the bad entry was sent");
    error.clone()
}

#[test]
fn paths_that_lead_out_of_the_drop() {
    promise!(
        "Nothing outside a drop is read, moved or deleted because a manifest says so: no `..`, no absolute path, no symbolic link, no device and no FIFO."
    );
    for path in [
        "../outside.png",
        "folder/../../outside.png",
        "/etc/passwd",
        "/dev/zero",
        "//etc/passwd",
        "./../outside.png",
        "..",
        ".",
        "",
    ] {
        let site = Site::new();
        site.write("outside.png", image(Format::Png, 99));
        site.put("folder/inner.png", image(Format::Png, 98));
        refuses_only(&site, entry("bad", 3, path));
        assert!(site.at("outside.png").exists(), "{path}: nothing outside is moved");
    }
}

#[test]
fn names_with_nul_and_control_characters() {
    for path in ["a\u{0}.png", "a\n.png", "a\u{1b}[31m.png", "a\u{202e}gnp.exe\u{0}"] {
        let site = Site::new();
        refuses_only(&site, entry("bad", 3, path));
    }
}

#[test]
fn a_name_longer_than_any_file_can_have() {
    let site = Site::new();
    refuses_only(&site, entry("bad", 3, &format!("{}.png", "x".repeat(300))));
    let site = Site::new();
    refuses_only(&site, entry("bad", 3, &"deep/".repeat(2000)));
}

#[test]
fn a_manifest_behind_a_symbolic_link_is_not_taken() {
    let site = Site::new();
    site.write("outside/a.png", image(Format::Png, 99));
    let manifest = json!({ "version": 1, "documents": [entry("x", 1, "a.png")] }).to_string();
    site.write("outside/a.manifest.json", &manifest);
    symlink(site.at("outside"), site.in_drop("folder")).unwrap();
    symlink(site.at("outside/a.manifest.json"), site.in_drop("b.manifest.json")).unwrap();
    site.run_once();
    assert!(site.ledger().is_empty(), "nothing outside is sent");
    assert_eq!(fs::read_to_string(site.at("outside/a.manifest.json")).unwrap(), manifest);
}

#[test]
fn a_pipe_as_a_manifest_does_not_make_it_hang() {
    let site = Site::new();
    assert!(Command::new("mkfifo").arg(site.in_drop("pipe.manifest.json")).status().unwrap().success());
    site.put("a.png", image(Format::Png, 1));
    site.put_documents("a.manifest.json", &[entry("a", 1, "a.png")]);
    site.run_once();
    assert_eq!(site.receipt("a.manifest.json")["status"], "done");
}

#[test]
fn images_that_are_none() {
    for (content, what) in [
        (b"only text\n".to_vec(), "text"),
        (b"<html></html>".to_vec(), "a page"),
        (b"PK\x03\x04 a zip".to_vec(), "an archive"),
    ] {
        let site = Site::new();
        site.put("bad.png", content);
        let error = refuses_only(&site, entry("bad", 3, "bad.png"));
        assert_eq!(error["path"], "bad.png", "{what}");
    }
    let site = Site::impatient();
    site.put("bad.png", "");
    let error = refuses_only_in_the_end(&site, entry("bad", 3, "bad.png"));
    assert_eq!(error["path"], "bad.png", "empty");
}

#[test]
fn checks_that_do_not_hold() {
    let content = image(Format::Png, 50);
    for (field, value) in [("sha256", json!(sha256(b"other"))), ("bytes", json!(content.len() + 1))] {
        let site = Site::impatient();
        site.put("bad.png", &content);
        let mut bad = entry("bad", 3, "bad.png");
        bad["images"][0][field] = value;
        let error = refuses_only_in_the_end(&site, bad);
        assert!(error["field"].as_str().is_some_and(|found| found.contains(field)), "{error}");
    }
}

#[test]
fn entries_that_make_no_sense() {
    let good = || entry("bad", 3, "bad.png");
    let with = |field: &str, value: Value| {
        let mut bad = good();
        bad[field] = value;
        bad
    };
    let mut bare = good();
    bare["images"][0]["image_type"] = json!("SIDE");
    let mut no_profile = good();
    no_profile.as_object_mut().unwrap().remove("profile_id");
    for (bad, field) in [
        (with("profile_id", json!("../../etc")), "profile_id"),
        (no_profile, "profile_id"),
        (with("category", json!("proof of identity")), "category"),
        (with("document_type", json!("")), "document_type"),
        (with("category", json!(7)), "category"),
        (with("images", json!([])), "images"),
        (with("images", json!("bad.png")), "images"),
        (with("extracted_data", json!([1])), "extracted_data"),
        (with("reference", json!("")), "reference"),
        (with("reference", json!({})), "reference"),
        (bare, "image_type"),
    ] {
        let site = Site::new();
        site.put("bad.png", image(Format::Png, 50));
        let error = refuses_only(&site, bad.clone());
        assert!(error["field"].as_str().is_some_and(|found| found.contains(field)), "{bad} gave {error}");
    }
}

#[test]
fn an_unknown_field_names_the_nearest_known_one() {
    let site = Site::new();
    site.put("bad.png", image(Format::Png, 50));
    let mut bad = entry("bad", 3, "bad.png");
    bad["documnet_type"] = json!("PASSPORT");
    let error = refuses_only(&site, bad);
    assert!(error.to_string().contains("document_type"), "{error}");
}

/// Drops a manifest that cannot be used at all, beside a good one.
#[track_caller]
fn rejects_manifest(name: &str, manifest: impl AsRef<[u8]>) -> Value {
    let site = Site::new();
    put_beside_a_good_one(&site, name, manifest);
    let finished = site.run_once().expect(1);
    rejected_manifest(&site, name, &finished)
}

/// The same for one that may only be under way: it is waited for, and then rejected.
#[track_caller]
fn rejects_manifest_in_the_end(name: &str, manifest: impl AsRef<[u8]>) -> Value {
    let site = Site::impatient();
    put_beside_a_good_one(&site, name, manifest);
    let finished = site.run_until_given_up().expect(1);
    rejected_manifest(&site, name, &finished)
}

fn put_beside_a_good_one(site: &Site, name: &str, manifest: impl AsRef<[u8]>) {
    site.put("good.png", image(Format::Png, 1));
    site.put_documents("good.manifest.json", &[entry("good", 1, "good.png")]);
    site.put("bad.png", image(Format::Png, 2));
    site.put(name, manifest);
}

#[track_caller]
fn rejected_manifest(site: &Site, name: &str, finished: &Finished) -> Value {
    assert!(finished.stderr.len() < 20_000, "the log does not repeat what was sent: {} bytes", finished.stderr.len());
    assert_eq!(site.receipt("good.manifest.json")["status"], "done");
    let receipt = site.receipt(name);
    assert_eq!(site.summary().documents, 1);
    assert!(site.moved_to("failed").contains(&name.to_owned()), "{:?}", site.files());
    let text = receipt.to_string();
    assert!(text.contains("\"reason\"") && text.contains("\"cure\""), "{text:.500}");
    assert!(text.len() < 50_000, "the receipt does not repeat what was sent: {} bytes", text.len());
    receipt
}

#[test]
fn manifests_that_are_none() {
    for text in ["null", "[]", "7", "\u{0}\u{0}", "{}", "{\"version\":1}", "{\"version\":1,\"documents\":7}"] {
        let receipt = rejects_manifest("bad.manifest.json", text);
        assert!(receipt["status"] == "rejected" || receipt["status"] == "failed", "{text:?}: {receipt}");
    }
    for text in ["", " \n", "{"] {
        let receipt = rejects_manifest_in_the_end("bad.manifest.json", text);
        assert!(receipt["status"] == "rejected" || receipt["status"] == "failed", "{text:?}: {receipt}");
    }
    rejects_manifest("bad.manifest.json", [0xFF, 0xFE, 0x00, 0x7B]);
}

#[test]
fn manifests_of_another_version() {
    for version in ["2", "0", "\"1\"", "-1", "null"] {
        let text = format!("{{\"version\":{version},\"documents\":[{}]}}", entry("x", 1, "bad.png"));
        let receipt = rejects_manifest("bad.manifest.json", text);
        assert!(receipt["errors"].to_string().contains("version"), "{version}: {receipt}");
    }
}

#[test]
fn manifests_too_deep_to_read() {
    let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    rejects_manifest("bad.manifest.json", deep(5000));
    let mut text = entry("x", 1, "bad.png").to_string();
    text.truncate(text.len() - 1);
    let text = format!("{{\"version\":1,\"documents\":[{text},\"extracted_data\":{{\"a\":{}}}}}]}}", deep(5000));
    rejects_manifest("bad.manifest.json", text);
}

#[test]
fn a_million_elements_and_a_huge_text() {
    let images = vec![r#"{"path":"bad.png"}"#; 1_000_000].join(",");
    let document = |images: &str, reference: &str| {
        format!(
            "{{\"version\":1,\"documents\":[{{\"profile_id\":\"{}\",\"category\":\"SUPPORTING\",\"document_type\":\
             \"PASSPORT\",\"reference\":\"{reference}\",\"images\":[{images}]}}]}}",
            profile(1)
        )
    };
    rejects_manifest("bad.manifest.json", document(&images, "x"));
    rejects_manifest("bad.manifest.json", document(r#"{"path":"bad.png"}"#, &"x".repeat(5_000_000)));
}

#[test]
fn duplicate_keys() {
    let text = entry("x", 1, "bad.png").to_string().replacen('{', "{\"category\":\"SUPPORTING\",", 1);
    let receipt = rejects_manifest("bad.manifest.json", format!("{{\"version\":1,\"documents\":[{text}]}}"));
    assert!(receipt.to_string().contains("category"), "{receipt}");
}

#[test]
fn an_unknown_key_at_the_top_names_the_nearest() {
    let text = format!("{{\"version\":1,\"documnets\":[{}]}}", entry("x", 1, "bad.png"));
    let receipt = rejects_manifest("bad.manifest.json", text);
    assert!(receipt["errors"][0]["cure"].to_string().contains("documents"), "{receipt}");
}

#[test]
fn one_bad_line_of_many_is_named_and_the_others_continue() {
    let site = Site::new();
    site.put("a.png", image(Format::Png, 1));
    site.put("b.png", image(Format::Png, 2));
    let lines = [entry("a", 1, "a.png").to_string(), "{ not json".to_owned(), entry("b", 2, "b.png").to_string()];
    site.put("x.manifest.jsonl", lines.join("\n"));
    site.run_once().expect(1);
    let receipt = site.receipt("x.manifest.jsonl");
    assert_eq!(receipt["counts"]["created"], 2, "{receipt}");
    assert_eq!(receipt["entries"][1]["status"], "invalid", "{receipt}");
    assert!(receipt["entries"][1]["errors"][0]["reason"].as_str().is_some_and(|reason| reason.contains("JSON")));
}

#[test]
fn csv_that_is_broken_is_named() {
    for (csv, said) in [
        ("path\na.png\n".to_owned(), "profile_id"),
        (format!("profile_id,path,refrence\n{},bad.png,r\n", profile(1)), "if reference is meant"),
        ("profile_id,path,path\n".to_owned(), "path"),
    ] {
        let receipt = rejects_manifest("bad.manifest.csv", &csv);
        assert!(receipt.to_string().contains(said), "{csv:?}: {receipt}");
    }
    let receipt = rejects_manifest_in_the_end("bad.manifest.csv", "");
    assert!(receipt.to_string().contains("header"), "{receipt}");
}

#[test]
fn a_manifest_with_a_strange_name_is_taken_all_the_same() {
    let site = Site::new();
    for (number, name) in
        (1..).zip(["with space.manifest.json", "ümläut.manifest.json", "-rf.manifest.json", "'\";$(x).manifest.json"])
    {
        let picture = format!("{number} #?%.png");
        site.put(&picture, image(Format::Png, number));
        site.put_documents(name, &[entry(name, number, &picture)]);
    }
    site.run_once().expect(0);
    assert_eq!(site.summary().documents, 4);
    assert_eq!(site.left(), Vec::<String>::new());
}

#[test]
fn names_that_would_move_a_terminals_cursor_are_written_as_escapes_everywhere() {
    let site = Site::new();
    let name = "a\u{1b}[2J\u{9b}31m\u{202e}.manifest.json";
    site.put(name, "{}");
    site.put("a.png", image(Format::Png, 1));
    let mut document = entry("=cmd|' /C calc'!A0\u{202e}", 1, "a.png");
    document["images"][0]["path"] = json!("a\u{1b}]0;x\u{7}.png");
    site.put_documents("b.manifest.json", &[document, entry("=1+1", 2, "a.png")]);
    site.run_once();
    let (whole, odd) = (site.in_drop(name), "a\u{1b}]0;x\u{7}.png");
    let path = whole.to_str().unwrap();
    for arguments in [
        &["status"][..],
        &["jobs"],
        &["jobs", "--csv"],
        &["export"],
        &["why", path],
        &["why", odd],
        &["check", "drop"],
        &["check", path],
        &["import", path],
        &["-v", "run", "--once"],
    ] {
        let finished = site.run(arguments);
        let said = format!("{}{}", finished.stdout, finished.stderr);
        let hostile = |letter: char| letter.is_control() && letter != '\n' && letter != '\t' || letter == '\u{202e}';
        let line = said.lines().find(|line| line.contains(hostile));
        // CSV is data, and a reference stands in it as the sender wrote it; a terminal is no reader of it.
        let is_data = arguments.contains(&"--csv") || arguments == ["export"];
        assert!(line.is_none_or(|line| is_data && !line.contains('\u{1b}')), "{arguments:?}: {line:?}");
        assert!(!said.contains(",=1+1") && !said.contains("\n=1+1"), "{arguments:?}: {said}");
    }
}

/// The API's words kept characters that cannot be seen, which what commands print had escaped.
#[test]
fn hostile_characters_of_the_api_and_of_a_reference_are_shown_as_escapes() {
    let site = Site::new();
    let words = "no\u{1b}[2J\u{9b}\u{202e}\u{200b}\u{2066}\n";
    let api = site.answer_everything(&json!({ "errors": { "code": 201, "message": words }, "id": null }));
    site.use_api_at(api);
    site.put("a.png", image(Format::Png, 1));
    site.put_documents("a\u{2067}.manifest.json", &[entry("evil\u{202e}\u{feff}", 1, "a.png")]);
    site.run_once().expect(1);

    let escaped = r"no\u{1b}[2J\u{9b}\u{202e}\u{200b}\u{2066}";
    let receipt = site.receipt("a\u{2067}.manifest.json");
    let reason = receipt["entries"][0]["errors"][0]["reason"].as_str().unwrap();
    assert!(reason.contains(escaped), "{reason}");
    let (name, reference) = (r"a\u{2067}.manifest.json", r"evil\u{202e}\u{feff}");
    for (arguments, shown) in [
        (&["show", "1"][..], &[escaped, name, reference][..]),
        (&["why", "drop/a\u{2067}.manifest.json"], &[name]),
        (&["why", "drop/a.png"], &[escaped, name]),
        (&["jobs"], &[reference]),
        (&["status"], &[]),
    ] {
        let finished = shown.iter().fold(site.run(arguments).expect(0), |finished, text| finished.says(text));
        let said = format!("{}{}", finished.stdout, finished.stderr);
        let hidden = ['\u{1b}', '\u{9b}', '\u{202e}', '\u{200b}', '\u{2066}', '\u{2067}', '\u{feff}'];
        assert!(!said.contains(hidden), "{arguments:?}: {said:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn names_that_are_no_utf8_are_left_alone_and_stop_nothing() {
    use std::os::unix::ffi::OsStrExt;
    let site = Site::new();
    let name = std::ffi::OsStr::from_bytes(b"\xFF\xFE.manifest.json");
    fs::write(site.at("drop").join(name), "{}").unwrap();
    site.put("a.png", image(Format::Png, 1));
    site.put_documents("a.manifest.json", &[entry("a", 1, "a.png")]);
    site.run_once();
    assert_eq!(site.receipt("a.manifest.json")["status"], "done");
}

/// Takes a manifest with a bad entry beside a good one.
///
/// The receipt was written, but what cannot be opened as a file could not be moved either, so that the manifest was never
/// archived.
#[track_caller]
fn settles_beside(site: &Site, path: &str) {
    site.put("good.png", image(Format::Png, 1));
    site.put_documents("a.manifest.json", &[entry("bad", 2, path), entry("good", 1, "good.png")]);
    site.run_once().expect(1);
    let receipt = site.receipt("a.manifest.json");
    assert_eq!(receipt["counts"]["created"], 1, "{receipt}");
    assert_eq!(receipt["entries"][0]["errors"][0]["path"], path, "{receipt}");
    assert!(site.moved_to("failed").contains(&"a.manifest.json".to_owned()), "{:?}", site.files());
}

#[test]
fn a_link_as_an_image_does_not_keep_its_manifest_from_being_settled() {
    let site = Site::new();
    symlink("/etc/passwd", site.in_drop("link.png")).unwrap();
    settles_beside(&site, "link.png");
    assert!(fs::read("/etc/passwd").is_ok());
}

#[test]
fn a_file_behind_a_linked_folder_does_not_keep_its_manifest_from_being_settled() {
    let site = Site::new();
    site.write("outside/secret.png", image(Format::Png, 99));
    symlink(site.at("outside"), site.in_drop("folder")).unwrap();
    settles_beside(&site, "folder/secret.png");
    assert!(site.at("outside/secret.png").exists());
}

#[test]
fn a_pipe_as_an_image_does_not_keep_its_manifest_from_being_settled() {
    let site = Site::new();
    assert!(Command::new("mkfifo").arg(site.in_drop("pipe.png")).status().unwrap().success());
    settles_beside(&site, "pipe.png");
}

#[test]
fn a_folder_as_an_image_does_not_keep_its_manifest_from_being_settled() {
    let site = Site::new();
    site.put("folder/inner.png", image(Format::Png, 98));
    settles_beside(&site, "folder");
}

/// The lines were counted without the empty ones.
#[test]
fn a_line_that_cannot_be_read_is_named_by_its_number() {
    let site = Site::new();
    site.put("a.png", image(Format::Png, 1));
    let lines = [entry("a", 1, "a.png").to_string(), String::new(), "{ not json".to_owned()];
    site.put("x.manifest.jsonl", lines.join("\n"));
    site.run_once().expect(1);
    let receipt = site.receipt("x.manifest.jsonl");
    let bad: &Value = &receipt["entries"][1];
    assert!(bad.to_string().contains("line 3"), "the empty line makes it the third, not the second: {receipt}");
}

/// A manifest with a control character in its name waited without a word.
#[test]
fn a_manifest_that_nothing_can_refer_to_gets_a_receipt_under_an_escaped_name_once() {
    use std::os::unix::ffi::OsStrExt as _;

    let site = Site::new();
    site.put("a.png", image(Format::Png, 1));
    let text = json!({ "version": 1, "documents": [entry("a", 1, "a.png")] }).to_string();
    for name in ["esc\x1b[2J\u{202e}.manifest.json".as_bytes(), b"latin-\xe9.manifest.json".as_slice()] {
        fs::write(site.in_drop("").join(std::ffi::OsStr::from_bytes(name)), &text).unwrap();
    }
    for _ in 0..2 {
        site.run_once();
        for escaped in ["esc%1B[2J%E2%80%AE.manifest.json", "latin-%E9.manifest.json"] {
            let receipt = site.receipt(escaped);
            assert_eq!(receipt["status"], "rejected", "{receipt}");
            assert!(receipt["errors"].to_string().contains("name"), "{receipt}");
        }
    }
    let why = site.run(&["why", "esc\x1b[2J\u{202e}.manifest.json"]).expect(0).stdout;
    assert!(
        why.contains("because of its name") && why.contains("esc%1B[2J%E2%80%AE.manifest.json.receipt.json"),
        "{why}"
    );
    assert_eq!(site.summary().documents, 0);
}
