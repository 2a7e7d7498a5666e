//! A first layout for an archive, from a sample of it: each choice is shown with its reason, for a person to see.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
};

use globset::GlobSet;

use super::{
    archive::ArchiveFolder,
    finding::LayoutError,
    guess_paths::{PathGuess, paths_of},
    guess_profile::{LookupGuess, profile},
    sample::{self, ListSample},
    shapes,
    target::ArchiveTarget,
    text::{fold, quoted},
    words::{known_kind, known_side, toml},
};
use crate::{inbox::beneath::Root, manifest::known};

/// What a layout may look like, and why.
#[derive(Debug)]
pub struct Guess {
    /// The layout; `""` in its tables is for a person to fill in.
    pub layout: String,
    /// What was taken for what, and why.
    pub reasons: Vec<String>,
}

/// Proposes a layout. `layout_folder` is where it will be.
///
/// # Errors
///
/// Where the archive cannot be read.
pub fn guess(target: &ArchiveTarget, root: &Root, layout_folder: &Path) -> Result<Guess, LayoutError> {
    let ignore = GlobSet::empty();
    let archive = ArchiveFolder::new(root, true, &ignore);
    let samples = sample::all(&archive, target)?;
    let mut out =
        Proposal { archive: &archive, samples: &samples, root: &target.root, layout_folder, reasons: Vec::new() };
    let list = out.list(target)?;
    let layout = match list {
        Some((at, paths)) => out.of_list(at, &paths)?,
        None => out.of_files()?,
    };
    Ok(Guess { layout, reasons: out.reasons })
}

struct Proposal<'a> {
    archive: &'a ArchiveFolder<'a>,
    samples: &'a [ListSample],
    root: &'a Path,
    layout_folder: &'a Path,
    reasons: Vec<String>,
}

