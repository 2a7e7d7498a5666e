//! Looks every two seconds at what can be announced and at what is expected of the drops, and lets the receivers know.
//!
//! Beside the work and never in its way: it reads by its own handle, writes little, and a receiver that does not answer
//! delays only itself.

mod conditions;
mod receiver;
#[cfg(test)]
mod virtual_days;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use self::{
    conditions::{QueueFindings, conditions},
    receiver::Receiver,
};
use super::inboxes::InboxShared;
use crate::{
    alert::AlertCondition,
    clock::{Clock, Timestamp},
    config::{Config, DropConfig, Holidays, Schedule},
    expected::{self, DeliveryState},
    finish,
    queue::{
        Queue, QueueError, Reader,
        announced::{ExpectedDrop, ExpectedDrops},
        views::overview::Tally,
    },
    telemetry::Telemetry,
};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);

const MINUTE_MS: i64 = 60_000;

/// How long a start that is refused waits for receivers.
const LAST_WORDS: Duration = Duration::from_secs(20);

/// Starts to look; returns what ends after the stop. Nothing where nothing is configured that needs it.
///
/// # Errors
///
/// Why a receiver or a file of holidays cannot be used.
pub(super) async fn start(
    config: &Config,
    queue: &Queue,
    inboxes: Vec<Arc<InboxShared>>,
    foreign: Vec<String>,
    telemetry: &Arc<Telemetry>,
    stop: &CancellationToken,
) -> Result<Vec<JoinHandle<()>>, String> {
    let drops = expecting(config)?;
    let keys = config.alerts.iter().map(|alert| receiver::key_of(&alert.target)).collect();
    queue.keep_receivers(keys).await.map_err(|error| error.to_string())?;
    if config.alerts.is_empty() && drops.is_empty() {
        return queue
            .note_expected(&ExpectedDrops::new())
            .await
            .map(|()| Vec::new())
            .map_err(|error| error.to_string());
    }
    let (found, conditions) = watch::channel(None);
    let mut tasks = Vec::new();
    for alert in &config.alerts {
        let receiver =
            Receiver::new(alert, &config.api, queue).map_err(|error| format!("{}: {error}", alert.target))?;
        let follow = receiver.follow(conditions.clone(), queue.clone(), Arc::clone(telemetry), stop.clone());
        tasks.push(tokio::spawn(follow));
    }
    let outlook = Outlook { queue: queue.clone(), drops, inboxes, foreign, first_seen: BTreeMap::new() };
    tasks.push(tokio::spawn(outlook.look_on(found, stop.clone())));
    Ok(tasks)
}

/// Looks once, and lets the receivers know: for a command that ends.
///
/// # Errors
///
/// Why a file of holidays cannot be used.
pub(super) async fn announce_once(
    config: &Config,
    queue: &Queue,
    inboxes: Vec<Arc<InboxShared>>,
    foreign: Vec<String>,
    telemetry: &Telemetry,
) -> Result<(), String> {
    let drops = expecting(config)?;
    if config.alerts.is_empty() && drops.is_empty() {
        return Ok(());
    }
    let mut outlook = Outlook { queue: queue.clone(), drops, inboxes, foreign, first_seen: BTreeMap::new() };
    if let Some((conditions, expected)) = outlook.look().await {
        outlook.note(&expected).await;
        announce(config, queue, &conditions, telemetry, false).await;
    }
    Ok(())
}

/// Lets the receivers know that a start is refused.
pub(super) async fn announce_refusal(config: &Config, queue: &Queue, why: &QueueError, telemetry: &Telemetry) {
    let refused = [conditions::restored(&why.to_string(), Timestamp::now())];
    announce(config, queue, &refused, telemetry, true).await;
}

/// Sends what is due to each receiver, within a bound: whoever waits for the end of the process waits for this.
async fn announce(
    config: &Config,
    queue: &Queue,
    conditions: &[AlertCondition],
    telemetry: &Telemetry,
    only_raise: bool,
) {
    let never = CancellationToken::new();
    let announce = async {
        for alert in &config.alerts {
            let sent = match Receiver::new(alert, &config.api, queue) {
                Ok(mut receiver) => receiver.send_due(conditions, queue, telemetry, only_raise, &never).await,
                Err(error) => Err(error.to_string()),
            };
            if let Err(reason) = sent {
                tracing::error!(receiver = %alert.target, reason, "an alert is not delivered");
            }
        }
    };
    if tokio::time::timeout(LAST_WORDS, announce).await.is_err() {
        tracing::error!("a receiver of alerts does not answer; it is sent them by the next start");
    }
}

/// The drops of which something is expected, each with its holidays.
///
/// # Errors
///
/// Why a file of holidays cannot be used.
pub fn expecting(config: &Config) -> Result<Vec<(DropConfig, Holidays)>, String> {
    let drops = config.drops.iter().filter(|drop| !drop.expect.is_empty() || !drop.delivered_by.is_empty());
    drops.map(|drop| Ok((drop.clone(), holidays(drop)?))).collect()
}

fn holidays(drop: &DropConfig) -> Result<Holidays, String> {
    let Some(path) = &drop.holidays else { return Ok(Holidays::default()) };
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
    text.and_then(|text| Holidays::parse(&text))
        .map_err(|why| format!("the holidays of drop {:?}, {}: {why}", drop.name, path.display()))
}

