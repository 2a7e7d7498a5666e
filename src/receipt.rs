//! The receipt: reports the result of each entry of a manifest to its sender.
//!
//! Its format is an interface for other programs. A receipt is written from the queue alone and deterministically, so
//! that one that a crash interrupted can be written again (idempotent).

pub mod failed;
pub mod read;

use std::io::{self, Write};

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    clock::Timestamp,
    entry::{EntryKind, EntrySource, ImageType, Sha256},
    job::{JobState, Upload},
    problem::Problem,
    warning::Warning,
};

/// The version of the form.
const VERSION: u32 = 1;

/// Receipts of more entries than this are written as JSON Lines, so that their readers need not hold them in memory.
pub const LARGE: u64 = 10_000;

/// How one entry ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EntryStatus {
    /// Created, by this entry.
    Created,
    /// Exists already; the ID is that of what exists.
    Duplicate,
    /// The API refused it, or the tries are used up.
    Failed,
    /// It never became a job.
    Invalid,
    /// A person stopped it.
    Cancelled,
}

impl EntryStatus {
    /// What a job's end means in a receipt; `None` for an entry that never became a job.
    #[must_use]
    pub const fn of(state: Option<JobState>) -> Self {
        match state {
            None => Self::Invalid,
            Some(JobState::Done) => Self::Created,
            Some(JobState::Duplicate) => Self::Duplicate,
            Some(JobState::Cancelled) => Self::Cancelled,
            // No other state is an end; a receipt is only written when all jobs have ended.
            Some(JobState::Failed | JobState::Queued | JobState::Running | JobState::Waiting | JobState::Held) => {
                Self::Failed
            }
        }
    }

    /// The word in receipts and in exports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Duplicate => "duplicate",
            Self::Failed => "failed",
            Self::Invalid => "invalid",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether what the entry asks for exists.
    #[must_use]
    pub const fn is_well(self) -> bool {
        matches!(self, Self::Created | Self::Duplicate)
    }
}

/// How many entries ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Counts {
    /// All of them.
    pub entries: u64,
    /// Created by this manifest.
    pub created: u64,
    /// There already.
    pub duplicate: u64,
    /// Refused or given up.
    pub failed: u64,
    /// Stopped by a person.
    pub cancelled: u64,
    /// Never became jobs.
    pub invalid: u64,
}

impl Counts {
    /// Counts `times` more entries.
    pub const fn add(&mut self, status: EntryStatus, times: u64) {
        self.entries += times;
        match status {
            EntryStatus::Created => self.created += times,
            EntryStatus::Duplicate => self.duplicate += times,
            EntryStatus::Failed => self.failed += times,
            EntryStatus::Invalid => self.invalid += times,
            EntryStatus::Cancelled => self.cancelled += times,
        }
    }

    /// Adds other counts to these.
    pub const fn sum(&mut self, other: &Self) {
        self.entries += other.entries;
        self.created += other.created;
        self.duplicate += other.duplicate;
        self.failed += other.failed;
        self.cancelled += other.cancelled;
        self.invalid += other.invalid;
    }

    /// The status of a manifest whose entries ended so.
    #[must_use]
    pub const fn status(&self, rejected: bool) -> BatchStatus {
        let well = self.created + self.duplicate;
        if rejected {
            BatchStatus::Rejected
        } else if well == self.entries {
            BatchStatus::Done
        } else if well == 0 {
            BatchStatus::Failed
        } else {
            BatchStatus::Partial
        }
    }
}

/// How a manifest ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BatchStatus {
    /// All is well.
    Done,
    /// Some entries did not make it.
    Partial,
    /// None did.
    Failed,
    /// The manifest itself is unusable.
    Rejected,
}

impl BatchStatus {
    /// The word in receipts.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
        }
    }
}

/// A receipt without its entries.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ReceiptHeader {
    version: u32,
    manifest: String,
    manifest_sha256: String,
    drop: String,
    /// Whose key it was created with.
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<String>,
    /// How the manifest ended.
    pub status: BatchStatus,
    received_at: String,
    finished_at: String,
    /// The layout that its entries were made by.
    #[serde(skip_serializing_if = "Option::is_none")]
    layout: Option<ReceiptLayout>,
    /// How its entries ended.
    pub counts: Counts,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Problem>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Warning>,
}

/// The layout by which an archive's own list was read.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
struct ReceiptLayout {
    file: String,
    sha256: String,
}

impl ReceiptHeader {
    /// The same, as it was written while nobody knew whose account it is; `None` where nobody knows it yet.
    #[must_use]
    pub fn without_account(&self) -> Option<Self> {
        self.account.is_some().then(|| Self { account: None, ..self.clone() })
    }

