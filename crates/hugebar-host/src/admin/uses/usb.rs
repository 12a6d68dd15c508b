//! USB hosts with disks, and with the keyboard of the console.

use std::fs;
use std::path::Path;

use hugebar::pci::Function;

use super::below::Below;
use super::found::Use;
use crate::admin::tree::Tree;
use crate::escape::Escaped;
use crate::sysfs::text;

/// Class and subclass of a USB host.
const USB: (u8, u8) = (0x0c, 0x03);

pub(super) fn uses(tree: &Tree, function: &Function, folder: &Path, below: &Below) -> Vec<Use> {
    let code = function.class_code();
    let is_host = code.is_ok_and(|code| (code.class, code.subclass) == USB);
    let mut uses = Vec::new();
    let disks = below.of("block").filter(|_| is_host);
    for disk in disks.filter(|disk| !disk.folder.join("partition").exists()) {
        let fact = format!("{} is a disk of this USB host", Escaped(&disk.name));
        let remedy = "unplug it, or plug it into a port of another host";
        uses.push(Use::new("usb-disk", fact, remedy));
    }
    let inputs = text(tree.path("proc/bus/input/devices"));
    let own = fs::canonicalize(folder).unwrap_or_default();
    for name in keyboards(&inputs, &own) {
        let fact = format!("{} is a keyboard of the console", Escaped(name));
        let remedy = "plug it into a port of another host, if this machine needs a keyboard";
        uses.push(Use::new("usb-keyboard", fact, remedy));
    }
    uses
}

/// The names of the keyboards that the console listens to (handler `kbd`) below a folder, in the text of
/// `/proc/bus/input/devices`.
fn keyboards<'a>(inputs: &'a str, folder: &Path) -> Vec<&'a str> {
    let devices = inputs.split("\n\n").filter_map(|device| {
        let field = |start: &str| device.lines().find_map(|line| line.strip_prefix(start));
        let handlers = field("H: Handlers=")?;
        let path = field("S: Sysfs=")?;
        let name = field("N: Name=")?.trim_matches('"');
        let below = folder.ancestors().find(|part| part.ends_with("devices"))?;
        let real = below.join(path.strip_prefix("/devices/")?);
        let hears = handlers.split(' ').any(|one| one == "kbd");
        (hears && real.starts_with(folder)).then_some(name)
    });
    devices.collect()
}
