//! The alert rules and the dashboard in `monitoring/`: each alert fires on numbers that the program itself gave, and only there.

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path, process::Command, time::Duration};

use passfort_ingest::sandbox::Options;
use serde_json::json;

use super::alerts::daemon_at;
use crate::support::{Builder, Format, Site, entry, get, image, metrics, page_in, profile, sum, value};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Lines of README's "When something is wrong" that have no alert, and why.
const SILENT: [(&str, &str); 10] = [
    ("a file stays in the drop", "a person asks; what keeps files there for all is bad ground, or unclaimed files"),
    ("what came, and what became of it", "a person asks"),
    ("who did what to the queue", "a person asks"),
    ("`FAILED` in `status`", "it is the same as a manifest in `failed/`"),
    ("a question about one document", "a person asks"),
    ("doubt whether the worker kept its own rules", "a person asks"),
    ("`verify` found documents missing", "`verify` says so to whoever started it, and `status --check` repeats it"),
    ("an entry failed with `file-changed`", "it has failed, which has an alert"),
    ("`REFUSED` in `status`", "the process ends, which has an alert"),
    ("the database is damaged", "the process ends, which has an alert"),
];

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap()
}

/// The values of a key in the rules, which have one a line.
fn in_rules(key: &str) -> Vec<String> {
    let rules = read("monitoring/passfort-ingest.rules.yml");
    let lines = rules.lines().filter_map(|line| line.trim_start_matches(['-', ' ']).strip_prefix(key));
    lines.map(|value| value.trim().trim_matches('"').to_owned()).collect()
}

#[test]
fn each_line_of_the_readme_has_an_alert_or_a_reason_for_none() {
    let readme = read("README.md");
    let table = readme.split("| symptom | what to do |").nth(1).unwrap().split("\n\n").next().unwrap();
    let lines: BTreeSet<&str> = table.lines().skip(2).filter_map(|line| line.split(" | ").next()).collect();
    let lines: BTreeSet<&str> = lines.into_iter().map(|line| line.trim_start_matches("| ")).collect();
    let alerted = in_rules("symptom:");
    let known: BTreeSet<&str> = alerted.iter().map(String::as_str).chain(SILENT.map(|(line, _)| line)).collect();
    assert_eq!(known, lines);
}

/// What `/metrics` said before something went wrong and after, and the alerts that fire so many minutes later.
struct Scene {
    name: &'static str,
    before: String,
    /// Nothing where the process has ended.
    after: Option<String>,
    minutes: usize,
    alerts: &'static [&'static str],
}

/// What a scene is made of.
struct Script<'a> {
    builder: Builder,
    /// The daemon's time of day, in minutes after midnight UTC, where it matters.
    minute: Option<i64>,
    /// Before the daemon starts.
    prepare: &'a dyn Fn(&mut Site),
    /// While it works.
    goes_wrong: &'a dyn Fn(&mut Site),
    /// Whether the numbers show it.
    is_shown: &'a dyn Fn(&str) -> bool,
}

impl Script<'_> {
    /// Plays it with a real daemon; gives the numbers before and after, once the drop's ground has been tried.
    fn play(self, ground: f64) -> (String, String) {
        let is_tried = |numbers: &str| value(numbers, "drop_ready{drop=\"partner\"}") == ground;
        let more = format!("[http]\nlisten = '127.0.0.1:0'\n{}", self.builder.more);
        let mut site = Builder { more, ..self.builder }.build();
        (self.prepare)(&mut site);
        let (mut daemon, page) = match self.minute {
            None => site.daemon_with_page(),
            Some(minute) => {
                let mut daemon = daemon_at(&site, minute);
                let mut page = None;
                daemon.wait_until("the page is served", || {
                    page = page_in(&daemon_log(&site));
                    page.is_some()
                });
                (daemon, page.unwrap())
            }
        };
        daemon.wait_until("the drop is in the numbers", || {
            let numbers = metrics(page);
            numbers.contains("jobs_ended_total{drop=") && is_tried(&numbers)
        });
        let before = metrics(page);
        (self.goes_wrong)(&mut site);
        let mut after = String::new();
        daemon.wait_until("the numbers show it", || {
            // While the configuration is read again, there are none.
            let (status, text) = get(page, "/metrics");
            after = text;
            status == 200 && is_tried(&after) && (self.is_shown)(&after)
        });
        // Some hang, and none has anything to say any longer.
        daemon.kill();
        (before, after)
    }
}

