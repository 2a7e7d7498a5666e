//! Questions to the queue, for the commands that look: `status`, `jobs`, `show`, `why`, `export`.

use rusqlite::{Connection, OptionalExtension, ToSql, params_from_iter};
use serde::Serialize;

use super::{QueueError, control, created, numbers, rows, settle};
use crate::{
    clock::Timestamp,
    entry::EntryKind,
    job::{Creation, JobState, Waits},
    problem::Problem,
    reason::Standing,
    receipt::Counts,
};

/// Which jobs are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// These job numbers; empty for any.
    pub ids: Vec<i64>,
    /// In one of these states; empty for any.
    pub states: Vec<JobState>,
    /// Of this drop.
    pub drop: Option<String>,
    /// For this profile, in any letter case.
    pub profile: Option<String>,
    /// With this reference.
    pub reference: Option<String>,
    /// Of a manifest whose whole path is this, or ends in it after a slash.
    pub manifest: Option<String>,
    /// Whose reason or problems contain this text.
    pub error: Option<String>,
    /// Made, or ended, since then.
    pub since: Option<Timestamp>,
    /// So many at most, the newest.
    pub limit: Option<u32>,
}

impl Filter {
    /// Whether it names anything at all, so that it does not mean every job there is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self { limit: self.limit, ..Self::default() }
    }

    fn conditions(&self) -> Conditions {
        let mut conditions = Conditions::default();
        if let [state] = self.states.as_slice() {
            // Written out, because the indexes are over jobs in one state, and a bound value could be any.
            conditions.text.push_str(&format!(" AND job.state = '{state}'"));
        }
        let mut add = |condition: &str, value: Box<dyn ToSql>| conditions.add(condition, value);
        if !self.ids.is_empty() {
            let list = serde_json::to_string(&self.ids).unwrap_or_default();
            add("job.id IN (SELECT value FROM json_each(?))", Box::new(list));
        }
        if self.states.len() > 1 {
            let words: Vec<_> = self.states.iter().map(|state| state.as_str()).collect();
            let list = serde_json::to_string(&words).unwrap_or_default();
            add("job.state IN (SELECT value FROM json_each(?))", Box::new(list));
        }
        if let Some(drop) = &self.drop {
            add("drop_folder.name = ?", Box::new(drop.clone()));
        }
        if let Some(profile) = &self.profile {
            add("job.profile_id = ?", Box::new(profile.to_lowercase()));
        }
        if let Some(reference) = &self.reference {
            add("job.reference = ?", Box::new(reference.clone()));
        }
        if let Some(manifest) = &self.manifest {
            add(PATH_ENDS, Box::new(manifest.trim_start_matches('/').to_owned()));
        }
        if let Some(error) = &self.error {
            add(
                "instr(lower(coalesce(job.reason, '') || coalesce(job.problems, '')), lower(?)) > 0",
                Box::new(error.clone()),
            );
        }
        if let Some(since) = self.since {
            add("max(job.created_at, coalesce(job.ended_at, 0)) >= ?", Box::new(since.0));
        }
        conditions
    }

    /// What of the filter is about jobs, as a condition over `job`, `batch` and `drop_folder`, and the values that it names.
    pub(super) fn job_conditions(&self) -> (String, Vec<Box<dyn ToSql>>) {
        let conditions = self.conditions();
        (conditions.text, conditions.values)
    }

    /// What of the filter is about entries that never became jobs, and the values that it names.
    pub(super) fn invalid_conditions(&self) -> (String, Vec<Box<dyn ToSql>>) {
        let mut conditions = Conditions::default();
        let mut add = |condition: &str, value: Box<dyn ToSql>| conditions.add(condition, value);
        if let Some(drop) = &self.drop {
            add("drop_folder.name = ?", Box::new(drop.clone()));
        }
        if let Some(profile) = &self.profile {
            add("lower(invalid_entry.profile_id) = ?", Box::new(profile.to_lowercase()));
        }
        if let Some(reference) = &self.reference {
            add("invalid_entry.reference = ?", Box::new(reference.clone()));
        }
        if let Some(manifest) = &self.manifest {
            add(PATH_ENDS, Box::new(manifest.trim_start_matches('/').to_owned()));
        }
        if let Some(error) = &self.error {
            add("instr(lower(invalid_entry.problems), lower(?)) > 0", Box::new(error.clone()));
        }
        if let Some(since) = self.since {
            add("batch.received_at >= ?", Box::new(since.0));
        }
        (conditions.text, conditions.values)
    }
}

