//! The key file: sealers and wrapped tablespace keys, apart from the data, only ever appended to, or replaced as a whole.
//!
//! ```text
//! header | frame | frame | …          each frame authenticated together with all that stands before it
//! ```
//!
//! `frame` is the format, `payload` what the frames hold, `medium` the disk. What must never happen here: a frame that
//! counts as written before it is synced, and damage that passes for the torn end that a crash leaves. A torn end is a file
//! that ends inside a frame, and nothing else: only one frame is ever under way, and its key was not handed out.

pub(crate) mod frame;
mod medium;
mod payload;

pub(crate) use frame::{Chain, FileId, Layout};
pub(crate) use medium::Medium;
pub(crate) use payload::{Payload, SealerFrame, WrappedFrame};

use crate::{
    error::{KeyError, KeyFileError},
    private_file,
};
use aws_lc_rs::hmac;
use std::{
    fmt,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

/// The longest key file: about 7 million generations. A file is read whole, so there must be a bound.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// The bytes of a new key file with its first frames, and the chain that goes on behind them.
pub(crate) fn new(id: FileId, key: &hmac::Key, first: &[Payload]) -> (Vec<u8>, Chain) {
    let mut bytes = frame::header(id);
    let mut chain = Chain::start(key, &bytes);
    for payload in first {
        let frame = frame::encode(bytes.len() as u64, payload.kind(), &payload.encode(), &mut chain);
        bytes.extend(frame);
    }
    (bytes, chain)
}

/// Reads a key file whole. The file stays open for [`KeyFile`].
pub(crate) fn read(path: &Path) -> Result<(File, Vec<u8>), KeyError> {
    let mut file = private_file::open_for_writing(path)?;
    let mut bytes = Vec::new();
    let failed = |source| KeyError::File { doing: "read", path: path.to_owned(), source };
    Read::by_ref(&mut file).take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let source = KeyFileError::TooLong { limit_bytes: FILE_BYTES_MAX };
        return Err(KeyError::Content { path: path.to_owned(), source });
    }
    Ok((file, bytes))
}

/// The open end of a key file.
pub(crate) struct KeyFile {
    path: PathBuf,
    medium: Box<dyn Medium>,
    /// Authenticates the next frame.
    chain: Chain,
    /// Where the last whole frame ends and the next one goes.
    end: u64,
    /// The file's length as this process knows it: more than `end` where a frame is torn.
    length: u64,
    /// A write or sync failed such that nobody knows what is on disk.
    failed: bool,
}

impl KeyFile {
    /// A file that was just written whole, with the chain behind its last frame.
    pub(crate) fn new(path: &Path, medium: impl Medium + 'static, chain: Chain, length: u64) -> Self {
        Self { path: path.to_owned(), medium: Box::new(medium), chain, end: length, length, failed: false }
    }