/// The drop is known since early that day, so what does not come later is missed.
fn has_worked_before(site: &mut Site) {
    let mut daemon = daemon_at(site, 5 * 60);
    daemon.wait_until("it is coming", || site.run(&["status"]).stdout.contains("drop partner is coming"));
    daemon.terminate().expect(0);
    fs::remove_dir_all(site.at("log")).unwrap();
    fs::create_dir(site.at("log")).unwrap();
}

/// What the daemon has logged so far.
fn daemon_log(site: &Site) -> String {
    let logs = fs::read_dir(site.at("log")).unwrap();
    logs.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect()
}

fn ended(numbers: &str, outcome: &str) -> f64 {
    value(numbers, &format!("jobs_ended_total{{drop=\"partner\",outcome=\"{outcome}\"}}"))
}

fn paused(reason: &'static str) -> impl Fn(&str) -> bool {
    move |numbers| value(numbers, &format!("paused{{reason=\"{reason}\"}}")) > 0.0
}

fn scenes() -> Vec<Scene> {
    let mut scenes = Vec::new();
    let nothing = |_: &mut Site| {};
    let plain = || Script {
        builder: Builder::default(),
        minute: None,
        prepare: &nothing,
        goes_wrong: &nothing,
        is_shown: &|_| true,
    };
    let mut add = |name, minutes, alerts: &'static [&'static str], script: Script<'_>| {
        let ground = if alerts.contains(&"PassfortIngestBadGround") { 0.0 } else { 1.0 };
        let (before, after) = script.play(ground);
        scenes.push(Scene { name, before, after: Some(after), minutes, alerts });
    };

    add(
        "all is well",
        600,
        &[],
        Script {
            prepare: &|site| site.sandbox().set_limits(vec!["any=1000/1,burst=1000".parse().unwrap()]),
            goes_wrong: &|site| {
                site.put_batch("batch.manifest.json", 3);
                site.put("x.png", image(Format::Png, 90));
                let mut odd = entry("odd", 90, "x.png");
                odd["category"] = json!("PROOF_OF_SOMETHING");
                site.put_documents("odd.manifest.json", &[odd]);
            },
            is_shown: &|numbers| ended(numbers, "done") >= 4.0,
            ..plain()
        },
    );
    add(
        "a limit of our own spreads the work",
        10,
        &[],
        Script {
            builder: Builder { more: "[limits]\ndocuments_per_hour = 2".to_owned(), ..Builder::default() },
            goes_wrong: &|site| site.put_batch("batch.manifest.json", 5),
            is_shown: &|numbers| value(numbers, "estimated_finish_timestamp_seconds") > 0.0,
            ..plain()
        },
    );
    add(
        "bad ground",
        10,
        &["PassfortIngestBadGround"],
        Script {
            prepare: &|site| site.put("done", "in the way"),
            is_shown: &|numbers| numbers.contains("drop_ready{drop=\"partner\"} 0"),
            ..plain()
        },
    );
    add(
        "files that no manifest names",
        90,
        &["PassfortIngestUnclaimedFiles"],
        Script {
            builder: Builder { drop: "incomplete_after = '1s'".to_owned(), ..Builder::default() },
            goes_wrong: &|site| site.put("nobodys.png", image(Format::Png, 1)),
            is_shown: &|numbers| value(numbers, "unclaimed_files{drop=\"partner\"}") > 0.0,
            ..plain()
        },
    );
    add(
        "one entry is refused",
        10,
        &["PassfortIngestEntriesFailed"],
        Script {
            prepare: &|site| site.faults(&["upload_image=status-before:400/201,first=1"]),
            goes_wrong: &|site| site.put_batch("batch.manifest.json", 12),
            is_shown: &|numbers| ended(numbers, "failed") >= 1.0 && ended(numbers, "done") >= 11.0,
            ..plain()
        },
    );
    add(
        "all entries are refused",
        10,
        &["PassfortIngestEntriesFailed", "PassfortIngestManyFailures"],
        Script {
            prepare: &|site| site.faults(&["upload_image=status-before:400/201"]),
            goes_wrong: &|site| site.put_batch("batch.manifest.json", 30),
            is_shown: &|numbers| ended(numbers, "failed") >= 30.0,
            ..plain()
        },
    );
    add(
        "a file whose answer was lost",
        10,
        &["PassfortIngestHeld"],
        Script {
            builder: Builder { retry: "lost_file = 'hold'".to_owned(), ..Builder::default() },
            prepare: &|site| site.faults(&["upload_file=lost"]),
            goes_wrong: &|site| {
                site.put("f.pdf", image(Format::Pdf, 50));
                let files = json!([{ "reference": "f", "profile_id": profile(9), "path": "f.pdf" }]);
                site.put("f.manifest.json", json!({ "version": 1, "files": files }).to_string());
            },
            is_shown: &|numbers| value(numbers, "jobs{drop=\"partner\",state=\"held\"}") > 0.0,
            ..plain()
        },
    );
    add(
        "documents appear late in the lists",
        10,
        &["PassfortIngestBoundBroken"],
        Script {
            builder: Builder {
                sandbox: Options { visible_after: Duration::from_secs(4), ..Options::default() },
                ..Builder::default()
            },
            prepare: &|site| site.faults(&["create_document=lost,nth=2"]),
            goes_wrong: &|site| {
                for number in 0..2 {
                    site.put(&format!("{number}.png"), image(Format::Png, number));
                }
                site.put_documents("a.manifest.json", &[entry("0", 0, "0.png"), entry("1", 0, "1.png")]);
            },
            is_shown: &|numbers| {
                let held = value(numbers, "jobs{drop=\"partner\",state=\"held\"}");
                value(numbers, "bound_broken") == 1.0 && held == 0.0
            },
            ..plain()
        },
    );
    add(
        "nothing came by its moment",
        10,
        &["PassfortIngestLate"],
        Script {
            builder: Builder { drop: "expect = ['06:00 UTC']".to_owned(), ..Builder::default() },
            minute: Some(7 * 60),
            prepare: &has_worked_before,
            is_shown: &|numbers| value(numbers, "expected_late{drop=\"partner\"}") == 1.0,
            ..plain()
        },
    );
    add(
        "what came will not be delivered in time",
        10,
        &["PassfortIngestWillBeLate"],
        Script {
            builder: Builder {
                drop: "delivered_by = ['08:00 UTC']".to_owned(),
                more: "[limits]\ndocuments_per_hour = 2".to_owned(),
                ..Builder::default()
            },
            minute: Some(7 * 60 + 50),
            prepare: &has_worked_before,
            goes_wrong: &|site| site.put_batch("batch.manifest.json", 12),
            is_shown: &|numbers| value(numbers, "will_be_late{drop=\"partner\"}") == 1.0,
        },
    );
    add(
        "outside of the sending windows",
        180,
        &[],
        Script {
            builder: Builder { more: "[limits]\nwindows = ['03:00-04:00']".to_owned(), ..Builder::default() },
            minute: Some(12 * 60),
            goes_wrong: &|site| site.put_batch("batch.manifest.json", 3),
            is_shown: &|numbers| {
                numbers.contains("window_open 0") && value(numbers, "jobs{drop=\"partner\",state=\"queued\"}") >= 3.0
            },
            ..plain()
        },
    );
    add(
        "nobody takes the alerts",
        10,
        &["PassfortIngestAlertsNotTaken"],
        Script {
            builder: Builder { more: "[[alert]]\ncommand = ['/bin/false']".to_owned(), ..Builder::default() },
            goes_wrong: &|site| {
                site.run(&["pause"]).expect(0);
            },
            is_shown: &|numbers| value(numbers, "alerts_total{result=\"failed\"}") > 0.0,
            ..plain()
        },
    );
    add(
        "a person has paused it, for hours",
        300,
        &["PassfortIngestPaused"],
        Script {
            goes_wrong: &|site| {
                site.run(&["pause"]).expect(0);
                site.put_batch("batch.manifest.json", 3);
            },
            is_shown: &|numbers| value(numbers, "jobs{drop=\"partner\",state=\"queued\"}") > 0.0,
            ..plain()
        },
    );
    add(
        "an old manifest",
        20,
        &["PassfortIngestOldWork"],
        Script {
            goes_wrong: &|site| {
                site.run(&["pause"]).expect(0);
                site.put_batch("batch.manifest.json", 3);
                let mut tries = 0;
                while site.jobs("queued").is_empty() {
                    tries += 1;
                    assert!(tries < 1000, "it is not taken in");
                }
                let database = rusqlite::Connection::open(site.at("state/queue.db")).unwrap();
                database.busy_timeout(Duration::from_secs(10)).unwrap();
                database.execute("UPDATE batch SET received_at = received_at - 86400000", []).unwrap();
            },
            is_shown: &|numbers| value(numbers, "oldest_waiting_seconds") > 80_000.0,
            ..plain()
        },
    );
    add(
        "the key is refused",
        10,
        &["PassfortIngestKeyRefused"],
        Script {
            goes_wrong: &|site| {
                site.sandbox().set_keys(vec!["new".to_owned()]);
                site.put_batch("batch.manifest.json", 3);
            },
            is_shown: &paused("key_refused"),
            ..plain()
        },
    );
    add(
        "a limit of the account is spent",
        40,
        &["PassfortIngestQuotaSpent"],
        Script {
            prepare: &|site| site.faults(&["upload_image=errors200:104"]),
            goes_wrong: &|site| site.put_batch("batch.manifest.json", 3),
            is_shown: &paused("quota_spent"),
            ..plain()
        },
    );
    add(
        "the API is away",
        20,
        &["PassfortIngestOutage"],
        Script {
            goes_wrong: &|site| {
                site.stop_api();
                site.put_batch("batch.manifest.json", 20);
            },
            is_shown: &paused("outage"),
            ..plain()
        },
    );
    add(
        "calls that are not answered",
        180,
        &["PassfortIngestStalled"],
        Script {
            prepare: &|site| site.faults(&["upload_image=hang"]),
            goes_wrong: &|site| site.put_batch("batch.manifest.json", 3),
            is_shown: &|numbers| value(numbers, "in_flight") >= 3.0 && sum(numbers, "jobs", "state=\"running\"") >= 3.0,
            ..plain()
        },
    );
    add(
        "something in between refuses",
        10,
        &["PassfortIngestRefusedWithoutReason"],
        Script {
            prepare: &|site| site.faults(&[&format!("upload_image=bare:404,profile={}", profile(1))]),
            goes_wrong: &|site| site.put_batch("batch.manifest.json", 6),
            is_shown: &|numbers| {
                sum(numbers, "retries_total", "reason=\"unattributed\"") >= 1.0
                    && ended(numbers, "done") >= 5.0
                    && !paused("outage")(numbers)
            },
            ..plain()
        },
    );
    add(
        "the key may not write to one profile",
        10,
        &["PassfortIngestKeyRefusedForProfile"],
        Script {
            prepare: &|site| site.faults(&[&format!("upload_image=status-before:403,profile={}", profile(1))]),
            goes_wrong: &|site| site.put_batch("batch.manifest.json", 6),
            is_shown: &|numbers| {
                sum(numbers, "retries_total", "reason=\"paused\"") >= 5.0
                    && ended(numbers, "done") >= 5.0
                    && !paused("key_refused")(numbers)
            },
            ..plain()
        },
    );
    add(
        "answers to uploads are lost",
        10,
        &["PassfortIngestLeftovers"],
        Script {
            prepare: &|site| site.faults(&["upload_image=lost,every=2"]),
            goes_wrong: &|site| site.put_batch("batch.manifest.json", 30),
            is_shown: &|numbers| value(numbers, "leftover_images_total") >= 15.0 && ended(numbers, "done") >= 30.0,
            ..plain()
        },
    );
    add(
        "a document twice",
        10,
        &["PassfortIngestDoubled"],
        Script {
            builder: Builder { retry: "recheck_after = '1h'".to_owned(), ..Builder::default() },
            prepare: &|site| {
                site.faults(&[&format!("create_document=status-before:503,first=1,profile={}", profile(0))]);
                site.put_batch("batch.manifest.json", 2);
                site.run_once().expect(0);
            },
            goes_wrong: &|site| {
                let documents = site.documents();
                let own = documents.iter().find(|document| document.profile == profile(0)).unwrap();
                let images: Vec<_> = own.images.iter().map(|image| json!({ "id": image.id })).collect();
                let body = json!({ "category": "PROOF_OF_IDENTITY", "document_type": "PASSPORT", "images": images });
                site.post(&format!("/profiles/{}/collected_data/documents", profile(0)), &body);
                site.edit_config("recheck_after = '1h'", "recheck_after = '10ms'");
                let status = site.status();
                let pid = status["daemon"]["pid"].as_u64().unwrap().to_string();
                assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
            },
            is_shown: &|numbers| value(numbers, "doubled_documents_total") > 0.0,
            ..plain()
        },
    );
    let before = scenes[0].after.clone().unwrap();
    scenes.push(Scene { name: "it has ended", before, after: None, minutes: 15, alerts: &["PassfortIngestDown"] });
    scenes
}

