//! What a day must result in, judged by what the stand-in holds and what the receipts say.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use passfort_ingest::sandbox::{ApiCall, DocumentView, LedgerEntry};
use serde_json::Value;

use super::{
    asked::{Asked, Content, Manifest, REFUSED},
    day::Day,
};
use crate::support::{counted_leftovers, leftovers, profile, read_receipt, sha256};

/// What the model says of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// It exists in the end, created for this entry or another one that asks for the same.
    Exists,
    /// The API takes nothing for its profile.
    Refused,
    /// It is not good enough to be tried.
    Invalid,
    /// Something happened to it while it was under way: both are right, if what the receipt says is true.
    Either,
}

/// An entry's identity: its reference, or else its content.
type Identity = Result<String, Content>;

/// One entry as a receipt reports it.
struct ReportedEntry<'a> {
    asked: &'a Asked,
    expected: Expected,
    /// The receipt that reports it.
    receipt: &'a Path,
    line: &'a Value,
}

impl ReportedEntry<'_> {
    fn status(&self) -> &str {
        self.line["status"].as_str().unwrap()
    }

    /// The ID of the document or file.
    fn id(&self) -> Option<&str> {
        self.line["document_id"].as_str().or(self.line["file_id"].as_str())
    }
}

fn expected(day: &Day, manifest: &Manifest, asked: &Asked) -> Expected {
    let touched = |asked: &Asked| asked.scans.iter().any(|scan| day.touched.contains_key(&manifest.file(&scan.path)));
    // Where one bad entry spoils all, it matters when any of them was touched.
    let all_touched = day.policy.reject && manifest.entries.iter().any(touched);
    if manifest.superseded || touched(asked) || all_touched {
        Expected::Either
    } else if asked.flaw.is_some() || (day.policy.reject && manifest.is_flawed()) {
        Expected::Invalid
    } else if asked.profile == REFUSED {
        Expected::Refused
    } else {
        Expected::Exists
    }
}

/// Judges a day that is over.
pub(super) fn judge(day: &Day) {
    let receipts: Vec<_> = receipts(day);
    let mut reported = Vec::new();
    for manifest in &day.manifests {
        let digest = sha256(manifest.text.as_bytes());
        // Another one may be the same to the letter, in another folder, and ask for other files by that.
        let anothers = |receipt: &Value| {
            receipt["manifest"] != manifest.path.as_str()
                && day
                    .manifests
                    .iter()
                    .any(|other| other.text == manifest.text && receipt["manifest"] == other.path.as_str())
        };
        let ours = receipts.iter().filter(|(_, receipt)| receipt["manifest_sha256"] == digest.as_str());
        let ours = ours.filter(|(_, receipt)| !anothers(receipt));
        let ours: Vec<_> = ours.collect();
        assert!(manifest.superseded || !ours.is_empty(), "no receipt tells of {}", manifest.path);
        for (path, receipt) in ours {
            reported.extend(reported_by(day, manifest, path, receipt));
        }
    }
    let documents = day.site.documents();
    let ledger = day.site.ledger();
    reported.iter().for_each(|entry| assert_true(day, entry, &documents, &ledger));
    assert_all_is_reported(&reported, &documents);
    assert_each_once(day, &reported);
    assert_nothing_is_left(day);
    if day.policy.after_success != "delete" {
        assert_every_file_is_somewhere(day);
    }
    assert_leftovers_are_counted(day, &ledger);
}

fn receipts(day: &Day) -> Vec<(std::path::PathBuf, Value)> {
    let files = day.site.files();
    let receipts = files.iter().filter(|file| file.starts_with("receipts/"));
    let receipts = receipts.map(|file| {
        let is_receipt = file.ends_with(".json") || file.ends_with(".jsonl");
        assert!(is_receipt && file.contains(".receipt."), "this is no receipt: {file}");
        let path = day.site.in_drop(file);
        let receipt = read_receipt(&path);
        (path, receipt)
    });
    receipts.collect()
}

