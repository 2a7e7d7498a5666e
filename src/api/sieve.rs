//! Leaves out of a list of documents, while it arrives, those that are certainly not the ones that are looked for.
//!
//! A profile may have 200,000 documents, which a read-back of one job has no use for, and sixteen such lists at once
//! took 519 MB; of one that is left out, 8 bytes are kept. Only an element that is understood in full is left out: an object with a UUID, and images that all have
//! one, of which none is wanted, in the field `documents`. Everything else is kept as it came, so whether the list is
//! understood is still decided where lists are read. Pure: bytes go in, bytes come out.

use std::{borrow::Cow, collections::HashSet};

use serde::Deserialize;

use crate::outcome::{id_digest, normal_id};

/// The field that has the list (spec: the data of a profile).
const FIELD: &[u8] = b"documents";

/// How deep the elements of the list are: in the array in the outermost object.
const ELEMENTS: usize = 2;

/// What is kept of a list so far.
pub(super) struct Sieve {
    /// In their normal form.
    wanted: HashSet<String>,
    kept: Vec<u8>,
    /// The object or array in the list that is not complete yet.
    element: Vec<u8>,
    /// The digests of the IDs of those that are left out.
    omitted: Vec<u64>,
    /// The most that is kept: the elements that are wanted, and what is beside the list.
    most: usize,
    /// How deep the next byte is within objects and arrays.
    depth: usize,
    string: InString,
    /// The start of the last string in the outermost object: the name of the field whose value is read.
    field: Vec<u8>,
    list: Option<SiftedList>,
    malformed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum InString {
    No,
    Yes,
    Escaped,
}

/// What was seen of the list whose elements are read now.
#[derive(Default)]
struct SiftedList {
    elements: u64,
    commas: u64,
    /// Some element was kept, so that the next one needs a comma.
    any_kept: bool,
    /// The last byte belongs to a number, a word or a string.
    in_scalar: bool,
}

/// More would have to be kept than a list can have that is understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMuch;

/// A document as nearly all are; anything else is kept.
#[derive(Deserialize)]
struct PlainDocument<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    images: Vec<Image<'a>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Image<'a> {
    Record {
        #[serde(borrow)]
        id: Cow<'a, str>,
    },
    Id(#[serde(borrow)] Cow<'a, str>),
}

impl Sieve {
    /// Keeps what may be a document with one of these IDs, or with an image that has one; so many bytes at most.
    pub(super) fn new(wanted: impl IntoIterator<Item = impl AsRef<str>>, most: usize) -> Self {
        Self {
            wanted: wanted.into_iter().map(|id| normal_id(id.as_ref())).collect(),
            kept: Vec::new(),
            element: Vec::new(),
            omitted: Vec::new(),
            most,
            depth: 0,
            string: InString::No,
            field: Vec::new(),
            list: None,
            malformed: false,
        }
    }

    /// Takes the next bytes of the list.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(), TooMuch> {
        for byte in bytes {
            self.take(*byte);
        }
        if self.kept.len().saturating_add(self.element.len()) > self.most { Err(TooMuch) } else { Ok(()) }
    }

    /// What is kept, and the digests of the IDs of what is left out of it.
    pub(super) fn finish(mut self) -> (Vec<u8>, Vec<u64>) {
        self.kept.append(&mut self.element);
        if self.malformed {
            self.kept.clear();
        }
        (self.kept, self.omitted)
    }

    fn take(&mut self, byte: u8) {
        match (self.string, byte) {
            (InString::Escaped, _) => self.string = InString::Yes,
            (InString::Yes, b'\\') => self.string = InString::Escaped,
            (InString::Yes, b'"') => self.string = InString::No,
            (InString::Yes, _) => {}
            (InString::No, _) => return self.outside_of_strings(byte),
        }
        if self.depth == 1 && self.string != InString::No && self.field.len() <= FIELD.len() {
            self.field.push(byte);
        }
        self.put(byte);
    }

