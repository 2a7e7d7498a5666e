//! A path that misses its file only as programs change names is said at once, with the file that is there.

use serde_json::{Value, json};

use crate::support::{Format, Site, image, profile, wait_until};

/// What lists say, and what is there.
const NEAR: [(&str, &str); 8] = [
    ("17/front.jpg", "17/FRONT.JPG"),
    ("M\u{fc}ller/a.jpg", "Mu\u{308}ller/a.jpg"),
    ("18\\front.jpg", "18/front.jpg"),
    ("front%20side.jpg", "front side.jpg"),
    ("\u{201c}quoted.jpg\u{201d}", "quoted.jpg"),
    ("blank.jpg ", "blank.jpg"),
    ("hard.jpg\u{a0}", "hard.jpg"),
    ("'plain'.jpg", "\u{2018}plain\u{2019}.jpg"),
];

/// What is absolute on another machine.
const ABSOLUTE: [(&str, &str); 3] = [
    (r"D:\scans\19\back.jpg", "19/back.jpg"),
    ("C:/20/BACK.jpg", "20/back.jpg"),
    ("/mnt/old/21/back.jpg", "21/back.jpg"),
];

/// Writes the files of these, and gives the rows of a list that names them.
fn list(site: &Site, folder: &str, near: &[(&str, &str)]) -> String {
    let mut rows = String::from("profile_id,reference,category,document_type,path\n");
    for (number, (written, there)) in (0..).zip(near) {
        let profile = profile(number);
        rows.push_str(&format!("{profile},near {number},SUPPORTING,UNKNOWN,{written}\n"));
        site.write(&format!("{folder}/{there}"), image(Format::Jpeg, number));
    }
    rows
}

/// The same list as JSON, and as JSON Lines.
fn as_json(near: &[(&str, &str)]) -> [String; 2] {
    let entries = (0..).zip(near).map(|(number, (written, _))| {
        json!({ "profile_id": profile(number), "reference": format!("near {number}"), "category": "SUPPORTING",
                "document_type": "UNKNOWN", "images": [{ "path": written }] })
    });
    let entries: Vec<_> = entries.collect();
    let lines = entries.iter().map(|entry| format!("{entry}\n")).collect();
    [json!({ "version": 1, "documents": entries }).to_string(), lines]
}

/// Whether the text names both; names that look the same are spelt with escapes.
fn names_both(text: &str, (written, there): (&str, &str)) -> bool {
    let escaped = |name: &str| name.chars().flat_map(char::escape_debug).collect::<String>();
    text.contains("there is no ")
        && text.contains(" is there")
        && [written, there].iter().all(|name| text.contains(name) || text.contains(&escaped(name)))
}

#[test]
fn check_and_import_name_the_near_file() {
    let near = [&NEAR[..], &ABSOLUTE].concat();
    for format in ["csv", "json", "jsonl"] {
        let site = Site::new();
        let rows = list(&site, "in", &near);
        let [json, lines] = as_json(&near);
        let manifest = format!("a.manifest.{format}");
        site.write(
            &format!("in/{manifest}"),
            match format {
                "csv" => rows,
                "json" => json,
                _ => lines,
            },
        );
        let checked = site.run(&["check", "in", "--json"]).expect(1).stdout;
        let checked: Value = serde_json::from_str(checked.lines().next().unwrap()).unwrap();
        let reasons = |problems: &Value| -> Vec<String> {
            let errors = problems.as_array().unwrap().iter().filter(|problem| problem["severity"] != "warning");
            errors.map(|problem| problem["reason"].as_str().unwrap().to_owned()).collect()
        };
        let found = reasons(&checked["problems"]);
        assert_eq!(found.len(), near.len(), "{found:#?}");
        assert_eq!(found[0], "there is no 17/front.jpg, but 17/FRONT.JPG is there");
        assert_eq!(found[5], "there is no \"blank.jpg \", but \"blank.jpg\" is there");
        assert_eq!(found[8], r"there is no D:\scans\19\back.jpg, but 19/back.jpg is there");
        for (reason, near) in found.iter().zip(&near) {
            assert!(names_both(reason, *near), "{format}: {reason}");
        }
        site.run(&["import", "in", "--receipts-to", "said"]).expect(1);
        let receipt = std::fs::read(site.at(&format!("said/{manifest}.receipt.json"))).unwrap();
        let receipt: Value = serde_json::from_slice(&receipt).unwrap();
        for (entry, reason) in receipt["entries"].as_array().unwrap().iter().zip(&found) {
            let said = &reasons(&entry["errors"])[0];
            assert!(said.ends_with(reason.as_str()), "{format}: {said}");
        }
        assert!(site.documents().is_empty());
    }
}

#[test]
fn a_list_that_waits_names_the_near_file_at_once() {
    let site = Site::new();
    let rows = list(&site, "drop", &NEAR);
    let (header, rows) = rows.split_once('\n').unwrap();
    for (number, row) in rows.lines().enumerate() {
        site.put(&format!("{number}.manifest.csv"), format!("{header}\n{row}\n"));
    }
    let daemon = site.daemon();
    for (number, near) in NEAR.into_iter().enumerate() {
        let why = || site.run(&["why", &format!("{number}.manifest.csv")]).stdout;
        wait_until("the near file is named", || names_both(&why(), near));
    }
    assert!(site.run(&["status"]).stdout.contains(", but "), "{}", site.run(&["status"]).stdout);
    daemon.terminate().expect(0);
    assert!(site.documents().is_empty());
}

