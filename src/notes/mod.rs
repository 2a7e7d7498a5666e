//! Texts for people beside the receipts of a drop while its manifests are under way: `<manifest>.waiting.txt` and
//! `<manifest>.taken.txt`.
//!
//! What is to be there is compared with what the queue knows to be there, so that each pass puts right what a kill, a full disk
//! or a lost mount left. A text is noted before it is written. Nothing is written outside `receipts_dir`, no link below the drop
//! is followed, and a file that is not ours keeps its name. Where a text cannot be written, work goes on without it.
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

/// Texts of each kind that a pass writes at most.
const AT_ONCE: u32 = 256;

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
    let names: Vec<&str> = drops.iter().map(|drop| drop.name.as_str()).collect();
    let DueNotes { waits, takings, over } = reader.due_notes(&names, before, AT_ONCE)?;
    let mut due: HashMap<String, DropNotes> = HashMap::new();
    let mut scanned = HashSet::new();
    for drop in drops {
        let mut new = Vec::new();
        for ScanWait { manifest, wait, since } in in_line(&drop.name) {
            let advice = wait.for_sender();
            let about = since.0.wrapping_add(xxhash_rust::xxh3::xxh3_64(advice.waits_for.as_bytes()).cast_signed());
            scanned.insert((drop.name.clone(), manifest.clone()));
            if new.len() < AT_ONCE as usize && reader.wait_note(&drop.name, &manifest)? != Some(about) {
                new.push(of_wait(DueWait { drop: drop.name.clone(), manifest, about, since, advice }, drop));
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
    let DueWait { drop: name, manifest, about, since, advice } = wait;
    let text = partner_text::waiting(&manifest, since, &advice);
    let place = NotePlace {
        root: drop.path.clone(),
        receipts_dir: drop.receipts_folder(),
        mode: drop.receipt_mode,
        group: drop.receipt_group.clone(),
    };
    NewNote { key: NoteKey { drop: name, manifest, kind: NoteKind::Waiting }, about, place, text }
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
    }
}

/// Writes what is to be there and removes what is over, in this order: of a manifest that is taken, one of the two texts is
/// always there.
///
/// # Errors
///
/// Those of the queue, and the first of the folder's, with path; what can be done is done all the same.
pub fn put_right(queue: &Queue, notes: DropNotes) -> Result<io::Result<()>, QueueError> {
    let (mut planned, mut opened, mut failure) = (Vec::new(), Vec::new(), Ok(()));
    let mut note_failure = |error: io::Error| {
        if failure.is_ok() {
            failure = Err(error);
        }
    };
    let (mut written, mut gone) = (Vec::new(), Vec::new());
    for note in notes.new {
        let access = access_of(&note.place);
        let folder = access
            .and_then(|access| Ok((folder_of(&note.place.root, &note.place.receipts_dir, &note.key, access)?, access)));
        let named = folder.and_then(|(folder, access)| {
            let name = durable::fit(relative_path::name(&note.key.manifest), ending(note.key.kind));
            Ok((folder.name_for_own(&name, OWN_LINE)?, folder, access))
        });
        match named {
            Ok((name, folder, access)) => {
                let NotePlace { root, receipts_dir, .. } = note.place.clone();
                planned.push(KnownNote { key: note.key.clone(), root, receipts_dir, name: name.clone() });
                opened.push((note, folder, access, name));
            }
            // Whoever put something in the way has no text.
            Err(error) if is_in_the_way(&error) => {
                let NotePlace { root, receipts_dir, .. } = note.place;
                planned.push(KnownNote { key: note.key.clone(), root, receipts_dir, name: String::new() });
                written.push((note.key, note.about));
            }
            Err(error) => note_failure(error),
        }
    }
    if !planned.is_empty() {
        queue.plan_notes(planned)?;
    }
    for (note, folder, access, name) in opened {
        match folder.put_own(&name, access, OwnText { text: &note.text, own_line: OWN_LINE }) {
            Ok(()) => written.push((note.key, note.about)),
            Err(error) if is_in_the_way(&error) => written.push((note.key, note.about)),
            Err(error) => note_failure(error),
        }
    }
    for note in notes.over {
        let removed = existing_folder(&note).and_then(|folder| {
            let Some(folder) = folder.filter(|_| !note.name.is_empty()) else { return Ok(()) };
            folder.remove_own(&note.name, OWN_LINE)?;
            folder.remove_own_draft(&note.name)
        });
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

fn access_of(place: &NotePlace) -> io::Result<Access> {
    let group = place.group.as_deref().map(durable::group_of).transpose().map_err(io::Error::other)?;
    Ok(Access { mode: place.mode, group })
}

/// The folder of a manifest's texts, made where it is missing.
fn folder_of(root: &Path, receipts_dir: &Path, key: &NoteKey, access: Access) -> io::Result<Folder> {
    if let Some(fault) = ground::is_link(root) {
        return Err(io::Error::other(fault.to_string()));
    }
    let root = Root::open(root)?;
    archive::folder_for(&root, receipts_dir, access)?.child_for(relative_path::parent(&key.manifest), access)
}

/// The same where nothing is made; `None` where there is none.
fn existing_folder(note: &KnownNote) -> io::Result<Option<Folder>> {
    let below = note.receipts_dir.join(relative_path::parent(&note.key.manifest));
    match below.try_exists() {
        Ok(false) => Ok(None),
        Ok(true) => folder_of(&note.root, &note.receipts_dir, &note.key, Access::of_mode(0)).map(Some),
        Err(error) => Err(error),
    }
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
