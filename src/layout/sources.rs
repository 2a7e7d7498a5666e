//! Where records come from: lists, nested lists, sidecars, and the files themselves.

use std::{
    fmt,
    io::{BufRead as _, BufReader, Read, Seek},
    ops::ControlFlow,
    rc::Rc,
};

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{
    archive::ArchiveFolder,
    finding::{FindingKind, LayoutError, RecordFinding},
    node::TreeNode,
    plan::{ArchiveLayout, RecordSource},
    record::{Columns, Parent, Record},
    table::{self, TableRows},
    text::quoted,
    xml,
};
use crate::{entry::EntrySource, inbox::beneath::OpenedFile, manifest::at_row_limit, problem::Problem};

/// The longest line of JSON, and the largest sidecar, in bytes.
const MAX_RECORD: usize = 4 << 20;

/// Takes records, and what is none.
pub(super) type EachRecord<'a> = dyn FnMut(Result<Record, RecordFinding>) -> Result<(), LayoutError> + 'a;

/// Reads every record of an archive. `list` is the list, where it was named by its path.
pub(super) fn read(
    layout: &ArchiveLayout,
    archive: &ArchiveFolder<'_>,
    list: Option<&str>,
    each: &mut EachRecord<'_>,
) -> Result<(), LayoutError> {
    match &layout.source {
        RecordSource::Table { .. } | RecordSource::JsonLines { .. } | RecordSource::Json { .. } => {
            let (name, opened) = open_list(layout, archive, list.or(list_name(layout)))?;
            read_list(layout, &name, opened.file, each)
        }
        RecordSource::Sidecars { pattern } => archive.walk(&mut |path| {
            if let Some(captures) = pattern.fits(path) {
                let source = EntrySource { file: path.to_owned(), row: None, is_file: false };
                match sidecar(archive, path) {
                    Ok(tree) => {
                        let mut record = Record::new(source);
                        record.tree = Some(tree);
                        record.path = Some(path.to_owned());
                        captures.into_iter().for_each(|(name, value)| record.add(&name, value));
                        each(Ok(record))?;
                    }
                    Err(reason) => {
                        let cure = "correct the sidecar, or have it exported again";
                        each(Err(RecordFinding::error(FindingKind::BadRecord, reason, cure).at(&source)))?;
                    }
                }
            }
            Ok(ControlFlow::Continue(()))
        }),
        RecordSource::Files(files) => {
            let mut names: Vec<String> = Vec::new();
            let constants = files.iter().flat_map(|form| form.constants.iter().map(|(name, _)| name.as_str()));
            for name in files.iter().flat_map(|form| form.pattern.names()).chain(constants) {
                if !names.iter().any(|known| super::text::fold(known) == super::text::fold(name)) {
                    names.push(name.to_owned());
                }
            }
            layout.check_names(&names, false)?;
            archive.walk(&mut |path| {
                let fits = files.iter().enumerate().find_map(|(at, form)| Some((at, form, form.pattern.fits(path)?)));
                if let Some((at, form, captures)) = fits {
                    let mut record = Record::new(EntrySource { file: path.to_owned(), row: None, is_file: true });
                    record.path = Some(path.to_owned());
                    record.pattern = Some(at);
                    captures.into_iter().for_each(|(name, value)| record.add(&name, value));
                    form.constants.iter().for_each(|(name, value)| record.add(name, value.clone()));
                    each(Ok(record))?;
                }
                Ok(ControlFlow::Continue(()))
            })
        }
    }
}

/// Reads every record of a list.
pub(super) fn read_list(
    layout: &ArchiveLayout,
    name: &str,
    input: impl Read + Seek,
    each: &mut EachRecord<'_>,
) -> Result<(), LayoutError> {
    match &layout.source {
        RecordSource::Table { form, .. } => {
            table::read(name, input, form, &mut TableRecords { layout, name, columns: Rc::default(), each })
        }
        RecordSource::JsonLines { .. } => json_lines(name, input, each),
        RecordSource::Json { items, .. } => json(name, input, items, each),
        RecordSource::Sidecars { .. } | RecordSource::Files(_) => {
            let cure = "give the archive's folder";
            Err(LayoutError::wrong(layout.file.display().to_string(), "the layout reads no list", cure))
        }
    }
}

/// The file that the layout calls its list.
pub(super) fn list_name(layout: &ArchiveLayout) -> Option<&str> {
    match &layout.source {
        RecordSource::Table { file, .. } | RecordSource::JsonLines { file } | RecordSource::Json { file, .. } => {
            file.as_deref()
        }
        RecordSource::Sidecars { .. } | RecordSource::Files(_) => None,
    }
}

/// Whether the layout reads one list.
pub(super) const fn has_list(layout: &ArchiveLayout) -> bool {
    !matches!(layout.source, RecordSource::Sidecars { .. } | RecordSource::Files(_))
}

