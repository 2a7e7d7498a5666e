//! Partners as they are: a real OpenSSH server with a chrooted account, and two clients with habits of their own.
//!
//! The server, the partner and the worker are three different accounts, as they are at a bank. That needs root, sshd,
//! sftp and lftp, so a plain `cargo test` leaves these tests out; `.ci/run` installs what is needed and asks for them,
//! and a part that is missing fails them.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use passfort_ingest::sandbox::ApiCall;
use serde_json::json;
use tempfile::TempDir;

use crate::support::{
    Daemon, Finished, Format, Site, assert_sent_once_or_lost, entry, image, padded, promise, sha256, wait_until,
};

#[cfg(test)]
mod leases;
#[cfg(test)]
mod permissions;

const PARTNER: &str = "pfi-partner";
const WORKER: &str = "pfi-worker";
const MANIFEST: &str = "batch.manifest.json";

/// A drop that a partner fills over SFTP and a worker empties.
struct Partnership {
    site: Site,
    server: Child,
    /// The folder that the partner is locked into; it may not be writable for anybody but root.
    jail: TempDir,
    /// What the partner has at home.
    home: TempDir,
    port: u16,
}

/// Runs a command that must work.
#[track_caller]
fn sure(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| {
        panic!("{program} cannot be started ({error}): `.ci/run` installs what these tests need");
    });
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {}\n{said}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Makes the accounts, once for all tests; returns the program where the worker's account can start it.
fn ground() -> &'static Path {
    static GROUND: OnceLock<PathBuf> = OnceLock::new();
    GROUND.get_or_init(|| {
        assert!(rustix::process::geteuid().is_root(), "accounts and a chroot can be made by root only");
        let exists = |account| Command::new("id").arg(account).output().is_ok_and(|output| output.status.success());
        if !exists(PARTNER) {
            sure("useradd", &["--system", "--no-create-home", "--shell", "/usr/sbin/nologin", PARTNER]);
            // Without a password; an account that is locked is refused by the server.
            sure("usermod", &["--password", "*", PARTNER]);
        }
        if !exists(WORKER) {
            sure("useradd", &["--system", "--no-create-home", "--shell", "/usr/sbin/nologin", WORKER]);
            sure("usermod", &["--append", "--groups", PARTNER, WORKER]);
        }
        fs::create_dir_all("/run/sshd").unwrap();
        // Where the tests are built may be closed to other accounts.
        let program = PathBuf::from("/usr/local/lib/passfort-ingest-under-test");
        fs::copy(env!("CARGO_BIN_EXE_passfort-ingest"), &program).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        program
    })
}

impl Partnership {
    fn new() -> Self {
        Self::with("internal-sftp -u 0007", "")
    }

