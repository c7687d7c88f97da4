//! Decoded pictures in memory, at the size in which training uses them.
//!
//! The first pictures that are loaded stay until the byte limit is reached; nothing is ever thrown out. An epoch
//! visits every sample once, in a new order each time, so recency says nothing about what is needed next. With a
//! [folder](PictureCache::shared_in), nothing is kept here: the processes of a host keep them there together.

use std::io;
use std::path::PathBuf;
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use super::shared::SharedPictures;
use crate::{
    dataset::{Dataset, SampleId},
    letterbox::BACKGROUND,
    picture::Picture,
    resize::{long_side_size, resize_long_side},
};

/// Pictures of a dataset with a long side of `image_size` pixels; shared by threads and loaders.
#[derive(Debug)]
pub struct PictureCache {
    dataset: Arc<Dataset>,
    image_size: u32,
    limit_bytes: u64,
    used_bytes: AtomicU64,
    kept: Vec<OnceLock<Loaded>>,
    unreadable: Vec<AtomicBool>,
    shared: Option<SharedPictures>,
}

/// A picture as it came out of its file, resized.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The picture; a grey one of the right size if the file could not be decoded.
    pub picture: Arc<Picture>,
    /// Whether the file could not be decoded.
    pub is_unreadable: bool,
}

impl PictureCache {
    /// An empty cache. A limit of 0 keeps nothing.
    pub fn new(dataset: Arc<Dataset>, image_size: u32, limit_bytes: u64) -> Self {
        let count = dataset.len();
        Self {
            dataset,
            image_size,
            limit_bytes,
            used_bytes: AtomicU64::new(0),
            kept: (0..count).map(|_| OnceLock::new()).collect(),
            unreadable: (0..count).map(|_| AtomicBool::new(false)).collect(),
            shared: None,
        }
    }

    /// Keeps pictures as files of `folder` instead, for all processes that name the same; it is made where it is missing. In
    /// `/dev/shm` they are in memory, once for all. Whoever can write there decides what is trained on.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn shared_in(self, folder: PathBuf) -> io::Result<Self> {
        let shared = Some(SharedPictures::open(folder)?);
        Ok(Self { shared, ..self })
    }

    /// The dataset.
    pub fn dataset(&self) -> &Arc<Dataset> {
        &self.dataset
    }

    /// Long side of the pictures that are kept, in pixels.
    pub fn image_size(&self) -> u32 {
        self.image_size
    }

    /// Bytes of pixels that are kept.
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// Number of files that turned out to be unreadable so far.
    pub fn unreadable(&self) -> usize {
        self.unreadable
            .iter()
            .filter(|unreadable| unreadable.load(Ordering::Relaxed))
            .count()
    }

    /// The picture of a sample with a long side of `image_size` pixels; other sizes than the cache's own are not kept.
    ///
    /// # Panics
    /// When the dataset has no such sample.
    pub fn get(&self, id: SampleId, image_size: u32) -> Loaded {
        if image_size != self.image_size {
            return self.load(id, image_size);
        }
        if let (Some(shared), Some(file)) = (&self.shared, self.dataset.file(id)) {
            let sample = self.dataset.sample(id);
            let (width, height) = long_side_size(sample.width, sample.height, image_size);
            if let Some(picture) = shared.get(file, [width, height]) {
                return Loaded {
                    picture: Arc::new(picture),
                    is_unreadable: false,
                };
            }
            let loaded = self.load(id, image_size);
            if !loaded.is_unreadable {
                shared.put(file, &loaded.picture);
            }
            return loaded;
        }
        let kept = &self.kept[id.0 as usize];
        if let Some(loaded) = kept.get() {
            return loaded.clone();
        }
        let loaded = self.load(id, image_size);
        let bytes = loaded.picture.rgb.len() as u64;
        let reserve = |used: u64| used.checked_add(bytes).filter(|&used| used <= self.limit_bytes);
        if self
            .used_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, reserve)
            .is_ok()
            && kept.set(loaded.clone()).is_err()
        {
            // Another thread was faster with the same picture.
            self.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        loaded
    }

    fn load(&self, id: SampleId, image_size: u32) -> Loaded {
        match self.dataset.picture(id) {
            Ok(picture) => Loaded {
                picture: Arc::new(resize_long_side(&picture, image_size)),
                is_unreadable: false,
            },
            Err(error) => {
                let sample = self.dataset.sample(id);
                if !self.unreadable[id.0 as usize].swap(true, Ordering::Relaxed) {
                    tracing::warn!(image = sample.name, %error, "image is unreadable, an empty background stands in");
                }
                let (width, height) = long_side_size(sample.width, sample.height, image_size);
                Loaded {
                    picture: Arc::new(Picture::filled(width, height, BACKGROUND)),
                    is_unreadable: true,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, SHAPES, Split};

    fn cache(limit_bytes: u64) -> PictureCache {
        let dataset = Dataset::open(SHAPES, Split::Val, &Limits::default()).unwrap();
        PictureCache::new(Arc::new(dataset), 64, limit_bytes)
    }

    #[test]
    fn a_kept_picture_is_shared_and_equal_to_a_fresh_one() {
        let cache = cache(1 << 30);
        let first = cache.get(SampleId(3), 64);
        assert!(Arc::ptr_eq(&first.picture, &cache.get(SampleId(3), 64).picture));
        assert_eq!(cache.used_bytes(), first.picture.rgb.len() as u64);
        assert_eq!(first.picture, cache.load(SampleId(3), 64).picture);
        assert_eq!(first.picture.width.max(first.picture.height), 64);
    }

    #[test]
    fn the_limit_is_never_exceeded() {
        let limit = 5 * 64 * 64 * 3;
        let cache = cache(limit);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..48).for_each(|id| drop(cache.get(SampleId(id), 64))));
            }
        });
        let kept: u64 = cache
            .kept
            .iter()
            .filter_map(OnceLock::get)
            .map(|kept| kept.picture.rgb.len() as u64)
            .sum();
        assert_eq!(kept, cache.used_bytes());
        assert!(kept <= limit && kept > limit / 2);
    }

    #[test]
    fn other_sizes_are_made_but_not_kept() {
        let cache = cache(1 << 30);
        let picture = cache.get(SampleId(0), 96).picture;
        assert_eq!(picture.width.max(picture.height), 96);
        assert_eq!(cache.used_bytes(), 0);
    }
}