    fn outside_of_strings(&mut self, byte: u8) {
        let between = self.depth == ELEMENTS;
        match (byte, &mut self.list) {
            (b'{' | b'[', _) => {
                if between {
                    self.begin_element();
                }
                let is_list = byte == b'[' && self.depth == 1 && self.field == FIELD;
                if self.list.is_some() && between {
                    self.element.push(byte)
                } else {
                    self.put(byte)
                }
                self.depth = self.depth.saturating_add(1);
                if is_list {
                    self.list = Some(SiftedList::default());
                }
            }
            (b'}' | b']', list) => {
                if let Some(list) = list.take_if(|_| between) {
                    self.malformed |= list.commas != list.elements.saturating_sub(1);
                }
                // The bracket belongs to what it closes.
                self.put(byte);
                self.depth = self.depth.saturating_sub(1);
                if self.list.is_some() && self.depth == ELEMENTS {
                    self.end_element();
                }
            }
            (b',', Some(list)) if between => {
                list.commas += 1;
                list.in_scalar = false;
            }
            (b' ' | b'\t' | b'\r' | b'\n', Some(list)) if between => list.in_scalar = false,
            (_, list) => {
                if list.as_ref().is_some_and(|list| between && !list.in_scalar) {
                    self.begin_element();
                    self.write_comma();
                    if let Some(list) = &mut self.list {
                        list.in_scalar = true;
                    }
                }
                if byte == b'"' {
                    self.string = InString::Yes;
                    if self.depth == 1 {
                        self.field.clear();
                    }
                }
                self.put(byte);
            }
        }
    }

    fn put(&mut self, byte: u8) {
        let within_element = self.list.is_some() && self.depth > ELEMENTS;
        if within_element { self.element.push(byte) } else { self.kept.push(byte) }
    }

    fn begin_element(&mut self) {
        if let Some(list) = &mut self.list {
            self.malformed |= list.commas != list.elements;
            list.elements += 1;
            list.in_scalar = false;
        }
    }

    fn end_element(&mut self) {
        match self.unwanted() {
            Some(id) => self.omitted.push(id),
            None => {
                self.write_comma();
                self.kept.extend_from_slice(&self.element);
            }
        }
        self.element.clear();
    }

    fn write_comma(&mut self) {
        if let Some(list) = &mut self.list {
            if list.any_kept {
                self.kept.push(b',');
            }
            list.any_kept = true;
        }
    }

