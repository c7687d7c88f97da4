//! How a flat vector is cut: buckets, then one chunk per rank, then segments.
//!
//! A bucket is reduced as a whole before the next one, so that its values are still in the cache when they
//! are copied back. A chunk is what one rank sums up. A segment is what one message carries: small enough
//! that a hop starts while the one before it is still arriving.

use std::ops::Range;

use crate::id::Phase;
use crate::schedule::Chunks;
use crate::segment::MAX_SEGMENT_BYTES;

/// How large buckets and segments may be. All ranks must use the same sizes.
///
/// # Units
///
/// Bytes on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PieceSizes {
    bucket_bytes: usize,
    segment_bytes: usize,
}

impl PieceSizes {
    /// Checks and keeps the sizes.
    ///
    /// # Errors
    ///
    /// A size under 8 bytes (the longest number that travels), or a segment over [`MAX_SEGMENT_BYTES`].
    pub fn new(bucket_bytes: usize, segment_bytes: usize) -> Result<Self, PieceSizesError> {
        if bucket_bytes < MIN_PIECE_BYTES {
            return Err(PieceSizesError::BucketTooSmall { got: bucket_bytes });
        }
        if !(MIN_PIECE_BYTES..=MAX_SEGMENT_BYTES).contains(&segment_bytes) {
            return Err(PieceSizesError::SegmentOutOfRange { got: segment_bytes });
        }
        Ok(Self {
            bucket_bytes,
            segment_bytes,
        })
    }

    /// The largest bucket.
    pub fn bucket_bytes(&self) -> usize {
        self.bucket_bytes
    }

    /// The largest segment.
    pub fn segment_bytes(&self) -> usize {
        self.segment_bytes
    }
}

impl Default for PieceSizes {
    /// Segments of 512 KiB: they fit a core's second-level cache, and threads wake each other half as often as with half the
    /// size. Buckets of 16 MiB: with up to 32 ranks a chunk of a whole one is at least one whole segment.
    fn default() -> Self {
        Self {
            bucket_bytes: 16 << 20,
            segment_bytes: 512 << 10,
        }
    }
}

/// A vector of `len` values as contiguous buckets of at most `bucket_len` values, the last ones ever shorter.
///
/// A bucket is at most half of what is left from its start on, down to an eighth of `bucket_len`, and the last one is the
/// rest: large buckets keep every link busy, and of a vector whose last values come late little is left to do then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buckets {
    len: usize,
    bucket_len: usize,
    /// Buckets of `bucket_len` values.
    whole: usize,
    /// How often what they leave is cut in half.
    halvings: usize,
}

impl Buckets {
    /// Cuts `0..len`.
    ///
    /// # Panics
    ///
    /// When `bucket_len` is 0, or so small that bucket numbers do not fit into 32 bits.
    pub fn new(len: usize, bucket_len: usize) -> Self {
        assert!(bucket_len > 0, "a bucket holds at least one value");
        let whole = len.saturating_sub(bucket_len).saturating_sub(1) / bucket_len;
        assert!(
            whole < (u32::MAX - usize::BITS) as usize,
            "{len} values in buckets of {bucket_len} are too many buckets"
        );
        let rest = len - whole * bucket_len;
        let shortest = bucket_len.div_ceil(SHORTEST_PART);
        let halvings = (1..).take_while(|&halvings| rest >> halvings >= shortest).count();
        Self {
            len,
            bucket_len,
            whole,
            halvings,
        }
    }

    /// The number of buckets; 0 for an empty vector.
    pub fn count(&self) -> usize {
        if self.len == 0 {
            0
        } else {
            self.whole + self.halvings + 1
        }
    }

    /// The values of bucket `bucket`; empty beyond the last.
    pub fn range(&self, bucket: usize) -> Range<usize> {
        self.start(bucket)..self.start(bucket.saturating_add(1))
    }

    /// All buckets' values, in order.
    pub fn iter(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let buckets = *self;
        (0..buckets.count()).map(move |bucket| buckets.range(bucket))
    }

    /// The number of buckets that lie within the first `values` values.
    pub fn within(&self, values: usize) -> usize {
        self.iter().take_while(|bucket| bucket.end <= values).count()
    }

    /// Where a bucket starts; the vector's end for those beyond the last.
    fn start(&self, bucket: usize) -> usize {
        let rest = self.len - self.whole * self.bucket_len;
        match bucket.saturating_sub(self.whole) {
            0 => bucket * self.bucket_len,
            halvings if halvings <= self.halvings => self.len - (rest >> halvings),
            _ => self.len,
        }
    }
}

/// Buckets, each cut into one chunk per rank: what an all-reduce moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketChunks {
    /// The buckets of the vector.
    pub buckets: Buckets,
    /// The number of ranks, and of chunks in a bucket.
    pub world_size: usize,
}

impl Chunks for BucketChunks {
    const PHASES: &'static [Phase] = &[Phase::ReduceScatter, Phase::AllGather];

