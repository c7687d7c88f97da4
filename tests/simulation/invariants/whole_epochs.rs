//! Every epoch's applied samples are a permutation of the data set: each step that counts was summed from each of its samples
//! exactly once.
//!
//! A step counts in the generation that it was applied in last: an earlier one is of a lineage that died out.
//!
//! What it has caught, put in on purpose: a rank 0 that leaves out its last slot (40 of 40 seeds).

use std::collections::{BTreeMap, BTreeSet};

use data::Plan;

use crate::history::{Entry, Fact};

/// What the members of one generation computed for one step: their slots, by host.
type Slots = BTreeMap<(String, u32), Vec<u32>>;

pub(super) fn check(history: &[Entry], plan: &Plan) -> Result<(), String> {
    let mut places: BTreeMap<&str, u64> = BTreeMap::new();
    let mut computed: BTreeMap<(u64, u64), Slots> = BTreeMap::new();
    let mut applied_in: BTreeMap<u64, u64> = BTreeMap::new();
    for entry in history {
        match &entry.fact {
            Fact::Began => {
                places.remove(entry.host.as_str());
            }
            Fact::TookPlace { generation } => {
                places.insert(&entry.host, *generation);
            }
            Fact::Contributed { step, slot, samples } => {
                let generation = places.get(entry.host.as_str()).copied().unwrap_or_default();
                let slots = computed.entry((generation, *step)).or_default();
                slots.insert((entry.host.clone(), *slot), samples.clone());
            }
            Fact::Applied { generation, step, .. } => {
                applied_in.insert(step - 1, *generation);
            }
            Fact::Copied { .. } | Fact::Ended { .. } => {}
        }
    }
    let mut epochs: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (step, generation) in applied_in {
        let slots = computed.remove(&(generation, step)).unwrap_or_default();
        let mut seen = BTreeSet::new();
        for (host, slot) in slots.keys() {
            if !seen.insert(*slot) {
                return Err(format!(
                    "slot {slot} of step {step} was computed twice, by {host} too"
                ));
            }
        }
        let planned = plan
            .step(step)
            .ok_or_else(|| format!("step {step} is not planned"))?;
        let epoch = epochs.entry(planned.epoch).or_default();
        epoch.extend(slots.into_values().flatten());
        if planned.is_last_of_epoch {
            epoch.sort_unstable();
            let whole: Vec<u32> = (0..plan.config().dataset_len as u32).collect();
            if *epoch != whole {
                return Err(format!("epoch {} used {epoch:?}", planned.epoch));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{applied, made_up};

    fn plan() -> Plan {
        Plan::new(data::PlanConfig {
            dataset_len: 4,
            batch: 4,
            micro_batch: 2,
            nominal_batch: 4,
            epochs: 2,
            warmup_epochs: 0.0,
            seed: 0,
            close_mosaic: 0,
            image_size: 32,
            multi_scale: 0.0,
        })
        .unwrap()
    }

    fn slot(slot: u32, samples: &[u32]) -> Fact {
        Fact::Contributed {
            step: 0,
            slot,
            samples: samples.to_vec(),
        }
    }

    #[test]
    fn a_sample_that_is_lost_or_used_twice_is_found() {
        let place = |host, generation| (host, Fact::TookPlace { generation });
        let begin = vec![place("a", 1), place("b", 1), ("a", slot(0, &[0, 1]))];
        let ending = |facts: &[(&'static str, Fact)]| {
            let mut all = begin.clone();
            all.extend_from_slice(facts);
            all.push(("a", applied(1, 1)));
            check(&made_up(&all), &plan())
        };
        assert_eq!(ending(&[("b", slot(1, &[2, 3]))]), Ok(()));
        // A step that is computed again.
        assert_eq!(
            ending(&[("b", slot(1, &[2, 3])), ("b", slot(1, &[2, 3]))]),
            Ok(())
        );
        assert!(ending(&[]).is_err(), "a lost slot");
        assert!(ending(&[("b", slot(1, &[2, 2]))]).is_err(), "a sample twice");
        assert!(
            ending(&[("b", slot(1, &[2, 3])), ("b", slot(0, &[0, 1]))]).is_err(),
            "a slot twice"
        );
        assert!(
            ending(&[place("b", 2), ("b", slot(1, &[2, 3]))]).is_err(),
            "a slot of another generation"
        );
    }
}
