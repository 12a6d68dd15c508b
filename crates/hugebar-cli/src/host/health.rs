//! What this host has for mapping BARs: IOMMU, VFIO, kernel, THP, limits. Opens no device.

use std::fs;
use std::path::Path;

use hugebar::facts::{Facts, KernelVersion, ThpDisabled, ThpPolicy};
use hugebar::leaf::{Bytes, GIB};
use hugebar::vfio::is_vfio;

use super::procfs;
use crate::output::Step;

/// `MLOCK_LIMIT` of `include/uapi/linux/resource.h`: what nobody has raised for DMA (64 KiB before 5.16).
const UNRAISED_MEMLOCK: u64 = 8 << 20;

/// Where the kernel lists drivers of PCI devices.
const DRIVERS: &str = "/sys/bus/pci/drivers";

/// Where the kernel lists IOMMU groups.
const GROUPS: &str = "/sys/kernel/iommu_groups";

/// `CAP_IPC_LOCK`: no limit for locked memory.
const CAP_IPC_LOCK: u32 = 14;

/// The steps that concern no single device.
pub(crate) fn steps(facts: &Facts) -> Vec<Step> {
    let mut steps = vec![iommu()];
    steps.extend(interrupt_remapping());
    steps.extend([vfio(), kernel(facts), thp(facts)]);
    steps.extend(memlock());
    steps
}

fn iommu() -> Step {
    let active = names("/sys/class/iommu");
    if !active.is_empty() {
        return Step::ok("iommu", format!("on: {}", active.join(", ")));
    }
    // Some jails have no such folder. Devices without an IOMMU have groups as well, by that name.
    let groups = names(GROUPS).into_iter().any(|group| {
        let name = fs::read_to_string(format!("{GROUPS}/{group}/name")).unwrap_or_default();
        name.trim() != "vfio-noiommu"
    });
    if groups {
        return Step::ok("iommu", "on: it has devices in groups");
    }
    let fact = "no IOMMU is on";
    let tables = names("/sys/firmware/acpi/tables");
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let remedy = turn_iommu_on(&tables, procfs::field(&cpu, "vendor_id\t"));
    if noiommu_is_allowed() {
        let fact = format!("{fact}; no-IOMMU mode is allowed: devices can reach all of memory");
        return Step::warning("iommu", fact, remedy);
    }
    Step::blocker("iommu", fact, remedy)
}

/// What to do about an IOMMU that is off, by the firmware's tables, which tell of one, and the vendor of the
/// processor.
fn turn_iommu_on(tables: &[String], vendor: Option<&str>) -> &'static str {
    let told = |table: &str| tables.iter().any(|name| name == table);
    match vendor {
        _ if told("DMAR") => "the firmware has one (VT-d): boot with intel_iommu=on",
        _ if told("IVRS") => {
            "the firmware has one (AMD-Vi): boot without amd_iommu=off and iommu=off"
        }
        Some("GenuineIntel") => {
            "the firmware tells of none: turn on VT-d in its setup, and boot with intel_iommu=on"
        }
        Some("AuthenticAMD" | "HygonGenuine") => {
            "the firmware tells of none: turn on AMD-Vi (IOMMU) in its setup"
        }
        _ => "the firmware tells of none: turn on the IOMMU (on arm64 the SMMU) in its setup",
    }
}

/// Whether the administrator allows devices to be handed out without an IOMMU.
pub(super) fn noiommu_is_allowed() -> bool {
    on("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode")
}

