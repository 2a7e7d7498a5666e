//! Admits an examined manifest to the queue: in one transaction where it is small, else in parts.

use std::{ops::ControlFlow, path::Path};

use super::{
    bad_entries::{BadEntries, all_or_nothing},
    cross_check::{CrossCheck, CrossCheckError},
};
use crate::{
    clock::Timestamp,
    entry::EntryKind,
    inbox::beneath::{Refusal, Root},
    intake::{
        context::{EntryContext, NoContext, TakenContext},
        examine::{self, ExaminedEntry, ExaminedManifest, HoldReason, ManifestRules, OpenedManifest, Unready},
        take::{FileList, TakeError, Taker},
    },
    policy::OnInvalid,
    problem::Problem,
    queue::{
        Queue, QueueError,
        admission::{Admission, BatchAdmission},
        batch::{Plan, TakenAs},
        causes::{WITH_OTHERS, WITH_OTHERS_IN_WORDS},
        taking::{Taking, TakingState},
    },
    relative_path::join,
    warning::{EntryWarning, Warning},
};

/// Entries in one transaction. Small enough that workers' commits between two parts wait for milliseconds only. The first
/// transactions are smaller, so that the first entries are sent while few are in.
const PART: usize = 256;
const FIRST_PART: usize = 16;

/// Entries of which nothing has changed cost a transaction next to nothing.
const UNCHANGED_PART: usize = 4096;

/// Bytes of files in one transaction. An import of large files thus sends the first while it still checks the others.
const PART_BYTES: u64 = 32 << 20;

/// Entries of a manifest that is kept in memory, some kilobytes each, until it has been read to its end; a larger one
/// that must be read to its end first is read twice.
const KEPT: usize = 4096;

/// The code of an entry, or a manifest, whose file in the work folder is not what was taken.
const TAKEN_FILE_CHANGED: &str = "taken-file-changed";

/// What was admitted.
#[derive(Debug, Clone)]
pub struct Admitted {
    pub batch_id: i64,
    pub entries: u64,
    /// How many of them are invalid.
    pub invalid: u64,
    /// How many warnings there are, those about the manifest itself among them.
    pub warnings: u64,
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
    /// Its files cannot be moved into the work folder; they are in the drop again.
    #[error("{}", .0.reason)]
    NotTaken(Problem),
    /// The process is about to end.
    #[error("stopped")]
    Stopped,
}

impl From<TakeError> for AdmitError {
    fn from(error: TakeError) -> Self {
        match error {
            TakeError::Queue(error) => Self::Queue(error),
            TakeError::Stopped => Self::Stopped,
            TakeError::Refused(problem) | TakeError::Displaced(problem) => Self::NotTaken(problem),
            TakeError::Stuck(error) => Self::NotTaken(Problem::error(
                format!("it can neither be taken nor put back: {error}"),
                "look at the drop's folder and work_dir; it is tried again by itself",
            )),
        }
    }
}

/// What of a manifest is in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdmittedPart {
    pub batch_id: i64,
    pub entries: u64,
    /// How many entries the manifest has, where it was read to its end before.
    pub of: Option<u64>,
}

/// What an admission does between two parts of a manifest.
#[derive(Clone, Copy)]
pub struct BetweenParts<'a> {
    /// Whether the process is about to end; also asked before each entry.
    pub stopped: &'a dyn Fn() -> bool,
    pub admitted: &'a dyn Fn(AdmittedPart),
}

