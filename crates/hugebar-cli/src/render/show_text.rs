//! The report of `hugebar show` as text.

use std::fmt::{self, Formatter};

use anstyle::{AnsiColor, Style};

use hugebar::layout::Area;
use hugebar::leaf::{Bytes, Leaves};
use hugebar_host::doctor::Status;

use super::device::escaped;
use super::doctor::FACTS;
use super::show::{GrowthReport, Place, ShowReport, ShownBarReport};
use super::{table, wrap};

/// Where values begin.
const INDENT: usize = 15;

impl fmt::Display for ShowReport<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let start = format!("{}  ", self.device.device);
        let name = self.device.name();
        f.write_str(&wrap::hanging(&start, start.len(), &name, self.width))?;
        self.device(f)?;
        self.group(f)?;
        self.addresses(f)?;
        match (&self.msix, self.why("msix")) {
            (_, Some(why)) => line(f, "MSI-X", why, self.width)?,
            (None, None) => line(f, "MSI-X", "none", self.width)?,
            (Some(own), None) => {
                let (vectors, table, pba) = (own.vectors, place(&own.table), place(&own.pba));
                let text = format!("{vectors} vectors, table in {table}, pending bits in {pba}");
                line(f, "MSI-X", &text, self.width)?;
            }
        }
        for bar in &self.bars {
            writeln!(f)?;
            self.bar(f, bar)?;
        }
        if self.bars.is_empty() {
            line(f, "BARs", "none of memory", self.width)?;
        }
        self.in_the_way(f)
    }
}

impl ShowReport<'_> {
    fn device(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let device = &self.device;
        let mut put = |name, value: Option<String>| match value {
            Some(value) => line(f, name, &value, self.width),
            None => Ok(()),
        };
        put("IDs", device.ids.clone())?;
        let with_name = |numbers: &Option<String>, name: Option<&str>| {
            let numbers = numbers.clone()?;
            Some(match name {
                Some(name) => format!("{numbers}, {}", escaped(name)),
                None => numbers,
            })
        };
        put("card", with_name(&device.subsystem, device.subsystem_name))?;
        put("class", with_name(&device.class, device.class_name))?;
        put(
            "driver",
            Some(device.driver.map_or_else(|| "none".into(), escaped)),
        )?;
        put("power", device.power_state.map(escaped))?;
        put("NUMA node", device.numa_node.map(|node| node.to_string()))
    }

    fn group(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Some(group) = self.device.group else {
            return line(f, "IOMMU group", "none", self.width);
        };
        let members = self.members.iter().map(|member| {
            let driver = member.driver.map_or_else(|| "no driver".into(), escaped);
            format!("{} ({driver})", member.device)
        });
        let members: Vec<_> = members.collect();
        let text = match members.is_empty() {
            true => format!("{group}, alone in it"),
            false => format!("{group}, with {}", members.join(", ")),
        };
        line(f, "IOMMU group", &text, self.width)
    }

    fn addresses(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(own) = &self.iommu {
            let name = escaped(own.name);
            let has = match own.bits {
                Some(bits) => format!("{name}, addresses of {bits} bits"),
                None => name,
            };
            let text = match (own.bits, self.guest_bits) {
                (Some(bits), Some(needs)) if bits < needs => {
                    format!("{has}: too few for a guest with the largest BAR, which needs {needs}")
                }
                (_, Some(needs)) => {
                    format!("{has}; a guest with the largest BAR needs {needs} bits")
                }
                (_, None) => has,
            };
            line(f, "IOMMU", &text, self.width)?;
        }
        let reserved = self.reserved.as_deref().unwrap_or_default();
        match self.why("reserved") {
            Some(why) => line(f, "reserved", why, self.width),
            None if reserved.is_empty() => Ok(()),
            None => {
                let text = format!("{}, mapped one to one for firmware", reserved.join(", "));
                line(f, "reserved", &text, self.width)
            }
        }
    }

    fn bar(&self, f: &mut Formatter<'_>, own: &ShownBarReport<'_>) -> fmt::Result {
        let bar = &own.bar;
        let kind = [
            if bar.is_64_bit { "64-bit" } else { "32-bit" },
            if bar.prefetchable {
                "prefetchable"
            } else {
                "non-prefetchable"
            },
        ];
        let at = match &bar.physical {
            Some(address) => format!("at {address}"),
            None => "without an address".to_owned(),
        };
        let (number, size) = (bar.bar, Bytes(bar.size));
        writeln!(f, "BAR {number}  {size}, {}, {at}", kind.join(", "))?;
        if let Some(holders) = own.held_by {
            line(f, "held by", &escaped(holders), self.width)?;
        }
        match (own.sizes, self.why("sizes")) {
            (None, Some(why)) => line(f, "sizes", why, self.width)?,
            (Some(sizes), _) if !sizes.is_empty() => {
                let sizes: Vec<_> = sizes.iter().map(|&size| Bytes(size).to_string()).collect();
                line(f, "sizes", &sizes.join(", "), self.width)?;
            }
            _ => (),
        }
        if let Some(growth) = &own.growth {
            self.growth(f, growth)?;
        }
        self.costs(f, own)
    }

    fn growth(&self, f: &mut Formatter<'_>, own: &GrowthReport<'_>) -> fmt::Result {
        line(f, "not larger", &own.whole, self.width)?;
        line(f, "", own.remedy, self.width)
    }

    fn costs(&self, f: &mut Formatter<'_>, own: &ShownBarReport<'_>) -> fmt::Result {
        let mut rows = Vec::new();
        let row = |name: String, addresses: &str, leaves: &Leaves| {
            vec![
                name,
                addresses.to_owned(),
                leaves.to_string(),
                leaves.total().to_string(),
            ]
        };
        for cost in &own.placements {
            let name = format!(" {}", cost.placement);
            if cost.best == cost.worst {
                rows.push(row(name, "any", &cost.best));
            } else {
                rows.push(row(name.clone(), "best", &cost.best));
                rows.push(row(name, "worst", &cost.worst));
            }
        }
        if rows.is_empty() {
            return Ok(());
        }
        let head = vec![" placement", "addresses", "leaves", "total"];
        let table = table::table(Some(head), rows, &[3], None);
        for line in table.lines() {
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }

    fn in_the_way(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if !self.steps.is_empty() {
            writeln!(f, "\nhugebar doctor finds:")?;
        }
        for step in self.steps {
            let (color, word) = match step.status {
                Status::Warning => (AnsiColor::Yellow, "warning"),
                _ => (AnsiColor::Red, "blocker"),
            };
            let style = Style::new().fg_color(Some(color.into())).bold();
            let start = format!("  {style}{word:8}{style:#}{:20}", step.step);
            f.write_str(&wrap::hanging(
                &start,
                FACTS,
                &escaped(&step.fact),
                self.width,
            ))?;
        }
        Ok(())
    }

    /// Why something is unknown.
    fn why(&self, what: &str) -> Option<&str> {
        let unknown = self.unknown.iter().find(|own| own.what == what);
        unknown.map(|own| own.why.as_str())
    }
}

fn place(own: &Place) -> String {
    format!("BAR {} at {}", own.bar, Area::new(own.offset, own.size))
}

/// A name and its value.
fn line(f: &mut Formatter<'_>, name: &str, value: &str, width: Option<u16>) -> fmt::Result {
    let start = format!("  {name:width$}", width = INDENT - 2);
    f.write_str(&wrap::hanging(&start, INDENT, value, width))
}

#[cfg(test)]
#[path = "show_tests.rs"]
mod tests;
