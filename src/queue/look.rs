//! Questions to the queue, for the commands that look: `status`, `jobs`, `show`, `why`, `export`.

use rusqlite::{Connection, OptionalExtension, ToSql, params_from_iter};
use serde::Serialize;

use super::{QueueError, control, rows, settle};
use crate::{clock::Timestamp, job::JobState, problem::Problem, receipt::Counts};

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
    /// Of a manifest whose path is this, or ends in it.
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

    fn conditions(&self) -> (String, Vec<Box<dyn ToSql>>) {
        let mut text = String::from("1");
        let mut values: Vec<Box<dyn ToSql>> = Vec::new();
        let mut add = |condition: &str, value: Box<dyn ToSql>| {
            values.push(value);
            text.push_str(" AND ");
            text.push_str(&condition.replace('?', &format!("?{}", values.len())));
        };
        if !self.ids.is_empty() {
            let list = serde_json::to_string(&self.ids).unwrap_or_default();
            add("job.id IN (SELECT value FROM json_each(?))", Box::new(list));
        }
        if !self.states.is_empty() {
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
            add(
                "(batch.manifest = ? OR substr(batch.root || '/' || batch.manifest, -length(?)) = ?)",
                Box::new(manifest.clone()),
            );
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
        (text, values)
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
fn moment<S: serde::Serializer>(moment: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match moment {
        Some(moment) => serializer.collect_str(moment),
        None => serializer.serialize_none(),
    }
}

/// Calls `each` with the jobs that a filter means, oldest first; with a limit, the newest of them.
///
/// # Errors
///
/// Those of the database, and of `each`.
pub fn jobs<E: From<QueueError>>(
    connection: &Connection,
    filter: &Filter,
    mut each: impl FnMut(JobRow) -> Result<(), E>,
) -> Result<(), E> {
    let (conditions, values) = filter.conditions();
    let newest = filter.limit.map_or_else(String::new, |limit| format!("ORDER BY job.id DESC LIMIT {limit}"));
    let sql = format!(
        "SELECT * FROM (
            SELECT job.id, drop_folder.name AS drop_name, batch.manifest, entry_index, kind, profile_id, reference,
                   category, document_type, job.name, job.state, waits, reason, due_at, attempts, remote_id, twin_of,
                   job.problems, created_at, ended_at
              FROM job JOIN batch ON batch.id = job.batch_id JOIN drop_folder ON drop_folder.id = job.drop_id
             WHERE {conditions} {newest})
          ORDER BY id"
    );
    let sqlite = |source| E::from(QueueError::Sqlite { source });
    let mut statement = connection.prepare(&sql).map_err(sqlite)?;
    let mut found = statement.query(params_from_iter(values)).map_err(sqlite)?;
    while let Some(row) = found.next().map_err(sqlite)? {
        each(job_row(row)?)?;
    }
    Ok(())
}

fn job_row(row: &rusqlite::Row<'_>) -> Result<JobRow, QueueError> {
    let state: String = row.get(10)?;
    let problems: Option<String> = row.get(17)?;
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
    /// `none`, `intended` or `unknown`: whether its document may be under way.
    pub creation: String,
    /// The drop's folder at the time.
    pub root: String,
    /// Its images, or its file.
    pub uploads: Vec<UploadRow>,
    /// Every call that was made for it.
    pub calls: Vec<AttemptRow>,
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
    let (creation, root) = connection
        .prepare("SELECT creation, root FROM job JOIN batch ON batch.id = batch_id WHERE job.id = ?1")?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let uploads = connection
        .prepare("SELECT path, image_type, bytes, lower(hex(sha256)), remote_id, lost FROM upload WHERE job_id = ?1 ORDER BY position")?
        .query_map([id], |row| {
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
    Ok(Some(JobDetail { job, creation, root, uploads, calls }))
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
}

/// The jobs of every drop by state. Costs the same however many there are.
///
/// # Errors
///
/// Those of the database.
pub fn tallies(connection: &Connection) -> Result<Vec<Tally>, QueueError> {
    let drops: Vec<(i64, String)> = connection
        .prepare_cached("SELECT id, name FROM drop_folder ORDER BY name")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let mut tallies = Vec::new();
    for (id, drop) in drops {
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
    /// Jobs that ended in the last ten minutes.
    pub ended_lately: i64,
    /// When the next waiting job is due.
    #[serde(serialize_with = "moment")]
    pub next_due: Option<Timestamp>,
    /// The newest failure that is still of interest: its job and the reason.
    pub last_error: Option<(i64, String)>,
    /// Images that may lie at the API without a document, because an answer was lost.
    pub possible_leftovers: i64,
    /// Batches that cannot be settled, and why.
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
    let ended_lately = connection
        .prepare_cached(
            "SELECT count(*) FROM attempt WHERE id > (SELECT coalesce(max(id), 0) - 100000 FROM attempt)
                            AND at >= ?1 AND outcome = 'done' AND operation IN ('create_document', 'upload_file')",
        )?
        .query_row([now.0 - lately], |row| row.get(0))?;
    let last_error = connection
        .prepare_cached(
            "SELECT job_id, outcome || coalesce(': ' || detail, '') FROM attempt
              WHERE id > (SELECT coalesce(max(id), 0) - 100000 FROM attempt) AND outcome <> 'done'
              ORDER BY id DESC LIMIT 1",
        )?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let troubled = connection
        .prepare_cached(
            "SELECT root || '/' || manifest, trouble FROM batch
              WHERE state <> 'closed' AND trouble IS NOT NULL ORDER BY id LIMIT 20",
        )?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    Ok(Glance {
        drops: tallies(connection)?,
        pauses: control::pauses(connection)?,
        oldest_waiting: oldest.map(Timestamp),
        ended_lately,
        next_due: one("SELECT min(due_at) FROM job WHERE state = 'waiting' AND due_at IS NOT NULL")?.map(Timestamp),
        last_error,
        possible_leftovers: one("SELECT sum(lost) FROM upload WHERE lost > 0")?.unwrap_or(0),
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
    /// Jobs that wait for a person.
    pub held: i64,
    /// Batches whose jobs have ended and whose receipt or files are not done.
    pub to_settle: i64,
    /// Of these, batches that could not be settled when it was tried.
    pub troubled: i64,
    /// Batches that are not taken in whole.
    pub half_taken: i64,
    /// Whether a person paused everything, or each of these drops.
    pub paused: bool,
}

/// What is left to do for these drops.
///
/// # Errors
///
/// Those of the database.
pub fn left(connection: &Connection, drops: &[&str]) -> Result<Left, QueueError> {
    let mut left = Left::default();
    let mut unpaused = 0;
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
        unpaused += i64::from(!paused(&format!("drop:{drop}")));
    }
    left.waits_for_quota = connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM job WHERE state = 'waiting' AND due_at IS NOT NULL AND waits = 'quota')",
        )?
        .query_row([], |row| row.get(0))?;
    left.paused = paused("") || unpaused == 0;
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
