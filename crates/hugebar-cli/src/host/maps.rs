//! Reads the text of `/proc/PID/maps`, `fdinfo`, `status` and, for `--smaps`, `smaps`. Pure.

use std::collections::BTreeMap;

/// A mapping of a VFIO device, as a line of `maps` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Vma {
    /// Its first address.
    pub(crate) start: u64,
    /// Bytes.
    pub(crate) size: u64,
    /// The offset that the kernel shows: region and offset in it, or, on old kernels, the physical
    /// address.
    pub(crate) offset: u64,
    pub(crate) inode: u64,
    /// What is mapped: `/dev/vfio/devices/vfioN` or `anon_inode:[vfio-device]`.
    pub(crate) path: String,
}

/// The mappings of VFIO devices, in the order of their addresses.
pub(crate) fn devices(maps: &str) -> Vec<Vma> {
    let vmas = maps.lines().filter_map(vma);
    vmas.filter(|vma| is_device(&vma.path)).collect()
}

/// Whether an open or mapped file is a VFIO device.
pub(crate) fn is_device(path: &str) -> bool {
    path == "anon_inode:[vfio-device]" || path.starts_with("/dev/vfio/devices/")
}

/// The IOMMU group whose node this is, with an IOMMU or without.
pub(crate) fn group(path: &str) -> Option<u32> {
    let node = path.strip_prefix("/dev/vfio/")?;
    node.strip_prefix("noiommu-").unwrap_or(node).parse().ok()
}

/// `7f2140000000-7f2140006000 rw-s 20000000000 00:0e 34    anon_inode:[vfio-device]`.
fn vma(line: &str) -> Option<Vma> {
    let mut rest = line;
    let mut word = || {
        let (word, behind) = rest.split_once(' ')?;
        rest = behind.trim_start();
        Some(word)
    };
    let (start, end) = word()?.split_once('-')?;
    let _permissions = word()?;
    let offset = word()?;
    let _device = word()?;
    let inode = word()?.parse().ok()?;
    let hex = |digits: &str| u64::from_str_radix(digits, 16).ok();
    let start = hex(start)?;
    Some(Vma {
        start,
        size: hex(end)?.checked_sub(start)?,
        offset: hex(offset)?,
        inode,
        // A path can have spaces.
        path: rest.to_owned(),
    })
}

/// The value of a `name: value` line, as `fdinfo` and `status` have them.
pub(crate) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix(':')?;
        Some(value.trim())
    })
}

/// What has been advised for a mapping, as only smaps shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Advice {
    /// `MADV_HUGEPAGE` (flag `hg`).
    pub(crate) hinted: bool,
    /// `MADV_NOHUGEPAGE` (flag `nh`).
    pub(crate) refused: bool,
    /// `THPeligible`, where the kernel has it. Also 0 for mappings that are short or incongruent.
    pub(crate) eligible: Option<bool>,
}

/// The advice for each mapping, by its first address.
pub(crate) fn advice(smaps: &str) -> BTreeMap<u64, Advice> {
    let mut all = BTreeMap::new();
    let mut current = None;
    for line in smaps.lines() {
        if let Some(heading) = heading(line) {
            current = Some(heading);
            all.insert(heading, Advice::default());
        }
        let Some(advice) = current.and_then(|start| all.get_mut(&start)) else {
            continue;
        };
        if let Some(flags) = field(line, "VmFlags") {
            advice.hinted = flags.split(' ').any(|flag| flag == "hg");
            advice.refused = flags.split(' ').any(|flag| flag == "nh");
        } else if let Some(eligible) = field(line, "THPeligible") {
            advice.eligible = Some(eligible != "0");
        }
    }
    all
}

/// The address that a heading of smaps begins with; other lines begin with a name and a colon.
fn heading(line: &str) -> Option<u64> {
    let (start, _) = line.split_once('-')?;
    u64::from_str_radix(start, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
55f40a2b1000-55f40a2b3000 r--p 00000000 08:01 1234                       /usr/bin/a b
7f2140000000-7f2140006000 rw-s 20000000000 00:0e 34                        anon_inode:[vfio-device]
7f1180007000-7f1280000000 rw-s 20000007000 00:08 608                     /dev/vfio/devices/vfio0
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                          [stack]
7ffc00030000-7ffc00031000 rw-p 00000000 00:00 0 
nonsense
7f00-7e00 rw-s 0 00:0e 34 anon_inode:[vfio-device]
";

    #[test]
    fn vfio_mappings_among_others() {
        let found = devices(MAPS);
        let [group, node] = &found[..] else {
            panic!("{found:?}");
        };
        let expected = Vma {
            start: 0x7f21_4000_0000,
            size: 0x6000,
            offset: 0x200_0000_0000,
            inode: 34,
            path: "anon_inode:[vfio-device]".into(),
        };
        assert_eq!(*group, expected);
        assert_eq!((node.size, node.inode), (0xffff_9000, 608));
        assert_eq!(node.path, "/dev/vfio/devices/vfio0");
        let spaced = vma(MAPS.lines().next().unwrap()).unwrap();
        assert_eq!(spaced.path, "/usr/bin/a b");
    }

    #[test]
    fn nodes_of_groups() {
        assert_eq!(group("/dev/vfio/12"), Some(12));
        assert_eq!(group("/dev/vfio/noiommu-3"), Some(3));
        for other in ["/dev/vfio/vfio", "/dev/vfio/devices/vfio0", "/dev/vfio/"] {
            assert_eq!(group(other), None, "{other}");
        }
    }

    #[test]
    fn fields_by_their_whole_name() {
        let text =
            "pos:\t0\nino:\t101\nvfio-device-syspath: /sys/devices/pci0000:00/0000:00:10.0\n";
        assert_eq!(field(text, "ino"), Some("101"));
        let path = "/sys/devices/pci0000:00/0000:00:10.0";
        assert_eq!(field(text, "vfio-device-syspath"), Some(path));
        assert_eq!(field(text, "vfio"), None);
    }

    #[test]
    fn advice_is_in_the_flags() {
        let smaps = "\
7f2140000000-7f2140006000 rw-s 20000000000 00:0e 34 anon_inode:[vfio-device]
Size:                 24 kB
THPeligible:    0
VmFlags: rd wr sh mr mw me ms pf io dc de dd 
7f2140200000-7f2240000000 rw-s 20000200000 00:0e 34 anon_inode:[vfio-device]
THPeligible:           1
VmFlags: rd wr sh mr mw me ms pf io dc de dd hg 
7f3000000000-7f3000001000 rw-p 00000000 00:00 0 
VmFlags: rd wr nh
";
        let advice = advice(smaps);
        let of = |start: u64| advice[&start];
        let plain = Advice {
            eligible: Some(false),
            ..Advice::default()
        };
        assert_eq!(of(0x7f21_4000_0000), plain);
        let hinted = of(0x7f21_4020_0000);
        assert!(hinted.hinted && hinted.eligible == Some(true));
        let refused = of(0x7f30_0000_0000);
        assert!(refused.refused && !refused.hinted && refused.eligible.is_none());
    }
}
