//! Deduplication, which makes admission idempotent: what an entry's identity is, which job owns it, and what follows
//! for another entry with the same one.
//!
//! The row of `identity` decides; no search does.

use rusqlite::{Connection, OptionalExtension, params};
use sha2::Digest as _;

use super::QueueError;
use crate::{
    entry::{Content, Entry, Sha256},
    job::JobState,
    problem::Problem,
};

/// The digest of what an entry asks for: profile, category, type and the images' digests; of a file its name instead.
#[must_use]
pub(crate) fn content_of(entry: &Entry, files: impl Iterator<Item = Sha256>) -> [u8; 32] {
    let kind = match &entry.content {
        Content::Document { category, document_type, .. } => EntryContent::Document { category, document_type },
        Content::File { name, .. } => EntryContent::File { name: name.as_deref() },
    };
    digest_of(entry.profile_id.as_str(), &kind, files)
}

/// What is asked for besides files.
pub(super) enum EntryContent<'a> {
    Document { category: &'a str, document_type: &'a str },
    File { name: Option<&'a str> },
}

pub(super) fn digest_of(profile: &str, asked: &EntryContent<'_>, files: impl Iterator<Item = Sha256>) -> [u8; 32] {
    let mut digest = sha2::Sha256::new();
    let mut field = |text: &str| {
        digest.update((text.len() as u64).to_be_bytes());
        digest.update(text);
    };
    field(profile);
    match asked {
        EntryContent::Document { category, document_type } => {
            field("document");
            field(category);
            field(document_type);
        }
        EntryContent::File { name } => {
            field("file");
            field(name.unwrap_or_default());
        }
    }
    files.for_each(|file| digest.update(file.0));
    digest.finalize().into()
}

/// The key under which an entry's identity is kept within its drop.
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
        Owner::Created { job_id, .. } | Owner::UnderWay { job_id, .. } => DedupDecision::Refuse(
            Problem::error(
                format!("job {job_id}, an earlier entry, has the same reference with other content"),
                "give this entry a reference of its own, or say \"replace\": true to create it as well",
            )
            .field("reference"),
        ),
    }
}

pub(super) fn owner(connection: &Connection, drop_id: i64, key: &[u8], content: &[u8]) -> Result<Owner, QueueError> {
    let found = connection
        .prepare_cached(
            "SELECT job.id, job.state, job.content, job.remote_id FROM identity JOIN job ON job.id = identity.job_id
              WHERE identity.drop_id = ?1 AND identity.key = ?2",
        )?
        .query_row(params![drop_id, key], |row| {
            Ok((row.get(0)?, row.get::<_, String>(1)?, row.get::<_, Vec<u8>>(2)?, row.get::<_, Option<String>>(3)?))
        })
        .optional()?;
    let Some((job_id, state, theirs, remote_id)) = found else { return Ok(Owner::Nobody) };
    let same = theirs == content;
    Ok(match JobState::parse(&state).ok_or_else(|| super::rows::unreadable("a job's state", &state))? {
        JobState::Failed | JobState::Cancelled => Owner::Nobody,
        JobState::Done | JobState::Duplicate => {
            Owner::Created { job_id, remote_id: remote_id.unwrap_or_default(), same }
        }
        JobState::Queued | JobState::Running | JobState::Waiting | JobState::Held => Owner::UnderWay { job_id, same },
    })
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
