//! Reads the list of a profile's documents, one element at a time, and says what of it is not understood.
//!
//! Whatever looks like a document is kept, since one that is found counts in any list; but an absence counts only in a
//! list without a [`ListDoubt`]. Once, every odd list was taken for an empty one, and each lost answer became a second
//! document.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::{
    Reply,
    errors::{ApiError, FOREIGN_FIELDS, Parsed, worst},
};
use crate::{clock::Timestamp, exchange::PageHeaders};

/// A document that exists on a profile.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StandingDocument {
    /// As the API gave it.
    pub id: String,
    /// For example `PROOF_OF_IDENTITY`; empty where the API gives none.
    pub category: String,
    /// For example `PASSPORT`; empty where the API gives none.
    pub document_type: String,
    /// The IDs of its images, in the API's order.
    pub image_ids: Vec<String>,
    /// Whether the list leaves its images out, or not all of them can be read.
    pub unclear_images: bool,
    /// When the newest of its images was uploaded, where the API says that of each; answers differ by some time.
    pub newest_upload: Option<Timestamp>,
}

/// The documents that a list shows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DocumentList {
    /// In the order of the list.
    pub documents: Vec<StandingDocument>,
    /// Why there may be more than it shows; empty where it is understood in full.
    pub doubts: Vec<ListDoubt>,
    /// The digests of the IDs of further documents that it shows, none of which was asked for; see [`id_digest`].
    pub omitted: Vec<u64>,
}

/// Why a list may show less than there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListDoubt {
    /// The answer has no list of documents where the guide says, and is not the data of a profile.
    NoList,
    /// Documents may be at another place in the answer.
    OtherPlace,
    /// The answer says that there are more, or that it does not begin with the first.
    MorePages,
    /// Elements of the list cannot be read.
    Unreadable,
}

impl ListDoubt {
    /// For a person.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoList => "it has no field `documents`",
            Self::OtherPlace => "documents may be elsewhere in it than in the field `documents`",
            Self::MorePages => "it is one page of several",
            Self::Unreadable => "some of its elements cannot be read",
        }
    }
}

/// The longest id that is taken; a UUID has 36 characters.
const LONGEST_ID: usize = 100;

/// An id as the API gave it: today a UUID in any letter case, but any short visible text without a slash will do.
pub(super) fn usable_id(value: &Value) -> Option<String> {
    let id = value.as_str()?;
    let usable = (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
    usable.then(|| id.to_owned())
}

/// An ID in the form in which two spellings of one are equal: UUIDs in any case, with or without dashes, braces or
/// `urn:uuid:`.
#[must_use]
pub fn normal_id(id: &str) -> String {
    let lower = id.trim().to_ascii_lowercase();
    let bare = lower.strip_prefix("urn:uuid:").unwrap_or(&lower).trim_matches(['{', '}']);
    let digits: String = bare.chars().filter(|letter| *letter != '-').collect();
    let is_uuid = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_uuid { digits } else { bare.to_owned() }
}

/// A digest that two spellings of one ID share.
#[must_use]
pub fn id_digest(id: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(normal_id(id).as_bytes())
}

/// Reads the body of an answer whose status is a success, of whose list these elements were left out on the way.
pub(super) fn read(body: &[u8], omitted: &[u64], pages: PageHeaders) -> Parsed {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let Ok(answer) = deserializer.deserialize_any(DocumentsAnswer { omitted, pages }) else {
        return Parsed::Unreadable;
    };
    match (deserializer.end(), answer) {
        (Ok(()), Ok(list)) => Parsed::Reply(Reply::Documents(list)),
        (Ok(()), Err(error)) => Parsed::Error(error),
        (Err(_), _) => Parsed::Unreadable,
    }
}

/// Reads the answer's top level.
struct DocumentsAnswer<'a> {
    omitted: &'a [u64],
    pages: PageHeaders,
}

