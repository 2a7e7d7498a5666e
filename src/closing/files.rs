//! Moves the files of an ended batch to the archive.
//!
//! What is in the batch's work folder goes there in any case. Of files in place, one stays where another manifest still needs
//! it. Where each file went is recorded when the batch is closed, for a
//! retry, the purge and `why`. The move is idempotent: after a crash in between, a file that is gone already is looked
//! for where it was to go.

use std::{
    collections::{BTreeSet, HashSet},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::ClosingError;
use crate::{
    durable,
    file_identity::{self, FileIdentity},
    inbox::{
        archive::{self, ArchiveError, Archived, LastTarget},
        beneath::{Refusal, Root},
        take::{files_below, remove_empty_folders},
    },
    job::FileLocation,
    killpoint,
    policy::AfterSuccess,
    queue::{
        Queue, Reader,
        awaited::NotNow,
        batch::EndedBatch,
        files::{Fingerprint, MovedFile, NamedFile},
    },
    receipt::BatchStatus,
    relative_path::{self, join, path_key},
};

/// Files whose new places are recorded at once.
const AT_ONCE: usize = 256;

/// Whether the batch's work folder has gone from `work_dir`, which is there.
pub(super) fn are_put_away(batch: &EndedBatch) -> bool {
    let Some(work) = &batch.work else { return false };
    let Ok(root) = Root::open(Path::new(&work.root)) else { return false };
    root.open_parent(&work.path).is_ok() && matches!(root.open_parent(&join(&work.path, "x")), Err(Refusal::Missing))
}

/// Moves or deletes the manifest and its files, and closes the batch.
pub(super) fn archive(
    queue: &Queue,
    reader: &Reader,
    batch: &EndedBatch,
    status: BatchStatus,
) -> Result<(), ClosingError> {
    let well = status == BatchStatus::Done;
    let target = match (well, batch.policy.after_success) {
        (true, AfterSuccess::Delete) => None,
        (true, AfterSuccess::Keep) => return Ok(queue.batch_closed(batch.id, None, None, Vec::new())?),
        (true, AfterSuccess::Archive) => batch.policy.done_dir.as_ref(),
        (false, _) => batch.policy.failed_dir.as_ref(),
    };
    if target.is_none() && !(well && batch.policy.after_success == AfterSuccess::Delete) {
        return Ok(queue.batch_closed(batch.id, None, None, Vec::new())?);
    }
    if batch.work.is_none() && batch.policy.after_success == AfterSuccess::Archive && queue.is_importing() {
        return Err(ClosingError::NotNow(NotNow::Importing));
    }
    let archive = target.map(|folder| folder.join(batch.finished_at.date()));
    let home = Root::open(&batch.policy.root)
        .map_err(|source| ClosingError::Folder { path: batch.policy.root.clone(), source })?;
    let mut mover = Mover {
        queue,
        reader,
        batch,
        home: &home,
        archive: archive.as_deref(),
        roots: Vec::new(),
        moved: Vec::new(),
        put_away: HashSet::new(),
    };
    mover.work_folder_is_there()?;
    reader.files(batch.id, |files| mover.files(&files))?;
    mover.marker()?;
    let manifest = mover.manifest()?;
    mover.rest()?;
    let moved = std::mem::take(&mut mover.moved);
    let archive = archive.as_ref().map(|archive| archive.to_string_lossy().into_owned());
    queue.batch_closed(batch.id, archive, manifest, moved)?;
    mover.remove_work_folder();
    Ok(())
}

/// Where the manifest is before it is put away: a folder that is trusted, and the path below it.
pub(super) fn manifest_place(batch: &EndedBatch) -> (PathBuf, String) {
    match (&batch.moved_to, &batch.work) {
        (Some(place), _) => (PathBuf::from(&place.root), place.path.clone()),
        (None, Some(work)) => (PathBuf::from(&work.root), join(&work.path, &batch.manifest)),
        (None, None) => (batch.policy.root.clone(), batch.manifest.clone()),
    }
}

struct Mover<'a> {
    queue: &'a Queue,
    reader: &'a Reader,
    batch: &'a EndedBatch,
    /// The drop.
    home: &'a Root,
    /// The dated folder that files are moved into; `None` where they are removed.
    archive: Option<&'a Path>,
    /// Folders that were opened.
    roots: Vec<(PathBuf, Root)>,
    /// What has moved and is not recorded yet.
    moved: Vec<MovedFile>,
    /// Files of the work folder that were moved last, by key: many entries may share one.
    put_away: HashSet<i64>,
}

/// Files of which it is known that they were put away.
const KNOWN: usize = 1 << 16;

