//! The keyring: the open key file, and the only way to a tablespace's keys.
//!
//! Opening reads every frame and unwraps none; a tablespace's keys are unwrapped when they are first asked for. What must
//! never happen here: a key that is handed out before its frame is on disk, and a generation number that is used twice.
//!
//! Lock order: the file, then the index. No lock is held while anything waits but the file's, which is held over a write
//! and its sync, so that tablespaces get their keys one after the other.

mod open_spaces;
mod replace;
#[cfg(test)]
mod tests;

use crate::{
    entropy::Entropy,
    error::{KeyError, KeyFileError},
    hierarchy::{MasterKey, WrappedKey},
    key_file::{self, Chain, FileId, KeyFile, Layout, Payload, SealerFrame, WrappedFrame},
    private_file,
    sealer::{SEALERS_MAX, Unsealer},
    secret::Secret,
    space::{Generation, GenerationKeys, SpaceId, SpaceKeys},
};
use open_spaces::OpenSpaces;
use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic::AtomicU64},
};

/// The most live generations of one tablespace: UNIQUE checks and token reads look under each of them.
const LIVE_GENERATIONS_MAX: usize = 64;

/// Keys that are made with one sync. Their frames have some 200 bytes each.
const KEYS_PER_SYNC: usize = 4096;

/// All keys of a server. A clone is another handle on the same keyring.
#[derive(Clone)]
pub struct Keyring(Arc<Inner>);

struct Inner {
    master: MasterKey,
    id: FileId,
    path: PathBuf,
    entropy: Arc<dyn Entropy>,
    file: Mutex<KeyFile>,
    index: RwLock<Index>,
}

/// What the key file holds, and which tablespaces are unwrapped.
#[derive(Default)]
struct Index {
    sealers: Vec<String>,
    /// INVARIANT: no tablespace without a generation; numbers ascend.
    wrapped: HashMap<SpaceId, Vec<WrappedGeneration>>,
    open: OpenSpaces,
}

#[derive(Clone)]
struct WrappedGeneration {
    generation: Generation,
    key: WrappedKey,
    /// Outlives the unwrapped keys, so that it counts on when they are dropped and unwrapped again.
    messages: Arc<AtomicU64>,
}

impl Keyring {
    /// Makes a key file with a new master key, sealed by `unsealer`. It is on disk when this returns. Never replaces a
    /// file. Blocks for a second or so.
    pub fn create(path: &Path, unsealer: &Unsealer, entropy: Arc<dyn Entropy>) -> Result<Self, KeyError> {
        let master = MasterKey::random(&*entropy);
        let mut id = FileId([0; _]);
        entropy.fill(&mut id.0);
        let sealer = unsealer.seal(&master, id, &*entropy)?;
        let mut index = Index::default();
        index.sealers.push(sealer.name.clone());
        let (bytes, chain) = key_file::new(id, master.frames(), &[Payload::Sealer(sealer)]);
        let file = private_file::create(path, &bytes)?;
        let file = KeyFile::new(path, file, chain, bytes.len() as u64);
        Ok(Self::from_parts(master, id, entropy, file, index))
    }

    /// Opens a key file. Every byte of it is authenticated, save what a crash left unfinished at its end, which is ignored
    /// and overwritten by the next key. Blocks for a second or so.
    pub fn open(path: &Path, unsealer: &Unsealer, entropy: Arc<dyn Entropy>) -> Result<Self, KeyError> {
        let (file, bytes) = key_file::read(path)?;
        let content = |source| KeyError::Content { path: path.to_owned(), source };
        let layout = Layout::read(&bytes).map_err(content)?;
        let (master, chain, index) = unseal(&layout, unsealer, content)?;
        let file = KeyFile::resume(path, file, chain, layout.end, bytes.len() as u64)?;
        Ok(Self::from_parts(master, layout.id, entropy, file, index))
    }

    /// Seals the master key with one more sealer. On disk when this returns. Blocks for a second or so.
    pub fn add_sealer(&self, unsealer: &Unsealer) -> Result<(), KeyError> {
        let mut file = self.file();
        if self.index().sealers.len() >= SEALERS_MAX {
            return Err(KeyError::TooManySealers { limit: SEALERS_MAX });
        }
        let sealer = unsealer.seal(&self.0.master, self.0.id, &*self.0.entropy)?;
        let name = sealer.name.clone();
        file.append(&Payload::Sealer(sealer))?;
        self.index_mut().sealers.push(name);
        Ok(())
    }

