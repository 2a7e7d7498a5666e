//! `plan`: how much work manifests are, and when it would be done.

use std::time::Duration;

use clap::Args;
use indicatif::{HumanBytes, HumanCount};
use jiff::{Zoned, civil, tz::TimeZone};
use serde::Serialize;

use super::{
    Context, Exit,
    check::{asked, configuration, unready},
    import::targets,
    layout::{InputPaths, failure, many},
    output::{Output, escape, on_streams, plural},
    start::Usage,
};
use crate::{
    clock::Timestamp,
    config::{Config, parse_duration, parse_size},
    dispatch::{changes_after, is_open},
    estimate::{Constraint, Estimate, OpenHours, Throttle, estimate, needed},
    inbox::beneath::Root,
    intake::{
        examine::{self, ManifestRules, open},
        survey::{Survey, survey},
    },
    layout::stage,
    problem::Problem,
    relative_path,
};

/// Count what these manifests ask for, and say when it would be done, and what limits it.
///
/// Sends nothing and reads no image. Entries that are wrong, or whose files are not there, are left out; that an entry was
/// created before is not known here. The limits and windows are those of the configuration; how fast the API answers it
/// cannot know, so --time-a-call says so.
#[derive(Debug, Args)]
#[command(after_help = "A moment is written as 06:00, 2026-12-01, 2026-12-01T06:00, or with an offset, as \
                  2026-12-01T06:00:00+01:00.\n\nExit codes: 0 all good; 1 a manifest is unusable, or --by is missed; 2 \
                  usage or configuration is wrong.\n\nExamples:\n  passfort-ingest plan /archive\n  passfort-ingest plan \
                  /archive --link 5MB --time-a-call 400ms --by 2026-12-01T06:00")]
pub struct PlanArgs {
    #[command(flatten)]
    input: InputPaths,

    /// Read the manifests by the rules of this configured drop.
    #[arg(long, value_name = "NAME")]
    drop: Option<String>,

    /// How much the link to the API carries in a second, e.g. 5MB; else it does not count.
    #[arg(long, value_name = "SIZE", value_parser = speed)]
    link: Option<u64>,

    /// How long a call takes.
    #[arg(long, value_name = "DURATION", default_value = "300ms", value_parser = parse_duration)]
    time_a_call: Duration,

    /// When the work begins; else now.
    #[arg(long, value_name = "MOMENT")]
    from: Option<String>,

    /// When it must be done: says what would have to be faster.
    #[arg(long, value_name = "MOMENT")]
    by: Option<String>,

    /// Print an object.
    #[arg(long)]
    json: bool,
}

fn speed(text: &str) -> Result<u64, String> {
    parse_size(text).and_then(|bytes| if bytes > 0 { Ok(bytes) } else { Err("it must be above 0".to_owned()) })
}

/// How much slower it may be: calls that fail and are repeated, images that are larger than most.
const SLOWER: f64 = 0.8;

/// Runs the command.
///
/// # Errors
///
/// Where a path, a moment or the configuration cannot be used.
pub fn run(args: &PlanArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = configuration(context)?;
    let zone = TimeZone::system();
    let now = Timestamp::now();
    let start = args.from.as_deref().map_or(Ok(now), |text| moment(text, now, &zone))?;
    let by = args.by.as_deref().map(|text| moment(text, start, &zone)).transpose()?;
    on_streams(|output| {
        let (work, manifests, unusable) = count(args, &config, output)?;
        let plan = WorkPlan::new(args, &config, (work, manifests, unusable), start, by);
        if args.json {
            output.json(&plan)?;
        } else {
            output.out.write_all(plan.in_words(args, &config, &zone).as_bytes())?;
        }
        let missed = by.is_some() && !plan.by.as_ref().is_some_and(|by| by.met);
        Ok(if unusable > 0 || missed { Exit::Refused } else { Exit::Well })
    })
}

