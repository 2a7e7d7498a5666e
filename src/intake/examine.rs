//! Reads and checks a manifest and its files, entry by entry.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    ops::ControlFlow,
    path::Path,
};

use sha2::Digest as _;

use crate::{
    clock::Timestamp,
    config::DropConfig,
    entry::{Entry, EntryKind, ProfileId, RelativePath, Sha256, Source},
    file_identity::FileIdentity,
    inbox::{
        beneath::{Refusal, Root},
        examine::{Examining, Purpose, examine},
        lease::{self, LeaseState},
        writers::Writers,
    },
    manifest::{self, Format, ReadError, Reading},
    problem::Problem,
    queue::{
        admission::{Admission, CheckedFile},
        scratch::TemporaryStore,
    },
    relative_path::join,
};

/// The rules that a manifest is checked by.
#[derive(Debug, Clone)]
pub struct ManifestRules {
    /// Bounds of the manifest itself.
    pub limits: manifest::ManifestBounds,
    /// The largest image or file, in bytes.
    pub max_image_bytes: u64,
    /// The only profiles that may be written to; `None` for any.
    pub profiles: Option<HashSet<ProfileId>>,
    /// The seed of the checksums.
    pub seed: u64,
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
        });
        let profiles = drop.and_then(|drop| drop.profiles.as_ref()).map(|allowed| allowed.iter().cloned().collect());
        Self { limits, max_image_bytes, profiles, seed }
    }
}

/// A manifest that was opened: from here on its descriptor counts, not its path.
#[derive(Debug)]
pub struct OpenedManifest {
    file: File,
    /// What it was when it was opened.
    pub identity: FileIdentity,
    pub sha256: Sha256,
    format: Format,
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
    })
}

/// A manifest's content, whose end must not come early: a truncated manifest would be taken for one that its sender
/// wrote so. Network file systems may know a file's size before its content.
struct Whole<'a> {
    file: &'a File,
    bytes: u64,
    at: u64,
}

