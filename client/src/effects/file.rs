//! The ring's file: a line an effect. It outlives the process, not the machine's power: nothing waits for the disk.
//!
//! Nothing of it is trusted. A line that was cut off or that is no effect is skipped with a notice, and a file that
//! cannot be read or written leaves the ring in memory alone.

use std::path::{Path, PathBuf};

use serde_json::Value;
use skiff_world::{Disk, File, World};

use super::KEPT;

/// A file that is larger is nobody's ring. An effect takes a few kilobytes at most.
const MOST_BYTES: u64 = 16 << 20;
/// Only its owner may read it, as everything of a node.
const MODE: u32 = 0o600;

/// Where effects are appended.
pub(super) struct RingFile {
    disk: Disk,
    path: PathBuf,
    file: Option<File>,
    lines: usize,
}

impl RingFile {
    /// Opens the file, or makes it; gives the effects that it holds, the latest ones, the oldest first.
    pub(super) fn open(world: &World, path: &Path) -> (RingFile, Vec<Value>) {
        let mut ring = RingFile { disk: world.disk(), path: path.to_path_buf(), file: None, lines: 0 };
        if let Some(parent) = path.parent() {
            // If it cannot be made, the first write says so.
            let _ = ring.disk.create_dir_all(parent);
        }
        let mut found = ring.read();
        found.drain(..found.len().saturating_sub(KEPT));
        let kept: String = found.iter().map(|effect| format!("{effect}\n")).collect();
        ring.rewrite(&kept, found.len());
        (ring, found)
    }

    fn read(&self) -> Vec<Value> {
        if !self.disk.exists(&self.path) {
            return vec![];
        }
        let read = || {
            let length = self.disk.open(&self.path)?.len()?;
            if length > MOST_BYTES {
                return Err(std::io::Error::other(format!("it has {length} bytes, and the most is {MOST_BYTES}")));
            }
            self.disk.read(&self.path)
        };
        let bytes = match read() {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::warn!(file = %self.path.display(), %error, "earlier effects cannot be read; going on without");
                return vec![];
            }
        };
        let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
        let found: Vec<Value> = lines.iter().filter_map(|line| effect(line)).collect();
        if found.len() < lines.len() {
            let skipped = lines.len() - found.len();
            tracing::warn!(file = %self.path.display(), skipped, "lines that are no effects, or half of one, are skipped");
        }
        found
    }

    /// Appends an effect. What is `kept` takes the place of the whole when the file has grown to twice as much.
    pub(super) fn append(&mut self, line: &str, kept: impl FnOnce() -> String) {
        if self.lines >= 2 * KEPT {
            let kept = kept();
            let lines = kept.lines().count();
            return self.rewrite(&kept, lines);
        }
        let Some(file) = &self.file else { return };
        match file.append(line.as_bytes()) {
            Ok(()) => self.lines += 1,
            Err(error) => self.give_up(&error),
        }
    }

    fn rewrite(&mut self, text: &str, lines: usize) {
        let written = self.disk.write_volatile(&self.path, text.as_bytes(), MODE);
        match written.and_then(|()| self.disk.open(&self.path)) {
            Ok(file) => (self.file, self.lines) = (Some(file), lines),
            Err(error) => self.give_up(&error),
        }
    }

    fn give_up(&mut self, error: &std::io::Error) {
        tracing::warn!(file = %self.path.display(), %error, "effects are kept in memory only from here on");
        self.file = None;
    }
}

/// A line as an effect, if it is one.
fn effect(line: &[u8]) -> Option<Value> {
    let value: Value = serde_json::from_slice(line).ok()?;
    let text = |field: &str| value[field].as_str();
    let is_one = text("id")?.parse::<u64>().is_ok() && text("at")?.parse::<jiff::Timestamp>().is_ok();
    (is_one && text("what").is_some() && value["object"].is_object()).then_some(value)
}
