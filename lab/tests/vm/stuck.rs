//! Processes that cannot be inspected, because they wait in a system call with their address space locked:
//! any user can create one, and no command waits for it.

use hugebar_lab::{Command, Status};
use std::time::Duration;

use crate::device::with_exercise;
use crate::inspect::{Report, inspect};
use crate::report::{ErrorReport, map};

/// Far longer than any of these commands takes, and far shorter than a machine may.
const LIMIT: Duration = Duration::from_secs(120);

fn nobody_waits(kernel: &str) {
    let doctor = || Command::new(["hugebar", "doctor", "0000:00:10.0", "--json"]);
    let report = with_exercise(kernel)
        .copy("/bin/cat".parse().unwrap())
        .run(&[
            // As udev sets it.
            Command::new(["@chmod", "666", "/dev/fuse"]),
            Command::new(["exercise", "stuck"])
                .uid(1000)
                .background("stuck"),
            // A reader without a deadline waits for ever.
            Command::new(["cat", "/proc/{pid:1}/maps"]).time_limit(Duration::from_secs(5)),
            doctor().time_limit(LIMIT),
            map("0000:00:10.0 --bar 2 --hold").background("BAR 2"),
            inspect("--json").time_limit(LIMIT),
            inspect("").time_limit(LIMIT),
            // Its owner's requests to the file system get no answer either.
            inspect("--json").uid(1000).time_limit(LIMIT),
            doctor().uid(1000).time_limit(LIMIT),
            inspect("{pid:1} --json").time_limit(LIMIT),
            inspect("{pid:4} --require 1G").time_limit(LIMIT),
            doctor().time_limit(LIMIT),
        ])
        .unwrap();
    let [
        _,
        made,
        waits,
        free,
        _,
        all,
        text,
        user,
        user_doctor,
        stuck,
        other,
        held,
    ] = &report.commands[..]
    else {
        panic!("{report:?}");
    };
    assert!(made.stderr().contains("stuck"), "{made:?}");
    assert_eq!(waits.status, Some(Status::TimedOut), "{waits:?}");
    assert_eq!(free.code(), 0, "{free:?}");
    let seen = "no process visible to this user has it open; 1 process does not answer";
    assert!(free.stdout().contains(seen), "{free:?}");
    let seen = Report::of(all);
    assert_eq!((seen.processes.len(), seen.unreadable), (1, 1), "{all:?}");
    assert_eq!(seen.unanswered, 1, "{all:?}");
    let line = "processes that do not answer: 1";
    assert!(text.success() && text.stdout().contains(line), "{text:?}");
    let seen = Report::of(user);
    assert_eq!(seen.unanswered, 1, "{user:?}");
    assert!(
        user_doctor.stdout().contains("1 process does not answer"),
        "{user_doctor:?}"
    );
    assert_eq!(stuck.code(), 2, "{stuck:?}");
    assert_eq!(ErrorReport::of(stuck).error.kind, "timed-out");
    assert_eq!(other.code(), 0, "{other:?}");
    assert_eq!(held.code(), 1, "{held:?}");
    assert!(held.stdout().contains("(hugebar) has it open"), "{held:?}");
}

#[test]
fn nobody_waits_on_6_12() {
    nobody_waits("6.12");
}

#[test]
fn nobody_waits_on_the_newest() {
    nobody_waits("newest");
}
