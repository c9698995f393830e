//! Files that `torch.save` really wrote (`fixtures/make.py`), whole, damaged and malicious.

use std::path::Path;

use proptest::prelude::*;
use tensorfile::{Format, ReadError, read};

/// Those that are read, and by which format.
const GOOD: [(&str, Format); 5] = [
    ("plain.pth", Format::Torch),
    ("checkpoint.pyth", Format::Torch),
    ("kinds.pth", Format::Torch),
    ("strided.pth", Format::Torch),
    ("legacy.pyth", Format::LegacyTorch),
];

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn refusal(bytes: &[u8]) -> String {
    read(bytes).expect_err("refused").to_string()
}

#[test]
fn what_torch_wrote_is_read() {
    let expected: serde_json::Value = serde_json::from_slice(&fixture("expected.json")).expect("JSON");
    for (name, format) in GOOD {
        let bytes = fixture(name);
        let file = read(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(file.format, format, "{name}");
        let expected = expected[name].as_object().expect("tensors");
        assert_eq!(file.tensors.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{name}");
        for (key, tensor) in &file.tensors {
            let numbers = |field: &str| -> Vec<f64> {
                expected[key][field].as_array().into_iter().flatten().filter_map(serde_json::Value::as_f64).collect()
            };
            let shape: Vec<f64> = tensor.shape().iter().map(|size| *size as f64).collect();
            assert_eq!(shape, numbers("shape"), "{name} {key}");
            let values: Vec<f64> = match (tensor.floats(), tensor.integers()) {
                (Some(floats), None) => floats.into_iter().map(f64::from).collect(),
                (None, Some(integers)) => integers.into_iter().map(|value| value as f64).collect(),
                both => panic!("{name} {key}: {both:?}"),
            };
            assert_eq!(values, numbers("values"), "{name} {key}");
        }
    }
}

#[test]
fn a_malicious_pickle_is_refused_by_name_and_runs_nothing() {
    for name in ["malicious.pth", "malicious_legacy.pth"] {
        let error = read(&fixture(name)).expect_err("malicious");
        assert_eq!(error, ReadError::Refused { name: "posix.system".to_owned() });
        assert!(error.to_string().contains("nothing of it was run"), "{error}");
        assert!(!Path::new("vared-was-here").exists(), "it ran");
    }
}

#[test]
fn other_things_that_torch_saves_are_told_apart() {
    let module = refusal(&fixture("module.pth"));
    assert!(module.contains("Python's `torch.nn.modules.container.Sequential`"), "{module}");
    assert!(module.contains("torch.save(model.state_dict(), FILE)"), "{module}");
    let program = refusal(&fixture("program.pt"));
    assert!(program.contains("TorchScript program"), "{program}");
    let elsewhere = refusal(&fixture("elsewhere.pth"));
    assert!(elsewhere.contains("net is a dict; the keys are net, epoch"), "{elsewhere}");
    assert_eq!(read(b"not weights at all"), Err(ReadError::Unknown));
    assert_eq!(read(b""), Err(ReadError::Unknown));
}

#[test]
fn every_truncation_is_an_error() {
    for (name, _) in GOOD {
        let bytes = fixture(name);
        for len in 0..bytes.len() {
            assert!(read(&bytes[..len]).is_err(), "{name} cut to {len} bytes");
        }
    }
}

/// An archive has checksums: a flipped bit is found, or hits something that does not matter.
#[test]
fn a_flipped_bit_never_changes_what_is_read_of_an_archive() {
    let bytes = fixture("plain.pth");
    let whole = read(&bytes).expect("good").tensors;
    let values = |tensors: &std::collections::BTreeMap<String, tensorfile::Tensor<'_>>| {
        tensors.iter().map(|(name, tensor)| (name.clone(), tensor.floats(), tensor.integers())).collect::<Vec<_>>()
    };
    let expected = values(&whole);
    let mut flipped = bytes.clone();
    for at in 0..bytes.len() {
        for bit in [0x01, 0x80] {
            flipped[at] ^= bit;
            if let Ok(file) = read(&flipped) {
                assert_eq!(values(&file.tensors), expected, "bit {bit:#x} of byte {at}");
            }
            flipped[at] ^= bit;
        }
    }
}

/// Names and contents.
type Files<'a> = &'a [(&'a str, &'a [u8])];

/// A zip archive with these files, stored as they are.
fn archive(files: Files<'_>) -> Vec<u8> {
    use std::io::Write;
    let mut bytes = Vec::new();
    let mut writer = rawzip::ZipArchiveWriter::new(&mut bytes);
    for (name, data) in files {
        let (mut entry, config) = writer.new_file(name).start().expect("room in memory");
        let mut data_writer = config.wrap(&mut entry);
        data_writer.write_all(data).expect("room in memory");
        let (_, descriptor) = data_writer.finish().expect("room in memory");
        entry.finish(descriptor).expect("room in memory");
    }
    writer.finish().expect("room in memory");
    bytes
}

/// A pickle of `{"w": tensor}` over storage "0" of `len` floats, with this shape and these strides.
fn pickle(len: u32, (shape, strides): (u32, u32)) -> Vec<u8> {
    let int = |value: u32| [b"J".as_slice(), &value.to_le_bytes()].concat();
    [
        b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n".as_slice(),
        b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpu",
        &int(len),
        b"tQK\x00",
        &int(shape),
        b"\x85",
        &int(strides),
        b"\x85\x89}tRs.",
    ]
    .concat()
}

#[test]
fn an_archive_that_lies_is_refused() {
    let data = [0_u8; 16];
    let good = pickle(4, (4, 1));
    assert!(read(&archive(&[("a/data.pkl", &good), ("a/data/0", &data)])).is_ok());
    let lies: [(Files<'_>, &str); 8] = [
        (&[("a/data/0", &data)], "no data.pkl"),
        (&[("a/data.pkl", &good)], "no storage 0"),
        (&[("a/data.pkl", &good), ("b/data/0", &data)], "no storage 0"),
        (&[("a/data.pkl", &good), ("a/data/0", &data), ("a/byteorder", b"big")], "big-endian"),
        (
            &[("a/data.pkl", &pickle(1 << 30, (4, 1))), ("a/data/0", &data)],
            "16 bytes where 1073741824 elements are told",
        ),
        (&[("a/data.pkl", &pickle(4, (5, 1))), ("a/data/0", &data)], "more than the 4 elements"),
        (&[("a/data.pkl", &pickle(4, (2, 4))), ("a/data/0", &data)], "more than the 4 elements"),
        (&[("a/data.pkl", &pickle(4, (1 << 30, 0))), ("a/data/0", &data)], "more than the 4 elements"),
    ];
    for (files, told) in lies {
        let error = refusal(&archive(files));
        assert!(error.contains(told), "{error}");
    }
    // Names that would lead out of a folder lead nowhere: nothing is unpacked.
    let outside =
        archive(&[("a/data.pkl", &good), ("a/data/0", &data), ("../../outside", b"x"), ("/etc/outside", b"x")]);
    assert!(read(&outside).is_ok());
    let twice = archive(&[("a/data.pkl", &good), ("a/data/0", &data), ("a/data/0", &data)]);
    assert!(refusal(&twice).contains("two files named a/data/0"));
}

#[test]
fn a_compressed_entry_is_refused_and_not_unpacked() {
    let good = pickle(4, (4, 1));
    let mut bytes = archive(&[("a/data.pkl", &good), ("a/data/0", &[0; 16])]);
    // The method of the second entry, in its local header and in the directory: 8 is deflate.
    for signature in [b"PK\x03\x04".as_slice(), b"PK\x01\x02"] {
        let at = bytes.windows(4).rposition(|window| window == signature).expect("a header");
        bytes[at + if signature[2] == 3 { 8 } else { 10 }] = 8;
    }
    assert!(refusal(&bytes).contains("data/0 is compressed"), "{}", refusal(&bytes));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn damaged_files_do_not_make_it_panic(
        which in 0..GOOD.len(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = fixture(GOOD[which].0);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(file) = read(&bytes) {
            for tensor in file.tensors.values() {
                let _ = (tensor.floats(), tensor.integers());
            }
        }
    }

    #[test]
    fn safetensors_of_any_bytes_do_not_make_it_panic(header in "[{}\\[\\]\":,a-z0-9_F]{0,80}", data in prop::collection::vec(any::<u8>(), 0..40)) {
        let header = format!("{{{header}");
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        let _ = read(&bytes);
    }
}
