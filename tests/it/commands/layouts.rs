//! Layouts: archives as teams have them, beside what should come of them (`tests/it/layouts`).
//!
//! Each folder has `archive/`, `layout.toml`, `README.md` (what its owners expect) and `expected.jsonl`: entries, and problems
//! with `kind`, `severity` and where they are. An entry that is expected to fail (`tolerated`) may be made, or not.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::support::{Finished, Format, Site, image, profile};

const SAMPLES: [&str; 8] = [
    "01-wide-csv-excel-de",
    "02-folder-per-customer",
    "03-flat-file-names",
    "04-long-csv-windows-paths",
    "05-pages-in-folders",
    "06-xlsx-dms-export",
    "07-ndjson-nested",
    "08-tree-with-xml-sidecars",
];

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/layouts").join(name)
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().filter(|line| !line.trim().is_empty()).map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What is expected: entries, problems.
fn expected(name: &str) -> (Vec<Value>, Vec<Value>) {
    let text = fs::read_to_string(sample(name).join("expected.jsonl")).unwrap();
    let (problems, entries) = lines(&text).into_iter().partition(|line| line.get("problem").is_some());
    (entries, problems.into_iter().map(|mut line: Value| line["problem"].take()).collect())
}

/// An entry without digests and sizes that `like` does not have.
fn canonical(entry: &Value, like: &Value) -> Value {
    let mut entry = entry.clone();
    let strip = |of: &mut Value, like: &Value| {
        for key in ["sha256", "bytes"] {
            if like.get(key).is_none()
                && let Some(of) = of.as_object_mut()
            {
                of.remove(key);
            }
        }
    };
    strip(&mut entry, like);
    if let Some(images) = entry.get_mut("images").and_then(Value::as_array_mut) {
        for (at, image) in images.iter_mut().enumerate() {
            strip(image, &like["images"][at]);
        }
    }
    entry
}

/// Everything in which the entries differ from what is expected.
fn differences(name: &str, produced: Vec<Value>) -> Vec<String> {
    let (wanted, problems) = expected(name);
    let mut left = produced;
    let mut wrong = Vec::new();
    for entry in &wanted {
        match left.iter().position(|made| canonical(made, entry) == *entry) {
            Some(at) => drop(left.swap_remove(at)),
            None => wrong.push(format!("missing: {entry}")),
        }
    }
    left.retain(|made| {
        !problems.iter().any(|problem| {
            let tolerated = &problem["tolerated"];
            tolerated.is_object()
                && tolerated["reference"] == made["reference"]
                && tolerated["profile_id"] == made["profile_id"]
        })
    });
    wrong.extend(left.iter().map(|made| format!("too much: {made}")));
    wrong
}

/// A command about a sample's archive, without a configuration.
fn about(site: &Site, command: &[&str], name: &str, more: &[&str]) -> Finished {
    let (archive, layout) = (sample(name).join("archive"), sample(name).join("layout.toml"));
    let paths = [archive.to_str().unwrap(), "--layout", layout.to_str().unwrap()];
    site.finish(site.bare_command("drop", &[command, &paths, more].concat()))
}

#[test]
fn each_sample_becomes_the_expected_manifest() {
    let site = Site::new();
    for name in SAMPLES {
        let printed = about(&site, &["manifest", "from-layout"], name, &[]).expect(1);
        let wrong = differences(name, lines(&printed.stdout));
        assert!(wrong.is_empty(), "{name}:\n{}\n{}", wrong.join("\n"), printed.stderr);
    }
}

#[test]
fn what_is_wrong_is_said_by_cause_with_rows_and_the_cure_in_terms_of_the_layout() {
    let site = Site::new();
    let printed = about(&site, &["manifest", "from-layout"], "01-wide-csv-excel-de", &[]).expect(1);
    for words in [
        "12 records, 7 entries (6 documents with 10 images, 1 file), 4 problems, 2 warnings",
        "\"Fischereischein\" 1×",
        "add to [kinds]:   \"Fischereischein\" = ",
        "no such KdNr in Kundenstamm.csv",
        "\"10099\" 1×",
        "row 11",
    ] {
        assert!(printed.stderr.contains(words), "{words} is not in:\n{}", printed.stderr);
    }
}

