//! The files of jobs: opened as they were checked, and checked anew where one has changed since.
//!
//! A file that is not the one that was checked is never sent to its end. Once it lies still it is checked again, by the
//! rules of the first time, and its job goes on with what it is now; what its manifest declares of it still holds.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::{join, roots::Roots};
use crate::{
    api::Upload as Sending,
    clock::Timestamp,
    entry::{EntryKind, RelativePath, Source},
    inbox::{
        beneath::{Opened, Refusal},
        examine::{Examining, Purpose, examine},
        file_type::FileType,
        lease::{self, Answer},
    },
    job::{Job, Upload},
    problem::Problem,
    queue::admit::CheckedFile,
};

pub(super) const CHANGED: &str = "the file is not the one that was checked when its manifest was taken in";

/// A file whose last change is younger than this may still be written to: long enough for a sender that pauses, short
/// enough for a person who waits for the refusal of a file that was replaced.
const STILL_BEING_WRITTEN: Duration = Duration::from_secs(5);

/// What a file that has changed turned out to be.
#[derive(Debug)]
pub(super) enum Anew {
    /// It lies still and is good: this is what it is now.
    Good(CheckedFile),
    /// Its sender is not done with it, or it cannot be read now.
    NotYet(String),
    /// It lies still, and is not what its manifest asks for.
    Bad(Problem),
}

/// Where files are opened, and by which rules they are checked.
pub(super) struct Files {
    roots: Arc<Roots>,
    seed: u64,
    max_image_bytes: u64,
}

impl Files {
    /// With the seed of the queue's checksums, and the largest size.
    pub(super) fn new(seed: u64, max_image_bytes: u64) -> Self {
        Self { roots: Arc::default(), seed, max_image_bytes }
    }

    /// Opens an image beneath its folder.
    ///
    /// # Errors
    ///
    /// [`Refusal`]; one that shows already that it has changed is refused as [`CHANGED`].
    pub(super) async fn open(&self, job: &Job, upload: &Upload) -> Result<Sending, Refusal> {
        let (root, path) = place_of(job, upload);
        let opened = self.roots.open(&root, &path).await?;
        if opened.identity.bytes != upload.bytes {
            return Err(Refusal::Unsafe(CHANGED));
        }
        Ok(Sending {
            file: opened.file,
            bytes: upload.bytes,
            checksum: upload.checksum,
            before_last: None,
            seed: self.seed,
            media_type: FileType::promised_by(&upload.path).map_or("application/octet-stream", FileType::media_type),
        })
    }

    /// Checks a file that has changed.
    pub(super) async fn check_anew(&self, job: &Job, upload: &Upload) -> Anew {
        let (root, path) = place_of(job, upload);
        let opened = match self.roots.open(&root, &path).await {
            Ok(opened) => opened,
            Err(Refusal::Missing) => return Anew::NotYet("the file is no longer there".to_owned()),
            Err(Refusal::Io(error)) => return Anew::NotYet(error.to_string()),
            Err(refusal @ Refusal::Unsafe(_)) => return Anew::Bad(refusal.problem(&upload.path)),
        };
        // Its sender may be writing it again, which ends by itself; only one that lies still is really another one.
        let last_change = Timestamp(opened.identity.ctime_ns.div_euclid(1_000_000));
        let now = Timestamp::now();
        // One that was changed in the future tells of a clock that was set back, and nothing of its sender.
        let tells = last_change <= now.after(STILL_BEING_WRITTEN);
        if tells && now.since(last_change) < STILL_BEING_WRITTEN {
            return Anew::NotYet("the file is being written again".to_owned());
        }
        let Ok(path) = RelativePath::parse(&upload.path) else { return Anew::NotYet("its path is none".to_owned()) };
        let source = Source {
            path,
            declared_bytes: upload.declared.bytes.then_some(upload.bytes),
            declared_sha256: upload.declared.sha256.then_some(upload.sha256),
        };
        let purpose = match job.kind {
            EntryKind::Document => Purpose::Image,
            EntryKind::File => Purpose::File,
        };
        let (max_bytes, seed) = (self.max_image_bytes, self.seed);
        let checking = tokio::task::spawn_blocking(move || check(opened, &source, purpose, max_bytes, seed));
        checking.await.unwrap_or_else(|defect| Anew::NotYet(defect.to_string()))
    }
}

fn check(mut opened: Opened, source: &Source, purpose: Purpose, max_bytes: u64, seed: u64) -> Anew {
    let examined = examine(&mut opened, source, purpose, max_bytes, seed, &mut Vec::new());
    if lease::ask(&opened.file) == Answer::Writer {
        return Anew::NotYet("the file is still open for writing".to_owned());
    }
    match examined {
        Ok((examined, _)) => match examined.truncated {
            Some(why) => Anew::NotYet(format!("truncated: {why}")),
            None => Anew::Good(CheckedFile {
                bytes: examined.bytes,
                sha256: examined.sha256,
                checksum: examined.checksum,
                seen: Some(examined.identity),
            }),
        },
        Err(Examining::Bad(problems)) => first(problems, Anew::Bad),
        // It contradicts what is declared of it; anything else that is not whole may become so.
        Err(Examining::Held(problems)) => first(problems, |problem| match problem.field {
            Some(_) => Anew::Bad(problem),
            None => Anew::NotYet(problem.reason),
        }),
        Err(Examining::Changed) => Anew::NotYet("the file is being written again".to_owned()),
        Err(Examining::Io(error)) => Anew::NotYet(format!("the file cannot be read: {error}")),
    }
}

fn first(problems: Vec<Problem>, say: impl FnOnce(Problem) -> Anew) -> Anew {
    let error = problems.into_iter().find(Problem::is_error);
    error.map_or_else(|| Anew::NotYet("the file cannot be checked".to_owned()), say)
}

/// The folder that a file lies beneath, and the way to it.
fn place_of(job: &Job, upload: &Upload) -> (PathBuf, String) {
    match &upload.lies {
        Some(place) => (PathBuf::from(&place.root), place.path.clone()),
        None => (PathBuf::from(&job.image_root), join(&job.image_folder, &upload.path)),
    }
}
