//! Compares what exists at the API, and what the receipts say of it, with what was asked for.

use std::{
    collections::{HashMap, HashSet},
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
    /// Files that were not archived, or not as often as they were put, and others that were.
    pub files_lost: u64,
    /// Images that may be without a document: how many answers were lost, as the worker knows.
    pub leftovers_possible: u64,
    /// Images without a document, as `verify` counts them.
    pub leftovers_counted: u64,
    /// Images without a document.
    pub leftovers_found: u64,
}

impl Verdict {
    /// Counts another queue's.
    pub fn add(&mut self, other: &Self) {
        self.missing += other.missing;
        self.doubled += other.doubled;
        self.wrong += other.wrong;
        self.files_lost += other.files_lost;
        self.leftovers_possible += other.leftovers_possible;
        self.leftovers_counted += other.leftovers_counted;
        self.leftovers_found += other.leftovers_found;
    }
}

/// Judges a run that is over.
pub fn judge(ground: &Ground, documents: u32, restored: bool) -> Result<Verdict> {
    let left = ground.left()?;
    ensure!(left.is_empty(), "{} files are left in the drop, the first is {:?}", left.len(), left.first());
    let reported = reported(&ground.receipts()?, restored)?;
    let standing = ground.standing();
    let mut at_api: HashMap<(String, Vec<String>), Vec<&str>> = HashMap::new();
    for document in &standing {
        let images = document.images.iter().map(|image| image.sha256.clone()).collect();
        at_api.entry((document.profile.clone(), images)).or_default().push(&document.id);
    }
    let status = ground.status()?;
    let possible = status.pointer("/queue/possible_leftovers").and_then(Value::as_u64);
    let verified = ground.verify("--no-unused")?;
    let history = ground.verify("--history")?;
    ensure!(history.pointer("/sum/unproven") == Some(&0.into()), "documents were sent again without proof: {history}");
    let counted = verified.pointer("/sum/leftover_images").and_then(Value::as_u64);
    let standing_still = verified.pointer("/sum/standing").and_then(Value::as_u64);
    ensure!(standing_still == Some(u64::from(documents)), "`verify` does not find every document: {verified}");
    let mut verdict = Verdict {
        leftovers_possible: possible.context("`status --json` has no queue.possible_leftovers")?,
        leftovers_counted: counted.context("`verify --json` has no sum.leftover_images")?,
        leftovers_found: ground.orphans(),
        ..Verdict::default()
    };
    let mut archived = ground.archived()?;
    for number in 0..documents {
        let Asked { reference, profile, sha256 } = asked(number);
        // Whatever is left in the map in the end was not asked for.
        let mut once = |content: &String| archived.remove(content) == Some(1);
        verdict.files_lost += sha256.iter().filter(|content| !once(content)).count() as u64;
        let found = at_api.remove(&(profile, sha256)).unwrap_or_default();
        match found.as_slice() {
            [] => verdict.missing += 1,
            [first, more @ ..] => {
                verdict.doubled += more.len() as u64;
                verdict.wrong += u64::from(reported.get(&reference).is_none_or(|id| id != first));
            }
        }
    }
    // What is left are the manifests, of which no two are the same; of one there may be two receipts, see `reported`.
    let manifests = receipted_manifests(&ground.receipts()?)?;
    verdict.files_lost += manifests.iter().filter(|digest| archived.remove(*digest) != Some(1)).count() as u64;
    verdict.files_lost += archived.len() as u64;
    verdict.wrong += at_api.values().map(|ids| ids.len() as u64).sum::<u64>();
    Ok(verdict)
}

/// Which document each reference became, by the receipts; each is reported once, or alike where databases were restored.
fn reported(receipts: &[PathBuf], restored: bool) -> Result<HashMap<String, String>> {
    let mut reported = HashMap::new();
    for path in receipts {
        let receipt = read(path).with_context(|| format!("{} is no receipt", path.display()))?;
        ensure!(receipt.pointer("/status") == Some(&"done".into()), "{} is not all well", path.display());
        for entry in receipt.pointer("/entries").and_then(Value::as_array).context("no entries")? {
            let text = |key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
            let (reference, id) = (text("reference").context("no reference")?, text("document_id").context("no ID")?);
            let status = text("status").unwrap_or_default();
            let is_known = restored && status == "duplicate";
            ensure!(status == "created" || is_known, "{reference} was not created");
            let before = reported.insert(reference.clone(), id.clone());
            // A batch whose receipt the older database did not know may get another one, which says the same.
            let is_same = restored && before.as_ref() == Some(&id);
            ensure!(before.is_none() || is_same, "{reference} is reported twice");
        }
    }
    Ok(reported)
}

fn receipted_manifests(receipts: &[PathBuf]) -> Result<HashSet<String>> {
    let digest = |path: &PathBuf| {
        let receipt = read(path)?;
        let digest = receipt.pointer("/manifest_sha256").and_then(Value::as_str).map(str::to_owned);
        digest.context("a receipt without its manifest's digest")
    };
    receipts.iter().map(digest).collect()
}

fn read(path: &Path) -> Result<Value> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}
