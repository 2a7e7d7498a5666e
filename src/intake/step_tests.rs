//! The steps of a manifest as tables: no files, no queue, no runtime.

use std::time::{Duration, Instant};

use super::{
    context::NAME_IN_USE,
    examine::{HoldReason, Unready},
    step::{EarlierLook, Inspection, ManifestPhase, SettleSettings, Step, TrackedManifest, Wait, unchanged_for},
    stillness::Stillness,
};
use crate::{
    clock::Timestamp,
    inbox::beneath::Refusal,
    problem::Problem,
    queue::{
        awaited::{Before, FirstSeen},
        test_support::a_file,
    },
};

const SETTLE: Duration = Duration::from_secs(10);
const SETTINGS: SettleSettings = SettleSettings { settle: SETTLE, has_marker: false };
const WITH_MARKER: SettleSettings = SettleSettings { has_marker: true, ..SETTINGS };

fn seen(now: Instant) -> TrackedManifest {
    TrackedManifest::new(a_file(), ManifestPhase::Settling, FirstSeen { scan: 1, ..FirstSeen::default() }, now)
}

fn files(change: impl FnOnce(&mut Stillness)) -> Inspection {
    let mut stillness = Stillness { signature: 1, ..Stillness::default() };
    change(&mut stillness);
    Inspection::Files { stillness, unchanged_for: Some(Duration::from_secs(3600)) }
}

fn missing(stillness: &mut Stillness) {
    (stillness.missing, stillness.first_missing) = (2, vec!["a.png".into(), "b.png".into()]);
}

fn in_use() -> Problem {
    Problem::error("the file is in use by another manifest", "declare it").path("b.png").code(NAME_IN_USE)
}

fn another_ones(stillness: &mut Stillness) {
    (stillness.in_use, stillness.first_in_use) = (1, vec![in_use()]);
}

fn written(stillness: &mut Stillness) {
    stillness.being_written = Some(("a.png".into(), "scp".into()));
}

fn problem() -> Problem {
    Problem::error("truncated", "send it again").path("a.png")
}

fn held(held: HoldReason) -> Inspection {
    Inspection::Held { held, files: 1 }
}

/// What a step is, in few words.
fn text(step: &Step) -> String {
    match step {
        Step::Settle => "settle".into(),
        Step::Admit => "admit".into(),
        Step::Wait(wait) => {
            let Wait { phase, cause, files, in_use, replaced: _, forever } = &**wait;
            let reason = cause.reason();
            let in_use = if in_use.is_empty() { String::new() } else { format!(" in use: {in_use:?}") };
            format!("{phase:?}: {reason} {files:?}{in_use}{}", if *forever { " forever" } else { "" })
        }
    }
}

#[test]
fn each_observation_has_its_step() {
    let gone = || Inspection::Unready(Unready::Refused(Refusal::Missing));
    let unreadable = || Inspection::Unready(Unready::Io(std::io::Error::other("bad disk")));
    let two_missing = "Incomplete: it waits for 2 files, the first is a.png [\"a.png\", \"b.png\"]";
    let open = "Incomplete: a.png is still open for writing, by scp [\"a.png\"] forever";
    let bad_disk = "Unreadable: the manifest cannot be read: bad disk [] forever";
    let truncated = "Incomplete: a.png: truncated [\"a.png\"]";
    let another_one = "Incomplete: b.png is in use by another manifest; declare it [] in use: [\"b.png\"]";
    let cases = [
        ("complete", files(|_| {}), "admit", "admit"),
        (
            "marker",
            Inspection::NoMarker("a.done".into()),
            "Incomplete: its done marker a.done is not there [] forever",
            "Incomplete: its done marker a.done is not there [] forever",
        ),
        ("gone", gone(), "settle", "settle"),
        ("changed", Inspection::Unready(Unready::Changed), "settle", "settle"),
        ("unreadable", unreadable(), bad_disk, bad_disk),
        ("missing", files(missing), two_missing, "admit"),
        ("in use", files(another_ones), another_one, "admit"),
        (
            "missing and in use",
            files(|still| {
                another_ones(still);
                (still.missing, still.first_missing) = (1, vec!["a.png".into()]);
            }),
            "Incomplete: it waits for a.png; b.png is in use by another manifest; declare it [\"a.png\"] in use: [\"b.png\"]",
            "admit",
        ),
        ("held, in use", held(HoldReason::InUse(in_use())), another_one, "admit"),
        ("open for writing", files(written), open, open),
        ("held, truncated", held(HoldReason::NotWhole(problem())), truncated, "admit"),
        (
            "held, unreadable",
            held(HoldReason::Unreadable(problem())),
            "Unreadable: a.png: truncated; send it again [\"a.png\"]",
            "admit",
        ),
        (
            "held, open for writing",
            held(HoldReason::BeingWritten(problem())),
            "Incomplete: a.png: truncated [\"a.png\"] forever",
            "admit",
        ),
    ];
    let now = Instant::now();
    for (what, observed, first, when_given_up) in cases {
        assert_eq!(text(&seen(now).next(&observed, false, SETTINGS, now)), first, "{what}");
        assert_eq!(text(&seen(now).next(&observed, true, SETTINGS, now)), when_given_up, "{what}, given up");
    }
}

