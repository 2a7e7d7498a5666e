//! Cuts the power at every step of a recorded run, many times, and looks at what is left.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::Path,
    sync::Arc,
    thread,
};

use anyhow::{Context, Result, bail, ensure};
use passfort_ingest::sandbox::{ApiCall, LedgerEntry};
use serde_json::Value;
use xxhash_rust::xxh3::Xxh3;

use crate::{
    dice::Dice,
    disk::{Disk, Image, Node},
    end,
    queue::{self, Says},
    record::Recording,
    site::{self, Order},
    trace::{Event, Request},
};

/// A disk that promises to sync some of its files and does not. A check that finds nothing wrong with it is none.
pub struct Deaf {
    pub what: &'static str,
    to: fn(&str) -> bool,
}

pub const DEAF: [Deaf; 4] = [
    Deaf { what: "the log", to: |path| path.ends_with("-wal") },
    Deaf { what: "the database's folder", to: |path| path == "state/queue" },
    Deaf { what: "receipts", to: |path| path.ends_with(".tmp") },
    Deaf { what: "the folders of receipts", to: |path| path.starts_with("drop/receipts") && !path.ends_with(".tmp") },
];

/// What the database must say after each step.
pub struct Truth {
    /// All states that it had after a commit, in order.
    states: Vec<Says>,
    /// After each event, the last state that a commit's end has promised.
    acked: Vec<usize>,
}

/// Of all images, how many there were and how many were wrong.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Count {
    pub images: u64,
    /// How many different databases were on them.
    pub databases: u64,
    pub resumed: u64,
    pub failures: Vec<String>,
}

impl Recording {
    /// The content of the database after each commit; checks on the way that no request went out before what it relies
    /// on.
    pub fn truth(&self) -> Result<Truth> {
        let folder = self.site.at("truth");
        let mut disk = self.start.clone();
        let mut truth = Truth { states: vec![look(&folder, &Image::default())?], acked: Vec::new() };
        let mut requests = 0;
        for event in &self.events {
            disk.apply(event)?;
            match event {
                Event::Sync(path) if path.starts_with("state/queue/queue.db") => {
                    let says = look(&folder, &disk.current())?;
                    if truth.states.last().is_none_or(|last| last.digest != says.digest) {
                        truth.states.push(says);
                    }
                }
                Event::Ask(request) => {
                    let says = truth.states.last().context("no state")?;
                    relied(request, says).with_context(|| format!("{request:?} went out too early"))?;
                    requests += 1;
                }
                _ => {}
            }
            truth.acked.push(truth.states.len() - 1);
        }
        ensure!(requests > 0, "no request was seen, so nothing was tried");
        Ok(truth)
    }

