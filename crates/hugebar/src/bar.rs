//! One call for a BAR.

use crate::mem::MapOptions;
use crate::vfio::{Region, RegionFlags};

impl Region {
    /// Options for a mapping that allows what the region allows.
    pub fn map_options(&self) -> MapOptions {
        MapOptions {
            read: self.flags().contains(RegionFlags::READ),
            write: self.flags().contains(RegionFlags::WRITE),
            ..MapOptions::default()
        }
    }
}
