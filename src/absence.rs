//! Decides whether a document whose answer was lost exists, is certainly absent, or stays in doubt.
//!
//! Pure: what a list shows, what the queue knows, and how long ago the call ended go in; a [`Conclusion`] comes out.
//!
//! # Why it is safe
//!
//! With X (`[api] request_lives`) the longest that a request lives at the API after its call has ended, and Y
//! (`list_lag`) the longest that a created document stays out of the lists, whatever the call creates is in each list
//! that is asked for later than X + Y after its end. So an absence counts only in such a list, and only where that list
//! is certainly a complete and present one of this profile: it is understood in full, and it shows what must be there.
//! No number of earlier looks proves anything.
//!
//! # Rules, in their order
//!
//! 1. A document that has exactly the job's images, contradicts neither its category nor its type, and belongs to no
//!    other job is the job's, in whatever list it is found.
//! 2. Before the bound has passed, everything else is [`Conclusion::Wait`].
//! 3. A list that is doubtful proves nothing. After [`MOST_DOUBTS`] of them a person decides.
//! 4. Where a value beyond the bound was ever measured for the account, a person decides.
//! 5. A profile on which the queue knows no document needs a control: the list of another one, which shows a document
//!    that the queue knows there.

use std::{collections::BTreeSet, time::Duration};

use crate::outcome::{DocumentList, StandingDocument, normal_id};

/// So many doubtful readings beyond the bound, and the job is held.
pub const MOST_DOUBTS: u32 = 3;

/// The bound on lost answers, as it is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbsenceBounds {
    /// X + Y, or longer: so long after the end of a call an absence counts.
    pub absent_after: Duration,
    /// X: the longest that a request lives at the API after the end of its call.
    pub request_lives: Duration,
    /// Y: the longest that a created document stays out of the lists.
    pub list_lag: Duration,
}

impl AbsenceBounds {
    /// X + Y: what [`Observed::late`] is compared with.
    #[must_use]
    pub const fn late(&self) -> Duration {
        self.request_lives.saturating_add(self.list_lag)
    }

    /// What is promised, with its numbers.
    #[must_use]
    pub fn sentence(&self) -> String {
        format!(
            "a document is created once, as long as the API carries out no request later than {} s after its call has ended \
             (api.request_lives), and each created document is in the lists after {} s (api.list_lag)",
            self.request_lives.as_secs_f64(),
            self.list_lag.as_secs_f64()
        )
    }

    /// What has taken longer than the bound says, where something has.
    #[must_use]
    pub fn broken_by(&self, observed: &Observed) -> Option<String> {
        if observed.late > self.late() {
            return Some(format!(
                "a document appeared {} s after the end of its call, and api.request_lives + api.list_lag is {} s",
                seconds(observed.late),
                seconds(self.late())
            ));
        }
        (observed.lag > self.list_lag).then(|| {
            format!(
                "a created document was missing from a list after {} s, and api.list_lag is {} s",
                seconds(observed.lag),
                seconds(self.list_lag)
            )
        })
    }
}

/// The longest times that were measured for an account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Observed {
    /// From the end of a lost call to the last list without the document that was found afterwards.
    pub late: Duration,
    /// From an answered creation to the last list without its document.
    pub lag: Duration,
}

/// The document that a job asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SoughtDocument {
    /// As the job names it.
    pub category: String,
    /// As the job names it.
    pub document_type: String,
    /// The IDs of its images, as the API gave them.
    pub image_ids: Vec<String>,
    /// The ID that an answer to its creation had beside an error.
    pub answered_id: Option<String>,
}

/// A document that the queue created, as an answer or a list of the API said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownDocument {
    /// As the API gave it.
    pub id: String,
    /// Those that it was created with.
    pub image_ids: Vec<String>,
    /// How long before the list was asked for it was created.
    pub age: Duration,
}

/// The list of another profile, for one on which the queue knows no document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// The queue knows no document of the account elsewhere.
    Unavailable,
    /// There is one, and it was not read.
    Unread,
    /// It was read as late as this list, and shows the document that is known there.
    Shown,
    /// It was read and does not show it, for this reason.
    NotShown(String),
}

