//! One JSON value, read so that a field which stands twice in an object is noticed.
//!
//! `serde_json` alone would keep the last of them in silence, and a document would go out with the wrong image. Depth is
//! bounded by `serde_json`'s own recursion limit, size by whoever hands the text over.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// How many repeated fields one value remembers.
const MOST_REPEATED: usize = 50;

/// A value, and the names of the fields that stand more than once in one of its objects.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) value: Value,
    pub(super) repeated: Vec<String>,
}

impl Parsed {
    /// Reads the next value.
    ///
    /// # Errors
    ///
    /// Only what is no JSON, or is nested too deeply.
    pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut repeated = Vec::new();
        let value = Build { repeated: &mut repeated }.deserialize(deserializer)?;
        Ok(Self { value, repeated })
    }
}

struct Build<'a> {
    repeated: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Build<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Build<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Build { repeated: self.repeated })? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            let value = fields.next_value_seed(Build { repeated: self.repeated })?;
            if object.contains_key(&name) && self.repeated.len() < MOST_REPEATED {
                self.repeated.push(name.clone());
            }
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Parsed, serde_json::Error> {
        Parsed::read(&mut serde_json::Deserializer::from_str(text))
    }

    #[test]
    fn fields_that_stand_twice_are_named() {
        let parsed = read(r#"{"a": 1, "b": {"c": 1, "c": 2}, "a": [{"d": 1}, {"d": 2}]}"#).unwrap();
        assert_eq!(parsed.repeated, ["c", "a"]);
    }

    #[test]
    fn deep_nesting_is_an_error_and_not_the_end_of_the_stack() {
        assert!(read(&"[".repeat(100_000)).is_err());
        assert!(read(&r#"{"a":"#.repeat(100_000)).is_err());
    }

    proptest! {
        #[test]
        fn other_values_are_read_as_serde_json_reads_them(text in r#"[\[\]{}:,"a-c0-9e.\-truefalsn \\]{0,40}"#) {
            let ours = read(&text).ok().map(|parsed| parsed.value);
            let theirs = serde_json::Deserializer::from_str(&text).into_iter::<Value>().next().and_then(Result::ok);
            if !text.trim().is_empty() && theirs.is_some() {
                prop_assert_eq!(ours, theirs);
            }
        }
    }
}
