//! Every deadline of a run.

use std::time::Duration;

/// How long a run waits for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How often a worker sends a heartbeat.
    pub heartbeat_interval: Duration,
    /// Silence after which a worker counts as lost.
    pub lease: Duration,
    /// How long better evidence is waited for after a link or a Watch stream broke.
    pub settle: Duration,
    /// How often it is said who is missing.
    pub reminder: Duration,
    /// How long the rendezvous may take; without end when absent.
    pub join_timeout: Option<Duration>,
    /// How long workers may take to stop after they were asked to.
    pub stop_grace: Duration,
    /// How long the last worker may take to finish after the first.
    pub finish_grace: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_secs(1),
            // Four lost heartbeats; short enough that every process exits within 10 s of a silent loss.
            lease: Duration::from_secs(5),
            // When a process dies, its neighbours' reports and the end of its own connection race each other,
            // over different paths. A second is long for a reset and short for a person.
            settle: Duration::from_secs(1),
            reminder: Duration::from_secs(10),
            // Machines of a cluster may come up hours apart.
            join_timeout: None,
            // A validation that is under way, a step, and an upload. A second signal ends at once.
            stop_grace: Duration::from_secs(300),
            // Ranks finish at the same step; only rank 0 uploads, at worst 1 GiB at 30 Mbit/s.
            finish_grace: Duration::from_secs(300),
        }
    }
}
