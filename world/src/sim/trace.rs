//! What happened in a run: lines for people, and a digest for comparing runs.

use std::time::Duration;

/// The trace of a run.
pub(super) struct Trace {
    lines: Vec<String>,
    digest: u64,
}

impl Default for Trace {
    fn default() -> Trace {
        Trace { lines: Vec::new(), digest: 0xcbf2_9ce4_8422_2325 }
    }
}

impl Trace {
    pub(super) fn line(&mut self, at: Duration, line: &str) {
        let line = format!("{:>10.3} {line}", at.as_secs_f64());
        self.mix(line.as_bytes());
        self.lines.push(line);
    }

    pub(super) fn note(&mut self, at: Duration, parts: &[u64]) {
        // Within a run, 64 bits of microseconds do not overflow.
        self.mix(&(at.as_micros() as u64).to_le_bytes());
        for part in parts {
            self.mix(&part.to_le_bytes());
        }
    }

    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    pub(super) fn finish(self) -> (Vec<String>, u64) {
        (self.lines, self.digest)
    }

    /// FNV-1a, going on.
    fn mix(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.digest = (self.digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
