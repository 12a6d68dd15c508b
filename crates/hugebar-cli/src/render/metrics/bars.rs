//! The gauges of `hugebar list`: the host, its devices, their BARs.

use hugebar::facts::Facts;
use hugebar_host::devices::Described;
use hugebar_host::show;
use prometheus::Error;

use super::{Gauges, number};
use crate::render::device::DeviceReport;

const BAR: [&str; 2] = ["device", "bar"];
const BAR_LEAVES: [&str; 3] = ["device", "bar", "leaf_bytes"];

/// The gauges of these devices.
pub(crate) fn bars(all: &[Described], facts: &Facts) -> Result<String, Error> {
    let gauges = Gauges::new();
    host(&gauges, facts)?;
    devices(&gauges, all)?;

    let sizes = gauges.gauge("hugebar_bar_size_bytes", "Size of the BAR.", &BAR)?;
    let addresses = gauges.gauge(
        "hugebar_bar_has_address",
        "Whether the BAR has a physical address, without which nothing can map it.",
        &BAR,
    )?;
    let best = gauges.gauge(
        "hugebar_bar_best_leaves",
        "Leaves of the whole BAR at the best addresses, with all leaf sizes of the machine.",
        &BAR_LEAVES,
    )?;
    let possible = gauges.gauge(
        "hugebar_bar_possible_leaves",
        "Leaves of the whole BAR at the best addresses, with the leaf sizes that this kernel gives a hinted mapping.",
        &BAR_LEAVES,
    )?;
    for own in all {
        let device = own.address.to_string();
        for bar in &own.bars {
            let name = bar.bar.to_string();
            let labels = [device.as_str(), &name];
            sizes.set(&labels, bar.resource.size)?;
            addresses.set(&labels, bar.address().is_some().into())?;
            // None for BARs smaller than a page.
            if let Some(leaves) = show::leaves(&bar.resource, facts) {
                best.set_leaves(&labels, &leaves.best)?;
                possible.set_leaves(&labels, &leaves.possible)?;
            }
        }
    }
    gauges.text()
}

fn host(gauges: &Gauges, facts: &Facts) -> Result<(), Error> {
    let thp = facts.thp.map(|policy| policy.to_string());
    let thp = thp.as_deref().unwrap_or("not built in");
    gauges
        .gauge(
            "hugebar_host_info",
            "Kernel release and policy for transparent huge pages.",
            &["release", "thp"],
        )?
        .set(&[&facts.release, thp], 1)?;
    let largest = facts.leaf_sizes.largest();
    gauges
        .gauge(
            "hugebar_host_largest_leaf_bytes",
            "The largest leaf of the machine's page tables that Linux uses for device memory.",
            &[],
        )?
        .set(&[], largest)?;
    let features = facts.features();
    gauges
        .gauge(
            "hugebar_host_kernel_has_large_leaves",
            "Whether this kernel has large leaves for device memory. Absent if its release does not tell.",
            &[],
        )?
        .set_if(&[], features.huge_device_leaves().map(u64::from))?;
    gauges
        .gauge(
            "hugebar_host_kernel_asks_thp_policy",
            "Whether this kernel asks the THP policy before it installs large leaves of device memory. Absent if its release does not tell.",
            &[],
        )?
        .set_if(&[], features.asks_thp_policy().map(u64::from))
}

fn devices(gauges: &Gauges, all: &[Described]) -> Result<(), Error> {
    let info = gauges.gauge(
        "hugebar_device_info",
        "A PCI function. Labels are empty where sysfs does not say.",
        &["device", "ids", "name", "driver", "group", "numa_node"],
    )?;
    for own in all {
        let device = DeviceReport::of(own);
        let (ids, driver) = (device.ids.as_deref(), device.driver);
        let labels = [
            &device.device,
            ids.unwrap_or_default(),
            &device.name(),
            driver.unwrap_or_default(),
            &number(device.group),
            &number(device.numa_node),
        ];
        info.set(&labels, 1)?;
    }
    Ok(())
}
