//! SIGHUP to the daemon, a second signal, and what systemd is sent.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    time::Duration,
};

use passfort_ingest::sandbox::Options;

use crate::support::{Builder, Daemon, Site, metrics, value};

/// How often a daemon of this site has logged this.
fn logged(site: &Site, text: &str) -> usize {
    let logs = fs::read_dir(site.at("log")).unwrap();
    logs.map(|file| fs::read_to_string(file.unwrap().path()).unwrap().matches(text).count()).sum()
}

#[test]
fn a_good_configuration_is_taken_without_a_restart() {
    let site = Builder { more: "[http]\nlisten = '127.0.0.1:0'".to_owned(), ..Builder::default() }.build();
    site.another_drop("former", "");
    let (mut daemon, page) = site.daemon_with_page();
    site.put_folder("former", 1);
    daemon.wait_until("the first drop works", || site.summary().documents == 1);
    let id = daemon.id();

    // One drop goes, one comes, one is changed.
    site.edit_config(&format!("'{}'", site.at("former").display()), &format!("'{}'", site.at("added").display()));
    site.edit_config("name = 'former'", "name = 'added'");
    fs::create_dir(site.at("added")).unwrap();
    site.configure_drop("receipts_dir = 'answers'");
    daemon.hang_up();
    for (folder, number) in [("added", 2), ("drop", 3), ("former", 4)] {
        site.put_folder(folder, number);
    }
    daemon.wait_until("both drops work", || site.summary().documents == 3);
    daemon.wait_until("the changed drop answers", || site.in_drop("answers/3.manifest.json.receipt.json").exists());
    assert!(site.at("former/4.manifest.json").exists(), "nobody watches it any more");
    let numbers = metrics(page);
    assert_eq!(value(&numbers, "drop_ready{drop=\"added\"}"), 1.0, "{numbers}");
    assert_eq!(daemon.id(), id);
    daemon.terminate().expect(0);
    assert_eq!(site.summary().doubled, 0);
}

#[test]
fn a_bad_configuration_is_refused_with_its_reasons_and_the_old_one_stays() {
    let site = Site::new();
    let mut daemon = site.daemon();
    daemon.wait_until("it is at work", || logged(&site, "at work") == 1);
    let good = fs::read_to_string(site.at("config.toml")).unwrap();
    for (number, (from, to, reason)) in [
        ("settle = '50ms'", "setle = '50ms'", "setle"),
        ("state/queue.db", "state/other.db", "[queue] database"),
        ("name = 'partner'", "name = 'partner'\nreceipt_group = 'no-such-group'", "no-such-group"),
        ("[[drop]]", "[http]\nlisten = '192.0.2.1:80'\n[[drop]]", "192.0.2.1"),
    ]
    .into_iter()
    .enumerate()
    {
        site.edit_config(from, to);
        daemon.hang_up();
        daemon.wait_until(reason, || logged(&site, "the old one stays") == number + 1);
        assert!(daemon.log().contains(reason), "{}", daemon.log());
        site.write("config.toml", &good);
        site.put_folder("drop", u32::try_from(number).unwrap());
        daemon.wait_until("the drop works as before", || site.summary().documents == number as u64 + 1);
    }
    assert_eq!(logged(&site, "at work"), 1);
    daemon.terminate().expect(0);
}

#[test]
fn a_key_that_is_replaced_after_it_was_refused_is_used_without_a_restart() {
    let site = Site::new();
    let key = site.at("key");
    fs::write(&key, "test").unwrap();
    fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    site.edit_config("[api]\n", &format!("[api]\napi_key_file = '{}'\n", key.display()));
    let mut daemon = site.daemon();
    site.put_folder("drop", 1);
    daemon.wait_until("it works", || site.summary().documents == 1);
    site.sandbox().set_keys(vec!["new".to_owned()]);
    site.put_folder("drop", 2);
    daemon.wait_until("the key is refused", || site.ledger().iter().any(|call| !call.key_ok));
    fs::write(&key, "new").unwrap();
    daemon.wait_until("the new key is used", || site.summary().documents == 2);
    daemon.terminate().expect(0);
    assert_eq!(site.summary().doubled, 0);
}

#[test]
fn a_second_signal_ends_it_without_waiting_for_calls_and_doubles_nothing() {
    let sandbox = Options { latency: Duration::from_secs(10), ..Options::default() };
    let site = Builder { sandbox, ..Builder::default() }.build();
    site.run_once().expect(0);
    for (number, (arguments, code)) in
        [(&["run"][..], 0), (&["run", "--once"], 3), (&["import", "in"], 3)].into_iter().enumerate()
    {
        site.put_folder(if arguments[0] == "import" { "in" } else { "drop" }, u32::try_from(number).unwrap());
        let mut worker = site.start(arguments);
        worker.wait_until("a job is worked on", || !site.jobs("running").is_empty());
        worker.ask_to_stop();
        worker.wait_until("it stops", || logged(&site, "stopping: calls") == number + 1);
        let ended = worker.terminate().expect(code);
        assert!(ended.stderr.contains("a second signal"), "{}", ended.stderr);
    }
}

#[test]
fn a_one_shot_command_stops_in_order_on_sighup() {
    let sandbox = Options { latency: Duration::from_millis(300), ..Options::default() };
    let site = Builder { sandbox, ..Builder::default() }.build();
    site.put_batch("batch.manifest.json", 50);
    let mut worker = site.start(&["run", "--once"]);
    worker.wait_until("a call is answered", || !site.ledger().is_empty());
    worker.hang_up();
    worker.finish().expect(3);
    assert!(site.ledger().iter().all(|call| call.answered));
}

#[test]
fn systemd_is_sent_the_state_of_the_work() {
    let site = Site::new();
    let socket = UnixDatagram::bind(site.at("notify")).unwrap();
    let mut command = site.command(&["run"]);
    command.env("NOTIFY_SOCKET", site.at("notify")).env("WATCHDOG_USEC", "12000000");
    let daemon = Daemon::start(command, &site.at("log"));
    let mut reported = String::new();
    let mut until = |text: &str| {
        let mut message = [0; 4096];
        while !reported.contains(text) {
            let length = socket.recv(&mut message).unwrap();
            reported += &String::from_utf8_lossy(&message[..length]);
            reported.push('\n');
        }
        std::mem::take(&mut reported)
    };
    until("READY=1");
    let reported = until("WATCHDOG=1");
    daemon.hang_up();
    let reported = reported + &until("RELOADING=1");
    assert!(until("READY=1").len() < 1000);
    let status = until("STATUS=");
    assert!(status.contains("0 to do, 0 under way, 0 to settle; 1 drop"), "{reported}{status}");
    daemon.ask_to_stop();
    until("STOPPING=1");
    daemon.finish().expect(0);
}
