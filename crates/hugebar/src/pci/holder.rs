//! What to do about a resource of the machine that has a BAR, by its name in `/proc/iomem`.

/// Of the framebuffer that firmware has set up, and of the drivers that show it.
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

/// Of what firmware or the kernel's command line sets aside, and of memory.
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

/// What to do where nobody is known.
pub(super) const UNKNOWN: &str = "another resource of the kernel's holds a part of it: look, as root, what /proc/iomem has below the device";

/// What to do about one of this name.
pub(super) fn remedy(name: &str) -> &'static str {
    let name = name.to_ascii_lowercase();
    if FRAMEBUFFERS.iter().any(|own| name.contains(own)) {
        "boot with video=efifb:off or initcall_blacklist=sysfb_init, or take it from the driver that shows it (unbind in \
         /sys/bus/platform/drivers/simple-framebuffer)"
    } else if name.starts_with("ramoops") || name.starts_with("persistent_ram") {
        "unload ramoops, or give it other memory (mem_address)"
    } else if MACHINE.iter().any(|own| name.starts_with(own)) || name.ends_with(" reserved") {
        "the machine sets this range aside: have the firmware place the BAR elsewhere (Above 4G Decoding, MMIO base), or \
         take what sets it aside off the kernel's command line (memmap=, reserve_mem=)"
    } else {
        "stop what holds it, or unload its driver"
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
                "stop what holds it",
            ),
        ] {
            for name in names {
                assert!(remedy(name).contains(word), "{name}: {}", remedy(name));
            }
        }
    }
}
