//! The command line and the file together.

use super::*;
use clap::CommandFactory;
use std::{os::unix::fs::PermissionsExt, path::Path};
use sys_edge::hygiene::Hsts;
use sys_keys::Unsealer;

/// The settings of a command line and the text of a file.
fn settings(line: &str, yaml: &str) -> anyhow::Result<Settings> {
    let words = ["sys-server", "run", "--config", "x"].into_iter().chain(line.split_whitespace());
    let Command::Run(run) = Options::try_parse_from(words)?.command else { panic!("run") };
    run.settings(ConfigFile::parse(yaml)?, Sockets::default())
}

const FILE: &str = "
data_dir: of-file
danger_key_file: key-of-file
listen: 127.0.0.1:1
modules: [of-file]
allow_org_create: true
cache_mb: 1
mail: {from: file@example.org, outbox_dir: mail-of-file}
limits: {drain_seconds: 3, connections_per_source: 4, streams_per_connection: 5, head_seconds: 6, idle_seconds: 7,
  crowded_idle_seconds: 8, age_seconds: 9, stall_seconds: 10, least_bytes_per_second: 11, longest_wait_milliseconds: 12}
rates: {sign_in_per_minute: 4}
";

#[test]
fn the_command_line_is_consistent() {
    Options::command().debug_assert();
}

#[test]
fn the_file_is_taken_where_no_flag_is_given() {
    let Settings { config, key_is_readable, .. } = settings("", FILE).unwrap();
    assert_eq!((config.data_dir.as_path(), config.listen), (Path::new("of-file"), ([127, 0, 0, 1], 1).into()));
    assert!(matches!(config.unsealer, Unsealer::DangerKeyFile(file) if file == Path::new("key-of-file")));
    assert!(matches!(config.mailing, Mailing::Directory(dir) if dir == Path::new("mail-of-file")));
    assert!(key_is_readable && config.allow_org_create);
    assert_eq!((config.cache_bytes, config.mail_from.as_str()), (1 << 20, "file@example.org"));
    let (limits, seconds) = (&config.limits, Duration::from_secs);
    assert_eq!(
        (limits.drain_timeout, limits.header_timeout, limits.idle_timeout),
        (seconds(3), seconds(6), seconds(7))
    );
    assert_eq!((limits.connections_per_source, limits.concurrent_streams), (4, 5));
    assert_eq!((limits.crowded_idle_timeout, limits.connection_age), (seconds(8), seconds(9)));
    assert_eq!((limits.stall_timeout, limits.least_bytes_per_s), (seconds(10), 11));
    assert_eq!(limits.longest_wait, Duration::from_millis(12));
    assert_eq!(limits.connections, Limits::default().connections);
    assert_eq!(config.rates.sign_in_per_minute.get(), 4);
    assert_eq!(config.rates.source, Rates::default().source);
}

#[test]
fn a_flag_wins_over_the_file() {
    let line = "--data-dir a --listen 127.0.0.1:2 --danger-key-file k --module m --module n --allow-org-create=false \
                --cache-mb 2 --mail-from flag@example.org --smtp smtp://localhost --metrics-listen 127.0.0.1:3";
    let Settings { config, .. } = settings(line, FILE).unwrap();
    assert_eq!((config.data_dir.as_path(), config.listen), (Path::new("a"), ([127, 0, 0, 1], 2).into()));
    assert_eq!(config.modules, [PathBuf::from("m"), PathBuf::from("n")]);
    assert!(matches!(config.unsealer, Unsealer::DangerKeyFile(file) if file == Path::new("k")));
    assert!(matches!(config.mailing, Mailing::Smtp(url) if url == "smtp://localhost"));
    assert!(!config.allow_org_create);
    assert_eq!((config.cache_bytes, config.mail_from.as_str()), (2 << 20, "flag@example.org"));
    assert_eq!(config.metrics_listen, Some(([127, 0, 0, 1], 3).into()));
}

const EDGE: &str = "
data_dir: d
danger_key_file: k
listen: 192.0.2.1:443
domains: [file.example]
hosts: [www.file.example]
https_port: 8443
public_addresses: ['2001:db8::1']
proxies: [192.0.2.0/24]
plain_listen: 192.0.2.1:80
tls: {acme: {email: file@example.org, directory: 'https://file.example/dir', profile: short}, local_ca: true,
  files: [{chain: c, key: k}], ech_public_names: [front.example], ech_rotation_hours: 48}
dns: {listen: ['192.0.2.1:53'], tls_listen: '192.0.2.1:853', name_servers: [ns.file.example], resolver: '192.0.2.53:53',
  certificate_authorities: [ca.example]}
