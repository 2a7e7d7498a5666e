//! A watched folder and its policy: one `[[drop]]` of the configuration.
//!
//! Values only. That drops do not disturb each other is checked when the configuration is read; whether their folders
//! exist and can be written, the scanner and `run` find out.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Address, Globs, Schedule};
use crate::{
    entry::ProfileId,
    policy::{AfterSuccess, OnInvalid},
    warning::RefusedWarnings,
};

/// A watched folder with a name and a policy.
#[derive(Debug, Clone, PartialEq)]
pub struct DropConfig {
    /// Its name in receipts, metrics and commands: letters, digits, `.`, `_` and `-`; unique, and never `import`.
    pub name: String,
    /// The folder, an absolute path without `..`.
    pub path: PathBuf,
    /// Which files are manifests.
    pub manifests: Globs,
    /// How the partner's own lists are read: `[drop.layout]`.
    pub layout: Option<DropLayout>,
    /// Whether folders below it are scanned for manifests.
    pub recursive: bool,
    /// How long a file must not have changed to count as complete.
    pub settle: Duration,
    /// What is added to a manifest's name to name the file without which the manifest does not count yet.
    pub done_marker: Option<String>,
    /// Which files and folders are ignored.
    pub ignore: Globs,
    /// How changes are noticed.
    pub watch: Watch,
    /// How often the folder is read in full, whatever events came.
    pub rescan_every: Duration,
    /// How long a manifest may wait for a file that it names.
    pub incomplete_after: Duration,
    /// What happens to the good entries of a manifest that has bad ones.
    pub on_invalid: OnInvalid,
    /// More bad entries than this, and more than half of those read: the manifest is refused as a whole.
    pub max_invalid: u64,
    /// What happens to the files of a manifest when all is well.
    pub after_success: AfterSuccess,
    /// Where taken files are until they are settled; as configured, see [`DropConfig::work_folder`].
    pub work_dir: PathBuf,
    /// Where files go when all is well; as configured, see [`DropConfig::done_folder`].
    pub done_dir: PathBuf,
    /// Where they go where something failed; as configured, see [`DropConfig::failed_folder`].
    pub failed_dir: PathBuf,
    /// Where receipts are written; as configured, see [`DropConfig::receipts_folder`].
    pub receipts_dir: PathBuf,
    /// How long files stay in the done folder before they are purged; absent: for ever.
    pub keep_done_for: Option<Duration>,
    /// Jobs of a drop with a higher number go first.
    pub priority: i64,
    /// The file that holds this drop's own key, an absolute path.
    pub api_key_file: Option<PathBuf>,
    /// This drop's own address of the API; absent: that of `[api]`.
    pub base_url: Option<Address>,
    /// The only profiles that this drop may write to; absent: any.
    pub profiles: Option<Vec<ProfileId>>,
    /// Which kinds of warnings are errors.
    pub refuse_warnings: RefusedWarnings,
    /// The largest manifest that is read, in bytes.
    pub max_manifest_bytes: u64,
    /// The most entries that one manifest may have.
    pub max_entries: u64,
    /// The most rows that one manifest in CSV may have.
    pub max_rows: u64,
    /// The most bytes that one line, row, or entry of a manifest may have.
    pub max_line_bytes: usize,
    /// The most images that one document may have.
    pub max_images: usize,
    /// How deep the lists and objects of one entry may be nested.
    pub max_nesting: usize,
    /// How deep below the drop folders are scanned.
    pub max_depth: usize,
    /// The longest path of a manifest or file, from the drop on, in bytes.
    pub max_path_bytes: usize,
    /// The permission bits of a receipt, without file type.
    pub receipt_mode: u32,
    /// The group that receipts are given to; absent: that of the process or folder.
    pub receipt_group: Option<String>,
    /// When something must have come.
    pub expect: Vec<Schedule>,
    /// When all that came must be delivered.
    pub delivered_by: Vec<Schedule>,
    /// The file that names the days on which nothing is expected, an absolute path.
    pub holidays: Option<PathBuf>,
}

