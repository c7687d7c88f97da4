//! A coordinator and its workers, each a process with an output file of its own.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::process::{Ended, Process};
use crate::run::RunDirectory;

/// A cluster on this machine.
#[derive(Debug)]
pub struct Cluster {
    program: PathBuf,
    folder: PathBuf,
    address: String,
    /// Folder with the certificates of all hosts; plain text on loopback without.
    certificates: Option<PathBuf>,
    /// How the coordinator was started.
    arguments: Vec<String>,
    coordinators: usize,
    /// The coordinator.
    pub coordinator: Process,
    /// The workers in the order they were started, but for those that a test took out.
    pub workers: Vec<Process>,
    /// Workers started so far.
    started: usize,
}

impl Cluster {
    /// Starts a coordinator with `recipe` arguments for `world_size` workers, below `folder`.
    pub fn coordinator(program: &Path, folder: &Path, world_size: usize, recipe: &[&str]) -> Self {
        Self::coordinator_of(program, folder, world_size, recipe, None)
    }

    /// The same behind TLS: `certificates` holds a folder `coordinator` and a folder `worker-N` for each worker.
    pub fn secured_coordinator(
        program: &Path,
        folder: &Path,
        world_size: usize,
        recipe: &[&str],
        certificates: &Path,
    ) -> Self {
        Self::coordinator_of(program, folder, world_size, recipe, Some(certificates))
    }

    fn coordinator_of(
        program: &Path,
        folder: &Path,
        world_size: usize,
        recipe: &[&str],
        certificates: Option<&Path>,
    ) -> Self {
        let address = free_address();
        let project = folder.join("runs").display().to_string();
        let size = world_size.to_string();
        let security = security(certificates, "coordinator");
        let mut arguments = vec!["coordinator", "--listen", &address, "--world-size", &size];
        arguments.extend(security.iter().map(String::as_str));
        arguments.extend(["--project", &project, "--name", "test"]);
        arguments.extend(recipe);
        let coordinator = Process::start(program, &arguments, &folder.join("coordinator.log"));
        let arguments = arguments.into_iter().map(str::to_owned).collect();
        let (program, folder) = (program.to_owned(), folder.to_owned());
        Self {
            program,
            folder,
            address,
            certificates: certificates.map(Path::to_owned),
            arguments,
            coordinators: 1,
            coordinator,
            workers: Vec::new(),
            started: 0,
        }
    }

    /// Starts a whole cluster with one CPU thread a worker.
    pub fn start(program: &Path, folder: &Path, world_size: usize, recipe: &[&str]) -> Self {
        let mut cluster = Self::coordinator(program, folder, world_size, recipe);
        for _ in 0..world_size {
            cluster.add_worker(&[]);
        }
        cluster
    }

    /// Starts the coordinator again at its address, to take over its run; the one before must have ended.
    pub fn restart_coordinator(&mut self) {
        let mut arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        arguments.push("--resume");
        let output = self.folder.join(format!("coordinator-{}.log", self.coordinators));
        self.coordinators += 1;
        self.coordinator = Process::start(&self.program, &arguments, &output);
    }

    /// Returns what all workers that were ever started have written, one text each.
    pub fn worker_logs(&self) -> Vec<String> {
        let started = 0..self.started;
        let read = |number| fs::read_to_string(self.folder.join(format!("worker-{number}.log")));
        started.filter_map(|number| read(number).ok()).collect()
    }

    /// Returns the address of the coordinator.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Starts one more worker with further arguments.
    pub fn add_worker(&mut self, more: &[&str]) {
        let mut arguments = vec!["worker", "--coordinator", &self.address];
        if !more.contains(&"--gpu") && !more.contains(&"--device") {
            arguments.extend(["--device", "cpu"]);
        }
        let name = format!("worker-{}", self.started);
        let security = security(self.certificates.as_deref(), &name);
        if !more.contains(&"--threads") {
            arguments.extend(["--threads", "1"]);
        }
        arguments.extend(["--listen", "127.0.0.1:0"]);
        arguments.extend(security.iter().map(String::as_str));
        arguments.extend(more);
        let output = self.folder.join(format!("{name}.log"));
        self.started += 1;
        self.workers
            .push(Process::start(&self.program, &arguments, &output));
    }

    /// Waits for every process; the coordinator's end comes first in the result, then those of the workers.
    ///
    /// # Panics
    /// When not all of them have ended within `deadline`.
    pub fn wait(self, deadline: Duration) -> Vec<Ended> {
        let start = Instant::now();
        let left = || deadline.saturating_sub(start.elapsed());
        let mut ended = vec![self.coordinator.wait(left())];
        ended.extend(self.workers.into_iter().map(|worker| worker.wait(left())));
        ended
    }

    /// Waits for a run that everybody is expected to finish well, and opens its directory.
    ///
    /// # Panics
    /// When a process fails or is late.
    pub fn finish(self, deadline: Duration) -> (RunDirectory, Vec<Ended>) {
        let run = self.run_directory();
        let ended = self.wait(deadline);
        for process in &ended {
            assert_eq!(process.code, Some(0), "{}", process.output);
        }
        (run, ended)
    }

    /// Returns the run's directory, which is there once the coordinator has begun.
    pub fn run_directory(&self) -> RunDirectory {
        RunDirectory::new(self.folder.join("runs/test"))
    }
}

fn security(certificates: Option<&Path>, host: &str) -> Vec<String> {
    match certificates {
        Some(folder) => vec!["--certs".to_owned(), folder.join(host).display().to_string()],
        None => vec!["--insecure".to_owned()],
    }
}

/// Returns an address on loopback that nobody uses at this moment.
fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound address").to_string()
}
