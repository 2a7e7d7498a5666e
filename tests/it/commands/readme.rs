//! The README's commands and examples work as written.

use std::fs;

use passfort_ingest::sandbox::ApiCall;

use crate::support::{Format, Site, image, read_receipt};

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");

/// The blocks of code of one language.
fn blocks(language: &str) -> Vec<String> {
    let readme = fs::read_to_string(README).unwrap();
    let opening = format!("```{language}\n");
    let starts = readme.split(&opening).skip(1);
    starts.map(|text| text.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn the_csv_of_the_migration_team_is_imported_by_the_command_beside_it() {
    let site = Site::new();
    let csv = blocks("csv").remove(0);
    site.write("batch.manifest.csv", &csv);
    site.write("scans/17/front.jpg", image(Format::Jpeg, 1));
    site.write("scans/17/face.png", image(Format::Png, 2));
    site.write("scans/17/pep.pdf", image(Format::Pdf, 3));
    let shell = blocks("sh").join("\n");
    let line = shell.lines().find(|line| line.contains("import batch.manifest.csv")).unwrap();
    let here = line.replace("/archive/", &format!("{}/", site.at("").display().to_string().trim_end_matches('/')));
    let words: Vec<&str> = here.split_whitespace().skip(1).collect();

    site.run(&words).expect(0);

    let receipt = read_receipt(&site.at("receipts/batch.manifest.csv.receipt.json"));
    assert_eq!((&receipt["status"], &receipt["counts"]["created"]), (&"done".into(), &2.into()), "{receipt}");
    assert_eq!(site.documents()[0].images.len(), 2);
    assert_eq!(site.calls(ApiCall::UploadFile)[0].name.as_deref(), Some("PEP Declaration Form.pdf"));
    site.run(&["export"]).expect(0).says("customer-17/passport");
}

#[test]
fn the_drops_of_the_readme_are_accepted() {
    let drops: Vec<String> = blocks("toml").into_iter().filter(|block| block.contains("[[drop]]")).collect();
    assert!(drops.len() >= 2, "{drops:?}");
    for drop in drops {
        let site = Site::new();
        let config = fs::read_to_string(site.at("config.toml")).unwrap();
        site.write("config.toml", format!("{config}\n{drop}"));
        site.run(&["config", "show"]).expect(0);
    }
}

#[test]
fn the_commands_of_the_readme_exist() {
    let site = Site::new();
    let shell = blocks("sh").join("\n").replace("cargo run --release -- ", "passfort-ingest ");
    let mut commands: Vec<&str> = shell
        .lines()
        .filter_map(|line| line.strip_prefix("passfort-ingest "))
        .filter_map(|rest| rest.split_whitespace().next())
        .collect();
    commands.sort_unstable();
    commands.dedup();
    assert!(commands.len() >= 4, "{commands:?}");
    for command in commands {
        site.run(&[command, "--help"]).expect(0).says("Usage");
    }
}
