//! From what was asked to what was created, one row an image or file, for `export`.
//!
//! Entries that never became jobs come last. Memory stays flat, however many there are.

use rusqlite::{Connection, ToSql, params_from_iter};
use serde::Serialize;

use super::{
    Filter,
    jobs::{self, JobRow, UploadRow},
    trace::{self, InvalidRow},
};
use crate::{
    clock::Timestamp,
    entry::{EntryKind, EntrySource},
    job::JobState,
    problem::Problem,
    queue::{QueueError, Reader, layouts, rows},
    receipt::EntryStatus,
};

/// One image or file, and what it became.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Crossing {
    pub drop: String,
    /// The manifest, relative to the drop.
    pub manifest: String,
    /// The entry's place in the manifest.
    pub index: i64,
    /// The job, where the entry became one.
    pub job: Option<i64>,
    pub kind: String,
    pub reference: Option<String>,
    pub profile_id: Option<String>,
    pub category: Option<String>,
    pub document_type: Option<String>,
    /// As in a receipt; of a job that has not ended, its state.
    pub status: &'static str,
    /// The document that was created, or exists.
    pub document_id: Option<String>,
    /// The file that was created, or exists.
    pub file_id: Option<String>,
    /// The image's place in its document, from 0.
    pub image: Option<usize>,
    /// As the manifest writes it.
    pub path: Option<String>,
    /// Which side it shows.
    pub image_type: Option<String>,
    pub image_id: Option<String>,
    pub sha256: Option<String>,
    pub bytes: Option<i64>,
    #[serde(serialize_with = "rows::optional_moment")]
    pub ended_at: Option<Timestamp>,
    /// Why it was not created.
    pub error: Option<String>,
    /// The list, sidecar or file of an archive that a layout made the entry of.
    pub source_file: Option<String>,
    /// The line of the list, or the row of the sheet.
    pub source_row: Option<u64>,
}

impl Crossing {
    fn from(mut self, source: Option<&EntrySource>) -> Self {
        self.source_file = source.map(|source| source.file.clone());
        self.source_row = source.and_then(|source| source.row);
        self
    }
}

impl Reader {
    /// Calls `each` with every image and file of the entries that a filter means.
    pub(crate) fn crosswalk<E: From<QueueError>>(
        &self,
        filter: &Filter,
        mut each: impl FnMut(Crossing) -> Result<(), E>,
    ) -> Result<(), E> {
        self.jobs(filter, |job| {
            let uploads = jobs::uploads(&self.connection, job.id)?;
            let source = layouts::source_of_job(&self.connection, job.id)?;
            uploads
                .into_iter()
                .enumerate()
                .try_for_each(|(at, upload)| each(of_job(&job, at, upload).from(source.as_ref())))
        })?;
        // A limit, a number or a state is about jobs.
        if filter.limit.is_none() && filter.ids.is_empty() && filter.states.is_empty() {
            invalid(&self.connection, filter, |entry| {
                let source = entry.index.map(|index| layouts::source_of(&self.connection, entry.batch_id, index));
                each(of_invalid(entry).from(source.transpose()?.flatten().as_ref()))
            })?;
        }
        Ok(())
    }
}

