//! Admits the manifests of an import to the queue, one after the other.

use std::{
    cell::RefCell,
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::sync::Notify;

use super::{super::start::Usage, ImportArgs, Target, pace::AdmissionPace};
use crate::{
    config::Config,
    durable::{self, Access},
    entry::Sha256,
    file_identity,
    inbox::{
        beneath::Root,
        ground::{self, FolderRights, GroundNeeds},
        watch::{EventSupport, delivers_events},
    },
    intake::{
        admit::{AdmitError, AdmittedPart, BetweenParts, Policy, admit},
        examine::{self, ManifestRules, OpenedManifest},
        ground::foreign_receipts,
        import_context::ImportContext,
        named_files::NamedFiles,
        stillness::stillness,
    },
    layout::{ArchiveLayout, ArchiveTarget, Weight, stage},
    policy::{AfterSuccess, OnInvalid},
    queue::{
        Queue, QueueError, Reader,
        batch::{BatchPolicy, Plan},
        known_rows::KnownRows,
        layouts::LayoutUse,
        lineage::MarkedFolder,
    },
    relative_path,
};

/// The manifest that is being admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnderAdmission {
    pub(super) batch_id: i64,
    pub(super) manifest: PathBuf,
    /// How many of its entries are not in, as far as that is known.
    pub(super) rest: Option<u64>,
}

/// What has been admitted so far.
#[derive(Default)]
pub(super) struct Intake {
    batches: Mutex<Vec<(i64, PathBuf)>>,
    under_way: Mutex<Option<UnderAdmission>>,
    cut_short: Mutex<Vec<UnderAdmission>>,
    /// Manifests that cannot be admitted.
    pub(super) trouble: AtomicU64,
    pub(super) finished: AtomicBool,
    /// A manifest that an earlier call began is gone on with.
    pub(super) continued: AtomicBool,
    /// Everything is admitted, or this process settled a batch.
    pub(super) news: Notify,
}

impl Intake {
    pub(super) fn batches(&self) -> Vec<i64> {
        self.taken_in().into_iter().map(|(batch, _)| batch).collect()
    }

    /// The batches, with their manifests.
    pub(super) fn taken_in(&self) -> Vec<(i64, PathBuf)> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The same with those whose admission was cut short, and how many entries of them are not in.
    pub(super) fn all_taken_in(&self) -> (Vec<(i64, PathBuf)>, u64) {
        let mut batches = self.taken_in();
        let cut_short = self.cut_short.lock().unwrap_or_else(PoisonError::into_inner);
        batches.extend(cut_short.iter().map(|cut| (cut.batch_id, cut.manifest.clone())));
        (batches, cut_short.iter().filter_map(|cut| cut.rest).sum())
    }

    /// The manifest that is being admitted, where a part of it is in.
    pub(super) fn under_way(&self) -> Option<UnderAdmission> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn begin(&self, under_way: UnderAdmission) {
        *self.under_way.lock().unwrap_or_else(PoisonError::into_inner) = Some(under_way);
    }

    /// The manifest is admitted as this batch, or its admission was cut short.
    fn end(&self, admitted: Option<(i64, PathBuf)>) {
        let is_admitted = admitted.is_some();
        // In this order, so that whoever counts both misses nothing.
        self.batches.lock().unwrap_or_else(PoisonError::into_inner).extend(admitted);
        let under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.cut_short.lock().unwrap_or_else(PoisonError::into_inner).extend(under_way.filter(|_| !is_admitted));
    }

    fn has(&self, batch_id: i64) -> bool {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|(batch, _)| *batch == batch_id)
    }
}

/// Admits manifests, all with the same settings.
pub(super) struct Importer {
    rules: ManifestRules,
    drop: String,
    image_root: Option<PathBuf>,
    receipts_to: Option<PathBuf>,
    archive_to: Option<PathBuf>,
    receipt_mode: u32,
    receipt_group: Option<String>,
    on_invalid: OnInvalid,
    /// By which archives are read, instead of manifests.
    layout: Option<ArchiveLayout>,
    new_references: bool,
    /// Nothing is sent before its stage begins.
    in_stages: bool,
}

