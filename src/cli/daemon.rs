//! `run` without `--once`: the daemon. Works until SIGTERM or SIGINT; SIGHUP reads configuration and keys again.
//!
//! A reload is a restart within the process: a configuration that is not usable is refused and changes nothing; for a good
//! one the stages end in order, as on SIGTERM, and begin again with it. The process keeps the lock and, where `[http]`
//! stays the same, the page's address.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

use super::{
    Context, Exit, output,
    start::{self, Asked, SignalInbox, Usage},
    worker::{begin, usable_as_service},
};
use crate::{
    clock::Timestamp,
    config::{self, Config},
    dispatch::is_open,
    http,
    queue::{Reader, lock::Lock, views::progress::Left},
    service::{Accounts, IMPORT, Service, Vitals, key_digests},
};

/// How often the daemon notes in its lock file and for systemd how it is.
const NOTE_INTERVAL: Duration = Duration::from_secs(5);

/// Works until a signal, or until a stage cannot continue.
///
/// # Errors
///
/// Where the database or the configuration cannot be used, or the queue fails for good.
pub(super) async fn work(context: &Context, mut config: Config, lock: &Lock) -> anyhow::Result<Exit> {
    // A process that reads that it is at work may stop it in the same instant.
    let mut signals = SignalInbox::open();
    let mut page = ServedPage::bind(config.http.as_ref()).await?;
    let mut former: Option<Config> = None;
    loop {
        let service = match begin_with_alerts(&config).await {
            Ok(service) => service,
            Err(error) => {
                let Some(old) = former.take() else { return Err(error) };
                let error = output::escape_lines(&format!("{error:#}"));
                tracing::error!(error, "work cannot begin with the new configuration; the old one is used again");
                page.follow(old.http.as_ref()).await?;
                config = old;
                continue;
            }
        };
        service.purge(&config);
        page.show(Some(service.vitals()));
        tracing::info!(drops = config.drops.len(), database = %config.queue.database.display(), "at work");
        notify_systemd(&[NotifyState::Ready]);
        let ended = attend(context, &config, &mut page, &service, lock, &mut signals).await;
        if !matches!(ended, DaemonEnd::Reload(_)) {
            notify_systemd(&[NotifyState::Stopping]);
        }
        page.leave(&ended);
        let signalled = matches!(ended, DaemonEnd::Stopped);
        let Some(finished) = signals.unless_again(service.finish()).await else { return Ok(Exit::Well) };
        let all_ended = match finished {
            Ok(all) => all,
            // It was asked to stop, and does; the next start continues.
            Err(error) if signalled => {
                tracing::error!(%error, "stopped with work left");
                true
            }
            Err(error) => return Err(start::Interrupted::by(error).into()),
        };
        match ended {
            DaemonEnd::Stopped => return Ok(Exit::Well),
            DaemonEnd::Failed => return Ok(Exit::WorkLeft),
            // What is left behind would go on by the old configuration, beside the new one.
            DaemonEnd::Reload(_) if !all_ended => {
                tracing::error!("the old configuration cannot be left while a folder does not answer: start again");
                return Ok(Exit::WorkLeft);
            }
            DaemonEnd::Reload(new) => former = Some(std::mem::replace(&mut config, *new)),
        }
    }
}

async fn begin_with_alerts(config: &Config) -> anyhow::Result<Service> {
    let mut service = begin(config, Arc::new(|_| {}), CancellationToken::new()).await?;
    if let Err(why) = service.send_alerts(config).await {
        // Its stages are at work by now, and must not be beside those of another configuration.
        if !service.finish().await? {
            tracing::error!("what had begun has not ended, because a folder does not answer");
        }
        return Err(Usage(why).into());
    }
    Ok(service)
}

/// Why the stages are ended.
enum DaemonEnd {
    /// By a signal.
    Stopped,
    /// A stage cannot continue, which is the only way a daemon ends by itself.
    Failed,
    Reload(Box<Config>),
}

