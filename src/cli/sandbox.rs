//! The command `sandbox`: serves the stand-in for the API until it is stopped.
//!
//! Standard output gets one line, with the address; hints and the closing summary go to standard error.

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, ensure};

use crate::{
    entry::ProfileId,
    sandbox::{
        self, FaultRule, FileReadMethod, IdOrder, ImageIds, LimitRule, ListShape, Options, Sandbox, parse_duration,
    },
};

const FAULT_HELP: &str = "\
What goes wrong, as OPERATION=KIND[,WHEN…]; give it again for more.

E.g. --fault create_document=lost,p=0.2 or --fault upload_image=status-before:503,first=3

Operations: upload_image, upload_file, create_document, read_documents, list_images, read_file, whoami, any.
Kinds that keep the call from taking effect: status-before:CODE, early:CODE, reset-body:BYTES, hang, throttle:SECONDS, \
throttle-retry-after:SECONDS, errors200:CODE, html, bare:CODE (a status without a body), redirect:CODE, gateway:CODE (a page of HTML), \
gateway-json:CODE (JSON without the API's errors), maintenance:SECONDS (503, a page, and Retry-After), quote-key (401 with \
the key in its text), quote-person.
Kinds where it takes effect all the same: status-after:CODE, lost, cut, garbled, slow:DURATION, \
slow-body:BYTES_PER_SECOND, hang-after, html200, bare-after:CODE, redirect-after:CODE, interim:CODE (a status of 1xx goes \
ahead of the answer), cut-status and cut-head (the answer breaks off in its first line, or in its headers), reset-after, \
twice (the answer comes twice on its connection), length:+N or length:-N (its Content-Length is wrong by so much), \
errors200-after:CODE (an error in a 200), errors-id:CODE (an error beside the id), interim-flood:COUNT, \
drip:BYTES_PER_SECOND (of the answer).
Kinds where it takes effect later: late:DURATION (the connection is closed at once), late:DURATION/CODE (the status is \
answered at once, by the API with 500/501), late-hang:DURATION (never answered).
Kinds for read_documents: stale:DURATION (the list as it was so long ago), list:SHAPE, with a SHAPE of page, page-next, \
page-total, page-link, page-count, foreign, empty, null, renamed, wrapped, no-images, image-id, urn, no-dashes, upper-case, image-more, \
image-less, unreadable.
A CODE of status-before, status-after, early, and errors-id is an HTTP status, with the API's own code if wanted: 409 or 409/102.
When: every=N, nth=N, first=N, times=N, p=0.2, for=DURATION (after the first call), profile=UUID.

While it runs: curl --data-binary 'any=lost,p=0.1' http://127.0.0.1:PORT/_sandbox/faults";

const LIMIT_HELP: &str = "\
How many calls are let through, as OPERATION=COUNT/SECONDS[,burst=N][,shape=S][,says=S]; give it again for more.

E.g. --limit create_document=10000/3600 or --limit any=5/1,burst=20

shape: drip (the default: a bucket that fills steadily), window (so many in each span of so long), sliding (so many within \
any span of so long).
says: everything (the default: the API's own headers), retry-after (that header alone, where a call is turned away), nothing.

While it runs: curl --data-binary 'any=5/1' http://127.0.0.1:PORT/_sandbox/limits";

/// What the stand-in knows, and what goes wrong there.
#[derive(Debug, Clone, clap::Args)]
pub struct SandboxRefusals {
    /// The only profile that exists; give it again for more. Without it, every UUID is one
    #[arg(long = "profile", value_name = "UUID", value_parser = parse_profile)]
    pub profiles: Vec<ProfileId>,

    /// The only category of documents; give it again for more. Without it, every one is known
    #[arg(long = "category", value_name = "NAME")]
    pub categories: Vec<String>,

    /// What goes wrong, as OPERATION=KIND[,WHEN…]; give it again for more
    #[arg(long = "fault", value_name = "RULE", long_help = FAULT_HELP)]
    pub faults: Vec<FaultRule>,
}

/// The arguments of `sandbox`.
#[derive(Debug, clap::Args)]
pub struct SandboxArgs {
    /// Where to listen: loopback only; port 0 takes a free one. E.g. --listen 127.0.0.1:8040
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,

    /// An accepted API key; give it again for more. E.g. --key test --key other
    #[arg(long = "key", value_name = "KEY", default_value = "test")]
    pub keys: Vec<String>,

    #[command(flatten)]
    /// What it knows, and what goes wrong
    pub refusals: SandboxRefusals,

    /// How many calls are let through, as OPERATION=COUNT/SECONDS[,burst=N…]; give it again for more
    #[arg(long = "limit", value_name = "RULE", long_help = LIMIT_HELP)]
    pub limits: Vec<LimitRule>,

    /// How long every answer is kept back. E.g. --latency 200ms
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = parse_duration)]
    pub latency: Duration,

    /// How long a new document stays invisible to reads. E.g. --visible-after 2s
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = parse_duration)]
    pub visible_after: Duration,

    /// The largest image or file, in bytes before Base64. E.g. --max-image-bytes 1000000
    #[arg(long, value_name = "BYTES", default_value_t = 50_000_000)]
    pub max_image_bytes: u64,

    /// Append each call to this file, as a line of JSON. E.g. --ledger calls.jsonl
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,

    /// Where the dice for p= start; the same seed gives the same faults. E.g. --seed 7
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub seed: u64,

    /// Speak HTTPS with this certificate chain, a PEM file. E.g. --tls-cert cert.pem --tls-key key.pem
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// The key of the certificate, a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// How lists of images are answered. E.g. --list-shape wrapped
    #[arg(long, value_name = "SHAPE", value_enum, default_value_t)]
    pub list_shape: ListShape,

    /// The status of answers that created something: 200 or 201. E.g. --status-created 201
    #[arg(long, value_name = "STATUS", default_value_t = 200, value_parser = clap::value_parser!(u16).range(200..=201))]
    pub status_created: u16,

    /// Which id an image gets whose content is known on its profile. E.g. --image-ids by-content
    #[arg(long, value_name = "IDS", value_enum, default_value_t)]
    pub image_ids: ImageIds,

    /// Where the id is in records. E.g. --id-order last
    #[arg(long, value_name = "ORDER", value_enum, default_value_t)]
    pub id_order: IdOrder,

    /// Which methods read a single file; the other is answered with 405. E.g. --file-read-method get
    #[arg(long, value_name = "METHOD", value_enum, default_value_t)]
    pub file_read_method: FileReadMethod,
}

