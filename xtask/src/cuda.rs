//! The CUDA half: two shared objects in `target/cuda`, built on any machine and loaded as a worker loads them.
//!
//! They are no part of a cargo build: a program is linked against libtorch's CPU half alone, and opens them when it is to run
//! on a GPU. So nobody without a GPU needs 2.5 GB of CUDA to build or test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::process;
use crate::setup::{Device, Setup};
use crate::workspace::Workspace;

/// A shared object and where its sources lie: every `.cu` and `.cc` there or, with names, those alone.
struct Object {
    name: &'static str,
    folder: &'static str,
    only: &'static [&'static str],
}

const OBJECTS: [Object; 2] = [
    Object { name: "libvared_nccl.so", folder: "libs/collective/bridge", only: &["nccl.cc"] },
    Object { name: "libvared_kernels.so", folder: "libs/nn/cuda", only: &[] },
];

/// The GPUs that kernels are compiled for: A100, H100 and H200, B200; what comes later translates the last one's PTX.
const GPUS: [&str; 4] = [
    "arch=compute_80,code=sm_80",
    "arch=compute_90,code=sm_90",
    "arch=compute_100,code=sm_100",
    "arch=compute_90,code=compute_90",
];

/// What each object is linked against, in the folders of libtorch and of its CUDA half.
const LIBRARIES: [&str; 6] =
    ["-ltorch_cuda", "-ltorch_cpu", "-lc10_cuda", "-lc10", "-l:libnccl.so.2", "-l:libcudart.so.13"];

/// Loads files one after the other as a program does, everything resolved at once.
const LOAD: &str = "import ctypes, os, sys
for file in sys.argv[1:]:
    ctypes.CDLL(file, os.RTLD_NOW | os.RTLD_GLOBAL)
";

/// Sets up, builds what is out of date, and loads all of it.
pub fn run(workspace: &Workspace) -> Result<()> {
    let start = Instant::now();
    Setup::new(workspace.root().join(".deps"), Device::Cuda).with_nvcc().run()?;
    let build = Build { root: workspace.root().to_owned() };
    let objects = build.all()?;
    build.load(&objects)?;
    for object in &objects {
        eprintln!("in place, and loads: {}", object.display());
    }
    eprintln!("done in {}", process::spell(start.elapsed()));
    eprintln!("{}", proven(Device::seen_here()));
    Ok(())
}

/// What is known now, in a line.
fn proven(device: Device) -> &'static str {
    match device {
        Device::Cpu => {
            "proven: all of it compiles, and every symbol is found beside libtorch's. Not proven, for want of a GPU: that it \
             computes; on a machine with one, `cargo run -p vared-collective --example nccl` tries NCCL's half"
        }
        Device::Cuda => {
            "proven: all of it compiles, and every symbol is found beside libtorch's. That NCCL's half computes, `cargo run -p \
             vared-collective --example nccl` tries on the GPU of this machine"
        }
    }
}

/// One build, in the checkout `root`.
struct Build {
    root: PathBuf,
}

/// A command that makes one file. Beside the parts of its object lie the command that made it, so that new flags are
/// noticed, and which files of ours the compiler read.
struct Step {
    command: Command,
    makes: PathBuf,
    attempt: String,
    /// What it is made of, or the compiler's own list of that.
    inputs: Inputs,
    record: PathBuf,
}

enum Inputs {
    These(Vec<PathBuf>),
    In(PathBuf),
}

impl Step {
    /// Whether what this makes is there, was made by this command, and of what is there now.
    fn is_done(&self, setups: &[PathBuf]) -> bool {
        let inputs = match &self.inputs {
            Inputs::These(files) => files.clone(),
            Inputs::In(list) => match fs::read_to_string(list) {
                Ok(text) => dependencies(&text),
                Err(_) => return false,
            },
        };
        let recorded = fs::read_to_string(&self.record).is_ok_and(|line| line == process::line(&self.command));
        recorded && is_newer(&self.makes, inputs.iter().chain(setups))
    }

