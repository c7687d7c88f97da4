//! Tests of decoding, headers and limits.

use std::fs;

use super::*;

fn gradient(width: u32, height: u32) -> Picture {
    let rgb = (0..width * height)
        .flat_map(|i| [(i % 251) as u8, (i % 83) as u8, (i / 7 % 256) as u8])
        .collect();
    Picture { width, height, rgb }
}

#[test]
fn a_png_comes_back_bit_for_bit_and_its_header_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    let picture = gradient(37, 21);
    picture.write(&path).unwrap();
    let header = inspect(&path, &Limits::default()).unwrap();
    assert_eq!((header.width, header.height), (37, 21));
    assert_eq!(header.bytes, fs::metadata(&path).unwrap().len());
    assert_eq!(Picture::read(&path, &Limits::default()).unwrap(), picture);
}

#[test]
fn a_file_that_was_cut_off_is_found_without_decoding() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.png", "a.jpg"] {
        let path = folder.path().join(name);
        gradient(200, 150).write(&path).unwrap();
        inspect(&path, &Limits::default()).unwrap();
        let content = fs::read(&path).unwrap();
        fs::write(&path, &content[..content.len() * 2 / 3]).unwrap();
        let error = inspect(&path, &Limits::default()).unwrap_err();
        assert!(matches!(error, PictureError::Truncated), "{name}: {error}");
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
    let end = content.len() - JPEG_END.len();
    content.splice(end..end, [0; 3]);
    content.extend(b"appended");
    assert!(Picture::decode(&content, &Limits::default()).unwrap() == before);
}

#[test]
fn limits_hold_before_decoding() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    gradient(100, 100).write(&path).unwrap();
    let few_pixels = Limits {
        image_pixels: 9_999,
        ..Limits::default()
    };
    let few_bytes = Limits {
        image_bytes: 100,
        ..Limits::default()
    };
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
    // Exif with one big-endian directory of one entry: tag 0x0112, type 3 (short), count 1, the value.
    let mut exif = b"\xFF\xE1\x00\x22Exif\0\0MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
    content.splice(2..2, exif);
    content
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
