//! One random day: what is dropped, what people do, what goes wrong; and the evening, in which all is settled.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::FileExt,
    time::{Duration, Instant},
};

use passfort_ingest::{
    clock, killpoint,
    sandbox::{ApiCall, LedgerEntry},
};
use rustix::fs::rename;
use serde_json::Value;

use super::{
    Dice,
    asked::{Asked, Manifest, REFUSED},
    verdict,
};
use crate::support::{Builder, Daemon, Finished, Site, image, profile, sha256};

/// Things that happen on a day, besides what happens by itself.
const STEPS: u32 = 28;

/// So often everything that is missing is brought in the evening, and everything that is held released.
const ROUNDS: u32 = 12;

/// Far longer than it takes to settle what is left.
const LONGEST_RUN: Duration = Duration::from_secs(45);

/// How the drop is configured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Policy {
    pub(super) after_success: &'static str,
    /// Whether a manifest with a bad entry is rejected.
    pub(super) reject: bool,
    hold_lost_files: bool,
    marker: bool,
    cancels: bool,
    /// Whether the wall clock jumps.
    jumps: bool,
}

pub(super) struct Day {
    pub(super) site: Site,
    pub(super) policy: Policy,
    pub(super) manifests: Vec<Manifest>,
    /// Files that were replaced by others after they had been dropped, and all that they have been.
    pub(super) touched: BTreeMap<String, Vec<String>>,
    /// Whether a person's wish to cancel something was heard.
    pub(super) cancelled: bool,
    pub(super) kills: u32,
    seed: u64,
    dice: Dice,
    daemon: Option<Daemon>,
    entries: u32,
    /// What is left to be dropped of what a manifest names: the file and its content.
    late: Vec<(String, Vec<u8>)>,
    clock_ms: i64,
    diary: Vec<String>,
}

impl Day {
    /// Lives the day of a seed, and judges it.
    pub(super) fn live(seed: u64) {
        let mut day = Self::new(seed);
        eprintln!("seed {seed}: {:?}", day.policy);
        for _ in 0..STEPS {
            day.step();
        }
        day.evening();
        verdict::judge(&day);
        let (summary, calls) = (day.site.summary(), day.site.ledger().len());
        let (documents, files) = (summary.documents, summary.files);
        eprintln!("seed {seed}: all is well: {documents} documents, {files} files, {calls} calls, {} kills", day.kills);
    }

    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let policy = Policy {
            after_success: dice.pick(&["archive", "archive", "keep", "delete"]),
            reject: dice.one_in(4),
            hold_lost_files: dice.one_in(3),
            marker: dice.one_in(5),
            cancels: dice.one_in(4),
            jumps: dice.one_in(3),
        };
        let on_invalid = if policy.reject { "reject" } else { "skip" };
        let marker = if policy.marker { ".done" } else { "" };
        let lost_file = if policy.hold_lost_files { "hold" } else { "send" };
        let site = Builder {
            api: "response_timeout = '1s'\nstall_timeout = '1s'\nconnect_timeout = '2s'".to_owned(),
            retry: format!("max = '300ms'\nlost_file = '{lost_file}'"),
            drop: format!(
                "after_success = '{}'\non_invalid = '{on_invalid}'\ndone_marker = '{marker}'",
                policy.after_success
            ),
            ..Builder::default()
        }
        .build();
        let mut day = Self {
            site,
            policy,
            manifests: Vec::new(),
            touched: BTreeMap::new(),
            cancelled: false,
            kills: 0,
            seed,
            dice,
            daemon: None,
            entries: 0,
            late: Vec::new(),
            clock_ms: 0,
            diary: Vec::new(),
        };
        day.set_clock(0);
        day.set_faults(&[]);
        day
    }

    fn note(&mut self, what: impl Into<String>) {
        let what = what.into();
        eprintln!("seed {}: {what}", self.seed);
        self.diary.push(what);
    }

    fn step(&mut self) {
        match self.dice.below(30) {
            0..=6 => self.drop_manifest(),
            7..=8 => self.bring_late(),
            9 => self.edit(),
            10 => self.rename(),
            11 => self.touch(),
            12..=16 => self.start_or_end(),
            17..=19 => self.make_faults(),
            20 => self.jump(),
            21 => self.command(&["pause"]),
            22..=23 => self.command(&["resume"]),
            24 => self.command(&["retry", "--all"]),
            25 => self.cancel(),
            26 => self.look(),
            _ => self.pass_time(),
        }
    }
}