#[test]
fn files_must_be_unchanged_for_as_long_as_the_drop_says() {
    let began = Instant::now();
    let mut manifest = seen(began);
    let at = |seconds| began + Duration::from_secs(seconds);
    let look = |signature| Inspection::Files {
        stillness: Stillness { signature, ..Stillness::default() },
        unchanged_for: None,
    };
    // Second, state of the files, and until when to wait.
    for (second, signature, until) in
        [(0, 1, Some(10)), (4, 1, Some(10)), (9, 2, Some(19)), (18, 2, Some(19)), (19, 2, None)]
    {
        let step = manifest.next(&look(signature), false, SETTINGS, at(second));
        match until {
            Some(until) => {
                assert_eq!((step, manifest.not_before), (Step::Settle, at(until)), "second {second}");
                assert_eq!(manifest.phase, ManifestPhase::Settling);
            }
            None => assert_eq!(step, Step::Admit, "second {second}"),
        }
    }
    assert_eq!(seen(began).next(&look(1), false, WITH_MARKER, began), Step::Admit, "a marker says that all is there");
    assert_eq!(seen(began).next(&look(1), true, SETTINGS, began), Step::Admit, "given up");
}

#[test]
fn what_the_file_system_says_of_the_last_change_shortens_the_wait() {
    let now = Instant::now();
    let changed = |ago| Inspection::Files {
        stillness: Stillness { signature: 1, ..Stillness::default() },
        unchanged_for: Some(Duration::from_secs(ago)),
    };
    let mut manifest = seen(now);
    assert_eq!(manifest.next(&changed(7), false, SETTINGS, now), Step::Settle);
    assert_eq!(manifest.not_before, now + Duration::from_secs(3));
    assert_eq!(seen(now).next(&changed(10), false, SETTINGS, now), Step::Admit);
}

#[test]
fn a_truncated_file_is_read_again_only_once_something_has_changed() {
    let now = Instant::now();
    let mut manifest = seen(now);
    let truncated = held(HoldReason::NotWhole(problem()));
    assert!(matches!(manifest.next(&truncated, false, SETTINGS, now), Step::Wait(_)));
    assert!(matches!(manifest.next(&files(|_| {}), false, SETTINGS, now), Step::Wait(_)), "the same files");
    let changed = files(|stillness| stillness.signature = 2);
    assert_eq!(manifest.next(&changed, false, SETTINGS, now), Step::Admit);
    // An unreadable file may be readable the next time, although it is the same.
    assert!(matches!(manifest.next(&held(HoldReason::Unreadable(problem())), false, SETTINGS, now), Step::Wait(_)));
    assert_eq!(manifest.next(&files(|_| {}), false, SETTINGS, now), Step::Admit);
}

#[test]
fn the_pauses_grow_up_to_ten_seconds() {
    let now = Instant::now();
    let mut manifest = seen(now);
    let pauses: Vec<u128> = (0..7)
        .map(|_| {
            manifest.put_off(ManifestPhase::Incomplete, now);
            (manifest.not_before - now).as_millis()
        })
        .collect();
    assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
}

#[test]
fn the_file_systems_clock_counts_only_where_it_is_ours_and_was_not_moved() {
    let at = |seconds: i64| Timestamp(seconds * 1000);
    let seconds = Duration::from_secs;
    for (what, own_clock, moved_to, system_now, expected) in [
        ("ours", true, None, 100, Some(seconds(40))),
        ("a network mount's", false, None, 100, None),
        ("moved before the change", true, Some(50), 100, Some(seconds(40))),
        ("moved after the change", true, Some(70), 100, None),
        ("set back, and not believed yet", true, None, 65, Some(seconds(5))),
        ("set back to before the change", true, None, 10, Some(seconds(0))),
    ] {
        let found = unchanged_for(at(60), own_clock, moved_to.map(at), at(100), at(system_now));
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn what_an_earlier_process_saw_of_a_file_is_what_it_did_not_miss() {
    let look = EarlierLook {
        at: Timestamp(27),
        missing: vec!["late.png".into()],
        in_use: vec!["front.png".into()],
        replaced: vec!["other.png".into()],
    };
    assert_eq!(look.of("late.png", true), Before::Absent);
    assert_eq!(look.of("there.png", true), Before::There { looked_ns: Some(7_000_000) });
    assert_eq!(look.of("there.png", false), Before::There { looked_ns: None }, "another machine's clock");
    assert_eq!(look.of("front.png", true), Before::There { looked_ns: None }, "nobody knew whose it was");
    assert_eq!(look.of("other.png", true), Before::Replaced { looked_ns: Some(27_000_000) });
    let many = (0..20).map(|number| format!("{number}.png")).collect();
    let look = EarlierLook { in_use: many, ..look };
    assert_eq!(look.of("there.png", true), Before::There { looked_ns: None }, "not all of them were noted");
}
