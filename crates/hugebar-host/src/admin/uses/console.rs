//! The graphics of the console.

use std::path::Path;

use super::below::Below;
use super::found::Use;
use crate::escape::Escaped;
use crate::sysfs::text;

pub(super) fn uses(folder: &Path, below: &Below) -> Option<Use> {
    let frame = below.of("graphics").find(|own| own.number.is_some());
    let fact = match frame {
        Some(frame) => format!("{} is a screen of the console", Escaped(&frame.name)),
        None if text(folder.join("boot_vga")) == "1" => {
            "it is the graphics that the machine has booted with".to_owned()
        }
        None => return None,
    };
    let remedy =
        "use it only if no one needs this screen: the console does not come back by itself";
    Some(Use::new("console", fact, remedy))
}