/// Told by the names of interrupt chips on x86, not told elsewhere or without an IOMMU.
fn interrupt_remapping() -> Option<Step> {
    const STEP: &str = "interrupt-remapping";
    if names("/sys/class/iommu").is_empty() {
        return None;
    }
    let interrupts = fs::read_to_string("/proc/interrupts").ok()?;
    if interrupts.contains(" IR-") {
        return Some(Step::ok(STEP, "on"));
    }
    if !interrupts.contains(" IO-APIC") {
        return None;
    }
    let fact = "the IOMMU does not remap interrupts";
    let modules = ["vfio_iommu_type1", "iommufd"];
    let accepted = modules.iter().any(|module| {
        on(&format!(
            "/sys/module/{module}/parameters/allow_unsafe_interrupts"
        ))
    });
    let remedy = "turn it on in the firmware and boot without intremap=off, or accept the risk with \
                  vfio_iommu_type1.allow_unsafe_interrupts=1";
    Some(if accepted {
        Step::warning(STEP, format!("{fact}, and that risk is accepted"), remedy)
    } else {
        Step::blocker(STEP, fact, remedy)
    })
}

fn vfio() -> Step {
    let nodes = ["/dev/vfio/vfio", "/dev/iommu"];
    let there: Vec<_> = nodes
        .into_iter()
        .filter(|node| Path::new(node).exists())
        .collect();
    let mut drivers = names(DRIVERS);
    drivers.retain(|driver| is_vfio(driver));
    let iommus = ["vfio_iommu_type1", "iommufd"];
    let loaded = |module: &str| Path::new("/sys/module").join(module).exists();
    if drivers.is_empty() && Path::new(DRIVERS).exists() {
        // The node alone can be there without a module, for the kernel to load one when it is opened.
        let fact = "no VFIO driver for PCI devices is loaded";
        return Step::blocker("vfio", fact, "modprobe vfio-pci");
    }
    if there.is_empty() {
        let fact = "neither /dev/vfio/vfio nor /dev/iommu is there";
        return Step::blocker("vfio", fact, "in a container or jail, pass the nodes in");
    }
    let fact = [drivers.join(", "), there.join(", ")];
    let fact = fact.into_iter().filter(|part| !part.is_empty());
    let fact = fact.collect::<Vec<_>>().join("; ");
    if !noiommu_is_allowed() && !iommus.into_iter().any(loaded) {
        let fact = format!("{fact}; neither of {} is loaded", iommus.join(" and "));
        return Step::warning("vfio", fact, "modprobe vfio_iommu_type1");
    }
    Step::ok("vfio", fact)
}

fn kernel(facts: &Facts) -> Step {
    let Some(kernel) = facts.kernel else {
        return Step::ok("kernel", format!("{}: of no known version", facts.release));
    };
    let since = |minor| kernel >= KernelVersion::new(6, minor, 0);
    if facts.device_leaf_sizes() != facts.leaf_sizes {
        let fact = format!("{kernel} maps device memory in pages only");
        let remedy = "use Linux 6.12 or later; if the distribution has taken large leaves back to this one, \
                      hugebar map counts them";
        return Step::warning("kernel", fact, remedy);
    }
    let mut fact = format!(
        "{kernel} has leaves up to {}",
        Bytes(facts.leaf_sizes.largest())
    );
    for (minor, what) in [(15, "DMA maps by leaf"), (19, "BARs as dma-bufs")] {
        if !since(minor) {
            fact.push_str(&format!("; {what} came with 6.{minor}"));
        }
    }
    Step::ok("kernel", fact)
}