impl Proposal<'_> {
    fn because(&mut self, reason: impl Into<String>) {
        self.reasons.push(reason.into());
    }

    /// The list: the one most of whose paths are found on disk.
    fn list(&mut self, target: &ArchiveTarget) -> Result<Option<(usize, Vec<PathGuess>)>, LayoutError> {
        let mut best: Option<(usize, Vec<PathGuess>)> = None;
        let named = |sample: &ListSample| target.list.as_ref().is_none_or(|list| *list == sample.file);
        for (at, sample) in self.samples.iter().enumerate().filter(|(_, sample)| named(sample)) {
            let paths = paths_of(self.archive, sample)?;
            let found = |paths: &[PathGuess]| paths.iter().map(|path| path.found).sum::<usize>();
            if found(&paths) > best.as_ref().map_or(0, |(_, paths)| found(paths)) {
                best = Some((at, paths));
            }
        }
        if best.is_none()
            && let Some(list) = &target.list
        {
            let cure = "give the archive's folder with --root, so that its paths can be found";
            return Err(LayoutError::wrong(list.as_str(), "no column of it names files that are there", cure));
        }
        Ok(best)
    }

    fn of_list(&mut self, at: usize, paths: &[PathGuess]) -> Result<String, LayoutError> {
        let Some(sample) = self.samples.get(at) else { return Ok(String::new()) };
        self.because(format!("source: {}", sample.described()));
        for path in paths {
            let what = if path.is_folder { "folders" } else { "files" };
            let strip = if path.strip.is_empty() {
                String::new()
            } else {
                format!(", after {} is taken off", quoted(&path.strip))
            };
            self.because(format!(
                "images: {} of {} values of {} are {what}{strip}",
                path.found, path.of, path.template
            ));
        }
        let outer: Vec<usize> = (0..sample.names.len()).filter(|at| !sample.is_nested(*at)).collect();
        let is_path = |at: &usize| {
            let name = sample.names.get(*at).map(|name| format!("{{{name}}}")).unwrap_or_default();
            paths.iter().any(|path| path.template.contains(&name))
        };
        let free: Vec<usize> = outer.iter().copied().filter(|at| !is_path(at)).collect();
        let names: Vec<String> = free.iter().filter_map(|at| sample.names.get(*at).cloned()).collect();
        let values = |number: usize| free.get(number).map(|at| sample.column(*at)).unwrap_or_default();
        let profile = profile(self.samples, Some(at), &names, &values);
        if let Some(profile) = &profile {
            self.because(profile.reason.clone());
        } else {
            self.because("profile_id: no column has UUIDs, and none is a key of another table here: fill it in");
        }
        let profile_column = profile.as_ref().and_then(|profile| {
            names.iter().find(|name| {
                profile.template.starts_with(&format!("{{{name}}}"))
                    || profile.template.starts_with(&format!("{{{name} |"))
            })
        });
        let side = self.side_column(sample, paths);
        let kind = self.kind_column(sample, &free, profile_column, side);
        let (reference, by_image) = reference_column(sample, &free, profile_column, kind, side.is_some());
        match (&reference, by_image) {
            (Some(name), false) => self.because(format!("reference: the values of {} are all different", quoted(name))),
            (Some(name), true) => {
                self.because(format!("record = \"image\": rows of one {} are one document", quoted(name)));
            }
            (None, _) => self.because("reference: no column is different in all records: fill it in"),
        }
        let mut text = String::from("version = 1\n\n[source]\n");
        text.push_str(&sample.keys());
        text.push_str("\n[document]\n");
        if by_image {
            text.push_str("record     = \"image\"\n");
        }
        let slot = |name: &Option<String>| name.as_ref().map_or_else(String::new, |name| format!("{{{name}}}"));
        text.push_str(&format!("reference  = {}\n", toml(&slot(&reference))));
        text.push_str(&format!(
            "profile_id = {}\n",
            toml(profile.as_ref().map_or("", |profile| profile.template.as_str()))
        ));
        let kind_name = kind.and_then(|kind| sample.names.get(kind).cloned());
        text.push_str(&format!("kind       = {}\n", toml(&slot(&kind_name))));
        text.push_str(&self.images(sample, paths, side));
        if let Some(kind) = kind {
            text.push_str(&self.kinds(&sample.column(kind), kind_name.as_deref().unwrap_or_default()));
        } else {
            self.because("kind: no column has few different words: fill it in");
            text.push_str(&self.kinds(&[], ""));
        }
        if let Some(side) = side {
            text.push_str(&sides(&sample.column(side)));
        }
        text.push_str(&path_keys(paths));
        if let Some(lookup) = profile.as_ref().and_then(|profile| profile.lookup.as_ref()) {
            text.push_str(&self.lookup(lookup));
        }
        Ok(text)
    }

    /// The column of sides, beside the column of files.
    fn side_column(&mut self, sample: &ListSample, paths: &[PathGuess]) -> Option<usize> {
        if paths.len() > 1 || paths.iter().any(|path| path.is_folder) {
            return None;
        }
        let found = (0..sample.names.len()).find(|at| {
            let distinct: HashSet<String> = sample.column(*at).iter().map(|value| fold(value)).collect();
            let known = distinct.iter().filter(|value| known_side(value).is_some()).count();
            (1..=8).contains(&distinct.len()) && known * 2 >= distinct.len()
        })?;
        self.because(format!(
            "image_type: {} has sides",
            quoted(&sample.names.get(found).cloned().unwrap_or_default())
        ));
        Some(found)
    }

    /// The column of kinds: few different words, best those that are known.
    fn kind_column(
        &mut self,
        sample: &ListSample,
        free: &[usize],
        profile: Option<&String>,
        side: Option<usize>,
    ) -> Option<usize> {
        let score = |at: usize| {
            let values = sample.column(at);
            let distinct: HashSet<String> = values.iter().map(|value| fold(value)).collect();
            let words = distinct.iter().filter(|value| value.chars().any(char::is_alphabetic)).count();
            let known = distinct.iter().filter(|value| !known_kind(value).is_empty()).count();
            let few = distinct.len() > 1 && distinct.len() <= 40.max(values.len() / 50) && words == distinct.len();
            // A few rows of each, one for each side, are a document.
            let repeated = distinct.len() * if side.is_some() { 3 } else { 1 } < values.len();
            if known > 0 { Some(1000 + known) } else { (few && repeated).then_some(distinct.len()) }
        };
        let found = free
            .iter()
            .copied()
            .filter(|at| Some(*at) != side && sample.names.get(*at) != profile)
            .filter_map(|at| Some((score(at)?, at)))
            .max_by_key(|(score, at)| (*score, std::cmp::Reverse(*at)))
            .map(|(_, at)| at)?;
        let distinct: HashSet<String> = sample.column(found).iter().map(|value| fold(value)).collect();
        let name = sample.names.get(found).cloned().unwrap_or_default();
        self.because(format!("kind: {} has {} different values", quoted(&name), distinct.len()));
        Some(found)
    }

    fn images(&self, sample: &ListSample, paths: &[PathGuess], side: Option<usize>) -> String {
        let rows = sample.records;
        let mut text = String::from("images     = [\n");
        for (number, path) in paths.iter().enumerate() {
            let slot = path.template.trim_matches(['{', '}']);
            let nested = sample.nested.iter().find(|(name, _)| name == slot);
            let mut parts = Vec::new();
            let inner =
                |name: &str, list: &str| name.strip_prefix(list).unwrap_or(name).trim_start_matches('.').to_owned();
            match nested {
                Some((name, list)) => {
                    parts.push(format!("each = {}", toml(list)));
                    parts.push(format!("path = {}", toml(&format!("{{{}}}", inner(name, list)))));
                }
                None if path.is_folder => parts.push(format!("folder = {}", toml(&path.template))),
                None => parts.push(format!("path = {}", toml(&path.template))),
            }
            if let Some(side) = side {
                let name = sample.names.get(side).cloned().unwrap_or_default();
                let name = nested.map_or(name.clone(), |(_, list)| inner(&name, list));
                parts.push(format!("image_type = {}", toml(&format!("{{{name}}}"))));
            } else if paths.len() > 1 {
                parts.push(format!("image_type = \"{}\"", if number == 0 { "FRONT" } else { "BACK" }));
            }
            if number > 0 && path.of < rows.min(60) {
                parts.push("optional = true".into());
            }
            text.push_str(&format!("  {{ {} }},\n", parts.join(", ")));
        }
        text.push_str("]\n");
        text
    }

    /// The table of kinds, with how often each is there.
    fn kinds(&mut self, values: &[String], name: &str) -> String {
        let mut counts: BTreeMap<String, (String, u64)> = BTreeMap::new();
        for value in values.iter().filter(|value| !value.is_empty()) {
            counts.entry(fold(value)).or_insert_with(|| (value.trim().to_owned(), 0)).1 += 1;
        }
        let mut counts: Vec<_> = counts.into_values().collect();
        counts.sort_by_key(|(value, count)| (std::cmp::Reverse(*count), value.clone()));
        let unknown = counts.iter().filter(|(value, _)| known_kind(value).is_empty()).count();
        if unknown > 0 {
            self.because(format!("{unknown} values of {} are unknown: fill in what is \"\" in [kinds]", quoted(name)));
        }
        if counts.is_empty() {
            return "\n# kind is \"{COLUMN}\" with a table [kinds], or \"CATEGORY/TYPE\" or \"file\" for all\n"
                .to_owned();
        }
        let mut text = String::from("\n[kinds]\n");
        for (value, count) in counts.iter().take(200) {
            text.push_str(&format!("{} = {}    # {count}×\n", toml(value), toml(known_kind(value))));
        }
        let types = known::DOCUMENT_TYPES.len();
        if unknown > 0 {
            text.push_str(&format!(
                "# \"CATEGORY/TYPE\", \"file\" or \"skip\"; the API knows {types} types: `schema manifest`\n"
            ));
        }
        text
    }

    fn lookup(&self, lookup: &LookupGuess) -> String {
        let Some(sample) = self.samples.get(lookup.sample) else { return String::new() };
        let full = self.root.join(&sample.file);
        let path = full.strip_prefix(self.layout_folder).unwrap_or(&full).display().to_string();
        let mut text = format!("\n[lookup.profiles]\n{}", sample.keys_of(&path));
        text.push_str(&format!("key = {}\nvalue = {}\n", toml(&lookup.key), toml(&lookup.value)));
        if let Some(pad) = lookup.pad {
            text.push_str(&format!("pad = {pad}\n"));
        }
        text
    }

    /// No list: the commonest shapes of the names.
    fn of_files(&mut self) -> Result<String, LayoutError> {
        let shapes = shapes::find(self.archive)?;
        if shapes.is_empty() {
            let cure = "name the archive's folder; its lists may be CSV, Excel, JSON or JSON Lines";
            return Err(LayoutError::wrong(self.root.display().to_string(), "it has no pictures and no list", cure));
        }
        self.because("source: no list names files that are here, so the names themselves are read");
        let mut names: Vec<String> = Vec::new();
        let mut values: HashMap<String, Vec<String>> = HashMap::new();
        for shape in &shapes {
            let files = if shape.count == 1 { "file fits" } else { "files fit" };
            self.because(format!("{} {files} {}", shape.count, quoted(&shape.pattern)));
            for (name, own) in &shape.captures {
                if !names.contains(name) {
                    names.push(name.clone());
                }
                values.entry(name.clone()).or_default().extend(own.iter().cloned());
            }
        }
        let of = |at: usize| names.get(at).and_then(|name| values.get(name)).cloned().unwrap_or_default();
        let profile = profile(self.samples, None, &names, &of);
        match &profile {
            Some(profile) => self.because(profile.reason.clone()),
            None => self.because("profile_id: no part of the names is a UUID, or a key of a table here: fill it in"),
        }
        let customer = profile.as_ref().map_or("", |profile| profile.template.as_str());
        let customer_name = customer.trim_start_matches('{').split([' ', '}']).next().unwrap_or_default().to_owned();
        let kind = kind_name(&names, &values, &customer_name);
        let mut text = String::from("version = 1\n");
        for shape in &shapes {
            // Each pattern has parts of its own.
            let own = shape.captures.iter().map(|(name, _)| name.as_str());
            let others: Vec<String> = own
                .filter(|name| !["side", "page", "ext"].contains(name) && *name != customer_name)
                .map(
                    |name| {
                        if Some(name) == kind { format!("{{{name} | lower | plain}}") } else { format!("{{{name}}}") }
                    },
                )
                .collect();
            let first = if customer_name.is_empty() { String::new() } else { format!("{{{customer_name}}}/") };
            text.push_str(&format!(
                "\n[[files]]    # {} files, e.g. {}\nmatch = {}\nreference = {}\n",
                shape.count,
                quoted(&shape.example),
                toml(&shape.pattern),
                toml(&format!("{first}{}", others.join("-")))
            ));
        }
        let has = |name: &str| names.iter().any(|own| own == name);
        text.push_str("\n[document]\nrecord     = \"image\"\n");
        text.push_str(&format!("profile_id = {}\n", toml(customer)));
        let template = kind.map_or_else(String::new, |kind| format!("{{{kind} | plain}}"));
        text.push_str(&format!("kind       = {}\n", toml(&template)));
        let side = if has("side") { ", image_type = \"{side}\"" } else { "" };
        text.push_str(&format!("images     = [{{ path = \"{{path}}\"{side} }}]\n"));
        let kinds = kind.and_then(|kind| values.get(kind)).into_iter().flatten();
        let kinds: Vec<String> = kinds.map(|kind| kind.replace('_', " ")).collect();
        text.push_str(&self.kinds(&kinds, kind.unwrap_or_default()));
        if let Some(found) = values.get("side") {
            text.push_str(&sides(found));
        }
        if let Some(lookup) = profile.as_ref().and_then(|profile| profile.lookup.as_ref()) {
            text.push_str(&self.lookup(lookup));
        }
        Ok(text)
    }
}

