//! Takes a manifest with its files: moves them from the drop into the work folder, before any of its entries is admitted.
//!
//! What is to be moved is recorded first. Either all of it is moved, or all of it is put back; where a name in the drop is
//! in use again by then, the manifest is rejected, and its files go to the failed folder. A crash is finished or undone at
//! the next start, see [`Taker::resume`].

use std::{cell::RefCell, io, path::Path};

use crate::{
    config::DropConfig,
    file_identity::FileIdentity,
    inbox::{
        beneath::Root,
        take::{FileMover, FileToMove, NotTaken, PutBack, Side, make_work_folder, remove_empty_folders},
    },
    intake::{
        examine::{ExaminedEntry, OpenedManifest},
        lists::ListReader,
    },
    job::FileLocation,
    killpoint,
    problem::Problem,
    queue::{
        Queue, QueueError, Reader,
        admission::Admission,
        taking::{TakenFile, Taking, TakingState},
    },
    relative_path::{self, join, path_key},
};

/// The code of a manifest whose files changed while they were moved.
pub(super) const CHANGED_MEANWHILE: &str = "changed-while-taken";

/// Files that are recorded at once.
const AT_ONCE: usize = 1024;

/// Why a manifest was not taken.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The process is about to end; the next start goes on.
    #[error("stopped")]
    Stopped,
    /// Something refuses to be moved; everything is in the drop again.
    #[error("{}", .0.reason)]
    Refused(Problem),
    /// The same, but a name in the drop is in use again: what was moved stays in the work folder, and the manifest is
    /// rejected.
    #[error("{}", .0.reason)]
    Displaced(Problem),
    /// It can neither be taken nor put back now.
    #[error("{0}")]
    Stuck(io::Error),
}

/// Takes manifests of one drop.
pub struct Taker<'a> {
    pub queue: &'a Queue,
    pub reader: &'a Reader,
    pub config: &'a DropConfig,
    /// The drop's folder.
    pub root: &'a Root,
    pub stopped: &'a dyn Fn() -> bool,
    /// By which the partner's own lists are read.
    pub lists: Option<&'a RefCell<ListReader>>,
}

/// The files of a taking: in memory where they are few, else in the queue.
pub enum TakingFiles {
    Kept(Vec<TakenFile>),
    Recorded,
}

