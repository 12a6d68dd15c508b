//! Describes a virtual machine: the entry point for tests and commands.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hugebar_lab_guest::job::JOB_PATH;
use hugebar_lab_guest::{Command, Job, Thp};

use crate::arch::Arch;
use crate::boot::{self, Boot, End, Sink};
use crate::cache::Cache;
use crate::copy::{Copier, HostFile};
use crate::debian::Program;
use crate::hang::Console;
use crate::initramfs::{Initramfs, Source};
use crate::kernel::{self, Kernel};
use crate::machine::{self, Accelerator, DEFAULT_DEVICE, Device, Machine};
use crate::report::{Failure, FailureKind, Report, Stream};
use crate::slot::{self, Slot};
use crate::{console, install, programs};

/// How often a boot is tried: with some kernels about one boot in fifty dies early in an emulated machine.
const ATTEMPTS: u32 = 3;

/// A virtual machine to start: a kernel, devices, and the guest's settings.
#[derive(Clone, Debug)]
pub struct Spec {
    arch: Arch,
    kernel: String,
    modules: Option<PathBuf>,
    thp: Option<Thp>,
    devices: Vec<String>,
    addresses: bool,
    bind: bool,
    load: bool,
    append: Vec<String>,
    qemu: Vec<String>,
    qemu_program: Option<Program>,
    copies: Vec<HostFile>,
    memory_mib: u32,
    cpus: u32,
    timeout: Duration,
    profile: String,
    console: Option<PathBuf>,
    emulated: bool,
    parallel: bool,
    acpi_tables: Vec<Vec<u8>>,
}

/// The parts of a machine that stay the same over several boots.
struct Parts {
    kernel: Kernel,
    /// The command that runs QEMU.
    qemu: Vec<String>,
    devices: Vec<Device>,
    /// Whether QEMU can start an uncompressed kernel: a fetched one lacks the ROM for it (`pvh.bin`).
    uncompressed: bool,
}

impl Parts {
    /// What QEMU starts.
    fn image(&self) -> &Path {
        let vmlinux = self.kernel.vmlinux.as_deref();
        vmlinux
            .filter(|_| self.uncompressed)
            .unwrap_or(&self.kernel.vmlinuz)
    }
}

impl Spec {
    /// A machine with this kernel: `6.1`, `6.12.107`, `newest`, `lab`, `host`, or the path of an image.
    pub fn new(kernel: impl Into<String>) -> Self {
        Spec {
            arch: Arch::X86_64,
            kernel: kernel.into(),
            modules: None,
            thp: None,
            devices: Vec::new(),
            addresses: true,
            bind: true,
            load: true,
            append: Vec::new(),
            qemu: Vec::new(),
            qemu_program: None,
            copies: Vec::new(),
            memory_mib: 1024,
            cpus: 2,
            timeout: Duration::from_secs(120),
            profile: "dev".into(),
            console: None,
            emulated: false,
            parallel: false,
            acpi_tables: Vec::new(),
        }
    }

    /// The architecture; by default that of this host. The kernel and all programs have to be of the same, and for arm64
    /// the kernel is `newest`, `newest-16k` (with pages of 16 KiB), `lab-64k`, a version, or the path of an image.
    #[must_use]
    pub fn arch(mut self, arch: Arch) -> Self {
        self.arch = arch;
        self
    }

    /// The modules of a kernel given by its path: its folder `lib/modules/RELEASE`.
    #[must_use]
    pub fn modules(mut self, dir: impl Into<PathBuf>) -> Self {
        self.modules = Some(dir.into());
        self
    }

    /// The policy for transparent huge pages; by default the kernel's.
    #[must_use]
    pub fn thp(mut self, policy: Thp) -> Self {
        self.thp = Some(policy);
        self
    }

    /// Adds a device, as for QEMU's `-device`. The first is at 0000:00:10.0, the next at 0000:00:11.0, and so on, unless it has its own address.
    /// Without any, the machine has [`DEFAULT_DEVICE`].
    ///
    /// A bridge (`pcie-root-port,id=port1`) is bound to no driver. Devices behind it (`bus=port1`) come after it; the first
    /// bridge's bus is 01.
    #[must_use]
    pub fn device(mut self, device: impl Into<String>) -> Self {
        self.devices.push(device.into());
        self
    }

    /// Runs the commands even if firmware and kernel have found no address for a memory BAR. Otherwise that is a
    /// [`FailureKind::Setup`] with the kernel's messages, because it is the machine's fault, not a command's.
    #[must_use]
    pub fn may_lack_addresses(mut self) -> Self {
        self.addresses = false;
        self
    }

    /// Leaves the devices to the kernel's drivers, instead of binding them to vfio-pci.
    #[must_use]
    pub fn no_bind(mut self) -> Self {
        self.bind = false;
        self
    }

    /// Loads no kernel modules, and so binds no devices: a host that has never used VFIO.
    #[must_use]
    pub fn no_modules(mut self) -> Self {
        self.load = false;
        self.no_bind()
    }

