//! Each kind of fault as a client sees it, and whether the call took effect all the same.

use std::time::Duration;

use tokio::time::timeout;

use super::{super::*, *};

fn upload_text() -> String {
    json!({"data": STANDARD.encode(PNG)}).to_string()
}

fn upload_bytes() -> Vec<u8> {
    let body = upload_text();
    request("POST", "document_images", body.len(), &body)
}

/// The sandbox's last record and how many images it has.
fn outcome(bench: &Bench) -> (LedgerEntry, u64) {
    (bench.sandbox.ledger().pop().unwrap(), bench.sandbox.summary().images)
}

#[tokio::test]
async fn a_status_before_does_nothing_and_after_does_it() {
    let bench = with_faults(&["upload_image=status-before:503,nth=1", "upload_image=status-after:503,nth=2"]).await;
    for done in [false, true] {
        assert_eq!(bench.upload(PNG).await.unwrap().status(), 503);
        let (entry, images) = outcome(&bench);
        assert_eq!((entry.committed, images, entry.status), (done, u64::from(done), Some(503)));
    }
    assert_eq!(bench.upload(PNG).await.unwrap().status(), 200);
}

#[tokio::test]
async fn an_early_answer_comes_before_the_body() {
    let bench = with_faults(&["upload_image=early:413"]).await;
    // Only the head is sent: an answer can only come if nobody waits for the body.
    let mut socket = TcpStream::connect(bench.sandbox.addr()).await.unwrap();
    socket.write_all(&request("POST", "document_images", 70_000_000, "")).await.unwrap();
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    drop(socket);
    let (entry, images) = outcome(&bench);
    assert_eq!((entry.status, entry.request_bytes, images), (Some(413), 0, 0));

    let large = [PNG, &[7; 3_000_000]].concat();
    assert_eq!(bench.upload(&large).await.unwrap().status(), 413, "no reset overtakes the answer");
}

#[tokio::test]
async fn a_lost_answer_is_a_closed_connection_without_a_byte() {
    let bench = with_faults(&["upload_image=lost"]).await;
    assert_eq!(raw(bench.sandbox.addr(), &upload_bytes()).await, b"");
    let (entry, images) = outcome(&bench);
    assert_eq!((entry.committed, entry.status, entry.answered, images), (true, None, false, 1));
    assert_eq!(entry.fault.as_deref(), Some("upload_image=lost"));
    assert!(bench.upload(PNG).await.is_err());
}

#[tokio::test]
async fn a_reset_body_is_cut_short_and_does_nothing() {
    let bench = with_faults(&["upload_image=reset-body:1000"]).await;
    let start = format!("{{\"data\":\"{}", "A".repeat(2000));
    assert_eq!(raw(bench.sandbox.addr(), &request("POST", "document_images", 1_000_000, &start)).await, b"");
    let (entry, images) = outcome(&bench);
    assert!((1000..1_000_000).contains(&entry.request_bytes), "{}", entry.request_bytes);
    assert_eq!((entry.committed, entry.status, images), (false, None, 0));
    let large = [PNG, &[7; 3_000_000]].concat();
    assert!(bench.upload(&large).await.is_err());
}

#[tokio::test]
async fn a_cut_answer_ends_in_the_middle_of_its_body() {
    let bench = with_faults(&["upload_image=cut"]).await;
    let answer = String::from_utf8(raw(bench.sandbox.addr(), &upload_bytes()).await).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    assert_eq!(body.len(), length.parse::<usize>().unwrap() / 2);
    let (entry, images) = outcome(&bench);
    assert_eq!((entry.committed, entry.answered, images), (true, false, 1));
    assert!(bench.upload(PNG).await.unwrap().text().await.is_err());
}

#[tokio::test]
async fn garbled_and_html_answers_are_no_json() {
    let bench =
        with_faults(&["upload_image=garbled,nth=1", "upload_image=html200,nth=2", "upload_image=html,nth=3"]).await;
    for (status, images) in [(200, 1), (200, 2), (502, 2)] {
        let response = bench.upload(PNG).await.unwrap();
        assert_eq!(response.status(), status);
        assert!(serde_json::from_str::<Value>(&response.text().await.unwrap()).is_err());
        assert_eq!(bench.sandbox.summary().images, images);
    }
}

#[tokio::test]
async fn errors_in_a_200_do_nothing() {
    let bench = with_faults(&["upload_image=errors200:501"]).await;
    let (status, body) = json_of(bench.upload(PNG).await.unwrap()).await;
    assert_eq!((status, &body["errors"][0]["code"]), (200, &json!(501)));
    assert_eq!(outcome(&bench).1, 0);
}

