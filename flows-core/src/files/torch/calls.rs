//! What pickles describe by calls: tensors, arrays, dictionaries and objects.

use super::Fault;
use super::element::Element;
use super::globals::Role;
use super::graph::{At, Blob, Code, Described, Graph, Place, Storage, Value};
use super::input::Input;

/// How many dimensions a tensor may have.
const AXES: usize = 64;

/// How many keys and values may be copied into dictionaries.
const COPIES: usize = 1 << 20;

/// The value that a call stands for.
pub(super) fn call(graph: &mut Graph, input: &Input, function: At, arguments: At) -> Result<Value, Fault> {
    let (mut function, mut arguments) = (function, arguments);
    // Each iteration unwraps a subclass of tensors; the limit stops cycles.
    for _ in 0..8 {
        let Value::Global(index) = graph.value(function) else { return Err("a call is of no function".into()) };
        match graph.global(index).1 {
            Role::Subclass => [function, _, arguments] = first(graph, arguments)?,
            role => return of_role(graph, input, role, index, arguments),
        }
    }
    Err("a tensor is nested too deeply".into())
}

fn of_role(graph: &mut Graph, input: &Input, role: Role, index: u32, arguments: At) -> Result<Value, Fault> {
    match role {
        Role::Object => Ok(graph.object(index, Some(arguments))),
        Role::Instance => {
            let [class, base] = first(graph, arguments)?;
            let (Value::Global(class), Value::Global(base)) = (graph.value(class), graph.value(base)) else {
                return Err("an object has no class".into());
            };
            match [class, base].map(|index| graph.global(index).1) {
                [Role::Object, Role::Object] => Ok(graph.object(class, None)),
                _ => Err(format!("`{}` is no class of objects", graph.global(class).0).into()),
            }
        }
        Role::Dict => dictionary(graph, arguments),
        Role::Set => {
            let items = items(graph, arguments)?.first().map(|items| graph.value(*items));
            match items {
                Some(Value::List(list) | Value::Tuple(list) | Value::Set(list)) => Ok(Value::Set(list)),
                Some(_) => Err("a set is made of no list".into()),
                None => Ok(Value::Set(graph.list(Vec::new()))),
            }
        }
        Role::Size | Role::Parameter => {
            let [value] = first(graph, arguments)?;
            match (role, graph.value(value)) {
                (Role::Size, value @ Value::Tuple(_)) | (Role::Parameter, value @ Value::Tensor(_)) => Ok(value),
                (Role::Size, _) => Err("a shape is no tuple".into()),
                _ => Err("a parameter is no tensor".into()),
            }
        }
        Role::Tensor => {
            let [storage, offset, dims, strides] = first(graph, arguments)?;
            tensor(graph, storage, offset, dims, strides, None)
        }
        Role::TypedTensor => {
            let [storage, offset, dims, strides, _, _, dtype] = first(graph, arguments)?;
            let Some(Role::Type(element)) = role_of(graph, dtype) else { return Err("a tensor has no type".into()) };
            tensor(graph, storage, offset, dims, strides, Some(element))
        }
        Role::Array => Ok(Value::Array),
        Role::NumpyType => {
            let [name] = first(graph, arguments)?;
            let element = Element::of_numpy(graph.text(name).ok_or("a type of NumPy has no name")?);
            graph.types.push(element);
            Ok(Value::NumpyType((graph.types.len() - 1) as u32))
        }
        Role::Buffer => {
            let [bytes, dtype, dims, order] = first(graph, arguments)?;
            let fortran = graph.text(order) == Some("F");
            array(graph, dims, dtype, fortran, bytes)
        }
        Role::Scalar => {
            let [dtype, bytes] = first(graph, arguments)?;
            scalar(graph, input, dtype, bytes)
        }
        Role::Encode => {
            let [text, code] = first(graph, arguments)?;
            match (graph.value(text), graph.text(code)) {
                (Value::Text(i), Some("latin1" | "latin-1")) => {
                    let Blob { start, length, code, .. } = graph.blobs[i as usize];
                    let code = if code == Code::Utf8 { Code::Latin1 } else { code };
                    Ok(Value::Bytes(graph.blob(Blob { start, length, code, text: None })))
                }
                _ => Err("something else than text of Latin-1 is to be encoded".into()),
            }
        }
        Role::Storage(_) | Role::Type(_) | Role::Subclass => {
            Err(format!("`{}` is called", graph.global(index).0).into())
        }
    }
}