/// Whether a manifest's path is this one, or ends in it after a slash.
const PATH_ENDS: &str = "substr('/' || batch.root || '/' || batch.manifest, -length(?) - 1) = '/' || ?";

/// What a query asks for, and the values that it names.
struct Conditions {
    text: String,
    values: Vec<Box<dyn ToSql>>,
}

impl Default for Conditions {
    fn default() -> Self {
        Self { text: String::from("1"), values: Vec::new() }
    }
}

impl Conditions {
    /// One more condition; every `?` in it stands for the one value.
    fn add(&mut self, condition: &str, value: Box<dyn ToSql>) {
        self.values.push(value);
        self.text.push_str(" AND ");
        self.text.push_str(&condition.replace('?', &format!("?{}", self.values.len())));
    }
}

/// One job in a list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobRow {
    /// Its number.
    pub id: i64,
    /// Its drop.
    pub drop: String,
    /// Its manifest, relative to the drop.
    pub manifest: String,
    /// Its place in the manifest.
    pub index: i64,
    /// `document` or `file`.
    pub kind: String,
    /// The profile it goes to.
    pub profile_id: String,
    /// The sender's key.
    pub reference: Option<String>,
    /// Of a document.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub category: String,
    /// Of a document.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub document_type: String,
    /// Of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where it stands.
    pub state: JobState,
    /// What a waiting one waits for.
    pub waits: Option<String>,
    /// Why it stands there.
    pub reason: Option<String>,
    /// Until when it waits.
    #[serde(serialize_with = "moment")]
    pub due_at: Option<Timestamp>,
    /// Failed tries so far.
    pub attempts: u32,
    /// Whether its document may be under way.
    pub creation: Creation,
    /// The ID of what was created, or exists.
    pub remote_id: Option<String>,
    /// The job that created it, or creates it, instead of this one.
    pub twin_of: Option<i64>,
    /// Why it failed.
    pub problems: Vec<Problem>,
    /// When it was taken in.
    #[serde(serialize_with = "moment")]
    pub created_at: Option<Timestamp>,
    /// When it ended.
    #[serde(serialize_with = "moment")]
    pub ended_at: Option<Timestamp>,
}

/// Writes a moment as RFC 3339, as receipts do.
pub(super) fn moment<S: serde::Serializer>(moment: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match moment {
        Some(moment) => serializer.collect_str(moment),
        None => serializer.serialize_none(),
    }
}

/// Jobs that are read at once. Between two such reads nothing is held open, so that a reader who takes an hour does not
/// keep the worker's log from being cut back.
const PAGE: u32 = 1000;

const JOBS: &str =
    "job CROSS JOIN batch ON batch.id = job.batch_id CROSS JOIN drop_folder ON drop_folder.id = job.drop_id";

