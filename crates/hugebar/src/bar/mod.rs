//! A BAR in one call: [`crate::vfio::Device::map_bar`], and the same with wishes.
//!
//! What belongs to one region (offset in the file, layout, physical addresses, what it may be mapped for)
//! stays together here. Each step can also be taken alone, for any file: [`crate::plan`], [`crate::mem`],
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
use crate::mem::{AccessError, Hint, MapOptions, Mapping, OwnedRegister, OwnedSlot, Window, Word};
use crate::pci::{Address, iomem};
use crate::phys::Phys;
use crate::plan::{Placement, Plan};
use crate::sys::abi::PCI_BARS;
use crate::vfio::{Device, Region, RegionFlags};

impl<F: AsFd> Device<F> {
    /// Maps a BAR, or any other region, as well as it can be: congruent, hinted, without the pages of the
    /// MSI-X table unless the driver allows those.
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
    /// [`ErrorKind::NotFound`] where the device has no such region, [`ErrorKind::Unsupported`] where its driver
    /// offers no mapping of it, and as [`Mapping::new`].
    pub fn map_bar(&self, index: u32) -> Result<Bar> {
        self.bar(index)?.map()
    }

    /// A BAR, or any other region, that is to be mapped as the methods of [`UnmappedBar`] say.
    ///
    /// # Errors
    ///
    /// As [`Device::map_bar`].
    pub fn bar(&self, index: u32) -> Result<UnmappedBar<'_>> {
        let region = self.present_region(index)?;
        let subject = self.subject(index);
        if !region.flags().contains(RegionFlags::MMAP) {
            let operation = "the driver offers no mapping of this region";
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
    /// Options for a mapping that allows what the region allows.
    pub fn map_options(&self) -> MapOptions {
        MapOptions {
            read: self.flags().contains(RegionFlags::READ),
            write: self.flags().contains(RegionFlags::WRITE),
            ..MapOptions::default()
        }
    }
}

/// A BAR that is to be mapped: [`Device::bar`] makes one.
///
/// ```no_run
/// use hugebar::{layout::Area, vfio::Device};
///
/// let device = Device::open("0000:01:00.0".parse()?)?;
/// // A page that is emulated, and so left out.
/// let bar = device.bar(2)?.exclude(Area::new(0x6000, 0x1000)).map()?;
/// println!("{bar}");
/// # Ok::<(), hugebar::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "nothing is mapped before `map`"]
pub struct UnmappedBar<'fd> {
    fd: BorrowedFd<'fd>,
    subject: String,
    /// The PCI function, where it is known.
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
    /// Leaves a part of the region out, in bytes from its start; the part grows to whole pages. That there is
    /// no such part of the region is an error of [`UnmappedBar::map`].
    pub fn exclude(mut self, hole: Area) -> Self {
        self.layout = self.layout.and_then(|layout| layout.without(hole));
        self
    }

    /// The same, but a hole that reaches beyond the region is cut to it, and one outside of it is none:
    /// MSI-X tables that a virtual machine monitor has moved are like that.
    pub fn exclude_clamped(self, hole: Area) -> Self {
        match hole.clamped(self.region.size()) {
            Some(hole) => self.exclude(hole),
            None => self,
        }
    }

    /// Chooses the addresses in another way than congruent with the physical ones, to compare with it.
    pub fn placement(mut self, placement: Placement) -> Self {
        self.placement = placement;
        self
    }

    /// Gives another hint than that for huge pages, to compare with it.
    pub fn hint(mut self, hint: Hint) -> Self {
        self.options.hint = hint;
        self
    }

    /// Maps for reading alone.
    pub fn read_only(mut self) -> Self {
        self.options.write = false;
        self
    }

    /// Maps in addresses of the caller's: [`Window::within`] takes them from a range for a plan
    /// ([`UnmappedBar::plan`]), and [`Mapping::into_window`] those of an earlier mapping.
    pub fn within(mut self, window: Window) -> Self {
        self.window = Some(window);
        self
    }

    /// Where the areas are to lie, and the fewest leaves that there can be.
    ///
    /// # Errors
    ///
    /// When a part that was excluded does not lie in the region.
    pub fn plan(&self) -> Result<Plan> {
        let sizes = facts::leaf_sizes();
        let layout = self.layout.as_ref().map_err(|&error| error);
        let plan = layout.and_then(|layout| Plan::new(layout, self.phys, &sizes, self.placement));
        plan.map_err(|error| Error::from(error).on(&self.subject))
    }

    /// Reserves the addresses now, unless it has some of the caller's: [`UnmappedBar::window`] tells them.
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

    /// The addresses that it is to be mapped in, where they are known by now.
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
    /// As those, and as [`UnmappedBar::plan`]. Where another resource of the machine has the BAR, such as the
    /// framebuffer that firmware has set up, it is [`ErrorKind::Busy`], and the remedy names that resource
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
            // VFIO itself lets everybody map it who has the device open.
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

/// What the kernel says of a BAR that another resource of the machine has.
const BUSY: i32 = rustix::io::Errno::BUSY.raw_os_error();

/// A mapped BAR. What can be done with its [`Mapping`] can be done with it.
///
/// It needs the device no more: the mapping keeps the device's file open.
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

    /// The mapping, to be shared.
    pub fn mapping(&self) -> &Arc<Mapping> {
        &self.mapping
    }

    /// The word at an offset, to be read and written, with a share of the mapping: it can lie in one struct
    /// beside the BAR. [`Mapping::register`] has the same on loan.
    ///
    /// # Errors
    ///
    /// As [`Mapping::register`].
    pub fn owned_register<W: Word>(&self, offset: u64) -> Result<OwnedRegister<W>, AccessError> {
        OwnedRegister::new(&self.mapping, offset)
    }

    /// The memory slots that a virtual machine monitor registers for it, each with a share of the mapping
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
    /// [`ErrorKind::Busy`] while slots, registers or others have a share of the mapping; as
    /// [`Mapping::into_window`] otherwise.
    pub fn into_window(self) -> Result<Window> {
        let mapping = Arc::try_unwrap(self.mapping).map_err(|_| {
            let operation = "slots or registers still have a share of the mapping";
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

/// As its mapping is shown.
impl std::fmt::Display for Bar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.mapping.fmt(f)
    }
}
