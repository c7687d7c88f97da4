//! All ranks' states are equal at each step, and equal to that of a single worker that nothing happened to.
//!
//! What it has caught, put in on purpose: the same left-out slot, for gradients are then those of other samples.

use crate::history::{Entry, Fact};

/// `hashes` are those of the undisturbed run, the first one after the first step.
pub(super) fn check(history: &[Entry], hashes: &[String]) -> Result<(), String> {
    for entry in history {
        let Fact::Applied { step, hash, .. } = &entry.fact else {
            continue;
        };
        let expected = usize::try_from(*step - 1)
            .ok()
            .and_then(|index| hashes.get(index));
        if expected != Some(hash) {
            return Err(format!(
                "{} has {hash} after step {step} at {:.3} s, which should be {}",
                entry.host,
                entry.at.as_secs_f64(),
                expected.map_or("the end", String::as_str)
            ));
        }
    }
    Ok(())
}

#[test]
fn a_state_that_differs_is_found() {
    use crate::history::{applied, made_up};
    let hashes = ["state 1", "state 2"].map(str::to_owned);
    let good = [("a", applied(1, 1)), ("b", applied(1, 1)), ("b", applied(1, 2))];
    assert_eq!(check(&made_up(&good), &hashes), Ok(()));
    let odd = Fact::Applied {
        generation: 1,
        step: 1,
        hash: "odd".into(),
    };
    assert!(check(&made_up(&[("a", odd)]), &hashes).is_err());
    assert!(check(&made_up(&[("a", applied(1, 3))]), &hashes).is_err());
}
