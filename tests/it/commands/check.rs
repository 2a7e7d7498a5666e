//! `check`: everything that is wrong, at once, with no network and no queue; and no more than the import refuses.

use serde_json::{Value, json};

use crate::support::{Format, Site, entry, image, profile};

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
fn everything_that_is_wrong_is_said_at_once_with_its_place_and_cure() {
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
