//! The receipt comes before anything is put away or deleted, wherever the process ends.

use crate::support::{Builder, Format, Site, entry, image, promise};

#[test]
fn files_are_put_away_or_deleted_only_once_the_receipt_is_there() {
    promise!("Nothing is put away or deleted before its receipt is on disk.");
    for (after_success, step) in [("archive", "move"), ("delete", "remove")] {
        for (place, is_there) in [
            ("before.publish.write".to_owned(), false),
            ("after.publish.write".to_owned(), false),
            ("after.publish.rename".to_owned(), true),
            (format!("before.{step}.file"), true),
        ] {
            let site = Builder { drop: format!("after_success = '{after_success}'"), ..Builder::default() }.build();
            site.put("a.png", image(Format::Png, 1));
            site.put_documents("a.manifest.json", &[entry("a", 1, "a.png")]);
            site.run_once_killed_at(&place);
            assert_eq!(site.is_settled("a.manifest.json"), is_there, "{after_success}, {place}");
            let left = site.left();
            for file in ["a.manifest.json", "a.png"] {
                let is_there = left.iter().any(|path| path.ends_with(file));
                assert!(is_there, "{after_success}, {place}: {file} is neither in the drop nor taken");
            }
            site.run_once().expect(0);
            assert_eq!(site.left(), Vec::<String>::new(), "{after_success}, {place}");
            assert_eq!(site.moved_to("done").is_empty(), after_success == "delete");
        }
    }
}

/// The account's name came to be known between the two lives, and the manifest had two receipts.
#[test]
fn a_receipt_without_the_accounts_name_is_known_again_after_a_kill() {
    let site = Site::new();
    site.faults(&["whoami=status-before:503"]);
    site.put("a.png", image(Format::Png, 1));
    site.put_documents("a.manifest.json", &[entry("a", 1, "a.png")]);
    site.run_once_killed_at("after.publish.rename");
    assert!(site.receipt("a.manifest.json")["account"].is_null());
    site.faults(&[]);
    site.run_once().expect(0);
    assert_eq!(site.receipt("a.manifest.json")["status"], "done", "one receipt");
}
