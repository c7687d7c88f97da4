//! Tests of decoding, headers and limits.

use std::fs;

use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder};

use super::*;

/// An extension for each format.
const EXTENSIONS: [&str; 5] = ["png", "jpg", "webp", "bmp", "tiff"];

fn gradient(width: u32, height: u32) -> Picture {
    let rgb = (0..width * height)
        .flat_map(|i| [(i % 251) as u8, (i % 83) as u8, (i / 7 % 256) as u8])
        .collect();
    Picture { width, height, rgb }
}

#[test]
fn what_was_written_without_loss_comes_back_bit_for_bit_and_its_header_is_right() {
    let folder = tempfile::tempdir().unwrap();
    for extension in EXTENSIONS.iter().filter(|&&extension| extension != "jpg") {
        let path = folder.path().join("a").with_extension(extension);
        let picture = gradient(37, 21);
        picture.write(&path).unwrap();
        let header = inspect(&path, &Limits::default()).unwrap();
        assert_eq!((header.width, header.height), (37, 21), "{extension}");
        assert_eq!(header.bytes, fs::metadata(&path).unwrap().len());
        let read = Picture::read(&path, &Limits::default()).unwrap();
        assert!(read == picture, "{extension}");
    }
}

#[test]
fn what_is_in_a_file_counts_and_not_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let renamed = folder.path().join("renamed.jpg");
    for extension in EXTENSIONS {
        let path = folder.path().join("a").with_extension(extension);
        gradient(37, 21).write(&path).unwrap();
        fs::copy(&path, &renamed).unwrap();
        let headers = [&path, &renamed].map(|path| inspect(path, &Limits::default()).unwrap());
        assert_eq!(headers[0], headers[1], "{extension}");
        let pictures = [&path, &renamed].map(|path| Picture::read(path, &Limits::default()).unwrap());
        assert!(pictures[0] == pictures[1], "{extension}");
    }
}

#[test]
fn a_file_that_was_cut_off_is_found_without_decoding() {
    let folder = tempfile::tempdir().unwrap();
    for extension in EXTENSIONS {
        let path = folder.path().join("a").with_extension(extension);
        gradient(200, 150).write(&path).unwrap();
        inspect(&path, &Limits::default()).unwrap();
        let content = fs::read(&path).unwrap();
        fs::write(&path, &content[..content.len() * 2 / 3]).unwrap();
        let error = inspect(&path, &Limits::default()).unwrap_err();
        assert!(matches!(error, PictureError::Truncated), "{extension}: {error}");
    }
}

#[test]
fn other_formats_have_the_pixels_that_opencv_decodes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/formats");
    let read = |name: &str| Picture::read(&folder.join(name), &Limits::default()).unwrap();
    for name in [
        "lossless.webp",
        "plain.bmp",
        "palette.bmp",
        "plain.tif",
        "lzw.tif",
        "predicted.tif",
        "deflate.tif",
        "packbits.tif",
        "grey.tif",
    ] {
        assert!(read(name) == read(&format!("{name}.png")), "{name}");
    }
    // Another decoder than OpenCV's, so chroma may be rounded otherwise.
    for name in ["lossy.webp", "alpha.webp"] {
        let (ours, theirs) = (read(name), read(&format!("{name}.png")));
        assert_eq!((ours.width, ours.height), (theirs.width, theirs.height), "{name}");
        let differences = ours.rgb.iter().zip(&theirs.rgb).map(|(a, b)| a.abs_diff(*b));
        assert!(differences.clone().all(|difference| difference <= 8), "{name}");
        let sum: u32 = differences.map(u32::from).sum();
        assert!(f64::from(sum) < 0.5 * ours.rgb.len() as f64, "{name}");
    }
}

