//! The end of a manifest: its receipt is published, its files are moved, and its batch is closed.
//!
//! # Durability
//!
//! The receipt's name is on disk before the receipt is; the receipt is on disk before anything is moved or deleted; the
//! manifest is moved last, so that a scan after a crash finds it and knows it. Each step is idempotent.
//!
//! Everything here blocks.

mod doubled;
mod failed;
mod files;
pub mod purge;
mod text;

use std::{
    io::{self, Read, Write},
    iter,
    path::{Path, PathBuf},
};

pub use doubled::publish_addenda;
use rustix::fs::AtFlags;
use sha2::Digest as _;

use self::{
    failed::{FailedList, Published},
    text::ReceiptText,
};

use crate::{
    durable::{self, Access, Folder},
    inbox::{
        archive::{self, ArchiveError},
        beneath::Root,
    },
    manifest::Format,
    queue::{Queue, QueueError, Reader, awaited::NotNow, batch::EndedBatch},
    receipt::{self, BatchStatus, Counts, ReceiptEntry, ReceiptHeader},
    relative_path::{self, join},
};

/// Why a batch could not be settled; it stays as it is and is tried again.
#[derive(Debug, thiserror::Error)]
pub enum ClosingError {
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The receipt could not be written.
    #[error("the receipt cannot be written: {0}")]
    Receipt(#[source] io::Error),
    /// A folder cannot be opened.
    #[error("{} cannot be opened: {source}", path.display())]
    Folder { path: PathBuf, source: io::Error },
    /// What was taken is not there.
    #[error("{}, with the files that were taken, is gone: put it back; if it is lost for good, make an empty folder there", .0.display())]
    WorkFolder(PathBuf),
    /// A file could not be moved or removed.
    #[error("a file cannot be put away: {0}")]
    Archive(#[from] ArchiveError),
    /// Another manifest must be examined first, since it may name the same files.
    #[error("its files are put away once {} is taken in, which may name them too", what_first(.0))]
    NotNow(NotNow),
}

fn what_first(not_now: &NotNow) -> &str {
    match not_now {
        NotNow::Unknown => "what is in the drop",
        NotNow::Large(manifest) => manifest,
        NotNow::Importing => "every manifest of the import",
    }
}

/// How a batch ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    pub batch_id: i64,
    pub manifest: String,
    pub status: BatchStatus,
    /// How its entries ended.
    pub counts: Counts,
    /// Where its receipt is.
    pub receipt: PathBuf,
}

/// Settles a batch whose jobs have all ended.
///
/// # Errors
///
/// [`ClosingError`]; whatever was done by then is not done again.
pub fn settle(queue: &Queue, reader: &Reader, batch: &EndedBatch) -> Result<Settled, ClosingError> {
    let counts = reader.counts(batch.id)?;
    let header = ReceiptHeader::new(
        (&batch.drop, batch.account.as_deref()),
        (&batch.manifest, batch.manifest_sha256),
        (batch.received_at, batch.finished_at),
        counts,
        batch.problems.as_deref(),
    )
    .by_layout(batch.layout.as_ref())
    .warned(&batch.warnings);
    if let Some(receipt) = reader.receipt_after_copy(batch.id)?.filter(|_| files::are_put_away(batch)) {
        let path = batch.policy.receipts_dir.join(&receipt);
        queue.close_as_receipted(batch.id, receipt)?;
        let manifest = batch.manifest.clone();
        return Ok(Settled { batch_id: batch.id, manifest, status: header.status, counts, receipt: path });
    }
    let receipt = if batch.published {
        batch.policy.receipts_dir.join(batch.receipt.as_deref().unwrap_or_default())
    } else {
        publish(queue, reader, batch, &header)?
    };
    files::archive(queue, reader, batch, header.status)?;
    Ok(Settled { batch_id: batch.id, manifest: batch.manifest.clone(), status: header.status, counts, receipt })
}

/// Writes the list of failed entries, the text for people, and then the receipt, under the name that the queue knows, or the
/// next one that is free.
fn publish(
    queue: &Queue,
    reader: &Reader,
    batch: &EndedBatch,
    header: &ReceiptHeader,
) -> Result<PathBuf, ClosingError> {
    let access = access_of(batch)?;
    let (folder, name) = receipt_place(batch, header.counts.entries, access)?;
    let relative = |name: &str| join(relative_path::parent(&batch.manifest), name);
    let list = FailedList::of(reader, batch, header.status)?;
    let text = ReceiptText::of(reader, batch, header)?;
    let mut chosen = batch.receipt.as_deref().map(|path| relative_path::name(path).to_owned());
    let first = chosen.as_deref().map_or(0, |chosen| durable::number_of(&name, chosen));
    for number in first.. {
        let list_name = list.as_ref().map(|list| list.name(number));
        let text_name = text.as_ref().map(|text| text.name(number));
        let beside = || list_name.iter().chain(&text_name);
        let candidate = match chosen.take() {
            Some(known) => {
                // An earlier process may have been killed while it wrote.
                for name in beside().chain([&known]) {
                    folder.sweep(name).map_err(ClosingError::Receipt)?;
                }
                known
            }
            None => {
                let candidate = durable::numbered(&name, number);
                if beside().chain([&candidate]).any(|name| is_taken(&folder, name)) {
                    continue;
                }
                queue.name_receipt(batch.id, relative(&candidate))?;
                candidate
            }
        };
        let listed = match list.as_ref().zip(list_name.as_deref()) {
            Some((list, name)) => list.publish(&folder, name, access)?,
            None => Published::None,
        };
        if listed == Published::NameTaken {
            continue;
        }
        let remove = |name: Option<&str>| match name.map(|name| rustix::fs::unlinkat(&folder, name, AtFlags::empty())) {
            None | Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(ClosingError::Receipt(error.into())),
        };
        let ours = list_name.as_deref().filter(|_| listed == Published::Yes);
        let texted = match text.as_ref().zip(text_name.as_deref()) {
            Some((text, name)) => text.publish(&folder, name, access, (&candidate, ours))?,
            None => Published::None,
        };
        // What is beside a receipt goes with it, which gets another number.
        if texted == Published::NameTaken {
            remove(ours)?;
            continue;
        }
        let written =
            folder.publish(&candidate, access, |out| write(reader, batch.id, header, out).map_err(io::Error::other));
        match written {
            Ok(path) => {
                queue.receipt_published(batch.id, header.status)?;
                return Ok(path);
            }
            // Written before a crash, or by somebody else: only in the first case is it ours.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if is_ours(&folder, &candidate, reader, batch.id, header)? {
                    queue.receipt_published(batch.id, header.status)?;
                    return Ok(folder.path().join(candidate));
                }
                remove(ours)?;
                remove(text_name.as_deref().filter(|_| texted == Published::Yes))?;
            }
            Err(error) => return Err(ClosingError::Receipt(error)),
        }
    }
    Err(ClosingError::Receipt(io::Error::other("no name is free")))
}