/// How long all is well before something goes wrong.
const WELL: usize = 60;

/// A scene as a test of `promtool`: the numbers before, then those after, a sample a minute.
fn as_test(scene: &Scene) -> String {
    let series = |text: &str| -> Vec<(String, String)> {
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.contains("_bucket{"));
        lines
            .filter_map(|line| line.rsplit_once(' '))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    };
    let (before, after) = (series(&scene.before), scene.after.as_deref().map(series).unwrap_or_default());
    let of = |numbers: &[(String, String)], name: &str| {
        numbers.iter().find(|(known, _)| known == name).map_or_else(|| "_".to_owned(), |(_, value)| value.clone())
    };
    let names: BTreeSet<&String> = before.iter().chain(&after).map(|(name, _)| name).collect();
    let mut test = format!("  - name: {}\n    interval: 1m\n    input_series:\n", scene.name);
    for name in names {
        let (first, then) = (of(&before, name), of(&after, name));
        writeln!(test, "      - {{ series: '{name}', values: '{first}x{WELL} {then}x{}' }}", scene.minutes).unwrap();
    }
    let firing: Vec<String> =
        scene.alerts.iter().map(|alert| format!("{{ labels: '{{alertname=\"{alert}\"}}', value: 1 }}")).collect();
    writeln!(
        test,
        "    promql_expr_test:\n      - expr: max by (alertname) (ALERTS{{alertstate=\"firing\"}})\n        eval_time: {}m\n        \
         exp_samples: [{}]",
        WELL + scene.minutes,
        firing.join(", ")
    )
    .unwrap();
    test
}

