//! The JSON manifest: one object with `documents` and `files`, of any length.
//!
//! Its fields may come in any order, so it is read twice: first the form is checked, and the fields of the top are
//! gathered; then the entries are handed out. Each element of the two lists is held alone, and given up before it grows
//! beyond its limit. Text that is not JSON is thus noticed before the first entry goes out.

use std::{
    fmt,
    io::{BufReader, Read, Seek},
    marker::PhantomData,
    mem,
    ops::ControlFlow,
};

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Value, value::RawValue};

use crate::{
    entry::{EntryKind, ProfileId},
    nearest::nearest,
    problem::Problem,
};

use super::{
    ManifestBounds, ReadError, Sink, Text, VisitRaw, fields,
    findings::{Findings, name, quote},
    meter::{Meter, Metered},
    no_entries,
    object::{self, Place, kind_of},
    read_failure, too_many_entries,
    value::{ParsedValue, cure},
};

/// The fields at the top.
pub(super) const TOP_FIELDS: [&str; 4] = ["version", "profile_id", "documents", "files"];

/// One element of `documents` or `files`.
struct ListItem<T> {
    kind: EntryKind,
    /// Its place in its own list, from 0.
    number: u64,
    line: u64,
    value: T,
}

/// How an element is held.
trait ItemValue: Sized {
    fn read<'de, D: Deserializer<'de>>(deserializer: D, limits: &ManifestBounds) -> Result<Self, D::Error>;
}

impl ItemValue for ParsedValue {
    fn read<'de, D: Deserializer<'de>>(deserializer: D, limits: &ManifestBounds) -> Result<Self, D::Error> {
        Self::read(deserializer, limits.max_nesting)
    }
}

/// As it is written.
impl ItemValue for Box<RawValue> {
    fn read<'de, D: Deserializer<'de>>(deserializer: D, _: &ManifestBounds) -> Result<Self, D::Error> {
        Self::deserialize(deserializer)
    }
}

/// What the top of the manifest says.
#[derive(Default)]
struct TopFields {
    version: Option<Value>,
    profile_id: Option<Value>,
    documents: Option<u64>,
    files: Option<u64>,
    files_first: bool,
}

/// Reads a JSON manifest and hands out its entries, documents first.
pub(super) fn read<R: Read + Seek>(
    text: &mut Text<R>,
    limits: &ManifestBounds,
    sink: &mut Sink<'_>,
) -> Result<(), ReadError> {
    let mut has_references = false;
    let (top, findings) = walk::<_, ParsedValue>(text.rewind()?, limits, &mut |element| {
        has_references |= element.value.value.get("reference").is_some_and(Value::is_string);
        ControlFlow::Continue(())
    })?;
    let passes = Passes::of(&top);
    let profile_id = check(top, findings)?;
    passes.walk(text, limits, &mut |index, element: ListItem<ParsedValue>| {
        let place = Place {
            index,
            line: Some(element.line),
            kind: Some(element.kind),
            profile_id: profile_id.as_ref(),
            others_have_references: has_references,
            limits,
        };
        sink.give(object::entry(element.value, &place))
    })
}

