//! What decides about an entry and its files besides these themselves: what was created before, and who else wants them.

use std::ops::ControlFlow;

use crate::{
    claims::{EarlierTaking, NameClaim, is_spent},
    clock::Timestamp,
    config::DropConfig,
    entry::Entry,
    file_identity::FileIdentity,
    inbox::beneath::Root,
    policy::AfterSuccess,
    problem::Problem,
    queue::{
        Queue, QueueError, Reader,
        awaited::{FileSight, FirstSeen, InUse, InUseReason},
        batch::{GoneEntries, Plan},
        created_before::CreatedEntry,
        taken_before::TakenBefore,
    },
    relative_path::path_key,
};

/// A file that an entry names.
#[derive(Debug, Clone, Copy)]
pub struct WantedFile<'a> {
    /// Its path in the folder of images.
    pub path: &'a str,
    /// As the manifest writes it.
    pub written: &'a str,
    pub claim: NameClaim,
}

/// Whether an entry may have the file that is under the name.
#[derive(Debug, Clone, PartialEq)]
pub enum FileRight {
    Yes,
    /// It changed since its drop was last scanned.
    Changed,
    /// Another waiting manifest has a claim to it that comes first.
    InUse(Problem),
    /// It was taken by another manifest and stayed in its place; only another file is of use.
    Spent(Problem),
}

/// Answers for one manifest.
pub trait EntryContext {
    /// What was created under a reference, if that was.
    ///
    /// # Errors
    ///
    /// Those of the queue.
    fn created(&self, reference: &str) -> Result<Option<CreatedEntry>, QueueError>;

    /// Whether another waiting manifest names the file.
    fn is_contested(&self, path: &str) -> bool;

    /// Whether the manifest may have the file that is there.
    ///
    /// # Errors
    ///
    /// Those of the queue.
    fn right_to(&self, file: &WantedFile<'_>, identity: &FileIdentity, images: &Root) -> Result<FileRight, QueueError>;

    /// Why a file is not there, where another manifest has taken it.
    ///
    /// # Errors
    ///
    /// Those of the queue.
    fn taken_by_another(&self, file: &WantedFile<'_>, images: &Root) -> Result<Option<Problem>, QueueError>;

    /// The job that created the entry before, where nothing of it has changed since and its files are as they were taken.
    /// It needs no examination then, and no job.
    ///
    /// # Errors
    ///
    /// Those of the queue.
    fn unchanged_since(&self, _: &Entry, _: (&Root, &str)) -> Result<Option<i64>, QueueError> {
        Ok(None)
    }

    /// An entry of the manifest that an earlier process took in, which is not examined again.
    ///
    /// # Errors
    ///
    /// Those of the queue.
    fn passed_over(&self, _: &Entry) -> Result<(), QueueError> {
        Ok(())
    }

    /// What is gone from the list since it was last taken in, once all of it was read; `batch_id` is that of this time.
    ///
    /// # Errors
    ///
    /// Those of the queue.
    fn gone(&self, _: &Plan, _: Option<i64>) -> Result<Option<GoneEntries>, QueueError> {
        Ok(None)
    }

    /// What the file is in the drop that this one is a copy of.
    ///
    /// # Errors
    ///
    /// Those of the queue.
    fn copied_from(&self, _: &WantedFile<'_>) -> Result<Option<FileIdentity>, QueueError> {
        Ok(None)
    }

    /// Where what was not taken stayed of this folder, for the names of near files.
    fn stayed_in<'a>(&'a self, _: &'a str) -> Option<(&'a Root, &'a str)> {
        None
    }

    /// Where a file stayed that was not taken with its manifest: what was there in full was.
    fn left_behind<'a>(&'a self, _: &'a WantedFile<'_>) -> Option<(&'a Root, &'a str)> {
        None
    }
}

/// Nothing is known: every entry is new, and every file its own.
#[derive(Debug, Clone, Copy)]
pub struct NoContext;

impl EntryContext for NoContext {
    fn created(&self, _: &str) -> Result<Option<CreatedEntry>, QueueError> {
        Ok(None)
    }

    fn is_contested(&self, _: &str) -> bool {
        false
    }

