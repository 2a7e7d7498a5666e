//! Help texts and `status`, word for word, as they are shown: one snapshot for each, in `snapshots/`.
//!
//! A text that is meant to change: `INSTA_UPDATE=always cargo test --test it snapshots::`, and look at the difference before
//! it is committed. A snapshot that no test here names fails the last test; delete it.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::json;

use crate::support::{Builder, Format, Site, entry, image, profile};

/// What `--help` says of this command, after which the names of its subcommands follow.
fn help(site: &Site, command: &[&str]) -> (String, Vec<String>) {
    let text = site.finish(site.bare_command("state", &[command, &["--help"]].concat())).expect(0).stdout;
    let commands = text.split_once("\nCommands:\n").map_or("", |(_, rest)| rest.split("\n\n").next().unwrap());
    let names = commands.lines().filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with(' '));
    let names = names.map(|line| line.split(' ').next().unwrap().to_owned()).filter(|name| name != "help").collect();
    (text, names)
}

/// The help of the program and of each of its commands, under the names of their snapshots.
fn helps() -> Vec<(String, String)> {
    let site = Site::new();
    let (text, commands) = help(&site, &[]);
    let mut found = vec![("help".to_owned(), text)];
    for command in commands {
        let (text, subcommands) = help(&site, &[&command]);
        found.push((format!("help-{command}"), text));
        for subcommand in subcommands {
            found.push((format!("help-{command}-{subcommand}"), help(&site, &[&command, &subcommand]).0));
        }
    }
    found
}

fn status(site: &Site) -> String {
    redacted(&site.run(&["status"]).expect(0).stdout, site)
}

fn empty() -> String {
    let site = Site::new();
    site.run_once().expect(0);
    status(&site)
}

fn busy() -> String {
    let site = Site::new();
    site.run_once().expect(0);
    let mut pause = site.command(&["pause"]);
    pause.env("SUDO_USER", "ops1");
    site.finish(pause).expect(0);
    site.put_batch("batch.manifest.json", 3);
    site.put_documents("late.manifest.json", &[entry("late", 9, "late.png")]);
    let mut daemon = site.daemon();
    daemon.wait_until("all are seen", || site.jobs("queued").len() == 3 && status(&site).contains("late.png"));
    let text = status(&site);
    daemon.terminate().expect(0);
    text
}

fn failed_and_held() -> String {
    let site = Builder { retry: "lost_file = 'hold'".to_owned(), ..Builder::default() }.build();
    site.faults(&[&format!("create_document=errors200:201,profile={}", profile(1)), "upload_file=lost,nth=1"]);
    site.put("form.pdf", image(Format::Pdf, 1));
    let files = json!([{ "reference": "form", "profile_id": profile(7), "path": "form.pdf" }]);
    site.put("form.manifest.json", json!({ "version": 1, "files": files }).to_string());
    site.run_once().expect(3);
    // Afterwards, so that its refusal is the last error.
    site.put_batch("batch.manifest.json", 3);
    site.run_once().expect(3);
    status(&site)
}

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// The name of a snapshot, and what gives its text.
type Status = (&'static str, fn() -> String);

/// The states of a queue whose `status` is kept, under the names of their snapshots.
const STATUSES: [Status; 3] =
    [("status-empty", empty), ("status-busy", busy), ("status-failed-and-held", failed_and_held)];

/// Where a line is broken depends on what differs from run to run, so each sentence is on one line.
fn joined(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        match lines.last_mut().filter(|_| matches!(indent, 2 | 18)) {
            Some(last) => *last = format!("{last} {}", line.trim_start()),
            None => lines.push(line.to_owned()),
        }
    }
    lines.join("\n")
}

/// What differs from run to run is replaced: paths, moments, durations, rates, process numbers.
fn redacted(text: &str, site: &Site) -> String {
    let text = joined(text).replace(site.at("").to_str().unwrap(), "/SITE/");
    let line = |line: &str| -> String {
        let words: Vec<&str> = line.split(' ').collect();
        let bare = |at: usize| words.get(at).map_or("", |word| word.trim_matches(['(', ')', ',', ';', ':']));
        let redacted = (0..words.len()).map(|at| {
            let (word, number) = (bare(at), bare(at).parse::<f64>().is_ok());
            let is_clock = |at: usize| bare(at).len() == 5 && bare(at).as_bytes()[2] == b':';
            if is_clock(at) {
                words[at].replace(word, "CLOCK")
            } else if is_clock(at + 1) && DAYS.contains(&word) {
                "DAY".to_owned()
            } else if word.starts_with("20") && word.ends_with('Z') {
                words[at].replace(word, "TIME")
            } else if number && at > 0 && bare(at - 1) == "process" {
                words[at].replace(word, "PID")
            } else if number && ["ms", "s", "min", "h", "a"].contains(&bare(at + 1)) {
                words[at].replace(word, "N")
            } else {
                words[at].to_owned()
            }
        });
        redacted.collect::<Vec<_>>().join(" ")
    };
    text.lines().map(|text| line(text) + "\n").collect()
}

fn assert_snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

#[test]
fn the_help_of_each_command_is_as_recorded() {
    for (name, text) in helps() {
        assert_snapshot(&name, &text);
    }
}

#[test]
fn the_status_of_each_state_is_as_recorded() {
    for (name, text) in STATUSES {
        assert_snapshot(name, &text());
    }
}

#[test]
fn every_recorded_snapshot_is_used() {
    let mut used: BTreeSet<String> = helps().into_iter().map(|(name, _)| name).collect();
    used.extend(STATUSES.map(|(name, _)| name.to_owned()));
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")];
    let mut found = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "snap") {
                found.insert(path.file_stem().unwrap().to_string_lossy().into_owned());
            }
        }
    }
    assert_eq!(found, used, "recorded on the left, compared by a test on the right");
}
