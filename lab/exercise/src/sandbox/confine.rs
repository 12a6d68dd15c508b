//! Confines this process to a list: Landlock for files, seccomp for system calls.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use hugebar::pci::{Address, Function};
use landlock::{
    ABI, Access as _, AccessFs, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use super::list::{Access, Item};

/// System calls for reporting a failure and ending, and for a clock that cannot be read in user space.
const OWN: [i64; 3] = [
    libc::SYS_clock_gettime,
    libc::SYS_exit_group,
    libc::SYS_write,
];

/// Allows only these system calls: any other ends the process by SIGSYS.
pub(super) fn system_calls(calls: &[String]) -> Result<()> {
    seccompiler::apply_filter(&filter(calls)?).context("seccomp")
}

fn filter(calls: &[String]) -> Result<BpfProgram> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    rules.extend(OWN.map(|number| (number, Vec::new())));
    if cfg!(debug_assertions) {
        // The standard library asserts that a descriptor is open before it closes it.
        let asserts = equals(u64::try_from(libc::F_GETFD)?)?;
        rules.insert(libc::SYS_fcntl, vec![asserts]);
    }
    for name in calls {
        if let Some(request) = request(name) {
            let requests = rules.entry(libc::SYS_ioctl).or_default();
            requests.push(equals(request)?);
        } else {
            rules.insert(number(name)?, Vec::new());
        }
    }
    let architecture = std::env::consts::ARCH.try_into()?;
    let (otherwise, listed) = (SeccompAction::KillProcess, SeccompAction::Allow);
    let filter = SeccompFilter::new(rules, otherwise, listed, architecture)?;
    Ok(filter.try_into()?)
}

/// Matches a second argument of this value.
fn equals(value: u64) -> Result<SeccompRule> {
    let length = SeccompCmpArgLen::Dword;
    let is_it = SeccompCondition::new(1, length, SeccompCmpOp::Eq, value)?;
    Ok(SeccompRule::new(vec![is_it])?)
}

fn number(name: &str) -> Result<i64> {
    Ok(match name {
        "close" => libc::SYS_close,
        "eventfd2" => libc::SYS_eventfd2,
        "fcntl" => libc::SYS_fcntl,
        "fstat" => libc::SYS_fstat,
        "futex" => libc::SYS_futex,
        "ftruncate" => libc::SYS_ftruncate,
        "getdents64" => libc::SYS_getdents64,
        "getpid" => libc::SYS_getpid,
        "getrandom" => libc::SYS_getrandom,
        "getrusage" => libc::SYS_getrusage,
        "madvise" => libc::SYS_madvise,
        "memfd_create" => libc::SYS_memfd_create,
        "mmap" => libc::SYS_mmap,
        "munmap" => libc::SYS_munmap,
        "newfstatat" => libc::SYS_newfstatat,
        "openat" => libc::SYS_openat,
        "ppoll" => libc::SYS_ppoll,
        "prctl" => libc::SYS_prctl,
        "prlimit64" => libc::SYS_prlimit64,
        "pread64" => libc::SYS_pread64,
        "pwrite64" => libc::SYS_pwrite64,
        "read" => libc::SYS_read,
        #[cfg(target_arch = "x86_64")]
        "readlink" => libc::SYS_readlink,
        // Others have this one only.
        #[cfg(not(target_arch = "x86_64"))]
        "readlink" => libc::SYS_readlinkat,
        "statx" => libc::SYS_statx,
        "uname" => libc::SYS_uname,
        _ => anyhow::bail!("unknown system call {name}"),
    })
}

