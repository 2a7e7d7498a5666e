//! Whether a manifest and the files that it names are there, and for how long they have not changed.

use std::{fs::File, ops::ControlFlow};

use super::{
    context::{DropContext, EntryContext, WantedFile, in_use_problem},
    examine::{ManifestRules, OpenedManifest, Unready, near_name},
};
use crate::{
    claims::NameClaim,
    entry::Entry,
    file_identity::FileIdentity,
    inbox::{
        beneath::{Refusal, Root},
        near::NearNames,
        writers::Writers,
    },
    manifest::{ReadError, Reading},
    problem::Problem,
    queue::{
        QueueError,
        awaited::{Before, FileSight, InUseReason, NameReading},
    },
    relative_path::join,
};

/// Whether a manifest and its files are there, and for how long they have not changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stillness {
    /// How many files are not there that are needed.
    pub missing: u64,
    /// The first of them, as the manifest writes them.
    pub first_missing: Vec<String>,
    /// Of the first that is not there while a file of a near name is: both.
    pub near: Option<(String, String)>,
    /// The manifest that took the first of them, for the same profile, and is not settled yet.
    pub first_taken_by: Option<String>,
    /// How many files are there, or were, and serve other manifests.
    pub in_use: u64,
    /// What is wrong with the first of them.
    pub first_in_use: Vec<Problem>,
    /// The first of those that were replaced while several manifests waited for them.
    pub first_replaced: Vec<String>,
    /// Changes whenever any of the files does.
    pub signature: u64,
    /// When the last of them changed, in nanoseconds since 1970, by the file's change time (ctime). Senders can set a
    /// file's modification time, but not this one.
    pub last_change_ns: i64,
    /// The first that somebody has open for writing, and who.
    pub being_written: Option<(String, String)>,
}

/// How many files are named.
pub(super) const NAMED: usize = 20;

/// For so many missing files of a manifest a near one is looked for: it is scanned again and again.
const NEAR_SOUGHT: u64 = 1_000;

/// Where the names of a waiting manifest are noted, and what was known of them.
pub(crate) struct NameNotes<'a> {
    pub(super) reading: NameReading<'a>,
    pub(super) context: DropContext<'a>,
    pub(super) scan: u64,
    /// What changed before this moment has settled, where the file system's clock is this machine's.
    pub(super) quiet_before_ns: Option<i64>,
    /// What an earlier process knew, at the first look after a start.
    pub(super) before: &'a dyn Fn(&str) -> Before,
}

/// One reading of a manifest.
struct NameLook<'a> {
    images: &'a Root,
    near: NearNames<'a>,
    folder: &'a str,
    notes: Option<&'a NameNotes<'a>>,
    name: &'a mut dyn FnMut(&str),
    writers: Option<&'a mut Writers>,
    still: Stillness,
    signature: xxhash_rust::xxh3::Xxh3,
    failure: Option<QueueError>,
    rules: &'a ManifestRules,
}

impl NameLook<'_> {
    fn see(&mut self, file: &File, identity: &FileIdentity, path: &str) -> FileSight {
        let who = self.writers.as_mut().and_then(|writers| writers.of(file, identity));
        let mut sight = FileSight::of(identity, self.images.keeps_numbers());
        sight.open = who.is_some();
        sight.quiet = self.notes.and_then(|notes| notes.quiet_before_ns).is_some_and(|at| identity.ctime_ns <= at);
        if let Some(who) = who.filter(|_| self.still.being_written.is_none()) {
            self.still.being_written = Some((path.to_owned(), who));
        }
        for number in [identity.dev, identity.ino, identity.bytes, identity.ctime_ns.cast_unsigned()] {
            self.signature.update(&number.to_le_bytes());
        }
        self.still.last_change_ns = self.still.last_change_ns.max(identity.ctime_ns);
        sight
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), QueueError> {
        let (mut missing, mut contested, mut wanted) = (Vec::new(), false, Vec::new());
        for source in entry.sources() {
            let path = join(self.folder, source.path.as_str());
            // Refused by the examination, whether it is there or not.
            if self.rules.is_taken(&path) {
                continue;
            }
            let key = self.notes.map(|notes| notes.context.key(&path));
            if let (Some(notes), Some(key)) = (self.notes, key) {
                contested |= notes.reading.name(key, &path);
            }
            (self.name)(&path);
            let sight = match self.images.open_file(&path) {
                Ok(found) => Some(self.see(&found.file, &found.identity, source.path.as_str())),
                Err(Refusal::Missing) => {
                    missing.push(source.path.as_str());
                    None
                }
                // Reported by the examination, with its cure.
                Err(Refusal::Unsafe(_) | Refusal::Io(_)) => None,
            };
            if let (Some(notes), Some(key)) = (self.notes, key) {
                notes.reading.saw(key, sight, (notes.before)(source.path.as_str()), notes.scan);
            }
            wanted.push((key, path, source));
        }
        // What was created before needs no file, and leaves those that are there to others.
        if (contested || !missing.is_empty())
            && let Some((notes, reference)) = self.notes.zip(entry.reference.as_deref())
            && notes.context.created(reference)?.is_some_and(|created| created.settles(entry))
        {
            wanted.iter().filter_map(|(key, ..)| *key).for_each(|key| notes.reading.idle(key));
            return Ok(());
        }
        for (key, path, source) in wanted {
            let Some((notes, key)) = self.notes.zip(key) else { continue };
            let claim = NameClaim::of(entry.profile_id.as_str(), source.declared_sha256.is_some());
            notes.reading.claim(key, claim);
            if missing.contains(&source.path.as_str()) && self.still.first_in_use.len() < NAMED {
                let file = WantedFile { path: &path, written: source.path.as_str(), claim };
                let taken = notes.context.taken_by_another(&file, self.images)?;
                if self.still.missing == 0 && missing.first() == Some(&file.written) {
                    self.still.first_taken_by = notes.context.taken_for_the_same(&file)?;
                }
                self.still.in_use += u64::from(taken.is_some());
                self.still.first_in_use.extend(taken);
            }
        }
        self.still.missing += missing.len() as u64;
        if self.still.near.is_none() && self.still.missing <= NEAR_SOUGHT {
            let near = |written: &&str| near_name(&self.near, &join(self.folder, written), written);
            self.still.near = missing.iter().find_map(|written| Some(((*written).to_owned(), near(written)?)));
        }
        let room = NAMED.saturating_sub(self.still.first_missing.len());
        self.still.first_missing.extend(missing.into_iter().take(room).map(str::to_owned));
        Ok(())
    }
}

