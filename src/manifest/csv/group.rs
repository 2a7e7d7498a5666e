//! The rows of one reference, or one row without, into an entry.
//!
//! Rows are taken one at a time and only their checked values are kept. A document whose rows are not all readable is
//! not made from those that are: it would go out without an image.

use crate::{
    entry::{Content, EntryKind, ImageSource, ProfileId, Source},
    problem::Problem,
};

use super::{
    super::{ManifestBounds, Reading, fields, findings::Label, known},
    Findings, quote,
    row::Row,
};

/// An entry in the making.
#[derive(Debug)]
pub(super) struct Group {
    first_line: u64,
    /// What every row must repeat, from the first row that could be read.
    shared: Option<SharedCells>,
    reference: Option<String>,
    kind: EntryKind,
    profile_id: Option<ProfileId>,
    category: Option<String>,
    document_type: Option<String>,
    replace: Option<bool>,
    rows: usize,
    images: Vec<ImageSource>,
    file: Option<Content>,
    findings: Findings,
}

/// The cells that every row of a group must repeat, and the line that they are from.
#[derive(Debug)]
struct SharedCells {
    line: u64,
    profile_id: Option<String>,
    category: Option<String>,
    document_type: Option<String>,
    replace: Option<String>,
}

impl Group {
    /// Begins with the first row.
    pub(super) fn open(row: Row, limits: &ManifestBounds) -> Self {
        let mut group = Self {
            first_line: row.line,
            shared: None,
            reference: None,
            kind: if row.category.is_some() { EntryKind::Document } else { EntryKind::File },
            profile_id: None,
            category: None,
            document_type: None,
            replace: None,
            rows: 0,
            images: Vec::new(),
            file: None,
            findings: Findings::default(),
        };
        if let Some(reference) = &row.reference {
            group.reference = {
                let checked = fields::reference(reference.clone(), "reference", &mut group.findings);
                group.findings.take(checked)
            };
        }
        group.add(row, limits);
        group
    }

    /// The line of its first row, which no other group has.
    pub(super) fn first_line(&self) -> u64 {
        self.first_line
    }

    /// Takes a row.
    pub(super) fn add(&mut self, row: Row, limits: &ManifestBounds) {
        self.rows = self.rows.saturating_add(1);
        if let Some(fault) = &row.fault {
            self.findings.add(fault.problem(row.line));
            return;
        }
        let mut found = Findings::default();
        match &self.shared {
            Some(shared) => shared.compare(&row, &mut found),
            None => self.read_shared(&row, &mut found),
        }
        match self.kind {
            EntryKind::Document if self.rows > limits.max_images => {}
            EntryKind::Document => {
                if row.name.is_some() {
                    let reason = "an image of a document has no name of its own, so this one is not sent";
                    found.add(Problem::warning(reason, "leave the cell empty").field("name"));
                }
                if let Some(image) = read_image(&row, &mut found, limits) {
                    self.images.push(image);
                }
            }
            EntryKind::File if self.rows > 1 => {
                let reason = format!("a file with the same reference is at line {} already", self.first_line);
                let cure =
                    "give each file a reference of its own; if they are images of one document, fill in category";
                found.add(Problem::error(reason, cure).field("reference"));
            }
            EntryKind::File => self.file = read_file(row.clone(), &mut found, limits),
        }
        let line = row.line;
        let names_line = line != self.first_line;
        self.findings.name_paths_of(&mut found);
        for mut problem in found.into_problems() {
            if names_line {
                problem.reason = format!("line {line}: {}", problem.reason);
            }
            self.findings.add(problem);
        }
    }

