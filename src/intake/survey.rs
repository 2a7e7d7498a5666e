//! How much work a manifest is, without reading what is in its files.

use std::ops::ControlFlow;

use super::examine::{ManifestRules, OpenedManifest, Unready};
use crate::{
    entry::{Content, Entry},
    inbox::beneath::Root,
    manifest::{ReadError, Reading},
    problem::Problem,
    relative_path::join,
};

/// What manifests ask for, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Survey {
    pub(crate) entries: u64,
    /// Of them, those that would not be taken: they are wrong, or a file of theirs is not there. Nothing else counts them.
    pub(crate) left_out: u64,
    pub(crate) documents: u64,
    pub(crate) files: u64,
    /// Of the documents.
    pub(crate) images: u64,
    /// Of images and files, as they are on disk.
    pub(crate) bytes: u64,
    pub(crate) requests: u64,
    /// Of the requests' bodies, which are Base64.
    pub(crate) request_bytes: u64,
}

/// About how much of a body is not Base64 of a file: names of fields, and a document's words and image IDs.
const BODY_BYTES: u64 = 40;
const DOCUMENT_BYTES: u64 = 120;
const IMAGE_ID_BYTES: u64 = 47;

impl Survey {
    /// Adds other numbers to these.
    pub(crate) const fn add(&mut self, other: &Self) {
        self.entries += other.entries;
        self.left_out += other.left_out;
        self.documents += other.documents;
        self.files += other.files;
        self.images += other.images;
        self.bytes += other.bytes;
        self.requests += other.requests;
        self.request_bytes += other.request_bytes;
    }

    /// Counts an entry whose files have these sizes.
    fn count(&mut self, entry: &Entry, sizes: &[u64]) {
        let uploads = sizes.len() as u64;
        match &entry.content {
            Content::Document { extracted_data, .. } => {
                self.documents += 1;
                self.images += uploads;
                self.requests += uploads + 1;
                let extracted = extracted_data.as_ref().map_or(0, |data| data.as_str().len() as u64);
                self.request_bytes += DOCUMENT_BYTES + uploads * IMAGE_ID_BYTES + extracted;
            }
            Content::File { .. } => {
                self.files += 1;
                self.requests += uploads;
            }
        }
        self.bytes += sizes.iter().sum::<u64>();
        self.request_bytes += sizes.iter().map(|bytes| bytes.div_ceil(3) * 4 + BODY_BYTES).sum::<u64>();
    }
}

/// Reads a manifest, and looks for its files; also says why it is unusable, if it is.
///
/// # Errors
///
/// [`Unready::Io`] where the manifest cannot be read.
pub(crate) fn survey(
    opened: &OpenedManifest,
    images: &Root,
    folder: &str,
    rules: &ManifestRules,
) -> Result<(Survey, Option<Vec<Problem>>), Unready> {
    let mut survey = Survey::default();
    let read = opened.read(&rules.limits.within(folder), &mut |reading| {
        survey.entries += 1;
        let Reading::Entry { entry, .. } = reading else {
            survey.left_out += 1;
            return ControlFlow::Continue(());
        };
        let size = |path: &str| images.open_file(&join(folder, path)).ok().map(|file| file.identity.bytes);
        let sizes: Option<Vec<u64>> = entry.sources().map(|source| size(source.path.as_str())).collect();
        match sizes {
            Some(sizes) => survey.count(&entry, &sizes),
            None => survey.left_out += 1,
        }
        ControlFlow::Continue(())
    });
    match read {
        Ok(_) | Err(ReadError::Stopped) => Ok((survey, None)),
        Err(ReadError::Unusable(problems) | ReadError::Cut(problems)) => Ok((Survey::default(), Some(problems))),
        Err(ReadError::Io(error)) => Err(Unready::Io(error)),
    }
}
