//! What each call does and how it is answered, as the guide and the spec describe it. No I/O, no clock, no randomness.
//!
//! Refusals have the API's own error codes: 101 for a missing field, 201 for an invalid one, 203 and 204 for the key.
//! Where the sources are silent about a status, 400 is taken.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{
    body::Body,
    data::ContentSummary,
    list_fault::ListFault,
    operation::{ApiCall, Route},
    options::{ImageIds, ListShape, Options},
    reply::{HttpReply, list, quote, record},
    store::{Document, Profile, Store, StoredFile, StoredImage},
};
use crate::{
    clock::Timestamp,
    entry::{ImageType, ProfileId},
};

/// What the `apikey` header was worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyCheck {
    Missing,
    Wrong,
    Accepted,
}

/// What a call may know apart from its request.
pub(super) struct CallMoment {
    pub wall: Timestamp,
    pub clock: Instant,
    /// For whatever is created; random.
    pub new_id: String,
    /// How long a document that is created stays invisible to reads.
    pub visible_after: Duration,
    /// What is odd about a list of documents.
    pub list: Option<ListFault>,
    /// How old such a list is.
    pub age: Duration,
}

/// The result of a call.
#[derive(Debug)]
pub(super) struct Done {
    pub reply: HttpReply,
    /// What was created.
    pub id: Option<String>,
}

impl From<HttpReply> for Done {
    fn from(reply: HttpReply) -> Self {
        Self { reply, id: None }
    }
}

/// Why a call is refused, if it is before its body matters.
pub(super) fn gate(options: &Options, route: &Route, key: KeyCheck) -> Result<(), HttpReply> {
    if route.operation == ApiCall::Unknown {
        return Err(HttpReply::errors(404, 201, "there is no such call", Value::Null));
    }
    match key {
        KeyCheck::Missing => return Err(HttpReply::errors(401, 203, "the apikey header is missing", Value::Null)),
        KeyCheck::Wrong => return Err(HttpReply::errors(403, 204, "the API key is invalid", Value::Null)),
        KeyCheck::Accepted => {}
    }
    if route.operation == ApiCall::ForbiddenReplace {
        let message = "this call would replace the whole data of the profile, so the sandbox refuses it";
        return Err(HttpReply::errors(400, 201, message, Value::Null));
    }
    if route.wrong_method {
        return Err(HttpReply::errors(405, 201, "this method does not read a file here", Value::Null));
    }
    match &route.profile {
        Some(id) if !options.profiles.is_empty() && !options.profiles.contains(id) => {
            Err(HttpReply::errors(404, 201, "there is no such profile", json!({"profile_id": id})))
        }
        _ => Ok(()),
    }
}

/// Does the call.
pub(super) fn perform(
    store: &mut Store,
    options: &Options,
    route: &Route,
    body: &Result<Body, &'static str>,
    now: CallMoment,
) -> Done {
    let done = match (route.operation, &route.profile) {
        (ApiCall::Whoami, _) => Ok(whoami().into()),
        (ApiCall::UploadImage, Some(id)) => upload_image(store, options, id, body, now),
        (ApiCall::UploadFile, Some(id)) => upload_file(store, options, id, body, now),
        (ApiCall::CreateDocument, Some(id)) => create_document(store, options, id, body, now),
        (ApiCall::ListImages, Some(id)) => Ok(list_images(store.profile(id), options).into()),
        (ApiCall::ReadDocuments, Some(id)) => Ok(read_documents(store, options, id, &now).into()),
        (ApiCall::ReadFile, Some(id)) => {
            Ok(read_file(store.profile(id), options, route.file_id.as_deref().unwrap_or_default()).into())
        }
        _ => Err(HttpReply::errors(404, 201, "there is no such call", Value::Null)),
    };
    done.unwrap_or_else(Done::from)
}

fn whoami() -> HttpReply {
    let institution = json!({"id": "5a4d0b0e-0000-4000-8000-000000000001", "name": "Sandbox institution"});
    HttpReply::json(200, json!({"auditee_name": "Sandbox", "institution": institution}).to_string())
}

fn invalid(message: impl Into<String>, field: &str) -> HttpReply {
    HttpReply::errors(400, 201, message, json!({"field": field}))
}

fn missing(field: &str) -> HttpReply {
    HttpReply::errors(400, 101, format!("the field '{field}' is missing"), json!({"field": field}))
}

