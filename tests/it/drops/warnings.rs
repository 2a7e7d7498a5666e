//! Warnings: what can be sent and is probably not meant, in receipts, `show` and numbers, and as errors where refused.

use serde_json::{Value, json};

use crate::support::{Builder, Format, Site, entry, image, metrics, profile, read_receipt, value};

/// The kinds of an entry's warnings, or errors, in a receipt.
fn kinds<'a>(entry: &'a Value, list: &str) -> Vec<&'a str> {
    entry[list].as_array().into_iter().flatten().filter_map(|warning| warning["kind"].as_str()).collect()
}

fn with(mut document: Value, field: &str, value: Value) -> Value {
    document[field] = value;
    document
}

/// Drops documents, each with an image of its own, and gives the receipt's entries.
fn settled(site: &Site, manifest: &str, documents: &[Value], code: i32) -> Vec<Value> {
    for (number, document) in (0..).zip(documents) {
        for image_of in document["images"].as_array().unwrap() {
            site.put(image_of["path"].as_str().unwrap(), image(Format::Png, number));
        }
    }
    site.put_documents(manifest, documents);
    site.run_once().expect(code);
    site.receipt(manifest)["entries"].as_array().unwrap().clone()
}

#[test]
fn a_warning_stands_in_receipt_show_and_numbers_and_refuses_nothing() {
    let site = Site::new();
    let document = with(entry("d", 1, "a.png"), "document_type", "PASPORT".into());
    let entries = settled(&site, "a.manifest.json", &[document.clone(), entry("e", 2, "b.png")], 0);
    assert_eq!(entries[0]["status"], "created");
    assert!(entries[1].get("warnings").is_none());
    let warning = &entries[0]["warnings"][0];
    assert_eq!((&warning["kind"], &warning["field"]), (&"unknown-type".into(), &"document_type".into()));
    assert!(warning["reason"].as_str().unwrap().contains("PASPORT"), "{warning}");
    assert!(warning["cure"].as_str().unwrap().contains("PASSPORT"), "{warning}");

    let shown: Value = serde_json::from_str(&site.run(&["show", "1", "--json"]).stdout).unwrap();
    assert_eq!(shown["warnings"], entries[0]["warnings"]);
    let text = site.run(&["show", "1"]).stdout;
    assert!(text.contains("warning        unknown-type: document_type: \"PASPORT\" is not among"), "{text}");
}

#[test]
fn the_form_of_an_entry_tells_these_kinds() {
    let side = |path: &str, side: &str| json!({ "path": path, "image_type": side });
    let mut nameless = entry("", 4, "4.png");
    nameless.as_object_mut().unwrap().remove("reference");
    let documents = [
        nameless,
        with(entry("a", 1, ""), "images", json!([side("0.png", "BACK"), side("1.png", "FACE")])),
        with(entry("b", 2, "2.png"), "category", "PROOF_OF_IDENTITI".into()),
        entry("1.23457E+14", 3, "3.png"),
        with(entry("c", 5, ""), "images", json!([side("5.png", "BACK"), side("6.png", "FRONT")])),
    ];
    let wanted =
        [&["missing-reference"][..], &["back-without-front"], &["unknown-category"], &["spreadsheet-reference"], &[]];
    let lines = |documents: &[Value]| documents.iter().map(|document| format!("{document}\n")).collect::<String>();
    for (name, text) in [
        ("a.manifest.json", json!({ "version": 1, "documents": documents }).to_string()),
        ("a.manifest.jsonl", lines(&documents)),
    ] {
        let site = Site::new();
        for number in 0..7 {
            site.put(&format!("{number}.png"), image(Format::Png, number));
        }
        site.put(name, text);
        site.run_once().expect(0);
        let entries = site.receipt(name)["entries"].as_array().unwrap().clone();
        let found: Vec<_> = entries.iter().map(|entry| kinds(entry, "warnings")).collect();
        assert_eq!(found, wanted, "{name}");
    }

    // In CSV, an entry without a reference may stand before those that have one.
    let site = Site::new();
    let p = profile(1);
    let row =
        |reference: &str, path: &str, side: &str| format!("{p},{reference},PROOF_OF_IDENTITY,PASSPORT,{path},{side}\n");
    site.put("0.png", image(Format::Png, 0));
    site.put("1.png", image(Format::Png, 1));
    let rows = row("", "0.png", "BACK") + &row("\"=\"\"00017\"\"\"", "1.png", "FRONT");
    site.put("a.manifest.csv", format!("profile_id,reference,category,document_type,path,image_type\n{rows}"));
    site.run_once().expect(0);
    let entries = site.receipt("a.manifest.csv")["entries"].as_array().unwrap().clone();
    assert_eq!(kinds(&entries[0], "warnings"), ["back-without-front", "missing-reference"]);
    assert_eq!(kinds(&entries[1], "warnings"), ["spreadsheet-reference"]);
}

