//! An archive by its layout: entries, and what is wrong, in one pass over its records.

use std::{
    io::{Read, Seek},
    ops::ControlFlow,
};

use super::{
    archive::ArchiveFolder,
    build::DraftBuilder,
    draft::finish,
    finding::{FindingKind, LayoutError, RecordFinding, Weight},
    form::{RecordToml, UnlistedToml},
    group::Groups,
    lookup::{Lookups, is_lookup},
    made::{LayoutCounts, Produced, ProducedSink},
    plan::{ArchiveLayout, RecordSource},
    sources::{self, EachRecord},
    spill::SpilledMap,
    target::ArchiveTarget,
    text::quoted,
};
use crate::{
    inbox::beneath::Root,
    relative_path::{join, split},
};

/// Reads an archive by its layout.
///
/// # Errors
///
/// Where the layout does not fit the archive, or something cannot be read; entries that were handed over by then must be
/// discarded.
pub fn produce(
    layout: &ArchiveLayout,
    target: &ArchiveTarget,
    root: &Root,
    each: &mut dyn FnMut(Produced) -> Result<(), LayoutError>,
) -> Result<LayoutCounts, LayoutError> {
    if target.list.is_some() && !sources::has_list(layout) {
        let cure = "give the archive's folder";
        return Err(LayoutError::wrong(layout.file.display().to_string(), "the layout reads no list", cure));
    }
    let archive = ArchiveFolder::new(root, layout.loose, &layout.ignore);
    let lookups = Lookups::load(&layout.lookups)?;
    let read = &mut |each: &mut EachRecord<'_>| sources::read(layout, &archive, target.list.as_deref(), each);
    produce_from(layout, &archive, &lookups, (Some(target), read), each)
}

/// Reads a list by itself: nothing beside it is looked at, and the files that it names may be missing.
pub(super) fn produce_list(
    layout: &ArchiveLayout,
    lookups: &Lookups,
    (name, mut list): (&str, impl Read + Seek),
    each: &mut dyn FnMut(Produced) -> Result<(), LayoutError>,
) -> Result<LayoutCounts, LayoutError> {
    let archive = ArchiveFolder::of_list(&layout.ignore);
    let read = &mut |each: &mut EachRecord<'_>| {
        list.rewind().map_err(LayoutError::io(name))?;
        sources::read_list(layout, name, &mut list, each)
    };
    produce_from(layout, &archive, lookups, (None, read), each)
}

/// Reads all records.
type ReadRecords<'a> = dyn FnMut(&mut EachRecord<'_>) -> Result<(), LayoutError> + 'a;

/// Makes entries of records; `target` is where the other files of an archive are named.
fn produce_from(
    layout: &ArchiveLayout,
    archive: &ArchiveFolder<'_>,
    lookups: &Lookups,
    (target, read): (Option<&ArchiveTarget>, &mut ReadRecords<'_>),
    each: &mut dyn FnMut(Produced) -> Result<(), LayoutError>,
) -> Result<LayoutCounts, LayoutError> {
    let mut builder = DraftBuilder { layout, archive, lookups, named: Default::default() };
    let mut out = ProducedSink { each, counts: LayoutCounts::default(), next: 0 };
    let mut groups = Groups::default();
    let mut seen = SpilledMap::default();
    read(&mut |read| {
        let mut record = match read {
            Err(finding) if finding.severity == Weight::Warning => return out.remark(finding),
            Err(finding) => {
                out.counts.records += 1;
                return out.bad(finding);
            }
            Ok(record) => record,
        };
        out.counts.records += 1;
        let wrong = match builder.counts(&mut record) {
            Ok(true) => Vec::new(),
            Ok(false) => return out.left_out(&mut builder, &mut record),
            Err(wrong) => wrong,
        };
        let draft = builder.draft(&mut record, wrong)?;
        if draft.is_skipped() {
            return out.left_out(&mut builder, &mut record);
        }
        match layout.record {
            RecordToml::Image if draft.reference.is_some() => Ok(groups.add(&draft)?),
            RecordToml::Image | RecordToml::Document => {
                let draft = finish(draft);
                if out.is_again(&draft, &mut seen)? { Ok(()) } else { out.draft(draft) }
            }
        }
    })?;
    if layout.record == RecordToml::Image {
        let by_type = matches!(layout.source, RecordSource::Files(_) | RecordSource::Sidecars { .. });
        groups.each(by_type, &mut out)?;
    }
    if let Some(target) = target {
        unlisted(layout, target, &builder, &mut out)?;
    }
    Ok(out.counts)
}

/// Reads the first record of an archive, to find out whether the layout fits at all.
///
/// # Errors
///
/// Where it does not, or something cannot be read.
pub fn probe(layout: &ArchiveLayout, target: &ArchiveTarget, root: &Root) -> Result<(), LayoutError> {
    let archive = ArchiveFolder::new(root, layout.loose, &layout.ignore);
    Lookups::load(&layout.lookups)?;
    match sources::read(layout, &archive, target.list.as_deref(), &mut |_| Err(LayoutError::Stopped)) {
        Err(LayoutError::Stopped) => Ok(()),
        read => read,
    }
}

/// Names the pictures that no record takes, and counts the other files.
fn unlisted(
    layout: &ArchiveLayout,
    target: &ArchiveTarget,
    builder: &DraftBuilder<'_>,
    out: &mut ProducedSink<'_>,
) -> Result<(), LayoutError> {
    if layout.unlisted == UnlistedToml::Ignore {
        return Ok(());
    }
    let archive = builder.archive;
    let list = layout.list_of(target);
    let own = layout.file.canonicalize().ok();
    archive.walk(&mut |path| {
        let is_sidecar = || matches!(&layout.source, RecordSource::Sidecars { pattern } if pattern.is_match(path));
        if list.as_deref() == Some(path) || builder.named.contains(path)? || is_sidecar() {
            return Ok(ControlFlow::Continue(()));
        }
        let full = target.root.join(path);
        if is_lookup(&layout.lookups, &full) || own.as_ref() == Some(&full) {
            return Ok(ControlFlow::Continue(()));
        }
        if !archive.is_picture(path) {
            out.counts.other_files += 1;
            let reason = "no record names the file, which is no picture";
            out.remark(RecordFinding::note(FindingKind::UnlistedFile, reason).path(path))?;
            return Ok(ControlFlow::Continue(()));
        }
        let (folder, name) = split(path);
        let cure = format!("to pass over such files, add to [ignore]:   files = [{}]", quoted(&join(folder, name)));
        let reason = match layout.source {
            RecordSource::Files(_) => "the picture fits no pattern, and is not sent",
            _ => "no record names the picture, and it is not sent",
        };
        let finding = RecordFinding::warning(FindingKind::UnlistedFile, reason, cure).path(path);
        if layout.unlisted == UnlistedToml::Problem {
            out.bad(RecordFinding { severity: Weight::Error, ..finding })?;
        } else {
            out.remark(finding)?;
        }
        Ok(ControlFlow::Continue(()))
    })
}
