//! Reads a partner's own lists by the layout of their drop: what the layout makes of a list takes its place as a manifest.

use std::{cell::RefCell, io};

use super::examine::{self, OpenedManifest, Unready};
use crate::{
    config::{Config, DropConfig, DropLayout},
    inbox::beneath::Root,
    layout::{ArchiveLayout, FreshLookups, LayoutError, Staged, load_lookups, stage_list},
    problem::Problem,
    queue::layouts::LayoutUse,
    relative_path::{name, parent},
};

/// A drop's layout, with its lookups.
#[derive(Debug)]
pub struct ListReader {
    layout: ArchiveLayout,
    lookups: FreshLookups,
}

impl ListReader {
    /// Reads the layout of a drop, if it has one.
    ///
    /// # Errors
    ///
    /// What is wrong with the layout, as `file: reason; cure`.
    pub fn of(drop: &DropConfig) -> Result<Option<RefCell<Self>>, LayoutError> {
        let Some(DropLayout { file, xlsx, .. }) = &drop.layout else { return Ok(None) };
        let layout = ArchiveLayout::read(file, &[])?;
        if let Some((reason, cure)) = layout.refusal_in_drops(*xlsx) {
            return Err(LayoutError::Wrong {
                what: format!("{}, the layout of the drop {}", file.display(), drop.name),
                reason: reason.to_owned(),
                cure: cure.to_owned(),
            });
        }
        Ok(Some(RefCell::new(Self { layout, lookups: FreshLookups::default() })))
    }

    /// Opens a list, which is at the path `at`; `manifest` is its own path in the drop.
    ///
    /// # Errors
    ///
    /// [`Unready`]; a list that the layout does not fit is refused when it is read, not here.
    pub(super) fn open(
        &mut self,
        root: &Root,
        (at, manifest): (&str, &str),
        max_bytes: u64,
    ) -> Result<OpenedManifest, Unready> {
        let opened = examine::open(root, at, max_bytes)?;
        if opened.identity.bytes > max_bytes {
            let reason = format!("the list is larger than {max_bytes} bytes");
            let cure = "divide it into several lists, or raise max_manifest_bytes of the drop";
            return Ok(opened.unusable(Problem::error(reason, cure)));
        }
        let staged = stage_list(&self.layout, &mut self.lookups, (name(manifest), opened.file()));
        match staged.map_err(|error| Unready::Layout(error.to_string()))? {
            Ok(Staged { file, sha256, warnings, .. }) => {
                let layout = LayoutUse {
                    file: self.layout.file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                    sha256: self.layout.sha256,
                    references: self.layout.references.clone(),
                    entries_sha256: sha256,
                };
                let opened = opened.made_by(layout, file, warnings)?;
                if self.layout.is_loose() {
                    return Ok(opened.loosely(Root::open(root.path())?, parent(at).to_owned()));
                }
                Ok(opened)
            }
            Err(LayoutError::Wrong { what, reason, cure }) => {
                Ok(opened.unusable(Problem::error(format!("{what}: {reason}"), cure)))
            }
            Err(LayoutError::Io { what, error }) => {
                Err(io::Error::new(error.kind(), format!("{what}: {error}")).into())
            }
            Err(LayoutError::Stopped) => Err(Unready::Changed),
        }
    }
}

/// What is wrong with the layouts of all drops.
///
/// # Errors
///
/// The first fault, with the cure.
pub fn check(config: &Config) -> Result<(), String> {
    for drop in &config.drops {
        let Some(reader) = ListReader::of(drop).map_err(|error| error.to_string())? else { continue };
        let mut reader = reader.borrow_mut();
        let ListReader { layout, lookups } = &mut *reader;
        for file in layout.lookup_files().chain([layout.file.as_path()]) {
            let real = file.canonicalize().unwrap_or_else(|_| file.to_owned());
            let reached = config.drops.iter().find(|other| {
                let folder = other.path.canonicalize().unwrap_or_else(|_| other.path.clone());
                file.starts_with(&other.path) || real.starts_with(folder)
            });
            if let Some(other) = reached {
                return Err(format!(
                    "{}, for the drop {}: it is inside the drop {}, where its sender could choose other people's \
                     profiles; keep it elsewhere, e.g. in /etc/passfort-ingest",
                    file.display(),
                    drop.name,
                    other.name
                ));
            }
        }
        load_lookups(layout, lookups).map_err(|error| format!("the layout of the drop {}: {error}", drop.name))?;
    }
    Ok(())
}
