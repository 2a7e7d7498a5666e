//! Single records beside the entries that a layout makes of them.

use std::collections::HashSet;

use super::{
    archive::ArchiveFolder,
    build::DraftBuilder,
    draft::{finish, line_of},
    finding::{LayoutError, RecordFinding},
    lookup::Lookups,
    node::TreeNode,
    plan::ArchiveLayout,
    record::Record,
    sources,
    spill::TextSet,
    target::ArchiveTarget,
};
use crate::inbox::beneath::Root;

/// Which records are tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WhichRecords {
    /// The first ones.
    First(u64),
    /// That of this row.
    Row(u64),
    /// That of this sidecar or file.
    File(String),
}

/// A record, and what becomes of it alone.
#[derive(Debug)]
pub struct RecordTrial {
    /// Where it is.
    pub place: String,
    /// Names with values.
    pub values: Vec<(String, String)>,
    pub outcome: TrialOutcome,
}

/// What becomes of a record.
#[derive(Debug)]
pub enum TrialOutcome {
    /// The line of a manifest.
    Entry(String),
    LeftOut,
    /// All that is wrong.
    Wrong(Vec<RecordFinding>),
}

/// Tries records, one at a time.
///
/// # Errors
///
/// Where the layout does not fit the archive, or something cannot be read.
pub fn try_records(
    layout: &ArchiveLayout,
    target: &ArchiveTarget,
    root: &Root,
    which: &WhichRecords,
    each: &mut dyn FnMut(RecordTrial) -> Result<(), LayoutError>,
) -> Result<u64, LayoutError> {
    let archive = ArchiveFolder::new(root, layout.loose, &layout.ignore);
    let lookups = Lookups::load(&layout.lookups)?;
    let mut builder = DraftBuilder { layout, archive: &archive, lookups: &lookups, named: TextSet::default() };
    let mut count = 0;
    let read = sources::read(layout, &archive, target.list.as_deref(), &mut |read| {
        let (row, file) = match &read {
            Ok(record) => (record.source.row, Some(record.source.file.clone())),
            Err(finding) => (finding.row, finding.source.clone()),
        };
        match which {
            WhichRecords::First(most) if count >= *most => return Err(LayoutError::Stopped),
            WhichRecords::Row(wanted) if row > Some(*wanted) && file.is_some() => return Err(LayoutError::Stopped),
            WhichRecords::Row(wanted) if row != Some(*wanted) => return Ok(()),
            WhichRecords::File(wanted) if file.as_ref() != Some(wanted) => return Ok(()),
            _ => {}
        }
        count += 1;
        each(match read {
            Ok(mut record) => trial(&mut builder, &mut record)?,
            Err(finding) => {
                RecordTrial { place: finding.place(), values: Vec::new(), outcome: TrialOutcome::Wrong(vec![finding]) }
            }
        })
    });
    match read {
        Ok(()) | Err(LayoutError::Stopped) => Ok(count),
        Err(error) => Err(error),
    }
}

fn trial(builder: &mut DraftBuilder<'_>, record: &mut Record) -> Result<RecordTrial, LayoutError> {
    let place = match record.source.row {
        Some(row) => format!("{}, row {row}", record.source.file),
        None => record.source.file.clone(),
    };
    let wrong = match builder.counts(record) {
        Ok(true) => Vec::new(),
        Ok(false) => return Ok(RecordTrial { place, values: values_of(record), outcome: TrialOutcome::LeftOut }),
        Err(wrong) => wrong,
    };
    let values = values_of(record);
    let draft = builder.draft(record, wrong)?;
    if draft.is_skipped() {
        return Ok(RecordTrial { place, values, outcome: TrialOutcome::LeftOut });
    }
    let draft = finish(draft);
    let outcome = match line_of(&draft) {
        Some(line) if draft.findings.is_empty() => TrialOutcome::Entry(line),
        _ => TrialOutcome::Wrong(draft.findings),
    };
    Ok(RecordTrial { place, values, outcome })
}

/// The names of a record with their values, each once.
fn values_of(record: &Record) -> Vec<(String, String)> {
    let mut values = Vec::new();
    if let Some(columns) = &record.columns {
        let numbers = super::table::numbered(record.cells.len());
        let names = if columns.names.is_empty() { &numbers } else { &columns.names };
        let cell = |at: usize| record.cells.get(at).cloned().unwrap_or_default();
        values.extend(names.iter().enumerate().map(|(at, name)| (name.clone(), cell(at))));
    }
    if let Some(tree) = &record.tree {
        let mut names = Vec::new();
        tree.names("", &mut names);
        for name in names {
            let found = tree.all(&name);
            let text = match found.as_slice() {
                [one] => match one {
                    TreeNode::Object(_) => one.text(),
                    TreeNode::List(items) => Some(format!("a list of {}", items.len()).into()),
                    one => one.text(),
                },
                _ => None,
            };
            if let Some(text) = text {
                values.push((name, text.into_owned()));
            }
        }
    }
    values.extend(record.extras.iter().cloned());
    let mut seen = HashSet::new();
    values.retain(|(name, _)| seen.insert(name.clone()));
    values
}
