//! Round trip and throughput of one connection, opened as a ring neighbour opens it.
//!
//! The round trip is that of a small call on the open connection. For throughput a stream of bytes is sent, and every
//! chunk is answered when it has arrived, so what is still in queues on the way is never counted. The rate is that of
//! the second half of what arrived: the first is how TCP finds its pace. A slow connection ends by time, not by size.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proto::wire::SwallowRequest;
use proto::wire::doctor_service_client::DoctorServiceClient;
use proto::{Address, Measurement};
use security::{Channel, Expect, Security};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::service::is_busy;

/// Most bytes of one measurement.
pub const TRANSFER_BYTES_MAX: u64 = 64 << 20;

/// Connects to a process that must be `expect`, and measures with at most `bytes` bytes, or `TRANSFER_BYTES_MAX`.
///
/// # Errors
/// One sentence when nobody answers, somebody else does, or what was sent does not arrive.
pub async fn measure(
    security: &Security,
    address: &Address,
    expect: Expect,
    bytes: u64,
) -> Result<Measurement, String> {
    let channel = timeout(CONNECT_PATIENCE, security.connect(address, expect)).await;
    let channel = channel
        .map_err(|_| format!("no connection within {} s", CONNECT_PATIENCE.as_secs()))?
        .map_err(|error| reason(&error))?;
    let round_trip = timeout(ROUND_TRIPS_PATIENCE, round_trip(channel.clone())).await;
    let round_trip = round_trip
        .map_err(|_| "calls are not answered in time".to_owned())?
        .map_err(|status| status.message().to_owned())?;
    let give_up = Instant::now() + BUSY_PATIENCE;
    loop {
        match throughput(channel.clone(), bytes.min(TRANSFER_BYTES_MAX)).await {
            Ok(bytes_per_second) => {
                return Ok(Measurement {
                    round_trip,
                    bytes_per_second,
                });
            }
            Err(status) if is_busy(&status) && Instant::now() < give_up => sleep(BUSY_PAUSE).await,
            Err(status) => return Err(status.message().to_owned()),
        }
    }
}

/// Returns the median time of a call that does nothing.
async fn round_trip(channel: Channel) -> Result<Duration, Status> {
    let mut client = HealthClient::new(channel);
    let mut times = Vec::with_capacity(ROUND_TRIPS);
    for _ in 0..ROUND_TRIPS {
        let begin = Instant::now();
        client.check(HealthCheckRequest::default()).await?;
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    Ok(times[ROUND_TRIPS / 2])
}

/// Returns the bytes a second that arrive.
async fn throughput(channel: Channel, bytes: u64) -> Result<u64, Status> {
    let begin = Instant::now();
    let (enough, give_up) = (begin + TRANSFER_TIME, begin + TRANSFER_PATIENCE);
    let window = Arc::new(Semaphore::new(WINDOW_CHUNKS));
    // Closed with this call, whatever its end, so that the sender ends too.
    let _open = Open(Arc::clone(&window));
    let chunks = chunks(bytes.max(1), Arc::clone(&window));
    let late = |_| Status::deadline_exceeded("what is sent does not arrive in time");
    let mut client = DoctorServiceClient::new(channel);
    let answers = timeout_at(give_up, client.swallow(chunks)).await;
    let mut answers = answers.map_err(late)??.into_inner();
    let mut arrived: Vec<(Duration, u64)> = Vec::new();
    loop {
        let until = if arrived.len() < ANSWERS_MIN {
            give_up
        } else {
            enough
        };
        match timeout_at(until, answers.message()).await {
            Ok(answer) => match answer? {
                Some(answer) => {
                    window.add_permits(1);
                    arrived.push((begin.elapsed(), answer.bytes));
                }
                None => break,
            },
            Err(_) if arrived.len() >= ANSWERS_MIN => break,
            Err(error) => return Err(late(error)),
        }
    }
    Ok(rate(&arrived))
}

/// Closes a window when dropped.
struct Open(Arc<Semaphore>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Sends `bytes` bytes in chunks, each when the window has room for it, until the window is closed. What is under way when a
/// measurement ends has to drain from a slow link before the next one can begin, so it is little.
fn chunks(bytes: u64, window: Arc<Semaphore>) -> ReceiverStream<SwallowRequest> {
    let (sender, chunks) = mpsc::channel(1);
    tokio::spawn(async move {
        let chunk = Bytes::from(vec![0; CHUNK_BYTES]);
        let mut left = bytes;
        while left > 0 {
            let Ok(permit) = window.acquire().await else {
                return;
            };
            permit.forget();
            let size = left.min(CHUNK_BYTES as u64);
            left -= size;
            let chunk = chunk.slice(..size as usize);
            if sender.send(SwallowRequest { chunk }).await.is_err() {
                return;
            }
        }
    });
    ReceiverStream::new(chunks)
}

/// Returns the bytes a second over the second half of what arrived; `arrived` holds times since the beginning and bytes so
/// far, both growing.
fn rate(arrived: &[(Duration, u64)]) -> u64 {
    let Some(&(end, total)) = arrived.last() else {
        return 0;
    };
    let half = arrived.iter().find(|(_, bytes)| 2 * bytes >= total);
    let (begin, before) = match half {
        Some(&(time, bytes)) if bytes < total && time < end => (time, bytes),
        _ => (Duration::ZERO, 0),
    };
    let seconds = (end - begin).as_secs_f64().max(f64::MIN_POSITIVE);
    ((total - before) as f64 / seconds) as u64
}

/// Returns the innermost cause: tonic itself only says that it could not connect.
pub fn reason(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// Small enough that a slow link shows progress, large enough that a fast one is not busy with messages.
pub(crate) const CHUNK_BYTES: usize = 64 << 10;

/// 4 MiB under way: enough for 10 Gbit/s at a round trip of 3 ms, and two seconds at 20 Mbit/s.
const WINDOW_CHUNKS: usize = 64;

/// A median of so many is not moved by one that was held up.
const ROUND_TRIPS: usize = 11;

/// Fewest answers that a rate is computed from.
const ANSWERS_MIN: usize = 3;

/// As long as TCP finds its pace on any link that a ring is worth on.
const TRANSFER_TIME: Duration = Duration::from_secs(2);

/// Three chunks in this time are 13 kB/s; a ring over less than that is as good as none.
const TRANSFER_PATIENCE: Duration = Duration::from_secs(15);

const CONNECT_PATIENCE: Duration = Duration::from_secs(8);
const ROUND_TRIPS_PATIENCE: Duration = Duration::from_secs(10);

/// Another measurement ends meanwhile, or its end is noticed.
const BUSY_PATIENCE: Duration = Duration::from_secs(20);
const BUSY_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(milliseconds: u64, bytes: u64) -> (Duration, u64) {
        (Duration::from_millis(milliseconds), bytes)
    }

    #[test]
    fn the_rate_is_that_of_the_second_half() {
        // Ten times as fast once it has found its pace.
        let arrived = [at(1000, 100), at(1100, 200), at(1200, 300), at(1300, 400)];
        assert_eq!(rate(&arrived), 1000);
        assert_eq!(rate(&[at(500, 100)]), 200);
        assert_eq!(rate(&[]), 0);
    }

    #[test]
    fn answers_of_one_instant_make_no_endless_rate() {
        assert_eq!(rate(&[at(10, 100), at(10, 200), at(10, 300)]), 30_000);
    }
}
