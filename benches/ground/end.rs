//! What must hold when all work is done, by the stand-in's ledger and the files.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use passfort_ingest::sandbox::{ApiCall, LedgerEntry, Sandbox};
use serde_json::Value;

use crate::site::{MANIFEST, Order};

/// Every entry has exactly one document with its own images, every receipt is complete and true, and every file is
/// where it belongs. `before` are the calls that the stand-in was given, `files` what is in the drop.
pub fn judge(
    order: &Order,
    sandbox: &Sandbox,
    before: &[LedgerEntry],
    files: &BTreeMap<String, Vec<u8>>,
) -> Result<()> {
    let summary = sandbox.summary();
    ensure!(summary.doubled == 0 && summary.doubled_ids == 0, "documents stand twice: {summary}");
    let standing: BTreeMap<String, (String, Vec<String>)> = sandbox
        .documents()
        .into_iter()
        .map(|document| {
            (document.profile, (document.id, document.images.into_iter().map(|image| image.sha256).collect()))
        })
        .collect();
    ensure!(
        summary.documents == order.documents.len() as u64 && standing.len() == order.documents.len(),
        "{} documents stand instead of {}",
        summary.documents,
        order.documents.len()
    );
    for (profile, wanted) in &order.documents {
        let found = standing.get(profile).map(|(_, images)| images);
        ensure!(found == Some(wanted), "the document of {profile} has the images {found:?} instead of {wanted:?}");
    }
    let ledger = sandbox.ledger();
    let taken: BTreeSet<(&str, &str)> = before
        .iter()
        .chain(&ledger)
        .filter(|call| call.committed && call.operation == ApiCall::UploadFile)
        .filter_map(|call| Some((call.profile.as_deref()?, call.sha256.as_deref()?)))
        .collect();
    for (profile, digest) in &order.singles {
        ensure!(taken.contains(&(profile.as_str(), digest.as_str())), "the file of {profile} was never taken");
    }

    for (folder, named) in &order.batches {
        let name = Order::receipt(folder);
        let receipt = files.get(&name);
        ensure!(receipt.is_some(), "there is no receipt {name}");
        let receipt: Value = serde_json::from_slice(receipt.map(Vec::as_slice).unwrap_or_default())?;
        let spoilt = order.spoilt.contains(folder);
        let status = if spoilt { "partial" } else { "done" };
        ensure!(text(&receipt, "status") == status, "{name} says {}", text(&receipt, "status"));
        for entry in receipt.get("entries").and_then(Value::as_array).into_iter().flatten() {
            if text(entry, "kind") != "document" || text(entry, "status") == "invalid" {
                continue;
            }
            let id = standing.get(text(entry, "profile_id")).map(|(id, _)| id.as_str());
            ensure!(
                Some(text(entry, "document_id")) == id,
                "{name} gives another ID than the one that stands: {entry}"
            );
        }
        let shelf = if spoilt { "failed" } else { "done" };
        for path in named {
            let moved = files
                .iter()
                .filter(|(at, _)| at.starts_with(&format!("{shelf}/")) && at.ends_with(&format!("/{path}")))
                .count();
            ensure!(moved == 1, "{path} lies {moved} times under {shelf}");
            ensure!(!files.contains_key(path), "{path} still lies in the drop");
        }
    }
    let in_receipts =
        || files.keys().filter(|path| path.starts_with("receipts/") && !is_hidden(path) && !is_text(path));
    let receipts = in_receipts().filter(|path| path.contains(".receipt.")).count();
    ensure!(receipts == order.batches.len(), "there are {receipts} receipts for {} manifests", order.batches.len());
    let lists = in_receipts().filter(|path| path.contains(".failed.")).count();
    ensure!(in_receipts().count() == receipts + lists && lists <= receipts, "{lists} lists of failed entries");
    for (path, bytes) in &order.files {
        let kept = files.iter().any(|(at, found)| at.ends_with(path.as_str()) && found == bytes);
        ensure!(kept, "{path} is lost");
    }
    let taken: Vec<&String> = files.keys().filter(|path| path.starts_with(WORK)).collect();
    ensure!(taken.is_empty(), "these were taken and never put away: {taken:?}");
    let left = files.keys().filter(|path| !is_hidden(path) && path.ends_with(MANIFEST)).count();
    ensure!(left == order.batches.len(), "there are {left} manifests");
    Ok(())
}

/// Where taken files are until they are settled.
pub const WORK: &str = ".passfort-ingest/";

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// Whether it is a text for people.
pub fn is_text(path: &str) -> bool {
    path.starts_with("receipts/") && path.ends_with(".txt")
}

pub fn is_hidden(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|name| name.starts_with('.'))
}
