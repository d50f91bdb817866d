//! Contracts from folders: the I/O that `sys-contract` does not do.

use anyhow::{Context, bail};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use sys_contract::{
    load::{Origin, SourceFile, load},
    model::Contract,
};

/// Files of one module; more is no module but a folder that was named by mistake.
const MAX_FILES: usize = 256;

/// Compiles the contract in a folder. The module is named after the folder.
pub fn read(dir: &Path) -> anyhow::Result<Arc<Contract>> {
    let dir = dir.canonicalize().with_context(|| format!("{} cannot be read", dir.display()))?;
    let name = dir.file_name().and_then(|name| name.to_str()).context("the module's folder has no name")?;
    let mut sources = Vec::new();
    collect(&dir, &dir, &mut sources)?;
    if sources.is_empty() {
        bail!("{} holds no .proto file", dir.display());
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    let contract = load(name, Origin::Uploaded, &sources)
        .map_err(|problems| anyhow::anyhow!("the contract in {} does not load:\n{problems}", dir.display()))?;
    Ok(Arc::new(contract))
}

fn collect(root: &Path, dir: &Path, sources: &mut Vec<SourceFile>) -> anyhow::Result<()> {
    let entries = fs::read_dir(dir).with_context(|| format!("{} cannot be read", dir.display()))?;
    for entry in entries {
        let entry = entry?;
        // Links are not followed: a module is what lies in its folder.
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() {
            collect(root, &path, sources)?;
        } else if kind.is_file() && path.extension().is_some_and(|extension| extension == "proto") {
            if sources.len() >= MAX_FILES {
                bail!("{} holds more than {MAX_FILES} .proto files", root.display());
            }
            let text = fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
            sources.push(SourceFile { path: relative(root, &path)?, text });
        }
    }
    Ok(())
}

fn relative(root: &Path, path: &Path) -> anyhow::Result<String> {
    let relative: PathBuf = path.strip_prefix(root)?.to_owned();
    relative.to_str().map(str::to_owned).with_context(|| format!("{} is no UTF-8 path", relative.display()))
}