impl<'a> BetweenParts<'a> {
    pub(super) const fn stops(stopped: &'a dyn Fn() -> bool) -> Self {
        Self { stopped, admitted: &|_| () }
    }
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
    (rules, context): (&ManifestRules, &dyn EntryContext),
    policy: Policy,
    between: BetweenParts<'_>,
) -> Result<Admitted, AdmitError> {
    let stopped = between.stopped;
    let mut batch = queue.admission(plan)?;
    let is_begun = batch.batch_id().is_some();
    // A manifest that one bad entry rejects, or whose files may still come, is read to its end before any of it is
    // admitted, unless a part is in already.
    let mut first_look = Look::default();
    let rejects = policy.on_invalid == OnInvalid::Reject && !batch.has_jobs()?;
    let mut compared = Comparison::new(queue, batch.plan())?;
    let folder = batch.plan().policy.image_folder.clone();
    if rejects || (!is_begun && policy.wait_for_files) {
        first_look = look(opened, images, &folder, (rules, context), policy, &mut compared, (stopped, None))?;
        if let Some(held) = first_look.later.take() {
            return Err(AdmitError::Later(held));
        }
    } else if !is_begun {
        // Before the first of it is sent.
        let counted = examine::count_bad(opened, &folder, rules, stopped)?;
        first_look.examined.entries = counted.read();
        first_look.too_many = counted.are_too_many().then_some(counted);
    }
    if !is_begun && first_look.examined.entries > 0 {
        batch.has_entries(first_look.examined.entries);
    }
    if let Some(bad) = first_look.too_many.take() {
        return as_a_whole(batch, bad.read(), bad.refusal());
    }
    let rejected = if rejects { first_look.rejection() } else { None };
    match first_look.kept.take() {
        Some(kept) if !is_begun => at_once(batch, first_look.examined, kept, rejected),
        _ => {
            let waits = policy.wait_for_files;
            in_parts(batch, opened, (images, &folder), (rules, context), (rejected, waits), &mut compared, between)
        }
    }
}

/// Takes a manifest with its files into the work folder, then admits it from there.
///
/// # Errors
///
/// [`AdmitError`]; nothing was admitted.
pub fn take_and_admit(
    taker: &Taker<'_>,
    mut plan: Plan,
    opened: &mut OpenedManifest,
    (rules, context): (&ManifestRules, &dyn EntryContext),
    policy: Policy,
) -> Result<Admitted, AdmitError> {
    let folder = plan.policy.image_folder.clone();
    let mut list = taker.list(&plan.manifest, opened);
    let mut compared = Comparison::new(taker.queue, &plan)?;
    let looked =
        look(opened, taker.root, &folder, (rules, context), policy, &mut compared, (taker.stopped, Some(&mut list)));
    let looked = match looked {
        Ok(Look { later: Some(held), .. }) => Err(AdmitError::Later(held)),
        looked => looked,
    };
    let mut looked = match looked {
        Ok(looked) => looked,
        Err(error) => {
            list.abandon()?;
            return Err(error);
        }
    };
    let rejected = if policy.on_invalid == OnInvalid::Reject { looked.rejection() } else { None };
    let too_many = looked.too_many.take().map(|bad| (bad.read(), bad.refusal()));
    let unusable = too_many.clone().map(|(_, refusal)| refusal).or_else(|| looked.examined.unusable.clone());
    let refused = unusable.or_else(|| rejected.clone().map(|problem| vec![problem]));
    let (taking, files) = list.finish(refused)?;
    let taken = taker.take(&taking, &files);
    plan.taken = Some(TakenAs { batch_id: taking.batch_id, work: taking.work.clone() });
    match taken {
        Ok(()) => {}
        Err(TakeError::Displaced(problem)) => return displaced(taker.queue, plan, problem),
        Err(error) => return Err(error.into()),
    }
    if let Some((entries, refusal)) = too_many {
        return as_a_whole(taker.queue.admission(plan)?, entries, refusal);
    }
    match looked.kept.take() {
        Some(kept) => at_once(taker.queue.admission(plan)?, looked.examined, kept, rejected),
        None => {
            taker.queue.taking_is(taking.batch_id, TakingState::Taken)?;
            admit_taken(taker, plan, &taking, opened, (rules, context), &mut compared)
        }
    }
}

