//! Which account each drop is worked on with, and which created what.
//!
//! An account is named by a digest of its address and of what `whoami` says, so that a renewed key is the same
//! account. Until that is known it is named by its scope, `account:` and the address. What one account created
//! says nothing of another: a test key's documents are not those of the live one.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};
use sha2::Digest as _;

use super::{Queue, QueueError, rows};

/// How a drop is worked on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropAccount {
    /// The drop's name.
    pub drop: String,
    /// Under which the account is paused.
    pub scope: String,
    /// The API's address, without a password.
    pub base_url: String,
    /// The digest of the key.
    pub key: [u8; 32],
}

/// A drop that is worked on with another account than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountSwitch {
    /// The drop's name.
    pub drop: String,
    /// What the former account created, which does not count any more.
    pub created: u64,
    /// Jobs for which it is not known whether the former account created something.
    pub in_doubt: u64,
}

/// What is known of the accounts of drops.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccountNews {
    /// Drops whose account is another one than before.
    pub changes: Vec<AccountSwitch>,
    /// The name of each drop's account, where it is known.
    pub names: HashMap<String, String>,
    /// Whose account nobody has asked for yet.
    pub unknown: Vec<DropAccount>,
    /// Those of them whose key is another one than before: only the API knows whether the account is the same.
    pub must_ask: Vec<DropAccount>,
}

/// What a drop's account is to the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    /// The same, under this name from now on.
    Same(String),
    /// Another one.
    Changed(String),
    /// Only the API knows.
    Ask,
}

/// Compares the account of a drop with the former one; `named` is what the API said of this key, and `former_is_here` whether
/// the former account has the same address.
fn standing(former: Option<&str>, now: &DropAccount, named: Option<&str>, former_is_here: bool) -> Standing {
    let name = named.unwrap_or(&now.scope).to_owned();
    match (former, named) {
        (None, _) => Standing::Same(name),
        (Some(former), Some(named)) if former == named => Standing::Same(name),
        (Some(former), _) => match former.strip_prefix(PROVISIONAL) {
            Some(address) if address.split(" (key ").next() == Some(&*now.base_url) => Standing::Same(name),
            None if named.is_none() && former_is_here => Standing::Ask,
            _ => Standing::Changed(name),
        },
    }
}

/// How the name of an account begins that the API was not asked for.
const PROVISIONAL: &str = "account:";

/// The name of an account in receipts, where it is known.
pub(super) const NAMED: &str = "CASE WHEN drop_folder.account NOT LIKE 'account:%' THEN drop_folder.account END";

/// That a job belongs to the account that its drop is worked on with.
pub(super) const IS_OURS: &str = "(job.account IS NULL OR job.account IS drop_folder.account)";

impl Queue {
    /// Notes which account each drop is worked on with.
    pub(crate) async fn note_accounts(&self, drops: Vec<DropAccount>) -> Result<AccountNews, QueueError> {
        let seed = self.seed();
        self.run("note_accounts", move |connection| {
            let mut news = AccountNews::default();
            for drop in &drops {
                note(connection, drop, seed, &mut news)?;
            }
            Ok(news)
        })
        .await
    }

    /// Notes what the API said of a key.
    pub(crate) async fn name_account(&self, of: DropAccount, account: String) -> Result<(), QueueError> {
        let seed = self.seed();
        self.run("note_accounts", move |connection| {
            connection.execute(
                "INSERT INTO account_of_key VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET account = excluded.account",
                params![of.base_url, sealed(&of.key, seed), account],
            )?;
            Ok(())
        })
        .await
    }

    /// Whether a batch has created something.
    pub(crate) fn has_created(&self, batch: i64) -> Result<bool, QueueError> {
        self.run_blocking("has_created", move |connection| {
            let sql = "SELECT EXISTS (SELECT 1 FROM job WHERE batch_id = ?1 AND state = 'done')";
            Ok(connection.prepare_cached(sql)?.query_row([batch], |row| row.get(0))?)
        })
    }

    /// Whether a receipt is due that names something created.
    pub(crate) async fn is_created_to_be_settled(&self) -> Result<bool, QueueError> {
        self.run("is_created_to_be_settled", |connection| {
            let sql = "SELECT EXISTS (SELECT 1 FROM batch JOIN job ON job.batch_id = batch.id
                                       WHERE batch.state = 'ended' AND batch.state <> 'closed' AND job.state = 'done')";
            Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
        })
        .await
    }
}

/// The digest of a key that is kept.
fn sealed(key: &[u8; 32], seed: u64) -> [u8; 32] {
    let mut digest = sha2::Sha256::new();
    digest.update(seed.to_be_bytes());
    digest.update(key);
    digest.finalize().into()
}

