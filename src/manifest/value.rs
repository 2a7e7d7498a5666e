//! One JSON value, read so that a field which stands twice in an object is noticed.
//!
//! `serde_json` alone would keep the last of them in silence, and a document would go out with the wrong image. Depth is
//! bounded by `serde_json`'s own recursion limit, size by whoever hands the text over, and the number of values here.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// How many repeated fields one value remembers.
const MOST_REPEATED: usize = 50;

/// How many values one value may have within it. A small object takes a hundred times the memory of its text, so the
/// size of the text is no bound; a document of a thousand images has about five thousand.
pub(super) const MOST_VALUES: u32 = 50_000;

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
    /// Only what is no JSON, is nested too deeply, or has too many values within it.
    pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut state = State { repeated: Vec::new(), left: MOST_VALUES };
        let value = Build(&mut state).deserialize(deserializer)?;
        Ok(Self { value, repeated: state.repeated })
    }
}

impl<'de> Deserialize<'de> for Parsed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(deserializer)
    }
}

struct State {
    repeated: Vec<String>,
    /// How many values may still come.
    left: u32,
}

struct Build<'a>(&'a mut State);

impl<'de> DeserializeSeed<'de> for Build<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self.0.left.checked_sub(1) {
            Some(left) => self.0.left = left,
            None => return Err(D::Error::custom(format_args!("an entry has more than {MOST_VALUES} values"))),
        }
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
        while let Some(item) = items.next_element_seed(Build(&mut *self.0))? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            let value = fields.next_value_seed(Build(&mut *self.0))?;
            if object.contains_key(&name) && self.0.repeated.len() < MOST_REPEATED {
                self.0.repeated.push(name.clone());
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

    #[test]
    fn more_small_values_than_memory_should_hold_are_refused() {
        let list = |count: u32| format!("[{}0]", "0,".repeat(count as usize - 2));
        assert!(read(&list(MOST_VALUES)).is_ok());
        assert!(
            read(&list(MOST_VALUES + 1)).unwrap_err().to_string().starts_with("an entry has more than 50000 values")
        );
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
