//! Drops that are mounts without events: FUSE file systems that keep what they know of a file for a while, know no rename
//! that replaces nothing, give a file another number whenever they like, and go away.
//!
//! The partner writes behind the mount's back, as other machines do on a network share. That needs root, `/dev/fuse`,
//! bindfs and sshfs, so a plain `cargo test` leaves these tests out; `.ci/run` installs what is needed and asks for them,
//! and a part that is missing fails them. No test stays mounted: nothing is left where its processes end.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use passfort_ingest::sandbox::Options;
use serde_json::Value;

use crate::support::{
    Builder, Daemon, Format, Site, assert_sent_once_or_lost, entry, image, padded, promise, read_receipt, rename,
    wait_until,
};

/// What lies between the worker and the files.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Files keep their numbers; their sizes are believed for a second.
    Bind,
    /// Files get new numbers at every mount, and by a link; folders are believed for a second or two.
    Ssh,
    /// The same, without links.
    SshWithoutLinks,
}

/// A file system that serves `under` at `at`.
struct Mount {
    kind: Kind,
    under: PathBuf,
    at: PathBuf,
    server: Option<Child>,
}

impl Mount {
    fn new(kind: Kind, under: PathBuf, at: PathBuf) -> Self {
        fs::create_dir_all(&under).unwrap();
        fs::create_dir_all(&at).unwrap();
        let mut mount = Self { kind, under, at, server: None };
        mount.come();
        mount
    }

    fn come(&mut self) {
        self.go();
        let bare = fs::metadata(&self.at).unwrap().dev();
        // The server ends with the test, however that ends.
        let mut server = Command::new("setpriv");
        server.args(["--pdeathsig", "KILL"]).stdin(Stdio::null());
        match self.kind {
            Kind::Bind => {
                server.args(["bindfs", "-f", "-o", "attr_timeout=1,entry_timeout=1"]).arg(&self.under);
            }
            Kind::Ssh | Kind::SshWithoutLinks => {
                let ssh = self.under.with_extension("ssh");
                fs::write(&ssh, "#!/bin/sh\nexec /usr/lib/openssh/sftp-server\n").unwrap();
                fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).unwrap();
                let links = if matches!(self.kind, Kind::Ssh) { "" } else { ",disable_hardlink" };
                server.args(["sshfs", "-f", "-o"]);
                server.arg(format!("ssh_command={},dcache_timeout=2{links}", ssh.display()));
                server.arg(format!("partner:{}", self.under.display()));
            }
        }
        self.server = Some(server.arg(&self.at).spawn().expect("setpriv is there, as it is on every Debian"));
        wait_until("it is mounted (`.ci/run` installs what these tests need)", || {
            let ended = self.server.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the server of the mount ended: {ended:?}");
            fs::metadata(&self.at).is_ok_and(|meta| meta.dev() != bare)
        });
    }

    /// Ends the server: every access to the mount then fails as not connected.
    fn die(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }

    /// Takes the mount away, whoever uses it; the bare folder below is seen.
    fn go(&mut self) {
        Command::new("umount").arg("-l").arg(&self.at).stderr(Stdio::null()).status().unwrap();
        self.die();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.go();
    }
}

/// A site whose drop lies on a mount. The site's own folder is the one behind it, so that all that the test does is done
/// behind the mount's back.
struct Share {
    // Before the folder that it is mounted in.
    mount: Mount,
    site: Site,
}

impl Share {
    fn new(kind: Kind) -> Self {
        Self::on(kind, Site::new())
    }

    fn on(kind: Kind, site: Site) -> Self {
        let (drop, at) = (site.at("drop"), site.at("mounted"));
        let config = fs::read_to_string(site.at("config.toml")).unwrap();
        let line = |path: &Path| format!("path = '{}'", path.display());
        site.write("config.toml", config.replace(&line(&drop), &line(&at)));
        Self { mount: Mount::new(kind, drop, at), site }
    }

    fn wait_until_settled(&self, daemon: &mut Daemon, manifest: &str) {
        daemon.wait_until(&format!("{manifest} is settled"), || self.site.is_settled(manifest));
    }

