//! One random day: how the drop is configured, what operators do, and what goes wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::FileExt,
    time::{Duration, Instant},
};

use passfort_ingest::{clock, killpoint};
use serde_json::Value;

use super::{
    Dice,
    asked::Manifest,
    history::History,
    rare::{self, Trace},
    verdict,
    world::{Backup, World},
};
use crate::support::{Builder, Daemon, Finished, Site};

/// Things that happen on a day, besides what happens by itself.
const STEPS: u32 = 36;

/// How the drop is configured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Policy {
    pub(super) after_success: &'static str,
    /// Whether a manifest with a bad entry is rejected.
    pub(super) reject: bool,
    hold_lost_files: bool,
    pub(super) marker: bool,
    cancels: bool,
    /// Whether senders use names again that others use too.
    reuses: bool,
    /// Whether the wall clock jumps.
    pub(super) jumps: bool,
    /// Whether the API takes images of the profile that it takes no documents for.
    pub(super) refuses_documents: bool,
    pub(super) world: World,
}

pub(super) struct Day {
    pub(super) site: Site,
    pub(super) policy: Policy,
    pub(super) manifests: Vec<Manifest>,
    /// What the senders did with files and manifests.
    pub(super) history: History,
    /// Files that were replaced by others after they had been dropped, and all that they have been.
    pub(super) touched: BTreeMap<String, Vec<String>>,
    /// Whether a person's wish to cancel something was heard.
    pub(super) cancelled: bool,
    pub(super) kills: u32,
    pub(super) seed: u64,
    pub(super) dice: Dice,
    pub(super) daemon: Option<Daemon>,
    pub(super) entries: u32,
    /// Pictures that were put where no manifest had asked for just them.
    pub(super) pictures: u32,
    /// What is left to be dropped of what a manifest names: the file and its content.
    pub(super) late: Vec<(String, Vec<u8>)>,
    clock_ms: i64,
    /// Where the process that was started last is to die.
    pub(super) dies_at: Option<String>,
    /// Faults of this day's world.
    pub(super) world_rules: Vec<String>,
    pub(super) backups: Vec<Backup>,
    /// What should not have happened, besides what the verdict sees.
    pub(super) objections: Vec<String>,
    pub(super) diary: Vec<String>,
}

