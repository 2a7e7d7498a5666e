//! Causes: which failures have one in common, and whether a person knows.
//!
//! The database counts them, by triggers; this assigns a cause to each failure, in the transaction that records it.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::{QueueError, identity, rows};
use crate::{
    cause::{CauseStatus, FailureCause},
    problem::Problem,
};

/// So many causes are kept apart; what is more is counted together.
const MOST: i64 = 200;

/// The code of a good entry of a manifest that is refused as a whole. It has no cause of its own: the manifest has.
pub(crate) const WITH_OTHERS: &str = "not-sent-with-others";

/// How its reason begins.
pub(crate) const WITH_OTHERS_IN_WORDS: &str = "not sent, because other entries of the manifest are invalid";

/// The cause of a failure, noted where it is the first of its kind.
pub(super) fn of(connection: &Connection, status: CauseStatus, problems: &[Problem]) -> Result<i64, QueueError> {
    number(connection, status, &FailureCause::of(status, problems))
}

fn number(connection: &Connection, status: CauseStatus, cause: &FailureCause) -> Result<i64, QueueError> {
    let known = |key: &str| {
        connection.prepare_cached("SELECT id FROM cause WHERE key = ?1")?.query_row([key], |row| row.get(0)).optional()
    };
    if let Some(id) = known(&cause.key)? {
        return Ok(id);
    }
    let kept: i64 = connection.prepare_cached("SELECT count(*) FROM cause")?.query_row([], |row| row.get(0))?;
    if kept < MOST || forget_one(connection)? {
        return add(connection, status, cause);
    }
    let other = FailureCause::other(status);
    known(&other.key)?.map_or_else(|| add(connection, status, &other), Ok)
}

fn add(connection: &Connection, status: CauseStatus, cause: &FailureCause) -> Result<i64, QueueError> {
    let FailureCause { key, code, title, cure } = cause;
    Ok(connection
        .prepare_cached("INSERT INTO cause (key, status, code, title, cure) VALUES (?1, ?2, ?3, ?4, ?5) RETURNING id")?
        .query_row(params![key, status.as_str(), code, title, cure], |row| row.get(0))?)
}

/// Makes room by forgetting the cause that has been without a failure for longest; returns whether there was one.
fn forget_one(connection: &Connection) -> Result<bool, QueueError> {
    let unused: Option<i64> = connection
        .prepare_cached(
            "SELECT id FROM cause
              WHERE open = 0 AND NOT EXISTS (SELECT 1 FROM job WHERE job.cause = cause.id AND job.cause IS NOT NULL)
              ORDER BY last_at LIMIT 1",
        )?
        .query_row([], |row| row.get(0))
        .optional()?;
    let Some(unused) = unused else { return Ok(false) };
    connection.prepare_cached("DELETE FROM cause_in_drop WHERE cause_id = ?1")?.execute([unused])?;
    connection.prepare_cached("DELETE FROM cause WHERE id = ?1")?.execute([unused])?;
    Ok(true)
}

/// The cause of an entry that never becomes a job, and the identity under which a later one would be created.
pub(super) fn of_invalid(
    connection: &Connection,
    reference: Option<&str>,
    problems: &[Problem],
) -> Result<(Option<i64>, Option<[u8; 32]>), QueueError> {
    if problems.iter().any(|problem| problem.code.as_deref() == Some(WITH_OTHERS)) {
        return Ok((None, None));
    }
    let identity = reference.map(|reference| identity::key_of(Some(reference), &[0; 32]));
    Ok((Some(of(connection, CauseStatus::Invalid, problems)?), identity))
}

/// Earlier batches of the same manifest whose entries are looked at when it comes again.
const EARLIER: u32 = 100;

