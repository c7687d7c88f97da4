//! How long each fault held the run up, from the workers' logs.

use serde_json::Value;
use tests::{steps, unix_seconds};

use crate::faults::Fault;

/// What was done, and when.
#[derive(Default)]
pub(crate) struct Figures {
    injected: Vec<(Fault, f64)>,
}

impl Figures {
    pub(crate) fn injected(&mut self, fault: Fault) {
        self.injected.push((fault, unix_seconds()));
    }

    pub(crate) fn faults(&self) -> u64 {
        self.injected.len() as u64
    }

    /// Prints, for each kind of fault, the time from the fault to the next applied step, less a usual step.
    pub(crate) fn print(&self, logs: &[String], events: &[Value]) {
        let mut applied: Vec<(f64, u64)> = logs
            .iter()
            .flat_map(|log| steps(log))
            .map(|line| (line.time, line.step))
            .collect();
        applied.sort_by(|a, b| a.partial_cmp(b).expect("no time is NaN"));
        // The first rank to apply a step counts.
        let mut newest = 0;
        applied.retain(|(_, step)| {
            let is_new = *step > newest;
            newest = newest.max(*step);
            is_new
        });
        let mut gaps: Vec<f64> = applied.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
        gaps.sort_by(f64::total_cmp);
        let usual = gaps.get(gaps.len() / 2).copied().unwrap_or_default();
        println!("a usual step takes {usual:.3} s");
        for kind in [
            Fault::KillWorker,
            Fault::DrainWorker,
            Fault::FreezeWorker,
            Fault::KillCoordinator,
        ] {
            let mut delays: Vec<f64> = self
                .injected
                .iter()
                .filter(|(fault, _)| *fault == kind)
                .filter_map(|(_, at)| {
                    let next = applied.iter().find(|(time, _)| time > at)?;
                    Some((next.0 - at - usual).max(0.0))
                })
                .collect();
            delays.sort_by(f64::total_cmp);
            let at = |part: f64| {
                delays
                    .get(((delays.len() as f64 - 1.0) * part).round() as usize)
                    .copied()
            };
            if let (Some(median), Some(late), Some(most)) = (at(0.5), at(0.99), at(1.0)) {
                println!(
                    "{kind:?}: {} times, p50 {median:.2} s, p99 {late:.2} s, at most {most:.2} s",
                    delays.len()
                );
            }
        }
        for event in ["generation", "lost", "damaged", "checkpoint", "resumed"] {
            let count = events.iter().filter(|logged| logged["event"] == event).count();
            println!("{event}: {count}");
        }
    }
}
