//! Every order of what can happen to two jobs on one profile, as far as it fits into a bounded time: proof that never
//! two documents are created for one job.
//!
//! A small world (`world`) stands for the API, the queue and the process: calls that are carried out late or not at
//! all, documents that come late into the lists, lists that are not what they should be, kills between any two steps,
//! databases restored from a backup, a second process. What to do is decided by the functions that the worker uses:
//! [`outcome`](crate::outcome::outcome), [`judge`](crate::verdict::judge), [`decide`](crate::absence::decide),
//! [`lineage::decide`](crate::queue::lineage::decide::decide), [`JobState::after`](crate::job::JobState::after) and
//! [`Job::next`](crate::job::Job::next). A wrong rule (`rules`) put in the place of each shows that the world is hostile
//! enough to notice it.
//!
//! `scripts/prove.sh exactly-once` visits the larger space and writes its counts to `proofs/`.

mod answers;
mod rules;
mod world;

use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model};

use self::{
    answers::{Said, Shape},
    rules::Rules,
    world::{ANOTHERS, FAILED_BUT_CREATED, Setting, TWICE, UNSETTLED, Worlds},
};

/// A world where little goes wrong, in which a wrong rule is found soon.
const QUIET: Setting = Setting {
    ticks: 4,
    kills: 0,
    restores: 0,
    late_calls: 2,
    said: &[Said::Created, Said::Nothing],
    shapes: &[Shape::Faithful],
};

/// What `cargo test` visits, in seconds.
const SMALL: Setting = Setting { ticks: 3, kills: 1, ..QUIET };

/// What `scripts/prove.sh exactly-once` visits, breadth first: at least ten million states. It ends after this many steps
/// or after this time, wherever it is by then, since it has more states than memory.
const LARGE: Setting = Setting { ticks: 4, restores: 1, said: &Said::ALL, shapes: &Shape::ALL, ..SMALL };

const MOST_STEPS: usize = 60_000_000;
const LONGEST: Duration = Duration::from_mins(5);

fn explore(setting: Setting) -> usize {
    let checked = Worlds::new(setting, Rules::WORKER).checker().threads(2).spawn_bfs().join();
    checked.assert_properties();
    checked.unique_state_count()
}

#[test]
fn never_two_documents_never_anothers_and_everything_ends_or_is_held() {
    let states = explore(SMALL);
    println!("{states} states");
    assert!(states > 5_000, "{states}");
}

#[test]
#[ignore = "takes minutes: scripts/prove.sh runs it"]
fn ten_million_states() {
    let begun = Instant::now();
    let large = Worlds::new(LARGE, Rules::WORKER).checker().threads(2);
    let checked = large.target_state_count(MOST_STEPS).timeout(LONGEST).spawn_bfs().join();
    let states = checked.unique_state_count();
    println!("states\t{states}\tseconds\t{}", begun.elapsed().as_secs());
    let wrong: Vec<_> =
        checked.discoveries().into_iter().map(|(property, path)| format!("{property}: {path}")).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(states >= 10_000_000, "{states}");
}

/// Fails unless the world notices that rules are wrong, by this property.
fn caught(rules: Rules, property: &str, setting: Setting) {
    let any = HasDiscoveries::AnyOf([TWICE, ANOTHERS, FAILED_BUT_CREATED, UNSETTLED].into());
    let checked = Worlds::new(setting, rules).checker().threads(2).finish_when(any).spawn_bfs().join();
    let found = checked.discoveries();
    assert!(found.contains_key(property), "not caught in {} states: {:?}", checked.unique_state_count(), found.keys());
}

macro_rules! mutants {
    ($($name:ident: $field:ident = $wrong:expr => $property:expr, $setting:expr;)*) => {
        mod wrong_rules {
            use super::{*, rules::wrong};

            $(#[test]
            fn $name() {
                caught(Rules { $field: $wrong, ..Rules::WORKER }, $property, $setting);
            })*
        }
    };
}

const fn saying(said: &'static [Said]) -> Setting {
    Setting { said, ..QUIET }
}

const fn listing(shapes: &'static [Shape]) -> Setting {
    Setting { shapes, ..QUIET }
}

const KILLED: Setting = Setting { kills: 1, ..QUIET };

mutants! {
    time_is_counted_from_the_sending: lost_at = wrong::from_the_sending => TWICE, QUIET;
    a_sixth_of_the_wait_is_enough: decide = wrong::a_sixth_of_the_wait => TWICE, QUIET;
    list_lag_is_not_waited_for: decide = wrong::without_list_lag => TWICE, QUIET;
    requests_end_with_their_calls: decide = wrong::without_request_lives => TWICE, QUIET;
    lists_that_agree_are_believed: decide = wrong::looks_that_agree => TWICE, QUIET;
    lists_that_are_not_understood_are_believed: decide = wrong::doubts_are_ignored => TWICE, listing(&[Shape::Nothing]);
    lists_of_other_profiles_are_believed: decide = wrong::foreign_lists => TWICE, listing(&[Shape::Foreign]);
    what_is_known_need_not_be_shown: decide = wrong::known_need_not_be_shown => TWICE, listing(&[Shape::Empty]);
    no_control_is_needed: decide = wrong::no_control => TWICE, listing(&[Shape::Empty]);
    category_is_not_compared: decide = wrong::any_category => ANOTHERS, QUIET;
    documents_of_other_jobs_are_taken: decide = wrong::nothing_is_taken => ANOTHERS, QUIET;
    doubt_never_ends: decide = wrong::doubt_for_ever => UNSETTLED, QUIET;
    errors_in_a_200_are_believed: outcome = wrong::errors_are_believed => TWICE, saying(&[Said::Created, Said::TransientError]);
    unknown_errors_are_believed: outcome = wrong::errors_are_believed => TWICE, saying(&[Said::Created, Said::UnknownError]);
    garbled_answers_are_failures: outcome = wrong::garbled_is_failed => TWICE, saying(&[Said::Created, Said::Garbled]);
    a_gateways_error_is_a_failure: outcome = wrong::unavailable_is_failed => TWICE, saying(&[Said::Created, Said::Unavailable]);
    an_id_beside_a_refusal_is_thrown_away: outcome = wrong::refusal_beside_an_id => FAILED_BUT_CREATED, saying(&[Said::RefusedWithId]);
    the_intent_is_not_committed: commits_intent = false => TWICE, KILLED;
    a_restart_counts_from_the_sending: recovered_at = wrong::from_the_sending => TWICE, KILLED;
    a_restored_database_is_used: lineage = wrong::any_database => TWICE, Setting { restores: 1, ..KILLED };
    commits_are_not_counted: lineage = wrong::starts_alone => TWICE, Setting { restores: 1, ..KILLED };
    a_second_process_is_let_in: locks = false => TWICE, QUIET;
}