#[test]
fn where_no_entry_has_a_reference_none_is_missing() {
    let site = Site::new();
    let mut documents = [entry("", 1, "a.png"), entry("", 2, "b.png")];
    documents.iter_mut().for_each(|document| drop(document.as_object_mut().unwrap().remove("reference")));
    let entries = settled(&site, "a.manifest.json", &documents, 0);
    assert!(entries.iter().all(|entry| entry.get("warnings").is_none()), "{entries:?}");
}

#[test]
fn a_kind_that_is_refused_is_an_error_and_the_others_go_on() {
    let site = Builder { drop: "refuse_warnings = ['unknown-type']".to_owned(), ..Builder::default() }.build();
    let documents = [
        with(entry("a", 1, "a.png"), "document_type", "PASPORT".into()),
        with(entry("b", 2, "b.png"), "category", "PROOF_OF_IDENTITI".into()),
    ];
    let entries = settled(&site, "a.manifest.json", &documents, 1);
    assert_eq!((&entries[0]["status"], kinds(&entries[0], "errors")), (&"invalid".into(), vec!["unknown-type"]));
    assert_eq!((&entries[1]["status"], kinds(&entries[1], "warnings")), (&"created".into(), vec!["unknown-category"]));
    assert_eq!(site.summary().documents, 1);
}

#[test]
fn all_kinds_can_be_refused_and_an_unknown_one_is_an_error_of_the_configuration() {
    let site = Builder { drop: "refuse_warnings = 'all'".to_owned(), ..Builder::default() }.build();
    let documents = [with(entry("a", 1, "a.png"), "category", "PROOF_OF_IDENTITI".into())];
    assert_eq!(settled(&site, "a.manifest.json", &documents, 1)[0]["status"], "invalid");

    let site = Builder { drop: "refuse_warnings = ['shared-images']".to_owned(), ..Builder::default() }.build();
    let finished = site.run_once().expect(2);
    assert!(finished.stderr.contains("refuse_warnings[0]"), "{}", finished.stderr);
    assert!(finished.stderr.contains("shared-image is the nearest"), "{}", finished.stderr);
}

#[test]
fn import_and_check_refuse_the_kinds_that_they_are_told() {
    let site = Site::new();
    site.write("in/a.png", image(Format::Png, 1));
    let document = with(entry("a", 1, "a.png"), "document_type", "PASPORT".into());
    site.write("in/a.manifest.json", json!({ "version": 1, "documents": [document] }).to_string());

    let checked = site.run(&["check", "in", "--json"]).expect(0);
    let report: Value = serde_json::from_str(checked.stdout.lines().next().unwrap()).unwrap();
    assert_eq!((&report["problems"][0]["kind"], &report["warnings"]), (&"unknown-type".into(), &1.into()), "{report}");
    let text = site.run(&["check", "in"]).expect(0).stdout;
    assert!(text.contains("warning (unknown-type): index 0"), "{text}");

    let refusing = "--refuse-warnings=shared-image,unknown-type";
    let text = site.run(&["check", "in", refusing]).expect(1).stdout;
    assert!(text.contains("error (unknown-type): index 0"), "{text}");
    let finished = site.run(&["import", "in", "--refuse-warnings", "unknown-typ"]).expect(2);
    assert!(finished.stderr.contains("unknown-type is the nearest"), "{}", finished.stderr);
    site.run(&["import", "in", refusing]).expect(1);
    assert_eq!(site.summary().documents, 0);
    site.run(&["import", "in"]).expect(0);
    assert_eq!(site.summary().documents, 1);
}