fn thp(facts: &Facts) -> Step {
    let Some(policy) = facts.thp else {
        let remedy = "use a kernel with CONFIG_TRANSPARENT_HUGEPAGE";
        return Step::warning("thp", "not built in: pages only", remedy);
    };
    if facts.device_leaf_sizes() != facts.leaf_sizes {
        let fact = format!("policy {policy}, of no account on a kernel of this version");
        return Step::ok("thp", fact);
    }
    let inherited = "which they inherit from the service manager or container runtime";
    match facts.thp_disabled {
        ThpDisabled::Yes => {
            let fact = "off for this process (PR_SET_THP_DISABLE): pages only, on every kernel";
            let remedy = format!(
                "start programs without that setting, {inherited}; a program can call \
                 prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0) itself"
            );
            return Step::blocker("thp", fact, remedy);
        }
        ThpDisabled::ExceptAdvised => {
            let fact = "off for unhinted memory of this process (PR_THP_DISABLE_EXCEPT_ADVISED)";
            let remedy = format!(
                "have programs hint with MADV_HUGEPAGE, or start them without that setting, {inherited}"
            );
            return Step::warning("thp", fact, remedy);
        }
        ThpDisabled::No => {}
    }
    let remedy = "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled";
    let release = &facts.release;
    match (policy, facts.asks_thp_policy()) {
        (ThpPolicy::Always, _) => Step::ok("thp", "policy always"),
        (ThpPolicy::Madvise, None) => Step::ok(
            "thp",
            format!(
                "policy madvise; if Linux {release} asks it, pages only for what is not hinted"
            ),
        ),
        (ThpPolicy::Unknown, None | Some(true)) => Step::warning(
            "thp",
            format!("the policy cannot be read, and Linux {release} may ask it"),
            "show this process /sys/kernel/mm/transparent_hugepage",
        ),
        (_, None) => Step::warning(
            "thp",
            format!("policy {policy}, and whether Linux {release} asks it is not known"),
            remedy,
        ),
        (_, Some(false)) => Step::ok(
            "thp",
            format!("policy {policy}, which Linux {release} does not ask for device memory"),
        ),
        (ThpPolicy::Madvise, Some(true)) => Step::ok(
            "thp",
            format!(
                "policy madvise, which Linux {release} asks: pages only for what is not hinted"
            ),
        ),
        (ThpPolicy::Never, Some(true)) => Step::blocker(
            "thp",
            format!("policy never, which Linux {release} asks: pages only"),
            remedy,
        ),
    }
}

/// How much memory this process may pin for DMA.
fn memlock() -> Option<Step> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let capabilities = procfs::field(&status, "CapEff")?;
    let capabilities = u64::from_str_radix(capabilities, 16).ok()?;
    // The kernel asks for the capability in the first user namespace. Some kernels have no other.
    let users = fs::read_to_string("/proc/self/uid_map");
    let first = users.map_or(true, |users| maps_every_user(&users));
    if capabilities >> CAP_IPC_LOCK & 1 == 1 && first {
        return Some(Step::ok("memlock", "no limit (CAP_IPC_LOCK)"));
    }
    let limit = soft_limit(&fs::read_to_string("/proc/self/limits").ok()?)?;
    Some(memlock_step(limit))
}

/// Whether a user namespace, by the text of its `uid_map`, is the first one or as good as that.
fn maps_every_user(uid_map: &str) -> bool {
    let words: Vec<_> = uid_map.split_ascii_whitespace().collect();
    words == ["0", "0", "4294967295"]
}

/// BARs are never charged, but who maps one maps memory for the device as well.
fn memlock_step(limit: Option<u64>) -> Step {
    const STEP: &str = "memlock";
    let Some(limit) = limit else {
        return Step::ok(STEP, "no limit");
    };
    let fact = format!("{} of memory can be mapped for DMA", Bytes(limit));
    let remedy = "raise RLIMIT_MEMLOCK above the memory of the guest or driver: ulimit -l, \
                  LimitMEMLOCK= of systemd, --ulimit memlock= of containers";
    if limit <= UNRAISED_MEMLOCK {
        let fact = format!("only {fact}, no more than the kernel gives everybody");
        return Step::blocker(STEP, fact, remedy);
    }
    if limit < GIB {
        return Step::warning(STEP, fact, remedy);
    }
    Step::ok(STEP, fact)
}

/// The soft limit in the text of `/proc/self/limits`; `Some(None)` where there is none.
fn soft_limit(limits: &str) -> Option<Option<u64>> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max locked memory"))?;
    match line.split_ascii_whitespace().next()? {
        "unlimited" => Some(None),
        number => number.parse().ok().map(Some),
    }
}

