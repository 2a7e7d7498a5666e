use std::sync::Arc;

use super::*;
use crate::{
    job::{JobState, WaitReason},
    queue::{
        attempt::{Attempt, End, Evidence, PutOff},
        control::Release,
        test_support::{NOW, Site, attempt, put_off},
    },
};

const ENDED: Timestamp = Timestamp(NOW.0 + 90_000);

/// Sends the one image of a queued document and records the intent to create it.
fn upload(site: &Site, job: i64, image: &str) {
    site.claim(job);
    site.wait(site.queue.upload_stored(job, 0, image.into(), true, attempt("upload_image", "done"), NOW)).unwrap();
}

fn create(site: &Site, job: i64, image: &str, document: &str, at: Timestamp) {
    upload(site, job, image);
    let end = End::Created { remote_id: document.into() };
    site.wait(site.queue.end_try(job, end, Evidence::default(), at)).unwrap();
}

/// Loses the answer to the creation, which had this ID beside an error.
fn lose(site: &Site, job: i64, image: &str, answered: Option<&str>) {
    upload(site, job, image);
    let put_off = PutOff { sent_at: Some(ENDED.0), ..put_off(WaitReason::ReadBack, Creation::Unknown, ENDED) };
    let lost = Attempt { remote_id: answered.map(Into::into), ..attempt("create_document", "lost") };
    let evidence = Evidence { attempts: vec![lost], ..Evidence::default() };
    site.end_try(job, End::PutOff(put_off), evidence).unwrap();
}

fn known(site: &Site, job: i64) -> ProfileKnowledge {
    site.wait(site.queue.profile_knowledge(job)).unwrap()
}

fn claim_due(site: &Site, job: i64) {
    site.wait(site.queue.ready(ENDED)).unwrap();
    site.claim(job);
}

#[test]
fn what_the_queue_created_on_a_profile_is_known_apart_from_what_people_said() {
    let site = Site::new();
    site.admit("a.manifest.json", &["created", "released", "answered", "lost"]);
    let [done, released, answered, lost] = ["created", "released", "answered", "lost"].map(|name| site.job(name));
    create(&site, done, "i1", "d1", NOW);
    upload(&site, released, "i2");
    let held = End::Held { reason: "doubt".into(), creation: Creation::Unknown };
    site.end_try(released, held, Evidence::default()).unwrap();
    site.queue.release(released, Release::AsCreated("d2".into()), NOW).unwrap();
    lose(&site, answered, "i3", Some("d3"));
    lose(&site, lost, "i4", None);

    let of_lost = known(&site, lost);
    assert_eq!(of_lost.sought.image_ids, ["i4"]);
    assert_eq!(of_lost.call_ended, Some(ENDED));
    assert_eq!(of_lost.created.iter().map(|known| known.id.as_str()).collect::<Vec<_>>(), ["d1"]);
    assert_eq!((of_lost.created[0].image_ids.as_slice(), of_lost.created[0].created_at), (&["i1".to_owned()][..], NOW));
    assert_eq!(of_lost.taken, ["d1", "d2", "d3"], "of whatever other job, also of one in doubt");
    assert_eq!(known(&site, answered).sought.answered_id.as_deref(), Some("d3"));
    assert_eq!(site.wait(site.queue.control_document(lost, ENDED, Duration::ZERO, 0)).unwrap(), None);
    let foreign = |profile: &str, id: &str| {
        let profile = ProfileId::parse(profile).unwrap();
        site.wait(site.queue.is_of_another_profile(&profile, ["x", id].map(id_digest).to_vec())).unwrap()
    };
    let (own, other) = ("a2c4393a-e219-67a4-5ab4-2186952e9038", "a2c4393a-e219-67a4-5ab4-2186952e9039");
    assert_eq!((foreign(own, "d1"), foreign(other, "d1"), foreign(other, "d9")), (false, true, false));
    assert!(foreign(other, "D1"), "in any spelling");
}

#[test]
fn a_call_with_the_same_images_that_ended_later_counts() {
    let site = Site::new();
    site.admit("a.manifest.json", &["one", "two"]);
    let (one, two) = (site.job("one"), site.job("two"));
    lose(&site, one, "same", None);
    upload(&site, two, "same");
    let later = ENDED.after(Duration::from_secs(5));
    let end = put_off(WaitReason::ReadBack, Creation::Unknown, later);
    site.end_try(two, End::PutOff(PutOff { sent_at: Some(later.0), ..end }), Evidence::default()).unwrap();
    assert_eq!(known(&site, one).call_ended, Some(later));
}

