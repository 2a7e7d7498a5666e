//! A manifest that was opened, and its content.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    ops::ControlFlow,
};

use sha2::Digest as _;

use super::loose::LooseFolder;
use crate::{
    entry::Sha256,
    file_identity::FileIdentity,
    inbox::beneath::{Refusal, Root},
    layout::ArchiveWarnings,
    manifest::{self, Format, ManifestSummary, ReadError, Reading},
    problem::Problem,
    queue::{QueueError, layouts::LayoutUse, scratch::TemporaryStore},
};

/// A manifest that was opened: from here on its descriptor counts, not its path.
#[derive(Debug)]
pub struct OpenedManifest {
    file: File,
    /// What it was when it was opened.
    pub identity: FileIdentity,
    pub sha256: Sha256,
    /// The layout that it is read by, where it is a list.
    pub layout: Option<LayoutUse>,
    format: Format,
    /// What a layout made of it, and how long that is.
    made: Option<(File, u64)>,
    /// What a layout found about it.
    warnings: ArchiveWarnings,
    /// Where its files are looked for by names that differ in letter case or normal form.
    loose: Option<LooseFolder>,
    /// Why it cannot be read by its layout.
    unusable: Option<Problem>,
}

impl OpenedManifest {
    pub(in crate::intake) const fn file(&self) -> &File {
        &self.file
    }

    /// The same, where it is a list of which a layout made these lines.
    pub(in crate::intake) fn made_by(
        self,
        layout: LayoutUse,
        lines: File,
        warnings: ArchiveWarnings,
    ) -> io::Result<Self> {
        let bytes = lines.metadata()?.len();
        Ok(Self { layout: Some(layout), format: Format::Staged, made: Some((lines, bytes)), warnings, ..self })
    }

    /// The same, where letter case and normal form do not count in its paths, which start from this folder.
    pub(in crate::intake) fn loosely(self, root: Root, folder: String) -> Self {
        Self { loose: Some(LooseFolder { root, folder }), ..self }
    }

    /// Its files have been moved, so that their paths start from this folder now.
    pub(in crate::intake) fn files_moved(&mut self, root: &Root, folder: &str) -> io::Result<()> {
        if let Some(loose) = &mut self.loose {
            *loose = LooseFolder { root: Root::open(root.path())?, folder: folder.to_owned() };
        }
        Ok(())
    }

    /// The same, where it is a list that its layout does not fit.
    pub(in crate::intake) fn unusable(self, why: Problem) -> Self {
        Self { unusable: Some(why), ..self }
    }

    /// Hands every entry to `each`.
    pub(in crate::intake) fn read(
        &self,
        limits: &manifest::ManifestBounds,
        each: &mut dyn FnMut(Reading) -> ControlFlow<()>,
    ) -> Result<ManifestSummary, ReadError> {
        let nothing_of_it =
            || Problem::error("the layout makes no entry of it", "`layout try` shows what becomes of its rows");
        let is_blank = matches!(self.made, Some((_, 0)));
        if let Some(why) = self.unusable.clone().or_else(|| is_blank.then(nothing_of_it)) {
            // Some programs make a file first and fill it later.
            let refuse = if self.identity.bytes == 0 { ReadError::Cut } else { ReadError::Unusable };
            return Err(refuse(vec![why]));
        }
        let (refused, warnings) = limits.refused.divide(self.warnings.list.clone());
        if !refused.is_empty() {
            return Err(ReadError::Unusable(refused));
        }
        let mut limits = limits.clone();
        if self.made.is_some() {
            // The bound is that of the list.
            limits.max_bytes = u64::MAX;
        }
        let names = self.loose.as_ref().map(LooseFolder::names);
        let mut failure = None;
        let mut read = manifest::read(
            Whole::of(self),
            self.format,
            &limits,
            &mut TemporaryStore::default(),
            &mut |mut reading| {
                match self.warnings.repeats.warning(reading.index()) {
                    Ok(warning) => reading.warn(warning),
                    Err(error) => {
                        failure = Some(error);
                        return ControlFlow::Break(());
                    }
                }
                names.iter().for_each(|names| names.resolve(&mut reading));
                each(reading)
            },
        );
        if let Ok(summary) = &mut read {
            summary.warnings.extend(warnings);
        }
        failure.map_or(read, |error| Err(ReadError::Io(error)))
    }
}

/// Why a manifest cannot be worked on now.
#[derive(Debug, thiserror::Error)]
pub enum Unready {
    /// It cannot be opened.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// It, or a file that it names, cannot be read; trying again may help.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It changed while it was read.
    #[error("the manifest changed while it was read")]
    Changed,
    /// The layout that it is read by, or a lookup of it, cannot be used now.
    #[error("{0}")]
    Layout(String),
    /// What the queue knows of its entries cannot be read.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Opens a manifest and takes its digest.
///
/// # Errors
///
/// [`Unready`]; a manifest larger than `max_bytes` is refused when it is read, not here.
pub fn open(root: &Root, path: &str, max_bytes: u64) -> Result<OpenedManifest, Unready> {
    let mut opened = root.open_file(path)?;
    let mut digest = sha2::Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut head = Vec::new();
    // One byte more than allowed is enough for the reader to refuse it.
    let mut left = opened.identity.bytes.min(max_bytes.saturating_add(1));
    while left > 0 {
        let read = opened.file.read(&mut buffer)?;
        let Some(piece) = buffer.get(..read).filter(|piece| !piece.is_empty()) else { break };
        if head.is_empty() {
            head = piece.to_vec();
        }
        digest.update(piece);
        left = left.saturating_sub(read as u64);
    }
    if left > 0 {
        return Err(Unready::Changed);
    }
    opened.file.rewind()?;
    Ok(OpenedManifest {
        format: Format::detect(path, &head),
        identity: opened.identity,
        sha256: Sha256(digest.finalize().into()),
        file: opened.file,
        layout: None,
        made: None,
        warnings: ArchiveWarnings::default(),
        loose: None,
        unusable: None,
    })
}

/// What a layout made of an archive, in place of a manifest that was opened: its `identity` and digest are those of the
/// archive's own list, where it has one.
///
/// # Errors
///
/// The system's, where the file cannot be read.
pub(crate) fn staged(file: File, sha256: Sha256, warnings: ArchiveWarnings) -> io::Result<OpenedManifest> {
    let identity = FileIdentity::now(&file)?;
    Ok(OpenedManifest {
        file,
        identity,
        sha256,
        layout: None,
        format: Format::Staged,
        made: None,
        warnings,
        loose: None,
        unusable: None,
    })
}

/// A manifest's content, whose end must not come early: a truncated manifest would be taken for one that its sender
/// wrote so. Network file systems may know a file's size before its content.
pub(in crate::intake) struct Whole<'a> {
    file: &'a File,
    bytes: u64,
    at: u64,
}

impl<'a> Whole<'a> {
    pub(in crate::intake) fn of(opened: &'a OpenedManifest) -> Self {
        match &opened.made {
            Some((lines, bytes)) => Self { file: lines, bytes: *bytes, at: 0 },
            None => Self { file: &opened.file, bytes: opened.identity.bytes, at: 0 },
        }
    }
}

impl Read for Whole<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        if read == 0 && !buffer.is_empty() && self.at < self.bytes {
            return Err(io::Error::other(format!("its content ends after {} of {} bytes", self.at, self.bytes)));
        }
        self.at = self.at.saturating_add(read as u64);
        Ok(read)
    }
}

impl Seek for Whole<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = self.file.seek(to)?;
        Ok(self.at)
    }
}
