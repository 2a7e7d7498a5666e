//! The steps of a trial that send jobs: its beginning, as a person asks for it, and what follows its end, in a worker's turns.

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    Queue, QueueError, acts,
    command_outcome::{self, CommandOutcome, state_of},
    control, rows,
    trials::{FIRST, IS_OPEN},
};
use crate::{clock::Timestamp, job::JobState};

/// Jobs that are tried to be sent first, where some cannot be sent at all.
const CANDIDATES: usize = 50;

/// Jobs that are sent on, or let go, in one turn of the dispatcher: a transaction of milliseconds.
const AT_ONCE: u32 = 200;

/// The beginning of a trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TrialStart {
    /// The answers of jobs that were tried to be sent first.
    pub(crate) answers: Vec<CommandOutcome>,
    /// How many of these are sent; none where the trial was under way already.
    pub(crate) sent: usize,
    /// How many wait for them, or stay failed where none is sent.
    pub(crate) others: i64,
    /// Whether a trial of the cause was under way already.
    pub(crate) joined: bool,
}

/// What a worker has to do for trials.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TrialTurn {
    /// Nothing.
    #[default]
    Idle,
    /// Something more, at once.
    More,
    /// Something more, once files have been moved away.
    Later,
}

impl Queue {
    /// Adds failed jobs to the trial of their cause, beginning it where none is open, and returns its number. Nothing is sent
    /// before [`Queue::start_trial`]. Jobs that have not failed any more are left out.
    pub(crate) fn gather_for_trial(
        &self,
        cause: i64,
        act: i64,
        jobs: Vec<i64>,
        now: Timestamp,
    ) -> Result<i64, QueueError> {
        self.run_blocking("gather_for_trial", move |connection| gather(connection, cause, act, &jobs, now))
    }

    /// Sends the first jobs of a trial, as far as that was not done before.
    pub(crate) fn start_trial(&self, trial: i64, now: Timestamp) -> Result<TrialStart, QueueError> {
        self.run_blocking("start_trial", move |connection| start(connection, trial, now))
    }
}

fn gather(connection: &Connection, cause: i64, act: i64, jobs: &[i64], now: Timestamp) -> Result<i64, QueueError> {
    let open: Option<i64> = connection
        .prepare_cached("SELECT id FROM trial WHERE cause_id = ?1 AND state IN ('gathering', 'running') LIMIT 1")?
        .query_row([cause], |row| row.get(0))
        .optional()?;
    let trial = match open {
        Some(trial) => trial,
        None => connection
            .prepare_cached(
                "INSERT INTO trial (cause_id, act_id, state, at) VALUES (?1, ?2, 'gathering', ?3) RETURNING id",
            )?
            .query_row(params![cause, act, now.0], |row| row.get(0))?,
    };
    let mut insert = connection.prepare_cached(&format!(
        "INSERT INTO trial_job (job_id, trial_id, is_first)
         SELECT id, ?2, 0 FROM job WHERE id = ?1 AND state = 'failed'
             ON CONFLICT (job_id) DO UPDATE SET trial_id = excluded.trial_id, is_first = 0
          WHERE NOT EXISTS (SELECT 1 FROM trial WHERE trial.id = trial_job.trial_id AND {IS_OPEN})"
    ))?;
    let mut added = Vec::new();
    for job in jobs {
        if insert.execute([*job, trial])? > 0 {
            added.push(*job);
        }
    }
    connection
        .prepare_cached("UPDATE trial SET others = others + ?2 WHERE id = ?1")?
        .execute(params![trial, rows::signed(added.len() as u64)])?;
    acts::note_jobs(connection, act, added)?;
    Ok(trial)
}

