//! The example NVMe driver: what it reads and writes, checked against the drive's file, and its read rate beside a bare
//! loop in C.

use std::os::unix::fs::FileExt;
use std::path::Path;

use hugebar_lab::{Arch, Command, HostFile, Report, Spec};
use tempfile::NamedTempFile;

use crate::report::machine;

const BLOCK: u64 = 512;

/// Bytes that differ from block to block.
fn pattern(len: u64, seed: u64) -> Vec<u8> {
    let words = (0..len / 8).map(|index| (index ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    words.flat_map(u64::to_le_bytes).collect()
}

fn file(bytes: &[u8]) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    file.as_file().write_all_at(bytes, 0).unwrap();
    file
}

fn at(host: &Path, guest: &str) -> HostFile {
    HostFile {
        host: host.into(),
        guest: Some(guest.into()),
    }
}

/// A machine with the file as its drive, and the driver.
fn with_drive(kernel: &str, drive: &NamedTempFile) -> Spec {
    let path = drive.path().display();
    let program = hugebar_lab::example("hugebar", "nvme", "release").unwrap();
    machine(kernel)
        .qemu(&format!("-drive file={path},if=none,id=disk,format=raw"))
        .device("nvme,serial=x,drive=disk")
        .copy(HostFile {
            host: program,
            guest: None,
        })
}

fn all_well(report: &Report) {
    for output in &report.commands {
        assert!(output.success(), "{output:?}");
    }
}

/// Moves blocks in pieces as large as a command allows, with a list of pages, and in pieces below a page; then, on a kernel
/// that has an NVMe driver of its own, has that read what was written, and the other way round.
fn reads_and_writes(kernel: &str, backend: &str, has_driver: bool) {
    const BLOCKS: u64 = 16 << 10;
    let before = pattern(BLOCKS * BLOCK, 1);
    let (drive, long, short, other) = (
        file(&before),
        file(&pattern(2051 * BLOCK, 2)),
        file(&pattern(3 * BLOCK, 3)),
        file(&pattern(1500 * BLOCK, 4)),
    );
    let nvme = |words: &str| {
        let all = ["nvme", "0000:00:10.0"].into_iter();
        Command::new(
            all.chain(backend.split_whitespace())
                .chain(words.split(' ')),
        )
    };
    let mut commands = vec![
        nvme("info"),
        nvme("write 100 /long"),
        nvme("write 5000 /short"),
        // Blocks of the file are read and written back elsewhere.
        nvme("read 6001 2055 /copy"),
        nvme("write 12000 /copy"),
        nvme("read 7 1 /copy"),
        nvme("write 15000 /copy"),
        nvme("bench --seconds 1 --interrupts --threads 2 --depth 8"),
        nvme("bench --seconds 1"),
    ];
    let words = |text: &str| Command::new(text.split(' '));
    if has_driver {
        commands.extend([
            words("hugebar restore 0000:00:10.0"),
            words("exercise drive 100 /long"),
            words("exercise drive 5000 /short"),
            words("exercise drive --write 8200 /other"),
            words("hugebar bind 0000:00:10.0"),
            nvme("read 8200 1500 /copy"),
            nvme("write 10000 /copy"),
        ]);
    }
    let exercise = hugebar_lab::program("hugebar-lab-exercise", "exercise", "dev").unwrap();
    let report = with_drive(kernel, &drive)
        .copy(at(long.path(), "/long"))
        .copy(at(short.path(), "/short"))
        .copy(at(other.path(), "/other"))
        .copy(HostFile {
            host: exercise,
            guest: None,
        })
        .run(&commands)
        .unwrap();
    all_well(&report);
    let info = "QEMU NVMe Ctrl: 16384 blocks of 512 bytes, 524288 bytes a command\n";
    assert_eq!(report.commands[0].stdout(), info);
    assert!(
        report.commands[7]
            .stdout()
            .starts_with("2 × 8 reads of 4 KiB at a time, interrupts: ")
    );

    let mut expected = before.clone();
    let mut put = |block: u64, bytes: &[u8]| {
        let place = usize::try_from(block * BLOCK).unwrap();
        expected[place..place + bytes.len()].copy_from_slice(bytes);
    };
    put(100, &pattern(2051 * BLOCK, 2));
    put(5000, &pattern(3 * BLOCK, 3));
    let part = |first: u64, count: u64| {
        let [first, end] =
            [first, first + count].map(|block| usize::try_from(block * BLOCK).unwrap());
        &before[first..end]
    };
    put(12000, part(6001, 2055));
    put(15000, part(7, 1));
    if has_driver {
        put(8200, &pattern(1500 * BLOCK, 4));
        put(10000, &pattern(1500 * BLOCK, 4));
    }
    let mut after = vec![0; expected.len()];
    drive.as_file().read_exact_at(&mut after, 0).unwrap();
    let differs = (0..BLOCKS).find(|&block| {
        let place = usize::try_from(block * BLOCK).unwrap();
        after[place..place + 512] != expected[place..place + 512]
    });
    assert_eq!(differs, None, "the first block that is not as expected");
}

#[test]
fn reads_and_writes_by_type1() {
    reads_and_writes("newest", "", false);
}

#[test]
fn reads_and_writes_by_iommufd() {
    reads_and_writes("lab", "--iommufd", true);
}

/// Polls no slower than a loop in C that does the same, with which it takes turns in one guest. Other load on the host changes
/// either rate by more than a half from one turn to the next, so the turns are many and short, each pair begins with the
/// other one, and what counts is the median of the ratios of the pairs.
#[test]
fn as_many_reads_as_a_loop_in_c() {
    let folder = tempfile::tempdir().unwrap();
    let bare = folder.path().join("nvme-loop");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vm/c/nvme.c");
    hugebar_lab::compile_c(Arch::X86_64, &source, &bare).unwrap();
    let drive = file(&pattern(8 << 20, 1));
    let words = |text: &str| Command::new(text.split(' '));
    let [c, ours] = [
        words("nvme-loop 0000:00:10.0 32 0.2"),
        words("nvme 0000:00:10.0 bench --depth 32 --seconds 0.2"),
    ];
    let pairs = 40;
    let pair = |number| match number % 2 {
        0 => [c.clone(), ours.clone()],
        _ => [ours.clone(), c.clone()],
    };
    let commands: Vec<_> = (0..pairs).flat_map(pair).collect();
    let report = with_drive("newest", &drive)
        .copy(HostFile {
            host: bare,
            guest: None,
        })
        .run(&commands)
        .unwrap();
    all_well(&report);
    let rate = |index: usize| -> f64 {
        let line = report.commands[index].stdout();
        let number = line.trim_end().rsplit(": ").next().unwrap_or_default();
        number.trim_end_matches(" IOPS").parse().unwrap()
    };
    let median = |mut all: Vec<f64>| {
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    // Of each pair: C, and the example.
    let rates = |who: usize| (0..pairs).map(move |number| rate(2 * number + (number + who) % 2));
    let ratios: Vec<_> = rates(1).zip(rates(0)).map(|(own, c)| own / c).collect();
    let ratio = median(ratios.clone());
    println!(
        "medians of {pairs}: C {:.0} IOPS, the example {:.0} IOPS; of the ratios {ratio:.3}",
        median(rates(0).collect()),
        median(rates(1).collect())
    );
    println!("{ratios:.2?}");
    // On an idle host the median is 1.15. That of 40 ratios that scatter by a factor of two, as with ten busy processes for each
    // CPU of the host, is uncertain by 0.12, twice which is allowed for.
    assert!(ratio >= 0.9, "{ratios:?}");
}
