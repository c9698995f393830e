//! An interpreter for the pickles that `torch.save` makes of state dicts.
//!
//! It knows pickle protocol 2 as far as plain containers, numbers, texts and tensors need it. `GLOBAL` gives one of a few
//! known names or ends everything; `REDUCE` builds an ordered dict or a tensor and calls nothing. Values lie in one table
//! and refer to each other by number: a pickle that nests deeply or shares much costs no recursion and no copies, and the
//! table is as long as the pickle has instructions at most.

use std::collections::HashMap;

use crate::error::shown;
use crate::{Element, ReadError};

/// Instructions of one pickle; a checkpoint of a hundred million parameters has some ten thousand.
const MOST_INSTRUCTIONS: usize = 1 << 20;

/// Place of a value in the table.
pub(crate) type Id = usize;

/// What a pickle can hold here.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    None,
    Bool,
    Int(i64),
    Float,
    Text(&'a str),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(StorageRef<'a>),
    Tensor(TensorRef),
}

/// The names that a state dict needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Global {
    OrderedDict,
    RebuildTensor,
    Storage(Element),
}

/// A storage by its key; the bytes lie elsewhere in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StorageRef<'a> {
    pub(crate) element: Element,
    pub(crate) key: &'a str,
    pub(crate) len: usize,
}

/// A tensor as a view of a storage, in elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TensorRef {
    pub(crate) storage: Id,
    pub(crate) offset: usize,
    pub(crate) shape: Vec<usize>,
    pub(crate) strides: Vec<usize>,
}

/// What a pickle said.
#[derive(Debug)]
pub(crate) struct Pickled<'a> {
    pub(crate) values: Vec<Value<'a>>,
    pub(crate) root: Id,
    /// Bytes up to and with its last instruction.
    pub(crate) len: usize,
}

impl<'a> Pickled<'a> {
    /// Reads the pickle at the start of `bytes`.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, ReadError> {
        let mut machine =
            Machine { bytes, at: 0, values: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
        for _ in 0..MOST_INSTRUCTIONS {
            if let Some(root) = machine.instruction()? {
                return Ok(Self { values: machine.values, root, len: machine.at });
            }
        }
        Err(machine.damaged(format!("more than {MOST_INSTRUCTIONS} instructions")))
    }

    pub(crate) fn root(&self) -> &Value<'a> {
        &self.values[self.root]
    }
}

impl Value<'_> {
    /// For messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool => "a truth value",
            Self::Int(_) | Self::Float => "a number",
            Self::Text(_) => "a text",
            Self::Tuple(_) => "a tuple",
            Self::List(_) => "a list",
            Self::Dict(_) => "a dict",
            Self::Global(_) => "a name",
            Self::Storage(_) => "a storage",
            Self::Tensor(_) => "a tensor",
        }
    }
}

