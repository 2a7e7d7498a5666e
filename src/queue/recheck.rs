//! Documents that were sent a second time, and the one more reading of their profiles that is due for each.
//!
//! Which documents these are, triggers of the database note; see `migrations/0017_recheck.sql`.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    Queue, QueueError, Reader,
    attempt::{self, Attempt},
    rows,
    verified::{self, CheckedDocuments},
};
use crate::clock::Timestamp;

/// A document whose profile is to be read once more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recheck {
    /// The job that it was created for.
    pub job: i64,
    /// The name of the job's drop.
    pub drop: String,
    /// The profile that is to be read.
    pub profile: String,
    /// The job's own document, if it has one.
    pub document_id: Option<String>,
    /// The IDs of the job's images.
    pub image_ids: Vec<String>,
    /// The IDs of documents on the profile that belong to other jobs.
    pub taken: Vec<String>,
    /// Readings that failed.
    pub failed: u32,
}

/// How many documents are to be looked at once more, and when the next reading is due.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RechecksLeft {
    /// All of them whose job has ended.
    pub documents: u64,
    /// Of these, how many are due.
    pub due: u64,
    /// When the next one is due.
    pub next: Option<Timestamp>,
}

/// When a reading is due; the first parameter is the time after the end of the job, in milliseconds.
const DUE: &str = "max(recheck.ended_at + ?1, recheck.not_before)";

impl Queue {
    /// The documents whose profiles are due to be read once more, `most` of them at most.
    pub(crate) async fn due_rechecks(
        &self,
        after: Duration,
        now: Timestamp,
        most: u32,
    ) -> Result<Vec<Recheck>, QueueError> {
        self.run("due_rechecks", move |connection| due(connection, after, now, most)).await
    }

    /// Records a reading that was understood: of these jobs, and which of them have several documents.
    pub(crate) async fn rechecked(
        &self,
        jobs: Vec<i64>,
        doubled: Vec<(i64, Vec<String>)>,
        attempt: Attempt,
        now: Timestamp,
    ) -> Result<(), QueueError> {
        self.run("rechecked", move |connection| {
            for job in &jobs {
                connection.prepare_cached("DELETE FROM recheck WHERE job_id = ?1")?.execute([job])?;
                attempt::note(connection, *job, &attempt)?;
            }
            verified::note(connection, &CheckedDocuments { doubled: doubled.clone(), ..Default::default() }, now)
        })
        .await
    }

    /// Puts a reading off that failed, or gives it up where there is no further moment.
    pub(crate) async fn recheck_later(&self, jobs: Vec<i64>, again: Option<Timestamp>) -> Result<(), QueueError> {
        self.run("recheck_later", move |connection| {
            for job in &jobs {
                match again {
                    Some(again) => connection
                        .prepare_cached("UPDATE recheck SET not_before = ?2, failed = failed + 1 WHERE job_id = ?1")?
                        .execute(params![job, again.0])?,
                    None => connection.prepare_cached("DELETE FROM recheck WHERE job_id = ?1")?.execute([job])?,
                };
            }
            Ok(())
        })
        .await
    }
}

impl Reader {
    /// How many documents of these drops are to be looked at once more.
    pub(crate) fn rechecks_left(
        &self,
        drops: &[&str],
        after: Duration,
        now: Timestamp,
    ) -> Result<RechecksLeft, QueueError> {
        let names = serde_json::to_string(drops).unwrap_or_default();
        let of_drops = "job.drop_id IN (SELECT id FROM drop_folder WHERE name IN (SELECT value FROM json_each(?2)))";
        let sql = format!(
            "SELECT count(*), coalesce(sum({DUE} <= ?3), 0), min({DUE}) FROM recheck JOIN job ON job.id = job_id
              WHERE recheck.ended_at IS NOT NULL AND {of_drops}"
        );
        let count = |count: i64| u64::try_from(count).unwrap_or(0);
        Ok(self.connection.prepare_cached(&sql)?.query_row(params![ms(after), names, now.0], |row| {
            let next = row.get::<_, Option<i64>>(2)?.map(Timestamp);
            Ok(RechecksLeft { documents: count(row.get(0)?), due: count(row.get(1)?), next })
        })?)
    }
}

