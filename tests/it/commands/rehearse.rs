//! `rehearse`: what the import would come to, with nothing sent and nothing left behind.

use std::{collections::BTreeMap, fs, os::unix::fs::symlink, path::Path, time::SystemTime};

use passfort_ingest::{entry::ProfileId, sandbox::Options};
use serde_json::{Value, json};

use crate::support::{Builder, Format, Site, entry, image, profile};

/// Everything below a folder, with when it changed.
fn tree(folder: &Path) -> BTreeMap<String, (u64, SystemTime)> {
    let mut found = BTreeMap::new();
    for file in fs::read_dir(folder).unwrap() {
        let file = file.unwrap();
        let about = file.metadata().unwrap();
        found.insert(file.path().display().to_string(), (about.len(), about.modified().unwrap()));
        if about.is_dir() {
            found.extend(tree(&file.path()));
        }
    }
    found
}

/// Good and bad entries of every kind, in manifests of two formats, and one that is unusable.
fn mixed() -> Site {
    let site = Site::new();
    for (name, number) in [("a.png", 1), ("b.png", 2), ("c.png", 3)] {
        site.write(&format!("in/{name}"), image(Format::Png, number));
    }
    site.write("in/text.png", "no image");
    site.write("in/cut.png", &image(Format::Png, 9)[..60]);
    let mut other = entry("a", 1, "b.png");
    other["images"][0]["image_type"] = json!("FRONT");
    let documents = [
        entry("a", 1, "a.png"),
        entry("a", 1, "a.png"),
        other,
        entry("text", 1, "text.png"),
        entry("cut", 1, "cut.png"),
        entry("gone", 1, "gone.png"),
        entry("shared", 2, "b.png"),
        entry("shared too", 3, "b.png"),
    ];
    let manifest =
        json!({ "version": 1, "documents": documents, "files": [{ "profile_id": profile(4), "path": "c.png" }] });
    site.write("in/1.manifest.json", manifest.to_string());
    site.write(
        "in/sub/2.manifest.csv",
        format!("profile_id,reference,path\n{},a,../a.png\n{},d,d.pdf\nx,e,d.pdf\n", profile(5), profile(5)),
    );
    site.write("in/sub/d.pdf", image(Format::Pdf, 4));
    site.write("in/3.manifest.json", "{");
    site
}

fn verdict(manifest: &str, entry: &Value) -> (String, Option<u64>, Value, Vec<Value>) {
    let errors = entry["errors"].as_array().into_iter().flatten().map(|error| error["reason"].clone());
    (manifest.to_owned(), entry["index"].as_u64(), entry["status"].clone(), errors.collect())
}

#[test]
fn each_entry_comes_to_the_same_as_in_the_import_and_nothing_is_written_or_sent() {
    let site = mixed();
    let before = tree(&site.at("in"));
    let rehearsed = site.run(&["rehearse", "in", "--json"]).expect(1);
    assert_eq!(tree(&site.at("in")), before);
    assert!(site.ledger().is_empty() && !site.at("state/queue.db").exists());
    assert!(rehearsed.stderr.contains("Nothing was sent"), "{}", rehearsed.stderr);
    let name = |path: &str| Path::new(path).file_name().unwrap().to_str().unwrap().to_owned();
    let mut expected_by_rehearsal: Vec<_> = rehearsed
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|line| verdict(&name(line["manifest"].as_str().unwrap()), &line))
        .collect();
    assert!(!rehearsed.stdout.contains("_id\":\"") || !rehearsed.stdout.contains("document_id"), "IDs of the sandbox");

    site.run(&["import", "in", "--receipts-to", "said"]).expect(1);
    let mut came = Vec::new();
    for path in tree(&site.at("said")).keys().filter(|path| path.ends_with(".receipt.json")) {
        let receipt: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let manifest = name(receipt["manifest"].as_str().unwrap());
        if receipt["status"] == "rejected" {
            came.push(verdict(&manifest, &receipt));
        }
        came.extend(receipt["entries"].as_array().unwrap().iter().map(|entry| verdict(&manifest, entry)));
    }
    let order = |verdicts: &mut Vec<(String, Option<u64>, Value, Vec<Value>)>| {
        verdicts.sort_by(|one, other| (&one.0, one.1).cmp(&(&other.0, other.1)));
    };
    order(&mut came);
    order(&mut expected_by_rehearsal);
    assert_eq!(expected_by_rehearsal, came);
    assert_eq!(came.len(), 13);
}

