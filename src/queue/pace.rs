//! How fast the worker may send, and does, as it records that for whoever estimates the end.

use rusqlite::OptionalExtension;

use super::{Queue, QueueError, Reader};
use crate::estimate::Pace;

impl Queue {
    /// Records how fast the worker may send now, and does.
    pub(crate) async fn note_pace(&self, pace: &Pace) -> Result<(), QueueError> {
        let text = serde_json::to_string(pace).unwrap_or_default();
        self.run("note_pace", move |connection| {
            connection
                .prepare_cached("INSERT OR REPLACE INTO setting (name, value) VALUES ('pace', ?1)")?
                .execute([&text])?;
            Ok(())
        })
        .await
    }
}

impl Reader {
    /// What the worker recorded last; `None` where none has, or another release did.
    pub(crate) fn pace(&self) -> Result<Option<Pace>, QueueError> {
        let text: Option<String> = self
            .connection
            .prepare_cached("SELECT value FROM setting WHERE name = 'pace'")?
            .query_row([], |row| row.get(0))
            .optional()?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }
}