/// The part of names that says what a file is: one whose words are known, else that which is called so, unless it is always
/// the same.
fn kind_name<'a>(names: &'a [String], values: &HashMap<String, Vec<String>>, customer: &str) -> Option<&'a str> {
    let distinct =
        |name: &str| -> HashSet<String> { values.get(name).into_iter().flatten().map(|one| fold(one)).collect() };
    let is_known = |name: &&str| {
        let words = distinct(name);
        let known = words.iter().filter(|word| !known_kind(word).is_empty()).count();
        known > 0 && known * 2 >= words.len()
    };
    let free =
        || names.iter().map(String::as_str).filter(|name| *name != customer && !["side", "page", "ext"].contains(name));
    let is_word = |name: &&str| {
        (2..=40).contains(&distinct(name).len())
            && distinct(name).iter().all(|word| word.chars().all(char::is_alphabetic))
    };
    free().find(is_known).or_else(|| {
        let called = free().find(|name| *name == "kind")?;
        if distinct(called).len() > 1 { Some(called) } else { free().find(is_word).or(Some(called)) }
    })
}

/// The column of references, and whether its rows are images of one document.
fn reference_column(
    sample: &ListSample,
    free: &[usize],
    profile: Option<&String>,
    kind: Option<usize>,
    has_sides: bool,
) -> (Option<String>, bool) {
    let column = |at: usize| {
        let values = sample.column(at);
        let distinct: HashSet<String> = values.iter().map(|value| fold(value)).collect();
        (values.len(), distinct.len())
    };
    let candidates = || free.iter().copied().filter(|at| Some(*at) != kind && sample.names.get(*at) != profile);
    let name = |at: usize| sample.names.get(at).cloned();
    // A few rows may be there twice.
    let unique = candidates().find(|at| {
        let (values, distinct) = column(*at);
        distinct > 1 && values * 10 >= sample.records * 8 && distinct * 10 >= values * 8
    });
    let nested = !sample.nested.is_empty();
    if has_sides && !nested {
        let grouped = candidates().filter_map(|at| {
            let (values, distinct) = column(at);
            let repeats =
                distinct > 1 && distinct < values && distinct * 4 >= values && values * 10 >= sample.records * 8;
            repeats.then_some((distinct, at))
        });
        if let Some((_, at)) = grouped.max_by_key(|(distinct, at)| (*distinct, std::cmp::Reverse(*at))) {
            return (name(at), true);
        }
    }
    (unique.and_then(name), false)
}

