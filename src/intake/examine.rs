//! Reads and checks a manifest and its files, entry by entry.

mod file;
mod loose;
mod opened;

use std::{
    collections::HashSet,
    io,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use super::{
    bad_entries::BadEntries,
    context::{EntryContext, WantedFile},
};
use crate::{
    claims::NameClaim,
    config::DropConfig,
    entry::{Entry, EntryKind, EntrySource, ProfileId, RelativePath},
    file_identity::FileIdentity,
    inbox::{beneath::Root, examine::Purpose, near::NearNames},
    manifest::{self, ReadError, Reading},
    problem::Problem,
    queue::{
        QueueError,
        admission::{Admission, CheckedFile},
        created_before::CreatedEntry,
    },
    relative_path::join,
    warning::{EntryWarning, RefusedWarnings, Warning},
};

pub(super) use file::near_name;
pub(crate) use file::{NEAR_NAME, NO_SUCH_FILE};
use file::{UnusableFile, WhyUnusable, look_at};
pub(crate) use opened::staged;
pub use opened::{OpenedManifest, Unready, open};

/// The rules that a manifest is checked by.
#[derive(Debug, Clone)]
pub struct ManifestRules {
    /// Bounds of the manifest itself.
    pub limits: manifest::ManifestBounds,
    /// The largest image or file, in bytes.
    pub max_image_bytes: u64,
    /// The only profiles that may be written to; `None` for any.
    pub profiles: Option<HashSet<ProfileId>>,
    /// More bad entries than this, and more than half of those read: the manifest is refused as a whole.
    pub max_invalid: u64,
    /// The seed of the checksums.
    pub seed: u64,
    /// Which warnings are errors.
    pub refused: RefusedWarnings,
    /// The folder of taken files, where it is inside the drop: nothing in it is a manifest's to name.
    pub work_dir: Option<PathBuf>,
}

impl ManifestRules {
    /// The rules of a drop; without one, the defaults and any profile.
    #[must_use]
    pub fn of(drop: Option<&DropConfig>, max_image_bytes: u64, seed: u64) -> Self {
        let limits = drop.map_or_else(manifest::ManifestBounds::default, |drop| manifest::ManifestBounds {
            max_bytes: drop.max_manifest_bytes,
            max_entries: drop.max_entries,
            max_rows: drop.max_rows,
            max_line_bytes: drop.max_line_bytes,
            max_entry_bytes: drop.max_line_bytes,
            max_images: drop.max_images,
            max_nesting: drop.max_nesting,
            max_path_bytes: drop.max_path_bytes,
            folder_bytes: 0,
            refused: drop.refuse_warnings.clone(),
        });
        let profiles = drop.and_then(|drop| drop.profiles.as_ref()).map(|allowed| allowed.iter().cloned().collect());
        let max_invalid = drop.map_or(DropConfig::DEFAULT_MAX_INVALID, |drop| drop.max_invalid);
        let refused = drop.map(|drop| drop.refuse_warnings.clone()).unwrap_or_default();
        let work_dir = drop.and_then(|drop| Some(drop.work_folder().strip_prefix(&drop.path).ok()?.to_owned()));
        Self { limits, max_image_bytes, profiles, max_invalid, seed, refused, work_dir }
    }

    /// The same, where these kinds of warnings are errors too.
    #[must_use]
    pub fn refusing(mut self, more: &[RefusedWarnings]) -> Self {
        self.refused = more.iter().fold(self.refused, RefusedWarnings::and);
        self.limits.refused = self.refused.clone();
        self
    }
}

impl ManifestRules {
    /// Whether a path leads into the folder of taken files.
    pub(super) fn is_taken(&self, path: &str) -> bool {
        self.work_dir.as_ref().is_some_and(|work| Path::new(path).starts_with(work))
    }
}

/// One entry with everything that was found out about it.
#[derive(Debug, Clone)]
pub struct ExaminedEntry {
    /// What the entry becomes.
    pub admission: Admission,
    /// Warnings.
    pub warnings: Vec<Problem>,
    /// Where it begins in the manifest, from 1.
    pub line: Option<u64>,
    /// The record of an archive that a layout made it of.
    pub source: Option<EntrySource>,
    /// Whether it should be examined again rather than admitted as it is.
    pub held: Option<HoldReason>,
    /// Its files that are there.
    pub files: Vec<FoundFile>,
    /// Of an entry that is refused although its files are good: other entries are compared with it all the same.
    refused: Option<Box<(Entry, Vec<CheckedFile>)>>,
}

/// A file of an entry that was found.
#[derive(Debug, Clone)]
pub struct FoundFile {
    /// Its path in the folder that it was looked for in.
    pub path: String,
    pub identity: FileIdentity,
    /// The checksum of its content, where it is good.
    pub checksum: Option<u64>,
    /// It is not there in full, so its sender may not be done with it.
    pub incomplete: bool,
}

impl ExaminedEntry {
    /// Adds warnings; where one of them is refused, the entry is invalid.
    pub(crate) fn warn(&mut self, warnings: Vec<Problem>, refused: &RefusedWarnings) {
        let (errors, warnings) = refused.divide(warnings);
        self.warnings.extend(warnings);
        if errors.is_empty() {
            return;
        }
        match &mut self.admission {
            Admission::Invalid { problems, .. } => problems.extend(errors),
            Admission::Take { entry, .. } | Admission::Known { entry, .. } | Admission::Unchanged { entry, .. } => {
                self.admission = invalid(entry.clone(), errors, &[]);
            }
        }
    }

    /// What other entries are compared with, where its files are good.
    pub(crate) fn compared(&self) -> Option<(&Entry, &[CheckedFile])> {
        match &self.admission {
            Admission::Take { entry, files } => Some((entry, files)),
            _ => self.refused.as_deref().map(|(entry, files)| (entry, files.as_slice())),
        }
    }

    /// Its place among the entries.
    pub(crate) const fn index(&self) -> u64 {
        match &self.admission {
            Admission::Take { entry, .. } | Admission::Known { entry, .. } | Admission::Unchanged { entry, .. } => {
                entry.index
            }
            Admission::Invalid { index, .. } => *index,
        }
    }

    /// What is kept of its warnings.
    pub(crate) fn kept_warnings(&self) -> impl Iterator<Item = EntryWarning> {
        let index = Some(self.index());
        self.warnings.iter().filter_map(Warning::of).map(move |warning| EntryWarning { index, warning })
    }
}

/// Why something should be examined again, with what is wrong with it now.
#[derive(Debug, Clone, PartialEq)]
pub enum HoldReason {
    /// It is not complete; examining it again is of use once something has changed.
    NotWhole(Problem),
    /// Somebody has opened it for writing since it was found to be complete; it is waited for, however long that takes.
    BeingWritten(Problem),
    /// The system could not read it; that may pass by itself.
    Unreadable(Problem),
    /// It serves another manifest that waits.
    InUse(Problem),
}

impl HoldReason {
    /// What is wrong.
    #[must_use]
    pub const fn problem(&self) -> &Problem {
        match self {
            Self::NotWhole(problem)
            | Self::BeingWritten(problem)
            | Self::Unreadable(problem)
            | Self::InUse(problem) => problem,
        }
    }
}

impl ExaminedManifest {
    /// What is kept of the warnings about the manifest itself.
    pub(crate) fn kept_warnings(&self) -> impl Iterator<Item = EntryWarning> {
        self.warnings.iter().filter_map(Warning::of).map(|warning| EntryWarning { index: None, warning })
    }
}

/// A manifest that was read to its end.
#[derive(Debug, Clone, Default)]
pub struct ExaminedManifest {
    /// How many entries it has.
    pub entries: u64,
    /// Warnings about the manifest itself.
    pub warnings: Vec<Problem>,
    /// Why it is unusable, if it is; then no entry of it counts.
    pub unusable: Option<Vec<Problem>>,
    /// Why more of it may still arrive, if so.
    pub cut: Option<Problem>,
}

/// Reads a manifest without its files, until too many of its entries are bad; returns how many were read, and are bad.
///
/// # Errors
///
/// [`Unready::Io`] where the manifest cannot be read. What makes it unusable is left to [`examine_all`].
pub(crate) fn count_bad(
    opened: &OpenedManifest,
    folder: &str,
    rules: &ManifestRules,
    stopped: &dyn Fn() -> bool,
) -> Result<BadEntries, Unready> {
    let mut bad = BadEntries::new(rules.max_invalid);
    let read = opened.read(&rules.limits.within(folder), &mut |reading| {
        let too_many = match &reading {
            Reading::Entry { .. } => bad.good(),
            Reading::Invalid { problems, line, .. } => bad.bad(problems, *line),
        };
        if too_many || stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    match read {
        Err(ReadError::Io(error)) => Err(Unready::Io(error)),
        _ => Ok(bad),
    }
}

/// Reads a manifest and all files that are its own.
///
/// # Errors
///
/// [`Unready`], where it should be tried again later.
pub fn examine_all(
    opened: &OpenedManifest,
    images: &Root,
    folder: &str,
    rules: &ManifestRules,
    context: &dyn EntryContext,
    each: &mut dyn FnMut(ExaminedEntry) -> ControlFlow<()>,
) -> Result<ExaminedManifest, Unready> {
    examine_within(opened, images, folder, rules, (context, 0), each)
}

/// The same; `skip` entries at its beginning are passed over unread.
///
/// # Errors
///
/// As [`examine_all`].
pub(super) fn examine_within(
    opened: &OpenedManifest,
    images: &Root,
    folder: &str,
    rules: &ManifestRules,
    (context, skip): (&dyn EntryContext, u64),
    each: &mut dyn FnMut(ExaminedEntry) -> ControlFlow<()>,
) -> Result<ExaminedManifest, Unready> {
    let (near_root, near_folder) = context.stayed_in(folder).unwrap_or((images, folder));
    let near = (NearNames::below(near_root), near_folder);
    let mut examination = Examination { images, near, folder, rules, context, buffer: Vec::new() };
    let mut failure = None;
    let mut last = None;
    let read = opened.read(&rules.limits.within(folder), &mut |reading| {
        if let Reading::Invalid { problems, .. } = &reading {
            last = problems.first().cloned();
        }
        let found = match &reading {
            Reading::Entry { entry, .. } if reading.index() < skip => context.passed_over(entry).map(|()| None),
            Reading::Invalid { .. } if reading.index() < skip => Ok(None),
            _ => examination.found(reading).map(Some),
        };
        match found {
            Ok(Some(found)) => each(found),
            Ok(None) => ControlFlow::Continue(()),
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        }
    });
    if let Some(error) = failure {
        return Err(error.into());
    }
    let now = FileIdentity::now(opened.file())?;
    if !now.same_content(&opened.identity) {
        return Err(Unready::Changed);
    }
    match read {
        Ok(summary) => {
            let cut = last.filter(|_| summary.cut).map(truncated);
            Ok(ExaminedManifest { entries: summary.entries, warnings: summary.warnings, unusable: None, cut })
        }
        Err(ReadError::Unusable(problems)) => {
            Ok(ExaminedManifest { unusable: Some(problems), ..ExaminedManifest::default() })
        }
        Err(ReadError::Cut(problems)) => {
            let cut = problems.first().cloned().map(truncated);
            Ok(ExaminedManifest { unusable: Some(problems), cut, ..ExaminedManifest::default() })
        }
        Err(ReadError::Io(error)) => Err(Unready::Io(error)),
        Err(ReadError::Stopped) => Ok(ExaminedManifest::default()),
    }
}

fn truncated(problem: Problem) -> Problem {
    Problem { reason: format!("truncated: {}", problem.reason), ..problem }
}

/// The examination of one manifest's entries.
struct Examination<'a> {
    images: &'a Root,
    /// Where names of near files are looked for.
    near: (NearNames<'a>, &'a str),
    folder: &'a str,
    rules: &'a ManifestRules,
    context: &'a dyn EntryContext,
    buffer: Vec<u8>,
}

/// What became of the files of an entry.
#[derive(Default)]
struct FilesFound {
    /// In order; `None` for those that are not there, or not its own.
    files: Vec<Option<CheckedFile>>,
    /// Those that are there and its own.
    found: Vec<FoundFile>,
    warnings: Vec<Problem>,
    errors: Vec<Problem>,
    held: Option<HoldReason>,
    /// Whether there are errors of files that are there.
    bad: bool,
    /// The files that serve other manifests, which they are left to.
    others: Vec<String>,
}

impl Examination<'_> {
    fn found(&mut self, reading: Reading) -> Result<ExaminedEntry, QueueError> {
        let (entry, mut warnings, line, source) = match reading {
            Reading::Invalid { index, line, kind, reference, profile_id, paths, problems, source } => {
                let (mut problems, warnings): (Vec<_>, Vec<_>) = problems.into_iter().partition(Problem::is_error);
                let (refused, warnings) = self.rules.refused.divide(warnings);
                problems.extend(refused);
                problems.iter_mut().for_each(|problem| file::name_end(&self.near, problem));
                let admission = Admission::Invalid { index, kind, reference, profile_id, problems, paths };
                return Ok(ExaminedEntry {
                    admission,
                    warnings,
                    line,
                    source,
                    held: None,
                    files: Vec::new(),
                    refused: None,
                });
            }
            Reading::Entry { entry, warnings, line, source } => (entry, warnings, line, source),
        };
        let mut errors = Vec::new();
        if self.rules.profiles.as_ref().is_some_and(|allowed| !allowed.contains(&entry.profile_id)) {
            errors.push(
                Problem::error(
                    "this drop may not write to this profile",
                    "correct the profile, or add it to the drop's `profiles` in the configuration",
                )
                .field("profile_id"),
            );
        }
        if errors.is_empty()
            && self.rules.refused.divide(warnings.clone()).0.is_empty()
            && let Some(job_id) = self.context.unchanged_since(&entry, (self.images, self.folder))?
        {
            let admission = Admission::Unchanged { entry, job_id };
            return Ok(ExaminedEntry {
                admission,
                warnings: Vec::new(),
                line,
                source: None,
                held: None,
                files: Vec::new(),
                refused: None,
            });
        }
        let contested = self.contested(&entry);
        let mut created = if contested.is_empty() { None } else { self.created(&entry)? };
        let found = self.files(&entry, created.as_ref().map(|_| contested.as_slice()))?;
        if created.is_none() && !found.bad && found.files.iter().any(Option::is_none) {
            created = self.created(&entry)?;
        }
        warnings.extend(found.warnings);
        let (refused, warnings) = self.rules.refused.divide(warnings);
        errors.extend(refused);
        if errors.is_empty() && !found.bad && created.is_some() && found.files.iter().any(Option::is_none) {
            let held = found.held.filter(|held| matches!(held, HoldReason::BeingWritten(_)));
            let admission = Admission::Known { entry, files: found.files };
            return Ok(ExaminedEntry { admission, warnings, line, source, held, files: found.found, refused: None });
        }
        errors.extend(found.errors);
        let files: Option<Vec<CheckedFile>> = found.files.into_iter().collect();
        let (admission, refused) = match files {
            Some(files) if errors.is_empty() => (Admission::Take { entry, files }, None),
            Some(files) => (invalid(entry.clone(), errors, &found.others), Some(Box::new((entry, files)))),
            None => (invalid(entry, errors, &found.others), None),
        };
        Ok(ExaminedEntry { admission, warnings, line, source, held: found.held, files: found.found, refused })
    }

    /// What was created under the entry's reference, if it asks for nothing else.
    fn created(&self, entry: &Entry) -> Result<Option<CreatedEntry>, QueueError> {
        let Some(reference) = &entry.reference else { return Ok(None) };
        Ok(self.context.created(reference)?.filter(|created| created.settles(entry)))
    }

    /// Which of its files other waiting manifests name, by position; nothing without a reference.
    fn contested(&self, entry: &Entry) -> Vec<usize> {
        let sources = entry.reference.iter().flat_map(|_| entry.sources().enumerate());
        sources
            .filter(|(_, source)| self.context.is_contested(&join(self.folder, source.path.as_str())))
            .map(|(position, _)| position)
            .collect()
    }

    /// Examines the files of an entry, except those at the positions in `left`, which are left to others.
    fn files(&mut self, entry: &Entry, left: Option<&[usize]>) -> Result<FilesFound, QueueError> {
        let mut found = FilesFound::default();
        let purpose = match entry.kind() {
            EntryKind::Document => Purpose::Image,
            EntryKind::File => Purpose::File,
        };
        for (position, source) in entry.sources().enumerate() {
            if left.is_some_and(|left| left.contains(&position)) {
                found.files.push(None);
                continue;
            }
            let path = join(self.folder, source.path.as_str());
            let claim = NameClaim::of(entry.profile_id.as_str(), source.declared_sha256.is_some());
            let wanted = WantedFile { path: &path, written: source.path.as_str(), claim };
            let out = (&mut self.buffer, &mut found.found);
            match look_at((self.images, &self.near), source, purpose, self.rules, (self.context, &wanted), out)? {
                Ok((file, more, not_whole)) => {
                    found.files.push(Some(file));
                    found.held = found.held.or(not_whole);
                    found.warnings.extend(more.into_iter().map(|problem| place(problem, purpose, position)));
                }
                Err(wrong) => {
                    let UnusableFile { problems, held, why } = *wrong;
                    found.files.push(None);
                    found.held = found.held.or(held);
                    found.bad |= why == WhyUnusable::Bad;
                    if why == WhyUnusable::NotMine {
                        found.others.push(source.path.to_string());
                    }
                    found.errors.extend(problems.into_iter().map(|problem| place(problem, purpose, position)));
                }
            }
        }
        Ok(found)
    }
}

/// `others`: the files that it names and that are not put away with it.
fn invalid(entry: Entry, problems: Vec<Problem>, others: &[String]) -> Admission {
    Admission::Invalid {
        paths: entry.sources().map(|source| source.path.to_string()).filter(|path| !others.contains(path)).collect(),
        index: entry.index,
        kind: entry.kind(),
        reference: entry.reference,
        profile_id: Some(entry.profile_id.to_string()),
        problems,
    }
}

/// Adds to a problem in which image of a document it is.
fn place(mut problem: Problem, purpose: Purpose, position: usize) -> Problem {
    if purpose == Purpose::Image {
        let field = problem.field.as_deref().unwrap_or("path");
        problem.field = Some(format!("images[{position}].{field}"));
    } else {
        problem.field.get_or_insert_with(|| "path".to_owned());
    }
    problem
}

/// Splits the path of a manifest into the folder to open as root and the manifest's name in it.
///
/// # Errors
///
/// Where the path has no file name, or one that is not UTF-8.
pub fn split(path: &Path) -> io::Result<(&Path, &str)> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.filter(|name| RelativePath::parse(name).is_ok());
    let name = name.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a file name that can be used"))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((folder, name))
}
