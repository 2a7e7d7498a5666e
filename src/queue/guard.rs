//! The trigger that refuses what [`JobState::after`] refuses, a running job without a holder, and a created job that is sent
//! on without being read back first: against writes of another program, and against defects of this one.
//!
//! It is generated from the table of transitions, and compared whenever the queue is opened for writing, so that a release
//! that changes the table changes the trigger with it.

use rusqlite::{Connection, OptionalExtension};

use super::QueueError;
use crate::job::{JobEvent, JobState};

const TRIGGER: &str = "job_transition";

/// Plain comparisons: a list after `IN` is built again each time that a trigger runs.
fn trigger() -> String {
    let is_legal = |from: JobState, to: JobState| JobEvent::ALL.into_iter().any(|event| from.after(event) == Ok(to));
    let legal = JobState::ALL.into_iter().filter_map(|from| {
        let to: Vec<String> = JobState::ALL
            .into_iter()
            .filter(|to| is_legal(from, *to))
            .map(|to| format!("new.state = '{to}'"))
            .collect();
        (!to.is_empty()).then(|| format!("old.state = '{from}' AND ({})", to.join(" OR ")))
    });
    let legal = legal.collect::<Vec<_>>().join("\n    OR ");
    format!(
        "CREATE TRIGGER {TRIGGER} BEFORE UPDATE OF state, holder ON job
WHEN (old.state <> new.state AND NOT (
       {legal}))
  OR (new.state = 'running') <> (new.holder IS NOT NULL)
  OR (old.state = 'done' AND new.state = 'queued' AND new.creation <> 'unknown')
BEGIN
    SELECT RAISE(ABORT, 'a job cannot change its state like this');
END"
    )
}

/// Whether the database has the trigger of this release.
pub(super) fn is_current(connection: &Connection) -> Result<bool, QueueError> {
    let found: Option<String> = connection
        .query_row("SELECT sql FROM sqlite_schema WHERE type = 'trigger' AND name = ?1", [TRIGGER], |row| row.get(0))
        .optional()?;
    Ok(found == Some(trigger()))
}

/// Brings the trigger up to date. It is not part of the migrations, which are never edited.
pub(super) fn install(connection: &Connection) -> Result<(), QueueError> {
    Ok(connection.execute_batch(&format!("DROP TRIGGER IF EXISTS {TRIGGER}; {}", trigger()))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::test_support::Site;

    /// What a row needs besides its state to satisfy the CHECKs of the schema.
    fn row_in(state: JobState) -> String {
        let holder = if state == JobState::Running { "'somebody'" } else { "NULL" };
        let waits = if state == JobState::Waiting { "'retry'" } else { "NULL" };
        let ended_at = if state.has_ended() { "1" } else { "NULL" };
        format!("state = '{state}', holder = {holder}, waits = {waits}, ended_at = {ended_at}, remote_id = 'some'")
    }

    #[test]
    fn the_database_allows_exactly_the_transitions_of_the_table() {
        let site = Site::new();
        site.admit("a.manifest.json", &["one"]);
        let connection = Connection::open(site.queue.path()).unwrap();
        for from in JobState::ALL {
            for to in JobState::ALL {
                connection.execute_batch(&format!("BEGIN; DROP TRIGGER {TRIGGER}")).unwrap();
                connection.execute(&format!("UPDATE job SET {}, creation = 'unknown'", row_in(from)), []).unwrap();
                install(&connection).unwrap();
                let changed = connection.execute(&format!("UPDATE job SET {}", row_in(to)), []);
                let legal = from == to || JobEvent::ALL.into_iter().any(|event| from.after(event) == Ok(to));
                assert_eq!(changed.is_ok(), legal, "{from} to {to}: {changed:?}");
                connection.execute_batch("ROLLBACK").unwrap();
            }
        }
    }

    #[test]
    fn a_created_job_cannot_be_queued_again_by_sql() {
        let site = Site::new();
        site.admit("a.manifest.json", &["one"]);
        site.create(site.job("one"), "doc-1");
        let connection = Connection::open(site.queue.path()).unwrap();
        let changed = connection.execute("UPDATE job SET state = 'queued', ended_at = NULL", []);
        assert!(changed.unwrap_err().to_string().contains("cannot change its state"));
        assert_eq!(site.state(site.job("one")), JobState::Done);
        let read_back = "UPDATE job SET state = 'queued', ended_at = NULL, creation = 'unknown'";
        assert_eq!(connection.execute(read_back, []), Ok(1));
    }

    #[test]
    fn a_job_is_running_if_and_only_if_it_has_a_holder() {
        let site = Site::new();
        site.admit("a.manifest.json", &["one"]);
        let connection = Connection::open(site.queue.path()).unwrap();
        assert!(connection.execute("UPDATE job SET state = 'running'", []).is_err());
        assert!(connection.execute("UPDATE job SET holder = 'somebody'", []).is_err());
        site.claim(site.job("one"));
        assert!(connection.execute("UPDATE job SET holder = NULL", []).is_err());
        assert_ne!(site.value("SELECT holder FROM job"), "Null");
    }
}
