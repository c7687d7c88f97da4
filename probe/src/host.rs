//! What this machine tells about itself.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proto::HostReport;

/// Returns the name of this machine, for people and for keeping workers of one machine together.
pub fn host_name() -> String {
    let named = std::env::var("HOSTNAME").ok().filter(|name| !name.is_empty());
    named
        .or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok())
        .map_or_else(|| "unnamed-host".to_owned(), |name| name.trim().to_owned())
}

/// Returns the wall clock, since 1970 in UTC; zero for a clock that is before.
pub fn clock() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Returns the bytes that may still be written in `folder`, or `None` when the system does not tell.
pub fn free_bytes(folder: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(folder).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Returns all of it, for a process that keeps what it keeps in `folder`.
pub fn report(folder: &Path) -> HostReport {
    HostReport {
        version: proto::VERSION.to_owned(),
        host: host_name(),
        clock: clock(),
        free_bytes: free_bytes(folder),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_the_room_that_df_tells_and_one_that_is_not_there_has_none_to_tell() {
        let folder = tempfile::tempdir().unwrap();
        let df = std::process::Command::new("df")
            .args(["--block-size=1", "--output=avail"])
            .arg(folder.path())
            .output()
            .unwrap();
        let text = String::from_utf8(df.stdout).unwrap();
        let told: u64 = text.lines().nth(1).unwrap().trim().parse().unwrap();
        let found = free_bytes(folder.path()).unwrap();
        // Others write meanwhile.
        assert!(found.abs_diff(told) < 1 << 30, "{found} {told}");
        assert_eq!(free_bytes(&folder.path().join("not there")), None);
    }
}
