//! What a day must result in, judged by what the stand-in holds and what the receipts say.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use passfort_ingest::sandbox::{ApiCall, DocumentView, LedgerEntry};
use serde_json::Value;

use super::{
    asked::{Asked, Content, Manifest, PROFILES, REFUSED},
    day::Day,
    history::named,
    whose::{Sent, assert_each_in_one_place, assert_meant},
    world::World,
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
    /// Its manifest's index.
    manifest: usize,
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

    /// The ID of the document or file, in its bare form.
    fn id(&self) -> Option<String> {
        self.line["document_id"].as_str().or(self.line["file_id"].as_str()).map(bare)
    }
}

/// An ID without what differs between its spellings: a list may have another one than the answer to the creation.
fn bare(id: &str) -> String {
    id.to_ascii_lowercase().replace("urn:uuid:", "").replace('-', "")
}

fn expected(day: &Day, at: usize, asked: &Asked) -> Expected {
    let manifest = &day.manifests[at];
    let touched = |asked: &Asked| asked.scans.iter().any(|scan| day.touched.contains_key(&manifest.file(&scan.path)));
    // Where one bad entry spoils all, it matters when any of them was touched.
    let all_touched = day.policy.reject && manifest.entries.iter().any(touched);
    // Its files may have become another's, or have been destroyed.
    let is_uncertain = day.history.is_contended(&day.manifests, at) || day.history.is_disturbed(&day.manifests, at);
    let is_uncertain = is_uncertain || is_shared_with_refused(day, manifest, asked);
    if manifest.superseded || touched(asked) || all_touched || is_uncertain {
        Expected::Either
    } else if asked.flaw.is_some() || (day.policy.reject && manifest.is_flawed()) {
        Expected::Invalid
    } else if asked.profile == REFUSED {
        Expected::Refused
    } else {
        Expected::Exists
    }
}

/// Whether an entry that the API refuses names a file of this one: a content that is refused is refused for all.
fn is_shared_with_refused(day: &Day, manifest: &Manifest, asked: &Asked) -> bool {
    let names = |manifest: &Manifest, asked: &Asked| -> BTreeSet<String> {
        asked.scans.iter().map(|scan| manifest.file(&scan.path)).collect()
    };
    let own = names(manifest, asked);
    let refused = |asked: &&Asked| asked.profile == REFUSED;
    asked.profile != REFUSED
        && day
            .manifests
            .iter()
            .any(|other| other.entries.iter().filter(refused).any(|entry| !names(other, entry).is_disjoint(&own)))
}

/// Judges a day that is over; returns of how many entries it is certain what must come of them, and of how many it is not.
pub(super) fn judge(day: &Day) -> (usize, usize) {
    day.assert_nothing_is_said();
    assert_what_was_sent_again_was_absent(day);
    if day.policy.world == World::Restore {
        return assert_restored(day);
    }
    let receipts: Vec<_> = receipts(day);
    let mut reported = Vec::new();
    for (at, manifest) in day.manifests.iter().enumerate() {
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
            reported.extend(reported_by(day, at, path, receipt));
        }
    }
    let documents = day.site.documents();
    let ledger = day.site.ledger();
    let sent: Vec<Sent<'_>> = reported.iter().flat_map(|entry| assert_true(day, entry, &documents, &ledger)).collect();
    assert_meant(day, &sent);
    assert_all_is_reported(&reported, &documents);
    assert_each_once(day, &reported);
    assert_no_document_for_two(&reported);
    assert_none_is_doubled(day, &reported, &documents);
    assert!(day.objections.is_empty(), "{:#?}", day.objections);
    assert_nothing_is_left(day);
    if day.policy.after_success != "delete" {
        assert_every_manifest_is_somewhere(day);
    }
    assert_each_in_one_place(day, &receipts);
    assert_leftovers_are_counted(day, &ledger);
    let uncertain = reported.iter().filter(|entry| entry.expected == Expected::Either).count();
    (reported.len() - uncertain, uncertain)
}

/// The calls that were recorded prove what was sent again. Where the clock was set back, their times do not.
fn assert_what_was_sent_again_was_absent(day: &Day) {
    if !day.policy.jumps {
        let history = day.site.run(&["verify", "--history"]);
        assert_eq!(history.code, Some(0), "{}{}", history.said(), day.diary.join("\n"));
    }
}

