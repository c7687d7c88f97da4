//! Whole states between processes: what is offered to peers, and how one is fetched.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use proto::{Generation, ImageHeader, WorkerId};
use tokio::sync::watch;

use crate::training::meeting::Standing;

/// A future of a part of a state's image, or of one sentence why there is none.
pub type Fetch<'a> = Pin<Box<dyn Future<Output = Result<Fetched, String>> + Send + 'a>>;

/// A part of a state's image, with its digest checked.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// What it is part of.
    pub header: ImageHeader,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Where states are fetched from.
pub trait Peers: Send + Sync {
    /// Fetches a range of the image that a rank offers.
    fn fetch(&self, rank: usize, range: Range<u64>) -> Fetch<'_>;

    /// Fetches a range of the newest checkpoint, up to its end.
    fn checkpoint(&self, range: Range<u64>) -> Fetch<'_>;
}

/// What a rank needs to begin a generation at the step of the others.
pub struct Replica {
    /// The generation.
    pub generation: Generation,
    /// Its members, in rank order: nobody else is given anything.
    pub members: Vec<WorkerId>,
    /// Which ranks are known to hold a damaged state.
    pub damaged: Vec<bool>,
    /// Steps of the newest checkpoint; the generation does not begin behind it.
    pub checkpoint_step: Option<u64>,
    /// Where states are fetched from.
    pub peers: Arc<dyn Peers>,
    /// Where the own state is offered.
    pub offers: Offers,
}

impl Replica {
    /// Offers an image to peers that are behind.
    pub fn offer(&self, bytes: Vec<u8>, standing: Standing) {
        self.offers.put(Offer {
            generation: self.generation,
            members: self.members.clone(),
            step: standing.step,
            digest: standing.digest,
            bytes: bytes.into(),
        });
    }

    /// Ends the offer: everybody has what was offered.
    pub fn withdraw(&self) {
        self.offers.0.send_if_modified(|offer| offer.take().is_some());
    }
}

/// An image that peers may fetch.
#[derive(Debug)]
pub struct Offer {
    /// The generation in which it is offered.
    pub generation: Generation,
    /// Whom it is offered to.
    pub members: Vec<WorkerId>,
    /// Steps applied in it.
    pub step: u64,
    /// Digest of the whole image.
    pub digest: proto::Fingerprint,
    /// The image.
    pub bytes: Bytes,
}

/// The image that a worker offers, if any.
#[derive(Clone, Debug)]
pub struct Offers(watch::Sender<Option<Arc<Offer>>>);

impl Default for Offers {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Offers {
    /// Offers an image in place of the one before.
    pub(crate) fn put(&self, offer: Offer) {
        self.0.send_replace(Some(Arc::new(offer)));
    }

    /// Returns what is offered, now and from now on.
    pub fn subscribe(&self) -> watch::Receiver<Option<Arc<Offer>>> {
        self.0.subscribe()
    }
}