/// Records the cause of a manifest that is refused as a whole, once its batch is complete. One that is not mends what was
/// refused of the manifest of this name before, as far as no reference says what it was.
pub(super) fn batch_sealed(
    connection: &Connection,
    batch_id: i64,
    problems: Option<&[Problem]>,
) -> Result<(), QueueError> {
    if let Some(problems) = problems {
        let cause = of(connection, CauseStatus::Rejected, problems)?;
        connection.prepare_cached("UPDATE batch SET cause = ?2 WHERE id = ?1")?.execute([batch_id, cause])?;
        return Ok(());
    }
    if !is_any_open(connection)? {
        return Ok(());
    }
    connection
        .prepare_cached(
            "UPDATE batch SET cause = NULL
              WHERE cause IS NOT NULL AND id < ?1
                AND (drop_id, manifest) = (SELECT drop_id, manifest FROM batch WHERE id = ?1)",
        )?
        .execute([batch_id])?;
    connection
        .prepare_cached(
            "UPDATE invalid_entry SET cause = NULL
              WHERE cause IS NOT NULL AND identity IS NULL
                AND batch_id IN (SELECT earlier.id FROM batch JOIN batch AS earlier
                                     ON earlier.drop_id = batch.drop_id AND earlier.manifest = batch.manifest
                                  WHERE batch.id = ?1 AND earlier.id < ?1 ORDER BY earlier.id DESC LIMIT ?2)
                AND NOT EXISTS (SELECT 1 FROM invalid_entry WHERE batch_id = ?1)",
        )?
        .execute(params![batch_id, EARLIER])?;
    Ok(())
}

/// Whether any failure is open; costs nothing while all is well.
pub(super) fn is_any_open(connection: &Connection) -> Result<bool, QueueError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM cause WHERE open > 0)";
    Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
}

/// An entry is there already, and comes without a job that would say so.
pub(super) fn mend_invalid(
    connection: &Connection,
    (drop_id, batch_id): (i64, i64),
    reference: &str,
) -> Result<(), QueueError> {
    connection
        .prepare_cached(
            "UPDATE invalid_entry SET cause = NULL
              WHERE identity = ?1 AND cause IS NOT NULL AND batch_id < ?3
                AND (SELECT drop_id FROM batch WHERE id = batch_id) = ?2",
        )?
        .execute(params![identity::key_of(Some(reference), &[0; 32]), drop_id, batch_id])?;
    Ok(())
}

/// Assigns causes to what failed under an earlier release, and was not created since.
pub(super) fn assign_all(connection: &Connection) -> Result<(), QueueError> {
    let numbers = |sql: &str| -> Result<Vec<(i64, i64)>, QueueError> {
        Ok(connection.prepare(sql)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?)
    };
    let mut known = HashMap::new();
    let mut cause = |status: CauseStatus, problems: Option<String>| -> Result<i64, QueueError> {
        let cause = FailureCause::of(status, &problems.map(|text| rows::problems(&text)).unwrap_or_default());
        if let Some(id) = known.get(&cause.key) {
            return Ok(*id);
        }
        let id = number(connection, status, &cause)?;
        known.insert(cause.key, id);
        Ok(id)
    };
    let text = |sql: &str, of: (i64, i64)| -> Result<Option<String>, QueueError> {
        Ok(connection.prepare_cached(sql)?.query_row([of.0, of.1], |row| row.get(0))?)
    };
    let failed = numbers(
        "SELECT job.id, 0 FROM job LEFT JOIN identity ON identity.drop_id = job.drop_id AND identity.key = job.identity
           LEFT JOIN job AS owner ON owner.id = identity.job_id
          WHERE job.state = 'failed'
            AND NOT coalesce(owner.state IN ('done', 'duplicate') AND owner.ended_at > job.ended_at, 0)
          ORDER BY job.id",
    )?;
    for of in failed {
        let id = cause(CauseStatus::Failed, text("SELECT problems FROM job WHERE id = ?1 + ?2", of)?)?;
        connection.prepare_cached("UPDATE job SET cause = ?2 WHERE id = ?1")?.execute([of.0, id])?;
    }
    for of in numbers("SELECT batch_id, entry_index FROM invalid_entry")? {
        assign_invalid(connection, of, &mut cause)?;
    }
    let rejected = numbers(
        "SELECT id, 0 FROM batch WHERE problems IS NOT NULL AND state <> 'admitting'
            AND NOT EXISTS (SELECT 1 FROM batch AS later
                             WHERE later.drop_id = batch.drop_id AND later.manifest = batch.manifest
                               AND later.id > batch.id AND later.problems IS NULL)",
    )?;
    for of in rejected {
        let id = cause(CauseStatus::Rejected, text("SELECT problems FROM batch WHERE id = ?1 + ?2", of)?)?;
        connection.prepare_cached("UPDATE batch SET cause = ?2 WHERE id = ?1")?.execute([of.0, id])?;
    }
    Ok(())
}

