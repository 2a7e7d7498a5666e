//! What was taken is found by the name that it had, and no other manifest can name where it is.

use crate::support::{Site, entry};

/// The path in the drop of a file that was taken.
fn taken(site: &Site, name: &str) -> String {
    let found = site.left().into_iter().find(|path| path.starts_with(".passfort-ingest/") && path.ends_with(name));
    found.unwrap_or_else(|| panic!("{name} is not taken: {:?}", site.files()))
}

#[test]
fn what_was_taken_is_no_other_manifests_to_name() {
    let (site, mut daemon) = Site::taken_in();
    let stolen = taken(&site, "/0.png");
    site.put_documents("b.manifest.json", &[entry("b", 2, &stolen)]);
    site.run(&["resume"]).expect(0);
    daemon.wait_until("both are settled", || {
        site.is_settled("a.manifest.json") && site.is_settled("b.manifest.json") && site.left().is_empty()
    });
    daemon.terminate().expect(0);
    let receipt = site.receipt("b.manifest.json");
    assert_eq!(receipt["counts"]["invalid"], 1, "{receipt}");
    assert!(receipt["entries"][0]["errors"][0]["reason"].as_str().unwrap().contains("taken files"), "{receipt}");
    assert_eq!(site.receipt("a.manifest.json")["counts"]["created"], 2);
}

#[test]
fn why_finds_what_was_taken_by_the_path_that_it_had() {
    let (site, daemon) = Site::taken_in();
    let said = site.run(&["why", site.in_drop("0.png").to_str().unwrap()]).stdout;
    assert!(said.contains("a.manifest.json"), "{said}");
    daemon.terminate().expect(0);
}
