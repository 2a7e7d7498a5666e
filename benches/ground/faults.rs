//! Has the calls that the worker makes to files fail, each in its turn, once and for good, and looks what becomes of it.
//!
//! The tracer makes the call fail instead of the kernel: the program is the real one. It counts the calls of each thread
//! by itself, so that "the third" is the third of every thread.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use passfort_ingest::clock::Timestamp;
use rustix::process::Signal;

use crate::{
    dice::Dice,
    end,
    site::{self, Order, Site},
    strace,
};

/// Whose files a fault is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ground {
    Database,
    Drop,
}

/// A call, and how it may fail there: an error's name, or `=0` for a call that did nothing and reported that.
struct Kind {
    ground: Ground,
    call: &'static str,
    errors: &'static [&'static str],
}

const fn on(ground: Ground, call: &'static str, errors: &'static [&'static str]) -> Kind {
    Kind { ground, call, errors }
}

const KINDS: [Kind; 24] = [
    on(Ground::Database, "pwrite64", &["EIO", "ENOSPC", "EDQUOT", "EROFS", "=0"]),
    on(Ground::Database, "pread64", &["EIO"]),
    on(Ground::Database, "fsync", &["EIO", "ENOSPC"]),
    on(Ground::Database, "ftruncate", &["EIO"]),
    on(Ground::Database, "openat", &["EIO", "EMFILE", "EACCES", "ENOSPC"]),
    on(Ground::Database, "open", &["EIO", "EMFILE", "EACCES"]),
    on(Ground::Database, "unlink", &["EIO", "EACCES"]),
    on(Ground::Database, "fstat", &["EIO"]),
    on(Ground::Database, "newfstatat", &["EIO"]),
    on(Ground::Database, "statx", &["EIO"]),
    on(Ground::Database, "mkdirat", &["ENOSPC", "EACCES"]),
    on(Ground::Drop, "openat2", &["EIO", "EMFILE", "EACCES", "ESTALE"]),
    on(Ground::Drop, "openat", &["EIO", "EMFILE", "EACCES", "ENOSPC"]),
    on(Ground::Drop, "open", &["EIO", "EMFILE", "EACCES"]),
    on(Ground::Drop, "read", &["EIO", "=0"]),
    on(Ground::Drop, "pread64", &["EIO", "=0"]),
    on(Ground::Drop, "preadv2", &["EIO", "=0"]),
    on(Ground::Drop, "getdents64", &["EIO"]),
    on(Ground::Drop, "fstat", &["EIO"]),
    on(Ground::Drop, "newfstatat", &["EIO"]),
    on(Ground::Drop, "statx", &["EIO"]),
    on(Ground::Drop, "renameat2", &["EIO", "EACCES", "ENOSPC", "EROFS"]),
    on(Ground::Drop, "mkdirat", &["ENOSPC", "EACCES", "EDQUOT", "EROFS"]),
    on(Ground::Drop, "fsync", &["EIO", "ENOSPC"]),
];

/// One fault.
#[derive(Debug, Clone)]
pub struct Fault {
    ground: Ground,
    call: &'static str,
    error: &'static str,
    number: usize,
    for_good: bool,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let often = if self.for_good { "and all after it" } else { "alone" };
        write!(f, "{:?}: {} number {} {often}: {}", self.ground, self.call, self.number, self.error)
    }
}

/// What became of all faults.
#[derive(Debug, Default)]
pub struct Count {
    pub faults: usize,
    /// The run that met the fault ended well by itself.
    pub unharmed: usize,
    /// It ended and reported why, and the next run continued.
    pub gave_up: usize,
    /// It waited and reported why, until it was stopped, and the next run continued.
    pub waited: usize,
    pub failures: Vec<String>,
}

/// Every fault that there can be in a run of this order: each call that a run without faults makes, in each way; or, `one`
/// way of each call, taking turns.
pub fn all(program: &Path, order: &Order, one: bool) -> Result<Vec<Fault>> {
    let mut faults = Vec::new();
    for ground in [Ground::Database, Ground::Drop] {
        let counts = count(program, order, ground)?;
        for kind in KINDS.iter().filter(|kind| kind.ground == ground) {
            let calls = counts.get(kind.call).copied().unwrap_or_default();
            // A file that reads as shorter for good is shorter, and whatever it asks for is refused in truth.
            let may_stay = |error: &str| !(error.starts_with('=') && ground == Ground::Drop);
            let ways = (1..=calls).flat_map(|number| kind.errors.iter().enumerate().map(move |way| (number, way)));
            for (number, (way, error)) in ways {
                if one && way != number % kind.errors.len() {
                    continue;
                }
                for for_good in [false, true].into_iter().filter(|for_good| !for_good || may_stay(error)) {
                    faults.push(Fault { ground, call: kind.call, error, number, for_good });
                }
            }
        }
    }
    Ok(faults)
}

