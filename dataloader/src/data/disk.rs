//! Pieces on a disk, each a file: there after a restart, and of no consequence when they are gone.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::pieces::{Hoard, Piece, PieceKey};

/// How a file is named until it is whole.
const UNFINISHED: &str = "part";

/// A folder with pieces.
pub struct Disk {
    folder: PathBuf,
    hoard: Mutex<Hoard<()>>,
    /// Nothing is written any more.
    is_off: AtomicBool,
    was_spoilt: AtomicBool,
    writes: AtomicU64,
    /// No other loader counts the bytes here.
    _lock: File,
}

impl Disk {
    /// Looks through a folder, which is created if it is not there. What exceeds the limit is deleted.
    pub fn open(folder: &Path, limit_bytes: u64) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let lock = File::create(folder.join("lock"))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::Error(error) => error,
            TryLockError::WouldBlock => io::Error::other("another loader uses it: give each a folder of its own"),
        })?;
        let mut hoard = Hoard::new(limit_bytes);
        for part in folders(folder)? {
            let Some(number) = part.file_name().and_then(|name| u64::from_str_radix(name.to_str()?, 16).ok()) else {
                continue;
            };
            for below in folders(&part)? {
                for file in fs::read_dir(below)? {
                    let file = file?;
                    let key = file.file_name().to_str().and_then(|name| parse(number, name));
                    if !key.is_some_and(|key| file.metadata().is_ok_and(|data| hoard.found(key, data.len(), ()))) {
                        fs::remove_file(file.path())?;
                    }
                }
            }
        }
        let (folder, hoard, writes) = (folder.to_owned(), Mutex::new(hoard), AtomicU64::new(0));
        let (is_off, was_spoilt) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Self { folder, hoard, is_off, was_spoilt, writes, _lock: lock })
    }

    /// A piece as it lies there: whether it is the one that was written, its reader must find out.
    pub(super) async fn get(&self, key: PieceKey) -> Option<Bytes> {
        self.hoard().get(key)?;
        // One that is being written, or that somebody deleted, is not there.
        tokio::fs::read(self.path(key)).await.ok().map(Bytes::from)
    }

    /// A piece is not what was written. It is written over when it has been read from the store again: if it were deleted,
    /// that might be the good one of another reader.
    pub(super) fn spoilt(&self, key: PieceKey) {
        let path = self.path(key);
        if !self.was_spoilt.swap(true, Ordering::Relaxed) {
            tracing::warn!("{} is damaged: it is read from the store again, as others are that follow", path.display());
        }
        self.hoard().remove(key);
    }

    /// Writes a piece, if there is room for it.
    pub(super) async fn put(&self, key: PieceKey, piece: &Bytes) {
        if self.is_off.load(Ordering::Relaxed) {
            return;
        }
        let Some(gone) = self.hoard().admit(key, piece.len() as u64, ()) else { return };
        if let Err(error) = self.write(key, piece, gone).await {
            self.hoard().remove(key);
            if !self.is_off.swap(true, Ordering::Relaxed) {
                let folder = self.folder.display();
                tracing::warn!("can't write to the disk cache {folder} ({error}): nothing more is kept there");
            }
        }
    }

    async fn write(&self, key: PieceKey, piece: &Bytes, gone: Vec<u64>) -> io::Result<()> {
        for part in gone {
            tokio::fs::remove_dir_all(self.part(part)).await?;
        }
        let path = self.path(key);
        if let Some(parent) = path.parent() {
            tokio::fs::create_dir_all(parent).await?;
        }
        // Two readers that found the same piece damaged may write it at a time.
        let unfinished = path.with_extension(format!("{}.{UNFINISHED}", self.writes.fetch_add(1, Ordering::Relaxed)));
        tokio::fs::write(&unfinished, piece).await?;
        tokio::fs::rename(unfinished, path).await
    }

    /// Bytes of the pieces that lie here.
    pub(super) fn held_bytes(&self) -> u64 {
        self.hoard().held_bytes
    }

    fn part(&self, part: u64) -> PathBuf {
        self.folder.join(format!("{part:016x}"))
    }

    fn path(&self, key: PieceKey) -> PathBuf {
        let name = match key.piece {
            Piece::Whole => format!("{}-file", key.number),
            Piece::Group(group) => format!("{}-group-{group}", key.number),
            Piece::Outlines => format!("{}-outlines", key.number),
        };
        // No folder holds more than a few thousand.
        self.part(key.part).join(format!("{:02x}", key.number % 256)).join(name)
    }

    /// A panic elsewhere can't leave the map half-written.
    fn hoard(&self) -> MutexGuard<'_, Hoard<()>> {
        self.hoard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn folders(below: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(below)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn parse(part: u64, name: &str) -> Option<PieceKey> {
    let (number, piece) = name.split_once('-')?;
    let piece = match piece {
        "file" => Piece::Whole,
        "outlines" => Piece::Outlines,
        group => Piece::Group(group.strip_prefix("group-")?.parse().ok()?),
    };
    Some(PieceKey { part, number: number.parse().ok()?, piece })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64, piece: Piece) -> PieceKey {
        PieceKey { part: 0xabc, number, piece }
    }

    #[tokio::test]
    async fn pieces_outlive_the_process_up_to_the_limit() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let pieces = [key(1, Piece::Whole), key(1, Piece::Group(7)), key(300, Piece::Outlines)];
        let disk = Disk::open(folder.path(), 1000).expect("opens");
        for (n, key) in pieces.into_iter().enumerate() {
            disk.put(key, &Bytes::from(vec![n as u8; 100])).await;
        }
        let error = Disk::open(folder.path(), 1000).err().expect("it is in use");
        assert!(error.to_string().contains("another loader uses it"), "{error}");
        drop(disk);
        fs::write(folder.path().join("0000000000000abc/01/5-file.part"), "torn").expect("writes");
        let disk = Disk::open(folder.path(), 1000).expect("opens");
        for (n, key) in pieces.into_iter().enumerate() {
            assert_eq!(disk.get(key).await, Some(Bytes::from(vec![n as u8; 100])));
        }
        drop(disk);
        let disk = Disk::open(folder.path(), 250).expect("opens");
        let mut left = 0;
        for key in pieces {
            left += usize::from(disk.get(key).await.is_some());
        }
        assert_eq!(left, 2, "the third would exceed 250 bytes");
    }

    #[tokio::test]
    async fn a_disk_that_can_not_be_written_is_given_up() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let disk = Disk::open(folder.path(), 1000).expect("opens");
        disk.put(key(1, Piece::Whole), &Bytes::from_static(b"kept")).await;
        // A file stands where a folder must be: it fails for every user, as a full disk does.
        fs::write(folder.path().join("0000000000000abc/02"), "").expect("writes");
        disk.put(key(2, Piece::Whole), &Bytes::from_static(b"lost")).await;
        disk.put(key(3, Piece::Whole), &Bytes::from_static(b"not tried")).await;
        assert_eq!(disk.get(key(1, Piece::Whole)).await, Some(Bytes::from_static(b"kept")));
        assert_eq!([disk.get(key(2, Piece::Whole)).await, disk.get(key(3, Piece::Whole)).await], [None, None]);
        assert!(!disk.path(key(3, Piece::Whole)).exists());
    }
}
