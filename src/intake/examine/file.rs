//! One file of an entry: whether it is there, whose it is, and whether it is whole.

use super::{FoundFile, HoldReason, ManifestRules};
use crate::{
    clock::Timestamp,
    entry::Source,
    file_identity::FileIdentity,
    inbox::{
        beneath::{OpenedFile, Refusal, Root},
        examine::{Examining, Purpose, examine},
        lease::{self, LeaseState},
        near::NearNames,
    },
    intake::context::{EntryContext, FileRight, WantedFile},
    layout::PATH_OUTSIDE,
    manifest::ABSOLUTE_PATH,
    near_path::but_there,
    problem::Problem,
    queue::{QueueError, admission::CheckedFile},
    relative_path::join,
};

/// A file that cannot be used.
pub(super) struct UnusableFile {
    pub(super) problems: Vec<Problem>,
    /// Whether it should be examined again.
    pub(super) held: Option<HoldReason>,
    pub(super) why: WhyUnusable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WhyUnusable {
    Missing,
    /// It serves another manifest.
    NotMine,
    Bad,
}

impl UnusableFile {
    fn bad(problems: Vec<Problem>, held: Option<HoldReason>) -> Box<Self> {
        Box::new(Self { problems, held, why: WhyUnusable::Bad })
    }

    fn not_mine(held: HoldReason) -> Box<Self> {
        Box::new(Self { problems: vec![held.problem().clone()], held: Some(held), why: WhyUnusable::NotMine })
    }

