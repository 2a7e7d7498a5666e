//! What users meet when the configuration is read.

use super::*;
use crate::config::Watch;

fn read_with(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let owned: Vec<_> = variables.iter().map(|(name, raw)| ((*name).to_owned(), (*raw).to_owned())).collect();
    from_text(text, Path::new("c.toml"), &mut owned.into_iter())
}

/// The findings as lines, each as a user sees it.
fn complaints(text: &str) -> Vec<String> {
    let error = read_with(text, &[]).expect_err("it should be refused");
    let lines: Vec<String> = error
        .findings()
        .iter()
        .map(|finding| {
            let line = match finding.origin {
                Some(Origin::Line(line)) => line.to_string(),
                _ => "-".to_owned(),
            };
            format!("{line} {}: {} ({})", finding.key, finding.reason, finding.cure)
        })
        .collect();
    assert!(!lines.is_empty(), "{error}");
    lines
}

/// Asserts that there is one finding, and that it says all of this.
#[track_caller]
fn refused(text: &str, parts: &[&str]) {
    let lines = complaints(text);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    for part in parts {
        assert!(lines[0].contains(part), "{} lacks {part}", lines[0]);
    }
}

fn drop(rest: &str) -> String {
    format!("[[drop]]\nname = \"a\"\npath = \"/srv/a\"\n{rest}\n")
}

#[test]
fn an_empty_file_is_the_defaults() {
    assert_eq!(read_with("", &[]).unwrap(), Config::defaults());
}

#[test]
fn the_documented_example_is_read() {
    let text = r#"
        [limits]
        documents_per_hour = 10_000
        requests_per_second = 50
        bytes_per_second = "20MB"
        windows = ["Mon-Fri 20:00-06:00", "Sat-Sun"]
        [http]
        [[drop]]
        name = "partner-a"
        path = "/srv/sftp/partner-a/incoming/"
        done_marker = ""
        keep_done_for = "30d"
        watch = "events"
    "#;
    let config = read_with(text, &[]).unwrap();
    assert_eq!(config.limits.bytes_per_second, Some(20_000_000));
    assert_eq!(config.limits.requests_per_second, Some(50.0));
    assert_eq!(config.http, Some(Http::default()));
    let drop = config.drop_named("partner-a").unwrap();
    assert_eq!(drop.path, Path::new("/srv/sftp/partner-a/incoming"));
    assert_eq!(drop.path.as_os_str(), "/srv/sftp/partner-a/incoming");
    assert_eq!((drop.done_marker.as_deref(), drop.watch), (None, Watch::Events));
    assert_eq!(drop.keep_done_for, Some(30 * DAY));
}

#[test]
fn an_unknown_key_names_its_line_and_the_nearest() {
    refused("[api]\n\nbase_ulr = \"x\"", &["3 api.base_ulr", "unknown", "base_url"]);
    refused("[wrokers]\nmax_in_flight = 1", &["1 wrokers", "workers"]);
    refused(&drop("rescan = \"1s\""), &["4 drop[0].rescan", "rescan_every"]);
    refused("[queue]\nzzzzzz = 1", &["database"]);
}

#[test]
fn a_key_in_the_wrong_section_is_reported_with_where_it_belongs() {
    refused("max_in_flight = 3", &["does not belong", "[workers]"]);
    refused(&drop("[queue]\nmax_in_flight = 3"), &["queue.max_in_flight", "[workers]"]);
}

#[test]
fn the_key_itself_is_refused_with_the_reason_and_never_quoted() {
    for text in ["[api]\napi_key = \"hunter2\"", "api_key = \"hunter2\"", "[api]\ntoken = \"hunter2\""] {
        refused(text, &["must not be part of", "api_key_file"]);
        assert!(!read_with(text, &[]).unwrap_err().to_string().contains("hunter2"));
    }
    let error = read_with("", &[("PASSFORT_INGEST__API__API_KEY", "hunter2")]).unwrap_err().to_string();
    assert!(error.contains("api_key_file") && !error.contains("hunter2"), "{error}");
}

