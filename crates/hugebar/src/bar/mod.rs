//! Maps a BAR in one call: [`crate::vfio::Device::map_bar`], or with options.
//!
//! Keeps the properties of a region (offset in the file, layout, physical addresses, access)
//! together. Each step also works alone, for any file: [`crate::plan`], [`crate::mem`],
//! [`crate::census`].

mod measure;
mod peer;

pub use measure::{MeasureOptions, Measurement};

use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::facts;
use crate::layout::{Area, Layout, LayoutError};
use crate::leaf::Bytes;
use crate::mem::{AccessError, Hint, MapOptions, Mapping, OwnedRegister, OwnedSlot, Window, Word};
use crate::pci::{Address, iomem};
use crate::phys::Phys;
use crate::plan::{Placement, Plan};
use crate::sys::abi::PCI_BARS;
use crate::vfio::{Device, Region, RegionFlags};

impl<F: AsFd> Device<F> {
    /// Maps a BAR, or any other region, with the fewest leaves (`mmap`, `madvise`): congruent, hinted, without the
    /// pages of the MSI-X table unless the driver allows those.
    ///
    /// ```no_run
    /// use hugebar::vfio::Device;
    ///
    /// let device = Device::open("0000:01:00.0".parse()?)?;
    /// let bar = device.map_bar(2)?;
    /// let doorbell = bar.register::<u32>(0x1000)?;
    /// doorbell.write(1);
    /// # Ok::<(), hugebar::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if the device has no such region, [`ErrorKind::Unsupported`] if its driver
    /// offers no mapping of it, and those of [`Mapping::new`].
    pub fn map_bar(&self, index: u32) -> Result<Bar> {
        self.bar(index)?.map()
    }

    /// Prepares to map a BAR, or any other region, with the options of [`UnmappedBar`]
    /// (`VFIO_DEVICE_GET_REGION_INFO`).
    ///
    /// # Errors
    ///
    /// As [`Device::map_bar`].
    pub fn bar(&self, index: u32) -> Result<UnmappedBar<'_>> {
        let region = self.present_region(index)?;
        let subject = self.subject(index);
        if !region.flags().contains(RegionFlags::MMAP) {
            let mut operation = "the driver offers no mapping of this region".to_owned();
            let (size, page) = (region.size(), region.layout().page());
            if size < page {
                let (size, page) = (Bytes(size), Bytes(page));
                let why =
                    format!(", whose {size} are less than a page ({page}), which others may share");
                operation.push_str(&why);
            }
            return Err(Error::new(ErrorKind::Unsupported, operation).on(subject));
        }
        Ok(UnmappedBar {
            fd: self.as_fd(),
            subject,
            function: self.address(),
            is_bar: self.is_pci() && index < PCI_BARS,
            phys: self.phys(&region),
            options: region.map_options(),
            layout: Ok(region.layout().clone()),
            placement: Placement::Congruent,
            window: None,
            region,
        })
    }
}

impl Region {
    /// Options for a mapping with all access that the region allows.
    pub fn map_options(&self) -> MapOptions {
        MapOptions {
            read: self.flags().contains(RegionFlags::READ),
            write: self.flags().contains(RegionFlags::WRITE),
            ..MapOptions::default()
        }
    }
}

/// A BAR that is not yet mapped, made by [`Device::bar`].
///
/// ```no_run
/// use hugebar::{layout::Area, vfio::Device};
///
/// let device = Device::open("0000:01:00.0".parse()?)?;
/// // Leave out a page that is emulated.
/// let bar = device.bar(2)?.exclude(Area::new(0x6000, 0x1000)).map()?;
/// println!("{bar}");
/// # Ok::<(), hugebar::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "does nothing until `map` is called"]
pub struct UnmappedBar<'fd> {
    fd: BorrowedFd<'fd>,
    subject: String,
    /// The PCI function, if known.
    function: Option<Address>,
    is_bar: bool,
    region: Region,
    layout: Result<Layout, LayoutError>,
    phys: Phys,
    options: MapOptions,
    placement: Placement,
    window: Option<Window>,
}