/// Hands out the entries as they are written, with their index and the profile of those that name none.
pub(super) fn each_raw<R: Read + Seek>(
    text: &mut Text<R>,
    limits: &ManifestBounds,
    visit: &mut VisitRaw<'_>,
) -> Result<(), ReadError> {
    let (top, findings) = walk::<_, Box<RawValue>>(text.rewind()?, limits, &mut |_| ControlFlow::Continue(()))?;
    let passes = Passes::of(&top);
    let profile_id = check(top, findings)?;
    let mut visited = Ok(());
    let walked = passes.walk(text, limits, &mut |index, element: ListItem<Box<RawValue>>| {
        visited = visit(index, Some(element.value.get().as_bytes()), profile_id.as_ref());
        if visited.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    visited.map_err(ReadError::Io).and(walked)
}

/// In how many passes the entries are handed out. Where the files come first in the text, the documents are still handed
/// out first, in a pass of their own.
struct Passes {
    documents: u64,
    files_first: bool,
}

impl Passes {
    fn of(top: &TopFields) -> Self {
        Self { documents: top.documents.unwrap_or(0), files_first: top.files_first }
    }

    /// Hands out every element with its index.
    fn walk<R: Read + Seek, T: ItemValue>(
        &self,
        text: &mut Text<R>,
        limits: &ManifestBounds,
        visit: &mut dyn FnMut(u64, ListItem<T>) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let passes: &[&[EntryKind]] = if self.files_first {
            &[&[EntryKind::Document], &[EntryKind::File]]
        } else {
            &[&[EntryKind::Document, EntryKind::File]]
        };
        for wanted in passes {
            walk(text.rewind()?, limits, &mut |element: ListItem<T>| {
                if !wanted.contains(&element.kind) {
                    return ControlFlow::Continue(());
                }
                let before = match element.kind {
                    EntryKind::Document => 0,
                    EntryKind::File => self.documents,
                };
                visit(before.saturating_add(element.number), element)
            })?;
        }
        Ok(())
    }
}

/// Checks the top, and gives the profile of all entries that name none.
fn check(top: TopFields, mut findings: Findings) -> Result<Option<ProfileId>, ReadError> {
    let cure = "write \"version\": 1 at the top of the manifest";
    match top.version {
        None => findings.add(fields::missing("version", cure)),
        Some(Value::Number(number)) if number.as_u64() == Some(1) => {}
        Some(Value::Number(number)) => {
            let reason = format!("version {number} is not known, only version 1");
            findings.add(Problem::error(reason, cure).field("version"));
        }
        Some(other) => {
            findings.add(
                Problem::error(format!("version is {}, not the number 1", kind_of(&other)), cure).field("version"),
            );
        }
    }
    let profile_id = match top.profile_id {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => findings.take(fields::profile_id(&text, "profile_id")),
        Some(other) => {
            let reason = format!("profile_id is {}, not a text", kind_of(&other));
            findings.add(Problem::error(reason, "write the profile's id in double quotes").field("profile_id"));
            None
        }
    };
    if top.documents.unwrap_or(0) == 0 && top.files.unwrap_or(0) == 0 && !findings.is_fatal() {
        findings.add(no_entries());
    }
    if findings.is_fatal() { Err(ReadError::Unusable(findings.into_problems())) } else { Ok(profile_id) }
}

/// Walks once through the text.
fn walk<R: Read, T: ItemValue>(
    input: R,
    limits: &ManifestBounds,
    visit: &mut dyn FnMut(ListItem<T>) -> ControlFlow<()>,
) -> Result<(TopFields, Findings), ReadError> {
    let meter = Meter::new(limits.max_bytes);
    let mut walk = ManifestWalk {
        meter: &meter,
        limits,
        visit,
        top: TopFields::default(),
        findings: Findings::default(),
        expected: Some(("the manifest", "an object")),
        end: None,
    };
    let mut deserializer = serde_json::Deserializer::from_reader(Metered::new(BufReader::new(input), &meter));
    let outcome = TopSeed(&mut walk).deserialize(&mut deserializer).and_then(|()| deserializer.end());
    let ManifestWalk { top, mut findings, expected, end, .. } = walk;
    let Err(error) = outcome else { return Ok((top, findings)) };
    match end {
        Some(Interruption::Stopped) => return Err(ReadError::Stopped),
        Some(Interruption::TooMany) => return Err(ReadError::unusable(too_many_entries(limits))),
        Some(Interruption::Unusable) => return Err(ReadError::Unusable(findings.into_problems())),
        None => {}
    }
    if error.is_io() {
        // The parser gives no place for these, the meter does.
        let line = meter.line();
        return Err(read_failure(error.into(), &meter, limits, || {
            let reason = format!("the entry or field at line {line} is larger than {} bytes", limits.max_entry_bytes);
            let cure =
                "make it smaller, or divide it; images are named by their paths; or raise max_line_bytes of the drop";
            Problem::error(reason, cure)
        }));
    }
    findings.add(match expected {
        Some((what, wanted)) if error.is_data() => {
            let reason = format!("{what} is not {wanted}, at line {} column {}", error.line(), error.column());
            let cure = "write {\"version\": 1, \"documents\": […], \"files\": […]}";
            let problem = Problem::error(reason, cure);
            if TOP_FIELDS.contains(&what) { problem.field(what) } else { problem }
        }
        _ => syntax_problem(&error),
    });
    let problems = findings.into_problems();
    Err(if error.is_eof() { ReadError::Cut(problems) } else { ReadError::Unusable(problems) })
}

/// The problem with text that is not JSON, or has an entry that is not to be held.
fn syntax_problem(error: &serde_json::Error) -> Problem {
    let (what, line, column) = (syntax_reason(error), error.line(), error.column());
    if error.is_data() {
        return Problem::error(format!("{what}, at line {line} column {column}"), cure(error));
    }
    let cure = if error.is_eof() {
        "see whether the whole manifest has arrived, and whether every bracket is closed"
    } else if error.to_string().starts_with("trailing characters") {
        "write one object only; if every line is an entry of its own, let the file's name end with .jsonl"
    } else {
        "mend the JSON at this place"
    };
    Problem::error(format!("the manifest is not valid JSON: {what}, at line {line} column {column}"), cure)
}

/// What is wrong with the syntax, as a lower-case fragment without the place.
pub(super) fn syntax_reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let reason = text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason);
    let reason = name(reason);
    if reason.starts_with("EOF") { reason.replacen("EOF", "the text ends", 1) } else { reason }
}

