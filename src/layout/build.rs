//! From a record to what it asks for, or all that is wrong with it.

use serde::{Deserialize, Serialize};

use super::{
    archive::{ArchiveFolder, NearFile, PathRules, Placed, Resolved, folder_of},
    finding::{FindingKind, LayoutError, RecordFinding},
    lookup::Lookups,
    node::TreeNode,
    plan::{
        ArchiveLayout, Condition, ExtractedForm, FilesOf, ImageForm, KindForm, RecordKind, RecordSource, ValueTable,
        parse_kind, word,
    },
    record::{NestedItem, Record, text_of},
    spill::TextSet,
    template::{FilledTemplate, Found, SlotName, Template, Values},
    text::{fold, quoted, some_of},
};
use crate::{
    entry::{EntrySource, ImageType, ProfileId, Sha256},
    near_path,
    nearest::nearest,
    relative_path::{join, name},
};

/// What a record, or all records of one reference, ask for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct EntryDraft {
    pub(super) source: EntrySource,
    /// Whether it is a file of its own, and no row.
    pub(super) is_file: bool,
    pub(super) reference: Option<String>,
    pub(super) profile_id: Option<String>,
    pub(super) kind: Option<RecordKind>,
    pub(super) images: Vec<DraftImage>,
    pub(super) page_count: Option<u64>,
    pub(super) name: Option<String>,
    /// As JSON.
    pub(super) extracted_data: Option<String>,
    pub(super) findings: Vec<RecordFinding>,
}

/// A file of a draft.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DraftImage {
    pub(super) path: String,
    /// As its record gives it, where the file has another name.
    pub(super) written: Option<String>,
    pub(super) image_type: Option<ImageType>,
    pub(super) sha256: Option<String>,
    pub(super) bytes: Option<u64>,
}

impl EntryDraft {
    /// Notes what is wrong, with where.
    pub(super) fn wrong(&mut self, finding: RecordFinding) {
        let mut finding = finding.at(&self.place());
        finding.reference.clone_from(&self.reference);
        self.findings.push(finding);
    }

    pub(super) fn place(&self) -> EntrySource {
        EntrySource { is_file: self.is_file, ..self.source.clone() }
    }

    pub(super) fn is_skipped(&self) -> bool {
        self.kind == Some(RecordKind::Skip)
    }
}

/// Builds drafts from records.
pub(super) struct DraftBuilder<'a> {
    pub(super) layout: &'a ArchiveLayout,
    pub(super) archive: &'a ArchiveFolder<'a>,
    pub(super) lookups: &'a Lookups,
    /// Files that a record names, whatever becomes of it.
    pub(super) named: TextSet,
}