/// What `promtool` says of a file, where it finds fault with it.
fn promtool(arguments: &[&str], file: &Path) -> Option<String> {
    let mut command = Command::new("promtool");
    command.args(arguments);
    if arguments == ["check", "metrics"] {
        command.stdin(fs::File::open(file).unwrap());
    } else {
        command.arg(file);
    }
    let ran = command.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    (!ran.status.success()).then_some(said)
}

#[test]
#[ignore = "needs promtool; .ci/run installs it and asks for this"]
fn each_alert_fires_where_the_program_says_so_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let scenes = scenes();
    let fired: BTreeSet<&str> = scenes.iter().flat_map(|scene| scene.alerts.iter().copied()).collect();
    let alerts = in_rules("alert:");
    assert_eq!(fired, alerts.iter().map(String::as_str).collect(), "each alert has a scene");

    let rules = Path::new(ROOT).join("monitoring/passfort-ingest.rules.yml");
    assert_eq!(promtool(&["check", "rules"], &rules), None);
    let mut tests = format!("rule_files: ['{}']\nevaluation_interval: 1m\ntests:\n", rules.display());
    scenes.iter().for_each(|scene| tests.push_str(&as_test(scene)));
    let file = folder.path().join("tests.yml");
    fs::write(&file, tests).unwrap();
    assert_eq!(promtool(&["test", "rules"], &file), None);

    let mut given = BTreeSet::new();
    for text in scenes.iter().filter_map(|scene| scene.after.as_deref()) {
        let file = folder.path().join("metrics.txt");
        fs::write(&file, text).unwrap();
        assert_eq!(promtool(&["check", "metrics"], &file), None, "{text}");
        given.extend(
            text.lines()
                .filter(|line| !line.starts_with('#'))
                .filter_map(|line| line.split([' ', '{']).next().map(str::to_owned)),
        );
    }
    for path in ["monitoring/passfort-ingest.rules.yml", "monitoring/passfort-ingest.dashboard.json"] {
        let text = read(path);
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let names = words.filter(|word| word.starts_with("passfort_ingest_"));
        for name in names {
            assert!(given.contains(name), "{path} asks for {name}, which the program does not give");
        }
    }
}
