//! A layout that can be used: what its keys mean for a record.

use std::path::PathBuf;

use globset::{GlobMatcher, GlobSet};
use serde::{Deserialize, Serialize};

use super::{
    archive::PathRules,
    finding::LayoutError,
    form::{RecordToml, UnlistedToml},
    lookup::LookupForm,
    pattern::Pattern,
    table::TableForm,
    template::{SlotName, Template},
    text::{fold, quoted, some_of},
    workbook::MAX_COLUMNS,
};
use crate::{
    entry::{ImageType, Sha256},
    nearest::nearest,
};

/// A layout that can be used.
#[derive(Debug)]
pub struct ArchiveLayout {
    /// Its file.
    pub file: PathBuf,
    /// The file's digest.
    pub sha256: Sha256,
    pub(super) source: RecordSource,
    pub(super) only: Vec<Condition>,
    pub(super) skip: Vec<Condition>,
    pub(super) parts: Vec<(SlotName, Pattern)>,
    pub(super) record: RecordToml,
    pub(super) reference: Option<Template>,
    pub(super) profile_id: Template,
    pub(super) kind: KindForm,
    pub(super) images: Vec<ImageForm>,
    pub(super) image_types: Option<ValueTable<Option<ImageType>>>,
    pub(super) page_count: Option<Template>,
    pub(super) name: Option<Template>,
    pub(super) extracted_data: Option<ExtractedForm>,
    pub(super) lookups: Vec<LookupForm>,
    pub(super) paths: PathRules,
    pub(super) loose: bool,
    pub(super) ignore: GlobSet,
    pub(super) unlisted: UnlistedToml,
    /// The reference's templates, as they are written.
    pub references: String,
}

/// Where records come from.
#[derive(Debug)]
pub(super) enum RecordSource {
    Table { file: Option<String>, form: TableForm },
    JsonLines { file: Option<String> },
    Json { file: Option<String>, items: Vec<String> },
    Sidecars { pattern: Pattern },
    Files(Vec<FilesForm>),
}

/// A pattern of files, and what it adds to their records.
#[derive(Debug)]
pub(super) struct FilesForm {
    pub(super) pattern: Pattern,
    pub(super) reference: Option<Template>,
    pub(super) constants: Vec<(String, String)>,
}

/// A column and the values that it may have.
#[derive(Debug)]
pub(super) struct Condition {
    pub(super) name: SlotName,
    pub(super) values: Vec<GlobMatcher>,
}

impl Condition {
    pub(super) fn holds(&self, value: &str) -> bool {
        let value = fold(value);
        self.values.iter().any(|glob| glob.is_match(&value))
    }
}

/// How an entry's kind is found.
#[derive(Debug)]
pub(super) enum KindForm {
    One {
        template: Template,
        table: Option<ValueTable<RecordKind>>,
    },
    Two {
        category: Template,
        categories: Option<ValueTable<String>>,
        document_type: Template,
        document_types: Option<ValueTable<String>>,
    },
}

/// What a record is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum RecordKind {
    Document { category: String, document_type: String, image_types: Option<Vec<ImageType>> },
    File,
    Skip,
}

/// A table of values, compared as all values are.
#[derive(Debug, Clone)]
pub(super) struct ValueTable<T> {
    pub(super) values: Vec<(String, T)>,
    pub(super) rest: Option<T>,
}

impl<T> ValueTable<T> {
    pub(super) fn get(&self, value: &str) -> Option<&T> {
        let folded = fold(value);
        self.values.iter().find(|(own, _)| *own == folded).map(|(_, found)| found).or(self.rest.as_ref())
    }
}

/// An image, or several.
#[derive(Debug)]
pub(super) struct ImageForm {
    pub(super) files: FilesOf,
    pub(super) each: Option<Each>,
    pub(super) image_type: Option<Template>,
    pub(super) optional: bool,
    pub(super) sha256: Option<Template>,
    pub(super) bytes: Option<Template>,
}

/// One file, or all pictures of a folder.
#[derive(Debug)]
pub(super) enum FilesOf {
    Path(Template),
    Folder(Template),
}

