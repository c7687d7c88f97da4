//! What other trainers take, and `train` would take for something else.

use std::path::Path;

use anyhow::ensure;

/// Refuses values that `cache` takes in Ultralytics; here each would be a folder of that name.
pub(super) fn check_cache(folder: Option<&Path>) -> anyhow::Result<()> {
    let name = folder.and_then(Path::to_str).unwrap_or_default();
    ensure!(
        !CACHE_KINDS.contains(&name.to_lowercase().as_str()),
        "--cache takes a folder in which the workers share decoded pictures, as /dev/shm/pictures, not {name:?}; \
         without it each worker keeps them in memory"
    );
    Ok(())
}

/// Where Ultralytics may keep decoded pictures, and whether.
const CACHE_KINDS: [&str; 4] = ["ram", "disk", "true", "false"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ultralytics_calls_a_cache_is_no_folder() {
        for name in ["ram", "disk", "True", "false"] {
            let error = check_cache(Some(Path::new(name))).unwrap_err().to_string();
            assert!(
                error.contains("takes a folder") && error.contains(name),
                "{error}"
            );
        }
        for folder in ["/dev/shm/ram", "./ram", "pictures"] {
            assert!(check_cache(Some(Path::new(folder))).is_ok(), "{folder}");
        }
        assert!(check_cache(None).is_ok());
    }
}