/// Why a walk ended before the text did.
enum Interruption {
    Stopped,
    TooMany,
    /// For what the findings say.
    Unusable,
}

struct ManifestWalk<'a, T> {
    meter: &'a Meter,
    limits: &'a ManifestBounds,
    visit: &'a mut dyn FnMut(ListItem<T>) -> ControlFlow<()>,
    top: TopFields,
    findings: Findings,
    /// The next value, and what it must be, for the message where it is something else.
    expected: Option<(&'static str, &'static str)>,
    end: Option<Interruption>,
}

struct TopSeed<'w, 'a, T>(&'w mut ManifestWalk<'a, T>);

impl<'de, T: ItemValue> DeserializeSeed<'de> for TopSeed<'_, '_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        // A manifest that is one huge text must not be buffered either; a map ends this bound when it is entered.
        self.0.meter.begin_after_space(self.0.limits.max_entry_bytes);
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: ItemValue> Visitor<'de> for TopSeed<'_, '_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let walk = self.0;
        walk.meter.end();
        walk.expected = None;
        let mut seen = [false; TOP_FIELDS.len()];
        while let Some(key) = map.next_key_seed(EntryKey(walk))? {
            let known = TOP_FIELDS.iter().zip(&mut seen).find(|(field, _)| **field == key);
            let repeated = known.map(|(field, seen)| (*field, mem::replace(seen, true)));
            match repeated {
                None => {
                    walk.findings.add(unknown_at_top(&key));
                    map.next_value_seed(Bounded { walk, seed: PhantomData::<IgnoredAny> })?;
                }
                Some((field, true)) => {
                    let reason = format!("the field {} appears more than once at the top", quote(field));
                    walk.findings.add(Problem::error(reason, "make one field of them").field(field));
                    // What follows may be a list of any length, and nothing more needs to be known.
                    walk.end = Some(Interruption::Unusable);
                    return Err(A::Error::custom("repeated field"));
                }
                Some(("version", _)) => {
                    walk.top.version =
                        Some(map.next_value_seed(Bounded { walk, seed: BoundedValue(walk.limits) })?.value)
                }
                Some(("profile_id", _)) => {
                    walk.top.profile_id =
                        Some(map.next_value_seed(Bounded { walk, seed: BoundedValue(walk.limits) })?.value);
                }
                Some((field, _)) => {
                    let kind = if field == "files" { EntryKind::File } else { EntryKind::Document };
                    walk.expected = Some((field, "a list of entries"));
                    let count = map.next_value_seed(ListSeed { walk, kind })?;
                    match kind {
                        EntryKind::Document => walk.top.documents = Some(count),
                        EntryKind::File => {
                            walk.top.files = Some(count);
                            walk.top.files_first = walk.top.documents.is_none();
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

fn unknown_at_top(key: &str) -> Problem {
    let cure = nearest(key, TOP_FIELDS).map_or_else(
        || format!("remove it; the top of a manifest has only {}", TOP_FIELDS.join(", ")),
        |near| format!("if {near} is meant, write that, else remove it"),
    );
    Problem::error(format!("a manifest has no field {} at its top", quote(key)), cure).field(name(key))
}

/// A key of at most one entry's bytes; its quote has been read already.
struct EntryKey<'w, 'a, T>(&'w ManifestWalk<'a, T>);

impl<'de, T> DeserializeSeed<'de> for EntryKey<'_, '_, T> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        self.0.meter.begin(self.0.limits.max_entry_bytes);
        let key = String::deserialize(deserializer)?;
        self.0.meter.end();
        Ok(key)
    }
}

/// A value of at most one entry's bytes.
struct Bounded<'w, 'a, T, S> {
    walk: &'w ManifestWalk<'a, T>,
    seed: S,
}

impl<'de, T, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Bounded<'_, '_, T, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.walk.meter.begin_after_space(self.walk.limits.max_entry_bytes);
        let value = self.seed.deserialize(deserializer)?;
        self.walk.meter.end();
        Ok(value)
    }
}

/// A value that is held, as deep as the limits allow.
struct BoundedValue<'a>(&'a ManifestBounds);

