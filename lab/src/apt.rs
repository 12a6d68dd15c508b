//! A private apt with its own sources, lists and downloads in the cache, to fetch packages of other suites without touching the machine's configuration.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::arch::Arch;
use crate::cache::Cache;
use crate::install;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const SUITES: [&str; 3] = ["bookworm", "trixie", "trixie-backports"];
const SECURITY_SUITES: [&str; 2] = ["bookworm-security", "trixie-security"];

/// The oldest suite for guests of other architectures, which need only newer kernels.
const FOREIGN_SUITE: &str = "trixie";

/// The private apt, set up.
pub(crate) struct Apt {
    config: PathBuf,
}

impl Apt {
    /// Sets it up with this machine's mirrors, for packages of an architecture. Each has a folder of its own.
    pub(crate) fn set_up(cache: &Cache, arch: Arch) -> Result<Self> {
        ensure!(
            available(),
            "this machine is not set up for Debian's packages"
        );
        let mirrors = Mirrors::of_this_machine()?;

        let folder = folder(arch);
        let dir = cache.dir(folder)?;
        for inner in ["lists/partial", "archives/partial"] {
            cache.dir(Path::new(folder).join(inner))?;
        }
        fs::write(dir.join("status"), "")?;
        fs::write(dir.join("sources.list"), sources(&mirrors, arch))?;
        let config = dir.join("apt.conf");
        fs::write(&config, configuration(&dir, arch))?;
        Ok(Apt { config })
    }

    /// Updates the package lists (`apt-get update`).
    pub(crate) fn update(&self) -> Result<()> {
        self.run("apt-get", &["--quiet", "update"], Path::new("/"))
            .map(drop)
    }

    /// The names of all packages with a prefix.
    pub(crate) fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let names = self.run("apt-cache", &["pkgnames", prefix], Path::new("/"))?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// The package lists' entries for the newest versions of these packages, as printed by `apt-cache show`.
    pub(crate) fn show(&self, packages: &[String]) -> Result<String> {
        let mut arguments = vec!["show", "--no-all-versions"];
        arguments.extend(packages.iter().map(String::as_str));
        self.run("apt-cache", &arguments, Path::new("/"))
    }

    /// Packages of a suite with all their dependencies, on a machine that has only `present`.
    pub(crate) fn closure(
        &self,
        packages: &[&str],
        suite: &str,
        present: &[&str],
    ) -> Result<Vec<Package>> {
        let status = self.config.with_file_name("present");
        fs::write(&status, installed_status(present))?;
        let status = format!("Dir::State::status={}", status.display());
        let mut arguments = vec![
            "--option",
            &status,
            "--simulate",
            "--no-install-recommends",
            "--target-release",
            suite,
            "install",
        ];
        arguments.extend(packages);
        Ok(installed(&self.run(
            "apt-get",
            &arguments,
            Path::new("/"),
        )?))
    }

    /// Fetches packages and unpacks them over one another, in a folder below `work`.
    pub(crate) fn tree(&self, packages: &[Package], work: &Path) -> Result<PathBuf> {
        let (archives, tree) = (work.join("archives"), work.join("tree"));
        fs::create_dir(&archives)?;
        let packages: Vec<_> = packages.iter().map(Package::exactly).collect();
        self.download(&packages, &archives)?;
        for entry in fs::read_dir(&archives)? {
            unpack(&entry?.path(), &tree)?;
        }
        fs::remove_dir_all(&archives)?;
        Ok(tree)
    }

    /// Fetches packages into a folder.
    pub(crate) fn download(&self, packages: &[String], into: &Path) -> Result<()> {
        let mut arguments = vec!["--quiet", "download"];
        arguments.extend(packages.iter().map(String::as_str));
        self.run("apt-get", &arguments, into).map(drop)
    }

