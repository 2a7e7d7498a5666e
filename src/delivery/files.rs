//! The files of jobs: opened as they were taken. One that is not what was taken is never sent.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::roots::Roots;
use crate::{
    api::UploadSource,
    file_format::FileType,
    inbox::beneath::Refusal,
    job::{Job, Upload},
    relative_path::join,
};

pub(super) const CHANGED: &str = "the file has changed since its manifest was taken in";

/// Where files are opened.
pub(super) struct Files {
    roots: Arc<Roots>,
    seed: u64,
}

impl Files {
    /// With the seed of the queue's checksums.
    pub(super) fn new(seed: u64) -> Self {
        Self { roots: Arc::default(), seed }
    }

    /// Opens an image below its folder.
    ///
    /// # Errors
    ///
    /// [`Refusal`]; one that shows already that it has changed is refused as [`CHANGED`].
    pub(super) async fn open(&self, job: &Job, upload: &Upload) -> Result<UploadSource, Refusal> {
        let (root, path) = place_of(job, upload);
        let opened = match self.roots.open(&root, &path).await {
            Err(Refusal::Missing) if upload.moved_to.is_none() => return Err(self.missing(job).await),
            opened => opened?,
        };
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

    /// What it means that a file is not there: where its work folder is gone as a whole, it may come back.
    async fn missing(&self, job: &Job) -> Refusal {
        let Some(work) = &job.work else { return Refusal::Missing };
        // A folder is no file that may be opened, unless it is not there.
        match self.roots.open(Path::new(&work.root), &work.path).await {
            Err(Refusal::Missing) => {
                let path = Path::new(&work.root).join(&work.path);
                let reason = format!("the folder of taken files {} is gone; put it back", path.display());
                Refusal::Io(io::Error::new(io::ErrorKind::NotFound, reason))
            }
            Err(refusal @ Refusal::Io(_)) => refusal,
            Ok(_) | Err(Refusal::Unsafe(_)) => Refusal::Missing,
        }
    }
}

/// The folder that a file is in, and its path there.
fn place_of(job: &Job, upload: &Upload) -> (PathBuf, String) {
    match &upload.moved_to {
        Some(place) => (PathBuf::from(&place.root), place.path.clone()),
        None => (PathBuf::from(&job.image_root), join(&job.image_folder, &upload.path)),
    }
}