/// What an archive's list says of each file, what is there, and whether `match = "loose"` takes it.
const IN_LISTS: [(&str, &str, bool); 6] = [
    ("17/front.jpg", "17/FRONT.JPG", true),
    ("M\u{fc}ller/a.jpg", "Mu\u{308}ller/a.jpg", true),
    ("18\\front.jpg", "18/front.jpg", true),
    ("front%20side.jpg", "front side.jpg", false),
    ("two  blanks.jpg", "two blanks.jpg", false),
    (r"D:\scans\19\back.jpg", "19/back.jpg", false),
];

/// Writes a list of the archive's own, with a layout, and returns how that is named to a command.
fn archive(site: &Site, folder: &str, compare: &str) {
    let mut rows = String::from("Ref,Profile,File\n");
    for (number, (written, there, _)) in (0..).zip(IN_LISTS) {
        rows.push_str(&format!("r{number},{},{written}\n", profile(number)));
        site.write(&format!("{folder}/{there}"), image(Format::Jpeg, number));
    }
    site.write(&format!("{folder}/list.csv"), rows);
    let layout = "version = 1\n[source]\ncsv = \"list.csv\"\n[document]\nreference = \"{Ref}\"\nprofile_id = \
                  \"{Profile}\"\nkind = \"SUPPORTING/UNKNOWN\"\nimages = [{ path = \"{File}\" }]\n[paths]\nmatch = ";
    site.write("operator/any.layout.toml", format!("{layout}\"{compare}\"\n"));
}

/// What is said of each entry of a receipt: its status, and what is said of it.
fn said_of_each(receipt: &Value) -> Vec<(String, Value)> {
    let entries = receipt["entries"].as_array().unwrap().iter();
    let said = |entry: &Value, field: &str| entry[field][0].clone();
    entries
        .map(|entry| match entry["status"].as_str().unwrap() {
            "created" => ("created".to_owned(), said(entry, "warnings")),
            other => (other.to_owned(), said(entry, "errors")),
        })
        .collect()
}

#[test]
fn a_layout_names_the_near_file_in_its_cure_and_a_loose_one_takes_it_with_a_warning() {
    for compare in ["exact", "loose"] {
        let site = Site::new();
        archive(&site, "in", compare);
        let checked = site.run(&["check", "in", "--layout", "operator/any.layout.toml", "--json"]).expect(1).stdout;
        let checked: Value = serde_json::from_str(&checked).unwrap();
        let said = checked["problems"].to_string();
        site.run(&["import", "in", "--layout", "operator/any.layout.toml", "--receipts-to", "said"]).expect(1);
        let receipt = std::fs::read(site.at("said/list.csv.receipt.json")).unwrap();
        let receipt: Value = serde_json::from_slice(&receipt).unwrap();
        for ((status, problem), (written, there, loose)) in said_of_each(&receipt).iter().zip(IN_LISTS) {
            let text = problem.to_string();
            let escaped: String = there.chars().flat_map(char::escape_debug).collect();
            let names =
                |text: &str| [there, &escaped, &escaped.replace('\\', "\\\\")].iter().any(|name| text.contains(name));
            if written.contains(r"18\") {
                assert_eq!((status.as_str(), problem), ("created", &Value::Null), "{written}");
            } else if loose && compare == "loose" {
                assert_eq!((status.as_str(), &problem["kind"]), ("created", &"near-path".into()), "{written}: {text}");
                assert_eq!((&problem["field"], &problem["path"]), (&"images[0].path".into(), &there.into()));
                assert!(names(&said) && said.contains("near-path"), "{said}");
            } else {
                assert_eq!(status, "invalid", "{written}");
                assert!(names(&text) && names(&said), "{written}: {text}\n{said}");
                assert_eq!(loose, text.contains("match = "), "{text}");
                assert_eq!(written.starts_with("D:"), text.contains(r"strip = ['D:\\scans\\']"), "{text}");
            }
        }
    }
}

#[test]
fn a_loose_layout_of_a_drop_takes_near_files_with_a_warning() {
    // A long list is read once more when its files have been taken.
    for (compare, more) in [("exact", 0), ("loose", 0), ("loose", 4200)] {
        let site = Site::impatient();
        archive(&site, "drop", compare);
        let list = std::fs::read_to_string(site.in_drop("list.csv")).unwrap();
        site.put("list.csv", list + &(0..more).map(|row| format!("x{row},no profile,any.jpg\n")).collect::<String>());
        let config = std::fs::read_to_string(site.at("config.toml")).unwrap();
        let layout = site.at("operator/any.layout.toml");
        let layout = format!("[drop.layout]\nfile = '{}'\nlists = ['*.csv']\n", layout.display());
        site.write("config.toml", config + &layout);
        site.run_until_given_up().expect(1);
        for ((status, problem), (written, there, loose)) in said_of_each(&site.receipt("list.csv")).iter().zip(IN_LISTS)
        {
            if written.contains(r"18\") {
                assert_eq!((status.as_str(), problem), ("created", &Value::Null), "{written}");
            } else if loose && compare == "loose" {
                assert_eq!(
                    (status.as_str(), &problem["kind"]),
                    ("created", &"near-path".into()),
                    "{written}: {problem}"
                );
            } else {
                assert_eq!(status, "invalid", "{written}");
                assert!(names_both(problem["reason"].as_str().unwrap(), (written, there)), "{problem}");
            }
        }
        let taken =
            IN_LISTS.iter().filter(|(written, _, loose)| written.contains(r"18\") || *loose && compare == "loose");
        assert_eq!(site.documents().len(), taken.count());
    }
}
