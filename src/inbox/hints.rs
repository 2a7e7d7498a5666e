//! What is to be looked at in a drop after the kernel's events.
//!
//! An event is a hint for the name that it is about, and for nothing else, so that what it costs does not depend on the
//! drop. It never says what is there: that is looked up.

use std::collections::{BTreeMap, BTreeSet};

use super::scan_rules::{ScanRules, matches};
use crate::relative_path::{join, split};

/// So many manifests of one folder are looked up by name; where more change, all files of the folder are read.
const MOST_FILES: usize = 1024;

/// So many names are kept in all; where more change, the whole drop is read.
const MOST_NAMES: usize = 1 << 14;

/// What happened in a watched folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FolderChange {
    /// A name came into being, or another file is under it: a file or folder was made, or moved to it.
    Came,
    /// What was under a name was removed, or moved away.
    Went,
    /// What is under a name was written, or its permissions changed.
    Changed,
    /// The folder itself was removed, moved or unmounted.
    Gone,
    /// The kernel could not report everything.
    Lost,
}

/// What one event says.
#[derive(Debug, Clone, Copy)]
pub struct FolderEvent<'a> {
    /// The watched folder, relative to the drop; empty for the drop itself.
    pub folder: &'a str,
    /// The name in it; `None` for the folder itself.
    pub name: Option<&'a [u8]>,
    /// Whether that is a folder.
    pub is_folder: bool,
    /// What happened to it.
    pub change: FolderChange,
}

/// What is to be looked at after an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hint<'a> {
    Nothing,
    /// The manifests that wait: a file came or changed that is none.
    Waiting,
    /// The file of this name, which is or was a manifest's.
    File(&'a str, &'a str),
    /// All files of the folder, without those below.
    Files(&'a str),
    /// The folder of this name, with everything below.
    Folder(&'a str, &'a str),
    /// The whole drop.
    Whole,
}

fn hint<'a>(event: &FolderEvent<'a>, rules: &ScanRules) -> Hint<'a> {
    use FolderChange::{Came, Changed, Gone, Lost, Went};
    let FolderEvent { folder, name, is_folder, change } = *event;
    let Some(name) = name else {
        return match change {
            Lost => Hint::Whole,
            Came | Went => Hint::Nothing,
            Changed | Gone if folder.is_empty() => Hint::Whole,
            // Its own folder reports that too, except where it was unmounted.
            Changed => Hint::Nothing,
            Gone => {
                let (within, name) = split(folder);
                Hint::Folder(within, name)
            }
        };
    };
    // Nothing can refer to it; it is reported, and a manifest of such a name is refused.
    let Ok(name) = std::str::from_utf8(name) else { return Hint::Files(folder) };
    let path = join(folder, name);
    if matches(&rules.ignore, name, &path) {
        return Hint::Nothing;
    }
    match change {
        Lost => Hint::Whole,
        _ if is_folder && rules.recursive => Hint::Folder(folder, name),
        _ if is_folder => Hint::Nothing,
        _ if matches(&rules.manifests, name, &path) => Hint::File(folder, name),
        Came | Changed => Hint::Waiting,
        Went | Gone => Hint::Nothing,
    }
}

/// What is to be looked at, by folders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hints {
    whole: bool,
    waiting: bool,
    folders: BTreeMap<String, FolderHints>,
    names: usize,
}

/// What is to be looked at in one folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FolderHints {
    /// All files in it.
    pub all_files: bool,
    /// Files in it, where not all.
    pub files: BTreeSet<String>,
    /// Folders in it, each with everything below.
    pub folders: BTreeSet<String>,
}

impl Hints {
    /// The whole drop.
    #[must_use]
    pub fn whole() -> Self {
        Self { whole: true, ..Self::default() }
    }