fn open_list(
    layout: &ArchiveLayout,
    archive: &ArchiveFolder<'_>,
    name: Option<&str>,
) -> Result<(String, OpenedFile), LayoutError> {
    let what = || format!("{}, source", layout.file.display());
    let name = name.ok_or_else(|| {
        LayoutError::wrong(what(), "it names no file", "write e.g. csv = \"list.csv\", or give the list's own path")
    })?;
    let opened = archive.open(name).map_err(|refusal| {
        LayoutError::wrong(
            format!("{}: {name}", what()),
            refusal.to_string(),
            "write the list's path from the archive's folder",
        )
    })?;
    Ok((name.to_owned(), opened))
}

struct TableRecords<'a, 'e> {
    layout: &'a ArchiveLayout,
    name: &'a str,
    columns: Rc<Columns>,
    each: &'a mut EachRecord<'e>,
}

impl TableRecords<'_, '_> {
    fn source(&self, row: u64) -> EntrySource {
        EntrySource { file: self.name.to_owned(), row: Some(row), is_file: false }
    }
}

impl TableRows for TableRecords<'_, '_> {
    fn header(&mut self, names: Vec<String>, row: u64) -> Result<(), LayoutError> {
        self.layout.check_names(&names, row == 0)?;
        self.columns = Rc::new(Columns::new(if row == 0 { Vec::new() } else { names }));
        Ok(())
    }

    fn row(&mut self, number: u64, cells: Vec<String>) -> Result<(), LayoutError> {
        let mut record = Record::new(self.source(number));
        record.columns = Some(Rc::clone(&self.columns));
        record.cells = cells;
        (self.each)(Ok(record))
    }

    fn bad(&mut self, number: u64, reason: String, to_the_end: bool) -> Result<(), LayoutError> {
        let cure = if to_the_end {
            "close the quote: the rest of the list is read as one cell"
        } else {
            "put quotes around the cell that has the delimiter in it, or remove what is too much"
        };
        let finding = RecordFinding::error(FindingKind::BadRecord, reason, cure).at(&self.source(number));
        (self.each)(Err(finding))
    }

    fn end(&mut self, last: u64) -> Result<(), LayoutError> {
        let Some(Problem { reason, cure, .. }) = at_row_limit(last) else { return Ok(()) };
        let finding = RecordFinding::warning(FindingKind::RowLimit, reason, cure).at(&self.source(last));
        (self.each)(Err(finding))
    }
}

pub(super) fn json_lines(name: &str, input: impl Read, each: &mut EachRecord<'_>) -> Result<(), LayoutError> {
    let mut reader = BufReader::new(input);
    let mut number = 0_u64;
    let mut line = Vec::new();
    loop {
        line.clear();
        let read =
            (&mut reader).take(MAX_RECORD as u64 + 1).read_until(b'\n', &mut line).map_err(LayoutError::io(name))?;
        if read == 0 {
            return Ok(());
        }
        number += 1;
        let source = EntrySource { file: name.to_owned(), row: Some(number), is_file: false };
        let text = if number == 1 { line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&line) } else { &line };
        if text.len() > MAX_RECORD && !text.ends_with(b"\n") {
            each(Err(bad_json(&source, "the line is longer than 4 MiB")))?;
            // The rest of the line belongs to it.
            while (&mut reader).take(MAX_RECORD as u64).read_until(b'\n', &mut line).map_err(LayoutError::io(name))? > 0
            {
                let ended = line.ends_with(b"\n");
                line.clear();
                if ended {
                    break;
                }
            }
            continue;
        }
        let text = text.trim_ascii();
        if text.is_empty() {
            continue;
        }
        let read = str::from_utf8(text).map_err(|_| "the line is not UTF-8 text".to_owned()).and_then(TreeNode::json);
        match read {
            Ok(tree @ TreeNode::Object(_)) => {
                let mut record = Record::new(source);
                record.tree = Some(tree);
                each(Ok(record))?;
            }
            Ok(_) => each(Err(bad_json(&source, "the line is not an object")))?,
            Err(reason) => each(Err(bad_json(&source, &format!("the line is not valid JSON: {reason}"))))?,
        }
    }
}

fn bad_json(source: &EntrySource, reason: &str) -> RecordFinding {
    RecordFinding::error(FindingKind::BadRecord, reason, "correct the line, or have it exported again").at(source)
}

