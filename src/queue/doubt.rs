//! What the queue knows for the decision whether a document whose answer was lost exists, and what readings taught it.

use std::{collections::HashSet, time::Duration};

use rusqlite::{Connection, params};
use serde::Serialize;

use super::{Queue, QueueError, rows};
use crate::{
    absence::{AbsenceBounds, Observed, SoughtDocument},
    clock::{self, Timestamp},
    entry::{EntryKind, ProfileId},
    job::{Creation, Job},
    outcome::{id_digest, normal_id},
};

/// The drops that are worked on with the same account as drop `?2`.
const OF_ACCOUNT: &str = "(SELECT other.id FROM drop_folder AS own JOIN drop_folder AS other
                               ON other.id = own.id OR other.account = own.account WHERE own.id = ?2)";

/// That a job belongs to the account that drop `?2` is worked on with.
const IS_OF_ACCOUNT: &str =
    "(job.account IS NULL OR job.account IS (SELECT account FROM drop_folder WHERE drop_folder.id = ?2))";

/// Controls to choose from, one after the other: one of them may have been removed on purpose.
const CONTROLS: usize = 3;

/// A document that the queue created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedDocument {
    pub job_id: i64,
    pub profile_id: ProfileId,
    pub id: String,
    pub image_ids: Vec<String>,
    pub created_at: Timestamp,
    /// When the last list was asked for that did not show it.
    pub unseen_at: Option<Timestamp>,
}

/// What the queue knows of a job in doubt and of its profile.
#[derive(Debug, Clone, PartialEq)]
pub struct ProfileKnowledge {
    pub sought: SoughtDocument,
    /// What it created there on the job's account, without what a person said was created.
    pub created: Vec<CreatedDocument>,
    /// The IDs of the documents of other jobs there.
    pub taken: Vec<String>,
    /// When the call ended; the latest, where other jobs sent the same images.
    pub call_ended: Option<Timestamp>,
    /// The clock offset in force when these times were read; see [`clock::moved_ms`].
    pub clock_ms: i64,
    pub doubts: u32,
    pub unseen_at: Option<Timestamp>,
    pub observed: Observed,
}

/// What a reading teaches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadingNote {
    /// When the list was asked for.
    pub asked: Timestamp,
    /// The clock offset in force then.
    pub clock_ms: i64,
    /// The document was found.
    pub is_found: bool,
    /// The document was not found in a list that is understood.
    pub is_unseen: bool,
    /// Doubtful readings beyond the bound, with this one.
    pub doubts: u32,
    /// Jobs whose documents the list does not show although they exist.
    pub missing: Vec<i64>,
    /// Jobs whose documents it shows again.
    pub shown: Vec<i64>,
}

impl Queue {
    /// What is known for the decision about a document in doubt.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub(crate) async fn profile_knowledge(&self, job_id: i64) -> Result<ProfileKnowledge, QueueError> {
        self.run("profile_knowledge", move |connection| knowledge(connection, job_id)).await
    }

    /// A document of the job's account on another profile that each list there has to show by now: `lag` is
    /// `[api] list_lag`. After each doubtful reading it is another one.
    pub(crate) async fn control_document(
        &self,
        job_id: i64,
        now: Timestamp,
        lag: Duration,
        doubts: u32,
    ) -> Result<Option<CreatedDocument>, QueueError> {
        self.run("control_document", move |connection| control(connection, job_id, (now, lag), doubts)).await
    }

    /// Whether one of the documents with these digests of their IDs was created on another profile. Reads all that was created, so it is for lists that
    /// nothing else speaks for.
    pub(crate) async fn is_of_another_profile(
        &self,
        profile_id: &ProfileId,
        mut ids: Vec<u64>,
    ) -> Result<bool, QueueError> {
        let profile_id = profile_id.as_str().to_owned();
        ids.sort_unstable();
        self.run("is_of_another_profile", move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT remote_id FROM job WHERE state = 'done' AND kind = 'document' AND profile_id <> ?1",
            )?;
            let mut rows = statement.query([&profile_id])?;
            while let Some(row) = rows.next()? {
                if row.get_ref(0)?.as_str().is_ok_and(|id| ids.binary_search(&id_digest(id)).is_ok()) {
                    return Ok(true);
                }
            }
            Ok(false)
        })
        .await
    }

    /// Records what a reading taught; returns the longest times of the account where one of them has grown.
    pub(crate) async fn note_reading(&self, job_id: i64, note: ReadingNote) -> Result<Option<Observed>, QueueError> {
        self.run("note_reading", move |connection| note_reading(connection, job_id, &note)).await
    }

    /// Notes for `status` which accounts have had a time beyond these bounds, and since when.
    pub(crate) async fn note_bounds(&self, bounds: AbsenceBounds, now: Timestamp) -> Result<(), QueueError> {
        self.run("note_bounds", move |connection| {
            let mut statement = connection.prepare_cached("SELECT account FROM observed")?;
            let accounts: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
            for account in accounts {
                let broken = bounds.broken_by(&observed(connection, Some(&account))?);
                connection
                    .prepare_cached(
                        "UPDATE observed SET broken = ?2,
                                broken_since = CASE WHEN ?2 IS NULL THEN NULL ELSE coalesce(broken_since, ?3) END
                          WHERE account = ?1 AND broken IS NOT ?2",
                    )?
                    .execute(params![account, broken, now.0])?;
            }
            Ok(())
        })
        .await
    }

    /// The longest times of all accounts.
    pub(crate) async fn observed(&self) -> Result<Observed, QueueError> {
        self.run("observed", |connection| observed(connection, None)).await
    }
}