#[test]
fn the_doubt_of_a_cancelled_document_moves_to_an_equal_entry() {
    let site = Site::new();
    site.admit("a.manifest.json", &["one"]);
    let one = site.job("one");
    upload(&site, one, "image");
    let end = End::Held { reason: "doubt".into(), creation: Creation::Unknown };
    site.end_try(one, end, Evidence::default()).unwrap();
    assert!(site.queue.cancel(one, NOW).unwrap().done);

    site.admit("b.manifest.json", &["two"]);
    let two = site.job("two");
    let taken_over = site.claim(two);
    assert_eq!((taken_over.creation, taken_over.image_ids()), (Creation::Unknown, Some(vec!["image".to_owned()])));
    assert_eq!(taken_over.next(), crate::job::Next::ReadBack);
    assert_eq!(known(&site, two).sought.image_ids, ["image"]);
    assert_eq!(known(&site, one).sought.image_ids, [""; 0], "an image belongs to one job");
    let row = |sql: &str| site.value(&format!("SELECT {sql} FROM job WHERE id = {one}"));
    assert_eq!((site.state(one), row("creation").as_str()), (JobState::Cancelled, "none"));
}

#[test]
fn how_late_a_document_appears_is_measured_and_the_longest_is_kept() {
    let site = Site::new();
    site.admit("a.manifest.json", &["created", "lost"]);
    let (done, lost) = (site.job("created"), site.job("lost"));
    create(&site, done, "i1", "d1", NOW);
    lose(&site, lost, "i2", None);
    let note = |seconds: u64, note: ReadingNote| {
        let asked = ENDED.after(Duration::from_secs(seconds));
        site.wait(site.queue.note_reading(lost, ReadingNote { asked, ..note })).unwrap()
    };
    let unseen = || ReadingNote { is_unseen: true, ..ReadingNote::default() };
    assert_eq!(note(3, ReadingNote { missing: vec![done], ..unseen() }), None);
    assert_eq!(note(8, ReadingNote { doubts: 2, ..unseen() }), None);
    assert_eq!((known(&site, lost).doubts, known(&site, lost).unseen_at), (2, Some(Timestamp(ENDED.0 + 8_000))));
    let observed = note(20, ReadingNote { is_found: true, shown: vec![done], ..ReadingNote::default() });
    let expected = Observed { late: Duration::from_secs(8), lag: Duration::from_secs(93) };
    assert_eq!(observed, Some(expected), "to the last lists without them");
    assert_eq!(site.wait(site.queue.observed()).unwrap(), expected);
    assert_eq!(known(&site, lost).observed, expected);
    assert_eq!(note(21, ReadingNote { is_found: true, ..ReadingNote::default() }), None, "no more than before");
}

#[test]
fn times_of_an_earlier_process_begin_again_and_doubts_with_a_persons_retry() {
    let site = Site::new();
    site.admit("a.manifest.json", &["waiting", "held"]);
    let (waiting, held) = (site.job("waiting"), site.job("held"));
    lose(&site, waiting, "i1", None);
    upload(&site, held, "i2");
    let end = End::Held { reason: "doubt".into(), creation: Creation::Unknown };
    site.wait(site.queue.end_try(held, end, Evidence::default(), ENDED)).unwrap();
    assert_eq!(
        known(&site, held).call_ended,
        Some(ENDED),
        "its call has ended by then, and no earlier moment is known"
    );
    let note = ReadingNote { asked: ENDED, is_unseen: true, doubts: 3, ..ReadingNote::default() };
    site.wait(site.queue.note_reading(waiting, note)).unwrap();

    let start = ENDED.after(Duration::from_secs(3600));
    site.wait(site.next_process().recover(Arc::default(), start)).unwrap();
    for job in [waiting, held] {
        assert_eq!((known(&site, job).call_ended, known(&site, job).unseen_at), (Some(start), None));
    }
    assert_eq!(known(&site, waiting).doubts, 3);
    assert!(site.queue.retry(waiting, start).unwrap().done);
    assert_eq!(known(&site, waiting).doubts, 0);
    claim_due(&site, waiting);
    assert!(site.queue.release(held, Release::SendAgain, start).map(|done| done.done).unwrap());
    assert_eq!(site.value(&format!("SELECT creation FROM job WHERE id = {held}")), "none");
}

#[test]
fn what_was_measured_beyond_the_bound_is_noted_until_the_bound_is_raised() {
    let site = Site::new();
    site.admit("a.manifest.json", &["lost"]);
    let lost = site.job("lost");
    lose(&site, lost, "i", None);
    let seconds = Duration::from_secs;
    for (after, is_found) in [(8, false), (20, true)] {
        let note = ReadingNote {
            asked: ENDED.after(seconds(after)),
            is_found,
            is_unseen: !is_found,
            ..ReadingNote::default()
        };
        site.wait(site.queue.note_reading(lost, note)).unwrap();
    }
    let noted = |request_lives: u64, now: Timestamp| {
        let (request_lives, list_lag) = (seconds(request_lives), seconds(1));
        let bounds = AbsenceBounds { absent_after: request_lives + list_lag, request_lives, list_lag };
        site.wait(site.queue.note_bounds(bounds, now)).unwrap();
        site.reader().overview(now).unwrap().broken_bounds
    };
    let first = noted(5, NOW);
    assert_eq!(first.iter().map(|bound| bound.since).collect::<Vec<_>>(), [NOW]);
    assert!(first[0].what.contains("8 s") && first[0].cure.contains("api.request_lives"), "{first:?}");
    assert_eq!(noted(5, ENDED), first, "since it was first noticed");
    assert_eq!(noted(7, ENDED), []);
}
