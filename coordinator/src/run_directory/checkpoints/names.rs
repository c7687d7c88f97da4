//! The names in `checkpoints/`, made from integers and read back into them; no other text becomes a path.
//!
//! What begins with a dot is unfinished and removed when the folder is opened.

use std::ffi::OsStr;

/// Folder of a whole checkpoint.
pub(super) fn step(step: u64) -> String {
    format!("step-{step:09}")
}

/// The step of a folder's name, if [`step()`] gives that name.
pub(super) fn parse_step(name: &OsStr) -> Option<u64> {
    let text = name.to_str()?;
    let number = text.strip_prefix("step-")?.parse().ok()?;
    (step(number) == text).then_some(number)
}

/// Folder of a checkpoint whose shards are still coming in.
pub(super) fn pending(step: u64, generation: u64) -> String {
    format!(".pending-{step:09}-{generation}")
}

/// Folder of a checkpoint that is being removed.
pub(super) fn removed(step: u64) -> String {
    format!(".removed-{step:09}")
}

/// File of a whole shard.
pub(super) fn shard(shard: u32) -> String {
    format!("shard-{shard:03}.bin")
}

/// File of a shard that is coming in; numbered, so that two uploads never share one.
pub(super) fn incoming(number: u64) -> String {
    format!(".incoming-{number}")
}

/// Whether a name in a pending folder is that of a shard that is coming in.
pub(super) fn is_incoming(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".incoming-")
}

/// Whether a name is that of something unfinished, made by this program.
pub(super) fn is_unfinished(name: &OsStr) -> bool {
    let bytes = name.as_encoded_bytes();
    bytes.starts_with(b".pending-") || bytes.starts_with(b".removed-") || bytes == b".last.new"
}

/// The manifest of a checkpoint.
pub(super) const MANIFEST: &str = "manifest.json";

/// The file that names the last checkpoint.
pub(super) const LAST: &str = "last";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_name_of_a_step_is_one() {
        for number in [0, 7, 123_456_789, 1_234_567_890, u64::MAX] {
            assert_eq!(parse_step(OsStr::new(&step(number))), Some(number));
        }
        for other in [
            "step-7",
            "step-+00000007",
            "step-",
            "step-00000000a",
            "Step-000000007",
            "last",
        ] {
            assert_eq!(parse_step(OsStr::new(other)), None, "{other}");
        }
    }
}