/// Finishes, or undoes, a taking that an earlier process left behind.
///
/// # Errors
///
/// As [`take_and_admit`].
pub fn resume_taking(
    taker: &Taker<'_>,
    taking: &Taking,
    mut plan: Plan,
    (rules, context): (&ManifestRules, &dyn EntryContext),
) -> Result<Admitted, AdmitError> {
    let displacement = match taker.resume(taking) {
        Ok(()) => None,
        Err(TakeError::Displaced(problem)) => Some(problem),
        Err(error) => return Err(error.into()),
    };
    plan.taken = Some(TakenAs { batch_id: taking.batch_id, work: taking.work.clone() });
    if let Some(problem) = displacement {
        return displaced(taker.queue, plan, problem);
    }
    let root = Root::open(Path::new(&taking.work.root)).map_err(Unready::Io)?;
    let manifest = join(&taking.work.path, &taking.manifest.path);
    let changed = |what: &str| {
        let reason = format!("the manifest {what} since it was taken");
        let cure = "let nobody change files in work_dir; drop the manifest and its files again";
        Problem::error(reason, cure).code(TAKEN_FILE_CHANGED)
    };
    let lists = taker.lists.filter(|_| taker.config.is_list(&taking.manifest.path));
    let opened = match lists {
        Some(lists) => lists.borrow_mut().open(&root, (&manifest, &taking.manifest.path), u64::MAX),
        None => examine::open(&root, &manifest, u64::MAX),
    };
    let mut opened = match opened {
        Ok(opened) if opened.sha256 == taking.manifest_sha256 => opened,
        Ok(_) => return displaced(taker.queue, plan, changed("has changed")),
        Err(Unready::Refused(Refusal::Missing)) if root.open_parent(&manifest).is_ok() => {
            return displaced(taker.queue, plan, changed("is gone"));
        }
        Err(error) => return Err(error.into()),
    };
    plan.layout = opened.layout.clone();
    if let Some(layout) = &plan.layout
        && taker.queue.has_other_entries(taking.batch_id, layout)?
    {
        let why = "the layout or a lookup of it has changed since a part of the list was taken in: put the earlier one back \
                   until the rest is in";
        return Err(Unready::Layout(why.to_owned()).into());
    }
    taker.queue.taking_is(taking.batch_id, TakingState::Taken)?;
    let mut compared = Comparison::new(taker.queue, &plan)?;
    admit_taken(taker, plan, taking, &mut opened, (rules, context), &mut compared)
}

/// Rejects a manifest whose files are partly in the work folder and cannot be put back.
fn displaced(queue: &Queue, plan: Plan, problem: Problem) -> Result<Admitted, AdmitError> {
    as_a_whole(queue.admission(plan)?, 0, vec![problem])
}

/// Admits a manifest from its work folder, in parts. Where it is refused as a whole, its files are in the drop still.
fn admit_taken(
    taker: &Taker<'_>,
    plan: Plan,
    taking: &Taking,
    opened: &mut OpenedManifest,
    (rules, context): (&ManifestRules, &dyn EntryContext),
    compared: &mut Comparison,
) -> Result<Admitted, AdmitError> {
    let folder = plan.policy.image_folder.clone();
    let rejected = taking.problems.as_ref().and_then(|problems| problems.first().cloned());
    let batch = taker.queue.admission(plan)?;
    if rejected.is_some() {
        return in_parts(
            batch,
            opened,
            (taker.root, &folder),
            (rules, context),
            (rejected, false),
            compared,
            BetweenParts::stops(taker.stopped),
        );
    }
    let mut rules = rules.clone();
    rules.work_dir = None;
    rules.limits.max_path_bytes = rules.limits.max_path_bytes.saturating_add(taking.work.path.len() + 1);
    let root = Root::open(Path::new(&taking.work.root)).map_err(Unready::Io)?;
    let folder = if folder.is_empty() { taking.work.path.clone() } else { join(&taking.work.path, &folder) };
    opened.files_moved(&root, &folder).map_err(Unready::Io)?;
    let context = TakenContext {
        within: context,
        reader: taker.reader,
        batch_id: taking.batch_id,
        drop: taker.root,
        work: &taking.work.path,
    };
    let between = BetweenParts::stops(taker.stopped);
    in_parts(batch, opened, (&root, &folder), (&rules, &context), (None, false), compared, between)
}

