//! Every cell of kernel × THP policy × prctl × shape × placement × hint: the count matches the
//! addresses, or a reason explains the difference.

use hugebar::facts::KernelVersion;
use hugebar_lab::{Command, Output, Thp};

use crate::device::with_exercise;
use crate::report::{Counts, Region, Report, version};

/// What gates huge leaves for device memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gate {
    /// The kernel has none (before 6.12).
    NoLeaves,
    /// The kernel asks the THP policy.
    Policy,
    /// The kernel only asks whether THP is disabled for the process.
    Process,
}

#[test]
fn on_6_1() {
    matrix("6.1");
}

#[test]
fn on_6_12() {
    matrix("6.12");
}

#[test]
fn on_6_18() {
    matrix("6.18");
}

#[test]
fn on_the_newest() {
    matrix("newest");
}

#[test]
fn on_the_lab_kernel_with_the_page_tables_as_witness() {
    matrix("lab");
}

/// Arguments of `hugebar map`: whole, with a hole, of odd size, smaller than the largest leaf, a page.
const SHAPES: [&str; 5] = [
    "0000:00:10.0 --bar 2",
    "0000:00:10.0 --bar 2 --exclude 0x6000+0x1000",
    "0000:00:10.0 --bar 2 --exclude 0x30f0f000+0xf0f1000",
    SMALL,
    PAGE,
];

/// A BAR of 256 MiB.
const SMALL: &str = "0000:00:11.0 --bar 2";
/// A BAR of a page.
const PAGE: &str = "0000:00:10.0 --bar 0";

struct Cell {
    thp: Thp,
    disabled: bool,
    shape: &'static str,
    placement: &'static str,
    hint: bool,
}

fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for thp in [Thp::Always, Thp::Madvise, Thp::Never] {
        for disabled in [false, true] {
            for shape in SHAPES {
                for placement in ["congruent", "size-aligned", "plain"] {
                    for hint in [true, false] {
                        cells.push(Cell {
                            thp,
                            disabled,
                            shape,
                            placement,
                            hint,
                        });
                    }
                }
            }
        }
    }
    cells
}

impl Cell {
    fn command(&self, witness: bool) -> Command {
        // The prctl is inherited over exec.
        let prefix: &[&str] = if self.disabled {
            &["exercise", "no-thp"]
        } else {
            &[]
        };
        let hint = if self.hint { "on" } else { "off" };
        let mut words: Vec<&str> = prefix.to_vec();
        words.extend([
            "hugebar",
            "map",
            "--json",
            "--placement",
            self.placement,
            "--hint",
            hint,
        ]);
        words.extend(self.shape.split(' '));
        words.extend(witness.then_some("--witness"));
        Command::new(words).thp(self.thp)
    }

    fn name(&self) -> String {
        let Self {
            thp,
            disabled,
            shape,
            placement,
            hint,
        } = self;
        format!("THP {thp}, disabled {disabled}, {shape}, {placement}, hint {hint}")
    }

    fn closes(&self, gate: Gate) -> bool {
        let unhinted = self.thp == Thp::Madvise && !self.hint;
        let policy = self.thp == Thp::Never || unhinted;
        match gate {
            Gate::NoLeaves => false,
            Gate::Policy => self.disabled || policy,
            Gate::Process => self.disabled,
        }
    }

    /// The reasons of this cell, in order.
    fn codes(&self, gate: Gate, expected: Counts, best: Counts) -> Vec<&'static str> {
        let mut codes = Vec::new();
        let has_large = expected[0] + expected[1] > 0;
        if self.closes(gate) && has_large {
            codes.push(match self.disabled {
                true => "thp-disabled",
                false => "thp-policy",
            });
        }
        if expected != best {
            codes.push(match gate {
                Gate::NoLeaves => "kernel",
                _ => "placement",
            });
        }
        match self.shape {
            holed if holed.contains("--exclude") => codes.push("holes"),
            small if small == SMALL || small == PAGE => codes.push("region-size"),
            _ => {}
        }
        codes
    }

    /// Whether the count matches the addresses; if not, a reason must explain it.
    fn agrees(&self, gate: Gate, region: &Region) -> bool {
        let name = self.name();
        let codes = region.codes();
        let [expected, measured, best] = [region.expected(), region.measured(), region.best()];
        assert!(region.complete, "{name}");
        // These reasons and no others: nothing is claimed without supporting facts.
        let due = self.codes(gate, expected, best);
        assert_eq!(codes, due, "{name}: {region:?}");
        let pages = |counts: [u64; 3]| counts[0] + counts[1] == 0;
        if gate != Gate::NoLeaves {
            assert_eq!(expected, region.by_the_rule(), "{name}");
        }
        if self.closes(gate) && !pages(expected) {
            assert!(pages(measured), "{name}: {measured:?}");
            assert_eq!(region.verdict, "degraded", "{name}");
            return false;
        }
        assert_eq!(measured, expected, "{name}");
        let verdict = if measured == best {
            "optimal"
        } else {
            "as-expected"
        };
        assert_eq!(region.verdict, verdict, "{name}");
        true
    }
}

fn matrix(kernel: &str) {
    let gate = match version(kernel) {
        old if old < KernelVersion::new(6, 12, 0) => Gate::NoLeaves,
        asking if asking.asks_thp_policy() => Gate::Policy,
        _ => Gate::Process,
    };
    let cells = cells();
    let witness = kernel == "lab";
    let commands: Vec<_> = cells.iter().map(|cell| cell.command(witness)).collect();
    // Degraded mappings are populated in base pages: a quarter of a million per GiB.
    let report = with_exercise(kernel)
        .device("pci-testdev,membar=1G")
        .device("pci-testdev,membar=256M")
        .run(&commands)
        .unwrap();
    let agreed = |(cell, output): (&Cell, &Output)| {
        assert!(output.success(), "{}: {output:?}", cell.name());
        let region = Report::region(output);
        if witness {
            assert_eq!(region.witness(), region.measured(), "{}", cell.name());
        }
        cell.agrees(gate, &region)
    };
    let agreements = cells.iter().zip(&report.commands).map(agreed);
    let agreements = agreements.filter(|&agreed| agreed).count();
    println!(
        "{}: {} cells, {agreements} as their addresses promise, {} explained",
        report.release,
        cells.len(),
        cells.len() - agreements
    );
    assert_eq!(report.commands.len(), cells.len());
}