    /// The names of the sealers that hold the master key, in the order in which they were added; those that this version
    /// does not know are among them.
    pub fn sealers(&self) -> Vec<String> {
        self.index().sealers.clone()
    }

    /// The tablespaces that have keys.
    pub fn spaces(&self) -> Vec<SpaceId> {
        self.index().wrapped.keys().copied().collect()
    }

    /// The bytes at the end of the key file that a crash left unfinished. The next key is written over them.
    pub fn unfinished_bytes(&self) -> u64 {
        self.file().unfinished_bytes()
    }

    /// The keys of a tablespace; `None` if it never had any. Cheap, and never touches the disk.
    pub fn space(&self, space: SpaceId) -> Result<Option<Arc<SpaceKeys>>, KeyError> {
        let index = self.index();
        if let Some(keys) = index.open.get(space) {
            return Ok(Some(keys));
        }
        let Some(wrapped) = index.wrapped.get(&space).cloned() else { return Ok(None) };
        drop(index);
        let keys = self.unwrap(space, &wrapped)?;
        let mut index = self.index_mut();
        // Not if a rotation has come between: its keys are there already.
        if index.wrapped.get(&space).map(Vec::len) == Some(wrapped.len()) {
            index.open.insert(space, Arc::clone(&keys));
        }
        Ok(Some(keys))
    }

    /// The keys of a tablespace, which gets its first one if it has none. That one is on disk when this returns: blocks
    /// for a sync then, so call it where blocking is allowed unless [`Keyring::space`] has found the keys.
    pub fn space_or_create(&self, space: SpaceId) -> Result<Arc<SpaceKeys>, KeyError> {
        if let Some(keys) = self.space(space)? {
            return Ok(keys);
        }
        let mut file = self.file();
        // Another caller may have held the file for the same reason.
        if let Some(keys) = self.space(space)? {
            return Ok(keys);
        }
        self.add_generation(&mut file, space, Generation::FIRST, Vec::new())
    }

    /// Gives each of these tablespaces that has no keys its first one. They are on disk when this returns, and share syncs: for
    /// whoever brings many orgs at once. Blocks.
    pub fn create_spaces(&self, spaces: impl IntoIterator<Item = SpaceId>) -> Result<(), KeyError> {
        let mut file = self.file();
        let new: BTreeSet<SpaceId> = {
            let index = self.index();
            spaces.into_iter().filter(|space| !index.wrapped.contains_key(space)).collect()
        };
        let new: Vec<SpaceId> = new.into_iter().collect();
        for spaces in new.chunks(KEYS_PER_SYNC) {
            let mut made = Vec::with_capacity(spaces.len());
            for space in spaces {
                let all = vec![self.new_generation(*space, Generation::FIRST)];
                // Through the wrapping and back before it counts, as for one.
                self.unwrap(*space, &all)?;
                made.push((*space, all));
            }
            let frames: Vec<Payload> =
                made.iter().flat_map(|(space, all)| all.last().map(|last| frame_of(*space, last))).collect();
            file.append_all(&frames)?;
            self.index_mut().wrapped.extend(made);
        }
        Ok(())
    }

    /// Gives a tablespace a new generation, on disk when this returns; blocks for a sync. Writes that ask for the keys from
    /// now on use it; all others stay live. The record layer must see to it that no transaction which took the keys before
    /// commits after one that took them later: a UNIQUE check that knows only the old generations does not see the tokens of
    /// the new one.
    pub fn rotate(&self, space: SpaceId) -> Result<Arc<SpaceKeys>, KeyError> {
        let mut file = self.file();
        let wrapped = self.index().wrapped.get(&space).cloned().unwrap_or_default();
        let Some(newest) = wrapped.last() else { return Err(KeyError::NoSuchSpace { space }) };
        let next = newest.generation.0.checked_add(1).filter(|_| wrapped.len() < LIVE_GENERATIONS_MAX);
        let next = next.ok_or(KeyError::TooManyGenerations { space, limit: LIVE_GENERATIONS_MAX })?;
        self.add_generation(&mut file, space, Generation(next), wrapped)
    }

