//! Each call as the guide describes it, and what is refused.

use std::time::Duration;

use super::{super::*, *};
use crate::entry::ProfileId;

#[tokio::test]
async fn a_document_with_its_image_goes_there_and_back() {
    let bench = bench(Options::default()).await;
    let (status, image) = json_of(bench.upload(PNG).await.unwrap()).await;
    assert_eq!((status, &image["image_type"]), (200, &json!("FRONT")));
    let date = image["upload_date"].as_str().unwrap();
    assert!(date.len() == 19 && date.as_bytes()[10] == b' ', "{date}");
    let image_id = image["id"].as_str().unwrap();

    let (status, document) = json_of(bench.document(&[&image_id.to_uppercase()]).await.unwrap()).await;
    assert_eq!(status, 200);
    assert_eq!(document["images"][0]["id"], *image_id);
    assert_ne!(document["images"][0]["upload_date"], image["upload_date"], "dates differ between answers");

    let response = bench.get("collected_data").send().await.unwrap();
    assert!(response.headers().contains_key("etag"));
    let (_, data) = json_of(response).await;
    assert_eq!(data["documents"], json!([document]));
    assert!(data["entity_type"].is_string());

    let (_, images) = json_of(bench.get("document_images").send().await.unwrap()).await;
    assert_eq!(images[0]["id"], *image_id);
    assert_eq!(bench.sandbox.documents()[0].images[0].bytes, PNG.len() as u64);
}

#[tokio::test]
async fn a_file_is_read_by_post_and_by_get() {
    let bench = bench(Options::default()).await;
    let body = json!({"data": STANDARD.encode(b"anything"), "name": "PEP Declaration Form.pdf"});
    let (status, file) = json_of(bench.post("files", &body).send().await.unwrap()).await;
    assert_eq!((status, &file["decrypted_data"]), (200, &json!("")));
    let tail = format!("files/{}", file["id"].as_str().unwrap());
    for request in [bench.get(&tail), bench.post(&tail, &json!({}))] {
        assert_eq!(json_of(request.send().await.unwrap()).await, (200, file.clone()));
    }
    assert_eq!(refusal(bench.get("files/none")).await.0, 404);
    let (_, unnamed) = json_of(bench.post("files", &json!({"data": "QUJD"})).send().await.unwrap()).await;
    assert_eq!(unnamed["name"], "Untitled");
}