impl DraftBuilder<'_> {
    /// Takes values apart, and says whether the record counts.
    pub(super) fn counts(&self, record: &mut Record) -> Result<bool, Vec<RecordFinding>> {
        let mut wrong = Vec::new();
        let mut captured = Vec::new();
        for (name, pattern) in &self.layout.parts {
            let value = record.text(name);
            if value.trim().is_empty() {
                continue;
            }
            match pattern.fits(value.trim()) {
                Some(captures) => captured.extend(captures),
                None => {
                    let reason = format!("{} does not fit its pattern in [parts]", quoted(&name.text));
                    let cure = "correct the cell, or the pattern";
                    let finding = RecordFinding::error(FindingKind::InvalidValue, reason, cure);
                    wrong.push(finding.field(name.text.clone()).value(value));
                }
            }
        }
        captured.into_iter().for_each(|(name, value)| record.add(&name, value));
        let holds = |condition: &Condition| condition.holds(&record.text(&condition.name));
        if self.layout.skip.iter().any(holds) || !self.layout.only.iter().all(holds) {
            return Ok(false);
        }
        if wrong.is_empty() { Ok(true) } else { Err(wrong) }
    }

    /// Builds a draft; everything that is wrong is found at once.
    pub(super) fn draft(&mut self, record: &mut Record, wrong: Vec<RecordFinding>) -> Result<EntryDraft, LayoutError> {
        let mut draft = EntryDraft {
            source: record.source.clone(),
            is_file: record.source.is_file,
            reference: None,
            profile_id: None,
            kind: None,
            images: Vec::new(),
            page_count: None,
            name: None,
            extracted_data: None,
            findings: Vec::new(),
        };
        let kind = self.kind(record)?;
        if let Ok(RecordKind::Document { category, document_type, .. }) = &kind {
            // A column of that name comes before it.
            record.add("category", category.clone());
            record.add("document_type", document_type.clone());
        }
        self.reference(record, &mut draft)?;
        wrong.into_iter().for_each(|finding| draft.wrong(finding));
        match kind {
            Ok(kind) => draft.kind = Some(kind),
            Err(findings) => findings.into_iter().for_each(|finding| draft.wrong(finding)),
        }
        match self.required("profile_id", &self.layout.profile_id, record)? {
            Ok(text) => match profile_of(&text) {
                Some(profile) => draft.profile_id = Some(profile),
                None => {
                    let cure = "correct it in the list or in the lookup: a profile is a UUID";
                    let finding = RecordFinding::error(FindingKind::InvalidValue, "the profile is no UUID", cure);
                    draft.wrong(finding.field("profile_id").value(text));
                }
            },
            Err(finding) => draft.wrong(finding),
        }
        self.extras(record, &mut draft)?;
        let before = draft.findings.len();
        for form in &self.layout.images {
            self.images(form, record, &mut draft)?;
        }
        if draft.images.is_empty() && draft.findings.len() == before {
            draft.wrong(no_images(None));
        }
        Ok(draft)
    }

    /// Notes the files of a record that does not count.
    pub(super) fn note_files(&mut self, record: &mut Record) -> Result<(), LayoutError> {
        self.draft(record, Vec::new()).map(drop)
    }

    fn reference(&self, record: &Record, draft: &mut EntryDraft) -> Result<(), LayoutError> {
        let own = match (&self.layout.source, record.pattern) {
            (RecordSource::Files(files), Some(at)) => files.get(at).and_then(|form| form.reference.as_ref()),
            _ => None,
        };
        let Some(template) = own.or(self.layout.reference.as_ref()) else { return Ok(()) };
        match self.required("reference", template, record)? {
            Ok(text) => draft.reference = Some(text),
            Err(finding) => draft.wrong(finding),
        }
        Ok(())
    }

    /// A value that every record needs.
    fn required(
        &self,
        field: &str,
        template: &Template,
        values: &dyn Values,
    ) -> Result<Result<String, RecordFinding>, LayoutError> {
        Ok(match template.fill(values, self.lookups)? {
            Ok(FilledTemplate::Text(text)) => Ok(text),
            Ok(FilledTemplate::Empty(name)) => Err(empty(&name, values).field(field)),
            Err(finding) => Err(finding.field(field)),
        })
    }

    fn kind(&self, record: &Record) -> Result<Result<RecordKind, Vec<RecordFinding>>, LayoutError> {
        match &self.layout.kind {
            KindForm::One { template, table } => {
                let text = match self.required("document_type", template, record)? {
                    Ok(text) => text,
                    Err(finding) => return Ok(Err(vec![finding])),
                };
                let found = match table {
                    Some(table) => table.get(&text).cloned(),
                    None => None,
                };
                let plain = (table.is_none() || template.is_constant()).then(|| parse_kind(&text, None)).flatten();
                let found = found.or(plain);
                Ok(found.ok_or_else(|| vec![unknown("document_type", "kinds", &text)]))
            }
            KindForm::Two { category, categories, document_type, document_types } => {
                let category = self.word("category", category, categories.as_ref(), record)?;
                let document_type = self.word("document_type", document_type, document_types.as_ref(), record)?;
                Ok(match (category, document_type) {
                    (Ok(category), Ok(document_type)) => {
                        Ok(RecordKind::Document { category, document_type, image_types: None })
                    }
                    (one, other) => Err(one.err().into_iter().chain(other.err()).collect()),
                })
            }
        }
    }

    fn word(
        &self,
        field: &str,
        template: &Template,
        table: Option<&ValueTable<String>>,
        record: &Record,
    ) -> Result<Result<String, RecordFinding>, LayoutError> {
        let text = match self.required(field, template, record)? {
            Ok(text) => text,
            Err(finding) => return Ok(Err(finding)),
        };
        let found = table.and_then(|table| table.get(&text).cloned());
        let plain = (table.is_none() || template.is_constant()).then(|| word(&text)).flatten();
        let name = if field == "category" { "categories" } else { "document_types" };
        Ok(found.or(plain).ok_or_else(|| unknown(field, name, &text)))
    }

    fn image_type(
        &self,
        template: &Template,
        values: &dyn Values,
    ) -> Result<Result<Option<ImageType>, RecordFinding>, LayoutError> {
        let text = match template.fill(values, self.lookups)? {
            Ok(FilledTemplate::Text(text)) => text,
            Ok(FilledTemplate::Empty(_)) => return Ok(Ok(None)),
            Err(finding) => return Ok(Err(finding.field("image_type"))),
        };
        let table = self.layout.image_types.as_ref();
        if let Some(found) = table.and_then(|table| table.get(&text)) {
            return Ok(Ok(*found));
        }
        let plain =
            (table.is_none() || template.is_constant()).then(|| ImageType::parse(&text.to_uppercase())).flatten();
        Ok(plain.map(Some).ok_or_else(|| unknown("image_type", "image_types", &text)))
    }

    fn extras(&self, record: &Record, draft: &mut EntryDraft) -> Result<(), LayoutError> {
        if let Some(template) = &self.layout.page_count {
            match self.required("page_count", template, record)? {
                Ok(text) => match text.parse() {
                    Ok(count) => draft.page_count = Some(count),
                    Err(_) => {
                        let cure = "correct the cell";
                        let finding =
                            RecordFinding::error(FindingKind::InvalidValue, "the number of pages is no number", cure);
                        draft.wrong(finding.field("page_count").value(text));
                    }
                },
                Err(finding) => draft.wrong(finding),
            }
        }
        if let Some(template) = &self.layout.name {
            match template.fill(record, self.lookups)? {
                Ok(filled) => draft.name = filled.into_text(),
                // Only files have names.
                Err(finding) if draft.kind == Some(RecordKind::File) => draft.wrong(finding.field("name")),
                Err(_) => {}
            }
        }
        match &self.layout.extracted_data {
            None => {}
            Some(ExtractedForm::Whole(template)) => match whole(template, record) {
                Some(found) => match found {
                    Ok(json) => draft.extracted_data = json,
                    Err(finding) => draft.wrong(finding.field("extracted_data")),
                },
                None => match template.fill(record, self.lookups)? {
                    Ok(filled) => match filled.into_text().map(|text| object(&text)).transpose() {
                        Ok(json) => draft.extracted_data = json,
                        Err(finding) => draft.wrong(finding.field("extracted_data")),
                    },
                    Err(finding) => draft.wrong(finding.field("extracted_data")),
                },
            },
            Some(ExtractedForm::Table(table)) => {
                let mut members = Vec::new();
                for (name, template) in table {
                    let literal = template.single().and_then(|slot| record.value(slot)).and_then(|found| match found {
                        Found::TreeNode(node @ TreeNode::Literal(_)) => Some(node.clone()),
                        _ => None,
                    });
                    match template.fill(record, self.lookups)? {
                        Ok(FilledTemplate::Text(text)) => {
                            members.push((name.clone(), literal.unwrap_or(TreeNode::Text(text))))
                        }
                        Ok(FilledTemplate::Empty(_)) => {}
                        Err(finding) => draft.wrong(finding.field("extracted_data")),
                    }
                }
                draft.extracted_data = (!members.is_empty()).then(|| TreeNode::Object(members).to_json());
            }
        }
        Ok(())
    }

    fn images(&mut self, form: &ImageForm, record: &Record, draft: &mut EntryDraft) -> Result<(), LayoutError> {
        let Some(each) = &form.each else { return self.image(form, record, record, draft) };
        let Some(tree) = &record.tree else {
            let finding = RecordFinding::error(
                FindingKind::InvalidValue,
                "a row has no nested lists",
                "remove `each` from the layout",
            );
            draft.wrong(finding.field("images"));
            return Ok(());
        };
        for node in tree.items(&each.list) {
            let item = NestedItem { record, node };
            let holds = |condition: &Condition| condition.holds(&text_of(item.value(&condition.name)));
            if each.skip.iter().any(holds) || !each.only.iter().all(holds) {
                let mut aside = EntryDraft { images: Vec::new(), findings: Vec::new(), ..draft.clone() };
                self.image(form, &item, record, &mut aside)?;
            } else {
                self.image(form, &item, record, draft)?;
            }
        }
        Ok(())
    }

    /// One image, or the pictures of one folder.
    fn image(
        &mut self,
        form: &ImageForm,
        values: &dyn Values,
        record: &Record,
        draft: &mut EntryDraft,
    ) -> Result<(), LayoutError> {
        let (template, is_folder) = match &form.files {
            FilesOf::Path(template) => (template, false),
            FilesOf::Folder(template) => (template, true),
        };
        let written = match template.fill(values, self.lookups)? {
            Ok(FilledTemplate::Text(text)) => text,
            Ok(FilledTemplate::Empty(_)) if form.optional => return Ok(()),
            Ok(FilledTemplate::Empty(name)) => {
                draft.wrong(empty(&name, values).field("images"));
                return Ok(());
            }
            Err(finding) => {
                draft.wrong(finding.field("images"));
                return Ok(());
            }
        };
        let image_type = match &form.image_type {
            None => None,
            Some(template) => match self.image_type(template, values)? {
                Ok(image_type) => image_type,
                Err(finding) => {
                    draft.wrong(finding);
                    None
                }
            },
        };
        let sha256 = self.declared(form.sha256.as_ref(), values, "sha256", draft, |text| {
            Sha256::parse(text).map(|digest| digest.to_string())
        })?;
        let bytes = self.declared(form.bytes.as_ref(), values, "bytes", draft, |text| text.parse().ok())?;
        let Some((found, written)) = self.find(template, &written, is_folder, record, draft)? else { return Ok(()) };
        let pictures = if is_folder { self.archive.pictures(&found)? } else { vec![found.clone()] };
        if pictures.is_empty() {
            draft.wrong(no_images(Some(&found)));
        }
        for path in pictures {
            self.named.insert(&path)?;
            let written = written.clone();
            draft.images.push(DraftImage { path, written, image_type, sha256: sha256.clone(), bytes });
        }
        Ok(())
    }

    fn declared<T>(
        &self,
        template: Option<&Template>,
        values: &dyn Values,
        field: &str,
        draft: &mut EntryDraft,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, LayoutError> {
        let Some(template) = template else { return Ok(None) };
        match template.fill(values, self.lookups)? {
            Ok(FilledTemplate::Empty(_)) => Ok(None),
            Ok(FilledTemplate::Text(text)) => {
                let found = read(&text);
                if found.is_none() {
                    let reason = format!("this is no {}", if field == "bytes" { "number of bytes" } else { "SHA-256" });
                    let finding = RecordFinding::error(FindingKind::InvalidValue, reason, "correct it in the list");
                    draft.wrong(finding.field(field).value(text));
                }
                Ok(found)
            }
            Err(finding) => {
                draft.wrong(finding.field(field));
                Ok(None)
            }
        }
    }

    /// Finds a file or folder on disk, and gives the path as it is written where that is another one; notes what is wrong
    /// where it is not there.
    fn find(
        &mut self,
        template: &Template,
        written: &str,
        is_folder: bool,
        record: &Record,
        draft: &mut EntryDraft,
    ) -> Result<Option<(String, Option<String>)>, LayoutError> {
        let from_root =
            template.names().any(|name| matches!(name.folded.as_str(), "path" | "dir")) && record.path.is_some();
        let (rules, folder) = match &record.path {
            Some(path) if !from_root && !record.source.is_file => (&self.layout.paths, folder_of(path)),
            _ if from_root => (&PathRules::default(), ""),
            _ => (&self.layout.paths, ""),
        };
        if written.contains('\\') {
            // A name on disk may have a backslash in it.
            let literal = join(&join(folder, rules.base.trim_matches('/')), written);
            if !is_folder && self.archive.has(&literal) {
                return Ok(Some((literal, None)));
            }
        }
        let path = match rules.place(written, folder) {
            Placed::Within(path) => path,
            Placed::Outside(reason) => {
                let cure = match self.archive.end_of(written, (&rules.base, folder), is_folder)? {
                    Some((before, there)) => {
                        self.named.insert(&there)?;
                        let before = if before.contains('\'') { quoted(before) } else { format!("'{before}'") };
                        format!("there is {}: add to [paths]:   strip = [{before}]", quoted(&there))
                    }
                    None => "if its beginning is the archive's folder, add to [paths]:   strip = ['…']".to_owned(),
                };
                let finding = RecordFinding::error(FindingKind::PathOutside, reason, cure);
                draft.wrong(finding.field("path").path(written).value(written));
                return Ok(None);
            }
        };
        let resolved = if is_folder { self.archive.folder(&path)? } else { self.archive.file(&path)? };
        let what = if is_folder { "folder" } else { "file" };
        match resolved {
            Resolved::Found(found) => {
                let other = (found != path).then_some(path);
                return Ok(Some((found, other)));
            }
            Resolved::Missing { near } => {
                let cure = match &near {
                    Some(NearFile { path: near, is_loose }) => {
                        self.named.insert(near)?;
                        let advice = if *is_loose {
                            "add to [paths]:   match = \"loose\""
                        } else {
                            "write its name so in the list, or rename it"
                        };
                        let there = near_path::spelt(near, &path);
                        let there = if there == *near { quoted(near) } else { there };
                        format!("there is {there}: {advice}")
                    }
                    None => {
                        format!("put the {what} there, or correct the path; a folder to put before is [paths] base")
                    }
                };
                let finding = RecordFinding::error(FindingKind::MissingFile, format!("there is no such {what}"), cure);
                draft.wrong(finding.field("path").path(path));
            }
            Resolved::Several(several) => {
                for one in &several {
                    self.named.insert(one)?;
                }
                let names = several.iter().map(|one| quoted(one)).collect::<Vec<_>>().join(" and ");
                let reason = format!("several {what}s fit: {names}");
                let finding = RecordFinding::error(
                    FindingKind::AmbiguousFile,
                    reason,
                    "write the name of the right one in the list",
                );
                draft.wrong(finding.field("path").path(path).value(written));
            }
            Resolved::Refused(reason) => {
                let cure = "put the file itself into the archive, and name it by its plain path";
                draft.wrong(
                    RecordFinding::error(FindingKind::PathOutside, reason, cure)
                        .field("path")
                        .path(path)
                        .value(written),
                );
            }
        }
        Ok(None)
    }
}