/// `wanted` of them, with a share for every kind of call, at least one.
pub fn some(faults: Vec<Fault>, wanted: usize, seed: u64) -> Vec<Fault> {
    let mut dice = Dice::new(seed, 1, 2);
    let mut kinds: BTreeMap<String, Vec<Fault>> = BTreeMap::new();
    for fault in faults {
        let key = format!("{:?} {} {}", fault.ground, fault.call, fault.for_good);
        kinds.entry(key).or_default().push(fault);
    }
    let mut chosen = Vec::new();
    while chosen.len() < wanted && kinds.values().any(|left| !left.is_empty()) {
        for left in kinds.values_mut().filter(|left| !left.is_empty()) {
            let at = dice.below(left.len());
            chosen.push(left.swap_remove(at));
        }
    }
    chosen
}

/// Tries each.
pub fn run(program: &Path, order: &Order, faults: &[Fault], threads: usize) -> Result<Count> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut count = Count::default();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(fault) = faults.get(number) else { break };
            if number > 0 && number.is_multiple_of(TELL_EVERY) {
                println!("{number} of {} faults", faults.len());
            }
            count.faults += 1;
            match try_one(program, order, fault) {
                Ok(Became::Unharmed) => count.unharmed += 1,
                Ok(Became::GaveUp) => count.gave_up += 1,
                Ok(Became::Waited) => count.waited += 1,
                Err(error) => {
                    println!("{fault}: {error:#}");
                    count.failures.push(format!("{fault}: {error:#}"));
                }
            }
        }
        count
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(worker)).collect();
        let mut all = Count::default();
        for worker in workers {
            let Ok(count) = worker.join() else { bail!("a check died of a defect") };
            all.faults += count.faults;
            all.unharmed += count.unharmed;
            all.gave_up += count.gave_up;
            all.waited += count.waited;
            all.failures.extend(count.failures);
        }
        Ok(all)
    })
}

/// Faults between two lines that say how far it is.
const TELL_EVERY: usize = 100;

enum Became {
    Unharmed,
    GaveUp,
    Waited,
}

/// The time for a worker that met a fault to end well or to report that it cannot.
const SAYS_WITHIN: Duration = Duration::from_secs(90);

/// The time for one that was asked to stop.
const STOPS_WITHIN: Duration = Duration::from_secs(30);

fn ground(program: &Path, order: &Order) -> Result<Site> {
    let mut site = Site::new(program)?;
    site.start_api(&[], &[], "")?;
    site.put(order)?;
    Ok(site)
}

fn try_one(program: &Path, order: &Order, fault: &Fault) -> Result<Became> {
    let site = ground(program, order)?;
    let mut tracer = tracer(&site, order, fault.ground);
    let how = fault.error.strip_prefix('=').map_or_else(|| format!("error={}", fault.error), |v| format!("retval={v}"));
    let when = format!("{}{}", fault.number, if fault.for_good { "+" } else { "" });
    tracer.args(["-f", "-o", "/dev/null", "-e"]).arg(format!("trace={}", fault.call));
    tracer.arg("-e").arg(format!("inject={}:{how}:when={when}", fault.call));
    // Of faults that stay, the daemon meets one half, and the command for timers, which has to end by itself, the other.
    let daemon = fault.for_good && fault.number.is_multiple_of(2);
    let once = ["run", "--once", "--give-up-after", "2s"];
    let mut child = site.start(Some(tracer), if daemon { &["run"] } else { &once })?;

    let deadline = Instant::now() + SAYS_WITHIN;
    let mut stopped = false;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        let late = Instant::now() > deadline + if stopped { STOPS_WITHIN } else { Duration::ZERO };
        let said = site.said();
        if late {
            site::children(child.id()).into_iter().try_for_each(site::kill)?;
            child.wait()?;
            bail!("it {}:\n{said}", if stopped { "does not stop" } else { "neither ends nor says why" });
        }
        // Before it is at work, it is not ready to be asked to stop.
        let complains = said.contains("at work") && (said.contains("ERROR") || said.contains("WARN"));
        if !stopped && daemon && (complains || all_settled(&site, order)) {
            stopped = true;
            site::children(child.id()).into_iter().try_for_each(|id| site::signal(id, Signal::TERM))?;
        }
        thread::sleep(Duration::from_millis(5));
    };
    let said = site.said();
    ensure!(!said.contains("panicked") && !said.contains("defect"), "it died of a defect:\n{said}");
    let code = status.code().with_context(|| format!("a signal ended it:\n{said}"))?;
    ensure!((0..=3).contains(&code), "it ended with {code}:\n{said}");
    let well = !stopped && (code == 0 || (code == 1 && all_settled(&site, order)));
    let silent = said.lines().all(|line| line.contains(" INFO ") || line.trim().is_empty());
    ensure!(well || stopped || !silent, "it ended with {code} and did not say why:\n{said}");

    // The fault is gone.
    let mut after = (Some(0), String::new());
    if !well || !all_settled(&site, order) {
        site::settle();
        after = site.run(None, &["run", "--once"])?;
    }
    // No list proves that the first document of an account is absent: a person looks at the profile, and decides.
    if after.0 == Some(3) && after.1.contains("held until a person decides") && site.sandbox()?.documents().is_empty() {
        let (code, said) = site.run(None, &["release", "--state", "held", "--send-again"])?;
        ensure!(code == Some(0), "what is held cannot be released:\n{said}");
        after = site.run(None, &["run", "--once"])?;
    }
    let story = || format!("first:\n{said}\nthen, with {:?}:\n{}", after.0, after.1);
    ensure!(matches!(after.0, Some(0 | 1)), "without the fault it ended with {:?}\n{}", after.0, story());
    let mut files = site::files_below(&site.at("drop"))?;
    if fault.error == "EACCES" && fault.call.starts_with("openat") {
        // What may not be read any more when it is to be archived stays where it is, and that is reported.
        archive_by_hand(order, &mut files);
    }
    end::judge(order, site.sandbox()?, &[], &files).with_context(story)?;
    Ok(match (stopped, well) {
        (_, true) => Became::Unharmed,
        (true, _) if code == 0 && !said.contains("ERROR") && !said.contains("WARN") => Became::Unharmed,
        (true, _) => Became::Waited,
        _ => Became::GaveUp,
    })
}