    fn bucket_count(&self) -> usize {
        self.buckets.count()
    }

    fn range(&self, bucket: usize, chunk: usize) -> Range<usize> {
        let bucket = self.buckets.range(bucket);
        let chunk = chunk_range(bucket.len(), self.world_size, chunk);
        bucket.start + chunk.start..bucket.start + chunk.end
    }

    fn longest(&self, bucket: usize) -> usize {
        self.range(bucket, 0).len()
    }
}

/// The values of chunk `chunk` when `len` values are cut into `world_size` contiguous chunks.
///
/// Lengths differ by at most one, the longer chunks come first, and chunks are empty when there are fewer
/// values than ranks.
///
/// # Panics
///
/// When `chunk` is not below `world_size`.
pub fn chunk_range(len: usize, world_size: usize, chunk: usize) -> Range<usize> {
    assert!(
        chunk < world_size,
        "chunk {chunk} does not exist in a world of {world_size}"
    );
    let (short, longer) = (len / world_size, len % world_size);
    let start = chunk * short + chunk.min(longer);
    start..start + short + usize::from(chunk < longer)
}

/// Buckets are halved down to this part of the largest.
const SHORTEST_PART: usize = 8;

const MIN_PIECE_BYTES: usize = 8;

/// Why [`PieceSizes`] cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PieceSizesError {
    /// A bucket that cannot hold one number.
    #[error("a bucket of {got} bytes is too small: at least {MIN_PIECE_BYTES} are needed")]
    BucketTooSmall {
        /// The size that was asked for.
        got: usize,
    },
    /// A segment that cannot hold one number, or that is over the limit.
    #[error(
        "segments of {got} bytes are out of range: {MIN_PIECE_BYTES} to {MAX_SEGMENT_BYTES} are possible"
    )]
    SegmentOutOfRange {
        /// The size that was asked for.
        got: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_partition_a_vector_and_differ_by_at_most_one() {
        for world_size in 1..=64 {
            for len in 0..200 {
                let chunks: Vec<_> = (0..world_size)
                    .map(|chunk| chunk_range(len, world_size, chunk))
                    .collect();
                assert_eq!((chunks[0].start, chunks[world_size - 1].end), (0, len));
                assert!(chunks.windows(2).all(|pair| pair[0].end == pair[1].start));
                assert!(chunks.iter().all(|chunk| chunks[0].len() - chunk.len() <= 1));
            }
        }
    }

    #[test]
    fn buckets_partition_a_vector_and_the_last_ones_are_halves_of_what_is_left() {
        for len in 0..200 {
            for bucket_len in 1..70 {
                let buckets = Buckets::new(len, bucket_len);
                let values: Vec<usize> = buckets.iter().flatten().collect();
                assert_eq!(values, (0..len).collect::<Vec<_>>());
                let lengths: Vec<usize> = buckets.iter().map(|range| range.len()).collect();
                assert!(lengths.iter().all(|&length| (1..=bucket_len).contains(&length)));
                let halves = lengths
                    .iter()
                    .position(|&length| length < bucket_len)
                    .unwrap_or(lengths.len());
                for bucket in halves..lengths.len().saturating_sub(1) {
                    let left: usize = lengths[bucket..].iter().sum();
                    assert_eq!(lengths[bucket], left.div_ceil(2), "{lengths:?}");
                }
                let shortest = bucket_len.div_ceil(SHORTEST_PART);
                assert!(lengths.last().is_none_or(|&last| last < 2 * shortest));
                assert!(buckets.range(buckets.count()).is_empty());
            }
        }
    }

    #[test]
    fn buckets_of_a_gradient() {
        let lengths: Vec<usize> = Buckets::new(44, 16).iter().map(|range| range.len()).collect();
        assert_eq!(lengths, [16, 14, 7, 4, 3]);
    }

    #[test]
    fn buckets_within_the_first_values_are_those_that_end_there() {
        for len in 0..90 {
            for bucket_len in 1..40 {
                let buckets = Buckets::new(len, bucket_len);
                for values in 0..=len + 1 {
                    let within = buckets.iter().filter(|range| range.end <= values).count();
                    assert_eq!(buckets.within(values), within);
                }
            }
        }
    }

    #[test]
    fn sizes_out_of_range_are_refused() {
        assert_eq!(
            PieceSizes::new(7, 8),
            Err(PieceSizesError::BucketTooSmall { got: 7 })
        );
        assert_eq!(
            PieceSizes::new(8, 7),
            Err(PieceSizesError::SegmentOutOfRange { got: 7 })
        );
        assert_eq!(
            PieceSizes::new(8, MAX_SEGMENT_BYTES + 1),
            Err(PieceSizesError::SegmentOutOfRange {
                got: MAX_SEGMENT_BYTES + 1
            })
        );
        assert!(PieceSizes::new(8, MAX_SEGMENT_BYTES).is_ok());
    }
}
