//! The first records of every list of an archive, for a first layout.

use std::{collections::HashSet, io::Read as _, ops::ControlFlow};

use super::{
    archive::{ArchiveFolder, folder_of},
    decode,
    finding::LayoutError,
    node::{OWN_TEXT, TreeNode},
    sources,
    table::{self, Sheet, TableForm, TableRows},
    target::ArchiveTarget,
    text::{fold, quoted},
    words::{known_kind, toml},
    workbook,
};
use crate::entry::ProfileId;

/// So many records are looked at.
const RECORDS: usize = 1000;

/// So many files of an archive are looked at, and so many lists.
const FILES: usize = 50_000;
const LISTS: usize = 30;

/// A list, or the sidecars, of an archive.
#[derive(Debug)]
pub(super) struct ListSample {
    pub(super) file: String,
    pub(super) kind: SampleKind,
    pub(super) names: Vec<String>,
    pub(super) rows: Vec<SampleRow>,
    /// How many records the rows are of: items of nested lists have rows of their own.
    pub(super) records: usize,
    /// Names within nested lists, with the list.
    pub(super) nested: Vec<(String, String)>,
}

/// A record, or an item of one.
#[derive(Debug, Default)]
pub(super) struct SampleRow {
    /// Where its paths start.
    pub(super) folder: String,
    pub(super) cells: Vec<String>,
}

