//! Finding image files and the label files beside them.

use std::{
    fs,
    io::{self, Read},
    path::{Component, Path, PathBuf},
};

use super::{DatasetError, SkipReason, Skipped};
use crate::picture::NamedAs;

/// Image files found, and files that look like images but cannot be read here.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) images: Vec<PathBuf>,
    pub(super) skipped: Vec<Skipped>,
}

impl Listing {
    /// Adds a file if its extension says image.
    pub(super) fn add(&mut self, path: PathBuf) {
        match NamedAs::of(&path) {
            NamedAs::Picture => self.images.push(path),
            NamedAs::UnreadPicture(extension) => self.skipped.push(Skipped {
                file: path,
                line: None,
                reason: SkipReason::UnsupportedFormat { extension },
            }),
            NamedAs::Other => {}
        }
    }

    /// Adds the images of a folder and of the folders in it, without hidden files.
    pub(super) fn add_folder(&mut self, folder: &Path) -> Result<(), DatasetError> {
        self.add_folder_at(folder, 0)
    }

    fn add_folder_at(&mut self, folder: &Path, depth: usize) -> Result<(), DatasetError> {
        let io = |source| DatasetError::Io {
            path: folder.to_owned(),
            source,
        };
        let mut entries = Vec::new();
        for entry in fs::read_dir(folder).map_err(io)? {
            entries.push(entry.map_err(io)?.path());
        }
        entries.sort();
        for path in entries {
            let is_hidden = path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with('.'));
            if is_hidden {
                continue;
            }
            if !path.is_dir() {
                self.add(path);
            } else if depth < FOLDER_DEPTH_MAX {
                self.add_folder_at(&path, depth + 1)?;
            }
        }
        Ok(())
    }
}

/// Where the label file of an image is: the last folder named `images` becomes `labels`, the extension `txt`. Without
/// such a folder it lies beside the image.
pub(super) fn label_path(image: &Path) -> PathBuf {
    labels_counterpart(image)
        .unwrap_or_else(|| image.to_owned())
        .with_extension("txt")
}

/// The same path under `labels` instead of `images`, if there is a folder of that name in it.
pub(super) fn labels_counterpart(path: &Path) -> Option<PathBuf> {
    let components: Vec<Component<'_>> = path.components().collect();
    let images = components
        .iter()
        .rposition(|component| component.as_os_str() == "images")?;
    let renamed = components.iter().enumerate().map(|(index, component)| {
        if index == images {
            "labels".as_ref()
        } else {
            component.as_os_str()
        }
    });
    Some(renamed.collect())
}

/// A path's name in the dataset: relative to the root if it lies there, with `/` on every system.
pub(super) fn relative_name(path: &Path, root: &Path) -> String {
    let relative = path.strip_prefix(root).unwrap_or(path);
    let parts: Vec<_> = relative
        .components()
        .filter(|component| matches!(component, Component::Normal(_) | Component::ParentDir))
        .map(|component| component.as_os_str().to_string_lossy())
        .collect();
    parts.join("/")
}

/// Joins and removes `.` and, where it can, `..`, without asking the file system.
pub(super) fn join(base: &Path, path: impl AsRef<Path>) -> PathBuf {
    let mut joined = PathBuf::new();
    for component in base.join(path).components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if matches!(joined.components().next_back(), Some(Component::Normal(_))) => {
                joined.pop();
            }
            other => joined.push(other),
        }
    }
    joined
}

/// Opens a file for reading, and nothing else: opening a pipe would wait for whoever writes into it.
pub(super) fn open_regular(path: &Path) -> io::Result<fs::File> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    fs::File::open(path)
}

/// Reads a text file of limited size.
pub(super) fn read_text(path: &Path, what: &'static str, limit: u64) -> Result<String, DatasetError> {
    if !path.exists() {
        return Err(DatasetError::Missing {
            what,
            path: path.to_owned(),
        });
    }
    let io = |source| DatasetError::Io {
        path: path.to_owned(),
        source,
    };
    let file = open_regular(path).map_err(io)?;
    let bytes = file.metadata().map_err(io)?.len();
    if bytes > limit {
        return Err(DatasetError::TooLarge {
            path: path.to_owned(),
            bytes,
            limit,
        });
    }
    let mut text = String::new();
    file.take(limit).read_to_string(&mut text).map_err(io)?;
    Ok(text)
}

/// The text without the byte-order mark with which some tools begin UTF-8 files.
pub(super) fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Applies `work` to every item on all cores; the results are in the items' order.
pub(super) fn parallel_map<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(OPEN_THREADS_MAX);
    let chunk = items.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let work = &work;
        let parts: Vec<_> = items
            .chunks(chunk)
            .map(|part| scope.spawn(move || part.iter().map(work).collect::<Vec<_>>()))
            .collect();
        parts
            .into_iter()
            .flat_map(|part| {
                part.join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    })
}

/// Ends circles of symbolic links.
const FOLDER_DEPTH_MAX: usize = 16;
/// Reading headers waits for disks, not for cores.
const OPEN_THREADS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_found_under_the_last_images_folder() {
        for (image, label) in [
            ("/d/images/train/a.jpg", "/d/labels/train/a.txt"),
            ("/images/d/images/a.b.png", "/images/d/labels/a.b.txt"),
            ("/d/photos/a.jpg", "/d/photos/a.txt"),
            ("train/images/a.jpeg", "train/labels/a.txt"),
        ] {
            assert_eq!(label_path(Path::new(image)), Path::new(label));
        }
    }

    #[test]
    fn paths_are_joined_and_cleaned() {
        for (base, path, joined) in [
            ("/d", ".", "/d"),
            ("/d", "./images/../photos", "/d/photos"),
            ("/d/e", "../f", "/d/f"),
            ("/d", "/abs", "/abs"),
            ("..", "a", "../a"),
            ("..", "../a", "../../a"),
        ] {
            assert_eq!(join(Path::new(base), path), Path::new(joined));
        }
    }

    #[test]
    fn parallel_results_keep_their_order() {
        let items: Vec<u32> = (0..1000).collect();
        assert_eq!(
            parallel_map(&items, |item| item * 2),
            items.iter().map(|item| item * 2).collect::<Vec<_>>()
        );
        assert!(parallel_map(&[] as &[u32], |item| *item).is_empty());
    }

    #[test]
    fn a_folder_is_listed_sorted_without_hidden_files() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("deep")).unwrap();
        for name in [
            "b.JPG",
            "a.png",
            ".hidden.jpg",
            "notes.txt",
            "deep/c.jpeg",
            "d.webp",
            "e.heic",
        ] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let mut listing = Listing::default();
        listing.add_folder(folder.path()).unwrap();
        let names: Vec<_> = listing
            .images
            .iter()
            .map(|path| relative_name(path, folder.path()))
            .collect();
        assert_eq!(names, ["a.png", "b.JPG", "d.webp", "deep/c.jpeg"]);
        let [skipped] = listing.skipped.as_slice() else {
            panic!("one is skipped")
        };
        assert!(skipped.file.ends_with("e.heic"), "{skipped}");
    }
}