/// The fields of a body that has no others than these.
fn fields<'a>(
    body: &'a Result<Body, &'static str>,
    known: &[&str],
) -> Result<(&'a Body, &'a Map<String, Value>), HttpReply> {
    let body = body.as_ref().map_err(|wrong| HttpReply::errors(400, 201, *wrong, Value::Null))?;
    let unknown = body.fields.keys().find(|field| !known.contains(&field.as_str()));
    match unknown {
        Some(field) => Err(invalid("there is a field that this call does not know", field)),
        None => Ok((body, &body.fields)),
    }
}

/// The text of a field, where it is there.
fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, HttpReply> {
    match fields.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(invalid(format!("the field '{name}' is not a string"), name)),
    }
}

fn content<'a>(body: &'a Body, options: &Options) -> Result<&'a ContentSummary, HttpReply> {
    let content = match &body.data {
        None if body.fields.contains_key("data") => return Err(invalid("the field 'data' is not a string", "data")),
        None => return Err(missing("data")),
        Some(Err(wrong)) => return Err(invalid(format!("the field 'data' is invalid: {wrong}"), "data")),
        Some(Ok(content)) => content,
    };
    if content.bytes == 0 {
        return Err(invalid("the field 'data' is empty", "data"));
    }
    if content.bytes > options.max_image_bytes {
        let message = format!("the content has more than {} bytes", options.max_image_bytes);
        return Err(HttpReply::errors(413, 201, message, json!({"field": "data", "bytes": content.bytes})));
    }
    Ok(content)
}

fn upload_image(
    store: &mut Store,
    options: &Options,
    id: &ProfileId,
    body: &Result<Body, &'static str>,
    now: CallMoment,
) -> Result<Done, HttpReply> {
    let (body, fields) = fields(body, &["data", "image_type"])?;
    let content = content(body, options)?;
    let image_type = match text(fields, "image_type")? {
        None => None,
        Some(word) => Some(
            ImageType::parse(word)
                .ok_or_else(|| invalid("the field 'image_type' is none of FRONT, BACK, and FACE", "image_type"))?,
        ),
    };
    if content.image_format.is_none() {
        return Err(invalid("the content is none of GIF, JPG, PNG, PDF, and TIFF", "data"));
    }
    let equal = match options.image_ids {
        ImageIds::Fresh => None,
        ImageIds::ByContent => store.profile(id).and_then(|profile| profile.equal_image(&content.sha256, image_type)),
    };
    let new_id = equal.map_or(now.new_id, |equal| equal.id.clone());
    let image = StoredImage {
        id: new_id.clone(),
        image_type,
        sha256: content.sha256,
        bytes: content.bytes,
        uploaded: now.wall,
        used: false,
    };
    let reply = HttpReply::json(options.created_status, image_record(options, &image, 0));
    store.profile_mut(id).add_image(image);
    Ok(Done { reply, id: Some(new_id) })
}

fn upload_file(
    store: &mut Store,
    options: &Options,
    id: &ProfileId,
    body: &Result<Body, &'static str>,
    now: CallMoment,
) -> Result<Done, HttpReply> {
    let (body, fields) = fields(body, &["data", "name"])?;
    content(body, options)?;
    let file = StoredFile { name: text(fields, "name")?.map(str::to_owned) };
    let reply = HttpReply::json(options.created_status, file_record(options, &now.new_id, &file));
    store.profile_mut(id).add_file(now.new_id.clone(), file);
    Ok(Done { reply, id: Some(now.new_id) })
}

