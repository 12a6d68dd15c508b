//! The cells of the matrix on arm64. BARs are as large as a few of the largest leaves, so that a cell takes no longer than
//! its program.

use hugebar::facts::KernelVersion;
use hugebar::leaf::LeafSizes;
use hugebar_lab::cache::Cache;
use hugebar_lab::{Arch, Spec, kernel};

use crate::cells::{Gate, Matrix, Shape};
use crate::{exercise, machine};

/// A matrix, and the devices that it needs: at 0000:00:10.0 a BAR of some of the largest leaves, at 0000:00:11.0 a smaller one.
pub(crate) struct Case {
    devices: [&'static str; 2],
    sizes: LeafSizes,
    /// Whole, with a hole, of odd size, smaller than the largest leaf, a page.
    shapes: [Shape; 5],
}

const PAGES_OF_4_KIB: Case = Case {
    devices: ["pci-testdev,membar=16M", "pci-testdev,membar=1M"],
    sizes: LeafSizes::ARM64_4K,
    shapes: [
        ("0000:00:10.0 --bar 2", &[]),
        ("0000:00:10.0 --bar 2 --exclude 0x6000+0x1000", &["holes"]),
        (
            "0000:00:10.0 --bar 2 --exclude 0xb0f000+0x4f1000",
            &["holes"],
        ),
        ("0000:00:11.0 --bar 2", &["region-size"]),
        ("0000:00:10.0 --bar 0", &["region-size"]),
    ],
};

const PAGES_OF_16_KIB: Case = Case {
    devices: ["pci-testdev,membar=256M", "pci-testdev,membar=16M"],
    sizes: LeafSizes::ARM64_16K,
    shapes: [
        ("0000:00:10.0 --bar 2", &[]),
        ("0000:00:10.0 --bar 2 --exclude 0x6000+0x1000", &["holes"]),
        (
            "0000:00:10.0 --bar 2 --exclude 0xb0f0000+0x4f10000",
            &["holes"],
        ),
        ("0000:00:11.0 --bar 2", &["region-size"]),
        (
            "0000:00:11.0 --bar 2 --exclude 0x4000+0xffc000",
            &["region-size"],
        ),
    ],
};

const PAGES_OF_64_KIB: Case = Case {
    devices: ["pci-testdev,membar=2G", "pci-testdev,membar=256M"],
    sizes: LeafSizes::ARM64_64K,
    shapes: [
        ("0000:00:10.0 --bar 2", &[]),
        ("0000:00:10.0 --bar 2 --exclude 0x6000+0x1000", &["holes"]),
        (
            "0000:00:10.0 --bar 2 --exclude 0x5f0f0000+0x20f10000",
            &["holes"],
        ),
        ("0000:00:11.0 --bar 2", &["region-size"]),
        (
            "0000:00:11.0 --bar 2 --exclude 0x10000+0xfff0000",
            &["region-size"],
        ),
    ],
};

/// The version of an arm64 kernel that has this name in the lab.
fn version(word: &str) -> KernelVersion {
    let cache = Cache::open().unwrap();
    let kernel = kernel::resolve(&cache, word, Arch::Arm64, None).unwrap();
    KernelVersion::parse(&kernel.release).unwrap()
}

#[test]
fn on_4_kib() {
    matrix("newest", &PAGES_OF_4_KIB);
}

#[test]
fn on_16_kib() {
    matrix("newest-16k", &PAGES_OF_16_KIB);
}

#[test]
fn on_64_kib() {
    matrix("lab-64k", &PAGES_OF_64_KIB);
}

#[test]
fn on_one_that_asks_the_policy() {
    let names = ["6.18", "6.12", "6.17", "6.16", "6.12.113"];
    let asks = |name: &&str| version(name).asks_thp_policy();
    let kernel = names.into_iter().find(asks).expect("a kernel that asks");
    matrix(kernel, &PAGES_OF_4_KIB);
}

fn matrix(kernel: &str, case: &Case) {
    let matrix = Matrix {
        sizes: case.sizes,
        gate: Gate::of(version(kernel)),
        witness: false,
        shapes: case.shapes,
    };
    let spec = machine(kernel).copy(exercise());
    let report = case.devices.into_iter().fold(spec, Spec::device);
    let report = report.run(&matrix.commands()).unwrap();
    matrix.check(&report.release, &report.commands);
}