    /// One whose server runs this for the partner, and whose drop has these lines; `JAIL` in them is the folder above it.
    fn with(server_command: &str, lines: &str) -> Self {
        let program = ground();
        assert!(program.is_file());
        let site = Site::new();
        let open = fs::Permissions::from_mode(0o755);
        let jail = tempfile::Builder::new().prefix("pfi-").permissions(open.clone()).tempdir_in("/srv").unwrap();
        fs::set_permissions(jail.path(), open).unwrap();
        let incoming = jail.path().join("incoming");
        fs::create_dir(&incoming).unwrap();
        // The drop is shared by a group: both may move files in it, and what the partner makes belongs to the group.
        sure("chown", &[&format!("{PARTNER}:{PARTNER}"), incoming.to_str().unwrap()]);
        fs::set_permissions(&incoming, fs::Permissions::from_mode(0o2770)).unwrap();

        // What the partner may not write to.
        let ingest = jail.path().join("ingest");
        fs::create_dir(&ingest).unwrap();
        fs::set_permissions(&ingest, fs::Permissions::from_mode(0o750)).unwrap();
        sure("chown", &[&format!("{WORKER}:{WORKER}"), ingest.to_str().unwrap()]);
        site.configure_drop(&lines.replace("JAIL", jail.path().to_str().unwrap()));

        let drop = site.at("drop");
        site.edit_config(drop.to_str().unwrap(), incoming.to_str().unwrap());
        fs::remove_dir(&drop).unwrap();
        std::os::unix::fs::symlink(&incoming, &drop).unwrap();
        let folder = site.at("");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        sure("chown", &["-R", WORKER, site.at("state").to_str().unwrap()]);

        let home = TempDir::new().unwrap();
        let at = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
        for key in ["host", "key"] {
            sure("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &at(key)]);
        }
        // Read by the server as the partner's account, so not in a home that is closed to it.
        let authorized = jail.path().join("authorized");
        fs::copy(at("key.pub"), &authorized).unwrap();
        fs::set_permissions(&authorized, fs::Permissions::from_mode(0o644)).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        fs::write(
            at("sshd_config"),
            format!(
                "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nPidFile none\nUsePAM no\nStrictModes no\n\
                 PasswordAuthentication no\nAuthorizedKeysFile {}\nAllowUsers {PARTNER}\nMaxStartups 100\n\
                 Subsystem sftp internal-sftp\nForceCommand {server_command}\nChrootDirectory {}\n",
                at("host"),
                authorized.display(),
                jail.path().display()
            ),
        )
        .unwrap();
        let log = fs::File::create(at("sshd.log")).unwrap();
        let server = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f", &at("sshd_config")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("sshd is there: `.ci/run` installs it");
        let partnership = Self { site, server, jail, home, port };
        wait_until("the server listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        partnership
    }

    /// Puts a file into the partner's home.
    fn keep(&self, name: &str, content: &[u8]) {
        let path = self.home.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// A manifest of these documents in the partner's home.
    fn keep_manifest(&self, name: &str, documents: &[serde_json::Value]) {
        self.keep(name, json!({ "version": 1, "documents": documents }).to_string().as_bytes());
    }

    fn ssh_options(&self) -> Vec<String> {
        let key = self.home.path().join("key");
        let options =
            ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "IdentitiesOnly=yes", "LogLevel=ERROR"];
        let mut arguments: Vec<String> = options.iter().flat_map(|option| ["-o", option]).map(str::to_owned).collect();
        arguments.extend(["-i".to_owned(), key.display().to_string()]);
        arguments
    }

    /// OpenSSH's client with these commands, in the folder `incoming`.
    fn sftp(&self, options: &[&str], commands: &str) -> Command {
        let batch = self.home.path().join(format!("batch-{:x}", rand()));
        fs::write(&batch, format!("cd incoming\n{commands}\n")).unwrap();
        let mut command = Command::new("sftp");
        command.args(self.ssh_options()).args(options).arg("-P").arg(self.port.to_string()).arg("-b").arg(batch);
        command.arg(format!("{PARTNER}@127.0.0.1")).current_dir(self.home.path());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// lftp with these commands, in the folder `incoming`.
    fn lftp(&self, commands: &str) -> Command {
        let connect = format!("set sftp:connect-program 'ssh -a -x {}'", self.ssh_options().join(" "));
        let mut command = Command::new("lftp");
        command.args(["--norc", "-u", &format!("{PARTNER},none"), &format!("sftp://127.0.0.1:{}", self.port)]);
        let settings = "set net:max-retries 2; set cmd:fail-exit yes; set xfer:clobber yes";
        command.args(["-e", &format!("{connect}; {settings}; cd incoming && {commands}; bye")]);
        command.env("HOME", self.home.path()).current_dir(self.home.path());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Runs a client to its end, which must be a good one.
    #[track_caller]
    fn done(&self, mut client: Command) {
        let output = client.stderr(Stdio::piped()).output().expect("the client is there: `.ci/run` installs it");
        let server = fs::read_to_string(self.home.path().join("sshd.log")).unwrap_or_default();
        assert!(output.status.success(), "{}\n{server}", String::from_utf8_lossy(&output.stderr));
    }

    /// Starts a client and kills it once the file has so many bytes in the drop.
    fn cut(&self, mut client: Command, file: &str, bytes: u64) {
        let mut child = client.stderr(Stdio::null()).spawn().expect("the client is there: `.ci/run` installs it");
        let path = self.site.in_drop(file);
        wait_until("some of the file has arrived", || fs::metadata(&path).is_ok_and(|file| file.len() >= bytes));
        child.kill().unwrap();
        child.wait().unwrap();
        // What the server still had in hand is written before it notices that the client has gone.
        wait_until("the server's part is over", || {
            let sessions = Command::new("pgrep").args(["-u", PARTNER, "-f", "sshd"]).output().unwrap();
            let open = String::from_utf8_lossy(&sessions.stdout).lines().any(|pid| {
                fs::read_dir(format!("/proc/{pid}/fd")).is_ok_and(|fds| {
                    fds.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target.ends_with(file)))
                })
            });
            !open
        });
    }

    fn as_worker(&self, arguments: &[&str]) -> Command {
        let program = self.site.command(arguments);
        let mut command = Command::new("setpriv");
        command.args(["--reuid", WORKER, "--regid", WORKER, "--init-groups"]);
        // As the shipped units do.
        command.args(["--bounding-set=-all,+lease", "--inh-caps=-all,+lease", "--ambient-caps=-all,+lease", "--"]);
        command.arg(ground()).args(program.get_args()).current_dir("/");
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }

    fn daemon(&self) -> Daemon {
        let mut daemon = Daemon::start(self.as_worker(&["run"]), &self.site.at("log"));
        let log = self.site.at("log");
        let said = || {
            fs::read_dir(&log)
                .unwrap()
                .flatten()
                .any(|file| fs::read_to_string(file.path()).is_ok_and(|text| text.contains("at work")))
        };
        daemon.wait_until("it is at work", said);
        daemon
    }

    fn why(&self, file: &str) -> Finished {
        let path = self.jail.path().join("incoming").join(file);
        self.site.finish(self.as_worker(&["why", path.to_str().unwrap()]))
    }

    /// Waits until `why` says this about the file.
    fn wait_until_why_says(&self, daemon: &mut Daemon, file: &str, text: &str) {
        let mut said = String::new();
        let what = format!("`why {file}` says '{text}'");
        daemon.wait_until(&what, || {
            said = self.why(file).said();
            said.contains(text)
        });
    }

    /// Waits for the receipt of a manifest, and stops the daemon.
    #[track_caller]
    fn settled(&self, mut daemon: Daemon, manifest: &str) -> serde_json::Value {
        daemon.wait_until("the manifest is settled", || {
            self.site.is_settled(manifest) && self.site.left().iter().all(|file| !file.ends_with(manifest))
        });
        daemon.terminate().expect(0);
        self.site.receipt(manifest)
    }

    /// Fails where anything but these contents was sent, or one of them not exactly once.
    #[track_caller]
    fn assert_sent(&self, contents: &[&[u8]]) {
        assert_sent_once_or_lost(&self.site.ledger());
        let calls = self.site.calls(ApiCall::UploadImage);
        let mut sent: Vec<String> = calls.into_iter().filter_map(|call| call.sha256).collect();
        let mut wanted: Vec<String> = contents.iter().map(|content| sha256(content)).collect();
        sent.sort();
        wanted.sort();
        assert_eq!(sent, wanted, "each image was sent once and whole");
    }
}

impl Drop for Partnership {
    fn drop(&mut self) {
        self.server.kill().ok();
        self.server.wait().ok();
        // A session that hangs would keep the folder.
        Command::new("pkill").args(["-9", "-u", PARTNER, "-f", &format!("{}", self.port)]).status().ok();
    }
}

/// A number that no other call gives.
fn rand() -> u32 {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// An image of so many bytes that shows where it was cut.
fn large(number: u32) -> Vec<u8> {
    padded(number, 600_000)
}

#[test]
#[ignore = "needs root, sshd and sftp: `.ci/run` asks for it"]
fn openssh_manifest_first_and_the_images_slowly_after_it() {
    let partner = Partnership::new();
    let (front, back) = (large(1), large(2));
    partner.keep("front.pdf", &front);
    partner.keep("back.pdf", &back);
    let document = json!({
        "reference": "slow", "profile_id": crate::support::profile(1), "category": "PROOF_OF_IDENTITY",
        "document_type": "PASSPORT", "images": [{ "path": "scans/front.pdf" }, { "path": "scans/back.pdf" }],
    });
    partner.keep_manifest(MANIFEST, &[document]);
    let mut daemon = partner.daemon();
    partner.done(partner.sftp(&[], &format!("put {MANIFEST}\nmkdir scans")));
    partner.wait_until_why_says(&mut daemon, MANIFEST, "scans/front.pdf");
    // 4 Mbit/s: each takes more than a second, many times as long as the drop's `settle`.
    partner.done(partner.sftp(&["-l", "4000"], "put front.pdf scans/front.pdf\nput back.pdf scans/back.pdf"));
    let receipt = partner.settled(daemon, MANIFEST);
    assert_eq!(receipt["status"], "done", "{receipt:#}");
    partner.assert_sent(&[&front, &back]);
    assert_eq!(partner.site.moved_to("done"), [MANIFEST, "scans/back.pdf", "scans/front.pdf"]);
    // The partner can read what became of it.
    partner.done(partner.sftp(&[], &format!("get receipts/{MANIFEST}.receipt.json")));
}

#[test]
#[ignore = "needs root, sshd and sftp: `.ci/run` asks for it"]
fn openssh_images_first_and_the_manifest_last() {
    let partner = Partnership::new();
    let front = large(1);
    partner.keep("front.pdf", &front);
    partner.keep_manifest(MANIFEST, &[entry("last", 1, "front.pdf")]);
    let daemon = partner.daemon();
    partner.done(partner.sftp(&["-l", "4000"], &format!("put front.pdf\nput {MANIFEST}")));
    let receipt = partner.settled(daemon, MANIFEST);
    assert_eq!(receipt["status"], "done", "{receipt:#}");
    partner.assert_sent(&[&front]);
}

#[test]
#[ignore = "needs root, sshd and sftp: `.ci/run` asks for it"]
fn openssh_interrupted_and_resumed() {
    let partner = Partnership::new();
    let front = large(1);
    partner.keep("front.pdf", &front);
    partner.keep_manifest(MANIFEST, &[entry("resumed", 1, "front.pdf")]);
    let mut daemon = partner.daemon();
    partner.done(partner.sftp(&[], &format!("put {MANIFEST}")));
    partner.cut(partner.sftp(&["-l", "2000"], "put front.pdf"), "front.pdf", 100_000);
    partner.wait_until_why_says(&mut daemon, MANIFEST, "truncated");
    assert!(partner.site.ledger().is_empty(), "nothing of a half file is sent");
    partner.done(partner.sftp(&[], "reput front.pdf"));
    let receipt = partner.settled(daemon, MANIFEST);
    assert_eq!(receipt["status"], "done", "{receipt:#}");
    partner.assert_sent(&[&front]);
}

#[test]
#[ignore = "needs root, sshd and sftp: `.ci/run` asks for it"]
fn openssh_under_a_temporary_name_and_then_renamed() {
    let partner = Partnership::new();
    let front = image(Format::Jpeg, 1);
    partner.keep("front.jpg", &front);
    partner.keep_manifest(MANIFEST, &[entry("renamed", 1, "front.jpg")]);
    let mut daemon = partner.daemon();
    partner.done(partner.sftp(&[], &format!("put {MANIFEST} {MANIFEST}.part\nput front.jpg front.jpg.filepart")));
    partner.done(partner.sftp(&[], &format!("rename {MANIFEST}.part {MANIFEST}")));
    partner.wait_until_why_says(&mut daemon, MANIFEST, "front.jpg");
    assert!(partner.site.ledger().is_empty(), "a temporary name is not the file");
    partner.done(partner.sftp(&[], "rename front.jpg.filepart front.jpg"));
    let receipt = partner.settled(daemon, MANIFEST);
    assert_eq!(receipt["status"], "done", "{receipt:#}");
    partner.assert_sent(&[&front]);
}

#[test]
#[ignore = "needs root, sshd and sftp: `.ci/run` asks for it"]
fn openssh_a_file_that_the_worker_may_not_read_holds_up_only_its_manifest() {
    let partner = Partnership::new();
    let (mine, yours) = (image(Format::Png, 1), image(Format::Png, 2));
    partner.keep("closed.png", &mine);
    partner.keep("open.png", &yours);
    partner.keep_manifest("closed.manifest.json", &[entry("closed", 1, "closed.png")]);
    partner.keep_manifest("open.manifest.json", &[entry("open", 2, "open.png")]);
    let mut daemon = partner.daemon();
    partner.done(partner.sftp(
        &[],
        "put closed.png\nchmod 600 closed.png\nput closed.manifest.json\nput open.png\nput open.manifest.json",
    ));
    daemon.wait_until("the other manifest is settled", || partner.site.is_settled("open.manifest.json"));
    partner.wait_until_why_says(&mut daemon, "closed.manifest.json", "ermission denied");
    partner.done(partner.sftp(&[], "chmod 660 closed.png"));
    let receipt = partner.settled(daemon, "closed.manifest.json");
    assert_eq!(receipt["status"], "done", "{receipt:#}");
    partner.assert_sent(&[&mine, &yours]);
}

#[test]
#[ignore = "needs root, sshd and sftp: `.ci/run` asks for it"]
fn openssh_links_that_a_partner_makes_lead_nowhere() {
    let partner = Partnership::new();
    let good = image(Format::Gif, 1);
    partner.keep("good.gif", &good);
    fs::write(partner.jail.path().join("secret.gif"), image(Format::Gif, 9)).unwrap();
    partner.keep_manifest(
        MANIFEST,
        &[entry("link", 1, "link.gif"), entry("up", 1, "up/secret.gif"), entry("good", 1, "good.gif")],
    );
    let daemon = partner.daemon();
    partner
        .done(partner.sftp(&[], &format!("ln -s ../secret.gif link.gif\nln -s .. up\nput good.gif\nput {MANIFEST}")));
    let receipt = partner.settled(daemon, MANIFEST);
    assert_eq!(receipt["status"], "partial", "{receipt:#}");
    assert_eq!(receipt["counts"]["invalid"], 2, "{receipt:#}");
    partner.assert_sent(&[&good]);
    assert!(partner.jail.path().join("secret.gif").exists(), "what lies outside stays");
}

#[test]
#[ignore = "needs root, sshd and lftp: `.ci/run` asks for it"]
fn lftp_mirrors_a_tree_with_old_times_and_a_manifest_in_its_middle() {
    let partner = Partnership::new();
    let (front, back) = (large(3), large(4));
    partner.keep("tree/a/front.pdf", &front);
    partner
        .keep_manifest("tree/batch.manifest.json", &[entry("front", 1, "a/front.pdf"), entry("back", 2, "z/back.pdf")]);
    partner.keep("tree/z/back.pdf", &back);
    for file in ["a/front.pdf", "z/back.pdf", "batch.manifest.json"] {
        let path = partner.home.path().join("tree").join(file);
        sure("touch", &["-d", "2019-10-03 14:05:19", path.to_str().unwrap()]);
    }
    let daemon = partner.daemon();
    partner.done(partner.lftp("set net:limit-rate 0:400000; mirror --reverse --no-perms tree ."));
    let receipt = partner.settled(daemon, MANIFEST);
    assert_eq!(receipt["status"], "done", "{receipt:#}");
    partner.assert_sent(&[&front, &back]);
}

#[test]
#[ignore = "needs root, sshd and lftp: `.ci/run` asks for it"]
fn lftp_closes_a_folder_to_the_worker_which_reports_it_and_continues_once_it_is_open() {
    promise!(
        "A full disk, an unreadable folder or a lost mount stops the work that needs it, loses nothing, and is reported."
    );
    let partner = Partnership::new();
    let front = large(7);
    partner.keep("tree/a/front.pdf", &front);
    partner.keep_manifest("tree/batch.manifest.json", &[entry("front", 1, "a/front.pdf")]);
    let mut daemon = partner.daemon();
    // A mirror takes the modes along: what came from the partner's own machine is the partner's alone to change.
    sure("chmod", &["755", partner.home.path().join("tree/a").to_str().unwrap()]);
    partner.done(partner.lftp("mirror --reverse tree ."));
    partner.wait_until_why_says(&mut daemon, MANIFEST, "ermission denied");
    assert!(partner.site.ledger().is_empty(), "nothing is sent that cannot be put away");
    partner.done(partner.sftp(&[], "chmod 2770 a"));
    let receipt = partner.settled(daemon, MANIFEST);
    assert_eq!(receipt["status"], "done", "{receipt:#}");
    partner.assert_sent(&[&front]);
}

#[test]
#[ignore = "needs root, sshd and lftp: `.ci/run` asks for it"]
fn lftp_with_temporary_names() {
    let partner = Partnership::new();
    let front = large(5);
    partner.keep("front.pdf", &front);
    partner.keep_manifest(MANIFEST, &[entry("temporary", 1, "front.pdf")]);
    let daemon = partner.daemon();
    let names = "set xfer:use-temp-file yes; set xfer:temp-file-name '*.part'; set net:limit-rate 0:400000";
    partner.done(partner.lftp(&format!("{names}; put {MANIFEST} && put front.pdf")));
    let receipt = partner.settled(daemon, MANIFEST);
    assert_eq!(receipt["status"], "done", "{receipt:#}");
    partner.assert_sent(&[&front]);
}

#[test]
#[ignore = "needs root, sshd and lftp: `.ci/run` asks for it"]
fn lftp_interrupted_and_continued() {
    let partner = Partnership::new();
    let front = large(6);
    partner.keep("front.pdf", &front);
    partner.keep_manifest(MANIFEST, &[entry("continued", 1, "front.pdf")]);
    let mut daemon = partner.daemon();
    partner.done(partner.lftp(&format!("put {MANIFEST}")));
    partner.cut(partner.lftp("set net:limit-rate 0:200000; put front.pdf"), "front.pdf", 100_000);
    partner.wait_until_why_says(&mut daemon, MANIFEST, "truncated");
    assert!(partner.site.ledger().is_empty(), "nothing of a half file is sent");
    partner.done(partner.lftp("put -c front.pdf"));
    let receipt = partner.settled(daemon, MANIFEST);
    assert_eq!(receipt["status"], "done", "{receipt:#}");
    partner.assert_sent(&[&front]);
}

#[test]
#[ignore = "needs root, sshd, sftp and lftp: `.ci/run` asks for it"]
fn both_at_once_with_many_documents_each() {
    let partner = Partnership::new();
    let mut contents = Vec::new();
    for (client, first) in [("openssh", 0), ("lftp", 100)] {
        let documents: Vec<_> = (first..first + 40)
            .map(|number| {
                let content = image(Format::Jpeg, number);
                partner.keep(&format!("{client}/{number}.jpg"), &content);
                contents.push(content);
                entry(&format!("{client}-{number}"), number, &format!("{client}/{number}.jpg"))
            })
            .collect();
        partner.keep_manifest(&format!("{client}.manifest.json"), &documents);
    }
    let mut daemon = partner.daemon();
    let mut openssh =
        partner.sftp(&[], "put openssh.manifest.json\nmkdir openssh\nput openssh/*.jpg openssh/").spawn().unwrap();
    partner.done(partner.lftp("put lftp.manifest.json && mirror --reverse --no-perms lftp lftp"));
    assert!(openssh.wait().unwrap().success());
    daemon.wait_until("the first is settled", || partner.site.is_settled("openssh.manifest.json"));
    let receipt = partner.settled(daemon, "lftp.manifest.json");
    assert_eq!(receipt["counts"]["created"], 40, "{receipt:#}");
    assert_eq!(partner.site.receipt("openssh.manifest.json")["counts"]["created"], 40);
    assert_eq!(partner.site.summary().documents, 80);
    partner.assert_sent(&contents.iter().map(Vec::as_slice).collect::<Vec<_>>());
}
