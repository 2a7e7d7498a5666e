//! P23: how many bytes of the database a document of two images takes, once it was created, by table and index.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::{
    Effort,
    figures::{Goal, Worth},
    material::{self, Kind, Shape},
    sink::Sink,
    worker::{self, Setup},
};

/// Measures and prints.
pub fn run(effort: &Effort, folder: &Path) -> Result<()> {
    let documents = if effort.quick { 500 } else { 10_000 };
    println!("P23: bytes of the database for a document of two images, of {documents}");
    let shape =
        Shape { documents, images: 2, image_bytes: 1_000, profiles: documents / 4, per_manifest: 0, kind: Kind::Jpeg };
    let drop = material::write(folder, &shape)?;
    let mut sink = Sink::start(folder, true)?;
    let home = folder.join("worker");
    worker::import(&home, Setup { program: &effort.worker, max_in_flight: 32 }, &sink, &drop)?;
    sink.tally(shape.uploads(), documents.into())?;
    let database = rusqlite::Connection::open(home.join("queue.db"))?;
    let mut statement =
        database.prepare("SELECT name, sum(pgsize), sum(unused) FROM dbstat GROUP BY name ORDER BY 2 DESC")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let sizes: Vec<(String, i64, i64)> = rows.collect::<Result<_, _>>()?;
    let each = |bytes: i64| bytes as f64 / f64::from(documents);
    for (name, bytes, unused) in sizes.iter().filter(|(_, bytes, _)| each(*bytes) >= 1.0) {
        println!("  {name:<28} {:>6.1} B, of which {:>5.1} B free in its pages", each(*bytes), each(*unused));
    }
    let all = each(sizes.iter().map(|(_, bytes, _)| bytes).sum());
    ensure!(all > 0.0, "the database is empty");
    let (goal, worth) = (Goal::AtMost(600.0), if effort.quick { Worth::Quick } else { Worth::Verdict });
    println!("P23 database a document: {all:.0} B (goal {goal}: {})", goal.verdict(all, worth));
    Ok(())
}
