//! What is made of an archive's records, as it is handed on and counted.

use super::{
    build::{DraftBuilder, EntryDraft},
    draft::{content_of, duplicate, line_of, near_paths},
    finding::{FindingKind, LayoutError, RecordFinding, Weight},
    plan::RecordKind,
    record::Record,
    spill::{SpilledMap, digest},
    text::quoted,
};
use crate::{
    entry::{EntryKind, EntrySource},
    problem::Problem,
};

/// What a layout makes of records.
#[derive(Debug)]
pub enum Produced {
    /// An entry, in the form of a JSON Lines manifest.
    Entry { source: EntrySource, line: String, warnings: Vec<Problem> },
    /// Records of which no entry is made.
    Invalid(InvalidRecord),
    /// A warning or a note, which concerns no entry.
    Remark(RecordFinding),
    /// A record that was there before; `index` is the place of its entry among all, with those that are not made.
    Repeated { index: u64, finding: RecordFinding },
}

/// Records of which no entry is made.
#[derive(Debug)]
pub struct InvalidRecord {
    pub source: EntrySource,
    pub kind: EntryKind,
    pub reference: Option<String>,
    pub profile_id: Option<String>,
    pub paths: Vec<String>,
    pub findings: Vec<RecordFinding>,
}

/// What a layout made of an archive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LayoutCounts {
    pub records: u64,
    /// Records that `[only]`, `[skip]` or a kind leaves out.
    pub left_out: u64,
    pub documents: u64,
    pub images: u64,
    pub files: u64,
    /// Entries that are not made, because something is wrong.
    pub invalid: u64,
    pub warnings: u64,
    /// Files that are no pictures and that no record names.
    pub other_files: u64,
}

/// Hands on what is made, and counts it.
pub(super) struct ProducedSink<'a> {
    pub(super) each: &'a mut dyn FnMut(Produced) -> Result<(), LayoutError>,
    pub(super) counts: LayoutCounts,
    /// The place of the next entry among all, with those that are not made.
    pub(super) next: u64,
}

impl ProducedSink<'_> {
    pub(super) fn remark(&mut self, finding: RecordFinding) -> Result<(), LayoutError> {
        self.counts.warnings += u64::from(finding.severity == Weight::Warning);
        (self.each)(Produced::Remark(finding))
    }

    pub(super) fn repeated(&mut self, index: u64, draft: &EntryDraft) -> Result<(), LayoutError> {
        self.counts.warnings += 1;
        (self.each)(Produced::Repeated { index, finding: duplicate(draft) })
    }

    pub(super) fn left_out(&mut self, builder: &mut DraftBuilder<'_>, record: &mut Record) -> Result<(), LayoutError> {
        self.counts.left_out += 1;
        builder.note_files(record)?;
        self.remark(RecordFinding::note(FindingKind::Filtered, "left out by the layout").at(&record.source))
    }

    pub(super) fn bad(&mut self, finding: RecordFinding) -> Result<(), LayoutError> {
        self.counts.invalid += 1;
        self.next += 1;
        let file = finding.source.clone().or_else(|| finding.path.clone()).unwrap_or_default();
        (self.each)(Produced::Invalid(InvalidRecord {
            source: EntrySource { file, row: finding.row, is_file: false },
            kind: EntryKind::File,
            reference: None,
            profile_id: None,
            paths: Vec::new(),
            findings: vec![finding],
        }))
    }

    /// Whether a record of this reference was there before: the same again makes nothing new, another is a conflict.
    pub(super) fn is_again(&mut self, draft: &EntryDraft, seen: &mut SpilledMap) -> Result<bool, LayoutError> {
        let Some(reference) = &draft.reference else { return Ok(false) };
        let key = digest(reference.as_bytes());
        let content = content_of(draft);
        let Some(before) = seen.get(&key)? else {
            seen.put(&key, &[content.as_slice(), &self.next.to_be_bytes()].concat())?;
            return Ok(false);
        };
        if let Some(index) = before.strip_prefix(content.as_slice()) {
            self.repeated(index.try_into().map_or(0, u64::from_be_bytes), draft)?;
            return Ok(true);
        }
        let cure = "nobody can say whether it is a correction: keep one of the two records";
        let reason = format!("another record of {} was there before, and asks for something else", quoted(reference));
        let mut draft = draft.clone();
        draft.findings.clear();
        draft.wrong(
            RecordFinding::error(FindingKind::Conflict, reason, cure).field("reference").value(reference.clone()),
        );
        self.draft(draft)?;
        Ok(true)
    }

    pub(super) fn draft(&mut self, draft: EntryDraft) -> Result<(), LayoutError> {
        self.next += 1;
        let kind = match draft.kind {
            Some(RecordKind::Document { .. }) | None => EntryKind::Document,
            Some(RecordKind::File | RecordKind::Skip) => EntryKind::File,
        };
        match line_of(&draft) {
            Some(line) if draft.findings.is_empty() => {
                match kind {
                    EntryKind::Document => {
                        self.counts.documents += 1;
                        self.counts.images += draft.images.len() as u64;
                    }
                    EntryKind::File => self.counts.files += 1,
                }
                let warnings = near_paths(&draft, kind);
                (self.each)(Produced::Entry { source: draft.source, line, warnings })
            }
            _ => {
                self.counts.invalid += 1;
                (self.each)(Produced::Invalid(InvalidRecord {
                    source: draft.source,
                    kind,
                    reference: draft.reference,
                    profile_id: draft.profile_id,
                    paths: draft.images.into_iter().map(|image| image.path).collect(),
                    findings: draft.findings,
                }))
            }
        }
    }
}
