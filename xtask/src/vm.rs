//! `cargo xtask vm`: one command on a real kernel in a virtual machine, as if it ran here.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use hugebar_lab::cache::Cache;
use hugebar_lab::{Arch, Command, DEFAULT_DEVICE, HostFile, Spec, Stream, Thp, install, kernel};

use crate::shared::{Consent, guest_failed};

/// Run a command on a real kernel in a virtual machine, with devices bound to vfio-pci.
///
/// Prints only the command's output. The exit status is the command's; 125 if the guest crashed or hung,
/// 124 if the time ran out, 2 if the guest could not be started.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The guest's architecture, x86-64 or arm64
    #[arg(long, default_value_t)]
    arch: Arch,
    /// 6.1, 6.12, 6.18, newest, lab, an exact version, host, or the path of an image; for arm64 newest, newest-16k, lab-64k, a version, or an image
    #[arg(long, default_value = "newest", value_name = "KERNEL")]
    kernel: String,
    /// The folder lib/modules/RELEASE that belongs to an image
    #[arg(long, value_name = "DIR")]
    modules: Option<PathBuf>,
    /// Policy for transparent huge pages: always, madvise or never [default: the kernel's]
    #[arg(long, value_name = "POLICY")]
    thp: Option<Thp>,
    #[arg(long = "device", value_name = "QEMU_DEVICE", help = format!("A device, as for QEMU's -device; the first is at 0000:00:10.0, the next at 0000:00:11.0 [default: {DEFAULT_DEVICE}]"))]
    devices: Vec<String>,
    /// Run the command even if a BAR has no address
    #[arg(long)]
    may_lack_addresses: bool,
    /// Leave the devices to the kernel's own drivers
    #[arg(long)]
    no_bind: bool,
    /// Words for the kernel's command line
    #[arg(long, value_name = "ARGS", allow_hyphen_values = true)]
    append: Vec<String>,
    /// Arguments for QEMU, separated by spaces
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    qemu: Vec<String>,
    /// Copy a file or folder into the guest; programs go to /bin with the shared libraries that they need
    #[arg(long, value_name = "FILE_OR_FOLDER[:GUEST_PATH]")]
    copy: Vec<HostFile>,
    /// Memory of the guest
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    memory: u32,
    /// CPUs of the guest
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=255))]
    cpus: u32,
    /// Seconds after which the guest is ended
    #[arg(long, value_name = "S", default_value_t = 120)]
    timeout: u64,
    /// Write the kernel's console to a file
    #[arg(long, value_name = "FILE")]
    console: Option<PathBuf>,
    /// The Cargo profile for building hugebar
    #[arg(long, default_value = "dev")]
    profile: String,
    #[command(flatten)]
    consent: Consent,
    /// The command; hugebar is on the guest's PATH
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    install::ensure_machine(args.arch, args.consent.yes)?;
    kernel::prepare(&Cache::open()?, &args.kernel, args.arch, args.consent.yes)?;
    let command = Command::new(args.command.iter().map(String::as_str));
    // A reader that goes away early must not take the command's exit status with it.
    let mut print = |_, stream, bytes: &[u8]| match stream {
        Stream::Stdout => {
            let _ = io::stdout()
                .write_all(bytes)
                .and_then(|()| io::stdout().flush());
        }
        Stream::Stderr => {
            let _ = io::stderr().write_all(bytes);
        }
    };
    match spec(args).run_with(&[command], &mut print) {
        Ok(report) => Ok(status(report.commands[0].code())),
        Err(error) => guest_failed(error),
    }
}

fn spec(args: &Args) -> Spec {
    let mut spec = Spec::new(&args.kernel)
        .arch(args.arch)
        .memory(args.memory)
        .cpus(args.cpus)
        .timeout(Duration::from_secs(args.timeout))
        .profile(&args.profile);
    if let Some(modules) = &args.modules {
        spec = spec.modules(modules);
    }
    if let Some(thp) = args.thp {
        spec = spec.thp(thp);
    }
    if args.may_lack_addresses {
        spec = spec.may_lack_addresses();
    }
    if args.no_bind {
        spec = spec.no_bind();
    }
    if let Some(console) = &args.console {
        spec = spec.console(console);
    }
    spec = args.devices.iter().fold(spec, Spec::device);
    spec = args.append.iter().fold(spec, Spec::append);
    spec = args.qemu.iter().fold(spec, |spec, words| spec.qemu(words));
    args.copy.iter().cloned().fold(spec, Spec::copy)
}

fn status(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(125))
}
