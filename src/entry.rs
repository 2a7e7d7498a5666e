//! What a manifest asks for: one [`Entry`] per document or file, already checked for form.
//!
//! These are values only. They are made by the manifest readers, which refuse everything that is not well formed, so
//! the holder of an `Entry` need not check its form again. Whether its files exist is not known here.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::extracted_data::ExtractedData;

/// A customer profile's id: a UUID, kept in lower case because the API takes any.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProfileId(String);

impl ProfileId {
    /// Reads a hyphenated UUID in any letter case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let well_formed = text.len() == 36
            && text.bytes().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            });
        well_formed.then(|| Self(text.to_ascii_lowercase()))
    }

    /// The id in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProfileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A SHA-256 digest, written as 64 hexadecimal digits in lower case.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha256(pub [u8; 32]);

impl Sha256 {
    /// Reads 64 hexadecimal digits in any letter case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).ok()?;
            *byte = u8::from_str_radix(pair, 16).ok()?;
        }
        Some(Self(digest))
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha256({self})")
    }
}

/// Which side of a document an image shows; not sent where a manifest does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum ImageType {
    /// The front, or the only side.
    Front,
    /// The back.
    Back,
    /// A picture of the customer's face.
    Face,
}

impl ImageType {
    /// Every value that the API knows (guide and OpenAPI file of 2019).
    pub const ALL: [Self; 3] = [Self::Front, Self::Back, Self::Face];

    /// The API's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Front => "FRONT",
            Self::Back => "BACK",
            Self::Face => "FACE",
        }
    }

    /// Reads the API's word; letter case matters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == text)
    }
}

/// A path that a manifest names: relative, at least one component, no `..`, no control character.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelativePath(String);

impl RelativePath {
    /// The longest path that is accepted, in bytes: the kernel's own limit for one system call.
    pub const MAX_BYTES: usize = 4096;

    /// Reads a path; `.` components and doubled slashes are dropped.
    ///
    /// # Errors
    ///
    /// The reason, as a lower-case fragment.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err("the path is empty");
        }
        if text.len() > Self::MAX_BYTES {
            return Err("the path is longer than 4,096 bytes");
        }
        if text.chars().any(char::is_control) {
            return Err("the path has a control character");
        }
        if text.starts_with('/') {
            return Err("the path is absolute");
        }
        if text.starts_with("\\\\") || matches!(text.as_bytes(), [b'A'..=b'Z' | b'a'..=b'z', b':', b'\\' | b'/', ..]) {
            return Err("the path is absolute, of Windows");
        }
        if text.ends_with('/') {
            return Err("the path ends with a slash, so it names a folder");
        }
        let mut kept = Vec::new();
        for component in text.split('/') {
            match component {
                "" | "." => {}
                ".." => return Err("the path has a '..' component"),
                name if name.len() > 255 => return Err("a part of the path is longer than 255 bytes"),
                name => kept.push(name),
            }
        }
        if kept.is_empty() {
            return Err("the path names no file");
        }
        Ok(Self(kept.join("/")))
    }

    /// The path, with single slashes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A file that an entry names, with what the sender says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its path, relative to the manifest's folder (or to `--root`).
    pub path: RelativePath,
    /// Its size, where the sender gives it.
    pub declared_bytes: Option<u64>,
    /// Its digest, where the sender gives it.
    pub declared_sha256: Option<Sha256>,
}

/// One image of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSource {
    /// The file.
    pub source: Source,
    /// Which side it shows, where the sender says.
    pub image_type: Option<ImageType>,
}

/// What an entry asks to be created.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// A document with one or more images.
    Document {
        /// For example `PROOF_OF_IDENTITY`.
        category: String,
        /// For example `PASSPORT`.
        document_type: String,
        /// Passed on to the API as it is.
        extracted_data: Option<ExtractedData>,
        /// In the order of the manifest; never empty.
        images: Vec<ImageSource>,
    },
    /// A file, which no document uses.
    File {
        /// The name that the portal shows, and takes the type from its extension; where there is none, the file's own.
        name: Option<String>,
        /// The file.
        source: Source,
    },
}

/// One document or one file that a manifest asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its place in the manifest, from 0; documents come before files in a JSON manifest.
    pub index: u64,
    /// The profile that it goes to.
    pub profile_id: ProfileId,
    /// The sender's own key, unique within its drop.
    pub reference: Option<String>,
    /// Whether it may replace an earlier entry of the same reference with other content.
    pub replace: bool,
    /// What to create.
    pub content: Content,
}

impl Entry {
    /// `document` or `file`, as receipts write it.
    #[must_use]
    pub const fn kind(&self) -> EntryKind {
        match self.content {
            Content::Document { .. } => EntryKind::Document,
            Content::File { .. } => EntryKind::File,
        }
    }

    /// Every file that the entry names, in order.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        let (images, file) = match &self.content {
            Content::Document { images, .. } => (images.as_slice(), None),
            Content::File { source, .. } => (&[][..], Some(source)),
        };
        images.iter().map(|image| &image.source).chain(file)
    }

    /// The same, to be changed.
    pub(crate) fn sources_mut(&mut self) -> impl Iterator<Item = &mut Source> {
        let (images, file) = match &mut self.content {
            Content::Document { images, .. } => (images.as_mut_slice(), None),
            Content::File { source, .. } => (&mut [][..], Some(source)),
        };
        images.iter_mut().map(|image| &mut image.source).chain(file)
    }
}

/// Whether an entry is a document or a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// Images and the document that uses them.
    Document,
    /// A file of its own.
    File,
}

impl EntryKind {
    /// The word in receipts and in the queue.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Document => "document",
            Self::File => "file",
        }
    }
}

/// Where a record of an archive is, of which a layout made an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EntrySource {
    /// The list, the sidecar, or the first file, from the archive's folder.
    pub file: String,
    /// The line of the list, or the row of the sheet, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<u64>,
    /// Whether the file is an image of its own, and no list of any.
    #[serde(skip)]
    pub is_file: bool,
}
