//! KVM's statistics of a virtual machine: finds each one in the kernel's answer, and counts
//! leaves.

use std::env::consts::ARCH;
use std::os::fd::AsFd;

use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::error::{Error, ErrorKind, Result};
use crate::leaf::{GIB, KIB, LeafSizes, Leaves, MIB};
use crate::sys::kvm::{self, StatsDescriptor, StatsHeader};
use crate::sys::{file, process};

/// A larger answer is rejected: kernels have some kilobytes.
const LARGEST: usize = 1 << 20;

/// How KVM names the leaves of each size on x86 (`kvm_vm_stats_desc` of `arch/x86/kvm/x86.c`).
///
/// No other architecture has these. KVM of arm64 and riscv counts no leaves at all (`KVM_GENERIC_VM_STATS` alone),
/// that of powerpc and loongarch only some of them, under other names.
const X86: [(&str, u64); 3] = [
    ("pages_4k", 4 * KIB),
    ("pages_2m", 2 * MIB),
    ("pages_1g", GIB),
];

/// The names of an architecture, as [`std::env::consts::ARCH`] calls it.
fn names(architecture: &str) -> Result<[(&'static str, u64); 3]> {
    match architecture {
        "x86_64" => Ok(X86),
        other => {
            let operation = format!("KVM counts no leaves on {other}, only on x86");
            let error = Error::new(ErrorKind::Unsupported, operation);
            Err(error.with_remedy("count those of the process instead"))
        }
    }
}

/// The leaves that KVM has in the second stage of a virtual machine, all of its memory together
/// (`KVM_GET_STATS_FD`, Linux 5.14 and later; x86 alone counts leaves).
///
/// # Errors
///
/// [`ErrorKind::Unsupported`] on any other architecture, where the kernel does not count them, or the descriptor is of
/// something else.
pub fn second_stage(vm: impl AsFd) -> Result<Leaves> {
    let names = names(ARCH)?;
    let refused = |name| move |errno| Error::call(name, errno);
    // Another kind of file might answer the next request with a number that is not our descriptor.
    if !kvm::check_extension(vm.as_fd(), kvm::CAP_BINARY_STATS_FD).unwrap_or(false) {
        let operation = "not a virtual machine with statistics";
        return Err(Error::new(ErrorKind::Unsupported, operation));
    }
    let stats = kvm::get_stats_fd(vm.as_fd()).map_err(refused(kvm::GET_STATS_FD.name))?;
    process::close_on_exec(stats.as_fd()).map_err(refused("fcntl"))?;
    let mut answer = Vec::new();
    loop {
        let mut part = [0; 4096];
        let read = file::read_at(stats.as_fd(), &mut part, answer.len() as u64);
        match read.map_err(refused("pread of KVM's statistics"))? {
            0 => break,
            read => answer.extend(part.iter().take(read)),
        }
        if answer.len() > LARGEST {
            return Err(malformed("do not end"));
        }
    }
    leaves(&answer, &names)
}

/// The leaves among the statistics, by these names.
fn leaves(answer: &[u8], names: &[(&str, u64)]) -> Result<Leaves> {
    let mut leaves = Leaves::none(&LeafSizes::X86_64);
    for &(name, size) in names {
        let count = statistic(answer, name)?.ok_or_else(|| {
            let operation = format!("KVM has no statistic {name}");
            Error::new(ErrorKind::Unsupported, operation)
        })?;
        leaves.add(size, count);
    }
    Ok(leaves)
}

/// The first value of a statistic, if there is one of this name.
///
/// The kernel is not trusted: any offset outside its answer is an error.
fn statistic(answer: &[u8], name: &str) -> Result<Option<u64>> {
    let header: StatsHeader = at(answer, 0)?;
    let name_size = header.name_size as usize;
    let length = size_of::<StatsDescriptor>() + name_size;
    // Sums and products of 32-bit numbers fit in 64 bits, the size of `usize` here.
    for index in 0..header.num_desc as usize {
        let start = header.desc_offset as usize + index * length;
        let descriptor: StatsDescriptor = at(answer, start)?;
        let behind = start + size_of::<StatsDescriptor>();
        let text = answer.get(behind..behind + name_size);
        let text = text.ok_or_else(|| malformed("are truncated"))?;
        let end = text.iter().position(|&byte| byte == 0);
        if &text[..end.unwrap_or(name_size)] == name.as_bytes() && descriptor.size > 0 {
            let value = header.data_offset as usize + descriptor.offset as usize;
            return at(answer, value).map(Some);
        }
    }
    Ok(None)
}

/// Reads a value at an offset of the answer.
fn at<T: FromBytes + KnownLayout + Immutable>(answer: &[u8], offset: usize) -> Result<T> {
    let rest = answer.get(offset..).unwrap_or_default();
    let read = T::read_from_prefix(rest);
    read.map(|(value, _)| value)
        .map_err(|_| malformed("are truncated"))
}

fn malformed(what: &str) -> Error {
    Error::new(ErrorKind::Malformed, format!("KVM's statistics {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    const NAME: usize = 48;

    /// An answer like the kernel's: header, ID, descriptors, values.
    fn answer(statistics: &[(&str, u64)]) -> Vec<u8> {
        let descriptors = 24 + NAME;
        let data = descriptors + statistics.len() * (16 + NAME);
        let small = |number: usize| u32::try_from(number).unwrap();
        let header = StatsHeader {
            name_size: small(NAME),
            num_desc: small(statistics.len()),
            id_offset: 24,
            desc_offset: small(descriptors),
            data_offset: small(data),
            ..StatsHeader::default()
        };
        let mut bytes = header.as_bytes().to_vec();
        bytes.resize(descriptors, b'x');
        for (index, (name, _)) in statistics.iter().enumerate() {
            let descriptor = StatsDescriptor {
                size: 1,
                offset: small(index * 8),
                ..StatsDescriptor::default()
            };
            bytes.extend(descriptor.as_bytes());
            let end = bytes.len() + NAME;
            bytes.extend(name.as_bytes());
            bytes.resize(end, 0);
        }
        for (_, value) in statistics {
            bytes.extend(value.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn leaves_are_found_by_name() {
        let list = [
            ("pages_1g_split", 9),
            ("pages_1g", 4),
            ("pages_4k", 511),
            ("pages_2m", 2),
            ("pages_4", 77),
        ];
        let found = leaves(&answer(&list), &X86).unwrap();
        assert_eq!(found.to_string(), "4 × 1 GiB + 2 × 2 MiB + 511 × 4 KiB");
        let error = leaves(&answer(&list[..3]), &X86).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("pages_2m"), "{error}");
    }

    #[test]
    fn only_x86_counts_leaves() {
        assert_eq!(names("x86_64").unwrap(), X86);
        // Those are all of its sizes.
        let sizes = X86.map(|(_, size)| size);
        assert_eq!(sizes, LeafSizes::X86_64.as_slice());
        for other in ["aarch64", "riscv64", "powerpc64", "loongarch64", "s390x"] {
            let error = names(other).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(error.to_string().contains(other), "{error}");
        }
    }

    #[test]
    fn whatever_is_cut_short_is_refused() {
        let whole = answer(&[("pages_1g", 4), ("pages_4k", 5), ("pages_2m", 6)]);
        for len in 0..whole.len() {
            let error = leaves(&whole[..len], &X86).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed, "{len}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            mut bytes in prop::collection::vec(any::<u8>(), 0..300),
            header in prop::collection::vec(0_u32..400, 6),
            wild in prop::option::of((0_usize..6, any::<u32>())),
        ) {
            let mut header = header;
            if let Some((field, value)) = wild {
                header[field] = value;
            }
            let fields = header.as_slice().as_bytes();
            let len = fields.len().min(bytes.len());
            bytes[..len].copy_from_slice(&fields[..len]);
            let _ = leaves(&bytes, &X86);
        }
    }
}
