//! Worlds: what the API, its gateway, and the ground do on a day beyond what goes wrong on every day.
//!
//! Each day has one. All that comes late stays inside the bound that the day is configured with: a deed follows at most
//! [`LIVES_MS`] after the end of its call, and a document stays out of lists for at most [`LAG_MS`].
//!
//! `PASSFORT_INGEST_WORLDS=lists,late` tries only these; by default, or with `all`, every world is tried.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use passfort_ingest::sandbox::{ImageIds, LedgerEntry, ListFault, Options};
use rustix::fs::{AtFlags, CWD, linkat};
use serde_json::Value;

use super::{
    Dice,
    asked::{Asked, REFUSED},
    day::Day,
};
use crate::support::{Daemon, profile, wait_until};

/// The longest that a deed may come after the end of its call; a machine under load adds to it.
const LIVES_MS: u32 = 1300;

/// The longest that a created document stays out of the lists.
const LAG_MS: u32 = 400;

/// The key of a day on which it must not be found anywhere.
const SECRET: &str = "pf-key-4711-that-nobody-may-ever-see";

/// What a refusal says of a person on such a day.
const PERSON: &str = "Mustermann";

/// What is special about a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum World {
    /// Nothing.
    Plain,
    /// Lists of documents are odd.
    Lists,
    /// Deeds come after their clients have gone.
    Late,
    /// Errors come after the deed, and lists are behind.
    Behind,
    /// A 200 has errors, and the document was created.
    Errors,
    /// An error has the ID of what was created beside it.
    Ids,
    /// The same content is the same image.
    Equal,
    /// The database is restored, deleted, or copied.
    Restore,
    /// A second worker comes by a link, or after the lock's file was removed.
    Links,
    /// A gateway answers in the place of the API.
    Gateway,
    /// A gateway asks to come again tomorrow.
    Maintenance,
    /// Refusals quote the key and a person.
    Quotes,
}

impl World {
    pub(super) const ALL: [(&str, Self); 12] = [
        ("plain", Self::Plain),
        ("lists", Self::Lists),
        ("late", Self::Late),
        ("behind", Self::Behind),
        ("errors", Self::Errors),
        ("ids", Self::Ids),
        ("equal", Self::Equal),
        ("restore", Self::Restore),
        ("links", Self::Links),
        ("gateway", Self::Gateway),
        ("maintenance", Self::Maintenance),
        ("quotes", Self::Quotes),
    ];

    /// The world of a seed.
    pub(super) fn of(seed: u64) -> Self {
        let asked = std::env::var("PASSFORT_INGEST_WORLDS").unwrap_or_default();
        let known = |word: &str| {
            let found = Self::ALL.iter().find(|(known, _)| *known == word);
            found.unwrap_or_else(|| panic!("PASSFORT_INGEST_WORLDS: there is no '{word}' in {:?}", Self::ALL)).1
        };
        let among: Vec<Self> = match asked.as_str() {
            "" | "all" => Self::ALL.iter().map(|(_, world)| *world).collect(),
            words => words.split(',').map(known).collect(),
        };
        Dice::new(seed ^ 0x0077_6f72_6c64).pick(&among)
    }

    pub(super) fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, world)| *world == self).unwrap().0
    }

    pub(super) fn sandbox(self) -> Options {
        let mut options = Options::default();
        if self == Self::Equal {
            options.image_ids = ImageIds::ByContent;
        }
        if self == Self::Quotes {
            options.keys = vec![SECRET.to_owned()];
        }
        options
    }

    /// Whether senders have names and contents of their own, so that it is certain what must come of everything.
    pub(super) const fn is_strict(self) -> bool {
        matches!(self, Self::Equal | Self::Restore | Self::Links)
    }

    /// What is asked of the API for the profile that it refuses everything for.
    pub(super) const fn refusal(self) -> &'static str {
        if matches!(self, Self::Quotes) { "quote-person" } else { "status-before:422" }
    }
}

/// A copy of the database, and how much had been sent when it was made.
pub(super) struct Backup {
    folder: PathBuf,
    sent: usize,
}

