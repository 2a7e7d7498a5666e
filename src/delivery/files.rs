//! The files of jobs: opened as they were checked, and checked again where one has changed since.
//!
//! A file that is not the one that was checked is never sent to its end. Once it no longer changes it is checked again,
//! by the same rules as at first, and its job continues with the new content; what its manifest declares of it still
//! holds.
//!
//! Two observations show that it no longer changes, so that no clock but the monotonic one matters.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{sync::Semaphore, time::timeout};

use super::roots::Roots;
use crate::{
    api::UploadSource,
    entry::{EntryKind, RelativePath, Source},
    file_identity::FileIdentity,
    inbox::{
        beneath::{OpenedFile, Refusal},
        examine::{Examining, Purpose, examine},
        file_type::FileType,
        lease::{self, LeaseState},
    },
    job::{Job, Upload},
    problem::Problem,
    queue::admission::CheckedFile,
    relative_path::join,
};

pub(super) const CHANGED: &str = "the file is not the one that was checked when its manifest was taken in";

/// A file that was replaced must be unchanged for at least this, however short the drop's `settle` is: long enough for a
/// sender that pauses.
const LEAST: Duration = Duration::from_secs(5);

/// Files that are checked again at the same time; each takes a thread for as long as its folder does not answer.
const AT_ONCE: usize = 4;

/// A folder in which reading a file takes longer does not answer. The largest image takes a slow share a minute.
const READ_WITHIN: Duration = Duration::from_secs(180);

/// Observations that are remembered; those of jobs that have ended since are forgotten first.
const MOST_LOOKS: usize = 10_000;

/// What a file that has changed turned out to be.
#[derive(Debug)]
pub(super) enum Recheck {
    /// It no longer changes and is good: this is what it is now.
    Good(CheckedFile),
    /// Its sender is not done with it, or it cannot be read now.
    NotYet(Problem),
    /// Somebody has it open for writing.
    BeingWritten,
    /// It no longer changes, and is not what its manifest asks for.
    Bad(Problem),
}

/// Where files are opened, and by which rules they are checked.
pub(super) struct Files {
    roots: Arc<Roots>,
    seed: u64,
    max_image_bytes: u64,
    checking: Arc<Semaphore>,
    /// What files that had changed were when they were first seen so, and when that was.
    looks: Mutex<HashMap<(i64, u32), (FileState, Instant)>>,
}

/// What shows that a file has not changed between two observations. Not its inode number, which some file systems
/// assign again.
type FileState = (u64, i64, i64);

fn state_of(identity: &FileIdentity) -> FileState {
    (identity.bytes, identity.mtime_ns, identity.ctime_ns)
}

impl Files {
    /// With the seed of the queue's checksums, and the largest size.
    pub(super) fn new(seed: u64, max_image_bytes: u64) -> Self {
        Self {
            roots: Arc::default(),
            seed,
            max_image_bytes,
            checking: Arc::new(Semaphore::new(AT_ONCE)),
            looks: Mutex::default(),
        }
    }

    /// Opens an image below its folder.
    ///
    /// # Errors
    ///
    /// [`Refusal`]; one that shows already that it has changed is refused as [`CHANGED`].
    pub(super) async fn open(&self, job: &Job, upload: &Upload) -> Result<UploadSource, Refusal> {
        let (root, path) = place_of(job, upload);
        let opened = self.roots.open(&root, &path).await?;
        if opened.identity.bytes != upload.bytes {
            return Err(Refusal::Unsafe(CHANGED));
        }
        Ok(UploadSource {
            file: opened.file,
            bytes: upload.bytes,
            checksum: upload.checksum,
            before_last: None,
            seed: self.seed,
            media_type: FileType::promised_by(&upload.path).map_or("application/octet-stream", FileType::media_type),
        })
    }

