//! `[drop.layout]`: a list is a manifest like any other, and the layout with its lookups is the operator's.

use std::{
    fs,
    io::{Cursor, Write as _},
};

use serde_json::json;
use zip::write::SimpleFileOptions;

use crate::support::{Builder, Format, Site, image, metrics, profile, value};

const LAYOUT: &str = r#"version = 1
[source]
csv = "any.csv"
encoding = "windows-1252"
[document]
reference = "{Beleg-Nr}"
profile_id = "{Kunden-Nr | lookup kunden}"
kind = "{Belegart}"
images = [{ path = "{Datei}", image_type = "FRONT" }]
[kinds]
Reisepass = "PROOF_OF_IDENTITY/PASSPORT"
"Führerschein" = "PROOF_OF_IDENTITY/DRIVING_LICENCE"
[lookup.kunden]
csv = "kunden.csv"
key = "KdNr"
value = "Profil"
pad = 5
"#;

const HEADER: &str = "Beleg-Nr;Kunden-Nr;Belegart;Datei\n";

/// Writes which profile each customer has.
fn customers(site: &Site, customers: &[u32]) {
    let rows: String = customers.iter().map(|number| format!("{number:05},{}\n", profile(*number))).collect();
    site.write("operator/kunden.csv", format!("KdNr,Profil\n{rows}"));
}

/// A site whose partner sends lists of its own; the operator knows customers 1 and 2.
fn with_lists(drop: &str, layout: &str) -> Site {
    let site = Builder { drop: drop.to_owned(), ..Builder::default() }.build();
    fs::create_dir(site.at("operator")).unwrap();
    site.write("operator/partner.layout.toml", LAYOUT);
    customers(&site, &[1, 2]);
    let config = fs::read_to_string(site.at("config.toml")).unwrap();
    let file = site.at("operator/partner.layout.toml");
    site.write(
        "config.toml",
        format!("{config}[drop.layout]\nfile = '{}'\nlists = ['*.csv']\n{layout}\n", file.display()),
    );
    site
}

/// A list as a German spreadsheet saves it.
fn list(rows: &[&str]) -> Vec<u8> {
    format!("{HEADER}{}\n", rows.join("\n")).chars().map(|letter| u8::try_from(u32::from(letter)).unwrap()).collect()
}

#[test]
fn a_list_of_the_partners_own_is_a_manifest() {
    let site = with_lists("", "");
    site.put("day/a.png", image(Format::Png, 1));
    site.put("day/b/b.png", image(Format::Png, 2));
    site.put("day/list.csv", list(&["B-1;1;Reisepass;a.png", "", r"B-2;00002;Führerschein;b\b.png"]));
    site.run_once().expect(0);
    let receipt = site.receipt("day/list.csv");
    assert_eq!((&receipt["status"], &receipt["counts"]["created"]), (&json!("done"), &json!(2)), "{receipt}");
    assert_eq!(receipt["layout"]["file"], "partner.layout.toml");
    let entry = &receipt["entries"][1];
    assert_eq!((&entry["reference"], &entry["profile_id"]), (&json!("B-2"), &json!(profile(2))));
    assert_eq!(entry["source"], json!({ "file": "list.csv", "row": 4 }));
    assert_eq!(entry["images"][0]["path"], "b/b.png");
    assert_eq!(site.left(), Vec::<String>::new());
    assert!(site.moved_to("done").iter().any(|path| path.ends_with("day/list.csv")), "{:?}", site.files());
    // The same list again asks for nothing new.
    let known = site.receipt_paths("day/list.csv");
    site.put("day/list.csv", list(&["B-1;1;Reisepass;a.png", r"B-2;00002;Führerschein;b\b.png"]));
    site.run_once().expect(0);
    assert_eq!(site.newer_receipt("day/list.csv", &known)["counts"]["duplicate"], 2);
    assert_eq!(site.summary().documents, 2);
}

#[test]
fn a_list_waits_for_its_files_and_goes_on_when_they_come() {
    let site = with_lists("", "");
    site.put("list.csv", list(&["B-1;1;Reisepass;a.png", "B-2;2;Reisepass;late.png"]));
    site.put("a.png", image(Format::Png, 1));
    let mut daemon = site.daemon();
    daemon.wait_until("the list waits", || site.run(&["why", "list.csv"]).said().contains("it waits for late.png"));
    assert_eq!(site.summary().documents, 0);
    site.put("late.png", image(Format::Png, 2));
    daemon.wait_until("it is settled", || site.is_settled("list.csv"));
    assert_eq!(site.receipt("list.csv")["counts"]["created"], 2);
    daemon.terminate().expect(0);
}

