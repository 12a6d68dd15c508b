//! Physical addresses: what is known of those behind a region.

/// What is known of the physical addresses (HPA) behind a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phys {
    /// Naturally aligned, as the PCI specification has it for BARs: each address is congruent with
    /// its region offset, modulo every leaf that fits in the BAR.
    Natural,
    /// The region starts at this physical address.
    At(u64),
    /// Nothing is known. Plans as [`Phys::Natural`], the likeliest; the counts are then a guess.
    Unknown,
}

impl Phys {
    /// The physical address behind a region offset, or a number congruent with it.
    ///
    /// Wraps around at 64 bits, which keeps the congruence: leaves are powers of two.
    pub fn behind(self, offset: u64) -> u64 {
        match self {
            Self::At(start) => start.wrapping_add(offset),
            Self::Natural | Self::Unknown => offset,
        }
    }

    /// For a file in memory (page cache, memfd, a vfio-user server's) that is mapped from this offset on: the
    /// kernel has huge pages of it only where addresses are congruent with offsets of the file.
    ///
    /// ```
    /// use hugebar::phys::Phys;
    /// assert_eq!(Phys::of_file(0x20_0000).behind(0x1000), 0x20_1000);
    /// ```
    pub const fn of_file(offset: u64) -> Self {
        Self::At(offset)
    }
}
