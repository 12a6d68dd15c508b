//! Device memory for other devices: peer-to-peer DMA.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::iommu::{AddressSpace, DeviceMemory, DmaAccess, Refused, Room, Source};
use crate::layout::Area;
use crate::mem::Mapping;
use crate::sys::fork::{Process, this_process};

/// A BAR mapped into an I/O address space, whose devices can read and write it ([`AddressSpace::map_bar`]). Dropping it
/// unmaps the BAR.
///
/// Byte `o` of the region is at `iova() + o`; holes are not mapped. This keeps the BAR's mapping in the process alive.
///
/// An iommufd loses the mapping when memory decode of the BAR's device is turned off or the device is reset: see
/// [`PeerMapping::renew`].
pub struct PeerMapping {
    /// Device and BAR, for errors.
    subject: String,
    space: AddressSpace,
    mapping: Arc<Mapping>,
    pieces: Vec<Piece>,
    iova: u64,
    /// Bytes from the first to the last I/O address, holes included.
    bytes: u64,
    process: Process,
}

/// An area of the region, in whole pages.
#[derive(Debug)]
struct Piece {
    area: Area,
    /// The dma-buf, if it is not mapped by address.
    dma_buf: Option<OwnedFd>,
    is_mapped: bool,
}

impl PeerMapping {
    /// Maps all areas of a mapping below an I/O address. `export` makes a dma-buf of a part of the region.
    pub(crate) fn new(
        subject: String,
        space: &AddressSpace,
        mapping: &Arc<Mapping>,
        limit: u64,
        mut export: impl FnMut(Area) -> Result<OwnedFd>,
    ) -> Result<Self> {
        let layout = mapping.plan().layout();
        let whole = |bytes: u64| {
            bytes
                .checked_next_multiple_of(layout.page())
                .ok_or_else(|| {
                    Error::new(ErrorKind::InvalidInput, "the region ends beyond 64 bits")
                })
        };
        let mut pieces = Vec::new();
        for mapped in mapping.areas() {
            let area = Area::new(mapped.area.offset, whole(mapped.area.size)?);
            let dma_buf = match space.device_memory() {
                DeviceMemory::ByAddress => None,
                DeviceMemory::ByDmaBuf => Some(export(area)?),
            };
            pieces.push(Piece {
                area,
                dma_buf,
                is_mapped: false,
            });
        }
        let bytes = whole(layout.region_size())?;
        let room = Room {
            len: bytes,
            congruent_with: mapping.plan().phys().behind(0),
            last: limit.saturating_sub(1),
        };
        let placed = space.place(&room, |iova| map_all(&mut pieces, space, mapping, iova));
        let iova = placed.map_err(|error| error.on(&subject))?;
        Ok(Self {
            subject,
            space: space.clone(),
            mapping: mapping.clone(),
            pieces,
            iova,
            bytes,
            process: this_process(),
        })
    }

    /// The I/O address of the region's first byte.
    pub fn iova(&self) -> u64 {
        self.iova
    }

    /// The I/O address of a part of the region; `None` if not all of it is mapped.
    pub fn iova_of(&self, part: Area) -> Option<u64> {
        let end = part.end()?;
        let holds = |piece: &Piece| {
            let inside = piece.area.offset <= part.offset;
            piece.is_mapped && inside && piece.area.end().is_some_and(|own| end <= own)
        };
        let held = self.pieces.iter().any(holds);
        self.iova.checked_add(part.offset).filter(|_| held)
    }

    /// Maps the BAR again at the same I/O addresses (`IOMMU_IOAS_UNMAP`, `IOMMU_IOAS_MAP_FILE`). Call it after memory decode
    /// of its device was off, or the device was reset: an iommufd then loses the mapping. A type1 container keeps it, so
    /// nothing is done there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotMappableForDma`] while memory decode is off. Call it again later; until then the areas that failed are
    /// not mapped.
    pub fn renew(&mut self) -> Result<()> {
        self.check_process()?;
        if self.space.device_memory() == DeviceMemory::ByAddress {
            return Ok(());
        }
        let mut first = Ok(());
        for piece in &mut self.pieces {
            let renewed = piece.unmap(&self.space, self.iova).and_then(|()| {
                let mapped = piece.map(&self.space, &self.mapping, self.iova);
                mapped.map_err(|refused| refused.into_error(self.iova))
            });
            first = first.and(renewed);
        }
        first.map_err(|error| error.on(&self.subject))
    }

