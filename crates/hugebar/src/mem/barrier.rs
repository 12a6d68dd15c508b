//! Memory barriers between ordinary memory and a device.

use std::sync::atomic::{Ordering, compiler_fence, fence};

/// Makes a barrier from an instruction for each architecture that has one; the compiler moves nothing past it either.
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
    /// Orders reads of memory that a device writes: no later read is done before an earlier one. Use it between seeing
    /// that a descriptor is complete and reading what it describes.
    ///
    /// `dmb oshld` on arm64, `fence ir, ir` on riscv64, only a compiler barrier on x86-64.
    dma_rmb, "dmb oshld", "fence ir, ir", compiler_fence(Ordering::SeqCst)
}

barrier! {
    /// Orders writes: a device sees earlier writes no later than later ones, to memory
    /// or to registers. Use it between filling in a descriptor and ringing its doorbell.
    ///
    /// `dmb oshst` on arm64, `fence ow, ow` on riscv64, only a compiler barrier on x86-64.
    dma_wmb, "dmb oshst", "fence ow, ow", compiler_fence(Ordering::SeqCst)
}

barrier! {
    /// Orders all accesses: earlier ones complete before later ones begin.
    ///
    /// `dmb osh` on arm64, `fence iorw, iorw` on riscv64, `mfence` on x86-64.
    dma_mb, "dmb osh", "fence iorw, iorw", fence(Ordering::SeqCst)
}