fn global(module: &str, name: &str) -> Option<Global> {
    let element = match (module, name) {
        ("collections", "OrderedDict") => return Some(Global::OrderedDict),
        ("torch._utils", "_rebuild_tensor_v2") => return Some(Global::RebuildTensor),
        ("torch", "DoubleStorage") => Element::F64,
        ("torch", "FloatStorage") => Element::F32,
        ("torch", "HalfStorage") => Element::F16,
        ("torch", "BFloat16Storage") => Element::BF16,
        ("torch", "LongStorage") => Element::I64,
        ("torch", "IntStorage") => Element::I32,
        ("torch", "ShortStorage") => Element::I16,
        ("torch", "CharStorage") => Element::I8,
        ("torch", "ByteStorage") => Element::U8,
        ("torch", "BoolStorage") => Element::Bool,
        _ => return None,
    };
    Some(Global::Storage(element))
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    /// Lengths of the stack at the open marks: nothing below the last one is popped.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    /// Executes one instruction; gives the result after the last.
    fn instruction(&mut self) -> Result<Option<Id>, ReadError> {
        match self.byte()? {
            0x80 => match self.byte()? {
                2 => {}
                other => return Err(self.damaged(format!("pickle protocol {other}, torch.save writes 2"))),
            },
            b'.' => return self.pop().map(Some),
            b'(' => self.marks.push(self.stack.len()),
            b'N' => self.push(Value::None),
            0x88 | 0x89 => self.push(Value::Bool),
            code @ (b'K' | b'M' | b'J' | 0x8a | b'G') => self.number(code)?,
            code @ (b'X' | b'U' | b'T') => self.text(code)?,
            b'}' => self.push(Value::Dict(Vec::new())),
            b']' => self.push(Value::List(Vec::new())),
            code @ (b')' | 0x85..=0x87 | b't') => self.tuple(code)?,
            code @ (b's' | b'u' | b'a' | b'e') => self.fill(code)?,
            code @ (b'q' | b'r' | b'h' | b'j') => self.memoise(code)?,
            b'c' => self.global()?,
            b'Q' => self.persistent()?,
            b'R' => self.reduce()?,
            b'b' => self.build()?,
            other => return Err(self.damaged(format!("instruction {other:#04x} is not one that tensors need"))),
        }
        Ok(None)
    }

    fn number(&mut self, code: u8) -> Result<(), ReadError> {
        let value = match code {
            b'K' => Value::Int(self.byte()?.into()),
            b'M' => Value::Int(u16::from_le_bytes(self.array()?).into()),
            b'J' => Value::Int(i32::from_le_bytes(self.array()?).into()),
            b'G' => {
                let _: [u8; 8] = self.array()?;
                Value::Float
            }
            _ => Value::Int(self.long()?),
        };
        self.push(value);
        Ok(())
    }

    /// An integer of so many bytes, little-endian, in two's complement.
    fn long(&mut self) -> Result<i64, ReadError> {
        let len = self.byte()?.into();
        let bytes = self.take(len)?;
        if len > 8 {
            return Err(self.damaged("an integer of more than 64 bits"));
        }
        let fill = if bytes.last().is_some_and(|last| last & 0x80 != 0) { 0xff } else { 0 };
        let mut whole = [fill; 8];
        whole[..len].copy_from_slice(bytes);
        Ok(i64::from_le_bytes(whole))
    }

    fn text(&mut self, code: u8) -> Result<(), ReadError> {
        let len = if code == b'U' { self.byte()?.into() } else { u32::from_le_bytes(self.array()?) as usize };
        let bytes = self.take(len)?;
        let text = std::str::from_utf8(bytes).map_err(|_| self.damaged("a text that is not UTF-8"))?;
        self.push(Value::Text(text));
        Ok(())
    }

    fn tuple(&mut self, code: u8) -> Result<(), ReadError> {
        let parts = match code {
            b')' => Vec::new(),
            b't' => self.pop_to_mark()?,
            _ => {
                let mut parts = (0..code - 0x84).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
                parts.reverse();
                parts
            }
        };
        self.push(Value::Tuple(parts));
        Ok(())
    }

    /// Puts what was pushed last into the dict or list below it.
    fn fill(&mut self, code: u8) -> Result<(), ReadError> {
        let parts = match code {
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            b'a' => vec![self.pop()?],
            _ => self.pop_to_mark()?,
        };
        let target = self.top()?;
        match (&mut self.values[target], code) {
            (Value::Dict(items), b's' | b'u') if parts.len() % 2 == 0 => {
                items.extend(parts.chunks_exact(2).map(|pair| (pair[0], pair[1])));
                Ok(())
            }
            (Value::List(items), b'a' | b'e') => {
                items.extend(parts);
                Ok(())
            }
            _ => Err(self.damaged("items for something that holds none")),
        }
    }

    fn memoise(&mut self, code: u8) -> Result<(), ReadError> {
        let key = match code {
            b'q' | b'h' => self.byte()?.into(),
            _ => u32::from_le_bytes(self.array()?),
        };
        if matches!(code, b'q' | b'r') {
            let top = self.top()?;
            self.memo.insert(key, top);
            return Ok(());
        }
        let id = *self.memo.get(&key).ok_or_else(|| self.damaged(format!("value {key} is used before it is made")))?;
        self.stack.push(id);
        Ok(())
    }

    fn global(&mut self) -> Result<(), ReadError> {
        let (module, name) = (self.line()?, self.line()?);
        let refused = || ReadError::Refused { name: shown(&format!("{module}.{name}")) };
        let value = Value::Global(global(module, name).ok_or_else(refused)?);
        self.push(value);
        Ok(())
    }

    /// `('storage', type, key, device, elements)`, and in old files a view of another storage, which nobody writes.
    fn persistent(&mut self) -> Result<(), ReadError> {
        let id = self.pop()?;
        let parts: Vec<&Value<'a>> = match &self.values[id] {
            Value::Tuple(parts) => parts.iter().map(|part| &self.values[*part]).collect(),
            _ => Vec::new(),
        };
        let storage = match parts.as_slice() {
            [Value::Text("storage"), Value::Global(Global::Storage(element)), Value::Text(key), _, Value::Int(len)]
            | [
                Value::Text("storage"),
                Value::Global(Global::Storage(element)),
                Value::Text(key),
                _,
                Value::Int(len),
                Value::None,
            ] => usize::try_from(*len).ok().map(|len| StorageRef { element: *element, key, len }),
            _ => None,
        };
        let storage = storage.ok_or_else(|| self.damaged("a reference to something other than a storage"))?;
        self.push(Value::Storage(storage));
        Ok(())
    }

    fn reduce(&mut self) -> Result<(), ReadError> {
        let (arguments, callable) = (self.pop()?, self.pop()?);
        let value = match (&self.values[callable], &self.values[arguments]) {
            (Value::Global(Global::OrderedDict), Value::Tuple(none)) if none.is_empty() => {
                Some(Value::Dict(Vec::new()))
            }
            (Value::Global(Global::RebuildTensor), Value::Tuple(parts)) => self.tensor(parts).map(Value::Tensor),
            _ => None,
        };
        let value = value.ok_or_else(|| self.damaged("a call of something that is no constructor"))?;
        self.push(value);
        Ok(())
    }

    /// `(storage, offset, sizes, strides, …)`; whether gradients are wanted does not matter here.
    fn tensor(&self, parts: &[Id]) -> Option<TensorRef> {
        let [storage, offset, shape, strides, ..] = parts else { return None };
        let number = |id: &Id| match &self.values[*id] {
            Value::Int(number) => usize::try_from(*number).ok(),
            _ => None,
        };
        let numbers = |id: &Id| match &self.values[*id] {
            Value::Tuple(parts) => parts.iter().map(number).collect::<Option<Vec<usize>>>(),
            _ => None,
        };
        let is_storage = matches!(self.values[*storage], Value::Storage(_));
        let tensor = TensorRef {
            storage: *storage,
            offset: number(offset)?,
            shape: numbers(shape)?,
            strides: numbers(strides)?,
        };
        is_storage.then_some(tensor)
    }

    /// Attributes of an ordered dict: a module's `_metadata`, of no use here.
    fn build(&mut self) -> Result<(), ReadError> {
        let _state = self.pop()?;
        let target = self.top()?;
        match &self.values[target] {
            Value::Dict(_) => Ok(()),
            other => Err(self.damaged(format!("attributes for {}", other.kind()))),
        }
    }

    fn push(&mut self, value: Value<'a>) {
        self.values.push(value);
        self.stack.push(self.values.len() - 1);
    }

    fn top(&self) -> Result<Id, ReadError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.last() {
            Some(top) if self.stack.len() > floor => Ok(*top),
            _ => Err(self.damaged("an instruction without its operand")),
        }
    }

    fn pop(&mut self) -> Result<Id, ReadError> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, ReadError> {
        let mark = self.marks.pop().ok_or_else(|| self.damaged("the end of a group that never began"))?;
        Ok(self.stack.split_off(mark))
    }

    fn byte(&mut self) -> Result<u8, ReadError> {
        Ok(self.take(1)?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        Ok(self.take(N)?.try_into().expect("as many as were taken"))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], ReadError> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..len).ok_or_else(|| self.damaged(format!("{len} bytes wanted, {} left", rest.len())))?;
        self.at += len;
        Ok(taken)
    }

    fn line(&mut self) -> Result<&'a str, ReadError> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|byte| *byte == b'\n').ok_or_else(|| self.damaged("a name without an end"))?;
        let line = std::str::from_utf8(self.take(end)?).map_err(|_| self.damaged("a name that is not UTF-8"))?;
        self.at += 1;
        Ok(line)
    }

    fn damaged(&self, problem: impl std::fmt::Display) -> ReadError {
        ReadError::damaged(format!("at byte {} of its pickle: {problem}", self.at))
    }
}

#[cfg(test)]
#[path = "pickle_tests.rs"]
mod tests;
