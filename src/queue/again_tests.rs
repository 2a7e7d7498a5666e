//! What must hold when a job comes up again: after a refusal, a crash, or a person's retry.

use std::sync::Arc;

use super::{
    admission::Admission,
    attempt::{End, Evidence},
    claim::RecoveredJobs,
    sidecar::in_doubt::{InDoubtEntry, Recovered},
    test_support::{DROP, NOW, Site, attempt, document, execute, take},
};
use crate::job::{Creation, JobState, WaitReason};

const LATER: crate::clock::Timestamp = crate::clock::Timestamp(NOW.0 + 60_000);

#[test]
fn a_refused_document_that_is_retried_is_a_new_creation_with_a_time_of_its_own() {
    let site = Site::new();
    site.admit("a.manifest.json", &["one"]);
    let one = site.job("one");
    site.claim(one);
    site.wait(site.queue.upload_stored(one, 0, "image".into(), true, attempt("upload_image", "done"), NOW)).unwrap();
    let refused = End::Refused { reason: "no such category".into(), problems: vec![] };
    site.end_try(one, refused, Evidence::default()).unwrap();
    assert!(site.queue.retry(one, NOW).unwrap().done);
    // Else it would be sent under the old intent, and a lost answer would be judged by the time of the old one.
    assert_eq!(site.claim(one).creation, Creation::None);
}

#[test]
fn after_a_crash_the_time_in_which_a_document_may_appear_starts_again() {
    let site = Site::new();
    site.admit("a.manifest.json", &["one"]);
    let one = site.job("one");
    site.claim(one);
    site.wait(site.queue.upload_stored(one, 0, "image".into(), true, attempt("upload_image", "done"), NOW)).unwrap();
    site.wait(site.next_process().recover(Arc::default(), LATER)).unwrap();
    site.wait(site.queue.ready(LATER)).unwrap();
    let job = site.claim(one);
    // The intent is older than the call by however long the job waited for its turn.
    assert_eq!((job.creation, job.sent_at), (Creation::Unknown, Some(LATER.0)));
}

#[test]
fn an_entry_that_contradicts_another_of_its_manifest_is_refused_whether_that_one_has_failed_or_not() {
    for fails in [false, true] {
        let site = Site::new();
        let mut batch = site.begin("a.manifest.json");
        batch.admit_part(vec![take(document(0, "one"), 1)], NOW).unwrap();
        if fails {
            site.fail(site.job("one"), "no such profile");
        }
        let again = crate::entry::Entry { replace: true, ..document(2, "one") };
        batch.admit_part(vec![take(document(1, "one"), 2), take(again, 3)], NOW).unwrap();
        batch.seal(None, NOW).unwrap();
        let jobs = ["0", "1", "2"].map(|index| {
            let id = site.value(&format!("SELECT id FROM job WHERE entry_index = {index}"));
            site.detail(id.parse().unwrap()).job
        });
        assert_eq!(jobs[1].state, JobState::Failed);
        assert!(jobs[1].reason.as_deref().is_some_and(|reason| reason.contains("with other content")), "{jobs:?}");
        assert_eq!(jobs[2].state, JobState::Queued, "on purpose");
        // Another manifest may correct what failed.
        site.admit_entries("b.manifest.json", vec![take(document(0, "two"), 1)]);
        site.fail(site.job("two"), "no such profile");
        site.admit_entries("c.manifest.json", vec![take(document(0, "two"), 2)]);
        assert_eq!(site.state(site.job("two")), JobState::Queued);
    }
}

/// Admits an entry to a drop, on the account, and gives its job.
fn in_drop(site: &Site, drop: &str, account: &str, entry: crate::entry::Entry) -> i64 {
    let reference = entry.reference.clone().unwrap();
    let plan = super::batch::Plan { drop: drop.to_owned(), ..site.plan(&format!("{reference}.manifest.json")) };
    site.queue.admission(plan).unwrap().admit_whole(vec![take(entry, 1)], None, NOW).unwrap();
    execute(&site.queue, &format!("UPDATE drop_folder SET account = '{account}' WHERE name = '{drop}'"));
    site.job(&reference)
}

