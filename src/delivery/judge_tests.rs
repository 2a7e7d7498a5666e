//! What calls and files mean for a job, as tables: no queue, no API, no runtime.

use super::*;
use crate::{
    job::{Declared, FileLocation, test_support},
    policy::LostFile,
    retry::RetryPolicy,
};

const SENT: Timestamp = Timestamp(1_000_000);
const FILE_PATIENCE: Duration = Duration::from_secs(3600);

fn judge() -> Judge {
    let retry = RetryPolicy {
        initial: Duration::from_secs(1),
        max: Duration::from_secs(300),
        give_up_after: Duration::from_secs(600),
    };
    let absence = AbsenceBounds {
        absent_after: Duration::from_secs(70),
        request_lives: Duration::from_secs(60),
        list_lag: Duration::from_secs(10),
    };
    Judge::new(RetryBounds { retry, absence, lost_file: LostFile::Hold, file: Duration::ZERO })
}

fn upload() -> Upload {
    Upload { path: "a.pdf".into(), remote_id: Some("image".into()), ..test_support::upload(0) }
}

/// A document whose answer was lost.
pub(in crate::delivery) fn job(change: impl FnOnce(&mut Job)) -> Job {
    test_support::job(|job| {
        job.uploads = vec![upload()];
        job.file_patience = FILE_PATIENCE;
        job.creation = Creation::Unknown;
        job.sent_at = Some(SENT.0);
        change(job);
    })
}

/// A verdict, in few words.
fn text(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Wait { waits, delay, .. } => format!("{waits:?} in {} ms", delay.as_millis()),
        Verdict::Hold { .. } => "hold".into(),
        Verdict::Refuse { .. } => "refuse".into(),
        Verdict::PauseAccount { .. } => "pause".into(),
    }
}

#[test]
fn a_document_in_doubt_is_looked_for_until_the_bound_has_passed_and_then_at_most_so_far_apart() {
    let looks = |attempts, doubt, passed: Option<u64>| {
        let job = job(|job| job.attempts = attempts);
        text(&judge().look_again(&job, doubt, passed.map(Duration::from_secs), Duration::ZERO, 1.0))
    };
    // Failed tries, a doubt, and how much of the bound has passed.
    for (what, attempts, doubt, passed, expected) in [
        ("just sent", 0, None, Some(0), "ReadBack in 1000 ms"),
        ("later", 3, None, Some(20), "ReadBack in 8000 ms"),
        ("nearly certain", 9, None, Some(69), "ReadBack in 1000 ms"),
        ("the clock was moved", 9, None, None, "ReadBack in 70000 ms"),
        ("what is missing may lag", 9, None, Some(70), "ReadBack in 10000 ms"),
        ("doubtful", 6, Some("odd"), Some(70), "ReadBack in 64000 ms"),
        ("doubtful for long", 20, Some("odd"), Some(7000), "ReadBack in 300000 ms"),
    ] {
        assert_eq!(looks(attempts, doubt, passed), expected, "{what}");
    }
}

#[test]
fn a_key_that_is_refused_for_a_profile_only_stops_nobody_else() {
    let judged = |stopped, job: Job| text(&judge().refused_key(&job, "forbidden".into(), &[], stopped, 1.0));
    let none = |job: &mut Job| job.creation = Creation::None;
    let spent = |job: &mut Job| (job.attempts, job.tried_ms) = (20, 700_000);
    assert_eq!(judged(true, job(none)), "pause");
    assert_eq!(judged(false, job(none)), "Retry in 1000 ms");
    assert_eq!(judged(false, job(|_| {})), "ReadBack in 1000 ms", "whether it was created is not known");
    assert_eq!(judged(false, job(|job| (none(job), spent(job)).0)), "refuse");
    assert_eq!(judged(false, job(|job| spent(job))), "hold", "only a person can find out");
}

#[test]
fn a_file_that_has_changed_is_an_end_and_one_that_cannot_be_read_is_waited_for() {
    let away = || Refusal::Io(std::io::Error::other("bad disk"));
    let looked_before = || job(|job| job.file_ms = 1000);
    let late = || job(|job| job.file_ms = 3_600_000);
    for (what, refusal, job, expected) in [
        ("cannot be read", away(), job(|_| {}), "File in 1000 ms"),
        ("could not be read for long", away(), late(), "refuse"),
        ("gone just now", Refusal::Missing, job(|_| {}), "File in 1000 ms"),
        ("gone", Refusal::Missing, looked_before(), "refuse: file-changed"),
        ("another size", Refusal::Unsafe(CHANGED), job(|_| {}), "refuse: file-changed"),
        ("a link", Refusal::Unsafe("it is a link"), job(|_| {}), "refuse: file-changed"),
    ] {
        let verdict = judge().unopened(&refusal, &job, &upload(), 1.0).verdict;
        let code = match &verdict {
            Verdict::Refuse { problem, .. } => problem.code.as_ref().map(|code| format!(": {code}")),
            _ => None,
        };
        assert_eq!(text(&verdict) + &code.unwrap_or_default(), expected, "{what}");
    }
}

#[test]
fn a_file_that_has_changed_is_named_with_where_it_was_kept() {
    let judged = |upload: &Upload| match judge().changed(CHANGED, None, &job(|_| {}), upload).verdict {
        Verdict::Refuse { problem, .. } => problem,
        other => panic!("{other:?}"),
    };
    let in_place = judged(&upload());
    assert_eq!((in_place.path.as_deref(), in_place.field.as_deref()), (Some("a.pdf"), Some("images[0].path")));
    assert_eq!(in_place.code.as_deref(), Some("file-changed"));
    assert!(in_place.cure.contains("`retry 1 --take-changed`"), "{}", in_place.cure);
    let declared = Declared { sha256: true, ..Declared::default() };
    let cure = judged(&Upload { declared, ..upload() }).cure;
    assert!(cure.contains("`retry 1`") && !cure.contains("--take-changed"), "what is refused is no cure: {cure}");
    let place = FileLocation { root: "/work".into(), path: "a.pdf".into() };
    let taken = judged(&Upload { moved_to: Some(place), ..upload() });
    assert_eq!(taken.code.as_deref(), Some("taken-file-changed"));
}
