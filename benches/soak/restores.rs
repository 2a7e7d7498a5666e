//! Backups of the database that are put in its place later, as somebody does who follows bad advice.
//!
//! The worker must refuse each that is older than what was sent, send nothing, and go on after `adopt`. What `adopt` leaves
//! to a person is settled as a person does it who looks at the profile.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use passfort_ingest::sandbox::Dice;

use crate::ground::{Asked, Ground, asked, files};

/// Backups that are kept at most.
const KEPT: usize = 4;

/// The backups of a run.
pub struct Restores {
    kept: Vec<(PathBuf, u64)>,
    dice: Dice,
    number: u32,
    /// How often one was put in the database's place, and refused.
    pub refused: u32,
    /// Jobs that were left to a person.
    pub held: u64,
}

impl Restores {
    /// None so far.
    pub const fn new(seed: u64) -> Self {
        Self { kept: Vec::new(), dice: Dice::new(seed ^ 0x4241_434b), number: 0, refused: 0, held: 0 }
    }

    /// Copies the database, which nobody has open.
    pub fn keep(&mut self, ground: &Ground) -> Result<()> {
        self.number += 1;
        let folder = ground.at(&format!("backup-{}", self.number));
        fs::create_dir(&folder)?;
        copy(&ground.at("state/queue.db"), &folder.join("queue.db"))?;
        self.kept.push((folder, ground.calls()));
        if self.kept.len() > KEPT {
            let (folder, _) = self.kept.remove(1);
            fs::remove_dir_all(folder)?;
        }
        Ok(())
    }

    /// Puts one of them in the database's place, if anything was sent since.
    pub fn restore(&mut self, ground: &Ground) -> Result<()> {
        let older: Vec<&PathBuf> =
            self.kept.iter().filter(|(_, calls)| *calls < ground.calls()).map(|(folder, _)| folder).collect();
        let at = self.dice.draw().checked_rem(older.len() as u64).and_then(|at| usize::try_from(at).ok());
        let Some(earlier) = at.and_then(|at| older.get(at)) else { return Ok(()) };
        let database = ground.at("state/queue.db");
        for path in parts(&database) {
            fs::remove_file(path).ok();
        }
        copy(&earlier.join("queue.db"), &database)?;
        let before = ground.calls_when_quiet();
        let ended = ground.start(&["run", "--once"])?.wait()?;
        ensure!(ended.code() == Some(2), "an older database was not refused: {ended}\n{}", ground.last_words());
        ensure!(ground.calls() == before, "a database was refused, and something was sent");
        self.refused += 1;
        let ended = ground.start(&["adopt"])?.wait()?;
        ensure!(matches!(ended.code(), Some(0 | 1)), "`adopt` ended with {ended}\n{}", ground.last_words());
        move_back(ground)?;
        // What they hold is of another start from now on.
        for (folder, _) in self.kept.drain(..) {
            fs::remove_dir_all(folder)?;
        }
        self.release(ground)
    }

    /// Settles what is held, by what stands at the API.
    pub fn release(&mut self, ground: &Ground) -> Result<()> {
        let held = ground.json(&["jobs", "--state", "held", "--json", "--limit", "1000000"])?;
        let held = held.as_array().context("`jobs --json` is no array")?;
        if held.is_empty() {
            return Ok(());
        }
        let mut standing = HashMap::new();
        for document in ground.standing() {
            let images: Vec<String> = document.images.iter().map(|image| image.sha256.clone()).collect();
            standing.insert((document.profile, images), document.id);
        }
        for job in held {
            let number = job["reference"].as_str().and_then(|reference| reference.strip_prefix("document-"));
            let number = number.and_then(|number| number.parse().ok()).context("a held job without its reference")?;
            let Asked { profile, sha256, .. } = asked(number);
            let id = job["id"].to_string();
            let ended = match standing.get(&(profile, sha256)) {
                Some(document) => ground.start(&["release", &id, "--as-created", document])?.wait()?,
                None => ground.start(&["release", &id, "--send-again"])?.wait()?,
            };
            ensure!(ended.success(), "job {id} was not released: {}", ground.last_words());
            self.held += 1;
        }
        Ok(())
    }
}

/// Does what `adopt` asks for where a taking that the older database does not know was cut short.
#[expect(clippy::disallowed_methods, reason = "as a person does it")]
fn move_back(ground: &Ground) -> Result<()> {
    let words = fs::read_to_string(ground.words())?;
    for line in words.lines().filter_map(|line| line.split_once("not taken up: ")) {
        let Some((folder, _)) = line.1.split_once(": it has files and no manifest") else { continue };
        let mut taken = Vec::new();
        files(Path::new(folder), &mut taken)?;
        for path in taken {
            let back = ground.drop_folder().join(path.strip_prefix(folder)?);
            ensure!(!back.exists(), "{} was taken, and another file is in its place", back.display());
            fs::create_dir_all(back.parent().context("no folder")?)?;
            fs::rename(path, back)?;
        }
    }
    Ok(())
}

fn parts(database: &Path) -> [PathBuf; 3] {
    ["", "-wal", "-shm"].map(|end| PathBuf::from(format!("{}{end}", database.display())))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    for (from, to) in parts(from).iter().zip(parts(to)).take(2) {
        if from.exists() {
            fs::copy(from, to)?;
        }
    }
    Ok(())
}
