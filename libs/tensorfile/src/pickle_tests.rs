use proptest::prelude::*;

use super::*;

/// A state dict of one tensor, as `torch.save` writes it.
const GOOD: &[u8] = b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01X\x01\x00\x00\x00wq\x02ctorch._utils\n_rebuild_tensor_v2\n\
    q\x03((X\x07\x00\x00\x00storageq\x04ctorch\nFloatStorage\nq\x05X\x01\x00\x00\x000q\x06X\x03\x00\x00\x00cpuq\x07K\x06t\
    q\x08QK\x01K\x02K\x02\x86q\x09K\x03K\x01\x86q\x0a\x89h\x00)Rq\x0btq\x0cRq\x0ds}q\x0eX\x09\x00\x00\x00_metadataq\x0f\
    h\x00)Rq\x10sb.";

fn error(bytes: &[u8]) -> String {
    Pickled::read(bytes).expect_err("refused").to_string()
}

#[test]
fn a_state_dict_is_read() {
    let pickled = Pickled::read(GOOD).expect("good");
    let Value::Dict(items) = pickled.root() else { panic!("{pickled:?}") };
    let (name, tensor) = (&pickled.values[items[0].0], &pickled.values[items[0].1]);
    assert_eq!(name, &Value::Text("w"));
    let Value::Tensor(tensor) = tensor else { panic!("{tensor:?}") };
    assert_eq!((tensor.offset, &tensor.shape[..], &tensor.strides[..]), (1, &[2, 2][..], &[3, 1][..]));
    let storage = StorageRef { element: Element::F32, key: "0", len: 6 };
    assert_eq!(pickled.values[tensor.storage], Value::Storage(storage));
    assert_eq!(pickled.len, GOOD.len());
}

#[test]
fn whatever_python_would_run_is_refused_by_name() {
    let attacks: [(&[u8], &str); 5] = [
        (b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.", "os.system"),
        (b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R.", "posix.system"),
        (b"\x80\x02c__builtin__\neval\nX\x01\x00\x00\x001\x85R.", "__builtin__.eval"),
        (b"\x80\x02ctorch\nload\nX\x01\x00\x00\x00x\x85R.", "torch.load"),
        (b"\x80\x02ccollections\nOrderedDict.update\n)R.", "collections.OrderedDict.update"),
    ];
    for (attack, name) in attacks {
        let told = error(attack);
        assert!(told.contains(&format!("`{name}`")) && told.contains("nothing of it was run"), "{told}");
    }
}

#[test]
fn instructions_that_tensors_do_not_need_are_refused() {
    // INST, OBJ, NEWOBJ, EXT1, STACK_GLOBAL, BUILD on a list, protocol 4, a call with arguments of an ordered dict.
    let attacks: [&[u8]; 8] = [
        b"\x80\x02(ios\nsystem\n.",
        b"\x80\x02(cos\nsystem\no.",
        b"\x80\x02ccollections\nOrderedDict\n)\x81.",
        b"\x80\x02\x82\x01.",
        b"\x80\x02X\x02\x00\x00\x00osX\x06\x00\x00\x00system\x93.",
        b"\x80\x02]}b.",
        b"\x80\x04N.",
        b"\x80\x02ccollections\nOrderedDict\n}\x85R.",
    ];
    for attack in attacks {
        let told = Pickled::read(attack).expect_err("refused").to_string();
        assert!(told.contains("damaged") || told.contains("`os.system`"), "{told}");
    }
}

#[test]
fn a_bomb_costs_no_more_than_its_length() {
    // Each list holds the one before it ten times: ten to the power of thirty in Python's eyes, thirty values here.
    let mut bomb = b"\x80\x02]q\x00".to_vec();
    for level in 1..30_u8 {
        bomb.extend([b']', b'q', level, b'(']);
        bomb.extend([b'h', level - 1].repeat(10));
        bomb.push(b'e');
    }
    bomb.push(b'.');
    assert_eq!(Pickled::read(&bomb).expect("lists in lists").values.len(), 30);
    // A million lists in each other: nothing here recurses, not even to forget them.
    let mut deep = b"\x80\x02".to_vec();
    deep.extend([b']'].repeat(400_000));
    deep.extend([b'a'].repeat(399_999));
    deep.push(b'.');
    assert_eq!(Pickled::read(&deep).expect("lists in lists").values.len(), 400_000);
    let endless = [b'N'].repeat(MOST_INSTRUCTIONS + 1);
    assert!(error(&endless).contains("more than 1048576 instructions"));
    // A text that claims four gigabytes.
    assert!(error(b"\x80\x02X\xff\xff\xff\xff.").contains("4294967295 bytes wanted, 1 left"));
}

#[test]
fn a_dict_may_hold_itself() {
    assert!(Pickled::read(b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.").is_ok());
}

#[test]
fn every_truncation_is_an_error() {
    for len in 0..GOOD.len() {
        assert!(Pickled::read(&GOOD[..len]).is_err(), "{len} bytes");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Pickled::read(&bytes);
    }

    #[test]
    fn instructions_in_any_order_do_not_make_it_panic(
        codes in prop::collection::vec(prop::sample::select(b"(N}])tsuaehjqrRbQ.KM\x85\x86\x87\x88\x00\x01".to_vec()), 0..60),
    ) {
        let _ = Pickled::read(&codes);
    }

    #[test]
    fn changed_bytes_do_not_make_it_panic(changes in prop::collection::vec((0..GOOD.len(), any::<u8>()), 1..4)) {
        let mut bytes = GOOD.to_vec();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        let _ = Pickled::read(&bytes);
    }
}
