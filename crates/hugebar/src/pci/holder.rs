//! Remedies for resources that claim a BAR, by their names in `/proc/iomem`.

/// Names of the framebuffer that firmware has set up, and of its drivers.
const FRAMEBUFFERS: [&str; 9] = [
    "bootfb",
    "efifb",
    "vesafb",
    "simplefb",
    "framebuffer",
    "simpledrm",
    "efidrm",
    "vesadrm",
    "ofdrm",
];

/// Names of ranges that firmware or the kernel's command line reserves, and of memory.
const MACHINE: [&str; 9] = [
    "reserved",
    "acpi ",
    "pnp",
    "system r",
    "video rom",
    "ram buffer",
    "persistent memory",
    "unusable memory",
    "unknown e820",
];

/// What to do if the resource is unknown.
pub(super) const UNKNOWN: &str =
    "another kernel resource holds a part of it: as root, look below the device in /proc/iomem";

/// What to do about a resource of this name.
pub(super) fn remedy(name: &str) -> &'static str {
    let name = name.to_ascii_lowercase();
    if FRAMEBUFFERS.iter().any(|own| name.contains(own)) {
        "boot with video=efifb:off or initcall_blacklist=sysfb_init, or unbind its driver (unbind in \
         /sys/bus/platform/drivers/simple-framebuffer)"
    } else if name.starts_with("ramoops") || name.starts_with("persistent_ram") {
        "unload ramoops, or move it to other memory (mem_address)"
    } else if MACHINE.iter().any(|own| name.starts_with(own)) || name.ends_with(" reserved") {
        "the machine reserves this range: have the firmware place the BAR elsewhere (Above 4G Decoding, MMIO base), or \
         remove the reservation from the kernel's command line (memmap=, reserve_mem=)"
    } else {
        "stop its user, or unload its driver"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_holder_has_a_remedy_of_its_own() {
        for (names, word) in [
            (
                &["BOOTFB", "efifb", "simplefb", "simple-framebuffer.0"][..],
                "sysfb_init",
            ),
            (
                &["ramoops:dump(0/4)", "ramoops", "persistent_ram"],
                "unload ramoops",
            ),
            (
                &[
                    "Reserved",
                    "Soft Reserved",
                    "pnp 00:05",
                    "PNP0C01:00",
                    "ACPI Tables",
                    "System RAM",
                ],
                "memmap=",
            ),
            (
                &["nvme", "serial", "", "<BAD>", "a\u{1b}[2J"],
                "stop its user",
            ),
        ] {
            for name in names {
                assert!(remedy(name).contains(word), "{name}: {}", remedy(name));
            }
        }
    }
}
