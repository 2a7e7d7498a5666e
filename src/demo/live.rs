//! Describes what happens to jobs, as lines, by comparing their rows at one moment and the next.
//!
//! Pure: the caller reads the queue. Each event is reported once.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    job::JobState,
    queue::views::jobs::{AttemptRow, JobDetail},
};

/// What has been reported already.
#[derive(Debug, Default)]
pub struct Live {
    manifests: BTreeSet<String>,
    jobs: BTreeMap<i64, Told>,
}

#[derive(Debug, Default)]
struct Told {
    calls: usize,
    ended: bool,
}

impl Live {
    /// The lines for what is new about these jobs, in the order in which it began.
    pub fn report(&mut self, jobs: &[JobDetail]) -> Vec<String> {
        let mut lines = Vec::new();
        for detail in jobs {
            if self.manifests.insert(detail.job.manifest.clone()) {
                let good = jobs.iter().filter(|other| other.job.manifest == detail.job.manifest).count();
                lines.push((0, format!("{} came in: {good} to create", detail.job.manifest)));
            }
            let seen = self.jobs.entry(detail.job.id).or_default();
            let mut last = 1;
            for call in detail.calls.iter().skip(seen.calls) {
                last = call.at.map_or(last, |at| at.0);
                lines.push((last, format!("  {:<20} {}", name(detail), happened(detail, call))));
            }
            seen.calls = detail.calls.len();
            if is_end(detail.job.state) && !std::mem::replace(&mut seen.ended, true) {
                lines.push((last, format!("  {:<20} {}", name(detail), ended(detail))));
            }
        }
        // Stable, so that what one job did stays in its order.
        lines.sort_by_key(|(at, _)| *at);
        lines.into_iter().map(|(_, line)| line).collect()
    }
}

/// How a mishap is settled that is not.
pub const UNSETTLED: &str = "not settled";

/// What went wrong with a call, and how it was settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mishap {
    pub reference: String,
    /// What went wrong: a fragment.
    pub what: String,
    /// How it was settled: a fragment.
    pub settled: String,
}

/// Everything that went wrong on the way of a job.
#[must_use]
pub fn mishaps(detail: &JobDetail) -> Vec<Mishap> {
    let calls = detail.calls.iter().enumerate();
    calls
        .filter(|(_, call)| !matches!(call.outcome.as_str(), "done" | "adopted"))
        .map(|(at, call)| Mishap {
            reference: name(detail).to_owned(),
            what: format!("{}: {}", call_name(call), call.detail.as_deref().unwrap_or(&call.outcome)),
            settled: settled(detail, call, detail.calls.get(at + 1..).unwrap_or_default()),
        })
        .collect()
}

fn settled(detail: &JobDetail, call: &AttemptRow, later: &[AttemptRow]) -> String {
    let created = detail.job.remote_id.as_deref().filter(|_| detail.job.state == JobState::Done);
    let adopted = later.iter().any(|later| later.outcome == "adopted");
    let worked = later
        .iter()
        .any(|later| later.outcome == "done" && later.operation == call.operation && later.position == call.position);
    match (created, call.outcome.as_str()) {
        (Some(id), _) if adopted => {
            format!("the profile's documents were read back: it exists as {id}, so it was not created again")
        }
        (Some(_), "lost") if worked => {
            "the answer does not say whether it arrived, so it was sent again, and a possible leftover was counted"
                .into()
        }
        (Some(_), _) if worked => "nothing had been created, so it was sent again".to_owned(),
        _ => UNSETTLED.to_owned(),
    }
}

fn name(detail: &JobDetail) -> &str {
    detail.job.reference.as_deref().unwrap_or("without reference")
}

const fn is_end(state: JobState) -> bool {
    matches!(state, JobState::Done | JobState::Duplicate | JobState::Failed | JobState::Cancelled)
}

fn call_name(call: &AttemptRow) -> String {
    let number = call.position.unwrap_or(0) + 1;
    match call.operation.as_str() {
        "upload_image" => format!("sending image {number}"),
        "upload_file" => "sending the file".to_owned(),
        "create_document" => "creating the document".to_owned(),
        "read_documents" => "reading the profile's documents back".to_owned(),
        other => other.to_owned(),
    }
}

