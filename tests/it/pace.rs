//! Limits of the API: they are used up, and hardly ever run into.

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
