//! What must hold of the queue whatever happens to its jobs, on a real database. Every test keeps a bystander, a job
//! that nobody touches, and checks at the end that nothing of it changed.

use std::{sync::Arc, time::Duration};

use super::{
    admission::Admission,
    attempt::{Attempt, End, Evidence},
    control::{Cause, JobCommand, Release},
    test_support::{NOW, Site, attempt, created, document, evidence, put_off, take},
    views::jobs::JobDetail,
};
use crate::{
    job::{Creation, JobState, WaitReason},
    problem::Problem,
};

const LATER: crate::clock::Timestamp = crate::clock::Timestamp(NOW.0 + 60_000);

/// A site with a bystander in a batch of its own.
struct Place {
    site: Site,
    bystander: JobDetail,
}

impl Place {
    fn new() -> Self {
        let site = Site::new();
        site.admit("bystander.manifest.json", &["bystander"]);
        let bystander = site.everything(site.job("bystander"));
        Self { site, bystander }
    }

    /// The bystander is as it was, and the tally is what counting says.
    fn check(&self) {
        let site = &self.site;
        assert_eq!(site.everything(self.bystander.job.id), self.bystander);
        let differences = site.value(
            "SELECT count(*) FROM (
                SELECT drop_id, state, jobs FROM tally WHERE jobs <> 0
                EXCEPT SELECT drop_id, state, count(*) FROM job GROUP BY drop_id, state
                UNION ALL
                SELECT * FROM (SELECT drop_id, state, count(*) FROM job GROUP BY drop_id, state
                               EXCEPT SELECT drop_id, state, jobs FROM tally))",
        );
        assert_eq!(differences, "0", "the tally is not what there is");
        let open = site.value(
            "SELECT count(*) FROM batch WHERE open_jobs <>
                (SELECT count(*) FROM job WHERE batch_id = batch.id
                    AND state NOT IN ('done', 'duplicate', 'failed', 'cancelled'))",
        );
        assert_eq!(open, "0", "a batch counts its open jobs wrongly");
        let lagging =
            site.value("SELECT count(*) FROM batch WHERE state <> 'admitting' AND (open_jobs = 0) = (state = 'open')");
        assert_eq!(lagging, "0", "a batch has ended too early or not at all");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.check();
        }
    }
}

fn with(reference: &str, content: u8, replace: bool) -> Admission {
    let mut entry = document(0, reference);
    entry.replace = replace;
    take(entry, content)
}

#[test]
fn a_batch_ends_with_its_last_job_and_not_before() {
    let place = Place::new();
    let site = &place.site;
    let batch = site.admit("a.manifest.json", &["one", "two"]);
    site.create(site.job("one"), "doc-1");
    assert_eq!(site.batch_state(batch), "open");
    place.check();
    site.fail(site.job("two"), "HTTP 403");
    assert_eq!(site.batch_state(batch), "ended");
}

#[test]
fn an_empty_or_invalid_manifest_ends_when_it_is_sealed() {
    let place = Place::new();
    let invalid = Admission::Invalid {
        paths: Vec::new(),
        index: 0,
        kind: crate::entry::EntryKind::File,
        reference: None,
        profile_id: None,
        problems: vec![Problem::error("no path", "give one")],
    };
    for entries in [vec![], vec![invalid]] {
        assert_eq!(place.site.batch_state(place.site.admit_entries("a.manifest.json", entries)), "ended");
    }
}

#[test]
fn a_batch_does_not_end_while_it_is_still_taken_in() {
    let place = Place::new();
    let site = &place.site;
    let mut first = site.begin("a.manifest.json");
    first.admit_part(vec![with("one", 1, false)], NOW).unwrap();
    let batch = first.batch_id().unwrap();
    site.create(site.job("one"), "doc-1");
    assert_eq!(site.batch_state(batch), "admitting");
    let again = site.begin("a.manifest.json");
    assert_eq!((again.batch_id(), again.admitted()), (Some(batch), 1));
    again.seal(None, NOW).unwrap();
    assert_eq!(site.batch_state(batch), "ended");
}