#[test]
fn people_read_what_would_not_be_created() {
    let site = mixed();
    let said = site.run(&["rehearse", "in"]).expect(1).stdout;
    for part in
        ["would be created", "gone: images[0].path: gone.png: line 1: there is no such file", "warning: ", "unusable"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    // An archive that nobody may write to, and no configuration.
    site.write("good/a.png", image(Format::Png, 1));
    site.write("good/a.manifest.json", json!({ "version": 1, "documents": [entry("a", 1, "a.png")] }).to_string());
    let command = site.bare_command(".", &["rehearse", "good"]);
    let said = site.finish(command).expect(0).stdout;
    assert!(said.contains("1 entries: 1 would be created"), "{said}");
    assert_eq!(tree(&site.at("good")).len(), 2);
}

#[test]
fn the_rules_of_a_drop_and_refused_warnings_hold() {
    let site = mixed();
    let said = site.run(&["rehearse", "in", "--refuse-warnings", "shared-image"]).expect(1).stdout;
    assert!(said.contains("invalid: ") && said.contains("refuse_warnings"), "{said}");
    site.run(&["rehearse", "nowhere"]).expect(2);
    site.run(&["rehearse", "in", "--scratch", "nowhere"]).expect(2);
}

/// The profile of which the API knows nothing, and one whose documents it refuses.
const NO_PROFILE: u32 = 900;
const APPROVED: u32 = 901;

/// The only categories that the API takes.
const CATEGORIES: [&str; 3] = ["PROOF_OF_IDENTITY", "SUPPORTING", "SPECIAL"];

/// How many kinds of entries [`documents`] knows.
const KINDS: u32 = 33;

/// A document of the kind that a number has, with its files; some are of no use, some the API refuses.
fn document(site: &Site, folder: &str, number: u32) -> Value {
    let put = |name: &str, content: &[u8]| {
        site.write(&format!("{folder}/{number}/{name}"), content);
        format!("{number}/{name}")
    };
    let own = |number: u32| put("own.png", &image(Format::Png, number));
    let mut document = entry(&format!("r-{number}"), number % 40, "");
    let mut set = |field: &str, value: Value| document[field] = value;
    let one = |path: String| json!([{ "path": path, "image_type": "FRONT" }]);
    let other_profile = |number: u32| json!(profile(number % 40 + 40));
    set("images", one(own(number)));
    let before = |back: u32| format!("{}/own.png", number - back);
    let pdf = |words: &str| [&image(Format::Pdf, number), words.as_bytes()].concat();
    match number % KINDS {
        0 => {}
        1 => {
            let sides = [put("a.jpg", &image(Format::Jpeg, number)), put("b.tif", &image(Format::Tiff, number))];
            set(
                "images",
                json!([{ "path": sides[0], "image_type": "FRONT" }, { "path": sides[1], "image_type": "BACK" }]),
            );
        }
        2 => set("images", one(put("a.pdf", &image(Format::Pdf, number)))),
        3 => set("reference", Value::Null),
        // The one before, once more; other content; and other content on purpose.
        4..=6 => {
            set("reference", json!(format!("r-{}", number / KINDS * KINDS)));
            set("profile_id", json!(profile(number / KINDS * KINDS % 40)));
            set("replace", json!(number % KINDS == 6));
            if number % KINDS == 4 {
                set("images", one(before(4)));
            }
        }
        7 => set("images", one("gone.png".into())),
        8 => set("images", one(put("text.png", b"no image"))),
        9 => set("images", one(put("cut.png", &image(Format::Png, number)[..50]))),
        10 => set("images", json!([{ "path": own(number), "sha256": "0".repeat(64) }])),
        11 => set("images", json!([{ "path": own(number), "bytes": 3 }])),
        12 => set("profile_id", json!("17")),
        13 => set("categry", json!("SUPPORTING")),
        14 => set("images", one("../own.png".into())),
        15 => set("category", json!("SPECIAL")),
        16 => set("category", json!("PROOF_OF_ADDRESS")),
        17 => set("profile_id", json!(profile(NO_PROFILE))),
        18 => set("profile_id", json!(profile(APPROVED))),
        19 => set("document_type", json!("LIBRARY_CARD")),
        20 => {
            set("images", one(put("shared.png", &image(Format::Png, 1_000_000))));
            set("profile_id", other_profile(number));
        }
        21 => set("images", json!([{ "path": own(number), "image_type": "BACK" }])),
        22 => set("reference", json!(format!("R-{}\u{200b}", number - 1))),
        23 => set("reference", json!(format!("1.{number:05}E+14"))),
        24 => set("images", one(put("locked.pdf", &pdf("trailer<</Encrypt 9 0 R>>\n%%EOF\n")))),
        25 => {
            let mut damaged = image(Format::Png, number);
            damaged[45] ^= 1;
            set("images", one(put("damaged.png", &damaged)));
        }
        26 => {
            put("Near.png", &image(Format::Png, number));
            set("images", one(format!("{number}/near.PNG")));
        }
        // Again what the API refuses: the profile, with the same content and with other; the category.
        27 => {
            set("reference", json!(format!("r-{}", number - 10)));
            set("profile_id", json!(profile(NO_PROFILE)));
            set("images", one(before(10)));
        }
        28 => set("profile_id", json!(profile(NO_PROFILE))),
        32 => set("reference", json!(format!("r-{}", number - 15))),
        29 => {
            symlink("own.png", site.at(&format!("{folder}/{number}/link.png"))).unwrap();
            set("images", one(format!("{number}/link.png")));
        }
        30 => set("images", one(put("empty.png", b""))),
        _ => set("extracted_data", json!({ "number": number, "digits": 12.50 })),
    }
    document
}

/// An archive with some hundred entries of every kind, in manifests of each format.
fn archive(site: &Site, folder: &str) {
    let documents: Vec<Value> = (0..8 * KINDS).map(|number| document(site, folder, number)).collect();
    let files: Vec<Value> = (0..12)
        .map(|number| {
            site.write(&format!("{folder}/files/{number}.pdf"), image(Format::Pdf, 5000 + number / 2));
            let profile_id = profile(if number % 4 == 3 { NO_PROFILE } else { number % 3 });
            json!({ "reference": format!("f-{}", number / 2), "profile_id": profile_id, "path": format!("files/{number}.pdf") })
        })
        .collect();
    let (json_documents, lines) = documents.split_at(documents.len() / 2);
    let manifest = json!({ "version": 1, "documents": json_documents, "files": files });
    site.write(&format!("{folder}/1.manifest.json"), manifest.to_string());
    let lines: String = lines.iter().map(|document| format!("{document}\n")).collect();
    site.write(&format!("{folder}/2.manifest.jsonl"), format!("{lines}{{broken\n"));
    let mut rows = String::from("profile_id,reference,category,document_type,path,image_type\n");
    for number in 0..40 {
        let (person, own) = (profile(number), format!("rows/{number}.png"));
        site.write(&format!("{folder}/{own}"), image(Format::Png, 6000 + number));
        let (category, image_type) =
            [("SUPPORTING", "FRONT"), ("FISHING", "FRONT"), ("SUPPORTING", "SIDE")][number as usize % 3];
        rows += &format!("{person},c-{},{category},PASSPORT,{own},{image_type}\n", number - number % 5 / 4);
    }
    site.write(&format!("{folder}/3.manifest.csv"), rows);
    // Everything of the first once more, by a path that differs.
    site.write(&format!("{folder}/4.manifest.json"), format!(" {manifest}"));
    site.write(&format!("{folder}/5.manifest.json"), "[");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let (file, to) = file.map(|file| (file.path(), to.join(file.file_name()))).unwrap();
        if file.is_symlink() {
            symlink(fs::read_link(&file).unwrap(), to).unwrap();
        } else if file.is_dir() {
            copy(&file, &to);
        } else {
            fs::copy(&file, to).unwrap();
        }
    }
}

