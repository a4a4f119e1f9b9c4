//! What a file holds, whatever its format.

use super::Fault;
use super::element::Element;
use super::graph::{At, Blob, Code, Described, Graph, Place, Storage, Value};
use super::pickle::{Parsed, parse};
use super::records::Records;
use crate::files::source::Source;
use crate::files::tar::{is_tar, members};
use safetensors::tensor::Metadata;
use std::collections::{BTreeMap, HashMap};
use std::io::Read;

/// The largest size of a header of safetensors, and of the settings in an archive of NeMo, in bytes.
const HEADER: u64 = 1 << 24;
const SETTINGS: u64 = 1 << 20;

/// The version of the format that PyTorch wrote before 1.6.
const LEGACY: i64 = 1001;

pub(super) struct Contents {
    pub(super) graph: Graph,
    pub(super) root: At,
    /// Where storages are that are not in records.
    pub(super) source: Source,
    pub(super) records: Option<Records>,
    /// Texts beside the tensors, by name.
    pub(super) metadata: BTreeMap<String, String>,
}

/// What a file is that begins with these bytes, if it is a common mistake, and what to do.
pub(super) fn mistake(start: &[u8]) -> Option<&'static str> {
    let text = String::from_utf8_lossy(start).trim_start().to_ascii_lowercase();
    if start.is_empty() {
        Some("is empty: download it again")
    } else if text.starts_with("version https://git-lfs") {
        Some("is a pointer of Git LFS, not the file itself: fetch that by `git lfs pull`, or download it")
    } else if ["<!doctype", "<html", "<head", "<?xml"].iter().any(|tag| text.starts_with(tag)) {
        Some("is a web page, not a checkpoint: download the file that the page links to")
    } else {
        None
    }
}

impl Contents {
    /// Reads the description of what is in a file, of which at most `most` bytes are unpacked; an archive of NeMo holds
    /// another file.
    pub(super) fn of(source: Source, most: u64, is_inner: bool) -> Result<Self, Fault> {
        let start = source.read(0, source.length().min(512))?;
        match &start[..] {
            // Eight bytes are the length of a header in JSON.
            [_, _, _, _, _, _, 0, 0, b'{', ..] => safetensors(source),
            [b'P', b'K', ..] => zip(source, most),
            [0x1f, 0x8b, ..] if !is_inner => nemo(&Source::memory(gunzip(&source, most)?), most),
            _ if is_tar(&start) && !is_inner => nemo(&source, most),
            [0x80 | b'(' | b')' | b'}' | b']' | b'c', ..] => pickles(source),
            _ => Err("it is no zip archive, pickle, archive of NeMo, or safetensors file".into()),
        }
    }

    /// The size of all that is stored in bytes; that of what is compressed is only what the file claims.
    pub(super) fn size(&self) -> u64 {
        self.records.as_ref().map_or(0, Records::total).saturating_add(self.source.length())
    }
}

/// A file of PyTorch since version 1.6.
fn zip(source: Source, most: u64) -> Result<Contents, Fault> {
    let (records, source) = Records::open(source, most)?;
    let Parsed { graph, root, .. } = parse(&source, 0)?;
    for storage in &graph.storages {
        let (key, size) = (&*storage.key, storage.size());
        match (storage.place, records.size(key)) {
            (Place::Keyed, None) if size != Some(0) => {
                return Err(format!("the archive has no record `{}`", key.escape_debug()).into());
            }
            (Place::Keyed, Some(there)) if size.is_none_or(|size| size > there) => {
                let message = format!("a storage of {} numbers is in a record of {there} bytes", storage.count);
                return Err(message.into());
            }
            _ => {}
        }
    }
    Ok(Contents { graph, root, source, records: Some(records), metadata: BTreeMap::new() })
}

