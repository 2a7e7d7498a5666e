//! `check`: everything that is wrong, at once, with no network and no queue; and no more than the import refuses.

use std::process::Stdio;

use serde_json::{Value, json};

use passfort_ingest::sandbox::ApiCall;

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
    site.put("b.manifest.csv", format!("profile_id,path\n{},good.png\nnobody,good.png\n", profile(5)));
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

#[test]
fn a_manifest_with_too_many_bad_entries_is_refused_as_a_whole() {
    let site = site_with(&[("good.manifest.jsonl", &line("g", "17/a.pdf"))]);
    let config = |max: u64| {
        let path = site.at("drop");
        format!("[[drop]]\nname = \"partner-a\"\npath = \"{}\"\nmax_invalid = {max}\n", path.display())
    };
    site.put("config.toml", config(3));
    let check = |name: &str| {
        let ran = check(&site, &["--config=config.toml", "--drop=partner-a", "--json", name]).expect(1);
        objects(&ran).remove(0)
    };
    let codes = |object: &Value| -> Vec<Value> {
        object["problems"].as_array().unwrap().iter().map(|problem| problem["code"].clone()).collect()
    };
    // Bad as they are written: nothing but why is said, however many there are.
    site.put("a.manifest.jsonl", "{}\n".repeat(5000));
    let object = check("a.manifest.jsonl");
    assert_eq!((&object["status"], &object["invalid"]), (&"unusable".into(), &0.into()), "{object}");
    assert_eq!(codes(&object)[0], "too-many-invalid", "{object}");
    assert!(codes(&object).len() < 20, "{object}");
    let reason = object["problems"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("4 of the 4 entries read are bad, so it is refused as a whole"), "{reason}");
    // Bad by their files.
    let bad: String = (0..50).map(|number| line(&number.to_string(), "17/missing.pdf")).collect();
    site.put("b.manifest.jsonl", &bad);
    let object = check("b.manifest.jsonl");
    assert_eq!((&object["status"], &object["entries"]), (&"unusable".into(), &4.into()), "{object}");
    assert!(codes(&object).contains(&"too-many-invalid".into()), "{object}");
    // As many as may be, or not more than half.
    site.put("config.toml", config(50));
    assert_eq!(check("b.manifest.jsonl")["status"], "problems");
    site.put("config.toml", config(3));
    let good: String = (0..6).map(|number| line(&format!("g{number}"), "17/a.pdf")).collect();
    let half: String = (0..6).map(|number| line(&number.to_string(), "17/missing.pdf")).collect();
    site.put("c.manifest.jsonl", good + &half);
    assert_eq!(check("c.manifest.jsonl")["status"], "problems");
}

#[test]
fn csv_has_a_row_for_each_problem_and_nothing_else() {
    let site = site_with(&[
        ("1.manifest.jsonl", &(line("a", "17/a.pdf") + &line("b", "17/missing.pdf"))),
        ("2.manifest.json", "{"),
    ]);
    let ran = check(&site, &["--csv", "."]).expect(1);
    let mut reader = csv::Reader::from_reader(ran.stdout.as_bytes());
    let rows: Vec<std::collections::HashMap<String, String>> = reader.deserialize().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 2, "{}", ran.stdout);
    let cell = |row: usize, column: &str| rows[row][column].clone();
    assert!(cell(0, "manifest").ends_with("/1.manifest.jsonl"), "{rows:?}");
    assert_eq!((cell(0, "index"), cell(0, "line"), cell(0, "reference")), ("1".into(), "2".into(), "b".into()));
    assert_eq!((cell(0, "severity"), cell(0, "field")), ("error".into(), "images[0].path".into()));
    assert_eq!(cell(0, "path"), "17/missing.pdf");
    assert!(!cell(0, "reason").is_empty() && !cell(0, "cure").is_empty(), "{rows:?}");
    assert_eq!((cell(1, "index"), cell(1, "severity")), (String::new(), "error".into()));
    assert!(ran.stderr.contains("2 manifests (1 unusable)"), "{}", ran.stderr);
    check(&site, &["--csv", "--json", "."]).expect(2);
}