/// Names in a folder of sysfs; none where it is missing.
pub(super) fn names(folder: impl AsRef<Path>) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Whether a module's parameter is on.
fn on(parameter: &str) -> bool {
    fs::read_to_string(parameter).is_ok_and(|text| matches!(text.trim(), "Y" | "1"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Status;

    #[test]
    fn limits_in_bytes_or_none() {
        let line = |soft| format!("Limit\nMax locked memory         {soft}  8388608  bytes\n");
        assert_eq!(soft_limit(&line("65536")), Some(Some(65536)));
        assert_eq!(soft_limit(&line("unlimited")), Some(None));
        assert_eq!(soft_limit("Max processes 1 1"), None);
    }

    #[test]
    fn an_iommu_is_turned_on_as_firmware_and_processor_have_it() {
        let remedy = |table: &str, vendor| turn_iommu_on(&["APIC".into(), table.into()], vendor);
        assert!(remedy("DMAR", None).contains("intel_iommu=on"));
        assert!(remedy("IVRS", Some("AuthenticAMD")).contains("without amd_iommu=off"));
        assert!(remedy("", Some("GenuineIntel")).contains("VT-d in its setup"));
        assert!(remedy("", Some("AuthenticAMD")).contains("AMD-Vi"));
        assert!(!remedy("", Some("AuthenticAMD")).contains("intel"));
        assert!(remedy("", None).contains("SMMU"));
    }

    #[test]
    fn capabilities_count_in_the_first_user_namespace() {
        assert!(maps_every_user("         0          0 4294967295\n"));
        assert!(!maps_every_user("         0       1000          1\n"));
        assert!(!maps_every_user("0 100000 65536\n"));
        assert!(!maps_every_user(""));
    }

    #[test]
    fn a_limit_that_nobody_has_raised_blocks() {
        let status = |limit| memlock_step(limit).status;
        assert_eq!(status(Some(64 << 10)), Status::Blocker);
        assert_eq!(status(Some(8 << 20)), Status::Blocker);
        assert_eq!(status(Some(256 << 20)), Status::Warning);
        assert_eq!(status(Some(GIB)), Status::Ok);
        assert_eq!(status(None), Status::Ok);
    }

    #[test]
    fn the_policy_counts_where_the_kernel_asks_it() {
        let status = |release: &str, thp| thp_status(release, thp, ThpDisabled::No);
        use ThpPolicy::{Always, Madvise, Never, Unknown};
        for (release, thp, expected) in [
            ("6.18.15", Some(Never), Status::Blocker),
            ("6.18.15", Some(Madvise), Status::Ok),
            ("6.18.15", Some(Always), Status::Ok),
            ("6.18.15", None, Status::Warning),
            ("7.3.4", Some(Never), Status::Ok),
            ("6.18.15", Some(Unknown), Status::Warning),
            ("7.3.4", Some(Unknown), Status::Ok),
            ("mystery", Some(Never), Status::Warning),
            ("mystery", Some(Madvise), Status::Ok),
            ("mystery", Some(Always), Status::Ok),
            // A distribution's own count, which does not tell what was taken back.
            ("6.12.0-55.el10", Some(Never), Status::Warning),
            ("6.17.0-8-generic", Some(Madvise), Status::Ok),
            // Pages only, whatever it is.
            ("6.1.0-56", Some(Never), Status::Ok),
        ] {
            assert_eq!(status(release, thp), expected, "{release} {thp:?}");
        }
    }

    #[test]
    fn what_is_disabled_for_the_process_counts_before_the_policy() {
        use ThpDisabled::{ExceptAdvised, Yes};
        let always = Some(ThpPolicy::Always);
        assert_eq!(thp_status("7.3.4", always, Yes), Status::Blocker);
        assert_eq!(thp_status("7.3.4", always, ExceptAdvised), Status::Warning);
        assert_eq!(thp_status("6.1.192", always, Yes), Status::Ok);
        assert_eq!(thp_status("7.3.4", None, Yes), Status::Warning);
    }

    fn thp_status(release: &str, thp: Option<ThpPolicy>, disabled: ThpDisabled) -> Status {
        let mut facts = Facts::observe();
        facts.release = release.to_owned();
        facts.kernel = KernelVersion::parse(release);
        facts.thp = thp;
        facts.thp_disabled = disabled;
        super::thp(&facts).status
    }
}