#[test]
fn what_the_layout_warns_of_is_in_the_receipt_in_show_and_in_the_numbers() {
    for record in ["document", "image"] {
        let layout = LAYOUT.replace("[document]\n", &format!("[document]\nrecord = \"{record}\"\n"));
        let site = with_lists("", "");
        let config = fs::read_to_string(site.at("config.toml")).unwrap();
        site.write("config.toml", config + "[http]\nlisten = '127.0.0.1:0'\n");
        site.write("operator/partner.layout.toml", layout);
        site.put("a.png", image(Format::Png, 1));
        site.put("b.png", image(Format::Png, 2));
        let rows =
            ["B-1;1;Reisepass;a.png", "B-2;2;Reisepass;b.png", "B-2;2;Reisepass;b.png", "B-2;00002;Reisepass;b.png"];
        site.put("list.csv", list(&rows));
        site.run_once().expect(0);
        let receipt = site.receipt("list.csv");
        assert_eq!((&receipt["counts"]["entries"], &receipt["counts"]["created"]), (&json!(2), &json!(2)), "{receipt}");
        assert!(receipt["entries"][0].get("warnings").is_none(), "{receipt}");
        let warning = &receipt["entries"][1]["warnings"][0];
        assert_eq!(warning["kind"], "duplicate-record", "{record}: {receipt}");
        assert_eq!(warning["reason"], "the same record is there again, in row 4, 2 times in all");
        assert!(warning["cure"].as_str().is_some_and(|cure| !cure.is_empty()));
        site.run(&["show", "2"]).expect(0).says("the same record is there again, in row 4");
        let (daemon, page) = site.daemon_with_page();
        let series = "warnings_total{drop=\"partner\",kind=\"duplicate-record\"}";
        assert_eq!(value(&metrics(page), series), 1.0, "{}", metrics(page));
        daemon.terminate().expect(0);
    }
    // Refused, it is an error like any other warning.
    let site = with_lists("refuse_warnings = ['duplicate-record']", "");
    site.put("a.png", image(Format::Png, 1));
    site.put("list.csv", list(&["B-1;1;Reisepass;a.png", "B-1;1;Reisepass;a.png"]));
    site.run_once().expect(1);
    assert_eq!(site.receipt("list.csv")["entries"][0]["status"], "invalid");
}

/// Rows may be missing behind where a spreadsheet ends; that was said of CSV manifests alone.
#[test]
fn a_list_that_ends_where_a_spreadsheet_does_is_warned_of_in_receipt_and_check() {
    let site = with_lists("", "");
    site.put("a.png", image(Format::Png, 1));
    let blank = ";;;\n".repeat(65_534);
    site.put("list.csv", format!("{HEADER}{blank}B-1;1;Reisepass;a.png\n"));
    let check = ["check", "drop/list.csv", "--layout", "operator/partner.layout.toml"];
    site.run(&check).expect(0).says("warning, row_limit");
    site.run(&[&check[..], &["--refuse-warnings", "row-limit"]].concat()).expect(1);
    site.run_once().expect(0);
    let receipt = site.receipt("list.csv");
    assert_eq!(
        (&receipt["status"], &receipt["warnings"][0]["kind"]),
        (&json!("done"), &json!("row-limit")),
        "{receipt}"
    );
    site.run(&["show", "batch", "1"]).expect(0).says("ends exactly where a spreadsheet does, at row 65536");

    let site = with_lists("refuse_warnings = ['row-limit']", "");
    site.put("a.png", image(Format::Png, 1));
    site.put("list.csv", format!("{HEADER}{blank}B-1;1;Reisepass;a.png\n"));
    site.run_once().expect(1);
    assert_eq!(site.receipt("list.csv")["status"], "rejected");
    assert_eq!(site.summary().documents, 0);
}

#[test]
fn an_unknown_customer_is_invalid_with_its_row_and_a_cure() {
    for (drop, created) in [("", 1), ("on_invalid = 'reject'", 0), ("max_invalid = 0", 1)] {
        let site = with_lists(drop, "");
        site.put("list.csv", list(&["B-1;1;Reisepass;a.png", "B-9;99;Reisepass;b.png"]));
        site.put("a.png", image(Format::Png, 1));
        site.put("b.png", image(Format::Png, 2));
        site.run_once().expect(1);
        let receipt = site.receipt("list.csv");
        assert_eq!(receipt["counts"]["created"], created, "{drop}: {receipt}");
        let entry = &receipt["entries"][1];
        assert_eq!((&entry["status"], &entry["source"]["row"]), (&json!("invalid"), &json!(3)), "{receipt}");
        let problem = &entry["errors"][0];
        let words = problem.to_string();
        assert!(words.contains("no such KdNr in kunden.csv") && words.contains("99"), "{words}");
        assert!(!problem["cure"].as_str().unwrap().is_empty());
    }
}

