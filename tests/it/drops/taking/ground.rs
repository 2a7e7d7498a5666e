//! Folders that do not let their files go: nothing is sent before what was sent can be put away.

use std::{
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::Path,
    process::Command,
};

use super::*;

/// An account that owns nothing.
const NOBODY: u32 = 65_534;

/// The worker, as another account than root's: nothing is closed to root.
fn command(site: &Site, arguments: &[&str]) -> Command {
    let own = site.command(arguments);
    if !rustix::process::geteuid().is_root() {
        return own;
    }
    // Where the tests are built may be closed to others.
    let program = site.at("passfort-ingest");
    if !program.exists() && fs::hard_link(own.get_program(), &program).is_err() {
        fs::copy(own.get_program(), &program).unwrap();
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &NOBODY.to_string(), "--regid", &NOBODY.to_string(), "--clear-groups", "--"]);
    command.arg(program).args(own.get_args()).current_dir(site.at(""));
    for (name, value) in own.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

fn run(site: &Site, arguments: &[&str]) -> crate::support::Finished {
    site.finish(command(site, arguments))
}

fn give_to_worker(path: &Path) {
    if rustix::process::geteuid().is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        let entries = fs::read_dir(path).into_iter().flatten();
        entries.for_each(|entry| give_to_worker(&entry.unwrap().path()));
    }
}

fn mode(folder: &Path, mode: u32) {
    fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
}

/// One document whose image lies in a subfolder, one beside it in the drop itself; all belongs to the worker's account.
fn site_of_another() -> Site {
    let site = site_with("");
    mode(&site.at(""), 0o755);
    site.put("in/a.png", picture(1));
    site.put_documents("a.manifest.json", &[of("a", X, &["in/a.png"])]);
    for folder in ["drop", "state"] {
        give_to_worker(&site.at(folder));
    }
    site
}

/// Documents were created, and then could not be put away, for ever.
#[test]
fn a_subfolder_that_does_not_let_its_files_go_stops_its_manifests_and_no_others() {
    let site = site_of_another();
    mode(&site.in_drop("in"), 0o555);
    let mut daemon = Daemon::start(command(&site, &["run"]), &site.at("log"));
    let why = || run(&site, &["why", "a.manifest.json"]).stdout;
    daemon.wait_until("it is said", || why().to_lowercase().contains("permission"));
    assert!(why().contains("/in"), "{}", why());
    let status = run(&site, &["status"]).said();
    assert!(status.to_lowercase().contains("permission"), "{status}");

    // The others go on.
    site.put("b.png", picture(2));
    site.put_documents("b.manifest.json", &[of("b", Y, &["b.png"])]);
    give_to_worker(&site.in_drop("b.png"));
    daemon.wait_until("the other is settled", || site.is_settled("b.manifest.json"));
    daemon.wait_until("all else is where it was", || site.left() == ["a.manifest.json", "in/a.png"]);
    assert_standing(&site, &[(Y, &[2])]);

    mode(&site.in_drop("in"), 0o755);
    daemon.wait_until("it goes on by itself", || site.is_settled("a.manifest.json") && site.left().is_empty());
    daemon.terminate().expect(0);
    assert_standing(&site, &[(X, &[1]), (Y, &[2])]);
}

#[test]
fn a_drop_in_which_nothing_can_be_renamed_keeps_its_manifests_and_says_so() {
    let site = site_of_another();
    mode(&site.at("drop"), 0o555);
    assert_eq!(run(&site, &["run", "--once"]).code, Some(3), "work is left");
    assert!(site.ledger().is_empty(), "nothing is sent that cannot be put away");
    assert_eq!(site.left(), ["a.manifest.json", "in/a.png"]);
    let mut daemon = Daemon::start(command(&site, &["run"]), &site.at("log"));
    let status = || run(&site, &["status"]).said().to_lowercase();
    daemon.wait_until("it is said", || status().contains("permission"));
    let why = run(&site, &["why", "a.manifest.json"]).stdout;
    assert_eq!(why.matches("default ACL").count(), 1, "one cure for all folders: {why}");
    mode(&site.at("drop"), 0o755);
    daemon.wait_until("it goes on by itself", || site.is_settled("a.manifest.json") && site.left().is_empty());
    daemon.terminate().expect(0);
    assert_standing(&site, &[(X, &[1])]);
}

/// A rename never crosses from one file system to another, so nothing could be taken.
#[test]
fn a_work_folder_on_another_file_system_is_bad_ground_until_it_is_cured() {
    let site = site_with("");
    let memory = Path::new("/dev/shm");
    let device = |path: &Path| fs::metadata(path).unwrap().dev();
    assert_ne!(device(memory), device(&site.at("drop")), "the tests' folder and /dev/shm are to be two file systems");
    let elsewhere = tempfile::tempdir_in(memory).unwrap();
    let work = elsewhere.path().join("work").display().to_string();
    let line = format!("work_dir = '{work}'");
    site.configure_drop(&line);
    site.put(FRONT, picture(1));
    site.put_documents("a.manifest.json", &[of("a", X, &[FRONT])]);

    site.run_once().expect(3);
    assert!(site.ledger().is_empty(), "nothing is sent that cannot be put away");
    assert_eq!(site.left(), ["a.manifest.json", FRONT], "all is where it was");
    let status = site.run(&["status"]).said();
    assert!(status.contains(&work) && status.contains("file system"), "the reason and the cure: {status}");
    let why = site.run(&["why", "a.manifest.json"]).said();
    assert!(why.contains(&work), "{why}");

    site.edit_config(&line, "");
    site.run_once().expect(0);
    assert_standing(&site, &[(X, &[1])]);
    assert_eq!(site.left(), Vec::<String>::new());
}

