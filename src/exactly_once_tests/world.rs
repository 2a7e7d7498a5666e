//! The world of the model: an API that is as slow and odd as the bounds allow, a queue, its marks, and processes.
//!
//! Time is in ticks of ten seconds. A request that its client has lost is carried out within [`LIVES`] ticks or never,
//! and a document is in the lists [`LAG`] ticks after that. Everything else comes in any order.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex},
    time::Duration,
};

use stateright::{Model, Property};

use super::{
    answers::{Deed, Listed, Said, Shape, id_of, number_of},
    rules::{Moments, Rules},
};
use crate::{
    absence::{self, AbsenceBounds, Conclusion, Control, KnownDocument, ListReading, Observed, SoughtDocument},
    job::{Creation, JobEvent, JobState, Next, test_support},
    operation::Operation,
    outcome::{DocumentList, Outcome, Reply, answered_id},
    policy::LostFile,
    queue::lineage::decide::{DatabaseFacts, MarkBeside, SeenMark},
    retry::RetryPolicy,
    verdict::{RetryBounds, Trial, Verdict, judge},
};

const TICK: Duration = Duration::from_secs(10);
const LIVES: u8 = 2;
const LAG: u8 = 1;

const BOUNDS: AbsenceBounds = AbsenceBounds {
    absent_after: Duration::from_secs(10 * (LIVES + LAG) as u64),
    request_lives: Duration::from_secs(10 * LIVES as u64),
    list_lag: Duration::from_secs(10 * LAG as u64),
};

const JOBS: usize = 2;
/// The document on another profile that a control shows.
const ELSEWHERE: u8 = 0x80;

pub(super) const TWICE: &str = "never two documents for one job";
pub(super) const ANOTHERS: &str = "never another job's document";
pub(super) const FAILED_BUT_CREATED: &str = "what is called failed was not created";
pub(super) const UNSETTLED: &str = "everything ends or is held";

/// How far is looked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting {
    pub(super) ticks: u8,
    pub(super) kills: u8,
    pub(super) restores: u8,
    /// How many calls may be under way or late at the same time.
    pub(super) late_calls: usize,
    /// What the API may answer to calls that create, and what it may make of lists.
    pub(super) said: &'static [Said],
    pub(super) shapes: &'static [Shape],
}

pub(super) struct Worlds {
    pub(super) setting: Setting,
    pub(super) rules: Rules,
    known: Known,
}

/// What was decided before, because the rules are pure and the same question is asked in many worlds.
#[derive(Default)]
struct Known {
    outcomes: Mutex<HashMap<(Said, u8), Outcome>>,
    conclusions: Mutex<HashMap<Question, Result<Conclusion, Outcome>>>,
}

/// All that the conclusion of a reading depends on.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Question {
    shape: Shape,
    kind: Kind,
    job: usize,
    /// The job of each document, and whether it is in a list.
    documents: Vec<(usize, bool)>,
    rows: [KnownOfJob; JOBS],
}

/// A job's document with its age, how long ago its call ended, doubts, and the ID that it was answered.
type KnownOfJob = (Option<(u8, u8)>, Option<u8>, u8, Option<u8>);

