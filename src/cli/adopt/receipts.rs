//! Finds receipts and takes over what they call created.

use std::{
    collections::HashMap,
    io::{self, BufReader},
    path::{Path, PathBuf},
};

use indicatif::ProgressBar;
use serde::Serialize;

use crate::{
    clock::Timestamp,
    config::{Config, DropConfig},
    entry::{EntryKind, ImageType, ProfileId, Sha256},
    policy::AfterSuccess,
    queue::{
        Queue, QueueError,
        adoption::{AdoptionCounts, ReceiptOrigin, ReceiptedEntry, ReceiptedUpload},
        batch::BatchPolicy,
        lineage::receipts::{header, list, open},
    },
    receipt::read::{self, ReadEntry, ReadHeader},
    relative_path,
};

/// What was found in the folders of receipts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct ReceiptCounts {
    pub(super) read: u64,
    /// Receipts of another account.
    pub(super) of_others: u64,
    /// Receipts that name no account.
    pub(super) unnamed: u64,
    /// Receipts of another user, or that others may write.
    pub(super) untrusted: u64,
    /// Files that are no receipt of this form.
    pub(super) unreadable: u64,
    #[serde(flatten)]
    pub(super) entries: AdoptionCounts,
}

/// Takes over receipts.
pub(super) struct Adopter<'a> {
    pub(super) queue: &'a Queue,
    pub(super) config: &'a Config,
    /// The account of each drop; that of all others under the empty name.
    pub(super) names: &'a HashMap<String, String>,
    pub(super) now: Timestamp,
    pub(super) bar: &'a ProgressBar,
    /// What a person should know, a sentence each.
    pub(super) notes: Vec<String>,
}

/// Notes about single files beyond these are left out.
const MOST_NOTES: usize = 20;

/// A receipt that was found, with the folder of receipts that it is in.
struct FoundReceipt {
    finished_at: Timestamp,
    folder: PathBuf,
    path: PathBuf,
}

impl Adopter<'_> {
    /// Takes over what is in these folders, or in those of the configured drops; the oldest first, so that what replaced
    /// something comes after it.
    pub(super) fn read_all(&mut self, folders: &[PathBuf]) -> anyhow::Result<ReceiptCounts> {
        let configured = || self.config.drops.iter().map(DropConfig::receipts_folder).collect();
        let folders: Vec<PathBuf> = if folders.is_empty() { configured() } else { folders.to_vec() };
        let mut counts = ReceiptCounts::default();
        let mut found = Vec::new();
        for folder in &folders {
            let mut files = Vec::new();
            if let Err(error) = list(folder, &mut files)
                && (error.kind() != io::ErrorKind::NotFound || self.config.drops.is_empty())
            {
                anyhow::bail!("{} cannot be read: {error}; nothing is adopted without all receipts", folder.display());
            }
            for path in files {
                self.bar.inc(1);
                if let Some(finished_at) = self.look(&path, &mut counts) {
                    found.push(FoundReceipt { finished_at, folder: folder.clone(), path });
                }
            }
        }
        found.sort_by(|one, other| (&one.finished_at, &one.path).cmp(&(&other.finished_at, &other.path)));
        for receipt in &found {
            self.bar.set_message(format!("{} receipts", counts.read));
            self.adopt(receipt, &mut counts)?;
        }
        Ok(counts)
    }

    fn note(&mut self, path: &Path, why: &str) {
        if self.notes.len() < MOST_NOTES {
            self.notes.push(format!("not counted: {}: {why}", path.display()));
        }
    }

    /// When a receipt was finished, if it counts.
    fn look(&mut self, path: &Path, counts: &mut ReceiptCounts) -> Option<Timestamp> {
        let opened = match open(path) {
            Ok(Some(opened)) => opened,
            Ok(None) => {
                counts.untrusted += 1;
                self.note(path, "it belongs to another user, or others may write it");
                return None;
            }
            Err(error) => {
                counts.unreadable += 1;
                self.note(path, &error.to_string());
                return None;
            }
        };
        // The rest is read when its turn comes.
        let header = match header(opened) {
            Ok(header) => header,
            Err(error) => {
                counts.unreadable += 1;
                self.note(path, &error.to_string());
                return None;
            }
        };
        let ours = self.names.get(&header.drop).or_else(|| self.names.get(""));
        match &header.account {
            None => {
                counts.unnamed += 1;
                self.note(path, "it names no account, as those of earlier releases");
                None
            }
            Some(account) if Some(account) != ours => {
                counts.of_others += 1;
                None
            }
            Some(_) => header.finished_at(),
        }
    }

    fn adopt(&mut self, receipt: &FoundReceipt, counts: &mut ReceiptCounts) -> anyhow::Result<()> {
        let opened = open(&receipt.path)?.ok_or_else(|| anyhow::anyhow!("{} changed", receipt.path.display()))?;
        let mut failure: Option<QueueError> = None;
        let mut amiss = 0_u64;
        let within = receipt.path.strip_prefix(&receipt.folder).unwrap_or(&receipt.path).to_string_lossy().into_owned();
        let read = read::read(BufReader::new(opened), &mut |header, part| {
            let bad = || io::Error::new(io::ErrorKind::InvalidData, "its header is not understood");
            let origin = self.origin(header, &receipt.folder, &within).ok_or_else(bad)?;
            let created = part.iter().filter(|entry| matches!(entry.status.as_str(), "created" | "duplicate"));
            let mut entries = Vec::new();
            for entry in created {
                match receipted(entry) {
                    Some(entry) => entries.push(entry),
                    None => amiss += 1,
                }
            }
            match self.queue.adopt_receipt(origin, entries, self.now) {
                Ok(adopted) => {
                    counts.entries.add(adopted);
                    Ok(())
                }
                Err(error) => {
                    failure = Some(error);
                    Err(io::ErrorKind::Interrupted.into())
                }
            }
        });
        if let Some(error) = failure {
            return Err(error.into());
        }
        match read {
            Ok(()) => counts.read += 1,
            Err(error) => {
                counts.unreadable += 1;
                self.note(&receipt.path, &error.to_string());
            }
        }
        if amiss > 0 {
            self.note(&receipt.path, &format!("{amiss} of its entries are not complete"));
        }
        Ok(())
    }

    fn origin(&self, header: &ReadHeader, folder: &Path, within: &str) -> Option<ReceiptOrigin> {
        Some(ReceiptOrigin {
            drop: header.drop.clone(),
            manifest: header.manifest.clone(),
            manifest_sha256: Sha256::parse(&header.manifest_sha256)?,
            received_at: header.received_at()?,
            finished_at: header.finished_at()?,
            receipt: within.to_owned(),
            entries: header.counts.entries,
            policy: policy(self.config.drop_named(&header.drop), folder, &header.manifest),
        })
    }
}