/// What is to be said where there is no image.
pub(super) fn no_images(folder: Option<&str>) -> RecordFinding {
    match folder {
        Some(folder) => {
            let cure = "put the pages there, or remove the record";
            RecordFinding::error(FindingKind::NoImages, "the folder has no pictures", cure).field("images").path(folder)
        }
        None => {
            let cure = "name an image in the list, or leave the record out by [only] or [skip]";
            RecordFinding::error(FindingKind::NoImages, "the record names no image", cure).field("images")
        }
    }
}

fn empty(name: &str, values: &dyn Values) -> RecordFinding {
    let leave_out = "leave such records out by [only] or [skip]";
    let own = values.own_names();
    if own.is_empty() || values.value(&SlotName { text: name.to_owned(), folded: fold(name) }).is_some() {
        let reason = format!("{} is empty", quoted(name));
        return RecordFinding::error(FindingKind::MissingValue, reason, format!("fill in the cell, or {leave_out}"));
    }
    let hint = nearest(name, own.iter().map(String::as_str))
        .map_or_else(|| format!("it has {}", some_of(&own)), |near| format!("did you mean {}?", quoted(near)));
    let reason = format!("the record has no {}", quoted(name));
    RecordFinding::error(FindingKind::MissingValue, reason, format!("{hint}; or {leave_out}"))
}

