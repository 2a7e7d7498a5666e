//! What people did to the queue: who, when, and in which words.

use rusqlite::{Connection, Row, params};
use serde::Serialize;

use super::{Queue, QueueError, Reader, rows};
use crate::clock::Timestamp;

/// Who gives a command, and the command as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub who: String,
    pub words: String,
}

/// What a person did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ActRow {
    pub act: i64,
    #[serde(serialize_with = "rows::moment")]
    pub at: Timestamp,
    pub who: String,
    /// The command, for example `retry`.
    pub what: String,
    /// The command's words.
    pub words: String,
    /// For how many jobs it was carried out.
    pub jobs: i64,
}

/// Records what a person does; returns its number.
pub(super) fn begin(connection: &Connection, what: &str, caller: &Caller, now: Timestamp) -> Result<i64, QueueError> {
    Ok(connection
        .prepare_cached("INSERT INTO act (at, who, what, words) VALUES (?1, ?2, ?3, ?4) RETURNING id")?
        .query_row(params![now.0, caller.who, what, caller.words], |row| row.get(0))?)
}

/// Records for which jobs it was carried out.
pub(super) fn note_jobs(
    connection: &Connection,
    act: i64,
    jobs: impl IntoIterator<Item = i64>,
) -> Result<(), QueueError> {
    let mut insert = connection.prepare_cached("INSERT OR IGNORE INTO act_of_job VALUES (?1, ?2)")?;
    let mut noted = 0;
    for job in jobs {
        noted += insert.execute([job, act])?;
    }
    connection
        .prepare_cached("UPDATE act SET jobs = jobs + ?2 WHERE id = ?1")?
        .execute(params![act, rows::signed(noted as u64)])?;
    Ok(())
}

const COLUMNS: &str = "act.id, act.at, who, what, words, act.jobs";

fn act_row(row: &Row<'_>) -> Result<ActRow, rusqlite::Error> {
    Ok(ActRow {
        act: row.get(0)?,
        at: Timestamp(row.get(1)?),
        who: row.get(2)?,
        what: row.get(3)?,
        words: row.get(4)?,
        jobs: row.get(5)?,
    })
}

impl Queue {
    /// Records what a person is about to do; returns its number.
    pub(crate) fn begin_act(&self, what: &'static str, caller: Caller, now: Timestamp) -> Result<i64, QueueError> {
        self.run_blocking("begin_act", move |connection| begin(connection, what, &caller, now))
    }

    /// Records that a person knows of these causes; of each, whether it has open failures.
    pub(crate) fn mark_seen(&self, causes: Vec<i64>, by: Caller, now: Timestamp) -> Result<Vec<bool>, QueueError> {
        self.run_blocking("seen", move |connection| {
            begin(connection, "seen", &by, now)?;
            let mut update = connection.prepare_cached(
                "UPDATE cause SET seen_by = ?2, seen_at = ?3, seen_open = open WHERE id = ?1 AND open > 0",
            )?;
            causes.iter().map(|cause| Ok(update.execute(params![cause, by.who, now.0])? > 0)).collect()
        })
    }
}

impl Reader {
    /// What people did, the newest first.
    pub(crate) fn acts(&self, since: Option<Timestamp>, limit: Option<u32>) -> Result<Vec<ActRow>, QueueError> {
        let sql = format!("SELECT {COLUMNS} FROM act WHERE at >= ?1 ORDER BY id DESC LIMIT ?2");
        let limit = limit.map_or(-1, i64::from);
        let mut select = self.connection.prepare_cached(&sql)?;
        Ok(select.query_map([since.map_or(i64::MIN, |since| since.0), limit], act_row)?.collect::<Result<_, _>>()?)
    }

    /// What people did to the jobs of a batch, the oldest first; `jobs` is how many of these. Reads all of them.
    pub(crate) fn acts_of_batch(&self, batch_id: i64) -> Result<Vec<ActRow>, QueueError> {
        let mut select = self.connection.prepare_cached(
            "SELECT act.id, act.at, who, what, words, count(*) FROM job
               JOIN act_of_job ON job_id = job.id JOIN act ON act.id = act_id
              WHERE batch_id = ?1 GROUP BY act.id ORDER BY act.id",
        )?;
        Ok(select.query_map([batch_id], act_row)?.collect::<Result<_, _>>()?)
    }
}

/// What people did to a job, the oldest first.
pub(super) fn of_job(connection: &Connection, job_id: i64) -> Result<Vec<ActRow>, QueueError> {
    let sql = format!("SELECT {COLUMNS} FROM act_of_job JOIN act ON act.id = act_id WHERE job_id = ?1 ORDER BY act.id");
    Ok(connection.prepare_cached(&sql)?.query_map([job_id], act_row)?.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::{
        control::JobCommand,
        test_support::{NOW, Site},
    };

    #[test]
    fn what_was_done_is_kept_with_its_jobs() {
        let site = Site::new();
        let batch = site.admit("a.manifest.json", &["one", "two", "three"]);
        let (one, two) = (site.job("one"), site.job("two"));
        site.create(two, "doc");
        let caller = Caller { who: "ops1".into(), words: "cancel 1 2".into() };
        let act = site.queue.begin_act("cancel", caller, NOW).unwrap();
        site.queue.command_by(Some(act), vec![one, two], JobCommand::Cancel, NOW).unwrap();
        let reader = site.reader();
        let acts = reader.acts(None, None).unwrap();
        assert_eq!(
            (acts.len(), acts[0].who.as_str(), acts[0].words.as_str(), acts[0].jobs),
            (1, "ops1", "cancel 1 2", 1)
        );
        assert_eq!(site.detail(one).acts, acts);
        assert_eq!(site.detail(two).acts, Vec::new(), "nothing was done to it");
        assert_eq!(reader.acts_of_batch(batch).unwrap(), acts);
        assert_eq!(reader.acts(Some(Timestamp(NOW.0 + 1)), None).unwrap(), Vec::new());
        assert_eq!(reader.acts(None, Some(0)).unwrap(), Vec::new());
    }
}
