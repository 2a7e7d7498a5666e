//! README's section "Backup and restore", each command of it as it is written there.

use std::{fs, process::Command};

use crate::support::{Builder, Daemon, Format, Site, assert_sent_once_or_lost, entry, image};

/// The commands in that section's block number `number`, without their comments.
fn commands(number: usize) -> Vec<String> {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let section = readme.split("\n## ").find(|section| section.starts_with("Backup and restore\n")).unwrap();
    let block = section.split("```sh\n").nth(number).unwrap().split("```").next().unwrap();
    block.lines().map(|line| line.split("  #").next().unwrap().trim().to_owned()).collect()
}

/// A host with a worker that systemd starts.
struct Host {
    site: Site,
    worker: Option<Daemon>,
}

impl Host {
    /// One whose worker has created three documents.
    fn new() -> Self {
        let site = Builder { retry: "max = '500ms'".to_owned(), ..Builder::default() }.build();
        let worker = Some(site.daemon());
        let mut host = Self { site, worker };
        host.site.put_batch("early.manifest.json", 3);
        host.wait_for_receipts("early.manifest.json", 1);
        host
    }

    fn wait_for_receipts(&mut self, manifest: &str, count: usize) {
        let site = &self.site;
        let worker = self.worker.as_mut().expect("the worker was started");
        worker.wait_until("its receipt is there", || {
            site.receipt_paths(manifest).len() == count && !site.in_drop(manifest).exists()
        });
    }

    fn drop_later_ones(&self) {
        self.site.put("later.png", image(Format::Png, 7));
        self.site.put("other.png", image(Format::Png, 8));
        let documents = [entry("later", 7, "later.png"), entry("other", 8, "other.png")];
        self.site.put_documents("later.manifest.json", &documents);
    }

    /// Follows these commands; before `adopt` the database is refused.
    fn follow(&mut self, commands: &[String]) {
        for line in commands {
            if line.contains("adopt") {
                assert!(self.worker.is_none());
                self.site.run(&["run", "--once"]).expect(2).says("`adopt");
                self.site.run(&["status"]).expect(0).says("REFUSED");
            }
            match line.as_str() {
                "sudo systemctl stop passfort-ingest" => {
                    if let Some(worker) = self.worker.take() {
                        worker.terminate().expect(0);
                    }
                }
                "sudo systemctl start passfort-ingest" => self.worker = Some(self.site.daemon()),
                line => self.execute(line),
            }
        }
    }

    /// Everything is this test's own user's, so nobody has to become another one.
    fn execute(&self, line: &str) {
        let here = |path: &str| self.site.at(path).display().to_string();
        let line = line
            .replace("/var/backups/passfort-ingest", &here("backups"))
            .replace("/var/lib/passfort-ingest", &here("state"))
            .replace("/etc/passfort-ingest/config.toml", &here("config.toml"))
            .replace("/srv/queue", &here("moved"))
            .replace(" -o passfort-ingest ", " ");
        if let Some((unit, arguments)) = line.split_once(" passfort-ingest adopt")
            && unit.starts_with("sudo systemd-run ")
        {
            assert!(unit.contains(" --uid=passfort-ingest -p LoadCredential=api-key:"), "{line}");
            let arguments: Vec<&str> = ["adopt"].into_iter().chain(arguments.split_whitespace()).collect();
            self.site.run(&arguments).expect(0);
            return;
        }
        if let Some(arguments) = line.strip_prefix("sudo -u passfort-ingest passfort-ingest ") {
            let mut command = self.site.command(&arguments.split_whitespace().collect::<Vec<_>>());
            // Only the unit is given the key.
            command.env_remove("PASSFORT_API_KEY");
            self.site.finish(command).expect(0);
            return;
        }
        let plain = line.strip_prefix("sudo -u passfort-ingest ").or_else(|| line.strip_prefix("sudo ")).unwrap();
        assert!(Command::new("sh").args(["-c", plain]).status().unwrap().success(), "{line}");
    }

    /// What was dropped before is dropped again, and something else.
    #[track_caller]
    fn assert_nothing_doubles(mut self) {
        self.site.put_batch("early.manifest.json", 3);
        self.drop_later_ones();
        for manifest in ["early.manifest.json", "later.manifest.json"] {
            self.wait_for_receipts(manifest, 2);
        }
        assert_eq!((self.site.summary().documents, self.site.summary().images), (5, 5));
        assert_sent_once_or_lost(&self.site.ledger());
        self.site.put("new.png", image(Format::Png, 9));
        self.site.put_documents("new.manifest.json", &[entry("new", 9, "new.png")]);
        self.wait_for_receipts("new.manifest.json", 1);
        assert_eq!(self.site.documents().len(), 6);
        self.site.run(&["verify"]).expect(0);
        self.worker.unwrap().terminate().expect(0);
    }
}

#[test]
fn a_backup_is_restored_and_nothing_doubles() {
    let mut host = Host::new();
    host.follow(&commands(1));
    host.drop_later_ones();
    host.wait_for_receipts("later.manifest.json", 1);
    host.follow(&commands(2));
    host.assert_nothing_doubles();
}

#[test]
fn the_database_is_lost_or_damaged_and_nothing_doubles() {
    for is_gone in [true, false] {
        let mut host = Host::new();
        host.drop_later_ones();
        host.wait_for_receipts("later.manifest.json", 1);
        host.worker.take().unwrap().terminate().expect(0);
        if is_gone {
            fs::remove_dir_all(host.site.at("state")).unwrap();
            fs::create_dir(host.site.at("state")).unwrap();
        } else {
            host.site.write("state/queue.db", "no database");
        }
        let lines: Vec<_> = commands(2).into_iter().filter(|line| !line.contains(" cp ")).collect();
        assert_eq!(lines.len() + 1, commands(2).len());
        host.follow(&lines);
        host.assert_nothing_doubles();
    }
}

#[test]
fn the_database_is_moved_on_purpose_and_nothing_doubles() {
    let mut host = Host::new();
    host.drop_later_ones();
    host.wait_for_receipts("later.manifest.json", 1);
    fs::create_dir(host.site.at("moved")).unwrap();
    // To another file system, `mv` copies and removes; within one, the database is still the same file, and not refused.
    let copying = |line: String| match line.replace(" -exec mv -t ", " -type f -exec cp -t ") {
        copied if copied == line => vec![line],
        copied => vec![copied, "sudo find /var/lib/passfort-ingest -maxdepth 1 -name 'queue.db*' -delete".to_owned()],
    };
    host.follow(&commands(3).into_iter().flat_map(copying).collect::<Vec<_>>());
    assert!(host.site.at("moved/queue.db").exists() && !host.site.at("state/queue.db").exists());
    host.assert_nothing_doubles();
}
