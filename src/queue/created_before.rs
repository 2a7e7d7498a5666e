//! What was created under a reference, and whether an entry without its files asks for the same.
//!
//! Partners send lists that grow by the day: the rows of yesterday name files that were put away yesterday.

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    QueueError, Reader,
    content::ContentRule,
    identity::key_of,
    rows::{self, unreadable},
};
use crate::{
    entry::{Content, Entry, EntryKind, ImageType, Sha256, Source},
    extracted_data::ExtractedData,
    file_identity::{self, FileIdentity},
    job::JobState,
    relative_path,
};

/// A document or file that exists, as its job asked for it.
#[derive(Debug, Clone, PartialEq)]
pub struct CreatedEntry {
    /// The job that created it.
    pub job_id: i64,
    /// Its ID at the API.
    pub remote_id: String,
    /// The digest by which its identity is compared.
    pub(super) content: Vec<u8>,
    /// The rule of what belongs to that.
    pub(super) rule: ContentRule,
    kind: EntryKind,
    profile_id: String,
    category: String,
    document_type: String,
    extracted_data: Option<String>,
    name: Option<String>,
    /// Whether something of it was warned of.
    is_warned: bool,
    files: Vec<CreatedFile>,
}

#[derive(Debug, Clone, PartialEq)]
struct CreatedFile {
    image_type: Option<ImageType>,
    bytes: u64,
    sha256: Sha256,
    /// As its manifest wrote it.
    path: String,
    /// Where it is now; `None` where it was removed.
    location: Option<String>,
    /// What it was when it was taken, where that is enough to detect a change.
    seen: Option<FileIdentity>,
}

/// What is known of a file that an entry names: what was read, or what is declared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KnownContent {
    /// Its size.
    pub bytes: Option<u64>,
    /// Its digest.
    pub sha256: Option<Sha256>,
}

impl CreatedEntry {
    /// Whether an entry of the same reference needs no file: it asks for nothing else, or for what is refused.
    #[must_use]
    pub fn settles(&self, entry: &Entry) -> bool {
        !entry.replace || self.differences(entry, &declared(entry)).is_empty()
    }

    /// In which fields an entry differs, as far as its files are known.
    #[must_use]
    pub fn differences(&self, entry: &Entry, files: &[KnownContent]) -> Vec<&'static str> {
        let mut fields = Vec::new();
        let mut compare = |field: &'static str, same: bool| {
            if !same {
                fields.push(field);
            }
        };
        compare("profile_id", self.profile_id == entry.profile_id.as_str());
        if self.kind != entry.kind() {
            compare("category", false);
            return fields;
        }
        match &entry.content {
            Content::Document { category, document_type, extracted_data, images } => {
                compare("category", self.category == *category);
                compare("document_type", self.document_type == *document_type);
                compare("images", images.len() == self.files.len());
                if self.rule >= ContentRule::Everything {
                    let ours = self.extracted_data.clone().and_then(ExtractedData::parse);
                    let text = |data: Option<&ExtractedData>| data.map(ExtractedData::canonical);
                    compare("extracted_data", text(extracted_data.as_ref()) == text(ours.as_ref()));
                    let types = images.iter().map(|image| image.image_type);
                    compare("image_type", types.zip(&self.files).all(|(theirs, ours)| theirs == ours.image_type));
                }
            }
            Content::File { name, source } => {
                let sent_as = self.files.first().map(|file| relative_path::name(&file.path));
                let ours = self.name.as_deref().or(sent_as);
                // Its path says nothing; a name that it does not give is that of its file.
                let theirs = relative_path::name(source.path.as_str());
                let same = match name {
                    Some(name) => ours == Some(name.as_str()),
                    None => self.name.is_none() || ours == Some(theirs),
                };
                compare("name", same);
            }
        }
        let known = || files.iter().zip(&self.files);
        compare("bytes", known().all(|(theirs, ours)| theirs.bytes.is_none_or(|bytes| bytes == ours.bytes)));
        compare("sha256", known().all(|(theirs, ours)| theirs.sha256.is_none_or(|digest| digest == ours.sha256)));
        fields
    }

    /// What each file was when it was taken, where an entry that asks for the same names the same files, and a change of
    /// each can be detected. Nothing where it was warned of something, so that the next receipt warns of it too.
    pub(crate) fn files_as_seen(&self, entry: &Entry) -> Option<Vec<FileIdentity>> {
        if self.is_warned || !self.differences(entry, &declared(entry)).is_empty() {
            return None;
        }
        let same = |(source, file): (&Source, &CreatedFile)| file.seen.filter(|_| source.path.as_str() == file.path);
        entry.sources().zip(&self.files).map(same).collect()
    }

    /// Who created it, and where its files are now.
    #[must_use]
    pub fn in_words(&self) -> String {
        let places: Vec<&str> = self.files.iter().filter_map(|file| file.location.as_deref()).take(3).collect();
        let verb = if self.files.len() > 1 { "its files are now" } else { "its file is now" };
        let places = if places.is_empty() { "deleted".to_owned() } else { places.join(", ") };
        format!("created before by job {}; {verb} {places}", self.job_id)
    }
}

/// What an entry itself says of its files.
#[must_use]
pub fn declared(entry: &Entry) -> Vec<KnownContent> {
    entry
        .sources()
        .map(|source| KnownContent { bytes: source.declared_bytes, sha256: source.declared_sha256 })
        .collect()
}