/// It counted the good entries of a manifest of which nothing would be taken.
#[test]
fn where_the_drop_takes_all_or_nothing_one_bad_entry_refuses_the_manifest() {
    let site = site_with(&[("good.manifest.jsonl", &line("g", "17/b.pdf"))]);
    let lines = line("a", "17/a.pdf") + &line("b", "17/note.jpg") + &line("c", "17/missing.pdf");
    site.put("bad.manifest.jsonl", lines);
    let config = |on_invalid: &str| {
        let path = site.at("drop");
        let config = format!("[[drop]]\nname = 'a'\npath = '{}'\non_invalid = '{on_invalid}'\n", path.display());
        site.write("check.toml", config);
    };
    let check = |form: &[&str]| {
        let options = ["--config=../check.toml", "--drop=a", "good.manifest.jsonl", "bad.manifest.jsonl"];
        check(&site, &[&options, form].concat()).expect(1)
    };
    config("reject");
    let manifests = objects(&check(&["--json"]));
    assert_eq!((&manifests[0]["status"], &manifests[1]["status"]), (&json!("unusable"), &json!("ok")));
    let problems = manifests[0]["problems"].as_array().unwrap();
    let of_all: Vec<&Value> = problems.iter().filter(|problem| problem["code"] == "all-or-nothing").collect();
    assert_eq!((problems.len(), of_all.len()), (3, 1), "{problems:#?}");
    assert!(of_all[0]["index"].is_null() && of_all[0]["reason"].as_str().unwrap().starts_with("2 of its 3 entries"));
    let said = check(&[]).stdout;
    assert!(said.contains("no entry of it would be taken") && said.contains("all or nothing"), "{said}");
    // The receipt says the same.
    let receipt = {
        let site = crate::support::Builder { drop: "on_invalid = 'reject'".to_owned(), ..Default::default() }.build();
        site.put("17/a.pdf", image(Format::Pdf, 1));
        site.put("17/note.jpg", "not a picture, and long enough to be seen for what it is\n");
        site.put("bad.manifest.jsonl", line("a", "17/a.pdf") + &line("b", "17/note.jpg"));
        site.run_once().expect(1);
        site.receipt("bad.manifest.jsonl")
    };
    assert_eq!((&receipt["status"], &receipt["errors"][0]["code"]), (&json!("rejected"), &json!("all-or-nothing")));
    config("skip");
    assert_eq!(objects(&check(&["--json"]))[0]["status"], "problems");
}

#[test]
fn many_of_one_cause_are_said_once_with_three_examples() {
    let rows: String = (0..500).map(|number| line(&format!("r{number}"), &format!("17/gone{number}.pdf"))).collect();
    let site = site_with(&[("x.manifest.jsonl", &(line("a", "17/a.pdf") + &rows))]);
    let said = check(&site, &["x.manifest.jsonl"]).expect(1).stdout;
    assert!(said.contains("500 errors of this cause: there is no such file"), "{said}");
    assert_eq!(said.matches("there is no such file").count(), 4, "{said}");
    assert_eq!(said.matches("cure: send the file").count(), 1, "{said}");
    assert!(said.contains("index 1, line 2, r0: ") && !said.contains("index 4, line 5"), "{said}");
    let all = check(&site, &["x.manifest.jsonl", "--all"]).expect(1).stdout;
    assert_eq!(all.matches("error: index ").count(), 500, "{all}");
    let object = objects(&check(&site, &["x.manifest.jsonl", "--json"]).expect(1)).remove(0);
    assert_eq!(object["problems"].as_array().unwrap().len(), 500);
    let cause = &object["causes"][0];
    assert_eq!((&cause["count"], &cause["code"]), (&500.into(), &"no-such-file".into()), "{cause}");
    assert_eq!(cause["examples"].as_array().unwrap().len(), 3, "{cause}");
    check(&site, &["x.manifest.jsonl", "--all", "--json"]).expect(2);
}

