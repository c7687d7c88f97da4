//! `events.jsonl`: what happened in a run, one JSON object per line, each with unix milliseconds.

use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

/// The open file.
#[derive(Debug)]
pub(crate) struct EventLog {
    file: File,
}

impl EventLog {
    /// Opens the file, or makes it; what is in it stays.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = std::fs::File::options().create(true).append(true).open(path)?;
        Ok(Self {
            file: File::from_std(file),
        })
    }

    /// Appends an event with these fields.
    pub(crate) async fn append(&mut self, event: &str, fields: Value) -> io::Result<()> {
        let mut object = json!({ "unix_milliseconds": unix_milliseconds(), "event": event });
        if let (Value::Object(object), Value::Object(fields)) = (&mut object, fields) {
            object.extend(fields);
        }
        self.file.write_all(format!("{object}\n").as_bytes()).await?;
        self.file.flush().await
    }
}

fn unix_milliseconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_millis() as u64)
}
