//! `libvared_nccl.so`: NCCL's half of the bridge, loaded when the first group asks for it.

use std::ffi::{c_char, c_int, c_void};
use std::sync::OnceLock;

use super::{ERROR_BYTES, ErrorText, New, bytes, vared_bridge};

/// The file of the object.
const OBJECT: &str = "libvared_nccl.so";

type Put = unsafe extern "C" fn(*mut c_void, *const u8, usize);

/// What the object has, as `bridge.h` declares it.
pub(crate) struct Nccl {
    pub(super) new: New,
    trace: unsafe extern "C" fn(*mut c_void, Put, *mut c_char, usize) -> c_int,
    /// NCCL's version, of the headers that the object was compiled with and of the library that is loaded.
    pub(crate) versions: (i32, i32),
}

static LOADED: OnceLock<Nccl> = OnceLock::new();

impl Nccl {
    /// The object, loaded once.
    ///
    /// # Errors
    /// Where it was looked for, or that it does not belong to this program.
    pub(crate) fn load() -> Result<&'static Self, String> {
        if let Some(nccl) = LOADED.get() {
            return Ok(nccl);
        }
        let object = cuda::object(OBJECT).map_err(|error| error.to_string())?;
        let nccl = Self::of(object)?;
        Ok(LOADED.get_or_init(|| nccl))
    }

    /// The object, if a group has loaded it.
    pub(crate) fn loaded() -> Option<&'static Self> {
        LOADED.get()
    }

    fn of(object: &cuda::Library) -> Result<Self, String> {
        // SAFETY: this function has one type in every version of the bridge.
        let bridge =
            unsafe { object.get::<unsafe extern "C" fn() -> c_int>(b"vared_nccl_bridge\0") }.map_err(lacking)?;
        // SAFETY: it takes nothing and gives a number.
        let (ours, its) = unsafe { (vared_bridge(), bridge()) };
        if ours != its {
            return Err(format!(
                "{OBJECT} belongs to another version of this program (its bridge is {its}, here it is {ours}); \
                                `cargo xtask cuda` builds it anew"
            ));
        }
        // SAFETY: the numbers agree, so the object was compiled from the `bridge.h` that these types were written from.
        unsafe {
            let versions = object
                .get::<unsafe extern "C" fn(*mut c_int, *mut c_int)>(b"vared_nccl_versions\0")
                .map_err(lacking)?;
            let (mut compiled, mut loaded) = (0, 0);
            versions(&mut compiled, &mut loaded);
            Ok(Self {
                new: *object.get(b"vared_nccl_new\0").map_err(lacking)?,
                trace: *object.get(b"vared_nccl_trace\0").map_err(lacking)?,
                versions: (compiled, loaded),
            })
        }
    }

    /// c10d's record of the last operations, as JSON.
    pub(crate) fn trace(&self) -> Result<String, String> {
        let mut text = Vec::new();
        let mut error = ErrorText::new();
        // SAFETY: `put` gets `text`, which outlives the call, and nothing else uses it meanwhile.
        let failed = unsafe { (self.trace)((&raw mut text).cast(), put, error.as_mut_ptr(), ERROR_BYTES) };
        error.unless_zero(failed)?;
        String::from_utf8(text).map_err(|error| error.to_string())
    }
}

fn lacking(what: impl std::fmt::Display) -> String {
    format!("{OBJECT} is not what it should be: {what}; `cargo xtask cuda` builds it anew")
}

/// # Safety
/// `state` is the `Vec<u8>` of [`Nccl::trace`]; `text` holds `text_bytes` bytes.
unsafe extern "C" fn put(state: *mut c_void, text: *const u8, text_bytes: usize) {
    // SAFETY: promised by the caller.
    unsafe { (*state.cast::<Vec<u8>>()).extend_from_slice(bytes(text, text_bytes)) }
}
