//! Which uploads are in doubt: sent completely, with an answer that is not recorded yet. Each is written to a log before
//! the last piece of its body goes out, so that a process that is killed leaves behind exactly which answers it lost.
//!
//! The log is a file beside the database with a slot for each upload in flight. It is never synced, which costs a
//! thousandth of what a commit does: it has to outlive the process, not the machine. After a restart of the machine, or
//! where the file cannot be trusted for any other reason, recovery counts every upload that was in flight. Nothing but
//! that count depends on the log: the database alone decides what is sent again.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use xxhash_rust::xxh3::xxh3_64;

use super::beside;
use crate::killpoint;

/// One try of an upload. The number of earlier losses keeps it apart from other tries of the same upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InDoubtEntry {
    /// The job.
    pub job_id: i64,
    /// Which of its uploads.
    pub position: u32,
    /// How often its answer had been lost.
    pub lost: u32,
}

/// What an earlier process left behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Recovered {
    /// Exactly these were sent completely.
    Exactly(Vec<InDoubtEntry>),
    /// Nobody knows.
    #[default]
    Unknown,
}

impl Recovered {
    /// Whether the API may have received all of this upload.
    #[must_use]
    pub(crate) fn may_have(&self, upload: &InDoubtEntry) -> bool {
        match self {
            Self::Exactly(entries) => entries.contains(upload),
            Self::Unknown => true,
        }
    }
}

/// The file's header: its format, and the boot of the machine that it is valid for.
const HEAD_BYTES: usize = 64;

/// A slot: job, position, and earlier losses in little endian, and their hash. All zeros is a free one.
const SLOT_BYTES: usize = 24;

/// Slots that are allocated when the file is made, so that a full disk does not matter until more are needed at once.
const SLOTS: usize = 4096;

/// How the name of the log ends.
const ENDING: &str = ".handed-over";

/// The identifier of this boot of the machine; `None` where the system does not say.
fn this_start() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

fn head(start: &str) -> Vec<u8> {
    let mut head = format!("passfort-ingest handed-over 1\n{start}").into_bytes();
    head.resize(HEAD_BYTES, 0);
    head
}

fn encode(upload: &InDoubtEntry) -> [u8; SLOT_BYTES] {
    let mut slot = [0; SLOT_BYTES];
    let (content, hash) = slot.split_at_mut(16);
    let fields = upload.job_id.to_le_bytes().into_iter();
    let fields = fields.chain(upload.position.to_le_bytes()).chain(upload.lost.to_le_bytes());
    content.iter_mut().zip(fields).for_each(|(byte, field)| *byte = field);
    hash.copy_from_slice(&xxh3_64(content).to_le_bytes());
    slot
}

fn decode(slot: &[u8]) -> Option<InDoubtEntry> {
    let job_id = i64::from_le_bytes(slot.get(..8)?.try_into().ok()?);
    let position = u32::from_le_bytes(slot.get(8..12)?.try_into().ok()?);
    let lost = u32::from_le_bytes(slot.get(12..16)?.try_into().ok()?);
    let upload = InDoubtEntry { job_id, position, lost };
    (encode(&upload) == slot).then_some(upload)
}

/// What a file says to a process that runs in this boot of the machine.
fn parse(bytes: &[u8], start: &str) -> Recovered {
    let Some((found, slots)) = bytes.split_at_checked(HEAD_BYTES) else { return Recovered::Unknown };
    if found != head(start) || slots.len() < SLOTS * SLOT_BYTES || slots.len() % SLOT_BYTES != 0 {
        return Recovered::Unknown;
    }
    let written = slots.chunks_exact(SLOT_BYTES).filter(|slot| slot.iter().any(|byte| *byte != 0));
    written.map(decode).collect::<Option<_>>().map_or(Recovered::Unknown, Recovered::Exactly)
}

/// What an earlier process left behind beside this database.
#[must_use]
pub(crate) fn read(database: &Path) -> Recovered {
    let Some(start) = this_start() else { return Recovered::Unknown };
    let mut bytes = Vec::new();
    match File::open(beside(database, ENDING)).and_then(|mut file| file.read_to_end(&mut bytes)) {
        Ok(_) => parse(&bytes, &start),
        Err(_) => Recovered::Unknown,
    }
}

/// The log of a process. Clones share the slots.
#[derive(Debug, Clone, Default)]
pub struct InDoubtLog {
    log: Option<Arc<LogFile>>,
}

#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    file: File,
    slots: Mutex<SlotAllocator>,
    /// A write failed, so the file was removed.
    given_up: AtomicBool,
}

#[derive(Debug, Default)]
struct SlotAllocator {
    free: Vec<u64>,
    used: u64,
}

impl InDoubtLog {
    /// Starts an empty log. The caller holds the database's lock, and has recovered what it [`read`]. Where the file cannot
    /// be written there is none, so that after a crash everything in flight counts.
    #[must_use]
    pub(crate) fn create(database: &Path) -> Self {
        let path = beside(database, ENDING);
        let made = || -> io::Result<File> {
            let start = this_start().ok_or_else(|| io::Error::other("the system does not say when it was started"))?;
            let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&path)?;
            let mut bytes = head(&start);
            bytes.resize(HEAD_BYTES + SLOTS * SLOT_BYTES, 0);
            file.write_all_at(&bytes, 0)?;
            Ok(file)
        };
        match made() {
            Ok(file) => {
                let log = LogFile { path, file, slots: Mutex::default(), given_up: AtomicBool::new(false) };
                Self { log: Some(Arc::new(log)) }
            }
            Err(error) => {
                tracing::warn!(what = %path.display(), %error, "cannot log which uploads are in doubt: {CONSEQUENCE}");
                std::fs::remove_file(&path).ok();
                Self::default()
            }
        }
    }

    /// A slot for an upload that is about to be sent. Nothing is written yet.
    #[must_use]
    pub(crate) fn slot(&self, upload: InDoubtEntry) -> Slot {
        let taken = self.log.clone().map(|log| {
            let at = log.take();
            (log, at)
        });
        Slot { upload, taken, written: Arc::default() }
    }
}