    fn run(&self, program: &str, arguments: &[&str], dir: &Path) -> Result<String> {
        let output = Command::new(program)
            // It is read after the machine's own configuration, unlike a file in APT_CONFIG: proxies stay, hooks do not.
            .arg("--config-file")
            .arg(&self.config)
            .args(arguments)
            .current_dir(dir)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot run {program}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let first = said.lines().find(|line| line.starts_with("E:"));
            bail!(
                "{program} failed ({}): {}",
                output.status,
                first.unwrap_or_default()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// The folder of the cache for packages of an architecture.
pub(crate) fn folder(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "apt",
        Arch::Arm64 => "apt-arm64",
    }
}

/// A package in one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
}

impl Package {
    /// In the form that [`Apt::download`] takes.
    pub(crate) fn exactly(&self) -> String {
        format!("{}={}", self.name, self.version)
    }
}

/// dpkg's list of packages for a machine that has these, in a version that satisfies every dependency.
fn installed_status(packages: &[&str]) -> String {
    let entry = |name: &&str| {
        format!(
            "Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: 9999\nDescription: {name}\n\n"
        )
    };
    packages.iter().map(entry).collect()
}

/// Finds the packages in the output of `apt-get --simulate install`: `Inst NAME (VERSION ORIGIN [ARCHITECTURE])`.
fn installed(simulated: &str) -> Vec<Package> {
    let package = |line: &str| {
        let (name, rest) = line.strip_prefix("Inst ")?.split_once(" (")?;
        let (version, _) = rest.split_once(' ')?;
        Some(Package {
            name: name.to_owned(),
            version: version.to_owned(),
        })
    };
    simulated.lines().filter_map(package).collect()
}

/// Unpacks a package.
pub(crate) fn unpack(package: &Path, into: &Path) -> Result<()> {
    let status = Command::new("dpkg-deb")
        .arg("--extract")
        .args([package, into])
        .status()
        .context("cannot run dpkg-deb")?;
    ensure!(
        status.success(),
        "dpkg-deb cannot unpack {}",
        package.display()
    );
    Ok(())
}

/// Whether this machine uses Debian's packages.
pub(crate) fn available() -> bool {
    value(&os_release(), "ID") == Some("debian")
        && install::find("apt-get").is_some()
        && Path::new(KEYRING).exists()
}

fn os_release() -> String {
    fs::read_to_string("/etc/os-release").unwrap_or_default()
}

/// A variable of `/etc/os-release`.
fn value<'a>(os_release: &'a str, name: &str) -> Option<&'a str> {
    os_release
        .lines()
        .filter_map(|line| line.split_once('='))
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value.trim_matches('"'))
}

/// Where this machine gets Debian's packages from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mirrors {
    main: String,
    security: Option<String>,
}

impl Mirrors {
    pub(crate) fn of_this_machine() -> Result<Self> {
        let os_release = os_release();
        let codename = value(&os_release, "VERSION_CODENAME").unwrap_or("unstable");
        let uris = Command::new("apt-get")
            .args(["update", "--print-uris"])
            .env("LC_ALL", "C")
            .output()
            .context("cannot run apt-get")?;
        mirrors(&String::from_utf8_lossy(&uris.stdout), codename)
    }

    /// The mirror of all suites except security.
    pub(crate) fn main(&self) -> &str {
        &self.main
    }

    /// A `sources.list` for a machine of this suite.
    pub(crate) fn sources_of(&self, suite: &str) -> String {
        let main = format!("deb {} {suite} main\n", self.main);
        let security = self.security.iter();
        let security = security.map(|base| format!("deb {base} {suite}-security main\n"));
        std::iter::once(main).chain(security).collect()
    }
}

/// How this machine's apt reaches its mirrors, in the format of `apt.conf`.
pub(crate) fn acquire_options() -> Result<String> {
    let dump = Command::new("apt-config")
        .args(["dump", "Acquire"])
        .output()
        .context("cannot run apt-config")?;
    Ok(String::from_utf8_lossy(&dump.stdout).into_owned())
}

/// Finds the mirrors in the output of `apt-get update --print-uris`, so that apt itself reads its configuration, in all formats.
///
/// Other archives may use the same suite names, but not together with a component `main`.
fn mirrors(uris: &str, codename: &str) -> Result<Mirrors> {
    let indexes = || {
        uris.lines().filter_map(|line| {
            let uri = line.strip_prefix('\'')?.split('\'').next()?;
            let (base, rest) = uri.split_once("/dists/")?;
            let (suite, index) = rest.split_once("/main/binary-")?;
            index.contains("/Packages").then_some((base, suite))
        })
    };
    let with_suite = |wanted: &[&str]| {
        let mut found = indexes().filter(|(_, suite)| wanted.contains(suite));
        found.next().map(|(base, _)| base.to_owned())
    };
    let main = with_suite(&[
        codename,
        "stable",
        "oldstable",
        "testing",
        "unstable",
        "sid",
    ]);
    let security = with_suite(&[
        &format!("{codename}-security"),
        "stable-security",
        "oldstable-security",
        "testing-security",
    ]);
    Ok(Mirrors {
        main: main.context("this machine's apt knows no mirror of Debian")?,
        security,
    })
}

