//! Takes typed values out of the tree, and records what was wrong, which keys are known, and which were never asked
//! for.
//!
//! A faulty value becomes a finding and is replaced by its default, so that reading continues. What a key means is not
//! known here.

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    path::{Component, Path, PathBuf},
    time::Duration,
};

use super::{
    Address, Globs,
    finding::{ConfigFinding, Origin},
    tree::{Node, PREFIX, Table, Value},
    units::{DURATION_CURE, SIZE_CURE, duration_text, parse_duration, parse_size, size_text},
};
use crate::nearest::nearest;

/// The longest list that a key may hold.
const MAX_LIST: usize = 10_000;

/// Words in the name of an unknown key that make it look like a secret.
const SECRET_WORDS: [&str; 4] = ["apikey", "password", "secret", "token"];

/// What is wrong with a value, and what to do about it.
pub(super) type ValueFault = (String, String);

/// The account of one reading.
#[derive(Debug, Default)]
pub(super) struct SettingReader {
    findings: Vec<ConfigFinding>,
    /// Every key that was asked for, with the header of its section.
    pub(super) known: Vec<(&'static str, &'static str)>,
    /// The origin of each value that was found, by its full key.
    origins: BTreeMap<String, Origin>,
    /// What was never asked for: header, full key and key.
    left: Vec<(&'static str, String, String, Origin)>,
}

impl SettingReader {
    /// Starts an account in which something is already wrong.
    pub(super) fn with(findings: Vec<ConfigFinding>) -> Self {
        Self { findings, ..Self::default() }
    }

    /// Records what is wrong with a key, at the origin of its value.
    pub(super) fn finding(&mut self, key: &str, reason: impl Into<String>, cure: impl Into<String>) {
        // A missing key gets the origin of its section.
        let section = key.rsplit_once('.').map_or("", |(section, _)| section);
        let origin = self.origins.get(key).or_else(|| self.origins.get(section)).cloned();
        self.findings.push(ConfigFinding { key: key.to_owned(), origin, reason: reason.into(), cure: cure.into() });
    }

    /// Records the origin of a section.
    pub(super) fn place(&mut self, section: &str, origin: Origin) {
        self.origins.insert(section.to_owned(), origin);
    }

    /// The findings in the order of the file; those of the environment come last.
    pub(super) fn into_findings(mut self) -> Vec<ConfigFinding> {
        self.findings.sort_by_key(|finding| match finding.origin {
            Some(Origin::Line(line)) => line,
            Some(Origin::Variable(_)) | None => usize::MAX,
        });
        self.findings
    }

    /// Makes findings of all that was never asked for; called once every section has been read.
    pub(super) fn refuse_unknown(&mut self) {
        for (header, full, key, origin) in std::mem::take(&mut self.left) {
            let (reason, cure) = self.unknown(header, &key, &origin);
            self.findings.push(ConfigFinding { key: full, origin: Some(origin), reason, cure });
        }
    }

    fn unknown(&self, header: &str, key: &str, origin: &Origin) -> ValueFault {
        let plain = key.to_lowercase().replace(['_', '-'], "");
        if plain == "key" || SECRET_WORDS.iter().any(|word| plain == *word) {
            return (
                "a key must not be part of the configuration, which is shown, copied and kept".to_owned(),
                "put the key alone into a file and name that with api_key_file, or set $PASSFORT_API_KEY".to_owned(),
            );
        }
        let elsewhere = self.known.iter().find(|(other, known)| *known == key && *other != header);
        if let Some((other, _)) = elsewhere {
            let place = if other.is_empty() { "above every section".to_owned() } else { format!("under {other}") };
            return ("this key does not belong here".to_owned(), format!("it belongs {place}"));
        }
        let here = || self.known.iter().filter(|(section, _)| *section == header).map(|(_, known)| *known);
        let cure = match (nearest(key, here()), origin) {
            (Some(near), Origin::Line(_)) => format!("the nearest known key is {near}"),
            (Some(near), Origin::Variable(name)) => {
                let stem = name.get(..name.len().saturating_sub(key.len())).unwrap_or(PREFIX);
                // The variable that made a complete section is named in full; only its first part is at fault.
                if name.to_ascii_lowercase().ends_with(key) {
                    format!("the nearest known variable is {stem}{}", near.to_uppercase())
                } else {
                    format!("the nearest known first part is {}", near.to_uppercase())
                }
            }
            (None, _) => {
                let mut all: Vec<&str> = here().collect();
                all.sort_unstable();
                format!("the known keys here are {}", all.join(", "))
            }
        };
        ("this key is unknown".to_owned(), cure)
    }
}

/// One table that is being read.
#[derive(Debug)]
pub(super) struct Section<'r> {
    reader: &'r mut SettingReader,
    header: &'static str,
    path: String,
    table: Table,
}

