//! Whether refusals concern one profile or the account: when calls of other profiles last worked, and were last refused
//! in a way that a gateway may have said.

use tokio::time::Instant;

use crate::entry::ProfileId;

/// When something last happened to a profile, and to any other than that.
#[derive(Debug, Clone, Default)]
struct Latest {
    newest: Option<(ProfileId, Instant)>,
    other: Option<Instant>,
}

impl Latest {
    fn note(&mut self, profile: &ProfileId, now: Instant) {
        match &mut self.newest {
            Some((newest, at)) if newest == profile => *at = now,
            newest => {
                self.other = newest.as_ref().map(|(_, at)| *at);
                *newest = Some((profile.clone(), now));
            }
        }
    }

    /// When it last happened to another profile than this.
    fn of_others(&self, profile: &ProfileId) -> Option<Instant> {
        match &self.newest {
            Some((newest, at)) if newest != profile => Some(*at),
            _ => self.other,
        }
    }
}

/// What the calls of an account have shown of its profiles since this process began.
#[derive(Debug, Clone, Default)]
pub(super) struct Witness {
    worked: Latest,
    refused: Latest,
}

impl Witness {
    pub(super) fn worked(&mut self, profile: &ProfileId, now: Instant) {
        self.worked.note(profile, now);
    }

    pub(super) fn refused(&mut self, profile: &ProfileId, now: Instant) {
        self.refused.note(profile, now);
    }

    /// Whether calls of other profiles have worked since a moment, and none was refused.
    pub(super) fn only_this(&self, profile: &ProfileId, since: Instant) -> bool {
        let later = |at: Option<Instant>| at.is_some_and(|at| at >= since);
        later(self.worked.of_others(profile)) && !later(self.refused.of_others(profile))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_refusal_is_of_one_profile_where_others_work_and_none_of_them_is_refused() {
        let profile = |number: u32| ProfileId::parse(&format!("a2c4393a-e219-47a4-8ab4-{number:012x}")).unwrap();
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        // What happened, as profile, second, and whether it worked; asked of profile 1 since second 10.
        for (what, events, expected) in [
            ("nothing", &[][..], false),
            ("only it", &[(1, 11, true), (1, 12, false)], false),
            ("another worked before", &[(2, 9, true), (1, 12, false)], false),
            ("another worked", &[(2, 11, true), (1, 12, false)], true),
            ("another worked, then it", &[(2, 11, true), (1, 12, true)], true),
            ("another was refused too", &[(2, 11, true), (3, 12, false), (1, 13, false)], false),
            ("another was refused before", &[(3, 9, false), (2, 11, true), (1, 13, false)], true),
            ("the other is refused as well", &[(2, 11, true), (2, 12, false)], false),
        ] {
            let mut witness = Witness::default();
            for (number, second, worked) in events {
                match worked {
                    true => witness.worked(&profile(*number), at(*second)),
                    false => witness.refused(&profile(*number), at(*second)),
                }
            }
            assert_eq!(witness.only_this(&profile(1), at(10)), expected, "{what}");
        }
    }
}
