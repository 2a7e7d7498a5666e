//! What the stand-in's ledger must look like, whatever happened.

use std::collections::{BTreeMap, BTreeSet};

use passfort_ingest::sandbox::{ApiCall, LedgerEntry};
use sha2::{Digest, Sha256};

use super::Site;

/// The digest in lower-case hexadecimal.
pub(crate) fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether the call took effect, but its client may never have learnt of it.
fn lost(call: &LedgerEntry) -> bool {
    call.committed
        && (!call.answered
            || call.fault.as_ref().is_some_and(|fault| {
                let kinds = ["=lost", "=cut", "=garbled", "=html200", "=status-after", "=hang-after", "=reset-after"];
                let more =
                    ["=bare-after", "=redirect-after", "=length", "=interim:101", "=errors200-after", "=errors-id"];
                kinds.iter().chain(&more).any(|kind| fault.contains(kind))
            }))
}

/// Fails the test where content that was taken, and whose answer arrived, was sent again.
///
/// Every content of the test must be unique: then its digest identifies its uploads.
#[track_caller]
pub(crate) fn assert_sent_once_or_lost(ledger: &[LedgerEntry]) {
    let mut uploads: BTreeMap<&str, Vec<&LedgerEntry>> = BTreeMap::new();
    for call in ledger.iter().filter(|call| call.committed) {
        if let (ApiCall::UploadImage | ApiCall::UploadFile, Some(sha256)) = (call.operation, &call.sha256) {
            uploads.entry(sha256).or_default().push(call);
        }
    }
    assert!(!uploads.is_empty(), "nothing was uploaded at all");
    for (sha256, calls) in uploads {
        let (_, before) = calls.split_last().unwrap();
        let known: Vec<_> = before.iter().filter(|call| !lost(call)).collect();
        assert!(known.is_empty(), "the content {sha256} was sent again although its ID was known: {known:#?}");
    }
}

/// Images and files at the API that no row of the queue knows by ID.
pub(crate) fn leftovers(site: &Site) -> usize {
    let database = rusqlite::Connection::open(site.at("state/queue.db")).unwrap();
    let mut rows = database.prepare("SELECT remote_id FROM upload WHERE remote_id IS NOT NULL").unwrap();
    let known: BTreeSet<String> = rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let ledger = site.ledger();
    let uploads = ledger.iter().filter(|call| matches!(call.operation, ApiCall::UploadImage | ApiCall::UploadFile));
    uploads.filter(|call| call.committed && call.id.as_ref().is_some_and(|id| !known.contains(id))).count()
}

/// How many of them the program says there may be.
pub(crate) fn counted_leftovers(site: &Site) -> usize {
    let status = site.status();
    let count = |key: &str| status["queue"][key].as_u64().unwrap();
    usize::try_from(count("possible_leftovers") + count("possible_extra_files")).unwrap()
}
