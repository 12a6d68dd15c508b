//! The virtual machine: QEMU's command line, and the addresses of the devices.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::arch::Arch;
use crate::cache::Cache;
use crate::debian::Fetched;

/// The default device of a machine.
pub const DEFAULT_DEVICE: &str = "pci-testdev,membar=4G";

/// The slot of the first device; the next device is in the next slot.
const FIRST_SLOT: u32 = 0x10;

/// The last slot of a PCI bus.
const LAST_SLOT: u32 = 0x1e;

/// Physical address bits of an x86-64 guest.
const PHYS_BITS: u32 = 47;

/// QEMU's accelerator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accelerator {
    Kvm,
    Tcg,
}

/// Records the host's boot in which KVM was tried and failed: `/dev/kvm` may exist and still run no guest.
const KVM_FAILED: &str = "kvm-failed";

impl Accelerator {
    /// The best accelerator that may work for a guest of this architecture.
    pub(crate) fn choose(cache: &Cache, arch: Arch) -> Self {
        if arch != Arch::X86_64 {
            return Accelerator::Tcg;
        }
        let failed = fs::read(cache.path(KVM_FAILED)).is_ok_and(|boot| boot == this_boot());
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let open = || fs::File::options().read(true).write(true).open("/dev/kvm");
        if !failed && phys_bits(&cpuinfo).is_some_and(|bits| bits >= PHYS_BITS) && open().is_ok() {
            Accelerator::Kvm
        } else {
            Accelerator::Tcg
        }
    }

    /// Records that KVM does not work until this host reboots.
    pub(crate) fn give_up_kvm(cache: &Cache) -> Result<()> {
        cache.replace(KVM_FAILED, &this_boot())
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Accelerator::Kvm => "KVM",
            Accelerator::Tcg => "QEMU TCG",
        }
    }

    fn argument(self, arch: Arch, parallel: bool) -> &'static str {
        match self {
            // The emulated IOMMU remaps interrupts, which an in-kernel interrupt controller would bypass.
            Accelerator::Kvm => "kvm,kernel-irqchip=split",
            Accelerator::Tcg if parallel => "tcg,thread=multi",
            Accelerator::Tcg => arch.traits().emulation,
        }
    }
}

fn this_boot() -> Vec<u8> {
    fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

/// The physical address bits in `/proc/cpuinfo`. Under KVM the guest cannot have more than its host.
fn phys_bits(cpuinfo: &str) -> Option<u32> {
    let line = cpuinfo
        .lines()
        .find(|line| line.starts_with("address sizes"))?;
    line.split_whitespace().find_map(|word| word.parse().ok())
}

/// A device with its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    /// The argument of QEMU's `-device`.
    pub(crate) argument: String,
    /// Its address in the guest; `None` behind a bridge, because only the guest knows the bus number. It is
    /// bound with its bridge.
    pub(crate) address: Option<String>,
}

/// Assigns slots to the devices in order, except to those with their own `addr=` or `bus=`.
pub(crate) fn place(devices: &[String]) -> Result<Vec<Device>> {
    let mut slots = FIRST_SLOT..=LAST_SLOT;
    let mut placed = Vec::new();
    for device in devices {
        let option = |name: &str| {
            device
                .split(',')
                .skip(1)
                .filter_map(|option| option.split_once('='))
                .find(|(known, _)| *known == name)
                .map(|(_, value)| value)
        };
        placed.push(match (option("bus"), option("addr")) {
            (None | Some("pcie.0"), Some(place)) => Device {
                argument: device.clone(),
                address: address(place),
            },
            (Some(_), _) => Device {
                argument: device.clone(),
                address: None,
            },
            (None, None) => {
                let slot = slots.next();
                ensure!(
                    slot.is_some(),
                    "there is no room for more than {} devices",
                    placed.len()
                );
                let place = format!("{:#x}", slot.unwrap_or_default());
                Device {
                    argument: format!("{device},addr={place}"),
                    address: address(&place),
                }
            }
        });
    }
    Ok(placed)
}

/// The address for QEMU's `SLOT[.FUNCTION]`, both hexadecimal.
fn address(place: &str) -> Option<String> {
    let hex = |text: &str| u32::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    let (slot, function) = match place.split_once('.') {
        Some((slot, function)) => (hex(slot)?, hex(function)?),
        None => (hex(place)?, 0),
    };
    Some(format!("0000:00:{slot:02x}.{function:x}"))
}

/// The command of another Debian release's QEMU, without arguments.
pub(crate) fn fetched_qemu(qemu: &Fetched) -> Vec<String> {
    let data = qemu.data_here().display().to_string();
    // Modules of this host's QEMU work only with that one.
    let mut words = vec!["env".to_owned(), format!("QEMU_MODULE_DIR={data}")];
    words.extend(qemu.here());
    words.extend(["-L".to_owned(), data]);
    words
}

/// Everything in QEMU's command line.
pub(crate) struct Machine<'a> {
    pub(crate) arch: Arch,
    pub(crate) accelerator: Accelerator,
    /// Emulated CPUs have a thread each.
    pub(crate) parallel: bool,
    pub(crate) memory_mib: u32,
    pub(crate) cpus: u32,
    pub(crate) devices: &'a [Device],
    pub(crate) vmlinuz: &'a Path,
    pub(crate) initrd: &'a Path,
    /// The console is a pipe and a file: this path with `.in` and `.out`.
    pub(crate) console: &'a Path,
    /// Additions to the kernel's command line.
    pub(crate) append: &'a str,
    /// Additional arguments for QEMU.
    pub(crate) extra: &'a [String],
}

