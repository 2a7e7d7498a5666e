//! `import --stages`: what is wrong reaches one stage at most, and the rest is not touched.

use std::collections::BTreeSet;

use passfort_ingest::{entry::ProfileId, sandbox::Options};
use serde_json::{Value, json};

use crate::support::{Builder, Finished, Format, Site, entry, image, profile};

const DOCUMENTS: u32 = 40;

/// Forty documents of ten profiles in four folders, all passports but the last two.
fn write_archive(site: &Site) {
    for folder in 0..4 {
        let documents: Vec<Value> = (folder * 10..folder * 10 + 10)
            .map(|number| {
                site.write(&format!("in/{folder}/{number}.png"), image(Format::Png, number));
                let mut document = entry(&number.to_string(), number / 4, &format!("{number}.png"));
                if number >= DOCUMENTS - 2 {
                    document["document_type"] = json!("DRIVING_LICENCE");
                }
                document
            })
            .collect();
        let manifest = json!({ "version": 1, "documents": documents }).to_string();
        site.write(&format!("in/{folder}/all.manifest.json"), manifest);
    }
}

fn import(site: &Site, arguments: &[&str]) -> Finished {
    site.run(&[&["import", "in"], arguments].concat())
}

#[test]
fn a_first_stage_has_each_type_and_folder_and_the_next_calls_go_on_from_it() {
    let site = Site::new();
    write_archive(&site);

    import(&site, &["--stages", "6"]).expect(3).says("a stage is over created=6 exist=6").says("rest=34");

    let done = site.jobs("done");
    let different = |field: &str| done.iter().map(|job| job[field].to_string()).collect::<BTreeSet<_>>().len();
    assert_eq!((done.len(), different("document_type")), (6, 2), "{done:?}");
    assert_eq!((different("manifest"), different("profile_id")), (4, 5), "the two licences are of one profile");
    site.run(&["jobs", "--state", "waiting"]).expect(0).says("its stage of the import has not begun");

    import(&site, &["--stages", "6,25%"]).expect(3);
    assert_eq!(site.summary().documents, 10);
    import(&site, &["--stages", "6,25%,100%"]).expect(0);
    let summary = site.summary();
    assert_eq!((summary.documents, summary.doubled, summary.orphans), (40, 0, 0), "{summary}");
}

#[test]
fn without_stages_the_rest_is_sent() {
    let site = Site::new();
    write_archive(&site);
    import(&site, &["--stages", "5%"]).expect(3);
    assert_eq!(site.summary().documents, 2);
    import(&site, &[]).expect(0);
    assert_eq!(site.summary().documents, 40);
}

#[test]
fn a_stage_of_refusals_is_the_last() {
    let sandbox = Options { profiles: vec![ProfileId::parse(&profile(900)).unwrap()], ..Options::default() };
    let site = Builder { sandbox, ..Builder::default() }.build();
    write_archive(&site);

    let stages = ["--stages", "6,100%", "--stop-if", "refused>2%"];
    import(&site, &stages).expect(3).says("stopped by refused>2%").says("untouched=34");

    assert_eq!((site.jobs("failed").len(), site.jobs("waiting").len()), (6, 34));
    // Nothing has changed, so it ends at once.
    let calls = site.ledger().len();
    import(&site, &stages).expect(3).says("refused>2%");
    assert!(site.ledger()[calls..].iter().all(|call| call.method == "GET"), "nothing is sent");
}

#[test]
fn documents_that_do_not_stay_are_noticed_before_the_next_stage() {
    let site = Site::with_faults(&["read_documents=list:foreign"]);
    write_archive(&site);
    import(&site, &["--stages", "5,100%"]).expect(3).says("stopped by missing>0").says("untouched=35");
    assert_eq!(site.jobs("done").len(), 5);
}

#[test]
fn after_a_kill_in_the_middle_of_a_stage_the_stages_go_on() {
    let sandbox = Options { latency: std::time::Duration::from_millis(5), ..Options::default() };
    let site = Builder { sandbox, ..Builder::default() }.build();
    write_archive(&site);
    for calls in [3, 20, 45] {
        let mut import = site.start(&["import", "in", "--stages", "5,50%,100%"]);
        let before = site.ledger().len();
        import.wait_until("some calls", || site.ledger().len() >= before + calls);
        import.kill();
    }
    import(&site, &["--stages", "5,50%,100%"]).expect(0);
    let summary = site.summary();
    assert_eq!((summary.documents, summary.doubled), (40, 0), "{summary}");
}

#[test]
fn beside_a_daemon_the_stages_are_those_of_the_import() {
    let sandbox = Options { profiles: vec![ProfileId::parse(&profile(900)).unwrap()], ..Options::default() };
    let site = Builder { sandbox, ..Builder::default() }.build();
    write_archive(&site);
    let mut daemon = site.daemon();
    daemon.wait_until("it is at work", || site.at("state/queue.db").exists());
    import(&site, &["--stages", "6,100%"]).expect(3).says("stopped by refused>2%");
    daemon.terminate().expect(0);
    assert_eq!((site.jobs("failed").len(), site.jobs("waiting").len()), (6, 34));
}

/// An API that goes wrong once twenty documents are created, in the midst of the migration: what comes after the stage that
/// meets it is not touched.
#[test]
fn an_api_that_goes_wrong_after_the_first_stage_reaches_the_second_at_most() {
    for (what, fault, says, untouched) in [
        ("it refuses", "create_document=status-before:422/201", "stopped by refused>2%", 10),
        // Whether the documents are held before it gives up depends on how busy the machine is.
        ("a gateway's page instead of each document", "create_document=html", "", 10),
        ("a gateway that forbids", "create_document=gateway:403", "a stage begins", 10),
        // The first stage is verified again before the next begins.
        ("it has the documents somewhere else", "read_documents=list:foreign", "stopped by missing>0", 20),
        ("a gateway's page instead of each answer", "any=html", "stopped by missing>0", 20),
        ("a gateway's page after each deed", "any=html200", "stopped by missing>0", 20),
    ] {
        let retry = "max = '200ms'\ngive_up_after = '1s'".to_owned();
        let site = Builder { retry, ..Builder::default() }.build();
        write_archive(&site);
        import(&site, &["--stages", "20"]).expect(3).says("a stage is over");
        assert_eq!(site.summary().documents, 20, "{what}");

        site.faults(&[fault]);
        let ended = import(&site, &["--stages", "20,30,100%", "--give-up-after", "2s"]).says(says);

        assert!(matches!(ended.code, Some(3 | 4)), "{what}: {:?}", ended.code);
        let jobs = site.jobs("waiting");
        let held_back = jobs.iter().filter(|job| job["reason"].to_string().contains("has not begun")).count();
        assert_eq!(held_back, untouched, "{what}: {}", ended.said());
        let summary = site.summary();
        assert!(summary.documents <= 30 && summary.doubled == 0, "{what}: {summary}");
    }
}

#[test]
fn stages_and_rules_that_are_none_are_refused() {
    let site = Site::new();
    write_archive(&site);
    import(&site, &["--stages", "0"]).expect(2).says("--stages 20,1%,100%");
    import(&site, &["--stop-if", "refused>1"]).expect(2);
    import(&site, &["--stages", "5", "--stop-if", "refused<1"]).expect(2).says("--stop-if");
    assert_eq!(site.ledger().len(), 0);
}