impl<'r> Section<'r> {
    /// Starts to read `table`, which is in the file under `header` and is called `path` in findings.
    pub(super) fn new(
        reader: &'r mut SettingReader,
        header: &'static str,
        path: impl Into<String>,
        table: Table,
    ) -> Self {
        Self { reader, header, path: path.into(), table }
    }

    /// Hands what was never asked for to the account.
    pub(super) fn finish(self) {
        for (key, node) in self.table {
            let full = full_key(&self.path, &key);
            self.reader.left.push((self.header, full, key, node.origin));
        }
    }

    /// Takes a value as it is. A variable that is set but empty puts its key back to the default.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Node> {
        if !self.reader.known.contains(&(self.header, key)) {
            self.reader.known.push((self.header, key));
        }
        let node = self.table.remove(key)?;
        if node.raw.as_ref().is_some_and(|raw| raw.trim().is_empty()) {
            return None;
        }
        self.reader.origins.insert(full_key(&self.path, key), node.origin.clone());
        Some(node)
    }

    /// Notes what is wrong with a key of this section.
    pub(super) fn finding(&mut self, key: &str, fault: ValueFault) {
        self.reader.finding(&full_key(&self.path, key), fault.0, fault.1);
    }

    /// Whether the key is there, sound or not.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.reader.origins.contains_key(&full_key(&self.path, key))
    }

    /// Records that a required key is missing, at the origin of its section.
    pub(super) fn require(&mut self, key: &str, cure: &str) {
        if !self.is_set(key) {
            self.finding(key, ("the key is missing".to_owned(), cure.to_owned()));
        }
    }

    /// A value that `parse` understands; `None` where it is absent, or faulty and noted.
    pub(super) fn get<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&Node) -> Result<T, ValueFault>,
    ) -> Option<T> {
        let node = self.take(key)?;
        parse(&node).map_err(|fault| self.finding(key, fault)).ok()
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        let parse = |node: &Node| match node.value {
            Value::Boolean(flag) => Ok(flag),
            ref other => Err(wrong_kind(other, "true or false")),
        };
        self.get(key, parse).unwrap_or(default)
    }

    /// An integer within bounds.
    pub(super) fn number(&mut self, key: &'static str, bounds: RangeInclusive<i64>) -> Option<i64> {
        self.get(key, |node| match node.value {
            Value::Integer(number) if bounds.contains(&number) => Ok(number),
            Value::Integer(number) => Err(out_of_bounds(&number, bounds.start(), bounds.end())),
            ref other => Err(wrong_kind(other, "a whole number")),
        })
    }

    /// A number of things, within bounds.
    pub(super) fn count(&mut self, key: &'static str, bounds: RangeInclusive<i64>) -> Option<u64> {
        self.number(key, bounds).and_then(|number| u64::try_from(number).ok())
    }

    /// A duration within bounds.
    pub(super) fn duration(&mut self, key: &'static str, bounds: RangeInclusive<Duration>) -> Option<Duration> {
        self.get(key, |node| {
            let parsed = match (&node.value, &node.raw) {
                (Value::Integer(seconds), _) => {
                    u64::try_from(*seconds).map(Duration::from_secs).map_err(|_| "it is negative".to_owned())
                }
                (Value::Text(text), _) => parse_duration(text),
                (_, Some(raw)) => parse_duration(raw),
                (other, None) => return Err(wrong_kind(other, "a duration such as \"10s\"")),
            };
            let duration = parsed.map_err(|reason| (reason, DURATION_CURE.to_owned()))?;
            let written = |duration| duration_text(duration);
            let (least, most) = (*bounds.start(), *bounds.end());
            bounds
                .contains(&duration)
                .then_some(duration)
                .ok_or_else(|| out_of_bounds(&written(duration), &written(least), &written(most)))
        })
    }

    /// A size in bytes within bounds.
    pub(super) fn size(&mut self, key: &'static str, bounds: RangeInclusive<u64>) -> Option<u64> {
        self.get(key, |node| {
            let parsed = match (&node.value, &node.raw) {
                (Value::Integer(bytes), _) => u64::try_from(*bytes).map_err(|_| "it is negative".to_owned()),
                (Value::Text(text), _) => parse_size(text),
                (_, Some(raw)) => parse_size(raw),
                (other, None) => return Err(wrong_kind(other, "a size such as \"20MB\"")),
            };
            let bytes = parsed.map_err(|reason| (reason, SIZE_CURE.to_owned()))?;
            let (least, most) = (size_text(*bounds.start()), size_text(*bounds.end()));
            bounds.contains(&bytes).then_some(bytes).ok_or_else(|| out_of_bounds(&size_text(bytes), &least, &most))
        })
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&mut self, key: &'static str, words: &[(&'static str, T)], default: T) -> T {
        let known = || words.iter().map(|(word, _)| *word);
        let parse = |node: &Node| {
            let text = text(node)?;
            words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning).ok_or_else(|| {
                let all = known().collect::<Vec<_>>().join(", ");
                let near = nearest(&text, known()).map(|near| format!("; {near} is the nearest")).unwrap_or_default();
                ("it is none of the words that this key takes".to_owned(), format!("write one of {all}{near}"))
            })
        };
        self.get(key, parse).unwrap_or(default)
    }

    /// An absolute path without `..`.
    pub(super) fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        self.get(key, |node| {
            let path = tidy_path(&text(node)?)?;
            if path.is_absolute() {
                Ok(path)
            } else {
                Err((
                    "the path is relative, and to what would depend on where the program is started".to_owned(),
                    "write the path from /".to_owned(),
                ))
            }
        })
    }

    /// An address of an API or a proxy.
    pub(super) fn address(&mut self, key: &'static str) -> Option<Address> {
        self.get(key, |node| {
            let cure = "write an address such as \"https://host/prefix\"".to_owned();
            Address::parse(&text(node)?).map_err(|reason| (reason, cure))
        })
    }

    /// A list of strings, each understood by `parse`; a variable may also hold the only one of them.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, ValueFault>,
    ) -> Option<Vec<T>> {
        self.items(key, false, parse)
    }

    /// The same, where the file too may hold one string instead of a list of one.
    pub(super) fn list_or_one<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, ValueFault>,
    ) -> Option<Vec<T>> {
        self.items(key, true, parse)
    }

    fn items<T>(
        &mut self,
        key: &'static str,
        one: bool,
        parse: impl Fn(&str) -> Result<T, ValueFault>,
    ) -> Option<Vec<T>> {
        let node = self.take(key)?;
        let items = match node {
            Node { value: Value::Array(items), .. } => items,
            alone @ Node { value: Value::Text(_), raw: Some(_), .. } => vec![alone],
            alone @ Node { value: Value::Text(_), .. } if one => vec![alone],
            Node { value: other, .. } => {
                self.finding(key, wrong_kind(&other, "a list of strings such as [\"a\", \"b\"]"));
                return None;
            }
        };
        if items.len() > MAX_LIST {
            self.finding(key, (format!("the list has {} items", items.len()), format!("keep to {MAX_LIST}")));
            return None;
        }
        let mut parsed = Vec::with_capacity(items.len());
        let mut sound = true;
        for (at, item) in items.iter().enumerate() {
            match text(item).and_then(|text| parse(&text)) {
                Ok(value) => parsed.push(value),
                Err((reason, cure)) => {
                    sound = false;
                    let key = format!("{}[{at}]", full_key(&self.path, key));
                    self.reader.findings.push(ConfigFinding { key, origin: Some(item.origin.clone()), reason, cure });
                }
            }
        }
        sound.then_some(parsed)
    }

    /// A list of file name patterns.
    pub(super) fn globs(&mut self, key: &'static str) -> Option<Globs> {
        let cure = "write a file name with * or ?, e.g. \"*.manifest.json\"";
        let texts = self.list(key, |text| {
            Globs::compile([text]).map(|_| text.to_owned()).map_err(|(_, reason)| (reason, cure.to_owned()))
        })?;
        Globs::compile(texts).map_err(|(_, reason)| self.finding(key, (reason, cure.to_owned()))).ok()
    }
}

