//! Regions of a `vfio-user` client: descriptors received over a socket, from a device that is a
//! process.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::thread;

use hugebar::layout::{Area, Layout};
use hugebar::leaf::{GIB, MIB};
use vfio_bindings::bindings::vfio::{
    VFIO_PCI_NUM_REGIONS, VFIO_REGION_INFO_FLAG_MMAP, VFIO_REGION_INFO_FLAG_READ,
    VFIO_REGION_INFO_FLAG_WRITE, vfio_region_info, vfio_region_sparse_mmap_area,
};
use vfio_user::{
    Client, DmaMapFlags, DmaUnmapFlags, Server, ServerBackend, ServerRegion, SparseArea,
};

/// The client is the example.
#[path = "../examples/vfio_user.rs"]
mod example;

const BAR: u64 = 2 * GIB;
/// The part that the device does not allow to be mapped.
const DOORBELLS: Area = Area::new(0x6000, 0x1000);

/// A device whose BAR 2 is a file.
struct Device(File);

impl ServerBackend for Device {
    fn region_read(&mut self, _region: u32, offset: u64, data: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(data, offset)
    }

    fn region_write(&mut self, _region: u32, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }

    fn dma_map(
        &mut self,
        _flags: DmaMapFlags,
        _offset: u64,
        _address: u64,
        _size: u64,
        _fd: Option<File>,
    ) -> io::Result<()> {
        Ok(())
    }

    fn dma_unmap(&mut self, _flags: DmaUnmapFlags, _address: u64, _size: u64) -> io::Result<()> {
        Ok(())
    }

    fn reset(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn set_irqs(
        &mut self,
        _index: u32,
        _flags: u32,
        _start: u32,
        _count: u32,
        _fds: Vec<File>,
    ) -> io::Result<()> {
        Ok(())
    }
}

fn regions(memory: &File) -> Vec<ServerRegion> {
    let region = |index| {
        let mut region_info = vfio_region_info {
            index,
            ..Default::default()
        };
        let mut region = ServerRegion {
            region_info,
            sparse_areas: Vec::new(),
            mmap_fd: None,
        };
        if index == 2 {
            region_info.size = BAR;
            region_info.flags = VFIO_REGION_INFO_FLAG_READ
                | VFIO_REGION_INFO_FLAG_WRITE
                | VFIO_REGION_INFO_FLAG_MMAP;
            let behind = DOORBELLS.end().unwrap();
            let area = |offset, size| SparseArea {
                area: vfio_region_sparse_mmap_area { offset, size },
            };
            region.sparse_areas = vec![area(behind, BAR - behind), area(0, DOORBELLS.offset)];
            region.mmap_fd = Some(memory.as_raw_fd());
            region.region_info = region_info;
        }
        region
    };
    (0..VFIO_PCI_NUM_REGIONS).map(region).collect()
}

#[test]
fn a_region_of_a_vfio_user_client_is_mapped() {
    let memory = rustix::fs::memfd_create("device", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&memory, BAR).unwrap();
    let memory = File::from(memory);
    let socket = std::env::temp_dir().join(format!("hugebar-vfio-user-{}", std::process::id()));
    let server = Server::new(&socket, true, Vec::new(), regions(&memory)).unwrap();
    let mut backend = Device(memory.try_clone().unwrap());
    let device = thread::spawn(move || server.run(&mut backend));

    let mut client = Client::new(&socket).unwrap();
    let region = client.region(2).unwrap();
    let mapping = example::map(region).unwrap();
    let whole = Layout::whole(BAR, 4096).unwrap();
    assert_eq!(mapping.plan().layout(), &whole.without(DOORBELLS).unwrap());
    assert_eq!(mapping.as_ptr().unwrap().addr().get() as u64 % GIB, 0);
    mapping.write_u32(MIB, 0x1234_5678).unwrap();
    let mut bytes = [0; 4];
    client.region_read(2, MIB, &mut bytes).unwrap();
    assert_eq!(u32::from_le_bytes(bytes), 0x1234_5678, "the device sees it");
    client
        .region_write(2, BAR - 4, &7_u32.to_le_bytes())
        .unwrap();
    assert_eq!(mapping.read_u32(BAR - 4), Ok(7), "and is seen");
    assert!(mapping.read_u32(DOORBELLS.offset).is_err());

    client.shutdown().unwrap();
    let _ = device.join().unwrap();
    // The mapping outlives client and device.
    assert_eq!(mapping.read_u32(MIB), Ok(0x1234_5678));
    let _ = std::fs::remove_file(&socket);
}
