//! `config show`: the configuration that is in force, as a file that loads to the same again.
//!
//! Never prints a key: it is not part of a `Config`. User names and passwords in addresses are masked, so a file with
//! those has to be given them again.

use std::path::Path;

use toml::Value;

use crate::{
    config::{AlertConfig, AlertTarget, Config, DropConfig, Watch, duration_text, size_text},
    policy::{AfterSuccess, LostFile, OnInvalid},
    warning::RefusedWarnings,
};

/// The configuration as TOML, with every key; what is not set is written as a comment.
#[must_use]
pub fn render(config: &Config) -> String {
    let mut page = Page::default();
    let api = &config.api;
    page.header("[api]");
    page.key("base_url", api.base_url.to_string());
    page.option("api_key_file", api.api_key_file.as_deref().map(path));
    page.key("allow_insecure", api.allow_insecure);
    page.option("ca_file", api.ca_file.as_deref().map(path));
    page.option("proxy", api.proxy.as_ref().map(ToString::to_string));
    page.key("connect_timeout", duration_text(api.connect_timeout));
    page.key("stall_timeout", duration_text(api.stall_timeout));
    page.key("response_timeout", duration_text(api.response_timeout));
    page.key("data_uri", api.data_uri);
    page.key("max_image_bytes", size_text(api.max_image_bytes));
    page.key("request_lives", duration_text(api.request_lives));
    page.key("list_lag", duration_text(api.list_lag));

    page.header("[queue]");
    page.key("database", path(&config.queue.database));
    page.key("network_file_system", config.queue.network_file_system);

    page.header("[workers]");
    page.key("max_in_flight", integer(config.workers.max_in_flight));
    page.key("memory_limit", size_text(config.workers.memory_limit));

    page.header("[retry]");
    page.key("initial", duration_text(config.retry.initial));
    page.key("max", duration_text(config.retry.max));
    page.key("give_up_after", duration_text(config.retry.give_up_after));
    page.key("absent_after", duration_text(config.retry.absent_after));
    page.key("recheck_after", duration_text(config.retry.recheck_after));
    page.key("lost_file", word(&LostFile::WORDS, config.retry.lost_file));

    let limits = &config.limits;
    page.header("[limits]");
    page.option("documents_per_hour", limits.documents_per_hour.map(integer));
    page.option("requests_per_second", limits.requests_per_second);
    page.option("bytes_per_second", limits.bytes_per_second.map(size_text));
    page.key("windows", list(limits.windows.iter().map(ToString::to_string)));

    match &config.http {
        Some(http) => {
            page.header("[http]");
            page.key("listen", http.listen.to_string());
            page.option("token_file", http.token_file.as_deref().map(path));
        }
        None => page.comment("[http] is not set"),
    }
    config.drops.iter().for_each(|drop| render_drop(&mut page, drop));
    config.alerts.iter().for_each(|alert| render_alert(&mut page, alert));
    page.0
}

fn render_drop(page: &mut Page, drop: &DropConfig) {
    page.header("[[drop]]");
    page.key("name", drop.name.clone());
    page.key("path", path(&drop.path));
    page.key("manifests", list(drop.manifests.texts().iter().cloned()));
    page.key("recursive", drop.recursive);
    page.key("settle", duration_text(drop.settle));
    page.key("done_marker", drop.done_marker.clone().unwrap_or_default());
    page.key("ignore", list(drop.ignore.texts().iter().cloned()));
    page.key("watch", word(&Watch::WORDS, drop.watch));
    page.key("rescan_every", duration_text(drop.rescan_every));
    page.key("incomplete_after", duration_text(drop.incomplete_after));
    page.key("on_invalid", word(&OnInvalid::WORDS, drop.on_invalid));
    page.key("max_invalid", integer(drop.max_invalid));
    page.key("after_success", word(&AfterSuccess::WORDS, drop.after_success));
    page.key("work_dir", path(&drop.work_dir));
    page.key("done_dir", path(&drop.done_dir));
    page.key("failed_dir", path(&drop.failed_dir));
    page.key("receipts_dir", path(&drop.receipts_dir));
    page.option("keep_done_for", drop.keep_done_for.map(duration_text));
    page.key("priority", drop.priority);
    page.option("api_key_file", drop.api_key_file.as_deref().map(path));
    page.option("base_url", drop.base_url.as_ref().map(ToString::to_string));
    let refused = drop.refuse_warnings.names().into_iter().map(str::to_owned);
    page.option("refuse_warnings", Some(list(refused)).filter(|_| drop.refuse_warnings != RefusedWarnings::default()));
    page.option("profiles", drop.profiles.as_ref().map(|profiles| list(profiles.iter().map(ToString::to_string))));
    page.key("max_manifest_bytes", size_text(drop.max_manifest_bytes));
    page.key("max_entries", integer(drop.max_entries));
    page.key("max_rows", integer(drop.max_rows));
    page.key("max_line_bytes", size_text(drop.max_line_bytes as u64));
    page.key("max_images", integer(drop.max_images as u64));
    page.key("max_nesting", integer(drop.max_nesting));
    page.key("max_depth", integer(drop.max_depth));
    page.key("max_path_bytes", size_text(drop.max_path_bytes as u64));
    page.key("receipt_mode", format!("{:04o}", drop.receipt_mode));
    page.option("receipt_group", drop.receipt_group.clone());
    page.key("expect", list(drop.expect.iter().map(ToString::to_string)));
    page.key("delivered_by", list(drop.delivered_by.iter().map(ToString::to_string)));
    page.option("holidays", drop.holidays.as_deref().map(path));
    if let Some(layout) = &drop.layout {
        page.header("[drop.layout]");
        page.key("file", path(&layout.file));
        page.key("lists", list(layout.lists.texts().iter().cloned()));
        page.key("xlsx", layout.xlsx);
        page.key("new_references", layout.new_references);
    }
}