fn unknown(field: &str, table: &str, value: &str) -> RecordFinding {
    let example = match table {
        "kinds" => ("\"…/…\"", "\"SUPPORTING/UNKNOWN\""),
        "image_types" => ("\"FRONT\"", "\"\""),
        _ => ("\"…\"", "\"UNKNOWN\""),
    };
    let cure = format!(
        "add to [{table}]:   {} = {}   or, for all that are left:   \"*\" = {}",
        quoted(value),
        example.0,
        example.1
    );
    RecordFinding::error(FindingKind::UnknownValue, format!("{field} is not in [{table}]"), cure)
        .field(field)
        .value(value)
}

/// A profile's UUID in any of its usual spellings.
fn profile_of(text: &str) -> Option<String> {
    let text = text.trim().trim_start_matches(['{', '(']).trim_end_matches(['}', ')']);
    let text = text.strip_prefix("urn:uuid:").unwrap_or(text);
    if let Some(profile) = ProfileId::parse(text) {
        return Some(profile.to_string());
    }
    if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut hyphenated = String::new();
    for (at, letter) in text.chars().enumerate() {
        if matches!(at, 8 | 12 | 16 | 20) {
            hyphenated.push('-');
        }
        hyphenated.push(letter);
    }
    ProfileId::parse(&hyphenated).map(|profile| profile.to_string())
}