/// What a world does.
impl Day {
    /// The rules of this day's world, from now on; they come before all others.
    pub(super) fn make_world(&mut self) {
        let dice = &mut self.dice;
        let late = LIVES_MS - dice.below(500);
        let mut rules: Vec<String> = match self.policy.world {
            World::Plain | World::Links => Vec::new(),
            World::Restore => {
                if dice.one_in(2) {
                    vec![lost(dice)]
                } else {
                    Vec::new()
                }
            }
            World::Lists => {
                let stale = ("stale", LAG_MS);
                // A first page without any sign, on which all is that is known, cannot be told from a whole list.
                let odd: Vec<&str> =
                    ListFault::KNOWN.iter().map(|(word, _)| *word).filter(|word| *word != "page").collect();
                let list = match dice.below(8) {
                    0 => format!("{}:{}ms", stale.0, stale.1),
                    _ => format!("list:{}", dice.pick(&odd)),
                };
                let share = dice.pick(&["p=0.6", "p=1"]);
                vec![format!("read_documents={list},{share}"), lost(dice)]
            }
            World::Late => {
                let how = match dice.below(4) {
                    0 => format!("late:{late}ms"),
                    1 => format!("late:{late}ms/504"),
                    2 => format!("late:{late}ms/500/501"),
                    // The client goes after a second.
                    _ => format!("late-hang:{}ms", 1000 + late),
                };
                let when = if how.starts_with("late-hang") { "times=6" } else { "p=0.6" };
                vec![format!("create_document={how},{when}"), format!("upload_image=late:{late}ms,p=0.1")]
            }
            World::Behind => {
                let how = match dice.below(4) {
                    0 => "status-after:500/501".to_owned(),
                    1 => "garbled".to_owned(),
                    2 => "lost".to_owned(),
                    _ => format!("late:{late}ms/502/302"),
                };
                vec![format!("create_document={how},p=0.6")]
            }
            World::Errors => {
                let code = dice.pick(&[301, 302, 303, 401, 402, 501, 502, 999]);
                vec![format!("create_document=errors200-after:{code},p=0.6")]
            }
            World::Ids => {
                let kind = dice.pick(&["400/201", "422/102", "200/201", "200/301", "409/999", "500/501"]);
                vec![format!("create_document=errors-id:{kind},p=0.4")]
            }
            World::Equal => vec![lost(dice)],
            World::Gateway => {
                let how = dice.pick(&["gateway:404", "gateway-json:404", "gateway:400", "gateway-json:422"]);
                let call = dice.pick(&["any", "create_document", "upload_image"]);
                vec![format!("{call}={how},{}", dice.pick(&["for=700ms", "p=0.3", "first=12"]))]
            }
            World::Maintenance => vec![format!("any=maintenance:86400,{}", dice.pick(&["times=2", "p=0.1,times=6"]))],
            World::Quotes => vec!["any=quote-key,p=0.1,times=3".to_owned()],
        };
        if matches!(self.policy.world, World::Late | World::Behind | World::Errors | World::Ids) && self.dice.one_in(2)
        {
            rules.push("read_documents=status-before:503,p=0.3".to_owned());
        }
        if self.policy.world == World::Behind {
            self.site.sandbox().set_visible_after(Duration::from_millis(u64::from(LAG_MS - self.dice.below(3) * 20)));
        }
        if !rules.is_empty() {
            self.note(format!("world: {rules:?}"));
        }
        self.world_rules = rules;
    }

    /// Whether the world goes on in this round of the evening; afterwards all is well there too.
    pub(super) fn world_lasts(&self, round: u32) -> bool {
        round < 3 && !self.world_rules.is_empty()
    }

    /// All is well again at the API, and everything that was still to come is done.
    pub(super) fn end_world(&mut self) {
        self.world_rules.clear();
        self.site.sandbox().set_visible_after(Duration::ZERO);
        wait_until("late deeds are done", || self.site.summary().deferred == 0);
    }

    /// Something that only happens in this world; whether anything does.
    pub(super) fn world_step(&mut self) -> bool {
        match self.policy.world {
            World::Restore if self.dice.one_in(5) => match self.dice.below(7) {
                0..=1 if self.backups.len() < 3 => self.keep_backup(),
                2 => self.lose_database(),
                3 => self.clone_worker(),
                _ if self.backups.is_empty() => self.keep_backup(),
                _ => self.restore_backup(),
            },
            World::Links if self.dice.one_in(8) => self.second_worker(),
            World::Ids if self.dice.one_in(12) => self.command(&["retry", "--all"]),
            _ => return false,
        }
        true
    }

