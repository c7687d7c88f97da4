//! At most one generation progresses: once a step was applied in a generation, no further one is in an older generation.
//!
//! A step that somebody has applied is done: the other members, who hold all that it takes, may apply it a little later. So may they
//! the one step that was in flight: who goes over to the newer generation had given its part to it, and computes it there again,
//! with the same bits. For the step after it the others need a part that nobody gives.
//!
//! What it has caught: a coordinator that no member reached let a newcomer begin from the checkpoint, while they all trained on.

use std::collections::BTreeMap;

use crate::history::{Entry, Fact};

pub(super) fn check(history: &[Entry]) -> Result<(), String> {
    let mut furthest: BTreeMap<u64, u64> = BTreeMap::new();
    let mut first: BTreeMap<u64, u64> = BTreeMap::new();
    for entry in history {
        let Fact::Applied { generation, step, .. } = entry.fact else {
            continue;
        };
        let done = furthest.get(&generation).copied().unwrap_or_default();
        let next = first.range(generation + 1..).next();
        if let Some((newer, &in_flight)) = next
            && step > done.max(in_flight)
        {
            return Err(format!(
                "{} applied step {step} in generation {generation} at {:.3} s, when generation {newer} had progressed",
                entry.host,
                entry.at.as_secs_f64()
            ));
        }
        furthest.insert(generation, done.max(step));
        first.entry(generation).or_insert(step);
    }
    Ok(())
}

#[test]
fn an_older_generation_that_goes_on_is_found() {
    use crate::history::{applied, made_up};
    let begin = [("a", applied(1, 1)), ("a", applied(2, 2))];
    let ending = |step| {
        let mut all = begin.to_vec();
        all.push(("b", applied(1, step)));
        check(&made_up(&all))
    };
    assert_eq!(ending(1), Ok(()), "a step that was done");
    assert_eq!(ending(2), Ok(()), "the step in flight");
    assert!(ending(3).is_err(), "a step more");
}
