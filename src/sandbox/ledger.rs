//! The ledger: one record a call, in the order in which the calls took effect.
//!
//! A record is made, and written to the ledger's file if there is one, before the answer goes out, so it is there even
//! if the sandbox or its client is killed then. It has hashes and ids, never a key and never content.
//!
//! In the file, `answered` says what the sandbox set out to do; in memory, it is taken back where the answer could not
//! be written.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    fs::{File, OpenOptions},
    io::{self, Write},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde::{Deserialize, Serialize};

use super::operation::ApiCall;

/// One call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// From 1, in the order in which the calls took effect.
    pub seq: u64,
    /// When the call took effect or was refused, in milliseconds since 1970.
    pub at_ms: i64,
    /// How long before that its head had arrived, in milliseconds.
    pub took_ms: u64,
    /// Which call it was.
    pub operation: ApiCall,
    /// The HTTP method.
    pub method: String,
    /// The profile that the path names.
    pub profile: Option<String>,
    /// Whether an accepted key came with it.
    pub key_ok: bool,
    /// How many bytes of its body were read.
    pub request_bytes: u64,
    /// The digest of the content that came, if it was read completely.
    pub sha256: Option<String>,
    /// The size of that content.
    pub bytes: Option<u64>,
    /// Its type by its first bytes: GIF, JPG, PNG, PDF, or TIFF.
    pub format: Option<String>,
    /// The request's field `image_type`.
    pub image_type: Option<String>,
    /// The request's field `name`.
    pub name: Option<String>,
    /// The request's field `category`.
    pub category: Option<String>,
    /// The request's field `document_type`.
    pub document_type: Option<String>,
    /// The ids in the request's field `images`.
    pub image_ids: Vec<String>,
    /// The status of the answer; none where there is no answer.
    pub status: Option<u16>,
    /// Whether the call created something.
    pub committed: bool,
    /// The id that the call created.
    pub id: Option<String>,
    /// The rule that made it go wrong, as written.
    pub fault: Option<String>,
    /// Whether the complete answer was handed to the client.
    pub answered: bool,
    /// Why it was refused, or what else is worth knowing.
    pub note: Option<String>,
}

/// What happened, in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LedgerSummary {
    /// By operation, then by status; `none` where there was no answer.
    pub calls: BTreeMap<String, BTreeMap<String, u64>>,
    /// Images that were uploaded.
    pub images: u64,
    /// Images that no document uses.
    pub orphans: u64,
    /// Documents that were created.
    pub documents: u64,
    /// Files that were uploaded.
    pub files: u64,
    /// Documents that came on top of one with the same profile, category, type, and contents of images.
    pub doubled: u64,
    /// Documents that came on top of one with the same set of image ids.
    pub doubled_ids: u64,
    /// Calls that their clients were turned away from, and that are still to take effect.
    #[serde(default)]
    pub deferred: u64,
}

impl fmt::Display for LedgerSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} documents ({} doubled), {} images ({} that no document uses), {} files",
            self.documents, self.doubled, self.images, self.orphans, self.files
        )?;
        for (operation, statuses) in &self.calls {
            let counts: Vec<String> = statuses.iter().map(|(status, count)| format!("{status}: {count}")).collect();
            writeln!(f, "  {operation:<18} {}", counts.join(", "))?;
        }
        Ok(())
    }
}

/// The records in memory and the file beside them.
#[derive(Debug)]
pub(super) struct Ledger {
    kept: VecDeque<(LedgerEntry, Arc<AtomicBool>)>,
    most_kept: usize,
    last_seq: u64,
    calls: BTreeMap<ApiCall, BTreeMap<Option<u16>, u64>>,
    file: Option<File>,
}

impl Ledger {
    /// Opens the file for appending.
    ///
    /// # Errors
    ///
    /// The file's, with its path.
    pub(super) fn open(path: Option<&Path>, most_kept: usize) -> io::Result<Self> {
        let file = path
            .map(|path| {
                OpenOptions::new().create(true).append(true).open(path).map_err(|error| {
                    io::Error::new(error.kind(), format!("cannot open the ledger '{}': {error}", path.display()))
                })
            })
            .transpose()?;
        Ok(Self { kept: VecDeque::new(), most_kept, last_seq: 0, calls: BTreeMap::new(), file })
    }

    /// Numbers a record, writes it, and keeps it; `entry.answered` says whether an answer is meant to go out.
    ///
    /// The flag that comes back is raised once the answer is handed over.
    pub(super) fn record(&mut self, mut entry: LedgerEntry) -> Arc<AtomicBool> {
        self.last_seq += 1;
        entry.seq = self.last_seq;
        *self.calls.entry(entry.operation).or_default().entry(entry.status).or_default() += 1;
        if let Some(file) = &mut self.file
            && let Err(error) = append(file, &entry)
        {
            tracing::error!(%error, seq = entry.seq, "cannot write to the sandbox's ledger");
        }
        let answered = Arc::new(AtomicBool::new(false));
        self.kept.push_back((entry, Arc::clone(&answered)));
        while self.kept.len() > self.most_kept {
            self.kept.pop_front();
        }
        answered
    }

    /// The records that are kept, the oldest first.
    pub(super) fn entries(&self) -> Vec<LedgerEntry> {
        self.kept
            .iter()
            .map(|(entry, answered)| LedgerEntry { answered: answered.load(Ordering::Acquire), ..entry.clone() })
            .collect()
    }

    /// How many calls there were, by operation, then by status.
    pub(super) fn calls(&self) -> BTreeMap<String, BTreeMap<String, u64>> {
        let word = |status: &Option<u16>| status.map_or_else(|| "none".to_owned(), |status| status.to_string());
        let calls = self.calls.iter().map(|(operation, statuses)| {
            (operation.to_string(), statuses.iter().map(|(status, count)| (word(status), *count)).collect())
        });
        calls.collect()
    }
}

/// Writes one line in a single call, so that a kill leaves complete lines.
fn append(file: &mut File, entry: &LedgerEntry) -> io::Result<()> {
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    file.write_all(&line)
}
