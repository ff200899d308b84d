//! The operator's tool's end of the socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde::de::DeserializeOwned;

use crate::config::Config;

/// How long an answer may take. The largest list takes a second.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Where the running collector is found.
#[derive(Debug, clap::Args)]
pub(crate) struct Address {
    /// Socket of the running collector
    #[arg(long, value_name = "PATH", conflicts_with = "config")]
    socket: Option<PathBuf>,
    /// Configuration that names the socket
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Address {
    fn path(&self) -> anyhow::Result<PathBuf> {
        match (&self.socket, &self.config) {
            (Some(socket), _) => Ok(socket.clone()),
            (None, Some(config)) => Ok(Config::load(config)?.socket),
            (None, None) => Ok(Config::default().socket),
        }
    }

    /// The words that name this address on a command line.
    pub(crate) fn words(&self) -> String {
        match (&self.socket, &self.config) {
            (Some(socket), _) => format!(" --socket {}", socket.display()),
            (None, Some(config)) => format!(" --config {}", config.display()),
            (None, None) => String::new(),
        }
    }

    /// Asks for the lines at `path`; `None` if there is no such thing.
    pub(crate) fn lines(
        &self,
        path: &str,
        query: &impl serde::Serialize,
    ) -> anyhow::Result<Option<Vec<String>>> {
        let text = self.ask(|client| client.get(url(path)).query(query))?;
        Ok(text.map(|text| text.lines().map(str::to_owned).collect()))
    }

    /// Asks for the one thing at `path`; `None` if there is no such thing.
    pub(crate) fn one(&self, path: &str) -> anyhow::Result<Option<String>> {
        self.ask(|client| client.get(url(path)))
    }

    /// Has something done; says whether there was something to do it to.
    pub(crate) fn post(&self, path: &str) -> anyhow::Result<bool> {
        let answer = self.ask(|client| client.post(url(path)))?;
        Ok(answer.is_some())
    }

    /// Has something made as `what` says; returns what the collector says of it.
    pub(crate) fn make(&self, path: &str, what: &impl serde::Serialize) -> anyhow::Result<String> {
        let answer = self.ask(|client| client.post(url(path)).json(what))?;
        answer.context("the collector knows of no such thing")
    }

    /// Sends something to `path`, and gives the answer.
    pub(crate) fn send(
        &self,
        path: &str,
        body: &impl serde::Serialize,
    ) -> anyhow::Result<Option<String>> {
        self.ask(|client| client.post(url(path)).json(body))
    }

    /// Has something taken away; `None` if there is no such thing.
    pub(crate) fn delete(
        &self,
        path: &str,
        query: &impl serde::Serialize,
    ) -> anyhow::Result<Option<String>> {
        self.ask(|client| client.delete(url(path)).query(query))
    }

    fn ask(
        &self,
        request: impl FnOnce(&Client) -> RequestBuilder,
    ) -> anyhow::Result<Option<String>> {
        let socket = self.path()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start the runtime")?;
        runtime.block_on(answer(&socket, request))
    }
}

/// The host's name is of no account: the socket says who answers.
fn url(path: &str) -> String {
    format!("http://collector{path}")
}

async fn answer(
    socket: &Path,
    request: impl FnOnce(&Client) -> RequestBuilder,
) -> anyhow::Result<Option<String>> {
    let client = Client::builder()
        .unix_socket(socket)
        // Nothing is proven over a socket of this host, so it works without the system's authorities.
        .tls_certs_only([])
        .timeout(ANSWER_MAX)
        .no_proxy()
        .build()
        .context("prepare the request")?;
    let response = match request(&client).send().await {
        Ok(response) => response,
        Err(error) if error.is_connect() => {
            bail!(
                "no collector answers on {}: is `picket-collector serve` running, and may you open its socket?",
                socket.display()
            );
        }
        Err(error) => return Err(error).context("ask the collector"),
    };
    match response.status() {
        StatusCode::NOT_FOUND => Ok(None),
        status if status.is_success() => {
            let text = response.text().await.context("read the answer")?;
            Ok(Some(text))
        }
        status => {
            let why = response.text().await.unwrap_or_default();
            bail!("the collector answered {status}: {why}")
        }
    }
}

/// Reads one line of an answer.
pub(crate) fn parse<T: DeserializeOwned>(line: &str) -> anyhow::Result<T> {
    serde_json::from_str(line).context("read the collector's answer")
}
