//! Barriers between ordinary memory and a device.

use std::sync::atomic::{Ordering, compiler_fence};

/// Orders reads of memory that a device writes: what is read after it was not read before it. Between seeing that a
/// descriptor is complete and reading what it describes.
///
/// `dmb oshld` on arm64, `fence ir, ir` on riscv64, nothing but the compiler's order on x86-64.
#[inline]
pub fn dma_rmb() {
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the instruction changes nothing.
    unsafe {
        core::arch::asm!("dmb oshld", options(nostack, preserves_flags));
    }
    #[cfg(target_arch = "riscv64")]
    // SAFETY: the instruction changes nothing.
    unsafe {
        core::arch::asm!("fence ir, ir", options(nostack, preserves_flags));
    }
    compiler_fence(Ordering::SeqCst);
}

/// Orders writes: a device sees what was written before it no later than what is written after it, be that memory or
/// a register. Between filling a descriptor in and ringing its doorbell.
///
/// `dmb oshst` on arm64, `fence ow, ow` on riscv64, nothing but the compiler's order on x86-64.
#[inline]
pub fn dma_wmb() {
    compiler_fence(Ordering::SeqCst);
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the instruction changes nothing.
    unsafe {
        core::arch::asm!("dmb oshst", options(nostack, preserves_flags));
    }
    #[cfg(target_arch = "riscv64")]
    // SAFETY: the instruction changes nothing.
    unsafe {
        core::arch::asm!("fence ow, ow", options(nostack, preserves_flags));
    }
}

/// Orders all accesses: those before it come before those after it.
///
/// `dmb osh` on arm64, `fence iorw, iorw` on riscv64, `mfence` on x86-64.
#[inline]
pub fn dma_mb() {
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the instruction changes nothing.
    unsafe {
        core::arch::asm!("dmb osh", options(nostack, preserves_flags));
    }
    #[cfg(target_arch = "riscv64")]
    // SAFETY: the instruction changes nothing.
    unsafe {
        core::arch::asm!("fence iorw, iorw", options(nostack, preserves_flags));
    }
    #[cfg(not(any(target_arch = "aarch64", target_arch = "riscv64")))]
    std::sync::atomic::fence(Ordering::SeqCst);
}