impl Mover<'_> {
    /// Opens a folder, or uses it again.
    fn root(&mut self, path: &Path) -> Result<&Root, ClosingError> {
        let at = match self.roots.iter().position(|(known, _)| known == path) {
            Some(at) => at,
            None => {
                let opened =
                    Root::open(path).map_err(|source| ClosingError::Folder { path: path.to_owned(), source })?;
                self.roots.push((path.to_owned(), opened));
                self.roots.len() - 1
            }
        };
        match self.roots.get(at) {
            Some((_, root)) => Ok(root),
            None => Err(ClosingError::Folder { path: path.to_owned(), source: io::ErrorKind::NotFound.into() }),
        }
    }

    /// Archives or removes some of the files, those excepted that others need.
    fn files(&mut self, files: &[NamedFile]) -> Result<(), ClosingError> {
        let batch = self.batch;
        let key = |file: &NamedFile| path_key(&batch.policy.image_root, &batch.policy.image_folder, &file.path);
        let keys = files.iter().map(key).collect::<Vec<_>>();
        let is_own = |file: &NamedFile| batch.work.is_some() && file.moved_to.is_none();
        // In this order: what is being admitted meanwhile is either known here already or in the queue below.
        let moving = if files.iter().all(is_own) {
            None
        } else {
            Some(self.queue.awaited().about_to_move(&batch.drop, &keys).map_err(ClosingError::NotNow)?)
        };
        let mut moves = Moves::default();
        for (file, key) in files.iter().zip(keys) {
            if is_own(file) {
                self.own_file(file, key, &mut moves)?;
                continue;
            }
            let is_awaited = moving.as_ref().is_some_and(|moving| moving.is_named(key));
            let is_named = (file.moved_to.is_none() && is_awaited)
                || self.reader.is_still_named(batch.id, key, file.moved_to.as_ref())?;
            if !is_named && !self.is_in_archive(file) {
                self.file(file, key, &mut moves)?;
            }
        }
        drop(moving);
        for folder in moves.touched {
            durable::sync_dir(&folder).map_err(ArchiveError::Io)?;
            killpoint::after("move", "sync");
        }
        if self.moved.len() >= AT_ONCE {
            self.queue.files_moved(self.batch.id, std::mem::take(&mut self.moved))?;
        }
        Ok(())
    }

    /// Whether an earlier try, or another entry, has moved a file where it is to go.
    fn is_in_archive(&self, file: &NamedFile) -> bool {
        let place = file.moved_to.as_ref().map(|place| Path::new(&place.root).join(&place.path));
        self.archive.is_some_and(|archive| place.is_some_and(|place| place.starts_with(archive)))
    }

    /// Archives or removes a file of the work folder, whatever it is by now.
    fn own_file(&mut self, file: &NamedFile, key: i64, moves: &mut Moves) -> Result<(), ClosingError> {
        let Some(work) = &self.batch.work else { return Ok(()) };
        if self.put_away.contains(&key) {
            return Ok(());
        }
        let own_path = join(&self.batch.policy.image_folder, &file.path);
        let to = self.dispose_of_own(work, &own_path, moves)?;
        let to = to.or_else(|| self.archive.and_then(|archive| self.gone_to(archive, &own_path, file)));
        self.moved.extend(to.and_then(|to| self.moved(file, key, &to)));
        if self.put_away.len() >= KNOWN {
            self.put_away.clear();
        }
        self.put_away.insert(key);
        Ok(())
    }

    fn dispose_of_own(
        &mut self,
        work: &FileLocation,
        path: &str,
        moves: &mut Moves,
    ) -> Result<Option<PathBuf>, ClosingError> {
        let (archive, home) = (self.archive, self.home);
        let root = self.root(Path::new(&work.root))?;
        dispose((root, home), &join(&work.path, path), None, archive, path, moves)
    }

    /// Fails where the work folder is gone as a whole: its files are somewhere else, and may come back.
    fn work_folder_is_there(&mut self) -> Result<(), ClosingError> {
        let Some(work) = &self.batch.work else { return Ok(()) };
        let path = Path::new(&work.root).join(&work.path);
        let root = self.root(Path::new(&work.root))?;
        let found = root.open_parent(&join(&work.path, "x"));
        match found {
            Ok(_) => Ok(()),
            Err(Refusal::Missing) => Err(ClosingError::WorkFolder(path)),
            Err(refusal) => Err(ClosingError::Folder { path, source: io::Error::other(refusal) }),
        }
    }

    /// Archives what else is in the work folder: what no entry names, as of a manifest that was rejected.
    fn rest(&mut self) -> Result<(), ClosingError> {
        let Some(work) = &self.batch.work else { return Ok(()) };
        let failed = self.batch.policy.failed_dir.as_ref().map(|folder| folder.join(self.batch.finished_at.date()));
        let Some(archive) = self.archive.or(failed.as_deref()) else { return Ok(()) };
        let home = self.home;
        let root = self.root(Path::new(&work.root))?;
        let mut moves = Moves::default();
        for path in files_below(root, &work.path).map_err(ArchiveError::Io)? {
            dispose((root, home), &join(&work.path, &path), None, Some(archive), &path, &mut moves)?;
        }
        sync_all(moves)
    }

    /// Removes the work folder, which is empty; what somebody put into it stays.
    fn remove_work_folder(&mut self) {
        let Some(work) = &self.batch.work else { return };
        let removed = self
            .root(Path::new(&work.root))
            .and_then(|root| remove_empty_folders(root, &work.path).map_err(|error| ArchiveError::Io(error).into()));
        if !matches!(removed, Ok(true)) {
            tracing::warn!(batch = self.batch.id, reason = ?removed.err(), "its folder in work_dir cannot be removed");
        }
    }

    fn file(&mut self, file: &NamedFile, key: i64, moves: &mut Moves) -> Result<(), ClosingError> {
        let (batch, seed, archive, home) = (self.batch, self.queue.seed(), self.archive, self.home);
        let own_path = join(&batch.policy.image_folder, &file.path);
        let (folder, path) = match &file.moved_to {
            Some(place) => (Path::new(&place.root), place.path.as_str()),
            None => (batch.policy.image_root.as_path(), own_path.as_str()),
        };
        let root = self.root(folder)?;
        let expected = match &file.checked {
            Some(checked) => match as_checked(root, path, checked, seed)? {
                Still::There(identity) => Some(identity),
                Still::Other => return Ok(()),
                Still::Gone => {
                    let found = archive.and_then(|archive| self.gone_to(archive, &own_path, file));
                    self.moved.extend(found.and_then(|to| self.moved(file, key, &to)));
                    return Ok(());
                }
            },
            None => None,
        };
        if let Some(to) = dispose((root, home), path, expected.as_ref(), archive, &own_path, moves)? {
            self.moved.extend(self.moved(file, key, &to));
        }
        Ok(())
    }

    /// Where an earlier try, cut short by a crash, put a file that is no longer in its place.
    fn gone_to(&self, archive: &Path, own_path: &str, file: &NamedFile) -> Option<PathBuf> {
        let checked = file.checked.as_ref()?;
        let place = self.batch.place_of(&archive.join(own_path))?;
        let root = Root::open(Path::new(&place.root)).ok()?;
        let (parent, name) = relative_path::split(&place.path);
        for number in 0..1000 {
            let path = join(parent, &durable::numbered(name, number));
            match as_checked(&root, &path, checked, self.queue.seed()) {
                Ok(Still::There(_)) => return Some(Path::new(&place.root).join(path)),
                Ok(Still::Other) => {}
                Ok(Still::Gone) | Err(_) => return None,
            }
        }
        None
    }

    fn moved(&self, file: &NamedFile, key: i64, to: &Path) -> Option<MovedFile> {
        let checked = file.checked.as_ref()?;
        let to = self.batch.place_of(to)?;
        Some(MovedFile { key, bytes: checked.bytes, checksum: checked.checksum, from: file.moved_to.clone(), to })
    }

    /// Archives the done marker. Before the manifest: a marker that stayed would speak for the next one of this name.
    fn marker(&mut self) -> Result<(), ClosingError> {
        let (batch, archive) = (self.batch, self.archive);
        let Some(marker) = &batch.policy.marker else { return Ok(()) };
        let path = format!("{}{marker}", batch.manifest);
        let mut moves = Moves::default();
        if let Some(work) = &batch.work {
            self.dispose_of_own(work, &path, &mut moves)?;
            return sync_all(moves);
        }
        let home = self.home;
        let root = self.root(&batch.policy.root)?;
        if is_for_the_next(root, &batch.manifest, file_identity::read(&batch.manifest_file).as_ref(), &path) {
            return Ok(());
        }
        dispose((root, home), &path, None, archive, &path, &mut moves)?;
        sync_all(moves)
    }

    /// Archives the manifest, if it is still the one that was admitted; returns where it is now.
    fn manifest(&mut self) -> Result<Option<FileLocation>, ClosingError> {
        let (batch, archive, home) = (self.batch, self.archive, self.home);
        let is_in_work = batch.moved_to.is_none() && batch.work.is_some();
        let expected = file_identity::read(&batch.manifest_file).filter(|_| !is_in_work);
        let (folder, path) = manifest_place(batch);
        let path = path.as_str();
        let root = self.root(&folder)?;
        let Some(archive) = archive else {
            killpoint::before("remove", "manifest");
            archive::remove(root, path, expected.as_ref())?;
            killpoint::after("remove", "manifest");
            return Ok(None);
        };
        killpoint::before("move", "manifest");
        let moved = archive::put(root, path, expected.as_ref(), home, archive, &batch.manifest)?;
        killpoint::after("move", "manifest");
        Ok(match moved {
            Archived::Moved { to } => batch.place_of(&to),
            // A crash came between the moving and its record; the name that it was to get is nearly always the one.
            Archived::Missing => batch.place_of(&archive.join(&batch.manifest)),
            Archived::Replaced => batch.moved_to.clone(),
        })
    }
}