    /// Checks a file that has changed, at this moment.
    pub(super) async fn recheck(&self, job: &Job, upload: &Upload, now: Instant) -> Recheck {
        let (root, path) = place_of(job, upload);
        let opened = match self.roots.open(&root, &path).await {
            Ok(opened) => opened,
            Err(refusal @ Refusal::Unsafe(_)) => return Recheck::Bad(refusal.problem(&upload.path)),
            Err(refusal) => return Recheck::NotYet(refusal.problem(&upload.path)),
        };
        if !self.is_unchanged(job, upload, &opened.identity, now) {
            return Recheck::NotYet(written_again(&upload.path));
        }
        let Ok(path) = RelativePath::parse(&upload.path) else {
            return Recheck::Bad(
                Problem::error("the path is none", "drop the manifest again").path(upload.path.as_str()),
            );
        };
        let source = Source {
            path,
            declared_bytes: upload.declared.bytes.then_some(upload.bytes),
            declared_sha256: upload.declared.sha256.then_some(upload.sha256),
        };
        let purpose = match job.kind {
            EntryKind::Document => Purpose::Image,
            EntryKind::File => Purpose::File,
        };
        let away = || {
            Recheck::NotYet(
                Problem::error("its folder does not answer", "look at the folder's disk or mount")
                    .path(upload.path.as_str()),
            )
        };
        let Ok(Ok(turn)) = timeout(READ_WITHIN, Arc::clone(&self.checking).acquire_owned()).await else {
            return away();
        };
        let (max_bytes, seed, was) = (self.max_image_bytes, self.seed, upload.bytes);
        let checking = tokio::task::spawn_blocking(move || {
            // Given back when the folder answers, even if nobody waits for that any more.
            let _turn = turn;
            check(opened, &source, purpose, max_bytes, seed, was)
        });
        let Ok(Ok(anew)) = timeout(READ_WITHIN, checking).await else { return away() };
        if matches!(anew, Recheck::Good(_) | Recheck::Bad(_)) {
            self.looks.lock().unwrap_or_else(PoisonError::into_inner).remove(&(job.id, upload.position));
        }
        anew
    }

    /// Whether a file has been the same for as long as it must be.
    fn is_unchanged(&self, job: &Job, upload: &Upload, identity: &FileIdentity, now: Instant) -> bool {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        if looks.len() >= MOST_LOOKS {
            let oldest = now.checked_sub(job.file_patience.min(Duration::from_secs(86_400)));
            looks.retain(|_, (_, since)| oldest.is_none_or(|oldest| *since > oldest));
        }
        let look = looks.entry((job.id, upload.position)).or_insert((state_of(identity), now));
        if look.0 != state_of(identity) {
            *look = (state_of(identity), now);
        }
        now.saturating_duration_since(look.1) >= job.settle.max(LEAST)
    }
}

fn written_again(path: &str) -> Problem {
    Problem::error(
        "the file is being written again, or was replaced just now",
        "wait until it no longer changes; it is then checked and sent",
    )
    .path(path)
}

/// What a file is that no longer changes and had `was` bytes before.
fn check(mut opened: OpenedFile, source: &Source, purpose: Purpose, max_bytes: u64, seed: u64, was: u64) -> Recheck {
    let path = source.path.as_str();
    let examined = examine(&mut opened, source, purpose, max_bytes, seed, &mut Vec::new());
    if lease::ask(&opened.file) == LeaseState::Writer {
        return Recheck::BeingWritten;
    }
    match examined {
        Ok((examined, _)) => match examined.truncated {
            Some(why) => Recheck::NotYet(
                Problem::error(format!("truncated: {why}"), "send the file again in full; it may still be under way")
                    .path(path),
            ),
            None => Recheck::Good(CheckedFile {
                bytes: examined.bytes,
                sha256: examined.sha256,
                checksum: examined.checksum,
                seen: Some(examined.identity),
            }),
        },
        Err(Examining::Bad(problems)) => first(problems, path, Recheck::Bad),
        // One that contradicts what is declared of it is another file, unless the rest of it may still arrive.
        Err(Examining::Held(problems)) => {
            let shorter = opened.identity.bytes < was;
            first(problems, path, |problem| match problem.field {
                Some(_) if !shorter => Recheck::Bad(problem),
                _ => Recheck::NotYet(problem),
            })
        }
        Err(Examining::Changed) => Recheck::NotYet(written_again(path)),
        Err(Examining::Io(error)) => Recheck::NotYet(
            Problem::error(format!("the file cannot be read: {error}"), "look at the folder's disk or mount")
                .path(path),
        ),
    }
}

fn first(problems: Vec<Problem>, path: &str, say: impl FnOnce(Problem) -> Recheck) -> Recheck {
    let error = problems.into_iter().find(Problem::is_error);
    error.map_or_else(|| Recheck::NotYet(written_again(path)), say)
}

