//! What the queue does about time: due times after a jump of the wall clock, and what was created lately.
//!
//! Due times are wall-clock milliseconds, since they outlive the process; a clock that is set must not let them come an
//! hour early, or never.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::{Queue, QueueError, rows};
use crate::clock::Timestamp;

/// No wait for a quota is longer: the longest that a header can ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// Attempts are written when they end and carry when they began, so that one may be out of order by this much. The
/// longest calls take minutes.
const OUT_OF_ORDER: Duration = Duration::from_secs(15 * 60);

/// Jumps that are remembered: those of more than an hour ago have no use.
const MOST_JUMPS: usize = 20;

/// Only a job whose document may exist is read back by when it was sent; these are in an index, and jobs that wait for
/// their turn are not.
const CAP_SENT: &str =
    "UPDATE job INDEXED BY job_in_doubt SET sent_at = ?1 WHERE creation = 'unknown' AND sent_at > ?1";

/// The last condition repeats the one before in a form by which the index over due times is entered.
const CAP_DUE: &str = "UPDATE job INDEXED BY job_due SET due_at = CASE waits WHEN 'quota' THEN ?1 ELSE ?2 END
  WHERE state = 'waiting' AND due_at IS NOT NULL AND due_at > CASE waits WHEN 'quota' THEN ?1 ELSE ?2 END
    AND due_at > min(?1, ?2)";

impl Queue {
    /// Shifts the due times of waiting jobs, and the `sent_at` of all that have not ended, by the `by_ms` milliseconds
    /// that the wall clock has jumped; likewise since when manifests wait for files. Returns the number of jobs. `then`
    /// runs before anything else is written, perhaps twice.
    pub(crate) async fn clock_jumped(&self, by_ms: i64, then: impl Fn() + Send + 'static) -> Result<usize, QueueError> {
        self.run("clock_jumped", move |connection| {
            let jobs = connection.execute(
                "UPDATE job SET due_at = due_at + ?1, sent_at = sent_at + ?1, unseen_at = unseen_at + ?1
                  WHERE state IN ('queued', 'waiting', 'running', 'held')
                    AND (due_at IS NOT NULL OR sent_at IS NOT NULL)",
                [by_ms],
            )?;
            connection.execute(
                "UPDATE job INDEXED BY job_in_doubt SET sent_at = sent_at + ?1, unseen_at = unseen_at + ?1
                  WHERE creation = 'unknown' AND state IN ('failed', 'cancelled')",
                [by_ms],
            )?;
            connection.execute("UPDATE arrival SET first_seen = first_seen + ?1", [by_ms])?;
            connection.execute("UPDATE recheck SET ended_at = ended_at + ?1, not_before = not_before + ?1", [by_ms])?;
            note_jump(connection, by_ms)?;
            then();
            Ok(jobs)
        })
        .await
    }

    /// Caps times so far ahead that only a wrong clock can have set them: due times beyond the longest wait of their
    /// kind (`longest` for tries), and past events that are dated in the future. Returns the number of due times.
    pub(crate) async fn cap_due(&self, now: Timestamp, longest: Duration) -> Result<usize, QueueError> {
        self.run("cap_due", move |connection| {
            connection.execute(CAP_SENT, [now.0])?;
            connection.execute("UPDATE arrival SET first_seen = ?1 WHERE first_seen > ?1", [now.0])?;
            connection.execute("UPDATE recheck SET ended_at = ?1 WHERE ended_at > ?1", [now.0])?;
            let (quota, tries) = (now.after(LONGEST_WAIT), now.after(longest.min(LONGEST_WAIT)));
            Ok(connection.execute(CAP_DUE, [quota.0, tries.0])?)
        })
        .await
    }

