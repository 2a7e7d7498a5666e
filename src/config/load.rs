//! Reads the configuration from its file and the environment: which keys there are, and what each may hold.
//!
//! All faults are gathered before any is reported. What concerns several keys together is checked in `validate`. The
//! defaults are with the types.

use std::{
    fs::File,
    io::{self, Read as _},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Api, Config, ConfigError, DropConfig, DropLayout, Http, LimitSettings, QueueSettings, RetrySettings, Schedule,
    Watch, Window, Workers,
    alert::{MAX_ALERTS, read_alert},
    finding::{ConfigFinding, Origin},
    reader::{Section, SettingReader, ValueFault, text, tidy_path, wrong_kind},
    schedule::SCHEDULE_CURE,
    tree::{self, MAX_DROPS, Node, PREFIX, Table, Value},
    validate,
    windows::WINDOW_CURE,
};
use crate::{
    entry::{ProfileId, RelativePath},
    manifest,
    policy::{AfterSuccess, LostFile, OnInvalid},
    warning::RefusedWarnings,
};

/// The default path of the configuration.
pub const DEFAULT_PATH: &str = "/etc/passfort-ingest/config.toml";

/// The largest file that is read: far more than any set of drops needs.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// The most windows: a week has room for no more that make sense.
const MAX_WINDOWS: usize = 100;

/// Bounds of waits for the network: below, nothing would ever succeed; above, nothing would ever be noticed.
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);

/// Bounds of the bound on lost answers; above, a document in doubt would never be sent again.
const BOUNDS: RangeInclusive<Duration> = Duration::ZERO..=DAY;

/// Bounds of `max_nesting`: below, no document could have an image; above, the reader of JSON itself gives up.
const NESTING: RangeInclusive<i64> =
    manifest::ManifestBounds::LEAST_NESTING as i64..=manifest::ManifestBounds::MOST_NESTING as i64;

/// Bounds of `max_depth`. Without folders there is `recursive = false`; each level of a scan costs two descriptors, of which
/// a process may have a thousand where nobody has set more.
const DEPTH: RangeInclusive<i64> = 1..=256;

/// Bounds of `max_path_bytes`: room for a manifest's name, and what the kernel takes.
const PATH_BYTES: RangeInclusive<u64> = 32..=RelativePath::MAX_BYTES as u64;

const DAY: Duration = Duration::from_secs(24 * 3600);
const YEAR: Duration = Duration::from_secs(366 * 24 * 3600);

/// The variables of this process; what is not Unicode in them is replaced, where the standard iterator would panic.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
}

/// Reads the configuration from `path`, or from [`DEFAULT_PATH`], and puts the environment over it.
///
/// A file that is missing at the default path is no error where the environment sets at least one key.
///
/// # Errors
///
/// [`ConfigError::Missing`] where there is no file, [`ConfigError::Invalid`] with all that is wrong in it, or why it
/// cannot be read.
pub fn load(path: Option<&Path>, env: &mut dyn Iterator<Item = (String, String)>) -> Result<Config, ConfigError> {
    let asked = path.is_some();
    let path = path.unwrap_or(Path::new(DEFAULT_PATH));
    let ours: Vec<(String, String)> = env.filter(|(name, _)| name.starts_with(PREFIX)).collect();
    let text = match read(path) {
        Ok(text) => text,
        Err(ConfigError::Missing { .. }) if !asked && !ours.is_empty() => String::new(),
        Err(error) => return Err(error),
    };
    from_text(&text, path, &mut ours.into_iter())
}

/// Reads the configuration from a text; messages call it `name`.
///
/// # Errors
///
/// [`ConfigError::Invalid`] with all that is wrong.
pub fn from_text(
    text: &str,
    name: &Path,
    env: &mut dyn Iterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let invalid = |findings: Vec<ConfigFinding>| ConfigError::Invalid { path: name.to_owned(), findings };
    let mut root = tree::parse(text).map_err(invalid)?;
    let mut reader = SettingReader::with(tree::overlay(&mut root, env));
    let config = config(&mut reader, root);
    reader.refuse_unknown();
    let findings = reader.into_findings();
    if findings.is_empty() { Ok(config) } else { Err(invalid(findings)) }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => ConfigError::Missing { path: path.to_owned() },
        _ => ConfigError::Unreadable { path: path.to_owned(), source },
    };
    let unusable = |reason| ConfigError::Unusable { path: path.to_owned(), reason };
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(unusable("it is larger than 4 MiB"));
    }
    String::from_utf8(bytes).map_err(|_| unusable("it is not UTF-8 text"))
}

