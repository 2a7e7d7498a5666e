//! What operators read contains no key, no content and no customer. The metrics: `commands/http.rs`.

use passfort_ingest::sandbox::Options;
use serde_json::json;

use crate::support::{Builder, Format, Site, entry, image, profile, promise};

const KEY: &str = "key-5f1c9b";

#[test]
fn the_default_log_and_config_show_contain_no_key_no_content_and_no_reference() {
    promise!("The log, the metrics and `config show` contain no key and no image content.");
    promise!(
        "By default, the log contains no profile, no reference, no name of a file and no words of the API, and the metrics contain no name but that of the drop."
    );
    let sandbox = Options { keys: vec![KEY.to_owned()], ..Options::default() };
    let mut site = Builder { sandbox, ..Builder::default() }.build();
    site.use_key(KEY);
    site.faults(&[
        "upload_image=lost,nth=1",
        "create_document=lost,nth=2",
        "upload_file=status-before:500,nth=1",
        &format!("create_document=errors200:201,profile={}", profile(3)),
        &format!("upload_image=quote-person,profile={}", profile(4)),
        &format!("upload_image=quote-key,nth=1,profile={}", profile(2)),
    ]);
    let documents: Vec<_> = (0..5)
        .map(|number| {
            let name = format!("private-scan-{number}.png");
            site.put(&name, image(Format::Png, number));
            entry(&format!("private-reference-{number}"), number, &name)
        })
        .collect();
    site.put("private-form.pdf", image(Format::Pdf, 9));
    let files = json!([{ "reference": "private-file", "profile_id": profile(9), "path": "private-form.pdf" }]);
    let bad = entry("private-reference-bad", 8, "private-missing/../../x.png");
    let mut manifest = json!({ "version": 1, "documents": documents, "files": files });
    manifest["documents"].as_array_mut().unwrap().push(bad);
    site.put("private-batch.manifest.json", manifest.to_string());
    site.put("private-broken.manifest.json", "{ \"version\": 1, \"private\": 2 }");
    let log = site.run_once().expect(1).stderr;
    assert!(!log.is_empty());
    let config = site.run(&["config", "show"]).expect(0).said();
    for text in [log, config] {
        for private in [
            KEY,
            "private-reference",
            "private-file",
            "private-scan",
            "private-b",
            "a2c4393a",
            "iVBORw0KGgo",
            "Mustermann",
        ] {
            assert!(!text.contains(private), "{private} in\n{text}");
        }
    }
}

#[test]
fn the_log_of_calls_names_each_call_without_ids_and_words() {
    let site = Site::with_faults(&["create_document=errors200:201,nth=1"]);
    for number in 0..2 {
        site.put_folder("drop", number);
    }
    let log = site.run(&["-vv", "run", "--once"]).expect(1).stderr;
    let calls: Vec<_> = log.lines().filter(|line| line.contains(" called ")).collect();
    assert_eq!(calls.len(), site.ledger().len(), "{log}");
    for part in
        ["POST /profiles/…/document_images", "POST /profiles/…/collected_data/documents", "status=200", "took_ms="]
    {
        assert!(calls.iter().any(|line| line.contains(part)), "{part} in\n{calls:#?}");
    }
    assert!(!calls.iter().any(|line| line.contains("a2c4393a")), "{calls:#?}");
}

/// The API quoted the key in a refusal, and it stood in the log, in `status` and in the database.
#[test]
fn a_key_that_the_api_quotes_is_blanked_everywhere() {
    promise!("A key that an answer of the API quotes is blanked before the answer is stored or shown.");
    let sandbox = Options { keys: vec![KEY.to_owned()], ..Options::default() };
    let mut site = Builder { sandbox, retry: "give_up_after = '2s'".to_owned(), ..Builder::default() }.build();
    site.use_key(KEY);
    site.faults(&["upload_image=quote-key"]);
    site.put("a.png", image(Format::Png, 1));
    site.put_documents("a.manifest.json", &[entry("a", 1, "a.png")]);
    site.wait_until_settled();
    let log = site.run(&["-v", "run", "--once", "--give-up-after", "1s"]).said();
    assert!(log.contains("[key]"), "-v has the API's words, without the key: {log}");
    let shown = site.run(&["show", "1"]).said();
    assert!(shown.contains("[key]"), "{shown}");
    for text in [log, shown, site.status().to_string(), site.run(&["jobs", "--json"]).said()] {
        assert!(!text.contains(KEY), "{text}");
    }
    let needle = KEY.as_bytes();
    for file in std::fs::read_dir(site.at("state")).unwrap().map(|file| file.unwrap().path()) {
        let bytes = std::fs::read(&file).unwrap_or_default();
        assert!(!bytes.windows(needle.len()).any(|part| part == needle), "{}", file.display());
    }
}

#[test]
fn the_log_of_an_import_names_nothing_unless_it_is_asked_to() {
    let site = Site::with_faults(&[&format!("upload_image=quote-person,profile={}", profile(2))]);
    for number in 1..3 {
        site.write(&format!("private-in/private-{number}.png"), image(Format::Png, number));
    }
    let documents = [1, 2].map(|number| entry(&format!("private-{number}"), number, &format!("private-{number}.png")));
    let manifest = json!({ "version": 1, "documents": documents }).to_string();
    site.write("private-in/private.manifest.json", manifest);
    site.write("private-in/private.manifest.json.txt", "x");
    let log = site.run(&["import", "private-in"]).expect(1).stderr;
    for private in ["private", "a2c4393a"] {
        assert!(!log.contains(private), "{private} in\n{log}");
    }
    assert!(log.contains("job=2") && log.contains("answer="), "{log}");
    assert!(!log.contains("Mustermann"), "the API's words are in `show` alone: {log}");
    site.run(&["show", "2"]).says("Mustermann");
}
