//! docs/benchmarks.md.

use std::fmt::Write;

use anyhow::{Context, Result};
use hugebar::leaf::{Bytes, GIB, KIB, MIB};
use hugebar_lab::Arch;
use indicatif::{HumanCount, HumanFloatCount};
use serde_json::Value;

use super::fit::{Line, median, of_largest};
use super::part::{ARM64_KERNELS, KERNELS, Part, Topic};
use super::record::Record;

const HEAD: &str = include_str!("head.md");

/// The whole page, of the parts that were measured.
pub(super) fn page(records: &[(Part, Record)]) -> Result<String> {
    let mut page = HEAD.to_owned();
    let find = |arch, kernel, topic| {
        let part = Part {
            topic,
            arch,
            kernel,
        };
        records.iter().find(|(own, _)| *own == part)
    };
    for kernel in KERNELS {
        let of = |topic| find(Arch::X86_64, kernel, topic);
        let topics = [Topic::Sizes, Topic::Census, Topic::Dma, Topic::Devices];
        let Some((_, first)) = topics.into_iter().find_map(of) else {
            continue;
        };
        writeln!(page, "\n## Linux {}\n", first.release)?;
        if let Some((part, record)) = of(Topic::Sizes) {
            sizes(&mut page, *part, record)?;
        }
        if let Some((_, record)) = of(Topic::Census) {
            census(&mut page, record)?;
        }
        if let Some((_, record)) = of(Topic::Dma) {
            dma(&mut page, record)?;
        }
        if let Some((_, record)) = of(Topic::Devices) {
            devices(&mut page, record)?;
        }
    }
    if let Some((_, record)) = find(Arch::X86_64, "lab", Topic::Guest) {
        guest(&mut page, record)?;
    }
    let arm64 = ARM64_KERNELS.map(|kernel| find(Arch::Arm64, kernel, Topic::Sizes));
    for (part, record) in arm64.into_iter().flatten() {
        let pages = match part.kernel {
            "newest-16k" => 16,
            "lab-64k" => 64,
            _ => 4,
        };
        writeln!(
            page,
            "\n## arm64, Linux {}, pages of {pages} KiB\n",
            record.release
        )?;
        sizes(&mut page, *part, record)?;
    }
    Ok(page)
}

/// Where a section's figures come from.
fn origin(page: &mut String, record: &Record) -> Result<()> {
    let cpu = match record.accelerator.as_str() {
        "KVM" => "KVM",
        _ => "emulated CPU (TCG)",
    };
    writeln!(
        page,
        "`{}`, {}, QEMU {}, {cpu}.",
        record.command, record.date, record.qemu
    )?;
    Ok(())
}

fn sizes(page: &mut String, part: Part, record: &Record) -> Result<()> {
    let document = &record.results["sizes"];
    writeln!(page, "### Making a BAR present\n")?;
    writeln!(
        page,
        "![Time to make a BAR present, and its leaves, by size](benchmarks/{part}.svg)\n"
    )?;
    writeln!(
        page,
        "Prefixes of a BAR of 256 GiB. Times are multiples of the congruent mapping's.\n"
    )?;
    writeln!(
        page,
        "| size | placement | leaves | page tables | map | present | present again | unmap | rounds |"
    )?;
    writeln!(page, "|---:|---|---:|---:|---:|---:|---:|---:|---:|")?;
    for series in list(document)? {
        // Too much for this machine by far.
        if series["left_out"] == "limit" {
            continue;
        }
        let tables = series["page_tables"]["median"].as_u64();
        let tables = tables.map_or("-".to_owned(), |bytes| Bytes(bytes).to_string());
        let times = ["map", "present", "present_again", "unmap"];
        let times = times.map(|step| ratio(document, series, step));
        let times = times.into_iter().collect::<Result<Vec<_>>>()?.join(" | ");
        writeln!(
            page,
            "| {} | {} | {} | {tables} | {times} | {} |",
            Bytes(size(series)),
            placement(series),
            leaves(series),
            series["rounds"]
        )?;
    }
    let limited = list(document)?
        .iter()
        .filter(|own| own["left_out"] == "limit");
    let limited: Vec<_> = limited
        .map(|own| format!("{} of {}", placement(own), Bytes(size(own))))
        .collect();
    if !limited.is_empty() {
        writeln!(
            page,
            "\nLeft out, for more than 4 GiB of base pages (`--limit`): {}.",
            limited.join(", ")
        )?;
    }
    writeln!(page, "\n{}\n", line(document)?)?;
    origin(page, record)
}