/// The value of a persistent id: `("storage", class, key, device, count)`, or before PyTorch 1.6
/// `("storage", class, key, device, count, view)` and `("module", class, file, source)`.
pub(super) fn persistent(graph: &mut Graph, id: At) -> Result<Value, Fault> {
    let (kind, items) = graph.items(id).and_then(<[At]>::split_first).ok_or("a persistent id is no tuple")?;
    match (graph.text(*kind).unwrap_or_default(), items) {
        ("module", [class, _, _]) if role_of(graph, *class).is_some() => Ok(graph.value(*class)),
        ("storage", items) => {
            let [_, class, key, _, count] = first(graph, id)?;
            let Some(Role::Storage(element)) = role_of(graph, class) else {
                return Err("a storage is of no known class".into());
            };
            let (Some(key), Value::Int(count)) = (graph.text(key), graph.value(count)) else {
                return Err("a storage has no key or no size".into());
            };
            if items.iter().skip(4).any(|view| !matches!(graph.value(*view), Value::None)) {
                return Err("a storage is a view of another, as PyTorch before version 0.4 wrote them".into());
            }
            let count = u64::try_from(count).map_err(|_| format!("a storage has a size of {count}"))?;
            let storage = Storage { key: key.into(), element, count, place: Place::Keyed };
            let size = storage.size().ok_or_else(|| format!("a storage has {count} numbers"))?;
            let Some(known) = graph.keys.get(key) else {
                let index = graph.storages.len() as u32;
                graph.keys.insert(key.into(), index);
                graph.storages.push(storage);
                return Ok(Value::Storage(index));
            };
            if graph.storages[*known as usize].size() != Some(size) {
                return Err(format!("the storage `{}` has two sizes", key.escape_debug()).into());
            }
            Ok(Value::Storage(*known))
        }
        _ => Err("a persistent id is none of a storage or a class".into()),
    }
}

/// Gives an object its state.
pub(super) fn build(graph: &mut Graph, at: At, state: At) -> Result<(), Fault> {
    match graph.value(at) {
        Value::Object(i) => {
            // With slots it is a pair, whose second part is theirs.
            let state = match graph.value(state) {
                Value::Tuple(list) => graph.lists[list as usize].first().copied().unwrap_or(state),
                _ => state,
            };
            graph.objects[i as usize].state = Some(state);
        }
        Value::Array => {
            let [_, dims, dtype, fortran, bytes] = first(graph, state)?;
            let fortran = matches!(graph.value(fortran), Value::Bool(true));
            graph.values[at as usize] = array(graph, dims, dtype, fortran, bytes)?;
        }
        Value::NumpyType(i) => {
            let [_, order] = first(graph, state)?;
            let is_big_endian = graph.text(order) == Some(">");
            if let (true, Some(element)) = (is_big_endian, &mut graph.types[i as usize]) {
                *element = Element { name: "big-endian", dtype: None, ..*element };
            }
        }
        // The metadata of a dictionary, the attributes of a tensor.
        Value::Dict(_) | Value::Set(_) | Value::Tensor(_) => {}
        _ => return Err("something has a state that can have none".into()),
    }
    Ok(())
}

fn items(graph: &Graph, at: At) -> Result<&[At], Fault> {
    graph.items(at).ok_or_else(|| "a value is not a tuple".into())
}

/// The first N arguments of a call.
fn first<const N: usize>(graph: &Graph, at: At) -> Result<[At; N], Fault> {
    let items = items(graph, at)?;
    let first = items.get(..N).and_then(|items| items.try_into().ok());
    first.ok_or_else(|| format!("a tuple of {} values should have {N}", items.len()).into())
}

/// What a function or class is for.
pub(super) fn role_of(graph: &Graph, at: At) -> Option<Role> {
    match graph.value(at) {
        Value::Global(i) => Some(graph.global(i).1),
        _ => None,
    }
}

/// A dictionary of nothing, of another's items, or of a list of pairs.
fn dictionary(graph: &mut Graph, arguments: At) -> Result<Value, Fault> {
    let of = items(graph, arguments)?.first().map(|of| graph.value(*of));
    let mut list = Vec::new();
    match of {
        Some(value @ Value::Dict(_)) => return Ok(value),
        Some(Value::List(i) | Value::Tuple(i)) => {
            for pair in &graph.lists[i as usize] {
                list.extend(first::<2>(graph, *pair)?);
            }
            graph.copied += list.len();
            if graph.copied > COPIES {
                return Err("its dictionaries are too many".into());
            }
        }
        // Without items, or with what makes those that are missing.
        _ => {}
    }
    Ok(Value::Dict(graph.list(list)))
}

fn sizes(graph: &Graph, at: At) -> Result<Vec<usize>, Fault> {
    let items = items(graph, at)?;
    if items.len() > AXES {
        return Err(format!("a tensor has {} dimensions", items.len()).into());
    }
    let sizes = items.iter().map(|at| match graph.value(*at) {
        Value::Int(n) => usize::try_from(n).map_err(|_| format!("a tensor has a size of {n}").into()),
        _ => Err(Fault::from("a size is no integer")),
    });
    sizes.collect()
}