/// What is odd about a list as a whole was said by `check` alone.
#[test]
fn a_warning_about_the_list_itself_stands_in_its_receipt_in_show_in_the_numbers_and_in_the_log() {
    let list = |more: &str| {
        format!("profile_id,reference,path,comment,\n{},r,a.png,by hand,\n{}{more}", profile(1), ",,,,\n".repeat(3))
    };
    let site = Builder { more: "[http]\nlisten = '127.0.0.1:0'".to_owned(), ..Builder::default() }.build();
    site.put("a.png", image(Format::Png, 1));
    site.put("a.manifest.csv", list("\0\0"));
    site.run_once().expect(0);
    let receipt = site.receipt("a.manifest.csv");
    assert_eq!(kinds(&receipt, "warnings"), ["unknown-column", "unknown-column", "list-padding"], "{receipt}");
    assert_eq!(receipt["warnings"][0]["reason"], "the column \"comment\" is not known and is passed over");
    assert_eq!(receipt["entries"][0].get("warnings"), None);
    site.run(&["show", "batch", "1"]).expect(0).says("unknown-column: the column \"comment\" is not known");
    let shown: Value = serde_json::from_str(&site.run(&["show", "batch", "1", "--json"]).stdout).unwrap();
    assert_eq!(shown["warnings"], receipt["warnings"]);
    let (daemon, page) = site.daemon_with_page();
    let numbers = metrics(page);
    for (kind, count) in [("unknown-column", 2.0), ("list-padding", 1.0)] {
        let series = format!("warnings_total{{drop=\"partner\",kind=\"{kind}\"}}");
        assert_eq!(value(&numbers, &series), count, "{numbers}");
    }
    daemon.terminate().expect(0);

    // An import, and a list that is admitted in parts.
    site.write("in/b.png", image(Format::Png, 2));
    let rows: String = (0..300).map(|number| format!("{},{number},b.png,\n", profile(2))).collect();
    site.write("in/b.manifest.csv", format!("profile_id,reference,path,comment\n{rows}"));
    site.run(&["import", "in"]).expect(0).says("warnings=1");
    let receipt = read_receipt(&site.at("in/receipts/b.manifest.csv.receipt.json"));
    assert_eq!(kinds(&receipt, "warnings"), ["unknown-column"], "{receipt}");

    // Refused, it refuses the list.
    let site = Builder { drop: "refuse_warnings = ['unknown-column']".to_owned(), ..Builder::default() }.build();
    site.put("a.png", image(Format::Png, 1));
    site.put("a.manifest.csv", list(""));
    site.run_once().expect(1);
    let receipt = site.receipt("a.manifest.csv");
    assert_eq!((&receipt["status"], site.summary().documents), (&"rejected".into(), 0));
    assert_eq!(kinds(&receipt, "errors"), ["unknown-column", "unknown-column"], "{receipt}");
}

/// A document of one image.
fn of(reference: &str, profile_number: u32, path: &str) -> Value {
    entry(reference, profile_number, path)
}

#[test]
fn one_image_for_two_profiles_is_a_warning_at_both_entries() {
    let site = Site::new();
    site.put("a.png", image(Format::Png, 1));
    site.put("b.png", image(Format::Png, 2));
    let documents = [of("1", 1, "a.png"), of("2", 2, "b.png"), of("3", 3, "a.png"), of("4", 2, "b.png")];
    site.put_documents("a.manifest.json", &documents);
    site.run_once().expect(0);
    let receipt = site.receipt("a.manifest.json");
    let found: Vec<_> = (0..4).map(|index| kinds(&receipt["entries"][index], "warnings")).collect();
    assert_eq!(found, [vec!["shared-image"], vec![], vec!["shared-image"], vec![]], "{receipt}");
    for (index, other) in [(2, "index 0"), (0, "index 2")] {
        let warning = &receipt["entries"][index]["warnings"][0];
        assert_eq!((&warning["field"], &warning["path"]), (&"images[0].path".into(), &"a.png".into()));
        assert!(warning["reason"].as_str().unwrap().contains(other), "{warning}");
    }

    // In a later manifest, of an import too; and not for what exists already.
    site.write("in/x.png", image(Format::Png, 2));
    site.write("in/b.manifest.jsonl", of("5", 5, "x.png").to_string());
    site.run(&["import", "in"]).expect(0);
    let path = site.at("in/receipts/b.manifest.jsonl.receipt.json");
    let entries = &read_receipt(&path)["entries"];
    assert_eq!(kinds(&entries[0], "warnings"), ["shared-image"]);
    let reason = entries[0]["warnings"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("job 2 ") && !reason.contains(&profile(2)), "{reason}");
    site.put("b.png", image(Format::Png, 2));
    site.put_documents("c.manifest.json", &[of("2", 2, "b.png")]);
    site.run_once().expect(0);
    let entry = &site.receipt("c.manifest.json")["entries"][0];
    assert_eq!((&entry["status"], entry.get("warnings")), (&"duplicate".into(), None));
}

