//! `hugebar bench`: leaves are exact, and times are compared as ratios within one run.

use hugebar::leaf::{self, GIB, LeafSizes, MIB};
use hugebar_lab::{Command, Output};
use serde_json::Value;

use crate::schema;

/// A command and a check of its output.
type Checked = (Command, fn(&Output));

/// For a machine of the newest kernel whose first device has a BAR of 4 GiB, and the second one of 256 GiB.
pub(crate) fn checks() -> Vec<Checked> {
    let bench = |arguments: &str| {
        let words = ["hugebar", "bench", "--json"].into_iter();
        Command::new(words.chain(arguments.split(' ')))
    };
    vec![
        (
            bench("0000:00:10.0 --sizes 64M,1G --rounds 2 --budget 600"),
            leaves_are_exact,
        ),
        (
            bench(
                "0000:00:10.0 --sizes 4G --no-present --rounds 1 --budget 600 --placement plain,congruent,congruent,congruent",
            ),
            congruent_beats_plain,
        ),
        (
            bench(
                "0000:00:10.0 --sizes 4G --no-present --rounds 1 --budget 600 --placement size-aligned,congruent,congruent,congruent --exclude 24K+4K",
            ),
            congruent_beats_size_aligned,
        ),
        (
            bench(
                "0000:00:10.0 0000:00:11.0 --no-dma --placement plain,congruent --sizes 8G,256G --limit 1M --rounds 3",
            ),
            several_devices,
        ),
    ]
}

/// The document, checked against its schema.
fn document(output: &Output) -> Value {
    assert!(output.success(), "{output:?}");
    assert_eq!(output.stderr(), "");
    schema::document(output, "bench")
}

fn series<'a>(document: &'a Value, placement: &str, size: u64) -> &'a Value {
    let all = document["bars"][0]["series"].as_array().unwrap();
    let is = |own: &&Value| own["placement"] == placement && own["size"] == size;
    all.iter()
        .find(is)
        .unwrap_or_else(|| panic!("{placement} {size}: {document}"))
}

fn number(text: &Value) -> u64 {
    u64::from_str_radix(text.as_str().unwrap().strip_prefix("0x").unwrap(), 16).unwrap()
}

fn leaves_are_exact(output: &Output) {
    let document = document(output);
    for placement in ["plain", "size-aligned", "congruent"] {
        for size in [64 * MIB, GIB] {
            let own = series(&document, placement, size);
            assert_eq!(own["left_out"], Value::Null, "{own}");
            let samples = own["samples"].as_array().unwrap();
            assert_eq!(samples.len(), 2, "{own}");
            for sample in samples {
                // BARs are naturally aligned.
                let ruled = leaf::leaves(number(&sample["address"]), 0, size, &LeafSizes::X86_64);
                let counts = ruled.iter().map(|(size, count)| (size.to_string(), count));
                let counts: Value = counts.collect();
                assert_eq!(sample["expected"], counts, "{own}");
                // Faults of other causes, such as NUMA balancing, can only add to them.
                let faults = sample["faults"].as_u64().unwrap();
                assert!(faults >= ruled.total(), "{own}");
                let times = sample["times"].as_object().unwrap();
                assert_eq!(times.len(), 6);
                assert!(times.values().all(|time| time.as_u64().is_some()), "{own}");
            }
            assert!(samples.iter().any(|own| own["counted"] == true), "{own}");
            let faults = |own: &Value| own["faults"].as_u64().unwrap() - total(&own["expected"]);
            assert_eq!(samples.iter().map(faults).min(), Some(0), "{own}");
        }
        let fewest = series(&document, "congruent", GIB);
        assert_eq!(fewest["leaves"]["max"], 1, "{placement}: {fewest}");
        assert_eq!(
            series(&document, "congruent", 64 * MIB)["leaves"]["max"],
            32
        );
    }
}

/// How many times as long the DMA map of one placement takes as that of another, whose turns may be several: a short one
/// suffers much from a moment's load.
fn ratio(document: &Value, slow: &str, fast: &str) -> f64 {
    let time = |placement| {
        let all = document["bars"][0]["series"].as_array().unwrap();
        let own = all.iter().filter(|own| own["placement"] == placement);
        let times = own.map(|own| own["times"]["dma_map"]["median"].as_f64());
        times.map(Option::unwrap).fold(f64::MAX, f64::min)
    };
    time(slow) / time(fast)
}

fn expected(document: &Value, placement: &str) -> u64 {
    total(&series(document, placement, 4 * GIB)["samples"][0]["expected"])
}

/// The number of leaves of all sizes.
fn total(leaves: &Value) -> u64 {
    let counts = leaves.as_object().unwrap().values();
    counts.map(|count| count.as_u64().unwrap()).sum()
}

/// Where `mmap` returns a multiple of 2 MiB, which happens once in 512 times, there are fewer leaves to compare with.
fn congruent_beats_plain(output: &Output) {
    let document = document(output);
    let (plain, congruent) = (
        expected(&document, "plain"),
        expected(&document, "congruent"),
    );
    assert_eq!(congruent, 4);
    let ratio = ratio(&document, "plain", "congruent");
    println!("4 GiB, DMA map: plain ({plain} leaves) takes {ratio:.0} times as long as congruent");
    let due = 1000.0 * plain as f64 / 1_048_576.0;
    assert!(ratio >= due, "{ratio} for {plain} leaves");
}

fn congruent_beats_size_aligned(output: &Output) {
    let document = document(output);
    let leaves = ["size-aligned", "congruent"].map(|placement| expected(&document, placement));
    assert_eq!(leaves, [1_048_575, 1025]);
    let ratio = ratio(&document, "size-aligned", "congruent");
    println!(
        "4 GiB behind a hole, DMA map: size-aligned takes {ratio:.0} times as long as congruent"
    );
    assert!(ratio >= 100.0, "{ratio}");
}

fn several_devices(output: &Output) {
    let document = document(output);
    // The first BAR is smaller than the sizes: the whole is measured.
    let own = series(&document, "congruent", 4 * GIB);
    assert_eq!(own["leaves"]["max"], 4, "{own}");
    let plain = series(&document, "plain", 4 * GIB);
    assert_eq!(
        (&plain["left_out"], &plain["leaves"]),
        (&"limit".into(), &Value::Null),
        "{plain}"
    );
    let large = document["bars"][1]["series"].as_array().unwrap();
    let large = large
        .iter()
        .find(|own| own["size"] == 256 * GIB && own["placement"] == "congruent");
    assert_eq!(large.unwrap()["leaves"]["max"], 256, "{document}");
    let together = &document["together"];
    assert_eq!(
        (&together["devices"], &together["leaves"]),
        (&2.into(), &260.into()),
        "{document}"
    );
    assert_eq!(together["counted"], true, "{document}");
}