/// Calls `each` with the jobs that a filter means, oldest first; with a limit, the newest of them. Memory stays flat.
///
/// # Errors
///
/// Those of the database, and of `each`.
pub fn jobs<E: From<QueueError>>(
    connection: &Connection,
    filter: &Filter,
    mut each: impl FnMut(JobRow) -> Result<(), E>,
) -> Result<(), E> {
    let mut left = filter.limit;
    let mut after = first_of(connection, filter)?;
    loop {
        let size = left.map_or(PAGE, |left| left.min(PAGE));
        let page = page(connection, filter, after, size)?;
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

/// The job number after which the newest jobs begin that fit into the filter's limit.
fn first_of(connection: &Connection, filter: &Filter) -> Result<i64, QueueError> {
    let Some(limit) = filter.limit else { return Ok(i64::MIN) };
    let Conditions { text, values } = filter.conditions();
    let sql =
        format!("SELECT min(id) FROM (SELECT job.id FROM {JOBS} WHERE {text} ORDER BY job.id DESC LIMIT {limit})");
    let first: Option<i64> = connection.prepare(&sql)?.query_row(params_from_iter(values), |row| row.get(0))?;
    Ok(first.map_or(i64::MAX, |first| first.saturating_sub(1)))
}

fn page(connection: &Connection, filter: &Filter, after: i64, size: u32) -> Result<Vec<JobRow>, QueueError> {
    let mut conditions = filter.conditions();
    conditions.add("job.id > ?", Box::new(after));
    let sql = format!(
        "SELECT job.id, drop_folder.name, batch.manifest, entry_index, kind, profile_id, reference,
                category, document_type, job.name, job.state, waits, reason, due_at, attempts, remote_id, twin_of,
                job.problems, created_at, ended_at, creation
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
    pub fn standing(&self) -> Standing<'_> {
        Standing {
            state: self.state,
            waits: self.waits.as_deref().and_then(Waits::parse),
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
        attempts: row.get(14)?,
        creation: Creation::parse(&creation).ok_or_else(|| rows::unreadable("a job's creation", &creation))?,
        remote_id: row.get(15)?,
        twin_of: row.get(16)?,
        problems: problems.map(|text| settle::read_problems(&text)).unwrap_or_default(),
        created_at: Some(Timestamp(row.get(18)?)),
        ended_at: row.get::<_, Option<i64>>(19)?.map(Timestamp),
    })
}

/// One image, or file, of a job.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UploadRow {
    /// As the manifest writes it.
    pub path: String,
    /// Which side it shows.
    pub image_type: Option<String>,
    /// Its size.
    pub bytes: i64,
    /// Its digest.
    pub sha256: String,
    /// Its ID, once it has one.
    pub remote_id: Option<String>,
    /// How often its answer was lost.
    pub lost_answers: i64,
}

/// One call to the API.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AttemptRow {
    /// When.
    #[serde(serialize_with = "moment")]
    pub at: Option<Timestamp>,
    /// Which call.
    pub operation: String,
    /// Of an upload: which.
    pub position: Option<i64>,
    /// How it came out.
    pub outcome: String,
    /// What the API or the network said.
    pub detail: Option<String>,
    /// In milliseconds.
    pub took_ms: i64,
    /// How much of the body went out.
    pub sent_bytes: i64,
}

/// All about one job.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobDetail {
    /// As in a list.
    #[serde(flatten)]
    pub job: JobRow,
    /// The drop's folder, or where its files were moved to.
    pub root: String,
    /// The receipt of its manifest, once it has a name.
    pub receipt: Option<String>,
    /// Its images, or its file.
    pub uploads: Vec<UploadRow>,
    /// Every call that was made for it.
    pub calls: Vec<AttemptRow>,
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