/// A time that was measured beyond the bound on lost answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BrokenBound {
    /// What was measured, and the bound.
    pub what: String,
    /// When that was first noticed.
    #[serde(serialize_with = "rows::moment")]
    pub since: Timestamp,
    /// What a person can do.
    pub cure: &'static str,
}

/// What was measured beyond the bounds, as it was last noted.
pub(super) fn broken_bounds(connection: &Connection) -> Result<Vec<BrokenBound>, QueueError> {
    let mut statement = connection.prepare_cached(
        "SELECT broken, broken_since FROM observed WHERE broken IS NOT NULL AND broken_since IS NOT NULL ORDER BY account",
    )?;
    let rows = statement
        .query_map([], |row| Ok(BrokenBound { what: row.get(0)?, since: Timestamp(row.get(1)?), cure: CURE }))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

const CURE: &str = "documents whose answer is lost are held: raise api.request_lives or api.list_lag above it, start again, then \
                    use `retry --state held`";

/// The longest times that were measured: of an account, or of all.
pub(super) fn observed(connection: &Connection, account: Option<&str>) -> Result<Observed, QueueError> {
    let ms = |ms: i64| Duration::from_millis(ms.try_into().unwrap_or(0));
    Ok(connection
        .prepare_cached(
            "SELECT coalesce(max(late_ms), 0), coalesce(max(lag_ms), 0) FROM observed WHERE ?1 IS NULL OR account = ?1",
        )?
        .query_row([account], |row| Ok(Observed { late: ms(row.get(0)?), lag: ms(row.get(1)?) }))?)
}

fn account_of(connection: &Connection, job_id: i64) -> Result<String, QueueError> {
    Ok(connection
        .prepare_cached(
            "SELECT coalesce(drop_folder.account, drop_folder.name) FROM drop_folder JOIN job ON drop_folder.id = drop_id
              WHERE job.id = ?1",
        )?
        .query_row([job_id], |row| row.get(0))?)
}

fn knowledge(connection: &Connection, job_id: i64) -> Result<ProfileKnowledge, QueueError> {
    let moment = |at: Option<i64>| at.map(Timestamp);
    let (profile, drop_id, mut sought, doubts, unseen_at): (String, i64, SoughtDocument, u32, Option<i64>) = connection
        .prepare_cached(
            "SELECT profile_id, drop_id, category, document_type, answered_id, doubts, unseen_at FROM job WHERE id = ?1",
        )?
        .query_row([job_id], |row| {
            let sought = SoughtDocument {
                category: row.get(2)?,
                document_type: row.get(3)?,
                image_ids: Vec::new(),
                answered_id: row.get(4)?,
            };
            Ok((row.get(0)?, row.get(1)?, sought, row.get(5)?, row.get(6)?))
        })?;
    sought.image_ids = image_ids(connection, job_id)?;
    let of_account = format!("job_of_profile WHERE profile_id = ?1 AND id <> ?3 AND drop_id IN {OF_ACCOUNT}");
    let created = created(connection, &of_account, "ORDER BY id", params![profile, drop_id, job_id])?;
    let taken = connection
        .prepare_cached(
            "SELECT remote_id FROM job WHERE profile_id = ?1 AND id <> ?2 AND remote_id IS NOT NULL AND state <> 'duplicate'
              UNION SELECT answered_id FROM job WHERE profile_id = ?1 AND id <> ?2 AND answered_id IS NOT NULL",
        )?
        .query_map(params![profile, job_id], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let ours: HashSet<String> = sought.image_ids.iter().map(|id| normal_id(id)).collect();
    let call_ended: Option<i64> = connection
        .prepare_cached(
            "SELECT other.sent_at, theirs.remote_id FROM job AS other CROSS JOIN upload AS theirs ON theirs.job_id = other.id
              WHERE other.profile_id = ?1 AND other.sent_at IS NOT NULL AND theirs.remote_id IS NOT NULL",
        )?
        .query_map([&profile], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?
        .filter_map(|sent| sent.map(|(at, id)| ours.contains(&normal_id(&id)).then_some(at)).transpose())
        .try_fold(None, |latest, at| at.map(|at: i64| latest.max(Some(at))))?;
    let account = account_of(connection, job_id)?;
    Ok(ProfileKnowledge {
        sought,
        created,
        taken,
        call_ended: moment(call_ended),
        clock_ms: clock::moved_ms(),
        doubts,
        unseen_at: moment(unseen_at),
        observed: observed(connection, Some(&account))?,
    })
}

fn control(
    connection: &Connection,
    job_id: i64,
    (now, lag): (Timestamp, Duration),
    doubts: u32,
) -> Result<Option<CreatedDocument>, QueueError> {
    let (profile, drop_id): (String, i64) = connection
        .prepare_cached("SELECT profile_id, drop_id FROM job WHERE id = ?1")?
        .query_row([job_id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let drops: Vec<i64> = connection
        .prepare_cached(&format!("SELECT id FROM drop_folder WHERE id IN {OF_ACCOUNT}"))?
        .query_map(params![0, drop_id], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let before = now.0.saturating_sub(i64::try_from(lag.as_millis()).unwrap_or(i64::MAX));
    // What is younger may be missing from a list, and is better than nothing.
    for before in [before, now.0] {
        let mut found = Vec::new();
        for drop in &drops {
            let of_drop = "job_created WHERE drop_id = ?2 AND profile_id <> ?1 AND ended_at <= ?3";
            let newest = format!("ORDER BY ended_at DESC LIMIT {CONTROLS}");
            found.extend(created(connection, of_drop, &newest, params![profile, drop, before])?);
        }
        found.retain(|document| !document.image_ids.is_empty());
        found.sort_by_key(|document| std::cmp::Reverse(document.created_at));
        found.truncate(CONTROLS);
        if !found.is_empty() {
            let at = usize::try_from(doubts).unwrap_or(0) % found.len();
            return Ok(found.into_iter().nth(at));
        }
    }
    Ok(None)
}

/// What was created, by what the API said itself.
fn created(
    connection: &Connection,
    index_and_condition: &str,
    order: &str,
    values: &[&dyn rusqlite::ToSql],
) -> Result<Vec<CreatedDocument>, QueueError> {
    let sql = format!(
        "SELECT id, profile_id, remote_id, ended_at, unseen_at FROM job INDEXED BY {index_and_condition}
            AND state = 'done' AND kind = 'document' AND released = 0 AND removed_at IS NULL AND remote_id IS NOT NULL
            AND {IS_OF_ACCOUNT} {order}"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(values)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let (job_id, profile): (i64, String) = (row.get(0)?, row.get(1)?);
        found.push(CreatedDocument {
            job_id,
            profile_id: ProfileId::parse(&profile).ok_or_else(|| rows::unreadable("a profile's id", &profile))?,
            id: row.get(2)?,
            image_ids: image_ids(connection, job_id)?,
            created_at: Timestamp(row.get::<_, Option<i64>>(3)?.unwrap_or(0)),
            unseen_at: row.get::<_, Option<i64>>(4)?.map(Timestamp),
        });
    }
    Ok(found)
}

fn image_ids(connection: &Connection, job_id: i64) -> Result<Vec<String>, QueueError> {
    Ok(connection
        .prepare_cached("SELECT remote_id FROM upload WHERE job_id = ?1 AND remote_id IS NOT NULL ORDER BY position")?
        .query_map([job_id], |row| row.get(0))?
        .collect::<Result<_, _>>()?)
}

fn note_reading(connection: &Connection, job_id: i64, note: &ReadingNote) -> Result<Option<Observed>, QueueError> {
    // By the clock as it is now; only here is it certain whether it was moved since.
    let asked = note.asked.0.saturating_add(clock::moved_ms() - note.clock_ms);
    let mut unseen = connection.prepare_cached("UPDATE job SET unseen_at = ?2 WHERE id = ?1")?;
    let between = |columns: &str, id: i64| -> Result<i64, QueueError> {
        let sql = format!("SELECT max(coalesce(unseen_at - {columns}, 0), 0) FROM job WHERE id = ?1");
        Ok(connection.prepare_cached(&sql)?.query_row([id], |row| row.get(0))?)
    };
    let (mut late, mut lag) = (0, 0);
    if note.is_found {
        late = between("sent_at", job_id)?;
    } else if note.is_unseen {
        unseen.execute(params![job_id, asked])?;
    }
    connection
        .prepare_cached("UPDATE job SET doubts = ?2 WHERE id = ?1 AND doubts <> ?2")?
        .execute(params![job_id, note.doubts])?;
    for job in &note.missing {
        unseen.execute(params![job, asked])?;
    }
    for job in &note.shown {
        lag = lag.max(between("ended_at", *job)?);
        unseen.execute(params![job, None::<i64>])?;
    }
    if late == 0 && lag == 0 {
        return Ok(None);
    }
    let account = account_of(connection, job_id)?;
    let before = observed(connection, Some(&account))?;
    connection
        .prepare_cached(
            "INSERT INTO observed (account, late_ms, lag_ms) VALUES (?1, ?2, ?3) ON CONFLICT (account) DO UPDATE
                SET late_ms = max(late_ms, excluded.late_ms), lag_ms = max(lag_ms, excluded.lag_ms)",
        )?
        .execute(params![account, late, lag])?;
    let after = observed(connection, Some(&account))?;
    Ok((after != before).then_some(after))
}

/// Gives a claimed job the doubt of one that was cancelled, or failed, and that asked for the same: what may have been
/// created for that one is looked for before anything is sent. The other one gets what this one has, so that no image's
/// ID is lost.
pub(super) fn take_over(connection: &Connection, job: &mut Job) -> Result<(), QueueError> {
    if job.kind != EntryKind::Document || job.creation != Creation::None || job.refused_before.is_some() {
        return Ok(());
    }
    let candidates: Vec<(i64, Option<i64>)> = connection
        .prepare_cached(&format!(
            "SELECT id, sent_at FROM job INDEXED BY job_in_doubt
              WHERE creation = 'unknown' AND profile_id = ?1 AND state IN ('failed', 'cancelled') AND kind = 'document'
                AND drop_id IN {OF_ACCOUNT} AND category = ?3 AND document_type = ?4 AND extracted_data IS ?5
                AND {IS_OF_ACCOUNT}
              ORDER BY id"
        ))?
        .query_map(
            params![job.profile_id.as_str(), job.drop_id, job.category, job.document_type, job.extracted_data],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?
        .collect::<Result<_, _>>()?;
    for (other, sent_at) in candidates {
        let mut theirs = rows::uploads(connection, other)?;
        let mut pairs = Vec::new();
        for upload in &job.uploads {
            let same =
                |their: &crate::job::Upload| (their.sha256.0, their.image_type) == (upload.sha256.0, upload.image_type);
            let Some(at) = theirs.iter().position(same) else { break };
            pairs.push(theirs.swap_remove(at));
        }
        if pairs.len() != job.uploads.len() || !theirs.is_empty() {
            continue;
        }
        let mut give =
            connection.prepare_cached("UPDATE upload SET remote_id = ?3 WHERE job_id = ?1 AND position = ?2")?;
        for (upload, their) in job.uploads.iter_mut().zip(pairs) {
            give.execute(params![other, their.position, upload.remote_id])?;
            give.execute(params![job.id, upload.position, their.remote_id])?;
            upload.remote_id = their.remote_id;
        }
        connection
            .prepare_cached(
                "UPDATE job SET creation = 'unknown', doubts = 0, (sent_at, answered_id, unseen_at) =
                     (SELECT sent_at, answered_id, unseen_at FROM job WHERE id = ?2) WHERE id = ?1",
            )?
            .execute([job.id, other])?;
        connection
            .prepare_cached(
                "UPDATE job SET creation = 'none', sent_at = NULL, answered_id = NULL, unseen_at = NULL WHERE id = ?1",
            )?
            .execute([other])?;
        (job.creation, job.sent_at) = (Creation::Unknown, sent_at);
        return Ok(());
    }
    Ok(())
}

#[cfg(test)]
#[path = "doubt_tests.rs"]
mod tests;
