//! The BARs of virtual functions. The kernel creates no virtual function if it found no room for all of their BARs.

use std::fs;
use std::path::Path;

use hugebar::leaf::Bytes;
use hugebar::pci::{ExtendedCapability, Function, Header, Resource, Unassigned};
use hugebar::vfio::{is_vfio, remedy};

use super::extended::{self, Config};
use super::iov_sizes::{self, COUNT, FIRST, Sizes};
use super::power::OFF;
use super::rebar;
use super::step::Step;
use crate::sysfs;

const STEP: &str = "vf-bars";

/// Offsets in the SR-IOV capability: `PCI_SRIOV_INITIAL_VF` with `PCI_SRIOV_TOTAL_VF` in its upper half, and
/// `PCI_SRIOV_BAR`.
const TOTAL: usize = 0x0c;
const BARS: usize = 0x24;

/// A BAR of virtual functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VirtualBar {
    /// Its number.
    pub bar: usize,
    /// Its size for each virtual function in bytes; `None` if it is not known.
    pub each: Option<u64>,
    /// Its size for as many virtual functions as the device can have: what the kernel looks for room for. `None` if it is
    /// not known.
    pub all: Option<u64>,
    /// Where the first one's lies; `None` if the kernel has found no room, and so creates no virtual function.
    pub address: Option<u64>,
    /// Whether it is prefetchable.
    pub prefetchable: bool,
}

/// The BARs of a physical function's virtual functions, as far as `resource` and configuration space tell. Reads the
/// latter only with privilege, and never of a device that is off.
pub(crate) fn bars(function: &Function) -> hugebar::Result<Vec<VirtualBar>> {
    let folder = sysfs::of(function, "");
    let resources = function.resources()?;
    let is_off = sysfs::text(folder.join("power_state")) == OFF;
    let config = (!is_off).then(|| Config::open(&folder.join("config")).ok());
    let capability = config.flatten().as_ref().and_then(Capability::read);
    let allowed = sysfs::text(folder.join("sriov_totalvfs")).parse().ok();
    let is_lowered = function.driver()?.is_some_and(|driver| !is_vfio(&driver));
    let total = total(capability.as_ref(), allowed, is_lowered);
    let lines = lines(&resources);
    let logged = || iov_sizes::logged(function.address());
    let unassigned = unassigned(capability.as_ref(), lines, logged).into_iter();
    let unassigned = unassigned.map(|own| VirtualBar {
        bar: own.bar.into(),
        each: own.size.and_then(|size| each(size, total?)),
        all: own.size,
        address: None,
        // Without privilege there is no register.
        prefetchable: match lines.get(usize::from(own.bar)) {
            Some(Some(line)) => line.is_prefetchable(),
            _ => own.is_prefetchable,
        },
    });
    let mapped = lines.iter().enumerate();
    let mapped = mapped.filter_map(|(bar, line)| {
        let line = line.filter(|line| line.is_memory() && line.has_address())?;
        Some(VirtualBar {
            bar,
            each: total.and_then(|total| each(line.size, total)),
            all: Some(line.size),
            address: Some(line.start),
            prefetchable: line.is_prefetchable(),
        })
    });
    let mut all: Vec<_> = mapped.chain(unassigned).collect();
    all.sort_by_key(|own| own.bar);
    Ok(all)
}

/// A step for a physical function that can have virtual functions.
pub(super) fn step(function: &Function, is_off: bool) -> Option<Step> {
    let folder = sysfs::of(function, "");
    // A bridge has no such file.
    if function.is_bridge() || !folder.join("sriov_totalvfs").exists() {
        return None;
    }
    let resources = match function.resources() {
        Ok(resources) => resources,
        Err(error) => return Some(Step::ok(STEP, format!("unknown: {}", error.fact()))),
    };
    // A driver may have lowered the number.
    let driver = function.driver().ok().flatten();
    let is_lowered = driver.is_some_and(|driver| !is_vfio(&driver));
    let logged = || iov_sizes::logged(function.address());
    look(&folder, &resources, is_lowered, is_off, logged)
}

