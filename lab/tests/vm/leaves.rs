//! The leaves that real kernels install, counted by `hugebar map`.

use hugebar::leaf::{GIB, MIB};
use hugebar_lab::{Command, Output, Spec, Thp};

use crate::bench;
use crate::device::with_exercise;
use crate::report::{Counts, Region, Report, kernel_that_asks, machine, map, map_json, version};

/// 4 GiB in base pages.
const PAGES: u64 = 1_048_576;

#[test]
fn on_6_12() {
    huge_leaves("6.12");
}

#[test]
fn on_6_18() {
    huge_leaves("6.18");
}

#[test]
fn on_the_newest() {
    huge_leaves("newest");
}

#[test]
fn on_one_that_asks_the_policy() {
    let kernel = kernel_that_asks();
    // That one is tested anyway.
    if kernel != "6.18" {
        huge_leaves(kernel);
    }
}

/// Checks a command's output.
type Check = Box<dyn Fn(&Output)>;

/// Commands, each with a check.
#[derive(Default)]
struct Script {
    commands: Vec<Command>,
    checks: Vec<Check>,
}

impl Script {
    fn add(&mut self, command: Command, check: impl Fn(&Output) + 'static) {
        self.commands.push(command);
        self.checks.push(Box::new(check));
    }

    /// Adds a mapping that must be optimal.
    fn optimal(&mut self, thp: Thp, arguments: &str, leaves: Counts) {
        let command = map_json(arguments).thp(thp);
        let name = format!("{arguments}, THP {thp}");
        self.add(command, move |output| {
            let region = Report::region(output);
            assert_eq!(region.best(), leaves, "{name}");
            assert_eq!(region.expected(), leaves, "{name}");
            assert_eq!(region.measured(), leaves, "{name}");
            assert_eq!(region.faults, leaves.iter().sum::<u64>(), "{name}");
            assert!(region.complete, "{name}: {region:?}");
            let codes: &[&str] = match leaves {
                [0, ..] => &["region-size"],
                [_, 0, 0] => &[],
                _ => &["holes"],
            };
            assert_eq!(region.codes(), codes, "{name}");
            assert_eq!(region.verdict, "optimal", "{name}");
        });
    }

    /// Adds a mapping whose leaves are more than expected.
    fn degraded(&mut self, thp: Thp, arguments: &str, expected: Counts, measured: Counts) {
        let name = format!("{arguments}, THP {thp}");
        self.add(map_json(arguments).thp(thp), move |output| {
            let region = Report::region(output);
            assert_eq!(region.expected(), expected, "{name}");
            assert_eq!(region.measured(), measured, "{name}");
            assert_eq!(region.verdict, "degraded", "{name}");
            assert_eq!(region.codes()[0], "thp-policy", "{name}");
        });
    }

    fn run(self, spec: &Spec) -> Vec<Output> {
        let report = spec.run(&self.commands).unwrap();
        for (check, output) in self.checks.iter().zip(&report.commands) {
            check(output);
        }
        report.commands
    }
}

