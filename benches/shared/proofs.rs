//! What a long run came to, kept in `proofs/` with the commit that was tried; each benchmark that proves something has
//! this as a module.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::Path,
    process::Command,
};

use anyhow::{Context, Result};

/// The commit that is tried, marked where the work tree differs from it.
pub fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else { return "unknown".to_owned() };
    let changed = git(&["status", "--porcelain", "--untracked-files=no", "--", "src", "benches"]);
    if changed.is_some_and(|changed| !changed.is_empty()) { format!("{commit}+") } else { commit }
}

/// Adds a line to a file of `proofs`, with a head where it is new.
pub fn append(name: &str, head: &str, line: &str) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("proofs").join(name);
    fs::create_dir_all(path.parent().context("no folder")?)?;
    let is_new = !path.exists();
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    if is_new {
        writeln!(file, "{head}")?;
    }
    writeln!(file, "{line}").with_context(|| format!("cannot write to {}", path.display()))
}
