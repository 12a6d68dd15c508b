//! Spans: pages of a live mapping, borrowed for populating.

use std::os::fd::AsFd;
use std::ptr::NonNull;

use rustix::fs::MemfdFlags;

use crate::error::{Error, ErrorKind, Result};
use crate::layout::Layout;
use crate::leaf::LeafSizes;
use crate::phys::Phys;
use crate::plan::{Placement, Plan};
use crate::sys::file;

use super::{AccessError, MapOptions, Mapping, Window};

/// Whole pages of one area of a mapping that lives as long as the span.
#[derive(Clone, Copy, Debug)]
pub struct Span<'a> {
    start: NonNull<u8>,
    len: u64,
    mapping: &'a Mapping,
}

impl Mapping {
    /// The pages of `[offset, offset + len)` of the region, which must lie in one mapped area.
    ///
    /// Unlike registers, a span may reach to the end of the region's last page.
    pub fn span(&self, offset: u64, len: u64) -> Result<Span<'_>, AccessError> {
        let layout = self.plan().layout();
        let page = layout.page();
        if offset % page != 0 || len % page != 0 || len == 0 {
            return Err(AccessError::Misaligned { offset, size: page });
        }
        let inside = len.min(layout.region_size().saturating_sub(offset));
        let start = self.pointer(offset, inside)?;
        if inside < len && len > inside.next_multiple_of(page) {
            return Err(AccessError::OutOfRegion { offset, len });
        }
        Ok(Span {
            start,
            len,
            mapping: self,
        })
    }
}

impl Span<'_> {
    /// The address of the first byte.
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Length in bytes.
    pub fn bytes(&self) -> u64 {
        self.len
    }

    /// The mapping that it belongs to.
    pub fn mapping(&self) -> &Mapping {
        self.mapping
    }
}

/// A mapped page of our own memory file, for a trial run.
#[derive(Debug)]
pub(crate) struct Scratch(Mapping);

impl Scratch {
    pub(crate) fn new(page: u64) -> Result<Self> {
        let refused = |name| move |errno| Error::call(name, errno);
        let file = file::memory_file("hugebar-scratch", MemfdFlags::empty());
        let file = file.map_err(refused("memfd_create"))?;
        file::resize(file.as_fd(), page).map_err(refused("ftruncate"))?;
        let layout = Layout::whole(page, page)?;
        let sizes = LeafSizes::new(&[page]);
        let sizes = sizes.ok_or(Error::new(ErrorKind::InvalidInput, "page size"))?;
        let plan = Plan::new(&layout, Phys::Natural, &sizes, Placement::Plain)?;
        let window = Window::reserve(&plan)?;
        Mapping::new(&file, 0, &plan, window, MapOptions::default()).map(Self)
    }

    pub(crate) fn span(&self) -> Result<Span<'_>> {
        let page = self.0.plan().layout().page();
        Ok(self.0.span(0, page)?)
    }
}