#[test]
fn all_faults_are_named_at_once() {
    let text =
        "[api]\nconnect_timeout = \"soon\"\ndata_uri = 1\nbase_url = \"nowhere\"\n[workers]\nmax_in_flight = 0\n";
    let lines = complaints(text);
    assert_eq!(lines.len(), 4, "{lines:#?}");
    let error = read_with(text, &[]).unwrap_err().to_string();
    assert!(error.contains("4 reasons") && error.contains("c.toml:6: workers.max_in_flight"), "{error}");
}

#[test]
fn a_document_in_doubt_is_waited_for_as_long_as_the_bound_says() {
    let absent_after = |text| read_with(text, &[]).unwrap().retry.absent_after.as_secs();
    assert_eq!(absent_after(""), 70);
    assert_eq!(absent_after("[api]\nrequest_lives = \"2m\"\nlist_lag = 5"), 125);
    assert_eq!(absent_after("[retry]\nabsent_after = \"70s\""), 70);
    refused("[retry]\nabsent_after = \"69s\"", &["absent_after", "api.request_lives + api.list_lag", "1m10s"]);
    refused("[api]\nlist_lag = \"2m\"\n[retry]\nabsent_after = \"70s\"", &["which is 3m:"]);
}

#[test]
fn values_that_would_spin_or_stop_everything_are_refused() {
    for text in [
        "[workers]\nmax_in_flight = 0",
        "[workers]\nmax_in_flight = -1",
        "[workers]\nmemory_limit = 0",
        "[retry]\ninitial = 0",
        "[retry]\ninitial = \"1h\"",
        "[retry]\ngive_up_after = 0",
        "[limits]\nrequests_per_second = 0",
        "[limits]\nrequests_per_second = nan",
        "[limits]\nrequests_per_second = inf",
        "[limits]\ndocuments_per_hour = 0",
        "[limits]\nbytes_per_second = 0",
        "[limits]\nwindows = [\"Mon 08:00\"]",
        "[api]\nconnect_timeout = 0",
        "[api]\nmax_image_bytes = 99999999999999999999",
        "[http]\nlisten = \"localhost\"",
        &drop("rescan_every = 0"),
        &drop("rescan_every = \"999ms\""),
        &drop("profiles = []"),
        &drop("profiles = [\"1\"]"),
        &drop("manifests = [\"[\"]"),
        &drop("receipt_mode = \"0999\""),
        &drop("receipt_mode = \"0044\""),
        &drop("receipt_mode = 640"),
        &drop("done_marker = \"/x\""),
        &drop("watch = \"evnts\""),
    ] {
        assert_eq!(complaints(text).len(), 1, "{text}");
    }
}

#[test]
fn a_bound_is_itself_within_bounds() {
    for (key, least, most) in [
        ("max_rows", "1", "1_000_000_000"),
        ("max_nesting", "3", "120"),
        ("max_depth", "1", "256"),
        ("max_path_bytes", "32", "4096"),
    ] {
        for fits in [least, most] {
            assert!(read_with(&drop(&format!("{key} = {fits}")), &[]).is_ok(), "{key} = {fits}");
        }
        let number = |text: &str| text.replace('_', "").parse::<i64>().unwrap();
        for beyond in [number(least) - 1, number(most) + 1] {
            refused(
                &drop(&format!("{key} = {beyond}")),
                &[&format!("4 drop[0].{key}"), "out of bounds", "keep between"],
            );
        }
        refused(&drop(&format!("{key} = true")), &[key, "true or false"]);
    }
}

#[test]
fn plain_http_is_for_this_machine_unless_allowed() {
    refused("[api]\nbase_url = \"http://api.example/4.0\"", &["api.base_url", "allow_insecure"]);
    refused(&drop("base_url = \"http://api.example\""), &["drop[0].base_url"]);
    assert!(read_with("[api]\nbase_url = \"http://127.0.0.1:9/4.0\"", &[]).is_ok());
    let allowed = "[api]\nallow_insecure = true\nbase_url = \"http://api.example/4.0/\"";
    assert_eq!(read_with(allowed, &[]).unwrap().api.base_url.as_str(), "http://api.example/4.0");
}

