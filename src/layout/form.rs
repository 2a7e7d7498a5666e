//! A layout as it is written: the keys of its TOML file.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::finding::LayoutError;
use crate::nearest::nearest;

/// How an archive's own list, or its folder and file names, become entries.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LayoutToml {
    /// Always 1.
    pub(super) version: u32,
    /// The list.
    #[serde(default)]
    pub(super) source: Option<SourceToml>,
    /// Without a list: each file that fits is a record; the first pattern that fits counts. Other keys are constants.
    #[serde(default)]
    pub(super) files: Vec<FilesToml>,
    /// Only records whose columns have these values count.
    #[serde(default)]
    pub(super) only: BTreeMap<String, OneOrMany>,
    /// Records whose columns have these values are left out.
    #[serde(default)]
    pub(super) skip: BTreeMap<String, OneOrMany>,
    /// Takes the value of a column apart by a pattern; its captures are names.
    #[serde(default)]
    pub(super) parts: BTreeMap<String, String>,
    /// What an entry is made of.
    pub(super) document: DocumentToml,
    /// What each value of `kind` is: "CATEGORY/TYPE", "file" or "skip"; "*" is the rest.
    #[serde(default)]
    pub(super) kinds: Option<BTreeMap<String, KindToml>>,
    /// What each value of `category` is.
    #[serde(default)]
    pub(super) categories: Option<BTreeMap<String, String>>,
    /// What each value of `document_type` is.
    #[serde(default)]
    pub(super) document_types: Option<BTreeMap<String, String>>,
    /// What each value of `image_type` is: FRONT, BACK, FACE, or "" for none.
    #[serde(default)]
    pub(super) image_types: Option<BTreeMap<String, String>>,
    /// Tables that `{x | lookup NAME}` uses.
    #[serde(default)]
    pub(super) lookup: BTreeMap<String, LookupToml>,
    /// How written paths become paths of the archive.
    #[serde(default)]
    pub(super) paths: PathsToml,
    /// What is passed over.
    #[serde(default)]
    pub(super) ignore: IgnoreToml,
}

/// The list: one of csv, xlsx, ndjson, json, sidecars.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SourceToml {
    /// A list with a delimiter: CSV, TSV and the like.
    #[serde(default)]
    pub(super) csv: Option<String>,
    /// An Excel workbook.
    #[serde(default)]
    pub(super) xlsx: Option<String>,
    /// A file with one JSON object a line.
    #[serde(default)]
    pub(super) ndjson: Option<String>,
    /// A JSON file.
    #[serde(default)]
    pub(super) json: Option<String>,
    /// A pattern of files of which each is one record: "**/*.xml" or "**/*.json".
    #[serde(default)]
    pub(super) sidecars: Option<String>,
    /// Of a workbook; else its first sheet.
    #[serde(default)]
    pub(super) sheet: Option<String>,
    /// The row with the names of the columns; 0: there is none, and they are called 1, 2, …
    #[serde(default)]
    pub(super) header: Option<u64>,
    /// One character; else what the header shows.
    #[serde(default)]
    pub(super) delimiter: Option<String>,
    /// E.g. "windows-1252"; else a byte order mark, or UTF-8.
    #[serde(default)]
    pub(super) encoding: Option<String>,
    /// Of JSON: the lists that lead to the records, e.g. "owners.papers".
    #[serde(default)]
    pub(super) items: Option<String>,
}

/// A pattern of files.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub(super) struct FilesToml {
    /// The pattern.
    #[serde(rename = "match")]
    pub(super) pattern: String,
    /// The reference of these files' documents, instead of the one of `[document]`.
    #[serde(default)]
    pub(super) reference: Option<String>,
    /// Constants.
    #[serde(flatten)]
    pub(super) constants: BTreeMap<String, Constant>,
}

/// A constant value.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a text, a number, or true or false")]
pub(super) enum Constant {
    Text(String),
    Number(i64),
    Flag(bool),
}

