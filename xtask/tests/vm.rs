//! `cargo xtask vm` as users run it: it passes on the output and exit status of the command in the guest, and nothing
//! else.

use std::process::{Command, Output, Stdio};

fn vm(arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xtask"))
        .arg("vm")
        .args(arguments.split_whitespace())
        .stdin(Stdio::null())
        .output()
        .expect("xtask")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_commands_own_output_and_status() {
    let mapped =
        "--kernel newest --thp madvise --timeout 900 -- hugebar map 0000:00:10.0 --bar 2 --json";
    let output = vm(mapped);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("only JSON");
    assert_eq!(report["thp"], "madvise");
    assert_eq!(report["regions"][0]["measured"]["1073741824"], 4);

    let small =
        "--device pci-testdev,membar=256M --timeout 900 -- hugebar map 0000:00:10.0 --require 1G";
    let output = vm(small);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(stdout(&output).contains("256 MiB, congruent"), "{output:?}");

    let missing = vm("--timeout 900 -- no-such-program");
    assert_eq!(missing.status.code(), Some(127), "{missing:?}");
    assert_eq!(stdout(&missing), "");
}

#[test]
fn machines_that_do_not_get_through() {
    let crashed = vm("--timeout 900 -- @write /proc/sysrq-trigger c");
    assert_eq!(crashed.status.code(), Some(125), "{crashed:?}");
    let text = String::from_utf8_lossy(&crashed.stderr).into_owned();
    assert!(text.contains("sysrq triggered crash"), "{text}");

    let endless = vm("--timeout 15 -- @sleep 1000");
    assert_eq!(endless.status.code(), Some(124), "{endless:?}");

    let unknown = vm("--kernel 1.2.3 -- hugebar");
    assert_eq!(unknown.status.code(), Some(2), "{unknown:?}");
    assert_eq!(stdout(&unknown), "");
}
