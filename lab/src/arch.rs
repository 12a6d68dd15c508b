//! The architectures of guests, and what differs between them.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail};

/// The architecture of a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Arch {
    /// That of the host, for which the workspace is built as it is.
    #[default]
    X86_64,
    /// 64-bit Arm: always an emulated processor, and programs that are cross-built.
    Arm64,
}

/// Constants of an architecture's machine, its kernels and its programs.
#[derive(Debug)]
pub(crate) struct Traits {
    /// Debian's name for it.
    pub(crate) debian: &'static str,
    /// The program that emulates it.
    pub(crate) qemu: &'static str,
    /// The machine, with its IOMMU where that is a part of it.
    pub(crate) machine: &'static str,
    /// The processor.
    pub(crate) cpu: &'static str,
    /// QEMU's accelerator that emulates it.
    pub(crate) emulation: &'static str,
    /// QEMU's options for the line of frames, which goes to its standard output.
    pub(crate) line: &'static str,
    /// The IOMMU, where it is a device.
    pub(crate) iommu: &'static str,
    /// The kernel's command line. A panic reboots at once, and -no-reboot then ends QEMU.
    pub(crate) append: &'static str,
    /// Memory from which on the machine no longer works, in MiB.
    pub(crate) memory_end: u32,
    /// The word for the kernel that is built for the lab.
    pub(crate) lab_kernel: &'static str,
}

/// SeaBIOS places BARs at the end of these physical address bits, which have room for BARs of hundreds of GiB.
/// Version 1.16.3 exceeds an end of 46 bits if a large BAR follows a smaller one.
///
/// Without `intremap` VFIO refuses the device. q35 moves memory above its hole for BARs (2816 MiB) to above 1 TiB, out
/// of the reach of the IOMMU's queue.
///
/// On a busy host the timer's first ticks can be late, and without `no_timer_check` the kernel then panics.
///
/// With a thread for each CPU, one boot in ten on a busy host ended with "Oops: int3": the kernel changes its code behind a
/// breakpoint, which other emulated CPUs meet when it is gone. arm64 kernels change code by single stores.
const X86_64: Traits = Traits {
    debian: "amd64",
    qemu: "qemu-system-x86_64",
    machine: "q35 -global q35-pcihost.pci-hole64-size=2T",
    cpu: "max,phys-bits=47",
    emulation: "tcg,thread=single",
    line: "-serial stdio",
    iommu: "-device intel-iommu,id=iommu,caching-mode=on,intremap=on,aw-bits=48",
    append: "console=ttyS0 quiet panic=-1 oops=panic reboot=t sysrq_always_enabled no_timer_check intel_iommu=on",
    memory_end: 2816,
    lab_kernel: "lab",
};

/// The machine has one serial port of its own, so the line of frames is on a card, in a slot beyond those of devices.
/// `pauth-impdef` is a cheaper way of signing pointers. There is no firmware: the kernel gives BARs their addresses.
const ARM64: Traits = Traits {
    debian: "arm64",
    qemu: "qemu-system-aarch64",
    machine: "virt,gic-version=3,iommu=smmuv3,highmem=on",
    cpu: "max,pauth-impdef=on",
    emulation: "tcg,thread=multi",
    line: "-chardev stdio,id=line -device pci-serial,chardev=line,addr=0x1f",
    iommu: "",
    append: "console=ttyAMA0 quiet panic=-1 oops=panic sysrq_always_enabled",
    memory_end: 32 * 1024,
    lab_kernel: "lab-64k",
};

impl Arch {
    /// What differs.
    pub(crate) fn traits(self) -> &'static Traits {
        match self {
            Arch::X86_64 => &X86_64,
            Arch::Arm64 => &ARM64,
        }
    }

    /// Splits the word for a kernel: what names its version, and the flavour of its packages.
    ///
    /// The cloud flavour is small and has VFIO as modules, and built-in drivers of virtual machines. There is none with
    /// pages of 16 KiB.
    pub(crate) fn flavour(self, word: &str) -> (&str, &'static str) {
        match self {
            Arch::X86_64 => (word, "-cloud-amd64"),
            Arch::Arm64 => match word.strip_suffix("-16k") {
                Some(version) if !version.ends_with("-arm64") => (version, "-arm64-16k"),
                _ => (word, "-cloud-arm64"),
            },
        }
    }
}

impl FromStr for Arch {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "x86-64" => Ok(Arch::X86_64),
            "arm64" => Ok(Arch::Arm64),
            _ => bail!("{text:?} is neither x86-64 nor arm64"),
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Arch::X86_64 => "x86-64",
            Arch::Arm64 => "arm64",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_ends_with_the_page_size() {
        for (word, version, flavour) in [
            ("newest", "newest", "-cloud-arm64"),
            ("newest-16k", "newest", "-arm64-16k"),
            ("7.3-16k", "7.3", "-arm64-16k"),
        ] {
            assert_eq!(Arch::Arm64.flavour(word), (version, flavour));
        }
        // A whole release keeps its end.
        let release = "7.3.4+deb13-arm64-16k";
        assert_eq!(Arch::Arm64.flavour(release).0, release);
        let (version, _) = Arch::X86_64.flavour("newest-16k");
        assert_eq!(version, "newest-16k");
    }

    #[test]
    fn names_are_read_as_they_are_printed() {
        for arch in [Arch::X86_64, Arch::Arm64] {
            assert_eq!(arch.to_string().parse::<Arch>().unwrap(), arch);
        }
        assert!("aarch64".parse::<Arch>().is_err());
    }
}