/// Where a manifest's files were; of an import nobody knows.
fn policy(drop: Option<&DropConfig>, receipts_dir: &Path, manifest: &str) -> BatchPolicy {
    let root = drop.map_or_else(|| receipts_dir.to_owned(), |drop| drop.path.clone());
    BatchPolicy {
        image_root: root.clone(),
        image_folder: relative_path::parent(manifest).to_owned(),
        receipts_dir: receipts_dir.to_owned(),
        receipt_mode: drop.map_or(0o640, |drop| drop.receipt_mode),
        receipt_group: drop.and_then(|drop| drop.receipt_group.clone()),
        done_dir: drop.map(DropConfig::done_folder),
        failed_dir: drop.map(DropConfig::failed_folder),
        after_success: drop.map_or(AfterSuccess::Keep, |drop| drop.after_success),
        marker: drop.and_then(|drop| drop.done_marker.clone()),
        texts: drop.is_some(),
        root,
    }
}

/// An entry as the queue takes it; nothing where it is not complete.
fn receipted(entry: &ReadEntry) -> Option<ReceiptedEntry> {
    let (rule, digest) = entry.content.as_deref()?.split_once(':')?;
    let mut uploads = Vec::new();
    for upload in entry.uploads() {
        let image_type = match &upload.image_type {
            Some(word) => Some(ImageType::parse(word)?),
            None => None,
        };
        uploads.push(ReceiptedUpload {
            path: upload.path,
            image_type,
            bytes: upload.bytes,
            sha256: Sha256::parse(&upload.sha256)?,
            remote_id: upload.image_id,
        });
    }
    let kind = match entry.kind.as_str() {
        "document" => EntryKind::Document,
        "file" => EntryKind::File,
        _ => return None,
    };
    let remote_id = entry.remote_id()?.to_owned();
    if let (EntryKind::File, [upload]) = (kind, uploads.as_mut_slice()) {
        upload.remote_id = Some(remote_id.clone());
    }
    Some(ReceiptedEntry {
        index: entry.index,
        kind,
        reference: entry.reference.clone(),
        profile_id: ProfileId::parse(entry.profile_id.as_deref()?)?,
        category: entry.category.clone(),
        document_type: entry.document_type.clone(),
        name: entry.name.clone(),
        content: (rule.parse().ok()?, Sha256::parse(digest)?),
        remote_id,
        uploads,
    })
}