    fn check_process(&self) -> Result<()> {
        if self.process == this_process() {
            return Ok(());
        }
        let operation = "the BAR was mapped by the parent process, before fork";
        Err(Error::new(ErrorKind::InvalidInput, operation))
    }

    /// Unmaps it (`VFIO_IOMMU_UNMAP_DMA`, `IOMMU_IOAS_UNMAP`).
    ///
    /// # Errors
    ///
    /// The error of the ioctl. Devices may then still reach the BAR, so its I/O addresses are never used again.
    pub fn unmap(mut self) -> Result<()> {
        self.check_process()?;
        self.unmap_all().map_err(|error| error.on(&self.subject))
    }

    /// Frees the I/O addresses once everything is unmapped.
    fn unmap_all(&mut self) -> Result<()> {
        let unmapped = unmap_pieces(&mut self.pieces, &self.space, &self.mapping, self.iova);
        if unmapped.is_ok() && self.bytes > 0 {
            self.space.give_back(self.iova, self.bytes);
            // The drop must not try again.
            self.bytes = 0;
        }
        unmapped
    }
}

impl Piece {
    fn map(&mut self, space: &AddressSpace, mapping: &Mapping, base: u64) -> Result<(), Refused> {
        let Area { offset, size } = self.area;
        let source = match &self.dma_buf {
            Some(dma_buf) => Source::DmaBuf(dma_buf.as_fd()),
            None => {
                let span = mapping.span(offset, size).map_err(Error::from);
                Source::Memory(span.map_err(Refused::Otherwise)?.start())
            }
        };
        let access = match mapping.options().write {
            true => DmaAccess::ReadWrite,
            false => DmaAccess::Read,
        };
        // SAFETY: a span of a mapping of device memory, or a dma-buf of it, contains no Rust object. The caller keeps the
        // mapping until it is unmapped, and pins it for good if that fails.
        unsafe { space.map_at(source, size, access, base.wrapping_add(offset)) }?;
        self.is_mapped = true;
        Ok(())
    }

    fn unmap(&mut self, space: &AddressSpace, base: u64) -> Result<()> {
        if self.is_mapped {
            space.unmap_at(base.wrapping_add(self.area.offset), self.area.size)?;
            self.is_mapped = false;
        }
        Ok(())
    }
}

/// Maps all pieces, or none.
fn map_all(
    pieces: &mut [Piece],
    space: &AddressSpace,
    mapping: &Mapping,
    iova: u64,
) -> Result<(), Refused> {
    for index in 0..pieces.len() {
        if let Err(refused) = pieces[index].map(space, mapping, iova) {
            let unmapped = unmap_pieces(pieces, space, mapping, iova);
            return Err(match unmapped {
                Ok(()) => refused,
                Err(_) => Refused::Stuck(refused.into_error(iova)),
            });
        }
    }
    Ok(())
}

/// Unmaps as many pieces as possible, and returns the first error.
fn unmap_pieces(
    pieces: &mut [Piece],
    space: &AddressSpace,
    mapping: &Mapping,
    iova: u64,
) -> Result<()> {
    let mut first = Ok(());
    for piece in pieces {
        first = first.and(piece.unmap(space, iova));
    }
    if first.is_err() && space.device_memory() == DeviceMemory::ByAddress {
        // The kernel looks these addresses up again for the next group of the container, whatever they are by then.
        mapping.pin();
    }
    first
}

impl Drop for PeerMapping {
    fn drop(&mut self) {
        if self.check_process().is_ok() {
            // `unmap` reports errors; a drop cannot.
            let _ = self.unmap_all();
        }
    }
}

impl fmt::Debug for PeerMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerMapping")
            .field("iova", &format_args!("{:#x}", self.iova))
            .field("pieces", &self.pieces)
            .finish_non_exhaustive()
    }
}
