//! The life cycle of a job: its states, the events that change them, and the next step of a running one.
//!
//! Values and decisions only: no I/O, no clock, no randomness. The queue stores what is decided here; its database
//! refuses what [`JobState::after`] refuses, by a trigger that is generated from it.
//!
//! ```text
//! queued ──claimed──▶ running ──created──▶ done
//!   ▲                  │ │ │
//!   │◀──given back─────┘ │ └─refused──▶ failed ──retried──▶ queued
//!   │◀──due── waiting ◀──┘ put off
//! ```

use std::{fmt, time::Duration};

use serde::Serialize;

use crate::{
    entry::{EntryKind, ImageType, ProfileId, Sha256},
    problem::Problem,
};

/// The state of a job. The last four are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Waiting for a worker.
    Queued,
    /// A worker has it.
    Running,
    /// Waiting for a retry, a quota, another job or a read-back; the reason says which.
    Waiting,
    /// A person must decide.
    Held,
    /// Created, and the ID is on disk.
    Done,
    /// The same entry had been created before.
    Duplicate,
    /// Refused, or given up.
    Failed,
    /// A person stopped it.
    Cancelled,
}

impl JobState {
    /// Every state, in the order in which status reports list them.
    pub const ALL: [Self; 8] = [
        Self::Queued,
        Self::Running,
        Self::Waiting,
        Self::Held,
        Self::Done,
        Self::Duplicate,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The word in the queue, in commands and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Held => "held",
            Self::Done => "done",
            Self::Duplicate => "duplicate",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Whether nothing more happens to a job in this state by itself, and its batch need not wait for it.
    #[must_use]
    pub const fn has_ended(self) -> bool {
        matches!(self, Self::Done | Self::Duplicate | Self::Failed | Self::Cancelled)
    }

    /// The state after an event.
    ///
    /// # Errors
    ///
    /// [`IllegalTransition`] where the event cannot happen to a job in this state.
    pub const fn after(self, event: JobEvent) -> Result<Self, IllegalTransition> {
        use JobEvent as E;
        match (self, event) {
            (Self::Queued | Self::Waiting, E::Claimed) => Ok(Self::Running),
            (Self::Running, E::Created) => Ok(Self::Done),
            // A person says of a held job that its document was created.
            (Self::Held, E::Created) => Ok(Self::Done),
            (Self::Running, E::PutOff) => Ok(Self::Waiting),
            (Self::Running, E::GaveBack) | (Self::Waiting, E::Due) => Ok(Self::Queued),
            (Self::Running, E::Refused) => Ok(Self::Failed),
            (Self::Queued | Self::Waiting, E::EqualRefused) => Ok(Self::Failed),
            // After a loss of the database nobody knows of a job that has not ended whether it was created.
            (Self::Running | Self::Queued | Self::Waiting, E::Held) => Ok(Self::Held),
            (Self::Waiting, E::TwinCreated) => Ok(Self::Duplicate),
            (Self::Queued | Self::Running | Self::Waiting | Self::Held, E::Cancelled) => Ok(Self::Cancelled),
            (Self::Waiting | Self::Held | Self::Failed | Self::Cancelled, E::Retried) => Ok(Self::Queued),
            (Self::Done, E::Missed) => Ok(Self::Queued),
            (state, event) => Err(IllegalTransition { state, event }),
        }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What can happen to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobEvent {
    /// A worker took it.
    Claimed,
    /// The API's answer named what it created, or a read-back found it.
    Created,
    /// It must wait: for a retry, a quota or a read-back.
    PutOff,
    /// Its time has come.
    Due,
    /// A stop, a pause or a crash took it from its worker; that is no attempt.
    GaveBack,
    /// The API refused it for good, or the tries are used up.
    Refused,
    /// The API refused a job that asks for the same.
    EqualRefused,
    /// Only a person can decide.
    Held,
    /// The job with the same identity that it waited for was created.
    TwinCreated,
    /// A person stopped it.
    Cancelled,
    /// A person sent it on again.
    Retried,
    /// What it created is no longer there, and a person has it sent again.
    Missed,
}

impl JobEvent {
    pub const ALL: [Self; 12] = [
        Self::Claimed,
        Self::Created,
        Self::PutOff,
        Self::Due,
        Self::GaveBack,
        Self::Refused,
        Self::EqualRefused,
        Self::Held,
        Self::TwinCreated,
        Self::Cancelled,
        Self::Retried,
        Self::Missed,
    ];
}

/// An event that cannot happen to a job in this state: a defect, or another process was faster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a {state} job cannot be {event:?}")]
pub struct IllegalTransition {
    /// The state it is in.
    pub state: JobState,
    /// What was to happen.
    pub event: JobEvent,
}

/// What a waiting job waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitReason {
    /// The next try after a failed one.
    Retry,
    /// The API's or a configured limit.
    Quota,
    /// A file that is not as it was when it was checked.
    File,
    /// The time to ask the API whether a document whose answer was lost was created.
    ReadBack,
    /// Another job with the same identity.
    Twin,
}

impl WaitReason {
    pub const ALL: [Self; 5] = [Self::Retry, Self::Quota, Self::File, Self::ReadBack, Self::Twin];

    /// The word in the queue and in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Quota => "quota",
            Self::File => "file",
            Self::ReadBack => "read_back",
            Self::Twin => "twin",
        }
    }

    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|waits| waits.as_str() == word)
    }
}

