//! What waits, for what, since when and until when: read from small indexes only, for `status`, monitoring and the page.

use rusqlite::{Connection, OptionalExtension};
use serde::Serialize;

use crate::{
    clock::Timestamp,
    job::WaitReason,
    queue::{QueueError, Reader, rows},
};

/// Jobs that wait for one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct WaitingJobs {
    pub waits: WaitReason,
    /// How many; where there are more than are counted, the count.
    pub jobs: i64,
    /// Whether there are more than are counted.
    pub or_more: bool,
    /// Since when the first of them waits.
    #[serde(serialize_with = "rows::optional_moment")]
    pub since: Option<Timestamp>,
    /// When the next of them is due; `None` where that is not known.
    #[serde(serialize_with = "rows::optional_moment")]
    pub until: Option<Timestamp>,
    /// Whether none of them is due by itself.
    pub is_held_back: bool,
}

/// A job that a person must decide about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeldJob {
    pub job: i64,
    pub drop: String,
    pub reference: Option<String>,
    pub reason: Option<String>,
    /// Since when.
    #[serde(serialize_with = "rows::optional_moment")]
    pub since: Option<Timestamp>,
}

/// A drop whose folder cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnreadableDrop {
    pub drop: String,
    pub trouble: String,
    #[serde(serialize_with = "rows::optional_moment")]
    pub since: Option<Timestamp>,
}

/// A batch whose jobs have ended, and that cannot be finalized.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnsettledBatch {
    pub batch: i64,
    pub drop: String,
    /// Its path on disk.
    pub manifest: String,
    pub trouble: String,
    /// Since when its jobs have ended.
    #[serde(serialize_with = "rows::optional_moment")]
    pub since: Option<Timestamp>,
}

/// What else there is to know of a drop.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DropDetail {
    pub drop: String,
    /// Its newest manifest.
    pub last: Option<LastBatch>,
    /// Since when its oldest manifest has been there that is not done.
    #[serde(serialize_with = "rows::optional_moment")]
    pub oldest: Option<Timestamp>,
}

/// The newest manifest of a drop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LastBatch {
    pub batch: i64,
    pub manifest: String,
    pub state: String,
    /// When it finished, or was taken in.
    #[serde(serialize_with = "rows::optional_moment")]
    pub at: Option<Timestamp>,
}

/// So many jobs are counted for each reason: a tenth of a millisecond.
const COUNTED: i64 = 10_000;

/// Held jobs and batches that are named.
const NAMED: u32 = 20;

pub(super) fn waits(connection: &Connection) -> Result<Vec<WaitingJobs>, QueueError> {
    let mut found = Vec::new();
    for waits in WaitReason::ALL {
        let word = waits.as_str();
        // Written out: the index is over waiting jobs.
        let of = format!("job INDEXED BY job_waiting WHERE state = 'waiting' AND waits = '{word}'");
        let jobs: i64 = connection
            .prepare_cached(&format!("SELECT count(*) FROM (SELECT 1 FROM {of} LIMIT {COUNTED} + 1)"))?
            .query_row([], |row| row.get(0))?;
        if jobs == 0 {
            continue;
        }
        let until: Option<i64> = connection
            .prepare_cached(&format!("SELECT min(due_at) FROM {of} AND due_at IS NOT NULL"))?
            .query_row([], |row| row.get(0))?;
        let since: Option<i64> = connection
            .prepare_cached(&format!(
                "SELECT min(coalesce((SELECT max(at + took_ms) FROM attempt WHERE job_id = some.id),
                                     created_at))
                   FROM (SELECT id, created_at FROM {of} ORDER BY due_at LIMIT 100) AS some"
            ))?
            .query_row([], |row| row.get(0))?;
        found.push(WaitingJobs {
            waits,
            jobs: jobs.min(COUNTED),
            or_more: jobs > COUNTED,
            since: since.map(Timestamp),
            until: until.map(Timestamp),
            is_held_back: until.is_none(),
        });
    }
    Ok(found)
}

impl Reader {
    /// The newest manifest of each drop, and since when its oldest one is there.
    pub(crate) fn drop_details(&self) -> Result<Vec<DropDetail>, QueueError> {
        let drops: Vec<(i64, String)> = self
            .connection
            .prepare_cached("SELECT id, name FROM drop_folder ORDER BY name")?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        let of = |(id, drop): (i64, String)| {
            let last = self
                .connection
                .prepare_cached(
                    "SELECT id, manifest, state, coalesce(finished_at, received_at)
                       FROM batch INDEXED BY batch_of_drop WHERE drop_id = ?1 ORDER BY id DESC LIMIT 1",
                )?
                .query_row([id], |row| {
                    let at = Some(Timestamp(row.get(3)?));
                    Ok(LastBatch { batch: row.get(0)?, manifest: row.get(1)?, state: row.get(2)?, at })
                })
                .optional()?;
            let oldest: Option<i64> = self
                .connection
                .prepare_cached(
                    "SELECT min(received_at) FROM batch INDEXED BY batch_unsettled
                      WHERE state <> 'closed' AND state IN ('admitting', 'open') AND drop_id = ?1",
                )?
                .query_row([id], |row| row.get(0))?;
            Ok(DropDetail { drop, last, oldest: oldest.map(Timestamp) })
        };
        drops.into_iter().map(of).collect()
    }
}

pub(super) fn held(connection: &Connection) -> Result<Vec<HeldJob>, QueueError> {
    let rows = connection
        .prepare_cached(
            "SELECT job.id, drop_folder.name, reference, reason,
                    coalesce((SELECT max(at + took_ms) FROM attempt WHERE job_id = job.id), created_at)
               FROM (SELECT id FROM job WHERE state IN ('running', 'held') AND state = 'held' ORDER BY id LIMIT ?1) AS one
               CROSS JOIN job ON job.id = one.id CROSS JOIN drop_folder ON drop_folder.id = drop_id ORDER BY job.id",
        )?
        .query_map([NAMED], |row| {
            Ok(HeldJob {
                job: row.get(0)?,
                drop: row.get(1)?,
                reference: row.get(2)?,
                reason: row.get(3)?,
                since: row.get::<_, Option<i64>>(4)?.map(Timestamp),
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

pub(super) fn unreadable(connection: &Connection) -> Result<Vec<UnreadableDrop>, QueueError> {
    let rows = connection
        .prepare_cached("SELECT name, trouble, trouble_since FROM drop_folder WHERE trouble IS NOT NULL ORDER BY name")?
        .query_map([], |row| {
            let since = row.get::<_, Option<i64>>(2)?.map(Timestamp);
            Ok(UnreadableDrop { drop: row.get(0)?, trouble: row.get(1)?, since })
        })?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

pub(super) fn unsettled(connection: &Connection) -> Result<Vec<UnsettledBatch>, QueueError> {
    let rows = connection
        .prepare_cached(
            "SELECT batch.id, name, root || '/' || manifest, batch.trouble, finished_at
               FROM batch INDEXED BY batch_unsettled JOIN drop_folder ON drop_folder.id = drop_id
              WHERE batch.state <> 'closed' AND batch.trouble IS NOT NULL ORDER BY batch.id LIMIT ?1",
        )?
        .query_map([NAMED], |row| {
            Ok(UnsettledBatch {
                batch: row.get(0)?,
                drop: row.get(1)?,
                manifest: row.get(2)?,
                trouble: row.get(3)?,
                since: row.get::<_, Option<i64>>(4)?.map(Timestamp),
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}
