//! Which manifests the arguments of `import` and `check` name.

use std::{io, path::PathBuf};

use super::super::start::Usage;
use crate::{
    config::DropConfig,
    inbox::{
        beneath::Root,
        scan::{ScanRules, globs, scan},
    },
    intake::examine,
    service::IMPORT,
};

/// A manifest that is to be imported: the folder that it is known by, and its path in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Target {
    pub(in crate::cli) root: PathBuf,
    pub(in crate::cli) manifest: String,
}

/// Every manifest that the paths name; folders are searched within the bounds of the drop, without one those of any.
pub(in crate::cli) fn targets(paths: &[PathBuf], drop: Option<&DropConfig>) -> anyhow::Result<Vec<Target>> {
    let default = DropConfig::new(IMPORT, "/");
    let bounds = drop.unwrap_or(&default);
    let mut targets = Vec::new();
    for path in paths {
        let named = |error: io::Error| Usage(format!("{}: {error}", path.display()));
        let real = path.canonicalize().map_err(named)?;
        if real.is_dir() {
            let before = targets.len();
            let rules = ScanRules {
                recursive: true,
                manifests: globs(DropConfig::DEFAULT_MANIFESTS)?,
                ignore: globs(DropConfig::DEFAULT_IGNORE)?,
                skip_dirs: vec![real.join("receipts")],
                max_depth: bounds.max_depth,
                max_path_bytes: bounds.max_path_bytes,
            };
            let root = Root::open(&real).map_err(named)?;
            let report = scan(&root, &rules, &mut |found| {
                targets.push(Target { root: real.clone(), manifest: found.path });
                std::ops::ControlFlow::Continue(())
            })
            .map_err(named)?;
            for problem in report.problems {
                let path = problem.path.unwrap_or_default();
                tracing::warn!(path, reason = problem.reason, cure = problem.cure, "passed over");
            }
            if targets.len() == before {
                let names = DropConfig::DEFAULT_MANIFESTS.join(", ");
                return Err(Usage(format!("{}: no manifest ({names}) in this folder", path.display())).into());
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