/// What is certain after a restore: nothing stands twice, nothing that was asked for is missing, and it was noticed.
fn assert_restored(day: &Day) -> (usize, usize) {
    let is_certain = |at: usize, asked: &Asked| expected(day, at, asked) == Expected::Exists;
    let mut identities: BTreeMap<Content, BTreeSet<Option<&str>>> = BTreeMap::new();
    for manifest in &day.manifests {
        for asked in manifest.entries.iter().filter(|asked| asked.category.is_some()) {
            identities.entry(asked.content()).or_default().insert(asked.reference.as_deref());
        }
    }
    let mut standing: BTreeMap<Content, usize> = BTreeMap::new();
    for document in day.site.documents() {
        let number = (0..PROFILES).find(|number| profile(*number) == document.profile).unwrap();
        let category = ["PROOF_OF_IDENTITY", "PROOF_OF_ADDRESS"].into_iter().find(|known| *known == document.category);
        let digests = document.images.iter().map(|image| image.sha256.clone()).collect();
        *standing.entry((number, category, digests)).or_default() += 1;
    }
    for (content, count) in &standing {
        let most = identities.get(content).map_or(1, BTreeSet::len);
        assert!(*count <= most, "doubled: {count} for {most} of {content:?}\n{}", day.diary.join("\n"));
    }
    assert!(day.objections.is_empty(), "{:#?}", day.objections);
    let mut references: BTreeMap<&str, BTreeSet<Content>> = BTreeMap::new();
    for asked in day.manifests.iter().flat_map(|manifest| &manifest.entries) {
        if let Some(reference) = &asked.reference {
            references.entry(reference).or_default().insert(asked.content());
        }
    }
    let (mut certain, mut uncertain) = (0, 0);
    for (at, manifest) in day.manifests.iter().enumerate() {
        for asked in manifest.entries.iter().filter(|asked| asked.category.is_some()) {
            let is_one = asked.reference.as_ref().is_none_or(|reference| references[reference.as_str()].len() == 1);
            if is_certain(at, asked) && is_one {
                certain += 1;
                let stands = standing.contains_key(&asked.content());
                assert!(stands, "lost: {asked:?}\n{}", day.diary.join("\n"));
            } else {
                uncertain += 1;
            }
        }
    }
    (certain, uncertain)
}

/// What was created belongs to one entry.
fn assert_no_document_for_two(reported: &[ReportedEntry<'_>]) {
    let mut owners: BTreeMap<String, (Identity, String)> = BTreeMap::new();
    for entry in reported.iter().filter(|entry| entry.status() == "created") {
        let Some(id) = entry.id() else { continue };
        let identity: Identity = entry.asked.reference.clone().ok_or_else(|| entry.asked.content());
        let line = entry.line.to_string();
        let (owner, first) = owners.entry(id).or_insert_with(|| (identity.clone(), line));
        assert_eq!(*owner, identity, "one document for two entries: {first}\n{}", entry.line);
    }
}

fn receipts(day: &Day) -> Vec<(std::path::PathBuf, Value)> {
    let files = day.site.files();
    let is_list = |file: &&String| file.contains(".failed.") && file.contains(".manifest.");
    let (lists, receipts): (Vec<_>, Vec<_>) =
        files.iter().filter(|file| file.starts_with("receipts/")).partition(is_list);
    let receipts: Vec<(std::path::PathBuf, Value)> = receipts
        .into_iter()
        .map(|file| {
            let is_receipt = file.ends_with(".json") || file.ends_with(".jsonl");
            assert!(is_receipt && file.contains(".receipt."), "this is no receipt: {file}");
            let path = day.site.in_drop(file);
            let receipt = read_receipt(&path);
            (path, receipt)
        })
        .collect();
    for (path, receipt) in &receipts {
        assert_failed_are_listed(day, path, receipt);
    }
    let unwell = receipts.iter().filter(|(_, receipt)| receipt["status"] != "done").count();
    assert!(lists.len() <= unwell, "{lists:#?}");
    receipts
}

/// Beside a receipt is a list of exactly those entries that it calls failed.
fn assert_failed_are_listed(day: &Day, path: &Path, receipt: &Value) {
    let name = path.to_string_lossy().into_owned();
    let (stem, rest) = name.rsplit_once(".receipt.").unwrap();
    let number = rest.split_once('.').map_or_else(String::new, |(number, _)| format!(".{number}"));
    let stem = stem.rsplit_once(".manifest.").map_or(stem, |(stem, _)| stem);
    let list = |ending: &str| fs::read_to_string(format!("{stem}.failed{number}.manifest.{ending}")).ok();
    let is_failed = |entry: &&Value| matches!(entry["status"].as_str(), Some("failed" | "invalid" | "cancelled"));
    let failed: Vec<&Value> = receipt["entries"].as_array().unwrap().iter().filter(is_failed).collect();
    if receipt["status"] == "done" {
        assert_eq!((list("csv"), list("jsonl")), (None, None), "{receipt}");
    } else if let Some(lines) = list("jsonl") {
        // A manifest that is refused as a whole may be listed without an entry in its receipt.
        assert!(lines.lines().count() == failed.len() || failed.is_empty(), "{receipt}\n{lines}");
    } else if list("csv").is_none() {
        // A list is made of the manifest. Where that is not taken away, its sender may have renamed or rewritten it.
        let manifest = fs::read(day.site.in_drop(receipt["manifest"].as_str().unwrap()));
        let is_as_taken = manifest.is_ok_and(|content| receipt["manifest_sha256"] == sha256(&content));
        let withdrawn = day.policy.after_success == "keep" && !is_as_taken;
        assert!(receipt["status"] == "rejected" || withdrawn, "nothing is listed of {receipt}");
    }
}

/// The entries of a manifest as one of its receipts reports them.
fn reported_by<'a>(day: &'a Day, at: usize, path: &'a Path, receipt: &'a Value) -> Vec<ReportedEntry<'a>> {
    let manifest = &day.manifests[at];
    let lines = receipt["entries"].as_array().unwrap();
    if receipt["status"] == "rejected" && receipt["errors"][0]["code"] == "name-in-use" {
        // It could neither be taken nor put back: a sender had put files under its names meanwhile.
        assert!(named(manifest).any(|(path, ..)| day.history.puts_at(&path) > 1), "rejected for nothing: {receipt}");
        return Vec::new();
    }
    if day.policy.reject && receipt["status"] == "rejected" {
        // Only its bad entries are reported.
        let flawed = manifest
            .entries
            .iter()
            .any(|asked| matches!(expected(day, at, asked), Expected::Invalid | Expected::Either));
        assert!(flawed, "rejected for nothing: {receipt}");
        return Vec::new();
    }
    assert_eq!(lines.len(), manifest.entries.len(), "{}: {receipt}", manifest.path);
    let reported = manifest.entries.iter().zip(lines).map(|(asked, line)| {
        if let Some(reference) = line["reference"].as_str() {
            assert_eq!(Some(reference), asked.reference.as_deref(), "{line}");
        }
        ReportedEntry { manifest: at, asked, expected: expected(day, at, asked), receipt: path, line }
    });
    reported.collect()
}

