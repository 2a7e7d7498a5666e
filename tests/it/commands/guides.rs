//! The pages in `guides/`: their commands and examples work as written. Those of `operating.md` need a booted system;
//! `scripts/check-packages.sh` runs them.

use std::{fs, process::Command};

use passfort_ingest::sandbox::ApiCall;

use crate::support::{Format, Site, image, read_receipt};

/// The blocks of code of one language on a page.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let path = format!("{}/guides/{page}", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(path).unwrap();
    let opening = format!("```{language}\n");
    text.split(&opening).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// An archive of so many documents, with its list.
fn archive(site: &Site, documents: u32) {
    let mut list = "profile_id,reference,category,document_type,path\n".to_owned();
    for number in 0..documents {
        site.write(&format!("archive/{number}.png"), image(Format::Png, number));
        let profile = crate::support::profile(number);
        list.push_str(&format!("{profile},K-{number},PROOF_OF_IDENTITY,PASSPORT,{number}.png\n"));
    }
    site.write("archive/list.manifest.csv", list);
}

#[test]
fn a_migration_follows_its_page() {
    let site = Site::new();
    archive(&site, 30);
    let commands = blocks("migration.md", "sh");
    assert!(commands.len() >= 4, "{commands:?}");
    for block in commands {
        let here = block.replace("/archive/", &format!("{}/", site.at("archive").display()));
        // The program is that of the harness, with its configuration and key.
        let program = site.command(&[]);
        let folder = std::path::Path::new(program.get_program()).parent().unwrap().to_owned();
        let mut command = Command::new("sh");
        command.args(["-euc", &here]).env("PATH", format!("{}:{}", folder.display(), std::env::var("PATH").unwrap()));
        command.env("PASSFORT_INGEST_CONFIG", site.at("config.toml"));
        command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        site.finish(command).expect(0);
    }
    let receipt = read_receipt(&site.at("archive/receipts/list.manifest.csv.receipt.json"));
    assert_eq!(receipt["counts"]["created"], 30, "{receipt}");
    let crosswalk = fs::read_to_string(site.at("archive/crosswalk.csv")).unwrap();
    assert_eq!(crosswalk.lines().count(), 31, "{crosswalk}");
    assert!(fs::read_to_string(site.at("archive/verify.txt")).unwrap().contains("30"));
    assert!(site.at("archive/queue-after-migration.db").exists());
    assert_eq!(site.summary().doubled, 0);
}

#[test]
fn a_partner_sends_what_the_page_shows() {
    let site = Site::new();
    let (csv, json) = (blocks("partners.md", "csv").remove(0), blocks("partners.md", "json").remove(0));
    for (path, format) in [
        ("17/front.jpg", Format::Jpeg),
        ("17/face.png", Format::Png),
        ("17/pep.pdf", Format::Pdf),
        ("18/bill.png", Format::Png),
    ] {
        site.put(path, image(format, u32::try_from(path.len()).unwrap() + u32::from(path.contains("face"))));
    }
    site.put("batch.manifest.csv", csv);
    site.put("bill.manifest.json", json);
    site.run_once().expect(0);
    assert_eq!(site.receipt("batch.manifest.csv")["counts"]["created"], 2);
    assert_eq!(site.receipt("bill.manifest.json")["counts"]["created"], 1);
    assert_eq!(site.calls(ApiCall::UploadFile)[0].name.as_deref(), Some("PEP Declaration Form.pdf"));
}
