//! What counting the leaves of a BAR costs, beside making it present without a count.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hugebar::mem::{Mapping, Span};
use hugebar::pci::Address;
use hugebar::plan::Placement;
use hugebar::populate::{Populate, Type1, install, present};
use hugebar::vfio::Backend;

use crate::bar::{self, Bar};

/// Ways to have all leaves installed: the steps for each leaf, and those before the first one. A census first populates a page
/// of its own twice.
const WAYS: [(&str, u64, u64); 3] = [("present", 1, 0), ("install", 2, 0), ("census", 4, 2)];

/// Populates as type1 does, and counts how often.
struct Counted {
    type1: Type1,
    steps: u64,
}

impl Populate for Counted {
    fn name(&self) -> &'static str {
        self.type1.name()
    }

    fn populate(&mut self, span: &Span<'_>) -> hugebar::Result<Duration> {
        self.steps += 1;
        self.type1.populate(span)
    }
}

/// Makes BAR 2 present each way in turn, always by a new mapping. Prints as JSON the steps, and how long the last `rounds` rounds
/// took, in nanoseconds. The first is not counted: in it the thread has faults of its own (code, stack, heap).
pub(crate) fn run(address: Address, rounds: usize) -> Result<()> {
    ensure!(rounds > 0, "no rounds");
    let own = Bar::of(bar::open(address, Backend::Type1)?)?;
    let plan = own.plan(&[], Placement::Congruent)?;
    let leaves = plan.best().total();
    let mut times = WAYS.map(|_| Vec::new());
    for round in 0..=rounds {
        for ((way, steps, before), times) in WAYS.into_iter().zip(&mut times) {
            let mapping = own.map(&plan)?;
            let took = take(&own, &mapping, way)?;
            if round > 0 {
                ensure!(
                    took.faults == leaves && took.steps == before + steps * leaves,
                    "{way}: {} faults in {} steps for {leaves} leaves",
                    took.faults,
                    took.steps
                );
                times.push(took.time.as_nanos());
            }
        }
    }
    let all = WAYS.into_iter().zip(&times);
    let all = all.map(|((way, steps, _), times)| {
        format!("{{\"way\": \"{way}\", \"steps\": {steps}, \"times\": {times:?}}}")
    });
    let all: Vec<_> = all.collect();
    println!("{{\"leaves\": {leaves}, \"ways\": [{}]}}", all.join(", "));
    Ok(())
}

/// What a way took.
struct Took {
    faults: u64,
    steps: u64,
    time: Duration,
}

/// Has the leaves of a new mapping installed.
fn take(own: &Bar, mapping: &Mapping, way: &str) -> Result<Took> {
    let sizes = own.facts.device_leaf_sizes();
    let container = own.device.container().context("no container")?;
    let mut populate = Counted {
        type1: Type1::new(container)?,
        steps: 0,
    };
    let begin = Instant::now();
    let faults = match way {
        "present" => present(mapping, &sizes, &mut populate)?.faults,
        "install" => install(mapping, &mut populate)?.faults,
        _ => bar::count_by(mapping, &own.facts, &mut populate)?.faults,
    };
    Ok(Took {
        time: begin.elapsed(),
        faults,
        steps: populate.steps,
    })
}