fn create_document(
    store: &mut Store,
    options: &Options,
    id: &ProfileId,
    body: &Result<Body, &'static str>,
    now: CallMoment,
) -> Result<Done, HttpReply> {
    let (body, fields) = fields(body, &["category", "document_type", "images", "extracted_data"])?;
    if body.data.is_some() {
        return Err(invalid("there is a field that this call does not know", "data"));
    }
    let required = |name| text(fields, name)?.filter(|text| !text.is_empty()).ok_or_else(|| missing(name));
    let category = required("category")?;
    if !options.categories.is_empty() && !options.categories.iter().any(|known| known == category) {
        return Err(invalid("the field 'category' is none that is known", "category"));
    }
    let document_type = required("document_type")?;
    let extracted_data = match fields.get("extracted_data") {
        None => None,
        Some(Value::Object(_)) => body.extracted_data.clone(),
        Some(_) => return Err(invalid("the field 'extracted_data' is not an object", "extracted_data")),
    };
    let images = match fields.get("images") {
        None => return Err(missing("images")),
        Some(Value::Array(images)) if images.is_empty() => return Err(missing("images")),
        Some(Value::Array(images)) => images,
        Some(_) => return Err(invalid("the field 'images' is not an array", "images")),
    };
    let profile = store.profile_mut(id);
    let mut image_ids: Vec<String> = Vec::new();
    for image in images {
        let wanted = image_id(image).ok_or_else(|| invalid("an image is not an object with an 'id'", "images"))?;
        if profile.image(&wanted).is_none() {
            return Err(HttpReply::errors(400, 201, "this profile has no such image", json!({"image_id": wanted})));
        }
        image_ids.push(wanted);
    }
    let document = Document {
        id: now.new_id.clone(),
        category: category.to_owned(),
        document_type: document_type.to_owned(),
        image_ids,
        extracted_data,
        visible_at: now.clock + now.visible_after,
    };
    let reply = HttpReply::json(options.created_status, document_record(options, profile, &document));
    profile.add_document(document);
    Ok(Done { reply, id: Some(now.new_id) })
}

/// The id of an item of `images`, in lower case; other fields of the item are refused with it.
pub(super) fn image_id(image: &Value) -> Option<String> {
    let image = image.as_object().filter(|image| image.len() == 1)?;
    image.get("id").and_then(Value::as_str).map(str::to_ascii_lowercase)
}

fn list_images(profile: Option<&Profile>, options: &Options) -> HttpReply {
    let images = profile.map(Profile::images).unwrap_or_default();
    let records = list(images.iter().map(|image| image_record(options, image, 1)));
    let body = match options.list_shape {
        ListShape::Bare => records,
        ListShape::Wrapped => format!("{{\"document_images\":{records}}}"),
    };
    HttpReply::json(200, body)
}

fn read_documents(store: &Store, options: &Options, id: &ProfileId, now: &CallMoment) -> HttpReply {
    let profile = match now.list {
        Some(ListFault::Foreign) => store.another_profile(id),
        _ => store.profile(id),
    };
    let visible = |profile: &Profile| -> Vec<String> {
        let documents = profile.visible_documents(now.clock, now.age);
        documents.map(|document| document_record(options, profile, document)).collect()
    };
    let records = profile.map(visible).unwrap_or_default();
    // Documents are only ever added, so their number distinguishes one state from another.
    let (many, etag) = (records.len(), format!("\"{}\"", records.len()));
    let documents = list(records.into_iter());
    let body = format!("{{\"entity_type\":\"INDIVIDUAL\",\"documents\":{documents}}}");
    let mut reply = HttpReply::json(200, now.list.map_or_else(|| body.clone(), |fault| fault.apply(&body)));
    reply.headers.push(("etag", etag));
    reply.headers.extend(now.list.and_then(|fault| fault.header(many)));
    reply
}

fn read_file(profile: Option<&Profile>, options: &Options, id: &str) -> HttpReply {
    match profile.and_then(|profile| profile.file(id)) {
        Some(file) => HttpReply::json(200, file_record(options, id, file)),
        None => HttpReply::errors(404, 201, "this profile has no such file", json!({"file_id": id})),
    }
}

/// The date of the same image differs by `late_seconds` between answers, as it does in the guide's examples.
fn image_record(options: &Options, image: &StoredImage, late_seconds: i64) -> String {
    let at = Timestamp(image.uploaded.0.saturating_add(late_seconds * 1000));
    let date = at.to_string().replace('T', " ").replace('Z', "");
    let image_type = image.image_type.map_or_else(|| "null".to_owned(), |known| quote(known.as_str()));
    record(options.id_order, &image.id, &[("image_type", image_type), ("upload_date", quote(&date))])
}

fn document_record(options: &Options, profile: &Profile, document: &Document) -> String {
    let images = document.image_ids.iter().filter_map(|id| profile.image(id));
    let mut rest = vec![
        ("category", quote(&document.category)),
        ("document_type", quote(&document.document_type)),
        ("images", list(images.map(|image| image_record(options, image, 2)))),
    ];
    if let Some(data) = &document.extracted_data {
        rest.push(("extracted_data", data.to_string()));
    }
    record(options.id_order, &document.id, &rest)
}

fn file_record(options: &Options, id: &str, file: &StoredFile) -> String {
    let name = quote(file.name.as_deref().unwrap_or("Untitled"));
    record(options.id_order, id, &[("name", name), ("decrypted_data", quote(""))])
}