    /// Sums up a batch; `problems` is why the manifest itself is unusable, if it is.
    #[must_use]
    pub fn new(
        (drop, account): (&str, Option<&str>),
        (manifest, manifest_sha256): (&str, Sha256),
        (received_at, finished_at): (Timestamp, Timestamp),
        counts: Counts,
        problems: Option<&[Problem]>,
    ) -> Self {
        Self {
            version: VERSION,
            manifest: manifest.to_owned(),
            manifest_sha256: manifest_sha256.to_string(),
            drop: drop.to_owned(),
            account: account.map(str::to_owned),
            status: counts.status(problems.is_some()),
            received_at: received_at.to_string(),
            finished_at: finished_at.to_string(),
            layout: None,
            counts,
            errors: problems.unwrap_or_default().to_vec(),
            warnings: Vec::new(),
        }
    }

    /// The same, with warnings about the manifest itself.
    #[must_use]
    pub fn warned(self, warnings: &[Warning]) -> Self {
        Self { warnings: warnings.to_vec(), ..self }
    }

    /// The same, of entries that a layout made: its file, and the file's digest.
    #[must_use]
    pub fn by_layout(mut self, layout: Option<&(String, Sha256)>) -> Self {
        self.layout = layout.map(|(file, sha256)| ReceiptLayout { file: file.clone(), sha256: sha256.to_string() });
        self
    }
}

/// One entry of a receipt.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ReceiptEntry {
    index: u64,
    kind: EntryKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile_id: Option<String>,
    status: EntryStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    category: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    document_type: Option<String>,
    /// The digest of all that the entry asks for, after the version of its rule: a queue that was lost knows it again by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    document_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    images: Option<Vec<ReceiptImage>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changed_from: Option<String>,
    /// Of a duplicate: which job created it, and where its files are.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The record of an archive that a layout made it of.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<EntrySource>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Problem>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Warning>,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
struct ReceiptImage {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_type: Option<ImageType>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_id: Option<String>,
    sha256: String,
    bytes: u64,
    /// What it was when it was taken, where a person had another content accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    changed_from: Option<String>,
}

/// What is known of an entry when its receipt is written.
#[derive(Debug)]
pub struct EntryResult {
    /// Its place in the manifest.
    pub index: u64,
    pub kind: EntryKind,
    pub reference: Option<String>,
    pub profile_id: Option<String>,
    /// Of a document that had a job.
    pub category: Option<String>,
    /// Of a document that had a job.
    pub document_type: Option<String>,
    /// Of an entry that had a job: the version of the content rule, a colon, and the digest in hexadecimal.
    pub content: Option<String>,
    /// The declared name of a file that had a job.
    pub name: Option<String>,
    /// How its job ended, if it had one.
    pub state: Option<JobState>,
    /// What was created, or exists.
    pub remote_id: Option<String>,
    pub problems: Vec<Problem>,
    /// What is probably not meant, however it ended.
    pub warnings: Vec<Warning>,
    /// Why it ended so.
    pub reason: Option<String>,
    /// The record of an archive that a layout made it of.
    pub source: Option<EntrySource>,
    /// Its images, or its file.
    pub uploads: Vec<Upload>,
}

impl From<EntryResult> for ReceiptEntry {
    fn from(entry: EntryResult) -> Self {
        let status = EntryStatus::of(entry.state);
        let (document_id, file_id) = match entry.kind {
            EntryKind::Document => (entry.remote_id, None),
            EntryKind::File => (None, entry.remote_id),
        };
        let mut line = Self {
            index: entry.index,
            kind: entry.kind,
            reference: entry.reference,
            profile_id: entry.profile_id,
            status,
            category: entry.category,
            document_type: entry.document_type,
            content: entry.content,
            document_id,
            file_id,
            images: None,
            name: entry.name,
            path: None,
            sha256: None,
            bytes: None,
            reason: entry.reason.filter(|_| status == EntryStatus::Duplicate),
            changed_from: None,
            source: entry.source,
            errors: if status.is_well() { Vec::new() } else { entry.problems },
            warnings: entry.warnings,
        };
        match entry.kind {
            EntryKind::Document if status != EntryStatus::Invalid => {
                line.images = Some(
                    entry
                        .uploads
                        .into_iter()
                        .map(|upload| ReceiptImage {
                            path: upload.path,
                            image_type: upload.image_type,
                            image_id: upload.remote_id,
                            sha256: upload.sha256.to_string(),
                            bytes: upload.bytes,
                            changed_from: upload.changed_from.map(|digest| digest.to_string()),
                        })
                        .collect(),
                );
            }
            EntryKind::File => {
                if let Some(upload) = entry.uploads.into_iter().next() {
                    line.path = Some(upload.path);
                    line.sha256 = Some(upload.sha256.to_string());
                    line.bytes = Some(upload.bytes);
                    line.changed_from = upload.changed_from.map(|digest| digest.to_string());
                }
            }
            EntryKind::Document => {}
        }
        line
    }
}

