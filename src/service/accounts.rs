//! Which account each drop uses: its address and key, with the pace that the configuration allows.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use secrecy::ExposeSecret;
use sha2::Digest as _;

use super::{FILE_PATIENCE, IMPORT, ServiceError, calls_at_once};
use crate::{
    account::{Account, SlotPool},
    api::{self, Client},
    clock::Timestamp,
    config::{self, Config, DropConfig},
    dispatch::Lane,
    pacer::{ConfiguredLimits, Pacer},
    queue::{Queue, QueueError},
};

/// The accounts, for commands that only ask the API.
#[derive(Clone)]
pub struct Accounts {
    by_drop: HashMap<String, Arc<Account>>,
    /// None where only drops have a key.
    main: Option<Arc<Account>>,
}

impl Accounts {
    /// Those that are configured.
    ///
    /// # Errors
    ///
    /// Where a key or a client is not usable.
    pub fn new(config: &Config) -> Result<Self, ServiceError> {
        // No drop can have this name.
        const MAIN: &str = "";
        let lanes = match lanes(config, Some(MAIN), &HashMap::new()) {
            // Where each drop has a key of its own, there need be no other.
            Err(ServiceError::Config(_)) if !config.drops.is_empty() => lanes(config, None, &HashMap::new()),
            lanes => lanes,
        }?;
        let mut by_drop: HashMap<_, _> = lanes.into_iter().map(|lane| (lane.drop, lane.account)).collect();
        let main = by_drop.remove(MAIN);
        Ok(Self { by_drop, main })
    }

    /// Each configured drop with its account, and `import` with the main one.
    pub(super) fn each(&self) -> impl Iterator<Item = (&str, &Arc<Account>)> {
        let main = self.main.iter().filter(|_| !self.by_drop.contains_key(IMPORT)).map(|account| (IMPORT, account));
        self.by_drop.iter().map(|(drop, account)| (drop.as_str(), account)).chain(main)
    }

    /// That of a drop; of one that is not configured, the main one.
    #[must_use]
    pub fn of(&self, drop: &str) -> Option<&Arc<Account>> {
        self.by_drop.get(drop).or(self.main.as_ref())
    }
}

/// The digests of the keys that are found now, of each drop and of `import`; `None` for one that is missing or unusable.
#[must_use]
pub fn key_digests(config: &Config) -> Vec<Option<[u8; 32]>> {
    let digest = |drop| {
        let key = config::api_key(&config.api, drop, &mut config::environment()).ok()?;
        Some(sha2::Sha256::digest(key.secret.expose_secret()).into())
    };
    config.drops.iter().map(Some).chain([None]).map(digest).collect()
}

/// The name of an account in reports: without a password that may be part of the address. Drops with the same address
/// and the same file of the key share it.
fn scope_of(config: &Config, drop: Option<&DropConfig>) -> String {
    let base_url = drop.and_then(|drop| drop.base_url.as_ref()).unwrap_or(&config.api.base_url);
    let own_key = drop.and_then(|drop| drop.api_key_file.as_ref());
    match own_key.filter(|key| Some(*key) != config.api.api_key_file.as_ref()) {
        Some(key) => format!("account:{base_url} (key {})", key.display()),
        None => format!("account:{base_url}"),
    }
}

/// The name of the account that a drop's jobs go to; of one that is not configured, the main one.
#[must_use]
pub fn account_of(config: &Config, drop: &str) -> String {
    scope_of(config, config.drop_named(drop))
}

/// How long ago each account created documents within the last hour, where that is limited: a restart starts no new
/// hour.
pub(super) async fn spent(
    config: &Config,
    queue: &Queue,
    import: Option<&str>,
) -> Result<HashMap<String, Vec<Duration>>, QueueError> {
    let Some(hourly) = config.limits.documents_per_hour else { return Ok(HashMap::new()) };
    let mut drops: HashMap<String, Vec<String>> = HashMap::new();
    for drop in &config.drops {
        drops.entry(scope_of(config, Some(drop))).or_default().push(drop.name.clone());
    }
    // What was imported went to the main account, whether or not this process imports.
    let imports = [Some(IMPORT), import].into_iter().flatten().filter(|name| config.drop_named(name).is_none());
    drops.entry(scope_of(config, None)).or_default().extend(imports.map(str::to_owned));
    let now = Timestamp::now();
    let since = Timestamp(now.0.saturating_sub(3_600_000));
    let mut spent = HashMap::new();
    for (scope, names) in drops {
        let created = queue.created_since(names, since, hourly).await?;
        spent.insert(scope, created.into_iter().map(|at| now.since(at)).collect());
    }
    Ok(spent)
}

/// Which account each drop's jobs go to. Drops with the same address and key share one.
pub(super) fn lanes(
    config: &Config,
    import: Option<&str>,
    spent: &HashMap<String, Vec<Duration>>,
) -> Result<Vec<Lane>, ServiceError> {
    let of_import = import.is_some_and(|name| config.drop_named(name).is_none());
    let scopes = config.drops.iter().map(Some).chain(of_import.then_some(None)).map(|drop| scope_of(config, drop));
    let places = SlotPool::new(calls_at_once(config), scopes.collect::<HashSet<_>>().len());
    let mut accounts: HashMap<String, Arc<Account>> = HashMap::new();
    let mut account = |drop: Option<&DropConfig>| -> Result<Arc<Account>, ServiceError> {
        let base_url = drop.and_then(|drop| drop.base_url.as_ref()).unwrap_or(&config.api.base_url);
        let scope = scope_of(config, drop);
        if let Some(known) = accounts.get(&scope) {
            return Ok(Arc::clone(known));
        }
        let key = config::api_key(&config.api, drop, &mut config::environment())?;
        key.warnings.iter().for_each(|warning| tracing::warn!(origin = %key.origin, warning, "about the key"));
        let of_key = (base_url.to_string(), sha2::Sha256::digest(key.secret.expose_secret()).into());
        let client = Client::new(&api::ClientSettings {
            base_url: base_url.as_str().to_owned(),
            key: key.secret,
            connect_timeout: config.api.connect_timeout,
            stall_timeout: config.api.stall_timeout,
            response_timeout: config.api.response_timeout,
            ca_file: config.api.ca_file.clone(),
            proxy: config.api.proxy.as_ref().map(|proxy| proxy.as_str().to_owned()),
            data_uri: config.api.data_uri,
            max_connections_hint: calls_at_once(config),
        })?;
        let limits = ConfiguredLimits {
            documents_per_hour: config.limits.documents_per_hour,
            requests_per_second: config.limits.requests_per_second,
            bytes_per_second: config.limits.bytes_per_second,
        };
        let pacer =
            Pacer::new(&limits, spent.get(&scope).map_or(&[][..], Vec::as_slice)).with_longest_wait(config.retry.max);
        let made = Arc::new(Account::new(scope.clone(), of_key, client, places.slots(), pacer));
        accounts.insert(scope, Arc::clone(&made));
        Ok(made)
    };
    let mut lanes = Vec::new();
    for drop in &config.drops {
        lanes.push(Lane {
            drop: drop.name.clone(),
            account: account(Some(drop))?,
            priority: drop.priority,
            file_patience: drop.incomplete_after,
        });
    }
    if let Some(name) = import.filter(|name| config.drop_named(name).is_none()) {
        lanes.push(Lane { drop: name.to_owned(), account: account(None)?, priority: 0, file_patience: FILE_PATIENCE });
    }
    Ok(lanes)
}