http: {hsts_seconds: 60, hsts_subdomains: true, cors_origins: ['https://app.example.org'],
  security_txt: {contacts: ['mailto:security@example.org'], expires: '2027-06-30T00:00:00Z'}}
";

#[test]
fn what_the_file_says_of_the_edge_is_taken() {
    let edge = settings("", EDGE).unwrap().config.edge;
    let domain = &edge.domain;
    assert_eq!(
        (&domain.domains[..], &domain.hosts[..]),
        (&["file.example".to_owned()][..], &["www.file.example".to_owned()][..])
    );
    assert_eq!((edge.https_port, &domain.addresses[..]), (Some(8443), &["2001:db8::1".parse().unwrap()][..]));
    assert_eq!(edge.plain_listen, Some(([192, 0, 2, 1], 80).into()));
    assert!(edge.proxies.contain("192.0.2.9".parse().unwrap()));
    let acme = domain.acme.as_ref().unwrap();
    assert_eq!(
        (acme.email.as_deref(), acme.directory.as_str()),
        (Some("file@example.org"), "https://file.example/dir")
    );
    assert_eq!(acme.profile.as_deref(), Some("short"));
    assert!(domain.local_ca && domain.files.len() == 1);
    assert_eq!(
        (&domain.ech.public_names[..], domain.ech.rotate_every_s),
        (&["front.example".to_owned()][..], 48 * 3_600)
    );
    assert_eq!(edge.dns_listen, [([192, 0, 2, 1], 53).into()]);
    assert_eq!(edge.dns_tls_listen, Some(([192, 0, 2, 1], 853).into()));
    let zone = domain.zone.as_ref().unwrap();
    assert_eq!(
        (&zone.name_servers[..], &zone.certificate_authorities[..]),
        (&["ns.file.example".to_owned()][..], &["ca.example".to_owned()][..])
    );
    assert_eq!(zone.resolver, Some(([192, 0, 2, 53], 53).into()));
    assert_eq!(edge.hygiene.hsts, Hsts::WithSubdomains { max_age_s: 60 });
    assert!(!edge.hygiene.cors_origins.is_empty() && edge.hygiene.security_txt.is_some());
}

#[test]
fn flags_of_the_edge_win_over_the_file() {
    let line = "--domain flag.example --host www.flag.example --https-port 443 --public-address 192.0.2.7 --proxy 198.51.100.0/24 \
                --plain-listen 192.0.2.7:80 --acme-email flag@example.org --acme-directory https://flag.example/dir \
                --local-ca=false --tls-chain-file fc --tls-key-file fk --ech-public-name flag-front.example \
                --dns-listen 192.0.2.7:53 --dns-listen 192.0.2.8:53 --dns-tls-listen 192.0.2.7:853 --dns-resolver 192.0.2.54:53";
    let edge = settings(line, EDGE).unwrap().config.edge;
    let domain = &edge.domain;
    assert_eq!(
        (&domain.domains[..], &domain.hosts[..]),
        (&["flag.example".to_owned()][..], &["www.flag.example".to_owned()][..])
    );
    assert_eq!((edge.https_port, &domain.addresses[..]), (Some(443), &["192.0.2.7".parse().unwrap()][..]));
    assert_eq!(edge.plain_listen, Some(([192, 0, 2, 7], 80).into()));
    assert!(
        edge.proxies.contain("198.51.100.1".parse().unwrap()) && !edge.proxies.contain("192.0.2.9".parse().unwrap())
    );
    let acme = domain.acme.as_ref().unwrap();
    assert_eq!(
        (acme.email.as_deref(), acme.directory.as_str()),
        (Some("flag@example.org"), "https://flag.example/dir")
    );
    assert_eq!(acme.profile.as_deref(), Some("short"), "what no flag says is the file's");
    assert!(!domain.local_ca);
    assert_eq!(domain.files, [sys_domain::CertificateFiles { chain: "fc".into(), key: "fk".into() }]);
    assert_eq!(domain.ech.public_names, ["flag-front.example"]);
    assert_eq!(edge.dns_listen, [([192, 0, 2, 7], 53).into(), ([192, 0, 2, 8], 53).into()]);
    assert_eq!(edge.dns_tls_listen, Some(([192, 0, 2, 7], 853).into()));
    assert_eq!(domain.zone.as_ref().unwrap().resolver, Some(([192, 0, 2, 54], 53).into()));
}

