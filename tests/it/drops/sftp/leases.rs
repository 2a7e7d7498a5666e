//! Senders that pause with a file open: their processes are another account's, so `/proc` does not show them to the worker,
//! and only the kernel knows.

use std::{
    fs,
    io::Write,
    process::{Child, Command, Stdio},
};

use super::{MANIFEST, PARTNER, Partnership, WORKER};
use crate::support::{Format, entry, image, wait_until};

const OUT_OF_SIGHT: &str = "still open for writing, by a process that this user cannot see";

/// A process of the partner's account that writes to a file in the drop, and has it open until it is let go.
struct Sender {
    child: Child,
    file: String,
    bytes: u64,
}

impl Sender {
    fn begin(partner: &Partnership, file: &str) -> Self {
        let path = partner.jail.path().join("incoming").join(file).display().to_string();
        let child = Command::new("setpriv")
            .args(["--reuid", PARTNER, "--regid", PARTNER, "--init-groups", "--"])
            .args(["sh", "-c", "umask 007; exec cat >>\"$0\"", &path])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child, file: path, bytes: 0 }
    }

    fn write(&mut self, content: &[u8]) {
        self.child.stdin.as_mut().unwrap().write_all(content).unwrap();
        self.bytes += u64::try_from(content.len()).unwrap();
        wait_until("it has written", || fs::metadata(&self.file).is_ok_and(|file| file.len() == self.bytes));
    }

    /// Fails where the worker's account could see what this process has open.
    fn assert_out_of_sight(&self) {
        let seen = Command::new("setpriv")
            .args(["--reuid", WORKER, "--regid", WORKER, "--init-groups", "--"])
            .args(["ls", &format!("/proc/{}/fd", self.child.id())])
            .stderr(Stdio::null())
            .output()
            .unwrap();
        assert!(!seen.status.success() && seen.stdout.is_empty(), "{seen:?}");
    }

    fn close(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

#[test]
#[ignore = "needs root, sshd and sftp: `.ci/run` asks for it"]
fn an_image_that_a_sender_out_of_sight_holds_open_is_not_taken() {
    for at_start in [true, false] {
        let partner = Partnership::new();
        let front = image(Format::Jpeg, 1);
        partner.keep_manifest(MANIFEST, &[entry("held", 1, "front.jpg")]);
        let early = (!at_start).then(|| partner.daemon());
        let mut sender = Sender::begin(&partner, "front.jpg");
        // It is whole, and lies still: nothing else speaks against it.
        sender.write(&front);
        sender.assert_out_of_sight();
        partner.done(partner.sftp(&[], &format!("put {MANIFEST}")));
        let mut daemon = early.unwrap_or_else(|| partner.daemon());
        partner.wait_until_why_says(&mut daemon, MANIFEST, OUT_OF_SIGHT);
        assert!(partner.site.ledger().is_empty(), "nothing of it is sent");
        sender.close();
        let receipt = partner.settled(daemon, MANIFEST);
        assert_eq!(receipt["status"], "done", "{receipt:#}");
        partner.assert_sent(&[&front]);
    }
}

#[test]
#[ignore = "needs root, sshd and sftp: `.ci/run` asks for it"]
fn a_manifest_of_lines_is_not_taken_as_complete_while_its_sender_pauses() {
    let partner = Partnership::new();
    let (front, back) = (image(Format::Jpeg, 1), image(Format::Jpeg, 2));
    partner.keep("front.jpg", &front);
    partner.keep("back.jpg", &back);
    partner.done(partner.sftp(&[], "put front.jpg\nput back.jpg"));
    let mut daemon = partner.daemon();
    let manifest = "batch.manifest.jsonl";
    let mut sender = Sender::begin(&partner, manifest);
    sender.write(format!("{}\n", entry("front", 1, "front.jpg")).as_bytes());
    sender.assert_out_of_sight();
    partner.wait_until_why_says(&mut daemon, manifest, OUT_OF_SIGHT);
    assert!(partner.site.ledger().is_empty(), "its first line is not all of it");
    sender.write(format!("{}\n", entry("back", 2, "back.jpg")).as_bytes());
    sender.close();
    let receipt = partner.settled(daemon, manifest);
    assert_eq!(receipt["counts"]["created"], 2, "{receipt:#}");
    partner.assert_sent(&[&front, &back]);
}
