//! What operators read contains no key, no content and no customer. The metrics: `commands/http.rs`.

use passfort_ingest::sandbox::Options;
use serde_json::json;

use crate::support::{Builder, Format, entry, image, profile, promise};

const KEY: &str = "key-5f1c9b";

#[test]
fn the_default_log_and_config_show_contain_no_key_no_content_and_no_reference() {
    promise!("The log, the metrics and `config show` contain no key and no image content.");
    promise!(
        "By default, the log contains no profile and no reference, and the metrics contain no name but that of the drop."
    );
    let sandbox = Options { keys: vec![KEY.to_owned()], ..Options::default() };
    let mut site = Builder { sandbox, ..Builder::default() }.build();
    site.use_key(KEY);
    site.faults(&[
        "upload_image=lost,nth=1",
        "create_document=lost,nth=2",
        "upload_file=status-before:500,nth=1",
        &format!("create_document=errors200:201,profile={}", profile(3)),
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
        for private in [KEY, "private-reference", "private-file", "private-scan", "a2c4393a", "iVBORw0KGgo"] {
            assert!(!text.contains(private), "{private} in\n{text}");
        }
    }
}