    /// A file that was read: `length` bytes long, with whole frames up to `end` and the chain behind them. They are durable
    /// when this returns. Without that, a frame that a killed process wrote and did not sync could be read from the
    /// system's memory, its key be used, and both be told apart by the next power cut.
    pub(crate) fn resume(
        path: &Path,
        medium: impl Medium + 'static,
        chain: Chain,
        end: u64,
        length: u64,
    ) -> Result<Self, KeyError> {
        let mut file = Self { end, ..Self::new(path, medium, chain, length) };
        file.medium.sync().map_err(|source| KeyError::File { doing: "write", path: path.to_owned(), source })?;
        Ok(file)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The bytes behind the last whole frame.
    pub(crate) fn unfinished_bytes(&self) -> u64 {
        self.length.saturating_sub(self.end)
    }

    /// Writes one frame. It is on disk when this returns, and not part of the file if this fails.
    pub(crate) fn append(&mut self, payload: &Payload) -> Result<(), KeyError> {
        self.append_all(std::slice::from_ref(payload))
    }

    /// Writes frames with one sync. All of them are on disk when this returns, and none is part of the file if this fails.
    pub(crate) fn append_all(&mut self, payloads: &[Payload]) -> Result<(), KeyError> {
        if self.failed {
            return Err(KeyError::WriteFailedBefore { path: self.path.clone() });
        }
        let path = &self.path;
        let unwritten = |source| KeyError::File { doing: "write", path: path.clone(), source };
        if self.medium.length().map_err(unwritten)? != self.length {
            return Err(KeyError::ChangedUnderneath { path: path.clone() });
        }
        let mut chain = self.chain.clone();
        let mut bytes = Vec::new();
        for payload in payloads {
            let offset = self.end + bytes.len() as u64;
            bytes.extend(frame::encode(offset, payload.kind(), &payload.encode(), &mut chain));
        }
        let end = self.end + bytes.len() as u64;

        // Until the sync is through, nobody knows what is on disk.
        self.failed = true;
        if self.length != self.end {
            // The torn end goes first: a rest of it behind the new frame would be taken for damage.
            self.medium.truncate(self.end).and_then(|()| self.medium.sync()).map_err(unwritten)?;
            self.length = self.end;
        }
        if let Err(error) = self.medium.write_at(self.end, &bytes) {
            // Such as a full disk: if the file can be cut back, it is as before.
            self.failed = self.medium.truncate(self.end).is_err();
            return Err(unwritten(error));
        }
        // A failed sync is final: the system may have dropped the bytes and call the next sync a success.
        self.medium.sync().map_err(unwritten)?;
        self.failed = false;
        (self.chain, self.end, self.length) = (chain, end, end);
        Ok(())
    }
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyFile").field("path", &self.path).field("end", &self.end).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    const ID: FileId = FileId([4; 16]);

    /// A disk that fails on command and forgets at a crash what was not synced.
    #[derive(Clone)]
    struct Disk(Arc<Mutex<State>>);

    struct State {
        now: Vec<u8>,
        synced: Vec<u8>,
        /// What the next write, cut or sync does.
        fault: Option<Fault>,
        /// The negative control: a disk that says that it synced, and did not.
        lies: bool,
    }

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Fault {
        /// A write stops after this many bytes, as on a full disk.
        Write(usize),
        /// As `Write`, and the file cannot be cut back.
        WriteAndTruncate(usize),
        Sync,
    }

    impl Medium for Disk {
        fn length(&mut self) -> io::Result<u64> {
            Ok(self.0.lock().unwrap().now.len() as u64)
        }

        fn truncate(&mut self, length: u64) -> io::Result<()> {
            let state = &mut *self.0.lock().unwrap();
            if matches!(state.fault, Some(Fault::WriteAndTruncate(_))) {
                return Err(io::ErrorKind::Other.into());
            }
            state.now.truncate(usize::try_from(length).unwrap());
            Ok(())
        }

        fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
            let state = &mut *self.0.lock().unwrap();
            assert_eq!(offset, state.now.len() as u64, "only ever appended to");
            match state.fault {
                Some(Fault::Write(count) | Fault::WriteAndTruncate(count)) => {
                    state.now.extend(&bytes[..count.min(bytes.len())]);
                    Err(io::ErrorKind::StorageFull.into())
                }
                _ => {
                    state.now.extend(bytes);
                    Ok(())
                }
            }
        }

        fn sync(&mut self) -> io::Result<()> {
            let state = &mut *self.0.lock().unwrap();
            if state.fault == Some(Fault::Sync) {
                return Err(io::ErrorKind::Other.into());
            }
            if !state.lies {
                state.synced = state.now.clone();
            }
            Ok(())
        }
    }

    impl Disk {
        fn new(lies: bool) -> Self {
            let (bytes, _) = new(ID, &key(), &[sealer(0)]);
            Self(Arc::new(Mutex::new(State { now: bytes.clone(), synced: bytes, fault: None, lies })))
        }

        fn set(&self, fault: Option<Fault>) {
            self.0.lock().unwrap().fault = fault;
        }

        /// Power fails: what was synced stays, and some of what was not.
        fn crash(&self, kept: usize) {
            let state = &mut *self.0.lock().unwrap();
            if state.now.len() >= state.synced.len() {
                state.now.truncate(state.synced.len() + kept);
            } else {
                state.now = state.synced.clone();
            }
            state.synced = state.now.clone();
            state.fault = None;
        }

        /// The numbers of the frames, all authenticated, and the file to go on with.
        fn open(&self) -> (Vec<u8>, KeyFile) {
            let bytes = self.0.lock().unwrap().now.clone();
            let layout = Layout::read(&bytes).unwrap();
            let mut chain = Chain::start(&key(), layout.header);
            let numbers = layout.frames.iter().map(|frame| {
                chain.verify(frame).unwrap();
                *frame.payload.last().unwrap()
            });
            let numbers = numbers.collect();
            let length = bytes.len() as u64;
            (numbers, KeyFile::resume(Path::new("keys"), self.clone(), chain, layout.end, length).unwrap())
        }
    }

