//! Compares what the queue recorded as created on a profile with what the API lists there.
//!
//! Pure. Images are matched by their IDs alone: the API gives neither digest nor size, and the dates that it gives
//! differ between answers.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;

use crate::{
    entry::EntryKind,
    job::JobState,
    outcome::{StandingDocument, normal_id},
    queue::views::created::{CreatedJob, Sending},
};

/// What is wrong with one document or image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A document that was created is no longer on its profile.
    Missing,
    /// It exists, but not as it was created.
    Changed,
    /// The profile cannot be read.
    Unreadable,
    /// The profile has several documents with the same images.
    Doubled,
    /// A document that no job knows of.
    UnknownDocument,
    /// An image that no document uses.
    UnusedImage,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub finding: What,
    /// The job that it is about, where there is one.
    pub job: Option<i64>,
    /// The sender's key of that job.
    pub reference: Option<String>,
    /// The document or image.
    pub id: Option<String>,
    /// Of doubled documents: all of them, the job's own first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
    pub detail: String,
}

/// What was seen, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct VerifyTotals {
    /// Profiles that were read.
    pub profiles: u64,
    /// Profiles that could not be read.
    pub unreadable_profiles: u64,
    /// Documents that were created, on the profiles that were read.
    pub documents: u64,
    /// Of these, documents that exist as they were created.
    pub standing: u64,
    /// Of these, documents that no longer exist.
    pub missing: u64,
    /// Of these, documents with other images, or under another ID.
    pub changed: u64,
    /// Of these, documents that a person says were removed on purpose, and that are not looked for.
    pub removed: u64,
    /// How many sets of images more than one document has.
    pub doubled: u64,
    /// Documents that no job knows of.
    pub unknown_documents: u64,
    /// Files that were uploaded; the API has no list of files, so that whether they exist cannot be checked.
    pub files_not_checked: u64,
    /// How many answers to uploads of images were lost: what may be left over at most.
    pub possible_leftovers: u64,
    /// Images that no document uses and no job knows of; of each profile, as many at most as answers were lost there.
    pub leftover_images: u64,
    /// More such images: put there by others.
    pub foreign_images: u64,
    /// Images that no document uses, of jobs that ended without a document.
    pub images_of_failed_jobs: u64,
    /// Images that no document uses yet, of jobs that have not ended, and as many that no job knows of as are being
    /// uploaded.
    pub images_under_way: u64,
}

impl VerifyTotals {
    /// Adds another profile's.
    pub const fn add(&mut self, other: &Self) {
        self.profiles += other.profiles;
        self.unreadable_profiles += other.unreadable_profiles;
        self.documents += other.documents;
        self.standing += other.standing;
        self.missing += other.missing;
        self.changed += other.changed;
        self.removed += other.removed;
        self.doubled += other.doubled;
        self.unknown_documents += other.unknown_documents;
        self.files_not_checked += other.files_not_checked;
        self.possible_leftovers += other.possible_leftovers;
        self.leftover_images += other.leftover_images;
        self.foreign_images += other.foreign_images;
        self.images_of_failed_jobs += other.images_of_failed_jobs;
        self.images_under_way += other.images_under_way;
    }

    /// Whether every document exists as it was created, and once. What others put there is nothing wrong.
    #[must_use]
    pub const fn is_well(&self) -> bool {
        self.missing + self.changed + self.doubled + self.unreadable_profiles == 0
    }
}

/// What the queue knows of a profile, while a worker may be at work there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownJobs {
    /// The jobs of this account before the API was asked: what they had created then must exist.
    pub before: Vec<CreatedJob>,
    /// The same after it had answered: whatever it listed of theirs is known by now, or still being uploaded.
    pub after: Vec<CreatedJob>,
    /// The jobs of other accounts on the same profile, after it had answered. Their documents are not asked for here.
    pub others: Vec<CreatedJob>,
    /// Uploads that were in flight when the API was asked, and still are.
    pub sending: HashSet<Sending>,
}

impl KnownJobs {
    /// What the queue knew before the API was asked.
    #[must_use]
    pub fn before(before: Vec<CreatedJob>) -> Self {
        Self { before, ..Self::default() }
    }

