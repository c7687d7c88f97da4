//! How far one rank has come in its schedule: the next transfer to send, and the one that is awaited.

use crate::schedule::{Chunks, Schedule, Transfer, Transfers};

/// A rank's position among its sends and its receives.
#[derive(Debug)]
pub(crate) struct Progress<C> {
    sends: Transfers<C>,
    receives: Transfers<C>,
    next_send: Option<Transfer>,
    awaited: Option<Transfer>,
    /// Buckets before this one may travel; all, unless they are held.
    released: u32,
}

impl<C: Chunks> Progress<C> {
    pub(crate) fn start(schedule: &Schedule<C>, rank: usize) -> Self {
        let (mut sends, mut receives) = (schedule.sends(rank), schedule.receives(rank));
        Self {
            next_send: sends.next(),
            awaited: receives.next(),
            sends,
            receives,
            released: u32::MAX,
        }
    }

    /// Lets no bucket travel before it is released.
    pub(crate) fn hold(&mut self) {
        self.released = 0;
    }

    /// Lets the buckets before `released` travel.
    pub(crate) fn release(&mut self, released: u32) {
        self.released = self.released.max(released);
    }

    /// Steps to the next send, and gives the one that is ready now, if any.
    pub(crate) fn take_ready(&mut self) -> Option<Transfer> {
        let received_before = self.awaited.as_ref().map_or(u64::MAX, |transfer| transfer.tick);
        let ready = self
            .next_send
            .take_if(|transfer| transfer.after <= received_before && transfer.bucket < self.released)?;
        self.next_send = self.sends.next();
        Some(ready)
    }

    /// The transfer that comes next from the left neighbour, if any is left.
    pub(crate) fn awaited(&self) -> Option<&Transfer> {
        self.awaited.as_ref()
    }

    /// Whether there is one that may come: its bucket was released.
    pub(crate) fn can_receive(&self) -> bool {
        self.awaited()
            .is_some_and(|transfer| transfer.bucket < self.released)
    }

    /// Counts the awaited transfer as received.
    pub(crate) fn receive(&mut self) {
        self.awaited = self.receives.next();
    }

    pub(crate) fn is_done(&self) -> bool {
        // A rank alone has nothing to send, and still all to wait for.
        self.released == u32::MAX && self.next_send.is_none() && self.awaited.is_none()
    }
}