impl Reader {
    /// What was created under a reference of a drop.
    pub(crate) fn created_before(&self, drop: &str, reference: &str) -> Result<Option<CreatedEntry>, QueueError> {
        let mut select = self.connection.prepare_cached("SELECT id FROM drop_folder WHERE name = ?1")?;
        match select.query_row([drop], |row| row.get(0)).optional()? {
            Some(drop_id) => created_before(&self.connection, drop_id, reference),
            None => Ok(None),
        }
    }
}

pub(super) fn created_before(
    connection: &Connection,
    drop_id: i64,
    reference: &str,
) -> Result<Option<CreatedEntry>, QueueError> {
    // The content plays no part in the key of a reference.
    let key = key_of(Some(reference), &[0; 32]);
    let found = connection
        .prepare_cached(
            "SELECT job.id, job.state, job.remote_id, job.content, job.kind, profile_id, category, document_type,
                    extracted_data, name, content_rule, EXISTS
                    (SELECT 1 FROM entry_warning AS warned
                      WHERE warned.batch_id = job.batch_id AND warned.entry_index = job.entry_index)
               FROM identity JOIN job ON job.id = identity.job_id
              WHERE identity.drop_id = ?1 AND identity.key = ?2 AND job.state IN ('done', 'duplicate')",
        )?
        .query_row(params![drop_id, key], |row| {
            Ok((
                CreatedEntry {
                    job_id: row.get(0)?,
                    remote_id: row.get::<_, Option<String>>(2)?.unwrap_or_default(),
                    content: row.get(3)?,
                    rule: ContentRule::CURRENT,
                    kind: EntryKind::File,
                    profile_id: row.get(5)?,
                    category: row.get(6)?,
                    document_type: row.get(7)?,
                    extracted_data: row.get(8)?,
                    name: row.get(9)?,
                    is_warned: row.get(11)?,
                    files: Vec::new(),
                },
                row.get::<_, String>(1)?,
                row.get::<_, String>(4)?,
                row.get::<_, i64>(10)?,
            ))
        })
        .optional()?;
    let Some((mut entry, state, kind, rule)) = found else { return Ok(None) };
    if !JobState::parse(&state).is_some_and(JobState::has_ended) {
        return Ok(None);
    }
    entry.kind = rows::kind(&kind)?;
    entry.rule = ContentRule::of(rule)?;
    entry.files = files(connection, entry.job_id)?;
    Ok(Some(entry))
}

/// What the jobs with numbers from `from` to before `to` created, with their references.
pub(super) fn created_between(
    connection: &Connection,
    drop_id: i64,
    from: i64,
    to: i64,
) -> Result<Vec<(String, CreatedEntry)>, QueueError> {
    let mut select = connection.prepare_cached(
        "SELECT reference, job.id, remote_id, content, content_rule, kind, profile_id, category, document_type,
                extracted_data, name, EXISTS
                (SELECT 1 FROM entry_warning AS warned
                  WHERE warned.batch_id = job.batch_id AND warned.entry_index = job.entry_index)
           FROM job CROSS JOIN identity ON identity.drop_id = job.drop_id AND identity.key = job.identity
          WHERE job.id >= ?1 AND job.id < ?2 AND job.drop_id = ?3 AND state IN ('done', 'duplicate')
            AND reference IS NOT NULL AND identity.job_id = job.id
          ORDER BY job.id",
    )?;
    let mut found = select.query(params![from, to, drop_id])?;
    let mut created = Vec::new();
    while let Some(row) = found.next()? {
        let job_id = row.get(1)?;
        let entry = CreatedEntry {
            job_id,
            remote_id: row.get::<_, Option<String>>(2)?.unwrap_or_default(),
            content: row.get(3)?,
            rule: ContentRule::of(row.get(4)?)?,
            kind: rows::kind(&row.get::<_, String>(5)?)?,
            profile_id: row.get(6)?,
            category: row.get(7)?,
            document_type: row.get(8)?,
            extracted_data: row.get(9)?,
            name: row.get(10)?,
            is_warned: row.get(11)?,
            files: files(connection, job_id)?,
        };
        created.push((row.get(0)?, entry));
    }
    Ok(created)
}

fn files(connection: &Connection, job_id: i64) -> Result<Vec<CreatedFile>, QueueError> {
    let mut statement = connection.prepare_cached(
        "SELECT image_type, bytes, sha256,
                CASE WHEN upload.lies_root IS NOT NULL THEN upload.lies_root || '/' || upload.lies_path
                     WHEN batch.state = 'closed' AND after_success = 'delete' THEN NULL
                     ELSE image_root || '/' || CASE image_folder WHEN '' THEN '' ELSE image_folder || '/' END || path END, path, seen
           FROM upload JOIN job ON job.id = job_id JOIN batch ON batch.id = batch_id
          WHERE job_id = ?1 ORDER BY position",
    )?;
    let mut found = statement.query([job_id])?;
    let mut files = Vec::new();
    while let Some(row) = found.next()? {
        let image_type: Option<String> = row.get(0)?;
        files.push(CreatedFile {
            image_type: image_type
                .map(|word| ImageType::parse(&word).ok_or_else(|| unreadable("an image's type", &word)))
                .transpose()?,
            bytes: row.get::<_, i64>(1)?.try_into().unwrap_or(0),
            sha256: rows::digest(&row.get::<_, Vec<u8>>(2)?)?,
            location: row.get(3)?,
            path: row.get(4)?,
            seen: row.get::<_, Option<String>>(5)?.and_then(|seen| file_identity::read_in_full(&seen)),
        });
    }
    Ok(files)
}
