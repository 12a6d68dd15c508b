//! BAR sizes: against what the resizable-BAR capability allows, and the window of the bridge above.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use hugebar::leaf::Bytes;
use hugebar::pci::{Address, Function, Header, Resource, Unassigned};
use hugebar::vfio::remedy;

use super::rebar::{self, Resizable};
use super::step::Step;
use crate::sysfs;

const STEP: &str = "bar-size";
const ADDRESS: &str = "bar-address";

/// Of BARs that read 0.
const CANNOT_TELL: &str = "which cannot be told apart";

/// How many BARs a function has at most.
const BARS: usize = 6;

/// Where the windows of a bridge begin among its resources: behind six BARs and the ROM.
const FIRST_WINDOW: usize = 7;

/// A power state from which the kernel wakes a device when its configuration space is read.
const OFF: &str = "D3cold";

/// The steps that concern BARs. `state` is the power state of the function.
pub(super) fn steps(function: &Function, state: Option<&str>) -> Vec<Step> {
    let resources = function.resources();
    let header = if state == Some(OFF) {
        // Reading it would wake the device.
        Err("the device is off, and would have to be switched on for that".to_owned())
    } else {
        function.header().map_err(|error| error.fact())
    };
    if header.as_ref().is_ok_and(|header| !header.answers()) {
        return vec![no_answer()];
    }
    let mut steps = match resources {
        Ok(resources) => addresses(header, &resources, function.is_bridge()),
        Err(error) => vec![Step::ok(ADDRESS, format!("not known: {}", error.fact()))],
    };
    steps.extend(sizes(function, state));
    steps
}

/// Which BARs have no address, and which of them cannot be told.
fn addresses(
    header: Result<Header, String>,
    resources: &[Option<Resource>],
    is_bridge: bool,
) -> Vec<Step> {
    let header = match header {
        Ok(header) => header,
        Err(why) => {
            // What the kernel has flagged is known all the same.
            let mut steps = without_address(&Header::new([0; 64]).without_address(resources));
            let fact = format!("BARs that the kernel has not flagged are not looked at: {why}");
            steps.push(Step::ok(ADDRESS, fact));
            return steps;
        }
    };
    let unassigned = header.without_address(resources);
    let mut steps = without_address(&unassigned);
    let zero = header.absent_or_unassigned(resources);
    if zero.is_empty() || is_bridge {
        return steps;
    }
    let fact = format!(
        "{}: absent, or 32-bit and without an address, {CANNOT_TELL}",
        reads_zero(&zero)
    );
    let is_mapped = |own: &Resource| own.is_memory() && own.has_address();
    // Most devices have fewer than six, so it is said only where something is missing.
    if !unassigned.is_empty() {
        steps.push(Step::ok(ADDRESS, fact));
    } else if !resources.iter().take(BARS).flatten().any(is_mapped) {
        let fact = format!("no memory BAR has an address; {fact}");
        let remedy = format!(
            "if it should have one (the kernel's log names it: dmesg), {}",
            remedy::NO_ADDRESS
        );
        steps.push(Step::warning(ADDRESS, fact, remedy));
    }
    steps
}

fn reads_zero(bars: &[u8]) -> String {
    let names: Vec<_> = bars.iter().map(u8::to_string).collect();
    match bars {
        [bar] => format!("BAR {bar} reads 0"),
        _ => format!("BARs {} read 0", names.join(", ")),
    }
}

/// Nothing that its configuration space says counts.
fn no_answer() -> Step {
    let fact = "the device does not answer: its configuration space reads all ones";
    let remedy = "remove it (write 1 to its remove in sysfs) and scan for it again (/sys/bus/pci/rescan); if that does \
                  not help, power the host off and on, and look at its slot and power supply";
    Step::blocker("answer", fact, remedy)
}

/// A step for each BAR that is memory, but has been given no address for want of room.
fn without_address(unassigned: &[Unassigned]) -> Vec<Step> {
    let step = |own: &Unassigned| {
        let bar = own.bar;
        let fact = match own.size {
            Some(size) => format!("BAR {bar} of {} has no address", Bytes(size)),
            None => format!("BAR {bar} has no address"),
        };
        Step::blocker(ADDRESS, fact, remedy::NO_ADDRESS)
    };
    unassigned.iter().map(step).collect()
}