    fn run(&mut self) -> Result<()> {
        eprintln!("{}", self.attempt);
        process::run(&mut self.command, &self.attempt)?;
        let line = process::line(&self.command);
        fs::write(&self.record, line).with_context(|| format!("writing {}", self.record.display()))
    }
}

/// Whether `made` is there and no older than any input, all of which must be there.
fn is_newer<'a>(made: &Path, mut inputs: impl Iterator<Item = &'a PathBuf>) -> bool {
    let time = |file: &Path| file.metadata().and_then(|meta| meta.modified()).ok();
    let Some(made) = time(made) else { return false };
    inputs.all(|input| time(input).is_some_and(|input| input <= made))
}

/// The files after the colon of a rule for `make`, as compilers write it.
fn dependencies(rule: &str) -> Vec<PathBuf> {
    let files = rule.split_once(": ").map_or("", |(_, files)| files);
    files.split_whitespace().filter(|word| *word != "\\").map(PathBuf::from).collect()
}

/// Runs what is not done yet, as many at once as there are cores.
fn run_all(steps: Vec<Step>, setups: &[PathBuf]) -> Result<()> {
    let todo: Vec<_> = steps.into_iter().filter(|step| !step.is_done(setups)).collect();
    let todo = Mutex::new(todo.into_iter());
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let next = || todo.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || std::iter::from_fn(next).try_for_each(|mut step| step.run());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        let results = workers.into_iter().map(|worker| worker.join().expect("compiling does not panic"));
        results.collect::<Vec<_>>().into_iter().collect()
    })
}

impl Build {
    /// The objects whose sources are here, up to date.
    fn all(&self) -> Result<Vec<PathBuf>> {
        let (mut compile, mut link, mut built) = (Vec::new(), Vec::new(), Vec::new());
        for object in &OBJECTS {
            let sources = self.sources(object)?;
            if sources.is_empty() {
                continue;
            }
            let (steps, last) = self.steps(object, &sources);
            built.push(last.makes.clone());
            link.push(last);
            compile.extend(steps);
        }
        for folder in compile.iter().chain(&link).filter_map(|step| step.record.parent()) {
            fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        }
        let setups =
            ["libtorch-cpu.json", "libtorch-cuda.json", "nvcc.json"].map(|file| self.root.join(".deps").join(file));
        run_all(compile, &setups)?;
        run_all(link, &setups)?;
        Ok(built)
    }

    /// The sources of `object`, sorted; none where its folder is not there.
    fn sources(&self, object: &Object) -> Result<Vec<PathBuf>> {
        let folder = self.root.join(object.folder);
        let entries = match fs::read_dir(&folder) {
            Err(error) if process::is_absent(&error) => return Ok(Vec::new()),
            entries => entries.with_context(|| format!("listing {}", folder.display()))?,
        };
        let mut sources = Vec::new();
        for entry in entries {
            let path = entry.with_context(|| format!("listing {}", folder.display()))?.path();
            let is_source = path.extension().is_some_and(|end| end == "cu" || end == "cc");
            let is_ours = object.only.is_empty() || object.only.iter().any(|name| path.ends_with(name));
            if is_source && is_ours {
                sources.push(path);
            }
        }
        sources.sort();
        Ok(sources)
    }

    /// The commands that compile `sources`, each by itself, and the one that links them.
    fn steps(&self, object: &Object, sources: &[PathBuf]) -> (Vec<Step>, Step) {
        let target = self.root.join("target/cuda");
        let parts = target.join(object.name).with_extension("parts");
        let compile: Vec<_> = sources.iter().map(|source| self.compile(source, &parts)).collect();
        let makes = target.join(object.name);
        let mut command = Command::new("g++");
        command.args(["-shared", "-Wl,-z,defs", "-Wl,--no-as-needed", "-o"]).arg(&makes);
        let inputs: Vec<_> = compile.iter().map(|step| step.makes.clone()).collect();
        command.args(&inputs);
        for folder in ["lib", "cuda/lib"] {
            command.arg("-L").arg(self.libtorch(folder));
        }
        command.args(LIBRARIES);
        let attempt = format!("linking {}", object.name);
        (compile, Step { command, makes, attempt, inputs: Inputs::These(inputs), record: parts.join("link.command") })
    }

