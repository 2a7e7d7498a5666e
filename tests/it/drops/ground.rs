//! The ground of a drop is tried before anything of it is sent; where it is bad the drop says so, and keeps its manifests.

use std::{fs, net::SocketAddr};

use crate::support::{Builder, Daemon, Site, get, metrics, page_in, value};

/// A site with a page and a second drop, `other`.
fn site() -> Site {
    let site = Builder { more: "[http]\nlisten = '127.0.0.1:0'".to_owned(), ..Builder::default() }.build();
    site.another_drop("other", "");
    site
}

fn daemon(site: &Site) -> (Daemon, SocketAddr) {
    let mut daemon = site.daemon();
    let mut page = None;
    daemon.wait_until("the page is served", || {
        page = page_in(&daemon_log(site));
        page.is_some()
    });
    (daemon, page.unwrap())
}

fn daemon_log(site: &Site) -> String {
    let files = fs::read_dir(site.at("log")).unwrap().map(|file| file.unwrap().path());
    files.map(|file| fs::read_to_string(file).unwrap_or_default()).collect()
}

fn bad_ground(site: &Site) -> String {
    let status = site.status();
    let drops = status["queue"]["drops"].as_array().unwrap();
    drops.iter().map(|drop| drop["ground"].as_str().unwrap_or_default()).collect()
}

/// Documents were created, then "Permission denied" at the archive, for ever.
#[test]
fn nothing_is_created_before_it_can_be_put_away_and_after_the_cure_it_goes_on_by_itself() {
    for (folder, lines) in [
        ("failed", ""),
        ("done", ""),
        ("receipts", ""),
        (".passfort-ingest", ""),
        ("failed", "after_success = 'delete'"),
        ("receipts", "after_success = 'keep'"),
    ] {
        let site = site();
        site.configure_drop(lines);
        // A file in the folder's place stops every user, root too.
        site.put(folder, "in the way");
        site.put_batch("a.manifest.json", 2);
        site.put_folder("other", 9);
        let (mut daemon, page) = daemon(&site);

        daemon.wait_until("it is said", || bad_ground(&site).contains(folder));
        daemon.wait_until("the other drop goes on", || site.summary().documents == 1);
        daemon.wait_until("the manifest says what it waits for", || {
            site.status()["waiting_manifests"].to_string().contains("ground")
        });
        let (code, why) = get(page, "/readyz");
        assert!(code == 503 && why.contains("partner") && why.contains(folder), "{folder}: {code} {why}");
        assert_eq!(value(&metrics(page), "drop_ready{drop=\"partner\"}"), 0.0);
        assert_eq!(value(&metrics(page), "drop_ready{drop=\"other\"}"), 1.0);
        let status = site.run(&["status"]).expect(0).stdout;
        assert!(status.contains("BAD GROUND: nothing of drop partner"), "{status}");
        assert!(daemon_log(&site).contains("bad ground"));
        for kept in ["a.manifest.json", "0.png", "1.png"] {
            assert!(site.in_drop(kept).exists(), "{kept}");
        }
        assert_eq!(site.summary().documents, 1, "nothing of the drop is sent");

        fs::remove_file(site.in_drop(folder)).unwrap();
        daemon.wait_until("it goes on by itself", || site.receipt_paths("a.manifest.json").len() == 1);
        daemon.wait_until("it is ready", || get(page, "/readyz").0 == 200);
        assert_eq!((bad_ground(&site), value(&metrics(page), "drop_ready{drop=\"partner\"}")), (String::new(), 1.0));
        assert_eq!(site.summary().documents, 3);
        daemon.terminate().expect(0);
    }
}

#[test]
fn a_run_for_a_timer_leaves_the_manifests_of_bad_ground_and_says_so() {
    let site = Site::new();
    site.put("failed", "in the way");
    site.put_batch("a.manifest.json", 1);
    let finished = site.run_once().expect(3);
    assert!(finished.stderr.contains("bad ground"), "{}", finished.stderr);
    assert!(site.ledger().is_empty() || site.summary().documents == 0);
    assert_eq!(site.left(), ["0.png", "a.manifest.json", "failed"]);
    fs::remove_file(site.in_drop("failed")).unwrap();
    site.run_once().expect(0);
    assert_eq!(site.summary().documents, 1);
}

#[test]
fn one_folder_as_two_drops_is_an_error_of_the_configuration() {
    let site = Site::new();
    site.another_drop("other", "");
    fs::remove_dir(site.at("other")).unwrap();
    std::os::unix::fs::symlink("drop", site.at("other")).unwrap();
    site.put_batch("a.manifest.json", 1);
    let finished = site.run(&["run", "--once"]).expect(2);
    assert!(finished.stderr.contains("two drops watch one folder"), "{}", finished.stderr);
    assert!(site.ledger().is_empty());
}

#[test]
fn a_drop_that_is_a_link_is_bad_ground_with_the_target_as_the_cure() {
    let site = Site::new();
    fs::remove_dir(site.at("drop")).unwrap();
    fs::create_dir(site.at("real")).unwrap();
    std::os::unix::fs::symlink("real", site.at("drop")).unwrap();
    site.put_batch("a.manifest.json", 1);
    let finished = site.run_once().expect(3);
    let target = site.at("real").canonicalize().unwrap();
    assert!(finished.stderr.contains(target.to_str().unwrap()), "{}", finished.stderr);
    assert_eq!(site.summary().documents, 0);
    let drop = format!("path = '{}'", site.at("drop").display());
    site.edit_config(&drop, &format!("path = '{}'", target.display()));
    site.run_once().expect(0);
    assert_eq!(site.summary().documents, 1);
}