/// A layout that is wrong is refused at its start, with the nearest known name.
#[test]
fn names_that_nothing_has_are_refused_with_the_nearest() {
    let site = Site::new();
    site.put("list.csv", "Beleg;Kunde;Art;Datei\n1;x;Pass;a.png\n");
    let layout = |reference: &str, key: &str, kind: &str| {
        format!(
            "version = 1\n[source]\ncsv = \"list.csv\"\n[document]\nreference = \"{reference}\"\n{key} = \"{{Kunde}}\"\n\
             kind = \"{{Art}}\"\nimages = [{{ path = \"{{Datei}}\" }}]\n[kinds]\nPass = \"{kind}\"\n"
        )
    };
    let good = "PROOF_OF_IDENTITY/PASSPORT";
    for (text, words) in [
        (layout("{Belge}", "profile_id", good), "did you mean \"Beleg\"?"),
        (layout("{Beleg}", "profil_id", good), "did you mean profile_id?"),
        (layout("{Beleg | uper}", "profile_id", good), "did you mean upper?"),
        (layout("{Beleg | lookup crm}", "profile_id", good), "add [lookup.crm]"),
        (layout("{row}", "profile_id", good), "nothing can be deleted"),
        (layout("{Beleg}", "profile_id", ""), "the layout is incomplete"),
        (layout("{Beleg}", "profile_id", "passport"), "is no kind"),
    ] {
        site.write("a.layout.toml", &text);
        let command = ["manifest", "from-layout", ".", "--layout", "../a.layout.toml"];
        let refused = site.finish(site.bare_command("drop", &command)).expect(2);
        assert!(refused.stderr.contains(words), "{words} is not in:\n{}", refused.stderr);
        assert_eq!(refused.stdout, "");
    }
}

/// A name that a list without a header cannot have was answered with 999 numbers, and one of a wide list with all of its
/// columns.
#[test]
fn what_a_list_has_is_said_in_short() {
    let site = Site::new();
    let wide: Vec<String> = (1..=400).map(|number| format!("column {number}")).collect();
    site.put("wide.csv", format!("{}\n", wide.join(";")));
    site.put("bare.csv", format!("{};PASSPORT;a.png;1\n", profile(1)));
    for (source, profile, words) in [
        (
            "csv = \"bare.csv\"\nheader = 0",
            "1",
            "there is no column \"Datei\"; the list has no header row, so columns are called by their numbers, and its first row \
             has 4",
        ),
        ("csv = \"wide.csv\"", "column 1", "\"column 12\", and 388 more"),
    ] {
        let layout = format!(
            "version = 1\n[source]\n{source}\n[document]\nprofile_id = \"{{{profile}}}\"\nkind = \"file\"\n\
             images = [{{ path = \"{{Datei}}\" }}]\n"
        );
        site.write("a.layout.toml", layout);
        let command = ["manifest", "from-layout", ".", "--layout", "../a.layout.toml"];
        let refused = site.finish(site.bare_command("drop", &command)).expect(2);
        assert!(refused.stderr.contains(words), "{words} is not in:\n{}", refused.stderr);
        assert!(refused.stderr.len() < 500, "{}", refused.stderr);
    }
}

/// Whether a problem that was named is the one that is expected.
fn meets(named: &Value, expected: &Value) -> bool {
    let text = |of: &Value, key: &str| of[key].as_str().unwrap_or_default().to_owned();
    let (path, reference) = (text(named, "path"), text(named, "reference"));
    if !path.is_empty() && named["kind"] == expected["kind"] && path == text(expected, "path") {
        return true;
    }
    let references = [text(expected, "reference"), text(&expected["tolerated"], "reference")];
    if !reference.is_empty() && references.contains(&reference) {
        return true;
    }
    if expected["paths"].as_array().is_some_and(|paths| paths.iter().any(|other| *other == path)) {
        return true;
    }
    let (source, wanted) = (text(named, "source"), text(expected, "source"));
    if !wanted.is_empty() && !source.is_empty() && source != wanted {
        return false;
    }
    match (expected["row"].as_u64(), named["row"].as_u64()) {
        (Some(wanted), Some(row)) => wanted == row,
        _ if expected["path"].is_string() && !path.is_empty() => path == text(expected, "path"),
        _ => !wanted.is_empty() && source == wanted && named["kind"] == expected["kind"],
    }
}