fn assign_invalid(
    connection: &Connection,
    (batch_id, index): (i64, i64),
    cause: &mut impl FnMut(CauseStatus, Option<String>) -> Result<i64, QueueError>,
) -> Result<(), QueueError> {
    let (reference, problems, drop_id, received_at): (Option<String>, String, i64, i64) = connection
        .prepare_cached(
            "SELECT reference, invalid_entry.problems, drop_id, received_at
               FROM invalid_entry JOIN batch ON batch.id = batch_id WHERE batch_id = ?1 AND entry_index = ?2",
        )?
        .query_row([batch_id, index], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    // An earlier release gave these no code.
    if rows::problems(&problems).iter().any(|problem| problem.reason.starts_with(WITH_OTHERS_IN_WORDS)) {
        return Ok(());
    }
    let key = reference.as_deref().map(|reference| identity::key_of(Some(reference), &[0; 32]));
    let is_mended: bool = connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM identity JOIN job ON job.id = job_id
                             WHERE identity.drop_id = ?1 AND key = ?2 AND state IN ('done', 'duplicate')
                               AND ended_at >= ?3)",
        )?
        .query_row(params![drop_id, key, received_at], |row| row.get(0))?;
    if !is_mended {
        let id = cause(CauseStatus::Invalid, Some(problems))?;
        connection
            .prepare_cached(
                "UPDATE invalid_entry SET cause = ?3, identity = ?4 WHERE batch_id = ?1 AND entry_index = ?2",
            )?
            .execute(params![batch_id, index, id, key])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        entry::EntryKind,
        queue::{
            acts::Caller,
            admission::Admission,
            test_support::{NOW, Site, document, execute, take},
            views::causes::CauseRow,
        },
    };

    const REFUSED: &str = "the API refused it (code 201): create_document: HTTP 404: ";

    fn causes(site: &Site) -> Vec<CauseRow> {
        site.reader().causes(1000).unwrap()
    }

    fn open(site: &Site) -> Vec<(i64, &'static str, i64)> {
        let mut open: Vec<_> =
            causes(site).iter().map(|cause| (cause.cause, cause.status.as_str(), cause.open)).collect();
        open.sort_unstable();
        open
    }

    /// What the triggers count is what there is.
    fn check(site: &Site) {
        for table in ["job", "invalid_entry", "batch"] {
            let condition = if table == "job" { "state = 'failed'" } else { "1" };
            let status = match table {
                "job" => "failed",
                "batch" => "rejected",
                _ => "invalid",
            };
            let wrong = format!(
                "SELECT count(*) FROM cause WHERE status = '{status}'
                    AND open <> (SELECT count(*) FROM {table} WHERE {table}.cause = cause.id AND {condition})"
            );
            assert_eq!(site.value(&wrong), "0", "{table}");
        }
        let sums = "SELECT count(*) FROM cause
                     WHERE open <> (SELECT coalesce(sum(open), 0) FROM cause_in_drop WHERE cause_id = cause.id)";
        assert_eq!(site.value(sums), "0");
    }

    fn invalid(index: u64, reference: Option<&str>, problem: Problem) -> Admission {
        Admission::Invalid {
            index,
            kind: EntryKind::Document,
            reference: reference.map(str::to_owned),
            profile_id: None,
            problems: vec![problem],
            paths: Vec::new(),
        }
    }

    #[test]
    fn failures_of_one_cause_are_counted_together_and_leave_when_they_are_sent_again() {
        let site = Site::new();
        site.admit("a.manifest.json", &["one", "two", "three"]);
        site.fail(site.job("one"), &format!("{REFUSED}no profile \"17\""));
        site.fail(site.job("two"), &format!("{REFUSED}No profile 'Anna'."));
        site.fail(site.job("three"), "HTTP 403");
        assert_eq!(open(&site), [(1, "failed", 2), (2, "failed", 1)]);
        let first = causes(&site).into_iter().find(|cause| cause.cause == 1).unwrap();
        assert_eq!(first.title, "create_document: HTTP 404, code 201: no profile \"17\"");
        assert_eq!((first.code.as_deref(), first.cure.as_str()), (Some("HTTP 404, code 201"), "ask the sender"));
        assert_eq!((first.first, first.last), (NOW, NOW));
        check(&site);
        site.queue.retry(site.job("one"), NOW).unwrap();
        assert_eq!(open(&site), [(1, "failed", 1), (2, "failed", 1)]);
        site.fail(site.job("one"), "HTTP 403");
        assert_eq!(open(&site), [(1, "failed", 1), (2, "failed", 2)]);
        site.queue.retry(site.job("two"), NOW).unwrap();
        site.create(site.job("two"), "doc");
        assert_eq!(open(&site), [(2, "failed", 2)]);
        check(&site);
    }

    #[test]
    fn what_a_later_manifest_creates_is_mended_and_what_contradicts_is_not() {
        let site = Site::new();
        site.admit("a.manifest.json", &["one"]);
        site.fail(site.job("one"), "HTTP 403");
        let two = |content| vec![take(document(0, "two"), content)];
        site.admit_entries("b.manifest.json", two(1));
        // It asks for something else under the reference, while the first is under way.
        site.admit_entries("c.manifest.json", two(2));
        assert_eq!(open(&site).len(), 2);
        let first = site.value("SELECT min(id) FROM job WHERE reference = 'two'").parse().unwrap();
        site.create(first, "doc-2");
        assert_eq!(open(&site).len(), 2, "what contradicts is not there");
        site.admit("d.manifest.json", &["one"]);
        assert_eq!(open(&site).len(), 2, "nothing is created yet");
        site.create(site.job("one"), "doc-1");
        assert_eq!(open(&site).iter().map(|(.., open)| open).sum::<i64>(), 1);
        check(&site);
    }

    #[test]
    fn invalid_entries_and_rejected_manifests_are_causes_until_they_come_again() {
        let site = Site::new();
        let bad = |index, reference| invalid(index, reference, Problem::error("no UUID", "write one"));
        let with_others = invalid(9, None, Problem::error("not sent", "").code(WITH_OTHERS));
        site.admit_entries("a.manifest.json", vec![bad(0, Some("one")), bad(1, None), with_others]);
        let reject = |manifest| {
            let problems = Some(vec![Problem::error("it is no JSON", "write JSON").code("not-json")]);
            site.begin(manifest).admit_whole(Vec::new(), problems, NOW).unwrap()
        };
        let rejected = reject("b.manifest.json");
        assert_eq!(open(&site), [(1, "invalid", 2), (2, "rejected", 1)]);
        check(&site);
        let examples = |of: i64| causes(&site).into_iter().find(|cause| cause.cause == of).unwrap().examples;
        assert_eq!(examples(2).iter().map(|example| example.batch).collect::<Vec<_>>(), [rejected]);
        assert_eq!(examples(1).len(), 2);

        // Under its reference in another manifest, and without one in the manifest of the same name.
        site.admit("c.manifest.json", &["one"]);
        assert_eq!(open(&site)[0], (1, "invalid", 2));
        site.create(site.job("one"), "doc");
        assert_eq!(open(&site)[0], (1, "invalid", 1));
        site.admit("a.manifest.json", &["two"]);
        assert_eq!(open(&site), [(2, "rejected", 1)]);
        reject("b.manifest.json");
        assert_eq!(open(&site), [(2, "rejected", 2)]);
        site.admit("b.manifest.json", &["three"]);
        assert_eq!(open(&site), Vec::new());
        check(&site);
    }

    #[test]
    fn seen_holds_until_it_comes_again_or_is_twice_as_many() {
        let site = Site::new();
        site.admit("a.manifest.json", &["1", "2", "3", "4"]);
        let unseen = || causes(&site)[0].is_unseen;
        let ops1 = || Caller { who: "ops1".into(), words: "seen 1".into() };
        site.fail(site.job("1"), "HTTP 403");
        site.fail(site.job("2"), "HTTP 403");
        assert!(unseen());
        let seen = site.queue.mark_seen(vec![1, 2], ops1(), NOW).unwrap();
        assert_eq!(seen, [true, false]);
        assert!(!unseen());
        assert_eq!(causes(&site)[0].seen_by.as_deref(), Some("ops1"));
        site.fail(site.job("3"), "HTTP 403");
        assert!(!unseen());
        site.fail(site.job("4"), "HTTP 403");
        assert!(unseen(), "twice as many");
        site.queue.mark_seen(vec![1], ops1(), NOW).unwrap();
        for job in ["1", "2", "3", "4"] {
            site.queue.retry(site.job(job), NOW).unwrap();
        }
        assert!(causes(&site).is_empty());
        site.fail(site.job("1"), "HTTP 403");
        assert!(unseen(), "it comes again");
    }

    #[test]
    fn causes_are_bounded_and_what_is_without_failures_makes_room() {
        let site = Site::new();
        let word = |number: u64| {
            let letter = |digit: u64| char::from(b'a' + u8::try_from(digit).unwrap());
            format!("reason {}{}", letter(number / 20), letter(number % 20))
        };
        let entries = |from: u64, to: u64| {
            (from..to)
                .map(|number| {
                    invalid(number - from, Some(&format!("r{number}")), Problem::error(word(number), "mend it"))
                })
                .collect::<Vec<_>>()
        };
        site.admit_entries("a.manifest.json", entries(0, 210));
        assert_eq!(causes(&site).len(), 201);
        let other = causes(&site).into_iter().find(|cause| cause.code.as_deref() == Some("other")).unwrap();
        assert_eq!(other.open, 10);
        check(&site);
        site.admit("b.manifest.json", &["r0"]);
        site.create(site.job("r0"), "doc");
        assert_eq!(causes(&site).len(), 200);
        site.admit_entries("c.manifest.json", entries(300, 301));
        assert!(causes(&site).iter().any(|cause| cause.title == word(300)));
        check(&site);
    }

    #[test]
    fn what_failed_under_an_earlier_release_has_its_cause_afterwards() {
        let site = Site::new();
        site.admit("a.manifest.json", &["one", "two", "three"]);
        for job in ["one", "two", "three"] {
            site.fail(site.job(job), &format!("{REFUSED}no profile {job}17"));
        }
        let bad = invalid(0, Some("bad"), Problem::error("no UUID", "write one"));
        site.admit_entries("b.manifest.json", vec![bad]);
        let problems = Some(vec![Problem::error("it is no JSON", "write JSON")]);
        site.begin("c.manifest.json").admit_whole(Vec::new(), problems, NOW).unwrap();
        site.admit("d.manifest.json", &["three"]);
        site.create(site.job("three"), "doc");
        let before = open(&site);
        assert_eq!(before.len(), 3);
        for table in ["job", "invalid_entry", "batch"] {
            execute(&site.queue, &format!("UPDATE {table} SET cause = NULL"));
        }
        execute(&site.queue, "DELETE FROM cause");
        execute(&site.queue, "DELETE FROM cause_in_drop");
        execute(&site.queue, "UPDATE job SET ended_at = ended_at + 1 WHERE state = 'done'");
        let beside = Connection::open(site.queue.path()).unwrap();
        assign_all(&beside).unwrap();
        let of = |open: Vec<(i64, &'static str, i64)>| {
            open.into_iter().map(|(_, status, n)| (status, n)).collect::<Vec<_>>()
        };
        assert_eq!(of(open(&site)), of(before));
        check(&site);
    }
}