fn census(page: &mut String, record: &Record) -> Result<()> {
    let results = &record.results;
    let leaves = HumanCount(results["leaves"].as_u64().context("no leaves")?);
    writeln!(
        page,
        "\n### Counting its leaves\n\nThe whole of 256 GiB, {leaves} leaves, each way in turn by a new mapping: *present* is \
         `populate::present`, which relies on the kernel; *install* is `populate::install`, which looks at the end of each leaf \
         as well; *census* counts the leaves and looks at three pages of each. Times are multiples of the census's.\n"
    )?;
    writeln!(
        page,
        "| way | steps for each leaf | time |\n|---|---:|---:|"
    )?;
    let ways = results["ways"].as_array().context("no ways")?;
    let middle = |way: &Value| -> Result<f64> {
        let times = way["times"].as_array().into_iter().flatten();
        let times: Vec<_> = times.filter_map(Value::as_f64).collect();
        median(times).context("no times")
    };
    let own = ways.iter().find(|one| one["way"] == "census");
    let own = middle(own.context("no census")?)?;
    for one in ways {
        let way = one["way"].as_str().context("no way")?;
        writeln!(
            page,
            "| {way} | {} | {:.2} |",
            one["steps"],
            middle(one)? / own
        )?;
    }
    writeln!(
        page,
        "\nThe census took {:.1} ms on this emulated CPU.\n",
        own / 1e6
    )?;
    origin(page, record)
}

fn dma(page: &mut String, record: &Record) -> Result<()> {
    writeln!(
        page,
        "\n### Mapping it for peer-to-peer DMA\n\nThe whole of 4 GiB (`AddressSpace::map_bar`), when no leaf is there yet:\n"
    )?;
    writeln!(
        page,
        "| BAR | placement | leaves | DMA map | DMA unmap | rounds |\n|---|---|---:|---:|---:|---:|"
    )?;
    for (what, name) in [("whole", "whole"), ("without 24K+4K", "hole")] {
        let document = &record.results[name];
        for series in list(document)? {
            writeln!(
                page,
                "| {what} | {} | {} | {} | {} | {} |",
                placement(series),
                leaves(series),
                ratio(document, series, "dma_map")?,
                ratio(document, series, "dma_unmap")?,
                series["rounds"]
            )?;
        }
    }
    writeln!(page)?;
    origin(page, record)
}

fn devices(page: &mut String, record: &Record) -> Result<()> {
    writeln!(
        page,
        "\n### Several devices\n\nEach has a BAR of 256 GiB, which is made present. Times are multiples of one thread's.\n"
    )?;
    writeln!(
        page,
        "| devices | leaves | one after another | one thread each |\n|---:|---:|---:|---:|"
    )?;
    let together = record.results["together"].as_array();
    for all in together.context("no devices")? {
        let median = |name: &str| all[name]["median"].as_f64().context("no time");
        let (single, threads) = (median("one_after_another")?, median("one_thread_each")?);
        let counted = if all["counted"] == true {
            ""
        } else {
            " (not counted)"
        };
        let count = HumanCount(all["leaves"].as_u64().unwrap_or(0));
        writeln!(
            page,
            "| {} | {count}{counted} | 1 | {:.2} |",
            all["devices"],
            threads / single
        )?;
    }
    let turns = record.results["turns"].as_array().context("no turns")?;
    let ratio = |turn: &Value| -> Result<f64> {
        let time = |name: &str| turn[name].as_f64().context("no time");
        Ok(time("hugebar")? / time("bare")?)
    };
    let ratios: Vec<f64> = turns.iter().map(ratio).collect::<Result<_>>()?;
    let middle = median(ratios.clone()).context("nothing was measured")?;
    let all: Vec<_> = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect();
    let all = all.join(", ");
    writeln!(
        page,
        "\nMaking eight of them present takes hugebar {middle:.2} times as long as a program in C that makes the same ioctls \
         and nothing else (`lab/tests/vm/c/present.c`; median of {} turns in one guest: {all}).\n",
        ratios.len()
    )?;
    origin(page, record)
}

