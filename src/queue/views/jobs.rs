//! Jobs one by one, for `jobs`, `show`, and commands that select some of them.

use rusqlite::{Connection, OptionalExtension, params_from_iter};
use serde::Serialize;

use super::{Filter, filter::Conditions};
use crate::{
    clock::Timestamp,
    job::{Creation, JobState, WaitReason},
    problem::Problem,
    queue::{
        QueueError, Reader,
        acts::{self, ActRow},
        rows, trials,
        verified::{self, DoubledDocument},
        warnings,
    },
    reason::JobExplanation,
    warning::Warning,
};

/// One job in a list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobRow {
    pub id: i64,
    pub drop: String,
    pub manifest: String,
    /// Its place in the manifest.
    pub index: i64,
    pub kind: String,
    pub profile_id: String,
    pub reference: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub category: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub document_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub state: JobState,
    pub waits: Option<String>,
    pub reason: Option<String>,
    /// Until when it waits.
    #[serde(serialize_with = "rows::optional_moment")]
    pub due_at: Option<Timestamp>,
    /// Since when it waits, or is held: the end of its last call, or when it was taken in.
    #[serde(serialize_with = "rows::optional_moment")]
    pub waits_since: Option<Timestamp>,
    /// Failed tries so far.
    pub attempts: u32,
    /// Whether its document may be in flight.
    pub creation: Creation,
    /// The ID of what was created, or exists.
    pub remote_id: Option<String>,
    /// The job that created it, or creates it, instead of this one.
    pub twin_of: Option<i64>,
    pub problems: Vec<Problem>,
    /// The number of the cause that it failed for, until it is created.
    pub cause: Option<i64>,
    #[serde(serialize_with = "rows::optional_moment")]
    pub created_at: Option<Timestamp>,
    #[serde(serialize_with = "rows::optional_moment")]
    pub ended_at: Option<Timestamp>,
    /// When a person said that its document was removed on purpose.
    #[serde(serialize_with = "rows::optional_moment", skip_serializing_if = "Option::is_none")]
    pub removed_at: Option<Timestamp>,
}

/// Jobs that are read at once. Between two such reads nothing is held open, so that a reader who takes an hour does not
/// keep the worker's log from being cut back.
const PAGE: u32 = 1000;

const JOBS: &str =
    "job CROSS JOIN batch ON batch.id = job.batch_id CROSS JOIN drop_folder ON drop_folder.id = job.drop_id";

impl Reader {
    /// Calls `each` with the jobs that a filter means, oldest first; with a limit, the newest of them. Memory stays flat.
    pub(crate) fn jobs<E: From<QueueError>>(
        &self,
        filter: &Filter,
        mut each: impl FnMut(JobRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut left = filter.limit;
        let mut after = first_of(&self.connection, filter)?;
        loop {
            let size = left.map_or(PAGE, |left| left.min(PAGE));
            let page = page(&self.connection, filter, after, size)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.id;
            let full = page.len() == size as usize;
            left = left.map(|left| left.saturating_sub(u32::try_from(page.len()).unwrap_or(u32::MAX)));
            page.into_iter().try_for_each(&mut each)?;
            if !full || left == Some(0) {
                return Ok(());
            }
        }
    }

    /// The batch of a job.
    pub(crate) fn batch_of(&self, id: i64) -> Result<Option<i64>, QueueError> {
        let mut select = self.connection.prepare_cached("SELECT batch_id FROM job WHERE id = ?1")?;
        Ok(select.query_row([id], |row| row.get(0)).optional()?)
    }

    /// All about one job, or `None` where there is no such job.
    pub(crate) fn job(&self, id: i64) -> Result<Option<JobDetail>, QueueError> {
        self.snapshot(|connection| {
            let filter = Filter { ids: vec![id], ..Filter::default() };
            let Some(job) = page(connection, &filter, i64::MIN, 1)?.pop() else { return Ok(None) };
            let (root, receipt, batch_id) = connection
                .prepare(
                    "SELECT coalesce(shelf, root), receipts_dir || '/' || receipt, batch.id
                       FROM job JOIN batch ON batch.id = batch_id WHERE job.id = ?1",
                )?
                .query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            let warnings = warnings::of_entry(connection, batch_id, job.index.try_into().unwrap_or(0))?;
            let uploads = uploads(connection, id)?;
            let (calls, doubled) = (calls(connection, id)?, verified::doubled_of(connection, id)?);
            let (acts, waits_for_trial_of) = (acts::of_job(connection, id)?, trials::awaited_by(connection, id)?);
            Ok(Some(JobDetail { job, root, receipt, warnings, uploads, calls, waits_for_trial_of, acts, doubled }))
        })
    }
}

/// The job number after which the newest jobs begin that fit into the filter's limit.
fn first_of(connection: &Connection, filter: &Filter) -> Result<i64, QueueError> {
    let Some(limit) = filter.limit else { return Ok(i64::MIN) };
    let Conditions { text, values } = filter.conditions();
    let sql =
        format!("SELECT min(id) FROM (SELECT job.id FROM {JOBS} WHERE {text} ORDER BY job.id DESC LIMIT {limit})");
    let first: Option<i64> = connection.prepare(&sql)?.query_row(params_from_iter(values), |row| row.get(0))?;
    Ok(first.map_or(i64::MAX, |first| first.saturating_sub(1)))
}

pub(super) fn page(connection: &Connection, filter: &Filter, after: i64, size: u32) -> Result<Vec<JobRow>, QueueError> {
    let mut conditions = filter.conditions();
    conditions.add("job.id > ?", Box::new(after));
    let sql = format!(
        "SELECT job.id, drop_folder.name, batch.manifest, entry_index, kind, profile_id, reference,
                category, document_type, job.name, job.state, waits, reason, due_at, attempts, remote_id, twin_of,
                job.problems, created_at, ended_at, creation, removed_at, job.cause,
                CASE WHEN job.state IN ('queued', 'waiting', 'held') THEN
                    coalesce((SELECT max(at + took_ms) FROM attempt WHERE job_id = job.id), created_at) END
           FROM {JOBS} WHERE {} ORDER BY job.id LIMIT {size}",
        conditions.text
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut found = statement.query(params_from_iter(conditions.values))?;
    let mut page = Vec::new();
    while let Some(row) = found.next()? {
        page.push(job_row(row)?);
    }
    Ok(page)
}

impl JobRow {
    /// What the sentence about it depends on: see [`crate::reason::reason`].
    #[must_use]
    pub fn explanation(&self) -> JobExplanation<'_> {
        JobExplanation {
            state: self.state,
            waits: self.waits.as_deref().and_then(WaitReason::parse),
            creation: self.creation,
            due_at: self.due_at,
            attempts: self.attempts,
            twin_of: self.twin_of,
            remote_id: self.remote_id.as_deref(),
            stored: self.reason.as_deref(),
        }
    }
}

fn job_row(row: &rusqlite::Row<'_>) -> Result<JobRow, QueueError> {
    let state: String = row.get(10)?;
    let problems: Option<String> = row.get(17)?;
    let creation: String = row.get(20)?;
    Ok(JobRow {
        id: row.get(0)?,
        drop: row.get(1)?,
        manifest: row.get(2)?,
        index: row.get(3)?,
        kind: row.get(4)?,
        profile_id: row.get(5)?,
        reference: row.get(6)?,
        category: row.get(7)?,
        document_type: row.get(8)?,
        name: row.get(9)?,
        state: JobState::parse(&state).ok_or_else(|| rows::unreadable("a job's state", &state))?,
        waits: row.get(11)?,
        reason: row.get(12)?,
        due_at: row.get::<_, Option<i64>>(13)?.map(Timestamp),
        waits_since: row.get::<_, Option<i64>>(23)?.map(Timestamp),
        attempts: row.get(14)?,
        creation: Creation::parse(&creation).ok_or_else(|| rows::unreadable("a job's creation", &creation))?,
        remote_id: row.get(15)?,
        twin_of: row.get(16)?,
        problems: problems.map(|text| rows::problems(&text)).unwrap_or_default(),
        cause: row.get(22)?,
        created_at: Some(Timestamp(row.get(18)?)),
        ended_at: row.get::<_, Option<i64>>(19)?.map(Timestamp),
        removed_at: row.get::<_, Option<i64>>(21)?.map(Timestamp),
    })
}

/// One image, or file, of a job.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UploadRow {
    /// As the manifest writes it.
    pub path: String,
    /// Which side it shows.
    pub image_type: Option<String>,
    pub bytes: i64,
    pub sha256: String,
    pub remote_id: Option<String>,
    pub lost_answers: i64,
}

