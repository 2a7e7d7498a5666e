//! P1, P1b and P5: the worker beside the bare client, in alternating pairs.
//!
//! Two ratios each. *Total*: the worker's process from start to end, intake included, against the bare client's request
//! phase. *Sending*: from the first request to the last answer, as the sink saw it, for both.

use std::path::Path;

use anyhow::Result;

use crate::{
    Effort,
    bare::{Load, Took},
    figures::{Goal, Worth, median},
    machine::{self, Disk, Watch, foreign_text},
    material::{self, Kind, Shape},
    sink::{Sink, Tally},
    worker::{self, Setup, Used, Way},
};

/// One comparison.
struct Comparison {
    name: &'static str,
    way: Way,
    what: String,
    shape: Shape,
    connections: u32,
    /// Whether the bare client reads, hashes and encodes the files, or sends what was encoded beforehand.
    has_duties: bool,
    goal: Goal,
    stretch: Option<Goal>,
    unit: &'static str,
    /// What a run's seconds are divided into, in units.
    amount: f64,
}

/// P1: bytes a second of large images, by `import`.
pub fn large_images(effort: &Effort, folder: &Path) -> Result<()> {
    // One manifest a batch of eight, so that sending can begin before the last file was looked at.
    compare(effort, folder, &large("P1", 64, 8, Way::Import, Goal::AtLeast(0.95), effort))
}

/// P1b: the same of few images, each in a manifest of its own, as a watched folder is worked on. Starting up counts, and
/// whatever is sent was hashed before.
pub fn large_images_of_a_drop(effort: &Effort, folder: &Path) -> Result<()> {
    compare(effort, folder, &large("P1b", 8, 1, Way::Drop, Goal::AtLeast(0.85), effort))
}

fn large(name: &'static str, images: u32, per_manifest: u32, way: Way, goal: Goal, effort: &Effort) -> Comparison {
    let (documents, image_bytes) = if effort.quick { (8, 4_000_000) } else { (images, 40_000_000) };
    let shape = Shape { documents, images: 1, image_bytes, profiles: 8, per_manifest, kind: Kind::Jpeg };
    Comparison {
        name,
        way,
        what: format!(
            "{documents} × {} MB, 8 connections, TLS, {}; the client reads, hashes and encodes",
            image_bytes / 1_000_000,
            if way == Way::Import { "import" } else { "run --once on a drop" }
        ),
        shape,
        connections: 8,
        has_duties: true,
        goal,
        stretch: None,
        unit: "MB/s of image",
        amount: shape.bytes() / 1e6,
    }
}

/// P5: documents a second, of two small images each.
pub fn small_documents(effort: &Effort, folder: &Path) -> Result<()> {
    let documents = if effort.quick { 400 } else { 4000 };
    let shape = Shape {
        documents,
        images: 2,
        image_bytes: 50_000,
        profiles: documents / 4,
        per_manifest: effort.per_manifest,
        kind: Kind::Jpeg,
    };
    let comparison = Comparison {
        name: "P5",
        way: Way::Import,
        what: format!("{documents} documents of 2 × 50 KB, 32 connections, TLS"),
        shape,
        connections: 32,
        has_duties: false,
        goal: Goal::AtLeast(0.40),
        stretch: Some(Goal::AtLeast(0.50)),
        unit: "documents/s",
        amount: f64::from(documents),
    };
    compare(effort, folder, &comparison)
}

/// The two runs of a pair.
struct Pair {
    bare: (Took, Tally),
    worker: (Used, Tally),
    foreign: f64,
}

impl Pair {
    fn total(&self) -> f64 {
        self.bare.0.requests / self.worker.0.wall
    }

    fn sending(&self) -> f64 {
        self.bare.1.sending_seconds() / self.worker.1.sending_seconds()
    }
}