impl Taker<'_> {
    /// Lists what is to be moved of a manifest.
    pub fn list(&self, manifest: &str, opened: &OpenedManifest) -> FileList<'_> {
        let work_dir = self.config.work_folder();
        let work = work_location(&self.config.path, &work_dir);
        let marker = self.config.done_marker.as_ref().map(|marker| format!("{manifest}{marker}"));
        let marker = marker.and_then(|path| {
            let identity = self.root.open_file(&path).ok()?.identity;
            Some(TakenFile { path, identity, checksum: None, copied: false })
        });
        let taking = Taking {
            batch_id: 0,
            drop: self.config.name.clone(),
            manifest: TakenFile { path: manifest.to_owned(), identity: opened.identity, checksum: None, copied: false },
            manifest_sha256: opened.sha256,
            marker,
            root: self.config.path.to_string_lossy().into_owned(),
            work,
            problems: None,
            state: TakingState::Planned,
        };
        FileList { taker: self, taking, is_begun: false, files: Vec::new(), shares: None }
    }

    /// Moves everything into the work folder, or nothing.
    ///
    /// # Errors
    ///
    /// [`TakeError`].
    pub fn take(&self, taking: &Taking, files: &TakingFiles) -> Result<(), TakeError> {
        let name = relative_path::name(&taking.work.path);
        if let Err(error) = make_work_folder(self.root, &self.config.work_folder(), name) {
            // Nothing was moved, and whatever has the folder's name is not ours.
            self.queue.taking_undone(taking.batch_id)?;
            return Err(TakeError::Refused(problem("", &error.into())));
        }
        let moved = self.move_all(taking, files, false);
        self.conclude(taking, files, moved)
    }

    /// Finishes or undoes a taking that an earlier process left, or that could not be undone then.
    ///
    /// # Errors
    ///
    /// [`TakeError`]; without one, all of it is in the work folder, and its entries are to be admitted.
    pub fn resume(&self, taking: &Taking) -> Result<(), TakeError> {
        let files = TakingFiles::Recorded;
        let is_elsewhere = Path::new(&taking.root) != self.config.path;
        match taking.state {
            TakingState::Taken => Ok(()),
            TakingState::Moving if !is_elsewhere => {
                let moved = self.move_all(taking, &files, true);
                self.conclude(taking, &files, moved)
            }
            TakingState::Planned | TakingState::Moving | TakingState::Undoing => self.undo(taking),
        }
    }

    /// Puts back what an earlier process half took.
    ///
    /// # Errors
    ///
    /// [`TakeError`], always: that of a manifest that is not taken.
    pub fn undo(&self, taking: &Taking) -> Result<(), TakeError> {
        let why = Problem::error("its taking was interrupted", "it is tried again by itself");
        if taking.state == TakingState::Planned {
            self.queue.taking_undone(taking.batch_id)?;
            return Err(TakeError::Refused(why.path(&taking.manifest.path)));
        }
        self.put_back(taking, &TakingFiles::Recorded, why)
    }

    fn conclude(&self, taking: &Taking, files: &TakingFiles, moved: Result<(), NotMoved>) -> Result<(), TakeError> {
        match moved {
            Ok(()) => Ok(()),
            Err(NotMoved::Queue(error)) => Err(error.into()),
            Err(NotMoved::Stopped) => Err(TakeError::Stopped),
            Err(NotMoved::File { path, why }) => {
                let problem = problem(&path, &why);
                self.queue.taking_is(taking.batch_id, TakingState::Undoing)?;
                self.put_back(taking, files, problem)
            }
        }
    }

    fn move_all(&self, taking: &Taking, files: &TakingFiles, again: bool) -> Result<(), NotMoved> {
        let work_root = self.work_root(taking).map_err(NotMoved::of_folder)?;
        let work_root = work_root.as_ref().unwrap_or(self.root);
        let mut mover = FileMover::new(self.root, (work_root, &taking.work.path), self.queue.seed())
            .map_err(NotMoved::of_folder)?;
        let folder = |mover: &mut FileMover<'_>, path: &str| mover.make_folder(path).map_err(NotMoved::of_folder);
        self.each(taking, files, &mut |file| folder(&mut mover, &file.path))?;
        folder(&mut mover, &taking.manifest.path)?;
        mover.sync_rest(Side::Work).map_err(NotMoved::of_folder)?;
        let take = |mover: &mut FileMover<'_>, file: &TakenFile| {
            if (self.stopped)() {
                return Err(NotMoved::Stopped);
            }
            mover.take(to_move(file), again).map_err(|why| NotMoved::of(file, why))
        };
        self.each(taking, files, &mut |file| take(&mut mover, file))?;
        if let Some(marker) = &taking.marker {
            take(&mut mover, marker)?;
        }
        // The last of all: a sender who sees it gone uses the names of its files again.
        take(&mut mover, &taking.manifest)?;
        for side in [Side::Work, Side::Drop] {
            self.sync(&mut mover, taking, files, side).map_err(NotMoved::of_sync)?;
            killpoint::after("take", "sync");
        }
        Ok(())
    }

    /// Syncs the folders of one side.
    fn sync(
        &self,
        mover: &mut FileMover<'_>,
        taking: &Taking,
        files: &TakingFiles,
        side: Side,
    ) -> Result<(), SyncError> {
        self.each(taking, files, &mut |file| Ok::<_, SyncError>(mover.sync(side, &file.path)?))?;
        mover.sync(side, &taking.manifest.path)?;
        Ok(mover.sync_rest(side)?)
    }

    /// Puts everything back; returns why it was not taken.
    fn put_back(&self, taking: &Taking, files: &TakingFiles, why: Problem) -> Result<(), TakeError> {
        match self.move_back(taking, files) {
            Ok(None) => {
                self.queue.taking_undone(taking.batch_id)?;
                Err(TakeError::Refused(why))
            }
            Ok(Some(displaced)) => {
                let reason = format!(
                    "it could not be taken in ({}), nor put back, since {displaced} is in use again in the drop",
                    in_words(&why)
                );
                let cure = "drop it again with its files, each under a name of its own";
                Err(TakeError::Displaced(Problem::error(reason, cure).code("name-in-use")))
            }
            Err(SyncError::Queue(error)) => Err(error.into()),
            Err(SyncError::Io(error)) => Err(TakeError::Stuck(error)),
        }
    }

    /// Puts everything back, or returns the name that is in use again.
    fn move_back(&self, taking: &Taking, files: &TakingFiles) -> Result<Option<String>, SyncError> {
        let work_root = self.work_root(taking)?;
        let other = (Path::new(&taking.root) != self.config.path).then(|| Root::open(Path::new(&taking.root)));
        let other = other.transpose()?;
        let drop = other.as_ref().unwrap_or(self.root);
        let work_root = work_root.as_ref().unwrap_or(drop);
        let mut mover = match FileMover::new(drop, (work_root, &taking.work.path), self.queue.seed()) {
            Ok(mover) => mover,
            // It was never made, so nothing was moved.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut displaced = None;
        let mut examine = |mover: &mut FileMover<'_>, file: &TakenFile| {
            if file.copied {
                mover.forget_draft(&file.path)?;
            }
            if displaced.is_none() && mover.is_displaced(to_move(file))? {
                displaced = Some(file.path.clone());
            }
            Ok::<_, SyncError>(())
        };
        self.each(taking, files, &mut |file| examine(&mut mover, file))?;
        let first = taking.marker.iter().chain([&taking.manifest]);
        first.clone().try_for_each(|file| examine(&mut mover, file))?;
        if displaced.is_some() {
            self.take_manifest_along(&mut mover, taking, files)?;
            return Ok(displaced);
        }
        let mut back = |mover: &mut FileMover<'_>, file: &TakenFile| {
            if displaced.is_none() && mover.put_back(to_move(file))? == PutBack::NameInUse {
                displaced = Some(file.path.clone());
            }
            Ok::<_, SyncError>(())
        };
        self.each(taking, files, &mut |file| back(&mut mover, file))?;
        first.clone().try_for_each(|file| back(&mut mover, file))?;
        for side in [Side::Drop, Side::Work] {
            self.sync(&mut mover, taking, files, side)?;
        }
        if displaced.is_none() {
            remove_empty_folders(work_root, &taking.work.path)?;
        } else {
            self.take_manifest_along(&mut mover, taking, files)?;
        }
        Ok(displaced)
    }

    /// Moves the manifest and its marker to what was taken of it, which cannot be put back. Another one in their place is
    /// left there.
    fn take_manifest_along(
        &self,
        mover: &mut FileMover<'_>,
        taking: &Taking,
        files: &TakingFiles,
    ) -> Result<(), SyncError> {
        for file in taking.marker.iter().chain([&taking.manifest]) {
            match mover.take(to_move(file), true) {
                Ok(()) | Err(NotTaken::Missing | NotTaken::Changed) => {}
                Err(NotTaken::Io(error)) => return Err(error.into()),
            }
        }
        [Side::Work, Side::Drop].into_iter().try_for_each(|side| self.sync(mover, taking, files, side))
    }

    /// The folder that the work folder's path starts from, where that is not the drop.
    fn work_root(&self, taking: &Taking) -> io::Result<Option<Root>> {
        if Path::new(&taking.work.root) == self.config.path {
            return Ok(None);
        }
        Root::open(Path::new(&taking.work.root)).map(Some)
    }

    fn each<E: From<QueueError>>(
        &self,
        taking: &Taking,
        files: &TakingFiles,
        call: &mut dyn FnMut(&TakenFile) -> Result<(), E>,
    ) -> Result<(), E> {
        if let TakingFiles::Kept(files) = files {
            return files.iter().try_for_each(call);
        }
        let mut after = String::new();
        loop {
            let some = self.reader.taking_files(taking.batch_id, &after, u32::try_from(AT_ONCE).unwrap_or(u32::MAX))?;
            let Some(last) = some.last() else { return Ok(()) };
            after.clone_from(&last.path);
            some.iter().try_for_each(&mut *call)?;
        }
    }
}

