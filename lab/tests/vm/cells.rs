//! Every cell of THP policy × prctl × shape × placement × hint on one kernel: the count matches the addresses, or exactly
//! the right reasons explain the difference.

use std::collections::BTreeMap;

use hugebar::facts::KernelVersion;
use hugebar::leaf::{self, LeafSizes, Leaves};
use hugebar_lab::{Command, Output, Thp};
use serde::Deserialize;

/// What gates huge leaves for device memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    /// The kernel has none (before 6.12).
    NoLeaves,
    /// The kernel asks the THP policy.
    Policy,
    /// The kernel only asks whether THP is disabled for the process.
    Process,
}

impl Gate {
    /// The gate of a kernel.
    pub(crate) fn of(version: KernelVersion) -> Self {
        match version {
            old if old < KernelVersion::new(6, 12, 0) => Gate::NoLeaves,
            asking if asking.asks_thp_policy() => Gate::Policy,
            _ => Gate::Process,
        }
    }
}

/// What is mapped: arguments of `hugebar map`, and the reasons in the shape itself.
pub(crate) type Shape = (&'static str, &'static [&'static str]);

/// The cells of a machine.
pub(crate) struct Matrix {
    /// The sizes of its leaves.
    pub(crate) sizes: LeafSizes,
    /// What gates them.
    pub(crate) gate: Gate,
    /// Whether the page tables themselves are compared as well.
    pub(crate) witness: bool,
    /// What is mapped.
    pub(crate) shapes: [Shape; 5],
}

struct Cell {
    thp: Thp,
    disabled: bool,
    shape: Shape,
    placement: &'static str,
    hint: bool,
}

impl Matrix {
    /// A command for each cell. They need `exercise` in the guest.
    pub(crate) fn commands(&self) -> Vec<Command> {
        let command = |cell: &Cell| cell.command(self.witness);
        self.cells().iter().map(command).collect()
    }

    /// Checks the commands' output, and prints how many cells there were.
    pub(crate) fn check(&self, release: &str, outputs: &[Output]) {
        let cells = self.cells();
        assert_eq!(outputs.len(), cells.len());
        let agreed = |(cell, output): (&Cell, &Output)| cell.agrees(self, &self.region(output));
        let agreements = cells.iter().zip(outputs).map(agreed);
        let agreements = agreements.filter(|&agreed| agreed).count();
        println!(
            "{release}: {} cells, {agreements} as their addresses promise, {} explained",
            cells.len(),
            cells.len() - agreements
        );
    }

    fn cells(&self) -> Vec<Cell> {
        let mut cells = Vec::new();
        for thp in [Thp::Always, Thp::Madvise, Thp::Never] {
            for disabled in [false, true] {
                for shape in self.shapes {
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

    /// The only region of a command that succeeded.
    fn region(&self, output: &Output) -> Region {
        assert!(output.success(), "{output:?}");
        assert_eq!(output.stderr(), "", "{output:?}");
        let mut report: Report = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {output:?}"));
        assert_eq!(report.backend, "type1");
        assert_eq!(report.leaf_sizes, self.sizes.as_slice());
        assert_eq!(report.regions.len(), 1);
        report.regions.remove(0)
    }

    /// The leaves that the rule gives for the reported addresses.
    fn by_the_rule(&self, region: &Region) -> Counts {
        let mut sum = Leaves::none(&self.sizes);
        for area in &region.areas {
            let address = u64::from_str_radix(area.address.strip_prefix("0x").unwrap(), 16);
            let (offset, size) = (area.offset, area.size);
            sum.add_all(&leaf::leaves(address.unwrap(), offset, size, &self.sizes));
        }
        sum.iter().collect()
    }
}

impl Cell {
    fn command(&self, witness: bool) -> Command {
        // The prctl is inherited over exec.
        let prefix = if self.disabled {
            "exercise no-thp "
        } else {
            ""
        };
        let hint = if self.hint { "on" } else { "off" };
        let witness = if witness { " --witness" } else { "" };
        let line = format!(
            "{prefix}hugebar map --json --placement {} --hint {hint} {}{witness}",
            self.placement, self.shape.0
        );
        Command::new(line.split(' ')).thp(self.thp)
    }

    fn name(&self) -> String {
        let Self {
            thp,
            disabled,
            shape: (shape, _),
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

    /// Whether the count matches the addresses; if not, a reason must explain it.
    fn agrees(&self, matrix: &Matrix, region: &Region) -> bool {
        let name = self.name();
        let base = matrix.sizes.base();
        let has_large = |counts: &Counts| {
            counts
                .iter()
                .any(|(&size, &count)| size > base && count > 0)
        };
        let (expected, best) = (&region.expected, &region.best);
        let measured = region.measured.as_ref().expect("measured");
        assert!(region.complete, "{name}");
        let closed = self.closes(matrix.gate) && has_large(expected);

        // These reasons and no others: nothing is claimed without supporting facts.
        let mut due = Vec::new();
        if closed {
            due.push(match self.disabled {
                true => "thp-disabled",
                false => "thp-policy",
            });
        }
        if expected != best {
            due.push(match matrix.gate {
                Gate::NoLeaves => "kernel",
                _ => "placement",
            });
        }
        due.extend(self.shape.1);
        let codes = region.reasons.iter().map(|reason| reason.code.as_str());
        assert_eq!(codes.collect::<Vec<_>>(), due, "{name}: {region:?}");

        if matrix.gate != Gate::NoLeaves {
            assert_eq!(*expected, matrix.by_the_rule(region), "{name}");
        }
        if matrix.witness {
            assert_eq!(region.witness.as_ref(), Some(measured), "{name}");
        }
        if closed {
            assert!(!has_large(measured), "{name}: {measured:?}");
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

#[derive(Deserialize)]
struct Report {
    backend: String,
    leaf_sizes: Vec<u64>,
    regions: Vec<Region>,
}

/// Numbers of leaves by size.
type Counts = BTreeMap<u64, u64>;

#[derive(Debug, Deserialize)]
struct Region {
    areas: Vec<Area>,
    best: Counts,
    expected: Counts,
    measured: Option<Counts>,
    witness: Option<Counts>,
    complete: bool,
    verdict: String,
    reasons: Vec<Reason>,
}

#[derive(Debug, Deserialize)]
struct Area {
    offset: u64,
    size: u64,
    address: String,
}

#[derive(Debug, Deserialize)]
struct Reason {
    code: String,
}