#[test]
fn how_long_browsers_stay_with_tls_is_what_the_file_says() {
    let hsts = |http: &str| settings("", &format!("{FILE}http: {{{http}}}")).unwrap().config.edge.hygiene.hsts;
    assert_eq!(hsts(""), Hsts::default());
    assert_eq!(hsts("hsts_seconds: 60"), Hsts::Host { max_age_s: 60 });
    assert_eq!(hsts("hsts_seconds: 0, hsts_subdomains: true"), Hsts::Off);
    assert_eq!(hsts("hsts_preload: true"), Hsts::Preload);
}

#[test]
fn an_edge_that_could_not_be_is_refused_with_what_to_do() {
    let check = |yaml: &str, expect: &str| {
        let error = settings("", &format!("data_dir: d\ndanger_key_file: k\n{yaml}")).unwrap_err();
        assert!(format!("{error:#}").contains(expect), "{yaml}: {error:#}");
    };
    check("listen: 192.0.2.1:443", "say where certificates come from");
    check("dns: {tls_listen: '127.0.0.1:853'}", "say where certificates come from");
    check("domains: [example.org, www.example.org]", "within another of the domains");
    check("domains: [example.org]\nhosts: [www.example.com]", "in none of the domains");
    check("listen: 0.0.0.0:443\ndomains: [example.org]\ntls: {local_ca: true, ech_rotation_hours: 1}", "more often");
    check("domains: [example.org]\ntls: {acme: {email: nobody}}", "mail");
    check("domains: [example.org]\ntls: {acme: {email: a@example.org, directory: 'http://ca.example/'}}", "https");
    check("tls: {acme: {email: a@example.org, root_file: nowhere}}", "nowhere cannot be read");
    check("http: {security_txt: {contacts: [me], expires: '2027-06-30T00:00:00Z'}}", "no contact");
    let error = settings("--acme-directory https://ca.example/dir", FILE).unwrap_err();
    assert!(format!("{error:#}").contains("--acme-email"), "{error:#}");
}

#[test]
fn where_traces_go_is_said_by_flags_or_the_file_and_else_nowhere() {
    let traces = |line: &str, yaml: &str| {
        settings(line, &format!("data_dir: d\ndanger_key_file: k\n{yaml}")).unwrap().config.traces
    };
    assert!(traces("", "traces: {sample_ratio: 0.5, service_name: x}").is_none());
    let file = "traces: {endpoint: 'http://127.0.0.1:1', sample_ratio: 0.25, follow_callers: true, service_name: edge}";
    let of_file = traces("", file).unwrap();
    assert_eq!(of_file.endpoint, "http://127.0.0.1:1".parse().unwrap());
    assert_eq!(of_file.sampling, sys_core::trace::Sampling { per_million: 250_000, follows_callers: true });
    assert_eq!(of_file.service, "edge");
    let flags = traces("--traces-endpoint http://127.0.0.1:2 --traces-sample-ratio 0", file).unwrap();
    assert_eq!(flags.endpoint, "http://127.0.0.1:2".parse().unwrap());
    assert_eq!(flags.sampling, sys_core::trace::Sampling { per_million: 0, follows_callers: true });
    let plain = traces("--traces-endpoint http://127.0.0.1:2", "").unwrap();
    assert_eq!(plain.sampling, sys_core::trace::Sampling { per_million: 1_000_000, follows_callers: false });
    for refused in ["--traces-endpoint http://192.0.2.1:4318", "--traces-sample-ratio 1.5", "--traces-sample-ratio x"] {
        assert!(settings(refused, FILE).is_err(), "{refused}");
    }
    let error = settings("--traces-endpoint https://c.example --traces-root-file nowhere", FILE).unwrap_err();
    assert!(format!("{error:#}").contains("nowhere cannot be read"), "{error:#}");
}

#[test]
fn a_flag_for_the_key_takes_the_place_of_either_kind_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("passphrase");
    fs::write(&file, "of nobody\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let settings = settings(&format!("--passphrase-file {}", file.display()), FILE).unwrap();
    assert!(matches!(settings.config.unsealer, Unsealer::Passphrase(_)));
    assert!(!settings.key_is_readable);
}

#[test]
fn the_example_of_the_docs_shows_the_defaults() {
    let example = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/sys-server.yaml")).unwrap();
    let of_example = settings("--danger-key-file k --data-dir d", &example).unwrap().config;
    let nothing = settings("--danger-key-file k --data-dir d", "").unwrap().config;
    // It shows an address where there is none by default.
    let of_example = Config { metrics_listen: None, ..of_example };
    assert_eq!(format!("{of_example:?}"), format!("{nothing:?}"));
}