    fn key() -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &[1; 32])
    }

    fn sealer(number: u8) -> Payload {
        Payload::Sealer(SealerFrame { name: "test".to_owned(), body: vec![number; 60] })
    }

    #[derive(Debug, Clone)]
    enum Step {
        Append(Option<Fault>),
        /// The process dies; what it wrote stays in the system's memory. Then another one goes on.
        Kill,
        /// Power fails, and so many bytes more than were synced stay.
        Crash(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let fault = prop_oneof![
            (0_usize..150).prop_map(Fault::Write),
            (0_usize..150).prop_map(Fault::WriteAndTruncate),
            Just(Fault::Sync),
        ];
        let step = prop_oneof![
            4 => Just(Step::Append(None)),
            2 => fault.prop_map(|fault| Step::Append(Some(fault))),
            1 => Just(Step::Kill),
            1 => (0_usize..150).prop_map(Step::Crash),
        ];
        proptest::collection::vec(step, 1..30)
    }

    /// The frames that were acknowledged but are not there after some step, or are there though nobody wrote them.
    fn run(steps: Vec<Step>, lies: bool) -> Result<(), String> {
        let disk = Disk::new(lies);
        let (mut acknowledged, mut file) = disk.open();
        let mut under_way = None;
        for (number, step) in (1..).zip(steps) {
            match step {
                Step::Append(fault) => {
                    disk.set(fault);
                    match file.append(&sealer(number)) {
                        Ok(()) => {
                            acknowledged.push(number);
                            under_way = None;
                        }
                        Err(KeyError::WriteFailedBefore { .. }) => {}
                        Err(_) => under_way = Some(number),
                    }
                    disk.set(None);
                }
                Step::Kill | Step::Crash(_) => {
                    if let Step::Crash(kept) = step {
                        disk.crash(kept);
                    }
                    let seen;
                    (seen, file) = disk.open();
                    let mut possible = acknowledged.clone();
                    if seen != possible {
                        // A frame whose sync failed may be there all the same, and counts from now on.
                        possible.extend(under_way);
                    }
                    if seen != possible {
                        return Err(format!("wrote {acknowledged:?}, found {seen:?}"));
                    }
                    (acknowledged, under_way) = (seen, None);
                }
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn an_acknowledged_frame_survives_faults_and_crashes(mut steps in steps()) {
            steps.push(Step::Crash(0));
            prop_assert_eq!(run(steps, false), Ok(()));
        }
    }

    /// The frame was whole in the system's memory when the process that wrote it was killed, so the next one used it.
    #[test]
    fn a_frame_that_was_read_back_after_a_kill_survives_a_power_cut() {
        let steps = vec![Step::Append(Some(Fault::Sync)), Step::Kill, Step::Crash(0)];
        assert_eq!(run(steps, false), Ok(()));
    }

    /// However far a write of three frames came: whole ones of it are keys that nobody has used, and the rest is torn.
    #[test]
    fn frames_that_share_a_write_are_acknowledged_together() {
        let three = [sealer(1), sealer(2), sealer(3)];
        let whole = {
            let disk = Disk::new(false);
            disk.open().1.append_all(&three).unwrap();
            assert_eq!(disk.open().0, [0, 1, 2, 3]);
            disk.0.lock().unwrap().now.len()
        };
        for cut in 0..whole {
            let disk = Disk::new(false);
            let (_, mut file) = disk.open();
            disk.set(Some(Fault::WriteAndTruncate(cut)));
            assert!(file.append_all(&three).is_err());
            assert!(matches!(file.append(&sealer(4)), Err(KeyError::WriteFailedBefore { .. })));
            disk.set(None);
            let (seen, mut file) = disk.open();
            assert!([0, 1, 2, 3].starts_with(&seen), "{seen:?}");
            file.append(&sealer(5)).unwrap();
            disk.crash(0);
            assert_eq!(disk.open().0, [&seen[..], &[5]].concat());
        }
    }

    #[test]
    fn without_syncs_frames_are_lost() {
        assert!(run(vec![Step::Append(None), Step::Crash(0)], true).is_err());
    }

    #[test]
    fn a_full_disk_is_no_end_but_a_failed_sync_is() {
        let disk = Disk::new(false);
        let (_, mut file) = disk.open();
        disk.set(Some(Fault::Write(20)));
        assert!(matches!(file.append(&sealer(1)), Err(KeyError::File { .. })));
        disk.set(None);
        file.append(&sealer(2)).unwrap();
        disk.set(Some(Fault::Sync));
        assert!(matches!(file.append(&sealer(3)), Err(KeyError::File { .. })));
        disk.set(None);
        assert!(matches!(file.append(&sealer(4)), Err(KeyError::WriteFailedBefore { .. })));
        assert_eq!(disk.open().0, [0, 2, 3]);
    }
}
