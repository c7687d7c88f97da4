//! The ring's messages on an HTTP/2 stream, without a copy of what they carry.
//!
//! tonic encodes a message into a buffer of its own and collects the parts of one that arrives, two copies of all that
//! a ring moves. Here the payload of a segment goes into the stream as it is, behind a frame with all that is in front
//! of it, and is taken out of the frame in which it came. On the wire it is ordinary gRPC, and calls, metadata and status
//! stay tonic's: [`Outgoing::sent_by`] only puts another body into its request, and [`KeepBody`] leaves the body of
//! a request to the handler.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use buf_list::BufList;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use collective::Segment;
use http_body::{Body as _, Frame};
use prost::Message;
use proto::wire;
use tokio::sync::mpsc;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

/// The body of an `Exchange` call: the opening, then the segments of a queue until it closes.
pub(super) struct Outgoing {
    opening: Option<Bytes>,
    segments: mpsc::Receiver<Segment>,
    /// Of the segment whose head was sent.
    payload: Option<Bytes>,
}

impl Outgoing {
    pub(super) fn new(opening: wire::ExchangeOpening, segments: mpsc::Receiver<Segment>) -> Self {
        let content = Some(wire::exchange_request::Content::Opening(opening));
        let message = wire::ExchangeRequest { content };
        let mut frame = BytesMut::with_capacity(PREFIX_BYTES + message.encoded_len());
        put_prefix(&mut frame, message.encoded_len());
        // Invariant: the buffer grows as needed.
        message.encode(&mut frame).expect("a buffer grows");
        Self {
            opening: Some(frame.freeze()),
            segments,
            payload: None,
        }
    }

    /// A client's transport that sends this body with its first call, instead of the call's own.
    pub(super) fn sent_by<S>(self, inner: S) -> WithBody<S> {
        let body = Arc::new(Mutex::new(Some(Body::new(self))));
        WithBody { inner, body }
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let waiting = self.opening.take().or_else(|| self.payload.take());
        let data = match waiting {
            Some(data) => Some(data),
            None => ready!(self.segments.poll_recv(context)).map(|segment| {
                let (head, payload) = framed(segment);
                self.payload = (!payload.is_empty()).then_some(payload);
                head
            }),
        };
        Poll::Ready(data.map(|data| Ok(Frame::data(data))))
    }
}

/// A segment's message in two parts: everything in front of the payload, and the payload.
fn framed(segment: Segment) -> (Bytes, Bytes) {
    let mut fields = wire::Segment::from(segment);
    // Fields are encoded by number, and the payload has the last: what is in front of it is the rest's encoding.
    let payload = std::mem::take(&mut fields.payload);
    let mut payload_head = BytesMut::with_capacity(KEY_AND_LENGTH_BYTES);
    if !payload.is_empty() {
        put_key_and_length(&mut payload_head, PAYLOAD_KEY, payload.len());
    }
    let segment_len = fields.encoded_len() + payload_head.len() + payload.len();
    let mut segment_head = BytesMut::with_capacity(KEY_AND_LENGTH_BYTES);
    put_key_and_length(&mut segment_head, SEGMENT_KEY, segment_len);

    let mut head = BytesMut::with_capacity(HEAD_BYTES);
    put_prefix(&mut head, segment_head.len() + segment_len);
    head.put(segment_head);
    // Invariant: the buffer grows as needed.
    fields.encode(&mut head).expect("a buffer grows");
    head.put(payload_head);
    (head.freeze(), payload)
}

/// gRPC's prefix of a message: not compressed, and its length.
fn put_prefix(into: &mut BytesMut, message_len: usize) {
    into.put_u8(0);
    into.put_u32(message_len as u32);
}

fn put_key_and_length(into: &mut BytesMut, key: u8, length: usize) {
    into.put_u8(key);
    // Invariant: the buffer grows as needed.
    prost::encode_length_delimiter(length, into).expect("a buffer grows");
}

/// See [`Outgoing::sent_by`].
#[derive(Clone)]
pub(super) struct WithBody<S> {
    inner: S,
    body: Arc<Mutex<Option<Body>>>,
}

impl<S: Service<http::Request<Body>>> Service<http::Request<Body>> for WithBody<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> S::Future {
        let own = self.body.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.inner.call(request.map(|body| own.unwrap_or(body)))
    }
}

/// A service whose handlers find the bodies of requests as they came, as [`Incoming`].
#[derive(Clone, Debug)]
pub struct KeepBody<S>(pub S);

impl<S: NamedService> NamedService for KeepBody<S> {
    const NAME: &'static str = S::NAME;
}

