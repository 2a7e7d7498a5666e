//! What a layout makes of a list, in words: for checks that make up both.

use std::{
    io::{Read, Seek},
    path::Path,
};

use super::{lookup::Lookups, made::Produced, plan::ArchiveLayout, produce::produce_list};

/// What came of a list.
#[derive(Debug, PartialEq, Eq)]
pub struct ListInWords {
    /// The entries, as lines of a JSON Lines manifest.
    pub lines: Vec<String>,
    /// What else there was: records of which no entry is made, warnings, and the counts.
    pub others: Vec<String>,
}

/// A layout, to see what it makes of lists.
#[derive(Debug)]
pub struct WordsLayout(ArchiveLayout);

impl WordsLayout {
    /// Reads a layout's text. One with lookups is not used, because they are files.
    ///
    /// # Errors
    ///
    /// What is wrong with it, as people read it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let layout =
            ArchiveLayout::parse(text, Path::new("layout.toml"), &[], false).map_err(|error| error.to_string())?;
        if layout.lookup_files().next().is_some() {
            return Err("it has lookups".to_owned());
        }
        Ok(Self(layout))
    }

    /// Reads a list.
    ///
    /// # Errors
    ///
    /// What is wrong with the list, as people read it.
    pub fn read(&self, list: impl Read + Seek) -> Result<ListInWords, String> {
        let mut read = ListInWords { lines: Vec::new(), others: Vec::new() };
        let counts = produce_list(&self.0, &Lookups::default(), ("list", list), &mut |made| {
            match made {
                Produced::Entry { source, line, warnings } => {
                    read.others.push(format!("{source:?} {warnings:?}"));
                    read.lines.push(line);
                }
                other => read.others.push(format!("{other:?}")),
            }
            Ok(())
        });
        read.others.push(format!("{:?}", counts.map_err(|error| error.to_string())?));
        Ok(read)
    }
}