/// Counts what the manifests ask for; also how many there are, and how many of them are unusable.
fn count(args: &PlanArgs, config: &Config, output: &mut Output<'_>) -> anyhow::Result<(Survey, u64, u64)> {
    let drop = asked(args.drop.as_deref(), config)?;
    let rules = ManifestRules::of(drop, config.api.max_image_bytes, 0);
    let root = args
        .input
        .root
        .as_ref()
        .map(|root| Root::open(root).map_err(|error| Usage(format!("--root {}: {error}", root.display()))));
    let root = root.transpose()?;
    let (mut work, mut manifests, mut unusable) = (Survey::default(), 0, 0);
    if let Some(layout) = args.input.layout()? {
        for (path, archive) in args.input.paths.iter().zip(args.input.archives(&layout)) {
            let (target, root) = archive?;
            let staged = stage(&layout, &target, &root, false, &mut |_| Ok(())).map_err(failure)?;
            manifests += 1;
            if staged.counts.invalid > 0 {
                let invalid = many(staged.counts.invalid, "problem");
                output.remark(&format!("{}: {invalid}, left out: see `check --layout`", path.display()));
            }
            if staged.counts.documents + staged.counts.files > 0 {
                let opened = examine::staged(staged.file, staged.sha256, staged.warnings)?;
                work.add(&survey(&opened, &root, "", &rules)?.0);
            }
        }
        return Ok((work, manifests, unusable));
    }
    for target in targets(&args.input.paths, config, drop, &[])? {
        manifests += 1;
        let own = Root::open(&target.root)?;
        let (images, folder) = match &root {
            Some(root) => (root, ""),
            None => (&own, relative_path::parent(&target.manifest)),
        };
        let read = open(&own, &target.manifest, rules.limits.max_bytes)
            .and_then(|opened| survey(&opened, images, folder, &rules));
        let problems = match read {
            Ok((found, problems)) => {
                work.add(&found);
                problems.unwrap_or_default()
            }
            Err(error) => vec![unready(&error, &target.manifest)],
        };
        unusable += u64::from(!problems.is_empty());
        for Problem { reason, cure, .. } in problems.iter().take(1) {
            let path = target.root.join(&target.manifest);
            output.remark(&escape(&format!("{} is unusable, and left out: {reason}; {cure}", path.display())));
        }
    }
    Ok((work, manifests, unusable))
}

/// What is said.
#[derive(Debug, Serialize)]
struct WorkPlan {
    manifests: u64,
    unusable: u64,
    #[serde(flatten)]
    work: Survey,
    #[serde(serialize_with = "iso")]
    from: Timestamp,
    /// `null` where it would not be done in years.
    #[serde(serialize_with = "iso_or_null")]
    done: Option<Timestamp>,
    /// Where calls have to be repeated, or take longer.
    #[serde(serialize_with = "iso_or_null")]
    done_at_the_latest: Option<Timestamp>,
    limited_by: Option<Constraint>,
    /// How long sending is not allowed until then, in seconds.
    closed_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<By>,
}

fn iso<S: serde::Serializer>(moment: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(moment)
}

fn iso_or_null<S: serde::Serializer>(moment: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match moment {
        Some(moment) => serializer.collect_str(moment),
        None => serializer.serialize_none(),
    }
}

/// What it would take to be done by a moment.
#[derive(Debug, Serialize)]
struct By {
    #[serde(serialize_with = "iso")]
    moment: Timestamp,
    met: bool,
    /// Nothing may be sent before it.
    closed: bool,
    /// What would have to be faster, and how fast.
    needed: Vec<Needed>,
}

#[derive(Debug, Serialize)]
struct Needed {
    limit: Constraint,
    now: f64,
    needed: f64,
}

impl WorkPlan {
    fn new(
        args: &PlanArgs,
        config: &Config,
        (work, manifests, unusable): (Survey, u64, u64),
        start: Timestamp,
        by: Option<Timestamp>,
    ) -> Self {
        let windows = &config.limits.windows;
        let at = |moment: i64| {
            let moment = Timestamp(moment);
            (is_open(windows, moment), changes_after(windows, moment).map(|change| change.0))
        };
        let hours = OpenHours::from(start.0, &at);
        let limits = throttles(args, config, &work);
        let of = |limits: &[Throttle]| estimate(limits, &hours, start.0, Constraint::CallTime);
        let done = of(&limits);
        let slower: Vec<_> = limits.iter().map(|limit| limit.scaled(SLOWER)).collect();
        Self {
            manifests,
            unusable,
            work,
            from: start,
            done: done.map(|estimate| Timestamp(estimate.done)),
            done_at_the_latest: of(&slower).map(|estimate| Timestamp(estimate.done)),
            limited_by: done.map(|Estimate { binds, .. }| binds),
            closed_seconds: done.map(|estimate| estimate.closed / 1000),
            by: by.map(|moment| By {
                moment,
                met: done.is_some_and(|estimate| estimate.done <= moment.0),
                closed: hours.open_until(moment.0) == 0,
                needed: limits.iter().filter_map(|limit| faster(limit, &hours, start, moment)).collect(),
            }),
        }
    }

