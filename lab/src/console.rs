//! Reads the kernel's console: detects crashes, and picks the lines that explain them.

/// How many lines are shown of a console that ends without a crash.
const TAIL: usize = 40;

/// How many lines are shown of a crash: enough for registers, code and a call trace with many
/// guesses (lines with a question mark).
const CRASH: usize = 100;

/// How many of them come before the line that reports the crash.
const BEFORE: usize = 5;

/// How many lines are shown of stacks: blocked tasks and busy CPUs are among the first.
const STACKS: usize = 200;

/// What the kernel prints when it has crashed.
const CRASHES: [&str; 6] = [
    "Kernel panic - not syncing",
    "Oops:",
    "kernel BUG at",
    "BUG: ",
    "general protection fault",
    "int3:",
];

/// What it prints when it hangs. On a busy host these can occur temporarily.
const HANGS: [&str; 5] = [
    "BUG: soft lockup",
    "BUG: workqueue lockup",
    "detected stall",
    "self-detected stall",
    "blocked for more than",
];

/// The first line that reports a crash of the kernel.
pub(crate) fn crash(console: &str) -> Option<&str> {
    console
        .lines()
        .find(|line| has(line, &CRASHES) && !has(line, &HANGS))
        .map(text)
}

/// The first line that reports a hang of the kernel.
pub(crate) fn hang(console: &str) -> Option<&str> {
    console.lines().find(|line| has(line, &HANGS)).map(text)
}

/// The most informative lines, without empty ones: from shortly before the first report of a crash or
/// hang; otherwise the last lines.
pub(crate) fn excerpt(console: &str) -> impl Iterator<Item = &str> {
    let lines: Vec<_> = lines(console).collect();
    let broken = lines
        .iter()
        .position(|line| has(line, &CRASHES) || has(line, &HANGS));
    let (first, count) = match broken {
        Some(line) => (line.saturating_sub(BEFORE), CRASH),
        None => (lines.len().saturating_sub(TAIL), TAIL),
    };
    lines.into_iter().skip(first).take(count)
}

/// The first lines of stacks, without empty ones.
pub(crate) fn beginning(stacks: &str) -> impl Iterator<Item = &str> {
    lines(stacks).take(STACKS)
}

fn lines(console: &str) -> impl Iterator<Item = &str> {
    let lines = console.lines().map(str::trim_end);
    lines.filter(|line| !line.is_empty())
}

fn has(line: &str, patterns: &[&str]) -> bool {
    patterns.iter().any(|pattern| line.contains(pattern))
}

/// A line without its timestamp.
fn text(line: &str) -> &str {
    let line = line.trim();
    match line
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "))
    {
        Some((time, text)) if time.trim().parse::<f64>().is_ok() => text,
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PANIC: &str = "\
SeaBIOS (version 1.16.2)\r
[    3.100000] sysrq: Trigger a crash\r
[    3.101234] Kernel panic - not syncing: sysrq triggered crash\r
[    3.102000] CPU: 0 PID: 1 Comm: init Not tainted\r
";

    #[test]
    fn a_panic_is_told_by_its_first_line() {
        assert_eq!(
            crash(PANIC),
            Some("Kernel panic - not syncing: sysrq triggered crash")
        );
    }

    #[test]
    fn the_oops_before_a_panic_is_the_cause() {
        let console = format!(
            "[    2.0] BUG: unable to handle page fault for address: ffff\n[    2.0] Oops: 0002 [#1]\n{PANIC}"
        );
        assert_eq!(
            crash(&console),
            Some("BUG: unable to handle page fault for address: ffff")
        );
    }

    #[test]
    fn a_hang_is_no_crash() {
        let console = "[   40.0] watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [hugebar:1]\n";
        assert_eq!(crash(console), None);
        assert!(hang(console).unwrap().starts_with("watchdog: BUG: soft"));
        let console =
            "[   41.0] BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 stuck for 30s!\n";
        assert_eq!(crash(console), None);
        assert!(hang(console).is_some());
        assert!(hang("[9.0] rcu: INFO: rcu_preempt self-detected stall on CPU\n").is_some());
    }

    #[test]
    fn an_ordinary_console_is_neither() {
        let console = "[    1.0] Linux version 7.3.4\n[    1.2] pci 0000:00:10.0: BAR 2\n[ 3] reboot: Power down\n";
        assert_eq!(crash(console), None);
        assert_eq!(hang(console), None);
    }

    #[test]
    fn without_a_crash_the_end_is_shown() {
        let console: String = (0..100).map(|n| format!("{n}\r\n\r\n")).collect();
        let lines: Vec<_> = excerpt(&console).collect();
        assert_eq!(lines.len(), TAIL);
        assert_eq!((lines[0], lines[TAIL - 1]), ("60", "99"));
        assert_eq!(excerpt("").count(), 0);
    }

    /// However much the kernel prints after it.
    #[test]
    fn a_crash_is_shown_from_its_beginning() {
        let booting: String = (0..100).map(|n| format!("booting {n}\n")).collect();
        let trace: String = (0..300)
            .map(|n| format!("  ? frame_{n}+0x1/0x2\n"))
            .collect();
        let console = format!("{booting}{PANIC}Call Trace:\n{trace}");
        let lines: Vec<_> = excerpt(&console).collect();
        assert_eq!(lines.len(), CRASH);
        assert!(lines[BEFORE].contains("Kernel panic"), "{}", lines[BEFORE]);
        assert!(lines.contains(&"Call Trace:"));
    }

    #[test]
    fn of_stacks_the_beginning_is_shown() {
        let stacks: String = (0..300).map(|n| format!("{n}\r\n\r\n")).collect();
        let lines: Vec<_> = beginning(&stacks).collect();
        assert_eq!((lines.len(), lines[0], lines[199]), (STACKS, "0", "199"));
    }
}