/// Waits for what ends the stages, and says meanwhile how they are.
async fn attend(
    context: &Context,
    config: &Config,
    page: &mut ServedPage,
    service: &Service,
    lock: &Lock,
    signals: &mut SignalInbox,
) -> DaemonEnd {
    let keys = key_digests(config);
    let mut report = SystemdReport::new(service.signals.turns.load(Ordering::Relaxed), Instant::now());
    loop {
        let renewed = tokio::select! {
            asked = signals.next() => match asked {
                Asked::Stop => {
                    tracing::info!("stopping: calls under way are finished, nothing new is begun");
                    return DaemonEnd::Stopped;
                }
                Asked::Reload => true,
            },
            () = tokio::time::sleep(NOTE_INTERVAL) => {
                lock.note("run", service.queue.trouble());
                report.send(config, service).await;
                // A key that was replaced is used as soon as the old one is refused.
                service.is_key_refused() && key_digests(config) != keys
            }
            // A stage that cannot continue stops the others.
            () = service.stop.cancelled() => return DaemonEnd::Failed,
        };
        if service.has_failed() {
            return DaemonEnd::Failed;
        }
        if renewed {
            let at = NotifyState::monotonic_usec_now();
            notify_systemd(&[Some(NotifyState::Reloading), at.ok()].into_iter().flatten().collect::<Vec<_>>());
            match read_again(context, config, page).await {
                Ok(new) => {
                    tracing::info!("the configuration is read again: calls under way are finished first");
                    return DaemonEnd::Reload(Box::new(new));
                }
                Err(error) => {
                    let error = output::escape_lines(&format!("{error:#}"));
                    tracing::error!(error, "the new configuration is refused, and the old one stays");
                    report.refused = true;
                    notify_systemd(&[NotifyState::Ready]);
                }
            }
        }
    }
}

/// Reads the configuration, and returns it if the daemon can go on with it.
async fn read_again(context: &Context, old: &Config, page: &mut ServedPage) -> anyhow::Result<Config> {
    let new = context.load()?;
    if new.queue.database != old.queue.database {
        return Err(Usage("[queue] database cannot change while the worker runs: restart it".into()).into());
    }
    usable_as_service(&new)?;
    Accounts::new(&new)?;
    page.follow(new.http.as_ref()).await?;
    Ok(new)
}

/// The page, which outlives a reload.
struct ServedPage {
    config: Option<config::Http>,
    bound: Option<http::Bound>,
    serving: Option<http::Serving>,
}

impl ServedPage {
    async fn bind(config: Option<&config::Http>) -> Result<Self, Usage> {
        let bound = match config {
            Some(http) => Some(http::Bound::bind(http).await.map_err(Usage)?),
            None => None,
        };
        Ok(Self { config: config.cloned(), bound, serving: None })
    }

    /// Takes another address where the configuration has one.
    async fn follow(&mut self, config: Option<&config::Http>) -> Result<(), Usage> {
        if self.config.as_ref() != config {
            *self = Self::bind(config).await?;
        }
        Ok(())
    }

    fn show(&mut self, vitals: Option<Vitals>) {
        match (&self.serving, vitals) {
            (Some(serving), vitals) => serving.show(vitals),
            (None, Some(vitals)) => self.serving = self.bound.take().map(|bound| bound.serve(vitals)),
            (None, None) => {}
        }
    }

    fn leave(&mut self, ended: &DaemonEnd) {
        match ended {
            // What it shows holds the queue open.
            DaemonEnd::Reload(_) => self.show(None),
            DaemonEnd::Stopped | DaemonEnd::Failed => self.serving.iter().for_each(http::Serving::stopping),
        }
    }
}

/// What systemd is sent: one line about the work, and that the watchdog need not act.
struct SystemdReport {
    /// The unit's `WatchdogSec`.
    watchdog: Option<Duration>,
    turning: Turning,
    said: String,
    /// Whether the configuration in the file is not the one in use.
    refused: bool,
}

impl SystemdReport {
    fn new(turns: u64, now: Instant) -> Self {
        let watchdog = sd_notify::watchdog_enabled();
        Self { watchdog, turning: Turning { turns, since: now }, said: String::new(), refused: false }
    }

