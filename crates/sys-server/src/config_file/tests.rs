//! What a file may say, and how it is refused.

use super::*;

/// What a text is refused with.
fn check(text: &str, expect: &str) {
    let mistake = ConfigFile::parse(text).expect_err(text);
    assert_eq!(mistake.to_string(), expect, "{text}");
}

#[test]
fn a_mistake_is_told_with_its_line_and_what_to_write() {
    check(
        "rates:\n  source: {per_second: 1, burst: 2}\n  acount: 1",
        "3:3: `acount` is no setting here; did you mean `account`? settings here are source, account, sign_in_per_minute",
    );
    check("data_dir: x\nmetrics_listen: 192.0.2.1:5", "2:17: other machines reach this address: write 127.0.0.1:PORT");
    check("metrics_listen: here", "1:17: not an address: write 127.0.0.1:PORT or \"[::1]:PORT\"");
    check("listen: here", "1:9: not an address: write ADDRESS:PORT or \"[ADDRESS]:PORT\"; names are not looked up");
    check("public_addresses: [x]", "1:20: not an address: write one such as 192.0.2.1 or \"2001:db8::1\"");
    check(
        "domains: [org.example, 'a b']",
        "1:24: blanks, quotes and control characters are no part of a name: write \\032 if a blank is really meant",
    );
    check("domains: [org]", "1:11: the name has no dot: write it in full, as in mail.example.org.");
    check(
        "proxies: [192.0.2.1/24]",
        "1:11: \"192.0.2.1/24\" has bits behind its prefix; write 192.0.2.0/24 for the network, or the address alone",
    );
    check(
        "http:\n  cors_origins: ['*']",
        "2:18: \"*\" would let in every website; name each that may call, such as https://app.example.org",
    );
    check(
        "dns: {tls_listen: dns.example}",
        "1:19: not an address: write ADDRESS:PORT or \"[ADDRESS]:PORT\"; names are not looked up",
    );
    check("https_port: 0", "1:1: write a whole number, 1 or more");
    check("tls: {files: [{chain: a}]}", "1:16: `key` is missing beside the others: write `key: VALUE`");
    check(
        "tls: {local-ca: true}",
        "1:7: `local-ca` is no setting here; did you mean `local_ca`? settings here are acme, files, local_ca, ech_public_names, \
         ech_rotation_hours",
    );
    check("tls: {acme: {}}", "1:13: `email` is missing beside the others: write `email: VALUE`");
    check("data_dir: x\ncache_mb: 0", "2:1: write a whole number, 1 or more");
    check("data_dir: x\ncache_mb: many", "2:11: write a whole number, 1 or more");
    check("allow_org_create: maybe", "1:19: write true or false");
    check("log:\n  format: xml", "2:11: `xml` is none of them: write text or json");
    check("rates:\n  source: {per_second: 1}", "2:12: `burst` is missing beside the others: write `burst: VALUE`");
    check("listen: 127.0.0.1:1\nlisten: 127.0.0.1:2", "2:1: this setting stands twice: remove one");
    check(
        "mail:\n  smtp: smtp://user:secret@mail.example.org",
        "2:9: a password does not belong in this file: put the URL into the variable SYS_SMTP",
    );
    check(
        "data_dir: x\npassphrase_file: a\ndanger_key_file: b\n",
        "3:1: `passphrase_file` and `danger_key_file` exclude each other: remove one",
    );
    check("mail: {smtp: 'smtp://a', outbox_dir: b}", "0:1: `smtp` and `outbox_dir` exclude each other: remove one");
    check("modules: a", "1:10: a list should stand here: write [ONE, OTHER]");
    check("- a", "1:1: settings should stand here: write `name: value`");
    for text in ["a: [", "data_dir: 'x", "log:\n  filter: a=b=c", "data_dir: x\n---\ndata_dir: y"] {
        let mistake = ConfigFile::parse(text).expect_err(text);
        println!("{text:?} {mistake}");
        assert!(mistake.line >= 1 && !mistake.what.contains(" at line "), "{mistake}");
    }
}

#[test]
fn nothing_is_a_configuration_too() {
    for text in ["", "# a comment\n", "data_dir:\n"] {
        assert_eq!(ConfigFile::parse(text), Ok(ConfigFile::default()), "{text:?}");
    }
}