/// What senders do.
impl Day {
    fn drop_manifest(&mut self) {
        let mut entries: Vec<Asked> = (0..=self.dice.below(4)).map(|_| self.entry()).collect();
        let ending = self.dice.pick(&["json", "jsonl", "csv"]);
        if ending == "csv" {
            // Rows of one reference are one document.
            let mut references = BTreeSet::new();
            entries.retain(|entry| entry.reference.as_ref().is_none_or(|known| references.insert(known.clone())));
        }
        let folder = self.dice.pick(&["", "", "partner/"]);
        let path = format!("{folder}{}.manifest.{ending}", self.manifests.len());
        let manifest = Manifest::new(path, entries);
        let first = self.dice.one_in(2);
        if first {
            self.write_manifest(&manifest);
        }
        for scan in manifest.entries.iter().flat_map(|entry| &entry.scans) {
            let file = manifest.file(&scan.path);
            if self.dice.one_in(12) {
                self.late.push((file, scan.content.clone()));
            } else if !self.touched.contains_key(&file) {
                self.put(&file, &scan.content);
            }
        }
        if !first {
            self.write_manifest(&manifest);
        }
        self.note(format!("dropped {} with {} entries", manifest.path, manifest.entries.len()));
        self.manifests.push(manifest);
    }

    /// A new entry, or one that was asked for before, or another one under the same reference.
    fn entry(&mut self) -> Asked {
        let known: Vec<&Asked> = self
            .manifests
            .iter()
            .filter(|manifest| !manifest.superseded)
            .flat_map(|manifest| &manifest.entries)
            .filter(|entry| entry.flaw.is_none())
            // In CSV it would get a reference, and be another entry.
            .filter(|entry| entry.reference.is_some() || entry.scans.len() == 1)
            .collect();
        if !known.is_empty() && self.dice.one_in(6) {
            return self.dice.pick(&known).clone();
        }
        let reference = known.iter().rev().find_map(|entry| entry.reference.clone());
        self.entries += 1;
        let mut entry = Asked::new(&mut self.dice, self.entries);
        if reference.is_some() && self.dice.one_in(15) {
            entry.reference = reference;
        }
        entry
    }

    fn write_manifest(&self, manifest: &Manifest) {
        self.put(&manifest.path, manifest.text.as_bytes());
        if self.policy.marker {
            self.put(&format!("{}.done", manifest.path), b"");
        }
    }

    /// Writes a file as careful senders do.
    fn put(&self, path: &str, content: &[u8]) {
        let temporary = format!("{path}.tmp");
        self.site.put(&temporary, content);
        // A folder that was emptied by the worker may go before the file is in it under its own name.
        rename(self.site.in_drop(&temporary), self.site.in_drop(path)).unwrap();
    }

    fn bring_late(&mut self) {
        for (file, content) in std::mem::take(&mut self.late) {
            self.put(&file, &content);
        }
    }

    /// One that is in the drop, perhaps admitted already, with its index among all.
    fn some_manifest(&mut self) -> Option<usize> {
        let lying: Vec<usize> = (0..self.manifests.len())
            .filter(|at| {
                let manifest = &self.manifests[*at];
                !manifest.superseded && self.site.in_drop(&manifest.path).exists()
            })
            .collect();
        if lying.is_empty() { None } else { Some(self.dice.pick(&lying)) }
    }

    /// Puts another manifest in the place of one.
    fn edit(&mut self) {
        let Some(at) = self.some_manifest() else { return };
        self.manifests[at].superseded = true;
        let path = self.manifests[at].path.clone();
        self.entries += 1;
        let entries = vec![Asked::new(&mut self.dice, self.entries)];
        let manifest = Manifest::new(path, entries);
        for scan in manifest.entries.iter().flat_map(|entry| &entry.scans) {
            self.put(&manifest.file(&scan.path), &scan.content);
        }
        self.write_manifest(&manifest);
        self.note(format!("wrote {} anew", manifest.path));
        self.manifests.push(manifest);
    }

    fn rename(&mut self) {
        let Some(at) = self.some_manifest() else { return };
        let manifest = &mut self.manifests[at];
        let renamed = manifest.path.replace(".manifest.", "-renamed.manifest.");
        // It may have been archived in this instant.
        if rename(self.site.in_drop(&manifest.path), self.site.in_drop(&renamed)).is_ok() {
            let was = std::mem::replace(&mut manifest.path, renamed);
            let manifest = manifest.clone();
            let marker = |path: &str| self.site.in_drop(&format!("{path}.done"));
            if self.policy.marker && rename(marker(&was), marker(&manifest.path)).is_err() {
                self.put(&format!("{}.done", manifest.path), b"");
            }
            self.note(format!("renamed {was} to {}", manifest.path));
        }
    }