    fn right_to(&self, _: &WantedFile<'_>, _: &FileIdentity, _: &Root) -> Result<FileRight, QueueError> {
        Ok(FileRight::Yes)
    }

    fn taken_by_another(&self, _: &WantedFile<'_>, _: &Root) -> Result<Option<Problem>, QueueError> {
        Ok(None)
    }
}

/// A manifest that was taken: what is in its work folder is its own.
pub(super) struct TakenContext<'a> {
    pub(super) within: &'a dyn EntryContext,
    pub(super) reader: &'a Reader,
    pub(super) batch_id: i64,
    /// The drop's folder.
    pub(super) drop: &'a Root,
    /// The work folder, as its files' paths begin.
    pub(super) work: &'a str,
}

impl TakenContext<'_> {
    /// The path that a file has in the drop.
    fn in_drop<'f>(&self, file: &WantedFile<'f>) -> &'f str {
        self.path_in_drop(file.path)
    }

    fn path_in_drop<'f>(&self, path: &'f str) -> &'f str {
        path.strip_prefix(self.work).map_or(path, |path| path.trim_start_matches('/'))
    }
}

impl EntryContext for TakenContext<'_> {
    fn created(&self, reference: &str) -> Result<Option<CreatedEntry>, QueueError> {
        self.within.created(reference)
    }

    fn is_contested(&self, path: &str) -> bool {
        NoContext.is_contested(path)
    }

    fn right_to(&self, file: &WantedFile<'_>, identity: &FileIdentity, images: &Root) -> Result<FileRight, QueueError> {
        NoContext.right_to(file, identity, images)
    }

    fn taken_by_another(&self, file: &WantedFile<'_>, images: &Root) -> Result<Option<Problem>, QueueError> {
        let path = self.in_drop(file);
        let taken = self.within.taken_by_another(&WantedFile { path, ..*file }, images)?;
        // It was left in the drop, and what is examined again is in the work folder.
        let left =
            || Problem::error("the file is in use by another manifest", CURE).path(file.written).code(NAME_IN_USE);
        Ok(taken.or_else(|| self.within.is_contested(path).then(left)))
    }

    fn copied_from(&self, file: &WantedFile<'_>) -> Result<Option<FileIdentity>, QueueError> {
        self.reader.copied_from(self.batch_id, self.in_drop(file))
    }

    fn stayed_in<'f>(&'f self, folder: &'f str) -> Option<(&'f Root, &'f str)> {
        Some((self.drop, self.path_in_drop(folder)))
    }

    fn left_behind<'f>(&'f self, file: &'f WantedFile<'_>) -> Option<(&'f Root, &'f str)> {
        Some((self.drop, self.in_drop(file)))
    }
}

/// A manifest that waits in a drop.
#[derive(Clone, Copy)]
pub(super) struct DropContext<'a> {
    pub(super) queue: &'a Queue,
    pub(super) reader: &'a Reader,
    pub(super) config: &'a DropConfig,
    pub(super) manifest: &'a str,
    pub(super) seen: FirstSeen,
    /// Whether the file system's clock is this machine's.
    pub(super) own_clock: bool,
}

impl DropContext<'_> {
    pub(super) fn key(&self, path: &str) -> i64 {
        path_key(&self.config.path, "", path)
    }

    /// The manifest that took a file last, where it is not settled and means the same profile. What it took is its own: a
    /// sender may use the name for the next picture of that customer.
    pub(super) fn taken_for_the_same(&self, file: &WantedFile<'_>) -> Result<Option<String>, QueueError> {
        let mut by = None;
        self.reader.taken_before(self.key(file.path), |taken| {
            if taken.is_open && taken.claim.profile == file.claim.profile {
                by = Some(taken.manifest);
            }
            ControlFlow::Break(())
        })?;
        Ok(by)
    }
}