impl DropConfig {
    /// Which files are manifests unless configured.
    pub const DEFAULT_MANIFESTS: [&'static str; 3] = ["*.manifest.json", "*.manifest.jsonl", "*.manifest.csv"];
    /// Which files and folders are ignored unless configured: the names under which common upload tools write incomplete
    /// files, and what servers, operating systems and office programs put beside files without being asked.
    pub const DEFAULT_IGNORE: &'static [&'static str] = &[
        "*.part",
        "*.filepart",
        "*.tmp",
        "*.partial",
        ".*",
        // Recycle bins, snapshots and index folders of NAS systems and Windows. What is in a bin was withdrawn.
        "#recycle",
        "#snapshot",
        "~snapshot",
        "@eaDir",
        "@tmp",
        "@Recycle",
        "@Recently-Snapshot",
        "@__thumb",
        "$RECYCLE.BIN",
        "RECYCLER",
        "System Volume Information",
        "lost+found",
        "Network Trash Folder",
        "Temporary Items",
        // Lock files of Office and LibreOffice hold the user's name and no rows.
        "~$*",
        ".~lock.*#",
        "__MACOSX",
        "Thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
    ];

    /// How many bad entries a manifest may have that is not refused as a whole, unless configured.
    pub const DEFAULT_MAX_INVALID: u64 = 10_000;

    /// Where taken files are until they are settled, unless configured.
    pub const DEFAULT_WORK_DIR: &'static str = ".passfort-ingest";

    /// A drop of this name and folder, with the default of everything else.
    #[must_use]
    pub fn new(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        let compiled = |texts: &[&str]| Globs::compile(texts.iter().copied()).unwrap_or_else(|_| Globs::none());
        Self {
            name: name.into(),
            path: path.into(),
            manifests: compiled(&Self::DEFAULT_MANIFESTS),
            layout: None,
            recursive: true,
            settle: Duration::from_secs(2),
            done_marker: None,
            ignore: compiled(Self::DEFAULT_IGNORE),
            watch: Watch::Auto,
            rescan_every: Duration::from_secs(60),
            incomplete_after: Duration::from_secs(24 * 3600),
            on_invalid: OnInvalid::Skip,
            max_invalid: Self::DEFAULT_MAX_INVALID,
            after_success: AfterSuccess::Archive,
            work_dir: PathBuf::from(Self::DEFAULT_WORK_DIR),
            done_dir: PathBuf::from("done"),
            failed_dir: PathBuf::from("failed"),
            receipts_dir: PathBuf::from("receipts"),
            keep_done_for: None,
            priority: 0,
            api_key_file: None,
            base_url: None,
            profiles: None,
            refuse_warnings: RefusedWarnings::default(),
            max_manifest_bytes: 1_000_000_000,
            max_entries: 10_000_000,
            max_rows: 20_000_000,
            max_line_bytes: 1 << 20,
            max_images: 1_000,
            max_nesting: 32,
            max_depth: 64,
            max_path_bytes: 1024,
            receipt_mode: 0o640,
            receipt_group: None,
            expect: Vec::new(),
            delivered_by: Vec::new(),
            holidays: None,
        }
    }

    /// Whether this file, relative to the drop, is read by the drop's layout. What is named like a manifest is one.
    #[must_use]
    pub fn is_list(&self, path: impl AsRef<Path>) -> bool {
        let path = path.as_ref();
        self.layout.as_ref().is_some_and(|layout| layout.lists.matches(path)) && !self.manifests.matches(path)
    }

    /// Whether this file, relative to the drop, is a manifest, or a list that is read as one.
    #[must_use]
    pub fn is_manifest(&self, path: impl AsRef<Path>) -> bool {
        self.manifests.matches(path.as_ref()) || self.is_list(path)
    }

    /// The patterns of manifests and lists, as they are written.
    #[must_use]
    pub fn manifest_patterns(&self) -> Vec<&str> {
        let lists = self.layout.iter().flat_map(|layout| layout.lists.texts());
        self.manifests.texts().iter().chain(lists).map(String::as_str).collect()
    }

    /// Where taken files are until they are settled, as an absolute path.
    #[must_use]
    pub fn work_folder(&self) -> PathBuf {
        self.path.join(&self.work_dir)
    }

    /// Where files go when all is well, as an absolute path.
    #[must_use]
    pub fn done_folder(&self) -> PathBuf {
        self.path.join(&self.done_dir)
    }

