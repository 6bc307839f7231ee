//! How many connections fit the files that the process may hold open.
//!
//! The limit is read, not raised: that takes a system call which std does not have.

use std::fs;

/// What is not for clients over the network: the operator's connections, the models, the keys'
/// database, the runtime's own.
const RESERVE: usize = 128;

/// As many connections as are wanted, or as fit.
pub(crate) fn connections_max(wanted: usize) -> usize {
    // Without the file, on other systems than Linux, there is nothing to go by.
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let Some(open_files_max) = soft_limit(&limits) else { return wanted };
    let max = fitting(wanted, open_files_max);
    if max < wanted {
        tracing::info!(
            open_files_max,
            connections_max = max,
            "fewer connections than configured fit the limit of open files; raise it \
             (LimitNOFILE= of the unit, or ulimit -n) for more"
        );
    }
    max
}

/// A small limit is shared half and half.
fn fitting(wanted: usize, open_files_max: usize) -> usize {
    let reserve = RESERVE.min(open_files_max / 2);
    wanted.min(open_files_max - reserve).max(1)
}

/// The soft limit in the text of `/proc/PID/limits` (proc_pid_limits(5)); none if unlimited.
fn soft_limit(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_the_rest() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max open files            1024                 524288               files\n";
        assert_eq!(soft_limit(limits), Some(1024));
        assert_eq!(soft_limit(&limits.replace("1024", "unlimited")), None);
        assert_eq!(soft_limit(""), None);
        assert_eq!(fitting(8192, 1024), 896);
        assert_eq!(fitting(8192, 65536), 8192);
        assert_eq!(fitting(8192, 100), 50);
        assert_eq!(fitting(8192, 0), 1);
    }

    #[test]
    fn this_process_has_a_limit() {
        let limits = fs::read_to_string("/proc/self/limits").unwrap();
        assert!(limits.contains("Max open files"));
    }
}