/// What is to be moved of a manifest, as it is found.
pub struct FileList<'a> {
    taker: &'a Taker<'a>,
    taking: Taking,
    is_begun: bool,
    files: Vec<TakenFile>,
    /// Whether any unsettled batch uses files in place.
    shares: Option<bool>,
}

impl FileList<'_> {
    /// Adds the files of an entry that are to go with it: all but those that are not there in full.
    ///
    /// # Errors
    ///
    /// Those of the queue.
    pub fn add(&mut self, found: &ExaminedEntry, folder: &str) -> Result<(), QueueError> {
        for file in found.files.iter().filter(|file| !file.incomplete) {
            self.push(file.path.clone(), file.identity, file.checksum)?;
        }
        if let (Admission::Invalid { paths, .. }, true) = (&found.admission, found.files.is_empty()) {
            for path in paths {
                let path = join(folder, path);
                if let Ok(opened) = self.taker.root.open_file(&path)
                    && !self.taker.config.is_manifest(&path)
                {
                    self.push(path, opened.identity, None)?;
                }
            }
        }
        Ok(())
    }

    fn push(&mut self, path: String, identity: FileIdentity, checksum: Option<u64>) -> Result<(), QueueError> {
        let is_own = path == self.taking.manifest.path
            || self.taking.marker.as_ref().is_some_and(|marker| marker.path == path)
            || self.files.last().is_some_and(|last| last.path == path)
            || self.taker.config.work_folder().starts_with(self.taker.config.path.join(&path));
        if is_own || self.taker.config.path.join(&path).starts_with(self.taker.config.work_folder()) {
            return Ok(());
        }
        let copied = self.is_shared(&path)?;
        self.files.push(TakenFile { path, identity, checksum, copied });
        if self.files.len() >= AT_ONCE {
            self.record()?;
        }
        Ok(())
    }

    /// Whether another manifest needs this file where it is.
    fn is_shared(&mut self, path: &str) -> Result<bool, QueueError> {
        let Taker { queue, reader, config, .. } = self.taker;
        let key = path_key(&config.path, "", path);
        if queue.awaited().is_shared(&config.name, &self.taking.manifest.path, key) {
            return Ok(true);
        }
        let shares = match self.shares {
            Some(shares) => shares,
            None => *self.shares.insert(reader.uses_files_in_place()?),
        };
        Ok(shares && reader.is_needed_in_place(key)?)
    }

    /// Records what was listed so far.
    fn record(&mut self) -> Result<(), QueueError> {
        let files = std::mem::take(&mut self.files);
        if self.is_begun {
            return self.taker.queue.add_to_taking(self.taking.batch_id, files);
        }
        self.taking = self.taker.queue.begin_taking(self.taking.clone(), files)?;
        self.is_begun = true;
        Ok(())
    }

    /// Forgets what was listed: the manifest is not taken now.
    ///
    /// # Errors
    ///
    /// Those of the queue.
    pub fn abandon(self) -> Result<(), QueueError> {
        if self.is_begun { self.taker.queue.taking_undone(self.taking.batch_id) } else { Ok(()) }
    }

    /// Records the intent to move all that was listed. `problems`: the manifest is refused as a whole, so that only it and
    /// its marker are moved, and its files stay for its correction.
    ///
    /// # Errors
    ///
    /// Those of the queue.
    pub fn finish(mut self, problems: Option<Vec<Problem>>) -> Result<(Taking, TakingFiles), QueueError> {
        if self.is_begun {
            self.record()?;
            if let Some(problems) = problems {
                self.taker.queue.refuse_taking(self.taking.batch_id, problems.clone())?;
                self.taking.problems = Some(problems);
            }
            self.taker.queue.taking_is(self.taking.batch_id, TakingState::Moving)?;
            self.taking.state = TakingState::Moving;
            return Ok((self.taking, TakingFiles::Recorded));
        }
        if problems.is_some() {
            self.files.clear();
        }
        self.files.sort_by(|one, other| one.path.cmp(&other.path));
        self.files.dedup_by(|one, other| one.path == other.path);
        self.taking.problems = problems;
        self.taking.state = TakingState::Moving;
        let taking = self.taker.queue.begin_taking(self.taking, self.files.clone())?;
        Ok((taking, TakingFiles::Kept(self.files)))
    }
}

