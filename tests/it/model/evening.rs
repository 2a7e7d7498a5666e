//! The evening of a day: all faults end, what is missing is brought, and everything is settled.

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{day::Day, history::named, world::World};
use crate::support::{Daemon, wait_until};

/// So often everything that is missing is brought in the evening, and everything that is held released.
const ROUNDS: u32 = 14;

/// After so many rounds, manifests are no longer waited with that cannot get a file of their own.
const PATIENT_ROUNDS: u32 = 8;

/// Far longer than it takes to settle what is left.
const LONGEST_RUN: Duration = Duration::from_secs(45);

/// The evening.
impl Day {
    pub(super) fn evening(&mut self) {
        self.note("evening");
        if let Some(daemon) = self.daemon.take() {
            self.ended(daemon.terminate());
        }
        self.set_faults(&[]);
        self.command(&["resume"]);
        for round in 0..ROUNDS {
            if round == PATIENT_ROUNDS {
                self.lose_patience();
            }
            if !self.world_lasts(round) {
                self.end_world();
                self.set_faults(&[]);
            }
            self.bring_all(round);
            self.site.wait_until_settled();
            // Nothing sleeps for longer where the API works again.
            let patience = if self.policy.world == World::Plain { "30s" } else { "8s" };
            let command = self.command_of(&["run", "--once", "--give-up-after", patience]);
            let mut last = Daemon::start(command, &self.site.at("log"));
            let began = Instant::now();
            while last.is_alive() {
                if began.elapsed() > LONGEST_RUN {
                    self.give_up(&last.log());
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            match self.ended(last.finish()) {
                // What has an ID beside an error may have failed at first.
                Some(0 | 1) if self.policy.world == World::Ids && !self.world_rules.is_empty() => {
                    self.end_world();
                    self.set_faults(&[]);
                    self.command(&["retry", "--all"]);
                }
                Some(0 | 1) => {
                    self.end_world();
                    return self.look_for_manifests();
                }
                _ => self.release_held(),
            }
        }
        self.give_up("");
    }

    /// Whatever has not got its own file by now never will, because nobody knows whose the next one is.
    fn lose_patience(&mut self) {
        self.note("no longer waits");
        self.look_for_manifests();
        for (at, manifest) in self.manifests.iter().enumerate() {
            let has_reason =
                self.history.is_contended(&self.manifests, at) || self.history.is_disturbed(&self.manifests, at);
            if !self.history.stays[at].is_over() && !has_reason {
                let why = self.site.run(&["why", &manifest.path]).said();
                panic!("{} waits in vain for files that are there: {why}\n{}", manifest.path, self.diary.join("\n"));
            }
        }
        self.history.impatient = true;
        self.site.configure_drop("incomplete_after = '1s'");
    }

    fn give_up(&mut self, log: &str) {
        let status = self.run(&["status"]).said();
        let (left, diary) = (self.site.left(), self.diary.join("\n"));
        panic!("not everything was settled in the evening:\n{status}\nleft: {left:#?}\n{diary}\n{log}");
    }

    /// Brings whatever a manifest still waits for; where several wait for one path, the first gets it.
    fn bring_all(&mut self, round: u32) {
        self.bring_late();
        self.look_for_manifests();
        let mut brought = BTreeSet::new();
        let waiting: Vec<usize> = (0..self.manifests.len()).filter(|at| !self.history.stays[*at].is_over()).collect();
        for at in waiting {
            let manifest = self.manifests[at].clone();
            for (file, _, scan) in named(&manifest) {
                if !brought.insert(file.clone()) {
                    continue;
                }
                let lies = fs::read(self.site.in_drop(&file)).ok();
                let is_bound = scan.declares || !scan.reuses;
                let is_right = match &lies {
                    None => false,
                    Some(lies) if scan.declares => *lies == scan.content,
                    Some(_) => !scan.reuses || round == 0,
                };
                if !is_right {
                    let content = if is_bound { scan.content.clone() } else { self.picture() };
                    self.put(&file, &content);
                }
            }
        }
    }

    /// The document at the API that has a job's images, as a person finds it in the portal.
    fn standing(&self, job: &str) -> Option<String> {
        let database = rusqlite::Connection::open(self.site.at("state/queue.db")).unwrap();
        let (profile, category): (String, String) = database
            .query_row("SELECT profile_id, category FROM job WHERE id = ?1", [job], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .unwrap();
        let mut rows =
            database.prepare("SELECT lower(hex(sha256)) FROM upload WHERE job_id = ?1 ORDER BY position").unwrap();
        let digests: Vec<String> = rows.query_map([job], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        let is_taken = |id: &str| {
            let count = "SELECT count(*) FROM job WHERE remote_id = ?1";
            database.query_row(count, [id], |row| row.get::<_, u32>(0)).unwrap() > 0
        };
        let documents = self.site.documents().into_iter().filter(|document| {
            document.profile == profile
                && document.category == category
                && document.images.iter().map(|image| &image.sha256).eq(&digests)
        });
        documents.map(|document| document.id).find(|id| !is_taken(id))
    }

    fn release_held(&mut self) {
        wait_until("late deeds are done", || self.site.summary().deferred == 0);
        let held = self.run(&["jobs", "--state", "held", "--json"]).expect(0).stdout;
        let held: Value = serde_json::from_str(&held).unwrap();
        for job in held.as_array().unwrap() {
            let id = job["id"].to_string();
            self.note(format!("held {} {id}: {}", job["kind"].as_str().unwrap_or_default(), job["reason"]));
            let stands = if job["kind"] == "document" { self.standing(&id) } else { None };
            if job["kind"] == "document" {
                let is_doubtful = !matches!(self.policy.world, World::Plain | World::Gateway | World::Quotes);
                // Until a first document is known to be there, no list proves anything.
                let is_first =
                    job["reason"].as_str().is_some_and(|reason| reason.contains("knows no document of this"));
                assert!(is_doubtful || is_first, "only a lost file is left to a person: {job}");
            }
            match stands {
                Some(document) => {
                    self.note("released as created");
                    self.run(&["release", &id, "--as-created", &document]).expect(0)
                }
                None => {
                    self.note("released to be sent again");
                    self.run(&["release", &id, "--send-again"]).expect(0)
                }
            };
        }
    }
}