#[test]
fn a_jpeg_has_the_pixels_that_opencv_decodes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/jpeg");
    for kind in ["444", "422", "420", "progressive", "coarse", "grey"] {
        let read = |extension| {
            Picture::read(&folder.join(kind).with_extension(extension), &Limits::default()).unwrap()
        };
        assert!(read("jpg") == read("png"), "{kind}");
    }
}

#[test]
fn what_decoders_forgive_in_a_jpeg_is_forgiven() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jpg");
    let picture = gradient(64, 48);
    picture.write(&path).unwrap();
    let mut content = fs::read(&path).unwrap();
    let before = Picture::decode(&content, &Limits::default()).unwrap();
    // Cameras leave bytes before the end marker, and programs append some behind it.
    let end = content.len() - 2;
    content.splice(end..end, [0; 3]);
    content.extend(b"appended");
    assert!(Picture::decode(&content, &Limits::default()).unwrap() == before);
}

#[test]
fn limits_hold_before_decoding() {
    let folder = tempfile::tempdir().unwrap();
    let few_pixels = Limits {
        image_pixels: 9_999,
        ..Limits::default()
    };
    let few_bytes = Limits {
        image_bytes: 100,
        ..Limits::default()
    };
    for extension in EXTENSIONS {
        let path = folder.path().join("a").with_extension(extension);
        gradient(100, 100).write(&path).unwrap();
        assert!(matches!(
            inspect(&path, &few_pixels),
            Err(PictureError::TooManyPixels { .. })
        ));
        assert!(matches!(
            inspect(&path, &few_bytes),
            Err(PictureError::TooManyBytes { .. })
        ));
        assert!(matches!(
            Picture::read(&path, &few_pixels),
            Err(PictureError::TooManyPixels { .. })
        ));
        assert!(matches!(
            Picture::read(&path, &few_bytes),
            Err(PictureError::TooManyBytes { .. })
        ));
    }
}

#[test]
fn a_header_that_claims_a_huge_image_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("huge.jpg");
    gradient(8, 8).write(&path).unwrap();
    let mut content = fs::read(&path).unwrap();
    // The frame header: marker, length, precision, height, width.
    let frame = content
        .windows(2)
        .position(|marker| marker == [0xFF, 0xC0])
        .unwrap();
    content[frame + 5..frame + 9].copy_from_slice(&[0xFF, 0xFF, 0xFF, 0xFF]);
    fs::write(&path, &content).unwrap();
    let error = inspect(&path, &Limits::default()).unwrap_err();
    assert!(
        matches!(
            error,
            PictureError::TooManyPixels {
                width: 65535,
                height: 65535,
                ..
            }
        ),
        "{error}"
    );
    assert!(Picture::read(&path, &Limits::default()).is_err());
}

#[test]
fn text_is_no_image() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jpg");
    fs::write(&path, "not an image").unwrap();
    assert!(matches!(
        inspect(&path, &Limits::default()),
        Err(PictureError::UnknownFormat)
    ));
}

#[test]
fn planes_hold_one_channel_each() {
    let picture = Picture {
        width: 2,
        height: 1,
        rgb: vec![1, 2, 3, 4, 5, 6],
    };
    assert_eq!(picture.to_planes(), [1, 4, 2, 5, 3, 6]);
}

/// The file of a JPEG picture, its left half red and its right half blue, with an orientation tag.
fn tagged(orientation: u8) -> Vec<u8> {
    let row = [[200, 20, 20].repeat(24), [20, 20, 200].repeat(24)].concat();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jpg");
    Picture {
        width: 48,
        height: 16,
        rgb: row.repeat(16),
    }
    .write(&path)
    .unwrap();
    let mut content = fs::read(&path).unwrap();
    let mut header = b"\xFF\xE1\x00\x22Exif\0\0".to_vec();
    header.extend(exif(orientation));
    content.splice(2..2, header);
    content
}

/// One big-endian directory of one entry: tag 0x0112, type 3 (short), count 1, the value.
fn exif(orientation: u8) -> Vec<u8> {
    let mut exif = b"MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
    exif
}

