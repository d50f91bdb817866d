//! The commands beside `run`.

use crate::server::{Server, program, said_at_start, workspace};
use serde_json::Value;
use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
};

fn ran(arguments: &[&str]) -> Output {
    program().args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Checks a file in a folder with a passphrase and a module; what was said, and whether it is well.
fn checked(dir: &Path, yaml: &str) -> (bool, String) {
    let file = dir.join("sys-server.yaml");
    fs::write(&file, yaml).unwrap();
    let output = ran(&["config", "check", file.to_str().unwrap()]);
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn a_configuration_is_checked_with_all_that_it_names() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("passphrase"), "of nobody\n").unwrap();
    fs::set_permissions(dir.path().join("passphrase"), fs::Permissions::from_mode(0o600)).unwrap();
    let notes = workspace().join("modules/mod-notes");
    let good = format!("data_dir: data\npassphrase_file: passphrase\nmodules: [{}]\n", notes.display());
    let (well, said) = checked(dir.path(), &good);
    assert!(well, "{said}");
    assert!(!dir.path().join("data").exists(), "it makes nothing");

    let refused = |yaml: &str, expected: &str| {
        let (well, said) = checked(dir.path(), yaml);
        assert!(!well && said.contains(expected), "{yaml}: {said}");
    };
    refused("data_dir: data\nmetrics_listen: 0.0.0.0:1\n", "sys-server.yaml:2:");
    refused(&(good.clone() + "listen: 0.0.0.0:1\n"), "say where certificates come from");
    refused(&(good.clone() + "plain_listen: 127.0.0.1:8443\n"), "plain_listen: the server listens on 127.0.0.1:8443");
    refused("data_dir: data\n", "write `passphrase_file: FILE`");
    refused("passphrase_file: passphrase\n", "write `data_dir: DIR`");
    refused("data_dir: data\npassphrase_file: nowhere\n", "nowhere cannot be read");
    refused(&good.replace("data\n", "passphrase\n"), "is no directory");
    fs::create_dir(dir.path().join("empty")).unwrap();
    refused(&(good.clone() + "metrics_listen: 127.0.0.1:8443\n"), "name another port");
    refused("data_dir: data\npassphrase_file: passphrase\nmodules: [empty]\n", "holds no .proto file");
    refused(&(good.clone() + "mail: {from: nobody}\n"), "`nobody` is no address");
    refused(&(good.clone() + "mail: {smtp: 'smtp://'}\n"), "URL of the mail server is not valid");
    fs::set_permissions(dir.path().join("empty"), fs::Permissions::from_mode(0o755)).unwrap();
    refused(&good.replace("data_dir: data", "data_dir: empty"), "run `chmod 700");
    fs::set_permissions(dir.path().join("passphrase"), fs::Permissions::from_mode(0o644)).unwrap();
    refused(&good, "run `chmod 600");
    // As `run` takes it.
    fs::set_permissions(dir.path().join("passphrase"), fs::Permissions::from_mode(0o640)).unwrap();
    let (well, said) = checked(dir.path(), &good);
    assert!(well, "{said}");
}

/// With the lines, too, that somebody takes the `# ` from.
#[test]
fn the_examples_and_the_settings_of_the_package_are_good_where_their_files_are_there() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("passphrase"), "of nobody\n").unwrap();
    fs::set_permissions(dir.path().join("passphrase"), fs::Permissions::from_mode(0o600)).unwrap();
    let here = dir.path().display().to_string();
    let read = |file: &str| {
        let text = fs::read_to_string(workspace().join(file)).unwrap();
        text.replace("/etc/sys", &here).replace("/var/lib/sys", &format!("{here}/data"))
    };
    for (file, domain) in [("packaging/debian/sys-server.yaml", true), ("docs/sys-server.yaml", false)] {
        let (well, said) = checked(dir.path(), &read(file));
        assert!(well, "{file}: {said}");
        if domain {
            let own = "tls: {local_ca: true}\n";
            assert!(read(file).contains(own));
            let uncommented =
                ["domains", "public_addresses", "tls", "dns"].iter().fold(read(file).replace(own, ""), |text, name| {
                    text.replace(&format!("# {name}: "), &format!("{name}: "))
                });
            let (well, said) = checked(dir.path(), &uncommented);
            assert!(well && uncommented.contains("\ndomains: [example.org]\n"), "{uncommented}: {said}");
        }
    }
}