fn config(reader: &mut SettingReader, root: Table) -> Config {
    let mut top = Section::new(reader, "", "", root);
    let (api, queue, workers) = (table(&mut top, "api"), table(&mut top, "queue"), table(&mut top, "workers"));
    let (retry, limits, http) = (table(&mut top, "retry"), table(&mut top, "limits"), table(&mut top, "http"));
    let drops = tables(&mut top, "drop", MAX_DROPS);
    let alerts = tables(&mut top, "alert", MAX_ALERTS);
    top.finish();

    let api = read_api(Section::new(reader, "[api]", "api", api.unwrap_or_default()));
    let absent_after = api.absence_bound();
    let mut config = Config {
        api,
        queue: read_queue(Section::new(reader, "[queue]", "queue", queue.unwrap_or_default())),
        workers: read_workers(Section::new(reader, "[workers]", "workers", workers.unwrap_or_default())),
        retry: read_retry(Section::new(reader, "[retry]", "retry", retry.unwrap_or_default()), absent_after),
        limits: read_limits(Section::new(reader, "[limits]", "limits", limits.unwrap_or_default())),
        http: http.and_then(|table| read_http(Section::new(reader, "[http]", "http", table))),
        drops: Vec::new(),
        alerts: Vec::new(),
    };
    let mut alert_places = Vec::new();
    for (at, (table, origin)) in alerts.into_iter().enumerate() {
        let place = format!("alert[{at}]");
        reader.place(&place, origin);
        if let Some(alert) = read_alert(Section::new(reader, "[[alert]]", &place, table)) {
            config.alerts.push(alert);
            alert_places.push(place);
        }
    }
    // Drops that are faulty by themselves are left out, so that no finding follows from another.
    let mut places = Vec::new();
    for (at, (table, origin)) in drops.into_iter().enumerate() {
        let place = format!("drop[{at}]");
        reader.place(&place, origin);
        if let Some(drop) = read_drop_with_layout(reader, &place, table) {
            config.drops.push(drop);
            places.push(place);
        }
    }
    validate::check(&config, &places, reader);
    validate::check_alerts(&config, &alert_places, reader);
    config
}

fn table(top: &mut Section<'_>, key: &'static str) -> Option<Table> {
    let node = top.take(key)?;
    match node.value {
        Value::Table(table) => Some(table),
        other => {
            top.finding(key, wrong_kind(&other, &format!("a section [{key}] with keys below it")));
            None
        }
    }
}

/// The tables of a section of which there may be several.
fn tables(top: &mut Section<'_>, key: &'static str, most: usize) -> Vec<(Table, Origin)> {
    let cure = || format!("write each {key} under a line [[{key}]], with two brackets");
    let Some(node) = top.take(key) else { return Vec::new() };
    let Value::Array(items) = node.value else {
        top.finding(key, (format!("it is {}", node.value.kind()), cure()));
        return Vec::new();
    };
    if items.len() > most {
        top.finding(key, (format!("there are {} {key}s", items.len()), format!("keep to {most}")));
        return Vec::new();
    }
    let mut tables = Vec::new();
    for Node { value, origin, .. } in items {
        match value {
            Value::Table(table) => tables.push((table, origin)),
            other => top.finding(key, (format!("one of them is {}", other.kind()), cure())),
        }
    }
    tables
}

fn read_api(mut section: Section<'_>) -> Api {
    let default = Api::default();
    let api = Api {
        base_url: section.address("base_url").unwrap_or(default.base_url),
        api_key_file: section.path("api_key_file"),
        allow_insecure: section.flag("allow_insecure", default.allow_insecure),
        ca_file: section.path("ca_file"),
        proxy: section.address("proxy"),
        connect_timeout: section.duration("connect_timeout", TIMEOUTS).unwrap_or(default.connect_timeout),
        stall_timeout: section.duration("stall_timeout", TIMEOUTS).unwrap_or(default.stall_timeout),
        response_timeout: section.duration("response_timeout", TIMEOUTS).unwrap_or(default.response_timeout),
        data_uri: section.flag("data_uri", default.data_uri),
        max_image_bytes: section.size("max_image_bytes", 1..=4 << 30).unwrap_or(default.max_image_bytes),
        request_lives: section.duration("request_lives", BOUNDS).unwrap_or(default.request_lives),
        list_lag: section.duration("list_lag", BOUNDS).unwrap_or(default.list_lag),
    };
    section.finish();
    api
}