fn parse_profile(text: &str) -> Result<ProfileId, &'static str> {
    ProfileId::parse(text).ok_or("a profile is a UUID, e.g. a2c4393a-e219-67a4-5ab4-2186952e9038")
}

impl SandboxArgs {
    fn into_options(self) -> Options {
        let SandboxRefusals { profiles, categories, faults } = self.refusals;
        Options {
            listen: self.listen,
            keys: self.keys,
            profiles,
            categories,
            max_image_bytes: self.max_image_bytes,
            latency: self.latency,
            seed: self.seed,
            ledger: self.ledger,
            faults,
            limits: self.limits,
            visible_after: self.visible_after,
            tls: self.tls_cert.zip(self.tls_key),
            list_shape: self.list_shape,
            created_status: self.status_created,
            id_order: self.id_order,
            image_ids: self.image_ids,
            file_read_method: self.file_read_method,
            ..Options::default()
        }
    }
}

/// Serves until `until` resolves, then prints a summary.
///
/// # Errors
///
/// The sandbox cannot start, or standard output is closed.
pub async fn run(args: SandboxArgs, until: impl Future<Output = ()>) -> anyhow::Result<()> {
    let options = args.into_options();
    ensure!(options.keys.iter().all(|key| !key.trim().is_empty()), "--key is empty: give it a value, e.g. --key test");
    let key = options.keys.first().cloned().unwrap_or_default();
    let certificate = options.tls.as_ref().map(|(certificate, _)| certificate.clone());
    let sandbox = sandbox::start(options).await.context("the sandbox cannot start")?;
    announce(&sandbox, &key, certificate).context("cannot say where the sandbox listens")?;
    until.await;
    let summary = sandbox.summary();
    sandbox.stop().await;
    // A closed standard error is no failure.
    write!(io::stderr().lock(), "{summary}").ok();
    Ok(())
}

fn announce(sandbox: &Sandbox, key: &str, certificate: Option<PathBuf>) -> io::Result<()> {
    let url = sandbox.base_url();
    let mut out = io::stdout().lock();
    writeln!(out, "sandbox listening on {url} (key: {key})")?;
    // The reader of a pipe waits for this line.
    out.flush()?;
    let mut hint = format!("to use it, export PASSFORT_API_KEY={key} and configure:\n\n[api]\nbase_url = \"{url}\"\n");
    if let Some(certificate) = certificate {
        hint.push_str(&format!("ca_file = {:?}\n", certificate.display().to_string()));
    }
    let control = sandbox.control_url();
    hint.push_str(&format!("\nledger: curl {control}ledger\nsummary: curl {control}summary\n"));
    // A closed standard error is no failure.
    io::stderr().lock().write_all(hint.as_bytes()).ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: SandboxArgs,
    }

    fn parse(args: &[&str]) -> Result<Options, String> {
        let parsed = Cli::try_parse_from([&["sandbox"], args].concat());
        parsed.map(|cli| cli.args.into_options()).map_err(|error| error.to_string())
    }

    #[test]
    fn without_arguments_it_is_the_plain_sandbox() {
        assert_eq!(format!("{:?}", parse(&[]).unwrap()), format!("{:?}", Options::default()));
    }

    #[test]
    fn arguments_reach_the_options() {
        let options = parse(&[
            "--key=a",
            "--key=b",
            "--fault=create_document=lost,p=0.2",
            "--fault=any=cut",
            "--limit=any=5/1",
            "--latency=200ms",
            "--visible-after=2s",
            "--list-shape=wrapped",
            "--status-created=201",
            "--ledger=l",
        ])
        .unwrap();
        assert_eq!(options.keys, ["a", "b"]);
        assert_eq!(options.faults.len(), 2);
        assert_eq!(options.limits.len(), 1);
        assert_eq!((options.latency, options.visible_after), (Duration::from_millis(200), Duration::from_secs(2)));
        assert_eq!((options.list_shape, options.created_status), (ListShape::Wrapped, 201));
    }

    #[test]
    fn mistakes_are_reported_with_the_cure() {
        for (arg, cure) in [
            ("--fault=create_document=losst", "did you mean 'lost'"),
            ("--limit=any=5", "OPERATION=COUNT/SECONDS"),
            ("--latency=2", "e.g. 250ms"),
            ("--tls-cert=c.pem", "--tls-key"),
            ("--profile=17", "UUID"),
        ] {
            let error = parse(&[arg]).unwrap_err();
            assert!(error.contains(cure), "{arg}: {error}");
        }
    }

    #[tokio::test]
    async fn it_serves_until_it_is_stopped() {
        let args = Cli::parse_from(["sandbox"]).args;
        run(args, async {}).await.unwrap();
        let args = Cli::parse_from(["sandbox", "--listen=192.0.2.1:80"]).args;
        let error = format!("{:#}", run(args, std::future::pending()).await.unwrap_err());
        assert!(error.contains("loopback only"), "{error}");
    }
}
