//! Reads what an answer gives: an id, a list, or whose key it is.
//!
//! New fields, new values and another order are tolerated. Lists are read element by element, so that memory grows with
//! what is kept of them and not with what they hold. That of documents is read in `documents`.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::{
    Operation, Reply,
    documents::{self, usable_id},
    errors::{ApiError, Class, FOREIGN_FIELDS, Parsed, without_bom, worst},
};
use crate::exchange::Answer;

/// Reads the body of an answer whose status is a success.
pub(super) fn read(operation: Operation, answer: &Answer) -> Parsed {
    let body = without_bom(&answer.body);
    match operation {
        Operation::UploadImage => single(body, |id| Reply::Image { id }),
        Operation::UploadFile => single(body, |id| Reply::File { id }),
        Operation::CreateDocument => single(body, |id| Reply::Document { id }),
        Operation::Whoami => whoami(body),
        Operation::ReadDocuments => documents::read(body, &answer.omitted, answer.pages),
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
        // So a gateway speaks that answers in the API's place.
        None if ["auditee_name", "institution"].iter().all(|field| !object.contains_key(*field))
            && FOREIGN_FIELDS.iter().any(|field| object.contains_key(*field)) =>
        {
            Parsed::Unreadable
        }
        None => Parsed::Reply(Reply::Whoami {
            auditee: text(object.get("auditee_name")),
            institution: text(object.get("institution").and_then(|institution| institution.get("name"))),
            institution_id: text(object.get("institution").and_then(|institution| institution.get("id"))),
        }),
    }
}

/// The id of an image, given as its record or as its id alone.
fn image_id(value: &Value) -> Option<String> {
    usable_id(value.get("id").unwrap_or(value))
}

/// The `id` at the top level of an answer, and whether `errors` is there too, as far as the body can be read.
pub(super) fn first_id(body: &[u8]) -> Option<(String, bool)> {
    let mut found = FirstId::default();
    // What was read before the body breaks counts.
    serde_json::Deserializer::from_slice(without_bom(body)).deserialize_map(&mut found).ok();
    found.id.map(|id| (id, found.has_errors))
}

#[derive(Default)]
struct FirstId {
    id: Option<String>,
    has_errors: bool,
}

impl<'de> Visitor<'de> for &mut FirstId {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "id" => self.id = usable_id(&map.next_value()?),
                "errors" => self.has_errors = worst(&map.next_value()?).is_some(),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// How a list is read.
struct Shape<T> {
    /// The field that holds the list.
    field: &'static str,
    /// Whether the answer may be the bare list.
    bare: bool,
    /// `None` for what cannot be what a caller searches.
    element: fn(&Value) -> Option<T>,
}

const IMAGES: Shape<String> = Shape { field: "document_images", bare: true, element: image_id };

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
        let (mut found, mut foreign) = (false, false);
        while let Some(key) = map.next_key::<String>()? {
            if key == self.0.field {
                map.next_value_seed(Items { shape: self.0, items: &mut list.items })?;
                found = true;
            } else if key == "errors" {
                list.error = worst(&map.next_value()?);
            } else {
                // So a gateway speaks that answers in the API's place.
                foreign |= FOREIGN_FIELDS.contains(&key.as_str());
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
            self.items.extend((self.shape.element)(&value));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::exchange::{Ending, LimitHeaders, PageHeaders};

    fn answer(body: &[u8]) -> Answer {
        Answer {
            status: 200,
            limits: LimitHeaders::default(),
            pages: PageHeaders::default(),
            body: body.to_vec(),
            omitted: Vec::new(),
            ending: Ending::Whole,
        }
    }

    fn images(body: &Value) -> Option<Vec<String>> {
        match read(Operation::ListImages, &answer(body.to_string().as_bytes())) {
            Parsed::Reply(Reply::Images(images)) => Some(images),
            _ => None,
        }
    }

    #[test]
    fn what_is_not_understood_is_never_an_empty_list() {
        for body in [json!({}), json!(null), json!({"images": []}), json!({"document_images": 5})] {
            assert_eq!(images(&body), None, "{body}");
        }
        for cut in [r#"{"documents":[{"id":"d1""#, r#"{"documents":[]} more"#, "", "<html>"] {
            assert_eq!(read(Operation::ReadDocuments, &answer(cut.as_bytes())), Parsed::Unreadable, "{cut}");
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
        let expected = Reply::Whoami {
            auditee: Some("Demo".to_owned()),
            institution: Some("Bank".to_owned()),
            institution_id: Some("1".to_owned()),
        };
        assert_eq!(read(Operation::Whoami, &answer(body)), Parsed::Reply(expected));
        let nothing = Reply::Whoami { auditee: None, institution: None, institution_id: None };
        assert_eq!(read(Operation::Whoami, &answer(b"{}")), Parsed::Reply(nothing));
        for strange in [&b"<html>"[..], br#"{"message":"no Route matched"}"#, br#"{"status":"ok"}"#] {
            assert_eq!(read(Operation::Whoami, &answer(strange)), Parsed::Unreadable);
        }
    }

    #[test]
    fn deep_nesting_is_refused_and_does_not_overflow() {
        let body = format!("{{\"documents\":{}", "[".repeat(1_000_000));
        assert_eq!(read(Operation::ReadDocuments, &answer(body.as_bytes())), Parsed::Unreadable);
        let body = format!("{{\"other\":{}", "[".repeat(1_000_000));
        assert_eq!(read(Operation::ReadDocuments, &answer(body.as_bytes())), Parsed::Unreadable);
    }
}