    /// Replaces an image by another one.
    fn touch(&mut self) {
        let Some(at) = self.some_manifest() else { return };
        let manifest = &self.manifests[at];
        let scan = &self.manifests[at].entries[0].scans[0];
        let file = manifest.file(&scan.path);
        if !self.site.in_drop(&file).exists() {
            return;
        }
        let other = image(scan.format, 1_000_000 + u32::try_from(self.touched.len()).unwrap());
        let digests = [sha256(&scan.content), sha256(&other)];
        self.put(&file, &other);
        self.note(format!("replaced {file}"));
        self.touched.entry(file).or_default().extend(digests);
    }
}

/// What operators do.
impl Day {
    fn start_or_end(&mut self) {
        match self.daemon.take() {
            None => {
                let once = self.dice.one_in(5);
                let mut command = self.command_of(if once { &["run", "--once"] } else { &["run"] });
                if self.dice.one_in(2) {
                    let at = format!("{}:{}", self.dice.pick(killpoint::PLACES), self.dice.below(4) + 1);
                    command.env(killpoint::VARIABLE, &at);
                    self.note(format!("started it, to die at {at}"));
                } else {
                    self.note("started it");
                }
                self.daemon = Some(Daemon::start(command, &self.site.at("log")));
            }
            Some(daemon) if self.dice.one_in(3) => {
                self.note("stopped it");
                self.ended(daemon.terminate());
            }
            Some(daemon) => {
                self.note("killed it");
                self.kills += 1;
                daemon.kill();
            }
        }
    }

    fn command_of(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = self.site.command(arguments);
        command.env(clock::OFFSET_VARIABLE, self.site.at("clock"));
        command
    }

    /// Looks at how a process ended.
    fn ended(&mut self, finished: Finished) -> Option<i32> {
        match finished.code {
            // The place to die at was reached, perhaps while it was stopping.
            None => self.kills += 1,
            Some(code) => assert!((0..=4).contains(&code), "exit code {code}: {}", finished.said()),
        }
        for word in ["panicked", "defect"] {
            assert!(!finished.stderr.contains(word), "{}", finished.stderr);
        }
        finished.code
    }

    fn run(&mut self, arguments: &[&str]) -> Finished {
        self.site.finish(self.command_of(arguments))
    }

    fn command(&mut self, arguments: &[&str]) {
        self.note(arguments.join(" "));
        let finished = self.run(arguments);
        assert!(finished.code.is_some_and(|code| code <= 3), "{arguments:?}: {finished:?}");
    }

    fn cancel(&mut self) {
        if self.policy.cancels && self.entries > 0 {
            let job = (self.dice.below(self.entries) + 1).to_string();
            self.note(format!("cancel {job}"));
            self.cancelled |= self.run(&["cancel", &job]).code == Some(0);
        }
    }

    fn look(&mut self) {
        for arguments in [&["status"][..], &["jobs", "--limit", "5"], &["export"], &["why", "0.manifest.json"]] {
            self.command(arguments);
        }
    }
}

/// What happens to them.
impl Day {
    fn set_faults(&self, rules: &[String]) {
        // Whatever else goes wrong, nothing is ever taken for this profile.
        let refused = profile(REFUSED);
        let refusals =
            ["upload_image", "upload_file"].map(|call| format!("{call}=status-before:422,profile={refused}"));
        let rules: Vec<&str> = refusals.iter().chain(rules).map(String::as_str).collect();
        self.site.faults(&rules);
    }

