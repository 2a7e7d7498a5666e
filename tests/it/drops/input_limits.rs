//! Each limit of a drop: what is at the limit is accepted; what exceeds it is refused with the limit, its setting and the
//! cure, and its files are not lost.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::support::{Builder, Format, Site, entry, image, profile};

fn bounded(setting: &str) -> Site {
    Builder { drop: setting.to_owned(), ..Builder::default() }.build()
}

/// Takes in a manifest of one entry that is at the bound.
#[track_caller]
fn takes(site: &Site, manifest: &str) {
    site.run_once().expect(0);
    assert_eq!(site.receipt(manifest)["status"], "done");
    assert_eq!(site.left(), Vec::<String>::new());
}

/// Takes in a manifest that is beyond the bound: all of it is refused, and it is put away.
#[track_caller]
fn rejects(site: &Site, manifest: &str, said: &str, setting: &str) {
    site.run_once().expect(1);
    let receipt = site.receipt(manifest);
    assert_eq!(receipt["status"], "rejected", "{receipt}");
    tells(&receipt["errors"][0], said, setting);
    assert!(site.moved_to("failed").contains(&manifest.to_owned()), "{:?}", site.files());
    assert!(site.ledger().is_empty(), "nothing of it was sent");
    let why = site.run(&["why", manifest]).expect(0).stdout;
    assert!(why.contains(said) && why.contains(setting), "{why}");
}

#[track_caller]
fn tells(error: &Value, said: &str, setting: &str) {
    assert!(error["reason"].as_str().is_some_and(|reason| reason.contains(said)), "{said}: {error}");
    assert!(error["cure"].as_str().is_some_and(|cure| cure.contains(setting)), "{setting}: {error}");
}

/// What stands of the drop in the status.
fn trouble(site: &Site) -> String {
    site.run(&["status"]).expect(0).stdout
}

/// A document whose data are nested so that the whole has so many levels.
fn nested(levels: usize) -> Value {
    let mut document = entry("a", 1, "a.png");
    let inner = (2..levels).fold(json!(1), |inner, _| json!([inner]));
    document["extracted_data"] = json!({ "a": inner });
    document
}

#[test]
fn nesting() {
    let setting = "max_nesting = 5";
    for name in ["a.manifest.json", "a.manifest.jsonl"] {
        let put = |site: &Site, levels| {
            site.put("a.png", image(Format::Png, 1));
            if name.ends_with('l') {
                site.put(name, nested(levels).to_string());
            } else {
                site.put_documents(name, &[nested(levels)]);
            }
        };
        let site = bounded(setting);
        put(&site, 5);
        site.run(&["check", "drop", "--drop", "partner"]).expect(0);
        takes(&site, name);

        let site = bounded(setting);
        put(&site, 6);
        site.run(&["check", "drop", "--drop", "partner"]).expect(1).says("max_nesting");
        if name.ends_with('l') {
            site.run_once().expect(1);
            let receipt = site.receipt(name);
            assert_eq!(receipt["entries"][0]["status"], "invalid", "{receipt}");
            tells(&receipt["entries"][0]["errors"][0], "more than 5 levels deep", "max_nesting");
        } else {
            rejects(&site, name, "more than 5 levels deep", "max_nesting");
        }
    }
}

#[test]
fn nesting_without_a_setting() {
    let site = Site::new();
    site.put("a.png", image(Format::Png, 1));
    site.put_documents("a.manifest.json", &[nested(32)]);
    takes(&site, "a.manifest.json");
    site.put_documents("b.manifest.json", &[nested(33)]);
    site.run_once().expect(1);
    tells(&site.receipt("b.manifest.json")["errors"][0], "more than 32 levels deep", "max_nesting");
}

#[test]
fn rows_of_one_document() {
    let put = |site: &Site, rows: u32| {
        let mut csv = "profile_id,reference,category,document_type,path\n".to_owned();
        for row in 0..rows {
            site.put(&format!("{row}.png"), image(Format::Png, row));
            writeln!(csv, "{},a,PROOF_OF_IDENTITY,PASSPORT,{row}.png", profile(1)).unwrap();
        }
        site.put("a.manifest.csv", csv);
    };
    let site = bounded("max_rows = 3");
    put(&site, 3);
    takes(&site, "a.manifest.csv");
    assert_eq!(site.summary().images, 3);
    let site = bounded("max_rows = 3");
    put(&site, 4);
    rejects(&site, "a.manifest.csv", "more than 3 rows", "max_rows");
    assert_eq!(site.left().len(), 4, "what it names is not read, and stays");
}

