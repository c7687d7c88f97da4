//! A coordinator and its workers, each a process with an output file of its own.

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
    /// The coordinator.
    pub coordinator: Process,
    /// The workers in the order they were started.
    pub workers: Vec<Process>,
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
        let (program, folder) = (program.to_owned(), folder.to_owned());
        Self {
            program,
            folder,
            address,
            certificates: certificates.map(Path::to_owned),
            coordinator,
            workers: Vec::new(),
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
        let name = format!("worker-{}", self.workers.len());
        let security = security(self.certificates.as_deref(), &name);
        arguments.extend(["--threads", "1", "--listen", "127.0.0.1:0"]);
        arguments.extend(security.iter().map(String::as_str));
        arguments.extend(more);
        let output = self.folder.join(format!("worker-{}.log", self.workers.len()));
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
