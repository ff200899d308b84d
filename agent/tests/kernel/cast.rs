//! Processes that act in a test: this test program, started again to play a part.
//!
//! A test that may be started so begins with [`play`]. What a part is told stands in the
//! environment, and it goes on with each line that it is given, so that a test decides when.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

const PART: &str = "PICKET_TEST_PART";

/// How long an answer may take before a test has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// A DNS question for the address of a name.
pub(crate) fn question(name: &str) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).expect("a label"));
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// Plays the part this process was started for, if any; then it does not come back.
pub(crate) fn play() {
    let Ok(part) = std::env::var(PART) else {
        return;
    };
    let words: Vec<&str> = part.split(' ').collect();
    act(&words);
    std::process::exit(0);
}

fn say(what: &str) {
    println!("pk-says {what}");
}

fn await_line() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("read a line");
}

fn act(words: &[&str]) {
    match *words {
        // Waits, connects, sends, and is gone.
        ["connect", to] => {
            await_line();
            let mut stream = TcpStream::connect(to).expect("connect");
            stream.write_all(b"hello").expect("send");
        }
        // Sends a datagram by a socket that is connected or not.
        ["datagram", from, to] => {
            let socket = UdpSocket::bind(from).expect("bind");
            socket.send_to(b"hello", to).expect("send");
        }
        ["datagram-connected", from, to] => {
            let socket = UdpSocket::bind(from).expect("bind");
            socket.connect(to).expect("connect");
            socket.send(b"hello").expect("send");
        }
        ["ask", from, to, name] => {
            await_line();
            let socket = UdpSocket::bind(from).expect("bind");
            socket.send_to(&question(name), to).expect("send");
        }
        // Is gone when it has the answer.
        ["ask-answered", from, to, name] => {
            let socket = UdpSocket::bind(from).expect("bind");
            socket.connect(to).expect("connect");
            socket.set_read_timeout(Some(PATIENCE)).expect("set");
            socket.send(&question(name)).expect("send");
            socket.recv(&mut [0; 512]).expect("an answer");
        }
        ["ask-tcp", to, name] => {
            let mut stream = TcpStream::connect(to).expect("connect");
            stream.set_read_timeout(Some(PATIENCE)).expect("set");
            let message = question(name);
            let length = u16::try_from(message.len()).expect("a short message");
            let whole = [&length.to_be_bytes()[..], &message].concat();
            stream.write_all(&whole).expect("send");
            stream.read_exact(&mut [0; 14]).expect("an answer");
        }
        // Has sockets of every kind before it is told to use them.
        ["old", from, listen, server, to] => {
            let datagrams = UdpSocket::bind(from).expect("bind");
            let listener = TcpListener::bind(listen).expect("listen");
            let mut stream = TcpStream::connect(server).expect("connect");
            say(&listener
                .local_addr()
                .expect("an address")
                .port()
                .to_string());
            await_line();
            datagrams.send_to(b"hello", to).expect("send");
            stream.write_all(b"hello").expect("send");
            serve(&listener);
        }
        ["serve", listen] => {
            let listener = TcpListener::bind(listen).expect("listen");
            say(&listener
                .local_addr()
                .expect("an address")
                .port()
                .to_string());
            serve(&listener);
        }
        _ => unreachable!("no such part: {words:?}"),
    }
}

/// Accepts one connection and answers it.
fn serve(listener: &TcpListener) {
    let (mut stream, _) = listener.accept().expect("accept");
    let mut heard = [0; 5];
    stream.read_exact(&mut heard).expect("read");
    stream.write_all(&heard).expect("answer");
    await_line();
}

/// A process that plays a part.
pub(crate) struct Actor {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Actor {
    /// Starts this test program again, which comes to its test of this name and so to [`play`].
    pub(crate) fn start(test: &str, part: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "--nocapture", test])
            .env(PART, part)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start");
        Self {
            input: child.stdin.take(),
            output: BufReader::new(child.stdout.take().expect("its output")),
            child,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it says next.
    pub(crate) fn hear(&mut self) -> String {
        loop {
            let mut line = String::new();
            let read = self.output.read_line(&mut line).expect("read");
            assert!(read > 0, "it ended without a word");
            if let Some((_, said)) = line.trim().split_once("pk-says ") {
                return said.to_owned();
            }
        }
    }

    /// Lets it go on.
    pub(crate) fn nudge(&mut self) {
        let input = self.input.as_mut().expect("still open");
        input.write_all(b"\n").expect("nudge");
    }

    /// Waits until it is gone.
    pub(crate) fn end(mut self) -> u32 {
        drop(self.input.take());
        let status = self.child.wait().expect("wait");
        assert!(status.success(), "{status}");
        self.child.id()
    }
}
