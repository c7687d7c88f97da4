//! Applied steps are contiguous: each process applies the step that follows from the state it has, and no other; what it
//! copies is a state that somebody had, and never an older one than its own.
//!
//! What it has caught, put in on purpose: a meeting at which the smallest step wins (27 of 40 seeds; all else held, for states
//! that are done again have the same bits).

use std::collections::BTreeMap;

use crate::history::{Entry, Fact};

pub(super) fn check(history: &[Entry]) -> Result<(), String> {
    let mut steps: BTreeMap<&str, u64> = BTreeMap::new();
    let mut furthest = 0;
    for entry in history {
        let own = steps.entry(&entry.host).or_insert(0);
        let bad = |how: String| {
            let at = entry.at.as_secs_f64();
            Err(format!("{} {how} at {at:.3} s", entry.host))
        };
        match entry.fact {
            Fact::Began => *own = 0,
            Fact::Applied { step, .. } if step == *own + 1 => *own = step,
            Fact::Applied { step, .. } => {
                return bad(format!("applied step {step} to a state of {own} steps"));
            }
            Fact::Copied { step } if step > furthest => {
                return bad(format!("copied a state of {step} steps, which nobody has had"));
            }
            Fact::Copied { step } if step < *own => {
                return bad(format!("gave up a state of {own} steps for one of {step}"));
            }
            Fact::Copied { step } => *own = step,
            Fact::TookPlace { .. } | Fact::Contributed { .. } | Fact::Ended { .. } => {}
        }
        furthest = furthest.max(*own);
    }
    Ok(())
}

#[test]
fn a_step_that_is_left_out_done_twice_or_given_up_is_found() {
    use crate::history::{applied, made_up};
    let one = ("a", applied(1, 1));
    let copied = |step| ("b", Fact::Copied { step });
    let cases = [
        (
            vec![one.clone(), ("a", applied(1, 2)), copied(2), ("b", applied(2, 3))],
            true,
        ),
        (vec![one.clone(), ("a", Fact::Began), ("a", applied(2, 1))], true),
        (vec![one.clone(), one.clone()], false),
        (vec![one.clone(), ("a", applied(1, 3))], false),
        (vec![one.clone(), copied(2)], false),
        (vec![one, ("a", applied(1, 2)), copied(2), copied(1)], false),
    ];
    for (facts, is_good) in cases {
        assert_eq!(check(&made_up(&facts)).is_ok(), is_good, "{facts:?}");
    }
}