/// The number of a request (`linux/vfio.h`, `linux/iommufd.h`, `linux/kvm.h`).
fn request(name: &str) -> Option<u64> {
    const VFIO: u64 = (b';' as u64) << 8;
    const KVM: u64 = 0xae << 8;
    Some(match name {
        "VFIO_GET_API_VERSION" => VFIO | 100,
        "VFIO_CHECK_EXTENSION" => VFIO | 101,
        "VFIO_SET_IOMMU" => VFIO | 102,
        "VFIO_GROUP_GET_STATUS" => VFIO | 103,
        "VFIO_GROUP_SET_CONTAINER" => VFIO | 104,
        "VFIO_GROUP_GET_DEVICE_FD" => VFIO | 106,
        "VFIO_DEVICE_GET_INFO" => VFIO | 107,
        "VFIO_DEVICE_GET_REGION_INFO" => VFIO | 108,
        "VFIO_DEVICE_GET_IRQ_INFO" => VFIO | 109,
        "VFIO_DEVICE_SET_IRQS" => VFIO | 110,
        "VFIO_DEVICE_RESET" => VFIO | 111,
        "VFIO_DEVICE_GET_PCI_HOT_RESET_INFO" => VFIO | 112,
        "VFIO_DEVICE_PCI_HOT_RESET" => VFIO | 113,
        "VFIO_DEVICE_FEATURE" => VFIO | 117,
        "VFIO_IOMMU_GET_INFO" => VFIO | 112,
        "VFIO_IOMMU_MAP_DMA" => VFIO | 113,
        "VFIO_IOMMU_UNMAP_DMA" => VFIO | 114,
        "VFIO_DEVICE_BIND_IOMMUFD" => VFIO | 118,
        "VFIO_DEVICE_ATTACH_IOMMUFD_PT" => VFIO | 119,
        "IOMMU_DESTROY" => VFIO | 0x80,
        "IOMMU_IOAS_ALLOC" => VFIO | 0x81,
        "IOMMU_IOAS_IOVA_RANGES" => VFIO | 0x84,
        "IOMMU_IOAS_MAP" => VFIO | 0x85,
        "IOMMU_IOAS_UNMAP" => VFIO | 0x86,
        "IOMMU_IOAS_MAP_FILE" => VFIO | 0x8f,
        "IOMMU_VFIO_IOAS" => VFIO | 0x88,
        "KVM_CREATE_VM" => KVM | 0x01,
        "KVM_CHECK_EXTENSION" => KVM | 0x03,
        "KVM_GET_API_VERSION" => KVM,
        "KVM_CREATE_VCPU" => KVM | 0x41,
        // With the size of their structs.
        "KVM_SET_USER_MEMORY_REGION" => 0x4020_0000 | KVM | 0x46,
        "KVM_PRE_FAULT_MEMORY" => 0xc040_0000 | KVM | 0xd5,
        _ => return None,
    })
}

/// Allows only these files to be opened.
pub(super) fn files(files: &[Item], device: Address) -> Result<()> {
    let all = AccessFs::from_all(ABI::V5);
    let mut rules = Ruleset::default().handle_access(all)?.create()?;
    for item in files {
        let path = resolve(&item.path, device)?;
        let fd = PathFd::new(&path).with_context(|| path.clone())?;
        let allowed: BitFlags<AccessFs> = match item.access {
            Access::Read => AccessFs::ReadFile.into(),
            Access::ReadWrite => AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev,
            Access::List => AccessFs::ReadDir.into(),
        };
        rules = rules.add_rule(PathBeneath::new(fd, allowed))?;
    }
    let status = rules.restrict_self()?.ruleset;
    ensure!(status != RulesetStatus::NotEnforced, "no Landlock here");
    Ok(())
}

/// A path of the list for this device: `ADDRESS`, its `GROUP`, and the `N` of its own node.
fn resolve(path: &str, device: Address) -> Result<String> {
    let function = Function::at(device)?;
    let mut path = path.replace("ADDRESS", &device.to_string());
    if path.contains("GROUP") {
        let group = function.iommu_group()?.context("no group")?;
        path = path.replace("GROUP", &group.to_string());
    }
    if path.contains("vfioN") {
        let node = function.vfio_node()?.context("no node")?;
        let name = node
            .file_name()
            .and_then(|name| name.to_str())
            .context("a name")?;
        path = path.replace("vfioN", name);
    }
    ensure!(Path::new(&path).exists(), "{path} does not exist");
    Ok(path)
}
