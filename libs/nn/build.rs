//! Compiles the fused parts of a dynamic layer (`bridge/`) against libtorch's headers.

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    println!("cargo::rerun-if-changed=bridge");
    match libtorch() {
        Ok(libtorch) => compile(&libtorch),
        Err(what) => println!("cargo::error={what}: run `cargo xtask setup`, which puts libtorch 2.11.0 in place"),
    }
}

/// The folder that `LIBTORCH` names (set in `.cargo/config.toml`), once it holds what is needed.
fn libtorch() -> Result<PathBuf, String> {
    let folder = std::env::var_os("LIBTORCH").map(PathBuf::from).ok_or("LIBTORCH is not set")?;
    let header = folder.join("include/torch/csrc/autograd/custom_function.h");
    for needed in [header, folder.join("lib/libtorch_cpu.so"), folder.join("lib/libc10.so")] {
        if !needed.is_file() {
            return Err(format!("{} is missing", needed.display()));
        }
    }
    Ok(folder)
}

fn compile(libtorch: &Path) {
    let include = libtorch.join("include");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(3)
        .debug(false)
        .include("bridge")
        // `omp simd` on loops, no threads of its own.
        .flag_if_supported("-fopenmp-simd")
        // Vectors wider than the default machine's go between inlined functions only.
        .flag_if_supported("-Wno-psabi")
        // Rows are short: a call to memcpy costs more than the loop.
        .flag_if_supported("-fno-tree-loop-distribute-patterns")
        // libtorch's own headers as system headers: their warnings are not ours.
        .flag("-isystem")
        .flag(include.display().to_string())
        .flag("-isystem")
        .flag(include.join("torch/csrc/api/include").display().to_string())
        .files([
            "bridge/mix.cc",
            "bridge/fill.cc",
            "bridge/convolve.cc",
            "bridge/depthwise.cc",
            "bridge/gate.cc",
            "bridge/rows.cc",
        ])
        .compile("vared_mix");
    println!("cargo::rustc-link-search=native={}", libtorch.join("lib").display());
    println!("cargo::rustc-link-lib=dylib=torch_cpu");
    println!("cargo::rustc-link-lib=dylib=c10");
}
