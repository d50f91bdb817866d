//! Doors for the fuzz targets (`crates/sys-fuzz`) to what is private here: bytes in, bytes out.
//!
//! Every key behind these doors comes from a constant, so that none of them opens anything that is stored.

use crate::{
    derivation::Root,
    key_file::{Chain, FileId, Layout, Payload, frame},
    secret::Secret,
    space::{Generation, GenerationKeys, SpaceKeys},
};
use aws_lc_rs::hmac;
use std::sync::Arc;

/// Offset, kind and payload of a frame.
pub type FramePart = (u64, u8, Vec<u8>);

/// The whole frames of a key file, and where the last one ends; none of it is authenticated.
pub fn layout(bytes: &[u8]) -> Option<(Vec<FramePart>, u64)> {
    let layout = Layout::read(bytes).ok()?;
    let frames = layout.frames.iter().map(|frame| (frame.offset, frame.kind, frame.payload.to_vec())).collect();
    Some((frames, layout.end))
}

/// A key file with these frames, authentic under a constant key.
pub fn key_file(frames: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = frame::header(FileId([9; 16]));
    let mut chain = Chain::start(&key(), &bytes);
    for (kind, payload) in frames {
        bytes.extend(frame::encode(bytes.len() as u64, *kind, payload, &mut chain));
    }
    bytes
}

/// Whether all whole frames are authentic under the constant key, and one by one behind each other.
pub fn is_authentic(bytes: &[u8]) -> bool {
    let Ok(layout) = Layout::read(bytes) else { return false };
    let mut chain = Chain::start(&key(), layout.header);
    layout.frames.iter().all(|frame| chain.verify(frame).is_ok())
}

/// The payload of a frame, read and written anew.
pub fn payload(kind: u8, payload: &[u8]) -> Option<(u8, Vec<u8>)> {
    let bytes = key_file(&[(kind, payload.to_vec())]);
    let layout = Layout::read(&bytes).ok()?;
    let payload = Payload::read(layout.frames.first()?).ok()?;
    Some((payload.kind(), payload.encode()))
}

/// A tablespace's keys, of two generations that anybody can make again; another seed gives others.
pub fn danger_space_keys(seed: u8) -> Option<SpaceKeys> {
    let generation = |number: u8| {
        let root = Root::new(&Secret::filled(|key| key.fill(seed ^ number)));
        GenerationKeys::new(Generation(number.into()), root, Arc::default())
    };
    SpaceKeys::new(vec![generation(1), generation(2)])
}

fn key() -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, &[1; 32])
}
