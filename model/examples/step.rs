//! Seconds per training step without a loss: `step MODEL IMAGE_SIZE BATCH STEPS [DEVICE] [THREADS]`.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use model::device::{on_pool, open_device};
use model::kind::ModelKind;
use model::layout::FlatState;
use model::yolo::{Forward, Yolo};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |index: usize, default: &str| {
        let given = arguments.get(index).cloned();
        given.unwrap_or_else(|| default.to_owned())
    };
    let kind: ModelKind = argument(0, "yolov8n").parse()?;
    let size: usize = argument(1, "320").parse()?;
    let batch: usize = argument(2, "4").parse()?;
    let steps: u32 = argument(3, "5").parse()?;
    let threads: NonZeroUsize = argument(5, "1").parse()?;
    let device = open_device(&argument(4, "auto"), Some(threads))?;

    let mut yolo = Yolo::new(kind.with_classes(80), &device);
    let state = yolo.initial_state(0);
    let pixels: Vec<u8> = (0..batch * 3 * size * size)
        .map(|index| (index * 31 % 251) as u8)
        .collect();
    let mut spent = [Duration::ZERO; 4];
    for step in 0..=steps {
        let laps = on_pool(&device, || {
            one_step(&mut yolo, &state, &pixels, [batch, size, size])
        });
        // The first step fills caches and thread pools.
        if step > 0 {
            for (spent, lap) in spent.iter_mut().zip(laps) {
                *spent += lap;
            }
        }
    }
    let [load, forward, backward, read] = spent.map(|part| part.as_secs_f64() / f64::from(steps));
    println!(
        "{kind} {size}px batch {batch} threads {threads}: {:.3} s/step \
         (load {load:.3}, forward {forward:.3}, backward {backward:.3}, read {read:.3})",
        load + forward + backward + read
    );
    Ok(())
}

/// Returns what loading, forward, backward, and reading took.
fn one_step(yolo: &mut Yolo, state: &FlatState, pixels: &[u8], shape: [usize; 3]) -> [Duration; 4] {
    let device = yolo.device().clone();
    let mut clock = Instant::now();
    let mut lap = || {
        device.sync().expect("the device works");
        std::mem::replace(&mut clock, Instant::now()).elapsed()
    };
    yolo.load(&state.parameters, &state.buffers);
    let load = lap();
    let Forward {
        output,
        statistics,
        trace,
    } = yolo.train_forward(yolo.images(pixels, shape));
    let forward = lap();
    let gradient = yolo.backward(trace, &(output.distances.sum() + output.scores.sum()));
    let backward = lap();
    let values = gradient.into_iter().chain(statistics.into_vec());
    assert!(values.into_iter().all(f32::is_finite));
    [load, forward, backward, lap()]
}
