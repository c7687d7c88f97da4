//! TIFF files: what their tags claim, before the decoder sees them.
//!
//! The decoder bounds the picture that it returns, but not what it needs on the way: rows of pixels with any number of
//! channels, tiles far larger than the picture, parts that are JPEG pictures of their own. Files with such are refused here.
//! What is read: grey and RGB in rows or tiles, as they are or by LZW, Deflate or PackBits. Of several pictures the first
//! is taken.

use std::io::{BufRead, Cursor, ErrorKind, Read, Seek};

use ::tiff::TiffError;
use ::tiff::decoder::Decoder;
use ::tiff::tags::Tag;
use image::codecs::tiff::TiffDecoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat};

use super::{Header, Limits, PictureError, check_pixels, malformed, memory_limits};

/// Decodes a file.
pub(super) fn decode(content: &[u8], limits: &Limits) -> Result<(DynamicImage, Orientation), PictureError> {
    let header = read_header(Cursor::new(content), content.len() as u64, limits)?;
    let mut decoder = TiffDecoder::new(Cursor::new(content)).map_err(PictureError::Decode)?;
    decoder
        .set_limits(memory_limits(limits))
        .map_err(PictureError::Decode)?;
    let decoded = DynamicImage::from_decoder(decoder).map_err(PictureError::Decode)?;
    Ok((decoded, header.orientation))
}

/// Reads the header of a file of so many bytes, and checks that it has its end.
pub(super) fn read_header(
    mut file: impl BufRead + Seek,
    bytes: u64,
    limits: &Limits,
) -> Result<Header, PictureError> {
    file.rewind()?;
    let header = Tags(Decoder::new(&mut file).map_err(refusal)?).header(bytes, limits)?;
    // Kinds of pixels that it does not take are better refused now than in training.
    file.rewind()?;
    TiffDecoder::new(&mut file).map_err(PictureError::Decode)?;
    Ok(header)
}

/// The tags of the first picture.
struct Tags<R: Read + Seek>(Decoder<R>);

impl<R: Read + Seek> Tags<R> {
    fn header(mut self, bytes: u64, limits: &Limits) -> Result<Header, PictureError> {
        let (width, height) = self.0.dimensions().map_err(refusal)?;
        check_pixels(width, height, limits)?;
        self.check_pixel()?;
        self.check_tiles([width, height], limits)?;
        self.check_end(bytes)?;
        Ok(Header {
            width,
            height,
            orientation: self.orientation(),
        })
    }

    /// Refuses previews, codings that are not read, and pixels of too many channels.
    fn check_pixel(&mut self) -> Result<(), PictureError> {
        // Cameras put a preview before what they call raw.
        if self.number(Tag::NewSubfileType)?.unwrap_or(0) & PREVIEW != 0 {
            return Err(refused("its first picture is a preview"));
        }
        let coding = self.number(Tag::Compression)?.unwrap_or(PLAIN);
        if !CODINGS.contains(&coding) {
            return Err(refused(format!("compression {coding} is not read")));
        }
        let channels = self.number(Tag::SamplesPerPixel)?.unwrap_or(1);
        let bits = self.numbers(Tag::BitsPerSample)?.first().copied().unwrap_or(1);
        if channels.saturating_mul(bits) > PIXEL_BITS_MAX {
            return Err(refused(format!("a pixel has {channels} channels of {bits} bits")));
        }
        Ok(())
    }

    /// Refuses tiles that cover more than a picture may have.
    fn check_tiles(&mut self, [width, height]: [u32; 2], limits: &Limits) -> Result<(), PictureError> {
        let mut covered = |side: u32, tag| -> Result<u64, PictureError> {
            let tile = self.number(tag)?.unwrap_or(1).clamp(1, u64::from(u32::MAX));
            Ok(u64::from(side).next_multiple_of(tile))
        };
        let pixels = covered(width, Tag::TileWidth)?.saturating_mul(covered(height, Tag::TileLength)?);
        if pixels > limits.image_pixels {
            return Err(refused("its tiles are far larger than the picture"));
        }
        Ok(())
    }

    fn check_end(&mut self, bytes: u64) -> Result<(), PictureError> {
        for (begins, lengths) in [
            (Tag::StripOffsets, Tag::StripByteCounts),
            (Tag::TileOffsets, Tag::TileByteCounts),
        ] {
            let (begins, lengths) = (self.numbers(begins)?, self.numbers(lengths)?);
            if begins.len() > PARTS_MAX {
                return Err(refused(format!("it has {} parts", begins.len())));
            }
            let mut parts = begins.iter().zip(&lengths);
            if parts.any(|(begin, length)| begin.saturating_add(*length) > bytes) {
                return Err(PictureError::Truncated);
            }
        }
        Ok(())
    }

    /// Whatever is no orientation changes nothing.
    fn orientation(&mut self) -> Orientation {
        let tag = self.0.find_tag_unsigned(Tag::Orientation).ok().flatten();
        tag.and_then(Orientation::from_exif)
            .unwrap_or(Orientation::NoTransforms)
    }

    fn number(&mut self, tag: Tag) -> Result<Option<u64>, PictureError> {
        self.0.find_tag_unsigned(tag).map_err(refusal)
    }

    fn numbers(&mut self, tag: Tag) -> Result<Vec<u64>, PictureError> {
        let numbers = self.0.find_tag_unsigned_vec(tag).map_err(refusal)?;
        Ok(numbers.unwrap_or_default())
    }
}

fn refused(reason: impl Into<String>) -> PictureError {
    let reason: String = reason.into();
    malformed(ImageFormat::Tiff, reason)
}

fn refusal(error: TiffError) -> PictureError {
    match error {
        TiffError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => PictureError::Truncated,
        TiffError::IoError(error) => error.into(),
        error => malformed(ImageFormat::Tiff, error),
    }
}

const PREVIEW: u64 = 1;
const PLAIN: u64 = 1;
/// None, LZW, Deflate under its two numbers, PackBits. By Fax, which is for paper, and by JPEG, a part has a size of its own.
const CODINGS: [u64; 5] = [PLAIN, 5, 8, 32_946, 32_773];
/// Four channels of 32 bits.
const PIXEL_BITS_MAX: u64 = 128;
/// As many rows as a side has pixels in most formats; each part begins a decoder of its own.
const PARTS_MAX: usize = 1 << 16;