/// `folder` is the function's folder in sysfs. `None` if its driver allows no virtual functions.
fn look(
    folder: &Path,
    resources: &[Option<Resource>],
    is_lowered: bool,
    is_off: bool,
    logged: impl FnOnce() -> Sizes,
) -> Option<Step> {
    let allowed = fs::read_to_string(folder.join("sriov_totalvfs")).unwrap_or_default();
    let allowed: Option<u64> = allowed.trim().parse().ok();
    if allowed == Some(0) {
        return None;
    }
    // Reading the file would wake the device.
    let config = (!is_off).then(|| Config::open(&folder.join("config")).ok());
    let config = config.flatten();
    let capability = config.as_ref().and_then(Capability::read);
    let total = total(capability.as_ref(), allowed, is_lowered);
    let lines = lines(resources);
    let unassigned = unassigned(capability.as_ref(), lines, logged);
    if !unassigned.is_empty() {
        let bars: Vec<_> = unassigned
            .iter()
            .map(|own| named(own.bar.into(), own.size, total))
            .collect();
        return Some(no_address(format!(
            "{} of virtual functions has no address",
            bars.join(", ")
        )));
    }
    let mapped = lines.iter().enumerate();
    let mapped = mapped.filter_map(|(bar, line)| {
        let line = line.filter(Resource::is_memory)?;
        Some(named(bar, Some(line.size), total))
    });
    let mapped: Vec<_> = mapped.collect();
    let unknown = match (&capability, is_off) {
        (Some(_), _) => None,
        (None, true) => Some("not checked: the device is powered off"),
        (None, false) => Some("<needs root>"),
    };
    match (mapped.is_empty(), unknown) {
        (true, None) => Some(no_address(
            "no BAR of virtual functions has an address; all read 0: either absent, or 32-bit and without an \
             address"
                .to_owned(),
        )),
        (true, Some(why)) => Some(Step::ok(
            STEP,
            format!("no BAR of virtual functions has an address; whether one needs it: {why}"),
        )),
        (false, unknown) => {
            let mut fact = mapped.join(", ");
            let larger = config.map(|config| rebar::resizable(|at| config.word(at), rebar::VF_REBAR));
            for own in larger.flatten().unwrap_or_default() {
                if own.current < own.largest {
                    fact.push_str(&format!("; of each, {} according to its capability", own.could_be_larger()));
                }
            }
            if let Some(why) = unknown {
                fact.push_str(&format!("; whether others lack an address: {why}"));
            }
            Some(Step::ok(STEP, fact))
        }
    }
}

/// How many virtual functions the lines of `resource` are for: all of the device, whatever its driver allows.
fn total(capability: Option<&Capability>, allowed: Option<u64>, is_lowered: bool) -> Option<u64> {
    match capability {
        Some(capability) => Some(u64::from(capability.total)),
        None => allowed.filter(|_| !is_lowered),
    }
}

/// The lines of the BARs of virtual functions.
fn lines(resources: &[Option<Resource>]) -> &[Option<Resource>] {
    let lines = resources.get(FIRST..).unwrap_or_default();
    &lines[..lines.len().min(COUNT)]
}

/// Those without an address. The registers in the capability have the form of those in a header. Sizes that `lines` lack are
/// the logged ones.
fn unassigned(
    capability: Option<&Capability>,
    lines: &[Option<Resource>],
    logged: impl FnOnce() -> Sizes,
) -> Vec<Unassigned> {
    let header = capability.map(|own| own.header);
    let header = header.unwrap_or(Header::new([0; 64]));
    let mut found = header.without_address(lines);
    if found.iter().any(|own| own.size.is_none()) {
        let logged = logged();
        for own in &mut found {
            let of_log = || logged.get(usize::from(own.bar)).copied().flatten();
            own.size = own.size.or_else(of_log);
        }
    }
    found
}

