//! From the keys of a layout's file to a layout that can be used, or what is wrong with one of them.

use std::path::Path;

use globset::GlobBuilder;
use sha2::Digest as _;

use super::{
    archive::PathRules,
    decode,
    finding::LayoutError,
    form::{self, CompareToml, Constant, ExtractedToml, ImageToml, KindToml, LayoutToml, OneOrMany, RecordToml},
    lookup::LookupForm,
    pattern::Pattern,
    plan::{
        ArchiveLayout, Condition, Each, ExtractedForm, FilesForm, FilesOf, ImageForm, KindForm, RecordKind,
        RecordSource, ValueTable, parse_kind, word,
    },
    table::{Sheet, TableForm},
    template::{SlotName, Template},
    text::{fold, quoted},
};
use crate::{
    config::DropConfig,
    entry::{ImageType, Sha256},
    inbox::scan_rules::globs,
    nearest::nearest,
};

/// Builds a layout, with the name of its file for what is wrong.
struct Builder<'a> {
    what: &'a str,
    folder: &'a Path,
    /// Whether what is not filled in is passed over.
    incomplete: bool,
}

type Built<T> = Result<T, LayoutError>;

impl ArchiveLayout {
    /// Reads a layout; `sets` override keys.
    ///
    /// # Errors
    ///
    /// What is wrong with it, with the cure.
    pub fn read(file: &Path, sets: &[String]) -> Result<Self, LayoutError> {
        let what = file.display().to_string();
        let bytes = std::fs::read(file).map_err(LayoutError::io(what.as_str()))?;
        let text = String::from_utf8(bytes)
            .map_err(|_| LayoutError::wrong(what.as_str(), "it is not UTF-8 text", "save the layout as UTF-8"))?;
        let mut layout = Self::parse(&text, file, sets, false)?;
        let mut digest = sha2::Sha256::new();
        digest.update(text.as_bytes());
        sets.iter().for_each(|set| digest.update(format!("\0{set}")));
        layout.sha256 = Sha256(digest.finalize().into());
        Ok(layout)
    }

    /// Reads a proposal, in which a person has to fill something in; values that are not filled in are unknown.
    ///
    /// # Errors
    ///
    /// What is wrong with it otherwise.
    pub fn incomplete(text: &str, file: &Path) -> Result<Self, LayoutError> {
        Self::parse(text, file, &[], true)
    }

    pub(super) fn parse(text: &str, file: &Path, sets: &[String], incomplete: bool) -> Result<Self, LayoutError> {
        let what = file.display().to_string();
        let toml = form::read(&what, text, sets)?;
        let folder = file.parent().unwrap_or(Path::new(""));
        Builder { what: &what, folder, incomplete }.layout(toml, file)
    }
}

