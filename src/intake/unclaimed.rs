//! What lies in a drop and belongs to nothing: files that no manifest names, and files with nearly a manifest's name.
//!
//! A sender believes that these were sent. They are looked for while the folder is scanned anyway, at intervals that grow
//! with what the search costs; each file costs one look into an index, however many manifests there are.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use crate::{
    clock::Timestamp,
    config::DropConfig,
    inbox::scan::OtherFile,
    manifest::near_name::is_near_name,
    policy::AfterSuccess,
    queue::{Queue, QueueError, Reader, drop_state::UnclaimedFiles},
    relative_path::{join, parent, path_key},
};

/// How old a file is at least before it is missed by anybody: its manifest may come after it.
const OLD_ENOUGH: Duration = Duration::from_secs(300);

/// The longest interval between two searches of a folder that is small.
const INTERVAL: Duration = Duration::from_secs(60);

/// A search takes at most a twentieth of the time.
const SHARE: u32 = 20;

/// How many paths are kept of each kind.
const EXAMPLES: usize = 10;

/// What was found in a drop, and when to look again.
#[derive(Debug)]
pub(super) struct UnclaimedWatch {
    due: Instant,
    /// What the queue's note says: at first, what an earlier process left there.
    noted: UnclaimedFiles,
}

impl UnclaimedWatch {
    pub(super) const fn new(noted: UnclaimedFiles, now: Instant) -> Self {
        Self { due: now, noted }
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        now >= self.due
    }

    /// Notes what is new of what a search found that began at `began`.
    pub(super) fn end(
        &mut self,
        found: UnclaimedFiles,
        config: &DropConfig,
        queue: &Queue,
        began: Instant,
    ) -> Result<(), QueueError> {
        self.due = Instant::now() + config.rescan_every.min(INTERVAL).max(began.elapsed() * SHARE);
        if self.noted == found {
            return Ok(());
        }
        queue.note_unclaimed(&config.name, &found)?;
        if found.like_manifests > self.noted.like_manifests {
            let files = found.like_manifests;
            tracing::warn!(drop = config.name, files, "files look like manifests and are none: `status` names them");
        }
        self.noted = found;
        Ok(())
    }
}

/// A search through one drop.
pub(super) struct UnclaimedSearch<'a> {
    config: &'a DropConfig,
    reader: &'a Reader,
    /// What manifests in the drop wait for; `None` where that is too much to know.
    awaited: Option<HashSet<i64>>,
    now: Timestamp,
    found: UnclaimedFiles,
    oldest: Option<Timestamp>,
    failure: Option<QueueError>,
}

impl<'a> UnclaimedSearch<'a> {
    pub(super) fn new(config: &'a DropConfig, reader: &'a Reader, queue: &Queue, now: Timestamp) -> Self {
        Self {
            config,
            reader,
            awaited: queue.awaited().keys(&config.name),
            now,
            found: UnclaimedFiles::default(),
            oldest: None,
            failure: None,
        }
    }

    /// Considers a file that is no manifest; `has_manifest` says whether a path is one in the drop.
    pub(super) fn see(&mut self, file: &OtherFile<'_>, has_manifest: impl Fn(&str) -> bool) {
        if self.failure.is_some() {
            return;
        }
        let marker = self.config.done_marker.as_deref();
        if marker.and_then(|marker| file.path.strip_suffix(marker)).is_some_and(has_manifest) {
            return;
        }
        let Some(changed) = file.identity().map(|identity| Timestamp(identity.ctime_ns.div_euclid(1_000_000))) else {
            return;
        };
        if self.now.since(changed) < OLD_ENOUGH.min(self.config.incomplete_after) {
            return;
        }
        match self.is_claimed(file.path) {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => {
                self.failure = Some(error);
                return;
            }
        }
        let fits = |name: &str| self.config.is_manifest(join(parent(file.path), name));
        let keep = |examples: &mut Vec<String>| {
            if examples.len() < EXAMPLES {
                examples.push(file.path.to_owned());
            }
        };
        if is_near_name(file.name(), fits) {
            self.found.like_manifests += 1;
            keep(&mut self.found.manifest_examples);
        } else {
            keep(&mut self.found.examples);
        }
        self.found.files += 1;
        self.oldest = Some(self.oldest.map_or(changed, |oldest| oldest.min(changed)));
    }

    /// Whether a manifest names the file: one that waits, one that is not settled or, where files stay, any.
    fn is_claimed(&self, path: &str) -> Result<bool, QueueError> {
        let key = path_key(&self.config.path, "", path);
        match &self.awaited {
            // Nobody can say which files are left over.
            None => return Ok(true),
            Some(awaited) if awaited.contains(&key) => return Ok(true),
            Some(_) => {}
        }
        self.reader.names_file(key, self.config.after_success == AfterSuccess::Keep)
    }

    pub(super) fn end(self) -> Result<UnclaimedFiles, QueueError> {
        match self.failure {
            Some(failure) => Err(failure),
            None => Ok(UnclaimedFiles { oldest: self.oldest.map(|oldest| oldest.to_string()), ..self.found }),
        }
    }
}