    /// How often the log was brought into the database.
    pub fn checkpoints(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, Event::Sync(path) if path == "state/queue/queue.db")).count()
    }

    /// Makes about `images` images, spread evenly over all steps, and checks each.
    pub fn images(&self, truth: &Truth, seed: u64, images: u64, threads: u64, deaf: Option<&Deaf>) -> Result<Count> {
        let each = images.div_ceil(self.events.len() as u64);
        thread::scope(|scope| {
            let workers: Vec<_> = (0..threads)
                .map(|part| scope.spawn(move || self.part(truth, seed, each, (part, threads), deaf)))
                .collect();
            let mut count = Count::default();
            for worker in workers {
                let Ok(part) = worker.join() else { bail!("a check died of a defect") };
                let part = part?;
                count.images += part.images;
                count.databases += part.databases;
                count.failures.extend(part.failures);
            }
            Ok(count)
        })
    }

    fn part(
        &self,
        truth: &Truth,
        seed: u64,
        each: u64,
        (part, parts): (u64, u64),
        deaf: Option<&Deaf>,
    ) -> Result<Count> {
        let folder = self.site.at(&format!("part{part}"));
        let mut disk = self.start.clone();
        let mut seen = Seen::new();
        let mut count = Count::default();
        for (step, event) in self.events.iter().enumerate() {
            if !matches!((event, deaf), (Event::Sync(path), Some(deaf)) if (deaf.to)(path)) {
                disk.apply(event)?;
            }
            for number in (part..each).step_by(usize::try_from(parts)?) {
                let mut dice = Dice::new(seed, step as u64, number);
                let image = disk.cut(&mut dice);
                count.images += 1;
                if let Err(error) = self.check(truth, step, &disk, &image, (&folder, &mut seen)) {
                    count.failures.push(format!("seed {seed} step {step} image {number}: {error:#}"));
                }
            }
        }
        count.databases = seen.len() as u64;
        Ok(count)
    }

    fn check(
        &self,
        truth: &Truth,
        step: usize,
        disk: &Disk,
        image: &Image,
        (folder, seen): (&Path, &mut Seen),
    ) -> Result<()> {
        let digest = digest_of(image);
        let says = match seen.get(&digest) {
            Some(says) => Arc::clone(says),
            None => Arc::new(look(folder, image)?),
        };
        seen.insert(digest, Arc::clone(&says));
        let acked = truth.acked.get(step).copied().unwrap_or_default();
        let may = truth.states.get(acked..).unwrap_or_default().iter().take(2);
        ensure!(
            may.clone().any(|state| state.digest == says.digest),
            "the database is in none of the states that it may be in ({acked} and the next of {})",
            truth.states.len()
        );
        self.check_files(disk, image, &says)
    }

    fn check_files(&self, disk: &Disk, image: &Image, says: &Says) -> Result<()> {
        let mut places: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
        for (path, node) in &image.names {
            let (Some(path), Node::File(number)) = (path.strip_prefix("drop/"), node) else { continue };
            places.entry(*number).or_default().push(path);
            // What goes away by itself is not synced.
            let is_passing = path.ends_with(".waiting.txt") || path.ends_with(".taken.txt");
            if path.starts_with("receipts/") && !end::is_hidden(path) && !is_passing {
                let content = image.files.get(number).map(Vec::as_slice).unwrap_or_default();
                ensure!(content == disk.reads(*number), "the receipt {path} is half written");
                if path.contains(".receipt.") && !end::is_text(path) {
                    serde_json::from_slice::<Value>(content).with_context(|| format!("the receipt {path}"))?;
                }
            }
        }
        let receipts: BTreeSet<&str> =
            self.order.batches.keys().map(String::as_str).filter(|folder| has_receipt(image, folder)).collect();
        for (path, number) in &self.numbers {
            let found = places.get(number).map(Vec::as_slice).unwrap_or_default();
            ensure!(!found.is_empty(), "{path} is lost");
            let content = image.files.get(number).map(Vec::as_slice);
            ensure!(content == self.order.files.get(path).map(Vec::as_slice), "{path} is damaged");
            let batch = path.split('/').next().unwrap_or_default();
            let settled = |at: &&str| ["done/", "failed/"].iter().any(|shelf| at.starts_with(shelf));
            let moved = found.iter().any(settled);
            ensure!(!moved || receipts.contains(batch), "{path} was moved to {found:?} without a receipt");
            let taken = |at: &&str| at.starts_with(end::WORK) && at.ends_with(&format!("/{path}"));
            let known = found.iter().all(|at| *at == path || settled(at) || taken(at));
            ensure!(known, "{path} is at {found:?}");
        }
        for (manifest, state) in &says.batches {
            let batch = manifest.split('/').next().unwrap_or_default();
            let settled = ["published", "closed"].contains(&state.as_str());
            ensure!(!settled || receipts.contains(batch), "{manifest} is {state} without a receipt");
            if state == "closed" {
                let still = self.order.batches.get(batch).into_iter().flatten();
                let still: Vec<&String> =
                    still.filter(|path| image.names.contains_key(&format!("drop/{path}"))).collect();
                ensure!(still.is_empty(), "{manifest} is closed, and these were not moved: {still:?}");
            }
        }
        Ok(())
    }

    /// Cuts the power at this step, starts the worker on what is left, and checks what exists at the API in the end.
    pub fn resume(&mut self, truth: &Truth, seed: u64, step: usize) -> Result<()> {
        let mut disk = self.start.clone();
        for event in self.events.iter().take(step + 1) {
            disk.apply(event)?;
        }
        let mut dice = Dice::new(seed, step as u64, u64::MAX);
        let image = disk.cut(&mut dice);
        let says = look(&self.site.at("resumed"), &image)?;
        self.site.clear()?;
        self.lay(&image)?;
        let acked = truth.acked.get(step).copied().unwrap_or_default();
        ensure!(truth.states.iter().skip(acked).take(2).any(|state| state.digest == says.digest), "a state of its own");
        let before = self.standing(&says, step, &mut dice);
        self.site.start_api(&before, &[], "")?;
        site::settle();
        let (code, said) = self.site.run(None, &["run", "--once"])?;
        // What was refused before the cut may have its receipt already.
        ensure!(matches!(code, Some(0 | 1)), "the resumed run ended with {code:?}:\n{said}");
        let files = site::files_below(&self.site.at("drop"))?;
        end::judge(&self.order, self.site.sandbox()?, &before, &files).with_context(|| said.clone())?;
        let known = says.jobs.values().flat_map(|job| job.uploads.iter().flatten());
        let known: BTreeSet<&str> = known.map(String::as_str).collect();
        let digests: BTreeSet<&str> = before
            .iter()
            .filter(|call| call.id.as_deref().is_some_and(|id| known.contains(id)))
            .filter_map(|call| call.sha256.as_deref())
            .collect();
        let again = self.site.sandbox()?.ledger().into_iter().find(|call| {
            let upload = matches!(call.operation, ApiCall::UploadImage | ApiCall::UploadFile);
            upload && call.sha256.as_deref().is_some_and(|digest| digests.contains(digest))
        });
        self.site.stop_api();
        ensure!(again.is_none(), "an upload whose ID was on disk was sent again: {again:?}");
        Ok(())
    }

    /// What existed at the API: everything whose ID is on the disk, and of the rest that was sent by then, some.
    fn standing(&self, says: &Says, step: usize, dice: &mut Dice) -> Vec<LedgerEntry> {
        let mut sent: BTreeMap<(ApiCall, &str), usize> = BTreeMap::new();
        for event in self.events.iter().take(step + 1) {
            if let Event::Ask(request) = event
                && let Some(operation) = operation(request)
            {
                *sent.entry((operation, &request.profile)).or_default() += 1;
            }
        }
        let known: BTreeSet<&str> = says
            .jobs
            .values()
            .flat_map(|job| job.uploads.iter().flatten().chain(&job.remote_id))
            .map(String::as_str)
            .collect();
        let mut standing = Vec::new();
        for call in &self.ledger {
            let profile = call.profile.as_deref().unwrap_or_default();
            let Some(left) = sent.get_mut(&(call.operation, profile)) else { continue };
            let was_sent = *left > 0;
            *left = left.saturating_sub(1);
            let is_known = call.id.as_deref().is_some_and(|id| known.contains(id));
            if call.committed && (is_known || (was_sent && dice.hits(80))) {
                standing.push(call.clone());
            }
        }
        standing
    }

    fn lay(&self, image: &Image) -> Result<()> {
        let sent: BTreeMap<usize, &str> = self.numbers.iter().map(|(path, number)| (*number, path.as_str())).collect();
        for (path, node) in &image.names {
            let path = self.site.at(path);
            match node {
                Node::Folder => fs::create_dir_all(&path)?,
                Node::File(number) if sent.contains_key(number) => {
                    fs::hard_link(self.site.at(&format!("kept/{number}")), &path)?;
                }
                Node::File(number) => fs::write(&path, image.files.get(number).map(Vec::as_slice).unwrap_or_default())?,
            }
        }
        self.forget_file()
    }

    /// A power cut leaves the database its file, which the mark beside it names; laying it anew does not.
    fn forget_file(&self) -> Result<()> {
        let mark = self.site.at("state/queue/queue.db.lineage");
        let Ok(text) = fs::read_to_string(&mark) else { return Ok(()) };
        let line = |line: &str| match line.strip_prefix("file ").filter(|number| number.len() == 21) {
            Some(_) => format!("file {:020}\n", 0),
            None => line.to_owned(),
        };
        Ok(fs::write(&mark, text.split_inclusive('\n').map(line).collect::<String>())?)
    }
}

