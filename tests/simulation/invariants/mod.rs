//! What must hold in every history, one file each.
//!
//! Each says which bug it has caught: one that was put in on purpose, seen to fail, and taken out again.

mod contiguous_steps;
mod equal_states;
mod liveness;
mod one_generation;
mod whole_epochs;

use data::Plan;

use crate::world::Outcome;

/// What the run of one worker without any fault is: the measure of all others.
pub(crate) struct Measure {
    /// The samples of each step.
    pub(crate) plan: Plan,
    /// Hash of the state after each step, the first one after the first step.
    pub(crate) hashes: Vec<String>,
}

/// Checks all invariants.
///
/// # Errors
/// One sentence for each that does not hold.
pub(crate) fn check(outcome: &Outcome, measure: &Measure) -> Result<(), Vec<String>> {
    let history = &outcome.history;
    let checked = [
        (
            "at most one generation progresses",
            one_generation::check(history),
        ),
        ("applied steps are contiguous", contiguous_steps::check(history)),
        (
            "every epoch uses every sample once",
            whole_epochs::check(history, &measure.plan),
        ),
        ("states are equal", equal_states::check(history, &measure.hashes)),
        (
            "the run comes to its end",
            liveness::check(outcome, measure.hashes.len() as u64),
        ),
    ];
    let broken: Vec<String> = checked
        .into_iter()
        .filter_map(|(what, result)| result.err().map(|how| format!("{what}: {how}")))
        .collect();
    if broken.is_empty() { Ok(()) } else { Err(broken) }
}