/// A text or several.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a text or a list of texts")]
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    pub(super) fn texts(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// What an entry is made of: templates, as "{Column}" or "{Column | lookup NAME}".
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DocumentToml {
    /// "document": one record is one document. "image": records of one reference are one document.
    #[serde(default)]
    pub(super) record: RecordToml,
    /// The sender's own key.
    #[serde(default)]
    pub(super) reference: Option<String>,
    /// The profile.
    pub(super) profile_id: String,
    /// By `[kinds]`.
    #[serde(default)]
    pub(super) kind: Option<String>,
    /// Instead of `kind`, with `document_type`.
    #[serde(default)]
    pub(super) category: Option<String>,
    /// Instead of `kind`, with `category`.
    #[serde(default)]
    pub(super) document_type: Option<String>,
    /// The images; of `[[files]]` the file itself.
    #[serde(default)]
    pub(super) images: Vec<ImageToml>,
    /// Must agree with the number of images.
    #[serde(default)]
    pub(super) page_count: Option<String>,
    /// Of a file; else its own name.
    #[serde(default)]
    pub(super) name: Option<String>,
    /// A name that has a JSON object, or a table of templates.
    #[serde(default)]
    pub(super) extracted_data: Option<ExtractedToml>,
}

/// What one record is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RecordToml {
    #[default]
    Document,
    Image,
}

/// An object as it is, or made of templates.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a template, or a table of templates")]
pub(super) enum ExtractedToml {
    Whole(String),
    Table(BTreeMap<String, String>),
}

/// An image, the pictures of a folder, or the items of a nested list.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ImageToml {
    /// The file.
    #[serde(default)]
    pub(super) path: Option<String>,
    /// Instead of `path`: all pictures in this folder, in natural order.
    #[serde(default)]
    pub(super) folder: Option<String>,
    /// One image for each item of this nested list.
    #[serde(default)]
    pub(super) each: Option<String>,
    /// With `each`: only these items.
    #[serde(default)]
    pub(super) only: BTreeMap<String, OneOrMany>,
    /// With `each`: not these items.
    #[serde(default)]
    pub(super) skip: BTreeMap<String, OneOrMany>,
    /// By `[image_types]`.
    #[serde(default)]
    pub(super) image_type: Option<String>,
    /// Whether its cell may be empty.
    #[serde(default)]
    pub(super) optional: bool,
    /// The digest, which is checked.
    #[serde(default)]
    pub(super) sha256: Option<String>,
    /// The size, which is checked.
    #[serde(default)]
    pub(super) bytes: Option<String>,
}

/// What a kind is.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a text as \"CATEGORY/TYPE\", or a table with `as` and `image_types`")]
pub(super) enum KindToml {
    Plain(String),
    Table(KindTable),
}

/// A kind whose images have types by their order.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KindTable {
    /// "CATEGORY/TYPE", "file" or "skip".
    #[serde(rename = "as")]
    pub(super) kind: String,
    /// The type of the first image, of the second, and so on.
    #[serde(default)]
    pub(super) image_types: Option<Vec<String>>,
}

/// A table of another file.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LookupToml {
    /// A list with a delimiter, from the layout's folder.
    #[serde(default)]
    pub(super) csv: Option<String>,
    /// An Excel workbook, from the layout's folder.
    #[serde(default)]
    pub(super) xlsx: Option<String>,
    /// Of a workbook; else its first sheet.
    #[serde(default)]
    pub(super) sheet: Option<String>,
    /// The row with the names of the columns; 0: there is none, and they are called 1, 2, …
    #[serde(default)]
    pub(super) header: Option<u64>,
    /// One character; else what the header shows.
    #[serde(default)]
    pub(super) delimiter: Option<String>,
    /// E.g. "windows-1252"; else a byte order mark, or UTF-8.
    #[serde(default)]
    pub(super) encoding: Option<String>,
    /// The column that is searched.
    pub(super) key: String,
    /// The column that is wanted.
    pub(super) value: String,
    /// Fills both sides with zeros on the left, to so many characters.
    #[serde(default)]
    pub(super) pad: Option<usize>,
}

