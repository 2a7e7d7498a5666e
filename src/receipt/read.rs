//! Reads a receipt back, to rebuild from it what a lost queue knew.

use std::io::{self, BufRead, Read};

use serde::Deserialize;

use super::VERSION;
use crate::clock::Timestamp;

/// The longest line of a receipt that is read, in bytes: an entry has few fields, and its manifest was bounded.
const LONGEST_LINE: u64 = 64 << 20;

/// What a receipt says of its manifest.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ReadHeader {
    version: u32,
    /// The manifest's path.
    pub manifest: String,
    /// Its digest, in hexadecimal.
    pub manifest_sha256: String,
    /// The drop's name.
    pub drop: String,
    /// Whose key it was created with; a receipt of an earlier release does not say.
    pub account: Option<String>,
    /// When it was taken in, as RFC 3339.
    received_at: String,
    /// How its entries ended.
    pub counts: ReadCounts,
    /// When its last entry ended, as RFC 3339.
    finished_at: String,
}

/// What a receipt says of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ReadEntry {
    /// Its place in the manifest.
    pub index: u64,
    /// `document` or `file`.
    pub kind: String,
    /// The sender's own key.
    pub reference: Option<String>,
    /// The profile it went to.
    pub profile_id: Option<String>,
    /// How it ended.
    pub status: String,
    /// Of a document.
    #[serde(default)]
    pub category: String,
    /// Of a document.
    #[serde(default)]
    pub document_type: String,
    /// The version of the content rule, a colon, and the digest.
    pub content: Option<String>,
    document_id: Option<String>,
    file_id: Option<String>,
    /// Of a file.
    pub name: Option<String>,
    images: Option<Vec<ReadUpload>>,
    path: Option<String>,
    sha256: Option<String>,
    bytes: Option<u64>,
}

/// What a receipt says of an image, or of the one file of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ReadUpload {
    /// As the manifest writes it.
    pub path: String,
    /// Which side it shows.
    pub image_type: Option<String>,
    /// Its ID.
    pub image_id: Option<String>,
    /// Its digest, in hexadecimal.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
}

/// How many entries a receipt has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct ReadCounts {
    /// All of them.
    pub entries: u64,
    /// Those that were created.
    pub created: u64,
    /// Those that were created before.
    pub duplicate: u64,
}

impl ReadHeader {
    /// When the manifest was taken in.
    #[must_use]
    pub fn received_at(&self) -> Option<Timestamp> {
        moment(&self.received_at)
    }

    /// When its last entry ended.
    #[must_use]
    pub fn finished_at(&self) -> Option<Timestamp> {
        moment(&self.finished_at)
    }
}

fn moment(text: &str) -> Option<Timestamp> {
    text.parse::<jiff::Timestamp>().ok().map(|moment| Timestamp(moment.as_millisecond()))
}

impl ReadEntry {
    /// The ID under which it exists.
    #[must_use]
    pub fn remote_id(&self) -> Option<&str> {
        self.document_id.as_deref().or(self.file_id.as_deref())
    }

    /// Its images, or its one file.
    #[must_use]
    pub fn uploads(&self) -> Vec<ReadUpload> {
        if let Some(images) = &self.images {
            return images.clone();
        }
        let (Some(path), Some(sha256)) = (&self.path, &self.sha256) else { return Vec::new() };
        let (path, sha256, bytes) = (path.clone(), sha256.clone(), self.bytes.unwrap_or(0));
        vec![ReadUpload { path, image_type: None, image_id: None, sha256, bytes }]
    }
}

#[derive(Deserialize)]
struct Complete {
    #[serde(flatten)]
    header: ReadHeader,
    #[serde(default)]
    entries: Vec<ReadEntry>,
}

/// Reads a receipt; `each` is called with its entries, some hundreds at a time, and at least once.
///
/// # Errors
///
/// Those of the input and of `each`; [`io::ErrorKind::InvalidData`] where it is no receipt of a version that is known.
pub fn read(
    mut text: impl BufRead,
    each: &mut dyn FnMut(&ReadHeader, Vec<ReadEntry>) -> io::Result<()>,
) -> io::Result<()> {
    let mut line = String::new();
    next_line(&mut text, &mut line)?;
    // A small receipt is one object over many lines.
    if line.trim_end() == "{" {
        Read::take(&mut text, LONGEST_LINE).read_to_string(&mut line)?;
        let Complete { header, entries } = parse(&line)?;
        known(&header)?;
        return each(&header, entries);
    }
    let header: ReadHeader = parse(&line)?;
    known(&header)?;
    let mut part = Vec::new();
    loop {
        line.clear();
        if next_line(&mut text, &mut line)? == 0 {
            return each(&header, part);
        }
        part.push(parse(&line)?);
        if part.len() >= AT_ONCE {
            each(&header, std::mem::take(&mut part))?;
        }
    }
}

/// Entries that are handed on at once.
const AT_ONCE: usize = 256;

fn next_line(text: &mut impl BufRead, line: &mut String) -> io::Result<usize> {
    let read = Read::take(&mut *text, LONGEST_LINE).read_line(line)?;
    if line.len() as u64 >= LONGEST_LINE { Err(invalid("a line is too long")) } else { Ok(read) }
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> io::Result<T> {
    serde_json::from_str(text).map_err(|error| invalid(&error.to_string()))
}

fn known(header: &ReadHeader) -> io::Result<()> {
    if header.version == VERSION { Ok(()) } else { Err(invalid("it is of another version")) }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
