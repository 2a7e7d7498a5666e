//! Whether an entry whose queue was lost may have been created: decided from the profile's documents and from what is known.

use std::collections::{HashMap, HashSet};

use crate::{
    clock::Timestamp,
    outcome::{DocumentList, StandingDocument, normal_id},
};

/// How much later than the given moment something may have been created that is dated before it: clocks, time zones, and
/// dates without a time.
const MARGIN_MS: i64 = 24 * 60 * 60 * 1000;

/// An entry of which it is not known whether it was created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoubtfulEntry {
    /// Its job.
    pub job: i64,
    /// Of a document.
    pub category: String,
    /// Of a document.
    pub document_type: String,
    /// How many images it has.
    pub images: usize,
    /// The IDs of its images, where all are known.
    pub image_ids: Option<Vec<String>>,
}

/// What the profile's documents say of such an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DoubtReading {
    /// Nothing there can be it: it may be sent.
    Free,
    /// It is this one: its images are ours.
    Created(String),
    /// It may be one of these, which nobody knows.
    Fits(Vec<String>),
    /// The list does not show what is known to be there, so it proves nothing.
    Unproven,
}

/// Decides for all doubtful entries of one profile. `known` are the documents of which the queue knows that they were created
/// there, and `control` whether the account's lists were seen to show what is known: that counts where nothing is known here.
/// `since` is a moment before which none of the entries was sent.
#[must_use]
pub fn read(
    entries: &[DoubtfulEntry],
    list: &DocumentList,
    (known, control): (&[String], bool),
    since: Option<Timestamp>,
) -> Vec<(i64, DoubtReading)> {
    let standing = &list.documents;
    let shown: HashSet<String> = standing.iter().map(|document| normal_id(&document.id)).collect();
    let known: HashSet<String> = known.iter().map(|id| normal_id(id)).collect();
    let proven = list.doubts.is_empty() && known.is_subset(&shown) && (control || !known.is_empty());
    let unknown: Vec<&StandingDocument> =
        standing.iter().filter(|document| !known.contains(&normal_id(&document.id))).collect();
    let images = |ids: &[String]| ids.iter().map(|id| normal_id(id)).collect::<Vec<_>>();
    let mut ours: HashMap<i64, String> = HashMap::new();
    for entry in entries {
        let Some(ids) = entry.image_ids.as_deref().filter(|ids| !ids.is_empty()) else { continue };
        let mut same = unknown.iter().filter(|document| images(&document.image_ids) == images(ids));
        if let (Some(found), None) = (same.next(), same.next()) {
            ours.insert(entry.job, found.id.clone());
        }
    }
    let taken: HashSet<String> = ours.values().map(|id| normal_id(id)).collect();
    let reading = |entry: &DoubtfulEntry| {
        if let Some(id) = ours.get(&entry.job) {
            return DoubtReading::Created(id.clone());
        }
        let fits = unknown.iter().filter(|document| {
            !taken.contains(&normal_id(&document.id))
                && (document.category.is_empty() || document.category == entry.category)
                && (document.document_type.is_empty() || document.document_type == entry.document_type)
                && (document.unclear_images || document.image_ids.len() == entry.images)
                && !is_before(document, since)
        });
        let fits: Vec<String> = fits.map(|document| document.id.clone()).collect();
        match (fits.is_empty(), proven) {
            (false, _) => DoubtReading::Fits(fits),
            (true, true) => DoubtReading::Free,
            (true, false) => DoubtReading::Unproven,
        }
    };
    entries.iter().map(|entry| (entry.job, reading(entry))).collect()
}

/// The one document that an entry may be taken for without a person: it fits no other entry, and no other document fits.
#[must_use]
pub fn unique(readings: &[(i64, DoubtReading)]) -> HashMap<i64, String> {
    let mut wanted: HashMap<String, usize> = HashMap::new();
    for (_, reading) in readings {
        if let DoubtReading::Fits(ids) = reading {
            ids.iter().for_each(|id| *wanted.entry(normal_id(id)).or_default() += 1);
        }
    }
    let only = |reading: &DoubtReading| match reading {
        DoubtReading::Fits(ids) => match ids.as_slice() {
            [id] if wanted.get(&normal_id(id)) == Some(&1) => Some(id.clone()),
            _ => None,
        },
        _ => None,
    };
    readings.iter().filter_map(|(job, reading)| Some((*job, only(reading)?))).collect()
}

