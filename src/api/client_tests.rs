//! Tests of the client against a server that is a few lines of canned answers on loopback.

use std::{io::Write, time::Instant};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use xxhash_rust::xxh3::Xxh3;

use super::*;
use crate::exchange::{Answer, Ending, Fault};

const PROFILE: &str = "a2c4393a-e219-67a4-5ab4-2186952e9038";

/// Long enough that no test waits for it, unless it means to.
const LONG: Duration = Duration::from_secs(60);

fn settings(base_url: &str) -> ClientSettings {
    ClientSettings {
        base_url: base_url.to_owned(),
        key: SecretString::from("the-key".to_owned()),
        connect_timeout: LONG,
        stall_timeout: LONG,
        response_timeout: LONG,
        ca_file: None,
        proxy: None,
        data_uri: false,
        max_connections_hint: 4,
    }
}

fn profile() -> ProfileId {
    ProfileId::parse(PROFILE).unwrap()
}

fn upload_of(content: &[u8]) -> UploadSource {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    let mut hash = Xxh3::with_seed(3);
    hash.update(content);
    UploadSource {
        file,
        bytes: content.len() as u64,
        checksum: hash.digest(),
        seed: 3,
        media_type: "image/png",
        before_last: None,
    }
}

/// A connection to the server, with what it has read of the request.
struct Peer {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Peer {
    /// The request's head, in lower case.
    async fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                let rest = self.read.split_off(end + 4);
                let head = String::from_utf8(std::mem::replace(&mut self.read, rest)).unwrap();
                return head.to_lowercase();
            }
            assert!(self.more().await > 0, "the request ended within its head");
        }
    }

    async fn more(&mut self) -> usize {
        self.stream.read_buf(&mut self.read).await.unwrap_or(0)
    }

    /// The request's body, by its length.
    async fn body(&mut self, head: &str) -> Vec<u8> {
        let length = content_length(head);
        while self.read.len() < length {
            assert!(self.more().await > 0, "the request ended within its body");
        }
        std::mem::take(&mut self.read)
    }

    async fn answer(&mut self, status: u16, body: &str) {
        let length = body.len();
        self.write(&format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{body}")).await;
    }

    async fn write(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }
}

fn content_length(head: &str) -> usize {
    let line = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("no content-length");
    assert!(!head.contains("transfer-encoding"));
    line.parse().unwrap()
}

/// A server for one connection; returns its address and what `serve` gives.
async fn server<T, S>(serve: impl FnOnce(Peer) -> S + Send + 'static) -> (String, JoinHandle<T>)
where
    T: Send + 'static,
    S: Future<Output = T> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/4.0", listener.local_addr().unwrap());
    let served = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        serve(Peer { stream, read: Vec::new() }).await
    });
    (address, served)
}

fn answer_of(exchange: &Exchange) -> &Answer {
    exchange.result.as_ref().unwrap()
}

