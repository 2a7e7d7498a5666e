//! P19: the scripts that a user would write instead, beside the worker, on the same files and against the same sink.
//!
//! The scripts are not part of this repository; their folder is an argument. What is missing for one of them (Python's
//! `requests`, `jq`, `curl`) is reported, and the others are measured.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::{
    Effort,
    figures::{Goal, Worth, median},
    machine::{self, Disk, Watch, foreign_text},
    material::{self, Kind, Shape},
    sink::Sink,
    worker::{self, Setup, Used},
};

/// Which scripts.
#[derive(clap::Args, Debug, Clone)]
pub struct Options {
    /// The folder with `upload_threads.py` and `upload_loop.sh`.
    folder: PathBuf,
}

/// A script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Script {
    /// A pool of threads and `requests`.
    Python,
    /// `base64 | jq | curl`.
    Bash,
}

impl Script {
    const fn name(self) -> &'static str {
        match self {
            Self::Python => "Python",
            Self::Bash => "bash",
        }
    }

    const fn file(self) -> &'static str {
        match self {
            Self::Python => "upload_threads.py",
            Self::Bash => "upload_loop.sh",
        }
    }

    /// What this machine lacks for it.
    fn lacks(self) -> Option<&'static str> {
        let works = |program: &str, arguments: &[&str]| {
            let mut command = Command::new(program);
            command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        match self {
            Self::Python if !works("python3", &["-c", "import requests"]) => {
                Some("python3 with the package requests: `pip install requests`")
            }
            Self::Bash if !works("jq", &["--version"]) => Some("jq"),
            Self::Bash if !works("curl", &["--version"]) => Some("curl"),
            Self::Python | Self::Bash => None,
        }
    }

    /// The command, in a folder of its own, where the script keeps what it recorded.
    fn command(self, scripts: &Path, folder: &Path, sink: &Sink, drop: &Path, at_once: u32) -> Result<Command> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
        let ca_file = sink.ca_file.as_deref().context("the scripts are run over TLS")?;
        let mut command = match self {
            Self::Python => Command::new("python3"),
            Self::Bash => Command::new("bash"),
        };
        command.arg(scripts.join(self.file())).arg(&sink.base_url).arg(drop).current_dir(folder);
        match self {
            Self::Python => command.arg("--threads").arg(at_once.to_string()).arg("--cacert").arg(ca_file),
            Self::Bash => command.arg(at_once.to_string()).env("CURL_ARGS", format!("--cacert {}", ca_file.display())),
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).env("API_KEY", "bench");
        Ok(command)
    }
}

/// One comparison of a script with the worker.
struct Comparison {
    script: Script,
    what: &'static str,
    at_once: u32,
    shape: Shape,
    /// Of the rates.
    faster: Goal,
    /// Of the peak memory, worker ÷ script, where there is a goal.
    smaller: Option<Goal>,
    /// What the script is given where it is too slow for all; the rates are compared.
    fewer: Option<Shape>,
}

fn comparisons(effort: &Effort) -> Vec<Comparison> {
    let tenth = |number: u32| if effort.quick { number / 10 } else { number };
    let small = |documents: u32| Shape {
        documents,
        images: 2,
        image_bytes: 50_000,
        profiles: 10,
        per_manifest: effort.per_manifest,
        kind: Kind::Jpeg,
    };
    let large = Shape {
        documents: tenth(10).max(4),
        images: 2,
        image_bytes: 40_000_000,
        profiles: 10,
        per_manifest: 4,
        kind: Kind::Jpeg,
    };
    let of_small = |script, what, at_once, faster, fewer| Comparison {
        script,
        what,
        at_once,
        shape: small(tenth(2000)),
        faster,
        smaller: None,
        fewer,
    };
    vec![
        of_small(Script::Python, "small documents, 8 at once", 8, Goal::AtLeast(9.0), None),
        of_small(Script::Python, "small documents, 32 at once", 32, Goal::AtLeast(12.0), None),
        of_small(Script::Bash, "small documents, 8 at once", 8, Goal::AtLeast(250.0), Some(small(tenth(40)))),
        Comparison {
            script: Script::Python,
            what: "images of 40 MB, 8 at once",
            at_once: 8,
            shape: large,
            faster: Goal::AtLeast(12.0),
            smaller: Some(Goal::AtMost(1.0 / 40.0)),
            fewer: None,
        },
    ]
}