fn huge_leaves(kernel: &str) {
    let mut script = Script::default();
    for thp in [Thp::Always, Thp::Madvise] {
        script.optimal(thp, "0000:00:10.0 --bar 2", [4, 0, 0]);
        script.optimal(
            thp,
            "0000:00:10.0 --bar 2 --exclude 0x6000+0x1000",
            [3, 511, 511],
        );
        script.optimal(thp, "0000:00:11.0 --bar 2", [256, 0, 0]);
        script.optimal(thp, "0000:00:12.0 --bar 2", [0, 128, 0]);
        script.optimal(thp, "0000:00:10.0 --bar 0", [0, 0, 1]);
    }
    script.optimal(Thp::Always, "0000:00:10.0 --bar 2 --hint off", [4, 0, 0]);
    script.optimal(
        Thp::Always,
        "0000:00:10.0 --bar 2 --placement size-aligned",
        [4, 0, 0],
    );
    // QEMU's rule gives no hint.
    let unhinted = "0000:00:10.0 --bar 2 --placement size-aligned";
    let hinted = format!("{unhinted} --hint on");
    script.optimal(Thp::Madvise, &hinted, [4, 0, 0]);
    if version(kernel).asks_thp_policy() {
        script.degraded(Thp::Madvise, unhinted, [4, 0, 0], [0, 0, PAGES]);
        script.degraded(
            Thp::Never,
            "0000:00:12.0 --bar 2",
            [0, 128, 0],
            [0, 0, PAGES / 16],
        );
        script.add(
            map_json(&format!("{unhinted} --limit 1G")).thp(Thp::Madvise),
            |output| {
                let region = Report::region(output);
                assert_eq!(region.measured(), [0, 0, PAGES / 4], "up to the limit");
                assert_eq!(region.verdict, "degraded");
                assert!(!region.complete);
                assert!(region.codes().contains(&"limit"), "{region:?}");
            },
        );
        // Two pages show it, however low the limit.
        script.add(
            map_json("0000:00:11.0 --bar 2 --limit 512M").thp(Thp::Never),
            |output| {
                let region = Report::region(output);
                assert_eq!(region.verdict, "degraded");
                assert!(!region.complete && region.faults <= 3, "{region:?}");
            },
        );
    } else {
        script.optimal(Thp::Madvise, unhinted, [4, 0, 0]);
        script.optimal(Thp::Never, "0000:00:12.0 --bar 2", [0, 128, 0]);
    }
    // Every kernel honours this.
    script.add(
        map_json("0000:00:12.0 --bar 2 --hint refuse").thp(Thp::Always),
        |output| {
            let region = Report::region(output);
            assert_eq!(region.expected(), [0, 128, 0]);
            assert_eq!(region.measured(), [0, 0, PAGES / 16]);
            assert_eq!(region.verdict, "degraded");
            assert_eq!(region.codes(), ["no-hugepage", "region-size"]);
        },
    );
    script.add(
        map_json("0000:00:10.0 --bar 2 --placement plain").thp(Thp::Always),
        |output| {
            let region = Report::region(output);
            assert!(!region.hint);
            assert_eq!(region.measured(), region.by_the_rule());
            assert_eq!(region.expected(), region.by_the_rule());
            // One in 512 of 6.12's addresses is as good as the best.
            if region.areas[0].address() % GIB != 0 {
                assert_eq!(region.verdict, "as-expected", "4 GiB at any old address");
                assert_eq!(region.codes(), ["placement"]);
            }
        },
    );
    script.add(map_json("0000:00:11.0 --bar 2"), |output| {
        assert_eq!(Report::region(output).measured(), [256, 0, 0]);
    });
    let again = script.commands.len() - 1;
    script.add(map_json("0000:00:12.0 --bar 2 --hint refuse"), |output| {
        assert_eq!(Report::region(output).measured(), [0, 0, PAGES / 16]);
    });
    let pages = script.commands.len() - 1;
    script.add(map("0000:00:10.0 --bar 2 --require optimal"), |output| {
        assert!(output.success(), "{output:?}");
        let text = output.stdout();
        assert!(text.contains("4 GiB, congruent, hinted"), "{text}");
        assert!(text.contains("optimal: 4 faults"), "{text}");
    });
    // The device's other BAR is one page.
    script.add(map("0000:00:10.0 --require 1G"), |output| {
        assert!(output.success(), "{output:?}");
    });
    script.add(map("0000:00:12.0 --require 1G"), |output| {
        assert_eq!(output.code(), 1, "{output:?}");
        assert!(
            output.stderr().contains("no BAR has room for 1 GiB"),
            "{output:?}"
        );
    });
    script.add(
        map("0000:00:10.0 --placement plain --require optimal --limit none"),
        |output| {
            let met = output.stdout().matches("optimal:").count() == 2;
            assert_eq!(output.code(), i32::from(!met), "{output:?}");
            let told = output.stderr().contains("BAR 2 is not optimal");
            assert_eq!(told, !met, "{output:?}");
        },
    );
    let status = |code| move |output: &Output| assert_eq!(output.code(), code, "{output:?}");
    script.add(map("0000:00:12.0 --bar 2 --require 2M"), status(0));
    script.add(map("0000:00:12.0 --bar 2 --require 1G"), status(1));
    script.add(
        map("0000:00:10.0 --bar 2 --exclude 0x6000+0x1000 --require 1G"),
        status(0),
    );
    if kernel == "newest" {
        for (command, check) in bench::checks() {
            script.add(command.thp(Thp::Madvise), check);
        }
    }
    let outputs = script.run(
        &machine(kernel)
            .device("pci-testdev,membar=4G")
            .device("pci-testdev,membar=256G")
            .device("pci-testdev,membar=256M"),
    );

    // A thousand times the memory in a fraction of the time: one leaf per GiB, or one per page. Take
    // the better of two runs, because the host may stall in one.
    let time = |index: usize| Report::region(&outputs[index]).populate_ns.unwrap();
    let (large, pages) = (time(2).min(time(again)), time(pages));
    println!("{kernel}: 256 GiB in {large} ns, 256 MiB in pages in {pages} ns");
    assert!(
        large * 2 < pages,
        "256 GiB: {large} ns, 256 MiB in pages: {pages} ns"
    );
}

