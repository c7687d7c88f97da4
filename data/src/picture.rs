//! Decoded pictures, and how files become them within stated limits.
//!
//! A file is looked at twice. [`inspect`] reads what tells its size, its orientation and whether it was cut off, when a
//! dataset is opened. [`Picture::read`] decodes it when it is needed. Both refuse what is over the [`Limits`] before
//! anything of that size is allocated. What is in a file says of which of the [`FORMATS`] it is, not its name. Orientation
//! tags are applied, alpha is dropped, grey becomes RGB; animations are not read, and of a file of several pictures the
//! first one is.
//!
//! `named` tells pictures by their names, `whole` finds files that were cut off, `webp` and `tiff` look at what files of
//! these formats claim, because their decoders believe too much of it.

mod named;
mod tiff;
mod webp;
mod whole;

use std::{
    error::Error,
    fs::File,
    io::{self, BufReader, Cursor, Read},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use image::error::DecodingError;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, RgbImage};
use libjpeg_turbo_rs::{DecodeLimits, Decoder, PixelFormat};

pub use named::NamedAs;

/// An RGB picture of 8 bits per channel.
///
/// # Shapes
/// `rgb` is `[height, width, 3]`, rows from the top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// The pixels.
    pub rgb: Vec<u8>,
}

/// What is refused before it is read or decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest image file in bytes.
    pub image_bytes: u64,
    /// Largest image in pixels, width times height.
    pub image_pixels: u64,
    /// Largest label file, data.yaml or list of images in bytes.
    pub text_bytes: u64,
    /// Largest COCO annotations file in bytes.
    pub annotations_bytes: u64,
}

/// What the header of an image file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureHeader {
    /// Width in pixels, as shown.
    pub width: u32,
    /// Height in pixels, as shown.
    pub height: u32,
    /// Size of the file in bytes.
    pub bytes: u64,
}

/// Why an image file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// The file cannot be opened or read.
    #[error("the file cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The file is larger than [`Limits::image_bytes`].
    #[error("the file has {bytes} bytes, the limit is {limit}")]
    TooManyBytes {
        /// Size of the file.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The image is larger than [`Limits::image_pixels`].
    #[error("the image is {width} x {height}, the limit is {limit} pixels")]
    TooManyPixels {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// The limit.
        limit: u64,
    },
    /// The file is of none of the [`FORMATS`].
    #[error("the file is no {}", FORMATS)]
    UnknownFormat,
    /// The end of the file is missing.
    #[error("the file is truncated: its end is missing")]
    Truncated,
    /// The file was replaced since the dataset was opened.
    #[error("the image had {width} x {height} pixels when the dataset was opened, and has another size now")]
    Changed {
        /// Width when the dataset was opened.
        width: u32,
        /// Height when the dataset was opened.
        height: u32,
    },
    /// The file does not decode.
    #[error("the file does not decode: {0}")]
    Decode(#[source] ImageError),
    /// The decoder has a bug that this file brings out.
    #[error("the file makes the decoder panic")]
    Panicked,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Above any camera's JPEG, and 200 MB decoded.
            image_bytes: 64 << 20,
            image_pixels: 64 << 20,
            // A list of a million long paths fits.
            text_bytes: 256 << 20,
            // COCO's largest file has 450 MB.
            annotations_bytes: 2 << 30,
        }
    }
}

impl Picture {
    /// A picture of one colour.
    pub fn filled(width: u32, height: u32, colour: [u8; 3]) -> Self {
        Self {
            width,
            height,
            rgb: colour.repeat(width as usize * height as usize),
        }
    }

    /// Reads and decodes a file.
    ///
    /// # Errors
    /// When it cannot be read, is over a limit, or does not decode.
    pub fn read(path: &Path, limits: &Limits) -> Result<Self, PictureError> {
        let mut file = File::open(path)?;
        let bytes = file.metadata()?.len();
        check_bytes(bytes, limits)?;
        let mut content = Vec::with_capacity(bytes as usize);
        // A file that grew since then is cut here, and fails to decode.
        file.by_ref().take(limits.image_bytes).read_to_end(&mut content)?;
        Self::decode(&content, limits)
    }

