//! What came of the demo, from the receipts: a table, what was refused, and whether it all is as it should be.

use std::{fs::File, io, path::Path};

use comfy_table::{Table, presets::NOTHING};
use serde::Deserialize;

use super::{
    folder,
    live::{Mishap, UNSETTLED},
};
use crate::{
    problem::Problem,
    sandbox::{DocumentView, LedgerSummary},
};

/// A receipt, as far as the demo reads it; its form is promised in the contract of [`crate::receipt`].
#[derive(Debug, Clone, Deserialize)]
pub struct Receipt {
    manifest: String,
    entries: Vec<ReportedEntry>,
}

#[derive(Debug, Clone, Deserialize)]
struct ReportedEntry {
    kind: String,
    reference: Option<String>,
    #[serde(default)]
    profile_id: String,
    status: String,
    document_id: Option<String>,
    file_id: Option<String>,
    path: Option<String>,
    #[serde(default)]
    images: Vec<ReportedImage>,
    #[serde(default)]
    errors: Vec<Problem>,
}

#[derive(Debug, Clone, Deserialize)]
struct ReportedImage {
    path: String,
    image_type: Option<String>,
    image_id: Option<String>,
}

impl Receipt {
    /// Reads a receipt.
    ///
    /// # Errors
    ///
    /// Where it cannot be read, or is none.
    pub fn read(path: &Path) -> io::Result<Self> {
        serde_json::from_reader(io::BufReader::new(File::open(path)?)).map_err(io::Error::other)
    }
}

impl ReportedEntry {
    fn id(&self) -> &str {
        self.document_id.as_deref().or(self.file_id.as_deref()).unwrap_or("-")
    }

    fn name(&self) -> &str {
        self.reference.as_deref().unwrap_or("-")
    }
}

/// The table of what was created under which ID, an image a row below its document.
#[must_use]
pub fn table(receipts: &[Receipt]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["ASKED FOR", "KIND", "PROFILE", "BECAME", "ID"]);
    for entry in receipts.iter().flat_map(|receipt| &receipt.entries) {
        let profile = entry.profile_id.split('-').next().unwrap_or_default();
        table.add_row([entry.name(), &entry.kind, profile, &entry.status, entry.id()]);
        for image in &entry.images {
            let side = image.image_type.as_deref().unwrap_or_default().to_lowercase();
            let id = image.image_id.as_deref().unwrap_or("-");
            table.add_row([&format!("  {}", image.path), "image", "", &side, id]);
        }
        if let Some(path) = &entry.path {
            table.add_row([&format!("  {path}"), "", "", "", ""]);
        }
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// What was refused, with the cure.
#[must_use]
pub fn refused(receipts: &[Receipt]) -> String {
    let mut text = String::new();
    for receipt in receipts {
        for entry in receipt.entries.iter().filter(|entry| !entry.errors.is_empty()) {
            for problem in &entry.errors {
                let (place, Problem { reason, cure, .. }) = (problem.path.as_deref().unwrap_or_default(), problem);
                text.push_str(&format!(
                    "  {} ({}): {place}: {reason}\n    cure: {cure}\n",
                    entry.name(),
                    receipt.manifest
                ));
            }
        }
    }
    text
}

/// What went wrong on the way, and how it was settled.
#[must_use]
pub fn on_the_way(mishaps: &[Mishap]) -> String {
    mishaps.iter().map(|it| format!("  {}: {}\n    {}\n", it.reference, it.what, it.settled)).collect()
}

/// What the API itself says that it holds.
#[must_use]
pub fn ledger(summary: &LedgerSummary) -> String {
    let calls: u64 = summary.calls.values().flat_map(|statuses| statuses.values()).sum();
    format!(
        "{}, {} doubled; {}, {} that no document uses; {}; {}",
        count(summary.documents, "document"),
        summary.doubled + summary.doubled_ids,
        count(summary.images, "image"),
        summary.orphans,
        count(summary.files, "file"),
        count(calls, "call"),
    )
}

fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// What is not as the demo means to show it; empty where all is.
#[must_use]
pub fn differences(
    receipts: &[Receipt],
    mishaps: &[Mishap],
    summary: &LedgerSummary,
    documents: &[DocumentView],
) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut expect = |holds: bool, what: &str| {
        if !holds {
            wrong.push(what.to_owned());
        }
    };
    let entries = || receipts.iter().flat_map(|receipt| &receipt.entries);
    let created = || entries().filter(|entry| entry.status == "created");
    expect(receipts.len() == folder::MANIFESTS.len(), "not every manifest has its receipt");
    expect(created().count() as u64 == folder::GOOD_DOCUMENTS + folder::GOOD_FILES, "not all that is good was created");
    expect(
        entries().filter(|entry| entry.status == "invalid").map(ReportedEntry::name).eq([folder::BAD]),
        "not just the one document that is wrong was refused",
    );
    expect(summary.documents == folder::GOOD_DOCUMENTS, "the API holds more or fewer documents than were asked for");
    expect(summary.files == folder::GOOD_FILES, "the API holds more or fewer files than were asked for");
    expect(summary.images == folder::GOOD_IMAGES, "the API holds more or fewer images than were asked for");
    expect(summary.doubled + summary.doubled_ids == 0, "a document was created twice");
    expect(summary.orphans == 0, "an image was left over");
    let standing =
        |entry: &ReportedEntry| documents.iter().any(|document| Some(&document.id) == entry.document_id.as_ref());
    expect(
        created().filter(|entry| entry.kind == "document").all(standing),
        "a receipt names a document that the API does not hold",
    );
    expect(
        mishaps.len() == folder::faults().len() && mishaps.iter().all(|mishap| mishap.settled != UNSETTLED),
        "what was to go wrong on the way did not, or was not settled",
    );
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt() -> Receipt {
        serde_json::from_value(serde_json::json!({
            "version": 1, "manifest": "a.manifest.json", "entries": [
                { "index": 0, "kind": "document", "reference": "a/passport", "profile_id": "a11ce000-5eed",
                  "status": "created", "document_id": "the-document",
                  "images": [{ "path": "a.png", "image_type": "FRONT", "image_id": "the-image" }] },
                { "index": 1, "kind": "file", "reference": "a/pep", "profile_id": "a11ce000-5eed",
                  "status": "created", "file_id": "the-file", "path": "a.pdf" },
                { "index": 2, "kind": "document", "reference": "a/bad", "profile_id": "a11ce000-5eed",
                  "status": "invalid",
                  "errors": [{ "path": "a.jpg", "reason": "it is plain text", "cure": "send a picture" }] },
            ]
        }))
        .unwrap()
    }

    #[test]
    fn the_table_names_every_id() {
        let table = table(&[receipt()]);
        for wanted in ["a/passport", "the-document", "  a.png", "front", "the-image", "the-file", "a/bad", "invalid"] {
            assert!(table.contains(wanted), "{wanted} in {table}");
        }
        assert!(!table.lines().any(|line| line.ends_with(' ')));
    }

    #[test]
    fn a_refusal_comes_with_reason_and_cure() {
        let text = refused(&[receipt()]);
        assert_eq!(text, "  a/bad (a.manifest.json): a.jpg: it is plain text\n    cure: send a picture\n");
    }

    #[test]
    fn a_doubled_document_is_a_difference() {
        let summary = LedgerSummary { documents: 6, doubled: 1, ..LedgerSummary::default() };
        let wrong = differences(&[], &[], &summary, &[]);
        assert!(wrong.contains(&"a document was created twice".to_owned()), "{wrong:?}");
    }
}
