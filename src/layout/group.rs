//! Records of one reference, of which one document is made.

use std::{io, ops::ControlFlow};

use super::{
    build::{EntryDraft, no_images},
    draft::{content_of, finish},
    finding::{FindingKind, LayoutError, RecordFinding},
    made::ProducedSink,
    plan::RecordKind,
    spill::{SpilledMap, digest},
    text::{natural, quoted},
};
use crate::{entry::ImageType, manifest::Scratch as _, queue::scratch::TemporaryStore};

/// The records of each reference, wherever they are in the list.
#[derive(Default)]
pub(super) struct Groups {
    store: TemporaryStore,
    /// The number of each reference's group, in the order of their first records.
    numbers: SpilledMap,
    groups: u64,
    records: u64,
}

impl Groups {
    pub(super) fn add(&mut self, draft: &EntryDraft) -> io::Result<()> {
        let key = digest(draft.reference.as_deref().unwrap_or_default().as_bytes());
        let number = match self.numbers.get(&key)? {
            Some(number) => number,
            None => {
                self.groups += 1;
                let number = self.groups.to_be_bytes().to_vec();
                self.numbers.put(&key, &number)?;
                number
            }
        };
        self.records += 1;
        let place = [number.as_slice(), &self.records.to_be_bytes()].concat();
        self.store.put(&place, &serde_json::to_vec(draft)?)
    }

    /// Hands on each group as one draft.
    pub(super) fn each(&self, by_type: bool, out: &mut ProducedSink<'_>) -> Result<(), LayoutError> {
        let mut group: Vec<EntryDraft> = Vec::new();
        let mut number = Vec::new();
        let mut failure = None;
        self.store.scan(b"", &mut |key, value| {
            let mut step = || -> Result<(), LayoutError> {
                let draft = serde_json::from_slice(value).map_err(io::Error::from)?;
                let own = key.get(..8).unwrap_or_default();
                if own != number {
                    if !group.is_empty() {
                        merge(std::mem::take(&mut group), by_type, out)?;
                    }
                    number = own.to_vec();
                }
                group.push(draft);
                Ok(())
            };
            match step() {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failure = Some(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        if let Some(failure) = failure {
            return Err(failure);
        }
        if group.is_empty() { Ok(()) } else { merge(group, by_type, out) }
    }
}

/// Makes one document of the records of a reference. One that is wrong spoils all: nothing can be deleted.
fn merge(group: Vec<EntryDraft>, by_type: bool, out: &mut ProducedSink<'_>) -> Result<(), LayoutError> {
    let mut contents = std::collections::HashSet::new();
    let mut records = group.into_iter();
    let Some(mut whole) = records.next() else { return Ok(()) };
    contents.insert(content_of(&whole));
    let mut sides: Vec<(ImageType, String)> = Vec::new();
    let side_of = |draft: &EntryDraft| {
        draft.images.iter().filter_map(|image| Some((image.image_type?, image.path.clone()))).collect::<Vec<_>>()
    };
    sides.extend(side_of(&whole));
    for mut record in records {
        if !contents.insert(content_of(&record)) {
            out.repeated(out.next, &record)?;
            continue;
        }
        for (field, differs) in differences(&whole, &record) {
            if differs {
                let reason = format!("records of one reference have two values of {field}");
                let cure = "correct the list: one reference is one document";
                record.wrong(RecordFinding::error(FindingKind::Conflict, reason, cure).field(field));
            }
        }
        for (side, path) in side_of(&record) {
            if let Some((_, other)) = sides.iter().find(|(own, other)| *own == side && *other != path) {
                let reason = format!(
                    "two images of one document are its {}: {} and {}",
                    side.as_str(),
                    quoted(other),
                    quoted(&path)
                );
                let cure = "find out which one belongs to it; two documents need two references";
                let finding = RecordFinding::error(FindingKind::SameSideTwice, reason, cure).field("image_type");
                record.wrong(finding.path(path.clone()).value(side.as_str()));
            }
            sides.push((side, path));
        }
        whole.images.extend(record.images);
        whole.findings.extend(record.findings);
        whole.profile_id = whole.profile_id.or(record.profile_id);
        whole.kind = whole.kind.or(record.kind);
        whole.page_count = whole.page_count.or(record.page_count);
        whole.name = whole.name.or(record.name);
        whole.extracted_data = whole.extracted_data.or(record.extracted_data);
    }
    if by_type {
        let rank = |image_type: Option<ImageType>| match image_type {
            Some(ImageType::Front) => 0,
            Some(ImageType::Back) => 1,
            Some(ImageType::Face) => 2,
            None => 3,
        };
        whole.images.sort_by(|one, other| {
            rank(one.image_type).cmp(&rank(other.image_type)).then_with(|| natural(&one.path, &other.path))
        });
    }
    if whole.images.is_empty() && whole.findings.is_empty() {
        whole.wrong(no_images(None));
    }
    out.draft(finish(whole))
}

/// What must be the same in all records of a reference.
fn differences(one: &EntryDraft, other: &EntryDraft) -> [(&'static str, bool); 6] {
    fn differ<T: PartialEq>(one: Option<&T>, other: Option<&T>) -> bool {
        matches!((one, other), (Some(one), Some(other)) if one != other)
    }
    let category = |draft: &EntryDraft| match &draft.kind {
        Some(RecordKind::Document { category, .. }) => Some(category.clone()),
        _ => None,
    };
    let categories = differ(category(one).as_ref(), category(other).as_ref());
    [
        ("profile_id", differ(one.profile_id.as_ref(), other.profile_id.as_ref())),
        ("category", categories),
        ("document_type", !categories && differ(one.kind.as_ref(), other.kind.as_ref())),
        ("page_count", differ(one.page_count.as_ref(), other.page_count.as_ref())),
        ("name", one.kind == Some(RecordKind::File) && differ(one.name.as_ref(), other.name.as_ref())),
        ("extracted_data", differ(one.extracted_data.as_ref(), other.extracted_data.as_ref())),
    ]
}
