//! The archive's folder: which files are there, under which names, and in which order.
//!
//! Nothing is followed out of it: links are passed over here, and what is sent is opened below the folder later.

use std::{
    cell::{OnceCell, RefCell},
    collections::{HashMap, VecDeque},
    fs,
    io::{self, Read as _},
    ops::ControlFlow,
    rc::Rc,
};

use globset::GlobSet;

use super::{
    finding::LayoutError,
    text::{begins_as_picture, is_picture_name, natural},
};
use crate::{
    inbox::beneath::{OpenedFile, Refusal, Root},
    near_path,
    relative_path::{join, name, split},
};

/// So many folders' names are kept.
const FOLDERS_KEPT: usize = 32;

/// The deepest folder that is walked into.
const MAX_DEPTH: usize = 64;

/// What is never worth a word: what systems leave behind.
const NEVER: [&str; 10] = [
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "$recycle.bin",
    "recycler",
    "recycled",
    "system volume information",
    "__macosx",
    "lost+found",
    "@eadir",
];

/// How the names of what this program writes end.
const OWN: [&str; 4] = [".receipt.json", ".receipt.jsonl", ".receipt.txt", ".doubled.json"];

/// The names in one folder.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Files, in natural order.
    pub(super) files: Vec<String>,
    pub(super) folders: Vec<String>,
    near_files: OnceCell<NearIndex>,
    near_folders: OnceCell<NearIndex>,
}

/// The places of names by what they have in common with near ones.
type NearIndex = HashMap<String, Vec<usize>>;

impl Listing {
    /// The names of files, or of folders, that are near this one.
    fn near(&self, name: &str, folders: bool) -> impl Iterator<Item = &String> {
        let (names, index) =
            if folders { (&self.folders, &self.near_folders) } else { (&self.files, &self.near_files) };
        let index = index.get_or_init(|| {
            let mut index = NearIndex::new();
            for (at, name) in names.iter().enumerate() {
                index.entry(near_path::fold(name)).or_default().push(at);
            }
            index
        });
        index.get(&near_path::fold(name)).into_iter().flatten().filter_map(|at| names.get(*at))
    }
}

/// What a written path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Resolved {
    /// This file or folder, as its name is on disk.
    Found(String),
    /// Nothing; perhaps something whose name is nearly the same.
    Missing { near: Option<NearFile> },
    /// Several whose names differ in letter case or composition alone.
    Several(Vec<String>),
    /// Something that is not to be read, and why.
    Refused(String),
}

/// A file or folder whose name is nearly the one that is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NearFile {
    pub(super) path: String,
    /// Whether it differs in letter case and composition alone.
    pub(super) is_loose: bool,
}

/// Where an archive is.
enum ArchivePlace<'a> {
    Folder(&'a Root),
    /// It is one list, which is read by itself. Whether the files that it names are there, its reader finds out.
    List,
}

/// An archive, opened.
pub(super) struct ArchiveFolder<'a> {
    place: ArchivePlace<'a>,
    loose: bool,
    ignore: &'a GlobSet,
    listings: RefCell<VecDeque<(String, Rc<Listing>)>>,
}

impl<'a> ArchiveFolder<'a> {
    pub(super) fn new(root: &'a Root, loose: bool, ignore: &'a GlobSet) -> Self {
        Self { place: ArchivePlace::Folder(root), loose, ignore, listings: RefCell::default() }
    }

    /// A list by itself: nothing beside it is looked at.
    pub(super) fn of_list(ignore: &'a GlobSet) -> Self {
        Self { place: ArchivePlace::List, loose: false, ignore, listings: RefCell::default() }
    }

    /// Opens a file of the archive.
    pub(super) fn open(&self, path: &str) -> Result<OpenedFile, Refusal> {
        match self.place {
            ArchivePlace::Folder(root) => root.open_file(path),
            ArchivePlace::List => Err(Refusal::Missing),
        }
    }