/// The size for one virtual function.
fn each(size: u64, total: u64) -> Option<u64> {
    let each = size.checked_div(total)?;
    let is_whole = size.checked_rem(total) == Some(0);
    (is_whole && each.is_power_of_two()).then_some(each)
}

fn no_address(fact: String) -> Step {
    let fact = format!("{fact}, so the kernel creates none (ENOMEM)");
    let remedy = format!(
        "to have virtual functions, turn on SR-IOV in the firmware; {}",
        remedy::NO_ADDRESS
    );
    Step::warning(STEP, fact, remedy)
}

/// Names a BAR of the virtual functions; `size` is the size for all of them together.
fn named(bar: usize, size: Option<u64>, total: Option<u64>) -> String {
    let Some(size) = size else {
        return format!("BAR {bar}");
    };
    match total.and_then(|total| Some((each(size, total)?, total))) {
        Some((each, total)) => format!("BAR {bar} of {} each for {total}", Bytes(each)),
        None => format!("BAR {bar} of {} for all", Bytes(size)),
    }
}

/// The contents of the SR-IOV capability.
struct Capability {
    total: u16,
    /// The registers of the BARs, as if they were a function's own.
    header: Header,
}

impl Capability {
    /// `None` without privilege.
    fn read(config: &Config) -> Option<Self> {
        let at = extended::find(|offset| config.word(offset), ExtendedCapability::SRIOV)??;
        let total = u16::try_from(config.word(at + TOTAL)? >> 16).ok()?;
        let mut bytes = [0; 64];
        for (bar, register) in bytes[0x10..][..4 * COUNT].chunks_exact_mut(4).enumerate() {
            register.copy_from_slice(&config.word(at + BARS + 4 * bar)?.to_le_bytes());
        }
        let header = Header::new(bytes);
        Some(Self { total, header })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::step::Status;

    const ZERO: &str = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n";
    /// BARs 0 and 3 of eight virtual functions, 64-bit and prefetchable, of 16 KiB each.
    const FIRST_BAR: &str = "0x0000380000000000 0x000038000001ffff 0x000000000014220c\n";
    const OTHER_BAR: &str = "0x0000380000020000 0x000038000003ffff 0x000000000014220c\n";
    /// As recent kernels leave it.
    const UNSET: &str = "0x0000000000000000 0x000000000001ffff 0x000000002014220c\n";

    /// Six BARs and the ROM, then those of virtual functions.
    fn resources(of_virtual: [&str; COUNT]) -> Vec<Option<Resource>> {
        let text = [&ZERO.repeat(FIRST), &*of_virtual.concat()].concat();
        text.lines()
            .map(|line| Resource::parse(line).unwrap())
            .collect()
    }

    fn put(config: &mut [u8], offset: usize, word: u32) {
        config[offset..offset + 4].copy_from_slice(&word.to_le_bytes());
    }

    /// A physical function for 8 virtual ones with these registers of their BARs, as root sees it.
    fn config(registers: [u32; COUNT]) -> Vec<u8> {
        let mut config = vec![0; 4096];
        put(&mut config, 0x100, 0x1401_0001);
        put(&mut config, 0x140, 0x2001_0010);
        put(&mut config, 0x140 + TOTAL, 8 << 16 | 8);
        for (bar, register) in registers.into_iter().enumerate() {
            put(&mut config, 0x140 + BARS + 4 * bar, register);
        }
        // BAR 0 can be resized: 1 MiB now, up to 4 MiB.
        put(&mut config, 0x200, 0x0001_0024);
        put(&mut config, 0x204, 7 << 4);
        put(&mut config, 0x208, 1 << 5);
        config
    }

    fn folder(allowed: &str, config: &[u8]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("sriov_totalvfs"), allowed).unwrap();
        fs::write(folder.path().join("config"), config).unwrap();
        folder
    }

    const WIDE: [u32; COUNT] = [0x0c, 0x3800, 0, 0x0002_000c, 0x3800, 0];

