//! Where libtorch's files come from and where they lie: the layouts, as data, and putting one in place.
//!
//! The CUDA half lies in a folder of its own, `libtorch/cuda`: what is built against `libtorch/` is the same with and
//! without it, and loads `libtorch_cuda.so` when a GPU is asked for.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::stamp::Stamp;
use super::wheels::{self, Rule, Wheel};
use crate::process;

/// libtorch's version. `tch` in `Cargo.toml` belongs to it: an upgrade moves both at once.
pub const VERSION: &str = "2.11.0";

/// A folder of libraries and headers taken from wheels.
pub struct Layout {
    /// What it is called in messages; its stamp's name.
    pub name: &'static str,
    pub version: &'static str,
    /// Its folder, inside the folder for dependencies.
    pub folder: &'static str,
    /// What the download costs, for the message before it.
    pub download: &'static str,
    /// Where its files come from.
    pub wheels: &'static [Wheel],
    /// Files that must be there in the end, relative to its folder, with their sizes where the version fixes them.
    pub must_have: &'static [(&'static str, Option<u64>)],
    /// Whether `libtorch.so` is to be a linker script that stands for the two libraries behind it.
    pub linker_script: bool,
}

/// What links and runs on any machine. `libtorch_cpu.so` needs two of CUDA's libraries even there.
pub const CPU: Layout = Layout {
    name: "libtorch-cpu",
    version: VERSION,
    folder: "libtorch",
    download: "544 MB to download, 490 MB on disk",
    wheels: &[
        Wheel {
            requirement: "torch==2.11.0",
            rules: &[
                Rule::folder("torch/include/", "include/"),
                Rule::file("torch/lib/libc10.so", "lib/libc10.so"),
                Rule::file("torch/lib/libtorch_cpu.so", "lib/libtorch_cpu.so"),
                Rule::file("torch/lib/libgomp.so.1", "lib/libgomp.so.1"),
            ],
        },
        Wheel {
            requirement: "nvidia-cuda-runtime==13.0.96",
            rules: &[Rule::file("nvidia/cu13/lib/libcudart.so.13", "lib/libcudart.so.13")],
        },
        Wheel {
            requirement: "nvidia-cuda-cupti==13.0.85",
            rules: &[Rule::file("nvidia/cu13/lib/libcupti.so.13", "lib/libcupti.so.13")],
        },
    ],
    must_have: &[
        ("lib/libc10.so", Some(1_498_969)),
        ("lib/libtorch_cpu.so", Some(451_209_129)),
        ("lib/libgomp.so.1", Some(254_009)),
        ("lib/libcudart.so.13", Some(704_288)),
        ("lib/libcupti.so.13", Some(4_152_208)),
        ("lib/libtorch.so", Some(LINKER_SCRIPT.len() as u64)),
        ("include/torch/csrc/api/include/torch/torch.h", None),
        ("include/ATen/ATen.h", None),
    ],
    linker_script: true,
};

/// What libtorch needs beside the CPU layout to run on Nvidia's GPUs, and the headers to build against NCCL.
pub const CUDA: Layout = Layout {
    name: "libtorch-cuda",
    version: VERSION,
    folder: "libtorch/cuda",
    download: "2.5 GB to download, 3.2 GB on disk",
    wheels: &[
        Wheel {
            requirement: "torch==2.11.0",
            rules: &[
                Rule::file("torch/lib/libc10_cuda.so", "lib/libc10_cuda.so"),
                Rule::file("torch/lib/libcaffe2_nvrtc.so", "lib/libcaffe2_nvrtc.so"),
                Rule::file("torch/lib/libtorch_cuda.so", "lib/libtorch_cuda.so"),
                Rule::file("torch/lib/libtorch_cuda_linalg.so", "lib/libtorch_cuda_linalg.so"),
                Rule::file("torch/lib/libtorch_nvshmem.so", "lib/libtorch_nvshmem.so"),
            ],
        },
        cuda_wheel("nvidia-cuda-runtime==13.0.96"),
        cuda_wheel("nvidia-cuda-cupti==13.0.85"),
        cuda_wheel("nvidia-cuda-nvrtc==13.0.88"),
        cuda_wheel("nvidia-cuda-crt==13.0.88"),
        cuda_wheel("nvidia-cuda-cccl==13.0.85"),
        cuda_wheel("nvidia-cublas==13.1.0.3"),
        cuda_wheel("nvidia-cufft==12.0.0.61"),
        cuda_wheel("nvidia-cufile==1.15.1.6"),
        cuda_wheel("nvidia-curand==10.4.0.35"),
        cuda_wheel("nvidia-cusolver==12.0.4.66"),
        cuda_wheel("nvidia-cusparse==12.6.3.3"),
        cuda_wheel("nvidia-nvjitlink==13.0.88"),
        cuda_wheel("nvidia-nvtx==13.0.85"),
        cuda_wheel("nvidia-cudnn-cu13==9.19.0.56"),
        cuda_wheel("nvidia-cusparselt-cu13==0.8.0"),
        cuda_wheel("nvidia-nccl-cu13==2.28.9"),
        cuda_wheel("nvidia-nvshmem-cu13==3.4.5"),
    ],
    must_have: &[
        ("lib/libtorch_cuda.so", Some(456_142_457)),
        ("lib/libc10_cuda.so", Some(598_297)),
        ("lib/libcudnn.so.9", None),
        ("lib/libcublas.so.13", None),
        ("lib/libnccl.so.2", None),
        ("include/cuda_runtime.h", None),
        ("include/crt/host_config.h", None),
        ("include/nccl.h", None),
    ],
    linker_script: false,
};

