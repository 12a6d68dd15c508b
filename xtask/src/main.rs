//! `cargo xtask`: the lab, its kernel, the demo, the tests, packages, and installing the library for C.

mod bench;
mod demo;
mod dist;
mod install_c;
mod kernel;
mod shared;
mod soak;
mod table;
mod test;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "The lab, the demo and the tests of hugebar"
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    Bench(bench::Args),
    Demo(demo::Args),
    Dist(dist::Args),
    InstallC(install_c::Args),
    Kernel(kernel::Args),
    Soak(soak::Args),
    Test(test::Args),
    Vm(Box<vm::Args>),
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Bench(args) => bench::run(&args),
        Task::Demo(args) => demo::run(&args),
        Task::Dist(args) => dist::run(&args),
        Task::InstallC(args) => install_c::run(&args),
        Task::Kernel(args) => kernel::run(&args),
        Task::Soak(args) => soak::run(&args),
        Task::Test(args) => test::run(&args),
        Task::Vm(args) => vm::run(&args),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_options_do_not_contradict_one_another() {
        super::Cli::command().debug_assert();
    }
}