impl Machine<'_> {
    /// QEMU's arguments. The line of frames is QEMU's own standard output.
    pub(crate) fn arguments(&self) -> Result<Vec<String>> {
        let traits = self.arch.traits();
        ensure!(
            (128..traits.memory_end).contains(&self.memory_mib),
            "the machine works with 128 to {} MiB of memory, not with {}",
            traits.memory_end - 1,
            self.memory_mib
        );
        let words = |text: &str| {
            let words = text.split_whitespace().map(str::to_owned);
            words.collect::<Vec<_>>()
        };
        let path = |path: &Path| PathBuf::from(path).display().to_string();
        let mut arguments = vec!["-M".to_owned()];
        arguments.extend(words(traits.machine));
        let accelerator = self.accelerator.argument(self.arch, self.parallel);
        arguments.extend(["-accel".into(), accelerator.into()]);
        arguments.extend(["-cpu".into(), traits.cpu.into()]);
        arguments.extend(["-m".into(), self.memory_mib.to_string()]);
        arguments.extend(["-smp".into(), self.cpus.to_string()]);
        arguments.extend(words(
            "-display none -monitor none -parallel none -net none -no-reboot",
        ));
        // Shared (`mux`), though by only one user, because that provides a key for a break. Commas in options are doubled.
        let console = path(self.console).replace(',', ",,");
        arguments.extend([
            "-chardev".into(),
            format!("pipe,id=console,mux=on,path={console}"),
        ]);
        arguments.extend(words("-serial chardev:console"));
        arguments.extend(words(traits.line));
        arguments.extend(words(traits.iommu));
        // Before the devices, which may use a bus or memory that is made here.
        arguments.extend(self.extra.iter().cloned());
        for device in self.devices {
            arguments.extend(["-device".into(), device.argument.clone()]);
        }
        arguments.extend(["-kernel".into(), path(self.vmlinuz)]);
        arguments.extend(["-initrd".into(), path(self.initrd)]);
        arguments.extend([
            "-append".into(),
            format!("{} {}", traits.append, self.append)
                .trim_end()
                .into(),
        ]);
        Ok(arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(devices: &[&str]) -> Vec<Option<String>> {
        let devices: Vec<_> = devices.iter().map(|&device| device.to_owned()).collect();
        let placed = place(&devices).unwrap();
        placed.into_iter().map(|device| device.address).collect()
    }

    #[test]
    fn devices_follow_one_another_from_slot_16() {
        let devices = ["a".to_owned(), "b,membar=4G".to_owned()];
        let placed = place(&devices).unwrap();
        assert_eq!(placed[0].argument, "a,addr=0x10");
        assert_eq!(placed[1].argument, "b,membar=4G,addr=0x11");
        assert_eq!(placed[1].address.as_deref(), Some("0000:00:11.0"));
        assert!(place(&vec!["a".to_owned(); 16]).is_err());
    }

    #[test]
    fn a_device_may_choose_its_place() {
        assert_eq!(
            addresses(&[
                "a,addr=1c.1,multifunction=on",
                "b",
                "c,bus=pcie.0,addr=0x05",
                "d,bus=port1",
                "e"
            ]),
            [
                Some("0000:00:1c.1".to_owned()),
                Some("0000:00:10.0".to_owned()),
                Some("0000:00:05.0".to_owned()),
                None,
                Some("0000:00:11.0".to_owned()),
            ]
        );
    }

    #[test]
    fn physical_bits_are_read_from_cpuinfo() {
        let text = "processor\t: 0\naddress sizes\t: 39 bits physical, 48 bits virtual\n";
        assert_eq!(phys_bits(text), Some(39));
        assert_eq!(phys_bits("processor\t: 0\n"), None);
    }

    #[test]
    fn the_command_line_has_what_was_asked_for() {
        let devices = place(&[DEFAULT_DEVICE.to_owned()]).unwrap();
        let mut machine = Machine {
            arch: Arch::X86_64,
            accelerator: Accelerator::Tcg,
            parallel: false,
            memory_mib: 512,
            cpus: 1,
            devices: &devices,
            vmlinuz: Path::new("/k"),
            initrd: Path::new("/i"),
            console: Path::new("/c,d"),
            append: "loglevel=7",
            extra: &["-s".to_owned()],
        };
        let line = machine.arguments().unwrap().join(" ");
        for part in [
            "-accel tcg,thread=single",
            &format!("phys-bits={PHYS_BITS} "),
            "-m 512 -smp 1",
            "-s -device pci-testdev,membar=4G,addr=0x10",
            "intel_iommu=on loglevel=7",
            "path=/c,,d -serial chardev:console -serial stdio",
        ] {
            assert!(line.contains(part), "{part:?} in {line}");
        }
        machine.parallel = true;
        let line = machine.arguments().unwrap().join(" ");
        assert!(line.contains("-accel tcg,thread=multi"), "{line}");
        machine.memory_mib = 2816;
        assert!(machine.arguments().is_err());
        machine.arch = Arch::Arm64;
        machine.parallel = false;
        let line = machine.arguments().unwrap().join(" ");
        for part in [
            "-M virt,",
            "-accel tcg,thread=multi",
            "-serial chardev:console -chardev stdio,id=line",
            "console=ttyAMA0",
        ] {
            assert!(line.contains(part), "{part:?} in {line}");
        }
        assert!(!line.contains("intel"), "{line}");
    }
}