/// Where the work folder is: beneath the drop, where links of partners are not followed, or a folder of its own.
pub(super) fn work_location(drop: &Path, work_dir: &Path) -> FileLocation {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    match work_dir.strip_prefix(drop) {
        Ok(below) => FileLocation { root: text(drop), path: text(below) },
        Err(_) => FileLocation { root: text(work_dir), path: String::new() },
    }
}

fn to_move(file: &TakenFile) -> FileToMove<'_> {
    FileToMove { path: &file.path, identity: &file.identity, checksum: file.checksum, copied: file.copied }
}

enum NotMoved {
    Queue(QueueError),
    Stopped,
    File { path: String, why: NotTaken },
}

impl NotMoved {
    fn of(file: &TakenFile, why: NotTaken) -> Self {
        Self::File { path: file.path.clone(), why }
    }

    fn of_folder(error: io::Error) -> Self {
        Self::File { path: String::new(), why: error.into() }
    }

    fn of_sync(error: SyncError) -> Self {
        match error {
            SyncError::Queue(error) => Self::Queue(error),
            SyncError::Io(error) => Self::of_folder(error),
        }
    }
}

impl From<QueueError> for NotMoved {
    fn from(error: QueueError) -> Self {
        Self::Queue(error)
    }
}

#[derive(Debug, thiserror::Error)]
enum SyncError {
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Why a manifest is not taken, for its drop's owner.
fn problem(path: &str, why: &NotTaken) -> Problem {
    let (reason, cure) = match why {
        NotTaken::Missing | NotTaken::Changed => (why.to_string(), "change no file after its manifest is there"),
        NotTaken::Io(error) => {
            let cure = match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    "let the service's user write to that folder: by a common group and umask 007, or by a default ACL"
                }
                io::ErrorKind::CrossesDevices => {
                    "put work_dir onto the drop's file system, in the same mount and the same ReadWritePaths entry"
                }
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room on the drop's file system",
                io::ErrorKind::ReadOnlyFilesystem => "make the drop writable for the service (ReadWritePaths, mount)",
                _ => "look at the drop's folder and mount",
            };
            (error.to_string(), cure)
        }
    };
    let problem = Problem::error(reason, cure);
    let problem = if matches!(why, NotTaken::Io(_)) { problem } else { problem.code(CHANGED_MEANWHILE) };
    if path.is_empty() { problem } else { problem.path(path) }
}

/// A problem with its path.
pub(super) fn in_words(problem: &Problem) -> String {
    match &problem.path {
        Some(path) => format!("{path}: {}", problem.reason),
        None => problem.reason.clone(),
    }
}
