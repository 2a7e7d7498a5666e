//! What a layout makes of a list, in words: for checks that make up both.

use std::{
    io::{Read, Seek},
    path::Path,
};

use super::{finding::LayoutError, lookup::Lookups, made::Produced, plan::ArchiveLayout, produce::produce_list};

/// What came of a list.
#[derive(Debug, PartialEq, Eq)]
pub struct ListInWords {
    /// The entries, as lines of a JSON Lines manifest.
    pub lines: Vec<String>,
    /// What else there was: records of which no entry is made, warnings, and the counts.
    pub others: Vec<String>,
}

/// Reads a list by a layout's text. A layout with lookups is not used, because they are files.
///
/// # Errors
///
/// What is wrong with the layout or the list, as people read it.
pub fn read_list_in_words(layout: &str, list: impl Read + Seek) -> Result<ListInWords, String> {
    read(layout, list).map_err(|error| error.to_string())
}

fn read(layout: &str, list: impl Read + Seek) -> Result<ListInWords, LayoutError> {
    let layout = ArchiveLayout::parse(layout, Path::new("layout.toml"), &[], false)?;
    if layout.lookup_files().next().is_some() {
        return Err(LayoutError::Stopped);
    }
    let mut read = ListInWords { lines: Vec::new(), others: Vec::new() };
    let counts = produce_list(&layout, &Lookups::default(), ("list", list), &mut |made| {
        match made {
            Produced::Entry { source, line, warnings } => {
                read.others.push(format!("{source:?} {warnings:?}"));
                read.lines.push(line);
            }
            other => read.others.push(format!("{other:?}")),
        }
        Ok(())
    })?;
    read.others.push(format!("{counts:?}"));
    Ok(read)
}
