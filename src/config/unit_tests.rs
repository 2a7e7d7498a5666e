//! The shipped units agree with the program and with each other.

const SERVICE: &str = include_str!("../../systemd/passfort-ingest.service");
const NIGHTLY: &str = include_str!("../../systemd/passfort-ingest-nightly.service");

/// The settings of a unit from `ProtectSystem=` on, which are its sandbox, without the comments.
fn sandbox(unit: &str) -> Vec<&str> {
    unit.lines()
        .skip_while(|line| !line.starts_with("ProtectSystem="))
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .collect()
}

#[test]
fn both_services_run_in_the_same_sandbox() {
    assert!(sandbox(SERVICE).len() > 20);
    assert_eq!(sandbox(SERVICE), sandbox(NIGHTLY));
}

#[test]
fn the_units_provide_the_folders_and_the_key_of_the_defaults() {
    let database = super::Config::defaults().queue.database;
    for unit in [SERVICE, NIGHTLY] {
        assert!(
            database.starts_with("/var/lib/passfort-ingest") && unit.contains("\nStateDirectory=passfort-ingest\n")
        );
        assert!(super::load::DEFAULT_PATH.starts_with("/etc/passfort-ingest/"));
        assert!(unit.contains("\nConfigurationDirectory=passfort-ingest\n"));
        assert!(unit.contains(&format!("\nLoadCredential={}:/etc/passfort-ingest/api-key\n", super::key::CREDENTIAL)));
    }
}
