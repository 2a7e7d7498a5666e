//! What decides about the entries of an import and their files besides these themselves.

use std::ops::ControlFlow;

use super::{
    context::{EntryContext, FileRight, MOST_TAKINGS, WantedFile, is_what_was_taken, named_earlier},
    named_files::NamedFiles,
};
use crate::{
    claims::{EarlierTaking, is_spent},
    entry::Sha256,
    file_identity::FileIdentity,
    inbox::beneath::Root,
    problem::Problem,
    queue::{QueueError, Reader, created_before::CreatedEntry},
    relative_path::path_key,
};

/// A manifest of an import, which waits for nothing.
pub(crate) struct ImportContext<'a> {
    pub(crate) reader: Reader,
    pub(crate) drop: &'a str,
    pub(crate) manifest_sha256: Sha256,
    /// The manifests of the same import.
    pub(crate) names: &'a NamedFiles,
    /// Whether a batch is one of theirs.
    pub(crate) is_ours: &'a dyn Fn(i64) -> bool,
    /// Whether the file system's clock is this machine's.
    pub(crate) own_clock: bool,
}

impl ImportContext<'_> {
    /// The manifest that took the file for another profile: one whose batch is not closed, or one of this import.
    fn taken_earlier(
        &self,
        file: &WantedFile<'_>,
        identity: &FileIdentity,
        images: &Root,
    ) -> Result<Option<String>, QueueError> {
        let (mut by, mut rows) = (None, 0);
        self.reader.taken_before(path_key(images.path(), "", file.path), |taken| {
            let is_this_file = is_what_was_taken(&taken, identity, images, self.own_clock);
            // A copy of the same manifest means the same.
            let counts =
                (taken.is_open || (self.is_ours)(taken.batch_id)) && taken.manifest_sha256 != self.manifest_sha256;
            if counts && is_spent(file.claim, &EarlierTaking { claim: taken.claim, is_this_file }) {
                by = Some(taken.manifest);
                return ControlFlow::Break(());
            }
            rows += 1;
            if is_this_file && rows < MOST_TAKINGS { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(by)
    }
}

impl EntryContext for ImportContext<'_> {
    fn created(&self, reference: &str) -> Result<Option<CreatedEntry>, QueueError> {
        self.reader.created_before(self.drop, reference)
    }

    fn is_contested(&self, path: &str) -> bool {
        self.names.is_contested(path)
    }

    fn right_to(&self, file: &WantedFile<'_>, identity: &FileIdentity, images: &Root) -> Result<FileRight, QueueError> {
        match self.taken_earlier(file, identity, images)? {
            Some(by) => Ok(FileRight::InUse(named_earlier(by, file))),
            None => self.names.right_to(file, identity, images),
        }
    }

    fn taken_by_another(&self, file: &WantedFile<'_>, images: &Root) -> Result<Option<Problem>, QueueError> {
        self.names.taken_by_another(file, images)
    }
}
