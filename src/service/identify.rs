//! Whose account each drop is worked on with: asked by `whoami` once for each key, before the first receipt of something
//! created, and kept in the queue.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use sha2::Digest as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Accounts, IMPORT, ServiceError};
use crate::{
    account::Account,
    clock::Timestamp,
    dispatch::Lane,
    outcome::{Outcome, PauseCause, Reply, outcome},
    queue::{
        Queue, QueueError,
        accounts::{AccountNews, AccountSwitch, DropAccount},
    },
    telemetry::Telemetry,
};

/// A receipt waits no longer than this to name its account.
const PATIENCE: Duration = Duration::from_secs(5);

/// The interval between two questions that were not answered.
const AGAIN: Duration = Duration::from_secs(30);

/// How long a start waits to learn whether a new key is of the same account: until then nothing tells a duplicate.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// The accounts that are not known yet.
pub(super) struct Identities {
    queue: Queue,
    telemetry: Arc<Telemetry>,
    lanes: Vec<(DropAccount, Arc<Account>)>,
    unknown: Vec<DropAccount>,
    next: Instant,
    asked: bool,
}

/// What the API says of a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Identity {
    /// The account's name.
    Named(String),
    /// It takes the key for nobody's.
    KeyRefused,
    /// It does not say, for this reason.
    Unknown(String),
}

impl Identities {
    /// Notes whose drops these are. Where a key is new and its address is not, the API is asked first.
    ///
    /// # Errors
    ///
    /// Those of the queue, and [`ServiceError::AccountUnknown`].
    pub(super) async fn begin(
        queue: &Queue,
        lanes: &[Lane],
        telemetry: &Arc<Telemetry>,
        stop: &CancellationToken,
    ) -> Result<Self, ServiceError> {
        let lanes = lanes.iter().map(|lane| (drop_account(&lane.drop, &lane.account), Arc::clone(&lane.account)));
        let mut identities = Self {
            queue: queue.clone(),
            telemetry: Arc::clone(telemetry),
            lanes: lanes.collect(),
            unknown: Vec::new(),
            next: Instant::now(),
            asked: false,
        };
        let began = Instant::now();
        loop {
            let must_ask = identities.note().await?.must_ask;
            let mut silent = None;
            for of in must_ask {
                if let Identity::Unknown(why) = identities.ask_one(&of, START_PATIENCE).await? {
                    silent = Some((of.drop, why));
                } else {
                    identities.note().await?;
                }
            }
            let Some((drop, why)) = silent.filter(|_| !stop.is_cancelled()) else { return Ok(identities) };
            tracing::warn!(drop, why, "its key is new: waiting for the API to say whether the account is the same");
            if began.elapsed() > START_PATIENCE {
                return Err(ServiceError::AccountUnknown { drop, why });
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(identities),
                () = tokio::time::sleep(PATIENCE) => {}
            }
        }
    }

    /// Asks for what is unknown, before a receipt that would name it; not again within half a minute.
    pub(super) async fn before_receipts(&mut self) -> Result<(), QueueError> {
        if self.unknown.is_empty() || Instant::now() < self.next || !self.queue.is_created_to_be_settled().await? {
            return Ok(());
        }
        self.next = Instant::now() + AGAIN;
        self.asked = true;
        let mut asked = HashSet::new();
        for of in self.unknown.clone() {
            if asked.insert((of.base_url.clone(), of.key)) {
                self.ask_one(&of, PATIENCE).await?;
            }
        }
        self.note().await.map(drop)
    }

    /// Whether a receipt need not wait for the accounts' names: they are known, or were asked for.
    pub(super) const fn were_asked(&self) -> bool {
        self.asked || self.unknown.is_empty()
    }

    async fn note(&mut self) -> Result<AccountNews, QueueError> {
        let news = self.queue.note_accounts(self.lanes.iter().map(|(of, _)| of.clone()).collect()).await?;
        for AccountSwitch { drop, created, in_doubt } in &news.changes {
            tracing::warn!(
                drop,
                created,
                in_doubt,
                "the account of this drop is another one: what was created with the former one does not count here"
            );
        }
        self.unknown.clone_from(&news.unknown);
        Ok(news)
    }

    async fn ask_one(&self, of: &DropAccount, patience: Duration) -> Result<Identity, QueueError> {
        let Some((_, account)) = self.lanes.iter().find(|(lane, _)| lane == of) else {
            return Ok(Identity::Unknown("it has no key".to_owned()));
        };
        let identity = match tokio::time::timeout(patience, ask(account, &self.telemetry)).await {
            Ok(identity) => identity,
            Err(_) => Identity::Unknown("no answer".to_owned()),
        };
        if let Identity::Named(name) = &identity {
            self.queue.name_account(of.clone(), name.clone()).await?;
        }
        Ok(identity)
    }
}

