//! Admits an examined manifest to the queue: in one transaction where it is small, else in parts.

use std::ops::ControlFlow;

use crate::{
    clock::Timestamp,
    inbox::beneath::Root,
    intake::examine::{self, ExaminedEntry, ExaminedManifest, HoldReason, ManifestRules, OpenedManifest, Unready},
    policy::OnInvalid,
    problem::Problem,
    queue::{
        Queue, QueueError,
        admission::{Admission, BatchAdmission},
        batch::Plan,
    },
};

/// Entries in one transaction. Small enough that workers' commits between two parts wait for milliseconds only.
const PART: usize = 256;

/// Bytes of files in one transaction. An import of large files thus sends the first while it still checks the others.
const PART_BYTES: u64 = 32 << 20;

/// Entries of a manifest that is kept in memory, some kilobytes each, until it has been read to its end; a larger one
/// that must be read to its end first is read twice.
const KEPT: usize = 4096;

/// What was admitted.
#[derive(Debug, Clone)]
pub struct Admitted {
    pub batch_id: i64,
    pub entries: u64,
    /// How many of them are invalid.
    pub invalid: u64,
    /// Why the manifest is unusable, if it is.
    pub unusable: Option<Vec<Problem>>,
}

/// Why nothing, or not all, was admitted.
#[derive(Debug, thiserror::Error)]
pub enum AdmitError {
    /// The manifest is not ready.
    #[error(transparent)]
    Unready(#[from] Unready),
    /// It, or a file that it names, is not complete yet or could not be read for a reason that may pass.
    #[error("{}", .0.problem().reason)]
    Later(HoldReason),
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The process is about to end.
    #[error("stopped")]
    Stopped,
}

/// How to treat faulty entries and files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// What happens to the good entries of a manifest that has bad ones.
    pub on_invalid: OnInvalid,
    /// Whether an entry whose files may become readable later makes the manifest wait, as in a drop.
    pub wait_for_files: bool,
}

/// Admits a manifest to the queue, or resumes an admission that a crash interrupted. Idempotent, and safe to stop
/// between two parts.
///
/// # Errors
///
/// [`AdmitError`]; what was admitted by then stays, and the next call continues after it.
pub fn admit(
    queue: &Queue,
    plan: Plan,
    opened: &mut OpenedManifest,
    images: &Root,
    rules: &ManifestRules,
    policy: Policy,
    stopped: &dyn Fn() -> bool,
) -> Result<Admitted, AdmitError> {
    let batch = queue.admission(plan)?;
    let is_begun = batch.batch_id().is_some();
    // A manifest that one bad entry rejects, or whose files may still come, is read to its end before any of it is
    // admitted, unless a part is in already.
    let mut first_look = Look::default();
    let rejects = policy.on_invalid == OnInvalid::Reject && !batch.has_jobs()?;
    if rejects || (!is_begun && policy.wait_for_files) {
        first_look = look(opened, images, &batch.plan().policy.image_folder, rules, policy, stopped)?;
        if let Some(held) = first_look.later.take() {
            return Err(AdmitError::Later(held));
        }
    }
    let rejected = (rejects && first_look.invalid > 0).then(|| {
        Problem::error(
            format!(
                "{} of its {} entries are invalid, and this drop takes all or nothing",
                first_look.invalid, first_look.examined.entries
            ),
            "mend the entries that are listed, then drop the manifest again; or set on_invalid = \"skip\"",
        )
    });
    match first_look.kept.take() {
        Some(kept) if !is_begun => at_once(batch, first_look.examined, kept, rejected),
        _ => in_parts(batch, opened, images, rules, (rejected, policy.wait_for_files), stopped),
    }
}

/// An entry of a manifest that is rejected: it is reported, and its files are archived, like those of the bad ones.
fn refused(admission: Admission) -> Admission {
    let Admission::Take { entry, .. } = admission else { return admission };
    let problem = Problem::error(
        "not sent, because other entries of the manifest are invalid",
        "mend those, then drop the manifest again; or set on_invalid = \"skip\"",
    );
    Admission::Invalid {
        index: entry.index,
        kind: entry.kind(),
        profile_id: Some(entry.profile_id.to_string()),
        problems: vec![problem],
        paths: entry.sources().map(|source| source.path.to_string()).collect(),
        reference: entry.reference,
    }
}

#[derive(Default)]
struct Look {
    examined: ExaminedManifest,
    /// All entries, where they are few.
    kept: Option<Vec<Admission>>,
    /// How many are invalid.
    invalid: u64,
    later: Option<HoldReason>,
}