impl EntryContext for DropContext<'_> {
    fn created(&self, reference: &str) -> Result<Option<CreatedEntry>, QueueError> {
        self.reader.created_before(&self.config.name, reference)
    }

    fn is_contested(&self, path: &str) -> bool {
        self.queue.awaited().is_contested(&self.config.name, self.manifest, self.key(path))
    }

    fn right_to(&self, file: &WantedFile<'_>, identity: &FileIdentity, images: &Root) -> Result<FileRight, QueueError> {
        let (awaited, drop, key) = (self.queue.awaited(), self.config.name.as_str(), self.key(file.path));
        if !awaited.is_as_seen(drop, key, FileSight::of(identity, images.keeps_numbers())) {
            return Ok(FileRight::Changed);
        }
        if let Some(in_use) = awaited.owner(drop, self.manifest, key, file.claim) {
            return Ok(FileRight::InUse(in_use_problem(&in_use, file.written)));
        }
        let mut spent = None;
        let mut rows = 0;
        self.reader.taken_before(key, |taken| {
            // What was put away is not there any more.
            let stays = self.config.after_success == AfterSuccess::Keep;
            let is_this_file = is_what_was_taken(&taken, identity, images, stays && self.own_clock);
            if is_spent(file.claim, &EarlierTaking { claim: taken.claim, is_this_file }) {
                spent = Some(taken_problem(&taken, "the file is in use by", file.written));
                return ControlFlow::Break(());
            }
            rows += 1;
            if is_this_file && rows < MOST_TAKINGS { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(spent.map_or(FileRight::Yes, FileRight::Spent))
    }

    fn taken_by_another(&self, file: &WantedFile<'_>, _: &Root) -> Result<Option<Problem>, QueueError> {
        let (mut by, mut rows) = (None, 0);
        self.reader.taken_before(self.key(file.path), |taken| {
            rows += 1;
            if taken.at < self.seen.at || rows > MOST_TAKINGS {
                return ControlFlow::Break(());
            }
            if !file.claim.excludes(&taken.claim) {
                return ControlFlow::Continue(());
            }
            by = Some(taken_problem(&taken, "the file that was there is in use by", file.written));
            ControlFlow::Break(())
        })?;
        Ok(by)
    }
}

/// So many takings of one name are compared: those that shared the file that is there.
pub(super) const MOST_TAKINGS: u32 = 1000;

/// Whether a file that is there is the one that an earlier manifest took. `by_time`: whether the time of its last change
/// says so too, since it stayed in its place, on a file system with this machine's clock.
pub(super) fn is_what_was_taken(taken: &TakenBefore, identity: &FileIdentity, images: &Root, by_time: bool) -> bool {
    taken.file.as_ref().is_some_and(|seen| images.is_as_it_was(seen, identity))
        || by_time && Timestamp(identity.ctime_ns.div_euclid(1_000_000)) <= taken.at
}

const CURE: &str = "name each customer's files differently, or declare `sha256` in each manifest";

/// What is wrong with a name that serves another manifest.
pub(super) fn in_use_problem(in_use: &InUse, written: &str) -> Problem {
    let InUse { by, why, .. } = in_use;
    let cure = match why {
        InUseReason::Taken => format!("send it again; {CURE}"),
        InUseReason::Earlier | InUseReason::Replaced | InUseReason::Unclear | InUseReason::Large => CURE.to_owned(),
    };
    let reason = match why {
        InUseReason::Earlier => {
            format!("the file is in use by another manifest: {by}, which was there first, names it for another profile")
        }
        InUseReason::Replaced | InUseReason::Unclear => format!(
            "the file is in use by another manifest: {by} names it for another profile, and it is not known for which \
             of the two it was put there"
        ),
        InUseReason::Taken => format!("the file is in use by another manifest: {by} took it for another profile"),
        InUseReason::Large => format!(
            "the file may be in use by another manifest: {by} names too many files to compare them, and is taken first"
        ),
    };
    Problem::error(reason, cure).path(written).code(NAME_IN_USE)
}

/// The same where an earlier manifest of an import names the file.
pub(super) fn named_earlier(by: String, file: &WantedFile<'_>) -> Problem {
    in_use_problem(&InUse { path: file.path.to_owned(), by, why: InUseReason::Earlier }, file.written)
}

fn taken_problem(taken: &TakenBefore, what: &str, written: &str) -> Problem {
    let reason = format!("{what} another manifest: {} took it for another profile", taken.manifest);
    Problem::error(reason, format!("send it again; {CURE}")).path(written).code(NAME_IN_USE)
}

/// The stable name of the reason that a name serves another manifest.
pub(super) const NAME_IN_USE: &str = "name-in-use";