impl Builder<'_> {
    fn wrong(&self, key: &str, reason: impl Into<String>, cure: impl Into<String>) -> LayoutError {
        LayoutError::wrong(format!("{}, {key}", self.what), reason, cure)
    }

    fn layout(&self, toml: LayoutToml, file: &Path) -> Built<ArchiveLayout> {
        if toml.version != 1 {
            return Err(self.wrong("version", format!("there is no version {}", toml.version), "write version = 1"));
        }
        let document = &toml.document;
        for (key, given) in [
            ("reference", document.reference.as_deref()),
            ("profile_id", Some(document.profile_id.as_str())),
            ("kind", document.kind.as_deref()),
        ] {
            if given == Some("") && !self.incomplete {
                let cure = "fill it in, as \"{Column}\"";
                return Err(self.wrong(&format!("document.{key}"), "the layout is incomplete: it is empty", cure));
            }
        }
        let mut references: Vec<String> = toml.document.reference.iter().cloned().collect();
        references.extend(toml.files.iter().filter_map(|files| files.reference.clone()));
        let source = self.source(&toml)?;
        let reference = self.optional("document.reference", toml.document.reference.as_deref())?;
        let is_files = matches!(source, RecordSource::Files(_));
        if document.record == RecordToml::Image && reference.is_none() {
            let every =
                matches!(&source, RecordSource::Files(files) if files.iter().all(|files| files.reference.is_some()));
            if !every {
                let cure = "name what the records of one document have in common, e.g. reference = \"{Doc Key}\"";
                return Err(self.wrong("document", "record = \"image\" needs a reference", cure));
            }
        }
        let kind = self.kind(&toml)?;
        let images = if document.images.is_empty() && is_files {
            vec![self.image(&ImageToml { path: Some("{path}".into()), ..ImageToml::default() })?]
        } else {
            document.images.iter().map(|image| self.image(image)).collect::<Built<_>>()?
        };
        if images.is_empty() {
            let cure = "name the files, e.g. images = [{ path = \"{File}\" }]";
            return Err(self.wrong("document", "there are no images", cure));
        }
        let lookups = toml.lookup.iter().map(|(name, lookup)| self.lookup(name, lookup)).collect::<Built<Vec<_>>>()?;
        let mut ignore: Vec<&str> = toml.ignore.files.iter().map(String::as_str).collect();
        ignore.extend(DropConfig::DEFAULT_IGNORE);
        let ignore = globs(ignore.iter().copied())
            .map_err(|error| self.wrong("ignore.files", error.to_string(), "correct the glob, as \"*.txt\""))?;
        let strip = toml.paths.strip.as_ref().map(OneOrMany::texts).unwrap_or_default();
        let layout = ArchiveLayout {
            file: file.to_owned(),
            sha256: Sha256([0; 32]),
            source,
            only: self.conditions("only", &toml.only)?,
            skip: self.conditions("skip", &toml.skip)?,
            parts: toml
                .parts
                .iter()
                .map(|(name, pattern)| Ok((slot(name), self.pattern(&format!("parts.{name}"), pattern)?)))
                .collect::<Built<_>>()?,
            record: document.record,
            reference,
            profile_id: self.template("document.profile_id", &document.profile_id)?,
            kind,
            images,
            image_types: self.table("image_types", toml.image_types.as_ref(), |value| match value {
                "" => Some(None),
                value => ImageType::parse(value).map(Some),
            })?,
            page_count: self.optional("document.page_count", document.page_count.as_deref())?,
            name: self.optional("document.name", document.name.as_deref())?,
            extracted_data: self.extracted(document.extracted_data.as_ref())?,
            lookups,
            paths: PathRules { strip: strip.to_vec(), base: toml.paths.base.clone() },
            loose: toml.paths.compare == CompareToml::Loose,
            ignore,
            unlisted: toml.ignore.unlisted,
            references: references.join("\n"),
        };
        self.lookups_exist(&layout)?;
        self.no_rows(&layout)?;
        Ok(layout)
    }

    fn source(&self, toml: &LayoutToml) -> Built<RecordSource> {
        let Some(source) = &toml.source else {
            if toml.files.is_empty() {
                let cure = "add [source] with csv, xlsx, ndjson, json or sidecars, or [[files]] with a pattern";
                return Err(self.wrong("source", "there is none", cure));
            }
            return toml.files.iter().map(|files| self.files(files)).collect::<Built<_>>().map(RecordSource::Files);
        };
        if !toml.files.is_empty() {
            return Err(self.wrong("files", "there is a [source] too", "keep one of the two"));
        }
        let given = [
            ("csv", source.csv.is_some()),
            ("xlsx", source.xlsx.is_some()),
            ("ndjson", source.ndjson.is_some()),
            ("json", source.json.is_some()),
            ("sidecars", source.sidecars.is_some()),
        ];
        let given: Vec<&str> = given.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
        let kind = match given.as_slice() {
            [one] => *one,
            [] => return Err(self.wrong("source", "it names no list", "write e.g. csv = \"list.csv\"")),
            several => {
                return Err(self.wrong("source", format!("it has {}", several.join(" and ")), "keep one of them"));
            }
        };
        let only_for = |key: &str, given: bool, kinds: &[&str]| {
            if given && !kinds.contains(&kind) {
                return Err(self.wrong(&format!("source.{key}"), format!("it does not go with {kind}"), "remove it"));
            }
            Ok(())
        };
        only_for("sheet", source.sheet.is_some(), &["xlsx"])?;
        only_for("header", source.header.is_some(), &["csv", "xlsx"])?;
        only_for("delimiter", source.delimiter.is_some(), &["csv"])?;
        only_for("encoding", source.encoding.is_some(), &["csv"])?;
        only_for("items", source.items.is_some(), &["json"])?;
        let table = |sheet| {
            self.table_form("source", sheet, (source.header, source.delimiter.as_deref(), source.encoding.as_deref()))
        };
        let named = |file: &Option<String>| file.clone().filter(|file| !file.is_empty());
        Ok(match kind {
            "csv" => RecordSource::Table { file: named(&source.csv), form: table(None)? },
            "xlsx" => {
                RecordSource::Table { file: named(&source.xlsx), form: table(Some(Sheet(source.sheet.clone())))? }
            }
            "ndjson" => RecordSource::JsonLines { file: named(&source.ndjson) },
            "json" => {
                let items = source.items.as_deref().unwrap_or_default();
                let items = items.split('.').filter(|step| !step.is_empty()).map(str::to_owned).collect();
                RecordSource::Json { file: named(&source.json), items }
            }
            _ => RecordSource::Sidecars {
                pattern: self.pattern("source.sidecars", source.sidecars.as_deref().unwrap_or_default())?,
            },
        })
    }

    fn files(&self, files: &form::FilesToml) -> Built<FilesForm> {
        let constants = files.constants.iter().map(|(name, value)| {
            let value = match value {
                Constant::Text(text) => text.clone(),
                Constant::Number(number) => number.to_string(),
                Constant::Flag(flag) => flag.to_string(),
            };
            (name.clone(), value)
        });
        Ok(FilesForm {
            pattern: self.pattern("files.match", &files.pattern)?,
            reference: self.optional("files.reference", files.reference.as_deref())?,
            constants: constants.collect(),
        })
    }

    fn table_form(
        &self,
        key: &str,
        sheet: Option<Sheet>,
        (header, delimiter, encoding): (Option<u64>, Option<&str>, Option<&str>),
    ) -> Built<TableForm> {
        let delimiter = match delimiter {
            None => None,
            Some("tab" | "\\t") => Some('\t'),
            Some(text) => {
                let mut letters = text.chars();
                let (Some(letter), None) = (letters.next(), letters.next()) else {
                    let cure = "write e.g. delimiter = \";\" or \"tab\"";
                    return Err(self.wrong(&format!("{key}.delimiter"), "it is not one character", cure));
                };
                Some(letter)
            }
        };
        let encoding = encoding
            .map(decode::encoding_of)
            .transpose()
            .map_err(|reason| self.wrong(&format!("{key}.encoding"), reason, "name one, as \"windows-1252\""))?;
        Ok(TableForm { sheet, delimiter, encoding, header })
    }

    fn lookup(&self, name: &str, lookup: &form::LookupToml) -> Built<LookupForm> {
        let key = format!("lookup.{name}");
        let (file, sheet) = match (&lookup.csv, &lookup.xlsx) {
            (Some(csv), None) => (csv, None),
            (None, Some(xlsx)) => (xlsx, Some(Sheet(lookup.sheet.clone()))),
            _ => {
                return Err(self.wrong(
                    &key,
                    "it needs csv or xlsx, and not both",
                    "name its file, e.g. csv = \"customers.csv\"",
                ));
            }
        };
        let table =
            self.table_form(&key, sheet, (lookup.header, lookup.delimiter.as_deref(), lookup.encoding.as_deref()))?;
        if lookup.pad.is_some_and(|pad| pad > 64) {
            return Err(self.wrong(&key, "pad is larger than 64", "write the number of characters that keys have"));
        }
        Ok(LookupForm {
            name: name.to_owned(),
            file: self.folder.join(file),
            table,
            key: lookup.key.clone(),
            value: lookup.value.clone(),
            pad: lookup.pad,
        })
    }

    fn kind(&self, toml: &LayoutToml) -> Built<KindForm> {
        let document = &toml.document;
        match (&document.kind, &document.category, &document.document_type) {
            (Some(kind), None, None) => {
                Ok(KindForm::One { template: self.template("document.kind", kind)?, table: self.kinds(toml)? })
            }
            (None, Some(category), Some(document_type)) => Ok(KindForm::Two {
                category: self.template("document.category", category)?,
                categories: self.table("categories", toml.categories.as_ref(), word)?,
                document_type: self.template("document.document_type", document_type)?,
                document_types: self.table("document_types", toml.document_types.as_ref(), word)?,
            }),
            _ => {
                let cure = "write kind = \"{Column}\" with [kinds], or category and document_type";
                Err(self.wrong("document", "it needs kind, or category and document_type, and not both", cure))
            }
        }
    }

    fn kinds(&self, toml: &LayoutToml) -> Built<Option<ValueTable<RecordKind>>> {
        let Some(kinds) = &toml.kinds else { return Ok(None) };
        let mut table = ValueTable { values: Vec::new(), rest: None };
        for (value, kind) in kinds {
            let (text, types) = match kind {
                KindToml::Plain(text) => (text, None),
                KindToml::Table(kind) => (&kind.kind, kind.image_types.as_ref()),
            };
            let types = types
                .map(|types| types.iter().map(|one| ImageType::parse(one)).collect::<Option<Vec<_>>>())
                .map(|types| {
                    types.ok_or_else(|| {
                        self.wrong("kinds", "image_types has an unknown type", "write FRONT, BACK or FACE")
                    })
                })
                .transpose()?;
            if text.is_empty() && self.incomplete {
                continue;
            }
            let kind = self.one_kind(value, text, types)?;
            match value.as_str() {
                "*" => table.rest = Some(kind),
                value => table.values.push((fold(value), kind)),
            }
        }
        Ok(Some(table))
    }

    fn one_kind(&self, value: &str, text: &str, image_types: Option<Vec<ImageType>>) -> Built<RecordKind> {
        if text.is_empty() {
            return Err(self.not_filled_in("kinds", value));
        }
        parse_kind(text, image_types).ok_or_else(|| {
            let reason = format!("{} = {} is no kind", quoted(value), quoted(text));
            self.wrong("kinds", reason, "write \"CATEGORY/TYPE\" in capital letters, \"file\" or \"skip\"")
        })
    }

    fn not_filled_in(&self, table: &str, value: &str) -> LayoutError {
        let reason = format!("the layout is incomplete: nothing says what {} is", quoted(value));
        self.wrong(table, reason, "fill it in, e.g. \"PROOF_OF_IDENTITY/PASSPORT\", \"file\" or \"skip\"")
    }

    fn table<T>(
        &self,
        name: &'static str,
        given: Option<&std::collections::BTreeMap<String, String>>,
        read: impl Fn(&str) -> Option<T>,
    ) -> Built<Option<ValueTable<T>>> {
        let Some(given) = given else { return Ok(None) };
        let mut table = ValueTable { values: Vec::new(), rest: None };
        for (value, text) in given {
            let found = match read(text.trim()) {
                Some(found) => found,
                None if text.is_empty() && self.incomplete => continue,
                None if text.is_empty() => return Err(self.not_filled_in(name, value)),
                None => {
                    let reason = format!("{} = {} is not what the API knows", quoted(value), quoted(text));
                    let cure = match name {
                        "image_types" => "write FRONT, BACK, FACE, or \"\" for none",
                        _ => "write capital letters, digits and _",
                    };
                    return Err(self.wrong(name, reason, cure));
                }
            };
            match value.as_str() {
                "*" => table.rest = Some(found),
                value => table.values.push((fold(value), found)),
            }
        }
        Ok(Some(table))
    }

    fn image(&self, image: &ImageToml) -> Built<ImageForm> {
        let key = "document.images";
        let files = match (&image.path, &image.folder) {
            (Some(path), None) => FilesOf::Path(self.template(key, path)?),
            (None, Some(folder)) => FilesOf::Folder(self.template(key, folder)?),
            _ => {
                return Err(self.wrong(
                    key,
                    "an image needs path or folder, and not both",
                    "e.g. { path = \"{File}\" }",
                ));
            }
        };
        let each = match &image.each {
            None if image.only.is_empty() && image.skip.is_empty() => None,
            None => return Err(self.wrong(key, "only and skip go with each", "use [only] and [skip] for records")),
            Some(list) => Some(Each {
                list: list.clone(),
                only: self.conditions(key, &image.only)?,
                skip: self.conditions(key, &image.skip)?,
            }),
        };
        Ok(ImageForm {
            files,
            each,
            image_type: self.optional(key, image.image_type.as_deref())?,
            optional: image.optional,
            sha256: self.optional(key, image.sha256.as_deref())?,
            bytes: self.optional(key, image.bytes.as_deref())?,
        })
    }

    fn extracted(&self, given: Option<&ExtractedToml>) -> Built<Option<ExtractedForm>> {
        let key = "document.extracted_data";
        Ok(match given {
            None => None,
            Some(ExtractedToml::Whole(text)) => Some(ExtractedForm::Whole(self.template(key, text)?)),
            Some(ExtractedToml::Table(table)) => Some(ExtractedForm::Table(
                table.iter().map(|(name, text)| Ok((name.clone(), self.template(key, text)?))).collect::<Built<_>>()?,
            )),
        })
    }

    fn conditions(&self, key: &str, given: &std::collections::BTreeMap<String, OneOrMany>) -> Built<Vec<Condition>> {
        let glob = |text: &String| {
            GlobBuilder::new(&fold(text))
                .backslash_escape(false)
                .build()
                .map(|glob| glob.compile_matcher())
                .map_err(|error| self.wrong(key, error.to_string(), "correct the value: * and ? are wildcards"))
        };
        given
            .iter()
            .map(|(name, values)| {
                Ok(Condition { name: slot(name), values: values.texts().iter().map(glob).collect::<Built<_>>()? })
            })
            .collect()
    }

    fn pattern(&self, key: &str, text: &str) -> Built<Pattern> {
        Pattern::compile(text).map_err(|reason| self.wrong(key, reason, "correct the pattern"))
    }

    fn template(&self, key: &str, text: &str) -> Built<Template> {
        Template::parse(text).map_err(|(reason, cure)| self.wrong(&format!("{key} = {}", quoted(text)), reason, cure))
    }

    fn optional(&self, key: &str, text: Option<&str>) -> Built<Option<Template>> {
        text.map(|text| self.template(key, text)).transpose()
    }

    fn lookups_exist(&self, layout: &ArchiveLayout) -> Built<()> {
        let known = || layout.lookups.iter().map(|lookup| lookup.name.as_str());
        for name in layout.templates().into_iter().flat_map(Template::lookups) {
            if known().all(|known| known != name) {
                let hint = nearest(name, known()).map_or_else(String::new, |near| format!("; did you mean {near}?"));
                let cure = format!("add [lookup.{name}] with csv, key and value{hint}");
                return Err(self.wrong("lookup", format!("there is no lookup {name}"), cure));
            }
        }
        Ok(())
    }

    fn no_rows(&self, layout: &ArchiveLayout) -> Built<()> {
        let own = match &layout.source {
            RecordSource::Files(files) => files.iter().filter_map(|files| files.reference.as_ref()).collect(),
            _ => Vec::new(),
        };
        if layout.reference.iter().chain(own).flat_map(Template::names).any(|name| name.folded == "row") {
            let reason =
                "{row} in it would make every document new once the list is sorted, and nothing can be deleted";
            return Err(self.wrong("document.reference", reason, "name a column that belongs to the document"));
        }
        Ok(())
    }
}

fn slot(name: &str) -> SlotName {
    SlotName { text: name.to_owned(), folded: fold(name) }
}