/// Reads the items of a JSON file, one item of the first list at a time.
fn json(name: &str, input: impl Read, items: &[String], each: &mut EachRecord<'_>) -> Result<(), LayoutError> {
    let mut number = 0;
    // How many items there are, and whether any has the lists within it.
    let (mut outermost, mut has_steps) = (0_u64, false);
    let mut failure = None;
    let mut outer = |raw: &RawValue, at_top: bool| {
        outermost += 1;
        let steps = if at_top { items.get(1..).unwrap_or_default() } else { items };
        let read = TreeNode::json(raw.get())
            .map_err(|reason| LayoutError::wrong(name, reason, "have the file exported again"));
        let handed = read.and_then(|node| {
            has_steps = has_steps || steps.is_empty() || !node.all(&steps.join(".")).is_empty();
            hand_on(name, node, None, steps, &mut number, each)
        });
        handed.map_err(|error| failure = Some(error)).is_ok()
    };
    let mut mark = Vec::new();
    let mut reader = BufReader::new(input);
    reader.by_ref().take(3).read_to_end(&mut mark).map_err(LayoutError::io(name))?;
    if mark == b"\xEF\xBB\xBF" {
        mark.clear();
    }
    let mut deserializer = serde_json::Deserializer::from_reader(mark.chain(reader));
    let top = TopLevel { first: items.first().map(String::as_str), found: false, each: &mut outer };
    let read = top.deserialize(&mut deserializer);
    if let Some(failure) = failure {
        return Err(failure);
    }
    match read {
        Ok(true) if outermost > 0 && !has_steps => {
            let reason = format!("none of its {outermost} items has what `items` names: {}", quoted(&items.join(".")));
            Err(LayoutError::wrong(name, reason, "correct `items` in the layout"))
        }
        Ok(true) => Ok(()),
        Ok(false) => {
            let wanted = items.first().map_or_else(|| "a list".to_owned(), |step| format!("a list \"{step}\""));
            Err(LayoutError::wrong(
                name,
                format!("it has no {wanted} at its top").replace("no a ", "no "),
                "correct `items` in the layout",
            ))
        }
        Err(error) => {
            Err(LayoutError::wrong(name, format!("it is not valid JSON: {error}"), "have the file exported again"))
        }
    }
}

/// Hands on the records in a node: what the steps that are left lead to.
fn hand_on(
    name: &str,
    node: TreeNode,
    parent: Option<Rc<Parent>>,
    steps: &[String],
    number: &mut u64,
    each: &mut EachRecord<'_>,
) -> Result<(), LayoutError> {
    let Some((step, rest)) = steps.split_first() else {
        *number += 1;
        let source = EntrySource { file: name.to_owned(), row: Some(*number), is_file: false };
        if !matches!(node, TreeNode::Object(_)) {
            return each(Err(bad_json(&source, "the item is not an object")));
        }
        let mut record = Record::new(source);
        record.tree = Some(node);
        record.parent = parent;
        return each(Ok(record));
    };
    let TreeNode::Object(members) = node else { return Ok(()) };
    let (inner, others): (Vec<_>, Vec<_>) = members.into_iter().partition(|(own, _)| own == step);
    let parent = Rc::new(Parent { node: TreeNode::Object(others), above: parent });
    for (_, list) in inner {
        let items = match list {
            TreeNode::List(items) => items,
            TreeNode::Null => Vec::new(),
            other => vec![other],
        };
        for item in items {
            hand_on(name, item, Some(Rc::clone(&parent)), rest, number, each)?;
        }
    }
    Ok(())
}

/// The top of a JSON file: a list, or an object with one.
struct TopLevel<'a> {
    first: Option<&'a str>,
    found: bool,
    each: &'a mut dyn FnMut(&RawValue, bool) -> bool,
}

impl<'de> DeserializeSeed<'de> for TopLevel<'_> {
    type Value = bool;
    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for TopLevel<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list, or an object with one")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<bool, A::Error> {
        while let Some(item) = list.next_element::<Box<RawValue>>()? {
            if !(self.each)(&item, false) {
                return Err(serde::de::Error::custom("stopped"));
            }
        }
        Ok(true)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<bool, A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if self.first == Some(key.as_str()) {
                self.found = true;
                map.next_value_seed(ItemList { each: &mut *self.each })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(self.found)
    }
}

struct ItemList<'a> {
    each: &'a mut dyn FnMut(&RawValue, bool) -> bool,
}

impl<'de> DeserializeSeed<'de> for ItemList<'_> {
    type Value = ();
    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ItemList<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(item) = list.next_element::<Box<RawValue>>()? {
            if !(self.each)(&item, true) {
                return Err(serde::de::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

/// Reads a sidecar.
pub(super) fn sidecar(archive: &ArchiveFolder<'_>, path: &str) -> Result<TreeNode, String> {
    let opened = archive.open(path).map_err(|refusal| refusal.to_string())?;
    if opened.identity.bytes > MAX_RECORD as u64 {
        return Err("the sidecar is larger than 4 MiB".to_owned());
    }
    let mut bytes = Vec::new();
    opened
        .file
        .take(MAX_RECORD as u64)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("it cannot be read: {error}"))?;
    let text = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes).trim_ascii();
    if text.starts_with(b"{") || path.to_ascii_lowercase().ends_with(".json") {
        let text = str::from_utf8(text).map_err(|_| "the sidecar is not UTF-8 text".to_owned())?;
        return match TreeNode::json(text) {
            Ok(tree @ TreeNode::Object(_)) => Ok(tree),
            Ok(_) => Err("the sidecar is not an object".to_owned()),
            Err(reason) => Err(format!("the sidecar is not valid JSON: {reason}")),
        };
    }
    xml::read(&bytes)
}
