//! Examples, which stand first in the help of each command and in its manual page.

pub(super) const MAP: &str = "\
Examples:
  hugebar map 0000:01:00.0                         every BAR: best, expected and measured leaves
  hugebar map 10de:2331 --bar 2 --require 1G       exit status 1 unless every 1 GiB block is a leaf
  hugebar map 01:00.0 --bar 2 --exclude 24K+4K     with a hole, as for an MSI-X table
  hugebar map 01:00.0 --bar 2 --placement plain --json";

pub(super) const BENCH: &str = "\
Examples:
  hugebar bench 01:00.0                            the largest BAR, several prefixes of it
  hugebar bench 01:00.0 --sizes 256M,1G,4G --html bench.html
  hugebar bench 01:00.0 02:00.0 --placement congruent --no-dma
  hugebar bench 01:00.0 --exclude 24K+4K --budget 300 --csv";

pub(super) const INSPECT: &str = "\
Examples:
  hugebar inspect                                  every process with VFIO mappings
  hugebar inspect 4711 --require 1G                exit status 1 unless its leaves are that large
  hugebar inspect 01:00.0 --json
  hugebar inspect -o pid,device,possible --noheadings";

pub(super) const DOCTOR: &str = "\
Examples:
  hugebar doctor                                   the host
  hugebar doctor 01:00.0                           the host and a device
  hugebar doctor 01:00.0 --report bug.txt --redact  without what identifies the host";

pub(super) const PLAN: &str = "\
Examples:
  hugebar plan 128G                                what a BAR of 128 GiB costs on this machine
  hugebar plan 64G --exclude 24K+4K                with a hole, as for an MSI-X table
  hugebar plan 0x2F00F00000 --sizes arm64-64k      on an arm64 machine with 64 KiB pages
  hugebar plan 4G --at 0x380000007000              at a physical address
  hugebar plan 4G --hva 0x7f1240000000             mapped at an address";

pub(super) const LIST: &str = "\
Examples:
  hugebar list
  hugebar list --all -o device,bars,driver
  hugebar list --noheadings -o device | xargs -n 1 hugebar doctor";

pub(super) const SHOW: &str = "\
Examples:
  hugebar show 01:00.0
  hugebar show 10de:2331 --json";

pub(super) const BIND: &str = "\
Examples:
  hugebar bind 01:00.0
  hugebar bind 01:00.0 --group --dry-run           what it would do, with all functions of the group
  hugebar bind 01:00.0 --owner qemu:kvm            for a program without privilege";

pub(super) const RESTORE: &str = "\
Examples:
  hugebar restore 01:00.0
  hugebar restore 01:00.0 --group";

pub(super) const VF: &str = "\
Examples:
  hugebar vf 01:00.0                               how many there are, and the room for their BARs
  hugebar vf 01:00.0 4                             creates four
  hugebar vf 01:00.0 0                             removes all
  hugebar vf 01:00.0 4 -o device --noheadings | xargs hugebar bind";

pub(super) const RESIZE: &str = "\
Examples:
  hugebar resize 01:00.0 --bar 0                   the sizes that it can have, and what the windows allow
  hugebar resize 01:00.0 --bar 0 16G --dry-run     the steps
  hugebar resize 01:00.0 --bar 0 16G";

pub(super) const RUN: &str = "\
Examples:
  hugebar run -- qemu-system-x86_64 -device vfio-pci,host=0000:01:00.0 ...
  hugebar run --report mappings.jsonl -- ./driver 0000:01:00.0";

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::super::Args;

    /// Commands that are nothing but their one form.
    const WITHOUT: [&str; 3] = ["completions", "help", "man"];

    #[test]
    fn each_command_has_examples_that_it_accepts() {
        for command in Args::command().get_subcommands() {
            let name = command.get_name();
            let Some(examples) = command.get_before_help() else {
                assert!(WITHOUT.contains(&name), "{name}");
                continue;
            };
            let text = examples.to_string();
            let lines: Vec<_> = text.lines().skip(1).map(str::trim_start).collect();
            assert!(!lines.is_empty(), "{name}");
            for line in lines {
                let line = line.split("  ").next().unwrap_or_default();
                for own in line.split(" | ").filter(|own| !own.starts_with("xargs")) {
                    let words: Vec<_> = own.split(' ').collect();
                    assert_eq!(words[..2], ["hugebar", name], "{line}");
                    Args::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
                }
            }
        }
    }
}
