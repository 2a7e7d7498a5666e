//! `check`: everything that is wrong, at once, with no network and no queue; and no more than the import refuses.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{Finished, Format, Site, entry, image, profile};

/// A site whose drop holds two good files, one that is no image, and these.
fn site_with(files: &[(&str, &str)]) -> Site {
    let site = Site::new();
    site.put("17/a.pdf", image(Format::Pdf, 1));
    site.put("17/b.pdf", image(Format::Pdf, 2));
    site.put("17/note.jpg", "not a picture\n");
    for (name, content) in files {
        site.put(name, content);
    }
    site
}

/// Checks with no configuration, in the drop.
fn check(site: &Site, arguments: &[&str]) -> Finished {
    site.finish(site.bare_command("drop", &[&["check"], arguments].concat()))
}

/// The objects of `--json`, one for each manifest.
fn objects(finished: &Finished) -> Vec<Value> {
    finished.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A line of JSON Lines for a document of one image.
fn line(reference: &str, path: &str) -> String {
    format!("{}\n", entry(reference, 1, path))
}

/// A manifest of each format, with this path for its second entry.
fn each_format(path: &str) -> [(&'static str, String); 3] {
    let (first, second) = (line("a", "17/a.pdf"), line("b", path));
    let json = format!("{{\"version\":1,\"documents\":[\n{first},{second}]}}");
    let profile = profile(1);
    let csv = format!(
        "profile_id;reference;category;document_type;path\n{profile};a;SUPPORTING;UNKNOWN;17/a.pdf\n\
         {profile};b;SUPPORTING;UNKNOWN;{path}\n"
    );
    [("x.manifest.json", json), ("x.manifest.jsonl", first + &second), ("x.manifest.csv", csv)]
}

#[test]
fn good_ones_are_good_and_nothing_is_sent_or_queued() {
    let site = Site::new();
    site.put("a.png", image(Format::Png, 1));
    site.put_documents("a.manifest.json", &[entry("a", 1, "a.png")]);
    site.run(&["check", "drop"]).expect(0);
    assert!(site.ledger().is_empty());
    assert!(!site.at("state/queue.db").exists());
    assert_eq!(site.left(), ["a.manifest.json", "a.png"]);
}

#[test]
fn everything_that_is_wrong_is_reported_at_once_with_its_place_and_cure() {
    let site = Site::new();
    site.put("text.png", "no image at all");
    site.put("good.png", image(Format::Png, 1));
    let mut misspelt = entry("c", 3, "good.png");
    misspelt["document_tpye"] = json!("PASSPORT");
    site.put_documents(
        "a.manifest.json",
        &[
            entry("a", 1, "text.png"),
            entry("b", 2, "missing.png"),
            misspelt,
            entry("d", 4, "../outside.png"),
            entry("e", 5, "good.png"),
        ],
    );
    site.put("b.manifest.csv", format!("profile_id,path\n{},good.png\nnobody,good.png\n", profile(1)));
    site.put("c.manifest.json", "{");

    let finished = site.run(&["check", "drop", "--json"]).expect(1);
    let lines: Vec<Value> = finished.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3, "a line for each manifest");
    let of = |name: &str| lines.iter().find(|line| line["manifest"].as_str().unwrap().ends_with(name)).unwrap();
    let wrong: Vec<u64> = of("a.manifest.json")["problems"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|problem| problem["severity"] != "warning")
        .map(|problem| {
            assert!(problem["reason"].is_string() && problem["cure"].is_string(), "{problem}");
            assert!(problem["field"].is_string() || problem["path"].is_string(), "{problem}");
            problem["index"].as_u64().unwrap()
        })
        .collect();
    assert_eq!(wrong, [0, 1, 2, 3]);
    assert!(of("b.manifest.csv")["problems"].to_string().contains("3"), "the row is named: {finished:?}");
    assert_eq!(of("c.manifest.json")["status"], "unusable");

    let text = site.run(&["check", "drop"]).expect(1).says("text.png").says("missing.png").says("document_type");
    assert!(!text.stdout.contains("good.png:"), "what is good is not complained of: {}", text.stdout);
    site.run(&["check", "nowhere"]).expect(2).says("nowhere");
    assert!(site.ledger().is_empty());
}

#[test]
fn an_unknown_kind_of_document_is_a_warning_with_the_nearest_known_one() {
    let site = Site::new();
    site.put("a.png", image(Format::Png, 1));
    let mut unusual = entry("a", 1, "a.png");
    unusual["document_type"] = json!("DRIVING_LICENSE");
    site.put_documents("a.manifest.json", &[unusual]);
    site.run(&["check", "drop"]).expect(0).says("DRIVING_LICENCE");
    site.run_once().expect(0);
    assert_eq!(site.documents()[0].document_type, "DRIVING_LICENSE", "it is sent as it was written");
}

#[test]
fn a_good_manifest_of_each_format_is_good() {
    for (name, content) in each_format("17/b.pdf") {
        let site = site_with(&[(name, &content)]);
        let before = site.files();
        let out = check(&site, &[name]).expect(0).stdout;
        assert!(out.contains("ok: 2 entries: 2 good, 0 bad; the good ones have 2 images"), "{name}: {out}");
        assert_eq!(site.files(), before, "nothing is made or moved");
    }
}

#[test]
fn what_is_wrong_is_reported_with_place_reason_and_cure_in_each_format() {
    for (name, content) in each_format("17/note.jpg") {
        let site = site_with(&[(name, &content)]);
        let out = check(&site, &[name]).expect(1).stdout;
        let at = if name.ends_with(".jsonl") { 2 } else { 3 };
        let wanted = format!("error: index 1, line {at}, b: images[0].path: 17/note.jpg: ");
        assert!(out.contains(&wanted), "{wanted} is not in\n{out}");
        assert!(out.contains("plain text\n    cure: convert it"), "{out}");
        assert!(out.contains("1 manifest, 2 entries: 1 good, 1 bad"), "{out}");
    }
}

#[test]
fn several_manifests_are_checked_and_json_has_a_line_for_each() {
    let [json, _, csv] = each_format("17/missing.pdf");
    let site = site_with(&[
        ("1.manifest.json", "{\"version\": 1, "),
        ("2.manifest.json", &json.1.replace("\"a\"", "\"c\"")),
        ("3.manifest.csv", &csv.1.replace("17/missing.pdf", "17/b.pdf")),
    ]);
    let ran = check(&site, &["--json", "."]).expect(1);
    let objects = objects(&ran);
    let statuses: Vec<_> = objects.iter().map(|object| object["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["unusable", "problems", "ok"]);
    assert!(objects[0]["problems"][0]["reason"].is_string());
    let problem = &objects[1]["problems"][0];
    assert_eq!((&problem["index"], &problem["reference"]), (&1.into(), &"b".into()));
    assert_eq!((&problem["severity"], &problem["path"]), (&"error".into(), &"17/missing.pdf".into()));
    assert_eq!((&objects[1]["entries"], &objects[1]["invalid"]), (&2.into(), &1.into()));
    assert!(ran.stderr.contains("3 manifests (1 unusable), 4 entries: 3 good, 1 bad"), "{}", ran.stderr);
}

#[test]
fn a_reference_that_is_used_twice_is_found_across_manifests() {
    let mut replacing = entry("a", 1, "17/b.pdf");
    replacing["replace"] = true.into();
    let site = site_with(&[
        ("1.manifest.jsonl", &line("a", "17/a.pdf")),
        ("2.manifest.jsonl", &line("a", "17/b.pdf")),
        ("3.manifest.jsonl", &replacing.to_string()),
        ("4.manifest.jsonl", &line("a", "17/b.pdf")),
    ]);
    let objects = objects(&check(&site, &["--json", "."]).expect(1));
    let reason = |at: usize| objects[at]["problems"][0]["reason"].as_str().unwrap_or_default();
    assert_eq!(reason(0), "");
    assert!(reason(1).contains("1.manifest.jsonl has the same reference with other content"), "{}", reason(1));
    assert_eq!(reason(2), "");
    assert!(reason(3).contains("3.manifest.jsonl has the same reference and the same content"), "{}", reason(3));
    assert_eq!((&objects[3]["status"], &objects[3]["warnings"]), (&"ok".into(), &1.into()));
}

#[test]
fn images_may_start_from_another_folder() {
    let site = site_with(&[]);
    site.write("manifests/x.manifest.jsonl", line("a", "17/a.pdf"));
    check(&site, &["../manifests/x.manifest.jsonl"]).expect(1);
    check(&site, &["../manifests/x.manifest.jsonl", "--root", "."]).expect(0);
}

#[test]
fn a_drop_brings_its_rules() {
    let site = site_with(&[("x.manifest.jsonl", &line("a", "17/a.pdf"))]);
    let config = format!(
        "[[drop]]\nname = \"partner-a\"\npath = \"{}\"\nprofiles = [\"00000000-0000-4000-8000-000000000000\"]\n",
        site.at("drop").display()
    );
    site.put("config.toml", config);
    check(&site, &["--config=config.toml", "x.manifest.jsonl"]).expect(0);
    let ran = check(&site, &["--config=config.toml", "x.manifest.jsonl", "--drop=partner-a"]).expect(1);
    assert!(ran.stdout.contains("profile_id: this drop may not write to this profile"), "{}", ran.stdout);
    let ran = check(&site, &["--config=config.toml", "x.manifest.jsonl", "--drop=partner-b"]).expect(2);
    assert!(ran.stderr.contains("did you mean \"partner-a\"?"), "{}", ran.stderr);
}

#[test]
fn arguments_that_make_no_sense_end_it_before_anything_is_checked() {
    let site = site_with(&[("x.manifest.jsonl", &line("a", "17/a.pdf"))]);
    for arguments in [
        &["nowhere.manifest.json"][..],
        &["17"],
        &["x.manifest.jsonl", "--root=nowhere"],
        &["x.manifest.jsonl", "--config=nowhere.toml"],
        &["x.manifest.jsonl", "--drop=partner-a"],
        &[],
    ] {
        let ran = check(&site, arguments).expect(2);
        assert_eq!(ran.stdout, "", "{arguments:?}: {}", ran.stderr);
    }
}

#[test]
fn a_closed_standard_output_does_not_hide_that_something_is_wrong() {
    let [(name, content), ..] = each_format("17/note.jpg");
    let site = site_with(&[(name, &content)]);
    let mut command = site.bare_command("drop", &["check", name]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(1));
}
