//! Connections and frames as no well-behaved client makes them.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{self, SendRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::codegen::http;

/// Somebody on another address of this machine.
pub(crate) struct Attacker {
    victim: SocketAddr,
}

/// Streams that stay open as long as this lives.
pub(crate) struct Held {
    _senders: Vec<SendRequest<Bytes>>,
    _streams: Vec<h2::SendStream<Bytes>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Attacker {
    pub(crate) fn of(victim: &str) -> Self {
        Self {
            victim: victim.parse().unwrap(),
        }
    }

    async fn connect(&self) -> std::io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(([127, 0, 0, 66], 0).into())?;
        socket.connect(self.victim).await
    }

    /// Opens a connection and sends these bytes.
    pub(crate) async fn connect_and_say(&self, bytes: &[u8]) -> Option<TcpStream> {
        let mut stream = self.connect().await.ok()?;
        stream.write_all(bytes).await.ok()?;
        Some(stream)
    }

    async fn http2(&self) -> (SendRequest<Bytes>, JoinHandle<()>) {
        let stream = self.connect().await.unwrap();
        let (sender, connection) = client::Builder::new()
            .initial_max_send_streams(1 << 20)
            .handshake(stream)
            .await
            .unwrap();
        let task = tokio::spawn(async move {
            let _ = connection.await;
        });
        (sender, task)
    }

    /// Opens this many streams, whatever the other side allows, and returns how many it refused; all of them when it
    /// closed the connection.
    pub(crate) async fn open_streams(&self, count: u32) -> u32 {
        let mut stream = self.connect().await.unwrap();
        stream.write_all(PREFACE).await.unwrap();
        let (mut reading, mut writing) = stream.into_split();
        let writer = tokio::spawn(async move {
            for index in 0..count {
                // HEADERS of stream 1, 3, 5 ... whose end is never sent.
                let mut frame = vec![0, 0, HEADERS.len() as u8, 1, 4];
                frame.extend((2 * index + 1).to_be_bytes());
                frame.extend(HEADERS);
                if writing.write_all(&frame).await.is_err() {
                    break;
                }
            }
            writing
        });
        let mut refused = 0;
        let mut head = [0; 9];
        loop {
            match timeout(Duration::from_secs(2), reading.read_exact(&mut head)).await {
                Err(_) => break,
                Ok(Err(_)) => return count,
                Ok(Ok(_)) => {}
            }
            let bytes = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut body = vec![0; bytes as usize];
            if reading.read_exact(&mut body).await.is_err() {
                return count;
            }
            match head[3] {
                RST_STREAM => refused += 1,
                GOAWAY => return count,
                _ => {}
            }
        }
        drop(writer.await);
        refused
    }

    /// Announces messages of 4 GiB and returns how many were refused.
    pub(crate) async fn announce_huge_messages(&self, count: usize) -> usize {
        let (sender, task) = self.http2().await;
        let mut refused = 0;
        for _ in 0..count {
            let mut sender = sender.clone().ready().await.unwrap();
            let (answer, mut body) = sender
                .send_request(request("/ringmaster.v1.CoordinatorService/Report"), false)
                .unwrap();
            body.send_data(Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff]), false)
                .unwrap();
            let answer = timeout(Duration::from_secs(5), answer).await.unwrap().unwrap();
            let status = answer
                .headers()
                .get("grpc-status")
                .map(|status| status.as_bytes());
            // OUT_OF_RANGE: over the message limit.
            refused += usize::from(status == Some(b"11"));
        }
        task.abort();
        refused
    }

    /// Sends empty DATA frames on one stream.
    pub(crate) async fn send_empty_frames(&self, count: usize) {
        let (sender, task) = self.http2().await;
        let mut sender = sender.ready().await.unwrap();
        let (_answer, mut body) = sender
            .send_request(request("/ringmaster.v1.ArtifactService/Upload"), false)
            .unwrap();
        for index in 0..count {
            if body.send_data(Bytes::new(), false).is_err() {
                break;
            }
            if index % 1000 == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        task.abort();
    }

    /// Sends header frames that never end, until the connection is closed.
    pub(crate) async fn send_endless_headers(&self) {
        let mut stream = self.connect().await.unwrap();
        // The preface, and empty settings.
        stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .unwrap();
        stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        // HEADERS on stream 1 without END_HEADERS, then CONTINUATION without end: literal fields of 16 KiB.
        for index in 0..4096 {
            let kind = if index == 0 { 1 } else { 9 };
            let mut frame = vec![0, 0x40, 0, kind, 0, 0, 0, 0, 1];
            // A literal field without indexing: a name of one byte and a value of some 16 KiB.
            frame.extend([0, 1, b'x', 0x7f, 0x80, 0x7f]);
            frame.resize(9 + 0x4000, b'y');
            if stream.write_all(&frame).await.is_err() {
                return;
            }
        }
        panic!("64 MiB of headers were taken");
    }

    /// Opens connections with streams that each hold an unfinished message of this size.
    pub(crate) async fn hold_messages(&self, connections: usize, streams: usize, bytes: usize) -> Held {
        let mut held = Held {
            _senders: Vec::new(),
            _streams: Vec::new(),
            tasks: Vec::new(),
        };
        let mut message = vec![0; 5 + bytes];
        // One byte more is announced than is ever sent.
        message[1..5].copy_from_slice(&(bytes as u32 + 1).to_be_bytes());
        let message = Bytes::from(message);
        for _ in 0..connections {
            let (sender, task) = self.http2().await;
            held.tasks.push(task);
            for _ in 0..streams {
                let Ok(mut sender) = sender.clone().ready().await else {
                    break;
                };
                let path = request("/ringmaster.v1.ArtifactService/Upload");
                let Ok((_answer, mut body)) = sender.send_request(path, false) else {
                    break;
                };
                // Queued here, and sent as the window allows.
                let _ = body.send_data(message.clone(), false);
                held._streams.push(body);
            }
            held._senders.push(sender);
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        held
    }
}

/// What every connection begins with, and empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// `:method POST`, `:scheme http`, a path and an authority, packed.
const HEADERS: &[u8] = b"\x83\x86\x04\x27/ringmaster.v1.ArtifactService/Upload__\x01\x01a";

const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;

/// How many of these connections the other side has not closed.
pub(crate) async fn count_open(streams: &mut [TcpStream]) -> usize {
    // Refusals come as resets a moment after the connection.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut open = 0;
    for stream in streams {
        // The server's first settings may be there to read. Then nothing and no end: still open.
        let mut bytes = [0; 256];
        let end = async { while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {} };
        if timeout(Duration::from_millis(2), end).await.is_err() {
            open += 1;
        }
    }
    open
}

fn request(path: &str) -> http::Request<()> {
    http::Request::post(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap()
}
