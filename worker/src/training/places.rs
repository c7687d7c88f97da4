//! Where things lie in the vector that travels around the ring in a step.

use std::ops::Range;

use collective::Buckets;
use model::layout::{Group, Layout};
use proto::SumKind;

/// Where things lie in the travelling vector: parameters, buffers, records, control word, checksums.
///
/// Kernels lie first, so that they can travel in another form than the rest: they are nearly all of a gradient. Kernels and
/// other parameters each lie in reverse, the last layer's first: the backward pass finishes them in this order, and what lies
/// first travels first.
#[derive(Clone, Debug)]
pub(super) struct Places {
    /// Lanes of the tensors, in layout order: parameters, then buffers.
    pub(super) tensors: Vec<Range<usize>>,
    /// Where they lie in gradient and statistics, one behind the other in layout order.
    pub(super) values: Vec<Range<usize>>,
    /// Parameter tensors in the order of their lanes.
    pub(super) in_order: Vec<usize>,
    /// Values of all kernels.
    pub(super) kernels: usize,
    /// Values of all parameters.
    pub(super) parameters: usize,
    tensors_end: usize,
    slots: usize,
    record_lanes: usize,
    /// What each checksum covers; none for plain sums.
    pub(super) buckets: Vec<Range<usize>>,
}

impl Places {
    pub(super) fn new(kind: SumKind, layout: &Layout, slots: usize, bucket_bytes: usize) -> Self {
        let parameters = layout.parameters_len();
        let behind = (layout.buffers.iter())
            .map(|tensor| tensor.range.start + parameters..tensor.range.end + parameters);
        let values: Vec<_> = (layout.parameters.iter().map(|tensor| tensor.range.clone()))
            .chain(behind)
            .collect();
        let is_kernel = |tensor: &usize| layout.parameters[*tensor].group == Group::Decay;
        let (kernels, rest): (Vec<_>, Vec<_>) = (0..layout.parameters.len()).rev().partition(is_kernel);
        let in_order = [&kernels[..], &rest].concat();
        // Buffers lie where their values do: behind all parameters.
        let mut tensors = values.clone();
        let mut end = 0;
        for &tensor in &in_order {
            let start = end;
            end += values[tensor].len();
            tensors[tensor] = start..end;
        }
        let record_lanes = match kind {
            SumKind::Exact => NUMBERS + tensors.len().div_ceil(MAGNITUDES_PER_LANE),
            SumKind::F32 => NUMBERS,
        };
        let mut places = Self {
            kernels: kernels.iter().map(|&tensor| values[tensor].len()).sum(),
            tensors,
            values,
            in_order,
            parameters,
            tensors_end: parameters + layout.buffers_len(),
            slots,
            record_lanes,
            buckets: Vec::new(),
        };
        if kind == SumKind::Exact {
            places.buckets = covered_by_checks(places.control().end, bucket_bytes / size_of::<i32>());
        }
        places
    }

    pub(super) fn tensors_end(&self) -> usize {
        self.tensors_end
    }

    pub(super) fn record(&self, slot: usize) -> Range<usize> {
        let start = self.tensors_end() + slot * self.record_lanes;
        start..start + self.record_lanes
    }

    /// The control word: requests to stop, requests for a checkpoint, ranks that hold the next roster, ranks that have a
    /// range under way.
    pub(super) fn control(&self) -> Range<usize> {
        let start = self.record(self.slots).start;
        start..start + CONTROL_LANES
    }

    pub(super) fn checks(&self) -> Range<usize> {
        let start = self.control().end;
        start..start + self.buckets.len()
    }

    pub(super) fn length(&self) -> usize {
        self.checks().end
    }
}

/// Returns what each checksum covers of `covered` values: the bucket in which they travel, with the checksums behind them.
fn covered_by_checks(covered: usize, bucket_len: usize) -> Vec<Range<usize>> {
    assert!(bucket_len > 1, "a bucket must hold more than its checksum");
    let mut checks = 0;
    // So many checksums more make fewer buckets more, so this ends.
    loop {
        let buckets = Buckets::new(covered + checks, bucket_len);
        if buckets.count() == checks {
            return (buckets.iter())
                .map(|bucket| bucket.start.min(covered)..bucket.end.min(covered))
                .collect();
        }
        checks = buckets.count();
    }
}

/// Packs magnitudes, four to a lane.
pub(super) fn pack(magnitudes: &[u8], lanes: &mut [i32]) {
    for (lane, bytes) in lanes.iter_mut().zip(magnitudes.chunks(MAGNITUDES_PER_LANE)) {
        let mut packed = [0; MAGNITUDES_PER_LANE];
        packed[..bytes.len()].copy_from_slice(bytes);
        *lane = i32::from_le_bytes(packed);
    }
}

/// Returns what was packed; at its end zeros where the last lane was not full.
pub(super) fn unpack(lanes: &[i32]) -> impl Iterator<Item = u8> + '_ {
    lanes.iter().flat_map(|lane| lane.to_le_bytes())
}

/// Numbers of a record: normaliser, three losses, images, unreadable images.
pub(super) const NUMBERS: usize = 6;

/// Lanes of the control word.
pub(super) const CONTROL_LANES: usize = 4;

/// Magnitudes are bytes.
const MAGNITUDES_PER_LANE: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_checksum_covers_what_travels_in_a_bucket() {
        for covered in 1..300 {
            for bucket_len in 2..40 {
                let ranges = covered_by_checks(covered, bucket_len);
                let travelling = Buckets::new(covered + ranges.len(), bucket_len);
                assert_eq!(ranges.len(), travelling.count());
                for (range, bucket) in ranges.iter().zip(travelling.iter()) {
                    assert_eq!(*range, bucket.start.min(covered)..bucket.end.min(covered));
                }
            }
        }
    }
}
