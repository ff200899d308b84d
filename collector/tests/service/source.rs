//! A server of feeds: real HTTP/1.1 over TCP or TLS, byte by byte, so that it can also misbehave.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::authority::Authority;

/// One request as it came: path with query, and headers in lower case.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) headers: HashMap<String, String>,
}

/// What is served.
#[derive(Debug, Clone, Default)]
pub(crate) struct Page {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    manner: Manner,
}

/// How a body is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Manner {
    #[default]
    Whole,
    /// Promised in full and cut after its half.
    Cut,
    /// Stops after its half and keeps the line open.
    Stall,
}

impl Page {
    pub(crate) fn new(body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: 200,
            body: body.into(),
            ..Self::default()
        }
    }

    pub(crate) fn status(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    pub(crate) fn redirect(to: &str) -> Self {
        Self::status(302).header("location", to)
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With this name, by which "not modified" is answered.
    pub(crate) fn etag(self, etag: &str) -> Self {
        self.header("etag", etag)
    }

    pub(crate) fn cut(mut self) -> Self {
        self.manner = Manner::Cut;
        self
    }

    pub(crate) fn stall(mut self) -> Self {
        self.manner = Manner::Stall;
        self
    }
}

#[derive(Default)]
struct Inner {
    pages: HashMap<String, Page>,
    asked: Vec<Asked>,
}

/// The server. Clones share it.
#[derive(Clone)]
pub(crate) struct Source {
    inner: Arc<Mutex<Inner>>,
    base: String,
}

impl Source {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        Self::serve(listener, format!("http://127.0.0.1:{port}"))
    }

    /// One that speaks TLS with a certificate of `authority`.
    pub(crate) async fn start_tls(authority: &Authority) -> Self {
        let listener = authority.listen("127.0.0.1").await;
        let port = listener.local_addr().unwrap().port();
        Self::serve(listener, format!("https://127.0.0.1:{port}"))
    }

    fn serve<L: Listener>(mut listener: L, base: String) -> Self {
        let source = Self {
            inner: Arc::default(),
            base,
        };
        let server = source.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await;
                let server = server.clone();
                // A client that goes away is its own affair.
                tokio::spawn(async move { server.answer(stream).await.ok() });
            }
        });
        source
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub(crate) fn put(&self, path: &str, page: Page) {
        self.inner
            .lock()
            .unwrap()
            .pages
            .insert(path.to_owned(), page);
    }

    /// What was asked for so far below a path.
    pub(crate) fn asked(&self, path: &str) -> Vec<Asked> {
        let inner = self.inner.lock().unwrap();
        let is_below = |asked: &&Asked| asked.path.starts_with(path);
        inner.asked.iter().filter(is_below).cloned().collect()
    }

    async fn answer(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.lines();
        let path = lines.next().unwrap().split(' ').nth(1).unwrap().to_owned();
        let headers: HashMap<String, String> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let page = {
            let mut inner = self.inner.lock().unwrap();
            let bare = path.split('?').next().unwrap();
            let page = inner.pages.get(&path).or_else(|| inner.pages.get(bare));
            let page = page.cloned().unwrap_or_else(|| Page::status(404));
            inner.asked.push(Asked {
                path: path.clone(),
                headers: headers.clone(),
            });
            page
        };
        let known = headers.get("if-none-match");
        let is_known = known.is_some_and(|known| {
            page.headers
                .iter()
                .any(|(name, value)| name == "etag" && value == known)
        });
        let (status, body) = if is_known {
            (304, Vec::new())
        } else {
            (page.status, page.body)
        };
        let mut text = format!("HTTP/1.1 {status} x\r\nconnection: close\r\n");
        for (name, value) in &page.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if status != 304 {
            text.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        stream.write_all(text.as_bytes()).await?;
        let half = body.len() / 2;
        let sent = match page.manner {
            Manner::Whole => &body[..],
            Manner::Cut | Manner::Stall => &body[..half],
        };
        stream.write_all(sent).await?;
        stream.flush().await?;
        if page.manner == Manner::Stall {
            // Until the client gives up.
            let _ = stream.read_u8().await;
        }
        stream.shutdown().await
    }
}
