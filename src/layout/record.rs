//! One record of an archive: names with values.

use std::{borrow::Cow, collections::HashMap, rc::Rc};

use super::{
    archive::folder_of,
    node::TreeNode,
    template::{Found, SlotName, Values},
    text::fold,
};
use crate::{entry::EntrySource, relative_path::name};

/// The columns of a list.
#[derive(Debug, Default)]
pub(super) struct Columns {
    pub(super) names: Vec<String>,
    places: HashMap<String, usize>,
    /// Without a header, columns are called by their numbers.
    are_numbers: bool,
}

impl Columns {
    pub(super) fn new(names: Vec<String>) -> Self {
        let mut places = HashMap::new();
        for (at, name) in names.iter().enumerate() {
            places.entry(fold(name)).or_insert(at);
        }
        Self { are_numbers: names.is_empty(), names, places }
    }

    fn place(&self, name: &SlotName) -> Option<usize> {
        if self.are_numbers {
            return name.text.parse::<usize>().ok()?.checked_sub(1);
        }
        self.places.get(&name.folded).copied()
    }
}

/// What an item of a JSON file is in.
#[derive(Debug)]
pub(super) struct Parent {
    pub(super) node: TreeNode,
    pub(super) above: Option<Rc<Self>>,
}

/// A record.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) source: EntrySource,
    pub(super) columns: Option<Rc<Columns>>,
    pub(super) cells: Vec<String>,
    pub(super) tree: Option<TreeNode>,
    pub(super) parent: Option<Rc<Parent>>,
    /// Captures, constants, and what `[parts]` and the tables give: compared names with values.
    pub(super) extras: Vec<(String, String)>,
    /// Of a sidecar or a file: its path.
    pub(super) path: Option<String>,
    /// Which pattern of `[[files]]` it fits.
    pub(super) pattern: Option<usize>,
}

impl Record {
    pub(super) fn new(source: EntrySource) -> Self {
        Self {
            source,
            columns: None,
            cells: Vec::new(),
            tree: None,
            parent: None,
            extras: Vec::new(),
            path: None,
            pattern: None,
        }
    }

    pub(super) fn add(&mut self, name: &str, value: String) {
        self.extras.push((fold(name), value));
    }

    /// The value of a name as text, empty where there is none.
    pub(super) fn text(&self, name: &SlotName) -> String {
        text_of(self.value(name))
    }
}

pub(super) fn text_of(found: Option<Found<'_>>) -> String {
    match found {
        Some(Found::Text(text)) => text.into_owned(),
        Some(Found::TreeNode(node)) => node.text().map(Cow::into_owned).unwrap_or_default(),
        Some(Found::Several) | None => String::new(),
    }
}

impl Values for Record {
    fn value(&self, name: &SlotName) -> Option<Found<'_>> {
        if let Some(at) = self.columns.as_ref().and_then(|columns| columns.place(name)) {
            return Some(Found::Text(Cow::Borrowed(self.cells.get(at).map(String::as_str).unwrap_or_default())));
        }
        if let Some(tree) = &self.tree
            && let Some(found) = in_tree(tree, &name.text)
        {
            return Some(found);
        }
        if let Some(parent) = &self.parent
            && let Some(found) = in_parent(parent, &name.text)
        {
            return Some(found);
        }
        if let Some((_, value)) = self.extras.iter().find(|(own, _)| *own == name.folded) {
            return Some(Found::Text(Cow::Borrowed(value)));
        }
        let path = self.path.as_deref();
        match name.folded.as_str() {
            "row" => Some(Found::Text(Cow::Owned(self.source.row.map(|row| row.to_string()).unwrap_or_default()))),
            "path" => Some(Found::Text(Cow::Borrowed(path?))),
            "dir" => Some(Found::Text(Cow::Borrowed(folder_of(path?)))),
            "file" => Some(Found::Text(Cow::Borrowed(self::name(path?)))),
            _ => None,
        }
    }

    fn own_names(&self) -> Vec<String> {
        let mut names = Vec::new();
        self.tree.iter().for_each(|tree| tree.names("", &mut names));
        names
    }
}

fn in_tree<'a>(tree: &'a TreeNode, path: &str) -> Option<Found<'a>> {
    match tree.all(path).as_slice() {
        [] => None,
        [TreeNode::List(items)] if items.len() == 1 => items.first().map(Found::TreeNode),
        [one] => Some(Found::TreeNode(one)),
        // The same value in several places is one value.
        [one, rest @ ..] if rest.iter().all(|other| other == one) => Some(Found::TreeNode(one)),
        [..] => Some(Found::Several),
    }
}

fn in_parent<'a>(parent: &'a Parent, path: &str) -> Option<Found<'a>> {
    let rest = path.strip_prefix("parent.")?;
    if let Some(above) = &parent.above
        && let Some(found) = in_parent(above, rest)
    {
        return Some(found);
    }
    in_tree(&parent.node, rest)
}

/// An item of a nested list of a record: what it has not, the record may have.
pub(super) struct NestedItem<'a> {
    pub(super) record: &'a Record,
    pub(super) node: &'a TreeNode,
}

impl Values for NestedItem<'_> {
    fn value(&self, name: &SlotName) -> Option<Found<'_>> {
        if let Some(found) = in_tree(self.node, &name.text) {
            return Some(found);
        }
        let is_plain = !matches!(self.node, TreeNode::Object(_) | TreeNode::List(_));
        if matches!(name.text.as_str(), "." | "value") && is_plain {
            return Some(Found::TreeNode(self.node));
        }
        if let Some(rest) = name.text.strip_prefix("parent.")
            && let Some(found) = self.record.tree.as_ref().and_then(|tree| in_tree(tree, rest))
        {
            return Some(found);
        }
        self.record.value(name)
    }

    fn own_names(&self) -> Vec<String> {
        let mut names = Vec::new();
        self.node.names("", &mut names);
        names
    }
}
