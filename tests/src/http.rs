//! The least HTTP client that tests need where no client library may stand between: one request
//! per connection, HTTP/1.0, so that an answer is its bytes up to the end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Longer than anything a test waits for.
const TIMEOUT: Duration = Duration::from_secs(400);

/// Where to send requests, and with which key.
#[derive(Clone, Debug)]
pub struct Client {
    /// The server.
    pub address: SocketAddr,
    /// Sent as a bearer token.
    pub key: String,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

impl Client {
    /// `GET`.
    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, "").rest()
    }

    /// `POST` of a JSON text, which need not be valid.
    pub fn post(&self, path: &str, body: &str) -> Answer {
        self.request("POST", path, body).rest()
    }

    /// `POST`, read line by line.
    pub fn stream(&self, path: &str, body: &Value) -> Stream {
        self.request("POST", path, &body.to_string())
    }

    /// `POST` whose head declares a body of `bytes` that never comes.
    pub fn declare(&self, path: &str, bytes: usize) -> Answer {
        self.exchange("POST", path, bytes, "").rest()
    }

    fn request(&self, method: &str, path: &str, body: &str) -> Stream {
        self.exchange(method, path, body.len(), body)
    }

    fn exchange(&self, method: &str, path: &str, declared: usize, body: &str) -> Stream {
        let socket = TcpStream::connect(self.address).expect("the server listens");
        socket.set_read_timeout(Some(TIMEOUT)).expect("a socket takes a timeout");
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {declared}\r\n\r\n",
            self.address, self.key,
        );
        let mut reader = BufReader::new(socket);
        reader.get_mut().write_all((head + body).as_bytes()).expect("the server reads");
        let mut line = String::new();
        reader.read_line(&mut line).expect("the server answers");
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status line: '{line}'"));
        while line.trim_end() != "" {
            line.clear();
            reader.read_line(&mut line).expect("headers end");
        }
        Stream { status, reader }
    }
}

/// An answer that is being read.
pub struct Stream {
    /// HTTP status.
    pub status: u16,
    reader: BufReader<TcpStream>,
}

impl Stream {
    /// The data of the next server-sent event, `None` at the end.
    pub fn event(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line).expect("the stream goes on") == 0 {
                return None;
            }
            if let Some(data) = line.trim_end().strip_prefix("data: ") {
                return Some(data.to_owned());
            }
        }
    }

    fn rest(mut self) -> Answer {
        let mut body = String::new();
        self.reader.read_to_string(&mut body).expect("the answer is UTF-8 and ends");
        Answer { status: self.status, body }
    }
}