/// What a receipt says of an entry is so; returns what was sent for it.
fn assert_true<'a>(
    day: &Day,
    reported: &ReportedEntry<'a>,
    documents: &[DocumentView],
    ledger: &[LedgerEntry],
) -> Vec<Sent<'a>> {
    let at = || format!("{}: {}", reported.receipt.display(), reported.line);
    let Some(id) = reported.id().filter(|_| matches!(reported.status(), "created" | "duplicate")) else {
        assert!(matches!(reported.status(), "failed" | "invalid" | "cancelled"), "{}", at());
        return Vec::new();
    };
    let content_of = |image: &str| ledger.iter().find(|call| call.id.as_deref().map(bare).as_deref() == Some(image));
    let stands: Vec<String> = if reported.asked.category.is_some() {
        let document = documents.iter().find(|document| bare(&document.id) == id);
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
            let sent = content_of(&bare(&image.id)).unwrap();
            assert_eq!(sent.image_type.as_deref(), scan.image_type, "{}", at());
            assert_eq!(sent.sha256.as_deref(), Some(image.sha256.as_str()));
        }
        document.images.iter().map(|image| image.sha256.clone()).collect()
    } else {
        let call = content_of(&id).unwrap_or_else(|| panic!("there is no such file: {}", at()));
        assert_eq!((call.operation, call.committed), (ApiCall::UploadFile, true), "{}", at());
        assert_eq!(call.profile.as_deref(), Some(profile(reported.asked.profile).as_str()), "{}", at());
        vec![call.sha256.clone().unwrap()]
    };
    let (_, _, asked) = reported.asked.content();
    assert_eq!(stands.len(), asked.len(), "{}", at());
    // A duplicate needs no file, so that its own may never have been compared with the one that was replaced.
    let is_replaced = || reported.status() == "duplicate" && is_replaced_elsewhere(day, reported.asked);
    if reported.expected != Expected::Either && !reported.asked.reuses() && !is_replaced() {
        assert_eq!(stands, asked, "it is made of something else: {}", at());
    }
    if reported.status() == "duplicate" {
        // Sent for another entry, of which this is asked as well.
        return Vec::new();
    }
    let scans = stands.into_iter().zip(&reported.asked.scans);
    scans.map(|(sha256, scan)| Sent { manifest: reported.manifest, asked: reported.asked, scan, sha256 }).collect()
}