#[test]
fn what_no_entry_names_what_is_named_twice_and_what_is_missing_are_counted() {
    let text = line("a", "17/a.pdf") + &line("b", "17/a.pdf") + &line("c", "17/gone.pdf") + &line("d", "17/note.jpg");
    let site = site_with(&[("x.manifest.jsonl", &text), ("scan/left.png", "x")]);
    let said = check(&site, &["."]).expect(1).stdout;
    assert!(
        said.contains("Files: named 4 times, 3 different, 1 repeats; 1 of them are missing\n  17/a.pdf\n"),
        "{said}"
    );
    assert!(said.contains("In the folders: 2 files that are named, 2 that no entry names\n"), "{said}");
    for left in ["17/b.pdf", "scan/left.png"] {
        assert!(said.contains(left), "{left}: {said}");
    }
    // A manifest alone says nothing of its folder.
    let said = check(&site, &["x.manifest.jsonl"]).expect(1).stdout;
    assert!(said.contains("1 of them are missing") && !said.contains("In the folders"), "{said}");
    // Images in another folder: what is there counts.
    site.write("manifests/x.manifest.jsonl", text);
    let said = check(&site, &["../manifests", "--root", "."]).expect(1).stdout;
    assert!(said.contains("In the folders: 2 files that are named, 2 that no entry names\n"), "{said}");
}

#[test]
fn online_the_api_is_asked_once_for_each_profile_and_only_by_reads() {
    let mut site = Site::new();
    for number in 1..=3 {
        site.write(&format!("in/{number}.png"), image(Format::Png, number));
    }
    let manifest = |entries: &[Value]| json!({ "version": 1, "documents": entries }).to_string();
    site.write("first/1.png", image(Format::Png, 1));
    site.write("first/a.manifest.json", manifest(&[entry("old", 1, "1.png")]));
    site.run(&["import", "first", "--receipts-to", "said"]).expect(0);
    let calls = site.ledger().len();
    let entries = [entry("a", 1, "1.png"), entry("b", 2, "2.png"), entry("c", 2, "3.png"), entry("gone", 3, "no.png")];
    site.write("in/b.manifest.json", manifest(&entries));
    let fault = format!("read_documents=status-before:404,profile={}", profile(2));
    site.faults(&[&fault]);
    let ran = site.run(&["check", "in", "--online", "--json"]).expect(1);
    let objects = objects(&ran);
    assert_eq!((objects.len(), &objects[1]["profiles"], &objects[1]["ended"]), (2, &2.into(), &Value::Null), "{ran:?}");
    let problems = objects[1]["problems"].as_array().unwrap();
    let of = |code: &str| -> Vec<Value> {
        let fitting = problems.iter().filter(|problem| problem["code"] == code);
        fitting.map(|problem| problem["reference"].clone()).collect()
    };
    assert_eq!(of("document-exists"), [json!("a")], "{problems:#?}");
    assert_eq!(of("profile-not-given"), [json!("b"), json!("c")], "{problems:#?}");
    let asked = site.ledger();
    let asked: Vec<_> = asked.iter().skip(calls).filter(|call| call.operation != ApiCall::Whoami).collect();
    assert!(asked.iter().all(|call| call.operation == ApiCall::ReadDocuments), "{asked:?}");
    assert_eq!(site.documents().len(), 1);
    let said = site.run(&["check", "in", "--online"]).expect(1).stdout;
    assert!(said.contains("already has a document") && said.contains("2 profiles were read"), "{said}");
    // An archive by its layout, too.
    site.write("in/list.csv", format!("Ref;Profile;File\na;{};1.png\nb;{};2.png\n", profile(1), profile(2)));
    let layout = "version = 1\n[source]\ncsv = \"list.csv\"\n[document]\nreference = \"{Ref}\"\nprofile_id = \"{Profile}\"\n\
                  kind = \"PROOF_OF_IDENTITY/PASSPORT\"\nimages = [{ path = \"{File}\" }]\n";
    site.write("in.toml", layout);
    let said = site.run(&["check", "in", "--layout", "in.toml", "--online"]).expect(1).stdout;
    for words in
        ["document-exists: profile_id: the profile already has a document", "row 2", "profile-not-given", "2 profiles"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    site.use_key("wrong");
    site.run(&["check", "in", "--online"]).expect(4);
}