    fn in_words(&self, args: &PlanArgs, config: &Config, zone: &TimeZone) -> String {
        let Survey { entries, left_out, documents, files, images, bytes, requests, request_bytes } = self.work;
        let [entries, left_out, documents, files, images, requests] =
            [entries, left_out, documents, files, images, requests].map(|count| HumanCount(count).to_string());
        let mut text = format!(
            "{} ({} unusable), {entries} entries, {left_out} of them left out: wrong, or their files are not \
             there\n{documents} documents with {images} images, and {files} files: {}\n{requests} requests with bodies of \
             {}\n\n",
            plural(self.manifests, "manifest", "manifests"),
            self.unusable,
            HumanBytes(bytes),
            HumanBytes(request_bytes),
        );
        let mut line = |name: &str, value: &str| text.push_str(&format!("{name:<12}{value}\n"));
        line("from", &local(self.from, zone));
        match (self.done, self.done_at_the_latest, self.limited_by) {
            (Some(done), latest, Some(binds)) => {
                let latest = latest.map_or_else(|| "open".to_owned(), |latest| local(latest, zone));
                line("done", &format!("{}; where calls are slow or repeated: {latest}", local(done, zone)));
                line("limited by", &describe(binds, args, config));
            }
            _ => line("done", "not in years: see limits.windows and the other limits"),
        }
        if let Some(closed) = self.closed_seconds.filter(|closed| *closed > 0) {
            line("windows", &format!("for {} of this time nothing may be sent", span(closed)));
        }
        let link = args
            .link
            .map_or_else(|| "any link speed (--link)".to_owned(), |link| format!("{} a second", HumanBytes(link)));
        let calls = config.workers.max_in_flight;
        line("assuming", &format!("{:?} a call (--time-a-call), {calls} calls at once, {link}", args.time_a_call));
        if let Some(by) = &self.by {
            line("by", &local(by.moment, zone));
            let met = match (by.met, by.closed) {
                (true, _) => "it is done before that",
                (false, true) => "not possible: nothing may be sent before that (limits.windows)",
                (false, false) => "it is not done before that; it would be with",
            };
            line("", met);
            for Needed { limit, now, needed } in by.needed.iter().filter(|_| !by.met) {
                line("", &format!("  {}", in_numbers(*limit, *now, *needed)));
            }
        }
        text
    }
}

/// The limits as the worker keeps them.
#[expect(clippy::cast_precision_loss, reason = "counts of documents and bytes are far below 2^52")]
fn throttles(args: &PlanArgs, config: &Config, work: &Survey) -> Vec<Throttle> {
    let limits = &config.limits;
    let (requests, bytes) = (work.requests as f64, work.request_bytes as f64);
    let documents = limits.documents_per_hour.map(|hourly| {
        // A tenth of an hour's documents at once, and the rest evenly: no hour has more.
        let (hourly, burst) = (hourly as f64, (hourly as f64 / 10.0).floor().max(1.0));
        let rate = ((hourly - burst) / 3600.0).max(hourly / 7200.0);
        Throttle::at_rest(Constraint::DocumentsPerHour, work.documents as f64, rate, burst)
    });
    let per_second = limits
        .requests_per_second
        .map(|rate| Throttle::at_rest(Constraint::RequestsPerSecond, requests, rate, (rate / 10.0).max(1.0)));
    let bodies = limits
        .bytes_per_second
        .map(|rate| Throttle::at_rest(Constraint::BytesPerSecond, bytes, rate as f64, rate as f64 / 4.0));
    let link = args.link.map(|rate| Throttle::speed(Constraint::Link, bytes, rate as f64));
    let at_once = config.workers.max_in_flight as f64;
    let calls = Throttle::speed(Constraint::CallTime, requests, at_once / args.time_a_call.as_secs_f64().max(1e-3));
    [documents, per_second, bodies, link, Some(calls)].into_iter().flatten().collect()
}

