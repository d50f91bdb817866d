//! Brings the pages of `docs/errors` into the program, so that `sys explain` shows them where there are no docs.

use std::{env, error::Error, fs, path::Path};

/// Where the pages are, from this crate.
const PAGES: &str = "../../docs/errors";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={PAGES}");
    let dir = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join(PAGES).canonicalize()?;
    let mut pages = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let reason = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
        // The index beside them is no page.
        if reason != "README" {
            pages.push((reason, path));
        }
    }
    pages.sort();
    let lines: String =
        pages.iter().map(|(reason, path)| format!("    ({reason:?}, include_str!({path:?})),\n")).collect();
    let table = format!("&[\n{lines}]\n");
    Ok(fs::write(Path::new(&env::var("OUT_DIR")?).join("pages.rs"), table)?)
}