    /// Whether the whole drop is to be read.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.whole
    }

    /// Whether something was noticed that may concern manifests which wait.
    #[must_use]
    pub const fn concern_waiting(&self) -> bool {
        self.waiting
    }

    /// Whether there is a name to look at.
    #[must_use]
    pub fn has_names(&self) -> bool {
        self.whole || !self.folders.is_empty()
    }

    /// What is to be looked at, by folder; nothing where that is the whole drop.
    pub fn folders(&self) -> impl Iterator<Item = (&str, &FolderHints)> {
        self.folders.iter().map(|(folder, hints)| (folder.as_str(), hints))
    }

    /// Whether a path is among what is to be looked at.
    #[must_use]
    pub fn cover(&self, path: &str) -> bool {
        let (folder, name) = split(path);
        let is_file = |hints: &FolderHints| hints.all_files || hints.files.contains(name);
        if self.whole || self.folders.get(folder).is_some_and(is_file) {
            return true;
        }
        let mut rest = path;
        while !rest.is_empty() {
            let (folder, name) = split(rest);
            if self.folders.get(folder).is_some_and(|hints| hints.folders.contains(name)) {
                return true;
            }
            rest = folder;
        }
        false
    }

    /// Adds what one event asks for.
    pub fn add(&mut self, event: &FolderEvent<'_>, rules: &ScanRules) {
        match hint(event, rules) {
            Hint::Nothing => {}
            Hint::Waiting => self.waiting = true,
            Hint::Whole => self.add_whole(),
            Hint::Files(folder) => self.in_folder(folder, |hints| {
                hints.all_files = true;
                hints.files.clear();
            }),
            Hint::File(folder, name) => self.in_folder(folder, |hints| {
                if !hints.all_files && !hints.files.contains(name) {
                    hints.files.insert(name.to_owned());
                }
                if hints.files.len() > MOST_FILES {
                    hints.all_files = true;
                    hints.files.clear();
                }
            }),
            Hint::Folder(folder, name) => self.in_folder(folder, |hints| {
                if !hints.folders.contains(name) {
                    hints.folders.insert(name.to_owned());
                }
            }),
        }
    }

    /// Adds the whole drop.
    pub fn add_whole(&mut self) {
        *self = Self { whole: true, waiting: self.waiting, ..Self::default() };
    }

    fn in_folder(&mut self, folder: &str, change: impl FnOnce(&mut FolderHints)) {
        self.waiting = true;
        if self.whole {
            return;
        }
        if !self.folders.contains_key(folder) {
            self.folders.insert(folder.to_owned(), FolderHints::default());
            self.names += 1;
        }
        if let Some(hints) = self.folders.get_mut(folder) {
            let before = hints.files.len() + hints.folders.len();
            change(hints);
            self.names = (self.names + hints.files.len() + hints.folders.len()).saturating_sub(before);
        }
        if self.names > MOST_NAMES {
            self.add_whole();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        FolderChange::{Came, Changed, Gone, Lost, Went},
        *,
    };
    use crate::inbox::scan_rules::globs;

    fn rules() -> ScanRules {
        ScanRules {
            recursive: true,
            manifests: globs(["*.manifest.json", "lists/*.csv"]).unwrap(),
            ignore: globs(["*.tmp"]).unwrap(),
            skip_dirs: Vec::new(),
            max_depth: 64,
            max_path_bytes: 1024,
        }
    }

    fn of_file<'a>(folder: &'a str, name: &'a str, change: FolderChange) -> FolderEvent<'a> {
        FolderEvent { folder, name: Some(name.as_bytes()), is_folder: false, change }
    }

    #[test]
    fn an_event_asks_for_its_own_name_and_only_a_loss_for_the_whole_drop() {
        let (file, folder) = (false, true);
        for (within, name, is_folder, change, expected) in [
            ("", Some("a.manifest.json"), file, Came, Hint::File("", "a.manifest.json")),
            ("in", Some("a.manifest.json"), file, Changed, Hint::File("in", "a.manifest.json")),
            ("in", Some("a.manifest.json"), file, Went, Hint::File("in", "a.manifest.json")),
            ("lists", Some("a.csv"), file, Came, Hint::File("lists", "a.csv")),
            ("in", Some("a.csv"), file, Came, Hint::Waiting),
            ("in", Some("a.png"), file, Came, Hint::Waiting),
            ("in", Some("a.png"), file, Changed, Hint::Waiting),
            ("in", Some("a.png"), file, Went, Hint::Nothing),
            ("in", Some("a.manifest.json.tmp"), file, Came, Hint::Nothing),
            ("", Some("in"), folder, Came, Hint::Folder("", "in")),
            ("in", Some("below"), folder, Went, Hint::Folder("in", "below")),
            ("in", Some("locked"), folder, Changed, Hint::Folder("in", "locked")),
            ("in", Some("x.tmp"), folder, Came, Hint::Nothing),
            ("in/below", None, folder, Gone, Hint::Folder("in", "below")),
            ("in/below", None, folder, Changed, Hint::Nothing),
            ("", None, folder, Gone, Hint::Whole),
            ("", None, folder, Changed, Hint::Whole),
            ("", None, file, Lost, Hint::Whole),
        ] {
            let event = FolderEvent { folder: within, name: name.map(str::as_bytes), is_folder, change };
            assert_eq!(hint(&event, &rules()), expected, "{event:?}");
        }
        let unnameable = FolderEvent { folder: "in", name: Some(b"\xFF.png"), is_folder: false, change: Came };
        assert_eq!(hint(&unnameable, &rules()), Hint::Files("in"));
        let flat = ScanRules { recursive: false, ..rules() };
        let below = FolderEvent { folder: "", name: Some(b"in"), is_folder: true, change: Came };
        assert_eq!(hint(&below, &flat), Hint::Nothing);
    }

    #[test]
    fn what_is_below_a_name_is_covered_and_its_neighbours_are_not() {
        let mut hints = Hints::default();
        hints.add(&of_file("in", "a.manifest.json", Came), &rules());
        hints.add(&FolderEvent { is_folder: true, ..of_file("in", "below", Came) }, &rules());
        hints.add(&FolderEvent { name: Some(b"\xFF"), ..of_file("all", "", Came) }, &rules());
        for (path, covered) in [
            ("in/a.manifest.json", true),
            ("in/b.manifest.json", false),
            ("a.manifest.json", false),
            ("in/below", true),
            ("in/below/deep/b.manifest.json", true),
            ("in/below.manifest.json", false),
            ("all/b.manifest.json", true),
            ("all/deep/b.manifest.json", false),
            ("in", false),
        ] {
            assert_eq!(hints.cover(path), covered, "{path}");
        }
        assert!(Hints::whole().cover("in"));
    }

    #[test]
    fn names_are_kept_once_until_they_are_too_many() {
        let (mut hints, rules) = (Hints::default(), rules());
        assert!(!hints.has_names() && !hints.concern_waiting());
        hints.add(&of_file("in", "a.png", Came), &rules);
        assert!(!hints.has_names() && hints.concern_waiting());
        for _ in 0..3 {
            hints.add(&of_file("in", "a.manifest.json", Changed), &rules);
        }
        assert_eq!(hints.names, 2, "the folder and the file");
        for number in 0..=MOST_FILES {
            hints.add(&of_file("in", &format!("{number}.manifest.json"), Came), &rules);
        }
        let all: Vec<_> = hints.folders().collect();
        assert_eq!(all, [("in", &FolderHints { all_files: true, ..FolderHints::default() })]);
        for number in 0..MOST_NAMES {
            hints.add(&of_file(&format!("in/{number}"), "a.manifest.json", Came), &rules);
        }
        assert!(hints.is_whole());
        assert_eq!(hints.folders().count(), 0);
        hints.add(&of_file("in", "a.manifest.json", Came), &rules);
        assert_eq!(hints, Hints { whole: true, waiting: true, ..Hints::default() });
    }
}
