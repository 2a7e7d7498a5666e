//! One drop: looks into its folder, finds manifests that are complete, and takes them in.
//!
//! Events only say when to look; the folder itself is the truth. A [`Drop`] runs on a thread of its own, so that one
//! folder that is slow, broken or unmounted holds up no other.

use std::{
    collections::HashMap,
    io,
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    clock::{self, Timestamp},
    config::{AfterSuccess, DropConfig},
    inbox::{
        beneath::{Refusal, Root},
        kept::{self, Present},
        scan::{Found, Rules as ScanRules, globs, scan},
        watch::{Delivery, delivers_events},
        writers::Writers,
    },
    intake::{
        admit::{AdmitError, Policy, admit as take_in},
        examine::{self, Held, Rules, Stillness, Unready, folder_of},
    },
    problem::Problem,
    queue::{Queue, QueueError, Reader, admit::Plan, arrivals::Arrival, identity::path_key},
};

/// A drop that is looked into.
pub struct Drop {
    config: DropConfig,
    queue: Queue,
    rules: Rules,
    scan: ScanRules,
    seen: HashMap<String, Seen>,
    stopped: Arc<dyn Fn() -> bool + Send + Sync>,
    /// What `status` says of the folder: at first, what an earlier process left there.
    trouble: Option<String>,
    /// For looking only: what is known of a manifest costs no commit then.
    reader: Reader,
    /// Who writes to files.
    writers: Writers,
    /// Whether the file system's clock is this machine's.
    own_clock: bool,
    /// Whether a look has seen all of the folder, and what an earlier process left half taken in was ended.
    orphans_ended: bool,
}

/// What is remembered of a manifest between two looks.
#[derive(Debug, Clone)]
struct Seen {
    file: Present,
    /// A digest of the identities of everything that it names; changes as long as somebody writes.
    files: u64,
    /// Since when nothing has changed.
    still_since: Instant,
    /// No look before this.
    next: Instant,
    /// How often it was looked at in vain, for growing waits.
    looks: u32,
    standing: Standing,
    /// What is not whole, and which state of the files that was found in.
    not_whole: Option<(u64, Problem)>,
    /// In which scan it was last there.
    scan: u64,
}

impl Seen {
    const fn is_known(&self) -> bool {
        matches!(self.standing, Standing::Queued | Standing::Settled)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It is new, or still changing.
    Settling,
    /// Files that it names are not there.
    Incomplete,
    /// It, or a file that it names, cannot be read now.
    Unreadable,
    /// It is in the queue.
    Queued,
    /// It was settled and stays where it is; as long as it does not change, nothing more is asked about it.
    Settled,
    /// It has taken the place of one that is not settled yet, and is taken in after that.
    Behind,
}

/// What a look found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Looked {
    /// Manifests that were taken in.
    pub taken: u64,
    /// Manifests that are not settled yet.
    pub settling: u64,
    /// Manifests that wait for files or cannot be read, and one more where the folder cannot be read in full.
    pub waiting: u64,
    /// Manifests that wait until the one is settled whose place they took.
    pub behind: u64,
    /// When to look again although nothing happens.
    pub again_in: Option<Duration>,
}

impl Drop {
    /// A drop with nothing known of it yet.
    ///
    /// # Errors
    ///
    /// Where a pattern of the configuration is none, or the queue cannot be looked into.
    pub fn new(
        config: DropConfig,
        queue: Queue,
        max_image_bytes: u64,
        stopped: Arc<dyn Fn() -> bool + Send + Sync>,
    ) -> io::Result<Self> {
        let compile = |texts: &[String]| globs(texts.iter().map(String::as_str)).map_err(io::Error::other);
        let scan = ScanRules {
            recursive: config.recursive,
            manifests: compile(config.manifests.texts())?,
            ignore: compile(config.ignore.texts())?,
            skip_dirs: vec![config.done_folder(), config.failed_folder(), config.receipts_folder()],
            max_depth: config.max_depth,
            max_path_bytes: config.max_path_bytes,
        };
        let rules = Rules::of(Some(&config), max_image_bytes, queue.seed());
        let reader = Reader::open(queue.path()).map_err(io::Error::other)?;
        let writers = Writers::new(config.settle.clamp(Duration::from_millis(100), Duration::from_secs(1)));
        let trouble = reader.drop_trouble(&config.name).map_err(io::Error::other)?;
        Ok(Self {
            config,
            queue,
            rules,
            scan,
            seen: HashMap::new(),
            stopped,
            trouble,
            reader,
            writers,
            own_clock: false,
            orphans_ended: false,
        })
    }

