//! At most one generation progresses: once a step was applied in a generation, no further one is in an older generation.
//!
//! A step that somebody has applied is done: the other members, who hold all that it takes, may apply it a little later.
//!
//! What it has caught: a coordinator that no member reached let a newcomer begin from the checkpoint, while they all trained on.

use std::collections::BTreeMap;

use crate::history::{Entry, Fact};

pub(super) fn check(history: &[Entry]) -> Result<(), String> {
    let mut furthest: BTreeMap<u64, u64> = BTreeMap::new();
    for entry in history {
        let Fact::Applied { generation, step, .. } = entry.fact else {
            continue;
        };
        let newest = furthest.keys().next_back().copied().unwrap_or_default();
        let done = furthest.get(&generation).copied().unwrap_or_default();
        if generation < newest && step > done {
            return Err(format!(
                "{} applied step {step} in generation {generation} at {:.3} s, when generation {newest} had progressed",
                entry.host,
                entry.at.as_secs_f64()
            ));
        }
        furthest.insert(generation, done.max(step));
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
    assert!(ending(2).is_err(), "a step more");
}
