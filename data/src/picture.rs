//! Decoded pictures, and how files become them within stated limits.
//!
//! A file is looked at twice. [`inspect`] reads its first and last bytes when a dataset is opened: size, orientation
//! and whether it was cut off. [`Picture::read`] decodes it when it is needed. Both refuse what is over the
//! [`Limits`] before anything of that size is allocated. JPEG and PNG only; orientation tags are applied, alpha is
//! dropped, grey becomes RGB.

use std::{
    fs::File,
    io::{self, Cursor, Read, Seek, SeekFrom},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use image::error::DecodingError;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, RgbImage};
use libjpeg_turbo_rs::{DecodeLimits, Decoder, PixelFormat};

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
    /// The file is no JPEG and no PNG.
    #[error("the file is neither JPEG nor PNG")]
    UnknownFormat,
    /// The end of the file is missing.
    #[error("the file is truncated: the end marker is missing")]
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

    /// Decodes the content of a JPEG or PNG file.
    ///
    /// # Errors
    /// When it is over a limit or does not decode.
    pub fn decode(content: &[u8], limits: &Limits) -> Result<Self, PictureError> {
        contained(|| {
            let mut decoder = open_decoder(content, limits)?;
            let orientation = decoder.orientation().map_err(PictureError::Decode)?;
            let mut decoded = if format_of(content)? == ImageFormat::Jpeg {
                decode_jpeg(content, limits)?
            } else {
                DynamicImage::from_decoder(decoder).map_err(PictureError::Decode)?
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

    /// Writes the picture as a PNG or JPEG file, as the extension says.
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
/// When the file cannot be read, is over a limit, is neither JPEG nor PNG, or was cut off.
pub fn inspect(path: &Path, limits: &Limits) -> Result<PictureHeader, PictureError> {
    let mut file = File::open(path)?;
    let bytes = file.metadata()?.len();
    check_bytes(bytes, limits)?;
    let mut content = Vec::new();
    file.by_ref().take(HEAD_BYTES).read_to_end(&mut content)?;
    let mut header = read_header(&content, limits);
    if header.is_err() && bytes > HEAD_BYTES {
        // Large embedded profiles or previews push the size further back.
        file.by_ref().take(limits.image_bytes).read_to_end(&mut content)?;
        header = read_header(&content, limits);
    }
    let (format, width, height) = header?;
    file.seek(SeekFrom::Start(bytes.saturating_sub(TAIL_BYTES)))?;
    let mut tail = Vec::new();
    file.by_ref().take(TAIL_BYTES).read_to_end(&mut tail)?;
    let end_marker: &[u8] = if format == ImageFormat::Png {
        b"IEND"
    } else {
        &JPEG_END
    };
    if !contains(&tail, end_marker) {
        // Phones append whole films to a photo.
        file.rewind()?;
        content.clear();
        file.take(limits.image_bytes).read_to_end(&mut content)?;
        if format == ImageFormat::Png || !contains(jpeg_scan(&content), &JPEG_END) {
            return Err(PictureError::Truncated);
        }
    }
    Ok(PictureHeader { width, height, bytes })
}

/// Rearranges `[.., 3]` pixels into three planes.
pub(crate) fn write_planes(rgb: &[u8], planes: &mut [u8]) {
    let (red, rest) = planes.split_at_mut(rgb.len() / 3);
    let (green, blue) = rest.split_at_mut(rgb.len() / 3);
    for (((pixel, red), green), blue) in rgb.chunks_exact(3).zip(red).zip(green).zip(blue) {
        (*red, *green, *blue) = (pixel[0], pixel[1], pixel[2]);
    }
}

fn contains(content: &[u8], marker: &[u8]) -> bool {
    content.windows(marker.len()).any(|window| window == marker)
}

/// What follows the headers of a JPEG file. Headers may hold a preview with an end marker of its own.
fn jpeg_scan(content: &[u8]) -> &[u8] {
    // Each header: 0xFF, its kind, and the length of what follows, itself included.
    let mut rest = content.get(2..).unwrap_or_default();
    while let [0xFF, kind, high, low, ..] = *rest {
        if kind == JPEG_SCAN {
            return rest;
        }
        let length = usize::from(u16::from_be_bytes([high, low]));
        rest = rest.get(2 + length..).unwrap_or_default();
    }
    &[]
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

fn read_header(content: &[u8], limits: &Limits) -> Result<(ImageFormat, u32, u32), PictureError> {
    let format = format_of(content)?;
    let (width, height, orientation) = contained(|| {
        let mut decoder = open_decoder(content, limits)?;
        let (width, height) = decoder.dimensions();
        Ok((
            width,
            height,
            decoder.orientation().map_err(PictureError::Decode)?,
        ))
    })?;
    let turned = matches!(
        orientation,
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    );
    Ok(if turned {
        (format, height, width)
    } else {
        (format, width, height)
    })
}

/// Reads the header and checks the size that it claims.
fn open_decoder<'a>(content: &'a [u8], limits: &Limits) -> Result<impl ImageDecoder + 'a, PictureError> {
    let mut reader = ImageReader::with_format(Cursor::new(content), format_of(content)?);
    let mut allocation = image::Limits::no_limits();
    allocation.max_alloc = Some(memory_max(limits));
    reader.limits(allocation);
    let decoder = reader.into_decoder().map_err(PictureError::Decode)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > limits.image_pixels {
        return Err(PictureError::TooManyPixels {
            width,
            height,
            limit: limits.image_pixels,
        });
    }
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
        .map_err(|error| ImageError::Decoding(DecodingError::new(ImageFormat::Jpeg.into(), error)))
        .map_err(PictureError::Decode)?;
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

fn format_of(content: &[u8]) -> Result<ImageFormat, PictureError> {
    match image::guess_format(content) {
        Ok(format @ (ImageFormat::Jpeg | ImageFormat::Png)) => Ok(format),
        _ => Err(PictureError::UnknownFormat),
    }
}

/// Enough for the header of nearly every photo.
const HEAD_BYTES: u64 = 64 << 10;
const JPEG_END: [u8; 2] = [0xFF, 0xD9];
const JPEG_SCAN: u8 = 0xDA;
/// Progressive files have about ten; each scan of a hostile one costs a pass over the whole picture.
const JPEG_SCANS_MAX: usize = 200;
/// Some programs append a few bytes behind the end marker.
const TAIL_BYTES: u64 = 4 << 10;

#[cfg(test)]
#[path = "picture_tests.rs"]
mod tests;
