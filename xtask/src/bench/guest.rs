//! A BAR that a program gives to a guest: Debian's QEMU with and without `hugebar run`, and a program that maps as Cloud
//! Hypervisor does.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use hugebar::facts::Status;
use hugebar::leaf::{GIB, KIB, MIB};
use hugebar_lab::cache::Cache;
use hugebar_lab::debian::QEMU_7_2;
use hugebar_lab::{Command, HostFile, Output, Report, Spec, nested};
use serde_json::{Map, Value, json};

use super::fit::median;
use super::output::{parsed, text};

const DEVICE: &str = "0000:00:10.0";

/// Ways of `exercise touch`.
const WAYS: [&str; 4] = [
    "--by cloud-hypervisor",
    "--by hugebar",
    "--by cloud-hypervisor --hole",
    "--by hugebar --hole",
];

/// How often QEMU is started each way.
const STARTS: usize = 5;

/// Measures both. The lab's own program has to be in the guest.
pub(super) fn measure(spec: Spec, rounds: u32) -> Result<(Report, Value)> {
    // On an emulated processor KVM works.
    let spec = spec.emulated().device("pci-testdev,membar=4G");
    let (report, touched) = touch(spec.clone(), rounds)?;
    let qemus = qemu(spec)?;
    Ok((report, json!({"touch": touched, "qemu": qemus})))
}

/// A guest of KVM that reads from every 2 MiB, each way in turn.
fn touch(spec: Spec, rounds: u32) -> Result<(Report, Value)> {
    let words = |way| format!("exercise touch {DEVICE} {way}");
    let turn = || WAYS.map(|way| Command::new(words(way).split(' ').map(str::to_owned)));
    let commands: Vec<_> = (0..rounds).flat_map(|_| turn()).collect();
    let report = spec.run(&commands)?;
    let outputs = report.commands.iter().map(parsed);
    let outputs: Vec<_> = outputs.collect::<Result<_>>()?;
    let mut all = Vec::new();
    for (index, way) in WAYS.iter().enumerate() {
        let own: Vec<_> = outputs.iter().skip(index).step_by(WAYS.len()).collect();
        let first = own.first().context("no round")?;
        let median = |name: &str| -> Result<u64> {
            let times = own.iter().map(|one| one[name].as_u64());
            let times: Vec<u64> = times.collect::<Option<_>>().context("no time")?;
            median(times).context("no round")
        };
        all.push(json!({
            "way": way,
            "page_tables": median("page_tables")?,
            "guest_leaves": first["guest_leaves"],
            "dma_map": median("dma_map")?,
            "touch": median("touch")?,
        }));
    }
    Ok((report, all.into()))
}

/// Where the guest keeps QEMU's firmware.
const FIRMWARE: &str = "/firmware";

/// KVM's counts of leaves in all second stages, here of one QEMU, and their sizes.
const COUNTED: [(&str, u64); 3] = [
    ("/sys/kernel/debug/kvm/pages_1g", GIB),
    ("/sys/kernel/debug/kvm/pages_2m", 2 * MIB),
    ("/sys/kernel/debug/kvm/pages_4k", 4 * KIB),
];

/// Debian's QEMU, which nobody has changed, alone and by `hugebar run`, in turns. Its firmware reads from every 2 MiB of the BAR.
fn qemu(spec: Spec) -> Result<Value> {
    let library = hugebar_lab::shared_library("hugebar-preload", "hugebar_preload", "release")?;
    let qemu = QEMU_7_2.get(&Cache::open()?)?;
    let alone = nested::touching(&qemu, DEVICE, FIRMWARE);
    let mut by_run = alone.clone();
    let run = ["hugebar", "run", "--"].map(str::to_owned);
    by_run.argv.splice(..0, run);
    let mut commands = vec![Command::new(["exercise", "firmware", FIRMWARE])];
    for turn in 0..2 * STARTS {
        let own = commands.len();
        commands.push(if turn % 2 == 0 {
            alone.clone()
        } else {
            by_run.clone()
        });
        let counted = COUNTED.map(|(file, _)| format!("@cat {file}"));
        let looks = [
            "@cat /proc/{pid:OWN}/status",
            "hugebar inspect {pid:OWN} --json",
            "@signal OWN 15",
            "@wait OWN",
        ];
        for words in counted.iter().map(String::as_str).chain(looks) {
            let words = words.replace("OWN", &own.to_string());
            commands.push(Command::new(words.split(' ').map(str::to_owned)));
        }
    }
    let report = spec
        .copy(HostFile {
            host: library,
            guest: Some("/bin/".into()),
        })
        .copy(qemu.files())
        .timeout(Duration::from_secs(1800))
        .run(&commands)?;
    let mut all = Vec::new();
    for (turn, look) in report.commands[1..].chunks(8).enumerate() {
        let [qemu, large, middle, small, status, inspected, ..] = look else {
            bail!("{look:?}");
        };
        let mappings = parsed(inspected)?["processes"][0]["mappings"].take();
        let mappings = mappings.as_array().context("no mappings")?;
        let mapping = mappings.iter().find(|own| own["size"] == 4 * GIB);
        let counts = [large, middle, small].into_iter().zip(COUNTED);
        let count = |(output, (_, size)): (&Output, (_, u64))| -> Result<_> {
            let count: u64 = text(output)?.trim().parse()?;
            Ok((size.to_string(), json!(count)))
        };
        let guest_leaves: Map<_, _> = counts.map(count).collect::<Result<_>>()?;
        let [decode, touch] = times(&qemu.stdout())?;
        all.push(json!({
            "by": if turn % 2 == 0 { "alone" } else { "hugebar run" },
            "page_tables": Status::parse(text(status)?.as_bytes()).vm_pte.context("no VmPTE")?,
            "leaves": mapping.context("no large mapping")?["possible"],
            "guest_leaves": guest_leaves,
            "decode": decode,
            "touch": touch,
        }));
    }
    Ok(all.into())
}

/// The first two times that the firmware has printed.
fn times(printed: &str) -> Result<[u64; 2]> {
    let mut words = printed.split_whitespace();
    let mut time = || -> Result<u64> {
        let word = words
            .next()
            .context("QEMU's firmware has printed no time")?;
        u64::from_str_radix(word, 16).with_context(|| format!("QEMU has printed {printed}"))
    };
    Ok([time()?, time()?])
}
