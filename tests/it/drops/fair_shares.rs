//! Fair shares: a large delivery does not hold up small ones.

use std::time::Duration;

use passfort_ingest::sandbox::{ApiCall, Options};
use serde_json::Value;

use crate::support::{Builder, Format, Site, entry, image, profile};

const FEW: u32 = 10;

/// Documents with these numbers, all of one image.
fn entries(numbers: std::ops::Range<u32>, path: &str) -> Vec<Value> {
    numbers.map(|number| entry(&format!("document-{number}"), number, path)).collect()
}

/// Two drops that share an account, and little room for both.
fn two_drops(options: Options) -> Site {
    let site =
        Builder { sandbox: options, more: "[workers]\nmax_in_flight = 2".to_owned(), ..Builder::default() }.build();
    site.another_drop("other", "");
    site
}

/// How many documents of the one drop came into being between the first call for the other and its last document.
fn meanwhile(site: &Site, few: &[String]) -> usize {
    let ledger = site.ledger();
    let is_few = |call: &passfort_ingest::sandbox::LedgerEntry| {
        call.profile.as_ref().is_some_and(|profile| few.contains(profile))
    };
    let from = ledger.iter().position(is_few).unwrap();
    let to = ledger.iter().rposition(|call| is_few(call) && call.operation == ApiCall::CreateDocument).unwrap();
    let created = |call: &&passfort_ingest::sandbox::LedgerEntry| call.committed && !is_few(call);
    ledger[from..=to].iter().filter(|call| call.operation == ApiCall::CreateDocument).filter(created).count()
}

fn migrate(site: &Site, documents: u32) {
    site.put("x.png", image(Format::Png, 1));
    site.put_documents("all.manifest.json", &entries(0..documents, "x.png"));
    let mut daemon = site.daemon();
    daemon.wait_until("the migration goes on", || site.summary().documents >= 12);
    site.write("other/x.png", image(Format::Png, 2));
    let manifest = serde_json::json!({ "version": 1, "documents": entries(100_000..100_000 + FEW, "x.png") });
    site.write("other/few.manifest.json", manifest.to_string());
    let few: Vec<String> = (100_000..100_000 + FEW).map(profile).collect();
    let done = || site.documents().iter().filter(|document| few.contains(&document.profile)).count();
    daemon.wait_until("the few are done", || done() == few.len());
    let meanwhile = meanwhile(site, &few);
    assert!(meanwhile <= 2 * few.len() + 8, "{meanwhile} of the many came before the last of the few");
    assert!(site.summary().documents < u64::from(documents), "the migration is not over");
    daemon.terminate().expect(0);
}

#[test]
fn a_migration_in_one_drop_does_not_delay_a_few_documents_in_another() {
    migrate(&two_drops(Options { latency: Duration::from_millis(20), ..Options::default() }), 5000);
}

#[test]
fn a_quota_is_shared_between_drops() {
    let limits = vec!["create_document=5/1,burst=2".parse().unwrap()];
    migrate(&two_drops(Options { limits, ..Options::default() }), 400);
}

#[test]
fn many_documents_on_one_profile_leave_places_to_others() {
    let site = Builder { more: "[workers]\nmax_in_flight = 2".to_owned(), ..Builder::default() }.build();
    site.faults(&[&format!("create_document=slow:200ms,profile={}", profile(1))]);
    site.put("x.png", image(Format::Png, 1));
    // More than may wait in line for their turn.
    let mut all: Vec<Value> = (0..300)
        .map(|number| {
            let path = format!("{number}.png");
            site.put(&path, image(Format::Png, 1000 + number));
            entry(&format!("many-{number}"), 1, &path)
        })
        .collect();
    all.extend(entries(100..100 + FEW, "x.png"));
    site.put_documents("all.manifest.json", &all);
    let mut daemon = site.daemon();
    let of_others = || site.documents().iter().filter(|document| document.profile != profile(1)).count();
    daemon.wait_until("the others are done", || of_others() == FEW as usize);
    let many = site.documents().len() - of_others();
    assert!(many < 100, "{many} documents of one profile came before the others");
    site.faults(&[]);
    daemon.wait_until("all are done", || site.left().is_empty());
    assert_eq!(site.receipt("all.manifest.json")["counts"]["created"], 300 + FEW);
    daemon.terminate().expect(0);
    assert_eq!(site.summary().doubled, 0);
}