#[test]
fn what_the_api_refused_ends_its_equals_in_every_drop_of_the_account() {
    let site = Site::new();
    let other = |reference: &str| {
        let mut other = document(0, reference);
        let crate::entry::Content::Document { document_type, .. } = &mut other.content else { panic!() };
        "STATE_ID".clone_into(document_type);
        other
    };
    let refused = in_drop(&site, DROP, "one", document(0, "refused"));
    let equal = in_drop(&site, "partner-b", "one", document(0, "equal"));
    let same_image = in_drop(&site, "partner-b", "one", other("same-image"));
    let elsewhere = in_drop(&site, "partner-c", "two", document(0, "elsewhere"));
    let same_image_elsewhere = in_drop(&site, "partner-c", "two", other("same-image-elsewhere"));
    site.claim(refused);
    let problems = vec![crate::problem::Problem::error("no image at all", "send another")];
    let end = End::Refused { reason: "no image at all".into(), problems };
    let content = super::equals::RefusedContent { images: vec![0] };
    site.end_try(refused, end, Evidence { refused: Some(content), ..Evidence::default() }).unwrap();
    assert_eq!(site.state(equal), JobState::Failed);
    assert_eq!(site.state(elsewhere), JobState::Queued, "another account may take it");
    let claimed = |drop: &str| {
        let drop_id = site.value(&format!("SELECT id FROM drop_folder WHERE name = '{drop}'")).parse().unwrap();
        site.wait(site.queue.claim(drop_id, 9)).unwrap()
    };
    let jobs = claimed("partner-b");
    assert_eq!(jobs.iter().map(|job| job.id).collect::<Vec<_>>(), [same_image]);
    assert!(jobs[0].refused_before.as_ref().is_some_and(|problem| problem.reason.contains("no image at all")));
    let jobs = claimed("partner-c");
    assert_eq!(jobs.iter().map(|job| job.id).collect::<Vec<_>>(), [elsewhere, same_image_elsewhere]);
    assert!(jobs.iter().all(|job| job.refused_before.is_none()));
    // Asking again forgets it for all of them.
    site.wait(site.queue.ready(LATER)).unwrap();
    assert!(site.queue.retry(refused, NOW).unwrap().done);
    assert_eq!(site.value("SELECT count(*) FROM refused_image"), "0");
}

#[test]
fn what_waits_for_a_held_job_is_left_to_a_person_too() {
    let site = Site::new();
    let same = |index| -> Admission { take(document(index, "one"), 1) };
    site.admit_entries("a.manifest.json", vec![same(0), same(1)]);
    let first: i64 = site.value("SELECT min(id) FROM job").parse().unwrap();
    site.hold(first, Creation::Unknown);
    let left = site.reader().left(&[DROP]).unwrap();
    assert_eq!((left.to_do, left.held), (0, 2));
    let other = site.admit("b.manifest.json", &["other"]);
    let held = site.reader().held_by_batch().unwrap();
    assert_eq!(held.iter().map(|(_, count)| count).sum::<u64>(), 2);
    assert!(held.iter().all(|(batch, _)| *batch != other), "what others are held for keeps nobody");
}

#[test]
fn a_drop_that_a_person_paused_is_all_that_is_left_once_the_others_are_done() {
    let site = Site::new();
    site.admit("a.manifest.json", &["one"]);
    site.queue.pause(&format!("drop:{DROP}"), super::control::Cause::Operator, None, NOW).unwrap();
    assert!(site.reader().left(&[DROP, "other"]).unwrap().paused);
}

/// Finalizes a batch; without an archive folder, only until its files are to be moved.
fn settle(site: &Site, batch: i64, archive: Option<&str>) {
    site.queue.name_receipt(batch, "a.receipt.json".into()).unwrap();
    site.queue.receipt_published(batch, crate::receipt::BatchStatus::Done).unwrap();
    if let Some(archive) = archive {
        let moved = vec![site.moved_to(archive, "one.png")];
        site.queue.batch_closed(batch, Some(archive.into()), None, moved).unwrap();
    }
}