const LINKER_SCRIPT: &str = "INPUT(-ltorch_cpu -lc10)\n";

/// The compiler of CUDA's own language. It needs no GPU, and takes CUDA's headers from the layout above.
pub const NVCC: Layout = Layout {
    name: "nvcc",
    version: "13.0.88",
    folder: "nvcc",
    download: "99 MB to download, 257 MB on disk",
    wheels: &[
        Wheel { requirement: "nvidia-cuda-nvcc==13.0.88", rules: &[Rule::folder("nvidia/cu13/", "")] },
        Wheel { requirement: "nvidia-nvvm==13.0.88", rules: &[Rule::folder("nvidia/cu13/", "")] },
    ],
    must_have: &[
        ("bin/nvcc", Some(30_153_384)),
        ("bin/ptxas", Some(37_741_528)),
        ("bin/cudafe++", Some(8_910_936)),
        ("bin/fatbinary", Some(1_245_208)),
        ("bin/nvcc.profile", None),
        ("nvvm/bin/cicc", Some(76_506_792)),
        ("nvvm/libdevice/libdevice.10.bc", None),
        ("lib/libnvvm.so.4", None),
    ],
    linker_script: false,
};

/// Nvidia's wheels: all shared objects into one folder, where each finds the others beside itself; all headers into one.
const fn cuda_wheel(requirement: &'static str) -> Wheel {
    const RULES: &[Rule] = &[Rule::any_folder("/lib/", "lib/"), Rule::any_folder("/include/", "include/")];
    Wheel { requirement, rules: RULES }
}

/// Puts `layout` in place under `deps`, unless it is there and whole.
pub fn ensure(layout: &Layout, deps: &Path) -> Result<()> {
    let (name, version) = (layout.name, layout.version);
    let place = deps.join(layout.folder);
    let stamp = Stamp::path(deps, name);
    let how = match check(layout, &stamp, &place) {
        Ok(()) => "in place",
        Err(_) if adopt(layout, &place, &stamp)? => "in place, checked",
        Err(why) => {
            eprintln!("{name} {version}: {why}; fetching it ({})", layout.download);
            put(layout, deps, &place)?;
            Stamp::of(version, &place)?.write(&stamp)?;
            "fetched"
        }
    };
    eprintln!("{name} {version}: {how}, {}", place.display());
    Ok(())
}

/// Whether what lies at `place` is what was once put there, and all of it.
fn check(layout: &Layout, stamp: &Path, place: &Path) -> Result<()> {
    Stamp::check(stamp, layout.version, place)?;
    missing(layout, place).map_or(Ok(()), |what| bail!("{what}"))
}

/// Fetches `layout` and swaps it in for what is at `place`; until the swap nothing there changes.
fn put(layout: &Layout, deps: &Path, place: &Path) -> Result<()> {
    let scratch = deps.join(".partial");
    remove(&scratch)?;
    let ready = scratch.join("ready");
    assemble(layout, &scratch, &ready)?;
    replace(&ready, place, &scratch)?;
    remove(&scratch)
}

/// A folder without a stamp that holds the right files, every header included, gets its stamp: nothing is fetched twice.
fn adopt(layout: &Layout, place: &Path, stamp: &Path) -> Result<bool> {
    let known_headers = layout.name == CPU.name && Stamp::headers(place)? == CPU_HEADERS;
    if stamp.exists() || !known_headers || missing(layout, place).is_some() {
        return Ok(false);
    }
    Stamp::of(layout.version, place)?.write(stamp)?;
    Ok(true)
}

/// Number and bytes of the headers in torch's wheel.
const CPU_HEADERS: (u64, u64) = (9_410, 38_754_372);