/// What is moved before the folders are synced.
#[derive(Default)]
struct Moves {
    touched: BTreeSet<PathBuf>,
    target: LastTarget,
}

fn sync_all(moves: Moves) -> Result<(), ClosingError> {
    moves.touched.iter().try_for_each(|folder| Ok(durable::sync_dir(folder).map_err(ArchiveError::Io)?))
}

/// Whether a marker was set for another manifest that took the settled one's place: one that came after it.
fn is_for_the_next(root: &Root, manifest: &str, settled: Option<&FileIdentity>, marker: &str) -> bool {
    let (Ok(manifest), Ok(marker)) = (root.open_file(manifest), root.open_file(marker)) else { return false };
    let is_another = settled.is_some_and(|settled| !root.is_as_it_was(settled, &manifest.identity));
    is_another && marker.identity.ctime_ns >= manifest.identity.ctime_ns
}

/// What is under a file's name now.
pub(super) enum Still {
    /// The file that was checked.
    There(FileIdentity),
    /// Another one, or something that may not be touched. It was not sent yet, and stays for the manifest that names
    /// it.
    Other,
    /// Nothing.
    Gone,
}

/// Checks whether a file is the one that was checked at admission.
///
/// Where its identity is that of the check, its last change was well before, and it is not read again: only the kernel
/// sets the change time. A write through a memory mapping that was made before may go unnoticed; the file is its
/// sender's own, and its content was compared with the checksum while it was sent.
pub(super) fn as_checked(root: &Root, path: &str, checked: &Fingerprint, seed: u64) -> Result<Still, ClosingError> {
    let mut opened = match root.open_file(path) {
        Ok(opened) if opened.identity.bytes == checked.bytes => opened,
        Ok(_) | Err(Refusal::Unsafe(_)) => return Ok(Still::Other),
        Err(Refusal::Missing) => return Ok(Still::Gone),
        Err(Refusal::Io(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
            tracing::warn!(path, "left where it is: it may not be read any more");
            return Ok(Still::Other);
        }
        Err(Refusal::Io(error)) => return Err(ArchiveError::Io(error).into()),
    };
    if checked.seen.as_deref() == Some(opened.identity.in_full().as_str()) {
        return Ok(Still::There(opened.identity));
    }
    let mut hash = Checksum(xxhash_rust::xxh3::Xxh3::with_seed(seed));
    let copied = io::copy(&mut opened.file, &mut hash).map_err(ArchiveError::Io)?;
    if copied != checked.bytes {
        // Neither the file nor another one: less could be read than it has.
        let reason = format!("'{path}' ends after {copied} of {} bytes", checked.bytes);
        return Err(ArchiveError::Io(io::Error::new(io::ErrorKind::UnexpectedEof, reason)).into());
    }
    Ok(if hash.0.digest() == checked.checksum { Still::There(opened.identity) } else { Still::Other })
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

/// Moves or removes one file that a manifest named; returns where it is now, if it was moved.
///
/// What may not be touched, a link or a pipe that somebody put under the name, stays: its entry has been refused for it,
/// and it must not keep the others from being settled.
fn dispose(
    (root, home): (&Root, &Root),
    path: &str,
    expected: Option<&FileIdentity>,
    archive: Option<&Path>,
    target: &str,
    moves: &mut Moves,
) -> Result<Option<PathBuf>, ClosingError> {
    let step = if archive.is_some() { "move" } else { "remove" };
    killpoint::before(step, "file");
    let moved = match archive {
        None => archive::remove(root, path, expected).map(|_| None),
        Some(archive) => {
            archive::put_unsynced(root, path, expected, home, &mut moves.target, archive, target).map(Some)
        }
    };
    killpoint::after(step, "file");
    match moved {
        Ok(Some(Archived::Moved { to })) => {
            moves.touched.extend(to.parent().map(Path::to_owned));
            moves.touched.insert(root.path().join(relative_path::parent(path)));
            Ok(Some(to))
        }
        Ok(_) => Ok(None),
        Err(ArchiveError::Unsafe { path, reason }) => {
            tracing::warn!(path, reason, "left where it is");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}