/// A tensor in a storage, of its type or of one of its own.
fn tensor(
    graph: &mut Graph,
    storage: At,
    offset: At,
    dims: At,
    strides: At,
    element: Option<Element>,
) -> Result<Value, Fault> {
    let Value::Storage(storage) = graph.value(storage) else { return Err("a tensor has no storage".into()) };
    let Value::Int(offset) = graph.value(offset) else { return Err("a tensor has no offset".into()) };
    let offset = u64::try_from(offset).map_err(|_| format!("a tensor has an offset of {offset}"))?;
    let (dims, strides) = (sizes(graph, dims)?, sizes(graph, strides)?);
    if dims.len() != strides.len() {
        return Err("a tensor has different numbers of sizes and strides".into());
    }
    let element = element.unwrap_or(graph.storages[storage as usize].element);
    Ok(graph.tensor(Described { storage, element, offset, dims, strides }))
}

/// A NumPy array; those of other things than numbers are irrelevant.
fn array(graph: &mut Graph, dims: At, dtype: At, fortran: bool, bytes: At) -> Result<Value, Fault> {
    let Value::NumpyType(dtype) = graph.value(dtype) else { return Err("an array has no type".into()) };
    let blob = match graph.value(bytes) {
        Value::Bytes(i) => &graph.blobs[i as usize],
        // A string of Python 2.
        Value::Text(i) if graph.blobs[i as usize].code != Code::Utf8 => &graph.blobs[i as usize],
        _ => return Ok(Value::Other),
    };
    let Some(element) = graph.types[dtype as usize] else { return Ok(Value::Other) };
    check_place(blob)?;
    let dims = sizes(graph, dims)?;
    let mut strides = vec![0; dims.len()];
    let mut count = 1usize;
    let order: Vec<usize> = if fortran { (0..dims.len()).collect() } else { (0..dims.len()).rev().collect() };
    for axis in order {
        strides[axis] = count;
        count = count.checked_mul(dims[axis]).ok_or_else(|| format!("an array has the shape {dims:?}"))?;
    }
    let (count, size) = (count as u64, (count as u64).checked_mul(element.size));
    // A character that stands for a byte is of one byte or of two.
    let is_of_size = size.is_some_and(|size| match blob.code {
        Code::Latin1 => size <= blob.length && blob.length / 2 <= size,
        _ => size == blob.length,
    });
    if !is_of_size {
        let message = format!("an array of the shape {dims:?} has {} bytes", blob.length);
        return Err(message.into());
    }
    let place = match blob.code {
        Code::Latin1 => Place::Latin1 { start: blob.start, length: blob.length },
        _ => Place::File(blob.start),
    };
    graph.storages.push(Storage { key: "".into(), element, count, place });
    let storage = (graph.storages.len() - 1) as u32;
    Ok(graph.tensor(Described { storage, element, offset: 0, dims, strides }))
}

/// Checks that bytes are in the file as they are.
fn check_place(blob: &Blob) -> Result<(), Fault> {
    match blob.code {
        Code::Line => {
            Err("it has arrays of NumPy in protocol 0: write it by pickle.dump with protocol=2 or later".into())
        }
        _ => Ok(()),
    }
}

/// A number of NumPy.
fn scalar(graph: &Graph, input: &Input, dtype: At, bytes: At) -> Result<Value, Fault> {
    let (Value::NumpyType(dtype), Value::Bytes(bytes)) = (graph.value(dtype), graph.value(bytes)) else {
        return Ok(Value::Other);
    };
    let (element, blob) = (graph.types[dtype as usize], &graph.blobs[bytes as usize]);
    let Some(name) = element.map(|element| element.name).filter(|_| blob.length <= 16) else {
        return Ok(Value::Other);
    };
    check_place(blob)?;
    let mut bytes = input.source.read(blob.start, blob.length)?;
    if blob.code == Code::Latin1 {
        bytes = super::latin1(&bytes)?;
    }
    let word = |size: usize| bytes.get(..size).filter(|_| bytes.len() == size);
    let four = || word(4).and_then(|word| <[u8; 4]>::try_from(word).ok());
    let eight = || word(8).and_then(|word| <[u8; 8]>::try_from(word).ok());
    let value = match name {
        "float32" => four().map(|word| Value::Float(f32::from_le_bytes(word).into())),
        "float64" => eight().map(|word| Value::Float(f64::from_le_bytes(word))),
        "int32" => four().map(|word| Value::Int(i32::from_le_bytes(word).into())),
        "int64" => eight().map(|word| Value::Int(i64::from_le_bytes(word))),
        "bool" => word(1).map(|word| Value::Bool(word != [0])),
        _ => None,
    };
    Ok(value.unwrap_or(Value::Other))
}