    fn make_faults(&mut self) {
        const KINDS: &[&str] = &[
            "lost",
            "lost",
            "cut",
            "garbled",
            "html",
            "html200",
            "hang",
            "hang-after",
            "slow:30ms",
            "slow:400ms",
            "slow-body:4000",
            "status-before:500",
            "status-before:503",
            "status-before:504",
            "status-after:500",
            "status-after:502",
            "status-after:504",
            "throttle:1",
            "throttle-retry-after:1",
            "errors200:301",
            "errors200:401",
            "errors200:501",
            "reset-body:60",
            "early:503",
        ];
        let rules: Vec<String> = (0..self.dice.below(4))
            .map(|_| {
                let call = self.dice.pick(&[
                    "any",
                    "upload_image",
                    "upload_file",
                    "create_document",
                    "create_document",
                    "read_documents",
                ]);
                let kind = self.dice.pick(KINDS);
                // One that nobody answers takes as long as the worker is patient.
                let when =
                    if kind.starts_with("hang") { "times=2" } else { self.dice.pick(&["p=0.2", "p=0.5", "first=3"]) };
                format!("{call}={kind},{when}")
            })
            .collect();
        self.note(format!("faults: {rules:?}"));
        self.set_faults(&rules);
    }

    fn jump(&mut self) {
        if self.policy.jumps {
            // One that is set back by far while nobody is there to see it delays what waits by as much, as it may.
            let jump = [-900, -300, 900, 60_000, 3_600_000];
            let to = self.clock_ms + self.dice.pick(&jump);
            self.set_clock(to);
            self.note(format!("the clock is {to} ms ahead"));
        }
    }

    fn set_clock(&mut self, ahead_ms: i64) {
        self.clock_ms = ahead_ms;
        // Always of the same length and in the same file, so that no process sees half of it.
        let file = fs::File::options().write(true).create(true).truncate(false).open(self.site.at("clock")).unwrap();
        file.write_all_at(format!("{ahead_ms:020}").as_bytes(), 0).unwrap();
    }

    /// Waits for a random number of calls, if that many are made.
    fn pass_time(&mut self) {
        let (calls, longest) = (self.dice.below(12) as usize, Duration::from_millis(u64::from(self.dice.below(400))));
        let (before, began) = (self.site.ledger().len(), Instant::now());
        while self.site.ledger().len() < before + calls && began.elapsed() < longest {
            if !self.daemon.as_mut().is_some_and(Daemon::is_alive) {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        if let Some(mut daemon) = self.daemon.take() {
            if daemon.is_alive() {
                self.daemon = Some(daemon);
            } else {
                self.ended(daemon.finish());
            }
        }
    }
}

/// The evening.
impl Day {
    fn evening(&mut self) {
        self.note("evening");
        if let Some(daemon) = self.daemon.take() {
            self.ended(daemon.terminate());
        }
        self.set_faults(&[]);
        self.command(&["resume"]);
        for _ in 0..ROUNDS {
            self.bring_all();
            self.site.wait_until_settled();
            let command = self.command_of(&["run", "--once", "--give-up-after", "30s"]);
            let mut last = Daemon::start(command, &self.site.at("log"));
            let began = Instant::now();
            while last.is_alive() {
                if began.elapsed() > LONGEST_RUN {
                    self.give_up(&last.log());
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            match self.ended(last.finish()) {
                Some(0 | 1) => return,
                _ => self.release_held(),
            }
        }
        self.give_up("");
    }

    fn give_up(&mut self, log: &str) {
        let status = self.run(&["status"]).said();
        let (left, diary) = (self.site.left(), self.diary.join("\n"));
        panic!("not everything was settled in the evening:\n{status}\nleft: {left:#?}\n{diary}\n{log}");
    }

    /// Brings whatever a manifest still waits for.
    fn bring_all(&mut self) {
        self.bring_late();
        for manifest in self.manifests.iter().filter(|manifest| self.site.in_drop(&manifest.path).exists()) {
            for scan in manifest.entries.iter().flat_map(|entry| &entry.scans) {
                let file = manifest.file(&scan.path);
                if !self.site.in_drop(&file).exists() {
                    self.put(&file, &scan.content);
                }
            }
        }
    }

    fn release_held(&mut self) {
        let held = self.run(&["jobs", "--state", "held", "--json"]).expect(0).stdout;
        let held: Value = serde_json::from_str(&held).unwrap();
        for job in held.as_array().unwrap() {
            assert_eq!(job["kind"], "file", "only a lost file is left to a person: {job}");
            self.run(&["release", &job["id"].to_string(), "--send-again"]).expect(0);
        }
    }

    /// Uploads that came to nothing although an answer may have been lost.
    pub(super) fn uncertain(ledger: &[LedgerEntry]) -> usize {
        let upload = |call: &&LedgerEntry| matches!(call.operation, ApiCall::UploadImage | ApiCall::UploadFile);
        ledger.iter().filter(upload).filter(|call| !call.committed && call.fault.is_some()).count()
    }
}
