//! Senders who use the same names for every batch, and change what lies there until its manifest comes, and once it has gone.
//!
//! Each has a folder and puts the next batch as soon as the manifest of the one before has left the drop, which is all that
//! a sender sees of a taking. In between, under the same names, it puts pictures of customers whose turn never comes.

use std::{
    collections::VecDeque,
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use anyhow::Result;
use serde_json::{Value, json};

use crate::ground::{Asked, asked, content, images};

/// Senders that work at the same time.
const SENDERS: u32 = 6;

/// All that put something.
pub struct Senders {
    all: Vec<Sender>,
    /// Names that were given to another file than the first.
    pub names_reused: u64,
}

struct Sender {
    drop: PathBuf,
    name: String,
    batches: VecDeque<Range<u32>>,
    /// How many it has put.
    put: u32,
    /// The batch that lies there.
    lying: Option<Range<u32>>,
    names_reused: u64,
}

impl Senders {
    /// They will put all documents.
    pub fn new(drop: &Path, documents: u32, per_manifest: u32) -> Self {
        let numbers = (0..documents).step_by(per_manifest as usize);
        let batches: Vec<Range<u32>> =
            numbers.map(|first| first..first.saturating_add(per_manifest).min(documents)).collect();
        let sender = |number: u32| Sender {
            drop: drop.to_owned(),
            name: format!("sender-{number}"),
            batches: batches.iter().skip(number as usize).step_by(SENDERS as usize).cloned().collect(),
            put: 0,
            lying: None,
            names_reused: 0,
        };
        Self { all: (0..SENDERS).map(sender).collect(), names_reused: 0 }
    }

    /// Each puts its next batch, if the one before has been taken, and none but documents below this number.
    pub fn go_on(&mut self, below: u32) -> Result<()> {
        for sender in &mut self.all {
            sender.go_on(below)?;
        }
        self.names_reused = self.all.iter().map(|sender| sender.names_reused).sum();
        Ok(())
    }

    /// Whether all was put.
    pub fn have_put_all(&self) -> bool {
        self.all.iter().all(|sender| sender.batches.is_empty())
    }
}

impl Sender {
    fn manifest(&self) -> PathBuf {
        self.drop.join(format!("{}.manifest.jsonl", self.name))
    }

    fn go_on(&mut self, below: u32) -> Result<()> {
        if self.manifest().exists() {
            return Ok(());
        }
        if let Some(taken) = self.lying.take().filter(|_| !self.batches.is_empty()) {
            // Whatever was taken waits to be sent now.
            self.put_others(taken)?;
        }
        if self.batches.front().is_some_and(|next| next.start < below)
            && let Some(next) = self.batches.pop_front()
        {
            self.put_batch(next.clone())?;
            self.lying = Some(next);
            self.put += 1;
        }
        Ok(())
    }

    /// The names of a batch's images, and what belongs there.
    fn named(&self, batch: Range<u32>) -> Vec<(PathBuf, Vec<u8>)> {
        let mut named = Vec::new();
        for (position, number) in (0..).zip(batch) {
            for at in 0..images(number) {
                named.push((self.drop.join(self.path(position, at)), content(number, at)));
            }
        }
        named
    }

    fn path(&self, position: u32, at: u32) -> String {
        format!("{}/{position:02}-{at}.pdf", self.name)
    }

    /// Puts pictures of other customers under these names.
    fn put_others(&mut self, batch: Range<u32>) -> Result<()> {
        for (path, right) in self.named(batch) {
            fs::create_dir_all(path.parent().unwrap_or(&self.drop))?;
            let other = [right.as_slice(), b"% of another customer\n%%EOF\n"].concat();
            fs::write(&path, other)?;
            self.names_reused += 1;
        }
        Ok(())
    }

    /// Puts a batch, in the place of whatever lies there.
    fn put_batch(&mut self, batch: Range<u32>) -> Result<()> {
        let mut lines = String::new();
        for (position, number) in (0..).zip(batch.clone()) {
            lines.push_str(&self.line(position, number).to_string());
            lines.push('\n');
        }
        let files = self.named(batch);
        self.names_reused += if self.put == 0 { 0 } else { files.len() as u64 };
        fs::create_dir_all(self.drop.join(&self.name))?;
        let manifest_first = self.put.is_multiple_of(4);
        if manifest_first {
            // So that nothing else may lie there any longer.
            fs::remove_dir_all(self.drop.join(&self.name))?;
            fs::write(self.manifest(), &lines)?;
        }
        for (path, right) in files {
            fs::create_dir_all(path.parent().unwrap_or(&self.drop))?;
            match self.put % 4 {
                2 => {
                    let temporary = path.with_extension("tmp");
                    fs::write(&temporary, right)?;
                    rename(&temporary, &path)?;
                }
                3 => {
                    fs::remove_file(&path).ok();
                    fs::write(&path, right)?;
                }
                _ => fs::write(&path, right)?,
            }
        }
        if !manifest_first {
            fs::write(self.manifest(), &lines)?;
        }
        Ok(())
    }

    fn line(&self, position: u32, number: u32) -> Value {
        let images: Vec<Value> = (0..images(number)).map(|at| json!({ "path": self.path(position, at) })).collect();
        let Asked { reference, profile, .. } = asked(number);
        json!({
            "profile_id": profile, "reference": reference, "category": "PROOF_OF_IDENTITY",
            "document_type": "PASSPORT", "images": images,
        })
    }
}

/// Renames as a sender does, over what is there.
#[expect(clippy::disallowed_methods, reason = "as a sender does it")]
fn rename(from: &Path, to: &Path) -> Result<()> {
    Ok(fs::rename(from, to)?)
}