#[test]
fn check_names_each_expected_problem_and_no_other() {
    let site = Site::new();
    for name in SAMPLES {
        let printed = about(&site, &["check"], name, &["--json"]).expect(1);
        let report: Value = serde_json::from_str(&printed.stdout).unwrap();
        let named = report["problems"].as_array().unwrap();
        let (_, problems) = expected(name);
        for problem in problems.iter().filter(|problem| problem["severity"] != "note") {
            assert!(named.iter().any(|named| meets(named, problem)), "{name}: not named: {problem}\n{named:#?}");
        }
        for extra in named.iter().filter(|named| named["severity"] == "error") {
            assert!(problems.iter().any(|problem| meets(extra, problem)), "{name}: is no problem: {extra}");
            assert!(extra["cure"].as_str().is_some_and(|cure| !cure.is_empty()), "{name}: {extra}");
        }
    }
}

#[test]
fn check_groups_by_cause_and_names_each_with_all() {
    let site = Site::new();
    let printed = about(&site, &["check"], "04-long-csv-windows-paths", &[]).expect(1);
    assert!(
        printed.stdout.contains("1×     unknown_value: document_type is not in [document_types]"),
        "{}",
        printed.stdout
    );
    assert!(printed.stdout.contains("2×     path_outside"), "{}", printed.stdout);
    assert!(printed.stdout.contains("strip = "), "{}", printed.stdout);
    let printed = about(&site, &["check"], "04-long-csv-windows-paths", &["--all"]).expect(1);
    assert!(printed.stdout.contains("error (unknown_value): scan_index.csv, row 12: "), "{}", printed.stdout);
    let printed = about(&site, &["check"], "04-long-csv-windows-paths", &["--csv"]).expect(1);
    assert!(printed.stdout.contains("scan_index.csv,12,K-7,error,unknown_value,document_type,Library Card,"));
}

/// Imports a sample; its entries of the receipt that were created, or are there already.
fn imported(site: &Site, name: &str, receipt: &str) -> (Value, Vec<Value>) {
    let receipts = site.at("receipts").join(name);
    let (archive, layout) = (sample(name).join("archive"), sample(name).join("layout.toml"));
    let paths = [archive.to_str().unwrap(), "--layout", layout.to_str().unwrap()];
    site.run(&[&["import"], &paths[..], &["--receipts-to", receipts.to_str().unwrap()]].concat()).expect(1);
    let text = fs::read_to_string(receipts.join(receipt)).unwrap();
    let receipt: Value = serde_json::from_str(&text).unwrap();
    let entries = receipt["entries"].as_array().unwrap().clone();
    (receipt, entries)
}

#[test]
fn import_creates_what_is_expected_once_and_its_receipt_names_the_rows() {
    let site = Site::new();
    for (name, receipt) in [
        ("01-wide-csv-excel-de", "Belege.csv.receipt.json"),
        ("02-folder-per-customer", "archive.receipt.json"),
        ("07-ndjson-nested", "documents.ndjson.receipt.json"),
    ] {
        let before = site.documents().len();
        let (header, entries) = imported(&site, name, receipt);
        let well = |entry: &&Value| entry["status"] == "created";
        let (wanted, _) = expected(name);
        let brief = |entry: &Value| {
            let image = |image: &Value| (image["path"].to_string(), image["image_type"].to_string());
            let images = entry["images"].as_array().into_iter().flatten().map(image).collect::<Vec<_>>();
            (entry["reference"].to_string(), entry["profile_id"].to_string(), images, entry["path"].to_string())
        };
        let mut created: Vec<_> = entries.iter().filter(well).map(brief).collect();
        let mut expected: Vec<_> = wanted.iter().map(brief).collect();
        created.sort();
        expected.sort();
        assert_eq!(created, expected, "{name}");
        assert_eq!(header["layout"]["file"], "layout.toml");
        assert_eq!(header["layout"]["sha256"].as_str().unwrap().len(), 64);
        assert!(entries.iter().all(|entry| entry["source"]["file"].is_string()), "{name}");
        // Again, nothing is created a second time.
        let documents = site.documents().len();
        assert!(documents > before);
        let (_, again) = imported(&site, name, &receipt.replace(".receipt.json", ".receipt.1.json"));
        assert_eq!(site.documents().len(), documents);
        assert!(again.iter().all(|entry| entry["status"] != "created"), "{name}");
    }
    let exported = site.run(&["export", "--format", "jsonl", "--reference", "B-1003"]).expect(0);
    let row = &lines(&exported.stdout)[0];
    assert_eq!((&row["source_file"], &row["source_row"]), (&"Belege.csv".into(), &5.into()));
}