fn guest(page: &mut String, record: &Record) -> Result<()> {
    writeln!(
        page,
        "\n## A BAR that a program gives to a guest\n\nLinux {}, 4 GiB. A guest of KVM reads once from every 2 MiB. The hole is 24K+4K; \
         *as Cloud Hypervisor* maps each area by itself, and *by hugebar* maps the whole and leaves the hole out of the guest's \
         slots. Times are multiples of hugebar's (`exercise touch`).\n",
        record.release
    )?;
    writeln!(
        page,
        "| hole | mapped | page tables | KVM's leaves | DMA map | touch |\n|---|---|---:|---|---:|---:|"
    )?;
    let touched = record.results["touch"].as_array().context("no ways")?;
    for pair in touched.chunks(2) {
        let [other, own] = pair else {
            anyhow::bail!("an odd number of ways");
        };
        let hole = own["way"].as_str().context("a way")?.contains("--hole");
        for (name, one) in [("as Cloud Hypervisor", other), ("by hugebar", own)] {
            let times = |step: &str| -> Result<String> {
                let time = |one: &Value| one[step].as_f64().context("no time");
                Ok(shown(time(one)? / time(own)?))
            };
            writeln!(
                page,
                "| {} | {name} | {} | {} | {} | {} |",
                if hole { "yes" } else { "no" },
                Bytes(one["page_tables"].as_u64().context("no page tables")?),
                counted(&one["guest_leaves"]),
                times("dma_map")?,
                times("touch")?
            )?;
        }
    }
    writeln!(
        page,
        "\nDebian 12's QEMU 7.2, unmodified, with the same BAR (`vfio-pci`), alone and by `hugebar run`, in turns. Its guest is the \
         lab's firmware (`exercise firmware`), which lets the device decode memory, whereupon QEMU maps the BAR for DMA, and reads \
         once from every 2 MiB. Leaves are those of its address, by `hugebar inspect`; KVM's are those of all guest memory, so \
         a few are RAM's and ROM's; page tables are QEMU's own, all of them. Times are medians, as multiples of those by \
         `hugebar run`.\n"
    )?;
    writeln!(
        page,
        "| started | leaves | KVM's leaves | page tables | decode on | touch | starts |\n|---|---|---|---:|---:|---:|---:|"
    )?;
    let starts = record.results["qemu"].as_array().context("no starts")?;
    for one in started(starts)? {
        writeln!(page, "{one}")?;
    }
    writeln!(page)?;
    origin(page, record)
}

/// A line for each way to start QEMU and each leaves that it got.
fn started(starts: &[Value]) -> Result<Vec<String>> {
    let middle = |own: &[&Value], name: &str| -> Result<u64> {
        let all: Option<Vec<u64>> = own.iter().map(|one| one[name].as_u64()).collect();
        all.and_then(median).with_context(|| format!("no {name}"))
    };
    let of = |by: &str| -> Vec<&Value> { starts.iter().filter(|one| one["by"] == by).collect() };
    let best = of("hugebar run");
    let mut lines = Vec::new();
    for by in ["alone", "hugebar run"] {
        let mut kinds: Vec<((String, String), Vec<&Value>)> = Vec::new();
        for one in of(by) {
            let leaves = (counted(&one["leaves"]), counted(&one["guest_leaves"]));
            match kinds.iter_mut().find(|(known, _)| *known == leaves) {
                Some((_, all)) => all.push(one),
                None => kinds.push((leaves, vec![one])),
            }
        }
        for ((leaves, guest), own) in kinds {
            let times = |name: &str| -> Result<String> {
                Ok(shown(
                    middle(&own, name)? as f64 / middle(&best, name)? as f64,
                ))
            };
            let tables = Bytes(middle(&own, "page_tables")?);
            lines.push(format!(
                "| {by} | {leaves} | {guest} | {tables} | {} | {} | {} |",
                times("decode")?,
                times("touch")?,
                own.len()
            ));
        }
    }
    Ok(lines)
}

