//! Which certificates are shown, of several sources with the same names.

use super::*;
use rcgen::{CertificateParams, KeyPair};
use std::fs::{File, FileTimes};
use std::time::Duration;

fn pem(names: &[&str]) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn fetched(names: &[&str]) -> Certificate {
    let (chain_pem, key_pem) = pem(names);
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    Certificate { names, chain_pem, key_pem: Zeroizing::new(key_pem), not_after_unix_s: 0 }
}

fn certificates() -> Certificates {
    Certificates::new(Tls::new().unwrap(), "example.org".to_owned())
}

fn names(certificates: &Certificates) -> Vec<Vec<String>> {
    let held = certificates.held.lock().unwrap();
    in_order(&held, &certificates.first).iter().map(|identity| identity.names().to_vec()).collect()
}

#[test]
fn who_asks_for_nobody_gets_the_public_name_and_files_come_first() {
    let certificates = certificates();
    certificates.fetched(Source::LocalCa, &fetched(&["example.org"]));
    certificates.fetched(Source::Acme, &fetched(&["a.example.com"]));
    assert_eq!(names(&certificates), [["example.org"], ["a.example.com"]]);
    certificates.fetched(Source::Acme, &fetched(&["*.example.org", "example.org"]));
    let sources: Vec<Source> = certificates.shown().iter().map(|shown| shown.source).collect();
    assert_eq!(sources, [Source::Acme, Source::Acme, Source::LocalCa]);
    assert_eq!(names(&certificates)[0], ["*.example.org", "example.org"]);
}

#[test]
fn of_two_that_are_good_for_a_name_the_one_that_ends_last_is_shown() {
    let certificates = certificates();
    for (names, year) in [(["a.example.com", "www.example.com"], 2030), (["b.example.com", "www.example.com"], 2031)] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names.map(str::to_owned).to_vec()).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let (chain_pem, key_pem) = (params.self_signed(&key).unwrap().pem(), Zeroizing::new(key.serialize_pem()));
        let names = names.map(str::to_owned).to_vec();
        certificates.fetched(Source::Acme, &Certificate { names, chain_pem, key_pem, not_after_unix_s: 0 });
    }
    assert_eq!(names(&certificates)[0][0], "b.example.com");
}

#[test]
fn a_renewed_certificate_takes_the_place_of_its_elder_and_no_other() {
    let certificates = certificates();
    certificates.fetched(Source::Acme, &fetched(&["example.org"]));
    certificates.fetched(Source::Acme, &fetched(&["example.com"]));
    certificates.fetched(Source::Acme, &fetched(&["example.org"]));
    assert_eq!(certificates.shown().len(), 2);
    let unreadable = Certificate { chain_pem: "nothing".to_owned(), ..fetched(&["example.org"]) };
    certificates.fetched(Source::Acme, &unreadable);
    assert_eq!(certificates.shown().len(), 2, "what cannot be shown takes nobody's place");
}

#[tokio::test]
async fn files_are_read_again_when_they_change_and_shown_on_while_they_do_not_fit() {
    let dir = tempfile::tempdir().unwrap();
    let (chain, key) = (dir.path().join("chain.pem"), dir.path().join("key.pem"));
    let mut second = 0;
    let mut write = |path: &Path, text: &str| {
        std::fs::write(path, text).unwrap();
        // File systems tell times coarsely; here each write is a second after the one before.
        second += 1;
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + second);
        File::options().append(true).open(path).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
    };
    let certificates = certificates();
    let mut files = Files::new(&[CertificateFiles { chain: chain.clone(), key: key.clone() }]);
    files.look(&certificates).await;
    let missing: Vec<&Trouble> = files.troubles().collect();
    assert!(missing[0].is_broken && missing[0].problem.contains("chain.pem"), "{missing:?}");
    let (first, second) = (pem(&["one.example.org"]), pem(&["two.example.org"]));
    write(&chain, &first.0);
    write(&key, &first.1);
    files.look(&certificates).await;
    assert_eq!(names(&certificates), [["one.example.org"]]);
    assert_eq!(files.troubles().count(), 0);
    // Half of a renewal.
    write(&chain, &second.0);
    files.look(&certificates).await;
    assert_eq!(names(&certificates), [["one.example.org"]], "the last good one is shown on");
    assert!(files.troubles().all(|trouble| !trouble.is_broken && trouble.problem.contains("private key")));
    assert_eq!(files.troubles().count(), 1);
    write(&key, &second.1);
    files.look(&certificates).await;
    assert_eq!(names(&certificates), [["two.example.org"]]);
    assert_eq!(files.troubles().count(), 0);
    std::fs::remove_file(&key).unwrap();
    files.look(&certificates).await;
    assert_eq!(names(&certificates), [["two.example.org"]]);
}
