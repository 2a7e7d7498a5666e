//! Lookups: tables that say which profile, or what else, a value of a list is.

use std::{collections::HashMap, fs::File, path::Path};

use super::{
    finding::LayoutError,
    spill::SpilledMap,
    table::{self, TableForm, TableRows},
    text::{fold, is_cell_error, pad, quoted, some_of},
};
use crate::{file_identity::FileIdentity, nearest::nearest};

/// How a lookup is read.
#[derive(Debug, Clone)]
pub(super) struct LookupForm {
    pub(super) name: String,
    pub(super) file: std::path::PathBuf,
    pub(super) table: TableForm,
    pub(super) key: String,
    pub(super) value: String,
    pub(super) pad: Option<usize>,
}

/// What a lookup says of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Match {
    One(String),
    None,
    /// The key has two different values.
    Several,
}

/// All lookups of a layout, loaded.
#[derive(Debug, Default)]
pub(super) struct Lookups(HashMap<String, Lookup>);

#[derive(Debug)]
struct Lookup {
    /// What a person calls its file, and its key.
    words: (String, String),
    pad: Option<usize>,
    map: SpilledMap,
    rows: u64,
}

const SEVERAL: &[u8] = b"\0";

impl Lookups {
    /// Loads lookups.
    ///
    /// # Errors
    ///
    /// Where a file cannot be read, or lacks a column.
    pub(super) fn load(forms: &[LookupForm]) -> Result<Self, LayoutError> {
        forms.iter().map(|form| Ok((form.name.clone(), Lookup::load(form)?))).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn find(&self, name: &str, key: &str) -> Result<Match, LayoutError> {
        let Some(lookup) = self.0.get(name) else { return Ok(Match::None) };
        let found = lookup.map.get(key_of(key, lookup.pad).as_bytes())?;
        Ok(match found {
            None => Match::None,
            Some(bytes) if bytes == SEVERAL => Match::Several,
            Some(bytes) => Match::One(String::from_utf8_lossy(&bytes).into_owned()),
        })
    }

    /// What a person calls the file of a lookup, and its key.
    pub(super) fn words<'a>(&'a self, name: &'a str) -> (&'a str, &'a str) {
        self.0.get(name).map_or((name, "key"), |lookup| (&lookup.words.0, &lookup.words.1))
    }
}

/// The lookups of a layout, which are read again once a file of them has changed.
#[derive(Debug, Default)]
pub struct FreshLookups(Option<(Vec<FileIdentity>, Lookups)>);

impl FreshLookups {
    /// The lookups as they are now.
    pub(super) fn now(&mut self, forms: &[LookupForm]) -> Result<&Lookups, LayoutError> {
        let identity = |form: &LookupForm| rustix::fs::stat(&form.file).ok().map(|stat| FileIdentity::of(&stat));
        let seen: Option<Vec<_>> = forms.iter().map(identity).collect();
        if self.0.as_ref().is_none_or(|(then, _)| Some(then) != seen.as_ref()) {
            self.0 = None;
            // Where one is missing, this says so.
            let loaded = Lookups::load(forms)?;
            return Ok(&self.0.insert((seen.unwrap_or_default(), loaded)).1);
        }
        // Only what was kept is left.
        self.0.as_ref().map(|(_, lookups)| lookups).ok_or(LayoutError::Stopped)
    }
}

fn key_of(key: &str, width: Option<usize>) -> String {
    let key = fold(key);
    width.map_or_else(|| key.clone(), |width| pad(&key, width))
}

impl Lookup {
    fn load(form: &LookupForm) -> Result<Self, LayoutError> {
        let what = format!("lookup {}: {}", form.name, form.file.display());
        let file = File::open(&form.file).map_err(|error| {
            if error.kind() != std::io::ErrorKind::NotFound {
                return LayoutError::io(what.as_str())(error);
            }
            let cure = "write its path from the folder of the layout";
            LayoutError::wrong(what.as_str(), "there is no such file", cure)
        })?;
        let name = form.file.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let words = (name, form.key.clone());
        let mut loading = Loading {
            what: &what,
            form,
            columns: None,
            lookup: Self { words, pad: form.pad, map: SpilledMap::default(), rows: 0 },
        };
        table::read(&what, file, &form.table, &mut loading)?;
        Ok(loading.lookup)
    }
}

struct Loading<'a> {
    what: &'a str,
    form: &'a LookupForm,
    columns: Option<(usize, usize)>,
    lookup: Lookup,
}

impl TableRows for Loading<'_> {
    fn header(&mut self, names: Vec<String>, row: u64) -> Result<(), LayoutError> {
        let find = |wanted: &str| {
            if row == 0 {
                let number: usize = wanted.trim().parse().unwrap_or(0);
                return number.checked_sub(1).ok_or_else(|| {
                    let reason = format!("without a header, {} is no column", quoted(wanted));
                    let cure = format!("name columns by their number, from \"1\": its first row has {}", names.len());
                    LayoutError::wrong(self.what, reason, cure)
                });
            }
            let folded = fold(wanted);
            names.iter().position(|name| fold(name) == folded).ok_or_else(|| {
                let near = nearest(wanted, names.iter().map(String::as_str));
                let hint = near.map_or_else(
                    || format!("it has {}", some_of(&names)),
                    |near| format!("did you mean {}?", quoted(near)),
                );
                LayoutError::wrong(self.what, format!("there is no column {}", quoted(wanted)), hint)
            })
        };
        self.columns = Some((find(&self.form.key)?, find(&self.form.value)?));
        Ok(())
    }

    fn row(&mut self, _: u64, cells: Vec<String>) -> Result<(), LayoutError> {
        let Some((key, value)) = self.columns else { return Ok(()) };
        let cell = |at: usize| cells.get(at).map(String::as_str).unwrap_or_default();
        let (key, value) = (cell(key), cell(value));
        if key.is_empty() || value.is_empty() || is_cell_error(key) {
            return Ok(());
        }
        let key = key_of(key, self.lookup.pad);
        self.lookup.rows += 1;
        let known = self.lookup.map.get(key.as_bytes())?;
        let same = |known: &[u8]| fold(&String::from_utf8_lossy(known)) == fold(value);
        match known {
            None => self.lookup.map.put(key.as_bytes(), value.as_bytes())?,
            Some(known) if known == SEVERAL || same(&known) => {}
            Some(_) => self.lookup.map.put(key.as_bytes(), SEVERAL)?,
        }
        Ok(())
    }

    fn bad(&mut self, number: u64, reason: String, to_the_end: bool) -> Result<(), LayoutError> {
        // The keys of a single row that is misread are then unknown, which is named where they are used.
        if to_the_end {
            let cure = "close it: all rows after it are read as one cell";
            return Err(LayoutError::wrong(format!("{}, row {number}", self.what), reason, cure));
        }
        Ok(())
    }
}

/// Whether a file is one of the lookups.
pub(super) fn is_lookup(forms: &[LookupForm], path: &Path) -> bool {
    forms.iter().any(|form| form.file == path || form.file.canonicalize().is_ok_and(|real| real == path))
}