    /// When the jobs of these drops created documents since a moment, the latest first, `most` of them at most.
    pub(crate) async fn created_since(
        &self,
        drops: Vec<String>,
        since: Timestamp,
        most: u64,
    ) -> Result<Vec<Timestamp>, QueueError> {
        self.run("created_since", move |connection| created_since(connection, &drops, since, most)).await
    }
}

/// Notes which calls were dated by the clock as it was before a jump, since their times stay as they were.
fn note_jump(connection: &Connection, by_ms: i64) -> Result<(), QueueError> {
    let newest: i64 = connection.query_row("SELECT coalesce(max(id), 0) FROM attempt", [], |row| row.get(0))?;
    let mut jumps = jumps(connection)?;
    jumps.push((newest, by_ms));
    let oldest_kept = jumps.len().saturating_sub(MOST_JUMPS);
    let text: Vec<String> = jumps.iter().skip(oldest_kept).map(|(id, by_ms)| format!("{id}:{by_ms}")).collect();
    connection.execute("INSERT OR REPLACE INTO setting (name, value) VALUES ('clock_jumps', ?1)", [text.join(" ")])?;
    Ok(())
}

/// The latest jumps: the last call before each, and by how many milliseconds it was.
pub(super) fn jumps(connection: &Connection) -> Result<Vec<(i64, i64)>, QueueError> {
    let text: Option<String> = connection
        .query_row("SELECT value FROM setting WHERE name = 'clock_jumps'", [], |row| row.get(0))
        .optional()?;
    let text = text.unwrap_or_default();
    Ok(text
        .split_whitespace()
        .filter_map(|jump| {
            let (id, by_ms) = jump.split_once(':')?;
            Some((id.parse().ok()?, by_ms.parse().ok()?))
        })
        .collect())
}

/// When an attempt was made, by the clock as it is now.
fn moved_along(jumps: &[(i64, i64)], attempt_id: i64, at: i64) -> i64 {
    let later = jumps.iter().filter(|(before, _)| attempt_id <= *before).map(|(_, by_ms)| by_ms);
    later.fold(at, |at, by_ms| at.saturating_add(*by_ms))
}

/// The same of one attempt.
pub(super) fn by_clock_now(connection: &Connection, attempt_id: i64, at: i64) -> Result<Timestamp, QueueError> {
    Ok(Timestamp(moved_along(&jumps(connection)?, attempt_id, at)))
}