#[test]
fn drops_need_a_name_and_a_folder_of_their_own() {
    let lacking = complaints("\n[[drop]]\nrecursive = false");
    assert_eq!(lacking.len(), 2);
    assert!(lacking[0].starts_with("2 drop[0].name: the key is missing"), "{lacking:?}");
    for name in ["", "import", "a b", "..", "a/b", "ä"] {
        let text = format!("[[drop]]\nname = \"{name}\"\npath = \"/srv/a\"");
        refused(&text, &["drop[0].name"]);
    }
    refused("[[drop]]\nname = \"a\"\npath = \"srv\"", &["relative"]);
    refused("[[drop]]\nname = \"a\"\npath = \"/srv/../etc\"", &["'..'"]);
    refused("[drop]\nname = \"a\"", &["[[drop]]"]);
    let two = |second: &str| drop("") + "[[drop]]\n" + second;
    refused(&two("name = \"a\"\npath = \"/srv/b\""), &["6 drop[1].name", "already"]);
    refused(&two("name = \"b\"\npath = \"/srv/a/\""), &["drop[1].path", "same folder"]);
    refused(&two("name = \"b\"\npath = \"/srv/a/b\""), &["drop[1].path", "it is inside"]);
    refused(&two("name = \"b\"\npath = \"/srv\""), &["drop[1].path", "it is inside"]);
    assert!(read_with(&two("name = \"b\"\npath = \"/srv/ab\""), &[]).is_ok());
    assert!(read_with(&two("name = \"b\"\npath = \"/srv\"\nrecursive = false"), &[]).is_ok());
}

#[test]
fn folders_for_what_is_done_disturb_nothing() {
    for rest in [
        "done_dir = \".\"",
        "done_dir = \"../x\"",
        "done_dir = \"/srv/a\"",
        "done_dir = \"/srv\"",
        "failed_dir = \"done\"",
        "work_dir = \"done/work\"",
        "work_dir = \".\"",
        "receipts_dir = \"done/receipts\"",
    ] {
        assert_eq!(complaints(&drop(rest)).len(), 1, "{rest}");
    }
    let loops = drop("done_dir = \"/srv/b/in\"") + "[[drop]]\nname = \"b\"\npath = \"/srv/b\"\n";
    refused(&loops, &["would land in the drop b"]);
    let purges = drop("done_dir = \"/arc\"")
        + "[[drop]]\nname = \"b\"\npath = \"/b\"\ndone_dir = \"/arc\"\nkeep_done_for = \"1d\"";
    refused(&purges, &["same place"]);
    refused(&(drop("") + "[queue]\ndatabase = \"/srv/a/queue.db\""), &["queue.database", "the drop a"]);
    refused(&drop("api_key_file = \"/srv/a/.key\""), &["drop[0].api_key_file", "the drop a"]);
}

