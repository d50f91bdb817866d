//! What the server counts, and who may see it.

use crate::{
    LIST_NOTES, LOGIN, SETUP, json_of,
    server::{Begun, Server, eventually, get, program},
    superadmin,
};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// The value of a series.
fn value(metrics: &str, series: &str) -> Option<f64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    Some(line.parse().unwrap_or_else(|_| panic!("{series} {line}")))
}

fn calls(method: &str, code: &str) -> String {
    format!("sys_calls_total{{method=\"{method}\",code=\"{code}\"}}")
}

#[test]
fn calls_and_refusals_are_counted_by_method_code_and_reason() {
    let server = Server::start(&[]);
    let root = superadmin(&server);
    for _ in 0..3 {
        let (status, body) = server.call("sys.account.v1.AuthService/WhoAmI", Some(&root), "{}");
        assert_eq!(status, 200, "{body}");
    }
    server.call(LIST_NOTES, None, "{}");
    server.call(LOGIN, None, &json!({"email": "root@example.org", "password": "wrong"}).to_string());
    server.call(LOGIN, None, "{");
    let metrics = server.metrics();
    let of = |series: &str| value(&metrics, series).unwrap_or_else(|| panic!("no {series} in\n{metrics}"));
    assert_eq!(of(&calls("sys.account.v1.AuthService/WhoAmI", "OK")), 3.0);
    assert_eq!(of(&calls(SETUP, "OK")), 1.0);
    assert_eq!(of(&calls(LOGIN, "UNAUTHENTICATED")), 1.0);
    assert_eq!(of(&calls(LOGIN, "INVALID_ARGUMENT")), 1.0);
    assert_eq!(of("sys_call_seconds_count{method=\"sys.account.v1.AuthService/WhoAmI\"}"), 3.0);
    assert_eq!(value(&metrics, &calls(LIST_NOTES, "UNAUTHENTICATED")), None, "it was not let in");
    for reason in ["UNAUTHENTICATED", "LOGIN_REFUSED", "MALFORMED"] {
        assert_eq!(of(&format!("sys_refusals_total{{reason=\"{reason}\"}}")), 1.0);
    }
    assert_eq!(of("sys_callers_total{found=\"store\"}"), 1.0);
    assert_eq!(of("sys_callers_total{found=\"cache\"}"), 2.0);
    assert!(of("sys_store_commit_seconds_count") >= 1.0);
    assert!(of("sys_store_sync_seconds_count") >= of("sys_store_commit_seconds_count"), "a commit takes a sync or two");
    assert!(of("sys_store_rows") > 10.0);
    assert!(of("sys_store_reads_total{of=\"key\"}") > 1.0 && of("sys_store_reads_total{of=\"range\"}") > 0.0);
    assert!(of("sys_file_bytes{file=\"store\"}") > 4_096.0);
    assert!(of("process_resident_memory_bytes") > 1e6);
}

#[test]
fn a_call_that_breaks_off_is_counted_and_in_flight_no_longer() {
    let server = Server::start(&[]);
    drop(Begun::call(server.addr, LOGIN, None, 100));
    let count = format!("sys_call_seconds_count{{method=\"{LOGIN}\"}}");
    eventually(&count, || (value(&server.metrics(), &count) == Some(1.0)).then_some(()));
    assert_eq!(value(&server.metrics(), &format!("sys_calls_in_flight{{method=\"{LOGIN}\"}}")), None);
}

#[test]
fn no_label_is_chosen_by_a_caller_or_says_who_called() {
    let server = Server::start(&[]);
    let root = superadmin(&server);
    server.call("canary.v1.Canary/Canary", None, "{}");
    server.call(LIST_NOTES, Some("canary"), "{}");
    let (_, me) = server.call("sys.account.v1.AuthService/WhoAmI", Some(&root), "{}");
    let account = json_of(&me)["accountId"].as_str().map(str::to_owned);
    let metrics = server.metrics();
    assert!(!metrics.to_lowercase().contains("canary"));
    assert!(metrics.contains("reason=\"NO_SUCH_METHOD\""), "{metrics}");
    assert!(!metrics.contains("root@example.org") && !metrics.contains("account_"), "{account:?}");
    let labels: BTreeSet<&str> = metrics
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('{')?.1.split_once('}'))
        .flat_map(|(labels, _)| labels.split("\",").filter_map(|label| label.split_once('=')))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(labels, BTreeSet::from(["became", "code", "file", "found", "le", "method", "of", "reason"]));
}

#[test]
fn the_text_is_openmetrics() {
    let server = Server::start(&[]);
    superadmin(&server);
    let metrics = server.metrics();
    let mut lines: Vec<&str> = metrics.lines().collect();
    assert_eq!(lines.pop(), Some("# EOF"));
    let mut kinds = BTreeMap::new();
    for line in lines {
        if let Some(line) = line.strip_prefix("# TYPE ") {
            let (family, kind) = line.split_once(' ').unwrap();
            assert!(kinds.insert(family, kind).is_none(), "{family} twice");
        } else if !line.starts_with("# HELP ") {
            let (series, number) = line.rsplit_once(' ').unwrap();
            number.parse::<f64>().unwrap_or_else(|_| panic!("{line}"));
            let name = series.split('{').next().unwrap();
            let family = ["_total", "_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            assert!(kinds.contains_key(family.unwrap_or(name)), "{name} has no type");
            assert_eq!(kinds.get(family.unwrap_or_default()) == Some(&"counter"), name.ends_with("_total"), "{name}");
        }
    }
    let (all, above) = ("sys_store_commit_seconds_count", "sys_store_commit_seconds_bucket{le=\"+Inf\"}");
    assert_eq!(value(&metrics, all), value(&metrics, above));
}

#[test]
fn metrics_are_on_their_own_port_and_on_no_other_machine() {
    let server = Server::start(&[]);
    let (status, body) = get(server.addr, "/metrics", "127.0.0.1");
    assert!(status >= 400 && !body.contains("process_"), "{status} {body}");
    assert_eq!(get(server.metrics, "/", "127.0.0.1").0, 404);
    assert_eq!(get(server.metrics, "/metrics", "rebound.example.org").0, 421, "a page of a website reads them");
    let data = tempfile::tempdir().unwrap();
    let mut open = program();
    open.args(["run", "--listen", "127.0.0.1:0", "--metrics-listen", "0.0.0.0:0", "--data-dir"])
        .arg(data.path().join("data"));
    open.arg("--danger-key-file").arg(data.path().join("key"));
    let refused = open.output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("listen on 127.0.0.1"), "{said}");
}

#[test]
fn the_page_of_the_docs_names_every_metric() {
    let server = Server::start(&[]);
    superadmin(&server);
    let docs = std::fs::read_to_string(crate::server::workspace().join("docs/operating.md")).unwrap();
    let metrics = server.metrics();
    let families = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let missing: Vec<String> = families
        .map(|(family, kind)| if kind == "counter" { format!("{family}_total") } else { family.to_owned() })
        .filter(|name| !docs.contains(&format!("`{name}`")))
        .collect();
    assert!(missing.is_empty(), "docs/operating.md says nothing of {missing:?}");
}
