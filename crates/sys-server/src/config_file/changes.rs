//! What a file says otherwise than the one that a server was started with, and what of it waits for a restart.

use super::{ConfigFile, Log};

impl ConfigFile {
    /// The settings that `newer` changes and that a server takes at its start only, by their names. The others, which are
    /// `http`, `traces` and the levels of the log, can change while it runs.
    pub fn wait_for_restart(&self, newer: &Self) -> Vec<&'static str> {
        // Taken apart, so that no setting can be added and forgotten here.
        let Self {
            data_dir,
            listen,
            plain_listen,
            domains,
            hosts,
            https_port,
            public_addresses,
            proxies,
            tls,
            dns,
            http: _,
            metrics_listen,
            traces: _,
            passphrase_file,
            danger_key_file,
            modules,
            allow_org_create,
            audit_retention_days,
            cache_mb,
            countries_file,
            mail,
            log: Log { filter: _, format },
            limits,
            rates,
        } = self;
        let same = [
            ("data_dir", *data_dir == newer.data_dir),
            ("listen", *listen == newer.listen),
            ("plain_listen", *plain_listen == newer.plain_listen),
            ("domains", *domains == newer.domains),
            ("hosts", *hosts == newer.hosts),
            ("https_port", *https_port == newer.https_port),
            ("public_addresses", *public_addresses == newer.public_addresses),
            ("proxies", *proxies == newer.proxies),
            ("tls", *tls == newer.tls),
            ("dns", *dns == newer.dns),
            ("metrics_listen", *metrics_listen == newer.metrics_listen),
            ("passphrase_file", *passphrase_file == newer.passphrase_file),
            ("danger_key_file", *danger_key_file == newer.danger_key_file),
            ("modules", *modules == newer.modules),
            ("allow_org_create", *allow_org_create == newer.allow_org_create),
            ("audit_retention_days", *audit_retention_days == newer.audit_retention_days),
            ("cache_mb", *cache_mb == newer.cache_mb),
            ("countries_file", *countries_file == newer.countries_file),
            ("mail", *mail == newer.mail),
            ("log.format", *format == newer.log.format),
            ("limits", *limits == newer.limits),
            ("rates", *rates == newer.rates),
        ];
        same.into_iter().filter(|(_, is_same)| !is_same).map(|(name, _)| name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(yaml: &str, expect: &[&str]) {
        let started = ConfigFile::parse("listen: 127.0.0.1:1").expect("a configuration");
        let newer = ConfigFile::parse(&format!("listen: 127.0.0.1:1\n{yaml}")).expect(yaml);
        assert_eq!(started.wait_for_restart(&newer), expect, "{yaml}");
    }

    #[test]
    fn what_waits_for_a_restart_is_told_by_its_name() {
        check("", &[]);
        check("http: {cors_origins: ['https://app.example.org'], hsts_seconds: 1}", &[]);
        check("log: {filter: debug}", &[]);
        check("traces: {endpoint: 'http://127.0.0.1:4318', sample_ratio: 0.5}", &[]);
        check("log: {format: json}\ncache_mb: 7", &["cache_mb", "log.format"]);
        check("tls: {local_ca: true}\ndns: {listen: ['127.0.0.1:53']}", &["tls", "dns"]);
        let gone = ConfigFile::default();
        assert_eq!(ConfigFile::parse("listen: 127.0.0.1:1").expect("a file").wait_for_restart(&gone), ["listen"]);
    }
}
