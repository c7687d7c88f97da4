//! What `train` refuses about the start of a run before anything is begun, a sentence each: workers would find it, too, but
//! only when the run has its directory.

use std::path::Path;

use anyhow::ensure;
use model::frozen::TooManyFrozen;
use model::table::graph;

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

/// Refuses to freeze more layers than a model has before its head.
pub(super) fn check_freeze(model: &str, layers: u32) -> anyhow::Result<()> {
    let (rows, _) = graph(model.parse()?);
    // The last row is the head.
    let (asked, most) = (layers as usize, rows.len() - 1);
    if asked > most {
        return Err(TooManyFrozen { asked, most }.into());
    }
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

    #[test]
    fn all_layers_but_the_head_can_be_frozen() {
        for (model, most) in [("yolov8n", 22), ("yolo11x", 23)] {
            assert!(check_freeze(model, most).is_ok(), "{model}");
            let error = check_freeze(model, most + 1).unwrap_err().to_string();
            assert!(
                error.contains(&format!("cannot freeze {} layers", most + 1)),
                "{error}"
            );
        }
    }
}