/// An entry of a manifest that is rejected: it is reported, and its files are archived, like those of the bad ones.
fn refused(admission: Admission) -> Admission {
    let (Admission::Take { entry, .. } | Admission::Known { entry, .. } | Admission::Unchanged { entry, .. }) =
        admission
    else {
        return admission;
    };
    let problem =
        Problem::error(WITH_OTHERS_IN_WORDS, "mend those, then drop the manifest again; or set on_invalid = \"skip\"")
            .code(WITH_OTHERS);
    Admission::Invalid {
        index: entry.index,
        kind: entry.kind(),
        profile_id: Some(entry.profile_id.to_string()),
        problems: vec![problem],
        paths: entry.sources().map(|source| source.path.to_string()).collect(),
        reference: entry.reference,
    }
}

/// In the place of the entry at which reading stopped.
fn unread(index: u64, problem: Problem) -> Admission {
    Admission::Invalid {
        index,
        kind: EntryKind::File,
        reference: None,
        profile_id: None,
        problems: vec![problem],
        paths: Vec::new(),
    }
}

#[derive(Default)]
struct Look {
    examined: ExaminedManifest,
    /// All entries, where they are few.
    kept: Option<Vec<ExaminedEntry>>,
    /// How many are invalid.
    invalid: u64,
    later: Option<HoldReason>,
    /// The bad entries, where they are too many.
    too_many: Option<BadEntries>,
}

impl Look {
    /// Why a drop that takes all or nothing refuses the manifest, if it does.
    fn rejection(&self) -> Option<Problem> {
        (self.invalid > 0).then(|| all_or_nothing(self.invalid, self.examined.entries))
    }
}

fn look(
    opened: &mut OpenedManifest,
    images: &Root,
    folder: &str,
    (rules, context): (&ManifestRules, &dyn EntryContext),
    policy: Policy,
    compared: &mut Comparison,
    (stopped, mut list): (&dyn Fn() -> bool, Option<&mut FileList<'_>>),
) -> Result<Look, AdmitError> {
    let mut look = Look { kept: Some(Vec::new()), ..Look::default() };
    let mut was_stopped = false;
    let mut failure = None;
    let mut bad = BadEntries::new(rules.max_invalid);
    let rejects = policy.on_invalid == OnInvalid::Reject;
    let examined = examine::examine_within(opened, images, folder, rules, (context, 0), &mut |mut found| {
        if stopped() {
            was_stopped = true;
            return ControlFlow::Break(());
        }
        if policy.wait_for_files && found.held.is_some() {
            look.later = found.held;
            return ControlFlow::Break(());
        }
        look.invalid += u64::from(matches!(found.admission, Admission::Invalid { .. }));
        if bad.count(&found.admission, found.line) {
            return ControlFlow::Break(());
        }
        if let Some(list) = &mut list
            && let Err(error) = list.add(&found, folder)
        {
            failure = Some(AdmitError::from(error));
            return ControlFlow::Break(());
        }
        let compare = || -> Result<(), CrossCheckError> {
            compared.remember(&found)?;
            if let Some(kept) = look.kept.as_mut().filter(|kept| kept.len() < KEPT) {
                kept.push(found);
                return Ok(());
            }
            // Where one bad entry rejects the manifest, one of a pair is enough to be found.
            for found in look.kept.take().iter_mut().flatten().chain([&mut found]).filter(|_| rejects) {
                look.invalid += u64::from(compared.warn(found, rules)?);
            }
            Ok(())
        };
        match compare() {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failure = Some(error.into());
                ControlFlow::Break(())
            }
        }
    })?;
    if let Some(failure) = failure {
        return Err(failure);
    }
    if was_stopped {
        return Err(AdmitError::Stopped);
    }
    compared.is_complete = look.later.is_none();
    for found in look.kept.iter_mut().flatten() {
        look.invalid += u64::from(compared.warn(found, rules)?);
    }
    look.too_many = bad.are_too_many().then_some(bad);
    if let Some(cut) = examined.cut.clone().filter(|_| policy.wait_for_files) {
        look.later.get_or_insert(HoldReason::NotWhole(cut));
    }
    look.examined = examined;
    Ok(look)
}

/// The entries of the manifest as compared with one another and with those of others.
struct Comparison {
    cross: CrossCheck,
    /// Whether all of them are known.
    is_complete: bool,
}

