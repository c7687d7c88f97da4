//! Whether a JPEG, PNG or BMP file has its end, without decoding it.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
};

use super::{Header, Limits};

pub(super) fn jpeg(file: &mut File, bytes: u64, limits: &Limits) -> io::Result<bool> {
    if contains(&tail(file, bytes)?, &JPEG_END) {
        return Ok(true);
    }
    // Phones append whole films to a photo.
    file.rewind()?;
    let mut content = Vec::new();
    file.take(limits.image_bytes).read_to_end(&mut content)?;
    Ok(contains(jpeg_scan(&content), &JPEG_END))
}

pub(super) fn png(file: &mut File, bytes: u64) -> io::Result<bool> {
    Ok(contains(&tail(file, bytes)?, b"IEND"))
}

/// Whether the file is as long as its header, at the beginning of `content`, says. Rows that are coded by runs have any
/// length, so nothing is known of them.
pub(super) fn bmp(content: &[u8], bytes: u64, header: Header) -> bool {
    bmp_end(content, header).is_none_or(|end| end <= bytes)
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

fn bmp_end(content: &[u8], header: Header) -> Option<u64> {
    let number = |place: usize, bytes: usize| {
        let bytes = content.get(place..place + bytes)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0_u64, |sum, &byte| sum << 8 | u64::from(byte)),
        )
    };
    let (bits, compression) = if number(14, 4)? == BMP_OLD_HEADER_BYTES {
        (number(24, 2)?, BMP_PLAIN)
    } else {
        (number(28, 2)?, number(30, 4)?)
    };
    // Rows begin at multiples of four bytes.
    let row_bytes = (bits * u64::from(header.width)).div_ceil(32) * 4;
    let end = number(10, 4)? + row_bytes * u64::from(header.height);
    [BMP_PLAIN, BMP_PLAIN_WITH_MASKS]
        .contains(&compression)
        .then_some(end)
}

fn tail(file: &mut File, bytes: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(bytes.saturating_sub(TAIL_BYTES)))?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut tail)?;
    Ok(tail)
}

fn contains(content: &[u8], marker: &[u8]) -> bool {
    content.windows(marker.len()).any(|window| window == marker)
}

const JPEG_END: [u8; 2] = [0xFF, 0xD9];
const JPEG_SCAN: u8 = 0xDA;
const BMP_OLD_HEADER_BYTES: u64 = 12;
const BMP_PLAIN: u64 = 0;
const BMP_PLAIN_WITH_MASKS: u64 = 3;
/// Some programs append a few bytes behind the end marker.
const TAIL_BYTES: u64 = 4 << 10;