fn read_queue(mut section: Section<'_>) -> QueueSettings {
    let default = QueueSettings::default();
    let queue = QueueSettings {
        database: section.path("database").unwrap_or(default.database),
        network_file_system: section.flag("network_file_system", default.network_file_system),
    };
    section.finish();
    queue
}

fn read_workers(mut section: Section<'_>) -> Workers {
    let default = Workers::default();
    let max_in_flight = section.count("max_in_flight", 1..=1024).and_then(|count| usize::try_from(count).ok());
    let workers = Workers {
        max_in_flight: max_in_flight.unwrap_or(default.max_in_flight),
        memory_limit: section.size("memory_limit", 1 << 20..=1 << 40).unwrap_or(default.memory_limit),
    };
    section.finish();
    workers
}

fn read_retry(mut section: Section<'_>, absent_after: Duration) -> RetrySettings {
    let default = RetrySettings::default();
    let shortest = Duration::from_millis(10);
    let retry = RetrySettings {
        initial: section.duration("initial", shortest..=DAY).unwrap_or(default.initial),
        max: section.duration("max", shortest..=DAY).unwrap_or(default.max),
        give_up_after: section
            .duration("give_up_after", Duration::from_secs(1)..=YEAR)
            .unwrap_or(default.give_up_after),
        absent_after: section
            .duration("absent_after", Duration::ZERO..=Duration::from_secs(2 * DAY.as_secs()))
            .unwrap_or(absent_after),
        recheck_after: section.duration("recheck_after", Duration::ZERO..=DAY).unwrap_or(default.recheck_after),
        lost_file: section.word("lost_file", &LostFile::WORDS, default.lost_file),
    };
    section.finish();
    retry
}

fn read_limits(mut section: Section<'_>) -> LimitSettings {
    let limits = LimitSettings {
        documents_per_hour: section.count("documents_per_hour", 1..=1_000_000_000),
        requests_per_second: section.get("requests_per_second", rate),
        bytes_per_second: section.size("bytes_per_second", 1_000..=1 << 50),
        windows: section
            .list("windows", |text| Window::parse(text).map_err(|reason| (reason, WINDOW_CURE.to_owned())))
            .unwrap_or_default(),
    };
    if limits.windows.len() > MAX_WINDOWS {
        section.finding("windows", ("there are more than 100 windows".to_owned(), "join some of them".to_owned()));
    }
    section.finish();
    limits
}

/// A number of requests in a second. The least is one in a quarter of an hour, below which nothing would get done.
fn rate(node: &Node) -> Result<f64, ValueFault> {
    let rate = match node.value {
        Value::Float(rate) => rate,
        // Exact for all numbers that the bounds below let through.
        Value::Integer(rate) => i32::try_from(rate).map_or(f64::INFINITY, f64::from),
        ref other => return Err(wrong_kind(other, "a number")),
    };
    if (0.001..=100_000.0).contains(&rate) {
        Ok(rate)
    } else {
        Err((format!("{rate} is out of bounds"), "keep between 0.001 and 100000, or leave the key out".to_owned()))
    }
}

fn read_http(mut section: Section<'_>) -> Option<Http> {
    let listen = section.get("listen", |node| {
        let cure = "write an address and a port, e.g. \"127.0.0.1:9480\"".to_owned();
        text(node)?.parse().map_err(|_| ("it is not an address with a port".to_owned(), cure))
    });
    let token_file = section.path("token_file");
    section.finish();
    let listen = listen.unwrap_or_else(|| Http::default().listen);
    Some(Http { listen, token_file })
}

/// Reads a drop; its layout is a table of its own.
fn read_drop_with_layout(reader: &mut SettingReader, place: &str, drop: Table) -> Option<DropConfig> {
    let mut section = Section::new(reader, "[[drop]]", place, drop);
    let layout = section.take("layout");
    let drop = read_drop(section);
    let place = format!("{place}.layout");
    let layout = match layout {
        None => None,
        Some(Node { value: Value::Table(table), .. }) => {
            Some(read_layout(Section::new(reader, "[drop.layout]", place, table))?)
        }
        Some(Node { value, .. }) => {
            let (reason, cure) = wrong_kind(&value, "a section [drop.layout] with keys below it");
            reader.finding(&place, reason, cure);
            return None;
        }
    };
    Some(DropConfig { layout, ..drop? })
}

