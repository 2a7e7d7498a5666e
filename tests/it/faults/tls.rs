//! TLS that goes wrong: certificates that must not be trusted, and connections that end in the middle.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use passfort_ingest::sandbox::Options;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use tempfile::TempDir;

use crate::support::{Builder, Site, counted_leftovers, leftovers};

/// An authority, and what it signed for the sandbox.
struct Papers {
    folder: TempDir,
}

impl Papers {
    fn new(name: &str, valid: bool) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        if !valid {
            (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        }
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &authority).unwrap();
        let papers = Self { folder: TempDir::new().unwrap() };
        std::fs::write(papers.path("ca.pem"), authority.pem()).unwrap();
        std::fs::write(papers.path("cert.pem"), signed.pem()).unwrap();
        std::fs::write(papers.path("key.pem"), key.serialize_pem()).unwrap();
        papers
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A site whose API shows these papers, and whose worker trusts this authority.
    fn site(&self, trusted: &Self) -> Site {
        let sandbox = Options { tls: Some((self.path("cert.pem"), self.path("key.pem"))), ..Options::default() };
        let api = format!("ca_file = '{}'\nresponse_timeout = '3s'", trusted.path("ca.pem").display());
        Builder { sandbox, api, ..Builder::default() }.build()
    }
}

#[test]
fn a_certificate_that_must_not_be_trusted_gets_nothing() {
    let good = Papers::new("127.0.0.1", true);
    let (strange, other, old) =
        (Papers::new("127.0.0.1", true), Papers::new("api.example", true), Papers::new("127.0.0.1", false));
    thread::scope(|scope| {
        // Of an authority that is not in ca_file, for another host, and one that has expired.
        for (shown, trusted) in [(&strange, &good), (&other, &other), (&old, &old)] {
            scope.spawn(move || {
                let site = shown.site(trusted);
                site.put_batch("batch.manifest.json", 3);
                site.wait_until_settled();
                site.run(&["run", "--once", "--give-up-after", "1s"]).expect(4).says("cause=outage");
                site.run(&["status"]).expect(0).says("no trusted connection");
                assert!(site.ledger().is_empty(), "not even a key was shown");
                assert!(!site.is_settled("batch.manifest.json"), "no entry fails for it");
            });
        }
    });
    let site = good.site(&good);
    site.put_batch("batch.manifest.json", 3);
    site.run_once().expect(0);
    assert_eq!(site.summary().documents, 3);
}

/// What a proxy between the worker and the API does to a connection, each in turn.
#[derive(Debug, Clone, Copy)]
enum Cut {
    /// Ends it before anything is sent.
    AtOnce,
    /// Ends it after the client's first words.
    AfterHello,
    /// Answers with what is no TLS.
    NoTls,
    /// Ends it after this many bytes of the API's.
    AfterAnswered(usize),
    /// Ends it after this many bytes of the client's.
    AfterSent(usize),
}

/// From the middle of the handshake, which is about 1,000 bytes, to the middle of an answer.
const CUTS: [Cut; 16] = [
    Cut::AtOnce,
    Cut::AfterHello,
    Cut::NoTls,
    Cut::AfterAnswered(1),
    Cut::AfterAnswered(100),
    Cut::AfterAnswered(600),
    Cut::AfterAnswered(1000),
    Cut::AfterAnswered(1200),
    Cut::AfterAnswered(1400),
    Cut::AfterAnswered(1600),
    Cut::AfterAnswered(1900),
    Cut::AfterSent(200),
    Cut::AfterSent(400),
    Cut::AfterSent(700),
    Cut::AfterSent(900),
    Cut::AfterSent(1100),
];

/// Passes bytes on, at most `most`, then ends both ways.
fn pass(mut from: TcpStream, mut to: TcpStream, most: usize) {
    let (mut left, mut piece) = (most, [0; 512]);
    while left > 0 {
        let room = left.min(piece.len());
        let Ok(count @ 1..) = from.read(&mut piece[..room]) else { break };
        if to.write_all(&piece[..count]).is_err() {
            break;
        }
        left -= count;
    }
    // Either side may have gone already.
    from.shutdown(Shutdown::Both).ok();
    to.shutdown(Shutdown::Both).ok();
}

/// Every other connection is cut, until each cut was made; the others pass completely.
fn front(to: SocketAddr, made: Arc<AtomicUsize>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for (number, client) in listener.incoming().map_while(Result::ok).enumerate() {
            let cut = if number % 2 == 0 { CUTS.get(number / 2) } else { None };
            made.fetch_add(usize::from(cut.is_some()), Ordering::Relaxed);
            let cut = cut.copied();
            thread::spawn(move || serve(client, to, cut));
        }
    });
    addr
}

fn serve(mut client: TcpStream, to: SocketAddr, cut: Option<Cut>) {
    let (sent, answered) = match cut {
        Some(Cut::AtOnce) => return,
        Some(Cut::AfterHello) => {
            let _hello = client.read(&mut [0; 4096]);
            return;
        }
        Some(Cut::NoTls) => {
            let _hello = client.read(&mut [0; 4096]);
            client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").ok();
            return;
        }
        Some(Cut::AfterAnswered(bytes)) => (usize::MAX, bytes),
        Some(Cut::AfterSent(bytes)) => (bytes, usize::MAX),
        None => (usize::MAX, usize::MAX),
    };
    let Ok(api) = TcpStream::connect(to) else { return };
    let (from, back) = (client.try_clone().unwrap(), api.try_clone().unwrap());
    thread::spawn(move || pass(from, api, sent));
    pass(back, client, answered);
}

#[test]
fn connections_that_end_in_the_middle_double_nothing() {
    let papers = Papers::new("127.0.0.1", true);
    let site = papers.site(&papers);
    let made = Arc::new(AtomicUsize::new(0));
    let front = front(site.sandbox().addr(), Arc::clone(&made));
    site.use_api_at(front);
    let (mut documents, mut batch) = (0, 0);
    // A run keeps few connections, so that it takes several until every cut was made.
    while made.load(Ordering::Relaxed) < CUTS.len() {
        batch += 1;
        assert!(batch <= CUTS.len() + 2, "only {} of {} cuts were made", made.load(Ordering::Relaxed), CUTS.len());
        let entries: Vec<_> = (documents..documents + 6)
            .map(|number| {
                let name = format!("{number}.png");
                site.put(&name, crate::support::image(crate::support::Format::Png, number));
                crate::support::entry(&name, number, &name)
            })
            .collect();
        documents += 6;
        let manifest = format!("{batch}.manifest.json");
        site.put_documents(&manifest, &entries);
        site.run_once().expect(0);
        assert_eq!(site.receipt(&manifest)["counts"]["created"], 6);
    }
    let summary = site.summary();
    assert_eq!((summary.documents, summary.doubled, summary.doubled_ids), (u64::from(documents), 0, 0), "{summary}");
    // The API does not know which of its answers arrived, but what nobody knows by its ID is counted.
    assert!(leftovers(&site) <= counted_leftovers(&site));
    assert!(summary.orphans <= CUTS.len() as u64, "{summary}");
}
