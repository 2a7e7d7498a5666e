//! An archive by its layout: entries, and what is wrong, in one pass over its records.

use std::{fs::File, io, ops::ControlFlow, path::PathBuf};

use serde_json::{Value, json};

use super::{
    archive::ArchiveFolder,
    build::{DraftBuilder, DraftImage, EntryDraft, no_images, own_name},
    finding::{FindingKind, LayoutError, RecordFinding, Weight},
    form::{RecordToml, UnlistedToml},
    lookup::{Lookups, is_lookup},
    plan::{ArchiveLayout, FilesOf, RecordKind, RecordSource},
    record::Record,
    sources,
    spill::{SpilledMap, digest},
    text::{natural, quoted},
};
use crate::{
    entry::{EntryKind, EntrySource, ImageType},
    inbox::beneath::Root,
    manifest::Scratch as _,
    near_path::taken_by_near,
    problem::Problem,
    queue::scratch::TemporaryStore,
    relative_path::{join, split},
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

/// An archive and the layout that it is read by.
#[derive(Debug)]
pub struct ArchiveTarget {
    /// The archive's folder, without links.
    pub root: PathBuf,
    /// The list, where it was named itself, from the folder.
    pub list: Option<String>,
}

impl ArchiveTarget {
    /// The archive at a path: its folder, or its list. `root` is the folder where it is not the list's own.
    ///
    /// # Errors
    ///
    /// Where there is nothing, or the list is not in the folder.
    pub fn find(path: &std::path::Path, root: Option<&std::path::Path>) -> Result<Self, LayoutError> {
        let real = |path: &std::path::Path| path.canonicalize().map_err(LayoutError::io(path.display().to_string()));
        let found = real(path)?;
        if found.is_dir() {
            if let Some(root) = root {
                let cure = "name the list itself, or leave --root out";
                return Err(LayoutError::wrong(format!("--root {}", root.display()), "the archive is a folder", cure));
            }
            return Ok(Self { root: found, list: None });
        }
        let root = match root {
            Some(root) => real(root)?,
            None => found.parent().map(std::path::Path::to_owned).unwrap_or_default(),
        };
        let list = found.strip_prefix(&root).ok().and_then(std::path::Path::to_str).map(str::to_owned);
        let list = list.ok_or_else(|| {
            LayoutError::wrong(path.display().to_string(), "the list is not in the archive's folder", "correct --root")
        })?;
        Ok(Self { root, list: Some(list) })
    }
}

impl ArchiveLayout {
    /// Whether it reads one list.
    #[must_use]
    pub const fn has_list(&self) -> bool {
        sources::has_list(self)
    }

    /// Whether letter case and Unicode normal form do not count in paths.
    #[must_use]
    pub const fn is_loose(&self) -> bool {
        self.loose
    }

    /// Why it cannot read the lists of a drop, if so. A list has to name each of its files, since nothing else says when all
    /// of them have come.
    #[must_use]
    pub fn refusal_in_drops(&self, xlsx: bool) -> Option<(&'static str, &'static str)> {
        let one_list = "use a layout whose [source] is csv, ndjson or json; archives without a list are for `import`";
        if !sources::has_list(self) {
            return Some(("it reads no list, and nothing says when a folder is complete", one_list));
        }
        if !xlsx && matches!(&self.source, RecordSource::Table { form, .. } if form.sheet.is_some()) {
            return Some(("it reads xlsx", "set xlsx = true under [drop.layout], or have the list sent as CSV"));
        }
        let folder = self.images.iter().any(|image| matches!(image.files, FilesOf::Folder(_)));
        let cure = "have each file named in the list, as images = [{ path = \"{File}\" }]";
        folder.then_some(("it takes what is in a folder, and nothing says when that is complete", cure))
    }

    /// The files of its lookups.
    pub fn lookup_files(&self) -> impl Iterator<Item = &std::path::Path> {
        self.lookups.iter().map(|lookup| lookup.file.as_path())
    }

    /// What the archive is called in receipts: its list, or the layout where there is none.
    #[must_use]
    pub fn list_of(&self, target: &ArchiveTarget) -> Option<String> {
        if !sources::has_list(self) {
            return None;
        }
        target.list.clone().or_else(|| sources::list_name(self).map(str::to_owned))
    }
}

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
    produce_from(layout, &archive, &lookups, (target.list.as_deref(), Some(target)), each)
}

