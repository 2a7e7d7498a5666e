//! Which uploads were handed over whole: written down before the last piece of a body goes out, so that a process that is
//! killed leaves behind exactly which answers it did not live to record.
//!
//! A file beside the database with a place for each upload that is under way. It is never synced, which costs a
//! thousandth of what a commit does: it has to outlive the process, not the machine. Where the machine was started
//! again, or the file is not to be trusted for any other reason, whoever recovers must count every upload that was in
//! hand. Nothing but that count rests on it: what is sent again is decided by the database alone.

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

use crate::killpoint;

/// One upload: whose, which, and how often its answer had been lost before, so that what is written of one try is not
/// taken for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Try {
    /// The job.
    pub job_id: i64,
    /// Which of its uploads.
    pub position: u32,
    /// How often its answer had been lost.
    pub lost: u32,
}

/// What an earlier process left behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Left {
    /// These were handed over whole, and no other.
    Exactly(Vec<Try>),
    /// Nobody knows.
    #[default]
    Unknown,
}

impl Left {
    /// Whether the API may have received this upload whole.
    #[must_use]
    pub fn may_have(&self, upload: &Try) -> bool {
        match self {
            Self::Exactly(tries) => tries.contains(upload),
            Self::Unknown => true,
        }
    }
}

/// The file's first bytes: its form, and the machine's start that it is good for.
const HEAD_BYTES: usize = 64;

/// A place: job, position, and earlier losses in little endian, and their hash. All zeros is a free one.
const PLACE_BYTES: usize = 24;

/// Places that there is room for from the start, so that a full disk does not matter until more are needed at once.
const PLACES: usize = 4096;

fn beside(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".handed-over");
    name.into()
}

/// A name for the time since the machine was started; none where the system does not say.
fn this_start() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

fn head(start: &str) -> Vec<u8> {
    let mut head = format!("passfort-ingest handed-over 1\n{start}").into_bytes();
    head.resize(HEAD_BYTES, 0);
    head
}

fn place_of(upload: &Try) -> [u8; PLACE_BYTES] {
    let mut place = [0; PLACE_BYTES];
    let (content, hash) = place.split_at_mut(16);
    let fields = upload.job_id.to_le_bytes().into_iter();
    let fields = fields.chain(upload.position.to_le_bytes()).chain(upload.lost.to_le_bytes());
    content.iter_mut().zip(fields).for_each(|(byte, field)| *byte = field);
    hash.copy_from_slice(&xxh3_64(content).to_le_bytes());
    place
}

fn read_place(place: &[u8]) -> Option<Try> {
    let job_id = i64::from_le_bytes(place.get(..8)?.try_into().ok()?);
    let position = u32::from_le_bytes(place.get(8..12)?.try_into().ok()?);
    let lost = u32::from_le_bytes(place.get(12..16)?.try_into().ok()?);
    let upload = Try { job_id, position, lost };
    (place_of(&upload) == place).then_some(upload)
}

/// What a file says, to a process that runs since this start of the machine.
fn parse(bytes: &[u8], start: &str) -> Left {
    let Some((found, places)) = bytes.split_at_checked(HEAD_BYTES) else { return Left::Unknown };
    if found != head(start) || places.len() < PLACES * PLACE_BYTES || places.len() % PLACE_BYTES != 0 {
        return Left::Unknown;
    }
    let written = places.chunks_exact(PLACE_BYTES).filter(|place| place.iter().any(|byte| *byte != 0));
    written.map(read_place).collect::<Option<_>>().map_or(Left::Unknown, Left::Exactly)
}

/// What an earlier process left behind beside this database.
#[must_use]
pub fn left(database: &Path) -> Left {
    let Some(start) = this_start() else { return Left::Unknown };
    let mut bytes = Vec::new();
    match File::open(beside(database)).and_then(|mut file| file.read_to_end(&mut bytes)) {
        Ok(_) => parse(&bytes, &start),
        Err(_) => Left::Unknown,
    }
}

/// Where a process writes down what it hands over. Clones share the places.
#[derive(Debug, Clone, Default)]
pub struct HandedOver {
    book: Option<Arc<Book>>,
}

#[derive(Debug)]
struct Book {
    path: PathBuf,
    file: File,
    places: Mutex<Places>,
    /// It could not be written to, so it says nothing any more.
    given_up: AtomicBool,
}

#[derive(Debug, Default)]
struct Places {
    free: Vec<u64>,
    used: u64,
}

impl HandedOver {
    /// Begins anew, with nothing handed over. The caller holds the database's lock, and has recovered what was
    /// [`left`]. Where the file cannot be written there will be none, so that a crash counts all that was in hand.
    #[must_use]
    pub fn begin(database: &Path) -> Self {
        let path = beside(database);
        let made = || -> io::Result<File> {
            let start = this_start().ok_or_else(|| io::Error::other("the system does not say when it was started"))?;
            let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&path)?;
            let mut bytes = head(&start);
            bytes.resize(HEAD_BYTES + PLACES * PLACE_BYTES, 0);
            file.write_all_at(&bytes, 0)?;
            Ok(file)
        };
        match made() {
            Ok(file) => {
                let book = Book { path, file, places: Mutex::default(), given_up: AtomicBool::new(false) };
                Self { book: Some(Arc::new(book)) }
            }
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "cannot note what is handed over: {CONSEQUENCE}");
                std::fs::remove_file(&path).ok();
                Self::default()
            }
        }
    }

    /// A place for an upload that is about to be sent. Nothing is written yet.
    #[must_use]
    pub fn place(&self, upload: Try) -> Place {
        let taken = self.book.clone().map(|book| {
            let at = book.take();
            (book, at)
        });
        Place { upload, taken, written: Arc::default() }
    }
}

