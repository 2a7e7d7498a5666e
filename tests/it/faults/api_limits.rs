//! Limits of the API: they are used up, and hardly ever run into.

use passfort_ingest::sandbox::{ApiCall, Options};

use crate::support::{Builder, Format, Site, entry, image, profile};

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

fn turned_away(site: &Site, operation: ApiCall) -> usize {
    site.calls(operation).iter().filter(|call| call.status == Some(429)).count()
}

/// How a quota was used.
struct Used {
    turned_away: usize,
    /// From the first document to the last, by the ledger's clock. A machine that stalls for longer than a quota ever
    /// makes the program wait is no fault of the program.
    took_ms: i64,
    wall_ms: i64,
}

fn use_up(rule: &str, longest_wait_ms: i64) -> Used {
    let site = site(&[rule]);
    let finished = site.run_once().expect(0);
    assert_eq!(site.summary().documents, u64::from(DOCUMENTS));
    let created: Vec<i64> = site.calls(ApiCall::CreateDocument).iter().map(|call| call.at_ms).collect();
    let wall_ms = created[created.len() - 1] - created[0];
    let used = Used {
        turned_away: turned_away(&site, ApiCall::CreateDocument),
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

/// How long the quota had room while no call was in flight and documents were still to be created. No gap counts for
/// more than a second: a machine that stalls is no fault of the program.
fn idle_ms(calls: &[(i64, i64, bool)]) -> i64 {
    let interval = QUOTA_MS / 30;
    // The bucket of ten is full when the last call that passed is paid off. Two calls are kept back, which loses nothing
    // until it is full: one as a margin, and one since the remaining calls are reported in integers.
    let (mut full_at, mut free_from, mut idle) = (0, calls[0].0, 0);
    for &(began, at, passes) in calls {
        let room_at = full_at + 3 * interval - 10 * interval;
        idle += (began - free_from.max(room_at)).clamp(0, 1_000);
        if passes {
            full_at = full_at.max(at) + interval;
        }
        free_from = free_from.max(at);
    }
    idle
}

#[test]
fn a_reported_quota_is_used_up() {
    // A busy machine wakes the worker late each time, which is no fault of the program: the best of three counts.
    let idle = (0..3).map(|_| idle_of_a_run()).find(|idle| *idle <= QUOTA_MS * 3 / 10);
    assert!(idle.is_some(), "it was idle for longer in each of three runs");
}

/// Runs into the quota; returns how long it had room while nothing was in flight.
fn idle_of_a_run() -> i64 {
    let site = site(&["create_document=10/4"]);
    let finished = site.run_once().expect(0);
    assert_eq!(site.summary().documents, u64::from(DOCUMENTS));
    let calls: Vec<(i64, i64, bool)> = site
        .calls(ApiCall::CreateDocument)
        .iter()
        .map(|call| (call.at_ms - i64::try_from(call.took_ms).unwrap(), call.at_ms, call.status != Some(429)))
        .collect();
    let idle = idle_ms(&calls);
    let turned_away = turned_away(&site, ApiCall::CreateDocument);
    let wall = calls[calls.len() - 1].1 - calls[0].1;
    println!("10/4: {wall} ms, idle for {idle} ms, {turned_away} turned away, the whole run {:?}", finished.took);
    assert!(turned_away <= 3, "{turned_away} calls were turned away");
    idle
}

/// Where answers report less, or no GCRA bucket, the rate has to be measured first, which takes most of forty calls. How
/// much of such quotas is used in the long run is tested in virtual time.
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
                let is_reported = !more.contains("says");
                let most = if is_reported { 12 } else { 30 };
                assert!(used.turned_away <= most, "{more}: {} calls were turned away", used.turned_away);
                assert!(!is_reported || used.took_ms <= QUOTA_MS * 2, "{more}: {} ms", used.took_ms);
                // A window may have begun just before.
                assert!(used.wall_ms >= QUOTA_MS - 4_000, "{more}: the limit was none: {} ms", used.wall_ms);
            });
        }
    });
}

/// One maintenance page that asked for a day put half of the jobs to sleep for a day, though others went through.
#[test]
fn a_wait_that_one_failure_asks_for_ends_when_others_work() {
    let site = Site::with_faults(&["upload_image=maintenance:86400,nth=1,profile=PROFILE"
        .replace("PROFILE", &profile(0))
        .as_str()]);
    site.put_batch("batch.manifest.json", 40);
    site.run_once().expect(0);
    assert_eq!(site.receipt("batch.manifest.json")["counts"]["created"], 40);
}

/// The same where nothing else is in flight.
#[test]
fn a_day_of_maintenance_is_not_believed_for_long() {
    let site = Builder { more: "[workers]\nmax_in_flight = 1".to_owned(), ..Builder::default() }.build();
    // What a list has to show before it proves anything.
    site.put("known.png", image(Format::Png, 100));
    site.put_documents("known.manifest.json", &[entry("known", 0, "known.png")]);
    site.run_once().expect(0);
    site.faults(&["create_document=maintenance:86400,nth=1"]);
    site.put_batch("batch.manifest.json", 1);
    site.run_once().expect(0);
    assert_eq!(site.receipt("batch.manifest.json")["counts"]["created"], 1);
}
