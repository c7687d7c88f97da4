//! Send buffers that are used again, so that a step in steady state allocates nothing.
//!
//! A payload is shared with the link until the link has written it. The pool keeps a second handle on each;
//! once that handle is the only one left, the buffer is free.

use bytes::{Bytes, BytesMut};

use crate::error::RingError;
use crate::payload::{Payload, values_per_block};
use crate::reduction::Reduction;
use crate::schedule::LINK_CAPACITY;
use crate::segment::Segment;

/// Buffers for the payloads that one rank encodes. Keep one for as long as a ring lives.
#[derive(Debug, Default)]
pub struct PayloadPool {
    /// Whole buffers, the one used last at the end.
    buffers: Vec<Bytes>,
    /// Bytes of the longest payload so far. Every buffer has as many, so that none grows when it is used again.
    longest: usize,
}

impl PayloadPool {
    /// A pool without buffers; they are made when they are first needed.
    pub fn new() -> Self {
        Self::default()
    }

    /// The encoding of `values`, in a buffer that nobody else holds.
    pub fn encode<R: Reduction>(&mut self, values: &[R::Element]) -> Payload {
        let mut parts = values.chunks(values_per_block::<R>());
        self.fill(values.len() * R::WIRE_BYTES, |block| {
            // Invariant: as many parts as blocks.
            R::encode(parts.next().expect("values for a block"), block);
        })
    }

    /// The encoding of the sums of `values` and those in a segment, in a buffer that nobody else holds.
    ///
    /// # Errors
    ///
    /// When the segment was damaged.
    ///
    /// # Panics
    ///
    /// When the segment does not hold exactly `values.len()` values.
    pub(crate) fn encode_sums<R: Reduction>(
        &mut self,
        values: &[R::Element],
        segment: &Segment,
    ) -> Result<Payload, RingError> {
        let length = values.len() * R::WIRE_BYTES;
        assert_eq!(
            segment.payload().len(),
            length,
            "as many bytes as the values have"
        );
        let mut blocks = segment.blocks();
        let mut parts = values.chunks(values_per_block::<R>()).zip(&mut blocks);
        let sums = self.fill(length, |block| {
            // Invariant: as many parts as blocks.
            let (values, received) = parts.next().expect("values for a block");
            R::encode_sums(values, received, block);
        });
        segment.verified(blocks)?;
        Ok(sums)
    }

    fn fill(&mut self, length: usize, make: impl FnMut(&mut [u8])) -> Payload {
        let mut buffer = self.take_free();
        self.longest = self.longest.max(length);
        buffer.resize(self.longest, 0);
        let (payload, buffer) = Payload::make(buffer, length, make);
        if self.buffers.len() < MAX_POOLED_BUFFERS {
            self.buffers.push(buffer);
        }
        payload
    }

    /// The free buffer that was used last: most of it is still in a cache.
    fn take_free(&mut self) -> BytesMut {
        let free = self.buffers.iter().rposition(Bytes::is_unique);
        if let Some(Ok(buffer)) = free.map(|free| self.buffers.remove(free).try_into_mut()) {
            return buffer;
        }
        let mut buffer = BytesMut::new();
        // Splitting makes the buffer a counted one from the start; otherwise every freeze would allocate a
        // counter.
        let _ = buffer.split();
        buffer
    }
}

/// The most buffers a pool keeps: what two full links hold. Beyond that, buffers are made and dropped: with chunks of more segments, of
/// which sums may wait to be sent.
const MAX_POOLED_BUFFERS: usize = 2 * LINK_CAPACITY;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reduction::I32Sum;

    #[test]
    fn a_buffer_is_used_again_once_its_payload_was_dropped() {
        let mut pool = PayloadPool::new();
        let first = pool.encode::<I32Sum>(&[1, 2, 3]);
        let second = pool.encode::<I32Sum>(&[4, 5, 6]);
        assert_eq!(second[..4], [4, 0, 0, 0]);
        let address = first.as_ptr();
        drop(first);
        for round in 0..10 {
            let payload = pool.encode::<I32Sum>(&[round, 8, 9]);
            assert_eq!(payload.as_ptr(), address);
            assert_eq!(payload.len(), 12);
        }
        assert_eq!(second[..4], [4, 0, 0, 0]);
    }

    #[test]
    fn the_free_buffer_that_was_used_last_is_used_again_also_for_a_shorter_payload() {
        let mut pool = PayloadPool::new();
        let [first, second, third] = [1, 2, 3].map(|value| pool.encode::<I32Sum>(&[value; 3]));
        let addresses = [&first, &second].map(|payload| payload.as_ptr());
        drop((first, second));
        let shorter = pool.encode::<I32Sum>(&[8]);
        assert_eq!(shorter[..], [8, 0, 0, 0]);
        let longer = pool.encode::<I32Sum>(&[9; 3]);
        assert_eq!([&longer, &shorter].map(|payload| payload.as_ptr()), addresses);
        assert_eq!(longer, Payload::from(Bytes::copy_from_slice(&longer)));
        assert_eq!(third[..4], [3, 0, 0, 0]);
    }

    #[test]
    fn a_pool_stays_bounded_when_payloads_are_kept() {
        let mut pool = PayloadPool::new();
        let kept: Vec<Payload> = (0..200).map(|value| pool.encode::<I32Sum>(&[value])).collect();
        assert_eq!(pool.buffers.len(), MAX_POOLED_BUFFERS);
        assert!(
            (0i32..200)
                .zip(&kept)
                .all(|(value, payload)| payload[..] == value.to_le_bytes())
        );
    }
}
