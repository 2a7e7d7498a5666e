//! Places at which a test may end the process as `kill -9` would: before and after each durable step.
//!
//! A testing aid. Nothing happens at them unless the environment variable `PASSFORT_INGEST_KILL_AT` is set when the
//! process starts, and then nothing that its parent process could not do with a signal:
//!
//! - `before.commit.claim` ends the process when it first reaches that place; `before.commit.claim:3` at the third
//!   time;
//! - `trace:FILE` appends the name of each place to the file instead, so that a test can check that it knows them all.
//!
//! A name is the moment, the kind of the step, and the step: `after.call.create_document`. The caller of the writer
//! names its commit; a commit that changed nothing has no places.
//!
//! Not for stopping in an orderly way, and not for making calls fail: the sandbox does that.

use std::{
    fs::OpenOptions,
    io::Write,
    path::PathBuf,
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
};

use rustix::process::{Signal, getpid, kill_process};

/// The environment variable that arms the places.
pub const VARIABLE: &str = "PASSFORT_INGEST_KILL_AT";

/// Every place that a worker reaches. A test compares this with what it traces.
///
/// An operator's command is one commit, and the command ends with it; so those are not listed, nor is the recovery of a
/// job whose worker died of a defect. A purge, which begins when files are days old, has its own, and is tried where it
/// is tested.
pub const PLACES: &[&str] = &[
    "before.call.create_document",
    "after.call.create_document",
    "before.call.read_documents",
    "after.call.read_documents",
    "before.call.upload_file",
    "after.call.upload_file",
    "before.call.upload_image",
    "after.call.upload_image",
    "before.call.whoami",
    "after.call.whoami",
    "before.commit.absent",
    "after.commit.absent",
    "before.commit.add_to_taking",
    "after.commit.add_to_taking",
    "before.commit.admit_part",
    "after.commit.admit_part",
    "before.commit.admit_whole",
    "after.commit.admit_whole",
    "before.commit.batch_closed",
    "after.commit.batch_closed",
    "before.commit.batch_trouble",
    "after.commit.batch_trouble",
    "before.commit.begin_taking",
    "after.commit.begin_taking",
    "before.commit.begin_start",
    "after.commit.begin_start",
    "before.commit.cancelled",
    "after.commit.cancelled",
    "before.commit.claim",
    "after.commit.claim",
    "before.commit.created",
    "after.commit.created",
    "before.commit.drop_trouble",
    "after.commit.drop_trouble",
    "before.commit.drop_watching",
    "after.commit.drop_watching",
    "before.commit.end_half_taken",
    "after.commit.end_half_taken",
    "before.commit.file_created",
    "after.commit.file_created",
    "before.commit.forget_arrivals",
    "after.commit.forget_arrivals",
    "before.commit.give_back",
    "after.commit.give_back",
    "before.commit.hold",
    "after.commit.hold",
    "before.commit.hold_files",
    "after.commit.hold_files",
    "before.commit.intend",
    "after.commit.intend",
    "before.commit.migrate",
    "after.commit.migrate",
    "before.commit.name_receipt",
    "after.commit.name_receipt",
    "before.commit.note_accounts",
    "after.commit.note_accounts",
    "before.commit.note_arrival",
    "after.commit.note_arrival",
    "before.commit.note_ground",
    "after.commit.note_ground",
    "before.commit.note_lineage",
    "after.commit.note_lineage",
    "before.commit.note_pace",
    "after.commit.note_pace",
    "before.commit.note_reading",
    "after.commit.note_reading",
    "before.commit.notes_done",
    "after.commit.notes_done",
    "before.commit.pause_account",
    "after.commit.pause_account",
    "before.commit.plan_notes",
    "after.commit.plan_notes",
    "before.commit.put_off",
    "after.commit.put_off",
    "before.commit.ready",
    "after.commit.ready",
    "before.commit.receipt_published",
    "after.commit.receipt_published",
    "before.commit.recover",
    "after.commit.recover",
    "before.commit.refuse",
    "after.commit.refuse",
    "before.commit.refuse_taking",
    "after.commit.refuse_taking",
    "before.commit.resume_account",
    "after.commit.resume_account",
    "before.commit.seal",
    "after.commit.seal",
    "before.commit.taking_is",
    "after.commit.taking_is",
    "before.commit.taking_undone",
    "after.commit.taking_undone",
    "before.commit.upload_stored",
    "after.commit.upload_stored",
    "before.mark.write",
    "after.mark.write",
    "before.note.commits",
    "after.note.commits",
    "before.note.in_doubt",
    "after.note.in_doubt",
    "before.publish.write",
    "after.publish.write",
    "after.publish.rename",
    "after.publish.sync",
    "before.publish_failed.write",
    "after.publish_failed.write",
    "after.publish_failed.rename",
    "after.publish_failed.sync",
    "before.publish_text.write",
    "after.publish_text.write",
    "after.publish_text.rename",
    "before.take.file",
    "before.take.copy",
    "after.take.file",
    "after.take.sync",
    "before.put_back.file",
    "after.put_back.file",
    "before.move.file",
    "after.move.file",
    "after.move.sync",
    "before.move.manifest",
    "after.move.manifest",
    "before.remove.file",
    "after.remove.file",
    "before.remove.manifest",
    "after.remove.manifest",
];