/// Measures and prints.
pub fn run(options: &Options, effort: &Effort, folder: &Path) -> Result<()> {
    let scripts = fs::canonicalize(&options.folder)
        .with_context(|| format!("cannot open the folder of the baselines, {}", options.folder.display()))?;
    for comparison in comparisons(effort) {
        let Comparison { script, what, .. } = comparison;
        ensure!(scripts.join(script.file()).is_file(), "{} has no {}", scripts.display(), script.file());
        match script.lacks() {
            Some(what_it_lacks) => println!("P19 {}, {what}: left out, needs {what_it_lacks}", script.name()),
            None => compare(&comparison, &scripts, effort, &folder.join("comparison"))?,
        }
    }
    Ok(())
}

fn compare(comparison: &Comparison, scripts: &Path, effort: &Effort, folder: &Path) -> Result<()> {
    let Comparison { script, what, at_once, shape, fewer, .. } = comparison;
    println!("P19 {}, {what}, TLS: worker ÷ {}", script.name(), script.file());
    let (ours, theirs) = (folder.join("ours"), folder.join("theirs"));
    fs::create_dir_all(&ours)?;
    let drop = material::write(&ours, shape)?;
    let their_shape = fewer.as_ref().unwrap_or(shape);
    let their_drop = if fewer.is_some() { material::write(&theirs, their_shape)? } else { drop.clone() };
    let mut sink = Sink::start(folder, false)?;
    let mut disk = machine::disk(folder)?;
    let watch = Watch::start(&[sink.id()])?;
    let mut runs = Vec::new();
    for round in 0..effort.rounds {
        sink.reset()?;
        let command = script.command(scripts, &folder.join("script"), &sink, &their_drop, *at_once)?;
        let their_run = worker::run(command)?;
        sink.tally(their_shape.uploads(), their_shape.documents.into())?;
        sink.reset()?;
        let our_run = worker::import(
            &folder.join("worker"),
            Setup { program: &effort.worker, max_in_flight: *at_once },
            &sink,
            &drop,
        )?;
        sink.tally(shape.uploads(), shape.documents.into())?;
        let run = Run {
            faster: (shape.bytes() / our_run.wall) / (their_shape.bytes() / their_run.wall),
            ours: our_run,
            theirs: their_run,
        };
        println!("  {:>2}: {:.1} times as fast", round + 1, run.faster);
        runs.push(run);
        disk = disk.worse(machine::disk(folder)?);
    }
    report(comparison, effort, &runs, watch.foreign_percent()?, disk);
    std::mem::drop(sink);
    fs::remove_dir_all(folder)?;
    Ok(())
}

struct Run {
    faster: f64,
    ours: Used,
    theirs: Used,
}

fn report(comparison: &Comparison, effort: &Effort, runs: &[Run], foreign: f64, disk: Disk) {
    let Comparison { script, what, shape, fewer, faster, smaller, .. } = comparison;
    let their_shape = fewer.as_ref().unwrap_or(shape);
    let worth = Worth::of(effort.quick, disk.sync_p50);
    let of = |figure: fn(&Run) -> f64| median(&runs.iter().map(figure).collect::<Vec<_>>());
    let ratio = of(|run| run.faster);
    println!("P19 {}, {what}: {ratio:.1} (goal {faster}: {})", script.name(), faster.verdict(ratio, worth));
    let memory = of(|run| run.ours.peak_mib) / of(|run| run.theirs.peak_mib);
    if let Some(goal) = smaller {
        println!(
            "P19 {}, peak memory: 1/{:.0} (goal {goal}: {})",
            script.name(),
            1.0 / memory,
            goal.verdict(memory, worth)
        );
    }
    for (name, shape, wall, peak) in [
        ("worker", shape, of(|run| run.ours.wall), of(|run| run.ours.peak_mib)),
        (script.name(), their_shape, of(|run| run.theirs.wall), of(|run| run.theirs.peak_mib)),
    ] {
        println!(
            "   {name}: {:.1} documents/s, {:.1} MB/s of image, peak {peak:.1} MiB",
            f64::from(shape.documents) / wall,
            shape.bytes() / 1e6 / wall
        );
    }
    println!("   {} rounds; {}; {disk}", runs.len(), foreign_text(foreign));
}
