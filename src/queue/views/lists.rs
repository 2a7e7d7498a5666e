//! Lists of jobs and entries a page at a time, the newest first: by small indexes, and each page looks at a bounded number of
//! rows however many there are.

use rusqlite::{Connection, OptionalExtension, ToSql, params};
use serde::Serialize;

use super::{
    Filter,
    jobs::{self, JobRow},
    trace::{self, InvalidRow},
};
use crate::{
    clock::Timestamp,
    job::JobState,
    problem::Problem,
    queue::{QueueError, Reader, rows},
};

/// Where no index has the order that is asked for, so many jobs are looked at for a page.
const LOOKED_AT: i64 = 20_000;

/// Entries of a batch are counted up to this.
const COUNTED: i64 = 100_000;

/// Rows of one page, at most.
pub const MOST: u32 = 200;

/// As the index `job_unwell` has it.
const UNWELL: &str = "state NOT IN ('queued', 'running', 'done')";

/// Which jobs a list is of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListFilter {
    pub state: Option<JobState>,
    pub drop: Option<String>,
    pub batch: Option<i64>,
    pub profile: Option<String>,
    pub reference: Option<String>,
    /// Only jobs with a smaller number.
    pub before: Option<i64>,
    pub limit: u32,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct JobPage {
    /// The newest first.
    pub jobs: Vec<JobRow>,
    /// What to ask for as `before`, where there may be more.
    pub next: Option<i64>,
}

/// A batch, and what became of its entries.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BatchView {
    pub batch: i64,
    pub drop: String,
    pub manifest: String,
    /// `admitting`, `open`, `ended`, `published` or `closed`.
    pub state: String,
    pub sha256: String,
    #[serde(serialize_with = "rows::optional_moment")]
    pub received_at: Option<Timestamp>,
    #[serde(serialize_with = "rows::optional_moment")]
    pub finished_at: Option<Timestamp>,
    pub receipt: Option<String>,
    pub moved_to: Option<String>,
    pub trouble: Option<String>,
    /// Why the manifest itself is unusable.
    pub problems: Vec<Problem>,
    pub counts: EntryCounts,
    /// Entries that are not well: failed, held, cancelled, or waiting.
    pub unwell: Vec<JobRow>,
    /// Entries that were not good enough to become jobs.
    pub invalid: Vec<InvalidRow>,
    /// The entries in order.
    pub entries: Vec<JobRow>,
    /// What to ask for as `after`, where there are more of them.
    pub next: Option<i64>,
}

/// Entries of a batch by what became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct EntryCounts {
    pub entries: i64,
    /// Not ended, held ones included.
    pub open: i64,
    pub created: i64,
    pub duplicate: i64,
    pub failed: i64,
    pub held: i64,
    pub cancelled: i64,
    pub invalid: i64,
    /// Created before, and the same since.
    pub unchanged: i64,
    /// Whether there are more of some than are counted, and fewer created than it says.
    pub or_more: bool,
}

impl Reader {
    /// A page of jobs, the newest first.
    pub(crate) fn job_page(&self, filter: &ListFilter) -> Result<JobPage, QueueError> {
        self.snapshot(|connection| job_page(connection, filter))
    }

    /// A batch with a page of its entries that come after one; what is not well besides.
    pub(crate) fn batch_view(&self, id: i64, after: i64, limit: u32) -> Result<Option<BatchView>, QueueError> {
        self.snapshot(|connection| batch_view(connection, id, after, limit))
    }
}

fn rows_of(connection: &Connection, ids: Vec<i64>) -> Result<Vec<JobRow>, QueueError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let filter = Filter { ids, ..Filter::default() };
    jobs::page(connection, &filter, i64::MIN, MOST)
}

