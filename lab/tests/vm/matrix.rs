//! The matrix of every kernel.

use hugebar::leaf::LeafSizes;

use crate::cells::{Gate, Matrix};
use crate::device::with_exercise;
use crate::report::version;

#[test]
fn on_6_1() {
    matrix("6.1");
}

#[test]
fn on_6_12() {
    matrix("6.12");
}

#[test]
fn on_6_18() {
    matrix("6.18");
}

#[test]
fn on_the_newest() {
    matrix("newest");
}

#[test]
fn on_the_lab_kernel_with_the_page_tables_as_witness() {
    matrix("lab");
}

fn matrix(kernel: &str) {
    let matrix = Matrix {
        sizes: LeafSizes::X86_64,
        gate: Gate::of(version(kernel)),
        witness: kernel == "lab",
        // Whole, with a hole, of odd size, smaller than the largest leaf, a page.
        shapes: [
            ("0000:00:10.0 --bar 2", &[]),
            (
                "0000:00:11.0 --bar 2 --exclude 0x6000+0x1000",
                &["region-size", "holes"],
            ),
            (
                "0000:00:11.0 --bar 2 --exclude 0xcf0f000+0x30f1000",
                &["region-size", "holes"],
            ),
            ("0000:00:11.0 --bar 2", &["region-size"]),
            ("0000:00:10.0 --bar 0", &["region-size"]),
        ],
    };
    // Degraded mappings are populated in base pages: a quarter of a million per GiB. So the holes, which leave no room for
    // a leaf of 1 GiB in a BAR of that size either, are in the smaller one.
    let report = with_exercise(kernel)
        .device("pci-testdev,membar=1G")
        .device("pci-testdev,membar=256M")
        .run(&matrix.commands())
        .unwrap();
    matrix.check(&report.release, &report.commands);
}