/// Whether a manifest asks for the same reference with a file that its sender replaced.
fn is_replaced_elsewhere(day: &Day, asked: &Asked) -> bool {
    let mut named = day.manifests.iter().flat_map(named);
    named.any(|(path, other, _)| {
        asked.reference.is_some() && other.reference == asked.reference && day.touched.contains_key(&path)
    })
}

/// Every document at the API is one that a receipt says was created.
fn assert_all_is_reported(reported: &[ReportedEntry<'_>], documents: &[DocumentView]) {
    let created: BTreeSet<String> =
        reported.iter().filter(|entry| entry.status() == "created").filter_map(ReportedEntry::id).collect();
    let unreported: Vec<_> = documents.iter().filter(|document| !created.contains(&bare(&document.id))).collect();
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
        let with = |status: &str| -> BTreeSet<String> {
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
            if contents.len() == 1 && !reported.iter().any(|entry| entry.asked.reuses()) {
                let unwell = reported.iter().filter(|entry| !well(entry)).count();
                assert_eq!(unwell, 0, "the same is there, and yet it is not well: {identity:?}\n{lines}");
            }
            let made: BTreeSet<Content> = reported.iter().filter(well).map(|entry| entry.asked.content()).collect();
            assert_eq!(made.len(), 1, "one reference for different things: {identity:?}\n{lines}");
        }
    }
}

/// No document stands twice, but for those that were asked for under several references and got the same files.
fn assert_none_is_doubled(day: &Day, reported: &[ReportedEntry<'_>], documents: &[DocumentView]) {
    let is_shared = |entry: &&ReportedEntry<'_>| entry.asked.reuses() || day.policy.world == World::Equal;
    let sharing = reported.iter().filter(|entry| entry.status() == "created").filter(is_shared);
    let sharing: BTreeSet<String> = sharing.filter_map(ReportedEntry::id).collect();
    let mut contents = BTreeSet::new();
    let sharing = documents.iter().filter(|document| sharing.contains(&bare(&document.id)));
    let meant = sharing.filter(|document| {
        let mut images: Vec<&str> = document.images.iter().map(|image| image.sha256.as_str()).collect();
        // As the stand-in compares them.
        images.sort_unstable();
        !contents.insert((&document.profile, &document.category, images))
    });
    let meant = meant.count() as u64;
    let summary = day.site.summary();
    let lines = || reported.iter().map(|entry| format!("{}: {}\n", entry.receipt.display(), entry.line));
    // Where the same content is the same image, it is in documents of several categories.
    let doubled_ids = if day.policy.world == World::Equal { 0 } else { summary.doubled_ids };
    assert_eq!((summary.doubled, doubled_ids), (meant, 0), "{summary}{}", lines().collect::<String>());
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

/// Every manifest that was dropped, and not replaced by its sender, is somewhere.
fn assert_every_manifest_is_somewhere(day: &Day) {
    let there: BTreeSet<String> =
        day.site.files().iter().map(|file| sha256(&fs::read(day.site.in_drop(file)).unwrap())).collect();
    for manifest in day.manifests.iter().filter(|manifest| !manifest.superseded) {
        assert!(there.contains(&sha256(manifest.text.as_bytes())), "{} is gone", manifest.path);
    }
}

/// Every leftover is counted, and what is counted without being one is explained by what went wrong.
fn assert_leftovers_are_counted(day: &Day, ledger: &[LedgerEntry]) {
    let (counted, found) = (counted_leftovers(&day.site), leftovers(&day.site));
    assert!(counted >= found, "{found} leftovers, of which {counted} are counted");
    // Calls that came to nothing without a word, and what a kill hit in the instant of its going out.
    let equal =
        if day.policy.world == World::Equal { ledger.iter().filter(|call| Day::is_open(call)).count() } else { 0 };
    let explained = uncertain(ledger) + 4 * day.kills as usize + equal;
    assert!(
        counted - found <= explained,
        "{counted} leftovers are counted, {found} are there; {explained} explained:\n{:#?}",
        ledger.iter().filter(|call| !call.committed).collect::<Vec<_>>()
    );
}

/// Uploads that came to nothing although an answer may have been lost.
fn uncertain(ledger: &[LedgerEntry]) -> usize {
    let upload = |call: &&LedgerEntry| matches!(call.operation, ApiCall::UploadImage | ApiCall::UploadFile);
    ledger.iter().filter(upload).filter(|call| !call.committed && call.fault.is_some()).count()
}
