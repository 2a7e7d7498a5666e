//! The drop of the demo: three customers, six documents and a file, and what goes wrong on the way.
//!
//! One document is wrong on purpose, and two calls are made to fail: one whose answer is lost after it took effect, one
//! that is refused. Each fault is bound to a profile, so that every run shows the same.

use std::{fs, io, path::Path};

use serde_json::json;

/// A customer of the first manifest.
pub const ALICE: &str = "a11ce000-5eed-4000-8000-000000000001";

/// A customer of the second manifest; the answer to one call for it is lost.
pub const BRUNO: &str = "b4b00000-5eed-4000-8000-000000000002";

/// A customer of the third manifest; one call for it is refused.
pub const CHLOE: &str = "c410e000-5eed-4000-8000-000000000003";

/// How many documents are good.
pub const GOOD_DOCUMENTS: u64 = 5;

/// How many files are good.
pub const GOOD_FILES: u64 = 1;

/// How many images the good documents have.
pub const GOOD_IMAGES: u64 = 8;

/// The one document that is wrong: its scan is a note under the name of a picture.
pub const BAD: &str = "bruno/bank-statement";

/// The names of the manifests, one in each format.
pub const MANIFESTS: [&str; 3] = ["alice.manifest.json", "bruno.manifest.jsonl", "chloe.manifest.csv"];

/// The API's faults, as rules for the sandbox.
#[must_use]
pub fn faults() -> [String; 2] {
    [
        format!("create_document=lost,nth=1,profile={BRUNO}"),
        format!("upload_image=status-before:503,nth=2,profile={CHLOE}"),
    ]
}

/// Writes the images, and after them the manifests that name them.
pub fn write(drop: &Path) -> io::Result<()> {
    for (path, content) in FILES {
        let path = drop.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, content)?;
    }
    for (name, content) in manifests() {
        fs::write(drop.join(name), content)?;
    }
    Ok(())
}

/// The content of each file, one or two of each type that the API accepts.
const FILES: [(&str, &[u8]); 10] = [
    ("alice/passport.png", include_bytes!("images/alice-passport.png")),
    ("alice/face.jpg", include_bytes!("images/alice-face.jpg")),
    ("alice/utility-bill.pdf", include_bytes!("images/alice-utility-bill.pdf")),
    ("alice/pep-declaration.pdf", include_bytes!("images/alice-pep-declaration.pdf")),
    ("bruno/licence-front.tif", include_bytes!("images/bruno-licence-front.tif")),
    ("bruno/licence-back.gif", include_bytes!("images/bruno-licence-back.gif")),
    ("bruno/bank-statement.jpg", b"The scanner jams again, I send the statement tomorrow.\n"),
    ("chloe/id-front.jpg", include_bytes!("images/chloe-id-front.jpg")),
    ("chloe/id-back.png", include_bytes!("images/chloe-id-back.png")),
    ("chloe/tax-return.pdf", include_bytes!("images/chloe-tax-return.pdf")),
];

fn manifests() -> [(&'static str, String); 3] {
    let alice = json!({
        "version": 1,
        "profile_id": ALICE,
        "documents": [
            {
                "reference": "alice/passport", "category": "PROOF_OF_IDENTITY", "document_type": "PASSPORT",
                "images": [
                    { "path": "alice/passport.png", "image_type": "FRONT" },
                    { "path": "alice/face.jpg", "image_type": "FACE" },
                ],
            },
            {
                "reference": "alice/utility-bill", "category": "PROOF_OF_ADDRESS", "document_type": "UTILITY_BILL",
                "images": [{ "path": "alice/utility-bill.pdf" }],
            },
        ],
        "files": [
            { "reference": "alice/pep", "path": "alice/pep-declaration.pdf", "name": "PEP Declaration Form.pdf" },
        ],
    });
    let bruno = [
        json!({
            "profile_id": BRUNO, "reference": "bruno/licence",
            "category": "PROOF_OF_IDENTITY", "document_type": "DRIVING_LICENCE",
            "images": [
                { "path": "bruno/licence-front.tif", "image_type": "FRONT" },
                { "path": "bruno/licence-back.gif", "image_type": "BACK" },
            ],
        }),
        json!({
            "profile_id": BRUNO, "reference": BAD,
            "category": "PROOF_OF_BANK_ACCOUNT", "document_type": "BANK_STATEMENT",
            "images": [{ "path": "bruno/bank-statement.jpg" }],
        }),
    ];
    let chloe = [
        "profile_id,reference,category,document_type,path,image_type".to_owned(),
        format!("{CHLOE},chloe/id-card,PROOF_OF_IDENTITY,STATE_ID,chloe/id-front.jpg,FRONT"),
        format!("{CHLOE},chloe/id-card,PROOF_OF_IDENTITY,STATE_ID,chloe/id-back.png,BACK"),
        format!("{CHLOE},chloe/tax,PROOF_OF_TAX_STATUS,TAX,chloe/tax-return.pdf,"),
    ];
    let lines = |lines: &[String]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let [first, second, third] = MANIFESTS;
    [(first, format!("{alice:#}\n")), (second, lines(&bruno.map(|entry| entry.to_string()))), (third, lines(&chloe))]
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::{
        inbox::beneath::Root,
        intake::{
            context::NoContext,
            examine::{ManifestRules, examine_all, open},
        },
        manifest,
        queue::admission::Admission,
        sandbox::FaultRule,
        warning::RefusedWarnings,
    };

    #[test]
    fn all_but_one_document_is_good() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path()).unwrap();
        let root = Root::open(folder.path()).unwrap();
        let limits = manifest::ManifestBounds::default();
        let rules = ManifestRules {
            limits,
            max_image_bytes: 50_000_000,
            profiles: None,
            max_invalid: 0,
            seed: 0,
            refused: RefusedWarnings::default(),
            work_dir: None,
        };
        let (mut documents, mut files, mut images, mut bad) = (0, 0, 0, Vec::new());
        for name in MANIFESTS {
            let opened = open(&root, name, u64::MAX).unwrap();
            let examined = examine_all(&opened, &root, "", &rules, &NoContext, &mut |found| {
                assert_eq!(found.warnings, []);
                match found.admission {
                    Admission::Take { entry, .. } => match entry.kind() {
                        crate::entry::EntryKind::Document => {
                            documents += 1;
                            images += entry.sources().count() as u64;
                        }
                        crate::entry::EntryKind::File => files += 1,
                    },
                    Admission::Known { .. } | Admission::Unchanged { .. } => panic!("nothing was created before"),
                    Admission::Invalid { reference, .. } => bad.push(reference.unwrap()),
                }
                ControlFlow::Continue(())
            });
            assert_eq!(examined.unwrap().warnings, []);
        }
        assert_eq!((documents, files, images), (GOOD_DOCUMENTS, GOOD_FILES, GOOD_IMAGES));
        assert_eq!(bad, [BAD]);
    }

    #[test]
    fn the_sandbox_understands_the_faults() {
        for fault in faults() {
            fault.parse::<FaultRule>().unwrap();
        }
    }
}
