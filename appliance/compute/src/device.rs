//! What is there to compute on: cores, and the memory that models may have.

use std::collections::BTreeSet;
use std::path::Path;

/// Cores that this process may run on, each once however many threads it has; one at least.
pub fn cores() -> usize {
    let may = std::thread::available_parallelism().map_or(1, |count| count.get());
    let siblings = |cpu: usize| {
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        std::fs::read_to_string(path).ok()
    };
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    // One that is off has no siblings.
    let cores: BTreeSet<String> =
        numbers(allowed.unwrap_or_default()).filter_map(siblings).collect();
    if cores.is_empty() { may } else { may.min(cores.len()) }
}

/// The numbers of a list such as `0-3,8`.
fn numbers(list: &str) -> impl Iterator<Item = usize> {
    list.trim().split(',').flat_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        match (first.parse(), last.parse::<usize>()) {
            (Ok(first), Ok(last)) => first..last.saturating_add(1),
            _ => 0..0,
        }
    })
}

/// Bytes of memory that this process may use at most: the machine's, or what its control group has.
pub fn memory_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    let machine = (info.totalram as u64).saturating_mul(u64::from(info.mem_unit));
    let group = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limit = |folder: &Path| {
        let text = std::fs::read_to_string(folder.join("memory.max")).ok()?;
        text.trim().parse().ok()
    };
    // A group is bounded by those that it lies in, too; a container's first version of groups has
    // its own at the root.
    let own = group.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let own = Path::new("/sys/fs/cgroup").join(own);
    let first = std::fs::read_to_string("/sys/fs/cgroup/memory/memory.limit_in_bytes");
    let first = first.ok().and_then(|text| text.trim().parse().ok());
    own.ancestors().filter_map(limit).chain(first).chain([machine]).min().unwrap_or(machine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_core_and_no_more_than_threads() {
        let threads = std::thread::available_parallelism().unwrap().get();
        assert!((1..=threads).contains(&cores()), "{}", cores());
    }

    #[test]
    fn lists_of_cores_are_read_as_linux_writes_them() {
        let read = |list| numbers(list).collect::<Vec<_>>();
        assert_eq!(read("\t0-3,8,10-11\n"), [0, 1, 2, 3, 8, 10, 11]);
        assert_eq!(read("5"), [5]);
        assert!(read("").is_empty() && read("a-b,3-").is_empty());
    }

    #[test]
    fn there_is_some_memory_and_no_more_than_the_machine_has() {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap();
        let total = text.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024;
        assert!((1 << 20..=total + (1 << 30)).contains(&memory_bytes()), "{}", memory_bytes());
    }
}