/// One call to the API.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AttemptRow {
    #[serde(serialize_with = "rows::optional_moment")]
    pub at: Option<Timestamp>,
    pub operation: String,
    pub position: Option<i64>,
    pub outcome: String,
    /// The API's or the network's own words.
    pub detail: Option<String>,
    pub took_ms: i64,
    pub sent_bytes: i64,
}

/// All about one job.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobDetail {
    #[serde(flatten)]
    pub job: JobRow,
    /// The drop's folder, or where its files were moved to.
    pub root: String,
    /// The receipt of its manifest, once it has a name.
    pub receipt: Option<String>,
    /// What is probably not meant.
    pub warnings: Vec<Warning>,
    pub uploads: Vec<UploadRow>,
    pub calls: Vec<AttemptRow>,
    /// The cause whose trial it waits for, while it is failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for_trial_of: Option<i64>,
    /// What people did to it.
    pub acts: Vec<ActRow>,
    /// Further documents with the same images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub doubled: Option<DoubledDocument>,
}

/// A job's images, or its file, in order. One that did not need to send them has the IDs of the job that did.
pub(super) fn uploads(connection: &Connection, job_id: i64) -> Result<Vec<UploadRow>, QueueError> {
    let rows = connection
        .prepare_cached(
            "SELECT ours.path, ours.image_type, ours.bytes, lower(hex(ours.sha256)),
                    coalesce(ours.remote_id, theirs.remote_id), ours.lost
               FROM upload AS ours
               JOIN job ON job.id = ours.job_id
               LEFT JOIN upload AS theirs ON job.state = 'duplicate' AND theirs.job_id = job.twin_of
                                         AND theirs.position = ours.position AND theirs.sha256 = ours.sha256
              WHERE ours.job_id = ?1 ORDER BY ours.position",
        )?
        .query_map([job_id], |row| {
            Ok(UploadRow {
                path: row.get(0)?,
                image_type: row.get(1)?,
                bytes: row.get(2)?,
                sha256: row.get(3)?,
                remote_id: row.get(4)?,
                lost_answers: row.get(5)?,
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

fn calls(connection: &Connection, job_id: i64) -> Result<Vec<AttemptRow>, QueueError> {
    let rows = connection
        .prepare(
            "SELECT at, operation, position, outcome, detail, took_ms, sent_bytes FROM attempt
              WHERE job_id = ?1 ORDER BY id",
        )?
        .query_map([job_id], |row| {
            Ok(AttemptRow {
                at: Some(Timestamp(row.get(0)?)),
                operation: row.get(1)?,
                position: row.get(2)?,
                outcome: row.get(3)?,
                detail: row.get(4)?,
                took_ms: row.get(5)?,
                sent_bytes: row.get(6)?,
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}
