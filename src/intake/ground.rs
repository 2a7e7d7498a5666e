//! When a drop's ground is tried, and what was found: before its first manifest, and again after something failed.

use std::time::{Duration, Instant};

use crate::{
    config::DropConfig,
    durable::{self, Access},
    inbox::ground::{self, GroundFault, GroundNeeds},
    policy::AfterSuccess,
    queue::Queue,
};

/// The backoff after the first try, which doubles with each, and its maximum.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// What is known of a drop's ground.
#[derive(Debug)]
pub(super) struct DropGround {
    needs: GroundNeeds,
    /// Whose mark is kept in the receipts folder; `None` where nobody sends.
    account: Option<String>,
    /// `None` before the first try; none where it is good.
    faults: Option<Vec<GroundFault>>,
    /// Whether something has failed since the last try that bad ground would explain.
    suspected: bool,
    tries: u32,
    not_before: Instant,
}

impl DropGround {
    pub(super) fn new(config: &DropConfig, now: Instant) -> Self {
        Self { needs: needs(config), account: None, faults: None, suspected: false, tries: 0, not_before: now }
    }

    /// From now on the receipts folder is to have the mark of this account.
    pub(super) fn mark_for(&mut self, account: String) {
        self.account = Some(account);
    }

    /// Records that files could not be taken or put away.
    pub(super) const fn suspect(&mut self) {
        self.suspected = true;
    }

    /// Tries the ground where that is due; returns whether it did. `lost`: what was taken is not there, which is a fault at
    /// once; nothing is tried then, so that no other work folder is made in its place.
    pub(super) fn look(&mut self, queue: &Queue, lost: Option<GroundFault>, now: Instant) -> bool {
        let is_new = lost.is_some() && self.fault().is_none();
        if !is_new && !self.is_due(now) {
            return false;
        }
        let known = ground::is_link(&self.needs.root).or(lost);
        let mut faults = known.map_or_else(|| ground::try_ground(&self.needs), |fault| vec![fault]);
        if let Some(account) = self.account.as_ref().filter(|_| faults.is_empty()) {
            faults.extend(foreign_receipts(&self.needs, queue, account));
        }
        self.tried(faults, now);
        true
    }

    /// Ground that was good stays so until something fails; bad ground is tried again.
    fn is_due(&self, now: Instant) -> bool {
        match &self.faults {
            None => true,
            Some(faults) => (self.suspected || !faults.is_empty()) && now >= self.not_before,
        }
    }

    fn tried(&mut self, faults: Vec<GroundFault>, now: Instant) {
        if faults.is_empty() && !self.suspected {
            self.tries = 0;
        }
        let backoff = FIRST_BACKOFF * 2_u32.pow(self.tries.min(5));
        self.not_before = now + backoff.min(LONGEST_BACKOFF);
        self.tries = self.tries.saturating_add(1);
        self.suspected = false;
        self.faults = Some(faults);
    }

    /// What is wrong, with the cure; `None` where nothing is.
    pub(super) fn fault(&self) -> Option<String> {
        let faults = self.faults.as_deref().filter(|faults| !faults.is_empty())?;
        let mut texts = Vec::new();
        for (fault, next) in faults.iter().zip(faults.iter().skip(1).map(Some).chain([None])) {
            // Several folders mostly have one cure, which is read once.
            let ends = next.is_none_or(|next| next.cure != fault.cure);
            let GroundFault { folder, reason, .. } = fault;
            texts.push(if ends { fault.to_string() } else { format!("{}: {reason}", folder.display()) });
        }
        Some(texts.join("; "))
    }

    /// When it is tried again by itself.
    pub(super) fn again_in(&self, now: Instant) -> Option<Duration> {
        self.fault().map(|_| self.not_before.saturating_duration_since(now))
    }
}

/// What keeps receipts of this queue from being written beside those that are there.
pub fn foreign_receipts(needs: &GroundNeeds, queue: &Queue, account: &str) -> Option<GroundFault> {
    let marked = match ground::receipts_folder(needs) {
        Ok(folder) => queue.mark_receipts(&folder, account).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let (reason, cure) = match marked {
        Ok(reason) => (reason?, "run `adopt`, or give this queue a receipts folder of its own"),
        Err(reason) => (reason, "let the worker's user read and write it"),
    };
    Some(GroundFault { folder: needs.receipts.clone(), reason, cure: cure.to_owned() })
}

/// The folders that this drop needs.
#[must_use]
pub fn needs(config: &DropConfig) -> GroundNeeds {
    let group = config.receipt_group.as_deref().and_then(|name| durable::group_of(name).ok());
    let archive = match config.after_success {
        AfterSuccess::Archive => vec![config.done_folder(), config.failed_folder()],
        AfterSuccess::Delete => vec![config.failed_folder()],
        AfterSuccess::Keep => Vec::new(),
    };
    GroundNeeds {
        root: config.path.clone(),
        receipts: config.receipts_folder(),
        access: Access { mode: config.receipt_mode, group },
        work: (config.after_success != AfterSuccess::Keep).then(|| config.work_folder()),
        archive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad() -> Vec<GroundFault> {
        vec![GroundFault { folder: "/srv/a/done".into(), reason: "full".into(), cure: "make room".into() }]
    }

    #[test]
    fn bad_ground_is_tried_with_a_backoff_and_good_ground_once() {
        let begin = Instant::now();
        let mut ground = DropGround::new(&DropConfig::new("a", "/srv/a"), begin);
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert!(ground.is_due(begin), "before the first manifest");
        ground.tried(bad(), at(0));
        assert_eq!(ground.fault().as_deref(), Some("/srv/a/done: full (make room)"));
        assert_eq!((ground.is_due(at(0)), ground.is_due(at(1))), (false, true));
        ground.tried(bad(), at(1));
        assert_eq!((ground.is_due(at(2)), ground.is_due(at(3))), (false, true));
        for _ in 0..20 {
            ground.tried(bad(), at(3));
        }
        assert_eq!(ground.again_in(at(3)), Some(LONGEST_BACKOFF));
        ground.tried(Vec::new(), at(40));
        assert_eq!((ground.fault(), ground.again_in(at(40))), (None, None));
        assert!(!ground.is_due(at(1000)));
    }

    #[test]
    fn good_ground_is_tried_again_when_something_failed_ever_less_often() {
        let begin = Instant::now();
        let mut ground = DropGround::new(&DropConfig::new("a", "/srv/a"), begin);
        let at = |seconds| begin + Duration::from_secs(seconds);
        ground.tried(Vec::new(), at(0));
        ground.suspect();
        assert!(ground.is_due(at(1)));
        ground.tried(Vec::new(), at(1));
        ground.suspect();
        assert_eq!((ground.is_due(at(2)), ground.is_due(at(3))), (false, true));
    }

    #[test]
    fn what_is_not_used_is_not_tried() {
        let mut config = DropConfig::new("a", "/srv/a");
        assert_eq!(needs(&config).archive.len(), 2);
        config.after_success = AfterSuccess::Keep;
        assert_eq!((needs(&config).work, needs(&config).archive), (None, Vec::new()));
        config.after_success = AfterSuccess::Delete;
        assert_eq!(needs(&config).archive, [config.failed_folder()]);
    }
}