fn job_page(connection: &Connection, filter: &ListFilter) -> Result<JobPage, QueueError> {
    let limit = filter.limit.clamp(1, MOST);
    let newest: Option<i64> = connection.prepare_cached("SELECT max(id) FROM job")?.query_row([], |row| row.get(0))?;
    let mut before = filter.before.unwrap_or(i64::MAX).min(newest.unwrap_or(0).saturating_add(1));
    if let Some(batch) = filter.batch {
        let last: Option<i64> = connection
            .prepare_cached("SELECT id FROM job WHERE batch_id = ?1 ORDER BY entry_index DESC LIMIT 1")?
            .query_row([batch], |row| row.get(0))
            .optional()?;
        // Another batch's jobs may be among its own, and nothing of it comes after the last.
        before = before.min(last.unwrap_or(0).saturating_add(1));
    }
    let drop_id: Option<i64> = match &filter.drop {
        Some(drop) => {
            let mut select = connection.prepare_cached("SELECT id FROM drop_folder WHERE name = ?1")?;
            Some(select.query_row([drop], |row| row.get(0)).optional()?.unwrap_or(-1))
        }
        None => None,
    };
    let profile = filter.profile.as_ref().map(|profile| profile.to_lowercase());
    let mut conditions = vec!["id < ?1".to_owned()];
    let mut values: Vec<&dyn ToSql> = vec![&before];
    let mut add = |condition: &str, value| {
        values.push(value);
        conditions.push(format!("{condition} ?{}", values.len()));
    };
    if let Some(drop_id) = &drop_id {
        add("drop_id =", drop_id);
    }
    if let Some(batch) = &filter.batch {
        add("batch_id =", batch);
    }
    if let Some(profile) = &profile {
        add("profile_id =", profile);
    }
    if let Some(reference) = &filter.reference {
        add("reference =", reference);
    }
    let fields = conditions.len();
    let (index, exact) = match filter.state {
        _ if filter.reference.is_some() => {
            conditions.push("reference IS NOT NULL".to_owned());
            ("INDEXED BY job_reference", fields == 2)
        }
        _ if filter.profile.is_some() => ("INDEXED BY job_of_profile", fields == 2),
        Some(JobState::Queued) if filter.drop.is_some() => ("INDEXED BY job_ready", fields == 2),
        Some(JobState::Running) => ("INDEXED BY job_under_way", fields == 1),
        Some(JobState::Queued | JobState::Done) | None => ("NOT INDEXED", fields == 1 && filter.state.is_none()),
        Some(_) => ("INDEXED BY job_unwell", fields == 1),
    };
    if let Some(state) = filter.state {
        // Written out, because the indexes are over jobs in some states.
        conditions.push(format!("state = '{state}'"));
        match state {
            JobState::Running => conditions.push("state IN ('running', 'held')".to_owned()),
            JobState::Queued | JobState::Done => {}
            _ => conditions.push(UNWELL.to_owned()),
        }
    }
    let floor = if exact { i64::MIN } else { before.saturating_sub(LOOKED_AT) };
    if !exact {
        conditions.push(format!("id >= {floor}"));
    }
    let sql = format!("SELECT id FROM job {index} WHERE {} ORDER BY id DESC LIMIT {limit}", conditions.join(" AND "));
    let ids = connection
        .prepare_cached(&sql)?
        .query_map(values.as_slice(), |row| row.get(0))?
        .collect::<Result<Vec<i64>, _>>()?;
    let next = match ids.last() {
        Some(last) if ids.len() == limit as usize => Some(*last),
        _ => Some(floor).filter(|floor| *floor > 1),
    };
    let mut jobs = rows_of(connection, ids)?;
    jobs.reverse();
    Ok(JobPage { jobs, next })
}

