//! Reads what an answer gives: an id, a list, or whose key it is.
//!
//! New fields, new values and another order are tolerated. Lists are read element by element, so that memory grows with
//! what is kept of them and not with what they hold. Invariant: where an element might be what a caller searches but
//! cannot be read, the complete answer counts as not understood.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::{
    Operation, Reply, StandingDocument,
    errors::{ApiError, Class, Parsed, without_bom, worst},
};

/// The longest id that is taken; a UUID has 36 characters.
const LONGEST_ID: usize = 100;

/// Reads the body of an answer whose status is a success.
pub(super) fn read(operation: Operation, body: &[u8]) -> Parsed {
    let body = without_bom(body);
    match operation {
        Operation::UploadImage => single(body, |id| Reply::Image { id }),
        Operation::UploadFile => single(body, |id| Reply::File { id }),
        Operation::CreateDocument => single(body, |id| Reply::Document { id }),
        Operation::Whoami => whoami(body),
        Operation::ReadDocuments => listed(list(body, &DOCUMENTS), Reply::Documents),
        Operation::ListImages => listed(list(body, &IMAGES), Reply::Images),
    }
}

fn object(body: &[u8]) -> Option<serde_json::Map<String, Value>> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Some(object),
        _ => None,
    }
}

fn single(body: &[u8], reply: impl Fn(String) -> Reply) -> Parsed {
    let Some(object) = object(body) else { return Parsed::Unreadable };
    match (object.get("errors").and_then(worst), object.get("id").and_then(usable_id)) {
        (None, Some(id)) => Parsed::Reply(reply(id)),
        (None, None) => Parsed::Unreadable,
        (Some(error), Some(_)) if error.class() <= Class::Transient => Parsed::Doubtful(error),
        (Some(error), _) => Parsed::Error(error),
    }
}

fn whoami(body: &[u8]) -> Parsed {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let Some(object) = object(body) else { return Parsed::Unreadable };
    match object.get("errors").and_then(worst) {
        Some(error) => Parsed::Error(error),
        None => Parsed::Reply(Reply::Whoami {
            auditee: text(object.get("auditee_name")),
            institution: text(object.get("institution").and_then(|institution| institution.get("name"))),
        }),
    }
}

/// An id as the API gave it: today a UUID in any letter case, but any short visible text without a slash will do.
fn usable_id(value: &Value) -> Option<String> {
    let id = value.as_str()?;
    let usable = (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
    usable.then(|| id.to_owned())
}

/// The id of an image, given as its record or as its id alone.
fn image_id(value: &Value) -> Option<String> {
    usable_id(value.get("id").unwrap_or(value))
}

/// How an element of a list is read.
enum Element<T> {
    Read(T),
    /// It cannot be what a caller searches.
    Skipped,
    /// It might be what a caller searches.
    Doubtful,
}

/// How a list is read.
struct Shape<T> {
    /// The field that holds the list.
    field: &'static str,
    /// Whether the answer may be the bare list.
    bare: bool,
    /// Whether an object without the field is an empty list.
    optional: bool,
    element: fn(&Value) -> Element<T>,
}

const DOCUMENTS: Shape<StandingDocument> =
    Shape { field: "documents", bare: false, optional: true, element: standing_document };

const IMAGES: Shape<String> = Shape {
    field: "document_images",
    bare: true,
    optional: false,
    element: |value| image_id(value).map_or(Element::Skipped, Element::Read),
};

fn standing_document(value: &Value) -> Element<StandingDocument> {
    let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let images = match value.get("images") {
        None | Some(Value::Null) => &[][..],
        Some(Value::Array(images)) => images,
        Some(_) => return Element::Doubtful,
    };
    let image_ids: Vec<String> = images.iter().filter_map(image_id).collect();
    match value.get("id").and_then(usable_id) {
        Some(id) => Element::Read(StandingDocument {
            id,
            category: text("category"),
            document_type: text("document_type"),
            image_ids,
        }),
        // Our documents have images, so one without any is not ours.
        None if image_ids.is_empty() => Element::Skipped,
        None => Element::Doubtful,
    }
}

/// A list with the error that the answer has instead of it, or beside it.
struct List<T> {
    items: Vec<T>,
    error: Option<ApiError>,
}

fn list<T>(body: &[u8], shape: &Shape<T>) -> Option<List<T>> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let list = deserializer.deserialize_any(Top(shape)).ok()?;
    deserializer.end().ok()?;
    Some(list)
}