/// The path without doubled slashes and `.`; it may be relative.
///
/// # Errors
///
/// Where it is empty, leads upwards or has a control character.
pub(super) fn tidy_path(text: &str) -> Result<PathBuf, ValueFault> {
    let cure = || "write a plain path".to_owned();
    if text.chars().any(char::is_control) {
        return Err(("the path has a control character".to_owned(), cure()));
    }
    let path: PathBuf = Path::new(text).components().filter(|part| *part != Component::CurDir).collect();
    if path.as_os_str().is_empty() {
        return Err(("the path is empty".to_owned(), cure()));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(("the path has a '..' part".to_owned(), cure()));
    }
    Ok(path)
}

/// A string; a variable is taken by its text, whatever else it could be read as.
pub(super) fn text(node: &Node) -> Result<String, ValueFault> {
    match (&node.value, &node.raw) {
        (Value::Text(text), _) => Ok(text.clone()),
        (Value::Integer(_) | Value::Float(_) | Value::Boolean(_), Some(raw)) => Ok(raw.clone()),
        (other, _) => Err(wrong_kind(other, "a string in double quotes")),
    }
}

pub(super) fn wrong_kind(found: &Value, wanted: &str) -> ValueFault {
    (format!("it is {}", found.kind()), format!("write {wanted}"))
}

fn out_of_bounds<T: std::fmt::Display>(found: &T, least: &T, most: &T) -> ValueFault {
    (format!("{found} is out of bounds"), format!("keep between {least} and {most}"))
}

/// The full name of a key, for people.
pub(super) fn full_key(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