impl<'de> Visitor<'de> for DocumentsAnswer<'_> {
    type Value = Result<DocumentList, ApiError>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with documents")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut items = DocumentElements { omitted: self.omitted.to_vec(), ..DocumentElements::default() };
        let (mut place, mut error) = (ListPlace::Nowhere, None);
        let (mut of_profile, mut foreign, mut elsewhere) = (false, false, false);
        let mut page_signs = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "documents" => place = map.next_value_seed(&mut items)?,
                "errors" => error = worst(&map.next_value()?),
                _ if PageSign::of(&key).is_some() => page_signs.push((key, map.next_value::<Value>()?)),
                _ => {
                    of_profile |= key == "entity_type";
                    // So a gateway speaks that answers in the API's place.
                    foreign |= FOREIGN_FIELDS.contains(&key.as_str());
                    elsewhere |= map.next_value_seed(HasImages)?;
                }
            }
        }
        if let Some(error) = error {
            return Ok(Err(error));
        }
        if foreign && items.is_empty() {
            return Err(A::Error::custom("the list is missing"));
        }
        let shown = items.shown();
        let mut doubts = Vec::new();
        match place {
            ListPlace::Nowhere if !of_profile => doubts.push(ListDoubt::NoList),
            ListPlace::Other => doubts.push(ListDoubt::OtherPlace),
            _ if elsewhere && items.is_empty() => doubts.push(ListDoubt::OtherPlace),
            _ => {}
        }
        let says_more =
            |(key, value): &(String, Value)| PageSign::of(key).is_some_and(|sign| sign.says_more(value, shown));
        if page_signs.iter().any(says_more) || has_more(self.pages, shown) {
            doubts.push(ListDoubt::MorePages);
        }
        Ok(Ok(items.with(doubts)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        let mut items = DocumentElements::default();
        (&mut items).visit_seq(seq)?;
        let mut doubts = vec![ListDoubt::OtherPlace];
        doubts.extend(has_more(self.pages, items.shown()).then_some(ListDoubt::MorePages));
        Ok(Ok(items.with(doubts)))
    }
}

/// What the field for the list has.
enum ListPlace {
    Nowhere,
    List,
    /// Something else than a list.
    Other,
}

/// Reads the list itself, one element at a time.
#[derive(Default)]
struct DocumentElements {
    documents: Vec<StandingDocument>,
    unreadable: u64,
    omitted: Vec<u64>,
}

impl DocumentElements {
    const fn is_empty(&self) -> bool {
        self.shown() == 0
    }

    const fn shown(&self) -> u64 {
        self.documents.len() as u64 + self.unreadable + self.omitted.len() as u64
    }

    fn with(self, mut doubts: Vec<ListDoubt>) -> DocumentList {
        if self.unreadable > 0 {
            doubts.push(ListDoubt::Unreadable);
        }
        DocumentList { documents: self.documents, doubts, omitted: self.omitted }
    }
}

impl<'de> DeserializeSeed<'de> for &mut DocumentElements {
    type Value = ListPlace;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<ListPlace, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut DocumentElements {
    type Value = ListPlace;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list or null")
    }