/// All about one job, or `None` where there is no such job.
///
/// # Errors
///
/// Those of the database.
pub fn job(connection: &Connection, id: i64) -> Result<Option<JobDetail>, QueueError> {
    let mut found = None;
    jobs(connection, &Filter { ids: vec![id], ..Filter::default() }, |row| {
        found = Some(row);
        Ok::<_, QueueError>(())
    })?;
    let Some(job) = found else { return Ok(None) };
    let (root, receipt) = connection
        .prepare(
            "SELECT coalesce(shelf, root), receipts_dir || '/' || receipt FROM job JOIN batch ON batch.id = batch_id
              WHERE job.id = ?1",
        )?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let uploads = uploads(connection, id)?;
    let calls = connection
        .prepare("SELECT at, operation, position, outcome, detail, took_ms, sent_bytes FROM attempt WHERE job_id = ?1 ORDER BY id")?
        .query_map([id], |row| {
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
    Ok(Some(JobDetail { job, root, receipt, uploads, calls }))
}

/// How many jobs a drop has in each state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// The drop.
    pub drop: String,
    /// Jobs by state; states without any are left out.
    pub jobs: std::collections::BTreeMap<String, i64>,
    /// Batches that are not settled.
    pub open_batches: i64,
    /// Manifests that lie in the drop and are not taken in.
    pub waiting_manifests: i64,
    /// How changes in its folder are noticed: `events`, or why it is read again and again.
    pub watching: Option<String>,
}

/// The jobs of every drop by state. Costs the same however many there are.
///
/// # Errors
///
/// Those of the database.
pub fn tallies(connection: &Connection) -> Result<Vec<Tally>, QueueError> {
    let drops: Vec<(i64, String, Option<String>)> = connection
        .prepare_cached("SELECT id, name, watching FROM drop_folder ORDER BY name")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<_, _>>()?;
    let mut tallies = Vec::new();
    for (id, drop, watching) in drops {
        let jobs = connection
            .prepare_cached("SELECT state, jobs FROM tally WHERE drop_id = ?1 AND jobs <> 0")?
            .query_map([id], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        let count = |sql: &str| connection.prepare_cached(sql)?.query_row([id], |row| row.get(0));
        tallies.push(Tally {
            drop,
            jobs,
            open_batches: count("SELECT count(*) FROM batch WHERE drop_id = ?1 AND state <> 'closed'")?,
            waiting_manifests: count("SELECT count(*) FROM arrival WHERE drop_id = ?1")?,
            watching,
        });
    }
    Ok(tallies)
}

/// The queue at a glance.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Glance {
    /// By drop.
    pub drops: Vec<Tally>,
    /// What is stopped.
    pub pauses: Vec<control::Pause>,
    /// Since when the oldest job that is not ended has been there.
    #[serde(serialize_with = "moment")]
    pub oldest_waiting: Option<Timestamp>,
    /// Documents and files that were created in the last ten minutes.
    pub ended_lately: i64,
    /// When the first of those was.
    #[serde(serialize_with = "moment")]
    pub lately_since: Option<Timestamp>,
    /// When the next waiting job is due.
    #[serde(serialize_with = "moment")]
    pub next_due: Option<Timestamp>,
    /// The newest failure that is still of interest: its job and the reason.
    pub last_error: Option<(i64, String)>,
    /// When that was.
    #[serde(serialize_with = "moment")]
    pub last_error_at: Option<Timestamp>,
    /// Images that may lie at the API without a document, because an answer was lost.
    pub possible_leftovers: i64,
    /// Files that may stand at the API without a job that knows of it, because an answer was lost.
    pub possible_extra_files: i64,
    /// What the last `verify` of everything came to.
    pub verified: Option<created::Verified>,
    /// Drops that cannot be read and batches that cannot be settled, and why.
    pub troubled: Vec<(String, String)>,
}

/// How far back the rate in a [`Glance`] looks.
pub const LATELY: std::time::Duration = std::time::Duration::from_secs(600);

/// The queue at a glance.
///
/// # Errors
///
/// Those of the database.
pub fn glance(connection: &Connection, now: Timestamp) -> Result<Glance, QueueError> {
    let one = |sql: &str| connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, Option<i64>>(0));
    let oldest = one("SELECT min(received_at) FROM batch WHERE state IN ('admitting', 'open')")?;
    let lately = i64::try_from(LATELY.as_millis()).unwrap_or(0);
    let (ended_lately, lately_since) = connection
        .prepare_cached(
            "SELECT count(*), min(at) FROM attempt WHERE id > (SELECT coalesce(max(id), 0) - 100000 FROM attempt)
                AND at >= ?1 AND (outcome = 'adopted'
                                  OR outcome = 'done' AND operation IN ('create_document', 'upload_file'))",
        )?
        .query_row([now.0 - lately], |row| Ok((row.get(0)?, row.get::<_, Option<i64>>(1)?.map(Timestamp))))?;
    let last_error = connection
        .prepare_cached(
            "SELECT job_id, outcome || coalesce(': ' || detail, ''), at FROM attempt
              WHERE id > (SELECT coalesce(max(id), 0) - 100000 FROM attempt) AND outcome NOT IN ('done', 'adopted', 'absent')
              ORDER BY id DESC LIMIT 1",
        )?
        .query_row([], |row| Ok(((row.get(0)?, row.get(1)?), Timestamp(row.get(2)?))))
        .optional()?;
    let (last_error, last_error_at) = last_error.unzip();
    let troubled = connection
        .prepare_cached(
            "SELECT 'drop ' || name, trouble FROM drop_folder WHERE trouble IS NOT NULL
             UNION ALL
             SELECT * FROM (SELECT root || '/' || manifest, trouble FROM batch
                             WHERE state <> 'closed' AND trouble IS NOT NULL ORDER BY id LIMIT 20)",
        )?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    Ok(Glance {
        drops: tallies(connection)?,
        pauses: control::pauses(connection)?,
        oldest_waiting: oldest.map(Timestamp),
        ended_lately,
        lately_since,
        next_due: one("SELECT min(due_at) FROM job WHERE state = 'waiting' AND due_at IS NOT NULL")?.map(Timestamp),
        last_error,
        last_error_at,
        possible_leftovers: numbers::lost_uploads(connection, EntryKind::Document)?,
        possible_extra_files: numbers::lost_uploads(connection, EntryKind::File)?,
        verified: created::verified(connection)?,
        troubled,
    })
}

