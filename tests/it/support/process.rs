//! Processes of the program under test: none outlives its test, none is waited for without a deadline.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// Far longer than anything takes on a busy machine: it only turns a hang into a failure.
const DEADLINE: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(5);

/// Waits until the condition holds; fails the test, with `what`, where it does not in time.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < end, "waited for {DEADLINE:?} in vain: {what}");
        thread::sleep(POLL);
    }
}

/// What a command left.
#[derive(Debug)]
pub(crate) struct Finished {
    /// The exit code; none where a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Finished {
    /// Fails the test where the exit code is another one, and shows the command's output.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "exit code\n--- standard output\n{}\n--- standard error\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    /// Both outputs.
    pub(crate) fn said(&self) -> String {
        format!("{}\n{}", self.stdout, self.stderr)
    }

    /// Fails the test where neither output has this text.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(self.said().contains(text), "nothing is said of '{text}':\n{}", self.said());
        self
    }
}

/// A process that was started; it is killed where the test lets go of it.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    started: Instant,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Daemon {
    /// Starts the command; what it says goes to files in `folder`, so that it never blocks on a full pipe.
    pub(crate) fn start(mut command: Command, folder: &Path) -> Self {
        let number = fs::read_dir(folder).unwrap().count();
        let (stdout, stderr) = (folder.join(format!("{number}.out")), folder.join(format!("{number}.err")));
        command.stdin(std::process::Stdio::null());
        command.stdout(fs::File::create(&stdout).unwrap()).stderr(fs::File::create(&stderr).unwrap());
        let started = Instant::now();
        Self { child: command.spawn().unwrap(), started, stdout, stderr }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    /// Whether it still works; a test that waits for something it does should not wait for a corpse.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Its process number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its standard error so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stderr).unwrap()).into_owned()
    }

    /// Waits until the condition holds; a process that ended before fails the test.
    #[track_caller]
    pub(crate) fn wait_until(&mut self, what: &str, mut holds: impl FnMut() -> bool) {
        let end = Instant::now() + DEADLINE;
        loop {
            if holds() {
                return;
            }
            let alive = self.is_alive();
            assert!(alive || holds(), "the process ended before: {what}\n{}", self.log());
            assert!(Instant::now() < end, "waited for {DEADLINE:?} in vain: {what}\n{}", self.log());
            thread::sleep(POLL);
        }
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(mut self) {
        self.signal(Signal::KILL);
        self.child.wait().unwrap();
    }

    /// Asks it to read its configuration again.
    pub(crate) fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// Asks it to stop.
    pub(crate) fn ask_to_stop(&self) {
        self.signal(Signal::TERM);
    }

    /// Asks it to stop, and waits for it.
    pub(crate) fn terminate(self) -> Finished {
        self.signal(Signal::TERM);
        let asked = Instant::now();
        let finished = self.finish();
        Finished { took: asked.elapsed(), ..finished }
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Finished {
        let end = Instant::now() + DEADLINE;
        let status: ExitStatus = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > end {
                self.signal(Signal::KILL);
                panic!("the process did not end:\n{}", self.log());
            }
            thread::sleep(POLL);
        };
        let read = |path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        Finished {
            code: status.code(),
            stdout: read(&self.stdout),
            stderr: read(&self.stderr),
            took: self.started.elapsed(),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // A test that fails leaves no process behind; one that has ended needs nothing.
        let ended = self.child.try_wait().is_ok_and(|status| status.is_some());
        if !ended {
            self.child.kill().ok();
            self.child.wait().ok();
            if thread::panicking() {
                let log = fs::read(&self.stderr).unwrap_or_default();
                std::io::stderr().write_all(&log).ok();
            }
        }
    }
}