    /// Its configuration.
    #[must_use]
    pub const fn config(&self) -> &DropConfig {
        &self.config
    }

    /// The queue that it is taken into.
    #[must_use]
    pub const fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Looks into the folder once, and takes in what is complete.
    ///
    /// # Errors
    ///
    /// Those of the queue. A folder that cannot be read is noted there and reported by the next look.
    pub fn look(&mut self, number: u64) -> Result<Looked, QueueError> {
        let looked = self.look_through(number);
        let waits = |manifest: &str| self.seen.get(manifest).is_some_and(|seen| !seen.is_known());
        self.queue.awaited().looked(&self.config.name, waits);
        looked
    }

    fn look_through(&mut self, number: u64) -> Result<Looked, QueueError> {
        self.own_clock = matches!(delivers_events(&self.config.path), Ok(Delivery::Yes));
        let mut found = Vec::new();
        let read = Root::open(&self.config.path).and_then(|root| {
            let report = scan(&root, &self.scan, &mut |manifest: Found| {
                found.push(manifest);
                if (self.stopped)() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            Ok((root, report))
        });
        let (root, report) = match read {
            Ok(read) => read,
            Err(error) => {
                self.trouble(Some(format!("{}: {error}", self.config.path.display())))?;
                let again_in = Some(self.config.rescan_every.min(RETRY));
                return Ok(Looked { waiting: 1, again_in, ..Looked::default() });
            }
        };
        let unreadable = report.problems.first().map(|problem| {
            format!(
                "{}: {} ({}); {} such",
                problem.path.as_deref().unwrap_or_default(),
                problem.reason,
                problem.cure,
                report.problems.len()
            )
        });
        let mut looked = Looked { waiting: u64::from(!report.complete), ..Looked::default() };
        self.trouble(unreadable)?;

        // Oldest first, so that a partner's corrections come after what they correct.
        found.sort_by(|one, other| (one.identity.mtime_ns, &one.path).cmp(&(other.identity.mtime_ns, &other.path)));
        for manifest in found {
            if (self.stopped)() {
                return Ok(looked);
            }
            self.consider(&root, manifest, number, &mut looked)?;
        }
        if report.complete {
            self.seen.retain(|_, seen| seen.scan == number);
            self.queue.forget_arrivals(&self.config.name, |manifest| self.seen.contains_key(manifest))?;
            if !self.orphans_ended {
                self.end_orphans()?;
                self.orphans_ended = true;
            }
        }
        Ok(looked)
    }

    fn trouble(&mut self, trouble: Option<String>) -> Result<(), QueueError> {
        if self.trouble != trouble {
            match &trouble {
                Some(why) => tracing::error!(drop = self.config.name, why, "the drop cannot be read in full"),
                None => tracing::info!(drop = self.config.name, "the drop can be read again"),
            }
            self.queue.drop_trouble(&self.config.name, trouble.clone())?;
            self.trouble = trouble;
        }
        Ok(())
    }

    fn consider(&mut self, root: &Root, found: Found, number: u64, looked: &mut Looked) -> Result<(), QueueError> {
        let now = Instant::now();
        let Found { path, identity } = found;
        let file = root.present(identity);
        let known = self.seen.get(&path).filter(|seen| seen.file == file).cloned();
        let mut seen = match known {
            Some(seen) => seen,
            None => {
                let standing = self.standing(root, &path, &file)?;
                // New or changed: it must lie still for as long as the drop says, from now on.
                Seen { file, files: 0, still_since: now, next: now, looks: 0, standing, not_whole: None, scan: number }
            }
        };
        seen.scan = number;
        if matches!(seen.standing, Standing::Queued | Standing::Behind) {
            // A manifest that was overwritten while its batch was under way is looked at again when that is closed.
            if !self.is_open(&path)? {
                seen.standing = self.standing(root, &path, &file)?;
            }
        }
        if !seen.is_known() && seen.standing != Standing::Behind && now >= seen.next {
            self.advance(root, &path, &mut seen, looked)?;
            // A large manifest that waits must not keep us reading it.
            seen.next = seen.next.max(Instant::now() + now.elapsed() * 10);
        }
        match seen.standing {
            Standing::Queued | Standing::Settled => {}
            Standing::Settling => looked.settling += 1,
            Standing::Behind => looked.behind += 1,
            Standing::Incomplete | Standing::Unreadable => looked.waiting += 1,
        }
        if seen.is_known() {
            self.queue.awaited().forget(&self.config.name, &path);
        } else {
            let least = if seen.standing == Standing::Behind { BEHIND } else { Duration::from_millis(10) };
            let wait = seen.next.saturating_duration_since(Instant::now()).max(least);
            looked.again_in = Some(looked.again_in.map_or(wait, |other| other.min(wait)));
        }
        self.seen.insert(path, seen);
        Ok(())
    }

    fn is_open(&self, path: &str) -> Result<bool, QueueError> {
        let known = self.reader.known_manifest(&self.config.name, path)?;
        Ok(known.is_some_and(|known| !known.closed && !known.admitting))
    }

    /// Whether the queue knows this manifest already.
    fn standing(&self, root: &Root, path: &str, file: &Present) -> Result<Standing, QueueError> {
        let known = self.reader.known_manifest(&self.config.name, path)?;
        let Some(known) = known else { return Ok(Standing::Settling) };
        if known.admitting {
            return Ok(Standing::Settling);
        }
        if !known.closed {
            return Ok(if file.is_kept_as(&known.file) { Standing::Queued } else { Standing::Behind });
        }
        // A settled manifest that was to stay is the same as long as its content is; elsewhere it was moved away, so
        // whatever lies here now is new.
        if known.moved || self.config.after_success != AfterSuccess::Keep {
            return Ok(Standing::Settling);
        }
        if file.is_surely_kept_as(&known.file) {
            return Ok(Standing::Settled);
        }
        let same = examine::open(root, path, self.rules.limits.max_bytes)
            .is_ok_and(|opened| opened.sha256.0.as_slice() == known.sha256);
        Ok(if same { Standing::Settled } else { Standing::Settling })
    }

    /// Takes a manifest one step further: settled, complete, taken in.
    fn advance(&mut self, root: &Root, path: &str, seen: &mut Seen, looked: &mut Looked) -> Result<(), QueueError> {
        let now = Instant::now();
        if let Some(marker) = &self.config.done_marker
            && let Err(Refusal::Missing) = root.open_file(&format!("{path}{marker}"))
        {
            self.wait(path, seen, Standing::Incomplete, format!("its done marker {path}{marker} is not there"), &[])?;
            return Ok(());
        }
        let mut opened = match examine::open(root, path, self.rules.limits.max_bytes) {
            Ok(opened) => opened,
            Err(error) => return self.unready(path, seen, &error),
        };
        let folder = folder_of(path);
        let (drop, awaited) = (self.config.name.as_str(), self.queue.awaited());
        let named =
            examine::stillness(&opened, root, (folder, path), &self.rules, Some(&mut self.writers), &mut |file| {
                awaited.name(drop, path, path_key(&self.config.path, "", file))
            });
        let still = match named {
            Ok(still) => still,
            Err(error) => return self.unready(path, seen, &error),
        };
        let mut given_up = false;
        if still.missing > 0 {
            let waited = self.wait(path, seen, Standing::Incomplete, missing_reason(&still), &still.first_missing)?;
            given_up = waited >= self.config.incomplete_after;
            if !given_up {
                return Ok(());
            }
            tracing::warn!(drop = self.config.name, manifest = path, missing = still.missing, "its files did not come");
        }
        if let Some(wait) = self.unsettled(seen, &still, now).filter(|_| !given_up) {
            seen.next = now + wait;
            seen.standing = Standing::Settling;
            return Ok(());
        }
        if let Some((file, who)) = &still.being_written {
            // However long that takes: what is taken from under a writer is lost to both.
            let reason = format!("{file} is still open for writing, by {who}");
            self.wait(path, seen, Standing::Incomplete, reason, std::slice::from_ref(file))?;
            return Ok(());
        }
        if let Some((state, problem)) = seen.not_whole.clone()
            && state == still.signature
            && !given_up
        {
            given_up = self.hold(path, seen, &Held::NotWhole(problem))?;
            if !given_up {
                return Ok(());
            }
        }
        if let Some(known) = self.reader.known_manifest(&self.config.name, path)?
            && known.admitting
            && known.sha256 != opened.sha256.0
        {
            // Another manifest is in the place of the one that a crash left half taken in.
            self.queue.end_half_taken(known.batch_id, Timestamp::now())?;
        }
        let plan = self.plan(path, &opened);
        let policy = Policy { on_invalid: self.config.on_invalid, wait_for_files: !given_up };
        match take_in(&self.queue, &plan, &mut opened, root, &self.rules, policy, &*self.stopped) {
            Ok(admitted) => {
                tracing::info!(
                    drop = self.config.name,
                    manifest = path,
                    batch = admitted.batch_id,
                    entries = admitted.entries,
                    invalid = admitted.invalid,
                    unusable = admitted.unusable.is_some(),
                    "taken in"
                );
                seen.standing = Standing::Queued;
                looked.taken += 1;
                Ok(())
            }
            Err(AdmitError::Unready(error)) => self.unready(path, seen, &error),
            Err(AdmitError::Later(held)) => {
                // Reading it again is of use once something has changed, or where the system was to blame.
                seen.not_whole = match &held {
                    Held::NotWhole(problem) => Some((still.signature, problem.clone())),
                    Held::BeingWritten(_) | Held::Unreadable(_) => None,
                };
                if self.hold(path, seen, &held)? {
                    let policy = Policy { wait_for_files: false, ..policy };
                    return match take_in(&self.queue, &plan, &mut opened, root, &self.rules, policy, &*self.stopped) {
                        Ok(_) => {
                            seen.standing = Standing::Queued;
                            looked.taken += 1;
                            Ok(())
                        }
                        Err(AdmitError::Queue(error)) => Err(error),
                        Err(_) => Ok(()),
                    };
                }
                Ok(())
            }
            Err(AdmitError::Queue(error)) => Err(error),
            Err(AdmitError::Stopped) => Ok(()),
        }
    }

    /// Notes that a manifest is held back; returns whether that has lasted for too long.
    fn hold(&self, path: &str, seen: &mut Seen, held: &Held) -> Result<bool, QueueError> {
        let (standing, problem) = match held {
            Held::NotWhole(problem) | Held::BeingWritten(problem) => (Standing::Incomplete, problem),
            Held::Unreadable(problem) => (Standing::Unreadable, problem),
        };
        let file = problem.path.clone();
        let reason = match &file {
            Some(file) => format!("{file}: {}", problem.reason),
            None => format!("the manifest is {}", problem.reason),
        };
        let waited = self.wait(path, seen, standing, reason, file.as_slice())?;
        // What is taken from under a writer is lost to both, however long that takes.
        Ok(waited >= self.config.incomplete_after && !matches!(held, Held::BeingWritten(_)))
    }

    /// How long a manifest and its files must still lie unchanged; `None` where they have for long enough.
    ///
    /// What the file system says of the last change counts where its clock is ours and makes sense; else, as on a network
    /// mount or after a jump, only what was seen from here counts. A file's date of modification counts nowhere, since
    /// senders set it.
    fn unsettled(&self, seen: &mut Seen, still: &Stillness, now: Instant) -> Option<Duration> {
        if self.config.done_marker.is_some() {
            return None;
        }
        if still.signature != seen.files {
            seen.files = still.signature;
            seen.still_since = now;
        }
        let changed = Timestamp(still.last_change_ns.div_euclid(1_000_000));
        let seen_for = now.duration_since(seen.still_since);
        // A file that was changed before the clock was moved may look older than it is.
        let own_clock = self.own_clock && clock::moved_to().is_none_or(|moved| changed > moved);
        // The kernel dates files by the system's clock, which may have been set back and not been believed yet.
        let since_changed = Timestamp::now().since(changed).min(Timestamp::of_system().since(changed));
        let quiet = if own_clock { since_changed.max(seen_for) } else { seen_for };
        self.config.settle.checked_sub(quiet).filter(|rest| !rest.is_zero())
    }

    fn unready(&self, path: &str, seen: &mut Seen, error: &Unready) -> Result<(), QueueError> {
        // One that is gone since the folder was read has been put away, or taken back: the next look does not find it.
        if let Unready::Changed | Unready::Refused(Refusal::Missing) = error {
            seen.still_since = Instant::now();
            seen.next = seen.still_since + self.config.settle;
            seen.standing = Standing::Settling;
            return Ok(());
        }
        self.wait(path, seen, Standing::Unreadable, format!("the manifest cannot be read: {error}"), &[]).map(drop)
    }

    /// Notes what a manifest waits for; returns for how long it has been there.
    fn wait(
        &self,
        path: &str,
        seen: &mut Seen,
        standing: Standing,
        reason: String,
        missing: &[String],
    ) -> Result<Duration, QueueError> {
        let now = Timestamp::now();
        if standing == Standing::Unreadable && seen.standing != Standing::Unreadable {
            tracing::warn!(drop = self.config.name, manifest = path, reason, "waits until it can be read");
        }
        let first_seen = self.queue.note_arrival(
            Arrival {
                drop: self.config.name.clone(),
                manifest: path.to_owned(),
                file: seen.file,
                reason,
                missing: missing.to_vec(),
            },
            now,
        )?;
        seen.standing = standing;
        seen.looks = seen.looks.saturating_add(1);
        // Looked at again at every event anyway; without events, at growing intervals.
        let pause = RETRY.min(Duration::from_millis(250) * (1 << seen.looks.min(6)));
        seen.next = Instant::now() + pause;
        Ok(now.since(first_seen))
    }

    pub(super) fn plan(&self, path: &str, opened: &examine::Opened) -> Plan {
        Plan {
            drop: self.config.name.clone(),
            manifest: path.to_owned(),
            manifest_sha256: opened.sha256,
            manifest_file: kept::write(&opened.identity),
            root: self.config.path.clone(),
            image_root: self.config.path.clone(),
            image_folder: folder_of(path).to_owned(),
            receipts_dir: self.config.receipts_folder(),
            receipt_mode: self.config.receipt_mode,
            receipt_group: self.config.receipt_group.clone(),
            done_dir: Some(self.config.done_folder()),
            failed_dir: Some(self.config.failed_folder()),
            after_success: self.config.after_success,
            marker: self.config.done_marker.clone(),
        }
    }

    /// Ends the taking in of manifests that a crash left half in and that are no longer there to be read to their end.
    fn end_orphans(&self) -> Result<(), QueueError> {
        for (batch_id, manifest) in self.queue.half_taken(&self.config.name)? {
            if !self.seen.contains_key(&manifest) {
                tracing::warn!(drop = self.config.name, manifest, "gone before it was taken in whole");
                self.queue.end_half_taken(batch_id, Timestamp::now())?;
            }
        }
        Ok(())
    }
}

/// Between two looks at a manifest whose turn comes when another is settled.
const BEHIND: Duration = Duration::from_secs(1);

/// Between two looks at something that did not work.
const RETRY: Duration = Duration::from_secs(10);

fn missing_reason(still: &Stillness) -> String {
    let first = still.first_missing.first().map_or("", String::as_str);
    match still.missing {
        1 => format!("it waits for {first}"),
        more => format!("it waits for {more} files, the first is {first}"),
    }
}
