//! `plan`: how much work manifests are, when it would be done, and what limits it.

use serde_json::Value;

use crate::support::{Builder, Format, Site, image, padded, profile};

/// 60 documents of two images of 3,000 bytes, one file, and two entries that would not be taken.
fn archive(limits: &str) -> Site {
    let site = Builder { more: limits.to_owned(), ..Builder::default() }.build();
    let mut rows = String::from("profile_id,reference,category,document_type,path\n");
    for number in 0..60 {
        let row = format!("{},r{number},SUPPORTING,UNKNOWN", profile(number));
        rows.push_str(&format!("{row},a.png\n{row},a.png\n"));
    }
    rows.push_str(&format!("{},f,,,f.pdf\n{},gone,,,gone.pdf\nx,bad,,,f.pdf\n", profile(1), profile(1)));
    site.write("in/a.manifest.csv", rows);
    site.write("in/a.png", padded(1, 3_000));
    site.write("in/f.pdf", image(Format::Pdf, 1));
    site
}

fn plan(site: &Site, arguments: &[&str], code: i32) -> Value {
    let mut command = site.command(&[&["plan", "in", "--json"], arguments].concat());
    command.env("TZ", "UTC");
    serde_json::from_str(&site.finish(command).expect(code).stdout).unwrap()
}

#[test]
fn everything_is_counted_and_nothing_is_sent() {
    let site = archive("");
    let plan = plan(&site, &[], 0);
    for (field, count) in [
        ("manifests", 1),
        ("unusable", 0),
        ("entries", 63),
        ("left_out", 2),
        ("documents", 60),
        ("files", 1),
        ("images", 120),
        ("requests", 181),
    ] {
        assert_eq!(plan[field], count, "{field}: {plan}");
    }
    let bytes = 120 * 3_000 + image(Format::Pdf, 1).len() as u64;
    assert_eq!(plan["bytes"], bytes);
    assert!(plan["request_bytes"].as_u64().unwrap() > bytes * 4 / 3);
    assert!(site.ledger().is_empty() && !site.at("state/queue.db").exists());
}

#[test]
fn the_limit_that_binds_is_named_and_what_would_be_needed() {
    let site = archive("[limits]\ndocuments_per_hour = 10\nwindows = ['20:00-24:00']");
    let from = ["--from", "2026-11-29T20:00:00Z"];
    // One at once and nine in an hour: 60 documents take 60 - 4 * 9 - 1 on the second evening.
    let planned = plan(&site, &from, 0);
    assert_eq!(planned["limited_by"], "windows", "{planned}");
    assert_eq!(planned["closed_seconds"], 20 * 3600);
    assert!(planned["done"].as_str().unwrap().starts_with("2026-11-30T22:26"), "{planned}");
    assert!(planned["done"].as_str() < planned["done_at_the_latest"].as_str());
    let by = |moment| [&from[..], &["--by", moment]].concat();
    let missed = plan(&site, &by("2026-11-30T00:00:00Z"), 1);
    assert_eq!((&missed["by"]["met"], &missed["by"]["closed"]), (&false.into(), &false.into()));
    let needed = &missed["by"]["needed"][0];
    assert_eq!(needed["limit"], "documents_per_hour");
    let needed = needed["needed"].as_f64().unwrap();
    assert!((16.2..16.3).contains(&needed), "{missed}");
    // With that limit it is met.
    site.edit_config("documents_per_hour = 10", "documents_per_hour = 20");
    assert_eq!(plan(&site, &by("2026-11-30T00:00:00Z"), 0)["by"]["met"], true);
    assert_eq!(plan(&site, &by("2026-11-29T19:00:00Z"), 1)["by"]["closed"], true);
}

#[test]
fn a_slow_link_and_slow_calls_count() {
    let site = archive("");
    let from = ["--from", "2026-11-29T20:00:00Z"];
    let with = |more: &[&str]| plan(&site, &[&from[..], more].concat(), 0);
    let slow = with(&["--link", "1kB"]);
    assert_eq!(slow["limited_by"], "link", "{slow}");
    let calls = with(&["--time-a-call", "1m"]);
    assert_eq!(calls["limited_by"], "call_time", "{calls}");
    let said = site.run(&["plan", "in", "--time-a-call", "1m"]).expect(0).stdout;
    assert!(
        said.contains("limited by  the time a call takes") && said.contains("60 documents with 120 images"),
        "{said}"
    );
    site.run(&["plan", "in", "--by", "soon"]).expect(2).says("is no moment");
    site.run(&["plan", "in", "--link", "0"]).expect(2);
}

#[test]
fn a_manifest_that_is_unusable_is_left_out_and_named() {
    let site = archive("");
    site.write("in/b.manifest.json", "{");
    let finished = site.run(&["plan", "in", "--json"]).expect(1);
    assert!(finished.stderr.contains("b.manifest.json is unusable"), "{}", finished.stderr);
    let plan: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!((&plan["unusable"], &plan["entries"]), (&1.into(), &63.into()));
}