    /// It is being written at this moment.
    fn changing(source: &Source) -> Box<Self> {
        let problem =
            Problem::error("the file is still being written", "wait until it is whole").path(source.path.as_str());
        Self::bad(vec![problem.clone()], Some(HoldReason::Unreadable(problem)))
    }
}

/// A file with its warnings, and whether it should be examined again; or why it cannot be used.
pub(super) type FileExamination = Result<(CheckedFile, Vec<Problem>, Option<HoldReason>), Box<UnusableFile>>;

pub(super) fn look_at(
    (images, (near, near_folder)): (&Root, &(NearNames<'_>, &str)),
    source: &Source,
    purpose: Purpose,
    rules: &ManifestRules,
    (context, wanted): (&dyn EntryContext, &WantedFile<'_>),
    out: (&mut Vec<u8>, &mut Vec<FoundFile>),
) -> Result<FileExamination, QueueError> {
    if rules.is_taken(wanted.path) {
        let cure = "name files that lie in the drop itself";
        let problem = Problem::error("the path leads into the folder of taken files", cure).path(source.path.as_str());
        return Ok(Err(UnusableFile::bad(vec![problem], None)));
    }
    let mut opened = match images.open_file(wanted.path) {
        Ok(opened) => opened,
        Err(refusal) => {
            let mut problem = refusal.problem(source.path.as_str());
            if matches!(refusal, Refusal::Missing) {
                problem = problem.code(NO_SUCH_FILE);
            }
            return Ok(Err(match refusal {
                Refusal::Io(_) => UnusableFile::bad(vec![problem.clone()], Some(HoldReason::Unreadable(problem))),
                // It was there when its manifest was found to be complete, so it may come back.
                Refusal::Missing => {
                    let problem = match context.taken_by_another(wanted, images)? {
                        Some(taken) => taken,
                        None => match left_behind(source, purpose, rules, context.left_behind(wanted)) {
                            // An entry that was created before needs no file, so that its own may come at any time.
                            Some(left) => {
                                return Ok(Err(Box::new(UnusableFile { why: WhyUnusable::Missing, ..*left })));
                            }
                            None => near_problem(near, near_folder, source.path.as_str()).unwrap_or(problem),
                        },
                    };
                    let held = Some(HoldReason::NotWhole(problem.clone()));
                    Box::new(UnusableFile { problems: vec![problem], held, why: WhyUnusable::Missing })
                }
                Refusal::Unsafe(_) => UnusableFile::bad(vec![problem], None),
            }));
        }
    };
    match context.right_to(wanted, &opened.identity, images)? {
        FileRight::Yes => {}
        FileRight::Changed => return Ok(Err(UnusableFile::changing(source))),
        FileRight::InUse(problem) => return Ok(Err(UnusableFile::not_mine(HoldReason::InUse(problem)))),
        FileRight::Spent(problem) => return Ok(Err(UnusableFile::not_mine(HoldReason::NotWhole(problem)))),
    }
    let mut found = examined((&mut opened, wanted.path), source, purpose, rules, out);
    if let Ok((file, ..)) = &mut found
        && let Some(original) = context.copied_from(wanted)?
    {
        file.seen = Some(FileIdentity { ctime_ns: 0, ..original });
    }
    Ok(found)
}

/// The code of a file that is not there.
pub(crate) const NO_SUCH_FILE: &str = "no-such-file";

/// The code of a file that is not there while one of a near name is.
pub(crate) const NEAR_NAME: &str = "near-name";

/// The problem with a file that is not there, where one of a near name is.
fn near_problem(near: &NearNames<'_>, folder: &str, written: &str) -> Option<Problem> {
    let there = near_name(near, &join(folder, written), written)?;
    Some(Problem::error(but_there(written, &there), NEAR_CURE).path(written).code(NEAR_NAME))
}

const NEAR_CURE: &str = "write the path as the file's name is, or rename the file";

/// Names the file that is meant by a path of another machine, where a problem is that the path is absolute.
pub(super) fn name_end((near, folder): &(NearNames<'_>, &str), problem: &mut Problem) {
    let (Some(code @ (ABSOLUTE_PATH | PATH_OUTSIDE)), Some(written)) = (problem.code.as_deref(), &problem.path) else {
        return;
    };
    let Some(there) = near.find_end(folder, written) else { return };
    let there = there.strip_prefix(folder).unwrap_or(&there).trim_start_matches('/');
    problem.reason = but_there(written, there);
    // A layout's own cure is for all of its paths.
    if code == ABSOLUTE_PATH {
        problem.cure = NEAR_CURE.to_owned();
        problem.code = Some(NEAR_NAME.into());
    }
}

/// The name of a near file, as the manifest would write it.
pub(in crate::intake) fn near_name(near: &NearNames<'_>, path: &str, written: &str) -> Option<String> {
    let folder = path.strip_suffix(written)?.trim_end_matches('/');
    let there = near.find(folder, written)?;
    Some(there.strip_prefix(folder)?.trim_start_matches('/').to_owned())
}

/// Why a file is not with its manifest that stayed in the drop when the others were taken, if one is there.
fn left_behind(
    source: &Source,
    purpose: Purpose,
    rules: &ManifestRules,
    place: Option<(&Root, &str)>,
) -> Option<Box<UnusableFile>> {
    let (drop, path) = place?;
    let mut opened = drop.open_file(path).ok()?;
    let too_late = || {
        let cure = "drop it again with its entry, once it is there in full";
        let problem = Problem::error("the file was not complete when its manifest was taken", cure);
        UnusableFile::bad(vec![problem.path(source.path.as_str())], None)
    };
    let found = examined((&mut opened, path), source, purpose, rules, (&mut Vec::new(), &mut Vec::new()));
    Some(found.err().unwrap_or_else(too_late))
}

fn examined(
    (opened, path): (&mut OpenedFile, &str),
    source: &Source,
    purpose: Purpose,
    rules: &ManifestRules,
    (buffer, found): (&mut Vec<u8>, &mut Vec<FoundFile>),
) -> FileExamination {
    let examined = examine(opened, source, purpose, rules.max_image_bytes, rules.seed, buffer);
    let (identity, checksum) = match &examined {
        Ok((examined, _)) => (examined.identity, Some(examined.checksum)),
        Err(_) => (opened.identity, None),
    };
    let incomplete = match &examined {
        Ok((examined, _)) => examined.truncated.is_some() && purpose == Purpose::Image,
        Err(failed) => !matches!(failed, Examining::Bad(_)),
    };
    found.push(FoundFile { path: path.to_owned(), identity, checksum: checksum.filter(|_| !incomplete), incomplete });
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
                    return Err(UnusableFile::bad(vec![problem], held));
                }
                warnings.push(Problem::warning(problem.reason, problem.cure).path(source.path.as_str()));
            }
            let file = CheckedFile {
                bytes: examined.bytes,
                sha256: examined.sha256,
                checksum: examined.checksum,
                seen: Some(remembered(examined.identity, Timestamp::now())),
            };
            Ok((file, warnings, held))
        }
        Err(Examining::Bad(problems)) => {
            Err(UnusableFile::bad(problems.into_iter().filter(Problem::is_error).collect(), None))
        }
        Err(Examining::Held(problems)) => {
            let held = problems.first().cloned().map(HoldReason::NotWhole);
            Err(UnusableFile::bad(problems, held))
        }
        Err(Examining::Changed) => Err(UnusableFile::changing(source)),
        Err(Examining::Io(error)) => {
            let problem =
                Problem::error(format!("the file cannot be read: {error}"), "look at the folder's disk or mount")
                    .path(source.path.as_str());
            Err(UnusableFile::bad(vec![problem.clone()], Some(HoldReason::Unreadable(problem))))
        }
    }
}

/// What is remembered of a file: without its change time unless that is old enough that a later change would have another
/// one, since clocks of file systems tick some hundred times a second.
fn remembered(identity: FileIdentity, now: Timestamp) -> FileIdentity {
    let is_old = now.0 - identity.ctime_ns.div_euclid(1_000_000) > 1000;
    if is_old { identity } else { FileIdentity { ctime_ns: 0, ..identity } }
}
