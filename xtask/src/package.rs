//! `cargo xtask package`: the Debian package, with what belongs beside the two programs.
//!
//! What is known beforehand lies in `packaging/`. Here is what has to be found out: what the programs are linked with, what they say
//! of themselves, whose work is in them, sizes and sums.

mod check;
mod licences;
#[cfg(test)]
mod tests;

pub(crate) use check::check;

use crate::{no_arguments, root, step, target_dir, tools};
use anyhow::{Context, Result, bail};
use std::{
    fs::{self, DirBuilder, Permissions},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

pub(crate) const HELP: &str = "\
cargo xtask package

Builds the server and `sys` in release mode and puts them into target/package/sys-server.deb, with manual pages, completions,
the units of systemd, an example of the settings and the licences of all that is linked in. It is for the release of Debian or
Ubuntu that it is made on, and for later ones. packaging/Containerfile makes an image of it.";

const PROGRAMS: [&str; 2] = ["sys-server", "sys"];
/// The crates that they are made of.
const CRATES: [&str; 2] = ["sys-server", "sys-cli"];
/// A file of the work tree and where it goes.
const FILES: [(&str, &str); 9] = [
    ("packaging/systemd/sys-server.service", "usr/lib/systemd/system/sys-server.service"),
    ("packaging/systemd/sys-server.socket", "usr/lib/systemd/system/sys-server.socket"),
    ("packaging/systemd/sys-server-plain.socket", "usr/lib/systemd/system/sys-server-plain.socket"),
    ("packaging/systemd/sys-server-dns.socket", "usr/lib/systemd/system/sys-server-dns.socket"),
    ("packaging/systemd/sys-server-dns-tls.socket", "usr/lib/systemd/system/sys-server-dns-tls.socket"),
    ("packaging/debian/sys-server.yaml", "etc/sys/sys-server.yaml"),
    ("packaging/debian/copyright", "usr/share/doc/sys-server/copyright"),
    ("docs/sys-server.yaml", "usr/share/doc/sys-server/sys-server.yaml"),
    ("docs/operating.md", "usr/share/doc/sys-server/operating.md"),
];
/// What dpkg itself reads, and its mode.
const CONTROL: [(&str, u32); 4] = [("postinst", 0o755), ("prerm", 0o755), ("postrm", 0o755), ("conffiles", 0o644)];
/// A shell, and what stands before and behind the name of a program that it completes.
const SHELLS: [(&str, &str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/", ""),
    ("zsh", "usr/share/zsh/vendor-completions/_", ""),
    ("fish", "usr/share/fish/vendor_completions.d/", ".fish"),
];
/// A package as its source tells of it, which `dpkg-shlibdeps` wants to see.
const SOURCE: &str = "Source: sys-server\n\nPackage: sys-server\nArchitecture: any\n";

/// `cargo xtask package`.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    no_arguments(arguments)?;
    if tools::find("dpkg-deb").is_none() {
        bail!("`dpkg-deb` is missing: a Debian package can be made on Debian or Ubuntu alone");
    }
    tools::for_package()?;
    step::announce("build", "the two programs in release mode (the first time takes half an hour on a small machine)");
    let crates = CRATES.iter().flat_map(|name| ["-p", name]);
    step::run(Command::new("cargo").args(["build", "--release"]).args(crates).current_dir(root()))?;
    step::announce("package", "the programs and what belongs beside them");
    let folder = root().join("target/package");
    let tree = folder.join("tree");
    if tree.exists() {
        fs::remove_dir_all(&tree).context("target/package/tree")?;
    }
    fill(&tree)?;
    fs::write(tree.join("DEBIAN/md5sums"), sums(&tree)?).context("DEBIAN/md5sums")?;
    fs::write(tree.join("DEBIAN/control"), control(&folder, &tree)?).context("DEBIAN/control")?;
    let package = folder.join("sys-server.deb");
    step::run(Command::new("dpkg-deb").args(["--root-owner-group", "--build"]).arg(&tree).arg(&package))?;
    step::note(&format!("install it with `apt install {}`; docs/operating.md says what comes next", package.display()));
    Ok(ExitCode::SUCCESS)
}

/// All files of the package but those that are made of the others.
fn fill(tree: &Path) -> Result<()> {
    let built = target_dir()?.join("release");
    for program in PROGRAMS {
        let installed = tree.join("usr/bin").join(program);
        install(&built.join(program), &installed, 0o755)?;
        step::run(Command::new("strip").args(["--strip-unneeded", "--remove-section=.comment"]).arg(&installed))?;
    }
    for (from, to) in FILES {
        install(&root().join(from), &tree.join(to), 0o644)?;
    }
    for (name, mode) in CONTROL {
        install(&root().join("packaging/debian").join(name), &tree.join("DEBIAN").join(name), mode)?;
    }
    let docs = tree.join("usr/share/doc/sys-server");
    install(&root().join("packaging/debian/changelog"), &docs.join("changelog"), 0o644)?;
    write(&docs.join("third-party-licences"), &licences::of(&CRATES)?)?;
    said_by_themselves(tree)?;
    // Without a time in it, so that the same files make the same package.
    let gzip = ["-9", "--no-name", "--recursive", "usr/share/man"];
    let long = ["usr/share/doc/sys-server/changelog", "usr/share/doc/sys-server/third-party-licences"];
    step::run(Command::new("gzip").args(gzip).args(long).current_dir(tree))
}

/// What the programs say of themselves: manual pages and completions.
fn said_by_themselves(tree: &Path) -> Result<()> {
    let man = tree.join("usr/share/man/man1");
    make_folder(&man)?;
    // `sys` speaks of the commands of the server that its user is logged in to. This one is nobody.
    let nobody = tree.with_file_name("nobody");
    for program in PROGRAMS {
        let path = tree.join("usr/bin").join(program);
        step::run(Command::new(&path).args(["man", "--dir"]).arg(&man).env("SYS_CONFIG_DIR", &nobody))?;
        for (shell, before, behind) in SHELLS {
            let completions =
                step::output(Command::new(&path).args(["completion", shell]).env("SYS_CONFIG_DIR", &nobody))?;
            write(&tree.join(format!("{before}{program}{behind}")), &completions)?;
        }
    }
    for page in files(&man)? {
        fs::set_permissions(&page, Permissions::from_mode(0o644)).with_context(|| page.display().to_string())?;
    }
    Ok(())
}

fn install(from: &Path, to: &Path, mode: u32) -> Result<()> {
    make_folder(to.parent().context("a file without a folder")?)?;
    fs::copy(from, to).with_context(|| format!("{} to {}", from.display(), to.display()))?;
    fs::set_permissions(to, Permissions::from_mode(mode)).with_context(|| to.display().to_string())
}

fn write(to: &Path, text: &str) -> Result<()> {
    make_folder(to.parent().context("a file without a folder")?)?;
    fs::write(to, text).with_context(|| to.display().to_string())?;
    fs::set_permissions(to, Permissions::from_mode(0o644)).with_context(|| to.display().to_string())
}

/// Makes a folder as everybody may enter it, whatever the umask is of who makes the package.
fn make_folder(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        make_folder(parent)?;
    }
    DirBuilder::new().mode(0o755).create(folder).with_context(|| folder.display().to_string())?;
    fs::set_permissions(folder, Permissions::from_mode(0o755)).with_context(|| folder.display().to_string())
}