    /// Whether there is a file of this very name.
    pub(super) fn has(&self, path: &str) -> bool {
        matches!(self.place, ArchivePlace::Folder(root) if root.open_file(path).is_ok())
    }

    /// The names in a folder; nothing where there is none.
    pub(super) fn list(&self, folder: &str) -> Result<Option<Rc<Listing>>, LayoutError> {
        if let Some((_, kept)) = self.listings.borrow().iter().find(|(path, _)| path == folder) {
            return Ok(Some(Rc::clone(kept)));
        }
        let ArchivePlace::Folder(root) = self.place else { return Ok(None) };
        let path = root.path().join(folder);
        let failed = |error: io::Error| LayoutError::Io { what: path.display().to_string(), error };
        let read = match fs::read_dir(&path) {
            Ok(read) => read,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(failed(error)),
        };
        let mut listing = Listing::default();
        for found in read {
            let found = found.map_err(failed)?;
            let kind = found.file_type().map_err(failed)?;
            // A name that is no text can be in no list.
            let Ok(name) = found.file_name().into_string() else { continue };
            if kind.is_dir() {
                listing.folders.push(name);
            } else if kind.is_file() {
                listing.files.push(name);
            }
        }
        listing.files.sort_by(|one, other| natural(one, other));
        listing.folders.sort_by(|one, other| natural(one, other));
        let listing = Rc::new(listing);
        let mut kept = self.listings.borrow_mut();
        if kept.len() >= FOLDERS_KEPT {
            kept.pop_back();
        }
        kept.push_front((folder.to_owned(), Rc::clone(&listing)));
        Ok(Some(listing))
    }

    /// Finds a file by its written path, which is relative and has no `..`.
    pub(super) fn file(&self, path: &str) -> Result<Resolved, LayoutError> {
        let ArchivePlace::Folder(root) = self.place else { return Ok(Resolved::Found(path.to_owned())) };
        match root.open_file(path) {
            Ok(_) => return Ok(Resolved::Found(path.to_owned())),
            Err(Refusal::Missing) => {}
            Err(Refusal::Io(error)) if error.kind() == io::ErrorKind::InvalidFilename => {}
            Err(refusal) => return Ok(Resolved::Refused(refusal.to_string())),
        }
        self.search(path, false)
    }

    /// Finds a folder by its written path.
    pub(super) fn folder(&self, path: &str) -> Result<Resolved, LayoutError> {
        if path.is_empty() || self.is_plain_folder(path)? {
            return Ok(Resolved::Found(path.to_owned()));
        }
        self.search(path, true)
    }

    /// Whether each part of the path is a folder, and no link.
    fn is_plain_folder(&self, path: &str) -> Result<bool, LayoutError> {
        let mut folder = String::new();
        for part in path.split('/') {
            let Some(listing) = self.list(&folder)? else { return Ok(false) };
            if !listing.folders.iter().any(|name| name == part) {
                return Ok(false);
            }
            folder = join(&folder, part);
        }
        Ok(true)
    }

    /// Looks for names that differ in letter case and composition alone, then for other near ones.
    fn search(&self, path: &str, is_folder: bool) -> Result<Resolved, LayoutError> {
        let found = self.like(path, is_folder, &near_path::is_loosely)?;
        let near = match (found.as_slice(), self.loose) {
            ([one], true) => return Ok(Resolved::Found(one.clone())),
            ([_, _, ..], true) => return Ok(Resolved::Several(found)),
            ([one, ..], false) => Some(NearFile { path: one.clone(), is_loose: true }),
            ([], _) => {
                let near = self.like(path, is_folder, &|_, _| true)?.into_iter().next();
                near.map(|path| NearFile { path, is_loose: false })
            }
        };
        Ok(Resolved::Missing { near })
    }

