//! The worker's own binary, run as a user would run it, and what it used meanwhile.

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{filled, machine, sink::Sink};

/// Between two looks at a process's memory. What is read is its peak so far, so only a peak in the very last moment
/// before the end can be missed.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What a process used.
#[derive(Debug, Clone, Copy)]
pub struct Used {
    /// From its start to its end, in seconds.
    pub wall: f64,
    /// In user space and the kernel, in seconds.
    pub cpu: f64,
    /// Its largest resident size, in MiB.
    pub peak_mib: f64,
}

/// How the worker is set up.
#[derive(Debug, Clone, Copy)]
pub struct Setup<'a> {
    /// Its program.
    pub program: &'a Path,
    /// `[workers] max_in_flight`.
    pub max_in_flight: u32,
}

/// How the worker is given its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// `import`, which sends the first documents of a large manifest while the others are still checked.
    Import,
    /// `run --once` on a drop, which sends nothing of a manifest before all of it was checked.
    Drop,
}

/// Runs `import` on a folder with a new database, against a sink.
///
/// `folder` is for the configuration, the database, and the worker's output; it is created again each time.
pub fn import(folder: &Path, setup: Setup<'_>, sink: &Sink, drop: &Path) -> Result<Used> {
    work(Way::Import, folder, setup, sink, drop)
}

/// Runs the worker in this way on a folder of manifests, with a new database, against a sink. The folder stays as it is.
pub fn work(way: Way, folder: &Path, setup: Setup<'_>, sink: &Sink, drop: &Path) -> Result<Used> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let config = folder.join("config.toml");
    configure(&config, folder, setup, sink, (way == Way::Drop).then_some((drop, "keep")))?;
    let mut command = Command::new(setup.program);
    command.arg("--config").arg(&config);
    match way {
        Way::Import => command.arg("import").arg(drop).arg("--receipts-to").arg(folder.join("receipts")),
        Way::Drop => command.args(["run", "--once"]),
    };
    let words = folder.join("stderr.txt");
    command
        .env("PASSFORT_API_KEY", "bench")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&words)?);
    run(command).with_context(|| {
        let text = fs::read_to_string(&words).unwrap_or_default();
        let last: Vec<&str> = text.lines().rev().take(10).collect();
        format!("the worker's last words: {}", last.into_iter().rev().collect::<Vec<_>>().join("\n"))
    })
}

/// Writes a configuration, with its database in `folder`; where a drop is watched, with `after_success` of it.
pub fn configure(
    config: &Path,
    folder: &Path,
    setup: Setup<'_>,
    sink: &Sink,
    drop: Option<(&Path, &str)>,
) -> Result<()> {
    let mut text = configuration(folder, setup, sink)?;
    if let Some((drop, after_success)) = drop {
        text += &watched(folder, drop, after_success)?;
    }
    Ok(fs::write(config, text)?)
}

/// The part of a configuration that says where the drop is.
fn watched(folder: &Path, drop: &Path, after_success: &str) -> Result<String> {
    let mut text = format!("\n[[drop]]\nname = \"{}\"\npath = {}\n", filled::DROP, quoted(drop)?);
    writeln!(text, "settle = \"0s\"\nafter_success = \"{after_success}\"\nmanifests = [\"*.manifest.jsonl\"]")?;
    writeln!(text, "receipts_dir = {}", quoted(&folder.join("receipts"))?)?;
    Ok(text)
}

fn quoted(path: &Path) -> Result<String> {
    serde_json::to_string(path).context("a path is not UTF-8")
}

fn configuration(folder: &Path, setup: Setup<'_>, sink: &Sink) -> Result<String> {
    let mut text = format!("[api]\nbase_url = \"{}\"\n", sink.base_url);
    if let Some(path) = &sink.ca_file {
        writeln!(text, "ca_file = {}", quoted(path)?)?;
    }
    writeln!(text, "\n[queue]\ndatabase = {}", quoted(&folder.join("queue.db"))?)?;
    writeln!(text, "\n[workers]\nmax_in_flight = {}", setup.max_in_flight)?;
    Ok(text)
}

/// Runs a command to its end; an exit code other than 0 is an error.
pub fn run(mut command: Command) -> Result<Used> {
    let cpu_before = machine::children_cpu_seconds()?;
    let start = Instant::now();
    let mut child = command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    let memory = Memory::watch(&child);
    let status = child.wait()?;
    let wall = start.elapsed().as_secs_f64();
    let peak_mib = memory.peak_mib();
    if !status.success() {
        bail!("{} ended with {status}", command.get_program().display());
    }
    Ok(Used { wall, cpu: machine::children_cpu_seconds()? - cpu_before, peak_mib })
}

/// Watches the memory of a process from a thread of its own.
struct Memory {
    over: Arc<AtomicBool>,
    watcher: thread::JoinHandle<()>,
    peak_kib: Arc<AtomicU64>,
}

impl Memory {
    fn watch(child: &Child) -> Self {
        let (over, peak_kib) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (theirs, found, id) = (Arc::clone(&over), Arc::clone(&peak_kib), child.id());
        let watcher = thread::spawn(move || {
            while !theirs.load(Relaxed) {
                found.fetch_max(group_kib(id), Relaxed);
                thread::sleep(LOOK_EVERY);
            }
        });
        Self { over, watcher, peak_kib }
    }

    fn peak_mib(self) -> f64 {
        self.over.store(true, Relaxed);
        // A watcher that panicked has found what it found.
        drop(self.watcher.join());
        self.peak_kib.load(Relaxed) as f64 / 1024.0
    }
}

/// The peak so far of a process without children; with children, the sum of what all hold at this moment.
fn group_kib(id: u32) -> u64 {
    let children = children(id);
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    if children.is_empty() {
        return field_kib(&status, "VmHWM:");
    }
    field_kib(&status, "VmRSS:") + children.into_iter().map(resident_kib).sum::<u64>()
}

fn resident_kib(id: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    field_kib(&status, "VmRSS:") + children(id).into_iter().map(resident_kib).sum::<u64>()
}

fn children(id: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>()).collect()
}

/// A field of `/proc/<pid>/status` that is given in kB; 0 where it is absent.
pub fn field_kib(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}