fn start(connection: &Connection, trial: i64, now: Timestamp) -> Result<TrialStart, QueueError> {
    let (state, others): (String, i64) = connection
        .prepare_cached("SELECT state, others FROM trial WHERE id = ?1")?
        .query_row([trial], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if state != "gathering" {
        return Ok(TrialStart { answers: Vec::new(), sent: 0, others, joined: true });
    }
    let mut answers = Vec::new();
    let (mut sent, mut left) = (0, 0);
    for job in candidates(connection, trial)? {
        let answer = control::retry_one(connection, job, now)?;
        left += 1;
        if answer.done {
            connection.prepare_cached("UPDATE trial_job SET is_first = 1 WHERE job_id = ?1")?.execute([job])?;
            sent += 1;
        } else {
            connection.prepare_cached("DELETE FROM trial_job WHERE job_id = ?1")?.execute([job])?;
        }
        answers.push(answer);
        if sent == FIRST {
            break;
        }
    }
    // Where none can be sent, nothing is known of the others.
    let state = if sent == 0 { "ending" } else { "running" };
    let others: i64 = connection
        .prepare_cached(
            "UPDATE trial SET state = ?2, at = ?3, sent = ?4, others = others - ?5 WHERE id = ?1 RETURNING others",
        )?
        .query_row(params![trial, state, now.0, rows::signed(sent as u64), left], |row| row.get(0))?;
    Ok(TrialStart { answers, sent, others, joined: false })
}

/// The jobs to be sent first: across all of them, since neighbours in a list often share more than its cause.
fn candidates(connection: &Connection, trial: i64) -> Result<Vec<i64>, QueueError> {
    let count: i64 = connection
        .prepare_cached("SELECT count(*) FROM trial_job WHERE trial_id = ?1 AND is_first = 0")?
        .query_row([trial], |row| row.get(0))?;
    let mut at = connection.prepare_cached(
        "SELECT job_id FROM trial_job WHERE trial_id = ?1 AND is_first = 0 ORDER BY job_id LIMIT 1 OFFSET ?2",
    )?;
    let last = rows::signed(FIRST as u64 - 1);
    let mut chosen = Vec::new();
    for place in 0..=last {
        let job = at.query_row([trial, (count - 1).max(0) * place / last], |row| row.get(0)).optional()?;
        chosen.extend(job.filter(|job| !chosen.contains(job)));
    }
    let mut all = connection
        .prepare_cached("SELECT job_id FROM trial_job WHERE trial_id = ?1 AND is_first = 0 ORDER BY job_id LIMIT ?2")?;
    let first: Vec<i64> =
        all.query_map(params![trial, CANDIDATES as i64], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let more: Vec<i64> = first.into_iter().filter(|job| !chosen.contains(job)).collect();
    chosen.extend(more);
    Ok(chosen)
}

/// Sends on, or lets go, some of the jobs of a trial that ends.
pub(super) fn advance(connection: &Connection, now: Timestamp) -> Result<TrialTurn, QueueError> {
    let ending: Option<(i64, bool)> = connection
        .prepare_cached(
            "SELECT id, is_good FROM trial WHERE state = 'ending' AND state <> 'ended' ORDER BY id LIMIT 1",
        )?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((trial, is_good)) = ending else { return Ok(TrialTurn::Idle) };
    let jobs: Vec<i64> = connection
        .prepare_cached("SELECT job_id FROM trial_job WHERE trial_id = ?1 AND is_first = 0 ORDER BY job_id LIMIT ?2")?
        .query_map(params![trial, AT_ONCE], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut gone = 0;
    for job in &jobs {
        let has_failed = state_of(connection, *job)? == Some(JobState::Failed);
        if is_good && has_failed {
            if command_outcome::moving(connection, *job)?.is_some() {
                continue;
            }
            control::retry_one(connection, *job, now)?;
        }
        connection.prepare_cached("DELETE FROM trial_job WHERE job_id = ?1")?.execute([job])?;
        gone += 1;
    }
    if gone == 0 && !jobs.is_empty() {
        return Ok(TrialTurn::Later);
    }
    let sent = if is_good { gone } else { 0 };
    connection
        .prepare_cached(
            "UPDATE trial SET others = others - ?2,
                    state = CASE WHEN EXISTS (SELECT 1 FROM trial_job WHERE trial_id = ?1 AND is_first = 0)
                                 THEN state ELSE 'ended' END
              WHERE id = ?1",
        )?
        .execute(params![trial, sent])?;
    Ok(TrialTurn::More)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::{
        acts::Caller,
        control::JobCommand,
        test_support::{NOW, Site},
        trials::TrialState,
        views::causes::CauseRow,
    };

    const REFUSED: &str = "the API refused it (code 201): create_document: HTTP 404: there is no such profile";

    /// So many jobs that failed for one cause.
    fn site(jobs: usize) -> (Site, Vec<i64>) {
        let site = Site::new();
        let references: Vec<String> = (0..jobs).map(|number| format!("r{number}")).collect();
        site.admit("a.manifest.json", &references.iter().map(String::as_str).collect::<Vec<_>>());
        let jobs: Vec<i64> = references.iter().map(|reference| site.job(reference)).collect();
        jobs.iter().for_each(|job| site.fail(*job, REFUSED));
        (site, jobs)
    }

    fn retry(site: &Site, jobs: &[i64]) -> TrialStart {
        let caller = Caller { who: "ops1".into(), words: "retry --cause 1".into() };
        let act = site.queue.begin_act("retry", caller, NOW).unwrap();
        let trial = site.queue.gather_for_trial(1, act, jobs.to_vec(), NOW).unwrap();
        site.queue.start_trial(trial, NOW).unwrap()
    }

    fn queued(site: &Site) -> Vec<i64> {
        let all = site.value("SELECT coalesce(group_concat(id), '') FROM job WHERE state = 'queued'");
        all.split(',').filter_map(|id| id.parse().ok()).collect()
    }

    /// What a worker does in its turns.
    fn turn(site: &Site) {
        while site.wait(site.queue.ready(NOW)).unwrap().trials == TrialTurn::More {}
    }

    fn cause(site: &Site) -> Option<CauseRow> {
        site.reader().causes(10).unwrap().into_iter().find(|cause| cause.cause == 1)
    }

    #[test]
    fn five_are_sent_first_and_the_others_follow_when_they_have_ended_well() {
        let (site, jobs) = site(12);
        let start = retry(&site, &jobs);
        assert_eq!((start.answers.len(), start.others), (5, 7));
        assert_eq!(queued(&site), [1, 3, 6, 9, 12], "across the list");
        let trial = cause(&site).unwrap().trial.unwrap();
        assert_eq!((trial.state, trial.by.as_deref()), (TrialState::Running, Some("ops1")));
        assert_eq!(trial.sentence(), "0 of 5 have ended well; 7 wait for these");
        assert_eq!(site.detail(2).waits_for_trial_of, Some(1));
        assert_eq!(site.detail(1).waits_for_trial_of, None);
        for job in [1, 3, 6, 9] {
            site.create(job, &format!("doc-{job}"));
            turn(&site);
            assert!(queued(&site).iter().all(|job| [3, 6, 9, 12].contains(job)));
        }
        // The process is killed between the last end and the next turn.
        site.create(12, "doc-12");
        assert_eq!(site.reader().left(&["partner-a"]).unwrap().to_do, 1, "a worker has something to do");
        let next = site.next_process();
        while site.wait(next.ready(NOW)).unwrap().trials == TrialTurn::More {}
        assert_eq!(queued(&site).len(), 7);
        assert_eq!(site.reader().left(&["partner-a"]).unwrap().to_do, 7);
        assert!(cause(&site).is_none());
        assert_eq!(site.detail(2).acts.len(), 1);
        assert_eq!(site.value("SELECT count(*) FROM trial_job"), "0");
    }

    #[test]
    fn where_one_fails_again_the_others_stay_failed_and_it_is_said() {
        let (site, jobs) = site(12);
        retry(&site, &jobs);
        site.create(1, "doc-1");
        site.fail(3, REFUSED);
        turn(&site);
        assert_eq!(queued(&site), [6, 9, 12], "what was sent continues");
        site.fail(6, "HTTP 403");
        let trial = cause(&site).unwrap().trial.unwrap();
        assert_eq!(trial.state, TrialState::Failed);
        assert_eq!(trial.sentence(), "2 of 5 failed again, so 7 others were not sent");
        assert_eq!(site.detail(2).waits_for_trial_of, None);
        assert_eq!(site.state(2), JobState::Failed);
        // Another one, once it is mended.
        let start = retry(&site, &[2, 3, 4, 5, 7, 8, 10]);
        assert_eq!((start.answers.len(), start.others), (5, 2));
        for job in [2, 4, 7, 10, 3, 5, 8].into_iter().filter(|job| queued(&site).contains(job)).collect::<Vec<_>>() {
            site.create(job, &format!("doc-{job}"));
        }
        turn(&site);
        assert_eq!(queued(&site).iter().filter(|job| ![9, 12].contains(job)).count(), 2);
    }

    #[test]
    fn a_second_retry_joins_the_trial_that_is_open_and_cancel_leaves_it() {
        let (site, jobs) = site(12);
        retry(&site, &jobs[..8]);
        let sent = queued(&site);
        let start = retry(&site, &jobs);
        assert_eq!((start.answers.len(), start.others), (0, 7));
        assert_eq!(queued(&site), sent);
        assert_eq!(site.reader().waiting_for_trial(1).unwrap().len(), 7);
        let waits = site.reader().waiting_for_trial(1).unwrap()[0];
        let cancelled = site.queue.command(vec![waits], JobCommand::Cancel, NOW).unwrap().remove(0);
        assert!(cancelled.done && cancelled.message.contains("no longer waits for the trial of cause 1"));
        assert_eq!(site.state(waits), JobState::Failed);
        for job in &sent {
            site.queue.cancel(*job, NOW).unwrap();
        }
        turn(&site);
        assert_eq!(queued(&site), [0; 0]);
        let sentence = cause(&site).unwrap().trial.unwrap().sentence();
        assert_eq!(sentence, "5 were stopped, so 6 others were not sent");
    }

    #[test]
    fn files_that_are_being_moved_are_waited_for() {
        let (site, jobs) = site(8);
        retry(&site, &jobs);
        for job in queued(&site) {
            site.create(job, &format!("doc-{job}"));
        }
        // The receipt for the five is written, and the files are on their way.
        let batch = 1;
        site.queue.name_receipt(batch, "r".into()).unwrap();
        site.queue.receipt_published(batch, crate::receipt::BatchStatus::Partial).unwrap();
        let turn_now = || site.wait(site.queue.ready(NOW)).unwrap().trials;
        assert_eq!((turn_now(), turn_now()), (TrialTurn::Later, TrialTurn::Later));
        assert_eq!(queued(&site), [0; 0]);
        site.queue.batch_closed(batch, None, None, Vec::new()).unwrap();
        turn(&site);
        assert_eq!(queued(&site).len(), 3);
        assert_eq!(turn_now(), TrialTurn::Idle);
    }

    #[test]
    fn where_none_can_be_sent_first_the_others_are_left_alone() {
        let (site, jobs) = site(8);
        // Each was created by a later entry, of which the failed ones do not know.
        let references: Vec<String> = (0..8).map(|number| format!("r{number}")).collect();
        site.admit("b.manifest.json", &references.iter().map(String::as_str).collect::<Vec<_>>());
        let start = retry(&site, &jobs);
        assert!(start.answers.iter().all(|answer| !answer.done) && start.answers.len() == 8, "{start:?}");
        turn(&site);
        assert_eq!(site.value("SELECT state FROM trial"), "ended");
    }
}