    /// Adds words to the kernel's command line.
    #[must_use]
    pub fn append(mut self, words: impl Into<String>) -> Self {
        self.append.push(words.into());
        self
    }

    /// Adds arguments for QEMU, separated by spaces.
    #[must_use]
    pub fn qemu(mut self, arguments: &str) -> Self {
        self.qemu
            .extend(arguments.split_whitespace().map(str::to_owned));
        self
    }

    /// Runs the machine with the QEMU and firmware of another Debian release, such as
    /// [`QEMU_10_0`](crate::debian::QEMU_10_0), instead of this host's. Network cards then need `romfile=`, because
    /// their ROMs are in another package.
    #[must_use]
    pub fn qemu_program(mut self, program: Program) -> Self {
        self.qemu_program = Some(program);
        self
    }

    /// Copies a file or folder into the guest; see [`HostFile`].
    #[must_use]
    pub fn copy(mut self, copy: HostFile) -> Self {
        self.copies.push(copy);
        self
    }

    /// Gives the kernel an ACPI table that replaces the firmware's of the same name, or is added to them. It needs a
    /// higher OEM revision than the firmware's, and a kernel with `ACPI_TABLE_UPGRADE`, such as Debian's.
    #[must_use]
    pub fn acpi_table(mut self, table: Vec<u8>) -> Self {
        self.acpi_tables.push(table);
        self
    }

    /// The guest's memory in MiB; by default 1024.
    #[must_use]
    pub fn memory(mut self, mib: u32) -> Self {
        self.memory_mib = mib;
        self
    }