    fn visit_unit<E>(self) -> Result<ListPlace, E> {
        Ok(ListPlace::List)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<ListPlace, A::Error> {
        while let Some(value) = seq.next_element::<Value>()? {
            match standing_document(&value) {
                Some(document) => self.documents.push(document),
                None => self.unreadable += 1,
            }
        }
        Ok(ListPlace::List)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ListPlace, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(ListPlace::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<ListPlace, E> {
        Ok(ListPlace::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<ListPlace, E> {
        Ok(ListPlace::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<ListPlace, E> {
        Ok(ListPlace::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<ListPlace, E> {
        Ok(ListPlace::Other)
    }

    fn visit_str<E>(self, _: &str) -> Result<ListPlace, E> {
        Ok(ListPlace::Other)
    }
}

fn standing_document(value: &Value) -> Option<StandingDocument> {
    let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let id = value.get("id").or_else(|| value.get("document_id")).and_then(usable_id)?;
    let images = value.get("images").and_then(Value::as_array);
    let image_ids: Vec<String> = images.into_iter().flatten().filter_map(image_id).collect();
    Some(StandingDocument {
        id,
        category: text("category"),
        document_type: text("document_type"),
        unclear_images: images.is_none_or(|images| images.len() != image_ids.len()),
        image_ids,
        newest_upload: images.and_then(|images| newest_upload(images)),
    })
}

/// `2019-10-03 14:05:19`, as the guide shows it; taken for UTC.
fn newest_upload(images: &[Value]) -> Option<Timestamp> {
    let date = |image: &Value| {
        let text = image.get("upload_date")?.as_str()?;
        let moment = text.parse::<jiff::Timestamp>().ok().or_else(|| {
            let date: jiff::civil::DateTime = text.parse().ok()?;
            Some(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
        })?;
        Some(Timestamp(moment.as_millisecond()))
    };
    images.iter().map(date).collect::<Option<Vec<_>>>()?.into_iter().max()
}

/// The ID of an image, given as its record or as its ID alone.
fn image_id(value: &Value) -> Option<String> {
    usable_id(value.get("id").or_else(|| value.get("image_id")).unwrap_or(value))
}

/// Whether anything within a value has images.
struct HasImages;

impl<'de> DeserializeSeed<'de> for HasImages {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for HasImages {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let mut found = false;
        while let Some(key) = map.next_key::<String>()? {
            found |= matches!(key.as_str(), "images" | "image_ids" | "document_type");
            found |= map.next_value_seed(Self)?;
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<bool, A::Error> {
        let mut found = false;
        while let Some(has) = seq.next_element_seed(Self)? {
            found |= has;
        }
        Ok(found)
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_bool<E>(self, _: bool) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_i64<E>(self, _: i64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_u64<E>(self, _: u64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_f64<E>(self, _: f64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_str<E>(self, _: &str) -> Result<bool, E> {
        Ok(false)
    }
}

/// A field that says something about pages. The API has none today; a gateway or a later version may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PageSign {
    /// There is more where it says anything at all.
    Next,
    /// How many there are in all.
    Total,
    /// How many pages there are, or which one this is, from 1.
    Page,
    /// How many were left out before the first.
    Offset,
    /// How many fit at most.
    Limit,
    /// Holds such fields.
    Group,
}

impl PageSign {
    fn of(field: &str) -> Option<Self> {
        let field: String =
            field.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect();
        Some(match field.as_str() {
            "next" | "nextpage" | "nexturl" | "nexturi" | "nextlink" | "nexthref" | "nextcursor" | "nexttoken"
            | "nextpagetoken" | "nextoffset" | "nextmarker" | "odatanextlink" | "cursor" | "continuation"
            | "continuationtoken" | "hasmore" | "hasnext" | "hasnextpage" | "more" | "moreavailable"
            | "moreresults" | "truncated" | "istruncated" | "partial" | "incomplete" | "incompleteresults" => {
                Self::Next
            }
            "total" | "totalcount" | "totalresults" | "totalitems" | "totaldocuments" | "totalelements" | "count"
            | "documenttotal" | "documentstotal" | "documentcount" | "documentscount" | "resultcount" => Self::Total,
            "totalpages" | "pages" | "pagecount" | "lastpage" | "page" | "pagenumber" | "currentpage" => Self::Page,
            "offset" | "skip" | "startindex" => Self::Offset,
            "limit" | "pagesize" | "perpage" | "maxresults" => Self::Limit,
            "links" | "meta" | "metadata" | "pagination" | "paging" | "pageinfo" | "cursors" => Self::Group,
            _ => return None,
        })
    }

    fn says_more(self, value: &Value, shown: u64) -> bool {
        let within = |value: &Value| match value {
            Value::Object(fields) => {
                fields.iter().any(|(key, value)| Self::of(key).is_some_and(|sign| sign.says_more(value, shown)))
            }
            Value::Array(links) => links.iter().any(|link| link.get("rel").and_then(Value::as_str) == Some("next")),
            _ => false,
        };
        match self {
            Self::Next => is_something(value),
            Self::Total => number(value).is_some_and(|total| total > shown),
            Self::Page => number(value).is_some_and(|page| page > 1) || within(value),
            Self::Offset => number(value).is_some_and(|offset| offset > 0),
            Self::Limit => number(value).is_some_and(|limit| shown > 0 && limit <= shown),
            Self::Group => within(value),
        }
    }
}

fn has_more(pages: PageHeaders, shown: u64) -> bool {
    pages.has_next || pages.total.is_some_and(|total| total > shown)
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}

fn is_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(is) => *is,
        Value::Number(number) => number.as_u64() != Some(0),
        Value::String(text) => !matches!(text.trim(), "" | "false" | "0" | "null"),
        Value::Array(values) => values.iter().any(is_something),
        Value::Object(fields) => fields.values().any(is_something),
    }
}

#[cfg(test)]
#[path = "documents_tests.rs"]
mod tests;
