//! Datasets, the sampling plan, augmentation and prefetching loaders: everything between image files and network inputs.
//!
//! The rule of this crate: what a training picture looks like depends on (seed, epoch, sample) and the files, and on
//! nothing else: not on the host, the number of workers or threads, or what was loaded before. It knows no tensors, no
//! network and no clock; its only side effects are reading files and writing log lines.
//!
//! # Layout
//! - [`dataset`]: opening data.yaml, COCO and the built-in set; what is wrong with an image; the fingerprint.
//! - [`plan`]: which samples each step trains on, as a pure function of the step; [`shard`] deals slots to ranks.
//! - [`picture`], [`mod@resize`], [`mod@letterbox`]: decoded pictures and their geometry.
//! - [`augment`]: mosaic, affine, colour and flips, keyed by the sample.
//! - [`loader`]: threads with bounded queues, and the cache of decoded pictures.
//!
//! # Examples
//! ```
//! use std::sync::Arc;
//! use data::{AugmentConfig, Augmenter, Dataset, Limits, PictureCache, SampleId, SampleRequest, SHAPES, Split};
//!
//! let dataset = Dataset::open(SHAPES, Split::Train, &Limits::default())?;
//! let cache = PictureCache::new(Arc::new(dataset), 96, 64 << 20);
//! let request = SampleRequest { epoch: 0, sample: SampleId(7), mosaic: true, image_size: 96 };
//! let image = Augmenter::new(AugmentConfig::default(), 0).image(&cache, request);
//! assert_eq!(image.pixels.len(), 3 * 96 * 96);
//! # Ok::<(), data::DatasetError>(())
//! ```

pub mod augment;
pub mod dataset;
pub mod letterbox;
pub mod loader;
pub mod picture;
pub mod plan;
mod random;
pub mod resize;

pub use augment::{AugmentConfig, Augmenter, SampleRequest, TargetBox, TrainingImage};
pub use dataset::{
    Dataset, DatasetError, ImageSource, Label, SHAPES, SINGLE_CLASS, Sample, SampleId, Selection, SkipReason,
    Skipped, Split,
};
pub use letterbox::{BACKGROUND, Letterbox, letterbox, letterbox_around};
pub use loader::{
    Loaded, LoaderConfig, LoaderError, PictureCache, SlotBatch, SlotJob, TrainLoader, TruthBox, ValBatch,
    ValJob, ValLoader, val_batches,
};
pub use picture::{FORMATS, Limits, NamedAs, Picture, PictureError, PictureHeader};
pub use plan::{Plan, PlanConfig, PlanError, Slot, StepPlan, shard};
pub use resize::{resize, resize_long_side};