impl<'de> DeserializeSeed<'de> for BoundedValue<'_> {
    type Value = ParsedValue;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<ParsedValue, D::Error> {
        ParsedValue::read(deserializer, self.0.max_nesting)
    }
}

struct ListSeed<'w, 'a, T> {
    walk: &'w mut ManifestWalk<'a, T>,
    kind: EntryKind,
}

impl<'de, T: ItemValue> DeserializeSeed<'de> for ListSeed<'_, '_, T> {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u64, D::Error> {
        self.walk.meter.begin_after_space(self.walk.limits.max_entry_bytes);
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: ItemValue> Visitor<'de> for ListSeed<'_, '_, T> {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<u64, A::Error> {
        let Self { walk, kind } = self;
        walk.meter.end();
        walk.expected = None;
        let others = walk.top.documents.or(walk.top.files).unwrap_or(0);
        let mut number = 0_u64;
        while let Some((line, value)) = items.next_element_seed(Item(walk))? {
            if number.saturating_add(others) >= walk.limits.max_entries {
                walk.end = Some(Interruption::TooMany);
                return Err(A::Error::custom("too many entries"));
            }
            if (walk.visit)(ListItem { kind, number, line, value }).is_break() {
                walk.end = Some(Interruption::Stopped);
                return Err(A::Error::custom("stopped"));
            }
            number = number.saturating_add(1);
        }
        Ok(number)
    }
}

struct Item<'w, 'a, T>(&'w ManifestWalk<'a, T>);

impl<'de, T: ItemValue> DeserializeSeed<'de> for Item<'_, '_, T> {
    type Value = (u64, T);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        // serde_json has read the first byte of the element when it comes here, and nothing beyond.
        let line = self.0.meter.line();
        self.0.meter.begin(self.0.limits.max_entry_bytes);
        let value = T::read(deserializer, self.0.limits)?;
        self.0.meter.end();
        Ok((line, value))
    }
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
