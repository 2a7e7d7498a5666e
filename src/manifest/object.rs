//! One JSON object into an entry, or everything that is wrong with it.
//!
//! For the elements of a JSON manifest and the lines of a JSON Lines manifest alike. A field that is `null` counts as
//! not given, because many programs write empty fields so. The rules for the single values are in `fields`.

use serde_json::{Map, Value};

use crate::{
    entry::{Content, EntryKind, ImageSource, ProfileId, Source},
    extracted_data::ExtractedData,
    nearest::nearest,
    problem::Problem,
};

use super::{
    ManifestBounds, Reading, fields,
    findings::{Findings, Label, name, quote},
    known,
    value::ParsedValue,
};

/// The fields of a document.
pub(super) const DOCUMENT_FIELDS: [&str; 7] =
    ["profile_id", "reference", "category", "document_type", "images", "extracted_data", "replace"];
/// The fields of a file.
pub(super) const FILE_FIELDS: [&str; 7] = ["profile_id", "reference", "path", "name", "sha256", "bytes", "replace"];
/// What a list of failed entries says of each; it is passed over, so that the list is a manifest again once it is mended.
pub(super) const FAILURE_FIELDS: [&str; 3] = ["code", "reason", "cure"];
/// The fields of an image.
pub(super) const IMAGE_FIELDS: [&str; 4] = ["path", "image_type", "sha256", "bytes"];

/// The most that `extracted_data` may take as JSON, in bytes: a quarter of the largest entry.
pub(super) const MAX_EXTRACTED_BYTES: usize = 256 * 1024;

/// Where an object is, and what the surrounding document fixes for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) index: u64,
    pub(super) line: Option<u64>,
    /// The kind given by the array that it is in; otherwise its fields decide.
    pub(super) kind: Option<EntryKind>,
    /// The profile of entries that name none.
    pub(super) profile_id: Option<&'a ProfileId>,
    /// Whether any entry of the manifest has a reference.
    pub(super) others_have_references: bool,
    pub(super) limits: &'a ManifestBounds,
}

/// Reads an entry from a JSON value.
pub(super) fn entry(parsed: ParsedValue, place: &Place<'_>) -> Reading {
    let mut findings = Findings::default();
    for field in &parsed.repeated {
        let reason = format!("the field {} appears more than once", quote(field));
        findings.add(Problem::error(reason, "keep one of them").field(name(field)));
    }
    let mut label = Label {
        index: place.index,
        line: place.line,
        kind: place.kind.unwrap_or(EntryKind::File),
        reference: None,
        profile_id: place.profile_id.cloned(),
        replace: false,
        others_have_references: place.others_have_references,
    };
    let mut map = match parsed.value {
        Value::Object(map) => map,
        other => {
            let reason = format!("the entry is {}, not an object", kind_of(&other));
            findings.add(Problem::error(reason, "write each entry as an object in braces"));
            return findings.conclude(label, None);
        }
    };
    map.retain(|field, _| !FAILURE_FIELDS.contains(&field.as_str()));
    if place.kind.is_none() && ["category", "document_type", "images"].iter().any(|field| map.contains_key(*field)) {
        label.kind = EntryKind::Document;
    }
    let mut object = Object { map, prefix: String::new(), limits: place.limits, findings: &mut findings };
    if let Some(text) = object.text("profile_id") {
        label.profile_id = object.findings.take(fields::profile_id(&text, "profile_id"));
    } else if label.profile_id.is_none() && !object.findings.names("profile_id") {
        let cure = if place.kind.is_some() {
            "add the profile's id to the entry, or to the top of the manifest"
        } else {
            "add the profile's id to the line"
        };
        object.findings.add(fields::missing("profile_id", cure));
    }
    label.reference = object.text("reference").and_then(|text| {
        let checked = fields::reference(text, "reference", object.findings);
        object.findings.take(checked)
    });
    label.replace = object.flag("replace");
    let content = match label.kind {
        EntryKind::Document => document(object, parsed.extracted_data),
        EntryKind::File => file(object),
    };
    findings.conclude(label, content)
}

fn document(mut object: Object<'_>, extracted_data: Option<Box<str>>) -> Option<Content> {
    let limits = object.limits;
    let category = object.word("category", &known::CATEGORIES);
    let document_type = object.word("document_type", &known::DOCUMENT_TYPES);
    let extracted_data = object.extracted_data(extracted_data);
    let images = match object.map.remove("images") {
        Some(Value::Array(items)) if items.is_empty() => {
            let problem = Problem::error("the document has no images", "name at least one image, or remove the entry");
            object.findings.add(problem.field("images"));
            None
        }
        Some(Value::Array(items)) if items.len() > limits.max_images => {
            object.findings.add(fields::too_many_images(items.len(), limits.max_images));
            None
        }
        Some(Value::Array(items)) => {
            // Every image is checked, so that all problems are reported at once.
            let read: Vec<_> = (0..).zip(items).map(|(at, item)| image(item, at, limits, object.findings)).collect();
            read.into_iter().collect::<Option<Vec<_>>>()
        }
        None | Some(Value::Null) => {
            object.findings.add(fields::missing("images", "name at least one image"));
            None
        }
        Some(other) => {
            let cure = "write a list of images, for example [{\"path\": \"17/front.jpg\"}]";
            object.wrong_kind("images", &other, "a list", cure);
            None
        }
    };
    if let Some(images) = &images {
        fields::warn_of_repeats(images, object.findings);
        fields::warn_of_sides(images, object.findings);
    }
    object.refuse_the_rest("a document", &DOCUMENT_FIELDS);
    Some(Content::Document { category: category?, document_type: document_type?, extracted_data, images: images? })
}

