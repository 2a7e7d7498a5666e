//! What a layout makes of an archive, kept in a temporary file without a name until it is admitted or checked.

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
};

use sha2::Digest as _;

use super::{
    finding::{FindingKind, LayoutError, RecordFinding},
    lookup::FreshLookups,
    made::{LayoutCounts, Produced},
    plan::ArchiveLayout,
    produce::{produce, produce_list},
    spill::SpilledMap,
    target::ArchiveTarget,
    temporary::temporary,
};
use crate::{
    entry::Sha256,
    inbox::beneath::Root,
    manifest::staged::{StagedInvalid, entry_line, invalid_line},
    problem::Problem,
    warning_kind::WarningKind,
};

/// A manifest that a layout made.
#[derive(Debug)]
pub struct Staged {
    /// Its lines: see `manifest::staged`.
    pub file: File,
    /// Their digest.
    pub sha256: Sha256,
    pub counts: LayoutCounts,
    pub warnings: ArchiveWarnings,
}

/// What is probably not meant about an archive's own list, or about entries of it.
#[derive(Debug, Default)]
pub struct ArchiveWarnings {
    pub list: Vec<Problem>,
    pub repeats: RepeatedRecords,
}

/// Which entries an archive has the record of more than once.
#[derive(Debug, Default)]
pub struct RepeatedRecords {
    /// How often each is there again, and in which row first.
    entries: SpilledMap,
    any: bool,
}

impl RepeatedRecords {
    fn add(&mut self, index: u64, row: Option<u64>) -> io::Result<()> {
        let (times, first) = self.of(index)?.unwrap_or((0, row.unwrap_or_default()));
        self.any = true;
        self.entries.put(&index.to_be_bytes(), &[(times + 1).to_be_bytes(), first.to_be_bytes()].concat())
    }

    fn of(&self, index: u64) -> io::Result<Option<(u64, u64)>> {
        if !self.any {
            return Ok(None);
        }
        let kept = self.entries.get(&index.to_be_bytes())?;
        let number = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_be_bytes);
        Ok(kept
            .as_deref()
            .and_then(|kept| kept.split_at_checked(8))
            .map(|(times, first)| (number(times), number(first))))
    }

    /// The warning about the entry in this place, if its record is there again.
    ///
    /// # Errors
    ///
    /// Where the temporary file cannot be read.
    pub fn warning(&self, index: u64) -> io::Result<Option<Problem>> {
        let Some((times, first)) = self.of(index)? else { return Ok(None) };
        let mut reason = "the same record is there again".to_owned();
        if first > 0 {
            reason.push_str(&format!(", in row {first}"));
        }
        if times > 1 {
            reason.push_str(&format!(", {times} times in all"));
        }
        let cure = "remove it from the list, unless it was meant to be another one: it makes nothing new";
        Ok(Some(Problem::warning_of(WarningKind::DuplicateRecord, reason, cure)))
    }
}

/// Reads a list by itself, and keeps its entries, also those that are not made. The files that it names may be missing.
///
/// # Errors
///
/// Outside, where lookups cannot be used; inside, where the list cannot.
pub fn stage_list(
    layout: &ArchiveLayout,
    lookups: &mut FreshLookups,
    list: (&str, &File),
) -> Result<Result<Staged, LayoutError>, LayoutError> {
    let lookups = lookups.now(&layout.lookups)?;
    Ok(stage_by(true, &mut |_| Ok(()), &mut |each| produce_list(layout, lookups, list, each)))
}

/// Reads the lookups of a layout.
///
/// # Errors
///
/// Where one cannot be used.
pub fn load_lookups(layout: &ArchiveLayout, lookups: &mut FreshLookups) -> Result<(), LayoutError> {
    lookups.now(&layout.lookups).map(|_| ())
}

/// Reads an archive, and keeps its entries. `remark` takes what is wrong; with `invalid`, entries that are not made are
/// kept too.
///
/// # Errors
///
/// Where the layout does not fit the archive, or something cannot be read or written.
pub fn stage(
    layout: &ArchiveLayout,
    target: &ArchiveTarget,
    root: &Root,
    invalid: bool,
    remark: &mut dyn FnMut(&RecordFinding) -> Result<(), LayoutError>,
) -> Result<Staged, LayoutError> {
    stage_by(invalid, remark, &mut |each| produce(layout, target, root, each))
}

/// Takes what is made.
type MadeSink<'a> = dyn FnMut(Produced) -> Result<(), LayoutError> + 'a;

fn stage_by(
    invalid: bool,
    remark: &mut dyn FnMut(&RecordFinding) -> Result<(), LayoutError>,
    produce: &mut dyn FnMut(&mut MadeSink<'_>) -> Result<LayoutCounts, LayoutError>,
) -> Result<Staged, LayoutError> {
    let file = temporary().map_err(LayoutError::io("the temporary file"))?;
    let mut out = BufWriter::with_capacity(1 << 18, &file);
    let mut digest = sha2::Sha256::new();
    let mut put = |line: String| {
        digest.update(line.as_bytes());
        out.write_all(line.as_bytes())
    };
    let mut warnings = ArchiveWarnings::default();
    let counts = produce(&mut |made| {
        match made {
            Produced::Entry { source, line, warnings } => put(entry_line(&source, &line, &warnings))?,
            Produced::Remark(finding) => {
                remark(&finding)?;
                if finding.kind == FindingKind::RowLimit {
                    warnings.list.push(Problem::warning_of(WarningKind::RowLimit, finding.reason, finding.cure));
                }
            }
            Produced::Repeated { index, finding } => {
                remark(&finding)?;
                // Else they have other places.
                if invalid {
                    warnings.repeats.add(index, finding.row)?;
                }
            }
            Produced::Invalid(record) => {
                record.findings.iter().try_for_each(&mut *remark)?;
                if invalid {
                    let problems = record.findings.iter().map(RecordFinding::problem).collect();
                    let (kind, reference, profile_id, paths) =
                        (record.kind, record.reference, record.profile_id, record.paths);
                    put(invalid_line(&record.source, StagedInvalid { kind, reference, profile_id, paths, problems }))?;
                }
            }
        }
        Ok(())
    })?;
    out.flush()?;
    drop(out);
    io::Seek::rewind(&mut &file)?;
    Ok(Staged { file, sha256: Sha256(digest.finalize().into()), counts, warnings })
}
