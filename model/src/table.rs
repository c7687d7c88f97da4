//! Model graphs as data: one row per module, to be read beside the published configuration.
//!
//! The index of a row is the number in the state-dict names (`model.0`, `model.1`, ...). Depths and channels
//! are those of the largest scale; `Scale` shrinks them. Adding a model means adding a table here.
//!
//! # Source
//! YOLOv8 (Jocher et al. 2023) and YOLO11 (Jocher & Qiu 2024), the architectures as published in their model
//! configurations.

use crate::kind::{Family, ModelKind, Size};

/// One module of a graph.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Rows it reads: negative counts back from this row, otherwise a row's index.
    pub from: &'static [isize],
    /// Depth before scaling.
    pub repeats: usize,
    /// What it is.
    pub block: Block,
}

/// The kinds of modules, with their arguments. Channels are output channels before scaling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// Convolution, batch normalisation, SiLU.
    Conv {
        /// Output channels.
        channels: usize,
        /// Side of the kernel.
        kernel: usize,
        /// Stride.
        stride: usize,
    },
    /// Cross-stage block with `repeats` bottlenecks, all of whose outputs are concatenated.
    C2f {
        /// Output channels.
        channels: usize,
        /// Whether a bottleneck adds its input to its output.
        shortcut: Shortcut,
    },
    /// As [`Block::C2f`], with smaller inner blocks, which always add their input.
    C3k2 {
        /// Output channels.
        channels: usize,
        /// Channels of an inner block are the output channels divided by this.
        narrowing: usize,
        /// What it repeats.
        inner: Inner,
    },
    /// Cross-stage block with `repeats` attention blocks over all positions of one half of its channels. Puts out as
    /// many channels as it reads.
    C2psa,
    /// Spatial pyramid pooling by three poolings in a row.
    Sppf {
        /// Output channels.
        channels: usize,
        /// Side of the pooling window.
        kernel: usize,
    },
    /// Twice the height and width, nearest neighbour.
    Upsample,
    /// Concatenation over channels.
    Concat,
    /// The decoupled, anchor-free head over the levels it reads.
    Detect {
        /// How a level's classes are found.
        classes: ClassBranch,
    },
}

impl Block {
    /// Returns its output channels before scaling, where the table gives them.
    pub fn channels(&self) -> Option<usize> {
        match *self {
            Self::Conv { channels, .. }
            | Self::C2f { channels, .. }
            | Self::C3k2 { channels, .. }
            | Self::Sppf { channels, .. } => Some(channels),
            Self::C2psa | Self::Upsample | Self::Concat | Self::Detect { .. } => None,
        }
    }
}

/// What a C3k2 block repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inner {
    /// A bottleneck whose middle is half as wide.
    Bottleneck,
    /// A cross-stage block of two bottlenecks.
    C3k,
}

/// The convolutions of a head's class branch before its projection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassBranch {
    /// Two 3x3 convolutions.
    Dense,
    /// Twice: a 3x3 convolution of each channel by itself, then a pointwise one.
    Depthwise,
}

/// Whether a bottleneck adds its input to its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortcut {
    /// It adds it.
    Added,
    /// It does not.
    Absent,
}

/// How a size shrinks the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// Factor on `repeats`.
    pub depth: f64,
    /// Factor on channels.
    pub width: f64,
    /// Channels are cut to this before `width` is applied.
    pub max_channels: usize,
}

impl Scale {
    /// Returns the scaled depth: at least one, and a depth of one stays one.
    pub fn repeats(&self, repeats: usize) -> usize {
        if repeats <= 1 {
            return repeats;
        }
        ((repeats as f64 * self.depth).round() as usize).max(1)
    }

    /// Returns the scaled channels, rounded up to a multiple of 8.
    pub fn channels(&self, channels: usize) -> usize {
        let scaled = channels.min(self.max_channels) as f64 * self.width;
        (scaled / 8.0).ceil() as usize * 8
    }
}

/// Returns the rows and the scale of a model.
pub fn graph(kind: ModelKind) -> (&'static [Row], Scale) {
    match kind.family {
        Family::V8 => (&YOLOV8, yolov8_scale(kind.size)),
        Family::V11 => (yolo11(kind.size), yolo11_scale(kind.size)),
    }
}

fn yolov8_scale(size: Size) -> Scale {
    let (depth, width, max_channels) = match size {
        Size::N => (0.33, 0.25, 1024),
        Size::S => (0.33, 0.50, 1024),
        Size::M => (0.67, 0.75, 768),
        Size::L => (1.00, 1.00, 512),
        Size::X => (1.00, 1.25, 512),
    };
    Scale {
        depth,
        width,
        max_channels,
    }
}

/// The sizes from medium up have C3k in every block.
fn yolo11(size: Size) -> &'static [Row] {
    match size {
        Size::N | Size::S => &YOLO11_SMALL,
        Size::M | Size::L | Size::X => &YOLO11_LARGE,
    }
}

fn yolo11_scale(size: Size) -> Scale {
    let (depth, width, max_channels) = match size {
        Size::N => (0.50, 0.25, 1024),
        Size::S => (0.50, 0.50, 1024),
        Size::M => (0.50, 1.00, 512),
        Size::L => (1.00, 1.00, 512),
        Size::X => (1.00, 1.50, 512),
    };
    Scale {
        depth,
        width,
        max_channels,
    }
}

const fn row(from: &'static [isize], repeats: usize, block: Block) -> Row {
    Row { from, repeats, block }
}

const fn conv(channels: usize, kernel: usize, stride: usize) -> Block {
    Block::Conv {
        channels,
        kernel,
        stride,
    }
}

const fn c2f(channels: usize, shortcut: Shortcut) -> Block {
    Block::C2f { channels, shortcut }
}

