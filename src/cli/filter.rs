//! The arguments that say which jobs are meant, the same for every command that lists jobs or acts on them.

use std::time::Duration;

use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};

use crate::{clock::Timestamp, config::parse_duration, entry::ProfileId, job::JobState, queue::views::Filter};

/// Which jobs are meant: all of what is given must hold.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which jobs")]
pub struct FilterArgs {
    /// In one of these states, e.g. --state failed,held
    #[arg(long = "state", value_name = "STATE", value_delimiter = ',', value_parser = state_parser())]
    pub states: Vec<JobState>,

    /// Of the drop of this name, e.g. --drop partner-a
    #[arg(long, value_name = "NAME")]
    pub drop: Option<String>,

    /// For this profile, in any letter case, e.g. --profile a2c4393a-e219-67a4-5ab4-2186952e9038
    #[arg(long, value_name = "UUID", value_parser = parse_profile)]
    pub profile: Option<ProfileId>,

    /// With this reference of the sender, e.g. --reference customer-17/passport
    #[arg(long, value_name = "TEXT")]
    pub reference: Option<String>,

    /// Of this manifest: its path, or the end of it, e.g. --manifest batch-7.manifest.json
    #[arg(long, value_name = "PATH")]
    pub manifest: Option<String>,

    /// Whose reason or problems contain this, in any letter case, e.g. --error 'HTTP 403'
    #[arg(long, value_name = "TEXT")]
    pub error: Option<String>,

    /// Of this cause, as `causes` numbers them, e.g. --cause 3
    #[arg(long, value_name = "NUMBER")]
    pub cause: Option<i64>,

    /// Taken in or ended since then: a duration ago (2h, 30m, 7d), a date in UTC (2026-11-22), or a moment
    /// (2026-11-22T20:15:04Z)
    #[arg(long, value_name = "WHEN", value_parser = parse_since)]
    pub since: Option<Since>,
}

/// How `--since` may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// This long ago.
    Ago(Duration),
    /// At this moment.
    At(Timestamp),
}

impl Since {
    pub(super) fn moment(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Ago(ago) => Timestamp(now.0.saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX))),
            Self::At(moment) => moment,
        }
    }
}

impl FilterArgs {
    /// The same for the queue.
    #[must_use]
    pub fn filter(&self, now: Timestamp) -> Filter {
        Filter {
            ids: Vec::new(),
            states: self.states.clone(),
            drop: self.drop.clone(),
            profile: self.profile.as_ref().map(ToString::to_string),
            reference: self.reference.clone(),
            manifest: self.manifest.clone(),
            error: self.error.clone(),
            cause: self.cause,
            since: self.since.map(|since| since.moment(now)),
            limit: None,
        }
    }
}

/// Zero is how people say that there is no limit.
#[must_use]
pub fn limit(limit: u32) -> Option<u32> {
    (limit > 0).then_some(limit)
}

fn state_parser() -> impl TypedValueParser<Value = JobState> {
    let known = PossibleValuesParser::new(JobState::ALL.map(JobState::as_str));
    known.try_map(|state| JobState::parse(&state).ok_or("there is no such state"))
}

fn parse_profile(text: &str) -> Result<ProfileId, &'static str> {
    ProfileId::parse(text).ok_or("a profile is a UUID, e.g. a2c4393a-e219-67a4-5ab4-2186952e9038")
}

pub(super) fn parse_since(text: &str) -> Result<Since, String> {
    // A bare number could be seconds or a year.
    let bare = text.trim().bytes().all(|byte| byte.is_ascii_digit());
    if let Some(ago) = parse_duration(text).ok().filter(|_| !bare) {
        return Ok(Since::Ago(ago));
    }
    let moment = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let day: jiff::civil::Date = text.parse().ok()?;
        day.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|midnight| midnight.timestamp())
    });
    moment
        .map(|moment| Since::At(Timestamp(moment.as_millisecond())))
        .ok_or_else(|| "it is no time: write e.g. 2h, 2026-11-22, or 2026-11-22T20:15:04Z".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: FilterArgs,
    }

    const NOW: Timestamp = Timestamp(1_795_378_504_000);

    fn parse(args: &[&str]) -> Result<Filter, String> {
        let parsed = Cli::try_parse_from([&["jobs"], args].concat());
        parsed.map(|cli| cli.args.filter(NOW)).map_err(|error| error.to_string())
    }

    #[test]
    fn no_filter_means_every_job() {
        assert!(parse(&[]).unwrap().is_empty());
    }

    #[test]
    fn states_come_in_a_list_or_one_by_one() {
        let wanted = vec![JobState::Failed, JobState::Held];
        assert_eq!(parse(&["--state=failed,held"]).unwrap().states, wanted);
        assert_eq!(parse(&["--state", "failed", "--state", "held"]).unwrap().states, wanted);
        assert!(parse(&["--state=faild"]).unwrap_err().contains("a similar value exists: 'failed'"));
    }

    #[test]
    fn moments_read_as_people_write_them() {
        let since = |text: &str| parse(&[&format!("--since={text}")]).map(|filter| filter.since.unwrap());
        assert_eq!(since("2h"), Ok(Timestamp(NOW.0 - 7_200_000)));
        assert_eq!(since("2026-11-22T20:15:04Z").unwrap().to_string(), "2026-11-22T20:15:04Z");
        assert_eq!(since("2026-11-22T21:15:04+01:00"), since("2026-11-22T20:15:04Z"));
        assert_eq!(since("2026-11-22").unwrap().to_string(), "2026-11-22T00:00:00Z");
        for slip in ["yesterday", "2026", "", "2026-13-01", "999999999999999999999d"] {
            assert!(since(slip).unwrap_err().contains("2026-11-22"), "{slip}");
        }
    }

    #[test]
    fn a_profile_is_found_in_any_letter_case() {
        let filter = parse(&["--profile=A2C4393A-E219-67A4-5AB4-2186952E9038"]).unwrap();
        assert_eq!(filter.profile.as_deref(), Some("a2c4393a-e219-67a4-5ab4-2186952e9038"));
        assert!(parse(&["--profile=17"]).unwrap_err().contains("UUID"));
    }
}