impl Importer {
    pub(super) fn new(args: &ImportArgs, config: &Config, seed: u64, layout: Option<ArchiveLayout>) -> Self {
        let drop = config.drop_named(&args.drop);
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        Self {
            rules: ManifestRules::of(drop, config.api.max_image_bytes, seed).refusing(&args.refuse_warnings),
            drop: args.drop.clone(),
            // The paths of an archive start from its own folder.
            image_root: args.input.root.as_ref().filter(|_| layout.is_none()).map(absolute),
            receipts_to: args.receipts_to.as_ref().map(absolute),
            archive_to: args.archive_to.as_ref().map(absolute),
            receipt_mode: drop.map_or(0o640, |drop| drop.receipt_mode),
            receipt_group: drop.and_then(|drop| drop.receipt_group.clone()),
            on_invalid: drop.map_or(OnInvalid::Skip, |drop| drop.on_invalid),
            new_references: args.new_references,
            in_stages: !args.stages.is_empty(),
            layout,
        }
    }

    /// Admits one manifest after the other.
    pub(super) fn import(
        &self,
        targets: &[Target],
        queue: &Queue,
        intake: &Intake,
        stopped: &dyn Fn() -> bool,
        notify: &dyn Fn(),
    ) {
        let mut names = NamedFiles::of(targets.len());
        // Nothing is sent beside it that it could hold up.
        let reader = if self.in_stages { None } else { Reader::open(queue.path()).ok() };
        let pace = AdmissionPace::new(reader, &self.drop, stopped);
        let many = targets.len() as u64;
        for (number, target) in (1_u64..).zip(targets) {
            if stopped() {
                return;
            }
            names.begin(target.root.join(&target.manifest).display().to_string());
            let between = |part: AdmittedPart| {
                intake.begin(UnderAdmission {
                    batch_id: part.batch_id,
                    manifest: target.root.join(&target.manifest),
                    rest: part.of.map(|of| of.saturating_sub(part.entries)),
                });
                notify();
                pace.rest(part.entries, part.of.unwrap_or(0));
            };
            let imported =
                self.import_one(target, queue, (&names, intake), BetweenParts { stopped, admitted: &between });
            if !matches!(imported, Ok(Some((_, true)))) {
                names.takes_no_files();
            }
            match imported {
                Ok(Some((batch, _))) => {
                    intake.end(Some((batch, target.root.join(&target.manifest))));
                }
                Ok(None) => intake.end(None),
                Err(error) => {
                    intake.end(None);
                    let path = target.root.join(&target.manifest);
                    tracing::error!(manifest = %path.display(), reason = format!("{error:#}"), "cannot be taken in");
                    intake.trouble.fetch_add(1, Ordering::Relaxed);
                }
            }
            notify();
            if number < many {
                pace.rest(number, many);
            }
        }
    }

    /// What happens to the files of a manifest and to its receipt.
    fn policy(&self, target: &Target, image_root: &Path, image_folder: String) -> BatchPolicy {
        let GroundNeeds { receipts, .. } = self.needs(&target.root);
        BatchPolicy {
            root: target.root.clone(),
            image_root: image_root.to_owned(),
            image_folder,
            receipts_dir: receipts,
            receipt_mode: self.receipt_mode,
            receipt_group: self.receipt_group.clone(),
            done_dir: self.archive_to.as_ref().map(|folder| folder.join("done")),
            failed_dir: self.archive_to.as_ref().map(|folder| folder.join("failed")),
            marker: None,
            texts: false,
            after_success: if self.archive_to.is_some() { AfterSuccess::Archive } else { AfterSuccess::Keep },
        }
    }

    /// The folders that manifests of this one need.
    fn needs(&self, root: &Path) -> GroundNeeds {
        let group = self.receipt_group.as_deref().and_then(|name| durable::group_of(name).ok());
        GroundNeeds {
            root: root.to_owned(),
            receipts: self.receipts_to.clone().unwrap_or_else(|| root.join("receipts")),
            access: Access { mode: self.receipt_mode, group },
            work: None,
            archive: self.archive_to.iter().flat_map(|folder| [folder.join("done"), folder.join("failed")]).collect(),
        }
    }

