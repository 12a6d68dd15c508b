//! Memory that PCI itself decodes.

use std::{fs, iter};

use super::resource::Resource;
use super::{Address, Function};

impl Function {
    /// The BARs of the function and the windows of the bridges above it, as far as sysfs tells (`resource`).
    ///
    /// If the function reads or writes at such an address, a switch without access control (ACS) routes that to a BAR, and some
    /// functions refuse their own (QEMU's nvme). So these are no I/O addresses for memory. The kernel leaves them out for
    /// its own drivers (`iova_reserve_pci_windows` in drivers/iommu/dma-iommu.c), but does not report them to VFIO.
    pub(crate) fn decoded(&self) -> Vec<Resource> {
        let target = fs::read_link(self.folder()).unwrap_or_default();
        let names = target.components().filter_map(|name| {
            let name = name.as_os_str().to_str()?;
            name.parse::<Address>().ok()
        });
        let above = names.filter(|address| *address != self.address());
        let bridges = above.filter_map(|address| {
            let folder = self.folder().parent()?;
            Self::listed_in(folder, address).ok()
        });
        let functions = iter::once(self.clone()).chain(bridges);
        let resources = functions.flat_map(|function| function.resources().unwrap_or_default());
        let memory = |resource: &Resource| resource.is_memory() && resource.has_address();
        resources.flatten().filter(memory).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn own_bars_and_windows_above_are_decoded() {
        let tree = tempfile::tempdir().unwrap();
        let bus = tree.path().join("bus");
        let folder = tree
            .path()
            .join("devices/pci0000:00/0000:00:1c.0/0000:01:00.0");
        fs::create_dir_all(&folder).unwrap();
        fs::create_dir_all(&bus).unwrap();
        let absent = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n";
        let bridge = absent.repeat(7)
            + "0x0000000000001000 0x0000000000001fff 0x0000000000000101\n"
            + "0x00000000fe000000 0x00000000fe1fffff 0x0000000000000200\n"
            + "0x0000380000000000 0x00003807ffffffff 0x0000000000102201\n";
        let own = "0x00000000fe000000 0x00000000fe003fff 0x0000000000040200\n\
                   0x000000000000e000 0x000000000000e07f 0x0000000000040101\n\
                   0x0000000000000000 0x00000000ffffffff 0x0000000020140204\n";
        fs::write(folder.join("resource"), own).unwrap();
        fs::write(folder.join("../resource"), bridge).unwrap();
        symlink(
            "../devices/pci0000:00/0000:00:1c.0",
            bus.join("0000:00:1c.0"),
        )
        .unwrap();
        symlink(
            "../devices/pci0000:00/0000:00:1c.0/0000:01:00.0",
            bus.join("0000:01:00.0"),
        )
        .unwrap();
        let function = Function::listed_in(&bus, "0000:01:00.0".parse().unwrap()).unwrap();
        let decoded = function.decoded();
        let starts: Vec<_> = decoded.iter().map(|one| (one.start, one.size)).collect();
        assert_eq!(
            starts,
            [
                (0xfe00_0000, 0x4000),
                (0xfe00_0000, 0x20_0000),
                (0x3800_0000_0000, 0x8_0000_0000)
            ]
        );
        fs::remove_file(folder.join("resource")).unwrap();
        assert_eq!(function.decoded().len(), 2, "a file that is missing");
    }
}
