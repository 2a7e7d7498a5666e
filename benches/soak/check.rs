//! Compares what exists at the API, and what the receipts say of it, with what was asked for.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::ground::{Asked, Ground, asked};

/// What came of a run.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Documents that were asked for and do not exist.
    pub missing: u64,
    /// Documents that exist more than once.
    pub doubled: u64,
    /// Documents whose images are not those that were asked for, and receipts that name another document.
    pub wrong: u64,
    /// Images that may be without a document: how many answers were lost, as the worker knows.
    pub leftovers_possible: u64,
    /// Images without a document, as `verify` counts them.
    pub leftovers_counted: u64,
    /// Images without a document.
    pub leftovers_found: u64,
}

/// Judges a run that is over.
pub fn judge(ground: &Ground, documents: u32) -> Result<Verdict> {
    let left = ground.left()?;
    ensure!(left.is_empty(), "{} files are left in the drop, the first is {:?}", left.len(), left.first());
    let reported = reported(&ground.receipts()?)?;
    let standing = ground.standing();
    let mut at_api: HashMap<(String, Vec<String>), Vec<&str>> = HashMap::new();
    for document in &standing {
        let images = document.images.iter().map(|image| image.sha256.clone()).collect();
        at_api.entry((document.profile.clone(), images)).or_default().push(&document.id);
    }
    let status = ground.status()?;
    let possible = status.pointer("/queue/possible_leftovers").and_then(Value::as_u64);
    let verified = ground.verify()?;
    let counted = verified.pointer("/sum/leftover_images").and_then(Value::as_u64);
    let standing_still = verified.pointer("/sum/standing").and_then(Value::as_u64);
    ensure!(standing_still == Some(u64::from(documents)), "`verify` does not find every document: {verified}");
    let mut verdict = Verdict {
        leftovers_possible: possible.context("`status --json` has no queue.possible_leftovers")?,
        leftovers_counted: counted.context("`verify --json` has no sum.leftover_images")?,
        leftovers_found: ground.orphans(),
        ..Verdict::default()
    };
    for number in 0..documents {
        let Asked { reference, profile, sha256 } = asked(number);
        // Whatever is left in the map in the end was not asked for.
        let found = at_api.remove(&(profile, sha256)).unwrap_or_default();
        match found.as_slice() {
            [] => verdict.missing += 1,
            [first, more @ ..] => {
                verdict.doubled += more.len() as u64;
                verdict.wrong += u64::from(reported.get(&reference).is_none_or(|id| id != first));
            }
        }
    }
    verdict.wrong += at_api.values().map(|ids| ids.len() as u64).sum::<u64>();
    Ok(verdict)
}

/// Which document each reference became, by the receipts; each is reported once.
fn reported(receipts: &[PathBuf]) -> Result<HashMap<String, String>> {
    let mut reported = HashMap::new();
    for path in receipts {
        let receipt = read(path).with_context(|| format!("{} is no receipt", path.display()))?;
        ensure!(receipt.pointer("/status") == Some(&"done".into()), "{} is not all well", path.display());
        for entry in receipt.pointer("/entries").and_then(Value::as_array).context("no entries")? {
            let text = |key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
            let (reference, id) = (text("reference").context("no reference")?, text("document_id").context("no ID")?);
            ensure!(text("status").as_deref() == Some("created"), "{reference} was not created");
            ensure!(reported.insert(reference.clone(), id).is_none(), "{reference} is reported twice");
        }
    }
    Ok(reported)
}

fn read(path: &Path) -> Result<Value> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}