#[test]
fn a_job_that_is_retried_after_its_files_were_moved_finds_them_wherever_they_are() {
    let site = Site::new();
    let batch = site.admit("a.manifest.json", &["one"]);
    execute(&site.queue, "UPDATE batch SET image_root = '/archive/scans'");
    let one = site.job("one");
    site.fail(one, "no");
    settle(&site, batch, Some("/archive/failed/2026-11-23"));
    assert!(site.queue.retry(one, NOW).unwrap().done);
    let place = site.claim(one).uploads.remove(0).moved_to.unwrap();
    assert_eq!((place.root.as_str(), place.path.as_str()), ("/archive/failed/2026-11-23", "img/one.png"));
}

#[test]
fn a_job_whose_files_are_being_moved_is_retried_when_they_are() {
    let site = Site::new();
    let batch = site.admit("a.manifest.json", &["one"]);
    let one = site.job("one");
    site.fail(one, "no");
    settle(&site, batch, None);
    let answer = site.queue.retry(one, NOW).unwrap();
    assert!(!answer.done && answer.message.contains("again"), "{answer:?}");
    assert_eq!(site.state(one), JobState::Failed);
    site.queue.batch_closed(batch, Some("/drop/failed/2026-11-23".into()), None, Vec::new()).unwrap();
    assert!(site.queue.retry(one, NOW).unwrap().done);
}

#[test]
fn a_file_that_was_under_way_at_a_crash_is_held_where_a_person_wants_to_decide() {
    let site = Site::new();
    let mut entry = document(0, "one");
    let path = crate::entry::RelativePath::parse("img/one.pdf").unwrap();
    let source = crate::entry::Source { path, declared_bytes: None, declared_sha256: None };
    entry.content = crate::entry::Content::File { name: None, source };
    site.admit_entries("a.manifest.json", vec![take(entry, 1), take(document(1, "two"), 2)]);
    let (one, two) = (site.job("one"), site.job("two"));
    site.claim(one);
    site.claim(two);
    assert_eq!(site.wait(site.next_process().hold_files(Arc::default())).unwrap(), 1);
    site.wait(site.next_process().recover(Arc::default(), LATER)).unwrap();
    assert_eq!((site.state(one), site.state(two)), (JobState::Held, JobState::Queued));
    assert!(site.queue.release(one, super::control::Release::AsCreated("file-1".into()), LATER).unwrap().done);
}

#[test]
fn a_crash_loses_the_answers_to_what_was_handed_over_and_to_nothing_else() {
    let site = Site::new();
    let mut file = document(0, "file");
    let path = crate::entry::RelativePath::parse("img/one.pdf").unwrap();
    let source = crate::entry::Source { path, declared_bytes: None, declared_sha256: None };
    file.content = crate::entry::Content::File { name: None, source };
    let others = ["sent", "not sent", "sent before", "waiting"];
    let mut entries = vec![take(file, 1)];
    entries.extend((1_u8..).zip(others).map(|(at, reference)| take(document(at.into(), reference), at + 1)));
    site.admit_entries("a.manifest.json", entries);
    site.put_off(site.job("waiting"), WaitReason::Quota, Creation::None, LATER);
    for job in ["file", "sent", "not sent", "sent before"] {
        site.claim(site.job(job));
    }
    let of = |job: &str, lost| InDoubtEntry { job_id: site.job(job), position: 0, lost };
    let left = Arc::new(Recovered::Exactly(vec![of("sent", 0), of("sent before", 7), of("waiting", 0)]));

    assert_eq!(site.wait(site.next_process().hold_files(Arc::clone(&left))).unwrap(), 0);
    let recovered = site.wait(site.next_process().recover(left, LATER)).unwrap();
    assert_eq!(recovered, RecoveredJobs { jobs: 4, images: 1, files: 0 });
    let lost = |job: &str| site.detail(site.job(job)).uploads[0].lost_answers;
    assert_eq!(["file", "sent", "not sent", "sent before", "waiting"].map(lost), [0, 1, 0, 0, 0]);
    assert_eq!(site.state(site.job("file")), JobState::Queued, "it was not sent, so nobody need decide");
}
