//! Runs a program under `strace` and reads what it wrote: one file a thread, every string in hexadecimal.
//!
//! Not here: what the calls mean.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

/// One system call that has ended.
#[derive(Debug, Clone)]
pub struct Call {
    /// When it began, in nanoseconds.
    pub began: u64,
    /// When it had ended.
    pub ended: u64,
    pub name: String,
    pub arguments: Vec<String>,
    /// What it returned; `None` where it failed, or its thread ended meanwhile.
    pub returned: Option<i64>,
    /// Its thread ended meanwhile, so that nobody knows whether it was carried out.
    pub unknown: bool,
    /// The path of the descriptor that it returned.
    pub opened: Option<PathBuf>,
}

/// What every traced program is started with; the caller adds `-e`, `-o` and the program.
pub fn strace() -> Command {
    let mut command = Command::new("strace");
    command.args(["-ff", "-y", "-xx", "-s", "10000000", "--seccomp-bpf"]);
    command.args(["--absolute-timestamps=format:unix,precision:ns", "--syscall-times=ns"]);
    command
}

/// The same for injecting faults only.
pub fn quiet() -> Command {
    let mut command = Command::new("strace");
    command.args(["-qqq", "-s", "0"]);
    command
}

/// Fails, with the cure, where there is no `strace`.
pub fn ensure_there() -> Result<()> {
    let found = Command::new("strace").arg("--version").output();
    if !found.is_ok_and(|output| output.status.success()) {
        bail!("there is no `strace`: install it (apt-get install strace), or run .ci/run, which does");
    }
    Ok(())
}

/// All calls in the files that begin with this path, in the order of their beginnings.
pub fn read(prefix: &Path) -> Result<Vec<Call>> {
    let folder = prefix.parent().context("no folder")?;
    let start = prefix.file_name().and_then(OsStr::to_str).context("no name")?;
    let mut calls = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        if name.strip_prefix(start).is_none_or(|rest| !rest.starts_with('.')) {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        for line in text.lines() {
            calls.extend(call(line).with_context(|| format!("cannot read this line: {line:.200}"))?);
        }
    }
    calls.sort_by_key(|call| call.began);
    Ok(calls)
}

/// Reads one line; `None` for a signal or an end.
fn call(line: &str) -> Result<Option<Call>> {
    let (stamp, rest) = line.split_once(' ').context("no time")?;
    if rest.starts_with("+++") || rest.starts_with("---") {
        return Ok(None);
    }
    let began = nanoseconds(stamp)?;
    let (name, rest) = rest.split_once('(').context("no name")?;
    let rest = rest.trim_end_matches("<unfinished ...>").trim_end();
    let (arguments, outcome) = rest.rsplit_once(") = ").unwrap_or((rest, "?"));
    let (outcome, took) = match outcome.rsplit_once(" <") {
        Some((outcome, took)) if took.ends_with('>') => (outcome, nanoseconds(took.trim_end_matches('>'))?),
        _ => (outcome, 0),
    };
    let digits = outcome.split(|c: char| !(c.is_ascii_digit() || c == '-')).next().unwrap_or_default();
    let returned = digits.parse::<i64>().ok().filter(|value| *value >= 0);
    Ok(Some(Call {
        began,
        ended: began + took,
        name: name.to_owned(),
        arguments: split(arguments.trim_end()),
        returned,
        unknown: outcome.starts_with('?'),
        opened: returned.and_then(|_| descriptor(outcome)),
    }))
}

fn nanoseconds(text: &str) -> Result<u64> {
    let (seconds, rest) = text.split_once('.').context("no fraction")?;
    Ok(seconds.parse::<u64>()? * 1_000_000_000 + rest.parse::<u64>()?)
}

/// Splits at the commas that are in no brackets. Strings are hexadecimal, so they have no comma.
fn split(arguments: &str) -> Vec<String> {
    let (mut depth, mut parts, mut part) = (0_i32, Vec::new(), String::new());
    for letter in arguments.chars() {
        match letter {
            '{' | '[' | '(' => depth += 1,
            '}' | ']' | ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(std::mem::take(&mut part).trim().to_owned());
                continue;
            }
            _ => {}
        }
        part.push(letter);
    }
    parts.push(part.trim().to_owned());
    parts
}

/// The path of a descriptor: `5</a/b>`.
pub fn descriptor(text: &str) -> Option<PathBuf> {
    let (_, rest) = text.split_once('<')?;
    let (path, _) = rest.split_once('>')?;
    String::from_utf8(bytes(path)).ok().map(PathBuf::from)
}

/// All strings of an argument, one after the other.
pub fn strings(text: &str) -> Vec<u8> {
    text.split('"').skip(1).step_by(2).flat_map(bytes).collect()
}

/// Reads `\x61\x62`; what is written plainly counts as it is.
fn bytes(text: &str) -> Vec<u8> {
    let mut found = Vec::with_capacity(text.len() / 4);
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let pair = rest.strip_prefix("\\x").and_then(|hex| hex.get(..2));
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) => {
                found.push(byte);
                rest = rest.get(4..).unwrap_or_default();
            }
            None => {
                found.extend(letter.to_string().bytes());
                rest = rest.get(letter.len_utf8()..).unwrap_or_default();
            }
        }
    }
    found
}
