//! Manifests whose path has control characters or is not UTF-8: nothing can refer to them, so they are never read, and their
//! sender gets a receipt under an escaped name. They stay where they are.

use std::{io::Read, time::Duration};

use sha2::Digest as _;

use crate::{
    clock::Timestamp,
    entry::{RelativePath, Sha256},
    file_identity::FileIdentity,
    inbox::scan::OtherFile,
    problem::Problem,
};

/// Such a manifest, as it was found.
#[derive(Debug)]
pub(super) struct UnnameableManifest {
    /// Its path with what is wrong with it escaped.
    pub(super) path: String,
    pub(super) identity: FileIdentity,
    pub(super) sha256: Sha256,
    reason: &'static str,
}

impl UnnameableManifest {
    /// Reads what the receipt needs; `None` where the file has gone, or has no path even when it is escaped.
    pub(super) fn read(file: &OtherFile<'_>) -> Option<Self> {
        let reason = file.unnameable?;
        let path = RelativePath::parse(file.path).ok()?.to_string();
        let mut opened = file.open()?;
        let identity = FileIdentity::now(&opened).ok()?;
        let mut digest = sha2::Sha256::new();
        let mut piece = vec![0; 1 << 16];
        loop {
            let read = opened.read(&mut piece).ok()?;
            let Some(bytes) = piece.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
            digest.update(bytes);
        }
        Some(Self { path, identity, sha256: Sha256(digest.finalize().into()), reason })
    }

    pub(super) fn problem(&self) -> Problem {
        let reason = format!("the manifest is not read, because of its name: {}", self.reason);
        Problem::error(reason, "send it under another name, and remove this one").path(&self.path)
    }
}

/// Whether a file has been unchanged for this long.
pub(super) fn is_settled(file: &FileIdentity, settle: Duration, now: Timestamp) -> bool {
    now.since(Timestamp(file.ctime_ns.div_euclid(1_000_000))) >= settle
}
