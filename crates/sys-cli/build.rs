//! Brings the pages of `docs/errors` into the program, so that `sys explain` shows them where there are no docs. The pages
//! themselves go into what is generated, and no path of them: the checkout may be moved while what was built is kept.

use std::{env, error::Error, fs, path::Path};

/// Where the pages are, from this crate.
const PAGES: &str = "../../docs/errors";

fn main() -> Result<(), Box<dyn Error>> {
    // Relative to the crate, as cargo takes it.
    println!("cargo::rerun-if-changed={PAGES}");
    let mut pages = Vec::new();
    for entry in fs::read_dir(Path::new(&env::var("CARGO_MANIFEST_DIR")?).join(PAGES))? {
        let path = entry?.path();
        let reason = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
        // The index beside them is no page.
        if reason != "README" {
            pages.push((reason, fs::read_to_string(path)?));
        }
    }
    pages.sort();
    let lines: String = pages.iter().map(|(reason, page)| format!("    ({reason:?}, {page:?}),\n")).collect();
    let table = format!("&[\n{lines}]\n");
    Ok(fs::write(Path::new(&env::var("OUT_DIR")?).join("pages.rs"), table)?)
}