    /// Adds what the queue knows at a later moment; `is_ours` selects the jobs of this account. An upload that began
    /// after the first such moment is in no list that was made before.
    pub fn learn(&mut self, now: Vec<CreatedJob>, is_ours: impl Fn(&CreatedJob) -> bool, is_first: bool) {
        let sending: HashSet<Sending> = now.iter().flat_map(|job| job.sending.iter().copied()).collect();
        if is_first {
            self.sending = sending;
        } else {
            self.sending.retain(|upload| sending.contains(upload));
        }
        (self.after, self.others) = now.into_iter().partition(is_ours);
    }

    /// The images of a list that no document uses and no job knows of, in their normal form.
    #[must_use]
    pub fn unknown(&self, standing: &[StandingDocument], images: &[String]) -> Vec<String> {
        let by_image = self.by_image();
        unused(standing, images).into_keys().filter(|id| !by_image.contains_key(id)).collect()
    }

    /// The jobs by the document that each has created, in their normal form.
    fn owners(&self) -> HashMap<String, &CreatedJob> {
        let jobs = self.before.iter().chain(&self.others).chain(&self.after);
        jobs.filter_map(|job| Some((normal_id(job.remote_id.as_ref()?), job))).collect()
    }

    fn by_image(&self) -> HashMap<String, &CreatedJob> {
        let jobs = self.after.iter().chain(&self.others);
        jobs.flat_map(|job| normal(&job.images).map(move |id| (id, job))).collect()
    }
}

/// The images that no document uses, as they are listed, by their normal form. The same image may be listed twice.
fn unused<'a>(standing: &[StandingDocument], images: &'a [String]) -> BTreeMap<String, &'a String> {
    let used: HashSet<String> = standing.iter().flat_map(|document| normal(&document.image_ids)).collect();
    normal(images).zip(images).filter(|(id, _)| !used.contains(id)).collect()
}

/// Compares one profile: its documents, and the IDs of all its images.
#[must_use]
pub fn compare(known: &KnownJobs, standing: &[StandingDocument], images: &[String]) -> (VerifyTotals, Vec<Finding>) {
    let mut sum = VerifyTotals { profiles: 1, ..VerifyTotals::default() };
    let mut findings = Vec::new();
    let by_id: HashMap<String, &StandingDocument> =
        standing.iter().map(|document| (normal_id(&document.id), document)).collect();
    let done: Vec<&CreatedJob> = known.before.iter().filter(|job| job.state == JobState::Done).collect();
    for &job in &done {
        if job.kind == EntryKind::File {
            sum.files_not_checked += 1;
            continue;
        }
        sum.documents += 1;
        if job.removed {
            sum.removed += 1;
            continue;
        }
        match mismatch(job, &by_id, standing) {
            None => sum.standing += 1,
            Some(finding) => {
                *(if finding.finding == What::Missing { &mut sum.missing } else { &mut sum.changed }) += 1;
                findings.push(finding);
            }
        }
    }
    findings.extend(doubled(known, standing));
    sum.doubled =
        u64::try_from(findings.iter().filter(|finding| finding.finding == What::Doubled).count()).unwrap_or(0);
    let strangers = unknown_documents(known, standing);
    sum.unknown_documents = u64::try_from(strangers.len()).unwrap_or(u64::MAX);
    findings.extend(strangers);
    sum.possible_leftovers = known.after.iter().map(|job| job.lost).sum();
    let were_done: HashSet<i64> = done.iter().map(|job| job.job).collect();
    let by_image = known.by_image();
    let mut unknown = 0_u64;
    for (id, listed) in unused(standing, images) {
        let job = by_image.get(&id).copied();
        let detail = match job {
            None if known.sending.is_empty() => {
                unknown += 1;
                "no job knows of it: the answer to its upload was lost, or it was put there by other means".to_owned()
            }
            None => {
                unknown += 1;
                "no job knows of it yet: it is being uploaded, or the answer to its upload was lost, or it was put there \
                 by other means"
                    .to_owned()
            }
            // Its document was made after the list of documents.
            Some(job) if job.state == JobState::Done && !were_done.contains(&job.job) => {
                sum.images_under_way += 1;
                format!("job {} has used it meanwhile", job.job)
            }
            Some(job) if job.state.has_ended() => {
                sum.images_of_failed_jobs += 1;
                format!("it was uploaded for job {}, which is {}", job.job, job.state)
            }
            Some(job) => {
                sum.images_under_way += 1;
                format!("job {} will use it, which is {}", job.job, job.state)
            }
        };
        findings.push(Finding {
            finding: What::UnusedImage,
            job: job.map(|job| job.job),
            reference: job.and_then(|job| job.reference.clone()),
            id: Some(listed.clone()),
            ids: Vec::new(),
            detail,
        });
    }
    let being_sent = unknown.min(u64::try_from(known.sending.len()).unwrap_or(u64::MAX));
    sum.images_under_way += being_sent;
    unknown -= being_sent;
    sum.leftover_images = sum.possible_leftovers.min(unknown);
    sum.foreign_images = unknown - sum.leftover_images;
    (sum, findings)
}

