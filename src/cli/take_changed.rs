//! `retry JOB --take-changed`: sends what a file is now, where it is no longer what was taken.

use std::path::{Path, PathBuf};

use super::{
    caller::caller,
    output::{Exit, Output, QueueContext, escape},
};
use crate::{
    clock::Timestamp,
    config::Api,
    entry::{EntryKind, RelativePath, Source},
    inbox::{
        beneath::Root,
        examine::{ExaminedFile, Examining, Purpose, examine},
        lease::{self, LeaseState},
    },
    job::Upload,
    problem::Problem,
    queue::{
        Queue, QueueError, Reader, WhenStuck, admission::CheckedFile, control::CommandOutcome, take_changed::JobFiles,
        wake,
    },
    relative_path::join,
};

/// Examines the files of each job, shows what they were and are, and queues it with what they are.
pub(super) fn retry(
    jobs: &[i64],
    context: &QueueContext,
    now: Timestamp,
    output: &mut Output<'_>,
) -> anyhow::Result<Exit> {
    let reader = match Reader::open(&context.database) {
        Err(error @ QueueError::Absent { .. }) => return Ok(output.refuse_usage(&error.to_string())),
        reader => reader?,
    };
    let queue = Queue::open_beside(&context.database, WhenStuck::Fail)?;
    let max_bytes = context.config.as_ref().map_or(Api::default().max_image_bytes, |c| c.api.max_image_bytes);
    let mut done = 0;
    let act = queue.begin_act("retry --take-changed", caller(), now)?;
    for &job_id in jobs {
        let files = reader.job_files(job_id)?;
        let examined = match &files {
            None => Err("there is no such job".to_owned()),
            Some(files) if !files.state.has_ended() => Err(format!("is {}, and has not failed", files.state)),
            Some(files) => changed(files, max_bytes, queue.seed()),
        };
        let outcome = match examined {
            Err(message) => CommandOutcome { job: job_id, done: false, message },
            Ok(changed) => {
                for (upload, file) in &changed {
                    writeln!(
                        output.out,
                        "job {job_id} {}: was sha256 {} ({} bytes), is sha256 {} ({} bytes)",
                        escape(&upload.path),
                        upload.sha256,
                        upload.bytes,
                        file.sha256,
                        file.bytes
                    )?;
                }
                // Who reads this must have seen the digests before anything is done.
                output.out.flush()?;
                let files = changed.iter().map(|(upload, file)| (upload.position, *file)).collect();
                queue.take_changed(act, job_id, files, now)?
            }
        };
        done += usize::from(outcome.done);
        writeln!(output.out, "job {} {}", outcome.job, escape(&outcome.message))?;
    }
    wake::notify(&context.database);
    output.out.flush()?;
    output.remark(&format!("{done} of {} done", jobs.len()));
    Ok(if done == jobs.len() { Exit::Well } else { Exit::Refused })
}

/// The files of a job that are not what they were, with what they are; or why one cannot be taken.
fn changed(files: &JobFiles, max_bytes: u64, seed: u64) -> Result<Vec<(&Upload, CheckedFile)>, String> {
    let mut changed = Vec::new();
    for upload in files.uploads.iter().filter(|upload| upload.remote_id.is_none()) {
        let file = look(files, upload, max_bytes, seed)
            .map_err(|problem| format!("cannot be sent: {}: {}; {}", upload.path, problem.reason, problem.cure))?;
        if file.sha256 != upload.sha256 {
            changed.push((upload, file));
        }
    }
    Ok(changed)
}

/// What a file is now, by the rules of its admission: what is declared of it still holds.
fn look(files: &JobFiles, upload: &Upload, max_bytes: u64, seed: u64) -> Result<CheckedFile, Box<Problem>> {
    let (root, path) = match &upload.moved_to {
        Some(place) => (PathBuf::from(&place.root), place.path.clone()),
        None => (PathBuf::from(&files.image_root), join(&files.image_folder, &upload.path)),
    };
    let say = |reason: String, cure: &str| Box::new(Problem::error(reason, cure));
    let unread =
        |error: std::io::Error| say(format!("the file cannot be read: {error}"), "look at the folder's disk or mount");
    let mut opened = Root::open(Path::new(&root))
        .map_err(unread)?
        .open_file(&path)
        .map_err(|refusal| Box::new(refusal.problem(&upload.path)))?;
    let source = Source {
        path: RelativePath::parse(&upload.path).map_err(|_| say("the path is none".into(), "drop it again"))?,
        declared_bytes: upload.declared.bytes.then_some(upload.bytes),
        declared_sha256: upload.declared.sha256.then_some(upload.sha256),
    };
    let purpose = match files.kind {
        EntryKind::Document => Purpose::Image,
        EntryKind::File => Purpose::File,
    };
    let examined = examine(&mut opened, &source, purpose, max_bytes, seed, &mut Vec::new());
    let still_written = || say("the file is still being written".into(), "use the command again when it is complete");
    if lease::ask(&opened.file) == LeaseState::Writer {
        return Err(still_written());
    }
    match examined {
        Ok((ExaminedFile { truncated: Some(why), .. }, _)) => {
            Err(say(format!("truncated: {why}"), "put the whole file there"))
        }
        Ok((file, _)) => Ok(CheckedFile {
            bytes: file.bytes,
            sha256: file.sha256,
            checksum: file.checksum,
            seen: Some(file.identity),
        }),
        Err(Examining::Bad(problems) | Examining::Held(problems)) => {
            Err(problems.into_iter().find(Problem::is_error).map_or_else(still_written, Box::new))
        }
        Err(Examining::Changed) => Err(still_written()),
        Err(Examining::Io(error)) => Err(unread(error)),
    }
}