impl Accounts {
    /// What the API says of each account's key, with the account's scope; each is asked once.
    pub async fn identify(&self, patience: Duration) -> Vec<(String, Identity)> {
        let telemetry = Telemetry::new();
        let mut asked: Vec<(String, Identity)> = Vec::new();
        for (_, account) in self.each() {
            if asked.iter().all(|(scope, _)| *scope != account.scope) {
                let identity = tokio::time::timeout(patience, ask(account, &telemetry)).await;
                let identity = identity.unwrap_or_else(|_| Identity::Unknown("no answer".to_owned()));
                asked.push((account.scope.clone(), identity));
            }
        }
        asked
    }

    /// The account of each configured drop, and of all others under the empty name; or why the API does not say.
    ///
    /// # Errors
    ///
    /// Those of the queue.
    pub async fn names(&self, queue: &Queue) -> Result<Result<HashMap<String, String>, String>, QueueError> {
        let lanes = self.each().map(|(drop, account)| (drop_account(drop, account), Arc::clone(account)));
        let mut identities = Identities {
            queue: queue.clone(),
            telemetry: Arc::new(Telemetry::new()),
            lanes: lanes.collect(),
            unknown: Vec::new(),
            next: Instant::now(),
            asked: false,
        };
        for of in identities.note().await?.unknown {
            match identities.ask_one(&of, START_PATIENCE).await? {
                Identity::Named(_) => {}
                Identity::KeyRefused => return Ok(Err("it refuses the key".to_owned())),
                Identity::Unknown(why) => return Ok(Err(why)),
            }
        }
        let mut names = identities.note().await?.names;
        if let Some(main) = names.get(IMPORT).cloned() {
            names.insert(String::new(), main);
        }
        Ok(Ok(names))
    }
}

/// How a drop is worked on.
pub(crate) fn drop_account(drop: &str, account: &Account) -> DropAccount {
    DropAccount {
        drop: drop.to_owned(),
        scope: account.scope.clone(),
        base_url: account.base_url.clone(),
        key: account.key,
    }
}

/// Asks whose key an account has.
pub(crate) async fn ask(account: &Account, telemetry: &Telemetry) -> Identity {
    let exchange = account.client.whoami().await;
    let answer = outcome(&exchange, Timestamp::now());
    telemetry.called(&exchange, &answer);
    match &answer {
        Outcome::Done(Reply::Whoami { auditee, institution, institution_id }) => {
            let institution = institution_id.as_deref().or(institution.as_deref());
            match name(&account.base_url, institution, auditee.as_deref()) {
                Some(name) => Identity::Named(name),
                None => Identity::Unknown("whoami names nobody".to_owned()),
            }
        }
        Outcome::Paused { cause: PauseCause::KeyRefused, .. } => Identity::KeyRefused,
        other => {
            let said = other.reason().map(|reason| crate::verdict::text(exchange.operation, reason));
            Identity::Unknown(said.unwrap_or_else(|| "whoami is not understood".to_owned()))
        }
    }
}

/// The name of an account: a digest, since receipts go to partners. Nothing where the answer names nobody.
fn name(base_url: &str, institution: Option<&str>, auditee: Option<&str>) -> Option<String> {
    if institution.is_none() && auditee.is_none() {
        return None;
    }
    let mut digest = sha2::Sha256::new();
    for field in [base_url.trim_end_matches('/'), institution.unwrap_or_default(), auditee.unwrap_or_default()] {
        digest.update((field.len() as u64).to_be_bytes());
        digest.update(field);
    }
    let digest: [u8; 32] = digest.finalize().into();
    Some(crate::entry::Sha256(digest).to_string().chars().take(32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_an_account_depends_on_address_institution_and_auditee_alone() {
        let ours = name("https://api.example/4.0", Some("bank"), Some("demo")).unwrap();
        assert_eq!(ours.len(), 32);
        assert_eq!(name("https://api.example/4.0/", Some("bank"), Some("demo")), Some(ours.clone()));
        for (url, institution, auditee) in [
            ("https://api.eu.example/4.0", Some("bank"), Some("demo")),
            ("https://api.example/4.0", Some("bankd"), Some("emo")),
            ("https://api.example/4.0", Some("bank"), Some("live")),
            ("https://api.example/4.0", None, Some("demo")),
        ] {
            assert_ne!(name(url, institution, auditee), Some(ours.clone()));
        }
        assert_eq!(name("https://api.example/4.0", None, None), None);
    }
}
