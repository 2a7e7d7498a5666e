//! Applies the pauses in the queue to everything, to drops, and to accounts.

use crate::queue::control::{Cause, Pause};

/// Whether a person paused this scope: empty for everything, `drop:NAME` for a drop.
pub(super) fn by_operator(pauses: &[Pause], scope: &str) -> bool {
    pauses.iter().any(|pause| pause.cause == Cause::Operator && pause.scope == scope)
}

/// How an account must change to agree with the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum AccountChange {
    /// An earlier process stopped it.
    Stop(Cause),
    /// A person resumed it.
    Start,
    Nothing,
}

/// What the pauses mean for an account that is `stopped`, or not.
pub(super) fn change(pauses: &[Pause], scope: &str, stopped: Option<Cause>) -> AccountChange {
    let kept = pauses.iter().find(|pause| pause.scope == scope && pause.cause != Cause::Operator);
    match (kept, stopped) {
        (Some(pause), None) => AccountChange::Stop(pause.cause),
        (None, Some(_)) => AccountChange::Start,
        (Some(_), Some(_)) | (None, None) => AccountChange::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    fn pause(scope: &str, cause: Cause) -> Pause {
        Pause { scope: scope.into(), cause, detail: None, by: None, since: Timestamp(0) }
    }

    #[test]
    fn only_a_persons_pause_of_exactly_this_scope_counts() {
        let pauses = [pause("", Cause::Outage), pause("drop:a", Cause::Operator)];
        assert!(!by_operator(&pauses, ""));
        assert!(by_operator(&pauses, "drop:a"));
        assert!(!by_operator(&pauses, "drop:b"));
    }

    #[test]
    fn an_account_follows_what_the_queue_keeps() {
        let (stopped, free) = (Some(Cause::Outage), None);
        let kept = [pause("account:a", Cause::KeyRefused), pause("account:b", Cause::Operator)];
        for (scope, before, expected) in [
            ("account:a", free, AccountChange::Stop(Cause::KeyRefused)),
            ("account:a", stopped, AccountChange::Nothing),
            ("account:b", free, AccountChange::Nothing),
            ("account:b", stopped, AccountChange::Start),
            ("account:c", free, AccountChange::Nothing),
            ("account:c", stopped, AccountChange::Start),
        ] {
            assert_eq!(change(&kept, scope, before), expected, "{scope}, {before:?}");
        }
    }
}