    fn compile(&self, source: &Path, parts: &Path) -> Step {
        let name = source.file_name().unwrap_or_default().to_string_lossy();
        let makes = parts.join(format!("{name}.o"));
        let mut command = if name.ends_with(".cu") {
            let mut nvcc = Command::new(self.root.join(".deps/nvcc/bin/nvcc"));
            nvcc.args(["-std=c++17", "-O3", "-Xcompiler", "-fPIC", "-Xcompiler", "-Wall"]);
            nvcc.args(GPUS.iter().flat_map(|gpu| ["-gencode", gpu]));
            nvcc
        } else {
            let mut gcc = Command::new("g++");
            gcc.args(["-std=c++17", "-O2", "-fPIC", "-Wall", "-Wextra"]);
            for folder in ["include", "include/torch/csrc/api/include"] {
                gcc.arg("-isystem").arg(self.libtorch(folder));
            }
            gcc
        };
        for folder in ["cuda/include", "cuda/include/cccl"] {
            command.arg("-isystem").arg(self.libtorch(folder));
        }
        let (list, record) = (makes.with_extension("d"), makes.with_extension("command"));
        command.args(["-MMD", "-MF"]).arg(&list).arg("-c").arg(source).arg("-o").arg(&makes);
        Step { command, makes, attempt: format!("compiling {}", source.display()), inputs: Inputs::In(list), record }
    }

    fn libtorch(&self, file: &str) -> PathBuf {
        self.root.join(".deps/libtorch").join(file)
    }

    /// In a process of its own, as a worker does: libtorch's CPU half, its CUDA half, then ours.
    fn load(&self, objects: &[PathBuf]) -> Result<()> {
        let mut python = Command::new("python3");
        // What is beside them must do.
        python.env_remove("LD_LIBRARY_PATH").args(["-c", LOAD]);
        python.args(["lib/libtorch_cpu.so", "cuda/lib/libtorch_cuda.so"].map(|file| self.libtorch(file))).args(objects);
        process::capture(&mut python, "loading what was built beside libtorch").map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn checkout(name: &str, files: &[&str]) -> Build {
        let root = std::env::temp_dir().join(format!("xtask-cuda-{name}-{}", std::process::id()));
        for file in files {
            let file = root.join(file);
            fs::create_dir_all(file.parent().expect("it has a folder")).expect("a folder can be made");
            fs::write(file, "").expect("a file can be written");
        }
        Build { root }
    }

    /// Sets the file's time to `seconds` after that of all others here.
    fn age(file: &Path, seconds: u64) {
        let time = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000 + seconds);
        fs::File::options()
            .append(true)
            .open(file)
            .and_then(|file| file.set_modified(time))
            .expect("the file is there");
    }

    #[test]
    fn an_object_is_made_of_its_own_sources_and_of_none_where_there_is_no_folder() {
        let files = ["gloo.cc", "nccl.cc", "bridge.h"].map(|file| format!("libs/collective/bridge/{file}"));
        let build = checkout("sources", &files.each_ref().map(String::as_str));
        let [nccl, kernels] = &OBJECTS;
        assert_eq!(build.sources(nccl).expect("it can be listed"), [build.root.join(&files[1])]);
        assert_eq!(build.sources(kernels).expect("it is not there"), [] as [PathBuf; 0]);
        fs::remove_dir_all(build.root).expect("it was made above");
    }