/// The entries of a manifest as one of its receipts reports them.
fn reported_by<'a>(day: &Day, manifest: &'a Manifest, path: &'a Path, receipt: &'a Value) -> Vec<ReportedEntry<'a>> {
    let lines = receipt["entries"].as_array().unwrap();
    if day.policy.reject && receipt["status"] == "rejected" {
        // Only its bad entries are reported.
        let flawed = manifest
            .entries
            .iter()
            .any(|asked| matches!(expected(day, manifest, asked), Expected::Invalid | Expected::Either));
        assert!(flawed, "rejected for nothing: {receipt}");
        return Vec::new();
    }
    assert_eq!(lines.len(), manifest.entries.len(), "{}: {receipt}", manifest.path);
    let reported = manifest.entries.iter().zip(lines).map(|(asked, line)| {
        if let Some(reference) = line["reference"].as_str() {
            assert_eq!(Some(reference), asked.reference.as_deref(), "{line}");
        }
        ReportedEntry { asked, expected: expected(day, manifest, asked), receipt: path, line }
    });
    reported.collect()
}

/// What a receipt says of an entry is so.
fn assert_true(day: &Day, reported: &ReportedEntry<'_>, documents: &[DocumentView], ledger: &[LedgerEntry]) {
    let at = || format!("{}: {}", reported.receipt.display(), reported.line);
    let Some(id) = reported.id().filter(|_| matches!(reported.status(), "created" | "duplicate")) else {
        assert!(matches!(reported.status(), "failed" | "invalid" | "cancelled"), "{}", at());
        return;
    };
    let content_of = |image: &str| ledger.iter().find(|call| call.id.as_deref() == Some(image));
    let stands: Vec<String> = if reported.asked.category.is_some() {
        let document = documents.iter().find(|document| document.id == id);
        let document = document.unwrap_or_else(|| panic!("there is no such document: {}", at()));
        assert_eq!(Some(document.category.as_str()), reported.asked.category, "{}", at());
        assert_eq!(document.profile, profile(reported.asked.profile), "{}", at());
        let images = reported.line["images"].as_array().unwrap();
        if reported.status() == "created" {
            let said: Vec<_> = images.iter().map(|image| image["image_id"].as_str().unwrap()).collect();
            let there: Vec<_> = document.images.iter().map(|image| image.id.as_str()).collect();
            assert_eq!(said, there, "{}", at());
        }
        for (image, scan) in document.images.iter().zip(&reported.asked.scans) {
            let sent = content_of(&image.id).unwrap();
            assert_eq!(sent.image_type.as_deref(), scan.image_type, "{}", at());
            assert_eq!(sent.sha256.as_deref(), Some(image.sha256.as_str()));
        }
        document.images.iter().map(|image| image.sha256.clone()).collect()
    } else {
        let call = content_of(id).unwrap_or_else(|| panic!("there is no such file: {}", at()));
        assert_eq!((call.operation, call.committed), (ApiCall::UploadFile, true), "{}", at());
        assert_eq!(call.profile.as_deref(), Some(profile(reported.asked.profile).as_str()), "{}", at());
        vec![call.sha256.clone().unwrap()]
    };
    let (_, _, asked) = reported.asked.content();
    if reported.expected != Expected::Either {
        assert_eq!(stands, asked, "it is made of something else: {}", at());
        return;
    }
    assert_eq!(stands.len(), asked.len(), "{}", at());
    for (stands, asked) in stands.iter().zip(asked) {
        let other = day.touched.values().any(|contents| contents.contains(&asked) && contents.contains(stands));
        assert!(*stands == asked || other, "it is made of something else: {}", at());
    }
}

