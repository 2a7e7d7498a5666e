//! What a partner's permissions forbid is found out before anything is sent, and the README's recipe forbids nothing.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use super::{MANIFEST, PARTNER, Partnership, WORKER, large, sure};
use crate::support::entry;

/// The partner sends an image in a folder of its own, and a manifest that names it.
fn send(partner: &Partnership) -> Vec<u8> {
    let front = large(7);
    partner.keep("front.pdf", &front);
    partner.keep_manifest(MANIFEST, &[entry("front", 1, "17/front.pdf")]);
    partner.done(partner.sftp(&[], &format!("mkdir 17\nput front.pdf 17/front.pdf\nput {MANIFEST}")));
    front
}

fn incoming(partner: &Partnership) -> PathBuf {
    partner.jail.path().join("incoming")
}

/// With the server's own umask, 022, the document was created, then "Permission denied" at the archive, for ever.
#[test]
#[ignore = "needs root, sshd and sftp: `.ci/run` asks for it"]
fn openssh_with_umask_022_nothing_is_created_before_it_can_be_put_away() {
    for cure in ["chmod", "setfacl"] {
        let partner = Partnership::with("internal-sftp -u 0022", "");
        let mut daemon = partner.daemon();
        let front = send(&partner);
        partner.wait_until_why_says(&mut daemon, MANIFEST, "cannot be moved away");
        partner.wait_until_why_says(&mut daemon, MANIFEST, "umask 007");
        assert!(partner.site.ledger().is_empty(), "nothing is sent that cannot be put away");
        assert!(partner.site.left().contains(&"17/front.pdf".to_owned()));

        let folder = incoming(&partner).join("17");
        match cure {
            "chmod" => drop(sure("chmod", &["g+w", folder.to_str().unwrap()])),
            _ => drop(sure("setfacl", &["-R", "-m", &format!("u:{WORKER}:rwX"), folder.to_str().unwrap()])),
        }
        let receipt = partner.settled(daemon, MANIFEST);
        assert_eq!(receipt["status"], "done", "{receipt:#}");
        partner.assert_sent(&[&front]);
        assert!(!folder.join("front.pdf").exists(), "it was put away");
    }
}

/// The same where the drop itself is the partner's alone: its ground is bad, and `status` says so.
#[test]
#[ignore = "needs root, sshd and sftp: `.ci/run` asks for it"]
fn openssh_a_drop_that_the_worker_may_not_write_to_is_bad_ground_until_it_may() {
    let partner = Partnership::new();
    fs::set_permissions(incoming(&partner), fs::Permissions::from_mode(0o2755)).unwrap();
    let mut daemon = partner.daemon();
    let front = send(&partner);
    let ground = || partner.site.status()["queue"]["drops"][0]["ground"].to_string();
    daemon.wait_until("its ground is bad", || ground().contains("ermission denied"));
    partner.wait_until_why_says(&mut daemon, MANIFEST, "ground is bad");
    assert!(partner.site.ledger().is_empty());
    fs::set_permissions(incoming(&partner), fs::Permissions::from_mode(0o2770)).unwrap();
    let receipt = partner.settled(daemon, MANIFEST);
    assert_eq!(receipt["status"], "done", "{receipt:#}");
    partner.assert_sent(&[&front]);
}

/// As the README says, by umask and group, and by a default ACL with the server's own umask.
#[test]
#[ignore = "needs root, sshd and sftp: `.ci/run` asks for it"]
fn openssh_the_recipe_of_the_readme() {
    let folders = "work_dir = 'JAIL/ingest/work'\ndone_dir = 'JAIL/ingest/done'\nfailed_dir = 'JAIL/ingest/failed'";
    for acl in [false, true] {
        let server = if acl { "internal-sftp" } else { "internal-sftp -u 0007" };
        let partner = Partnership::with(server, folders);
        if acl {
            let incoming = incoming(&partner);
            let incoming = incoming.to_str().unwrap();
            sure("chown", &[&format!("{PARTNER}:root"), incoming]);
            sure("setfacl", &["-m", &format!("u:{WORKER}:rwx"), incoming]);
            let rights = format!("u:{WORKER}:rwx,u:{PARTNER}:rwx");
            sure("setfacl", &["-d", "-m", &rights, incoming]);
        }
        let daemon = partner.daemon();
        let front = send(&partner);
        let receipt = partner.settled(daemon, MANIFEST);
        assert_eq!(receipt["status"], "done", "{receipt:#}");
        partner.assert_sent(&[&front]);
        let done: Vec<_> = fs::read_dir(partner.jail.path().join("ingest/done")).unwrap().flatten().collect();
        let date = done.first().unwrap().path();
        assert!(date.join("17/front.pdf").exists() && date.join(MANIFEST).exists(), "{}", date.display());
        // The partner reads the receipt, and finds nothing of the worker's to rename.
        partner.done(partner.sftp(&[], &format!("get receipts/{MANIFEST}.receipt.json")));
        let listing = partner.sftp(&[], "rename ../ingest ../other").output().unwrap();
        assert!(!listing.status.success());
    }
}