/// The daemon that has said so goes on with the next look, once there is a place for what it takes.
#[test]
fn a_work_folder_that_cannot_be_made_is_waited_for() {
    let site = site_with("");
    site.put(".passfort-ingest", "a file where the folder should be");
    site.put(FRONT, picture(1));
    site.put_documents("a.manifest.json", &[of("a", X, &[FRONT])]);
    let mut daemon = site.daemon();
    daemon.wait_until("it is said", || site.run(&["status"]).said().contains(".passfort-ingest"));
    assert!(site.ledger().is_empty(), "nothing is sent that cannot be put away");
    fs::remove_file(site.in_drop(".passfort-ingest")).unwrap();
    daemon.wait_until("it goes on by itself", || site.is_settled("a.manifest.json") && site.left().is_empty());
    daemon.terminate().expect(0);
    assert_standing(&site, &[(X, &[1])]);
}

/// A mount under the work folder was gone for a night. Its jobs waited, and the next manifests were taken into the empty
/// mount point, where the mount hid them in the morning.
#[test]
fn a_work_folder_that_is_gone_as_a_whole_is_bad_ground_until_it_is_back() {
    for empty in [false, true] {
        let site = paused("");
        let work = site.at("work");
        site.configure_drop(&format!("work_dir = '{}'", work.display()));
        site.put(FRONT, picture(1));
        site.put_documents("x.manifest.json", &[of("x", X, &[FRONT])]);
        let mut daemon = site.daemon();
        wait_until_taken(&site, &mut daemon, "x.manifest.json");
        rename(&work, &site.at("away"));
        if empty {
            fs::create_dir(&work).unwrap();
        }
        site.put(FRONT, picture(2));
        site.put_documents("y.manifest.json", &[of("y", Y, &[FRONT])]);
        site.run(&["resume"]).expect(0);
        let ground = || site.status()["queue"]["drops"][0]["ground"].as_str().unwrap_or_default().to_owned();
        daemon.wait_until("the ground is bad", || ground().contains(&work.display().to_string()));
        let why = || site.run(&["why", "y.manifest.json"]).stdout;
        daemon.wait_until("the next manifest waits", || why().contains("put it back"));
        assert_eq!(site.left(), [FRONT, "y.manifest.json"]);
        assert_standing(&site, &[]);
        fs::remove_dir(&work).ok();
        rename(&site.at("away"), &work);
        daemon.wait_until("it goes on by itself", || {
            site.is_settled("x.manifest.json") && site.is_settled("y.manifest.json")
        });
        assert_eq!(ground(), "");
        daemon.terminate().expect(0);
        assert_standing(&site, &[(X, &[1]), (Y, &[2])]);
    }
}

/// Somebody removed the work folder for good. A person gives up what was in it, and the drop goes on.
#[test]
fn what_was_in_a_work_folder_that_does_not_come_back_can_be_cancelled() {
    let site = paused("");
    site.put(FRONT, picture(1));
    site.put_documents("x.manifest.json", &[of("x", X, &[FRONT])]);
    let mut daemon = site.daemon();
    wait_until_taken(&site, &mut daemon, "x.manifest.json");
    let work = site.in_drop(".passfort-ingest");
    let folder = fs::read_dir(&work).unwrap().next().unwrap().unwrap().path();
    fs::remove_dir_all(&work).unwrap();
    let is_bad = || site.status()["queue"]["drops"][0]["ground"].is_string();
    daemon.wait_until("the ground is bad", is_bad);
    site.run(&["cancel", "1"]).expect(0);
    site.run(&["resume"]).expect(0);
    daemon.wait_until("the way out is said", || site.trouble().contains("make an empty folder there"));
    fs::create_dir_all(&folder).unwrap();
    daemon.wait_until("all is put away that there is", || site.trouble() == "[]");
    site.put(FRONT, picture(2));
    site.put_documents("y.manifest.json", &[of("y", Y, &[FRONT])]);
    daemon.wait_until("the next one is settled", || site.is_settled("y.manifest.json") && !is_bad());
    daemon.terminate().expect(0);
    assert_standing(&site, &[(Y, &[2])]);
}

#[test]
fn a_file_that_the_worker_may_not_read_is_named_with_the_cure() {
    let site = site_of_another();
    fs::set_permissions(site.in_drop("in/a.png"), fs::Permissions::from_mode(0o000)).unwrap();
    assert_eq!(run(&site, &["run", "--once"]).code, Some(3));
    let why = run(&site, &["why", "a.manifest.json"]).stdout;
    assert!(why.contains("in/a.png") && why.contains("let the service's user read the file"), "{why}");
}