impl<S: Service<http::Request<Body>>> Service<http::Request<Body>> for KeepBody<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> S::Future {
        let (mut parts, body) = request.into_parts();
        parts
            .extensions
            .insert(KeptBody(Arc::new(Mutex::new(Some(body)))));
        self.0.call(http::Request::from_parts(parts, Body::empty()))
    }
}

/// Extensions are cloned with a request; the body is whose takes it first.
#[derive(Clone)]
struct KeptBody(Arc<Mutex<Option<Body>>>);

/// The messages of an `Exchange` call as they arrive.
pub(super) struct Incoming {
    body: Body,
    arrived: BufList,
    /// What came after too many small frames: they cost more than what is in them.
    behind: BytesMut,
    /// Bytes in both, which the list would have to count.
    length: usize,
}

impl Incoming {
    /// The messages of a request that came through [`KeepBody`].
    pub(super) fn of<T>(request: &tonic::Request<T>) -> Result<Self, Status> {
        let kept = request.extensions().get::<KeptBody>();
        let body = kept.and_then(|kept| kept.0.lock().unwrap_or_else(PoisonError::into_inner).take());
        Ok(Self {
            body: body.ok_or_else(|| Status::internal("the request has no body"))?,
            arrived: BufList::new(),
            behind: BytesMut::new(),
            length: 0,
        })
    }

    /// Waits for the next message, of at most `limit` bytes; `None` after the last.
    ///
    /// The payload of a segment is a part of the frame that it came in; when it came in several, it is copied once.
    ///
    /// # Errors
    /// What the connection says, or when the bytes are no message within the limit.
    pub(super) async fn message(&mut self, limit: usize) -> Result<Option<wire::ExchangeRequest>, Status> {
        while self.length < PREFIX_BYTES {
            if !self.take_frame().await? {
                return if self.length == 0 {
                    Ok(None)
                } else {
                    Err(cut_off())
                };
            }
        }
        self.gather();
        let compression = self.arrived.get_u8();
        let length = self.arrived.get_u32() as usize;
        self.length -= PREFIX_BYTES;
        if compression != 0 {
            return Err(Status::unimplemented(
                "messages of an exchange are not compressed",
            ));
        }
        if length > limit {
            return Err(Status::out_of_range(format!(
                "a message of {length} bytes is over the limit of {limit}"
            )));
        }
        while self.length < length {
            if !self.take_frame().await? {
                return Err(cut_off());
            }
        }
        self.gather();
        self.length -= length;
        wire::ExchangeRequest::decode((&mut self.arrived).take(length))
            .map(Some)
            .map_err(|error| Status::internal(format!("the message does not decode: {error}")))
    }

    /// Waits for some more bytes; `false` when the stream ends.
    async fn take_frame(&mut self) -> Result<bool, Status> {
        loop {
            let frame = std::future::poll_fn(|context| Pin::new(&mut self.body).poll_frame(context)).await;
            match frame.transpose()?.map(Frame::into_data) {
                Some(Ok(data)) if !data.is_empty() => {
                    self.length += data.len();
                    if self.arrived.num_chunks() < CHUNKS_MAX {
                        self.arrived.push_chunk(data);
                    } else {
                        self.behind.extend_from_slice(&data);
                    }
                    return Ok(true);
                }
                // An empty frame, or trailers.
                Some(_) => {}
                None => return Ok(false),
            }
        }
    }

    /// Puts everything that came into one list.
    fn gather(&mut self) {
        if !self.behind.is_empty() {
            self.arrived.push_chunk(self.behind.split().freeze());
        }
    }
}

fn cut_off() -> Status {
    Status::internal("the stream ended within a message")
}

/// Largest opening: a few ids.
pub(super) const OPENING_BYTES_MAX: usize = 1 << 10;

/// Parts of a message that are held as they came. A neighbour of ours sends a message in two, and flow control cuts some.
const CHUNKS_MAX: usize = 64;

const PREFIX_BYTES: usize = 5;

/// Of `ExchangeRequest.segment`: field 2, bytes.
const SEGMENT_KEY: u8 = 2 << 3 | 2;

/// Of `Segment.payload`: field 9, bytes.
const PAYLOAD_KEY: u8 = 9 << 3 | 2;

/// A key, and a length of five times seven bits.
const KEY_AND_LENGTH_BYTES: usize = 6;

/// Prefix, both keys and lengths, and the fields at their longest.
const HEAD_BYTES: usize = 96;

#[cfg(test)]
#[path = "frames_tests.rs"]
mod tests;
