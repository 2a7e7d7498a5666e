//! Deduplication, which makes admission idempotent: what an entry's identity is, which job owns it, and what follows
//! for another entry with the same one.
//!
//! The row of `identity` decides; no search does.

use rusqlite::{Connection, OptionalExtension, params};
use sha2::Digest as _;

use super::{
    QueueError,
    content::{ContentDigests, ContentRule},
};
use crate::{job::JobState, problem::Problem};

/// The key under which an entry's identity is kept within its drop: that of its reference, or of its content.
pub(super) fn key_of(reference: Option<&str>, content: &[u8; 32]) -> [u8; 32] {
    let mut digest = sha2::Sha256::new();
    match reference {
        Some(reference) => {
            digest.update(b"reference\0");
            digest.update(reference);
        }
        None => {
            digest.update(b"content\0");
            digest.update(content);
        }
    }
    digest.finalize().into()
}

/// Who has an entry's identity already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// Nobody, or a job that failed or was cancelled.
    Nobody,
    /// A job that was created.
    Created {
        /// The job.
        job_id: i64,
        /// Under this ID.
        remote_id: String,
        /// Whether it asked for the same.
        same: bool,
    },
    /// A job that has not ended.
    UnderWay {
        /// The job.
        job_id: i64,
        /// Whether it asks for the same.
        same: bool,
    },
}

impl Owner {
    pub(super) const fn job_id(&self) -> Option<i64> {
        match self {
            Self::Nobody => None,
            Self::Created { job_id, .. } | Self::UnderWay { job_id, .. } => Some(*job_id),
        }
    }
}

/// What an entry becomes.
#[derive(Debug, Clone, PartialEq)]
pub enum DedupDecision {
    /// It is created.
    Queue,
    /// It exists already.
    Duplicate {
        /// The job that created it.
        of: i64,
        /// Under this ID.
        remote_id: String,
    },
    /// Another job is at it; this one ends with that one, or takes its place.
    Twin {
        /// That job.
        of: i64,
    },
    /// It contradicts what exists.
    Refuse(Problem),
}

/// Decides by an entry's identity what it becomes. With this, admitting the same entry again is idempotent.
#[must_use]
pub(crate) fn decide(owner: Owner, replace: bool) -> DedupDecision {
    match owner {
        Owner::Nobody => DedupDecision::Queue,
        Owner::Created { job_id, remote_id, same: true } => DedupDecision::Duplicate { of: job_id, remote_id },
        Owner::UnderWay { job_id, same: true } => DedupDecision::Twin { of: job_id },
        Owner::Created { .. } | Owner::UnderWay { .. } if replace => DedupDecision::Queue,
        Owner::Created { job_id, .. } | Owner::UnderWay { job_id, .. } => DedupDecision::Refuse(conflict(job_id, &[])),
    }
}

/// An entry contradicts an earlier one of its reference, in these fields where they are known.
pub(super) fn conflict(job_id: i64, fields: &[&str]) -> Problem {
    let fields = if fields.is_empty() { String::new() } else { format!(": {}", fields.join(", ")) };
    Problem::error(
        format!("job {job_id}, an earlier entry, has the same reference with other content{fields}"),
        "give this entry a reference of its own, or say \"replace\": true to create it as well",
    )
    .field("reference")
    .code(OTHER_CONTENT)
}

/// The code of an entry that contradicts an earlier one of its reference.
pub(crate) const OTHER_CONTENT: &str = "other-content";

/// Who has the identity under this key, and whether that job asks for the same as `asked`.
///
/// Both are compared by the older of their content rules: what an earlier release created stays a duplicate.
pub(super) fn owner(
    connection: &Connection,
    drop_id: i64,
    key: &[u8],
    asked: &ContentDigests,
) -> Result<Owner, QueueError> {
    Ok(find(connection, drop_id, key, asked, None)?.map_or(Owner::Nobody, |(owner, _)| owner))
}

