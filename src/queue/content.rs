//! What an entry asks for, as a digest: two entries with the same one ask for the same.
//!
//! The rule of what belongs to it has versions, and each row keeps that of its own: what an earlier release created stays a
//! duplicate by the rule of that release.

use rusqlite::Connection;
use sha2::Digest as _;

use super::{QueueError, rows};
use crate::{
    entry::{Content, Entry, EntryKind, ImageType, Sha256},
    extracted_data::ExtractedData,
    relative_path,
};

/// What belongs to the content, besides profile, kind, category, type, and the digests of the files in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ContentRule {
    /// Version 1: the declared name of a file.
    Files = 1,
    /// Version 2: the name that a file is sent under, `extracted_data`, and the types of the images.
    Everything = 2,
}

impl ContentRule {
    /// The rule of new rows.
    pub(crate) const CURRENT: Self = Self::Everything;

    /// By its number in the database.
    pub(super) fn of(number: i64) -> Result<Self, QueueError> {
        [Self::Files, Self::Everything]
            .into_iter()
            .find(|rule| rule.number() == number)
            .ok_or_else(|| rows::unreadable("a content rule", &number.to_string()))
    }

    /// Its number in the database.
    pub(super) const fn number(self) -> i64 {
        self as i64
    }
}

/// The digests of what an entry or a job asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ContentDigests {
    rule: ContentRule,
    files: [u8; 32],
    everything: [u8; 32],
}

impl ContentDigests {
    /// Those of an entry with the digests of its files.
    pub(crate) fn of_entry(entry: &Entry, files: impl Iterator<Item = Sha256>) -> Self {
        let types: Vec<_> = match &entry.content {
            Content::Document { images, .. } => images.iter().map(|image| image.image_type).collect(),
            Content::File { .. } => vec![None],
        };
        let asked = match &entry.content {
            Content::Document { category, document_type, extracted_data, .. } => AskedContent::Document {
                category,
                document_type,
                extracted_data: extracted_data.as_ref().map(ExtractedData::canonical),
            },
            Content::File { name, source } => AskedContent::File { name: name.as_deref(), path: source.path.as_str() },
        };
        let files: Vec<_> = types.into_iter().zip(files).collect();
        Self::new(ContentRule::CURRENT, entry.profile_id.as_str(), &asked, &files)
    }

    /// Those of a job, by its row and its files as recorded.
    pub(super) fn of_job(connection: &Connection, job_id: i64) -> Result<Self, QueueError> {
        type Columns = (String, String, String, String, Option<String>, Option<String>, i64);
        let (profile, kind, category, document_type, name, extracted_data, rule): Columns = connection
            .prepare_cached(
                "SELECT profile_id, kind, category, document_type, name, extracted_data, content_rule
                   FROM job WHERE id = ?1",
            )?
            .query_row([job_id], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?))
            })?;
        let uploads = rows::uploads(connection, job_id)?;
        let asked = match rows::kind(&kind)? {
            EntryKind::Document => AskedContent::Document {
                category: &category,
                document_type: &document_type,
                extracted_data: extracted_data.and_then(ExtractedData::parse).map(|data| data.canonical()),
            },
            EntryKind::File => AskedContent::File {
                name: name.as_deref(),
                path: uploads.first().map(|upload| upload.path.as_str()).unwrap_or_default(),
            },
        };
        let files: Vec<_> = uploads.iter().map(|upload| (upload.image_type, upload.sha256)).collect();
        Ok(Self::new(ContentRule::of(rule)?, &profile, &asked, &files))
    }

    fn new(rule: ContentRule, profile: &str, asked: &AskedContent<'_>, files: &[(Option<ImageType>, Sha256)]) -> Self {
        Self { rule, files: of_files(profile, asked, files), everything: of_everything(profile, asked, files) }
    }

    /// The rule that what asks is held to.
    pub(super) const fn rule(&self) -> ContentRule {
        self.rule
    }

    /// The digest by this rule.
    pub(crate) const fn by(&self, rule: ContentRule) -> &[u8; 32] {
        match rule {
            ContentRule::Files => &self.files,
            ContentRule::Everything => &self.everything,
        }
    }

    /// The digest by the rule of new rows.
    pub(crate) const fn current(&self) -> &[u8; 32] {
        self.by(ContentRule::CURRENT)
    }
}

/// What is asked for besides files.
enum AskedContent<'a> {
    Document { category: &'a str, document_type: &'a str, extracted_data: Option<String> },
    File { name: Option<&'a str>, path: &'a str },
}