/// One reading of the list of a profile, with all that it is compared with.
#[derive(Debug, Clone, PartialEq)]
pub struct ListReading<'a> {
    /// What is searched.
    pub sought: &'a SoughtDocument,
    /// What the API answered.
    pub list: &'a DocumentList,
    /// What the queue created on this profile before the list was asked for, without what people said was created or
    /// removed.
    pub known: &'a [KnownDocument],
    /// The IDs of documents on this profile that belong to other jobs, also where a person said so.
    pub taken: &'a [String],
    /// Whether the list shows a document that the queue created on another profile.
    pub is_foreign: bool,
    /// What another profile's list says.
    pub control: &'a Control,
    /// How long after the end of the call the list was asked for; of the latest call, where other jobs sent the same
    /// images to this profile. `None` where it is not known.
    pub ended_for: Option<Duration>,
    /// Doubtful readings beyond the bound before this one.
    pub doubts: u32,
    /// As configured.
    pub bounds: &'a AbsenceBounds,
    /// As measured for the account.
    pub observed: Observed,
}

/// What follows from a reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conclusion {
    /// It exists, under this ID.
    Created(String),
    /// It certainly does not exist, and may be sent again.
    Absent,
    /// The list of another profile is needed, see [`Control`].
    NeedsControl,
    /// It may still appear, or the list proves nothing. A reading with a doubt counts in [`ListReading::doubts`].
    Wait {
        /// What is doubtful, for a person.
        doubt: Option<String>,
    },
    /// Only a person can decide.
    Held {
        /// What was seen.
        why: String,
        /// What a person can do.
        cure: String,
    },
}

/// Decides. The caller reads the list with no other creation in flight on the profile, and loads what the queue knows
/// before it asks for the list.
#[must_use]
pub fn decide(reading: &ListReading<'_>) -> Conclusion {
    let ours = normal_ids(&reading.sought.image_ids);
    let taken: BTreeSet<String> =
        reading.taken.iter().chain(reading.known.iter().map(|known| &known.id)).map(|id| normal_id(id)).collect();
    let unknown = || reading.list.documents.iter().filter(|document| !taken.contains(&normal_id(&document.id)));
    let given = reading.sought.answered_id.as_deref().map(normal_id);
    let is_ours = |document: &&StandingDocument| {
        !document.unclear_images && normal_ids(&document.image_ids) == ours && fits(document, reading.sought)
    };
    let is_given = |document: &&StandingDocument| Some(normal_id(&document.id)) == given;
    if !ours.is_empty()
        && let Some(found) = unknown().filter(is_ours).find(is_given).or_else(|| unknown().find(is_ours))
    {
        return Conclusion::Created(found.id.clone());
    }
    if reading.ended_for.is_none_or(|ended_for| ended_for < reading.bounds.absent_after) {
        return Conclusion::Wait { doubt: None };
    }
    if let Some((why, cure)) = about_the_list(reading, &ours, unknown(), given.is_some()) {
        return doubtful(reading, why, cure);
    }
    match missing(reading) {
        Some(Missing::MayLag) => return Conclusion::Wait { doubt: None },
        Some(Missing::Doubt(why)) => return doubtful(reading, why, REMOVED),
        None => {}
    }
    if let Some(why) = reading.bounds.broken_by(&reading.observed) {
        return Conclusion::Held {
            why: format!("the bound on lost answers does not hold: {why}"),
            cure: RAISE.to_owned(),
        };
    }
    match reading.control {
        _ if !reading.known.is_empty() => Conclusion::Absent,
        Control::Shown => Conclusion::Absent,
        Control::Unread => Conclusion::NeedsControl,
        Control::NotShown(why) => doubtful(reading, why.clone(), LOOK),
        Control::Unavailable => doubtful(
            reading,
            "the queue knows no document of this account that a list would have to show".to_owned(),
            NO_CONTROL,
        ),
    }
}

/// Whether a list shows this document with its images, and is understood in full. Else why not.
///
/// # Errors
///
/// The reason, for a person.
pub fn shows(list: &DocumentList, known: &KnownDocument) -> Result<(), String> {
    if let Some(doubt) = list.doubts.first() {
        return Err(format!("the list of another profile is not understood in full: {}", doubt.as_str()));
    }
    let id = normal_id(&known.id);
    let listed = list.documents.iter().find(|document| normal_id(&document.id) == id);
    match listed {
        Some(document) if normal_ids(&document.image_ids) == normal_ids(&known.image_ids) => Ok(()),
        Some(_) => Err(format!("the list of another profile shows the document {} with other images", known.id)),
        None => Err(format!("the list of another profile does not show the document {}", known.id)),
    }
}

