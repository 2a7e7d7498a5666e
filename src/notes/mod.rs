//! Texts for people beside the receipts of a drop while its manifests are under way: `<manifest>.waiting.txt` and
//! `<manifest>.taken.txt`.
//!
//! What is to be there is compared with what the queue knows to be there, so that each pass puts right what a kill, a full disk
//! or a lost mount left. A text is noted before it is written. Nothing is written outside `receipts_dir`, no link below the drop
//! is followed, and a file that is not ours keeps its name. Where a text cannot be written, work continues without it.
//!
//! Everything here blocks.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::{Path, PathBuf},
};

use crate::{
    clock::Timestamp,
    config::DropConfig,
    durable::{self, Access, Folder, OwnText},
    inbox::{archive, beneath::Root, ground},
    manifest_wait::ScanWait,
    partner_text::{self, OWN_LINE},
    queue::{
        Queue, QueueError, Reader,
        partner_notes::{DueNotes, DueTaking, DueWait, KnownNote, NoteKey, NoteKind},
    },
    relative_path,
};

/// Texts of each kind that a pass writes at most, and those of them that share a commit.
const AT_ONCE: u32 = 2048;
const OF_COMMIT: usize = 256;

/// Where the texts of a drop are put.
#[derive(Debug, Clone, PartialEq, Eq)]
struct NotePlace {
    /// The drop's folder.
    root: PathBuf,
    receipts_dir: PathBuf,
    mode: u32,
    group: Option<String>,
}

/// A text that is to be there.
#[derive(Debug)]
struct NewNote {
    key: NoteKey,
    about: i64,
    place: NotePlace,
    text: String,
    /// The one that it replaces.
    known: Option<KnownNote>,
}

/// What is due in one drop.
#[derive(Debug, Default)]
pub struct DropNotes {
    new: Vec<NewNote>,
    over: Vec<KnownNote>,
}

/// What is due, by drop. `before`: what began later is not due yet. `in_line` has what only the scans know, of each drop.
///
/// # Errors
///
/// Those of the queue.
pub fn due(
    reader: &Reader,
    drops: &[DropConfig],
    before: Timestamp,
    in_line: &dyn Fn(&str) -> Vec<ScanWait>,
) -> Result<HashMap<String, DropNotes>, QueueError> {
    let folders: Vec<PathBuf> = drops.iter().map(DropConfig::receipts_folder).collect();
    let names: Vec<(&str, &Path)> =
        drops.iter().zip(&folders).map(|(drop, folder)| (drop.name.as_str(), folder.as_path())).collect();
    let DueNotes { waits, takings, over } = reader.due_notes(&names, before, AT_ONCE)?;
    let mut due: HashMap<String, DropNotes> = HashMap::new();
    let mut scanned = HashSet::new();
    for drop in drops {
        let mut new = Vec::new();
        for ScanWait { manifest, wait, since } in in_line(&drop.name) {
            let advice = wait.for_sender();
            let about = since.0.wrapping_add(xxhash_rust::xxh3::xxh3_64(advice.waits_for.as_bytes()).cast_signed());
            scanned.insert((drop.name.clone(), manifest.clone()));
            if new.len() >= AT_ONCE as usize {
                continue;
            }
            let (known, said) = reader.wait_note(&drop.name, &manifest)?;
            if said != Some(about) {
                new.push(of_wait(DueWait { drop: drop.name.clone(), manifest, about, since, advice, known }, drop));
            }
        }
        if !new.is_empty() {
            due.entry(drop.name.clone()).or_default().new = new;
        }
    }
    for wait in waits {
        let Some(drop) = drops.iter().find(|drop| drop.name == wait.drop) else { continue };
        if !scanned.contains(&(wait.drop.clone(), wait.manifest.clone())) {
            due.entry(wait.drop.clone()).or_default().new.push(of_wait(wait, drop));
        }
    }
    for taking in takings {
        due.entry(taking.drop.clone()).or_default().new.push(of_taking(taking));
    }
    for note in over {
        let NoteKey { drop, manifest, kind } = &note.key;
        if *kind == NoteKind::Taken || !scanned.contains(&(drop.clone(), manifest.clone())) {
            due.entry(drop.clone()).or_default().over.push(note);
        }
    }
    Ok(due)
}

fn of_wait(wait: DueWait, drop: &DropConfig) -> NewNote {
    let DueWait { drop: name, manifest, about, since, advice, known } = wait;
    let text = partner_text::waiting(&manifest, since, &advice);
    let place = NotePlace {
        root: drop.path.clone(),
        receipts_dir: drop.receipts_folder(),
        mode: drop.receipt_mode,
        group: drop.receipt_group.clone(),
    };
    NewNote { key: NoteKey { drop: name, manifest, kind: NoteKind::Waiting }, about, place, text, known }
}

fn of_taking(taking: DueTaking) -> NewNote {
    let text = partner_text::taken(&taking.manifest, taking.received_at, taking.entries);
    NewNote {
        key: NoteKey { drop: taking.drop, manifest: taking.manifest, kind: NoteKind::Taken },
        about: taking.batch_id,
        place: NotePlace {
            root: taking.root,
            receipts_dir: taking.receipts_dir,
            mode: taking.receipt_mode,
            group: taking.receipt_group,
        },
        text,
        known: taking.known,
    }
}