/// Leaves by size, the largest first.
fn counted(leaves: &Value) -> String {
    let sizes = [GIB, 2 * MIB, 4 * KIB].map(|size| (size, leaves[size.to_string()].as_u64()));
    let shown: Vec<_> = sizes
        .into_iter()
        .filter_map(|(size, count)| {
            let count = count.filter(|count| *count > 0)?;
            Some(format!("{} × {}", HumanCount(count), Bytes(size)))
        })
        .collect();
    shown.join(" + ")
}

fn list(document: &Value) -> Result<&Vec<Value>> {
    document["bars"][0]["series"]
        .as_array()
        .context("no series")
}

fn size(series: &Value) -> u64 {
    series["size"].as_u64().unwrap_or(0)
}

fn placement(series: &Value) -> &str {
    series["placement"].as_str().unwrap_or("?")
}

/// Its leaves as counted, or else as its addresses give.
fn leaves(series: &Value) -> String {
    let range = |name: &str| Some((series[name]["min"].as_u64()?, series[name]["max"].as_u64()?));
    match range("leaves").or_else(|| range("expected")) {
        Some((min, max)) if min == max => HumanCount(min).to_string(),
        Some((min, max)) => format!("{} to {}", HumanCount(min), HumanCount(max)),
        None => "-".to_owned(),
    }
}

/// A step's median as a multiple of the congruent mapping's, or why there is none.
fn ratio(document: &Value, series: &Value, step: &str) -> Result<String> {
    let congruent = list(document)?
        .iter()
        .find(|own| own["placement"] == "congruent" && own["size"] == series["size"]);
    let time = |own: &Value| own["times"][step]["median"].as_f64();
    Ok(match (time(series), congruent.and_then(time)) {
        (Some(own), Some(best)) => shown(own / best),
        _ => series["left_out"]
            .as_str()
            .map_or("-".to_owned(), |why| format!("left out: {why}")),
    })
}

fn shown(ratio: f64) -> String {
    match ratio {
        // More digits than were measured would not be honest.
        large if large >= 100.0 => HumanFloatCount(large.round()).to_string(),
        small => format!("{small:.2}"),
    }
}

/// Time by leaves, from 16 leaves of the congruent mapping on, where all are of the largest size.
fn line(document: &Value) -> Result<String> {
    let congruent = list(document)?
        .iter()
        .filter(|own| own["placement"] == "congruent");
    let points = congruent.filter_map(|own| {
        let count = own["leaves"]["median"].as_u64()?;
        let time = own["times"]["present"]["median"].as_f64()?;
        Some((size(own), count, time))
    });
    let points = of_largest(&points.collect::<Vec<_>>());
    Ok(match Line::through(&points) {
        None => "Too few sizes were measured to say how the time grows with the leaves.".to_owned(),
        Some(Line { a, b, residual }) => format!(
            "From {} to {} leaves, all of the largest size, making the congruent mapping present takes *a* + *b* × leaves, with \
             *a* = {:.2} *b* (*b* was {:.1} µs on this emulated CPU); no median is further than {:.0}% from that line.",
            points.first().map_or(0.0, |point| point.0),
            points.last().map_or(0.0, |point| point.0),
            a / b,
            b / 1e3,
            residual * 100.0
        ),
    })
}
