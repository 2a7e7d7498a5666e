//! One JSON value, read so that a duplicate field in an object is noticed.
//!
//! `serde_json` alone would silently keep the last of them, and a document would be created with the wrong image. Size
//! is bounded by the caller, depth and the number of values here.

use std::{collections::HashSet, fmt};

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value, value::RawValue};

/// How many repeated fields one value remembers.
const MOST_REPEATED: usize = 50;

/// How many values one value may have within it. A small object takes a hundred times the memory of its text, so the
/// size of the text is no bound; a document of a thousand images has about five thousand.
pub(super) const MOST_VALUES: u32 = 50_000;

/// How the reason begins where a value is nested too deeply.
const TOO_DEEP: &str = "an entry is nested more than";

/// How the reason begins where a text in `extracted_data` cannot be read.
const BAD_TEXT: &str = "extracted_data has a text that cannot be read";

/// The field whose text is kept as it is.
const RAW: &str = "extracted_data";

/// A value, and the names of the fields that appear more than once in one of its objects.
#[derive(Debug)]
pub(super) struct ParsedValue {
    /// Its field `extracted_data` is there, but without what is within it.
    pub(super) value: Value,
    /// The text of its field `extracted_data`.
    pub(super) extracted_data: Option<Box<str>>,
    pub(super) repeated: Vec<String>,
}

impl ParsedValue {
    /// Reads the next value, with at most `max_nesting` lists and objects in one another.
    ///
    /// # Errors
    ///
    /// Only what is no JSON, is nested too deeply, or has too many values within it.
    pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D, max_nesting: usize) -> Result<Self, D::Error> {
        let mut state = BuildState { repeated: Vec::new(), left: MOST_VALUES, max_nesting, raw: None };
        let value = Build { state: &mut state, nesting: 0 }.deserialize(deserializer)?;
        Ok(Self { value, extracted_data: state.raw, repeated: state.repeated })
    }
}

/// What to do about a value that is JSON, and not to be held.
pub(super) fn cure(error: &serde_json::Error) -> &'static str {
    let reason = error.to_string();
    if reason.starts_with(TOO_DEEP) {
        "nest it less deeply, or raise max_nesting of the drop"
    } else if reason.starts_with(BAD_TEXT) {
        "mend the JSON at this place"
    } else {
        "make it smaller, or divide it"
    }
}

struct BuildState {
    repeated: Vec<String>,
    /// How many values may still come.
    left: u32,
    max_nesting: usize,
    raw: Option<Box<str>>,
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

    fn count<E: Error>(&mut self) -> Result<(), E> {
        match self.state.left.checked_sub(1) {
            Some(left) => self.state.left = left,
            None => return Err(E::custom(format_args!("an entry has more than {MOST_VALUES} values"))),
        }
        Ok(())
    }

    fn repeat(&mut self, name: &str) {
        if self.state.repeated.len() < MOST_REPEATED {
            self.state.repeated.push(name.to_owned());
        }
    }

    /// Holds a text that is JSON to the same rules without taking it apart for good; gives a value of the same kind.
    fn check<E: Error>(&mut self, text: &str) -> Result<Value, E> {
        self.count()?;
        // It was read as JSON, so only its texts may still be wrong, by half of a surrogate pair.
        let failed = |error: serde_json::Error| E::custom(format_args!("{BAD_TEXT}: {}", plain(&error)));
        match text.as_bytes().first() {
            Some(b'{') => {
                let nesting = self.enter()?;
                let fields: Fields<'_> = serde_json::from_str(text).map_err(failed)?;
                let mut seen = HashSet::new();
                for (name, value) in &fields.0 {
                    if !seen.insert(name) {
                        self.repeat(name);
                    }
                    Build { state: &mut *self.state, nesting }.check::<E>(value.get())?;
                }
                Ok(Value::Object(Map::new()))
            }
            Some(b'[') => {
                let nesting = self.enter()?;
                for item in serde_json::from_str::<Vec<&RawValue>>(text).map_err(failed)? {
                    Build { state: &mut *self.state, nesting }.check::<E>(item.get())?;
                }
                Ok(Value::Array(Vec::new()))
            }
            Some(b'"') => serde_json::from_str(text).map(Value::String).map_err(failed),
            Some(b'n') => Ok(Value::Null),
            Some(b't' | b'f') => Ok(Value::Bool(true)),
            _ => Ok(Value::Number(0.into())),
        }
    }
}

/// What is wrong, without the place, which counts from the beginning of a part.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason).to_owned()
}

/// The fields of an object in their order, the repeated ones too.
pub(super) struct Fields<'a>(pub(super) Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

impl<'de> DeserializeSeed<'de> for Build<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(mut self, deserializer: D) -> Result<Value, D::Error> {
        self.count()?;
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

    fn visit_map<A: MapAccess<'de>>(mut self, mut fields: A) -> Result<Value, A::Error> {
        let nesting = self.enter()?;
        let mut object = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            let value = if self.nesting == 0 && name == RAW {
                let raw = Box::<str>::from(fields.next_value::<Box<RawValue>>()?);
                let outline = Build { state: &mut *self.state, nesting }.check(&raw)?;
                self.state.raw = Some(raw);
                outline
            } else {
                fields.next_value_seed(Build { state: &mut *self.state, nesting })?
            };
            if object.contains_key(&name) {
                self.repeat(&name);
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

    #[test]
    fn extracted_data_is_kept_as_it_came_and_held_to_the_same_rules() {
        let with = |data: &str| read(&format!("{{\"a\": 1, \"extracted_data\": {data} }}"));
        let parsed = with("{ \"n\":1.10,\"far\": 1e999}").unwrap();
        assert_eq!(parsed.extracted_data.as_deref(), Some("{ \"n\":1.10,\"far\": 1e999}"));
        assert_eq!(with(r#"{"b": {"c": 1, "c": 2}, "d": [{"e": 1, "e": 2}]}"#).unwrap().repeated, ["c", "e"]);
        for (data, is_kind) in
            [("[]", Value::is_array as fn(&Value) -> bool), ("null", Value::is_null), ("3", Value::is_number)]
        {
            assert!(is_kind(&with(data).unwrap().value["extracted_data"]), "{data}");
        }
        let nested = |levels: usize| format!("{}0{}", "[".repeat(levels), "]".repeat(levels));
        assert!(with(&nested(99)).is_ok());
        for (data, reason, cure_of) in [
            (nested(100), "an entry is nested more than 100 levels deep", "max_nesting"),
            (nested(100_000), "an entry is nested more than 100 levels deep", "max_nesting"),
            (format!("[{}0]", "0,".repeat(MOST_VALUES as usize)), "an entry has more than 50000 values", "divide"),
            (r#"{"a": ["\ud800"]}"#.to_owned(), "extracted_data has a text that cannot be read", "mend"),
        ] {
            let error = with(&data).unwrap_err();
            assert!(error.to_string().starts_with(reason), "{error}");
            assert!(cure(&error).contains(cure_of), "{error}");
        }
        // Only at the top of an entry, and only text that is JSON.
        assert_eq!(read(r#"{"x": {"extracted_data": {}}}"#).unwrap().extracted_data, None);
        assert!(with("{\"a\": 01}").is_err() && with("{\"a\" 1}").is_err());
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