#[test]
fn where_a_shared_image_is_refused_neither_profile_gets_it() {
    for import in [false, true] {
        let site = Builder { drop: "refuse_warnings = ['shared-image']".to_owned(), ..Builder::default() }.build();
        let lines: String = [of("1", 1, "a.png"), of("2", 2, "b.png"), of("3", 3, "a.png")]
            .iter()
            .map(|document| format!("{document}\n"))
            .collect();
        let receipt = if import {
            site.write("in/a.png", image(Format::Png, 1));
            site.write("in/b.png", image(Format::Png, 2));
            site.write("in/a.manifest.jsonl", lines);
            site.run(&["import", "in", "--refuse-warnings", "shared-image"]).expect(1);
            read_receipt(&site.at("in/receipts/a.manifest.jsonl.receipt.json"))
        } else {
            site.put("a.png", image(Format::Png, 1));
            site.put("b.png", image(Format::Png, 2));
            site.put("a.manifest.jsonl", lines);
            site.run_once().expect(1);
            site.receipt("a.manifest.jsonl")
        };
        let statuses: Vec<_> = (0..3).map(|index| receipt["entries"][index]["status"].as_str().unwrap()).collect();
        assert_eq!(statuses, ["invalid", "created", "invalid"], "{receipt}");
        assert_eq!(kinds(&receipt["entries"][0], "errors"), ["shared-image"]);
        assert_eq!(site.summary().images, 1);
    }
}

/// One of a pair was refused for its form alone, and the other customer got the picture of both.
#[test]
fn an_entry_that_is_refused_shares_its_image_all_the_same() {
    let site = Builder { drop: "refuse_warnings = 'all'".to_owned(), ..Builder::default() }.build();
    let mut nameless = of("1", 1, "a.png");
    nameless.as_object_mut().unwrap().remove("reference");
    let entries = settled(&site, "a.manifest.json", &[nameless.clone(), of("2", 2, "a.png")], 1);
    assert_eq!(
        (kinds(&entries[0], "errors"), kinds(&entries[1], "errors")),
        (vec!["missing-reference"], vec!["shared-image"])
    );
    assert_eq!(site.summary().images, 0);
    site.write("in/a.png", image(Format::Png, 1));
    let documents = [nameless, of("2", 2, "a.png")];
    site.write("in/a.manifest.json", json!({ "version": 1, "documents": documents }).to_string());
    let checked = site.run(&["check", "--refuse-warnings", "all", "in"]).expect(1).stdout;
    assert!(checked.contains("0 good, 2 bad") && checked.contains("shared-image"), "{checked}");
}

#[test]
fn where_one_bad_entry_rejects_the_manifest_so_does_a_refused_warning() {
    let drop = "refuse_warnings = ['lookalike-reference']\non_invalid = 'reject'".to_owned();
    let site = Builder { drop, ..Builder::default() }.build();
    let documents = [of("Case-1", 1, "a.png"), of("b", 2, "b.png"), of("case-1", 1, "c.png")];
    let entries = settled(&site, "a.manifest.json", &documents, 1);
    assert!(entries.iter().all(|entry| entry["status"] == "invalid"), "{entries:?}");
    assert_eq!(site.summary().images, 0);
}

#[test]
fn references_that_look_the_same_are_warned_of() {
    let site = Site::new();
    let entries = settled(&site, "a.manifest.json", &[of("M\u{fc}ller-1", 1, "a.png"), of("x", 1, "b.png")], 0);
    assert!(entries.iter().all(|entry| entry.get("warnings").is_none()), "{entries:?}");
    for (number, reference) in
        (2..).zip(["Mu\u{308}ller-1", "M\u{dc}LLER-1", " M\u{fc}ller-1", "M\u{fc}ller\u{200b}-1"])
    {
        let manifest = format!("{number}.manifest.json");
        site.put("c.png", image(Format::Png, number));
        site.put_documents(&manifest, &[of(reference, 1, "c.png")]);
        site.run_once().expect(0);
        let entry = &site.receipt(&manifest)["entries"][0];
        assert_eq!(kinds(entry, "warnings"), ["lookalike-reference"], "{reference:?}");
        assert_eq!(entry["warnings"][0]["field"], "reference");
    }
}

/// An entry that two others made bad counted twice, and `check` crashed while it counted the good ones.
#[test]
fn an_entry_that_is_bad_for_several_reasons_counts_once_in_check() {
    let site = Site::new();
    site.write("in/a.png", image(Format::Png, 1));
    let documents = json!({ "version": 1, "documents": [of("r1", 1, "a.png"), of("R1", 2, "a.png")] });
    site.write("in/a.manifest.json", documents.to_string());
    let said = site.run(&["check", "--refuse-warnings", "all", "in"]).expect(1).stdout;
    assert!(said.contains("2 entries: 0 good, 2 bad"), "{said}");
}