/// Downloads the wheels and builds the layout's folder from them.
fn assemble(layout: &Layout, scratch: &Path, ready: &Path) -> Result<()> {
    ensure!(
        cfg!(all(target_os = "linux", target_arch = "x86_64")),
        "set-up fetches for Linux on x86_64 only; on this machine put {} {} into .deps/{} by hand",
        layout.name,
        layout.version,
        layout.folder
    );
    wheels::fetch(layout.wheels, &scratch.join("wheels"), ready)?;
    if layout.linker_script {
        let script = ready.join("lib/libtorch.so");
        fs::write(&script, LINKER_SCRIPT).with_context(|| format!("writing {}", script.display()))?;
    }
    if let Some(what) = missing(layout, ready) {
        bail!("the wheels of {} {} do not hold what they should: {what}", layout.name, layout.version);
    }
    Ok(())
}

/// The first file that is not as it must be.
fn missing(layout: &Layout, place: &Path) -> Option<String> {
    layout.must_have.iter().find_map(|(file, size_bytes)| match (place.join(file).metadata(), size_bytes) {
        (Err(error), _) if process::is_absent(&error) => Some(format!("{file} is missing")),
        (Err(error), _) => Some(format!("{file} cannot be read: {error}")),
        (Ok(meta), Some(size)) if meta.len() != *size => Some(format!("{file} has {} bytes, not {size}", meta.len())),
        _ => None,
    })
}

/// Swaps `ready` in for `place` by two renames; what was there before ends in `scratch`.
fn replace(ready: &Path, place: &Path, scratch: &Path) -> Result<()> {
    let old = scratch.join("old");
    if place.exists() {
        let cuda = place.join("cuda");
        if cuda.exists() {
            fs::rename(&cuda, ready.join("cuda")).with_context(|| format!("keeping {}", cuda.display()))?;
        }
        fs::rename(place, &old).with_context(|| format!("moving the old {} away", place.display()))?;
    }
    fs::rename(ready, place).with_context(|| format!("moving the new files to {}", place.display()))
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if !process::is_absent(&error) => {
            Err(error).with_context(|| format!("removing {}", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Layout = Layout {
        name: "small",
        version: "1",
        folder: "torch",
        download: "nothing",
        wheels: &[],
        must_have: &[("lib/libc10.so", Some(5))],
        linker_script: true,
    };

    #[test]
    fn a_library_of_the_wrong_size_is_named() {
        let place = test_folder("wrong_size");
        assert_eq!(missing(&SMALL, &place).as_deref(), Some("lib/libc10.so is missing"));
        fs::create_dir_all(place.join("lib")).expect("a folder can be made");
        fs::write(place.join("lib/libc10.so"), "four").expect("a file can be written");
        assert_eq!(missing(&SMALL, &place).as_deref(), Some("lib/libc10.so has 4 bytes, not 5"));
        fs::write(place.join("lib/libc10.so"), "five!").expect("a file can be written");
        assert_eq!(missing(&SMALL, &place), None);
    }

    #[test]
    fn the_new_folder_takes_the_old_ones_place_and_keeps_its_cuda_half() {
        let deps = test_folder("replace");
        let (ready, place) = (deps.join(".partial/ready"), deps.join("torch"));
        for (file, text) in [(place.join("old"), "old"), (place.join("cuda/half"), "half"), (ready.join("new"), "new")]
        {
            fs::create_dir_all(file.parent().expect("it has a folder")).expect("a folder can be made");
            fs::write(file, text).expect("a file can be written");
        }
        replace(&ready, &place, &deps.join(".partial")).expect("both lie on one disk");
        assert!(place.join("new").exists() && place.join("cuda/half").exists() && !place.join("old").exists());
    }

    #[test]
    fn a_file_outside_the_stamp_is_missed_too() {
        let deps = test_folder("outside");
        let layout = Layout { must_have: &[("bin/nvcc", None)], ..SMALL };
        let (place, stamp) = (deps.join("torch"), Stamp::path(&deps, "small"));
        fs::create_dir_all(place.join("bin")).expect("a folder can be made");
        fs::write(place.join("bin/nvcc"), "").expect("a file can be written");
        Stamp::of("1", &place).expect("it can be listed").write(&stamp).expect("it can be written");
        assert!(check(&layout, &stamp, &place).is_ok());
        fs::remove_file(place.join("bin/nvcc")).expect("it is there");
        let error = check(&layout, &stamp, &place).expect_err("it is gone").to_string();
        assert_eq!(error, "bin/nvcc is missing");
    }

    #[test]
    fn both_layouts_take_torch_from_the_same_wheel() {
        for layout in [&CPU, &CUDA] {
            assert_eq!(layout.wheels[0].requirement, format!("torch=={VERSION}"), "{}", layout.name);
        }
    }

    fn test_folder(name: &str) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("xtask-layout-{name}-{}", std::process::id()));
        remove(&folder).expect("a leftover can be removed");
        fs::create_dir_all(&folder).expect("a folder can be made");
        folder
    }
}
