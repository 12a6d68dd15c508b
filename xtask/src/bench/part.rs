//! The parts of the page: what is measured on which kernel.

use std::fmt;

use hugebar_lab::Arch;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    /// Making prefixes of a BAR present.
    Sizes,
    /// Counting the leaves of a BAR.
    Census,
    /// Mapping a whole BAR for peer-to-peer DMA, without and with a hole.
    Dma,
    /// Several devices.
    Devices,
    /// A BAR that a program gives to a guest.
    Guest,
}

/// A topic on a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) topic: Topic,
    pub(super) arch: Arch,
    /// How the lab calls the kernel.
    pub(super) kernel: &'static str,
}

/// In the order of the page.
pub(super) const KERNELS: [&str; 3] = ["newest", "6.18", "6.12"];
pub(super) const ARM64_KERNELS: [&str; 3] = ["newest", "newest-16k", "lab-64k"];

impl Part {
    /// All of them.
    pub(super) fn all() -> Vec<Self> {
        let of = |arch, topic| {
            move |kernel| Self {
                topic,
                arch,
                kernel,
            }
        };
        let on_x86 = |topic| KERNELS.map(of(Arch::X86_64, topic));
        let mut all = Vec::new();
        all.extend(on_x86(Topic::Sizes));
        all.extend(on_x86(Topic::Census));
        all.extend(on_x86(Topic::Dma));
        all.extend(on_x86(Topic::Devices));
        // Only this kernel has KVM.
        all.push(of(Arch::X86_64, Topic::Guest)("lab"));
        all.extend(ARM64_KERNELS.map(of(Arch::Arm64, Topic::Sizes)));
        all
    }

    /// The one with a name.
    pub(super) fn named(name: &str) -> Result<Self, String> {
        let mut all = Self::all().into_iter();
        all.find(|part| part.to_string() == name).ok_or_else(|| {
            let names: Vec<_> = Self::all().iter().map(Self::to_string).collect();
            format!("the parts are {}", names.join(", "))
        })
    }
}

/// Such as `dma-6.12` and `arm64-sizes-newest-16k`, which its file is called too.
impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let topic = match self.topic {
            Topic::Sizes => "sizes",
            Topic::Census => "census",
            Topic::Dma => "dma",
            Topic::Devices => "devices",
            Topic::Guest => "guest",
        };
        match self.arch {
            Arch::X86_64 => write!(f, "{topic}-{}", self.kernel),
            Arch::Arm64 => write!(f, "arm64-{topic}-{}", self.kernel),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_has_a_name_of_its_own() {
        for part in Part::all() {
            assert_eq!(Part::named(&part.to_string()), Ok(part));
        }
        let refused = Part::named("sizes").unwrap_err();
        assert!(refused.contains("sizes-newest, sizes-6.18"), "{refused}");
    }
}