/// What a sample is of.
#[derive(Debug)]
pub(super) enum SampleKind {
    Table { sheet: Option<String>, header: Option<u64>, encoding: Option<&'static str>, is_utf8: bool },
    JsonLines,
    Json { items: String },
    Sidecars { pattern: &'static str },
}

impl ListSample {
    /// The values of a column that are not empty.
    pub(super) fn column(&self, at: usize) -> Vec<String> {
        self.rows.iter().filter_map(|row| row.cells.get(at)).filter(|cell| !cell.is_empty()).cloned().collect()
    }

    pub(super) fn is_nested(&self, at: usize) -> bool {
        self.names.get(at).is_some_and(|name| self.nested.iter().any(|(own, _)| own == name))
    }

    /// What a person calls it.
    pub(super) fn shown(&self) -> String {
        match &self.kind {
            SampleKind::Table { sheet: Some(sheet), .. } => format!("{}, sheet {}", self.file, quoted(sheet)),
            SampleKind::Sidecars { pattern } => (*pattern).to_owned(),
            _ => self.file.clone(),
        }
    }

    /// What it was taken for, and why.
    pub(super) fn described(&self) -> String {
        let form = match &self.kind {
            SampleKind::Table { sheet: Some(_), header, .. } => {
                format!("a sheet with the names in row {}", header.unwrap_or(1))
            }
            SampleKind::Table { encoding, is_utf8, header, .. } => {
                let encoding = match (encoding, is_utf8) {
                    (Some(encoding), _) => format!("no valid UTF-8, most likely {encoding}"),
                    (None, true) => "valid UTF-8".to_owned(),
                    (None, false) => "with a byte order mark".to_owned(),
                };
                let header = match header {
                    Some(0) => "no row of names",
                    Some(_) => "names in a later row",
                    None => "names in the first row",
                };
                format!("{encoding}, {header}")
            }
            SampleKind::JsonLines => "one JSON object a line".to_owned(),
            SampleKind::Json { items } => format!("JSON, with the list {}", quoted(items)),
            SampleKind::Sidecars { .. } => "one sidecar for each document".to_owned(),
        };
        format!("{}: {form}; {} columns, {} records looked at", self.shown(), self.names.len(), self.records)
    }

    /// The keys of `[source]`.
    pub(super) fn keys(&self) -> String {
        match &self.kind {
            SampleKind::JsonLines => format!("ndjson = {}\n", toml(&self.file)),
            SampleKind::Json { items } if items.is_empty() => format!("json = {}\n", toml(&self.file)),
            SampleKind::Json { items } => format!("json = {}\nitems = {}\n", toml(&self.file), toml(items)),
            SampleKind::Sidecars { pattern } => format!("sidecars = {}\n", toml(pattern)),
            SampleKind::Table { .. } => self.keys_of(&self.file),
        }
    }

    /// The keys of a table at this path.
    pub(super) fn keys_of(&self, path: &str) -> String {
        let SampleKind::Table { sheet, header, encoding, .. } = &self.kind else { return String::new() };
        let mut text = match sheet {
            Some(sheet) => format!("xlsx = {}\nsheet = {}\n", toml(path), toml(sheet)),
            None => format!("csv = {}\n", toml(path)),
        };
        if let Some(encoding) = encoding {
            text.push_str(&format!("encoding = {}    # the likeliest\n", toml(encoding)));
        }
        if let Some(header) = header {
            text.push_str(&format!("header = {header}\n"));
        }
        text
    }
}

/// Every list of an archive, and its sidecars.
pub(super) fn all(archive: &ArchiveFolder<'_>, target: &ArchiveTarget) -> Result<Vec<ListSample>, LayoutError> {
    let (mut lists, mut xml, mut json) = (Vec::new(), Vec::new(), Vec::new());
    let mut seen = 0;
    archive.walk(&mut |path| {
        seen += 1;
        let ending = path.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).unwrap_or_default();
        match ending.as_str() {
            "csv" | "tsv" | "txt" | "xlsx" | "ndjson" | "jsonl" if lists.len() < LISTS => lists.push(path.to_owned()),
            "xml" if xml.len() < RECORDS => xml.push(path.to_owned()),
            "json" if json.len() < RECORDS => json.push(path.to_owned()),
            _ => {}
        }
        Ok(if seen < FILES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    if let Some(list) = &target.list
        && !lists.contains(list)
        && !json.contains(list)
    {
        lists.push(list.clone());
    }
    let mut samples = Vec::new();
    for path in &lists {
        let ending = path.to_ascii_lowercase();
        if ending.ends_with(".xlsx") {
            samples.extend(sheets(archive, path));
        } else if ending.ends_with(".ndjson") || ending.ends_with(".jsonl") {
            samples.extend(json_lines(archive, path)?);
        } else {
            samples.extend(text_table(archive, path)?);
        }
    }
    if json.len() < 3 {
        for path in &json {
            samples.extend(json_file(archive, path));
        }
    } else {
        samples.extend(sidecars(archive, &json, "**/*.json"));
    }
    if !xml.is_empty() {
        samples.extend(sidecars(archive, &xml, "**/*.xml"));
    }
    Ok(samples)
}

/// Takes rows until there are enough.
#[derive(Default)]
struct FirstRows(Vec<(u64, Vec<String>)>);

impl TableRows for FirstRows {
    fn header(&mut self, _: Vec<String>, _: u64) -> Result<(), LayoutError> {
        Ok(())
    }
    fn row(&mut self, number: u64, cells: Vec<String>) -> Result<(), LayoutError> {
        self.0.push((number, cells));
        if self.0.len() > RECORDS { Err(LayoutError::Stopped) } else { Ok(()) }
    }
    fn bad(&mut self, _: u64, _: String, _: bool) -> Result<(), LayoutError> {
        Ok(())
    }
}

fn first_rows(archive: &ArchiveFolder<'_>, path: &str, form: &TableForm) -> Option<Vec<(u64, Vec<String>)>> {
    let opened = archive.open(path).ok()?;
    let mut rows = FirstRows::default();
    match table::read(path, opened.file, form, &mut rows) {
        Ok(()) | Err(LayoutError::Stopped) => Some(rows.0),
        // What cannot be read as a list is none.
        Err(_) => None,
    }
}

fn text_table(archive: &ArchiveFolder<'_>, path: &str) -> Result<Option<ListSample>, LayoutError> {
    let Ok(mut opened) = archive.open(path) else { return Ok(None) };
    let mut head = Vec::new();
    opened.file.by_ref().take(1 << 20).read_to_end(&mut head).map_err(LayoutError::io(path))?;
    let marked = encoding_rs::Encoding::for_bom(&head).is_some();
    let is_utf8 = match str::from_utf8(&head) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none() && head.len() == 1 << 20,
    };
    let encoding = (!marked && !is_utf8).then(|| decode::guess(&head));
    let coded = encoding.and_then(|name| decode::encoding_of(name).ok());
    let form = TableForm { sheet: None, delimiter: None, encoding: coded, header: Some(0) };
    let Some(rows) = first_rows(archive, path, &form) else { return Ok(None) };
    Ok(table_of(path, rows, None, (encoding, !marked)))
}

fn sheets(archive: &ArchiveFolder<'_>, path: &str) -> Vec<ListSample> {
    let Ok(opened) = archive.open(path) else { return Vec::new() };
    let Ok(workbook) = workbook::open(path, opened.file) else { return Vec::new() };
    let names = calamine::Reader::sheet_names(&workbook);
    let sheet = |name: String| {
        let form =
            TableForm { sheet: Some(Sheet(Some(name.clone()))), delimiter: None, encoding: None, header: Some(0) };
        table_of(path, first_rows(archive, path, &form)?, Some(name), (None, true))
    };
    names.into_iter().take(LISTS).filter_map(sheet).collect()
}

/// A table, once its row of names is found: the first one whose cells are all distinct text.
fn table_of(
    path: &str,
    rows: Vec<(u64, Vec<String>)>,
    sheet: Option<String>,
    (encoding, is_utf8): (Option<&'static str>, bool),
) -> Option<ListSample> {
    let width = rows.iter().take(200).map(|(_, cells)| cells.len()).max()?;
    if width < 2 {
        return None;
    }
    let is_header = |cells: &[String]| {
        let distinct: HashSet<String> = cells.iter().map(|cell| fold(cell)).collect();
        cells.len() >= 2
            && cells.len() * 2 > width
            && distinct.len() == cells.len()
            && cells.iter().all(|cell| {
                let is_value = ProfileId::parse(cell.trim_matches(['{', '}'])).is_some() || cell.parse::<f64>().is_ok();
                !cell.is_empty() && !is_value
            })
    };
    let found = rows.iter().take(30).position(|(_, cells)| is_header(cells));
    let first = rows.first().map(|(number, _)| *number)?;
    let (names, header, from) = match found.and_then(|at| Some((at, rows.get(at)?))) {
        Some((at, (number, cells))) => (cells.clone(), (*number != first).then_some(*number), at + 1),
        None => (table::numbered(width), Some(0), 0),
    };
    let row = |(_, cells): (u64, Vec<String>)| SampleRow { folder: String::new(), cells };
    let rows: Vec<SampleRow> = rows.into_iter().skip(from).map(row).collect();
    let kind = SampleKind::Table { sheet, header, encoding, is_utf8 };
    Some(ListSample { file: path.to_owned(), kind, names, records: rows.len(), rows, nested: Vec::new() })
}

fn json_lines(archive: &ArchiveFolder<'_>, path: &str) -> Result<Option<ListSample>, LayoutError> {
    let Ok(opened) = archive.open(path) else { return Ok(None) };
    let mut trees = Vec::new();
    let read = sources::json_lines(path, opened.file, &mut |read| {
        if let Ok(record) = read {
            trees.extend(record.tree.map(|tree| (String::new(), tree)));
        }
        if trees.len() >= RECORDS { Err(LayoutError::Stopped) } else { Ok(()) }
    });
    match read {
        Ok(()) | Err(LayoutError::Stopped) => Ok(of_trees(path, trees, SampleKind::JsonLines)),
        Err(error) => Err(error),
    }
}

/// A JSON file: a list of records, or an object with lists of them.
fn json_file(archive: &ArchiveFolder<'_>, path: &str) -> Option<ListSample> {
    let mut text = String::new();
    archive.open(path).ok()?.file.take(64 << 20).read_to_string(&mut text).ok()?;
    let mut node = TreeNode::json(text.trim_start_matches('\u{feff}')).ok()?;
    let mut items = Vec::new();
    // The longest list of objects is the one that counts.
    while let TreeNode::Object(members) = node {
        let (name, list) = members.into_iter().max_by_key(|(_, value)| match value {
            TreeNode::List(items) => items.iter().filter(|item| matches!(item, TreeNode::Object(_))).count(),
            _ => 0,
        })?;
        items.push(name);
        node = list;
        if matches!(node, TreeNode::List(_)) {
            break;
        }
    }
    let TreeNode::List(mut list) = node else { return None };
    while let Some(name) = list_of_documents(&list) {
        list = list.into_iter().flat_map(|record| documents_of(record, &name)).take(RECORDS).collect();
        items.push(name);
    }
    let trees = list.into_iter().take(RECORDS).map(|tree| (String::new(), tree)).collect();
    of_trees(path, trees, SampleKind::Json { items: items.join(".") })
}

/// The list within records that has their documents: it has kinds in it that are known, and the records have none.
fn list_of_documents(records: &[TreeNode]) -> Option<String> {
    let has_kind = |node: &TreeNode| {
        let is_kind = |value: &TreeNode| matches!(value, TreeNode::Text(text) if !known_kind(text).is_empty());
        matches!(node, TreeNode::Object(members) if members.iter().any(|(_, value)| is_kind(value)))
    };
    let few = || records.iter().take(20);
    if few().any(has_kind) {
        return None;
    }
    few().find_map(|record| {
        let TreeNode::Object(members) = record else { return None };
        let is_list = |value: &TreeNode| matches!(value, TreeNode::List(items) if items.iter().any(has_kind));
        members.iter().find(|(_, value)| is_list(value)).map(|(name, _)| name.clone())
    })
}

/// The items of a list of a record, each with the rest of the record as `parent`.
fn documents_of(record: TreeNode, list: &str) -> Vec<TreeNode> {
    let TreeNode::Object(members) = record else { return Vec::new() };
    let (lists, others): (Vec<_>, Vec<_>) = members.into_iter().partition(|(name, _)| name == list);
    let items =
        lists.into_iter().flat_map(|(_, value)| if let TreeNode::List(items) = value { items } else { Vec::new() });
    let with_parent = |item| {
        let TreeNode::Object(mut members) = item else { return None };
        members.push(("parent".to_owned(), TreeNode::Object(others.clone())));
        Some(TreeNode::Object(members))
    };
    items.filter_map(with_parent).collect()
}

fn sidecars(archive: &ArchiveFolder<'_>, paths: &[String], pattern: &'static str) -> Option<ListSample> {
    let tree = |path: &String| Some((folder_of(path).to_owned(), sources::sidecar(archive, path).ok()?));
    let trees = paths.iter().take(RECORDS).filter_map(tree).collect();
    of_trees(paths.first()?, trees, SampleKind::Sidecars { pattern })
}

/// Nested records as columns; items of nested lists have rows of their own.
fn of_trees(path: &str, trees: Vec<(String, TreeNode)>, kind: SampleKind) -> Option<ListSample> {
    let (mut names, mut nested) = (Vec::new(), Vec::new());
    for (_, tree) in trees.iter().take(100) {
        columns("", tree, &mut names, &mut nested);
    }
    let mut rows = Vec::new();
    for (folder, tree) in &trees {
        let most = nested.iter().map(|(_, list): &(String, String)| tree.items(list).len()).max().unwrap_or(0).max(1);
        for at in 0..most.min(50) {
            let cell = |name: &String| {
                let text = |node: &TreeNode| node.text().unwrap_or_default().into_owned();
                match nested.iter().find(|(own, _)| own == name) {
                    Some((_, list)) => {
                        let inner = name.strip_prefix(list.as_str()).unwrap_or(name).trim_start_matches('.');
                        let items = tree.items(list);
                        items
                            .get(at)
                            .and_then(|item| item.all(inner).first().map(|node| text(node)))
                            .unwrap_or_default()
                    }
                    None if at == 0 => tree.all(name).first().map(|node| text(node)).unwrap_or_default(),
                    None => String::new(),
                }
            };
            rows.push(SampleRow { folder: folder.clone(), cells: names.iter().map(cell).collect() });
        }
    }
    (!names.is_empty()).then(|| ListSample { file: path.to_owned(), kind, names, records: trees.len(), rows, nested })
}

/// The names of a nested record: paths of values, pairs by their names, and what is in its lists.
fn columns(before: &str, node: &TreeNode, names: &mut Vec<String>, nested: &mut Vec<(String, String)>) {
    let TreeNode::Object(members) = node else { return };
    let add = |names: &mut Vec<String>, name: String| {
        if names.len() < 200 && !names.contains(&name) {
            names.push(name);
        }
    };
    for (name, value) in members.iter().filter(|(name, _)| name != OWN_TEXT) {
        let path = if before.is_empty() { name.clone() } else { format!("{before}.{name}") };
        let items: &[TreeNode] = match value {
            TreeNode::List(items) => items,
            one @ TreeNode::Object(inner) if inner.iter().any(|(name, _)| name == "@name") => std::slice::from_ref(one),
            TreeNode::Object(_) => {
                columns(&path, value, names, nested);
                continue;
            }
            _ => {
                add(names, path);
                continue;
            }
        };
        let key_of = |item: &TreeNode| {
            let found = ["name", "@name", "key", "@key"].iter().find(|key| !item.all(key).is_empty())?;
            let text = item.all(found).first()?.text()?.into_owned();
            Some((found.trim_start_matches('@').to_owned(), text))
        };
        let pairs: Vec<_> = items.iter().filter_map(key_of).collect();
        let distinct: HashSet<&String> = pairs.iter().map(|(_, text)| text).collect();
        let short = |item: &TreeNode| matches!(item, TreeNode::Object(members) if members.len() <= 3);
        if !items.is_empty() && pairs.len() == items.len() && distinct.len() == pairs.len() && items.iter().all(short) {
            for (key, text) in pairs {
                add(names, format!("{path}[{key}={text}]"));
            }
            continue;
        }
        for item in items {
            let TreeNode::Object(inner) = item else { continue };
            for (name, value) in
                inner.iter().filter(|(_, value)| !matches!(value, TreeNode::Object(_) | TreeNode::List(_)))
            {
                let _ = value;
                let inner_path = format!("{path}.{name}");
                add(names, inner_path.clone());
                if !nested.iter().any(|(own, _)| *own == inner_path) {
                    nested.push((inner_path, path.clone()));
                }
            }
        }
    }
}