impl Comparison {
    fn new(queue: &Queue, plan: &Plan) -> Result<Self, QueueError> {
        Ok(Self { cross: CrossCheck::with_queue(queue, &plan.drop)?, is_complete: false })
    }

    /// Remembers an entry; gives what that says of earlier ones.
    fn remember(&mut self, found: &ExaminedEntry) -> Result<Vec<EntryWarning>, CrossCheckError> {
        let Some((entry, files)) = found.compared() else { return Ok(Vec::new()) };
        if self.is_complete {
            return Ok(Vec::new());
        }
        let earlier = self.cross.remember(entry, files)?.into_iter();
        let kept = |(index, problem)| Some(EntryWarning { index: Some(index), warning: Warning::of(&problem)? });
        Ok(earlier.filter_map(kept).collect())
    }

    /// Remembers all entries, where one must not be sent before those after it are known.
    fn remember_all(
        &mut self,
        opened: &OpenedManifest,
        (images, folder): (&Root, &str),
        rules: &ManifestRules,
        stopped: &dyn Fn() -> bool,
    ) -> Result<(), AdmitError> {
        if self.is_complete || !rules.refused.need_all_entries() {
            return Ok(());
        }
        let mut failure = None;
        examine::examine_all(opened, images, folder, rules, &NoContext, &mut |found| {
            failure = if stopped() { Some(AdmitError::Stopped) } else { self.remember(&found).err().map(Into::into) };
            if failure.is_none() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        self.is_complete = true;
        failure.map_or(Ok(()), Err)
    }

    /// Adds the warnings to a good entry; says whether it is invalid by that.
    fn warn(&self, found: &mut ExaminedEntry, rules: &ManifestRules) -> Result<bool, CrossCheckError> {
        let Admission::Take { entry, files } = &found.admission else { return Ok(false) };
        let warnings = self.cross.warnings(entry, files)?;
        found.warn(warnings, &rules.refused);
        Ok(matches!(found.admission, Admission::Invalid { .. }))
    }
}

impl From<CrossCheckError> for AdmitError {
    fn from(error: CrossCheckError) -> Self {
        match error {
            CrossCheckError::Io(error) => Self::Unready(error.into()),
            CrossCheckError::Queue(error) => Self::Queue(error),
        }
    }
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

/// Refuses a manifest of which nothing is being sent.
fn as_a_whole(batch: BatchAdmission, entries: u64, refusal: Vec<Problem>) -> Result<Admitted, AdmitError> {
    let unusable = Some(refusal);
    let batch_id = match batch.batch_id() {
        Some(_) => batch.seal(unusable.clone(), Timestamp::now())?,
        None => batch.admit_whole(Vec::new(), unusable.clone(), Timestamp::now())?,
    };
    Ok(Admitted { batch_id, entries, invalid: 0, warnings: 0, unusable })
}

fn at_once(
    mut batch: BatchAdmission,
    examined: ExaminedManifest,
    kept: Vec<ExaminedEntry>,
    rejected: Option<Problem>,
) -> Result<Admitted, AdmitError> {
    // Nothing of an unusable manifest counts, whatever was read of it.
    let kept = if examined.unusable.is_some() { Vec::new() } else { kept };
    batch.warn(examined.kept_warnings());
    batch.warn(kept.iter().flat_map(ExaminedEntry::kept_warnings));
    batch.come_from(kept.iter().filter_map(|found| Some((found.index(), found.source.clone()?))));
    let mut kept: Vec<_> = kept.into_iter().map(with_line).collect();
    let invalid = kept.iter().filter(|admission| matches!(admission, Admission::Invalid { .. })).count() as u64;
    if rejected.is_some() {
        kept = kept.into_iter().map(refused).collect();
    }
    let unusable = examined.unusable.or_else(|| rejected.map(|problem| vec![problem]));
    let warnings = batch.warned();
    let batch_id = batch.admit_whole(kept, unusable.clone(), Timestamp::now())?;
    Ok(Admitted { batch_id, entries: examined.entries, invalid, warnings, unusable })
}

fn in_parts(
    mut batch: BatchAdmission,
    opened: &mut OpenedManifest,
    (images, folder): (&Root, &str),
    (rules, context): (&ManifestRules, &dyn EntryContext),
    (rejected, wait_for_files): (Option<Problem>, bool),
    compared: &mut Comparison,
    between: BetweenParts<'_>,
) -> Result<Admitted, AdmitError> {
    let stopped = between.stopped;
    compared.remember_all(opened, (images, folder), rules, stopped)?;
    let (mut part, mut bytes, mut most, mut unchanged) = (Vec::new(), 0, FIRST_PART, 0);
    let of = batch.entries();
    let say = |batch: &BatchAdmission| {
        if let Some(batch_id) = batch.batch_id() {
            (between.admitted)(AdmittedPart { batch_id, entries: batch.admitted(), of });
        }
    };
    // What an earlier process took in.
    say(&batch);
    // A small share of the manifest.
    let share = of.and_then(|of| usize::try_from(of / 20).ok()).unwrap_or(PART);
    let largest = share.clamp(FIRST_PART, PART);
    let mut invalid = 0;
    let mut failure = None;
    let mut bad = BadEntries::new(rules.max_invalid);
    let skip = batch.admitted();
    let examined = examine::examine_within(opened, images, folder, rules, (context, skip), &mut |mut found| {
        if stopped() {
            failure = Some(AdmitError::Stopped);
            return ControlFlow::Break(());
        }
        if let Some(held) = found.held.clone().filter(|_| wait_for_files) {
            failure = Some(AdmitError::Later(held));
            return ControlFlow::Break(());
        }
        match compared.remember(&found).and_then(|earlier| compared.warn(&mut found, rules).map(|_| earlier)) {
            Ok(earlier) => batch.warn(earlier),
            Err(error) => {
                failure = Some(error.into());
                return ControlFlow::Break(());
            }
        }
        invalid += u64::from(matches!(found.admission, Admission::Invalid { .. }));
        if bad.count(&found.admission, found.line) {
            return ControlFlow::Break(());
        }
        match &found.admission {
            Admission::Take { files, .. } => bytes += files.iter().map(|file| file.bytes).sum::<u64>(),
            Admission::Unchanged { .. } => unchanged += 1,
            Admission::Known { .. } | Admission::Invalid { .. } => {}
        }
        batch.warn(found.kept_warnings());
        batch.come_from(found.source.clone().map(|source| (found.index(), source)));
        part.push(if rejected.is_some() { refused(with_line(found)) } else { with_line(found) });
        let worked = part.len() - unchanged;
        if worked < most && unchanged < UNCHANGED_PART && bytes < PART_BYTES {
            return ControlFlow::Continue(());
        }
        (bytes, most, unchanged) = (0, (most * 2).min(largest), 0);
        match batch.admit_part(std::mem::take(&mut part), Timestamp::now()) {
            Ok(()) => {
                say(&batch);
                ControlFlow::Continue(())
            }
            Err(error) => {
                failure = Some(error.into());
                ControlFlow::Break(())
            }
        }
    });
    if let Some(failure) = failure {
        return Err(failure);
    }
    let mut examined = examined?;
    if bad.are_too_many() {
        if !batch.has_jobs()? {
            return as_a_whole(batch, bad.read(), bad.refusal());
        }
        examined.entries = skip + bad.read();
        part.push(unread(examined.entries - 1, bad.rest_unread()));
    } else if examined.unusable.is_some() {
        part.clear();
    }
    batch.warn(examined.kept_warnings());
    batch.admit_part(part, Timestamp::now())?;
    if examined.unusable.is_none() && !bad.are_too_many() {
        batch.without(context.gone(batch.plan(), batch.batch_id())?);
    }
    let unusable = examined.unusable.or_else(|| rejected.map(|problem| vec![problem]));
    let warnings = batch.warned();
    let batch_id = batch.seal(unusable.clone(), Timestamp::now())?;
    Ok(Admitted { batch_id, entries: examined.entries, invalid, warnings, unusable })
}