/// Every document at the API is one that a receipt says was created.
fn assert_all_is_reported(reported: &[ReportedEntry<'_>], documents: &[DocumentView]) {
    let created: BTreeSet<&str> =
        reported.iter().filter(|entry| entry.status() == "created").filter_map(ReportedEntry::id).collect();
    let unreported: Vec<_> = documents.iter().filter(|document| !created.contains(document.id.as_str())).collect();
    assert!(unreported.is_empty(), "no receipt says that these were created: {unreported:#?}");
}

/// Each identity exists once, or not at all where the model says so.
fn assert_each_once(day: &Day, reported: &[ReportedEntry<'_>]) {
    let mut identities: BTreeMap<Identity, Vec<&ReportedEntry<'_>>> = BTreeMap::new();
    for entry in reported {
        if entry.expected == Expected::Invalid {
            assert!(matches!(entry.status(), "invalid" | "failed"), "{}: {}", entry.receipt.display(), entry.line);
            continue;
        }
        let identity = entry.asked.reference.clone().ok_or_else(|| entry.asked.content());
        identities.entry(identity).or_default().push(entry);
    }
    for (identity, reported) in identities {
        let lines: Vec<_> =
            reported.iter().map(|entry| format!("{}: {}", entry.receipt.display(), entry.line)).collect();
        let lines = lines.join("\n");
        let with = |status: &str| -> BTreeSet<&str> {
            reported.iter().filter(|entry| entry.status() == status).filter_map(|entry| entry.id()).collect()
        };
        let (created, duplicate) = (with("created"), with("duplicate"));
        // Without a reference, a file that was replaced makes another entry.
        let one = identity.is_ok() || reported.iter().all(|entry| entry.expected != Expected::Either);
        assert!(created.len() <= 1 || !one, "created more than once: {identity:?}\n{lines}");
        assert!(duplicate.is_subset(&created), "a duplicate of nothing: {identity:?}\n{lines}");
        let all = |expected: Expected| reported.iter().all(|entry| entry.expected == expected);
        if all(Expected::Refused) {
            assert!(created.is_empty(), "the API takes nothing for its profile: {identity:?}\n{lines}");
        } else if all(Expected::Exists) && !day.cancelled {
            assert_eq!(created.len(), 1, "not created: {identity:?}\n{lines}");
            let contents: BTreeSet<Content> = reported.iter().map(|entry| entry.asked.content()).collect();
            let well = |entry: &&&ReportedEntry<'_>| matches!(entry.status(), "created" | "duplicate");
            if contents.len() == 1 {
                let unwell = reported.iter().filter(|entry| !well(entry)).count();
                assert_eq!(unwell, 0, "the same is there, and yet it is not well: {identity:?}\n{lines}");
            }
            let made: BTreeSet<Content> = reported.iter().filter(well).map(|entry| entry.asked.content()).collect();
            assert_eq!(made.len(), 1, "one reference for different things: {identity:?}\n{lines}");
        }
    }
    assert_eq!((day.site.summary().doubled, day.site.summary().doubled_ids), (0, 0), "{}", day.site.summary());
}

/// No manifest is left in the drop, and no file that only manifests name which are done with.
fn assert_nothing_is_left(day: &Day) {
    let left = day.site.left();
    let temporary: Vec<_> = day.site.files().into_iter().filter(|file| file.contains(".tmp")).collect();
    assert!(temporary.is_empty(), "{temporary:?}");
    if day.policy.after_success != "keep" {
        let manifests: Vec<_> = left.iter().filter(|file| file.contains(".manifest.")).collect();
        assert!(manifests.is_empty(), "left in the drop: {manifests:?}");
    }
}

/// Every file that was dropped, and not replaced by its sender, is somewhere.
fn assert_every_file_is_somewhere(day: &Day) {
    let there: BTreeSet<String> =
        day.site.files().iter().map(|file| sha256(&fs::read(day.site.in_drop(file)).unwrap())).collect();
    for manifest in day.manifests.iter().filter(|manifest| !manifest.superseded) {
        assert!(there.contains(&sha256(manifest.text.as_bytes())), "{} is gone", manifest.path);
        for scan in manifest.entries.iter().flat_map(|entry| &entry.scans) {
            let file = manifest.file(&scan.path);
            assert!(day.touched.contains_key(&file) || there.contains(&scan.sha256()), "{file} is gone");
        }
    }
}

/// Every leftover is counted, and what is counted without being one is explained by what went wrong.
fn assert_leftovers_are_counted(day: &Day, ledger: &[LedgerEntry]) {
    let (counted, found) = (counted_leftovers(&day.site), leftovers(&day.site));
    assert!(counted >= found, "{found} leftovers, of which {counted} are counted");
    // Calls that came to nothing without a word, and what a kill hit in the instant of its going out.
    let explained = Day::uncertain(ledger) + 4 * day.kills as usize;
    assert!(
        counted - found <= explained,
        "{counted} leftovers are counted, {found} are there; {explained} explained:\n{:#?}",
        ledger.iter().filter(|call| !call.committed).collect::<Vec<_>>()
    );
}
