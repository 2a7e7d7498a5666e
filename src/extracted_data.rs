//! `extracted_data` of a document: the sender's own JSON text, kept byte for byte.
//!
//! A parsed value would not do: 123456789012345678901234 went out as 1.2345678901234569e+23, and 1.10 as 1.1.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Serialize, Serializer, ser::Error as _};
use serde_json::value::RawValue;

/// The text of a JSON object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtractedData(Box<str>);

impl ExtractedData {
    /// Takes a text; `None` where it is not one JSON object.
    #[must_use]
    pub fn parse(text: impl Into<Box<str>>) -> Option<Self> {
        let text = text.into();
        let is_object = text.trim_start().starts_with('{') && serde_json::from_str::<&RawValue>(&text).is_ok();
        is_object.then_some(Self(text))
    }

    /// The text, as it came.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text without insignificant white space, and with the fields of each object in order: two that differ only
    /// there are the same. Numbers stay as they are written, since 1.10 and 1.1 may be two versions of something.
    #[must_use]
    pub fn canonical(&self) -> String {
        let mut out = String::with_capacity(self.0.len());
        // The text was JSON when it was taken; if it is not, it stands for itself.
        match write(&self.0, &mut out) {
            Ok(()) => out,
            Err(_) => self.0.to_string(),
        }
    }
}

/// Goes out as it came.
impl Serialize for ExtractedData {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::from_str::<&RawValue>(&self.0).map_err(S::Error::custom)?.serialize(serializer)
    }
}

/// One level at a time: `serde_json` finds where each value within this one begins and ends.
fn write(text: &str, out: &mut String) -> serde_json::Result<()> {
    let text = text.trim_ascii();
    match text.as_bytes().first() {
        Some(b'{') => {
            let fields: BTreeMap<String, &RawValue> = serde_json::from_str(text)?;
            let mut before = '{';
            for (name, value) in fields {
                out.push(before);
                out.push_str(&serde_json::to_string(&name)?);
                out.push(':');
                write(value.get(), out)?;
                before = ',';
            }
            out.push_str(if before == '{' { "{}" } else { "}" });
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text)?;
            let mut before = '[';
            for item in items {
                out.push(before);
                write(item.get(), out)?;
                before = ',';
            }
            out.push_str(if before == '[' { "[]" } else { "]" });
        }
        // However its characters are escaped.
        Some(b'"') => out.push_str(&serde_json::to_string(&serde_json::from_str::<Cow<'_, str>>(text)?)?),
        _ => out.push_str(text),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        ExtractedData::parse(text).unwrap().canonical()
    }

    #[test]
    fn only_an_object_is_taken_and_it_goes_out_as_it_came() {
        for bad in ["", "[]", "1", "{", "{} {}", "nonsense"] {
            assert_eq!(ExtractedData::parse(bad), None, "{bad}");
        }
        let text = "{ \"number\": 123456789012345678901234,\n \"amount\":1.10, \"far\": 1e999 }";
        let data = ExtractedData::parse(text).unwrap();
        assert_eq!(serde_json::to_string(&data).unwrap(), text);
    }

    #[test]
    fn white_space_order_and_escapes_are_the_same_and_numbers_are_as_written() {
        let one = canonical(r#"{"b": [1, {"y": null, "x": {}}, []], "a": "A/B"}"#);
        assert_eq!(one, r#"{"a":"A/B","b":[1,{"x":{},"y":null},[]]}"#);
        assert_eq!(one, canonical("{\"a\":\"\\u0041\\/B\",\r\n\"b\":[ 1,{\"x\":{ },\"y\":null},[\t]]}"));
        for (one, other) in [("1.10", "1.1"), ("1e2", "1E2"), ("1", "1.0"), ("\"1\"", "1"), ("[1,2]", "[2,1]")] {
            assert_ne!(canonical(&format!("{{\"n\":{one}}}")), canonical(&format!("{{\"n\":{other}}}")));
        }
    }
}
