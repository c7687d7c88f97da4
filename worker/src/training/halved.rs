//! Plain sums in half the bytes: kernels travel as bfloat16, everything else as it is.
//!
//! Nearly all of a gradient is kernels. Scales and biases of batch normalisation, running statistics, slot records and the
//! control word are few and count more, so they keep their 32 bits.

use std::ops::Range;

use collective::{Bf16Sum, CollectiveError, F32Sum};
use model::layout::{Group, Layout};

use super::places::Places;
use crate::ring::Ring;

/// The two vectors that travel instead of one.
#[derive(Clone, Debug)]
pub(super) struct Halved {
    /// Where kernels lie in the whole vector: in order, none beside another.
    kernels: Vec<Range<usize>>,
    narrow: Vec<f32>,
    wide: Vec<f32>,
}

impl Halved {
    pub(super) fn new(layout: &Layout, places: &Places) -> Self {
        let mut kernels: Vec<Range<usize>> = Vec::new();
        // In the order of the lanes.
        for (tensor, lanes) in layout.parameters.iter().zip(&places.tensors).rev() {
            if tensor.group != Group::Decay {
                continue;
            }
            match kernels.last_mut() {
                Some(last) if last.end == lanes.start => last.end = lanes.end,
                _ => kernels.push(lanes.clone()),
            }
        }
        Self {
            kernels,
            narrow: Vec::new(),
            wide: Vec::new(),
        }
    }

    /// Replaces `lanes` by their sums over all ranks; the same bits on every rank.
    pub(super) async fn exchange(
        &mut self,
        step: u64,
        ring: &mut Ring,
        lanes: &mut [f32],
    ) -> Result<(), CollectiveError> {
        self.narrow.clear();
        self.wide.clear();
        let mut rest = 0;
        for kernel in &self.kernels {
            self.wide.extend_from_slice(&lanes[rest..kernel.start]);
            self.narrow.extend_from_slice(&lanes[kernel.clone()]);
            rest = kernel.end;
        }
        self.wide.extend_from_slice(&lanes[rest..]);

        ring.sum::<Bf16Sum>(step, &mut self.narrow).await?;
        ring.sum::<F32Sum>(step, &mut self.wide).await?;

        let (mut narrow, mut wide) = (&self.narrow[..], &self.wide[..]);
        let mut rest = 0;
        for kernel in &self.kernels {
            take(&mut wide, &mut lanes[rest..kernel.start]);
            take(&mut narrow, &mut lanes[kernel.clone()]);
            rest = kernel.end;
        }
        take(&mut wide, &mut lanes[rest..]);
        Ok(())
    }
}

/// Moves the first values of `from` to `into`, as many as fit.
fn take(from: &mut &[f32], into: &mut [f32]) {
    let (first, rest) = from.split_at(into.len());
    into.copy_from_slice(first);
    *from = rest;
}
