//! Records what the worker writes while it is killed, stopped and started again, until all is done.

use std::{
    fs,
    path::Path,
    process::Child,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use passfort_ingest::sandbox::LedgerEntry;

use crate::{
    disk::{Disk, Node, folder_of},
    end,
    site::{self, Order, Site},
    strace,
    trace::{self, Event},
};

/// A recorded run.
pub struct Recording {
    pub site: Site,
    pub order: Order,
    /// The disk before it.
    pub start: Disk,
    /// The number of each of the sender's files on the disk, by its path in the drop.
    pub numbers: Vec<(String, usize)>,
    pub events: Vec<Event>,
    /// Every call that the API was sent.
    pub ledger: Vec<LedgerEntry>,
}

/// What goes wrong at the API meanwhile, so that jobs wait, are read back, and are tried again.
const FAULTS: [&str; 4] = [
    "create_document=lost,every=6",
    "upload_image=lost,every=11",
    "upload_image=status-before:503,every=13",
    "upload_file=lost,nth=2",
];

/// How often a recording is tried: one that does not add up to what is on the real disk is discarded, as where a thread
/// was killed within a call that may or may not have been carried out.
const TRIES: u32 = 5;

/// Records a run.
pub fn record(program: &Path, manifests: u32, documents_each: u32) -> Result<Recording> {
    let mut last = None;
    for _ in 0..TRIES {
        match record_once(program, manifests, documents_each) {
            Ok(recording) => return Ok(recording),
            Err(error) => {
                println!("recording again: {error:#}");
                last = Some(error);
            }
        }
    }
    Err(last.unwrap_or_else(|| anyhow!("nothing was recorded")))
}

fn record_once(program: &Path, manifests: u32, documents_each: u32) -> Result<Recording> {
    let mut site = Site::new(program)?;
    let order = Order::new(manifests, documents_each);
    site.start_api(&[], &FAULTS, "")?;
    // The sender's files are kept aside too, under the same inodes, for images to be made of them.
    site.put(&order)?;
    fs::create_dir(site.at("kept"))?;
    let (start, numbers) = lay(&site, &order)?;
    for (path, number) in &numbers {
        fs::hard_link(site.at("drop").join(path), site.at(&format!("kept/{number}")))?;
    }
    site::settle();

    let calls = u64::from(manifests) * (u64::from(documents_each) * 3 + 1);
    let mut events = Vec::new();
    let mut disk = start.clone();
    for (life, share) in [12, 37, 61].into_iter().enumerate() {
        let mut traced = begin(&site, life, &["run"])?;
        wait_for_calls(&site, &mut traced, calls * share / 100)?;
        let kind = if life == 2 { rustix::process::Signal::TERM } else { rustix::process::Signal::KILL };
        for worker in site::children(traced.id()) {
            site::signal(worker, kind)?;
        }
        ensure!(site::ended(&mut traced)?.is_some(), "the worker did not stop:\n{}", site.said());
        events.extend(life_of(&site, life, &mut disk)?);
        // Somebody looks: as the last who has the database open, that brings the log into it.
        let status = site::ended(&mut begin(&site, 8, &["status"])?)?;
        ensure!(status.is_some_and(|status| status.success()), "`status` failed:\n{}", site.said());
        events.extend(life_of(&site, 8, &mut disk)?);
    }
    let status = site::ended(&mut begin(&site, 9, &["run", "--once"])?)?;
    let code = status.and_then(|status| status.code());
    // What is refused may have been settled in an earlier life.
    ensure!(matches!(code, Some(0 | 1)), "the last run ended with {code:?}:\n{}", site.said());
    events.extend(life_of(&site, 9, &mut disk)?);

    let ledger = site.sandbox()?.ledger();
    let asked = events.iter().filter(|event| matches!(event, Event::Ask(_))).count();
    let of_profiles = ledger.iter().filter(|call| call.profile.is_some()).count();
    ensure!(asked >= of_profiles, "{asked} requests were seen of {of_profiles}");
    end::judge(&order, site.sandbox()?, &[], &site::files_below(&site.at("drop"))?)
        .context("the recorded run itself went wrong")?;
    site.stop_api();
    Ok(Recording { site, order, start, numbers, events, ledger })
}

fn begin(site: &Site, life: usize, arguments: &[&str]) -> Result<Child> {
    let mut tracer = strace::strace();
    tracer.args(["-e", trace::CALLS, "-o"]).arg(site.at(&format!("life{life}")));
    site.start(Some(tracer), arguments)
}

/// What a life did to the disk, which is brought up to date with it.
fn life_of(site: &Site, life: usize, disk: &mut Disk) -> Result<Vec<Event>> {
    let prefix = site.at(&format!("life{life}"));
    let calls = strace::read(&prefix)?;
    for entry in fs::read_dir(site.root())? {
        let path = entry?.path();
        if path.to_string_lossy().starts_with(&format!("{}.", prefix.display())) {
            fs::remove_file(path)?;
        }
    }
    let mut result = Err(anyhow!("the tracer saw nothing:\n{}", site.said()));
    for unknown in [false, true] {
        let events = trace::events(&calls, site.root(), unknown)?;
        let mut then = disk.clone();
        events.iter().try_for_each(|event| then.apply(event))?;
        result = same(&then, site).map(|()| (then, events));
        if result.is_ok() {
            break;
        }
    }
    let events;
    (*disk, events) = result?;
    ensure!(!events.is_empty(), "the tracer saw nothing:\n{}", site.said());
    Ok(events)
}

fn wait_for_calls(site: &Site, child: &mut Child, calls: u64) -> Result<()> {
    let deadline = Instant::now() + site::DEADLINE;
    while (site.sandbox()?.ledger().len() as u64) < calls {
        if child.try_wait()?.is_some() {
            bail!("the worker ended too early:\n{}", site.said());
        }
        ensure!(Instant::now() < deadline, "the worker does not get on:\n{}", site.said());
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// The disk as the sender left it.
fn lay(site: &Site, order: &Order) -> Result<(Disk, Vec<(String, usize)>)> {
    let mut disk = Disk::default();
    for folder in ["drop", "state"] {
        disk.lay_folder(folder);
    }
    let mut numbers = Vec::new();
    for (path, bytes) in &order.files {
        let full = format!("drop/{path}");
        disk.lay_folder(folder_of(&full));
        numbers.push((path.clone(), disk.lay(&full, bytes.clone())));
    }
    same(&disk, site)?;
    Ok((disk, numbers))
}

/// Fails where the model's disk differs from the real one.
fn same(disk: &Disk, site: &Site) -> Result<()> {
    let model = disk.current();
    for folder in ["drop", "state"] {
        let mut real = site::files_below(&site.at(folder))?;
        real.retain(|path, _| ![".lock", ".bell", "-shm"].iter().any(|end| path.ends_with(end)));
        let named: Vec<&str> = model
            .names
            .iter()
            .filter(|(_, node)| matches!(node, Node::File(_)))
            .filter_map(|(path, _)| path.strip_prefix(&format!("{folder}/")))
            .collect();
        let found: Vec<&str> = real.keys().map(String::as_str).collect();
        ensure!(named == found, "the recording has other files than {folder}: {named:?} {found:?}");
        for (path, bytes) in &real {
            let recorded = model.content(&format!("{folder}/{path}"));
            let first = recorded.and_then(|recorded| recorded.iter().zip(bytes).position(|(one, other)| one != other));
            ensure!(
                recorded == Some(bytes.as_slice()),
                "the recording has another content of {folder}/{path}: {:?} bytes instead of {}, the first other at {first:?}",
                recorded.map(<[u8]>::len),
                bytes.len()
            );
        }
    }
    Ok(())
}