fn batch_view(connection: &Connection, id: i64, after: i64, limit: u32) -> Result<Option<BatchView>, QueueError> {
    let limit = limit.clamp(1, MOST);
    let found = connection
        .prepare_cached(
            "SELECT name, manifest, state, lower(hex(manifest_sha256)), received_at, finished_at,
                    receipts_dir || '/' || receipt, shelf, batch.trouble, problems, admitted, open_jobs, unchanged
               FROM batch JOIN drop_folder ON drop_folder.id = drop_id WHERE batch.id = ?1",
        )?
        .query_row([id], |row| {
            let problems: Option<String> = row.get(9)?;
            let counts = EntryCounts {
                entries: row.get(10)?,
                open: row.get(11)?,
                unchanged: row.get(12)?,
                ..EntryCounts::default()
            };
            Ok(BatchView {
                batch: id,
                drop: row.get(0)?,
                manifest: row.get(1)?,
                state: row.get(2)?,
                sha256: row.get(3)?,
                received_at: row.get::<_, Option<i64>>(4)?.map(Timestamp),
                finished_at: row.get::<_, Option<i64>>(5)?.map(Timestamp),
                receipt: row.get(6)?,
                moved_to: row.get(7)?,
                trouble: row.get(8)?,
                problems: problems.map(|text| rows::problems(&text)).unwrap_or_default(),
                counts,
                unwell: Vec::new(),
                invalid: Vec::new(),
                entries: Vec::new(),
                next: None,
            })
        })
        .optional()?;
    let Some(mut view) = found else { return Ok(None) };
    count(connection, id, &mut view.counts)?;
    let ids = |sql: &str, after: i64| -> Result<Vec<i64>, QueueError> {
        let ids = connection
            .prepare_cached(sql)?
            .query_map(params![id, after, limit], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        Ok(ids)
    };
    let mut unwell = Vec::new();
    for state in [JobState::Held, JobState::Failed, JobState::Cancelled, JobState::Waiting] {
        unwell.extend(ids(
            &format!(
                "SELECT id FROM job INDEXED BY job_unwell_of_batch
                  WHERE {UNWELL} AND batch_id = ?1 AND state = '{state}' AND entry_index > ?2
                  ORDER BY entry_index LIMIT ?3"
            ),
            -1,
        )?);
    }
    unwell.truncate(limit as usize);
    view.unwell = rows_of(connection, unwell)?;
    view.unwell.sort_by_key(|job| job.index);
    view.entries = rows_of(
        connection,
        ids("SELECT id FROM job WHERE batch_id = ?1 AND entry_index > ?2 ORDER BY entry_index LIMIT ?3", after)?,
    )?;
    view.entries.sort_by_key(|job| job.index);
    view.next = view.entries.last().filter(|_| view.entries.len() == limit as usize).map(|job| job.index);
    view.invalid = connection
        .prepare_cached(&format!(
            "SELECT {} WHERE invalid_entry.batch_id = ?1 ORDER BY entry_index LIMIT ?2",
            trace::INVALID
        ))?
        .query_map(params![id, limit], trace::invalid_row)?
        .collect::<Result<_, _>>()?;
    Ok(Some(view))
}

fn count(connection: &Connection, id: i64, counts: &mut EntryCounts) -> Result<(), QueueError> {
    let mut or_more = false;
    let mut of = |sql: &str| -> Result<i64, QueueError> {
        let counted: i64 = connection.prepare_cached(sql)?.query_row(params![id, COUNTED + 1], |row| row.get(0))?;
        or_more |= counted > COUNTED;
        Ok(counted.min(COUNTED))
    };
    let in_state = |state: JobState| {
        format!(
            "SELECT count(*) FROM (SELECT 1 FROM job INDEXED BY job_unwell_of_batch
                                    WHERE {UNWELL} AND batch_id = ?1 AND state = '{state}' LIMIT ?2)"
        )
    };
    counts.duplicate = of(&in_state(JobState::Duplicate))?;
    counts.failed = of(&in_state(JobState::Failed))?;
    counts.held = of(&in_state(JobState::Held))?;
    counts.cancelled = of(&in_state(JobState::Cancelled))?;
    counts.invalid = of("SELECT count(*) FROM (SELECT 1 FROM invalid_entry WHERE batch_id = ?1 LIMIT ?2)")?;
    counts.or_more = or_more;
    let others = counts.duplicate + counts.failed + counts.cancelled + counts.invalid + counts.unchanged;
    counts.created = (counts.entries - counts.open - others).max(0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        job::Creation,
        queue::test_support::{DROP, Site},
    };

    fn site() -> Site {
        let site = Site::new();
        site.admit("a.manifest.json", &["a", "b", "c", "d", "e"]);
        site.create(1, "doc-1");
        site.fail(2, "no");
        site.hold(3, Creation::Unknown);
        site.admit("b.manifest.json", &["f"]);
        site
    }

    fn page(site: &Site, filter: ListFilter) -> (Vec<i64>, Option<i64>) {
        let page = site.reader().job_page(&ListFilter { limit: filter.limit.max(1), ..filter }).unwrap();
        (page.jobs.iter().map(|job| job.id).collect(), page.next)
    }

    #[test]
    fn pages_are_of_what_was_asked_for_newest_first_and_without_gaps() {
        let site = site();
        let all = || ListFilter { limit: 2, ..ListFilter::default() };
        assert_eq!(page(&site, all()), (vec![6, 5], Some(5)));
        assert_eq!(page(&site, ListFilter { before: Some(5), ..all() }), (vec![4, 3], Some(3)));
        assert_eq!(page(&site, ListFilter { before: Some(2), ..all() }), (vec![1], None));
        for state in JobState::ALL {
            let drop = Some(DROP.to_owned());
            let expected: Vec<i64> = (1..=6).rev().filter(|id| site.detail(*id).job.state == state).collect();
            for drop in [None, drop] {
                let filter = ListFilter { state: Some(state), drop, limit: 9, ..ListFilter::default() };
                assert_eq!(page(&site, filter), (expected.clone(), None), "{state}");
            }
        }
        let of = |filter: ListFilter| page(&site, ListFilter { limit: 9, ..filter }).0;
        assert_eq!(of(ListFilter { reference: Some("c".into()), ..ListFilter::default() }), [3]);
        assert_eq!(of(ListFilter { batch: Some(1), ..ListFilter::default() }), [5, 4, 3, 2, 1]);
        let profile = Some(site.detail(1).job.profile_id.to_uppercase());
        assert!(of(ListFilter { profile, ..ListFilter::default() }).contains(&1));
        assert!(of(ListFilter { drop: Some("none".into()), ..ListFilter::default() }).is_empty());
    }

    #[test]
    fn a_batch_has_its_counts_and_what_is_not_well_first() {
        let site = site();
        let view = site.reader().batch_view(1, -1, 2).unwrap().unwrap();
        let counts = EntryCounts { entries: 5, open: 3, created: 1, failed: 1, held: 1, ..EntryCounts::default() };
        assert_eq!(view.counts, counts);
        let ids = |jobs: &[JobRow]| jobs.iter().map(|job| job.id).collect::<Vec<_>>();
        assert_eq!((ids(&view.unwell), ids(&view.entries), view.next), (vec![2, 3], vec![1, 2], Some(1)));
        let rest = site.reader().batch_view(1, 1, 50).unwrap().unwrap();
        assert_eq!((ids(&rest.entries), rest.next), (vec![3, 4, 5], None));
        assert!(site.reader().batch_view(9, -1, 2).unwrap().is_none());
    }
}
