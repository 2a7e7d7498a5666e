//! What was created before under the references of a list that is read again: a list that grows by the night.
//!
//! Such a list has its rows in the order in which they were created, so what follows is read ahead. A reference that comes in
//! another order is looked up by itself.

use std::collections::VecDeque;

use rusqlite::{OptionalExtension, params};

use super::{
    QueueError, Reader,
    batch::{GoneEntries, Plan},
    created_before::{CreatedEntry, created_before, created_between},
    rows::text,
};

/// Jobs that are read ahead at most, and how many of those a list may have left out.
const AHEAD: i64 = 512;
const LEFT_OUT: usize = 16;

/// Entries that are gone from a list and that are named.
const NAMED: usize = 20;

/// Finds what was created before, and notes what of it the list still has.
#[derive(Debug)]
pub(crate) struct KnownRows {
    reader: Reader,
    /// Nothing where nothing was created in the drop.
    drop_id: Option<i64>,
    ahead: VecDeque<(String, CreatedEntry)>,
    /// The first job that is not read, how many are read at once, and the last that there was.
    next: i64,
    reach: i64,
    last: i64,
    seen: JobSet,
}

impl KnownRows {
    pub(crate) fn of(reader: Reader, drop: &str) -> Result<Self, QueueError> {
        let last = reader.connection.query_row("SELECT coalesce(max(id), 0) FROM job", [], |row| row.get(0))?;
        let drop_id = reader
            .connection
            .prepare_cached(
                "SELECT id FROM drop_folder WHERE name = ?1
                    AND EXISTS (SELECT 1 FROM tally WHERE drop_id = drop_folder.id AND state = 'done' AND jobs > 0)",
            )?
            .query_row([drop], |row| row.get(0))
            .optional()?;
        Ok(Self { reader, drop_id, ahead: VecDeque::new(), next: 0, reach: 1, last, seen: JobSet::default() })
    }

    /// What was created under a reference, if that was.
    pub(crate) fn find(&mut self, reference: &str) -> Result<Option<CreatedEntry>, QueueError> {
        let Some(drop_id) = self.drop_id else { return Ok(None) };
        if self.ahead.is_empty() && self.next <= self.last {
            self.ahead = created_between(&self.reader.connection, drop_id, self.next, self.next + self.reach)?.into();
            self.next += self.reach;
        }
        let found = match self.ahead.iter().take(LEFT_OUT).position(|(known, _)| known == reference) {
            Some(at) => {
                self.reach = (self.reach * 2).min(AHEAD);
                self.ahead.drain(..=at).next_back().map(|(_, found)| found)
            }
            None => {
                let found = created_before(&self.reader.connection, drop_id, reference)?;
                if let Some(found) = &found {
                    self.ahead.clear();
                    (self.next, self.reach) = (found.job_id + 1, 1);
                }
                found
            }
        };
        if let Some(found) = &found {
            self.seen.insert(found.job_id);
        }
        Ok(found)
    }

    /// What the list had when it was last taken in, and was not asked for since; nothing where it is taken in for the first
    /// time. `batch_id` is that of this time.
    pub(crate) fn gone(&self, plan: &Plan, batch_id: Option<i64>) -> Result<Option<GoneEntries>, QueueError> {
        let Some(drop_id) = self.drop_id else { return Ok(None) };
        let connection = &self.reader.connection;
        let before: Option<i64> = connection
            .prepare_cached(
                "SELECT id FROM batch WHERE drop_id = ?1 AND manifest = ?2 AND root = ?3 AND id < coalesce(?4, 1 << 62)
                    AND state <> 'admitting' AND problems IS NULL ORDER BY id DESC LIMIT 1",
            )?
            .query_row(params![drop_id, plan.manifest, text(&plan.policy.root), batch_id], |row| row.get(0))
            .optional()?;
        let Some(before) = before else { return Ok(None) };
        let mut gone = GoneEntries::default();
        let mut look = |job_id: i64| -> Result<(), QueueError> {
            // One whose reference another entry has taken over was asked for as that.
            if !self.seen.contains(job_id) && self.has_reference(job_id)? {
                gone.count += 1;
                if gone.first.len() < NAMED {
                    gone.first.push(job_id);
                }
            }
            Ok(())
        };
        let sql = "SELECT job_id, entries FROM unchanged_entry WHERE batch_id = ?1 ORDER BY entry_index";
        let mut select = connection.prepare_cached(sql)?;
        let mut runs = select.query([before])?;
        while let Some(row) = runs.next()? {
            let (first, entries): (i64, i64) = (row.get(0)?, row.get(1)?);
            (first..first + entries).try_for_each(&mut look)?;
        }
        let sql = "SELECT CASE state WHEN 'done' THEN id ELSE twin_of END FROM job
                    WHERE batch_id = ?1 AND state IN ('done', 'duplicate') ORDER BY entry_index";
        let mut select = connection.prepare_cached(sql)?;
        let mut jobs = select.query([before])?;
        while let Some(row) = jobs.next()? {
            row.get::<_, Option<i64>>(0)?.map_or(Ok(()), &mut look)?;
        }
        Ok(Some(gone))
    }

