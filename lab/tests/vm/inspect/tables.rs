//! What the size of a process's page tables says of its mappings.

use hugebar::leaf::{GIB, KIB};
use hugebar_lab::{Command, HostFile, Output, Thp};

use super::{Process, Report, inspect};
use crate::device::with_exercise;
use crate::report::map;
use crate::schema::document;

/// What the size of the page tables says: of a BAR in the leaves that it can have, of one at as good an address whose
/// leaves are base pages, because of an advice that only smaps would show, and of one that nothing has touched.
fn page_tables_speak(kernel: &str) {
    const BASE_PAGES_OF_1_GIB: u64 = GIB / (4 * KIB) * 8;
    let device = "pci-testdev,membar=1G";
    let hold = |arguments: &str| {
        map(&format!("{arguments} --bar 2 --hold --backend type1"))
            .thp(Thp::Always)
            .background("BAR 2")
    };
    let untouched = Command::new(["exercise", "mapped", "0000:00:12.0"]);
    // Reads a line of smaps, and keeps it open.
    let reads = "exec</proc/{pid:0}/smaps;read\tline;echo\tready;exec\tsleep\t600";
    let program = |host: &str| HostFile {
        host: host.into(),
        guest: None,
    };
    let report = with_exercise(kernel)
        .copy(program("/usr/bin/sh"))
        .copy(program("/usr/bin/sleep"))
        .device(device)
        .device(device)
        .device(device)
        .run(&[
            hold("0000:00:10.0"),
            hold("0000:00:11.0 --hint no-hugepage"),
            untouched.background("mapped"),
            inspect("--json"),
            inspect("{pid:0} --require 1G"),
            inspect("{pid:1} --require 1G"),
            inspect("{pid:1} --require optimal"),
            inspect("{pid:1} --require 4K"),
            inspect("{pid:2} --require 1G"),
            inspect("{pid:1}"),
            inspect("--watchers --json"),
            Command::new(["sh", "-c", reads]).background("ready"),
            inspect("--watchers --json"),
            inspect("{pid:0} --watchers=100ms"),
        ])
        .unwrap();
    let [_, _, _, all, codes @ .., text, unwatched, _, watched, told] = &report.commands[..] else {
        panic!("{report:?}");
    };
    let all = Report::of(all).processes;
    // For docs/inspect.md.
    let sizes = all.iter().filter_map(|process| process.page_tables);
    println!(
        "{kernel}: bytes of page tables {:?}",
        sizes.collect::<Vec<_>>()
    );
    let judged = |process: &Process| {
        let mapping = &process.mappings[0];
        // By their addresses they are alike.
        assert_eq!(mapping.possible(), [1, 0, 0], "{process:?}");
        let codes: Vec<_> = mapping.reasons.iter().map(|one| one.code.clone()).collect();
        let judged = (mapping.judgement.clone(), mapping.not_in_base_pages);
        let small = process.page_tables.unwrap() < BASE_PAGES_OF_1_GIB;
        assert_eq!(mapping.not_in_base_pages, small, "{process:?}");
        (judged, mapping.optimal, codes.concat())
    };
    let fine = (("optimal".to_owned(), true), true, String::new());
    let contradicted = ("contradicted".to_owned(), false);
    let [large, pages, untouched] = &all[..] else {
        panic!("{all:?}");
    };
    assert_eq!(judged(large), fine);
    assert_eq!(
        judged(pages),
        (contradicted, false, "page-tables".to_owned())
    );
    assert_eq!(judged(untouched), fine);
    let codes: Vec<_> = codes.iter().map(Output::code).collect();
    assert_eq!(codes, [0, 1, 1, 0, 0], "{report:?}");
    assert!(text.stdout().contains("contradicted"), "{text:?}");

    let watchers = |output| document(output, "inspect")["watchers"].clone();
    assert_eq!(watchers(unwatched), serde_json::json!([]));
    let watchers = watchers(watched);
    let [watcher] = &watchers.as_array().unwrap()[..] else {
        panic!("{watchers}");
    };
    assert_eq!(watcher["watched"], large.pid);
    for (name, value) in [("name", "sleep"), ("file", "smaps")] {
        assert_eq!(watcher[name], value);
    }
    assert_eq!(
        (&watcher["has_read"], &watcher["certain"]),
        (&true.into(), &true.into())
    );
    let line = format!(
        "(sleep) has smaps open, of process {}, and has read it",
        large.pid
    );
    assert!(told.stdout().contains(&line), "{told:?}");
}

#[test]
fn page_tables_speak_on_6_12() {
    page_tables_speak("6.12");
}

#[test]
fn page_tables_speak_on_the_newest() {
    page_tables_speak("newest");
}
