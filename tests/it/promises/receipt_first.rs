//! The receipt comes before anything is moved or deleted, wherever the process ends.

use crate::support::{Builder, Format, entry, image, promise};

#[test]
fn files_are_moved_or_deleted_only_once_the_receipt_is_there() {
    promise!("Nothing is moved or deleted before its receipt is on disk.");
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
            for file in ["a.manifest.json", "a.png"] {
                assert!(site.in_drop(file).exists(), "{after_success}, {place}: {file} has gone");
            }
            site.run_once().expect(0);
            assert_eq!(site.left(), Vec::<String>::new(), "{after_success}, {place}");
            assert_eq!(site.moved_to("done").is_empty(), after_success == "delete");
        }
    }
}
