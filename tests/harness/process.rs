//! One process of the program under test.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A running process whose output goes to a file.
#[derive(Debug)]
pub struct Process {
    child: Child,
    output: PathBuf,
}

/// A process that has ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Standard output and error, in the order they were written.
    pub output: String,
    /// How long the end was waited for.
    pub waited: Duration,
}

impl Process {
    /// Starts `program` with `arguments`; its output goes to the file `output`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(program: &Path, arguments: &[&str], output: &Path) -> Self {
        let file = File::create(output).expect("a file for the output");
        let child = Command::new(program)
            .args(arguments)
            .env("RUST_LOG", "info")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a second handle"))
            .stderr(file)
            .spawn()
            .expect("the program starts");
        Self {
            child,
            output: output.to_owned(),
        }
    }

    /// Returns its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the process.
    ///
    /// # Panics
    /// When it has ended already.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .expect("a process id");
        kill_process(pid, signal).expect("the process is there");
    }

    /// Returns what was written so far.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// Waits until the output contains `text`.
    ///
    /// # Panics
    /// When it does not within `deadline`, or when the process ends before.
    pub fn wait_for_output(&mut self, text: &str, deadline: Duration) {
        let start = Instant::now();
        while !self.output().contains(text) {
            let ended = self.child.try_wait().expect("the process can be asked");
            assert!(
                ended.is_none() || self.output().contains(text),
                "ended ({ended:?}) without writing {text:?}:\n{}",
                self.output()
            );
            assert!(
                start.elapsed() < deadline,
                "no {text:?} within {deadline:?}:\n{}",
                self.output()
            );
            thread::sleep(POLL);
        }
    }

    /// Waits for the end of the process.
    ///
    /// # Panics
    /// When it does not end within `deadline`; it is then killed.
    pub fn wait(mut self, deadline: Duration) -> Ended {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the process can be asked") {
                return Ended {
                    code: status.code(),
                    output: self.output(),
                    waited: start.elapsed(),
                };
            }
            assert!(
                start.elapsed() < deadline,
                "still running after {deadline:?}:\n{}",
                self.output()
            );
            thread::sleep(POLL);
        }
    }
}

impl Process {
    /// Kills the process, as `kill -9` does, and waits until it is gone.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub fn kill(mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        self.child.wait().expect("a killed process ends");
    }

    /// Whether it still runs.
    ///
    /// # Panics
    /// When the system cannot tell.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the process can be asked").is_none()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A test that failed leaves no process behind. It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How often a file or a process is looked at.
const POLL: Duration = Duration::from_millis(20);
