//! After the last fault the run comes to its end: all steps are applied, the coordinator says that it is completed, and
//! nobody is left behind.
//!
//! What it has caught: a coordinator that was started again and waited for workers that had told the one before that they were
//! done; a planned generation that one rank skipped; checkpoints that never completed, for each rank left out another.

use crate::history::Fact;
use crate::world::Outcome;

pub(super) fn check(outcome: &Outcome, steps: u64) -> Result<(), String> {
    if !outcome.running.is_empty() {
        let running: Vec<String> = outcome.running.iter().map(ToString::to_string).collect();
        return Err(format!(
            "after {:.0} s, {} had not ended",
            outcome.took.as_secs_f64(),
            running.join(" and ")
        ));
    }
    let furthest = outcome.history.iter().filter_map(|entry| match entry.fact {
        Fact::Applied { step, .. } => Some(step),
        _ => None,
    });
    if furthest.max() != Some(steps) {
        return Err(format!("not all of the {steps} steps were applied"));
    }
    let verdicts: Vec<&str> = outcome
        .history
        .iter()
        .filter_map(|entry| match &entry.fact {
            Fact::Ended { how } if entry.host == "coordinator" => Some(how.as_str()),
            _ => None,
        })
        .collect();
    // The second is said by a coordinator that was started again after it had written down the end.
    if verdicts
        .iter()
        .any(|verdict| verdict.starts_with("completed") || verdict.contains("has ended: completed"))
    {
        return Ok(());
    }
    Err(format!("the coordinator said {verdicts:?}"))
}

#[test]
fn a_run_that_hangs_or_fails_is_found() {
    use std::time::Duration;

    use crate::faults::Host;
    use crate::history::{applied, made_up};
    let outcome = |how: &str, running: &[Host]| Outcome {
        history: made_up(&[
            ("worker-0", applied(1, 1)),
            ("coordinator", Fact::Ended { how: how.into() }),
        ]),
        lines: Vec::new(),
        running: running.to_vec(),
        began: 0,
        took: Duration::ZERO,
    };
    assert_eq!(check(&outcome("completed", &[]), 1), Ok(()));
    assert!(check(&outcome("completed", &[]), 2).is_err());
    assert!(check(&outcome("failed", &[]), 1).is_err());
    assert!(check(&outcome("completed", &[Host::Worker(1)]), 1).is_err());
}