/// Does with what was left behind what the worker would have done.
fn archive_by_hand(order: &Order, files: &mut BTreeMap<String, Vec<u8>>) {
    for (batch, named) in &order.batches {
        let shelf = if order.spoilt.contains(batch) { "failed" } else { "done" };
        let left: Vec<&String> = named.iter().filter(|path| !path.ends_with(site::MANIFEST)).collect();
        for path in left {
            if files.contains_key(&Order::receipt(batch))
                && let Some(bytes) = files.remove(path)
            {
                files.insert(format!("{shelf}/by-hand/{path}"), bytes);
            }
        }
    }
}

fn all_settled(site: &Site, order: &Order) -> bool {
    let left = order.batches.keys().any(|folder| site.at("drop").join(folder).join(site::MANIFEST).exists());
    let receipts = order.batches.keys().all(|folder| site.at("drop").join(Order::receipt(folder)).exists());
    receipts && !left
}

/// How often a run without faults makes each call, in the thread that makes it most.
fn count(program: &Path, order: &Order, ground_of: Ground) -> Result<BTreeMap<String, usize>> {
    let site = ground(program, order)?;
    let calls: BTreeSet<&str> = KINDS.iter().filter(|kind| kind.ground == ground_of).map(|kind| kind.call).collect();
    let mut tracer = tracer(&site, order, ground_of);
    let wanted = format!("trace={}", calls.into_iter().collect::<Vec<_>>().join(","));
    tracer.args(["-ff", "-o"]).arg(site.at("calls")).args(["-e", &wanted]);
    let (code, said) = site.run(Some(tracer), &["run", "--once"])?;
    ensure!(code == Some(order.code()), "the run without faults ended with {code:?}:\n{said}");
    let mut most: BTreeMap<String, usize> = BTreeMap::new();
    for (name, text) in site::files_in(site.root())? {
        if !name.starts_with("calls.") {
            continue;
        }
        let mut thread: BTreeMap<String, usize> = BTreeMap::new();
        for line in String::from_utf8_lossy(&text).lines() {
            let Some((call, _)) = line.split_once('(') else { continue };
            *thread.entry(call.to_owned()).or_default() += 1;
        }
        for (call, calls) in thread {
            let so_far = most.entry(call).or_default();
            *so_far = calls.max(*so_far);
        }
    }
    ensure!(!most.is_empty(), "the tracer saw no calls:\n{said}");
    Ok(most)
}

/// The tracer, for the files of the database or for those of the drop.
fn tracer(site: &Site, order: &Order, ground: Ground) -> Command {
    let mut paths: Vec<PathBuf> = Vec::new();
    match ground {
        Ground::Database => {
            paths.extend(["state", "state/queue"].map(|path| site.at(path)));
            paths.extend(
                ["", "-wal", "-journal", "-shm", ".lock"].map(|end| site.at(&format!("state/queue/queue.db{end}"))),
            );
        }
        Ground::Drop => {
            let drop = site.at("drop");
            let date = Timestamp::now().date();
            let shelves = ["", "receipts", "done", "failed", &format!("done/{date}"), &format!("failed/{date}")]
                .map(|folder| drop.join(folder));
            for shelf in shelves {
                paths.extend(order.batches.keys().map(|batch| shelf.join(batch)));
                paths.push(shelf);
            }
            paths.push(drop.clone());
            paths.extend(order.files.keys().map(|file| drop.join(file)));
        }
    }
    let mut command = strace::quiet();
    for path in paths {
        command.arg("-P").arg(path);
    }
    command
}