    /// The files or folders each part of whose path is near that of another path, and like it.
    fn like(
        &self,
        path: &str,
        is_folder: bool,
        is_like: &dyn Fn(&str, &str) -> bool,
    ) -> Result<Vec<String>, LayoutError> {
        let parts: Vec<&str> = path.split('/').collect();
        let mut found = vec![String::new()];
        for (at, part) in parts.iter().enumerate() {
            let folders = at + 1 < parts.len() || is_folder;
            let mut next = Vec::new();
            for folder in &found {
                let Some(listing) = self.list(folder)? else { continue };
                // The very name counts before those that are like it.
                if listing.near(part, folders).any(|name| name == part) {
                    next.push(join(folder, part));
                } else {
                    let like = listing.near(part, folders).filter(|name| is_like(part, name));
                    next.extend(like.map(|name| join(folder, name)));
                }
            }
            next.truncate(8);
            found = next;
        }
        Ok(found)
    }

    /// The file or folder that the end of an absolute path leads to, with what is before that end.
    pub(super) fn end_of<'p>(
        &self,
        written: &'p str,
        (base, folder): (&str, &str),
        is_folder: bool,
    ) -> Result<Option<(&'p str, String)>, LayoutError> {
        if !matches!(self.place, ArchivePlace::Folder(_)) {
            return Ok(None);
        }
        let rules = PathRules { strip: Vec::new(), base: base.to_owned() };
        for (at, _) in written.match_indices(['/', '\\', ':']) {
            let (before, end) = written.split_at(at + 1);
            let Placed::Within(path) = rules.place(end, folder) else { continue };
            let found = if is_folder { self.folder(&path)? } else { self.file(&path)? };
            if let Resolved::Found(path) | Resolved::Missing { near: Some(NearFile { path, .. }) } = found {
                return Ok(Some((before, path)));
            }
        }
        Ok(None)
    }

    /// Whether a file is passed over without a word.
    pub(super) fn is_ignored(&self, path: &str) -> bool {
        let name = name(path);
        let folded = name.to_ascii_lowercase();
        name.starts_with('.')
            || name.starts_with("~$")
            || NEVER.contains(&folded.as_str())
            || OWN.iter().any(|end| folded.ends_with(end))
            || self.ignore.is_match(path)
            || self.ignore.is_match(name)
    }

    /// Whether a file is a picture: by its ending, else by its first bytes.
    pub(super) fn is_picture(&self, path: &str) -> bool {
        is_picture_name(name(path)).unwrap_or_else(|| {
            let mut head = [0; 8];
            let read = self.open(path).ok().and_then(|mut opened| opened.file.read(&mut head).ok());
            begins_as_picture(head.get(..read.unwrap_or(0)).unwrap_or_default())
        })
    }

    /// The pictures in a folder, in natural order.
    pub(super) fn pictures(&self, folder: &str) -> Result<Vec<String>, LayoutError> {
        let Some(listing) = self.list(folder)? else { return Ok(Vec::new()) };
        let paths = listing.files.iter().map(|name| join(folder, name));
        Ok(paths.filter(|path| !self.is_ignored(path) && self.is_picture(path)).collect())
    }

    /// Visits every file that is not passed over, in natural order.
    pub(super) fn walk(
        &self,
        each: &mut dyn FnMut(&str) -> Result<ControlFlow<()>, LayoutError>,
    ) -> Result<(), LayoutError> {
        self.walk_folder("", 0, each).map(drop)
    }

    fn walk_folder(
        &self,
        folder: &str,
        depth: usize,
        each: &mut dyn FnMut(&str) -> Result<ControlFlow<()>, LayoutError>,
    ) -> Result<ControlFlow<()>, LayoutError> {
        let Some(listing) = self.list(folder)? else { return Ok(ControlFlow::Continue(())) };
        for name in &listing.files {
            let path = join(folder, name);
            if !self.is_ignored(&path) && each(&path)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        for name in &listing.folders {
            let path = join(folder, name);
            if depth < MAX_DEPTH && !self.is_ignored(&path) && self.walk_folder(&path, depth + 1, each)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Where paths of a list begin.
#[derive(Debug, Clone, Default)]
pub(super) struct PathRules {
    pub(super) strip: Vec<String>,
    pub(super) base: String,
}

/// A written path within the archive, or why it leads out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Placed {
    /// Relative, with slashes.
    Within(String),
    Outside(&'static str),
}

impl PathRules {
    /// Where a written path leads, from a folder of the archive.
    pub(super) fn place(&self, written: &str, folder: &str) -> Placed {
        let plain = written.replace('\\', "/");
        let stripped =
            self.strip.iter().filter_map(|prefix| strip_folded(&plain, prefix)).min_by_key(|rest| rest.len());
        let rest = stripped.unwrap_or(&plain);
        let drive =
            rest.as_bytes().get(1) == Some(&b':') && rest.as_bytes().first().is_some_and(u8::is_ascii_alphabetic);
        if stripped.is_none() && (plain.starts_with('/') || drive || is_url(rest)) {
            return Placed::Outside("the path is absolute, and begins with none of the prefixes of `strip`");
        }
        if drive || is_url(rest) {
            return Placed::Outside("the path is absolute");
        }
        let mut kept: Vec<&str> = Vec::new();
        for part in folder.split('/').chain(self.base.split('/')).chain(rest.split('/')) {
            match part {
                "" | "." => {}
                ".." => return Placed::Outside("the path has a '..' component"),
                part => kept.push(part),
            }
        }
        if rest.chars().any(char::is_control) {
            return Placed::Outside("the path has a control character");
        }
        Placed::Within(kept.join("/"))
    }
}

fn is_url(path: &str) -> bool {
    path.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty()
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
    })
}

/// What comes after a prefix, in any letter case and with either slash.
fn strip_folded<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let prefix = prefix.replace('\\', "/");
    let mut rest = path;
    for wanted in prefix.chars() {
        let letter = rest.chars().next()?;
        if letter != wanted && !letter.to_lowercase().eq(wanted.to_lowercase()) {
            return None;
        }
        rest = rest.get(letter.len_utf8()..)?;
    }
    // A prefix ends where a name ends.
    let ends = prefix.ends_with('/') || rest.starts_with('/') || rest.is_empty();
    ends.then(|| rest.trim_start_matches('/'))
}

