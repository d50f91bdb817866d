//! Golden files: texts that are reviewed as a diff.

use crate::workspace;
use std::fs;

/// Fails unless the file at this path of the work tree holds this text. With `UPDATE_GOLDEN` set, writes it instead.
#[track_caller]
pub fn compare_golden(path: &str, text: &str) {
    let file = workspace().join(path);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&file, text).expect("the golden file can be written");
        return;
    }
    let golden = fs::read_to_string(&file).unwrap_or_default();
    let differs = golden.lines().zip(text.lines()).position(|(old, new)| old != new);
    let at = differs.unwrap_or_else(|| golden.lines().count().min(text.lines().count()));
    let line = |text: &str| text.lines().nth(at).unwrap_or("(the end)").to_owned();
    assert!(
        golden == text,
        "{path} differs in line {}:\n  was: {}\n  is:  {}\nif it is meant, write it anew with UPDATE_GOLDEN=1 and review the diff",
        at + 1,
        line(&golden),
        line(text)
    );
}