/// Takes fields one after the other, each with its length, so that none runs into the next.
struct FieldDigest(sha2::Sha256);

impl FieldDigest {
    fn field(&mut self, text: &str) {
        self.0.update((text.len() as u64).to_be_bytes());
        self.0.update(text);
    }
}

/// By version 1. Never changed: the rows of earlier releases hold these digests.
fn of_files(profile: &str, asked: &AskedContent<'_>, files: &[(Option<ImageType>, Sha256)]) -> [u8; 32] {
    let mut digest = FieldDigest(sha2::Sha256::new());
    digest.field(profile);
    match asked {
        AskedContent::Document { category, document_type, .. } => {
            ["document", category, document_type].into_iter().for_each(|text| digest.field(text));
        }
        AskedContent::File { name, .. } => {
            ["file", name.unwrap_or_default()].into_iter().for_each(|text| digest.field(text));
        }
    }
    files.iter().for_each(|(_, file)| digest.0.update(file.0));
    digest.0.finalize().into()
}

/// By version 2.
fn of_everything(profile: &str, asked: &AskedContent<'_>, files: &[(Option<ImageType>, Sha256)]) -> [u8; 32] {
    let mut digest = FieldDigest(sha2::Sha256::new());
    digest.field("content 2");
    digest.field(profile);
    match asked {
        AskedContent::Document { category, document_type, extracted_data } => {
            let data = extracted_data.as_deref().unwrap_or_default();
            ["document", category, document_type, data].into_iter().for_each(|text| digest.field(text));
        }
        AskedContent::File { name, path } => {
            let name = name.unwrap_or_else(|| relative_path::name(path));
            ["file", name].into_iter().for_each(|text| digest.field(text));
        }
    }
    for (image_type, file) in files {
        digest.field(image_type.map_or("", ImageType::as_str));
        digest.0.update(file.0);
    }
    digest.0.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::test_support::{NOW, Site, document, execute, take};

    /// Makes a job one of an earlier release.
    fn age(site: &Site, job: i64) {
        let connection = Connection::open(site.queue.path()).unwrap();
        let digests = ContentDigests::of_job(&connection, job).unwrap();
        let key = crate::queue::identity::key_of(None, &digests.files);
        connection
            .execute(
                "UPDATE job SET content_rule = 1, content = ?2, identity = ?3 WHERE id = ?1",
                rusqlite::params![job, digests.files, key],
            )
            .unwrap();
        connection.execute("UPDATE identity SET key = ?2 WHERE job_id = ?1", rusqlite::params![job, key]).unwrap();
    }

    fn nameless(image_type: Option<ImageType>) -> Vec<crate::queue::admission::Admission> {
        let mut entry = document(0, "one");
        entry.reference = None;
        let Content::Document { images, .. } = &mut entry.content else { panic!() };
        images[0].image_type = image_type;
        vec![take(entry, 1)]
    }

    #[test]
    fn a_failed_job_of_an_earlier_release_does_not_create_again_what_a_newer_one_created() {
        let site = Site::new();
        site.admit_entries("a.manifest.json", nameless(None));
        age(&site, 1);
        site.fail(1, "HTTP 403: no");
        site.admit_entries("b.manifest.json", nameless(Some(ImageType::Front)));
        site.create(2, "doc");
        let outcome = site.queue.retry(1, NOW).unwrap();
        assert!(!outcome.done && outcome.message.contains("job 2"), "{outcome:?}");
        // Nor the other way round: the newer one failed, and the older one is tried again after all.
        let site = Site::new();
        site.admit_entries("a.manifest.json", nameless(None));
        age(&site, 1);
        site.fail(1, "HTTP 403: no");
        site.admit_entries("b.manifest.json", nameless(Some(ImageType::Front)));
        site.fail(2, "HTTP 403: no");
        assert!(site.queue.retry(1, NOW).unwrap().done);
        site.create(1, "doc");
        site.admit_entries("c.manifest.json", nameless(Some(ImageType::Front)));
        assert_eq!(site.value("SELECT state FROM job WHERE id = 3"), "duplicate");
        assert!(!site.queue.retry(2, NOW).unwrap().done);
    }

    #[test]
    fn an_unknown_rule_is_an_error() {
        let site = Site::new();
        site.admit("a.manifest.json", &["one"]);
        execute(&site.queue, "UPDATE job SET content_rule = 9");
        assert!(site.begin("b.manifest.json").admit_whole(vec![take(document(0, "one"), 0)], None, NOW).is_err());
    }
}