/// The folder that a path's file is in, for patterns and templates.
pub(super) fn folder_of(path: &str) -> &str {
    split(path).0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(strip: &[&str], base: &str) -> PathRules {
        PathRules { strip: strip.iter().map(|&prefix| prefix.into()).collect(), base: base.into() }
    }

    #[test]
    fn prefixes_are_taken_off_in_any_case_and_with_either_slash() {
        let windows = rules(&[r"D:\scans\"], "");
        assert_eq!(windows.place(r"d:\Scans\2018\a.jpg", ""), Placed::Within("2018/a.jpg".into()));
        assert_eq!(windows.place("D:/scans/a.jpg", ""), Placed::Within("a.jpg".into()));
        assert_eq!(windows.place(r"2018\.\a.jpg", "x"), Placed::Within("x/2018/a.jpg".into()));
        let blobs = rules(&["s3://legacy-kyc"], "blobs");
        assert_eq!(blobs.place("s3://legacy-kyc/88/a", ""), Placed::Within("blobs/88/a".into()));
    }

    #[test]
    fn what_leads_out_of_the_archive_is_refused() {
        let strip = rules(&[r"D:\scans", "s3://b/"], "blobs");
        for path in [
            r"E:\other\a.jpg",
            r"D:\scans2\a.jpg",
            "/etc/passwd",
            r"\\server\share\a.jpg",
            "../a.jpg",
            r"a\..\b.jpg",
            "s3://other/a",
            "s3://b/../../a.png",
            "a\u{1}b",
            r"D:\scans\E:\a.jpg",
        ] {
            assert!(matches!(strip.place(path, ""), Placed::Outside(_)), "{path}");
        }
    }
}