const fn c3k2(channels: usize, narrowing: usize, inner: Inner) -> Block {
    Block::C3k2 {
        channels,
        narrowing,
        inner,
    }
}

const fn detect(classes: ClassBranch) -> Block {
    Block::Detect { classes }
}

const fn sppf(channels: usize, kernel: usize) -> Block {
    Block::Sppf { channels, kernel }
}

#[rustfmt::skip]
static YOLOV8: [Row; 23] = {
    use Block::{Concat, Upsample};
    use Shortcut::{Absent, Added};
    [
        // Backbone.
        row(&[-1], 1, conv(64, 3, 2)),       //  0, stride 2
        row(&[-1], 1, conv(128, 3, 2)),      //  1, stride 4
        row(&[-1], 3, c2f(128, Added)),      //  2
        row(&[-1], 1, conv(256, 3, 2)),      //  3, stride 8
        row(&[-1], 6, c2f(256, Added)),      //  4
        row(&[-1], 1, conv(512, 3, 2)),      //  5, stride 16
        row(&[-1], 6, c2f(512, Added)),      //  6
        row(&[-1], 1, conv(1024, 3, 2)),     //  7, stride 32
        row(&[-1], 3, c2f(1024, Added)),     //  8
        row(&[-1], 1, sppf(1024, 5)),        //  9
        // Neck, coarse to fine.
        row(&[-1], 1, Upsample),             // 10, stride 16
        row(&[-1, 6], 1, Concat),            // 11
        row(&[-1], 3, c2f(512, Absent)),     // 12
        row(&[-1], 1, Upsample),             // 13, stride 8
        row(&[-1, 4], 1, Concat),            // 14
        row(&[-1], 3, c2f(256, Absent)),     // 15, small objects
        // Neck, fine to coarse.
        row(&[-1], 1, conv(256, 3, 2)),      // 16
        row(&[-1, 12], 1, Concat),           // 17
        row(&[-1], 3, c2f(512, Absent)),     // 18, medium objects
        row(&[-1], 1, conv(512, 3, 2)),      // 19
        row(&[-1, 9], 1, Concat),            // 20
        row(&[-1], 3, c2f(1024, Absent)),    // 21, large objects
        // Head.
        row(&[15, 18, 21], 1, detect(ClassBranch::Dense)), // 22
    ]
};

static YOLO11_SMALL: [Row; 24] = yolo11_rows(Inner::Bottleneck);
static YOLO11_LARGE: [Row; 24] = yolo11_rows(Inner::C3k);

/// `shallow` is what the blocks away from the coarsest levels repeat.
#[rustfmt::skip]
const fn yolo11_rows(shallow: Inner) -> [Row; 24] {
    use Block::{C2psa, Concat, Upsample};
    use Inner::C3k;
    [
        // Backbone.
        row(&[-1], 1, conv(64, 3, 2)),            //  0, stride 2
        row(&[-1], 1, conv(128, 3, 2)),           //  1, stride 4
        row(&[-1], 2, c3k2(256, 4, shallow)),     //  2
        row(&[-1], 1, conv(256, 3, 2)),           //  3, stride 8
        row(&[-1], 2, c3k2(512, 4, shallow)),     //  4
        row(&[-1], 1, conv(512, 3, 2)),           //  5, stride 16
        row(&[-1], 2, c3k2(512, 2, C3k)),         //  6
        row(&[-1], 1, conv(1024, 3, 2)),          //  7, stride 32
        row(&[-1], 2, c3k2(1024, 2, C3k)),        //  8
        row(&[-1], 1, sppf(1024, 5)),             //  9
        row(&[-1], 2, C2psa),                     // 10
        // Neck, coarse to fine.
        row(&[-1], 1, Upsample),                  // 11, stride 16
        row(&[-1, 6], 1, Concat),                 // 12
        row(&[-1], 2, c3k2(512, 2, shallow)),     // 13
        row(&[-1], 1, Upsample),                  // 14, stride 8
        row(&[-1, 4], 1, Concat),                 // 15
        row(&[-1], 2, c3k2(256, 2, shallow)),     // 16, small objects
        // Neck, fine to coarse.
        row(&[-1], 1, conv(256, 3, 2)),           // 17
        row(&[-1, 13], 1, Concat),                // 18
        row(&[-1], 2, c3k2(512, 2, shallow)),     // 19, medium objects
        row(&[-1], 1, conv(512, 3, 2)),           // 20
        row(&[-1, 10], 1, Concat),                // 21
        row(&[-1], 2, c3k2(1024, 2, C3k)),        // 22, large objects
        // Head.
        row(&[16, 19, 22], 1, detect(ClassBranch::Depthwise)), // 23
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_round_as_published() {
        let nano = yolov8_scale(Size::N);
        assert_eq!([1, 3, 6].map(|n| nano.repeats(n)), [1, 1, 2]);
        assert_eq!([64, 1024].map(|c| nano.channels(c)), [16, 256]);
        let medium = yolov8_scale(Size::M);
        assert_eq!([3, 6].map(|n| medium.repeats(n)), [2, 4]);
        assert_eq!([64, 1024].map(|c| medium.channels(c)), [48, 576]);
        let extra = yolov8_scale(Size::X);
        assert_eq!([64, 1024].map(|c| extra.channels(c)), [80, 640]);
    }

    #[test]
    fn rows_read_only_earlier_rows() {
        for rows in [&YOLOV8[..], &YOLO11_SMALL, &YOLO11_LARGE] {
            for (index, row) in rows.iter().enumerate() {
                for &from in row.from {
                    assert!(from < index as isize, "row {index} reads {from}");
                    assert!(from >= -1, "row {index} reads {from}");
                }
            }
        }
    }
}