#[test]
fn a_server_runs_with_a_file_and_flags_win() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sys-server.yaml");
    // This address is taken by nobody, and refused if the flag of the harness did not win.
    fs::write(
        &file,
        "listen: 127.0.0.1:1\nmetrics_listen: 127.0.0.1:1\nlog: {format: json, filter: info}\nallow_org_create: true\n",
    )
    .unwrap();
    let server = Server::start(&["--config", file.to_str().unwrap(), "--log-format", "text"]);
    server.terminate();
    let (ended, dir) = server.ended();
    let log = fs::read_to_string(dir.path().join("log")).unwrap();
    assert!(ended.success() && log.contains(" INFO ") && !log.contains('{'), "{log}");
}

/// As a service: it runs in the root, where a path from there would look like one and lead nowhere.
#[test]
fn what_a_service_says_to_paste_works_in_any_folder() {
    let dir = tempfile::tempdir().unwrap();
    let programs = dir.path().join("bin");
    fs::create_dir(&programs).unwrap();
    let (here, beside) = (programs.join("sys-server"), programs.join("sys"));
    fs::hard_link(program().get_program(), &here)
        .or_else(|_| fs::copy(program().get_program(), &here).map(drop))
        .unwrap();
    fs::write(&beside, "").unwrap();
    let setup = |name: &str, path: &Path| {
        let data = dir.path().join(name);
        let mut server = Command::new(&here);
        server.args(["run", "--listen", "127.0.0.1:0", "--danger-key-file"]).arg(data.join("key"));
        server.arg("--data-dir").arg(&data).current_dir("/").env("PATH", path);
        let mut server = server.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let said = said_at_start(&mut server, &dir.path().join("no log"));
        server.kill().unwrap();
        server.wait().unwrap();
        said.iter().find_map(|line| Some(line.trim().split_once(" setup ")?.0.to_owned())).expect("a command to paste")
    };
    assert_eq!(setup("found", &programs), "sys");
    assert_eq!(setup("not-found", Path::new("/usr/bin")), beside.display().to_string());
}

#[test]
fn the_schema_is_one_and_knows_every_setting_of_the_example() {
    let schema: Value = serde_json::from_str(&text(&ran(&["config", "schema"]).stdout)).unwrap();
    assert_eq!(schema["additionalProperties"], false);
    let example = fs::read_to_string(workspace().join("docs/sys-server.yaml")).unwrap();
    let mut settings: Vec<&str> = schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    for part in ["Mail", "Log", "Limits", "Rates"] {
        settings.extend(schema["$defs"][part]["properties"].as_object().unwrap().keys().map(String::as_str));
    }
    assert!(settings.len() > 20, "{settings:?}");
    let missing: Vec<&&str> = settings
        .iter()
        .filter(|name| !example.contains(&format!("{name}: ")) && !example.contains(&format!("{name}:\n")))
        .collect();
    assert!(missing.is_empty(), "the example does not show {missing:?}");
}

#[test]
fn manual_pages_render_and_name_every_flag() {
    let dir = tempfile::tempdir().unwrap();
    assert!(ran(&["man", "--dir", dir.path().to_str().unwrap()]).status.success());
    let page = fs::read_to_string(dir.path().join("sys-server-run.1")).unwrap();
    let help = text(&ran(&["run", "--help"]).stdout);
    let flags: Vec<&str> =
        help.lines().filter_map(|line| line.trim_start().strip_prefix("--")?.split([' ', '[']).next()).collect();
    assert!(flags.len() > 10, "{help}");
    for flag in flags {
        assert!(page.contains(&format!("\\-\\-{}", flag.replace('-', "\\-"))), "{flag} is not in the page");
    }
    assert!(dir.path().join("sys-server-config-check.1").is_file());
    let page = text(&ran(&["man"]).stdout);
    assert!(page.contains(".SH NAME") && page.contains("sys\\-server"), "{page}");
}

#[test]
fn completion_scripts_are_read_by_the_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let script = ran(&["completion", shell]).stdout;
        assert!(text(&script).contains("metrics-listen"), "{shell}");
    }
    // The one shell that is everywhere where the tests run.
    let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    bash.stdin.take().unwrap().write_all(&ran(&["completion", "bash"]).stdout).unwrap();
    let read = bash.wait_with_output().unwrap();
    assert!(read.status.success(), "{}", text(&read.stderr));
}
