//! Random days of a worker, against a small model of what must come of them.
//!
//! A seed makes a *day*: manifests of all forms are dropped, edited, renamed and dropped again, the daemon is stopped
//! and killed at any moment, calls fail in every way the stand-in knows, the wall clock jumps, and people use their
//! commands. In the evening all faults end and everything is settled. Then the model says of each entry what must exist
//! at the API, made of which images, and what the receipts must say of it; the verdict is by what the stand-in holds.
//!
//! `PASSFORT_INGEST_SEEDS=1..1000 cargo test --test it model` tries more days, `PASSFORT_INGEST_SEEDS=17` one again. The
//! same seed makes the same plan; when a kill hits is never quite the same.

mod asked;
mod day;
mod verdict;

use std::{
    ops::Range,
    sync::{Mutex, PoisonError},
    thread,
};

use passfort_ingest::sandbox;

use self::day::Day;

/// Days that are tried by default: about a minute.
const SEEDS: Range<u64> = 1..61;

/// Days that are lived at the same time; they mostly wait.
const AT_ONCE: usize = 6;

/// What a day asks of the dice.
struct Dice(sandbox::Dice);

impl Dice {
    const fn new(seed: u64) -> Self {
        Self(sandbox::Dice::new(seed))
    }

    /// A number below the bound.
    fn below(&mut self, bound: u32) -> u32 {
        u32::try_from(self.0.draw() % u64::from(bound)).unwrap()
    }

    /// True with a probability of one in `many`.
    fn one_in(&mut self, many: u32) -> bool {
        self.below(many) == 0
    }

    fn pick<T: Copy>(&mut self, among: &[T]) -> T {
        among[self.below(u32::try_from(among.len()).unwrap()) as usize]
    }
}

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("PASSFORT_INGEST_SEEDS") else { return SEEDS };
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("PASSFORT_INGEST_SEEDS is '5' or '1..1000'"));
    match text.split_once("..") {
        Some((first, end)) => number(first)..number(end),
        None => number(&text)..number(&text) + 1,
    }
}

/// Lives these days and returns which of them went wrong.
fn live(seeds: Range<u64>) -> Vec<u64> {
    let (left, wrong) = (Mutex::new(seeds), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = left.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(seed) = next else { break };
                    // A thread for each day, so that the others continue where it goes wrong.
                    let day = thread::Builder::new().name(format!("seed {seed}"));
                    if day.spawn_scoped(scope, move || Day::live(seed)).unwrap().join().is_err() {
                        wrong.lock().unwrap_or_else(PoisonError::into_inner).push(seed);
                    }
                }
            });
        }
    });
    wrong.into_inner().unwrap()
}

#[test]
fn whatever_happens_on_a_day_all_is_as_it_should_be_in_the_evening() {
    let seeds = seeds();
    let wrong = live(seeds.clone());
    assert!(
        wrong.is_empty(),
        "of the seeds {seeds:?} these went wrong: {wrong:?}; PASSFORT_INGEST_SEEDS=SEED tries one"
    );
}