    /// The digest of the ID of a document that is certainly not wanted.
    fn unwanted(&self) -> Option<u64> {
        let document: PlainDocument<'_> = serde_json::from_slice(&self.element).ok()?;
        let unwanted = |id: &str| is_uuid(id) && !self.wanted.contains(&normal_id(id));
        let mut images = document.images.iter().map(|(Image::Record { id } | Image::Id(id))| id);
        let is_unwanted = unwanted(&document.id) && !document.images.is_empty() && images.all(|id| unwanted(id));
        is_unwanted.then(|| id_digest(&document.id))
    }
}

/// The form in which the API writes its IDs; another one may be a wanted ID that is written differently.
fn is_uuid(id: &str) -> bool {
    id.len() == 36
        && id.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn id(number: u64) -> String {
        format!("a2c4393a-e219-67a4-5ab4-{number:012x}")
    }

    fn document(number: u64, images: &[u64]) -> Value {
        let images: Vec<Value> = images.iter().map(|image| json!({"id": id(*image), "x": "]},\""})).collect();
        json!({"id": id(number), "category": "C", "images": images})
    }

    /// More than any list here.
    const MOST: usize = 1024 * 1024;

    /// Fed in pieces of every size, which must not matter.
    fn sifted(text: &str, wanted: &[String]) -> (String, u64) {
        let at_once = |size: usize| {
            let mut sieve = Sieve::new(wanted, MOST);
            for piece in text.as_bytes().chunks(size) {
                sieve.feed(piece).unwrap();
            }
            sieve.finish()
        };
        let whole = at_once(text.len().max(1));
        assert!((1..8).all(|size| at_once(size) == whole));
        (String::from_utf8(whole.0).unwrap(), whole.1.len() as u64)
    }

    #[test]
    fn only_what_is_wanted_is_kept_of_a_list_and_all_that_is_beside_it() {
        let (first, ours, other) = (document(1, &[10, 11]), document(2, &[20]), document(3, &[30]));
        let beside = json!({"entity_type": "INDIVIDUAL", "total": 3, "next": null});
        let mut list = beside.clone();
        list["documents"] = json!([first, ours, other]);
        for wanted in [id(20).to_uppercase(), id(2)] {
            let (kept, omitted) = sifted(&list.to_string(), &[wanted]);
            let mut expected = beside.clone();
            expected["documents"] = json!([ours]);
            assert_eq!((serde_json::from_str::<Value>(&kept).unwrap(), omitted), (expected, 2));
        }
        assert_eq!(sifted(r#"{"documents" : [ ] , "n":[[1 , 2]] }"#, &[]).0, r#"{"documents" : [] , "n":[[1 , 2]] }"#);
    }

    #[test]
    fn what_may_be_wanted_but_is_written_differently_is_kept() {
        for odd in [
            json!({"id": format!("urn:uuid:{}", id(2)), "images": [{"id": id(20)}]}),
            json!({"id": id(2), "images": [{"id": id(20).replace('-', "")}]}),
            json!({"id": id(2), "images": [{"id": id(20)}, {"image_id": id(21)}]}),
            json!({"id": id(2), "images": [{"id": id(20)}, 5]}),
            json!({"id": id(2), "images": []}),
            json!({"id": id(2)}),
            json!({"images": [{"id": id(20)}]}),
            json!({"id": id(2), "images": {"id": id(20)}}),
            json!([id(2)]),
            json!(id(2)),
            json!(null),
            json!(5),
        ] {
            let list = json!({"documents": [document(1, &[10]), odd, document(3, &[30]), odd]});
            let (kept, omitted) = sifted(&list.to_string(), &[]);
            let kept: Value = serde_json::from_str(&kept).unwrap();
            assert_eq!((kept, omitted), (json!({"documents": [odd, odd]}), 2));
        }
        // Which of the two counts is not for this to decide.
        let twice = format!(r#"{{"id":"{}","id":"{}","images":["{}"]}}"#, id(1), id(2), id(3));
        let list = format!(r#"{{"documents":[{twice}]}}"#);
        assert_eq!(sifted(&list, &[]), (list, 0));
    }

    #[test]
    fn what_is_at_another_place_is_kept_so_that_it_can_be_seen_there() {
        let list = json!([document(1, &[10]), document(3, &[30])]);
        for body in [
            list.clone(),
            json!({"records": list}),
            json!({"data": {"documents": list}}),
            json!({"documents": {"documents": list}}),
            json!({"documentss": list}),
            json!({"document": list, "a": "documents"}),
            json!({"a": ["documents"], "b": list}),
            json!([{"documents": list}]),
        ] {
            assert_eq!(sifted(&body.to_string(), &[]), (body.to_string(), 0));
        }
    }

    #[test]
    fn what_is_no_json_does_not_become_json() {
        let document = document(1, &[10]);
        for broken in [
            format!("[{document}{document}]}}"),
            format!("[{document},]}}"),
            format!("[,{document}]}}"),
            format!("[{document},,{document}]}}"),
            format!("[{document}"),
            format!("[{document}}}"),
            format!("[{document}]]"),
            format!("[{document}]}}x"),
            format!("[{document}]}}}}"),
            format!("[{document} 5]}}"),
            format!("[5 {document}]}}"),
            format!("[\"a\"\"b\",{document}]}}"),
            format!("[1 2,{document}]}}"),
            format!("[{document}:{document}]}}"),
            format!("[{document}][{document}]}}"),
        ] {
            let (kept, _) = sifted(&format!(r#"{{"documents":{broken}"#), &[]);
            assert!(serde_json::from_str::<Value>(&kept).is_err(), "{broken}: {kept}");
        }
    }

    #[test]
    fn memory_does_not_grow_with_what_is_left_out_and_has_a_bound() {
        let part = format!("{},", document(1, &[10, 11])).repeat(1000);
        let mut sieve = Sieve::new([id(2)], MOST);
        sieve.feed(b"{\"documents\":[").unwrap();
        for _ in 0..100 {
            sieve.feed(part.as_bytes()).unwrap();
            assert!(sieve.kept.capacity() + sieve.element.capacity() < 4096);
        }
        sieve.feed(format!("{}]}}", document(2, &[20])).as_bytes()).unwrap();
        let (kept, omitted) = sieve.finish();
        assert_eq!(kept, json!({"documents": [document(2, &[20])]}).to_string().into_bytes());
        assert_eq!(omitted, vec![id_digest(&format!("urn:uuid:{}", id(1))); 100_000]);

        let mut sieve = Sieve::new([id(2)], MOST);
        let strange = "{\"documents\":[{\"id\":\"".bytes().chain(std::iter::repeat_n(b'x', MOST));
        assert_eq!(sieve.feed(&strange.collect::<Vec<_>>()), Err(TooMuch));
    }

    proptest! {
        #[test]
        fn a_list_without_documents_stays_what_it_means(text in r#"[\[\]\{\},:"\\ a1]{0,24}"#, end in "|\\]\\}|\\}") {
            let text = format!(r#"{{"documents":[{text}{end}"#);
            let (kept, omitted) = sifted(&text, &[]);
            let read = |text: &str| serde_json::from_str::<Value>(text).ok();
            prop_assert_eq!((read(&kept), omitted), (read(&text), 0));
        }
    }
}
