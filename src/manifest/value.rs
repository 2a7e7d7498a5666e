//! One JSON value, read so that a duplicate field in an object is noticed.
//!
//! `serde_json` alone would silently keep the last of them, and a document would be created with the wrong image. Size
//! is bounded by the caller, depth and the number of values here.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// How many repeated fields one value remembers.
const MOST_REPEATED: usize = 50;

/// How many values one value may have within it. A small object takes a hundred times the memory of its text, so the
/// size of the text is no bound; a document of a thousand images has about five thousand.
pub(super) const MOST_VALUES: u32 = 50_000;

/// How the reason begins where a value is nested too deeply.
const TOO_DEEP: &str = "an entry is nested more than";

/// A value, and the names of the fields that appear more than once in one of its objects.
#[derive(Debug)]
pub(super) struct ParsedValue {
    pub(super) value: Value,
    pub(super) repeated: Vec<String>,
}

impl ParsedValue {
    /// Reads the next value, with at most `max_nesting` lists and objects in one another.
    ///
    /// # Errors
    ///
    /// Only what is no JSON, is nested too deeply, or has too many values within it.
    pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D, max_nesting: usize) -> Result<Self, D::Error> {
        let mut state = BuildState { repeated: Vec::new(), left: MOST_VALUES, max_nesting };
        let value = Build { state: &mut state, nesting: 0 }.deserialize(deserializer)?;
        Ok(Self { value, repeated: state.repeated })
    }
}

/// What to do about a value that is JSON, and not to be held.
pub(super) fn cure(error: &serde_json::Error) -> &'static str {
    if error.to_string().starts_with(TOO_DEEP) {
        "nest it less deeply, or raise max_nesting of the drop"
    } else {
        "make it smaller, or divide it"
    }
}

struct BuildState {
    repeated: Vec<String>,
    /// How many values may still come.
    left: u32,
    max_nesting: usize,
}

struct Build<'a> {
    state: &'a mut BuildState,
    /// How deep the value is nested.
    nesting: usize,
}

impl Build<'_> {
    /// How deep the values of this list or object are nested.
    fn enter<E: Error>(&self) -> Result<usize, E> {
        let most = self.state.max_nesting;
        if self.nesting < most {
            Ok(self.nesting.saturating_add(1))
        } else {
            Err(E::custom(format_args!("{TOO_DEEP} {most} levels deep")))
        }
    }
}

impl<'de> DeserializeSeed<'de> for Build<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self.state.left.checked_sub(1) {
            Some(left) => self.state.left = left,
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
        let nesting = self.enter()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Build { state: &mut *self.state, nesting })? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let nesting = self.enter()?;
        let mut object = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            let value = fields.next_value_seed(Build { state: &mut *self.state, nesting })?;
            if object.contains_key(&name) && self.state.repeated.len() < MOST_REPEATED {
                self.state.repeated.push(name.clone());
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

    fn read(text: &str) -> Result<ParsedValue, serde_json::Error> {
        ParsedValue::read(&mut serde_json::Deserializer::from_str(text), 100)
    }

    #[test]
    fn duplicate_fields_are_named() {
        let parsed = read(r#"{"a": 1, "b": {"c": 1, "c": 2}, "a": [{"d": 1}, {"d": 2}]}"#).unwrap();
        assert_eq!(parsed.repeated, ["c", "a"]);
    }

    #[test]
    fn deep_nesting_is_an_error_and_not_the_end_of_the_stack() {
        assert!(read(&"[".repeat(100_000)).is_err());
        assert!(read(&r#"{"a":"#.repeat(100_000)).is_err());
    }

    #[test]
    fn as_many_levels_as_are_allowed_and_none_more() {
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
            let nested = |levels| format!("{}0{}", open.repeat(levels), close.repeat(levels));
            let within = |levels| ParsedValue::read(&mut serde_json::Deserializer::from_str(&nested(levels)), 5);
            assert!(within(5).is_ok());
            let error = within(6).unwrap_err();
            assert!(error.to_string().starts_with("an entry is nested more than 5 levels deep"), "{error}");
            assert!(cure(&error).contains("max_nesting"));
        }
        assert!(ParsedValue::read(&mut serde_json::Deserializer::from_str("0"), 0).is_ok());
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
