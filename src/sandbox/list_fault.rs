//! Lists of documents as a gateway, a cache, or another version of the API may answer them.
//!
//! What is visible is decided before; this only changes how it is written down.

use std::{fmt, str::FromStr};

use serde_json::{Map, Value, json};

use super::syntax::{RuleError, unknown_word};

/// What is odd about a list of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListFault {
    /// Only the older half, with no sign of more.
    Page,
    /// Only the older half, with `next`.
    PageNext,
    /// Only the older half, with `total`.
    PageTotal,
    /// Only the older half, with a header `Link` to the next page.
    PageLink,
    /// Only the older half, with a header `X-Total-Count`.
    PageCount,
    /// That of another profile.
    Foreign,
    /// An empty object.
    Empty,
    /// `documents` is `null`.
    Null,
    /// The list has another name.
    Renamed,
    /// The answer is under `data`.
    Wrapped,
    /// The documents have no `images`.
    NoImages,
    /// The images have `image_id` in the place of `id`.
    ImageId,
    /// Every id is a `urn:uuid:`.
    Urn,
    /// No id has dashes.
    NoDashes,
    /// Every id is in capital letters.
    UpperCase,
    /// Each document has one image more.
    ImageMore,
    /// Each document has one image less.
    ImageLess,
    /// The list has one more element, which is no document.
    Unreadable,
}

impl ListFault {
    /// Every one, with its word in rules.
    pub const KNOWN: [(&str, Self); 18] = [
        ("page", Self::Page),
        ("page-next", Self::PageNext),
        ("page-total", Self::PageTotal),
        ("page-link", Self::PageLink),
        ("page-count", Self::PageCount),
        ("foreign", Self::Foreign),
        ("empty", Self::Empty),
        ("null", Self::Null),
        ("renamed", Self::Renamed),
        ("wrapped", Self::Wrapped),
        ("no-images", Self::NoImages),
        ("image-id", Self::ImageId),
        ("urn", Self::Urn),
        ("no-dashes", Self::NoDashes),
        ("upper-case", Self::UpperCase),
        ("image-more", Self::ImageMore),
        ("image-less", Self::ImageLess),
        ("unreadable", Self::Unreadable),
    ];

    /// Changes an answer with a list, `{"documents": […], …}`; text that is none stays as it is.
    pub(super) fn apply(self, body: &str) -> String {
        let Ok(Value::Object(mut answer)) = serde_json::from_str(body) else { return body.to_owned() };
        match self {
            Self::Foreign => {}
            Self::Empty => answer.clear(),
            Self::Null => _ = answer.insert("documents".to_owned(), Value::Null),
            Self::Renamed => {
                let documents = answer.remove("documents").unwrap_or_default();
                answer.insert("collected_documents".to_owned(), documents);
            }
            Self::Wrapped => {
                let whole = Value::Object(std::mem::take(&mut answer));
                answer.insert("data".to_owned(), whole);
            }
            _ => {
                if let Some(Value::Array(documents)) = answer.get_mut("documents") {
                    let whole = documents.len();
                    self.change(documents);
                    match self {
                        Self::PageNext => _ = answer.insert("next".to_owned(), json!("?page=2")),
                        Self::PageTotal => _ = answer.insert("total".to_owned(), json!(whole)),
                        _ => {}
                    }
                }
            }
        }
        Value::Object(answer).to_string()
    }

    /// A header that comes with a list of so many documents.
    pub(super) fn header(self, documents: usize) -> Option<(&'static str, String)> {
        match self {
            Self::PageLink => Some(("link", "<?page=2>; rel=\"next\"".to_owned())),
            Self::PageCount => Some(("x-total-count", documents.to_string())),
            _ => None,
        }
    }

    fn change(self, documents: &mut Vec<Value>) {
        match self {
            Self::Page | Self::PageNext | Self::PageTotal | Self::PageLink | Self::PageCount => {
                documents.truncate(documents.len() / 2)
            }
            Self::Unreadable => documents.push(json!(17)),
            _ => documents.iter_mut().filter_map(Value::as_object_mut).for_each(|document| self.change_one(document)),
        }
    }