#[tokio::test]
async fn an_image_is_uploaded_with_its_exact_length_and_headers() {
    let (address, served) = server(|mut peer| async move {
        let head = peer.head().await;
        let body = peer.body(&head).await;
        peer.answer(200, r#"{"id":"x"}"#).await;
        (head, body)
    })
    .await;
    let client = Client::new(&settings(&address)).unwrap();
    let content = vec![7; 200_000];
    let exchange = client.upload_image(&profile(), Some(ImageType::Back), upload_of(&content)).await;
    let (head, body) = served.await.unwrap();

    assert!(head.starts_with(&format!("post /4.0/profiles/{PROFILE}/document_images http/1.1\r\n")), "{head}");
    for line in ["apikey: the-key", "accept: application/json", "content-type: application/json"] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{line}: {head}");
    }
    assert!(head.contains(&format!("user-agent: passfort-ingest/{}", env!("CARGO_PKG_VERSION"))));
    let sent: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(sent["image_type"], "BACK");
    assert_eq!(sent["data"].as_str().unwrap().len(), 200_000_usize.div_ceil(3) * 4);

    let answer = answer_of(&exchange);
    assert_eq!((answer.status, answer.body.as_slice(), answer.ending), (200, &br#"{"id":"x"}"#[..], Ending::Whole));
    assert!(exchange.handed_over);
    assert_eq!(exchange.sent_bytes, body.len() as u64);
    assert_eq!(exchange.operation, Operation::UploadImage);
    assert!(exchange.answered_after.is_some_and(|after| after <= exchange.took));
}

#[tokio::test]
async fn every_other_call_is_what_the_guide_says() {
    let client_for = async || {
        let (address, served) = server(|mut peer| async move {
            let head = peer.head().await;
            let body = if head.starts_with("post") { peer.body(&head).await } else { Vec::new() };
            peer.answer(200, "{}").await;
            (head.lines().next().unwrap().to_owned(), serde_json::from_slice(&body).unwrap_or_default())
        })
        .await;
        (Client::new(&ClientSettings { data_uri: true, ..settings(&address) }).unwrap(), served)
    };
    let profiles = format!("/4.0/profiles/{PROFILE}");

    let (client, served) = client_for().await;
    client.upload_file(&profile(), Some("PEP.pdf"), upload_of(b"abc")).await;
    let expected = json!({"name": "PEP.pdf", "data": "data:image/png;base64,YWJj"});
    assert_eq!(served.await.unwrap(), (format!("post {profiles}/files http/1.1"), expected));

    let (client, served) = client_for().await;
    let mut document = DocumentRequest {
        category: "C".to_owned(),
        document_type: "T".to_owned(),
        image_ids: vec!["i1".to_owned(), "I2".to_owned()],
        extracted_data: None,
    };
    let exchange = client.create_document(&profile(), &document).await;
    assert!(exchange.handed_over);
    let expected = json!({"category": "C", "document_type": "T", "images": [{"id": "i1"}, {"id": "I2"}]});
    let line = format!("post {profiles}/collected_data/documents http/1.1");
    assert_eq!(served.await.unwrap(), (line, expected));

    let (client, served) = client_for().await;
    document.extracted_data = ExtractedData::parse(r#"{"number": "1"}"#);
    client.create_document(&profile(), &document).await;
    assert_eq!(served.await.unwrap().1["extracted_data"], json!({"number": "1"}));

    let (client, served) = client_for().await;
    client.read_documents(&profile(), None).await;
    assert_eq!(served.await.unwrap().0, format!("get {profiles}/collected_data http/1.1"));

    let (client, served) = client_for().await;
    client.list_images(&profile(), None).await;
    assert_eq!(served.await.unwrap().0, format!("get {profiles}/document_images http/1.1"));

    let (client, served) = client_for().await;
    client.whoami().await;
    assert_eq!(served.await.unwrap().0, "get /4.0/whoami http/1.1");
}

#[tokio::test]
async fn an_early_answer_is_read_and_the_body_stops() {
    let (address, served) = server(|mut peer| async move {
        peer.head().await;
        peer.answer(413, r#"{"errors":[{"code":201,"message":"too large"}]}"#).await;
        // It keeps reading, as some servers do, until the client closes.
        let mut taken = 0;
        while peer.more().await > 0 {
            taken += peer.read.len();
            peer.read.clear();
        }
        taken
    })
    .await;
    let client = Client::new(&settings(&address)).unwrap();
    let upload = upload_of(&vec![7; 50_000_000]);
    let exchange = client.upload_image(&profile(), None, upload).await;
    assert_eq!(answer_of(&exchange).status, 413);
    assert_eq!(answer_of(&exchange).ending, Ending::Whole);
    assert!(!exchange.handed_over);
    let taken = served.await.unwrap();
    assert!(taken < 40_000_000, "the body went on for {taken} bytes");
}

#[tokio::test]
async fn an_early_answer_that_comes_in_parts_is_read_to_its_end() {
    let (address, served) = server(|mut peer| async move {
        peer.head().await;
        peer.write("HTTP/1.1 413 X\r\nContent-Length: 6\r\n\r\nabc").await;
        // What was under way is read, so that the client could send more, or find its body ended by an error.
        let drained = async {
            while peer.more().await > 0 {
                peer.read.clear();
            }
        };
        let ended = tokio::time::timeout(Duration::from_millis(300), drained).await;
        assert!(ended.is_err(), "the client closed before it had the answer");
        peer.write("def").await;
        while peer.more().await > 0 {
            peer.read.clear();
        }
    })
    .await;
    let client = Client::new(&settings(&address)).unwrap();
    let exchange = client.upload_image(&profile(), None, upload_of(&vec![7; 50_000_000])).await;
    assert_eq!((answer_of(&exchange).body.as_slice(), answer_of(&exchange).ending), (&b"abcdef"[..], Ending::Whole));
    served.await.unwrap();
}

#[tokio::test]
async fn a_reset_within_the_body_is_not_handed_over_and_one_after_it_is() {
    for (whole, length) in [(false, 20_000_000), (true, 1000)] {
        let (address, served) = server(move |mut peer| async move {
            let head = peer.head().await;
            if whole {
                peer.body(&head).await;
            }
        })
        .await;
        let client = Client::new(&settings(&address)).unwrap();
        let exchange = client.upload_image(&profile(), None, upload_of(&vec![7; length])).await;
        served.await.unwrap();
        assert!(matches!(exchange.result, Err(Fault::Reset(_))), "{exchange:?}");
        assert_eq!(exchange.handed_over, whole);
    }
}

#[tokio::test]
async fn silence_after_the_body_is_no_answer() {
    let (address, _served) = server(|mut peer| async move {
        let head = peer.head().await;
        if head.starts_with("post") {
            peer.body(&head).await;
        }
        peer.more().await
    })
    .await;
    let response_timeout = Duration::from_millis(100);
    let client = Client::new(&ClientSettings { response_timeout, ..settings(&address) }).unwrap();
    let exchange = client.upload_image(&profile(), None, upload_of(b"abc")).await;
    assert_eq!(exchange.result, Err(Fault::NoAnswer(response_timeout)));
    assert!(exchange.handed_over);
}

#[tokio::test]
async fn a_server_that_takes_nothing_is_stalled() {
    let (address, _served) = server(|mut peer| async move {
        peer.head().await;
        std::future::pending::<()>().await;
        drop(peer);
    })
    .await;
    let stall_timeout = Duration::from_millis(300);
    let client = Client::new(&ClientSettings { stall_timeout, ..settings(&address) }).unwrap();
    let exchange = client.upload_image(&profile(), None, upload_of(&vec![7; 30_000_000])).await;
    assert_eq!(exchange.result, Err(Fault::Stalled(stall_timeout)));
    assert!(!exchange.handed_over);
}

#[tokio::test]
async fn a_slow_upload_that_moves_is_not_stalled() {
    // Many times as long as the server's pauses, also on a machine that is busy with other tests.
    let stall_timeout = Duration::from_secs(3);
    let (address, served) = server(move |mut peer| async move {
        let begun = Instant::now();
        let head = peer.head().await;
        let length = content_length(&head);
        let mut taken = peer.read.len();
        while taken < length {
            peer.read.clear();
            // A server that is slow on purpose: 10 MB/s at most.
            let until = (taken + 1_000_000).min(length);
            while taken < until {
                peer.read.clear();
                taken += peer.more().await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        peer.answer(200, "{}").await;
        begun.elapsed()
    })
    .await;
    let client = Client::new(&ClientSettings { stall_timeout, ..settings(&address) }).unwrap();
    let exchange = client.upload_image(&profile(), None, upload_of(&vec![7; 40_000_000])).await;
    assert_eq!(answer_of(&exchange).status, 200);
    assert!(served.await.unwrap() > stall_timeout, "the server was not slow, so this shows nothing");
}

#[tokio::test]
async fn a_changed_file_is_reported_as_changed() {
    let (address, _served) = server(|mut peer| async move {
        while peer.more().await > 0 {
            assert!(!peer.read.ends_with(b"\"}"));
        }
    })
    .await;
    let client = Client::new(&settings(&address)).unwrap();
    let upload = UploadSource { checksum: 1, ..upload_of(&[7; 1000]) };
    let exchange = client.upload_image(&profile(), None, upload).await;
    assert_eq!(exchange.result, Err(Fault::SourceChanged));
    assert!(!exchange.handed_over);
}

#[tokio::test]
async fn an_answer_is_read_up_to_a_bound_and_its_status_is_kept() {
    let canned: [(&str, Ending); 3] = [
        ("HTTP/1.1 503 X\r\nContent-Length: 9\r\n\r\nabc", Ending::Cut),
        ("HTTP/1.1 503 X\r\nContent-Length: 3\r\n\r\nabc", Ending::Whole),
        ("HTTP/1.1 503 X\r\n\r\n", Ending::TooLarge),
    ];
    for (canned, ending) in canned {
        let (address, _served) = server(move |mut peer| async move {
            peer.head().await;
            peer.write(canned).await;
            if ending == Ending::TooLarge {
                while peer.stream.write_all(&[b'x'; 65536]).await.is_ok() {}
            }
        })
        .await;
        let exchange = Client::new(&settings(&address)).unwrap().list_images(&profile(), None).await.exchange;
        let answer = answer_of(&exchange);
        assert_eq!((answer.status, answer.ending), (503, ending));
        assert!(answer.body.len() <= 1024 * 1024);
    }
}

#[tokio::test]
async fn an_answer_that_does_not_end_is_left() {
    let (address, _served) = server(|mut peer| async move {
        peer.head().await;
        peer.write("HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\nabc").await;
        peer.more().await
    })
    .await;
    let client =
        Client::new(&ClientSettings { response_timeout: Duration::from_millis(100), ..settings(&address) }).unwrap();
    let exchange = client.whoami().await;
    assert_eq!(answer_of(&exchange).ending, Ending::Silent);
}

#[tokio::test]
async fn interim_answers_without_end_are_no_answer() {
    let (address, served) = server(|mut peer| async move {
        let head = peer.head().await;
        peer.body(&head).await;
        let flood = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".repeat(1000);
        while peer.stream.write_all(flood.as_bytes()).await.is_ok() {}
    })
    .await;
    let response_timeout = Duration::from_millis(200);
    let client = Client::new(&ClientSettings { response_timeout, ..settings(&address) }).unwrap();
    let exchange = client.upload_image(&profile(), None, upload_of(b"abc")).await;
    assert_eq!(exchange.result, Err(Fault::NoAnswer(response_timeout)));
    assert!(exchange.handed_over);
    // The connection is closed, so the server cannot write any more.
    served.await.unwrap();
}

#[tokio::test]
async fn a_list_that_comes_byte_by_byte_is_left_as_early_as_one_that_does_not_come() {
    let (address, served) = server(|mut peer| async move {
        peer.head().await;
        peer.write("HTTP/1.1 200 X\r\nContent-Length: 25\r\n\r\n").await;
        // A server that is slow on purpose: the list is complete after five times as long as is waited.
        for byte in r#"{"documents":           []"#.as_bytes().chunks(1).take(25) {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if peer.stream.write_all(byte).await.is_err() {
                return true;
            }
        }
        peer.more().await == 0
    })
    .await;
    let response_timeout = Duration::from_millis(100);
    let client = Client::new(&ClientSettings { response_timeout, ..settings(&address) }).unwrap();
    let exchange = client.read_documents(&profile(), None).await.exchange;
    assert_eq!(answer_of(&exchange).ending, Ending::Silent);
    drop(client);
    assert!(served.await.unwrap(), "the connection is closed");
}

#[tokio::test]
async fn of_a_long_list_only_what_is_asked_for_is_kept() {
    let id = |number: u64| format!("a2c4393a-e219-67a4-5ab4-{number:012x}");
    let ours = id(999_999);
    let (wanted, image) = (ours.clone(), ours.clone());
    let (address, _served) = server(move |mut peer| async move {
        peer.head().await;
        let document = |image: &str| format!(r#"{{"id":"{}","images":[{{"id":"{image}"}}]}}"#, id(1));
        let list: Vec<String> = (0..50_000).map(|number| document(&id(number))).chain([document(&image)]).collect();
        peer.answer(200, &format!(r#"{{"documents":[{}]}}"#, list.join(","))).await;
    })
    .await;
    let client = Client::new(&settings(&address)).unwrap();
    let exchange = client.read_documents_about(&profile(), &[ours]).await.exchange;
    let answer = answer_of(&exchange);
    assert_eq!((answer.ending, answer.omitted.len()), (Ending::Whole, 50_000));
    let kept: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(kept["documents"].as_array().unwrap().len(), 1);
    assert_eq!(kept["documents"][0]["images"][0]["id"], json!(wanted));
}

/// A server that answers each request with a list that has so many documents, of about 250 bytes, and our own in the middle.
async fn serve_lists(documents: u64, ours: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/4.0", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let stream = listener.accept().await.unwrap().0;
            let ours = ours.clone();
            tokio::spawn(async move {
                let mut peer = Peer { stream, read: Vec::new() };
                peer.head().await;
                peer.write("HTTP/1.1 200 X\r\nConnection: close\r\n\r\n{\"documents\":[").await;
                for number in 0..documents {
                    let image = if number == documents / 2 { ours.clone() } else { listed_id(number) };
                    let document = format!(
                        r#"{{"id":"{}","category":"{:C<100}","images":[{{"id":"{image}"}}]}}"#,
                        listed_id(documents + number),
                        ""
                    );
                    let comma = if number == 0 { "" } else { "," };
                    if peer.stream.write_all(format!("{comma}{document}").as_bytes()).await.is_err() {
                        return;
                    }
                }
                // The client may have enough.
                peer.stream.write_all(b"]}").await.ok();
            });
        }
    });
    address
}

fn listed_id(number: u64) -> String {
    format!("a2c4393a-e219-67a4-5ab4-{number:012x}")
}

/// The bytes that sixteen readings of long lists keep at the same time.
async fn kept_of_sixteen(documents: u64) -> usize {
    let ours = "b2c4393a-e219-67a4-5ab4-000000000007".to_owned();
    let client = Client::new(&settings(&serve_lists(documents, ours.clone()).await)).unwrap();
    let read = |client: Client, ours: String| async move { client.read_documents_about(&profile(), &[ours]).await };
    let reading: Vec<_> = (0..16).map(|_| tokio::spawn(read(client.clone(), ours.clone()))).collect();
    let mut kept = 0;
    for reading in reading {
        let ListExchange { exchange, large } = reading.await.unwrap();
        let answer = answer_of(&exchange);
        assert_eq!(
            (answer.ending, answer.omitted.len() as u64, large.is_some()),
            (Ending::Whole, documents - 1, false)
        );
        assert!(String::from_utf8_lossy(&answer.body).contains(&ours));
        kept += answer.body.capacity() + answer.omitted.capacity() * size_of::<u64>();
    }
    kept
}

/// Sixteen lists of 49 MB at once took 519 MB.
#[tokio::test]
async fn of_sixteen_long_lists_at_once_a_tenth_is_kept_at_most() {
    let documents = 8000;
    let kept = kept_of_sixteen(documents).await;
    assert!(kept < 16 * 250 * 8000 / 10, "{kept}");
}

#[tokio::test]
#[ignore = "takes minutes: sixteen lists of 49 MB"]
async fn sixteen_lists_of_49_mb_at_once_fit_into_64_mib() {
    kept_of_sixteen(200_000).await;
    // The pages of the binary itself: the tests' has 28 MB, unoptimised, and the worker's is not larger than 18 MiB.
    let peak = of_status("VmHWM:") - of_status("RssFile:") + 18 * 1024;
    assert!(peak < 64 * 1024, "{peak} kB");
}

/// A figure of this process, in kB (proc(5)).
fn of_status(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let value = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    value.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test]
async fn lists_that_must_be_kept_are_held_one_at_a_time_where_they_are_long() {
    let client = Client::new(&settings(&serve_lists(6000, String::new()).await)).unwrap();
    let held = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let read = |client: Client, held: Arc<std::sync::atomic::AtomicUsize>| async move {
        let ListExchange { exchange, large } = client.read_documents(&profile(), None).await;
        assert!(answer_of(&exchange).body.len() > ORDINARY_LIST_BYTES && large.is_some());
        assert_eq!(held.fetch_add(1, std::sync::atomic::Ordering::Relaxed), 0);
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        held.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        // Who has the right already reads on with it.
        let again = client.read_documents(&profile(), large).await;
        assert!(answer_of(&again.exchange).ending == Ending::Whole && again.large.is_some());
    };
    let reading: Vec<_> = (0..3).map(|_| tokio::spawn(read(client.clone(), Arc::clone(&held)))).collect();
    for reading in reading {
        reading.await.unwrap();
    }
}

#[tokio::test]
async fn headers_about_limits_are_kept_and_redirects_are_not_followed() {
    let (address, _served) = server(|mut peer| async move {
        peer.head().await;
        peer.write(
            "HTTP/1.1 302 X\r\nLocation: /elsewhere\r\nX-RateLimit-Retry-Secs: 2.5\r\nContent-Length: 0\r\n\r\n",
        )
        .await;
    })
    .await;
    let exchange = Client::new(&settings(&address)).unwrap().whoami().await;
    assert_eq!(exchange.status(), Some(302));
    assert_eq!(exchange.limits().unwrap().retry_secs, Some(2.5));
}

#[tokio::test]
async fn what_was_certainly_not_sent_is_distinguished() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = Client::new(&settings(&closed)).unwrap();
    let exchange = client.upload_image(&profile(), None, upload_of(b"abc")).await;
    assert!(matches!(exchange.result, Err(Fault::Connect(_))), "{exchange:?}");
    assert!(!exchange.handed_over);
    let exchange = client.whoami().await;
    assert!(exchange.result.unwrap_err().certainly_not_sent());
    assert!(!exchange.handed_over);
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_a_tls_fault_and_one_that_is_silent_a_connect_fault() {
    let authority = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let mut ca_file = tempfile::NamedTempFile::new().unwrap();
    ca_file.write_all(authority.cert.pem().as_bytes()).unwrap();
    for silent in [false, true] {
        let (address, _served) = server(move |mut peer| async move {
            peer.more().await;
            if !silent {
                peer.write("HTTP/1.1 400 Bad Request\r\n\r\n").await;
            }
            while peer.more().await > 0 {}
        })
        .await;
        let client = Client::new(&ClientSettings {
            connect_timeout: Duration::from_millis(if silent { 200 } else { 60_000 }),
            ca_file: Some(ca_file.path().to_owned()),
            ..settings(&address.replace("http:", "https:"))
        })
        .unwrap();
        let exchange = client.upload_image(&profile(), None, upload_of(b"abc")).await;
        let fault = exchange.result.unwrap_err();
        match silent {
            false => assert!(matches!(fault, Fault::Tls(_)), "{fault:?}"),
            true => assert!(matches!(fault, Fault::Connect(_)), "{fault:?}"),
        }
    }
}

#[tokio::test]
async fn a_certificate_is_trusted_through_ca_file_alone() {
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    for (trusted, pem) in [(true, signed.cert.pem()), (false, other.cert.pem())] {
        let acceptor = acceptor.clone();
        let (address, _served) = server(move |peer| async move {
            if let Ok(mut stream) = acceptor.accept(peer.stream).await {
                let mut request = [0; 4096];
                let _head = stream.read(&mut request).await;
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await.unwrap();
                stream.flush().await.unwrap();
            }
        })
        .await;
        let mut ca_file = tempfile::NamedTempFile::new().unwrap();
        ca_file.write_all(pem.as_bytes()).unwrap();
        let ca_file = Some(ca_file.path().to_owned());
        let client = Client::new(&ClientSettings { ca_file, ..settings(&address.replace("http:", "https:")) }).unwrap();
        let exchange = client.whoami().await;
        match trusted {
            true => assert_eq!(exchange.status(), Some(200), "{exchange:?}"),
            false => assert!(matches!(exchange.result, Err(Fault::Tls(_))), "{exchange:?}"),
        }
    }
}

#[test]
fn unusable_settings_are_named_and_the_key_is_never_shown() {
    let good = settings("http://127.0.0.1:1");
    for base_url in ["", "api.passfort.com", "ftp://x", "https://u:p@x", "https://x?apikey=1", "https://x#y"] {
        let error = Client::new(&ClientSettings { base_url: base_url.to_owned(), ..good.clone() }).unwrap_err();
        assert!(matches!(error, ClientError::BaseUrl(_)), "{base_url}: {error}");
    }
    for key in ["", "secret\nkey", "secret\u{0}"] {
        let error =
            Client::new(&ClientSettings { key: SecretString::from(key.to_owned()), ..good.clone() }).unwrap_err();
        assert!(matches!(error, ClientError::Key));
        assert!(!format!("{error} {error:?}").contains("secret"));
    }
    let mut empty = tempfile::NamedTempFile::new().unwrap();
    for _ in 0..2 {
        let ca_file = Some(empty.path().to_owned());
        assert!(matches!(Client::new(&ClientSettings { ca_file, ..good.clone() }), Err(ClientError::CaFile { .. })));
        empty.write_all(b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n").unwrap();
    }
    let ca_file = Some(PathBuf::from("/nowhere/ca.pem"));
    assert!(matches!(Client::new(&ClientSettings { ca_file, ..good.clone() }), Err(ClientError::CaFile { .. })));
    let error =
        Client::new(&ClientSettings { proxy: Some("http://u:secret@:x".to_owned()), ..good.clone() }).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("secret"));
    assert!(!format!("{:?}", Client::new(&good).unwrap()).contains("the-key"));
}

#[tokio::test]
async fn endless_timeouts_are_bounded_and_do_not_overflow() {
    let (address, _served) = server(|mut peer| async move {
        peer.head().await;
        peer.answer(200, "{}").await;
    })
    .await;
    let endless = ClientSettings {
        connect_timeout: Duration::MAX,
        stall_timeout: Duration::MAX,
        response_timeout: Duration::MAX,
        ..settings(&address)
    };
    assert_eq!(Client::new(&endless).unwrap().list_images(&profile(), None).await.exchange.status(), Some(200));
}

#[test]
fn loopback_is_known_in_every_form() {
    for (url, expected) in [
        ("http://localhost:1/4.0", true),
        ("http://127.0.0.1", true),
        ("http://127.9.9.9", true),
        ("http://[::1]:8080", true),
        ("http://localhost.example.com", false),
        ("http://10.0.0.1", false),
        ("https://api.passfort.com/4.0", false),
    ] {
        assert_eq!(is_loopback(&read_base_url(url).unwrap()), expected, "{url}");
    }
}