/// A receipt of one JSON object. Of a large one the first line is this without `entries`, each further line an entry.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "the fields are read by the schema alone: receipts are written entry by entry")]
struct WholeReceipt {
    #[serde(flatten)]
    header: ReceiptHeader,
    entries: Vec<ReceiptEntry>,
}

/// The form of a receipt, for programs that read it.
#[must_use]
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(WholeReceipt).to_value();
    if let Some(object) = schema.as_object_mut() {
        object.insert("title".into(), "Receipt of passfort-ingest, version 1".into());
    }
    schema
}

/// Writes a receipt entry by entry: one JSON object, or JSON Lines for a large one.
pub struct ReceiptWriter<'a> {
    out: &'a mut dyn Write,
    lines: bool,
    first: bool,
}

impl<'a> ReceiptWriter<'a> {
    /// Writes the header.
    ///
    /// # Errors
    ///
    /// Those of the output.
    pub fn begin(out: &'a mut dyn Write, header: &ReceiptHeader) -> io::Result<Self> {
        let lines = header.counts.entries > LARGE;
        if lines {
            serde_json::to_writer(&mut *out, header)?;
            out.write_all(b"\n")?;
        } else {
            let text = serde_json::to_string_pretty(header)?;
            // The entries go where the object ends.
            let open = text.strip_suffix("\n}").unwrap_or(&text);
            out.write_all(open.as_bytes())?;
            out.write_all(b",\n  \"entries\": [")?;
        }
        Ok(Self { out, lines, first: true })
    }

    /// Writes one entry.
    ///
    /// # Errors
    ///
    /// Those of the output.
    pub fn entry(&mut self, line: &ReceiptEntry) -> io::Result<()> {
        if !self.lines {
            self.out.write_all(if self.first { b"\n    " } else { b",\n    " })?;
        }
        self.first = false;
        serde_json::to_writer(&mut *self.out, line)?;
        if self.lines {
            self.out.write_all(b"\n")?;
        }
        Ok(())
    }

    /// Writes the end.
    ///
    /// # Errors
    ///
    /// Those of the output.
    pub fn end(self) -> io::Result<()> {
        match (self.lines, self.first) {
            (true, _) => Ok(()),
            (false, true) => self.out.write_all(b"]\n}\n"),
            (false, false) => self.out.write_all(b"\n  ]\n}\n"),
        }
    }
}

/// Whether a file is named as a receipt: `a.receipt.json`, `a.receipt.2.jsonl` and so on.
#[must_use]
pub fn is_named_so(name: &str) -> bool {
    let stem = name.strip_suffix(".json").or_else(|| name.strip_suffix(".jsonl"));
    let stem = stem.map(|stem| match stem.rsplit_once('.') {
        Some((stem, number)) if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => stem,
        _ => stem,
    });
    stem.is_some_and(|stem| stem.ends_with(".receipt"))
}