#[test]
fn another_template_of_references_is_refused_for_the_same_list() {
    let site = Site::new();
    let name = "01-wide-csv-excel-de";
    imported(&site, name, "Belege.csv.receipt.json");
    let documents = site.documents().len();
    let (archive, layout) = (sample(name).join("archive"), sample(name).join("layout.toml"));
    let receipts = site.at("receipts");
    let changed = "document.reference=\"A-{Beleg-Nr}\"";
    let command = [
        "import",
        archive.to_str().unwrap(),
        "--layout",
        layout.to_str().unwrap(),
        "--set",
        changed,
        "--receipts-to",
        receipts.to_str().unwrap(),
    ];
    let refused = site.run(&command).expect(2);
    assert!(refused.stderr.contains("--new-references"), "{}", refused.stderr);
    assert_eq!(site.documents().len(), documents);
    site.run(&[&command[..], &["--new-references"]].concat()).expect(1);
    assert!(site.documents().len() > documents);
}

#[test]
fn rehearse_comes_to_the_same_as_the_import() {
    let site = Site::new();
    let printed = about(&site, &["rehearse"], "01-wide-csv-excel-de", &["--json"]).expect(1);
    let created = lines(&printed.stdout).iter().filter(|entry| entry["status"] == "created").count();
    assert_eq!(created, expected("01-wide-csv-excel-de").0.len(), "{}", printed.stdout);
    assert!(site.ledger().is_empty());
}

#[test]
fn try_shows_a_record_beside_its_entry() {
    let site = Site::new();
    let name = "01-wide-csv-excel-de";
    let shown = about(&site, &["layout", "try"], name, &["--row", "3"]).expect(0);
    for words in ["Belege.csv, row 3", "Belegart", "Reisepass", "-> {\"", "\"reference\":\"B-1001\""] {
        assert!(shown.stdout.contains(words), "{words} is not in:\n{}", shown.stdout);
    }
    let shown = about(&site, &["layout", "try"], name, &["--row", "12"]).expect(1);
    assert!(shown.stdout.contains("-> unknown_value") && shown.stdout.contains("cure: "), "{}", shown.stdout);
}

/// A first layout has the right source, paths and lookup, and its kinds are left for a person where they are not known.
#[test]
fn init_proposes_source_paths_and_lookup() {
    let site = Site::new();
    for (name, wanted) in [
        (
            "01-wide-csv-excel-de",
            &["csv = \"Belege.csv\"", "encoding = \"windows-1252\"", "{Kunden-Nr | lookup profiles}"][..],
        ),
        ("02-folder-per-customer", &["[[files]]", "{folder | lookup profiles}", "key = \"crm_id\""]),
        ("03-flat-file-names", &["{number:digits 5}", "header = 0", "{number | lookup profiles}"]),
        ("04-long-csv-windows-paths", &["csv = \"scan_index.csv\"", "{Profile ID}", "scans", "record     = \"image\""]),
        ("05-pages-in-folders", &["csv = \"cases.csv\"", "folder = \"{directory}\"", "{customer | lookup profiles}"]),
        ("06-xlsx-dms-export", &["sheet = \"Documents\"", "header = 4", "{Folder}/{File}.{Ext}", "pad = 5"]),
        (
            "07-ndjson-nested",
            &["ndjson = \"documents.ndjson\"", "each = \"attachments\"", "{owner.kycProfile}", "base = \"blobs\""],
        ),
        (
            "08-tree-with-xml-sidecars",
            &["sidecars = \"**/*.xml\"", "index[name=CustomerNo] | lookup profiles", "each = \"page\""],
        ),
    ] {
        let archive = sample(name).join("archive");
        let proposed = site.finish(site.bare_command("drop", &["layout", "init", archive.to_str().unwrap()])).expect(0);
        for words in wanted {
            assert!(
                proposed.stdout.contains(words),
                "{name}: {words} is not in:\n{}\n{}",
                proposed.stdout,
                proposed.stderr
            );
        }
        assert!(proposed.stderr.contains("become entries"), "{name}: {}", proposed.stderr);
    }
}