/// All files below a folder, in order.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry.with_context(|| folder.display().to_string())?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The files that are installed, by their paths in the package.
fn installed(tree: &Path) -> Result<Vec<PathBuf>> {
    let paths = files(tree)?.into_iter().filter_map(|file| file.strip_prefix(tree).ok().map(Path::to_owned));
    Ok(paths.filter(|path| !path.starts_with("DEBIAN")).collect())
}

/// By which `dpkg --verify` sees later what somebody has changed. Settings are for changing.
fn sums(tree: &Path) -> Result<String> {
    let paths = installed(tree)?.into_iter().filter(|path| !path.starts_with("etc"));
    step::output(Command::new("md5sum").args(paths).current_dir(tree))
}

/// What stands in packaging/debian/control, with what had to be found out.
fn control(folder: &Path, tree: &Path) -> Result<String> {
    let known = fs::read_to_string(root().join("packaging/debian/control")).context("packaging/debian/control")?;
    let (name, rest) = known.split_once('\n').context("packaging/debian/control is empty")?;
    let architecture = step::output(Command::new("dpkg").arg("--print-architecture"))?;
    let mut bytes = 0;
    for path in installed(tree)? {
        bytes += fs::metadata(tree.join(&path)).with_context(|| path.display().to_string())?.len();
    }
    Ok(format!(
        "{name}\nVersion: {}\nArchitecture: {}\nInstalled-Size: {}\nDepends: {}, adduser\n{rest}",
        env!("CARGO_PKG_VERSION"),
        architecture.trim(),
        bytes.div_ceil(1024),
        libraries(folder, tree)?,
    ))
}

/// The packages with the libraries that the programs are linked with, in the versions that have what they call.
fn libraries(folder: &Path, tree: &Path) -> Result<String> {
    write(&folder.join("debian/control"), SOURCE)?;
    let programs = PROGRAMS.map(|program| tree.join("usr/bin").join(program));
    let mut shlibdeps = Command::new("dpkg-shlibdeps");
    shlibdeps.arg("-O").args(programs).current_dir(folder);
    let said = step::output(&mut shlibdeps)?;
    let depends = said.lines().find_map(|line| line.strip_prefix("shlibs:Depends="));
    Ok(depends.context("dpkg-shlibdeps names no libraries")?.to_owned())
}
