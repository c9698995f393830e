//! The record beside a layout of what it held when it was whole: a half-done or damaged one is found by comparing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::process;

/// Version, size of each library, number and bytes of the headers.
#[derive(Debug, PartialEq, Eq)]
pub struct Stamp {
    version: String,
    libraries: BTreeMap<String, u64>,
    headers: (u64, u64),
}

impl Stamp {
    /// Where the stamp of the layout `name` lies. Outside the layout's folder, so that it never travels with a copy.
    pub fn path(deps: &Path, name: &str) -> PathBuf {
        deps.join(format!("{name}.json"))
    }

    /// Takes stock of the folder `place`.
    pub fn of(version: &str, place: &Path) -> Result<Self> {
        let mut libraries = BTreeMap::new();
        for (name, size_bytes) in files(&place.join("lib"))? {
            libraries.insert(name, size_bytes);
        }
        Ok(Self { version: version.to_owned(), libraries, headers: Self::headers(place)? })
    }

    /// Number and bytes of the headers in the folder `place`.
    pub fn headers(place: &Path) -> Result<(u64, u64)> {
        let files = files(&place.join("include"))?;
        Ok((files.len() as u64, files.iter().map(|(_, size)| size).sum()))
    }

    /// Whether the stamp at `path` says `version` and `place` still holds what it says; the error tells what differs.
    pub fn check(path: &Path, version: &str, place: &Path) -> Result<()> {
        let stamp = Self::read(path)?;
        ensure!(stamp.version == version, "version {} is in place", stamp.version);
        let now = Self::of(version, place)?;
        for (name, size) in &stamp.libraries {
            match now.libraries.get(name) {
                None => bail!("lib/{name} is gone"),
                Some(found) => ensure!(found == size, "lib/{name} has {found} bytes, not {size}"),
            }
        }
        ensure!(now.headers == stamp.headers, "{} headers are in place, not {}", now.headers.0, stamp.headers.0);
        Ok(())
    }

    /// Writes it to `path`.
    pub fn write(&self, path: &Path) -> Result<()> {
        let json = json!({
            "version": self.version,
            "libraries": self.libraries,
            "headers": { "files": self.headers.0, "bytes": self.headers.1 },
        });
        fs::write(path, format!("{json:#}\n")).with_context(|| format!("writing {}", path.display()))
    }

    fn read(path: &Path) -> Result<Self> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if process::is_absent(&error) => bail!("not set up yet, or not to the end"),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        let json: Value = serde_json::from_str(&text).unwrap_or_default();
        Self::parse(&json).with_context(|| format!("{} is damaged", path.display()))
    }

    fn parse(json: &Value) -> Option<Self> {
        let libraries = json["libraries"].as_object()?.iter();
        Some(Self {
            version: json["version"].as_str()?.to_owned(),
            libraries: libraries.map(|(name, size)| Some((name.clone(), size.as_u64()?))).collect::<Option<_>>()?,
            headers: (json["headers"]["files"].as_u64()?, json["headers"]["bytes"].as_u64()?),
        })
    }
}

/// Every file under `folder` with its size, by name relative to it; none where there is no such folder.
fn files(folder: &Path) -> Result<Vec<(String, u64)>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let entries = match fs::read_dir(&next) {
            Err(error) if process::is_absent(&error) => continue,
            entries => entries.with_context(|| format!("listing {}", next.display()))?,
        };
        for entry in entries {
            let path = entry.with_context(|| format!("listing {}", next.display()))?.path();
            let meta = path.metadata().with_context(|| format!("looking at {}", path.display()))?;
            if meta.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("it was listed below that folder");
                found.push((name.to_string_lossy().into_owned(), meta.len()));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_layout_passes_and_each_damage_is_named() {
        let deps = std::env::temp_dir().join(format!("xtask-stamp-{}", std::process::id()));
        let place = deps.join("libtorch");
        for (file, text) in [("lib/libc10.so", "12345"), ("lib/libgomp.so.1", "1"), ("include/ATen/ATen.h", "//")] {
            let file = place.join(file);
            fs::create_dir_all(file.parent().expect("it has a folder")).expect("a folder can be made");
            fs::write(file, text).expect("a file can be written");
        }
        let stamp = Stamp::path(&deps, "cpu");
        let check = |version: &str| Stamp::check(&stamp, version, &place).map_err(|error| error.to_string());

        assert_eq!(check("2.11.0"), Err("not set up yet, or not to the end".to_owned()));
        Stamp::of("2.11.0", &place).expect("it can be listed").write(&stamp).expect("it can be written");
        assert_eq!(check("2.11.0"), Ok(()));
        assert_eq!(check("2.12.0"), Err("version 2.11.0 is in place".to_owned()));

        fs::write(place.join("lib/libc10.so"), "123").expect("a file can be written");
        assert_eq!(check("2.11.0"), Err("lib/libc10.so has 3 bytes, not 5".to_owned()));
        fs::write(place.join("lib/libc10.so"), "12345").expect("a file can be written");
        fs::remove_file(place.join("include/ATen/ATen.h")).expect("it is there");
        assert_eq!(check("2.11.0"), Err("0 headers are in place, not 1".to_owned()));
        fs::write(&stamp, "{ half").expect("a file can be written");
        assert!(check("2.11.0").expect_err("it is not JSON").ends_with("is damaged"));
        fs::remove_dir_all(&deps).expect("it was made above");
    }
}
