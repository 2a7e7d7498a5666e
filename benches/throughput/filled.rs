//! Queues of the worker's own kind with many jobs in them, made by its own admission.

use std::{ops::Range, path::Path};

use anyhow::{Context, Result};
use passfort_ingest::policy::AfterSuccess;
use passfort_ingest::{
    clock::Timestamp,
    entry::{Content, Entry, ImageSource, ImageType, ProfileId, RelativePath, Sha256, Source},
    queue::{
        Queue, WhenStuck,
        admission::{Admission, CheckedFile},
        batch::{BatchPolicy, Plan},
    },
};

use crate::material;

/// The drop that the jobs are of.
pub const DROP: &str = "bench";

/// Jobs admitted to a queue in one transaction. Identities are scattered in their index, so that each transaction
/// rewrites most of its pages: few and large ones fill a queue several times faster.
const CHUNK: u32 = 10_000;

/// A manifest of this drop folder.
pub fn plan(drop: &Path, manifest: &str) -> Plan {
    Plan {
        drop: DROP.to_owned(),
        manifest: manifest.to_owned(),
        manifest_sha256: Sha256([0; 32]),
        manifest_file: "bench".to_owned(),
        taken: None,
        layout: None,
        held_back: false,
        policy: BatchPolicy {
            texts: false,
            root: drop.to_owned(),
            image_root: drop.to_owned(),
            image_folder: String::new(),
            receipts_dir: drop.join("receipts"),
            receipt_mode: 0o640,
            receipt_group: None,
            done_dir: None,
            failed_dir: None,
            marker: None,
            after_success: AfterSuccess::Keep,
        },
    }
}

/// Makes a queue whose one manifest has these jobs, each a document of two images. With `file` all images are that file.
pub fn fill(path: &Path, drop: &Path, jobs: Range<u32>, file: Option<(&str, &[u8])>) -> Result<()> {
    let queue = Queue::open(path, WhenStuck::Fail)?;
    queue.prepare_bulk_load()?;
    let seed = queue.seed();
    let file = file.map(|(name, content)| (name, checked(content, seed)));
    let mut batch = queue.admission(plan(drop, "bench.manifest.jsonl"))?;
    for start in jobs.clone().step_by(CHUNK as usize) {
        let chunk: Option<Vec<_>> =
            (start..jobs.end.min(start + CHUNK)).map(|number| admission(number, file)).collect();
        let chunk = chunk.context("an entry of the benchmark is not well formed")?;
        batch.admit_part(chunk, Timestamp::now())?;
    }
    batch.seal(None, Timestamp::now())?;
    Ok(())
}

fn checked(content: &[u8], seed: u64) -> CheckedFile {
    use sha2::Digest as _;
    CheckedFile {
        bytes: content.len() as u64,
        sha256: Sha256(sha2::Sha256::digest(content).into()),
        checksum: xxhash_rust::xxh3::xxh3_64_with_seed(content, seed),
        seen: None,
    }
}

/// A document of two images, on one of a quarter as many profiles.
pub fn admission(number: u32, file: Option<(&str, CheckedFile)>) -> Option<Admission> {
    let mut digest = [0; 32];
    digest.iter_mut().zip(number.to_be_bytes()).for_each(|(byte, of_number)| *byte = of_number);
    let image = |name: &str, image_type| {
        let path = file.map_or_else(|| format!("{number}/{name}.jpg"), |(path, _)| path.to_owned());
        let source = Source { path: RelativePath::parse(&path).ok()?, declared_bytes: None, declared_sha256: None };
        Some(ImageSource { source, image_type: Some(image_type) })
    };
    let entry = Entry {
        index: number.into(),
        profile_id: ProfileId::parse(&material::profile(number / 4).to_string())?,
        reference: Some(format!("document-{number}")),
        replace: false,
        content: Content::Document {
            category: "PROOF_OF_IDENTITY".to_owned(),
            document_type: "PASSPORT".to_owned(),
            extracted_data: None,
            images: vec![image("front", ImageType::Front)?, image("back", ImageType::Back)?],
        },
    };
    let made_up = CheckedFile { bytes: 50_000, sha256: Sha256(digest), checksum: number.into(), seen: None };
    let file = file.map_or(made_up, |(_, file)| file);
    Some(Admission::Take { entry, files: vec![file; 2] })
}