fn read_layout(mut section: Section<'_>) -> Option<DropLayout> {
    let file = section.path("file");
    let lists = section.globs("lists");
    let (xlsx, new_references) = (section.flag("xlsx", false), section.flag("new_references", false));
    section.require("file", "name the layout, e.g. file = \"/etc/passfort-ingest/partner-a.layout.toml\"");
    section.require("lists", "say which files are lists, e.g. lists = [\"*.csv\"]");
    if lists.as_ref().is_some_and(|lists| lists.texts().is_empty()) {
        let cure = "name at least one pattern, e.g. \"*.csv\"".to_owned();
        section.finding("lists", ("the list is empty, so nothing would be read by the layout".to_owned(), cure));
    }
    section.finish();
    Some(DropLayout { file: file?, lists: lists?, xlsx, new_references })
}

fn read_drop(mut section: Section<'_>) -> Option<DropConfig> {
    let name = section.get("name", |node| drop_name(text(node)?));
    let path = section.path("path");
    let default = DropConfig::new("", "/");
    let drop = DropConfig {
        name: String::new(),
        path: PathBuf::new(),
        manifests: section.globs("manifests").unwrap_or(default.manifests),
        layout: None,
        recursive: section.flag("recursive", default.recursive),
        settle: section.duration("settle", Duration::ZERO..=DAY).unwrap_or(default.settle),
        done_marker: section.get("done_marker", |node| done_marker(text(node)?)).flatten(),
        ignore: section.globs("ignore").unwrap_or(default.ignore),
        watch: section.word("watch", &Watch::WORDS, default.watch),
        rescan_every: section.duration("rescan_every", Duration::from_secs(1)..=DAY).unwrap_or(default.rescan_every),
        incomplete_after: section
            .duration("incomplete_after", Duration::from_secs(1)..=YEAR)
            .unwrap_or(default.incomplete_after),
        on_invalid: section.word("on_invalid", &OnInvalid::WORDS, default.on_invalid),
        max_invalid: section.count("max_invalid", 0..=i64::MAX).unwrap_or(default.max_invalid),
        after_success: section.word("after_success", &AfterSuccess::WORDS, default.after_success),
        work_dir: own_dir(&mut section, "work_dir").unwrap_or(default.work_dir),
        done_dir: own_dir(&mut section, "done_dir").unwrap_or(default.done_dir),
        failed_dir: own_dir(&mut section, "failed_dir").unwrap_or(default.failed_dir),
        receipts_dir: own_dir(&mut section, "receipts_dir").unwrap_or(default.receipts_dir),
        keep_done_for: section.duration("keep_done_for", Duration::from_secs(60)..=100 * YEAR),
        priority: section.number("priority", -1_000_000..=1_000_000).unwrap_or(default.priority),
        api_key_file: section.path("api_key_file"),
        base_url: section.address("base_url"),
        profiles: profiles(&mut section),
        refuse_warnings: refuse_warnings(&mut section),
        max_manifest_bytes: section.size("max_manifest_bytes", 1..=1 << 40).unwrap_or(default.max_manifest_bytes),
        max_entries: section.count("max_entries", 1..=1_000_000_000).unwrap_or(default.max_entries),
        max_rows: section.count("max_rows", 1..=1_000_000_000).unwrap_or(default.max_rows),
        max_line_bytes: section
            .size("max_line_bytes", 1024..=1 << 30)
            .and_then(|bytes| bytes.try_into().ok())
            .unwrap_or(default.max_line_bytes),
        max_images: section
            .count("max_images", 1..=1_000_000)
            .and_then(|images| images.try_into().ok())
            .unwrap_or(default.max_images),
        max_nesting: section
            .count("max_nesting", NESTING)
            .and_then(|levels| levels.try_into().ok())
            .unwrap_or(default.max_nesting),
        max_depth: section
            .count("max_depth", DEPTH)
            .and_then(|folders| folders.try_into().ok())
            .unwrap_or(default.max_depth),
        max_path_bytes: section
            .size("max_path_bytes", PATH_BYTES)
            .and_then(|bytes| bytes.try_into().ok())
            .unwrap_or(default.max_path_bytes),
        receipt_mode: section.get("receipt_mode", receipt_mode).unwrap_or(default.receipt_mode),
        receipt_group: section.get("receipt_group", |node| group(text(node)?)),
        expect: schedules(&mut section, "expect"),
        delivered_by: schedules(&mut section, "delivered_by"),
        holidays: section.path("holidays"),
    };
    section.require("name", "give each drop a name of its own, e.g. name = \"partner-a\"");
    section.require("path", "name the folder to watch, e.g. path = \"/srv/sftp/partner-a/incoming\"");
    section.finish();
    Some(DropConfig { name: name?, path: path?, ..drop })
}

