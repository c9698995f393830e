//! What comes from the distribution: FFmpeg's libraries and command, clang, a C++ compiler, Python with pip.
//! Root gets what is missing installed; anyone else is told the one line to run.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::process;

/// Something that a build or a run needs, and the Debian packages that bring it.
struct Need {
    what: &'static str,
    why: &'static str,
    packages: &'static [&'static str],
    is_here: fn() -> bool,
}

const NEEDS: [Need; 6] = [
    Need {
        what: "FFmpeg's libraries",
        why: "the data loader decodes clips with them",
        packages: &[
            "pkg-config",
            "libavcodec-dev",
            "libavformat-dev",
            "libavutil-dev",
            "libavfilter-dev",
            "libavdevice-dev",
            "libswscale-dev",
            "libswresample-dev",
        ],
        is_here: has_ffmpeg_libraries,
    },
    Need {
        what: "the command ffmpeg",
        why: "the demo cuts its clips with it",
        packages: &["ffmpeg"],
        is_here: || process::find("ffmpeg").is_some(),
    },
    Need {
        what: "clang with libclang",
        why: "the bindings to FFmpeg are made from its headers",
        packages: &["clang", "libclang-dev"],
        is_here: has_libclang,
    },
    Need {
        what: "a C++ compiler",
        why: "the bindings to libtorch are C++",
        packages: &["g++"],
        is_here: || process::find("c++").is_some(),
    },
    Need {
        what: "Python 3",
        why: "libtorch is unpacked from Python wheels",
        packages: &["python3"],
        is_here: || process::find("python3").is_some(),
    },
    Need { what: "pip for Python 3", why: "libtorch is fetched with it", packages: &["python3-pip"], is_here: has_pip },
];

/// Checks every need; as root on Debian and its relatives, installs what is missing.
pub fn ensure() -> Result<()> {
    let missing = missing();
    if missing.is_empty() {
        eprintln!("ffmpeg, clang, c++, python3 with pip: in place");
        return Ok(());
    }
    for need in &missing {
        eprintln!("missing: {} ({})", need.what, need.why);
    }
    let packages: Vec<_> = missing.iter().flat_map(|need| need.packages).copied().collect();
    if process::find("apt-get").is_none() {
        bail!(
            "install what is missing with this system's package manager (on Debian it is called: {}), then run \
             `cargo xtask setup` again",
            packages.join(" ")
        );
    }
    if !is_root() {
        bail!(
            "only root may install packages; run this line, then `cargo xtask setup` again:\n  {}",
            advice(&packages)
        );
    }
    install(&packages)?;
    match self::missing().first() {
        None => Ok(()),
        Some(need) => bail!(
            "{} is still not found after installing {}; is PKG_CONFIG_PATH, LIBCLANG_PATH or PATH set to hide it?",
            need.what,
            need.packages.join(" ")
        ),
    }
}

fn missing() -> Vec<&'static Need> {
    NEEDS.iter().filter(|need| !(need.is_here)()).collect()
}

fn install(packages: &[&str]) -> Result<()> {
    eprintln!("installing Debian packages: {}", packages.join(" "));
    let mut update = Command::new("apt-get");
    update.args(["update", "-q"]);
    process::run(&mut update, "updating the list of Debian packages")?;
    let mut install = Command::new("apt-get");
    install.env("DEBIAN_FRONTEND", "noninteractive").args(["install", "-y", "-q", "--no-install-recommends"]);
    process::run(install.args(packages), "installing Debian packages")
}

fn advice(packages: &[&str]) -> String {
    let packages = packages.join(" ");
    format!("sudo apt-get update && sudo apt-get install -y --no-install-recommends {packages}")
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

fn has_ffmpeg_libraries() -> bool {
    let mut command = Command::new("pkg-config");
    process::succeeds(command.args(["--exists", "libavcodec", "libavformat", "libavutil", "libswscale"]))
}

/// Where bindgen looks, too: `LIBCLANG_PATH`, then the folders that distributions use.
fn has_libclang() -> bool {
    let told = std::env::var_os("LIBCLANG_PATH").is_some_and(|path| Path::new(&path).exists());
    process::find("clang").is_some() && (told || libclang_folders().iter().any(|folder| holds_libclang(folder)))
}

fn libclang_folders() -> Vec<std::path::PathBuf> {
    let mut folders: Vec<_> = ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/lib/x86_64-linux-gnu"]
        .map(std::path::PathBuf::from)
        .into_iter()
        .chain([format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH).into()])
        .collect();
    for entry in fs::read_dir("/usr/lib").into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("llvm") {
            folders.push(entry.path().join("lib"));
        }
    }
    folders
}

fn holds_libclang(folder: &Path) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).any(|name| {
        let name = name.to_string_lossy();
        name.starts_with("libclang.so") || (name.starts_with("libclang-") && name.contains(".so"))
    })
}

fn has_pip() -> bool {
    let looks_for_pip = "import importlib.util as u, sys; sys.exit(u.find_spec('pip') is None)";
    process::succeeds(Command::new("python3").args(["-c", looks_for_pip]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_without_rights_gets_one_line_to_paste() {
        let line = advice(&["ffmpeg", "clang"]);
        assert_eq!(line, "sudo apt-get update && sudo apt-get install -y --no-install-recommends ffmpeg clang");
    }

    #[test]
    fn libclang_is_told_from_its_neighbours() {
        let folder = std::env::temp_dir().join(format!("xtask-libclang-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder can be made");
        fs::write(folder.join("libclang-cpp.a"), "").expect("a file can be written");
        assert!(!holds_libclang(&folder));
        fs::write(folder.join("libclang-14.so.1"), "").expect("a file can be written");
        assert!(holds_libclang(&folder));
        fs::remove_dir_all(folder).expect("it was made above");
    }
}
