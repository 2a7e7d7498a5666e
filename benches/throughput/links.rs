//! P20: the worker's own limit on calls in flight, on twelve kinds of links, beside the best fixed setting for each: on a
//! simulated clock, so that a run is the same on every machine.
//!
//! There is always another call to make. How long one takes, and how it ends, depends on how many the API works on; a call
//! that it dropped is not among them, although the client still waits for it.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use anyhow::{Result, ensure};
use passfort_ingest::{
    concurrency::{ConcurrencyLimit, LoadSignal, Sample},
    sandbox::Dice,
};

use crate::{
    Effort,
    figures::{Goal, Worth},
};

/// The configured maximum.
const MOST: usize = 32;

/// How long the client waits for an answer, in seconds.
const PATIENCE: f64 = 2.0;

const SMALL: u64 = 66_000;
const LARGE: u64 = 6_000_000;

/// A link with what is behind it.
struct Link {
    name: &'static str,
    bytes: u64,
    /// What becomes of a call that begins while the API works on so many, itself included, so many seconds after the start.
    call: fn(f64, f64, &mut Dice) -> (f64, LoadSignal),
}

/// A number below one.
fn chance(dice: &mut Dice) -> f64 {
    (dice.draw() % 1_000_000) as f64 / 1e6
}

/// Seconds of a call, give or take a share.
fn about(seconds: f64, share: f64, dice: &mut Dice) -> f64 {
    seconds * (1.0 - share + 2.0 * share * chance(dice))
}

/// A server that answers so many calls at once, each in so many seconds; the others wait in line.
fn in_line(at_once: f64, seconds: f64, under_way: f64) -> f64 {
    seconds * (under_way / at_once).max(1.0)
}

fn links() -> [Link; 12] {
    use LoadSignal::{Ok, Overloaded, Refused};
    [
        Link { name: "near", bytes: SMALL, call: |_, _, dice| (about(0.004, 0.2, dice), Ok) },
        Link { name: "far", bytes: SMALL, call: |_, _, dice| (about(0.1, 0.05, dice), Ok) },
        Link { name: "far, uneven", bytes: SMALL, call: |_, _, dice| (about(0.2, 0.7, dice), Ok) },
        Link {
            name: "now and then a second",
            bytes: SMALL,
            call: |_, _, dice| if chance(dice) < 0.02 { (1.0, Ok) } else { (about(0.05, 0.2, dice), Ok) },
        },
        Link {
            name: "full of small calls",
            bytes: SMALL,
            call: |n, _, dice| (about(in_line(8.0, 0.05, n), 0.1, dice), Ok),
        },
        Link {
            name: "full of large calls",
            bytes: LARGE,
            call: |n, _, dice| (about(in_line(2.0, 1.0, n), 0.1, dice), Ok),
        },
        Link {
            name: "slower for each above 12",
            bytes: SMALL,
            call: |n, _, dice| (about(0.1 * (1.0 + (n - 12.0).max(0.0).powi(2) / 8.0), 0.1, dice), Ok),
        },
        Link {
            name: "503 above 10",
            bytes: SMALL,
            call: |n, _, dice| if n > 10.0 { (0.01, Overloaded) } else { (about(0.05, 0.1, dice), Ok) },
        },
        Link {
            name: "429 above 10",
            bytes: SMALL,
            call: |n, _, dice| if n > 10.0 { (0.01, Refused) } else { (about(0.05, 0.1, dice), Ok) },
        },
        Link {
            name: "no answer above 10",
            bytes: SMALL,
            call: |n, _, dice| if n > 10.0 { (PATIENCE, Overloaded) } else { (about(0.05, 0.1, dice), Ok) },
        },
        Link {
            name: "one in 500 is reset",
            bytes: SMALL,
            call: |_, _, dice| {
                if chance(dice) < 0.002 { (0.02, Overloaded) } else { (about(0.05, 0.2, dice), Ok) }
            },
        },
        Link {
            name: "room for 24, every other minute for 12",
            bytes: SMALL,
            call: |n, at, dice| {
                let room = if at % 120.0 < 60.0 { 24.0 } else { 12.0 };
                if n > room { (0.01, Overloaded) } else { (about(0.05, 0.1, dice), Ok) }
            },
        },
    ]
}

/// Calls that worked in so many seconds; `fixed` instead of the worker's limit.
fn run(link: &Link, seconds: u32, fixed: Option<usize>) -> u64 {
    let mut limit = ConcurrencyLimit::new(MOST);
    let mut dice = Dice::new(7);
    let mut under_way = BinaryHeap::new();
    let (mut now, end) = (Duration::ZERO, Duration::from_secs(seconds.into()));
    let (mut worked, mut dropped) = (0, 0);
    let is_dropped = |took: f64, signal| signal == LoadSignal::Overloaded && took >= PATIENCE;
    while now < end {
        let allowed = fixed.unwrap_or_else(|| limit.limit());
        while under_way.len() < allowed {
            let worked_on = under_way.len() - dropped + 1;
            let (took, signal) = (link.call)(worked_on as f64, now.as_secs_f64(), &mut dice);
            dropped += usize::from(is_dropped(took, signal));
            under_way.push(Reverse((now + Duration::from_secs_f64(took), now, signal as u8)));
        }
        let Some(Reverse((ended, began, signal))) = under_way.pop() else { break };
        now = ended;
        let signal = [LoadSignal::Ok, LoadSignal::Refused, LoadSignal::Overloaded]
            .into_iter()
            .find(|known| *known as u8 == signal)
            .unwrap_or(LoadSignal::None);
        let took = ended.saturating_sub(began);
        worked += u64::from(signal == LoadSignal::Ok);
        dropped -= usize::from(is_dropped(took.as_secs_f64(), signal));
        limit.on_sample(&Sample { signal, began, took, bytes: link.bytes }, now);
    }
    worked
}

/// Simulates and prints.
pub fn run_all(effort: &Effort) -> Result<()> {
    let seconds = if effort.quick { 60 } else { 600 };
    println!("P20: calls that work within {seconds} simulated seconds, at most {MOST} at once, ÷ the best fixed limit");
    let mut least = f64::MAX;
    for link in links() {
        let adaptive = run(&link, seconds, None);
        let fixed = (1..=MOST).map(|limit| (run(&link, seconds, Some(limit)), limit));
        let Some((best, limit)) = fixed.max_by_key(|(worked, limit)| (*worked, Reverse(*limit))) else { continue };
        ensure!(adaptive > 0 && best > 0, "nothing worked on the link {}", link.name);
        let ratio = adaptive as f64 / best as f64;
        least = least.min(ratio);
        println!("  {:<40} {ratio:.3}  ({adaptive} calls; best fixed: {best} with {limit} at once)", link.name);
    }
    let (goal, worth) = (Goal::AtLeast(0.95), if effort.quick { Worth::Quick } else { Worth::Verdict });
    println!("P20 least of twelve: {least:.3} (goal {goal}: {})", goal.verdict(least, worth));
    Ok(())
}