/// What a limit would have to be, where it is too slow.
fn faster(limit: &Throttle, hours: &OpenHours<'_>, start: Timestamp, by: Timestamp) -> Option<Needed> {
    let factor = needed(limit, hours, start.0, by.0).filter(|factor| *factor > 1.0)?;
    // The hourly limit is its even rate and its burst together.
    let now = match limit.constraint {
        Constraint::DocumentsPerHour => limit.rate.mul_add(3600.0, limit.burst),
        _ => limit.rate,
    };
    Some(Needed { limit: limit.constraint, now, needed: now * factor })
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and below what can be counted")]
fn in_numbers(limit: Constraint, now: f64, needed: f64) -> String {
    let whole = |number: f64| HumanCount(number.ceil() as u64).to_string();
    let bytes = |number: f64| HumanBytes(number.ceil() as u64).to_string();
    match limit {
        Constraint::DocumentsPerHour => format!("limits.documents_per_hour = {} (now {})", whole(needed), whole(now)),
        Constraint::RequestsPerSecond => format!("limits.requests_per_second = {needed:.1} (now {now:.1})"),
        Constraint::BytesPerSecond => format!("limits.bytes_per_second of {} (now {})", bytes(needed), bytes(now)),
        Constraint::Link => format!("a link of {} a second (now {})", bytes(needed), bytes(now)),
        Constraint::CallTime => format!(
            "{needed:.1} calls a second (now {now:.1}): more calls at once (workers.max_in_flight), or shorter ones"
        ),
        Constraint::Windows => "longer sending windows".to_owned(),
        // A plan knows nothing of these.
        Constraint::ApiQuota | Constraint::MeasuredRate | Constraint::Retry => String::new(),
    }
}

fn describe(binds: Constraint, args: &PlanArgs, config: &Config) -> String {
    let limits = &config.limits;
    match binds {
        Constraint::DocumentsPerHour => {
            format!("limits.documents_per_hour = {}", limits.documents_per_hour.unwrap_or_default())
        }
        Constraint::RequestsPerSecond => {
            format!("limits.requests_per_second = {}", limits.requests_per_second.unwrap_or_default())
        }
        Constraint::BytesPerSecond => {
            format!("limits.bytes_per_second = {}", HumanBytes(limits.bytes_per_second.unwrap_or_default()))
        }
        Constraint::Link => format!("the link: {} a second", HumanBytes(args.link.unwrap_or_default())),
        Constraint::CallTime | Constraint::ApiQuota | Constraint::MeasuredRate | Constraint::Retry => {
            "the time a call takes, and how many are made at once".to_owned()
        }
        Constraint::Windows => {
            let windows: Vec<_> = limits.windows.iter().map(|window| format!("{:?}", window.to_string())).collect();
            format!("limits.windows = [{}]", windows.join(", "))
        }
    }
}

/// Reads a moment: with an offset, or local; a time of day alone is the next one after `now`.
fn moment(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, Usage> {
    let wrong =
        |_| Usage(format!("{text:?} is no moment: write e.g. 06:00, 2026-12-01T06:00, or 2026-12-01T06:00:00+01:00"));
    if let Ok(exact) = text.parse::<jiff::Timestamp>() {
        return Ok(Timestamp(exact.as_millisecond()));
    }
    let local = if let Ok(time) = text.parse::<civil::Time>().map_err(wrong)
        && !text.contains('-')
    {
        let now = in_zone(now, zone).datetime();
        let today = now.date().to_datetime(time);
        if today > now { today } else { now.date().tomorrow().map_err(wrong)?.to_datetime(time) }
    } else {
        text.parse::<civil::DateTime>().map_err(wrong)?
    };
    Ok(Timestamp(local.to_zoned(zone.clone()).map_err(wrong)?.timestamp().as_millisecond()))
}

fn in_zone(moment: Timestamp, zone: &TimeZone) -> Zoned {
    Zoned::new(jiff::Timestamp::from_millisecond(moment.0).unwrap_or_default(), zone.clone())
}

fn local(moment: Timestamp, zone: &TimeZone) -> String {
    in_zone(moment, zone).strftime("%a %Y-%m-%d %H:%M %Z").to_string()
}

/// A number of seconds for people.
fn span(seconds: i64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds % 86_400 / 3600, seconds % 3600 / 60);
    match days {
        0 => format!("{hours} h {minutes:02} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_people_write_them() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let now: jiff::Timestamp = "2026-11-29T20:00:00+01:00".parse().unwrap();
        let now = Timestamp(now.as_millisecond());
        for (text, expected) in [
            ("06:00", "2026-11-30T05:00:00Z"),
            ("22:30", "2026-11-29T21:30:00Z"),
            ("2026-12-01", "2026-11-30T23:00:00Z"),
            ("2026-12-01T06:00", "2026-12-01T05:00:00Z"),
            ("2026-12-01 06:00", "2026-12-01T05:00:00Z"),
            ("2026-12-01T06:00:00+02:00", "2026-12-01T04:00:00Z"),
        ] {
            let expected: jiff::Timestamp = expected.parse().unwrap();
            assert_eq!(moment(text, now, &zone).unwrap().0, expected.as_millisecond(), "{text}");
        }
        for wrong in ["tomorrow", "", "25:00", "2026-13-01"] {
            assert!(moment(wrong, now, &zone).is_err(), "{wrong}");
        }
    }
}
