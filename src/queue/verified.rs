//! What `verify` found of documents that the queue created: missing ones, doubled ones, and those that a person says were
//! removed on purpose.
//!
//! Each finding is of the last `verify` that read the document's profile, so that one of a part changes nothing else.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension, params, params_from_iter};
use serde::Serialize;

use super::{
    Queue, QueueError, Reader,
    command_outcome::{self, CommandOutcome},
    rows,
    transition::{self, Change, Expected},
    views::Filter,
};
use crate::{clock::Timestamp, job::JobState};

/// The jobs whose documents must be in a complete list of their profile, as a condition over `job`: what the queue
/// created, except for what a person says was removed on purpose. A list without one of them proves nothing.
pub(super) const EXPECTED_IN_LISTS: &str = "job.kind = 'document' AND job.state = 'done' AND job.removed_at IS NULL";

/// The result of a reading of one profile, for the jobs that it was about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckedDocuments {
    /// The jobs whose documents were looked for.
    pub jobs: Vec<i64>,
    /// Those whose document is not there.
    pub missing: Vec<i64>,
    /// Those with several, with the IDs of all of them, the job's own first.
    pub doubled: Vec<(i64, Vec<String>)>,
}

/// A document of which there is more than one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DoubledDocument {
    /// The job that it was created for.
    pub job: i64,
    /// The job's own first.
    pub document_ids: Vec<String>,
    /// When that was first found.
    #[serde(serialize_with = "rows::moment")]
    pub found_at: Timestamp,
    /// Since when only one of them is listed.
    #[serde(serialize_with = "rows::optional_moment")]
    pub resolved_at: Option<Timestamp>,
}

/// An entry with a doubled document, as an addendum names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DoubledEntry {
    /// Its place in the manifest.
    pub index: i64,
    /// Its job.
    pub job: i64,
    /// The sender's key.
    pub reference: Option<String>,
    /// As the manifest names it.
    pub profile_id: String,
    /// As the manifest names it.
    pub category: String,
    /// As the manifest names it.
    pub document_type: String,
    /// The job's own first.
    pub document_ids: Vec<String>,
    /// When that was first found.
    #[serde(serialize_with = "rows::moment")]
    pub found_at: Timestamp,
}

impl Queue {
    /// Records in which file beside the receipt the doubled documents of these jobs stand.
    pub(crate) fn amended(&self, jobs: Vec<i64>, addendum: String) -> Result<(), QueueError> {
        self.run_blocking("amended", move |connection| {
            for job in &jobs {
                connection
                    .prepare_cached("UPDATE doubled_document SET addendum = ?2 WHERE job_id = ?1")?
                    .execute(params![job, addendum])?;
            }
            Ok(())
        })
    }

    /// Records what a reading of a profile found.
    pub(crate) async fn note_checked(&self, checked: CheckedDocuments, now: Timestamp) -> Result<(), QueueError> {
        self.run("note_checked", move |connection| note(connection, &checked, now)).await
    }
}

/// Records what a reading of a profile found.
pub(super) fn note(connection: &Connection, checked: &CheckedDocuments, now: Timestamp) -> Result<(), QueueError> {
    let still = |job: &i64| checked.doubled.iter().any(|(doubled, _)| doubled == job);
    for job in &checked.jobs {
        connection.prepare_cached("DELETE FROM missing_document WHERE job_id = ?1")?.execute([job])?;
        if !still(job) {
            connection
                .prepare_cached(
                    "UPDATE doubled_document SET resolved_at = ?2 WHERE job_id = ?1 AND resolved_at IS NULL",
                )?
                .execute(params![job, now.0])?;
        }
    }
    for job in &checked.missing {
        connection
            .prepare_cached(&format!(
                "INSERT INTO missing_document (job_id, document_id, found_at)
                 SELECT id, remote_id, ?2 FROM job WHERE id = ?1 AND {EXPECTED_IN_LISTS}"
            ))?
            .execute(params![job, now.0])?;
    }
    for (job, ids) in &checked.doubled {
        let ids = serde_json::to_string(ids).unwrap_or_default();
        // What is found again after it was resolved is another double, and is reported again.
        connection
            .prepare_cached(
                "INSERT INTO doubled_document (job_id, document_ids, found_at) VALUES (?1, ?2, ?3)
                 ON CONFLICT (job_id) DO UPDATE
                    SET found_at = CASE WHEN document_ids = excluded.document_ids THEN found_at ELSE excluded.found_at END,
                        addendum = CASE WHEN document_ids = excluded.document_ids THEN addendum END,
                        document_ids = excluded.document_ids, resolved_at = NULL",
            )?
            .execute(params![job, ids, now.0])?;
    }
    Ok(())
}

