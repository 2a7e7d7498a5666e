//! Sends alerts to one receiver: by a command or by POST, within a bound, and again until it takes them.

use std::{
    fmt::Write as _,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use sha2::{Digest as _, Sha256};
use tokio::{io::AsyncWriteExt as _, process::Command, sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    alert::{self, AlertCondition, AlertEvent, Notice, Wishes},
    api::{ClientError, webhook::Webhook},
    clock::Clock,
    config::{AlertConfig, AlertTarget, Api},
    jitter,
    log_throttle::LogThrottle,
    queue::{Queue, Reader, announced::ReceiverState},
    retry::RetryPolicy,
    telemetry::Telemetry,
};

/// How long a command or a request may take.
const BOUND: Duration = Duration::from_secs(30);

/// Between two tries of a receiver that takes nothing.
const AGAIN: RetryPolicy =
    RetryPolicy { initial: Duration::from_secs(2), max: Duration::from_secs(300), give_up_after: Duration::MAX };

/// How often repetitions and growth are looked for, where nothing changes.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// A receiver of alerts.
pub(super) struct Receiver {
    wishes: Wishes,
    key: String,
    way: AlertWay,
    host: String,
    state: ReceiverState,
}

/// How a receiver gets what it is sent.
enum AlertWay {
    Command(Vec<String>),
    Post(Webhook),
}

impl Receiver {
    /// One that was sent what the queue says. Blocks.
    pub(super) fn new(config: &AlertConfig, api: &Api, queue: &Queue) -> Result<Self, ClientError> {
        let key = key_of(&config.target);
        let state = Reader::open(queue.path()).and_then(|reader| reader.receiver(&key)).unwrap_or_default();
        let receiver = config.target.to_string();
        let way = match &config.target {
            AlertTarget::Command(words) => AlertWay::Command(words.clone()),
            AlertTarget::Url(url) => AlertWay::Post(Webhook::new(url.url(), api.ca_file.as_deref(), BOUND)?),
        };
        Ok(Self {
            wishes: config.wishes.clone(),
            key,
            way,
            host: nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            state: ReceiverState { receiver, ..state },
        })
    }

    /// Sends what is due whenever the conditions change, until the stop.
    pub(super) async fn follow(
        mut self,
        mut conditions: watch::Receiver<Option<Vec<AlertCondition>>>,
        queue: Queue,
        telemetry: Arc<Telemetry>,
        stop: CancellationToken,
    ) {
        let mut log_throttle = LogThrottle::default();
        let mut failures = 0;
        loop {
            let now = conditions.borrow_and_update().clone();
            let failed = match now {
                Some(now) => self.send_due(&now, &queue, &telemetry, false, &stop).await.err(),
                None => None,
            };
            if stop.is_cancelled() {
                return;
            }
            if let Some(why) = &failed
                && log_throttle.is_due((), why, Instant::now())
            {
                tracing::error!(
                    receiver = self.state.receiver,
                    reason = why,
                    "an alert is not delivered; it is sent again"
                );
            }
            failures = if failed.is_some() { failures + 1 } else { 0 };
            let rest = if failures > 0 {
                AGAIN.delay(failures, Duration::ZERO, None, jitter::jitter()).unwrap_or(AGAIN.max)
            } else {
                LOOK_EVERY
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(rest) => {}
                changed = conditions.changed(), if failures == 0 => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Sends everything that is due, until the stop or the first failure, which is the error. What was sent is noted before
    /// the stop counts: else the next start would send it again. With `only_raise`, the conditions are not all that is the case.
    pub(super) async fn send_due(
        &mut self,
        conditions: &[AlertCondition],
        queue: &Queue,
        telemetry: &Telemetry,
        only_raise: bool,
        stop: &CancellationToken,
    ) -> Result<(), String> {
        let now = Clock::system().now();
        for notice in alert::due(conditions, &self.state.sent, &self.wishes, &self.host, now) {
            if only_raise && notice.event == AlertEvent::Recovered {
                continue;
            }
            if alert::is_wanted(&notice, &self.wishes) {
                let sent = tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    sent = self.send(&notice) => sent,
                };
                telemetry.alerted(sent.is_ok());
                if let Err(why) = sent {
                    self.state.failing.get_or_insert_with(|| (now, String::new())).1.clone_from(&why);
                    self.note(queue).await;
                    return Err(why);
                }
            }
            notice.record(&mut self.state.sent);
            self.state.failing = None;
            self.note(queue).await;
        }
        Ok(())
    }

    /// Keeps what was sent for the next start. Where the database cannot be written, it is kept in memory until then.
    async fn note(&self, queue: &Queue) {
        if queue.trouble().is_none()
            && let Err(error) = queue.note_receiver(&self.key, &self.state).await
        {
            tracing::debug!(%error, "what a receiver of alerts was sent is not noted");
        }
    }

    async fn send(&self, notice: &Notice) -> Result<(), String> {
        let body = serde_json::to_vec(notice).map_err(|error| error.to_string())?;
        let sent = async {
            match &self.way {
                AlertWay::Command(words) => run(words, &body).await,
                AlertWay::Post(webhook) => webhook.post(body).await,
            }
        };
        timeout(BOUND, sent).await.unwrap_or_else(|_| Err(format!("it takes longer than {} s", BOUND.as_secs())))
    }
}

/// What makes it the same receiver at the next start.
pub(super) fn key_of(target: &AlertTarget) -> String {
    let words = match target {
        AlertTarget::Command(words) => words.clone(),
        AlertTarget::Url(url) => vec![url.url().to_string()],
    };
    let digest = Sha256::digest(words.join("\0"));
    digest.iter().take(8).fold(String::new(), |mut key, byte| {
        // Writing to a text does not fail.
        let _written = write!(key, "{byte:02x}");
        key
    })
}

/// Runs a command with the alert as its standard input and none of our environment, which may hold the key.
async fn run(words: &[String], body: &[u8]) -> Result<(), String> {
    let [program, arguments @ ..] = words else { return Err("there is no command".into()) };
    let kept = ["PATH", "HOME", "LANG", "TZ"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(kept)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Its own group: a Ctrl-C is for us, and what it starts is ended with it.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("it cannot be started: {error}"))?;
    let group = child.id().map(ProcessGroup);
    if let Some(mut input) = child.stdin.take() {
        // A command may end without reading it.
        let _unread = input.write_all(body).await;
    }
    let status = child.wait().await.map_err(|error| error.to_string())?;
    if !status.success() {
        return Err(format!("it ended with {status}"));
    }
    // What it has left in the background, such as a mailer, may end its work.
    std::mem::forget(group);
    Ok(())
}

/// Ends what a command left behind.
struct ProcessGroup(u32);

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        let group = i32::try_from(self.0).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(group) = group {
            // Nobody is left in it, if all is well.
            let _gone = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}