/// Where paths begin, and how names are compared.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PathsToml {
    /// Prefixes to take off, in any letter case and with either slash.
    #[serde(default)]
    pub(super) strip: Option<OneOrMany>,
    /// A folder to put before.
    #[serde(default)]
    pub(super) base: String,
    /// "exact", or "loose": letter case and Unicode composition do not count.
    #[serde(default, rename = "match")]
    pub(super) compare: CompareToml,
}

/// How names are compared with those on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum CompareToml {
    #[default]
    Exact,
    Loose,
}

/// What is passed over.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct IgnoreToml {
    /// Names or paths of files, as globs.
    #[serde(default)]
    pub(super) files: Vec<String>,
    /// What a picture is that no record takes.
    #[serde(default)]
    pub(super) unlisted: UnlistedToml,
}

/// What a picture is that no record takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum UnlistedToml {
    #[default]
    Warn,
    Problem,
    Ignore,
}

/// Reads the keys; `sets` override some of them, as `paths.base=disk2`.
pub(super) fn read(what: &str, text: &str, sets: &[String]) -> Result<LayoutToml, LayoutError> {
    if sets.is_empty() {
        return toml::from_str(text).map_err(|error| wrong(what, text, &error));
    }
    let mut table: toml::Table = toml::from_str(text).map_err(|error| wrong(what, text, &error))?;
    for set in sets {
        let (key, value) = set.split_once('=').ok_or_else(|| {
            LayoutError::wrong(format!("--set {set}"), "it has no '='", "write e.g. --set paths.base=disk2")
        })?;
        // What is no TOML value is a text.
        let value = toml::from_str::<toml::Table>(&format!("value = {value}"))
            .ok()
            .and_then(|mut read| read.remove("value"))
            .unwrap_or_else(|| toml::Value::String(value.to_owned()));
        put(&mut table, &key.split('.').map(str::trim).collect::<Vec<_>>(), value).ok_or_else(|| {
            LayoutError::wrong(format!("--set {set}"), "the key is within one that is no table", "correct the key")
        })?;
    }
    toml::Value::Table(table).try_into().map_err(|error| wrong(what, "", &error))
}

fn put(table: &mut toml::Table, keys: &[&str], value: toml::Value) -> Option<()> {
    match keys {
        [] => None,
        [key] => {
            table.insert((*key).to_owned(), value);
            Some(())
        }
        [key, rest @ ..] => {
            let inner = table.entry((*key).to_owned()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            put(inner.as_table_mut()?, rest, value)
        }
    }
}

/// A fault of the file, with the nearest known key.
fn wrong(what: &str, text: &str, error: &toml::de::Error) -> LayoutError {
    let line = error.span().map(|span| text.get(..span.start).unwrap_or_default().matches('\n').count() + 1);
    let what = match line {
        Some(line) if !text.is_empty() => format!("{what}, line {line}"),
        _ => what.to_owned(),
    };
    let message = error.message();
    let mut words = message.split('`').skip(1).step_by(2);
    if let (true, Some(unknown)) = (message.starts_with("unknown field"), words.next()) {
        let known: Vec<&str> = words.collect();
        let cure = nearest(unknown, known.iter().copied())
            .map_or_else(|| format!("the keys here are {}", known.join(", ")), |near| format!("did you mean {near}?"));
        return LayoutError::wrong(what, format!("there is no key {unknown}"), cure);
    }
    LayoutError::wrong(what, message.trim().to_owned(), "correct the layout; `schema layout` shows all keys")
}

/// The form of a layout, for editors.
#[must_use]
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(LayoutToml).to_value();
    if let Some(object) = schema.as_object_mut() {
        object.insert("title".into(), "Layout of passfort-ingest, version 1".into());
    }
    schema
}
