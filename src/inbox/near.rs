//! Finds the file that a path probably means where none has its very name.

use std::{cell::RefCell, collections::HashMap};

use crate::{inbox::beneath::Root, near_path, relative_path::join};

/// A larger folder is not searched: its names would fill the memory.
const MOST_NAMES: usize = 200_000;

/// So many names are read for one manifest, at most: thousands of missing files must not read thousands of folders.
const MOST_READ: usize = 2_000_000;

/// Searches below one root, for one reading of one manifest.
#[derive(Debug)]
pub struct NearNames<'a> {
    root: &'a Root,
    /// The folders that were read last, with their names by what they have in common with near ones.
    folders: RefCell<HashMap<String, HashMap<String, String>>>,
    read: RefCell<usize>,
}

impl<'a> NearNames<'a> {
    /// Nothing has been read yet.
    #[must_use]
    pub fn below(root: &'a Root) -> Self {
        Self { root, folders: RefCell::default(), read: RefCell::default() }
    }

    /// The path, from the root, of a file whose name is near this one; `within` is a folder that is as it is written.
    #[must_use]
    pub fn find(&self, within: &str, written: &str) -> Option<String> {
        self.walk(within, &near_path::parts(written)?)
    }

    /// The same of a path that is absolute, whose first folders may be those of another machine.
    #[must_use]
    pub fn find_end(&self, within: &str, written: &str) -> Option<String> {
        let parts = near_path::parts(written)?;
        (0..parts.len()).find_map(|first| self.walk(within, parts.get(first..)?))
    }

    fn walk(&self, within: &str, parts: &[String]) -> Option<String> {
        let mut at = within.to_owned();
        for part in parts {
            at = join(&at, &self.name_in(&at, part)?);
        }
        // A folder, a link, or somebody else's file would be of no use.
        self.root.open_file(&at).is_ok().then_some(at)
    }

    fn name_in(&self, folder: &str, folded: &str) -> Option<String> {
        let mut folders = self.folders.borrow_mut();
        if !folders.contains_key(folder) {
            let names = self.names(folder);
            let kept: usize = folders.values().map(HashMap::len).sum();
            if kept.saturating_add(names.len()) > MOST_NAMES {
                folders.clear();
            }
            folders.insert(folder.to_owned(), names);
        }
        folders.get(folder)?.get(folded).cloned()
    }

    /// The names in a folder; of several that are near one another none, since it is open which is meant.
    fn names(&self, folder: &str) -> HashMap<String, String> {
        let mut found = HashMap::<String, Option<String>>::new();
        let mut read = self.read.borrow_mut();
        let Ok(names) = self.root.names_in(folder, MOST_NAMES.min(MOST_READ.saturating_sub(*read))) else {
            return HashMap::new();
        };
        *read = read.saturating_add(names.len());
        for name in names {
            found.entry(near_path::fold(&name)).and_modify(|other| *other = None).or_insert(Some(name));
        }
        found.into_iter().filter_map(|(folded, name)| Some((folded, name?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_near_file_is_found_in_near_folders() {
        let drop = tempfile::tempdir().unwrap();
        for file in ["In/17/FRONT.JPG", "In/17/a.png", "In/17/A.png", "In/Mu\u{308}ller/x y.png"] {
            let path = drop.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        std::os::unix::fs::symlink("FRONT.JPG", drop.path().join("In/17/link.png")).unwrap();
        let root = Root::open(drop.path()).unwrap();
        let near = NearNames::below(&root);
        let found = |within, written| near.find(within, written);
        assert_eq!(found("In", "17/front.jpg").as_deref(), Some("In/17/FRONT.JPG"));
        assert_eq!(found("", "in\\17\\front.jpg").as_deref(), Some("In/17/FRONT.JPG"));
        assert_eq!(found("In", "m\u{fc}ller/x%20y.png").as_deref(), Some("In/Mu\u{308}ller/x y.png"));
        assert_eq!(near.find_end("In", "D:\\scans\\17\\front.jpg").as_deref(), Some("In/17/FRONT.JPG"));
        assert_eq!(near.find_end("In", "/mnt/front.jpg"), None);
        // Which of the two is meant, nobody knows; and a link is not read.
        assert_eq!((found("In", "17/a.PNG"), found("In", "17/LINK.png")), (None, None));
        assert_eq!((found("In", "17"), found("In", "../In/17/front.jpg"), found("no", "17/a")), (None, None, None));
    }
}
