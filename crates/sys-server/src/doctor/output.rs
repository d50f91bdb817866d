//! A diagnosis in words, or as JSON for scripts.

use super::Diagnosis;
use serde_json::{Value, json};
use std::path::Path;
use sys_store::check::{Fault, Found, Report};

/// In which form something is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For scripts.
    Json,
}

/// The text of a diagnosis, with a line break at its end.
pub fn render(output: Output, data_dir: &Path, diagnosis: &Diagnosis) -> String {
    match output {
        Output::Text => text(data_dir, diagnosis),
        Output::Json => format!("{:#}\n", json_of(data_dir, diagnosis)),
    }
}

fn text(data_dir: &Path, diagnosis: &Diagnosis) -> String {
    let now = diagnosis.left.as_ref().unwrap_or(&diagnosis.found);
    let seen = now.seen;
    let mut out = format!(
        "looked at {} tablespaces: {} records, {} index rows, {} system rows, {} log entries, {} changes\nthe master key \
         opens by: {}\n",
        seen.tablespaces,
        seen.records,
        seen.index_rows,
        seen.system_rows,
        seen.log_entries,
        seen.changes,
        diagnosis.sealers.join(", ")
    );
    for is_problem in [true, false] {
        let files = diagnosis.files.iter().filter(|finding| finding.is_problem == is_problem);
        let mut lines: Vec<String> =
            files.map(|file| format!("  {}: {}: {}", file.fault, file.path.display(), file.what)).collect();
        lines.extend(findings(now, is_problem).map(|(fault, found)| finding(fault, found)));
        if !lines.is_empty() {
            let title = if is_problem { "problems" } else { "worth knowing" };
            out.push_str(&format!("\n{title}:\n{}\n", lines.join("\n")));
        }
    }
    if diagnosis.left.is_some() {
        let Report { rows_written, rows_removed, .. } = diagnosis.found;
        out.push_str(&format!("\nrepaired: {rows_written} index rows written, {rows_removed} removed\n"));
    }
    let verdict = if diagnosis.is_clean() { "nothing is wrong" } else { "something is wrong" };
    out.push_str(&format!("\n{}: {verdict}\n", data_dir.display()));
    out
}

fn finding(fault: Fault, found: &Found) -> String {
    let mut out = format!("  {}: {}: {}", fault.name(), found.count, fault.remedy());
    for place in &found.first {
        out.push_str(&format!("\n    {place}"));
    }
    let named = u64::try_from(found.first.len()).unwrap_or(u64::MAX);
    if found.count > named && named > 0 {
        out.push_str(&format!("\n    and {} more", found.count - named));
    }
    out
}

fn findings(report: &Report, is_problem: bool) -> impl Iterator<Item = (Fault, &Found)> {
    report.found.iter().map(|(fault, found)| (*fault, found)).filter(move |(fault, _)| fault.is_problem() == is_problem)
}

fn json_of(data_dir: &Path, diagnosis: &Diagnosis) -> Value {
    let now = diagnosis.left.as_ref().unwrap_or(&diagnosis.found);
    let seen = now.seen;
    let files: Vec<Value> = diagnosis
        .files
        .iter()
        .map(|file| json!({ "fault": file.fault, "problem": file.is_problem, "path": file.path.display().to_string(), "what": file.what }))
        .collect();
    let repaired = diagnosis.left.as_ref().map(|_| {
        let Report { rows_written, rows_removed, .. } = diagnosis.found;
        json!({ "rows_written": rows_written, "rows_removed": rows_removed, "found_before": faults(&diagnosis.found) })
    });
    json!({
        // Not the path itself: one that is no UTF-8 has no JSON.
        "data_dir": data_dir.display().to_string(),
        "clean": diagnosis.is_clean(),
        "sealers": diagnosis.sealers,
        "seen": {
            "tablespaces": seen.tablespaces,
            "records": seen.records,
            "index_rows": seen.index_rows,
            "system_rows": seen.system_rows,
            "log_entries": seen.log_entries,
            "changes": seen.changes,
        },
        "files": files,
        "found": faults(now),
        "repaired": repaired,
    })
}

fn faults(report: &Report) -> Vec<Value> {
    let fault = |(fault, found): (&Fault, &Found)| {
        json!({
            "fault": fault.name(),
            "problem": fault.is_problem(),
            "count": found.count,
            "first": found.first,
            "remedy": fault.remedy(),
        })
    };
    report.found.iter().map(fault).collect()
}
