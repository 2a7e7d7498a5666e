//! Tries the benchmark's own parts in a moment: what runs when it is called without a command.
//!
//! A benchmark has no test harness, so the pure functions are tried here as well.

use anyhow::{Result, ensure};

use crate::{
    bare::Load,
    figures::{Goal, Worth, median, percentile},
    machine,
    material::{self, Kind, Shape},
    scratch,
    sink::Sink,
    worker,
};

/// Tries everything that needs neither a release build nor minutes.
pub fn run() -> Result<()> {
    figures()?;
    texts_of_the_kernel()?;
    files()?;
    for plain in [false, true] {
        sink_sees_what_bare_sends(plain)?;
    }
    println!(
        "the benchmark's parts work; name a figure to measure it: p1, p1b, p3, p5, p8, p12, p13, p14, p17, p20, p23, or all"
    );
    Ok(())
}

fn figures() -> Result<()> {
    let exactly = |figure: f64, wanted: f64| (figure - wanted).abs() < 1e-9;
    ensure!(exactly(median(&[3.0, 1.0, 2.0]), 2.0) && exactly(median(&[4.0, 1.0, 2.0, 3.0]), 2.5), "median");
    let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
    ensure!(exactly(percentile(&hundred, 0.5), 50.0) && exactly(percentile(&hundred, 0.99), 99.0), "percentile");
    ensure!(exactly(percentile(&[7.0], 0.99), 7.0) && exactly(percentile(&[], 0.5), 0.0), "percentile of few");
    ensure!(Goal::AtLeast(0.4).verdict(0.4, Worth::Verdict) == "reached", "at least");
    ensure!(Goal::AtMost(1.1).verdict(1.2, Worth::Verdict) == "missed", "at most");
    let slow = Worth::of(false, std::time::Duration::from_micros(1001));
    ensure!(Goal::AtMost(1.1).verdict(1.0, slow).starts_with("no verdict"), "a slow disk allows no verdict");
    Ok(())
}

fn texts_of_the_kernel() -> Result<()> {
    ensure!(machine::machine_times("cpu  10 1 5 100 20 2 3 4 9 9\ncpu0 1\n") == (145, 25), "/proc/stat");
    let stat = "42 (a) name) S 1 1 1 0 -1 0 0 0 0 0 7 3 2 1 20 0 1 0 5";
    ensure!(machine::process_times(stat) == [7, 3, 2, 1], "/proc/<pid>/stat");
    ensure!(worker::field_kib("Name:\tx\nVmHWM:\t   5120 kB\n", "VmHWM:") == 5120, "/proc/<pid>/status");
    Ok(())
}

fn files() -> Result<()> {
    let jpeg = material::content(Kind::Jpeg, 50_000, 1);
    ensure!(jpeg.len() == 50_000 && jpeg.starts_with(b"\xFF\xD8\xFF\xE0") && jpeg.ends_with(b"\xFF\xD9"), "JPEG");
    let pdf = material::content(Kind::Pdf, 1_000, 1);
    ensure!(pdf.len() == 1_000 && pdf.starts_with(b"%PDF-") && pdf.ends_with(b"%%EOF\n"), "PDF");
    ensure!(pdf != material::content(Kind::Pdf, 1_000, 2), "each file differs");
    for body in [material::image_body(&pdf), material::document_body(2)] {
        serde_json::from_slice::<serde_json::Value>(&body)?;
    }
    Ok(())
}

fn sink_sees_what_bare_sends(plain: bool) -> Result<()> {
    let folder = scratch()?;
    let shape = Shape { documents: 5, images: 2, image_bytes: 50_000, profiles: 2, per_manifest: 2, kind: Kind::Jpeg };
    let drop = material::write(folder.path(), &shape)?;
    let manifests = std::fs::read_dir(&drop)?.filter_map(Result::ok).filter(|entry| entry.path().is_file()).count();
    ensure!(manifests == 3, "5 documents, 2 in each, make {manifests} manifests");
    let mut sink = Sink::start(folder.path(), plain)?;
    for files in [None, Some(&*drop)] {
        sink.reset()?;
        let took = Load::beside(&shape, &sink, 3, 1, files).send()?;
        let tally = sink.tally(10, 5)?;
        // 50,000 bytes are 66,668 in Base64, with a byte or more of JSON around them.
        ensure!(tally.bytes > 10 * 66_668 && tally.sending_seconds() > 0.0, "the sink saw {tally:?}");
        ensure!(took.requests <= took.in_all, "the requests are a part of all");
    }
    ensure!(sink.tally(10, 6).is_err(), "a run that did not send everything is an error");
    sink.reset()?;
    sink.tally(0, 0)?;
    Ok(())
}
