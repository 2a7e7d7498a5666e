//! The ledger, the summary, and the calls that switch rules.

use super::{super::*, *};

async fn control(bench: &Bench, name: &str, text: &str) -> (u16, String) {
    let response =
        bench.client.post(format!("{}{name}", bench.sandbox.control_url())).body(text.to_owned()).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

async fn read(bench: &Bench, name: &str) -> String {
    let url = format!("{}{name}", bench.sandbox.control_url());
    bench.client.get(url).send().await.unwrap().text().await.unwrap()
}

#[tokio::test]
async fn the_summary_counts_orphans_and_doubles() {
    let bench = bench(Options::default()).await;
    let (one, same, orphan) = (bench.image(PNG).await, bench.image(PNG).await, bench.image(PNG).await);
    assert_ne!(one, orphan);
    for images in [&one, &one, &same] {
        assert_eq!(bench.document(&[images]).await.unwrap().status(), 200);
    }
    let summary = bench.sandbox.summary();
    assert_eq!((summary.images, summary.orphans, summary.documents), (3, 1, 3));
    assert_eq!(summary.doubled, 2, "the same content again, whatever the ids");
    assert_eq!(summary.doubled_ids, 1, "the same ids again");
    assert_eq!(summary.calls["create_document"]["200"], 3);
    let served: LedgerSummary = serde_json::from_str(&read(&bench, "summary").await).unwrap();
    assert_eq!(served, summary);
    assert!(summary.to_string().contains("3 documents (2 doubled)"), "{summary}");
    let documents: Value = serde_json::from_str(&read(&bench, "documents").await).unwrap();
    assert_eq!(documents[2]["images"][0]["id"], same);
    assert_eq!(documents[2]["profile"], PROFILE);
}

#[tokio::test]
async fn a_record_has_what_was_asked_and_answered_but_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.jsonl");
    let options = Options { ledger: Some(path.clone()), keys: vec!["test".into()], ..Options::default() };
    let bench = bench(options).await;
    let image = bench.image(PNG).await;
    let document = json_of(bench.document(&[&image]).await.unwrap()).await.1;

    let entries = bench.sandbox.ledger();
    let (upload, create) = (&entries[0], &entries[1]);
    assert_eq!((upload.seq, upload.operation, upload.method.as_str()), (1, ApiCall::UploadImage, "POST"));
    assert_eq!((upload.id.as_deref(), upload.committed, upload.answered), (Some(image.as_str()), true, true));
    assert_eq!((upload.bytes, upload.format.as_deref()), (Some(PNG.len() as u64), Some("PNG")));
    assert_eq!(upload.sha256.as_ref().map(String::len), Some(64));
    assert_eq!((upload.image_type.as_deref(), upload.profile.as_deref()), (Some("FRONT"), Some(PROFILE)));
    assert_eq!((create.seq, create.image_ids.as_slice(), create.status), (2, &[image][..], Some(200)));
    assert_eq!(create.category.as_deref(), Some("PROOF_OF_IDENTITY"));
    assert_eq!(create.id.as_deref(), document["id"].as_str());

    let file = std::fs::read_to_string(path).unwrap();
    for text in [file, read(&bench, "ledger").await] {
        let lines: Vec<LedgerEntry> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines, entries);
        assert!(!text.contains("\"test\""));
    }
}

#[tokio::test]
async fn rules_are_switched_while_it_runs() {
    let bench = bench(Options::default()).await;
    let text = "# a comment\n\nupload_image=status-before:503\n";
    assert_eq!(control(&bench, "faults", text).await.0, 200);
    assert_eq!(bench.upload(PNG).await.unwrap().status(), 503);
    let (status, error) = control(&bench, "faults", "upload_image=lost\nupload_image=losst").await;
    assert_eq!(status, 400);
    assert!(error.contains("line 2") && error.contains("did you mean 'lost'"), "{error}");
    assert_eq!(bench.upload(PNG).await.unwrap().status(), 503, "a text with a slip changes nothing");
    assert_eq!(control(&bench, "faults", "").await.0, 200);
    assert_eq!(bench.upload(PNG).await.unwrap().status(), 200);

    assert_eq!(control(&bench, "limits", "any=1/3600").await.0, 200);
    assert_eq!(bench.upload(PNG).await.unwrap().status(), 200);
    assert_eq!(bench.upload(PNG).await.unwrap().status(), 429);
    assert_eq!(control(&bench, "limits", "").await.0, 200);

    assert_eq!(control(&bench, "keys", "new\n").await.0, 200);
    assert_eq!(bench.upload(PNG).await.unwrap().status(), 403);
    assert_eq!(control(&bench, "nothing", "").await.0, 404);
}

#[tokio::test]
async fn only_the_latest_calls_are_kept_but_all_are_counted() {
    let bench = bench(Options { kept_calls: 2, ..Options::default() }).await;
    for _ in 0..3 {
        bench.get("document_images").send().await.unwrap();
    }
    let seqs: Vec<u64> = bench.sandbox.ledger().iter().map(|entry| entry.seq).collect();
    assert_eq!(seqs, [2, 3]);
    assert_eq!(bench.sandbox.summary().calls["list_images"]["200"], 3);
}

#[tokio::test]
async fn a_ledger_that_cannot_be_written_is_named() {
    let error = start(Options { ledger: Some("/nowhere/ledger".into()), ..Options::default() }).await.err().unwrap();
    assert!(error.to_string().contains("/nowhere/ledger"), "{error}");
}

#[tokio::test]
async fn stopping_frees_the_address() {
    let bench = bench(Options::default()).await;
    bench.upload(PNG).await.unwrap();
    let listen = bench.sandbox.addr();
    bench.sandbox.stop().await;
    let again = start(Options { listen, ..Options::default() }).await.unwrap();
    assert_eq!(again.addr(), listen);
}

#[tokio::test]
async fn another_sandbox_continues_where_one_was() {
    let first = bench(Options::default()).await;
    let image = first.image(b"%PDF-1.4 one").await;
    first.document(&[&image]).await.unwrap();
    first.image(b"%PDF-1.4 two").await;
    let calls = first.sandbox.ledger();

    let second = bench(Options::default()).await;
    second.sandbox.restore(&calls);
    assert_eq!(second.sandbox.documents(), first.sandbox.documents());
    let summary = second.sandbox.summary();
    assert_eq!((summary.images, summary.orphans, summary.documents), (2, 1, 1));
    assert!(second.sandbox.ledger().is_empty());
    second.document(&[&image]).await.unwrap();
    assert_eq!(second.sandbox.summary().doubled_ids, 1, "the images are known there");
}
