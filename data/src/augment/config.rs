//! How strongly training pictures are varied.

/// Strengths and probabilities, under the names and with the defaults that users of Ultralytics know.
#[derive(Clone, Debug, PartialEq)]
pub struct AugmentConfig {
    /// Largest shift of the hue, as a fraction of the full circle.
    pub hsv_h: f64,
    /// Largest relative change of the saturation.
    pub hsv_s: f64,
    /// Largest relative change of the value.
    pub hsv_v: f64,
    /// Largest rotation in degrees.
    pub degrees: f64,
    /// Largest shift as a fraction of the side of the network input.
    pub translate: f64,
    /// Largest relative change of size.
    pub scale: f64,
    /// Largest shear in degrees.
    pub shear: f64,
    /// Largest perspective per pixel, horizontally and vertically.
    pub perspective: f64,
    /// Probability of flipping upside down.
    pub flipud: f64,
    /// Probability of mirroring left to right.
    pub fliplr: f64,
    /// Probability of swapping red and blue.
    pub bgr: f64,
    /// Probability of a mosaic, in the epochs that mix pictures at all.
    pub mosaic: f64,
    /// Probability of laying a second picture over the first, in the same epochs.
    pub mixup: f64,
    /// Probability of putting a rectangle of a second picture into the first, in the same epochs.
    pub cutmix: f64,
}

impl Default for AugmentConfig {
    fn default() -> Self {
        Self {
            hsv_h: 0.015,
            hsv_s: 0.7,
            hsv_v: 0.4,
            degrees: 0.0,
            translate: 0.1,
            scale: 0.5,
            shear: 0.0,
            perspective: 0.0,
            flipud: 0.0,
            fliplr: 0.5,
            bgr: 0.0,
            mosaic: 1.0,
            mixup: 0.0,
            cutmix: 0.0,
        }
    }
}

impl AugmentConfig {
    /// Leaves pictures as they are, but for the letterbox.
    pub fn off() -> Self {
        Self {
            hsv_h: 0.0,
            hsv_s: 0.0,
            hsv_v: 0.0,
            degrees: 0.0,
            translate: 0.0,
            scale: 0.0,
            shear: 0.0,
            perspective: 0.0,
            flipud: 0.0,
            fliplr: 0.0,
            bgr: 0.0,
            mosaic: 0.0,
            mixup: 0.0,
            cutmix: 0.0,
        }
    }
}
