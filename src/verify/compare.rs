//! Compares what the queue recorded as created on a profile with what the API lists there.
//!
//! Pure. Images are matched by their IDs alone: the API gives neither digest nor size, and the dates that it gives
//! differ between answers.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use crate::{
    entry::EntryKind,
    job::JobState,
    outcome::StandingDocument,
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
        self.files_not_checked += other.files_not_checked;
        self.possible_leftovers += other.possible_leftovers;
        self.leftover_images += other.leftover_images;
        self.foreign_images += other.foreign_images;
        self.images_of_failed_jobs += other.images_of_failed_jobs;
        self.images_under_way += other.images_under_way;
    }

    /// Whether every document exists as it was created.
    #[must_use]
    pub const fn is_well(&self) -> bool {
        self.missing + self.changed + self.unreadable_profiles == 0
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

    /// The images of a list that no document uses and no job knows of, in lower case.
    #[must_use]
    pub fn unknown(&self, standing: &[StandingDocument], images: &[String]) -> Vec<String> {
        let by_image = self.by_image();
        unused(standing, images).into_iter().filter(|id| !by_image.contains_key(id)).collect()
    }

    fn by_image(&self) -> HashMap<String, &CreatedJob> {
        let jobs = self.after.iter().chain(&self.others);
        jobs.flat_map(|job| lower(&job.images).map(move |id| (id, job))).collect()
    }
}

/// The images that no document uses, in lower case and in order. The same image may be listed twice.
fn unused(standing: &[StandingDocument], images: &[String]) -> Vec<String> {
    let used: HashSet<String> = standing.iter().flat_map(|document| lower(&document.image_ids)).collect();
    let listed: HashSet<String> = lower(images).collect();
    let mut unused: Vec<String> = listed.into_iter().filter(|id| !used.contains(id)).collect();
    unused.sort_unstable();
    unused
}

/// Compares one profile: its documents, and the IDs of all its images.
#[must_use]
pub fn compare(known: &KnownJobs, standing: &[StandingDocument], images: &[String]) -> (VerifyTotals, Vec<Finding>) {
    let mut sum = VerifyTotals { profiles: 1, ..VerifyTotals::default() };
    let mut findings = Vec::new();
    let by_id: HashMap<String, &StandingDocument> =
        standing.iter().map(|document| (document.id.to_ascii_lowercase(), document)).collect();
    let done: Vec<&CreatedJob> = known.before.iter().filter(|job| job.state == JobState::Done).collect();
    for &job in &done {
        if job.kind == EntryKind::File {
            sum.files_not_checked += 1;
            continue;
        }
        sum.documents += 1;
        match mismatch(job, &by_id, standing) {
            None => sum.standing += 1,
            Some(finding) => {
                *(if finding.finding == What::Missing { &mut sum.missing } else { &mut sum.changed }) += 1;
                findings.push(finding);
            }
        }
    }
    sum.possible_leftovers = known.after.iter().map(|job| job.lost).sum();
    let were_done: HashSet<i64> = done.iter().map(|job| job.job).collect();
    let by_image = known.by_image();
    let mut unknown = 0_u64;
    for id in unused(standing, images) {
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
            id: Some(id),
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
    let ours: HashSet<String> = lower(&job.images).collect();
    let has_ours = |document: &StandingDocument| lower(&document.image_ids).collect::<HashSet<_>>() == ours;
    let (finding, detail) = match by_id.get(&id.to_ascii_lowercase()) {
        // Where a person released it as created, its images may not be known.
        Some(document) if ours.is_empty() || has_ours(document) => return None,
        Some(document) => {
            let (theirs, own) = (document.image_ids.len(), ours.len());
            (What::Changed, format!("the document exists with other images: {theirs}, and {own} were put into it"))
        }
        None => match standing.iter().find(|document| !ours.is_empty() && has_ours(document)) {
            Some(other) => (What::Changed, format!("a document with its images exists under the ID {}", other.id)),
            None => (What::Missing, "the document is not among the profile's".to_owned()),
        },
    };
    Some(Finding { finding, job: Some(job.job), reference: job.reference.clone(), id: Some(id), detail })
}

fn lower(ids: &[String]) -> impl Iterator<Item = String> + '_ {
    ids.iter().map(|id| id.to_ascii_lowercase())
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
        }
    }

    /// What the queue knows where nobody works.
    fn at_rest(ours: &[CreatedJob]) -> KnownJobs {
        KnownJobs { before: ours.to_vec(), after: ours.to_vec(), ..KnownJobs::default() }
    }

    fn document(id: &str, images: &[&str]) -> StandingDocument {
        StandingDocument {
            id: id.into(),
            category: String::new(),
            document_type: String::new(),
            image_ids: images.iter().map(|&id| id.to_owned()).collect(),
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
        assert_eq!(compare(&at_rest(&ours), &[document("e", &[])], &[]).0.missing, 1);
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
