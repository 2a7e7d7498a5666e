//! The recorded calls of documents that were sent more than once, for `verify --history`.

use std::time::Duration;

use crate::{
    clock::Timestamp,
    history::{RecordedCall, RecordedProof},
    queue::{QueueError, Reader, clocks},
};

impl Reader {
    /// Calls `each` with the number and the recorded calls of each job whose document was sent more than once, and returns
    /// how many jobs have sent one at all. Moments are those of the clock as it is now.
    pub(crate) fn sent_more_than_once<E: From<QueueError>>(
        &self,
        mut each: impl FnMut(i64, Vec<RecordedCall>) -> Result<(), E>,
    ) -> Result<u64, E> {
        let jumps = clocks::jumps(&self.connection)?;
        let mut statement = self
            .connection
            .prepare("SELECT job_id, count(*) FROM attempt WHERE operation = 'create_document' GROUP BY job_id")
            .map_err(QueueError::from)?;
        let mut found = statement.query([]).map_err(QueueError::from)?;
        let mut jobs = 0;
        while let Some(row) = found.next().map_err(QueueError::from)? {
            let get = |column| row.get::<_, i64>(column).map_err(QueueError::from);
            let (job, sent) = (get(0)?, get(1)?);
            jobs += 1;
            if sent > 1 {
                each(job, self.recorded_calls(job, &jumps)?)?;
            }
        }
        Ok(jobs)
    }

    fn recorded_calls(&self, job: i64, jumps: &[(i64, i64)]) -> Result<Vec<RecordedCall>, QueueError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, at, took_ms, operation, outcome, bound_ms, witness FROM attempt WHERE job_id = ?1 ORDER BY id",
        )?;
        let calls = statement.query_map([job], |row| {
            let (id, at): (i64, i64) = (row.get(0)?, row.get(1)?);
            let later = jumps.iter().filter(|(before, _)| id <= *before).map(|(_, by_ms)| by_ms);
            Ok(RecordedCall {
                at: Timestamp(later.fold(at, |at, by_ms| at.saturating_add(*by_ms))),
                took: Duration::from_millis(row.get::<_, i64>(2)?.try_into().unwrap_or(0)),
                operation: row.get(3)?,
                outcome: row.get(4)?,
                proof: row.get::<_, Option<i64>>(5)?.map(|ms| RecordedProof {
                    bound: Duration::from_millis(ms.try_into().unwrap_or(0)),
                    has_witness: matches!(row.get_ref(6), Ok(value) if value.as_str().is_ok_and(|id| !id.is_empty())),
                }),
            })
        })?;
        Ok(calls.collect::<Result<_, _>>()?)
    }
}
