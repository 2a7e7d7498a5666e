//! Limits of the API: they are used up, and hardly ever run into.

use passfort_ingest::sandbox::{Operation, Options};

use crate::support::{Builder, Site};

const DOCUMENTS: u32 = 40;

fn site(limits: &[&str]) -> Site {
    let limits = limits.iter().map(|rule| rule.parse().unwrap()).collect();
    let site = Builder { sandbox: Options { limits, ..Options::default() }, ..Builder::default() }.build();
    site.put_batch("all.manifest.json", DOCUMENTS);
    site
}

fn turned_away(site: &Site, operation: Operation) -> usize {
    site.calls(operation).iter().filter(|call| call.status == Some(429)).count()
}

#[test]
fn a_quota_of_documents_is_used_up_and_hardly_ever_run_into() {
    let site = site(&["create_document=10/4"]);
    site.run_once().expect(0);
    assert_eq!(site.summary().documents, u64::from(DOCUMENTS));
    let turned_away = turned_away(&site, Operation::CreateDocument);
    assert!(turned_away <= 3, "{turned_away} calls were turned away");
    // Ten go at once, the other thirty one by one: twelve seconds from the first to the last, by the ledger's clock. A
    // machine that stands still for longer than a second in between is no fault of the program.
    let created: Vec<i64> = site.calls(Operation::CreateDocument).iter().map(|call| call.at_ms).collect();
    let took: i64 = created.windows(2).map(|pair| (pair[1] - pair[0]).min(1000)).sum();
    assert!(took <= 12_000 * 13 / 10, "{took} ms: {created:?}");
    assert!(created[created.len() - 1] - created[0] >= 11_900, "the limit was none: {created:?}");
}
