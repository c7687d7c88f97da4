//! WebP files: what their chunks claim, before the decoder sees them.
//!
//! The decoder takes the size of the canvas from one chunk and makes room for the picture as another one asks, so the two
//! are compared here first. It gets the chunks that were looked at, and nothing that lies behind them. Animations are not
//! read.
//!
//! # Source
//! RFC 9649 (chunks, lossless pictures) and RFC 6386, section 9.1 (lossy pictures).

use std::io::{Cursor, ErrorKind, Read, Seek, SeekFrom};

use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageFormat};

use super::{Header, Limits, PictureError, check_pixels, malformed};

/// Decodes a file.
pub(super) fn decode(content: &[u8], limits: &Limits) -> Result<(DynamicImage, Orientation), PictureError> {
    let (header, end) = look_at_chunks(Cursor::new(content), content.len() as u64, limits)?;
    let chunks = Cursor::new(&content[..end as usize]);
    let decoder = WebPDecoder::new(chunks).map_err(PictureError::Decode)?;
    let decoded = DynamicImage::from_decoder(decoder).map_err(PictureError::Decode)?;
    Ok((decoded, header.orientation))
}

/// Reads the header of a file of so many bytes, and checks that it has its end.
pub(super) fn read_header(
    file: impl Read + Seek,
    bytes: u64,
    limits: &Limits,
) -> Result<Header, PictureError> {
    let (header, _) = look_at_chunks(file, bytes, limits)?;
    Ok(header)
}

/// Returns where the chunks end, too.
fn look_at_chunks(
    mut file: impl Read + Seek,
    bytes: u64,
    limits: &Limits,
) -> Result<(Header, u64), PictureError> {
    let [_, _, _, _, length @ ..]: [u8; 8] = read_at(&mut file, 0)?;
    let end = 8 + u64::from(u32::from_le_bytes(length));
    if end > bytes {
        return Err(PictureError::Truncated);
    }
    let (mut canvas, mut picture) = (None, None);
    let mut orientation = Orientation::NoTransforms;
    let mut place = FIRST_CHUNK;
    for _ in 0..CHUNKS_MAX {
        // A file without a canvas is one picture.
        if place + CHUNK_HEADER_BYTES > end || canvas.is_none() && picture.is_some() {
            break;
        }
        let [k0, k1, k2, k3, length @ ..]: [u8; 8] = read_at(&mut file, place)?;
        let length = u64::from(u32::from_le_bytes(length));
        place += CHUNK_HEADER_BYTES;
        if place + length > end {
            return Err(PictureError::Truncated);
        }
        match &[k0, k1, k2, k3] {
            b"VP8X" if canvas.is_none() => canvas = Some(canvas_size(read_at(&mut file, place)?)?),
            b"VP8 " if picture.is_none() => picture = Some(lossy_size(read_at(&mut file, place)?)),
            b"VP8L" if picture.is_none() => picture = Some(lossless_size(read_at(&mut file, place)?)),
            b"EXIF" => orientation = read_orientation(&mut file, length)?,
            _ => {}
        }
        // Chunks begin at even places.
        place += length + length % 2;
    }
    let (width, height) = picture.ok_or_else(|| refused("there is no picture in it"))?;
    if width == 0 || height == 0 {
        return Err(refused("the picture has no pixels"));
    }
    check_pixels(width, height, limits)?;
    if canvas.is_some_and(|canvas| canvas != (width, height)) {
        return Err(refused("the picture is not as large as its canvas"));
    }
    let header = Header {
        width,
        height,
        orientation,
    };
    Ok((header, end))
}

fn canvas_size(chunk: [u8; 10]) -> Result<(u32, u32), PictureError> {
    let [flags, _, _, _, w0, w1, w2, h0, h1, h2] = chunk;
    if flags & ANIMATION != 0 {
        return Err(refused("animations are not read"));
    }
    Ok((
        1 + u32::from_le_bytes([w0, w1, w2, 0]),
        1 + u32::from_le_bytes([h0, h1, h2, 0]),
    ))
}

/// The two highest bits ask for scaling, which nobody does.
fn lossy_size(chunk: [u8; 10]) -> (u32, u32) {
    let [.., w0, w1, h0, h1] = chunk;
    let side = |bytes| u32::from(u16::from_le_bytes(bytes)) & SIDE_BITS;
    (side([w0, w1]), side([h0, h1]))
}

fn lossless_size(chunk: [u8; 5]) -> (u32, u32) {
    let [_signature, sides @ ..] = chunk;
    let sides = u32::from_le_bytes(sides);
    (1 + (sides & SIDE_BITS), 1 + (sides >> 14 & SIDE_BITS))
}

/// Reads the chunk at which the file stands.
fn read_orientation(file: impl Read, length: u64) -> Result<Orientation, PictureError> {
    let mut exif = Vec::new();
    file.take(length.min(EXIF_BYTES_MAX)).read_to_end(&mut exif)?;
    // Some programs begin it as in a JPEG file.
    let tags = exif.strip_prefix(b"Exif\0\0").unwrap_or(&exif);
    Ok(Orientation::from_exif_chunk(tags).unwrap_or(Orientation::NoTransforms))
}

fn read_at<const N: usize>(file: &mut (impl Read + Seek), place: u64) -> Result<[u8; N], PictureError> {
    let mut bytes = [0; N];
    file.seek(SeekFrom::Start(place))?;
    file.read_exact(&mut bytes).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => PictureError::Truncated,
        _ => error.into(),
    })?;
    Ok(bytes)
}

fn refused(reason: &str) -> PictureError {
    malformed(ImageFormat::WebP, reason)
}

/// Behind `RIFF`, the length and `WEBP`.
const FIRST_CHUNK: u64 = 12;
/// Its kind and its length.
const CHUNK_HEADER_BYTES: u64 = 8;
/// A picture has about five.
const CHUNKS_MAX: usize = 1000;
const ANIMATION: u8 = 0b10;
const SIDE_BITS: u32 = (1 << 14) - 1;
/// As long as it may be in a JPEG file.
const EXIF_BYTES_MAX: u64 = 64 << 10;
