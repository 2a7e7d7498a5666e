//! What a program did to the folders of a site, and what it asked of the API, in order.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
};

use anyhow::{Result, bail};

use crate::strace::{self, Call};

/// One step; paths are relative to the site.
#[derive(Debug, Clone)]
pub enum Event {
    Create(String),
    Folder(String),
    Write {
        path: String,
        at: u64,
        bytes: Vec<u8>,
    },
    Cut {
        path: String,
        bytes: u64,
    },
    /// A file's content, or a folder's names, are on disk from here on.
    Sync(String),
    Rename {
        from: String,
        to: String,
    },
    Link {
        from: String,
        to: String,
    },
    Remove(String),
    /// The first bytes of a request go out.
    Ask(Request),
}

#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// `document_images`, `files`, `collected_data/documents`, `collected_data`.
    pub what: String,
    pub profile: String,
    /// As far as it went out with the head.
    pub body: Vec<u8>,
}

/// The calls whose meaning is known here; a write by any other would go unseen, so the tracer stops at these only.
pub const CALLS: &str = "trace=open,openat,openat2,creat,write,pwrite64,writev,pwritev,pwritev2,lseek,ftruncate,truncate,\
                         fallocate,copy_file_range,sendfile,fsync,fdatasync,sync_file_range,rename,renameat,renameat2,\
                         link,linkat,symlink,symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir,sendto,sendmsg";

/// Reads the calls of one life of a program; those within which it ended count where `unknown` says so.
pub fn events(calls: &[Call], root: &Path, unknown: bool) -> Result<Vec<Event>> {
    let mut found: Vec<(u64, Event)> = Vec::new();
    // The position of each descriptor of a file that is written to.
    let mut places: BTreeMap<String, u64> = BTreeMap::new();
    for call in calls {
        let written = call.name == "pwrite64" && call.unknown && unknown;
        let returned = call.returned.or_else(|| call.arguments.get(2)?.parse().ok().filter(|_| written));
        let Some(returned) = returned else { continue };
        let mut note = |event: Event| found.push((call.began, event));
        let argument = |at: usize| call.arguments.get(at).map_or("", String::as_str);
        let file = |at: usize| strace::descriptor(argument(at)).and_then(|path| below(&path, root));
        let named = |folder: Option<usize>, at: usize| path_of(folder.map(argument), argument(at), root);
        match call.name.as_str() {
            "open" | "creat" | "openat" | "openat2" => {
                let Some(path) = call.opened.as_deref().and_then(|path| below(path, root)) else { continue };
                places.insert(returned.to_string(), 0);
                if call.arguments.iter().any(|text| text.contains("O_CREAT")) {
                    note(Event::Create(path));
                }
            }
            "lseek" => {
                places.insert(number_of(argument(0)), u64::try_from(returned)?);
            }
            "write" | "writev" | "pwrite64" | "sendto" | "sendmsg" => {
                let length = usize::try_from(returned)?;
                let mut bytes = strace::strings(argument(1));
                if let Some(request) = request(&bytes) {
                    note(Event::Ask(request));
                }
                let Some(path) = file(0) else { continue };
                if bytes.len() < length {
                    bail!("the tracer cut a write of {length} bytes to {path}");
                }
                bytes.truncate(length);
                let at = match call.name.as_str() {
                    "pwrite64" => argument(3).parse()?,
                    _ => {
                        let place = places.entry(number_of(argument(0))).or_default();
                        *place += length as u64;
                        *place - length as u64
                    }
                };
                note(Event::Write { path, at, bytes });
            }
            "ftruncate" => {
                let Some(path) = file(0) else { continue };
                note(Event::Cut { path, bytes: argument(1).parse()? });
            }
            // What it promises, it promises when it has ended.
            "fsync" | "fdatasync" => {
                if let Some(path) = file(0) {
                    found.push((call.ended, Event::Sync(path)));
                }
            }
            "rename" | "renameat" | "renameat2" | "link" | "linkat" => {
                let (from, to) = if call.name.ends_with("at") || call.name.ends_with("at2") {
                    (named(Some(0), 1), named(Some(2), 3))
                } else {
                    (named(None, 0), named(None, 1))
                };
                match (from, to) {
                    (Some(from), Some(to)) if call.name.starts_with("link") => note(Event::Link { from, to }),
                    (Some(from), Some(to)) => note(Event::Rename { from, to }),
                    (None, None) => {}
                    (from, to) => bail!("something moved into or out of the site: {from:?} {to:?}"),
                }
            }
            "mkdir" => note_path(&mut note, named(None, 0), Event::Folder),
            "mkdirat" => note_path(&mut note, named(Some(0), 1), Event::Folder),
            "unlink" | "rmdir" => note_path(&mut note, named(None, 0), Event::Remove),
            "unlinkat" => note_path(&mut note, named(Some(0), 1), Event::Remove),
            other => {
                if call.arguments.iter().any(|text| strace::descriptor(text).is_some_and(|path| path.starts_with(root)))
                {
                    bail!("the model does not know what {other} does");
                }
            }
        }
    }
    found.sort_by_key(|(at, _)| *at);
    Ok(found.into_iter().map(|(_, event)| event).collect())
}

fn note_path(note: &mut impl FnMut(Event), path: Option<String>, event: fn(String) -> Event) {
    if let Some(path) = path {
        note(event(path));
    }
}

/// The number of a descriptor: `5</a/b>`.
fn number_of(text: &str) -> String {
    text.split('<').next().unwrap_or_default().to_owned()
}

/// The path relative to the site, of what is durable: the database's shared memory, its lock and its bell are not.
fn below(path: &Path, root: &Path) -> Option<String> {
    let path = path.strip_prefix(root).ok()?.to_str()?;
    let passing = ["-shm", ".lock", ".bell"].iter().any(|end| path.ends_with(end));
    let ours = ["state", "drop"].iter().any(|folder| path.split('/').next() == Some(*folder));
    (ours && !passing).then(|| path.to_owned())
}

fn path_of(folder: Option<&str>, name: &str, root: &Path) -> Option<String> {
    let name = PathBuf::from(String::from_utf8(strace::strings(name)).ok()?);
    let folder = folder.and_then(strace::descriptor).unwrap_or_default();
    let mut path = PathBuf::new();
    for part in folder.join(name).components() {
        match part {
            Component::ParentDir => {
                path.pop();
            }
            Component::CurDir => {}
            part => path.push(part),
        }
    }
    below(&path, root)
}

/// The head of a request that is about a profile.
fn request(bytes: &[u8]) -> Option<Request> {
    let text = bytes.split(|byte| *byte == b'\r').next().and_then(|line| std::str::from_utf8(line).ok())?;
    let mut words = text.split(' ');
    let (method, path, version) = (words.next()?, words.next()?, words.next()?);
    if !version.starts_with("HTTP/") {
        return None;
    }
    let (_, path) = path.split_once("/profiles/")?;
    let (profile, what) = path.split_once('/')?;
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
    Some(Request {
        method: method.to_owned(),
        what: what.to_owned(),
        profile: profile.to_owned(),
        body: bytes.get(end..).unwrap_or_default().to_vec(),
    })
}
