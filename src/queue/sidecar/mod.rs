//! What is beside a database in files of its own, because it must work where the database does not: who works on it, how
//! others wake that process, which uploads were in flight when it was killed, and which start was the latest.

pub mod in_doubt;
pub mod lock;
pub(crate) mod marks;
pub mod wake;

use std::path::{Path, PathBuf};

/// The file beside a database whose name ends so. Where a symbolic link leads to the database, it is beside that, as
/// SQLite's own files are.
fn beside(database: &Path, ending: &str) -> PathBuf {
    let mut name = database.canonicalize().unwrap_or_else(|_| database.to_owned()).into_os_string();
    name.push(ending);
    name.into()
}
