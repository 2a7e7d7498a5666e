//! A disk as POSIX promises it and no better: what was synced is there, and of the rest anything.
//!
//! A file's content is on disk once the file was synced, a name once its folder was. Of what was written since, any
//! sectors may be there, in any order; of the names that came or went since, any may have. Only one thing is promised
//! besides: a rename loses not both names.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

use crate::{dice::Dice, trace::Event};

const SECTOR: u64 = 512;
const PAGE: u64 = 4096;

/// What a name leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    Folder,
    /// By its number among all files that there ever were.
    File(usize),
}

/// A file's content.
#[derive(Debug, Clone, Default)]
struct Content {
    now: Vec<u8>,
    safe: Vec<u8>,
    since: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write { at: u64, bytes: Vec<u8> },
    Cut { bytes: u64 },
}

/// A name that came, went, or both at once; each half leaves when it is safe.
#[derive(Debug, Clone)]
struct Move {
    add: Option<(String, Node)>,
    remove: Option<(String, Node)>,
}

/// A disk while it is written to.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    files: Vec<Content>,
    now: BTreeMap<String, Node>,
    safe: BTreeMap<String, Node>,
    moves: Vec<Move>,
}

/// What is on a disk.
#[derive(Debug, Clone, Default)]
pub struct Image {
    pub names: BTreeMap<String, Node>,
    /// Of the files that have a name.
    pub files: BTreeMap<usize, Vec<u8>>,
}

impl Image {
    pub fn content(&self, path: &str) -> Option<&[u8]> {
        match self.names.get(path)? {
            Node::File(number) => self.files.get(number).map(Vec::as_slice),
            Node::Folder => None,
        }
    }
}

/// The folder that a name is in.
pub fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

impl Disk {
    /// Puts a file there as if it had always been; returns its number.
    pub fn lay(&mut self, path: &str, bytes: Vec<u8>) -> usize {
        let number = self.files.len();
        self.files.push(Content { safe: bytes.clone(), now: bytes, since: Vec::new() });
        self.now.insert(path.to_owned(), Node::File(number));
        self.safe.insert(path.to_owned(), Node::File(number));
        number
    }

    /// Puts a folder there as if it had always been.
    pub fn lay_folder(&mut self, path: &str) {
        self.now.insert(path.to_owned(), Node::Folder);
        self.safe.insert(path.to_owned(), Node::Folder);
    }

    /// What a read of a file returns now.
    pub fn reads(&self, number: usize) -> &[u8] {
        self.files.get(number).map_or(&[], |content| &content.now)
    }

    /// All names and contents as a reader finds them now.
    pub fn current(&self) -> Image {
        let files = self.now.values().filter_map(|node| match node {
            Node::File(number) => Some((*number, self.reads(*number).to_vec())),
            Node::Folder => None,
        });
        Image { files: files.collect(), names: self.now.clone() }
    }

    pub fn apply(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Create(path) => {
                if !self.now.contains_key(path) {
                    let node = Node::File(self.files.len());
                    self.files.push(Content::default());
                    self.now.insert(path.clone(), node);
                    self.moves.push(Move { add: Some((path.clone(), node)), remove: None });
                }
            }
            Event::Folder(path) => {
                self.now.insert(path.clone(), Node::Folder);
                self.moves.push(Move { add: Some((path.clone(), Node::Folder)), remove: None });
            }
            Event::Write { path, at, bytes } => self.change(path, Change::Write { at: *at, bytes: bytes.clone() })?,
            Event::Cut { path, bytes } => self.change(path, Change::Cut { bytes: *bytes })?,
            Event::Sync(path) => self.sync(path)?,
            Event::Rename { from, to } => {
                let node = self.now.remove(from).with_context(|| format!("{from} is not there to be renamed"))?;
                self.now.insert(to.clone(), node);
                self.moves.push(Move { add: Some((to.clone(), node)), remove: Some((from.clone(), node)) });
            }
            Event::Link { from, to } => {
                let node = *self.now.get(from).with_context(|| format!("{from} is not there to be linked"))?;
                self.now.insert(to.clone(), node);
                self.moves.push(Move { add: Some((to.clone(), node)), remove: None });
            }
            Event::Remove(path) => {
                let node = self.now.remove(path).with_context(|| format!("{path} is not there to be removed"))?;
                self.moves.push(Move { add: None, remove: Some((path.clone(), node)) });
            }
            Event::Ask(_) => {}
        }
        Ok(())
    }

    fn change(&mut self, path: &str, change: Change) -> Result<()> {
        let Some(Node::File(number)) = self.now.get(path) else { bail!("{path} is no file that can be written") };
        let content = self.files.get_mut(*number).context("a file without content")?;
        apply(&mut content.now, &change);
        content.since.push(change);
        Ok(())
    }

    fn sync(&mut self, path: &str) -> Result<()> {
        match self.now.get(path) {
            Some(Node::File(number)) => {
                let content = self.files.get_mut(*number).context("a file without content")?;
                for change in content.since.drain(..) {
                    apply(&mut content.safe, &change);
                }
            }
            Some(Node::Folder) => {
                for half in &mut self.moves {
                    let here = |entry: &Option<(String, Node)>| {
                        entry.as_ref().is_some_and(|(name, _)| folder_of(name) == path)
                    };
                    // A rename whose old name is certainly gone has its new one.
                    if (here(&half.add) || here(&half.remove))
                        && let Some((name, node)) = half.add.take()
                    {
                        self.safe.insert(name, node);
                    }
                    if here(&half.remove)
                        && let Some((name, node)) = half.remove.take()
                    {
                        remove(&mut self.safe, &name, node);
                    }
                }
                self.moves.retain(|half| half.add.is_some() || half.remove.is_some());
            }
            None => bail!("{path} is synced and not there"),
        }
        Ok(())
    }

    /// What the disk may hold where the power goes off now.
    pub fn cut(&self, dice: &mut Dice) -> Image {
        let mut names = self.safe.clone();
        let likely = dice.one_of([0, 100, 50, 15, 85]);
        for half in &self.moves {
            let mut added = half.add.is_none();
            if let Some((name, node)) = half.add.as_ref().filter(|_| dice.hits(likely)) {
                names.insert(name.clone(), *node);
                added = true;
            }
            if let Some((name, node)) = half.remove.as_ref().filter(|_| added && dice.hits(likely)) {
                remove(&mut names, name, *node);
            }
        }
        // What is in a folder that never became durable is lost with it.
        let whole = |path: &str| {
            let mut folder = folder_of(path);
            while !folder.is_empty() {
                if names.get(folder) != Some(&Node::Folder) {
                    return false;
                }
                folder = folder_of(folder);
            }
            true
        };
        let names: BTreeMap<String, Node> =
            names.iter().filter(|(path, _)| whole(path)).map(|(path, node)| (path.clone(), *node)).collect();
        let way = Way::draw(dice);
        let mut files = BTreeMap::new();
        for node in names.values() {
            if let Node::File(number) = node
                && !files.contains_key(number)
                && let Some(content) = self.files.get(*number)
            {
                files.insert(*number, torn(content, way, dice));
            }
        }
        Image { names, files }
    }
}