fn listed<T>(list: Option<List<T>>, reply: impl Fn(Vec<T>) -> Reply) -> Parsed {
    match list {
        Some(List { error: Some(error), .. }) => Parsed::Error(error),
        Some(List { items, error: None }) => Parsed::Reply(reply(items)),
        None => Parsed::Unreadable,
    }
}

/// Reads the answer's top level.
struct Top<'a, T>(&'a Shape<T>);

impl<'de, T> Visitor<'de> for Top<'_, T> {
    type Value = List<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with {}", self.0.field)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<List<T>, A::Error> {
        let mut list = List { items: Vec::new(), error: None };
        let (mut found, mut foreign) = (self.0.optional, false);
        while let Some(key) = map.next_key::<String>()? {
            if key == self.0.field {
                map.next_value_seed(Items { shape: self.0, items: &mut list.items })?;
                found = true;
            } else if key == "errors" {
                list.error = worst(&map.next_value()?);
            } else {
                // So a gateway speaks that answers in the API's place.
                foreign |= matches!(key.as_str(), "error" | "message" | "detail" | "status" | "code");
                map.next_value::<IgnoredAny>()?;
            }
        }
        if list.error.is_none() && (!found || foreign && list.items.is_empty()) {
            return Err(A::Error::custom("the list is missing"));
        }
        Ok(list)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<List<T>, A::Error> {
        if !self.0.bare {
            return Err(A::Error::custom("a bare list"));
        }
        let mut items = Vec::new();
        Items { shape: self.0, items: &mut items }.visit_seq(seq)?;
        Ok(List { items, error: None })
    }
}

/// Reads the list itself, one element at a time.
struct Items<'a, T> {
    shape: &'a Shape<T>,
    items: &'a mut Vec<T>,
}

