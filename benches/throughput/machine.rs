//! What else the machine did: CPU that others used, and how fast its disk makes 4 KiB durable.
//!
//! Both are reported with every figure, because either can explain it.

use std::{
    fmt, fs,
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::figures::{BUSY_PERCENT, percentile};

/// The kernel's ticks a second for user space, the same on every Linux that Rust supports.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time used so far, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ticks {
    all: u64,
    busy: u64,
    own: u64,
}

/// A span of time in which the CPU is watched.
pub struct Watch {
    before: Ticks,
    live: Vec<u32>,
}

impl Watch {
    /// Starts watching. `live` are processes of ours that keep running: what they use is ours too.
    pub fn start(live: &[u32]) -> Result<Self> {
        Ok(Self { before: ticks(live)?, live: live.to_vec() })
    }

    /// The share of the machine's CPU time that others used since the start, in per cent. Processes of ours that ended
    /// meanwhile must have been waited for.
    pub fn foreign_percent(&self) -> Result<f64> {
        let after = ticks(&self.live)?;
        let all = after.all.saturating_sub(self.before.all);
        let busy = after.busy.saturating_sub(self.before.busy);
        let own = after.own.saturating_sub(self.before.own);
        Ok(if all == 0 { 0.0 } else { busy.saturating_sub(own) as f64 * 100.0 / all as f64 })
    }
}

/// CPU seconds of the processes that this one has waited for.
pub fn children_cpu_seconds() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat").context("cannot read /proc/self/stat")?;
    let fields = process_times(&stat);
    Ok(fields.iter().skip(2).sum::<u64>() as f64 / TICKS_PER_SECOND)
}

fn ticks(live: &[u32]) -> Result<Ticks> {
    let machine = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    let (all, busy) = machine_times(&machine);
    let stat = fs::read_to_string("/proc/self/stat").context("cannot read /proc/self/stat")?;
    let mut own: u64 = process_times(&stat).iter().sum();
    for id in live {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        own += process_times(&stat).iter().sum::<u64>();
    }
    Ok(Ticks { all, busy, own })
}

/// All ticks and those that were not idle, from the text of `/proc/stat`. Waiting for a disk is idle.
pub fn machine_times(stat: &str) -> (u64, u64) {
    let line = stat.lines().next().unwrap_or_default();
    // user nice system idle iowait irq softirq steal; what guests used is in user already.
    let times: Vec<u64> = line.split_whitespace().skip(1).take(8).filter_map(|field| field.parse().ok()).collect();
    let all: u64 = times.iter().sum();
    let idle: u64 = times.iter().skip(3).take(2).sum();
    (all, all.saturating_sub(idle))
}

/// User and system ticks of a process, then those of its children that it waited for, from the text of its `stat`.
pub fn process_times(stat: &str) -> Vec<u64> {
    // The name is in brackets and may contain anything, so fields count from behind the last bracket.
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    fields.split_whitespace().skip(11).take(4).filter_map(|field| field.parse().ok()).collect()
}

/// How long the disk takes to make 4 KiB durable.
#[derive(Debug, Clone, Copy)]
pub struct Disk {
    /// Of half of the writes at most.
    pub sync_p50: Duration,
}

/// Appends and syncs 4 KiB 200 times.
pub fn disk(folder: &Path) -> Result<Disk> {
    let path = folder.join("fdatasync-probe");
    let mut file = fs::File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    let mut took = Vec::new();
    for _ in 0..200 {
        let start = Instant::now();
        file.write_all(&[0xA5; 4096])?;
        file.sync_data()?;
        took.push(start.elapsed().as_secs_f64());
    }
    fs::remove_file(&path)?;
    Ok(Disk { sync_p50: Duration::from_secs_f64(percentile(&took, 0.5)) })
}

impl Disk {
    /// The slower of two.
    pub fn worse(self, other: Self) -> Self {
        if self.sync_p50 >= other.sync_p50 { self } else { other }
    }
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.sync_p50.as_secs_f64();
        write!(f, "fdatasync p50 {:.0} µs ({:.0}/s)", seconds * 1e6, 1.0 / seconds.max(1e-9))
    }
}

/// Foreign CPU as text, with a word where it was too much.
pub fn foreign_text(percent: f64) -> String {
    let busy = if percent > BUSY_PERCENT { " (busy)" } else { "" };
    format!("foreign CPU {percent:.0} %{busy}")
}