/// What looks at the queue.
struct Outlook {
    queue: Queue,
    drops: Vec<(DropConfig, Holidays)>,
    inboxes: Vec<Arc<InboxShared>>,
    foreign: Vec<String>,
    /// Since when this process knows of each condition: not all have a moment of their own.
    first_seen: BTreeMap<String, Timestamp>,
}

impl Outlook {
    async fn look_on(mut self, found: watch::Sender<Option<Vec<AlertCondition>>>, stop: CancellationToken) {
        let mut noted = None;
        loop {
            if let Some((conditions, expected)) = self.look().await {
                found.send_if_modified(|former| {
                    let is_new = former.as_ref() != Some(&conditions);
                    *former = Some(conditions);
                    is_new
                });
                if noted.as_ref() != Some(&expected) && self.note(&expected).await {
                    noted = Some(expected);
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// What is the case; `None` where the queue cannot be read at present.
    async fn look(&mut self) -> Option<(Vec<AlertCondition>, ExpectedDrops)> {
        let now = Clock::system().now();
        let (path, drops, foreign) = (self.queue.path().to_owned(), self.scanned(), self.foreign.clone());
        let trouble = self.queue.trouble();
        let look = move || {
            let reader = Reader::open(&path)?;
            let (troubles, causes) = (reader.troubles()?, reader.causes(u32::MAX)?);
            let expected = expected_drops(&reader, &troubles.drops, &drops, now)?;
            let (troubles, expected_now, causes) = (&troubles, &expected, &causes);
            let seen = QueueFindings { troubles, expected: expected_now, causes, trouble, foreign: &foreign, now };
            Ok::<_, QueueError>((conditions(&seen), expected))
        };
        match tokio::task::spawn_blocking(look).await {
            Ok(Ok((mut conditions, expected))) => {
                let former = std::mem::take(&mut self.first_seen);
                for condition in &mut conditions {
                    let key = condition.key();
                    condition.since = former.get(&key).copied().unwrap_or(condition.since);
                    self.first_seen.insert(key, condition.since);
                }
                Some((conditions, expected))
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "what can be announced is not known at present");
                None
            }
            Err(_) => {
                tracing::error!("looking for what can be announced failed of a defect");
                None
            }
        }
    }

    /// Records how the drops are doing, for `status`; returns whether it could.
    async fn note(&self, expected: &ExpectedDrops) -> bool {
        self.queue.trouble().is_none() && self.queue.note_expected(expected).await.is_ok()
    }

    /// The drops, and whether the first scan since the start is over: before it, nobody knows what came meanwhile.
    fn scanned(&self) -> Vec<(DropConfig, Holidays, bool)> {
        let is_scanned =
            |name: &str| self.inboxes.iter().any(|inbox| inbox.drop == name && inbox.state().looked.is_some());
        self.drops.iter().map(|(drop, holidays)| (drop.clone(), holidays.clone(), is_scanned(&drop.name))).collect()
    }
}

/// How each of these drops is doing; one that is not scanned yet is as it was recorded.
fn expected_drops(
    reader: &Reader,
    tallies: &[Tally],
    drops: &[(DropConfig, Holidays, bool)],
    now: Timestamp,
) -> Result<ExpectedDrops, QueueError> {
    let mut expected = ExpectedDrops::new();
    if drops.is_empty() {
        return Ok(expected);
    }
    let before = reader.expected()?;
    let all = finish::of_queue(reader, None, now)?;
    let working = tallies.iter().filter(|tally| tally.open_jobs() > 0).count();
    let working = u32::try_from(working).unwrap_or(u32::MAX).max(1);
    for (drop, holidays, is_scanned) in drops {
        if !is_scanned {
            expected.extend(before.get(&drop.name).map(|former| (drop.name.clone(), former.clone())));
            continue;
        }
        let schedules = format!("{:?} {:?}", texts(&drop.expect), texts(&drop.delivered_by));
        let former = before.get(&drop.name).filter(|former| former.schedules == schedules);
        let watched_since = former.map_or(now, |former| former.watched_since);
        // Drops share the account evenly, and none is done later than all of them.
        let alone = finish::of_jobs(reader, &drop.name, u64::MAX, now)?;
        let shared = alone.map(|alone| now.after(alone.done.since(now).saturating_mul(working)));
        let done = shared.map(|shared| all.map_or(shared, |all| shared.min(all.done.max(now))));
        // A moment that moved with each look would be written each time.
        let done = done.map(|done| Timestamp(done.0.div_euclid(MINUTE_MS) * MINUTE_MS + MINUTE_MS));
        let mut report = expected::judge(
            Schedule::moments(&drop.expect, holidays, now),
            Schedule::moments(&drop.delivered_by, holidays, now),
            expected::Progress { done, ..reader.came(&drop.name)? },
            watched_since,
            former.map(|former| former.report.state),
            now,
        );
        if report.state == DeliveryState::WillBeLate {
            // Since the warning, so that a second one is another.
            let warned = former.filter(|former| former.report.state == report.state);
            report.since = warned.map_or(now, |former| former.report.since);
        }
        expected.insert(drop.name.clone(), ExpectedDrop { schedules, watched_since, report });
    }
    Ok(expected)
}

fn texts(schedules: &[Schedule]) -> Vec<String> {
    schedules.iter().map(ToString::to_string).collect()
}
