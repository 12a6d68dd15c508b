//! BAR sizes, compared with the resizable-BAR capability and the windows of the bridges above.

use std::path::Path;

use hugebar::leaf::Bytes;
use hugebar::pci::{Address, Function};

use super::extended::Config;
use super::power::OFF;
use super::rebar::{self, Resizable, Told};
use super::step::Step;
use super::{addresses, iov};
use crate::{bridge, sysfs};

const STEP: &str = "bar-size";

/// What to do where a BAR has no room to grow.
pub(crate) const NO_ROOM: &str =
    "turn on Above 4G Decoding and Resizable BAR in the firmware, or boot with pci=realloc";

/// The steps for BARs. `state` is the power state of the function.
pub(super) fn steps(function: &Function, state: Option<&str>) -> Vec<Step> {
    let resources = function.resources();
    let header = if state == Some(OFF) {
        // Reading it would wake the device.
        Err("the device is powered off".to_owned())
    } else {
        function.header().map_err(|error| error.fact())
    };
    if header.as_ref().is_ok_and(|header| !header.answers()) {
        return vec![no_answer()];
    }
    let mut steps = match resources {
        Ok(resources) => addresses::steps(header, &resources, function.is_bridge()),
        Err(error) => vec![Step::ok(
            addresses::STEP,
            format!("unknown: {}", error.fact()),
        )],
    };
    steps.extend(sizes(function, state));
    steps.extend(iov::step(function, state == Some(OFF)));
    steps
}

/// The step for a device that does not answer; nothing else in its configuration space can be trusted.
fn no_answer() -> Step {
    let fact = "the device does not answer: its configuration space reads all ones";
    let remedy = "remove it (write 1 to its remove file in sysfs) and rescan (/sys/bus/pci/rescan); if that does \
                  not help, power-cycle the host, and check slot and power supply";
    Step::blocker("answer", fact, remedy)
}

/// A step for each BAR that could be larger, or one step if there are none.
fn sizes(function: &Function, state: Option<&str>) -> Vec<Step> {
    let virtual_function = sysfs::of(function, "physfn").exists();
    let (told, by_kernel) = match resizable(function, state) {
        Ok(told) => told,
        Err(step) => return vec![step],
    };
    let smaller = told.resizable.iter();
    let smaller = smaller.filter(|own| own.current < own.largest);
    let mut steps: Vec<_> = smaller
        .map(|own| match (virtual_function, by_kernel) {
            (true, _) => of_virtual_function(own),
            (false, true) => of_function(function, own),
            (false, false) => by_its_capability(own),
        })
        .collect();
    for bar in &told.unknown {
        let fact = format!("BAR {bar} can be resized, but its possible sizes are unknown");
        steps.push(Step::ok(STEP, fact));
    }
    if steps.is_empty() {
        let fact = match told.resizable.len() {
            0 => "no BAR can be resized",
            _ => "resizable BARs have their largest size",
        };
        return vec![Step::ok(STEP, fact)];
    }
    steps
}

/// The resizable BARs of a function, and whether the kernel lists them; or a step that says why they are unknown.
pub(crate) fn resizable(function: &Function, state: Option<&str>) -> Result<(Told, bool), Step> {
    // The physical function sets the sizes of a virtual function's BARs.
    let physical = sysfs::of(function, "physfn");
    let (config, capability) = if physical.exists() {
        (physical.join("config"), rebar::VF_REBAR)
    } else {
        (sysfs::of(function, "config"), rebar::REBAR)
    };
    if state == Some(OFF) {
        return Err(Step::ok(STEP, "not checked: the device is powered off"));
    }
    let resources = function.resources().unwrap_or_default();
    let size = |bar: u32| resources.get(bar as usize)?.map(|own| own.size);
    possible(&sysfs::of(function, ""), size, &config, capability)
}

/// The resizable BARs, and whether the kernel lists them; or a step that says why they are unknown. The
/// capability (in `config`) is read only where the kernel has no file for any BAR: before Linux 5.19, and for virtual
/// functions.
fn possible(
    folder: &Path,
    size: impl Fn(u32) -> Option<u64>,
    config: &Path,
    capability: u16,
) -> Result<(Told, bool), Step> {
    // Readable by all.
    if let Some(told) = rebar::by_kernel(folder, size) {
        return Ok((told, true));
    }
    let unknown = |why: &str| Step::ok(STEP, format!("whether BARs can be resized: {why}"));
    let config = Config::open(config).map_err(|error| unknown(&error.to_string()))?;
    let resizable = rebar::resizable(|offset| config.word(offset), capability);
    let resizable = match resizable {
        Some(resizable) => resizable,
        None if config.is_extended() => return Err(unknown("<needs root>")),
        None => Vec::new(),
    };
    let told = Told {
        resizable,
        unknown: Vec::new(),
    };
    Ok((told, false))
}

