//! The sandbox over real sockets, as its clients see it.

mod answers;
mod calls;
mod control;
mod faults;
mod strange;

use std::net::SocketAddr;

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{FaultRule, LimitRule, Options, Sandbox, start};

pub(super) const PROFILE: &str = "a2c4393a-e219-67a4-5ab4-2186952e9038";
pub(super) const PNG: &[u8] = b"\x89PNG\r\n\x1A\nimage";

/// A sandbox and a client with the right key.
pub(super) struct Bench {
    pub sandbox: Sandbox,
    pub client: Client,
}

pub(super) fn client() -> Client {
    rustls::crypto::ring::default_provider().install_default().ok();
    Client::builder().no_proxy().build().unwrap()
}

pub(super) async fn bench(options: Options) -> Bench {
    Bench { sandbox: start(options).await.unwrap(), client: client() }
}

pub(super) async fn with_faults(rules: &[&str]) -> Bench {
    bench(Options { faults: rules.iter().map(|rule| rule.parse().unwrap()).collect(), ..Options::default() }).await
}

impl Bench {
    pub(super) fn url(&self, tail: &str) -> String {
        format!("{}/profiles/{PROFILE}/{tail}", self.sandbox.base_url())
    }

    pub(super) fn get(&self, tail: &str) -> RequestBuilder {
        self.client.get(self.url(tail)).header("apikey", "test")
    }

    pub(super) fn post(&self, tail: &str, body: &Value) -> RequestBuilder {
        self.client.post(self.url(tail)).header("apikey", "test").body(body.to_string())
    }

    pub(super) async fn upload(&self, content: &[u8]) -> reqwest::Result<Response> {
        self.post("document_images", &json!({"data": STANDARD.encode(content), "image_type": "FRONT"})).send().await
    }

    /// Uploads an image and gives its id.
    pub(super) async fn image(&self, content: &[u8]) -> String {
        let answer = json_of(self.upload(content).await.unwrap()).await.1;
        answer["id"].as_str().unwrap().to_owned()
    }

    pub(super) async fn document(&self, images: &[&str]) -> reqwest::Result<Response> {
        let images: Vec<Value> = images.iter().map(|id| json!({"id": id})).collect();
        let body = json!({"category": "PROOF_OF_IDENTITY", "document_type": "PASSPORT", "images": images});
        self.post("collected_data/documents", &body).send().await
    }
}

/// The status and the body of an answer.
pub(super) async fn json_of(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    (status, serde_json::from_str(&response.text().await.unwrap()).unwrap())
}

/// The status of a refusal and the code of its first error.
pub(super) async fn refusal(request: RequestBuilder) -> (u16, u64) {
    let (status, body) = json_of(request.send().await.unwrap()).await;
    assert_eq!(body["errors"][0]["source"], "API");
    (status, body["errors"][0]["code"].as_u64().unwrap())
}

/// Sends bytes as they are and reads until the connection ends, by an end or a reset.
pub(super) async fn raw(addr: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(addr).await.unwrap();
    socket.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.ok();
    answer
}

/// A request as bytes, with a `Content-Length` of its own.
pub(super) fn request(method: &str, tail: &str, length: usize, body: &str) -> Vec<u8> {
    format!(
        "{method} /4.0/profiles/{PROFILE}/{tail} HTTP/1.1\r\nhost: x\r\napikey: test\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

pub(super) fn rule(text: &str) -> FaultRule {
    text.parse().unwrap()
}

pub(super) fn limit(text: &str) -> LimitRule {
    text.parse().unwrap()
}
