//! The memory of this process, known on Linux only.

/// The most memory that this process ever had, mapped files that were read included.
pub(crate) fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    kibibytes(status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?)
}

/// The memory that the program and its shared libraries take: what was read of their files, and what they changed of it.
/// It is part of the [`peak`] of every model alike.
pub(crate) fn program() -> Option<u64> {
    let program = std::env::current_exe().ok()?;
    let program = program.to_str()?;
    let maps = std::fs::read_to_string("/proc/self/smaps").ok()?;
    let (mut sum, mut is_program) = (0, false);
    for line in maps.lines() {
        if let Some(size) = line.strip_prefix("Rss:") {
            sum += if is_program { kibibytes(size)? } else { 0 };
        } else if line.split(' ').next().is_some_and(|word| word.contains('-')) {
            // `start-end permissions offset device inode path`
            is_program = line.find('/').is_some_and(|at| {
                let path = &line[at..];
                path == program || path.ends_with(".so") || path.contains(".so.")
            });
        }
    }
    Some(sum)
}

fn kibibytes(text: &str) -> Option<u64> {
    Some(1024 * text.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn peak_grows_with_use_and_the_program_does_not() {
        let (before, program_before) = (peak().unwrap(), program().unwrap());
        let kept = vec![1u8; 256 << 20];
        assert!(kept.iter().step_by(4096).all(|&byte| byte == 1));
        assert!(peak().unwrap() >= before.max(256 << 20));
        assert!(program_before > 1 << 19 && program().unwrap() < program_before + (64 << 20));
    }
}
