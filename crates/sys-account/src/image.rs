//! Pictures that people hand in: logos and avatars.
//!
//! They are stored and handed back as bytes. What must never happen here: decoding. A picture is told by its first bytes
//! and bounded in size; whoever shows it decodes it.

use std::fmt;

/// Largest picture in bytes: a logo or avatar of 512 x 512 pixels fits, a photograph does not.
pub const MAX_IMAGE_BYTES: usize = 256 * 1024;
/// How every PNG file begins (RFC 2083 section 3.1).
const PNG_SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
/// How every JPEG file begins: start of image, then a marker (ITU-T T.81 annex B).
const JPEG_SIGNATURE: &[u8] = b"\xff\xd8\xff";

/// What kind of picture it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageKind {
    /// `image/png`.
    Png,
    /// `image/jpeg`.
    Jpeg,
}

impl ImageKind {
    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
        }
    }
}

/// A picture whose type and size have been checked. `Debug` leaves its bytes out.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    kind: ImageKind,
    bytes: Vec<u8>,
}

impl Image {
    /// Takes the bytes of a PNG or JPEG file.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, ImageError> {
        if bytes.len() > MAX_IMAGE_BYTES {
            return Err(ImageError::TooLarge { size_bytes: bytes.len() });
        }
        let kind = if bytes.starts_with(PNG_SIGNATURE) {
            ImageKind::Png
        } else if bytes.starts_with(JPEG_SIGNATURE) {
            ImageKind::Jpeg
        } else {
            return Err(ImageError::UnknownKind);
        };
        Ok(Self { kind, bytes })
    }

    /// What kind of picture it is.
    pub fn kind(&self) -> ImageKind {
        self.kind
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The file's bytes, to keep.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image").field("kind", &self.kind).field("size_bytes", &self.bytes.len()).finish()
    }
}

/// Why bytes are no picture that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// Larger than [`MAX_IMAGE_BYTES`].
    #[error("the picture has {size_bytes} bytes, more than {MAX_IMAGE_BYTES}: make it smaller")]
    TooLarge {
        /// How large it is.
        size_bytes: usize,
    },
    /// Neither PNG nor JPEG.
    #[error("the picture is neither PNG nor JPEG")]
    UnknownKind,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_png_and_jpeg_of_a_bounded_size_are_taken() {
        let png = |size: usize| {
            let mut bytes = PNG_SIGNATURE.to_vec();
            bytes.resize(size, 0);
            bytes
        };
        assert_eq!(Image::parse(png(MAX_IMAGE_BYTES)).map(|image| image.kind()), Ok(ImageKind::Png));
        assert_eq!(Image::parse(b"\xff\xd8\xff\xe0rest".to_vec()).map(|image| image.kind()), Ok(ImageKind::Jpeg));
        assert_eq!(
            Image::parse(png(MAX_IMAGE_BYTES + 1)),
            Err(ImageError::TooLarge { size_bytes: MAX_IMAGE_BYTES + 1 })
        );
        for bytes in [&b""[..], b"\x89PN", b"GIF89a", b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>", b"%PDF-1.7"] {
            assert_eq!(Image::parse(bytes.to_vec()), Err(ImageError::UnknownKind));
        }
    }
}