    fn has_reference(&self, job_id: i64) -> Result<bool, QueueError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM job JOIN identity ON identity.drop_id = job.drop_id AND identity.key = job.identity
                                   WHERE job.id = ?1 AND identity.job_id = job.id AND reference IS NOT NULL)";
        Ok(self.reader.connection.prepare_cached(sql)?.query_row([job_id], |row| row.get(0))?)
    }
}

/// Numbers of jobs, a bit each.
#[derive(Debug, Default)]
struct JobSet(Vec<u64>);

impl JobSet {
    fn place(job_id: i64) -> Option<(usize, u64)> {
        Some((usize::try_from(job_id / 64).ok()?, 1 << (job_id % 64)))
    }

    fn insert(&mut self, job_id: i64) {
        let Some((at, bit)) = Self::place(job_id) else { return };
        if self.0.len() <= at {
            self.0.resize(at + 1, 0);
        }
        if let Some(bits) = self.0.get_mut(at) {
            *bits |= bit;
        }
    }

    fn contains(&self, job_id: i64) -> bool {
        Self::place(job_id).is_some_and(|(at, bit)| self.0.get(at).is_some_and(|bits| bits & bit != 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::test_support::{DROP, Site};

    fn created(references: &[&str]) -> Site {
        let site = Site::new();
        site.admit("a.manifest.json", references);
        for reference in references {
            site.create(site.job(reference), &format!("doc-{reference}"));
        }
        site
    }

    #[test]
    fn references_are_found_in_any_order_and_however_many_are_left_out() {
        let all: Vec<String> = (0..100).map(|number| format!("r{number}")).collect();
        let site = created(&all.iter().map(String::as_str).collect::<Vec<_>>());
        let in_order: Vec<&String> = all.iter().collect();
        let backwards: Vec<&String> = all.iter().rev().collect();
        let with_gaps: Vec<&String> =
            all.iter().enumerate().filter(|(at, _)| at % 7 == 0 || (40..80).contains(at)).map(|(_, r)| r).collect();
        let twice: Vec<&String> = all.iter().flat_map(|reference| [reference, reference]).collect();
        for list in [in_order, backwards, with_gaps, twice] {
            let mut known = KnownRows::of(site.reader(), DROP).unwrap();
            for reference in list {
                let found = known.find(reference).unwrap().unwrap_or_else(|| panic!("{reference} is not found"));
                assert_eq!(found.remote_id, format!("doc-{reference}"));
                assert!(known.find(&format!("{reference} new")).unwrap().is_none());
            }
        }
    }

    #[test]
    fn where_nothing_was_created_nothing_is_looked_for() {
        let site = Site::new();
        site.admit("a.manifest.json", &["one"]);
        assert!(KnownRows::of(site.reader(), DROP).unwrap().find("one").unwrap().is_none());
        assert!(KnownRows::of(site.reader(), "other").unwrap().find("one").unwrap().is_none());
    }

    #[test]
    fn a_set_of_jobs_has_what_was_put_into_it() {
        let mut set = JobSet::default();
        for job in [0, 1, 63, 64, 1000] {
            assert!(!set.contains(job));
            set.insert(job);
        }
        assert!([0, 1, 63, 64, 1000].into_iter().all(|job| set.contains(job)));
        assert!(![2, 62, 65, 999, 1001, 1 << 40].into_iter().any(|job| set.contains(job)));
    }
}
