//! Names that are nearly a manifest's: what a spreadsheet, a browser or a hurried person makes of `batch.manifest.csv`.
//!
//! A file with such a name is never read; it is named to people, since its sender believes that it was sent.

/// Endings of lists that no scan and no photo has.
const LISTS: [&str; 4] = ["csv", "tsv", "jsonl", "ndjson"];

/// Endings that a manifest has got by being opened, packed or encrypted, or that it has in another form.
const FORMS: [&str; 13] = ["json", "txt", "bak", "xls", "xlsx", "ods", "xml", "yaml", "yml", "zip", "gz", "pgp", "gpg"];

/// What file managers add to the name of a copy.
const COPIES: [&str; 6] = [" - copy", " - kopie", " - copie", " copy", " kopie", "_copy"];

/// What this program writes beside manifests.
const OWN: [&str; 6] =
    [".receipt.json", ".receipt.jsonl", ".receipt.txt", ".waiting.txt", ".taken.txt", ".doubled.json"];

/// Whether the name of a file that is no manifest looks like one. `fits` says whether a name is a manifest's.
#[must_use]
pub fn is_near_name(name: &str, fits: impl Fn(&str) -> bool) -> bool {
    let name = name.to_lowercase();
    if OWN.iter().any(|own| name.ends_with(own)) {
        return false;
    }
    let plain = without_copy_marks(&name);
    let ending = |name: &str| name.rsplit_once('.').map(|(_, ending)| ending.to_owned()).unwrap_or_default();
    let named = plain.contains("manifest");
    let formed = |ending: &str| ending.is_empty() || FORMS.contains(&ending) || LISTS.contains(&ending);
    // With an ending too many, as `.csv.txt`.
    let shorter = FORMS.iter().find_map(|form| plain.strip_suffix(form)?.strip_suffix('.'));
    [Some(plain.as_str()), shorter].into_iter().flatten().any(|plain| fits(plain) || LISTS.contains(&&*ending(plain)))
        || (named && formed(&ending(&plain)))
}

/// The name without `(1)` and ` - Copy`.
fn without_copy_marks(name: &str) -> String {
    let mut plain = name.to_owned();
    for copy in COPIES {
        plain = plain.replace(&format!("{copy}."), ".");
        plain = plain.strip_suffix(copy).map(str::to_owned).unwrap_or(plain);
    }
    while let Some((before, rest)) = plain.split_once('(')
        && let Some((number, after)) = rest.split_once(')')
        && !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
    {
        plain = format!("{}{after}", before.trim_end());
    }
    plain.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(name: &str) -> bool {
        let fits = |name: &str| {
            [".manifest.json", ".manifest.jsonl", ".manifest.csv"].iter().any(|ending| name.ends_with(ending))
        };
        is_near_name(name, fits)
    }

    #[test]
    fn what_programs_make_of_a_manifests_name_is_near() {
        for name in [
            "part4.csv",
            "part3.manifest.csv.txt",
            "batch.manifest (1).json",
            "batch.manifest(12).json",
            "batch.manifest.json.txt",
            "batch.csv (2)",
            "batch_manifest.json",
            "batch-manifest.csv",
            "manifest.json",
            "Manifest",
            "batch.manifest - Copy.json",
            "batch.manifest - Kopie (2).csv",
            "batch.manifest.json - Copy",
            "batch.manifest.ndjson",
            "batch.manifest.csv.zip",
            "BATCH.MANIFEST.XLSX",
            "batch.manifests.csv.gpg",
        ] {
            assert!(near(name), "{name}");
        }
    }

    #[test]
    fn images_markers_and_our_own_files_are_not() {
        for name in [
            "front.jpg",
            "front (1).png",
            "manifest.png",
            "notes.txt",
            "readme",
            "data.json",
            "batch.manifest.json.done",
            "batch.manifest.json.receipt.json",
            "batch.manifest.csv.waiting.txt",
            "front (a.png",
            "()",
        ] {
            assert!(!near(name), "{name}");
        }
    }

    #[test]
    fn patterns_of_a_drop_count_as_they_are() {
        let fits = |name: &str| name.ends_with(".order.json");
        assert!(is_near_name("7.order (1).json", fits));
        assert!(is_near_name("7.order.json.txt", fits));
        assert!(!is_near_name("7.delivery.json", fits));
    }
}