impl Day {
    /// Lives the day of a seed, and judges it; returns the rare states that it came to.
    pub(super) fn live(seed: u64) -> BTreeSet<&'static str> {
        let mut day = Self::new(seed);
        eprintln!("seed {seed}: {:?}", day.policy);
        for _ in 0..STEPS {
            day.step();
        }
        day.evening();
        let (certain, uncertain) = verdict::judge(&day);
        let (summary, calls) = (day.site.summary(), day.site.ledger().len());
        let (documents, files) = (summary.documents, summary.files);
        let world = day.policy.world;
        let (kills, puts) = (day.kills, day.history.reuses());
        eprintln!(
            "seed {seed}: all is well: {documents} documents, {files} files, {calls} calls, {kills} kills, {puts} names \
             reused, {certain} entries certain, {uncertain} not, in the world {}",
            world.word()
        );
        Trace::states(&day, &day.receipts(), day.logs())
    }

    fn new(seed: u64) -> Self {
        let world = World::of(seed);
        let mut dice = Dice::new(seed);
        let policy = Policy {
            after_success: dice.pick(&["archive", "archive", "keep", "delete"]),
            reject: dice.one_in(4),
            hold_lost_files: dice.one_in(3),
            marker: dice.one_in(5),
            cancels: dice.one_in(4) && world != World::Restore,
            jumps: dice.one_in(3) && world != World::Restore,
            refuses_documents: dice.one_in(3),
            reuses: !dice.one_in(3) && !world.is_strict(),
            world,
        };
        let on_invalid = if policy.reject { "reject" } else { "skip" };
        let marker = if policy.marker { ".done" } else { "" };
        let lost_file = if policy.hold_lost_files { "hold" } else { "send" };
        let mut site = Builder {
            sandbox: world.sandbox(),
            api: "response_timeout = '1s'\nstall_timeout = '1s'\nconnect_timeout = '2s'".to_owned(),
            retry: format!("max = '300ms'\nlost_file = '{lost_file}'"),
            drop: format!(
                "after_success = '{}'\non_invalid = '{on_invalid}'\ndone_marker = '{marker}'",
                policy.after_success
            ),
            ..Builder::default()
        }
        .build();
        if let Some(key) = Self::key(world) {
            site.use_key(key);
        }
        let mut day = Self {
            site,
            policy,
            manifests: Vec::new(),
            history: History::new(),
            touched: BTreeMap::new(),
            cancelled: false,
            kills: 0,
            seed,
            dice,
            daemon: None,
            entries: 0,
            pictures: 0,
            late: Vec::new(),
            clock_ms: 0,
            dies_at: None,
            world_rules: Vec::new(),
            backups: Vec::new(),
            objections: Vec::new(),
            diary: Vec::new(),
        };
        day.set_clock(0);
        day.make_world();
        day.set_faults(&[]);
        day
    }

    pub(super) fn note(&mut self, what: impl Into<String>) {
        let what = what.into();
        eprintln!("seed {}: {what}", self.seed);
        self.diary.push(what);
    }

    fn step(&mut self) {
        if self.world_step() {
            return;
        }
        match self.dice.below(44) {
            0..=6 => self.drop_manifest(),
            7..=8 => self.bring_late(),
            9 => self.edit(),
            10 => self.rename(),
            11 => self.touch(),
            12..=16 => self.start_or_end(),
            17..=19 => self.make_faults(),
            20 | 30 => self.jump(),
            21 => self.command(&["pause"]),
            22..=23 => self.command(&["resume"]),
            24 => self.command(&["retry", "--all"]),
            25 => self.cancel(),
            26 => self.look(),
            27..=29 => self.pass_time(),
            _ if self.policy.reuses => self.reuse(),
            _ => {}
        }
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
                    let at = self.place_to_die();
                    command.env(killpoint::VARIABLE, &at);
                    self.note(format!("started it, to die at {at}"));
                    self.dies_at = Some(at);
                } else {
                    self.note("started it");
                    self.dies_at = None;
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

    /// A place and how often it is reached; every other time one that the ledger of rare states looks for.
    fn place_to_die(&mut self) -> String {
        if self.dice.one_in(2) {
            return format!("{}:{}", self.dice.pick(killpoint::PLACES), self.dice.below(4) + 1);
        }
        let rare = self.dice.pick(rare::DEATHS);
        let places: Vec<&str> = killpoint::PLACES.iter().copied().filter(|place| place.contains(rare)).collect();
        format!("{}:{}", self.dice.pick(&places), self.dice.below(2) + 1)
    }

    /// Kills it where it may be in the middle of taking what was just dropped.
    pub(super) fn kill_soon(&mut self) {
        let Some(daemon) = self.daemon.take() else { return };
        let (began, after) = (Instant::now(), Duration::from_millis(u64::from(self.dice.below(160))));
        while began.elapsed() < after {
            std::thread::yield_now();
        }
        self.note(format!("killed it after {after:?}"));
        self.kills += 1;
        daemon.kill();
    }

    pub(super) fn command_of(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = self.site.command(arguments);
        command.env(clock::OFFSET_VARIABLE, self.site.at("clock"));
        command
    }

    /// Looks at how a process ended.
    pub(super) fn ended(&mut self, finished: Finished) -> Option<i32> {
        match finished.code {
            // The place to die at was reached, perhaps while it was stopping.
            None => {
                self.kills += 1;
                if let Some(at) = self.dies_at.take() {
                    self.note(format!("died at {at}"));
                }
            }
            Some(code) => assert!((0..=4).contains(&code), "exit code {code}: {}", finished.said()),
        }
        for word in ["panicked", "defect"] {
            assert!(!finished.stderr.contains(word), "{}", finished.stderr);
        }
        finished.code
    }

    /// Everything that was logged.
    fn logs(&self) -> String {
        let logs = fs::read_dir(self.site.at("log")).unwrap().map(|entry| entry.unwrap().path());
        let logs = logs.filter(|path| path.extension().is_some_and(|extension| extension == "err"));
        logs.map(|path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned()).collect()
    }

    pub(super) fn run(&mut self, arguments: &[&str]) -> Finished {
        self.site.finish(self.command_of(arguments))
    }

    pub(super) fn command(&mut self, arguments: &[&str]) {
        self.note(arguments.join(" "));
        let finished = self.run(arguments);
        assert!(finished.code.is_some_and(|code| code <= 3), "{arguments:?}: {finished:?}");
    }

    fn cancel(&mut self) {
        if !self.policy.cancels {
            return;
        }
        let open = self.run(&["jobs", "--state", "queued,waiting,running,held", "--json"]).stdout;
        let open: Value = serde_json::from_str(&open).unwrap_or_default();
        let open: Vec<&Value> = open.as_array().into_iter().flatten().collect();
        if !open.is_empty() {
            let job = self.dice.pick(&open)["id"].to_string();
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
    pub(super) fn set_faults(&self, rules: &[String]) {
        // Whatever else goes wrong, nothing is ever taken for one profile.
        let standing = self.standing_rules();
        let rules: Vec<&str> = standing.iter().chain(rules).map(String::as_str).collect();
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
        if self.dice.one_in(3) {
            self.make_world();
        }
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
        self.works();
    }

    /// Whether the daemon is alive; looks at how it ended where it is not.
    pub(super) fn works(&mut self) -> bool {
        let Some(mut daemon) = self.daemon.take() else { return false };
        let works = daemon.is_alive();
        if works {
            self.daemon = Some(daemon);
        } else {
            self.ended(daemon.finish());
        }
        works
    }
}
