//! What runs on Nvidia's GPUs, found and loaded when a GPU is asked for: libtorch's CUDA half, and the shared objects of
//! our own that are built against it (`cargo xtask cuda`).
//!
//! A program is linked against the CPU half of libtorch alone, and is the same with and without a GPU. It sees CUDA once
//! [`load_torch_cuda`] has loaded `libtorch_cuda.so`: before the first CUDA tensor, since libtorch asks once what it can do.
//!
//! Where things are looked for, in this order:
//!
//! | what | where |
//! |---|---|
//! | `libtorch_cuda.so` | the folder of the `libtorch_cpu.so` in use; `../cuda/lib` beside that folder (the layout of `cargo xtask setup --cuda`); where the loader looks (`LD_LIBRARY_PATH` and so on) |
//! | `libvared_*.so` | the folder that the environment variable `VARED_CUDA` names and nowhere else, if it is set; the program's folder; `../cuda` and `../../cuda` beside it (`target/cuda`, for programs and tests of a checkout); where the loader looks |
//!
//! What is loaded stays until the process ends: CUDA and NCCL have threads of their own in it.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libloading::os::unix::{RTLD_GLOBAL, RTLD_LOCAL, RTLD_NOW};

pub use libloading::os::unix::{Library, Symbol};

/// libtorch's CUDA half.
const TORCH_CUDA: &str = "libtorch_cuda.so";
/// Its CPU half, which this process is linked against.
const TORCH_CPU: &str = "libtorch_cpu.so";
/// The folder of our shared objects, for installations that keep them elsewhere.
const FOLDER: &str = "VARED_CUDA";

/// A library that did not load.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("load {library}: {}; {advice}", tried.join("; "))]
pub struct CudaError {
    library: String,
    /// Each place, and why it is not to be had there.
    tried: Vec<String>,
    advice: &'static str,
}

/// Loads libtorch's CUDA half, its symbols open to whatever is loaded after it. Called again, it does nothing.
///
/// # Errors
/// Says where it looked, and why it was not to be had there.
pub fn load_torch_cuda() -> Result<(), CudaError> {
    static LOADED: OnceLock<&Library> = OnceLock::new();
    if LOADED.get().is_none() {
        let folders = torch_cpu_folder().map(|cpu| vec![cpu.clone(), cpu.join("../cuda/lib")]).unwrap_or_default();
        let search = Search { folders, loader: true, flags: RTLD_NOW | RTLD_GLOBAL };
        let advice =
            "`cargo xtask setup --cuda` puts it beside libtorch's CPU half; PyTorch 2.11 for CUDA 13 has it, too";
        let torch = search.load(TORCH_CUDA, advice)?;
        LOADED.get_or_init(|| torch);
    }
    Ok(())
}

/// Loads one of our own shared objects by its file's name, after [`load_torch_cuda`].
///
/// # Errors
/// Says where it looked, and why it was not to be had there.
pub fn object(file: &str) -> Result<&'static Library, CudaError> {
    load_torch_cuda()?;
    let search = match std::env::var_os(FOLDER) {
        Some(folder) => Search { folders: vec![folder.into()], loader: false, flags: RTLD_NOW | RTLD_LOCAL },
        None => Search { folders: folders_beside_the_program(), loader: true, flags: RTLD_NOW | RTLD_LOCAL },
    };
    search.load(file, "`cargo xtask cuda` builds it; VARED_CUDA names its folder, where that is another one")
}

/// Where to look, in this order.
struct Search {
    folders: Vec<PathBuf>,
    /// And at last, wherever the system's loader looks.
    loader: bool,
    flags: i32,
}