fn schedules(section: &mut Section<'_>, key: &'static str) -> Vec<Schedule> {
    let parse = |text: &str| Schedule::parse(text).map_err(|reason| (reason, SCHEDULE_CURE.to_owned()));
    section.list_or_one(key, parse).unwrap_or_default()
}

fn own_dir(section: &mut Section<'_>, key: &'static str) -> Option<PathBuf> {
    section.get(key, |node| tidy_path(&text(node)?))
}

fn drop_name(name: String) -> Result<String, ValueFault> {
    let cure = || "use letters, digits, '.', '_' and '-', at most 64 of them".to_owned();
    if name == "import" {
        return Err((
            "the name import is reserved for the command of that name".to_owned(),
            "choose another".to_owned(),
        ));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) || matches!(name.as_str(), "." | "..") {
        return Err(("it is no name for a drop".to_owned(), cure()));
    }
    Ok(name)
}

/// Empty is absent, as the documented default is written.
fn done_marker(marker: String) -> Result<Option<String>, ValueFault> {
    if marker.contains('/') || marker.chars().any(char::is_control) || marker.len() > 64 {
        return Err(("it is not the end of a file name".to_owned(), "write e.g. \".done\"".to_owned()));
    }
    Ok(Some(marker).filter(|marker| !marker.is_empty()))
}

/// A list of kinds, or the word `all` alone.
fn refuse_warnings(section: &mut Section<'_>) -> RefusedWarnings {
    let kinds = section.list_or_one("refuse_warnings", RefusedWarnings::parse).unwrap_or_default();
    kinds.iter().fold(RefusedWarnings::default(), |all, kind| all.and(kind))
}

fn profiles(section: &mut Section<'_>) -> Option<Vec<ProfileId>> {
    let profiles = section.list("profiles", |text| {
        ProfileId::parse(text)
            .ok_or_else(|| ("it is no UUID".to_owned(), "write the profile's id with its hyphens".to_owned()))
    })?;
    if profiles.is_empty() {
        let cure = "name at least one, or leave the key out to allow any".to_owned();
        section.finding("profiles", ("the list is empty, so nothing could be sent".to_owned(), cure));
    }
    Some(profiles)
}

/// Permission bits in octal; as a string, because TOML would read a bare 640 as decimal.
fn receipt_mode(node: &Node) -> Result<u32, ValueFault> {
    let cure = || "write the permissions as an octal string, e.g. \"0640\"".to_owned();
    let octal = text(node).map_err(|(reason, _)| (reason, cure()))?;
    let digits = (3..=4).contains(&octal.len()) && octal.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    let mode = digits.then(|| u32::from_str_radix(&octal, 8).ok()).flatten().filter(|mode| *mode <= 0o777);
    match mode {
        None => Err(("it is not a file's permissions".to_owned(), cure())),
        Some(mode) if mode & 0o600 != 0o600 => {
            Err(("the worker could not read and write its own receipts".to_owned(), cure()))
        }
        Some(mode) => Ok(mode),
    }
}

fn group(group: String) -> Result<String, ValueFault> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if group.is_empty() || group.len() > 32 || !group.bytes().all(plain) {
        return Err(("it is no name of a group".to_owned(), "write the group's name or number".to_owned()));
    }
    Ok(group)
}

/// Every key that there is, with the header of its section.
#[cfg(test)]
pub(super) fn every_key() -> Vec<(&'static str, &'static str)> {
    let mut reader = SettingReader::default();
    let text = "[http]\n[[drop]]\nname = \"a\"\npath = \"/a\"\n[drop.layout]\n[[alert]]\n";
    config(&mut reader, tree::parse(text).unwrap_or_default());
    reader.known
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