#[test]
fn only_the_profiles_of_the_drop_can_be_chosen() {
    let site = with_lists(&format!("profiles = ['{}']", profile(1)), "");
    site.put("list.csv", list(&["B-1;1;Reisepass;a.png", "B-2;2;Reisepass;b.png"]));
    site.put("a.png", image(Format::Png, 1));
    site.put("b.png", image(Format::Png, 2));
    site.run_once().expect(1);
    let receipt = site.receipt("list.csv");
    assert_eq!((&receipt["counts"]["created"], &receipt["counts"]["invalid"]), (&json!(1), &json!(1)), "{receipt}");
}

#[test]
fn a_lookup_is_read_again_when_its_file_has_changed() {
    let site = with_lists("", "");
    let mut daemon = site.daemon();
    site.put("a.png", image(Format::Png, 1));
    site.put("1.csv", list(&["B-1;1;Reisepass;a.png"]));
    daemon.wait_until("the first list is settled", || site.is_settled("1.csv"));
    customers(&site, &[1, 2, 3]);
    site.put("c.png", image(Format::Png, 3));
    site.put("2.csv", list(&["B-3;3;Reisepass;c.png"]));
    daemon.wait_until("the second list is settled", || site.is_settled("2.csv"));
    assert_eq!(site.receipt("2.csv")["entries"][0]["profile_id"], profile(3));
    // One that is gone is the operator's to bring back: the list waits.
    fs::remove_file(site.at("operator/kunden.csv")).unwrap();
    site.put("d.png", image(Format::Png, 4));
    site.put("3.csv", list(&["B-4;1;Reisepass;d.png"]));
    daemon.wait_until("the list waits", || site.run(&["why", "3.csv"]).said().contains("lookup kunden"));
    customers(&site, &[1, 2]);
    daemon.wait_until("it is settled", || site.is_settled("3.csv"));
    daemon.terminate().expect(0);
    assert_eq!(site.summary().documents, 3);
}

#[test]
fn a_list_that_the_layout_does_not_fit_is_refused_as_a_whole() {
    let site = with_lists("", "");
    site.put("a.png", image(Format::Png, 1));
    site.put("list.csv", "Beleg-Nr;Kunde;Belegart;Datei\nB-1;1;Reisepass;a.png\n");
    site.run_once().expect(1);
    let receipt = site.receipt("list.csv");
    assert_eq!(receipt["status"], "rejected", "{receipt}");
    assert!(receipt.to_string().contains("Kunden-Nr"), "{receipt}");
    assert_eq!(site.left(), ["a.png"]);
}

/// A partner's workbook of 2 KB announced more strings than memory could hold, and ended the worker at each start.
#[test]
fn a_workbook_that_announces_more_than_it_has_is_refused() {
    let site = with_lists("", "");
    site.write(
        "operator/partner.layout.toml",
        LAYOUT.replace("csv = \"any.csv\"\nencoding = \"windows-1252\"", "xlsx = \"any.xlsx\""),
    );
    site.edit_config("lists = ['*.csv']", "lists = ['*.xlsx']\nxlsx = true");
    let part = |from: &str, target: &str| format!("<Relationship Id='r' Type='x/{from}' Target='{target}'/>");
    for (name, count) in [("good", 0), ("many", 1_u64 << 44), ("most", u64::MAX)] {
        let strings = ["Beleg-Nr", "Kunden-Nr", "Belegart", "Datei", "B-1", "1", "Reisepass", "a.png"];
        let items: String = strings.iter().map(|text| format!("<si><t>{text}</t></si>")).collect();
        let row = |from: usize| (from..from + 4).map(|at| format!("<c t='s'><v>{at}</v></c>")).collect::<String>();
        let mut workbook = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (path, content) in [
            (
                "_rels/.rels",
                format!("<Relationships>{}</Relationships>", part("relationships/officeDocument", "xl/workbook.xml")),
            ),
            ("xl/workbook.xml", "<workbook><sheets><sheet name='List' r:id='r'/></sheets></workbook>".to_owned()),
            ("xl/_rels/workbook.xml.rels", format!("<Relationships>{}</Relationships>", part("worksheet", "list.xml"))),
            ("xl/sharedStrings.xml", format!("<sst uniqueCount='{count}'>{items}</sst>")),
            (
                "xl/list.xml",
                format!("<worksheet><sheetData><row>{}</row><row>{}</row></sheetData></worksheet>", row(0), row(4)),
            ),
        ] {
            workbook.start_file(path, SimpleFileOptions::default()).unwrap();
            workbook.write_all(content.as_bytes()).unwrap();
        }
        site.put(&format!("{name}.xlsx"), workbook.finish().unwrap().into_inner());
    }
    site.put("a.png", image(Format::Png, 1));
    site.run_once().expect(1);
    assert_eq!(site.receipt("good.xlsx")["counts"]["created"], 1);
    for name in ["many.xlsx", "most.xlsx"] {
        let receipt = site.receipt(name);
        assert_eq!(receipt["status"], "rejected", "{receipt}");
        let words = receipt.to_string();
        assert!(words.contains("sharedStrings.xml") && words.contains("save the workbook again"), "{words}");
    }
}