/// A step for each BAR that could be larger, or one that says that there is none.
fn sizes(function: &Function, state: Option<&str>) -> Vec<Step> {
    // The sizes of a virtual function's BARs are set at its physical function.
    let physical = sysfs::of(function, "physfn");
    let virtual_function = physical.exists();
    let (config, capability) = if virtual_function {
        (physical.join("config"), rebar::VF_REBAR)
    } else {
        (sysfs::of(function, "config"), rebar::REBAR)
    };
    if state == Some(OFF) {
        let fact = "not looked at: the device is off, and would have to be switched on for that";
        return vec![Step::ok(STEP, fact)];
    }
    let folder = sysfs::of(function, "");
    let resources = function.resources().unwrap_or_default();
    let size = |bar: u32| resources.get(bar as usize)?.map(|own| own.size);
    // Readable by all. A virtual function has no such file.
    let told = rebar::by_kernel(&folder, size);
    let resizable = if told.is_empty() {
        match by_capability(&config, capability) {
            Ok(resizable) => resizable,
            Err(steps) => return steps,
        }
    } else {
        told
    };
    let smaller = resizable.iter().filter(|own| own.current < own.largest);
    let steps: Vec<_> = smaller
        .map(|own| {
            if virtual_function {
                of_virtual_function(own)
            } else {
                of_function(function, own)
            }
        })
        .collect();
    if steps.is_empty() {
        let fact = match resizable.len() {
            0 => "no BAR can be resized",
            _ => "resizable BARs have their largest size",
        };
        return vec![Step::ok(STEP, fact)];
    }
    steps
}

/// The resizable BARs by configuration space, whose file is `config`, or the steps that say why they are not known.
fn by_capability(config: &Path, capability: u32) -> Result<Vec<Resizable>, Vec<Step>> {
    let Ok(config) = File::open(config) else {
        return Err(Vec::new());
    };
    // Only what is needed: there are devices that do not bear all of it to be read.
    let word = |offset: usize| {
        let mut word = [0; 4];
        let read = config.read_exact_at(&mut word, offset as u64);
        read.is_ok().then(|| u32::from_le_bytes(word))
    };
    rebar::resizable(word, capability).ok_or_else(|| {
        // Without privilege it ends after 64 bytes; without extended capabilities, after 256.
        let extended = config.metadata().is_ok_and(|config| config.len() > 256);
        let fact = if extended {
            "whether BARs can be resized: <needs root>"
        } else {
            "no BAR can be resized"
        };
        vec![Step::ok(STEP, fact)]
    })
}

fn of_function(function: &Function, own: &Resizable) -> Step {
    let driver = function.driver().ok().flatten();
    let prefetchable = is_prefetchable(function, own.bar);
    let narrow = bytes(own.largest).and_then(|size| too_narrow(function, size, prefetchable));
    resize(&function.address(), driver.as_deref(), own, narrow)
}

/// How a BAR gets its largest size: without a driver, to which it is given back afterwards. `narrow` is a bridge
/// whose window is too small for that, and the size of that window.
fn resize(
    address: &Address,
    driver: Option<&str>,
    own: &Resizable,
    narrow: Option<(String, u64)>,
) -> Step {
    let (bar, largest) = (own.bar, own.largest);
    let mut fact = could_be_larger(own);
    let file = format!("/sys/bus/pci/devices/{address}/resource{bar}_resize");
    let mut remedy = format!("echo {largest} > {file}");
    if let Some(driver) = driver {
        let driver = format!("/sys/bus/pci/drivers/{driver}");
        remedy =
            format!("echo {address} > {driver}/unbind; {remedy}; echo {address} > {driver}/bind");
    }
    if let Some((bridge, window)) = narrow {
        fact.push_str(&format!(
            "; the window of bridge {bridge} has {}",
            Bytes(window)
        ));
        remedy.push_str(
            "; if there is no room for it, turn on Above 4G Decoding and Resizable BAR in the \
             firmware, or boot with pci=realloc",
        );
    }
    Step::warning(STEP, fact, remedy)
}

fn of_virtual_function(own: &Resizable) -> Step {
    let remedy =
        "only the driver of the physical function can resize it, before it makes virtual ones";
    Step::warning(STEP, could_be_larger(own), remedy)
}

