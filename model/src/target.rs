//! A labelled box in the pixels of the network input: what the assigner, the loss and the metric compare with.

/// One true object of an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// Class index, below the number of classes of the head.
    pub class: u32,
    /// Left, top, right, bottom.
    ///
    /// # Units
    /// Pixels of the network input.
    pub xyxy: [f32; 4],
}