    /// Another entry with the images of one that is known, in a world where they are the same images.
    pub(super) fn equal_entry(&mut self, known: &Asked, number: u32) -> Asked {
        let mut entry = known.clone();
        entry.reference = Some(format!("entry-{number}"));
        for (at, scan) in entry.scans.iter_mut().enumerate() {
            scan.path = format!("equal-{number}-{at}.{}", scan.path.rsplit('.').next().unwrap());
        }
        if self.dice.one_in(3) {
            entry.category = Some("PROOF_OF_TAX_STATUS");
        }
        entry
    }
}

fn lost(dice: &mut Dice) -> String {
    format!("create_document={},p=0.5", dice.pick(&["lost", "lost", "cut", "status-after:502"]))
}

/// Restores and copies.
impl Day {
    fn database(&self) -> PathBuf {
        self.site.at("state/queue.db")
    }

    /// Everything that was sent, whether an answer came or not.
    fn sent(&self) -> usize {
        self.site.ledger().iter().filter(|call| call.method == "POST").count()
    }

    /// Ends the worker, in one way or the other.
    fn rest(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            if self.dice.one_in(2) {
                self.ended(daemon.terminate());
            } else {
                self.kills += 1;
                daemon.kill();
            }
        }
    }

    fn keep_backup(&mut self) {
        self.rest();
        if !self.database().exists() {
            return;
        }
        let folder = self.site.at(&format!("backup-{}", self.diary.len()));
        fs::create_dir(&folder).unwrap();
        copy_database(&self.database(), &folder.join("queue.db"));
        let backup = Backup { folder, sent: self.sent() };
        self.note(format!("copied the database, {} calls", backup.sent));
        self.backups.push(backup);
    }

    fn restore_backup(&mut self) {
        self.rest();
        if self.backups.is_empty() {
            return;
        }
        let at = self.dice.below(u32::try_from(self.backups.len()).unwrap()) as usize;
        let (from, before) = (self.backups[at].folder.join("queue.db"), self.backups[at].sent);
        remove_database(&self.database());
        copy_database(&from, &self.database());
        self.note(format!("restored the database of {before} calls, after {}", self.sent()));
        let is_old = self.sent() > before;
        self.start_on_other_database("an older database", is_old);
    }

    fn lose_database(&mut self) {
        self.rest();
        remove_database(&self.database());
        self.note("deleted the database");
        let is_lost = self.sent() > 0;
        self.start_on_other_database("a new database", is_lost);
    }

    /// Starts the worker where its database may be another one than before.
    fn start_on_other_database(&mut self, what: &str, must_refuse: bool) {
        let before = self.sent();
        let finished = self.run(&["run", "--once", "--give-up-after", "2s"]);
        if finished.code == Some(2) {
            assert_eq!(self.sent(), before, "it refuses, and sends: {}", finished.said());
            self.note(format!("refused {what}"));
            self.backups.clear();
            // It asks whose the key is, and does nothing where it gets no answer.
            self.set_faults(&[]);
            let adopted = self.run(&["adopt"]);
            assert!(adopted.code.is_some_and(|code| code <= 3), "adopt: {}", adopted.said());
            self.note(format!("adopt ended with {}", adopted.code.unwrap()));
        } else if must_refuse {
            self.note(format!("did not refuse {what}"));
            self.objections.push(format!("{what} was worked with: exit {:?}", finished.code));
        }
    }

    /// Runs a copy of the database beside the worker.
    fn clone_worker(&mut self) {
        self.rest();
        if !self.database().exists() || self.sent() == 0 {
            return;
        }
        let copy = self.site.at("state/clone.db");
        remove_database(&copy);
        copy_database(&self.database(), &copy);
        self.beside(&copy, "a copy of the database");
    }

    /// Starts a second worker on the same database by another name.
    fn second_worker(&mut self) {
        if !self.database().exists() {
            return;
        }
        let (link, lock) = (self.site.at("state/link.db"), self.site.at("state/queue.db.lock"));
        remove_database(&link);
        let how = self.dice.pick(&["a hard link", "a symbolic link", "the database without its lock file"]);
        match how {
            "a hard link" => linkat(CWD, self.database(), CWD, &link, AtFlags::empty()).unwrap(),
            "a symbolic link" => std::os::unix::fs::symlink(self.database(), &link).unwrap(),
            _ => {}
        }
        let by_link = link.symlink_metadata().is_ok();
        self.beside(&if by_link { link } else { self.database() }, how);
        if !by_link {
            fs::remove_file(lock).ok();
        }
    }

    /// Runs a second worker on this database, beside the first.
    fn beside(&mut self, database: &Path, what: &str) {
        if !self.works() {
            self.dies_at = None;
            self.daemon = Some(Daemon::start(self.command_of(&["run"]), &self.site.at("log")));
            wait_until("the first worker works", || {
                let status = self.run(&["status", "--json"]).stdout;
                let status: Value = serde_json::from_str(&status).unwrap_or_default();
                status["daemon"].is_object() || !self.works()
            });
        }
        if what.contains("without") {
            fs::remove_file(self.site.at("state/queue.db.lock")).ok();
        }
        let config = fs::read_to_string(self.site.at("config.toml")).unwrap();
        let (own, other) = (self.database().display().to_string(), database.display().to_string());
        self.site.write("second.toml", config.replace(&format!("'{own}'"), &format!("'{other}'")));
        let second = self.site.command_by("second.toml", &["run", "--once", "--give-up-after", "2s"]);
        let finished = self.site.finish(second);
        let refused = if finished.code == Some(2) { "refused" } else { "did not refuse" };
        self.note(format!("{refused} {what}"));
        // The first may have come to the place where it is to die.
        if finished.code != Some(2) && self.works() {
            self.objections.push(format!("a second worker by {what} was let work: {}", finished.said()));
        }
    }
}

