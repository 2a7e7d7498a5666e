//! Which columns of a list name files, or folders, by looking for them.

use std::collections::{HashMap, HashSet};

use super::{
    archive::{ArchiveFolder, Resolved},
    finding::LayoutError,
    sample::{self, ListSample, SampleKind},
};
use crate::relative_path::join;

/// How paths are found on disk.
#[derive(Debug, Clone, Default)]
pub(super) struct PathGuess {
    pub(super) template: String,
    pub(super) is_folder: bool,
    pub(super) strip: String,
    pub(super) base: String,
    pub(super) loose: bool,
    pub(super) found: usize,
    pub(super) of: usize,
}

/// The columns that name files, or folders.
pub(super) fn paths_of(archive: &ArchiveFolder<'_>, sample: &ListSample) -> Result<Vec<PathGuess>, LayoutError> {
    let mut bases = vec![String::new()];
    if let Some(listing) = archive.list("")? {
        bases.extend(listing.folders.iter().take(8).cloned());
    }
    let mut guesses = Vec::new();
    for (at, name) in sample.names.iter().enumerate() {
        if let Some(guess) = path_column(archive, sample, at, &bases)? {
            guesses.push(PathGuess { template: format!("{{{name}}}"), ..guess });
        }
    }
    if guesses.is_empty() && matches!(sample.kind, SampleKind::Table { .. }) {
        guesses = combined_paths(archive, sample)?;
    }
    Ok(guesses)
}

fn path_column(
    archive: &ArchiveFolder<'_>,
    sample: &ListSample,
    at: usize,
    bases: &[String],
) -> Result<Option<PathGuess>, LayoutError> {
    let cells: Vec<(&str, &str)> = sample
        .rows
        .iter()
        .filter_map(|row| Some((row.folder.as_str(), row.cells.get(at)?.as_str())))
        .filter(|(_, cell)| !cell.is_empty())
        .take(60)
        .collect();
    if cells.is_empty() || cells.iter().filter(|(_, cell)| cell.contains(['/', '\\', '.'])).count() * 2 < cells.len() {
        return Ok(None);
    }
    let mut hits: HashMap<(String, String, bool), (usize, bool)> = HashMap::new();
    for (folder, cell) in &cells {
        let plain = cell.replace('\\', "/");
        let plain = plain.trim_end_matches('/');
        'found: for base in bases {
            let mut rest = plain;
            loop {
                let trimmed = rest.trim_start_matches('/');
                let path = join(folder, &join(base, trimmed));
                if !trimmed.is_empty()
                    && !trimmed.contains("..")
                    && let Some((is_folder, exact)) = is_there(archive, &path)?
                {
                    let stripped = cell.get(..plain.len().saturating_sub(trimmed.len())).unwrap_or_default();
                    let hit = hits.entry((stripped.to_lowercase(), base.clone(), is_folder)).or_insert((0, false));
                    hit.0 += 1;
                    hit.1 |= !exact;
                    break 'found;
                }
                match trimmed.split_once('/') {
                    Some((_, after)) => rest = after,
                    None => break,
                }
            }
        }
    }
    let found: usize = hits.values().map(|(count, _)| count).sum();
    let loose = hits.values().any(|(_, loose)| *loose);
    let Some(((strip, base, is_folder), (count, _))) = hits.into_iter().max_by_key(|(_, (count, _))| *count) else {
        return Ok(None);
    };
    if found * 2 < cells.len() || count * 2 < found {
        return Ok(None);
    }
    // A folder that many records name is none of a single document.
    let distinct: HashSet<&str> = cells.iter().map(|(_, cell)| *cell).collect();
    if is_folder && distinct.len() * 10 < cells.len() * 7 {
        return Ok(None);
    }
    // As it is written, not as it was compared.
    let written = cells.iter().find_map(|(_, cell)| {
        let head = cell.get(..strip.len())?;
        (head.to_lowercase() == strip).then(|| head.to_owned())
    });
    let strip = written.unwrap_or(strip);
    Ok(Some(PathGuess { template: String::new(), is_folder, strip, base, loose, found, of: cells.len() }))
}

/// Whether a file or folder is there: is it a folder, and is its name exactly this.
fn is_there(archive: &ArchiveFolder<'_>, path: &str) -> Result<Option<(bool, bool)>, LayoutError> {
    for is_folder in [false, true] {
        let found = if is_folder { archive.folder(path)? } else { archive.file(path)? };
        match found {
            Resolved::Found(found) => return Ok(Some((is_folder, found == path))),
            Resolved::Several(_) => return Ok(Some((is_folder, false))),
            Resolved::Missing { .. } | Resolved::Refused(_) => {}
        }
    }
    Ok(None)
}

/// Paths that several columns make together: folder, file, ending.
fn combined_paths(archive: &ArchiveFolder<'_>, sample: &ListSample) -> Result<Vec<PathGuess>, LayoutError> {
    let count = sample.names.len().min(16);
    let rows: Vec<_> = sample.rows.iter().take(12).collect();
    let mut best: Vec<PathGuess> = Vec::new();
    let cell = |row: &sample::SampleRow, at: usize| row.cells.get(at).cloned().unwrap_or_default().replace('\\', "/");
    let name = |at: usize| sample.names.get(at).cloned().unwrap_or_default();
    let try_it = |parts: &[(usize, &str)], best: &mut Vec<PathGuess>| -> Result<(), LayoutError> {
        let (mut found, mut of) = (0, 0);
        for row in &rows {
            let mut path = String::new();
            let mut whole = true;
            for (at, before) in parts {
                let value = cell(row, *at);
                whole &= !value.is_empty();
                path.push_str(before);
                path.push_str(value.trim_matches('/'));
            }
            if !whole {
                continue;
            }
            of += 1;
            found += usize::from(is_there(archive, &path)?.is_some_and(|(is_folder, _)| !is_folder));
        }
        if of > 0 && found * 2 > of {
            let template = parts.iter().map(|(at, before)| format!("{before}{{{}}}", name(*at))).collect();
            best.push(PathGuess { template, found, of, ..PathGuess::default() });
        }
        Ok(())
    };
    for folder in 0..count {
        for file in (0..count).filter(|file| *file != folder) {
            try_it(&[(folder, ""), (file, "/")], &mut best)?;
            for ending in (0..count).filter(|ending| *ending != folder && *ending != file) {
                let short = rows.iter().all(|row| cell(row, ending).len() <= 5);
                if short {
                    try_it(&[(folder, ""), (file, "/"), (ending, ".")], &mut best)?;
                }
            }
        }
    }
    best.sort_by_key(|guess| std::cmp::Reverse(guess.found));
    best.truncate(2);
    Ok(best)
}