/// What is wrong with a job's document, if anything.
fn mismatch(
    job: &CreatedJob,
    by_id: &HashMap<String, &StandingDocument>,
    standing: &[StandingDocument],
) -> Option<Finding> {
    let id = job.remote_id.clone().unwrap_or_default();
    let ours: HashSet<String> = normal(&job.images).collect();
    let has_ours = |document: &StandingDocument| normal(&document.image_ids).collect::<HashSet<_>>() == ours;
    let (finding, detail) = match by_id.get(&normal_id(&id)) {
        // Where a person released it as created, its images are not known, or others were uploaded since a restore.
        Some(document) if job.released || ours.is_empty() || has_ours(document) => return None,
        Some(document) => {
            let (theirs, own) = (document.image_ids.len(), ours.len());
            (What::Changed, format!("the document exists with other images: {theirs}, and {own} were put into it"))
        }
        None => match standing.iter().find(|document| !ours.is_empty() && has_ours(document)) {
            Some(other) => (What::Changed, format!("a document with its images exists under the ID {}", other.id)),
            None => (What::Missing, "the document is not among the profile's".to_owned()),
        },
    };
    Some(Finding {
        finding,
        job: Some(job.job),
        reference: job.reference.clone(),
        id: Some(id),
        ids: Vec::new(),
        detail,
    })
}

/// The IDs of a document's images in their normal form and in order, each once.
fn image_set(ids: &[String]) -> Vec<String> {
    let mut set: Vec<String> = normal(ids).collect();
    set.sort_unstable();
    set.dedup();
    set
}

/// Documents that have the same images, where not each of them is another job's own.
fn doubled(known: &KnownJobs, standing: &[StandingDocument]) -> Vec<Finding> {
    let mut by_images: BTreeMap<Vec<String>, Vec<&StandingDocument>> = BTreeMap::new();
    for document in standing.iter().filter(|document| !document.image_ids.is_empty()) {
        let same = by_images.entry(image_set(&document.image_ids)).or_default();
        // The same document may be listed twice.
        if !same.iter().any(|other| normal_id(&other.id) == normal_id(&document.id)) {
            same.push(document);
        }
    }
    by_images.retain(|_, same| same.len() > 1);
    let owners = known.owners();
    let own = |document: &StandingDocument| owners.get(&normal_id(&document.id)).copied();
    let groups = by_images.into_iter().filter(|(_, same)| same.iter().any(|document| own(document).is_none()));
    groups
        .map(|(images, mut same)| {
            same.sort_by_key(|document| own(document).is_none());
            let with_same_images = || {
                let mut jobs = known.after.iter().chain(&known.others);
                jobs.find(|job| !job.images.is_empty() && image_set(&job.images) == images)
            };
            let job = same.iter().find_map(|document| own(document)).or_else(with_same_images);
            let ids: Vec<String> = same.iter().map(|document| document.id.clone()).collect();
            Finding {
                finding: What::Doubled,
                job: job.map(|job| job.job),
                reference: job.and_then(|job| job.reference.clone()),
                id: ids.first().cloned(),
                detail: format!("{} documents have the same images: {}", ids.len(), ids.join(", ")),
                ids,
            }
        })
        .collect()
}