    /// Decodes the content of a file.
    ///
    /// # Errors
    /// When it is over a limit or does not decode.
    pub fn decode(content: &[u8], limits: &Limits) -> Result<Self, PictureError> {
        contained(|| {
            let (mut decoded, orientation) = match format_of(content)? {
                ImageFormat::WebP => webp::decode(content, limits)?,
                ImageFormat::Tiff => tiff::decode(content, limits)?,
                format => {
                    let mut decoder = open_decoder(content, format, limits)?;
                    let orientation = decoder.orientation().map_err(PictureError::Decode)?;
                    let decoded = if format == ImageFormat::Jpeg {
                        decode_jpeg(content, limits)?
                    } else {
                        DynamicImage::from_decoder(decoder).map_err(PictureError::Decode)?
                    };
                    (decoded, orientation)
                }
            };
            decoded.apply_orientation(orientation);
            let decoded = decoded.into_rgb8();
            Ok(Self {
                width: decoded.width(),
                height: decoded.height(),
                rgb: decoded.into_raw(),
            })
        })
    }

    /// Writes the picture as a file of the format that the extension names.
    ///
    /// # Errors
    /// When the extension is unknown or the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), PictureError> {
        image::save_buffer(path, &self.rgb, self.width, self.height, image::ColorType::Rgb8)
            .map_err(PictureError::Decode)
    }

    /// The pixels channel by channel, as a network takes them.
    ///
    /// # Shapes
    /// `[3, height, width]`.
    pub fn to_planes(&self) -> Vec<u8> {
        let mut planes = vec![0; self.rgb.len()];
        write_planes(&self.rgb, &mut planes);
        planes
    }
}

/// Turns a panic of a decoder into an error: one file of a million must not end a run. What the decoder was at work on is
/// dropped with it.
fn contained<T>(decode: impl FnOnce() -> Result<T, PictureError>) -> Result<T, PictureError> {
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or(Err(PictureError::Panicked))
}

/// Reads size and end of an image file, without decoding it.
///
/// # Errors
/// When the file cannot be read, is over a limit, is of none of the [`FORMATS`], or was cut off.
pub fn inspect(path: &Path, limits: &Limits) -> Result<PictureHeader, PictureError> {
    let mut file = File::open(path)?;
    let bytes = file.metadata()?.len();
    check_bytes(bytes, limits)?;
    let mut content = Vec::new();
    file.by_ref().take(HEAD_BYTES).read_to_end(&mut content)?;
    let header = match format_of(&content)? {
        ImageFormat::WebP => contained(|| webp::read_header(&mut file, bytes, limits))?,
        ImageFormat::Tiff => contained(|| tiff::read_header(BufReader::new(&mut file), bytes, limits))?,
        format => inspect_in_order(&mut file, content, format, bytes, limits)?,
    };
    let (width, height) = header.shown();
    Ok(PictureHeader { width, height, bytes })
}

/// Looks at a JPEG, PNG or BMP file, in which the size comes before the pixels. `content` is what was read of it.
fn inspect_in_order(
    file: &mut File,
    mut content: Vec<u8>,
    format: ImageFormat,
    bytes: u64,
    limits: &Limits,
) -> Result<Header, PictureError> {
    let mut header = read_header(&content, format, limits);
    if header.is_err() && bytes > HEAD_BYTES {
        // Large embedded profiles or previews push the size further back.
        file.by_ref().take(limits.image_bytes).read_to_end(&mut content)?;
        header = read_header(&content, format, limits);
    }
    let header = header?;
    let is_whole = match format {
        ImageFormat::Jpeg => whole::jpeg(file, bytes, limits)?,
        ImageFormat::Png => whole::png(file, bytes)?,
        _ => whole::bmp(&content, bytes, header),
    };
    if is_whole {
        Ok(header)
    } else {
        Err(PictureError::Truncated)
    }
}

/// What a file tells before it is decoded.
#[derive(Clone, Copy, Debug)]
struct Header {
    /// As stored.
    width: u32,
    /// As stored.
    height: u32,
    orientation: Orientation,
}

impl Header {
    /// Width and height as shown.
    fn shown(self) -> (u32, u32) {
        match self.orientation {
            Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH => (self.height, self.width),
            _ => (self.width, self.height),
        }
    }
}

/// Rearranges `[.., 3]` pixels into three planes.
pub(crate) fn write_planes(rgb: &[u8], planes: &mut [u8]) {
    let (red, rest) = planes.split_at_mut(rgb.len() / 3);
    let (green, blue) = rest.split_at_mut(rgb.len() / 3);
    for (((pixel, red), green), blue) in rgb.chunks_exact(3).zip(red).zip(green).zip(blue) {
        (*red, *green, *blue) = (pixel[0], pixel[1], pixel[2]);
    }
}