    /// Where files go where something failed, as an absolute path.
    #[must_use]
    pub fn failed_folder(&self) -> PathBuf {
        self.path.join(&self.failed_dir)
    }

    /// Where receipts are written, as an absolute path.
    #[must_use]
    pub fn receipts_folder(&self) -> PathBuf {
        self.path.join(&self.receipts_dir)
    }

    /// The drop's own folders, which are never scanned, as absolute paths.
    #[must_use]
    pub fn own_folders(&self) -> [PathBuf; 4] {
        [self.work_folder(), self.done_folder(), self.failed_folder(), self.receipts_folder()]
    }

    /// Whether this absolute path is, or is inside, one of the drop's own folders.
    #[must_use]
    pub fn is_own(&self, path: &Path) -> bool {
        self.own_folders().iter().any(|own| path.starts_with(own))
    }

    /// Whether the drop may write to this profile.
    #[must_use]
    pub fn allows(&self, profile: &ProfileId) -> bool {
        self.profiles.as_ref().is_none_or(|allowed| allowed.contains(profile))
    }
}

/// How a partner's own lists are read: `[drop.layout]`.
#[derive(Debug, Clone, PartialEq)]
pub struct DropLayout {
    /// The operator's layout, an absolute path outside every drop.
    pub file: PathBuf,
    /// Which files are lists.
    pub lists: Globs,
    /// Whether a layout that reads `xlsx` is accepted.
    pub xlsx: bool,
    /// Whether a list is taken although its references were made by another template before.
    pub new_references: bool,
}

/// How changes in a drop are noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// By events where the file system has them, else by reading the folder.
    Auto,
    /// By events of the kernel, and by rescans.
    Events,
    /// By rescans alone, for file systems that report nothing.
    Poll,
}

impl Watch {
    /// Every word that the configuration knows.
    pub const WORDS: [(&'static str, Self); 3] = [("auto", Self::Auto), ("events", Self::Events), ("poll", Self::Poll)];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_patterns_compile() {
        let drop = DropConfig::new("a", "/srv/a");
        assert!(drop.manifests.matches("in/batch.manifest.jsonl"));
        assert!(drop.ignore.matches("in/scan.jpg.filepart"));
    }

    #[test]
    fn what_others_put_beside_files_is_ignored() {
        let ignore = DropConfig::new("a", "/srv/a").ignore;
        for name in [
            "#recycle",
            "@eaDir",
            ".snapshot",
            "#snapshot",
            "$Recycle.Bin",
            "System Volume Information",
            ".Trash-1000",
            "@tmp",
            "__MACOSX",
            "lost+found",
            "THUMBS.DB",
            "in/~$batch.manifest.csv",
            "in/.~lock.batch.manifest.csv#",
        ] {
            assert!(ignore.matches(name), "{name}");
        }
        for name in ["recycle", "in/batch.manifest.csv", "tmp", "front.png", "~front.png"] {
            assert!(!ignore.matches(name), "{name}");
        }
    }

    #[test]
    fn own_folders_are_inside_the_drop_unless_absolute() {
        let mut drop = DropConfig::new("a", "/srv/a");
        drop.failed_dir = PathBuf::from("/srv/elsewhere");
        assert_eq!(drop.done_folder(), Path::new("/srv/a/done"));
        assert_eq!(drop.work_folder(), Path::new("/srv/a/.passfort-ingest"));
        assert!(drop.is_own(Path::new("/srv/a/.passfort-ingest/1-2/x.jpg")));
        assert_eq!(drop.failed_folder(), Path::new("/srv/elsewhere"));
        assert!(drop.is_own(Path::new("/srv/a/receipts/x.json")));
        assert!(drop.is_own(Path::new("/srv/elsewhere/x.jpg")));
        assert!(!drop.is_own(Path::new("/srv/a/done-not/x.jpg")));
    }

    #[test]
    fn a_list_of_profiles_allows_only_these() {
        let profile = |digit: &str| ProfileId::parse(&format!("a2c4393a-e219-67a4-5ab4-21869{digit}2e9038")).unwrap();
        let mut drop = DropConfig::new("a", "/srv/a");
        assert!(drop.allows(&profile("5")));
        drop.profiles = Some(vec![profile("6")]);
        assert!(!drop.allows(&profile("5")));
        assert!(drop.allows(&profile("6")));
    }
}