const CONSEQUENCE: &str = "after a crash, every upload in flight counts as a possible leftover";

impl LogFile {
    fn slots(&self) -> std::sync::MutexGuard<'_, SlotAllocator> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> u64 {
        let mut slots = self.slots();
        slots.free.pop().unwrap_or_else(|| {
            slots.used += 1;
            slots.used - 1
        })
    }

    fn write(&self, at: u64, slot: &[u8; SLOT_BYTES]) {
        if let Err(error) = self.file.write_all_at(slot, HEAD_BYTES as u64 + at * SLOT_BYTES as u64) {
            if !self.given_up.swap(true, Ordering::Relaxed) {
                tracing::warn!(what = %self.path.display(), %error, "cannot log which uploads are in doubt: {CONSEQUENCE}");
            }
            // A file that lacks an entry must not be trusted.
            std::fs::remove_file(&self.path).ok();
        }
    }
}

/// The slot of one upload in flight. One that is dropped keeps its entry, as it must where the upload's result is not
/// recorded.
#[derive(Debug)]
pub struct Slot {
    upload: InDoubtEntry,
    taken: Option<(Arc<LogFile>, u64)>,
    written: Arc<AtomicBool>,
}

impl Slot {
    /// Returns what marks the upload as sent; to be called before the last piece goes out. It may block for as long as a
    /// write to the page cache does.
    pub(crate) fn mark_sent(&self) -> impl FnOnce() + Send + Sync + use<> {
        let (upload, taken, written) = (self.upload, self.taken.clone(), Arc::clone(&self.written));
        move || {
            killpoint::before("note", "in_doubt");
            if let Some((log, at)) = taken {
                written.store(true, Ordering::Relaxed);
                log.write(at, &encode(&upload));
            }
            killpoint::after("note", "in_doubt");
        }
    }

    /// Removes the entry: the upload certainly created nothing.
    pub(crate) fn discard(self) {
        if let Some((log, at)) = &self.taken
            && self.written.load(Ordering::Relaxed)
        {
            log.write(*at, &[0; SLOT_BYTES]);
        }
        self.settle();
    }

    /// Frees the slot: the upload's result is in the database.
    pub(crate) fn settle(self) {
        if let Some((log, at)) = self.taken {
            log.slots().free.push(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upload(job_id: i64) -> InDoubtEntry {
        InDoubtEntry { job_id, position: 1, lost: 2 }
    }

    fn hand_over(log: &InDoubtLog, job_id: i64) -> Slot {
        let slot = log.slot(upload(job_id));
        slot.mark_sent()();
        slot
    }

    #[test]
    fn the_next_process_sees_what_was_handed_over_and_not_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("queue.db");
        assert_eq!(read(&database), Recovered::Unknown);
        let log = InDoubtLog::create(&database);
        assert_eq!(read(&database), Recovered::Exactly(vec![]));
        let _not_sent = log.slot(upload(1));
        drop(hand_over(&log, 2));
        hand_over(&log, 3).discard();
        let kept = hand_over(&log, 4);
        let Recovered::Exactly(mut entries) = read(&database) else { panic!("it is known") };
        entries.sort_by_key(|upload| upload.job_id);
        assert_eq!(entries, [upload(2), upload(4)]);
        assert!(read(&database).may_have(&upload(4)));
        assert!(!read(&database).may_have(&InDoubtEntry { lost: 3, ..upload(4) }));
        kept.settle();
        let _in_its_place = hand_over(&log, 5);
        assert_eq!(read(&database), Recovered::Exactly(vec![upload(2), upload(5)]));
        let _begun_anew = InDoubtLog::create(&database);
        assert_eq!(read(&database), Recovered::Exactly(vec![]));
    }

    #[test]
    fn nothing_is_trusted_after_a_restart_of_the_machine_or_of_a_damaged_file() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("queue.db");
        let log = InDoubtLog::create(&database);
        let _place = hand_over(&log, 1);
        let bytes = std::fs::read(beside(&database, ENDING)).unwrap();
        let start = this_start().unwrap();
        assert_eq!(parse(&bytes, &start), Recovered::Exactly(vec![upload(1)]));
        assert_eq!(parse(&bytes, "another start"), Recovered::Unknown);
        assert_eq!(parse(&bytes[..bytes.len() - 1], &start), Recovered::Unknown);
        assert_eq!(parse(&bytes[..HEAD_BYTES], &start), Recovered::Unknown);
        let mut damaged = bytes;
        damaged[HEAD_BYTES] ^= 1;
        assert_eq!(parse(&damaged, &start), Recovered::Unknown);
        assert!(Recovered::Unknown.may_have(&upload(7)));
    }

    #[test]
    fn where_nothing_can_be_noted_nothing_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("queue.db");
        std::fs::create_dir(beside(&database, ENDING)).unwrap();
        let log = InDoubtLog::create(&database);
        hand_over(&log, 1).settle();
        assert_eq!(read(&database), Recovered::Unknown);

        let log = InDoubtLog::default();
        hand_over(&log, 1).discard();
    }
}
