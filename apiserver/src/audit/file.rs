//! The log's file: appended to, and followed by a new one when it is full.

use super::AuditOptions;
use skiff_world::{Disk, File};
use std::io;
use std::path::{Path, PathBuf};

/// Where lines go.
pub struct Log {
    disk: Disk,
    options: AuditOptions,
    /// Absent after a write that failed: the next one opens it anew.
    file: Option<File>,
}

impl Log {
    /// Opens the file, and makes it if it is not there.
    pub fn open(disk: Disk, options: AuditOptions) -> io::Result<Self> {
        if let Some(folder) = options.file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            disk.create_dir_all(folder)?;
        }
        let mut log = Self { disk, options, file: None };
        log.ready()?;
        Ok(log)
    }

    /// Writes whole lines.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        if self.ready()?.len()? >= self.options.file_bytes {
            self.follow()?;
        }
        let wrote = self.ready()?.append(lines);
        if wrote.is_err() {
            self.file = None;
        }
        wrote
    }

    fn ready(&mut self) -> io::Result<&File> {
        let opened = match self.file.take() {
            Some(file) => file,
            None => self.disk.open_or_create(&self.options.file)?,
        };
        Ok(self.file.insert(opened))
    }

    /// Moves all files on by one; the oldest goes.
    fn follow(&mut self) -> io::Result<()> {
        self.file = None;
        let numbered = |n: u32| numbered(&self.options.file, n);
        for n in (0..self.options.older).rev() {
            if self.disk.exists(numbered(n)) {
                self.disk.rename(numbered(n), numbered(n + 1))?;
            }
        }
        if self.options.older == 0 {
            self.disk.remove(numbered(0))?;
        }
        Ok(())
    }
}

/// `audit.log`, `audit.log.1`, ...
fn numbered(file: &Path, n: u32) -> PathBuf {
    match n {
        0 => file.to_owned(),
        n => {
            let mut name = file.as_os_str().to_owned();
            name.push(format!(".{n}"));
            name.into()
        }
    }
}