#[test]
fn the_same_entry_is_created_once_however_often_it_comes() {
    let place = Place::new();
    let site = &place.site;
    site.admit("a.manifest.json", &["one"]);
    let first = site.job("one");
    let batches = ["b.manifest.json", "c.manifest.json"].map(|name| site.admit(name, &["one"]));
    let twins = [first + 1, first + 2];
    for twin in twins {
        let twin = site.detail(twin).job;
        assert_eq!((twin.state, twin.waits.as_deref(), twin.twin_of), (JobState::Waiting, Some("twin"), Some(first)));
    }
    assert_eq!(site.wait(site.queue.ready(LATER)).unwrap().next_due, None);
    for twin in twins {
        assert_eq!(site.state(twin), JobState::Waiting);
    }
    site.create(first, "doc-1");
    for twin in twins {
        let twin = site.detail(twin).job;
        assert_eq!((twin.state, twin.remote_id.as_deref()), (JobState::Duplicate, Some("doc-1")));
    }
    assert_eq!(batches.map(|batch| site.batch_state(batch)), ["ended", "ended"]);
    site.admit("d.manifest.json", &["one"]);
    let late = site.detail(first + 3);
    assert_eq!((late.job.state, late.job.remote_id.as_deref()), (JobState::Duplicate, Some("doc-1")));
    assert_eq!(late.uploads[0].remote_id.as_deref(), Some("image-of-doc-1"));
}

#[test]
fn the_first_twin_takes_the_place_of_one_that_fails() {
    let place = Place::new();
    let site = &place.site;
    site.admit("a.manifest.json", &["one"]);
    let first = site.job("one");
    site.admit("b.manifest.json", &["one"]);
    site.admit("c.manifest.json", &["one"]);
    site.fail(first, "HTTP 400");
    assert_eq!(site.state(first + 1), JobState::Queued);
    let last = site.detail(first + 2).job;
    assert_eq!((last.state, last.twin_of), (JobState::Waiting, Some(first + 1)));
    let answer = site.queue.retry(first, NOW).unwrap();
    assert!(!answer.done && answer.message.contains(&format!("job {}", first + 1)), "{answer:?}");
    site.create(first + 1, "doc-2");
    assert_eq!(site.state(first + 2), JobState::Duplicate);
    assert_eq!(site.state(first), JobState::Failed);
}

#[test]
fn a_twin_that_is_cancelled_disturbs_nobody() {
    let place = Place::new();
    let site = &place.site;
    site.admit("a.manifest.json", &["one"]);
    let first = site.job("one");
    let batch = site.admit("b.manifest.json", &["one"]);
    assert!(!site.queue.retry(first + 1, NOW).unwrap().done);
    assert!(site.queue.cancel(first + 1, NOW).unwrap().done);
    assert_eq!(site.batch_state(batch), "ended");
    assert_eq!(site.state(first), JobState::Queued);
    site.create(first, "doc-1");
    assert_eq!(site.state(first + 1), JobState::Cancelled);
}

#[test]
fn two_of_the_same_in_one_manifest_are_one() {
    let place = Place::new();
    let site = &place.site;
    let mut again = document(1, "one");
    again.index = 1;
    let batch = site.admit_entries("a.manifest.json", vec![with("one", 1, false), take(again, 1)]);
    let second = site.job("one");
    site.create(second - 1, "doc-1");
    assert_eq!(site.state(second), JobState::Duplicate);
    assert_eq!(site.batch_state(batch), "ended");
}

#[test]
fn the_same_reference_with_other_content_is_refused_unless_it_replaces() {
    let place = Place::new();
    let site = &place.site;
    site.admit_entries("a.manifest.json", vec![with("one", 1, false)]);
    let first = site.job("one");
    site.admit_entries("b.manifest.json", vec![with("one", 2, false)]);
    let refused = site.detail(first + 1).job;
    assert_eq!(refused.state, JobState::Failed);
    assert!(
        refused.problems[0].reason.contains(&format!("job {first}, an earlier entry, has the same reference")),
        "{refused:?}"
    );
    site.create(first, "doc-1");
    site.admit_entries("c.manifest.json", vec![with("one", 2, true)]);
    site.create(first + 2, "doc-2");
    site.admit_entries("d.manifest.json", vec![with("one", 2, false)]);
    assert_eq!(site.detail(first + 3).job.remote_id.as_deref(), Some("doc-2"));
    assert_eq!(site.detail(first).job.remote_id.as_deref(), Some("doc-1"));
}