/// What a day of a world must have led to.
impl Day {
    /// Nothing secret is written down anywhere, and nothing personal in the log.
    pub(super) fn assert_nothing_is_said(&self) {
        if self.policy.world != World::Quotes {
            return;
        }
        let has = |path: &Path, words: &str| {
            let bytes = fs::read(path).unwrap();
            bytes.windows(words.len()).any(|window| window == words.as_bytes())
        };
        for folder in ["log", "state", "drop"] {
            let listing = fs::read_dir(self.site.at(folder)).unwrap();
            let files = listing.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
            for path in files {
                assert!(!has(&path, SECRET), "the key is in {}", path.display());
                let is_log = path.extension().is_some_and(|extension| extension == "err");
                assert!(!is_log || !has(&path, PERSON), "a person is in {}", path.display());
            }
        }
        for file in self.site.files().iter().filter(|file| file.starts_with("receipts/")) {
            assert!(!has(&self.site.in_drop(file), SECRET), "the key is in {file}");
        }
    }

    /// The key that the day's commands are given.
    pub(super) const fn key(world: World) -> Option<&'static str> {
        if matches!(world, World::Quotes) { Some(SECRET) } else { None }
    }

    /// Whether an answer to this call leaves open what it did.
    pub(super) fn is_open(call: &LedgerEntry) -> bool {
        call.fault.is_some() && (!call.committed || !call.answered)
    }

    /// The rules for the profile that nothing is taken for, then those of the world.
    pub(super) fn standing_rules(&self) -> Vec<String> {
        let (refused, kind) = (profile(REFUSED), self.policy.world.refusal());
        let document = if self.policy.refuses_documents { "create_document" } else { "upload_image" };
        let refusals = [document, "upload_file"].map(|call| format!("{call}={kind},profile={refused}"));
        refusals.into_iter().chain(self.world_rules.iter().cloned()).collect()
    }
}

fn parts(database: &Path) -> [PathBuf; 3] {
    ["", "-wal", "-shm"].map(|end| PathBuf::from(format!("{}{end}", database.display())))
}

/// Copies a database that nobody has open.
fn copy_database(from: &Path, to: &Path) {
    for (from, to) in parts(from).iter().zip(parts(to)).take(2) {
        if from.exists() {
            fs::copy(from, to).unwrap();
        }
    }
}

fn remove_database(database: &Path) {
    for path in parts(database) {
        fs::remove_file(path).ok();
    }
}