/// Whether all that the API says of a document's age is before the moment; what says nothing is not.
fn is_before(document: &StandingDocument, since: Option<Timestamp>) -> bool {
    match (since, document.newest_upload) {
        (Some(since), Some(newest)) => newest.0 < since.0.saturating_sub(MARGIN_MS),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::ListDoubt;

    fn entry(job: i64, images: usize, ids: Option<&[&str]>) -> DoubtfulEntry {
        let image_ids = ids.map(|ids| ids.iter().map(|id| (*id).to_owned()).collect());
        DoubtfulEntry { job, category: "A".into(), document_type: "B".into(), images, image_ids }
    }

    fn document(id: &str, category: &str, images: &[&str], newest: Option<i64>) -> StandingDocument {
        StandingDocument {
            id: id.into(),
            category: category.into(),
            document_type: "B".into(),
            image_ids: images.iter().map(|id| (*id).to_owned()).collect(),
            newest_upload: newest.map(Timestamp),
            unclear_images: false,
        }
    }

    fn list(documents: &[StandingDocument]) -> DocumentList {
        DocumentList { documents: documents.to_vec(), ..DocumentList::default() }
    }

    fn one(standing: &[StandingDocument], known: &[&str]) -> DoubtReading {
        let known: Vec<String> = known.iter().map(|id| (*id).to_owned()).collect();
        read(&[entry(1, 1, None)], &list(standing), (&known, true), None).remove(0).1
    }

    #[test]
    fn an_entry_is_free_where_no_unknown_document_can_be_it() {
        assert_eq!(one(&[], &[]), DoubtReading::Free);
        assert_eq!(one(&[document("d", "A", &["i"], None)], &["d"]), DoubtReading::Free);
        assert_eq!(one(&[document("d", "OTHER", &["i"], None)], &[]), DoubtReading::Free);
        assert_eq!(one(&[document("d", "A", &["i", "j"], None)], &[]), DoubtReading::Free);
        let upper = document("97653A07-A661-478A-BC79-ADB43B66C31E", "A", &["i"], None);
        assert_eq!(one(&[upper], &["urn:uuid:97653a07a661478abc79adb43b66c31e"]), DoubtReading::Free);
    }

    #[test]
    fn one_that_fits_is_offered_and_a_list_without_what_is_known_proves_nothing() {
        assert_eq!(one(&[document("d", "A", &["i"], None)], &[]), DoubtReading::Fits(vec!["d".into()]));
        assert_eq!(one(&[], &["d"]), DoubtReading::Unproven);
        assert_eq!(one(&[document("x", "A", &["i"], None)], &["d"]), DoubtReading::Fits(vec!["x".into()]));
        let doubtful =
            DocumentList { documents: Vec::new(), doubts: vec![ListDoubt::MorePages], ..DocumentList::default() };
        assert_eq!(read(&[entry(1, 1, None)], &doubtful, (&[], true), None).remove(0).1, DoubtReading::Unproven);
        // An empty list of an account whose lists show nothing proves nothing either.
        let blind =
            |known: &[String], shown| read(&[entry(1, 1, None)], &list(shown), (known, false), None).remove(0).1;
        assert_eq!(blind(&[], &[]), DoubtReading::Unproven);
        assert_eq!(blind(&["d".into()], &[document("d", "A", &["i"], None)]), DoubtReading::Free);
        // What says nothing of itself may be anything.
        assert_eq!(one(&[document("x", "", &["i"], None)], &[]), DoubtReading::Fits(vec!["x".into()]));
    }

    #[test]
    fn our_own_images_prove_which_it_is_and_leave_it_to_no_other() {
        let standing = list(&[document("d", "A", &["i"], None)]);
        let entries = [entry(1, 1, Some(&["i"])), entry(2, 1, None)];
        let readings = read(&entries, &standing, (&[], true), None);
        assert_eq!(readings, [(1, DoubtReading::Created("d".into())), (2, DoubtReading::Free)]);
    }

    #[test]
    fn one_is_unique_only_where_it_fits_nothing_else() {
        let fits = |ids: &[&str]| DoubtReading::Fits(ids.iter().map(|id| (*id).to_owned()).collect());
        assert_eq!(unique(&[(1, fits(&["d"])), (2, DoubtReading::Free)]), HashMap::from([(1, "d".into())]));
        assert!(unique(&[(1, fits(&["d"])), (2, fits(&["D"]))]).is_empty());
        assert!(unique(&[(1, fits(&["d", "e"]))]).is_empty());
    }

    #[test]
    fn a_moment_excludes_only_what_is_a_day_older() {
        let since = Some(Timestamp(10 * MARGIN_MS));
        let at = |newest| {
            read(&[entry(1, 1, None)], &list(&[document("d", "A", &["i"], newest)]), (&[], true), since).remove(0).1
        };
        assert_eq!(at(Some(9 * MARGIN_MS - 1)), DoubtReading::Free);
        assert_eq!(at(Some(9 * MARGIN_MS)), DoubtReading::Fits(vec!["d".into()]));
        assert_eq!(at(None), DoubtReading::Fits(vec!["d".into()]));
    }
}