#[test]
fn a_replacement_that_fails_does_not_let_the_first_be_created_again() {
    let place = Place::new();
    let site = &place.site;
    site.admit_entries("a.manifest.json", vec![with("one", 1, false)]);
    let first = site.job("one");
    site.create(first, "doc-1");
    site.admit_entries("b.manifest.json", vec![with("one", 2, true)]);
    site.fail(first + 1, "HTTP 400");
    site.admit_entries("c.manifest.json", vec![with("one", 1, false)]);
    let again = site.detail(first + 2).job;
    assert_eq!((again.state, again.remote_id.as_deref()), (JobState::Duplicate, Some("doc-1")));
    assert!(site.queue.retry(first + 1, NOW).unwrap().done, "it may still replace what it was to replace");
    site.create(first + 1, "doc-2");
}

#[test]
fn retry_opens_the_batch_again_where_its_files_are_now() {
    let place = Place::new();
    let site = &place.site;
    let batch = site.admit("a.manifest.json", &["one", "two"]);
    let (one, two) = (site.job("one"), site.job("two"));
    site.create(one, "doc-1");
    site.fail(two, "HTTP 403");
    site.queue.name_receipt(batch, "a.manifest.json.receipt.json".into()).unwrap();
    site.queue.receipt_published(batch, crate::receipt::BatchStatus::Done).unwrap();
    let archive = site.drop_path().join("failed/2026-11-22").display().to_string();
    let moved = vec![site.moved_to(&archive, "two.png")];
    site.queue.batch_closed(batch, Some(archive.clone()), None, moved).unwrap();
    assert!(site.queue.retry(two, NOW).unwrap().done);
    assert_eq!(site.batch_state(batch), "open");
    place.check();
    let claimed = site.claim(two);
    let place = claimed.uploads[0].moved_to.clone().unwrap();
    assert_eq!((place.root, place.path.as_str(), claimed.attempts), (archive, "img/two.png", 0));
    assert_eq!(claimed.image_root, site.drop_path().display().to_string(), "the batch is still that of its drop");
    site.wait(site.queue.upload_stored(two, 0, "i".into(), true, attempt("upload_image", "done"), NOW)).unwrap();
    site.end_try(two, created("doc-2"), Evidence::default()).unwrap();
    assert_eq!(site.batch_state(batch), "ended");
    let settled: Vec<i64> = site.queue.to_settle(1, 0, 10).unwrap().iter().map(|ended| ended.id).collect();
    assert_eq!(settled, [batch]);
}

#[test]
fn a_batch_is_settled_in_order_and_each_step_once() {
    let place = Place::new();
    let site = &place.site;
    let batch = site.admit("a.manifest.json", &["one"]);
    assert!(site.queue.receipt_published(batch, crate::receipt::BatchStatus::Done).is_err());
    site.create(site.job("one"), "doc-1");
    assert!(site.queue.batch_closed(batch, None, None, Vec::new()).is_err());
    site.queue.name_receipt(batch, "r.json".into()).unwrap();
    site.queue.receipt_published(batch, crate::receipt::BatchStatus::Done).unwrap();
    assert!(site.queue.receipt_published(batch, crate::receipt::BatchStatus::Done).is_err());
    assert!(site.queue.name_receipt(batch, "other.json".into()).is_err());
    site.queue.batch_closed(batch, None, None, Vec::new()).unwrap();
    assert!(site.queue.to_settle(1, 0, 10).unwrap().is_empty());
}

#[test]
fn files_that_an_open_batch_names_are_known() {
    let place = Place::new();
    let site = &place.site;
    let batch = site.admit("a.manifest.json", &["one"]);
    let key = crate::relative_path::path_key(&site.drop_path(), "", "img/one.png");
    let named = |key: i64| site.reader().is_still_named(batch, key, None).unwrap();
    assert!(!named(key));
    let mut same_file = document(0, "other");
    same_file.content = document(0, "one").content;
    site.admit_entries("b.manifest.json", vec![take(same_file, 1)]);
    assert!(named(key) && !named(key + 1));
    // What is refused names its files too.
    let refused = Admission::Invalid {
        index: 0,
        kind: crate::entry::EntryKind::Document,
        reference: None,
        profile_id: None,
        problems: Vec::new(),
        paths: vec!["img/refused.png".into()],
    };
    let key = crate::relative_path::path_key(&site.drop_path(), "", "img/refused.png");
    assert!(!named(key));
    let third = site.admit_entries("c.manifest.json", vec![refused]);
    assert!(named(key));
    assert!(!site.reader().is_still_named(third, key, None).unwrap(), "its own names do not keep it");
}

