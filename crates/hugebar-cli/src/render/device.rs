//! A PCI function, as `list` and `show` have it.

use serde::Serialize;

use hugebar_host::devices::{Described, DescribedBar};
use hugebar_host::escape::Escaped;

/// A function.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct DeviceReport<'a> {
    /// The full address.
    pub(super) device: String,
    /// `vendor:device`.
    pub(super) ids: Option<String>,
    /// The same of the card.
    pub(super) subsystem: Option<String>,
    /// The class code: `0x030200`.
    pub(super) class: Option<String>,
    pub(super) vendor_name: Option<&'a str>,
    pub(super) device_name: Option<&'a str>,
    pub(super) subsystem_name: Option<&'a str>,
    pub(super) class_name: Option<&'a str>,
    pub(super) driver: Option<&'a str>,
    pub(super) group: Option<u32>,
    pub(super) numa_node: Option<u32>,
    pub(super) power_state: Option<&'a str>,
}

/// A memory BAR.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct BarReport {
    pub(super) bar: u8,
    pub(super) size: u64,
    /// Its physical address; null if it has none.
    pub(super) physical: Option<String>,
    pub(super) is_64_bit: bool,
    pub(super) prefetchable: bool,
}

impl<'a> DeviceReport<'a> {
    pub(super) fn of(own: &'a Described) -> Self {
        let pair = |(vendor, device): (u16, u16)| format!("{vendor:04x}:{device:04x}");
        Self {
            device: own.address.to_string(),
            ids: own.ids.map(pair),
            subsystem: own.subsystem.map(pair),
            class: own.class.map(|code| code.to_string()),
            vendor_name: own.names.vendor.as_deref(),
            device_name: own.names.device.as_deref(),
            subsystem_name: own.names.subsystem.as_deref(),
            class_name: own.names.class.as_deref(),
            driver: own.driver.as_deref(),
            group: own.group,
            numa_node: own.numa_node,
            power_state: own.power_state.as_deref(),
        }
    }

    /// Names as far as `pci.ids` has them, else numbers.
    pub(super) fn name(&self) -> String {
        let (ids, class) = (self.ids.as_deref(), self.class.as_deref());
        let device = || {
            let (_, device) = ids?.split_once(':')?;
            Some(format!("Device {device}"))
        };
        let name = match (self.vendor_name, self.device_name) {
            (Some(vendor), Some(device)) => format!("{vendor} {device}"),
            (Some(vendor), None) => format!("{vendor} {}", device().unwrap_or_default()),
            (None, _) => {
                let class = class.map(|code| format!("class {code}"));
                let kind = self.class_name.map(str::to_owned).or(class);
                let parts = [ids.map(str::to_owned), kind].into_iter().flatten();
                parts.collect::<Vec<_>>().join(", ")
            }
        };
        escaped(&name)
    }
}

impl BarReport {
    pub(super) fn of(own: &DescribedBar) -> Self {
        Self {
            bar: own.bar,
            size: own.resource.size,
            physical: own.address().map(|address| format!("{address:#x}")),
            is_64_bit: own.resource.is_64_bit(),
            prefetchable: own.resource.is_prefetchable(),
        }
    }
}

pub(super) fn escaped(text: &str) -> String {
    Escaped(text).to_string()
}
