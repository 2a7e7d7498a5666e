//! What decides about the entries of an import and their files besides these themselves.

use std::{cell::RefCell, ops::ControlFlow};

use super::{
    context::{EntryContext, FileRight, MOST_TAKINGS, WantedFile, is_what_was_taken, named_earlier},
    named_files::NamedFiles,
};
use crate::{
    claims::{EarlierTaking, NameClaim, is_spent},
    entry::{Entry, Sha256},
    file_identity::FileIdentity,
    inbox::beneath::Root,
    problem::Problem,
    queue::{
        QueueError, Reader,
        batch::{GoneEntries, Plan},
        created_before::CreatedEntry,
        known_rows::KnownRows,
    },
    relative_path::{join, path_key},
};

/// A manifest of an import, which waits for nothing.
pub(crate) struct ImportContext<'a> {
    pub(crate) reader: Reader,
    /// What was created before, where entries of which nothing has changed need no job.
    pub(crate) known: Option<RefCell<KnownRows>>,
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
    fn unchanged_since(&self, entry: &Entry, (images, folder): (&Root, &str)) -> Result<Option<i64>, QueueError> {
        let Some((known, reference)) = self.known.as_ref().zip(entry.reference.as_deref()) else { return Ok(None) };
        let Some(created) = known.borrow_mut().find(reference)? else { return Ok(None) };
        let Some(files) = created.files_as_seen(entry) else { return Ok(None) };
        for (source, seen) in entry.sources().zip(&files) {
            let path = join(folder, source.path.as_str());
            let Ok(opened) = images.open_file(&path) else { return Ok(None) };
            if !opened.identity.is_unchanged_since(seen) {
                return Ok(None);
            }
            let claim = NameClaim::of(entry.profile_id.as_str(), source.declared_sha256.is_some());
            let wanted = WantedFile { path: &path, written: source.path.as_str(), claim };
            if self.names.right_to(&wanted, &opened.identity, images)? != FileRight::Yes {
                return Ok(None);
            }
        }
        Ok(Some(created.job_id))
    }

    fn passed_over(&self, entry: &Entry) -> Result<(), QueueError> {
        if let Some((known, reference)) = self.known.as_ref().zip(entry.reference.as_deref()) {
            known.borrow_mut().find(reference)?;
        }
        Ok(())
    }

    fn gone(&self, plan: &Plan, batch_id: Option<i64>) -> Result<Option<GoneEntries>, QueueError> {
        self.known.as_ref().map_or(Ok(None), |known| known.borrow().gone(plan, batch_id))
    }

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
