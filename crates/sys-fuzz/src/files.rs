//! Files that somebody hands in: pictures, and the operator's configuration.

use crate::input::text;
use sys_account::image::{Image, ImageKind, MAX_IMAGE_BYTES};
use sys_server::config_file::ConfigFile;

/// A picture is taken as it is, if it begins as its kind does and is not too large; its `Debug` shows none of it.
pub(crate) fn picture(bytes: &[u8]) {
    // The first byte makes it long: nobody keeps a corpus of files of 256 KiB.
    let Some((&length, bytes)) = bytes.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if length > 0xf0 && !bytes.is_empty() {
        bytes.resize(MAX_IMAGE_BYTES + usize::from(length & 1), 0);
    }
    let kind = match bytes.as_slice() {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some(ImageKind::Png),
        [0xff, 0xd8, 0xff, ..] => Some(ImageKind::Jpeg),
        _ => None,
    };
    let expected = kind.filter(|_| bytes.len() <= MAX_IMAGE_BYTES);
    match Image::parse(bytes.clone()) {
        Ok(image) => {
            assert_eq!((Some(image.kind()), image.bytes()), (expected, bytes.as_slice()));
            assert!(format!("{image:?}").len() < 100, "a picture is not printed");
            assert_eq!(image.into_bytes(), bytes);
        }
        Err(error) => assert!(expected.is_none() && !error.to_string().is_empty(), "{error}"),
    }
}

/// A configuration is refused with a line of its own and what to write, or read in one way: never with two ways to the same key, and with
/// metrics on this machine alone.
pub(crate) fn configuration(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    match ConfigFile::parse(text) {
        Ok(file) => {
            assert!(file.passphrase_file.is_none() || file.danger_key_file.is_none());
            assert!(file.mail.smtp.is_none() || file.mail.outbox_dir.is_none());
            if let Some(metrics) = &file.metrics_listen {
                assert!(metrics.0.ip().to_canonical().is_loopback(), "{}", metrics.0);
            }
            let again = ConfigFile::parse(text).expect("read before");
            assert_eq!(format!("{again:?}"), format!("{file:?}"), "one text has one meaning");
        }
        Err(mistake) => {
            assert!(!mistake.what.is_empty());
            let lines =
                u64::try_from(text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count()).expect("a number");
            assert!(mistake.line <= lines + 1, "line {} of {lines}", mistake.line);
        }
    }
}