/// How many documents are to be looked at once more, and since when the first of them.
pub(super) fn waiting(connection: &Connection) -> Result<(i64, Option<Timestamp>), QueueError> {
    let counted = connection
        .prepare_cached("SELECT count(*), min(ended_at) FROM recheck WHERE ended_at IS NOT NULL")?
        .query_row([], |row| Ok((row.get(0)?, row.get::<_, Option<i64>>(1)?.map(Timestamp))))
        .optional()?;
    Ok(counted.unwrap_or_default())
}

fn ms(time: Duration) -> i64 {
    rows::signed(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

fn due(connection: &Connection, after: Duration, now: Timestamp, most: u32) -> Result<Vec<Recheck>, QueueError> {
    let sql = format!(
        "SELECT job.id, drop_folder.name, job.profile_id, job.remote_id, recheck.failed
           FROM recheck JOIN job ON job.id = recheck.job_id JOIN drop_folder ON drop_folder.id = job.drop_id
          WHERE recheck.ended_at IS NOT NULL AND {DUE} <= ?2 ORDER BY job.profile_id, job.id LIMIT ?3"
    );
    let mut found: Vec<Recheck> = connection
        .prepare_cached(&sql)?
        .query_map(params![ms(after), now.0, most], |row| {
            Ok(Recheck {
                job: row.get(0)?,
                drop: row.get(1)?,
                profile: row.get(2)?,
                document_id: row.get(3)?,
                image_ids: Vec::new(),
                taken: Vec::new(),
                failed: row.get(4)?,
            })
        })?
        .collect::<Result<_, _>>()?;
    for recheck in &mut found {
        recheck.image_ids = connection
            .prepare_cached(
                "SELECT remote_id FROM upload WHERE job_id = ?1 AND remote_id IS NOT NULL ORDER BY position",
            )?
            .query_map([recheck.job], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        recheck.taken = connection
            .prepare_cached(
                "SELECT remote_id FROM job WHERE profile_id = ?1 AND id <> ?2 AND kind = 'document' AND state = 'done'",
            )?
            .query_map(params![recheck.profile, recheck.job], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        job::Creation,
        queue::{
            control::Release,
            test_support::{NOW, Site, attempt},
        },
    };

    const AFTER: Duration = Duration::from_secs(900);

    fn due(site: &Site, now: Timestamp) -> Vec<Recheck> {
        site.wait(site.queue.due_rechecks(AFTER, now, 10)).unwrap()
    }

    #[test]
    fn what_was_sent_a_second_time_is_looked_at_once_more_and_nothing_else() {
        let site = Site::new();
        site.admit("a.manifest.json", &["once", "twice"]);
        site.create(site.job("once"), "doc-1");
        let twice = site.job("twice");
        site.hold(twice, Creation::Unknown);
        site.queue.release(twice, Release::SendAgain, NOW).unwrap();
        assert_eq!(due(&site, NOW.after(AFTER)), [], "it has not ended");
        site.create(twice, "doc-2");
        assert_eq!(due(&site, NOW), [], "it is not due");
        let left = site.reader().rechecks_left(&["partner-a"], AFTER, NOW).unwrap();
        assert_eq!(left, RechecksLeft { documents: 1, due: 0, next: Some(NOW.after(AFTER)) });
        let found = due(&site, NOW.after(AFTER));
        assert_eq!(found.iter().map(|recheck| recheck.job).collect::<Vec<_>>(), [twice]);
        assert_eq!(
            (found[0].document_id.as_deref(), found[0].taken.as_slice()),
            (Some("doc-2"), &["doc-1".into()][..])
        );

        let again = NOW.after(AFTER * 2);
        site.wait(site.queue.recheck_later(vec![twice], Some(again))).unwrap();
        assert_eq!(due(&site, NOW.after(AFTER)), []);
        assert_eq!(due(&site, again)[0].failed, 1);

        let doubled = vec![(twice, vec!["doc-2".to_owned(), "x".to_owned()])];
        site.wait(site.queue.rechecked(vec![twice], doubled, attempt("read_documents", "rechecked"), again)).unwrap();
        assert_eq!(due(&site, again), [], "once");
        assert_eq!(site.detail(twice).doubled.unwrap().document_ids.len(), 2);
        assert_eq!(site.reader().numbers().unwrap().doubled_documents, 1);
    }
}
