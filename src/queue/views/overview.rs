//! All of the queue in one view, for `status` and the page.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension};
use serde::Serialize;

use super::{
    created,
    waiting::{self, HeldJob, UnreadableDrop, UnsettledBatch, WaitingJobs},
};
use crate::{
    clock::Timestamp,
    entry::EntryKind,
    job::JobState,
    queue::{
        QueueError, Reader, arrivals, control,
        doubt::{self, BrokenBound},
        drop_state::UnclaimedFiles,
        recheck, rows, schema,
        verified::{self, DoubledDocument},
    },
};

/// How many jobs a drop has in each state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    pub drop: String,
    /// Jobs by state; states without any are left out.
    pub jobs: BTreeMap<String, i64>,
    /// Batches that are not closed.
    pub open_batches: i64,
    /// Manifests in the drop that are not admitted.
    pub waiting_manifests: i64,
    /// How changes in its folder are noticed: `events`, or why it is polled.
    pub watching: Option<String>,
    /// What keeps its files from being taken or put away, with the cure.
    pub ground: Option<String>,
    /// Since when.
    #[serde(serialize_with = "rows::optional_moment")]
    pub ground_since: Option<Timestamp>,
    /// Files in its folder that belong to nothing.
    pub unclaimed: Option<UnclaimedFiles>,
}

impl Tally {
    /// Jobs in a state.
    #[must_use]
    pub fn jobs_in(&self, state: JobState) -> u64 {
        self.jobs.get(state.as_str()).map_or(0, |jobs| jobs.unsigned_abs())
    }

    /// Jobs that have not ended and that nobody holds.
    #[must_use]
    pub fn open_jobs(&self) -> u64 {
        [JobState::Queued, JobState::Running, JobState::Waiting].map(|state| self.jobs_in(state)).iter().sum()
    }
}

/// The jobs of every drop by state. Costs the same however many there are.
pub(super) fn tallies(connection: &Connection) -> Result<Vec<Tally>, QueueError> {
    let drops: Vec<(i64, Tally)> = connection
        .prepare_cached(
            // The name of imports is known to the queue before there is one.
            "SELECT id, name, watching, ground, ground_since, unclaimed FROM drop_folder
              WHERE name <> 'import' OR EXISTS (SELECT 1 FROM batch WHERE drop_id = drop_folder.id) ORDER BY name",
        )?
        .query_map([], |row| {
            let unclaimed: Option<String> = row.get(5)?;
            let tally = Tally {
                drop: row.get(1)?,
                watching: row.get(2)?,
                ground: row.get(3)?,
                ground_since: row.get::<_, Option<i64>>(4)?.map(Timestamp),
                unclaimed: unclaimed.and_then(|text| serde_json::from_str(&text).ok()),
                ..Tally::default()
            };
            Ok((row.get(0)?, tally))
        })?
        .collect::<Result<_, _>>()?;
    let mut tallies = Vec::new();
    for (id, tally) in drops {
        let jobs = connection
            .prepare_cached("SELECT state, jobs FROM tally WHERE drop_id = ?1 AND jobs <> 0")?
            .query_map([id], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        let count = |sql: &str| connection.prepare_cached(sql)?.query_row([id], |row| row.get(0));
        tallies.push(Tally {
            jobs,
            open_batches: count(
                "SELECT count(*) FROM batch INDEXED BY batch_unsettled WHERE drop_id = ?1 AND state <> 'closed'",
            )?,
            waiting_manifests: count("SELECT count(*) FROM arrival WHERE drop_id = ?1")?,
            ..tally
        });
    }
    Ok(tallies)
}

/// How often the answer to an upload was lost, in all.
pub(super) fn lost_uploads(connection: &Connection, kind: EntryKind) -> Result<i64, QueueError> {
    let sum: Option<i64> = connection
        .prepare_cached("SELECT sum(lost) FROM upload JOIN job ON id = job_id WHERE lost > 0 AND kind = ?1")?
        .query_row([kind.as_str()], |row| row.get(0))?;
    Ok(sum.unwrap_or(0))
}

/// The state of the queue in numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Overview {
    pub drops: Vec<Tally>,
    pub pauses: Vec<control::Pause>,
    /// Since when the oldest job that is not ended has been there.
    #[serde(serialize_with = "rows::optional_moment")]
    pub oldest_waiting: Option<Timestamp>,
    /// Documents and files that were created in the last ten minutes.
    pub ended_lately: i64,
    /// When a document was created last.
    #[serde(serialize_with = "rows::optional_moment")]
    pub last_created: Option<Timestamp>,
    /// When the first of those was.
    #[serde(serialize_with = "rows::optional_moment")]
    pub lately_since: Option<Timestamp>,
    /// When the next waiting job is due.
    #[serde(serialize_with = "rows::optional_moment")]
    pub next_due: Option<Timestamp>,
    /// The newest failure that is still of interest: its job and the reason.
    pub last_error: Option<(i64, String)>,
    #[serde(serialize_with = "rows::optional_moment")]
    pub last_error_at: Option<Timestamp>,
    /// Images that the API may hold without a document, because an answer was lost.
    pub possible_leftovers: i64,
    /// Files that the API may hold and no job knows of, because an answer was lost.
    pub possible_extra_files: i64,
    pub verified: Option<created::Verified>,
    /// The newest of the documents of which there is more than one.
    pub doubled: Vec<DoubledDocument>,
    /// Documents that were sent a second time, and whose profiles are to be read once more.
    pub to_recheck: i64,
    /// Since when the job of the first of them has ended.
    #[serde(serialize_with = "rows::optional_moment")]
    pub to_recheck_since: Option<Timestamp>,
    /// Drops that cannot be read and batches that cannot be finalized, and why.
    pub troubled: Vec<(String, String)>,
    /// What was measured beyond the bound on lost answers.
    pub broken_bounds: Vec<BrokenBound>,
    /// What waiting jobs wait for, since when and until when.
    pub waits: Vec<WaitingJobs>,
    /// The first of the jobs that a person must decide about.
    pub held: Vec<HeldJob>,
    /// Drops whose folder cannot be read.
    pub unreadable: Vec<UnreadableDrop>,
    /// The first of the batches that cannot be finalized.
    pub unsettled: Vec<UnsettledBatch>,
}

