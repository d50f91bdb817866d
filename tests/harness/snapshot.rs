//! The data of a server that has stopped, kept in memory: as many servers as wanted begin with a copy of it.
//!
//! What one of them does happens to none of the others. Each begins at the time of the snapshot, so that tokens that were
//! good then are good, however long the tests before took.

use crate::{Options, TestServer};
use std::{
    fs,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};
use tempfile::TempDir;

/// A data directory, outbox and all.
#[derive(Debug)]
pub struct Snapshot {
    files: Vec<File>,
    taken_unix_s: i64,
}

#[derive(Debug)]
struct File {
    /// Below the data directory.
    path: PathBuf,
    mode: u32,
    bytes: Vec<u8>,
}

impl Snapshot {
    /// Stops a server, and keeps what it leaves.
    pub async fn of(server: TestServer) -> Self {
        // The next whole second: the time of a copy must not lie before what it remembers.
        let taken_unix_s = server.now_unix_s() + 1;
        let data_dir = server.data_dir().to_owned();
        let _kept = server.stop().await;
        let mut files = Vec::new();
        collect(&data_dir, &data_dir, &mut files);
        Self { files, taken_unix_s }
    }

    /// Starts a server on a copy.
    pub async fn start_with(&self, options: Options) -> TestServer {
        let temporary = self.lay_out();
        let data_dir = Some(temporary.path().join("data"));
        let shift_s = self.taken_unix_s - unix_s();
        let server = TestServer::start_with(Options { data_dir, shift_s, ..options }).await;
        server.keep(temporary)
    }

    fn lay_out(&self) -> TempDir {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let data_dir = temporary.path().join("data");
        for file in &self.files {
            let path = data_dir.join(&file.path);
            let parent = path.parent().expect("files stand in directories");
            fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).expect("a directory");
            fs::write(&path, &file.bytes).expect("a file");
            fs::set_permissions(&path, fs::Permissions::from_mode(file.mode)).expect("a file of one's own");
        }
        temporary
    }
}

fn collect(root: &Path, dir: &Path, files: &mut Vec<File>) {
    for entry in fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            collect(root, &entry, files);
        } else {
            let mode = fs::metadata(&entry).expect("a file").permissions().mode() & 0o777;
            let path = entry.strip_prefix(root).expect("below the root").to_owned();
            files.push(File { path, mode, bytes: fs::read(&entry).expect("a file") });
        }
    }
}

/// The time of this machine in Unix seconds.
pub(crate) fn unix_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_secs()).expect("before the end of time")
}
