//! Which entries of earlier manifests have the same image for another profile, or a reference that looks like this one.
//!
//! Both are indexes of hashes: what they find is looked up in the rows of its job before it counts, so that no collision is
//! reported, nor a job that failed before its image was sent.

use rusqlite::{Connection, OptionalExtension, params};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    QueueError,
    content::ContentDigests,
    identity::{Owner, key_of, owner_of_entry},
};
use crate::{
    entry::{Entry, Sha256},
    lookalike::fold,
};

/// What was taken before and is similar to an entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Similar {
    /// For each file, in order, a job that has it for another profile.
    pub(crate) images: Vec<Option<i64>>,
    /// A job of the drop with a reference that looks like the entry's, and that reference.
    pub(crate) reference: Option<(i64, String)>,
}

/// What was taken before and is similar to this entry; nothing where the entry itself was, since it is not sent again.
pub(super) fn find(
    connection: &Connection,
    drop: &str,
    entry: &Entry,
    files: &[Sha256],
) -> Result<Similar, QueueError> {
    let drop_id: Option<i64> = connection
        .prepare_cached("SELECT id FROM drop_folder WHERE name = ?1")?
        .query_row([drop], |row| row.get(0))
        .optional()?;
    let reference = entry.reference.as_deref();
    let found = Similar {
        images: files
            .iter()
            .map(|file| other_profile(connection, file, entry.profile_id.as_str()))
            .collect::<Result<_, _>>()?,
        reference: match drop_id.zip(reference) {
            Some((drop_id, reference)) => lookalike(connection, drop_id, reference)?,
            None => None,
        },
    };
    // Asked last, since mostly nothing is similar.
    let Some(drop_id) = drop_id.filter(|_| found.reference.is_some() || found.images.iter().any(Option::is_some))
    else {
        return Ok(found);
    };
    let content = ContentDigests::of_entry(entry, files.iter().copied());
    let owner = owner_of_entry(connection, drop_id, reference, &content)?;
    let exists = matches!(owner, Owner::Created { same: true, .. } | Owner::UnderWay { same: true, .. });
    Ok(if exists { Similar::default() } else { found })
}

fn other_profile(connection: &Connection, file: &Sha256, profile: &str) -> Result<Option<i64>, QueueError> {
    let [from, to] = [[0; 6], [0xff; 6]].map(|profile| key(file, profile));
    // That of a job that failed counts only if the image was, or may have been, sent.
    Ok(connection
        .prepare_cached(
            "SELECT job.id FROM image_of_profile AS seen JOIN job ON job.id = seen.job_id
              WHERE seen.key BETWEEN ?1 AND ?2 AND job.profile_id <> ?3
                AND EXISTS (SELECT 1 FROM upload
                             WHERE upload.job_id = job.id AND sha256 = ?4
                               AND (job.state NOT IN ('failed', 'cancelled') OR upload.remote_id IS NOT NULL OR lost > 0))
              LIMIT 1",
        )?
        .query_row(params![from, to, profile, file.0], |row| row.get(0))
        .optional()?)
}