fn could_be_larger(own: &Resizable) -> String {
    let size = |power| bytes(power).map_or_else(|| "?".into(), |size| Bytes(size).to_string());
    format!(
        "BAR {} has {}, it can have {}",
        own.bar,
        size(own.current),
        size(own.largest)
    )
}

/// The size that the capability writes as a power of two above 1 MiB.
fn bytes(power: u32) -> Option<u64> {
    1_u64.checked_shl(power.checked_add(20)?)
}

fn is_prefetchable(function: &Function, bar: u32) -> bool {
    let resources = function.resources().unwrap_or_default();
    let resource = resources.get(bar as usize).copied().flatten();
    resource.is_some_and(|resource| resource.is_prefetchable())
}

/// The nearest bridge above a function whose window has less than `size`, with the size of the window. Windows of
/// root buses are not in sysfs.
fn too_narrow(function: &Function, size: u64, prefetchable: bool) -> Option<(String, u64)> {
    let path = fs::canonicalize(sysfs::of(function, "")).ok()?;
    path.ancestors()
        .skip(1)
        .map_while(Bridge::at)
        .find_map(|bridge| {
            let window = bridge.window(prefetchable)?;
            (window < size).then_some((bridge.address, window))
        })
}

/// A bridge above a function.
struct Bridge {
    address: String,
    /// Its windows for memory.
    windows: Vec<Resource>,
}

impl Bridge {
    /// `None` where the folder is of something else, such as a root bus.
    fn at(folder: &Path) -> Option<Self> {
        let class = fs::read_to_string(folder.join("class")).ok()?;
        class.starts_with("0x0604").then_some(())?;
        let address: Address = folder.file_name()?.to_str()?.parse().ok()?;
        let resources = Function::at(address).ok()?.resources().ok()?;
        Some(Self::new(address, &resources))
    }

    fn new(address: Address, resources: &[Option<Resource>]) -> Self {
        let windows = resources.iter().skip(FIRST_WINDOW).flatten();
        Self {
            address: address.to_string(),
            windows: windows
                .filter(|window| window.is_memory())
                .copied()
                .collect(),
        }
    }

