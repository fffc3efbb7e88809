//! Metrics of the process, read on demand from `/proc`.
//!
//! `PROCESS-1`: a value that cannot be read is left out instead of being reported wrongly. Other
//! systems than Linux have none. The names are those of the standard Prometheus clients.

pub(super) const RESIDENT: &str = "process_resident_memory_bytes";
pub(super) const OPEN_FILES: &str = "process_open_fds";
pub(super) const THREADS: &str = "process_threads";

/// Reads the current values.
pub(super) fn refresh() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(kibibytes) = number_of(&status, "VmRSS:") {
        metrics::gauge!(RESIDENT).set(kibibytes * 1_024.0);
    }
    if let Some(threads) = number_of(&status, "Threads:") {
        metrics::gauge!(THREADS).set(threads);
    }
    if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
        // One entry is the descriptor of this directory.
        let count = u32::try_from(entries.count().saturating_sub(1)).unwrap_or(u32::MAX);
        metrics::gauge!(OPEN_FILES).set(f64::from(count));
    }
}

/// The number after `name` in the text of `/proc/self/status`.
fn number_of(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_name() {
        let status = "Name:\ttriggers\nVmRSS:\t   1234 kB\nThreads:\t7\n";
        assert_eq!(number_of(status, "VmRSS:"), Some(1_234.0));
        assert_eq!(number_of(status, "Threads:"), Some(7.0));
        assert_eq!(number_of(status, "VmSwap:"), None);
        assert_eq!(number_of("VmRSS:\tmany", "VmRSS:"), None);
    }
}
