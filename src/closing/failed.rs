//! The list of failed entries beside a receipt that is not wholly well: the sender's own rows or entries, with why.
//!
//! It is made of the manifest, which is still where it was while the batch was worked on, and of what the queue knows of its
//! entries. Both are read in the manifest's order, so memory does not grow with their number. The same batch always comes to
//! the same list (idempotent), as with its receipt.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read, Write},
};

use sha2::Digest as _;

use super::{ClosingError, Digest, files::manifest_place};
use crate::{
    durable::{self, Access, Folder},
    entry::Sha256,
    inbox::beneath::{Refusal, Root},
    manifest::{self, EntryFailure, Format, ReadError},
    queue::{QueueError, Reader, batch::EndedBatch, scratch::TemporaryStore},
    receipt::{BatchStatus, EntryResult, failed},
    relative_path,
};

/// Entries that are asked for at once.
const PAGE: u32 = 256;

/// What became of writing a list under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Published {
    /// It is on disk, by this call or an earlier one.
    Yes,
    /// There is none: the manifest cannot be read as one.
    None,
    /// Another file has the name.
    NameTaken,
}

/// A manifest of which some entries failed.
pub(super) struct FailedList<'a> {
    reader: &'a Reader,
    batch: &'a EndedBatch,
    manifest: File,
    format: Format,
}

impl<'a> FailedList<'a> {
    /// Opens the manifest; nothing where all is well, where a layout made the entries (its lists have another form), or where
    /// the manifest is not there any more as it was taken in.
    pub(super) fn of(
        reader: &'a Reader,
        batch: &'a EndedBatch,
        status: BatchStatus,
    ) -> Result<Option<Self>, ClosingError> {
        if status == BatchStatus::Done || batch.layout.is_some() {
            return Ok(None);
        }
        let opened = open(batch).and_then(|opened| {
            let Some(mut manifest) = opened else { return Ok(None) };
            let (mut head, mut digest) = (Vec::new(), Digest::default());
            Read::by_ref(&mut manifest).take(HEAD_BYTES).read_to_end(&mut head)?;
            digest.write_all(&head)?;
            io::copy(&mut manifest, &mut digest)?;
            let is_same = Sha256(digest.digest.finalize().into()) == batch.manifest_sha256;
            Ok(is_same.then(|| (Format::detect(&batch.manifest, &head), manifest)))
        });
        let opened = opened.map_err(ClosingError::Receipt)?;
        if opened.is_none() {
            tracing::warn!(
                batch = batch.id,
                "its failed entries are not listed: the manifest is not what was taken in"
            );
        }
        Ok(opened.map(|(format, manifest)| Self { reader, batch, manifest, format }))
    }

    /// The name that the list has beside a receipt of this number.
    pub(super) fn name(&self, number: u32) -> String {
        let manifest = relative_path::name(&self.batch.manifest);
        durable::fit(failed::stem(manifest), &failed::ending(self.format, number))
    }

    /// Writes the list under this name, unless it is there already.
    pub(super) fn publish(&self, folder: &Folder, name: &str, access: Access) -> Result<Published, ClosingError> {
        let mut unusable = false;
        let written = folder.publish_as("publish_failed", name, access, |out| self.write(out, &mut unusable));
        match written {
            Ok(_) => Ok(Published::Yes),
            Err(_) if unusable => Ok(Published::None),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let mut ours = Digest::default();
                self.write(&mut ours, &mut unusable).map_err(ClosingError::Receipt)?;
                Ok(if ours.has_content_of(folder, name)? { Published::Yes } else { Published::NameTaken })
            }
            Err(error) => Err(ClosingError::Receipt(error)),
        }
    }

    fn write(&self, out: &mut dyn Write, unusable: &mut bool) -> io::Result<()> {
        let mut failures = Failures::of(self.reader, self.batch).map_err(io::Error::other)?;
        let mut failure_of = |index| failures.of_entry(index).map_err(io::Error::other);
        let mut scratch = TemporaryStore::default();
        let written = manifest::write_failed(&self.manifest, self.format, &mut scratch, &mut failure_of, out);
        match written {
            Ok(1..) => Ok(()),
            Ok(0) | Err(ReadError::Unusable(_) | ReadError::Cut(_)) => {
                *unusable = true;
                Err(io::ErrorKind::InvalidData.into())
            }
            Err(ReadError::Io(error)) => Err(error),
            Err(error @ ReadError::Stopped) => Err(io::Error::other(error)),
        }
    }
}

/// So much of a manifest shows its format where its name does not.
const HEAD_BYTES: u64 = 64 * 1024;

/// The manifest; nothing where it is gone, or may not be read any more.
fn open(batch: &EndedBatch) -> io::Result<Option<File>> {
    let (folder, path) = manifest_place(batch);
    let opened = Root::open(&folder).map_err(Refusal::Io).and_then(|root| root.open_file(&path));
    match opened {
        Ok(opened) => Ok(Some(opened.file)),
        Err(Refusal::Missing | Refusal::Unsafe(_)) => Ok(None),
        Err(Refusal::Io(error)) if is_final(&error) => Ok(None),
        Err(Refusal::Io(error)) => Err(error),
    }
}

fn is_final(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::NotADirectory)
}

/// Why the entries of a batch failed, asked for in their order.
struct Failures<'a> {
    reader: &'a Reader,
    batch_id: i64,
    /// What was read ahead, and from where on nothing was yet.
    page: VecDeque<EntryResult>,
    unread: Option<u64>,
    /// The last entry that the queue knows.
    last: Option<u64>,
    /// Why those after it were not read. The first of them has the words, the others the code: a manifest of nothing but
    /// faults must not become a list of a hundred times its size.
    rest: Option<EntryFailure>,
}

impl<'a> Failures<'a> {
    fn of(reader: &'a Reader, batch: &EndedBatch) -> Result<Self, QueueError> {
        let last = reader.last_entry(batch.id)?;
        let rest = match (last, &batch.problems) {
            (Some(last), _) => reader.failed_entries(batch.id, last, 1)?.first().and_then(failed::failure),
            (None, problems) => problems.as_ref().map(|problems| failed::of_problems("rejected", problems)),
        };
        let rest = rest.map(|failure| EntryFailure { sha256: Vec::new(), ..failure });
        Ok(Self { reader, batch_id: batch.id, page: VecDeque::new(), unread: Some(0), last, rest })
    }

    fn of_entry(&mut self, index: u64) -> Result<Option<EntryFailure>, QueueError> {
        if self.last.is_none_or(|last| index > last) {
            let code =
                self.rest.as_ref().map(|rest| EntryFailure { code: rest.code.clone(), ..EntryFailure::default() });
            return Ok(std::mem::replace(&mut self.rest, code));
        }
        while self.page.front().is_some_and(|entry| entry.index < index) {
            self.page.pop_front();
        }
        if self.page.is_empty()
            && let Some(from) = self.unread
        {
            self.page = self.reader.failed_entries(self.batch_id, from.max(index), PAGE)?.into();
            self.unread = self.page.back().map(|entry| entry.index.saturating_add(1));
        }
        Ok(self.page.front().filter(|entry| entry.index == index).and_then(failed::failure))
    }
}