#[test]
fn after_a_kill_at_any_step_of_the_taking_the_list_is_created_once() {
    for place in [
        "after.commit.begin_taking",
        "after.take.file",
        "after.take.sync",
        "after.commit.admit_whole",
        "after.publish.rename",
    ] {
        let site = with_lists("", "");
        site.put("day/a.png", image(Format::Png, 1));
        site.put("day/b.png", image(Format::Png, 2));
        site.put("day/list.csv", list(&["B-1;1;Reisepass;a.png", "B-2;2;Reisepass;b.png", "B-9;9;Reisepass;c.png"]));
        site.run_once_killed_at(place);
        site.run_once().expect(1);
        let receipt = site.receipt("day/list.csv");
        assert_eq!((&receipt["counts"]["created"], &receipt["counts"]["invalid"]), (&json!(2), &json!(1)), "{place}");
        assert_eq!(receipt["entries"][1]["source"], json!({ "file": "list.csv", "row": 3 }));
        assert_eq!(site.summary().documents, 2, "{place}");
        assert_eq!(site.left(), Vec::<String>::new(), "{place}");
    }
}

#[test]
fn other_references_for_the_same_list_wait_for_the_operator() {
    let site = with_lists("incomplete_after = '1s'", "");
    site.put("a.png", image(Format::Png, 1));
    site.put("list.csv", list(&["B-1;1;Reisepass;a.png"]));
    site.run_once().expect(0);
    site.write("operator/partner.layout.toml", LAYOUT.replace("{Beleg-Nr}", "A-{Beleg-Nr}"));
    site.put("a.png", image(Format::Png, 1));
    site.put("list.csv", list(&["B-1;1;Reisepass;a.png"]));
    site.run_once().expect(3);
    assert!(site.run(&["why", "list.csv"]).said().contains("new_references = true"));
    site.edit_config("lists = ['*.csv']", "lists = ['*.csv']\nnew_references = true");
    site.run_once().expect(0);
    assert_eq!(site.summary().documents, 2);
}

#[test]
fn what_is_wrong_with_a_layout_is_said_at_the_start() {
    let layout = |from: &str, to: &str| LAYOUT.replace(from, to);
    let folder = "images = [{ folder = \"{Datei}\" }]";
    for (text, keys, words) in [
        (layout("lookup kunden}", "lookup kunde}"), "", "lookup"),
        (layout("kunden.csv", "customers.csv"), "", "there is no such file"),
        (layout("kunden.csv", "../drop/kunden.csv"), "", "is inside the drop partner"),
        (layout("csv = \"any.csv\"\nencoding = \"windows-1252\"", "xlsx = \"any.xlsx\""), "", "xlsx = true"),
        (layout("csv = \"any.csv\"\nencoding = \"windows-1252\"", "sidecars = \"**/*.json\""), "", "reads no list"),
        (
            layout("images = [{ path = \"{Datei}\", image_type = \"FRONT\" }]", folder),
            "",
            "each file named in the list",
        ),
        (LAYOUT.to_owned(), "list = ['*.csv']", "the nearest known key is lists"),
    ] {
        let site = with_lists("", keys);
        site.put("kunden.csv", "KdNr,Profil\n");
        site.write("operator/partner.layout.toml", &text);
        let refused = site.run(&["run", "--once"]).expect(2);
        assert!(refused.stderr.contains(words), "{words} is not in:\n{}", refused.stderr);
        assert!(!site.at("state/queue.db").exists());
    }
    let site = with_lists("", "");
    site.put("partner.layout.toml", LAYOUT);
    site.edit_config("operator/partner.layout.toml", "drop/partner.layout.toml");
    site.run(&["run", "--once"]).expect(2).says("it is inside the drop partner");
}