fn lookalike(connection: &Connection, drop_id: i64, reference: &str) -> Result<Option<(i64, String)>, QueueError> {
    let folded = fold(reference);
    let same_form = connection
        .prepare_cached(
            "SELECT job.id, job.reference FROM folded_reference JOIN job ON job.id = folded_reference.job_id
              WHERE folded_reference.drop_id = ?1 AND fold = ?2 AND job.reference <> ?3
                AND job.state NOT IN ('failed', 'cancelled')",
        )?
        .query_map(params![drop_id, hash(&folded), reference], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?
        .find(|found| found.as_ref().map_or(true, |(_, other)| fold(other) == folded))
        .transpose()?;
    if same_form.is_some() || folded == reference {
        return Ok(same_form);
    }
    Ok(connection
        .prepare_cached(
            "SELECT job.id, job.reference FROM identity JOIN job ON job.id = identity.job_id
              WHERE identity.drop_id = ?1 AND key = ?2 AND job.state NOT IN ('failed', 'cancelled')",
        )?
        .query_row(params![drop_id, key_of(Some(&folded), &[0; 32])], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?)
}

/// Lets a job that is to be sent be found.
pub(super) fn add(connection: &Connection, job_id: i64) -> Result<(), QueueError> {
    let (drop_id, profile, reference): (i64, String, Option<String>) = connection
        .prepare_cached("SELECT drop_id, profile_id, reference FROM job WHERE id = ?1")?
        .query_row([job_id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let files: Vec<[u8; 32]> = connection
        .prepare_cached("SELECT sha256 FROM upload WHERE job_id = ?1")?
        .query_map([job_id], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    add_taken(connection, (drop_id, job_id), &profile, reference.as_deref(), files.into_iter().map(Sha256))
}

/// The same for a job that was just made.
pub(super) fn add_taken(
    connection: &Connection,
    (drop_id, job_id): (i64, i64),
    profile: &str,
    reference: Option<&str>,
    files: impl Iterator<Item = Sha256>,
) -> Result<(), QueueError> {
    for file in files {
        add_image(connection, &file, profile, job_id)?;
    }
    reference.map_or(Ok(()), |reference| add_reference(connection, drop_id, reference, job_id))
}

fn add_image(connection: &Connection, file: &Sha256, profile: &str, job_id: i64) -> Result<(), QueueError> {
    // One that may have sent it stays.
    connection
        .prepare_cached(
            "INSERT INTO image_of_profile VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET job_id = excluded.job_id
              WHERE NOT EXISTS (SELECT 1 FROM job JOIN upload ON upload.job_id = job.id
                                 WHERE job.id = image_of_profile.job_id AND sha256 = ?3
                                   AND (state NOT IN ('failed', 'cancelled') OR upload.remote_id IS NOT NULL OR lost > 0))",
        )?
        .execute(params![key(file, profile_hash(profile)), job_id, file.0])?;
    Ok(())
}

fn add_reference(connection: &Connection, drop_id: i64, reference: &str, job_id: i64) -> Result<(), QueueError> {
    let folded = fold(reference);
    if folded != reference {
        connection
            .prepare_cached(
                "INSERT INTO folded_reference VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (drop_id, fold, reference) DO UPDATE SET job_id = excluded.job_id",
            )?
            .execute(params![drop_id, hash(&folded), hash(reference), job_id])?;
    }
    Ok(())
}

/// Adds everything that an earlier release has taken.
pub(super) fn add_all(connection: &Connection) -> Result<(), QueueError> {
    let mut jobs = connection.prepare("SELECT id FROM job ORDER BY id")?;
    let mut rows = jobs.query([])?;
    while let Some(row) = rows.next()? {
        add(connection, row.get(0)?)?;
    }
    Ok(())
}

/// 14 bytes, so that a row of the index takes at most 40, half-full pages included.
fn key(file: &Sha256, profile: [u8; 6]) -> [u8; 14] {
    let mut key = [0; 14];
    for (to, from) in key.iter_mut().zip(file.0.iter().take(8).chain(&profile)) {
        *to = *from;
    }
    key
}

fn profile_hash(profile: &str) -> [u8; 6] {
    let [_, _, hash @ ..] = xxh3_64(profile.as_bytes()).to_be_bytes();
    hash
}

fn hash(text: &str) -> i64 {
    xxh3_64(text.as_bytes()).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        entry::ProfileId,
        queue::test_support::{DROP, Site, document, number, take},
    };

    fn entry(reference: &str, profile: char) -> Entry {
        let mut entry = document(0, reference);
        entry.profile_id = ProfileId::parse(&format!("{profile}2c4393a-e219-67a4-5ab4-2186952e9038")).unwrap();
        entry
    }

    fn similar(site: &Site, entry: &Entry, content: u8) -> Similar {
        site.reader().similar(DROP, entry, &[Sha256([content; 32])]).unwrap()
    }

    #[test]
    fn an_image_is_shared_with_a_job_that_is_or_was_sent() {
        let site = Site::new();
        assert_eq!(similar(&site, &entry("a", 'a'), 1).images, [None]);
        site.admit_entries("a.manifest.json", vec![take(entry("a", 'a'), 1)]);
        assert_eq!(similar(&site, &entry("b", 'b'), 1).images, [Some(1)]);
        assert_eq!(similar(&site, &entry("b", 'a'), 1).images, [None], "the same profile");
        assert_eq!(similar(&site, &entry("b", 'b'), 2).images, [None], "another image");
        assert_eq!(similar(&site, &entry("a", 'a'), 1).images, [None], "the same entry");
        // What failed before anything of it was sent counts no more, until it is tried again.
        site.fail(1, "HTTP 403: no");
        crate::queue::test_support::execute(&site.queue, "UPDATE upload SET remote_id = NULL, lost = 0");
        assert_eq!(similar(&site, &entry("b", 'b'), 1).images, [None]);
        site.admit_entries("b.manifest.json", vec![take(entry("c", 'a'), 1)]);
        assert_eq!(similar(&site, &entry("b", 'b'), 1).images, [Some(2)]);
    }

    #[test]
    fn references_that_look_the_same_are_found_in_either_order() {
        for (one, other) in [("case-1", "Case-1"), ("Case-1", "case-1"), ("CASE-1", "Case-1"), ("M\u{fc}", "Mu\u{308}")]
        {
            let site = Site::new();
            site.admit_entries("a.manifest.json", vec![take(entry(one, 'a'), 1)]);
            let found = similar(&site, &entry(other, 'a'), 2).reference;
            assert_eq!(found, Some((1, one.to_owned())), "{one} {other}");
            assert_eq!(similar(&site, &entry(one, 'a'), 2).reference, None);
            assert_eq!(site.reader().similar("other", &entry(other, 'a'), &[]).unwrap().reference, None);
            site.fail(1, "HTTP 403: no");
            assert_eq!(similar(&site, &entry(other, 'a'), 2).reference, None);
        }
    }

    #[test]
    fn what_an_earlier_release_took_is_found_too() {
        let site = Site::new();
        site.admit_entries("a.manifest.json", vec![take(entry("Case-1", 'a'), 1)]);
        let connection = Connection::open(site.queue.path()).unwrap();
        connection.execute_batch("DELETE FROM image_of_profile; DELETE FROM folded_reference").unwrap();
        add_all(&connection).unwrap();
        let found = similar(&site, &entry("case-1", 'b'), 1);
        assert_eq!((found.images, found.reference), (vec![Some(1)], Some((1, "Case-1".to_owned()))));
    }

    #[test]
    fn the_index_takes_at_most_40_bytes_an_image() {
        let site = Site::new();
        site.admit("a.manifest.json", &["one"]);
        let mut connection = Connection::open(site.queue.path()).unwrap();
        let pages = || number(&site.queue, "SELECT page_count FROM pragma_page_count()").unwrap();
        let before = pages();
        let images = 100_000_u64;
        let transaction = connection.transaction().unwrap();
        let mut insert = transaction.prepare("INSERT INTO image_of_profile VALUES (?1, 1)").unwrap();
        for image in 0..images {
            // As random as digests are; job numbers of four bytes are what large queues have.
            let hash = |seed: u64| xxh3_64(&(image << 1 | seed).to_be_bytes()).to_be_bytes();
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&hash(0));
            insert.execute([key(&Sha256(digest), hash(1)[..6].try_into().unwrap())]).unwrap();
        }
        drop(insert);
        transaction.commit().unwrap();
        // Four bytes more for the number of the job, which is 1 here.
        let bytes = u64::try_from(pages() - before).unwrap() * 4096 / images + 4;
        assert!(bytes <= 40, "{bytes} bytes an image");
    }
}