/// The items of a nested list.
#[derive(Debug)]
pub(super) struct Each {
    pub(super) list: String,
    pub(super) only: Vec<Condition>,
    pub(super) skip: Vec<Condition>,
}

/// Where `extracted_data` comes from.
#[derive(Debug)]
pub(super) enum ExtractedForm {
    Whole(Template),
    Table(Vec<(String, Template)>),
}

/// A word of the API.
pub(super) fn word(text: &str) -> Option<String> {
    let fits =
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    fits.then(|| text.to_owned())
}

/// A kind as it is written.
pub(super) fn parse_kind(text: &str, image_types: Option<Vec<ImageType>>) -> Option<RecordKind> {
    match text.trim() {
        "file" => Some(RecordKind::File),
        "skip" => Some(RecordKind::Skip),
        text => {
            let (category, document_type) = text.split_once('/')?;
            Some(RecordKind::Document {
                category: word(category.trim())?,
                document_type: word(document_type.trim())?,
                image_types,
            })
        }
    }
}

impl ArchiveLayout {
    /// Every template of a record; those of nested lists only with `each`.
    pub(super) fn templates(&self) -> Vec<&Template> {
        let mut all = vec![&self.profile_id];
        all.extend(&self.reference);
        match &self.kind {
            KindForm::One { template, .. } => all.push(template),
            KindForm::Two { category, document_type, .. } => all.extend([category, document_type]),
        }
        for image in &self.images {
            match &image.files {
                FilesOf::Path(template) | FilesOf::Folder(template) => all.push(template),
            }
            all.extend(image.image_type.iter().chain(&image.sha256).chain(&image.bytes));
        }
        all.extend(self.page_count.iter().chain(&self.name));
        match &self.extracted_data {
            Some(ExtractedForm::Whole(template)) => all.push(template),
            Some(ExtractedForm::Table(table)) => all.extend(table.iter().map(|(_, template)| template)),
            None => {}
        }
        if let RecordSource::Files(files) = &self.source {
            all.extend(files.iter().filter_map(|files| files.reference.as_ref()));
        }
        all
    }

    /// Checks the names in templates and conditions against those that the records have. Where those are numbers, later
    /// records may have more.
    pub(super) fn check_names(&self, known: &[String], are_numbers: bool) -> Result<(), LayoutError> {
        let mut own: Vec<&str> = known.iter().map(String::as_str).collect();
        own.extend(self.parts.iter().flat_map(|(_, pattern)| pattern.names()));
        let folded: Vec<String> = own.iter().map(|name| fold(name)).collect();
        let conditions = self.only.iter().chain(&self.skip).map(|condition| &condition.name);
        let used = self.templates().into_iter().flat_map(Template::names);
        for name in used.chain(conditions).chain(self.parts.iter().map(|(name, _)| name)) {
            let count = folded.iter().filter(|known| **known == name.folded).count();
            let builtin = ["row", "path", "dir", "file", "category", "document_type"].contains(&name.folded.as_str());
            let is_number = || are_numbers && name.text.parse().is_ok_and(|number| (1..=MAX_COLUMNS).contains(&number));
            if count == 1 || count == 0 && (builtin || is_number()) {
                continue;
            }
            let what = self.file.display().to_string();
            if count > 1 {
                let reason = format!("the list has {count} columns {}", quoted(&name.text));
                return Err(LayoutError::wrong(what, reason, "name them differently in the list"));
            }
            let cure = match nearest(&name.text, own.iter().copied()) {
                _ if are_numbers => format!(
                    "the list has no header row, so columns are called by their numbers, and its first row has {}",
                    known.len()
                ),
                Some(near) => format!("did you mean {}?", quoted(near)),
                None if known.len() == 1 => {
                    format!(
                        "there is {} alone: see whether `header` or `delimiter` is missing in [source]",
                        some_of(&own)
                    )
                }
                None => format!("there are {}", some_of(&own)),
            };
            return Err(LayoutError::wrong(what, format!("there is no column {}", quoted(&name.text)), cure));
        }
        Ok(())
    }
}
