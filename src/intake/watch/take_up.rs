//! Takes up again what a lost queue had taken: work folders that no batch knows.

use std::{ops::ControlFlow, path::PathBuf, time::Duration};

use super::DropScanner;
use crate::{
    inbox::{beneath::Root, scan::scan_all, scan_rules::ScanRules},
    intake::{admit::AdmitError, examine},
    job::FileLocation,
    policy::AfterSuccess,
    queue::{
        QueueError,
        taking::{TakenFile, Taking, TakingState},
    },
    relative_path::join,
};

/// How long manifests in place are waited for, until they count as complete.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was taken up.
#[derive(Debug, Default)]
pub struct TakenUp {
    /// How many manifests.
    pub manifests: u64,
    /// What stays where it is, and why.
    pub left: Vec<(PathBuf, String)>,
}

impl DropScanner {
    /// Admits what is in the work folder and no batch knows; in a drop whose files are used in place, what is in the drop.
    /// The caller holds their jobs before any worker starts.
    ///
    /// # Errors
    ///
    /// Those of the queue.
    pub fn take_up(&mut self) -> Result<TakenUp, QueueError> {
        let mut taken = TakenUp::default();
        let root = match Root::open(&self.config.path) {
            Ok(root) => root,
            Err(error) => {
                taken.left.push((self.config.path.clone(), error.to_string()));
                return Ok(taken);
            }
        };
        self.record_unknown_work(&root, &mut taken)?;
        for taking in self.reader.takings(&self.config.name)? {
            match self.end_taking(&root, &taking) {
                Ok(_) => taken.manifests += 1,
                Err(AdmitError::Queue(error)) => return Err(error),
                Err(error) => taken.left.push((self.config.path.join(&taking.manifest.path), error.to_string())),
            }
        }
        if self.config.after_success == AfterSuccess::Keep {
            taken.manifests += self.take_in_place()?;
        }
        Ok(taken)
    }

    /// Manifests that are used in place leave no trace of having been taken.
    fn take_in_place(&mut self) -> Result<u64, QueueError> {
        let began = std::time::Instant::now();
        let mut taken = 0;
        for number in 0.. {
            let looked = self.scan(number)?;
            taken += looked.taken;
            if looked.settling == 0 || began.elapsed() > PATIENCE {
                break;
            }
            std::thread::sleep(looked.again_in.unwrap_or(self.config.settle).min(Duration::from_secs(1)));
        }
        Ok(taken)
    }

    /// Records the folders that no batch knows as takings whose files are all there.
    fn record_unknown_work(&self, drop: &Root, taken: &mut TakenUp) -> Result<(), QueueError> {
        let work_dir = self.config.work_folder();
        let (work, below) = match work_dir.strip_prefix(&self.config.path) {
            Ok(below) => (None, below.to_str().unwrap_or_default().to_owned()),
            Err(_) => (Root::open(&work_dir).ok(), String::new()),
        };
        let work_root = work.as_ref().unwrap_or(drop);
        let Ok(entries) = std::fs::read_dir(&work_dir) else { return Ok(()) };
        let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort();
        for name in names {
            let work_path = join(&below, &name);
            if self.reader.has_work_folder(work_root.path(), &work_path)? {
                continue;
            }
            match self.find_taken(work_root, &work_path) {
                Ok(None) => {}
                Ok(Some(taking)) => {
                    let (drop, manifest) = (&taking.drop, &taking.manifest.path);
                    if self.reader.is_well_settled(drop, manifest, taking.manifest_sha256)? {
                        let why = "its receipt is there and all of it was created: move it to an archive of your own";
                        taken.left.push((work_dir.join(&name), why.to_owned()));
                    } else {
                        self.queue.record_taken(taking)?;
                    }
                }
                Err(why) => taken.left.push((work_dir.join(&name), why)),
            }
        }
        Ok(())
    }

    /// What was taken into a folder; nothing where it is empty.
    fn find_taken(&self, work_root: &Root, work_path: &str) -> Result<Option<Taking>, String> {
        let folder = Root::open(&work_root.path().join(work_path)).map_err(|error| error.to_string())?;
        let rules = ScanRules { recursive: true, skip_dirs: Vec::new(), ..self.scan_rules.clone() };
        let (mut manifests, mut others) = (Vec::new(), 0_u64);
        scan_all(
            &folder,
            &rules,
            &mut |manifest| {
                manifests.push(manifest.path);
                ControlFlow::Continue(())
            },
            &mut |_| others += 1,
        )
        .map_err(|error| error.to_string())?;
        let manifest = match manifests.as_slice() {
            [] if others == 0 => return Ok(None),
            [manifest] => manifest.clone(),
            [] => return Err("it has files and no manifest: move them back into the drop".to_owned()),
            _ => return Err("it has several manifests: move them with their files back into the drop".to_owned()),
        };
        let opened =
            examine::open(work_root, &join(work_path, &manifest), u64::MAX).map_err(|error| error.to_string())?;
        let marker = self.config.done_marker.as_ref().map(|marker| format!("{manifest}{marker}"));
        let marker = marker.and_then(|path| {
            let identity = work_root.open_file(&join(work_path, &path)).ok()?.identity;
            Some(TakenFile { path, identity, checksum: None, copied: false })
        });
        Ok(Some(Taking {
            batch_id: 0,
            drop: self.config.name.clone(),
            manifest: TakenFile { path: manifest, identity: opened.identity, checksum: None, copied: false },
            manifest_sha256: opened.sha256,
            marker,
            root: self.config.path.to_string_lossy().into_owned(),
            work: FileLocation { root: work_root.path().to_string_lossy().into_owned(), path: work_path.to_owned() },
            problems: None,
            state: TakingState::Taken,
        }))
    }
}