/// The parts of an [`Overview`] that alerts are about.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueTroubles {
    pub drops: Vec<Tally>,
    pub pauses: Vec<control::Pause>,
    pub doubled: Vec<DoubledDocument>,
    pub troubled: Vec<(String, String)>,
}

/// Over what time the rate in an [`Overview`] is taken.
pub const LATELY: std::time::Duration = std::time::Duration::from_secs(600);

/// A manifest in a drop that is not admitted yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ArrivalRow {
    /// The number by which the log names it.
    pub arrival: u64,
    pub drop: String,
    pub manifest: String,
    /// Since when it is there.
    #[serde(serialize_with = "rows::optional_moment")]
    pub first_seen: Option<Timestamp>,
    pub reason: String,
    /// When it is taken in without the files that are missing; `None`: not before they are there.
    #[serde(serialize_with = "rows::optional_moment")]
    pub gives_up_at: Option<Timestamp>,
    /// The first of the files that it waits for.
    pub missing: Vec<String>,
    /// The first of those that are in use by other manifests.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub in_use: Vec<String>,
    /// The stable name of the reason, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
}

impl Reader {
    /// The state of the queue in numbers.
    pub(crate) fn overview(&self, now: Timestamp) -> Result<Overview, QueueError> {
        self.snapshot(|connection| overview(connection, now))
    }

    /// What alerts are about: the part of the overview that no number of jobs or calls makes slow.
    pub(crate) fn troubles(&self) -> Result<QueueTroubles, QueueError> {
        self.snapshot(|connection| {
            Ok(QueueTroubles {
                drops: tallies(connection)?,
                pauses: control::pauses(connection)?,
                doubled: verified::doubled_now(connection, NAMED_DOUBLES)?,
                troubled: troubled(connection)?,
            })
        })
    }

    /// The jobs of every drop by state. Costs the same however many there are.
    pub(crate) fn tallies(&self) -> Result<Vec<Tally>, QueueError> {
        self.snapshot(tallies)
    }

    /// Everything that is paused.
    pub(crate) fn pauses(&self) -> Result<Vec<control::Pause>, QueueError> {
        control::pauses(&self.connection)
    }