impl<'a> Whole<'a> {
    fn of(opened: &'a OpenedManifest) -> Self {
        Self { file: &opened.file, bytes: opened.identity.bytes, at: 0 }
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

/// Whether a manifest and its files are there, and for how long they have not changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stillness {
    /// How many files are not there.
    pub missing: u64,
    /// The first of them, as the manifest writes them.
    pub first_missing: Vec<String>,
    /// Changes whenever any of the files does.
    pub signature: u64,
    /// When the last of them changed, in nanoseconds since 1970, by the file's change time (ctime). Senders can set a
    /// file's modification time, but not this one.
    pub last_change_ns: i64,
    /// The first that somebody has open for writing, and who.
    pub being_written: Option<(String, String)>,
}

/// How many missing files are named.
const NAMED: usize = 20;

/// Checks whether every file that a manifest names is there, when each last changed, and who still writes to one.
///
/// `name` is called with every file, by its path within `images`, before it is opened.
///
/// # Errors
///
/// [`Unready::Io`] where the manifest cannot be read. A manifest that is unusable misses nothing.
pub fn stillness(
    opened: &OpenedManifest,
    images: &Root,
    (folder, manifest): (&str, &str),
    rules: &ManifestRules,
    mut writers: Option<&mut Writers>,
    name: &mut dyn FnMut(&str),
) -> Result<Stillness, Unready> {
    let mut still = Stillness::default();
    let mut signature = xxhash_rust::xxh3::Xxh3::new();
    let mut see = |still: &mut Stillness, file: &File, identity: &FileIdentity, path: &str| {
        if still.being_written.is_none()
            && let Some(who) = writers.as_mut().and_then(|writers| writers.of(file, identity))
        {
            still.being_written = Some((path.to_owned(), who));
        }
        for number in [identity.dev, identity.ino, identity.bytes, identity.ctime_ns.cast_unsigned()] {
            signature.update(&number.to_le_bytes());
        }
        still.last_change_ns = still.last_change_ns.max(identity.ctime_ns);
    };
    see(&mut still, &opened.file, &opened.identity, manifest);
    let read = manifest::read(
        Whole::of(opened),
        opened.format,
        &rules.limits.within(folder),
        &mut TemporaryStore::default(),
        &mut |reading| {
            if let Reading::Entry { entry, .. } = reading {
                for source in entry.sources() {
                    let path = join(folder, source.path.as_str());
                    name(&path);
                    match images.open_file(&path) {
                        Ok(found) => see(&mut still, &found.file, &found.identity, source.path.as_str()),
                        Err(Refusal::Missing) => {
                            still.missing += 1;
                            if still.first_missing.len() < NAMED {
                                still.first_missing.push(source.path.to_string());
                            }
                        }
                        // Reported by the examination, with its cure.
                        Err(Refusal::Unsafe(_) | Refusal::Io(_)) => {}
                    }
                }
            }
            ControlFlow::Continue(())
        },
    );
    still.signature = signature.digest();
    match read {
        Ok(_) | Err(ReadError::Unusable(_) | ReadError::Cut(_) | ReadError::Stopped) => Ok(still),
        Err(ReadError::Io(error)) => Err(Unready::Io(error)),
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
    /// Whether it should be examined again rather than admitted as it is.
    pub held: Option<HoldReason>,
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
}

impl HoldReason {
    /// What is wrong.
    #[must_use]
    pub const fn problem(&self) -> &Problem {
        match self {
            Self::NotWhole(problem) | Self::BeingWritten(problem) | Self::Unreadable(problem) => problem,
        }
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

/// Reads a manifest and all files that it names. `skip` entries at its beginning are passed over unread.
///
/// # Errors
///
/// [`Unready`], where it should be tried again later.
pub fn examine_all(
    opened: &OpenedManifest,
    images: &Root,
    folder: &str,
    rules: &ManifestRules,
    skip: u64,
    each: &mut dyn FnMut(ExaminedEntry) -> ControlFlow<()>,
) -> Result<ExaminedManifest, Unready> {
    let mut buffer = Vec::new();
    let mut last = None;
    let read = manifest::read(
        Whole::of(opened),
        opened.format,
        &rules.limits.within(folder),
        &mut TemporaryStore::default(),
        &mut |reading| {
            if let Reading::Invalid { problems, .. } = &reading {
                last = problems.first().cloned();
            }
            let index = match &reading {
                Reading::Entry { entry, .. } => entry.index,
                Reading::Invalid { index, .. } => *index,
            };
            if index < skip {
                ControlFlow::Continue(())
            } else {
                each(found(reading, images, folder, rules, &mut buffer))
            }
        },
    );
    let now = FileIdentity::now(&opened.file)?;
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

fn found(reading: Reading, images: &Root, folder: &str, rules: &ManifestRules, buffer: &mut Vec<u8>) -> ExaminedEntry {
    let (entry, mut warnings, line) = match reading {
        Reading::Invalid { index, line, kind, reference, profile_id, paths, problems } => {
            let (problems, warnings) = problems.into_iter().partition(Problem::is_error);
            let admission = Admission::Invalid { index, kind, reference, profile_id, problems, paths };
            return ExaminedEntry { admission, warnings, line, held: None };
        }
        Reading::Entry { entry, warnings, line } => (entry, warnings, line),
    };
    let mut errors = Vec::new();
    let mut held = None;
    if rules.profiles.as_ref().is_some_and(|allowed| !allowed.contains(&entry.profile_id)) {
        errors.push(
            Problem::error(
                "this drop may not write to this profile",
                "correct the profile, or add it to the drop's `profiles` in the configuration",
            )
            .field("profile_id"),
        );
    }
    let mut files = Vec::new();
    let purpose = match entry.kind() {
        EntryKind::Document => Purpose::Image,
        EntryKind::File => Purpose::File,
    };
    for (position, source) in entry.sources().enumerate() {
        match look_at(images, folder, source, purpose, rules, buffer) {
            Ok((file, more, not_whole)) => {
                files.push(file);
                held = held.or(not_whole);
                warnings.extend(more.into_iter().map(|problem| place(problem, purpose, position)));
            }
            Err(wrong) => {
                let (problems, may_pass) = *wrong;
                held = held.or(may_pass);
                errors.extend(problems.into_iter().map(|problem| place(problem, purpose, position)));
            }
        }
    }
    let admission = if errors.is_empty() { Admission::Take { entry, files } } else { invalid(entry, errors) };
    ExaminedEntry { admission, warnings, line, held }
}

fn invalid(entry: Entry, problems: Vec<Problem>) -> Admission {
    Admission::Invalid {
        paths: entry.sources().map(|source| source.path.to_string()).collect(),
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

/// A file with its warnings, or what is wrong; and whether it should be examined again.
type FileExamination = Result<(CheckedFile, Vec<Problem>, Option<HoldReason>), Box<(Vec<Problem>, Option<HoldReason>)>>;

fn look_at(
    images: &Root,
    folder: &str,
    source: &Source,
    purpose: Purpose,
    rules: &ManifestRules,
    buffer: &mut Vec<u8>,
) -> FileExamination {
    let path = join(folder, source.path.as_str());
    let mut opened = images.open_file(&path).map_err(|refusal| {
        let problem = refusal.problem(source.path.as_str());
        let held = match refusal {
            Refusal::Io(_) => Some(HoldReason::Unreadable(problem.clone())),
            // It was there when its manifest was found to be complete, so it may come back.
            Refusal::Missing => Some(HoldReason::NotWhole(problem.clone())),
            Refusal::Unsafe(_) => None,
        };
        Box::new((vec![problem], held))
    })?;
    let examined = examine(&mut opened, source, purpose, rules.max_image_bytes, rules.seed, buffer);
    // Asked again: a large manifest takes minutes to read, and a writer that opened it meanwhile may not have written
    // yet.
    let being_written = (lease::ask(&opened.file) == LeaseState::Writer).then(|| {
        let problem = Problem::error("the file is still open for writing", "wait until its sender has closed it");
        HoldReason::BeingWritten(problem.path(source.path.as_str()))
    });
    match examined {
        Ok((examined, mut warnings)) => {
            let mut held = being_written;
            if let Some(why) = examined.truncated {
                let problem = Problem::error(
                    format!("truncated: {why}"),
                    "send the file again in full; it may still be under way",
                )
                .path(source.path.as_str());
                held = held.or(Some(HoldReason::NotWhole(problem.clone())));
                // A file entry may be of any type, so it is waited for, but not refused; an image must be complete to
                // be of use.
                if purpose == Purpose::Image {
                    return Err(Box::new((vec![problem], held)));
                }
                warnings.push(Problem::warning(problem.reason, problem.cure).path(source.path.as_str()));
            }
            let file = CheckedFile {
                bytes: examined.bytes,
                sha256: examined.sha256,
                checksum: examined.checksum,
                seen: Some(examined.identity).filter(|identity| changed_well_before(identity, Timestamp::now())),
            };
            Ok((file, warnings, held))
        }
        Err(Examining::Bad(problems)) => {
            Err(Box::new((problems.into_iter().filter(Problem::is_error).collect(), None)))
        }
        Err(Examining::Held(problems)) => {
            let held = problems.first().cloned().map(HoldReason::NotWhole);
            Err(Box::new((problems, held)))
        }
        Err(Examining::Changed) => {
            let problem =
                Problem::error("the file is still being written", "wait until it is whole").path(source.path.as_str());
            Err(Box::new((vec![problem.clone()], Some(HoldReason::Unreadable(problem)))))
        }
        Err(Examining::Io(error)) => {
            let problem =
                Problem::error(format!("the file cannot be read: {error}"), "look at the folder's disk or mount")
                    .path(source.path.as_str());
            Err(Box::new((vec![problem.clone()], Some(HoldReason::Unreadable(problem)))))
        }
    }
}

/// Whether a file's last change is old enough that a later one would have another timestamp: clocks of file systems
/// tick some hundred times a second.
fn changed_well_before(identity: &FileIdentity, now: Timestamp) -> bool {
    now.0 - identity.ctime_ns.div_euclid(1_000_000) > 1000
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_whose_content_ends_before_its_size_is_not_taken_for_a_shorter_one() {
        let folder = tempfile::tempdir().unwrap();
        let line = "{\"profile_id\":\"a2c4393a-e219-67a4-5ab4-2186952e9038\",\"path\":\"a.pdf\"}\n";
        std::fs::write(folder.path().join("a.manifest.jsonl"), line.repeat(2)).unwrap();
        let root = Root::open(folder.path()).unwrap();
        let mut opened = open(&root, "a.manifest.jsonl", u64::MAX).unwrap();
        let rules = ManifestRules::of(None, 1 << 20, 0);
        let look =
            |opened: &OpenedManifest| stillness(opened, &root, ("", "a.manifest.jsonl"), &rules, None, &mut |_| {});
        assert_eq!(look(&opened).unwrap().missing, 2);
        // As a network mount may show it: the size is that of three lines, the third has not come.
        opened.identity.bytes = 3 * line.len() as u64;
        let error = look(&opened).unwrap_err();
        assert!(error.to_string().contains("ends after"), "{error}");
    }
}
