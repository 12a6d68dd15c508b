//! What is run in the guest.

use std::path::Path;
use std::process;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hugebar_lab::{Arch, Command, HostFile, Output, Report, Spec, Thp};
use serde_json::{Value, json};

use super::fit::median;
use super::guest;
use super::output::{parsed, text};
use super::part::{Part, Topic};
use super::record::{Record, reduced};

/// Optimised, so that the times are those of the kernel.
const PROFILE: &str = "release";

/// How many devices there are at most.
const DEVICES: usize = 8;

/// How often the program in C and hugebar take turns, and their rounds in each.
const TURNS: usize = 15;
const ROUNDS_OF_A_TURN: u32 = 3;

/// Writes a picture.
pub(super) type Picture<'a> = &'a mut dyn FnMut(&str, &str) -> Result<()>;

/// Measures a part. Pictures of it are written at once.
pub(super) fn part(part: Part, rounds: u32, picture: Picture<'_>) -> Result<Record> {
    let spec = Spec::new(part.kernel)
        .arch(part.arch)
        .profile(PROFILE)
        .thp(Thp::Madvise)
        .timeout(Duration::from_secs(3600));
    let (report, results) = match part.topic {
        Topic::Sizes => sizes(part, spec, rounds, picture)?,
        Topic::Census => census(spec.copy(exercise()?), rounds)?,
        Topic::Dma => dma(spec, rounds)?,
        Topic::Devices => devices(spec, rounds)?,
        Topic::Guest => guest::measure(spec.copy(exercise()?), rounds)?,
    };
    Ok(Record {
        command: format!("cargo xtask bench --part {part} --rounds {rounds}"),
        date: printed("date", &["--utc", "+%F"])?,
        release: report.release,
        qemu: qemu(part.arch)?,
        accelerator: report.accelerator.to_owned(),
        rounds,
        results,
    })
}

fn bench(words: &str, rounds: u32) -> Command {
    let words = format!("hugebar bench {words} --rounds {rounds} --json");
    Command::new(words.split(' ').map(str::to_owned))
}

/// The sizes of each run of `hugebar bench`.
fn runs(part: Part) -> &'static [&'static str] {
    match (part.arch, part.kernel) {
        // The largest have so many leaves of 2 MiB that the others would get few rounds beside them.
        (Arch::Arm64, "newest") => &["16M,64M,256M,1G,4G,16G,32G,64G", "128G,256G"],
        _ => &["16M,64M,256M,1G,4G,16G,32G,64G,128G,256G"],
    }
}

/// Prefixes of 256 GiB. The picture is that of the first run.
fn sizes(part: Part, spec: Spec, rounds: u32, picture: Picture<'_>) -> Result<(Report, Value)> {
    let command = |sizes| {
        let words = format!("0000:00:10.0 --no-dma --sizes {sizes} --budget 600 --svg /bench.svg");
        [bench(&words, rounds), Command::new(["@cat", "/bench.svg"])]
    };
    let commands: Vec<_> = runs(part).iter().flat_map(command).collect();
    let report = spec
        .cpus(1)
        .device("pci-testdev,membar=256G")
        .run(&commands)?;
    let mut all: Option<Value> = None;
    for pair in report.commands.chunks(2) {
        let [document, svg] = pair else {
            bail!("{} commands ran", report.commands.len());
        };
        let mut document = reduced(parsed(document)?);
        let Some(first) = &mut all else {
            picture(&format!("{part}.svg"), &text(svg)?)?;
            all = Some(document);
            continue;
        };
        let [known, more] =
            [first, &mut document].map(|own| own["bars"][0]["series"].as_array_mut());
        known
            .context("no series")?
            .append(more.context("no series")?);
    }
    let results = json!({"sizes": all.context("nothing was measured")?});
    Ok((report, results))
}

/// Of 256 GiB: making it present without looking, with a look at each leaf, and with a count.
fn census(spec: Spec, rounds: u32) -> Result<(Report, Value)> {
    let words = format!("exercise counting 0000:00:10.0 --rounds {rounds}");
    let report = spec
        .cpus(1)
        .device("pci-testdev,membar=256G")
        .run(&[Command::new(words.split(' '))])?;
    let [counted] = report.commands.as_slice() else {
        bail!("{} commands ran", report.commands.len());
    };
    let results = parsed(counted)?;
    Ok((report, results))
}