fn note(connection: &Connection, drop: &DropAccount, seed: u64, news: &mut AccountNews) -> Result<(), QueueError> {
    let drop_id = rows::drop_id(connection, &drop.drop)?;
    let former: Option<String> =
        connection.query_row("SELECT account FROM drop_folder WHERE id = ?1", [drop_id], |row| row.get(0))?;
    let named: Option<String> = connection
        .prepare_cached("SELECT account FROM account_of_key WHERE base_url = ?1 AND key = ?2")?
        .query_row(params![drop.base_url, sealed(&drop.key, seed)], |row| row.get(0))
        .optional()?;
    let former_is_here: bool = connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM account_of_key WHERE base_url = ?1 AND account = ?2)")?
        .query_row(params![drop.base_url, former], |row| row.get(0))?;
    match &named {
        Some(named) => {
            news.names.insert(drop.drop.clone(), named.clone());
        }
        None => news.unknown.push(drop.clone()),
    }
    let name = match standing(former.as_deref(), drop, named.as_deref(), former_is_here) {
        Standing::Ask => {
            news.must_ask.push(drop.clone());
            return Ok(());
        }
        Standing::Same(name) => name,
        Standing::Changed(name) => {
            news.changes.push(leave(connection, &drop.drop, drop_id, former.as_deref().unwrap_or_default())?);
            name
        }
    };
    if former.as_deref() != Some(&name) {
        connection.execute("UPDATE drop_folder SET account = ?2 WHERE id = ?1", params![drop_id, name])?;
        take_back_identities(connection, drop_id, &name)?;
    }
    Ok(())
}

/// Sets aside what the former account created. Jobs that have not ended begin anew: what their calls did was done elsewhere.
fn leave(connection: &Connection, drop: &str, drop_id: i64, former: &str) -> Result<AccountSwitch, QueueError> {
    let count = |sql: &str| connection.query_row(sql, [drop_id], |row| row.get::<_, i64>(0));
    let created = count("SELECT count(*) FROM job WHERE drop_id = ?1 AND state = 'done' AND account IS NULL")?;
    let in_doubt = count(
        "SELECT count(*) FROM job WHERE drop_id = ?1 AND creation <> 'none'
            AND state IN ('queued', 'running', 'waiting', 'held')",
    )?;
    connection.execute(
        "INSERT OR REPLACE INTO identity_elsewhere
         SELECT identity.drop_id, ?2, identity.key, job_id FROM identity JOIN job ON job.id = job_id
          WHERE identity.drop_id = ?1 AND state IN ('done', 'duplicate')",
        params![drop_id, former],
    )?;
    connection.execute(
        "DELETE FROM identity WHERE drop_id = ?1 AND EXISTS
            (SELECT 1 FROM identity_elsewhere AS away
              WHERE away.drop_id = ?1 AND account = ?2 AND away.key = identity.key AND away.job_id = identity.job_id)",
        params![drop_id, former],
    )?;
    connection.execute(
        "UPDATE job SET account = ?2 WHERE drop_id = ?1 AND account IS NULL
            AND state IN ('done', 'duplicate', 'failed', 'cancelled')",
        params![drop_id, former],
    )?;
    connection.execute(
        "UPDATE upload SET remote_id = NULL WHERE remote_id IS NOT NULL AND job_id IN
            (SELECT id FROM job WHERE drop_id = ?1 AND state IN ('queued', 'running', 'waiting', 'held'))",
        [drop_id],
    )?;
    connection.execute(
        "UPDATE job SET creation = 'none', sent_at = NULL WHERE drop_id = ?1 AND creation <> 'none'
            AND state IN ('queued', 'running', 'waiting', 'held')",
        [drop_id],
    )?;
    let whole = |count: i64| u64::try_from(count).unwrap_or(0);
    Ok(AccountSwitch { drop: drop.to_owned(), created: whole(created), in_doubt: whole(in_doubt) })
}

fn take_back_identities(connection: &Connection, drop_id: i64, account: &str) -> Result<(), QueueError> {
    let back = "INSERT OR IGNORE INTO identity
                SELECT drop_id, key, job_id FROM identity_elsewhere WHERE drop_id = ?1 AND account = ?2";
    connection.execute(back, params![drop_id, account])?;
    connection
        .execute("DELETE FROM identity_elsewhere WHERE drop_id = ?1 AND account = ?2", params![drop_id, account])?;
    Ok(())
}