impl Reader {
    /// The doubled documents of a batch that no addendum names yet.
    pub(crate) fn doubled_entries(&self, batch: i64) -> Result<Vec<DoubledEntry>, QueueError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT entry_index, job.id, reference, profile_id, category, document_type, document_ids, found_at
               FROM doubled_document JOIN job ON job.id = job_id
              WHERE job.batch_id = ?1 AND addendum IS NULL ORDER BY entry_index",
        )?;
        let entries = statement.query_map([batch], |row| {
            let ids: String = row.get(6)?;
            Ok(DoubledEntry {
                index: row.get(0)?,
                job: row.get(1)?,
                reference: row.get(2)?,
                profile_id: row.get(3)?,
                category: row.get(4)?,
                document_type: row.get(5)?,
                document_ids: serde_json::from_str(&ids).unwrap_or_default(),
                found_at: Timestamp(row.get(7)?),
            })
        })?;
        Ok(entries.collect::<Result<_, _>>()?)
    }

    /// The jobs of which a `verify` has noted something that another one may have to take back.
    pub(crate) fn noted_by_verify(&self) -> Result<HashSet<i64>, QueueError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT job_id FROM missing_document
              UNION SELECT job_id FROM doubled_document WHERE resolved_at IS NULL",
        )?;
        Ok(statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
    }

    /// The jobs that match a filter and whose documents the last `verify` found missing.
    pub(crate) fn missing(&self, filter: &Filter) -> Result<Vec<i64>, QueueError> {
        let (meant, values) = filter.job_conditions();
        let mut statement = self.connection.prepare(&format!(
            "SELECT job.id FROM missing_document JOIN job ON job.id = missing_document.job_id
               JOIN batch ON batch.id = job.batch_id JOIN drop_folder ON drop_folder.id = job.drop_id
              WHERE {meant} ORDER BY job.id"
        ))?;
        Ok(statement.query_map(params_from_iter(values), |row| row.get(0))?.collect::<Result<_, _>>()?)
    }
}

/// What is known of doubles of a job's document.
pub(super) fn doubled_of(connection: &Connection, job: i64) -> Result<Option<DoubledDocument>, QueueError> {
    Ok(connection
        .prepare_cached("SELECT job_id, document_ids, found_at, resolved_at FROM doubled_document WHERE job_id = ?1")?
        .query_row([job], doubled)
        .optional()?)
}

fn doubled(row: &rusqlite::Row<'_>) -> rusqlite::Result<DoubledDocument> {
    let ids: String = row.get(1)?;
    Ok(DoubledDocument {
        job: row.get(0)?,
        document_ids: serde_json::from_str(&ids).unwrap_or_default(),
        found_at: Timestamp(row.get(2)?),
        resolved_at: row.get::<_, Option<i64>>(3)?.map(Timestamp),
    })
}

/// The documents that are doubled at present, the newest first, `most` of them at most.
pub(super) fn doubled_now(connection: &Connection, most: u32) -> Result<Vec<DoubledDocument>, QueueError> {
    let mut statement = connection.prepare_cached(
        "SELECT job_id, document_ids, found_at, resolved_at FROM doubled_document
          WHERE resolved_at IS NULL ORDER BY found_at DESC, job_id LIMIT ?1",
    )?;
    Ok(statement.query_map([most], doubled)?.collect::<Result<_, _>>()?)
}

