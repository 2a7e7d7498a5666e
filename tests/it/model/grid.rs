//! Late deeds and lists behind, in virtual time, from none to three minutes each: what the worker's own decision makes of
//! lost answers.
//!
//! No process and no clock: the decision is a pure function, and this plays the API around it. Several jobs of one profile
//! lose their answers one after the other. Each is read back with a growing delay, and once more when the bound has
//! passed. What is sent again is answered, and looked at once more after a quarter of an hour.

use std::{ops::RangeInclusive, time::Duration};

use passfort_ingest::{
    absence::{AbsenceBounds, Conclusion, Control, KnownDocument, ListReading, Observed, SoughtDocument, decide},
    outcome::{DocumentList, StandingDocument},
};

const BOUNDS: AbsenceBounds = AbsenceBounds {
    absent_after: Duration::from_secs(70),
    request_lives: Duration::from_secs(60),
    list_lag: Duration::from_secs(10),
};

/// How long after a second sending the profile is read once more.
const RECHECK: Duration = Duration::from_mins(15);

/// How late a reading is that was due.
const LATENESS: Duration = Duration::from_millis(40);

/// Jobs that lose their answers, one after the other.
const JOBS: usize = 4;

/// How late deeds are, and how far lists are behind.
const SECONDS: RangeInclusive<u64> = 0..=180;

/// Between two of them.
const STEP: usize = 2;

/// A document at the API.
struct Deed {
    id: String,
    image: String,
    visible_at: Duration,
    /// When it was answered, where it was.
    answered_at: Option<Duration>,
    /// Whether the queue knows it.
    is_known: bool,
}

/// One profile, whose deeds come late, and whose lists are behind.
struct Profile {
    late: Duration,
    lag: Duration,
    now: Duration,
    deeds: Vec<Deed>,
    observed: Observed,
    doubled: usize,
    reported: usize,
    held: usize,
}

impl Profile {
    /// One on which the queue knows a document, or none.
    fn new(late: u64, lag: u64, has_witness: bool) -> Self {
        let witness = || Deed {
            id: "witness".to_owned(),
            image: "old".to_owned(),
            visible_at: Duration::ZERO,
            answered_at: Some(Duration::ZERO),
            is_known: true,
        };
        Self {
            late: Duration::from_secs(late),
            lag: Duration::from_secs(lag),
            now: Duration::from_hours(1),
            deeds: has_witness.then(witness).into_iter().collect(),
            observed: Observed::default(),
            doubled: 0,
            reported: 0,
            held: 0,
        }
    }

    fn create(&mut self, image: &str, at: Duration, answered: bool) {
        let (id, visible_at) = (format!("document-{}", self.deeds.len()), at + self.lag);
        let answered_at = answered.then_some(at);
        self.deeds.push(Deed { id, image: image.to_owned(), visible_at, answered_at, is_known: answered });
    }

    /// Reads the list, and measures how far it is behind.
    fn list(&mut self) -> DocumentList {
        for deed in self.deeds.iter().filter(|deed| deed.visible_at > self.now) {
            if let Some(at) = deed.answered_at {
                self.observed.lag = self.observed.lag.max(self.now - at);
            }
        }
        let visible = self.deeds.iter().filter(|deed| deed.visible_at <= self.now);
        let documents = visible.map(|deed| StandingDocument {
            id: deed.id.clone(),
            category: "PROOF_OF_IDENTITY".to_owned(),
            document_type: "PASSPORT".to_owned(),
            image_ids: vec![deed.image.clone()],
            unclear_images: false,
            newest_upload: None,
        });
        DocumentList { documents: documents.collect(), ..DocumentList::default() }
    }