fn look(
    opened: &mut OpenedManifest,
    images: &Root,
    folder: &str,
    rules: &ManifestRules,
    policy: Policy,
    stopped: &dyn Fn() -> bool,
) -> Result<Look, AdmitError> {
    let mut look = Look { kept: Some(Vec::new()), ..Look::default() };
    let mut was_stopped = false;
    let examined = examine::examine_all(opened, images, folder, rules, 0, &mut |found| {
        if stopped() {
            was_stopped = true;
            return ControlFlow::Break(());
        }
        if policy.wait_for_files && found.held.is_some() {
            look.later = found.held;
            return ControlFlow::Break(());
        }
        look.invalid += u64::from(matches!(found.admission, Admission::Invalid { .. }));
        match &mut look.kept {
            Some(kept) if kept.len() < KEPT => kept.push(with_line(found)),
            _ => look.kept = None,
        }
        ControlFlow::Continue(())
    })?;
    if was_stopped {
        return Err(AdmitError::Stopped);
    }
    if let Some(cut) = examined.cut.clone().filter(|_| policy.wait_for_files) {
        look.later.get_or_insert(HoldReason::NotWhole(cut));
    }
    look.examined = examined;
    Ok(look)
}

/// Adds its line to the problems of a bad entry: the reader of the receipt has only the manifest.
fn with_line(found: ExaminedEntry) -> Admission {
    let (mut admission, line) = (found.admission, found.line);
    if let (Admission::Invalid { problems, .. }, Some(line)) = (&mut admission, line) {
        for problem in problems.iter_mut().filter(|problem| !problem.reason.starts_with("line ")) {
            problem.reason = format!("line {line}: {}", problem.reason);
        }
    }
    admission
}

fn at_once(
    batch: BatchAdmission,
    examined: ExaminedManifest,
    kept: Vec<Admission>,
    rejected: Option<Problem>,
) -> Result<Admitted, AdmitError> {
    // Nothing of an unusable manifest counts, whatever was read of it.
    let mut kept = if examined.unusable.is_some() { Vec::new() } else { kept };
    let invalid = kept.iter().filter(|admission| matches!(admission, Admission::Invalid { .. })).count() as u64;
    if rejected.is_some() {
        kept = kept.into_iter().map(refused).collect();
    }
    let unusable = examined.unusable.or_else(|| rejected.map(|problem| vec![problem]));
    let batch_id = batch.admit_whole(kept, unusable.clone(), Timestamp::now())?;
    Ok(Admitted { batch_id, entries: examined.entries, invalid, unusable })
}

fn in_parts(
    mut batch: BatchAdmission,
    opened: &mut OpenedManifest,
    images: &Root,
    rules: &ManifestRules,
    (rejected, wait_for_files): (Option<Problem>, bool),
    stopped: &dyn Fn() -> bool,
) -> Result<Admitted, AdmitError> {
    let (mut part, mut bytes) = (Vec::new(), 0);
    let mut invalid = 0;
    let mut failure = None;
    let skip = batch.admitted();
    let folder = batch.plan().policy.image_folder.clone();
    let examined = examine::examine_all(opened, images, &folder, rules, skip, &mut |found| {
        if stopped() {
            failure = Some(AdmitError::Stopped);
            return ControlFlow::Break(());
        }
        if let Some(held) = found.held.clone().filter(|_| wait_for_files) {
            failure = Some(AdmitError::Later(held));
            return ControlFlow::Break(());
        }
        invalid += u64::from(matches!(found.admission, Admission::Invalid { .. }));
        if let Admission::Take { files, .. } = &found.admission {
            bytes += files.iter().map(|file| file.bytes).sum::<u64>();
        }
        part.push(if rejected.is_some() { refused(with_line(found)) } else { with_line(found) });
        if part.len() < PART && bytes < PART_BYTES {
            return ControlFlow::Continue(());
        }
        bytes = 0;
        match batch.admit_part(std::mem::take(&mut part), Timestamp::now()) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failure = Some(error.into());
                ControlFlow::Break(())
            }
        }
    });
    if let Some(failure) = failure {
        return Err(failure);
    }
    let examined = examined?;
    if examined.unusable.is_some() {
        part.clear();
    }
    batch.admit_part(part, Timestamp::now())?;
    let unusable = examined.unusable.or_else(|| rejected.map(|problem| vec![problem]));
    let batch_id = batch.seal(unusable.clone(), Timestamp::now())?;
    Ok(Admitted { batch_id, entries: examined.entries, invalid, unusable })
}