/// How many documents were ever found doubled.
pub(super) fn ever_doubled(connection: &Connection) -> Result<u64, QueueError> {
    let count: i64 =
        connection.prepare_cached("SELECT count(*) FROM doubled_document")?.query_row([], |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// Why a command about missing documents does not apply to a job; nothing where it does.
fn not_missing(connection: &Connection, job_id: i64) -> Result<Option<CommandOutcome>, QueueError> {
    let Some(state) = command_outcome::state_of(connection, job_id)? else {
        return Ok(Some(command_outcome::unknown(job_id)));
    };
    let no = |message: String| Ok(Some(CommandOutcome { job: job_id, done: false, message }));
    let missing: bool = connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM missing_document WHERE job_id = ?1)")?
        .query_row([job_id], |row| row.get(0))?;
    if state != JobState::Done {
        return no(format!("is {state}: no document of it is missing"));
    }
    if !missing {
        return no("was not found missing by the last `verify`: run `verify` first".into());
    }
    Ok(None)
}

/// Sends a document again that the last `verify` found missing. A worker reads it back first.
pub(super) fn send_one(connection: &Connection, job_id: i64, now: Timestamp) -> Result<CommandOutcome, QueueError> {
    if let Some(no) = not_missing(connection, job_id)? {
        return Ok(no);
    }
    if let Some(moving) = command_outcome::moving(connection, job_id)? {
        return Ok(moving);
    }
    transition::apply(connection, Expected::in_state(job_id, JobState::Done), &Change::Missed, now)?;
    connection.execute("DELETE FROM missing_document WHERE job_id = ?1", [job_id])?;
    Ok(CommandOutcome {
        job: job_id,
        done: true,
        message: "queued again: read back, then sent if it is not there".into(),
    })
}

/// Records that a document was removed on purpose.
pub(super) fn accept_one(connection: &Connection, job_id: i64, now: Timestamp) -> Result<CommandOutcome, QueueError> {
    if let Some(no) = not_missing(connection, job_id)? {
        return Ok(no);
    }
    connection.execute("UPDATE job SET removed_at = ?2 WHERE id = ?1", params![job_id, now.0])?;
    connection.execute("DELETE FROM missing_document WHERE job_id = ?1", [job_id])?;
    Ok(CommandOutcome { job: job_id, done: true, message: "removed on purpose: no longer expected".into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        job::Creation,
        queue::{
            control::JobCommand,
            test_support::{NOW, Site, execute},
        },
    };

    fn checked(jobs: &[i64], missing: &[i64], doubled: &[(i64, &[&str])]) -> CheckedDocuments {
        let ids = |ids: &[&str]| ids.iter().map(|&id| id.to_owned()).collect();
        CheckedDocuments {
            jobs: jobs.to_vec(),
            missing: missing.to_vec(),
            doubled: doubled.iter().map(|(job, all)| (*job, ids(all))).collect(),
        }
    }

    fn site() -> (Site, i64, i64) {
        let site = Site::new();
        site.admit("a.manifest.json", &["one", "two"]);
        let (one, two) = (site.job("one"), site.job("two"));
        site.create(one, "doc-1");
        site.create(two, "doc-2");
        (site, one, two)
    }

    fn note(site: &Site, checked: CheckedDocuments) {
        site.wait(site.queue.note_checked(checked, NOW)).unwrap();
    }

    fn command(site: &Site, job: i64, command: JobCommand) -> CommandOutcome {
        site.queue.command(vec![job], command, NOW).unwrap().remove(0)
    }

    #[test]
    fn what_is_missing_is_sent_again_once_and_read_back_first() {
        let (site, one, two) = site();
        assert!(!command(&site, one, JobCommand::SendMissing).done, "no verify has missed it");
        note(&site, checked(&[one, two], &[one], &[]));
        execute(&site.queue, "UPDATE job SET answered_id = 'doc-0', doubts = 2, unseen_at = 5");
        assert_eq!(site.reader().missing(&Filter::default()).unwrap(), [one]);
        assert!(!command(&site, two, JobCommand::SendMissing).done);
        let sent = command(&site, one, JobCommand::SendMissing);
        assert!(sent.done, "{}", sent.message);
        let job = site.detail(one).job;
        assert_eq!((job.state, job.creation, job.remote_id), (JobState::Queued, Creation::Unknown, None));
        let row = |column: &str| site.value(&format!("SELECT coalesce({column}, '') FROM job WHERE id = {one}"));
        assert_eq!(
            ["answered_id", "doubts", "unseen_at"].map(row),
            ["", "0", ""],
            "nothing is left of the first creation"
        );
        assert!(!command(&site, one, JobCommand::SendMissing).done, "once");
        assert_eq!(site.reader().missing(&Filter::default()).unwrap(), Vec::<i64>::new());
    }

    #[test]
    fn what_was_removed_on_purpose_is_never_missed_or_sent_again() {
        let (site, one, _) = site();
        assert!(!command(&site, one, JobCommand::AcceptMissing).done, "it may well be there");
        note(&site, checked(&[one], &[one], &[]));
        assert!(command(&site, one, JobCommand::AcceptMissing).done);
        note(&site, checked(&[one], &[one], &[]));
        assert_eq!(site.reader().missing(&Filter::default()).unwrap(), Vec::<i64>::new());
        assert!(!command(&site, one, JobCommand::SendMissing).done);
        assert_eq!(site.state(one), JobState::Done);
    }

    #[test]
    fn each_finding_is_of_the_last_reading_of_its_profile() {
        let (site, one, two) = site();
        note(&site, checked(&[one, two], &[one], &[(two, &["doc-2", "x"])]));
        // Of another profile: nothing changes.
        note(&site, checked(&[], &[], &[]));
        assert_eq!(site.reader().noted_by_verify().unwrap(), HashSet::from([one, two]));
        note(&site, checked(&[one, two], &[], &[]));
        assert_eq!(site.reader().noted_by_verify().unwrap(), HashSet::new());
        let doubled = site.detail(two).doubled.unwrap();
        assert_eq!((doubled.document_ids, doubled.resolved_at), (vec!["doc-2".into(), "x".into()], Some(NOW)));
    }
}
