//! Kernels for the machine: from a word such as `6.12` or `newest` to a kernel image with its modules.

mod build;
mod config;
mod fetch;
mod lab;
mod lists;
mod modules;
mod packages;
mod progress;
mod source;
mod spec;
mod unpacked;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::apt;
use crate::arch::Arch;
use crate::cache::Cache;
use crate::{install, note};

pub use lab::build_newest as build_lab;
pub(crate) use modules::{load_order, read_module};
pub use spec::Kernel;

use spec::Spec;

/// Installs what getting a kernel needs, as [`install::ensure_all`] does for the machine.
///
/// # Errors
/// If something is missing and was not installed.
pub fn prepare(cache: &Cache, word: &str, arch: Arch, yes: bool) -> Result<()> {
    if Spec::parse(word, arch)? == Spec::Lab && !lab::is_built(cache, arch)? {
        install::ensure_build(arch, yes)?;
    }
    Ok(())
}

/// Finds a kernel, and fetches or builds it if it is not in the cache.
///
/// # Errors
/// If the word names no kernel, or the kernel is not available.
pub fn resolve(cache: &Cache, word: &str, arch: Arch, modules: Option<&Path>) -> Result<Kernel> {
    let spec = Spec::parse(word, arch)?;
    ensure!(
        modules.is_none() || matches!(spec, Spec::Image(_)),
        "modules can be given for a kernel image only, not for {word:?}"
    );
    match &spec {
        Spec::Version(numbers, _)
            if numbers.is_empty() && arch == Arch::X86_64 && !apt::available() =>
        {
            note("this machine does not use Debian's packages: using its own kernel");
            host()
        }
        Spec::Version(..) | Spec::Release(_) => {
            let kernel = fetch::newest(cache, &spec, arch)?;
            match arch {
                Arch::X86_64 => unpacked::add(cache, kernel),
                Arch::Arm64 => Ok(kernel),
            }
        }
        Spec::Lab => lab::get(cache, arch),
        Spec::Host => host(),
        Spec::Image(vmlinuz) => image(vmlinuz, modules),
    }
}

fn host() -> Result<Kernel> {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let vmlinuz = [
        format!("/boot/vmlinuz-{release}"),
        format!("/usr/lib/modules/{release}/vmlinuz"),
    ]
    .into_iter()
    .map(PathBuf::from)
    .find(|path| path.exists())
    .with_context(|| {
        format!("the image of this host's kernel {release} is in neither /boot nor /usr/lib/modules: name one by its path")
    })?;
    fs::File::open(&vmlinuz).with_context(|| {
        format!(
            "{} cannot be read: copy it as root, and name the copy by its path",
            vmlinuz.display()
        )
    })?;
    let modules = Path::new("/lib/modules").join(&release);
    Ok(Kernel {
        release,
        vmlinuz,
        vmlinux: None,
        modules: modules.is_dir().then_some(modules),
    })
}

fn image(vmlinuz: &Path, modules: Option<&Path>) -> Result<Kernel> {
    ensure!(
        vmlinuz.is_file(),
        "there is no kernel image {}",
        vmlinuz.display()
    );
    if let Some(modules) = modules {
        ensure!(
            modules.join("kernel").is_dir(),
            "{} is no folder of modules (…/lib/modules/RELEASE): there is no folder kernel in it",
            modules.display()
        );
    }
    let named_by = modules.unwrap_or(vmlinuz);
    Ok(Kernel {
        release: named_by
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        vmlinuz: vmlinuz.to_owned(),
        vmlinux: None,
        modules: modules.map(Path::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_go_with_an_image_only() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path()).unwrap();
        let resolve = |word, modules| resolve(&cache, word, Arch::X86_64, modules);
        let error = resolve("newest", Some(dir.path())).unwrap_err();
        assert!(error.to_string().contains("image only"), "{error}");
        let missing = resolve("/no/such/image", None).unwrap_err();
        assert!(missing.to_string().contains("/no/such/image"), "{missing}");
    }
}