fn image(item: Value, at: u64, limits: &ManifestBounds, findings: &mut Findings) -> Option<ImageSource> {
    let Value::Object(map) = item else {
        let reason = format!("the image is {}, not an object", kind_of(&item));
        let cure = "write each image as an object, for example {\"path\": \"17/front.jpg\"}";
        findings.add(Problem::error(reason, cure).field(format!("images[{at}]")));
        return None;
    };
    let mut object = Object { map, prefix: format!("images[{at}]."), limits, findings };
    let source = object.source();
    let field = object.field("image_type");
    let image_type = object.text("image_type").and_then(|text| object.findings.take(fields::image_type(&text, &field)));
    object.refuse_the_rest("an image", &IMAGE_FIELDS);
    Some(ImageSource { source: source?, image_type })
}

fn file(mut object: Object<'_>) -> Option<Content> {
    let source = object.source();
    let name = object.text("name").and_then(|text| object.findings.take(fields::name(text, "name")));
    object.refuse_the_rest("a file", &FILE_FIELDS);
    Some(Content::File { name, source: source? })
}

/// An object whose fields are taken out one by one; what is left in the end is unknown.
struct Object<'a> {
    map: Map<String, Value>,
    prefix: String,
    limits: &'a ManifestBounds,
    findings: &'a mut Findings,
}

impl Object<'_> {
    fn field(&self, field: &str) -> String {
        format!("{}{field}", self.prefix)
    }

    fn wrong_kind(&mut self, field: &str, value: &Value, wanted: &str, cure: &str) {
        let reason = format!("{field} is {}, not {wanted}", kind_of(value));
        self.findings.add(Problem::error(reason, cure).field(self.field(field)));
    }

    fn text(&mut self, field: &str) -> Option<String> {
        match self.map.remove(field)? {
            Value::Null => None,
            Value::String(text) => Some(text),
            other => {
                self.wrong_kind(field, &other, "a text", "write it as a text in double quotes");
                None
            }
        }
    }

    fn flag(&mut self, field: &str) -> bool {
        match self.map.remove(field) {
            None | Some(Value::Null) => false,
            Some(Value::Bool(flag)) => flag,
            Some(other) => {
                self.wrong_kind(field, &other, "true or false", "write true or false without quotes");
                false
            }
        }
    }

    fn word(&mut self, field: &str, known: &[&'static str]) -> Option<String> {
        let given = self.map.get(field).is_some_and(|value| !value.is_null());
        if !given {
            self.map.remove(field);
            let example = known.first().copied().unwrap_or_default();
            self.findings.add(fields::missing(field, format!("every document needs it, for example {example}")));
            return None;
        }
        let text = self.text(field)?;
        let checked = fields::word(text, field, known, self.findings);
        self.findings.take(checked)
    }

    fn source(&mut self) -> Option<Source> {
        let field = self.field("path");
        let given = self.map.get("path").is_some_and(|value| !value.is_null());
        let path = self.text("path").and_then(|text| {
            let checked = fields::path(&text, &field, self.limits, self.findings);
            self.findings.take(checked)
        });
        if !given {
            self.findings.add(fields::missing(&field, "name the file by its path from the manifest's folder"));
        }
        let field = self.field("sha256");
        let declared_sha256 = self.text("sha256").and_then(|text| self.findings.take(fields::sha256(&text, &field)));
        let declared_bytes = self.bytes();
        Some(Source { path: path?, declared_bytes, declared_sha256 })
    }

    fn bytes(&mut self) -> Option<u64> {
        let field = self.field("bytes");
        let problem = match self.map.remove("bytes")? {
            Value::Null => return None,
            Value::Number(number) => match number.as_u64() {
                Some(bytes) => return Some(bytes),
                None => fields::not_bytes(&number.to_string(), &field),
            },
            Value::String(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
                let reason = format!("the number {} is in quotes", quote(&text));
                Problem::error(reason, "write the number without quotes").field(field)
            }
            Value::String(text) => fields::not_bytes(&quote(&text), &field),
            other => fields::not_bytes(kind_of(&other), &field),
        };
        self.findings.add(problem);
        None
    }

    fn extracted_data(&mut self, text: Option<Box<str>>) -> Option<ExtractedData> {
        match self.map.remove("extracted_data")? {
            Value::Null => None,
            Value::Object(_) => {
                let text = text?;
                if text.len() <= MAX_EXTRACTED_BYTES {
                    return ExtractedData::parse(text);
                }
                let reason = format!("extracted_data has more than {MAX_EXTRACTED_BYTES} bytes as JSON");
                self.findings.add(Problem::error(reason, "leave out what is not needed").field("extracted_data"));
                None
            }
            other => {
                self.wrong_kind("extracted_data", &other, "an object", "write an object in braces, or leave it out");
                None
            }
        }
    }

    fn refuse_the_rest(self, what: &str, known: &[&'static str]) {
        for field in self.map.keys() {
            let cure = nearest(field, known.iter().copied()).map_or_else(
                || format!("remove it; {what} has only {}", known.join(", ")),
                |near| format!("if {near} is meant, write that, else remove it"),
            );
            let reason = format!("{what} has no field {}", quote(field));
            self.findings.add(Problem::error(reason, cure).field(format!("{}{}", self.prefix, name(field))));
        }
    }
}

/// What kind of JSON value it is, for a reason.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
#[path = "object_tests.rs"]
mod tests;
