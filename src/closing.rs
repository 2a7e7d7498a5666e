//! The end of a manifest: its receipt is published, its files are moved, and its batch is closed.
//!
//! # Durability
//!
//! The receipt's name is on disk before the receipt is; the receipt is on disk before anything is moved or deleted;
//! the manifest is moved last, so that a scan after a crash finds it and knows it. Each step may be done twice.
//!
//! Everything here blocks.

use std::{
    collections::BTreeSet,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use rusqlite::Connection;
use sha2::Digest as _;

use crate::{
    config::AfterSuccess,
    delivery::join,
    durable::{self, Folder},
    inbox::{
        beneath::{Identity, Refusal, Root},
        shelf::{self, PutAway, ShelfError},
    },
    killpoint,
    queue::{Queue, QueueError, admit::path_key, settle, settle::Ended, settle::NamedFile},
    receipt::{self, BatchStatus, Counts, Header, Line},
};

/// Why a batch could not be settled; it stays as it is and is tried again.
#[derive(Debug, thiserror::Error)]
pub enum ClosingError {
    /// The queue refused.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The receipt could not be written.
    #[error("the receipt cannot be written: {0}")]
    Receipt(#[source] io::Error),
    /// A folder cannot be opened.
    #[error("{} cannot be opened: {source}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file could not be moved or removed.
    #[error("a file cannot be put away: {0}")]
    Shelf(#[from] ShelfError),
}

/// How a batch ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    /// Its number.
    pub batch_id: i64,
    /// Its manifest.
    pub manifest: String,
    /// How.
    pub status: BatchStatus,
    /// How its entries ended.
    pub counts: Counts,
    /// Where its receipt lies.
    pub receipt: PathBuf,
}

/// Settles a batch whose jobs have all ended.
///
/// # Errors
///
/// [`ClosingError`]; whatever was done by then is not done again.
pub fn settle(queue: &Queue, look: &Connection, batch: &Ended) -> Result<Settled, ClosingError> {
    let counts = settle::counts(look, batch.id)?;
    let header = Header::new(
        (&batch.drop, &batch.manifest, batch.manifest_sha256),
        (batch.received_at, batch.finished_at),
        counts,
        batch.problems.as_deref(),
    );
    let receipt = if batch.published {
        batch.receipts_dir.join(batch.receipt.as_deref().unwrap_or_default())
    } else {
        publish(queue, look, batch, &header)?
    };
    let shelf = put_away(queue, look, batch, header.status)?;
    queue.batch_closed(batch.id, shelf.map(|shelf| shelf.to_string_lossy().into_owned()))?;
    Ok(Settled { batch_id: batch.id, manifest: batch.manifest.clone(), status: header.status, counts, receipt })
}

/// Writes the receipt under the name that the queue knows, or the next one that is free.
fn publish(queue: &Queue, look: &Connection, batch: &Ended, header: &Header) -> Result<PathBuf, ClosingError> {
    let (folder, name) = receipt_place(batch, header.counts.entries)?;
    let relative = |name: &str| join(parent_of(&batch.manifest), name);
    let mut chosen = batch.receipt.as_deref().map(|path| name_of(path).to_owned());
    for number in 0.. {
        let candidate = match chosen.take() {
            Some(known) => {
                // An earlier process may have been killed while it wrote.
                folder.sweep(&known).map_err(ClosingError::Receipt)?;
                known
            }
            None => {
                let candidate = durable::numbered(&name, number);
                if rustix::fs::statat(&folder, candidate.as_str(), rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok() {
                    continue;
                }
                queue.name_receipt(batch.id, relative(&candidate))?;
                candidate
            }
        };
        let written = folder.publish(&candidate, batch.receipt_mode, |out| {
            write(look, batch.id, header, out).map_err(io::Error::other)
        });
        match written {
            Ok(path) => {
                queue.receipt_published(batch.id)?;
                return Ok(path);
            }
            // Written before a crash, or by somebody else: only in the first case is it ours.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if is_ours(&folder, &candidate, look, batch.id, header)? {
                    queue.receipt_published(batch.id)?;
                    return Ok(folder.path().join(candidate));
                }
            }
            Err(error) => return Err(ClosingError::Receipt(error)),
        }
    }
    Err(ClosingError::Receipt(io::Error::other("no name is free")))
}

/// The folder of the receipt, made where it is missing, and the receipt's first choice of name.
fn receipt_place(batch: &Ended, entries: u64) -> Result<(Folder, String), ClosingError> {
    let ending = receipt::name("", entries);
    let name = durable::fit(name_of(&batch.manifest), &ending);
    let below = batch.receipts_dir.join(parent_of(&batch.manifest));
    let folder = match Root::open(&batch.root) {
        Ok(root) => shelf::folder_for(&root, &below),
        // The drop may be gone for good; a receipt that lies elsewhere can still be written.
        Err(_) if !below.starts_with(&batch.root) => Folder::create(&below),
        Err(source) => return Err(ClosingError::Folder { path: batch.root.clone(), source }),
    };
    Ok((folder.map_err(ClosingError::Receipt)?, name))
}

fn is_ours(
    folder: &Folder,
    name: &str,
    look: &Connection,
    batch_id: i64,
    header: &Header,
) -> Result<bool, ClosingError> {
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let Ok(descriptor) = rustix::fs::openat(folder, name, flags, rustix::fs::Mode::empty()) else { return Ok(false) };
    let mut theirs = Digest::default();
    let mut file = std::fs::File::from(descriptor).take(1 << 40);
    if io::copy(&mut file, &mut theirs).is_err() {
        return Ok(false);
    }
    let mut ours = Digest::default();
    write(look, batch_id, header, &mut ours).map_err(|error| ClosingError::Receipt(io::Error::other(error)))?;
    Ok(ours.0.finalize() == theirs.0.finalize())
}

#[derive(Default)]
struct Digest(sha2::Sha256);

impl Write for Digest {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.0.update(piece);
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

fn write(look: &Connection, batch_id: i64, header: &Header, out: &mut dyn Write) -> Result<(), WriteError> {
    let mut writer = receipt::Writer::begin(out, header)?;
    settle::entries(look, batch_id, |fate| Ok::<_, WriteError>(writer.entry(&Line::from(fate))?))?;
    Ok(writer.end()?)
}

/// Moves or deletes the manifest and its files; returns the dated folder that they are in now.
fn put_away(
    queue: &Queue,
    look: &Connection,
    batch: &Ended,
    status: BatchStatus,
) -> Result<Option<PathBuf>, ClosingError> {
    let well = status == BatchStatus::Done;
    let target = match (well, batch.after_success) {
        (true, AfterSuccess::Keep) => return Ok(None),
        (true, AfterSuccess::Delete) => None,
        (true, AfterSuccess::Archive) => batch.done_dir.as_ref(),
        (false, _) => batch.failed_dir.as_ref(),
    };
    if target.is_none() && !(well && batch.after_success == AfterSuccess::Delete) {
        return Ok(None);
    }
    let shelf = target.map(|folder| folder.join(batch.finished_at.date()));
    let open = |path: &Path| Root::open(path).map_err(|source| ClosingError::Folder { path: path.to_owned(), source });
    let (root, images) = (open(&batch.root)?, open(&batch.image_root)?);

    settle::files(look, batch.id, |files| {
        let key = |file: &NamedFile| path_key(&batch.image_root, &batch.image_folder, &file.path);
        let keys = files.iter().map(key).collect::<Vec<_>>();
        let named = queue.still_named(batch.id, keys.clone())?;
        let mut touched = BTreeSet::new();
        for (file, _) in files.iter().zip(&keys).filter(|(_, key)| !named.contains(key)) {
            let path = join(&batch.image_folder, &file.path);
            let expected = match file.checked {
                Some(checked) => match as_checked(&images, &path, checked, queue.seed())? {
                    Some(identity) => Some(identity),
                    None => continue,
                },
                None => None,
            };
            dispose(&images, &path, expected.as_ref(), shelf.as_deref(), &mut touched)?;
        }
        for folder in touched {
            durable::sync_dir(&folder).map_err(ShelfError::Io)?;
            killpoint::after("move", "sync");
        }
        Ok::<_, ClosingError>(())
    })?;
    if let Some(marker) = &batch.marker {
        // Before the manifest: a marker that stayed would speak for the next manifest of this name.
        let mut touched = BTreeSet::new();
        dispose(&root, &format!("{}{marker}", batch.manifest), None, shelf.as_deref(), &mut touched)?;
        for folder in touched {
            durable::sync_dir(&folder).map_err(ShelfError::Io)?;
        }
    }
    // Last, and only if it is still the one that was taken in.
    let expected = read_identity(&batch.manifest_file);
    match shelf.as_deref() {
        Some(shelf) => {
            killpoint::before("move", "manifest");
            shelf::put_away(&root, &batch.manifest, expected.as_ref(), shelf, &batch.manifest)?;
            killpoint::after("move", "manifest");
        }
        None => {
            killpoint::before("remove", "manifest");
            shelf::remove(&root, &batch.manifest, expected.as_ref())?;
            killpoint::after("remove", "manifest");
        }
    }
    Ok(shelf)
}

/// The identity of a file, if it still is the one that was checked. Whatever else lies under its name now has been sent
/// by nobody yet, and stays for the manifest that names it.
fn as_checked(
    root: &Root,
    path: &str,
    (bytes, checksum): (u64, u64),
    seed: u64,
) -> Result<Option<Identity>, ClosingError> {
    let mut opened = match root.open_file(path) {
        Ok(opened) if opened.identity.bytes == bytes => opened,
        Ok(_) | Err(Refusal::Missing | Refusal::Unsafe(_)) => return Ok(None),
        Err(Refusal::Io(error)) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        Err(Refusal::Io(error)) => return Err(ShelfError::Io(error).into()),
    };
    let mut hash = Checksum(xxhash_rust::xxh3::Xxh3::with_seed(seed));
    io::copy(&mut opened.file, &mut hash).map_err(ShelfError::Io)?;
    Ok((hash.0.digest() == checksum).then_some(opened.identity))
}

struct Checksum(xxhash_rust::xxh3::Xxh3);

impl Write for Checksum {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.0.update(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Moves or removes one file that a manifest named.
///
/// What may not be touched, a link or a pipe that somebody put under the name, stays: its entry has been refused for it,
/// and it must not keep the others from being settled.
fn dispose(
    root: &Root,
    path: &str,
    expected: Option<&Identity>,
    shelf: Option<&Path>,
    touched: &mut BTreeSet<PathBuf>,
) -> Result<(), ClosingError> {
    let step = if shelf.is_some() { "move" } else { "remove" };
    killpoint::before(step, "file");
    let moved = match shelf {
        None => shelf::remove(root, path, expected).map(|_| None),
        Some(shelf) => shelf::put_away_unsynced(root, path, expected, shelf, path).map(Some),
    };
    killpoint::after(step, "file");
    match moved {
        Ok(Some(PutAway::Moved { to })) => {
            touched.extend(to.parent().map(Path::to_owned));
            touched.insert(root.path().join(parent_of(path)));
            Ok(())
        }
        Ok(_) => Ok(()),
        Err(ShelfError::Unsafe { path, reason }) => {
            tracing::warn!(path, reason, "left where it is");
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

fn parent_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn name_of(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// The identity of a manifest's file as the queue keeps it.
#[must_use]
pub fn write_identity(identity: &Identity) -> String {
    format!("{}:{}:{}:{}", identity.dev, identity.ino, identity.bytes, identity.mtime_ns)
}

/// Reads [`write_identity`]; what that leaves out is zero and is not compared.
fn read_identity(text: &str) -> Option<Identity> {
    let mut parts = text.split(':');
    let identity = Identity {
        dev: parts.next()?.parse().ok()?,
        ino: parts.next()?.parse().ok()?,
        bytes: parts.next()?.parse().ok()?,
        mtime_ns: parts.next()?.parse().ok()?,
        ctime_ns: 0,
        links: 0,
        uid: 0,
    };
    parts.next().is_none().then_some(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_reads_back() {
        let identity = Identity { dev: 1, ino: 2, bytes: 3, mtime_ns: -4, ctime_ns: 0, links: 0, uid: 0 };
        assert_eq!(read_identity(&write_identity(&identity)), Some(identity));
        assert_eq!(read_identity("1:2:3"), None);
        assert_eq!(read_identity(""), None);
    }
}
