//! BARs without an address.

use hugebar::leaf::Bytes;
use hugebar::pci::{Header, Resource, Unassigned};
use hugebar::vfio::remedy;

use super::step::Step;

pub(super) const STEP: &str = "bar-address";

/// How many BARs a function has at most.
const BARS: usize = 6;

/// Steps for the BARs that have no address, and for those that read 0 and may have none.
pub(super) fn steps(
    header: Result<Header, String>,
    resources: &[Option<Resource>],
    is_bridge: bool,
) -> Vec<Step> {
    let header = match header {
        Ok(header) => header,
        Err(why) => {
            // The kernel's own flags need no header.
            let mut steps = without_address(&Header::new([0; 64]).without_address(resources));
            let fact = format!("BARs that the kernel has not flagged were not checked: {why}");
            steps.push(Step::ok(STEP, fact));
            return steps;
        }
    };
    let unassigned = header.without_address(resources);
    let mut steps = without_address(&unassigned);
    let zero = header.absent_or_unassigned(resources);
    if zero.is_empty() || is_bridge {
        return steps;
    }
    let fact = format!(
        "{}: either absent, or 32-bit and without an address",
        reads_zero(&zero)
    );
    let is_mapped = |own: &Resource| own.is_memory() && own.has_address();
    // Most devices have fewer than six, so report it only where something is missing.
    if !unassigned.is_empty() {
        steps.push(Step::ok(STEP, fact));
    } else if !resources.iter().take(BARS).flatten().any(is_mapped) {
        let fact = format!("no memory BAR has an address; {fact}");
        let remedy = format!(
            "if one should have an address (dmesg names it), {}",
            remedy::NO_ADDRESS
        );
        steps.push(Step::warning(STEP, fact, remedy));
    }
    steps
}

fn reads_zero(bars: &[u8]) -> String {
    let names: Vec<_> = bars.iter().map(u8::to_string).collect();
    match bars {
        [bar] => format!("BAR {bar} reads 0"),
        _ => format!("BARs {} read 0", names.join(", ")),
    }
}

/// A step for each memory BAR that got no address for lack of room.
fn without_address(unassigned: &[Unassigned]) -> Vec<Step> {
    let step = |own: &Unassigned| {
        let bar = own.bar;
        let fact = match own.size {
            Some(size) => format!("BAR {bar} of {} has no address", Bytes(size)),
            None => format!("BAR {bar} has no address"),
        };
        Step::blocker(STEP, fact, remedy::NO_ADDRESS)
    };
    unassigned.iter().map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::step::Status;

    fn resources(text: &str) -> Vec<Option<Resource>> {
        text.lines()
            .map(|line| Resource::parse(line).unwrap())
            .collect()
    }

    #[test]
    fn a_bar_without_an_address_blocks() {
        let lines = "\
0x00000000fe800000 0x00000000fe800fff 0x0000000000040200
0x000000000000c000 0x000000000000c0ff 0x0000000020040101
0x0000000000000000 0x0000003fffffffff 0x000000002014220c
";
        let blank = Header::new([0; 64]);
        let steps = without_address(&blank.without_address(&resources(lines)));
        let [step] = &steps[..] else {
            panic!("{steps:?}");
        };
        assert_eq!(step.status, Status::Blocker);
        assert_eq!(step.fact, "BAR 2 of 256 GiB has no address");
    }

    const ZERO: &str = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n";

    /// A header with these registers of BARs.
    fn header(registers: [u32; 6]) -> Header {
        let mut bytes = [0; 64];
        for (bar, register) in registers.iter().enumerate() {
            bytes[0x10 + 4 * bar..][..4].copy_from_slice(&register.to_le_bytes());
        }
        Header::new(bytes)
    }

    fn facts(steps: &[Step]) -> Vec<(Status, &str)> {
        steps
            .iter()
            .map(|step| (step.status, &*step.fact))
            .collect()
    }

    /// Reported if another BAR lacks an address, or no memory BAR has one.
    #[test]
    fn a_bar_that_reads_0_is_absent_or_has_no_address() {
        let memory = "0x00000000fe800000 0x00000000fe800fff 0x0000000000040200\n";
        let ports = "0x000000000000c000 0x000000000000c0ff 0x0000000000040101\n";
        let lines = |bars: [&str; 6]| resources(&bars.concat());
        let of = |registers, bars| steps(Ok(header(registers)), &lines(bars), false);
        let zero = [ZERO; 6];
        let mut bars = zero;
        bars[0] = memory;
        assert!(of([0xfe80_0000, 0, 0, 0, 0, 0], bars).is_empty());
        let steps = of([0xfe80_0000, 0, 0x0c, 0, 0, 0], bars);
        let told = "BARs 1, 4, 5 read 0: either absent, or 32-bit and without an address";
        let expected = [
            (Status::Blocker, "BAR 2 has no address"),
            (Status::Ok, told),
        ];
        assert_eq!(facts(&steps), expected);
        bars[0] = ports;
        let steps = of([0xc001, 0, 0, 0, 0, 0], bars);
        let told = "no memory BAR has an address; BARs 1, 2, 3, 4, 5 read 0: either absent, or 32-bit and without an \
                    address";
        assert_eq!(facts(&steps), [(Status::Warning, told)]);
        assert!(
            steps[0]
                .remedy
                .as_ref()
                .unwrap()
                .ends_with(remedy::NO_ADDRESS)
        );
        assert!(
            super::steps(Ok(header([0; 6])), &lines(zero), true).is_empty(),
            "a bridge needs none"
        );
    }

    #[test]
    fn a_header_that_was_not_read_is_told() {
        let lines = format!("{ZERO}0x0000000000000000 0x000000000000ffff 0x0000000020040200\n");
        let steps = steps(Err("off".into()), &resources(&lines), false);
        let [flagged, unknown] = &steps[..] else {
            panic!("{steps:?}");
        };
        assert_eq!(flagged.fact, "BAR 1 of 64 KiB has no address");
        assert_eq!(unknown.status, Status::Ok);
        assert!(unknown.fact.ends_with("not checked: off"), "{unknown:?}");
    }
}
