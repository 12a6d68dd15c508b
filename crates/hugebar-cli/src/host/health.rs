//! What this host has for mapping BARs: IOMMU, VFIO, kernel, THP, limits. Opens no device.

use std::fs;
use std::path::Path;

use hugebar::facts::{Facts, KernelVersion, ThpDisabled, ThpPolicy};
use hugebar::leaf::{Bytes, GIB};

use super::maps;
use crate::output::Step;

/// `MLOCK_LIMIT` of `include/uapi/linux/resource.h`: what nobody has raised for DMA (64 KiB before 5.16).
const UNRAISED_MEMLOCK: u64 = 8 << 20;

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
    let fact = "no IOMMU is on";
    // The tables in which the firmware tells of one.
    let tables = names("/sys/firmware/acpi/tables");
    let told = |table: &str| tables.iter().any(|name| name == table);
    let remedy = if told("DMAR") {
        "the firmware has one (VT-d): boot with intel_iommu=on"
    } else if told("IVRS") {
        "the firmware has one (AMD-Vi): boot without amd_iommu=off and iommu=off"
    } else {
        "the firmware tells of none: turn on VT-d, AMD-Vi or the SMMU in its setup"
    };
    if on("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode") {
        let fact = format!("{fact}; no-IOMMU mode is allowed: devices can reach all of memory");
        return Step::warning("iommu", fact, remedy);
    }
    Step::blocker("iommu", fact, remedy)
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
    if !there.is_empty() {
        return Step::ok("vfio", there.join(", "));
    }
    let remedy = "modprobe vfio-pci; in a container, pass the nodes in";
    Step::blocker(
        "vfio",
        "neither /dev/vfio/vfio nor /dev/iommu is there",
        remedy,
    )
}

fn kernel(facts: &Facts) -> Step {
    let Some(kernel) = facts.kernel else {
        return Step::ok("kernel", format!("{}: of no known version", facts.release));
    };
    let since = |minor| kernel >= KernelVersion::new(6, minor, 0);
    if facts.device_leaf_sizes() != facts.leaf_sizes {
        let fact = format!("{kernel} maps device memory in pages only");
        return Step::warning("kernel", fact, "use Linux 6.12 or later");
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
    if facts.thp_disabled == ThpDisabled::Yes {
        return Step::blocker(
            "thp",
            "off for this process (PR_SET_THP_DISABLE): pages only, on every kernel",
            "start programs without that setting, which they inherit from the service manager or \
             container runtime; a program can call prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0) itself",
        );
    }
    let remedy = "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled";
    let Some(policy) = facts.thp else {
        let remedy = "use a kernel with CONFIG_TRANSPARENT_HUGEPAGE";
        return Step::warning("thp", "not built in: pages only", remedy);
    };
    let release = &facts.release;
    match (policy, facts.asks_thp_policy()) {
        (ThpPolicy::Always, _) => Step::ok("thp", "policy always"),
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
    let capabilities = maps::field(&status, "CapEff")?;
    let capabilities = u64::from_str_radix(capabilities, 16).ok()?;
    if capabilities >> CAP_IPC_LOCK & 1 == 1 {
        return Some(Step::ok("memlock", "no limit (CAP_IPC_LOCK)"));
    }
    let limit = soft_limit(&fs::read_to_string("/proc/self/limits").ok()?)?;
    Some(memlock_step(limit))
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
        let fact = format!("only {fact}, which is what the kernel gives everybody");
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
pub(super) fn names(folder: &str) -> Vec<String> {
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
        let status = |release: &str, thp| {
            let mut facts = Facts::observe();
            facts.release = release.to_owned();
            facts.kernel = KernelVersion::parse(release);
            facts.thp = thp;
            facts.thp_disabled = ThpDisabled::No;
            super::thp(&facts).status
        };
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
            ("mystery", Some(Always), Status::Ok),
        ] {
            assert_eq!(status(release, thp), expected, "{release} {thp:?}");
        }
    }
}
