//! What the kernel says of this process, as Prometheus' own libraries report it.

/// This process.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(in crate::service) struct ProcessFacts {
    /// Seconds of processor time, in the program and in the kernel for it.
    pub(in crate::service) cpu_seconds: Option<f64>,
    /// Bytes in memory.
    pub(in crate::service) resident_bytes: Option<u64>,
    /// Bytes of address space.
    pub(in crate::service) virtual_bytes: Option<u64>,
    /// Open descriptors.
    pub(in crate::service) open_fds: Option<u64>,
    /// How many may be open.
    pub(in crate::service) max_fds: Option<u64>,
    /// Threads.
    pub(in crate::service) threads: Option<u64>,
}

/// Nothing is an error here: what cannot be read is absent.
pub(super) fn read() -> ProcessFacts {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let mut facts = parse(&stat, rustix::param::clock_ticks_per_second());
    facts.resident_bytes = facts
        .resident_bytes
        .map(|pages| pages * rustix::param::page_size() as u64);
    facts.open_fds = std::fs::read_dir("/proc/self/fd")
        .ok()
        .map(|entries| entries.count() as u64);
    facts.max_fds = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    facts
}

/// The fields of `/proc/PID/stat`; resident memory in pages.
fn parse(stat: &str, ticks_per_second: u64) -> ProcessFacts {
    // The name in parentheses may contain anything; the third field follows it.
    let Some((_, rest)) = stat.rsplit_once(") ") else {
        return ProcessFacts::default();
    };
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let ticks = field(14).zip(field(15)).map(|(user, system)| user + system);
    ProcessFacts {
        cpu_seconds: ticks.map(|ticks| ticks as f64 / ticks_per_second.max(1) as f64),
        threads: field(20),
        virtual_bytes: field(23),
        resident_bytes: field(24),
        ..ProcessFacts::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_brackets_misleads_nobody() {
        let stat = "42 (a) b) ) S 1 1 1 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 7 0 999 8192000 300 18446744073709551615";
        let facts = parse(stat, 100);
        assert_eq!(facts.cpu_seconds, Some(2.0));
        assert_eq!(facts.threads, Some(7));
        assert_eq!(facts.virtual_bytes, Some(8_192_000));
        assert_eq!(facts.resident_bytes, Some(300));
        assert_eq!(parse("", 100), ProcessFacts::default());
    }

    #[test]
    fn this_process_is_there() {
        let facts = read();
        assert!(
            facts.resident_bytes > Some(0) && facts.open_fds > Some(0),
            "{facts:?}"
        );
    }
}