impl Search {
    fn load(&self, file: &str, advice: &'static str) -> Result<&'static Library, CudaError> {
        let mut tried = Vec::new();
        for path in self.folders.iter().map(|folder| folder.join(file)) {
            if !path.is_file() {
                tried.push(format!("{} is not there", path.display()));
                continue;
            }
            // One that is there and does not load is the one that was meant: another one would hide its fault.
            return open(&path, self.flags).map_err(|why| CudaError {
                library: file.to_owned(),
                tried: vec![why],
                advice,
            });
        }
        if self.loader {
            match open(Path::new(file), self.flags) {
                Ok(library) => return Ok(library),
                Err(why) => tried.push(why),
            }
        }
        Err(CudaError { library: file.to_owned(), tried, advice })
    }
}

fn open(path: &Path, flags: i32) -> Result<&'static Library, String> {
    // SAFETY: its initialisers run. They are libtorch's, or those of an object that was built for this program, and ask
    // nothing of who loads them.
    let library = unsafe { Library::open(Some(path), flags) };
    library.map(|library| &*Box::leak(Box::new(library))).map_err(|error| error.to_string())
}

/// The folder of the libtorch that this process runs with.
fn torch_cpu_folder() -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    Some(mapped(&maps, TORCH_CPU)?.parent()?.to_owned())
}

/// The mapped file of that name, out of `/proc/self/maps`.
fn mapped<'a>(maps: &'a str, name: &str) -> Option<&'a Path> {
    let paths = maps.lines().filter_map(|line| line.find('/').map(|at| Path::new(&line[at..])));
    paths.into_iter().find(|path| path.file_name().is_some_and(|file| file == name))
}

/// Programs lie in `target/<profile>/` and tests one folder deeper, what `cargo xtask cuda` makes in `target/cuda/`.
fn folders_beside_the_program() -> Vec<PathBuf> {
    let program = std::env::current_exe().ok();
    let folder = program.as_deref().and_then(Path::parent);
    folder.map(|folder| vec![folder.to_owned(), folder.join("../cuda"), folder.join("../../cuda")]).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "7f00-7f01 r--p 00000000 08:01 12 /usr/lib/libc.so.6\n\
                        7f01-7f02 rw-p 00000000 00:00 0\n\
                        7f02-7f03 r-xp 00000000 08:01 13 /opt/a folder/libtorch_cpu.so\n";

    #[test]
    fn the_libtorch_in_use_is_found_by_its_file() {
        assert_eq!(mapped(MAPS, TORCH_CPU), Some(Path::new("/opt/a folder/libtorch_cpu.so")));
        assert_eq!(mapped(MAPS, "libtorch_cuda.so"), None);
    }

    #[test]
    fn what_is_nowhere_names_each_place_and_what_to_do() {
        let folders = vec![PathBuf::from("/no/such"), PathBuf::from("/nor/such")];
        let error =
            Search { folders, loader: true, flags: RTLD_NOW }.load("libvared_no.so", "build it").expect_err("nowhere");
        let text = error.to_string();
        assert!(
            text.starts_with("load libvared_no.so: /no/such/libvared_no.so is not there; /nor/such/libv"),
            "{text}"
        );
        assert!(text.contains("cannot open shared object file") && text.ends_with("; build it"), "{text}");
        assert!(!text.contains('\n'), "{text}");
    }

    #[test]
    fn a_broken_file_is_not_passed_over() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let broken = folder.path().join("libc.so.6");
        std::fs::write(&broken, "no library").expect("a temporary file");
        let search = Search { folders: vec![folder.path().to_owned()], loader: true, flags: RTLD_NOW };
        let text = search.load("libc.so.6", "build it").map(drop).expect_err("it is no library").to_string();
        assert!(text.contains(&broken.display().to_string()), "{text}");
    }

    #[test]
    fn the_loaders_own_places_come_last() {
        let search = Search { folders: vec!["/no/such".into()], loader: true, flags: RTLD_NOW };
        assert!(search.load("libc.so.6", "").is_ok());
        let search = Search { loader: false, ..search };
        assert!(search.load("libc.so.6", "").is_err());
    }
}
