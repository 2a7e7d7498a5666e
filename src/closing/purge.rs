//! Removes from the done folder what was archived long enough ago.
//!
//! Only what the queue itself put there goes: each file is known by where it was moved to, reached without following a
//! link, and read again first, so that one whose content is not what was archived stays. Folders go when they are
//! empty. Receipts stay for ever. Every step is idempotent: a batch counts as purged once all of it is gone.

use std::{
    io::{self, Read},
    path::Path,
};

use sha2::Digest as _;

use super::{
    ClosingError,
    files::{Still, as_checked},
};
use crate::{
    clock::Timestamp,
    config::DropConfig,
    entry::Sha256,
    file_identity::FileIdentity,
    inbox::{
        archive::{self, ArchiveError, Removal},
        beneath::{Refusal, Root},
    },
    job::FileLocation,
    killpoint,
    queue::{Queue, QueueError, Reader, files::Fingerprint, purge::Purgeable},
    receipt::BatchStatus,
    relative_path::{self, path_key},
};

/// What a pass did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Purged {
    /// Manifests of which nothing is left.
    pub manifests: u64,
    /// Files that were removed, manifests among them.
    pub files: u64,
    /// Manifests of which something could not be removed.
    pub troubled: u64,
}

/// Purges the done folders of these drops once.
///
/// # Errors
///
/// Those of the queue; what cannot be removed is logged, counted, and tried again by the next pass.
pub fn pass(
    queue: &Queue,
    drops: &[DropConfig],
    now: Timestamp,
    stopped: &dyn Fn() -> bool,
) -> Result<Purged, QueueError> {
    let mut purged = Purged::default();
    let reader = Reader::open(queue.path())?;
    for drop in drops {
        let Some(keep) = drop.keep_done_for else { continue };
        let before = Timestamp(now.0.saturating_sub(i64::try_from(keep.as_millis()).unwrap_or(i64::MAX)));
        let mut after = 0;
        while let Some(batch) = reader.next_purgeable(&drop.name, before, after)? {
            if stopped() {
                return Ok(purged);
            }
            after = batch.id;
            match one(queue, &reader, &batch) {
                Ok(Some(files)) => {
                    queue.purged(batch.id, now)?;
                    purged.manifests += 1;
                    purged.files += files;
                    tracing::info!(drop = drop.name, batch = batch.id, manifest = batch.manifest, files, "purged");
                }
                Ok(None) => {}
                Err(ClosingError::Queue(error)) => return Err(error),
                Err(error) => {
                    purged.troubled += 1;
                    tracing::warn!(drop = drop.name, batch = batch.id, manifest = batch.manifest, reason = %error, "cannot be purged yet");
                }
            }
        }
    }
    Ok(purged)
}

/// Removes the files of one batch; `None` where the batch is not to be purged.
fn one(queue: &Queue, reader: &Reader, batch: &Purgeable) -> Result<Option<u64>, ClosingError> {
    let done = Path::new(&batch.done_dir);
    let is_in_done = |place: &FileLocation| Path::new(&place.root).join(&place.path).starts_with(done);
    // What failed is elsewhere, and somebody may still want to examine it.
    let all_is_well = reader.counts(batch.id)?.status(batch.unusable) == BatchStatus::Done;
    if !all_is_well || !Path::new(&batch.archive).starts_with(done) {
        return Ok(None);
    }
    let mut removed = 0;
    reader.files(batch.id, |files| {
        for file in files {
            let (Some(place), Some(checked)) = (&file.moved_to, &file.checked) else { continue };
            let key = path_key(Path::new(&batch.image_root), &batch.image_folder, &file.path);
            if is_in_done(place) && !reader.is_unpurged_elsewhere(batch.id, key, place)? {
                // Read it, whatever its times say.
                let checked = Fingerprint { seen: None, ..checked.clone() };
                removed += u64::from(remove(place, &batch.done_dir, |root| {
                    Ok(match as_checked(root, &place.path, &checked, queue.seed())? {
                        Still::There(identity) => Some(identity),
                        Still::Other | Still::Gone => None,
                    })
                })?);
            }
        }
        Ok::<_, ClosingError>(())
    })?;
    if let Some(place) = batch.manifest_moved_to.as_ref().filter(|place| is_in_done(place)) {
        if let Some(marker) = &batch.marker {
            let place = FileLocation { path: format!("{}{marker}", place.path), ..place.clone() };
            removed += u64::from(remove(&place, &batch.done_dir, |root| {
                // What a marker contains was never read, so only an empty one is known to be nothing else.
                Ok(opened(root, &place.path)?.map(|opened| opened.identity).filter(|identity| identity.bytes == 0))
            })?);
        }
        removed += u64::from(remove(place, &batch.done_dir, |root| manifest(root, place, batch.manifest_sha256))?);
    }
    Ok(Some(removed))
}

/// Removes a file that `identify` knows, and the folders that are empty without it; returns whether it went.
fn remove(
    place: &FileLocation,
    done: &str,
    identify: impl FnOnce(&Root) -> Result<Option<FileIdentity>, ClosingError>,
) -> Result<bool, ClosingError> {
    let root = match Root::open(Path::new(&place.root)) {
        Ok(root) => root,
        Err(source) => return Err(ClosingError::Folder { path: place.root.clone().into(), source }),
    };
    let removed = match identify(&root)? {
        Some(identity) => {
            killpoint::before("purge", "file");
            let removal = archive::remove(&root, &place.path, Some(&identity))?;
            killpoint::after("purge", "file");
            removal == Removal::Removed
        }
        None => false,
    };
    let floor = Path::new(done).strip_prefix(root.path()).ok().and_then(Path::to_str).unwrap_or_default();
    archive::prune_empty(&root, relative_path::parent(&place.path), floor)?;
    Ok(removed)
}

fn opened(root: &Root, path: &str) -> Result<Option<crate::inbox::beneath::OpenedFile>, ClosingError> {
    match root.open_file(path) {
        Ok(opened) => Ok(Some(opened)),
        Err(Refusal::Missing | Refusal::Unsafe(_)) => Ok(None),
        Err(Refusal::Io(error)) => Err(ArchiveError::Io(error).into()),
    }
}

/// The manifest's identity, if it is the one that was admitted.
fn manifest(root: &Root, place: &FileLocation, expected: Sha256) -> Result<Option<FileIdentity>, ClosingError> {
    let Some(mut opened) = opened(root, &place.path)? else { return Ok(None) };
    let mut digest = sha2::Sha256::new();
    let mut piece = vec![0; 64 * 1024];
    loop {
        match opened.file.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => digest.update(piece.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ArchiveError::Io(error).into()),
        }
    }
    Ok((Sha256(digest.finalize().into()) == expected).then_some(opened.identity))
}