const LOOK: &str = "look at the profile, then use `release --as-created ID` or `release --send-again`";
const REMOVED: &str = "where documents were removed on purpose, use `verify --accept-missing JOB`, then `retry`; else look at \
                       the profile and use `release`";
const RAISE: &str = "raise api.request_lives or api.list_lag above it, start again and use `retry`; or look at the \
                     profile and use `release`";
const NO_CONTROL: &str = "use `retry` once another document of the account was created; or look at the profile and use \
                          `release`";

fn doubtful(reading: &ListReading<'_>, why: String, cure: &str) -> Conclusion {
    if reading.doubts.saturating_add(1) >= MOST_DOUBTS {
        Conclusion::Held { why, cure: cure.to_owned() }
    } else {
        Conclusion::Wait { doubt: Some(why) }
    }
}

/// What makes the list doubtful by itself, with the cure.
fn about_the_list<'a>(
    reading: &ListReading<'_>,
    ours: &BTreeSet<String>,
    mut unknown: impl Iterator<Item = &'a StandingDocument>,
    is_given: bool,
) -> Option<(String, &'static str)> {
    if ours.is_empty() {
        return Some(("the IDs of its images are not known".to_owned(), LOOK));
    }
    if let Some(doubt) = reading.list.doubts.first() {
        return Some((format!("the profile's list of documents is not understood in full: {}", doubt.as_str()), LOOK));
    }
    if reading.is_foreign {
        return Some(("the list shows documents of another profile".to_owned(), LOOK));
    }
    if let Some(id) = reading.sought.answered_id.as_ref().filter(|_| is_given) {
        let why =
            format!("the API gave it the ID {id} beside an error, and the list shows no such document with its images");
        return Some((why, LOOK));
    }
    let similar = unknown.find(|document| {
        let overlaps = !normal_ids(&document.image_ids).is_disjoint(ours);
        let unclear = document.unclear_images || document.image_ids.is_empty();
        overlaps || unclear && fits(document, reading.sought)
    })?;
    Some((
        format!("the list shows the document {}, which might be it but does not have exactly its images", similar.id),
        LOOK,
    ))
}

enum Missing {
    /// Only such as are so young that they may be missing.
    MayLag,
    Doubt(String),
}

/// What the list does not show although it must.
fn missing(reading: &ListReading<'_>) -> Option<Missing> {
    let listed = |known: &KnownDocument| {
        let id = normal_id(&known.id);
        reading.list.documents.iter().find(|document| normal_id(&document.id) == id)
    };
    let missing: Vec<&KnownDocument> = reading.known.iter().filter(|known| listed(known).is_none()).collect();
    if let Some(old) = missing.iter().find(|known| known.age >= reading.bounds.list_lag) {
        let why = format!("the list does not show the document {}, which this queue created on the profile", old.id);
        return Some(Missing::Doubt(why));
    }
    if !missing.is_empty() {
        return Some(Missing::MayLag);
    }
    let has_its_images = |known: &KnownDocument| {
        listed(known).is_some_and(|seen| normal_ids(&seen.image_ids) == normal_ids(&known.image_ids))
    };
    let known = reading.known.first()?;
    (!reading.known.iter().any(has_its_images)).then(|| {
        Missing::Doubt(format!("the list shows the document {} with other images than it was created with", known.id))
    })
}

/// Whether a listed document does not contradict the category and the type. A list may leave them out.
fn fits(document: &StandingDocument, sought: &SoughtDocument) -> bool {
    let fits = |listed: &str, sought: &str| listed.is_empty() || listed.eq_ignore_ascii_case(sought);
    fits(&document.category, &sought.category) && fits(&document.document_type, &sought.document_type)
}

fn normal_ids(ids: &[String]) -> BTreeSet<String> {
    ids.iter().map(|id| normal_id(id)).collect()
}

fn seconds(time: Duration) -> u64 {
    // Rounded up, so that a value beyond the bound never looks equal to it.
    u64::try_from(time.as_millis().div_ceil(1000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "absence_tests.rs"]
mod tests;