/// A manifest that lies in a drop and is not taken in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ArrivalRow {
    /// The drop.
    pub drop: String,
    /// Its path relative to the drop.
    pub manifest: String,
    /// Since when it is there.
    #[serde(serialize_with = "moment")]
    pub first_seen: Option<Timestamp>,
    /// What it waits for.
    pub reason: String,
    /// The first of the files that it waits for.
    pub missing: Vec<String>,
}

/// The manifests that wait, oldest first.
///
/// # Errors
///
/// Those of the database.
pub fn arrivals(connection: &Connection, limit: u32) -> Result<Vec<ArrivalRow>, QueueError> {
    let rows = connection
        .prepare_cached(
            "SELECT drop_folder.name, manifest, first_seen, reason, missing FROM arrival
               JOIN drop_folder ON drop_folder.id = drop_id ORDER BY first_seen LIMIT ?1",
        )?
        .query_map([limit], |row| {
            let missing: Option<String> = row.get(4)?;
            Ok(ArrivalRow {
                drop: row.get(0)?,
                manifest: row.get(1)?,
                first_seen: Some(Timestamp(row.get(2)?)),
                reason: row.get(3)?,
                missing: missing.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default(),
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

/// What is left to do for some drops.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Left {
    /// Jobs that have not ended and are not held.
    pub to_do: i64,
    /// Of these, jobs that a worker has.
    pub under_way: i64,
    /// Of these, jobs that wait for a quota.
    pub waits_for_quota: i64,
    /// Jobs that wait for a person, and those that wait for them.
    pub held: i64,
    /// Batches whose jobs have ended and whose receipt or files are not done.
    pub to_settle: i64,
    /// Of these, batches that could not be settled when it was tried.
    pub troubled: i64,
    /// Batches that are not taken in whole.
    pub half_taken: i64,
    /// Whether a person paused everything, or each of these drops that has something to do.
    pub paused: bool,
}

/// Whether everything that has not ended and is not held waits for a file.
///
/// # Errors
///
/// Those of the database.
pub fn only_files_are_awaited(connection: &Connection) -> Result<bool, QueueError> {
    let awaits = |sql: &str| connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, bool>(0));
    Ok(awaits("SELECT EXISTS (SELECT 1 FROM job WHERE state = 'waiting' AND waits = 'file')")?
        && !awaits("SELECT EXISTS (SELECT 1 FROM job WHERE state = 'waiting' AND waits NOT IN ('file', 'twin'))")?
        && !awaits("SELECT EXISTS (SELECT 1 FROM tally WHERE state IN ('queued', 'running') AND jobs > 0)")?)
}

/// What is left to do for these drops.
///
/// # Errors
///
/// Those of the database.
pub fn left(connection: &Connection, drops: &[&str]) -> Result<Left, QueueError> {
    let mut left = Left::default();
    let (mut unpaused, mut movable) = (0, 0);
    let pauses = control::pauses(connection)?;
    let paused =
        |scope: &str| pauses.iter().any(|pause| pause.cause == control::Cause::Operator && pause.scope == scope);
    for drop in drops {
        let jobs = connection
            .prepare_cached(
                "SELECT state, jobs FROM tally JOIN drop_folder ON id = drop_id WHERE name = ?1 AND jobs > 0",
            )?
            .query_map([drop], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?
            .collect::<Result<Vec<_>, _>>()?;
        let before = left.to_do;
        for (word, count) in jobs {
            match JobState::parse(&word) {
                Some(JobState::Queued | JobState::Waiting) => left.to_do += count,
                Some(JobState::Running) => {
                    left.to_do += count;
                    left.under_way += count;
                }
                Some(JobState::Held) => left.held += count,
                _ => {}
            }
        }
        let count = |sql: &str| connection.prepare_cached(sql)?.query_row([drop], |row| row.get::<_, i64>(0));
        left.to_settle += count(
            "SELECT count(*) FROM batch JOIN drop_folder ON drop_folder.id = drop_id
              WHERE name = ?1 AND state IN ('ended', 'published')",
        )?;
        left.troubled += count(
            "SELECT count(*) FROM batch JOIN drop_folder ON drop_folder.id = drop_id
              WHERE name = ?1 AND state IN ('ended', 'published') AND batch.trouble IS NOT NULL",
        )?;
        left.half_taken += count(
            "SELECT count(*) FROM batch JOIN drop_folder ON drop_folder.id = drop_id
              WHERE name = ?1 AND state = 'admitting'",
        )?;
        if left.held > 0 {
            let twins = count(
                "SELECT count(*) FROM job JOIN drop_folder ON drop_folder.id = job.drop_id JOIN job AS twin
                    ON twin.twin_of = job.id AND twin.state = 'waiting' AND twin.waits = 'twin'
                  WHERE drop_folder.name = ?1 AND job.state IN ('running', 'held') AND job.state = 'held'",
            )?;
            left.held += twins;
            left.to_do -= twins;
        }
        if !paused(&format!("drop:{drop}")) {
            unpaused += 1;
            movable += left.to_do - before;
        }
    }
    left.waits_for_quota = connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM job WHERE state = 'waiting' AND due_at IS NOT NULL AND waits = 'quota')",
        )?
        .query_row([], |row| row.get(0))?;
    left.paused = paused("") || unpaused == 0 || (left.to_do > 0 && movable == 0);
    Ok(left)
}

/// How far one batch is; costs the same however large it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BatchProgress {
    /// Whether it is settled and its files are where they belong.
    pub closed: bool,
    /// Entries that are in the queue.
    pub admitted: u64,
    /// Of these, entries whose jobs have not ended.
    pub under_way: u64,
}

/// How far a batch is.
///
/// # Errors
///
/// Those of the database.
pub fn batch_progress(connection: &Connection, id: i64) -> Result<BatchProgress, QueueError> {
    let number = |number: i64| u64::try_from(number).unwrap_or(0);
    Ok(connection
        .prepare_cached("SELECT state = 'closed', admitted, open_jobs FROM batch WHERE id = ?1")?
        .query_row([id], |row| {
            Ok(BatchProgress { closed: row.get(0)?, admitted: number(row.get(1)?), under_way: number(row.get(2)?) })
        })?)
}

/// How many jobs of each batch only a person can bring on: held ones, and those that wait for one.
///
/// # Errors
///
/// Those of the database.
pub fn held_by_batch(connection: &Connection) -> Result<Vec<(i64, u64)>, QueueError> {
    Ok(connection
        .prepare_cached(
            "SELECT batch_id, count(*) FROM (
                SELECT batch_id FROM job WHERE state IN ('running', 'held') AND state = 'held'
                UNION ALL
                SELECT twin.batch_id FROM job JOIN job AS twin
                    ON twin.twin_of = job.id AND twin.state = 'waiting' AND twin.waits = 'twin'
                 WHERE job.state IN ('running', 'held') AND job.state = 'held')
             GROUP BY batch_id",
        )?
        .query_map([], |row| Ok((row.get(0)?, u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0))))?
        .collect::<Result<_, _>>()?)
}

/// How a batch ended: its counts, whether its manifest was unusable, and where its receipt lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchEnd {
    /// How its entries ended; those that have not count as failed.
    pub counts: Counts,
    /// Whether the manifest was unusable.
    pub rejected: bool,
    /// Its receipt, once it is written.
    pub receipt: Option<std::path::PathBuf>,
}

/// How a batch ended. Reads all of its rows.
///
/// # Errors
///
/// Those of the database.
pub fn batch_end(connection: &Connection, id: i64) -> Result<BatchEnd, QueueError> {
    let (state, folder, receipt, rejected): (String, String, Option<String>, bool) = connection
        .prepare_cached("SELECT state, receipts_dir, receipt, problems IS NOT NULL FROM batch WHERE id = ?1")?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    let written = matches!(state.as_str(), "published" | "closed");
    Ok(BatchEnd {
        counts: settle::counts(connection, id)?,
        rejected,
        receipt: receipt.filter(|_| written).map(|receipt| std::path::Path::new(&folder).join(receipt)),
    })
}