/// The files of a picture of two pixels, red and blue, with an orientation tag.
fn small_tagged(orientation: u8) -> [Vec<u8>; 2] {
    let pixels = [255, 0, 0, 0, 0, 255];
    let mut webp = Vec::new();
    let mut encoder = WebPEncoder::new_lossless(&mut webp);
    encoder.set_exif_metadata(exif(orientation)).unwrap();
    encoder
        .write_image(&pixels, 2, 1, ExtendedColorType::Rgb8)
        .unwrap();

    let tags: [(u16, u16); 9] = [
        (256, 2),
        (257, 1),
        (258, 8),
        (262, 2),
        // The pixels lie behind the header, the number of tags, the tags, and the place of the next ones.
        (273, 8 + 2 + 9 * 12 + 4),
        (274, orientation.into()),
        (277, 3),
        (278, 1),
        (279, 6),
    ];
    let mut tiff = b"II\x2A\0\x08\0\0\0\x09\0".to_vec();
    for (tag, value) in tags {
        tiff.extend(tag.to_le_bytes());
        tiff.extend(b"\x03\0\x01\0\0\0");
        tiff.extend(value.to_le_bytes());
        tiff.extend(b"\0\0");
    }
    tiff.extend(b"\0\0\0\0");
    tiff.extend(pixels);
    [webp, tiff]
}

#[test]
fn webp_and_tiff_files_have_their_orientation_applied() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    for (orientation, size, first_is_red) in [
        (1, (2, 1), true),
        (2, (2, 1), false),
        (6, (1, 2), true),
        (8, (1, 2), false),
    ] {
        for content in small_tagged(orientation) {
            fs::write(&path, &content).unwrap();
            let header = inspect(&path, &Limits::default()).unwrap();
            assert_eq!((header.width, header.height), size, "orientation {orientation}");
            let picture = Picture::read(&path, &Limits::default()).unwrap();
            assert_eq!((picture.width, picture.height), size);
            assert_eq!(picture.rgb[0] == 255, first_is_red, "orientation {orientation}");
        }
    }
}

#[test]
fn orientation_tags_are_applied_to_header_and_pixels() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jpg");
    for (orientation, size, first_is_red) in [
        (1, (48, 16), true),
        (3, (48, 16), false),
        (6, (16, 48), true),
        (8, (16, 48), false),
    ] {
        fs::write(&path, tagged(orientation)).unwrap();
        let header = inspect(&path, &Limits::default()).unwrap();
        assert_eq!((header.width, header.height), size, "orientation {orientation}");
        let picture = Picture::read(&path, &Limits::default()).unwrap();
        assert_eq!((picture.width, picture.height), size);
        assert_eq!(
            picture.rgb[0] > picture.rgb[2],
            first_is_red,
            "orientation {orientation}"
        );
    }
}

#[test]
fn a_film_behind_a_photo_does_not_make_it_truncated_but_a_preview_in_its_header_does_not_help() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jpg");
    let mut content = tagged(1);
    // A comment that holds an end marker.
    content.splice(2..2, [0xFF, 0xFE, 0, 4, 0xFF, 0xD9]);
    let mut with_film = content.clone();
    with_film.extend([7; 9000]);
    fs::write(&path, &with_film).unwrap();
    inspect(&path, &Limits::default()).unwrap();

    content.truncate(content.len() - 10);
    content.extend([7; 9000]);
    fs::write(&path, &content).unwrap();
    assert!(matches!(
        inspect(&path, &Limits::default()),
        Err(PictureError::Truncated)
    ));
}

#[test]
fn a_panic_in_a_decoder_is_an_error_of_its_file() {
    let refused: Result<(), _> = contained(|| panic!("index out of bounds"));
    assert!(matches!(refused, Err(PictureError::Panicked)));
    assert!(matches!(contained(|| Ok(7)), Ok(7)));
}
