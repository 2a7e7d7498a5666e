//! A consistent copy of the database, made beside the process that works on it.

use std::path::Path;

use super::{QueueError, lineage, schema};
use crate::{
    clock::Timestamp,
    durable::{Access, Folder},
};

/// Writes a copy of the database as it is at one moment to a new file, synced. It is marked as a backup, so that no worker
/// begins with it before a person has seen to what was done since.
///
/// # Errors
///
/// [`QueueError::Io`] where the file is there already or cannot be made; those of the database.
pub(crate) fn backup(database: &Path, file: &Path, now: Timestamp) -> Result<(), QueueError> {
    let io = |source| QueueError::Io { action: "write", path: file.to_owned(), source };
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = file.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| io(std::io::ErrorKind::InvalidFilename.into()))?;
    // Before the copy is made, which may take long; a file that comes meanwhile is not replaced either.
    if file.symlink_metadata().is_ok() {
        return Err(io(std::io::ErrorKind::AlreadyExists.into()));
    }
    let connection = schema::open_for_reading(database)?;
    // It keeps the copy from being written too.
    connection.pragma_update(None, "query_only", "0")?;
    let copy = |draft: &Path| -> Result<(), QueueError> {
        let path = draft.to_str().ok_or_else(|| io(std::io::ErrorKind::InvalidFilename.into()))?;
        connection.execute("VACUUM INTO ?1", [path])?;
        lineage::mark_as_backup(draft, now)
    };
    let made = Folder::open(parent)
        .map_err(io)?
        .publish_by_path(name, Access::of_mode(0o600), |draft| copy(draft).map_err(BackupError::Queue));
    made.map_err(|error| match error {
        BackupError::Queue(error) => error,
        BackupError::Io(source) => io(source),
    })
}

/// Whose failure it was.
enum BackupError {
    Queue(QueueError),
    Io(std::io::Error),
}

impl From<std::io::Error> for BackupError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::{
        Queue, Reader, WhenStuck,
        test_support::{NOW, Site},
    };

    #[test]
    fn a_backup_has_everything_and_no_worker_begins_with_it() {
        let site = Site::new();
        site.admit("a.manifest.json", &["one"]);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("copy.db");
        backup(site.queue.path(), &file, NOW).unwrap();
        assert_eq!(Reader::open(&file).unwrap().overview(NOW).unwrap(), site.reader().overview(NOW).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);

        let copy = Queue::open(&file, WhenStuck::Fail).unwrap();
        let refused = copy.check_lineage(&[]).unwrap_err().to_string();
        assert!(refused.contains("it is a backup of") && refused.contains("`adopt`"), "{refused}");
        assert!(Reader::open(&file).unwrap().refused().unwrap().is_some());
        copy.new_start_number(&[]).unwrap();
        copy.check_lineage(&[]).unwrap();
        assert_eq!(Reader::open(&file).unwrap().refused().unwrap(), None);
    }

    #[test]
    fn a_backup_replaces_nothing() {
        let site = Site::new();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("copy.db");
        std::fs::write(&file, "other").unwrap();
        assert!(matches!(backup(site.queue.path(), &file, NOW), Err(QueueError::Io { .. })));
        assert_eq!(std::fs::read(&file).unwrap(), b"other");
    }
}
