//! Which drop claims how many jobs next: fair shares of the free places, within the room that accounts have.
//!
//! A claim may return fewer jobs than it asked for, and what it leaves goes to the drops after it. So there is one
//! decision for each claim, which is fed with what the claims before it returned.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use crate::{account::kept_for_each, pacer::Room};

/// A drop, as it is when places are shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LaneState {
    /// Its index in the dispatcher's list, which is sorted by priority.
    pub(super) lane: usize,
    pub(super) drop_id: i64,
    pub(super) priority: i64,
    /// The index of its account, which drops may share.
    pub(super) account: usize,
    /// The drop, or its account, is paused.
    pub(super) paused: bool,
    /// How many more jobs its account takes.
    pub(super) room: Room,
}

/// Claim this many jobs for this drop, and report the result to [`Shares::claimed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) struct Claim {
    pub(super) lane: LaneState,
    pub(super) jobs: usize,
    /// What the lane may take of its account's room.
    room: usize,
}

/// Shares out free places, one claim after the other.
#[derive(Debug)]
pub(super) struct Shares {
    lanes: VecDeque<LaneState>,
    /// Jobs claimed so far, by account: they have not come to their place in the account's pace yet.
    claimed: HashMap<usize, usize>,
    blocked: Option<Duration>,
    exhausted: bool,
}

impl Shares {
    /// Shares between lanes that have jobs ready, highest priority first. `turn` says which of several lanes with the
    /// same priority is first: it gets what cannot be shared, such as the only place that a limit leaves.
    pub(super) fn new(lanes: impl IntoIterator<Item = LaneState>, turn: usize) -> Self {
        let mut blocked: Option<Duration> = None;
        let mut open: Vec<LaneState> = Vec::new();
        for lane in lanes.into_iter().filter(|lane| !lane.paused) {
            if lane.room.jobs == 0 {
                blocked = Some(blocked.map_or(lane.room.again_in, |other| other.min(lane.room.again_in)));
            } else {
                open.push(lane);
            }
        }
        for peers in open.chunk_by_mut(|one, other| one.priority == other.priority) {
            let first = turn % peers.len();
            peers.rotate_left(first);
        }
        Self { lanes: open.into(), claimed: HashMap::new(), blocked, exhausted: false }
    }

    /// The next claim, with `free` places. `room` is asked again for each claim, because jobs that are in flight take
    /// up the room of their account in the meantime.
    pub(super) fn next_claim(&mut self, free: usize, room: impl Fn(usize) -> usize) -> Option<Claim> {
        while free > 0
            && let Some(lane) = self.lanes.pop_front()
        {
            let peers = || self.lanes.iter().take_while(|other| other.priority == lane.priority);
            let sharing_places = 1 + peers().count();
            let sharing_account = 1 + peers().filter(|other| other.account == lane.account).count();
            let claimed = self.claimed.get(&lane.account).copied().unwrap_or_default();
            let room = room(lane.account).saturating_sub(claimed).div_ceil(sharing_account);
            if room == 0 {
                self.exhausted = true;
                continue;
            }
            // Rounded up; the last lane takes what the others leave.
            return Some(Claim { lane, jobs: free.div_ceil(sharing_places).min(room), room });
        }
        None
    }

    /// Records how many jobs a claim returned.
    pub(super) fn claimed(&mut self, claim: Claim, jobs: usize) {
        *self.claimed.entry(claim.lane.account).or_default() += jobs;
        self.exhausted |= jobs == claim.room;
    }

    /// When to share out again because an account had no more room, without another event. `pause` is waited for where
    /// the room was used up just now, so that the account cannot say yet when it has more.
    pub(super) fn again_in(&self, pause: Duration) -> Option<Duration> {
        self.blocked.into_iter().chain(self.exhausted.then_some(pause)).min()
    }
}