/// The list of failed entries beside the receipt of a manifest with so many entries, where there is one.
pub fn failed_list_beside(receipt: &Path, manifest: &Path, entries: u64) -> Option<PathBuf> {
    let (folder, found) = (receipt.parent()?, receipt.file_name()?.to_str()?);
    let manifest = manifest.file_name()?.to_str()?;
    let number = durable::number_of(&durable::fit(manifest, &receipt::name("", entries)), found);
    let name =
        |format| folder.join(durable::fit(receipt::failed::stem(manifest), &receipt::failed::ending(format, number)));
    [Format::Csv, Format::JsonLines].map(name).into_iter().find(|list| list.is_file())
}

fn is_taken(folder: &Folder, name: &str) -> bool {
    rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// Who may read what is written about a batch.
fn access_of(batch: &EndedBatch) -> Result<Access, ClosingError> {
    let group = batch.policy.receipt_group.as_deref().map(durable::group_of).transpose();
    let group = group.map_err(|error| ClosingError::Receipt(io::Error::other(error)))?;
    Ok(Access { mode: batch.policy.receipt_mode, group })
}

/// The folder of the receipt, made where it is missing, and the receipt's first choice of name.
fn receipt_place(batch: &EndedBatch, entries: u64, access: Access) -> Result<(Folder, String), ClosingError> {
    let ending = receipt::name("", entries);
    let name = durable::fit(relative_path::name(&batch.manifest), &ending);
    Ok((receipt_folder(batch, access)?, name))
}

/// The folder of the receipt, made where it is missing.
fn receipt_folder(batch: &EndedBatch, access: Access) -> Result<Folder, ClosingError> {
    let below = batch.policy.receipts_dir.join(relative_path::parent(&batch.manifest));
    let folder = match Root::open(&batch.policy.root) {
        Ok(root) => archive::folder_for(&root, &below, access),
        // The drop may be gone for good; a receipt elsewhere can still be written.
        Err(_) if !below.starts_with(&batch.policy.root) => Folder::create_for(&below, access),
        Err(source) => return Err(ClosingError::Folder { path: batch.policy.root.clone(), source }),
    };
    folder.map_err(ClosingError::Receipt)
}

fn is_ours(
    folder: &Folder,
    name: &str,
    reader: &Reader,
    batch_id: i64,
    header: &ReceiptHeader,
) -> Result<bool, ClosingError> {
    // The account's name may have come to be known since: then there were two receipts of one manifest.
    for header in iter::once(header).chain(&header.without_account()) {
        let mut ours = Digest::default();
        write(reader, batch_id, header, &mut ours).map_err(|error| ClosingError::Receipt(io::Error::other(error)))?;
        if ours.has_content_of(folder, name)? {
            return Ok(true);
        }
    }
    Ok(false)
}

#[derive(Default)]
struct Digest {
    digest: sha2::Sha256,
    bytes: u64,
}

impl Digest {
    /// Whether it is that of the file of this name.
    fn has_content_of(self, folder: &Folder, name: &str) -> Result<bool, ClosingError> {
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let Ok(descriptor) = rustix::fs::openat(folder, name, flags, rustix::fs::Mode::empty()) else {
            return Ok(false);
        };
        // What cannot be read now may be ours all the same, and a second receipt would say the same again.
        let file = std::fs::File::from(descriptor);
        let metadata = file.metadata().map_err(ClosingError::Receipt)?;
        // One of terabytes is not read to find that out.
        if !metadata.is_file() || metadata.len() != self.bytes {
            return Ok(false);
        }
        let mut theirs = Self::default();
        io::copy(&mut file.take(self.bytes), &mut theirs).map_err(ClosingError::Receipt)?;
        Ok(self.digest.finalize() == theirs.digest.finalize())
    }
}

impl Write for Digest {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.digest.update(piece);
        self.bytes += piece.len() as u64;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn write(reader: &Reader, batch_id: i64, header: &ReceiptHeader, out: &mut dyn Write) -> Result<(), WriteError> {
    let mut writer = receipt::ReceiptWriter::begin(out, header)?;
    reader.entries(batch_id, |result| Ok::<_, WriteError>(writer.entry(&ReceiptEntry::from(result))?))?;
    Ok(writer.end()?)
}
