//! Binds and unbinds PCI functions through sysfs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

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

fn device(address: &str) -> Result<PathBuf> {
    let device = Path::new("/sys/bus/pci/devices").join(address);
    if !device.exists() {
        let mut known: Vec<_> = fs::read_dir("/sys/bus/pci/devices")?
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