    /// Stops the daemon once everything is put away; each of so many documents was created once.
    #[track_caller]
    fn assert_all_done(&self, mut daemon: Daemon, documents: u64) {
        daemon.wait_until("everything is put away", || self.site.left().is_empty());
        daemon.terminate().expect(0);
        let summary = self.site.summary();
        assert_eq!((summary.documents, summary.doubled, summary.images), (documents, 0, documents), "{summary}");
        assert_sent_once_or_lost(&self.site.ledger());
        let settled = self.site.moved_to("done").iter().filter(|file| file.contains(".manifest.")).count();
        assert_eq!(settled as u64, documents, "each manifest once: {:#?}", self.site.files());
        let receipts = self.site.files().into_iter().filter(|file| file.starts_with("receipts/"));
        let statuses: Vec<Value> =
            receipts.map(|file| read_receipt(&self.site.in_drop(&file))["status"].clone()).collect();
        assert_eq!(statuses, vec!["done"; settled], "one receipt for each manifest: {:#?}", self.site.files());
    }
}

/// Everything that comes behind the mount's back is taken once, and put away through the mount.
fn everything_is_taken(kind: Kind) {
    let share = Share::new(kind);
    let site = &share.site;
    share.site.put_folder("drop", 1);
    let mut daemon = site.daemon();
    share.wait_until_settled(&mut daemon, "1.manifest.json");
    let watching = share.site.status()["queue"]["drops"][0]["watching"].to_string();
    assert!(watching.contains("read every") && watching.contains("FUSE"), "{watching}");
    assert!(daemon.log().contains("FUSE tells nothing"), "{}", daemon.log());

    // The manifest last, as it should be.
    site.put("2.png", image(Format::Png, 2));
    site.put_documents("2.manifest.json", &[entry("2", 2, "2.png")]);
    share.wait_until_settled(&mut daemon, "2.manifest.json");

    // A folder that is made elsewhere.
    share.site.put_folder("made/deep/deeper", 3);
    rename(&site.at("made"), &site.in_drop("batch"));
    share.wait_until_settled(&mut daemon, "batch/deep/deeper/3.manifest.json");

    // The manifest first, and a file that comes in pieces, slower than what is known of it gets old.
    site.put_documents("4.manifest.json", &[entry("4", 4, "4.pdf")]);
    daemon.wait_until("it is waited for", || site.run(&["why", "drop/4.manifest.json"]).said().contains("4.pdf"));
    let content = padded(4, 40_000);
    for end in [10_000, 20_000, 30_000] {
        site.put("4.pdf", &content[..end]);
        let looks = || share.site.status()["waiting_manifests"].to_string();
        daemon.wait_until("the piece was looked at", || looks().contains("truncated"));
        assert_eq!(site.summary().documents, 3, "nothing of a half file is sent");
    }
    site.put("4.pdf", &content);
    share.wait_until_settled(&mut daemon, "4.manifest.json");
    share.assert_all_done(daemon, 4);
}

#[test]
#[ignore = "needs root, /dev/fuse and bindfs: `.ci/run` asks for it"]
fn everything_is_taken_from_bindfs() {
    everything_is_taken(Kind::Bind);
}

#[test]
#[ignore = "needs root, /dev/fuse and sshfs: `.ci/run` asks for it"]
fn everything_is_taken_from_sshfs() {
    everything_is_taken(Kind::Ssh);
}

#[test]
#[ignore = "needs root, /dev/fuse and sshfs: `.ci/run` asks for it"]
fn everything_is_taken_from_sshfs_without_links() {
    everything_is_taken(Kind::SshWithoutLinks);
}

/// Another drop, on a plain disk, goes on while the mount is away; then all is taken.
fn a_mount_goes_and_comes_back(kind: Kind, leave: impl FnOnce(&mut Mount)) {
    promise!(
        "A full disk, an unreadable folder or a lost mount stops the work that needs it, loses nothing, and is reported."
    );
    let sandbox = Options { latency: Duration::from_millis(30), ..Options::default() };
    let mut share = Share::on(kind, Builder { sandbox, ..Builder::default() }.build());
    share.site.another_drop("other", "");
    share.site.put_batch("all.manifest.json", 60);
    let mut daemon = share.site.daemon();
    daemon.wait_until("it is in the middle of it", || share.site.summary().documents > 10);
    leave(&mut share.mount);
    daemon.wait_until("it is said", || share.site.trouble().contains("partner"));
    assert!(share.site.summary().documents < 60, "it went away in the middle");
    share.site.put_folder("other", 100);
    let receipt = share.site.at("other/receipts/100.manifest.json.receipt.json");
    daemon.wait_until("the other drop goes on", || receipt.exists());
    assert!(share.site.trouble().contains("partner"), "it is said until it is over");
    assert!(!share.site.is_settled("all.manifest.json"));
    share.site.run(&["status"]).expect(0).says("partner");

    share.mount.come();
    daemon.wait_until("it is over", || !share.site.trouble().contains("partner"));
    share.wait_until_settled(&mut daemon, "all.manifest.json");
    daemon.wait_until("everything is put away", || share.site.left().is_empty());
    daemon.terminate().expect(0);
    assert_eq!(share.site.receipt("all.manifest.json")["counts"]["created"], 60);
    assert_eq!(share.site.moved_to("done").len(), 61);
    let summary = share.site.summary();
    assert_eq!((summary.documents, summary.doubled), (61, 0), "{summary}");
    assert_sent_once_or_lost(&share.site.ledger());
    share.mount.go();
    assert_eq!(fs::read_dir(&share.mount.at).unwrap().count(), 0, "nothing was put where it is hidden");
}

