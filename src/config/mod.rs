//! The configuration: its types, their defaults, and how it is read.
//!
//! The types are plain values. [`load()`] makes them from a file and the environment, and refuses what is not
//! understood or could not work; whether the folders exist and the key is right is found out when they are used. The
//! key itself is never part of a [`Config`]: [`api_key`] reads it where it is needed.

mod address;
mod alert;
mod drop;
mod finding;
mod globs;
mod key;
mod load;
mod reader;
mod schedule;
mod tree;
mod units;
mod validate;
mod windows;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

#[cfg(test)]
pub(crate) use self::load::from_text;
pub use self::{
    address::Address,
    alert::{AlertConfig, AlertTarget},
    drop::{DropConfig, DropLayout, Watch},
    finding::{ConfigError, ConfigFinding},
    globs::Globs,
    key::api_key,
    load::{DEFAULT_PATH, environment, load},
    schedule::{Holidays, Schedule},
    units::{duration_text, parse_duration, parse_size, size_text},
    windows::Window,
};

use crate::{absence::AbsenceBounds, policy::LostFile};

/// Everything that can be configured.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Config {
    /// The API and how it is reached: `[api]`.
    pub api: Api,
    /// Where the queue is kept: `[queue]`.
    pub queue: QueueSettings,
    /// How much is done at once: `[workers]`.
    pub workers: Workers,
    /// When a failed request is tried again: `[retry]`.
    pub retry: RetrySettings,
    /// How fast and when may be sent: `[limits]`.
    pub limits: LimitSettings,
    /// The page for people and monitoring: `[http]`; absent, it is off.
    pub http: Option<Http>,
    /// The watched folders, in the order of the file: `[[drop]]`.
    pub drops: Vec<DropConfig>,
    /// Who is sent what, in the order of the file: `[[alert]]`.
    pub alerts: Vec<AlertConfig>,
}

impl Config {
    /// What holds where nothing is configured; it has no drop.
    #[must_use]
    pub fn defaults() -> Self {
        Self::default()
    }

    /// The bound on lost answers.
    #[must_use]
    pub const fn absence_bounds(&self) -> AbsenceBounds {
        AbsenceBounds {
            absent_after: self.retry.absent_after,
            request_lives: self.api.request_lives,
            list_lag: self.api.list_lag,
        }
    }

    /// The drop of this name.
    #[must_use]
    pub fn drop_named(&self, name: &str) -> Option<&DropConfig> {
        self.drops.iter().find(|drop| drop.name == name)
    }
}

/// The API and how it is reached.
#[derive(Debug, Clone, PartialEq)]
pub struct Api {
    /// Host and prefix of every request. The default is the guide's; regional hosts have other names.
    pub base_url: Address,
    /// The file that holds the key, an absolute path.
    pub api_key_file: Option<PathBuf>,
    /// Whether plain `http` to another machine is accepted. The key and the documents can then be read on the way.
    pub allow_insecure: bool,
    /// A PEM file of further certificate authorities, an absolute path.
    pub ca_file: Option<PathBuf>,
    /// The proxy that every request goes through.
    pub proxy: Option<Address>,
    /// The longest wait for a connection, TLS included.
    pub connect_timeout: Duration,
    /// The longest time in which no byte of a body may move.
    pub stall_timeout: Duration,
    /// The longest wait for an answer once the body is sent. The API itself gives up after 60 s (help).
    pub response_timeout: Duration,
    /// Whether images are sent as `data:image/png;base64,…` instead of bare Base64.
    pub data_uri: bool,
    /// The largest image or file that is sent, in bytes before Base64. No public source names the API's own limit.
    pub max_image_bytes: u64,
    /// The longest that a request lives at the API after the worker has lost it. The API times out at 60 s (help).
    pub request_lives: Duration,
    /// The longest that a created document stays out of the lists. No public source names one.
    pub list_lag: Duration,
}

impl Api {
    /// The address in the vendor's guide.
    pub const DEFAULT_BASE_URL: &'static str = "https://api.passfort.com/4.0";

    /// The bound on a lost answer: the longest time from the end of a call until what it created is in the lists.
    #[must_use]
    pub const fn absence_bound(&self) -> Duration {
        self.request_lives.saturating_add(self.list_lag)
    }
}

impl Default for Api {
    fn default() -> Self {
        Self {
            base_url: Address::guide(),
            api_key_file: None,
            allow_insecure: false,
            ca_file: None,
            proxy: None,
            connect_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            response_timeout: Duration::from_secs(90),
            data_uri: false,
            max_image_bytes: 50_000_000,
            request_lives: Duration::from_secs(60),
            list_lag: Duration::from_secs(10),
        }
    }
}

/// Where the queue is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSettings {
    /// The SQLite database, an absolute path on a local disk.
    pub database: PathBuf,
    /// Whether it may be on a network file system all the same.
    pub network_file_system: bool,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self { database: PathBuf::from("/var/lib/passfort-ingest/queue.db"), network_file_system: false }
    }
}

