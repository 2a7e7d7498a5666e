//! What receivers of alerts are sent, and what is expected of drops.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    thread,
};

use passfort_ingest::clock::{OFFSET_VARIABLE, Timestamp};
use serde_json::Value;

use crate::support::{Builder, Daemon, Site, metrics, page_in, rename, value};

/// A site whose alerts are appended to a file, one a line, as long as nothing named `broken` is beside it.
fn alerting(more: &str, wishes: &str) -> Site {
    let site = Builder { more: more.to_owned(), ..Builder::default() }.build();
    let (program, broken, got) = (site.at("tell"), site.at("broken"), site.at("alerts"));
    let script =
        format!("#!/bin/sh\n[ -e '{}' ] && exit 7\ncat >>'{}'\necho >>'{1}'\n", broken.display(), got.display());
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let config = fs::read_to_string(site.at("config.toml")).unwrap();
    let alert = format!("{config}\n[[alert]]\ncommand = ['{}', 'x y']\n{wishes}\n", program.display());
    site.write("config.toml", &alert);
    site
}

/// What was sent so far.
fn alerts(site: &Site) -> Vec<Value> {
    let text = fs::read_to_string(site.at("alerts")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn kinds(site: &Site) -> Vec<String> {
    alerts(site)
        .iter()
        .map(|alert| format!("{} {}", alert["kind"].as_str().unwrap(), alert["code"].as_str().unwrap()))
        .collect()
}

#[test]
fn a_condition_is_announced_once_and_when_it_is_over_also_across_a_restart() {
    let site = alerting("", "");
    let mut daemon = site.daemon();
    daemon.wait_until("it is at work", || daemon_is_ready(&site));
    site.run(&["pause", "--drop", "partner"]).expect(0);
    daemon.wait_until("the pause is announced", || kinds(&site) == ["paused operator"]);
    daemon.terminate().expect(0);
    let mut daemon = site.daemon();
    daemon.wait_until("it is at work", || daemon_is_ready(&site));
    site.run(&["resume", "--drop", "partner"]).expect(0);
    daemon.wait_until("its end is announced", || kinds(&site).len() == 2);
    let sent = alerts(&site);
    assert_eq!((&sent[0]["event"], &sent[0]["scope"]), (&"raised".into(), &"partner".into()));
    assert_eq!((&sent[1]["kind"], &sent[1]["recovered"]), (&"recovered".into(), &"paused".into()));
    assert!(sent[0]["cure"].as_str().unwrap().contains("resume"), "{sent:?}");
    daemon.terminate().expect(0);
}

fn daemon_is_ready(site: &Site) -> bool {
    site.run(&["status", "--json"]).expect(0).stdout.contains("\"command\": \"run\"")
}

#[test]
fn a_receiver_that_fails_is_sent_the_alert_again_and_holds_up_nothing() {
    let site = alerting("", "on = ['paused']");
    site.write("broken", "");
    let mut daemon = site.daemon();
    daemon.wait_until("it is at work", || daemon_is_ready(&site));
    site.run(&["pause", "--drop", "partner"]).expect(0);
    daemon.wait_until("status says that no alert arrives", || site.run(&["status"]).stdout.contains("ALERTS: command"));
    site.run(&["status", "--check"]).expect(3);
    site.run(&["resume", "--drop", "partner"]).expect(0);
    site.put_folder("drop", 1);
    daemon.wait_until("the work continues", || site.summary().documents == 1);
    site.run(&["pause"]).expect(0);
    fs::remove_file(site.at("broken")).unwrap();
    daemon.wait_until("the alert arrives", || kinds(&site) == ["paused operator"]);
    daemon.wait_until("status is content", || !site.run(&["status"]).stdout.contains("ALERTS"));
    daemon.terminate().expect(0);
}

#[test]
fn names_and_words_are_sent_only_where_they_are_asked_for() {
    for (wishes, expected) in
        [("on = ['failed', 'ground']", false), ("on = ['failed', 'ground']\ndetails = true", true)]
    {
        let site = alerting("", wishes);
        let mut daemon = site.daemon();
        daemon.wait_until("it is at work", || daemon_is_ready(&site));
        rename(&site.at("drop"), &site.at("away"));
        daemon.wait_until("the folder is missed", || !alerts(&site).is_empty());
        let text = fs::read_to_string(site.at("alerts")).unwrap();
        assert_eq!(text.contains(&site.at("drop").display().to_string()), expected, "{text}");
        daemon.terminate().expect(0);
    }
}

#[test]
fn an_address_is_posted_to_until_it_answers_well() {
    let site = Builder::default().build();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = fs::read_to_string(site.at("config.toml")).unwrap();
    let secret = "secret-path";
    let url = format!("http://{}/{secret}?token=x", server.local_addr().unwrap());
    site.write("config.toml", format!("{config}\n[[alert]]\nurl = '{url}'\n"));
    let shown = site.run(&["config", "show"]).expect(0);
    assert!(!shown.stdout.contains(secret), "{}", shown.stdout);
    let asked = thread::spawn(move || {
        let mut bodies = Vec::new();
        for answer in ["500 Internal Server Error", "200 OK"] {
            let (mut stream, _) = server.accept().unwrap();
            bodies.push(request(&stream));
            write!(stream, "HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
        }
        bodies
    });
    let mut daemon = site.daemon();
    daemon.wait_until("it is at work", || daemon_is_ready(&site));
    site.run(&["pause"]).expect(0);
    daemon.wait_until("it is posted twice", || asked.is_finished());
    let [first, second] = asked.join().unwrap().try_into().unwrap();
    assert!(first.starts_with(&format!("POST /{secret}?token=x ")), "{first}");
    let id = |text: &str| serde_json::from_str::<Value>(text.split("\r\n\r\n").nth(1).unwrap()).unwrap()["id"].clone();
    assert_eq!(id(&first), id(&second), "the same alert again");
    assert!(!daemon.log().contains(secret), "{}", daemon.log());
    daemon.terminate().expect(0);
}

/// Head and body of a request.
fn request(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
    }
    let length = head.to_ascii_lowercase().split("content-length: ").nth(1).unwrap().lines().next().unwrap().parse();
    let mut body = vec![0; length.unwrap()];
    reader.read_exact(&mut body).unwrap();
    head + std::str::from_utf8(&body).unwrap()
}

#[test]
fn run_once_sends_what_is_due_before_it_ends() {
    let site = alerting("", "on = ['failed', 'rejected', 'held']");
    site.faults(&["create_document=status-before:422"]);
    site.put_folder("drop", 1);
    site.run_once().expect(1);
    assert_eq!(kinds(&site), ["failed failed"]);
    site.run_once();
    assert_eq!(kinds(&site).len(), 1, "it is known");
    site.put("wrong.manifest.json", "{ \"version\": 7, \"documents\": [] }");
    site.run_once().expect(1);
    assert_eq!(kinds(&site), ["failed failed", "rejected rejected"]);
}

/// The daemon with its clock at this time of today, in minutes after midnight UTC.
pub(super) fn daemon_at(site: &Site, minute: i64) -> Daemon {
    let now = Timestamp::now().0;
    let day = 24 * 3_600_000;
    site.write("clock", (now.div_euclid(day) * day + minute * 60_000 - now).to_string());
    let mut command = site.command(&["run"]);
    command.env(OFFSET_VARIABLE, site.at("clock"));
    Daemon::start(command, &site.at("log"))
}

#[test]
fn a_restored_database_is_announced_although_nothing_starts() {
    let site = alerting("", "on = ['restored']");
    site.put_folder("drop", 1);
    site.run_once().expect(0);
    let merged = rusqlite::Connection::open(site.at("state/queue.db")).unwrap();
    merged.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(merged);
    fs::copy(site.at("state/queue.db"), site.at("earlier.db")).unwrap();
    site.put_folder("drop", 2);
    site.run_once().expect(0);
    for end in ["-wal", "-shm"] {
        fs::remove_file(site.at(&format!("state/queue.db{end}"))).ok();
    }
    fs::copy(site.at("earlier.db"), site.at("state/queue.db")).unwrap();
    for _ in 0..2 {
        site.run(&["run"]).expect(2);
        assert_eq!(kinds(&site), ["restored database-restored"], "once, however often it is started");
    }
}

#[test]
fn what_is_expected_and_does_not_come_is_late_in_status_metrics_and_alerts() {
    let site = alerting("[http]\nlisten = '127.0.0.1:0'", "on = ['late', 'recovered']");
    site.configure_drop("expect = ['06:00 UTC']\ndelivered_by = ['08:00 UTC']");
    let says = |text: &str| site.run(&["status"]).stdout.contains(text);
    let mut daemon = daemon_at(&site, 5 * 60);
    daemon.wait_until("it is coming", || says("drop partner is coming"));
    daemon.terminate().expect(0);
    let mut daemon = daemon_at(&site, 7 * 60);
    daemon.wait_until("it is late", || kinds(&site) == ["late late"] && says("drop partner is late"));
    let page = page_in(&daemon.log()).unwrap();
    assert_eq!(value(&metrics(page), "expected_late{drop=\"partner\"}"), 1.0);
    site.run(&["status", "--check"]).expect(1);
    site.put_folder("drop", 1);
    daemon.wait_until("it is over", || kinds(&site) == ["late late", "recovered late"]);
    daemon.wait_until("it is delivered", || says("drop partner is delivered"));
    assert_eq!(value(&metrics(page), "expected_late{drop=\"partner\"}"), 0.0);
    daemon.terminate().expect(0);
}

#[test]
fn unusable_receivers_and_schedules_are_refused_with_a_cure() {
    let site = Site::new();
    let good = fs::read_to_string(site.at("config.toml")).unwrap();
    let holidays = site.at("holidays");
    fs::write(&holidays, "25.12.2026\n").unwrap();
    for (more, reason) in [
        ("[[alert]]".to_owned(), "name either command or url"),
        ("[[alert]]\ncommand = ['tell-us']".to_owned(), "from /"),
        (format!("[[alert]]\ncommand = ['{}']", site.in_drop("x").display()), "inside the drop"),
        ("[[alert]]\nurl = 'http://example.com/x'".to_owned(), "https://"),
        ("[[alert]]\nurl = 'https://example.com'\non = ['stuck']".to_owned(), "there is no alert"),
        ("[[alert]]\nurl = 'https://example.com'\ncommand = ['/bin/true']".to_owned(), "command as well"),
    ] {
        site.write("config.toml", format!("{good}\n{more}\n"));
        let refused = site.run(&["config", "show"]).expect(2);
        assert!(refused.stderr.contains(reason), "{more}: {}", refused.stderr);
    }
    site.write("config.toml", &good);
    site.configure_drop(&format!("expect = ['Mon-Fri 06:00 Europe/London']\nholidays = '{}'", holidays.display()));
    let refused = site.run_once().expect(2);
    assert!(refused.stderr.contains("line 1 is no date"), "{}", refused.stderr);
}