    fn read_shared(&mut self, row: &Row, found: &mut Findings) {
        self.kind = if row.category.is_some() { EntryKind::Document } else { EntryKind::File };
        match &row.profile_id {
            Some(text) => self.profile_id = found.take(fields::profile_id(text, "profile_id")),
            None => found.add(fields::missing("profile_id", "fill in the profile's id in every row")),
        }
        if let Some(text) = &row.category {
            let checked = fields::word(text.clone(), "category", &known::CATEGORIES, found);
            self.category = found.take(checked);
            match &row.document_type {
                Some(text) => {
                    let checked = fields::word(text.clone(), "document_type", &known::DOCUMENT_TYPES, found);
                    self.document_type = found.take(checked);
                }
                None => {
                    let cure = "fill it in, for example PASSPORT; for a file that is no document, leave category empty";
                    found.add(fields::missing("document_type", cure));
                }
            }
        }
        self.replace = match row.replace.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None => None,
            Some("true") => Some(true),
            Some("false") => Some(false),
            Some(other) => {
                let reason = format!("{} is neither true nor false", quote(other));
                found.add(Problem::error(reason, "write true or false, or leave the cell empty").field("replace"));
                None
            }
        };
        self.shared = Some(SharedCells {
            line: row.line,
            profile_id: row.profile_id.clone(),
            category: row.category.clone(),
            document_type: row.document_type.clone(),
            replace: row.replace.clone(),
        });
    }

    /// The entry, or everything that is wrong with it.
    pub(super) fn close(self, index: u64, others_have_references: bool, limits: &ManifestBounds) -> Reading {
        let Self { first_line, reference, kind, profile_id, category, document_type, replace, rows, images, .. } = self;
        let mut findings = self.findings;
        let content = match kind {
            EntryKind::File => self.file,
            EntryKind::Document => {
                if rows > limits.max_images {
                    findings.add(fields::too_many_images(rows, limits.max_images));
                }
                fields::warn_of_repeats(&images, &mut findings);
                fields::warn_of_sides(&images, &mut findings);
                match (category, document_type) {
                    (Some(category), Some(document_type)) if !images.is_empty() => {
                        Some(Content::Document { category, document_type, extracted_data: None, images })
                    }
                    _ => None,
                }
            }
        };
        let replace = replace.unwrap_or(false);
        let line = Some(first_line);
        findings.conclude(Label { index, line, kind, reference, profile_id, replace, others_have_references }, content)
    }
}

impl SharedCells {
    /// Notes where a later row says something else.
    fn compare(&self, row: &Row, found: &mut Findings) {
        let pairs = [
            ("profile_id", &self.profile_id, &row.profile_id),
            ("category", &self.category, &row.category),
            ("document_type", &self.document_type, &row.document_type),
            ("replace", &self.replace, &row.replace),
        ];
        for (field, one, other) in pairs {
            let same = match (one, other) {
                // UUIDs and the words true and false have no letter case; in the others it is refused anyway.
                (Some(one), Some(other)) => one.eq_ignore_ascii_case(other),
                (None, None) => true,
                _ => false,
            };
            if !same {
                let say = |cell: &Option<String>| cell.as_deref().map_or_else(|| "nothing".to_owned(), quote);
                let reason = format!(
                    "{field} has {} here, but {} at line {} of the same reference",
                    say(other),
                    say(one),
                    self.line
                );
                let cure = "rows with one reference are one document: repeat the value, or use another reference";
                found.add(Problem::error(reason, cure).field(field));
            }
        }
    }
}

fn read_image(row: &Row, found: &mut Findings, limits: &ManifestBounds) -> Option<ImageSource> {
    let image_type = row.image_type.as_deref().and_then(|text| found.take(fields::image_type(text, "image_type")));
    Some(ImageSource { source: read_source(row, found, limits)?, image_type })
}

fn read_file(row: Row, found: &mut Findings, limits: &ManifestBounds) -> Option<Content> {
    for (field, cell) in [("document_type", &row.document_type), ("image_type", &row.image_type)] {
        if cell.is_some() {
            let reason = format!("a row without category is a file, and a file has no {field}");
            let cure = format!("fill in category if it is a document, else leave {field} empty");
            found.add(Problem::error(reason, cure).field(field));
        }
    }
    let source = read_source(&row, found, limits);
    let name = row.name.and_then(|text| found.take(fields::name(text, "name")));
    Some(Content::File { name, source: source? })
}

fn read_source(row: &Row, found: &mut Findings, limits: &ManifestBounds) -> Option<Source> {
    let path = match &row.path {
        Some(text) => {
            let checked = fields::path(text, "path", limits, found);
            found.take(checked)
        }
        None => {
            found.add(fields::missing("path", "name the file by its path from the manifest's folder"));
            None
        }
    };
    let declared_sha256 = row.sha256.as_deref().and_then(|text| found.take(fields::sha256(text, "sha256")));
    let declared_bytes = row.bytes.as_deref().and_then(|text| {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit());
        let parsed = text.parse().ok().filter(|_| plain);
        found.take(parsed.ok_or_else(|| fields::not_bytes(&quote(text), "bytes")))
    });
    Some(Source { path: path?, declared_bytes, declared_sha256 })
}