fn has_receipt(image: &Image, folder: &str) -> bool {
    image.names.contains_key(&format!("drop/{}", Order::receipt(folder)))
}

/// The content of databases that were checked before: many images differ in their other files only.
type Seen = HashMap<u128, Arc<Says>>;

/// A database's files, byte for byte.
const ENDS: [&str; 3] = ["", "-wal", "-journal"];

fn digest_of(image: &Image) -> u128 {
    let mut hash = Xxh3::new();
    for end in ENDS {
        match image.content(&format!("state/queue/queue.db{end}")) {
            Some(bytes) => {
                hash.update(&bytes.len().to_le_bytes());
                hash.update(bytes);
            }
            None => hash.update(b"none"),
        }
    }
    hash.digest128()
}

/// Puts an image's database into a new folder and reads it there; the writer may still close the one before.
fn look(folder: &Path, image: &Image) -> Result<Says> {
    static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let folder = folder.join(NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_string());
    fs::create_dir_all(&folder)?;
    for end in ENDS {
        if let Some(bytes) = image.content(&format!("state/queue/queue.db{end}")) {
            fs::write(folder.join(format!("queue.db{end}")), bytes)?;
        }
    }
    let says = queue::read(&folder.join("queue.db"));
    fs::remove_dir_all(&folder).ok();
    says
}