    #[test]
    fn kernels_go_through_nvcc_and_the_rest_through_gcc_with_libtorchs_headers() {
        let build = Build { root: PathBuf::from("/r") };
        let sources = [PathBuf::from("/r/libs/nn/cuda/fill.cu"), PathBuf::from("/r/libs/nn/cuda/glue.cc")];
        let (compile, link) = build.steps(&OBJECTS[1], &sources);
        let line = |step: &Step| process::line(&step.command);
        let parts = "/r/target/cuda/libvared_kernels.parts";
        assert!(line(&compile[0]).starts_with("/r/.deps/nvcc/bin/nvcc -std=c++17 -O3 -Xcompiler -fPIC"));
        for gpu in ["code=sm_80", "code=sm_90", "code=sm_100", "code=compute_90"] {
            assert!(line(&compile[0]).contains(gpu), "{gpu}");
        }
        assert!(!line(&compile[0]).contains("torch/csrc"), "kernels include no header of libtorch");
        assert!(line(&compile[1]).starts_with("g++ ") && line(&compile[1]).contains(".deps/libtorch/include "));
        assert!(line(&compile[1]).ends_with(&format!("-c /r/libs/nn/cuda/glue.cc -o {parts}/glue.cc.o")));
        assert!(
            line(&link).contains(&format!("-o /r/target/cuda/libvared_kernels.so {parts}/fill.cu.o {parts}/glue.cc.o"))
        );
        assert!(line(&link).contains("-Wl,-z,defs"), "what is missing fails here, not on a GPU machine");
    }

    #[test]
    fn the_compilers_list_of_files_is_read_over_its_line_breaks() {
        let rule = "/t/a.cu.o: /s/a.cu \\\n /s/rows.cuh /s/b.h\n";
        assert_eq!(dependencies(rule), ["/s/a.cu", "/s/rows.cuh", "/s/b.h"].map(PathBuf::from));
        assert_eq!(dependencies(""), [] as [PathBuf; 0]);
    }

    #[test]
    fn a_step_is_done_until_its_command_or_anything_it_was_made_of_changes() {
        let build = checkout("done", &["a.cc", "a.h", "setup.json", "a.cc.o"]);
        let file = |name: &str| build.root.join(name);
        let step = |flag: &str| {
            let mut command = Command::new("g++");
            command.arg(flag);
            let (makes, list, record) = (file("a.cc.o"), file("a.cc.d"), file("a.cc.command"));
            Step { command, makes, attempt: String::new(), inputs: Inputs::In(list), record }
        };
        let is_done = |flag: &str| step(flag).is_done(&[file("setup.json")]);
        for (name, seconds) in [("a.cc", 1), ("a.h", 2), ("setup.json", 3), ("a.cc.o", 4)] {
            age(&file(name), seconds);
        }
        fs::write(file("a.cc.command"), "g++ -O2").expect("a file can be written");
        assert!(!is_done("-O2"), "what it was made of is not known");
        let rule = format!("a.cc.o: {} {}", file("a.cc").display(), file("a.h").display());
        fs::write(file("a.cc.d"), rule).expect("a file can be written");
        assert!(is_done("-O2"));
        assert!(!is_done("-O3"), "another command");
        for input in ["a.cc", "a.h", "setup.json"] {
            age(&file(input), 5);
            assert!(!is_done("-O2"), "{input} is newer");
            age(&file(input), 0);
        }
        assert!(is_done("-O2"));
        fs::remove_file(file("a.h")).expect("it is there");
        assert!(!is_done("-O2"), "a header is gone");
        fs::remove_dir_all(build.root).expect("it was made above");
    }

    #[test]
    fn every_step_runs_and_a_failure_is_told() {
        let build = checkout("run", &["here"]);
        let step = |name: &str, script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]).arg(build.root.join(name));
            let (makes, record) = (build.root.join(name), build.root.join(format!("{name}.command")));
            Step { command, makes, attempt: format!("making {name}"), inputs: Inputs::These(Vec::new()), record }
        };
        run_all((0..5).map(|n| step(&n.to_string(), "touch \"$0\"")).collect(), &[]).expect("each can be made");
        assert!((0..5).all(|n| build.root.join(n.to_string()).is_file()));
        run_all(vec![step("0", "touch \"$0\"")], &[]).expect("there is nothing to do");
        let error = run_all(vec![step("bad", "exit 3")], &[]).expect_err("it exits with 3").to_string();
        assert!(error.starts_with("making bad failed"), "{error}");
        fs::remove_dir_all(build.root).expect("it was made above");
    }
}