/// A bare pickle, as Paddle writes it; or a file of PyTorch before version 1.6: five pickles and the storages.
fn pickles(source: Source) -> Result<Contents, Fault> {
    let mut parsed = parse(&source, 0)?;
    if !matches!(parsed.graph.value(parsed.root), Value::Magic) {
        let Parsed { graph, root, .. } = parsed;
        if graph.storages.iter().any(|storage| storage.place == Place::Keyed) {
            return Err("it is the pickle of an archive of PyTorch, without the tensors".into());
        }
        return Ok(Contents { graph, root, source, records: None, metadata: BTreeMap::new() });
    }
    parsed = parse(&source, parsed.end)?;
    match parsed.graph.value(parsed.root) {
        Value::Int(LEGACY) => {}
        _ => return Err(format!("the version of its format is not {LEGACY}").into()),
    }
    parsed = parse(&source, parsed.end)?;
    let little = parsed.graph.field(parsed.root, "little_endian");
    if !little.is_some_and(|little| matches!(parsed.graph.value(little), Value::Bool(true))) {
        return Err("its numbers are big-endian: save it on another machine".into());
    }
    let Parsed { mut graph, root, end } = parse(&source, parsed.end)?;
    let keys = parse(&source, end)?;
    let mut at = keys.end;
    let storages = graph.storages.iter_mut().filter(|storage| storage.place == Place::Keyed);
    let mut storages: HashMap<&str, (&mut Place, u64, Option<u64>)> = storages
        .map(|storage| {
            let size = storage.size();
            (&*storage.key, (&mut storage.place, storage.count, size))
        })
        .collect();
    for key in keys.graph.items(keys.root).ok_or("it has no list of storages")? {
        let key = keys.graph.text(*key).ok_or("the key of a storage is no text")?;
        let known = storages.remove(key);
        let (place, count, size) = known.ok_or("a storage is there of which there is no description")?;
        let there = source.read(at, 8)?.try_into().map_or(-1, i64::from_le_bytes);
        if u64::try_from(there) != Ok(count) {
            return Err(format!("a storage of {count} numbers has {there} of them").into());
        }
        *place = Place::File(at + 8);
        // A slice is only possible if the file is as long.
        let stored = source.slice(at + 8, size.ok_or("a storage is too large")?)?;
        at = at + 8 + stored.length();
    }
    if let Some((_, count, _)) = storages.into_values().next() {
        return Err(format!("a storage of {count} numbers is not there").into());
    }
    Ok(Contents { graph, root, source, records: None, metadata: BTreeMap::new() })
}

/// The model in an archive of NeMo: its settings and its weights.
fn nemo(archive: &Source, most: u64) -> Result<Contents, Fault> {
    let members = members(archive)?;
    let find = |name: &str| members.iter().find(|(path, _)| path.rsplit('/').next() == Some(name)).map(|(_, m)| m);
    let weights =
        find("model_weights.ckpt").ok_or("the tar archive has no `model_weights.ckpt`, as those of NeMo have")?;
    let mut contents = Contents::of(weights.clone(), most, true)?;
    if let Some(settings) = find("model_config.yaml") {
        if settings.length() > SETTINGS {
            return Err("its `model_config.yaml` is too large".into());
        }
        let text = String::from_utf8(settings.read(0, settings.length())?);
        contents.metadata.insert("model_config.yaml".into(), text.map_err(|_| "its settings are not UTF-8")?);
    }
    Ok(contents)
}

/// Unpacks a file into memory, of at most `most` bytes.
fn gunzip(source: &Source, most: u64) -> Result<Vec<u8>, Fault> {
    let packed = source.read(0, source.length())?;
    let mut bytes = Vec::new();
    let decoder = flate2::read::MultiGzDecoder::new(&packed[..]);
    decoder.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(|e| format!("it cannot be unpacked ({e})"))?;
    if bytes.len() as u64 > most { Err("it is implausibly large when it is unpacked".into()) } else { Ok(bytes) }
}

/// A file of safetensors.
fn safetensors(source: Source) -> Result<Contents, Fault> {
    let length = source.read(0, 8)?.try_into().map_or(u64::MAX, u64::from_le_bytes);
    if length > HEADER {
        return Err(format!("its header has {length} bytes").into());
    }
    let header = source.read(8, length)?;
    let header: Metadata = serde_json::from_slice(&header).map_err(|e| format!("its header is malformed ({e})"))?;
    let (mut graph, mut pairs) = (Graph::default(), Vec::new());
    for name in header.offset_keys() {
        let Some(info) = header.info(&name) else { continue };
        let (start, end) = info.data_offsets;
        let data = source.slice(8 + length, source.length() - 8 - length)?;
        let stored =
            data.slice(start as u64, end.checked_sub(start).ok_or("a tensor ends before it begins")? as u64)?;
        let element = Element::of_safetensors(info.dtype);
        let count = info.shape.iter().try_fold(1u64, |n, size| n.checked_mul(*size as u64));
        let count = count.filter(|n| n.checked_mul(element.size) == Some(stored.length()) || element.size == 0);
        let count = count.ok_or_else(|| format!("`{name}` does not have the bytes of its shape"))?;
        let place = Place::File(8 + length + start as u64);
        graph.storages.push(Storage { key: "".into(), element, count, place });
        let mut strides = vec![1usize; info.shape.len()];
        for axis in (1..strides.len()).rev() {
            strides[axis - 1] = info.shape[axis].saturating_mul(strides[axis]);
        }
        let storage = (graph.storages.len() - 1) as u32;
        let tensor = graph.tensor(Described { storage, element, offset: 0, dims: info.shape.clone(), strides });
        let blob = Blob { start: 0, length: name.len() as u64, code: Code::Utf8, text: Some(name.into()) };
        let name = Value::Text(graph.blob(blob));
        pairs.extend([graph.add(name), graph.add(tensor)]);
    }
    let list = graph.list(pairs);
    let root = graph.add(Value::Dict(list));
    let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
    Ok(Contents { graph, root, source, records: None, metadata })
}
