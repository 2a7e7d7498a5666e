//! From a draft to the line of a manifest, with what is wrong with it or odd.

use serde_json::{Value, json};

use super::{
    build::{DraftImage, EntryDraft, own_name},
    finding::{FindingKind, RecordFinding},
    plan::RecordKind,
    spill::digest,
};
use crate::{entry::EntryKind, near_path::taken_by_near, problem::Problem};

/// The files of a draft that have other names than its record gives them.
pub(super) fn near_paths(draft: &EntryDraft, kind: EntryKind) -> Vec<Problem> {
    let near = draft.images.iter().enumerate().filter_map(|(at, image)| Some((at, image, image.written.as_ref()?)));
    let field = |at: usize| match kind {
        EntryKind::Document => format!("images[{at}].path"),
        EntryKind::File => "path".to_owned(),
    };
    near.map(|(at, image, written)| taken_by_near(written, &image.path, &field(at))).collect()
}

/// What a draft asks for, to compare it with another.
pub(super) fn content_of(draft: &EntryDraft) -> Vec<u8> {
    // How a path was written makes no difference.
    let images: Vec<_> =
        draft.images.iter().map(|image| (&image.path, image.image_type, &image.sha256, image.bytes)).collect();
    let findings: Vec<_> = draft.findings.iter().map(|finding| (finding.kind, &finding.value, &finding.path)).collect();
    let content =
        json!([draft.profile_id, draft.kind, images, draft.page_count, draft.name, draft.extracted_data, findings]);
    digest(content.to_string().as_bytes()).to_vec()
}

pub(super) fn duplicate(draft: &EntryDraft) -> RecordFinding {
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