#[test]
fn depth_of_folders() {
    let site = bounded("max_depth = 2");
    site.put("1/2/a.png", image(Format::Png, 1));
    site.put_documents("1/2/a.manifest.json", &[entry("a", 1, "a.png")]);
    takes(&site, "1/2/a.manifest.json");
    assert!(!trouble(&site).contains("max_depth"));

    // What lies deeper is left as it is, and said; the others go on.
    site.put("1/2/3/b.png", image(Format::Png, 2));
    site.put_documents("1/2/3/b.manifest.json", &[entry("b", 2, "b.png")]);
    site.put("c.png", image(Format::Png, 3));
    site.put_documents("c.manifest.json", &[entry("c", 3, "c.png")]);
    site.run_once().expect(3).says("cannot be read in full: see `status`");
    assert_eq!(site.receipt("c.manifest.json")["status"], "done");
    assert_eq!(site.left(), ["1/2/3/b.manifest.json", "1/2/3/b.png"]);
    let whole = site.in_drop("1/2/3/b.manifest.json");
    for said in [trouble(&site), site.run(&["why", whole.to_str().unwrap()]).stdout] {
        assert!(said.contains("1/2/3") && said.contains("max_depth"), "{said}");
    }
    site.run(&["-v", "import", "drop", "--drop", "partner"]).says("max_depth");

    site.configure_drop("max_depth = 3");
    let config = std::fs::read_to_string(site.at("config.toml")).unwrap();
    site.write("config.toml", config.replace("max_depth = 2\n", ""));
    site.run_once().expect(0);
    assert_eq!(site.receipt("1/2/3/b.manifest.json")["status"], "done");
    assert!(!trouble(&site).contains("max_depth"), "it is said no longer");
}

#[test]
fn length_of_paths_that_a_manifest_names() {
    // With the manifest's folder: `in/` and 29 bytes.
    let (fits, beyond) = (format!("{}.png", "x".repeat(25)), format!("{}.png", "x".repeat(26)));
    let site = bounded("max_path_bytes = 32");
    for name in [&fits, &beyond] {
        site.put(&format!("in/{name}"), image(Format::Png, 1));
    }
    site.put_documents("in/a.manifest.json", &[entry("a", 1, &fits), entry("b", 2, &beyond)]);
    site.run_once().expect(1);
    let receipt = site.receipt("in/a.manifest.json");
    assert_eq!(receipt["entries"][0]["status"], "created", "{receipt}");
    assert_eq!(receipt["entries"][1]["status"], "invalid", "{receipt}");
    let error = &receipt["entries"][1]["errors"][0];
    tells(error, "longer than 32 bytes", "max_path_bytes");
    assert_eq!(error["field"], "images[0].path");
    assert_eq!(site.left(), [format!("in/{beyond}")], "it stays where it lies");
}

#[test]
fn length_of_a_manifests_own_path() {
    let site = bounded("max_path_bytes = 32");
    let (fits, beyond) = (format!("{}.manifest.json", "m".repeat(18)), format!("{}.manifest.json", "m".repeat(19)));
    assert_eq!((fits.len(), beyond.len()), (32, 33));
    site.put("a.png", image(Format::Png, 1));
    site.put_documents(&fits, &[entry("a", 1, "a.png")]);
    takes(&site, &fits);
    site.put("b.png", image(Format::Png, 2));
    site.put_documents(&beyond, &[entry("b", 2, "b.png")]);
    site.run_once().expect(3).says("cannot be read in full: see `status`");
    let whole = site.in_drop(&beyond);
    for said in [trouble(&site), site.run(&["why", whole.to_str().unwrap()]).stdout] {
        assert!(said.contains(&beyond) && said.contains("max_path_bytes"), "{said}");
    }
    assert_eq!(site.left(), ["b.png", beyond.as_str()]);
}

#[test]
fn the_bounds_that_were_there_before_name_their_settings_too() {
    let batch = |documents: u32| {
        let documents: Vec<Value> = (0..documents).map(|number| entry(&number.to_string(), number, "a.png")).collect();
        json!({ "version": 1, "documents": documents }).to_string()
    };
    let one = batch(1).len();
    for (setting, manifest, said) in [
        (format!("max_manifest_bytes = {one}"), batch(2), format!("larger than {one} bytes")),
        ("max_entries = 1".to_owned(), batch(2), "more than 1 entries".to_owned()),
        ("max_line_bytes = 1024".to_owned(), batch(1).replace("PASSPORT", &"X".repeat(2000)), "1024 bytes".to_owned()),
    ] {
        let site = bounded(&setting);
        site.put("a.png", image(Format::Png, 1));
        site.put("a.manifest.json", batch(1));
        takes(&site, "a.manifest.json");
        let site = bounded(&setting);
        site.put("a.png", image(Format::Png, 1));
        site.put("a.manifest.json", manifest);
        let (name, _) = setting.split_once(' ').unwrap();
        rejects(&site, "a.manifest.json", &said, name);
    }
    let site = bounded("max_images = 1");
    site.put("a.png", image(Format::Png, 1));
    let mut two = entry("b", 2, "a.png");
    two["images"] = json!([{ "path": "a.png" }, { "path": "a.png" }]);
    site.put_documents("a.manifest.json", &[entry("a", 1, "a.png"), two]);
    site.run_once().expect(1);
    let receipt = site.receipt("a.manifest.json");
    assert_eq!(receipt["entries"][0]["status"], "created", "{receipt}");
    tells(&receipt["entries"][1]["errors"][0], "more than 1", "max_images");
}