#[test]
fn the_environment_wins_and_is_read_like_toml() {
    let config = read_with(
        &drop("done_marker = \".done\"\npriority = 7"),
        &[
            ("PASSFORT_INGEST__WORKERS__MAX_IN_FLIGHT", "4"),
            ("PASSFORT_INGEST__API__DATA_URI", "true"),
            ("PASSFORT_INGEST__API__STALL_TIMEOUT", "5s"),
            ("PASSFORT_INGEST__RETRY__INITIAL", "2"),
            ("PASSFORT_INGEST__LIMITS__WINDOWS", "Mon-Fri 20:00-06:00"),
            ("PASSFORT_INGEST__HTTP__LISTEN", "127.0.0.1:1"),
            ("PASSFORT_INGEST__DROP__0__NAME", "2024"),
            ("PASSFORT_INGEST__DROP__0__DONE_MARKER", ""),
            ("PASSFORT_INGEST__DROP__0__RECEIPT_MODE", "660"),
            ("PASSFORT_INGEST__DROP__0__MAX_ROWS", "8"),
            ("PASSFORT_INGEST__DROP__0__MAX_NESTING", "10"),
            ("PASSFORT_INGEST__DROP__0__MAX_DEPTH", "11"),
            ("PASSFORT_INGEST__DROP__0__MAX_PATH_BYTES", "2KiB"),
            ("PASSFORT_INGEST__DROP__0__MANIFESTS", "[\"*.a\", \"*.b\"]"),
            ("PASSFORT_INGEST__DROP__1__NAME", "b"),
            ("PASSFORT_INGEST__DROP__1__PATH", "/srv/b"),
        ],
    )
    .unwrap();
    assert_eq!(config.workers.max_in_flight, 4);
    assert!(config.api.data_uri);
    assert_eq!(config.api.stall_timeout, Duration::from_secs(5));
    assert_eq!(config.retry.initial, Duration::from_secs(2));
    assert_eq!(config.limits.windows.len(), 1);
    assert_eq!(config.http.unwrap().listen.port(), 1);
    let drop = &config.drops[0];
    assert_eq!((drop.name.as_str(), drop.done_marker.as_deref(), drop.priority), ("2024", None, 7));
    assert_eq!(drop.receipt_mode, 0o660);
    assert_eq!((drop.max_rows, drop.max_nesting, drop.max_depth, drop.max_path_bytes), (8, 10, 11, 2048));
    assert_eq!(drop.manifests.texts(), ["*.a", "*.b"]);
    assert_eq!(config.drops[1].path, Path::new("/srv/b"));
}

#[test]
fn an_unknown_variable_names_the_nearest() {
    let reported = |name: &str| read_with("", &[(name, "x")]).unwrap_err().to_string();
    let error = reported("PASSFORT_INGEST__API__BASE_ULR");
    assert!(
        error.contains("$PASSFORT_INGEST__API__BASE_ULR")
            && error.contains("variable is PASSFORT_INGEST__API__BASE_URL"),
        "{error}"
    );
    let error = reported("PASSFORT_INGEST__AIP__BASE_URL");
    assert!(error.contains("first part is API"), "{error}");
    let error = reported("PASSFORT_INGEST__DROP__NAME");
    assert!(error.contains("number"), "{error}");
}

#[test]
fn a_wrong_value_of_a_variable_names_the_variable() {
    let error = read_with("", &[("PASSFORT_INGEST__WORKERS__MAX_IN_FLIGHT", "many")]).unwrap_err().to_string();
    assert!(error.contains("$PASSFORT_INGEST__WORKERS__MAX_IN_FLIGHT"), "{error}");
}

#[test]
fn a_missing_file_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none.toml");
    let error = load(Some(&path), &mut std::iter::empty()).unwrap_err();
    assert!(matches!(error, ConfigError::Missing { .. }), "{error}");
    assert!(error.to_string().contains("none.toml") && error.to_string().contains("--config"), "{error}");
    let variables = [("PASSFORT_INGEST__QUEUE__DATABASE".to_owned(), "/q.db".to_owned())];
    assert!(load(Some(&path), &mut variables.into_iter()).is_err(), "a file that was asked for must be there");
}

#[test]
fn files_that_are_no_configuration_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let reported = |content: &[u8]| {
        let path = folder.path().join("c.toml");
        std::fs::write(&path, content).unwrap();
        load(Some(&path), &mut std::iter::empty()).unwrap_err().to_string()
    };
    assert!(reported(b"\xff\xfe").contains("UTF-8"));
    assert!(reported(&vec![b'#'; 5 << 20]).contains("4 MiB"));
    assert!(reported(b"[api]\nbase_url = \n").contains("c.toml:2: it is not TOML"));
    assert!(load(Some(folder.path()), &mut std::iter::empty()).is_err());
}
