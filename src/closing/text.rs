//! The text for people beside a receipt. The same batch always comes to the same text (idempotent), as with its receipt.

use std::io;

use super::{ClosingError, Digest, failed::Published};
use crate::{
    durable::{self, Access, Folder},
    partner_text::{EndedManifest, FilesAre, LISTED},
    policy::AfterSuccess,
    queue::{Reader, batch::EndedBatch},
    receipt::{BatchStatus, EntryResult, ReceiptHeader},
    relative_path,
};

/// The text about a manifest of a drop.
pub(super) struct ReceiptText<'a> {
    batch: &'a EndedBatch,
    header: &'a ReceiptHeader,
    unwell: Vec<EntryResult>,
}

impl<'a> ReceiptText<'a> {
    /// Nothing where the batch has no texts: an import of millions of manifests has nobody who reads them.
    pub(super) fn of(
        reader: &Reader,
        batch: &'a EndedBatch,
        header: &'a ReceiptHeader,
    ) -> Result<Option<Self>, ClosingError> {
        if !batch.policy.texts {
            return Ok(None);
        }
        let most = u32::try_from(LISTED).unwrap_or(u32::MAX).saturating_add(1);
        let unwell = match header.status {
            BatchStatus::Done => Vec::new(),
            BatchStatus::Partial | BatchStatus::Failed | BatchStatus::Rejected => {
                reader.failed_entries(batch.id, 0, most)?
            }
        };
        Ok(Some(Self { batch, header, unwell }))
    }

    /// The name that the text has beside a receipt of this number.
    pub(super) fn name(&self, number: u32) -> String {
        durable::numbered(&durable::fit(relative_path::name(&self.batch.manifest), ".receipt.txt"), number)
    }

    /// Writes the text under this name, unless it is there already. It names the receipt, and the list of failed entries.
    pub(super) fn publish(
        &self,
        folder: &Folder,
        name: &str,
        access: Access,
        (receipt, list): (&str, Option<&str>),
    ) -> Result<Published, ClosingError> {
        let text = EndedManifest {
            manifest: &self.batch.manifest,
            status: self.header.status,
            counts: self.header.counts,
            received_at: self.batch.received_at,
            finished_at: self.batch.finished_at,
            problems: self.batch.problems.as_deref().unwrap_or_default(),
            unwell: &self.unwell,
            files: self.files(),
            receipt,
            list,
        };
        match folder.publish_before("publish_text", name, access, |out| text.write(out)) {
            Ok(()) => Ok(Published::Yes),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let mut ours = Digest::default();
                text.write(&mut ours).map_err(ClosingError::Receipt)?;
                Ok(if ours.has_content_of(folder, name)? { Published::Yes } else { Published::NameTaken })
            }
            Err(error) => Err(ClosingError::Receipt(error)),
        }
    }

    /// Where the files will be, or the manifest alone where it is rejected as a whole.
    fn files(&self) -> FilesAre {
        let policy = &self.batch.policy;
        let well = self.header.status == BatchStatus::Done;
        let folder = match (well, policy.after_success) {
            (true, AfterSuccess::Delete) => return FilesAre::Removed,
            (true, AfterSuccess::Keep) => return FilesAre::InPlace,
            (true, AfterSuccess::Archive) => policy.done_dir.as_ref(),
            (false, _) => policy.failed_dir.as_ref(),
        };
        let Some(folder) = folder else { return FilesAre::InPlace };
        match folder.join(self.batch.finished_at.date()).strip_prefix(&policy.root) {
            Ok(below) => FilesAre::In(below.to_string_lossy().into_owned()),
            Err(_) => FilesAre::Kept,
        }
    }
}
