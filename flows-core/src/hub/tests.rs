use super::client::{fetch_from, names_from};
use super::*;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const CONTENT: &[u8] = b"a,b\n1,2\n";

/// Starts a local server that answers `requests` requests; returns its address and, when joined, the request lines.
fn serve(requests: usize, answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let mut seen = Vec::new();
        for _ in 0..requests {
            let mut stream = accept(&listener);
            let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(|l| l.ok());
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            stream.write_all(&answer(&head.join("\n"))).unwrap();
            seen.push(head.join("\n"));
        }
        seen
    });
    (endpoint, server)
}

/// The next connection, which must come within ten seconds.
fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let start = Instant::now();
    loop {
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false).unwrap();
            return stream;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "a request is missing");
        thread::sleep(Duration::from_millis(2));
    }
}

fn response(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut bytes =
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n").into_bytes();
    bytes.extend(body);
    bytes
}

/// Answers like the Hub with one file; a range of one byte is a request for its metadata.
fn hub(request: &str) -> Vec<u8> {
    let headers = format!("x-repo-commit: {COMMIT}\r\netag: \"abc\"\r\n");
    if request.to_lowercase().contains("range: bytes=0-0") {
        let range = format!("{headers}Content-Range: bytes 0-0/{}\r\n", CONTENT.len());
        response("206 Partial Content", &range, &CONTENT[..1])
    } else {
        response("206 Partial Content", &headers, CONTENT)
    }
}

