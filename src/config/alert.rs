//! Who is sent which alerts: one `[[alert]]` of the configuration.

use std::{fmt, ops::RangeInclusive, path::Path, time::Duration};

use reqwest::Url;

use super::{
    address::is_loopback,
    reader::{Section, text},
};
use crate::{
    alert::{AlertKind, Wishes},
    nearest::nearest,
};

/// Bounds of `repeat_every`: more often, nobody reads them.
const REPETITIONS: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(366 * 24 * 3600);

/// Receivers that there may be.
pub(super) const MAX_ALERTS: usize = 100;

/// A receiver of alerts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertConfig {
    pub target: AlertTarget,
    pub wishes: Wishes,
}

/// How a receiver gets an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AlertTarget {
    /// A program with its arguments; the alert is its standard input.
    Command(Vec<String>),
    /// An address that the alert is posted to.
    Url(WebhookUrl),
}

impl fmt::Display for AlertTarget {
    /// For people: without arguments, paths and queries, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(words) => write!(f, "command {}", words.first().map_or("", String::as_str)),
            Self::Url(url) => write!(f, "{url}"),
        }
    }
}

/// The address of a receiver. Whoever knows it may post there, so it is shown without its path.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookUrl(Url);

impl WebhookUrl {
    fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text.trim()).map_err(|fault| format!("it is not an address: {fault}"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
            return Err("it is no address of a web server".to_owned());
        }
        Ok(Self(url))
    }

    /// Whether what is sent there can be read on its way.
    pub(super) fn is_exposed(&self) -> bool {
        self.0.scheme() != "https" && !is_loopback(&self.0)
    }

    /// For requests.
    #[must_use]
    pub const fn url(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}/…", self.0.scheme(), self.0.host_str().unwrap_or_default())
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Reads a receiver.
pub(super) fn read_alert(mut section: Section<'_>) -> Option<AlertConfig> {
    let on = section.list("on", |word| {
        let known = || AlertKind::WORDS.iter().map(|(word, _)| *word);
        AlertKind::WORDS.iter().find(|(known, _)| *known == word).map(|(_, kind)| *kind).ok_or_else(|| {
            let near = nearest(word, known()).map(|near| format!("; {near} is the nearest")).unwrap_or_default();
            let all = known().collect::<Vec<_>>().join(", ");
            (format!("there is no alert {word:?}"), format!("write some of {all}{near}, or leave the key out for all"))
        })
    });
    let command = section.list("command", |word| Ok(word.to_owned()));
    let url = section.get("url", |node| {
        let cure = "write an address such as \"https://host/path\"".to_owned();
        WebhookUrl::parse(&text(node)?).map_err(|reason| (reason, cure))
    });
    let details = section.flag("details", false);
    let repeat_every = section.duration("repeat_every", REPETITIONS);
    let has = (section.is_set("command"), section.is_set("url"));
    let one = "name either command or url; a second receiver is a second [[alert]]";
    match has {
        (true, true) => section.finding("url", ("there is a command as well".to_owned(), one.to_owned())),
        (false, false) => section.require("command", one),
        _ => {}
    }
    if command.as_ref().is_some_and(|words| !words.first().is_some_and(|program| Path::new(program).is_absolute())) {
        let cure = "write the program's path from /, e.g. [\"/usr/local/bin/tell-us\"]".to_owned();
        section.finding("command", ("it does not begin with an absolute path".to_owned(), cure));
    }
    if on.as_ref().is_some_and(Vec::is_empty) {
        section.finding(
            "on",
            ("the list is empty".to_owned(), "name some alerts, or leave the key out for all".to_owned()),
        );
    }
    section.finish();
    let target = command.map(AlertTarget::Command).or(url.map(AlertTarget::Url))?;
    let all = || AlertKind::WORDS.iter().map(|(_, kind)| *kind).collect();
    Some(AlertConfig { target, wishes: Wishes { on: on.unwrap_or_else(all), details, repeat_every } })
}
