//! The program `glow` with a data set on the Hugging Face Hub.

use image::{ImageFormat, Rgb, RgbImage};
use parquet::data_type::{ByteArray, ByteArrayType, Int32Type};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Cursor, Write};
use std::net::TcpListener;
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

const SCHEMA: &str = "message schema { required group image { required binary bytes; } required int32 label; }";

/// Writes 4 x 4 images of these reds, in two classes.
fn write(path: &Path, reds: Range<u8>) {
    let png = |red: u8| {
        let mut bytes = Cursor::new(Vec::new());
        RgbImage::from_pixel(4, 4, Rgb([red, 0, 0])).write_to(&mut bytes, ImageFormat::Png).unwrap();
        ByteArray::from(bytes.into_inner())
    };
    let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
    let mut file = SerializedFileWriter::new(File::create(path).unwrap(), schema, Arc::default()).unwrap();
    let mut group = file.next_row_group().unwrap();
    let images: Vec<ByteArray> = reds.clone().map(png).collect();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<ByteArrayType>().write_batch(&images, None, None).unwrap();
    column.close().unwrap();
    let labels: Vec<i32> = reds.map(|red| i32::from(red % 2)).collect();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int32Type>().write_batch(&labels, None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    file.close().unwrap();
}

/// Serves `requests` requests for the files of a folder, or for their names, as the Hub does.
fn serve(folder: &Path, revision: &'static str, requests: usize) -> (String, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let folder = folder.to_path_buf();
    let server = thread::spawn(move || {
        for stream in listener.incoming().take(requests) {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(|line| line.ok());
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let path = head[0].split(' ').nth(1).unwrap();
            if path == format!("/api/datasets/me/animals/revision/{revision}") {
                let list = serde_json::json!({ "siblings": names(&folder), "sha": "0".repeat(40) }).to_string();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", list.len());
                stream.write_all([head, list].concat().as_bytes()).unwrap();
                continue;
            }
            let name = path.strip_prefix(&format!("/datasets/me/animals/resolve/{revision}/"));
            let name = name.unwrap_or_else(|| panic!("{path}"));
            let content = fs::read(folder.join(name)).unwrap();
            let first = head.iter().any(|line| line.to_lowercase().ends_with("bytes=0-0"));
            let body = if first { &content[..1] } else { &content[..] };
            let range = format!("Content-Range: bytes 0-{}/{}\r\n", body.len() - 1, content.len());
            let etag = format!("x-repo-commit: {}\r\netag: \"{name}\"\r\n", "0".repeat(40));
            let head = format!("HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\n", body.len());
            stream.write_all(format!("{head}Connection: close\r\n{etag}{range}\r\n").as_bytes()).unwrap();
            stream.write_all(body).unwrap();
        }
    });
    (endpoint, server)
}

/// The files in the folders of a folder.
fn names(folder: &Path) -> Vec<serde_json::Value> {
    let within = |folder: &Path| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let deep = within(folder).into_iter().flat_map(|inner| within(&inner)).flat_map(|path| match path.is_dir() {
        true => within(&path),
        false => vec![path],
    });
    deep.map(|path| serde_json::json!({ "rfilename": path.strip_prefix(folder).unwrap() })).collect()
}

/// Trains on a data set with these files of 20 images each, and returns what is said.
fn train(files: &[&str], address: &str, revision: &'static str, requests: usize) -> String {
    let (hub, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (i, name) in files.iter().enumerate() {
        let path = hub.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        write(&path, 20 * i as u8..20 * i as u8 + 20);
    }
    let (endpoint, server) = serve(hub.path(), revision, requests);
    let settings =
        "batch = 8\nmodel = { levels = 1, steps = 1, hidden = 4, conditional = true }\ntrain = { steps = 2 }";
    fs::write(home.path().join("tiny.toml"), settings).unwrap();
    let mut glow = Command::new(env!("CARGO_BIN_EXE_glow"));
    glow.current_dir(home.path()).env("HF_HOME", home.path()).env("HF_ENDPOINT", endpoint).stdin(Stdio::null());
    let output = glow.args(["train", "--config", "tiny.toml", "--out", "run", "--data", address]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    server.join().unwrap();
    said
}

#[test]
fn a_data_set_of_the_hub_is_trained_on() {
    // Each file takes a request for its metadata and one for its content.
    let files = ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"];
    let said = train(&files, "hf://datasets/me/animals/data/train-00000-of-00002.parquet@v1", "v1", 4);
    // Of 40 images, 4 are for testing and 1 is for validation.
    assert!(said.contains("3 x 4 x 4 of 2 classes; 35 images to train on"), "{said}");
    // The names of others do not follow from one with a hash: they are asked for.
    let files = ["data/train-00000-of-00002-1a.parquet", "data/train-00001-of-00002-2b.parquet"];
    let said = train(&files, "hf://datasets/me/animals/data/train-00000-of-00002-1a.parquet@v1", "v1", 5);
    assert!(said.contains("35 images to train on"), "{said}");
}

#[test]
fn a_folder_of_the_hub_is_trained_on() {
    let files = ["all/train/0000.parquet", "all/train/0001.parquet", "all/test/0000.parquet"];
    let address = "hf://datasets/me/animals/all@refs/convert/parquet";
    let said = train(&files, address, "refs%2Fconvert%2Fparquet", 7);
    assert!(said.contains("38 images to train on, 2 to validate, 20 to test"), "{said}");
}
