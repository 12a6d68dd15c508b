//! `hugebar completions` and `hugebar man`.

use std::fs;
use std::process::{Command, Output, Stdio};

const COMMANDS: [&str; 8] = [
    "map", "inspect", "doctor", "plan", "list", "show", "vf", "resize",
];

fn hugebar(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hugebar"));
    command.args(arguments).output().unwrap()
}

fn text(arguments: &[&str]) -> String {
    let output = hugebar(arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn completions_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let text = text(&["completions", shell]);
        for command in COMMANDS {
            assert!(text.contains(command), "{shell}: {command}");
        }
        assert!(text.contains("noheadings"), "{shell}");
    }
    assert_eq!(hugebar(&["completions", "cmd"]).status.code(), Some(2));
}

#[test]
fn bash_accepts_its_completions() {
    let script = text(&["completions", "bash"]);
    let mut bash = Command::new("bash");
    let checked = bash.args(["-n", "-c", &script]).status().unwrap();
    assert!(checked.success());
}

#[test]
fn manual_pages() {
    let page = text(&["man"]);
    assert!(page.contains(".TH hugebar 8"), "{page}");
    for command in COMMANDS {
        assert!(
            page.contains(&format!("hugebar\\-{command}(8)")),
            "{command}"
        );
        let own = text(&["man", command]);
        assert!(own.contains(&format!(".TH hugebar-{command} 8")), "{own}");
    }
    assert_eq!(hugebar(&["man", "nothing"]).status.code(), Some(2));
    let examples = text(&["man", "vf"]);
    assert!(
        examples.contains(".SH EXAMPLES\n.nf\nhugebar vf 01:00.0 "),
        "{examples}"
    );
}

/// Every command that the program's page refers to has one, and its own page has a name for `whatis`.
#[test]
fn all_manual_pages() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    assert_eq!(text(&["man", "--output", path]), "");
    let page = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    let program = page("hugebar.8");
    let references = program
        .lines()
        .filter(|line| line.starts_with("hugebar\\-"));
    let names: Vec<_> = references
        .map(|line| line.replace("\\-", "-").replace("(8)", ".8"))
        .collect();
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        names.len() + 1
    );
    for name in names {
        let own = page(&name);
        assert!(own.contains(".SH NAME\nhugebar\\-"), "{own}");
    }
    let failed = hugebar(&["man", "--output", "/nowhere"]);
    assert_eq!(failed.status.code(), Some(2));
}

#[test]
fn a_closed_pipe_is_no_error() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hugebar"));
    command.args(["completions", "zsh"]).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}