/// How much is done at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workers {
    /// In-flight requests, at most; the worker adapts below it. At least 1.
    pub max_in_flight: usize,
    /// Memory for in-flight bodies, in bytes.
    pub memory_limit: u64,
}

impl Default for Workers {
    fn default() -> Self {
        Self { max_in_flight: 16, memory_limit: 64 << 20 }
    }
}

/// When a failed request is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetrySettings {
    /// The wait after the first failure; never zero.
    pub initial: Duration,
    /// The longest wait between two attempts; never shorter than `initial`.
    pub max: Duration,
    /// How long a job is tried, not counting waits for a quota, a pause or a missing file.
    pub give_up_after: Duration,
    /// How long after the end of its call a document whose answer was lost may still appear: at least
    /// [`Api::absence_bound`], which is the default.
    pub absent_after: Duration,
    /// How long after the end of a job whose document was sent a second time its profile is read once more.
    pub recheck_after: Duration,
    /// What happens to a file whose upload was handed over but never answered.
    pub lost_file: LostFile,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(15 * 60),
            give_up_after: Duration::from_secs(72 * 3600),
            absent_after: Api::default().absence_bound(),
            recheck_after: Duration::from_secs(15 * 60),
            lost_file: LostFile::Send,
        }
    }
}

/// How fast and when may be sent. What the API's own headers say always counts too.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LimitSettings {
    /// Documents created in an hour, at most.
    pub documents_per_hour: Option<u64>,
    /// Requests in a second, at most; above zero, and may be a fraction.
    pub requests_per_second: Option<f64>,
    /// Bytes of bodies sent in a second, at most.
    pub bytes_per_second: Option<u64>,
    /// When sending is allowed, in the machine's local time; empty: always.
    pub windows: Vec<Window>,
}

/// The page for people and monitoring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Where it listens.
    pub listen: SocketAddr,
    /// What whoever reads the page must show; without it, beyond loopback only numbers are served.
    pub token_file: Option<PathBuf>,
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9480)), token_file: None }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_shipped_file_says_exactly_the_defaults() {
        let shipped = include_str!("../../config/passfort-ingest.toml");
        let config = from_text(shipped, Path::new("passfort-ingest.toml"), &mut std::iter::empty()).unwrap();
        assert_eq!(config, Config::defaults());
    }

    /// Takes the comment signs off every line of the shipped file that is a key or a header.
    fn uncommented() -> String {
        let is_setting = |line: &str| {
            line.starts_with('[')
                || line.split_once(" = ").is_some_and(|(key, _)| {
                    key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') && !key.is_empty()
                })
        };
        include_str!("../../config/passfort-ingest.toml")
            .lines()
            .map(|line| line.strip_prefix("# ").filter(|rest| is_setting(rest)).unwrap_or(line))
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn every_commented_key_of_the_shipped_file_is_valid_once_uncommented() {
        let config = from_text(&uncommented(), Path::new("uncommented.toml"), &mut std::iter::empty()).unwrap();
        assert_eq!(config.drops.len(), 1);
        assert_eq!(config.limits.windows.len(), 2);
        let token_file = Some("/etc/passfort-ingest/page-token".into());
        assert_eq!(config.http, Some(Http { token_file, ..Http::default() }));
        let default = DropConfig::new("partner-a", "/");
        assert_eq!((&config.drops[0].ignore, &config.drops[0].manifests), (&default.ignore, &default.manifests));
        assert!(config.drops[0].is_list("day/list.csv") && !config.drops[0].is_list("a.manifest.csv"));
    }

    #[test]
    fn the_shipped_file_names_every_key() {
        let mut root = tree::parse(&uncommented()).unwrap();
        if let Some(tree::Value::Array(drops)) = root.remove("drop").map(|node| node.value) {
            let drop = drops.into_iter().next().unwrap();
            if let tree::Value::Table(drop) = &drop.value {
                root.insert("drop.layout".to_owned(), drop["layout"].clone());
            }
            root.insert("drop".to_owned(), drop);
        }
        if let Some(tree::Value::Array(alerts)) = root.remove("alert").map(|node| node.value) {
            let keys = |node: &tree::Node| match &node.value {
                tree::Value::Table(table) => table.clone(),
                _ => tree::Table::new(),
            };
            let mut first = alerts[0].clone();
            first.value = tree::Value::Table(alerts.iter().flat_map(keys).collect());
            root.insert("alert".to_owned(), first);
        }
        for (header, key) in load::every_key() {
            let section = header.trim_matches(['[', ']']);
            let named = match root.get(section).map(|node| &node.value) {
                Some(tree::Value::Table(table)) => table.contains_key(key),
                _ => root.contains_key(key),
            };
            assert!(named, "{header} {key} is missing in the shipped file");
        }
    }
}

#[cfg(test)]
mod unit_tests;
