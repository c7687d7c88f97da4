//! Every deadline of a run.

use std::time::Duration;

/// How long a run waits for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How often a worker sends a heartbeat.
    pub heartbeat_interval: Duration,
    /// Silence after which a worker counts as lost.
    pub lease: Duration,
    /// How long better evidence is waited for after a link broke between two workers that are both there.
    pub settle: Duration,
    /// How long a worker may take to come back whose Watch stream closed while its links hold.
    pub watch_grace: Duration,
    /// How much longer than the lease workers have to come back after a restart of the coordinator.
    pub recovery_grace: Duration,
    /// How long after its last sign of life a worker may progress in a generation that the coordinator does not see; above
    /// the time after which workers that hear nothing pause.
    pub out_of_sight: Duration,
    /// The shortest time without progress that counts as a stall.
    pub stall_patience: Duration,
    /// How often it is said who is missing.
    pub reminder: Duration,
    /// How long the rendezvous may take; without end when absent.
    pub join_timeout: Option<Duration>,
    /// How long the run takes at most from its first generation on; a coordinator that takes over counts from the last
    /// recorded epoch. Without end when absent.
    pub time_limit: Option<Duration>,
    /// How long workers may take to stop after they were asked to.
    pub stop_grace: Duration,
    /// How long the last worker may take to finish after the first.
    pub finish_grace: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_millis(500),
            // Nine lost heartbeats: a process that gets a twentieth of a core still sends some, and a host that is cut
            // off is noticed within five seconds.
            lease: Duration::from_millis(4500),
            // When a process dies, its neighbours' reports and the end of its own connection race each other, over
            // different paths, and both take milliseconds.
            settle: Duration::from_millis(300),
            // A worker that lost its connection only tries again every quarter of a second.
            watch_grace: Duration::from_secs(2),
            // Workers may have waited for the coordinator for long, and all come at the same time.
            recovery_grace: Duration::from_secs(5),
            // Workers pause after 45 s without an answer; one that has sent its part of a step by then may still apply it.
            out_of_sight: Duration::from_secs(60),
            // A first step compiles kernels, an epoch's end writes files: seconds of silence are usual.
            stall_patience: Duration::from_secs(30),
            reminder: Duration::from_secs(10),
            // Machines of a cluster may come up hours apart.
            join_timeout: None,
            time_limit: None,
            // A validation that is under way, a step, and an upload. A second signal ends at once.
            stop_grace: Duration::from_secs(300),
            // Ranks finish at the same step; only rank 0 uploads, at worst 1 GiB at 30 Mbit/s.
            finish_grace: Duration::from_secs(300),
        }
    }
}