/// The same of an entry that comes into a batch. One that contradicts another of the batch is refused also where that one
/// has failed: whether it has by now depends on how fast the manifest is read.
pub(super) fn owner_within(
    connection: &Connection,
    (drop_id, batch_id): (i64, i64),
    reference: Option<&str>,
    asked: &ContentDigests,
) -> Result<Owner, QueueError> {
    let contradicted = find(connection, drop_id, &key_of(reference, asked.current()), asked, Some(batch_id))?;
    match contradicted {
        Some((owner @ (Owner::Created { .. } | Owner::UnderWay { same: false, .. }), _)) => Ok(owner),
        None if reference.is_some() => Ok(Owner::Nobody),
        _ => owner_of_entry(connection, drop_id, reference, asked),
    }
}

/// Who has an entry's identity.
///
/// One without a reference is its content: what an earlier release created has the key that its own rule gave it.
pub(super) fn owner_of_entry(
    connection: &Connection,
    drop_id: i64,
    reference: Option<&str>,
    asked: &ContentDigests,
) -> Result<Owner, QueueError> {
    let owner = owner(connection, drop_id, &key_of(reference, asked.current()), asked)?;
    if owner != Owner::Nobody || reference.is_some() {
        return Ok(owner);
    }
    let older = find(connection, drop_id, &key_of(None, asked.by(ContentRule::Files)), asked, None)?;
    Ok(older.filter(|(_, rule)| *rule == ContentRule::Files).map_or(Owner::Nobody, |(owner, _)| owner))
}

/// `within`: failed jobs of this batch count as under way.
fn find(
    connection: &Connection,
    drop_id: i64,
    key: &[u8],
    asked: &ContentDigests,
    within: Option<i64>,
) -> Result<Option<(Owner, ContentRule)>, QueueError> {
    let found = connection
        .prepare_cached(
            "SELECT job.id, job.state, job.content, job.remote_id, job.content_rule, job.batch_id
               FROM identity JOIN job ON job.id = identity.job_id
              WHERE identity.drop_id = ?1 AND identity.key = ?2",
        )?
        .query_row(params![drop_id, key], |row| {
            Ok((
                row.get::<_, i64>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, Vec<u8>>(2)?,
                row.get::<_, Option<String>>(3)?,
                row.get::<_, i64>(4)?,
                row.get::<_, i64>(5)?,
            ))
        })
        .optional()?;
    let Some((job_id, state, theirs, remote_id, rule, batch_id)) = found else { return Ok(None) };
    let rule = ContentRule::of(rule)?;
    let same = if rule <= asked.rule() {
        theirs == asked.by(rule)
    } else {
        ContentDigests::of_job(connection, job_id)?.by(asked.rule()) == asked.by(asked.rule())
    };
    let state = JobState::parse(&state).ok_or_else(|| super::rows::unreadable("a job's state", &state))?;
    let owner = match state {
        JobState::Failed if within == Some(batch_id) => Owner::UnderWay { job_id, same },
        JobState::Failed | JobState::Cancelled => Owner::Nobody,
        JobState::Done | JobState::Duplicate => {
            Owner::Created { job_id, remote_id: remote_id.unwrap_or_default(), same }
        }
        JobState::Queued | JobState::Running | JobState::Waiting | JobState::Held => Owner::UnderWay { job_id, same },
    };
    Ok(Some((owner, rule)))
}

/// Makes a job the owner of an identity.
pub(super) fn own(connection: &Connection, drop_id: i64, key: &[u8], job_id: i64) -> Result<(), QueueError> {
    connection
        .prepare_cached(
            "INSERT INTO identity VALUES (?1, ?2, ?3) ON CONFLICT (drop_id, key) DO UPDATE SET job_id = ?3",
        )?
        .execute(params![drop_id, key, job_id])?;
    Ok(())
}

/// Makes the job of an entry without a reference the owner of its content, also under the key that an earlier release
/// gave it where a job of that release failed: a retry of that job then finds this one.
pub(super) fn own_entry(
    connection: &Connection,
    drop_id: i64,
    reference: Option<&str>,
    content: &ContentDigests,
    job_id: i64,
) -> Result<(), QueueError> {
    own(connection, drop_id, &key_of(reference, content.current()), job_id)?;
    if reference.is_none() {
        connection
            .prepare_cached("UPDATE identity SET job_id = ?3 WHERE drop_id = ?1 AND key = ?2")?
            .execute(params![drop_id, key_of(None, content.by(ContentRule::Files)), job_id])?;
    }
    Ok(())
}