/// Checks whether every file that a manifest needs is there, when each last changed, and who still writes to one. Every
/// name is noted before it is looked for, and `name` is called with it.
///
/// # Errors
///
/// [`Unready`] where the manifest or the queue cannot be read. A manifest that is unusable misses nothing.
pub(crate) fn stillness(
    opened: &OpenedManifest,
    images: &Root,
    (folder, manifest): (&str, &str),
    rules: &ManifestRules,
    writers: Option<&mut Writers>,
    notes: Option<&NameNotes<'_>>,
    name: &mut dyn FnMut(&str),
) -> Result<Stillness, Unready> {
    let mut look = NameLook {
        rules,
        images,
        near: NearNames::below(images),
        folder,
        notes,
        name,
        writers,
        still: Stillness::default(),
        signature: xxhash_rust::xxh3::Xxh3::new(),
        failure: None,
    };
    look.see(opened.file(), &opened.identity, manifest);
    let read = opened.read(&rules.limits.within(folder), &mut |reading| {
        if let Reading::Entry { entry, .. } = reading
            && let Err(error) = look.entry(&entry)
        {
            look.failure = Some(error);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    look.still.signature = look.signature.digest();
    if let Some(error) = look.failure {
        return Err(Unready::Queue(error));
    }
    match read {
        Ok(_) | Err(ReadError::Unusable(_) | ReadError::Cut(_) | ReadError::Stopped) => Ok(look.still),
        Err(ReadError::Io(error)) => Err(Unready::Io(error)),
    }
}

impl Stillness {
    /// Adds the files that are there and serve other manifests, as far as all manifests of the drop are known now.
    pub(super) fn add_in_use(&mut self, context: &DropContext<'_>) {
        let (first, count) = context.queue.awaited().in_use(&context.config.name, context.manifest, NAMED);
        let folder = crate::relative_path::parent(context.manifest);
        for in_use in &first {
            let written =
                in_use.path.strip_prefix(folder).map_or(in_use.path.as_str(), |path| path.trim_start_matches('/'));
            self.first_in_use.push(in_use_problem(in_use, written));
            if in_use.why == InUseReason::Replaced {
                self.first_replaced.push(written.to_owned());
            }
        }
        self.first_in_use.truncate(NAMED);
        self.in_use += count;
    }
}

#[cfg(test)]
mod tests {
    use super::{super::examine::open, *};

    #[test]
    fn a_manifest_whose_content_ends_before_its_size_is_not_taken_for_a_shorter_one() {
        let folder = tempfile::tempdir().unwrap();
        let line = "{\"profile_id\":\"a2c4393a-e219-67a4-5ab4-2186952e9038\",\"path\":\"a.pdf\"}\n";
        std::fs::write(folder.path().join("a.manifest.jsonl"), line.repeat(2)).unwrap();
        let root = Root::open(folder.path()).unwrap();
        let mut opened = open(&root, "a.manifest.jsonl", u64::MAX).unwrap();
        let rules = ManifestRules::of(None, 1 << 20, 0);
        let look = |opened: &OpenedManifest| {
            stillness(opened, &root, ("", "a.manifest.jsonl"), &rules, None, None, &mut |_| {})
        };
        assert_eq!(look(&opened).unwrap().missing, 2);
        // As a network mount may show it: the size is that of three lines, the third has not come.
        opened.identity.bytes = 3 * line.len() as u64;
        let error = look(&opened).unwrap_err();
        assert!(error.to_string().contains("ends after"), "{error}");
    }
}
