//! What calls and files mean for a job, as tables: no queue, no API, no runtime.

use super::*;
use crate::{
    entry::{ProfileId, Sha256},
    job::Declared,
    policy::LostFile,
    retry::RetryPolicy,
};

const SENT: Timestamp = Timestamp(1_000_000);
const ABSENT_AFTER: Duration = Duration::from_secs(60);
const FILE_PATIENCE: Duration = Duration::from_secs(3600);

fn judge() -> Judge {
    let retry = RetryPolicy {
        initial: Duration::from_secs(1),
        max: Duration::from_secs(300),
        give_up_after: Duration::from_secs(600),
    };
    Judge::new(RetryBounds { retry, absent_after: ABSENT_AFTER, lost_file: LostFile::Hold, file: Duration::ZERO })
}

fn upload() -> Upload {
    Upload {
        position: 0,
        path: "a.pdf".into(),
        image_type: None,
        bytes: 1,
        sha256: Sha256([0; 32]),
        checksum: 0,
        declared: Declared::default(),
        remote_id: Some("image".into()),
        lost: 0,
        moved_to: None,
    }
}

/// A document whose answer was lost.
pub(in crate::delivery) fn job(change: impl FnOnce(&mut Job)) -> Job {
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
        uploads: vec![upload()],
        image_root: String::new(),
        image_folder: String::new(),
        file_patience: FILE_PATIENCE,
        settle: Duration::ZERO,
        clock_ms: 0,
        creation: Creation::Unknown,
        sent_at: Some(SENT.0),
        loss_answered: false,
        attempts: 0,
        tried_ms: 0,
        file_ms: 0,
    };
    change(&mut job);
    job
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
fn a_document_whose_answer_was_lost_is_absent_only_once_it_can_no_longer_appear() {
    let ours = [existing("ours", &["image"])];
    let others = [existing("other", &["another"])];
    let lost = || job(|_| {});
    let answered = || job(|job| job.loss_answered = true);
    // What is listed, the job, seconds after it was sent, and by how much the clock was moved.
    for (what, listed, job, seconds, moved_ms, expected) in [
        ("listed", &ours, lost(), 0, 0, "created"),
        ("listed late", &ours, lost(), 9999, 0, "created"),
        ("just sent", &others, lost(), 0, 0, "ReadBack in 1000 ms"),
        ("may still appear", &others, lost(), 59, 0, "ReadBack in 1000 ms"),
        ("nearly certain", &others, job(|job| job.attempts = 9), 59, 0, "ReadBack in 1000 ms"),
        ("certainly absent", &others, lost(), 60, 0, "absent"),
        ("the API had answered", &others, answered(), 9, 0, "ReadBack in 1000 ms"),
        ("the API had answered, and time has passed", &others, answered(), 10, 0, "absent"),
        ("the clock was moved meanwhile", &others, lost(), 3600, 7200, "ReadBack in 1000 ms"),
    ] {
        let asked = (SENT.after(Duration::from_secs(seconds)), moved_ms);
        let found = match judge().read_back(listed, &job, asked, Duration::ZERO, 1.0) {
            ReadBack::Created(id) => {
                assert_eq!(id, "ours");
                "created".into()
            }
            ReadBack::Absent => "absent".into(),
            ReadBack::NotYet(verdict) => text(&verdict),
        };
        assert_eq!(found, expected, "{what}");
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
fn a_file_that_is_not_as_it_was_checked_is_waited_for_until_its_time_is_over() {
    let problem = || Problem::error("truncated", "send it again");
    let good = || CheckedFile { bytes: 2, sha256: Sha256([1; 32]), checksum: 1, seen: None };
    let fresh = || job(|_| {});
    let late = || job(|job| job.file_ms = 3_600_000);
    for (what, found, job, expected) in [
        ("not yet", Recheck::NotYet(problem()), fresh(), "File in 1000 ms"),
        ("never", Recheck::NotYet(problem()), late(), "refuse"),
        ("open for writing", Recheck::BeingWritten, fresh(), "File in 2000 ms"),
        ("open for writing for long", Recheck::BeingWritten, late(), "File in 2000 ms"),
        ("bad", Recheck::Bad(problem()), fresh(), "refuse"),
        ("good", Recheck::Good(good()), fresh(), "rechecked, File in 50 ms"),
        ("changes for ever", Recheck::Good(good()), late(), "refuse"),
    ] {
        let judged = match judge().rechecked(found, &job, &upload(), None, 1.0) {
            Ok(rechecked) => format!("rechecked, {}", text(&rechecked.failed.verdict)),
            Err(failed) => text(&failed.verdict),
        };
        assert_eq!(judged, expected, "{what}");
    }
}

#[test]
fn a_file_that_cannot_be_opened_is_waited_for_unless_it_is_unsafe() {
    let judged = |refusal: Refusal| judge().unopened(&refusal, &job(|_| {}), &upload(), 1.0).verdict;
    assert_eq!(text(&judged(Refusal::Missing)), "File in 1000 ms");
    assert_eq!(text(&judged(Refusal::Io(std::io::Error::other("bad disk")))), "File in 1000 ms");
    let Verdict::Refuse { problem, .. } = judged(Refusal::Unsafe("it is a link")) else { panic!("it is unsafe") };
    assert_eq!((problem.path.as_deref(), problem.field.as_deref()), (Some("a.pdf"), Some("images[0].path")));
}

fn existing(id: &str, images: &[&str]) -> StandingDocument {
    StandingDocument {
        id: id.into(),
        category: String::new(),
        document_type: String::new(),
        image_ids: images.iter().map(|&image| image.into()).collect(),
    }
}

#[test]
fn only_a_document_with_exactly_our_images_is_ours() {
    let documents = [existing("more", &["a", "b", "c"]), existing("less", &["a"]), existing("ours", &["B", "a"])];
    assert_eq!(find(&documents, &["a".into(), "b".into()]), Some("ours"));
    assert_eq!(find(&documents, &["a".into(), "d".into()]), None);
    assert_eq!(find(&[], &["a".into()]), None);
}
