//! Limits of memory for DMA, and peer-to-peer DMA on both backends, checked against the IOMMU's page tables if the kernel
//! shows them.

use hugebar_lab::Command;

use crate::device::{with_c, with_exercise};

/// A BAR of 4 GiB, QEMU's teaching device, and a device with memory for it to write into; also by a program in C.
fn peers(kernel: &str, backend: &str) -> String {
    let words = |words: String| Command::new(words.split(' ').map(str::to_owned));
    let commands = [
        words(format!("edu 0000:00:11.0 0000:01:00.0 {backend}")),
        words(format!(
            "exercise peer 0000:00:10.0 0000:00:11.0 0000:01:00.0 {backend}"
        )),
    ];
    let report = with_c(with_exercise(kernel), "edu")
        .append("hugepagesz=2M hugepages=1")
        .qemu("-object memory-backend-memfd,id=memory,share=on,size=4M")
        .device("pci-testdev,membar=4G")
        .device("edu")
        // Behind a port it can be reset.
        .device("pcie-root-port,id=port1")
        .device("ivshmem-plain,memdev=memory,bus=port1")
        .run(&commands)
        .unwrap();
    let [in_c, peer] = &report.commands[..] else {
        panic!("{report:?}");
    };
    assert!(in_c.success() && in_c.stdout() == "ok\n", "{in_c:?}");
    assert!(peer.success(), "{peer:?}");
    peer.stdout().into()
}

/// The IOMMU has the fewest pages possible.
const SEEN: [&str; 2] = [
    "4 × 1 GiB, seen: 4 × 1 GiB\n",
    "3 × 1 GiB + 511 × 2 MiB + 511 × 4 KiB, seen: 3 × 1 GiB + 511 × 2 MiB + 511 × 4 KiB\n",
];

#[test]
fn by_type1() {
    let shown = peers("lab", "type1");
    assert!(SEEN.iter().all(|line| shown.contains(line)), "{shown}");
}

#[test]
fn by_iommufd() {
    let shown = peers("lab", "iommufd");
    assert!(SEEN.iter().all(|line| shown.contains(line)), "{shown}");
    let lost =
        "0000:00:10.0 BAR 2: IOMMU_IOAS_MAP_FILE: No such device (os error 19); turn memory decode";
    assert!(shown.contains(lost), "{shown}");
}

/// Kernels without huge leaves for the BAR, or with an older type1.
#[test]
fn on_lts_kernels() {
    for kernel in ["6.1", "6.12"] {
        let shown = peers(kernel, "type1");
        assert!(shown.contains("4 × 1 GiB, seen: -\n"), "{shown}");
    }
}

/// Locked memory, mappings of a container, pages of 1 GiB, and I/O addresses of 39 bits.
#[test]
fn bounds() {
    let run = |kernel: &str, qemu: &str, backend: &str| {
        let command = format!("exercise dma-bounds 0000:00:10.0 {backend}");
        let report = with_exercise(kernel)
            .device("pci-testdev")
            .memory(2800)
            .append("nokaslr hugepagesz=1G hugepages=1")
            .qemu(qemu)
            .run(&[Command::new(command.split(' '))])
            .unwrap();
        assert!(report.commands[0].success(), "{report:?}");
        report.commands[0].stdout().into_owned()
    };
    // Only the second GiB can become a huge page. Neither the kernel nor its initrd may lie there; the lab kernel's initrd
    // does, so that has most of its memory above 4 GiB, where QEMU puts it on processors that are not AMD's.
    let above = "-machine max-ram-below-4g=1G -cpu max,phys-bits=47,vendor=GenuineIntel";
    for (kernel, qemu, backend) in [("6.12", "", "type1"), ("lab", above, "iommufd")] {
        let shown = run(kernel, qemu, backend);
        assert!(shown.contains("a page of 1 GiB\n"), "{shown}");
    }
    let report = with_exercise("lab")
        // Within 39 bits there is room for one more besides its own addresses, which are left out.
        .device("pci-testdev,membar=128G")
        .qemu("-set device.iommu.aw-bits=39")
        .run(&[Command::new(
            "exercise dma-bounds --narrow 0000:00:10.0 iommufd".split(' '),
        )])
        .unwrap();
    assert!(report.commands[0].success(), "{report:?}");
}