/// The lab's own program in the guest.
fn exercise() -> Result<HostFile> {
    let host = hugebar_lab::program("hugebar-lab-exercise", "exercise", PROFILE)?;
    Ok(HostFile { host, guest: None })
}

/// The whole of 4 GiB. Where the kernel installs base pages one after another, a round takes many seconds.
fn dma(spec: Spec, rounds: u32) -> Result<(Report, Value)> {
    let whole = "0000:00:10.0 --no-present --sizes 4G --budget 900";
    let hole = format!("{whole} --exclude 24K+4K --placement size-aligned,congruent");
    let report = spec
        .cpus(1)
        .device("pci-testdev,membar=4G")
        .run(&[bench(whole, rounds), bench(&hole, rounds)])?;
    let [whole, hole] = report.commands.as_slice() else {
        bail!("{} commands ran", report.commands.len());
    };
    let results = json!({"whole": reduced(parsed(whole)?), "hole": reduced(parsed(hole)?)});
    Ok((report, results))
}

/// Two, four and eight devices of 256 GiB; and the eight in turns with a program in C.
fn devices(spec: Spec, rounds: u32) -> Result<(Report, Value)> {
    let folder = tempfile::tempdir()?;
    let bare = folder.path().join("present");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../lab/tests/vm/c/present.c");
    hugebar_lab::compile_c(Arch::X86_64, &source, &bare)?;
    let spec = spec.parallel();
    // QEMU reserves a range (fd00000000) for AMD's processors, which `max` is otherwise.
    let spec = spec
        .qemu("-global q35-pcihost.pci-hole64-size=8T -cpu max,phys-bits=47,vendor=GenuineIntel")
        .copy(HostFile {
            host: bare,
            guest: None,
        });
    let spec = (0..DEVICES).fold(spec, |spec, _| spec.device("pci-testdev,membar=256G"));
    let of = |count: usize, rounds| {
        let words = format!(
            "{} --no-dma --placement congruent --sizes 256G",
            addresses(count)
        );
        bench(&words, rounds)
    };
    let mut commands = [2, 4, DEVICES].map(|count| of(count, rounds)).to_vec();
    for _ in 0..TURNS {
        let words = format!("present {ROUNDS_OF_A_TURN} {}", addresses(DEVICES));
        commands.push(Command::new(words.split(' ')));
        commands.push(of(DEVICES, ROUNDS_OF_A_TURN));
    }
    let report = spec.run(&commands)?;
    let mut together = Vec::new();
    let mut turns = Vec::new();
    let (some, pairs) = report.commands.split_at(3);
    for document in some {
        together.push(parsed(document)?["together"].take());
    }
    for pair in pairs.chunks(2) {
        let [bare, own] = pair else {
            bail!("{} commands of turns", pairs.len());
        };
        let own = parsed(own)?["together"]["one_after_another"]["median"].as_u64();
        let own = own.context("nothing was measured together")?;
        let bare = median(numbers(bare)?).context("no numbers")?;
        turns.push(json!({"bare": bare, "hugebar": own}));
    }
    Ok((report, json!({"together": together, "turns": turns})))
}

fn addresses(count: usize) -> String {
    let all: Vec<_> = (0..count)
        .map(|index| format!("0000:00:{:02x}.0", 0x10 + index))
        .collect();
    all.join(" ")
}

fn qemu(arch: Arch) -> Result<String> {
    let program = match arch {
        Arch::X86_64 => "qemu-system-x86_64",
        Arch::Arm64 => "qemu-system-aarch64",
    };
    let text = printed(program, &["--version"])?;
    let words = text.split_whitespace();
    let mut words = words.skip_while(|word| *word != "version").skip(1);
    Ok(words.next().context("no version")?.to_owned())
}

fn printed(program: &str, arguments: &[&str]) -> Result<String> {
    let output = process::Command::new(program).args(arguments).output();
    let output = output.with_context(|| program.to_owned())?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Numbers, one a line.
fn numbers(output: &Output) -> Result<Vec<u64>> {
    let text = text(output)?;
    let numbers = text.lines().map(str::parse);
    numbers.collect::<Result<_, _>>().context("no numbers")
}
