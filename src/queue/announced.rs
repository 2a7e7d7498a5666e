//! What receivers of alerts were sent, and how drops are doing against what is expected of them, for the next start and
//! for `status`.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::{Queue, QueueError, Reader};
use crate::{
    alert::SentAlerts,
    clock::Timestamp,
    expected::{DeliveryReport, Progress},
};

/// What is known of a receiver of alerts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiverState {
    /// For people, as the configuration names it.
    pub receiver: String,
    pub sent: SentAlerts,
    /// Since when it takes nothing, and why, if so.
    pub failing: Option<(Timestamp, String)>,
}

/// How a drop is doing, and since when its schedules are as they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectedDrop {
    /// Its schedules as they are written; others begin from their first moment.
    pub schedules: String,
    pub watched_since: Timestamp,
    pub report: DeliveryReport,
}

/// How each drop with schedules is doing.
pub type ExpectedDrops = BTreeMap<String, ExpectedDrop>;

impl Queue {
    /// Records what the receiver with this key was sent.
    pub(crate) async fn note_receiver(&self, key: &str, state: &ReceiverState) -> Result<(), QueueError> {
        let (name, text) = (format!("alerts of {key}"), serde_json::to_string(state).unwrap_or_default());
        self.run("note_receiver", move |connection| {
            connection.prepare_cached(NOTE)?.execute(params![name, text])?;
            Ok(())
        })
        .await
    }

    /// Forgets receivers that are not configured any more.
    pub(crate) async fn keep_receivers(&self, keys: Vec<String>) -> Result<(), QueueError> {
        self.run("keep_receivers", move |connection| {
            connection.execute(
                "DELETE FROM setting WHERE name BETWEEN 'alerts of ' AND 'alerts of ~'
                    AND substr(name, 11) NOT IN (SELECT value FROM json_each(?1))",
                [serde_json::to_string(&keys).unwrap_or_default()],
            )?;
            Ok(())
        })
        .await
    }

    /// Records how drops are doing against what is expected of them.
    pub(crate) async fn note_expected(&self, drops: &ExpectedDrops) -> Result<(), QueueError> {
        let text = serde_json::to_string(drops).unwrap_or_default();
        self.run("note_expected", move |connection| {
            connection.prepare_cached(NOTE)?.execute(params!["expected", text])?;
            Ok(())
        })
        .await
    }
}

const NOTE: &str = "INSERT OR REPLACE INTO setting (name, value) VALUES (?1, ?2)";

impl Reader {
    /// What the receiver with this key was sent.
    pub(crate) fn receiver(&self, key: &str) -> Result<ReceiverState, QueueError> {
        let sql = "SELECT value FROM setting WHERE name = 'alerts of ' || ?1";
        let text: Option<String> =
            self.connection.prepare_cached(sql)?.query_row([key], |row| row.get(0)).optional()?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
    }

    /// The receivers of alerts that take nothing at present.
    pub(crate) fn failing_receivers(&self) -> Result<Vec<ReceiverState>, QueueError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT value FROM setting WHERE name BETWEEN 'alerts of ' AND 'alerts of ~' ORDER BY name",
        )?;
        let texts = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
        let states = texts.iter().filter_map(|text| serde_json::from_str::<ReceiverState>(text).ok());
        Ok(states.filter(|state| state.failing.is_some()).collect())
    }

    /// How each drop with schedules is doing, as it was recorded last.
    pub(crate) fn expected(&self) -> Result<ExpectedDrops, QueueError> {
        let sql = "SELECT value FROM setting WHERE name = 'expected'";
        let text: Option<String> = self.connection.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
    }

    /// When the newest manifest of a drop came, and the oldest that is not settled.
    pub(crate) fn came(&self, drop: &str) -> Result<Progress, QueueError> {
        let one = |sql: &str| -> Result<Option<Timestamp>, QueueError> {
            let mut statement = self.connection.prepare_cached(sql)?;
            let moment: Option<i64> = statement.query_row([drop], |row| row.get(0)).optional()?.flatten();
            Ok(moment.map(Timestamp))
        };
        let newest = [
            one("SELECT max(first_seen) FROM arrival WHERE drop_id = (SELECT id FROM drop_folder WHERE name = ?1)")?,
            one("SELECT received_at FROM batch WHERE id =
                    (SELECT max(id) FROM batch WHERE drop_id = (SELECT id FROM drop_folder WHERE name = ?1))")?,
        ];
        let oldest = [
            one("SELECT min(first_seen) FROM arrival WHERE drop_id = (SELECT id FROM drop_folder WHERE name = ?1)")?,
            one("SELECT min(received_at) FROM batch INDEXED BY batch_unsettled
                  WHERE state <> 'closed' AND drop_id = (SELECT id FROM drop_folder WHERE name = ?1)")?,
        ];
        Ok(Progress {
            newest: newest.into_iter().flatten().max(),
            oldest_open: oldest.into_iter().flatten().min(),
            done: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        expected::DeliveryState,
        queue::test_support::{DROP, NOW, Site},
    };

    #[test]
    fn what_is_recorded_is_there_for_the_next_start() {
        let site = Site::new();
        let failing = ReceiverState {
            receiver: "command /bin/x".into(),
            failing: Some((NOW, "exit 1".into())),
            ..Default::default()
        };
        site.wait(site.queue.note_receiver("a1", &failing)).unwrap();
        site.wait(site.queue.note_receiver("b2", &ReceiverState::default())).unwrap();
        assert_eq!(site.reader().receiver("a1").unwrap(), failing);
        assert_eq!(site.reader().failing_receivers().unwrap(), [failing]);
        site.wait(site.queue.keep_receivers(vec!["b2".into()])).unwrap();
        assert_eq!(site.reader().failing_receivers().unwrap(), []);
        let report = DeliveryReport { state: DeliveryState::Late, since: NOW, due: Some(NOW), done: None };
        let late = ExpectedDrop { schedules: "06:00".into(), watched_since: NOW, report };
        let drops = ExpectedDrops::from([(DROP.to_owned(), late)]);
        site.wait(site.queue.note_expected(&drops)).unwrap();
        assert_eq!(site.reader().expected().unwrap(), drops);
    }

    #[test]
    fn what_came_is_the_newest_and_the_oldest_that_is_not_settled() {
        let site = Site::new();
        assert_eq!(site.reader().came(DROP).unwrap(), Progress::default());
        site.admit("a.manifest.json", &["one"]);
        let progress = site.reader().came(DROP).unwrap();
        assert_eq!((progress.newest, progress.oldest_open), (Some(NOW), Some(NOW)));
        assert_eq!(site.reader().came("another").unwrap(), Progress::default());
    }
}