#[test]
#[ignore = "needs root, /dev/fuse and bindfs: `.ci/run` asks for it"]
fn a_mount_that_is_taken_away_is_waited_for() {
    a_mount_goes_and_comes_back(Kind::Bind, Mount::go);
}

#[test]
#[ignore = "needs root, /dev/fuse and sshfs: `.ci/run` asks for it"]
fn a_mount_that_comes_back_with_other_numbers_is_waited_for() {
    a_mount_goes_and_comes_back(Kind::Ssh, Mount::go);
}

#[test]
#[ignore = "needs root, /dev/fuse and bindfs: `.ci/run` asks for it"]
fn a_mount_whose_server_dies_is_waited_for() {
    a_mount_goes_and_comes_back(Kind::Bind, Mount::die);
}

#[test]
#[ignore = "needs root, /dev/fuse and sshfs: `.ci/run` asks for it"]
fn an_import_from_a_mount_that_comes_back_with_other_numbers_continues() {
    let mut share = Share::new(Kind::Ssh);
    share.site.put_folder("drop", 1);
    let manifest = share.mount.at.join("1.manifest.json");
    let number = || fs::metadata(&manifest).unwrap().ino();
    share.site.stop_api();
    share.site.run(&["import", "mounted", "--give-up-after", "1s"]).expect(4);
    let before = number();
    share.mount.come();
    // Numbers are given as files are come to.
    (0..20).for_each(|file| share.site.write(&format!("drop/{file}.txt"), ""));
    assert!((0..20).all(|file| fs::metadata(share.mount.at.join(format!("{file}.txt"))).is_ok()));
    assert_ne!(number(), before);
    share.site.start_api();
    share.site.run(&["import", "mounted"]).expect(0);
    assert_eq!(share.site.summary().documents, 1);
    let receipts = share.site.files().into_iter().filter(|file| file.starts_with("receipts/"));
    assert_eq!(receipts.collect::<Vec<_>>(), ["receipts/1.manifest.json.receipt.json"]);
}

/// What is put away, and the receipts, may lie on a mount of their own; while that is away, files stay in the drop or in the work folder.
#[test]
#[ignore = "needs root, /dev/fuse and bindfs: `.ci/run` asks for it"]
fn folders_for_what_is_settled_may_be_a_mount_and_are_waited_for() {
    let site = Site::new();
    let mut mount = Mount::new(Kind::Bind, site.at("archive"), site.at("mounted"));
    let folder = |name: &str| site.at("mounted").join(name).display().to_string();
    site.configure_drop(&format!("done_dir = '{}'\nreceipts_dir = '{}'", folder("done"), folder("receipts")));
    let receipt = |number: u32| site.at(&format!("archive/receipts/{number}.manifest.json.receipt.json"));
    let put = |number: u32| {
        site.put(&format!("{number}.png"), image(Format::Png, number));
        site.put_documents(
            &format!("{number}.manifest.json"),
            &[entry(&number.to_string(), number, &format!("{number}.png"))],
        );
    };
    let mut daemon = site.daemon();
    put(1);
    daemon.wait_until("it is put away", || receipt(1).exists() && site.left().is_empty());
    mount.go();
    put(2);
    daemon.wait_until("it is said", || site.run(&["status"]).said().contains("mounted there is gone"));
    let left = site.left();
    let names: Vec<&str> = left.iter().map(|path| path.rsplit('/').next().unwrap()).collect();
    assert_eq!(
        names,
        ["2.manifest.json", "2.png"],
        "in the drop or taken, and not put away before its receipt: {left:?}"
    );
    mount.come();
    daemon.wait_until("it is put away", || receipt(2).exists() && site.left().is_empty());
    daemon.terminate().expect(0);
    assert_eq!(site.summary().documents, 2);
    mount.go();
    assert_eq!(fs::read_dir(&mount.at).unwrap().count(), 0, "nothing was put where it is hidden");
}