fn sides(values: &[String]) -> String {
    let distinct: BTreeMap<String, String> =
        values.iter().filter(|value| !value.is_empty()).map(|value| (fold(value), value.trim().to_owned())).collect();
    let mut text = String::from("\n[image_types]\n");
    for value in distinct.values().take(30) {
        text.push_str(&format!("{} = \"{}\"\n", toml(value), known_side(value).unwrap_or_default()));
    }
    text
}

fn path_keys(paths: &[PathGuess]) -> String {
    let strip: Vec<String> =
        paths.iter().filter(|path| !path.strip.is_empty()).map(|path| literal(&path.strip)).collect();
    let base = paths.iter().find(|path| !path.base.is_empty()).map(|path| path.base.clone());
    let loose = paths.iter().any(|path| path.loose);
    if strip.is_empty() && base.is_none() && !loose {
        return String::new();
    }
    let mut text = String::from("\n[paths]\n");
    if !strip.is_empty() {
        let distinct: Vec<String> =
            strip.iter().collect::<std::collections::BTreeSet<_>>().into_iter().cloned().collect();
        text.push_str(&format!("strip = [{}]\n", distinct.join(", ")));
    }
    if let Some(base) = base {
        text.push_str(&format!("base = {}\n", toml(&base)));
    }
    if loose {
        text.push_str("match = \"loose\"\n");
    }
    text
}

fn literal(text: &str) -> String {
    if text.contains('\'') { toml(text) } else { format!("'{text}'") }
}