/// Writes what is to be there and removes what is over, in this order: of a manifest that is taken, one of the two texts is
/// always there.
///
/// # Errors
///
/// Those of the queue, and the first of the folder's, with path; what can be done is done all the same.
pub fn put_right(queue: &Queue, notes: DropNotes) -> Result<io::Result<()>, QueueError> {
    let DropNotes { mut new, mut over } = notes;
    let mut first = Ok(());
    while !new.is_empty() || !over.is_empty() {
        let rest = new.split_off(new.len().min(OF_COMMIT));
        let now = std::mem::replace(&mut new, rest);
        let rest = over.split_off(if now.is_empty() { over.len().min(OF_COMMIT) } else { 0 });
        let done = put_right_some(queue, now, std::mem::replace(&mut over, rest))?;
        first = first.and(done);
    }
    Ok(first)
}

fn put_right_some(queue: &Queue, new: Vec<NewNote>, over: Vec<KnownNote>) -> Result<io::Result<()>, QueueError> {
    let (mut planned, mut to_write, mut failure) = (Vec::new(), Vec::new(), Ok(()));
    let mut note_failure = |error: io::Error| {
        if failure.is_ok() {
            failure = Err(error);
        }
    };
    let (mut written, mut gone) = (Vec::new(), Vec::new());
    for note in new {
        let NotePlace { root, receipts_dir, .. } = note.place.clone();
        let named = name_of(&note);
        let in_the_way = named.as_ref().is_err_and(is_in_the_way);
        match named {
            Ok(name) => {
                planned.push(KnownNote { key: note.key.clone(), root, receipts_dir, name: name.clone() });
                to_write.push((note, name));
            }
            // Whoever put something in the way has no text.
            Err(_) if in_the_way => {
                planned.push(KnownNote { key: note.key.clone(), root, receipts_dir, name: String::new() });
                written.push((note.key, note.about));
            }
            Err(error) => note_failure(error),
        }
    }
    if !planned.is_empty() {
        queue.plan_notes(planned)?;
    }
    for (note, name) in to_write {
        let own = OwnText { text: &note.text, own_line: OWN_LINE };
        let put = folder_of(&note).and_then(|(folder, access)| folder.put_own(&name, access, own));
        match put {
            Ok(()) => written.push((note.key, note.about)),
            Err(error) if is_in_the_way(&error) => written.push((note.key, note.about)),
            Err(error) => note_failure(error),
        }
    }
    for note in over {
        let removed = remove(&note);
        match removed {
            Ok(()) => gone.push(note.key),
            Err(error) if is_in_the_way(&error) || error.kind() == io::ErrorKind::NotFound => gone.push(note.key),
            Err(error) => note_failure(error),
        }
    }
    if !written.is_empty() || !gone.is_empty() {
        queue.notes_done(written, gone)?;
    }
    Ok(failure)
}

const fn ending(kind: NoteKind) -> &'static str {
    match kind {
        NoteKind::Waiting => ".waiting.txt",
        NoteKind::Taken => ".taken.txt",
    }
}

/// The name of a text: that of the one that it replaces, or one that nobody else has. One in another folder is removed.
fn name_of(note: &NewNote) -> io::Result<String> {
    match &note.known {
        Some(known) if known.receipts_dir == note.place.receipts_dir && !known.name.is_empty() => {
            return Ok(known.name.clone());
        }
        Some(known) => remove(known)?,
        None => {}
    }
    let name = durable::fit(relative_path::name(&note.key.manifest), ending(note.key.kind));
    folder_of(note)?.0.name_for_own(&name, OWN_LINE)
}

/// The folder of a text, made where it is missing, and who may read what is in it.
fn folder_of(note: &NewNote) -> io::Result<(Folder, Access)> {
    let NotePlace { root, receipts_dir, mode, group } = &note.place;
    let group = group.as_deref().map(durable::group_of).transpose().map_err(io::Error::other)?;
    let access = Access { mode: *mode, group };
    Ok((open_folder(root, receipts_dir, &note.key, access)?, access))
}

fn open_folder(root: &Path, receipts_dir: &Path, key: &NoteKey, access: Access) -> io::Result<Folder> {
    if let Some(fault) = ground::is_link(root) {
        return Err(io::Error::other(fault.to_string()));
    }
    let root = Root::open(root)?;
    archive::folder_for(&root, receipts_dir, access)?.child_for(relative_path::parent(&key.manifest), access)
}

/// Removes a text, and what a kill left of it, where it is ours.
fn remove(note: &KnownNote) -> io::Result<()> {
    let below = note.receipts_dir.join(relative_path::parent(&note.key.manifest));
    if note.name.is_empty() || !below.try_exists()? {
        return Ok(());
    }
    let folder = open_folder(&note.root, &note.receipts_dir, &note.key, Access::of_mode(0))?;
    folder.remove_own(&note.name, OWN_LINE)?;
    folder.remove_own_draft(&note.name)
}

/// Whether somebody has put something in the place of a text or its folder, which only they can take away.
fn is_in_the_way(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AlreadyExists
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::InvalidFilename
    ) || error.kind() == io::Error::from(rustix::io::Errno::LOOP).kind()
}