/// The name of a manifest's receipt, relative to the folder of receipts.
#[must_use]
pub fn name(manifest: &str, entries: u64) -> String {
    let ending = if entries > LARGE { "jsonl" } else { "json" };
    format!("{manifest}.receipt.{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, state: Option<JobState>) -> EntryResult {
        EntryResult {
            index,
            kind: EntryKind::Document,
            reference: Some(format!("customer-{index}/passport")),
            profile_id: Some("a2c4393a-e219-67a4-5ab4-2186952e9038".into()),
            category: state.map(|_| "PROOF_OF_IDENTITY".into()),
            document_type: state.map(|_| "PASSPORT".into()),
            content: state.map(|_| "2:00ff".into()),
            name: None,
            state,
            remote_id: state.filter(|state| *state == JobState::Done).map(|_| "9a92b3c5".into()),
            problems: vec![Problem::error("the file is missing", "drop it again").path("17/front.jpg")],
            warnings: Vec::new(),
            reason: None,
            source: None,
            uploads: vec![Upload {
                position: 0,
                path: "17/front.jpg".into(),
                image_type: Some(ImageType::Front),
                bytes: 81_234,
                sha256: Sha256([7; 32]),
                checksum: 0,
                remote_id: Some("5d1c".into()),
                lost: 0,
                moved_to: None,
                declared: crate::job::Declared::default(),
                changed_from: None,
            }],
        }
    }

    fn written(entries: Vec<EntryResult>, extra: u64, problems: Option<&[Problem]>) -> String {
        let mut counts = Counts::default();
        entries.iter().for_each(|entry| counts.add(EntryStatus::of(entry.state), 1));
        counts.entries += extra;
        let moments = (Timestamp(1_795_378_504_000), Timestamp(1_795_378_509_000));
        let header = ReceiptHeader::new(
            ("partner-a", Some("5f")),
            ("batch-7.manifest.json", Sha256([1; 32])),
            moments,
            counts,
            problems,
        );
        let mut out = Vec::new();
        let mut writer = ReceiptWriter::begin(&mut out, &header).unwrap();
        entries.into_iter().for_each(|entry| writer.entry(&entry.into()).unwrap());
        writer.end().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_receipt_has_the_promised_form() {
        let text = written(vec![entry(0, Some(JobState::Done)), entry(1, None)], 0, None);
        let receipt: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(receipt["version"], 1);
        assert_eq!(receipt["manifest"], "batch-7.manifest.json");
        assert_eq!(receipt["drop"], "partner-a");
        assert_eq!(receipt["account"], "5f");
        assert_eq!(receipt["status"], "partial");
        assert_eq!(receipt["received_at"], "2026-11-22T20:15:04Z");
        assert_eq!(receipt["counts"]["entries"], 2);
        let good = &receipt["entries"][0];
        assert_eq!(good["status"], "created");
        assert_eq!(good["document_id"], "9a92b3c5");
        assert_eq!((&good["category"], &good["document_type"]), (&"PROOF_OF_IDENTITY".into(), &"PASSPORT".into()));
        assert_eq!(good["content"], "2:00ff");
        assert_eq!(good["images"][0]["image_type"], "FRONT");
        assert_eq!(good["images"][0]["image_id"], "5d1c");
        assert_eq!(good["images"][0]["bytes"], 81_234);
        assert!(good.get("errors").is_none());
        let bad = &receipt["entries"][1];
        assert_eq!(bad["status"], "invalid");
        assert!(bad.get("category").is_none());
        assert_eq!(bad["errors"][0]["path"], "17/front.jpg");
        assert_eq!(bad["errors"][0]["cure"], "drop it again");
    }

    #[test]
    fn a_manifest_that_is_unusable_says_why_at_the_top() {
        let problems = [Problem::error("not JSON: expected value at line 1 column 1", "send valid JSON")];
        let text = written(Vec::new(), 0, Some(&problems));
        let receipt: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(receipt["status"], "rejected");
        assert_eq!(receipt["entries"], serde_json::json!([]));
        assert_eq!(receipt["errors"][0]["cure"], "send valid JSON");
    }

    #[test]
    fn a_large_one_is_lines_with_the_header_first() {
        let text = written(vec![entry(0, Some(JobState::Done))], LARGE, None);
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].get("entries").is_none());
        assert_eq!(lines[1]["index"], 0);
        assert_eq!(name("a.manifest.csv", LARGE + 1), "a.manifest.csv.receipt.jsonl");
        assert_eq!(name("a.manifest.csv", LARGE), "a.manifest.csv.receipt.json");
    }

    #[test]
    fn receipts_are_known_by_their_names() {
        for name in ["a.manifest.json.receipt.json", "a.receipt.1.json", "a.csv.receipt.jsonl", "a.receipt.12.jsonl"] {
            assert!(is_named_so(name), "{name}");
        }
        for name in ["a.manifest.json", "receipt.json.tmp", "a.receipt.txt", "a.receipt.x.json", "a.waiting.txt"] {
            assert!(!is_named_so(name), "{name}");
        }
    }

    #[test]
    fn statuses_follow_from_the_counts() {
        let counts = |created, duplicate, failed| Counts {
            entries: created + duplicate + failed,
            created,
            duplicate,
            failed,
            ..Counts::default()
        };
        assert_eq!(counts(2, 1, 0).status(false), BatchStatus::Done);
        assert_eq!(counts(0, 1, 1).status(false), BatchStatus::Partial);
        assert_eq!(counts(0, 0, 1).status(false), BatchStatus::Failed);
        assert_eq!(counts(0, 0, 0).status(true), BatchStatus::Rejected);
    }
}