/// Walks back from the newest attempt: there is no index by time, which every call would have to pay for.
fn created_since(
    connection: &Connection,
    drops: &[String],
    since: Timestamp,
    most: u64,
) -> Result<Vec<Timestamp>, QueueError> {
    let drop_ids: Vec<i64> = drops
        .iter()
        .filter_map(|name| {
            connection
                .query_row("SELECT id FROM drop_folder WHERE name = ?1", [name], |row| row.get(0))
                .optional()
                .transpose()
        })
        .collect::<Result<_, _>>()?;
    let oldest = since.0.saturating_sub(i64::try_from(OUT_OF_ORDER.as_millis()).unwrap_or(i64::MAX));
    // A document rarely takes more than a handful of calls, so that a walk much longer than that is not worth it.
    let longest = rows::signed(most.saturating_mul(64));
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let mut statement = connection.prepare(
        "SELECT id, at, operation = 'create_document' AND outcome IN ('done', 'lost'),
                (SELECT drop_id FROM job WHERE job.id = job_id)
           FROM attempt ORDER BY id DESC LIMIT ?1",
    )?;
    let jumps = jumps(connection)?;
    let mut rows = statement.query(params![longest])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let (id, at, created): (i64, i64, bool) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let at = moved_along(&jumps, id, at);
        if at < oldest || found.len() >= most {
            break;
        }
        if created && at >= since.0 && drop_ids.contains(&row.get(3)?) {
            found.push(Timestamp(at));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        job::{Creation, JobState, WaitReason},
        queue::{
            attempt::{Attempt, End, Evidence},
            test_support::{DROP, NOW, Site, attempt, put_off},
        },
    };

    #[test]
    fn what_waits_moves_along_with_a_clock_that_jumps() {
        let site = Site::new();
        site.admit("a.manifest.json", &["waiting", "running", "queued", "done"]);
        let job = |reference: &str| site.job(reference);
        site.put_off(job("waiting"), WaitReason::Quota, Creation::None, NOW.after(Duration::from_secs(60)));
        site.create(job("done"), "doc");
        site.claim(job("running"));
        site.wait(site.queue.intend(job("running"), NOW)).unwrap();
        let done = site.everything(job("done"));

        assert_eq!(site.wait(site.queue.clock_jumped(-3_600_000, || ())).unwrap(), 2);
        let number = |column: &str, reference: &str| -> i64 {
            site.value(&format!("SELECT {column} FROM job WHERE id = {}", job(reference))).parse().unwrap()
        };
        assert_eq!(number("due_at", "waiting"), NOW.0 + 60_000 - 3_600_000);
        assert_eq!(number("sent_at", "running"), NOW.0 - 3_600_000);
        assert_eq!(site.everything(job("done")), done);
        // It is due as soon as the clock that was set back says so, not an hour later.
        let back = Timestamp(NOW.0 - 3_600_000);
        let ready = site.wait(site.queue.ready(back)).unwrap();
        assert_eq!(ready.next_due, Some(back.after(Duration::from_secs(60))));
        site.wait(site.queue.ready(back.after(Duration::from_secs(60)))).unwrap();
        assert_eq!(site.state(job("waiting")), JobState::Queued);

        // A worker that puts a job off has the `sent_at` from before the jump; the shifted one is kept.
        let mut later = put_off(WaitReason::ReadBack, Creation::Unknown, back);
        (later.sent_at, later.clock_ms) = (Some(NOW.0), 3_600_000);
        site.end_try(job("running"), End::PutOff(later), Evidence::default()).unwrap();
        assert_eq!(number("sent_at", "running"), back.0);
        // And it stays the time of sending where the job is due, and nobody takes it up.
        site.wait(site.queue.ready(back.after(Duration::from_secs(1)))).unwrap();
        assert_eq!(site.state(job("running")), JobState::Queued);
        site.wait(site.queue.clock_jumped(3_600_000, || ())).unwrap();
        assert_eq!(number("sent_at", "running"), NOW.0);
    }

    #[test]
    fn a_document_that_waited_for_its_turn_was_sent_when_it_was_sent() {
        let site = Site::new();
        site.admit("a.manifest.json", &["one"]);
        let job = site.job("one");
        site.claim(job);
        site.wait(site.queue.intend(job, NOW)).unwrap();
        let sent = NOW.after(Duration::from_secs(70));
        let mut lost = put_off(WaitReason::ReadBack, Creation::Unknown, sent.after(Duration::from_secs(1)));
        lost.sent_at = Some(sent.0);
        site.end_try(job, End::PutOff(lost), Evidence::default()).unwrap();
        assert_eq!(site.value("SELECT sent_at FROM job"), sent.0.to_string());
    }

    #[test]
    fn a_due_time_that_only_a_wrong_clock_can_have_set_is_brought_nearer() {
        let site = Site::new();
        site.admit("a.manifest.json", &["near", "far", "lost"]);
        let (year, quarter) = (Duration::from_secs(365 * 86_400), Duration::from_secs(900));
        site.put_off(site.job("near"), WaitReason::Quota, Creation::None, NOW.after(LONGEST_WAIT));
        site.put_off(site.job("far"), WaitReason::Quota, Creation::None, NOW.after(year));
        // An hour is a day's quota, but no retry.
        let hour = NOW.after(Duration::from_secs(3600));
        site.claim(site.job("lost"));
        let mut lost = put_off(WaitReason::ReadBack, Creation::Unknown, hour);
        lost.sent_at = Some(hour.0);
        site.end_try(site.job("lost"), End::PutOff(lost), Evidence::default()).unwrap();
        assert_eq!(site.wait(site.queue.cap_due(NOW, quarter)).unwrap(), 2);
        assert_eq!(site.value("SELECT max(due_at) FROM job"), NOW.after(LONGEST_WAIT).0.to_string());
        let of_lost = |column: &str| site.value(&format!("SELECT {column} FROM job WHERE waits = 'read_back'"));
        assert_eq!(of_lost("due_at"), NOW.after(quarter).0.to_string());
        assert_eq!(of_lost("sent_at"), NOW.0.to_string(), "nothing was sent in the future");
    }

    /// A start with 300,000 jobs in the queue read all of them, and sent nothing for a sixth of a second.
    #[test]
    fn a_start_does_not_look_at_jobs_that_wait_for_their_turn() {
        let site = Site::new();
        let steps = || {
            let connection = Connection::open(site.queue.path()).unwrap();
            [(CAP_SENT, vec![NOW.0]), (CAP_DUE, vec![NOW.0, NOW.0])].map(|(sql, times)| {
                let mut statement = connection.prepare(sql).unwrap();
                statement.execute(rusqlite::params_from_iter(times)).unwrap();
                statement.get_status(rusqlite::StatementStatus::VmStep)
            })
        };
        site.admit("few.manifest.json", &["one", "two"]);
        site.put_off(site.job("one"), WaitReason::Quota, Creation::None, Timestamp(NOW.0 - 1));
        let with_few = steps();
        let names: Vec<String> = (0..300).map(|number| format!("job-{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        site.admit("many.manifest.json", &names);
        for name in names.iter().take(30) {
            site.put_off(site.job(name), WaitReason::Quota, Creation::None, Timestamp(NOW.0 - 1));
        }
        assert_eq!(steps(), with_few);
    }

    #[test]
    fn what_was_created_within_the_hour_is_found_and_nothing_else() {
        let site = Site::new();
        site.admit("a.manifest.json", &["old", "new", "newer", "refused"]);
        let hour = Duration::from_secs(3600);
        let create = |reference: &str, at: Timestamp| {
            let job = site.job(reference);
            site.claim(job);
            let image = attempt("upload_image", "done");
            site.wait(site.queue.upload_stored(job, 0, reference.into(), true, image, at)).unwrap();
            let document = Attempt { at, ..attempt("create_document", "done") };
            let created = End::Created { remote_id: format!("doc-{reference}") };
            let evidence = Evidence { attempts: vec![document], ..Evidence::default() };
            site.wait(site.queue.end_try(job, created, evidence, at)).unwrap();
        };
        create("old", Timestamp(NOW.0 - 1));
        create("new", NOW);
        create("newer", NOW.after(hour));
        site.fail(site.job("refused"), "no");
        let created = |drops: &[&str], most| {
            let drops = drops.iter().map(|&name| name.to_owned()).collect();
            site.wait(site.queue.created_since(drops, NOW, most)).unwrap()
        };
        assert_eq!(created(&[DROP], 100), [NOW.after(hour), NOW]);
        assert_eq!(created(&["other", DROP], 100).len(), 2);
        assert_eq!(created(&["other"], 100), [], "another account's documents are not this one's");
        assert_eq!(created(&[DROP], 1), [NOW.after(hour)]);

        // Each call keeps the time that its clock showed; the rate counts by the clock as it is now.
        for jump in [-1_200_000, 600_000] {
            site.wait(site.queue.clock_jumped(jump, || ())).unwrap();
        }
        assert_eq!(created(&[DROP], 100), [Timestamp(NOW.after(hour).0 - 600_000)], "both by ten minutes less");
        site.wait(site.queue.clock_jumped(600_000, || ())).unwrap();
        assert_eq!(created(&[DROP], 100), [NOW.after(hour), NOW]);
    }
}
