//! The files of waiting manifests over several scans, as a table of days.

use super::*;
use crate::clock::Timestamp;

const KEY: i64 = 7;

/// A drop whose scans are made one after the other.
#[derive(Default)]
struct Day {
    names: DropNames,
    scan: u64,
}

fn claim(profile: &str) -> NameClaim {
    NameClaim::of(profile, false)
}

/// The file number `which`, put there at this moment.
fn file(which: u64, at: i64) -> FileSight {
    let identity = FileIdentity { dev: 1, ino: which, bytes: 1, mtime_ns: at, ctime_ns: at, links: 1, uid: 0 };
    FileSight::of(&identity, true)
}

impl Day {
    /// A scan that finds these manifests, each with when it was put there, the first scan that saw it, and its claim.
    fn scan(&mut self, manifests: &[(&str, i64, u64, NameClaim)], sight: Option<FileSight>) -> Vec<String> {
        self.scan += 1;
        for (manifest, put_ns, scan, claim) in manifests {
            let seen = FirstSeen {
                at: Timestamp(i64::try_from(*scan).unwrap()),
                mtime_ns: *put_ns,
                scan: *scan,
                put_ns: *put_ns,
            };
            let number = self.names.begin(manifest, seen);
            self.names.name(number, KEY, "front.png");
            self.names.claim(number, KEY, *claim);
            self.names.saw(KEY, sight, Before::Absent, self.scan);
        }
        manifests.iter().map(|(manifest, ..)| manifest.to_string()).filter(|manifest| self.owns(manifest)).collect()
    }

    fn owns(&self, manifest: &str) -> bool {
        self.names.in_use(manifest, 1).1 == 0
    }
}

#[test]
fn what_a_scanner_overwrites_before_its_manifest_comes_is_the_new_ones() {
    let (x, y) = (("x", 1, 1, claim("x")), ("y", 30, 4, claim("y")));
    let mut day = Day::default();
    assert_eq!(day.scan(&[x], None), ["x"]);
    day.scan(&[x], Some(file(1, 10)));
    day.scan(&[x], Some(file(2, 20)));
    assert_eq!(day.scan(&[x, y], Some(file(2, 20))), ["y"]);
    let (in_use, count) = day.names.in_use("x", 9);
    assert_eq!((count, in_use[0].by.as_str(), in_use[0].path.as_str()), (1, "y", "front.png"));
    day.names.forget("y", true);
    assert_eq!(day.scan(&[x], None), ["x"]);
    let z = ("z", 60, 6, claim("z"));
    assert_eq!(day.scan(&[x, z], Some(file(3, 50))), ["x"], "the next one is for who waits longest");
}

#[test]
fn a_manifest_that_comes_before_its_own_file_does_not_get_the_first_ones() {
    let (x, y) = (("x", 1, 1, claim("x")), ("y", 30, 3, claim("y")));
    let mut day = Day::default();
    day.scan(&[x], None);
    day.scan(&[x], Some(file(1, 10)));
    assert_eq!(day.scan(&[x, y], Some(file(1, 10))), ["x"]);
    assert_eq!(day.scan(&[x, y], Some(file(2, 40))), Vec::<String>::new(), "replaced while both wait");
    assert_eq!(day.scan(&[x, ("y", 50, 5, claim("y"))], Some(file(2, 40))), ["y"], "dropped again");
}

#[test]
fn a_file_that_is_still_being_written_is_not_replaced_by_its_own_rest() {
    let (x, y) = (("x", 1, 1, claim("x")), ("y", 2, 1, claim("y")));
    let mut day = Day::default();
    day.scan(&[x, y], None);
    day.scan(&[x, y], Some(FileSight { open: true, ..file(1, 10) }));
    day.scan(&[x, y], Some(FileSight { open: true, ..file(1, 11) }));
    assert_eq!(day.scan(&[x, y], Some(file(1, 12))), ["x"]);
    assert_eq!(day.scan(&[x, y], Some(file(1, 13))), Vec::<String>::new(), "closed, and then written again");
}

#[test]
fn what_came_between_two_looks_serves_only_who_is_meant_either_way() {
    let mut day = Day::default();
    let (x, y) = (("x", 1, 1, claim("x")), ("y", 30, 1, claim("y")));
    assert_eq!(day.scan(&[x, y], Some(file(1, 10))), Vec::<String>::new(), "put there, or replaced, between the two");
    let mut day = Day::default();
    assert_eq!(day.scan(&[("x", 20, 1, claim("x")), y], Some(file(1, 10))), ["x"], "it was there before both");
    let mut day = Day::default();
    day.scan(&[x], Some(file(1, 10)));
    day.scan(&[x], Some(FileSight { quiet: true, ..file(1, 10) }));
    assert_eq!(day.scan(&[x, ("y", 30, 3, claim("y"))], Some(file(1, 10))), ["x"], "it came to rest while x was alone");
}