    /// The manifests that are not admitted yet, oldest first.
    pub(crate) fn arrivals(&self, limit: u32) -> Result<Vec<ArrivalRow>, QueueError> {
        let seed = schema::seed_of(&self.connection)?;
        let rows = self
            .connection
            .prepare_cached(
                "SELECT drop_folder.name, manifest, first_seen, reason, missing, in_use, first_seen + patience_ms
                   FROM arrival
                   JOIN drop_folder ON drop_folder.id = drop_id ORDER BY first_seen LIMIT ?1",
            )?
            .query_map([limit], |row| {
                let paths = |column| -> Result<Vec<String>, rusqlite::Error> {
                    let text: Option<String> = row.get(column)?;
                    Ok(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
                };
                let in_use = paths(5)?;
                let (drop, manifest): (String, String) = (row.get(0)?, row.get(1)?);
                Ok(ArrivalRow {
                    arrival: arrivals::number(seed, &drop, &manifest),
                    drop,
                    manifest,
                    first_seen: Some(Timestamp(row.get(2)?)),
                    reason: row.get(3)?,
                    gives_up_at: row.get::<_, Option<i64>>(6)?.map(Timestamp),
                    missing: paths(4)?,
                    code: (!in_use.is_empty()).then_some("name-in-use"),
                    in_use,
                })
            })?
            .collect::<Result<_, _>>()?;
        Ok(rows)
    }
}

/// Drops that cannot be read and batches that cannot be finalized, and why.
fn troubled(connection: &Connection) -> Result<Vec<(String, String)>, QueueError> {
    let rows = connection
        .prepare_cached(
            "SELECT 'drop ' || name, trouble FROM drop_folder WHERE trouble IS NOT NULL
             UNION ALL
             SELECT * FROM (SELECT root || '/' || manifest, trouble FROM batch INDEXED BY batch_unsettled
                             WHERE state <> 'closed' AND trouble IS NOT NULL ORDER BY id LIMIT 20)",
        )?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

fn last_created(connection: &Connection) -> Result<Option<Timestamp>, QueueError> {
    let last: Option<i64> = connection
        .prepare_cached(
            "SELECT max((SELECT max(ended_at) FROM job INDEXED BY job_created
                          WHERE state = 'done' AND kind = 'document' AND drop_id = drop_folder.id))
               FROM drop_folder",
        )?
        .query_row([], |row| row.get(0))?;
    Ok(last.map(Timestamp))
}

/// Doubled documents that are named.
const NAMED_DOUBLES: u32 = 20;

fn overview(connection: &Connection, now: Timestamp) -> Result<Overview, QueueError> {
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
              WHERE id > (SELECT coalesce(max(id), 0) - 100000 FROM attempt) AND outcome NOT IN ('done', 'adopted', 'absent', 'unseen', 'control')
              ORDER BY id DESC LIMIT 1",
        )?
        .query_row([], |row| Ok(((row.get(0)?, row.get(1)?), Timestamp(row.get(2)?))))
        .optional()?;
    let (last_error, last_error_at) = last_error.unzip();
    let (to_recheck, to_recheck_since) = recheck::waiting(connection)?;
    Ok(Overview {
        broken_bounds: doubt::broken_bounds(connection)?,
        waits: waiting::waits(connection)?,
        held: waiting::held(connection)?,
        unreadable: waiting::unreadable(connection)?,
        unsettled: waiting::unsettled(connection)?,
        drops: tallies(connection)?,
        pauses: control::pauses(connection)?,
        oldest_waiting: oldest.map(Timestamp),
        ended_lately,
        last_created: last_created(connection)?,
        lately_since,
        next_due: one("SELECT min(due_at) FROM job WHERE state = 'waiting' AND due_at IS NOT NULL")?.map(Timestamp),
        last_error,
        last_error_at,
        possible_leftovers: lost_uploads(connection, EntryKind::Document)?,
        possible_extra_files: lost_uploads(connection, EntryKind::File)?,
        verified: created::verified(connection)?,
        doubled: verified::doubled_now(connection, NAMED_DOUBLES)?,
        to_recheck,
        to_recheck_since,
        troubled: troubled(connection)?,
    })
}
