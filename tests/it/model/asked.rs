//! What is asked for: entries, the manifests that contain them, and how each format writes them.

use serde_json::{Value, json};

use super::Dice;
use crate::support::{Format, image, profile, sha256};

/// Profiles that entries are for; the last is the one that the API refuses everything for.
pub(super) const PROFILES: u32 = 4;

/// The one that the API refuses everything for.
pub(super) const REFUSED: u32 = PROFILES - 1;

/// An image or a file as it is dropped.
#[derive(Debug, Clone)]
pub(super) struct Scan {
    pub(super) path: String,
    pub(super) format: Format,
    pub(super) content: Vec<u8>,
    pub(super) image_type: Option<&'static str>,
    /// Whether the manifest says which content it is.
    pub(super) declares: bool,
    /// Whether its name is one that others use as well.
    pub(super) reuses: bool,
}

impl Scan {
    pub(super) fn sha256(&self) -> String {
        sha256(&self.content)
    }
}

/// What is wrong with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    NoUuid,
    OutsideTheDrop,
    NoImage,
}

/// One entry of a manifest.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) reference: Option<String>,
    pub(super) profile: u32,
    /// Of a document; a file has none.
    pub(super) category: Option<&'static str>,
    pub(super) scans: Vec<Scan>,
    pub(super) flaw: Option<Flaw>,
}