#[test]
fn what_was_replaced_while_no_process_ran_is_known_by_its_time() {
    for (looked_ns, owners) in [(Some(15), vec!["x"]), (Some(5), vec!["y"]), (None, Vec::new())] {
        let mut day = Day::default();
        let x = ("x", 1, 0, claim("x"));
        day.scan(&[x], Some(file(1, 10)));
        day.names.saw(KEY, Some(file(1, 10)), Before::There { looked_ns }, day.scan);
        assert_eq!(day.scan(&[x, ("y", 30, 2, claim("y"))], Some(file(1, 10))), owners, "{looked_ns:?}");
    }
}

#[test]
fn a_file_is_shared_by_those_whom_it_serves() {
    let (x, y) = (("x", 1, 1, claim("x")), ("y", 2, 1, claim("x")));
    let mut day = Day::default();
    day.scan(&[x, y, ("z", 3, 1, claim("z"))], None);
    assert_eq!(day.scan(&[x, y, ("z", 3, 1, claim("z"))], Some(file(1, 10))), ["x", "y"]);
    assert!(day.names.is_shared("x", KEY));
    assert!(!day.names.is_shared("z", KEY), "what z has serves nobody else");
    day.names.forget("y", true);
    assert!(!day.names.is_shared("x", KEY), "z waits for another file");
}

#[test]
fn what_was_replaced_while_two_waited_is_nobodys_though_one_of_them_is_gone() {
    let (x, y) = (("x", 1, 1, claim("x")), ("y", 2, 2, claim("y")));
    let mut day = Day::default();
    day.scan(&[x], Some(file(1, 0)));
    day.scan(&[x, y], Some(file(1, 0)));
    assert!(day.scan(&[x, y], Some(file(2, 20))).is_empty());
    day.names.forget("y", true);
    assert!(day.scan(&[x], Some(file(2, 20))).is_empty(), "it may be y's");
    let (in_use, _) = day.names.in_use("x", 1);
    assert_eq!((in_use[0].by.as_str(), in_use[0].why), ("y", InUseReason::Replaced));
    assert_eq!(day.scan(&[x], Some(file(3, 30))), ["x"], "nobody else waits for this one");

    let mut next = Day::default();
    next.scan(&[x], Some(file(2, 20)));
    for looked_ns in [Some(25), None] {
        next.names.saw(KEY, Some(file(2, 20)), Before::Replaced { looked_ns }, next.scan);
        assert!(next.scan(&[x], Some(file(2, 20))).is_empty(), "as an earlier process noted, {looked_ns:?}");
    }
}

#[test]
fn what_an_earlier_reading_said_does_not_count() {
    let mut day = Day::default();
    let y = ("y", 2, 2, claim("y"));
    day.scan(&[("x", 1, 1, claim("x"))], None);
    assert_eq!(day.scan(&[y], Some(file(1, 10))), Vec::<String>::new());
    // x was read again, and what it asks for exists.
    let number = day.names.begin("x", FirstSeen::default());
    day.names.name(number, KEY, "front.png");
    assert!(day.owns("y"));
}

/// What a rename leaves of a file: only its change time is another.
fn renamed(which: u64, at: i64, ctime_ns: i64) -> FileSight {
    let identity = FileIdentity { dev: 1, ino: which, bytes: 1, mtime_ns: at, ctime_ns, links: 1, uid: 0 };
    FileSight::of(&identity, true)
}

#[test]
fn a_file_that_could_not_be_taken_is_still_its_manifests() {
    let (x, y) = (("x", 1, 1, claim("x")), ("y", 30, 4, claim("y")));
    let mut day = Day::default();
    day.scan(&[x], None);
    day.scan(&[x], Some(file(1, 10)));
    day.names.put_back("x");
    day.scan(&[x], Some(renamed(1, 10, 15)));
    assert_eq!(day.scan(&[x, y], Some(renamed(1, 10, 15))), ["x"]);
    assert_eq!(day.scan(&[x, y], Some(renamed(1, 10, 16))), Vec::<String>::new(), "that was not us");
}

#[test]
fn what_was_taken_and_stays_for_others_is_spent_for_other_profiles() {
    let (x, a, z) = (("x", 1, 1, claim("x")), ("a", 2, 1, claim("x")), ("z", 3, 1, claim("z")));
    let mut day = Day::default();
    day.scan(&[x, a, z], None);
    assert_eq!(day.scan(&[x, a, z], Some(file(1, 10))), ["x", "a"]);
    day.names.forget("x", true);
    assert_eq!(day.scan(&[a, z], Some(renamed(1, 10, 20))), ["a"]);
    day.names.forget("a", false);
    assert_eq!(day.scan(&[z], Some(renamed(1, 10, 20))), Vec::<String>::new(), "x took it");
    assert_eq!(day.scan(&[z], Some(file(2, 30))), ["z"]);
}
