//! The page over sockets, with a service that has nothing to do.

use std::{
    fs,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    config::{Address, Config, DropConfig, Http},
    health::IncidentKind,
    queue::{Queue, WhenStuck, control::Cause, test_support},
    service::Service,
};

struct Site {
    service: Service,
    serving: Serving,
    address: SocketAddr,
    _folder: TempDir,
}

impl Site {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("key"), "test").unwrap();
        let mut config = Config::defaults();
        // Nobody is there, and nothing is sent.
        config.api.base_url = Address::parse("http://127.0.0.1:9/4.0").unwrap();
        config.api.api_key_file = Some(folder.path().join("key"));
        config.queue.database = folder.path().join("queue.db");
        config.drops = vec![DropConfig::new("partner", folder.path().join("drop"))];
        fs::create_dir(folder.path().join("drop")).unwrap();
        let bound = Bound::bind(&Http { listen: "127.0.0.1:0".parse().unwrap(), token_file: None }).await.unwrap();
        let address = bound.address;
        let queue = Queue::open(&config.queue.database, WhenStuck::Wait).unwrap();
        let mut service =
            Service::start(&config, queue, None, Arc::new(|_| {}), CancellationToken::new()).await.unwrap();
        service.watch(&config).await.unwrap();
        let serving = bound.serve(service.vitals());
        Self { service, serving, address, _folder: folder }
    }

    /// Sends lines and returns the status and everything that comes back.
    async fn ask(&self, lines: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(format!("{lines}\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer)
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let (status, answer) = self.ask(&format!("GET {path} HTTP/1.1\r\nHost: {}", self.address)).await;
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    /// Asks until the answer has this status: what is waited for happens in other tasks and threads.
    async fn until(&self, path: &str, status: u16) -> String {
        let asked = async {
            loop {
                let (got, body) = self.get(path).await;
                if got == status {
                    return body;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), asked).await.unwrap()
    }
}

#[tokio::test]
async fn every_answer_keeps_browsers_from_loading_or_lending_anything() {
    let site = Site::new().await;
    for path in
        ["/", "/page.js", "/page.css", "/status.json", "/jobs.json", "/metrics", "/healthz", "/readyz", "/nothing"]
    {
        let (status, answer) = site.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost")).await;
        assert_eq!(status, if path == "/nothing" { 404 } else { 200 }, "{path}: {answer}");
        let head = answer.split_once("\r\n\r\n").unwrap().0.to_ascii_lowercase();
        for header in ["content-security-policy: default-src 'none';", "x-content-type-options: nosniff", "no-store"] {
            assert!(head.contains(header), "{path} has no {header}:\n{head}");
        }
        assert!(!head.contains("access-control-allow"), "{head}");
    }
}

#[test]
fn the_page_loads_nothing_from_elsewhere_and_makes_no_markup_of_texts() {
    for file in [PAGE, SCRIPT, STYLE] {
        for forbidden in
            ["//cdn", "http:", "https:", "innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval("]
        {
            assert!(!file.contains(forbidden), "{forbidden}");
        }
    }
    // What the policy forbids would not work.
    assert!(!PAGE.contains("<style") && !PAGE.contains("style=") && !PAGE.contains("onload"));
    assert!(SCRIPT.contains("textContent"));
}

/// Bad ground, and files that belong to nothing, were on the terminal alone.
#[test]
fn the_page_shows_whatever_of_the_status_a_person_must_see() {
    for shown in [
        "latest.verdict",
        "status.incidents",
        "one.says",
        "one.commands",
        "one.since",
        "one.until",
        "one.by_itself",
        "status.waiting_manifests",
        "gives_up_at",
        "status.queue.last_error",
        "one.watching",
    ] {
        assert!(SCRIPT.contains(shown), "{shown}");
    }
    // What a phone on a slow line loads.
    assert!(PAGE.len() + SCRIPT.len() + STYLE.len() < 60_000);
}

/// A job, a manifest and a search, by the service's own queue.
#[tokio::test]
async fn one_thing_is_found_and_shown_and_nonsense_is_refused_with_a_reason() {
    let site = Site::new().await;
    for (path, status, says) in [
        ("/jobs.json", 200, "{\"jobs\":[],\"next\":null}"),
        ("/jobs.json?state=failed&drop=partner&limit=3", 200, "\"jobs\":[]"),
        ("/series.json", 200, "\"step_seconds\":60"),
        ("/jobs.json?state=nonsense", 400, "no such state"),
        ("/jobs.json?error=free%20text", 400, "passfort-ingest jobs"),
        ("/job/1", 404, "there is no job 1"),
        ("/job/x", 400, "not a number"),
        ("/manifest/7", 404, "there is no manifest 7"),
        ("/search?q=17%2Ffront.jpg", 200, "\"command\":\"passfort-ingest why 17/front.jpg\""),
        ("/search?q=it%27s", 200, "why 'it'\\\\''s'"),
        ("/search", 400, "/search?q="),
    ] {
        let (got, body) = site.get(path).await;
        assert_eq!(got, status, "{path}: {body}");
        assert!(body.contains(says), "{path}: {body}");
    }
}

#[tokio::test]
async fn only_reading_is_answered_and_only_to_names_of_this_machine() {
    let site = Site::new().await;
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let (status, answer) =
            site.ask(&format!("{method} /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0")).await;
        assert_eq!(status, 405, "{method}");
        assert!(answer.to_ascii_lowercase().contains("allow: get, head"), "{answer}");
    }
    for path in ["/", "/status.json", "/jobs.json", "/search?q=partner", "/metrics", "/healthz"] {
        let (status, answer) = site.ask(&format!("GET {path} HTTP/1.1\r\nHost: evil.example")).await;
        assert_eq!(status, 421, "{answer}");
        assert!(!answer.contains("partner") && !answer.contains("passfort_ingest"), "{answer}");
    }
}

#[tokio::test]
async fn a_service_that_was_asked_to_stop_is_alive_and_not_ready() {
    let site = Site::new().await;
    assert_eq!(site.get("/healthz").await, (200, "well\n".into()));
    assert_eq!(site.get("/readyz").await, (200, "ready\n".into()));
    site.serving.stopping();
    assert_eq!(site.get("/healthz").await, (200, "stopping\n".into()));
    assert_eq!(site.get("/readyz").await, (503, "stopping\n".into()));
}

#[tokio::test]
async fn silent_clients_keep_nobody_from_an_answer() {
    let site = Site::new().await;
    let mut silent = Vec::new();
    for _ in 0..64 {
        let mut client = TcpStream::connect(site.address).await.unwrap();
        client.write_all(b"GET /healthz HTTP/1.1\r\nHost: ").await.unwrap();
        silent.push(client);
    }
    assert_eq!(site.get("/healthz").await, (200, "well\n".into()));
    // Answered in place of the oldest, and not because the time of all was over.
    let kind = silent[63].try_read(&mut [0; 1]).unwrap_err().kind();
    assert_eq!(kind, std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn a_stage_that_ends_by_itself_is_no_health() {
    let site = Site::new().await;
    site.service.stop.cancel();
    let why = site.until("/healthz", 503).await;
    assert!(why.contains("has ended by itself"), "{why}");
    assert_eq!(site.get("/readyz").await.0, 503);
}

#[tokio::test]
async fn a_full_disk_is_no_health_until_there_is_room() {
    let site = Site::new().await;
    let (queue, room) = (site.service.queue.clone(), Arc::new(AtomicBool::new(false)));
    let theirs = Arc::clone(&room);
    let writing =
        tokio::task::spawn_blocking(move || test_support::write_much(&queue, move || theirs.load(Ordering::Relaxed)));
    let why = site.until("/healthz", 503).await;
    assert!(why.contains("the database cannot be written"), "{why}");
    assert_eq!(site.get("/metrics").await.0, 200, "the numbers can still be read");
    room.store(true, Ordering::Relaxed);
    site.until("/healthz", 200).await;

    writing.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_address_that_is_taken_is_reported_with_a_cure() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap();
    let said = Bound::bind(&Http { listen, token_file: None }).await.unwrap_err();
    assert!(said.contains(&listen.to_string()) && said.contains("[http] listen"), "{said}");
}

/// Every reason for which something waits has a series of its own from the start, and its moment once there is one.
#[tokio::test]
async fn what_is_the_matter_is_in_the_numbers_and_in_what_the_page_reads() {
    let site = Site::new().await;
    let (_, numbers) = site.get("/metrics").await;
    for kind in IncidentKind::ALL {
        let series = format!("incidents{{kind=\"{}\",level=\"{}\"}} 0", kind.as_str(), kind.level().as_str());
        assert!(numbers.contains(&series), "no {series} in\n{numbers}");
    }
    assert!(numbers.contains("passfort_ingest_window_open 1"), "{numbers}");
    for cause in Cause::ALL {
        let (queue, now) = (site.service.queue.clone(), Timestamp::now());
        let paused = tokio::task::spawn_blocking(move || queue.pause("", cause, None, now));
        paused.await.unwrap().unwrap();
    }
    let (_, numbers) = site.get("/metrics").await;
    let (_, shown) = site.get("/status.json").await;
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    for kind in ["paused", "key_refused", "quota_spent", "outage"] {
        assert!(numbers.contains(&format!("incidents{{kind=\"{kind}\",")), "{numbers}");
        assert!(numbers.contains(&format!("incident_since_timestamp_seconds{{kind=\"{kind}\"}} 1")), "{numbers}");
        let incidents = shown["incidents"].as_array().unwrap();
        assert!(
            incidents.iter().any(|incident| incident["kind"] == kind && incident["since"].is_string()),
            "{shown:#}"
        );
    }
    assert_eq!(shown["verdict"]["level"], "stopped");
}