fn compare(effort: &Effort, folder: &Path, comparison: &Comparison) -> Result<()> {
    let Comparison { name, what, shape, .. } = comparison;
    println!("{name}: {what}; worker ÷ bare client on {} thread(s)", effort.bare_threads);
    std::fs::create_dir_all(folder)?;
    let drop = material::write(folder, shape)?;
    let mut sink = Sink::start(folder, false)?;
    let mut disk = machine::disk(folder)?;
    let mut pairs = Vec::new();
    for round in 0..effort.rounds {
        let pair = pair(effort, folder, comparison, &drop, &mut sink, round % 2 == 1)?;
        println!(
            "  {:>2}: whole {:.3}, sending {:.3}; {}",
            round + 1,
            pair.total(),
            pair.sending(),
            foreign_text(pair.foreign)
        );
        pairs.push(pair);
        disk = disk.worse(machine::disk(folder)?);
    }
    report(effort, comparison, &pairs, disk);
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

fn pair(
    effort: &Effort,
    folder: &Path,
    comparison: &Comparison,
    drop: &Path,
    sink: &mut Sink,
    worker_first: bool,
) -> Result<Pair> {
    let Comparison { shape, connections, way, has_duties, .. } = comparison;
    let (uploads, documents) = (shape.uploads(), shape.documents.into());
    let load = Load::beside(shape, sink, *connections, effort.bare_threads, has_duties.then_some(drop));
    let setup = Setup { program: &effort.worker, max_in_flight: *connections };
    let run_bare = |sink: &mut Sink| -> Result<(Took, Tally)> {
        sink.reset()?;
        Ok((load.send()?, sink.tally(uploads, documents)?))
    };
    let run_worker = |sink: &mut Sink| -> Result<(Used, Tally)> {
        sink.reset()?;
        Ok((worker::work(*way, &folder.join("worker"), setup, sink, drop)?, sink.tally(uploads, documents)?))
    };
    let watch = Watch::start(&[sink.id()])?;
    let (bare, worker) = if worker_first {
        let worker = run_worker(sink)?;
        (run_bare(sink)?, worker)
    } else {
        (run_bare(sink)?, run_worker(sink)?)
    };
    Ok(Pair { bare, worker, foreign: watch.foreign_percent()? })
}

fn report(effort: &Effort, comparison: &Comparison, pairs: &[Pair], disk: Disk) {
    let Comparison { name, goal, stretch, unit, amount, .. } = comparison;
    let worth = Worth::of(effort.quick, disk.sync_p50);
    let of = |figure: fn(&Pair) -> f64| median(&pairs.iter().map(figure).collect::<Vec<_>>());
    for (view, ratio) in [("whole process", of(Pair::total)), ("sending alone", of(Pair::sending))] {
        let stretch = stretch
            .map_or_else(String::new, |stretch| format!("; stretch {stretch}: {}", stretch.verdict(ratio, worth)));
        println!("{name} {view}: {ratio:.3} (goal {goal}: {}{stretch})", goal.verdict(ratio, worth));
    }
    println!(
        "   medians of {} pairs: bare {:.0} {unit} ({:.0} as the sink saw it); worker {:.0} ({:.0})",
        pairs.len(),
        amount / of(|pair| pair.bare.0.requests),
        amount / of(|pair| pair.bare.1.sending_seconds()),
        amount / of(|pair| pair.worker.0.wall),
        amount / of(|pair| pair.worker.1.sending_seconds()),
    );
    println!(
        "   worker: {:.2} CPU-s a wire GB, {:.0} CPU-µs a request, peak {:.1} MiB; {}; {disk}",
        of(|pair| pair.worker.0.cpu / (pair.worker.1.bytes as f64 / 1e9)),
        of(|pair| pair.worker.0.cpu * 1e6 / (pair.worker.1.images + pair.worker.1.documents) as f64),
        of(|pair| pair.worker.0.peak_mib),
        foreign_text(of(|pair| pair.foreign)),
    );
}