/// The object that a template is nothing but the name of.
fn whole(template: &Template, record: &Record) -> Option<Result<Option<String>, RecordFinding>> {
    match record.value(template.single()?)? {
        Found::TreeNode(TreeNode::Null) => Some(Ok(None)),
        Found::TreeNode(node @ TreeNode::Object(_)) => Some(Ok(Some(node.to_json()))),
        Found::TreeNode(TreeNode::List(items)) if items.is_empty() => Some(Ok(None)),
        Found::TreeNode(TreeNode::List(_) | TreeNode::Literal(_)) | Found::Several => Some(Err(no_object())),
        Found::TreeNode(TreeNode::Text(_)) | Found::Text(_) => None,
    }
}

fn no_object() -> RecordFinding {
    RecordFinding::error(
        FindingKind::InvalidValue,
        "extracted_data is no object",
        "name an object, or make one of templates",
    )
}

/// A text that is a JSON object.
fn object(text: &str) -> Result<String, Box<RecordFinding>> {
    match TreeNode::json(text) {
        Ok(node @ TreeNode::Object(_)) => Ok(node.to_json()),
        _ => Err(Box::new(no_object().value(text))),
    }
}

/// The name that a file is uploaded under.
pub(super) fn own_name(path: &str) -> &str {
    name(path)
}