#[tokio::test]
async fn throttled_calls_say_how_long_to_wait() {
    let bench = with_faults(&["upload_image=throttle:7,nth=1", "upload_image=throttle-retry-after:8,nth=2"]).await;
    let first = bench.upload(PNG).await.unwrap();
    assert_eq!((first.status().as_u16(), &first.headers()["x-ratelimit-retry-secs"]), (429, &"7".parse().unwrap()));
    assert!(!first.headers().contains_key("retry-after"));
    let second = bench.upload(PNG).await.unwrap();
    assert_eq!((second.status().as_u16(), &second.headers()["retry-after"]), (429, &"8".parse().unwrap()));
    assert!(!second.headers().contains_key("x-ratelimit-retry-secs"));
    assert_eq!(outcome(&bench).1, 0);
}

/// Sends an upload and waits for it to be in the ledger, while its answer is held back.
async fn unanswered(kind: &str) -> (Bench, TcpStream) {
    let bench = with_faults(&[&format!("upload_image={kind}")]).await;
    let mut socket = TcpStream::connect(bench.sandbox.addr()).await.unwrap();
    socket.write_all(&upload_bytes()).await.unwrap();
    while bench.sandbox.ledger().is_empty() {
        tokio::task::yield_now().await;
    }
    (bench, socket)
}

#[tokio::test]
async fn hanging_calls_are_never_answered() {
    for (kind, images) in [("hang", 0), ("hang-after", 1)] {
        let (bench, mut socket) = unanswered(kind).await;
        let (entry, held) = outcome(&bench);
        assert_eq!((entry.status, entry.answered, held), (None, false, images), "{kind}");
        assert!(timeout(Duration::from_millis(20), socket.read_u8()).await.is_err(), "{kind} answered");
        // Stopping does not wait for them.
        timeout(Duration::from_secs(4), bench.sandbox.stop()).await.unwrap();
        assert!(socket.read_u8().await.is_err());
    }
}

#[tokio::test]
async fn a_slow_answer_has_taken_effect_before_it_comes() {
    let (bench, mut socket) = unanswered("slow:1h").await;
    assert_eq!(outcome(&bench).1, 1);
    assert!(timeout(Duration::from_millis(20), socket.read_u8()).await.is_err());
    bench.sandbox.set_faults(vec![rule("upload_image=slow:1ms")]);
    assert_eq!(bench.upload(PNG).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_slow_body_is_read_at_its_rate() {
    let bench = with_faults(&["upload_image=slow-body:1000"]).await;
    let body = upload_text();
    let began = Instant::now();
    let mut socket = TcpStream::connect(bench.sandbox.addr()).await.unwrap();
    socket.write_all(&request("POST", "document_images", body.len(), &body)).await.unwrap();
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    let least = Duration::from_millis(body.len() as u64);
    assert!(began.elapsed() >= least, "a body of {} bytes at 1000 a second", body.len());
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_is_in_the_ledger() {
    let bench = bench(Options::default()).await;
    let mut socket = TcpStream::connect(bench.sandbox.addr()).await.unwrap();
    socket.write_all(&request("POST", "document_images", 1000, "{\"data\":\"")).await.unwrap();
    socket.shutdown().await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.ok();
    while bench.sandbox.ledger().is_empty() {
        tokio::task::yield_now().await;
    }
    let (entry, images) = outcome(&bench);
    assert_eq!((entry.status, entry.committed, images), (None, false, 0));
    assert!(entry.note.unwrap().contains("client left"));
}

#[tokio::test]
async fn limits_are_reported_in_headers_and_enforced() {
    let bench = bench(Options { limits: vec![limit("upload_image=2/3600")], ..Options::default() }).await;
    let header =
        |response: &Response, name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    for remaining in ["1", "0"] {
        let response = bench.upload(PNG).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(header(&response, "x-ratelimit-remaining").as_deref(), Some(remaining));
        assert!(header(&response, "x-ratelimit-reset").unwrap().contains(':'));
        assert_eq!(header(&response, "x-ratelimit-retry-secs"), None);
    }
    let refused = bench.upload(PNG).await.unwrap();
    assert_eq!(refused.status(), 429);
    let wait: u64 = header(&refused, "x-ratelimit-retry-secs").unwrap().parse().unwrap();
    assert!((1..=1800).contains(&wait), "{wait}");
    assert_eq!(bench.sandbox.summary().images, 2);
    assert_eq!(header(&bench.get("document_images").send().await.unwrap(), "x-ratelimit-remaining"), None);
    bench.sandbox.set_limits(Vec::new());
    assert_eq!(bench.upload(PNG).await.unwrap().status(), 200);
}
