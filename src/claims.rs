//! Whose a file is that several manifests of a drop name, when they mean different profiles.
//!
//! Once a scanner that reuses `front.png` overwrote one customer's picture while that customer's manifest waited, and the
//! next customer's was sent in its place. So a name serves one profile at a time, and where it cannot be known for whom a
//! file was put there, it serves nobody. What an entry declares with `sha256` needs no such rule: its content decides.

/// What the entries of one manifest say of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameClaim {
    /// A hash of the profile that all of them go to; `None` where these are several.
    pub profile: Option<u64>,
    /// Whether each of them declares its digest.
    pub declared: bool,
}

impl NameClaim {
    /// The claim of an entry for this profile.
    #[must_use]
    pub fn of(profile: &str, declared: bool) -> Self {
        Self { profile: Some(xxhash_rust::xxh3::xxh3_64(profile.as_bytes())), declared }
    }

    /// The claim of both, which stand in one manifest.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            profile: self.profile.filter(|_| self.profile == other.profile),
            declared: self.declared && other.declared,
        }
    }

    /// Whether one file cannot serve both, if they stand in two manifests.
    #[must_use]
    pub fn excludes(&self, other: &Self) -> bool {
        let one_profile = self.profile.is_some() && self.profile == other.profile;
        !(one_profile || self.declared && other.declared)
    }
}

/// How the file that is there now came there, as far as the scans saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileArrival {
    /// The first one under its name since a manifest waits for it, or since the name was last taken.
    First,
    /// Another one was there before it, while a manifest waited.
    Replaced,
    /// It was there at the first look: it may have replaced another one after a manifest came.
    Unwatched,
}

/// A manifest that names the file, beside the one that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contender {
    pub claim: NameClaim,
    /// Whether it was seen before the one that asks.
    pub earlier: bool,
    /// Whether it came, and was seen, after the file had been put there.
    pub after_file: bool,
}

/// Whether a file is the one that a manifest means; where it is not, the place in the list of the claim that comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    Mine,
    /// This contender was seen first.
    Earlier(usize),
    /// The file was replaced while this contender was there, or came, and nothing says for whom.
    Unclear(usize),
}

/// Decides whether a file is the one that a manifest means. `after_file`: as [`Contender::after_file`], of that manifest.
#[must_use]
pub fn whose(mine: NameClaim, after_file: bool, others: &[Contender], arrival: FileArrival) -> Ownership {
    let find =
        |fits: &dyn Fn(&Contender) -> bool| others.iter().position(|other| mine.excludes(&other.claim) && fits(other));
    let Some(any) = find(&|_| true).filter(|_| !mine.declared) else { return Ownership::Mine };
    match arrival {
        FileArrival::First => find(&|other| other.earlier).map_or(Ownership::Mine, Ownership::Earlier),
        FileArrival::Replaced if after_file => {
            find(&|other| other.earlier && other.after_file).map_or(Ownership::Mine, Ownership::Earlier)
        }
        FileArrival::Replaced => Ownership::Unclear(any),
        // Only where both possible pasts lead to the same manifest.
        FileArrival::Unwatched => {
            match (find(&|other| other.earlier && other.after_file), find(&|other| other.earlier)) {
                (Some(first), _) => Ownership::Earlier(first),
                (None, Some(first)) => Ownership::Unclear(first),
                (None, None) if after_file => Ownership::Mine,
                (None, None) => Ownership::Unclear(any),
            }
        }
    }
}

/// A file that an earlier manifest took, or the traces of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EarlierTaking {
    pub claim: NameClaim,
    /// Whether the file that is there now is the one that was taken.
    pub is_this_file: bool,
}

