//! Documents of one profile never overlap.

use std::{collections::BTreeMap, time::Duration};

use passfort_ingest::sandbox::{ApiCall, Options};

use crate::support::{Builder, Format, Site, entry, image, promise};

fn site() -> Site {
    let sandbox = Options { latency: Duration::from_millis(40), ..Options::default() };
    Builder { sandbox, ..Builder::default() }.build()
}

#[test]
fn the_documents_of_a_profile_are_created_one_after_the_other() {
    promise!("The documents of one profile are created one after the other.");
    let site = site();
    let documents: Vec<_> = (0..12)
        .map(|number| {
            let name = format!("{number}.png");
            site.put(&name, image(Format::Png, number));
            entry(&name, number % 2, &name)
        })
        .collect();
    site.put_documents("a.manifest.json", &documents);
    site.run_once().expect(0);
    let mut last: BTreeMap<String, i64> = BTreeMap::new();
    let calls = site.calls(ApiCall::CreateDocument);
    assert_eq!(calls.len(), 12);
    for call in calls {
        let began = call.at_ms - i64::try_from(call.took_ms).unwrap();
        if let Some(before) = last.insert(call.profile.unwrap(), call.at_ms) {
            assert!(began >= before, "a creation began at {began}, before the last one ended at {before}");
        }
    }
    assert_eq!(last.len(), 2);
}
