//! The units of systemd in `dist/systemd`.

use std::fs;
use std::path::Path;
use std::process::Command;

const UNITS: [&str; 4] = [
    "hugebar-metrics.service",
    "hugebar-metrics.timer",
    "hugebar-nfd.service",
    "hugebar-nfd.timer",
];

/// Where packages install the command.
const INSTALLED: &str = "/usr/bin/hugebar";

fn unit(name: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../dist/systemd");
    fs::read_to_string(Path::new(folder).join(name)).unwrap()
}

/// What `systemd-analyze verify` says about units, which call this build instead of the installed command; `None` where
/// there is no systemd.
fn verified(change: impl Fn(&str) -> String) -> Option<(bool, String)> {
    let folder = tempfile::tempdir().unwrap();
    let paths = UNITS.map(|name| folder.path().join(name));
    for (name, path) in UNITS.iter().zip(&paths) {
        let text = change(&unit(name));
        let text = text.replace(INSTALLED, env!("CARGO_BIN_EXE_hugebar"));
        fs::write(path, text).unwrap();
    }
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--man=no"]).args(&paths);
    let output = match command.output() {
        Err(error) => {
            println!("not checked: systemd-analyze: {error}");
            return None;
        }
        output => output.unwrap(),
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // It also complains about other units of this machine.
    let own = said.lines().filter(|line| line.contains("hugebar"));
    let own: Vec<_> = own.collect();
    Some((output.status.success(), own.join("\n")))
}

#[test]
fn systemd_accepts_the_units() {
    let Some((success, said)) = verified(str::to_owned) else {
        return;
    };
    assert!(success && said.is_empty(), "{said}");
    for (right, wrong) in [
        ("ProtectSystem=strict", "ProtectSystm=strict"),
        (INSTALLED, "/no/hugebar"),
    ] {
        let (_, said) = verified(|text| text.replace(right, wrong)).unwrap();
        assert!(!said.is_empty(), "{wrong}");
    }
}

/// The command accepts the lines that the units run.
#[test]
fn the_command_accepts_its_arguments() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().display().to_string();
    let mut run = 0;
    for name in UNITS {
        for line in unit(name).lines() {
            let Some(line) = line.strip_prefix("ExecStart=") else {
                continue;
            };
            let words = line.split_whitespace().map(|word| {
                let (start, path) = word.split_once("=/").unwrap_or((word, ""));
                let file = Path::new(path).file_name().unwrap_or_default();
                match path {
                    "" => word.to_owned(),
                    _ => format!("{start}={folder}/{}", file.to_string_lossy()),
                }
            });
            let words: Vec<_> = words.collect();
            assert_eq!(words[0], INSTALLED);
            let mut command = Command::new(env!("CARGO_BIN_EXE_hugebar"));
            let output = command.args(&words[1..]).output().unwrap();
            assert!(output.status.success(), "{line}: {output:?}");
            assert!(output.stdout.is_empty(), "{line}: {output:?}");
            run += 1;
        }
    }
    assert_eq!((run, fs::read_dir(&folder).unwrap().count()), (3, 3));
}