/// A job that is tried again is for the account of its drop now: IDs that another one gave are of no use to it.
pub(super) fn bring_home(connection: &Connection, job_id: i64) -> Result<(), QueueError> {
    let elsewhere: bool = connection
        .prepare_cached(&format!(
            "SELECT NOT {IS_OURS} FROM job JOIN drop_folder ON drop_folder.id = job.drop_id WHERE job.id = ?1"
        ))?
        .query_row([job_id], |row| row.get(0))?;
    if elsewhere {
        connection.execute("UPDATE upload SET remote_id = NULL WHERE job_id = ?1", [job_id])?;
        connection.execute("UPDATE job SET creation = 'none', sent_at = NULL WHERE id = ?1", [job_id])?;
    }
    connection
        .prepare_cached("UPDATE job SET account = NULL WHERE id = ?1 AND account IS NOT NULL")?
        .execute([job_id])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::test_support::{DROP, Site, document, take};

    const LIVE: &str = "https://api.example/4.0";

    fn with_key(base_url: &str, key: u8) -> DropAccount {
        DropAccount {
            drop: DROP.into(),
            scope: format!("account:{base_url}"),
            base_url: base_url.into(),
            key: [key; 32],
        }
    }

    fn note(site: &Site, of: &DropAccount) -> AccountNews {
        site.wait(site.queue.note_accounts(vec![of.clone()])).unwrap()
    }

    #[test]
    fn the_account_is_compared_by_what_is_known() {
        let now = with_key(LIVE, 1);
        let same = |name: &str| Standing::Same(name.into());
        let changed = |name: &str| Standing::Changed(name.into());
        let scope = "account:https://api.example/4.0";
        for (former, named, former_is_here, expected) in [
            (None, None, false, same(scope)),
            (None, Some("a"), false, same("a")),
            (Some(scope), None, false, same(scope)),
            (Some(scope), Some("a"), false, same("a")),
            (Some("account:https://api.example/4.0 (key /k)"), Some("a"), false, same("a")),
            (Some("account:https://other.example"), None, false, changed(scope)),
            (Some("account:https://other.example"), Some("a"), false, changed("a")),
            (Some("a"), Some("a"), true, same("a")),
            (Some("b"), Some("a"), true, changed("a")),
            (Some("b"), Some("a"), false, changed("a")),
            (Some("b"), None, true, Standing::Ask),
            (Some("b"), None, false, changed(scope)),
        ] {
            assert_eq!(standing(former, &now, named, former_is_here), expected, "{former:?}, {named:?}");
        }
    }

    #[test]
    fn a_renewed_key_is_asked_for_once_and_is_the_same_account() {
        let site = Site::new();
        site.admit("a.manifest.json", &["one"]);
        assert_eq!(note(&site, &with_key(LIVE, 1)).unknown.len(), 1);
        site.wait(site.queue.name_account(with_key(LIVE, 1), "us".into())).unwrap();
        let news = note(&site, &with_key(LIVE, 1));
        assert_eq!((news.unknown, news.changes), (Vec::new(), Vec::new()));
        site.create(site.job("one"), "d1");
        let renewed = with_key(LIVE, 2);
        assert_eq!(note(&site, &renewed).must_ask, std::slice::from_ref(&renewed));
        site.wait(site.queue.name_account(renewed.clone(), "us".into())).unwrap();
        let news = note(&site, &renewed);
        assert_eq!((&*news.names[DROP], news.changes), ("us", Vec::new()));
        site.admit("b.manifest.json", &["one"]);
        assert_eq!(site.state(site.job("one")), crate::job::JobState::Duplicate);
    }

    #[test]
    fn what_another_account_created_does_not_count_until_it_is_used_again() {
        let site = Site::new();
        site.admit_entries("a.manifest.json", vec![take(document(0, "one"), 1), take(document(1, "two"), 2)]);
        let (test, live) = (with_key("https://test.example", 1), with_key(LIVE, 2));
        note(&site, &test);
        site.create(site.job("one"), "in-test");
        site.wait(site.queue.name_account(test.clone(), "test".into())).unwrap();
        note(&site, &test);
        let two = site.job("two");
        site.put_off(
            two,
            crate::job::WaitReason::ReadBack,
            crate::job::Creation::Unknown,
            crate::queue::test_support::NOW,
        );
        let news = note(&site, &live);
        assert_eq!(news.changes, [AccountSwitch { drop: DROP.into(), created: 1, in_doubt: 1 }]);
        assert_eq!(site.value(&format!("SELECT creation FROM job WHERE id = {two}")), "none");
        assert!(site.reader().on_profile("a2c4393a-e219-67a4-5ab4-2186952e9038").unwrap().is_empty());

        site.admit_entries("b.manifest.json", vec![take(document(0, "one"), 1)]);
        let again = site.job("one");
        assert_eq!(site.state(again), crate::job::JobState::Queued);
        site.create(again, "in-live");

        assert_eq!(note(&site, &test).changes[0].created, 1);
        site.admit_entries("c.manifest.json", vec![take(document(0, "one"), 1)]);
        assert_eq!(site.value("SELECT remote_id FROM job ORDER BY id DESC LIMIT 1"), "in-test");
    }
}
