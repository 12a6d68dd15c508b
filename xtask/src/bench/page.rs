//! docs/benchmarks.md.

use std::fmt::Write;

use anyhow::{Context, Result};
use hugebar::leaf::{Bytes, GIB};
use indicatif::HumanCount;
use serde_json::Value;

use super::fit::Line;
use super::measure::Kernel;

const HEAD: &str = include_str!("head.md");

/// The name of a kernel's picture.
pub(super) fn picture(kernel: &str) -> String {
    format!("benchmarks-{}.svg", kernel.replace('.', "-"))
}

/// The whole page.
pub(super) fn page(kernels: &[Kernel]) -> Result<String> {
    let mut page = HEAD.to_owned();
    for own in kernels {
        kernel(&mut page, own)?;
    }
    Ok(page)
}

fn kernel(page: &mut String, own: &Kernel) -> Result<()> {
    let release = own.sizes["release"].as_str().context("no release")?;
    let cpu = match own.accelerator {
        "KVM" => "KVM",
        _ => "emulated CPU (TCG)",
    };
    let qemu = &own.qemu;
    writeln!(page, "\n## Linux {release}\n")?;
    writeln!(page, "QEMU {qemu}, {cpu}, THP policy `madvise`.\n")?;
    writeln!(
        page,
        "![Time to make a BAR present, and its leaves, by size]({})\n",
        picture(&own.name)
    )?;
    writeln!(
        page,
        "Prefixes of a BAR of 256 GiB. Times are multiples of the congruent mapping's.\n"
    )?;
    writeln!(
        page,
        "| size | placement | leaves | page tables | present | present again | rounds |"
    )?;
    writeln!(page, "|---:|---|---:|---:|---:|---:|---:|")?;
    for series in list(&own.sizes)? {
        let tables = series["page_tables"]["median"].as_u64();
        let tables = tables.map_or("-".to_owned(), |bytes| Bytes(bytes).to_string());
        writeln!(
            page,
            "| {} | {} | {} | {tables} | {} | {} | {} |",
            Bytes(size(series)),
            series["placement"].as_str().unwrap_or("?"),
            leaves(series),
            ratio(&own.sizes, series, "present")?,
            ratio(&own.sizes, series, "present_again")?,
            series["samples"].as_array().map_or(0, Vec::len)
        )?;
    }
    writeln!(page, "\n{}", line(&own.sizes)?)?;
    writeln!(
        page,
        "\nMapping the whole of 4 GiB for peer-to-peer DMA, when no leaf is there yet:\n"
    )?;
    writeln!(
        page,
        "| BAR | placement | leaves | DMA map | DMA unmap |\n|---|---|---:|---:|---:|"
    )?;
    for (what, document) in [("whole", &own.dma), ("without 24K+4K", &own.hole)] {
        for series in list(document)?.iter().filter(|own| size(own) == 4 * GIB) {
            writeln!(
                page,
                "| {what} | {} | {} | {} | {} |",
                series["placement"].as_str().unwrap_or("?"),
                leaves(series),
                ratio(document, series, "dma_map")?,
                ratio(document, series, "dma_unmap")?
            )?;
        }
    }
    several(page, own)
}

/// Several devices at once.
fn several(page: &mut String, own: &Kernel) -> Result<()> {
    writeln!(
        page,
        "\nSeveral devices, each with a BAR of 256 GiB, made present; times are multiples of one thread's:\n"
    )?;
    writeln!(
        page,
        "| devices | leaves | one after another | one thread each |\n|---:|---:|---:|---:|"
    )?;
    for document in &own.together {
        let all = &document["together"];
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
    let mut ratios: Vec<_> = own
        .turns
        .iter()
        .map(|(bare, hugebar)| *hugebar as f64 / *bare as f64)
        .collect();
    ratios.sort_by(f64::total_cmp);
    let median = ratios
        .get(ratios.len() / 2)
        .context("nothing was measured")?;
    let all: Vec<_> = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect();
    let all = all.join(", ");
    writeln!(
        page,
        "\nMaking eight of them present takes hugebar {median:.2} times as long as a program in C that makes the same ioctls \
         and nothing else (`lab/tests/vm/c/present.c`; median of {} turns in one guest: {all}).",
        ratios.len()
    )?;
    Ok(())
}

fn list(document: &Value) -> Result<&Vec<Value>> {
    document["bars"][0]["series"]
        .as_array()
        .context("no series")
}

fn size(series: &Value) -> u64 {
    series["size"].as_u64().unwrap_or(0)
}

fn leaves(series: &Value) -> String {
    match (
        series["leaves"]["min"].as_u64(),
        series["leaves"]["max"].as_u64(),
    ) {
        (Some(min), Some(max)) if min == max => HumanCount(min).to_string(),
        (Some(min), Some(max)) => format!("{} to {}", HumanCount(min), HumanCount(max)),
        _ => "-".to_owned(),
    }
}

/// A step's median as a multiple of the congruent mapping's, or why there is none.
fn ratio(document: &Value, series: &Value, step: &str) -> Result<String> {
    let congruent = list(document)?
        .iter()
        .find(|own| own["placement"] == "congruent" && own["size"] == series["size"]);
    let time = |own: &Value| own["times"][step]["median"].as_f64();
    Ok(match (time(series), congruent.and_then(time)) {
        (Some(own), Some(best)) if own / best >= 100.0 => {
            format!("{:.0}", own / best)
        }
        (Some(own), Some(best)) => format!("{:.2}", own / best),
        _ => series["left_out"]
            .as_str()
            .map_or("-".to_owned(), |why| format!("left out: {why}")),
    })
}

/// Time by leaves, from 16 leaves of the congruent mapping on.
fn line(document: &Value) -> Result<String> {
    let congruent = list(document)?
        .iter()
        .filter(|own| own["placement"] == "congruent");
    let points = congruent
        .filter(|own| size(own) >= 16 * GIB)
        .filter_map(|own| {
            let count = own["leaves"]["median"].as_f64()?;
            Some((count, own["times"]["present"]["median"].as_f64()?))
        });
    let points: Vec<_> = points.collect();
    Ok(match Line::through(&points) {
        None => "Too few sizes were measured to say how the time grows with the leaves.".to_owned(),
        Some(Line { a, b, residual }) => format!(
            "From 16 leaves of 1 GiB up to {}, making the congruent mapping present takes *a* + *b* × leaves, with *a* = {:.2} *b* \
             (*b* was {:.1} µs on this emulated CPU); no median is further than {:.0}% from that line.",
            points.last().map_or(0.0, |point| point.0),
            a / b,
            b / 1e3,
            residual * 100.0
        ),
    })
}