const CONSEQUENCE: &str = "after a crash, every upload in hand counts as a possible leftover";

impl Book {
    fn places(&self) -> std::sync::MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> u64 {
        let mut places = self.places();
        places.free.pop().unwrap_or_else(|| {
            places.used += 1;
            places.used - 1
        })
    }

    fn write(&self, at: u64, place: &[u8; PLACE_BYTES]) {
        if let Err(error) = self.file.write_all_at(place, HEAD_BYTES as u64 + at * PLACE_BYTES as u64) {
            if !self.given_up.swap(true, Ordering::Relaxed) {
                tracing::warn!(file = %self.path.display(), %error, "cannot note what is handed over: {CONSEQUENCE}");
            }
            // A file that lacks something must not be believed.
            std::fs::remove_file(&self.path).ok();
        }
    }
}

/// The place of one upload that is under way. One that is dropped without a word keeps what it says, as it must where
/// nobody records what became of the upload.
#[derive(Debug)]
pub struct Place {
    upload: Try,
    taken: Option<(Arc<Book>, u64)>,
    written: Arc<AtomicBool>,
}

impl Place {
    /// What writes it down; to be called before the last piece goes out. It may block for as long as a write to the page
    /// cache does.
    pub fn pen(&self) -> impl FnOnce() + Send + Sync + use<> {
        let (upload, taken, written) = (self.upload, self.taken.clone(), Arc::clone(&self.written));
        move || {
            killpoint::before("note", "handed_over");
            if let Some((book, at)) = taken {
                written.store(true, Ordering::Relaxed);
                book.write(at, &place_of(&upload));
            }
            killpoint::after("note", "handed_over");
        }
    }

    /// Takes it back: the upload certainly created nothing.
    pub fn take_back(self) {
        if let Some((book, at)) = &self.taken
            && self.written.load(Ordering::Relaxed)
        {
            book.write(*at, &[0; PLACE_BYTES]);
        }
        self.recorded();
    }

    /// Gives it to another upload: what became of this one is on disk.
    pub fn recorded(self) {
        if let Some((book, at)) = self.taken {
            book.places().free.push(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upload(job_id: i64) -> Try {
        Try { job_id, position: 1, lost: 2 }
    }

    fn hand_over(handed_over: &HandedOver, job_id: i64) -> Place {
        let place = handed_over.place(upload(job_id));
        place.pen()();
        place
    }

    #[test]
    fn the_next_process_sees_what_was_handed_over_and_not_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("queue.db");
        assert_eq!(left(&database), Left::Unknown);
        let handed_over = HandedOver::begin(&database);
        assert_eq!(left(&database), Left::Exactly(vec![]));
        let _not_sent = handed_over.place(upload(1));
        drop(hand_over(&handed_over, 2));
        hand_over(&handed_over, 3).take_back();
        let kept = hand_over(&handed_over, 4);
        let Left::Exactly(mut tries) = left(&database) else { panic!("it is known") };
        tries.sort_by_key(|upload| upload.job_id);
        assert_eq!(tries, [upload(2), upload(4)]);
        assert!(left(&database).may_have(&upload(4)));
        assert!(!left(&database).may_have(&Try { lost: 3, ..upload(4) }));
        kept.recorded();
        let _in_its_place = hand_over(&handed_over, 5);
        assert_eq!(left(&database), Left::Exactly(vec![upload(2), upload(5)]));
        let _begun_anew = HandedOver::begin(&database);
        assert_eq!(left(&database), Left::Exactly(vec![]));
    }

    #[test]
    fn nothing_is_believed_after_a_restart_of_the_machine_or_of_a_damaged_file() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("queue.db");
        let handed_over = HandedOver::begin(&database);
        let _place = hand_over(&handed_over, 1);
        let bytes = std::fs::read(beside(&database)).unwrap();
        let start = this_start().unwrap();
        assert_eq!(parse(&bytes, &start), Left::Exactly(vec![upload(1)]));
        assert_eq!(parse(&bytes, "another start"), Left::Unknown);
        assert_eq!(parse(&bytes[..bytes.len() - 1], &start), Left::Unknown);
        assert_eq!(parse(&bytes[..HEAD_BYTES], &start), Left::Unknown);
        let mut damaged = bytes;
        damaged[HEAD_BYTES] ^= 1;
        assert_eq!(parse(&damaged, &start), Left::Unknown);
        assert!(Left::Unknown.may_have(&upload(7)));
    }

    #[test]
    fn where_nothing_can_be_noted_nothing_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("queue.db");
        std::fs::create_dir(beside(&database)).unwrap();
        let handed_over = HandedOver::begin(&database);
        hand_over(&handed_over, 1).recorded();
        assert_eq!(left(&database), Left::Unknown);

        let handed_over = HandedOver::default();
        hand_over(&handed_over, 1).take_back();
    }
}
