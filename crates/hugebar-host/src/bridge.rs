//! The bridges above a function: their windows, and what else lies in them.

use std::fs;
use std::path::Path;

use hugebar::pci::{Address, Function, Resource};

use crate::sysfs;

/// Index of the first window among a bridge's resources: after six BARs and the ROM.
const FIRST_WINDOW: usize = 7;

/// How many levels of buses are searched: more than machines have.
const DEEPEST: usize = 32;

/// How many BARs a function has at most.
const BARS: usize = 6;

/// A bridge above a function.
pub(crate) struct Bridge {
    /// By its folder below `/sys/devices`, which holds the folders of all functions behind it.
    function: Function,
    /// Its windows for memory.
    windows: Vec<Resource>,
}

/// A BAR of memory that has an address behind a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Behind {
    pub(crate) address: Address,
    pub(crate) bar: usize,
    pub(crate) resource: Resource,
}

/// The bridges above a function, the nearest first. Windows of root buses are not in sysfs.
pub(crate) fn above(function: &Function) -> Vec<Bridge> {
    let path = fs::canonicalize(sysfs::of(function, "")).unwrap_or_default();
    let above = path.ancestors().skip(1);
    above.map_while(Bridge::at).collect()
}

impl Bridge {
    /// `None` if the folder belongs to something else, such as a root bus.
    fn at(folder: &Path) -> Option<Self> {
        let address: Address = folder.file_name()?.to_str()?.parse().ok()?;
        let function = Function::listed_in(folder.parent()?, address).ok()?;
        let code = function.class_code().ok()?;
        matches!((code.class, code.subclass), (6, 4)).then_some(())?;
        let resources = function.resources().ok()?;
        Some(Self {
            function,
            windows: windows(&resources),
        })
    }

    pub(crate) fn function(&self) -> &Function {
        &self.function
    }

    /// The prefetchable or non-prefetchable memory window. If there is no prefetchable one, the other serves both.
    pub(crate) fn window(&self, prefetchable: bool) -> Option<Resource> {
        window(&self.windows, prefetchable)
    }

    /// The BARs in one of its windows, except those of one function.
    pub(crate) fn others(&self, window: &Resource, except: Option<Address>) -> Vec<Behind> {
        let last = window.start.saturating_add(window.size);
        let mut found = Vec::new();
        behind(self.function.folder(), DEEPEST, &mut found);
        found.retain(|behind| {
            let start = behind.resource.start;
            Some(behind.address) != except && (window.start..last).contains(&start)
        });
        found.sort_by_key(|behind| (behind.address, behind.bar));
        found
    }
}

fn windows(resources: &[Option<Resource>]) -> Vec<Resource> {
    let windows = resources.iter().skip(FIRST_WINDOW).flatten();
    let windows = windows.filter(|window| window.is_memory());
    windows.copied().collect()
}

fn window(windows: &[Resource], prefetchable: bool) -> Option<Resource> {
    let of_kind = |wanted: bool| {
        let windows = windows.iter();
        let windows = windows.filter(|window| window.is_prefetchable() == wanted);
        windows.max_by_key(|window| window.size).copied()
    };
    of_kind(prefetchable).or_else(|| of_kind(false))
}

/// The BARs of all functions whose folders lie below a bridge's.
fn behind(folder: &Path, depth: usize, found: &mut Vec<Behind>) {
    let names = sysfs::names(folder);
    for address in names.iter().filter_map(|name| name.parse::<Address>().ok()) {
        let Ok(function) = Function::listed_in(folder, address) else {
            continue;
        };
        let resources = function.resources().unwrap_or_default();
        let bars = resources.into_iter().enumerate().take(BARS);
        found.extend(bars.filter_map(|(bar, resource)| {
            let resource = resource.filter(|own| own.is_memory() && own.has_address())?;
            Some(Behind {
                address,
                bar,
                resource,
            })
        }));
        if depth > 0 {
            behind(function.folder(), depth - 1, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A root port of a machine: 2 MiB of memory, 512 MiB of prefetchable memory.
    const PORT: &str = "\
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x0000000000001000 0x0000000000001fff 0x0000000000000101
0x00000000fe800000 0x00000000fe9fffff 0x0000000000000200
0x0000380000000000 0x000038001fffffff 0x0000000000102201
";

    #[test]
    fn windows_by_kind() {
        let size = |text: &str, prefetchable| {
            let resources: Vec<_> = text
                .lines()
                .map(|line| Resource::parse(line).unwrap())
                .collect();
            window(&windows(&resources), prefetchable).map(|own| own.size)
        };
        assert_eq!(size(PORT, true), Some(512 << 20));
        assert_eq!(size(PORT, false), Some(2 << 20));
        let (without, _) = PORT.trim_end().rsplit_once('\n').unwrap();
        assert_eq!(size(without, true), Some(2 << 20));
        assert_eq!(size("", true), None);
    }
}