fn happened(detail: &JobDetail, call: &AttemptRow) -> String {
    let said = call.detail.as_deref().unwrap_or_default();
    match (call.outcome.as_str(), call.operation.as_str()) {
        ("done", "upload_image") => {
            let upload = call.position.and_then(|at| detail.uploads.get(usize::try_from(at).ok()?));
            upload.map_or_else(|| call_name(call), |upload| format!("{} is up", upload.path))
        }
        ("done", "upload_file") => "the file is up".to_owned(),
        ("done", "create_document") => "the document is made of its images".to_owned(),
        ("adopted", _) => "the profile was read back: the document is there, so it is not created again".to_owned(),
        ("lost", _) => format!("! {}: it is not known whether it worked: {said}", call_name(call)),
        ("try_again", _) => format!("! {}: {said}: nothing was created, it is tried again", call_name(call)),
        (outcome, _) => format!("! {}: {outcome} {said}", call_name(call)),
    }
}

fn ended(detail: &JobDetail) -> String {
    let id = detail.job.remote_id.as_deref().unwrap_or("nothing");
    match detail.job.state {
        JobState::Done => format!("= {} {id}", detail.job.kind),
        JobState::Duplicate => format!("= exists already: {id}"),
        other => format!("= {}: {}", other.as_str(), detail.job.reason.as_deref().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Timestamp,
        job::Creation,
        queue::views::jobs::{JobRow, UploadRow},
    };

    fn detail(state: JobState, calls: &[(&str, &str)]) -> JobDetail {
        let job = JobRow {
            id: 1,
            drop: "demo".into(),
            manifest: "a.manifest.json".into(),
            index: 0,
            kind: "document".into(),
            profile_id: String::new(),
            reference: Some("ref".into()),
            category: String::new(),
            document_type: String::new(),
            name: None,
            state,
            waits: None,
            reason: None,
            due_at: None,
            waits_since: None,
            attempts: 0,
            creation: Creation::None,
            remote_id: (state == JobState::Done).then(|| "the-id".into()),
            twin_of: None,
            problems: Vec::new(),
            cause: None,
            created_at: None,
            ended_at: None,
            removed_at: None,
        };
        let upload = UploadRow {
            path: "front.png".into(),
            image_type: None,
            bytes: 1,
            sha256: String::new(),
            remote_id: None,
            lost_answers: 0,
        };
        let calls = calls.iter().enumerate().map(|(at, (operation, outcome))| AttemptRow {
            at: Some(Timestamp(100 + at as i64)),
            operation: (*operation).into(),
            position: Some(0),
            outcome: (*outcome).into(),
            detail: (*outcome != "done").then(|| "reset".into()),
            took_ms: 1,
            sent_bytes: 1,
        });
        JobDetail {
            calls: calls.collect(),
            job,
            root: String::new(),
            receipt: None,
            warnings: Vec::new(),
            uploads: vec![upload],
            waits_for_trial_of: None,
            acts: Vec::new(),
            doubled: None,
        }
    }

    #[test]
    fn each_event_is_reported_once() {
        let mut live = Live::default();
        let first = live.report(&[detail(JobState::Running, &[("upload_image", "done")])]);
        assert_eq!(first.len(), 2);
        assert_eq!(first[0], "a.manifest.json came in: 1 to create");
        assert!(first[1].contains("front.png is up"), "{first:?}");
        let done = detail(JobState::Done, &[("upload_image", "done"), ("create_document", "done")]);
        let second = live.report(std::slice::from_ref(&done));
        assert_eq!(second.len(), 2, "{second:?}");
        assert!(second[1].contains("= document the-id"), "{second:?}");
        assert_eq!(live.report(&[done]), [""; 0]);
    }

    #[test]
    fn a_lost_answer_is_settled_by_reading_back() {
        let calls = [("create_document", "lost"), ("read_documents", "adopted")];
        let found = mishaps(&detail(JobState::Done, &calls));
        assert_eq!(found.len(), 1);
        assert!(found[0].settled.contains("as the-id, so it was not created again"), "{found:?}");
        let open = mishaps(&detail(JobState::Waiting, &calls[..1]));
        assert_eq!(open[0].settled, UNSETTLED);
    }

    #[test]
    fn a_call_that_was_turned_away_is_sent_again() {
        for (outcome, said) in [("try_again", "nothing had been created"), ("lost", "a possible leftover")] {
            let calls = [("upload_image", outcome), ("upload_image", "done"), ("create_document", "done")];
            let found = mishaps(&detail(JobState::Done, &calls));
            assert_eq!(found[0].what, "sending image 1: reset");
            assert!(found[0].settled.contains("sent again") && found[0].settled.contains(said), "{found:?}");
        }
    }
}
