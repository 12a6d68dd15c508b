//! What is run in the guest.

use std::path::Path;
use std::process;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hugebar_lab::{Arch, Command, HostFile, Output, Spec, Thp};
use serde_json::Value;

/// Optimised, so that the times are those of the kernel.
const PROFILE: &str = "release";

/// How many devices there are at most.
pub(super) const DEVICES: usize = 8;

/// The results of a kernel.
pub(super) struct Kernel {
    /// How the lab calls it.
    pub(super) name: String,
    /// The document of a BAR of 256 GiB, made present.
    pub(super) sizes: Value,
    pub(super) svg: String,
    /// Of a BAR of 4 GiB, mapped for DMA too.
    pub(super) dma: Value,
    /// The same with a hole.
    pub(super) hole: Value,
    /// Of two, four and eight devices of 256 GiB.
    pub(super) together: Vec<Value>,
    /// Nanoseconds of making eight BARs of 256 GiB present: of a program in C and of hugebar, in turns.
    pub(super) turns: Vec<(u64, u64)>,
    pub(super) accelerator: &'static str,
    pub(super) qemu: String,
}

/// Measures on a kernel.
pub(super) fn on(name: &str, rounds: u32, budget: u64) -> Result<Kernel> {
    let spec = Spec::new(name)
        .profile(PROFILE)
        .thp(Thp::Madvise)
        .timeout(Duration::from_secs(3600));
    let bench = |words: &str| {
        command(&format!(
            "{words} --rounds {rounds} --budget {budget} --json"
        ))
    };
    let report = spec
        .clone()
        .device("pci-testdev,membar=256G")
        .device("pci-testdev,membar=4G")
        .run(&[
            bench("0000:00:10.0 --no-dma --sizes 16M,64M,256M,1G,4G,16G,32G,64G,128G,256G --svg /bench.svg"),
            Command::new(["@cat", "/bench.svg"]),
            bench("0000:00:11.0 --sizes 1G,4G"),
            bench("0000:00:11.0 --sizes 4G --exclude 24K+4K --placement size-aligned,congruent"),
        ])?;
    let [sizes, svg, dma, hole] = report.commands.as_slice() else {
        bail!("{} commands ran", report.commands.len());
    };
    let folder = tempfile::tempdir()?;
    let bare = folder.path().join("present");
    build(&bare)?;
    let several = with_devices(spec, DEVICES).copy(HostFile {
        host: bare,
        guest: None,
    });
    let of = |count: usize| {
        bench(&format!(
            "{} --no-dma --placement congruent --sizes 256G",
            addresses(count)
        ))
    };
    let mut commands = vec![of(2), of(4)];
    let turns = 3;
    for _ in 0..turns {
        let all = addresses(DEVICES);
        let words = format!("present {rounds} {all}");
        commands.push(Command::new(words.split(' ')));
        commands.push(of(DEVICES));
    }
    let ran = several.run(&commands)?;
    let mut together = Vec::new();
    let mut measured = Vec::new();
    for pair in ran.commands[2..].chunks(2) {
        let document = json(&pair[1])?;
        let own = document["together"]["one_after_another"]["median"].as_u64();
        measured.push((
            median(&pair[0])?,
            own.context("nothing was measured together")?,
        ));
        together = vec![document];
    }
    let mut all = ran.commands[..2]
        .iter()
        .map(json)
        .collect::<Result<Vec<_>>>()?;
    all.append(&mut together);
    Ok(Kernel {
        name: name.to_owned(),
        sizes: json(sizes)?,
        svg: text(svg)?,
        dma: json(dma)?,
        hole: json(hole)?,
        together: all,
        turns: measured,
        accelerator: report.accelerator,
        qemu: qemu()?,
    })
}

/// A machine with room for BARs of 256 GiB. QEMU reserves a range in it (fd00000000) for AMD's processors, which `max` is
/// otherwise.
fn with_devices(spec: Spec, count: usize) -> Spec {
    let spec = spec
        .qemu("-global q35-pcihost.pci-hole64-size=8T -cpu max,phys-bits=47,vendor=GenuineIntel");
    (0..count).fold(spec, |spec, _| spec.device("pci-testdev,membar=256G"))
}

fn addresses(count: usize) -> String {
    let all: Vec<_> = (0..count)
        .map(|index| format!("0000:00:{:02x}.0", 0x10 + index))
        .collect();
    all.join(" ")
}

fn command(words: &str) -> Command {
    Command::new(["hugebar", "bench"].into_iter().chain(words.split(' ')))
}

/// Builds the program in C that makes BARs present by nothing but ioctls.
fn build(program: &Path) -> Result<()> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../lab/tests/vm/c/present.c");
    hugebar_lab::compile_c(Arch::X86_64, &source, program)
}

fn qemu() -> Result<String> {
    let output = process::Command::new("qemu-system-x86_64")
        .arg("--version")
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let words = text
        .split_whitespace()
        .skip_while(|word| *word != "version");
    Ok(words.skip(1).take(1).collect())
}

fn text(output: &Output) -> Result<String> {
    ensure!(
        output.success(),
        "a command failed in the guest: {output:?}"
    );
    Ok(output.stdout().into_owned())
}

fn json(output: &Output) -> Result<Value> {
    let text = text(output)?;
    serde_json::from_str(&text).with_context(|| format!("not JSON: {text:?}"))
}

/// The median of numbers, one a line.
fn median(output: &Output) -> Result<u64> {
    let text = text(output)?;
    let numbers = text.lines().map(str::parse);
    let mut numbers: Vec<u64> = numbers.collect::<Result<_, _>>().context("no numbers")?;
    numbers.sort_unstable();
    let median = numbers.get(numbers.len().saturating_sub(1) / 2);
    median.copied().context("no numbers")
}