/// The folder that a file is in, and its path there.
fn place_of(job: &Job, upload: &Upload) -> (PathBuf, String) {
    match &upload.moved_to {
        Some(place) => (PathBuf::from(&place.root), place.path.clone()),
        None => (PathBuf::from(&job.image_root), join(&job.image_folder, &upload.path)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        entry::{ProfileId, Sha256},
        job::{Creation, Declared},
    };

    const PDF: &[u8] = b"%PDF-1.4\n1 0 obj\ntrailer<</Root 1 0 R>>\n%%EOF\n";

    fn job(root: &std::path::Path, settle: u64, declared: Declared, was: &[u8]) -> Job {
        let upload = Upload {
            position: 0,
            path: "a.pdf".into(),
            image_type: None,
            bytes: was.len() as u64,
            sha256: digest(was),
            checksum: 0,
            declared,
            remote_id: None,
            lost: 0,
            moved_to: None,
        };
        Job {
            id: 1,
            batch_id: 1,
            drop_id: 1,
            kind: EntryKind::File,
            profile_id: ProfileId::parse("a2c4393a-e219-67a4-5ab4-2186952e9038").unwrap(),
            category: String::new(),
            document_type: String::new(),
            extracted_data: None,
            name: None,
            uploads: vec![upload],
            image_root: root.to_string_lossy().into_owned(),
            image_folder: String::new(),
            file_patience: Duration::from_secs(3600),
            settle: Duration::from_secs(settle),
            clock_ms: 0,
            creation: Creation::None,
            sent_at: None,
            loss_answered: false,
            attempts: 0,
            tried_ms: 0,
            file_ms: 0,
        }
    }

    fn digest(bytes: &[u8]) -> Sha256 {
        use sha2::Digest;
        Sha256(sha2::Sha256::digest(bytes).into())
    }

    #[tokio::test]
    async fn a_file_must_be_the_same_at_two_looks_as_far_apart_as_its_drop_says() {
        let place = tempfile::tempdir().unwrap();
        let job = job(place.path(), 60, Declared::default(), b"what it was");
        let files = Files::new(7, 1 << 20);
        let began = Instant::now();
        let look = async |seconds| files.recheck(&job, &job.uploads[0], began + Duration::from_secs(seconds)).await;
        let path = place.path().join("a.pdf");
        fs::write(&path, &PDF[..20]).unwrap();
        assert!(matches!(look(0).await, Recheck::NotYet(_)));
        assert!(matches!(look(59).await, Recheck::NotYet(_)));
        // Its sender continues, and the quiet period starts again.
        fs::write(&path, PDF).unwrap();
        assert!(matches!(look(61).await, Recheck::NotYet(_)));
        assert!(matches!(look(120).await, Recheck::NotYet(_)));
        let Recheck::Good(file) = look(121).await else { panic!("it has lain still for a minute") };
        assert_eq!((file.bytes, file.sha256), (PDF.len() as u64, digest(PDF)));
        // The next time is another one.
        assert!(matches!(look(122).await, Recheck::NotYet(_)));
    }

    #[tokio::test]
    async fn a_replaced_file_must_be_unchanged_for_seconds_however_short_the_drops_settle_time_is() {
        let place = tempfile::tempdir().unwrap();
        let job = job(place.path(), 0, Declared::default(), b"what it was");
        let files = Files::new(7, 1 << 20);
        fs::write(place.path().join("a.pdf"), PDF).unwrap();
        let began = Instant::now();
        for (after, good) in [(0, false), (4, false), (5, true)] {
            let anew = files.recheck(&job, &job.uploads[0], began + Duration::from_secs(after)).await;
            assert_eq!(matches!(anew, Recheck::Good(_)), good, "{anew:?} after {after} s");
        }
    }

    #[tokio::test]
    async fn what_is_declared_still_holds_and_what_is_shorter_may_be_under_way() {
        let place = tempfile::tempdir().unwrap();
        let declared = Declared { sha256: true, bytes: false };
        let job = job(place.path(), 0, declared, PDF);
        let path = place.path().join("a.pdf");
        let began = Instant::now();
        let end = async |content: &[u8]| {
            let files = Files::new(7, 1 << 20);
            fs::write(&path, content).unwrap();
            files.recheck(&job, &job.uploads[0], began).await;
            files.recheck(&job, &job.uploads[0], began + Duration::from_secs(60)).await
        };
        assert!(matches!(end(PDF).await, Recheck::Good(_)), "it was only written again");
        let other = [PDF, b"% another\n%%EOF\n"].concat();
        let Recheck::Bad(problem) = end(&other).await else { panic!("it is another file") };
        assert!(problem.reason.contains("declared"), "{problem:?}");
        let Recheck::NotYet(problem) = end(&PDF[..30]).await else { panic!("the rest may come") };
        assert!(problem.cure.contains("send the file again"), "{problem:?}");
    }

    #[tokio::test]
    async fn a_file_that_somebody_writes_is_waited_for() {
        let place = tempfile::tempdir().unwrap();
        let job = job(place.path(), 0, Declared::default(), b"what it was");
        let files = Files::new(7, 1 << 20);
        let path = place.path().join("a.pdf");
        fs::write(&path, PDF).unwrap();
        let writer = fs::File::options().append(true).open(&path).unwrap();
        let began = Instant::now();
        files.recheck(&job, &job.uploads[0], began).await;
        let anew = files.recheck(&job, &job.uploads[0], began + Duration::from_secs(60)).await;
        assert!(matches!(anew, Recheck::BeingWritten), "{anew:?}");
        drop(writer);
    }
}