#[test]
fn a_crash_loses_nothing_and_asks_before_it_creates_again() {
    let place = Place::new();
    let site = &place.site;
    site.admit("a.manifest.json", &["uploading", "creating", "cancelling", "waiting"]);
    let id = |reference| site.job(reference);
    site.put_off(id("waiting"), WaitReason::Quota, Creation::None, LATER);
    let waiting = site.everything(id("waiting"));
    site.claim(id("uploading"));
    site.claim(id("creating"));
    let done = attempt("upload_image", "done");
    site.wait(site.queue.upload_stored(id("creating"), 0, "image".into(), true, done, NOW)).unwrap();
    site.claim(id("cancelling"));
    assert!(site.queue.cancel(id("cancelling"), NOW).unwrap().done);
    site.wait(site.next_process().recover(Arc::default(), LATER)).unwrap();
    let uploading = site.detail(id("uploading"));
    assert_eq!((uploading.job.state, uploading.uploads[0].lost_answers), (JobState::Queued, 1));
    let creating = site.detail(id("creating"));
    assert_eq!((creating.job.waits.as_deref(), creating.job.creation), (Some("read_back"), Creation::Unknown));
    assert_eq!(creating.uploads[0].remote_id.as_deref(), Some("image"));
    assert_eq!(creating.uploads[0].lost_answers, 0);
    assert_eq!(site.state(id("cancelling")), JobState::Cancelled);
    assert_eq!(site.everything(id("waiting")), waiting);
    let refused = site.queue.cancel(id("creating"), NOW).unwrap();
    assert!(!refused.done && refused.message.contains("read back first"), "{refused:?}");
    let ready = site.wait(site.queue.ready(LATER)).unwrap();
    assert!(ready.drops.iter().any(|(_, _, ready)| *ready) && ready.next_due.is_none(), "{ready:?}");
    assert_eq!(site.state(id("creating")), JobState::Queued);
    assert_eq!(site.detail(id("creating")).job.creation, Creation::Unknown);
}

#[test]
fn a_job_that_is_cancelled_under_way_ends_when_its_worker_lets_go() {
    let place = Place::new();
    let site = &place.site;
    let batch = site.admit("a.manifest.json", &["put off", "given back", "asked after"]);
    for reference in ["put off", "given back", "asked after"] {
        site.claim(site.job(reference));
        assert!(site.queue.cancel(site.job(reference), NOW).unwrap().done);
        assert_eq!(site.state(site.job(reference)), JobState::Running);
    }
    let later = put_off(WaitReason::Retry, Creation::None, LATER);
    site.end_try(site.job("put off"), End::PutOff(later), Evidence::default()).unwrap();
    let given_back = End::GiveBack { creation: Creation::None };
    site.end_try(site.job("given back"), given_back, Evidence::default()).unwrap();
    let unknown = put_off(WaitReason::ReadBack, Creation::Unknown, LATER);
    site.end_try(site.job("asked after"), End::PutOff(unknown), Evidence::default()).unwrap();
    assert_eq!(site.state(site.job("put off")), JobState::Cancelled);
    assert_eq!(site.state(site.job("given back")), JobState::Cancelled);
    assert_eq!(site.state(site.job("asked after")), JobState::Waiting);
    assert_eq!(site.batch_state(batch), "open");
}