/// Whether a file that stayed in its place belongs to an earlier taking, so that it does not serve `mine`.
#[must_use]
pub fn is_spent(mine: NameClaim, taking: &EarlierTaking) -> bool {
    taking.is_this_file && mine.excludes(&taking.claim)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn claim(profile: u64) -> NameClaim {
        NameClaim { profile: Some(profile), declared: false }
    }

    const fn declared(profile: u64) -> NameClaim {
        NameClaim { profile: Some(profile), declared: true }
    }

    const SEVERAL: NameClaim = NameClaim { profile: None, declared: false };

    fn other(claim: NameClaim, earlier: bool, after_file: bool) -> Contender {
        Contender { claim, earlier, after_file }
    }

    #[test]
    fn one_file_serves_one_profile_one_manifest_or_those_who_declare_it() {
        for (one, two, excluded) in [
            (claim(1), claim(1), false),
            (claim(1), claim(2), true),
            (claim(1), declared(2), true),
            (declared(1), declared(2), false),
            (SEVERAL, claim(1), true),
            (SEVERAL, SEVERAL, true),
            (claim(1).and(claim(2)), claim(1), true),
            (declared(1).and(declared(2)), declared(3), false),
            (declared(1).and(claim(1)), declared(2), true),
        ] {
            assert_eq!((one.excludes(&two), two.excludes(&one)), (excluded, excluded), "{one:?} {two:?}");
        }
    }

    #[test]
    fn whose_a_file_is_follows_from_who_came_first_and_when_it_was_put_there() {
        use FileArrival::{First, Replaced, Unwatched};
        use Ownership::{Earlier, Mine, Unclear};
        let (x, y) = (claim(1), claim(2));
        // Who asks and whether it came after the file; the others; how the file came; whose it is.
        let cases = [
            ("alone", x, false, vec![], First, Mine),
            ("alone, its own correction", x, false, vec![], Replaced, Mine),
            ("one profile", x, false, vec![other(x, true, false)], Replaced, Mine),
            ("first seen", x, false, vec![other(y, false, true)], First, Mine),
            ("second", y, true, vec![other(x, true, false)], First, Earlier(0)),
            ("second, declares it", declared(2), true, vec![other(x, true, false)], First, Mine),
            ("second, the first one declares it", y, true, vec![other(declared(1), true, false)], First, Earlier(0)),
            ("both declare it", declared(2), true, vec![other(declared(1), true, false)], Replaced, Mine),
            ("waited while it was replaced", x, false, vec![other(y, false, true)], Replaced, Unclear(0)),
            ("came after it was replaced", y, true, vec![other(x, true, false)], Replaced, Mine),
            ("both waited while it was replaced", y, false, vec![other(x, true, false)], Replaced, Unclear(0)),
            (
                "the second to come after it",
                y,
                true,
                vec![other(x, true, false), other(claim(3), true, true)],
                Replaced,
                Earlier(1),
            ),
            ("waited, a declarer is there", x, false, vec![other(declared(2), false, true)], Replaced, Unclear(0)),
            ("first, and older than an unwatched file", x, false, vec![other(y, false, true)], Unwatched, Unclear(0)),
            ("second, the first is older than the file", y, true, vec![other(x, true, false)], Unwatched, Unclear(0)),
            ("the file was there before both, first", x, true, vec![other(y, false, true)], Unwatched, Mine),
            ("the file was there before both, second", y, true, vec![other(x, true, true)], Unwatched, Earlier(0)),
            (
                "of the same profile before, another after",
                x,
                false,
                vec![other(x, true, false), other(y, false, true)],
                First,
                Mine,
            ),
        ];
        for (what, mine, after_file, others, arrival, expected) in cases {
            assert_eq!(whose(mine, after_file, &others, arrival), expected, "{what}");
        }
    }

    #[test]
    fn what_was_taken_in_place_serves_no_other_profile_until_it_is_replaced() {
        let taking = |claim, is_this_file| EarlierTaking { claim, is_this_file };
        for (what, mine, taking, spent) in [
            ("another profile's", claim(1), taking(claim(2), true), true),
            ("the same profile's", claim(1), taking(claim(1), true), false),
            ("another file since", claim(1), taking(claim(2), false), false),
            ("declared now alone", declared(1), taking(claim(2), true), true),
            ("declared then alone", claim(1), taking(declared(2), true), true),
            ("declared both times", declared(1), taking(declared(2), true), false),
        ] {
            assert_eq!(is_spent(mine, &taking), spent, "{what}");
        }
    }
}
