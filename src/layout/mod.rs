//! Layouts: archives as they are, read by a small file that says how.
//!
//! A source yields records; templates and tables make fields of them; records become entries, or problems that name their
//! row. A layout is a pure function of the archive: it has no loops, conditions, arithmetic or calls of programs. Entries
//! are handed over one at a time in the form of a JSON Lines manifest, and are checked as those of any manifest.

mod archive;
mod build;
mod compile;
mod decode;
mod draft;
mod finding;
mod form;
mod group;
mod guess;
mod guess_paths;
mod guess_profile;
mod in_words;
mod lookup;
mod made;
mod node;
mod pattern;
mod plan;
mod produce;
mod record;
mod sample;
mod shapes;
mod sources;
mod spill;
mod stage;
mod table;
mod target;
mod template;
mod temporary;
mod text;
mod trial;
mod words;
mod workbook;
mod workbook_parts;
mod xml;

pub use self::in_words::{ListInWords, WordsLayout};
pub(crate) use self::{
    finding::{FindingKind, LayoutError, PATH_OUTSIDE, RecordFinding, Weight},
    form::schema,
    guess::guess,
    lookup::FreshLookups,
    made::{LayoutCounts, Produced},
    plan::ArchiveLayout,
    produce::{probe, produce},
    stage::{ArchiveWarnings, Staged, load_lookups, stage, stage_list},
    target::ArchiveTarget,
    trial::{RecordTrial, TrialOutcome, WhichRecords, try_records},
};