/// What an entry is, apart from its reference: profile, category, and the digests of its images in order.
pub(super) type Content = (u32, Option<&'static str>, Vec<String>);

impl Asked {
    /// A new entry, unlike all others; `number` is its own.
    pub(super) fn new(dice: &mut Dice, number: u32) -> Self {
        let is_file = dice.one_in(5);
        let scans = (0..if is_file { 1 } else { dice.below(3) + 1 }).map(|at| {
            let formats = [
                (Format::Png, "png"),
                (Format::Jpeg, "jpg"),
                (Format::Gif, "gif"),
                (Format::Pdf, "pdf"),
                (Format::Tiff, "tif"),
            ];
            let (format, ending) = dice.pick(&formats);
            let folder = dice.pick(&["", "in/", "in/deeper/"]);
            Scan {
                path: format!("{folder}{number}-{at}.{ending}"),
                format,
                content: image(format, number * 10 + at),
                image_type: if is_file { None } else { dice.pick(&[None, Some("FRONT"), Some("BACK"), Some("FACE")]) },
                declares: dice.one_in(6),
                reuses: false,
            }
        });
        let scans = scans.collect();
        let flaws = [Flaw::NoUuid, Flaw::OutsideTheDrop, Flaw::NoImage];
        let mut asked = Self {
            reference: (!dice.one_in(4)).then(|| format!("entry-{number}")),
            profile: if dice.one_in(12) { REFUSED } else { dice.below(REFUSED) },
            category: (!is_file).then(|| dice.pick(&["PROOF_OF_IDENTITY", "PROOF_OF_ADDRESS"])),
            scans,
            flaw: dice.one_in(10).then(|| dice.pick(&flaws)),
        };
        if asked.flaw == Some(Flaw::NoImage) {
            // A file may be anything; an image may not.
            asked.category = Some("PROOF_OF_IDENTITY");
            asked.scans[0].content = format!("no image, but text number {number}").into_bytes();
        }
        asked
    }

    /// One whose images have names that others use as well.
    pub(super) fn scanned(dice: &mut Dice, number: u32, profile: u32, names: &[&str], declares: bool) -> Self {
        let scans = (0..).zip(names).map(|(at, name)| Scan {
            path: (*name).to_owned(),
            format: Format::Png,
            content: image(Format::Png, number * 10 + at),
            image_type: dice.pick(&[None, Some("FRONT")]),
            declares,
            reuses: true,
        });
        Self {
            // Its content is not certain, so that only this tells it from others.
            reference: Some(format!("entry-{number}")),
            profile,
            category: Some("PROOF_OF_IDENTITY"),
            scans: scans.collect(),
            flaw: None,
        }
    }

    pub(super) fn reuses(&self) -> bool {
        self.scans.iter().any(|scan| scan.reuses)
    }

    pub(super) fn content(&self) -> Content {
        (self.profile, self.category, self.scans.iter().map(Scan::sha256).collect())
    }

    fn profile_id(&self) -> String {
        if self.flaw == Some(Flaw::NoUuid) { "customer 17".to_owned() } else { profile(self.profile) }
    }

    fn path(&self, at: usize) -> String {
        let path = &self.scans[at].path;
        if self.flaw == Some(Flaw::OutsideTheDrop) && at == 0 { format!("../{path}") } else { path.clone() }
    }

    fn json(&self) -> Value {
        let mut entry = json!({ "profile_id": self.profile_id() });
        if let Some(reference) = &self.reference {
            entry["reference"] = json!(reference);
        }
        let scan = |at: usize| {
            let mut scan = json!({ "path": self.path(at) });
            if let Some(image_type) = self.scans[at].image_type {
                scan["image_type"] = json!(image_type);
            }
            if self.scans[at].declares {
                scan["sha256"] = json!(self.scans[at].sha256());
            }
            scan
        };
        match self.category {
            Some(category) => {
                entry["category"] = json!(category);
                entry["document_type"] = json!("PASSPORT");
                entry["images"] = (0..self.scans.len()).map(scan).collect();
            }
            None => {
                let Value::Object(file) = scan(0) else { unreachable!() };
                entry.as_object_mut().unwrap().extend(file);
            }
        }
        entry
    }

    fn csv(&self) -> String {
        let rows = (0..self.scans.len()).map(|at| {
            let document_type = if self.category.is_some() { "PASSPORT" } else { "" };
            [
                self.profile_id(),
                self.reference.clone().unwrap_or_default(),
                self.category.unwrap_or_default().to_owned(),
                document_type.to_owned(),
                self.path(at),
                self.scans[at].image_type.unwrap_or_default().to_owned(),
                if self.scans[at].declares { self.scans[at].sha256() } else { String::new() },
            ]
            .join(",")
                + "\n"
        });
        rows.collect()
    }
}

/// A manifest as it was written at one time.
#[derive(Debug, Clone)]
pub(super) struct Manifest {
    pub(super) path: String,
    pub(super) text: String,
    pub(super) entries: Vec<Asked>,
    /// Whether something else took its place, perhaps before it was taken in.
    pub(super) superseded: bool,
}

impl Manifest {
    /// Writes these entries in the format of the path's extension.
    pub(super) fn new(path: String, mut entries: Vec<Asked>) -> Self {
        let text = if path.ends_with(".csv") {
            for entry in entries.iter_mut().filter(|entry| entry.scans.len() > 1) {
                // Only the reference says that rows belong together.
                let first = &entry.scans[0].path;
                entry.reference.get_or_insert_with(|| format!("entry of {first}"));
            }
            let head = "profile_id,reference,category,document_type,path,image_type,sha256\n";
            head.to_owned() + &entries.iter().map(Asked::csv).collect::<String>()
        } else if path.ends_with(".jsonl") {
            entries.iter().map(|entry| entry.json().to_string() + "\n").collect()
        } else {
            let some = |document: bool| -> Vec<Value> {
                entries.iter().filter(|entry| entry.category.is_some() == document).map(Asked::json).collect()
            };
            json!({ "version": 1, "documents": some(true), "files": some(false) }).to_string()
        };
        if path.ends_with(".json") {
            // So they are ordered in it.
            entries.sort_by_key(|entry| entry.category.is_none());
        }
        Self { path, text, entries, superseded: false }
    }

    /// A path in the drop of what it names relative to itself.
    pub(super) fn file(&self, path: &str) -> String {
        match self.path.rsplit_once('/') {
            Some((folder, _)) => format!("{folder}/{path}"),
            None => path.to_owned(),
        }
    }

    pub(super) fn is_flawed(&self) -> bool {
        self.entries.iter().any(|entry| entry.flaw.is_some())
    }
}