#[tokio::test]
async fn whoami_gives_the_owner_of_the_key() {
    let bench = bench(Options::default()).await;
    let url = format!("{}/whoami", bench.sandbox.base_url());
    let (status, body) = json_of(bench.client.get(&url).header("apikey", "test").send().await.unwrap()).await;
    assert_eq!(status, 200);
    assert!(body["auditee_name"].is_string() && body["institution"]["id"].is_string());
    assert_eq!(refusal(bench.client.get(&url)).await, (401, 203));
    assert_eq!(refusal(bench.client.get(&url).header("apikey", "other")).await, (403, 204));
    assert!(!bench.sandbox.ledger()[1].key_ok);
    bench.sandbox.set_keys(vec!["other".to_owned()]);
    assert_eq!(bench.client.get(&url).header("apikey", "other").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn answers_take_the_shapes_they_are_set_to() {
    let bench = bench(Options {
        list_shape: ListShape::Wrapped,
        created_status: 201,
        id_order: IdOrder::Last,
        file_read_method: FileReadMethod::Get,
        ..Options::default()
    })
    .await;
    let response = bench.upload(PNG).await.unwrap();
    assert_eq!(response.status(), 201);
    let text = response.text().await.unwrap();
    assert!(text.starts_with("{\"image_type\"") && text.contains("\"id\""), "{text}");
    let (_, list) = json_of(bench.get("document_images").send().await.unwrap()).await;
    assert_eq!(list["document_images"].as_array().unwrap().len(), 1);
    assert_eq!(refusal(bench.post("files/7", &json!({}))).await.0, 405);
}

#[tokio::test]
async fn what_is_wrong_with_an_upload_is_refused() {
    let bench = bench(Options { max_image_bytes: 100, ..Options::default() }).await;
    let png = STANDARD.encode(PNG);
    let cases = [
        (json!({"image_type": "FRONT"}), (400, 101)),
        (json!({"data": ""}), (400, 201)),
        (json!({"data": 5}), (400, 201)),
        (json!({"data": png.trim_end_matches('=')}), (400, 201)),
        (json!({"data": format!("{png}\n")}), (400, 201)),
        (json!({"data": STANDARD.encode(b"MZ no image")}), (400, 201)),
        (json!({"data": png, "image_type": "front"}), (400, 201)),
        (json!({"data": png, "image_type": 5}), (400, 201)),
        (json!({"data": png, "colour": "red"}), (400, 201)),
        (json!({"data": STANDARD.encode([PNG, &[0; 100]].concat())}), (413, 201)),
        (json!([png]), (400, 201)),
    ];
    for (body, wanted) in cases {
        assert_eq!(refusal(bench.post("document_images", &body)).await, wanted, "{body}");
    }
    assert_eq!(bench.sandbox.summary().images, 0);
    let uri = json!({"data": format!("data:image/png;base64,{png}")});
    assert_eq!(bench.post("document_images", &uri).send().await.unwrap().status(), 200);
    assert_eq!(bench.post("files", &json!({"data": "QUJD"})).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn what_is_wrong_with_a_document_is_refused() {
    let bench = bench(Options::default()).await;
    let image = bench.image(PNG).await;
    let good = json!({"category": "PROOF_OF_IDENTITY", "document_type": "PASSPORT", "images": [{"id": image}],
        "extracted_data": {"number": "1"}});
    let without = |field: &str| {
        let mut body = good.clone();
        body.as_object_mut().unwrap().remove(field);
        body
    };
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        body
    };
    let cases = [
        (without("category"), 101),
        (without("document_type"), 101),
        (without("images"), 101),
        (with("images", json!([])), 101),
        (with("images", json!(["x"])), 201),
        (with("images", json!([{"id": "b2c4393a-e219-67a4-5ab4-2186952e9038"}])), 201),
        (with("extracted_data", json!([])), 201),
        (with("reference", json!("x")), 201),
        (with("data", json!("QUJD")), 201),
    ];
    for (body, code) in cases {
        assert_eq!(refusal(bench.post("collected_data/documents", &body)).await, (400, code), "{body}");
    }
    let other = bench.url("collected_data/documents").replace(PROFILE, "b2c4393a-e219-67a4-5ab4-2186952e9038");
    let elsewhere = bench.client.post(other).header("apikey", "test").body(good.to_string());
    assert_eq!(refusal(elsewhere).await, (400, 201), "an image of another profile");
    assert_eq!(bench.sandbox.summary().documents, 0);
    assert_eq!(bench.post("collected_data/documents", &good).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn replacing_all_data_is_refused_and_recorded() {
    let bench = bench(Options::default()).await;
    assert_eq!(refusal(bench.post("collected_data", &json!({"documents": []}))).await, (400, 201));
    assert_eq!(bench.sandbox.ledger()[0].operation, ApiCall::ForbiddenReplace);
    assert_eq!(bench.sandbox.summary().calls["forbidden_replace"]["400"], 1);
}

#[tokio::test]
async fn other_paths_and_other_profiles_do_not_exist() {
    let bench = bench(Options {
        profiles: vec![ProfileId::parse("b2c4393a-e219-67a4-5ab4-2186952e9038").unwrap()],
        ..Options::default()
    })
    .await;
    assert_eq!(refusal(bench.get("collected_data")).await, (404, 201));
    assert_eq!(refusal(bench.get("documents")).await, (404, 201));
    assert_eq!(bench.sandbox.ledger()[1].operation, ApiCall::Unknown);
}

#[tokio::test]
async fn other_categories_are_refused_where_the_known_ones_are_told() {
    let known = Options { categories: vec!["SUPPORTING".to_owned()], ..Options::default() };
    let bench = bench(known).await;
    let image = bench.image(PNG).await;
    assert_eq!(bench.document(&[&image]).await.unwrap().status(), 400);
    assert_eq!(bench.sandbox.documents().len(), 0);
}

#[tokio::test]
async fn a_document_shows_only_after_its_time() {
    let bench = bench(Options { visible_after: Duration::from_secs(3600), ..Options::default() }).await;
    let image = bench.image(PNG).await;
    bench.document(&[&image]).await.unwrap();
    let (_, data) = json_of(bench.get("collected_data").send().await.unwrap()).await;
    assert_eq!(data["documents"], json!([]));
    assert_eq!(bench.sandbox.documents().len(), 1);
}

#[tokio::test]
async fn only_loopback_is_listened_on() {
    let listen = "0.0.0.0:0".parse().unwrap();
    let error = start(Options { listen, ..Options::default() }).await.err().unwrap();
    assert!(error.to_string().contains("loopback only"), "{error}");
}

#[tokio::test]
async fn a_large_image_passes_completely() {
    let bench = bench(Options::default()).await;
    let content = [PNG, &[7; 5_000_000]].concat();
    assert_eq!(bench.upload(&content).await.unwrap().status(), 200);
    let entry = &bench.sandbox.ledger()[0];
    assert_eq!((entry.bytes, entry.format.as_deref()), (Some(content.len() as u64), Some("PNG")));
}

#[tokio::test]
async fn https_is_spoken_where_a_certificate_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let options = Options { tls: Some((certificate, key)), faults: vec![rule("any=lost,nth=2")], ..Options::default() };
    let mut bench = bench(options).await;
    let root = reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).unwrap();
    bench.client = Client::builder().no_proxy().tls_certs_only([root]).build().unwrap();
    assert!(bench.sandbox.base_url().starts_with("https://127.0.0.1:"));

    // Somebody who connects and says nothing keeps nobody waiting.
    let _silent = TcpStream::connect(bench.sandbox.addr()).await.unwrap();
    assert_eq!(bench.upload(PNG).await.unwrap().status(), 200);
    assert!(bench.upload(PNG).await.is_err());
    assert_eq!(bench.sandbox.summary().images, 2);
}

#[tokio::test]
async fn a_certificate_that_is_not_there_is_named() {
    let tls = Some(("/nowhere/cert.pem".into(), "/nowhere/key.pem".into()));
    let error = start(Options { tls, ..Options::default() }).await.err().unwrap();
    assert!(error.to_string().contains("/nowhere/cert.pem"), "{error}");
}