    /// The size of the window for memory that is prefetchable, or is not. Where there is no
    /// prefetchable one, the other serves both.
    fn window(&self, prefetchable: bool) -> Option<u64> {
        let of_kind = |wanted: bool| {
            let windows = self.windows.iter();
            let windows = windows.filter(|window| window.is_prefetchable() == wanted);
            windows.map(|window| window.size).max()
        };
        of_kind(prefetchable).or_else(|| of_kind(false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::step::Status;

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

    fn resources(text: &str) -> Vec<Option<Resource>> {
        text.lines()
            .map(|line| Resource::parse(line).unwrap())
            .collect()
    }

    fn bridge(resource: &str) -> Bridge {
        Bridge::new("00:01.0".parse().unwrap(), &resources(resource))
    }

    #[test]
    fn windows_by_kind() {
        let port = bridge(PORT);
        assert_eq!(port.window(true), Some(512 << 20));
        assert_eq!(port.window(false), Some(2 << 20));
        let (without, _) = PORT.trim_end().rsplit_once('\n').unwrap();
        assert_eq!(bridge(without).window(true), Some(2 << 20));
        assert_eq!(bridge("").window(true), None);
    }

    #[test]
    fn a_bar_without_an_address_blocks() {
        let lines = "\
0x00000000fe800000 0x00000000fe800fff 0x0000000000040200
0x000000000000c000 0x000000000000c0ff 0x0000000020040101
0x0000000000000000 0x0000003fffffffff 0x000000002014220c
";
        let blank = Header::new([0; 64]);
        let steps = without_address(&blank.without_address(&resources(lines)));
        let [step] = &steps[..] else {
            panic!("{steps:?}");
        };
        assert_eq!(step.status, Status::Blocker);
        assert_eq!(step.fact, "BAR 2 of 256 GiB has no address");
        assert!(without_address(&blank.without_address(&resources(PORT))).is_empty());
    }

    const ZERO: &str = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n";

    /// A header with these registers of BARs.
    fn header(registers: [u32; 6]) -> Header {
        let mut bytes = [0; 64];
        for (bar, register) in registers.iter().enumerate() {
            bytes[0x10 + 4 * bar..][..4].copy_from_slice(&register.to_le_bytes());
        }
        Header::new(bytes)
    }

    fn facts(steps: &[Step]) -> Vec<(Status, &str)> {
        steps
            .iter()
            .map(|step| (step.status, &*step.fact))
            .collect()
    }

    /// Said beside another BAR that lacks an address, and where no memory BAR has one.
    #[test]
    fn a_bar_that_reads_0_is_absent_or_has_no_address() {
        let memory = "0x00000000fe800000 0x00000000fe800fff 0x0000000000040200\n";
        let ports = "0x000000000000c000 0x000000000000c0ff 0x0000000000040101\n";
        let lines = |bars: [&str; 6]| resources(&bars.concat());
        let of = |registers, bars| addresses(Ok(header(registers)), &lines(bars), false);
        let zero = [ZERO; 6];
        let mut bars = zero;
        bars[0] = memory;
        assert!(of([0xfe80_0000, 0, 0, 0, 0, 0], bars).is_empty());
        let steps = of([0xfe80_0000, 0, 0x0c, 0, 0, 0], bars);
        let told = "BARs 1, 4, 5 read 0: absent, or 32-bit and without an address, which cannot be told apart";
        let expected = [
            (Status::Blocker, "BAR 2 has no address"),
            (Status::Ok, told),
        ];
        assert_eq!(facts(&steps), expected);
        bars[0] = ports;
        let steps = of([0xc001, 0, 0, 0, 0, 0], bars);
        let told = "no memory BAR has an address; BARs 1, 2, 3, 4, 5 read 0: absent, or 32-bit and without an \
                    address, which cannot be told apart";
        assert_eq!(facts(&steps), [(Status::Warning, told)]);
        assert!(
            steps[0]
                .remedy
                .as_ref()
                .unwrap()
                .ends_with(remedy::NO_ADDRESS)
        );
        assert!(
            addresses(Ok(header([0; 6])), &lines(zero), true).is_empty(),
            "a bridge needs none"
        );
    }

    #[test]
    fn a_header_that_was_not_read_is_told() {
        let lines = format!("{ZERO}0x0000000000000000 0x000000000000ffff 0x0000000020040200\n");
        let steps = addresses(Err("off".into()), &resources(&lines), false);
        let [flagged, unknown] = &steps[..] else {
            panic!("{steps:?}");
        };
        assert_eq!(flagged.fact, "BAR 1 of 64 KiB has no address");
        assert_eq!(unknown.status, Status::Ok);
        assert!(unknown.fact.ends_with("not looked at: off"), "{unknown:?}");
    }

    #[test]
    fn the_commands_that_resize_give_the_device_back() {
        let own = Resizable {
            bar: 2,
            current: 8,
            largest: 14,
        };
        let address = "01:00.0".parse().unwrap();
        let step = resize(&address, Some("vfio-pci"), &own, None);
        assert_eq!(step.fact, "BAR 2 has 256 MiB, it can have 16 GiB");
        assert_eq!(
            step.remedy.unwrap(),
            "echo 0000:01:00.0 > /sys/bus/pci/drivers/vfio-pci/unbind; \
             echo 14 > /sys/bus/pci/devices/0000:01:00.0/resource2_resize; \
             echo 0000:01:00.0 > /sys/bus/pci/drivers/vfio-pci/bind"
        );
        let narrow = Some(("0000:00:01.0".to_owned(), 512 << 20));
        let step = resize(&address, None, &own, narrow);
        assert!(
            step.fact
                .ends_with("the window of bridge 0000:00:01.0 has 512 MiB")
        );
        let remedy = step.remedy.unwrap();
        assert!(remedy.starts_with("echo 14 > /sys/"), "{remedy}");
        assert!(remedy.contains("Above 4G Decoding"), "{remedy}");
    }

    #[test]
    fn sizes_of_the_capability() {
        assert_eq!(bytes(0), Some(1 << 20));
        assert_eq!(bytes(14), Some(16 << 30));
        assert_eq!(bytes(43), Some(1 << 63));
        assert_eq!(bytes(44), None);
        assert_eq!(bytes(u32::MAX), None);
    }
}
