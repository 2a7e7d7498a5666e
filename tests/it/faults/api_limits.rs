//! Limits of the API: they are used up, and hardly ever run into.

use std::collections::HashMap;

use passfort_ingest::sandbox::{Operation, Options};

use crate::support::{Builder, Site};

const DOCUMENTS: u32 = 40;

/// What the quota of ten in four seconds takes for them: ten go at once, and the last of the others after three times as
/// long as ten take.
const QUOTA_MS: i64 = 12_000;

fn site(limits: &[&str]) -> Site {
    let limits = limits.iter().map(|rule| rule.parse().unwrap()).collect();
    let site = Builder { sandbox: Options { limits, ..Options::default() }, ..Builder::default() }.build();
    site.put_batch("all.manifest.json", DOCUMENTS);
    site
}

fn turned_away(site: &Site, operation: Operation) -> usize {
    site.calls(operation).iter().filter(|call| call.status == Some(429)).count()
}

/// How a quota was used.
struct Used {
    turned_away: usize,
    /// From the first document to the last, by the ledger's clock. A machine that stands still for longer than a quota
    /// ever makes the program wait is no fault of the program.
    took_ms: i64,
    wall_ms: i64,
}

fn use_up(rule: &str, longest_wait_ms: i64) -> Used {
    let site = site(&[rule]);
    let finished = site.run_once().expect(0);
    assert_eq!(site.summary().documents, u64::from(DOCUMENTS));
    let created: Vec<i64> = site.calls(Operation::CreateDocument).iter().map(|call| call.at_ms).collect();
    let wall_ms = created[created.len() - 1] - created[0];
    let used = Used {
        turned_away: turned_away(&site, Operation::CreateDocument),
        took_ms: created.windows(2).map(|pair| (pair[1] - pair[0]).min(longest_wait_ms)).sum(),
        wall_ms,
    };
    println!(
        "{rule}: {} turned away, {} ms from the first document to the last, the whole run {:?}",
        used.turned_away, used.wall_ms, finished.took
    );
    used
}

#[test]
fn a_quota_of_documents_is_used_up_and_hardly_ever_run_into() {
    let used = use_up("create_document=10/4", 1000);
    assert!(used.turned_away <= 3, "{} calls were turned away", used.turned_away);
    assert!(used.took_ms <= QUOTA_MS * 13 / 10, "{} ms", used.took_ms);
    assert!(used.wall_ms >= QUOTA_MS - 100, "the limit was none: {} ms", used.wall_ms);
}

/// Ten in so many milliseconds.
const COUNT: usize = 10;
const SPAN_MS: i64 = 4_000;

/// How a quota counts.
#[derive(Debug, Clone, Copy)]
enum Shape {
    Drip,
    /// Windows that begin so long after a full span.
    Window(i64),
    Sliding,
}

impl Shape {
    /// When the next call fits at the soonest, after those that passed. Two are kept back from a bucket, which loses nothing
    /// by it until it is full: one for what is misjudged, and one since what remains is told in whole calls.
    fn room_at(self, passed: &[i64]) -> i64 {
        match self {
            Self::Drip => {
                let interval = SPAN_MS / 10;
                let full_at = passed.iter().fold(0, |full_at: i64, at| full_at.max(*at) + interval);
                full_at + 3 * interval - SPAN_MS
            }
            Self::Window(phase) => {
                let window = |at: i64| (at - phase).div_euclid(SPAN_MS);
                let latest = passed.last().map_or(0, |at| window(*at));
                let used = passed.iter().filter(|at| window(**at) == latest).count();
                if used < COUNT { 0 } else { (latest + 1) * SPAN_MS + phase }
            }
            Self::Sliding => passed.len().checked_sub(COUNT).map_or(0, |nth| passed[nth] + SPAN_MS),
        }
    }
}

/// How long the quota had room while no call was under way and documents were still to be created. No gap counts for more
/// than a second: a machine that stands still is no fault of the program.
fn idle_ms(shape: Shape, calls: &[(i64, i64, bool)]) -> i64 {
    let mut passed = Vec::new();
    let mut free_from = calls[0].0;
    let mut idle = 0;
    for &(began, at, passes) in calls {
        idle += (began - free_from.max(shape.room_at(&passed))).clamp(0, 1_000);
        if passes {
            passed.push(at);
        }
        free_from = free_from.max(at);
    }
    idle
}

/// Where the windows of the sandbox begin is not in its ledger: the least of all that agree with it.
fn least_idle_ms(calls: &[(i64, i64, bool)]) -> i64 {
    let agrees = |phase: i64| {
        let mut windows = HashMap::new();
        for (_, at, _) in calls.iter().filter(|(.., passes)| *passes) {
            *windows.entry((at - phase).div_euclid(SPAN_MS)).or_insert(0) += 1;
        }
        windows.values().all(|used| *used <= COUNT)
    };
    let phases = (0..SPAN_MS).step_by(10).filter(|phase| agrees(*phase));
    phases.map(|phase| idle_ms(Shape::Window(phase), calls)).min().unwrap()
}

#[test]
fn a_quota_that_tells_of_itself_is_used_up_whatever_its_shape() {
    for more in ["", ",shape=window", ",shape=sliding"] {
        // A busy machine wakes the worker late each time, which is no fault of the program: the best of three counts.
        let idle = (0..3).map(|_| idle_of_a_run(more)).find(|idle| *idle <= QUOTA_MS * 3 / 10);
        assert!(idle.is_some(), "{more}: it was idle for longer in each of three runs");
    }
}

/// Runs into a quota that is counted so; returns how long the quota had room while nothing was under way.
fn idle_of_a_run(more: &str) -> i64 {
    let site = site(&[&format!("create_document=10/4{more}")]);
    let finished = site.run_once().expect(0);
    assert_eq!(site.summary().documents, u64::from(DOCUMENTS));
    let calls: Vec<(i64, i64, bool)> = site
        .calls(Operation::CreateDocument)
        .iter()
        .map(|call| (call.at_ms - i64::try_from(call.took_ms).unwrap(), call.at_ms, call.status != Some(429)))
        .collect();
    let idle = match more {
        "" => idle_ms(Shape::Drip, &calls),
        ",shape=window" => least_idle_ms(&calls),
        _ => idle_ms(Shape::Sliding, &calls),
    };
    let turned_away = turned_away(&site, Operation::CreateDocument);
    let wall = calls[calls.len() - 1].1 - calls[0].1;
    println!("10/4{more}: {wall} ms, idle for {idle} ms, {turned_away} turned away, the whole run {:?}", finished.took);
    assert!(turned_away <= 3, "{more}: {turned_away} calls were turned away");
    idle
}

/// Of what is told less, or otherwise than by a bucket, the pace has to be learnt first; how long that takes is printed.
#[test]
fn quotas_of_other_shapes_fail_nothing_and_are_not_run_into_over_and_over() {
    std::thread::scope(|scope| {
        for more in [
            "shape=window",
            "shape=sliding",
            "says=retry-after",
            "says=nothing",
            "shape=window,says=retry-after",
            "shape=sliding,says=nothing",
        ] {
            scope.spawn(move || {
                let used = use_up(&format!("create_document=10/4,{more}"), QUOTA_MS);
                let most = if more.contains("says") { 30 } else { 6 };
                assert!(used.turned_away <= most, "{more}: {} calls were turned away", used.turned_away);
                // A window may have begun just before.
                assert!(used.wall_ms >= QUOTA_MS - 4_000, "{more}: the limit was none: {} ms", used.wall_ms);
            });
        }
    });
}
