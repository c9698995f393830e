//! PyTorch's files: where the pickle and the storages lie, and the state dict among what was saved.

use std::collections::{BTreeMap, HashMap};

use rawzip::{CompressionMethod, ZipArchive};

use crate::error::shown;
use crate::pickle::{Id, Pickled, StorageRef, TensorRef, Value};
use crate::{ReadError, Tensor};

/// How a file from before PyTorch 1.6 starts: the pickle of a magic number.
pub(crate) const LEGACY_START: [u8; 15] =
    [0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.'];
/// Where checkpoints keep their state dict.
const WRAPPERS: [&str; 2] = ["model_state", "state_dict"];
/// Most bytes of the pickle inside of an archive.
const MOST_PICKLE_BYTES: usize = 64 << 20;

type Tensors<'a> = BTreeMap<String, Tensor<'a>>;

/// The bytes of storages by their keys.
type Storages<'a> = HashMap<&'a str, &'a [u8]>;

/// A zip archive: `NAME/data.pkl`, `NAME/byteorder`, `NAME/data/KEY`, none of them compressed.
pub(crate) fn read_zip(bytes: &[u8]) -> Result<Tensors<'_>, ReadError> {
    let archive = Archive::read(bytes)?;
    if archive
        .files
        .keys()
        .any(|name| name.strip_prefix(archive.prefix.as_str()).is_some_and(|name| name.starts_with("code/")))
    {
        return Err(ReadError::damaged(
            "it is a TorchScript program; its state dict is wanted, torch.save(m.state_dict(), FILE)",
        ));
    }
    if archive.file("byteorder")?.is_some_and(|order| order != b"little") {
        return Err(ReadError::damaged("its numbers are big-endian"));
    }
    let pickle = archive.file("data.pkl")?.ok_or_else(|| ReadError::damaged("the archive has no data.pkl"))?;
    if pickle.len() > MOST_PICKLE_BYTES {
        return Err(ReadError::damaged(format!("its pickle has {} bytes", pickle.len())));
    }
    let pickled = Pickled::read(pickle)?;
    let mut storages = Storages::new();
    for StorageRef { key, .. } in stored(&pickled) {
        if !storages.contains_key(key) {
            let data = archive.file(&format!("data/{key}"))?;
            let data = data.ok_or_else(|| ReadError::damaged(format!("the archive has no storage {}", shown(key))))?;
            storages.insert(key, data);
        }
    }
    state_dict(&pickled, &storages)
}

/// Magic number, protocol, system, the object, the storages' keys — five pickles — and then the storages one by one:
/// eight bytes of length in elements, and the elements.
pub(crate) fn read_legacy<'a>(bytes: &'a [u8]) -> Result<Tensors<'a>, ReadError> {
    let mut rest = &bytes[LEGACY_START.len()..];
    let mut next = || -> Result<Pickled<'a>, ReadError> {
        let pickled = Pickled::read(rest)?;
        rest = &rest[pickled.len..];
        Ok(pickled)
    };
    let (_protocol, _system) = (next()?, next()?);
    let (pickled, keys) = (next()?, next()?);
    let sizes: HashMap<&str, usize> = stored(&pickled).map(|storage| (storage.key, storage.element.size())).collect();
    let Value::List(listed) = keys.root() else { return Err(ReadError::damaged("no list of storages")) };
    let mut storages = Storages::new();
    for id in listed {
        let Value::Text(key) = keys.values[*id] else { return Err(ReadError::damaged("a storage without a key")) };
        let size = sizes.get(key).ok_or_else(|| ReadError::damaged("a storage that nothing refers to"))?;
        storages.insert(
            key,
            take_storage(&mut rest, *size)
                .ok_or_else(|| ReadError::damaged(format!("the bytes of storage {} are cut short", shown(key))))?,
        );
    }
    state_dict(&pickled, &storages)
}

fn take_storage<'a>(rest: &mut &'a [u8], element_bytes: usize) -> Option<&'a [u8]> {
    let (len, after) = rest.split_first_chunk::<8>()?;
    let bytes = usize::try_from(u64::from_le_bytes(*len)).ok()?.checked_mul(element_bytes)?;
    let (storage, after) = after.split_at_checked(bytes)?;
    *rest = after;
    Some(storage)
}

/// Every storage that the pickle speaks of.
fn stored<'a>(pickled: &Pickled<'a>) -> impl Iterator<Item = StorageRef<'a>> {
    pickled.values.iter().filter_map(|value| match value {
        Value::Storage(storage) => Some(*storage),
        _ => None,
    })
}

/// The files of an archive by name, borrowed from it.
struct Archive<'a> {
    files: HashMap<String, File<'a>>,
    /// What all names begin with: the folder named after the saved file.
    prefix: String,
}