/// What an entry comes to, or a manifest as a whole, without what only one run can have: IDs and times, the numbers of jobs,
/// and which of several entries that ask for the same heard the API's refusal itself.
fn result(said: &Value, manifest: &str) -> (String, Option<u64>, Value) {
    let mut said = said.clone();
    let own = ["document_id", "file_id", "account", "drop", "received_at", "finished_at", "manifest", "entries"];
    own.iter().for_each(|field| drop(said.as_object_mut().unwrap().remove(*field)));
    for image in said["images"].as_array_mut().into_iter().flatten() {
        image.as_object_mut().unwrap().remove("image_id");
    }
    for error in said["errors"].as_array_mut().into_iter().flatten() {
        let reason = error["reason"].as_str().unwrap();
        if let Some((_, refusal)) = reason.rsplit_once("the API refused it") {
            *error = json!(format!("the API refused it{refusal}"));
        } else if let Some((line, conflict)) = reason.split_once("job ") {
            error["reason"] =
                json!(format!("{line}job{}", conflict.trim_start_matches(|digit: char| digit.is_ascii_digit())));
        }
    }
    if let Some(reason) = said["reason"].as_str() {
        said["reason"] = json!(reason.trim_end_matches(|digit: char| digit.is_ascii_digit()));
    }
    let manifest = Path::new(manifest).file_name().unwrap().to_str().unwrap();
    (manifest.to_owned(), said["index"].as_u64(), said)
}

