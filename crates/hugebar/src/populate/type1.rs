//! Populating by a type1 container.

#![allow(unsafe_code, reason = "hands addresses to the kernel")]

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};
use crate::iommu::{Container, IommuKind, IovaRange};
use crate::leaf::GIB;
use crate::mem::Span;
use crate::sys::{abi, process, vfio};

use super::Populate;

/// Populates by `VFIO_IOMMU_MAP_DMA` on a type1 container, and unmaps again (`VFIO_IOMMU_UNMAP_DMA`).
///
/// The container needs a device. During each call the devices in it can reach the
/// span, at I/O addresses near the top of the IOMMU's address space.
#[derive(Debug)]
pub struct Type1 {
    container: Arc<Container>,
    scratch: Scratch,
}

impl Type1 {
    /// Prepares a container for populating (`VFIO_IOMMU_GET_INFO`).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotMappableForDma`] for a container that cannot map device memory.
    pub fn new(container: &Arc<Container>) -> Result<Self> {
        let what = match container.kind() {
            IommuKind::Type1 => None,
            IommuKind::Iommufd => Some("the container is served by iommufd, which cannot map BARs"),
            IommuKind::None => Some("the container has no IOMMU to map BARs"),
        };
        if let Some(what) = what {
            return Err(Error::new(ErrorKind::NotMappableForDma, what));
        }
        let ranges = container.iova_ranges()?;
        Ok(Self {
            container: container.clone(),
            scratch: Scratch::new(&ranges, process::page_size())?,
        })
    }
}

impl Type1 {
    /// Maps the span for DMA at `iova` (`VFIO_IOMMU_MAP_DMA`), which has the kernel fault in every
    /// page of it, and unmaps it again; returns how long mapping took.
    fn pass_through(&self, span: &Span<'_>, iova: u64) -> Result<Duration> {
        let container = self.container.as_fd();
        let mut flags = 0;
        let options = span.mapping().options();
        if options.read {
            flags |= abi::DMA_READ;
        }
        if options.write {
            flags |= abi::DMA_WRITE;
        }
        let size = span.bytes();
        let begin = Instant::now();
        // SAFETY: the span is part of a mapping that outlives this call, and holds shared file or
        // device memory: no Rust object, never borrowed. Should the unmapping fail, the mapping is
        // pinned and stays for good.
        let mapped = unsafe { vfio::iommu_map_dma(container, flags, span.start(), iova, size) };
        let elapsed = begin.elapsed();
        mapped.map_err(|errno| Error::call(vfio::IOMMU_MAP_DMA.name, errno))?;
        let failed = match vfio::iommu_unmap_dma(container, iova, size) {
            Ok(unmapped) if unmapped == size => return Ok(elapsed),
            Ok(unmapped) => {
                let operation = format!("unmapped {unmapped:#x} bytes of {size:#x}");
                Error::new(ErrorKind::Malformed, operation)
            }
            Err(errno) => Error::call(vfio::IOMMU_UNMAP_DMA.name, errno),
        };
        // The kernel keeps these addresses, and would look them up again for the next
        // group of the container, whatever lies there by then.
        span.mapping().pin();
        Err(failed.on(format!("IOVA {iova:#x}")))
    }
}

impl Populate for Type1 {
    fn name(&self) -> &'static str {
        "type1"
    }

    fn populate(&mut self, span: &Span<'_>) -> Result<Duration> {
        loop {
            let iova = self.scratch.iova(span.start().addr().get() as u64);
            let passed = self.pass_through(span, iova);
            match passed {
                // Another mapping exists there.
                Err(error) if error.errno() == Some(Errno::EXIST.raw_os_error()) => {
                    self.scratch.next().map_err(|_| error)?;
                }
                Err(error) if error.errno() == Some(Errno::FAULT.raw_os_error()) => {
                    return Err(error.of_kind(ErrorKind::NotMappableForDma).with_remedy(
                        "memory decode of the device is off, or the container is served by \
                         iommufd, which cannot map device memory",
                    ));
                }
                other => return other,
            }
        }
    }

    fn longest(&self) -> u64 {
        self.scratch.longest
    }
}

/// I/O addresses for scratch mappings: from the top down, away from those that programs use.
#[derive(Debug, PartialEq, Eq)]
struct Scratch {
    /// Lowest address that may be used.
    floor: u64,
    /// Start of the current slot, a multiple of `longest`.
    start: u64,
    /// A span of this length fits in a slot from any address congruent with the span's.
    longest: u64,
}

impl Scratch {
    /// Takes the largest of the ranges. Kernels before 5.4 report none; every IOMMU has 39 bits.
    fn new(ranges: &[IovaRange], page: u64) -> Result<Self> {
        let old = IovaRange {
            first: 4 * GIB,
            last: (1 << 39) - 1,
        };
        let length = |range: &IovaRange| range.last.saturating_sub(range.first);
        let range = ranges.iter().copied().max_by_key(length).unwrap_or(old);
        // A slot is twice as long as the longest span: it starts anywhere in the first half.
        let mut longest = GIB;
        while longest >= page {
            let start = (range.last / longest)
                .checked_sub(2)
                .map(|slots| slots * longest);
            if let Some(start) = start.filter(|&start| start >= range.first) {
                return Ok(Self {
                    floor: range.first,
                    start,
                    longest,
                });
            }
            longest /= 2;
        }
        let operation = "the IOMMU has no free addresses";
        Err(Error::new(ErrorKind::OutOfMemory, operation))
    }

    /// An I/O address congruent with a process address, so that the IOMMU can use large pages too.
    fn iova(&self, address: u64) -> u64 {
        self.start + address % self.longest
    }

    /// Moves on to the next lower slot.
    fn next(&mut self) -> Result<(), ()> {
        let lower = self.start.checked_sub(2 * self.longest);
        self.start = lower.filter(|&start| start >= self.floor).ok_or(())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn scratch_addresses_start_below_the_top_and_go_down() {
        let ranges = [
            IovaRange {
                first: 0,
                last: 0xfedf_ffff,
            },
            IovaRange {
                first: 0xfef0_0000,
                last: (1 << 48) - 1,
            },
        ];
        let mut scratch = Scratch::new(&ranges, 4096).unwrap();
        assert_eq!(scratch.start, (1 << 48) - 3 * GIB);
        assert_eq!(
            scratch.iova(0x7f00_4020_1000),
            (1 << 48) - 3 * GIB + 0x20_1000
        );
        scratch.next().unwrap();
        assert_eq!(scratch.start, (1 << 48) - 5 * GIB);
        assert!(Scratch::new(&[], 4096).unwrap().start > 4 * GIB);
        let tiny = IovaRange {
            first: 0x1000,
            last: 0x1fff,
        };
        assert!(Scratch::new(&[tiny], 4096).is_err());
    }

    proptest! {
        #[test]
        fn every_scratch_address_lies_in_the_range(
            first: u64, len in 0x4000_u64.., address: u64, steps in 0..4,
        ) {
            let last = first.saturating_add(len);
            let Ok(mut scratch) = Scratch::new(&[IovaRange { first, last }], 4096) else { return Ok(()) };
            for _ in 0..steps {
                if scratch.next().is_err() { break; }
            }
            let iova = scratch.iova(address);
            prop_assert!(iova >= first && iova + (scratch.longest - 1) <= last);
            prop_assert_eq!(iova % scratch.longest, address % scratch.longest);
        }
    }
}
