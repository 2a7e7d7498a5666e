//! Explains in one sentence why a job is in its state, for `show`, `jobs`, `why`, and the page.
//!
//! Pure: the moment is an argument. Every state has a sentence, also those that no release writes. What the queue
//! stored as the reason is part of the sentence, and may hold hostile names: the caller escapes it for terminals.

use std::time::Duration;

use crate::{
    clock::Timestamp,
    job::{Creation, JobState, WaitReason},
};

/// What the sentence about a job depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobExplanation<'a> {
    /// The state of the job.
    pub state: JobState,
    /// What a waiting one waits for.
    pub waits: Option<WaitReason>,
    /// How far the creation of its document has come.
    pub creation: Creation,
    /// Until when it waits.
    pub due_at: Option<Timestamp>,
    /// Failed tries so far.
    pub attempts: u32,
    /// The job that creates, or created, the same.
    pub twin_of: Option<i64>,
    /// The ID of what was created, or exists.
    pub remote_id: Option<&'a str>,
    /// What the queue stored as the reason.
    pub stored: Option<&'a str>,
}

/// One sentence without a full stop: why the job is in its state.
#[must_use]
pub fn reason(job: &JobExplanation<'_>, now: Timestamp) -> String {
    let asks = job.creation == Creation::Unknown;
    let why = job.stored.filter(|stored| !stored.is_empty()).map(|stored| format!(": {stored}")).unwrap_or_default();
    let id = job.remote_id.unwrap_or("an unknown ID");
    match job.state {
        JobState::Queued if asks => {
            "waiting for a worker, who first asks the API whether the document exists".to_owned()
        }
        JobState::Queued => "waiting for a worker".to_owned(),
        JobState::Running => match job.creation {
            Creation::None => "a worker sends it".to_owned(),
            Creation::Intended => "a worker creates its document".to_owned(),
            Creation::Unknown => "a worker asks the API whether the document exists".to_owned(),
        },
        JobState::Waiting => format!("{}{why}", waiting(job, now)),
        JobState::Held => format!("held until a person decides, see `release`{why}"),
        JobState::Done => format!("created as {id}"),
        JobState::Duplicate => match job.twin_of {
            Some(twin) => format!("not created again: job {twin} created the same as {id}"),
            None => format!("not created again: it exists as {id}"),
        },
        JobState::Failed if why.is_empty() => "failed, and nothing says why".to_owned(),
        JobState::Failed => format!("failed{why}"),
        JobState::Cancelled => "cancelled by a person".to_owned(),
    }
}

fn waiting(job: &JobExplanation<'_>, now: Timestamp) -> String {
    let due = match job.due_at {
        Some(due) if due > now => format!("due in {}", in_words(due.since(now))),
        Some(_) => "due now".to_owned(),
        None => "until a person sends it on".to_owned(),
    };
    match job.waits {
        Some(WaitReason::Retry) => format!("waiting for a retry: {due}, try {}", job.attempts.saturating_add(1)),
        Some(WaitReason::Quota) if job.due_at.is_none() => "waiting for the import's limit".to_owned(),
        Some(WaitReason::Quota) => format!("waiting for a quota: {due}"),
        Some(WaitReason::File) => format!("waiting for a file: looked at again, {due}"),
        Some(WaitReason::ReadBack) => {
            format!("waiting to ask the API whether the document exists, because its answer was lost: {due}")
        }
        Some(WaitReason::Twin) => match job.twin_of {
            Some(twin) => format!("waiting for job {twin}, which asks for the same"),
            None => "waiting for another job that asks for the same".to_owned(),
        },
        None => format!("waiting, and nothing says what for: {due}"),
    }
}

/// A duration in its two largest units, as `14 s` or `2 h 5 min`; what is shorter than a second is a second.
#[must_use]
pub fn in_words(duration: Duration) -> String {
    let seconds = duration.as_secs().max(1);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    let two = |large: u64, unit: &str, small: u64, smaller: &str| match small {
        0 => format!("{large} {unit}"),
        _ => format!("{large} {unit} {small} {smaller}"),
    };
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => two(minutes, "min", seconds % 60, "s"),
        (0, ..) => two(hours, "h", minutes, "min"),
        (1, ..) => two(days, "day", hours, "h"),
        _ => two(days, "days", hours, "h"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn explanation(state: JobState, waits: Option<WaitReason>, creation: Creation) -> JobExplanation<'static> {
        let due_at = Some(Timestamp(NOW.0 + 14_000));
        JobExplanation {
            state,
            waits,
            creation,
            due_at,
            attempts: 2,
            twin_of: Some(4),
            remote_id: Some("9a92"),
            stored: None,
        }
    }

    #[test]
    fn every_state_and_wait_has_a_sentence_of_its_own() {
        let mut sentences: HashMap<String, (JobState, Option<WaitReason>)> = HashMap::new();
        for state in JobState::ALL {
            let waits = match state {
                JobState::Waiting => WaitReason::ALL.map(Some).to_vec(),
                _ => vec![None],
            };
            for waits in waits {
                for creation in Creation::ALL {
                    let said = reason(&explanation(state, waits, creation), NOW);
                    assert!(said.len() > 10 && !said.ends_with(['.', ':', ' ']), "{state} {waits:?}: {said:?}");
                    let first = sentences.entry(said.clone()).or_insert((state, waits));
                    assert_eq!(*first, (state, waits), "{said:?} is said of two");
                }
            }
        }
    }

    #[test]
    fn waits_say_until_when() {
        let mut job = explanation(JobState::Waiting, Some(WaitReason::Retry), Creation::None);
        assert_eq!(reason(&job, NOW), "waiting for a retry: due in 14 s, try 3");
        job.stored = Some("HTTP 503");
        assert_eq!(reason(&job, NOW), "waiting for a retry: due in 14 s, try 3: HTTP 503");
        job.due_at = Some(NOW);
        assert!(reason(&job, NOW).contains("due now"));
        job.due_at = None;
        assert!(reason(&job, NOW).contains("until a person"));
    }

    #[test]
    fn a_lost_document_is_explained_by_its_read_back() {
        let queued = reason(&explanation(JobState::Queued, None, Creation::Unknown), NOW);
        assert!(queued.contains("asks the API"), "{queued}");
    }

    #[test]
    fn durations_read_as_people_say_them() {
        for (seconds, words) in [
            (0, "1 s"),
            (14, "14 s"),
            (60, "1 min"),
            (95, "1 min 35 s"),
            (7_500, "2 h 5 min"),
            (86_400, "1 day"),
            (270_000, "3 days 3 h"),
        ] {
            assert_eq!(in_words(Duration::from_secs(seconds)), words);
        }
    }
}
