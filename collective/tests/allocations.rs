//! Once its buffers are there, an all-reduce asks for hardly any memory.

#![allow(clippy::unwrap_used, reason = "a failed test may panic, also in its helpers")]

mod support;

use collective::{AllReduce, F32Sum, I32Sum, OperationId, PayloadPool, PieceSizes, Reduction, WINDOW};
use peak_alloc::PeakAlloc;
use support::{Simulation, groups, integers};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Not a whole number of segments: payloads differ in length.
const VALUES: usize = (1 << 20) + (1 << 12);

/// Runs one all-reduce of all ranks, and returns by how many bytes it raised the memory in use at most.
fn growth<R: Reduction>(step: u64, vectors: &mut [Vec<R::Element>], pools: &mut [PayloadPool]) -> usize {
    let groups = groups(vectors.len());
    let operation = OperationId { step, number: 0 };
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let mut ranks: Vec<_> = (groups.iter())
        .zip(vectors.iter_mut().zip(pools))
        .map(|(group, (values, pool))| {
            AllReduce::<R>::new(group, operation, values, PieceSizes::default(), pool)
        })
        .collect();
    assert!(Simulation::new(&mut ranks, WINDOW as usize).run(|_| 0));
    MEMORY.peak_usage() - before
}

fn check<R: Reduction>(values: impl Fn(usize) -> Vec<R::Element>) {
    for world_size in [2, 4] {
        let mut vectors: Vec<_> = (0..world_size).map(&values).collect();
        let mut pools: Vec<_> = (0..world_size).map(|_| PayloadPool::new()).collect();
        let first = growth::<R>(0, &mut vectors, &mut pools);
        // The buffers: that they are seen shows that the measure can fail.
        assert!(first > VALUES / 4, "{first} bytes");
        for step in 1..4 {
            let growth = growth::<R>(step, &mut vectors, &mut pools);
            println!(
                "{world_size} ranks, step {step}: {growth} bytes of {}",
                4 * VALUES
            );
            // Schedules, queues and the headers of segments on their way.
            assert!(growth < 16 << 10, "{growth} bytes");
        }
    }
}

#[test]
fn a_second_sum_uses_the_buffers_of_the_first() {
    check::<I32Sum>(|rank| integers(rank, VALUES));
    check::<F32Sum>(|rank| vec![rank as f32; VALUES]);
}