    /// The only place where a tablespace key is made. It counts once its frame is on disk.
    fn new_generation(&self, space: SpaceId, generation: Generation) -> WrappedGeneration {
        let mut nonce = [0; _];
        self.0.entropy.fill(&mut nonce);
        let key = Secret::random(&*self.0.entropy);
        let key = self.0.master.wrap(space, generation, nonce, &key);
        WrappedGeneration { generation, key, messages: Arc::default() }
    }

    /// The caller holds the file.
    fn add_generation(
        &self,
        file: &mut KeyFile,
        space: SpaceId,
        generation: Generation,
        mut all: Vec<WrappedGeneration>,
    ) -> Result<Arc<SpaceKeys>, KeyError> {
        let new = self.new_generation(space, generation);
        let frame = frame_of(space, &new);
        all.push(new);
        // Through the wrapping and back before it counts: a key that does not open must never be on disk.
        let keys = self.unwrap(space, &all)?;
        file.append(&frame)?;
        let mut index = self.index_mut();
        index.wrapped.insert(space, all);
        index.open.insert(space, Arc::clone(&keys));
        Ok(keys)
    }

    fn unwrap(&self, space: SpaceId, wrapped: &[WrappedGeneration]) -> Result<Arc<SpaceKeys>, KeyError> {
        let unwrapped = wrapped.iter().map(|WrappedGeneration { generation, key, messages }| {
            match self.0.master.unwrap(space, *generation, key) {
                Ok(root) => Ok(GenerationKeys::new(*generation, root, Arc::clone(messages))),
                Err(_) => Err(KeyFileError::WrappedKey { space, generation: generation.0 }),
            }
        });
        let content = |source| KeyError::Content { path: self.0.path.clone(), source };
        let live = unwrapped.collect::<Result<Vec<_>, _>>().map_err(content)?;
        SpaceKeys::new(live).map(Arc::new).ok_or(KeyError::NoSuchSpace { space })
    }

    fn from_parts(master: MasterKey, id: FileId, entropy: Arc<dyn Entropy>, file: KeyFile, index: Index) -> Self {
        let path = file.path().to_owned();
        Self(Arc::new(Inner { master, id, path, entropy, file: Mutex::new(file), index: RwLock::new(index) }))
    }

    // A panic under a lock leaves nothing half done: the file counts a write as failed until it has succeeded, and the
    // index is changed by single calls. So a poisoned lock is as good as another.

    fn file(&self) -> MutexGuard<'_, KeyFile> {
        self.0.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.0.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn index_mut(&self) -> RwLockWriteGuard<'_, Index> {
        self.0.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn frame_of(space: SpaceId, WrappedGeneration { generation, key, .. }: &WrappedGeneration) -> Payload {
    Payload::Wrapped(WrappedFrame { space, generation: *generation, wrapped: key.clone() })
}

/// Opens the master key, authenticates every frame with it, and sorts what they hold.
fn unseal(
    layout: &Layout<'_>,
    unsealer: &Unsealer,
    content: impl Fn(KeyFileError) -> KeyError,
) -> Result<(MasterKey, Chain, Index), KeyError> {
    let payloads = layout.frames.iter().map(Payload::read).collect::<Result<Vec<_>, _>>().map_err(&content)?;
    let sealers = payloads.iter().filter_map(|payload| match payload {
        Payload::Sealer(sealer) => Some(sealer),
        Payload::Wrapped(_) => None,
    });
    let master = unsealer.unseal(sealers, layout.id)?;
    let mut chain = Chain::start(master.frames(), layout.header);
    let mut index = Index::default();
    for (frame, payload) in layout.frames.iter().zip(payloads) {
        chain.verify(frame).map_err(&content)?;
        index.add(payload).ok_or(KeyFileError::Malformed { offset: frame.offset }).map_err(&content)?;
    }
    Ok((master, chain, index))
}

impl Index {
    /// `None` if the payload contradicts what stands before it.
    fn add(&mut self, payload: Payload) -> Option<()> {
        match payload {
            Payload::Sealer(SealerFrame { name, .. }) => self.sealers.push(name),
            Payload::Wrapped(WrappedFrame { space, generation, wrapped }) => {
                let all = self.wrapped.entry(space).or_default();
                if all.last().is_some_and(|last| last.generation >= generation) {
                    return None;
                }
                all.push(WrappedGeneration { generation, key: wrapped, messages: Arc::default() });
            }
        }
        Some(())
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("path", &self.0.path).finish_non_exhaustive()
    }
}
