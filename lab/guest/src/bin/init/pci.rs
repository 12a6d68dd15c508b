//! Binds and unbinds PCI functions through sysfs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Binds a function to a driver; for a bridge, which VFIO cannot bind, all functions behind it.
pub(crate) fn bind_devices(address: &str, driver: &str) -> Result<()> {
    let device = device(address)?;
    if !is_bridge(&device)? {
        return bind(address, driver);
    }
    let mut behind: Vec<_> = fs::read_dir(&device)?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .filter(|name| devices().join(name).exists())
        .collect();
    behind.sort();
    behind
        .iter()
        .try_for_each(|address| bind_devices(address, driver))
}

/// Whether it is a bridge between PCI buses.
fn is_bridge(device: &Path) -> Result<bool> {
    let path = device.join("class");
    let class = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(class.starts_with("0x0604"))
}

/// Binds a function to a driver, whatever its present driver.
pub(crate) fn bind(address: &str, driver: &str) -> Result<()> {
    let device = device(address)?;
    write(&device.join("driver_override"), driver)?;
    release(&device, address)?;
    write(Path::new("/sys/bus/pci/drivers_probe"), address)?;
    match current(&device) {
        Some(name) if name == driver => Ok(()),
        other => bail!(
            "{address} is with {} after drivers_probe, not with {driver}: is the driver loaded, and does the machine's IOMMU know the device?",
            other.as_deref().unwrap_or("no driver")
        ),
    }
}

/// Unbinds a function, and lets any driver bind it later.
pub(crate) fn unbind(address: &str) -> Result<()> {
    let device = device(address)?;
    write(&device.join("driver_override"), "\n")?;
    release(&device, address)
}

fn devices() -> &'static Path {
    Path::new("/sys/bus/pci/devices")
}

fn device(address: &str) -> Result<PathBuf> {
    let device = devices().join(address);
    if !device.exists() {
        let mut known: Vec<_> = fs::read_dir(devices())?
            .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
            .collect();
        known.sort();
        bail!(
            "there is no PCI function {address} in the guest; there are {}",
            known.join(", ")
        );
    }
    Ok(device)
}

fn current(device: &Path) -> Option<String> {
    let link = fs::read_link(device.join("driver")).ok()?;
    Some(link.file_name()?.to_string_lossy().into_owned())
}

fn release(device: &Path, address: &str) -> Result<()> {
    if current(device).is_some() {
        write(&device.join("driver/unbind"), address)?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {text:?} to {}", path.display()))
}
