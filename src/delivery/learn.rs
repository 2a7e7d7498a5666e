//! Learns from an answer about the account, not about its job: its pace, and whether it must be stopped.

use tokio::time::Instant;

use super::Delivery;
use crate::{
    account::{Account, CallSlot},
    entry::ProfileId,
    exchange::Exchange,
    outcome::{Outcome, PauseCause, outcome},
    queue::{QueueError, control::Cause},
    telemetry::InFlightGuard,
    verdict::text,
};

impl Delivery {
    /// Learns from an answer, and stops the account where it says so.
    pub(super) async fn learn(
        &self,
        account: &Account,
        (slot, in_flight): (CallSlot<'_>, InFlightGuard),
        exchange: &Exchange,
        outcome: &Outcome,
        profile: &ProfileId,
    ) -> Result<(), QueueError> {
        account.note_profile(profile, outcome);
        self.telemetry.called(exchange, outcome);
        drop(in_flight);
        let doubt = matches!(outcome, Outcome::Paused { cause: PauseCause::KeyRefused, .. }).then(|| account.doubt());
        let cause = account.learn(slot, exchange, outcome);
        self.telemetry.limit_in_flight(account.in_flight_limit());
        let said = outcome.reason().map(|reason| text(exchange.operation, reason)).unwrap_or_default();
        if doubt.is_some() && !self.key_works(account).await {
            self.pause(account, Cause::KeyRefused, &said).await?;
        }
        drop(doubt);
        let Some(cause) = cause else { return Ok(()) };
        let detail = match cause {
            Cause::QuotaSpent => said,
            _ => format!("one call after the other failed, the last: {said}"),
        };
        self.pause(account, cause, &detail).await
    }

    /// Stops the account, here and in the queue. Each cause is recorded: when an account that an outage had stopped was then
    /// stopped for a spent quota, the queue kept the outage alone, which resuming did not delete.
    pub(super) async fn pause(&self, account: &Account, cause: Cause, detail: &str) -> Result<(), QueueError> {
        if account.stop(cause) {
            tracing::error!(account = account.scope, cause = cause.as_str(), detail, "sending is stopped");
            let (scope, detail) = (account.scope.clone(), Some(detail.to_owned()));
            self.queue.pause_account(scope, cause, detail, self.clock.now()).await?;
        }
        Ok(())
    }

    /// Whether the key works although a call has just been refused for it.
    async fn key_works(&self, account: &Account) -> bool {
        account.key_works_since(Instant::now(), || self.ask_for_key(account)).await
    }

    pub(super) async fn ask_for_key(&self, account: &Account) -> bool {
        let exchange = account.client.whoami().await;
        let answer = outcome(&exchange, self.clock.now());
        self.telemetry.called(&exchange, &answer);
        matches!(answer, Outcome::Done(_))
    }
}