    /// Tries the folders for receipts and archive, before anything is queued.
    ///
    /// # Errors
    ///
    /// What is wrong with the first of them, with the cure.
    pub(super) fn try_ground(&self, targets: &[Target]) -> Result<(), Usage> {
        let mut tried = None;
        for target in targets {
            if tried != Some(&target.root) {
                if let Some(fault) = ground::try_ground(&self.needs(&target.root)).into_iter().next() {
                    let receipts = self.archive_to.is_none() || self.needs(&target.root).receipts == fault.folder;
                    let option = if receipts { "--receipts-to" } else { "--archive-to" };
                    return Err(Usage(format!("nothing was sent: {fault}; or name another folder with {option} DIR")));
                }
                tried = Some(&target.root);
            }
            if self.archive_to.is_some() {
                let root = Root::open(&target.root).map_err(|error| Usage(error.to_string()))?;
                ground::lets_go(&root, [target.manifest.as_str()]).map_err(|fault| {
                    Usage(format!("nothing was sent: {fault}; or leave --archive-to out, then nothing is moved"))
                })?;
            }
        }
        Ok(())
    }

    /// Refuses folders for receipts in which another queue writes its own, and marks the others.
    ///
    /// # Errors
    ///
    /// What is wrong with the first of them, with the cure; where this process `works` on the queue, also what is wrong
    /// with that.
    pub(super) fn mark_receipts(
        &self,
        targets: &[Target],
        queue: &Queue,
        account: &str,
        works: bool,
    ) -> anyhow::Result<()> {
        let mut folders = HashMap::new();
        for target in targets {
            let needs = self.needs(&target.root);
            folders.insert(needs.receipts.clone(), needs);
        }
        if works {
            let folder = |path: &PathBuf| MarkedFolder { path: path.clone(), account: account.to_owned() };
            let seen = folders.keys().map(folder).filter_map(|folder| folder.read().ok().map(|mark| (folder, mark)));
            queue.check_lineage(&seen.collect::<Vec<_>>())?;
        }
        for needs in folders.values() {
            if let Some(fault) = foreign_receipts(needs, queue, account) {
                let advice = "or name another folder with --receipts-to DIR";
                return Err(Usage(format!("nothing was sent: {fault}; {advice}")).into());
            }
        }
        Ok(())
    }

    /// Refuses a list whose references were made by another template before: everything would be created again.
    ///
    /// # Errors
    ///
    /// What the template was, with the cure.
    pub(super) fn check_references(&self, targets: &[Target], queue: &Queue) -> anyhow::Result<()> {
        let Some(layout) = self.layout.as_ref().filter(|_| !self.new_references) else { return Ok(()) };
        for target in targets {
            let sha256 = match layout.list_of(&Self::archive(layout, target)) {
                Some(list) => examine::open(&Root::open(&target.root)?, &list, u64::MAX)?.sha256,
                None => Sha256([0; 32]),
            };
            let place = (target.root.as_path(), target.manifest.as_str());
            if let Some(before) = queue.other_references(&self.drop, place, sha256, &layout.references)? {
                return Err(Usage(format!(
                    "{}: its references were made by {before:?} before, and everything would be created a second time: \
                     put that back, or give --new-references",
                    target.root.join(&target.manifest).display()
                ))
                .into());
            }
        }
        Ok(())
    }

    fn archive(layout: &ArchiveLayout, target: &Target) -> ArchiveTarget {
        let list = layout.has_list().then(|| target.manifest.clone());
        ArchiveTarget { root: target.root.clone(), list }
    }

    /// Reads an archive by the layout. A list keeps its own identity and digest; an archive without one has those of what
    /// was made of it.
    fn staged(
        &self,
        layout: &ArchiveLayout,
        target: &Target,
        root: &Root,
    ) -> anyhow::Result<(OpenedManifest, LayoutUse)> {
        let archive = Self::archive(layout, target);
        let mut warnings = 0_u64;
        let staged = stage(layout, &archive, root, true, &mut |finding| {
            warnings += u64::from(finding.severity == Weight::Warning);
            Ok(())
        })?;
        if warnings > 0 {
            tracing::warn!(warnings, "`check --layout` names what is odd in the archive");
        }
        let list = layout.list_of(&archive).map(|list| examine::open(root, &list, u64::MAX)).transpose()?;
        let used = LayoutUse {
            file: layout.file.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            sha256: layout.sha256,
            references: layout.references.clone(),
            entries_sha256: staged.sha256,
        };
        let sha256 = list.as_ref().map_or(staged.sha256, |list| list.sha256);
        Ok((examine::staged(staged.file, sha256, staged.warnings)?, used))
    }

