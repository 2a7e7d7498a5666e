//! What is in the folders and no entry names, what is named more than once, and what is missing: sums that add up.

use std::{
    collections::HashSet,
    io,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use indicatif::HumanCount;

use crate::{
    cli::{import::search_rules, output::escape, start::Usage},
    config::{Config, DropConfig},
    inbox::{beneath::Root, scan::scan_all},
    intake::examine::{NEAR_NAME, NO_SUCH_FILE},
    manifest::Scratch as _,
    queue::{admission::Admission, scratch::TemporaryStore},
    relative_path::path_key,
    service::IMPORT,
};

/// How many files are named.
const NAMED: usize = 10;

/// So many paths are kept in memory, about 40 MB; more are on disk.
const KEPT: usize = 2_000_000;

/// Paths, by their hashes.
#[derive(Debug, Default)]
struct PathSet {
    few: HashSet<i64>,
    many: TemporaryStore,
}

impl PathSet {
    fn has(&self, key: i64) -> io::Result<bool> {
        Ok(self.few.contains(&key) || self.few.len() >= KEPT && self.many.get(&key.to_be_bytes())?.is_some())
    }

    /// Whether it is new.
    fn insert(&mut self, key: i64) -> io::Result<bool> {
        if self.few.len() < KEPT {
            return Ok(self.few.insert(key));
        }
        let is_new = !self.has(key)?;
        if is_new {
            self.many.put(&key.to_be_bytes(), &[])?;
        }
        Ok(is_new)
    }
}

/// Counts of the files that entries name, and of those that are there.
#[derive(Debug, Default)]
pub(super) struct FolderCounts {
    named: PathSet,
    missing: PathSet,
    /// How often a file is named.
    uses: u64,
    /// How many files are named.
    files: u64,
    /// Named again, the first few.
    again: Vec<String>,
    /// How many named files are not there.
    not_there: u64,
    /// How many folders were searched.
    searched: u64,
    /// Files in these that are named, and that are not.
    there: u64,
    unnamed: u64,
    examples: Vec<String>,
}

impl FolderCounts {
    /// Counts the files that an entry names; `images` and `folder` are where they are.
    pub(super) fn count(&mut self, found: &Admission, (images, folder): (&Root, &str)) -> io::Result<()> {
        let key = |path: &str| path_key(images.path(), folder, path);
        match found {
            Admission::Take { entry, .. } | Admission::Known { entry, .. } | Admission::Unchanged { entry, .. } => {
                entry.sources().try_for_each(|source| self.name(source.path.as_str(), key(source.path.as_str())))
            }
            Admission::Invalid { paths, problems, .. } => {
                paths.iter().try_for_each(|path| self.name(path, key(path)))?;
                let is_missing = |code: &str| matches!(code, NO_SUCH_FILE | NEAR_NAME);
                let missing = problems.iter().filter(|problem| problem.code.as_deref().is_some_and(is_missing));
                for path in missing.filter_map(|problem| problem.path.as_deref()) {
                    self.not_there += u64::from(self.missing.insert(key(path))?);
                }
                Ok(())
            }
        }
    }

    fn name(&mut self, path: &str, key: i64) -> io::Result<()> {
        self.uses += 1;
        if self.named.insert(key)? {
            self.files += 1;
        } else if self.again.len() < NAMED {
            self.again.push(path.to_owned());
        }
        Ok(())
    }

    /// Looks for what no entry names, in the folders among these paths, and in that of the images.
    ///
    /// # Errors
    ///
    /// Where a folder cannot be read.
    pub(super) fn search(
        &mut self,
        paths: &[PathBuf],
        images: Option<&Root>,
        config: &Config,
        drop: Option<&DropConfig>,
    ) -> anyhow::Result<()> {
        let default = DropConfig::new(IMPORT, "/");
        let mut folders = Vec::<PathBuf>::new();
        for path in paths.iter().map(PathBuf::as_path).chain(images.map(Root::path)) {
            let real = path.canonicalize().map_err(|error| Usage(format!("{}: {error}", path.display())))?;
            if real.is_dir() && !folders.iter().any(|known| real.starts_with(known)) {
                folders.retain(|known| !known.starts_with(&real));
                folders.push(real);
            }
        }
        for folder in &folders {
            self.search_one(folder, config, drop.unwrap_or(&default))?;
        }
        Ok(())
    }

    fn search_one(&mut self, folder: &Path, config: &Config, bounds: &DropConfig) -> anyhow::Result<()> {
        let root = Root::open(folder)?;
        let rules = search_rules(folder, config, bounds, &[])?;
        let mut failure = None;
        scan_all(&root, &rules, &mut |_| ControlFlow::Continue(()), &mut |file| match self
            .named
            .has(path_key(folder, "", file.path))
        {
            Ok(true) => self.there += 1,
            Ok(false) => {
                self.unnamed += 1;
                if self.examples.len() < NAMED {
                    self.examples.push(folder.join(file.path).display().to_string());
                }
            }
            Err(error) => failure = Some(error),
        })?;
        self.searched += 1;
        failure.map_or(Ok(()), |error| Err(error.into()))
    }

    /// The sums, for people.
    pub(super) fn in_words(&self) -> String {
        let Self { uses, files, not_there, searched, there, unnamed, .. } = self;
        let [uses, files, not_there, repeats, there, unnamed_files] =
            [*uses, *files, *not_there, uses - files, *there, *unnamed].map(|count| HumanCount(count).to_string());
        let list = |files: &[String], of: u64| {
            let lines: String = files.iter().map(|file| format!("  {}\n", escape(file))).collect();
            let more = of.saturating_sub(files.len() as u64);
            if more > 0 { format!("{lines}  and {} more\n", HumanCount(more)) } else { lines }
        };
        let mut text = format!(
            "Files: named {uses} times, {files} different, {repeats} repeats; {not_there} of them are missing\n"
        );
        text.push_str(&list(&self.again, self.uses - self.files));
        if *searched > 0 {
            text.push_str(&format!(
                "In the folders: {there} files that are named, {unnamed_files} that no entry names\n"
            ));
            text.push_str(&list(&self.examples, *unnamed));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_known_beyond_what_is_kept_in_memory() {
        let mut set = PathSet::default();
        set.few.extend(0..i64::try_from(KEPT).unwrap() - 1);
        for (key, is_new) in [(-1, true), (-2, true), (-2, false), (-1, false), (5, false), (-3, true)] {
            assert_eq!(set.insert(key).unwrap(), is_new, "{key}");
        }
        assert!(set.has(-3).unwrap() && set.has(7).unwrap() && !set.has(-4).unwrap());
    }
}
