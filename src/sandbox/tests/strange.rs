//! Deeds that come late, errors beside what was created, lists that are not what they should be, gateways' pages.

use std::time::Duration;

use super::{super::*, *};

async fn deed_is_done(bench: &Bench) {
    while bench.sandbox.summary().deferred > 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn list(bench: &Bench) -> Value {
    json_of(bench.get("collected_data").send().await.unwrap()).await.1
}

#[tokio::test]
async fn a_late_deed_is_done_when_its_client_has_gone() {
    for (fault, status) in [("late:150ms", None), ("late:150ms/504", Some(504)), ("late:150ms/500/501", Some(500))] {
        let bench = with_faults(&[&format!("create_document={fault}")]).await;
        let image = bench.image(PNG).await;
        let answer = bench.document(&[&image]).await;
        assert_eq!(answer.ok().map(|answer| answer.status().as_u16()), status, "{fault}");
        let summary = bench.sandbox.summary();
        assert_eq!((summary.documents, summary.deferred), (0, 1), "{fault}");
        deed_is_done(&bench).await;
        let call = bench.sandbox.ledger().pop().unwrap();
        assert_eq!((bench.sandbox.summary().documents, call.committed, call.answered), (1, true, false), "{fault}");
        assert!(call.took_ms >= 150, "{fault}: {}", call.took_ms);
    }
}

#[tokio::test]
async fn a_late_deed_is_done_while_its_client_waits() {
    let bench = with_faults(&["upload_image=late-hang:100ms"]).await;
    let waiting = tokio::time::timeout(Duration::from_millis(300), bench.upload(PNG));
    assert!(waiting.await.is_err(), "it is never answered");
    deed_is_done(&bench).await;
    assert_eq!(bench.sandbox.summary().images, 1);
    // Stopping does not wait for deeds.
    bench.sandbox.set_faults(vec![rule("upload_image=late:1h")]);
    bench.upload(PNG).await.unwrap_err();
    tokio::time::timeout(Duration::from_secs(4), bench.sandbox.stop()).await.unwrap();
}

#[tokio::test]
async fn an_error_beside_what_was_created() {
    let bench = with_faults(&[
        "create_document=errors200-after:301,nth=1",
        "create_document=errors-id:200/401,nth=2",
        "create_document=errors-id:400/201,nth=3",
    ])
    .await;
    let image = bench.image(PNG).await;
    for (documents, status, code, has_id) in [(1, 200, 301, false), (2, 200, 401, true), (3, 400, 201, true)] {
        let (answered, body) = json_of(bench.document(&[&image]).await.unwrap()).await;
        assert_eq!((answered, &body["errors"][0]["code"]), (status, &json!(code)));
        let id = bench.sandbox.documents().pop().unwrap().id;
        assert_eq!(body["id"].as_str(), has_id.then_some(id.as_str()));
        assert_eq!(bench.sandbox.summary().documents, documents);
    }
}

#[tokio::test]
async fn lists_are_stale_foreign_and_odd() {
    let bench = bench(Options::default()).await;
    let image = bench.image(PNG).await;
    bench.document(&[&image]).await.unwrap();
    bench.document(&[&image]).await.unwrap();
    for (fault, shown) in
        [("stale:1h", Some(0)), ("list:page-total", Some(1)), ("list:foreign", Some(0)), ("list:empty", None)]
    {
        bench.sandbox.set_faults(vec![rule(&format!("read_documents={fault}"))]);
        let documents = list(&bench).await["documents"].as_array().map(Vec::len);
        assert_eq!(documents, shown, "{fault}");
    }
    bench.sandbox.set_faults(vec![rule("read_documents=list:foreign")]);
    let other = PROFILE.replace("9038", "9039");
    let url = format!("{}/profiles/{other}/collected_data", bench.sandbox.base_url());
    let answer = bench.client.get(url).header("apikey", "test").send().await.unwrap();
    assert_eq!(json_of(answer).await.1["documents"].as_array().unwrap().len(), 2, "those of this profile");
}

#[tokio::test]
async fn a_document_is_hidden_for_as_long_as_is_set() {
    let bench = bench(Options::default()).await;
    let image = bench.image(PNG).await;
    bench.sandbox.set_visible_after(Duration::from_secs(3600));
    bench.document(&[&image]).await.unwrap();
    bench.sandbox.set_visible_after(Duration::ZERO);
    bench.document(&[&image]).await.unwrap();
    assert_eq!(list(&bench).await["documents"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_same_content_may_be_the_same_image() {
    let bench = bench(Options { image_ids: ImageIds::ByContent, ..Options::default() }).await;
    let (one, same, other) = (bench.image(PNG).await, bench.image(PNG).await, bench.image(b"%PDF-1.4 two").await);
    assert_eq!(one, same);
    assert_ne!(one, other);
    assert_eq!(bench.sandbox.summary().images, 2);
}

#[tokio::test]
async fn a_gateway_answers_in_the_place_of_the_api() {
    let bench = with_faults(&[
        "upload_image=gateway:404,nth=1",
        "upload_image=gateway-json:404,nth=2",
        "upload_image=maintenance:86400,nth=3",
    ])
    .await;
    for (status, is_json, wait) in [(404, false, None), (404, true, None), (503, false, Some("86400"))] {
        let answer = bench.upload(PNG).await.unwrap();
        assert_eq!(answer.status(), status);
        let told = answer.headers().get("retry-after").map(|wait| wait.to_str().unwrap().to_owned());
        assert_eq!(told.as_deref(), wait);
        let body = answer.text().await.unwrap();
        assert!(!body.contains("errors"), "{body}");
        assert_eq!(serde_json::from_str::<Value>(&body).is_ok(), is_json, "{body}");
    }
    assert_eq!(bench.sandbox.summary().images, 0);
}

#[tokio::test]
async fn refusals_quote_what_no_log_should_have() {
    let bench = with_faults(&["upload_image=quote-key,nth=1", "upload_image=quote-person,nth=2"]).await;
    let said = bench.upload(PNG).await.unwrap();
    assert_eq!(said.status(), 401);
    assert!(said.text().await.unwrap().contains("key 'test'"));
    let said = bench.upload(PNG).await.unwrap();
    assert_eq!(said.status(), 400);
    assert!(said.text().await.unwrap().contains("Erika Mustermann"));
    let call = bench.sandbox.ledger().remove(0);
    assert_eq!((call.note, bench.sandbox.summary().images), (None, 0), "the ledger has no key");
}

#[tokio::test]
async fn interim_answers_come_in_a_flood_and_a_slow_one_drips() {
    let bench = with_faults(&["upload_image=interim-flood:200,nth=1", "upload_image=drip:2000,nth=2"]).await;
    let body = json!({"data": STANDARD.encode(PNG)}).to_string();
    let head = request("POST", "document_images", body.len(), &body);
    let head = String::from_utf8(head).unwrap().replacen("host: x", "host: x\r\nconnection: close", 1);
    let said = String::from_utf8(raw(bench.sandbox.addr(), head.as_bytes()).await).unwrap();
    assert_eq!((said.matches("103 Early").count(), said.matches("200 OK").count()), (200, 1));
    let began = Instant::now();
    let text = bench.upload(PNG).await.unwrap().text().await.unwrap();
    assert!(serde_json::from_str::<Value>(&text).is_ok(), "{text}");
    let least = Duration::from_micros(500) * u32::try_from(text.len()).unwrap();
    assert!(began.elapsed() >= least, "{} bytes at 2,000 a second", text.len());
}
