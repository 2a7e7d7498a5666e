//! Which jobs a question is about.

use rusqlite::ToSql;

use crate::{clock::Timestamp, job::JobState};

/// Which jobs are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// These job numbers; empty for any.
    pub ids: Vec<i64>,
    /// In one of these states; empty for any.
    pub states: Vec<JobState>,
    pub drop: Option<String>,
    /// For this profile, in any letter case.
    pub profile: Option<String>,
    pub reference: Option<String>,
    /// Of a manifest whose path equals this, or ends in it after a slash.
    pub manifest: Option<String>,
    /// Whose reason or problems contain this text.
    pub error: Option<String>,
    /// Of this cause.
    pub cause: Option<i64>,
    /// Made, or ended, since then.
    pub since: Option<Timestamp>,
    /// The newest, at most this many.
    pub limit: Option<u32>,
}

impl Filter {
    /// Whether it names anything at all, so that it does not mean every job there is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self { limit: self.limit, ..Self::default() }
    }

    pub(super) fn conditions(&self) -> Conditions {
        let mut conditions = Conditions::default();
        if let [state] = self.states.as_slice() {
            // Written out, because the indexes are over jobs in one state, and a bound value could be any.
            conditions.text.push_str(&format!(" AND job.state = '{state}'"));
        }
        let mut add = |condition: &str, value: Box<dyn ToSql>| conditions.add(condition, value);
        if !self.ids.is_empty() {
            let list = serde_json::to_string(&self.ids).unwrap_or_default();
            add("job.id IN (SELECT value FROM json_each(?))", Box::new(list));
        }
        if self.states.len() > 1 {
            let words: Vec<_> = self.states.iter().map(|state| state.as_str()).collect();
            let list = serde_json::to_string(&words).unwrap_or_default();
            add("job.state IN (SELECT value FROM json_each(?))", Box::new(list));
        }
        if let Some(drop) = &self.drop {
            add("drop_folder.name = ?", Box::new(drop.clone()));
        }
        if let Some(profile) = &self.profile {
            add("job.profile_id = ?", Box::new(profile.to_lowercase()));
        }
        if let Some(reference) = &self.reference {
            add("job.reference = ?", Box::new(reference.clone()));
        }
        if let Some(manifest) = &self.manifest {
            add(PATH_ENDS, Box::new(manifest.trim_start_matches('/').to_owned()));
        }
        if let Some(error) = &self.error {
            add(
                "instr(lower(coalesce(job.reason, '') || coalesce(job.problems, '')), lower(?)) > 0",
                Box::new(error.clone()),
            );
        }
        if let Some(cause) = self.cause {
            add("job.cause = ?", Box::new(cause));
        }
        if let Some(since) = self.since {
            add("max(job.created_at, coalesce(job.ended_at, 0)) >= ?", Box::new(since.0));
        }
        conditions
    }

    /// What of the filter is about jobs, as a condition over `job`, `batch` and `drop_folder`, and the values that it names.
    pub(in crate::queue) fn job_conditions(&self) -> (String, Vec<Box<dyn ToSql>>) {
        let conditions = self.conditions();
        (conditions.text, conditions.values)
    }

    /// What of the filter is about manifests that are rejected as a whole, and the values that it names. One about a profile
    /// or a reference means none.
    pub(in crate::queue) fn rejected_conditions(&self) -> (String, Vec<Box<dyn ToSql>>) {
        let mut conditions = Conditions::default();
        conditions.text.push_str(" AND batch.problems IS NOT NULL AND batch.state <> 'admitting'");
        if self.profile.is_some() || self.reference.is_some() {
            conditions.text.push_str(" AND 0");
        }
        let mut add = |condition: &str, value: Box<dyn ToSql>| conditions.add(condition, value);
        if let Some(drop) = &self.drop {
            add("drop_folder.name = ?", Box::new(drop.clone()));
        }
        if let Some(manifest) = &self.manifest {
            add(PATH_ENDS, Box::new(manifest.trim_start_matches('/').to_owned()));
        }
        if let Some(error) = &self.error {
            add("instr(lower(batch.problems), lower(?)) > 0", Box::new(error.clone()));
        }
        if let Some(cause) = self.cause {
            add("batch.cause = ?", Box::new(cause));
        }
        if let Some(since) = self.since {
            add("batch.received_at >= ?", Box::new(since.0));
        }
        (conditions.text, conditions.values)
    }

    /// What of the filter is about entries that never became jobs, and the values that it names.
    pub(in crate::queue) fn invalid_conditions(&self) -> (String, Vec<Box<dyn ToSql>>) {
        let mut conditions = Conditions::default();
        let mut add = |condition: &str, value: Box<dyn ToSql>| conditions.add(condition, value);
        if let Some(drop) = &self.drop {
            add("drop_folder.name = ?", Box::new(drop.clone()));
        }
        if let Some(profile) = &self.profile {
            add("lower(invalid_entry.profile_id) = ?", Box::new(profile.to_lowercase()));
        }
        if let Some(reference) = &self.reference {
            add("invalid_entry.reference = ?", Box::new(reference.clone()));
        }
        if let Some(manifest) = &self.manifest {
            add(PATH_ENDS, Box::new(manifest.trim_start_matches('/').to_owned()));
        }
        if let Some(error) = &self.error {
            add("instr(lower(invalid_entry.problems), lower(?)) > 0", Box::new(error.clone()));
        }
        if let Some(cause) = self.cause {
            add("invalid_entry.cause = ?", Box::new(cause));
        }
        if let Some(since) = self.since {
            add("batch.received_at >= ?", Box::new(since.0));
        }
        (conditions.text, conditions.values)
    }
}

/// Whether a manifest's path is this one, or ends in it after a slash.
const PATH_ENDS: &str = "substr('/' || batch.root || '/' || batch.manifest, -length(?) - 1) = '/' || ?";

/// What a query asks for, and the values that it names.
pub(super) struct Conditions {
    pub(super) text: String,
    pub(super) values: Vec<Box<dyn ToSql>>,
}

impl Default for Conditions {
    fn default() -> Self {
        Self { text: String::from("1"), values: Vec::new() }
    }
}

impl Conditions {
    /// Adds a condition; every `?` in it is bound to the one value.
    pub(super) fn add(&mut self, condition: &str, value: Box<dyn ToSql>) {
        self.values.push(value);
        self.text.push_str(" AND ");
        self.text.push_str(&condition.replace('?', &format!("?{}", self.values.len())));
    }
}
