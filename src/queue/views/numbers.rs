//! The numbers that monitoring asks for every few seconds: read from tallies and small indexes only, so that they cost
//! the same however many jobs there are.
//!
//! Nothing in here names a file, a reference or a profile.

use rusqlite::Connection;

use super::overview::{self, Tally};
use crate::{
    clock::Timestamp,
    entry::EntryKind,
    queue::{
        QueueError, Reader,
        control::{self, Pause},
        counters::{self, DropCounter},
        verified, warnings,
    },
};

/// What monitoring wants to know of a queue.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Numbers {
    pub drops: Vec<Tally>,
    pub pauses: Vec<Pause>,
    /// Since when the oldest manifest with open jobs has been there.
    pub oldest_waiting: Option<Timestamp>,
    /// Images that the API may hold unused, because an answer was lost.
    pub leftover_images: u64,
    /// Documents of which more than one was ever found.
    pub doubled_documents: u64,
    /// Warnings about entries that were taken in, by drop and kind.
    pub warnings: Vec<(String, String, u64)>,
    /// What came and how it ended, by drop.
    pub counters: Vec<(String, DropCounter, u64)>,
}

impl Reader {
    /// What monitoring wants to know.
    pub(crate) fn numbers(&self) -> Result<Numbers, QueueError> {
        self.snapshot(numbers)
    }
}

fn numbers(connection: &Connection) -> Result<Numbers, QueueError> {
    let one = |sql: &str| connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, Option<i64>>(0));
    Ok(Numbers {
        drops: overview::tallies(connection)?,
        pauses: control::pauses(connection)?,
        oldest_waiting: one("SELECT min(received_at) FROM batch WHERE state IN ('admitting', 'open')")?.map(Timestamp),
        leftover_images: u64::try_from(overview::lost_uploads(connection, EntryKind::Document)?).unwrap_or(0),
        doubled_documents: verified::ever_doubled(connection)?,
        warnings: warnings::tally(connection)?,
        counters: counters::read(connection)?,
    })
}

#[cfg(test)]
mod tests {
    use crate::{
        job::Creation,
        queue::{
            control::Cause,
            test_support::{DROP, NOW, Site},
        },
    };

    #[test]
    fn they_say_what_the_overview_says() {
        let site = Site::new();
        site.admit("a.manifest.json", &["done", "failed", "held", "queued"]);
        site.create(site.job("done"), "doc");
        site.fail(site.job("failed"), "HTTP 403: no");
        site.hold(site.job("held"), Creation::Unknown);
        site.queue.pause("", Cause::Operator, None, NOW).unwrap();
        let reader = site.reader();
        let (numbers, overview) = (reader.numbers().unwrap(), reader.overview(NOW).unwrap());
        assert_eq!(numbers.drops, overview.drops);
        assert_eq!(numbers.drops[0].drop, DROP);
        assert_eq!(numbers.drops[0].jobs["failed"], 1);
        assert_eq!(numbers.pauses, overview.pauses);
        assert_eq!(numbers.oldest_waiting, overview.oldest_waiting);
        assert!(numbers.oldest_waiting.is_some());
        assert_eq!(i64::try_from(numbers.leftover_images), Ok(overview.possible_leftovers));
        assert!(numbers.leftover_images > 0);
    }
}