/// Reads a list by itself: nothing beside it is looked at, and the files that it names may be missing.
pub(super) fn produce_list(
    layout: &ArchiveLayout,
    lookups: &Lookups,
    (name, list): (&str, &File),
    each: &mut dyn FnMut(Produced) -> Result<(), LayoutError>,
) -> Result<LayoutCounts, LayoutError> {
    let archive = ArchiveFolder::of_list(list, &layout.ignore);
    produce_from(layout, &archive, lookups, (Some(name), None), each)
}

/// Reads an archive's records; `target` is where its other files are named.
fn produce_from(
    layout: &ArchiveLayout,
    archive: &ArchiveFolder<'_>,
    lookups: &Lookups,
    (list, target): (Option<&str>, Option<&ArchiveTarget>),
    each: &mut dyn FnMut(Produced) -> Result<(), LayoutError>,
) -> Result<LayoutCounts, LayoutError> {
    let mut builder = DraftBuilder { layout, archive, lookups, named: Default::default() };
    let mut out = ProducedSink { each, counts: LayoutCounts::default(), next: 0 };
    let mut groups = Groups::default();
    let mut seen = SpilledMap::default();
    sources::read(layout, archive, list, &mut |read| {
        out.counts.records += 1;
        let mut record = match read {
            Ok(record) => record,
            Err(finding) => return out.bad(finding),
        };
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

/// Hands on what is made, and counts it.
struct ProducedSink<'a> {
    each: &'a mut dyn FnMut(Produced) -> Result<(), LayoutError>,
    counts: LayoutCounts,
    /// The place of the next entry among all, with those that are not made.
    next: u64,
}

impl ProducedSink<'_> {
    fn remark(&mut self, finding: RecordFinding) -> Result<(), LayoutError> {
        self.counts.warnings += u64::from(finding.severity == Weight::Warning);
        (self.each)(Produced::Remark(finding))
    }

    fn repeated(&mut self, index: u64, draft: &EntryDraft) -> Result<(), LayoutError> {
        self.counts.warnings += 1;
        (self.each)(Produced::Repeated { index, finding: duplicate(draft) })
    }

    fn left_out(&mut self, builder: &mut DraftBuilder<'_>, record: &mut Record) -> Result<(), LayoutError> {
        self.counts.left_out += 1;
        builder.note_files(record)?;
        self.remark(RecordFinding::note(FindingKind::Filtered, "left out by the layout").at(&record.source))
    }

    fn bad(&mut self, finding: RecordFinding) -> Result<(), LayoutError> {
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
    fn is_again(&mut self, draft: &EntryDraft, seen: &mut SpilledMap) -> Result<bool, LayoutError> {
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

    fn draft(&mut self, draft: EntryDraft) -> Result<(), LayoutError> {
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

/// The files of a draft that have other names than its record gives them.
fn near_paths(draft: &EntryDraft, kind: EntryKind) -> Vec<Problem> {
    let near = draft.images.iter().enumerate().filter_map(|(at, image)| Some((at, image, image.written.as_ref()?)));
    let field = |at: usize| match kind {
        EntryKind::Document => format!("images[{at}].path"),
        EntryKind::File => "path".to_owned(),
    };
    near.map(|(at, image, written)| taken_by_near(written, &image.path, &field(at))).collect()
}

/// What a draft asks for, to compare it with another.
fn content_of(draft: &EntryDraft) -> Vec<u8> {
    // How a path was written makes no difference.
    let images: Vec<_> =
        draft.images.iter().map(|image| (&image.path, image.image_type, &image.sha256, image.bytes)).collect();
    let findings: Vec<_> = draft.findings.iter().map(|finding| (finding.kind, &finding.value, &finding.path)).collect();
    let content =
        json!([draft.profile_id, draft.kind, images, draft.page_count, draft.name, draft.extracted_data, findings]);
    digest(content.to_string().as_bytes()).to_vec()
}

fn duplicate(draft: &EntryDraft) -> RecordFinding {
    let reason = "the same record was there before; it makes nothing new";
    let mut finding =
        RecordFinding::warning(FindingKind::DuplicateRecord, reason, "nothing need be done").at(&draft.place());
    finding.reference.clone_from(&draft.reference);
    finding
}

/// The entry as a line of a manifest.
pub(super) fn line_of(draft: &EntryDraft) -> Option<String> {
    let (profile, kind) = (draft.profile_id.as_ref()?, draft.kind.as_ref()?);
    let mut entry = serde_json::Map::new();
    entry.insert("profile_id".into(), json!(profile));
    if let Some(reference) = &draft.reference {
        entry.insert("reference".into(), json!(reference));
    }
    let declared = |image: &DraftImage, object: &mut serde_json::Map<String, Value>| {
        if let Some(sha256) = &image.sha256 {
            object.insert("sha256".into(), json!(sha256));
        }
        if let Some(bytes) = image.bytes {
            object.insert("bytes".into(), json!(bytes));
        }
    };
    match kind {
        RecordKind::Document { category, document_type, .. } => {
            entry.insert("category".into(), json!(category));
            entry.insert("document_type".into(), json!(document_type));
            let images = draft.images.iter().map(|image| {
                let mut object = serde_json::Map::new();
                object.insert("path".into(), json!(image.path));
                if let Some(image_type) = image.image_type {
                    object.insert("image_type".into(), json!(image_type));
                }
                declared(image, &mut object);
                Value::Object(object)
            });
            entry.insert("images".into(), Value::Array(images.collect()));
        }
        RecordKind::File | RecordKind::Skip => {
            let image = draft.images.first()?;
            entry.insert("path".into(), json!(image.path));
            entry.insert("name".into(), json!(draft.name.as_deref().unwrap_or_else(|| own_name(&image.path))));
            declared(image, &mut entry);
        }
    }
    let mut line = Value::Object(entry).to_string();
    // Its numbers keep their digits.
    if let (Some(data), RecordKind::Document { .. }) = (&draft.extracted_data, kind) {
        line.pop();
        line.push_str(&format!(",\"extracted_data\":{data}}}"));
    }
    Some(line)
}

/// What only all images of a document show.
pub(super) fn finish(mut draft: EntryDraft) -> EntryDraft {
    let count = draft.images.len();
    // What is wrong with an image is said already.
    let images_are_known = !draft
        .findings
        .iter()
        .any(|finding| matches!(finding.field.as_deref(), Some("images" | "path" | "image_type")));
    if !images_are_known {
        return draft;
    }
    if let Some(pages) = draft.page_count
        && pages != count as u64
    {
        let reason = format!("the list says {pages} pages, and there are {count}");
        let cure = "put the missing pages there, or correct the number in the list";
        draft.wrong(
            RecordFinding::error(FindingKind::PageCount, reason, cure).field("page_count").value(pages.to_string()),
        );
    }
    match draft.kind.clone() {
        Some(RecordKind::Document { image_types: Some(types), .. }) => {
            if count > types.len() {
                let reason = format!("there are {count} images, and its kind has {}", types.len());
                let cure = "remove what does not belong to it, or add to image_types of the kind";
                draft.wrong(RecordFinding::error(FindingKind::TooManyImages, reason, cure).field("images"));
            }
            for (image, by_order) in draft.images.iter_mut().zip(types) {
                image.image_type = image.image_type.or(Some(by_order));
            }
        }
        Some(RecordKind::File) => {
            draft.images.iter_mut().for_each(|image| image.image_type = None);
            if count > 1 {
                let reason = format!("a file is one, and there are {count}");
                let cure = "give each its own reference, or make a document of them in [kinds]";
                draft.wrong(RecordFinding::error(FindingKind::TooManyImages, reason, cure).field("images"));
            }
        }
        _ => {}
    }
    draft
}

/// The records of each reference, wherever they are in the list.
#[derive(Default)]
struct Groups {
    store: TemporaryStore,
    /// The number of each reference's group, in the order of their first records.
    numbers: SpilledMap,
    groups: u64,
    records: u64,
}

impl Groups {
    fn add(&mut self, draft: &EntryDraft) -> io::Result<()> {
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
    fn each(&self, by_type: bool, out: &mut ProducedSink<'_>) -> Result<(), LayoutError> {
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