static ARMED: LazyLock<Option<Armed>> =
    LazyLock::new(|| Armed::parse(&std::env::var(VARIABLE).ok().filter(|text| !text.is_empty())?));

#[derive(Debug)]
enum Armed {
    /// End the process when this is reached for the n-th time.
    Kill { place: String, left: AtomicU32 },
    /// Append each name to the file.
    Trace(PathBuf),
}

impl Armed {
    fn parse(text: &str) -> Option<Self> {
        if let Some(file) = text.strip_prefix("trace:") {
            return Some(Self::Trace(file.into()));
        }
        let (place, times) = match text.split_once(':') {
            Some((place, times)) => (place, times.parse().ok().filter(|times| *times > 0)?),
            None => (text, 1),
        };
        Some(Self::Kill { place: place.to_owned(), left: AtomicU32::new(times) })
    }

    /// Whether the process is to end here.
    fn reach(&self, place: &str) -> bool {
        match self {
            Self::Kill { place: wanted, left } => {
                wanted == place
                    && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)) == Ok(1)
            }
            Self::Trace(file) => {
                if let Ok(mut file) = OpenOptions::new().create(true).append(true).open(file) {
                    // A line that is lost makes the test fail that asked for it, so it is not reported here.
                    file.write_all(format!("{place}\n").as_bytes()).ok();
                }
                false
            }
        }
    }
}

/// Whether the variable is set: for callers for which building the step's name has a cost.
pub(crate) fn armed() -> bool {
    ARMED.is_some()
}

/// The place before a durable step.
pub(crate) fn before(kind: &str, step: &str) {
    reach("before", kind, step);
}

/// The place after it, once it would survive the process.
pub(crate) fn after(kind: &str, step: &str) {
    reach("after", kind, step);
}

fn reach(moment: &str, kind: &str, step: &str) {
    let Some(armed) = &*ARMED else { return };
    if armed.reach(&format!("{moment}.{kind}.{step}")) {
        // Unlike an abort, this leaves no core file, in which customers' documents would be.
        kill_process(getpid(), Signal::KILL).ok();
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_ends_the_time_that_was_asked_for_and_nowhere_else() {
        let ends = |text: &str| {
            let armed = Armed::parse(text).unwrap();
            ["before.commit.claim", "after.commit.claim", "before.commit.claim", "before.commit.claim"]
                .map(|place| armed.reach(place))
        };
        assert_eq!(ends("before.commit.claim"), [true, false, false, false]);
        assert_eq!(ends("before.commit.claim:2"), [false, false, true, false]);
        assert_eq!(ends("before.commit"), [false; 4]);
        assert!(Armed::parse("before.commit.claim:0").is_none());
        assert!(Armed::parse("before.commit.claim:soon").is_none());
    }

    #[test]
    fn a_trace_has_every_place_in_order_and_ends_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("trace");
        let armed = Armed::parse(&format!("trace:{}", file.display())).unwrap();
        assert!(!armed.reach("before.x") && !armed.reach("after.x"));
        assert_eq!(std::fs::read_to_string(file).unwrap(), "before.x\nafter.x\n");
    }
}