/// What differs between the worlds that are begun with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Kind {
    /// Equal content has equal image IDs, and the jobs differ in their category.
    same_images: bool,
    /// The queue knows a document on another profile.
    has_control: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct World {
    kind: Kind,
    now: u8,
    database: Database,
    backup: Option<Database>,
    mark: Option<(u8, u8)>,
    processes: [Process; 2],
    calls: Vec<Call>,
    documents: Vec<Document>,
    kills: u8,
    restores: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Database {
    rows: [Row; JOBS],
    /// A bit for each start that it knows.
    starts: u8,
    commits: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Row {
    state: JobState,
    creation: Creation,
    /// From when on a document whose answer was lost is waited for.
    lost_at: Option<u8>,
    sent_at: u8,
    doubts: u8,
    /// The ID that came beside an error.
    answered: Option<u8>,
    created: Option<(u8, u8)>,
    /// The process that has it.
    holder: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Process {
    Off,
    /// It found that the database is not the one.
    Refused,
    On(Step),
}

/// Documents of one profile take turns, so a process is at one step for both jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Step {
    Idle,
    Claimed(usize),
    Intended(usize),
    Marked(usize),
    Calling(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Call {
    job: usize,
    /// The process that waits for its answer, or since when none does.
    client: Result<usize, u8>,
    /// What it created.
    document: Option<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Document {
    job: usize,
    since: u8,
    is_listed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Action {
    Start(usize),
    Claim(usize, usize),
    Intend(usize),
    Mark(usize),
    Send(usize),
    CarryOut(usize),
    Answer(usize, Said),
    List(usize),
    ReadBack(usize, Shape),
    Tick,
    Kill(usize),
    Backup,
    Restore,
}

const NEW: Row = Row {
    state: JobState::Queued,
    creation: Creation::None,
    lost_at: None,
    sent_at: 0,
    doubts: 0,
    answered: None,
    created: None,
    holder: None,
};

impl Model for Worlds {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let kinds = [(false, false), (false, true), (true, true)];
        kinds
            .map(|(same_images, has_control)| World {
                kind: Kind { same_images, has_control },
                now: 0,
                database: Database { rows: [NEW; JOBS], starts: 0, commits: 0 },
                backup: None,
                mark: None,
                processes: [Process::Off; 2],
                calls: Vec::new(),
                documents: Vec::new(),
                kills: 0,
                restores: 0,
            })
            .into()
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for process in 0..2 {
            self.steps_of(world, process, actions);
        }
        for (at, call) in world.calls.iter().enumerate() {
            let lives = call.client.map_or_else(|since| world.now <= since + LIVES, |_| true);
            if call.document.is_none() && lives && world.documents.len() < 4 {
                actions.push(Action::CarryOut(at));
            }
        }
        for (at, document) in world.documents.iter().enumerate() {
            if !document.is_listed {
                actions.push(Action::List(at));
            }
        }
        if world.now < self.setting.ticks {
            actions.push(Action::Tick);
        }
        if world.restores < self.setting.restores {
            if world.backup.is_none() && world.mark.is_some() {
                actions.push(Action::Backup);
            }
            if world.backup.is_some() && !world.is_any_on() {
                actions.push(Action::Restore);
            }
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        if let Action::Intend(process)
        | Action::Mark(process)
        | Action::Answer(process, _)
        | Action::ReadBack(process, _) = action
        {
            let holder = world.database.rows[world.job_of(process)?].holder;
            if holder != Some(process) {
                // What it would write does not fit the row, which ends it.
                world.end(process);
                return Some(world);
            }
        }
        match action {
            Action::Start(process) => self.start(&mut world, process),
            Action::Claim(process, job) => {
                let row = &mut world.database.rows[job];
                if row.state == JobState::Waiting {
                    row.on(JobEvent::Due);
                }
                row.on(JobEvent::Claimed);
                row.holder = Some(process);
                world.processes[process] = Process::On(Step::Claimed(job));
            }
            Action::Intend(process) => {
                let job = world.job_of(process)?;
                if self.rules.commits_intent {
                    world.database.rows[job].creation = Creation::Intended;
                }
                world.database.rows[job].sent_at = world.now;
                world.database.commits += 1;
                world.processes[process] = Process::On(Step::Intended(job));
            }
            Action::Mark(process) => {
                let job = world.job_of(process)?;
                world.mark = world.mark.map(|(start, _)| (start, world.database.commits));
                world.processes[process] = Process::On(Step::Marked(job));
            }
            Action::Send(process) => {
                let job = world.job_of(process)?;
                world.database.rows[job].sent_at = world.now;
                world.calls.push(Call { job, client: Ok(process), document: None });
                world.processes[process] = Process::On(Step::Calling(job));
            }
            Action::CarryOut(at) => {
                let document = Document { job: world.calls[at].job, since: world.now, is_listed: false };
                world.calls[at].document = Some(u8::try_from(world.documents.len()).unwrap());
                world.documents.push(document);
            }
            Action::Answer(process, said) => self.answer(&mut world, process, said)?,
            Action::List(at) => world.documents[at].is_listed = true,
            Action::ReadBack(process, shape) => self.read_back(&mut world, process, shape)?,
            Action::Tick => {
                world.now += 1;
                let now = world.now;
                for document in &mut world.documents {
                    document.is_listed |= document.since + LAG <= now;
                }
            }
            Action::Kill(process) => {
                world.kills += 1;
                world.end(process);
            }
            Action::Backup => world.backup = Some(world.database),
            Action::Restore => {
                world.restores += 1;
                world.database = world.backup?;
                world.backup = None;
                world.processes = [Process::Off; 2];
            }
        }
        world.forget();
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(TWICE, |_, world: &World| {
                (0..JOBS).all(|job| world.documents.iter().filter(|document| document.job == job).count() <= 1)
            }),
            Property::always(ANOTHERS, |_, world: &World| {
                let mut rows = world.database.rows.iter().enumerate();
                rows.all(|(job, row)| {
                    row.created
                        .is_none_or(|(id, _)| world.documents.get(usize::from(id)).is_some_and(|of| of.job == job))
                })
            }),
            Property::always(FAILED_BUT_CREATED, |_, world: &World| {
                world.database.rows.iter().enumerate().all(|(job, row)| {
                    row.state != JobState::Failed || !world.documents.iter().any(|document| document.job == job)
                })
            }),
            Property::always(UNSETTLED, |worlds: &Self, world: &World| {
                let over = world.now == worlds.setting.ticks && world.processes.contains(&Process::On(Step::Idle));
                !over || (0..JOBS).all(|job| worlds.settles(world, job))
            }),
        ]
    }
}

impl Worlds {
    pub(super) fn new(setting: Setting, rules: Rules) -> Self {
        Self { setting, rules, known: Known::default() }
    }

    fn steps_of(&self, world: &World, process: usize, actions: &mut Vec<Action>) {
        let step = match world.processes[process] {
            Process::Off => {
                // The second one only comes while the first is there.
                let alone = !world.is_any_on();
                let allowed = if process == 0 { alone } else { !alone && !self.rules.locks };
                if allowed {
                    actions.push(Action::Start(process));
                }
                return;
            }
            Process::Refused => return,
            Process::On(step) => step,
        };
        if world.kills < self.setting.kills {
            actions.push(Action::Kill(process));
        }
        match step {
            Step::Idle => {
                for (job, row) in world.database.rows.iter().enumerate() {
                    if matches!(row.state, JobState::Queued | JobState::Waiting) {
                        actions.push(Action::Claim(process, job));
                    }
                }
            }
            Step::Claimed(job) => match next(world.database.rows[job].creation) {
                Next::Create => actions.push(Action::Intend(process)),
                Next::ReadBack => {
                    actions.extend(self.setting.shapes.iter().map(|shape| Action::ReadBack(process, *shape)))
                }
                _ => {}
            },
            Step::Intended(_) => actions.push(Action::Mark(process)),
            Step::Marked(_) if world.calls.len() < self.setting.late_calls => actions.push(Action::Send(process)),
            Step::Marked(_) => {}
            Step::Calling(_) => {
                let call = world.calls.iter().find(|call| call.client == Ok(process));
                let is_done = call.is_some_and(|call| call.document.is_some());
                actions.extend(
                    self.setting
                        .said
                        .iter()
                        .filter(|said| match said.deed() {
                            Deed::Done => is_done,
                            Deed::Any => true,
                            Deed::Never => !is_done,
                        })
                        .map(|said| Action::Answer(process, *said)),
                );
            }
        }
    }

    /// A start compares the database with its marks, and takes back what another process left.
    fn start(&self, world: &mut World, process: usize) {
        let database = world.database;
        // No file numbers, as on a file system that keeps none, or where a backup is written over the database.
        let facts = DatabaseFacts {
            is_marked: database.starts > 0,
            knows_start: world.mark.is_some_and(|(start, _)| database.starts & (1 << start) > 0),
            commits: i64::from(database.commits),
            file: None,
            backup_of: None,
        };
        let beside = world.mark.map_or(SeenMark::Missing, |(start, commits)| {
            SeenMark::Found(MarkBeside { start: start.into(), commits: Some(commits.into()), file: None })
        });
        if !(self.rules.lineage)(&facts, &beside) {
            world.processes[process] = Process::Refused;
            return;
        }
        let start = world.mark.map_or(0, |(start, _)| start + 1);
        world.database.starts |= 1 << start;
        world.mark = Some((start, database.commits));
        for row in &mut world.database.rows {
            if row.state != JobState::Running {
                continue;
            }
            if row.creation == Creation::None {
                row.on(JobEvent::GaveBack);
                continue;
            }
            if row.creation == Creation::Intended {
                row.lost_at = Some((self.rules.recovered_at)(Moments { sent: row.sent_at, ended: world.now }));
                row.doubts = 0;
            }
            row.creation = Creation::Unknown;
            row.on(JobEvent::PutOff);
        }
        world.processes[process] = Process::On(Step::Idle);
    }

    fn answer(&self, world: &mut World, process: usize, said: Said) -> Option<()> {
        let at = world.calls.iter().position(|call| call.client == Ok(process))?;
        let call = world.calls[at];
        let exchange = said.exchange(&id_of(call.document.unwrap_or_default()));
        let document = call.document.unwrap_or_default();
        let mut known = self.known.outcomes.lock().unwrap();
        let outcome = known.entry((said, document)).or_insert_with(|| (self.rules.outcome)(&exchange)).clone();
        drop(known);
        let now = world.now;
        if said.deed() == Deed::Any {
            world.calls[at].client = Err(now);
        } else {
            world.calls.remove(at);
        }
        let row = &mut world.database.rows[call.job];
        if let Outcome::Done(Reply::Document { id }) = &outcome {
            row.created = Some((number_of(id), now));
            row.on(JobEvent::Created);
        } else {
            if matches!(outcome, Outcome::Lost(_) | Outcome::Unattributed(_)) {
                row.creation = Creation::Unknown;
                row.lost_at = Some((self.rules.lost_at)(Moments { sent: row.sent_at, ended: now }));
                row.doubts = 0;
                row.answered = answered_id(&exchange).map(|id| number_of(&id));
            } else {
                row.creation = Creation::None;
            }
            row.judged(Operation::CreateDocument, &outcome);
        }
        world.processes[process] = Process::On(Step::Idle);
        Some(())
    }

    fn read_back(&self, world: &mut World, process: usize, shape: Shape) -> Option<()> {
        let job = world.job_of(process)?;
        world.processes[process] = Process::On(Step::Idle);
        let question = world.question(job, shape);
        let before = self.known.conclusions.lock().unwrap().get(&question).cloned();
        let concluded = before.unwrap_or_else(|| self.ask(world, job, shape));
        self.known.conclusions.lock().unwrap().insert(question, concluded.clone());
        let conclusion = match concluded {
            Ok(conclusion) => conclusion,
            Err(outcome) => {
                world.database.rows[job].judged(Operation::ReadDocuments, &outcome);
                return Some(());
            }
        };
        let now = world.now;
        let row = &mut world.database.rows[job];
        match conclusion {
            Conclusion::Created(id) => {
                row.created = Some((number_of(&id), now));
                row.on(JobEvent::Created);
            }
            Conclusion::Absent => {
                row.creation = Creation::None;
                (row.lost_at, row.doubts, row.answered) = (None, 0, None);
                world.processes[process] = Process::On(Step::Claimed(job));
            }
            Conclusion::Wait { doubt } => {
                row.doubts += u8::from(doubt.is_some());
                row.on(JobEvent::PutOff);
            }
            Conclusion::Held { .. } => row.on(JobEvent::Held),
            Conclusion::NeedsControl => return None,
        }
        Some(())
    }

    /// What follows from asking for the profile's list, or what came instead of one.
    fn ask(&self, world: &World, job: usize, shape: Shape) -> Result<Conclusion, Outcome> {
        let elsewhere = elsewhere();
        let list = match (self.rules.outcome)(&shape.exchange(&world.listed(), &elsewhere)) {
            Outcome::Done(Reply::Documents(list)) => list,
            outcome => return Err(outcome),
        };
        let control = || match (self.rules.outcome)(&shape.exchange(std::slice::from_ref(&elsewhere), &elsewhere)) {
            Outcome::Done(Reply::Documents(list)) => absence::shows(&list, &known_elsewhere()),
            _ => Err("it cannot be read".to_owned()),
        };
        Ok(self.conclude(world, job, &list, control))
    }

    /// What follows from a list, with a control where one is needed.
    fn conclude(
        &self,
        world: &World,
        job: usize,
        list: &DocumentList,
        control: impl Fn() -> Result<(), String>,
    ) -> Conclusion {
        let row = &world.database.rows[job];
        let others = || world.database.rows.iter().enumerate().filter(|(other, _)| *other != job);
        let known: Vec<KnownDocument> = others()
            .filter_map(|(other, row)| {
                let (id, since) = row.created?;
                let age = TICK * u32::from(world.now - since);
                Some(KnownDocument { id: id_of(id), image_ids: world.images(other), age })
            })
            .collect();
        let taken: Vec<String> = known.iter().map(|known| known.id.clone()).collect();
        let same_images = others().filter(|(other, _)| world.images(*other) == world.images(job));
        let latest = same_images.filter_map(|(_, row)| row.lost_at).chain(row.lost_at).max();
        let sought = SoughtDocument {
            category: world.category(job).to_owned(),
            document_type: "PASSPORT".to_owned(),
            image_ids: world.images(job),
            answered_id: row.answered.map(id_of),
        };
        let mut reading = ListReading {
            sought: &sought,
            list,
            known: &known,
            taken: &taken,
            is_foreign: list.documents.iter().any(|document| document.id == id_of(ELSEWHERE)),
            control: if world.kind.has_control { &Control::Unread } else { &Control::Unavailable },
            ended_for: latest.filter(|_| row.lost_at.is_some()).map(|latest| TICK * u32::from(world.now - latest)),
            doubts: u32::from(row.doubts),
            bounds: &BOUNDS,
            observed: Observed::default(),
        };
        match (self.rules.decide)(&reading) {
            Conclusion::NeedsControl => {
                let control = control().map_or_else(Control::NotShown, |()| Control::Shown);
                reading.control = &control;
                (self.rules.decide)(&reading)
            }
            conclusion => conclusion,
        }
    }

    /// Whether a job has ended, is held, or does so once the API behaves.
    fn settles(&self, world: &World, job: usize) -> bool {
        let mut world = world.clone();
        world.now += LIVES + LAG;
        for document in &mut world.documents {
            document.is_listed = true;
        }
        let list = match (self.rules.outcome)(&Shape::Faithful.exchange(&world.listed(), &elsewhere())) {
            Outcome::Done(Reply::Documents(list)) => list,
            _ => return false,
        };
        for _ in 0..=absence::MOST_DOUBTS {
            let row = world.database.rows[job];
            if row.creation != Creation::Unknown || row.state.has_ended() || row.state == JobState::Held {
                return true;
            }
            match self.conclude(&world, job, &list, || Ok(())) {
                Conclusion::Wait { doubt } => world.database.rows[job].doubts += u8::from(doubt.is_some()),
                Conclusion::NeedsControl => return false,
                Conclusion::Created(_) | Conclusion::Absent | Conclusion::Held { .. } => return true,
            }
        }
        false
    }
}

impl World {
    fn is_any_on(&self) -> bool {
        self.processes.iter().any(|process| matches!(process, Process::On(_)))
    }

    /// Ends a process; nobody waits for its call any more.
    fn end(&mut self, process: usize) {
        self.processes[process] = Process::Off;
        for call in &mut self.calls {
            if call.client == Ok(process) {
                call.client = Err(self.now);
            }
        }
    }

    fn job_of(&self, process: usize) -> Option<usize> {
        match self.processes[process] {
            Process::On(Step::Claimed(job) | Step::Intended(job) | Step::Marked(job) | Step::Calling(job)) => Some(job),
            _ => None,
        }
    }

    fn question(&self, job: usize, shape: Shape) -> Question {
        let ago = |since: u8| self.now - since;
        Question {
            shape,
            kind: self.kind,
            job,
            documents: self.documents.iter().map(|document| (document.job, document.is_listed)).collect(),
            rows: self.database.rows.map(|row| {
                (row.created.map(|(id, since)| (id, ago(since))), row.lost_at.map(ago), row.doubts, row.answered)
            }),
        }
    }

    fn images(&self, job: usize) -> Vec<String> {
        let first = if self.kind.same_images { 0x10 } else { 0x10 + 2 * u8::try_from(job).unwrap() };
        vec![id_of(first), id_of(first + 1)]
    }

    fn category(&self, job: usize) -> &'static str {
        if self.kind.same_images && job == 1 { "PROOF_OF_ADDRESS" } else { "PROOF_OF_IDENTITY" }
    }

    /// The documents that are in a list by now.
    fn listed(&self) -> Vec<Listed> {
        let listed = self.documents.iter().enumerate().filter(|(_, document)| document.is_listed);
        listed
            .map(|(at, document)| Listed {
                id: id_of(u8::try_from(at).unwrap()),
                category: self.category(document.job),
                images: self.images(document.job),
            })
            .collect()
    }

    /// Drops what has no effect any more, so that equal worlds are equal.
    fn forget(&mut self) {
        let now = self.now;
        self.calls.retain(|call| match call.client {
            Ok(_) => true,
            Err(since) => call.document.is_none() && now <= since + LIVES,
        });
        self.calls.sort_unstable();
        for row in &mut self.database.rows {
            if row.state.has_ended() {
                (row.lost_at, row.doubts, row.answered, row.sent_at) = (None, 0, None, 0);
            }
        }
    }
}

impl Row {
    fn on(&mut self, event: JobEvent) {
        self.state = self.state.after(event).unwrap();
        self.holder = None;
    }

    /// What a call that did not work means.
    fn judged(&mut self, operation: Operation, outcome: &Outcome) {
        let verdict = judge(operation, outcome, Trial::default(), TICK, None, &RETRY, 0.5);
        self.on(match verdict {
            Some(Verdict::Wait { .. }) => JobEvent::PutOff,
            Some(Verdict::PauseAccount { .. }) => JobEvent::GaveBack,
            Some(Verdict::Refuse { .. }) if self.creation == Creation::None => JobEvent::Refused,
            Some(Verdict::Refuse { .. } | Verdict::Hold { .. }) | None => JobEvent::Held,
        });
    }
}

const RETRY: RetryBounds = RetryBounds {
    retry: RetryPolicy {
        initial: Duration::from_secs(1),
        max: Duration::from_secs(900),
        give_up_after: Duration::from_secs(259_200),
    },
    absence: BOUNDS,
    lost_file: LostFile::Send,
    file: Duration::from_secs(86_400),
};

/// What a job with all images does next.
fn next(creation: Creation) -> Next {
    static NEXT: LazyLock<Vec<(Creation, Next)>> = LazyLock::new(|| {
        let of = |creation| test_support::job(|job| job.creation = creation);
        Creation::ALL.map(|creation| (creation, of(creation).next())).into()
    });
    NEXT.iter().find(|(of, _)| *of == creation).unwrap().1.clone()
}

fn elsewhere() -> Listed {
    Listed { id: id_of(ELSEWHERE), category: "PROOF_OF_IDENTITY", images: vec![id_of(ELSEWHERE + 1)] }
}

fn known_elsewhere() -> KnownDocument {
    KnownDocument { id: id_of(ELSEWHERE), image_ids: vec![id_of(ELSEWHERE + 1)], age: TICK * 100 }
}
