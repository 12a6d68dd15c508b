//! Maps a BAR with the fewest leaves, counts what the kernel installed, and explains any difference.
//!
//! ```text
//! cargo run --example map_bar -- 0000:01:00.0 2
//! ```
//!
//! Opening a device by VFIO resets it; no register is read or written.

use hugebar::populate::Type1;
use hugebar::vfio::Device;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().ok_or("usage: map_bar DEVICE BAR")?;
    let index = arguments.next().ok_or("usage: map_bar DEVICE BAR")?;

    let device = Device::open(address.parse()?)?;
    let bar = device.map_bar(index.parse()?)?;
    println!("{bar}");

    let container = device.container().ok_or("iommufd cannot populate BARs")?;
    let result = bar.measure(&mut Type1::new(container)?)?;
    println!("{:?}: {}", result.verdict, result.census.measured);
    for reason in &result.reasons {
        println!("{reason}");
    }
    Ok(())
}