impl Reader {
    /// Calls `each` with the manifests that were rejected as a whole, then with the entries that never became jobs, oldest
    /// first; memory stays flat.
    pub(crate) fn invalid_entries<E: From<QueueError>>(
        &self,
        filter: &Filter,
        each: impl FnMut(InvalidRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut each = each;
        self.snapshot(|connection| {
            let (text, values) = filter.rejected_conditions();
            rows_where(connection, (trace::REJECTED, "batch.id"), (&text, values), filter.limit, &mut each)?;
            invalid(connection, filter, each)
        })
    }
}

fn invalid<E: From<QueueError>>(
    connection: &Connection,
    filter: &Filter,
    mut each: impl FnMut(InvalidRow) -> Result<(), E>,
) -> Result<(), E> {
    let (text, values) = filter.invalid_conditions();
    let order = "invalid_entry.batch_id, entry_index";
    rows_where(connection, (trace::INVALID, order), (&text, values), filter.limit, &mut each)
}

fn rows_where<E: From<QueueError>>(
    connection: &Connection,
    (columns, order): (&str, &str),
    (text, values): (&str, Vec<Box<dyn ToSql>>),
    limit: Option<u32>,
    each: &mut impl FnMut(InvalidRow) -> Result<(), E>,
) -> Result<(), E> {
    let newest = limit.map_or_else(String::new, |limit| {
        format!(" LIMIT -1 OFFSET max(0, (SELECT count(*) FROM (SELECT {columns} WHERE {text})) - {limit})")
    });
    let sql = format!("SELECT {columns} WHERE {text} ORDER BY {order}{newest}");
    let mut statement = connection.prepare(&sql).map_err(QueueError::from)?;
    let mut rows = statement.query(params_from_iter(values)).map_err(QueueError::from)?;
    while let Some(row) = rows.next().map_err(QueueError::from)? {
        each(trace::invalid_row(row).map_err(QueueError::from)?)?;
    }
    Ok(())
}

fn of_job(job: &JobRow, at: usize, upload: UploadRow) -> Crossing {
    let is_file = job.kind == EntryKind::File.as_str();
    let (document_id, file_id) = if is_file { (None, job.remote_id.clone()) } else { (job.remote_id.clone(), None) };
    let word = |word: &str| (!word.is_empty()).then(|| word.to_owned());
    Crossing {
        drop: job.drop.clone(),
        manifest: job.manifest.clone(),
        index: job.index,
        job: Some(job.id),
        kind: job.kind.clone(),
        reference: job.reference.clone(),
        profile_id: Some(job.profile_id.clone()),
        category: word(&job.category),
        document_type: word(&job.document_type),
        status: if job.removed_at.is_some() { REMOVED } else { status(job.state) },
        document_id,
        file_id,
        image: (!is_file).then_some(at),
        path: Some(upload.path),
        image_type: upload.image_type,
        image_id: upload.remote_id.filter(|_| !is_file),
        sha256: Some(upload.sha256),
        bytes: Some(upload.bytes),
        ended_at: job.ended_at,
        error: match job.state {
            JobState::Done | JobState::Duplicate => None,
            JobState::Failed if !job.problems.is_empty() => joined(&job.problems),
            _ => job.reason.clone(),
        },
        source_file: None,
        source_row: None,
    }
}

/// Of what was created, and removed on purpose since.
const REMOVED: &str = "removed";

const fn status(state: JobState) -> &'static str {
    if state.has_ended() { EntryStatus::of(Some(state)).as_str() } else { state.as_str() }
}

fn of_invalid(entry: InvalidRow) -> Crossing {
    let path = entry.problems.iter().find_map(|problem| problem.path.clone());
    Crossing {
        drop: entry.drop,
        manifest: entry.manifest,
        index: entry.index.unwrap_or_default(),
        job: None,
        kind: entry.kind,
        reference: entry.reference,
        profile_id: entry.profile_id,
        category: None,
        document_type: None,
        status: EntryStatus::Invalid.as_str(),
        document_id: None,
        file_id: None,
        image: None,
        path,
        image_type: None,
        image_id: None,
        sha256: None,
        bytes: None,
        ended_at: entry.received_at,
        error: joined(&entry.problems),
        source_file: None,
        source_row: None,
    }
}

/// All that is wrong, in one cell.
fn joined(problems: &[Problem]) -> Option<String> {
    let errors = problems.iter().filter(|problem| problem.is_error());
    let reasons: Vec<String> = errors
        .map(|problem| match problem.field.as_ref().or(problem.path.as_ref()) {
            Some(place) => format!("{place}: {}", problem.reason),
            None => problem.reason.clone(),
        })
        .collect();
    (!reasons.is_empty()).then(|| reasons.join("; "))
}