    /// A job whose first answer is lost.
    fn job(&mut self, number: usize) {
        let image = format!("image-{number}");
        let ended = self.now;
        self.create(&image, ended + self.late, false);
        let sought = SoughtDocument {
            category: "PROOF_OF_IDENTITY".to_owned(),
            document_type: "PASSPORT".to_owned(),
            image_ids: vec![image.clone()],
            answered_id: None,
        };
        let (mut delay, mut doubts) = (Duration::from_secs(1), 0);
        let mut without = Duration::ZERO;
        loop {
            let waited = self.now - ended;
            // As early as it may be, which is the hardest case.
            let until_bound = BOUNDS.absent_after.checked_sub(waited).filter(|left| !left.is_zero());
            self.now += until_bound.map_or(delay, |left| left.min(delay)) + LATENESS;
            delay = (delay * 2).min(RECHECK);
            let known: Vec<KnownDocument> = (self.deeds.iter().filter(|deed| deed.is_known))
                .map(|deed| KnownDocument {
                    id: deed.id.clone(),
                    image_ids: vec![deed.image.clone()],
                    age: self.now - deed.answered_at.unwrap_or(deed.visible_at),
                })
                .collect();
            let (list, ended_for) = (self.list(), self.now - ended);
            let reading = ListReading {
                sought: &sought,
                list: &list,
                known: &known,
                taken: &[],
                is_foreign: false,
                control: &Control::Unavailable,
                ended_for: Some(ended_for),
                doubts,
                bounds: &BOUNDS,
                observed: self.observed,
            };
            match decide(&reading) {
                Conclusion::Created(id) => {
                    self.observed.late = self.observed.late.max(without);
                    self.deeds.iter_mut().filter(|deed| deed.id == id).for_each(|deed| deed.is_known = true);
                    return;
                }
                Conclusion::Absent => return self.send_again(&image, ended_for),
                Conclusion::Wait { doubt } => {
                    without = ended_for;
                    doubts += u32::from(doubt.is_some());
                }
                Conclusion::Held { .. } => {
                    self.held += 1;
                    return;
                }
                Conclusion::NeedsControl => panic!("it is known that there is none"),
            }
        }
    }

    /// Sends a document a second time, and looks after a while whether it stands twice.
    fn send_again(&mut self, image: &str, without: Duration) {
        assert_eq!(BOUNDS.broken_by(&self.observed), None, "sent in doubt, although the bound is known not to hold");
        self.create(image, self.now, true);
        let standing = self.deeds.iter().filter(|deed| deed.image == image).count();
        self.doubled += standing - 1;
        self.now += RECHECK;
        let listed = self.list().documents.iter().filter(|document| document.image_ids == [image]).count();
        if listed > 1 {
            self.reported += listed - 1;
            self.observed.late = self.observed.late.max(without);
        }
    }
}

#[test]
fn late_deeds_and_lists_behind_from_none_to_three_minutes_each() {
    let (mut inside, mut beyond, mut doubled) = (0, 0, 0);
    for late in SECONDS.step_by(STEP) {
        for lag in SECONDS.step_by(STEP) {
            let mut profile = Profile::new(late, lag, true);
            for number in 0..JOBS {
                profile.job(number);
            }
            let said = format!("late {late} s, lag {lag} s: {} doubled, {} held", profile.doubled, profile.held);
            assert_eq!(profile.reported, profile.doubled, "not every double is reported: {said}");
            if late <= 60 && lag <= 10 {
                inside += 1;
                assert_eq!((profile.doubled, profile.held), (0, 0), "inside the bound: {said}");
            } else {
                beyond += 1;
                // The first one is how it is found out.
                assert!(profile.doubled <= 1, "more than the first was sent twice: {said}");
                doubled += profile.doubled;
            }
        }
    }
    eprintln!("grid: {inside} inside the bound, 0 doubled; {beyond} beyond, {doubled} doubled, all reported");
    assert!(doubled > 0, "nothing goes wrong beyond the bound, so this shows nothing");
}

#[test]
fn where_no_list_has_to_show_anything_nothing_is_sent_again() {
    for late in SECONDS.step_by(STEP) {
        for lag in SECONDS.step_by(STEP) {
            let mut profile = Profile::new(late, lag, false);
            profile.job(0);
            assert_eq!((profile.doubled, profile.held), (0, 0), "late {late} s, lag {lag} s: it is found");
        }
    }
    let mut never = Profile::new(u64::MAX / 2, 0, false);
    never.job(0);
    assert_eq!((never.doubled, never.held), (0, 1), "what never comes is left to a person");
}
