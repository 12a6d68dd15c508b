//! What is known about the physical addresses behind a region.

/// What is known about the physical addresses (HPA) behind a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phys {
    /// Naturally aligned, as the PCI specification requires of BARs: each address is congruent with
    /// its region offset, modulo every leaf size that fits in the BAR.
    Natural,
    /// The region starts at this physical address.
    At(u64),
    /// Unknown. Plans assume [`Phys::Natural`], the most likely case; the counts are then a guess.
    Unknown,
}

impl Phys {
    /// The physical address behind a region offset, or a number congruent with it.
    ///
    /// Wraps around at 64 bits, which keeps the congruence because leaf sizes are powers of two.
    pub fn behind(self, offset: u64) -> u64 {
        match self {
            Self::At(start) => start.wrapping_add(offset),
            Self::Natural | Self::Unknown => offset,
        }
    }

    /// For a file in memory (page cache, memfd, a vfio-user server's) that is mapped from `offset` on: the
    /// kernel uses huge pages only where addresses are congruent with file offsets.
    ///
    /// ```
    /// use hugebar::phys::Phys;
    /// assert_eq!(Phys::of_file(0x20_0000).behind(0x1000), 0x20_1000);
    /// ```
    pub const fn of_file(offset: u64) -> Self {
        Self::At(offset)
    }
}