/// Documents that no job has created or may have.
fn unknown_documents(known: &KnownJobs, standing: &[StandingDocument]) -> Vec<Finding> {
    let (owners, by_image) = (known.owners(), known.by_image());
    let mut seen = HashSet::new();
    let mut findings = Vec::new();
    for document in standing {
        let id = normal_id(&document.id);
        if owners.contains_key(&id) || !seen.insert(id) {
            continue;
        }
        let images = image_set(&document.image_ids);
        let job = images.iter().find_map(|id| by_image.get(id).copied());
        let detail = match job {
            None => "no job knows of it: it was put there by other means, or by a queue that was lost".to_owned(),
            // It is doubled, or in the place of a missing one; or its answer has not come yet.
            Some(job)
                if image_set(&job.images) == images && (job.state == JobState::Done || !job.state.has_ended()) =>
            {
                continue;
            }
            Some(job) => format!("no job created it, but it has images of job {}, which is {}", job.job, job.state),
        };
        findings.push(Finding {
            finding: What::UnknownDocument,
            job: job.map(|job| job.job),
            reference: job.and_then(|job| job.reference.clone()),
            id: Some(document.id.clone()),
            ids: Vec::new(),
            detail,
        });
    }
    findings
}

fn normal(ids: &[String]) -> impl Iterator<Item = String> + '_ {
    ids.iter().map(|id| normal_id(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(number: i64, state: JobState, document: Option<&str>, images: &[&str], lost: u64) -> CreatedJob {
        CreatedJob {
            job: number,
            drop: "a".into(),
            reference: Some(format!("r{number}")),
            kind: EntryKind::Document,
            state,
            remote_id: document.map(str::to_owned),
            images: images.iter().map(|&id| id.to_owned()).collect(),
            lost,
            sending: Vec::new(),
            ended_at: state.has_ended().then_some(0),
            removed: false,
            released: false,
        }
    }

    /// What the queue knows where nobody works.
    fn at_rest(ours: &[CreatedJob]) -> KnownJobs {
        KnownJobs { before: ours.to_vec(), after: ours.to_vec(), ..KnownJobs::default() }
    }

    fn document(id: &str, images: &[&str]) -> StandingDocument {
        StandingDocument {
            id: id.into(),
            image_ids: images.iter().map(|&id| id.to_owned()).collect(),
            ..StandingDocument::default()
        }
    }

    fn ids(ids: &[&str]) -> Vec<String> {
        ids.iter().map(|&id| id.to_owned()).collect()
    }

    #[test]
    fn a_document_that_exists_with_its_images_is_well_in_any_order_and_letter_case() {
        let ours = [job(1, JobState::Done, Some("D"), &["a", "B"], 0)];
        let (sum, findings) = compare(&at_rest(&ours), &[document("d", &["b", "A"])], &ids(&["a", "b"]));
        assert_eq!(findings, []);
        assert_eq!(sum, VerifyTotals { profiles: 1, documents: 1, standing: 1, ..VerifyTotals::default() });
        assert!(sum.is_well());
    }

    #[test]
    fn an_id_is_the_same_in_each_of_its_spellings() {
        let id = |number: u32| format!("a2c4393a-e219-67a4-5ab4-{number:012}");
        let urn = |number: u32| format!("urn:uuid:{}", id(number));
        let (own, image) = (id(1), id(7));
        let ours = [job(1, JobState::Done, Some(&own), &[&image], 0)];
        let bare = image.replace('-', "");
        let standing = [document(&urn(1), &[&bare]), document(&own, &[&image])];
        let (sum, findings) = compare(&at_rest(&ours), &standing, &[urn(7)]);
        assert_eq!(findings, []);
        assert_eq!(sum, VerifyTotals { profiles: 1, documents: 1, standing: 1, ..VerifyTotals::default() });
        let (sum, _) = compare(&at_rest(&ours), &[document(&own, &[&image]), document(&urn(2), &[&urn(7)])], &[]);
        assert_eq!(sum.doubled, 1);
    }

    #[test]
    fn what_is_gone_and_what_has_changed_is_reported() {
        let ours = [
            job(1, JobState::Done, Some("gone"), &["a"], 0),
            job(2, JobState::Done, Some("other"), &["b"], 0),
            job(3, JobState::Done, Some("was"), &["c"], 0),
        ];
        let standing = [document("other", &["b", "x"]), document("is", &["c"])];
        let (sum, findings) = compare(&at_rest(&ours), &standing, &[]);
        assert_eq!((sum.documents, sum.standing, sum.missing, sum.changed), (3, 0, 1, 2));
        let found: Vec<_> = findings.iter().map(|finding| (finding.job, finding.finding)).collect();
        assert_eq!(found, [(Some(1), What::Missing), (Some(2), What::Changed), (Some(3), What::Changed)]);
        assert!(!sum.is_well());
    }

    #[test]
    fn images_without_a_document_are_reported_by_whose_they_are() {
        let ours = [
            job(1, JobState::Done, Some("d"), &["a"], 1),
            job(2, JobState::Failed, None, &["f"], 1),
            job(3, JobState::Waiting, None, &["w"], 0),
        ];
        let images = ids(&["a", "a", "f", "W", "left", "too", "theirs"]);
        let (sum, findings) = compare(&at_rest(&ours), &[document("d", &["a"])], &images);
        let expected = VerifyTotals {
            profiles: 1,
            documents: 1,
            standing: 1,
            possible_leftovers: 2,
            leftover_images: 2,
            foreign_images: 1,
            images_of_failed_jobs: 1,
            images_under_way: 1,
            ..VerifyTotals::default()
        };
        assert_eq!(sum, expected);
        assert!(sum.is_well(), "an image too many harms nobody");
        assert_eq!(findings.len(), 5);
    }

    #[test]
    fn an_answer_that_was_lost_before_anything_was_done_left_nothing() {
        let ours = [job(1, JobState::Done, Some("d"), &["a"], 3)];
        let (sum, _) = compare(&at_rest(&ours), &[document("d", &["a"])], &ids(&["a", "b"]));
        assert_eq!((sum.possible_leftovers, sum.leftover_images, sum.foreign_images), (3, 1, 0));
    }

    #[test]
    fn what_a_person_released_as_created_is_matched_by_its_id_alone() {
        let ours = [job(1, JobState::Done, Some("d"), &[], 0)];
        assert!(compare(&at_rest(&ours), &[document("d", &["x"])], &[]).0.is_well());
        let uploaded_again = [CreatedJob { released: true, ..job(1, JobState::Done, Some("d"), &["y"], 0) }];
        assert!(compare(&at_rest(&uploaded_again), &[document("d", &["x"])], &[]).0.is_well());
        assert_eq!(compare(&at_rest(&ours), &[document("e", &[])], &[]).0.missing, 1);
    }

    #[test]
    fn documents_with_the_same_images_are_doubled_unless_each_is_a_jobs_own() {
        let ours = [job(1, JobState::Done, Some("d"), &["a", "b"], 0)];
        let standing = [document("x", &["B", "a"]), document("D", &["a", "b"]), document("d", &["a", "b"])];
        let (sum, findings) = compare(&at_rest(&ours), &standing, &[]);
        assert_eq!((sum.standing, sum.doubled, sum.unknown_documents, sum.is_well()), (1, 1, 0, false));
        assert_eq!((findings[0].job, findings[0].ids.as_slice()), (Some(1), &["D".to_owned(), "x".to_owned()][..]));
        // An API that gives equal content equal IDs.
        let ours = [job(1, JobState::Done, Some("d"), &["a"], 0), job(2, JobState::Done, Some("x"), &["a"], 0)];
        let (sum, findings) = compare(&at_rest(&ours), &[document("d", &["a"]), document("x", &["a"])], &[]);
        assert_eq!((sum.standing, findings.len()), (2, 0), "{findings:?}");
        // Of a job whose answers were lost, which will adopt one of them.
        let ours = [job(1, JobState::Held, None, &["a"], 0)];
        let (sum, findings) = compare(&at_rest(&ours), &[document("d", &["a"]), document("x", &["a"])], &[]);
        assert_eq!((sum.doubled, findings[0].job, findings.len()), (1, Some(1), 1), "{findings:?}");
        // What has no images is compared with nothing.
        assert_eq!(compare(&at_rest(&[]), &[document("d", &[]), document("x", &[])], &[]).0.doubled, 0);
    }

    #[test]
    fn documents_that_no_job_knows_of_are_listed_and_are_nothing_wrong() {
        let ours = [
            job(1, JobState::Done, Some("d"), &["a"], 0),
            job(2, JobState::Waiting, None, &["w"], 0),
            job(3, JobState::Failed, None, &["f", "g"], 0),
        ];
        let standing =
            [document("d", &["a"]), document("x", &["z"]), document("y", &["w"]), document("f", &["f", "g"])];
        let (sum, findings) = compare(&at_rest(&ours), &standing, &[]);
        assert_eq!((sum.unknown_documents, sum.is_well()), (2, true));
        let found: Vec<_> = findings.iter().map(|finding| (finding.job, finding.id.as_deref().unwrap())).collect();
        assert_eq!(found, [(None, "x"), (Some(3), "f")], "the one of job 2 is about to be found by its read-back");
        // Another account's own.
        let known = KnownJobs { others: vec![job(9, JobState::Done, Some("x"), &["z"], 0)], ..at_rest(&ours) };
        assert_eq!(compare(&known, &standing, &[]).0.unknown_documents, 1);
    }

    #[test]
    fn what_was_removed_on_purpose_is_not_missed() {
        let ours = [CreatedJob { removed: true, ..job(1, JobState::Done, Some("d"), &["a"], 0) }];
        let (sum, findings) = compare(&at_rest(&ours), &[], &[]);
        assert_eq!((sum.documents, sum.removed, sum.missing, sum.is_well()), (1, 1, 0, true));
        assert_eq!(findings, []);
    }

    #[test]
    fn what_a_worker_did_meanwhile_is_neither_missed_nor_left_over() {
        let mut known = KnownJobs::before(vec![job(1, JobState::Done, Some("d"), &["a"], 0)]);
        let now = vec![
            job(1, JobState::Done, Some("d"), &["a"], 0),
            // Its document was made after the documents were read.
            job(2, JobState::Done, Some("new"), &["n"], 0),
            job(3, JobState::Waiting, None, &["w"], 0),
        ];
        known.learn(now, |_| true, true);
        let (sum, findings) = compare(&known, &[document("d", &["a"])], &ids(&["a", "n", "w"]));
        assert_eq!(
            sum,
            VerifyTotals { profiles: 1, documents: 1, standing: 1, images_under_way: 2, ..VerifyTotals::default() }
        );
        assert_eq!(findings.iter().map(|finding| finding.job).collect::<Vec<_>>(), [Some(2), Some(3)]);
    }

    #[test]
    fn an_image_that_may_be_under_way_is_no_leftover_and_more_of_them_are() {
        let sending = |lost| Sending { job: 2, position: 0, lost };
        let runs = |uploads: &[Sending], lost| CreatedJob {
            sending: uploads.to_vec(),
            ..job(2, JobState::Running, None, &[], lost)
        };
        let listed = ids(&["x", "y", "z"]);
        let mut known = KnownJobs::default();
        known.learn(vec![runs(&[sending(1)], 1)], |_| true, true);
        assert_eq!(known.unknown(&[], &listed), ["x", "y", "z"]);
        let (sum, findings) = compare(&known, &[], &listed);
        assert_eq!((sum.images_under_way, sum.leftover_images, sum.foreign_images), (1, 1, 1));
        assert!(findings[0].detail.contains("it is being uploaded"), "{findings:?}");
        // Its answer was lost, and it is sent again: that try is in no list that was made before.
        known.learn(vec![runs(&[sending(2)], 2)], |_| true, false);
        let (sum, findings) = compare(&known, &[], &listed);
        assert_eq!((sum.images_under_way, sum.leftover_images, sum.foreign_images), (0, 2, 1));
        assert!(!findings[0].detail.contains("it is being uploaded"), "{findings:?}");
    }

    #[test]
    fn an_image_of_another_accounts_job_is_known() {
        let mut known = KnownJobs::default();
        known.learn(vec![job(1, JobState::Failed, None, &["f"], 2)], |_| false, true);
        let (sum, findings) = compare(&known, &[], &ids(&["f"]));
        assert_eq!(sum, VerifyTotals { profiles: 1, images_of_failed_jobs: 1, ..VerifyTotals::default() });
        assert_eq!(findings[0].job, Some(1));
    }
}