/// How far the creation of a job's document has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Creation {
    /// Nothing has been sent that could have created it.
    None,
    /// It is about to be sent, or in flight. After a crash this counts as unknown.
    Intended,
    /// It was sent and the answer is lost: only a read-back can find out whether it was created.
    Unknown,
}

impl Creation {
    pub const ALL: [Self; 3] = [Self::None, Self::Intended, Self::Unknown];

    /// The word in the queue.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Intended => "intended",
            Self::Unknown => "unknown",
        }
    }

    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|creation| creation.as_str() == word)
    }
}

/// One image (or the one file) of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// Its place in the job, from 0.
    pub position: u32,
    /// As the manifest writes it.
    pub path: String,
    /// Which side it shows, where the sender gives it.
    pub image_type: Option<ImageType>,
    /// Its size when it was checked.
    pub bytes: u64,
    /// Its digest when it was checked.
    pub sha256: Sha256,
    /// Its XXH3 checksum when it was checked, with the database's seed: what sending compares with.
    pub checksum: u64,
    /// What its manifest declares of it.
    pub declared: Declared,
    /// The ID that the API gave; once it is here the image is never sent again.
    pub remote_id: Option<String>,
    /// How often its answer was lost.
    pub lost: u32,
    /// Where the file is, if it was moved and is to be sent after all.
    pub moved_to: Option<FileLocation>,
    /// Its digest when it was taken, where a person had another content of it accepted since.
    pub changed_from: Option<Sha256>,
}

/// What a manifest declares of a file, so that no other content may take its place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Declared {
    pub bytes: bool,
    pub sha256: bool,
}

impl Declared {
    /// As the queue keeps it.
    #[must_use]
    pub const fn bits(self) -> i64 {
        self.bytes as i64 + 2 * self.sha256 as i64
    }

    /// As the queue kept it.
    #[must_use]
    pub const fn of_bits(bits: i64) -> Self {
        Self { bytes: bits & 1 != 0, sha256: bits & 2 != 0 }
    }
}

/// Where a file is that was moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileLocation {
    /// An absolute folder that is trusted.
    pub root: String,
    /// The path below it, in which no link is followed.
    pub path: String,
}