#[test]
fn a_bound_out_of_all_bounds_is_a_fault_of_the_configuration() {
    for (setting, most) in [("max_path_bytes = 4097", "4KiB"), ("max_nesting = 121", "120"), ("max_depth = 257", "256")]
    {
        let site = bounded(setting);
        let (key, _) = setting.split_once(' ').unwrap();
        site.run(&["run", "--once"]).expect(2).says(key).says(most);
    }
    let site = bounded("");
    let mut command = site.command(&["config", "show"]);
    command.env("PASSFORT_INGEST__DROP__0__MAX_DEPTH", "7");
    let shown = String::from_utf8(command.output().unwrap().stdout).unwrap();
    for line in ["max_rows = 20000000", "max_nesting = 32", "max_depth = 7", "max_path_bytes = \"1KiB\""] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
}

/// Half a million times `{}`, 1.5 MB, became 570 MB of findings and receipt.
#[test]
fn bad_entries() {
    let setting = "max_invalid = 20";
    let lines = |good: u32, bad: usize| {
        let mut lines: Vec<String> =
            (0..good).map(|n| entry(&n.to_string(), n, &format!("{n}.png")).to_string()).collect();
        lines.extend(std::iter::repeat_n("{}".to_owned(), bad));
        lines.join("\n")
    };
    for (good, bad, too_many) in [(0, 20, false), (21, 21, false), (19, 5000, true), (0, 5000, true)] {
        let site = bounded(setting);
        (0..good).for_each(|number| site.put(&format!("{number}.png"), image(Format::Png, number)));
        site.put("a.manifest.jsonl", lines(good, bad));
        site.run_once().expect(1);
        let receipt = site.receipt("a.manifest.jsonl");
        if !too_many {
            assert_eq!((&receipt["counts"]["created"], &receipt["counts"]["invalid"]), (&good.into(), &bad.into()));
            continue;
        }
        assert_eq!((&receipt["status"], &receipt["entries"]), (&"rejected".into(), &json!([])), "{receipt}");
        tells(&receipt["errors"][0], &format!("21 of the {} entries read are bad", good + 21), "max_invalid");
        assert_eq!(receipt["errors"][0]["code"], "too-many-invalid");
        tells(&receipt["errors"][1], &format!("line {}: profile_id", good + 1), "profile");
        assert!(receipt["errors"].as_array().unwrap().len() < 20, "{receipt}");
        assert!(site.ledger().is_empty(), "nothing of it was sent");
        assert_eq!(site.left().len(), good as usize, "its files stay for its correction");
    }
}

#[test]
fn bad_entries_of_an_import() {
    let site = Site::new();
    site.write("list/0.png", image(Format::Png, 0));
    let list = |first: String, bad: usize| first + &"\n{}".repeat(bad);
    site.write("list/a.manifest.jsonl", list(entry("0", 0, "0.png").to_string(), 20_000));
    site.run(&["import", "list"]).expect(1);
    let receipt = crate::support::read_receipt(&site.at("list/receipts/a.manifest.jsonl.receipt.json"));
    assert_eq!(receipt["status"], "rejected", "{receipt}");
    tells(&receipt["errors"][0], "10001 of the 10002 entries read are bad", "max_invalid");
    assert!(site.ledger().is_empty(), "nothing of it was sent");
    let database = std::fs::metadata(site.at("state/queue.db")).unwrap().len();
    assert!(database < 1_000_000, "the database has {database} bytes");
    // What is found to be bad only by its files, when others are being sent: the rest is not read.
    let missing: Vec<String> = (1..20_001).map(|n| entry(&n.to_string(), n, &format!("{n}.png")).to_string()).collect();
    let first = entry("0", 0, "0.png").to_string();
    site.write("other/0.png", image(Format::Png, 0));
    site.write("other/b.manifest.jsonl", [first, missing.join("\n")].join("\n"));
    site.run(&["import", "other"]).expect(1);
    let receipt = crate::support::read_receipt(&site.at("other/receipts/b.manifest.jsonl.receipt.jsonl"));
    assert_eq!((&receipt["status"], &receipt["counts"]["created"]), (&"partial".into(), &1.into()));
    assert_eq!(receipt["counts"]["entries"], 10_002, "{}", receipt["counts"]);
    tells(&receipt["entries"][10_001]["errors"][0], "so the rest is not read", "max_invalid");
}
