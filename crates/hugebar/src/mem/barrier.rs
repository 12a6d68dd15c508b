//! Barriers between ordinary memory and a device.

use std::sync::atomic::{Ordering, compiler_fence, fence};

/// Makes a barrier of an instruction for each architecture that has one; the compiler moves nothing past it either.
macro_rules! barrier {
    ($(#[$doc:meta])* $name:ident, $arm64:literal, $riscv64:literal, $otherwise:expr) => {
        $(#[$doc])*
        #[inline]
        pub fn $name() {
            #[cfg(target_arch = "aarch64")]
            // SAFETY: the instruction changes nothing.
            unsafe {
                core::arch::asm!($arm64, options(nostack, preserves_flags));
            }
            #[cfg(target_arch = "riscv64")]
            // SAFETY: the instruction changes nothing.
            unsafe {
                core::arch::asm!($riscv64, options(nostack, preserves_flags));
            }
            $otherwise;
        }
    };
}

barrier! {
    /// Orders reads of memory that a device writes: what is read after it was not read before it. Between seeing that
    /// a descriptor is complete and reading what it describes.
    ///
    /// `dmb oshld` on arm64, `fence ir, ir` on riscv64, nothing but the compiler's order on x86-64.
    dma_rmb, "dmb oshld", "fence ir, ir", compiler_fence(Ordering::SeqCst)
}

barrier! {
    /// Orders writes: a device sees what was written before it no later than what is written after it, be that memory
    /// or a register. Between filling a descriptor in and ringing its doorbell.
    ///
    /// `dmb oshst` on arm64, `fence ow, ow` on riscv64, nothing but the compiler's order on x86-64.
    dma_wmb, "dmb oshst", "fence ow, ow", compiler_fence(Ordering::SeqCst)
}

barrier! {
    /// Orders all accesses: those before it come before those after it.
    ///
    /// `dmb osh` on arm64, `fence iorw, iorw` on riscv64, `mfence` on x86-64.
    dma_mb, "dmb osh", "fence iorw, iorw", fence(Ordering::SeqCst)
}