fn check_bytes(bytes: u64, limits: &Limits) -> Result<(), PictureError> {
    if bytes > limits.image_bytes {
        return Err(PictureError::TooManyBytes {
            bytes,
            limit: limits.image_bytes,
        });
    }
    Ok(())
}

fn check_pixels(width: u32, height: u32, limits: &Limits) -> Result<(), PictureError> {
    if u64::from(width) * u64::from(height) > limits.image_pixels {
        return Err(PictureError::TooManyPixels {
            width,
            height,
            limit: limits.image_pixels,
        });
    }
    Ok(())
}

fn read_header(content: &[u8], format: ImageFormat, limits: &Limits) -> Result<Header, PictureError> {
    contained(|| {
        let mut decoder = open_decoder(content, format, limits)?;
        let (width, height) = decoder.dimensions();
        let orientation = decoder.orientation().map_err(PictureError::Decode)?;
        Ok(Header {
            width,
            height,
            orientation,
        })
    })
}

/// Reads the header and checks the size that it claims.
fn open_decoder<'a>(
    content: &'a [u8],
    format: ImageFormat,
    limits: &Limits,
) -> Result<impl ImageDecoder + 'a, PictureError> {
    let mut reader = ImageReader::with_format(Cursor::new(content), format);
    reader.limits(memory_limits(limits));
    let decoder = reader.into_decoder().map_err(PictureError::Decode)?;
    let (width, height) = decoder.dimensions();
    check_pixels(width, height, limits)?;
    Ok(decoder)
}

/// Decodes a JPEG file to the same pixels as libjpeg-turbo, which OpenCV and Pillow decode with: the `image` crate's
/// decoder rounds otherwise, and a trained network's mAP would differ in the third digit.
fn decode_jpeg(content: &[u8], limits: &Limits) -> Result<DynamicImage, PictureError> {
    let bounds = DecodeLimits {
        max_pixels: limits.image_pixels,
        max_memory: Some(memory_max(limits)),
        max_scans: JPEG_SCANS_MAX,
        ..DecodeLimits::default()
    };
    let decoded = Decoder::new_with_limits(content, bounds)
        .map(|decoder| decoder.with_output_format(PixelFormat::Rgb))
        .and_then(|decoder| decoder.decode_image())
        .map_err(|error| malformed(ImageFormat::Jpeg, error))?;
    // Both fit: the format has 16 bits for each.
    let (width, height) = (decoded.width as u32, decoded.height as u32);
    // Invariant: the decoder was asked for three bytes a pixel.
    let rgb = RgbImage::from_raw(width, height, decoded.data).expect("three bytes a pixel");
    Ok(rgb.into())
}

/// The most memory of a decoder: four channels of 16 bits, and as much again for itself.
fn memory_max(limits: &Limits) -> u64 {
    limits.image_pixels.saturating_mul(16).max(1 << 20)
}

fn memory_limits(limits: &Limits) -> image::Limits {
    let mut memory = image::Limits::no_limits();
    memory.max_alloc = Some(memory_max(limits));
    memory
}

fn malformed(format: ImageFormat, reason: impl Into<Box<dyn Error + Send + Sync>>) -> PictureError {
    PictureError::Decode(ImageError::Decoding(DecodingError::new(format.into(), reason)))
}

fn format_of(content: &[u8]) -> Result<ImageFormat, PictureError> {
    match image::guess_format(content) {
        Ok(
            format @ (ImageFormat::Jpeg
            | ImageFormat::Png
            | ImageFormat::WebP
            | ImageFormat::Bmp
            | ImageFormat::Tiff),
        ) => Ok(format),
        _ => Err(PictureError::UnknownFormat),
    }
}

/// The formats that are read, for people.
pub const FORMATS: &str = "JPEG, PNG, WebP, BMP or TIFF";
/// Enough for the header of nearly every photo.
const HEAD_BYTES: u64 = 64 << 10;
/// Progressive files have about ten; each scan of a hostile one costs a pass over the whole picture.
const JPEG_SCANS_MAX: usize = 200;

#[cfg(test)]
#[path = "picture_tests.rs"]
mod tests;