#[test]
fn check_compares_the_manifests_that_it_is_given() {
    let site = Site::new();
    site.write("in/a.png", image(Format::Png, 1));
    site.write("in/b.png", image(Format::Png, 1));
    let lines: Vec<_> = [of("Case-1", 1, "a.png"), of("2", 2, "a.png")].iter().map(Value::to_string).collect();
    site.write("in/a.manifest.jsonl", lines.join("\n"));
    site.write("in/b.manifest.jsonl", of("case-1", 2, "b.png").to_string());
    let text = site.run(&["check", "in"]).expect(0).stdout;
    assert!(
        text.contains("warning (shared-image): index 0: images[0].path: a.png: index 1 has the same bytes"),
        "{text}"
    );
    assert!(text.contains("images[0].path: a.png: index 0 has the same bytes for another profile"), "{text}");
    assert!(text.contains("looks like \"Case-1\", that of index 0 of "), "{text}");
    let finished = site.run(&["check", "in", "--refuse-warnings", "all"]).expect(1);
    assert!(finished.stdout.contains("error (lookalike-reference)"), "{}", finished.stdout);
}

#[test]
fn entries_of_a_manifest_that_does_not_fit_into_memory_are_compared_too() {
    let site = Site::new();
    site.write("in/a.png", image(Format::Png, 1));
    // All but three name a file that is not there, so that there is little to send.
    let lines: Vec<_> = (0..4_200)
        .map(|number| {
            let path = if matches!(number, 0 | 7) { "a.png" } else { "missing.png" };
            of(&format!("R{number}"), 1, path).to_string()
        })
        .collect();
    let last = of("r0", 1, "a.png").to_string();
    site.write("in/a.manifest.jsonl", format!("{}\n{last}\n", lines.join("\n")));
    site.run(&["import", "in", "--refuse-warnings", "lookalike-reference"]).expect(1);
    let receipt = read_receipt(&site.at("in/receipts/a.manifest.jsonl.receipt.json"));
    assert_eq!((&receipt["counts"]["invalid"], &receipt["counts"]["created"]), (&4_200.into(), &1.into()));
    for index in [0, 4_200] {
        assert_eq!(kinds(&receipt["entries"][index], "errors"), ["lookalike-reference"]);
    }
    assert_eq!(receipt["entries"][7]["status"], "created");
}

/// Damage inside a picture went unnoticed until its reviewer opened it.
#[test]
fn damage_inside_a_picture_is_a_warning_and_an_error_where_that_is_refused() {
    let mut damaged = image(Format::Png, 1);
    let pixels = damaged.windows(4).position(|name| name == b"IDAT").unwrap() + 8;
    damaged[pixels] ^= 1;
    for (drop, code, status, list) in
        [("", 0, "created", "warnings"), ("refuse_warnings = ['damaged-image']", 1, "invalid", "errors")]
    {
        let site = Builder { drop: drop.to_owned(), ..Builder::default() }.build();
        site.put("a.png", &damaged);
        site.put_documents("a.manifest.json", &[entry("a", 1, "a.png")]);
        site.run_once().expect(code);
        let receipt = site.receipt("a.manifest.json");
        let entry = &receipt["entries"][0];
        assert_eq!((&entry["status"], kinds(entry, list)), (&status.into(), vec!["damaged-image"]), "{receipt}");
        assert_eq!(entry[list][0]["path"], "a.png", "{receipt}");
    }
}

/// A reviewer without the password sees nothing.
#[test]
fn a_pdf_that_asks_for_a_password_is_a_warning() {
    let site = Site::new();
    let pdf = String::from_utf8(image(Format::Pdf, 1)).unwrap();
    let encryption = "4 0 obj<</Filter/Standard/V 5/R 6/P -4/O(o)/U(u)>>endobj\ntrailer<</Encrypt 4 0 R";
    site.put("a.pdf", pdf.replace("trailer<<", encryption));
    site.put_documents("a.manifest.json", &[entry("a", 1, "a.pdf")]);
    site.run_once().expect(0);
    let receipt = site.receipt("a.manifest.json");
    assert_eq!(kinds(&receipt["entries"][0], "warnings"), ["protected-pdf"], "{receipt}");
    let numbers = site.run(&["show", "1"]).stdout;
    assert!(numbers.contains("protected-pdf"), "{numbers}");
}
