//! What the names of files say: which are pictures, where a folder is listed.

use std::path::Path;

/// What the extension of a file says about it. When it is read, only what is in it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedAs {
    /// A picture of one of the [`FORMATS`](super::FORMATS).
    Picture,
    /// A picture of a format that is not read: the extension, in lower case.
    UnreadPicture(String),
    /// Something else.
    Other,
}

impl NamedAs {
    /// Returns what a file's name says.
    pub fn of(file: &Path) -> Self {
        let extension = file.extension().and_then(|extension| extension.to_str());
        let extension = extension.map(str::to_ascii_lowercase).unwrap_or_default();
        if EXTENSIONS.contains(&extension.as_str()) {
            Self::Picture
        } else if UNREAD_EXTENSIONS.contains(&extension.as_str()) {
            Self::UnreadPicture(extension)
        } else {
            Self::Other
        }
    }
}

/// A file named `.mpo` is a JPEG file with more pictures behind the first.
const EXTENSIONS: [&str; 8] = ["bmp", "jpeg", "jpg", "mpo", "png", "tif", "tiff", "webp"];
/// What other trainers read too: worth a word instead of silence.
const UNREAD_EXTENSIONS: [&str; 7] = ["avif", "dng", "gif", "heic", "heif", "jp2", "pfm"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_told_by_their_extension_in_any_case() {
        for (name, expected) in [
            ("a.JPG", NamedAs::Picture),
            ("a.b.webp", NamedAs::Picture),
            ("photos/a.Tif", NamedAs::Picture),
            ("a.HEIC", NamedAs::UnreadPicture("heic".into())),
            ("a.txt", NamedAs::Other),
            ("jpg", NamedAs::Other),
        ] {
            assert_eq!(NamedAs::of(Path::new(name)), expected, "{name}");
        }
    }
}
