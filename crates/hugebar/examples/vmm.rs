//! A minimal virtual machine monitor: gives a BAR to a guest, and shows KVM's leaves for
//! it, beside the predicted ones.
//!
//! ```text
//! cargo run --features kvm --example vmm -- 0000:01:00.0 --bar 2 --exclude 0x6000+0x1000
//! ```
//!
//! Opening a device by VFIO resets it. The guest never runs, and the device is not accessed.

use std::env;
use std::process::ExitCode;
use std::time::Instant;

use hugebar::facts::Facts;
use hugebar::guest::{Fit, Table};
use hugebar::kvm::Guest;
use hugebar::layout::Area;
use hugebar::leaf::{GIB, KIB, MIB};
use hugebar::pci::Address;
use hugebar::vfio::Device;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const USAGE: &str = "usage: vmm DEVICE [--bar N] [--exclude OFFSET+SIZE]... [--guest-offset BYTES]";

/// Guest addresses without guest memory.
const FREE: u64 = 64 * GIB;

struct Arguments {
    device: Address,
    bar: u32,
    /// Parts of the BAR that the monitor emulates itself.
    exclude: Vec<Area>,
    /// Distance of the BAR from its best guest address.
    guest_offset: u64,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut device = None;
        let (mut bar, mut exclude, mut guest_offset) = (0, Vec::new(), 0);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(USAGE);
            match word.as_str() {
                "--bar" => bar = value()?.parse()?,
                "--guest-offset" => guest_offset = bytes(&value()?)?,
                "--exclude" => {
                    let text = value()?;
                    let (offset, size) = text.split_once('+').ok_or(USAGE)?;
                    exclude.push(Area::new(bytes(offset)?, bytes(size)?));
                }
                _ if word.starts_with('-') || device.is_some() => return Err(USAGE.into()),
                _ => device = Some(word.parse()?),
            }
        }
        Ok(Self {
            device: device.ok_or(USAGE)?,
            bar,
            exclude,
            guest_offset,
        })
    }
}

/// Parses a number of bytes: decimal, hexadecimal after `0x`, or followed by K, M or G.
fn bytes(text: &str) -> Result<u64> {
    if let Some(digits) = text.strip_prefix("0x") {
        return Ok(u64::from_str_radix(digits, 16)?);
    }
    let units = [('K', KIB), ('M', MIB), ('G', GIB)];
    let unit = units.iter().find(|(letter, _)| text.ends_with(*letter));
    let (digits, unit) = match unit {
        Some((letter, unit)) => (text.trim_end_matches(*letter), *unit),
        None => (text, 1),
    };
    let number = digits.parse::<u64>()?.checked_mul(unit);
    Ok(number.ok_or("the number of bytes exceeds 64 bits")?)
}

/// Exits with 0 if KVM's leaves match the prediction, 1 if not, 2 on an error.
fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether KVM's leaves match the prediction.
fn run() -> Result<bool> {
    let arguments = Arguments::parse(env::args().skip(1))?;
    let facts = Facts::observe();
    let device = Device::open(arguments.device)?;
    let bar = device.bar(arguments.bar)?;
    let phys = device.phys(bar.region());
    let mapping = bar.map()?;
    println!("{mapping}");

    // Choose the guest address, and predict its leaves.
    let slots = mapping.slots(&arguments.exclude)?;
    let fit = Fit::new(&slots, phys, &facts.device_leaf_sizes());
    let wanted = fit.wanted(Table::SecondStage).above(FREE);
    let address = wanted.and_then(|address| address.checked_add(arguments.guest_offset));
    let address = address.ok_or("there is no such guest address")?;
    for slot in &slots {
        let guest = address.wrapping_add(slot.area.offset);
        println!("slot {} at guest address {guest:#x}", slot.area);
    }
    let foretold = fit.leaves(Table::SecondStage, address);
    println!("predicted: {foretold}");
    println!("the IOMMU: {}", fit.leaves(Table::Iommu, address));
    if let Some(better) = fit.better(Table::SecondStage, address) {
        let [below, above] = [better.below, better.above].map(|address| match address {
            Some(address) => format!("{address:#x}"),
            None => "none".to_owned(),
        });
        let best = fit.best(Table::SecondStage);
        println!("better: {below} below, {above} above: {best}");
    }

    let mut guest = Guest::new()?;
    guest.add(mapping.mapping(), &arguments.exclude, address)?;
    let begin = Instant::now();
    for slot in &slots {
        guest.prefault(address + slot.area.offset, slot.area.size)?;
    }
    let elapsed = begin.elapsed();
    let counted = guest.leaves()?;
    println!(
        "KVM: pages_1g={} pages_2m={} pages_4k={} in {elapsed:.1?}",
        counted.count(GIB),
        counted.count(2 * MIB),
        counted.count(4 * KIB),
    );
    Ok(counted
        .iter()
        .all(|(size, count)| count == foretold.count(size)))
}