    fn change_one(self, document: &mut Map<String, Value>) {
        if self == Self::NoImages {
            document.remove("images");
        }
        self.rewrite_id(document);
        let Some(Value::Array(images)) = document.get_mut("images") else { return };
        for image in images.iter_mut().filter_map(Value::as_object_mut) {
            self.rewrite_id(image);
            if self == Self::ImageId {
                let id = image.remove("id").unwrap_or_default();
                image.insert("image_id".to_owned(), id);
            }
        }
        match self {
            Self::ImageMore => images.push(json!({"id": "0e0f0a0b-0000-4000-8000-000000000001"})),
            Self::ImageLess => _ = images.pop(),
            _ => {}
        }
    }

    fn rewrite_id(self, record: &mut Map<String, Value>) {
        let Some(Value::String(id)) = record.get_mut("id") else { return };
        match self {
            Self::Urn => id.insert_str(0, "urn:uuid:"),
            Self::NoDashes => id.retain(|letter| letter != '-'),
            Self::UpperCase => id.make_ascii_uppercase(),
            _ => {}
        }
    }
}

impl FromStr for ListFault {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let known = Self::KNOWN.iter().find(|(word, _)| *word == text);
        known
            .map(|(_, fault)| *fault)
            .ok_or_else(|| unknown_word("list", text, Self::KNOWN.iter().map(|(word, _)| *word)))
    }
}

impl fmt::Display for ListFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Self::KNOWN.iter().find(|(_, fault)| fault == self);
        f.write_str(known.map_or("", |(word, _)| word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(fault: ListFault) -> String {
        fault.apply(r#"{"documents":[{"id":"a-b","images":[{"id":"c-d"}]}],"entity_type":"INDIVIDUAL"}"#)
    }

    #[test]
    fn each_list_is_odd_in_its_own_way() {
        let expected = [
            r#"{"documents":[],"entity_type":"INDIVIDUAL"}"#,
            r#"{"documents":[],"entity_type":"INDIVIDUAL","next":"?page=2"}"#,
            r#"{"documents":[],"entity_type":"INDIVIDUAL","total":1}"#,
            r#"{"documents":[],"entity_type":"INDIVIDUAL"}"#,
            r#"{"documents":[],"entity_type":"INDIVIDUAL"}"#,
            r#"{"documents":[{"id":"a-b","images":[{"id":"c-d"}]}],"entity_type":"INDIVIDUAL"}"#,
            "{}",
            r#"{"documents":null,"entity_type":"INDIVIDUAL"}"#,
            r#"{"collected_documents":[{"id":"a-b","images":[{"id":"c-d"}]}],"entity_type":"INDIVIDUAL"}"#,
            r#"{"data":{"documents":[{"id":"a-b","images":[{"id":"c-d"}]}],"entity_type":"INDIVIDUAL"}}"#,
            r#"{"documents":[{"id":"a-b"}],"entity_type":"INDIVIDUAL"}"#,
            r#"{"documents":[{"id":"a-b","images":[{"image_id":"c-d"}]}],"entity_type":"INDIVIDUAL"}"#,
            r#"{"documents":[{"id":"urn:uuid:a-b","images":[{"id":"urn:uuid:c-d"}]}],"entity_type":"INDIVIDUAL"}"#,
            r#"{"documents":[{"id":"ab","images":[{"id":"cd"}]}],"entity_type":"INDIVIDUAL"}"#,
            r#"{"documents":[{"id":"A-B","images":[{"id":"C-D"}]}],"entity_type":"INDIVIDUAL"}"#,
            r#"{"documents":[{"id":"a-b","images":[{"id":"c-d"},{"id":"0e0f0a0b-0000-4000-8000-000000000001"}]}],"entity_type":"INDIVIDUAL"}"#,
            r#"{"documents":[{"id":"a-b","images":[]}],"entity_type":"INDIVIDUAL"}"#,
            r#"{"documents":[{"id":"a-b","images":[{"id":"c-d"}]},17],"entity_type":"INDIVIDUAL"}"#,
        ];
        for ((word, fault), expected) in ListFault::KNOWN.into_iter().zip(expected) {
            assert_eq!(fault.to_string(), word);
            let (is, wanted): (Value, Value) =
                (serde_json::from_str(&one(fault)).unwrap(), serde_json::from_str(expected).unwrap());
            assert_eq!(is, wanted, "{word}");
        }
    }

    #[test]
    fn an_answer_that_is_no_list_stays_as_it_is() {
        assert_eq!(ListFault::Page.apply("[1]"), "[1]");
        assert_eq!(ListFault::Page.apply("{\"id\":7}"), "{\"id\":7}");
    }
}
