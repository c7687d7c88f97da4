//! Send buffers that are used again, so that a step in steady state allocates nothing.
//!
//! A payload is shared with the link until the link has written it. The pool keeps a second handle on each;
//! once that handle is the only one left, the buffer is free.

use bytes::{Bytes, BytesMut};

use crate::reduction::Reduction;
use crate::schedule::LINK_CAPACITY;

/// Buffers for the payloads that one rank encodes. Keep one for as long as a ring lives.
#[derive(Debug, Default)]
pub struct PayloadPool {
    payloads: Vec<Bytes>,
    /// Bytes of the longest payload so far. Every buffer holds as many, so that none grows when it is used again.
    longest: usize,
}

impl PayloadPool {
    /// A pool without buffers; they are made when they are first needed.
    pub fn new() -> Self {
        Self::default()
    }

    /// The encoding of `values`, in a buffer that nobody else holds.
    pub fn encode<R: Reduction>(&mut self, values: &[R::Element]) -> Bytes {
        let mut buffer = self.take_free();
        buffer.clear();
        self.longest = self.longest.max(values.len() * R::WIRE_BYTES);
        buffer.reserve(self.longest);
        R::encode(values, &mut buffer);
        let payload = buffer.freeze();
        if self.payloads.len() < MAX_POOLED_PAYLOADS {
            self.payloads.push(payload.clone());
        }
        payload
    }

    fn take_free(&mut self) -> BytesMut {
        let free = self.payloads.iter().position(Bytes::is_unique);
        if let Some(Ok(buffer)) = free.map(|free| self.payloads.swap_remove(free).try_into_mut()) {
            return buffer;
        }
        let mut buffer = BytesMut::new();
        // Splitting makes the buffer a counted one from the start; otherwise every freeze would allocate a
        // counter.
        let _ = buffer.split();
        buffer
    }
}

/// The most buffers a pool keeps: what two full links hold. Beyond that, buffers are made and dropped.
const MAX_POOLED_PAYLOADS: usize = 2 * LINK_CAPACITY;

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
    fn a_pool_stays_bounded_when_payloads_are_kept() {
        let mut pool = PayloadPool::new();
        let kept: Vec<Bytes> = (0..200).map(|value| pool.encode::<I32Sum>(&[value])).collect();
        assert_eq!(pool.payloads.len(), MAX_POOLED_PAYLOADS);
        assert!(
            (0i32..200)
                .zip(&kept)
                .all(|(value, payload)| payload[..] == value.to_le_bytes())
        );
    }
}