/// A job as a worker holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    pub id: i64,
    /// The batch it belongs to.
    pub batch_id: i64,
    /// The drop it came from.
    pub drop_id: i64,
    pub kind: EntryKind,
    /// The profile it goes to.
    pub profile_id: ProfileId,
    /// Of a document.
    pub category: String,
    /// Of a document.
    pub document_type: String,
    /// Of a document: passed on as it is.
    pub extracted_data: Option<String>,
    /// Of a file.
    pub name: Option<String>,
    /// Its images, or its one file, in order.
    pub uploads: Vec<Upload>,
    /// The folder that its files are opened in.
    pub image_root: String,
    /// Whether that is in the work folder, as `(root, path)` of the batch's folder; no sender changes anything there.
    pub work: Option<FileLocation>,
    /// Where their paths start, relative to that; empty for the folder itself.
    pub image_folder: String,
    /// How long it may wait for a missing file; a setting of its drop.
    pub file_patience: Duration,
    /// The clock offset in force when `sent_at` was taken, or the job was claimed; see [`crate::clock::moved_ms`].
    pub clock_ms: i64,
    /// How far the document has come.
    pub creation: Creation,
    /// When the call that may have created the document ended, in milliseconds since 1970; after a crash, the next
    /// start. Before, when it was intended.
    pub sent_at: Option<i64>,
    /// Failed tries so far.
    pub attempts: u32,
    /// How long the tries and the waits between them have taken, in milliseconds.
    pub tried_ms: u64,
    /// For how long it has waited for a file, without anything else in between, in milliseconds.
    pub file_ms: u64,
    /// Why it need not be sent: the API has refused the same before.
    pub refused_before: Option<Problem>,
}

/// What a running job needs next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Send the uploads at these positions.
    Upload(Vec<u32>),
    /// Create the document.
    Create,
    /// Ask whether the document was created.
    ReadBack,
    /// Everything is there.
    Finish,
}

impl Job {
    /// The next step: whatever is not known to be done, images first, and never a second create before a read-back.
    #[must_use]
    pub fn next(&self) -> Next {
        let missing: Vec<u32> =
            self.uploads.iter().filter(|upload| upload.remote_id.is_none()).map(|upload| upload.position).collect();
        if !missing.is_empty() {
            return Next::Upload(missing);
        }
        match (self.kind, self.creation) {
            (EntryKind::File, _) => Next::Finish,
            (EntryKind::Document, Creation::None | Creation::Intended) => Next::Create,
            (EntryKind::Document, Creation::Unknown) => Next::ReadBack,
        }
    }

    /// The images' IDs in order, once all are known.
    #[must_use]
    pub fn image_ids(&self) -> Option<Vec<String>> {
        self.uploads.iter().map(|upload| upload.remote_id.clone()).collect()
    }
}

#[cfg(test)]
pub(crate) mod test_support {
    use super::*;
    use crate::entry::Sha256;

    /// An image, or a job's one file, that was not sent yet.
    pub(crate) fn upload(position: u32) -> Upload {
        Upload {
            position,
            path: format!("{position}.png"),
            image_type: None,
            bytes: 1,
            sha256: Sha256([0; 32]),
            checksum: 0,
            remote_id: None,
            lost: 0,
            moved_to: None,
            declared: Declared::default(),
            changed_from: None,
        }
    }