fn failure(text: &str, requests: usize, answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> String {
    let cache = tempfile::tempdir().unwrap();
    let (endpoint, server) = serve(requests, answer);
    let error = fetch_from(&text.parse().unwrap(), &endpoint, cache.path(), None).unwrap_err().to_string();
    server.join().unwrap();
    error
}

#[test]
fn a_file_is_fetched_once() -> Result<()> {
    let cache = tempfile::tempdir().unwrap();
    let (endpoint, server) = serve(2, hub);
    let address: Address = "hf://datasets/me/toys/tables/a.csv@v1".parse()?;
    let path = fetch_from(&address, &endpoint, cache.path(), Some("secret".into()))?;
    assert_eq!(std::fs::read(&path).unwrap(), CONTENT);
    assert!(path.ends_with("tables/a.csv"));
    for request in server.join().unwrap() {
        assert!(request.starts_with("GET /datasets/me/toys/resolve/v1/tables/a.csv HTTP/1.1"), "{request}");
        assert!(request.to_lowercase().contains("authorization: bearer secret"), "{request}");
    }
    // The server is gone, but the file is in the cache.
    assert_eq!(fetch_from(&address, &endpoint, cache.path(), None)?, path);
    Ok(())
}

#[test]
fn folders_and_repositories_are_listed() -> Result<()> {
    let cache = tempfile::tempdir().unwrap();
    let address: Address = "hf://datasets/me/toys/tables/a.csv@v1".parse()?;
    let names = |folder: Option<&str>, endpoint: &str| {
        let mut names = names_from(&address, folder, endpoint, cache.path(), None)?;
        names.sort();
        Ok::<_, Error>(names)
    };
    let (endpoint, server) = serve(2, |request| {
        assert!(request.starts_with("GET /api/datasets/me/toys/revision/v1 "), "{request}");
        let files = ["b.csv", "tables/a.csv", "tables/more/c.csv", "tables2/d.csv"];
        let files = files.map(|name| format!(r#"{{"rfilename": "{name}"}}"#)).join(", ");
        response("200 OK", "", format!(r#"{{"siblings": [{files}], "sha": "1"}}"#).as_bytes())
    });
    assert_eq!(names(Some("tables"), &endpoint)?, ["a.csv", "more/c.csv"]);
    assert_eq!(names(None, &endpoint)?, ["b.csv", "tables/a.csv", "tables/more/c.csv", "tables2/d.csv"]);
    server.join().unwrap();

    assert!(names(None, &endpoint).is_err());
    let (hub, server) = serve(2, hub);
    fetch_from(&address, &hub, cache.path(), None)?;
    server.join().unwrap();
    // Without a server there are the files in the cache.
    assert_eq!(names(Some("tables"), &hub)?, ["a.csv"]);
    assert_eq!(names(None, &hub)?, ["tables/a.csv"]);
    Ok(())
}

#[test]
fn every_failure_says_what_to_do() {
    let missing = |request: &str| {
        if request.starts_with("GET /api/models/me/flow/revision/main ") {
            response("200 OK", "", br#"{"siblings": [{"rfilename": "model.safetensors"}], "sha": "1"}"#)
        } else {
            response("404 Not Found", "", b"")
        }
    };
    let file = failure("hf://me/flow/modle.safetensors", 2, missing);
    assert!(file.contains("has no file modle.safetensors; it has model.safetensors"), "{file}");
    let repo = failure("hf://me/flwo/a.npy", 2, missing);
    assert!(repo.contains("no repository me/flwo"), "{repo}");
    let private = failure("hf://me/flow/a.npy", 1, |_| response("401 Unauthorized", "", b""));
    assert!(private.contains("HF_TOKEN"), "{private}");
    let broken = failure("hf://me/flow/a.npy", 1, |_| response("503 Service Unavailable", "", b""));
    assert!(broken.contains("later"), "{broken}");
    let other = failure("hf://me/flow/a.npy", 1, |_| response("200 OK", "", b"hello"));
    assert!(other.contains("HF_ENDPOINT"), "{other}");
    let nowhere = failure("hf://me/flow/a.npy", 1, |_| response("302 Found", "etag: a\r\nx-repo-commit: b\r\n", b""));
    assert!(nowhere.contains("HF_ENDPOINT"), "{nowhere}");
    let cut = failure("hf://me/flow/a.npy", 2, |request| {
        let mut answer = hub(request);
        answer.truncate(answer.len() - 1);
        answer
    });
    assert!(cut.contains("try again"), "{cut}");

    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let cache = tempfile::tempdir().unwrap();
    let address = "hf://me/flow/a.npy".parse().unwrap();
    let down = fetch_from(&address, &format!("http://{port}"), cache.path(), None).unwrap_err();
    assert!(!down.is_bad_use() && down.to_string().contains("check the network"), "{down}");
    let bad = fetch_from(&address, "not a server", cache.path(), None).unwrap_err().to_string();
    assert!(bad.contains("HF_ENDPOINT"), "{bad}");
}

#[test]
fn addresses() -> Result<()> {
    for text in ["hf://a/b/c.npy", "hf://datasets/a/b/c/d.npy@refs/pr/1", "hf://a-1/b_2.x/c%20d.npy@v1.0"] {
        let address: Address = text.parse()?;
        assert_eq!(address.to_string(), text);
        assert_eq!(serde_json::to_string(&address).unwrap(), format!("\"{text}\""));
    }
    assert_eq!("hf://a/b/c/@v1".parse::<Address>()?.join("d.npy")?.to_string(), "hf://a/b/c/d.npy@v1");
    assert!("hf://a/b/c".parse::<Address>()?.join("../d").is_err());
    for text in ["", "a/b/c", "hf://", "hf://a/b", "hf://datasets/a/b", "hf://a//c", "hf://a/b/../c", "hf://a/b/c@"] {
        assert!(text.parse::<Address>().is_err(), "{text}");
    }
    for text in ["hf://a/b/c d", "hf://a/b/c?x", "hf://a/b/\u{e9}", "hf://a/b/c\n", "hf://a/b/c\\d", "hf://a/b/c@/x"] {
        assert!(text.parse::<Address>().is_err(), "{text}");
    }
    assert_eq!(resolve("some/where.npy")?, PathBuf::from("some/where.npy"));
    assert!(resolve("hf://a").is_err());
    Ok(())
}
