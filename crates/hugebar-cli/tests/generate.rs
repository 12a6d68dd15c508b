//! `hugebar completions` and `hugebar man`.

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
    assert!(page.contains(".TH hugebar 1"), "{page}");
    for command in COMMANDS {
        assert!(
            page.contains(&format!("hugebar\\-{command}(1)")),
            "{command}"
        );
        let own = text(&["man", command]);
        assert!(own.contains(&format!(".TH hugebar-{command} 1")), "{own}");
    }
    assert_eq!(hugebar(&["man", "nothing"]).status.code(), Some(2));
}

#[test]
fn a_closed_pipe_is_no_error() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hugebar"));
    command.args(["completions", "zsh"]).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}