#[test]
fn hundreds_of_entries_of_every_kind_come_to_the_same_with_and_without_faults() {
    let faults = [
        "upload_image=status-before:503,p=0.05",
        "upload_image=lost,p=0.05",
        "upload_file=status-before:500,p=0.1",
        "create_document=lost,p=0.1",
        "create_document=cut,p=0.05",
        "upload_file=throttle:1,times=1",
        "read_documents=garbled,p=0.1",
    ];
    let approved = format!("create_document=status-before:400/102,profile={}", profile(APPROVED));
    for faults in [&[][..], &faults] {
        let faults: Vec<&str> = [approved.as_str()].into_iter().chain(faults.iter().copied()).collect();
        let known: Vec<String> = (0..80).chain([APPROVED]).map(profile).collect();
        let options = Options {
            profiles: known.iter().map(|id| ProfileId::parse(id).unwrap()).collect(),
            categories: CATEGORIES.map(str::to_owned).to_vec(),
            faults: faults.iter().map(|rule| rule.parse().unwrap()).collect(),
            ..Options::default()
        };
        let site = Builder { sandbox: options, ..Builder::default() }.build();
        archive(&site, "in");
        copy(&site.at("in"), &site.at("copy"));

        let mut rehearse = vec!["rehearse", "in", "--json"];
        rehearse.extend(known.iter().flat_map(|id| ["--profile", id]));
        rehearse.extend(CATEGORIES.iter().flat_map(|name| ["--category", name]));
        rehearse.extend(faults.iter().flat_map(|rule| ["--fault", rule]));
        let said = site.run(&rehearse).expect(1).stdout.replace(site.at("in").to_str().unwrap(), "");
        let rehearsed = said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut rehearsed: Vec<_> = rehearsed.map(|line| result(&line, line["manifest"].as_str().unwrap())).collect();

        site.run(&["import", "copy", "--receipts-to", "said"]).expect(1);
        let mut came = Vec::new();
        for path in tree(&site.at("said")).keys().filter(|path| path.ends_with(".receipt.json")) {
            let receipt = fs::read_to_string(path).unwrap().replace(site.at("copy").to_str().unwrap(), "");
            let receipt: Value = serde_json::from_str(&receipt).unwrap();
            let manifest = receipt["manifest"].as_str().unwrap();
            if receipt["status"] == "rejected" {
                came.push(result(&receipt, manifest));
            }
            came.extend(receipt["entries"].as_array().unwrap().iter().map(|entry| result(entry, manifest)));
        }
        for results in [&mut rehearsed, &mut came] {
            results.sort_by(|one, other| (&one.0, one.1).cmp(&(&other.0, other.1)));
        }
        let differ: Vec<_> = rehearsed.iter().zip(&came).filter(|(one, other)| one != other).collect();
        assert!(differ.is_empty(), "{} of {} differ: {:#?}", differ.len(), came.len(), &differ[..differ.len().min(3)]);
        assert_eq!(rehearsed.len(), came.len());
        let ends = |status: &str| came.iter().filter(|(.., entry)| entry["status"] == status).count();
        let ends = ["created", "duplicate", "failed", "invalid", "rejected"].map(ends);
        assert!(ends.iter().zip([100, 50, 80, 120, 1]).all(|(found, least)| *found >= least), "{ends:?}");
        let warned = came.iter().filter(|(.., entry)| !entry["warnings"].is_null()).count();
        assert!(warned > 50, "{warned}");
    }
}