/// Fails where a request goes out and what it relies on is not on disk.
fn relied(request: &Request, says: &Says) -> Result<()> {
    let job = says.jobs.get(&request.profile).context("no job is on disk")?;
    // A list that must show what is known proves that another profile's document is absent.
    if request.method == "GET" && job.state == "done" {
        return Ok(());
    }
    ensure!(job.state == "running", "its job is {}", job.state);
    match (operation(request), request.method.as_str()) {
        (Some(ApiCall::UploadImage | ApiCall::UploadFile), _) => {
            ensure!(job.uploads.contains(&None), "all its uploads have their IDs already");
        }
        (Some(ApiCall::CreateDocument), _) => {
            ensure!(job.creation == "intended", "the creation is {}", job.creation);
            let known: BTreeSet<&str> = job.uploads.iter().flatten().map(String::as_str).collect();
            ensure!(known.len() == job.uploads.len(), "not every image has its ID on disk");
            if let Ok(body) = serde_json::from_slice::<Value>(&request.body) {
                let images = body.get("images").and_then(Value::as_array).into_iter().flatten();
                let sent: BTreeSet<&str> = images.filter_map(|image| image.get("id")?.as_str()).collect();
                ensure!(sent == known, "it has other images than those on disk");
            }
        }
        (_, "GET") => ensure!(job.creation == "unknown", "it is read back while its creation is {}", job.creation),
        other => bail!("nobody knows this call: {other:?}"),
    }
    Ok(())
}

fn operation(request: &Request) -> Option<ApiCall> {
    match (request.method.as_str(), request.what.as_str()) {
        ("POST", "document_images") => Some(ApiCall::UploadImage),
        ("POST", "files") => Some(ApiCall::UploadFile),
        ("POST", "collected_data/documents") => Some(ApiCall::CreateDocument),
        ("GET", "collected_data") => Some(ApiCall::ReadDocuments),
        _ => None,
    }
}
