//! HTTP/2 settings that both ends share, and the size limit of each service.
//!
//! tonic's keepalive is off unless set, and hyper's windows and frames suit small web requests: a ring that sends
//! megabytes needs both ends set alike. Crate `security` makes connections and servers with them.

use std::time::Duration;

use collective::MAX_SEGMENT_BYTES;
use tonic::transport::{Endpoint, Server};

use crate::identity::Address;

/// A server with keepalive, windows, frames and stream limits set.
pub fn server() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
}

/// The same for a server of small messages and uploads: what a caller can make it hold is far less.
pub fn small<L>(server: Server<L>) -> Server<L> {
    server
        .initial_stream_window_size(SMALL_WINDOW_BYTES)
        .initial_connection_window_size(SMALL_WINDOW_BYTES)
        .max_frame_size(SMALL_FRAME_BYTES_MAX)
        .max_concurrent_streams(SMALL_STREAMS_MAX)
}

/// An endpoint to connect to, with the same settings.
pub fn endpoint(address: &Address) -> Endpoint {
    // Invariant: an `Address` is a valid URI authority, so this is a valid URI.
    let endpoint =
        Endpoint::from_shared(format!("http://{address}")).expect("an address is a valid authority");
    endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
}

/// Largest message of `CoordinatorService`: a join with thousands of class names, or a roster of 64 members.
pub const CONTROL_MESSAGE_BYTES_MAX: usize = 256 << 10;

/// Largest message of `ExchangeService`: a segment and its address.
pub const SEGMENT_MESSAGE_BYTES_MAX: usize = MAX_SEGMENT_BYTES + (1 << 10);

/// Most bytes in one chunk of an upload.
pub const UPLOAD_CHUNK_BYTES_MAX: usize = 256 << 10;

/// Largest message of `ArtifactService`: a chunk and its tag.
pub const UPLOAD_MESSAGE_BYTES_MAX: usize = UPLOAD_CHUNK_BYTES_MAX + (1 << 10);

/// Largest weights file that is accepted: yolov8x in `f32` has 273 MB.
pub const UPLOAD_BYTES_MAX: u64 = 1 << 30;

/// A dead peer without FIN is noticed by a ping after this long at most, plus the timeout below.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// How long the answer to a ping may take. A busy CPU may delay it, so it is not shorter.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A host that does not answer is told apart from one that is slow; callers retry.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Eight segments in flight: 8 MiB fill a 10 Gbit/s link up to a round trip of 6 ms.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;

/// Two streams at their full window.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// A segment in about one frame, instead of 64 of the default 16 KiB.
const FRAME_BYTES_MAX: u32 = (1 << 20) + (1 << 14);

/// A neighbour opens one stream of segments; one of another generation may be ending beside it.
const STREAMS_PER_CONNECTION_MAX: u32 = 4;

/// 1 MiB a round trip is 1 GB/s within a data centre.
const SMALL_WINDOW_BYTES: u32 = 1 << 20;

/// A frame is held whole before it is looked at.
const SMALL_FRAME_BYTES_MAX: u32 = 64 << 10;

/// A worker holds a watch, a few unary calls and one upload. More wait in the caller.
const SMALL_STREAMS_MAX: u32 = 8;

/// Our calls send a few hundred bytes of headers.
const HEADER_BYTES_MAX: u32 = 16 << 10;
