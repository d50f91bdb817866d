//! The few things that a key file asks of a disk, so that tests can put a failing one in its place.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom, Write},
};

/// A file that is written at its end. Nothing is durable before [`Medium::sync`] returns.
pub(crate) trait Medium: Send {
    /// Its length in bytes.
    fn length(&mut self) -> io::Result<u64>;
    /// Cuts it to this length.
    fn truncate(&mut self, length: u64) -> io::Result<()>;
    /// Writes all bytes from `offset` on.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes bytes and length durable.
    fn sync(&mut self) -> io::Result<()>;
}

impl Medium for File {
    fn length(&mut self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.seek(SeekFrom::Start(offset))?;
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}
