//! The report of `hugebar plan`.

use std::fmt;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use hugebar::layout::Area;
use hugebar::leaf::{Bytes, Leaves};
use hugebar::plan::{Placement, Plan, Shape};
use hugebar_host::cost::Cost;

use super::print::VERSION;

/// How many areas and windows are printed as text; JSON has all.
const SHOWN: usize = 8;

/// The leaves of a mapping that does not exist.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PlanReport {
    version: u32,
    size: u64,
    /// The physical address; null where natural alignment is assumed.
    physical: Option<String>,
    leaf_sizes: Vec<u64>,
    #[cfg_attr(test, schemars(with = "Vec<super::schema::Area>"))]
    areas: Vec<Area>,
    /// The fewest leaves at any addresses.
    #[cfg_attr(test, schemars(with = "super::schema::Counts"))]
    best: Leaves,
    /// With `--hva`: the leaves at that address; null otherwise.
    at: Option<AtReport>,
    /// Without `--hva`: what each placement gives.
    placements: Vec<PlacementReport>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct AtReport {
    address: String,
    #[cfg_attr(test, schemars(with = "super::schema::Counts"))]
    leaves: Leaves,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct PlacementReport {
    #[cfg_attr(test, schemars(with = "super::schema::Placement"))]
    placement: Placement,
    windows: Vec<WindowReport>,
    /// By the luckiest and unluckiest addresses that the placement allows.
    #[cfg_attr(test, schemars(with = "super::schema::Counts"))]
    best: Leaves,
    #[cfg_attr(test, schemars(with = "super::schema::Counts"))]
    worst: Leaves,
}

/// Addresses to reserve: `length` bytes from an address that is `residue` modulo `alignment`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct WindowReport {
    offset: u64,
    length: u64,
    alignment: u64,
    residue: u64,
}

impl PlanReport {
    /// `plan` is the congruent one.
    pub(crate) fn new(plan: &Plan, physical: Option<u64>) -> Self {
        Self {
            version: VERSION,
            size: plan.layout().region_size(),
            physical: physical.map(|address| format!("{address:#x}")),
            leaf_sizes: plan.sizes().as_slice().to_vec(),
            areas: plan.layout().areas().to_vec(),
            best: plan.best(),
            at: None,
            placements: Vec::new(),
        }
    }

    /// Sets the leaves at an address.
    pub(crate) fn lies_at(&mut self, hva: u64, leaves: Leaves) {
        let address = format!("{hva:#x}");
        self.at = Some(AtReport { address, leaves });
    }

    /// Adds a placement.
    pub(crate) fn add(&mut self, plan: &Plan, cost: Cost) {
        self.placements.push(PlacementReport {
            placement: plan.placement(),
            windows: plan.shapes().iter().map(WindowReport::of).collect(),
            best: cost.best,
            worst: cost.worst,
        });
    }
}

impl WindowReport {
    fn of(shape: &Shape) -> Self {
        Self {
            offset: shape.origin(),
            length: shape.length(),
            alignment: shape.alignment(),
            residue: shape.residue(),
        }
    }
}

/// `0x0+0x6000 at 0x0 modulo 4 KiB`.
impl fmt::Display for WindowReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let area = Area::new(self.offset, self.length);
        let (residue, alignment) = (self.residue, Bytes(self.alignment));
        write!(f, "{area} at {residue:#x} modulo {alignment}")
    }
}

/// As text: the layout, the leaves, and which addresses each placement needs.
impl fmt::Display for PlanReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes = self.leaf_sizes.iter().rev();
        let sizes: Vec<_> = sizes.map(|&size| Bytes(size).to_string()).collect();
        write!(f, "{}", Bytes(self.size))?;
        match &self.physical {
            Some(address) => write!(f, " at physical address {address}")?,
            None => write!(f, ", naturally aligned")?,
        }
        writeln!(f, "; leaves of {}", sizes.join(", "))?;
        let whole = matches!(self.areas.as_slice(), [area] if area.size >= self.size);
        if !whole {
            shorten(f, &self.areas)?;
        }
        writeln!(f, "\n{}", self.table())?;
        for own in &self.placements {
            writeln!(f, "\n{}:", own.placement)?;
            shorten(f, &own.windows)?;
        }
        Ok(())
    }
}

/// A line for each item, up to a limit.
fn shorten(f: &mut fmt::Formatter<'_>, items: &[impl fmt::Display]) -> fmt::Result {
    for item in items.iter().take(SHOWN) {
        writeln!(f, "  {item}")?;
    }
    match items.len().saturating_sub(SHOWN) {
        0 => Ok(()),
        more => writeln!(f, "  and {more} more (--json lists all)"),
    }
}

impl PlanReport {
    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        let sizes = self.leaf_sizes.iter().rev();
        let sizes = sizes.map(|&size| Bytes(size).to_string());
        let head = ["placement", "addresses"].map(str::to_owned).into_iter();
        table.set_header(head.chain(sizes).chain(["leaves".to_owned()]));
        let mut add = |name: &str, addresses: &str, leaves: &Leaves| {
            let counts = leaves.iter().rev().map(|(_, count)| count.to_string());
            let names = [name.to_owned(), addresses.to_owned()].into_iter();
            table.add_row(names.chain(counts).chain([leaves.total().to_string()]));
        };
        if let Some(at) = &self.at {
            add("given", &at.address, &at.leaves);
            add("congruent", "any", &self.best);
        }
        for own in &self.placements {
            let name = own.placement.to_string();
            if own.best == own.worst {
                add(&name, "any", &own.best);
            } else {
                add(&name, "best", &own.best);
                add(&name, "worst", &own.worst);
            }
        }
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }
}