impl<'de, T> DeserializeSeed<'de> for Items<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T> Visitor<'de> for Items<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list or null")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(value) = seq.next_element::<Value>()? {
            match (self.shape.element)(&value) {
                Element::Read(item) => self.items.push(item),
                Element::Skipped => {}
                Element::Doubtful => return Err(A::Error::custom("an element that cannot be read")),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn documents(body: &Value) -> Option<Vec<StandingDocument>> {
        match read(Operation::ReadDocuments, body.to_string().as_bytes()) {
            Parsed::Reply(Reply::Documents(documents)) => Some(documents),
            _ => None,
        }
    }

    fn images(body: &Value) -> Option<Vec<String>> {
        match read(Operation::ListImages, body.to_string().as_bytes()) {
            Parsed::Reply(Reply::Images(images)) => Some(images),
            _ => None,
        }
    }

    #[test]
    fn documents_are_read_with_their_images() {
        let body = json!({"entity_type": "INDIVIDUAL", "documents": [
            {"id": "d1", "category": "C", "document_type": "T", "images": [{"id": "i1", "x": 1}, {"id": "i2"}], "errors": [1]},
            {"id": "D2", "images": ["i3"], "category": null},
            {"id": "d3", "images": null},
            {"images": []}, null, "d4",
        ]});
        let read = documents(&body).unwrap();
        let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        assert_eq!(read.len(), 3);
        assert_eq!(
            read[0],
            StandingDocument {
                id: "d1".to_owned(),
                category: "C".to_owned(),
                document_type: "T".to_owned(),
                image_ids: ids(&["i1", "i2"]),
            }
        );
        assert_eq!((read[1].id.as_str(), &read[1].image_ids), ("D2", &ids(&["i3"])));
        assert!(read[2].image_ids.is_empty());
    }

    #[test]
    fn a_profile_without_documents_has_an_empty_list() {
        for body in [json!({}), json!({"documents": null}), json!({"documents": []}), json!({"entity_type": "COMPANY"})]
        {
            assert_eq!(documents(&body), Some(vec![]), "{body}");
        }
    }

    #[test]
    fn what_is_not_understood_is_never_an_empty_list() {
        for body in [
            json!([]),
            json!(null),
            json!("documents"),
            json!(5),
            json!({"documents": {}}),
            json!({"documents": "none"}),
            json!({"documents": [{"images": [{"id": "i1"}]}]}),
            json!({"documents": [{"id": "d1", "images": "i1"}]}),
            json!({"message": "internal error"}),
            json!({"status": 200}),
        ] {
            assert_eq!(documents(&body), None, "{body}");
        }
        for body in [json!({}), json!(null), json!({"images": []}), json!({"document_images": 5})] {
            assert_eq!(images(&body), None, "{body}");
        }
        for cut in [r#"{"documents":[{"id":"d1""#, r#"{"documents":[]} more"#, "", "<html>"] {
            assert_eq!(read(Operation::ReadDocuments, cut.as_bytes()), Parsed::Unreadable, "{cut}");
        }
    }

    #[test]
    fn images_are_listed_bare_or_within_an_object() {
        let list = json!([{"id": "i1", "upload_date": "2019-10-03 14:05:19"}, "i2", {"id": 5}, null]);
        let expected = Some(vec!["i1".to_owned(), "i2".to_owned()]);
        assert_eq!(images(&list), expected);
        assert_eq!(images(&json!({"document_images": list})), expected);
        assert_eq!(images(&json!([])), Some(vec![]));
    }

    #[test]
    fn an_error_beside_a_list_counts() {
        for body in
            [r#"{"errors":[{"code":301}],"documents":[]}"#, r#"{"documents":[{"id":"d"}],"errors":{"code":301}}"#]
        {
            let error = ApiError { code: Some(301), message: None };
            assert_eq!(read(Operation::ReadDocuments, body.as_bytes()), Parsed::Error(error), "{body}");
        }
    }

    #[test]
    fn ids_are_kept_as_given_or_not_taken() {
        for id in ["9A92b3c5-0f9a-4b1c-8a1e-2f6a2d9d7c11", "x", &"x".repeat(100)] {
            assert_eq!(usable_id(&json!(id)), Some(id.to_owned()));
        }
        for id in [
            json!(""),
            json!("a b"),
            json!("a/b"),
            json!("ü"),
            json!("a\n"),
            json!("x".repeat(101)),
            json!(5),
            json!(null),
        ] {
            assert_eq!(usable_id(&id), None, "{id}");
        }
    }

    #[test]
    fn whoami_gives_what_it_has() {
        let body = br#"{"auditee_name":"Demo","institution":{"id":"1","name":"Bank"}}"#;
        let expected = Reply::Whoami { auditee: Some("Demo".to_owned()), institution: Some("Bank".to_owned()) };
        assert_eq!(read(Operation::Whoami, body), Parsed::Reply(expected));
        let nothing = Reply::Whoami { auditee: None, institution: None };
        assert_eq!(read(Operation::Whoami, b"{}"), Parsed::Reply(nothing));
        assert_eq!(read(Operation::Whoami, b"<html>"), Parsed::Unreadable);
    }

    #[test]
    fn deep_nesting_is_refused_and_does_not_overflow() {
        let body = format!("{{\"documents\":{}", "[".repeat(1_000_000));
        assert_eq!(read(Operation::ReadDocuments, body.as_bytes()), Parsed::Unreadable);
        let body = format!("{{\"other\":{}", "[".repeat(1_000_000));
        assert_eq!(read(Operation::ReadDocuments, body.as_bytes()), Parsed::Unreadable);
    }
}
