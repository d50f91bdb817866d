//! libFuzzer around the targets of `sys-fuzz`: one program for all of them, so that they are built once. Which one runs says
//! the variable `SYS_FUZZ_TARGET`.
//!
//! What must never happen here: an assertion. It would not be a part of the plain test.

#![no_main]

use std::{env, process::exit, sync::LazyLock};

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = env::var("SYS_FUZZ_TARGET").unwrap_or_default();
    match sys_fuzz::target(&name) {
        Some(target) => target.run,
        None => {
            eprintln!("there is no target `{name}`: fuzz/README.md lists them");
            exit(2);
        }
    }
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| TARGET(bytes));