/// Without huge leaves for device memory everything works, and is reported truthfully.
#[test]
fn on_6_1_pages_only() {
    let mut script = Script::default();
    for arguments in ["", "--placement size-aligned", "--placement plain"] {
        script.add(
            map_json(&format!("0000:00:10.0 --bar 2 {arguments}")),
            |output| {
                let region = Report::region(output);
                assert_eq!(region.best(), [4, 0, 0]);
                assert_eq!(region.expected(), [0, 0, PAGES]);
                assert_eq!(region.measured(), [0, 0, PAGES]);
                assert_eq!(region.faults, 1, "one fault fills the whole mapping");
                assert_eq!(region.verdict, "as-expected");
                assert_eq!(region.codes(), ["kernel"]);
            },
        );
    }
    script.add(
        map_json("0000:00:10.0 --bar 2 --exclude 0x6000+0x1000"),
        |output| {
            let region: Region = Report::region(output);
            assert_eq!(region.measured(), [0, 0, PAGES - 1]);
            assert_eq!(region.faults, 2, "one for each area");
        },
    );
    script.add(map_json("0000:00:10.0 --bar 0"), |output| {
        assert_eq!(
            Report::region(output).verdict,
            "optimal",
            "a page is a page"
        );
    });
    for requirement in ["1G", "optimal"] {
        script.add(
            map_json(&format!("0000:00:10.0 --bar 2 --require {requirement}")),
            |output| {
                assert_eq!(output.code(), 1, "{output:?}");
                assert_eq!(Report::of(output).regions[0].verdict, "as-expected");
            },
        );
    }
    script.add(map("0000:00:10.0 --bar 2 --require 4K"), |output| {
        assert_eq!(output.code(), 0, "{output:?}");
    });
    // One fault would fill all of it, and cannot be interrupted.
    script.add(map_json("0000:00:10.0 --bar 2 --limit 1G"), |output| {
        let region = Report::region(output);
        assert_eq!((region.verdict.as_str(), region.faults), ("unmeasured", 0));
        assert!(region.codes().contains(&"limit"), "{region:?}");
    });
    script.add(
        map("0000:00:10.0 --bar 2 --limit 1G --require 4K"),
        |output| {
            assert_eq!(output.code(), 1, "what was not counted is not met");
        },
    );
    script.run(&machine("6.1"));
}

/// A CPU without 1 GiB leaves: 2 MiB is the best, and the reason says so.
#[test]
fn a_cpu_without_gib_pages() {
    let report = machine("newest")
        .emulated()
        .qemu("-cpu max,phys-bits=47,pdpe1gb=off")
        .run(&[
            map_json("0000:00:10.0 --bar 2"),
            map("0000:00:10.0 --bar 2 --require 1G"),
        ])
        .unwrap();
    let [mapped, required] = &report.commands[..] else {
        panic!("{report:?}");
    };
    let parsed = Report::parse(mapped);
    assert_eq!(parsed.leaf_sizes, [4 << 10, 2 * MIB]);
    let region = &parsed.regions[0];
    assert_eq!(region.verdict, "optimal");
    assert_eq!(region.faults, 2048, "4 GiB in leaves of 2 MiB");
    assert_eq!(region.codes(), ["architecture"]);
    // The BAR could have them elsewhere: the answer is no.
    assert_eq!(required.code(), 1, "{required:?}");
    let said = required.stderr();
    assert!(
        said.contains("no 1 GiB leaves") && said.contains("4 KiB, 2 MiB"),
        "{required:?}"
    );
}

