//! Which manifests the arguments of `import` and `check` name.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::super::start::Usage;
use crate::{
    config::{Config, DropConfig},
    inbox::{
        beneath::Root,
        scan::{FoundManifest, scan_all},
        scan_rules::{ScanRules, globs, matches},
    },
    intake::examine,
    manifest::near_name::is_near_name,
    printable::escape,
    relative_path::{join, parent},
    service::IMPORT,
};

/// A manifest that is to be imported: the folder that it is known by, and its path in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Target {
    pub(in crate::cli) root: PathBuf,
    pub(in crate::cli) manifest: String,
}

/// What to do with a file that looks like a manifest.
const NEAR_CURE: &str =
    "rename it to end in .manifest.csv, .manifest.json or .manifest.jsonl, or name it in the command";

/// How many files that look like manifests are named.
const NAMED: usize = 20;

/// Every manifest that the paths name; folders are searched within the bounds of the drop, without one those of any.
/// What drops, and this command, put aside is not searched: `own` are the command's own folders.
///
/// # Errors
///
/// Where a path cannot be read, or a folder has no manifest.
pub(in crate::cli) fn targets(
    paths: &[PathBuf],
    config: &Config,
    drop: Option<&DropConfig>,
    own: &[PathBuf],
) -> anyhow::Result<Vec<Target>> {
    let default = DropConfig::new(IMPORT, "/");
    let bounds = drop.unwrap_or(&default);
    let mut targets = Vec::new();
    for path in paths {
        let named = |error: io::Error| Usage(format!("{}: {error}", path.display()));
        let real = path.canonicalize().map_err(named)?;
        if real.is_dir() {
            let before = targets.len();
            let rules = search_rules(&real, config, bounds, own)?;
            let near = search(&real, &rules, &mut targets).map_err(named)?;
            if targets.len() == before {
                let names = DropConfig::DEFAULT_MANIFESTS.join(", ");
                let why = format!("{}: no manifest ({names}) in this folder", path.display());
                // With files that were meant, this is more than a slip in the command line.
                let Some(first) = near.first() else { return Err(Usage(why).into()) };
                let more = match near.len() {
                    1 => String::new(),
                    files => format!(" and {} more", files - 1),
                };
                return Err(anyhow::anyhow!("{why}; rename what looks like one: {first}{more}"));
            }
        } else {
            let (folder, name) = examine::split(&real).map_err(named)?;
            targets.push(Target { root: folder.to_owned(), manifest: name.to_owned() });
        }
    }
    targets.sort_by(|one, other| (&one.root, &one.manifest).cmp(&(&other.root, &other.manifest)));
    targets.dedup();
    Ok(targets)
}

/// What is searched of a folder.
///
/// # Errors
///
/// None: the patterns are constants.
pub(in crate::cli) fn search_rules(
    folder: &Path,
    config: &Config,
    bounds: &DropConfig,
    own: &[PathBuf],
) -> anyhow::Result<ScanRules> {
    Ok(ScanRules {
        recursive: true,
        manifests: globs(DropConfig::DEFAULT_MANIFESTS)?,
        ignore: globs(DropConfig::DEFAULT_IGNORE.iter().copied())?,
        skip_dirs: put_aside(config, own).chain([folder.join("receipts")]).collect(),
        max_depth: bounds.max_depth,
        max_path_bytes: bounds.max_path_bytes,
    })
}

/// The folders that settled files and receipts were put into, which are never searched.
fn put_aside(config: &Config, own: &[PathBuf]) -> impl Iterator<Item = PathBuf> {
    config.drops.iter().flat_map(DropConfig::own_folders).chain(own.iter().cloned())
}

/// Adds the manifests of a folder, and names what only looks like one; returns the paths of those.
fn search(folder: &Path, rules: &ScanRules, targets: &mut Vec<Target>) -> io::Result<Vec<String>> {
    let root = Root::open(folder)?;
    let mut near = Vec::new();
    let mut each = |found: FoundManifest| {
        targets.push(Target { root: folder.to_owned(), manifest: found.path });
        std::ops::ControlFlow::Continue(())
    };
    let report = scan_all(&root, rules, &mut each, &mut |file| {
        let fits = |name: &str| matches(&rules.manifests, name, &join(parent(file.path), name));
        if file.unnameable.is_none() && is_near_name(file.name(), fits) {
            if near.len() < NAMED {
                let path = folder.join(file.path);
                tracing::warn!(path = %path.display(), cure = NEAR_CURE, "looks like a manifest, and is passed over");
            }
            near.push(escape(file.path).into_owned());
        }
    })?;
    if !near.is_empty() {
        tracing::warn!(files = near.len(), "files look like manifests, and are passed over: `check` names them");
    }
    for problem in report.problems {
        let path = problem.path.unwrap_or_default();
        tracing::warn!(path, reason = problem.reason, cure = problem.cure, "passed over");
    }
    Ok(near)
}
