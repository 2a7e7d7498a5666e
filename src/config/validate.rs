//! What several keys must be to each other: drops that do not disturb one another, waits in order, no key in the clear.
//!
//! Each key by itself has been checked before. Pure: no folder is read.

use std::path::Path;

use super::{Address, AlertTarget, Config, DropConfig, reader::SettingReader, units::duration_text};

/// Notes everything that cannot work together; `places` names each drop in findings.
pub(super) fn check(config: &Config, places: &[String], reader: &mut SettingReader) {
    exposed(&config.api.base_url, "api.base_url", config, reader);
    if config.retry.initial > config.retry.max {
        reader.finding(
            "retry.initial",
            format!("it is longer than retry.max, which is {}", duration_text(config.retry.max)),
            "make retry.initial shorter or retry.max longer",
        );
    }
    let bound = config.api.absence_bound();
    if config.retry.absent_after < bound {
        reader.finding(
            "retry.absent_after",
            format!(
                "it is shorter than api.request_lives + api.list_lag, which is {}: a document could be created twice",
                duration_text(bound)
            ),
            format!("leave it out, or write at least \"{}\"", duration_text(bound)),
        );
    }
    for (drop, place) in config.drops.iter().zip(places) {
        if let Some(base_url) = &drop.base_url {
            exposed(base_url, &format!("{place}.base_url"), config, reader);
        }
        own_folders(drop, place, reader);
        let private = [("queue.database".to_owned(), Some(&config.queue.database))]
            .into_iter()
            .chain([("api.api_key_file".to_owned(), config.api.api_key_file.as_ref())])
            .chain(
                config
                    .drops
                    .iter()
                    .zip(places)
                    .map(|(owner, place)| (format!("{place}.api_key_file"), owner.api_key_file.as_ref())),
            )
            .chain(
                config
                    .drops
                    .iter()
                    .zip(places)
                    .map(|(owner, place)| (format!("{place}.holidays"), owner.holidays.as_ref())),
            )
            .chain(config.drops.iter().zip(places).map(|(owner, place)| {
                (format!("{place}.layout.file"), owner.layout.as_ref().map(|layout| &layout.file))
            }));
        for (key, path) in private {
            if path.is_some_and(|path| path.starts_with(&drop.path)) {
                reader.finding(
                    &key,
                    format!("it is inside the drop {}, where its sender could reach it", drop.name),
                    "keep it elsewhere, e.g. in /var/lib/passfort-ingest or /etc/passfort-ingest",
                );
            }
        }
    }
    let named: Vec<(&DropConfig, &String)> = config.drops.iter().zip(places).collect();
    for (at, (second, place)) in named.iter().enumerate() {
        for (first, _) in named.iter().take(at) {
            pair(first, second, place, reader);
        }
    }
}

fn exposed(address: &Address, key: &str, config: &Config, reader: &mut SettingReader) {
    if address.is_exposed() && !config.api.allow_insecure {
        reader.finding(
            key,
            "plain http to another machine would show the key and the documents to everybody on the way",
            "write https://, or set api.allow_insecure = true where the way is safe",
        );
    }
}

/// Notes which receivers of alerts senders or strangers could reach; `places` names each of them in findings.
pub(super) fn check_alerts(config: &Config, places: &[String], reader: &mut SettingReader) {
    for (at, (alert, place)) in config.alerts.iter().zip(places).enumerate() {
        if config.alerts.iter().take(at).any(|former| former.target == alert.target) {
            reader.finding(place, "an alert above has the same receiver", "join the two into one [[alert]]");
        }
        match &alert.target {
            AlertTarget::Url(url) if url.is_exposed() && !config.api.allow_insecure => reader.finding(
                &format!("{place}.url"),
                "plain http to another machine would show the alerts to everybody on the way",
                "write https://, or set api.allow_insecure = true where the way is safe",
            ),
            AlertTarget::Command(words) => {
                let program = words.first().map(Path::new);
                let inside = config.drops.iter().find(|drop| program.is_some_and(|path| path.starts_with(&drop.path)));
                if let Some(drop) = inside {
                    reader.finding(
                        &format!("{place}.command"),
                        format!("it is inside the drop {}, where its sender could replace it", drop.name),
                        "keep the program elsewhere, e.g. in /usr/local/bin",
                    );
                }
            }
            AlertTarget::Url(_) => {}
        }
    }
}

/// The folders of one drop: each its own, and none of them the drop itself.
fn own_folders(drop: &DropConfig, place: &str, reader: &mut SettingReader) {
    let takes_all = |folder: &Path| drop.path.starts_with(folder);
    let folders = [
        ("work_dir", drop.work_folder()),
        ("done_dir", drop.done_folder()),
        ("failed_dir", drop.failed_folder()),
        ("receipts_dir", drop.receipts_folder()),
    ];
    for (at, (key, folder)) in folders.iter().enumerate() {
        let key = format!("{place}.{key}");
        if takes_all(folder) {
            reader.finding(
                &key,
                "the drop is this folder or inside it, so nothing would be scanned",
                "name a folder in the drop, or one beside it",
            );
        }
        for (other, its_folder) in folders.iter().take(at) {
            let nested = folder.starts_with(its_folder) || its_folder.starts_with(folder);
            if nested && !takes_all(folder) && !takes_all(its_folder) {
                reader.finding(
                    &key,
                    format!("it is the same folder as {other}, or one contains the other"),
                    "give work, done, failed and receipts a folder each",
                );
            }
        }
    }
}

/// Checks two drops against each other; the second is the later one in the file.
fn pair(first: &DropConfig, second: &DropConfig, place: &str, reader: &mut SettingReader) {
    if first.name == second.name {
        reader.finding(
            &format!("{place}.name"),
            format!("another drop is already named {}", first.name),
            "give each drop a name of its own",
        );
    }
    let path_key = format!("{place}.path");
    if first.path == second.path {
        reader.finding(
            &path_key,
            format!("the drop {} watches the same folder", first.name),
            "give each drop a folder of its own",
        );
    } else if nests(first, second) || nests(second, first) {
        reader.finding(
            &path_key,
            format!("it is inside the folder of the drop {}, or contains it, so both would take its files", first.name),
            "move one of them, or set recursive = false for the outer one",
        );
    }
    for (drop, other) in [(first, second), (second, first)] {
        for folder in drop.own_folders() {
            let scanned_there = folder.starts_with(&other.path) && !other.is_own(&folder);
            if scanned_there && !folder.starts_with(&drop.path) {
                reader.finding(
                    &path_key,
                    format!("files that the drop {} puts aside would land in the drop {}", drop.name, other.name),
                    "choose other work, done, failed and receipts folders",
                );
            }
        }
    }
    let shared =
        first.done_folder().starts_with(second.done_folder()) || second.done_folder().starts_with(first.done_folder());
    if shared && first.keep_done_for != second.keep_done_for {
        reader.finding(
            &format!("{place}.done_dir"),
            format!("the drop {} keeps its files in the same place, but for another time", first.name),
            "give each a folder of its own, or both the same keep_done_for",
        );
    }
}

/// Whether `outer` would also take what is dropped into `inner`.
fn nests(outer: &DropConfig, inner: &DropConfig) -> bool {
    let below = |inner: &Path| inner != outer.path && inner.starts_with(&outer.path);
    outer.recursive && below(&inner.path)
}
