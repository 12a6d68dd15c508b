//! Finds other resources at the addresses of a BAR in `/proc/iomem`. They keep drivers from mapping the BAR.

use std::fmt;
use std::fs::File;
use std::io::Read;

use crate::error::{Error, Result};

use super::resource::Resource;
use super::sysfs::failure;
use super::{Address, Function, holder};

const IOMEM: &str = "/proc/iomem";

/// How much of it is read at most: far more than machines have.
const LONGEST: u64 = 4 << 20;

/// The number of the ROM among a function's resources.
const ROM: usize = 6;

/// The machine's memory map: its tree of resources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Iomem {
    /// Each resource is followed by its children.
    lines: Vec<Line>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    depth: usize,
    first: u64,
    last: u64,
    name: String,
}

impl Iomem {
    /// Reads `/proc/iomem`. Without `CAP_SYS_ADMIN` it shows no addresses, only the tree of
    /// names.
    ///
    /// # Errors
    ///
    /// If this process cannot read it.
    pub fn read() -> Result<Self> {
        let refused = |error: std::io::Error| failure("read", &error).on(IOMEM);
        let file = File::open(IOMEM).map_err(|error| failure("open", &error).on(IOMEM))?;
        let mut text = Vec::new();
        file.take(LONGEST).read_to_end(&mut text).map_err(refused)?;
        Ok(Self::parse(&String::from_utf8_lossy(&text)))
    }

    /// Parses its text. Skips invalid lines.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter_map(|line| {
            let (range, name) = line.split_once(" : ")?;
            let (first, last) = range.trim_start_matches(' ').split_once('-')?;
            Some(Line {
                depth: line.len() - line.trim_start_matches(' ').len(),
                first: u64::from_str_radix(first, 16).ok()?,
                last: u64::from_str_radix(last, 16).ok()?,
                name: name.to_owned(),
            })
        });
        Self {
            lines: lines.collect(),
        }
    }

    /// The resources that keep drivers from mapping a BAR: those that lie in it or overlap it. `None` if there are
    /// none, or they are unknown. `resources` lists all resources of the function ([`Function::resources`]).
    ///
    /// They include the claim of a driver that is not VFIO's.
    pub fn conflict(
        &self,
        function: Address,
        resources: &[Option<Resource>],
        bar: usize,
    ) -> Option<Conflict> {
        let resource = (*resources.get(bar)?).filter(is_there)?;
        let name = function.to_string();
        let hidden = self.lines.iter().all(|line| line.last == 0);
        let found = if hidden {
            self.below(self.nth(&name, resources, bar)?)
        } else {
            self.overlapping(&name, &resource)?
        };
        let holders = found.into_iter().filter(|line| !line.is_of_vfio());
        let holders: Vec<_> = holders
            .map(|line| Holder {
                name: line.name.clone(),
                range: (!hidden).then_some((line.first, line.last)),
            })
            .collect();
        (!holders.is_empty()).then_some(Conflict { holders })
    }

    /// The lines that lie in a BAR or overlap it, by addresses. The kernel limits the indentation, so
    /// it does not show the depth of deep lines. `name` is the name of the BAR's own line.
    fn overlapping(&self, name: &str, bar: &Resource) -> Option<Vec<&Line>> {
        let last = bar.start.checked_add(bar.size.checked_sub(1)?)?;
        let overlaps = |line: &Line| line.first <= last && bar.start <= line.last;
        let contains = |line: &Line| line.first <= bar.start && last <= line.last;
        let own = |line: &Line| line.name == name && contains(line);
        let own = self.lines.iter().rposition(own);
        let lines = self.lines.iter().enumerate();
        let overlapping = lines.filter(|(_, line)| overlaps(line));
        let mut found = Vec::new();
        let mut above = None;
        for (index, line) in overlapping {
            let below = own.is_some_and(|own| index > own);
            if !contains(line) || below {
                found.push(line);
            } else if !line.name.starts_with("PCI ") {
                above = Some(line);
            }
        }
        // A resource around the BAR holds it only if the kernel could not insert the BAR itself.
        if found.is_empty() && own.is_none() {
            found.extend(above);
        }
        Some(found)
    }

    /// The line of a BAR, by its position among the function's lines, which ascend.
    fn nth(&self, name: &str, resources: &[Option<Resource>], bar: usize) -> Option<usize> {
        let lines = self.lines.iter().enumerate();
        let own = lines.filter(|(_, line)| line.name == name);
        let own: Vec<_> = own.map(|(index, _)| index).collect();
        // A ROM that is disabled or a shadow copy has no line.
        [None, Some(ROM)].into_iter().find_map(|without| {
            let all = resources.iter().enumerate();
            let all = all.filter(|(number, _)| Some(*number) != without);
            let there = |(number, own): (usize, &Option<Resource>)| {
                Some((own.filter(is_there)?.start, number))
            };
            let mut all: Vec<_> = all.filter_map(there).collect();
            all.sort_unstable();
            let place = all.iter().position(|(_, number)| *number == bar)?;
            (all.len() == own.len()).then(|| own[place])
        })
    }

    /// The lines below a line.
    fn below(&self, index: usize) -> Vec<&Line> {
        let depth = self.lines[index].depth;
        let below = self.lines[index + 1..].iter();
        below.take_while(|line| line.depth > depth).collect()
    }
}