/// Shapes of archives of which only a part was proposed.
#[test]
fn init_finds_documents_within_records_kinds_in_folders_and_rows_that_are_sides() {
    let site = Site::new();
    let picture = |path: String| site.write(&path, image(Format::Png, 1));
    for number in 0..4 {
        picture(format!("json/{number}p.png"));
        picture(format!("json/{number}u.png"));
        for kind in ["Passport", "Driving Licence"] {
            picture(format!("folders/{}/{kind}/front.png", profile(number)));
        }
        for side in ["F", "B"] {
            picture(format!("sides/{number}{side}.png"));
        }
    }
    let owner = |number: u32| {
        let document = |id: &str, kind: &str| json!({ "id": format!("{number}{id}"), "kind": kind, "file": format!("{number}{id}.png") });
        json!({ "profileId": profile(number), "documents": [document("p", "passport"), document("u", "utility_bill")] })
    };
    site.write("json/all.json", json!({ "owners": (0..4).map(owner).collect::<Vec<_>>() }).to_string());
    let rows = (0..4)
        .flat_map(|number| ["F", "B"].map(|side| format!("K{number};{};{side};{number}{side}.png\n", profile(number))));
    site.write("sides/list.csv", format!("Key;Profile;Side;File\n{}", rows.collect::<String>()));
    for (archive, words) in [
        (
            "json",
            &["items = \"owners.documents\"", "reference  = \"{id}\"", "{parent.profileId}", "8 of 8 records become"][..],
        ),
        (
            "folders",
            &[
                "kind       = \"{folder2 | plain}\"",
                "\"Driving Licence\" = \"PROOF_OF_IDENTITY/DRIVING_LICENCE\"",
                "8 of 8",
            ],
        ),
        ("sides", &["record     = \"image\"", "reference  = \"{Key}\"", "kind       = \"\"", "# kind is \"{COLUMN}\""]),
    ] {
        let out = format!("{archive}.toml");
        let finished = site.finish(site.bare_command("", &["layout", "init", archive, "-o", &out])).expect(0);
        let said = format!("{}{}", fs::read_to_string(site.at(&out)).unwrap(), finished.said());
        for words in words {
            assert!(said.contains(words), "{words} is not in:\n{said}");
        }
    }
    // What is the same for all needs no table.
    let layout = fs::read_to_string(site.at("sides.toml")).unwrap();
    site.write(
        "sides.toml",
        layout.replace("kind       = \"\"", "kind = \"PROOF_OF_IDENTITY/PASSPORT\"") + "\n[kinds]\n",
    );
    let check = ["check", "sides", "--layout", "sides.toml"];
    site.finish(site.bare_command("", &check)).expect(0).says("4 entries (4 documents with 8 images");
}

/// A slip in the name of a nested value, or of a list within a list, left nothing and said nothing of it.
#[test]
fn names_that_no_record_of_json_has_are_said_with_the_nearest() {
    let site = Site::new();
    site.write("in/a.png", image(Format::Png, 1));
    let owner = json!({ "profileId": profile(1), "documents": [{ "id": "a", "file": "a.png" }] });
    site.write("in/all.json", json!({ "owners": [owner] }).to_string());
    for (items, reference, code, words) in [
        ("owners.documents", "{id}", 0, "1 entry"),
        ("owners.documents", "{parent.id}", 1, "the record has no \"parent.id\""),
        ("owners.documents", "{idd}", 1, "did you mean \"id\"?"),
        ("owners.docs", "{id}", 2, "none of its 1 items has what `items` names: \"owners.docs\""),
        ("owner", "{id}", 2, "it has no list \"owner\" at its top"),
    ] {
        let layout = format!(
            "version = 1\n[source]\njson = \"all.json\"\nitems = \"{items}\"\n[document]\nreference = \"{reference}\"\n\
             profile_id = \"{{parent.profileId}}\"\nkind = \"file\"\nimages = [{{ path = \"{{file}}\" }}]\n"
        );
        site.write("in.toml", layout);
        let check = ["check", "in", "--layout", "in.toml"];
        site.finish(site.bare_command("", &check)).expect(code).says(words);
    }
}
