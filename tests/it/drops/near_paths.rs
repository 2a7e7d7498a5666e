//! A path that misses its file only as programs change names is said at once, with the file that is there.

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

fn list(site: &Site, folder: &str) -> String {
    let mut rows = String::from("profile_id,reference,category,document_type,path\n");
    for (number, (written, there)) in (0..).zip(NEAR) {
        let profile = profile(number);
        rows.push_str(&format!("{profile},near {number},SUPPORTING,UNKNOWN,{written}\n"));
        site.write(&format!("{folder}/{there}"), image(Format::Jpeg, number));
    }
    rows
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
    let site = Site::new();
    let rows = list(&site, "in");
    site.write("in/a.manifest.csv", rows);
    let checked = site.run(&["check", "in", "--json"]).expect(1).stdout;
    let checked: serde_json::Value = serde_json::from_str(checked.lines().next().unwrap()).unwrap();
    let reasons = |problems: &serde_json::Value| -> Vec<String> {
        let errors = problems.as_array().unwrap().iter().filter(|problem| problem["severity"] != "warning");
        errors.map(|problem| problem["reason"].as_str().unwrap().to_owned()).collect()
    };
    let found = reasons(&checked["problems"]);
    assert_eq!(found.len(), NEAR.len(), "{found:#?}");
    assert_eq!(found[0], "there is no 17/front.jpg, but 17/FRONT.JPG is there");
    assert_eq!(found[5], "there is no \"blank.jpg \", but \"blank.jpg\" is there");
    for (reason, near) in found.iter().zip(NEAR) {
        assert!(names_both(reason, near), "{reason}");
    }
    site.run(&["import", "in", "--receipts-to", "said"]).expect(1);
    let receipt: serde_json::Value =
        serde_json::from_slice(&std::fs::read(site.at("said/a.manifest.csv.receipt.json")).unwrap()).unwrap();
    for (entry, reason) in receipt["entries"].as_array().unwrap().iter().zip(&found) {
        let said = &reasons(&entry["errors"])[0];
        assert!(said.ends_with(reason.as_str()), "{said}");
    }
    assert!(site.documents().is_empty());
}

#[test]
fn a_list_that_waits_names_the_near_file_at_once() {
    let site = Site::new();
    let rows = list(&site, "drop");
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