#[derive(Clone, Copy)]
struct File<'a> {
    data: &'a [u8],
    is_whole: bool,
    checksum: u32,
}

impl<'a> Archive<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, ReadError> {
        let damaged = |error: rawzip::Error| ReadError::damaged(format!("as a zip archive: {error}"));
        let archive = ZipArchive::from_slice(bytes).map_err(damaged)?;
        let mut files = HashMap::new();
        let mut total = 0_usize;
        for record in archive.entries() {
            let record = record.map_err(damaged)?;
            let name = String::from_utf8_lossy(record.file_path().as_ref()).into_owned();
            let entry = archive.get_entry(record.wayfinder()).map_err(damaged)?;
            // The entry borrows the archive, what it says the file's own bytes.
            let (start, end) = entry.compressed_data_range();
            let data = usize::try_from(start).ok().zip(usize::try_from(end).ok());
            let data = data.and_then(|(start, end)| bytes.get(start..end)).unwrap_or_default();
            total = total.saturating_add(data.len());
            if total > bytes.len() {
                // Small archives that unpack to large ones let their entries overlap.
                return Err(ReadError::damaged("as a zip archive: its files overlap"));
            }
            let is_whole = record.compression_method() == CompressionMethod::STORE;
            let file = File { data, is_whole, checksum: entry.claim_verifier().crc };
            if files.insert(name.clone(), file).is_some() {
                return Err(ReadError::damaged(format!("as a zip archive: two files named {}", shown(&name))));
            }
        }
        let pickle = files.keys().find(|name| name.ends_with("/data.pkl"));
        let prefix = pickle.and_then(|name| name.strip_suffix("data.pkl")).unwrap_or_default().to_owned();
        Ok(Self { files, prefix })
    }

    fn file(&self, name: &str) -> Result<Option<&'a [u8]>, ReadError> {
        let Some(file) = self.files.get(&format!("{}{name}", self.prefix)) else { return Ok(None) };
        if !file.is_whole {
            return Err(ReadError::damaged(format!("{} is compressed, torch.save stores it as it is", shown(name))));
        }
        if rawzip::crc32(file.data) != file.checksum {
            return Err(ReadError::damaged(format!("{} is not what its checksum says", shown(name))));
        }
        Ok(Some(file.data))
    }
}

/// The tensors of the state dict at the root, or under one of the customary keys.
fn state_dict<'a>(pickled: &Pickled<'a>, storages: &Storages<'a>) -> Result<Tensors<'a>, ReadError> {
    let missing = |found: String| ReadError::NoStateDict { found };
    let Value::Dict(root) = pickled.root() else {
        return Err(missing(format!("the file holds {}", pickled.root().kind())));
    };
    let wrapped = root.iter().find_map(|(key, value)| match (&pickled.values[*key], &pickled.values[*value]) {
        (Value::Text(key), Value::Dict(items)) if WRAPPERS.contains(key) => Some(items),
        _ => None,
    });
    let mut tensors = Tensors::new();
    for (key, value) in wrapped.unwrap_or(root) {
        match (&pickled.values[*key], &pickled.values[*value]) {
            (Value::Text(name), Value::Tensor(tensor)) => {
                let tensor = view(tensor, pickled, storages)
                    .map_err(|problem| ReadError::Tensor { name: shown(name), problem })?;
                tensors.insert((*name).to_owned(), tensor);
            }
            (Value::Text(name), other) => {
                return Err(missing(format!(
                    "{} is {}; the keys are {}",
                    shown(name),
                    other.kind(),
                    keys(pickled, root)
                )));
            }
            (other, _) => return Err(missing(format!("{} is a key, not a name", other.kind()))),
        }
    }
    if tensors.is_empty() {
        return Err(missing("it is empty".to_owned()));
    }
    Ok(tensors)
}

fn view<'a>(tensor: &TensorRef, pickled: &Pickled<'a>, storages: &Storages<'a>) -> Result<Tensor<'a>, String> {
    let Value::Storage(storage) = pickled.values[tensor.storage] else { return Err("it has no storage".to_owned()) };
    let bytes = storages.get(storage.key).copied().unwrap_or_default();
    let told = storage.len.checked_mul(storage.element.size());
    if told != Some(bytes.len()) {
        return Err(format!("its storage has {} bytes where {} elements are told", bytes.len(), storage.len));
    }
    Tensor::new(storage.element, bytes, tensor.offset, (tensor.shape.clone(), tensor.strides.clone()))
}

fn keys(pickled: &Pickled<'_>, items: &[(Id, Id)]) -> String {
    const MOST: usize = 6;
    let names = items.iter().filter_map(|(key, _)| match pickled.values[*key] {
        Value::Text(name) => Some(shown(name)),
        _ => None,
    });
    let names: Vec<String> = names.take(MOST).collect();
    names.join(", ") + if items.len() > MOST { ", …" } else { "" }
}