impl UnmappedBar<'_> {
    /// Leaves out a part of the region, in bytes from its start; the part is rounded out to whole pages. If the region
    /// does not contain it, [`UnmappedBar::map`] fails.
    pub fn exclude(mut self, hole: Area) -> Self {
        self.layout = self.layout.and_then(|layout| layout.without(hole));
        self
    }

    /// The same, but a hole that reaches beyond the region is cut to it, and one outside is ignored,
    /// for MSI-X tables that a virtual machine monitor has moved.
    pub fn exclude_clamped(self, hole: Area) -> Self {
        match hole.clamped(self.region.size()) {
            Some(hole) => self.exclude(hole),
            None => self,
        }
    }

    /// Chooses another placement than congruent with the physical addresses, for comparison.
    pub fn placement(mut self, placement: Placement) -> Self {
        self.placement = placement;
        self
    }

    /// Gives another hint than that for huge pages, for comparison.
    pub fn hint(mut self, hint: Hint) -> Self {
        self.options.hint = hint;
        self
    }

    /// Maps for reading only.
    pub fn read_only(mut self) -> Self {
        self.options.write = false;
        self
    }

    /// Maps at addresses of the caller: [`Window::within`] takes them from a range for a plan
    /// ([`UnmappedBar::plan`]), and [`Mapping::into_window`] from an earlier mapping.
    pub fn within(mut self, window: Window) -> Self {
        self.window = Some(window);
        self
    }

    /// Where the areas are to lie, and the fewest possible leaves.
    ///
    /// # Errors
    ///
    /// If an excluded part does not lie in the region.
    pub fn plan(&self) -> Result<Plan> {
        let sizes = facts::leaf_sizes();
        let layout = self.layout.as_ref().map_err(|&error| error);
        let plan = layout.and_then(|layout| Plan::new(layout, self.phys, &sizes, self.placement));
        plan.map_err(|error| Error::from(error).on(&self.subject))
    }

    /// Reserves the addresses now (`mmap`), unless the caller has given some: [`UnmappedBar::window`] returns them.
    ///
    /// # Errors
    ///
    /// As [`UnmappedBar::plan`] and [`Window::reserve`].
    pub fn reserve(mut self) -> Result<Self> {
        if self.window.is_none() {
            let reserved = Window::reserve(&self.plan()?);
            self.window = Some(reserved.map_err(|error| error.on(&self.subject))?);
        }
        Ok(self)
    }

    /// The addresses to map at, if they are already known.
    pub fn window(&self) -> Option<&Window> {
        self.window.as_ref()
    }

    /// The region.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Maps it (`mmap`, `madvise`): [`Window::reserve`] and [`Mapping::new`].
    ///
    /// # Errors
    ///
    /// Those of these functions and of [`UnmappedBar::plan`]. If another resource of the machine claims the BAR, such as
    /// the framebuffer that firmware has set up, the error is [`ErrorKind::Busy`], and the remedy names that resource
    /// (`/proc/iomem`, which is read only then).
    pub fn map(self) -> Result<Bar> {
        let plan = self.plan()?;
        let subject = |error: Error| error.on(&self.subject);
        let window = match self.window {
            Some(window) => window,
            None => Window::reserve(&plan).map_err(subject)?,
        };
        let offset = self.region.offset();
        let mapping = Mapping::new(self.fd, offset, &plan, window, self.options);
        let refused = |error: Error| match error.errno() {
            // VFIO itself lets every opener of the device map the BAR.
            Some(BUSY) if self.is_bar => {
                iomem::explain(error, self.function, self.region.index() as usize)
            }
            _ => error,
        };
        Ok(Bar {
            mapping: Arc::new(mapping.map_err(refused).map_err(subject)?),
            region: self.region,
            function: self.function,
        })
    }
}

/// The kernel's error for a BAR that another resource of the machine claims.
const BUSY: i32 = rustix::io::Errno::BUSY.raw_os_error();

/// A mapped BAR, which dereferences to its [`Mapping`].
///
/// It no longer needs the device: the mapping keeps the device's file open.
#[derive(Clone, Debug)]
pub struct Bar {
    mapping: Arc<Mapping>,
    region: Region,
    /// The PCI function, where it is known.
    function: Option<Address>,
}

impl Bar {
    /// The region.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// The mapping, for sharing.
    pub fn mapping(&self) -> &Arc<Mapping> {
        &self.mapping
    }

    /// The word at an offset, for reading and writing, sharing ownership of the mapping: one struct can hold it
    /// and the BAR. [`Mapping::register`] borrows instead.
    ///
    /// # Errors
    ///
    /// As [`Mapping::register`].
    pub fn owned_register<W: Word>(&self, offset: u64) -> Result<OwnedRegister<W>, AccessError> {
        OwnedRegister::new(&self.mapping, offset)
    }

    /// The memory slots that a virtual machine monitor registers for it, each sharing ownership of the mapping
    /// ([`Mapping::into_slots`]).
    ///
    /// # Errors
    ///
    /// As [`Mapping::slots`].
    pub fn into_slots(self, exclude: &[Area]) -> Result<Vec<OwnedSlot>> {
        self.mapping.into_slots(exclude)
    }

    /// Unmaps it and keeps the addresses, to map another layout there ([`Mapping::into_window`]).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Busy`] while slots, registers or others share the mapping; otherwise those of
    /// [`Mapping::into_window`].
    pub fn into_window(self) -> Result<Window> {
        let mapping = Arc::try_unwrap(self.mapping).map_err(|_| {
            let operation = "slots or registers still share the mapping";
            Error::new(ErrorKind::Busy, operation)
        })?;
        mapping.into_window()
    }
}

impl Deref for Bar {
    type Target = Mapping;

    fn deref(&self) -> &Mapping {
        &self.mapping
    }
}

/// Displays its mapping.
impl std::fmt::Display for Bar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.mapping.fmt(f)
    }
}