fn of_function(function: &Function, own: &Resizable) -> Step {
    let driver = function.driver().ok().flatten();
    let prefetchable = is_prefetchable(function, own.bar);
    let narrow =
        rebar::bytes(own.largest).and_then(|size| too_narrow(function, size, prefetchable));
    resize(&function.address(), driver.as_deref(), own, narrow)
}

/// The commands that give a BAR its largest size: unbind the driver, resize, bind it again. `narrow` is a bridge
/// whose window is too small for that, and the size of that window.
fn resize(
    address: &Address,
    driver: Option<&str>,
    own: &Resizable,
    narrow: Option<(String, u64)>,
) -> Step {
    let (bar, largest) = (own.bar, own.largest);
    let mut fact = own.could_be_larger();
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
        remedy.push_str("; if there is no room for it, ");
        remedy.push_str(NO_ROOM);
    }
    let size = rebar::bytes(largest).map(|size| Bytes(size).to_string().replace(' ', ""));
    let step = Step::warning(STEP, fact, remedy);
    match size {
        Some(size) => step.by(format!("hugebar resize {address} --bar {bar} {size}")),
        None => step,
    }
}

fn of_virtual_function(own: &Resizable) -> Step {
    let remedy =
        "only the driver of the physical function can resize it, before creating virtual functions";
    Step::warning(STEP, own.could_be_larger(), remedy)
}

/// The step for a size that only the capability states. Some devices state too little or too much, and nothing in
/// sysfs resizes the BAR.
fn by_its_capability(own: &Resizable) -> Step {
    let fact = format!("{} according to its capability", own.could_be_larger());
    let remedy = format!(
        "turn on Resizable BAR in the firmware; this kernel has no resource{}_resize, which came with Linux 5.19",
        own.bar
    );
    Step::warning(STEP, fact, remedy)
}

fn is_prefetchable(function: &Function, bar: u32) -> bool {
    let resources = function.resources().unwrap_or_default();
    let resource = resources.get(bar as usize).copied().flatten();
    resource.is_some_and(|resource| resource.is_prefetchable())
}

/// The nearest bridge above a function whose window has less than `size`, with the size of the window. Windows of
/// root buses are not in sysfs.
fn too_narrow(function: &Function, size: u64, prefetchable: bool) -> Option<(String, u64)> {
    bridge::above(function).into_iter().find_map(|bridge| {
        let window = bridge.window(prefetchable)?.size;
        (window < size).then(|| (bridge.function().address().to_string(), window))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// 1002:731f: 1 GiB at most by its capability, 8 GiB by the kernel.
    #[test]
    fn the_capability_is_read_only_where_the_kernel_tells_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let config = folder.join("config");
        let mut bytes = vec![0; 4096];
        let words = [0x0001_0015_u32, 0x7 << 12, 8 << 8 | 1 << 5];
        for (number, word) in words.into_iter().enumerate() {
            bytes[0x100 + 4 * number..][..4].copy_from_slice(&word.to_le_bytes());
        }
        fs::write(&config, bytes).unwrap();
        let look = || {
            possible(
                folder,
                |bar| (bar == 0).then_some(256 << 20),
                &config,
                rebar::REBAR,
            )
        };
        let (told, by_kernel) = look().unwrap();
        assert!(!by_kernel);
        assert_eq!(
            by_its_capability(&told.resizable[0]).fact,
            "BAR 0 has 256 MiB, can have 1 GiB according to its capability"
        );
        fs::write(folder.join("resource0_resize"), "0000000000003f00\n").unwrap();
        let (told, by_kernel) = look().unwrap();
        assert!(by_kernel);
        assert_eq!(
            told.resizable[0].could_be_larger(),
            "BAR 0 has 256 MiB, can have 8 GiB"
        );
        // A kernel file for only one other BAR is no reason to trust the capability.
        fs::rename(
            folder.join("resource0_resize"),
            folder.join("resource2_resize"),
        )
        .unwrap();
        let (told, by_kernel) = look().unwrap();
        assert!(by_kernel && told.resizable.is_empty());
        assert_eq!(told.unknown, [2]);
        // What users without privilege see.
        fs::remove_file(folder.join("resource2_resize")).unwrap();
        fs::remove_file(&config).unwrap();
        let step = look().unwrap_err();
        assert!(
            step.fact.starts_with("whether BARs can be resized: "),
            "{step:?}"
        );
    }

    #[test]
    fn the_commands_that_resize_give_the_device_back() {
        let own = Resizable {
            bar: 2,
            current: 8,
            largest: 14,
            sizes: 1 << 14 | 1 << 8,
        };
        let address = "01:00.0".parse().unwrap();
        let step = resize(&address, Some("vfio-pci"), &own, None);
        assert_eq!(step.fact, "BAR 2 has 256 MiB, can have 16 GiB");
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
}
