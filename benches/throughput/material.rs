//! What the runs send: files that the worker's checks accept, with random content, and manifests that name them.
//!
//! Names and order are those of a drop folder, `<profile>/<document>/<image>`, which the baseline scripts read as well.

use std::{
    fs,
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use base64::Engine as _;
use passfort_ingest::sandbox::Dice;
use uuid::Uuid;

/// What a file's first and last bytes make of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// A JPEG by its marks.
    Jpeg,
    /// A PDF by its marks.
    Pdf,
}

impl Kind {
    const fn marks(self) -> (&'static [u8], &'static [u8]) {
        match self {
            Self::Jpeg => {
                const HEAD: &[u8] = b"\xFF\xD8\xFF\xE0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0\
                    \xFF\xC0\0\x0B\x08\0\x01\0\x01\x01\x01\x11\0\xFF\xDA\0\x08\x01\x01\0\0\x3F\0";
                (HEAD, b"\xFF\xD9")
            }
            Self::Pdf => (b"%PDF-1.7\n1 0 obj<<>>endobj\n", b"\n%%EOF\n"),
        }
    }

    const fn extension(self) -> &'static str {
        match self {
            Self::Jpeg => "jpg",
            Self::Pdf => "pdf",
        }
    }
}

/// What a run is about.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Documents in all.
    pub documents: u32,
    /// Images of each.
    pub images: u32,
    /// Size of each, in bytes before Base64.
    pub image_bytes: usize,
    /// Profiles that the documents are spread over.
    pub profiles: u32,
    /// Documents a manifest.
    pub per_manifest: u32,
    /// What the images are.
    pub kind: Kind,
}

impl Shape {
    /// Image bytes in all.
    pub fn bytes(&self) -> f64 {
        f64::from(self.documents) * f64::from(self.images) * self.image_bytes as f64
    }

    /// Uploads in all.
    pub fn uploads(&self) -> u64 {
        u64::from(self.documents) * u64::from(self.images)
    }
}

/// A profile's id, the same for the same number.
pub fn profile(number: u32) -> Uuid {
    Uuid::from_u128(0xa2c4_393a_e219_47a4_8ab4_0000_0000_0000 + u128::from(number))
}

/// A file's content, different for each `seed`: marks at both ends, noise between, as compressed pictures have.
pub fn content(kind: Kind, bytes: usize, seed: u64) -> Vec<u8> {
    let (start, end) = kind.marks();
    let mut content = Vec::with_capacity(bytes + 8);
    content.extend_from_slice(start);
    let mut dice = Dice::new(seed);
    while content.len() + end.len() < bytes {
        content.extend_from_slice(&dice.draw().to_le_bytes());
    }
    content.truncate(bytes.saturating_sub(end.len()));
    if matches!(kind, Kind::Jpeg) {
        // Coded data contains no marker: a zero byte follows what would begin one.
        let mut after_mark = false;
        for byte in content.iter_mut().skip(start.len()) {
            if after_mark {
                *byte = 0;
            }
            after_mark = *byte == 0xFF;
        }
    }
    content.extend_from_slice(end);
    content
}

/// The body of an image upload, as the API wants it.
pub fn image_body(content: &[u8]) -> Vec<u8> {
    let mut body = String::with_capacity(content.len() / 3 * 4 + 64);
    body.push_str("{\"data\":\"");
    base64::engine::general_purpose::STANDARD.encode_string(content, &mut body);
    body.push_str("\",\"image_type\":\"FRONT\"}");
    body.into_bytes()
}

/// The body of a document's creation, as large as the worker's.
pub fn document_body(images: u32) -> Vec<u8> {
    let ids: Vec<String> = (0..images).map(|at| format!("{{\"id\":\"{}\"}}", Uuid::from_u128(at.into()))).collect();
    let images = ids.join(",");
    format!("{{\"category\":\"PROOF_OF_IDENTITY\",\"document_type\":\"PASSPORT\",\"images\":[{images}]}}").into_bytes()
}

/// Writes the files and the manifests into a new folder, syncs them, and returns the folder.
pub fn write(parent: &Path, shape: &Shape) -> Result<PathBuf> {
    let drop = parent.join("drop");
    let per_manifest = if shape.per_manifest == 0 { shape.documents.max(1) } else { shape.per_manifest };
    for start in (0..shape.documents).step_by(per_manifest as usize) {
        fs::create_dir_all(&drop).with_context(|| format!("cannot make {}", drop.display()))?;
        let path = drop.join(format!("batch-{:06}.manifest.jsonl", start / per_manifest));
        let mut manifest = BufWriter::new(fs::File::create(&path).with_context(|| path.display().to_string())?);
        for document in start..shape.documents.min(start + per_manifest) {
            let line = write_document(&drop, shape, document)?;
            writeln!(manifest, "{line}")?;
        }
        manifest.into_inner()?.sync_all()?;
    }
    Ok(drop)
}

/// Writes a document's images; returns its line in the manifest.
fn write_document(drop: &Path, shape: &Shape, document: u32) -> Result<String> {
    let profile = profile(document % shape.profiles.max(1));
    let folder = format!("{profile}/doc-{document:06}");
    fs::create_dir_all(drop.join(&folder))?;
    let mut images = Vec::new();
    for at in 0..shape.images {
        let image_type = if at == 1 { "BACK" } else { "FRONT" };
        let path = image_path(shape.profiles, document, at, shape.kind);
        let seed = u64::from(document) << 32 | u64::from(at);
        let mut file = fs::File::create(drop.join(&path)).with_context(|| format!("cannot make {path}"))?;
        file.write_all(&content(shape.kind, shape.image_bytes, seed))?;
        // Else the kernel writes them back during the runs, as a part of whatever is measured then.
        file.sync_all()?;
        images.push(serde_json::json!({ "path": path, "image_type": image_type }));
    }
    let line = serde_json::json!({
        "profile_id": profile,
        "reference": format!("document-{document:06}"),
        "category": "PROOF_OF_IDENTITY",
        "document_type": "PASSPORT",
        "images": images,
    });
    Ok(line.to_string())
}

/// Where an image is in the folder.
pub fn image_path(profiles: u32, document: u32, at: u32, kind: Kind) -> String {
    let stem = match at {
        0 => "front".to_owned(),
        1 => "back".to_owned(),
        _ => format!("page{}", at + 1),
    };
    format!("{}/doc-{document:06}/{stem}.{}", profile(document % profiles.max(1)), kind.extension())
}