    /// Refuses a manifest whose files could not be archived afterwards.
    fn files_go(&self, opened: &OpenedManifest, images: &Root, place: (&str, &str)) -> anyhow::Result<()> {
        let mut rights = FolderRights::new(images);
        let mut stays = None;
        let mut name = |file: &str| {
            if stays.is_none() {
                stays = rights.let_go(file).err();
            }
        };
        stillness(opened, images, place, &self.rules, None, None, &mut name)?;
        match stays {
            Some(stays) => anyhow::bail!("{stays}; or leave --archive-to out, then nothing is moved"),
            None => Ok(()),
        }
    }

    /// Admits a manifest; returns its batch, unless it is to stop, and whether the manifest takes files.
    fn import_one(
        &self,
        target: &Target,
        queue: &Queue,
        (names, intake): (&NamedFiles, &Intake),
        between: BetweenParts<'_>,
    ) -> anyhow::Result<Option<(i64, bool)>> {
        let root = Root::open(&target.root)?;
        let (mut opened, layout) = match &self.layout {
            None => (examine::open(&root, &target.manifest, self.rules.limits.max_bytes)?, None),
            Some(layout) => self.staged(layout, target, &root).map(|(opened, used)| (opened, Some(used)))?,
        };
        let list = self.layout.as_ref().is_none_or(ArchiveLayout::has_list);
        let identity = match &layout {
            Some(_) if list => root.open_file(&target.manifest)?.identity,
            Some(_) => root.identity(),
            None => opened.identity,
        };
        let folder = if layout.is_some() { "" } else { relative_path::parent(&target.manifest) };
        let (image_root, image_folder) = match &self.image_root {
            Some(own) => (own.clone(), String::new()),
            None => (target.root.clone(), folder.to_owned()),
        };
        let plan = Plan {
            drop: self.drop.clone(),
            manifest: target.manifest.clone(),
            manifest_sha256: opened.sha256,
            manifest_file: file_identity::write(&identity),
            taken: None,
            layout: layout.clone(),
            held_back: self.in_stages,
            policy: self.policy(target, &image_root, image_folder),
        };
        let known = queue.known_manifest(&self.drop, &target.root, &target.manifest)?;
        let mut known = known.filter(|known| !known.closed && known.sha256 == opened.sha256.0);
        if let (Some(batch), Some(layout)) = (&known, &layout)
            && !queue.is_by_layout(batch.batch_id, layout)?
        {
            known = None;
        }
        if let Some(known) = &known {
            intake.continued.store(true, Ordering::Relaxed);
            // What is not settled goes into the folders that are given now.
            queue.change_folders(known.batch_id, &plan.policy)?;
        }
        // A manifest that an earlier call left unsettled is continued, not admitted again. A copy of it in another
        // folder is another manifest, since its images are beside it.
        if let Some(known) = known
            && !known.admitting
            && (!list || root.present(identity).is_kept_as(&known.file))
        {
            tracing::info!(manifest = target.manifest, batch = known.batch_id, "continues where it stopped");
            return Ok(Some((known.batch_id, true)));
        }
        let images = Root::open(&image_root)?;
        if self.archive_to.is_some() {
            self.files_go(&opened, &images, (&plan.policy.image_folder, &target.manifest))?;
        }
        let policy = Policy { on_invalid: self.on_invalid, wait_for_files: false };
        // Files that are to be moved away afterwards are looked at, and so is all of a manifest that may be refused.
        let passes_over = self.archive_to.is_none() && self.on_invalid == OnInvalid::Skip;
        let known = || Ok::<_, QueueError>(RefCell::new(KnownRows::of(Reader::open(queue.path())?, &self.drop)?));
        let context = ImportContext {
            reader: Reader::open(queue.path())?,
            known: if passes_over { Some(known()?) } else { None },
            drop: &self.drop,
            manifest_sha256: opened.sha256,
            names,
            is_ours: &|batch| intake.has(batch),
            own_clock: matches!(delivers_events(&image_root), Ok(EventSupport::Yes)),
        };
        match admit(queue, plan, &mut opened, &images, (&self.rules, &context), policy, between) {
            Ok(admitted) => {
                tracing::info!(
                    manifest = target.manifest,
                    batch = admitted.batch_id,
                    entries = admitted.entries,
                    invalid = admitted.invalid,
                    warnings = admitted.warnings,
                    "taken in"
                );
                Ok(Some((admitted.batch_id, admitted.unusable.is_none())))
            }
            Err(AdmitError::Stopped) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