    /// The guest's CPUs; by default 2.
    #[must_use]
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.cpus = cpus;
        self
    }

    /// How long everything may take; by default 120 s.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// The Cargo profile for building `hugebar` and PID 1; by default `dev`.
    #[must_use]
    pub fn profile(mut self, profile: impl Into<String>) -> Self {
        self.profile = profile.into();
        self
    }

    /// A file for the kernel's console.
    #[must_use]
    pub fn console(mut self, file: impl Into<PathBuf>) -> Self {
        self.console = Some(file.into());
        self
    }

    /// Emulates the processor even if this host has KVM: an emulated one provides KVM in the guest, whatever
    /// the host's processor and the settings of its KVM.
    #[must_use]
    pub fn emulated(mut self) -> Self {
        self.emulated = true;
        self
    }

    /// Gives each emulated CPU a thread of its own, to measure programs with several. A busy host loses some boots by that.
    #[must_use]
    pub fn parallel(mut self) -> Self {
        self.parallel = true;
        self
    }

    /// Boots, runs the commands one after the other, and powers off.
    ///
    /// # Errors
    /// A [`Failure`] if the guest did not run all commands; another error if it could not be started.
    pub fn run(&self, commands: &[Command]) -> Result<Report> {
        self.run_with(commands, &mut |_, _, _| {})
    }

    /// The same, passing on output as it arrives: the index of the command, the stream, and the bytes.
    ///
    /// # Errors
    /// As [`Spec::run`].
    pub fn run_with(
        &self,
        commands: &[Command],
        sink: &mut dyn FnMut(usize, Stream, &[u8]),
    ) -> Result<Report> {
        ensure!(
            cfg!(target_arch = "x86_64"),
            "the lab builds programs for its guests on x86-64 only"
        );
        ensure!(
            self.arch == Arch::X86_64 || self.acpi_tables.is_empty(),
            "a machine of {} has no ACPI tables",
            self.arch
        );
        install::check(self.arch)?;
        let cache = Cache::open()?;
        // Fetch everything before taking the slot, for which others wait.
        let parts = Parts {
            kernel: kernel::resolve(&cache, &self.kernel, self.arch, self.modules.as_deref())?,
            qemu: self.qemu_words(&cache)?,
            devices: machine::place(&self.placed())?,
            uncompressed: self.qemu_program.is_none(),
        };
        let initramfs = self.initramfs(&parts, commands)?;
        let slot = Slot::take(&cache)?;
        let initrd = slot.dir().join("initrd");
        let mut archives = BufWriter::new(File::create(&initrd)?);
        if !self.acpi_tables.is_empty() {
            Initramfs::of_acpi_tables(&self.acpi_tables).write(&mut archives)?;
        }
        initramfs.write(archives)?;
        let report = self.boot(&cache, &slot, &parts, &initrd, sink);
        if let Some(file) = &self.console {
            fs::copy(Console::output(slot.dir()), file)
                .with_context(|| format!("cannot write the console to {}", file.display()))?;
        }
        report
    }

    /// QEMU's command, without arguments.
    fn qemu_words(&self, cache: &Cache) -> Result<Vec<String>> {
        match &self.qemu_program {
            Some(program) => Ok(machine::fetched_qemu(&program.get(cache)?)),
            None => Ok(vec![self.arch.traits().qemu.to_owned()]),
        }
    }

    fn placed(&self) -> Vec<String> {
        if self.devices.is_empty() {
            vec![DEFAULT_DEVICE.to_owned()]
        } else {
            self.devices.clone()
        }
    }

    fn initramfs(&self, parts: &Parts, commands: &[Command]) -> Result<Initramfs> {
        let mut initramfs = Initramfs::new();
        let mut modules = Vec::new();
        if let Some(dir) = parts.kernel.modules.as_ref().filter(|_| self.load) {
            for (number, file) in kernel::load_order(dir)?.into_iter().enumerate() {
                let name = file.rsplit('/').next().unwrap_or(&file);
                let path = format!("/lib/modules/{number:02}-{name}");
                let module = kernel::read_module(&dir.join(file))?;
                initramfs.file(&path, 0o644, Source::Bytes(module));
                modules.push(path);
            }
        }
        let mut copier = Copier::new(&mut initramfs);
        copier.program(&programs::init(self.arch, &self.profile)?, "/init")?;
        copier.program(
            &programs::hugebar_for(self.arch, &self.profile)?,
            "/bin/hugebar",
        )?;
        for copy in &self.copies {
            copier.copy(copy)?;
        }
        let job = Job {
            thp: self.thp,
            modules,
            addresses: self.addresses,
            bind: parts
                .devices
                .iter()
                .filter(|_| self.bind)
                .filter_map(|device| device.address.clone())
                .collect(),
            library_path: copier.library_path(),
            commands: commands.to_vec(),
        };
        initramfs.file(JOB_PATH, 0o644, Source::Bytes(serde_json::to_vec(&job)?));
        Ok(initramfs)
    }

    /// Boots until a guest has sent its first frame, or the attempts are used up.
    fn boot(
        &self,
        cache: &Cache,
        slot: &Slot,
        parts: &Parts,
        initrd: &Path,
        sink: Sink<'_>,
    ) -> Result<Report> {
        let deadline = Instant::now() + self.timeout;
        let append = self.append.join(" ");
        let mut retries = 0;
        loop {
            let accelerator = if self.emulated {
                Accelerator::Tcg
            } else {
                Accelerator::choose(cache, self.arch)
            };
            let arguments = Machine {
                arch: self.arch,
                accelerator,
                parallel: self.parallel,
                memory_mib: self.memory_mib,
                cpus: self.cpus,
                devices: &parts.devices,
                vmlinuz: parts.image(),
                initrd,
                console: &Console::path(slot.dir()),
                append: &append,
                extra: &self.qemu,
            }
            .arguments()?;
            let boot = boot::run(
                &[&parts.qemu[..], &arguments].concat(),
                slot.dir(),
                deadline,
                sink,
            )?;
            let what = format!(
                "{} {} {:?} {}",
                parts.kernel.release,
                accelerator.name(),
                boot.end,
                console::crash(&boot.console).unwrap_or_default()
            );
            slot::record_boot(cache, &what)?;
            let silent = boot.release.is_none();
            match boot.end {
                End::Lost | End::Qemu(_) if silent && accelerator == Accelerator::Kvm => {
                    Accelerator::give_up_kvm(cache)?;
                    continue;
                }
                End::Lost if silent && retries + 1 < ATTEMPTS => {
                    retries += 1;
                    continue;
                }
                _ => {}
            }
            return self.judge(boot, retries, accelerator);
        }
    }

    /// Makes a report of a complete boot, otherwise a failure.
    fn judge(&self, boot: Boot, boot_retries: u32, accelerator: Accelerator) -> Result<Report> {
        let kind = match boot.end {
            // A kernel that reports a BUG cannot be trusted, even if it went on.
            End::Done => {
                console::crash(&boot.console).map(|line| FailureKind::Crashed(line.into()))
            }
            End::Failed(reason) => Some(FailureKind::Setup(reason)),
            End::Qemu(words) => Some(FailureKind::Machine(words)),
            End::TimedOut => Some(
                match console::crash(&boot.console).or(console::hang(&boot.console)) {
                    Some(line) => FailureKind::Crashed(line.into()),
                    None => FailureKind::TimedOut(self.timeout),
                },
            ),
            End::Lost => {
                let line = console::crash(&boot.console).or(console::hang(&boot.console));
                let line = line.unwrap_or(match boot.release {
                    Some(_) => "the machine ended before its commands",
                    None => "no sign of PID 1",
                });
                Some(FailureKind::Crashed(line.into()))
            }
        };
        let report = Report {
            commands: boot.commands,
            release: boot.release.unwrap_or_default(),
            console: boot.console,
            stacks: boot.stacks,
            boot_retries,
            accelerator: accelerator.name(),
            boot_time: boot.boot_time,
            total_time: boot.total_time,
        };
        match kind {
            None => Ok(report),
            Some(kind) => Err(Failure { kind, report }.into()),
        }
    }
}
