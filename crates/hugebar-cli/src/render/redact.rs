//! Replaces what identifies a host and its users in a report.

use std::collections::BTreeMap;

use regex_lite::{Captures, Regex};

/// Parameters of the kernel that say something about devices, IOMMU and huge pages; a name or the start of one.
const TELLING: [&str; 18] = [
    "amd_iommu",
    "arm-smmu",
    "default_hugepagesz",
    "efi",
    "hugepages",
    "intel_iommu",
    "intremap",
    "iommu",
    "isolcpus",
    "kvm",
    "mem",
    "nohugeiomap",
    "nokaslr",
    "pci",
    "quiet",
    "transparent_hugepage",
    "vfio",
    "video",
];

/// The size that tells apart which addresses have one name: the largest leaf, so that what remains says all about alignment.
const BLOCK: u64 = 1 << 30;

/// Replaces the kernel's parameters, several in a row by one word, except those that tell something about devices, IOMMU and huge pages.
pub(crate) fn parameters(line: &str) -> String {
    let words = line.split_whitespace().map(|word| {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        let tells = TELLING.iter().any(|own| name.starts_with(own));
        match (tells, value) {
            (true, _) => word.to_owned(),
            (false, Some(_)) => format!("{name}=<redacted>"),
            (false, None) => "<redacted>".to_owned(),
        }
    });
    let mut words: Vec<_> = words.collect();
    words.dedup();
    words.join(" ")
}

/// Names for what was replaced: one thing has the same name everywhere.
#[derive(Default)]
struct Names(BTreeMap<(&'static str, String), usize>);

impl Names {
    fn of(&mut self, kind: &'static str, text: &str) -> String {
        let next = self.0.keys().filter(|(own, _)| *own == kind).count() + 1;
        let number = *self.0.entry((kind, text.to_lowercase())).or_insert(next);
        format!("<{kind}-{number}>")
    }

    /// An address: which block of 1 GiB is hidden, where in it is not.
    fn address(&mut self, digits: &str) -> String {
        match u64::from_str_radix(digits, 16) {
            // More likely a size.
            Ok(address) if address.is_power_of_two() => format!("{address:#x}"),
            Ok(address) => {
                let block = self.of("address", &format!("{:x}", address / BLOCK));
                format!("{block}+{:#x}", address % BLOCK)
            }
            Err(_) => self.of("number", digits),
        }
    }
}

/// Replaces memory addresses, names of processes and of the host, UUIDs, MAC and IP addresses, serial numbers, and names of
/// users in paths. Of an address the offset in its block of 1 GiB stays, because alignment is what matters.
///
/// PCI addresses and process IDs stay, and powers of two, which are sizes rather than addresses.
pub(crate) fn text(text: &str, host: &str) -> Result<String, regex_lite::Error> {
    let mut names = Names::default();
    let mut text = text.to_owned();
    let mut replace = |pattern: &str, with: &mut dyn FnMut(&mut Names, &Captures<'_>) -> String| {
        let pattern = Regex::new(pattern)?;
        let replaced = pattern.replace_all(&text, |found: &Captures<'_>| with(&mut names, found));
        text = replaced.into_owned();
        Ok(())
    };
    // Up to the last parenthesis of the line: a process chooses its name itself.
    replace(r"process (\d+) \(.*\)", &mut |_, found| {
        format!("process {} (<name>)", &found[1])
    })?;
    replace(r"(?m)^process (\d+)  .*$", &mut |_, found| {
        format!("process {}  <name>", &found[1])
    })?;
    replace(r"Comm: .*", &mut |_, _| "Comm: <name>".to_owned())?;
    replace(r"[^\s\[]+\[(\d+)\]", &mut |_, found| {
        format!("<name>[{}]", &found[1])
    })?;
    replace(
        r"(?i)\b(serial ?(?:number|no\.?)?\s*[:=]\s*)\S+",
        &mut |_, found| format!("{}<serial>", &found[1]),
    )?;
    replace(
        r"(?i)\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b",
        &mut |names, found| names.of("uuid", &found[0]),
    )?;
    replace(
        r"(?i)\b[0-9a-f]{2}(?::[0-9a-f]{2}){5}\b",
        &mut |names, found| names.of("mac", &found[0]),
    )?;
    replace(r"\b\d{1,3}(?:\.\d{1,3}){3}\b", &mut |names, found| {
        names.of("ip", &found[0])
    })?;
    replace(r"(?i)\b0x([0-9a-f]{7,16})\b", &mut |names, found| {
        names.address(&found[1])
    })?;
    replace(
        r"(?i)\b([0-9a-f]{8,16})-([0-9a-f]{8,16})\b",
        &mut |names, found| format!("{}-{}", names.address(&found[1]), names.address(&found[2])),
    )?;
    replace(r"/home/[^/\s]+", &mut |_, _| "/home/<user>".to_owned())?;
    if host.len() > 2 && !matches!(host, "localhost" | "(none)") {
        let name = format!(r"\b{}\b", regex_lite::escape(host));
        replace(&name, &mut |_, _| "<host>".to_owned())?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_identifies_is_replaced() {
        for (before, after) in [
            (
                "BAR 2  4 GiB, 64-bit, at 0x380100007000",
                "BAR 2  4 GiB, 64-bit, at <address-1>+0x7000",
            ),
            (
                "380000000000-3800ffffffff : ramoops",
                "<address-1>+0x0-<address-2>+0x3fffffff : ramoops",
            ),
            (
                "0x380000001000 0x380000002000",
                "<address-1>+0x1000 <address-1>+0x2000",
            ),
            ("process 4711  acme vm) ", "process 4711  <name>"),
            (
                "process 7 (a) has it open by VFIO, process 8 (b)",
                "process 7 (<name>)",
            ),
            (
                "[    1.2] CPU: 0 PID: 7 Comm: acmevm Not tainted",
                "[    1.2] CPU: 0 PID: 7 Comm: <name>",
            ),
            ("acmevm[4711]: vfio", "<name>[4711]: vfio"),
            (
                "usb 1-1: SerialNumber: AB12",
                "usb 1-1: SerialNumber: <serial>",
            ),
            ("Serial Number: AB12 x", "Serial Number: <serial> x"),
            ("d0c1f8a2-3b4c-4d5e-8f90-0123456789ab", "<uuid-1>"),
            ("52:54:00:12:34:56 52:54:00:12:34:56", "<mac-1> <mac-1>"),
            ("from 10.1.2.3 on node7.acme", "from <ip-1> on <host>.acme"),
            ("/home/jane/vm", "/home/<user>/vm"),
        ] {
            assert_eq!(text(before, "node7").unwrap(), after);
        }
        // What a report is about stays.
        for same in [
            "0000:01:00.0  10de:2331, class 0x030200, 0x100000000",
            "Linux 6.12.118+deb13-cloud-amd64, THP always",
            "  0x6000+0x1000, 4 × 1 GiB",
            "[    0.123456] DMAR: Host address width 46",
        ] {
            assert_eq!(text(same, "node7").unwrap(), same);
        }
    }

    #[test]
    fn parameters_that_tell_something_stay() {
        let line = "BOOT_IMAGE=/vmlinuz root=UUID=d0c1 ro intel_iommu=on iommu=pt vfio-pci.ids=10de:2331 hugepagesz=1G token";
        assert_eq!(
            parameters(line),
            "BOOT_IMAGE=<redacted> root=<redacted> <redacted> intel_iommu=on iommu=pt vfio-pci.ids=10de:2331 hugepagesz=1G <redacted>"
        );
    }
}