/// Without the path of an address, which may be a secret.
fn render_alert(page: &mut Page, alert: &AlertConfig) {
    page.header("[[alert]]");
    page.key("on", list(alert.wishes.on.iter().map(|kind| kind.as_str().to_owned())));
    match &alert.target {
        AlertTarget::Command(words) => page.key("command", list(words.iter().cloned())),
        AlertTarget::Url(url) => page.key("url", url.to_string()),
    }
    page.key("details", alert.wishes.details);
    page.option("repeat_every", alert.wishes.repeat_every.map(duration_text));
}

/// The text that grows.
#[derive(Default)]
struct Page(String);

impl Page {
    fn header(&mut self, header: &str) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        self.0.push_str(header);
        self.0.push('\n');
    }

    fn key(&mut self, key: &str, value: impl Into<Value>) {
        self.0.push_str(&format!("{key} = {}\n", value.into()));
    }

    fn option(&mut self, key: &str, value: Option<impl Into<Value>>) {
        match value {
            Some(value) => self.key(key, value),
            None => self.0.push_str(&format!("# {key} is not set\n")),
        }
    }

    fn comment(&mut self, text: &str) {
        self.0.push_str(&format!("\n# {text}\n"));
    }
}

/// Paths come from TOML or from arguments in UTF-8; what is not, could not be written in a file like this.
fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn list(items: impl Iterator<Item = String>) -> Value {
    Value::Array(items.map(Value::String).collect())
}

/// TOML has no number beyond 63 bits, and no bound of the configuration reaches that far.
fn integer<T: TryInto<i64>>(number: T) -> Value {
    Value::Integer(number.try_into().unwrap_or(i64::MAX))
}

fn word<T: PartialEq>(words: &[(&'static str, T)], value: T) -> String {
    words.iter().find(|(_, meaning)| *meaning == value).map(|(word, _)| (*word).to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::from_text;

    fn load(text: &str) -> Config {
        from_text(text, Path::new("shown.toml"), &mut std::iter::empty()).unwrap()
    }

    #[test]
    fn the_defaults_come_back() {
        assert_eq!(load(&render(&Config::defaults())), Config::defaults());
    }

    #[test]
    fn every_key_comes_back() {
        let config = load(
            r#"
            [api]
            base_url = "http://10.0.0.1:8080/x/"
            api_key_file = "/etc/key"
            allow_insecure = true
            ca_file = "/etc/ca \"quoted\".pem"
            proxy = "http://proxy.example:3128"
            connect_timeout = "1s"
            stall_timeout = "2s"
            response_timeout = "1h"
            data_uri = true
            max_image_bytes = 12_345_678
            request_lives = "50s"
            list_lag = "5s"
            [queue]
            database = "/tmp/q.db"
            network_file_system = true
            [workers]
            max_in_flight = 3
            memory_limit = "1GB"
            [retry]
            initial = "250ms"
            max = "1h30m"
            give_up_after = "7d"
            absent_after = "2m"
            recheck_after = "30m"
            lost_file = "hold"
            [limits]
            documents_per_hour = 10
            requests_per_second = 0.5
            bytes_per_second = "1_234_567"
            windows = ["Mon-Fri 20:00-06:00", "Sat-Sun", "22:00-04:00"]
            [http]
            listen = "[::1]:80"
            token_file = "/etc/x/page-token"
            [[drop]]
            name = "a"
            path = "/srv/a//x/"
            manifests = ["*.json", "in/[ab].csv"]
            recursive = false
            settle = "0s"
            done_marker = ".done"
            ignore = []
            watch = "poll"
            rescan_every = "1h"
            incomplete_after = "30d"
            on_invalid = "reject"
            max_invalid = 77
            after_success = "delete"
            work_dir = "/srv/work"
            done_dir = "/srv/archive"
            failed_dir = "f/g"
            receipts_dir = "./r"
            keep_done_for = "30d"
            priority = -5
            api_key_file = "/etc/a.key"
            base_url = "https://api.us.example/4.0"
            profiles = ["A2C4393A-e219-67a4-5ab4-2186952e9038"]
            max_manifest_bytes = "2GB"
            max_entries = 7
            max_rows = 8
            max_line_bytes = "2MiB"
            max_images = 9
            max_nesting = 10
            max_depth = 11
            max_path_bytes = 1234
            receipt_mode = "0664"
            receipt_group = "partners"
            [[drop]]
            name = "b"
            path = "/srv/b"
            "#,
        );
        let shown = render(&config);
        assert_eq!(load(&shown), config, "{shown}");
        assert!(!shown.contains("is not set\nreceipt_mode"));
    }

    #[test]
    fn a_password_in_an_address_is_masked() {
        let shown = render(&load("[api]\nproxy = \"http://user:hunter2@proxy.example:3128\""));
        assert!(!shown.contains("hunter2") && !shown.contains("user"), "{shown}");
        assert!(shown.contains("***:***@proxy.example:3128"), "{shown}");
    }
}