    #[test]
    fn sizes_of_each() {
        let lines = resources([FIRST_BAR, ZERO, ZERO, OTHER_BAR, ZERO, ZERO]);
        // A driver allows 7 of the 8 that the lines are for.
        let own = folder("7\n", &config(WIDE));
        let step = look(own.path(), &lines, true, false, Sizes::default).unwrap();
        assert_eq!(step.status, Status::Ok);
        assert_eq!(
            step.fact,
            "BAR 0 of 16 KiB each for 8, BAR 3 of 16 KiB each for 8; of each, BAR 0 has 1 MiB, can have 4 MiB \
             according to its capability"
        );
        // Without privilege, a number that a driver has lowered does not give the size of each.
        let own = folder("4\n", &config(WIDE)[..64]);
        let step = look(own.path(), &lines, true, false, Sizes::default).unwrap();
        let rest = "whether others lack an address: <needs root>";
        let all = "BAR 0 of 128 KiB for all, BAR 3 of 128 KiB for all";
        assert_eq!(step.fact, format!("{all}; {rest}"));
        let own = folder("8\n", &config(WIDE)[..64]);
        let step = look(own.path(), &lines, false, false, Sizes::default).unwrap();
        let each = "BAR 0 of 16 KiB each for 8, BAR 3 of 16 KiB each for 8";
        assert_eq!(step.fact, format!("{each}; {rest}"));
        let own = folder("0\n", &config(WIDE));
        assert_eq!(look(own.path(), &lines, true, false, Sizes::default), None);
    }

    #[test]
    fn without_an_address_there_are_none() {
        let warns = |lines: [&str; COUNT], config: &[u8], fact: &str| {
            let own = folder("8\n", config);
            let step = look(own.path(), &resources(lines), false, false, Sizes::default).unwrap();
            assert_eq!(step.status, Status::Warning, "{step:?}");
            assert_eq!(
                step.fact,
                format!("{fact}, so the kernel creates none (ENOMEM)")
            );
            let remedy = step.remedy.unwrap();
            assert!(
                remedy.contains("SR-IOV") && remedy.ends_with(remedy::NO_ADDRESS),
                "{remedy}"
            );
        };
        let flagged = [FIRST_BAR, ZERO, ZERO, UNSET, ZERO, ZERO];
        let fact = "BAR 3 of 16 KiB each for 8 of virtual functions has no address";
        warns(flagged, &config(WIDE), fact);
        warns(flagged, &config(WIDE)[..64], fact);
        // As older kernels leave it.
        let zeroed = [FIRST_BAR, ZERO, ZERO, ZERO, ZERO, ZERO];
        warns(
            zeroed,
            &config(WIDE),
            "BAR 3 of virtual functions has no address",
        );
        let of_log = || [None, None, None, Some(128 << 10), None, None];
        let own = folder("8\n", &config(WIDE));
        let step = look(own.path(), &resources(zeroed), false, false, of_log).unwrap();
        let fact = "BAR 3 of 16 KiB each for 8 of virtual functions has no address";
        assert!(step.fact.starts_with(fact), "{step:?}");
        warns(
            [ZERO; COUNT],
            &config([0; COUNT]),
            "no BAR of virtual functions has an address; all read 0: either absent, or 32-bit and without an \
             address",
        );
    }

    #[test]
    fn what_was_not_looked_at_is_told() {
        let own = folder("8\n", &config(WIDE));
        let off = look(
            own.path(),
            &resources([ZERO; COUNT]),
            false,
            true,
            Sizes::default,
        )
        .unwrap();
        assert_eq!(off.status, Status::Ok);
        assert!(
            off.fact.ends_with("not checked: the device is powered off"),
            "{off:?}"
        );
        let own = folder("8\n", &config(WIDE)[..64]);
        let user = look(
            own.path(),
            &resources([ZERO; COUNT]),
            false,
            false,
            Sizes::default,
        )
        .unwrap();
        assert!(user.fact.ends_with("<needs root>"), "{user:?}");
    }
}
