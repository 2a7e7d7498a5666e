//! Tries the model of a disk itself: a model that forgives too much proves nothing.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use crate::{dice::Dice, disk::Disk, trace::Event};

/// Runs all of it.
pub fn run() -> Result<()> {
    what_was_not_synced_may_be_torn_or_missing()?;
    a_rename_loses_not_both_names()?;
    println!("the model of a disk does what it should");
    Ok(())
}

fn write(path: &str, bytes: &[u8]) -> Event {
    Event::Write { path: path.into(), at: 0, bytes: bytes.to_vec() }
}

fn what_was_not_synced_may_be_torn_or_missing() -> Result<()> {
    let mut disk = Disk::default();
    disk.lay_folder("drop");
    for event in [
        Event::Create("drop/a".into()),
        write("drop/a", &[1; 2048]),
        Event::Sync("drop/a".into()),
        Event::Sync("drop".into()),
        write("drop/a", &[2; 2048]),
        Event::Create("drop/b".into()),
    ] {
        disk.apply(&event)?;
    }
    let mut seen = BTreeSet::new();
    let mut second = BTreeSet::new();
    for number in 0..2000 {
        let image = disk.cut(&mut Dice::new(7, 0, number));
        let content = image.content("drop/a").unwrap_or_default().to_vec();
        ensure!(content.len() == 2048, "what was synced is lost");
        let sectors: Vec<u8> = content.chunks(512).filter_map(|sector| sector.first().copied()).collect();
        ensure!(
            content.chunks(512).all(|sector| sector.iter().all(|byte| Some(byte) == sector.first())),
            "a torn sector"
        );
        seen.insert(sectors);
        second.insert(image.names.contains_key("drop/b"));
    }
    ensure!(seen.len() == 16, "of 16 ways to write four sectors or not, only {} were seen", seen.len());
    ensure!(second.len() == 2, "a name that was not synced was always, or never, there");
    Ok(())
}

fn a_rename_loses_not_both_names() -> Result<()> {
    let mut disk = Disk::default();
    for folder in ["drop", "drop/done"] {
        disk.lay_folder(folder);
    }
    disk.lay("drop/a", vec![1]);
    disk.apply(&Event::Rename { from: "drop/a".into(), to: "drop/done/a".into() })?;
    let outcomes = |disk: &Disk| -> BTreeSet<(bool, bool)> {
        (0..500)
            .map(|number| disk.cut(&mut Dice::new(3, 1, number)))
            .map(|image| (image.names.contains_key("drop/a"), image.names.contains_key("drop/done/a")))
            .collect()
    };
    ensure!(outcomes(&disk) == BTreeSet::from([(true, false), (false, true), (true, true)]), "before a sync");
    let mut one = disk.clone();
    one.apply(&Event::Sync("drop/done".into()))?;
    ensure!(outcomes(&one) == BTreeSet::from([(false, true), (true, true)]), "after a sync of the new folder");
    disk.apply(&Event::Sync("drop".into()))?;
    ensure!(outcomes(&disk) == BTreeSet::from([(false, true)]), "after a sync of the old folder");
    Ok(())
}
