//! What the operating system says of the process that a component runs in.

use std::io;

/// One look at the process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProcessStats {
    /// Processor time spent, user and system, in seconds.
    pub cpu_seconds: f64,
    /// When it started, in seconds since 1970 by the system's clock.
    pub started: f64,
    /// Bytes of memory that are really there.
    pub resident_bytes: u64,
    /// Bytes of address space.
    pub virtual_bytes: u64,
    /// Open file descriptors.
    pub open_files: u64,
    /// How many there may be.
    pub most_files: u64,
    /// Threads.
    pub threads: u64,
}

impl ProcessStats {
    /// Asks /proc about this process.
    pub(crate) fn of_this_process() -> io::Result<ProcessStats> {
        let me = procfs::process::Process::myself().map_err(other)?;
        let stat = me.stat().map_err(other)?;
        let ticks = procfs::ticks_per_second() as f64;
        let boot = procfs::boot_time_secs().map_err(other)?;
        let limits = me.limits().map_err(other)?;
        let most_files = match limits.max_open_files.soft_limit {
            procfs::process::LimitValue::Value(most) => most,
            procfs::process::LimitValue::Unlimited => u64::MAX,
        };
        Ok(ProcessStats {
            cpu_seconds: (stat.utime + stat.stime) as f64 / ticks,
            started: boot as f64 + stat.starttime as f64 / ticks,
            resident_bytes: stat.rss.saturating_mul(procfs::page_size()),
            virtual_bytes: stat.vsize,
            open_files: me.fd_count().map_err(other)? as u64,
            most_files,
            threads: u64::try_from(stat.num_threads).unwrap_or(0),
        })
    }
}

fn other(error: procfs::ProcError) -> io::Error {
    io::Error::other(format!("read /proc/self: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_has_files_open() {
        let _file = std::fs::File::open("/dev/null").unwrap();
        let stats = ProcessStats::of_this_process().unwrap();
        assert!(stats.resident_bytes > 4096 && stats.virtual_bytes >= stats.resident_bytes, "{stats:?}");
        assert!(stats.open_files >= 4 && stats.most_files >= stats.open_files && stats.threads >= 1, "{stats:?}");
        let now = jiff::Timestamp::now().as_second() as f64;
        assert!(stats.started <= now + 2.0 && stats.started > now - 3600.0, "{stats:?} at {now}");
    }
}