/// THP disabled for the process except for hinted memory: a hint works as usual, and without one there
/// are base pages on every kernel that knows the flag.
#[test]
fn disabled_except_for_what_is_hinted() {
    let limited = |words: &str| {
        let line = format!("exercise no-thp --except-advised hugebar {words}");
        Command::new(line.split(' '))
    };
    let report = with_exercise("newest")
        .device("pci-testdev,membar=1G")
        .run(&[
            limited("map --json 0000:00:10.0 --bar 2").thp(Thp::Always),
            limited("map --json 0000:00:10.0 --bar 2 --hint off"),
            limited("doctor"),
        ])
        .unwrap();
    let [hinted, unhinted, doctor] = &report.commands[..] else {
        panic!("{report:?}");
    };
    let region = Report::region(hinted);
    assert_eq!((region.measured(), region.codes()), ([1, 0, 0], vec![]));
    let region = Report::region(unhinted);
    assert_eq!(region.measured(), [0, 0, PAGES / 4]);
    assert_eq!(region.codes(), ["thp-disabled"]);
    assert!(
        doctor.success(),
        "it works for programs that hint: {doctor:?}"
    );
    assert!(doctor.stdout().contains("EXCEPT_ADVISED"), "{doctor:?}");
}

/// Without enough address space to align 4 GiB to 1 GiB, the next smaller leaf is used, and a reason says so.
#[test]
fn too_few_addresses() {
    let limited = |bytes: u64| {
        let map = "hugebar map --json 0000:00:10.0 --bar 2";
        let words = format!("exercise limited --address-space {bytes} {map}");
        Command::new(words.split(' '))
    };
    let commands = [limited(4096 * MIB + 512 * MIB), limited(8 * GIB)];
    let report = with_exercise("newest").run(&commands).unwrap();
    let [scarce, plenty] = &report.commands[..] else {
        panic!("{report:?}");
    };
    let region = Report::region(scarce);
    assert_eq!(region.alignment, 2 * MIB);
    assert_eq!(region.measured(), region.by_the_rule());
    // One in 512 such addresses is as good as the best.
    if region.areas[0].address() % GIB != 0 {
        assert_eq!(region.measured(), [0, 2048, 0]);
        assert_eq!(region.verdict, "as-expected");
        assert_eq!(region.codes(), ["address-space"]);
    }
    let region = Report::region(plenty);
    assert_eq!((region.alignment, region.measured()), (GIB, [4, 0, 0]));
    assert_eq!(region.codes(), [""; 0]);
}

/// All mappable BARs of a device with several: registers with the MSI-X table among
/// them, a memory buffer and persistent memory.
#[test]
fn every_bar_of_an_nvme_drive() {
    let spec = machine("newest")
        .qemu("-drive if=none,id=disk,file.driver=null-co,file.size=1M,format=raw")
        .qemu("-object memory-backend-ram,id=pmr,share=on,size=16M")
        .device("nvme,serial=x,drive=disk,cmb_size_mb=8,pmrdev=pmr");
    let report = spec
        .run(&[map_json("0000:00:10.0"), map("00:10.0")])
        .unwrap();
    let parsed = Report::of(&report.commands[0]);
    assert_eq!(parsed.device, "0000:00:10.0");
    let bars: Vec<_> = parsed.regions.iter().map(|region| region.bar).collect();
    assert_eq!(bars, [0, 2, 4]);
    for region in &parsed.regions {
        assert_eq!(region.measured(), region.best(), "BAR {}", region.bar);
        assert_eq!(region.verdict, "optimal");
    }
    assert_eq!(parsed.regions[1].best(), [0, 4, 0]);
    assert_eq!(parsed.regions[2].best(), [0, 8, 0]);
    assert!(report.commands[1].success());
    assert_eq!(report.commands[1].stdout().matches("optimal").count(), 3);
}
