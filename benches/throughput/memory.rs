//! P8 and P9: the worker's peak memory, with many large files under way at once.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::{
    Effort,
    figures::{Goal, Worth, median},
    machine::{self, Watch, foreign_text},
    material::{self, Kind, Shape},
    sink::Sink,
    worker::{self, Setup},
};

/// Requests at once in the runs that the goal is about.
const AT_ONCE: u32 = 16;

/// Measures and prints.
pub fn run(effort: &Effort, folder: &Path) -> Result<()> {
    let documents = if effort.quick { AT_ONCE } else { 24 };
    println!("P8, P9: {documents} PDFs, {AT_ONCE} at once, TLS; the worker's peak resident size");
    let shape = |image_bytes| Shape {
        documents,
        images: 1,
        image_bytes,
        profiles: documents,
        per_manifest: effort.per_manifest,
        kind: Kind::Pdf,
    };
    // In short, also a slow machine has all of them under way before the sink stops waiting.
    let size = |bytes| if effort.quick { bytes / 10 } else { bytes };
    let (large, small) = (shape(size(48_000_000)), shape(size(5_000_000)));
    let large_drop = material::write(&folder.join("large"), &large)?;
    let small_drop = material::write(&folder.join("small"), &small)?;
    let mut sink = Sink::start(folder, false)?;
    let mut disk = machine::disk(folder)?;
    let watch = Watch::start(&[sink.id()])?;
    let (mut many, mut few, mut alone) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..effort.rounds {
        for (shape, drop, max_in_flight, peaks) in [
            (&large, &large_drop, AT_ONCE, &mut many),
            (&small, &small_drop, AT_ONCE, &mut few),
            (&large, &large_drop, 1, &mut alone),
        ] {
            sink.reset()?;
            // Else a fast sink has taken the first before the last begins, and nothing is shown of many at once.
            sink.gather(max_in_flight)?;
            let used =
                worker::import(&folder.join("worker"), Setup { program: &effort.worker, max_in_flight }, &sink, drop)?;
            let tally = sink.tally(shape.uploads(), shape.documents.into())?;
            ensure!(tally.at_once >= max_in_flight.into(), "only {} uploads were under way at once", tally.at_once);
            peaks.push(used.peak_mib);
        }
        let last = |peaks: &[f64]| peaks.last().copied().unwrap_or_default();
        println!(
            "  {:>2}: 48 MB {:.1} MiB, 5 MB {:.1} MiB, 48 MB one at a time {:.1} MiB",
            round + 1,
            last(&many),
            last(&few),
            last(&alone)
        );
        disk = disk.worse(machine::disk(folder)?);
    }
    let worth = Worth::of(effort.quick, disk.sync_p50);
    let peak = many.iter().copied().fold(0.0, f64::max);
    let by_size = median(&many) - median(&few);
    let by_connection = (median(&many) - median(&alone)) / f64::from(AT_ONCE - 1);
    for (name, figure, goal) in [
        ("P8 peak of all rounds", peak, Goal::AtMost(32.0)),
        ("P8 stretch", peak, Goal::AtMost(24.0)),
        ("P9 48 MB less 5 MB", by_size, Goal::AtMost(2.0)),
        ("P9 growth a connection", by_connection, Goal::AtMost(1.0)),
    ] {
        println!("{name}: {figure:.1} MiB (goal {goal}: {})", goal.verdict(figure, worth));
    }
    println!("   {}; {disk}", foreign_text(watch.foreign_percent()?));
    Ok(())
}