fn remove(names: &mut BTreeMap<String, Node>, name: &str, node: Node) {
    if names.get(name) == Some(&node) {
        names.remove(name);
    }
}

fn apply(content: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { at, bytes } => put(content, *at, bytes),
        Change::Cut { bytes } => content.resize(usize::try_from(*bytes).unwrap_or_default(), 0),
    }
}

fn put(content: &mut Vec<u8>, at: u64, bytes: &[u8]) {
    let start = usize::try_from(at).unwrap_or_default();
    let end = start + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    if let Some(room) = content.get_mut(start..end) {
        room.copy_from_slice(bytes);
    }
}

/// How much of what was not synced has come to the disk.
#[derive(Debug, Clone, Copy)]
enum Way {
    Nothing,
    All,
    /// Everything up to some sector of some write.
    Tail,
    /// Each unit by itself, so often of a hundred.
    Each {
        percent: usize,
        unit: u64,
    },
    /// All units but one.
    AllButOne {
        unit: u64,
    },
    /// One unit alone.
    One {
        unit: u64,
    },
}

impl Way {
    fn draw(dice: &mut Dice) -> Self {
        let unit = if dice.hits(70) { SECTOR } else { PAGE };
        match dice.below(10) {
            0 => Self::Nothing,
            1 => Self::All,
            2 | 3 => Self::Tail,
            4 => Self::AllButOne { unit },
            5 => Self::One { unit },
            _ => Self::Each { percent: dice.one_of([5, 25, 50, 75, 95]), unit },
        }
    }
}

/// A file's content after the cut.
fn torn(content: &Content, way: Way, dice: &mut Dice) -> Vec<u8> {
    let mut found = content.safe.clone();
    if content.since.is_empty() {
        return found;
    }
    let units = |unit: u64| content.since.iter().map(|change| pieces(change, unit).len()).sum::<usize>();
    let (unit, last, chosen) = match way {
        Way::Nothing => return grown(found, content, dice),
        Way::All => return content.now.clone(),
        Way::Tail => (SECTOR, Some(dice.below(units(SECTOR) + 1)), None),
        Way::Each { unit, .. } => (unit, None, None),
        Way::AllButOne { unit } | Way::One { unit } => (unit, None, Some(dice.below(units(unit)))),
    };
    let mut number = 0;
    for change in &content.since {
        for piece in pieces(change, unit) {
            let kept = match way {
                Way::Tail => last.is_some_and(|last| number < last),
                Way::Each { percent, .. } => dice.hits(percent),
                Way::AllButOne { .. } => chosen != Some(number),
                _ => chosen == Some(number),
            };
            number += 1;
            if kept {
                apply(&mut found, &piece);
            }
        }
    }
    grown(found, content, dice)
}

/// A file may have got its length before its content: zeros are there then, or what another file left.
fn grown(mut found: Vec<u8>, content: &Content, dice: &mut Dice) -> Vec<u8> {
    let longest = content.now.len().max(found.len());
    if longest > found.len() && dice.hits(25) {
        let start = found.len();
        found.resize(longest, 0);
        if dice.hits(50) {
            found.iter_mut().skip(start).for_each(|byte| *byte = dice.draw().to_le_bytes()[0]);
        }
    }
    found
}

/// A change in parts that reach the disk atomically.
fn pieces(change: &Change, unit: u64) -> Vec<Change> {
    let Change::Write { at, bytes } = change else { return vec![change.clone()] };
    let mut found = Vec::new();
    let (mut start, mut rest) = (*at, bytes.as_slice());
    while !rest.is_empty() {
        let room = usize::try_from(unit - start % unit).unwrap_or(usize::MAX);
        let (piece, after) = rest.split_at(room.min(rest.len()));
        found.push(Change::Write { at: start, bytes: piece.to_vec() });
        start += piece.len() as u64;
        rest = after;
    }
    found
}