fn sources(mirrors: &Mirrors, arch: Arch) -> String {
    let debian = arch.traits().debian;
    let line = |base: &str, suite: &str| {
        format!("deb [arch={debian} signed-by={KEYRING}] {base} {suite} main\n")
    };
    let wanted = |suite: &&&str| arch == Arch::X86_64 || suite.starts_with(FOREIGN_SUITE);
    let main = SUITES.iter().filter(wanted);
    let main = main.map(|suite| line(&mirrors.main, suite));
    let security = mirrors.security.iter().flat_map(|base| {
        let suites = SECURITY_SUITES.iter().filter(wanted);
        suites.map(move |suite| line(base, suite))
    });
    main.chain(security).collect()
}

fn configuration(dir: &Path, arch: Arch) -> String {
    let dir = dir.display();
    let debian = arch.traits().debian;
    format!(
        r#"APT::Architecture "{debian}";
#clear APT::Architectures;
APT::Architectures {{ "{debian}"; }};
Dir::State "{dir}";
Dir::State::Lists "{dir}/lists";
Dir::State::status "{dir}/status";
Dir::Cache "{dir}";
Dir::Cache::Archives "{dir}/archives";
Dir::Etc::SourceList "{dir}/sources.list";
Dir::Etc::SourceParts "/dev/null";
# The machine's own hooks are for its own lists.
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
# The user that root would download as has no access to root's cache folder.
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::GzipIndexes "true";
Acquire::Retries "1";
# Otherwise apt calls it a success to keep old lists.
APT::Update::Error-Mode "any";
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const URIS: &str = "\
'https://example.org/linux/debian/dists/bookworm/InRelease' x 0
'https://example.org/linux/debian/dists/bookworm/stable/binary-amd64/Packages.xz' x 0
'https://example.org/other/dists/bookworm-pgdg/main/binary-amd64/Packages.xz' x 0
'http://mirror.example/debian/dists/bookworm/main/binary-amd64/Packages.xz' x 0
'http://mirror.example/debian/dists/bookworm-updates/main/binary-amd64/Packages.xz' x 0
'http://mirror.example/sec/dists/bookworm-security/main/binary-amd64/Packages.xz' x 0
";

    #[test]
    fn the_mirrors_are_the_machines_own() {
        let found = mirrors(URIS, "bookworm").unwrap();
        assert_eq!(found.main, "http://mirror.example/debian");
        assert_eq!(found.security.as_deref(), Some("http://mirror.example/sec"));
        assert!(mirrors(URIS, "trixie").is_err());
    }

    #[test]
    fn without_a_security_mirror_its_suites_are_left_out() {
        let mirrors = Mirrors {
            main: "http://mirror.example/debian".into(),
            security: None,
        };
        let lines = sources(&mirrors, Arch::X86_64);
        assert_eq!(lines.lines().count(), SUITES.len());
        assert!(lines.contains(" http://mirror.example/debian trixie-backports main\n"));
        let arm64 = sources(&mirrors, Arch::Arm64);
        assert_eq!(arm64.lines().count(), 2);
        assert!(arm64.starts_with("deb [arch=arm64 "), "{arm64}");
        assert!(!arm64.contains("bookworm"), "{arm64}");
    }

    #[test]
    fn packages_are_what_would_be_installed() {
        let simulated = "\
NOTE: This is only a simulation!
The following NEW packages will be installed:
  libc6 qemu-system-x86
Inst libc6 (2.41-12+deb13u5 Debian:13.4/stable [amd64]) []
Inst qemu-system-x86 (1:10.0.13+ds-0+deb13u1 Debian:13.4/stable [amd64])
Conf libc6 (2.41-12+deb13u5 Debian:13.4/stable [amd64])
";
        let found: Vec<_> = installed(simulated).iter().map(Package::exactly).collect();
        let expected = [
            "libc6=2.41-12+deb13u5",
            "qemu-system-x86=1:10.0.13+ds-0+deb13u1",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn os_release_is_read_with_and_without_quotes() {
        let text = "NAME=\"Debian GNU/Linux\"\nVERSION_CODENAME=bookworm\nID=debian\n";
        assert_eq!(value(text, "ID"), Some("debian"));
        assert_eq!(value(text, "NAME"), Some("Debian GNU/Linux"));
        assert_eq!(value(text, "ID_LIKE"), None);
    }
}
