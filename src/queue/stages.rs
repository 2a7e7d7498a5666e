//! The entries of an import that are held back until their stage begins.
//!
//! Such a job is admitted as waiting for a limit, without a time at which that ends: nothing but the beginning of its
//! stage, or a person, sends it on.

use rusqlite::params;

use super::{Queue, QueueError, Reader, transition};
use crate::job::{JobEvent, JobState};

/// Which jobs are held back.
const HELD_BACK: &str = "job.state = 'waiting' AND job.waits = 'quota' AND job.due_at IS NULL";

/// The reason of a job that is held back.
pub(super) const REASON: &str = "its stage of the import has not begun; `import` begins it";

/// Jobs that are sent on in one transaction.
const AT_ONCE: usize = 5_000;

/// How far some batches are with their stages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct StageCounts {
    /// Entries whose stage has not begun.
    pub(crate) held_back: u64,
    /// Entries that ask for the same as one of these.
    pub(crate) followers: u64,
    /// Entries that were sent on and have not ended.
    pub(crate) under_way: u64,
    /// Of these, entries that a person must decide.
    pub(crate) held: u64,
    pub(crate) created: u64,
    /// Refused by the API, or given up; not those that were refused before anything was sent.
    pub(crate) refused: u64,
}

impl StageCounts {
    /// Entries that were sent on.
    pub(crate) const fn begun(&self) -> u64 {
        self.under_way + self.created + self.refused
    }
}

impl Reader {
    /// How far these batches are. Reads all of their jobs.
    pub(crate) fn stage_counts(&self, batches: &[i64]) -> Result<StageCounts, QueueError> {
        let sql = format!(
            "SELECT count(*) FILTER (WHERE {HELD_BACK}),
                    count(*) FILTER (WHERE waits = 'twin' AND EXISTS
                        (SELECT 1 FROM job AS first WHERE first.id = job.twin_of AND {})),
                    count(*) FILTER (WHERE state IN ('queued', 'running', 'held')
                                        OR (state = 'waiting' AND waits <> 'twin' AND due_at IS NOT NULL)),
                    count(*) FILTER (WHERE state = 'held'),
                    count(*) FILTER (WHERE state = 'done'),
                    count(*) FILTER (WHERE state = 'failed' AND ended_at <> created_at)
               FROM job WHERE batch_id IN (SELECT value FROM json_each(?1))",
            HELD_BACK.replace("job.", "first.")
        );
        let count = |row: &rusqlite::Row<'_>, at: usize| row.get(at).map(|count: i64| count.unsigned_abs());
        Ok(self.connection.prepare_cached(&sql)?.query_row([numbers(batches)], |row| {
            Ok(StageCounts {
                held_back: count(row, 0)?,
                followers: count(row, 1)?,
                under_way: count(row, 2)?,
                held: count(row, 3)?,
                created: count(row, 4)?,
                refused: count(row, 5)?,
            })
        })?)
    }

    /// So many of the jobs that are held back, across categories and types, folders, and profiles, in this order: the first
    /// of each type, of these the first of each folder, and the profile that comes the first time before one that came
    /// already.
    pub(crate) fn sample_of_held_back(&self, batches: &[i64], many: u64) -> Result<Vec<i64>, QueueError> {
        // A multiplicative hash, so that what lies side by side in a list is not taken side by side.
        let sql = format!(
            "WITH pool AS (
                 SELECT job.id, job.id * 2654435761 % 4294967296 AS hash, kind || category || '/' || document_type AS type,
                        rtrim(path, replace(path, '/', '')) AS folder,
                        row_number() OVER (PARTITION BY profile_id ORDER BY job.id) AS of_profile
                   FROM job LEFT JOIN upload ON upload.job_id = job.id AND position = 0
                  WHERE {HELD_BACK} AND batch_id IN (SELECT value FROM json_each(?1))),
             in_folders AS (
                 SELECT *, row_number() OVER (PARTITION BY type, folder ORDER BY of_profile, hash) AS of_folder FROM pool),
             in_types AS (
                 SELECT id, hash, row_number() OVER (PARTITION BY type ORDER BY of_folder, of_profile, hash) AS of_type
                   FROM in_folders)
             SELECT id FROM in_types ORDER BY of_type, hash LIMIT ?2"
        );
        let many = i64::try_from(many).unwrap_or(i64::MAX);
        let mut select = self.connection.prepare(&sql)?;
        Ok(select.query_map(params![numbers(batches), many], |row| row.get(0))?.collect::<Result<_, _>>()?)
    }

    /// The next of the jobs that are held back, by number.
    fn held_back_after(&self, batches: &[i64], after: i64) -> Result<Vec<i64>, QueueError> {
        let sql = format!(
            "SELECT id FROM job WHERE {HELD_BACK} AND batch_id IN (SELECT value FROM json_each(?1)) AND id > ?2
              ORDER BY id LIMIT ?3"
        );
        let mut select = self.connection.prepare_cached(&sql)?;
        Ok(select
            .query_map(params![numbers(batches), after, AT_ONCE as i64], |row| row.get(0))?
            .collect::<Result<_, _>>()?)
    }
}

impl Queue {
    /// Sends these jobs on, as far as they are held back still.
    pub(crate) fn begin_stage(&self, jobs: &[i64]) -> Result<(), QueueError> {
        for part in jobs.chunks(AT_ONCE) {
            let part = numbers(part);
            self.run_blocking("begin_stage", move |connection| {
                let matching = format!("{HELD_BACK} AND id IN (SELECT value FROM json_each(?1))");
                let sql = transition::all(JobState::Waiting, JobEvent::Due, "waits = NULL, reason = NULL", &matching)?;
                connection.prepare_cached(&sql)?.execute([&part])?;
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Sends on all that is held back of these batches.
    pub(crate) fn begin_last_stage(&self, reader: &Reader, batches: &[i64]) -> Result<(), QueueError> {
        let mut after = 0;
        loop {
            let jobs = reader.held_back_after(batches, after)?;
            let Some(last) = jobs.last() else { return Ok(()) };
            after = *last;
            self.begin_stage(&jobs)?;
        }
    }
}

fn numbers(numbers: &[i64]) -> String {
    serde_json::to_string(numbers).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{super::test_support::Site, *};

    #[test]
    fn what_is_held_back_is_not_claimed_and_begins_once() {
        let site = Site::new();
        let batch = site.admit_held_back("a.manifest.json", &["one", "two", "three"]);
        assert!(site.state(site.job("one")) == JobState::Waiting);
        let reader = site.reader();
        let counts = |held_back, under_way| StageCounts { held_back, under_way, ..StageCounts::default() };
        assert_eq!(reader.stage_counts(&[batch]).unwrap(), counts(3, 0));
        let sample = reader.sample_of_held_back(&[batch], 2).unwrap();
        assert_eq!(sample.len(), 2);
        site.queue.begin_stage(&sample).unwrap();
        site.queue.begin_stage(&sample).unwrap();
        assert_eq!(reader.stage_counts(&[batch]).unwrap(), counts(1, 2));
        site.queue.begin_last_stage(&reader, &[batch]).unwrap();
        assert_eq!(reader.stage_counts(&[batch]).unwrap(), counts(0, 3));
        site.create(site.job("one"), "doc");
        assert_eq!(reader.stage_counts(&[batch]).unwrap().created, 1);
    }
}