#[test]
fn a_step_of_a_job_that_is_elsewhere_is_refused_and_changes_nothing() {
    let place = Place::new();
    let site = &place.site;
    site.admit("a.manifest.json", &["one"]);
    let one = site.job("one");
    let before = site.everything(one);
    let done = || attempt("create_document", "done");
    let evidence = || evidence(&[0], &[done()]);
    assert!(site.end_try(one, created("doc"), evidence()).is_err());
    assert!(site.wait(site.queue.upload_stored(one, 0, "i".into(), true, done(), NOW)).is_err());
    let refused = End::Refused { reason: "no".into(), problems: vec![] };
    assert!(site.end_try(one, refused, evidence()).is_err());
    assert!(site.wait(site.queue.intend(one, NOW)).is_err());
    let put_off = End::PutOff(put_off(WaitReason::Retry, Creation::None, LATER));
    assert!(site.end_try(one, put_off, evidence()).is_err());
    assert_eq!(site.everything(one), before);
    site.create(one, "doc");
    let before = site.everything(one);
    assert!(site.end_try(one, created("other"), Evidence::default()).is_err());
    assert!(!site.queue.release(one, Release::SendAgain, NOW).unwrap().done);
    assert_eq!(site.everything(one), before);
}

#[test]
fn wishes_are_answered_one_by_one_in_their_order() {
    let place = Place::new();
    let site = &place.site;
    site.admit("a.manifest.json", &["done", "queued"]);
    let (done, queued) = (site.job("done"), site.job("queued"));
    site.create(done, "doc");
    let answers = site.queue.command(vec![queued, done, 999], JobCommand::Cancel, NOW).unwrap();
    let seen: Vec<(i64, bool)> = answers.iter().map(|answer| (answer.job, answer.done)).collect();
    assert_eq!(seen, [(queued, true), (done, false), (999, false)]);
    let again = site.queue.command(vec![queued], JobCommand::Retry, NOW).unwrap();
    assert!(again[0].done);
    assert_eq!(site.state(queued), JobState::Queued);
}

#[test]
fn a_pause_keeps_its_time_and_its_cause() {
    let place = Place::new();
    let site = &place.site;
    site.queue.pause("", Cause::Operator, None, NOW).unwrap();
    site.queue.pause("", Cause::Operator, None, LATER).unwrap();
    site.queue.pause("", Cause::Outage, Some("503".into()), LATER).unwrap();
    let pauses = site.wait(site.queue.pauses()).unwrap();
    assert_eq!(
        pauses.iter().map(|pause| (pause.cause, pause.since)).collect::<Vec<_>>(),
        [(Cause::Operator, NOW), (Cause::Outage, LATER)]
    );
    assert!(site.queue.resume("", Cause::Operator).unwrap());
    assert!(!site.queue.resume("", Cause::Operator).unwrap());
    assert_eq!(site.wait(site.queue.pauses()).unwrap().len(), 1);
}

#[test]
fn an_overview_counts_what_was_created_and_names_the_newest_error() {
    let place = Place::new();
    let site = &place.site;
    site.admit("a.manifest.json", &["one", "two", "three"]);
    site.create(site.job("one"), "doc-1");
    site.put_off(site.job("two"), WaitReason::Retry, Creation::None, LATER);
    site.hold(site.job("three"), Creation::Unknown);
    let overview = |now| site.reader().overview(now).unwrap();
    let seen = overview(NOW);
    assert_eq!((seen.ended_lately, seen.lately_since), (1, Some(NOW)));
    assert_eq!(seen.last_error, Some((site.job("two"), "try_again: HTTP 503".into())));
    assert_eq!((seen.next_due, seen.possible_leftovers), (Some(LATER), 1));
    assert_eq!(overview(NOW.after(Duration::from_secs(601))).ended_lately, 0);
}

#[test]
fn an_id_is_kept_once_and_that_of_a_lost_answer_with_its_call() {
    let place = Place::new();
    let site = &place.site;
    site.admit("a.manifest.json", &["one"]);
    let job = site.job("one");
    site.claim(job);
    let call = |operation, outcome, id: &str| Attempt { remote_id: Some(id.into()), ..attempt(operation, outcome) };
    let stored = site.queue.upload_stored(job, 0, "img".into(), true, call("upload_image", "done", "img"), NOW);
    site.wait(stored).unwrap();
    let calls = [call("create_document", "lost", "doc-1"), call("create_document", "done", "doc-2")];
    site.end_try(job, created("doc-2"), evidence(&[], &calls)).unwrap();
    assert_eq!(site.value("SELECT group_concat(remote_id) FROM attempt"), "doc-1");
    let ids =
        "SELECT upload.remote_id || ' ' || job.remote_id FROM upload JOIN job ON id = job_id WHERE state = 'done'";
    assert_eq!(site.value(ids), "img doc-2");
    place.check();
}
