//! P3: an API that is far away. Each answer is held back, so that arithmetic says how fast a client can be that always has
//! as many requests under way as it has connections.

use std::path::Path;

use anyhow::Result;

use crate::{
    Effort,
    figures::{Goal, Worth, median},
    machine::{self, Watch, foreign_text},
    material::{self, Kind, Shape},
    sink::Sink,
    worker::{self, Setup},
};

/// How long each answer takes.
const LATENCY_MS: u32 = 100;

const CONNECTIONS: u32 = 32;

/// A run lasts a minute, and is compared with arithmetic instead of another run, so that one is enough.
const ROUNDS: u32 = 1;

/// Measures and prints.
pub fn run(effort: &Effort, folder: &Path) -> Result<()> {
    let documents = if effort.quick { 320 } else { 10_000 };
    println!("P3: {documents} documents of one image, {LATENCY_MS} ms latency, {CONNECTIONS} connections, TLS, import");
    let shape = Shape {
        documents,
        images: 1,
        image_bytes: 5_000,
        profiles: documents / 4,
        per_manifest: effort.per_manifest,
        kind: Kind::Jpeg,
    };
    let drop = material::write(folder, &shape)?;
    let mut sink = Sink::start(folder, false)?;
    sink.delay(LATENCY_MS)?;
    let disk = machine::disk(folder)?;
    let watch = Watch::start(&[sink.id()])?;
    let (mut whole, mut sending) = (Vec::new(), Vec::new());
    for _ in 0..effort.rounds.min(ROUNDS) {
        sink.reset()?;
        let setup = Setup { program: &effort.worker, max_in_flight: CONNECTIONS };
        let used = worker::import(&folder.join("worker"), setup, &sink, &drop)?;
        let tally = sink.tally(shape.uploads(), documents.into())?;
        // Timers fire late: what the sink waited in fact counts.
        let least = tally.delayed_ns as f64 / 1e9 / f64::from(CONNECTIONS);
        whole.push(least / used.wall);
        sending.push(least / tally.sending_seconds());
    }
    let worth = Worth::of(effort.quick, disk.sync_p50);
    for (view, ratio) in [("whole process", median(&whole)), ("sending alone", median(&sending))] {
        let goal = Goal::AtLeast(0.98);
        println!("P3 {view}: {ratio:.3} of what the latency allows (goal {goal}: {})", goal.verdict(ratio, worth));
    }
    println!("   {}; {disk}", foreign_text(watch.foreign_percent()?));
    Ok(())
}