/// How many more places an account may take; `of_jobs` has the index of the account of each job that runs. Some are kept for
/// each of the others, since jobs of an API that is silent hold theirs for as long as its calls last.
pub(super) fn places(
    width: usize,
    accounts: usize,
    of_jobs: impl Iterator<Item = usize> + Clone,
    account: usize,
) -> usize {
    if accounts < 2 {
        return usize::MAX;
    }
    let kept = kept_for_each(width, accounts);
    let jobs_of = |account: usize| of_jobs.clone().filter(|of| *of == account).count();
    let common_taken: usize = (0..accounts).map(|other| jobs_of(other).saturating_sub(kept)).sum();
    (width - kept * accounts).saturating_sub(common_taken) + kept.saturating_sub(jobs_of(account))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_takes_no_place_that_is_kept_for_another() {
        let of = |jobs: &[usize]| -> Vec<usize> {
            let each = jobs.iter().enumerate();
            each.flat_map(|(account, jobs)| std::iter::repeat_n(account, *jobs)).collect()
        };
        let left = |width, jobs: &[usize]| -> Vec<usize> {
            (0..jobs.len()).map(|account| places(width, jobs.len(), of(jobs).into_iter(), account)).collect()
        };
        assert_eq!(left(32, &[0, 0]), [28, 28]);
        assert_eq!(left(32, &[28, 0]), [0, 4]);
        assert_eq!(left(32, &[20, 8]), [4, 4]);
        assert_eq!(left(32, &[28, 2, 0]), [0, 0, 2]);
        assert_eq!(left(32, &[9]), [usize::MAX], "alone it has all of them");
        assert_eq!(left(2, &[1, 0]), [1, 1], "where there are too few, they go to whoever comes first");
    }

    const PAUSE: Duration = Duration::from_millis(200);
    const ALL: usize = usize::MAX;

    /// Lanes as (priority, account, jobs ready); the drop's number is the position, from 1.
    type Lanes<'a> = &'a [(i64, usize, usize)];

    fn state(lanes: Lanes<'_>, rooms: &[usize]) -> Vec<LaneState> {
        let state = |(lane, &(priority, account, _)): (usize, &(i64, usize, usize))| LaneState {
            lane,
            drop_id: i64::try_from(lane).unwrap() + 1,
            priority,
            account,
            paused: false,
            room: Room { jobs: rooms[account], again_in: Duration::from_secs(9) },
        };
        lanes.iter().enumerate().map(state).collect()
    }

    /// What each claim returned, as (drop, jobs).
    fn share_out(lanes: Lanes<'_>, rooms: &[usize], width: usize, turn: usize) -> (Vec<(i64, usize)>, Shares) {
        let mut shares = Shares::new(state(lanes, rooms), turn);
        let (mut free, mut claims) = (width, Vec::new());
        while let Some(claim) = shares.next_claim(free, |account| rooms[account]) {
            let claimed = claim.jobs.min(lanes[claim.lane.lane].2);
            claims.push((claim.lane.drop_id, claimed));
            shares.claimed(claim, claimed);
            free -= claimed;
        }
        (claims, shares)
    }

    #[test]
    fn places_are_shared_within_a_priority_and_what_one_leaves_goes_to_the_next() {
        type Case<'a> = (&'a str, Lanes<'a>, &'a [usize], usize, usize, &'a [(i64, usize)]);
        let cases: &[Case<'_>] = &[
            ("alone", &[(0, 0, 99)], &[ALL], 8, 0, &[(1, 8)]),
            ("equal shares", &[(0, 0, 99), (0, 1, 99)], &[ALL, ALL], 8, 0, &[(1, 4), (2, 4)]),
            (
                "rounded up, the last takes the rest",
                &[(0, 0, 9), (0, 1, 9), (0, 2, 9)],
                &[ALL; 3],
                8,
                0,
                &[(1, 3), (2, 3), (3, 2)],
            ),
            ("what one has not goes on", &[(0, 0, 1), (0, 1, 99)], &[ALL; 2], 8, 0, &[(1, 1), (2, 7)]),
            ("priority first", &[(5, 0, 6), (0, 1, 99)], &[ALL; 2], 8, 0, &[(1, 6), (2, 2)]),
            ("nothing left for the lower", &[(5, 0, 99), (0, 1, 99)], &[ALL; 2], 8, 0, &[(1, 8)]),
            ("whose turn it is", &[(0, 0, 9), (0, 1, 9), (0, 2, 9)], &[ALL; 3], 1, 1, &[(2, 1)]),
            ("turns wrap around", &[(0, 0, 9), (0, 1, 9)], &[ALL; 2], 1, 3, &[(2, 1)]),
            ("turns stay within a priority", &[(5, 0, 9), (0, 1, 9), (0, 2, 9)], &[ALL; 3], 10, 1, &[(1, 9), (3, 1)]),
            ("an account's room", &[(0, 0, 99)], &[3], 8, 0, &[(1, 3)]),
            ("the room is shared by its drops", &[(0, 0, 99), (0, 0, 99)], &[4], 8, 0, &[(1, 2), (2, 2)]),
            ("a room of one goes to whose turn it is", &[(0, 0, 9), (0, 0, 9)], &[1], 8, 1, &[(2, 1)]),
            ("room that one drop leaves", &[(0, 0, 1), (0, 0, 99)], &[4], 8, 0, &[(1, 1), (2, 3)]),
            ("another account is not held up", &[(0, 0, 9), (0, 1, 9)], &[1, ALL], 8, 0, &[(1, 1), (2, 7)]),
            ("no room anywhere", &[(0, 0, 9)], &[0], 8, 0, &[]),
            ("no place free", &[(0, 0, 9)], &[ALL], 0, 0, &[]),
        ];
        for (what, lanes, rooms, width, turn, expected) in cases {
            assert_eq!(&share_out(lanes, rooms, *width, *turn).0, expected, "{what}");
        }
    }

    #[test]
    fn where_an_account_has_no_room_it_is_asked_again() {
        let again = |lanes: Lanes<'_>, rooms: &[usize]| share_out(lanes, rooms, 8, 0).1.again_in(PAUSE);
        assert_eq!(again(&[(0, 0, 99)], &[ALL]), None);
        assert_eq!(again(&[(0, 0, 99)], &[0]), Some(Duration::from_secs(9)), "as the account says");
        assert_eq!(again(&[(0, 0, 99)], &[3]), Some(PAUSE), "used up just now");
        assert_eq!(again(&[(0, 0, 2)], &[3]), None, "there was room for more");
        assert_eq!(again(&[(0, 0, 99), (0, 1, 99)], &[0, 3]), Some(PAUSE));
        assert_eq!(again(&[(5, 0, 99), (0, 0, 99)], &[4]), Some(PAUSE), "all of it went to the higher priority");
    }

    #[test]
    fn what_is_paused_gets_nothing() {
        let mut lanes = state(&[(0, 0, 9), (0, 1, 9)], &[0, ALL]);
        lanes.iter_mut().for_each(|lane| lane.paused = true);
        let mut shares = Shares::new(lanes, 0);
        assert_eq!(shares.next_claim(8, |_| ALL), None);
        assert_eq!(shares.again_in(PAUSE), None, "that it goes on is an event of its own");
    }

    #[test]
    fn room_that_shrinks_between_two_claims_is_respected() {
        let mut shares = Shares::new(state(&[(0, 0, 9), (0, 0, 9)], &[8]), 0);
        let claim = shares.next_claim(8, |_| 8).unwrap();
        assert_eq!(claim.jobs, 4);
        shares.claimed(claim, 4);
        assert_eq!(shares.next_claim(4, |_| 5).unwrap().jobs, 1);
    }
}