#[test]
fn the_example_of_the_docs_is_read_and_shows_the_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/sys-server.yaml");
    let file = ConfigFile::read(&path).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(file.data_dir.as_deref(), Some(Path::new("/var/lib/sys")));
    assert_eq!(file.listen, Some(Address(([127, 0, 0, 1], 8443).into())));
    let (limits, rates) = (sys_edge::Limits::default(), sys_core::throttle::Rates::default());
    let shown = &file.limits;
    for (shown, default) in [
        (shown.connections, limits.connections as u64),
        (shown.connections_per_source, limits.connections_per_source as u64),
        (shown.streams_per_connection, limits.concurrent_streams.into()),
        (shown.head_seconds, limits.header_timeout.as_secs()),
        (shown.idle_seconds, limits.idle_timeout.as_secs()),
        (shown.crowded_idle_seconds, limits.crowded_idle_timeout.as_secs()),
        (shown.age_seconds, limits.connection_age.as_secs()),
        (shown.stall_seconds, limits.stall_timeout.as_secs()),
        (shown.least_bytes_per_second, limits.least_bytes_per_s),
        (shown.longest_wait_milliseconds, u64::try_from(limits.longest_wait.as_millis()).unwrap()),
        (shown.drain_seconds, limits.drain_timeout.as_secs()),
    ] {
        assert_eq!(shown.map(|shown| u64::from(shown.get())), Some(default), "{limits:?}");
    }
    let rate = |rate: sys_core::throttle::Rate| Some(Rate { per_second: rate.per_second, burst: rate.burst });
    assert_eq!((file.rates.source, file.rates.account), (rate(rates.source), rate(rates.account)));
    assert_eq!(file.rates.sign_in_per_minute, Some(rates.sign_in_per_minute));
}

#[test]
fn what_the_example_shows_in_comments_is_read_too() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/sys-server.yaml");
    let shown = |line: &str| {
        let (name, _) = line.trim_start().strip_prefix("# ")?.split_once(": ")?;
        // These two stand beside what they exclude.
        let is_setting = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        (is_setting && !["danger_key_file", "outbox_dir"].contains(&name)).then(|| line.replacen("# ", "", 1))
    };
    let text = fs::read_to_string(path).expect("the example");
    let lines: Vec<String> = text.lines().map(|line| shown(line).unwrap_or_else(|| line.to_owned())).collect();
    let file = ConfigFile::parse(&lines.join("\n")).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(file.plain_listen, Some(Address(([0, 0, 0, 0], 80).into())));
    assert_eq!(file.https_port.map(NonZeroU16::get), Some(443));
    assert_eq!(file.public_addresses, [Host([192, 0, 2, 1].into())]);
    assert_eq!(file.tls.acme.expect("acme").email, "you@org.example");
    assert_eq!(file.tls.files.len(), 1);
    assert_eq!(file.dns.tls_listen, Some(Address(([192, 0, 2, 1], 853).into())));
    assert_eq!(file.dns.resolver, Some(Address(([192, 0, 2, 53], 53).into())));
    let security = file.http.security_txt.expect("contacts");
    sys_edge::hygiene::SecurityTxt::new(&security.contacts, &security.expires).expect("what is shown is right");
}

#[test]
fn paths_are_relative_to_the_file() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("sys-server.yaml");
    let tls = "tls: {acme: {email: you@example.org, root_file: root.pem, external_account: {key_id: a, key_file: hmac}}, \
               files: [{chain: chain.pem, key: /srv/key.pem}]}";
    let rest = "data_dir: data\nmodules: [notes, /srv/other]\nmail: {outbox_dir: ../mail}";
    fs::write(&path, format!("{tls}\n{rest}")).expect("written");
    let file = ConfigFile::read(&path).expect("a configuration");
    assert_eq!(file.data_dir, Some(dir.path().join("data")));
    assert_eq!(file.modules, [dir.path().join("notes"), PathBuf::from("/srv/other")]);
    assert_eq!(file.mail.outbox_dir, Some(dir.path().join("../mail")));
    let acme = file.tls.acme.expect("acme");
    assert_eq!(acme.root_file, Some(dir.path().join("root.pem")));
    assert_eq!(acme.external_account.expect("an account").key_file, dir.path().join("hmac"));
    let files = CertificateFiles { chain: dir.path().join("chain.pem"), key: PathBuf::from("/srv/key.pem") };
    assert_eq!(file.tls.files, [files]);
}
