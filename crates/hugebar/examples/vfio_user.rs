//! Maps a region of a vfio-user device: a process that offers its memory as a file, through the crate `vfio_user`.
//!
//! ```text
//! cargo run --example vfio_user -- /run/device.sock 2
//! ```
//!
//! This uses neither VFIO nor physical addresses: the kernel maps such a file with huge pages where addresses are
//! congruent with its offsets, and `/sys/kernel/mm/transparent_hugepage/shmem_enabled` allows them.

use std::error::Error;
use std::os::fd::AsFd;
use std::path::Path;

use hugebar::facts;
use hugebar::layout::{Area, Layout};
use hugebar::mem::{MapOptions, Mapping, Window};
use hugebar::phys::Phys;
use hugebar::plan::{Placement, Plan};
use vfio_bindings::bindings::vfio::{
    VFIO_REGION_INFO_FLAG_MMAP, VFIO_REGION_INFO_FLAG_READ, VFIO_REGION_INFO_FLAG_WRITE,
};
use vfio_user::{Client, Region};

#[allow(dead_code, reason = "a test uses the rest of this file")]
fn main() -> Result<(), Box<dyn Error>> {
    const USAGE: &str = "usage: vfio_user SOCKET REGION";
    let mut arguments = std::env::args().skip(1);
    let socket = arguments.next().ok_or(USAGE)?;
    let index = arguments.next().ok_or(USAGE)?.parse()?;

    let client = Client::new(Path::new(&socket))?;
    let region = client.region(index).ok_or("no such region")?;
    println!("{}", map(region)?);
    Ok(())
}

/// Maps all mappable areas of a region. The mapping then needs neither the region nor its client.
pub(crate) fn map(region: &Region) -> Result<Mapping, Box<dyn Error>> {
    let allows = |flag| region.flags & flag != 0;
    let source = region.file_offset.as_ref();
    let source = source.filter(|_| allows(VFIO_REGION_INFO_FLAG_MMAP));
    let source = source.ok_or("the device offers no mapping of this region")?;

    let sizes = facts::leaf_sizes();
    let layout = match region.sparse_areas.as_slice() {
        [] => Layout::whole(region.size, sizes.base())?,
        areas => {
            let areas = areas.iter().map(|area| Area::new(area.offset, area.size));
            Layout::with_areas(region.size, sizes.base(), areas)?
        }
    };
    let phys = Phys::of_file(source.start());
    let plan = Plan::new(&layout, phys, &sizes, Placement::Congruent)?;
    let options = MapOptions {
        read: allows(VFIO_REGION_INFO_FLAG_READ),
        write: allows(VFIO_REGION_INFO_FLAG_WRITE),
        ..MapOptions::default()
    };
    let window = Window::reserve(&plan)?;
    Ok(Mapping::new(
        source.file().as_fd(),
        source.start(),
        &plan,
        window,
        options,
    )?)
}