    /// A document of which nothing was sent yet, changed as the test needs it.
    pub(crate) fn job(change: impl FnOnce(&mut Job)) -> Job {
        let mut job = Job {
            id: 1,
            batch_id: 1,
            drop_id: 1,
            kind: EntryKind::Document,
            profile_id: ProfileId::parse("a2c4393a-e219-67a4-5ab4-2186952e9038").unwrap(),
            category: String::new(),
            document_type: String::new(),
            extracted_data: None,
            name: None,
            uploads: Vec::new(),
            image_root: "/drop".into(),
            work: None,
            image_folder: String::new(),
            file_patience: Duration::from_secs(1),
            clock_ms: 0,
            creation: Creation::None,
            sent_at: None,
            attempts: 0,
            tried_ms: 0,
            file_ms: 0,
            refused_before: None,
        };
        change(&mut job);
        job
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every state × every event, as a reader would want to see it.
    const TABLE: &str = "
                 Queued    Running   Waiting   Held      Done      Duplicate Failed    Cancelled
    Claimed      running   -         running   -         -         -         -         -
    Created      -         done      -         done      -         -         -         -
    PutOff       -         waiting   -         -         -         -         -         -
    Due          -         -         queued    -         -         -         -         -
    GaveBack     -         queued    -         -         -         -         -         -
    Refused      -         failed    -         -         -         -         -         -
    EqualRefused failed    -         failed    -         -         -         -         -
    Held         held      held      held      -         -         -         -         -
    TwinCreated  -         -         duplicate -         -         -         -         -
    Cancelled    cancelled cancelled cancelled cancelled -         -         -         -
    Retried      -         -         queued    queued    -         -         queued    queued
    Missed       -         -         -         -         queued    -         -         -
    ";

    #[test]
    fn every_state_and_event_is_as_the_table_says() {
        let rows: Vec<Vec<&str>> =
            TABLE.lines().map(|line| line.split_whitespace().collect()).filter(|row: &Vec<_>| row.len() == 9).collect();
        assert_eq!(rows.len(), JobEvent::ALL.len());
        for (row, event) in rows.iter().zip(JobEvent::ALL) {
            assert_eq!(row[0], format!("{event:?}"));
            for (cell, state) in row[1..].iter().zip(JobState::ALL) {
                let after = state.after(event).map_or("-", JobState::as_str);
                assert_eq!(*cell, after, "{state} × {event:?}");
            }
        }
    }

    #[test]
    fn only_a_person_leaves_an_end() {
        for state in JobState::ALL.into_iter().filter(|state| state.has_ended()) {
            for event in JobEvent::ALL {
                let left = state.after(event).is_ok();
                let may = match event {
                    JobEvent::Retried => matches!(state, JobState::Failed | JobState::Cancelled),
                    JobEvent::Missed => state == JobState::Done,
                    _ => false,
                };
                assert_eq!(left, may, "{state} × {event:?}");
            }
        }
    }

    #[test]
    fn words_read_back() {
        for state in JobState::ALL {
            assert_eq!(JobState::parse(state.as_str()), Some(state));
        }
        for waits in WaitReason::ALL {
            assert_eq!(WaitReason::parse(waits.as_str()), Some(waits));
        }
        for creation in Creation::ALL {
            assert_eq!(Creation::parse(creation.as_str()), Some(creation));
        }
        assert_eq!(JobState::parse("asleep"), None);
    }

    fn upload(position: u32, remote_id: Option<&str>) -> Upload {
        Upload { remote_id: remote_id.map(str::to_owned), ..test_support::upload(position) }
    }

    fn job(kind: EntryKind, uploads: Vec<Upload>, creation: Creation) -> Job {
        test_support::job(|job| (job.kind, job.uploads, job.creation) = (kind, uploads, creation))
    }

    #[test]
    fn an_image_with_an_id_is_never_asked_for_again() {
        let half = job(EntryKind::Document, vec![upload(0, Some("a")), upload(1, None)], Creation::None);
        assert_eq!(half.next(), Next::Upload(vec![1]));
        let whole = job(EntryKind::Document, vec![upload(0, Some("a")), upload(1, Some("b"))], Creation::None);
        assert_eq!(whole.next(), Next::Create);
        assert_eq!(whole.image_ids(), Some(vec!["a".into(), "b".into()]));
    }

    #[test]
    fn an_unknown_document_is_read_back_before_anything_else_is_sent() {
        let unknown = job(EntryKind::Document, vec![upload(0, Some("a"))], Creation::Unknown);
        assert_eq!(unknown.next(), Next::ReadBack);
    }

    #[test]
    fn a_file_is_done_with_its_one_upload() {
        assert_eq!(job(EntryKind::File, vec![upload(0, None)], Creation::None).next(), Next::Upload(vec![0]));
        assert_eq!(job(EntryKind::File, vec![upload(0, Some("f"))], Creation::None).next(), Next::Finish);
    }
}