    async fn send(&mut self, config: &Config, service: &Service) {
        if let Some(bound) = self.watchdog {
            // A turn needs an answer of the queue's writer, which waits while the disk refuses what it writes.
            let excused = service.queue.trouble().is_some();
            let turns = service.signals.turns.load(Ordering::Relaxed);
            if self.turning.is_turning(turns, excused, bound / 2, Instant::now()) {
                notify_systemd(&[NotifyState::Watchdog]);
            }
            service.signals.work.notify_one();
        }
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return;
        }
        let database = config.queue.database.clone();
        let drops: Vec<String> = config.drops.iter().map(|drop| drop.name.clone()).chain([IMPORT.to_owned()]).collect();
        let left = tokio::task::spawn_blocking(move || {
            Reader::open(&database)?.left(&drops.iter().map(String::as_str).collect::<Vec<_>>())
        });
        let trouble = service.vitals().unready();
        let outside = !is_open(&config.limits.windows, Timestamp::now());
        let Ok(Ok(left)) = left.await else { return };
        let line = status_line(config.drops.len(), &left, outside, self.refused, trouble.as_deref());
        if line != self.said {
            notify_systemd(&[NotifyState::Status(&line)]);
            self.said = line;
        }
    }
}

/// Whether the dispatcher turns.
struct Turning {
    turns: u64,
    since: Instant,
}

impl Turning {
    fn is_turning(&mut self, turns: u64, excused: bool, bound: Duration, now: Instant) -> bool {
        if turns != self.turns || excused {
            *self = Self { turns, since: now };
        }
        now.duration_since(self.since) < bound
    }
}

/// The work in one line; the worst first.
fn status_line(drops: usize, left: &Left, outside: bool, refused: bool, trouble: Option<&str>) -> String {
    let mut parts = Vec::new();
    if let Some(trouble) = trouble.and_then(|trouble| trouble.lines().next()) {
        parts.push(output::escape(trouble).into_owned());
    }
    if refused {
        parts.push("the new configuration is refused, see the log".to_owned());
    }
    if left.held > 0 {
        parts.push(format!("{} held", left.held));
    }
    if left.paused {
        parts.push("paused by a person".to_owned());
    } else if outside && left.to_do > 0 {
        parts.push("outside of the sending windows".to_owned());
    }
    parts.push(format!("{} to do, {} under way, {} to settle", left.to_do, left.under_way, left.to_settle));
    parts.push(format!("{drops} drop{}", if drops == 1 { "" } else { "s" }));
    parts.join("; ")
}

fn notify_systemd(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd could not be notified");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dispatcher_that_does_not_turn_is_noticed_unless_the_disk_keeps_it() {
        let begin = Instant::now();
        let bound = Duration::from_secs(90);
        let mut turning = Turning { turns: 0, since: begin };
        for (seconds, turns, excused, expected) in [
            (5, 1, false, true),
            (90, 1, false, true),
            (95, 1, false, false),
            (100, 2, false, true),
            (189, 2, true, true),
            (278, 2, false, true),
            (279, 2, false, false),
        ] {
            let now = begin + Duration::from_secs(seconds);
            assert_eq!(turning.is_turning(turns, excused, bound, now), expected, "after {seconds} s");
        }
    }

    #[test]
    fn the_line_begins_with_what_needs_a_person() {
        let left = Left { to_do: 12, under_way: 3, ..Left::default() };
        assert_eq!(status_line(1, &left, false, false, None), "12 to do, 3 under way, 0 to settle; 1 drop");
        assert_eq!(
            status_line(2, &Left { held: 1, ..left }, true, true, Some("bad ground of drop a: x\nand b")),
            "bad ground of drop a: x; the new configuration is refused, see the log; 1 held; outside of the sending \
             windows; 12 to do, 3 under way, 0 to settle; 2 drops"
        );
        assert!(status_line(1, &Left { paused: true, ..left }, true, false, None).starts_with("paused by a person; "));
    }
}
