//! Network interfaces that are up, and members of bonds and bridges.

use super::below::Below;
use super::found::Use;
use crate::escape::Escaped;
use crate::sysfs::{names, text};

/// `IFF_UP` of linux/if.h.
const UP: u32 = 1;

pub(super) fn uses(below: &Below) -> Vec<Use> {
    let mut uses = Vec::new();
    for interface in below.of("net") {
        let name = Escaped(&interface.name).to_string();
        let flags = text(interface.folder.join("flags"));
        let flags = flags.strip_prefix("0x").unwrap_or_default();
        // What cannot be read counts as up.
        if u32::from_str_radix(flags, 16).map_or(true, |flags| flags & UP != 0) {
            let remedy = format!("if nothing needs it: ip link set {name} down");
            uses.push(Use::new("network", format!("{name} is up"), remedy));
        }
        // Bonds, bridges, VLANs, macvlans: each is linked as `upper_NAME`.
        for upper in names(&interface.folder) {
            if let Some(upper) = upper.strip_prefix("upper_") {
                let fact = format!("{name} is a member of {}", Escaped(upper));
                let remedy =
                    format!("take it out: ip link set {name} nomaster, or remove the other");
                uses.push(Use::new("network-member", fact, remedy));
            }
        }
    }
    // The folder of interfaces goes with the last of them.
    if below.empty.iter().any(|class| class == "net") {
        let fact = "its network interface is in another network namespace";
        let remedy = "end the container that has it, or move the interface back";
        uses.push(Use::new("network", fact, remedy));
    }
    uses
}