fn is_there(resource: &Resource) -> bool {
    resource.is_memory() && resource.has_address()
}

impl Line {
    /// Whether it has the name of a VFIO driver's claim.
    fn is_of_vfio(&self) -> bool {
        self.name.contains("vfio")
    }
}

/// A resource that claims a BAR or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// Its name in `/proc/iomem`, such as `ramoops:dump(0/4)`. Its creator chose the name, which may contain control
    /// characters.
    pub name: String,
    /// Its first and last address, if this process may see them.
    pub range: Option<(u64, u64)>,
}

/// `Reserved (0xfd00000000-0xffffffffff)`.
impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match self.range {
            Some((first, last)) => write!(f, " ({first:#x}-{last:#x})"),
            None => Ok(()),
        }
    }
}

/// The resources that keep drivers from mapping a BAR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    holders: Vec<Holder>,
}

/// How many are named at most.
const NAMED: usize = 2;

impl Conflict {
    /// All of them, at least one.
    pub fn holders(&self) -> &[Holder] {
        &self.holders
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        let mut remedies = Vec::new();
        for holder in &self.holders {
            let remedy = holder::remedy(&holder.name);
            if !remedies.contains(&remedy) {
                remedies.push(remedy);
            }
        }
        remedies.join("; ")
    }
}

/// Names some of them and the number of the others: `ramoops:` has several that say no more than one.
impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = |holder: &Holder| holder.name.split(':').next().map(str::to_owned);
        let mut kinds = Vec::new();
        let mut named = Vec::new();
        for holder in &self.holders {
            if named.len() < NAMED && !kinds.contains(&kind(holder)) {
                kinds.push(kind(holder));
                named.push(holder.to_string());
            }
        }
        f.write_str(&named.join(", "))?;
        match self.holders.len() - named.len() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// Adds to the error of mapping a BAR which resource claims it and what to do, or where to look if that is
/// unknown.
pub(crate) fn explain(error: Error, function: Option<Address>, bar: usize) -> Error {
    let conflict = function.and_then(|function| {
        let resources = Function::at(function).and_then(|function| function.resources());
        Iomem::read()
            .ok()?
            .conflict(function, &resources.ok()?, bar)
    });
    match conflict {
        Some(own) => error.with_remedy(format!("it is held by {own}: {}", own.remedy())),
        None => error.with_remedy(holder::UNKNOWN),
    }
}

#[cfg(test)]
#[path = "iomem_tests.rs"]
mod tests;
